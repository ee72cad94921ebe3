//! `audit verify`: walks every chain of the given files and directories and names the first
//! record that does not fit. Layer 3; constant memory.

use super::head::{Head, head_is_garbled};
use super::key::TrustedKeys;
use super::segment::{Line, SegmentFile, read_line};
use super::walk::{Fault, Walk};
use crate::mutant;
use std::collections::{BTreeMap, BTreeSet};
use std::fs::File;
use std::io::{self, BufReader};
use std::path::{Path, PathBuf};

/// What to verify, and how.
#[derive(Clone, Debug)]
pub struct Verification<'a> {
    /// Segment files, or directories of them.
    pub paths: &'a [PathBuf],
    /// The keys that may have signed checkpoints.
    pub keys: &'a TrustedKeys,
    /// Whether the last segment of each chain may lack its checkpoint.
    pub open: bool,
}

/// What was found intact.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Intact {
    /// Each chain.
    pub chains: Vec<IntactChain>,
}

/// One intact chain.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IntactChain {
    /// Its id.
    pub chain: String,
    /// Segments read.
    pub segments: u64,
    /// Records read, checkpoints included.
    pub records: u64,
    /// Sequence number of the first record read.
    pub first_sequence: u64,
    /// Sequence number of the last record read.
    pub last_sequence: u64,
    /// Whether the last segment is closed by its checkpoint.
    pub closed: bool,
}

/// Why verification did not succeed.
#[derive(Debug, thiserror::Error)]
pub enum VerifyError {
    /// Something does not fit: the trail is broken.
    #[error("{}{}{}: {fault}", path.display(), position(*line), sequence_note(*sequence))]
    Broken {
        /// The file, or the directory when a file is missing.
        path: PathBuf,
        /// The line, from 1; 0: not about a line.
        line: u64,
        /// The sequence number that should stand there, where known.
        sequence: Option<u64>,
        /// What does not fit.
        fault: Fault,
    },
    /// A path that is no segment.
    #[error("{}: not an audit segment (audit-<chain>-<number>.jsonl)", .0.display())]
    NotASegment(PathBuf),
    /// Nothing to verify.
    #[error("no audit segments found")]
    Nothing,
    /// A file cannot be read.
    #[error("{}: {source}", path.display())]
    Unreadable {
        /// The file.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
}

fn position(line: u64) -> String {
    if line == 0 { String::new() } else { format!(":{line}") }
}

fn sequence_note(sequence: Option<u64>) -> String {
    sequence.map_or_else(String::new, |sequence| format!(" (sequence {sequence})"))
}

/// The segments below the paths, each once, in order of chain and number.
///
/// # Errors
/// When a path cannot be read or is no segment.
pub fn segments_of(paths: &[PathBuf]) -> Result<Vec<SegmentFile>, VerifyError> {
    let mut segments = BTreeSet::new();
    for path in paths {
        let unreadable = |source| VerifyError::Unreadable { path: path.clone(), source };
        if std::fs::metadata(path).map_err(unreadable)?.is_dir() {
            segments.extend(SegmentFile::list(path).map_err(unreadable)?);
        } else {
            let segment = SegmentFile::from_path(path)
                .ok_or_else(|| VerifyError::NotASegment(path.clone()))?;
            segments.insert(segment);
        }
    }
    Ok(segments.into_iter().collect())
}

/// How far a verification has come.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub struct Progress {
    /// Records read so far.
    pub records: u64,
    /// Their bytes.
    pub bytes: u64,
    /// Bytes of all segments, as they were at the start.
    pub total_bytes: u64,
}

/// Verifies. `progress` is called now and then.
///
/// # Errors
/// [`VerifyError::Broken`] for the first thing that does not fit; others when it cannot be checked.
pub fn verify(
    what: &Verification<'_>,
    mut progress: impl FnMut(Progress),
) -> Result<Intact, VerifyError> {
    let directories: Vec<&PathBuf> = what.paths.iter().filter(|path| path.is_dir()).collect();
    let mut chains: BTreeMap<String, Chain> = BTreeMap::new();
    // Heads first: the trail may be growing, and a head must not be ahead of the list of files.
    for directory in &directories {
        let unreadable = |source| VerifyError::Unreadable { path: (*directory).clone(), source };
        for chain in Head::chains(directory).map_err(unreadable)? {
            let head = read_head(directory, &chain, what.keys)?;
            chains.entry(chain).or_default().head = head;
        }
    }
    let mut so_far = Progress::default();
    for segment in segments_of(what.paths)? {
        let length = std::fs::metadata(&segment.path).map_or(0, |metadata| metadata.len());
        so_far.total_bytes = so_far.total_bytes.saturating_add(length);
        chains.entry(segment.chain.clone()).or_default().segments.push(segment);
    }
    if chains.is_empty() {
        return Err(VerifyError::Nothing);
    }
    let mut intact = Intact::default();
    for (chain, Chain { segments, head }) in chains {
        let summary = verify_chain(what, &chain, &segments, head, &mut |records, bytes| {
            so_far.records = so_far.records.saturating_add(records);
            so_far.bytes = so_far.bytes.saturating_add(bytes);
            progress(so_far);
        })?;
        intact.chains.push(summary);
    }
    Ok(intact)
}

