//! Error texts of the service, in words that may be told. Layer 5, pure.
//!
//! BigQuery quotes values in its messages (`Bad int64 value: …`, `ERROR(column)`), and does not promise
//! in which order conditions are evaluated. Guards keep other tenants' rows away from what may fail;
//! this is the net below. Of a message about protected tables only words are told that are the
//! client's own or belong to BigQuery's way of speaking; what else stands in it becomes `…`.

use serde_json::{Map, Value, json};

use super::fault::{Fault, ServiceError};
use super::upstream::Reply;
use crate::error::{Denial, DenialCode};
use crate::sql::bigquery::WRITE_OUTSIDE;

/// Longest message, in characters.
const MAX_MESSAGE: usize = 2_000;

/// Words of BigQuery's messages, in lower case, sorted. None is a value that a table is likely to hold.
#[rustfmt::skip] // one word a line would be a page of nothing
const WORDS: &[&str] = &[
    "a", "access", "aggregate", "aggregated", "aggregation", "alias", "already", "ambiguous", "an", "analytic",
    "and", "any", "are", "argument", "arguments", "array", "as", "assigned", "at", "bad", "be", "because",
    "been", "billed", "bool", "bound", "bounds", "but", "by", "bytes", "call", "can", "cannot", "cast",
    "clause", "coerced", "column", "columns", "compatible", "constant", "contains", "correlated", "could",
    "create", "dataset", "date", "datetime", "declared", "default", "definition", "denied", "did", "distinct",
    "division", "dml", "do", "does", "duplicate", "each", "element", "elements", "empty", "end", "error",
    "exceeded", "exceeds", "exist", "exists", "expected", "expression", "expressions", "failed", "field",
    "float64", "following", "for", "format", "found", "from", "function", "got", "group", "grouped",
    "grouping", "has", "have", "having", "higher", "in", "index", "input", "inside", "int64", "interval",
    "invalid", "is", "it", "its", "job", "join", "json", "keyword", "large", "least", "limit", "list",
    "literal", "location", "match", "matched", "matching", "merge", "minimum", "missing", "more", "most",
    "multiple", "must", "name", "named", "negative", "neither", "no", "nor", "not", "null", "number",
    "numeric", "object", "of", "on", "one", "only", "operands", "operation", "operator", "or", "order", "out",
    "overflow", "parameter", "parameters", "parse", "partition", "permission", "possible", "produced",
    "project", "qualify", "query", "quota", "range", "read", "recursive", "referenced", "references",
    "required", "requires", "resolve", "resources", "result", "returned", "row", "rows", "scalar", "scan",
    "schema", "script", "select", "set", "should", "signature", "signatures", "size", "source", "statement",
    "statements", "string", "struct", "subqueries", "subquery", "supported", "supports", "syntax", "table",
    "tables", "target", "than", "that", "the", "there", "this", "time", "timed", "timestamp", "to", "too",
    "type", "types", "unable", "undeclared", "unexpected", "union", "unnest", "unrecognized", "unsupported",
    "update", "use", "used", "user", "using", "value", "values", "variable", "view", "visible", "was", "were",
    "when", "where", "which", "while", "window", "with", "without", "zero",
];

/// What may be said of a failure.
#[derive(Clone, Copy, Debug)]
pub(super) struct Known<'a> {
    /// The client's own text; empty if it is not known any more.
    pub(super) text: &'a str,
    /// Whether tables that tenants share were read: then values may be quoted.
    pub(super) protected: bool,
}

impl Known<'_> {
    /// The worst: nothing is known, and tenants' tables may have been read.
    pub(super) const NOTHING: Self = Self { text: "", protected: true };
}

/// The error of a reply that is no success.
pub(super) fn fault(reply: &Reply, known: Known<'_>) -> Fault {
    let body = reply.object().unwrap_or_default();
    let error = body.get("error");
    let field = |name: &str| error.and_then(|error| error.get(name));
    let first = field("errors").and_then(|errors| errors.get(0));
    let text = |value: Option<&Value>| value.and_then(Value::as_str).unwrap_or_default().to_owned();
    let told = text(field("message"));
    if told.contains(WRITE_OUTSIDE) {
        return Denial::new(DenialCode::WriteOutsideTenant).into();
    }
    let reason = text(first.and_then(|first| first.get("reason")));
    match reply.status {
        400..=499 => Fault::Upstream(ServiceError {
            status: reply.status,
            reason: word(&reason, "invalid"),
            message: message(&told, known),
        }),
        _ => Fault::Unavailable,
    }
}

