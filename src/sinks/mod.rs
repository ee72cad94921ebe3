//! Sinks beside the audit files: standard output, OTLP logs, Kafka, object storage, a PostgreSQL
//! table. Layer 4.
//!
//! A sink reads the segment files and nothing else ([`Follower`]): no statement ever waits for one,
//! and what a sink has is on disk here. Each runs on a thread of its own, so that one which hangs
//! holds up neither another nor the end of the process.
//!
//! Delivery is at least once and in order. How far a sink has come is kept in its [`Cursor`]; after a
//! crash it goes on from there and may deliver again what came behind. A record's chain and sequence
//! number tell a repeat: object names and the table's primary key are made of them, Kafka and OTLP
//! carry them. A delivery that fails is tried again for as long as it takes, with longer and longer
//! pauses; meanwhile the lag is a metric, and readiness turns false after [`STUCK_AFTER`].
//!
//! Records that retention deleted before a sink had them are counted, and are a record themselves.

mod carrier;
pub mod kafka;
pub mod object_store;
pub mod otlp;
pub mod postgres;
mod stdout;

use std::path::Path;
use std::sync::atomic::{AtomicU64, Ordering};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use metrics::gauge;
use tokio::sync::watch;

use crate::audit::{Audit, Durable};
use carrier::Carrier;

/// A sink that has had something to deliver for this long, and could not, makes the process unready.
pub const STUCK_AFTER: Duration = Duration::from_secs(30);
/// How often the lag of each sink is measured.
const MEASURE_EVERY: Duration = Duration::from_secs(2);

/// One sink.
#[derive(Clone, Debug, PartialEq)]
pub struct Settings {
    /// Its name, unique: of its cursor file and in metrics. Letters, digits, `-` and `_`.
    pub name: String,
    /// What it is.
    pub kind: Kind,
    /// Whether readiness turns false when it is stuck.
    pub required: bool,
}

/// What a sink delivers to.
#[derive(Clone, Debug, PartialEq)]
pub enum Kind {
    /// Standard output, one record a line.
    Stdout,
    /// OTLP logs over HTTP.
    Otlp(otlp::Settings),
    /// A Kafka topic.
    Kafka(kafka::Settings),
    /// A bucket.
    ObjectStore(object_store::Settings),
    /// A PostgreSQL table.
    Postgres(postgres::Settings),
}

/// A delivery failed. For the operator's log; it holds no record and no secret.
#[derive(Debug, thiserror::Error)]
#[error("{0}")]
pub struct DeliveryError(String);

impl DeliveryError {
    /// What an error says, and what it says of its causes.
    fn new(error: impl std::error::Error) -> Self {
        let mut text = error.to_string();
        let mut cause = error.source();
        while let Some(error) = cause {
            let said = error.to_string();
            // Some errors repeat what their causes say.
            if !text.contains(&said) {
                text.push_str(": ");
                text.push_str(&said);
            }
            cause = error.source();
        }
        Self(text)
    }

