//! What was taken back: a file, and a set in Redis, each looked at every second or two. Layer 4.
//!
//! A file that cannot be read or understood changes nothing: the last good list stays in force, and
//! the log and a metric say so. At start it is an error.
//!
//! Redis that cannot be had changes nothing either. Until it was had once, nobody is let in: what
//! nobody knows might be revoked. A set that is suddenly gone is taken for lost, not for empty: Redis
//! may have been restarted without its data. Whoever takes back the last revocation leaves an empty
//! member in the set.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use arc_swap::{ArcSwap, ArcSwapOption};
use redis::RedisError;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::endpoint::Secret;
use crate::identity::{MAX_REVOCATION_BYTES, RevocationFault, RevocationList, VerifiedIdentity};
use crate::store::Store;

/// Between two looks at the file: revocations hold within seconds.
const POLL: Duration = Duration::from_secs(1);
/// Between two looks at the set in Redis.
const REDIS_POLL: Duration = Duration::from_secs(2);
/// The set in Redis.
const KEY: &str = "hedgerow:revoked";

/// A revocation file that cannot be used.
#[derive(Debug, thiserror::Error)]
pub enum RevocationError {
    /// It cannot be read.
    #[error("cannot be read: {0}")]
    Io(#[from] std::io::Error),
    /// It cannot be understood.
    #[error(transparent)]
    Fault(#[from] RevocationFault),
}

/// What was taken back. The background work ends when it is dropped.
pub struct Revocations {
    current: Arc<Current>,
    changes: watch::Receiver<u64>,
    tasks: Vec<JoinHandle<()>>,
}

struct Current {
    file: ArcSwap<RevocationList>,
    /// `None`: Redis is asked and has not been heard yet.
    redis: ArcSwapOption<RevocationList>,
    version: AtomicU64,
    say: watch::Sender<u64>,
}

impl Current {
    fn changed(&self) {
        let version = self.version.fetch_add(1, Ordering::AcqRel).wrapping_add(1);
        self.say.send_replace(version);
    }
}

impl Drop for Revocations {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl Revocations {
    /// Reads the file and asks Redis once, and from then on again and again. Within a tokio runtime.
    ///
    /// # Errors
    /// [`RevocationError`] of the file. A Redis that cannot be had is no error.
    pub async fn start(
        file: Option<&Path>,
        redis: Option<&Secret>,
    ) -> Result<Self, RevocationError> {
        let (say, changes) = watch::channel(0);
        let current = Arc::new(Current {
            file: ArcSwap::default(),
            redis: ArcSwapOption::from_pointee(redis.is_none().then(RevocationList::default)),
            version: AtomicU64::new(0),
            say,
        });
        let mut tasks = Vec::new();
        if let Some(path) = file {
            let facts = facts(path).await;
            current.file.store(Arc::new(read(path).await?));
            tasks.push(tokio::spawn(watch_file(path.to_owned(), facts, Arc::clone(&current))));
        }
        if let Some(url) = redis {
            let mut set = RevokedSet {
                store: Store::new(url.expose(), "revocation"),
                members: Vec::new(),
                presence: Presence::There,
                current: Arc::clone(&current),
            };
            set.look().await;
            tasks.push(tokio::spawn(async move {
                loop {
                    tokio::time::sleep(REDIS_POLL).await;
                    set.look().await;
                }
            }));
        }
        Ok(Self { current, changes, tasks })
    }

    /// Whether an identity's token was taken back.
    pub fn revokes(&self, identity: &VerifiedIdentity) -> bool {
        self.current.file.load().revokes(identity)
            || self.current.redis.load().as_ref().is_some_and(|list| list.revokes(identity))
    }

    /// Whether everything was read once.
    pub fn complete(&self) -> bool {
        self.current.redis.load().is_some()
    }

    /// Counts the changes of the list.
    pub fn version(&self) -> u64 {
        self.current.version.load(Ordering::Acquire)
    }

    /// Tells of each change.
    pub fn changes(&self) -> watch::Receiver<u64> {
        self.changes.clone()
    }
}

/// The set in Redis, as it was seen last.
struct RevokedSet {
    store: Store,
    members: Vec<Vec<u8>>,
    presence: Presence,
    current: Arc<Current>,
}

/// Whether the set was there when it was looked at last.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
enum Presence {
    There,
    /// Gone after it had been there, and the log was told.
    Gone,
}

impl RevokedSet {
    async fn look(&mut self) {
        let answer: Result<Vec<Vec<u8>>, RedisError> = self
            .store
            .with(async |mut connection| {
                redis::cmd("SMEMBERS").arg(KEY).query_async(&mut connection).await
            })
            .await;
        // The store has told what went wrong.
        let Ok(mut members) = answer else { return };
        members.sort_unstable();
        let first = self.current.redis.load().is_none();
        if !members.is_empty() {
            self.presence = Presence::There;
        }
        if members == self.members && !first {
            return;
        }
        if members.is_empty() && !self.members.is_empty() {
            if std::mem::replace(&mut self.presence, Presence::Gone) == Presence::Gone {
                return;
            }
            // SECURITY: restarted without its data, Redis would open the door to revoked tokens.
            tracing::warn!(
                key = KEY,
                "the set of revocations is gone from Redis: what is known stays in force; an empty \
                 member says that there are none"
            );
            return;
        }
        if members.iter().map(Vec::len).sum::<usize>() > MAX_REVOCATION_BYTES {
            tracing::error!(key = KEY, "the set of revocations is too long: the last one stays");
            metrics::counter!("hedgerow_reload_total", "result" => "error").increment(1);
            return;
        }
        let (list, refused) = RevocationList::of_entries(members.iter().map(Vec::as_slice));
        tracing::info!(revocations = list.len(), "revocations read from Redis");
        if refused > 0 {
            tracing::error!(key = KEY, refused, "members that are no revocation have no effect");
        }
        let result = if refused > 0 { "error" } else { "ok" };
        metrics::counter!("hedgerow_reload_total", "result" => result).increment(1);
        self.members = members;
        self.current.redis.store(Some(Arc::new(list)));
        self.current.changed();
    }
}

async fn read(path: &Path) -> Result<RevocationList, RevocationError> {
    Ok(RevocationList::parse(&tokio::fs::read(path).await?)?)
}

type Facts = Option<(u64, SystemTime)>;

async fn facts(path: &Path) -> Facts {
    let metadata = tokio::fs::metadata(path).await.ok()?;
    Some((metadata.len(), metadata.modified().ok()?))
}

async fn watch_file(path: PathBuf, mut seen: Facts, current: Arc<Current>) {
    loop {
        tokio::time::sleep(POLL).await;
        let now = facts(&path).await;
        if now == seen {
            continue;
        }
        seen = now;
        let result = match read(&path).await {
            Ok(list) => {
                tracing::info!(revocations = list.len(), "revocations read anew");
                current.file.store(Arc::new(list));
                current.changed();
                "ok"
            }
            Err(error) => {
                tracing::error!(%error, "the revocation file: the last good list stays in force");
                "error"
            }
        };
        metrics::counter!("hedgerow_reload_total", "result" => result).increment(1);
    }
}
