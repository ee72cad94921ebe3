//! `hedgerow explain`: what would become of a statement. Layer 6.
//!
//! Runs the very decision of the proxy ([`decide`]) for a tenant whom nobody verified: it talks to
//! no database unless `--live` asks for the upstream's catalog, and never sends the statement. What is
//! shown is the decision's own account of itself, not a second reading of the text.

mod bigquery;
mod json;
mod lines;
mod prose;
mod text;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::{ArgMatches, Args, ValueEnum};
use serde_json::{Map, Value, json};

use super::{ConfigArgs, Counts, ERROR, NO};
use crate::catalog::{self, Catalog};
use crate::claims::{ClaimPath, Claims, Principal, TenantClaim};
use crate::config::{Config, Loaded};
use crate::console::{Explainer as RecordExplainer, Outlook};
use crate::decide::{self, Explanation, Question, Viewpoint};
use crate::error::Denial;
use crate::policy::{Policies, Policy, Protection, TenantType};
use crate::sql::account::NamedRelation;
use crate::sql::{Decided, Limits};
use text::Colors;

const AFTER_HELP: &str = "\
Examples:
  hedgerow explain --config hedgerow.yaml --tenant acme 'SELECT * FROM orders'
  hedgerow explain --config hedgerow.yaml --tenant acme --claims '{\"region\": \"eu\"}' --format json \\
    \"UPDATE orders SET note = 'x' WHERE id = 7\"
  hedgerow explain --config hedgerow.yaml --tenant acme --file statements.jsonl

With --file each line is a JSON object with `sql`, and so is each answer:
  {\"decision\": \"allow\"|\"rewrite\"|\"deny\", \"code\", \"reason\", \"sent\", \"relations\",
   \"statements\": guards, barriers and conditions by statement, \"denial\": what, where, what to do}

Colours are for terminals, and not where NO_COLOR is set.

Exit codes: 0 allowed, 1 denied (with --file: any of them), 2 error.";

/// Show what would become of a statement: allowed, rewritten or denied
#[derive(Clone, Debug, Args)]
#[command(after_help = AFTER_HELP)]
pub struct ExplainArgs {
    #[command(flatten)]
    config: ConfigArgs,
    /// Whose SQL it is
    #[arg(long, value_enum, env = "HEDGEROW_ENGINE", default_value_t = Engine::Postgres)]
    engine: Engine,
    /// The tenant (default: the tenant claim in --claims)
    #[arg(long, env = "HEDGEROW_TENANT", value_name = "T")]
    tenant: Option<String>,
    /// Claims of the caller, a JSON object
    #[arg(long, env = "HEDGEROW_CLAIMS", value_name = "JSON")]
    claims: Option<String>,
    /// Catalog file, as `hedgerow scan --catalog FILE` writes it
    #[arg(long, env = "HEDGEROW_CATALOG", value_name = "FILE")]
    catalog: Option<PathBuf>,
    /// Read the catalog from the upstream
    #[arg(long, env = "HEDGEROW_LIVE", value_parser = super::flag)]
    live: bool,
    /// How the answer looks
    #[arg(long, value_enum, env = "HEDGEROW_FORMAT", default_value_t = Format::Text)]
    format: Format,
    /// File of statements, one JSON object with `sql` a line; `-` for standard input
    #[arg(long, env = "HEDGEROW_FILE", value_name = "FILE")]
    file: Option<PathBuf>,
    /// The statement
    #[arg(value_name = "SQL", required_unless_present = "file")]
    sql: Option<String>,
}

/// An engine.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Engine {
    /// PostgreSQL.
    Postgres,
    /// BigQuery.
    Bigquery,
}

/// How the answer looks.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
enum Format {
    /// For people.
    Text,
    /// One JSON object.
    Json,
}

impl ExplainArgs {
    /// Leaves out what the environment says against the command line.
    ///
    /// # Errors
    /// Flags that exclude each other.
    pub(super) fn settle(&mut self, given: &ArgMatches) -> Result<(), String> {
        match super::one_of(given, "catalog", "live") {
            Ok(Counts::First) => self.live = false,
            // `--live=false` asks for nothing.
            Ok(Counts::Other) if self.live => self.catalog = None,
            Err(conflict) if self.live => return Err(conflict),
            Ok(Counts::Other | Counts::Given) | Err(_) => {}
        }
        match super::one_of(given, "sql", "file")? {
            Counts::First => self.file = None,
            Counts::Other | Counts::Given => {}
        }
        Ok(())
    }
}

