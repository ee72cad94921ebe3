//! `hedgerow serve`: puts the parts together, runs them, stops them in order. Layer 6.
//!
//! The order of start: audit, keys, health, catalog, clients; that of the end is the reverse, and
//! audit is closed last but for its sinks, which carry on what it wrote. Refuses to take clients before everything that a decision needs is there.

mod reload;

use std::process::ExitCode;
use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use anyhow::{Context as _, bail};
use arc_swap::ArcSwap;
use clap::Args;
use tokio::signal::unix::{Signal, SignalKind, signal};
use tokio_util::sync::CancellationToken;

use super::{ConfigArgs, ERROR, Global, log};
use crate::admin::{self, Probes, Status};
use crate::audit::Audit;
use crate::catalog_load::{Catalogs, posture};
use crate::config::{Config, Loaded};
use crate::keys::Authenticator;
use crate::policy::Policy;
use crate::postgres::{Server, Shared};
use crate::sinks::Sinks;
use reload::Reloader;

/// First and longest pause between two attempts to read the catalog.
const RETRY: (Duration, Duration) = (Duration::from_millis(500), Duration::from_secs(15));
/// How long sinks may deliver what is left when everything else has ended.
const SINKS_FINISH: Duration = Duration::from_secs(3);
/// Stack of a thread that decides statements: parsing nests.
const STACK_BYTES: usize = 32 << 20;

const AFTER_HELP: &str = "\
Example:
  hedgerow serve --config hedgerow.yaml

SIGTERM and SIGINT drain: no new clients, transactions may finish, audit is closed; a second signal
ends at once. SIGHUP, or a changed file, reloads the policies and the
certificate for clients; a reload with errors changes nothing.";

/// Run the sidecar in the foreground
#[derive(Clone, Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct ServeArgs {
    #[command(flatten)]
    config: ConfigArgs,
}

