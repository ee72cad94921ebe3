//! Reads segments into the index, and goes on reading as they grow. Layer 5.
//!
//! The newest files are read first, so that the page is of use early; what does not fit the index's
//! bound is left in its file. A file that was replaced, cut or changed is read anew.

use std::collections::{HashMap, VecDeque};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::sync::Mutex;
use std::time::SystemTime;

use super::places::Place;
use super::{Shared, lock, write};
use crate::audit::vigil::{Stamp, read_lines};
use crate::console::index::{Batch, Segment};

/// Bytes of a file that are read in one go.
const PART: u64 = 64 << 20;
/// Bytes of names that one part may bring.
const NAMES: usize = 32 << 20;
/// Rows that wait at least before they are sorted into the index.
const PENDING: usize = 20_000;

/// What was read of each file.
#[derive(Default)]
pub(super) struct Reader {
    files: HashMap<PathBuf, Reading>,
}

/// How far a file was read.
struct Reading {
    file: u32,
    stamp: Stamp,
    offset: u64,
    /// Whether a line was longer than any record: nothing behind it is read.
    stuck: bool,
}

/// A part of a file that is to be read.
struct Part {
    path: PathBuf,
    file: u32,
    offset: u64,
    /// Lines before it.
    lines: u32,
    length: u64,
}

/// What came of it.
struct Outcome {
    path: PathBuf,
    offset: u64,
    stuck: bool,
}

impl Reader {
    /// Reads what is new.
    pub(super) fn pass(&mut self, places: &[Place], shared: &Shared) {
        let parts = self.plan(places, shared);
        if parts.is_empty() {
            return;
        }
        let total: u64 = parts.iter().map(|part| part.length.saturating_sub(part.offset)).sum();
        shared.progress.begin(total);
        for outcome in read_parts(parts, shared) {
            if let Some(reading) = self.files.get_mut(&outcome.path) {
                reading.offset = reading.offset.max(outcome.offset);
                reading.stuck |= outcome.stuck;
            }
        }
    }

    /// What there is to read, the newest file first.
    fn plan(&mut self, places: &[Place], shared: &Shared) -> VecDeque<Part> {
        let mut seen: HashMap<PathBuf, ()> = HashMap::new();
        let mut parts: Vec<(SystemTime, Part)> = Vec::new();
        for place in places {
            // What cannot be looked at now is not gone for that.
            let Ok(survey) = &place.survey else {
                let here = self.files.keys().filter(|path| path.starts_with(&place.directory));
                seen.extend(here.map(|path| (path.clone(), ())));
                continue;
            };
            for chain in survey.chains() {
                for segment in survey.segments(chain) {
                    seen.insert(segment.path.clone(), ());
                    let Ok(stamp) = Stamp::of(&segment.path) else { continue };
                    let known = self.file(&segment.path, stamp, shared, |index| {
                        let source = index.source(&place.directory, chain);
                        Segment::new(segment.path.clone(), source, segment.number)
                    });
                    let Some((file, offset, lines)) = known else { continue };
                    let modified = std::fs::metadata(&segment.path).and_then(|m| m.modified());
                    let path = segment.path.clone();
                    let part = Part { path, file, offset, lines, length: stamp.length() };
                    parts.push((modified.unwrap_or(SystemTime::UNIX_EPOCH), part));
                }
            }
        }
        let gone: Vec<PathBuf> =
            self.files.keys().filter(|path| !seen.contains_key(*path)).cloned().collect();
        for path in gone {
            if let Some(reading) = self.files.remove(&path) {
                write(&shared.index).forget(reading.file);
            }
        }
        parts.sort_by(|(one, _), (other, _)| other.cmp(one));
        parts.into_iter().map(|(_, part)| part).collect()
    }

