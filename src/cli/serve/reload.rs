//! Policies and the certificate for clients, and how they are replaced: on SIGHUP, or when a file
//! changed. Keys look after themselves. Layer 6.
//!
//! All or nothing: a reload with one fault changes nothing, is logged, counted and recorded. A
//! statement keeps the policy that it began with, as it holds its snapshot.

use std::path::{Path, PathBuf};
use std::time::{Duration, SystemTime};

use tokio::signal::unix::{SignalKind, signal};

use super::InForce;
use crate::audit::{Audit, Decision, Engine, Event, Kind};
use crate::config::{Config, policies};
use crate::ids::PolicyEpoch;
use crate::yaml::{Fault, SourcePosition};
use crate::{bigquery, postgres};

/// Between two looks at the policy files. Asking beats being told: it works on every file system,
/// and through the links by which Kubernetes swaps a ConfigMap.
const POLL: Duration = Duration::from_secs(2);

/// Replaces the policy and the certificate.
pub struct Reloader {
    directory: PathBuf,
    certificate: Vec<PathBuf>,
    at: SourcePosition,
    policies: InForce,
    audit: Audit,
}

/// The fronts' certificates for clients.
pub struct Certificates {
    /// PostgreSQL's.
    pub postgres: Option<postgres::TlsReload>,
    /// BigQuery's.
    pub bigquery: Option<bigquery::TlsReload>,
}

impl Certificates {
    /// Reads them anew; the first that cannot be read ends it.
    fn reload(&self) -> Result<(), String> {
        if let Some(tls) = &self.postgres {
            tls.reload().map_err(|error| error.to_string())?;
        }
        if let Some(tls) = &self.bigquery {
            tls.reload().map_err(|error| error.to_string())?;
        }
        Ok(())
    }
}

impl Reloader {
    /// A reloader for the policies of `config`.
    pub fn new(config: &Config, policies: InForce, audit: Audit) -> Self {
        let file = config.file.display().to_string().into();
        let at = SourcePosition { file, line: 1, column: 1 };
        let postgres = config.postgres.as_ref().and_then(|side| side.tls.as_ref());
        let bigquery = config.bigquery.as_ref().and_then(|side| side.tls.as_ref());
        let certificate = postgres
            .into_iter()
            .chain(bigquery)
            .flat_map(|tls| [tls.cert_file.clone(), tls.key_file.clone()])
            .collect();
        Self { directory: config.policies.clone(), certificate, at, policies, audit }
    }

    /// Records which policy is in force at the start.
    pub async fn record_start(&self) {
        self.record(Decision::Allow, self.policies.postgres.load().epoch, "policies loaded").await;
    }

    /// Waits for signals and changes, for ever.
    pub async fn run(self, tls: Certificates) -> std::io::Result<()> {
        let mut hangup = signal(SignalKind::hangup())?;
        let mut seen = look(self.directory.clone()).await;
        let mut seen_certificate = self.look_at_certificate();
        loop {
            let asked = tokio::select! {
                _ = hangup.recv() => true,
                () = tokio::time::sleep(POLL) => false,
            };
            let now = look(self.directory.clone()).await;
            if asked || now != seen {
                seen = now;
                self.reload().await;
            }
            let now = self.look_at_certificate();
            if asked && !self.certificate.is_empty() || now != seen_certificate {
                seen_certificate = now;
                self.reload_certificate(&tls);
            }
        }
    }

    fn look_at_certificate(&self) -> Vec<Facts> {
        self.certificate.iter().map(|path| facts(path)).collect()
    }

    /// For sessions that begin from now on.
    fn reload_certificate(&self, tls: &Certificates) {
        match tls.reload() {
            Ok(()) => {
                tracing::info!("certificate for clients reloaded");
                self.count("ok");
            }
            Err(error) => {
                tracing::error!(%error, "the certificate for clients stays as it was");
                self.count("error");
            }
        }
    }

    async fn reload(&self) {
        let epoch = PolicyEpoch(self.policies.postgres.load().epoch.0 + 1);
        let (directory, at) = (self.directory.clone(), self.at.clone());
        let compiled = tokio::task::spawn_blocking(move || {
            let mut warnings = Vec::new();
            let policies = policies::load(&directory, &at, epoch, &mut warnings);
            (policies, warnings)
        });
        match compiled.await {
            Ok((Ok(policies), warnings)) => {
                for warning in warnings {
                    tracing::warn!(%warning, "policy file");
                }
                self.policies.replace(policies);
                tracing::info!(epoch = epoch.0, "policies reloaded");
                self.count("ok");
                self.record(Decision::Allow, epoch, "policies reloaded").await;
            }
            Ok((Err(faults), _)) => self.refuse(&faults, epoch).await,
            Err(error) => {
                tracing::error!(%error, "the reload was cut short; the policies stay as they were");
                self.count("error");
            }
        }
    }

    async fn refuse(&self, faults: &[Fault], epoch: PolicyEpoch) {
        for fault in faults {
            tracing::error!(%fault, "policy file");
        }
        tracing::error!(faults = faults.len(), "the reload failed; the policies stay as they were");
        self.count("error");
        self.record(Decision::Error, epoch, "policies with errors were not loaded").await;
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

/// Name, size and time of a file.
type Facts = (PathBuf, u64, Option<SystemTime>);

/// Name, size and time of every policy file: cheap, and different when one of them changed.
async fn look(directory: PathBuf) -> Vec<Facts> {
    tokio::task::spawn_blocking(move || {
        policies::files(&directory)
            .unwrap_or_default()
            .into_iter()
            .map(|path| facts(&path))
            .collect()
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
