//! A denial as a person would explain it: what, where in the text, what to do. Layer 6.
//!
//! It speaks to the operator: it may name what the policy says, which the client is never told.

use crate::error::{Denial, DenialCode};
use crate::sql::postgres::functions;

/// The contract's `reason`: the code's words and the object.
pub(super) fn short(denial: &Denial) -> String {
    match &denial.object {
        Some(object) => format!("{}: {object}", denial.code.reason()),
        None => denial.code.reason().to_owned(),
    }
}

/// What stands in the way, as a sentence.
pub(super) fn what(denial: &Denial) -> String {
    let object = denial.object.as_deref();
    let named = |otherwise: &str| object.map_or_else(|| otherwise.to_owned(), |o| format!("`{o}`"));
    match denial.code {
        DenialCode::CannotParse => match object {
            Some(object) => format!("`{object}` cannot be followed here by the parser that puts the guards in."),
            None => "PostgreSQL's grammar, or the parser that puts the guards in, cannot read the statement.".to_owned(),
        },
        DenialCode::StatementKind => format!("Statements of the kind {} are not for tenants.", named("at hand")),
        DenialCode::UnknownRelation => {
            format!("No policy names {}, or the database does not have it.", named("the relation"))
        }
        DenialCode::RelationDenied => format!(
            "The policy denies {}, or its rule names a column that the relation does not have.",
            named("the relation")
        ),
        DenialCode::Function => function(object),
        DenialCode::ProtectedSetting => {
            format!("The setting {} is the operator's: tenants may not change it.", named("at hand"))
        }
        DenialCode::Catalog => {
            format!("{} shows what other tenants have or do.", named("This catalog"))
        }
        DenialCode::ParsersDisagree => "The text with its guards does not say what the client's text says: \
             the two parsers read it differently."
            .to_owned(),
        DenialCode::LeakPossible => match object {
            Some(object) => format!("`{object}` could tell of other tenants' rows in this form of statement."),
            None => "A guard cannot stand where it must in this form of statement.".to_owned(),
        },
        DenialCode::ColumnDenied => {
            format!("The statement touches {}, which the policy closes.", named("a column"))
        }
        DenialCode::WriteOutsideTenant => {
            format!("The value for {} is not the tenant's.", named("the tenant column"))
        }
        DenialCode::TenantColumnChange => {
            format!("{} would change to which tenant a row belongs.", named("The assignment"))
        }
        DenialCode::ReadOnly => format!("The policy lets tenants read {}, not write to it.", named("the relation")),
        DenialCode::Copy => format!(
            "COPY from or to files and programs, and of what a query does not read alike ({}), is not for tenants.",
            object.unwrap_or("COPY")
        ),
        DenialCode::TokenTenant => {
            "The tenant is no value of the tenant column's type: give one with --tenant.".to_owned()
        }
        DenialCode::TokenClaim => format!(
            "The policy needs the claim {}, as one value: give it with --claims.",
            named("at hand")
        ),
        DenialCode::StatementTooLarge => format!("There is too much of it: {}.", object.unwrap_or("text")),
        DenialCode::ProtocolMessage
        | DenialCode::TokenInvalid
        | DenialCode::TokenExpired
        | DenialCode::TokenNotYetValid
        | DenialCode::TokenIssuer
        | DenialCode::TokenAudience
        | DenialCode::TokenAlgorithm
        | DenialCode::TokenKey
        | DenialCode::TokenRevoked
        | DenialCode::TokenMissing
        | DenialCode::RevocationsUnknown
        | DenialCode::Quota
        | DenialCode::QuotaConcurrent
        | DenialCode::ByteBudget
        | DenialCode::AuditUnavailable
        | DenialCode::ApiMethod
        | DenialCode::ApiForm
        | DenialCode::ApiProject
        | DenialCode::LegacySql
        | DenialCode::Destination
        | DenialCode::JobKind
        | DenialCode::ForeignObject
        | DenialCode::Internal => format!("{}.", denial.code.reason()),
    }
}

