//! Who is calling: strict verification of a JWT into a [`VerifiedIdentity`]. Layer 1, pure: keys
//! and the clock are arguments; `crate::keys` loads the keys.
//!
//! The way of a token: [`Verifier::inspect`] bounds and reads it, chooses the issuer by `iss` and
//! the algorithm by that issuer's list (`token`); [`Verifier::verify`] finds the key, checks the
//! signature ([`crypto`], on ring), then the claims (`verify`). Every refusal is a
//! [`TokenFault`], which knows its denial code.
//!
//! The rules are those of RFC 8725 and the contract:
//! - at most [`MAX_TOKEN_BYTES`], three base64url parts, strict JSON without double names;
//! - `alg` from the issuer's configured list, the key of that algorithm's kind; `jku`, `jwk`,
//!   `x5u` and `x5c` are never looked at; `crit` is refused, as no extension is known; `typ`, if
//!   there, is `JWT` or `at+jwt`;
//! - `iss`, `sub`, `aud`, `exp`, `iat` are required; `nbf` is honoured; times are JSON numbers,
//!   a fraction is rounded to the stricter second; `exp - iat` is bounded;
//! - the tenant claim, if there, is one plain value; without one the identity has no tenant.

mod algorithm;
pub mod crypto;
mod fault;
mod json;
mod key_set;
mod revocation;
mod self_test;
mod signing;
mod token;
mod verify;

#[cfg(test)]
pub(crate) mod tests;

use std::fmt;
use std::sync::Arc;
use std::time::Duration;

pub use algorithm::{Algorithm, KeyKind, UnknownAlgorithm};
pub use fault::{Quoted, TokenFault};
pub use json::{JsonFault, object as strict_object};
pub use key_set::{
    KeySet, KeySetError, MAX_KEY_SET_BYTES, MAX_KEYS, MIN_SECRET_BYTES, SkippedKey, is_key_document,
};
pub use revocation::{MAX_REVOCATION_BYTES, RevocationFault, RevocationList};
pub use self_test::{SelfTestError, self_test};
pub use signing::{SigningKey, SigningKeyError};
pub use token::Unverified;
pub use verify::{SettingsError, Verifier};

use crate::claims::{ClaimPath, Claims, Principal, TenantClaim};

/// Longest token, in bytes: checked before anything is decoded.
pub const MAX_TOKEN_BYTES: usize = 16 * 1024;

/// What tokens must look like. Checked by [`Verifier::new`].
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct VerifierSettings {
    /// Where the tenant stands in the claims.
    pub tenant_claim: ClaimPath,
    /// How far clocks may differ, for `exp`, `nbf` and `iat`. At most ten minutes.
    pub leeway: Duration,
    /// Longest `exp - iat`.
    pub max_lifetime: Duration,
    /// Who may issue tokens; at least one, each name once.
    pub issuers: Vec<IssuerSettings>,
}

impl VerifierSettings {
    /// The leeway when the configuration names none.
    pub const DEFAULT_LEEWAY: Duration = Duration::from_secs(30);
    /// The longest life of a token when the configuration names none.
    pub const DEFAULT_MAX_LIFETIME: Duration = Duration::from_secs(24 * 60 * 60);
}

/// One issuer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct IssuerSettings {
    /// The exact `iss`.
    pub issuer: String,
    /// The `aud` must hold one of these, exactly; at least one.
    pub audiences: Vec<String>,
    /// What the issuer may sign with; at least one. HS256 stands alone, as it needs a secret.
    pub algorithms: Vec<Algorithm>,
}

/// A caller whose token was verified. Only [`Verifier::verify`] makes one; cheap to clone.
///
/// ```compile_fail,E0423
/// let forged = hedgerow::identity::VerifiedIdentity(std::sync::Arc::new(()));
/// ```
///
/// ```
/// fn who(identity: &hedgerow::identity::VerifiedIdentity) -> &str {
///     identity.subject()
/// }
/// ```
#[derive(Clone, PartialEq)]
pub struct VerifiedIdentity(Arc<Identity>);

#[derive(PartialEq)]
struct Identity {
    principal: Principal,
    subject: String,
    issuer: String,
    token_id: Option<String>,
    issued_at: i64,
    expires_at: i64,
}

impl VerifiedIdentity {
    /// Tenant and claims, for decisions.
    pub fn principal(&self) -> &Principal {
        &self.0.principal
    }

    /// The tenant; `None` for a service token, which may only set another token.
    pub fn tenant(&self) -> Option<&TenantClaim> {
        self.0.principal.tenant.as_ref()
    }

    /// `sub`: not empty, without control characters.
    pub fn subject(&self) -> &str {
        &self.0.subject
    }

    /// `iss`: one of the configured issuers.
    pub fn issuer(&self) -> &str {
        &self.0.issuer
    }

    /// `jti`, if the token has one: not empty, without control characters.
    pub fn token_id(&self) -> Option<&str> {
        self.0.token_id.as_deref()
    }

    /// `iat`, in seconds since 1970.
    pub fn issued_at(&self) -> i64 {
        self.0.issued_at
    }

    /// `exp`, in seconds since 1970, without leeway.
    pub fn expires_at(&self) -> i64 {
        self.0.expires_at
    }

    /// All claims as the issuer wrote them. Texts may hold control characters.
    pub fn claims(&self) -> &Claims {
        &self.0.principal.claims
    }
}

impl fmt::Debug for VerifiedIdentity {
    /// Who, without the claims: they may hold personal data.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        f.debug_struct("VerifiedIdentity")
            .field("issuer", &self.0.issuer)
            .field("subject", &self.0.subject)
            .field("tenant", &self.0.principal.tenant)
            .field("token_id", &self.0.token_id)
            .field("expires_at", &self.0.expires_at)
            .finish_non_exhaustive()
    }
}