    fn plain(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

/// A sink cannot be started.
#[derive(Debug, thiserror::Error)]
pub enum StartError {
    /// Its cursor cannot be read.
    #[error("audit sink {name}: its cursor cannot be read: {source}")]
    Cursor {
        /// The sink.
        name: String,
        /// What went wrong.
        source: std::io::Error,
    },
    /// No thread, or no runtime on it.
    #[error("audit sink {name}: no thread: {source}")]
    Thread {
        /// The sink.
        name: String,
        /// What went wrong.
        source: std::io::Error,
    },
}

/// What a sink's thread tells the others.
#[derive(Debug)]
pub(crate) struct Progress {
    name: Arc<str>,
    required: bool,
    start: Instant,
    /// Milliseconds after `start` since when a delivery is under way or failing; 0: none is.
    waiting_since: AtomicU64,
    delivered: Mutex<Option<(String, u64)>>,
}

impl Progress {
    fn new(name: &str, required: bool) -> Self {
        Self {
            name: name.into(),
            required,
            start: Instant::now(),
            waiting_since: AtomicU64::new(0),
            delivered: Mutex::new(None),
        }
    }

    fn milliseconds(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1)
    }

    /// A delivery begins, or is tried again.
    fn waits(&self) {
        let now = self.milliseconds();
        // What waited before has waited longer.
        let _first =
            self.waiting_since.compare_exchange(0, now, Ordering::AcqRel, Ordering::Acquire);
    }

    /// Everything up to here was delivered.
    fn delivered(&self, chain: &str, sequence: u64) {
        self.waiting_since.store(0, Ordering::Release);
        *self.delivered.lock().unwrap_or_else(PoisonError::into_inner) =
            Some((chain.to_owned(), sequence));
    }

    fn is_stuck(&self) -> bool {
        let since = self.waiting_since.load(Ordering::Acquire);
        since != 0
            && u128::from(self.milliseconds().saturating_sub(since)) > STUCK_AFTER.as_millis()
    }

    /// Records that are on disk and were not delivered; of an older chain's rest nothing is counted.
    fn lag(&self, durable: &Durable) -> u64 {
        match self.delivered.lock().unwrap_or_else(PoisonError::into_inner).as_ref() {
            Some((chain, sequence)) if *chain == durable.chain => {
                durable.sequence.saturating_sub(*sequence)
            }
            Some(_) | None => durable.sequence,
        }
    }
}

/// The running sinks.
pub struct Sinks {
    progress: Vec<Arc<Progress>>,
    ended: Vec<watch::Receiver<bool>>,
    stop: watch::Sender<bool>,
}

impl Sinks {
    /// Starts every sink. Must be called on a runtime, which measures their lag.
    ///
    /// # Errors
    /// When a cursor cannot be read, or the system gives no thread. A destination that cannot be
    /// reached is no error: it is tried until it can.
    pub fn start(
        settings: Vec<Settings>,
        directory: &Path,
        audit: &Audit,
    ) -> Result<Self, StartError> {
        let (stop, stopping) = watch::channel(false);
        let mut sinks = Self { progress: Vec::new(), ended: Vec::new(), stop };
        for Settings { name, kind, required } in settings {
            let progress = Arc::new(Progress::new(&name, required));
            let carrier =
                Carrier::new(directory, kind, audit.clone(), progress.clone(), stopping.clone())
                    .map_err(|source| StartError::Cursor { name: name.clone(), source })?;
            let (end, ended) = watch::channel(false);
            let run = on_own_thread(&name, carrier, end);
            run.map_err(|source| StartError::Thread { name, source })?;
            sinks.progress.push(progress);
            sinks.ended.push(ended);
        }
        if !sinks.progress.is_empty() {
            tokio::spawn(measure(sinks.progress.clone(), audit.durable(), stopping));
        }
        Ok(sinks)
    }

    /// A question that can be asked at any time: whether no required sink is stuck.
    pub fn probe(&self) -> impl Fn() -> bool + Send + Sync + 'static {
        let progress = self.progress.clone();
        move || !progress.iter().any(|sink| sink.required && sink.is_stuck())
    }

    /// Lets the sinks deliver what is on disk, `within` at most, and notes how far they came. To be
    /// called when the trail is closed. What is left is delivered at the next start.
    pub async fn finish(mut self, within: Duration) {
        self.stop.send_replace(true);
        let deadline = tokio::time::Instant::now() + within;
        for (ended, progress) in self.ended.iter_mut().zip(&self.progress) {
            let end = ended.wait_for(|ended| *ended);
            if tokio::time::timeout_at(deadline, end).await.is_err() {
                tracing::warn!(
                    sink = &*progress.name,
                    "audit sink did not finish in time: it goes on at the next start"
                );
            }
        }
    }
}

/// Gives a sink its thread, with a runtime of its own.
fn on_own_thread(
    name: &str,
    carrier: Carrier,
    end: watch::Sender<bool>,
) -> std::io::Result<std::thread::JoinHandle<()>> {
    let runtime = tokio::runtime::Builder::new_current_thread().enable_all().build()?;
    std::thread::Builder::new().name(format!("sink-{name}")).spawn(move || {
        runtime.block_on(carrier.run());
        // A delivery that hangs in a blocking call must not hold up the end.
        runtime.shutdown_background();
        end.send_replace(true);
    })
}

/// Publishes the lag of each sink, also of one whose thread hangs.
#[expect(clippy::cast_precision_loss, reason = "a gauge needs no more than 52 bits")]
async fn measure(
    sinks: Vec<Arc<Progress>>,
    durable: watch::Receiver<Option<Durable>>,
    mut stopping: watch::Receiver<bool>,
) {
    loop {
        if let Some(durable) = durable.borrow().as_ref() {
            for sink in &sinks {
                let name = sink.name.to_string();
                gauge!("hedgerow_audit_sink_lag_records", "sink" => name.clone())
                    .set(sink.lag(durable) as f64);
                gauge!("hedgerow_audit_sink_stuck", "sink" => name)
                    .set(f64::from(u8::from(sink.is_stuck())));
            }
        }
        tokio::select! {
            () = tokio::time::sleep(MEASURE_EVERY) => {}
            _ = stopping.wait_for(|stop| *stop) => return,
        }
    }
}
