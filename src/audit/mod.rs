//! The audit trail: a record a decision, chained, signed, verifiable. Layers 2 (record, form, chain,
//! walk: pure) and 3 (queue, writer, segments, recovery: I/O).
//!
//! The way of an [`Event`]: [`Audit::permit`] reserves a place before anything is sent;
//! [`AuditPermit::record`] queues the event, [`AuditPermit::record_durable`] also waits until it is
//! on disk; one thread renders it (`ocsf`), ties it to the record before (`chain`) and writes it.
//!
//! # The directory
//! - `audit-<chain>-<number>.jsonl`: segments, one record a line. The last line of a closed segment
//!   is its signed checkpoint, itself a record of the chain.
//! - `audit-public-key.pem`: the public keys, of this and of earlier runs.
//! - `audit-head-<chain>.json`: a signed note of the last checkpoint.
//! - `audit-….torn-at-<offset>`: what a crash left behind the last whole record.
//! - `audit-sink-<name>.json`: how far a sink has come (`crate::sinks`).
//! - Beside it, not in it, when personal fields are sealed: the keys ([`personal`]).
//! - `audit.lock`: held while a process writes here.
//!
//! A chain belongs to the directory, not to the process: a restart goes on with the next sequence
//! number in a new segment. A new chain begins only in an empty directory, or when the chain that
//! is there is broken (then its files stay as they are, and the first record says so).
//!
//! # What it does not promise
//! Whoever holds the signing key can write another history. Whoever can restore *all* files of an
//! earlier time can cut the end off: only a copy kept elsewhere shows that.

mod canonical;
mod chain;
mod cursor;
mod execution;
mod follow;
mod head;
mod key;
mod ocsf;
pub mod personal;
mod queue;
mod quick;
mod record;
mod recover;
mod retention;
pub mod search;
mod segment;
mod verify;
pub mod vigil;
mod walk;
mod writer;

pub use chain::RecordHash;
pub use cursor::Cursor;
pub use execution::{Execution, StatementFacts};
pub use follow::{Batch, Bounds, Durable, Follower, Missed, Position, Record, Step};
pub use key::{KeyError, PublicKey, TrustedKeys};
pub use queue::{AuditPermit, must_be_durable};
pub use record::{
    ClientAddress, Decision, Engine, Event, Gap, Kind, RelationRule, Severity, crosses_tenants,
};
pub use segment::{PUBLIC_KEY_FILE, SegmentFile};
pub use verify::{Intact, IntactChain, Progress, Verification, VerifyError, segments_of, verify};
pub use walk::{Fault, SignedCheckpoint};

use key::SigningKey;
use queue::Shared;
use segment::{Disk, FileSystem};
use std::fs::{self, File, OpenOptions, TryLockError};
use std::io;
use std::os::unix::fs::DirBuilderExt as _;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::Duration;
use tokio::sync::watch;
use writer::Writer;

/// When a record must be on disk before the client gets its answer.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub enum Mode {
    /// Denials, authentication failures, policy changes: before. Allowed statements: within 10 ms.
    #[default]
    Balanced,
    /// Every record: before.
    Strict,
}

/// How the audit trail is kept. [`Settings::new`] fills in the contract's defaults.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where the segments go; made if absent.
    pub directory: PathBuf,
    /// When records must be on disk.
    pub mode: Mode,
    /// Ed25519 private key, PKCS#8 PEM; must be there. `None`: `<directory>-signing-key.pem`, made
    /// on first start.
    pub signing_key_file: Option<PathBuf>,
    /// A segment is closed when it has reached this size, in bytes.
    pub max_size: u64,
    /// A segment is closed when it is older than this.
    pub max_age: Duration,
    /// Closed segments not written for longer than this are deleted; `None`: never.
    pub retention: Option<Duration>,
    /// The oldest closed segments are deleted when the segments of the directory take more than
    /// this, in bytes; `None`: without a bound.
    pub max_total_size: Option<u64>,
    /// Where the keys are under which personal fields are sealed; `None`: they are in clear.
    pub personal: Option<personal::Places>,
    /// Names of the sinks that read the segments: retention says when it deletes what one of them
    /// still needs.
    pub sinks: Vec<String>,
    /// Permits that may be out, and records queued, at any time.
    pub queue: usize,
}

