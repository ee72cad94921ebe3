//! Backends of one database, shared by its clients. Layer 5.
//!
//! A backend belongs to one tenant from its first byte to its last: tenant and session variables are
//! part of its [`Key`], and it was started with them. No backend ever changes tenant; when all places
//! are taken, an idle one of another key is closed and its place is used for a new one.
//!
//! INVARIANT: what lies idle here has nothing in flight, nothing unread, no transaction, no cancel
//! request on its way, and no state that its first client left. Whoever is in doubt closes.

use std::collections::VecDeque;
use std::hash::{DefaultHasher, Hash as _, Hasher as _};
use std::pin::Pin;
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::task::{Context, Waker};
use std::thread::{self, ThreadId};
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead as _, AsyncReadExt as _, AsyncWriteExt as _, ReadBuf};
use tokio::sync::oneshot;
use tokio::time::{Instant, sleep, timeout, timeout_at};

use super::answer::Answer;
use super::bearers::Bearers;
use super::meters::{Counted, Meters};
use super::outbox::Outbox;
use super::socket::{Socket, Stayed};
use super::statements::Statements;
use super::upstream::{BackendKey, ConnectFault, Connector};
use crate::claims::TenantClaim;
use crate::error::SqlState;
use crate::sql::{Guarded, Keeps};
use crate::wire::FrameBuffer;

/// How long a client waits for a backend when all are taken.
pub(super) const BACKEND_WAIT: Duration = Duration::from_secs(10);
/// How long the first in the queue must have waited before backends of its neighbours' keys are
/// closed for it: a new backend costs more than a turn.
const PATIENCE: Duration = Duration::from_millis(50);
/// How long the first in the queue must have waited before it is passed over no more for one whose
/// thread the backend is on already: going over costs two system calls and a wake-up.
const HOME_PATIENCE: Duration = Duration::from_millis(2);
/// How long a backend may take to hang up once it was told goodbye.
const CLOSE_TIMEOUT: Duration = Duration::from_secs(1);
/// Least and most time between two looks at idle backends.
const LOOK: (Duration, Duration) = (Duration::from_millis(100), Duration::from_secs(10));
/// Most keys whose ParameterStatus messages are remembered.
const MAX_REMEMBERED: usize = 1024;

/// What a backend was started with, and for whom. Backends of equal keys may be exchanged.
#[derive(Debug)]
pub(super) struct Key {
    tenant: Option<TenantClaim>,
    /// Whether it is for callers who may do more than their tenant: what they leave open, a cursor over
    /// every tenant's rows, is not for the tenant's other callers.
    privileged: bool,
    settings: Vec<(String, String)>,
    hash: u64,
}

impl Key {
    pub(super) fn new(
        tenant: Option<TenantClaim>,
        privileged: bool,
        settings: Vec<(String, String)>,
    ) -> Arc<Self> {
        let mut hasher = DefaultHasher::new();
        (&tenant, privileged, &settings).hash(&mut hasher);
        Arc::new(Self { tenant, privileged, settings, hash: hasher.finish() })
    }
}

impl PartialEq for Key {
    fn eq(&self, other: &Self) -> bool {
        // The hash only says no early.
        std::ptr::eq(self, other)
            || self.hash == other.hash
                && self.tenant == other.tenant
                && self.privileged == other.privileged
                && self.settings == other.settings
    }
}

impl Eq for Key {}

/// A backend's connection.
pub(super) struct Wire {
    pub(super) socket: Socket,
    pub(super) incoming: FrameBuffer,
    /// The thread that hears of it.
    home: ThreadId,
}

/// Settings that a client made in its session, in order, each with the statement that makes it.
pub(super) type Overlay = Vec<(String, Guarded)>;

/// What is known of a backend.
pub(super) struct Lease {
    pub(super) key: Arc<Key>,
    pub(super) cancel: BackendKey,
    pub(super) statements: Statements,
    /// Settings on top of those that it was started with.
    pub(super) overlay: Overlay,
    /// Why it cannot be lent to another client.
    pub(super) pins: Vec<Keeps>,
    _open: Counted,
    place: Place,
}

/// A backend: connection and what is known of it.
pub(super) struct Backend {
    pub(super) wire: Wire,
    pub(super) lease: Lease,
}

