//! Who a session speaks for, and what it takes to speak for somebody else. Layer 5.
//!
//! An identity is one value: backends' key, viewpoint of decisions, tenant of the egress guard, name
//! in records and expiry change together or not at all.

use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use arc_swap::ArcSwap;
use tokio::time::Instant;

use super::bearers::Bearer;
use super::parameters::Requested;
use super::pool::{Key, Pool};
use super::{Limits, PoolMode};
use crate::claims::ClaimPath;
use crate::error::Denial;
use crate::identity::VerifiedIdentity;
use crate::keys::Authenticator;
use crate::policy::Policy;
use crate::sql;

/// A caller.
pub(super) struct Who {
    pub(super) bearer: Arc<Bearer>,
    /// The backends that may serve this caller. Without a tenant it is of use for nothing but to learn
    /// how the server introduces itself.
    pub(super) key: Arc<Key>,
    pub(super) standing: Standing,
    /// In seconds since 1970.
    pub(super) expires_at: i64,
    /// When that is by a clock that nobody turns back.
    pub(super) ends: Option<Instant>,
    /// Tells the identities of one session apart.
    pub(super) serial: u64,
}

/// Longer than any token lives, in seconds.
const CENTURY: u64 = 100 * 365 * 24 * 60 * 60;

/// When an hour on the wall's clock comes, as seen now: that clock may be set back later. `None`: never.
fn instant_of(unix_seconds: i64) -> Option<Instant> {
    let now = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default().as_secs();
    let left = u64::try_from(unix_seconds).unwrap_or(0).saturating_sub(now);
    Instant::now().checked_add(Duration::from_secs(left.min(CENTURY)))
}

/// What a caller may do.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Standing {
    /// Has a tenant: statements are decided.
    Tenant,
    /// A service without a tenant: may only set a token.
    Service,
}

impl Who {
    /// Whether this is the same caller with a newer token.
    pub(super) fn renews(&self, other: &Self) -> bool {
        match (&self.bearer.identity, &other.bearer.identity) {
            (Some(one), Some(two)) => {
                one.subject() == two.subject()
                    && one.issuer() == two.issuer()
                    && one.tenant() == two.tenant()
            }
            (Some(_) | None, _) => false,
        }
    }
}

/// By what a session becomes somebody.
pub(super) struct Door {
    pub(super) pool: Arc<Pool>,
    pub(super) mode: PoolMode,
    pub(super) authenticator: Option<Authenticator>,
    /// What tells whether a caller is privileged.
    pub(super) policy: Arc<ArcSwap<Policy>>,
    pub(super) database: Arc<str>,
    pub(super) requested: Requested,
    pub(super) limits: Limits,
    pub(super) variables: Arc<[(String, ClaimPath)]>,
    pub(super) serial: u64,
}

impl Door {
    /// Makes a verified identity the session's.
    ///
    /// # Errors
    /// A claim that cannot be a session variable.
    pub(super) fn admit(&mut self, identity: VerifiedIdentity) -> Result<Arc<Who>, Denial> {
        let settings =
            self.requested.backend_settings(&self.limits, &self.variables, identity.claims())?;
        self.serial = self.serial.wrapping_add(1);
        let tenant = identity.tenant();
        let (policy, claims) = (self.policy.load(), identity.claims());
        let privileged = policy.breaks_glass(claims) || policy.may_change_schema(claims);
        Ok(Arc::new(Who {
            key: self.pool.known(Key::new(tenant.cloned(), privileged, settings)),
            standing: if tenant.is_some() { Standing::Tenant } else { Standing::Service },
            expires_at: identity.expires_at(),
            ends: instant_of(identity.expires_at()),
            serial: self.serial,
            bearer: self.pool.bearers.of(
                identity,
                &self.database,
                sql::Limits { max_statement: self.limits.max_statement },
            ),
        }))
    }
}
