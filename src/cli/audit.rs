//! `hedgerow audit verify`, `search` and `erase`: arguments in, text and exit code out. Layer 6.

use crate::audit::personal::{PersonalError, PersonalKeys, Places, erase};
use crate::audit::search::{Filter, Format, Printer, parse_time, search};
use crate::audit::{
    Decision, Intact, PUBLIC_KEY_FILE, Progress, TrustedKeys, Verification, VerifyError,
    segments_of, verify,
};
use anyhow::Context as _;
use clap::{Args, Subcommand, ValueEnum};
use std::io::{self, IsTerminal as _, Write as _};
use std::ops::ControlFlow;
use std::path::{Path, PathBuf};
use std::process::ExitCode;
use std::time::{Duration, Instant};

/// Exit code: the trail is broken.
const BROKEN: u8 = 1;
/// Exit code: it could not be checked, or the arguments are wrong.
const UNUSABLE: u8 = 2;

/// `hedgerow audit …`
#[derive(Debug, Args)]
pub struct AuditCommand {
    #[command(subcommand)]
    action: Action,
}

#[derive(Debug, Subcommand)]
enum Action {
    /// Check chain, signatures, sequence and gaps of audit files.
    Verify(VerifyArgs),
    /// Find records.
    Search(SearchArgs),
    /// Destroy the key of a tenant's personal fields: nobody can read them any more, here or in copies.
    Erase(EraseArgs),
}

/// `hedgerow audit verify …`
#[derive(Debug, Args)]
pub struct VerifyArgs {
    /// Segment files, or directories of them.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Trust the Ed25519 public keys in this PEM file. Without it the key that lies in the audit
    /// directory is used, which is to trust whoever can write there.
    #[arg(long, env = "HEDGEROW_PUBLIC_KEY", value_name = "FILE")]
    public_key: Option<PathBuf>,
    /// The last segment is still being written: it may lack its checkpoint.
    #[arg(long, env = "HEDGEROW_OPEN", value_parser = super::flag)]
    open: bool,
}

/// `hedgerow audit search …`
#[derive(Debug, Args)]
pub struct SearchArgs {
    /// Segment files, or directories of them.
    #[arg(required = true, value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// Only records of this tenant.
    #[arg(long, env = "HEDGEROW_TENANT")]
    tenant: Option<String>,
    /// Only records of this subject (the token's `sub`).
    #[arg(long, env = "HEDGEROW_SUBJECT")]
    subject: Option<String>,
    /// Only records with this decision.
    #[arg(long, env = "HEDGEROW_DECISION")]
    decision: Option<DecisionArg>,
    /// Only records with this denial code (HR1003).
    #[arg(long, env = "HEDGEROW_CODE")]
    code: Option<String>,
    /// Only records whose denial code, reason, object or message holds this text.
    #[arg(long, env = "HEDGEROW_REASON")]
    reason: Option<String>,
    /// Only records from this time on: RFC 3339, a date, or how long ago (1h, 7d).
    #[arg(long, env = "HEDGEROW_SINCE", value_name = "TIME")]
    since: Option<String>,
    /// Only records before this time: RFC 3339, a date, or how long ago (1h, 7d).
    #[arg(long, env = "HEDGEROW_UNTIL", value_name = "TIME")]
    until: Option<String>,
    /// Stop after this many records.
    #[arg(long, env = "HEDGEROW_LIMIT", value_name = "NUMBER")]
    limit: Option<u64>,
    /// How to print.
    #[arg(long, env = "HEDGEROW_FORMAT", default_value = "table")]
    format: FormatArg,
    #[command(flatten)]
    personal: PersonalArgs,
}

/// Where the keys of sealed personal fields are.
#[derive(Debug, Args)]
pub struct PersonalArgs {
    /// The master key of sealed personal fields (default: <directory>-personal.key)
    #[arg(long, env = "HEDGEROW_PERSONAL_KEY", value_name = "FILE")]
    personal_key: Option<PathBuf>,
    /// The tenants' keys (default: <directory>-tenant-keys.jsonl)
    #[arg(long, env = "HEDGEROW_TENANT_KEYS", value_name = "FILE")]
    tenant_keys: Option<PathBuf>,
}

impl PersonalArgs {
    /// Where the keys of the records below a path are.
    fn places(&self, path: &Path) -> Places {
        let path = std::path::absolute(path).unwrap_or_else(|_| path.to_owned());
        let directory = if path.is_dir() { path.as_path() } else { path.parent().unwrap_or(&path) };
        let mut places = Places::beside(directory, self.personal_key.clone());
        if let Some(store) = &self.tenant_keys {
            places.store.clone_from(store);
        }
        places
    }

