//! The sessions that are open, so that they can be woken when tokens are taken back. Layer 5.

use std::sync::Arc;
use std::sync::atomic::{AtomicU64, Ordering};

use dashmap::DashMap;
use tokio::sync::{Notify, watch};

/// All open sessions. Cheap to clone.
#[derive(Clone, Default)]
pub(super) struct Sessions(Arc<Inner>);

#[derive(Default)]
struct Inner {
    open: DashMap<u64, Arc<Notify>>,
    next: AtomicU64,
}

/// A session's entry; taken back when dropped.
pub(super) struct Registered {
    sessions: Sessions,
    number: u64,
    /// Says that the session should look at its token anew.
    pub(super) wake: Arc<Notify>,
}

impl Drop for Registered {
    fn drop(&mut self) {
        self.sessions.0.open.remove(&self.number);
    }
}

impl Sessions {
    /// An entry for a session that begins.
    pub(super) fn register(&self) -> Registered {
        let number = self.0.next.fetch_add(1, Ordering::Relaxed);
        let wake = Arc::new(Notify::new());
        self.0.open.insert(number, Arc::clone(&wake));
        Registered { sessions: self.clone(), number, wake }
    }

    /// Wakes all sessions at each change, for ever.
    pub(super) async fn wake_at(self, mut changes: watch::Receiver<u64>) {
        while changes.changed().await.is_ok() {
            for session in &self.0.open {
                session.notify_one();
            }
        }
    }
}