/// Runs the command.
pub fn run(args: &ExplainArgs) -> ExitCode {
    let loaded = match args.config.load() {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    let Policies { postgres, bigquery, .. } = &loaded.policies;
    let explained = match args.engine {
        Engine::Postgres => explain(args, &loaded.config, postgres),
        Engine::Bigquery => bigquery::explain(args, &loaded.config, bigquery),
    };
    explained.unwrap_or_else(|error| super::fail(&error))
}

fn explain(args: &ExplainArgs, config: &Config, policy: &Policy) -> anyhow::Result<ExitCode> {
    let catalog = catalog(args, config)?;
    let path = &config.identity.tenant_claim;
    let principal = principal(args, path, has_integer_tenants(policy))?;
    let max_statement = config
        .postgres
        .as_ref()
        .map_or(Limits::default().max_statement, |p| p.limits.max_statement);
    let database = config.postgres.as_ref().and_then(|p| p.upstream.database.as_deref());
    let limits = Limits { max_statement };
    let viewpoint = Viewpoint::new(&principal, database.unwrap_or_default(), limits);
    let explainer = Explainer { policy, catalog, viewpoint };
    if let Some(file) = &args.file {
        let explain = |sql: &str| {
            let verdict = explainer.verdict(sql);
            (verdict.denied(), verdict.json())
        };
        return lines::run(file, &explain);
    }
    let verdict = explainer.verdict(args.sql.as_deref().unwrap_or_default());
    match args.format {
        Format::Text => print!("{}", verdict.text(Colors::of_standard_output())),
        Format::Json => println!("{}", verdict.json()),
    }
    Ok(if verdict.denied() { ExitCode::from(NO) } else { ExitCode::SUCCESS })
}

/// Explains statements of audit records by the policies of a configuration, for the console: with no
/// catalog, and for a caller of whom only the tenant is known.
pub(super) fn for_records(loaded: Loaded) -> RecordExplainer {
    let limits = Limits {
        max_statement: loaded
            .config
            .postgres
            .as_ref()
            .map_or(Limits::default().max_statement, |postgres| postgres.limits.max_statement),
    };
    let path = loaded.config.identity.tenant_claim.clone();
    let upstream = loaded.config.postgres.as_ref().map(|postgres| &postgres.upstream);
    let database = upstream.and_then(|upstream| upstream.database.clone()).unwrap_or_default();
    let policy = loaded.policies.postgres;
    let numbers = has_integer_tenants(&policy);
    Box::new(move |statement, tenant| {
        let (value, mut claims) = (tenant_value(tenant, numbers), Claims::default());
        put(&mut claims.0, path.segments(), value.clone());
        let Some(tenant) = TenantClaim::from_value(&value) else {
            return Outlook::Unknown("the record's tenant cannot be one".to_owned());
        };
        let principal = Principal::assumed(Some(tenant), claims);
        let viewpoint = Viewpoint::new(&principal, &database, limits);
        let explainer = Explainer { policy: &policy, catalog: no_catalog(), viewpoint };
        let verdict = explainer.verdict(statement);
        match &verdict.explanation.verdict {
            Ok(_) => Outlook::Sent(verdict.sent().unwrap_or_default()),
            Err(refusal) => {
                let denial = &refusal.denial;
                let reason = match &denial.object {
                    Some(object) => format!("{}: {object}", denial.code.reason()),
                    None => denial.code.reason().to_owned(),
                };
                Outlook::Denied(denial.code.to_string(), reason)
            }
        }
    })
}

/// The catalog: from a file, from the upstream, or none, and then names resolve by the policy.
fn catalog(args: &ExplainArgs, config: &Config) -> anyhow::Result<Catalog> {
    if let Some(path) = &args.catalog {
        let text = std::fs::read_to_string(path)
            .with_context(|| format!("the catalog file {} cannot be read", path.display()))?;
        return catalog::file::from_json(&text)
            .with_context(|| format!("{} is not a catalog file", path.display()));
    }
    if args.live {
        return live_catalog(config);
    }
    Ok(no_catalog())
}

/// No catalog: names resolve by the policy.
fn no_catalog() -> Catalog {
    Catalog { live: false, search_path: vec!["public".to_owned()], ..Catalog::default() }
}

/// The catalog as the upstream has it now.
fn live_catalog(config: &Config) -> anyhow::Result<Catalog> {
    let postgres = config.postgres.as_ref().context("the configuration has no `postgres`")?;
    let database = postgres.upstream.database.as_deref();
    let database = database.context("--live needs `postgres.upstream.database`")?;
    super::blocking(async { Ok(crate::catalog_load::load(&postgres.upstream, database).await?) })
}

/// The caller that `--tenant` and `--claims` describe. The tenant stands in the claims too, as it
/// does in a token; as a number where `numbers` says that tenants are.
fn principal(args: &ExplainArgs, path: &ClaimPath, numbers: bool) -> anyhow::Result<Principal> {
    let mut claims = match &args.claims {
        Some(text) => match serde_json::from_str(text).context("--claims is not JSON")? {
            Value::Object(claims) => Claims(claims),
            _ => bail!("--claims must be a JSON object"),
        },
        None => Claims::default(),
    };
    let tenant = match &args.tenant {
        Some(text) => {
            let value = tenant_value(text, numbers);
            put(&mut claims.0, path.segments(), value.clone());
            Some(value)
        }
        None => claims.at(path).cloned(),
    };
    let tenant = match tenant {
        Some(value) => Some(TenantClaim::from_value(&value).context(
            "the tenant must be text of 1 to 256 bytes without control characters, or an integer",
        )?),
        None => None,
    };
    Ok(Principal::assumed(tenant, claims))
}

/// A tenant as it would be in the token.
fn tenant_value(text: &str, numbers: bool) -> Value {
    match text.parse::<i64>() {
        Ok(number) if numbers && number.to_string() == text => Value::from(number),
        Ok(_) | Err(_) => Value::from(text),
    }
}

/// Whether some table's tenant column is an integer: then a tenant of digits is a number, as it
/// would be in the token.
fn has_integer_tenants(policy: &Policy) -> bool {
    let patterns = policy.patterns.iter().map(|(_, table)| table);
    policy.tables.values().chain(patterns).any(|table| {
        matches!(table.protection, Protection::Tenant { tenant_type: TenantType::Int, .. })
    })
}

/// Puts a value at a path, making objects on the way.
fn put(claims: &mut Map<String, Value>, path: &[String], value: Value) {
    match path {
        [] => {}
        [last] => {
            claims.insert(last.clone(), value);
        }
        [first, rest @ ..] => {
            let inner = claims.entry(first.clone()).or_insert_with(|| json!({}));
            if !inner.is_object() {
                *inner = json!({});
            }
            if let Value::Object(inner) = inner {
                put(inner, rest, value);
            }
        }
    }
}

/// Everything that one answer after the other needs.
struct Explainer<'a> {
    policy: &'a Policy,
    catalog: Catalog,
    viewpoint: Viewpoint,
}

