//! The bounded queue between sessions and the writer thread, and the permits that reserve places
//! in it. Layer 3.
//!
//! INVARIANT: `taken` counts the permits that are out plus the records that are queued and not yet
//! written; it never exceeds the capacity, so recording never blocks and memory stays bounded.

use super::execution::{Entry, Execution};
use super::follow::Durable;
use super::record::{Decision, Event, Kind};
use super::{AuditUnavailable, Mode};
use metrics::{counter, gauge};
use std::collections::VecDeque;
use std::sync::atomic::{AtomicBool, AtomicU64, AtomicUsize, Ordering};
use std::sync::{Arc, Condvar, Mutex, MutexGuard, PoisonError};
use std::time::{Duration, Instant};
use tokio::sync::{oneshot, watch};

/// How long the writer gathers records before it writes them, when nobody waits for the disk.
const GATHER: Duration = Duration::from_millis(4);
/// A disk that takes longer than this counts as stuck: unhealthy, and waiters are let go.
pub(super) const STUCK: Duration =
    if cfg!(test) { Duration::from_millis(500) } else { Duration::from_secs(5) };

/// Told whether the record is on disk.
pub(super) type Waiter = oneshot::Sender<Result<(), AuditUnavailable>>;

/// A queued record.
pub(super) struct Queued {
    pub(super) entry: Entry,
    /// Who waits for the disk.
    pub(super) waiter: Option<Waiter>,
}

#[derive(Default)]
struct State {
    queued: VecDeque<Queued>,
    /// How many of them somebody waits for.
    waited_for: usize,
    /// Whether the writer sleeps until it is woken.
    asleep: bool,
    close: bool,
    stopped: bool,
}

/// What sessions and writer share.
pub(super) struct Shared {
    state: Mutex<State>,
    wake: Condvar,
    mode: Mode,
    capacity: usize,
    taken: AtomicUsize,
    failed: AtomicBool,
    closed: AtomicBool,
    refused: AtomicU64,
    /// Milliseconds after `start` at which the disk operation under way began; 0: none is.
    busy_since: AtomicU64,
    start: Instant,
    durable: watch::Sender<Option<Durable>>,
}

impl Shared {
    pub(super) fn new(mode: Mode, capacity: usize) -> Self {
        Self {
            state: Mutex::default(),
            wake: Condvar::new(),
            mode,
            capacity: capacity.max(1),
            taken: AtomicUsize::new(0),
            failed: AtomicBool::new(false),
            closed: AtomicBool::new(false),
            refused: AtomicU64::new(0),
            busy_since: AtomicU64::new(0),
            start: Instant::now(),
            durable: watch::Sender::new(None),
        }
    }

    pub(super) fn mode(&self) -> Mode {
        self.mode
    }

    pub(super) fn healthy(&self) -> bool {
        !self.failed.load(Ordering::Acquire)
            && !self.closed.load(Ordering::Acquire)
            && !self.stuck()
    }

    fn stuck(&self) -> bool {
        let since = self.busy_since.load(Ordering::Acquire);
        since != 0 && self.milliseconds().saturating_sub(since) > STUCK.as_millis() as u64
    }

    fn milliseconds(&self) -> u64 {
        u64::try_from(self.start.elapsed().as_millis()).unwrap_or(u64::MAX).saturating_add(1)
    }

    /// Marks the beginning and the end of a disk operation, for [`Shared::healthy`].
    pub(super) fn during<T>(&self, operation: impl FnOnce() -> T) -> T {
        self.busy_since.store(self.milliseconds(), Ordering::Release);
        let result = operation();
        self.busy_since.store(0, Ordering::Release);
        result
    }

    /// Tells those who follow the trail how far it is on disk.
    pub(super) fn publish(&self, durable: Durable) {
        self.durable.send_replace(Some(durable));
    }

    /// How far the trail is on disk, now and from now on.
    pub(super) fn durable(&self) -> watch::Receiver<Option<Durable>> {
        self.durable.subscribe()
    }

    pub(super) fn set_failed(&self, failed: bool) {
        self.failed.store(failed, Ordering::Release);
    }

    /// Permits refused since the last call.
    pub(super) fn take_refused(&self) -> u64 {
        self.refused.swap(0, Ordering::AcqRel)
    }

