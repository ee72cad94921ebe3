//! What `hedgerow.yaml` means: every rule that spans keys, or reaches outside the file. Layer 6.
//!
//! Goes on after a fault, so that all come at once; [`Outcome::config`] is only there when nothing
//! that it needs was missing, and only of use when [`Outcome::faults`] is empty.

use std::collections::{BTreeMap, HashSet};
use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::time::Duration;

use super::file::{
    AlgorithmWord, AuditFile, AuditModeWord, AuthenticationWord, BigQueryFile, ConfigFile,
    IdentityFile, IssuerFile, LimitsFile, LogFile, PoolModeWord, PostgresFile, RevocationFile,
};
use super::refer::Checker;
use super::{
    Audit, BigQuery, Config, Credentials, Identity, Issuer, KeySource, Log, Postgres, Revocation,
    listener, sinks, upstream,
};
use crate::claims::ClaimPath;
use crate::endpoint::Secret;
use crate::yaml::read::{At, ClaimPathText, Entries, FromNode as _, Present, SizeText};
use crate::yaml::{self, Fault, SourcePosition, quoted};
use crate::{postgres, store};

/// Fewest bytes of an HS256 secret (RFC 7518, section 3.2).
pub const MIN_SECRET_BYTES: usize = 32;
/// Largest difference of clocks that may be allowed for.
pub const MAX_LEEWAY: Duration = Duration::from_secs(600);
/// Longest `drain_timeout`.
const DEFAULT_DRAIN: Duration = Duration::from_secs(25);
/// Largest `max_statement`: PostgreSQL's own bound on a message.
const MAX_STATEMENT_BYTES: usize = (1 << 30) - 1;

/// What came of a configuration file.
pub struct Outcome {
    /// The configuration, when all of it could be read.
    pub config: Option<Config>,
    /// The policy directory and where it is named.
    pub policies: Option<(PathBuf, SourcePosition)>,
    /// What is wrong.
    pub faults: Vec<Fault>,
    /// What deserves a word.
    pub warnings: Vec<Fault>,
}

/// Reads and checks the text of the configuration file `path`, named `name` in messages.
pub fn validate(
    name: &str,
    text: &str,
    path: &Path,
    environment: &dyn Fn(&str) -> Option<String>,
) -> Outcome {
    let directory = path.parent().unwrap_or_else(|| Path::new(""));
    let mut check = Checker { directory, environment, faults: Vec::new(), warnings: Vec::new() };
    let mut policies = None;
    let config = match yaml::parse(name, text, &mut check.faults) {
        Ok(node) => ConfigFile::from_node(&node, &mut check.faults).and_then(|file| {
            if let Present(Some(named)) = &file.policies {
                policies = Some((check.resolve(&named.value), named.at.clone()));
            }
            config(file, path, &node.at, &mut check)
        }),
        Err(fault) => {
            check.faults.push(fault);
            None
        }
    };
    Outcome { config, policies, faults: check.faults, warnings: check.warnings }
}

fn config(
    file: ConfigFile,
    path: &Path,
    start: &SourcePosition,
    check: &mut Checker<'_>,
) -> Option<Config> {
    if file.postgres.is_none() && file.bigquery.is_none() {
        check.fault(start, "one of `postgres`, `bigquery` must be given");
    }
    let drain_timeout = file.drain_timeout.map_or(DEFAULT_DRAIN, |timeout| timeout.0);
    let mut listeners: Vec<(&str, At<String>, SocketAddr)> = Vec::new();
    let identity = file.identity.0.and_then(|identity_file| identity(identity_file, check));
    let with_postgres = file.postgres.is_some();
    let postgres = file.postgres.and_then(|section| {
        let section = section.0?;
        if let Some(Present(Some(listen))) = &section.value.listen
            && let Ok(address) = listen.value.parse()
        {
            listeners.push(("postgres.listen", listen.clone(), address));
        }
        postgres(section, drain_timeout, check)
    });
    let with_bigquery = file.bigquery.is_some();
    let bigquery = file.bigquery.and_then(|section| {
        let section = section.0?;
        if let Ok(address) = section.listen.value.parse() {
            listeners.push(("bigquery.listen", section.listen.clone(), address));
        }
        bigquery(section, drain_timeout, check)
    });
    let with_admin = file.admin.is_some();
    let admin = file.admin.and_then(|admin| {
        let address = listener::address(&admin.listen, check)?;
        listeners.push(("admin.listen", admin.listen, address));
        Some(address)
    });
    let listeners: Vec<_> =
        listeners.iter().map(|(name, listen, address)| (*name, listen, *address)).collect();
    listener::distinct(&listeners, check);
    let audit = file.audit.0.and_then(|section| audit(section, check));
    let quota_redis = file.quota.and_then(|section| redis(section.redis, check));
    let policies = file.policies.0.map(|named| check.resolve(&named.value));
    if with_postgres && postgres.is_none()
        || with_bigquery && bigquery.is_none()
        || with_admin && admin.is_none()
    {
        return None;
    }
    Some(Config {
        file: path.to_owned(),
        identity: identity?,
        postgres,
        bigquery,
        policies: policies?,
        audit: audit?,
        quota_redis,
        admin,
        log: log(file.log),
        drain_timeout,
    })
}

