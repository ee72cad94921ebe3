//! What a client can tell of two answers, and what of it counts.

use crate::open::Open;
use crate::statement::Statement;
use crate::support::wire::{Message, Outcome, Report};

/// Words and numbers that B's rows hold and A's do not.
const CANARIES: &[&str] = &["B-SECRET", "b-secret", "4242"];
/// What Hedgerow puts in the place of a value that it took out.
const REMOVED: char = '…';
/// SQLSTATE classes of errors that a row raises while it is worked on, and not the text of the
/// statement. Which of several such errors comes first is settled by the plan. P0001 is RAISE.
const OF_ROWS: &[&str] = &["21", "22", "23", "P0001", "2BP01", "40"];
/// Errors that read like the statement's, raised while a row is worked on: a cast to `regclass`.
const OF_ROWS_TOO: &[&str] = &["42P01", "42704", "42883"];

/// The outcome of a comparison.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Verdict {
    Same {
        failed: bool,
        rows: bool,
    },
    /// Hedgerow denied it.
    Denied(String),
    /// One side ran out of time.
    TimedOut,
    /// Both sides failed on rows, in different words: which error comes first depends on the plan. Or
    /// both refused the text for a column without a group, and named another one of several.
    /// The canary scan has looked at it all the same.
    OtherError(String),
    /// The statement does not settle what it returns; nothing else differs.
    Unsettled,
    /// A known difference: its place in `open.txt`.
    Open(usize),
    Different(String),
}

/// Two answers to one statement.
pub struct Answers<'a> {
    pub sql: &'a str,
    pub parameters: &'a [String],
    pub proxied: &'a Outcome,
    pub plain: &'a Outcome,
}

/// Compares the proxy's answer with the plain one.
pub fn compare(statement: &Statement, answers: &Answers<'_>, open: &Open) -> Verdict {
    let Answers { sql, parameters, proxied, plain } = answers;
    let known = format!("{sql} {}", parameters.join(" "));
    if let Some(canary) = leaked(&known, proxied, plain) {
        return Verdict::Different(format!("LEAK: {canary}"));
    }
    if proxied.denied() {
        return Verdict::Denied(proxied.denial_code());
    }
    // The test's own client lost patience without the proxy: half an answer is no answer.
    if plain.timed_out {
        return Verdict::TimedOut;
    }
    if proxied.closed || proxied.timed_out {
        return Verdict::Different("the proxy closed the session or did not answer".to_owned());
    }
    let (errors, plain_errors) = (proxied.errors(), plain.errors());
    if errors.iter().chain(&plain_errors).any(|error| error.sqlstate() == "57014") {
        return Verdict::TimedOut;
    }
    if let Some(difference) = unequal("notices", notices(proxied), notices(plain)) {
        return Verdict::Different(difference);
    }
    let difference = match (errors.first(), plain_errors.first()) {
        (None, None) => rows_difference(statement, proxied, plain),
        (Some(error), Some(other)) => match error_difference(error, other) {
            None => return Verdict::Same { failed: true, rows: false },
            Some(difference) if is_of_rows(error) && is_of_rows(other) => {
                return Verdict::OtherError(difference);
            }
            Some(difference) if differ_in_names(error, other) => {
                return Verdict::OtherError(difference);
            }
            // What is open may come before the error that the plain statement ends in.
            Some(difference) => match open.behind(statement, error) {
                Some(place) => return Verdict::Open(place),
                None => Some(format!("other error: {difference}")),
            },
        },
        (Some(error), None) => {
            if let Some(place) = open.behind(statement, error) {
                return Verdict::Open(place);
            }
            if !statement.settled && is_of_rows(error) {
                return Verdict::Unsettled;
            }
            Some(format!("an error behind the proxy only: {}", words(error)))
        }
        (None, Some(error)) => {
            if let Some(place) = open.without(statement, error) {
                return Verdict::Open(place);
            }
            if !statement.settled && is_of_rows(error) {
                return Verdict::Unsettled;
            }
            Some(format!("an error without the proxy only: {}", words(error)))
        }
    };
    match difference {
        Some(difference) => Verdict::Different(difference),
        None if !statement.settled => Verdict::Unsettled,
        None => Verdict::Same { failed: false, rows: data(proxied).next().is_some() },
    }
}

fn words(error: &Report) -> String {
    format!("{} {}", error.sqlstate(), error.message())
}

fn is_of_rows(error: &Report) -> bool {
    let state = error.sqlstate();
    OF_ROWS.iter().any(|class| state.starts_with(class)) || OF_ROWS_TOO.contains(&state)
}

/// Both refuse the text for a column without a group. Of several the first is named, and a guard brings the
/// tenant column in before those that the statement names.
fn differ_in_names(error: &Report, other: &Report) -> bool {
    error.sqlstate() == "42803" && other.sqlstate() == "42803"
}

fn unequal(what: &str, one: String, other: String) -> Option<String> {
    (one != other).then(|| format!("{what}: {one} <> {other}"))
}

