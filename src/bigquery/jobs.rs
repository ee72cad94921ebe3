//! Jobs: insert, get, list, cancel, delete. Layer 5.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::answer::Answer;
use super::dispatch::{Asked, KnownJob, uncounted};
use super::exchange::Exchange;
use super::fault::{Fault, ServiceError};
use super::form::{Fields, is_name};
use super::job_form::{self, OWNER_LABEL};
use super::judge::Verdict;
use super::keyring::{Use, is_job_id};
use super::recorder::Facts;
use super::results::{known, of_job, own_job};
use super::upstream::{Call, Reply, Verb};
use super::{budget, dry_run, resource, scrub};
use crate::audit::RelationRule;
use crate::error::{Denial, DenialCode};
use crate::policy::Protection;
use crate::sql::bigquery::TableName;
use crate::sql::bigquery::names::Binding;

/// Most jobs on one page of a list.
const MAX_PAGE: u64 = 1_000;
/// Jobs on a page where the client does not say.
const USUAL_PAGE: u64 = 50;
/// Most pages of the service's list that are looked through for one page of the tenant's.
const MAX_PAGES: usize = 20;
/// What a client repeats of a job that it once read; the service makes it.
const MADE_BY_SERVICE: &[&str] =
    &["kind", "etag", "id", "selfLink", "user_email", "principal_subject", "status", "statistics"];

/// A job that was read and may be sent.
struct Form {
    known: KnownJob,
    facts: Facts,
    /// The decision, if it runs a text.
    verdict: Option<Arc<Verdict>>,
    configuration: Map<String, Value>,
    /// Statements that it runs.
    statements: usize,
}

/// jobs.insert
pub(super) async fn insert(asked: &Asked<'_>, exchange: &mut Exchange) -> Result<Answer, Fault> {
    let mut fields = Fields::new("body", exchange.json().await?);
    let (shown, location) = new_reference(asked, &mut fields)?;
    let configuration = fields
        .object("configuration", "configuration")?
        .ok_or_else(|| Fault::Invalid("Required parameter is missing".to_owned()))?;
    fields.end()?;
    let mut form = read(asked, configuration)?;
    let dry = form.configuration.get("dryRun").and_then(Value::as_bool) == Some(true);
    asked.admit(form.statements)?;
    let reserved = match form.configuration.get_mut("query") {
        Some(Value::Object(query)) if !dry => {
            let known = scrub::Known { text: &form.known.text, protected: form.known.protected };
            if let Some(verdict) = &form.verdict {
                dry_run::compare(asked, verdict, query, location.as_deref(), known).await?;
            }
            budget::before(asked, query, location.as_deref(), known).await?
        }
        Some(_) | None => None,
    };
    let upstream = job_form::new_job(asked, shown)?;
    let mut reference = json!({"projectId": asked.project, "jobId": upstream});
    if let (Value::Object(fields), Some(location)) = (&mut reference, location) {
        fields.insert("location".to_owned(), location.into());
    }
    let mut body = Map::new();
    body.insert("jobReference".to_owned(), reference);
    body.insert("configuration".to_owned(), Value::Object(form.configuration));
    let call = Call::new(Verb::Post, ["projects", &asked.project, "jobs"]).body(body);
    let known = Arc::new(form.known);
    let outcome = asked.perform(&call, &form.facts, budget::counted).await;
    let runs = outcome.as_ref().is_ok_and(Reply::is_good);
    budget::after(asked, reserved, runs.then_some(upstream.as_str()));
    let reply = outcome?;
    asked.front.jobs.made(upstream.clone(), &known, &reply);
    answer(asked, &upstream, &reply, &known)
}

/// What a client calls the job that it makes, and where it is to run.
///
/// # Errors
/// HR5002 for another project.
pub(super) fn new_reference(
    asked: &Asked<'_>,
    fields: &mut Fields,
) -> Result<(Option<String>, Option<String>), Fault> {
    fields.ignore(MADE_BY_SERVICE);
    let Some(mut reference) = fields.object("jobReference", "jobReference")? else {
        return Ok((None, None));
    };
    if reference.text("projectId")?.is_some_and(|project| project != asked.project) {
        return Err(Fault::form("jobReference.projectId"));
    }
    let shown = reference.text("jobId")?.filter(|id| !id.is_empty());
    let location = job_form::location(&mut reference)?;
    reference.end()?;
    Ok((shown, location))
}

