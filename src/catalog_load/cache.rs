//! Catalogs of all databases in use: loaded once, watched, reloaded when the schema changed.
//! Layer 4.
//!
//! A database has one kept session with the upstream. Every [`WATCH_INTERVAL`] it is asked for a
//! fingerprint of the schema; when that differs, the catalog is read anew on a fresh session, which
//! is kept in the old one's place. The last good catalog stays until there is a better one.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::Duration;

use arc_swap::ArcSwapOption;
use dashmap::DashMap;
use tokio::sync::Mutex;
use tokio::time::{Instant, sleep, sleep_until};
use tokio_util::sync::{CancellationToken, DropGuard};

use super::connect::{Session, connect};
use super::queries::{self, Fingerprint, Loaded};
use super::{LoadError, MAX_DATABASE_NAME};
use crate::catalog::Catalog;
use crate::endpoint::Endpoint;
use crate::ids::CatalogEpoch;

/// How often the upstream is asked whether the schema changed.
pub const WATCH_INTERVAL: Duration = Duration::from_secs(2);
/// The watch takes at most one part in so many of one upstream backend's time.
const WATCH_SHARE: u32 = 100;
/// Longest pause between two looks when the upstream cannot be reached.
const MAX_BACK_OFF: Duration = Duration::from_secs(60);
/// Least time between two looks at one database, whoever asks.
const LOOK_INTERVAL: Duration = Duration::from_millis(250);
/// Most databases: each keeps a catalog in memory and a session with the upstream.
const MAX_DATABASES: usize = 256;

/// The catalogs of one upstream, by database. Cheap to clone; watching ends with the last clone.
#[derive(Clone)]
pub struct Catalogs(Arc<Inner>);

struct Inner {
    upstream: Arc<Upstream>,
    databases: DashMap<String, Arc<Slot>>,
    stop: CancellationToken,
    _stop_watchers: DropGuard,
}

struct Upstream {
    endpoint: Endpoint,
    /// The last epoch given out. Epochs are unique across databases, so that a cache key that holds
    /// one needs no database.
    epoch: AtomicU64,
}

/// One database.
struct Slot {
    database: String,
    current: ArcSwapOption<Catalog>,
    watch: Mutex<Watch>,
}

/// The kept session, and what the last look said.
#[derive(Default)]
struct Watch {
    session: Option<Session>,
    seen: Option<Seen>,
    last: Option<Look>,
    watched: bool,
}

/// What the current catalog was read from.
struct Seen {
    fingerprint: Fingerprint,
    search_path: String,
}

/// Which catalog will do.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Wanted {
    /// Any that is there.
    Any,
    /// One as of now or later.
    Now,
}

/// One look at the upstream.
struct Look {
    begun: Instant,
    ended: Instant,
    outcome: Result<Arc<Catalog>, LoadError>,
}

impl Catalogs {
    /// Catalogs of the databases of `endpoint`; nothing is loaded yet.
    pub fn new(endpoint: Endpoint) -> Self {
        let stop = CancellationToken::new();
        Self(Arc::new(Inner {
            upstream: Arc::new(Upstream { endpoint, epoch: AtomicU64::new(0) }),
            databases: DashMap::new(),
            _stop_watchers: stop.clone().drop_guard(),
            stop,
        }))
    }

    /// The last good catalog of `database`; loaded now if there is none yet. Who asks while another
    /// is loading gets that one's outcome. The first load starts the watch in the background.
    ///
    /// # Errors
    /// [`LoadError`] when there is no catalog and none could be loaded.
    pub async fn current(&self, database: &str) -> Result<Arc<Catalog>, LoadError> {
        let slot = self.slot(database)?;
        if let Some(catalog) = slot.current.load_full() {
            return Ok(catalog);
        }
        self.look(&slot, Wanted::Any).await
    }

    /// The last good catalog of `database`, if one was ever loaded.
    pub fn known(&self, database: &str) -> Option<Arc<Catalog>> {
        self.0.databases.get(database).and_then(|slot| slot.current.load_full())
    }

