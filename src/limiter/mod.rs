//! Quotas with a clock, and with the other sidecars of the same tenants. Layer 4.
//!
//! [`Limiter::admit`] is asked before a statement runs; it does arithmetic only. [`Limiter::share`]
//! exchanges in the background what was let through.

mod exchange;

use std::sync::Arc;
use std::time::{Duration, Instant};

use tokio::task::JoinHandle;

use crate::error::Denial;
pub use crate::quota::{Admitted, Demand, Place, Rules};
use crate::quota::{Moment, Quotas};
use crate::store::Store;

/// Between two looks for accounts that can be given up.
const SWEEP: Duration = Duration::from_secs(10);

/// The quotas of one engine. Cheap to clone.
#[derive(Clone, Debug)]
pub struct Limiter(Arc<Inner>);

#[derive(Debug)]
struct Inner {
    quotas: Quotas,
    started: Instant,
}

impl Default for Limiter {
    fn default() -> Self {
        Self(Arc::new(Inner { quotas: Quotas::default(), started: Instant::now() }))
    }
}

impl Limiter {
    /// A limiter that gives up idle accounts by itself. Within a tokio runtime.
    pub fn start() -> Self {
        let limiter = Self::default();
        let inner = Arc::downgrade(&limiter.0);
        tokio::spawn(async move {
            loop {
                tokio::time::sleep(SWEEP).await;
                let Some(inner) = inner.upgrade() else { return };
                let limiter = Self(inner);
                limiter.0.quotas.sweep(limiter.now());
            }
        });
        limiter
    }

    /// Lets a tenant's statements through, or does not. The place, if there is one, must be held as
    /// long as they run.
    ///
    /// # Errors
    /// A denial of the HR3 family; nothing was taken then.
    pub fn admit(
        &self,
        rules: Rules<'_>,
        tenant: &str,
        demand: Demand,
    ) -> Result<Admitted, Denial> {
        self.0.quotas.admit(rules, tenant, demand, self.now())
    }

    /// Exchanges with the other sidecars what was let through, until the task is aborted.
    /// `engine` is a part of the keys.
    pub fn share(&self, url: &str, engine: &'static str) -> JoinHandle<()> {
        tokio::spawn(exchange::run(self.clone(), Store::new(url, "quotas"), engine))
    }

    fn now(&self) -> Moment {
        Moment::since_start(self.0.started.elapsed())
    }
}
