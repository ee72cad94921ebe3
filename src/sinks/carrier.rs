//! Carries records from the segment files to one sink. Layer 4.
//!
//! Reads, delivers, notes how far it came; on a failure waits and delivers the same again. It makes
//! batches smaller while deliveries fail, so that one record too many does not hold up all.

use std::io;
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::time::{Duration, Instant};

use metrics::counter;
use tokio::sync::watch;

use super::object_store::Bucket;
use super::{DeliveryError, Kind, Progress};
use super::{kafka, otlp, postgres, stdout};
use crate::audit::{
    Audit, Batch, Bounds, Cursor, Decision, Durable, Engine, Event, Follower, Gap,
    Kind as EventKind, Missed, Severity, Step,
};

/// Most records of a batch.
const BATCH_RECORDS: usize = 1_000;
/// Bytes of a batch; one record may go beyond.
const BATCH_BYTES: u64 = 1 << 20;
/// A delivery that takes longer has failed.
const DELIVER_WITHIN: Duration = Duration::from_secs(60);
/// First and longest pause behind a failure; up to a half more is added at random.
const PAUSE: (Duration, Duration) = (Duration::from_millis(200), Duration::from_secs(30));
/// How long records are gathered before they are read.
const GATHER: Duration = Duration::from_millis(20);
/// How often the cursor is written while all goes well: behind the first delivery and behind
/// [`BATCH_RECORDS`] at once.
const NOTE_EVERY: Duration = Duration::from_secs(1);
/// How often the directory is looked at when nothing is heard.
const LOOK_EVERY: Duration = Duration::from_secs(1);

/// A sink's destination.
pub(super) enum Outlet {
    Stdout(stdout::Stdout),
    Otlp(otlp::Collector),
    Kafka(kafka::Topic),
    ObjectStore(Bucket),
    Postgres(Box<postgres::Table>),
}

impl Outlet {
    fn new(kind: Kind) -> Self {
        match kind {
            Kind::Stdout => Self::Stdout(stdout::Stdout::default()),
            Kind::Otlp(settings) => Self::Otlp(otlp::Collector::new(settings)),
            Kind::Kafka(settings) => Self::Kafka(kafka::Topic::new(settings)),
            Kind::ObjectStore(settings) => Self::ObjectStore(Bucket::new(settings)),
            Kind::Postgres(settings) => Self::Postgres(Box::new(postgres::Table::new(settings))),
        }
    }

    async fn deliver(&mut self, batch: &Batch) -> Result<(), DeliveryError> {
        match self {
            Self::Stdout(outlet) => outlet.deliver(batch),
            Self::Otlp(outlet) => outlet.deliver(batch).await,
            Self::Kafka(outlet) => outlet.deliver(batch).await,
            Self::ObjectStore(outlet) => outlet.deliver(batch).await,
            Self::Postgres(outlet) => outlet.deliver(batch).await,
        }
    }

    /// The parts that it is to be given, if it is particular about them.
    fn parts(&self) -> Option<&super::object_store::Parts> {
        match self {
            Self::ObjectStore(bucket) => Some(bucket.parts()),
            Self::Stdout(_) | Self::Otlp(_) | Self::Kafka(_) | Self::Postgres(_) => None,
        }
    }
}

/// One sink at work.
pub(super) struct Carrier {
    directory: PathBuf,
    outlet: Outlet,
    follower: Follower,
    cursor: Cursor,
    audit: Audit,
    durable: watch::Receiver<Option<Durable>>,
    progress: Arc<Progress>,
    stopping: watch::Receiver<bool>,
    /// Most records of the next batch.
    batch_records: usize,
    /// Since when the cursor is ahead of what is on disk; `None`: it is not.
    unwritten_since: Option<Instant>,
    /// Records that were delivered since the cursor was written; before the first time as many as ask
    /// for it at once.
    unwritten: usize,
}

/// What to do next.
enum Next {
    Deliver(Batch),
    Wait,
}

