//! `hedgerow explain`: what would become of a statement. Layer 6.
//!
//! Runs the very decision of the proxy ([`decide`]) for a tenant whom nobody verified: it talks to
//! no database unless `--live` asks for the upstream's catalog, and never sends the statement.

mod lines;

use std::path::PathBuf;
use std::process::ExitCode;

use anyhow::{Context as _, bail};
use clap::{Args, ValueEnum};
use serde_json::{Map, Value, json};

use super::{ConfigArgs, ERROR, NO};
use crate::catalog::{self, Catalog};
use crate::claims::{ClaimPath, Claims, Principal, TenantClaim};
use crate::config::Config;
use crate::decide::{Context, decide};
use crate::error::Denial;
use crate::policy::{Policy, Protection, TenantType};
use crate::sql::{Decided, Limits};

const AFTER_HELP: &str = "\
Examples:
  hedgerow explain --config hedgerow.yaml --tenant acme 'SELECT * FROM orders'
  hedgerow explain --config hedgerow.yaml --tenant acme --claims '{\"region\": \"eu\"}' --format json \\
    \"UPDATE orders SET note = 'x' WHERE id = 7\"
  hedgerow explain --config hedgerow.yaml --tenant acme --file statements.jsonl

With --file each line is a JSON object with `sql`, and so is each answer:
  {\"decision\": \"allow\"|\"rewrite\"|\"deny\", \"code\", \"reason\", \"sent\", \"relations\"}

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
    #[arg(long, env = "HEDGEROW_CATALOG", value_name = "FILE", conflicts_with = "live")]
    catalog: Option<PathBuf>,
    /// Read the catalog from the upstream
    #[arg(long, env = "HEDGEROW_LIVE", value_parser = super::flag)]
    live: bool,
    /// How the answer looks
    #[arg(long, value_enum, env = "HEDGEROW_FORMAT", default_value_t = Format::Text)]
    format: Format,
    /// File of statements, one JSON object with `sql` a line; `-` for standard input
    #[arg(long, env = "HEDGEROW_FILE", value_name = "FILE", conflicts_with = "sql")]
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

/// Runs the command.
pub fn run(args: &ExplainArgs) -> ExitCode {
    let loaded = match args.config.load() {
        Ok(loaded) => loaded,
        Err(code) => return code,
    };
    explain(args, &loaded.config, &loaded.policies.postgres)
        .unwrap_or_else(|error| super::fail(&error))
}

fn explain(args: &ExplainArgs, config: &Config, policy: &Policy) -> anyhow::Result<ExitCode> {
    if args.engine == Engine::Bigquery {
        bail!("BigQuery is not built yet: only `--engine postgres` can be explained");
    }
    let catalog = catalog(args, config)?;
    let principal = principal(args, &config.identity.tenant_claim, policy)?;
    let max_statement =
        config.postgres.as_ref().map_or(Limits::default().max_statement, |p| p.max_statement);
    let explainer = Explainer { policy, catalog, principal, limits: Limits { max_statement } };
    if let Some(file) = &args.file {
        return lines::run(file, &explainer);
    }
    let verdict = explainer.verdict(args.sql.as_deref().unwrap_or_default());
    match args.format {
        Format::Text => print!("{}", verdict.text()),
        Format::Json => println!("{}", verdict.json()),
    }
    Ok(if verdict.denied() { ExitCode::from(NO) } else { ExitCode::SUCCESS })
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
    Ok(Catalog { live: false, search_path: vec!["public".to_owned()], ..Catalog::default() })
}

/// The catalog as the upstream has it now.
fn live_catalog(config: &Config) -> anyhow::Result<Catalog> {
    let postgres = config.postgres.as_ref().context("the configuration has no `postgres`")?;
    let database = postgres.upstream.database.as_deref();
    let database = database.context("--live needs `postgres.upstream.database`")?;
    super::blocking(async { Ok(crate::catalog_load::load(&postgres.upstream, database).await?) })
}

/// The caller that `--tenant` and `--claims` describe. The tenant stands in the claims too, as it
/// does in a token.
fn principal(args: &ExplainArgs, path: &ClaimPath, policy: &Policy) -> anyhow::Result<Principal> {
    let mut claims = match &args.claims {
        Some(text) => match serde_json::from_str(text).context("--claims is not JSON")? {
            Value::Object(claims) => Claims(claims),
            _ => bail!("--claims must be a JSON object"),
        },
        None => Claims::default(),
    };
    let tenant = match &args.tenant {
        Some(text) => {
            let value = match text.parse::<i64>() {
                Ok(number) if number.to_string() == *text && has_integer_tenants(policy) => {
                    Value::from(number)
                }
                Ok(_) | Err(_) => Value::from(text.as_str()),
            };
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
    principal: Principal,
    limits: Limits,
}

impl Explainer<'_> {
    fn verdict(&self, sql: &str) -> Verdict {
        let context = Context {
            policy: self.policy,
            catalog: &self.catalog,
            principal: &self.principal,
            limits: self.limits,
        };
        match decide(sql, context) {
            Ok(statements) => Verdict::Sent(statements),
            Err(refusal) => Verdict::Denied(refusal.denial),
        }
    }
}

/// What would become of a text.
enum Verdict {
    /// It would be sent.
    Sent(Vec<Decided>),
    /// It would be denied.
    Denied(Denial),
}

impl Verdict {
    /// What it would be denied for, were that not only monitored.
    fn would_deny(&self) -> Option<&Denial> {
        match self {
            Self::Sent(statements) => {
                statements.iter().find_map(|statement| statement.would_deny.as_ref())
            }
            Self::Denied(_) => None,
        }
    }

    const fn denied(&self) -> bool {
        matches!(self, Self::Denied(_))
    }

    fn decision(&self) -> &'static str {
        match self {
            Self::Sent(statements) if statements.iter().any(|s| s.rewritten) => "rewrite",
            Self::Sent(_) => "allow",
            Self::Denied(_) => "deny",
        }
    }

    /// What would be sent; several statements one after the other.
    fn sent(&self) -> Option<String> {
        match self {
            Self::Sent(statements) => {
                let texts: Vec<&str> = statements.iter().map(|s| s.guarded.text()).collect();
                Some(texts.join("; "))
            }
            Self::Denied(_) => None,
        }
    }

    /// Relation and rule, each pair once.
    fn relations(&self) -> Vec<(String, String)> {
        let mut relations = Vec::new();
        if let Self::Sent(statements) = self {
            for used in statements.iter().flat_map(|statement| &statement.relations) {
                let pair = (used.relation.to_string(), used.rule.to_string());
                if !relations.contains(&pair) {
                    relations.push(pair);
                }
            }
        }
        relations
    }

    fn reason(denial: &Denial) -> String {
        match &denial.object {
            Some(object) => format!("{}: {object}", denial.code.reason()),
            None => denial.code.reason().to_owned(),
        }
    }

    fn json(&self) -> Value {
        let (code, reason) = match self {
            Self::Sent(_) => match self.would_deny() {
                Some(denial) => (denial.code.code().into(), Self::reason(denial).into()),
                None => (Value::Null, Value::Null),
            },
            Self::Denied(denial) => (denial.code.code().into(), Self::reason(denial).into()),
        };
        let relations: Vec<Value> = self
            .relations()
            .into_iter()
            .map(|(relation, rule)| json!({"relation": relation, "rule": rule}))
            .collect();
        json!({
            "decision": self.decision(),
            "code": code,
            "reason": reason,
            "sent": self.sent(),
            "relations": relations,
        })
    }

    fn text(&self) -> String {
        let mut lines = Vec::new();
        match self {
            Self::Denied(denial) => {
                lines.push("denied".to_owned());
                lines.push(format!("  code       {}", denial.code));
                lines.push(format!("  reason     {}", Self::reason(denial)));
                lines.push(format!("  hint       {}", denial.code.hint()));
            }
            Self::Sent(_) => {
                let word =
                    if self.decision() == "rewrite" { "rewritten" } else { "allowed as it is" };
                lines.push(word.to_owned());
                if let Some(denial) = self.would_deny() {
                    lines.push(format!("  monitored  would be denied: {}", denial.code));
                    lines.push(format!("  reason     {}", Self::reason(denial)));
                }
                lines.push(format!("  sent       {}", self.sent().unwrap_or_default()));
            }
        }
        for (index, (relation, rule)) in self.relations().into_iter().enumerate() {
            let head = if index == 0 { "relations" } else { "" };
            lines.push(format!("  {head:<10} {relation} (rule {rule})"));
        }
        lines.join("\n") + "\n"
    }
}

#[cfg(test)]
mod tests;