    fn lock(&self) -> MutexGuard<'_, State> {
        // A panic while the lock was held cannot leave the state half changed: see the methods.
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn reserve(self: &Arc<Self>) -> Result<AuditPermit, AuditUnavailable> {
        let place = |taken: usize| (taken < self.capacity).then_some(taken + 1);
        if !self.healthy()
            || self.taken.fetch_update(Ordering::AcqRel, Ordering::Acquire, place).is_err()
        {
            self.refused.fetch_add(1, Ordering::AcqRel);
            return Err(AuditUnavailable);
        }
        Ok(AuditPermit { shared: Some(Arc::clone(self)), attached: None })
    }

    /// Whether a place is free now.
    pub(super) fn has_room(&self) -> bool {
        self.taken.load(Ordering::Acquire) < self.capacity
    }

    /// Frees places.
    pub(super) fn release(&self, places: usize) {
        self.taken.fetch_sub(places, Ordering::AcqRel);
    }

    fn push(&self, record: Queued) {
        let mut state = self.lock();
        if state.stopped {
            drop(state);
            self.release(1);
            lost(1);
            tracing::error!(record = %record.entry.id(), "audit record lost: the audit trail is closed");
            return;
        }
        let urgent = record.waiter.is_some();
        state.waited_for += usize::from(urgent);
        state.queued.push_back(record);
        // One wake-up for many records: while the writer gathers, only a waiter wakes it.
        if state.asleep || urgent {
            state.asleep = false;
            self.wake.notify_one();
        }
    }

    pub(super) fn request_close(&self) {
        self.closed.store(true, Ordering::Release);
        self.lock().close = true;
        self.wake.notify_one();
    }

    /// Waits for records, for `close`, or until `timeout`; takes everything that is queued to the end
    /// of `backlog`. Whether that is the last.
    pub(super) fn next(&self, timeout: Duration, backlog: &mut VecDeque<Queued>) -> bool {
        let mut state = self.lock();
        if state.queued.is_empty() && !state.close {
            state.asleep = true;
            state = self
                .wake
                .wait_timeout_while(state, timeout, |state| state.queued.is_empty() && !state.close)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
            state.asleep = false;
        }
        if !state.queued.is_empty() && state.waited_for == 0 && !state.close {
            state = self
                .wake
                .wait_timeout_while(state, GATHER, |state| state.waited_for == 0 && !state.close)
                .unwrap_or_else(PoisonError::into_inner)
                .0;
        }
        state.waited_for = 0;
        if backlog.is_empty() {
            // The room that the last records took is there for the next.
            std::mem::swap(backlog, &mut state.queued);
        } else {
            backlog.append(&mut state.queued);
        }
        state.close
    }

    /// The writer is gone: whatever still comes is lost. Answers what came last.
    pub(super) fn stop(&self) -> VecDeque<Queued> {
        self.closed.store(true, Ordering::Release);
        let mut state = self.lock();
        state.stopped = true;
        std::mem::take(&mut state.queued)
    }

    pub(super) fn report_pending(&self) {
        gauge!("hedgerow_audit_pending").set(self.taken.load(Ordering::Acquire) as f64);
    }
}

/// Counts lost records.
pub(super) fn lost(records: u64) {
    counter!("hedgerow_audit_lost").increment(records);
}

/// A reserved place in the queue: permission to run one statement. Only [`super::Audit::permit`]
/// gives one:
///
/// ```compile_fail,E0451
/// let forged = hedgerow::audit::AuditPermit { shared: None, attached: None };
/// ```
///
/// ```
/// fn ask(audit: &hedgerow::audit::Audit) -> bool {
///     audit.permit().is_ok()
/// }
/// ```
///
/// Dropped as it is, it frees its place. Dropped after [`AuditPermit::attach`], it records the
/// attached event with an unknown outcome: a session that dies after it sent the statement still
/// leaves the record.
#[must_use = "a permit is there to record what it permitted"]
pub struct AuditPermit {
    /// `None` once the place was used.
    shared: Option<Arc<Shared>>,
    attached: Option<Entry>,
}

impl AuditPermit {
    /// Queues the event; it is written within 10 ms while the disk keeps up. An attached event is
    /// dropped.
    pub fn record(self, event: Event) {
        self.queue(event.into());
    }

