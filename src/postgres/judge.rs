//! Asks for decisions: policy and catalog snapshots, stack, panics. Layer 5.
//!
//! The decision itself is [`crate::decide`]; here it gets a stack that deep statements cannot
//! overflow, and a panic in it becomes a denial.

use std::panic::{AssertUnwindSafe, catch_unwind};
use std::sync::Arc;
use std::time::Instant;

use arc_swap::ArcSwap;

use super::facts::Facts;
use super::meters::Meters;
use crate::catalog::Catalog;
use crate::catalog_load::Catalogs;
use crate::claims::Principal;
use crate::decide::{Context, Refusal, decide};
use crate::error::{Denial, DenialCode};
use crate::ids::{CatalogEpoch, PolicyEpoch};
use crate::policy::Policy;
use crate::sql::{Decided, Fingerprint, Limits};

/// Stack that must be left before a decision begins. Runtimes whose threads have
/// [`DECIDING_STACK_BYTES`] never need to switch.
const MIN_STACK_BYTES: usize = 8 << 20;
/// Stack that a decision gets when less is left.
const DECIDING_STACK_BYTES: usize = 16 << 20;

/// Decides for one session.
pub(super) struct Judge {
    pub(super) policy: Arc<ArcSwap<Policy>>,
    pub(super) catalogs: Catalogs,
    pub(super) database: Arc<str>,
    pub(super) principal: Principal,
    pub(super) limits: Limits,
    pub(super) meters: Arc<Meters>,
}

/// A refused text, and under what it was refused.
pub(super) struct Refused {
    pub(super) denial: Denial,
    pub(super) fingerprint: Fingerprint,
    pub(super) policy_epoch: PolicyEpoch,
    pub(super) catalog_epoch: CatalogEpoch,
}

impl Refused {
    /// A refusal that needed no decision.
    pub(super) fn of(denial: Denial) -> Self {
        Self {
            denial,
            fingerprint: Fingerprint::default(),
            policy_epoch: PolicyEpoch::default(),
            catalog_epoch: CatalogEpoch::default(),
        }
    }
}

impl Judge {
    /// Decides a text. All its statements may run, or none.
    pub(super) async fn decide(&self, text: &str) -> Result<Vec<Facts>, Refused> {
        if text.len() > self.limits.max_statement {
            return Err(Refused::of(Denial::new(DenialCode::StatementTooLarge)));
        }
        let policy = self.policy.load_full();
        let mut catalog = self.catalog().await?;
        let begun = Instant::now();
        let mut verdict = self.ask(text, &policy, &catalog);
        self.meters.decided(begun.elapsed());
        if matches!(&verdict, Err(refusal) if refusal.denial.code == DenialCode::UnknownRelation) {
            // The name may be younger than the catalog.
            match self.catalogs.refresh(&self.database).await {
                Ok(fresh) if fresh.epoch != catalog.epoch => {
                    catalog = fresh;
                    verdict = self.ask(text, &policy, &catalog);
                }
                Ok(_unchanged) => {}
                Err(error) => tracing::warn!(%error, "the catalog could not be refreshed"),
            }
        }
        let client_text: Arc<str> = text.into();
        match verdict {
            Ok(decided) => Ok(decided
                .into_iter()
                .map(|decided| Facts::new(&client_text, decided, policy.epoch, catalog.epoch))
                .collect()),
            Err(Refusal { denial, fingerprint }) => Err(Refused {
                denial,
                fingerprint,
                policy_epoch: policy.epoch,
                catalog_epoch: catalog.epoch,
            }),
        }
    }

    /// Whether facts were found under the policy and catalog that hold now.
    pub(super) async fn is_current(&self, facts: &Facts) -> Result<bool, Refused> {
        Ok(facts.policy_epoch == self.policy.load().epoch
            && facts.catalog_epoch == self.catalog().await?.epoch)
    }

    async fn catalog(&self) -> Result<Arc<Catalog>, Refused> {
        #[cfg(test)]
        if super::tests::scripted() {
            return Ok(Arc::default());
        }
        self.catalogs.current(&self.database).await.map_err(|error| {
            tracing::error!(%error, "no catalog: statements are denied");
            Refused::of(Denial::new(DenialCode::Internal))
        })
    }

    fn ask(&self, text: &str, policy: &Policy, catalog: &Catalog) -> Result<Vec<Decided>, Refusal> {
        #[cfg(test)]
        if super::tests::scripted() {
            return super::tests::decide(text, policy.epoch);
        }
        let context = Context { policy, catalog, principal: &self.principal, limits: self.limits };
        stacker::maybe_grow(MIN_STACK_BYTES, DECIDING_STACK_BYTES, || {
            catch_unwind(AssertUnwindSafe(|| decide(text, context)))
        })
        .unwrap_or_else(|_panic| {
            // SECURITY: the panic's own text is on standard error already; it is not put in a log
            // record, for it may quote the statement.
            tracing::error!("a decision panicked: the statement is denied");
            Err(Refusal {
                denial: Denial::new(DenialCode::Internal),
                fingerprint: Fingerprint::default(),
            })
        })
    }
}
