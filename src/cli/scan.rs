//! `hedgerow scan`: what the live database says about the policies, and a draft for the tables
//! that no policy names. Layer 6.

mod draft;

use std::fmt::Write as _;
use std::path::{Path, PathBuf};
use std::process::ExitCode;

use anyhow::Context as _;
use serde::Serialize;

use super::NO;
use crate::catalog::Catalog;
use crate::catalog_load::{Finding, FindingKind, Severity, findings, load, survey};
use crate::endpoint::Endpoint;
use crate::policy::Policy;

pub use draft::draft;

const AFTER_HELP: &str = "\
Examples:
  hedgerow scan --config hedgerow.yaml
  hedgerow scan --config hedgerow.yaml --write policies/draft.yaml
  hedgerow scan --config hedgerow.yaml --format json --accept publication:cdc

It reads catalogs only, in a read-only transaction, as the upstream's role.
Ends with 0 when nothing is found that was not accepted, 1 with findings, 2 on an error.";

/// What the command line says.
#[derive(Clone, Debug, clap::Args)]
#[command(after_help = AFTER_HELP)]
pub struct ScanArgs {
    /// The configuration file; that no policy is there yet is no error
    #[arg(long, value_name = "FILE", env = "HEDGEROW_CONFIG")]
    pub config: PathBuf,
    /// Write a draft of the missing policies to this file, which must not exist
    #[arg(long, value_name = "FILE", env = "HEDGEROW_WRITE")]
    pub write: Option<PathBuf>,
    /// The draft's tenant column [default: the likeliest that is found]
    #[arg(long, value_name = "COLUMN", env = "HEDGEROW_TENANT_COLUMN")]
    pub tenant_column: Option<String>,
    /// Write the catalog to this file, for hedgerow explain --catalog
    #[arg(long, value_name = "FILE", env = "HEDGEROW_CATALOG")]
    pub catalog: Option<PathBuf>,
    /// The database [default: that of the configuration]
    #[arg(long, value_name = "NAME", env = "HEDGEROW_DATABASE")]
    pub database: Option<String>,
    /// How findings look
    #[arg(long, value_enum, default_value = "text", env = "HEDGEROW_FORMAT")]
    pub format: Format,
    /// A finding that somebody has read and answers for: KIND, or KIND:OBJECT (again for more)
    #[arg(long, value_name = "FINDING", env = "HEDGEROW_ACCEPT", value_delimiter = '\n', value_parser = accepted)]
    pub accept: Vec<Accepted>,
}

/// How findings look.
#[derive(Clone, Copy, Debug, PartialEq, Eq, clap::ValueEnum)]
pub enum Format {
    /// For people.
    Text,
    /// For programs: one object.
    Json,
}

/// Findings that count no more: those of a kind, or of a kind about one object.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Accepted {
    kind: FindingKind,
    object: Option<String>,
}

impl Accepted {
    fn covers(&self, finding: &Finding) -> bool {
        self.kind == finding.kind
            && self.object.as_ref().is_none_or(|object| *object == finding.object)
    }
}

/// Reads `KIND` or `KIND:OBJECT`.
fn accepted(text: &str) -> Result<Accepted, String> {
    let (kind, object) = match text.split_once(':') {
        Some((kind, object)) => (kind, Some(object.to_owned())),
        None => (text, None),
    };
    match FindingKind::ALL.iter().find(|known| known.name() == kind) {
        Some(kind) => Ok(Accepted { kind: *kind, object }),
        None => {
            let names: Vec<&str> = FindingKind::ALL.iter().map(|kind| kind.name()).collect();
            Err(format!("there is no kind of finding of that name; there are {}", names.join(", ")))
        }
    }
}

impl ScanArgs {
    /// Scans and prints. Exits 0 when clean, 1 with findings.
    ///
    /// # Errors
    /// No connection, or a file that cannot be written.
    pub async fn run(&self, upstream: &Endpoint, policy: &Policy) -> anyhow::Result<ExitCode> {
        let database = self.database.as_ref().or(upstream.database.as_ref());
        let database = database.context("the configuration names no database: --database")?;
        let catalog = load(upstream, database).await?;
        let survey = survey(upstream, database).await?;
        if let Some(path) = &self.catalog {
            let text = crate::catalog::file::to_json(&catalog)?;
            std::fs::write(path, text).with_context(|| path.display().to_string())?;
            eprintln!("catalog written to {}", path.display());
        }
        if let Some(path) = &self.write {
            self.write_draft(path, &catalog, policy)?;
        }
        let (accepted, open): (Vec<Finding>, Vec<Finding>) = findings(&catalog, policy, &survey)
            .into_iter()
            .partition(|finding| self.accept.iter().any(|accepted| accepted.covers(finding)));
        let report = match self.format {
            Format::Text => as_text(&open, accepted.len(), catalog.relations.len()),
            Format::Json => as_json(&open, &accepted, &catalog, database)?,
        };
        print!("{report}");
        Ok(if open.is_empty() { ExitCode::SUCCESS } else { ExitCode::from(NO) })
    }