    /// The keys, if there are any.
    ///
    /// # Errors
    /// When they are there and cannot be used.
    fn find(&self, paths: &[PathBuf]) -> Result<Option<PersonalKeys>, PersonalError> {
        for path in paths {
            if let Some(keys) = PersonalKeys::find(self.places(path))? {
                return Ok(Some(keys));
            }
        }
        Ok(None)
    }
}

/// `hedgerow audit erase …`
#[derive(Debug, Args)]
pub struct EraseArgs {
    /// Audit directories; the tenants' keys lie beside each.
    #[arg(required_unless_present = "tenant_keys", value_name = "PATH")]
    paths: Vec<PathBuf>,
    /// The tenant whose personal fields are erased.
    #[arg(long, env = "HEDGEROW_TENANT")]
    tenant: String,
    /// The tenants' keys (default: <directory>-tenant-keys.jsonl)
    #[arg(long, env = "HEDGEROW_TENANT_KEYS", value_name = "FILE")]
    tenant_keys: Option<PathBuf>,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum FormatArg {
    /// Aligned columns for people.
    Table,
    /// The records as they are in the files, one a line.
    Json,
    /// Comma-separated values with a header.
    Csv,
}

#[derive(Clone, Copy, Debug, ValueEnum)]
enum DecisionArg {
    Allow,
    Rewrite,
    Deny,
    #[value(alias = "would_deny")]
    WouldDeny,
    Error,
}

impl DecisionArg {
    const fn word(self) -> &'static str {
        match self {
            Self::Allow => Decision::Allow.word(),
            Self::Rewrite => Decision::Rewrite.word(),
            Self::Deny => Decision::Deny.word(),
            Self::WouldDeny => Decision::WouldDeny.word(),
            Self::Error => Decision::Error.word(),
        }
    }
}

/// Runs `hedgerow audit …`.
pub fn run(command: &AuditCommand) -> ExitCode {
    match &command.action {
        Action::Verify(args) => run_verify(args),
        Action::Search(args) => run_search(args),
        Action::Erase(args) => run_erase(args),
    }
}

/// Runs `hedgerow audit verify …`: 0 intact, 1 broken, 2 could not be checked.
pub fn run_verify(args: &VerifyArgs) -> ExitCode {
    let keys = match trusted_keys(args) {
        Ok(keys) => keys,
        Err(error) => {
            eprintln!("hedgerow audit verify: {error:#}");
            return ExitCode::from(UNUSABLE);
        }
    };
    let what = Verification { paths: &args.paths, keys: &keys, open: args.open };
    let mut bar = Bar::new();
    let result = verify(&what, |progress| bar.at(progress));
    bar.end();
    match result {
        Ok(intact) => {
            print_intact(&intact);
            ExitCode::SUCCESS
        }
        Err(error @ (VerifyError::Broken { .. } | VerifyError::Nothing)) => {
            println!("broken: {error}");
            ExitCode::from(BROKEN)
        }
        Err(error @ (VerifyError::NotASegment(_) | VerifyError::Unreadable { .. })) => {
            eprintln!("hedgerow audit verify: {error}");
            ExitCode::from(UNUSABLE)
        }
    }
}

fn print_intact(intact: &Intact) {
    for chain in &intact.chains {
        println!(
            "intact: chain {}: {} records in {} segments, sequence {} to {}{}",
            chain.chain,
            chain.records,
            chain.segments,
            chain.first_sequence,
            chain.last_sequence,
            if chain.closed {
                ""
            } else {
                "; the last segment is open: its records are chained, not yet signed"
            },
        );
    }
}

/// The keys of `--public-key`, or those that lie in the directories.
fn trusted_keys(args: &VerifyArgs) -> anyhow::Result<TrustedKeys> {
    if let Some(path) = &args.public_key {
        return Ok(TrustedKeys::read(path)?);
    }
    let mut keys = TrustedKeys::default();
    let mut seen: Vec<PathBuf> = Vec::new();
    for path in &args.paths {
        let metadata = std::fs::metadata(path).with_context(|| path.display().to_string())?;
        let directory = if metadata.is_dir() {
            path.clone()
        } else {
            // A bare file name lies in the present directory.
            let parent = path.parent().filter(|parent| !parent.as_os_str().is_empty());
            parent.unwrap_or(Path::new(".")).to_owned()
        };
        if !seen.contains(&directory) {
            let file = directory.join(PUBLIC_KEY_FILE);
            keys.extend(
                TrustedKeys::read(&file).context("no usable public key; give --public-key FILE")?,
            );
            seen.push(directory);
        }
    }
    eprintln!(
        "note: using the public key that lies beside the records ({}): this trusts whoever can write there; \
         give --public-key FILE with a copy kept elsewhere",
        keys.ids().collect::<Vec<_>>().join(", ")
    );
    Ok(keys)
}

