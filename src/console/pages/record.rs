//! The page of one record: what happened, why, to whom, and whether the record holds. Layer 5.

use std::path::PathBuf;

use askama::Template;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};
use serde_json::Value;

use super::rows::{RowView, address, everything, said, views};
use super::{Fact, Frame, failure, html};
use crate::audit::personal::{FIELDS, SEALED};
use crate::audit::search::Found;
use crate::audit::vigil::check_line;
use crate::console::diff::{Piece, side_by_side};
use crate::console::http::Viewer;
use crate::console::index::{Index, code_crosses};
use crate::console::query::{Query, Show};
use crate::console::records::{Files, line_of};
use crate::console::select::neighbours;
use crate::console::text::{encode, number, shell_quoted};
use crate::console::watch::{Standing, read};
use crate::console::{Outlook, State, why};

/// Records of the same session that are shown on each side.
const AROUND: usize = 8;

/// Chain, segment, line.
type Address<'a> = (&'a str, u64, u32);

struct FactGroup {
    title: &'static str,
    facts: Vec<Fact>,
}

struct ChainPlace {
    class: &'static str,
    verdict: String,
    id: String,
    link: String,
    file: String,
    line: u32,
    sequence: String,
    hash: String,
    previous: String,
    before_link: String,
    after_link: String,
}

#[derive(Template)]
#[template(path = "record.html")]
struct RecordPage {
    frame: Frame,
    title: String,
    code: String,
    decision: &'static str,
    crosses: bool,
    iso: String,
    time: String,
    object: String,
    outcome: String,
    meaning: &'static str,
    expected: String,
    message: String,
    hint: &'static str,
    relations: Vec<(String, String)>,
    policy_epoch: String,
    statement: Vec<Piece>,
    has_guards: bool,
    truncated: bool,
    sent_title: &'static str,
    sent: Vec<Piece>,
    sent_notes: Vec<String>,
    command: String,
    facts: Vec<FactGroup>,
    sealed_note: &'static str,
    chain: ChainPlace,
    neighbours: Vec<RowView>,
    fingerprint_link: String,
    tenant_link: String,
    session_link: String,
    raw_link: String,
    raw: String,
}

/// A line as it is in its file.
struct Line {
    path: PathBuf,
    file: u32,
    offset: u64,
    bytes: Vec<u8>,
}

fn line(state: &State, (chain, segment, line): Address<'_>) -> Option<Line> {
    let index = read(&state.watch.shared.index);
    (0_u32..).zip(&index.segments).find_map(|(file, known)| {
        let source = index.source_of(known)?;
        let wanted = known.number == segment && source.chain == chain && !known.gone;
        let (offset, bytes) = wanted.then(|| line_of(known, line).ok()).flatten().flatten()?;
        Some(Line { path: known.path.clone(), file, offset, bytes })
    })
}

const GONE: &str = "There is no such record, or its file is gone.";

/// The line itself, as it is in the file.
pub(in crate::console) fn raw(state: &State, at: Address<'_>) -> Response {
    let Some(mut line) = line(state, at) else { return failure(StatusCode::NOT_FOUND, GONE) };
    line.bytes.push(b'\n');
    let name = format!("attachment; filename=\"hedgerow-{}-{}.json\"", at.1, at.2);
    let name = HeaderValue::from_str(&name);
    let kind = HeaderValue::from_static("application/json");
    let mut response = ([(header::CONTENT_TYPE, kind)], line.bytes).into_response();
    if let Ok(name) = name {
        response.headers_mut().insert(header::CONTENT_DISPOSITION, name);
    }
    response
}

