//! `hedgerow rls`: flags and configuration for [`super::rls`]. Layer 6.

use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use clap::Args;

use super::{ConfigArgs, rls};
use crate::config::Loaded;

const AFTER_HELP: &str = "\
Examples:
  hedgerow rls --config hedgerow.yaml > rls.sql
  hedgerow rls --config hedgerow.yaml --apply --admin-url postgres://owner@127.0.0.1/orders";

/// Print or apply the row-level security that follows from the policies
#[derive(Clone, Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct RlsArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Apply it instead of printing it
    #[arg(long, env = "HEDGEROW_APPLY", value_parser = clap::builder::FalseyValueParser::new())]
    apply: bool,
    /// Sign in with this URL instead of as the upstream's role
    #[arg(long, env = "HEDGEROW_ADMIN_URL", hide_env_values = true, value_name = "URL")]
    admin_url: Option<String>,
    /// The database (default: that of the URL, or of the configuration)
    #[arg(long, env = "HEDGEROW_DATABASE", value_name = "NAME")]
    database: Option<String>,
}

/// Runs the command.
pub fn run(args: &RlsArgs) -> ExitCode {
    let loaded = match args.config.load() {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    match script(args, loaded) {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => super::fail(&error),
    }
}

fn script(args: &RlsArgs, loaded: Loaded) -> anyhow::Result<String> {
    let postgres = loaded.config.postgres.context("the configuration has no `postgres`")?;
    let tenant_claim = loaded.config.identity.tenant_claim;
    let mut variables = postgres.session_variables.into_iter();
    let (setting, _) = variables.find(|(_, path)| *path == tenant_claim).context(
        "no entry of `postgres.session_variables` carries the tenant claim: \
         add `app.current_tenant: <identity.tenant_claim>`",
    )?;
    let admin = args.admin_url.as_deref().map(rls::admin_endpoint).transpose()?;
    let (admin, named) = match admin {
        Some((endpoint, database)) => (Some(endpoint), database),
        None => (None, None),
    };
    let database = args.database.clone().or(named).or(postgres.upstream.database.clone());
    let target = rls::Target {
        upstream: postgres.upstream,
        database: database.context("the configuration names no database: --database")?,
        policy: Arc::new(loaded.policies.postgres),
        setting,
    };
    super::block_on(async { rls::run(&target, admin.as_ref(), args.apply).await })
}
