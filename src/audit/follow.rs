//! Reads the trail as it grows, for those who carry it elsewhere. Layer 3.
//!
//! A [`Follower`] never meets the hot path: it reads the segment files. It goes no further than what
//! is known to be on disk, so that nobody elsewhere has a record that the trail may still lose (a
//! power failure would give its sequence number to another record).
//!
//! Records that are gone before they were read are told as [`Missed`], with their number where the
//! sequence tells it.

use super::segment::{Line, SegmentFile, read_line};
use serde::{Deserialize, Serialize};
use std::fs::File;
use std::io::{self, BufReader, Seek as _, SeekFrom};
use std::path::{Path, PathBuf};

/// How far the trail is known to be on disk.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Durable {
    /// The chain that is being written.
    pub chain: String,
    /// Its newest segment.
    pub segment: u64,
    /// Bytes of that segment that are on disk; segments before it are there as a whole.
    pub offset: u64,
    /// Sequence number of the last record on disk.
    pub sequence: u64,
}

/// How far somebody has read.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Position {
    /// The chain.
    pub chain: String,
    /// The segment.
    pub segment: u64,
    /// Bytes of it that were read.
    pub offset: u64,
    /// Sequence number of the last record that was read; 0: none of this chain.
    pub sequence: u64,
}

/// What a reader needs to know of a record without reading all of it.
#[derive(Clone, Debug, Deserialize)]
pub struct Outline {
    metadata: Metadata,
    severity_id: u8,
    /// Milliseconds since 1970.
    time: u64,
    unmapped: Unmapped,
}

#[derive(Clone, Debug, Deserialize)]
struct Metadata {
    sequence: u64,
    uid: String,
}

#[derive(Clone, Debug, Deserialize)]
struct Unmapped {
    hedgerow: Own,
}

#[derive(Clone, Debug, Deserialize)]
struct Own {
    chain: String,
    code: Option<String>,
    decision: String,
    kind: String,
    tenant: Option<String>,
    time: String,
}

/// One record of a batch.
#[derive(Clone, Debug)]
pub struct Record {
    /// The line as it is in the file, without newline.
    pub line: String,
    outline: Outline,
}

impl Record {
    fn read(line: &[u8]) -> Option<Self> {
        let line = std::str::from_utf8(line).ok()?.to_owned();
        let outline = serde_json::from_str(&line).ok()?;
        Some(Self { line, outline })
    }

    /// Its chain: with the sequence, the key by which a repeat is known.
    pub fn chain(&self) -> &str {
        &self.outline.unmapped.hedgerow.chain
    }

    /// Its sequence number.
    pub fn sequence(&self) -> u64 {
        self.outline.metadata.sequence
    }

    /// Its id.
    pub fn uid(&self) -> &str {
        &self.outline.metadata.uid
    }

    /// OCSF's severity, 1 to 5.
    pub fn severity(&self) -> u8 {
        self.outline.severity_id
    }

    /// When, in milliseconds since 1970.
    pub fn milliseconds(&self) -> u64 {
        self.outline.time
    }

    /// When, as RFC 3339 with microseconds.
    pub fn time(&self) -> &str {
        &self.outline.unmapped.hedgerow.time
    }

    /// The denial code, if there is one.
    pub fn code(&self) -> Option<&str> {
        self.outline.unmapped.hedgerow.code.as_deref()
    }

    /// The decision's word.
    pub fn decision(&self) -> &str {
        &self.outline.unmapped.hedgerow.decision
    }

    /// The word of its kind.
    pub fn kind(&self) -> &str {
        &self.outline.unmapped.hedgerow.kind
    }

    /// The tenant, if there is one.
    pub fn tenant(&self) -> Option<&str> {
        self.outline.unmapped.hedgerow.tenant.as_deref()
    }
}

/// Records of one segment, one after the other.
#[derive(Debug)]
pub struct Batch {
    /// The records; never none.
    pub records: Vec<Record>,
    /// Where the batch ends.
    pub end: Position,
}

/// Records that were gone before they were read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Missed {
    /// The chain.
    pub chain: String,
    /// The last sequence number that was read.
    pub after: u64,
    /// How many are known to be gone; 0: the chain ended, and how far it went is not known.
    pub records: u64,
}

/// What there is to read.
#[derive(Debug)]
pub enum Step {
    /// Records.
    Batch(Batch),
    /// Records are gone: [`Follower::position`] is behind them now.
    Missed(Missed),
    /// Nothing more is on disk.
    Idle,
}

/// How much a batch may hold.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Bounds {
    /// Records.
    pub records: usize,
    /// Bytes, with newlines; one record may go beyond.
    pub bytes: u64,
    /// Not beyond this offset in the segment.
    pub until: u64,
}

/// A reader of one directory.
#[derive(Debug)]
pub struct Follower {
    directory: PathBuf,
    position: Option<Position>,
}

