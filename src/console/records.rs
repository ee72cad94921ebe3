//! Reads records from where the index says they are. Layer 5.
//!
//! A file may have been replaced since: what is no record any more is `None`, never a guess.

use std::collections::HashMap;
use std::fs::File;
use std::io;
use std::ops::ControlFlow;
use std::os::unix::fs::FileExt as _;
use std::path::Path;

use super::index::Segment;
use crate::audit::search::Found;
use crate::audit::vigil::read_lines;

/// Longest line that is read, in bytes; no record comes near.
const LONGEST: usize = 4 << 20;
/// How much is read at first: most records fit.
const FIRST: usize = 4_096;

/// Files that are open for one request.
#[derive(Default)]
pub(super) struct Files {
    open: HashMap<u32, File>,
    buffer: Vec<u8>,
}

impl Files {
    /// Most files that stay open.
    const MOST: usize = 32;

    /// The line that begins at an offset, without its newline; `None` when there is no whole line.
    pub(super) fn line(
        &mut self,
        file: u32,
        path: &Path,
        offset: u64,
    ) -> io::Result<Option<&[u8]>> {
        if !self.open.contains_key(&file) {
            if self.open.len() >= Self::MOST {
                self.open.clear();
            }
            self.open.insert(file, File::open(path)?);
        }
        let Some(input) = self.open.get(&file) else { return Ok(None) };
        let mut filled = 0_usize;
        loop {
            let wanted = if filled == 0 { FIRST } else { filled.saturating_mul(4) };
            if self.buffer.len() < wanted {
                self.buffer.resize(wanted, 0);
            }
            let Some(room) = self.buffer.get_mut(filled..wanted) else { return Ok(None) };
            let read = input.read_at(room, offset.saturating_add(filled as u64))?;
            let fresh = self.buffer.get(filled..filled.saturating_add(read)).unwrap_or(&[]);
            if let Some(end) = fresh.iter().position(|&byte| byte == b'\n') {
                return Ok(self.buffer.get(..filled.saturating_add(end)));
            }
            filled = filled.saturating_add(read);
            if read == 0 || filled > LONGEST {
                return Ok(None);
            }
        }
    }

    /// The record there; `None` when it cannot be read or is none.
    pub(super) fn record(&mut self, file: u32, path: &Path, offset: u64) -> Option<Found> {
        let mut found = Found::read(self.line(file, path, offset).ok()??)?;
        // Personal fields that are sealed stay so here, and say that they are.
        found.reveal(None);
        Some(found)
    }
}

/// The bytes of a line of a segment, by number, with its offset.
///
/// # Errors
/// When the file cannot be read.
pub(super) fn line_of(segment: &Segment, line: u32) -> io::Result<Option<(u64, Vec<u8>)>> {
    // What the index has no places of is read from its beginning.
    let (offset, mut number) = segment.place_before(line).unwrap_or((0, 1));
    let mut found = None;
    read_lines(&segment.path, offset, |at, bytes| {
        if number == line {
            found = Some((at, bytes.to_vec()));
            return ControlFlow::Break(());
        }
        number = number.saturating_add(1);
        ControlFlow::Continue(())
    })?;
    Ok(found)
}

/// A text that is looked for in records, letters of either case.
pub(super) struct Needle {
    text: String,
    /// Whether the text stands in the raw line as it is, so that most lines can be passed over
    /// without being parsed.
    plain: bool,
}

/// The fields that are looked at.
const SEARCHED: &[&str] = &[
    "record",
    "code",
    "reason",
    "object",
    "tenant",
    "subject",
    "issuer",
    "token_id",
    "application_name",
    "client_user",
    "client_address",
    "database",
    "statement",
    "fingerprint",
    "relations",
    "session",
    "message",
    "chain",
    "kind",
    "upstream",
    "result_code",
];

impl Needle {
    /// A needle.
    pub(super) fn new(text: &str) -> Self {
        let text = text.to_lowercase();
        let unescaped = |byte: u8| byte.is_ascii_graphic() && !matches!(byte, b'"' | b'\\');
        // Relations are put together of several fields: `name (rule), …`.
        let plain = text
            .bytes()
            .all(|byte| (unescaped(byte) || byte == b' ') && !matches!(byte, b'(' | b')' | b','));
        Self { text, plain }
    }

    /// Whether a line holds it in one of the fields that are looked at.
    pub(super) fn is_in(&self, line: &[u8], scratch: &mut String) -> bool {
        if self.plain {
            let Ok(text) = std::str::from_utf8(line) else { return false };
            scratch.clear();
            scratch.push_str(text);
            scratch.make_ascii_lowercase();
            if !scratch.contains(&self.text) {
                return false;
            }
        }
        Found::read(line).is_some_and(|found| self.is_in_record(&found))
    }

    /// The same of a record.
    pub(super) fn is_in_record(&self, found: &Found) -> bool {
        SEARCHED.iter().any(|name| found.column(name).to_lowercase().contains(&self.text))
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(statement: &str) -> Vec<u8> {
        serde_json::json!({
            "metadata": {"uid": "0190"},
            "query_info": {"query_string": statement},
            "unmapped": {"hedgerow": {"code": "HR1004", "application_name": "Ün \"quoted\"",
                "relations": [{"relation": "public.a", "rule": "public.*"}]}},
        })
        .to_string()
        .into_bytes()
    }

    #[test]
    fn needles_are_found_in_values_and_not_in_the_names_of_fields() {
        let line = line("SELECT * FROM Vault");
        let mut scratch = String::new();
        for text in ["vault", "hr1004", "ün", "\"quoted\"", "public.a (public.*)", "from VAULT"] {
            assert!(Needle::new(text).is_in(&line, &mut scratch), "{text}");
        }
        for text in ["query_string", "metadata", "vaults", "hedgerow"] {
            assert!(!Needle::new(text).is_in(&line, &mut scratch), "{text}");
        }
    }

    #[test]
    fn lines_of_any_length_are_read_and_torn_ones_are_not() {
        let directory = tempfile::tempdir().unwrap();
        let path = directory.path().join("x");
        let long = "x".repeat(100_000);
        std::fs::write(&path, format!("short\n{long}\ntorn")).unwrap();
        let mut files = Files::default();
        assert_eq!(files.line(0, &path, 0).unwrap(), Some(b"short".as_slice()));
        assert_eq!(files.line(0, &path, 6).unwrap().unwrap().len(), long.len());
        assert_eq!(files.line(0, &path, 100_007).unwrap(), None);
        assert_eq!(files.line(0, &path, 1 << 40).unwrap(), None);
        assert!(files.line(1, &directory.path().join("none"), 0).is_err());
        let segment = Segment::new(path, 0, 1);
        assert_eq!(line_of(&segment, 1).unwrap(), Some((0, b"short".to_vec())));
        assert_eq!(line_of(&segment, 3).unwrap(), None);
    }
}
