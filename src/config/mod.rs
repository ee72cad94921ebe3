//! The configuration file: read, checked as a whole, and turned into plain settings. Layer 6.
//!
//! Owns the reading of `hedgerow.yaml`, of the policy files it names, and the checks on every file
//! that it refers to. Refuses to hand out anything while one fault is left; the faults come all at
//! once, each with file:line:column.
//!
//! [`file`] is what may be written, [`validate`] what it means, [`policies`] reads the policy
//! directory, `map` turns [`Config`] into the settings of the layers below.

pub mod file;
mod listener;
mod map;
pub mod policies;
mod refer;
mod sinks;
mod upstream;
pub mod validate;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

pub use file::PoolModeWord;
pub use file::{AlgorithmWord, AuditModeWord, AuthenticationWord, LogFormatWord, LogLevelWord};

use crate::claims::ClaimPath;
use crate::endpoint::{Endpoint, Secret};
use crate::ids::PolicyEpoch;
use crate::policy::Policies;
use crate::postgres::Limits;
use crate::yaml::{Fault, MAX_FILE_BYTES, SourcePosition};

/// Everything that the operator said, checked.
#[derive(Clone, Debug)]
pub struct Config {
    /// The configuration file.
    pub file: PathBuf,
    /// Who may call.
    pub identity: Identity,
    /// The PostgreSQL side.
    pub postgres: Option<Postgres>,
    /// The BigQuery side.
    pub bigquery: Option<BigQuery>,
    /// Directory of the policies.
    pub policies: PathBuf,
    /// The audit trail.
    pub audit: Audit,
    /// The Redis through which sidecars share quotas.
    pub quota_redis: Option<Secret>,
    /// Where health and metrics are served.
    pub admin: Option<SocketAddr>,
    /// Hedgerow's own log.
    pub log: Log,
    /// How long transactions may go on after SIGTERM.
    pub drain_timeout: Duration,
}

/// Who may call, and how tokens are verified.
#[derive(Clone, Debug)]
pub struct Identity {
    /// The claim that names the tenant.
    pub tenant_claim: ClaimPath,
    /// How far clocks may differ.
    pub leeway: Duration,
    /// Longest lifetime of a token.
    pub max_lifetime: Duration,
    /// Who issues tokens; at least one, each name once.
    pub issuers: Vec<Issuer>,
    /// Files and stores of revoked tokens.
    pub revocation: Option<Revocation>,
}

/// One issuer.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Issuer {
    /// The exact `iss`.
    pub issuer: String,
    /// Accepted `aud`; at least one.
    pub audiences: Vec<String>,
    /// Accepted algorithms; at least one; HS256 alone and only with a secret.
    pub algorithms: Vec<AlgorithmWord>,
    /// Where its keys are.
    pub keys: KeySource,
}

/// Where an issuer's keys are.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum KeySource {
    /// A key set at a URL.
    JwksUrl(String),
    /// A key set in a file.
    JwksFile(PathBuf),
    /// A shared secret in a file.
    HmacSecretFile(PathBuf),
}

/// Where revoked tokens are listed.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Revocation {
    /// A file, one JSON object a line.
    pub file: Option<PathBuf>,
    /// A Redis URL, which may hold a password.
    pub redis: Option<Secret>,
}

/// The PostgreSQL side.
#[derive(Clone, Debug)]
pub struct Postgres {
    /// TCP address for clients; this or [`Self::unix_socket`] is there.
    pub listen: Option<SocketAddr>,
    /// Directory of the Unix socket for clients.
    pub unix_socket: Option<PathBuf>,
    /// TLS towards clients.
    pub tls: Option<ServerTls>,
    /// How clients hand over their token.
    pub authentication: AuthenticationWord,
    /// The same by user name.
    pub authentication_by_user: BTreeMap<String, AuthenticationWord>,
    /// The server behind Hedgerow.
    pub upstream: Endpoint,
    /// When a client gives its upstream connection back.
    pub pool_mode: PoolModeWord,
    /// Most upstream connections, per database.
    pub pool_max_connections: u32,
    /// How long an idle upstream connection is kept.
    pub pool_idle_timeout: Duration,
    /// Upstream settings that carry claims, in file order.
    pub session_variables: Vec<(String, ClaimPath)>,
    /// Bounds on clients and statements.
    pub limits: Limits,
    /// Refuse to start when row-level security is missing or not forced.
    pub require_rls: bool,
    /// How long transactions may go on after SIGTERM.
    pub drain_timeout: Duration,
}

/// Certificate chain and key of a listener, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ServerTls {
    /// Certificate chain.
    pub cert_file: PathBuf,
    /// Private key.
    pub key_file: PathBuf,
}

/// The BigQuery side.
#[derive(Clone, Debug)]
pub struct BigQuery {
    /// Address for clients.
    pub listen: SocketAddr,
    /// TLS towards clients.
    pub tls: Option<ServerTls>,
    /// The service's URL.
    pub upstream: String,
    /// Hedgerow's own credentials.
    pub credentials: Credentials,
    /// Project that tenants use beside those that the policies name.
    pub default_project: Option<String>,
    /// File of the key that binds job ids to tenants, if one is named.
    pub ownership_key_file: Option<PathBuf>,
    /// Whether decisions are held against the service's dry runs.
    pub compare_dry_runs: bool,
    /// How long requests may go on after SIGTERM.
    pub drain_timeout: Duration,
}

