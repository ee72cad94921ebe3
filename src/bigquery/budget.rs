//! Bytes that tenants scan: counted from the statistics of their jobs, and bounded by the day. Layer 5.
//!
//! Where the policy says `bytes_per_day`, a query is estimated by a dry run, which costs nothing, before it
//! runs: what would go over the bound is denied, and what runs is taken from the rest until the service
//! says what it really billed. A job is counted once, however often it is asked about. The count is this
//! process's own; days are those of UTC.

use std::sync::{Arc, Mutex, PoisonError};

use metrics::counter;
use moka::sync::Cache;
use serde_json::{Map, Value};

use super::dispatch::Asked;
use super::fault::Fault;
use super::recorder::Counts;
use super::upstream::Reply;
use super::{dry_run, rows, scrub};
use crate::claims::TenantClaim;
use crate::error::{Denial, DenialCode};

/// Jobs whose bytes are known.
const KNOWN_JOBS: u64 = 100_000;
/// Tenants that have a count of their own.
const KNOWN_TENANTS: u64 = 100_000;
/// Tenants that have a series of their own among the metrics; further ones share one.
const NAMED_TENANTS: usize = 200;
const SECONDS_A_DAY: u64 = 86_400;

/// What one tenant has used.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
struct Day {
    /// Days since the epoch.
    day: u64,
    bytes: u64,
}

/// Counts of all tenants.
pub(super) struct Budget {
    spent: Cache<String, Arc<Mutex<Day>>>,
    /// What each job was counted with.
    jobs: Cache<String, u64>,
    named: Mutex<Vec<String>>,
}

/// What was taken for a query before it runs. Given back unless a job takes it over.
#[derive(Debug)]
pub(super) struct Reserved {
    tenant: String,
    bytes: u64,
}

fn tenant_key(tenant: &TenantClaim) -> String {
    match tenant {
        TenantClaim::Text(text) => format!("t{text}"),
        TenantClaim::Integer(number) => format!("i{number}"),
    }
}

impl Budget {
    /// Nothing is spent yet.
    pub(super) fn new() -> Self {
        Self {
            spent: Cache::new(KNOWN_TENANTS),
            jobs: Cache::new(KNOWN_JOBS),
            named: Mutex::new(Vec::new()),
        }
    }

    /// Takes an estimate from what is left of a tenant's day. `now`: seconds since the epoch.
    ///
    /// # Errors
    /// HR3003.
    pub(super) fn reserve(
        &self,
        tenant: &TenantClaim,
        estimate: u64,
        bound: u64,
        now: u64,
    ) -> Result<Reserved, Denial> {
        let key = tenant_key(tenant);
        let day = self.day(&key);
        let mut day = day.lock().unwrap_or_else(PoisonError::into_inner);
        day.turn(now);
        let after = day.bytes.checked_add(estimate).filter(|after| *after <= bound);
        match after {
            // With nothing left, a query of no bytes still runs: it costs nothing.
            Some(after) => {
                day.bytes = after;
                Ok(Reserved { tenant: key, bytes: estimate })
            }
            None => Err(Denial::of(
                DenialCode::ByteBudget,
                format!(
                    "{estimate} bytes asked for, {} of {bound} left today",
                    bound.saturating_sub(day.bytes)
                ),
            )),
        }
    }

    /// Bytes that are left of a tenant's day.
    fn left(&self, tenant: &TenantClaim, bound: u64, now: u64) -> u64 {
        let day = self.day(&tenant_key(tenant));
        let mut day = day.lock().unwrap_or_else(PoisonError::into_inner);
        day.turn(now);
        bound.saturating_sub(day.bytes)
    }

    /// Gives back what was taken for a query that did not run.
    pub(super) fn give_back(&self, reserved: Reserved, now: u64) {
        let day = self.day(&reserved.tenant);
        let mut day = day.lock().unwrap_or_else(PoisonError::into_inner);
        day.turn(now);
        day.bytes = day.bytes.saturating_sub(reserved.bytes);
    }

    /// A job runs with what was taken for it.
    pub(super) fn runs(&self, job: &str, reserved: Reserved) {
        self.jobs.insert(job.to_owned(), reserved.bytes);
    }

