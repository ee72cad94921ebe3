//! tabledata.list: rows without SQL. Layer 5.
//!
//! Of the tenant's own tables, of tables that every tenant reads and of results of the tenant's jobs,
//! rows pass as they are. A table that tenants share has no such rows for one tenant: a query reads it,
//! decided like any other, and its pages are answered in the shape that was asked for.

use std::sync::Arc;
use std::time::Duration;

use serde_json::{Map, Value, json};

use super::answer::Answer;
use super::dispatch::{Asked, KnownJob};
use super::fault::Fault;
use super::form::is_name;
use super::keyring::Use;
use super::query::MAX_WAIT;
use super::resource::{anonymous_context, is_anonymous};
use super::results::{self, Builder};
use super::upstream::{Call, Reply, Verb};
use super::{budget, dry_run, job_form, rows, scrub};
use crate::sql::bigquery::TableName;
use crate::sql::bigquery::names::Binding;

/// Most columns that are selected by name.
const MAX_COLUMNS: usize = 1_000;
const KIND: &str = "bigquery#tableDataList";

/// tabledata.list
pub(super) async fn list(asked: &Asked<'_>) -> Result<Answer, Fault> {
    let shown = TableName {
        project: asked.project.clone(),
        dataset: asked.name(0)?.to_owned(),
        table: asked.name(1)?.to_owned(),
    };
    let columns = columns(asked)?;
    if is_anonymous(&shown.dataset) {
        let context = anonymous_context(&shown.dataset);
        let own = asked.owner().open(Use::Table, &context, &shown.table);
        let table = own.ok_or_else(|| Fault::foreign(called(&shown)))?;
        return as_it_is(asked, &TableName { table, ..shown }, &columns).await;
    }
    let place = asked.place();
    match asked.env(&place).bind(&shown)? {
        Binding::Own => as_it_is(asked, &shown, &columns).await,
        Binding::Shared(rule) if rule.columns.is_empty() && rule.condition.is_none() => {
            as_it_is(asked, &shown, &columns).await
        }
        Binding::Shared(_) | Binding::Tenants(_) | Binding::SecureContext(_) => {
            queried(asked, &shown, &columns).await
        }
    }
}

fn called(name: &TableName) -> String {
    format!("Table {}:{}.{}", name.project, name.dataset, name.table)
}

/// `selectedFields`: columns by name; a field within a column is not selected alone.
fn columns(asked: &Asked<'_>) -> Result<Vec<String>, Fault> {
    let Some(text) = asked.parameter("selectedFields") else { return Ok(Vec::new()) };
    let columns: Vec<String> = text.split(',').map(|name| name.trim().to_owned()).collect();
    let well = columns.len() <= MAX_COLUMNS && columns.iter().all(|name| is_name(name));
    if well { Ok(columns) } else { Err(Fault::form("query parameter selectedFields")) }
}

/// What both ways have in common.
fn formats(asked: &Asked<'_>, call: Call) -> Result<Call, Fault> {
    let int64 = results::flag(asked, "formatOptions.useInt64Timestamp")?;
    let format = results::timestamp_format(asked)?;
    Ok(call
        .maybe("maxResults", asked.count("maxResults")?.map(|rows| rows.to_string()))
        .maybe("startIndex", asked.count("startIndex")?.map(|row| row.to_string()))
        .maybe("formatOptions.useInt64Timestamp", int64)
        .maybe("formatOptions.timestampOutputFormat", format))
}

async fn as_it_is(
    asked: &Asked<'_>,
    name: &TableName,
    columns: &[String],
) -> Result<Answer, Fault> {
    let context = format!("rows of {name}");
    let token = match asked.parameter("pageToken") {
        Some(token) => {
            let own = asked.owner().open(Use::Page, &context, token);
            Some(own.ok_or_else(|| Fault::foreign("Page"))?)
        }
        None => {
            asked.admit(1)?;
            None
        }
    };
    let call = Call::new(
        Verb::Get,
        ["projects", &name.project, "datasets", &name.dataset, "tables", &name.table, "data"],
    )
    .maybe("selectedFields", (!columns.is_empty()).then(|| columns.join(",")))
    .maybe("pageToken", token);
    let reply = asked.perform(&formats(asked, call)?, &asked.facts(), results::counted).await?;
    if reply.status == 404 {
        return Err(Fault::NotFound(called(name)));
    }
    if !reply.is_good() {
        let text = name.to_string();
        return Err(scrub::fault(&reply, scrub::Known { text: &text, protected: false }));
    }
    let mut built = Builder::default();
    built.value("kind", &KIND.into());
    let members = rows::members(&reply.body).ok_or(Fault::Unavailable)?;
    for (member, value) in members {
        match member.as_str() {
            "totalRows" | "rows" => built.raw(&member, value),
            "pageToken" => {
                if let Ok(Value::String(token)) = serde_json::from_slice(&value) {
                    let sealed = asked.owner().seal(Use::Page, &context, &token);
                    built.value("pageToken", &sealed.into());
                }
            }
            _ => {}
        }
    }
    Ok(built.finish())
}

