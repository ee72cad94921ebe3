//! The index: one [`Row`] a record, sorted by time, within a bound of memory. Layer 5.
//!
//! The files stay the truth: a row says where its record is, and the page reads it from there. Over
//! the bound the oldest rows go; what is gone from the index is still found by its place (chain,
//! segment, line), and counted.

mod names;
mod row;

use std::hash::{BuildHasher as _, RandomState};
use std::path::{Path, PathBuf};

pub(super) use names::Names;
pub(super) use row::{Outcome, Row, Tables, What, code_crosses, read};

/// Every so many lines of a file their place is kept.
const EVERY: u32 = 64;

/// One segment file.
#[derive(Debug)]
pub(super) struct Segment {
    pub(super) path: PathBuf,
    /// Number of its source.
    pub(super) source: u32,
    /// Its number in the chain.
    pub(super) number: u64,
    /// Where line 1, 65, 129 … begin.
    places: Vec<u64>,
    /// Lines so far.
    pub(super) lines: u32,
    /// Lines that are no records.
    pub(super) unreadable: u64,
    /// Records that gap records of this file say are lost.
    pub(super) lost: u64,
    /// Gap records.
    pub(super) gaps: u64,
    /// Whether the file was replaced or deleted: nothing of it is shown any more.
    pub(super) gone: bool,
}

impl Segment {
    /// A segment of which nothing was read.
    pub(super) fn new(path: PathBuf, source: u32, number: u64) -> Self {
        Self {
            path,
            source,
            number,
            places: Vec::new(),
            lines: 0,
            unreadable: 0,
            lost: 0,
            gaps: 0,
            gone: false,
        }
    }

    /// The last place that is known at or before a line, and that place's line.
    pub(super) fn place_before(&self, line: u32) -> Option<(u64, u32)> {
        let index = line.checked_sub(1)? / EVERY;
        let place = self.places.get(usize::try_from(index).ok()?)?;
        Some((*place, index.saturating_mul(EVERY).saturating_add(1)))
    }
}

/// One chain of one directory.
#[derive(Debug)]
pub(super) struct Source {
    pub(super) directory: PathBuf,
    pub(super) chain: String,
}

/// What was read of one file, or of a part of it.
#[derive(Debug)]
pub(super) struct Batch {
    pub(super) rows: Vec<Row>,
    pub(super) tables: Tables,
    places: Vec<u64>,
    lines: u32,
    unreadable: u64,
    lost: u64,
    gaps: u64,
}

impl Batch {
    /// An empty batch; names in it take at most `names` bytes.
    pub(super) fn new(names: usize) -> Self {
        Self {
            rows: Vec::new(),
            tables: Tables::new(names),
            places: Vec::new(),
            lines: 0,
            unreadable: 0,
            lost: 0,
            gaps: 0,
        }
    }

    /// Lines so far.
    pub(super) const fn line_count(&self) -> u32 {
        self.lines
    }

    /// Takes the next line; `first` lines of the file were taken before this batch.
    pub(super) fn line(
        &mut self,
        file: u32,
        first: u32,
        offset: u64,
        line: &[u8],
        hash: &RandomState,
    ) {
        let before = first.saturating_add(self.lines);
        if before.is_multiple_of(EVERY) {
            self.places.push(offset);
        }
        self.lines = self.lines.saturating_add(1);
        let place = (file, before.saturating_add(1), offset);
        match read(line, place, &mut self.tables, |text| hash.hash_one(text)) {
            None => self.unreadable = self.unreadable.saturating_add(1),
            Some((row, lost)) => {
                if row.what() == What::Gap {
                    self.gaps = self.gaps.saturating_add(1);
                    self.lost = self.lost.saturating_add(lost);
                }
                self.rows.push(row);
            }
        }
    }
}

/// The index.
#[derive(Debug)]
pub(super) struct Index {
    /// Sorted by [`Row::key`].
    rows: Vec<Row>,
    pub(super) segments: Vec<Segment>,
    pub(super) sources: Vec<Source>,
    pub(super) tables: Tables,
    /// Most rows.
    limit: usize,
    /// Rows that were left out for the bound.
    pub(super) dropped: u64,
    hash: RandomState,
}

impl Index {
    /// An empty index of at most `memory` bytes.
    pub(super) fn new(memory: u64) -> Self {
        let memory = usize::try_from(memory).unwrap_or(usize::MAX);
        let names = memory / 8;
        Self {
            rows: Vec::new(),
            segments: Vec::new(),
            sources: Vec::new(),
            tables: Tables::new(names),
            limit: (memory.saturating_sub(names) / size_of::<Row>()).max(1),
            dropped: 0,
            hash: RandomState::new(),
        }
    }

    /// The rows, oldest first.
    pub(super) fn rows(&self) -> &[Row] {
        &self.rows
    }

    /// Whether no more rows fit.
    pub(super) fn is_full(&self) -> bool {
        self.rows.len() >= self.limit
    }

    /// The hasher of fingerprints and sessions.
    pub(super) fn hasher(&self) -> RandomState {
        self.hash.clone()
    }

    /// The hash under which rows keep a fingerprint.
    pub(super) fn fingerprint(&self, text: &str) -> u64 {
        if text.is_empty() { 0 } else { self.hash.hash_one(text) | 1 }
    }

    /// The hash under which rows keep a session.
    pub(super) fn session(&self, text: &str) -> u32 {
        if text.is_empty() { 0 } else { (self.hash.hash_one(text) >> 32) as u32 | 1 }
    }

