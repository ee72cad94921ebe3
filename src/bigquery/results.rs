//! Results of queries: jobs.getQueryResults, and the answer of jobs.query. Layer 5.
//!
//! Rows pass as they came. What stands around them is on a list; ids and page tokens are the tenant's.

use std::sync::Arc;
use std::time::Duration;

use bytes::Bytes;
use serde_json::{Value, json};

use super::answer::Answer;
use super::dispatch::{Asked, KnownJob};
use super::fault::Fault;
use super::job_form::TIMESTAMP_FORMATS;
use super::keyring::Use;
use super::query::MAX_WAIT;
use super::recorder::Counts;
use super::upstream::{Call, Reply, Verb};
use super::{budget, resource, rows, scrub};
use crate::error::{Denial, DenialCode};

/// What the service waits when it is not told, in milliseconds.
const USUAL_WAIT: u64 = 10_000;
/// Fields that tell nothing but of the result itself.
const PLAIN: &[&str] = &[
    "kind",
    "jobComplete",
    "totalRows",
    "numDmlAffectedRows",
    "dmlStats",
    "statementType",
    "creationTime",
    "startTime",
    "endTime",
    "location",
    "rows",
];
/// Fields that tell how large the tables are that were read, and whether somebody wrote to them since.
const OF_TABLES: &[&str] = &["totalBytesProcessed", "totalBytesBilled", "cacheHit"];

/// jobs.getQueryResults
pub(super) async fn page(asked: &Asked<'_>) -> Result<Answer, Fault> {
    let shown = asked.names.first().map(String::as_str).unwrap_or_default();
    let upstream = own_job(asked, shown)?;
    let wait = asked.count("timeoutMs")?.map(|wait| wait.min(MAX_WAIT));
    let token =
        match asked.parameter("pageToken") {
            Some(token) => {
                let own = asked.owner().open(Use::Page, &upstream, token);
                Some(own.ok_or_else(|| {
                    Fault::foreign(format!("Page of job {}:{shown}", asked.project))
                })?)
            }
            None => None,
        };
    let int64 = flag(asked, "formatOptions.useInt64Timestamp")?;
    let format = timestamp_format(asked)?;
    let call = Call::new(Verb::Get, ["projects", &asked.project, "queries", &upstream])
        .maybe("location", asked.word("location")?)
        .maybe("maxResults", asked.count("maxResults")?.map(|rows| rows.to_string()))
        .maybe("startIndex", asked.count("startIndex")?.map(|row| row.to_string()))
        .maybe("pageToken", token)
        .maybe("timeoutMs", wait.map(|wait| wait.to_string()))
        .maybe("formatOptions.useInt64Timestamp", int64)
        .maybe("formatOptions.timestampOutputFormat", format)
        .waits(Duration::from_millis(wait.unwrap_or(USUAL_WAIT)));
    let reply = asked.perform(&call, &asked.facts(), counted).await?;
    let known = known(asked, &upstream);
    if !reply.is_good() {
        return Err(of_job(asked, shown, &reply, &known));
    }
    budget::count_reply(asked, &reply, &upstream);
    answer(asked, &reply, &known, Some(&upstream))
}

/// The upstream id of a job of the tenant's.
///
/// # Errors
/// HR5007, which is a 404.
pub(super) fn own_job(asked: &Asked<'_>, shown: &str) -> Result<String, Fault> {
    let own = asked.owner().upstream_job(shown);
    own.ok_or_else(|| Fault::foreign(job_name(asked, shown)))
}

fn job_name(asked: &Asked<'_>, shown: &str) -> String {
    format!("Job {}:{shown}", asked.project)
}

/// What is known of a job; the worst where nothing is.
pub(super) fn known(asked: &Asked<'_>, upstream: &str) -> Arc<KnownJob> {
    asked
        .front
        .jobs
        .get(upstream)
        .unwrap_or_else(|| Arc::new(KnownJob { text: Arc::default(), protected: true }))
}

/// The error of a call on a job: one that is not there is called as the client calls it.
pub(super) fn of_job(asked: &Asked<'_>, shown: &str, reply: &Reply, known: &KnownJob) -> Fault {
    if reply.status == 404 {
        return Fault::NotFound(job_name(asked, shown));
    }
    scrub::fault(reply, known.told())
}

pub(super) fn timestamp_format<'a>(asked: &'a Asked<'_>) -> Result<Option<&'a str>, Fault> {
    match asked.word("formatOptions.timestampOutputFormat")? {
        Some(word) if TIMESTAMP_FORMATS.contains(&word) => Ok(Some(word)),
        Some(_) => Err(Fault::form("query parameter formatOptions.timestampOutputFormat")),
        None => Ok(None),
    }
}