fn function(object: Option<&str>) -> String {
    let Some(object) = object else {
        return "A function that tenants may not call is called.".to_owned();
    };
    let name = object.strip_prefix("pg_catalog.").unwrap_or(object);
    match functions::family(name) {
        Some(family) if !family.reach.is_open() => {
            format!("The function `{object}` {}.", family.reach.verb())
        }
        Some(_) | None => format!(
            "`{object}` is not on the list of functions that tenants may call, nor does the policy allow it \
             (`functions: {{allow: […]}}`)."
        ),
    }
}

/// A place in a text, counted from 1; columns in characters.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct Place {
    pub(super) line: usize,
    pub(super) column: usize,
    /// Length of the word there, in characters.
    pub(super) length: usize,
}

/// Where the text first names the object; `None` where it does not by that name.
pub(super) fn locate(text: &str, object: Option<&str>) -> Option<Place> {
    let object = object?;
    let last = object.rsplit('.').next()?.trim_matches('"');
    let word = last.rsplit(' ').next()?;
    if word.is_empty() {
        return None;
    }
    let lower = text.to_ascii_lowercase();
    let wanted = word.to_ascii_lowercase();
    let is_part = |c: char| c.is_alphanumeric() || c == '_' || c == '$';
    let at = lower.match_indices(wanted.as_str()).map(|(at, _)| at).find(|at| {
        let before = lower.get(..*at).and_then(|text| text.chars().next_back());
        let after = lower.get(at + wanted.len()..).and_then(|text| text.chars().next());
        let alone = !before.is_some_and(is_part) && !after.is_some_and(is_part);
        (alone || !wanted.chars().all(is_part)) && !in_literal(&lower, *at)
    })?;
    let before = text.get(..at)?;
    let line_start = before.rfind('\n').map_or(0, |newline| newline + 1);
    Some(Place {
        line: before.matches('\n').count() + 1,
        column: before.get(line_start..)?.chars().count() + 1,
        length: word.chars().count(),
    })
}

/// Whether the position lies in a plain string literal.
fn in_literal(text: &str, at: usize) -> bool {
    text.get(..at).is_some_and(|before| before.matches('\'').count() % 2 == 1)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_object_is_found_where_the_text_names_it() {
        let at = |text: &str, object: &str| {
            locate(text, Some(object)).map(|place| (place.line, place.column))
        };
        assert_eq!(at("SELECT *\n  FROM Secrets", "secrets"), Some((2, 8)));
        assert_eq!(at("SELECT 'pg_sleep', pg_sleep(1)", "pg_sleep"), Some((1, 20)));
        assert_eq!(
            at("SELECT * FROM public.orders_old, public.orders", "public.orders"),
            Some((1, 41))
        );
        assert_eq!(at("SELECT ä, \"Odd\" FROM t", "\"Odd\""), Some((1, 12)));
        assert_eq!(at("SELECT 1 %%% 2", "operator %%%"), Some((1, 10)));
        assert_eq!(at("SELECT 1", "secrets"), None);
        assert_eq!(locate("SELECT 1", None), None);
    }

    #[test]
    fn a_function_is_explained_by_what_it_can_do() {
        let denied = |name: &str| what(&Denial::of(DenialCode::Function, name));
        assert!(denied("pg_read_file").contains("files"));
        assert!(denied("pg_catalog.query_to_xml").contains("as SQL"));
        assert!(denied("pg_stat_get_activity").contains("other tenants"));
        assert!(denied("slugify").contains("functions: {allow"));
    }

    #[test]
    fn every_code_has_a_sentence() {
        for code in DenialCode::ALL {
            for denial in [Denial::new(*code), Denial::of(*code, "thing")] {
                let sentence = what(&denial);
                assert!(sentence.ends_with('.') && !sentence.contains("``"), "{sentence}");
            }
        }
    }
}
