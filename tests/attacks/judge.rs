//! Whether an attack failed, from what came back and what the database holds afterwards.

use regex::bytes::Regex;

use crate::entry::{Entry, Expect};
use crate::support::canary;
use crate::support::wire::{Message, Outcome, Report};

/// What A saw.
#[derive(Default)]
pub struct Seen {
    /// The sign-in.
    pub sign_in: Outcome,
    /// One outcome a statement, or one for all wire messages.
    pub outcomes: Vec<Outcome>,
    /// What A itself sent, as text.
    pub sent: Vec<String>,
}

impl Seen {
    fn all(&self) -> impl Iterator<Item = &Outcome> {
        std::iter::once(&self.sign_in).chain(&self.outcomes)
    }

    fn messages(&self) -> impl Iterator<Item = &Message> {
        self.all().flat_map(|outcome| &outcome.messages)
    }

    fn errors(&self) -> Vec<Report> {
        self.all().flat_map(Outcome::errors).collect()
    }

    /// Whether A was refused: at sign-in, or a statement of it.
    pub fn denied(&self) -> bool {
        self.sign_in.errors().iter().any(Report::is_fatal)
            || self.errors().iter().any(Report::is_denial)
    }

    /// SQLSTATEs of errors that the server raised itself.
    pub fn server_errors(&self) -> Vec<String> {
        self.outcomes
            .iter()
            .flat_map(Outcome::errors)
            .filter(|error| !error.is_denial())
            .map(|error| error.sqlstate().to_owned())
            .collect()
    }
}

/// Why the entry does not hold; empty when it does. `without_b` are the server's errors for the
/// same statements where B has no rows, when there was reason to ask.
pub fn failures(
    entry: &Entry,
    seen: &Seen,
    changes: Vec<String>,
    without_b: Option<&[String]>,
) -> Vec<String> {
    let mut failures = changes;
    failures.extend(leaks(entry, seen));
    if seen.all().any(|outcome| outcome.timed_out) {
        failures.push("no answer in time".to_owned());
    }
    if entry.expect == Expect::Deny && !seen.denied() {
        failures.push(format!("was not denied ({})", brief(seen)));
    }
    let rows: usize = seen.outcomes.iter().map(|outcome| outcome.rows().len()).sum();
    if let Some(expected) = entry.expect_rows {
        let excused = expected == 0 && seen.denied();
        if rows != expected && !excused {
            failures.push(format!("{rows} rows instead of {expected} ({})", brief(seen)));
        }
    }
    if entry.oracle {
        let looks: Vec<Look> = seen.outcomes.iter().take(2).map(Look::of).collect();
        if looks.len() != 2 && seen.sign_in.ready() {
            failures.push("an oracle needs two answers".to_owned());
        }
        if let [hit, miss] = looks.as_slice()
            && hit != miss
        {
            failures.push(format!("hit and miss can be told apart: {hit:?} and {miss:?}"));
        }
    }
    if let Some(without_b) = without_b
        && seen.server_errors() != without_b
    {
        failures.push(format!(
            "errors {:?} only because of another tenant's rows (else {without_b:?})",
            seen.server_errors()
        ));
    }
    failures
}

/// Forbidden text in any byte that came back. A denial may quote A's own words, and nothing else.
fn leaks(entry: &Entry, seen: &Seen) -> Vec<String> {
    let pattern = entry.leak_regex.as_deref().unwrap_or(canary::OF_TENANT_B);
    let regex = Regex::new(pattern).unwrap_or_else(|error| panic!("{}: {error}", entry.id));
    let own_words = |found: &[u8]| {
        let found = String::from_utf8_lossy(found);
        seen.sent.iter().any(|sent| sent.contains(found.as_ref()))
    };
    let encoded = canary::Canary::of_b();
    let mut leaks = Vec::new();
    for message in seen.messages() {
        let denial = message.tag == b'E'
            && Outcome { messages: vec![message.clone()], ..Outcome::default() }.denied();
        let body = canary::without_record_ids(&message.body);
        let leak = regex.find_iter(&body).find(|found| !(denial && own_words(found.as_bytes())));
        if leak.is_some() {
            leaks.push(format!("leaked in {message:?}"));
        } else if entry.leak_regex.is_none()
            && !denial
            && let Some(found) = encoded.find(&message.body)
        {
            leaks.push(format!("leaked encoded: {found}"));
        }
    }
    leaks.truncate(2);
    leaks
}

/// What of an answer an oracle could read, A's own words left out.
#[derive(PartialEq, Eq, Debug)]
struct Look {
    errors: Vec<String>,
    tags: Vec<String>,
    rows: Vec<String>,
    notices: usize,
}

impl Look {
    fn of(outcome: &Outcome) -> Self {
        let errors = outcome
            .errors()
            .iter()
            .map(|error| match error.denial_code() {
                Some(code) => code.to_owned(),
                None => error.sqlstate().to_owned(),
            })
            .collect();
        // EXPLAIN prints the statement's own literals; its estimates are what would tell.
        let estimates = regex::Regex::new(r"(rows|width)=\d+").expect("a valid pattern");
        let rows = outcome
            .lines()
            .iter()
            .map(|line| {
                if line.contains("cost=") {
                    let found: Vec<_> = estimates.find_iter(line).map(|hit| hit.as_str()).collect();
                    found.join(" ")
                } else if line.contains("Filter:") || line.contains("Cond:") {
                    "condition".to_owned()
                } else {
                    line.clone()
                }
            })
            .collect();
        Self { errors, tags: outcome.tags(), rows, notices: outcome.notices().len() }
    }
}

fn brief(seen: &Seen) -> String {
    let errors: Vec<String> = seen
        .errors()
        .iter()
        .map(|error| format!("{} {}", error.sqlstate(), error.message()))
        .collect();
    let tags: Vec<String> = seen.outcomes.iter().flat_map(Outcome::tags).collect();
    format!("errors {errors:?}, tags {tags:?}")
}