/// The answer about a job that was made.
pub(super) fn answer(
    asked: &Asked<'_>,
    upstream: &str,
    reply: &Reply,
    known: &KnownJob,
) -> Result<Answer, Fault> {
    let shown = asked.owner().shown_job(upstream);
    if reply.status == 409 {
        return Err(Fault::Upstream(ServiceError {
            status: 409,
            reason: "duplicate".to_owned(),
            message: format!("Already Exists: Job {}:{shown}", asked.project),
        }));
    }
    if !reply.is_good() {
        // A 404 here is about what the job would use, not about the job.
        return Err(scrub::fault(reply, known.told()));
    }
    let job = Value::Object(reply.object()?);
    budget::count(asked, &job, upstream);
    Ok(Answer::json(200, &resource::job(asked, &job, upstream, known)))
}

/// Reads a job's configuration: one kind of job, and what all kinds have.
fn read(asked: &Asked<'_>, mut fields: Fields) -> Result<Form, Fault> {
    fields.ignore(&["jobType"]);
    let dry = fields.flag("dryRun")?;
    let longest = fields.count("jobTimeoutMs")?;
    let labels = job_form::labels(asked, fields.texts("labels")?)?;
    let denied = |kind: &str| Fault::from(Denial::of(DenialCode::JobKind, kind));
    let (query, copy) = (fields.take("query"), fields.take("copy"));
    for kind in ["load", "extract"] {
        // SECURITY: files of the bucket would be read and written with Hedgerow's own rights.
        if fields.take(kind).is_some() {
            return Err(denied(kind));
        }
    }
    let mut form = match (query, copy) {
        (Some(query), None) => read_query(asked, query)?,
        (None, Some(copy)) => read_copy(asked, copy)?,
        (Some(_), Some(_)) => return Err(denied("several kinds in one")),
        (None, None) => return Err(denied("none")),
    };
    fields.end()?;
    let mut put = |name: &str, value: Value| form.configuration.insert(name.to_owned(), value);
    if let Some(dry) = dry {
        put("dryRun", dry.into());
    }
    if let Some(longest) = longest {
        put("jobTimeoutMs", longest.to_string().into());
    }
    put("labels", labels);
    Ok(form)
}

fn read_query(asked: &Asked<'_>, query: Value) -> Result<Form, Fault> {
    let mut fields = Fields::of("configuration.query", query)?;
    let form = job_form::query(asked, &mut fields)?;
    let mut sent = form.sent;
    if let Some(priority) = fields.word("priority", &["INTERACTIVE", "BATCH"])? {
        sent.insert("priority".to_owned(), priority.into());
    }
    script_options(&mut fields, &mut sent)?;
    destination(asked, &mut fields, &mut sent)?;
    fields.end()?;
    let verdict = &form.verdict;
    let protected = verdict.decided.protected || verdict.decided.secure_context;
    if protected && let Some(Value::Object(options)) = sent.get_mut("scriptOptions") {
        // As exact as it is, it would tell how large the tables are.
        options.remove("statementByteBudget");
    }
    let mut configuration = Map::new();
    configuration.insert("query".to_owned(), Value::Object(sent));
    Ok(Form {
        known: KnownJob { text: form.text, protected },
        facts: verdict.facts.clone(),
        verdict: Some(Arc::clone(verdict)),
        configuration,
        statements: verdict.decided.kinds.len(),
    })
}

fn script_options(fields: &mut Fields, sent: &mut Map<String, Value>) -> Result<(), Fault> {
    let Some(mut options) = fields.object("scriptOptions", "scriptOptions")? else { return Ok(()) };
    let mut built = Map::new();
    for name in ["statementTimeoutMs", "statementByteBudget"] {
        if let Some(count) = options.count(name)? {
            built.insert(name.to_owned(), count.to_string().into());
        }
    }
    let results = ["KEY_RESULT_STATEMENT_KIND_UNSPECIFIED", "LAST", "FIRST_SELECT"];
    if let Some(word) = options.word("keyResultStatement", &results)? {
        built.insert("keyResultStatement".to_owned(), word.into());
    }
    options.end()?;
    sent.insert("scriptOptions".to_owned(), Value::Object(built));
    Ok(())
}

