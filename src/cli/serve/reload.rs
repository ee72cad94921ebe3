//! What is replaced while sessions run: policies (and their quotas), the certificate for clients,
//! limits, keys; on SIGHUP, or when a file changed. Layer 6.
//!
//! All or nothing: the configuration, every policy and the certificate are read and checked first. A
//! reload with one fault changes nothing, is logged, counted and recorded. A statement keeps the
//! policy that it began with, as it holds its snapshot. Key sets and revocations look after
//! themselves; SIGHUP makes the keys be read at once.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tokio::signal::unix::{SignalKind, signal};

use super::InForce;
use crate::audit::{Audit, Decision, Engine, Event, Kind};
use crate::config::{self, Config, Loaded, policies};
use crate::ids::PolicyEpoch;
use crate::keys::Authenticator;
use crate::postgres::Limits;
use crate::{bigquery, postgres};

/// Between two looks at the files. Asking beats being told: it works on every file system, and
/// through the links by which Kubernetes swaps a ConfigMap.
const POLL: Duration = Duration::from_secs(2);

/// Replaces what can be replaced.
pub struct Reloader {
    /// The configuration in force.
    config: Config,
    policies: InForce,
    audit: Audit,
}

/// What of the fronts is replaced.
pub struct Fronts {
    /// PostgreSQL's certificate and limits.
    pub postgres: Option<postgres::Reload>,
    /// BigQuery's certificate.
    pub bigquery: Option<bigquery::TlsReload>,
}

/// The same, read and found good.
struct Renewal {
    postgres: Option<postgres::Renewal>,
    bigquery: Option<bigquery::TlsRenewal>,
}

impl Fronts {
    /// Reads what `config` names; nothing is in force yet.
    fn prepare(&self, config: &Config) -> Result<Renewal, String> {
        let settings = config.postgres_settings();
        let limits = settings.as_ref().map_or_else(Limits::default, |settings| settings.limits);
        let tls = settings.as_ref().and_then(|settings| settings.tls.as_ref());
        let postgres = self.postgres.as_ref().map(|front| front.prepare(tls, limits)).transpose();
        let bigquery = self.bigquery.as_ref().map(bigquery::TlsReload::prepare).transpose();
        Ok(Renewal {
            postgres: postgres.map_err(|error| error.to_string())?,
            bigquery: bigquery.map_err(|error| error.to_string())?,
        })
    }

    fn apply(&self, renewal: Renewal) {
        if let (Some(front), Some(renewal)) = (&self.postgres, renewal.postgres) {
            front.apply(renewal);
        }
        if let (Some(front), Some(renewal)) = (&self.bigquery, renewal.bigquery) {
            front.apply(renewal);
        }
    }
}

impl Reloader {
    /// A reloader of what `config` says.
    pub fn new(config: &Config, policies: InForce, audit: Audit) -> Self {
        Self { config: config.clone(), policies, audit }
    }

    /// Records which policy is in force at the start.
    pub async fn record_start(&self) {
        self.record(Decision::Allow, self.epoch(), "policies loaded").await;
    }

    fn epoch(&self) -> PolicyEpoch {
        self.policies.postgres.load().epoch
    }

    /// Waits for signals and changes, for ever.
    pub async fn run(mut self, fronts: Fronts, keys: Authenticator) -> std::io::Result<()> {
        let mut hangup = signal(SignalKind::hangup())?;
        let mut seen = look(&self.config).await;
        loop {
            let asked = tokio::select! {
                _ = hangup.recv() => true,
                () = tokio::time::sleep(POLL) => false,
            };
            if asked {
                keys.reload().await;
            }
            // Before the files are read: what changes meanwhile is seen at the next look.
            let now = look(&self.config).await;
            if asked || now != seen {
                seen = now;
                if self.reload(&fronts).await {
                    // It may name other files.
                    seen = look(&self.config).await;
                }
            }
        }
    }

    /// Whether what the files say is in force now.
    async fn reload(&mut self, fronts: &Fronts) -> bool {
        let epoch = PolicyEpoch(self.epoch().0.saturating_add(1));
        let file = self.config.file.clone();
        let read = tokio::task::spawn_blocking(move || config::load(&file, epoch)).await;
        let loaded = match read {
            Ok(Ok(loaded)) => loaded,
            Ok(Err(faults)) => {
                for fault in &faults {
                    tracing::error!(%fault, "configuration");
                }
                return self.refuse(epoch, &format!("{} faults", faults.len())).await;
            }
            Err(error) => return self.refuse(epoch, &error.to_string()).await,
        };
        let Loaded { config, policies, warnings } = loaded;
        let renewal = match fronts.prepare(&config) {
            Ok(renewal) => renewal,
            Err(error) => {
                return self.refuse(epoch, &format!("certificate for clients: {error}")).await;
            }
        };
        for warning in warnings {
            tracing::warn!(%warning, "configuration");
        }
        if fixed(&config) != fixed(&self.config) {
            tracing::warn!(
                "the configuration changed in what only a restart takes up: all but policies, \
                 the certificate for clients and limits"
            );
        }
        self.policies.replace(policies);
        fronts.apply(renewal);
        self.config = config;
        tracing::info!(epoch = epoch.0, "policies, certificate and limits reloaded");
        self.count("ok");
        self.record(Decision::Allow, epoch, "policies reloaded").await;
        true
    }

    async fn refuse(&self, epoch: PolicyEpoch, why: &str) -> bool {
        tracing::error!(why, "the reload failed: everything stays as it was");
        self.count("error");
        self.record(Decision::Error, epoch, "policies with errors were not loaded").await;
        false
    }

    fn count(&self, result: &'static str) {
        metrics::counter!("hedgerow_reload_total", "result" => result).increment(1);
    }

    async fn record(&self, decision: Decision, epoch: PolicyEpoch, message: &str) {
        let mut event = Event::now(Kind::PolicyChange, decision, Engine::Postgres);
        event.policy_epoch = Some(epoch);
        event.message = Some(message.into());
        let recorded = match self.audit.permit() {
            Ok(permit) => permit.record_durable(event).await,
            Err(error) => Err(error),
        };
        if let Err(error) = recorded {
            tracing::error!(%error, message, "a policy change is not on record");
        }
    }
}

/// What a reload does not take up, to be compared. Secrets do not show.
fn fixed(config: &Config) -> String {
    let mut config = config.clone();
    config.policies = PathBuf::new();
    if let Some(postgres) = &mut config.postgres {
        postgres.limits = Limits::default();
        postgres.tls = None;
    }
    format!("{config:?}")
}

/// Name, size and time of a file.
type Facts = (PathBuf, u64, Option<SystemTime>);

/// Name, size and time of every file that a reload reads: cheap, and different when one changed.
async fn look(config: &Config) -> Vec<Facts> {
    let directory = config.policies.clone();
    let mut files = vec![config.file.clone()];
    let postgres = config.postgres.as_ref().and_then(|side| side.tls.as_ref());
    let bigquery = config.bigquery.as_ref().and_then(|side| side.tls.as_ref());
    for tls in postgres.into_iter().chain(bigquery) {
        files.extend([tls.cert_file.clone(), tls.key_file.clone()]);
    }
    tokio::task::spawn_blocking(move || {
        files.extend(policies::files(&directory).unwrap_or_default());
        files.iter().map(|path| facts(path)).collect()
    })
    .await
    .unwrap_or_default()
}

fn facts(path: &Path) -> Facts {
    match std::fs::metadata(path) {
        Ok(metadata) => (path.to_owned(), metadata.len(), metadata.modified().ok()),
        Err(_) => (path.to_owned(), 0, None),
    }
}
