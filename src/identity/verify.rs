//! Issuer, algorithm, key, signature, claims: in this order, each with its refusal. Layer 1.

use serde_json::{Map, Value};
use std::sync::Arc;
use std::time::Duration;

use thiserror::Error;

use super::key_set::{KeySet, Lookup};
use super::{
    Algorithm, Identity, IssuerSettings, KeyKind, Quoted, TokenFault, Unverified, VerifiedIdentity,
    VerifierSettings, crypto, token,
};
use crate::claims::{ClaimPath, Claims, Principal, TenantClaim};
use crate::mutant;

/// Largest leeway: beyond it, "expired" means little.
const MAX_LEEWAY: Duration = Duration::from_secs(600);

/// Why [`VerifierSettings`] cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SettingsError {
    /// Nobody could sign in.
    #[error("identity.issuers: at least one issuer is needed")]
    NoIssuer,
    /// An issuer without a name.
    #[error("identity.issuers[{0}].issuer: must not be empty")]
    EmptyIssuer(usize),
    /// Which keys belong to the name would be open.
    #[error("identity.issuers[{index}].issuer: {issuer} stands twice")]
    DuplicateIssuer {
        /// The second one's place.
        index: usize,
        /// Its name.
        issuer: Quoted,
    },
    /// Every token would be refused.
    #[error("identity.issuers[{0}].audiences: at least one non-empty audience is needed")]
    NoAudience(usize),
    /// Every token would be refused.
    #[error("identity.issuers[{0}].algorithms: at least one algorithm is needed")]
    NoAlgorithm(usize),
    /// A secret and public keys under one issuer.
    #[error(
        "identity.issuers[{0}].algorithms: HS256 needs a secret and cannot stand beside the others"
    )]
    MixedAlgorithms(usize),
    /// Over ten minutes.
    #[error("identity.leeway: must be at most 10m")]
    LeewayTooLong,
    /// Under a second, or more seconds than fit.
    #[error("identity.max_lifetime: must be at least 1s and at most 100 years")]
    MaxLifetime,
}

/// Verifies tokens by fixed rules. Keys and clock are arguments.
#[derive(Clone, Debug)]
pub struct Verifier {
    settings: VerifierSettings,
    leeway: i64,
    max_lifetime: i64,
}

impl Verifier {
    /// Checks the settings, all of them, and installs the crypto provider.
    ///
    /// # Errors
    /// Every [`SettingsError`] found.
    pub fn new(settings: VerifierSettings) -> Result<Self, Vec<SettingsError>> {
        const CENTURY: u64 = 100 * 366 * 24 * 60 * 60;
        let mut errors = Vec::new();
        if settings.issuers.is_empty() {
            errors.push(SettingsError::NoIssuer);
        }
        for (index, issuer) in settings.issuers.iter().enumerate() {
            check_issuer(&settings.issuers, index, issuer, &mut errors);
        }
        if settings.leeway > MAX_LEEWAY {
            errors.push(SettingsError::LeewayTooLong);
        }
        if !(1..=CENTURY).contains(&settings.max_lifetime.as_secs()) {
            errors.push(SettingsError::MaxLifetime);
        }
        if !errors.is_empty() {
            return Err(errors);
        }
        crypto::install();
        let seconds = |duration: Duration| i64::try_from(duration.as_secs()).unwrap_or(0);
        let (leeway, max_lifetime) = (seconds(settings.leeway), seconds(settings.max_lifetime));
        Ok(Self { settings, leeway, max_lifetime })
    }

    /// The settings.
    pub fn settings(&self) -> &VerifierSettings {
        &self.settings
    }

