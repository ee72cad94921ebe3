//! What a client can tell of two answers, and what of it counts.

use crate::support::wire::{Message, Outcome, Report};

/// Words and numbers that B's rows hold and A's do not.
const CANARIES: &[&str] = &["B-SECRET", "b-secret", "4242"];
/// What Hedgerow puts in the place of a value that it took out.
const REMOVED: char = '…';

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
    /// Both sides failed, in different words: which of several errors comes first depends on the
    /// plan. Counted and shown, not a leak by itself: the canary scan is part of the comparison.
    OtherError(String),
    Different(String),
}

/// Compares the proxy's answer with the plain one.
pub fn compare(sql: &str, ordered: bool, proxied: &Outcome, plain: &Outcome) -> Verdict {
    if let Some(canary) = leaked(sql, proxied, plain) {
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
    let unequal = |what: &str, one: String, other: String| {
        (one != other).then(|| format!("{what}: {one} <> {other}"))
    };
    let notices = |outcome: &Outcome| {
        let mut texts: Vec<String> = outcome
            .notices()
            .iter()
            .map(|notice| format!("{} {}", notice.sqlstate(), notice.message()))
            .collect();
        texts.sort();
        texts.dedup();
        format!("{texts:?}")
    };
    if let Some(difference) = unequal("notices", notices(proxied), notices(plain)) {
        return Verdict::Different(difference);
    }
    match (errors.first(), plain_errors.first()) {
        (None, None) => {}
        (Some(error), Some(other)) => {
            return match error_difference(error, other) {
                None => Verdict::Same { failed: true, rows: false },
                Some(difference) => Verdict::OtherError(difference),
            };
        }
        // OPEN: a table that is set apart under its guard has no primary key, on which GROUP BY
        // could rest.
        (Some(error), None) if error.sqlstate() == "42803" => {
            return Verdict::OtherError(format!("OPEN, group by key: {}", error.message()));
        }
        // OPEN: behind a CASE the planner does not see that a condition rules out null-extended rows,
        // so that the join stays an outer one and its rows cannot be locked; or the other way round.
        (Some(error), None) | (None, Some(error))
            if error.message().contains("nullable side of an outer join") =>
        {
            return Verdict::OtherError(format!("OPEN, row lock: {}", error.message()));
        }
        // OPEN: a guard that a LATERAL sub-query cannot name (RIGHT JOIN, the target of a DELETE).
        (Some(error), None) if error.sqlstate() == "42P10" => {
            return Verdict::OtherError(format!("OPEN, LATERAL: {}", error.message()));
        }
        (Some(error), None) => {
            return Verdict::Different(format!(
                "an error behind the proxy only: {} {}",
                error.sqlstate(),
                error.message()
            ));
        }
        (None, Some(error)) => {
            return Verdict::Different(format!(
                "an error without the proxy only: {} {}",
                error.sqlstate(),
                error.message()
            ));
        }
    }
    let status = |outcome: &Outcome| format!("{:?}", outcome.status());
    let lines = |outcome: &Outcome| {
        let mut lines: Vec<&[u8]> = data(outcome).map(|message| message.body.as_slice()).collect();
        if !ordered {
            lines.sort_unstable();
        }
        format!(
            "{} rows {:?}",
            lines.len(),
            lines
                .iter()
                .map(|line| String::from_utf8_lossy(line).replace('\0', ""))
                .collect::<Vec<_>>()
        )
    };
    let difference =
        unequal("columns", format!("{:?}", proxied.columns()), format!("{:?}", plain.columns()))
            .or_else(|| unequal("rows", lines(proxied), lines(plain)))
            .or_else(|| {
                unequal("tags", format!("{:?}", proxied.tags()), format!("{:?}", plain.tags()))
            })
            .or_else(|| unequal("status", status(proxied), status(plain)));
    match difference {
        Some(difference) => Verdict::Different(difference),
        None => Verdict::Same { failed: false, rows: data(proxied).next().is_some() },
    }
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
    let known = texts(plain);
    for text in texts(proxied) {
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