    /// The file's number, where to read on, and the lines before that; `None`: nothing is new.
    fn file(
        &mut self,
        path: &Path,
        stamp: Stamp,
        shared: &Shared,
        segment: impl FnOnce(&mut crate::console::index::Index) -> Segment,
    ) -> Option<(u32, u64, u32)> {
        if let Some(reading) = self.files.get_mut(path) {
            if reading.stamp == stamp {
                return None;
            }
            let same = reading.stamp.same_file(&stamp)
                && stamp.length() >= reading.offset
                && stamp.length() != reading.stamp.length();
            if same {
                reading.stamp = stamp;
                let lines = super::read(&shared.index).segment(reading.file).map_or(0, |s| s.lines);
                return (!reading.stuck).then_some((reading.file, reading.offset, lines));
            }
            write(&shared.index).forget(reading.file);
        }
        let mut index = write(&shared.index);
        let segment = segment(&mut index);
        let file = index.begin(segment);
        drop(index);
        self.files.insert(path.to_owned(), Reading { file, stamp, offset: 0, stuck: false });
        Some((file, 0, 0))
    }
}

/// Reads parts on all cores and sorts their rows into the index as they come.
fn read_parts(parts: VecDeque<Part>, shared: &Shared) -> Vec<Outcome> {
    let threads = std::thread::available_parallelism().map_or(1, usize::from).min(8);
    let queue = Mutex::new(parts);
    let outcomes = Mutex::new(Vec::new());
    let pending: Mutex<Vec<(u32, Batch)>> = Mutex::new(Vec::new());
    let flush = |at_least: usize| {
        let mut pending = lock(&pending);
        let rows: usize = pending.iter().map(|(_, batch)| batch.rows.len()).sum();
        if pending.is_empty() || rows < at_least {
            return;
        }
        let batches = std::mem::take(&mut *pending);
        // Held until they are in: parts of one file must not overtake each other.
        write(&shared.index).add(batches);
        drop(pending);
    };
    let work = || {
        loop {
            let Some(part) = lock(&queue).pop_front() else { return };
            let full = {
                let index = super::read(&shared.index);
                index.is_full() || index.dropped > 0
            };
            if full && part.offset == 0 && shared.progress.building() {
                shared.progress.skip(part.length);
                lock(&outcomes).push(Outcome { path: part.path, offset: 0, stuck: true });
                continue;
            }
            let Some((batch, end, stuck)) = read_part(&part, shared) else { continue };
            let lines = part.lines.saturating_add(batch.line_count());
            lock(&pending).push((part.file, batch));
            lock(&outcomes).push(Outcome { path: part.path.clone(), offset: end, stuck });
            if !stuck && end > part.offset && part.length.saturating_sub(end) > 0 {
                let more = end.saturating_sub(part.offset) >= PART;
                if more {
                    lock(&queue).push_front(Part { offset: end, lines, ..part });
                }
            }
            let rows = super::read(&shared.index).rows().len();
            flush(rows / 4 + PENDING);
        }
    };
    if lock(&queue).len() == 1 {
        work();
    } else {
        std::thread::scope(|scope| {
            for _ in 0..threads {
                scope.spawn(work);
            }
        });
    }
    flush(0);
    outcomes.into_inner().unwrap_or_else(std::sync::PoisonError::into_inner)
}

/// Reads one part: its rows, where the next begins, and whether a line was too long.
fn read_part(part: &Part, shared: &Shared) -> Option<(Batch, u64, bool)> {
    let hash = shared.hash.clone();
    let mut batch = Batch::new(NAMES);
    let mut told = part.offset;
    let stop = part.offset.saturating_add(PART);
    let read = read_lines(&part.path, part.offset, |offset, line| {
        batch.line(part.file, part.lines, offset, line, &hash);
        let end = offset.saturating_add(line.len() as u64).saturating_add(1);
        if end.saturating_sub(told) > 1 << 20 {
            shared.progress.read(end.saturating_sub(told));
            told = end;
        }
        if end >= stop { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    });
    match read {
        Ok((end, whole)) => {
            shared.progress.read(end.saturating_sub(told));
            Some((batch, end, !whole))
        }
        Err(error) => {
            tracing::warn!(file = %part.path.display(), %error, "cannot be read");
            None
        }
    }
}
