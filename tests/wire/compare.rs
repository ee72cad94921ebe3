//! When two streams of messages are the same, and which differences are allowed.

use std::fmt::Write as _;

use crate::support::wire::{Message, Outcome, Report};

/// What may differ, and why. Anything else is a failure.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Allowed {
    /// A statement on a relation that PostgreSQL does not have stands for one that Hedgerow denies: an
    /// error there, a denial here, at the same place and with the same consequences.
    DeniedRelation,
    /// PostgreSQL's syntax error is a denial with HR1001: what cannot be parsed is not sent.
    NotParsed,
    /// Where a policy denies a column, one that does not exist is denied too: nobody learns which do.
    DeniedColumn,
    /// The tenant of a row that comes in is compared before it is read as a uuid.
    RowOfNoTenant,
    /// FunctionCall is denied, not run.
    FunctionCall,
    /// An unknown message is a denial with a record; FATAL on both sides.
    UnknownMessage,
    /// A message that cannot be read ends the session; PostgreSQL reports it and goes on.
    Malformed,
    /// Which byte is no UTF-8 is not said.
    NotUtf8,
    /// Of two errors of one message, the other one: in transaction pooling a name that is taken is
    /// noticed before the statement is looked at, and a failed transaction before a missing name.
    OtherOfTwoErrors,
    /// The place in the server's source is that of another of its functions: Hedgerow asks for a
    /// description first, so that rows are watched, or answers itself. Where a statement was rewritten
    /// or touches protected relations, positions, details and contexts are left out.
    Fields,
}

/// The first difference in words.
pub fn difference(direct: &Outcome, through: &Outcome) -> Option<String> {
    let mut place = 0;
    loop {
        let (expected, got) = (direct.messages.get(place), through.messages.get(place));
        match (expected, got) {
            (None, None) => break,
            (Some(expected), Some(got)) if expected == got => {}
            (Some(expected), Some(got)) => match why(expected, got) {
                Some(Allowed::Malformed) => {
                    let over = through.closed && through.messages.len() == place + 1;
                    return (!over).then(|| told(direct, through, place));
                }
                Some(_) => {}
                None => return Some(told(direct, through, place)),
            },
            // An invalid length: PostgreSQL closes without a word.
            (None, Some(farewell)) if is_invalid_length(farewell) && direct.closed => {}
            (Some(_), None) | (None, Some(_)) => return Some(told(direct, through, place)),
        }
        place += 1;
    }
    let ends = (direct.closed, direct.timed_out) == (through.closed, through.timed_out);
    (!ends || direct.timed_out).then(|| told(direct, through, place))
}

fn told(direct: &Outcome, through: &Outcome, place: usize) -> String {
    let mut text = String::new();
    for (side, outcome) in [("direct", direct), ("through", through)] {
        let _ = writeln!(
            text,
            "  {side}: {} closed {} timed out {}",
            outcome.shape(),
            outcome.closed,
            outcome.timed_out
        );
        for message in outcome.messages.iter().skip(place).take(2) {
            let _ = writeln!(text, "    at {place}: {message:?}");
        }
    }
    text
}

fn is_invalid_length(message: &Message) -> bool {
    let report = Report::of(&message.body);
    message.tag == b'E' && report.is_fatal() && report.message() == "invalid message length"
}

fn why(expected: &Message, got: &Message) -> Option<Allowed> {
    match (expected.tag, got.tag) {
        (b'E', b'E') | (b'N', b'N') => allowed(&Report::of(&expected.body), &Report::of(&got.body)),
        _ => None,
    }
}

fn allowed(expected: &Report, got: &Report) -> Option<Allowed> {
    let same = |letters: &[char]| letters.iter().all(|&c| expected.field(c) == got.field(c));
    if got.is_denial() {
        let nowhere = expected.message().contains("nowhere");
        let why = match (expected.sqlstate(), got.denial_code()?) {
            ("42P01", "HR1003" | "HR1004") if nowhere => Allowed::DeniedRelation,
            ("42601", "HR1001") => Allowed::NotParsed,
            ("42703", "HR1010") => Allowed::DeniedColumn,
            ("22P02", "HR1011") if expected.message().contains("uuid") => Allowed::RowOfNoTenant,
            ("42883", "HR1015") => Allowed::FunctionCall,
            ("08P01", "HR1015") => Allowed::UnknownMessage,
            _ => return None,
        };
        let state = if why == Allowed::UnknownMessage { "08P01" } else { "42501" };
        return (same(&['S', 'V']) && got.sqlstate() == state).then_some(why);
    }
    if got.is_fatal() && !expected.is_fatal() {
        let malformed = got.sqlstate() == "08P01" && got.message().starts_with("invalid message");
        return malformed.then_some(Allowed::Malformed);
    }
    if got.sqlstate() == "22021" && expected.message().starts_with(got.message()) {
        return Some(Allowed::NotUtf8);
    }
    let missing = matches!(expected.sqlstate(), "26000" | "34000");
    if got.sqlstate() == "42P05" && !expected.is_fatal() || got.sqlstate() == "25P02" && missing {
        return same(&['S', 'V']).then_some(Allowed::OtherOfTwoErrors);
    }
    let left_out = |letter: char| got.field(letter).is_empty() || same(&[letter]);
    (same(&['S', 'V', 'C', 'M'])
        && ['D', 'H', 'P', 'p', 'q', 'W', 's', 't', 'c', 'd', 'n'].into_iter().all(left_out))
    .then_some(Allowed::Fields)
}