/// Hedgerow's own credentials towards BigQuery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credentials {
    /// A service account's key.
    File(PathBuf),
    /// The metadata server's.
    Metadata,
    /// None, for stand-ins.
    None,
}

/// The audit trail.
#[derive(Clone, Debug)]
pub struct Audit {
    /// Directory of the segments; made if absent.
    pub directory: PathBuf,
    /// When records must be on disk.
    pub mode: AuditModeWord,
    /// Ed25519 private key in PEM; `None`: made beside the directory on first start.
    pub signing_key_file: Option<PathBuf>,
    /// A segment is closed when it is larger, in bytes.
    pub segment_max_size: u64,
    /// A segment is closed when it is older.
    pub segment_max_age: Duration,
    /// How long closed segments are kept; `None`: for ever.
    pub retention: Option<Duration>,
    /// Most bytes of segments; `None`: without a bound.
    pub max_total_size: Option<u64>,
    /// Whether personal fields are sealed under a key of the tenant.
    pub seal_personal: bool,
    /// The key of those keys; `None`: made beside the directory on first start.
    pub personal_key_file: Option<PathBuf>,
    /// Sinks beside the files, each with a name of its own.
    pub sinks: Vec<crate::sinks::Settings>,
}

/// Hedgerow's own log.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Log {
    /// How lines look.
    pub format: LogFormatWord,
    /// The least severe line.
    pub level: LogLevelWord,
}

impl Default for Log {
    fn default() -> Self {
        Self { format: LogFormatWord::Json, level: LogLevelWord::Info }
    }
}

/// Configuration and policies, both without a fault.
#[derive(Clone, Debug)]
pub struct Loaded {
    /// The configuration.
    pub config: Config,
    /// The policies.
    pub policies: Policies,
    /// What is accepted but deserves a word, sorted.
    pub warnings: Vec<Fault>,
}

/// Reads and checks the configuration file and the policies that it names. Reads files and, for
/// `password_env`, the environment; opens no connection.
///
/// # Errors
/// Every fault of every file, sorted.
pub fn load(path: &Path, epoch: PolicyEpoch) -> Result<Loaded, Vec<Fault>> {
    load_with(path, epoch, &|name| std::env::var(name).ok())
}

/// [`load`] for `hedgerow scan`, which drafts the first policy: a policy directory that is absent or
/// empty is no fault. What is there must be without one.
///
/// # Errors
/// Every fault of every file, sorted.
pub fn load_before_policies(path: &Path, epoch: PolicyEpoch) -> Result<Loaded, Vec<Fault>> {
    load_some(path, epoch, &|name| std::env::var(name).ok(), true)
}

/// [`load`] with the environment as an argument.
///
/// # Errors
/// Every fault of every file, sorted.
pub fn load_with(
    path: &Path,
    epoch: PolicyEpoch,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Result<Loaded, Vec<Fault>> {
    load_some(path, epoch, environment, false)
}

fn load_some(
    path: &Path,
    epoch: PolicyEpoch,
    environment: &dyn Fn(&str) -> Option<String>,
    may_be_empty: bool,
) -> Result<Loaded, Vec<Fault>> {
    let name = path.display().to_string();
    let text = read_text(path).map_err(|message| vec![start_of(&name, message)])?;
    let mut outcome = validate::validate(&name, &text, path, environment);
    let compiled = match &outcome.policies {
        Some((directory, _)) if may_be_empty && policies::are_absent(directory) => {
            Ok(Policies::default())
        }
        Some((directory, at)) => policies::load(directory, at, epoch, &mut outcome.warnings)
            .map_err(|faults| {
                outcome.faults.extend(faults);
            }),
        None => Err(()),
    };
    outcome.warnings.sort();
    match (outcome.config, compiled) {
        (Some(config), Ok(policies)) if outcome.faults.is_empty() => {
            Ok(Loaded { config, policies, warnings: outcome.warnings })
        }
        (config, compiled) => {
            let mut faults = outcome.faults;
            if faults.is_empty() {
                // INVARIANT: nothing is missing without a fault; closed, not open, if that breaks.
                let what = if config.is_none() { "configuration" } else { "policies" };
                debug_assert!(compiled.is_err(), "only a fault ends here");
                faults.push(start_of(&name, format!("the {what} could not be read")));
            }
            faults.sort();
            faults.dedup();
            Err(faults)
        }
    }
}

/// A fault of a whole file.
fn start_of(file: &str, message: impl Into<String>) -> Fault {
    Fault { at: SourcePosition { file: file.into(), line: 1, column: 1 }, message: message.into() }
}

/// Reads a text file of bounded size; the error is a plain sentence.
fn read_text(path: &Path) -> Result<String, String> {
    use std::io::Read as _;
    let plain = |error: std::io::Error| format!("the file cannot be read: {error}");
    let file = std::fs::File::open(path).map_err(plain)?;
    if file.metadata().map_err(plain)?.is_dir() {
        return Err("the file cannot be read: it is a directory".to_owned());
    }
    let mut bytes = Vec::new();
    file.take(MAX_FILE_BYTES as u64 + 1).read_to_end(&mut bytes).map_err(plain)?;
    String::from_utf8(bytes).map_err(|_| "the file is not UTF-8 text".to_owned())
}

#[cfg(test)]
mod tests;
