//! Cancel keys: our own, handed to clients, each mapped to one backend. Layer 5.
//!
//! A key works only while a query of its client is in flight, so that nothing of Hedgerow's own is
//! ever cancelled. An unknown key is ignored without a word, as PostgreSQL does.

use std::sync::atomic::{AtomicBool, Ordering};
use std::sync::{Arc, Weak};
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
/// Tries at finding a process number that is not taken.
const PROCESS_TRIES: usize = 64;

/// Whether a session has something in flight, and which backend it has.
pub(super) struct Flight {
    in_flight: AtomicBool,
    backend: BackendKey,
    connector: Arc<Connector>,
}

impl Flight {
    pub(super) fn new(backend: BackendKey, connector: Arc<Connector>) -> Arc<Self> {
        Arc::new(Self { in_flight: AtomicBool::new(false), backend, connector })
    }

    pub(super) fn set_in_flight(&self, in_flight: bool) {
        self.in_flight.store(in_flight, Ordering::Release);
    }

    /// Asks the upstream to cancel what is in flight, if anything is.
    pub(super) async fn cancel(&self) {
        if !self.in_flight.load(Ordering::Acquire) {
            return;
        }
        let attempt = async {
            let mut socket = self.connector.dial().await?;
            let mut request = bytes::BytesMut::new();
            cancel_request(&mut request, self.backend.process, &self.backend.secret);
            socket.write_all(&request).await?;
            socket.flush().await?;
            // The server closes once it has sent the signal.
            let mut end = [0; 1];
            socket.read(&mut end).await.map(|_end| ()).or(Ok(()))
        };
        match timeout(CANCEL_TIMEOUT, attempt).await {
            Ok(Ok(())) => {}
            Ok(Err::<(), super::upstream::ConnectFault>(fault)) => {
                tracing::warn!(%fault, "a cancel request did not reach the upstream");
            }
            Err(_elapsed) => tracing::warn!("the upstream did not take a cancel request in time"),
        }
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