    /// The service says what a job billed.
    pub(super) fn settle(&self, tenant: &TenantClaim, job: &str, billed: u64, now: u64) {
        let key = tenant_key(tenant);
        let day = self.day(&key);
        let mut day = day.lock().unwrap_or_else(PoisonError::into_inner);
        // INVARIANT: under the day's lock, so that two answers about a job do not both count it.
        let known = self.jobs.get(job).unwrap_or(0);
        if known == billed && self.jobs.contains_key(&settled(job)) {
            return;
        }
        let first = !self.jobs.contains_key(&settled(job));
        self.jobs.insert(job.to_owned(), billed);
        self.jobs.insert(settled(job), billed);
        day.turn(now);
        day.bytes = day.bytes.saturating_sub(known).saturating_add(billed);
        drop(day);
        if first {
            counter!("hedgerow_bigquery_bytes_billed_total", "tenant" => self.series(tenant))
                .increment(billed);
        }
    }

    /// Bytes of today.
    #[cfg(test)]
    fn spent(&self, tenant: &TenantClaim, now: u64) -> u64 {
        let day = self.day(&tenant_key(tenant));
        let mut day = day.lock().unwrap();
        day.turn(now);
        day.bytes
    }

    fn day(&self, key: &str) -> Arc<Mutex<Day>> {
        self.spent.get_with_by_ref(key, Arc::default)
    }

    /// The tenant's name among the metrics.
    fn series(&self, tenant: &TenantClaim) -> String {
        let name = tenant.to_string();
        let mut named = self.named.lock().unwrap_or_else(PoisonError::into_inner);
        if named.contains(&name) {
            return name;
        }
        if named.len() < NAMED_TENANTS {
            named.push(name.clone());
            return name;
        }
        "other".to_owned()
    }
}

fn settled(job: &str) -> String {
    format!("settled {job}")
}

impl Day {
    fn turn(&mut self, now: u64) {
        let today = now / SECONDS_A_DAY;
        if self.day != today {
            *self = Self { day: today, bytes: 0 };
        }
    }
}

/// Before a query runs: what it may scan is taken from the tenant's day, and what is left bounds it.
/// `query`: its fields as they are sent. `None` where the policy sets no bound.
///
/// # Errors
/// HR3003; the service's own error for a query that it does not accept.
pub(super) async fn before(
    asked: &Asked<'_>,
    query: &mut Map<String, Value>,
    location: Option<&str>,
    known: scrub::Known<'_>,
) -> Result<Option<Reserved>, Fault> {
    let Some(bound) = asked.policy.bytes_per_day else { return Ok(None) };
    let answer = dry_run::run(asked, query, location, known).await?;
    let now = now();
    let left = asked.front.budget.left(&asked.tenant, bound, now);
    // A script's dry run says nothing: it may run as long as there is something left.
    let estimate = estimate(&answer).unwrap_or_else(|| u64::from(left == 0));
    let reserved = asked.front.budget.reserve(&asked.tenant, estimate, bound, now)?;
    let most = query.get("maximumBytesBilled").and_then(Value::as_str);
    let most = most.and_then(|most| most.parse().ok()).unwrap_or(u64::MAX);
    query.insert("maximumBytesBilled".to_owned(), left.clamp(1, most.max(1)).to_string().into());
    Ok(Some(reserved))
}

/// After a query was sent: what was taken for it is the job's, or is given back.
pub(super) fn after(asked: &Asked<'_>, reserved: Option<Reserved>, job: Option<&str>) {
    let Some(reserved) = reserved else { return };
    match job {
        Some(job) => asked.front.budget.runs(job, reserved),
        None => asked.front.budget.give_back(reserved, now()),
    }
}

/// Counts what an answer says that a job billed.
pub(super) fn count(asked: &Asked<'_>, answer: &Value, job: &str) {
    let dry = answer.get("configuration").and_then(|of| of.get("dryRun"));
    if dry.and_then(Value::as_bool) == Some(true) {
        return;
    }
    if let Some(billed) = billed(answer) {
        asked.front.budget.settle(&asked.tenant, job, billed, now());
    }
}

/// Counts what a reply with a result says.
pub(super) fn count_reply(asked: &Asked<'_>, reply: &Reply, job: &str) {
    let Some(members) = rows::members(&reply.body) else { return };
    let mut told = Map::new();
    for (name, value) in members {
        if matches!(name.as_str(), "jobComplete" | "totalBytesBilled" | "totalBytesProcessed") {
            told.insert(name, serde_json::from_slice(&value).unwrap_or_default());
        }
    }
    count(asked, &Value::Object(told), job);
}

/// What the resource of a job that has ended counts.
pub(super) fn counted(reply: &Reply) -> Counts {
    let job = serde_json::from_slice::<Value>(&reply.body).unwrap_or_default();
    let dry = job.get("configuration").and_then(|of| of.get("dryRun")) == Some(&Value::Bool(true));
    Counts { rows: None, bytes_billed: billed(&job).filter(|_| !dry) }
}

