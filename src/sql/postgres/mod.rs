//! PostgreSQL's SQL.

use super::{Decided, Fingerprint, Limits};
use crate::catalog::Catalog;
use crate::claims::Principal;
use crate::error::{Denial, DenialCode};
use crate::policy::Policy;

/// See [`crate::decide::decide`].
pub fn decide(
    _text: &str,
    _policy: &Policy,
    _catalog: &Catalog,
    _principal: &Principal,
    _limits: Limits,
) -> Result<Vec<Decided>, Denial> {
    Err(Denial::new(DenialCode::Internal))
}

/// The shape of a text; empty when PostgreSQL's grammar cannot read it.
pub fn fingerprint(_text: &str) -> Fingerprint {
    Fingerprint::default()
}
