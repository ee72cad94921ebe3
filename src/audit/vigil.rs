//! Follows chains while they grow: what `audit verify` says of a trail, kept up to date. Layer 3.
//!
//! A [`Vigil`] verifies one chain of one directory, a part at a time, and remembers where it is.
//! It begins again from the chain's first record when a file that it has read was changed, went
//! missing without a retention record, or became shorter; the segment that was being written while
//! it was read is read once more when it is closed. It never writes.

use super::chain::Tip;
use super::head::{Head, head_is_garbled};
use super::key::TrustedKeys;
use super::segment::{Line, SegmentFile, read_line};
use super::verify::{VerifyError, broken};
use super::walk::{Fault, Link, SignedCheckpoint, Walk};
use std::collections::BTreeMap;
use std::fs::{self, File};
use std::io::{self, BufReader, Seek as _, SeekFrom};
use std::os::unix::fs::MetadataExt as _;
use std::path::{Path, PathBuf};

/// What tells whether a file is still what was read.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Stamp {
    device: u64,
    inode: u64,
    length: u64,
    // SECURITY: the time of the last change of the inode. Unlike that of the content it cannot be
    // set back by whoever may write the file.
    changed: (i64, i64),
}

impl Stamp {
    /// The stamp of a file as it is now.
    ///
    /// # Errors
    /// When the file cannot be looked at.
    pub fn of(path: &Path) -> io::Result<Self> {
        let metadata = fs::metadata(path)?;
        Ok(Self {
            device: metadata.dev(),
            inode: metadata.ino(),
            length: metadata.len(),
            changed: (metadata.ctime(), metadata.ctime_nsec()),
        })
    }

    /// The file's length, in bytes.
    pub const fn length(&self) -> u64 {
        self.length
    }

    /// Whether it is still the same file, whatever was written to it.
    pub const fn same_file(&self, other: &Self) -> bool {
        self.device == other.device && self.inode == other.inode
    }
}

/// The chains of a directory, as they were at one moment.
#[derive(Debug, Default)]
pub struct Survey {
    chains: BTreeMap<String, Found>,
}

/// The files of one chain.
#[derive(Debug, Default)]
struct Found {
    segments: Vec<SegmentFile>,
    head: Option<io::Result<Head>>,
}

impl Survey {
    /// Looks at a directory: heads first, for the trail may be growing, and a head must not be ahead
    /// of the list of files.
    ///
    /// # Errors
    /// When the directory cannot be read.
    pub fn of(directory: &Path) -> io::Result<Self> {
        let mut survey = Self::default();
        for chain in Head::chains(directory)? {
            let head = Head::read(directory, &chain).transpose();
            survey.chains.entry(chain).or_default().head = head;
        }
        for segment in SegmentFile::list(directory)? {
            survey.chains.entry(segment.chain.clone()).or_default().segments.push(segment);
        }
        Ok(survey)
    }

    /// Files that were named one by one: no heads, and no claim to be whole.
    pub fn of_files(files: impl IntoIterator<Item = SegmentFile>) -> Self {
        let mut survey = Self::default();
        for segment in files {
            survey.chains.entry(segment.chain.clone()).or_default().segments.push(segment);
        }
        survey.chains.values_mut().for_each(|found| found.segments.sort());
        survey
    }

    /// Whether there is nothing.
    pub fn is_empty(&self) -> bool {
        self.chains.is_empty()
    }

    /// The chains, oldest first.
    pub fn chains(&self) -> impl Iterator<Item = &str> {
        self.chains.keys().map(String::as_str)
    }

    /// The segments of a chain, in order.
    pub fn segments(&self, chain: &str) -> &[SegmentFile] {
        self.chains.get(chain).map_or(&[], |found| found.segments.as_slice())
    }
}

/// What is known of a chain.
#[derive(Debug, Default)]
pub struct Standing {
    /// Records that fit, checkpoints included, since the walk began.
    pub records: u64,
    /// Bytes of them.
    pub bytes: u64,
    /// The last record that fits.
    pub sequence: Option<u64>,
    /// The last checkpoint whose signature is right.
    pub checkpoint: Option<SignedCheckpoint>,
    /// The first thing that does not fit: the chain is broken.
    pub fault: Option<VerifyError>,
    /// Whether everything that is there was read.
    pub complete: bool,
    /// Whether the last segment is closed by its checkpoint.
    pub closed: bool,
    /// How often the walk began again, for a file was changed after it had been read.
    pub changed: u64,
}

