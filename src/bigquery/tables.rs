//! Tables: what the policy shows, and the tenant's own to change. Layer 5.

use serde_json::{Map, Value, json};

use super::answer::Answer;
use super::datasets::{MAX_PAGE, Pages, visible};
use super::dispatch::{Asked, uncounted};
use super::exchange::Exchange;
use super::fault::Fault;
use super::form::{Fields, is_name};
use super::keyring::Use;
use super::resource::{anonymous_context, is_anonymous, keep, schema};
use super::upstream::{Call, Reply, Verb};
use super::{jobs, scrub};
use crate::error::{Denial, DenialCode};
use crate::policy::{ColumnRule, TablePolicy};
use crate::sql::bigquery::TableName;
use crate::sql::bigquery::names::Binding;

/// What is told of every table.
const SHOWN: &[&str] = &[
    "kind",
    "friendlyName",
    "description",
    "type",
    "location",
    "timePartitioning",
    "rangePartitioning",
    "clustering",
    "requirePartitionFilter",
    "defaultCollation",
];
/// What is told of the tenant's own beyond that.
const OWN: &[&str] = &[
    "etag",
    "labels",
    "numBytes",
    "numLongTermBytes",
    "numRows",
    "creationTime",
    "expirationTime",
    "lastModifiedTime",
    "numTotalLogicalBytes",
    "numActiveLogicalBytes",
    "view",
    "streamingBuffer",
];
/// What a client repeats of a table that it once read; the service makes it.
const MADE_BY_SERVICE: &[&str] = &[
    "kind",
    "etag",
    "id",
    "selfLink",
    "numBytes",
    "numPhysicalBytes",
    "numLongTermBytes",
    "numRows",
    "creationTime",
    "lastModifiedTime",
    "type",
    "location",
    "streamingBuffer",
    "numTotalLogicalBytes",
    "numActiveLogicalBytes",
    "defaultCollation",
];
/// Deepest nesting of records.
const MAX_DEPTH: u32 = 15;

/// The table that the path names.
fn table(asked: &Asked<'_>) -> Result<TableName, Fault> {
    Ok(TableName {
        project: asked.project.clone(),
        dataset: asked.name(0)?.to_owned(),
        table: asked.name(1)?.to_owned(),
    })
}

fn path(name: &TableName) -> [&str; 6] {
    ["projects", &name.project, "datasets", &name.dataset, "tables", &name.table]
}

fn not_found(name: &TableName) -> Fault {
    Fault::NotFound(format!("Table {}:{}.{}", name.project, name.dataset, name.table))
}

/// tables.get
pub(super) async fn show(asked: &Asked<'_>) -> Result<Answer, Fault> {
    let shown = table(asked)?;
    let mut name = shown.clone();
    let rule = if is_anonymous(&name.dataset) {
        // The result of a job of the tenant's, under the name that the job told.
        let context = anonymous_context(&name.dataset);
        let own = asked.owner().open(Use::Table, &context, &name.table);
        name.table = own.ok_or_else(|| {
            Fault::foreign(format!("Table {}:{}.{}", name.project, name.dataset, name.table))
        })?;
        None
    } else {
        let place = asked.place();
        match asked.env(&place).bind(&name)? {
            Binding::Own => None,
            Binding::Tenants(rule) | Binding::Shared(rule) | Binding::SecureContext(rule) => {
                Some(rule)
            }
        }
    };
    let call = Call::new(Verb::Get, path(&name))
        .parameter("view", if rule.is_some() { "BASIC" } else { "FULL" });
    let reply = asked.perform(&call, &asked.facts(), uncounted).await?;
    answer(&shown, &reply, rule.as_deref())
}

/// The answer about one table.
fn answer(shown: &TableName, reply: &Reply, rule: Option<&TablePolicy>) -> Result<Answer, Fault> {
    if reply.status == 404 {
        return Err(not_found(shown));
    }
    if !reply.is_good() {
        let text = shown.to_string();
        let known = scrub::Known { text: &text, protected: rule.is_some() };
        return Err(scrub::fault(reply, known));
    }
    Ok(Answer::json(200, &resource(&Value::Object(reply.object()?), shown, rule)))
}

