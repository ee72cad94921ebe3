//! `audit search`: finds records in segment files and prints them. Layer 3; constant memory.
//!
//! It reads whatever is there and verifies nothing: that is `audit verify`'s business. Text in
//! records comes from clients; what is printed for people has its control characters escaped, and
//! CSV cells cannot be taken for formulas. JSON is the file's bytes, but on a terminal: there characters
//! that a terminal acts on are written as JSON's escapes, which mean the same.

use super::personal::{PersonalKeys, reveal};
use super::segment::{Line, SegmentFile, read_line};
use jiff::Timestamp;
use serde_json::Value;
use std::borrow::Cow;
use std::fs::File;
use std::io::{self, BufReader, Write};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::sync::Arc;

/// Which records are wanted: all that are given must match.
#[derive(Clone, Debug, Default)]
pub struct Filter {
    /// The tenant, exactly.
    pub tenant: Option<String>,
    /// The token's subject, exactly.
    pub subject: Option<String>,
    /// The decision's word.
    pub decision: Option<String>,
    /// The denial code, exactly; letters of either case.
    pub code: Option<String>,
    /// The denial code, or a part of the reason, object or message; letters of either case.
    pub reason: Option<String>,
    /// Not earlier than this.
    pub since: Option<Timestamp>,
    /// Earlier than this.
    pub until: Option<Timestamp>,
    /// Opens personal fields that are sealed; without it they are [`super::personal::SEALED`].
    pub personal: Option<Arc<PersonalKeys>>,
}

/// The flat fields of a record, by name, in the order of the CSV's columns.
pub const COLUMNS: &[(&str, &str)] = &[
    ("time", "/unmapped/hedgerow/time"),
    ("sequence", "/unmapped/hedgerow/sequence"),
    ("chain", "/unmapped/hedgerow/chain"),
    ("record", "/metadata/uid"),
    ("kind", "/unmapped/hedgerow/kind"),
    ("decision", "/unmapped/hedgerow/decision"),
    ("code", "/unmapped/hedgerow/code"),
    ("reason", "/unmapped/hedgerow/reason"),
    ("object", "/unmapped/hedgerow/object"),
    ("severity", "/severity"),
    ("engine", "/unmapped/hedgerow/engine"),
    ("tenant", "/unmapped/hedgerow/tenant"),
    ("subject", "/unmapped/hedgerow/subject"),
    ("issuer", "/unmapped/hedgerow/issuer"),
    ("token_id", "/unmapped/hedgerow/token_id"),
    ("application_name", "/unmapped/hedgerow/application_name"),
    ("client_user", "/unmapped/hedgerow/client_user"),
    ("client_address", "/unmapped/hedgerow/client_address"),
    ("upstream", "/unmapped/hedgerow/upstream"),
    ("database", "/unmapped/hedgerow/database"),
    ("statement_kind", "/unmapped/hedgerow/statement_kind"),
    ("fingerprint", "/unmapped/hedgerow/fingerprint"),
    ("statement", "/query_info/query_string"),
    ("relations", "/unmapped/hedgerow/relations"),
    ("policy_epoch", "/unmapped/hedgerow/policy_epoch"),
    ("catalog_epoch", "/unmapped/hedgerow/catalog_epoch"),
    ("rows", "/unmapped/hedgerow/rows"),
    ("duration_us", "/unmapped/hedgerow/duration_us"),
    ("result_code", "/unmapped/hedgerow/result_code"),
    ("session", "/unmapped/hedgerow/session"),
    ("message", "/message"),
];

/// One record as found.
#[derive(Debug)]
pub struct Found {
    line: String,
    record: Value,
    /// Whether personal fields were put into `record` which `line` has sealed.
    revealed: bool,
}

impl Found {
    /// Reads a line; `None` when it is no record.
    pub fn read(line: &[u8]) -> Option<Self> {
        let line = std::str::from_utf8(line).ok()?.to_owned();
        let record: Value = serde_json::from_str(&line).ok()?;
        record.pointer("/unmapped/hedgerow")?.is_object().then_some(Self {
            line,
            record,
            revealed: false,
        })
    }

    /// Puts sealed personal fields back where they would stand in clear.
    pub fn reveal(&mut self, keys: Option<&PersonalKeys>) {
        self.revealed = reveal(keys, &mut self.record);
    }