/// The page of a record.
pub(in crate::console) fn record(state: &State, viewer: &Viewer, at: Address<'_>) -> Response {
    let Some(line) = line(state, at) else { return failure(StatusCode::NOT_FOUND, GONE) };
    let Some(mut found) = Found::read(&line.bytes) else {
        let text = "This line is no audit record: it was cut, overwritten or written by something \
            else. The page of its source says what does not fit.";
        return failure(StatusCode::UNPROCESSABLE_ENTITY, text);
    };
    let raw = serde_json::to_string_pretty(found.record()).unwrap_or_default();
    found.reveal(None);
    let shared = &state.watch.shared;
    let code = found.column("code");
    let statement = found.column("statement");
    let sent = Sent::of(state, &found, &statement);
    let (left, right) = match &sent.text {
        Some(text) => side_by_side(&statement, text),
        None => (vec![Piece { text: statement.clone(), only_here: false }], Vec::new()),
    };
    let linked = |value: &str, change: &dyn Fn(&mut Query)| {
        if value.is_empty() { String::new() } else { everything(change) }
    };
    let (tenant, session, fingerprint) =
        (found.column("tenant"), found.column("session"), found.column("fingerprint"));
    let around = {
        let index = read(&shared.index);
        session_rows(&index, &line)
    };
    let refused = matches!(found.column("decision").as_str(), "deny" | "would_deny");
    let page = RecordPage {
        frame: Frame::new(state, viewer, ""),
        title: title(&found, &code),
        decision: decision(&found.column("decision")),
        crosses: found.column("kind") == "egress" || refused && code_crosses(&code),
        iso: found.column("time"),
        time: found.column("time").replace('T', " ").trim_end_matches('Z').to_owned(),
        object: found.column("object"),
        outcome: why::outcome(&found),
        meaning: why::meaning(&code),
        expected: why::expected(&found),
        message: found.column("message"),
        hint: why::hint(&code),
        relations: relations(&found),
        policy_epoch: found.column("policy_epoch"),
        statement: if statement.is_empty() { Vec::new() } else { left },
        has_guards: sent.text.is_some(),
        truncated: found.record().pointer("/unmapped/hedgerow/statement_truncated").is_some(),
        sent_title: sent.title,
        sent: right,
        sent_notes: sent.notes,
        command: sent.command,
        facts: facts(&found),
        sealed_note: sealed_note(&found),
        chain: chain_place(&read(&shared.standings), &line, &found, at),
        neighbours: around,
        fingerprint_link: linked(&fingerprint, &|q| q.fingerprint = Some(fingerprint.clone())),
        tenant_link: linked(&tenant, &|q| q.tenant = Some(tenant.clone())),
        session_link: linked(&session, &|q| q.session = Some(session.clone())),
        raw_link: format!("{}/raw", address(&encode(at.0), at.1, at.2)),
        raw,
        code,
    };
    html(StatusCode::OK, &page)
}

fn title(found: &Found, code: &str) -> String {
    let reason = why::reason(code);
    let mut title = match (reason.is_empty(), found.column("message").is_empty()) {
        (false, _) => reason.to_owned(),
        (true, false) if found.column("statement").is_empty() => found.column("message"),
        (true, _) => {
            let kind = found.column("kind");
            let verb = found.column("statement_kind");
            if verb.is_empty() { kind.replace('_', " ") } else { verb.to_uppercase() }
        }
    };
    if let Some(first) = title.get(..1) {
        title = first.to_uppercase() + title.get(1..).unwrap_or_default();
    }
    title
}

fn decision(word: &str) -> &'static str {
    match word {
        "deny" => "denied",
        "would_deny" => "would be denied",
        "rewrite" => "allowed, rewritten",
        "allow" => "allowed",
        "error" => "error",
        _ => "unknown",
    }
}

fn relations(found: &Found) -> Vec<(String, String)> {
    let list = found.record().pointer("/unmapped/hedgerow/relations").and_then(Value::as_array);
    let part =
        |used: &Value, name| used.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    list.into_iter().flatten().map(|used| (part(used, "relation"), part(used, "rule"))).collect()
}

/// What was sent upstream, as far as that can be told.
struct Sent {
    title: &'static str,
    text: Option<String>,
    notes: Vec<String>,
    command: String,
}