fn log(file: Option<LogFile>) -> Log {
    let default = Log::default();
    file.map_or(default, |file| Log {
        format: file.format.unwrap_or(default.format),
        level: file.level.unwrap_or(default.level),
    })
}

fn identity(file: IdentityFile, check: &mut Checker<'_>) -> Option<Identity> {
    let leeway = file.leeway.map_or(Duration::from_secs(30), |leeway| {
        if leeway.value.0 > MAX_LEEWAY {
            check.fault(&leeway.at, "`leeway` must not be longer than `10m`");
        }
        leeway.value.0
    });
    let max_lifetime = file.max_lifetime.map_or(Duration::from_secs(24 * 3600), |lifetime| {
        if lifetime.value.0.is_zero() {
            check.fault(&lifetime.at, "`max_lifetime` must be longer than nothing");
        }
        lifetime.value.0
    });
    let revocation = file.revocation.and_then(|section| revocation(section, check));
    let issuers = file.issuers.0.map(|list| {
        if list.value.is_empty() {
            check.fault(&list.at, "`issuers` must name at least one issuer");
        }
        let mut seen = HashSet::new();
        let mut issuers = Vec::new();
        for entry in list.value {
            let name = entry.value.issuer.clone();
            if !seen.insert(name.value.clone()) {
                check.fault(&name.at, format!("the issuer {} is given twice", quoted(&name.value)));
            }
            issuers.extend(issuer(entry, check));
        }
        issuers
    });
    Some(Identity {
        tenant_claim: file.tenant_claim.0?.0,
        leeway,
        max_lifetime,
        issuers: issuers?,
        revocation,
    })
}

fn issuer(At { value: file, at }: At<IssuerFile>, check: &mut Checker<'_>) -> Option<Issuer> {
    let words = |list: &At<Vec<At<AlgorithmWord>>>| list.value.iter().map(|a| a.value).collect();
    let algorithms: Vec<AlgorithmWord> = file.algorithms.0.as_ref().map(words).unwrap_or_default();
    let algorithms_at = file.algorithms.0.map_or_else(
        || at.clone(),
        |list| {
            if list.value.is_empty() {
                check.fault(&list.at, "`algorithms` must name at least one algorithm");
            }
            list.at
        },
    );
    let audiences = file.audiences.0;
    if let Some(audiences) = &audiences
        && audiences.value.is_empty()
    {
        check.fault(&audiences.at, "`audiences` must name at least one audience");
    }
    let secret = algorithms.contains(&AlgorithmWord::Hs256);
    if secret && algorithms.iter().any(|algorithm| *algorithm != AlgorithmWord::Hs256) {
        let message = "HS256 stands alone: an issuer has either a shared secret or public keys";
        check.fault(&algorithms_at, message);
    }
    let sources = vec![
        ("jwks_url", file.jwks_url),
        ("jwks_file", file.jwks_file),
        ("hmac_secret_file", file.hmac_secret_file),
    ];
    let (source, value) = check.exactly_one(&at, false, sources)?;
    let with_secret = source == "hmac_secret_file";
    if secret != with_secret && !algorithms.is_empty() {
        let message = if with_secret {
            "`hmac_secret_file` goes with `algorithms: [HS256]` only"
        } else {
            "HS256 needs `hmac_secret_file`"
        };
        check.fault(&algorithms_at, message);
    }
    let value = value?;
    let keys = match source.as_str() {
        "jwks_url" => {
            key_set_url(&value, check);
            KeySource::JwksUrl(value.value)
        }
        "jwks_file" => {
            let (path, bytes) = check.read(&value)?;
            let document: Option<serde_json::Value> = serde_json::from_slice(&bytes).ok();
            if !document.is_some_and(|d| d.get("keys").is_some_and(serde_json::Value::is_array)) {
                let message = format!("{} is not a JSON key set with `keys`", quoted(&value.value));
                check.fault(&value.at, message);
            }
            KeySource::JwksFile(path)
        }
        _ => {
            let (path, bytes) = check.read(&value)?;
            let length = bytes.strip_suffix(b"\n").unwrap_or(&bytes).len();
            if length < MIN_SECRET_BYTES {
                let message = format!(
                    "the secret in {} has {length} bytes; HS256 needs at least {MIN_SECRET_BYTES}",
                    quoted(&value.value)
                );
                check.fault(&value.at, message);
            }
            KeySource::HmacSecretFile(path)
        }
    };
    Some(Issuer {
        issuer: file.issuer.value,
        audiences: audiences?.value.into_iter().map(|audience| audience.value).collect(),
        algorithms,
        keys,
    })
}