impl Follower {
    /// A reader that goes on behind `position`; without one, at the oldest record that is there.
    pub fn new(directory: &Path, position: Option<Position>) -> Self {
        Self { directory: directory.to_owned(), position }
    }

    /// How far it was told to be: see [`Follower::advance`].
    pub fn position(&self) -> Option<&Position> {
        self.position.as_ref()
    }

    /// The records up to here need not be read again.
    pub fn advance(&mut self, to: Position) {
        self.position = Some(to);
    }

    /// Reads what follows the position, and stays there: the same call again gives the same records,
    /// and more behind them.
    ///
    /// # Errors
    /// When the directory or a file cannot be read.
    pub fn read(&mut self, durable: &Durable, bounds: Bounds) -> io::Result<Step> {
        loop {
            let segments = SegmentFile::list(&self.directory)?;
            let Some(segment) = self.wanted(&segments) else { return Ok(Step::Idle) };
            let here = match &self.position {
                Some(at) if at.chain == segment.chain && at.segment == segment.number => at.clone(),
                Some(at) if at.chain == segment.chain => {
                    Position { segment: segment.number, offset: 0, ..at.clone() }
                }
                Some(_) | None => Position {
                    chain: segment.chain.clone(),
                    segment: segment.number,
                    offset: 0,
                    sequence: 0,
                },
            };
            let writing = segment.chain == durable.chain && segment.number >= durable.segment;
            let end = match (writing, segment.number == durable.segment) {
                (true, true) => durable.offset,
                // A segment that is younger than what is known to be on disk.
                (true, false) => 0,
                (false, _) => u64::MAX,
            }
            .min(bounds.until);
            match read_segment(segment, &here, end, bounds) {
                Err(error) if error.kind() == io::ErrorKind::NotFound => {}
                Err(error) => return Err(error),
                Ok(Some(batch)) => return Ok(self.in_sequence(batch, &here)),
                Ok(None) if writing => return Ok(Step::Idle),
                // The segment is closed and read: on to the next one.
                Ok(None) => match segments.iter().find(|later| *later > segment) {
                    Some(next) if next.chain == here.chain => {
                        self.position = Some(Position { segment: next.number, offset: 0, ..here });
                    }
                    Some(next) => {
                        self.position = Some(Position {
                            chain: next.chain.clone(),
                            segment: next.number,
                            offset: 0,
                            sequence: 0,
                        });
                    }
                    None => return Ok(Step::Idle),
                },
            }
        }
    }

    /// The segment that holds what follows the position, or what is left behind it.
    fn wanted<'a>(&self, segments: &'a [SegmentFile]) -> Option<&'a SegmentFile> {
        let Some(at) = &self.position else { return segments.first() };
        segments.iter().find(|segment| {
            (segment.chain.as_str(), segment.number) >= (at.chain.as_str(), at.segment)
        })
    }

    /// Holds the batch to the sequence. What is missing before it is told first.
    fn in_sequence(&mut self, batch: Batch, here: &Position) -> Step {
        let (Some(first), Some(before)) = (batch.records.first(), &self.position) else {
            return Step::Batch(batch);
        };
        let expected = before.sequence.saturating_add(1);
        let same_chain = first.chain() == before.chain;
        if same_chain && (before.sequence == 0 || first.sequence() == expected) {
            return Step::Batch(batch);
        }
        let missed = Missed {
            chain: before.chain.clone(),
            after: before.sequence,
            records: if same_chain { first.sequence().saturating_sub(expected) } else { 0 },
        };
        if !same_chain && before.sequence == 0 {
            return Step::Batch(batch);
        }
        self.position =
            Some(Position { sequence: first.sequence().saturating_sub(1), ..here.clone() });
        Step::Missed(missed)
    }
}

/// Whole lines of a segment between the position and `end`. `None`: there is none.
fn read_segment(
    segment: &SegmentFile,
    here: &Position,
    end: u64,
    bounds: Bounds,
) -> io::Result<Option<Batch>> {
    let mut file = File::open(&segment.path)?;
    file.seek(SeekFrom::Start(here.offset))?;
    let mut input = BufReader::with_capacity(1 << 16, file);
    let mut at = here.clone();
    let mut records = Vec::new();
    let mut buffer = Vec::new();
    while at.offset < end
        && records.len() < bounds.records
        && at.offset.saturating_sub(here.offset) < bounds.bytes
    {
        match read_line(&mut input, &mut buffer)? {
            Line::Whole => {}
            // What has no end is no record: the writer is not there yet, or it is evidence.
            Line::End | Line::Unfinished | Line::TooLong => break,
        }
        let after = at.offset.saturating_add(buffer.len() as u64 + 1);
        if after > end {
            break;
        }
        at.offset = after;
        // What is no record belongs to a chain that was broken, and stays there as evidence.
        if let Some(record) = Record::read(&buffer) {
            at.sequence = record.sequence();
            records.push(record);
        }
    }
    Ok((!records.is_empty()).then_some(Batch { records, end: at }))
}