/// What is told of a table; `rule`: of one that tenants share.
fn resource(table: &Value, shown: &TableName, rule: Option<&TablePolicy>) -> Value {
    let mut built = Map::new();
    keep(table, SHOWN, &mut built);
    if rule.is_none() {
        keep(table, OWN, &mut built);
    }
    let id = format!("{}:{}.{}", shown.project, shown.dataset, shown.table);
    built.insert("id".to_owned(), id.into());
    built.insert("tableReference".to_owned(), reference(shown));
    if let Some(of) = table.get("schema") {
        let denied: Vec<&str> = rule
            .iter()
            .flat_map(|rule| &rule.columns)
            .filter(|(_, rule)| matches!(rule, ColumnRule::Deny))
            .map(|(name, _)| name.as_str())
            .collect();
        built.insert("schema".to_owned(), schema(of, &denied));
    }
    Value::Object(built)
}

fn reference(name: &TableName) -> Value {
    json!({"projectId": name.project, "datasetId": name.dataset, "tableId": name.table})
}

/// tables.list
pub(super) async fn list(asked: &Asked<'_>) -> Result<Answer, Fault> {
    let dataset = asked.name(0)?;
    visible(asked, dataset)?;
    let most = asked.count("maxResults")?.unwrap_or(MAX_PAGE).clamp(1, MAX_PAGE);
    let mut pages = Pages::open(asked, &format!("tables of {dataset}"))?;
    let mut tables = Vec::new();
    let place = asked.place();
    while pages.more && tables.is_empty() {
        let call =
            Call::new(Verb::Get, ["projects", &asked.project, "datasets", dataset, "tables"])
                .parameter("maxResults", most.to_string());
        let page = pages.next(asked, call).await?;
        for table in page.get("tables").and_then(Value::as_array).into_iter().flatten() {
            let id = table.get("tableReference").and_then(|of| of.get("tableId")?.as_str());
            let Some(id) = id.filter(|id| is_name(id)) else { continue };
            let name = TableName {
                project: asked.project.clone(),
                dataset: dataset.to_owned(),
                table: id.to_owned(),
            };
            if let Ok(binding) = asked.env(&place).bind(&name) {
                tables.push(entry(table, &name, matches!(binding, Binding::Own)));
            }
        }
    }
    Ok(pages.answer(asked, "bigquery#tableList", "tables", tables))
}

fn entry(table: &Value, name: &TableName, own: bool) -> Value {
    let mut built = Map::new();
    let names =
        ["kind", "friendlyName", "type", "timePartitioning", "rangePartitioning", "clustering"];
    keep(table, &names, &mut built);
    if own {
        keep(table, &["labels", "creationTime", "expirationTime"], &mut built);
    }
    built.insert(
        "id".to_owned(),
        format!("{}:{}.{}", name.project, name.dataset, name.table).into(),
    );
    built.insert("tableReference".to_owned(), reference(name));
    if table.get("view").is_some() {
        built.insert("view".to_owned(), json!({"useLegacySql": false}));
    }
    Value::Object(built)
}

/// The path's table, which must be in a dataset of the tenant's own.
fn own(asked: &Asked<'_>) -> Result<TableName, Fault> {
    let name = table(asked)?;
    jobs::own_table(asked, reference(&name))
}

/// tables.insert
pub(super) async fn insert(asked: &Asked<'_>, exchange: &mut Exchange) -> Result<Answer, Fault> {
    let dataset = asked.name(0)?.to_owned();
    let mut fields = Fields::new("body", exchange.json().await?);
    let named = fields.take("tableReference").ok_or_else(|| Fault::form("tableReference"))?;
    let name = jobs::own_table(asked, named)?;
    if name.dataset != dataset || name.project != asked.project {
        return Err(Fault::form("tableReference"));
    }
    let mut body = change_of(&mut fields)?;
    fields.end()?;
    body.insert("tableReference".to_owned(), reference(&name));
    let call =
        Call::new(Verb::Post, ["projects", &name.project, "datasets", &name.dataset, "tables"]);
    let reply = asked.perform(&call.body(body), &asked.facts(), uncounted).await?;
    answer(&name, &reply, None)
}

