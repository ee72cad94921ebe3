//! Watches the audit files: one thread reads them into the index, another verifies them. Layer 5.
//!
//! Both look anew every second. They never write, and nothing in a file stops them: what is torn,
//! forged or gone is counted, shown, or said in the source's [`Standing`].

mod places;
mod reader;
mod verifier;

use std::hash::RandomState;
use std::path::PathBuf;
use std::sync::atomic::{AtomicBool, AtomicU64, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, RwLock, RwLockReadGuard, RwLockWriteGuard};
use std::time::Duration;

pub(super) use verifier::Standing;

use super::index::Index;
use crate::audit::TrustedKeys;

/// Between two looks at the files.
const EVERY: Duration = Duration::from_millis(1_000);

/// What the watching threads keep for the pages.
pub(super) struct Shared {
    pub(super) index: RwLock<Index>,
    /// What is known of each source, in the order of their directories.
    pub(super) standings: RwLock<Vec<Standing>>,
    pub(super) progress: Progress,
    hash: RandomState,
}

/// How far the first reading has come, in bytes.
#[derive(Default)]
pub(super) struct Progress {
    total: AtomicU64,
    read: AtomicU64,
    /// Segments that were left out, for the index is full.
    skipped: AtomicU64,
    built: AtomicBool,
    stop: AtomicBool,
}

impl Progress {
    fn begin(&self, total: u64) {
        if self.building() {
            self.total.fetch_add(total, Ordering::Relaxed);
        }
    }

    fn read(&self, bytes: u64) {
        self.read.fetch_add(bytes, Ordering::Relaxed);
    }

    fn skip(&self, bytes: u64) {
        self.read.fetch_add(bytes, Ordering::Relaxed);
        self.skipped.fetch_add(1, Ordering::Relaxed);
    }

    /// Whether the first reading is still going on.
    pub(super) fn building(&self) -> bool {
        !self.built.load(Ordering::Acquire)
    }

    /// Bytes read, and bytes there are.
    pub(super) fn bytes(&self) -> (u64, u64) {
        (self.read.load(Ordering::Relaxed), self.total.load(Ordering::Relaxed))
    }

    /// Segments that the index has no room for.
    pub(super) fn skipped(&self) -> u64 {
        self.skipped.load(Ordering::Relaxed)
    }

    fn stopped(&self) -> bool {
        self.stop.load(Ordering::Acquire)
    }
}

/// Reads a lock, whatever became of the thread that wrote last: rows are replaced as a whole, and a
/// page of a security team must not go dark.
pub(super) fn read<T>(lock: &RwLock<T>) -> RwLockReadGuard<'_, T> {
    lock.read().unwrap_or_else(PoisonError::into_inner)
}

fn write<T>(lock: &RwLock<T>) -> RwLockWriteGuard<'_, T> {
    lock.write().unwrap_or_else(PoisonError::into_inner)
}

fn lock<T>(lock: &Mutex<T>) -> MutexGuard<'_, T> {
    lock.lock().unwrap_or_else(PoisonError::into_inner)
}

/// The watching threads. They end soon after this is dropped.
pub(super) struct Watch {
    pub(super) shared: Arc<Shared>,
}

impl Drop for Watch {
    fn drop(&mut self) {
        self.shared.progress.stop.store(true, Ordering::Release);
    }
}

/// Begins to watch. `keys`: the keys to trust; without them those that lie beside the records.
///
/// # Errors
/// When the system gives no thread.
pub(super) fn watch(
    paths: Vec<PathBuf>,
    keys: Option<TrustedKeys>,
    memory: u64,
) -> std::io::Result<Watch> {
    let index = Index::new(memory);
    let hash = index.hasher();
    let shared = Arc::new(Shared {
        index: RwLock::new(index),
        standings: RwLock::new(Vec::new()),
        progress: Progress::default(),
        hash,
    });
    let watch = Watch { shared: Arc::clone(&shared) };
    let (reading, verifying) = (Arc::clone(&shared), shared);
    let read_paths = paths.clone();
    std::thread::Builder::new().name("console-read".to_owned()).spawn(move || {
        let mut reader = reader::Reader::default();
        while !reading.progress.stopped() {
            reader.pass(&places::look(&read_paths), &reading);
            reading.progress.built.store(true, Ordering::Release);
            std::thread::sleep(EVERY);
        }
    })?;
    std::thread::Builder::new().name("console-verify".to_owned()).spawn(move || {
        let mut verifier = verifier::Verifier::new(keys);
        while !verifying.progress.stopped() {
            // The sources are shown from the start; their records are verified when they are read.
            let settled =
                verifier.pass(&places::look(&paths), &verifying, !verifying.progress.building());
            if settled {
                std::thread::sleep(EVERY.min(Duration::from_millis(500)));
            }
        }
    })?;
    Ok(watch)
}
