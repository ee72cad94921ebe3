//! Whether this process may be sent traffic, and why not. Layer 5: atomics and closures; it asks
//! and never dials.

use std::fmt;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};

use serde::Serialize;

use crate::policy::Policy;

/// What the composition root wires up. Every field is asked at each probe, so each must be cheap
/// and must not block. All are required: a check that nobody wired could not fail.
pub struct Probes {
    /// The policy in force; `None` before one was loaded.
    pub policy: Box<dyn Fn() -> Option<Arc<Policy>> + Send + Sync>,
    /// Whether tokens can be verified: every issuer has keys.
    pub keys: Box<dyn Fn() -> bool + Send + Sync>,
    /// Whether audit records can be written.
    pub audit: Box<dyn Fn() -> bool + Send + Sync>,
}

/// The state of the process as the admin server tells it. Cheap to clone; clones share it.
#[derive(Clone)]
pub struct Status(Arc<Inner>);

struct Inner {
    started: AtomicBool,
    draining: AtomicBool,
    probes: Probes,
}

/// One reading of all checks; `true` is good everywhere.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize)]
#[expect(clippy::struct_excessive_bools, reason = "independent checks, each named in the answer")]
pub struct Readiness {
    /// Start-up is over: the listeners are bound.
    pub started: bool,
    /// A policy is loaded.
    pub policy: bool,
    /// Tokens can be verified.
    pub keys: bool,
    /// Audit records can be written.
    pub audit: bool,
    /// The process was not told to stop.
    pub not_draining: bool,
}

impl Readiness {
    /// Whether traffic may come: every check is good.
    pub const fn ready(self) -> bool {
        let Self { started, policy, keys, audit, not_draining } = self;
        started && policy && keys && audit && not_draining
    }
}

impl Status {
    /// A process that has neither started nor begun to drain.
    pub fn new(probes: Probes) -> Self {
        Self(Arc::new(Inner {
            started: AtomicBool::new(false),
            draining: AtomicBool::new(false),
            probes,
        }))
    }

    /// Start-up is over: `/startup` answers 200 from now on. Not taken back.
    pub fn mark_started(&self) {
        self.0.started.store(true, Ordering::Release);
    }

    /// The process was told to stop: `/readyz` answers 503 from now on. Not taken back.
    pub fn mark_draining(&self) {
        self.0.draining.store(true, Ordering::Release);
    }

    /// Whether start-up is over.
    pub fn started(&self) -> bool {
        self.0.started.load(Ordering::Acquire)
    }

    /// Whether the process was told to stop.
    pub fn draining(&self) -> bool {
        self.0.draining.load(Ordering::Acquire)
    }

    /// The policy in force.
    pub fn policy(&self) -> Option<Arc<Policy>> {
        (self.0.probes.policy)()
    }

    /// Asks every check.
    pub fn readiness(&self) -> Readiness {
        Readiness {
            started: self.started(),
            policy: self.policy().is_some(),
            keys: (self.0.probes.keys)(),
            audit: (self.0.probes.audit)(),
            not_draining: !self.draining(),
        }
    }
}

impl fmt::Debug for Status {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("Status").field("readiness", &self.readiness()).finish()
    }
}
