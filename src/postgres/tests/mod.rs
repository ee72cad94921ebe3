//! Tests of whole sessions, against a real server and against a scripted one. Decisions are scripted:
//! a text that holds `DENY` is denied, comments in it set the facts.

mod binding;
mod egress;
mod real;
mod scripted;

use crate::decide::Refusal;
use crate::error::{Denial, DenialCode};
use crate::ids::PolicyEpoch;
use crate::sql::{Begin, Decided, End, Fingerprint, Guarded, Keeps, Kind, Residue};

/// Whether decisions are scripted: in this crate's unit tests, always.
pub(super) const fn scripted() -> bool {
    true
}

/// The scripted decision: statements split at `;`, denied if the text holds `DENY`, or `OLD` under a
/// policy that was reloaded; `CHANGE` comes out differently under each policy.
pub(super) fn decide(text: &str, epoch: PolicyEpoch) -> Result<Vec<Decided>, Refusal> {
    if text.contains("DENY") || (text.contains("OLD") && epoch > PolicyEpoch(0)) {
        let denial = Denial::of(DenialCode::RelationDenied, "public.secrets");
        return Err(Refusal::of(denial));
    }
    let text = text.replace("CHANGE", &epoch.0.to_string());
    Ok(text.split(';').map(decided).collect())
}

fn decided(statement: &str) -> Decided {
    let words: Vec<&str> = statement.split_whitespace().collect();
    let name = || words.get(1).copied().unwrap_or_default().to_owned();
    let kind = match words.first().copied().unwrap_or_default() {
        "" => Kind::Empty,
        "PREPARE" => Kind::Prepare(name()),
        "EXECUTE" => Kind::Execute(name()),
        "DEALLOCATE" => Kind::Deallocate((name() != "ALL").then(name)),
        "DISCARD" => Kind::Discard,
        "BEGIN" => Kind::Begin(Begin::CannotFail),
        "COMMIT" | "ROLLBACK" if words.len() == 1 => Kind::End(End::Plain),
        "SAVEPOINT" | "ROLLBACK" => Kind::Transaction,
        "SET" | "RESET" | "SHOW" => Kind::Setting,
        "DECLARE" | "FETCH" | "CLOSE" => Kind::Cursor,
        "INSERT" => Kind::Insert,
        _ => Kind::Select,
    };
    let residue = match &kind {
        Kind::Prepare(_) => Residue::Kept(Keeps::Prepared),
        Kind::Cursor if statement.contains("WITH HOLD") => Residue::Kept(Keeps::Cursor),
        Kind::Setting
            if words.first() == Some(&"SET") && !words.contains(&"LOCAL")
                || words.first() == Some(&"RESET") && name() != "ALL" =>
        {
            Residue::Setting(name())
        }
        _ => Residue::Nothing,
    };
    Decided {
        residue,
        would_deny: None,
        guarded: Guarded::for_test(statement.replace("visible", "hidden_table")),
        kind,
        protected: statement.contains("/*protected*/"),
        rewritten: false,
        relations: Vec::new(),
        tenant_columns: if statement.contains("/*tenant*/") { vec![0] } else { Vec::new() },
        fingerprint: Fingerprint { hash: "f".to_owned(), normalized: statement.trim().to_owned() },
    }
}
