//! What the index keeps of a record: forty-eight bytes, and where the rest is. Layer 5, pure.

use std::borrow::Cow;

use jiff::Timestamp;
use serde::Deserialize;

use super::Names;
use crate::audit::crosses_tenants;
use crate::error::DenialCode;

/// The outcome, as far as the page tells them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(in crate::console) enum Outcome {
    Allow,
    Rewrite,
    Deny,
    WouldDeny,
    Error,
    /// No word that this version knows.
    Unknown,
}

impl Outcome {
    fn of(word: &str) -> Self {
        match word {
            "allow" => Self::Allow,
            "rewrite" => Self::Rewrite,
            "deny" => Self::Deny,
            "would_deny" => Self::WouldDeny,
            "error" => Self::Error,
            _ => Self::Unknown,
        }
    }
}

/// What kind of thing happened, as far as the page tells them apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
#[repr(u8)]
pub(in crate::console) enum What {
    Statement,
    Authentication,
    Egress,
    Gap,
    Checkpoint,
    /// Start, stop, policies, retention.
    Sidecar,
    Unknown,
}

impl What {
    fn of(word: &str) -> Self {
        match word {
            "statement" => Self::Statement,
            "authentication" => Self::Authentication,
            "egress" => Self::Egress,
            "gap" => Self::Gap,
            "checkpoint" => Self::Checkpoint,
            "policy_change" | "lifecycle" | "retention" => Self::Sidecar,
            _ => Self::Unknown,
        }
    }
}

/// One record.
#[derive(Clone, Copy, Debug)]
pub(in crate::console) struct Row {
    /// Microseconds since 1970.
    pub(in crate::console) time: i64,
    /// Where its line begins.
    pub(in crate::console) offset: u64,
    /// Keyed hash of the statement's fingerprint; 0 when there is none.
    pub(in crate::console) fingerprint: u64,
    /// Number of the file.
    pub(in crate::console) file: u32,
    /// Its line in the file, from 1.
    pub(in crate::console) line: u32,
    pub(in crate::console) tenant: u32,
    /// The application's name.
    pub(in crate::console) service: u32,
    /// Keyed hash of the session, cut to 32 bits; 0 when there is none.
    pub(in crate::console) session: u32,
    /// Number of the denial code.
    pub(in crate::console) code: u16,
    pub(in crate::console) outcome: Outcome,
    /// The upper bit: the record stands for an attempt on other tenants.
    pub(super) what: u8,
}

impl Row {
    const CROSSES: u8 = 0x80;

    /// The order of the index: time, then place.
    pub(in crate::console) const fn key(&self) -> (i64, u32, u32) {
        (self.time, self.file, self.line)
    }

    /// Whether it stands for an attempt on other tenants' data.
    pub(in crate::console) const fn crosses(&self) -> bool {
        self.what & Self::CROSSES != 0
    }

    /// What kind of thing happened.
    pub(in crate::console) const fn what(&self) -> What {
        match self.what & !Self::CROSSES {
            0 => What::Statement,
            1 => What::Authentication,
            2 => What::Egress,
            3 => What::Gap,
            4 => What::Checkpoint,
            5 => What::Sidecar,
            _ => What::Unknown,
        }
    }

    /// Whether something was refused, or would have been.
    pub(in crate::console) const fn refused(&self) -> bool {
        matches!(self.outcome, Outcome::Deny | Outcome::WouldDeny)
    }
}

/// The fields of a line that the index needs.
#[derive(Deserialize)]
struct Line<'a> {
    #[serde(borrow)]
    unmapped: Unmapped<'a>,
}

#[derive(Deserialize)]
struct Unmapped<'a> {
    #[serde(borrow)]
    hedgerow: Own<'a>,
}