impl Settings {
    /// The defaults of the contract.
    pub fn new(directory: impl Into<PathBuf>) -> Self {
        Self {
            directory: directory.into(),
            mode: Mode::Balanced,
            signing_key_file: None,
            max_size: 64 << 20,
            max_age: Duration::from_secs(3600),
            retention: Some(Duration::from_secs(90 * 86_400)),
            max_total_size: None,
            personal: None,
            sinks: Vec::new(),
            queue: 16_384,
        }
    }
}

/// The audit trail cannot take a record: the statement must not run (SQLSTATE 53100, HR4001).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("audit cannot be written")]
pub struct AuditUnavailable;

/// The directory or the key cannot be used. For the operator.
#[derive(Debug, thiserror::Error)]
pub enum OpenError {
    /// The directory, or a file in it, cannot be made, read or written.
    #[error("audit directory {}: {source}", path.display())]
    Directory {
        /// The directory.
        path: PathBuf,
        /// What went wrong.
        source: io::Error,
    },
    /// Another process writes there.
    #[error("audit directory {}: another process writes there", .0.display())]
    Locked(PathBuf),
    /// The signing key, or the directory's public key file, cannot be used.
    #[error("audit signing key: {0}")]
    Key(#[from] KeyError),
    /// The keys of personal fields cannot be used.
    #[error("audit, personal fields: {0}")]
    Personal(#[from] personal::PersonalError),
    /// The system gave no thread.
    #[error("audit writer: no thread: {0}")]
    Thread(io::Error),
}

/// The audit trail. Cheap to clone. [`Audit::close`] it before the process ends: without that, the
/// last segment is left open, as after a crash.
#[derive(Clone)]
pub struct Audit {
    handle: Arc<Handle>,
}

struct Handle {
    shared: Arc<Shared>,
    finished: watch::Receiver<bool>,
}

impl Drop for Handle {
    fn drop(&mut self) {
        self.shared.request_close();
    }
}

impl Audit {
    /// How long [`Audit::close`] waits for the disk.
    const CLOSE_WITHIN: Duration = Duration::from_secs(10);
    /// Longest wait for room in the queue.
    const ROOM_WITHIN: std::time::Duration = std::time::Duration::from_secs(5);

    /// Opens the directory: takes its lock, recovers after a crash (reads the last segment), writes
    /// the first record, starts the writer. Blocks on disk.
    ///
    /// # Errors
    /// When the directory, its lock or the key cannot be used.
    pub fn open(settings: Settings) -> Result<Self, OpenError> {
        Self::open_on(settings, Box::new(FileSystem))
    }

    fn open_on(settings: Settings, disk: Box<dyn Disk>) -> Result<Self, OpenError> {
        let directory = settings.directory.clone();
        let unusable = |source| OpenError::Directory { path: directory.clone(), source };
        fs::DirBuilder::new().recursive(true).mode(0o750).create(&directory).map_err(unusable)?;
        let lock = lock(&directory)?;
        let key = signing_key(&settings)?;
        let trusted = key::publish(&directory.join(PUBLIC_KEY_FILE), key.public())?;
        let resume = recover::recover(&directory, &key, &trusted).map_err(unusable)?;
        let shared = Arc::new(Shared::new(settings.mode, settings.queue));
        let personal = settings.personal.clone().map(personal::PersonalKeys::open).transpose()?;
        let mut writer = Writer::new(settings, disk, key, personal, Arc::clone(&shared), resume);
        writer.begin().map_err(unusable)?;
        queue::lost(0);
        let (finish, finished) = watch::channel(false);
        let guard = StopGuard { shared: Arc::clone(&shared), finish, lock: Some(lock) };
        std::thread::Builder::new()
            .name("audit".to_owned())
            .spawn(move || {
                let _guard = guard;
                writer.run();
            })
            .map_err(OpenError::Thread)?;
        Ok(Self { handle: Arc::new(Handle { shared, finished }) })
    }

    /// Reserves a place for one record. Never blocks.
    ///
    /// # Errors
    /// When the disk cannot be written, the queue is full, or the trail was closed.
    pub fn permit(&self) -> Result<AuditPermit, AuditUnavailable> {
        self.handle.shared.reserve()
    }

    /// Waits until the queue has room, [`Self::ROOM_WITHIN`] at most, and no longer than records can
    /// be written: a burst is slowed down to the disk's pace, and only a disk that does not keep it
    /// refuses statements.
    pub async fn room(&self) {
        let began = std::time::Instant::now();
        while self.healthy()
            && !self.handle.shared.has_room()
            && began.elapsed() < Self::ROOM_WITHIN
        {
            tokio::time::sleep(std::time::Duration::from_millis(2)).await;
        }
    }

    /// How far the trail is on disk, now and from now on: what [`Follower::read`] asks for.
    pub fn durable(&self) -> watch::Receiver<Option<Durable>> {
        self.handle.shared.durable()
    }

    /// When records must be on disk.
    pub fn mode(&self) -> Mode {
        self.handle.shared.mode()
    }

    /// Whether records can be written right now (readiness).
    pub fn healthy(&self) -> bool {
        self.handle.shared.healthy()
    }

    /// Writes what is queued, closes the segment with a signed checkpoint, stops the writer, frees
    /// the directory's lock. Waits ten seconds at most; logs if that was not enough.
    pub async fn close(&self) {
        self.handle.shared.request_close();
        let mut finished = self.handle.finished.clone();
        let done = finished.wait_for(|done| *done);
        if tokio::time::timeout(Self::CLOSE_WITHIN, done).await.is_err() {
            tracing::error!("audit could not be closed in time: the disk does not answer");
        }
    }
}

/// Says that the writer is gone, however it went.
struct StopGuard {
    shared: Arc<Shared>,
    finish: watch::Sender<bool>,
    lock: Option<File>,
}

impl Drop for StopGuard {
    fn drop(&mut self) {
        drop(self.shared.stop());
        drop(self.lock.take());
        self.finish.send_replace(true);
    }
}

fn lock(directory: &Path) -> Result<File, OpenError> {
    let unusable = |source| OpenError::Directory { path: directory.to_owned(), source };
    let file = OpenOptions::new()
        .write(true)
        .create(true)
        .truncate(false)
        .open(directory.join("audit.lock"))
        .map_err(unusable)?;
    match file.try_lock() {
        Ok(()) => Ok(file),
        Err(TryLockError::WouldBlock) => Err(OpenError::Locked(directory.to_owned())),
        Err(TryLockError::Error(source)) => Err(unusable(source)),
    }
}

fn signing_key(settings: &Settings) -> Result<SigningKey, KeyError> {
    if let Some(path) = &settings.signing_key_file {
        return SigningKey::read(path);
    }
    let mut name = settings.directory.file_name().unwrap_or("audit".as_ref()).to_owned();
    name.push("-signing-key.pem");
    let path = settings.directory.with_file_name(name);
    match SigningKey::read(&path) {
        Err(KeyError::File { source, .. }) if source.kind() == io::ErrorKind::NotFound => {
            let key = SigningKey::create(&path)?;
            tracing::warn!(
                path = %path.display(), key = key.public().id(),
                "made a new audit signing key: keep it from whoever can write the audit directory, \
                 and keep a copy of the public key elsewhere"
            );
            Ok(key)
        }
        other => other,
    }
}

#[cfg(test)]
mod tests;