/// Verifies one chain as it grows.
pub struct Vigil {
    directory: PathBuf,
    chain: String,
    /// Whether the chain's beginning must be there: not where single files were named.
    whole: bool,
    keys: TrustedKeys,
    walk: Walk<'static>,
    /// The walk as it was before the segment at hand.
    before: Walk<'static>,
    place: Option<Place>,
    done: BTreeMap<u64, Done>,
    /// The segments that were there when the chain was found broken.
    broken_listing: Option<Vec<u64>>,
    standing: Standing,
}

/// Where the walk is.
struct Place {
    segment: SegmentFile,
    stamp: Stamp,
    offset: u64,
    line: u64,
    /// Whether the segment was still growing when a part of it was read.
    grew: bool,
}

/// A segment that was read to its end.
struct Done {
    stamp: Stamp,
    tip: Option<Tip>,
}

/// Why a poll stops early.
enum Stop {
    /// The chain is broken.
    Broken(VerifyError),
    /// What was read has changed.
    Changed,
}

impl Vigil {
    /// A follower of a chain. `whole`: the directory is meant to hold the chain from its beginning.
    pub fn new(directory: &Path, chain: &str, whole: bool, keys: TrustedKeys) -> Self {
        let walk = Walk::owning(chain, keys.clone());
        Self {
            directory: directory.to_owned(),
            chain: chain.to_owned(),
            whole,
            keys,
            before: walk.clone(),
            walk,
            place: None,
            done: BTreeMap::new(),
            broken_listing: None,
            standing: Standing::default(),
        }
    }

    /// What is known.
    pub const fn standing(&self) -> &Standing {
        &self.standing
    }

    /// Takes other keys and begins again.
    pub fn trust(&mut self, keys: TrustedKeys) {
        self.keys = keys;
        self.restart();
    }

    /// Reads on, `budget` bytes at most. Call it again and again with a fresh survey.
    pub fn poll(&mut self, survey: &Survey, budget: u64) {
        let empty = Found::default();
        let found = survey.chains.get(&self.chain).unwrap_or(&empty);
        if self.has_changed(found) {
            self.standing.changed = self.standing.changed.saturating_add(1);
            self.restart();
        }
        if self.standing.fault.is_some() {
            return;
        }
        match self.advance(found, budget) {
            Ok(complete) => self.standing.complete = complete,
            Err(Stop::Broken(fault)) => {
                self.standing.fault = Some(fault);
                self.standing.complete = true;
                let numbers = found.segments.iter().map(|segment| segment.number);
                self.broken_listing = Some(numbers.collect());
            }
            Err(Stop::Changed) => {
                self.standing.changed = self.standing.changed.saturating_add(1);
                self.restart();
            }
        }
        self.standing.sequence = self.walk.tip().map(|tip| tip.sequence);
        self.standing.checkpoint = self.walk.checkpoint().cloned();
        self.standing.closed = self.walk.segment().is_some_and(|segment| segment.closed);
    }

    fn restart(&mut self) {
        self.walk = Walk::owning(self.chain.as_str(), self.keys.clone());
        self.before = self.walk.clone();
        self.place = None;
        self.done.clear();
        self.broken_listing = None;
        let changed = self.standing.changed;
        self.standing = Standing { changed, ..Standing::default() };
    }

    /// Whether a file that was read is no longer what it was.
    fn has_changed(&self, found: &Found) -> bool {
        let now = |number: u64| {
            let at = found.segments.iter().find(|segment| segment.number == number)?;
            Stamp::of(&at.path).ok()
        };
        // Those that are missing are looked at when the walk has come to the end: a retention record
        // may account for them.
        let done = self
            .done
            .iter()
            .any(|(&number, done)| now(number).is_some_and(|stamp| stamp != done.stamp));
        let last = found.segments.last().map(|segment| segment.number);
        let place = self.place.as_ref().is_some_and(|place| {
            now(place.segment.number).is_none_or(|stamp| {
                let grows =
                    Some(place.segment.number) == last && stamp.length() > place.stamp.length();
                let put_back = self.standing.fault.is_some() && stamp != place.stamp && !grows;
                !stamp.same_file(&place.stamp) || stamp.length() < place.offset || put_back
            })
        });
        // What was missing may have been put back.
        let listing = self.broken_listing.as_ref().is_some_and(|before| {
            !before.iter().copied().eq(found.segments.iter().map(|segment| segment.number))
        });
        done || place || listing
    }