/// Runs `hedgerow audit erase …`: 0 erased, 1 there was nothing to erase, 2 it failed.
pub fn run_erase(args: &EraseArgs) -> ExitCode {
    let stores: Vec<PathBuf> = match &args.tenant_keys {
        Some(store) => vec![store.clone()],
        None => {
            let places = PersonalArgs { personal_key: None, tenant_keys: None };
            args.paths.iter().map(|path| places.places(path).store).collect()
        }
    };
    let mut destroyed = 0;
    for store in stores {
        match erase(&store, &args.tenant) {
            Ok(keys) => destroyed += keys,
            Err(error) => {
                eprintln!("hedgerow audit erase: {error}");
                return ExitCode::from(UNUSABLE);
            }
        }
    }
    if destroyed == 0 {
        println!("nothing to erase: there is no key of this tenant");
        return ExitCode::from(BROKEN);
    }
    println!(
        "erased: {destroyed} keys were destroyed; the personal fields they sealed cannot be read any more"
    );
    ExitCode::SUCCESS
}

/// Runs `hedgerow audit search …`: 0 also when nothing is found.
pub fn run_search(args: &SearchArgs) -> ExitCode {
    match try_search(args) {
        Ok(()) => ExitCode::SUCCESS,
        Err(error) => {
            eprintln!("hedgerow audit search: {error:#}");
            ExitCode::from(UNUSABLE)
        }
    }
}

/// Why a search stops early.
enum Stop {
    /// The limit is reached.
    Enough,
    /// The output cannot be written.
    Output(io::Error),
}

fn try_search(args: &SearchArgs) -> anyhow::Result<()> {
    let now = jiff::Timestamp::now();
    let time = |text: &Option<String>, flag| {
        text.as_deref()
            .map(|text| parse_time(text, now).map_err(|error| anyhow::anyhow!("{flag}: {error}")))
            .transpose()
    };
    let filter = Filter {
        tenant: args.tenant.clone(),
        subject: args.subject.clone(),
        decision: args.decision.map(|decision| decision.word().to_owned()),
        code: args.code.clone(),
        reason: args.reason.clone(),
        since: time(&args.since, "--since")?,
        until: time(&args.until, "--until")?,
        personal: args.personal.find(&args.paths)?.map(std::sync::Arc::new),
    };
    let format = match args.format {
        FormatArg::Table => Format::Table,
        FormatArg::Json => Format::Json,
        FormatArg::Csv => Format::Csv,
    };
    let segments = segments_of(&args.paths)?;
    let output = io::BufWriter::new(io::stdout().lock());
    let mut printer = Printer::new(output, format, width()).on_terminal(io::stdout().is_terminal());
    let mut left = args.limit.unwrap_or(u64::MAX);
    let mut skipped = 0;
    let mut stop = None;
    if left > 0 {
        (skipped, stop) = search(&segments, &filter, |found| {
            if let Err(error) = printer.print(&found) {
                return ControlFlow::Break(Stop::Output(error));
            }
            left -= 1;
            if left == 0 { ControlFlow::Break(Stop::Enough) } else { ControlFlow::Continue(()) }
        })?;
    }
    let output = match stop {
        Some(Stop::Output(error)) => Err(error),
        Some(Stop::Enough) | None => printer.finish(),
    };
    if skipped > 0 {
        eprintln!("note: {skipped} lines are no audit records; see `hedgerow audit verify`");
    }
    match output {
        // `audit search … | head` has seen enough.
        Err(error) if error.kind() == io::ErrorKind::BrokenPipe => Ok(()),
        other => Ok(other?),
    }
}

/// How wide the table may be: what the shell says (`COLUMNS`), else 160.
fn width() -> usize {
    std::env::var("COLUMNS").ok().and_then(|width| width.parse().ok()).unwrap_or(160).min(1_000)
}

