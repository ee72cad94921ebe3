//! Which segments are old enough to go. Layer 3.
//!
//! Only whole closed segments go, from the beginning of a chain. Of the chain at hand its own
//! retention record accounts for them; a chain that ended goes when all of it is old.

use super::head::Head;
use super::segment::{SegmentFile, sync_parent};
use std::collections::BTreeMap;
use std::fs;
use std::io;
use std::path::Path;
use std::time::{Duration, SystemTime};

/// Segments past their age.
pub(super) struct Aged {
    /// Of the chain at hand: an unbroken run from its first segment that is still there.
    pub(super) own: Vec<SegmentFile>,
    /// Of chains that ended: all of each.
    ended: BTreeMap<String, Vec<SegmentFile>>,
}

/// Finds the segments last written more than `age` ago; `current` is being written and stays.
pub(super) fn aged(directory: &Path, chain: &str, current: u64, age: Duration) -> io::Result<Aged> {
    let Some(limit) = SystemTime::now().checked_sub(age) else {
        return Ok(Aged { own: Vec::new(), ended: BTreeMap::new() });
    };
    let is_old = |segment: &SegmentFile| {
        fs::metadata(&segment.path)
            .and_then(|metadata| metadata.modified())
            .is_ok_and(|modified| modified < limit)
    };
    let (own, others): (Vec<_>, Vec<_>) =
        SegmentFile::list(directory)?.into_iter().partition(|segment| segment.chain == chain);
    let own = own.into_iter().take_while(|s| s.number < current && is_old(s)).collect();
    let mut ended: BTreeMap<String, Vec<SegmentFile>> = BTreeMap::new();
    for segment in others {
        ended.entry(segment.chain.clone()).or_default().push(segment);
    }
    ended.retain(|_, segments| segments.iter().all(is_old));
    Ok(Aged { own, ended })
}

impl Aged {
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
