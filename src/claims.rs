//! Verified claims as plain data: what policy, SQL and audit may know of a caller. Layer 0.
//!
//! Nothing here verifies anything: a [`Principal`] is only as good as where it came from
//! (`identity::VerifiedIdentity::principal`, or `Principal::assumed` for `hedgerow explain`).

use std::borrow::Cow;

use serde_json::{Map, Value};

/// A path into the claims: `tenant_id`, `org.id`, `"https://example.com/claims".tenant`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClaimPath(Vec<String>);

impl ClaimPath {
    /// Parses dotted segments; a segment in double quotes may hold dots. `None` when a segment is
    /// empty or a quote stays open.
    pub fn parse(text: &str) -> Option<Self> {
        let mut segments = Vec::new();
        let mut rest = text;
        loop {
            let (segment, after) = match rest.strip_prefix('"') {
                Some(quoted) => {
                    let (segment, after) = quoted.split_once('"')?;
                    (segment, after)
                }
                None => rest.split_at(rest.find('.').unwrap_or(rest.len())),
            };
            if segment.is_empty() || segment.contains('\0') {
                return None;
            }
            segments.push(segment.to_owned());
            match after.strip_prefix('.') {
                Some(next) => rest = next,
                None if after.is_empty() => return Some(Self(segments)),
                None => return None,
            }
        }
    }

    /// The segments, outermost first; never empty.
    pub fn segments(&self) -> &[String] {
        &self.0
    }
}

/// The claims of a token, as the issuer wrote them.
#[derive(Clone, Debug, Default, PartialEq)]
pub struct Claims(pub Map<String, Value>);

impl Claims {
    /// The value at `path`, if every segment leads on.
    pub fn at(&self, path: &ClaimPath) -> Option<&Value> {
        let (first, rest) = path.0.split_first()?;
        rest.iter().try_fold(self.0.get(first)?, |value, segment| value.as_object()?.get(segment))
    }
}

/// The tenant claim: exactly one scalar. Lists, objects, booleans, null, the empty string and text
/// with control characters are not tenants.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum TenantClaim {
    /// A JSON string.
    Text(String),
    /// A JSON integer.
    Integer(i64),
}

impl TenantClaim {
    /// Longest tenant claim, in bytes.
    pub const MAX_BYTES: usize = 256;

    /// The claim's value as a tenant, if it can be one.
    pub fn from_value(value: &Value) -> Option<Self> {
        match value {
            Value::String(text)
                if !text.is_empty()
                    && text.len() <= Self::MAX_BYTES
                    && !text.chars().any(char::is_control) =>
            {
                Some(Self::Text(text.clone()))
            }
            Value::Number(number) => number.as_i64().map(Self::Integer),
            Value::String(_)
            | Value::Null
            | Value::Bool(_)
            | Value::Array(_)
            | Value::Object(_) => None,
        }
    }

    /// The tenant as text, as patterns and quotas see it.
    pub fn text(&self) -> Cow<'_, str> {
        match self {
            Self::Text(text) => Cow::Borrowed(text),
            Self::Integer(number) => Cow::Owned(number.to_string()),
        }
    }
}

impl std::fmt::Display for TenantClaim {
    fn fmt(&self, f: &mut std::fmt::Formatter<'_>) -> std::fmt::Result {
        match self {
            Self::Text(text) => f.write_str(text),
            Self::Integer(number) => number.fmt(f),
        }
    }
}

/// On whose behalf a statement is decided.
#[derive(Clone, Debug, PartialEq)]
pub struct Principal {
    /// The tenant; `None` for a service token that may only set another token.
    pub tenant: Option<TenantClaim>,
    /// All claims, for `claim('path')` in policies and for session variables.
    pub claims: Claims,
    /// How long the token lives from its issue to its expiry, in seconds.
    pub lifetime_seconds: u64,
}

impl Principal {
    /// A principal that nobody verified, for `hedgerow explain` and tests. Never named by anything
    /// that talks to a database (`tests/architecture.rs` holds that).
    /// Its token has no lifetime: it is never over a limit.
    pub const fn assumed(tenant: Option<TenantClaim>, claims: Claims) -> Self {
        Self { tenant, claims, lifetime_seconds: 0 }
    }
}