/// Why there is no backend.
#[derive(Debug, thiserror::Error)]
pub(super) enum PoolFault {
    #[error("all connections are in use")]
    Busy,
    #[error("{0}")]
    Connect(#[from] ConnectFault),
}

impl PoolFault {
    /// What the client may know.
    pub(super) fn answer(&self) -> Answer {
        match self {
            Self::Busy => Answer::new(
                SqlState::TOO_MANY_CONNECTIONS,
                "all connections to the database are in use",
            )
            .with_hint("Try again later, or ask the operator for a larger pool."),
            Self::Connect(fault) => fault.answer(),
        }
    }
}

struct Idle {
    backend: Backend,
    since: Instant,
    _idle: Counted,
}

struct Waiting {
    key: Arc<Key>,
    home: ThreadId,
    since: Instant,
    hand: oneshot::Sender<Grant>,
}

/// What one who waited is handed.
enum Grant {
    /// A backend of its own key.
    Backend(Backend),
    /// A backend of another key, to be closed for its place.
    Replace(Backend),
    Place(Place),
}

#[derive(Default)]
struct State {
    taken: usize,
    /// The one that came back last is last.
    idle: Vec<Idle>,
    waiting: VecDeque<Waiting>,
    closed: bool,
    /// ParameterStatus frames of backends of a key, as they came.
    statuses: Vec<(Arc<Key>, BytesMut)>,
}

/// A place among the backends; given up when dropped.
struct Place(Weak<Pool>);

impl Drop for Place {
    fn drop(&mut self) {
        if let Some(pool) = self.0.upgrade() {
            pool.vacate();
        }
    }
}

/// The backends of one database.
pub(super) struct Pool {
    itself: Weak<Self>,
    database: String,
    connector: Arc<Connector>,
    capacity: usize,
    idle_timeout: Duration,
    meters: Arc<Meters>,
    state: Mutex<State>,
    /// Whose sessions it serves.
    pub(super) bearers: Bearers,
}

/// The first step of who wants a backend.
enum Step {
    Take(Backend),
    Open(Place),
    Replace(Backend),
    Wait(oneshot::Receiver<Grant>),
}

impl Pool {
    /// A pool without any connection. Within a tokio runtime: idle connections are looked after.
    pub(super) fn new(
        database: &str,
        connector: Arc<Connector>,
        capacity: usize,
        idle_timeout: Duration,
        meters: Arc<Meters>,
    ) -> Arc<Self> {
        let pool = Arc::new_cyclic(|itself| Self {
            itself: Weak::clone(itself),
            database: database.to_owned(),
            connector,
            capacity,
            idle_timeout,
            meters,
            state: Mutex::default(),
            bearers: Bearers::default(),
        });
        tokio::spawn(look_after(Arc::downgrade(&pool)));
        pool
    }

    fn state(&self) -> MutexGuard<'_, State> {
        self.state.lock().unwrap_or_else(PoisonError::into_inner)
    }

    /// A backend of this key, with these settings if there is one; within [`BACKEND_WAIT`].
    pub(super) async fn take(
        &self,
        key: &Arc<Key>,
        overlay: &Overlay,
    ) -> Result<Backend, PoolFault> {
        let deadline = Instant::now() + BACKEND_WAIT;
        loop {
            let grant = match self.step(key, overlay) {
                Step::Take(backend) => Grant::Backend(backend),
                Step::Open(place) => Grant::Place(place),
                Step::Replace(backend) => Grant::Replace(backend),
                Step::Wait(hand) => match timeout_at(deadline, hand).await {
                    Ok(Ok(grant)) => grant,
                    // Nobody drops a waiting client; if one did, it asks again.
                    Ok(Err(_dropped)) => continue,
                    Err(_elapsed) => return Err(PoolFault::Busy),
                },
            };
            let place = match grant {
                Grant::Backend(mut backend) => {
                    if !backend.is_quiet() {
                        // It said something while it lay idle: its last word, mostly.
                        backend.close().await
                    } else if backend.wire.home == thread::current().id() {
                        return Ok(backend);
                    } else {
                        match backend.brought_here() {
                            Ok(backend) => return Ok(backend),
                            Err(place) => place,
                        }
                    }
                }
                Grant::Replace(backend) => backend.close().await,
                Grant::Place(place) => place,
            };
            return self.open(key, place).await;
        }
    }