/// The upstream id of the job in a reply.
pub(super) fn job_of(reply: &Reply) -> Option<String> {
    let members = rows::members(&reply.body)?;
    let (_, reference) = members.into_iter().find(|(name, _)| name == "jobReference")?;
    let reference: Value = serde_json::from_slice(&reference).ok()?;
    Some(reference.get("jobId")?.as_str()?.to_owned())
}

/// Seconds since the epoch.
pub(super) fn now() -> u64 {
    std::time::SystemTime::now()
        .duration_since(std::time::UNIX_EPOCH)
        .map_or(0, |elapsed| elapsed.as_secs())
}

/// What a finished job's resource or result says was billed; `None` while it runs.
fn billed(answer: &Value) -> Option<u64> {
    let count = |value: Option<&Value>| match value? {
        Value::String(digits) => digits.parse().ok(),
        Value::Number(number) => number.as_u64(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    };
    let statistics = answer.get("statistics");
    if let Some(statistics) = statistics {
        let done = answer.get("status").and_then(|status| status.get("state"));
        if done.and_then(Value::as_str) != Some("DONE") {
            return None;
        }
        let query = statistics.get("query");
        return count(query.and_then(|query| query.get("totalBytesBilled")))
            .or_else(|| count(statistics.get("totalBytesProcessed")));
    }
    if answer.get("jobComplete").and_then(Value::as_bool) != Some(true) {
        return None;
    }
    count(answer.get("totalBytesBilled")).or_else(|| count(answer.get("totalBytesProcessed")))
}

/// What a dry run says that a query would scan.
fn estimate(answer: &Value) -> Option<u64> {
    let statistics = answer.get("statistics");
    let told = statistics.and_then(|of| of.get("totalBytesProcessed"));
    let told = told.or_else(|| answer.get("totalBytesProcessed"))?;
    match told {
        Value::String(digits) => digits.parse().ok(),
        Value::Number(number) => number.as_u64(),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use serde_json::json;

    use super::*;

    const NOON: u64 = SECONDS_A_DAY * 20_000 + 43_200;

    fn tenant(name: &str) -> TenantClaim {
        TenantClaim::Text(name.to_owned())
    }

    #[test]
    fn a_day_is_spent_by_one_tenant_and_comes_again() {
        let budget = Budget::new();
        let (a, b) = (tenant("a"), tenant("b"));
        let first = budget.reserve(&a, 60, 100, NOON).unwrap();
        assert_eq!(budget.reserve(&a, 41, 100, NOON).unwrap_err().code, DenialCode::ByteBudget);
        budget.reserve(&b, 100, 100, NOON).unwrap();
        budget.give_back(first, NOON);
        assert_eq!(budget.spent(&a, NOON), 0);
        budget.reserve(&a, 100, 100, NOON).unwrap();
        assert!(budget.reserve(&a, 1, 100, NOON).is_err());
        // What costs nothing still runs.
        budget.reserve(&a, 0, 100, NOON).unwrap();
        budget.reserve(&a, 100, 100, NOON + SECONDS_A_DAY).unwrap();
        assert!(budget.reserve(&a, u64::MAX, 100, NOON + SECONDS_A_DAY).is_err());
    }

    #[test]
    fn a_job_is_counted_once_with_what_it_billed() {
        let budget = Budget::new();
        let a = tenant("a");
        let reserved = budget.reserve(&a, 60, 100, NOON).unwrap();
        assert_eq!(reserved.bytes, 60);
        budget.runs("job", reserved);
        for _ in 0..3 {
            budget.settle(&a, "job", 75, NOON);
            assert_eq!(budget.spent(&a, NOON), 75);
        }
        // A job that nobody reserved for, as one of another process.
        budget.settle(&a, "other", 10, NOON);
        budget.settle(&a, "other", 10, NOON);
        assert_eq!(budget.spent(&a, NOON), 85);
        assert_ne!(tenant_key(&tenant("7")), tenant_key(&TenantClaim::Integer(7)));
    }

    #[test]
    fn bytes_are_read_from_answers_about_jobs_that_have_ended() {
        let job = |state: &str| json!({"status": {"state": state}, "statistics": {"totalBytesProcessed": "5", "query": {"totalBytesBilled": "10"}}});
        assert_eq!(billed(&job("DONE")), Some(10));
        assert_eq!(billed(&job("RUNNING")), None);
        assert_eq!(billed(&json!({"jobComplete": true, "totalBytesProcessed": "7"})), Some(7));
        assert_eq!(billed(&json!({"jobComplete": false, "totalBytesProcessed": "7"})), None);
        assert_eq!(billed(&json!({})), None);
    }
}
