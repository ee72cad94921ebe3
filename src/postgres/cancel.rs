//! Cancel keys: our own, handed to clients, each mapped to one backend. Layer 5.
//!
//! A key works only while a query of its client is in flight, so that nothing of Hedgerow's own is
//! ever cancelled. An unknown key is ignored without a word, as PostgreSQL does.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Mutex, MutexGuard, PoisonError, Weak};
use std::time::Duration;

use dashmap::DashMap;
use dashmap::mapref::entry::Entry;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::time::timeout;

use super::upstream::{BackendKey, Connector};
use crate::wire::startup::{ProtocolVersion, cancel_request};

/// Bytes of a secret for clients of protocol 3.2. Less than the 256 that it allows, so that a proxy
/// in front of this one has room to add its own.
const LONG_SECRET_BYTES: usize = 32;
/// Bytes of a secret for clients of protocol 3.0.
const SHORT_SECRET_BYTES: usize = 4;
/// How long the upstream may take over a cancel request.
const CANCEL_TIMEOUT: Duration = Duration::from_secs(10);
/// Requests for one backend that may be on their way at a time, each a connection to the upstream. More
/// would only cancel what is being cancelled already.
const MAX_UNDER_WAY: usize = 2;
/// Tries at finding a process number that is not taken.
const PROCESS_TRIES: usize = 64;

/// Whether a session has something in flight, and which backend it has.
pub(super) struct Flight {
    in_flight: AtomicBool,
    target: Mutex<Target>,
    connector: Arc<Connector>,
}

#[derive(Default)]
struct Target {
    backend: Option<BackendKey>,
    /// Requests that are on their way to the upstream.
    under_way: usize,
    /// A request was sent of which the upstream never said that it is dealt with: it may hit at any
    /// time.
    unaccounted: bool,
}

impl Flight {
    pub(super) fn new(connector: Arc<Connector>) -> Arc<Self> {
        let (in_flight, target) = (AtomicBool::new(false), Mutex::default());
        Arc::new(Self { in_flight, target, connector })
    }

    fn target(&self) -> MutexGuard<'_, Target> {
        self.target.lock().unwrap_or_else(PoisonError::into_inner)
    }

    pub(super) fn set_in_flight(&self, in_flight: bool) {
        self.in_flight.store(in_flight, Ordering::Release);
    }

    /// From now on, this backend does what the session asks.
    pub(super) fn attach(&self, backend: BackendKey) {
        let mut target = self.target();
        target.backend = Some(backend);
        target.unaccounted = false;
    }

    /// The session has no backend any more. Whether it may go to another session: not while a cancel
    /// request is on its way to it.
    pub(super) fn detach(&self) -> bool {
        self.set_in_flight(false);
        let mut target = self.target();
        target.backend = None;
        target.under_way == 0 && !target.unaccounted
    }

    /// Whether no cancel request is on its way.
    pub(super) fn is_quiet(&self) -> bool {
        self.target().under_way == 0
    }

    /// Whether a cancel request was sent that may still hit.
    pub(super) fn is_unaccounted(&self) -> bool {
        self.target().unaccounted
    }

    /// Asks the upstream to cancel what is in flight, if anything is.
    pub(super) async fn cancel(&self) {
        self.cancel_within(CANCEL_TIMEOUT).await;
    }

    async fn cancel_within(&self, limit: Duration) {
        let Some((backend, mut under_way)) = self.aim() else { return };
        let attempt = async {
            let mut socket = self.connector.dial().await?;
            let mut request = bytes::BytesMut::new();
            cancel_request(&mut request, backend.process, &backend.secret);
            under_way.sent = true;
            socket.write_all(&request).await?;
            socket.flush().await?;
            // The server closes once it has sent its signals: PostgreSQL sends two, and the second
            // may hit what the backend was asked after the first.
            let mut end = [0; 1];
            let _closed = socket.read(&mut end).await;
            under_way.sent = false;
            Ok(())
        };
        match timeout(limit, attempt).await {
            Ok(Ok(())) => {}
            Ok(Err::<(), super::upstream::ConnectFault>(fault)) => {
                tracing::warn!(%fault, "a cancel request did not reach the upstream");
            }
            Err(_elapsed) => tracing::warn!("the upstream did not take a cancel request in time"),
        }
    }

    /// What to cancel; from here on the backend stays with this session.
    fn aim(&self) -> Option<(BackendKey, UnderWay<'_>)> {
        let mut target = self.target();
        if !self.in_flight.load(Ordering::Acquire) || target.under_way >= MAX_UNDER_WAY {
            return None;
        }
        let backend = target.backend.clone()?;
        target.under_way = target.under_way.saturating_add(1);
        Some((backend, UnderWay { flight: self, sent: false }))
    }
}