impl Carrier {
    pub(super) fn new(
        directory: &Path,
        kind: Kind,
        audit: Audit,
        progress: Arc<Progress>,
        stopping: watch::Receiver<bool>,
    ) -> io::Result<Self> {
        let cursor = Cursor::read(directory, &progress.name)?;
        if let Some(at) = &cursor.delivered {
            progress.delivered(&at.chain, at.sequence);
        }
        // The series are there before the first event: an alert on `increase()` needs that.
        counter!("hedgerow_audit_sink_records_total", "sink" => progress.name.to_string())
            .increment(0);
        counter!("hedgerow_audit_sink_failures_total", "sink" => progress.name.to_string())
            .increment(0);
        counter!("hedgerow_audit_sink_lost_total", "sink" => progress.name.to_string())
            .increment(0);
        Ok(Self {
            directory: directory.to_owned(),
            outlet: Outlet::new(kind),
            follower: Follower::new(directory, cursor.delivered.clone()),
            cursor,
            durable: audit.durable(),
            audit,
            progress,
            stopping,
            batch_records: BATCH_RECORDS,
            unwritten_since: None,
            unwritten: BATCH_RECORDS,
        })
    }

    /// Runs until it is told to stop and has delivered what is on disk, or cannot.
    pub(super) async fn run(mut self) {
        let mut pause = PAUSE.0;
        loop {
            // Asked before reading: what is on disk when it turns true is still delivered.
            let stopping = self.is_stopping();
            let failed = match self.next() {
                Ok(Next::Deliver(batch)) => match self.deliver(&batch).await {
                    Ok(()) => {
                        self.delivered(&batch);
                        pause = PAUSE.0;
                        None
                    }
                    Err(error) => Some(error),
                },
                Ok(Next::Wait) => {
                    if stopping {
                        break;
                    }
                    self.note(NOTE_EVERY);
                    self.wait().await;
                    None
                }
                Err(error) => Some(DeliveryError::new(error)),
            };
            if let Some(error) = failed {
                self.failed(&error, pause);
                if stopping {
                    break;
                }
                self.rest(pause).await;
                pause = (pause * 2).min(PAUSE.1);
            }
        }
        self.note(Duration::ZERO);
    }

    fn is_stopping(&self) -> bool {
        *self.stopping.borrow()
    }

    /// Reads what is to be delivered next.
    fn next(&mut self) -> io::Result<Next> {
        let Some(durable) = self.durable.borrow_and_update().clone() else {
            return Ok(Next::Wait);
        };
        loop {
            match self.follower.read(&durable, self.bounds())? {
                Step::Idle => return Ok(Next::Wait),
                Step::Missed(missed) => self.tell_missed(&missed),
                Step::Batch(batch) => {
                    if let Some(parts) = self.outlet.parts() {
                        let repeated = self.cursor.begun.as_ref() == Some(&batch.end);
                        if !repeated && !parts.is_due(&batch, self.is_stopping()) {
                            return Ok(Next::Wait);
                        }
                        if !repeated {
                            // Noted before it is begun: after a crash exactly this part is repeated.
                            self.cursor.begun = Some(batch.end.clone());
                            self.cursor.delivered = self.follower.position().cloned();
                            self.cursor.write(&self.directory, &self.progress.name)?;
                        }
                    }
                    return Ok(Next::Deliver(batch));
                }
            }
        }
    }

    fn bounds(&self) -> Bounds {
        let (Some(parts), begun) = (self.outlet.parts(), &self.cursor.begun) else {
            return Bounds { records: self.batch_records, bytes: BATCH_BYTES, until: u64::MAX };
        };
        match begun {
            Some(end) => Bounds { records: usize::MAX, bytes: u64::MAX, until: end.offset },
            None => Bounds { records: usize::MAX, bytes: parts.size, until: u64::MAX },
        }
    }

    async fn deliver(&mut self, batch: &Batch) -> Result<(), DeliveryError> {
        self.progress.waits();
        match tokio::time::timeout(DELIVER_WITHIN, self.outlet.deliver(batch)).await {
            Ok(done) => done,
            Err(_) => {
                Err(DeliveryError(format!("no answer within {} s", DELIVER_WITHIN.as_secs())))
            }
        }
    }