    fn step(&self, key: &Arc<Key>, overlay: &Overlay) -> Step {
        let mut state = self.state();
        let home = thread::current().id();
        let mut best: Option<(Fit, usize)> = None;
        for (position, idle) in state.idle.iter().enumerate().rev() {
            let Backend { wire, lease } = &idle.backend;
            if lease.key != *key {
                continue;
            }
            let fit = Fit { overlay: lease.overlay == *overlay, home: wire.home == home };
            if best.is_none_or(|(known, _)| fit > known) {
                best = Some((fit, position));
            }
            if fit == Fit::BEST {
                break;
            }
        }
        if let Some((_, position)) = best {
            let idle = state.idle.remove(position);
            return Step::Take(idle.backend);
        }
        if state.taken < self.capacity {
            state.taken += 1;
            return Step::Open(Place(Weak::clone(&self.itself)));
        }
        if !state.idle.is_empty() {
            let idle = state.idle.remove(0);
            return Step::Replace(idle.backend);
        }
        let (hand, handed) = oneshot::channel();
        let (key, since) = (Arc::clone(key), Instant::now());
        state.waiting.push_back(Waiting { key, home, since, hand });
        Step::Wait(handed)
    }

    async fn open(&self, key: &Arc<Key>, place: Place) -> Result<Backend, PoolFault> {
        let connecting = Counted::new(&self.meters.upstream_connecting);
        let opened = self.connector.open(&self.database, &key.settings).await?;
        drop(connecting);
        self.remember(key, &opened.statuses);
        Ok(self.backend(key, (opened.socket, opened.incoming), opened.key, place))
    }

    fn backend(
        &self,
        key: &Arc<Key>,
        (socket, incoming): (Socket, FrameBuffer),
        cancel: BackendKey,
        place: Place,
    ) -> Backend {
        Backend {
            wire: Wire { socket, incoming, home: thread::current().id() },
            lease: Lease {
                key: Arc::clone(key),
                cancel,
                statements: Statements::default(),
                overlay: Overlay::new(),
                pins: Vec::new(),
                _open: Counted::new(&self.meters.upstream_open),
                place,
            },
        }
    }

    /// A backend over a connection that nobody opened.
    #[cfg(test)]
    pub(super) fn backend_for_test(&self, key: &Arc<Key>, socket: Socket) -> Backend {
        self.state().taken += 1;
        let place = Place(Weak::clone(&self.itself));
        self.backend(key, (socket, FrameBuffer::new()), BackendKey::default(), place)
    }

    fn remember(&self, key: &Arc<Key>, statuses: &BytesMut) {
        let mut state = self.state();
        state.statuses.retain(|(known, _)| known != key);
        if state.statuses.len() >= MAX_REMEMBERED {
            state.statuses.remove(0);
        }
        state.statuses.push((Arc::clone(key), statuses.clone()));
    }

    /// The same key as others have that are equal to it, if one is known: such are told at a glance, and
    /// held once.
    pub(super) fn known(&self, key: Arc<Key>) -> Arc<Key> {
        let state = self.state();
        let mut known = state.statuses.iter().rev().map(|(known, _)| known);
        known.find(|known| **known == key).map_or(key, Arc::clone)
    }

    /// What backends of this key said of themselves when they were opened.
    pub(super) fn statuses(&self, key: &Arc<Key>) -> Option<BytesMut> {
        let state = self.state();
        state.statuses.iter().rev().find(|(known, _)| known == key).map(|(_, bytes)| bytes.clone())
    }

    /// Takes a backend back of which nothing is owed, in no transaction, without pins.
    pub(super) fn give_back(&self, mut backend: Backend) {
        if !backend.is_quiet() || !backend.lease.pins.is_empty() {
            return backend.close_later();
        }
        loop {
            let mut state = self.state();
            if state.closed {
                drop(state);
                return backend.close_later();
            }
            let Some(position) = next_in_line(&state.waiting, &backend) else {
                let _idle = Counted::new(&self.meters.upstream_idle);
                state.idle.push(Idle { backend, since: Instant::now(), _idle });
                return;
            };
            let Some(waiting) = state.waiting.remove(position) else { continue };
            drop(state);
            let grant = if waiting.key == backend.lease.key {
                Grant::Backend(backend)
            } else {
                Grant::Replace(backend)
            };
            match waiting.hand.send(grant) {
                Ok(()) => return,
                // It no longer waits.
                Err(Grant::Backend(back) | Grant::Replace(back)) => backend = back,
                Err(Grant::Place(_)) => return,
            }
        }
    }