pub(super) fn flag<'a>(asked: &'a Asked<'_>, name: &'static str) -> Result<Option<&'a str>, Fault> {
    match asked.parameter(name) {
        None => Ok(None),
        Some("true" | "True" | "1") => Ok(Some("true")),
        Some("false" | "False" | "0") => Ok(Some("false")),
        Some(_) => Err(Fault::form(format!("query parameter {name}"))),
    }
}

/// Rows of the whole result, and what it cost.
pub(super) fn counted(reply: &Reply) -> Counts {
    let Some(members) = rows::members(&reply.body) else { return Counts::default() };
    let count = |wanted: &str| {
        let (_, value) = members.iter().find(|(name, _)| name == wanted)?;
        std::str::from_utf8(value).ok()?.trim_matches('"').parse().ok()
    };
    Counts { rows: count("totalRows"), bytes_billed: count("totalBytesBilled") }
}

/// The answer with a result. `job`: its upstream id, where the reply does not say it first.
pub(super) fn answer(
    asked: &Asked<'_>,
    reply: &Reply,
    known: &Arc<KnownJob>,
    job: Option<&str>,
) -> Result<Answer, Fault> {
    let members = rows::members(&reply.body).ok_or_else(|| {
        tracing::warn!("the service answers a query with what is no JSON object");
        Fault::Unavailable
    })?;
    let read = |value: &Bytes| serde_json::from_slice::<Value>(value).unwrap_or_default();
    let reference = members.iter().find(|(name, _)| name == "jobReference").map(|(_, v)| read(v));
    let named = reference.as_ref().and_then(|reference| reference.get("jobId")?.as_str());
    // SECURITY: whatever the service answers, it is about the job that was asked for.
    let job = job.or(named).map(str::to_owned);
    if let Some(job) = &job {
        asked.front.jobs.made(job.clone(), known, reply);
    }
    let told = known.told();
    let mut built = Builder::default();
    for (name, value) in &members {
        match name.as_str() {
            plain if PLAIN.contains(&plain) => built.raw(name, value.clone()),
            told if OF_TABLES.contains(&told) && !known.protected => built.raw(name, value.clone()),
            "schema" => built.value(name, &resource::schema(&read(value), &[])),
            "errors" => {
                let errors = scrub::entries(&read(value), told);
                if outside(&errors) {
                    return Err(Denial::new(DenialCode::WriteOutsideTenant).into());
                }
                built.value(name, &errors);
            }
            "pageToken" => {
                if let (Value::String(token), Some(job)) = (read(value), &job) {
                    let sealed = asked.owner().seal(Use::Page, job, &token);
                    built.value(name, &sealed.into());
                }
            }
            "sessionInfo" => {
                if let Some(session) = resource::session(asked.owner(), &read(value)) {
                    built.value(name, &session);
                }
            }
            _ => {}
        }
    }
    if let (Some(job), Some(reference)) = (&job, &reference) {
        let location = reference.get("location").cloned().unwrap_or_default();
        let mut shown = json!({"projectId": asked.project, "jobId": asked.owner().shown_job(job)});
        if let (Value::Object(fields), Value::String(location)) = (&mut shown, location) {
            fields.insert("location".to_owned(), location.into());
        }
        built.value("jobReference", &shown);
    }
    Ok(built.finish())
}

/// Whether an error says that a row would not have been the tenant's.
fn outside(errors: &Value) -> bool {
    let reason = |error: &Value| error.get("reason").is_some_and(|reason| reason == "accessDenied");
    let ours = |error: &Value| {
        let message = error.get("message").and_then(Value::as_str).unwrap_or_default();
        message.starts_with("hedgerow: ")
    };
    errors.as_array().is_some_and(|list| list.iter().any(|error| reason(error) && ours(error)))
}

/// An object of members, some of them as they came.
#[derive(Default)]
pub(super) struct Builder(Vec<Bytes>);

impl Builder {
    pub(super) fn raw(&mut self, name: &str, value: Bytes) {
        let comma = if self.0.is_empty() { "{" } else { "," };
        // Names are the API's own or JSON texts: written as JSON either way.
        self.0.push(Bytes::from(format!("{comma}{}:", Value::from(name))));
        self.0.push(value);
    }

    pub(super) fn value(&mut self, name: &str, value: &Value) {
        self.raw(name, Bytes::from(value.to_string()));
    }

    pub(super) fn finish(mut self) -> Answer {
        self.0.push(Bytes::from_static(if self.0.is_empty() { b"{}" } else { b"}" }));
        Answer::bytes(200, self.0)
    }
}