/// A key set comes over HTTPS, or from this machine.
fn key_set_url(url: &At<String>, check: &mut Checker<'_>) {
    let parsed = reqwest::Url::parse(&url.value).ok();
    let host = parsed.as_ref().and_then(|parsed| parsed.host_str());
    let message = match (parsed.as_ref().map(|parsed| parsed.scheme()), host) {
        (Some("https"), Some(_)) => return,
        (Some("http"), Some("localhost" | "127.0.0.1" | "[::1]")) => return,
        (Some("http"), Some(_)) => {
            "`jwks_url` must be `https://…`: whoever changes the key set on its way makes tokens"
        }
        _ => "`jwks_url` must be a URL such as `https://auth.example.com/jwks.json`",
    };
    check.fault(&url.at, message);
}

fn revocation(
    At { value: file, at }: At<RevocationFile>,
    check: &mut Checker<'_>,
) -> Option<Revocation> {
    if file.file.is_none() && file.redis.is_none() {
        check.fault(&at, "`revocation` needs `file` or `redis`");
    }
    let path = file.file.and_then(|named| check.read(&named).map(|(path, _)| path));
    Some(Revocation { file: path, redis: file.redis.and_then(|url| redis(url, check)) })
}

fn redis(url: At<String>, check: &mut Checker<'_>) -> Option<Secret> {
    if !store::is_url(&url.value) {
        // The URL may hold a password: it is not quoted.
        check.fault(&url.at, "`redis` must be a URL such as `redis://127.0.0.1:6379/0`");
        return None;
    }
    Some(Secret::new(url.value))
}

fn postgres(
    At { value: file, at }: At<PostgresFile>,
    drain_timeout: Duration,
    check: &mut Checker<'_>,
) -> Option<Postgres> {
    let endpoint = file.upstream.0.and_then(|section| upstream::upstream(section, check));
    let listen = match &file.listen {
        Some(Present(Some(listen))) => {
            listener::address(listen, check).map(|address| (listen, address))
        }
        Some(Present(None)) | None => None,
    };
    let tls = listener::tls(listen, file.tls, check);
    let pool = file.pool;
    let pool_mode = pool.as_ref().and_then(|pool| pool.mode.as_ref());
    let by_user = file.authentication_by_user.unwrap_or_default().0;
    let by_user: BTreeMap<_, _> =
        by_user.into_iter().map(|(user, method)| (user.text, method.value)).collect();
    let limits = limits(file.limits, check);
    let unix_socket = match &file.unix_socket {
        Some(Present(directory)) => directory.as_ref().map(|d| check.resolve(&d.value)),
        None => None,
    };
    if file.listen.is_none() && file.unix_socket.is_none() {
        check.fault(&at, "`postgres` needs `listen` or `unix_socket`");
    }
    let session_variables = session_variables(file.session_variables.unwrap_or_default(), check);
    let require_rls = file.require_rls.unwrap_or(false);
    if require_rls && endpoint.as_ref().is_some_and(|endpoint| endpoint.database.is_none()) {
        check.fault(&at, "`require_rls` needs `upstream.database`: it is checked at start");
    }
    Some(Postgres {
        listen: listen.map(|(_, address)| address),
        unix_socket,
        tls,
        authentication: file.authentication.map_or(AuthenticationWord::Password, |a| a.value),
        authentication_by_user: by_user,
        upstream: endpoint?,
        pool_mode: pool_mode.map_or(PoolModeWord::Transaction, |mode| mode.value),
        pool_max_connections: pool.as_ref().and_then(|p| p.max_connections).unwrap_or(20),
        pool_idle_timeout: pool
            .and_then(|pool| pool.idle_timeout)
            .map_or(Duration::from_secs(300), |timeout| timeout.0),
        session_variables,
        limits,
        require_rls,
        drain_timeout: file.drain_timeout.map_or(drain_timeout, |timeout| timeout.0),
    })
}