impl Sent {
    fn of(state: &State, found: &Found, statement: &str) -> Self {
        let decision = found.column("decision");
        let tenant = found.column("tenant");
        let mut notes = Vec::new();
        let title = match decision.as_str() {
            "deny" => {
                notes.push(
                    "Nothing was sent: it was refused before the database saw it.".to_owned(),
                );
                "What was sent"
            }
            _ => "What was sent",
        };
        let none = Self { title, text: None, notes: notes.clone(), command: String::new() };
        if statement.is_empty() || decision == "allow" {
            let mut none = none;
            if decision == "allow" {
                none.notes.push("The statement was sent as it was.".to_owned());
            }
            return none;
        }
        if tenant.is_empty() || found.column("engine") != "postgres" {
            return none;
        }
        let held =
            "The record does not hold the text that was sent: it would hold the tenant's values.";
        let Some(explainer) = &state.explainer else {
            if decision != "deny" {
                notes.push(held.to_owned());
            }
            notes.push(
                "Start the console with --config hedgerow.yaml to have it computed from this record \
                 and the policies, or ask on the command line:"
                    .to_owned(),
            );
            // SECURITY: no text of a client is read as an option: `-- …` is a comment in SQL.
            let command = format!(
                "hedgerow explain --config hedgerow.yaml --tenant={} -- {}",
                shell_quoted(&tenant),
                shell_quoted(statement)
            );
            return Self { title, text: None, notes, command };
        };
        let now = "Computed by this console from the record and the policies that it has loaded, with no \
            catalog of the database; the policies may have changed since the record was written.";
        match explainer(statement, &tenant) {
            Outlook::Sent(text) => {
                if decision != "deny" {
                    notes.push(held.to_owned());
                }
                notes.push(now.to_owned());
                let title = if decision == "deny" {
                    "What would be sent under the policies now"
                } else {
                    "What is sent, guards marked"
                };
                Self { title, text: Some(text), notes, command: String::new() }
            }
            Outlook::Denied(code, reason) => {
                notes.push(format!(
                    "Under the policies that this console has loaded: {code}, {reason}."
                ));
                notes.push(now.to_owned());
                Self { title, text: None, notes, command: String::new() }
            }
            Outlook::Unknown(why) => {
                notes.push(format!("What would be sent cannot be computed: {why}."));
                Self { title, text: None, notes, command: String::new() }
            }
        }
    }
}

fn facts(found: &Found) -> Vec<FactGroup> {
    let column = |name| found.column(name);
    let filter = |name: &'static str, field, change: &dyn Fn(&mut Query, String)| {
        let value: String = found.column(field);
        // All that is sealed is written alike, and is nothing to search for.
        let link = if value.is_empty() || value == SEALED {
            String::new()
        } else {
            everything(|query| change(query, value.clone()))
        };
        Fact::linked(name, value, link)
    };
    let search =
        |name: &'static str, field| filter(name, field, &|query, value| query.search = Some(value));
    let duration = column("duration_us").parse::<u64>().ok();
    let duration = duration.map_or_else(String::new, |us| match us {
        ..10_000 => format!("{} µs", number(us)),
        _ => format!("{} ms", number(us / 1_000)),
    });
    let groups = [
        (
            "Token",
            vec![
                filter("Tenant", "tenant", &|query, value| query.tenant = Some(value)),
                search("Subject", "subject"),
                search("Issuer", "issuer"),
                search("Token id", "token_id"),
            ],
        ),
        (
            "Client",
            vec![
                filter("Application", "application_name", &|query, value| {
                    query.service = Some(value);
                }),
                search("Address", "client_address"),
                search("User given", "client_user"),
                filter("Session", "session", &|query, value| query.session = Some(value)),
            ],
        ),
        (
            "Statement",
            vec![
                Fact::plain("Kind", column("statement_kind")),
                filter("Fingerprint", "fingerprint", &|query, value| {
                    query.fingerprint = Some(value);
                }),
                Fact::plain("Rows", column("rows")),
                Fact::plain("Took", duration),
                Fact::plain("Result", column("result_code")),
            ],
        ),
        (
            "Where",
            vec![
                Fact::plain("Engine", column("engine")),
                Fact::plain("Database", column("database")),
                Fact::plain("Upstream", column("upstream")),
                Fact::plain("Policy epoch", column("policy_epoch")),
                Fact::plain("Catalog epoch", column("catalog_epoch")),
                Fact::plain("Severity", column("severity")),
                Fact::plain("Record id", column("record")),
            ],
        ),
    ];
    groups
        .into_iter()
        .map(|(title, facts)| {
            let facts = facts.into_iter().filter(|fact| !fact.value.is_empty()).collect();
            FactGroup { title, facts }
        })
        .filter(|group: &FactGroup| !group.facts.is_empty())
        .collect()
}

/// What is to be said of personal fields that cannot be read here.
fn sealed_note(found: &Found) -> &'static str {
    if FIELDS.iter().all(|field| found.column(field) != SEALED) {
        return "";
    }
    "Who it was is sealed under a key of the tenant, which this console does not have. Where the keys are, \
     `hedgerow audit search` opens it, until `hedgerow audit erase` has destroyed the key."
}