#[derive(Deserialize)]
struct Own<'a> {
    #[serde(borrow, default)]
    application_name: Cow<'a, str>,
    #[serde(borrow, default)]
    code: Cow<'a, str>,
    #[serde(borrow, default)]
    decision: Cow<'a, str>,
    #[serde(borrow, default)]
    fingerprint: Cow<'a, str>,
    #[serde(borrow, default)]
    kind: Cow<'a, str>,
    #[serde(borrow, default)]
    session: Cow<'a, str>,
    #[serde(borrow, default)]
    tenant: Cow<'a, str>,
    #[serde(borrow, default)]
    time: Cow<'a, str>,
    #[serde(default)]
    gap: Option<GapFields>,
}

#[derive(Deserialize)]
struct GapFields {
    #[serde(default)]
    lost: u64,
}

/// The tables of names that rows of one batch point into.
#[derive(Debug)]
pub(in crate::console) struct Tables {
    pub(in crate::console) tenants: Names,
    pub(in crate::console) services: Names,
    pub(in crate::console) codes: Names,
}

impl Tables {
    /// Empty tables of at most `limit` bytes together.
    pub(in crate::console) fn new(limit: usize) -> Self {
        Self {
            tenants: Names::new(limit / 2),
            services: Names::new(limit / 2),
            // There are some thirty; whoever forges records makes up no more than these.
            codes: Names::new(64 << 10),
        }
    }
}

/// Whether a code, as written, stands for an attempt on other tenants.
pub(in crate::console) fn code_crosses(code: &str) -> bool {
    DenialCode::ALL.iter().any(|known| known.code() == code && crosses_tenants(*known))
}

/// Reads a line into a row and the number of records that it says are lost; `None` when it is no
/// record.
pub(in crate::console) fn read(
    line: &[u8],
    place: (u32, u32, u64),
    tables: &mut Tables,
    hash: impl Fn(&str) -> u64,
) -> Option<(Row, u64)> {
    let own = serde_json::from_slice::<Line<'_>>(line).ok()?.unmapped.hedgerow;
    let time: Timestamp = own.time.parse().ok()?;
    let (file, number, offset) = place;
    let what = What::of(&own.kind);
    let outcome = Outcome::of(&own.decision);
    let refused = matches!(outcome, Outcome::Deny | Outcome::WouldDeny);
    let crosses = what == What::Egress || (refused && code_crosses(&own.code));
    let session = if own.session.is_empty() { 0 } else { (hash(&own.session) >> 32) as u32 | 1 };
    let row = Row {
        time: time.as_microsecond(),
        offset,
        fingerprint: if own.fingerprint.is_empty() { 0 } else { hash(&own.fingerprint) | 1 },
        file,
        line: number,
        tenant: tables.tenants.number(&own.tenant),
        service: tables.services.number(&own.application_name),
        session,
        code: u16::try_from(tables.codes.number(&own.code)).unwrap_or(Names::OTHER as u16),
        outcome,
        what: what as u8 | if crosses { Row::CROSSES } else { 0 },
    };
    Some((row, own.gap.map_or(0, |gap| gap.lost)))
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_row_is_small_and_says_what_the_page_counts() {
        assert_eq!(size_of::<Row>(), 48);
        let mut tables = Tables::new(1 << 20);
        let line = r#"{"unmapped":{"hedgerow":{"kind":"statement","decision":"deny","code":"HR1011",
            "tenant":"acme","application_name":"a\"b","time":"2026-11-21T09:30:00.000001Z"}}}"#;
        let (row, lost) = read(line.as_bytes(), (1, 2, 3), &mut tables, |_| 7).unwrap();
        assert!(row.crosses() && row.refused() && lost == 0);
        assert_eq!((row.what(), row.session, row.fingerprint), (What::Statement, 0, 0));
        assert_eq!(tables.services.name(row.service), "a\"b");
        for nothing in ["", "{}", "[1]", r#"{"unmapped":{"hedgerow":{"time":"yesterday"}}}"#] {
            assert!(read(nothing.as_bytes(), (0, 0, 0), &mut tables, |_| 0).is_none(), "{nothing}");
        }
    }
}
