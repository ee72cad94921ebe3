//! Keys of the issuers, and the answer to "who sent this token?". Layer 4: files, HTTP, the clock.
//!
//! [`Authenticator`] loads every source at start, keeps it fresh (`state`), and verifies tokens
//! by the pure rules of [`crate::identity`]. A token that was verified is remembered under its
//! SHA-256 until it expires or any key set changes, so that a pool of connections pays for one RSA
//! check and not for each. The token itself is never kept.
//!
//! Refuses to start on malformed settings, on a missing or malformed file, and when the crypto
//! self-test fails. A URL that cannot be reached is no reason: [`Authenticator::healthy`] is false
//! until it can.

mod revocation;
mod source;
mod state;

#[cfg(test)]
mod tests;

use std::fmt;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::{Duration, SystemTime, UNIX_EPOCH};

use moka::sync::Cache;
use thiserror::Error;
use tokio::sync::watch;
use tokio::task::JoinHandle;

pub use revocation::RevocationError;
pub use source::{KeySource, LoadError, UrlError, check_url};

use crate::endpoint::Secret;
use crate::error::Denial;
use crate::identity::{
    self, KeyKind, MAX_TOKEN_BYTES, Quoted, SelfTestError, TokenFault, VerifiedIdentity, Verifier,
    VerifierSettings, crypto, self_test,
};
use crate::mutant;
use revocation::Revocations;
use source::Door;
use state::State;

/// Room for remembered tokens, in bytes of tokens and claims, roughly.
const CACHE_BYTES: u64 = 16 * 1024 * 1024;
/// What one remembered token costs beside its claims.
const CACHE_ENTRY_BYTES: u32 = 512;

/// What to verify, and where the keys are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The rules.
    pub verifier: VerifierSettings,
    /// One source for each issuer, in the order of the issuers.
    pub sources: Vec<KeySource>,
    /// The file of tokens that were taken back.
    pub revocation_file: Option<PathBuf>,
    /// The URL of a Redis with tokens that were taken back.
    pub revocation_redis: Option<Secret>,
}

/// When keys are read anew. The defaults are the contract's; tests shorten them.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Timing {
    /// Between two looks at a file.
    pub file_poll: Duration,
    /// Between two fetches of a URL.
    pub url_refresh: Duration,
    /// Least time between two reads caused by unknown keys, for each source.
    pub unknown_key_interval: Duration,
    /// The first wait after a failed fetch; doubles with each failure.
    pub first_retry: Duration,
    /// The longest wait after a failed fetch.
    pub longest_retry: Duration,
    /// For one fetch, from dialling to the last byte.
    pub fetch_timeout: Duration,
}

impl Default for Timing {
    fn default() -> Self {
        Self {
            file_poll: Duration::from_secs(2),
            url_refresh: Duration::from_secs(300),
            unknown_key_interval: Duration::from_secs(30),
            first_retry: Duration::from_secs(1),
            longest_retry: Duration::from_secs(60),
            fetch_timeout: Duration::from_secs(5),
        }
    }
}