/// Where results go: nowhere, or into a dataset of the tenant's own; then how.
fn destination(
    asked: &Asked<'_>,
    fields: &mut Fields,
    sent: &mut Map<String, Value>,
) -> Result<(), Fault> {
    let created = fields.word("createDisposition", CREATE)?;
    let written = fields.word("writeDisposition", WRITE)?;
    let Some(table) = fields.take("destinationTable") else { return Ok(()) };
    let table = own_table(asked, table)?;
    sent.insert("destinationTable".to_owned(), reference(&table));
    for (name, word) in [("createDisposition", created), ("writeDisposition", written)] {
        if let Some(word) = word {
            sent.insert(name.to_owned(), word.into());
        }
    }
    layout(fields, sent)
}

pub(super) const CREATE: &[&str] = &["CREATE_IF_NEEDED", "CREATE_NEVER"];
pub(super) const WRITE: &[&str] =
    &["WRITE_TRUNCATE", "WRITE_APPEND", "WRITE_EMPTY", "WRITE_TRUNCATE_DATA"];

/// Partitions and clusters of a table of the tenant's own.
pub(super) fn layout(fields: &mut Fields, sent: &mut Map<String, Value>) -> Result<(), Fault> {
    if let Some(mut partitions) = fields.object("timePartitioning", "timePartitioning")? {
        let mut built = Map::new();
        if let Some(word) = partitions.word("type", &["DAY", "HOUR", "MONTH", "YEAR"])? {
            built.insert("type".to_owned(), word.into());
        }
        if let Some(column) = partitions.text("field")? {
            built.insert("field".to_owned(), column_name(column)?.into());
        }
        if let Some(milliseconds) = partitions.count("expirationMs")? {
            built.insert("expirationMs".to_owned(), milliseconds.to_string().into());
        }
        if let Some(required) = partitions.flag("requirePartitionFilter")? {
            built.insert("requirePartitionFilter".to_owned(), required.into());
        }
        partitions.end()?;
        sent.insert("timePartitioning".to_owned(), Value::Object(built));
    }
    if let Some(mut clusters) = fields.object("clustering", "clustering")? {
        let columns = clusters.list("fields")?.unwrap_or_default();
        clusters.end()?;
        let columns = columns
            .into_iter()
            .map(|column| match column {
                Value::String(column) => column_name(column).map(Value::from),
                Value::Null
                | Value::Bool(_)
                | Value::Number(_)
                | Value::Array(_)
                | Value::Object(_) => Err(Fault::form("clustering.fields")),
            })
            .collect::<Result<Vec<_>, _>>()?;
        sent.insert("clustering".to_owned(), json!({"fields": columns}));
    }
    if let Some(options) = fields.list("schemaUpdateOptions")? {
        let known =
            |option: &Value| option == "ALLOW_FIELD_ADDITION" || option == "ALLOW_FIELD_RELAXATION";
        if !options.iter().all(known) {
            return Err(Fault::form("schemaUpdateOptions"));
        }
        sent.insert("schemaUpdateOptions".to_owned(), Value::Array(options));
    }
    Ok(())
}

fn column_name(name: String) -> Result<String, Fault> {
    if is_name(&name) { Ok(name) } else { Err(Fault::form("a column's name")) }
}

/// A copy of the tenant's own and of shared tables into a dataset of the tenant's own.
fn read_copy(asked: &Asked<'_>, copy: Value) -> Result<Form, Fault> {
    let mut fields = Fields::of("configuration.copy", copy)?;
    let mut sources = fields.list("sourceTables")?.unwrap_or_default();
    sources.extend(fields.take("sourceTable"));
    let mut relations = Vec::new();
    let mut sent_sources = Vec::new();
    for source in sources {
        let (name, rule) = readable(asked, source)?;
        sent_sources.push(reference(&name));
        relations.push(RelationRule { relation: name.to_string().into(), rule: rule.into() });
    }
    if sent_sources.is_empty() {
        return Err(Fault::Invalid("Required parameter is missing".to_owned()));
    }
    let table = fields.take("destinationTable").ok_or_else(|| Fault::form("destinationTable"))?;
    let table = own_table(asked, table)?;
    let mut sent = Map::new();
    sent.insert("sourceTables".to_owned(), Value::Array(sent_sources));
    sent.insert("destinationTable".to_owned(), reference(&table));
    for (name, words) in [("createDisposition", CREATE), ("writeDisposition", WRITE)] {
        if let Some(word) = fields.word(name, words)? {
            sent.insert(name.to_owned(), word.into());
        }
    }
    // Snapshots and clones stay bound to their source; a copy does not.
    if let Some(word) = fields.word("operationType", &["OPERATION_TYPE_UNSPECIFIED", "COPY"])? {
        sent.insert("operationType".to_owned(), word.into());
    }
    fields.end()?;
    let mut configuration = Map::new();
    configuration.insert("copy".to_owned(), Value::Object(sent));
    Ok(Form {
        known: KnownJob { text: Arc::default(), protected: false },
        facts: Facts { kind: "copy", relations: relations.into(), ..Facts::default() },
        verdict: None,
        configuration,
        statements: 1,
    })
}