    /// A place was given up: the first in the queue gets it.
    fn vacate(&self) {
        loop {
            let mut state = self.state();
            let Some(waiting) = state.waiting.pop_front() else {
                state.taken = state.taken.saturating_sub(1);
                return;
            };
            drop(state);
            match waiting.hand.send(Grant::Place(Place(Weak::clone(&self.itself)))) {
                Ok(()) => return,
                Err(Grant::Place(mut place)) => place.0 = Weak::new(),
                Err(Grant::Backend(_) | Grant::Replace(_)) => {}
            }
        }
    }

    /// Closes what lies idle, and takes nothing back any more.
    pub(super) async fn shut(&self) {
        let idle = {
            let mut state = self.state();
            state.closed = true;
            std::mem::take(&mut state.idle)
        };
        for idle in idle {
            drop(idle.backend.close().await);
        }
    }

    /// Takes out those that lie idle for too long, or that said something.
    fn stale(&self) -> Vec<Backend> {
        let mut state = self.state();
        let now = Instant::now();
        let mut stale = Vec::new();
        for mut idle in std::mem::take(&mut state.idle) {
            let old = now.saturating_duration_since(idle.since) >= self.idle_timeout;
            if old || !idle.backend.is_quiet() {
                stale.push(idle.backend);
            } else {
                state.idle.push(idle);
            }
        }
        stale
    }
}

/// How well an idle backend of the right key suits, the more important first.
#[derive(Clone, Copy, PartialEq, Eq, PartialOrd, Ord)]
struct Fit {
    /// It has the session's settings.
    overlay: bool,
    /// It is on the session's thread.
    home: bool,
}

impl Fit {
    const BEST: Self = Self { overlay: true, home: true };
}

/// Whose turn it is for a backend: the first in the queue; as long as that has patience, the first who
/// can use the backend as it is and where it is, or at least as it is.
fn next_in_line(waiting: &VecDeque<Waiting>, backend: &Backend) -> Option<usize> {
    let waited = waiting.front()?.since.elapsed();
    if waited >= PATIENCE {
        return Some(0);
    }
    let (key, home) = (&backend.lease.key, backend.wire.home);
    let as_it_is = |waiting: &Waiting| waiting.key == *key;
    let first = |suits: &dyn Fn(&Waiting) -> bool| waiting.iter().position(suits);
    (waited < HOME_PATIENCE)
        .then(|| first(&|waiting| waiting.home == home && as_it_is(waiting)))
        .flatten()
        .or_else(|| first(&as_it_is))
        .or(Some(0))
}

async fn look_after(pool: Weak<Pool>) {
    loop {
        let Some(pause) = pool.upgrade().map(|pool| (pool.idle_timeout / 4).clamp(LOOK.0, LOOK.1))
        else {
            return;
        };
        sleep(pause).await;
        let Some(pool) = pool.upgrade() else { return };
        for backend in pool.stale() {
            backend.close_later();
        }
    }
}

impl Backend {
    /// Whether it said nothing that was not read, and is there.
    fn is_quiet(&mut self) -> bool {
        let mut byte = [0; 1];
        let mut buffer = ReadBuf::new(&mut byte);
        let mut nobody = Context::from_waker(Waker::noop());
        self.wire.incoming.is_empty()
            && Pin::new(&mut self.wire.socket).poll_read(&mut nobody, &mut buffer).is_pending()
    }

    /// The same on this thread; its place if it has something to say, or cannot be brought here: then it
    /// is closed.
    fn brought_here(self) -> Result<Self, Place> {
        let Self { wire: Wire { socket, incoming, home: _ }, lease } = self;
        match socket.brought_here() {
            Ok(socket) => {
                let wire = Wire { socket, incoming, home: thread::current().id() };
                Ok(Self { wire, lease })
            }
            Err(Stayed) => Err(lease.place),
        }
    }

    /// Says goodbye and waits until the server is gone, so that there are never more backends than
    /// places.
    async fn close(self) -> Place {
        let Self { mut wire, lease } = self;
        let goodbye = async {
            let mut outbox = Outbox::default();
            outbox.terminate();
            wire.socket.write_all_buf(outbox.bytes()).await?;
            wire.socket.flush().await?;
            let mut ignored = [0; 1024];
            while wire.socket.read(&mut ignored).await? > 0 {}
            std::io::Result::Ok(())
        };
        // In either case the connection is closed here.
        let _unheard = timeout(CLOSE_TIMEOUT, goodbye).await;
        drop(wire);
        let Lease { place, .. } = lease;
        place
    }

    /// [`Backend::close`] by itself.
    pub(super) fn close_later(self) {
        tokio::spawn(async move { drop(self.close().await) });
    }
}