    /// Reads a token as far as is needed to find its key: form, header, issuer, algorithm.
    ///
    /// # Errors
    /// [`TokenFault`]: missing, too large, malformed, unknown issuer, algorithm not allowed.
    pub fn inspect<'a>(&self, text: &'a str) -> Result<Unverified<'a>, TokenFault> {
        let token::Parts { header, claims, message, signature } = token::parts(text)?;
        let claimed = text_claim(&claims, "iss")?;
        let (issuer, settings) = self
            .settings
            .issuers
            .iter()
            .enumerate()
            .find(|(_, settings)| settings.issuer == claimed || mutant::on("any-issuer"))
            .ok_or_else(|| TokenFault::UnknownIssuer(Quoted::new(claimed)))?;
        // SECURITY: the header proposes, the configuration decides (RFC 8725, 3.1).
        let algorithm = header
            .algorithm
            .parse::<Algorithm>()
            .ok()
            .filter(|algorithm| {
                settings.algorithms.contains(algorithm) || mutant::on("header-algorithm")
            })
            .ok_or_else(|| TokenFault::AlgorithmNotAllowed {
                issuer: Quoted::new(&settings.issuer),
                algorithm: Quoted::new(&header.algorithm),
            })?;
        Ok(Unverified { issuer, algorithm, kid: header.kid, claims, message, signature })
    }

    /// Verifies signature and claims with the issuer's keys at `now` (seconds since 1970).
    ///
    /// `keys` must be those of [`Unverified::issuer_index`].
    ///
    /// # Errors
    /// [`TokenFault`]; [`TokenFault::UnknownKey`] is the one after which newer keys may help.
    pub fn verify(
        &self,
        token: &Unverified<'_>,
        keys: &KeySet,
        now: i64,
    ) -> Result<VerifiedIdentity, TokenFault> {
        let settings = self
            .settings
            .issuers
            .get(token.issuer)
            .ok_or(TokenFault::Malformed("was inspected by another verifier"))?;
        let issuer = || Quoted::new(&settings.issuer);
        let kid = || Quoted::optional(token.kid.as_deref());
        let algorithm = token.algorithm;
        let key = match keys.find(token.kid.as_deref(), algorithm) {
            Lookup::Found(key) => key,
            Lookup::Unknown => {
                return Err(TokenFault::UnknownKey { issuer: issuer(), kid: kid(), algorithm });
            }
            Lookup::Ambiguous => {
                return Err(TokenFault::AmbiguousKey { issuer: issuer(), algorithm });
            }
            Lookup::DoesNotFit(key) => {
                let kind: KeyKind = key.kind;
                return Err(TokenFault::KeyDoesNotFit {
                    issuer: issuer(),
                    kid: kid(),
                    kind,
                    algorithm,
                });
            }
        };
        crypto::verify(algorithm, &key.material, token.message.as_bytes(), &token.signature)
            .or_else(|refused| if mutant::on("signature") { Ok(()) } else { Err(refused) })
            .map_err(|_| TokenFault::Signature { issuer: issuer(), kid: kid() })?;
        self.identity(settings, &token.claims, now)
    }

    /// Whether an identity that was verified before may still be used at `now`.
    ///
    /// # Errors
    /// [`TokenFault::Expired`] at `exp` plus leeway.
    pub fn check_expiry(&self, identity: &VerifiedIdentity, now: i64) -> Result<(), TokenFault> {
        self.not_expired(identity.expires_at(), now)
    }

    /// The claims of a token whose signature holds.
    fn identity(
        &self,
        settings: &IssuerSettings,
        claims: &Map<String, Value>,
        now: i64,
    ) -> Result<VerifiedIdentity, TokenFault> {
        let subject = plain_text(claims, "sub")?;
        let audiences = audiences(claims)?;
        let expires_at = time(claims, "exp", f64::floor)?.ok_or(missing("exp"))?;
        let issued_at = time(claims, "iat", f64::floor)?.ok_or(missing("iat"))?;
        let not_before = time(claims, "nbf", f64::ceil)?;
        let token_id = match claims.get("jti") {
            None => None,
            Some(_) => Some(plain_text(claims, "jti")?.to_owned()),
        };

        self.not_expired(expires_at, now)?;
        for (claim, seconds) in [("nbf", not_before), ("iat", Some(issued_at))] {
            let ahead = seconds.map_or(0, |seconds| seconds.saturating_sub(now));
            if ahead > self.leeway && !mutant::on("not-before") {
                return Err(TokenFault::NotYetValid { claim, seconds: ahead });
            }
        }
        let lifetime = expires_at.saturating_sub(issued_at);
        if lifetime <= 0 {
            return Err(TokenFault::Claim { claim: "exp", problem: "does not lie after `iat`" });
        }
        if lifetime > self.max_lifetime && !mutant::on("lifetime") {
            return Err(TokenFault::Lifetime { lifetime, limit: self.max_lifetime });
        }
        let ours = |audience: &&str| settings.audiences.iter().any(|own| own == audience);
        if !audiences.iter().any(ours) && !mutant::on("audience") {
            return Err(TokenFault::Audience(Quoted::new(&settings.issuer)));
        }
        let tenant = tenant(claims, &self.settings.tenant_claim)?;
        Ok(VerifiedIdentity(Arc::new(Identity {
            principal: Principal {
                tenant,
                claims: Claims(claims.clone()),
                lifetime_seconds: lifetime.unsigned_abs(),
            },
            subject: subject.to_owned(),
            issuer: settings.issuer.clone(),
            token_id,
            issued_at,
            expires_at,
        })))
    }

    /// RFC 7519, 4.1.4: not accepted "on or after" `exp`; the leeway moves that moment.
    fn not_expired(&self, expires_at: i64, now: i64) -> Result<(), TokenFault> {
        if now >= expires_at.saturating_add(self.leeway) && !mutant::on("expiry") {
            return Err(TokenFault::Expired(now.saturating_sub(expires_at)));
        }
        Ok(())
    }
}