    /// Answers whether everything was read.
    fn advance(&mut self, found: &Found, budget: u64) -> Result<bool, Stop> {
        let mut left = budget;
        for (index, segment) in found.segments.iter().enumerate() {
            if self.done.contains_key(&segment.number) {
                continue;
            }
            let last = index + 1 == found.segments.len();
            loop {
                self.enter(segment)?;
                let read = self.read_on(segment, last, left)?;
                left = left.saturating_sub(read.bytes);
                if !read.to_the_end {
                    return Ok(false);
                }
                if self.leave(segment, last)? {
                    break;
                }
            }
        }
        let listed = |number| found.segments.iter().any(|segment| segment.number == number);
        let retained = self.walk.retained_through();
        self.done.retain(|&number, _| number > retained || listed(number));
        if self.done.keys().any(|&number| !listed(number)) {
            return Err(Stop::Changed);
        }
        self.check_ends(found).map_err(Stop::Broken)?;
        Ok(true)
    }

    /// Begins a segment, or goes on with it.
    fn enter(&mut self, segment: &SegmentFile) -> Result<(), Stop> {
        if self.place.as_ref().is_some_and(|place| place.segment == *segment) {
            return Ok(());
        }
        let stamp = Stamp::of(&segment.path).map_err(|source| vanished(segment, source))?;
        self.before = self.walk.clone();
        self.walk
            .begin_segment(segment.number)
            .map_err(|fault| Stop::Broken(broken(&segment.path, 0, None, fault)))?;
        self.place =
            Some(Place { segment: segment.clone(), stamp, offset: 0, line: 0, grew: false });
        Ok(())
    }

    /// Reads the segment at hand as far as the budget and the file go.
    fn read_on(&mut self, segment: &SegmentFile, last: bool, budget: u64) -> Result<Read, Stop> {
        let Some(place) = self.place.as_mut() else { return Err(Stop::Changed) };
        let mut file = File::open(&segment.path).map_err(|source| vanished(segment, source))?;
        file.seek(SeekFrom::Start(place.offset)).map_err(|source| vanished(segment, source))?;
        let mut input = BufReader::with_capacity(1 << 16, file);
        let mut buffer = Vec::new();
        let mut bytes = 0;
        while bytes < budget {
            let next = self.walk.tip().map(|tip| tip.sequence.saturating_add(1));
            let line = read_line(&mut input, &mut buffer);
            let outcome = match line.map_err(|source| vanished(segment, source))? {
                Line::End => return Ok(Read { bytes, to_the_end: true }),
                Line::Whole => self.walk.line(&buffer),
                // While the segment is being written, its last line may be half there.
                Line::Unfinished if last => return Ok(Read { bytes, to_the_end: true }),
                Line::Unfinished => Err(Fault::CutOff),
                Line::TooLong => Err(Fault::TooLong),
            };
            place.line = place.line.saturating_add(1);
            outcome
                .map_err(|fault| Stop::Broken(broken(&segment.path, place.line, next, fault)))?;
            let length = (buffer.len() as u64).saturating_add(1);
            place.offset = place.offset.saturating_add(length);
            bytes = bytes.saturating_add(length);
            self.standing.records = self.standing.records.saturating_add(1);
            self.standing.bytes = self.standing.bytes.saturating_add(length);
        }
        Ok(Read { bytes, to_the_end: false })
    }

