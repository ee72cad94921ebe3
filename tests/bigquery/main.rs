//! GoogleSQL's decision against the list of known attacks and real queries, without a service: what
//! the file wants denied is denied, and nothing that is sent names a table without its guard.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what it expected by failing"
)]

mod attacks_http;
mod clients;
mod data;
mod emulator;
mod guards;
mod http;
mod oracle;
#[allow(dead_code, reason = "one copy for all test binaries; this one needs less")]
#[path = "../support/process.rs"]
mod process;
mod stand;
#[allow(dead_code, reason = "other suites use the rest")]
#[path = "../support/token.rs"]
mod token;
mod zetasql;

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
  \"acme-prod.own_*\": dataset_per_tenant
";
/// A policy that makes every table a tenant's, for real queries.
const EVERYTHING: &str = "
engine: bigquery
tenant: {column: tenant_id, type: text}
tables:
  \"*.*.*\": {tenant: tenant_id}
";
/// What share of the corpus's single queries must be allowed at least, without any routine.
const LEAST_SHARE_OF_ALL: f64 = 0.86;
/// The same of the queries that a tenant could run, with the routines that they name.
const LEAST_SHARE_OF_QUERIES: f64 = 0.99;

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

/// What keeps a query from being one that a tenant could run, by what its text says: tables are read
/// in other ways than by SQL's own, or the language is not BigQuery's.
fn set_apart(sql: &str) -> Option<&'static str> {
    let upper = sql.split_whitespace().collect::<Vec<_>>().join(" ").to_ascii_uppercase();
    let has = |words: &[&str]| words.iter().any(|word| upper.contains(word));
    if has(&["EXTERNAL_QUERY", "READ_CSV"]) {
        return Some("reads another service");
    }
    if has(&["INFORMATION_SCHEMA", "__TABLES"]) {
        return Some("reads the catalog");
    }
    if has(&["KEYS.", "AEAD."]) {
        return Some("handles keys");
    }
    if has(&["(TABLE ", "( TABLE ", ", TABLE ", "(MODEL ", "ML.", "AI."])
        || has(OTHERS_TABLE_FUNCTIONS)
    {
        return Some("hands tables to functions and models");
    }
    // A macro of the repository's own, where it stands without a dataset.
    let macros = upper.replace(".BROWSER_VERSION_INFO(", "").contains("BROWSER_VERSION_INFO(");
    (macros || has(NOT_BIGQUERY)).then_some("is GoogleSQL of other products, or no SQL at all")
}

/// Table functions of the documentation's examples.
const OTHERS_TABLE_FUNCTIONS: &[&str] =
    &["COUNTTOKENSINTEXT", "CUSTOMERRANGE", "CUSTOMERCREATIONTIMERANGE", "MY_UNDEFINED"];
/// Protobuf, Spanner's and F1's forms, templates, functions that are defined elsewhere, and what the
/// service itself refuses.
const NOT_BIGQUERY: &[&str] = &[
    "GOOGLESQL.",
    "PROTO",
    "FILTER_FIELDS",
    "NEW ALBUM",
    "WITH WEIGHT",
    "RESERVOIR",
    "BERNOULLI",
    "${",
    "{}",
    ".COM:",
    "!!",
    "FROM TABLE",
    "FROM X-0",
    "FOO.BAR.25",
    "FOR SYSTEM TIME",
    "SELECT WITH(",
    "SELECT WITH (",
    "ARRAY_CONTAINS",
    "REGEXP_MATCH(",
    "SELECT INTEGER(",
    " BROWSER_VERSION_INFO(",
];

/// The decision of a policy that allows the routines which the text calls by full names.
fn decided_with_routines(sql: &str, policy: &BigQueryPolicy) -> Result<Decided, String> {
    let mut policy = policy.clone();
    loop {
        let reason = match decided(sql, &policy, "d") {
            Ok(decided) => return Ok(decided),
            Err(reason) => reason,
        };
        let name = reason
            .strip_prefix("HR1005 the function is not allowed (")
            .and_then(|rest| rest.strip_suffix(')'))
            .map(|name| name.replace('`', ""));
        let Some(name) = name.filter(|name| name.contains('.')) else { return Err(reason) };
        let full = if name.matches('.').count() == 1 { format!("acme-prod.{name}") } else { name };
        if !policy.functions.insert(full) {
            return Err(reason);
        }
    }
}

/// The corpus, if it is here: the texts with their sources.
fn corpus() -> Option<Vec<Query>> {
    let beside =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus/bigquery.jsonl.gz");
    let path = std::env::var_os("HEDGEROW_BIGQUERY_CORPUS").map_or(beside, PathBuf::from);
    if !path.is_file() {
        println!("the corpus is not here: skipped");
        return None;
    }
    let output = Command::new("gzip").arg("-dc").arg(&path).output().expect("gzip can be run");
    let text = String::from_utf8(output.stdout).expect("UTF-8");
    let read = |line| {
        let mut query: Query = serde_json::from_str(line).unwrap();
        // The conformance suite's name for its own dataset.
        query.sql = query.sql.replace("${DATASET}", "d");
        query
    };
    Some(text.lines().map(read).collect())
}

fn is_single_query(sql: &str) -> bool {
    let start = sql.trim_start().to_ascii_uppercase();
    let single = !sql.trim_end().trim_end_matches(';').contains(';');
    single && (start.starts_with("SELECT") || start.starts_with("WITH"))
}

#[test]
fn real_queries_are_decided() {
    let Some(corpus) = corpus() else { return };
    let policy = policy(EVERYTHING);
    let mut by_source = BTreeMap::<String, (usize, usize)>::new();
    let mut apart = BTreeMap::<&str, usize>::new();
    let mut reasons = BTreeMap::<String, (usize, String)>::new();
    let (mut all, mut own) = ((0, 0), (0, 0));
    for query in corpus.into_iter().filter(|query| is_single_query(&query.sql)) {
        let allowed = usize::from(decided(&query.sql, &policy, "d").is_ok());
        all = (all.0 + allowed, all.1 + 1);
        if let Some(why) = set_apart(&query.sql) {
            *apart.entry(why).or_default() += 1;
            continue;
        }
        let cell = by_source.entry(query.source).or_default();
        cell.1 += 1;
        own.1 += 1;
        match decided_with_routines(&query.sql, &policy) {
            Ok(_) => {
                cell.0 += 1;
                own.0 += 1;
            }
            Err(reason) => reasons.entry(reason).or_insert((0, query.sql)).0 += 1,
        }
    }
    let mut reasons: Vec<_> = reasons.into_iter().collect();
    reasons.sort_by_key(|(_, (count, _))| std::cmp::Reverse(*count));
    for (reason, (count, sample)) in reasons.iter().take(60) {
        let sample: String = sample.split_whitespace().collect::<Vec<_>>().join(" ");
        println!("{count:5} {reason}\n        {}", sample.chars().take(160).collect::<String>());
    }
    println!("single queries, no routine allowed: {} of {}", all.0, all.1);
    println!("set apart: {apart:?}");
    println!("the others, their routines allowed: {} of {}; {by_source:?}", own.0, own.1);
    assert!(all.0 as f64 / all.1 as f64 >= LEAST_SHARE_OF_ALL);
    assert!(own.0 as f64 / own.1 as f64 >= LEAST_SHARE_OF_QUERIES);
}