fn notices(outcome: &Outcome) -> String {
    let mut texts: Vec<String> = outcome
        .notices()
        .iter()
        .map(|notice| format!("{} {}", notice.sqlstate(), notice.message()))
        .collect();
    texts.sort();
    texts.dedup();
    format!("{texts:?}")
}

/// What differs of two answers without an error.
fn rows_difference(statement: &Statement, proxied: &Outcome, plain: &Outcome) -> Option<String> {
    let columns = |outcome: &Outcome| format!("{:?}", outcome.columns());
    let status = |outcome: &Outcome| format!("{:?}", outcome.status());
    let shape = |outcome: &Outcome| {
        let shape = outcome.shape();
        shape.chars().filter(|tag| !matches!(tag, 'D' | 'N')).collect::<String>()
    };
    let found = unequal("columns", columns(proxied), columns(plain))
        .or_else(|| unequal("status", status(proxied), status(plain)));
    if found.is_some() || !statement.settled {
        return found;
    }
    // Numbers that are equal may be printed with more zeros or fewer: then the same rows in another order are
    // in order.
    let among_equals = sorted(proxied) == sorted(plain);
    // Rows before messages: a portal that is read in parts ends where its rows do.
    unequal("rows", lines(statement, proxied), lines(statement, plain))
        .filter(|_| !among_equals)
        .or_else(|| unequal("tags", format!("{:?}", proxied.tags()), format!("{:?}", plain.tags())))
        .or_else(|| unequal("messages", shape(proxied), shape(plain)))
}

fn sorted(outcome: &Outcome) -> Vec<&[u8]> {
    let mut lines: Vec<&[u8]> = data(outcome).map(|message| message.body.as_slice()).collect();
    lines.sort_unstable();
    lines
}

fn lines(statement: &Statement, outcome: &Outcome) -> String {
    let mut lines: Vec<&[u8]> = data(outcome).map(|message| message.body.as_slice()).collect();
    if !statement.ordered {
        lines.sort_unstable();
    }
    let texts: Vec<String> =
        lines.iter().map(|line| String::from_utf8_lossy(line).replace('\0', "")).collect();
    format!("{} rows {texts:?}", lines.len())
}

fn data(outcome: &Outcome) -> impl Iterator<Item = &Message> {
    outcome.messages.iter().filter(|message| message.tag == b'D')
}

/// A value of B in what the proxy sent that neither the statement nor the plain answer holds.
fn leaked(sql: &str, proxied: &Outcome, plain: &Outcome) -> Option<String> {
    let texts = |outcome: &Outcome| -> Vec<String> {
        outcome
            .messages
            .iter()
            .map(|message| without_record_id(&String::from_utf8_lossy(&message.body)))
            .collect()
    };
    let suspects: Vec<String> = texts(proxied)
        .into_iter()
        .filter(|text| CANARIES.iter().any(|canary| text.contains(canary)))
        .collect();
    if suspects.is_empty() {
        return None;
    }
    let known = texts(plain);
    for text in suspects {
        for canary in CANARIES {
            for (at, _) in text.match_indices(canary) {
                let value: String = text[at..]
                    .chars()
                    .take_while(|character| character.is_ascii_alphanumeric() || *character == '-')
                    .collect();
                if !sql.contains(&value) && !known.iter().any(|known| known.contains(&value)) {
                    return Some(text.replace('\0', "·").chars().take(300).collect());
                }
            }
        }
    }
    None
}

/// The text without the id of the audit record that a denial names: a random UUID, in which any
/// digits may stand.
fn without_record_id(text: &str) -> String {
    const UUID_LENGTH: usize = 36;
    let id = text.split_once("(audit record ").and_then(|(_, rest)| rest.get(..UUID_LENGTH));
    match id {
        Some(id) if id.bytes().all(|byte| byte == b'-' || byte.is_ascii_hexdigit()) => {
            text.replace(id, "")
        }
        Some(_) | None => text.to_owned(),
    }
}

/// DETAIL, HINT and CONTEXT may be missing; quoted values may have been taken out.
fn error_difference(error: &Report, other: &Report) -> Option<String> {
    let same_text = |code: char| {
        let (mine, theirs) = (error.field(code), other.field(code));
        mine == theirs || scrubbed_alike(mine, theirs)
    };
    let optional = |code: char| error.field(code).is_empty() || same_text(code);
    let same = ['V', 'C', 'M', 't', 'c', 'd', 'n'].into_iter().all(same_text)
        && ['D', 'H', 'W', 'P'].into_iter().all(optional);
    (!same).then(|| format!("{error:?} <> {other:?}"))
}

fn scrubbed_alike(scrubbed: &str, plain: &str) -> bool {
    match scrubbed.split_once(REMOVED) {
        None => false,
        Some((head, tail)) => {
            plain.starts_with(head)
                && plain.ends_with(tail)
                && plain.len() + 3 >= head.len() + tail.len()
        }
    }
}