/// tables.patch and tables.update
pub(super) async fn change(asked: &Asked<'_>, exchange: &mut Exchange) -> Result<Answer, Fault> {
    let name = own(asked)?;
    if asked.parameter("autodetect_schema").is_some_and(|flag| !flag.eq_ignore_ascii_case("false"))
    {
        return Err(Fault::form("query parameter autodetect_schema"));
    }
    let etag = match exchange.header("if-match")? {
        Some(etag) if etag.len() <= 256 && etag.bytes().all(|b| b.is_ascii_graphic()) => {
            Some(etag.to_owned())
        }
        Some(_) => return Err(Fault::form("header if-match")),
        None => None,
    };
    let mut fields = Fields::new("body", exchange.json().await?);
    if let Some(named) = fields.take("tableReference")
        && jobs::named_table(asked, named)? != name
    {
        return Err(Fault::form("tableReference"));
    }
    let mut body = change_of(&mut fields)?;
    fields.end()?;
    let verb = if asked.method.verb == "PUT" { Verb::Put } else { Verb::Patch };
    if verb == Verb::Put {
        body.insert("tableReference".to_owned(), reference(&name));
    }
    let call = Call::new(verb, path(&name)).body(body).if_match(etag);
    let reply = asked.perform(&call, &asked.facts(), uncounted).await?;
    answer(&name, &reply, None)
}

/// tables.delete
pub(super) async fn delete(asked: &Asked<'_>) -> Result<Answer, Fault> {
    let name = own(asked)?;
    let reply =
        asked.perform(&Call::new(Verb::Delete, path(&name)), &asked.facts(), uncounted).await?;
    match reply.status {
        404 => Err(not_found(&name)),
        _ if reply.is_good() => Ok(Answer::empty()),
        _ => Err(scrub::fault(&reply, scrub::Known { text: &name.table, protected: false })),
    }
}

/// What may be said of a plain table. Views, external tables, clones and snapshots read other tables
/// under Hedgerow's own rights: HR5002.
fn change_of(fields: &mut Fields) -> Result<Map<String, Value>, Fault> {
    fields.ignore(MADE_BY_SERVICE);
    let mut body = Map::new();
    for name in ["description", "friendlyName"] {
        if let Some(text) = fields.text(name)? {
            body.insert(name.to_owned(), text.into());
        }
    }
    let labels = fields.texts("labels")?;
    if !labels.is_empty() {
        body.insert("labels".to_owned(), Value::Object(labels));
    }
    if let Some(milliseconds) = fields.count("expirationTime")? {
        body.insert("expirationTime".to_owned(), milliseconds.to_string().into());
    }
    if let Some(required) = fields.flag("requirePartitionFilter")? {
        body.insert("requirePartitionFilter".to_owned(), required.into());
    }
    if let Some(of) = fields.take("schema") {
        body.insert("schema".to_owned(), new_schema(of)?);
    }
    jobs::layout(fields, &mut body)?;
    Ok(body)
}

/// A schema that a client writes.
///
/// # Errors
/// HR5002
pub(super) fn new_schema(schema: Value) -> Result<Value, Fault> {
    let mut fields = Fields::of("schema", schema)?;
    let columns = fields.list("fields")?.unwrap_or_default();
    fields.end()?;
    Ok(json!({"fields": new_columns(columns, 0)?}))
}

fn new_columns(columns: Vec<Value>, depth: u32) -> Result<Value, Fault> {
    if depth > MAX_DEPTH {
        return Err(Fault::form("schema.fields"));
    }
    let column = |column: Value| -> Result<Value, Fault> {
        let mut fields = Fields::of("schema.fields", column)?;
        let mut built = Map::new();
        let name = fields.text("name")?.unwrap_or_default();
        let of = fields.text("type")?.unwrap_or_default();
        if !is_name(&name) || !is_name(&of) {
            return Err(Fault::form("schema.fields"));
        }
        built.insert("name".to_owned(), name.into());
        built.insert("type".to_owned(), of.into());
        if let Some(mode) = fields.word("mode", &["NULLABLE", "REQUIRED", "REPEATED"])? {
            built.insert("mode".to_owned(), mode.into());
        }
        if let Some(text) = fields.text("description")? {
            built.insert("description".to_owned(), text.into());
        }
        for name in ["maxLength", "precision", "scale"] {
            if let Some(count) = fields.count(name)? {
                built.insert(name.to_owned(), count.to_string().into());
            }
        }
        if let Some(inner) = fields.list("fields")?.filter(|inner| !inner.is_empty()) {
            built.insert("fields".to_owned(), new_columns(inner, depth + 1)?);
        }
        // Policy tags are the operator's; an empty list says nothing.
        if let Some(mut tags) = fields.object("policyTags", "policyTags")? {
            if tags.list("names")?.is_some_and(|names| !names.is_empty()) {
                return Err(Denial::of(DenialCode::ApiForm, "policyTags").into());
            }
            tags.end()?;
        }
        fields.end()?;
        Ok(Value::Object(built))
    };
    columns.into_iter().map(column).collect::<Result<Vec<_>, _>>().map(Value::Array)
}
