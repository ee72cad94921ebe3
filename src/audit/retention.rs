//! Which segments are to go: for their age, or for the size of the directory. Layer 3.
//!
//! Only whole closed segments go, from the beginning of a chain. Of the chain at hand its own
//! retention record accounts for them; a chain that ended goes when all of it is old, or before any
//! of the chain at hand when the directory is too large.

use super::cursor::Cursor;
use super::head::Head;
use super::segment::{SegmentFile, sync_parent};
use std::collections::BTreeMap;
use std::fmt;
use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// How much may stay.
pub(super) struct Limits {
    /// Not what was last written longer ago than this.
    pub(super) age: Option<Duration>,
    /// Not more than this many bytes of segments.
    pub(super) total_size: Option<u64>,
    /// The segment of the chain at hand that is being written, and stays.
    pub(super) current: u64,
}

/// Segments that are to go.
pub(super) struct Expired {
    /// Of the chain at hand: an unbroken run from its first segment that is still there.
    pub(super) own: Vec<SegmentFile>,
    /// Of chains that ended: all of each.
    ended: BTreeMap<String, Vec<SegmentFile>>,
    for_size: bool,
}

/// A segment with what the limits are about.
struct Measured {
    file: SegmentFile,
    size: u64,
    old: bool,
}

/// Finds what is beyond the limits.
pub(super) fn expired(directory: &Path, chain: &str, limits: &Limits) -> io::Result<Expired> {
    let youngest = limits.age.and_then(|age| SystemTime::now().checked_sub(age));
    let mut total = 0_u64;
    let mut own = Vec::new();
    let mut ended: BTreeMap<String, Vec<Measured>> = BTreeMap::new();
    for file in SegmentFile::list(directory)? {
        let Ok(metadata) = fs::metadata(&file.path) else { continue };
        let old = youngest
            .is_some_and(|youngest| metadata.modified().is_ok_and(|modified| modified < youngest));
        let measured = Measured { file, size: metadata.len(), old };
        total = total.saturating_add(measured.size);
        if measured.file.chain == chain {
            own.push(measured);
        } else {
            ended.entry(measured.file.chain.clone()).or_default().push(measured);
        }
    }
    let mut expired = Expired { own: Vec::new(), ended: BTreeMap::new(), for_size: false };
    for (chain, segments) in ended {
        let too_large = limits.total_size.is_some_and(|most| total > most);
        if segments.iter().all(|segment| segment.old) || too_large {
            expired.for_size |= too_large;
            total = total.saturating_sub(segments.iter().map(|segment| segment.size).sum());
            let files = segments.into_iter().map(|segment| segment.file).collect();
            expired.ended.insert(chain, files);
        }
    }
    for segment in own {
        let too_large = limits.total_size.is_some_and(|most| total > most);
        if segment.file.number >= limits.current || !(segment.old || too_large) {
            break;
        }
        expired.for_size |= too_large;
        total = total.saturating_sub(segment.size);
        expired.own.push(segment.file);
    }
    Ok(expired)
}

impl Expired {
    /// Whether everything may stay.
    pub(super) fn is_empty(&self) -> bool {
        self.own.is_empty() && self.ended.is_empty()
    }

    /// Why they go, for people.
    pub(super) fn reason(&self) -> &'static str {
        if self.for_size { "the size of the directory" } else { "their age" }
    }

    /// The sinks that have not delivered all of it.
    pub(super) fn needed_by(&self, directory: &Path, chain: &str, sinks: &[String]) -> Vec<String> {
        let last = match (self.own.last(), self.ended.last_key_value()) {
            (Some(last), _) => Some((chain, last.number)),
            (None, Some((chain, segments))) => {
                segments.last().map(|last| (chain.as_str(), last.number))
            }
            (None, None) => None,
        };
        let Some((chain, segment)) = last else { return Vec::new() };
        sinks
            .iter()
            .filter(|sink| match Cursor::read(directory, sink) {
                Ok(cursor) => !cursor.is_past(chain, segment),
                // A cursor that cannot be read vouches for nothing.
                Err(_) => true,
            })
            .cloned()
            .collect()
    }

    /// Deletes them, oldest first.
    pub(super) fn delete(self, directory: &Path) {
        let remove = |path: &Path| {
            if let Err(error) = fs::remove_file(path)
                && error.kind() != io::ErrorKind::NotFound
            {
                tracing::warn!(path = %path.display(), %error, "audit retention: not deleted");
            }
        };
        for (chain, segments) in &self.ended {
            segments.iter().for_each(|segment| remove(&segment.path));
            remove(&Head::path(directory, chain));
        }
        self.own.iter().for_each(|segment| remove(&segment.path));
        // Deleting again after a crash does no harm, so a failure here needs no answer.
        let _ = sync_parent(&directory.join("any"));
    }
}

impl fmt::Display for Expired {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let chains: Vec<&str> = self.ended.keys().map(String::as_str).collect();
        match (self.own.last(), chains.as_slice()) {
            (Some(last), []) => write!(f, "segments up to {}", last.number),
            (Some(last), chains) => write!(
                f,
                "segments up to {} and the ended chains {}",
                last.number,
                chains.join(", ")
            ),
            (None, chains) => write!(f, "the ended chains {}", chains.join(", ")),
        }
    }
}