    /// The number of a source, a new one if need be.
    pub(super) fn source(&mut self, directory: &Path, chain: &str) -> u32 {
        let known = self
            .sources
            .iter()
            .position(|source| source.chain == chain && source.directory == directory);
        let index = known.unwrap_or_else(|| {
            self.sources.push(Source { directory: directory.to_owned(), chain: chain.to_owned() });
            self.sources.len().saturating_sub(1)
        });
        u32::try_from(index).unwrap_or(u32::MAX)
    }

    /// The segment that a row is in.
    pub(super) fn segment(&self, file: u32) -> Option<&Segment> {
        self.segments.get(usize::try_from(file).ok()?)
    }

    /// The source of a segment.
    pub(super) fn source_of(&self, segment: &Segment) -> Option<&Source> {
        self.sources.get(usize::try_from(segment.source).ok()?)
    }

    /// Begins a file and answers its number.
    pub(super) fn begin(&mut self, segment: Segment) -> u32 {
        self.segments.push(segment);
        u32::try_from(self.segments.len().saturating_sub(1)).unwrap_or(u32::MAX)
    }

    /// Forgets what was read of a file.
    pub(super) fn forget(&mut self, file: u32) {
        self.rows.retain(|row| row.file != file);
        if let Some(segment) = self.segments.get_mut(file as usize) {
            *segment = Segment {
                gone: true,
                ..Segment::new(segment.path.clone(), segment.source, segment.number)
            };
        }
    }

    /// Takes what was read of files.
    pub(super) fn add(&mut self, batches: Vec<(u32, Batch)>) {
        let mut fresh = Vec::with_capacity(batches.iter().map(|(_, batch)| batch.rows.len()).sum());
        for (file, batch) in batches {
            let tenants = self.tables.tenants.absorb(&batch.tables.tenants);
            let services = self.tables.services.absorb(&batch.tables.services);
            let codes = self.tables.codes.absorb(&batch.tables.codes);
            let to = |numbers: &[u32], number: u32| {
                numbers.get(number as usize).copied().unwrap_or(Names::OTHER)
            };
            fresh.extend(batch.rows.into_iter().map(|row| Row {
                tenant: to(&tenants, row.tenant),
                service: to(&services, row.service),
                code: u16::try_from(to(&codes, u32::from(row.code))).unwrap_or(1),
                ..row
            }));
            if let Some(segment) = self.segments.get_mut(file as usize) {
                segment.places.extend(batch.places);
                segment.lines = segment.lines.saturating_add(batch.lines);
                segment.unreadable = segment.unreadable.saturating_add(batch.unreadable);
                segment.lost = segment.lost.saturating_add(batch.lost);
                segment.gaps = segment.gaps.saturating_add(batch.gaps);
            }
        }
        let Some(earliest) = fresh.iter().map(Row::key).min() else { return };
        let from = self.rows.partition_point(|row| row.key() < earliest);
        self.rows.append(&mut fresh);
        if let Some(tail) = self.rows.get_mut(from..) {
            tail.sort_by_key(Row::key);
        }
        if self.rows.len() > self.limit {
            // A twentieth more than need be, so that not every record moves all others.
            let over = self.rows.len().saturating_sub(self.limit).saturating_add(self.limit / 20);
            let over = over.min(self.rows.len());
            self.rows.drain(..over);
            self.dropped = self.dropped.saturating_add(over as u64);
        }
    }

    /// The rows of a span of time, in microseconds; `until` is not part of it.
    pub(super) fn between(&self, since: Option<i64>, until: Option<i64>) -> &[Row] {
        let from = since.map_or(0, |since| self.rows.partition_point(|row| row.time < since));
        let to = until
            .map_or(self.rows.len(), |until| self.rows.partition_point(|row| row.time < until));
        self.rows.get(from..to.max(from)).unwrap_or(&[])
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn line(second: u32) -> Vec<u8> {
        format!(
            r#"{{"unmapped":{{"hedgerow":{{"kind":"statement","decision":"deny","code":"HR1003",
            "tenant":"t{}","time":"2026-11-21T09:{:02}:{:02}Z"}}}}}}"#,
            second % 3,
            second / 60,
            second % 60
        )
        .into_bytes()
    }

    fn batch(index: &Index, file: u32, seconds: impl Iterator<Item = u32>) -> (u32, Batch) {
        let mut batch = Batch::new(1 << 16);
        for second in seconds {
            let first = index.segments[file as usize].lines;
            batch.line(file, first, u64::from(second), &line(second), &index.hasher());
        }
        (file, batch)
    }

    #[test]
    fn rows_of_several_files_are_one_order_and_the_oldest_go_first() {
        let mut index = Index::new(100 * 48 + 800);
        let source = index.source(Path::new("/a"), "c");
        for number in 0..2 {
            index.begin(Segment::new("/a/x".into(), source, number));
        }
        let batches = vec![batch(&index, 0, (0..40).map(|n| n * 2)), batch(&index, 1, 0..40)];
        index.add(batches);
        assert!(index.rows().is_sorted_by_key(Row::key));
        assert_eq!(index.rows().len(), 80);
        assert_eq!(index.tables.tenants.len(), 5);
        let more = batch(&index, 1, 100..150);
        index.add(vec![more]);
        assert!(index.rows().len() <= 102 && index.dropped > 0);
        assert!(index.rows().is_sorted_by_key(Row::key));
        index.forget(0);
        assert!(index.rows().iter().all(|row| row.file == 1));
        let first = index.rows()[0].time;
        assert_eq!(index.between(Some(first), Some(first + 1)).len(), 1);
        assert_eq!(index.segments[1].place_before(65), Some((124, 65)));
        assert_eq!(index.segments[1].place_before(0), None);
    }
}