/// Rows by a query. The job's id and place go into the page token.
async fn queried(asked: &Asked<'_>, name: &TableName, columns: &[String]) -> Result<Answer, Fault> {
    let context = format!("query of {name} {}", columns.join(","));
    if let Some(token) = asked.parameter("pageToken") {
        let own = asked.owner().open(Use::Page, &context, token);
        let own = own.ok_or_else(|| Fault::foreign("Page"))?;
        let mut parts = own.splitn(3, ' ').map(str::to_owned);
        let (Some(job), Some(location), Some(token)) = (parts.next(), parts.next(), parts.next())
        else {
            return Err(Fault::foreign("Page"));
        };
        let job = Job { id: job, location };
        let reply = page(asked, &job, Some(token)).await?;
        return answer(asked, &reply, &context, &job);
    }
    let list = match columns {
        [] => "*".to_owned(),
        names => names.iter().map(|name| format!("`{name}`")).collect::<Vec<_>>().join(", "),
    };
    let text = format!("SELECT {list} FROM {}", name.quoted());
    let place = asked.place();
    let principal = asked.identity.principal();
    let verdict = asked.front.judge.decide(&text, &asked.policy, principal, &place)?;
    let mut sent = Map::new();
    job_form::decided(asked, &verdict, &mut sent);
    sent.insert("labels".to_owned(), job_form::labels(asked, Map::new())?);
    // Rows come with the page that was asked for.
    sent.insert("maxResults".to_owned(), 0.into());
    sent.insert("timeoutMs".to_owned(), MAX_WAIT.into());
    let known = scrub::Known { text: &text, protected: true };
    if let Some(most) = asked.policy.maximum_bytes_billed {
        sent.insert("maximumBytesBilled".to_owned(), most.to_string().into());
    }
    asked.admit(1)?;
    dry_run::compare(asked, &verdict, &sent, None, known).await?;
    let reserved = budget::before(asked, &mut sent, None, known).await?;
    let call = Call::new(Verb::Post, ["projects", &asked.project, "queries"])
        .body(sent)
        .waits(Duration::from_millis(MAX_WAIT));
    let outcome = asked.perform(&call, &verdict.facts, results::counted).await;
    let made = outcome.as_ref().ok().filter(|reply| reply.is_good()).and_then(budget::job_of);
    budget::after(asked, reserved, made.as_deref());
    let reply = outcome?;
    if let Some(job) = &made {
        budget::count_reply(asked, &reply, job);
    }
    if !reply.is_good() {
        return Err(scrub::fault(&reply, known));
    }
    let told = reply.object()?;
    if let Some(errors) = told.get("errors").and_then(Value::as_array).filter(|e| !e.is_empty()) {
        let first = errors.first().cloned().unwrap_or_default();
        let entry = scrub::entry(&first, known);
        let message = entry.get("message").and_then(Value::as_str).unwrap_or_default();
        return Err(Fault::Invalid(message.to_owned()));
    }
    let reference = told.get("jobReference").cloned().unwrap_or_default();
    let part =
        |name: &str| reference.get(name).and_then(Value::as_str).unwrap_or_default().to_owned();
    let job = Job { id: part("jobId"), location: part("location") };
    if job.id.is_empty() {
        return Err(Fault::Unavailable);
    }
    let known = Arc::new(KnownJob { text: text.as_str().into(), protected: true });
    asked.front.jobs.made(job.id.clone(), &known, &reply);
    let reply = page(asked, &job, None).await?;
    answer(asked, &reply, &context, &job)
}

/// The job that reads a table.
struct Job {
    id: String,
    /// Empty where the service names none.
    location: String,
}

async fn page(asked: &Asked<'_>, job: &Job, token: Option<String>) -> Result<Reply, Fault> {
    let call = Call::new(Verb::Get, ["projects", &asked.project, "queries", &job.id])
        .maybe("location", (!job.location.is_empty()).then_some(job.location.as_str()))
        .maybe("pageToken", token)
        .parameter("timeoutMs", MAX_WAIT.to_string())
        .waits(Duration::from_millis(MAX_WAIT));
    let call = formats(asked, call)?;
    let reply = asked.perform(&call, &asked.facts(), results::counted).await?;
    let known = results::known(asked, &job.id);
    if !reply.is_good() {
        return Err(scrub::fault(&reply, scrub::Known { text: &known.text, protected: true }));
    }
    Ok(reply)
}

fn answer(asked: &Asked<'_>, reply: &Reply, context: &str, job: &Job) -> Result<Answer, Fault> {
    let mut built = Builder::default();
    built.value("kind", &KIND.into());
    let members = rows::members(&reply.body).ok_or(Fault::Unavailable)?;
    let mut complete = false;
    for (member, value) in members {
        match member.as_str() {
            "totalRows" | "rows" => built.raw(&member, value),
            "jobComplete" => complete = value.as_ref() == b"true",
            "pageToken" => {
                if let Ok(Value::String(token)) = serde_json::from_slice(&value) {
                    let whole = format!("{} {} {token}", job.id, job.location);
                    let sealed = asked.owner().seal(Use::Page, context, &whole);
                    built.value("pageToken", &json!(sealed));
                }
            }
            _ => {}
        }
    }
    // A page of a query that still runs would look like an empty table.
    if complete { Ok(built.finish()) } else { Err(Fault::Unavailable) }
}