    /// The line as it is in the file, or the record with its personal fields revealed.
    fn shown(&self) -> Cow<'_, str> {
        if self.revealed { self.record.to_string().into() } else { self.line.as_str().into() }
    }

    /// The line as it is in the file.
    pub fn line(&self) -> &str {
        &self.line
    }

    /// The whole record.
    pub fn record(&self) -> &Value {
        &self.record
    }

    /// A column of [`COLUMNS`] as text; empty when the record has no such field.
    pub fn column(&self, name: &str) -> String {
        let pointer = COLUMNS.iter().find(|(column, _)| *column == name).map(|(_, at)| *at);
        match pointer.and_then(|pointer| self.record.pointer(pointer)) {
            None | Some(Value::Null) => String::new(),
            Some(Value::String(text)) => text.clone(),
            Some(Value::Array(relations)) => {
                let part =
                    |used: &Value, key| used.get(key).and_then(Value::as_str).map(str::to_owned);
                let uses = relations.iter().filter_map(|used| {
                    let (relation, rule) = (part(used, "relation")?, part(used, "rule")?);
                    Some(if relation == rule { relation } else { format!("{relation} ({rule})") })
                });
                uses.collect::<Vec<_>>().join(", ")
            }
            Some(other @ (Value::Bool(_) | Value::Number(_) | Value::Object(_))) => {
                other.to_string()
            }
        }
    }

    /// What `audit search` calls the reason: code, reason, object, message.
    fn reason(&self) -> String {
        ["code", "reason", "object", "message"].map(|name| self.column(name)).join("\n")
    }

    /// When it happened.
    fn time(&self) -> Option<Timestamp> {
        self.column("time").parse().ok()
    }
}

impl Filter {
    /// Whether the record is wanted. A record without a readable time matches no time.
    pub fn matches(&self, found: &Found) -> bool {
        let exactly = |wanted: &Option<String>, name| {
            wanted.as_ref().is_none_or(|wanted| found.column(name) == *wanted)
        };
        exactly(&self.tenant, "tenant")
            && exactly(&self.subject, "subject")
            && exactly(&self.decision, "decision")
            && self.code.as_ref().is_none_or(|code| found.column("code").eq_ignore_ascii_case(code))
            && self
                .reason
                .as_ref()
                .is_none_or(|reason| found.reason().to_lowercase().contains(&reason.to_lowercase()))
            && self.since.is_none_or(|since| found.time().is_some_and(|time| time >= since))
            && self.until.is_none_or(|until| found.time().is_some_and(|time| time < until))
    }
}

/// Reads `--since` and `--until`: RFC 3339 with an offset, a date (`2026-11-21`, midnight UTC), or
/// how long ago: `90s`, `15m`, `1h`, `7d`, also `1h30m`.
pub fn parse_time(text: &str, now: Timestamp) -> Result<Timestamp, String> {
    let wrong = || {
        format!(
            "`{text}` is neither a time (2026-11-21T09:30:00Z), a date nor how long ago (1h, 7d)"
        )
    };
    if let Ok(time) = text.parse::<Timestamp>() {
        return Ok(time);
    }
    if let Ok(date) = text.parse::<jiff::civil::Date>()
        && text.len() == 10
    {
        return date.to_zoned(jiff::tz::TimeZone::UTC).map(|z| z.timestamp()).map_err(|_| wrong());
    }
    let text = text.strip_suffix(" ago").unwrap_or(text);
    let mut seconds = 0_i64;
    let mut rest = text;
    while !rest.is_empty() {
        let digits = rest.len() - rest.trim_start_matches(|c: char| c.is_ascii_digit()).len();
        let (count, unit) = rest.split_at(digits);
        let count: i64 = count.parse().map_err(|_| wrong())?;
        let mut units = unit.chars();
        let scale = match units.next() {
            Some('s') => 1,
            Some('m') => 60,
            Some('h') => 3_600,
            Some('d') => 86_400,
            Some('w') => 604_800,
            Some(_) | None => return Err(wrong()),
        };
        seconds = count
            .checked_mul(scale)
            .and_then(|more| seconds.checked_add(more))
            .ok_or_else(wrong)?;
        rest = units.as_str();
    }
    if text.is_empty() {
        return Err(wrong());
    }
    now.checked_sub(jiff::SignedDuration::from_secs(seconds)).map_err(|_| wrong())
}

