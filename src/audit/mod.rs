//! The audit trail: a record a decision, chained, signed, verifiable. Layers 2 (record, chain,
//! verification: pure) and 3 (writer, segments: I/O).
//!
//! The way of an [`Event`]: [`Audit::permit`] reserves a place before anything is sent;
//! [`AuditPermit::record`] queues the event, [`AuditPermit::record_durable`] also waits until it is
//! on disk; one thread writes.

mod record;

pub use record::{
    ClientAddress, Decision, Engine, Event, Gap, Kind, RelationRule, Severity, crosses_tenants,
};

use std::path::PathBuf;
use std::time::Duration;

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
    /// Ed25519 private key, PKCS#8 PEM. `None`: `<directory>-signing-key.pem`, made on first start.
    pub signing_key_file: Option<PathBuf>,
    /// A segment is closed when it is larger than this, in bytes.
    pub max_size: u64,
    /// A segment is closed when it is older than this.
    pub max_age: Duration,
    /// Closed segments older than this are deleted; `None`: never.
    pub retention: Option<Duration>,
    /// Permits that may be out, and records queued, at any time.
    pub queue: usize,
    /// Also print each record on standard output.
    pub stdout: bool,
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
            queue: 16_384,
            stdout: false,
        }
    }
}

/// The audit trail cannot take a record: the statement must not run (SQLSTATE 53100, HR4001).
#[derive(Clone, Copy, Debug, PartialEq, Eq, thiserror::Error)]
#[error("audit cannot be written")]
pub struct AuditUnavailable;

/// The directory or the key cannot be used.
#[derive(Debug, thiserror::Error)]
#[error("audit")]
pub enum OpenError {}

/// The audit trail. Cheap to clone.
#[derive(Clone)]
pub struct Audit {}

/// A reserved place in the queue: permission to run one statement.
///
/// Dropped as it is, it frees its place. Dropped after [`AuditPermit::attach`], it records the
/// attached event with an unknown outcome: so a session that dies after it sent the statement
/// still leaves the record.
#[must_use = "a permit is there to record what it permitted"]
pub struct AuditPermit {}

impl Audit {
    /// Opens the directory: takes its lock, recovers after a crash, starts the writer. Blocks on disk.
    ///
    /// # Errors
    /// When the directory, its lock or the key cannot be used.
    pub fn open(_settings: Settings) -> Result<Self, OpenError> {
        todo!()
    }

    /// Reserves a place for one record. Never blocks.
    ///
    /// # Errors
    /// When the disk cannot be written, the queue is full, or the trail was closed.
    pub fn permit(&self) -> Result<AuditPermit, AuditUnavailable> {
        todo!()
    }

    /// When records must be on disk.
    pub fn mode(&self) -> Mode {
        todo!()
    }

    /// Whether records can be written right now (readiness).
    pub fn healthy(&self) -> bool {
        todo!()
    }

    /// Writes what is queued, closes the segment with a signed checkpoint, stops the writer.
    pub async fn close(&self) {
        todo!()
    }
}

impl AuditPermit {
    /// Queues the event; it is written within 10 ms. Replaces an attached event.
    pub fn record(self, _event: Event) {
        todo!()
    }

    /// Queues the event and returns once it is on disk (fdatasync).
    ///
    /// # Errors
    /// When it could not be put on disk in time. It stays queued and is written when that works again.
    pub async fn record_durable(self, _event: Event) -> Result<(), AuditUnavailable> {
        todo!()
    }

    /// [`AuditPermit::record_durable`] in strict mode or when the event must be on disk before the
    /// answer in balanced mode too (denial, authentication failure, policy change, egress, gap);
    /// else [`AuditPermit::record`].
    ///
    /// # Errors
    /// As [`AuditPermit::record_durable`].
    pub async fn record_as_mode_asks(self, _event: Event) -> Result<(), AuditUnavailable> {
        todo!()
    }

    /// Leaves the event with the permit: when the permit is dropped before [`AuditPermit::settle`]
    /// or [`AuditPermit::record`], the event is recorded with an unknown outcome.
    pub fn attach(&mut self, _event: Event) {
        todo!()
    }

    /// Takes the attached event back, to complete it (rows, duration, result code) and record it.
    pub fn detach(&mut self) -> Option<Event> {
        todo!()
    }
}
