//! `hedgerow check`: validates configuration and policies, starts nothing. Layer 6.

use std::fmt::Write as _;
use std::process::ExitCode;

use clap::Args;

use super::ConfigArgs;
use crate::config::{Config, Loaded};
use crate::policy::{Policies, Policy, Protection};

const AFTER_HELP: &str = "\
Example:
  hedgerow check --config hedgerow.yaml

Prints a summary and warnings and ends with 0, or prints every error as file:line:column and ends with 2.";

/// Check configuration and policies; start nothing
#[derive(Clone, Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct CheckArgs {
    #[command(flatten)]
    config: ConfigArgs,
}

/// Runs the command.
pub fn run(args: &CheckArgs) -> ExitCode {
    match args.config.load() {
        Ok(Loaded { config, policies, warnings }) => {
            for warning in warnings {
                eprintln!("warning: {warning}");
            }
            print!("{}", summary(&config, &policies));
            ExitCode::SUCCESS
        }
        Err(code) => code,
    }
}

/// What was found, in a few lines.
fn summary(config: &Config, policies: &Policies) -> String {
    let mut text = format!("{}: OK\n", config.file.display());
    let issuers: Vec<&str> = config.identity.issuers.iter().map(|i| i.issuer.as_str()).collect();
    // Writing to a String cannot fail.
    let _ = writeln!(text, "  issuers    {}: {}", issuers.len(), issuers.join(", "));
    if let Some(postgres) = &config.postgres {
        let mut listeners: Vec<String> = postgres.listen.iter().map(ToString::to_string).collect();
        listeners.extend(postgres.unix_socket.iter().map(|path| path.display().to_string()));
        let upstream = &postgres.upstream;
        let _ = writeln!(
            text,
            "  postgres   {} -> {}:{}",
            listeners.join(", "),
            upstream.host,
            upstream.port
        );
        let _ = writeln!(text, "  tables     {}", tables(&policies.postgres));
    }
    if let Some(bigquery) = &config.bigquery {
        let _ = writeln!(text, "  bigquery   {} -> {}", bigquery.listen, bigquery.upstream);
        let _ = writeln!(text, "  tables     {} in BigQuery", policies.bigquery.tables.len());
    }
    if let Some(admin) = config.admin {
        let _ = writeln!(text, "  admin      {admin}");
    }
    let _ = writeln!(
        text,
        "  audit      {} ({})",
        config.audit.directory.display(),
        config.audit.mode.word()
    );
    text
}

/// Tables and patterns by protection.
fn tables(policy: &Policy) -> String {
    let (mut tenant, mut through, mut shared, mut denied) = (0, 0, 0, 0);
    for table in policy.tables.values().chain(policy.patterns.iter().map(|(_, table)| table)) {
        match table.protection {
            Protection::Tenant { .. } => tenant += 1,
            Protection::TenantThrough { .. } => through += 1,
            Protection::Shared => shared += 1,
            Protection::Deny => denied += 1,
        }
    }
    format!(
        "{tenant} by tenant, {through} through a parent, {shared} shared, {denied} denied \
         ({} of these are patterns)",
        policy.patterns.len()
    )
}