fn check_issuer(
    all: &[IssuerSettings],
    index: usize,
    issuer: &IssuerSettings,
    errors: &mut Vec<SettingsError>,
) {
    if issuer.issuer.is_empty() {
        errors.push(SettingsError::EmptyIssuer(index));
    }
    if all.iter().take(index).any(|earlier| earlier.issuer == issuer.issuer) {
        let issuer = Quoted::new(&issuer.issuer);
        errors.push(SettingsError::DuplicateIssuer { index, issuer });
    }
    if issuer.audiences.is_empty() || issuer.audiences.iter().any(String::is_empty) {
        errors.push(SettingsError::NoAudience(index));
    }
    if issuer.algorithms.is_empty() {
        errors.push(SettingsError::NoAlgorithm(index));
    }
    let is_secret = |algorithm: &Algorithm| algorithm.key_kind() == KeyKind::Secret;
    let mixed = issuer.algorithms.iter().any(is_secret) && !issuer.algorithms.iter().all(is_secret);
    if mixed && !mutant::on("mixed-algorithms") {
        errors.push(SettingsError::MixedAlgorithms(index));
    }
}

const fn missing(claim: &'static str) -> TokenFault {
    TokenFault::Claim { claim, problem: "is missing" }
}

/// A claim that must be a non-empty text.
fn text_claim<'a>(
    claims: &'a Map<String, Value>,
    claim: &'static str,
) -> Result<&'a str, TokenFault> {
    match claims.get(claim) {
        Some(Value::String(text)) if !text.is_empty() => Ok(text),
        Some(_) => Err(TokenFault::Claim { claim, problem: "is not a non-empty text" }),
        None => Err(missing(claim)),
    }
}

/// A non-empty text without control characters: it goes into records and session variables.
fn plain_text<'a>(
    claims: &'a Map<String, Value>,
    claim: &'static str,
) -> Result<&'a str, TokenFault> {
    let text = text_claim(claims, claim)?;
    if text.chars().any(char::is_control) && !mutant::on("control-characters") {
        return Err(TokenFault::Claim { claim, problem: "holds control characters" });
    }
    Ok(text)
}

/// The audiences: one text, or a list of nothing but texts.
fn audiences(claims: &Map<String, Value>) -> Result<Vec<&str>, TokenFault> {
    const PROBLEM: TokenFault =
        TokenFault::Claim { claim: "aud", problem: "is not a text or a list of texts" };
    match claims.get("aud") {
        None => Err(missing("aud")),
        Some(Value::String(audience)) => Ok(vec![audience]),
        Some(Value::Array(list)) => {
            list.iter().map(|audience| audience.as_str().ok_or(PROBLEM)).collect()
        }
        Some(Value::Null | Value::Bool(_) | Value::Number(_) | Value::Object(_)) => Err(PROBLEM),
    }
}

/// A NumericDate (RFC 7519, 2): a JSON number of seconds since 1970. A fraction is allowed there,
/// so it is here; `round` takes it to the stricter second. Texts are refused (CVE-2026-25537 took
/// them for absent).
fn time(
    claims: &Map<String, Value>,
    claim: &'static str,
    round: fn(f64) -> f64,
) -> Result<Option<i64>, TokenFault> {
    /// Seconds up to the year 9999, either way.
    const BOUND: i64 = 253_402_300_799;
    const PROBLEM: &str = "is not a number of seconds since 1970";
    let seconds = match claims.get(claim) {
        None => return Ok(None),
        Some(Value::Number(number)) => number.as_i64().or_else(|| {
            let seconds = round(number.as_f64()?);
            // Exact below 2^53, so the comparison and the cast lose nothing.
            (seconds.abs() <= BOUND as f64).then_some(seconds as i64)
        }),
        Some(
            Value::Null | Value::Bool(_) | Value::String(_) | Value::Array(_) | Value::Object(_),
        ) => None,
    };
    match seconds.filter(|seconds| (-BOUND..=BOUND).contains(seconds)) {
        Some(seconds) => Ok(Some(seconds)),
        None => Err(TokenFault::Claim { claim, problem: PROBLEM }),
    }
}

/// The tenant: absent is a service token, present but unusable is a fault. A step of the path that
/// meets something other than an object counts as present: nothing there can be a tenant.
fn tenant(
    claims: &Map<String, Value>,
    path: &ClaimPath,
) -> Result<Option<TenantClaim>, TokenFault> {
    let mut object = claims;
    let mut segments = path.segments().iter().peekable();
    while let Some(segment) = segments.next() {
        match (object.get(segment), segments.peek()) {
            (None, _) => return Ok(None),
            (Some(value), None) => {
                return TenantClaim::from_value(value).map(Some).ok_or(TokenFault::Tenant);
            }
            (Some(Value::Object(inner)), Some(_)) => object = inner,
            (Some(_), Some(_)) => return Err(TokenFault::Tenant),
        }
    }
    // A path is never empty; were it, no tenant could be told.
    Err(TokenFault::Tenant)
}