fn reference(name: &TableName) -> Value {
    json!({"projectId": name.project, "datasetId": name.dataset, "tableId": name.table})
}

/// A table that a request names.
///
/// # Errors
/// HR5002 for what is no name; HR5003 for another project.
pub(super) fn named_table(asked: &Asked<'_>, value: Value) -> Result<TableName, Fault> {
    let mut fields = Fields::of("tableReference", value)?;
    let project = fields.text("projectId")?.unwrap_or_else(|| asked.project.clone());
    let dataset = fields.text("datasetId")?.unwrap_or_default();
    let table = fields.text("tableId")?.unwrap_or_default();
    fields.end()?;
    // SECURITY: no decorators (`table$partition`, `table@time`), no wildcards.
    if !is_name(&dataset) || !is_name(&table) {
        return Err(Fault::form("tableReference"));
    }
    if !asked.front.serves(&project, &asked.policy) {
        return Err(Denial::of(DenialCode::ApiProject, project).into());
    }
    Ok(TableName { project, dataset, table })
}

/// A table in a dataset of the tenant's own.
///
/// # Errors
/// HR5005 for any other.
pub(super) fn own_table(asked: &Asked<'_>, value: Value) -> Result<TableName, Fault> {
    let name = named_table(asked, value)?;
    let place = asked.place();
    if asked.env(&place).own(&name.project, &name.dataset) == Some(true) {
        Ok(name)
    } else {
        Err(Denial::of(DenialCode::Destination, name.to_string()).into())
    }
}

/// A table that may be read whole, and the rule that says so: the tenant's own, or shared.
fn readable(asked: &Asked<'_>, value: Value) -> Result<(TableName, String), Fault> {
    let name = named_table(asked, value)?;
    let place = asked.place();
    match asked.env(&place).bind(&name)? {
        Binding::Own => Ok((name, "dataset_per_tenant".to_owned())),
        Binding::Shared(rule)
            if matches!(rule.protection, Protection::Shared)
                && rule.columns.is_empty()
                && rule.condition.is_none() =>
        {
            Ok((name, rule.rule.to_string()))
        }
        Binding::Shared(_) | Binding::Tenants(_) | Binding::SecureContext(_) => {
            Err(Denial::of(DenialCode::RelationDenied, name.to_string()).into())
        }
    }
}

/// jobs.get
pub(super) async fn show(asked: &Asked<'_>) -> Result<Answer, Fault> {
    let (upstream, shown) = job(asked)?;
    let call = Call::new(Verb::Get, ["projects", &asked.project, "jobs", &upstream])
        .maybe("location", asked.word("location")?);
    let reply = asked.perform(&call, &asked.facts(), budget::counted).await?;
    let known = known(asked, &upstream);
    if !reply.is_good() {
        return Err(of_job(asked, shown, &reply, &known));
    }
    let job = Value::Object(reply.object()?);
    budget::count(asked, &job, &upstream);
    Ok(Answer::json(200, &resource::job(asked, &job, &upstream, &known)))
}

fn job<'a>(asked: &'a Asked<'_>) -> Result<(String, &'a str), Fault> {
    let shown = asked.names.first().map(String::as_str).unwrap_or_default();
    Ok((own_job(asked, shown)?, shown))
}