    /// The database's catalogs from now on, if one was ever loaded: for who asks at each statement.
    pub fn follow(&self, database: &str) -> Option<Followed> {
        let slot = self.0.databases.get(database)?;
        slot.current.load().is_some().then(|| Followed(Arc::clone(&slot)))
    }

    /// The catalog of `database` as of now or later: for when a name is unknown that may just have
    /// been created. Looks are at least 250 ms apart for each database (the call waits), and an
    /// unchanged schema keeps its catalog and epoch, so that asking for unknown names costs no
    /// one's caches.
    ///
    /// # Errors
    /// [`LoadError`] when the upstream could not be asked; [`Catalogs::current`] still has the last
    /// good catalog.
    pub async fn refresh(&self, database: &str) -> Result<Arc<Catalog>, LoadError> {
        let slot = self.slot(database)?;
        self.look(&slot, Wanted::Now).await
    }

    /// The databases that have a catalog or are loading one, in order of name.
    pub fn databases(&self) -> Vec<String> {
        let mut names: Vec<_> = self.0.databases.iter().map(|slot| slot.key().clone()).collect();
        names.sort();
        names
    }

    async fn look(&self, slot: &Arc<Slot>, wanted: Wanted) -> Result<Arc<Catalog>, LoadError> {
        // The look goes on when the asking session goes away: others may be waiting for it.
        let (upstream, looking) = (Arc::clone(&self.0.upstream), Arc::clone(slot));
        let task = tokio::spawn(async move { looking.look(&upstream, wanted).await });
        let outcome = task.await.unwrap_or(Err(LoadError::ShuttingDown));
        match outcome {
            Ok(catalog) => {
                self.start_watch(slot).await;
                Ok(catalog)
            }
            Err(error) => {
                // A name that never had a catalog is forgotten: names come from clients.
                self.0.databases.remove_if(&slot.database, |_, slot| slot.current.load().is_none());
                Err(error)
            }
        }
    }

    fn slot(&self, database: &str) -> Result<Arc<Slot>, LoadError> {
        if let Some(slot) = self.0.databases.get(database) {
            return Ok(Arc::clone(&slot));
        }
        if database.is_empty() || database.len() > MAX_DATABASE_NAME || database.contains('\0') {
            return Err(LoadError::DatabaseName);
        }
        if self.0.databases.len() >= MAX_DATABASES {
            return Err(LoadError::TooManyDatabases(MAX_DATABASES));
        }
        let slot = self.0.databases.entry(database.to_owned()).or_insert_with(|| {
            Arc::new(Slot {
                database: database.to_owned(),
                current: ArcSwapOption::empty(),
                watch: Mutex::new(Watch::default()),
            })
        });
        Ok(Arc::clone(&slot))
    }

    async fn start_watch(&self, slot: &Arc<Slot>) {
        // A slot that was forgotten while it loaded is not watched: its successor will be.
        if !self.0.databases.get(&slot.database).is_some_and(|kept| Arc::ptr_eq(&kept, slot)) {
            return;
        }
        let mut watch = slot.watch.lock().await;
        if !std::mem::replace(&mut watch.watched, true) {
            let (upstream, slot) = (Arc::clone(&self.0.upstream), Arc::clone(slot));
            let stop = self.0.stop.clone();
            tokio::spawn(async move {
                tokio::select! {
                    () = stop.cancelled() => {}
                    () = slot.keep_watching(&upstream) => {}
                }
            });
        }
    }
}

/// The last good catalog of one database, now and from now on. Cheap to clone and to ask. A database that
/// had a catalog once is never forgotten.
#[derive(Clone)]
pub struct Followed(Arc<Slot>);

impl Followed {
    /// Hands the catalog to `ask`.
    pub fn with<T>(&self, ask: impl FnOnce(&Catalog) -> T) -> Option<T> {
        self.0.current.load().as_deref().map(ask)
    }
}

