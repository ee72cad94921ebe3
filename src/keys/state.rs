//! The key sets in force, and when they are read anew. Layer 4.
//!
//! A set stays in force until a good one replaces it: a failed refresh drops nothing. Each change
//! is a new [`Snapshot`] with a higher version; the version is part of the cache's key, so that a
//! removed key takes its cached tokens with it. One fetch at a time for each source.

use std::sync::{Arc, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};

use arc_swap::ArcSwap;

use super::source::{Door, LoadError};
use super::{KeySource, Timing};
use crate::identity::{KeySet, crypto};
use crate::mutant;

/// The keys of every issuer at one moment.
pub(super) struct Snapshot {
    /// Grows with each change of any set.
    pub(super) version: u64,
    /// In the order of the issuers; `None` until the first good read.
    pub(super) sets: Vec<Option<Arc<KeySet>>>,
}

/// All sources and their current keys.
pub(super) struct State {
    sources: Vec<Source>,
    current: ArcSwap<Snapshot>,
    timing: Timing,
}

struct Source {
    name: String,
    is_secret: bool,
    is_url: bool,
    door: Door,
    /// Held while a read is under way: single flight.
    flight: tokio::sync::Mutex<Flight>,
    last_success: Mutex<Instant>,
}

/// What the last reads of a source left behind.
#[derive(Default)]
struct Flight {
    /// Hash of the content in force.
    digest: Option<[u8; 32]>,
    /// When an unknown key last caused a read.
    last_on_demand: Option<Instant>,
    /// The last failure, so that the log tells each once.
    last_failure: Option<String>,
}

impl State {
    /// State without keys yet.
    pub(super) fn new(doors: Vec<(KeySource, Door)>, timing: Timing) -> Self {
        let sets = vec![None; doors.len()];
        let sources = doors
            .into_iter()
            .map(|(source, door)| Source {
                name: source.to_string(),
                is_secret: source.is_secret(),
                is_url: matches!(door, Door::Url { .. }),
                door,
                flight: tokio::sync::Mutex::default(),
                last_success: Mutex::new(Instant::now()),
            })
            .collect();
        Self { sources, current: ArcSwap::from_pointee(Snapshot { version: 0, sets }), timing }
    }

    /// The keys in force.
    pub(super) fn current(&self) -> Arc<Snapshot> {
        self.current.load_full()
    }

    /// Whether every issuer has keys.
    pub(super) fn complete(&self) -> bool {
        self.current.load().sets.iter().all(Option::is_some)
    }

    /// How long ago the most neglected JWKS was last read well (or waited for since the start).
    pub(super) fn oldest_age(&self) -> Option<Duration> {
        let jwks = self.sources.iter().filter(|source| !source.is_secret);
        jwks.map(|source| lock(&source.last_success).elapsed()).max()
    }

    /// Reads a source now.
    ///
    /// # Errors
    /// [`LoadError`]; the keys in force stay.
    pub(super) async fn reload(&self, index: usize) -> Result<(), LoadError> {
        match self.sources.get(index) {
            Some(source) => {
                let mut flight = source.flight.lock().await;
                self.reload_alone(index, source, &mut flight).await
            }
            None => Ok(()),
        }
    }

    /// Reads a source because a token names a key that the snapshot `seen` does not hold; at most
    /// once in each interval. Returns when the read, or someone else's meanwhile, is over.
    pub(super) async fn reload_for_unknown_key(self: Arc<Self>, index: usize, seen: u64) {
        // A task of its own: a client that hangs up must not take the read, and with it this
        // interval's only chance, away from the others.
        let task = tokio::spawn(async move {
            let Some(source) = self.sources.get(index) else { return };
            let mut flight = source.flight.lock().await;
            let recent = |at: Instant| at.elapsed() < self.timing.unknown_key_interval;
            if self.current.load().version != seen
                || flight.last_on_demand.is_some_and(recent) && !mutant::on("fetch-flood")
            {
                return;
            }
            flight.last_on_demand = Some(Instant::now());
            // The failure is logged there; the token is refused by the keys in force.
            let _ = self.reload_alone(index, source, &mut flight).await;
        });
        let _ = task.await;
    }

    /// Keeps one source fresh, for ever.
    pub(super) async fn watch(self: Arc<Self>, index: usize) {
        let Some(is_url) = self.sources.get(index).map(|source| source.is_url) else { return };
        let usual = if is_url { self.timing.url_refresh } else { self.timing.file_poll };
        let loaded = self.current.load().sets.get(index).is_some_and(Option::is_some);
        let mut delay = if loaded { usual } else { self.timing.first_retry };
        let mut backoff = self.timing.first_retry;
        loop {
            tokio::time::sleep(delay).await;
            match self.reload(index).await {
                Ok(()) => {
                    delay = usual;
                    backoff = self.timing.first_retry;
                }
                // A file is polled on; a server is given time.
                Err(_) if !is_url => delay = usual,
                Err(_) => {
                    delay = backoff;
                    backoff = backoff.saturating_mul(2).min(self.timing.longest_retry);
                }
            }
        }
    }

    /// One read, with the flight held.
    async fn reload_alone(
        &self,
        index: usize,
        source: &Source,
        flight: &mut Flight,
    ) -> Result<(), LoadError> {
        match self.read_and_publish(index, source, flight).await {
            Ok(()) => {
                *lock(&source.last_success) = Instant::now();
                if flight.last_failure.take().is_some() {
                    tracing::info!(source = %source.name, "keys can be read again");
                }
                Ok(())
            }
            Err(error) => {
                let text = error.to_string();
                if flight.last_failure.as_ref() != Some(&text) {
                    let then = match flight.digest {
                        Some(_) => "the last good keys stay in force",
                        None => "there are no keys yet",
                    };
                    tracing::warn!(source = %source.name, "the key source {text}; {then}");
                    flight.last_failure = Some(text);
                }
                Err(error)
            }
        }
    }

    async fn read_and_publish(
        &self,
        index: usize,
        source: &Source,
        flight: &mut Flight,
    ) -> Result<(), LoadError> {
        let content = match source.door.read().await {
            Err(_) if mutant::on("failed-fetch") => b"{\"keys\": []}".to_vec(),
            read => read?,
        };
        let digest = crypto::sha256(&content);
        if flight.digest == Some(digest) {
            return Ok(());
        }
        let keys = source.door.parse(&content)?;
        for skipped in keys.skipped() {
            tracing::warn!(source = %source.name, "key left out: {skipped}");
        }
        tracing::info!(source = %source.name, keys = keys.len(), "keys loaded");
        let keys = Arc::new(keys);
        self.current.rcu(|current| {
            let mut sets = current.sets.clone();
            if let Some(place) = sets.get_mut(index) {
                *place = Some(Arc::clone(&keys));
            }
            let next = current.version + u64::from(!mutant::on("keys-version"));
            Snapshot { version: next, sets }
        });
        flight.digest = Some(digest);
        Ok(())
    }
}

/// A poisoned lock holds nothing that a panic could have left half done.
fn lock<T>(mutex: &Mutex<T>) -> MutexGuard<'_, T> {
    mutex.lock().unwrap_or_else(PoisonError::into_inner)
}
