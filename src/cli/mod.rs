//! The command line: what each command is called, its flags, its exit codes. Layer 6.
//!
//! Every flag has an environment twin `HEDGEROW_<FLAG>`; a flag wins over the environment, the
//! environment over the file. Exit codes: 0 done, 1 a "no" (denied, broken, findings), 2 an error.

pub mod audit;
pub mod check;
pub mod console;
pub mod demo;
pub mod explain;
pub mod log;
pub mod rls;
pub mod scan;
pub mod schema;
pub mod serve;
pub mod token;

use std::ffi::OsString;
use std::io::IsTerminal as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;
use clap::error::ErrorKind;
use clap::parser::ValueSource;
use clap::{ArgMatches, Args, FromArgMatches as _, Parser, Subcommand};

pub use log::{LogFormat, LogLevel};

use crate::config::Loaded;
use crate::endpoint::Secret;
use crate::ids::PolicyEpoch;
use crate::yaml::Fault;

/// Version and commit.
const VERSION: &str = concat!(env!("CARGO_PKG_VERSION"), " (", env!("HEDGEROW_BUILD"), ")");

const AFTER_HELP: &str = "\
Examples:
  hedgerow check --config hedgerow.yaml
  hedgerow explain --config hedgerow.yaml --tenant acme 'SELECT * FROM orders'
  hedgerow serve --config hedgerow.yaml
  hedgerow audit verify /var/lib/hedgerow/audit

Every flag has an environment twin: --log-level is HEDGEROW_LOG_LEVEL. A flag wins over the
environment, the environment over the file.";

/// A sidecar that keeps tenants apart: it verifies who is calling, lets each statement touch only
/// that tenant's rows, and leaves a record that can be verified.
#[derive(Debug, Parser)]
#[command(
    name = "hedgerow",
    version = VERSION,
    after_help = AFTER_HELP,
    subcommand_required = true,
    arg_required_else_help = true,
    disable_help_subcommand = true,
    max_term_width = 100
)]
struct Cli {
    #[command(flatten)]
    global: Global,
    #[command(subcommand)]
    command: Command,
}

/// Flags of every command.
#[derive(Clone, Copy, Debug, Args)]
pub struct Global {
    /// The least severe line of the log (default: that of the configuration file)
    #[arg(long, global = true, value_enum, env = "HEDGEROW_LOG_LEVEL", value_name = "LEVEL")]
    pub log_level: Option<LogLevel>,
    /// How lines of the log look (default: that of the configuration file)
    #[arg(long, global = true, value_enum, env = "HEDGEROW_LOG_FORMAT", value_name = "FORMAT")]
    pub log_format: Option<LogFormat>,
}

/// The configuration file: a flag of most commands.
#[derive(Clone, Debug, Args)]
pub struct ConfigArgs {
    /// The configuration file
    #[arg(long, env = "HEDGEROW_CONFIG", value_name = "FILE")]
    pub config: PathBuf,
}

impl ConfigArgs {
    /// Reads configuration and policies; on failure prints every fault. Warnings are the caller's:
    /// `check` prints them, `serve` logs them.
    ///
    /// # Errors
    /// Exit code 2, after the faults were printed.
    pub fn load(&self) -> Result<Loaded, ExitCode> {
        crate::config::load(&self.config, PolicyEpoch(1)).map_err(|faults| {
            print_faults(&faults);
            ExitCode::from(ERROR)
        })
    }
}

/// Exit code of a "no": denied, broken, findings.
pub const NO: u8 = 1;
/// Exit code of an error: usage, configuration, input.
pub const ERROR: u8 = 2;

/// A flag in the environment: `HEDGEROW_OPEN=1`. What is neither yes nor no is an error, so that a
/// slip does not apply what was only to be printed.
///
/// # Errors
/// A sentence for the operator.
pub fn flag(text: &str) -> Result<bool, String> {
    match text.to_ascii_lowercase().as_str() {
        "1" | "true" | "yes" | "on" => Ok(true),
        "" | "0" | "false" | "no" | "off" => Ok(false),
        _ => Err("write 1 or true, 0 or false".to_owned()),
    }
}

/// Whether standard output shows colours: a terminal does, unless `NO_COLOR` (<https://no-color.org>) or
/// a dumb terminal says otherwise.
pub fn shows_colors() -> bool {
    let set = |name: &str| std::env::var_os(name).is_some_and(|value| !value.is_empty());
    let dumb = std::env::var_os("TERM").is_some_and(|term| term == "dumb");
    std::io::stdout().is_terminal() && !set("NO_COLOR") && !dumb
}

/// Prints faults to standard error, one a line.
pub fn print_faults(faults: &[Fault]) {
    for fault in faults {
        eprintln!("{fault}");
    }
    match faults.len() {
        1 => eprintln!("hedgerow: 1 error"),
        count => eprintln!("hedgerow: {count} errors"),
    }
}

/// Prints a plain error and gives its exit code.
pub fn fail(error: &anyhow::Error) -> ExitCode {
    eprintln!("hedgerow: {error:#}");
    ExitCode::from(ERROR)
}

#[derive(Debug, Subcommand)]
enum Command {
    Serve(serve::ServeArgs),
    Check(check::CheckArgs),
    Explain(explain::ExplainArgs),
    /// Read the live database: what weakens isolation, and a draft of missing policies
    Scan(scan::ScanArgs),
    /// Print or apply the row-level security that follows from the policies
    Rls(rls::RlsArgs),
    Token(token::TokenArgs),
    /// Verify and search audit files
    Audit(audit::AuditCommand),
    Console(console::ConsoleArgs),
    /// Show it all on a throw-away PostgreSQL
    Demo(demo::DemoArgs),
    Schema(schema::SchemaArgs),
}