impl Slot {
    /// Looks at the upstream, unless a look that ran meanwhile has the answer.
    async fn look(&self, upstream: &Upstream, wanted: Wanted) -> Result<Arc<Catalog>, LoadError> {
        let asked = Instant::now();
        let mut watch = self.watch.lock().await;
        if let (Wanted::Any, Some(current)) = (wanted, self.current.load_full()) {
            return Ok(current);
        }
        if let Some(last) = &watch.last {
            // Whoever waited for a look that failed does not start the next one: with an upstream
            // that is down, waiting sessions would queue up time-out behind time-out.
            let failed_meanwhile = last.outcome.is_err() && last.ended >= asked;
            if last.begun >= asked || failed_meanwhile {
                return last.outcome.clone();
            }
            sleep_until(last.ended + LOOK_INTERVAL).await;
        }
        let begun = Instant::now();
        let outcome = self.compare_or_load(&mut watch, upstream).await;
        watch.last = Some(Look { begun, ended: Instant::now(), outcome: outcome.clone() });
        outcome
    }

    async fn compare_or_load(
        &self,
        watch: &mut Watch,
        upstream: &Upstream,
    ) -> Result<Arc<Catalog>, LoadError> {
        if let (Some(session), Some(seen), Some(current)) =
            (watch.session.take(), &watch.seen, self.current.load_full())
        {
            match queries::glance(&session.client).await {
                Ok(glance) => {
                    watch.session = Some(session);
                    if glance.fingerprint == seen.fingerprint
                        && glance.search_path == seen.search_path
                    {
                        return Ok(current);
                    }
                }
                Err(error) => {
                    tracing::debug!(database = self.database, %error, "catalog session lost");
                }
            }
        }
        let (session, loaded) = match self.read(upstream).await {
            // An operator ended it, or the server restarts: that says nothing of the next one. Who waits
            // here for the first catalog is not to be sent away for it.
            Err(error) if error.is_cut_off() => {
                tracing::info!(database = self.database, %error, "catalog read once more");
                self.read(upstream).await?
            }
            outcome => outcome?,
        };
        watch.session = Some(session);
        let unchanged = watch.seen.as_ref().is_some_and(|seen| {
            seen.fingerprint == loaded.fingerprint && seen.search_path == loaded.search_path
        });
        watch.seen =
            Some(Seen { fingerprint: loaded.fingerprint, search_path: loaded.search_path });
        if let (true, Some(current)) = (unchanged, self.current.load_full()) {
            return Ok(current);
        }
        let epoch = 1 + upstream.epoch.fetch_add(1, Ordering::Relaxed);
        let catalog = Arc::new(Catalog { epoch: CatalogEpoch(epoch), ..loaded.catalog });
        tracing::info!(
            database = self.database,
            epoch,
            relations = catalog.relations.len(),
            "catalog loaded"
        );
        self.current.store(Some(Arc::clone(&catalog)));
        Ok(catalog)
    }

    async fn read(&self, upstream: &Upstream) -> Result<(Session, Loaded), LoadError> {
        let mut session = connect(&upstream.endpoint, &self.database).await?;
        let loaded = queries::read(&mut session.client).await?;
        Ok((session, loaded))
    }

    async fn cost_of_last_look(&self) -> Duration {
        let watch = self.watch.lock().await;
        watch.last.as_ref().map_or(Duration::ZERO, |look| look.ended - look.begun)
    }

    async fn keep_watching(&self, upstream: &Upstream) {
        let mut pause = WATCH_INTERVAL;
        let mut failing = false;
        loop {
            sleep(pause).await;
            match self.look(upstream, Wanted::Now).await {
                Ok(_catalog) => {
                    let cost = self.cost_of_last_look().await.saturating_mul(WATCH_SHARE);
                    pause = WATCH_INTERVAL.max(cost).min(MAX_BACK_OFF);
                    if std::mem::take(&mut failing) {
                        tracing::info!(database = self.database, "catalog watched again");
                    }
                }
                Err(error) => {
                    pause = pause.saturating_mul(2).min(MAX_BACK_OFF);
                    if !std::mem::replace(&mut failing, true) {
                        tracing::warn!(database = self.database, %error, "catalog not watched");
                    }
                }
            }
        }
    }
}