    fn write_draft(&self, path: &Path, catalog: &Catalog, policy: &Policy) -> anyhow::Result<()> {
        use std::io::Write as _;
        let Some(text) = draft(catalog, policy, self.tenant_column.as_deref())? else {
            eprintln!("no draft: a policy names every table");
            return Ok(());
        };
        if let Some(directory) = path.parent().filter(|parent| !parent.as_os_str().is_empty()) {
            std::fs::create_dir_all(directory).with_context(|| directory.display().to_string())?;
        }
        let file = std::fs::OpenOptions::new().write(true).create_new(true).open(path);
        file.and_then(|mut file| file.write_all(text.as_bytes()))
            .with_context(|| path.display().to_string())?;
        eprintln!("draft written to {}: read every line before you use it", path.display());
        Ok(())
    }
}

/// How many findings of each severity, the worst first.
fn counts(findings: &[Finding]) -> Vec<(Severity, usize)> {
    let count = |severity| findings.iter().filter(|finding| finding.severity == severity).count();
    let all = Severity::ALL.into_iter().map(|severity| (severity, count(severity)));
    all.filter(|(_, count)| *count > 0).collect()
}

fn as_text(open: &[Finding], accepted: usize, relations: usize) -> String {
    let mut text = String::new();
    // Writing to a String cannot fail.
    for finding in open {
        let _ = writeln!(text, "{finding}\n");
    }
    let _ = match open.len() {
        0 => write!(text, "clean: {relations} relations, no findings"),
        count => {
            let parts: Vec<String> = counts(open)
                .into_iter()
                .map(|(severity, count)| format!("{count} {}", severity.name()))
                .collect();
            write!(text, "{count} findings in {relations} relations: {}", parts.join(", "))
        }
    };
    if accepted > 0 {
        let _ = write!(text, " ({accepted} accepted)");
    }
    text.push('\n');
    text
}

#[derive(Serialize)]
struct Report<'a> {
    database: &'a str,
    role: &'a str,
    server_version: u32,
    relations: usize,
    clean: bool,
    findings: Vec<Line<'a>>,
    accepted: Vec<Line<'a>>,
}

#[derive(Serialize)]
struct Line<'a> {
    kind: &'static str,
    severity: Severity,
    object: &'a str,
    why: &'a str,
    fix: &'a str,
}

fn as_json(
    open: &[Finding],
    accepted: &[Finding],
    catalog: &Catalog,
    database: &str,
) -> anyhow::Result<String> {
    let report = Report {
        database,
        role: &catalog.role,
        server_version: catalog.server_version,
        relations: catalog.relations.len(),
        clean: open.is_empty(),
        findings: open.iter().map(Line::of).collect(),
        accepted: accepted.iter().map(Line::of).collect(),
    };
    Ok(serde_json::to_string_pretty(&report)? + "\n")
}

impl<'a> Line<'a> {
    fn of(finding: &'a Finding) -> Self {
        Self {
            kind: finding.kind.name(),
            severity: finding.severity,
            object: &finding.object,
            why: &finding.why,
            fix: &finding.fix,
        }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn an_accepted_finding_is_named_by_kind_and_object() {
        let finding = Finding::new(FindingKind::Publication, &"cdc", "why", "fix");
        assert!(accepted("publication").unwrap().covers(&finding));
        assert!(accepted("publication:cdc").unwrap().covers(&finding));
        assert!(!accepted("publication:other").unwrap().covers(&finding));
        assert!(!accepted("rls-missing").unwrap().covers(&finding));
        assert!(accepted("publications").unwrap_err().contains("rls-missing"));
    }

    #[test]
    fn the_last_line_counts_by_severity() {
        let finding = Finding::new(FindingKind::RoleSuperuser, &"app", "why it matters", "a\nb");
        let other = finding.clone().of(Severity::Low);
        let text = as_text(&[finding, other], 1, 7);
        assert_eq!(
            text,
            "critical  role-superuser  app\n    why  why it matters\n    fix  a\n         b\n\n\
             low       role-superuser  app\n    why  why it matters\n    fix  a\n         b\n\n\
             2 findings in 7 relations: 1 critical, 1 low (1 accepted)\n"
        );
        assert_eq!(as_text(&[], 0, 7), "clean: 7 relations, no findings\n");
    }
}