/// A file that cannot be read.
#[derive(Debug, thiserror::Error)]
#[error("{}: {source}", path.display())]
pub struct Unreadable {
    path: PathBuf,
    source: io::Error,
}

/// Calls `each` for every record of the segments that the filter wants, in their order, until it
/// breaks off. Answers the number of lines that are no records.
///
/// # Errors
/// When a file cannot be read. One that retention deletes meanwhile is passed over.
pub fn search<B>(
    segments: &[SegmentFile],
    filter: &Filter,
    mut each: impl FnMut(Found) -> ControlFlow<B>,
) -> Result<(u64, Option<B>), Unreadable> {
    let mut skipped = 0;
    let mut buffer = Vec::new();
    for segment in segments {
        let unreadable = |source| Unreadable { path: segment.path.clone(), source };
        let file = match File::open(&segment.path) {
            Err(error) if error.kind() == io::ErrorKind::NotFound => continue,
            other => other.map_err(unreadable)?,
        };
        let mut input = BufReader::with_capacity(1 << 16, file);
        loop {
            match read_line(&mut input, &mut buffer).map_err(unreadable)? {
                Line::End => break,
                Line::TooLong => skipped += 1,
                Line::Whole | Line::Unfinished => match Found::read(&buffer) {
                    None => skipped += 1,
                    Some(mut found) => {
                        found.reveal(filter.personal.as_deref());
                        if filter.matches(&found)
                            && let ControlFlow::Break(reason) = each(found)
                        {
                            return Ok((skipped, Some(reason)));
                        }
                    }
                },
            }
        }
    }
    Ok((skipped, None))
}

/// How records are printed.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Format {
    /// For people.
    Table,
    /// The records as they are in the files, one a line.
    Json,
    /// RFC 4180 with a header.
    Csv,
}

/// The table's columns: heading, field, width in characters. The last one takes the rest.
const TABLE: &[(&str, &str, usize)] = &[
    ("TIME", "time", 20),
    ("SEQ", "sequence", 8),
    ("DECISION", "decision", 10),
    ("CODE", "code", 6),
    ("TENANT", "tenant", 16),
    ("SUBJECT", "subject", 12),
    ("RELATIONS", "relations", 20),
    ("ROWS", "rows", 6),
    ("STATEMENT OR MESSAGE", "statement", 0),
];

/// Prints records in one format.
pub struct Printer<W> {
    output: W,
    format: Format,
    width: usize,
    terminal: bool,
    begun: bool,
}

impl<W: Write> Printer<W> {
    /// A printer; `width` bounds the table's lines, in characters.
    pub fn new(output: W, format: Format, width: usize) -> Self {
        Self { output, format, width: width.max(80), terminal: false, begun: false }
    }

    /// Whether the output is a terminal.
    #[must_use]
    pub fn on_terminal(self, terminal: bool) -> Self {
        Self { terminal, ..self }
    }

    /// Prints one record, after the header if it is the first.
    ///
    /// # Errors
    /// When the output cannot be written.
    pub fn print(&mut self, found: &Found) -> io::Result<()> {
        self.begin()?;
        match self.format {
            Format::Json if self.terminal => {
                writeln!(self.output, "{}", json_for_terminal(&found.shown()))
            }
            Format::Json => writeln!(self.output, "{}", found.shown()),
            Format::Csv => {
                let cells = COLUMNS.iter().map(|(name, _)| csv_cell(&found.column(name)));
                write!(self.output, "{}\r\n", cells.collect::<Vec<_>>().join(","))
            }
            Format::Table => {
                let cells =
                    TABLE.iter().map(|&(_, field, width)| (table_cell(found, field), width));
                self.row(cells.collect())
            }
        }
    }

    /// Ends the output; prints the header if there was no record.
    ///
    /// # Errors
    /// When the output cannot be written.
    pub fn finish(mut self) -> io::Result<()> {
        self.begin()?;
        self.output.flush()
    }

    fn begin(&mut self) -> io::Result<()> {
        if std::mem::replace(&mut self.begun, true) {
            return Ok(());
        }
        match self.format {
            Format::Json => Ok(()),
            Format::Csv => {
                let names: Vec<&str> = COLUMNS.iter().map(|(name, _)| *name).collect();
                write!(self.output, "{}\r\n", names.join(","))
            }
            Format::Table => {
                let cells = TABLE.iter().map(|&(heading, _, width)| (heading.to_owned(), width));
                self.row(cells.collect())
            }
        }
    }