fn session_rows(index: &Index, line: &Line) -> Vec<RowView> {
    let rows = index.rows();
    let Some(row) = Found::read(&line.bytes).and_then(|found| {
        let time: jiff::Timestamp = found.column("time").parse().ok()?;
        let at = rows.partition_point(|row| row.time < time.as_microsecond());
        let same_time = rows.get(at..)?.iter();
        same_time
            .take_while(|row| row.time == time.as_microsecond())
            .find(|row| row.file == line.file && row.offset == line.offset)
    }) else {
        return Vec::new();
    };
    let around = neighbours(index, row, AROUND);
    if around.len() < 2 {
        return Vec::new();
    }
    let mut files = Files::default();
    let query = Query { show: Show::Everything, ..Query::default() };
    let mut shown = views(index, &around, &query, &mut files);
    for (view, neighbour) in shown.iter_mut().zip(&around) {
        view.here = neighbour.key() == row.key();
        if view.statement.is_empty() && view.said.is_empty() {
            let found = index
                .segment(neighbour.file)
                .and_then(|s| files.record(neighbour.file, &s.path, neighbour.offset));
            view.said = found.map_or_else(String::new, |found| said(&found, neighbour));
        }
    }
    shown
}

fn chain_place(
    standings: &[Standing],
    line: &Line,
    found: &Found,
    (chain, segment, number): Address<'_>,
) -> ChainPlace {
    let at = |pointer: &str| {
        let value = found.record().pointer(pointer).and_then(Value::as_str);
        value.unwrap_or("none: it is the first of its chain").to_owned()
    };
    let (class, verdict) = verdict(standings, line, found, (chain, segment, number));
    ChainPlace {
        class,
        verdict,
        id: chain.to_owned(),
        link: format!("/sources#c-{}", encode(chain)),
        file: line.path.display().to_string(),
        line: number,
        sequence: found.column("sequence"),
        hash: at("/unmapped/attestation_list/0/fingerprint/value"),
        previous: at("/unmapped/attestation_list/0/prev_event/fingerprint/value"),
        before_link: number
            .checked_sub(1)
            .filter(|before| *before > 0)
            .map_or_else(String::new, |before| address(&encode(chain), segment, before)),
        after_link: address(&encode(chain), segment, number.saturating_add(1)),
    }
}

/// Whether the record holds, by itself and in its chain.
fn verdict(
    standings: &[Standing],
    line: &Line,
    found: &Found,
    (chain, segment, number): Address<'_>,
) -> (&'static str, String) {
    if let Err(fault) = check_line(&line.bytes) {
        return ("bad", format!("This record does not hold: {fault}."));
    }
    let standing =
        standings.iter().find(|s| s.chain == chain && line.path.parent() == Some(&s.directory));
    let sequence = found.column("sequence").parse::<u64>().unwrap_or(0);
    let Some(standing) = standing else {
        return ("wait", "Its hash is right; its chain was not verified yet.".to_owned());
    };
    if let Some(fault) = &standing.fault {
        let here = fault.path == line.path && fault.line == u64::from(number);
        return match standing.sequence {
            _ if here => ("bad", format!("The chain breaks at this record. {}", fault.text)),
            Some(last) if sequence <= last => (
                "wait",
                format!(
                    "Its hash is right and it follows from the chain's first record; the chain breaks \
                     after sequence {last}. {}",
                    fault.text
                ),
            ),
            _ => (
                "bad",
                format!(
                    "Its own hash is right, but it comes after a break in its chain. {}",
                    fault.text
                ),
            ),
        };
    }
    let signed = standing.checkpoint.as_ref().is_some_and(|signed| signed.segment >= segment);
    match (standing.sequence, signed) {
        (Some(last), true) if sequence <= last => {
            let key = standing.checkpoint.as_ref().map_or("", |signed| signed.key_id.as_str());
            (
                "good",
                format!(
                    "Verified: its hash is right, it follows the record before it, and a signed \
                     checkpoint vouches for it (last signature by key {key})."
                ),
            )
        }
        (Some(last), false) if sequence <= last => (
            "good",
            "Verified: its hash is right and it follows the record before it. Its segment is still \
             open, so no signature vouches for it yet."
                .to_owned(),
        ),
        (Some(_) | None, _) => {
            ("wait", "Its hash is right; the verification of its chain has not come so far.".to_owned())
        }
    }
}
