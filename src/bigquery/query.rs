//! jobs.query. Layer 5.

use std::sync::Arc;
use std::time::Duration;

use serde_json::Value;

use super::answer::Answer;
use super::dispatch::{Asked, KnownJob};
use super::exchange::Exchange;
use super::fault::Fault;
use super::form::Fields;
use super::job_form::{format_options, labels, location, query};
use super::keyring::Use;
use super::upstream::{Call, Verb};
use super::{budget, dry_run, results, scrub};

/// Longest that the service is asked to wait for a result, in milliseconds.
pub(super) const MAX_WAIT: u64 = 200_000;
/// What the service waits when it is not told, in milliseconds.
const USUAL_WAIT: u64 = 10_000;

/// Decides and runs a query; the first page of its result.
pub(super) async fn run(asked: &Asked<'_>, exchange: &mut Exchange) -> Result<Answer, Fault> {
    let mut fields = Fields::new("body", exchange.json().await?);
    let form = query(asked, &mut fields)?;
    let mut sent = form.sent;
    let mut put = |name: &str, value: Value| sent.insert(name.to_owned(), value);
    if let Some(rows) = fields.count("maxResults")? {
        put("maxResults", rows.into());
    }
    let wait = fields.count("timeoutMs")?.map(|wait| wait.min(MAX_WAIT));
    if let Some(wait) = wait {
        put("timeoutMs", wait.into());
    }
    if let Some(longest) = fields.count("jobTimeoutMs")? {
        put("jobTimeoutMs", longest.to_string().into());
    }
    let dry = fields.flag("dryRun")?;
    if let Some(dry) = dry {
        put("dryRun", dry.into());
    }
    if let Some(place) = location(&mut fields)? {
        put("location", place.into());
    }
    if let Some(options) = format_options(&mut fields)? {
        put("formatOptions", options);
    }
    if let Some(id) = fields.text("requestId")? {
        // SECURITY: the service answers an equal id with the result of the first; ids of two tenants, or
        // of two texts, must not be equal.
        let id = format!("{id} {}", form.verdict.decided.guarded.text());
        put("requestId", asked.owner().veiled(Use::Request, &id).into());
    }
    put("labels", labels(asked, fields.texts("labels")?)?);
    // A job is made always, so that there is an id to bind and a cost to count.
    fields.word(
        "jobCreationMode",
        &["JOB_CREATION_MODE_UNSPECIFIED", "JOB_CREATION_REQUIRED", "JOB_CREATION_OPTIONAL"],
    )?;
    fields.end()?;

    let protected = form.verdict.decided.protected || form.verdict.decided.secure_context;
    let told = scrub::Known { text: &form.text, protected };
    asked.admit(form.verdict.decided.kinds.len())?;
    let reserved = match dry {
        Some(true) => None,
        Some(false) | None => {
            let place = sent.get("location").and_then(Value::as_str).map(str::to_owned);
            dry_run::compare(asked, &form.verdict, &sent, place.as_deref(), told).await?;
            budget::before(asked, &mut sent, place.as_deref(), told).await?
        }
    };
    let call = Call::new(Verb::Post, ["projects", &asked.project, "queries"])
        .body(sent)
        .waits(Duration::from_millis(wait.unwrap_or(USUAL_WAIT)));
    let outcome = asked.perform(&call, &form.verdict.facts, results::counted).await;
    let made = outcome.as_ref().ok().filter(|reply| reply.is_good()).and_then(budget::job_of);
    budget::after(asked, reserved, made.as_deref());
    let reply = outcome?;
    if let (Some(job), Some(false) | None) = (&made, dry) {
        budget::count_reply(asked, &reply, job);
    }
    let known = KnownJob { text: form.text, protected };
    if !reply.is_good() {
        return Err(scrub::fault(&reply, known.told()));
    }
    results::answer(asked, &reply, &Arc::new(known), None)
}