impl Explainer<'_> {
    /// The proxy's own decision, from the proxy's own viewpoint: claims of one token only (`exp`, …)
    /// are not seen by it.
    fn verdict<'t>(&self, sql: &'t str) -> Verdict<'t> {
        let Self { policy, catalog, viewpoint } = self;
        let question = Question { text: sql, types: &[], policy, catalog, viewpoint };
        let offline = !self.catalog.live;
        Verdict { original: sql, offline, explanation: decide::explain(sql, question.context()) }
    }
}

/// What would become of a text, and why.
struct Verdict<'t> {
    original: &'t str,
    /// No catalog says which columns there are and of which types.
    offline: bool,
    explanation: Explanation,
}

impl Verdict<'_> {
    /// What it would be denied for, were that not only monitored.
    fn would_deny(&self) -> Option<&Denial> {
        let statements = self.explanation.verdict.as_ref().ok()?;
        statements.iter().find_map(|statement| statement.would_deny.as_ref())
    }

    const fn denied(&self) -> bool {
        self.explanation.verdict.is_err()
    }

    fn decision(&self) -> &'static str {
        match &self.explanation.verdict {
            Ok(statements) if statements.iter().any(|s| s.rewritten) => "rewrite",
            Ok(_) => "allow",
            Err(_) => "deny",
        }
    }

    /// What would be sent; several statements one after the other.
    fn sent(&self) -> Option<String> {
        let statements = self.explanation.verdict.as_ref().ok()?;
        let texts: Vec<String> = statements.iter().map(Decided::sent).collect();
        Some(texts.join("; "))
    }

    /// Relation and rule, each pair once.
    fn relations(&self) -> Vec<&NamedRelation> {
        let mut relations: Vec<&NamedRelation> = Vec::new();
        for named in self.explanation.accounts.iter().flat_map(|account| &account.relations) {
            if !relations.contains(&named) {
                relations.push(named);
            }
        }
        relations
    }
}

#[cfg(test)]
mod tests;