/// A cancel request on its way.
struct UnderWay<'a> {
    flight: &'a Flight,
    /// It was sent, and the upstream has not closed yet.
    sent: bool,
}

impl Drop for UnderWay<'_> {
    fn drop(&mut self) {
        let mut target = self.flight.target();
        target.under_way = target.under_way.saturating_sub(1);
        target.unaccounted |= self.sent;
    }
}

/// The keys that are out. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct CancelKeys(Arc<DashMap<i32, Slot>>);

struct Slot {
    secret: Box<[u8]>,
    flight: Weak<Flight>,
}

/// A key that a client was given; taken back when dropped.
pub(super) struct IssuedKey {
    keys: CancelKeys,
    pub(super) process: i32,
    pub(super) secret: Box<[u8]>,
}

impl Drop for IssuedKey {
    fn drop(&mut self) {
        self.keys.0.remove(&self.process);
    }
}

impl CancelKeys {
    /// A fresh key for a client that speaks `version`; `None` when the system gives no randomness.
    pub(super) fn issue(
        &self,
        version: ProtocolVersion,
        flight: &Arc<Flight>,
    ) -> Option<IssuedKey> {
        let length =
            if version >= ProtocolVersion::V3_2 { LONG_SECRET_BYTES } else { SHORT_SECRET_BYTES };
        let mut secret = vec![0; length].into_boxed_slice();
        getrandom::fill(&mut secret).ok()?;
        for _ in 0..PROCESS_TRIES {
            let mut process = [0; 4];
            getrandom::fill(&mut process).ok()?;
            let process = i32::from_be_bytes(process) & i32::MAX;
            if let Entry::Vacant(vacant) = self.0.entry(process) {
                vacant.insert(Slot { secret: secret.clone(), flight: Arc::downgrade(flight) });
                return Some(IssuedKey { keys: self.clone(), process, secret });
            }
        }
        None
    }

    /// The flight that a key stands for.
    pub(super) fn find(&self, process: i32, secret: &[u8]) -> Option<Arc<Flight>> {
        let slot = self.0.get(&process)?;
        let same = slot.secret.len() == secret.len()
            // Without an early end: the time taken says nothing about the bytes.
            && slot.secret.iter().zip(secret).fold(0, |all, (ours, theirs)| all | (ours ^ theirs)) == 0;
        if same { slot.flight.upgrade() } else { None }
    }
}

#[cfg(test)]
mod tests {
    use tokio::net::UnixListener;

    use super::*;
    use crate::endpoint::{Binding, Endpoint, TlsMode};

    #[tokio::test]
    async fn a_backend_may_go_to_others_only_when_the_upstream_closed_the_cancel_request() {
        let directory = tempfile::TempDir::new().unwrap();
        let listener = UnixListener::bind(directory.path().join(".s.PGSQL.1")).unwrap();
        let connector = Connector::new(Endpoint {
            host: directory.path().display().to_string(),
            port: 1,
            database: None,
            user: "app".to_owned(),
            password: None,
            tls: TlsMode::Disable,
            channel_binding: Binding::Prefer,
            ca_file: None,
            client_certificate: None,
        })
        .unwrap();
        let flight = Flight::new(Arc::new(connector));
        for closes in [true, false] {
            flight.attach(BackendKey::default());
            flight.set_in_flight(true);
            let cancelling = flight.cancel_within(Duration::from_millis(200));
            let serving = async {
                let (mut socket, _) = listener.accept().await.unwrap();
                let mut request = [0; 12];
                socket.read_exact(&mut request).await.unwrap();
                assert!(!flight.is_quiet());
                (!closes).then_some(socket)
            };
            let ((), _held) = tokio::join!(cancelling, serving);
            assert!(flight.is_quiet());
            assert_eq!(flight.is_unaccounted(), !closes);
            assert_eq!(flight.detach(), closes);
        }
    }
}