/// An entry of `errors` or `errorResult` of a job.
pub(super) fn entry(entry: &Value, known: Known<'_>) -> Value {
    let text = |name: &str| entry.get(name).and_then(Value::as_str).unwrap_or_default();
    if text("message").contains(WRITE_OUTSIDE) {
        let denial = Denial::new(DenialCode::WriteOutsideTenant);
        let message = format!("{} ({})", denial.message(), denial.detail());
        return json!({"reason": "accessDenied", "message": message});
    }
    let mut told = Map::new();
    told.insert("reason".to_owned(), word(text("reason"), "invalidQuery").into());
    told.insert("message".to_owned(), message(text("message"), known).into());
    if text("location") == "query" {
        told.insert("location".to_owned(), "query".into());
    }
    Value::Object(told)
}

/// Entries of `errors`.
pub(super) fn entries(errors: &Value, known: Known<'_>) -> Value {
    let list = errors.as_array().map(Vec::as_slice).unwrap_or_default();
    Value::Array(list.iter().take(20).map(|one| entry(one, known)).collect())
}

/// A reason is one word of letters.
fn word(reason: &str, otherwise: &str) -> String {
    let well =
        !reason.is_empty() && reason.len() < 64 && reason.bytes().all(|b| b.is_ascii_alphabetic());
    if well { reason } else { otherwise }.to_owned()
}

/// A message in words that may be told.
pub(super) fn message(text: &str, known: Known<'_>) -> String {
    let own: std::collections::HashSet<String> = words(known.text).map(str::to_lowercase).collect();
    let may = |word: &str| {
        let word = word.to_lowercase();
        own.contains(&word) || WORDS.binary_search(&word.as_str()).is_ok()
    };
    let mut told = String::new();
    for piece in pieces(text) {
        let is_word = piece.starts_with(is_part);
        if !is_word {
            // Signs are told, but nothing that looks like a value in another alphabet.
            told.extend(piece.chars().filter(|c| c.is_ascii_graphic() || *c == ' '));
        } else if known.protected && !may(piece) {
            if !told.ends_with('…') {
                told.push('…');
            }
        } else {
            told.push_str(piece);
        }
        if told.chars().count() > MAX_MESSAGE {
            break;
        }
    }
    // The service's own account is nobody's business, protected tables or not.
    let told: Vec<&str> = told
        .split(' ')
        .map(|word| if word.contains('@') && word.contains('.') { "…" } else { word })
        .collect();
    told.join(" ").chars().take(MAX_MESSAGE).collect()
}

fn is_part(c: char) -> bool {
    c.is_alphanumeric() || c == '_'
}

fn words(text: &str) -> impl Iterator<Item = &str> {
    text.split(|c| !is_part(c)).filter(|word| !word.is_empty())
}

/// Runs of word characters and runs of others, in turn.
fn pieces(text: &str) -> impl Iterator<Item = &str> {
    let mut rest = text;
    std::iter::from_fn(move || {
        let first = rest.chars().next()?;
        let end = rest.find(|c| is_part(c) != is_part(first)).unwrap_or(rest.len());
        let (piece, after) = rest.split_at(end);
        rest = after;
        Some(piece)
    })
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_words_are_sorted() {
        let mut sorted = WORDS.to_vec();
        sorted.sort_unstable();
        sorted.dedup();
        assert_eq!(WORDS, sorted);
    }

    #[test]
    fn of_a_message_only_known_words_are_told() {
        let known =
            Known { text: "SELECT CAST(secret AS INT64) FROM app.customers", protected: true };
        assert_eq!(message("Bad int64 value: B-SECRET-1", known), "Bad int64 value: …-SECRET-…");
        assert_eq!(
            message("Unrecognized name: customers at [1:8]", known),
            "Unrecognized name: customers at […:…]"
        );
        assert_eq!(message("division by zero: 4242 / 0", known), "division by zero: … / …");
        assert!(!message("Ωmega 秘密 geheim", Known::NOTHING).contains(['Ω', '秘', 'g']));
        let open = Known { text: "", protected: false };
        assert_eq!(
            message("User sa@p.iam.gserviceaccount.com does not have x", open),
            "User … does not have x"
        );
    }

    #[test]
    fn a_row_outside_the_tenant_is_a_denial() {
        let body = json!({"error": {"message": format!("Query error: {WRITE_OUTSIDE} at [1:1]")}});
        let reply = Reply { status: 400, body: body.to_string().into() };
        assert!(matches!(
            fault(&reply, Known::NOTHING),
            Fault::Denied(Denial { code: DenialCode::WriteOutsideTenant, .. })
        ));
        let told =
            entry(&json!({"message": WRITE_OUTSIDE, "reason": "invalidQuery"}), Known::NOTHING);
        assert_eq!(told["reason"], "accessDenied");
    }
}
