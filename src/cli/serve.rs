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
use crate::limiter::Limiter;
use crate::policy::{BigQueryPolicy, Policies, Policy};
use crate::postgres::{Server, Shared};
use crate::sinks::Sinks;
use crate::{bigquery, postgres};
use reload::{Fronts, Reloader};

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
ends at once. SIGHUP, or a changed file, reloads policies, quotas, limits, keys and the certificate
for clients, all or nothing: a reload with errors changes nothing.";

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
    let mut signals = Signals::new()?;
    admin::install_recorder().context("metrics")?;
    let policies = InForce::new(policies);

    let audit_settings = config.audit_settings();
    let audit = tokio::task::spawn_blocking(move || Audit::open(audit_settings)).await??;
    let sinks = Sinks::start(config.audit.sinks.clone(), &config.audit.directory, &audit)?;
    let outcome = run_parts(&config, policies, &audit, sinks.probe(), &mut signals).await;
    audit.close().await;
    sinks.finish(SINKS_FINISH).await;
    outcome
}

/// The policies in force, of both engines; they are replaced together.
#[derive(Clone)]
struct InForce {
    postgres: Arc<ArcSwap<Policy>>,
    bigquery: Arc<ArcSwap<BigQueryPolicy>>,
}

impl InForce {
    fn new(policies: Policies) -> Self {
        Self {
            postgres: Arc::new(ArcSwap::from_pointee(policies.postgres)),
            bigquery: Arc::new(ArcSwap::from_pointee(policies.bigquery)),
        }
    }

    fn replace(&self, policies: Policies) {
        self.postgres.store(Arc::new(policies.postgres));
        self.bigquery.store(Arc::new(policies.bigquery));
    }
}

/// Everything between the opening and the closing of audit.
async fn run_parts(
    config: &Config,
    policies: InForce,
    audit: &Audit,
    sinks_healthy: impl Fn() -> bool + Send + Sync + 'static,
    signals: &mut Signals,
) -> anyhow::Result<ExitCode> {
    let reloader = Reloader::new(config, policies.clone(), audit.clone());
    reloader.record_start().await;
    let authenticator = Authenticator::start(config.keys_settings()).await?;
    let status = status(&policies.postgres, &authenticator, audit, sinks_healthy);
    let stop_admin = CancellationToken::new();
    let admin = match config.admin_settings() {
        Some(settings) => {
            let server = admin::Server::bind(settings, status.clone()).await;
            let server = server.with_context(|| format!("admin.listen {}", settings.listen))?;
            Some(tokio::spawn(server.run(stop_admin.clone())))
        }
        None => None,
    };

    let ready = Arc::new(AtomicBool::new(true));
    let keys = authenticator.clone();
    let (limiter, warehouse_limiter) = (Limiter::start(), Limiter::start());
    let sharing = config.quota_redis.as_ref().map(|url| {
        [limiter.share(url.expose(), "postgres"), warehouse_limiter.share(url.expose(), "bigquery")]
    });
    let relational = match config.postgres_settings() {
        Some(settings) => {
            let catalogs = Catalogs::new(settings.endpoint.clone());
            let looked = look_at(config, &settings, &catalogs, policies.postgres.clone());
            tokio::select! {
                looked = looked => looked?,
                () = signals.stop() => return Ok(ExitCode::SUCCESS),
            }
            let shared = Shared {
                policy: policies.postgres.clone(),
                catalogs,
                authenticator: authenticator.clone(),
                audit: audit.clone(),
                limiter: limiter.clone(),
                ready: ready.clone(),
            };
            Some(Server::bind(settings, shared).await.context("postgres.listen")?)
        }
        None => None,
    };
    let warehouse = match config.bigquery_settings() {
        Some(settings) => {
            let policy = policies.bigquery.clone();
            let shared = bigquery::Shared {
                policy,
                authenticator,
                audit: audit.clone(),
                limiter: warehouse_limiter.clone(),
            };
            Some(bigquery::Server::bind(settings, shared).await?)
        }
        None => None,
    };
    status.mark_started();
    let postgres = config.postgres.as_ref().and_then(|side| side.listen);
    let bigquery = config.bigquery.as_ref().map(|side| side.listen);
    tracing::info!(
        postgres = postgres.map(tracing::field::display),
        bigquery = bigquery.map(tracing::field::display),
        "serving"
    );

    let stop_servers = CancellationToken::new();
    let fronts = Fronts {
        postgres: relational.as_ref().map(Server::reload),
        bigquery: warehouse.as_ref().map(bigquery::Server::tls_reload),
    };
    let mut reloading = tokio::spawn(reloader.run(fronts, keys));
    let mut serving = tokio::spawn(serve_all(relational, warehouse, stop_servers.clone()));
    let ended_by_itself = tokio::select! {
        () = signals.stop() => false,
        _ = &mut serving => true,
        _ = &mut reloading => true,
    };
    status.mark_draining();
    ready.store(false, Ordering::Release);
    stop_servers.cancel();
    if !ended_by_itself {
        tracing::info!("draining");
        tokio::select! {
            _ = &mut serving => {}
            () = signals.stop() => tracing::warn!("second signal: ending at once"),
        }
    }
    reloading.abort();
    for sharing in sharing.into_iter().flatten() {
        sharing.abort();
    }
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

/// Serves until told to stop; each front drains by itself. One that ends before that ends all.
async fn serve_all(
    relational: Option<Server>,
    warehouse: Option<bigquery::Server>,
    stop: CancellationToken,
) {
    let ended = CancellationToken::clone(&stop);
    let relational = async {
        if let Some(server) = relational {
            server.run(stop.clone()).await;
            ended.cancel();
        }
    };
    let warehouse = async {
        if let Some(server) = warehouse {
            server.run(stop.clone()).await;
            ended.cancel();
        }
    };
    tokio::join!(relational, warehouse);
}

/// Looks at what weakens isolation: before clients come if `require_rls` says so, else beside them.
async fn look_at(
    config: &Config,
    settings: &postgres::Settings,
    catalogs: &Catalogs,
    policy: Arc<ArcSwap<Policy>>,
) -> anyhow::Result<()> {
    let require_rls = config.postgres.as_ref().is_some_and(|postgres| postgres.require_rls);
    let database = settings.endpoint.database.clone();
    let look = report_posture(catalogs.clone(), database, policy, require_rls);
    if require_rls {
        return look.await;
    }
    // Clients' first statements load the catalog if this has not; nobody waits for it.
    tokio::spawn(look);
    Ok(())
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
                why = finding.why,
                fix = finding.fix,
                "row-level security does not hold"
            );
        } else {
            tracing::debug!(
                finding = finding.kind.name(),
                object = finding.object,
                why = finding.why,
                fix = finding.fix,
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