/// Tells people that it is still going on, when it takes long.
struct Bar {
    terminal: bool,
    began: Instant,
    next: Instant,
    shown: bool,
}

impl Bar {
    const EVERY: Duration = Duration::from_millis(500);
    /// Characters of the bar.
    const WIDTH: usize = 30;

    fn new() -> Self {
        let began = Instant::now();
        let terminal = io::stderr().is_terminal();
        Self { terminal, began, next: began + Self::EVERY, shown: false }
    }

    fn at(&mut self, progress: Progress) {
        if self.terminal && Instant::now() >= self.next {
            self.next = Instant::now() + Self::EVERY;
            self.shown = true;
            let line = Self::line(progress, self.began.elapsed());
            // Progress that cannot be shown is no reason to stop.
            let _ = write!(io::stderr(), "\r\x1b[K{line}");
        }
    }

    /// `[######....]  42 %  1200000 records, 85000/s, 19 s left`
    fn line(progress: Progress, elapsed: Duration) -> String {
        let Progress { records, bytes, total_bytes } = progress;
        let share = (bytes as f64 / total_bytes.max(1) as f64).clamp(0.0, 1.0);
        let filled = (share * Self::WIDTH as f64) as usize;
        let seconds = elapsed.as_secs_f64().max(0.001);
        let left = if share > 0.0 { seconds / share - seconds } else { 0.0 };
        format!(
            "[{}{}] {:3.0} %  {records} records, {:.0}/s, {left:.0} s left",
            "#".repeat(filled),
            ".".repeat(Self::WIDTH.saturating_sub(filled)),
            share * 100.0,
            records as f64 / seconds,
        )
    }

    fn end(&self) {
        if self.shown {
            let _ = write!(io::stderr(), "\r\x1b[K");
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::audit::{Audit, Engine, Event, Kind, Settings};
    use clap::Parser;

    #[derive(Parser)]
    struct Line {
        #[command(flatten)]
        audit: AuditCommand,
    }

    fn exit(arguments: &[&str]) -> String {
        let arguments = std::iter::once("audit").chain(arguments.iter().copied());
        format!("{:?}", run(&Line::try_parse_from(arguments).unwrap().audit))
    }

    fn code(code: u8) -> String {
        format!("{:?}", ExitCode::from(code))
    }

    #[test]
    fn the_bar_says_how_much_is_done_and_how_long_it_takes() {
        let progress = Progress { records: 1_000, bytes: 500, total_bytes: 1_000 };
        let line = Bar::line(progress, Duration::from_secs(10));
        let half = "#".repeat(15) + &".".repeat(15);
        assert_eq!(line, format!("[{half}]  50 %  1000 records, 100/s, 10 s left"));
        // A segment that grew meanwhile is more than was there.
        let grown = Progress { records: 0, bytes: 9, total_bytes: 0 };
        assert!(Bar::line(grown, Duration::ZERO).contains("100 %"));
    }

    #[tokio::test]
    async fn exit_codes_say_intact_broken_or_unusable() {
        let root = tempfile::tempdir().unwrap();
        let directory = root.path().join("audit");
        let path = directory.to_str().unwrap();
        let audit = Audit::open(Settings::new(&directory)).unwrap();
        let event = Event::now(Kind::Statement, Decision::Deny, Engine::Postgres);
        audit.permit().unwrap().record_durable(event).await.unwrap();
        assert_eq!(exit(&["verify", path]), code(BROKEN), "still open");
        assert_eq!(exit(&["verify", path, "--open"]), code(0));
        audit.close().await;
        assert_eq!(exit(&["verify", path]), code(0));
        let key = directory.join(PUBLIC_KEY_FILE);
        assert_eq!(exit(&["verify", path, "--public-key", key.to_str().unwrap()]), code(0));
        assert_eq!(exit(&["verify", "/nonexistent"]), code(UNUSABLE));
        assert_eq!(exit(&["search", path, "--decision", "deny", "--since", "1h"]), code(0));
        assert_eq!(exit(&["search", path, "--tenant", "nobody", "--format", "csv"]), code(0));
        assert_eq!(exit(&["search", path, "--since", "yesterday"]), code(UNUSABLE));
        let [segment] = segments_of(std::slice::from_ref(&directory)).unwrap().try_into().unwrap();
        let text = std::fs::read_to_string(&segment.path).unwrap();
        std::fs::write(&segment.path, text.replacen("Denied", "Allowed", 1)).unwrap();
        assert_eq!(exit(&["verify", path]), code(BROKEN));
    }
}
