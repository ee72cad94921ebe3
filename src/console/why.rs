//! What a denial means, in sentences for whoever did not write the policy. Layer 5, pure.
//!
//! It says what the code means and what the record holds; it never guesses at what it does not hold.

use crate::audit::search::Found;
use crate::error::DenialCode;

/// What a code protects, for people; empty for a code that this version does not know.
pub(super) fn meaning(code: &str) -> &'static str {
    match code {
        "HR1001" => {
            "The statement could not be read: either PostgreSQL's own grammar refused it or the \
             rewriting parser did. What cannot be read cannot be bound to a tenant, so nothing of it \
             was sent."
        }
        "HR1002" => {
            "Tenants may query, change data and control transactions. This kind of statement does \
             something else, and nothing binds it to one tenant's rows."
        }
        "HR1003" => {
            "No policy names this relation, or it does not exist. A relation without a policy is \
             denied, so that a new table is closed until somebody decides whose rows it holds. The \
             answer is the same in both cases, so that it does not tell which tables there are."
        }
        "HR1004" => {
            "The policy denies this relation to every tenant. Asking for it is an attempt on data that \
             no tenant should see."
        }
        "HR1005" => {
            "The function is not on the safe list. A function can read tables, files or other sessions \
             behind the back of any rewrite, so what is not known to be safe is denied."
        }
        "HR1006" => {
            "The setting is one that row-level security or the session's identity rests on. Changing it \
             would have changed whose rows the session may see."
        }
        "HR1007" => {
            "This catalog or statistics view holds values, statements or sessions of other tenants."
        }
        "HR1008" => {
            "The rewritten text was read again by PostgreSQL's grammar, and what it read is not the \
             client's statement with the guards added. Where two parsers disagree, somebody may be \
             trying to have one thing checked and another one run."
        }
        "HR1009" => {
            "The statement has a form in which another tenant's values could show in an error, a notice \
             or a side effect, before the guard holds. It could not be proved that they do not."
        }
        "HR1010" => "The policy denies this column to every tenant, or to this caller.",
        "HR1011" => {
            "A row that the statement writes would have belonged to another tenant than the one in the \
             caller's token. Nothing was written."
        }
        "HR1012" => {
            "The statement would have changed the column that tells whose a row is, and so moved rows \
             from one tenant to another. Nothing was changed."
        }
        "HR1013" => "The policy lets tenants read this relation and not write it.",
        "HR1014" => {
            "This form of COPY reads or writes files or programs of the server, or cannot be checked \
             row by row."
        }
        "HR1015" => {
            "The protocol message calls functions or replicates: it goes around SQL, and so around \
             every guard."
        }
        "HR2001" => {
            "The token could not be read, or its signature is wrong: nobody proved who is calling."
        }
        "HR2002" => "The token was good once and has expired.",
        "HR2003" => "The token is not valid yet: it was issued for later, or a clock is wrong.",
        "HR2004" => "The token comes from an issuer that is not configured here.",
        "HR2005" => "The token is meant for another service.",
        "HR2006" => {
            "The token is signed by an algorithm that is not accepted for its issuer. Tokens with `none`, \
             or with a public key used as a secret, end here."
        }
        "HR2007" => "The token names a key that its issuer does not publish.",
        "HR2008" => {
            "A claim that every token needs is missing or malformed, or the token lives too long."
        }
        "HR2009" => "The token names no tenant, or something that cannot be one.",
        "HR2010" => "The token was taken back. Whoever uses it now should not have it.",
        "HR2011" => "No token was given at all.",
        "HR3001" => "The tenant has spent its quota of statements.",
        "HR2012" => "Which tokens were taken back was not known yet: Redis had not been read once.",
        "HR3002" => "The tenant had as many sessions at work as its quota lets it.",
        "HR3003" => "The tenant has spent the bytes of its day (BigQuery).",
        "HR4001" => "The record could not be written, and nothing runs unrecorded.",
        "HR4002" => "Hedgerow itself could not do its part, and so let nothing through.",
        "HR4003" => "The text is larger, deeper or has more statements than the limits allow.",
        _ => "",
    }
}

/// The reason in plain words, for a code as written.
pub(super) fn reason(code: &str) -> &'static str {
    known(code).map_or("", DenialCode::reason)
}

/// What the operator or developer can do about it.
pub(super) fn hint(code: &str) -> &'static str {
    known(code).map_or("", DenialCode::hint)
}

fn known(code: &str) -> Option<DenialCode> {
    DenialCode::ALL.iter().copied().find(|known| known.code() == code)
}

/// What became of it, in one sentence.
pub(super) fn outcome(found: &Found) -> String {
    let kind = found.column("kind");
    let of = |word: &str| match (word, kind.as_str()) {
        (_, "egress") => {
            "A value of another tenant was on its way to the client. The row was not sent and the \
             session was ended."
        }
        ("deny", "authentication") => {
            "The caller was turned away before it could send a statement."
        }
        ("deny", _) => "Denied: nothing of it reached the database.",
        ("would_deny", _) => {
            "Let through, although the policy says deny: the relation is in monitor mode. In enforce \
             mode it would have been denied."
        }
        ("rewrite", _) => "Let through with the tenant bound to every protected relation.",
        ("allow", "statement") => "Let through as it was: it touches no tenant's rows.",
        ("allow", "authentication") => "The caller's token was verified.",
        ("allow", _) => "An event of the sidecar itself.",
        ("error", "gap") => {
            "Records were lost, or may have been. This record stands in their place."
        }
        ("error", _) => "Allowed, and then it failed.",
        _ => "",
    };
    of(&found.column("decision")).to_owned()
}

/// What the tenant of the token had to do with it.
pub(super) fn expected(found: &Found) -> String {
    let tenant = found.column("tenant");
    if tenant.is_empty() {
        return "The record names no tenant: the caller had none yet, or the event is the sidecar's own."
            .to_owned();
    }
    match found.column("code").as_str() {
        "HR1011" | "HR1012" => format!(
            "Every row had to belong to {tenant}, the tenant of the verified token. Which other tenant \
             the statement named is a literal, and literals are never recorded."
        ),
        _ => format!("The verified token speaks for {tenant}, and for no other tenant."),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_statement_and_identity_code_is_explained() {
        for code in DenialCode::ALL.iter().filter(|code| !code.code().starts_with("HR5")) {
            assert!(!meaning(code.code()).is_empty(), "{code} has no explanation in the console");
            assert_eq!(reason(code.code()), code.reason());
        }
        assert_eq!((meaning("HR9999"), reason("<script>")), ("", ""));
    }
}
