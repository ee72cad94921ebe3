//! GoogleSQL's decision against the list of known attacks and real queries, without a service: what
//! the file wants denied is denied, and nothing that is sent names a table without its guard.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what it expected by failing"
)]

mod http;
mod stand;
#[allow(dead_code, reason = "other suites use the rest")]
#[path = "../support/token.rs"]
mod token;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use hedgerow::claims::{Claims, Principal, TenantClaim};
use hedgerow::ids::PolicyEpoch;
use hedgerow::policy::BigQueryPolicy;
use hedgerow::sql::Limits;
use hedgerow::sql::bigquery::{Decided, Place, decide};
use serde::Deserialize;

const ATTACKS: &str = include_str!("attacks.yaml");
/// The policy that the attacks' schema asks for.
const POLICY: &str = "
engine: bigquery
tenant: {column: tenant_id, type: text}
tables:
  acme-prod.app.customers: {tenant: tenant_id}
  acme-prod.app.orders: {tenant: tenant_id}
  acme-prod.app.order_items: {tenant_through: {order_id: acme-prod.app.orders.id}}
  acme-prod.app.documents: {tenant: tenant_id}
  acme-prod.app.currencies: shared
  acme-prod.app.events: {tenant: tenant_id}
  \"acme-prod.app.events_*\": {tenant: tenant_id}
  acme-prod.archive.customers: {tenant: org}
datasets:
  \"acme-prod.*_scratch\": dataset_per_tenant
";
/// A policy that makes every table a tenant's, for real queries.
const EVERYTHING: &str = "
engine: bigquery
tenant: {column: tenant_id, type: text}
tables:
  \"*.*.*\": {tenant: tenant_id}
";
/// What single queries of the whole corpus must reach at least; raised as the share grows.
const LEAST_SHARE_OF_QUERIES: f64 = 0.60;

#[derive(Deserialize)]
struct Attacks {
    attacks: Vec<Attack>,
}

#[derive(Deserialize)]
struct Attack {
    id: String,
    #[serde(default)]
    sql: Vec<String>,
    expect: String,
    #[serde(default)]
    request: Option<serde_json::Value>,
}

#[derive(Deserialize)]
struct Query {
    source: String,
    sql: String,
}

fn policy(text: &str) -> BigQueryPolicy {
    hedgerow::policy::load::compile(&[("p.yaml", text)], PolicyEpoch(1)).unwrap().bigquery
}

fn decided(text: &str, policy: &BigQueryPolicy, dataset: &str) -> Result<Decided, String> {
    let tenant = TenantClaim::Text("tenant-a".into());
    let principal = Principal::assumed(Some(tenant), Claims::default());
    let place = Place {
        project: "acme-prod".into(),
        default_dataset: Some(("acme-prod".into(), dataset.into())),
        session: false,
    };
    decide(text, policy, &principal, &place, Limits::default()).map_err(|denial| denial.to_string())
}

/// Every protected table in a text that is sent stands directly before its guard.
fn assert_guarded(id: &str, sent: &str) {
    for table in ["customers", "orders", "documents", "events", "events_20260101"] {
        let name = format!("`{table}`");
        for (at, _) in sent.match_indices(&format!("`acme-prod`.`app`.{name}")) {
            let after = &sent[at..];
            let end = after.find('`').map_or(after.len(), |_| after.len().min(600));
            let guarded = after[..end].contains("`tenant_id` = 'tenant-a'")
                || after[..end].contains(", `tenant_id`) ")
                || after[..end].contains("(tenant_id");
            assert!(guarded, "{id}: {sent}");
        }
    }
}

#[test]
fn what_the_attacks_want_denied_is_denied_and_the_rest_is_guarded() {
    let attacks: Attacks = serde_saphyr::from_str(ATTACKS).unwrap();
    let policy = policy(POLICY);
    let mut seen = BTreeMap::<String, usize>::new();
    for attack in attacks.attacks.iter().filter(|attack| attack.request.is_none()) {
        for sql in &attack.sql {
            match (decided(sql, &policy, "app"), attack.expect.as_str()) {
                (Ok(decided), "deny") => panic!("{}: {}", attack.id, decided.guarded.text()),
                (Ok(decided), _) => {
                    assert_guarded(&attack.id, decided.guarded.text());
                    *seen.entry("sent with guards".into()).or_default() += 1;
                }
                (Err(reason), expected) => {
                    println!("{} ({expected}): {reason}", attack.id);
                    *seen.entry(format!("denied, {expected}")).or_default() += 1;
                }
            }
        }
    }
    println!("{seen:?}");
    assert!(seen["sent with guards"] > 20, "{seen:?}");
}

#[test]
fn real_queries_are_decided() {
    let beside =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus/bigquery.jsonl.gz");
    let path = std::env::var_os("HEDGEROW_BIGQUERY_CORPUS").map_or(beside, PathBuf::from);
    if !path.is_file() {
        println!("the corpus is not here: skipped");
        return;
    }
    let output = Command::new("gzip").arg("-dc").arg(&path).output().expect("gzip can be run");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let policy = policy(EVERYTHING);
    let mut by_source = BTreeMap::<String, (usize, usize)>::new();
    let mut codes = BTreeMap::<String, (usize, String)>::new();
    let mut all = (0, 0);
    for line in text.lines() {
        let query: Query = serde_json::from_str(line).unwrap();
        // The conformance suite's name for its own dataset.
        let sql = query.sql.replace("${DATASET}", "d");
        let start = sql.trim_start().to_ascii_uppercase();
        let single = !sql.trim_end().trim_end_matches(';').contains(';');
        if !single || !(start.starts_with("SELECT") || start.starts_with("WITH")) {
            continue;
        }
        let verdict = decided(&sql, &policy, "d");
        let cell = by_source.entry(query.source).or_default();
        cell.1 += 1;
        all.1 += 1;
        match verdict {
            Ok(_) => {
                cell.0 += 1;
                all.0 += 1;
            }
            Err(reason) => {
                let seen = codes.entry(reason).or_insert((0, sql));
                seen.0 += 1;
            }
        }
    }
    let mut codes: Vec<_> = codes.into_iter().collect();
    codes.sort_by_key(|(_, (count, _))| std::cmp::Reverse(*count));
    for (reason, (count, sample)) in codes.iter().take(60) {
        let sample: String = sample.split_whitespace().collect::<Vec<_>>().join(" ");
        println!("{count:5} {reason}\n        {}", sample.chars().take(160).collect::<String>());
    }
    println!("single queries: {} of {}; {by_source:?}", all.0, all.1);
    assert!(all.0 as f64 / all.1 as f64 >= LEAST_SHARE_OF_QUERIES);
}