/// The commands and their flags: `docs/command-line.md` is rendered from it.
pub fn command() -> clap::Command {
    <Cli as clap::CommandFactory>::command()
}

/// Reads the command line. A flag wins over the environment, also over that of a flag which it excludes.
fn parse(words: impl IntoIterator<Item = OsString>) -> Result<Cli, clap::Error> {
    let mut known = command();
    let matches = known.try_get_matches_from_mut(words)?;
    let mut cli = Cli::from_arg_matches(&matches).map_err(|error| error.format(&mut known))?;
    let Some((_, given)) = matches.subcommand() else { return Ok(cli) };
    let conflict = match &mut cli.command {
        Command::Explain(args) => args.settle(given),
        Command::Rls(args) => args.settle(given),
        Command::Serve(_)
        | Command::Check(_)
        | Command::Scan(_)
        | Command::Token(_)
        | Command::Audit(_)
        | Command::Console(_)
        | Command::Demo(_)
        | Command::Schema(_) => Ok(()),
    };
    conflict.map_err(|text| known.error(ErrorKind::ArgumentConflict, text))?;
    Ok(cli)
}

/// Which of two flags that exclude each other counts.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Counts {
    /// Those that are given: not both.
    Given,
    /// The first; the other is the environment's.
    First,
    /// The other; the first is the environment's.
    Other,
}

/// Of two flags that exclude each other, the environment's gives way to the command line's.
///
/// # Errors
/// Both come from the same.
pub fn one_of(given: &ArgMatches, first: &str, other: &str) -> Result<Counts, String> {
    use ValueSource::{CommandLine, EnvVariable};
    match (given.value_source(first), given.value_source(other)) {
        (Some(CommandLine), Some(EnvVariable)) => Ok(Counts::First),
        (Some(EnvVariable), Some(CommandLine)) => Ok(Counts::Other),
        (Some(CommandLine), Some(CommandLine)) | (Some(EnvVariable), Some(EnvVariable)) => {
            let name = |flag: &str| match flag {
                "sql" => "[SQL]".to_owned(),
                flag => format!("--{}", flag.replace('_', "-")),
            };
            Err(format!("the argument '{}' cannot be used with '{}'", name(first), name(other)))
        }
        _ => Ok(Counts::Given),
    }
}

/// Runs the command line.
pub fn main() -> ExitCode {
    let cli = match parse(std::env::args_os()) {
        Ok(cli) => cli,
        Err(error) => {
            // A closed pipe is no reason to panic.
            let _ = error.print();
            return ExitCode::from(u8::try_from(error.exit_code()).unwrap_or(ERROR));
        }
    };
    // First thing: one crypto provider for every TLS connection of the process. An error means that
    // it is installed already.
    let _ = rustls::crypto::ring::default_provider().install_default();
    match cli.command {
        Command::Serve(args) => serve::run(&args, cli.global),
        Command::Check(args) => check::run(&args),
        Command::Explain(args) => explain::run(&args),
        Command::Scan(args) => ended(scan(&args)),
        Command::Rls(args) => ended(rls(&args).map(|()| ExitCode::SUCCESS)),
        Command::Token(args) => ended(args.run().map(|()| ExitCode::SUCCESS)),
        Command::Audit(command) => audit::run(&command),
        Command::Console(args) => console::run(&args, cli.global),
        Command::Demo(args) => ended(blocking(demo::run(&args)).map(|()| ExitCode::SUCCESS)),
        Command::Schema(args) => schema::run(&args),
    }
}

fn ended(outcome: anyhow::Result<ExitCode>) -> ExitCode {
    outcome.unwrap_or_else(|error| fail(&error))
}

/// Runs a command that talks to a server.
fn blocking<T>(work: impl Future<Output = anyhow::Result<T>>) -> anyhow::Result<T> {
    tokio::runtime::Builder::new_multi_thread().enable_all().build()?.block_on(work)
}

fn scan(args: &scan::ScanArgs) -> anyhow::Result<ExitCode> {
    let loaded = match crate::config::load_before_policies(&args.config, PolicyEpoch(1)) {
        Ok(loaded) => loaded,
        Err(faults) => {
            print_faults(&faults);
            return Ok(ExitCode::from(ERROR));
        }
    };
    let postgres = loaded.config.postgres.context("the configuration has no `postgres`")?;
    blocking(args.run(&postgres.upstream, &loaded.policies.postgres))
}

fn rls(args: &rls::RlsArgs) -> anyhow::Result<()> {
    let Ok(loaded) = (ConfigArgs { config: args.config.clone() }).load() else {
        anyhow::bail!("the configuration is not valid");
    };
    let postgres = loaded.config.postgres.context("the configuration has no `postgres`")?;
    let policy = Arc::new(loaded.policies.postgres);
    let admin_password = std::env::var("HEDGEROW_ADMIN_PASSWORD").ok().map(Secret::new);
    blocking(args.run(
        &postgres.upstream,
        &policy,
        &postgres.session_variables,
        &loaded.config.identity.tenant_claim,
        admin_password,
    ))
}

#[cfg(test)]
mod tests;