/// The bounds as they are written, and the defaults.
fn limits(file: Option<LimitsFile>, check: &mut Checker<'_>) -> postgres::Limits {
    let usual = postgres::Limits::default();
    let Some(file) = file else { return usual };
    let bytes = |size: SizeText| usize::try_from(size.0).unwrap_or(usize::MAX);
    let startup_timeout = file.startup_timeout.map_or(usual.startup_timeout, |timeout| {
        if timeout.value.0.is_zero() {
            check.fault(&timeout.at, "`startup_timeout` must be longer than nothing");
        }
        timeout.value.0
    });
    postgres::Limits {
        max_clients: file
            .max_clients
            .map_or(usual.max_clients, |most| usize::try_from(most).unwrap_or(usize::MAX)),
        max_statement: file
            .max_statement
            .map_or(usual.max_statement, |size| bytes(size).min(MAX_STATEMENT_BYTES)),
        statement_timeout: file.statement_timeout.map_or(usual.statement_timeout, |t| t.0),
        idle_in_transaction_timeout: file
            .idle_in_transaction_timeout
            .map_or(usual.idle_in_transaction_timeout, |t| t.0),
        slow_client_timeout: file.slow_client_timeout.map_or(usual.slow_client_timeout, |t| t.0),
        startup_timeout,
        max_buffered: file.max_buffered.map_or(usual.max_buffered, bytes),
    }
}

/// Settings that carry claims need a class, or the server takes them for its own.
fn session_variables(
    entries: Entries<ClaimPathText>,
    check: &mut Checker<'_>,
) -> Vec<(String, ClaimPath)> {
    let mut seen = HashSet::new();
    let mut variables = Vec::new();
    for (key, path) in entries.0 {
        let name = key.text.to_ascii_lowercase();
        let word = |part: &str| {
            part.starts_with(|c: char| c.is_ascii_alphabetic() || c == '_')
                && part.chars().all(|c| c.is_ascii_alphanumeric() || c == '_')
        };
        if !name.contains('.') || !name.split('.').all(word) {
            let message = format!(
                "{} must be a setting with a class, such as `app.current_tenant`",
                quoted(&key.text)
            );
            check.fault(&key.at, message);
        } else if name.starts_with("hedgerow.") {
            let message = format!("{}: the class `hedgerow` is taken", quoted(&key.text));
            check.fault(&key.at, message);
        } else if !seen.insert(name.clone()) {
            check.fault(&key.at, format!("the setting {} is given twice", quoted(&key.text)));
        } else {
            variables.push((name, path.0));
        }
    }
    variables
}

