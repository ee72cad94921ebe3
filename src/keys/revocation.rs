//! The revocation file: read at start, looked at every second, replaced as a whole. Layer 4.
//!
//! A file that cannot be read or understood changes nothing: the last good list stays in force, and
//! the log and a metric say so. At start it is an error.

use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};
use std::time::{Duration, SystemTime};

use arc_swap::ArcSwap;
use tokio::sync::watch;
use tokio::task::JoinHandle;

use crate::identity::{RevocationFault, RevocationList, VerifiedIdentity};

/// Between two looks at the file: revocations hold within seconds.
const POLL: Duration = Duration::from_secs(1);

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
    task: JoinHandle<()>,
}

struct Current {
    list: ArcSwap<RevocationList>,
    version: AtomicU64,
}

impl Drop for Revocations {
    fn drop(&mut self) {
        self.task.abort();
    }
}

impl Revocations {
    /// Reads the file, and from then on again whenever it changes. Within a tokio runtime.
    ///
    /// # Errors
    /// [`RevocationError`].
    pub async fn start(path: &Path) -> Result<Self, RevocationError> {
        let facts = facts(path).await;
        let list = read(path).await?;
        let (say, changes) = watch::channel(0);
        let current =
            Arc::new(Current { list: ArcSwap::from_pointee(list), version: AtomicU64::new(0) });
        let task = tokio::spawn(watch_file(path.to_owned(), facts, Arc::clone(&current), say));
        Ok(Self { current, changes, task })
    }

    /// Whether an identity's token was taken back.
    pub fn revokes(&self, identity: &VerifiedIdentity) -> bool {
        self.current.list.load().revokes(identity)
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

async fn read(path: &Path) -> Result<RevocationList, RevocationError> {
    Ok(RevocationList::parse(&tokio::fs::read(path).await?)?)
}

type Facts = Option<(u64, SystemTime)>;

async fn facts(path: &Path) -> Facts {
    let metadata = tokio::fs::metadata(path).await.ok()?;
    Some((metadata.len(), metadata.modified().ok()?))
}

async fn watch_file(
    path: PathBuf,
    mut seen: Facts,
    current: Arc<Current>,
    say: watch::Sender<u64>,
) {
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
                current.list.store(Arc::new(list));
                let version = current.version.fetch_add(1, Ordering::AcqRel).wrapping_add(1);
                say.send_replace(version);
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
