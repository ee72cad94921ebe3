//! Dry runs, which cost nothing: what a query would scan, and what the service says that it reads.
//! Layer 5.
//!
//! Where `compare_dry_runs` is set, the service is asked once for each text that is about to run
//! (`referencedTables`), and a text by which it reads a table that the decision did not see is denied
//! (HR1008). That is a second opinion by the parser that counts. Of a script a dry run tells nothing: it is
//! denied, or else one more statement would be the way around the question.

use moka::sync::Cache;
use serde_json::{Map, Value, json};
use sha2::{Digest as _, Sha256};

use super::dispatch::{Asked, uncounted};
use super::fault::Fault;
use super::judge::Verdict;
use super::scrub;
use super::upstream::{Call, Verb};
use crate::error::{Denial, DenialCode};
use crate::sql::bigquery::names::{Binding, TableName};

/// Most texts that are known to be read alike.
const KNOWN_TEXTS: u64 = 100_000;
/// From so many tables on, the service's list need not be whole (BigQuery's REST reference,
/// `JobStatistics2.referencedTables`).
const LISTED_TABLES: usize = 50;

/// Texts that the service reads as the decision did.
pub(super) struct ReadAlike(Cache<[u8; 32], ()>);

impl ReadAlike {
    /// Nothing was compared yet.
    pub(super) fn new() -> Self {
        Self(Cache::new(KNOWN_TEXTS))
    }
}

/// Fields of a query that say what it scans.
const OF_A_QUERY: &[&str] = &[
    "query",
    "useLegacySql",
    "parameterMode",
    "queryParameters",
    "connectionProperties",
    "secureContext",
];

/// What the service says of a query that it does not run. `query`: its fields as they are sent.
///
/// # Errors
/// The service's own error for a query that it does not accept.
pub(super) async fn run(
    asked: &Asked<'_>,
    query: &Map<String, Value>,
    location: Option<&str>,
    known: scrub::Known<'_>,
) -> Result<Value, Fault> {
    let mut asks = Map::new();
    super::resource::keep(&Value::Object(query.clone()), OF_A_QUERY, &mut asks);
    // What the cache holds costs nothing; the estimate is of what it costs at most.
    asks.insert("useQueryCache".to_owned(), false.into());
    let mut reference = json!({"projectId": asked.project});
    if let (Some(location), Value::Object(fields)) = (location, &mut reference) {
        fields.insert("location".to_owned(), location.into());
    }
    let mut body = Map::new();
    body.insert("jobReference".to_owned(), reference);
    body.insert("configuration".to_owned(), json!({"dryRun": true, "query": asks}));
    let call = Call::new(Verb::Post, ["projects", &asked.project, "jobs"]).body(body);
    let reply = asked.perform(&call, &asked.facts(), uncounted).await?;
    if !reply.is_good() {
        return Err(scrub::fault(&reply, known));
    }
    Ok(serde_json::from_slice(&reply.body).unwrap_or_default())
}

/// Holds the decision against what the service reads, where that was asked for.
///
/// # Errors
/// HR1008 where the service reads a table that the decision did not see, or does not say what it reads, as
/// of a script; else as [`run`].
pub(super) async fn compare(
    asked: &Asked<'_>,
    verdict: &Verdict,
    query: &Map<String, Value>,
    location: Option<&str>,
    known: scrub::Known<'_>,
) -> Result<(), Fault> {
    let Some(ReadAlike(alike)) = &asked.front.read_alike else { return Ok(()) };
    let decided = &verdict.decided;
    let disagree =
        || Fault::from(Denial::of(DenialCode::ParsersDisagree, "what the service says of it"));
    if decided.kinds.len() != 1 {
        return Err(disagree());
    }
    let mut key = Sha256::new();
    // The tenant is asked about too: a table of its own is another's that it may not read.
    for part in [decided.guarded.text(), &asked.project, &format!("{:?}", asked.tenant)] {
        key.update((part.len() as u64).to_be_bytes());
        key.update(part);
    }
    key.update(asked.policy.epoch.0.to_be_bytes());
    let key: [u8; 32] = key.finalize().into();
    if alike.contains_key(&key) {
        return Ok(());
    }
    let answer = run(asked, query, location, known).await?;
    let place = asked.place();
    let env = asked.env(&place);
    let expected = |table: &TableName| {
        decided.relations.iter().any(|used| covers(&used.table, table))
            || matches!(env.bind(table), Ok(Binding::Shared(_) | Binding::Own))
    };
    let agrees = match tables_of(&answer) {
        Some(tables) => tables.len() < LISTED_TABLES && tables.iter().all(expected),
        // Nothing is said where nothing is read.
        None => decided.relations.is_empty(),
    };
    if !agrees {
        return Err(disagree());
    }
    alike.insert(key, ());
    Ok(())
}

/// Whether a table that the service names is one that the decision saw: itself, or one of a wildcard's.
fn covers(seen: &TableName, named: &TableName) -> bool {
    seen.project == named.project
        && seen.dataset == named.dataset
        && (seen.table == named.table
            || seen.table.strip_suffix('*').is_some_and(|start| named.table.starts_with(start)))
}

/// The tables that a dry run says are read; `None` where it does not say, or not in a form that is known.
fn tables_of(answer: &Value) -> Option<Vec<TableName>> {
    let tables = answer.get("statistics")?.get("query")?.get("referencedTables")?.as_array()?;
    let table = |table: &Value| {
        let word = |name: &str| table.get(name)?.as_str().map(str::to_owned);
        Some(TableName {
            project: word("projectId")?,
            dataset: word("datasetId")?,
            table: word("tableId")?,
        })
    };
    tables.iter().map(table).collect()
}
