//! Why a token was refused: for the operator in full, for the client as a denial code. Layer 1.
//!
//! The `Display` text may name the issuer, the key id and a claim's name; never the token, never a
//! claim's value. What stems from the token is shortened and escaped. The client's text comes from
//! [`DenialCode`] alone and says nothing about configuration.

use std::fmt;

use thiserror::Error;

use super::{Algorithm, KeyKind};
use crate::error::{Denial, DenialCode};

/// A refused token.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum TokenFault {
    /// The text is empty.
    #[error("no token was given")]
    Missing,
    /// It was taken back.
    #[error("the token was revoked")]
    Revoked,
    /// The store of what was taken back has not been read yet.
    #[error("it is not known yet which tokens were revoked")]
    RevocationsUnknown,
    /// Longer than [`super::MAX_TOKEN_BYTES`]; nothing of it was decoded.
    #[error("the token has {0} bytes, more than the limit of {limit}", limit = super::MAX_TOKEN_BYTES)]
    TooLarge(usize),
    /// Not a JWS in compact form.
    #[error("the token {0}")]
    Malformed(&'static str),
    /// The issuer is none of the configured ones.
    #[error("the token's issuer {0} is not configured")]
    UnknownIssuer(Quoted),
    /// The header's algorithm is not in the issuer's list.
    #[error(
        "the token of issuer {issuer} uses the algorithm {algorithm}, which is not configured for it"
    )]
    AlgorithmNotAllowed {
        /// The configured issuer.
        issuer: Quoted,
        /// What the header says.
        algorithm: Quoted,
    },
    /// The key that the token names is of another kind than its algorithm, or bound to another one.
    #[error("the key {kid} of issuer {issuer} ({kind}) does not serve {algorithm}")]
    KeyDoesNotFit {
        /// The configured issuer.
        issuer: Quoted,
        /// The key id.
        kid: Quoted,
        /// What the key is.
        kind: KeyKind,
        /// What the header says.
        algorithm: Algorithm,
    },
    /// The issuer's key set holds no such key id, or no key for the algorithm.
    #[error("the key {kid} for {algorithm} is not in the key set of issuer {issuer}")]
    UnknownKey {
        /// The configured issuer.
        issuer: Quoted,
        /// The key id, or that none was given.
        kid: Quoted,
        /// What the header says.
        algorithm: Algorithm,
    },
    /// No key id, and more than one key that serves the algorithm.
    #[error("the token of issuer {issuer} names no key, and several keys serve {algorithm}")]
    AmbiguousKey {
        /// The configured issuer.
        issuer: Quoted,
        /// What the header says.
        algorithm: Algorithm,
    },
    /// The issuer's keys were never loaded.
    #[error("no keys of issuer {issuer} have been loaded yet")]
    NoKeys {
        /// The configured issuer.
        issuer: Quoted,
    },
    /// The signature does not verify.
    #[error("the signature does not verify with the key {kid} of issuer {issuer}")]
    Signature {
        /// The configured issuer.
        issuer: Quoted,
        /// The key id, or that none was given.
        kid: Quoted,
    },
    /// A required claim is missing, or a claim is malformed.
    #[error("the claim `{claim}` {problem}")]
    Claim {
        /// The registered name.
        claim: &'static str,
        /// What is wrong with it.
        problem: &'static str,
    },
    /// `exp - iat` is over the limit.
    #[error("the token lives for {lifetime} s, longer than the limit of {limit} s")]
    Lifetime {
        /// `exp - iat`, in seconds.
        lifetime: i64,
        /// `max_lifetime`, in seconds.
        limit: i64,
    },
    /// Past `exp` plus leeway.
    #[error("the token expired {0} s ago")]
    Expired(i64),
    /// Before `nbf` or `iat` minus leeway.
    #[error("the token's `{claim}` lies {seconds} s ahead of this machine's clock")]
    NotYetValid {
        /// `nbf` or `iat`.
        claim: &'static str,
        /// How far ahead, in seconds.
        seconds: i64,
    },
    /// None of the audiences is configured for the issuer.
    #[error("the token of issuer {0} is meant for another audience")]
    Audience(Quoted),
    /// The tenant claim is there but cannot be a tenant.
    #[error(
        "the tenant claim is not one plain value: a text without control characters, or an integer"
    )]
    Tenant,
}

impl TokenFault {
    /// The code that the client and the audit record get.
    pub const fn code(&self) -> DenialCode {
        match self {
            Self::Missing => DenialCode::TokenMissing,
            Self::Revoked => DenialCode::TokenRevoked,
            Self::RevocationsUnknown => DenialCode::RevocationsUnknown,
            Self::TooLarge(_) | Self::Malformed(_) | Self::Signature { .. } => {
                DenialCode::TokenInvalid
            }
            Self::UnknownIssuer(_) => DenialCode::TokenIssuer,
            Self::AlgorithmNotAllowed { .. } | Self::KeyDoesNotFit { .. } => {
                DenialCode::TokenAlgorithm
            }
            Self::UnknownKey { .. } | Self::AmbiguousKey { .. } | Self::NoKeys { .. } => {
                DenialCode::TokenKey
            }
            Self::Claim { .. } | Self::Lifetime { .. } => DenialCode::TokenClaim,
            Self::Expired(_) => DenialCode::TokenExpired,
            Self::NotYetValid { .. } => DenialCode::TokenNotYetValid,
            Self::Audience(_) => DenialCode::TokenAudience,
            Self::Tenant => DenialCode::TokenTenant,
        }
    }

    /// The denial for the client: the code, and the registered name of the claim at fault.
    pub fn denial(&self) -> Denial {
        match self {
            Self::Claim { claim, .. } | Self::NotYetValid { claim, .. } => {
                Denial::of(self.code(), *claim)
            }
            Self::Missing
            | Self::Revoked
            | Self::RevocationsUnknown
            | Self::TooLarge(_)
            | Self::Malformed(_)
            | Self::Signature { .. }
            | Self::UnknownIssuer(_)
            | Self::AlgorithmNotAllowed { .. }
            | Self::KeyDoesNotFit { .. }
            | Self::UnknownKey { .. }
            | Self::AmbiguousKey { .. }
            | Self::NoKeys { .. }
            | Self::Lifetime { .. }
            | Self::Expired(_)
            | Self::Audience(_)
            | Self::Tenant => Denial::new(self.code()),
        }
    }
}

/// A piece of a token's header or of configuration as a log line may show it: in quotes,
/// shortened, control characters escaped.
#[derive(Clone, PartialEq, Eq)]
pub struct Quoted(Option<String>);

impl Quoted {
    /// Longest piece shown, in characters.
    const MAX_CHARS: usize = 80;

    /// The piece, made fit to be shown.
    pub fn new(text: &str) -> Self {
        let mut shown: String =
            text.chars().take(Self::MAX_CHARS).flat_map(char::escape_debug).collect();
        if text.chars().nth(Self::MAX_CHARS).is_some() {
            shown.push('…');
        }
        Self(Some(shown))
    }

    /// The piece, or that there was none.
    pub fn optional(text: Option<&str>) -> Self {
        text.map_or(Self(None), Self::new)
    }
}

impl fmt::Display for Quoted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        match &self.0 {
            Some(text) => write!(f, "`{text}`"),
            None => f.write_str("(without id)"),
        }
    }
}

impl fmt::Debug for Quoted {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        fmt::Display::fmt(self, f)
    }
}