/// jobs.cancel
pub(super) async fn cancel(asked: &Asked<'_>) -> Result<Answer, Fault> {
    let (upstream, shown) = job(asked)?;
    let call = Call::new(Verb::Post, ["projects", &asked.project, "jobs", &upstream, "cancel"])
        .maybe("location", asked.word("location")?);
    let reply = asked.perform(&call, &asked.facts(), uncounted).await?;
    let known = known(asked, &upstream);
    if !reply.is_good() {
        return Err(of_job(asked, shown, &reply, &known));
    }
    let told = reply.object()?;
    let job = told.get("job").cloned().unwrap_or_default();
    let job = resource::job(asked, &job, &upstream, &known);
    Ok(Answer::json(200, &json!({"kind": "bigquery#jobCancelResponse", "job": job})))
}

/// jobs.delete
pub(super) async fn delete(asked: &Asked<'_>) -> Result<Answer, Fault> {
    let (upstream, shown) = job(asked)?;
    let call = Call::new(Verb::Delete, ["projects", &asked.project, "jobs", &upstream, "delete"])
        .maybe("location", asked.word("location")?);
    let reply = asked.perform(&call, &asked.facts(), uncounted).await?;
    if !reply.is_good() {
        return Err(of_job(asked, shown, &reply, &known(asked, &upstream)));
    }
    Ok(Answer::empty())
}

/// jobs.list: the tenant's own, by the tag in the id or in the label.
pub(super) async fn list(asked: &Asked<'_>) -> Result<Answer, Fault> {
    match asked.parameter("allUsers") {
        None | Some("false" | "False" | "0") => {}
        Some(_) => return Err(Fault::form("query parameter allUsers")),
    }
    for name in ["minCreationTime", "maxCreationTime"] {
        asked.count(name)?;
    }
    let state = match asked.parameter("stateFilter") {
        Some(word @ ("done" | "pending" | "running")) => Some(word),
        Some(_) => return Err(Fault::form("query parameter stateFilter")),
        None => None,
    };
    let parent = asked.parameter("parentJobId").map(|shown| own_job(asked, shown)).transpose()?;
    let most = asked.count("maxResults")?.unwrap_or(USUAL_PAGE).clamp(1, MAX_PAGE);
    let context = format!("jobs {}", parent.as_deref().unwrap_or_default());
    let mut token = match asked.parameter("pageToken") {
        Some(token) => Some(
            asked.owner().open(Use::Page, &context, token).ok_or_else(|| Fault::foreign("Page"))?,
        ),
        None => None,
    };
    let mut jobs = Vec::new();
    for _page in 0..MAX_PAGES {
        let call = Call::new(Verb::Get, ["projects", &asked.project, "jobs"])
            .parameter("projection", "full")
            .parameter("maxResults", most.to_string())
            .maybe("minCreationTime", asked.parameter("minCreationTime"))
            .maybe("maxCreationTime", asked.parameter("maxCreationTime"))
            .maybe("stateFilter", state)
            .maybe("parentJobId", parent.as_deref())
            .maybe("pageToken", token.take());
        let reply = asked.perform(&call, &asked.facts(), uncounted).await?;
        if !reply.is_good() {
            return Err(scrub::fault(&reply, scrub::Known::NOTHING));
        }
        let page = reply.object()?;
        let listed = page.get("jobs").and_then(Value::as_array).map(Vec::as_slice);
        for job in listed.unwrap_or_default() {
            let id = job.get("jobReference").and_then(|of| of.get("jobId")).and_then(Value::as_str);
            if let Some(id) =
                id.filter(|id| is_job_id(id) && (parent.is_some() || owns(asked, job, id)))
            {
                jobs.push(resource::job(asked, job, id, &known(asked, id)));
            }
        }
        token = page.get("nextPageToken").and_then(Value::as_str).map(str::to_owned);
        if token.is_none() || !jobs.is_empty() {
            break;
        }
    }
    let mut body = json!({"kind": "bigquery#jobList", "jobs": jobs});
    if let (Some(token), Value::Object(fields)) = (token, &mut body) {
        let sealed = asked.owner().seal(Use::Page, &context, &token);
        fields.insert("nextPageToken".to_owned(), sealed.into());
    }
    Ok(Answer::json(200, &body))
}

/// Whether a job of the list is the tenant's: by its id, or by the label that only Hedgerow writes.
fn owns(asked: &Asked<'_>, job: &Value, id: &str) -> bool {
    let owner = asked.owner();
    let label = job
        .get("configuration")
        .and_then(|configuration| configuration.get("labels")?.get(OWNER_LABEL)?.as_str());
    owner.named(id).is_some() || (!id.starts_with("hr_") && label == Some(owner.tag().as_str()))
}
