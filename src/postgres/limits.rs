//! Limits: those in force, which a reload replaces while sessions run; the bytes that long messages
//! hold; how long a client may let Hedgerow wait. Layer 5.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, AtomicUsize, Ordering};
use std::time::Duration;

use arc_swap::ArcSwap;
use metrics::{counter, gauge};
use tokio::time::Instant;

use super::answer::Answer;
use super::session::Link;
use super::{Limits, socket};
use crate::error::SqlState;

/// A message that is not longer does not count for `max_buffered`: each client may hold as much.
pub(super) const SHORT_MESSAGE: usize = 64 << 10;
/// What the upstream may overrun `statement_timeout` before it is asked to cancel: it keeps that time
/// itself, unless the client told it not to.
const OVERRUN: Duration = Duration::from_secs(1);

/// A limit that was met, as `hedgerow_limits_total` and the log name it.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Met {
    MaxClients,
    MaxStatement,
    StatementTimeout,
    IdleInTransaction,
    SlowClient,
    Startup,
    Buffered,
    FileDescriptors,
}

impl Met {
    pub(super) const fn name(self) -> &'static str {
        match self {
            Self::MaxClients => "max_clients",
            Self::MaxStatement => "max_statement",
            Self::StatementTimeout => "statement_timeout",
            Self::IdleInTransaction => "idle_in_transaction_timeout",
            Self::SlowClient => "slow_client_timeout",
            Self::Startup => "startup_timeout",
            Self::Buffered => "max_buffered",
            Self::FileDescriptors => "file_descriptors",
        }
    }

    /// Counts it.
    pub(super) fn count(self) {
        counter!("hedgerow_limits_total", "limit" => self.name()).increment(1);
    }
}

/// The limits in force. Cheap to clone.
#[derive(Clone)]
pub(super) struct InForce(Arc<Inner>);

struct Inner {
    limits: ArcSwap<Limits>,
    version: AtomicU64,
    clients: AtomicUsize,
    buffered: AtomicUsize,
}

impl InForce {
    pub(super) fn new(limits: Limits) -> Self {
        Self(Arc::new(Inner {
            limits: ArcSwap::from_pointee(limits),
            version: AtomicU64::new(0),
            clients: AtomicUsize::new(0),
            buffered: AtomicUsize::new(0),
        }))
    }

    pub(super) fn now(&self) -> Limits {
        **self.0.limits.load()
    }

    /// Counts the changes.
    pub(super) fn version(&self) -> u64 {
        self.0.version.load(Ordering::Acquire)
    }

    pub(super) fn replace(&self, limits: Limits) {
        self.0.limits.store(Arc::new(limits));
        self.0.version.fetch_add(1, Ordering::AcqRel);
    }

    /// A place among the clients, if there is one. Fewer places than before turn nobody out.
    pub(super) fn client(&self) -> Option<ClientPlace> {
        let most = self.now().max_clients;
        let enter = |clients: usize| (clients < most).then_some(clients.saturating_add(1));
        let entered = self.0.clients.fetch_update(Ordering::AcqRel, Ordering::Acquire, enter);
        entered.is_ok().then(|| ClientPlace(self.clone()))
    }

    /// Nothing held yet of what all clients may hold together.
    pub(super) fn hold(&self) -> Hold {
        Hold { of: self.clone(), bytes: 0 }
    }
}

/// A client's place; given up when dropped.
pub(super) struct ClientPlace(InForce);

impl Drop for ClientPlace {
    fn drop(&mut self) {
        self.0.0.clients.fetch_sub(1, Ordering::AcqRel);
    }
}

/// Bytes of a long message that one side of a session holds; given up when dropped.
pub(super) struct Hold {
    of: InForce,
    bytes: usize,
}

/// All clients together hold as much as they may.
#[derive(Debug, PartialEq, Eq)]
pub(super) struct Full;

impl Hold {
    /// Holds that many bytes of a message, if there is room for them.
    pub(super) fn grow_to(&mut self, bytes: usize) -> Result<(), Full> {
        let Some(more) = bytes.checked_sub(self.bytes).filter(|more| *more > 0) else {
            return Ok(());
        };
        let most = self.of.now().max_buffered;
        let grow = |held: usize| held.checked_add(more).filter(|held| *held <= most);
        match self.of.0.buffered.fetch_update(Ordering::AcqRel, Ordering::Acquire, grow) {
            Ok(before) => {
                self.bytes = bytes;
                publish(before.saturating_add(more));
                Ok(())
            }
            Err(_full) => Err(Full),
        }
    }

    /// Gives everything up.
    pub(super) fn release(&mut self) {
        let bytes = std::mem::take(&mut self.bytes);
        if bytes > 0 {
            let before = self.of.0.buffered.fetch_sub(bytes, Ordering::AcqRel);
            publish(before.saturating_sub(bytes));
        }
    }
}

impl Drop for Hold {
    fn drop(&mut self) {
        self.release();
    }
}

#[expect(clippy::cast_precision_loss, reason = "exact up to 2^53 bytes")]
fn publish(bytes: usize) {
    gauge!("hedgerow_buffered_bytes").set(bytes as f64);
}

/// How long one side has taken nothing of what it is sent.
#[derive(Clone, Copy, Debug, Default)]
pub(super) enum Stall {
    /// It takes what comes.
    #[default]
    None,
    /// Since then; looked at again at the second time.
    Since(Instant, Instant),
    /// The same, and the kernel was told to wait for it.
    Endured(Instant, Instant),
}

