//! `hedgerow explain --engine bigquery`: GoogleSQL's decision, by the policy alone. Layer 6.
//!
//! Names without a project are those of `bigquery.default_project`, or of the one project that the
//! policies name; a default dataset comes with a request, so there is none here.

use std::process::ExitCode;

use anyhow::bail;
use serde_json::{Value, json};

use super::{ExplainArgs, Format, lines, principal, prose};
use crate::claims::Principal;
use crate::cli::NO;
use crate::config::Config;
use crate::error::Denial;
use crate::policy::{BigQueryPolicy, Protection, TenantType};
use crate::sql::Limits;
use crate::sql::bigquery::{Decided, Place, decide};

/// Explains one statement, or a file of them.
pub(super) fn explain(
    args: &ExplainArgs,
    config: &Config,
    policy: &BigQueryPolicy,
) -> anyhow::Result<ExitCode> {
    if args.live || args.catalog.is_some() {
        bail!("--live and --catalog are PostgreSQL's: BigQuery is decided by the policy alone");
    }
    let numbers = policy.tables.iter().any(|(_, table)| {
        matches!(table.protection, Protection::Tenant { tenant_type: TenantType::Int, .. })
    });
    let principal = principal(args, &config.identity.tenant_claim, numbers)?;
    let place = Place { project: project(config, policy), default_dataset: None, session: false };
    let explainer = Explainer { policy, principal, place };
    if let Some(file) = &args.file {
        let explain = |sql: &str| {
            let verdict = explainer.verdict(sql);
            (verdict.0.is_err(), verdict.json())
        };
        return lines::run(file, &explain);
    }
    let verdict = explainer.verdict(args.sql.as_deref().unwrap_or_default());
    match args.format {
        Format::Text => print!("{}", verdict.text()),
        Format::Json => println!("{}", verdict.json()),
    }
    Ok(if verdict.0.is_err() { ExitCode::from(NO) } else { ExitCode::SUCCESS })
}

/// The project of names without one.
fn project(config: &Config, policy: &BigQueryPolicy) -> String {
    let configured = config.bigquery.as_ref().and_then(|side| side.default_project.clone());
    let tables = policy.tables.iter().map(|(pattern, _)| &pattern.project);
    let datasets = policy.datasets.keys().map(|(project, _)| project);
    let mut named: Vec<&String> = tables.chain(datasets).filter(|p| !p.contains('*')).collect();
    named.sort_unstable();
    named.dedup();
    match (configured, named.as_slice()) {
        (Some(project), _) => project,
        (None, [only]) => (*only).clone(),
        (None, _) => String::new(),
    }
}

struct Explainer<'a> {
    policy: &'a BigQueryPolicy,
    principal: Principal,
    place: Place,
}

impl Explainer<'_> {
    fn verdict(&self, sql: &str) -> Verdict {
        Verdict(decide(sql, self.policy, &self.principal, &self.place, Limits::default()))
    }
}

/// What would become of a text.
struct Verdict(Result<Decided, Denial>);

impl Verdict {
    fn json(&self) -> Value {
        match &self.0 {
            Ok(decided) => json!({
                "decision": if decided.rewritten { "rewrite" } else { "allow" },
                "code": null,
                "reason": null,
                "sent": decided.guarded.text(),
                "relations": decided.relations.iter().map(|used| {
                    json!({"relation": used.table.to_string(), "rule": used.rule.as_ref()})
                }).collect::<Vec<_>>(),
            }),
            Err(denial) => json!({
                "decision": "deny",
                "code": denial.code.code(),
                "reason": prose::short(denial),
                "sent": null,
                "relations": [],
            }),
        }
    }

    fn text(&self) -> String {
        let mut lines = Vec::new();
        match &self.0 {
            Ok(decided) => {
                let head = if decided.rewritten { "rewritten" } else { "allowed as is" };
                lines.push(head.to_owned());
                lines.push(format!("  sent       {}", decided.guarded.text()));
                for (index, used) in decided.relations.iter().enumerate() {
                    let head = if index == 0 { "relations" } else { "" };
                    lines.push(format!("  {head:<10} {} (rule {})", used.table, used.rule));
                }
            }
            Err(denial) => {
                lines.push("denied".to_owned());
                lines.push(format!("  code       {}", denial.code));
                lines.push(format!("  reason     {}", prose::short(denial)));
                lines.push(format!("  hint       {}", denial.code.hint()));
            }
        }
        lines.join("\n") + "\n"
    }
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claims::{Claims, TenantClaim};
    use crate::ids::PolicyEpoch;

    #[test]
    fn a_text_is_rewritten_allowed_or_denied_with_its_reason() {
        let text = "
engine: bigquery
tenant: {column: tenant_id, type: text}
tables:
  p.app.orders: {tenant: tenant_id}
";
        let policy =
            crate::policy::load::compile(&[("p.yaml", text)], PolicyEpoch(1)).unwrap().bigquery;
        let tenant = Some(TenantClaim::Text("acme".into()));
        let explainer = Explainer {
            policy: &policy,
            principal: Principal::assumed(tenant, Claims::default()),
            place: Place { project: "p".into(), default_dataset: None, session: false },
        };
        let answer = |sql: &str| explainer.verdict(sql).json();
        let rewritten = answer("SELECT note FROM app.orders");
        assert_eq!(rewritten["decision"], "rewrite");
        assert!(rewritten["sent"].as_str().unwrap().contains("'acme'"));
        assert_eq!(rewritten["relations"][0]["relation"], "p.app.orders");
        assert_eq!(answer("SELECT 1")["decision"], "allow");
        let denied = answer("SELECT note FROM app.other");
        assert_eq!((&denied["decision"], &denied["code"]), (&json!("deny"), &json!("HR1003")));
        assert_eq!(denied["reason"], "the relation is not known: p.app.other");
        assert!(explainer.verdict("SELECT note FROM app.other").text().contains("HR1003"));
    }
}