/// Runs the command.
pub fn run(args: &ServeArgs, global: Global) -> ExitCode {
    let loaded = match args.config.load() {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    log::start(global, loaded.config.log);
    for warning in &loaded.warnings {
        tracing::warn!(%warning, "configuration");
    }
    let runtime = tokio::runtime::Builder::new_multi_thread()
        .enable_all()
        .thread_stack_size(STACK_BYTES)
        .build();
    let served = runtime.context("no runtime").and_then(|runtime| runtime.block_on(serve(loaded)));
    match served {
        Ok(code) => code,
        Err(error) => {
            tracing::error!(error = format!("{error:#}"), "hedgerow cannot serve");
            ExitCode::from(ERROR)
        }
    }
}

async fn serve(loaded: Loaded) -> anyhow::Result<ExitCode> {
    let Loaded { config, policies, .. } = loaded;
    let Some(settings) = config.postgres_settings() else {
        bail!("only `bigquery` is configured, and BigQuery is not built yet");
    };
    let mut signals = Signals::new()?;
    admin::install_recorder().context("metrics")?;
    let policy = Arc::new(ArcSwap::from_pointee(policies.postgres));

    let audit_settings = config.audit_settings();
    let audit = tokio::task::spawn_blocking(move || Audit::open(audit_settings)).await??;
    let sinks = Sinks::start(config.audit.sinks.clone(), &config.audit.directory, &audit)?;
    let outcome = run_parts(&config, settings, policy, &audit, sinks.probe(), &mut signals).await;
    audit.close().await;
    sinks.finish(SINKS_FINISH).await;
    outcome
}

/// Everything between the opening and the closing of audit.
async fn run_parts(
    config: &Config,
    settings: crate::postgres::Settings,
    policy: Arc<ArcSwap<Policy>>,
    audit: &Audit,
    sinks_healthy: impl Fn() -> bool + Send + Sync + 'static,
    signals: &mut Signals,
) -> anyhow::Result<ExitCode> {
    let reloader = Reloader::new(config, policy.clone(), audit.clone());
    reloader.record_start().await;
    let authenticator = Authenticator::start(config.keys_settings()).await?;
    let status = status(&policy, &authenticator, audit, sinks_healthy);
    let stop_admin = CancellationToken::new();
    let admin = match config.admin_settings() {
        Some(settings) => {
            let server = admin::Server::bind(settings, status.clone()).await;
            let server = server.with_context(|| format!("admin.listen {}", settings.listen))?;
            Some(tokio::spawn(server.run(stop_admin.clone())))
        }
        None => None,
    };

    let catalogs = Catalogs::new(settings.endpoint.clone());
    let require_rls = config.postgres.as_ref().is_some_and(|postgres| postgres.require_rls);
    let database = settings.endpoint.database.clone();
    let look = report_posture(catalogs.clone(), database, policy.clone(), require_rls);
    if require_rls {
        tokio::select! {
            looked = look => looked?,
            () = signals.stop() => return Ok(ExitCode::SUCCESS),
        }
    } else {
        // Clients' first statements load the catalog if this has not; nobody waits for it.
        tokio::spawn(look);
    }

    let ready = Arc::new(AtomicBool::new(true));
    let shared =
        Shared { policy, catalogs, authenticator, audit: audit.clone(), ready: ready.clone() };
    let drain_timeout = settings.drain_timeout;
    let server = Server::bind(settings, shared).await.context("postgres.listen")?;
    status.mark_started();
    tracing::info!(listen = ?config.postgres.as_ref().and_then(|p| p.listen), "serving");

    let stop_server = CancellationToken::new();
    let mut reloading = tokio::spawn(reloader.run(server.tls_reload()));
    let mut serving = tokio::spawn(server.run(stop_server.clone()));
    let ended_by_itself = tokio::select! {
        () = signals.stop() => false,
        _ = &mut serving => true,
        _ = &mut reloading => true,
    };
    status.mark_draining();
    ready.store(false, Ordering::Release);
    stop_server.cancel();
    if !ended_by_itself {
        tracing::info!(seconds = drain_timeout.as_secs(), "draining");
        tokio::select! {
            _ = &mut serving => {}
            () = signals.stop() => tracing::warn!("second signal: ending at once"),
        }
    }
    reloading.abort();
    stop_admin.cancel();
    if let Some(admin) = admin {
        let _ = admin.await;
    }
    if ended_by_itself {
        bail!("a part of the server ended by itself");
    }
    tracing::info!("stopped");
    Ok(ExitCode::SUCCESS)
}

fn status(
    policy: &Arc<ArcSwap<Policy>>,
    keys: &Authenticator,
    audit: &Audit,
    sinks_healthy: impl Fn() -> bool + Send + Sync + 'static,
) -> Status {
    let (policy, keys, audit) = (policy.clone(), keys.clone(), audit.clone());
    Status::new(Probes {
        policy: Box::new(move || Some(policy.load_full())),
        keys: Box::new(move || keys.healthy()),
        audit: Box::new(move || audit.healthy() && sinks_healthy()),
    })
}

/// Reads the catalog, again and again until it can be had, and reports what weakens isolation.
async fn report_posture(
    catalogs: Catalogs,
    database: Option<String>,
    policy: Arc<ArcSwap<Policy>>,
    require_rls: bool,
) -> anyhow::Result<()> {
    let Some(database) = database else {
        // Each client brings its own database; `config` refuses `require_rls` with that.
        return Ok(());
    };
    let mut pause = RETRY.0;
    let catalog = loop {
        match catalogs.current(&database).await {
            Ok(catalog) => break catalog,
            Err(error) => {
                tracing::warn!(%error, "the catalog cannot be read; trying again");
                tokio::time::sleep(pause).await;
                pause = (pause * 2).min(RETRY.1);
            }
        }
    };
    let mut breaks = 0_usize;
    for finding in posture(&catalog, &policy.load()) {
        if finding.kind.breaks_rls() {
            breaks += 1;
            tracing::warn!(
                finding = finding.kind.name(),
                object = finding.object,
                advice = finding.advice,
                "row-level security does not hold"
            );
        } else {
            tracing::debug!(
                finding = finding.kind.name(),
                object = finding.object,
                advice = finding.advice,
                "posture"
            );
        }
    }
    if require_rls && breaks > 0 {
        bail!(
            "`postgres.require_rls` is set and row-level security does not hold in {breaks} places \
             (listed above): `hedgerow rls --apply` makes it"
        );
    }
    Ok(())
}

/// The signals that end the process.
struct Signals {
    terminate: Signal,
    interrupt: Signal,
}

impl Signals {
    fn new() -> std::io::Result<Self> {
        Ok(Self {
            terminate: signal(SignalKind::terminate())?,
            interrupt: signal(SignalKind::interrupt())?,
        })
    }

    async fn stop(&mut self) {
        tokio::select! {
            _ = self.terminate.recv() => {}
            _ = self.interrupt.recv() => {}
        }
    }
}