impl Stall {
    /// After a write: whether it took something, and whether something waits still.
    pub(super) fn note<S: socket::Patient>(&mut self, socket: &S, wrote: bool, waits: bool) {
        match (*self, waits) {
            (Self::None, false) => {}
            (Self::Endured(..), false) => {
                socket.be_patient(socket::Patience::Usual);
                *self = Self::None;
            }
            (Self::Since(..), false) => *self = Self::None,
            (Self::None, true) => *self = Self::from_now(),
            (Self::Since(..), true) if wrote => *self = Self::from_now(),
            (Self::Endured(_, look), true) if wrote => *self = Self::Endured(Instant::now(), look),
            (Self::Since(..) | Self::Endured(..), true) => {}
        }
    }

    fn from_now() -> Self {
        let now = Instant::now();
        Self::Since(now, now + socket::STALL_LOOK)
    }

    /// Lets the kernel wait as long as `limit` (zero: for ever), if it would lose patience soon with one
    /// who does not read. One who does not even acknowledge is left to it.
    pub(super) fn endure<S: socket::Patient>(&mut self, socket: &S, limit: Duration, now: Instant) {
        match *self {
            Self::Since(since, look) if now >= look => {
                *self = if socket.has_vanished() {
                    Self::Since(since, now + socket::STALL_LOOK)
                } else {
                    socket.be_patient(socket::Patience::Stalled(limit));
                    Self::Endured(since, now + socket::STALL_LOOK)
                };
            }
            // Who was only slow may have gone since.
            Self::Endured(since, look) if now >= look => {
                let look = now + socket::STALL_LOOK;
                *self = if socket.has_vanished() {
                    socket.be_patient(socket::Patience::Usual);
                    Self::Since(since, look)
                } else {
                    Self::Endured(since, look)
                };
            }
            Self::None | Self::Since(..) | Self::Endured(..) => {}
        }
    }

    /// When it is too long.
    pub(super) fn ends(self, limit: Duration) -> Option<Instant> {
        match self {
            Self::Since(since, _) | Self::Endured(since, _) if !limit.is_zero() => {
                Some(since + limit)
            }
            Self::None | Self::Since(..) | Self::Endured(..) => None,
        }
    }

    /// When it must be looked at again.
    pub(super) fn next_look(self, limit: Duration) -> Option<Instant> {
        match self {
            Self::Since(_, look) | Self::Endured(_, look) => {
                Some(self.ends(limit).map_or(look, |end| end.min(look)))
            }
            Self::None => None,
        }
    }
}

/// What the upstream works on, and since when.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) struct AtWork {
    /// Tells statements of one session apart.
    statement: (u64, usize),
    since: Instant,
    /// When the upstream is asked to cancel it, first or once more.
    ask_at: Instant,
}

impl Link {
    /// Takes up limits that were replaced.
    pub(super) fn mind_limits(&mut self) {
        let version = self.in_force.version();
        if version == self.limits_seen {
            return;
        }
        self.limits_seen = version;
        self.door.limits = self.in_force.now();
        self.judge.viewpoint.set_max_statement(self.door.limits.max_statement);
    }

    /// Asks the upstream to cancel a statement that overran its time, whatever the client has set.
    pub(super) fn mind_overrun(&mut self, now: Instant) {
        let limit = self.door.limits.statement_timeout;
        if limit.is_zero() {
            self.at_work = None;
            return;
        }
        let Some((statement, executes)) = self.replies.statement_at_work() else {
            self.at_work = None;
            return;
        };
        let patience = limit.saturating_mul(executes) + OVERRUN;
        match &mut self.at_work {
            Some(at_work) if at_work.statement == statement => {
                // More may have been sent behind it since.
                at_work.ask_at = at_work.ask_at.max(at_work.since + patience);
                if now >= at_work.ask_at {
                    // A request may come to nothing: the server ignores one that comes too early.
                    at_work.ask_at = now + OVERRUN;
                    Met::StatementTimeout.count();
                    tracing::info!(
                        "a statement overran its time: the upstream is asked to cancel it"
                    );
                    let flight = Arc::clone(&self.flight);
                    tokio::spawn(async move { flight.cancel().await });
                }
            }
            Some(_) | None => {
                self.at_work = Some(AtWork { statement, since: now, ask_at: now + patience });
            }
        }
    }

    /// When [`Link::mind_overrun`] has something to do.
    pub(super) fn overrun_at(&self) -> Option<Instant> {
        self.at_work.map(|work| work.ask_at)
    }
}

/// The answer for a message that there is no room for.
pub(super) fn no_room() -> Answer {
    Answer::new(SqlState::OUT_OF_MEMORY, "too much is held in memory for all clients together")
        .with_hint("Try again later, send less at a time, or ask the operator for a larger limit.")
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn clients_and_bytes_are_bounded_together_and_given_back() {
        let limits = Limits { max_clients: 2, max_buffered: 100, ..Limits::default() };
        let in_force = InForce::new(limits);
        let first = in_force.client().unwrap();
        let second = in_force.client().unwrap();
        assert!(in_force.client().is_none());
        in_force.replace(Limits { max_clients: 1, ..limits });
        drop(first);
        assert!(in_force.client().is_none(), "one is left of one");
        drop(second);
        assert!(in_force.client().is_some());
        let (mut one, mut two) = (in_force.hold(), in_force.hold());
        assert_eq!(one.grow_to(60), Ok(()));
        assert_eq!(two.grow_to(50), Err(Full));
        assert_eq!(one.grow_to(70), Ok(()));
        assert_eq!(two.grow_to(30), Ok(()));
        one.release();
        assert_eq!(two.grow_to(100), Ok(()));
        drop(two);
        assert_eq!(one.grow_to(100), Ok(()));
    }
}
