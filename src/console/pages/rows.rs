//! Rows of tables: records as a line each. Layer 5.

use std::path::Path;

use super::short_directory;
use crate::audit::search::Found;
use crate::console::index::{Index, Outcome, Row, Segment, What};
use crate::console::query::{Query, Show};
use crate::console::records::Files;
use crate::console::text::{moment, rfc3339};
use crate::console::why;

/// Longest statement in a table, in characters; the stylesheet cuts it further.
const SHOWN: usize = 400;

/// One record as a line.
pub(super) struct RowView {
    pub(super) link: String,
    pub(super) iso: String,
    pub(super) clock: String,
    pub(super) day: String,
    pub(super) decision: String,
    pub(super) code: String,
    pub(super) code_link: String,
    pub(super) tenant: String,
    pub(super) tenant_link: String,
    pub(super) service: String,
    pub(super) service_link: String,
    pub(super) source: String,
    pub(super) source_title: String,
    pub(super) statement: String,
    /// Shown where there is no statement.
    pub(super) said: String,
    pub(super) detail: String,
    pub(super) crosses: bool,
    pub(super) monitored: bool,
    /// Whether it is the record that the page is about.
    pub(super) here: bool,
}

/// A record's address on this site.
pub(super) fn address(chain: &str, segment: u64, line: u32) -> String {
    format!("/record/{chain}/{segment}/{line}")
}

/// Where a row's record is: its segment, and the directory and chain that it belongs to.
pub(super) fn place<'a>(index: &'a Index, row: &Row) -> Option<(&'a Segment, &'a Path, &'a str)> {
    let segment = index.segment(row.file)?;
    let source = index.source_of(segment)?;
    Some((segment, &source.directory, &source.chain))
}

/// Makes lines of rows. Each record is read from its file.
pub(super) fn views(index: &Index, rows: &[Row], query: &Query, files: &mut Files) -> Vec<RowView> {
    rows.iter().filter_map(|row| view(index, row, query, files)).collect()
}

fn view(index: &Index, row: &Row, query: &Query, files: &mut Files) -> Option<RowView> {
    let (segment, directory, chain) = place(index, row)?;
    let found = files.record(row.file, &segment.path, row.offset);
    let column = |name| found.as_ref().map(|found| found.column(name)).unwrap_or_default();
    let code = index.tables.codes.name(u32::from(row.code)).to_owned();
    let tenant = index.tables.tenants.name(row.tenant).to_owned();
    let service = index.tables.services.name(row.service).to_owned();
    let said = match &found {
        None => "This record can no longer be read from its file.".to_owned(),
        Some(found) => said(found, row),
    };
    let details = [
        why::reason(&code).to_owned(),
        column("object"),
        column("subject"),
        column("client_address"),
    ];
    let details: Vec<String> = details.into_iter().filter(|part| !part.is_empty()).collect();
    let narrowed = |change: &dyn Fn(&mut Query)| query.with(|query| change(query)).link("/");
    Some(RowView {
        link: address(chain, segment.number, row.line),
        iso: rfc3339(row.time),
        clock: moment(row.time, "%H:%M:%S"),
        day: moment(row.time, "%Y-%m-%d"),
        decision: decision(row.outcome, row.what()).to_owned(),
        code_link: narrowed(&|query| query.code = Some(code.clone())),
        tenant_link: narrowed(&|query| query.tenant = Some(tenant.clone())),
        service_link: narrowed(&|query| query.service = Some(service.clone())),
        source: short_directory(directory),
        source_title: format!("{} {chain}", directory.display()),
        statement: shorten(&column("statement")),
        said,
        detail: details.join(" · "),
        crosses: row.crosses(),
        monitored: row.outcome == Outcome::WouldDeny,
        here: false,
        code,
        tenant,
        service,
    })
}

/// What a record without a statement says.
pub(super) fn said(found: &Found, row: &Row) -> String {
    let message = found.column("message");
    if !message.is_empty() {
        return message;
    }
    match row.what() {
        What::Checkpoint => "Signed checkpoint: the segment is closed".to_owned(),
        What::Authentication if row.refused() => "Sign-in refused".to_owned(),
        What::Authentication => "Signed in".to_owned(),
        What::Egress => "Another tenant's value stopped on its way out".to_owned(),
        What::Gap => "Records are missing here".to_owned(),
        What::Statement => "Statement without text".to_owned(),
        What::Sidecar | What::Unknown => found.column("kind").replace('_', " "),
    }
}

/// The outcome in a word.
pub(super) const fn decision(outcome: Outcome, what: What) -> &'static str {
    match (outcome, what) {
        (_, What::Checkpoint) => "checkpoint",
        (_, What::Gap) => "gap",
        (Outcome::Deny, _) => "denied",
        (Outcome::WouldDeny, _) => "would deny",
        (Outcome::Error, _) => "error",
        (_, What::Sidecar) => "sidecar",
        (Outcome::Rewrite, _) => "rewritten",
        (Outcome::Allow, _) => "allowed",
        (Outcome::Unknown, _) => "unknown",
    }
}

/// A statement on one line, for a table.
pub(super) fn shorten(statement: &str) -> String {
    let mut line: String = statement.split_whitespace().collect::<Vec<_>>().join(" ");
    if let Some((end, _)) = line.char_indices().nth(SHOWN) {
        line.truncate(end);
        line.push('…');
    }
    line
}

/// A query for all records of one thing, whatever their outcome.
pub(super) fn everything(change: impl FnOnce(&mut Query)) -> String {
    let mut query = Query { show: Show::Everything, ..Query::default() };
    change(&mut query);
    query.link("/")
}