    fn row(&mut self, cells: Vec<(String, usize)>) -> io::Result<()> {
        let mut line = String::new();
        for (text, width) in cells {
            let width = match width {
                0 => self.width.saturating_sub(line.chars().count()).max(20),
                fixed => fixed,
            };
            let text = fit(&text, width);
            line.push_str(&format!("{text:<width$}  "));
        }
        writeln!(self.output, "{}", line.trim_end())
    }
}

fn table_cell(found: &Found, field: &str) -> String {
    let text = found.column(field);
    match field {
        // Seconds are enough here: 2026-11-21T09:30:00Z.
        "time" => text.split_once('.').map_or(text.clone(), |(seconds, _)| format!("{seconds}Z")),
        "statement" => {
            let parts =
                [text, found.column("reason"), found.column("object"), found.column("message")];
            let said: Vec<String> = parts.into_iter().filter(|part| !part.is_empty()).collect();
            match said.as_slice() {
                [] => found.column("kind"),
                _ => said.join(" | "),
            }
        }
        _ => text,
    }
}

/// Escapes what a terminal could act on, and shortens to `width` characters.
fn fit(text: &str, width: usize) -> String {
    let mut fitted = String::new();
    let mut used = 0;
    for character in text.chars() {
        let shown: String = if is_unsafe_to_print(character) {
            character.escape_default().to_string()
        } else {
            character.to_string()
        };
        used += shown.chars().count();
        if used > width {
            while fitted.chars().count() >= width {
                fitted.pop();
            }
            fitted.push('…');
            break;
        }
        fitted.push_str(&shown);
    }
    fitted
}

/// Control characters, and those that reorder or hide what stands around them.
pub fn is_unsafe_to_print(character: char) -> bool {
    character.is_control()
        || matches!(
            character,
            '\u{200b}'..='\u{200f}' | '\u{2028}'..='\u{202e}' | '\u{2060}'..='\u{206f}' | '\u{feff}'
        )
}

/// A JSON text with JSON's own escapes for what a terminal could act on. Such characters stand in
/// strings alone.
fn json_for_terminal(json: &str) -> String {
    let mut shown = String::with_capacity(json.len());
    for character in json.chars() {
        if is_unsafe_to_print(character) {
            shown.push_str(&format!("\\u{:04x}", u32::from(character)));
        } else {
            shown.push(character);
        }
    }
    shown
}

/// RFC 4180, and no cell that a spreadsheet takes for a formula (OWASP, "CSV Injection"), also where it
/// takes a semicolon, a tab or a line end inside a cell for the end of the cell. Control characters other
/// than line ends and tabs are escaped, and so are those that reorder text: CSV is looked at in terminals
/// too.
fn csv_cell(text: &str) -> String {
    let mut safe = String::with_capacity(text.len() + 2);
    let mut at_start = true;
    let mut formula = false;
    for character in text.chars() {
        // A tab or a line end at the very beginning is taken away by some.
        let hides_one = safe.is_empty() && matches!(character, '\t' | '\r' | '\n');
        if hides_one || (at_start && begins_a_formula(character)) {
            formula = true;
            safe.push('\'');
        }
        match character {
            '\t' | '\r' | '\n' => safe.push(character),
            other if is_unsafe_to_print(other) => safe.extend(other.escape_default()),
            other => safe.push(other),
        }
        // Spreadsheets pass over white space before a formula.
        at_start = (at_start && character.is_whitespace())
            || matches!(character, ';' | '\t' | '\r' | '\n');
    }
    if formula || safe.contains([',', ';', '"', '\t', '\r', '\n']) {
        format!("\"{}\"", safe.replace('"', "\"\""))
    } else {
        safe
    }
}