    fn delivered(&mut self, batch: &Batch) {
        let count = batch.records.len();
        counter!("hedgerow_audit_sink_records_total", "sink" => self.progress.name.to_string())
            .increment(count as u64);
        self.progress.delivered(&batch.end.chain, batch.end.sequence);
        self.follower.advance(batch.end.clone());
        self.cursor = Cursor { delivered: Some(batch.end.clone()), begun: None };
        self.batch_records = self.batch_records.saturating_mul(2).min(BATCH_RECORDS);
        self.unwritten_since.get_or_insert_with(Instant::now);
        // INVARIANT: a process that crashes again and again, however soon, comes further each time. And
        // one that catches up repeats some records, not all that it sent within the second.
        self.unwritten = self.unwritten.saturating_add(count);
        let at_once = self.unwritten >= BATCH_RECORDS;
        self.note(if at_once { Duration::ZERO } else { NOTE_EVERY });
    }

    fn failed(&mut self, error: &DeliveryError, pause: Duration) {
        counter!("hedgerow_audit_sink_failures_total", "sink" => self.progress.name.to_string())
            .increment(1);
        tracing::warn!(
            sink = &*self.progress.name, %error, again_in_ms = pause.as_millis() as u64,
            "audit sink: a delivery failed"
        );
        self.batch_records = (self.batch_records / 2).max(1);
        self.note(Duration::ZERO);
    }

    /// Writes the cursor if it has not been written for longer than `every`.
    fn note(&mut self, every: Duration) {
        if self.unwritten_since.is_none_or(|since| since.elapsed() < every) {
            return;
        }
        match self.cursor.write(&self.directory, &self.progress.name) {
            Ok(()) => (self.unwritten_since, self.unwritten) = (None, 0),
            // It lags behind: after a crash more is delivered again.
            Err(error) => {
                tracing::warn!(sink = &*self.progress.name, %error, "audit sink: cursor not written");
            }
        }
    }

    /// Counts and records what the sink will never have.
    fn tell_missed(&mut self, missed: &Missed) {
        let name = self.progress.name.to_string();
        counter!("hedgerow_audit_sink_lost_total", "sink" => name.clone())
            .increment(missed.records.max(1));
        let message = format!(
            "sink {name}: records of chain {} behind sequence {} were deleted before they were \
             delivered",
            missed.chain, missed.after
        );
        tracing::error!(sink = name, records = missed.records, "audit sink: {message}");
        // The part that was begun is among them.
        self.cursor = Cursor { delivered: self.follower.position().cloned(), begun: None };
        let mut event = Event::now(EventKind::Gap, Decision::Error, Engine::Hedgerow);
        event.severity = Some(Severity::High);
        event.message = Some(message.into());
        // Nothing is lost here: the chain is whole as far as retention says.
        event.gap = Some(Gap { lost: 0, ..Gap::default() });
        if let Ok(permit) = self.audit.permit() {
            permit.record(event);
        }
    }

    /// Waits for something to read.
    async fn wait(&mut self) {
        let gather = self.outlet.parts().map_or(GATHER, |_| LOOK_EVERY);
        tokio::select! {
            _ = self.durable.changed() => {}
            () = tokio::time::sleep(LOOK_EVERY) => {}
            _ = self.stopping.wait_for(|stop| *stop) => return,
        }
        self.rest(gather).await;
    }

    /// Waits, unless it is to stop.
    async fn rest(&mut self, pause: Duration) {
        tokio::select! {
            () = tokio::time::sleep(pause + jitter(pause)) => {}
            _ = self.stopping.wait_for(|stop| *stop) => {}
        }
    }
}

/// Up to half of the pause, at random, so that many sidecars do not come back at the same moment.
fn jitter(pause: Duration) -> Duration {
    let share = getrandom::u32().unwrap_or(0);
    pause.mul_f64(f64::from(share) / f64::from(u32::MAX) / 2.0)
}