fn bigquery(
    file: BigQueryFile,
    drain_timeout: Duration,
    check: &mut Checker<'_>,
) -> Option<BigQuery> {
    let address = listener::address(&file.listen, check);
    let tls = listener::tls(address.map(|address| (&file.listen, address)), file.tls, check);
    let upstream = file.upstream.map_or_else(
        || "https://bigquery.googleapis.com".to_owned(),
        |url| {
            service_url(&url, check);
            url.value
        },
    );
    let At { value: section, at } = file.credentials;
    let flag = |value: Option<Present<At<bool>>>| {
        value.map(|Present(flag)| {
            Present(flag.map(|flag| At { value: flag.value.to_string(), at: flag.at }))
        })
    };
    let sources = vec![
        ("file", section.file),
        ("metadata", flag(section.metadata)),
        ("none", flag(section.none)),
    ];
    let (source, value) = check.exactly_one(&at, false, sources)?;
    let value = value?;
    let credentials = match source.as_str() {
        "file" => Credentials::File(check.read(&value)?.0),
        other => {
            if value.value != "true" {
                check.fault(&value.at, format!("`{other}` can only be `true`"));
            }
            if other == "metadata" { Credentials::Metadata } else { Credentials::None }
        }
    };
    if let Some(project) = &file.default_project {
        let plain = |c: char| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '-';
        if project.value.is_empty() || !project.value.chars().all(plain) {
            let message = "`default_project` is a project's id: small letters, digits and `-`";
            check.fault(&project.at, message);
        }
    }
    Some(BigQuery {
        listen: address?,
        tls,
        upstream,
        credentials,
        default_project: file.default_project.map(|project| project.value),
        ownership_key_file: file.ownership_key_file.map(|file| check.resolve(&file.value)),
        compare_dry_runs: file.compare_dry_runs.unwrap_or(false),
        drain_timeout: file.drain_timeout.map_or(drain_timeout, |timeout| timeout.0),
    })
}

/// The service is reached over HTTPS, or is a stand-in on this machine or in its network.
fn service_url(url: &At<String>, check: &mut Checker<'_>) {
    let parsed = reqwest::Url::parse(&url.value).ok();
    let host = parsed.as_ref().and_then(|parsed| parsed.host_str());
    let plain = parsed.as_ref().is_some_and(|parsed| {
        parsed.username().is_empty()
            && parsed.password().is_none()
            && parsed.query().is_none()
            && parsed.fragment().is_none()
    });
    match (parsed.as_ref().map(|parsed| parsed.scheme()), host) {
        (Some("https"), Some(_)) if plain => {}
        (Some("http"), Some("localhost" | "127.0.0.1" | "[::1]")) if plain => {}
        (Some("http"), Some(_)) if plain => {
            check.warn(&url.at, "`upstream` is on another machine and not `https`: rows and credentials travel in clear");
        }
        _ => check.fault(
            &url.at,
            "`bigquery.upstream` must be a URL such as `https://bigquery.googleapis.com`",
        ),
    }
}

fn audit(file: AuditFile, check: &mut Checker<'_>) -> Option<Audit> {
    let directory = check.resolve(&file.directory.value);
    if directory.exists() && !directory.is_dir() {
        let message = format!("{} is not a directory", quoted(&file.directory.value));
        check.fault(&file.directory.at, message);
    }
    let named_key = file.signing_key_file.is_some();
    let signing_key_file = file.signing_key_file.and_then(|named| check.private_key(&named));
    if named_key && signing_key_file.is_none() {
        return None;
    }
    let sinks = sinks::sinks(file.sinks.unwrap_or_default(), check);
    let seal_personal = file.seal_personal.unwrap_or(false);
    let personal_key_file = match file.personal_key_file {
        None => None,
        Some(named) => {
            if !seal_personal {
                check.fault(&named.at, "`personal_key_file` needs `seal_personal: true`");
            }
            Some(check.read(&named)?.0)
        }
    };
    let segment = file.segment;
    let max_size = segment.as_ref().and_then(|segment| segment.max_size);
    let max_size = max_size.map_or(64 << 20, |size| size.0);
    let max_total_size = file.max_total_size.map(|total| {
        if total.value.0 < max_size.saturating_mul(2) {
            let message = "`max_total_size` must be at least twice `segment.max_size`: the segment \
                           that is being written stays";
            check.fault(&total.at, message);
        }
        total.value.0
    });
    let segment_max_age =
        segment.and_then(|segment| segment.max_age).map_or(Duration::from_secs(3600), |age| {
            if age.value.0 < Duration::from_secs(1) {
                check.fault(&age.at, "`max_age` must be at least `1s`");
            }
            age.value.0
        });
    let retention = match file.retention {
        Some(retention) => Some(retention.0).filter(|retention| !retention.is_zero()),
        None => Some(Duration::from_secs(90 * 86_400)),
    };
    Some(Audit {
        directory,
        mode: file.mode.unwrap_or(AuditModeWord::Balanced),
        signing_key_file,
        segment_max_size: max_size,
        segment_max_age,
        retention,
        max_total_size,
        seal_personal,
        personal_key_file,
        sinks,
    })
}