/// The files of a chain.
#[derive(Default)]
struct Chain {
    segments: Vec<SegmentFile>,
    /// The head and where it lies, when a whole directory is verified.
    head: Option<(PathBuf, Head)>,
}

/// Reads and checks the head of a chain.
fn read_head(
    directory: &Path,
    chain: &str,
    keys: &TrustedKeys,
) -> Result<Option<(PathBuf, Head)>, VerifyError> {
    let path = Head::path(directory, chain);
    match Head::read(directory, chain) {
        Ok(None) => Ok(None),
        Ok(Some(head)) => match head.check(chain, keys) {
            Ok(()) => Ok(Some((path, head))),
            Err(fault) => Err(broken(&path, 0, None, fault)),
        },
        Err(error) if head_is_garbled(&error) => Err(broken(&path, 0, None, Fault::Head)),
        Err(source) => Err(VerifyError::Unreadable { path, source }),
    }
}

fn verify_chain(
    what: &Verification<'_>,
    chain: &str,
    segments: &[SegmentFile],
    head: Option<(PathBuf, Head)>,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<IntactChain, VerifyError> {
    let mut walk = Walk::new(chain, what.keys);
    let mut records = 0;
    let mut first_sequence = None;
    let mut head_met = false;
    for (index, segment) in segments.iter().enumerate() {
        let last = index + 1 == segments.len();
        records += walk_segment(&mut walk, segment, what.open && last, progress)?;
        first_sequence = first_sequence.or(walk.segment().and_then(|view| view.first_sequence));
        if let Some((path, head)) = &head
            && head.segment == segment.number
        {
            if walk.tip() != head.tip().as_ref() {
                return Err(broken(path, 0, None, Fault::Head));
            }
            head_met = true;
        }
    }
    let last_number = segments.last().map_or(0, |segment| segment.number);
    if let Some((path, head)) = &head
        && !head_met
        && !mutant::on("head")
        && head.segment > last_number
    {
        return Err(broken(path, 0, None, Fault::MissingEnd { segment: head.segment }));
    }
    check_beginning(what, segments, &walk)?;
    Ok(IntactChain {
        chain: chain.to_owned(),
        segments: segments.len() as u64,
        records,
        first_sequence: first_sequence.unwrap_or(0),
        last_sequence: walk.tip().map_or(0, |tip| tip.sequence),
        closed: walk.segment().is_some_and(|segment| segment.closed),
    })
}

/// Where a whole directory is verified, segments missing at the beginning must have been deleted
/// by retention, which says so in the chain.
fn check_beginning(
    what: &Verification<'_>,
    segments: &[SegmentFile],
    walk: &Walk<'_>,
) -> Result<(), VerifyError> {
    let Some(first) = segments.first() else { return Ok(()) };
    let missing = first.number.saturating_sub(1);
    let whole_directory = first
        .path
        .parent()
        .filter(|parent| what.paths.iter().any(|path| path.is_dir() && path.as_path() == *parent));
    match whole_directory {
        Some(directory) if missing > walk.retained_through() => {
            Err(broken(directory, 0, None, Fault::MissingBeginning { last: missing }))
        }
        Some(_) | None => Ok(()),
    }
}

/// Walks one file; answers the number of its records.
fn walk_segment(
    walk: &mut Walk<'_>,
    segment: &SegmentFile,
    open: bool,
    progress: &mut dyn FnMut(u64, u64),
) -> Result<u64, VerifyError> {
    /// Records between two calls of `progress`.
    const STEP: u64 = 1_000;
    let path = &segment.path;
    let unreadable = |source| VerifyError::Unreadable { path: path.clone(), source };
    walk.begin_segment(segment.number).map_err(|fault| broken(path, 0, None, fault))?;
    let mut input = BufReader::with_capacity(1 << 16, File::open(path).map_err(unreadable)?);
    let mut buffer = Vec::new();
    let mut number = 0;
    let mut bytes = 0;
    loop {
        let expected = walk.tip().map(|tip| tip.sequence.saturating_add(1));
        let outcome = match read_line(&mut input, &mut buffer).map_err(unreadable)? {
            Line::End => break,
            Line::Whole => walk.line(&buffer),
            // While the segment is being written, its last line may be half there.
            Line::Unfinished if open => break,
            Line::Unfinished => Err(Fault::CutOff),
            Line::TooLong => Err(Fault::TooLong),
        };
        number += 1;
        outcome.map_err(|fault| broken(path, number, expected, fault))?;
        bytes += buffer.len() as u64 + 1;
        if number % STEP == 0 {
            progress(STEP, std::mem::take(&mut bytes));
        }
    }
    progress(number % STEP, bytes);
    let next = walk.tip().map(|tip| tip.sequence.saturating_add(1));
    walk.end_segment(open).map_err(|fault| broken(path, number + 1, next, fault))?;
    Ok(number)
}

/// A fault and where it is.
pub(super) fn broken(path: &Path, line: u64, sequence: Option<u64>, fault: Fault) -> VerifyError {
    VerifyError::Broken { path: path.to_owned(), line, sequence, fault }
}