    /// The end of what is there of the segment: answers whether it is done with.
    fn leave(&mut self, segment: &SegmentFile, last: bool) -> Result<bool, Stop> {
        let Some(place) = self.place.as_mut() else { return Err(Stop::Changed) };
        let closed = self.walk.segment().is_some_and(|view| view.closed);
        if !closed {
            place.grew = true;
            let next = self.walk.tip().map(|tip| tip.sequence.saturating_add(1));
            return match self.walk.end_segment(last) {
                Ok(()) => Ok(true),
                Err(fault) => {
                    let line = place.line.saturating_add(1);
                    Err(Stop::Broken(broken(&segment.path, line, next, fault)))
                }
            };
        }
        let stamp = Stamp::of(&segment.path).map_err(|source| vanished(segment, source))?;
        if place.grew || stamp != place.stamp {
            // What was read while it grew may have been changed behind the walk's back.
            self.standing.records = self.standing.records.saturating_sub(place.line);
            self.standing.bytes = self.standing.bytes.saturating_sub(place.offset);
            self.walk = self.before.clone();
            self.place = None;
            return Ok(false);
        }
        self.done
            .insert(segment.number, Done { stamp: place.stamp, tip: self.walk.tip().cloned() });
        self.place = None;
        Ok(true)
    }

    /// Checks the chain's beginning and its head.
    fn check_ends(&self, found: &Found) -> Result<(), VerifyError> {
        if !self.whole {
            return Ok(());
        }
        let path = Head::path(&self.directory, &self.chain);
        match &found.head {
            None => {}
            Some(Err(error)) if head_is_garbled(error) => {
                return Err(broken(&path, 0, None, Fault::Head));
            }
            Some(Err(error)) => {
                let source = io::Error::new(error.kind(), error.to_string());
                return Err(VerifyError::Unreadable { path, source });
            }
            Some(Ok(head)) => {
                head.check(&self.chain, &self.keys)
                    .map_err(|fault| broken(&path, 0, None, fault))?;
                let last = found.segments.last().map_or(0, |segment| segment.number);
                if head.segment > last {
                    let fault = Fault::MissingEnd { segment: head.segment };
                    return Err(broken(&path, 0, None, fault));
                }
                // The head was read before the segments: the one that it names is closed.
                let there = found.segments.iter().any(|segment| segment.number == head.segment);
                let tip = self.done.get(&head.segment).and_then(|done| done.tip.as_ref());
                if there && tip != head.tip().as_ref() {
                    return Err(broken(&path, 0, None, Fault::Head));
                }
            }
        }
        let first = found.segments.first().map_or(1, |segment| segment.number);
        let missing = first.saturating_sub(1);
        if missing > self.walk.retained_through() {
            let fault = Fault::MissingBeginning { last: missing };
            return Err(broken(&self.directory, 0, None, fault));
        }
        Ok(())
    }
}

/// What one reading brought.
struct Read {
    bytes: u64,
    to_the_end: bool,
}

/// A file that is gone since the survey is looked for again; one that cannot be read is a fault.
fn vanished(segment: &SegmentFile, source: io::Error) -> Stop {
    let gone = fs::symlink_metadata(&segment.path).is_err();
    if gone && source.kind() == io::ErrorKind::NotFound {
        Stop::Changed
    } else {
        Stop::Broken(VerifyError::Unreadable { path: segment.path.clone(), source })
    }
}

/// Checks of one line what can be checked without its neighbours: form and hash.
///
/// # Errors
/// What does not fit.
pub fn check_line(line: &[u8]) -> Result<(), Fault> {
    Link::read(line).map(drop)
}

/// Calls `each` with the offset and the bytes of every whole line of a file from `offset` on, and
/// answers where the next one begins. A last line without a newline is not whole; one that is longer
/// than any record ends the reading, and the answer says so.
///
/// # Errors
/// When the file cannot be read.
pub fn read_lines(
    path: &Path,
    offset: u64,
    mut each: impl FnMut(u64, &[u8]) -> std::ops::ControlFlow<()>,
) -> io::Result<(u64, bool)> {
    let mut file = File::open(path)?;
    file.seek(SeekFrom::Start(offset))?;
    let mut input = BufReader::with_capacity(1 << 18, file);
    let mut buffer = Vec::new();
    let mut at = offset;
    loop {
        match read_line(&mut input, &mut buffer)? {
            Line::End | Line::Unfinished => return Ok((at, true)),
            Line::TooLong => return Ok((at, false)),
            Line::Whole => {
                let here = at;
                at = at.saturating_add(buffer.len() as u64).saturating_add(1);
                if each(here, &buffer).is_break() {
                    return Ok((at, true));
                }
            }
        }
    }
}

#[cfg(test)]
mod tests;