/// One fault of [`Settings`].
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum SettingsError {
    /// A fault of the rules.
    #[error(transparent)]
    Verifier(#[from] identity::SettingsError),
    /// Not one source for each issuer.
    #[error("identity.issuers: {issuers} issuers, but {sources} sources of keys")]
    SourceCount {
        /// How many issuers.
        issuers: usize,
        /// How many sources.
        sources: usize,
    },
    /// HS256 with public keys.
    #[error("identity.issuers[{0}]: HS256 needs hmac_secret_file, not public keys")]
    SecretNeeded(usize),
    /// A secret with an asymmetric algorithm.
    #[error("identity.issuers[{0}]: hmac_secret_file serves HS256 only; use jwks_url or jwks_file")]
    PublicKeysNeeded(usize),
    /// An unusable URL.
    #[error("identity.issuers[{index}].jwks_url: {error}")]
    Url {
        /// The issuer's place.
        index: usize,
        /// What is wrong with it.
        error: UrlError,
    },
}

/// Why authentication cannot start.
#[derive(Debug, Error)]
pub enum StartError {
    /// The settings, every fault of them.
    #[error("{}", join(.0))]
    Settings(Vec<SettingsError>),
    /// The crypto backend is broken.
    #[error(transparent)]
    SelfTest(#[from] SelfTestError),
    /// Files that are missing or malformed, all of them.
    #[error("{}", join(.0))]
    Files(Vec<FileError>),
    /// The revocation file.
    #[error("identity.revocation.file: {0}")]
    Revocation(#[from] RevocationError),
}

/// A key or secret file that cannot be used.
#[derive(Debug, Error)]
#[error("identity.issuers[{index}]: the file {file} {error}")]
pub struct FileError {
    /// The issuer's place.
    pub index: usize,
    /// The file.
    pub file: String,
    /// What is wrong with it.
    pub error: LoadError,
}

fn join<T: fmt::Display>(errors: &[T]) -> String {
    errors.iter().map(T::to_string).collect::<Vec<_>>().join("\n")
}

/// Checks settings without reading any file or opening any connection.
///
/// # Errors
/// Every [`SettingsError`] found.
pub fn check_settings(settings: &Settings) -> Result<(), Vec<SettingsError>> {
    prepare(settings, &Timing::default()).map(drop)
}

type Prepared = (Verifier, Vec<(KeySource, Door)>);

fn prepare(settings: &Settings, timing: &Timing) -> Result<Prepared, Vec<SettingsError>> {
    let mut errors = Vec::new();
    let issuers = &settings.verifier.issuers;
    if issuers.len() != settings.sources.len() {
        let sources = settings.sources.len();
        errors.push(SettingsError::SourceCount { issuers: issuers.len(), sources });
    }
    let mut doors = Vec::new();
    for (index, (issuer, source)) in issuers.iter().zip(&settings.sources).enumerate() {
        let secret = |algorithm: &identity::Algorithm| algorithm.key_kind() == KeyKind::Secret;
        if !source.is_secret() && issuer.algorithms.iter().any(secret) {
            errors.push(SettingsError::SecretNeeded(index));
        }
        if source.is_secret() && !issuer.algorithms.iter().all(secret) {
            errors.push(SettingsError::PublicKeysNeeded(index));
        }
        match Door::new(source, timing.fetch_timeout) {
            Ok(door) => doors.push((source.clone(), door)),
            Err(error) => errors.push(SettingsError::Url { index, error }),
        }
    }
    match Verifier::new(settings.verifier.clone()) {
        Ok(verifier) if errors.is_empty() => Ok((verifier, doors)),
        Ok(_) => Err(errors),
        Err(faults) => Err(faults.into_iter().map(Into::into).chain(errors).collect()),
    }
}

/// Tells who sent a token. Cheap to clone; the background work ends with the last clone.
#[derive(Clone)]
pub struct Authenticator(Arc<Inner>);

struct Inner {
    verifier: Verifier,
    state: Arc<State>,
    verified: Cache<CacheKey, VerifiedIdentity>,
    clock: Clock,
    tasks: Vec<JoinHandle<()>>,
    revocations: Option<Revocations>,
}

/// Tells the time, in seconds since 1970.
pub type Clock = Box<dyn Fn() -> i64 + Send + Sync>;

/// SHA-256 of a token, and the version of the keys that verified it.
type CacheKey = ([u8; 32], u64);

impl Drop for Inner {
    fn drop(&mut self) {
        for task in &self.tasks {
            task.abort();
        }
    }
}

impl fmt::Debug for Authenticator {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "Authenticator({} issuers)", self.0.verifier.settings().issuers.len())
    }
}

impl Authenticator {
    /// Runs the self-test, loads every source once, and keeps them fresh from then on. Must be
    /// called within a tokio runtime.
    ///
    /// # Errors
    /// [`StartError`] for malformed settings, a missing or malformed file, a failed self-test. An
    /// unreachable URL is logged and tried again.
    pub async fn start(settings: Settings) -> Result<Self, StartError> {
        Self::start_with(settings, Timing::default(), Box::new(system_time)).await
    }

    /// [`Authenticator::start`] with other intervals and another clock.
    ///
    /// # Errors
    /// As [`Authenticator::start`].
    pub async fn start_with(
        settings: Settings,
        timing: Timing,
        clock: Clock,
    ) -> Result<Self, StartError> {
        let (verifier, doors) = prepare(&settings, &timing).map_err(StartError::Settings)?;
        self_test()?;
        describe_metrics();
        let state = Arc::new(State::new(doors, timing));
        let loads: Vec<_> = (0..settings.sources.len())
            .map(|index| {
                let state = Arc::clone(&state);
                tokio::spawn(async move { state.reload(index).await })
            })
            .collect();
        let mut broken = Vec::new();
        for ((index, source), load) in settings.sources.iter().enumerate().zip(loads) {
            let loaded = load.await.unwrap_or(Err(LoadError::Interrupted));
            match (loaded, source) {
                (Ok(()), _) | (Err(_), KeySource::JwksUrl(_)) => {}
                (Err(error), KeySource::JwksFile(_) | KeySource::HmacSecretFile(_)) => {
                    broken.push(FileError { index, file: source.to_string(), error });
                }
            }
        }
        if !broken.is_empty() {
            return Err(StartError::Files(broken));
        }
        let revocations = match (&settings.revocation_file, &settings.revocation_redis) {
            (None, None) => None,
            (file, redis) => Some(Revocations::start(file.as_deref(), redis.as_ref()).await?),
        };
        let mut tasks: Vec<_> = (0..settings.sources.len())
            .map(|index| tokio::spawn(Arc::clone(&state).watch(index)))
            .collect();
        tasks.push(tokio::spawn(report_age(Arc::clone(&state), timing.file_poll)));
        let verified = Cache::builder()
            .max_capacity(CACHE_BYTES)
            .weigher(|_, identity: &VerifiedIdentity| weight(identity))
            .expire_after(AtExpiry { leeway: settings.verifier.leeway })
            .build();
        Ok(Self(Arc::new(Inner { verifier, state, verified, clock, tasks, revocations })))
    }

    /// Reads every key source anew. What cannot be read stays as it was.
    pub async fn reload(&self) {
        for (index, issuer) in self.0.verifier.settings().issuers.iter().enumerate() {
            if let Err(error) = self.0.state.reload(index).await {
                tracing::error!(issuer = issuer.issuer, %error, "the issuer's keys stay as they were");
            }
        }
    }

    /// Verifies a token and answers with the denial that the client may see. The reason goes to
    /// the log, the result into `hedgerow_token_verifications_total`.
    ///
    /// # Errors
    /// A [`Denial`] with one of the codes HR2001 to HR2011.
    pub async fn authenticate(&self, token: &str) -> Result<VerifiedIdentity, Denial> {
        match self.verify(token).await {
            Ok(identity) => Ok(identity),
            Err(fault) => {
                tracing::info!(code = fault.code().code(), "token refused: {fault}");
                Err(fault.denial())
            }
        }
    }

    /// [`Authenticator::authenticate`] with the operator's reason, and without a log line.
    ///
    /// # Errors
    /// A [`TokenFault`].
    pub async fn verify(&self, token: &str) -> Result<VerifiedIdentity, TokenFault> {
        let outcome = match self.verify_uncounted(token).await {
            Ok(_) if !self.knows_revocations() => Err(TokenFault::RevocationsUnknown),
            Ok(identity) if self.revokes(&identity) => Err(TokenFault::Revoked),
            outcome => outcome,
        };
        let result = match &outcome {
            Ok(_) => "ok",
            Err(fault) => fault.code().code(),
        };
        metrics::counter!("hedgerow_token_verifications_total", "result" => result).increment(1);
        outcome
    }

    /// Whether an identity's token was taken back.
    pub fn revokes(&self, identity: &VerifiedIdentity) -> bool {
        self.0.revocations.as_ref().is_some_and(|revocations| revocations.revokes(identity))
    }

    /// Whether it is known which tokens were taken back.
    fn knows_revocations(&self) -> bool {
        self.0.revocations.as_ref().is_none_or(Revocations::complete)
    }

    /// Counts the changes of what was taken back.
    pub fn revocation_version(&self) -> u64 {
        self.0.revocations.as_ref().map_or(0, Revocations::version)
    }

    /// Tells of each change of what was taken back; `None`: nothing ever is.
    pub fn revocation_changes(&self) -> Option<watch::Receiver<u64>> {
        self.0.revocations.as_ref().map(Revocations::changes)
    }

    /// The first issuer, of whom clients without a token may ask for one.
    pub fn first_issuer(&self) -> Option<&str> {
        self.0.verifier.settings().issuers.first().map(|issuer| issuer.issuer.as_str())
    }

    /// Whether every issuer's keys are there, and what was taken back is known. Stays true when a later refresh fails: the last good
    /// keys are in force.
    pub fn healthy(&self) -> bool {
        self.0.state.complete() && self.knows_revocations()
    }

    async fn verify_uncounted(&self, token: &str) -> Result<VerifiedIdentity, TokenFault> {
        if token.is_empty() {
            return Err(TokenFault::Missing);
        }
        // Before hashing, so that a huge text costs nothing.
        if token.len() > MAX_TOKEN_BYTES {
            return Err(TokenFault::TooLarge(token.len()));
        }
        let Inner { verifier, state, verified, .. } = &*self.0;
        let digest = crypto::sha256(token.as_bytes());
        let mut keys = state.current();
        if let Some(identity) = verified.get(&(digest, keys.version)) {
            if !mutant::on("remembered-expiry") {
                verifier.check_expiry(&identity, self.now())?;
            }
            return Ok(identity);
        }
        let unverified = verifier.inspect(token)?;
        let index = unverified.issuer_index();
        let attempt = |keys: &state::Snapshot| match keys.sets.get(index).and_then(Option::as_ref) {
            Some(set) => verifier.verify(&unverified, set, self.now()),
            None => Err(TokenFault::NoKeys { issuer: self.issuer(index) }),
        };
        let mut outcome = attempt(&keys);
        if let Err(TokenFault::UnknownKey { .. } | TokenFault::NoKeys { .. }) = outcome {
            Arc::clone(state).reload_for_unknown_key(index, keys.version).await;
            let newer = state.current();
            if newer.version != keys.version {
                outcome = attempt(&newer);
                keys = newer;
            }
        }
        let identity = outcome?;
        verified.insert((digest, keys.version), identity.clone());
        Ok(identity)
    }

    fn issuer(&self, index: usize) -> Quoted {
        let issuers = &self.0.verifier.settings().issuers;
        Quoted::optional(issuers.get(index).map(|settings| settings.issuer.as_str()))
    }

    fn now(&self) -> i64 {
        (self.0.clock)()
    }
}

/// A clock before 1970 reads as 1970, where every token lies in the future: refused.
fn system_time() -> i64 {
    let since = SystemTime::now().duration_since(UNIX_EPOCH).unwrap_or_default();
    i64::try_from(since.as_secs()).unwrap_or(0)
}

/// A remembered token leaves the cache when it expires. That only frees room: expiry is checked at
/// each use.
struct AtExpiry {
    leeway: Duration,
}

impl moka::Expiry<CacheKey, VerifiedIdentity> for AtExpiry {
    fn expire_after_create(
        &self,
        _key: &CacheKey,
        identity: &VerifiedIdentity,
        _at: std::time::Instant,
    ) -> Option<Duration> {
        let left = identity.expires_at().saturating_sub(system_time());
        Some(Duration::from_secs(u64::try_from(left).unwrap_or(0)).saturating_add(self.leeway))
    }
}

/// Bytes that a remembered identity holds, roughly: its claims dominate.
fn weight(identity: &VerifiedIdentity) -> u32 {
    fn of(value: &serde_json::Value) -> u32 {
        use serde_json::Value;
        const NODE: u32 = 72;
        match value {
            Value::Null | Value::Bool(_) | Value::Number(_) => NODE,
            Value::String(text) => NODE.saturating_add(length(text)),
            Value::Array(list) => list.iter().map(of).fold(NODE, u32::saturating_add),
            Value::Object(map) => map
                .iter()
                .map(|(name, value)| length(name).saturating_add(of(value)))
                .fold(NODE, u32::saturating_add),
        }
    }
    fn length(text: &str) -> u32 {
        u32::try_from(text.len()).unwrap_or(u32::MAX)
    }
    let claims = &identity.claims().0;
    claims
        .iter()
        .map(|(name, value)| length(name).saturating_add(of(value)))
        .fold(CACHE_ENTRY_BYTES, u32::saturating_add)
}

/// Keeps `hedgerow_jwks_age_seconds` true, for ever.
async fn report_age(state: Arc<State>, interval: Duration) {
    loop {
        metrics::gauge!("hedgerow_jwks_age_seconds").set(jwks_age(&state).as_secs_f64());
        tokio::time::sleep(interval).await;
    }
}

/// Where no issuer has a JWKS, nothing grows old.
fn jwks_age(state: &State) -> Duration {
    state.oldest_age().unwrap_or_default()
}

fn describe_metrics() {
    metrics::describe_counter!(
        "hedgerow_token_verifications_total",
        "Tokens looked at, by result: ok, or the denial code"
    );
    metrics::describe_gauge!(
        "hedgerow_jwks_age_seconds",
        metrics::Unit::Seconds,
        "Seconds since the issuer key sets were last read well; the oldest of them"
    );
}