/// What a formula begins with, in letters of either width.
const fn begins_a_formula(character: char) -> bool {
    matches!(character, '=' | '+' | '-' | '@' | '＝' | '＋' | '－' | '＠')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn now() -> Timestamp {
        "2026-11-21T12:00:00Z".parse().unwrap()
    }

    #[test]
    fn times_are_absolute_or_ago() {
        for (text, expected) in [
            ("2026-11-20T10:00:00Z", "2026-11-20T10:00:00Z"),
            ("2026-11-20T10:00:00+02:00", "2026-11-20T08:00:00Z"),
            ("2026-11-20", "2026-11-20T00:00:00Z"),
            ("1h", "2026-11-21T11:00:00Z"),
            ("1h30m", "2026-11-21T10:30:00Z"),
            ("7d", "2026-11-14T12:00:00Z"),
            ("15m ago", "2026-11-21T11:45:00Z"),
        ] {
            assert_eq!(parse_time(text, now()).unwrap(), expected.parse().unwrap(), "{text}");
        }
        for text in
            ["", "1", "h", "1x", "yesterday", "99999999999999999999d", "1h-1h", "9999999999999w"]
        {
            assert!(parse_time(text, now()).is_err(), "{text}");
        }
    }

    #[test]
    fn csv_cells_are_quoted_and_never_formulas() {
        assert_eq!(csv_cell("plain"), "plain");
        assert_eq!(csv_cell("a,\"b\""), "\"a,\"\"b\"\"\"");
        assert_eq!(csv_cell("a\u{1b}[2Jb"), "a\\u{1b}[2Jb");
        assert_eq!(csv_cell("=1+1"), "\"'=1+1\"");
        for start in ['+', '-', '@', '\t', '\r'] {
            assert!(csv_cell(&format!("{start}x")).starts_with("\"'"), "{start:?}");
        }
        assert_eq!(csv_cell("  =1+1"), "\"  '=1+1\"");
        assert_eq!(csv_cell("＝1"), "\"'＝1\"");
        assert_eq!(csv_cell("a;=1;b"), "\"a;'=1;b\"");
        assert_eq!(csv_cell("a\n@x"), "\"a\n'@x\"");
        assert_eq!(csv_cell("SELECT 1;\nSELECT 2"), "\"SELECT 1;\nSELECT 2\"");
        assert_eq!(csv_cell("a = b - 1"), "a = b - 1", "inside it is none");
        assert_eq!(csv_cell("a\u{202e}b\u{9b}c"), "a\\u{202e}b\\u{9b}c");
    }

    #[test]
    fn json_on_a_terminal_moves_nothing_and_means_the_same() {
        let text = "é \u{9b}2J \u{7f} \u{202e} \u{feff} \u{1f600}";
        let json = serde_json::to_string(&serde_json::json!({ "a": text })).unwrap();
        let shown = json_for_terminal(&json);
        assert!(!shown.chars().any(is_unsafe_to_print), "{shown}");
        assert!(shown.contains("\\u009b2J \\u007f \\u202e"), "{shown}");
        let back: Value = serde_json::from_str(&shown).unwrap();
        assert_eq!(back["a"], text);
    }

    #[test]
    fn terminal_escapes_do_not_reach_the_table() {
        assert_eq!(fit("a\u{1b}[2Jb", 40), "a\\u{1b}[2Jb");
        assert_eq!(fit("abcdef", 4), "abc…");
        assert_eq!(fit("ab\u{202e}cd", 40), "ab\\u{202e}cd");
        assert_eq!(fit("", 4), "");
    }

    #[test]
    fn a_record_is_found_by_each_of_its_fields() {
        let event = super::super::tests::denial();
        let rendered = super::super::ocsf::render(
            &event,
            &super::super::ocsf::Extra::None,
            "chain",
            None,
            |_| String::new(),
        );
        let found = Found::read(&rendered.line).unwrap();
        let yes = |filter: Filter| assert!(filter.matches(&found), "{filter:?}");
        let no = |filter: Filter| assert!(!filter.matches(&found), "{filter:?}");
        let some = |text: &str| Some(text.to_owned());
        yes(Filter::default());
        yes(Filter { tenant: some("8d1f"), decision: some("deny"), ..Filter::default() });
        yes(Filter { reason: some("hr1003"), ..Filter::default() });
        yes(Filter { reason: some("NOT known"), ..Filter::default() });
        yes(Filter { code: some("HR1003"), subject: some("alice"), ..Filter::default() });
        no(Filter { tenant: some("8d1"), ..Filter::default() });
        no(Filter { decision: some("allow"), ..Filter::default() });
        no(Filter { code: some("HR1004"), ..Filter::default() });
        no(Filter {
            since: Some(event.time + jiff::SignedDuration::from_secs(1)),
            ..Filter::default()
        });
        yes(Filter {
            until: Some(event.time + jiff::SignedDuration::from_secs(1)),
            ..Filter::default()
        });
        assert_eq!(found.column("relations"), "public.orders");
        assert_eq!(found.column("object"), "secrets");
    }
}