    fn queue(mut self, entry: Entry) {
        self.attached = None;
        if let Some(shared) = self.shared.take() {
            shared.push(Queued { entry, waiter: None });
        }
    }

    /// Queues the event and returns once it is on disk (fdatasync). An attached event is dropped.
    ///
    /// # Errors
    /// When it could not be put on disk within five seconds. It stays queued, and is written when
    /// that works again.
    pub fn record_durable(
        self,
        event: Event,
    ) -> impl Future<Output = Result<(), AuditUnavailable>> + Send {
        self.queue_durable(event.into())
    }

    async fn queue_durable(mut self, entry: Entry) -> Result<(), AuditUnavailable> {
        self.attached = None;
        let Some(shared) = self.shared.take() else { return Err(AuditUnavailable) };
        let (waiter, answer) = oneshot::channel();
        shared.push(Queued { entry, waiter: Some(waiter) });
        match tokio::time::timeout(STUCK, answer).await {
            Ok(Ok(result)) => result,
            Ok(Err(_)) | Err(_) => Err(AuditUnavailable),
        }
    }

    fn is_strict(&self) -> bool {
        self.shared.as_ref().is_some_and(|shared| shared.mode == Mode::Strict)
    }

    /// [`AuditPermit::record_durable`] in strict mode, and in balanced mode for what must be on
    /// disk before the answer there too ([`must_be_durable`]); else [`AuditPermit::record`].
    ///
    /// # Errors
    /// As [`AuditPermit::record_durable`].
    pub async fn record_as_mode_asks(self, event: Event) -> Result<(), AuditUnavailable> {
        if self.is_strict() || must_be_durable(&event) {
            self.record_durable(event).await
        } else {
            self.record(event);
            Ok(())
        }
    }

    /// [`AuditPermit::record_as_mode_asks`] for a statement that ran.
    ///
    /// # Errors
    /// As [`AuditPermit::record_durable`].
    pub async fn record_execution(self, execution: Execution) -> Result<(), AuditUnavailable> {
        if self.is_strict() || must_wait(Kind::Statement, execution.decision) {
            self.queue_durable(execution.into()).await
        } else {
            self.queue(execution.into());
            Ok(())
        }
    }

    /// Leaves the event with the permit: if the permit is dropped before it recorded something,
    /// the event is recorded with an unknown outcome. Replaces what was attached.
    pub fn attach(&mut self, event: Event) {
        self.attached = Some(event.into());
    }

    /// [`AuditPermit::attach`] for a statement that is about to run.
    pub fn attach_execution(&mut self, execution: Execution) {
        self.attached = Some(execution.into());
    }

    /// Takes the attached event back: to complete it with rows, duration and result code, and
    /// record it.
    pub fn detach(&mut self) -> Option<Event> {
        self.attached.take().map(Entry::into_event)
    }

    /// Takes an attached execution back, as [`AuditPermit::detach`] does; `None`: an event is attached,
    /// and stays, or nothing.
    pub fn detach_execution(&mut self) -> Option<Execution> {
        match self.attached.take() {
            Some(Entry::Execution(execution)) => Some(execution),
            other => {
                self.attached = other;
                None
            }
        }
    }
}

impl Drop for AuditPermit {
    fn drop(&mut self) {
        let Some(shared) = self.shared.take() else { return };
        match self.attached.take() {
            None => shared.release(1),
            Some(attached) => {
                let mut event = attached.into_event();
                event.result_code = None;
                event.message =
                    Some(Arc::from("outcome unknown: the session ended before the reply"));
                shared.push(Queued { entry: event.into(), waiter: None });
            }
        }
    }
}

/// Whether the record must be on disk before the client gets its answer in balanced mode too:
/// denials, authentication failures, policy changes, egress alarms, gaps.
pub fn must_be_durable(event: &Event) -> bool {
    must_wait(event.kind, event.decision)
}

const fn must_wait(kind: Kind, decision: Decision) -> bool {
    match (kind, decision) {
        (Kind::PolicyChange | Kind::Egress | Kind::Gap, _) => true,
        (_, Decision::Deny) => true,
        (Kind::Authentication, Decision::Error) => true,
        (
            Kind::Statement | Kind::Authentication | Kind::Lifecycle,
            Decision::Allow | Decision::Rewrite | Decision::WouldDeny | Decision::Error,
        ) => false,
    }
}
