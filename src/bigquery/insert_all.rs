//! tabledata.insertAll: rows into a table, each one the tenant's. Layer 5.

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::answer::Answer;
use super::dispatch::{Asked, uncounted};
use super::exchange::Exchange;
use super::fault::Fault;
use super::form::Fields;
use super::incoming::{Mark, json_row};
use super::keyring::Use;
use super::recorder::Facts;
use super::upstream::{Call, Reply, Verb};
use super::{rows, scrub};
use crate::audit::RelationRule;
use crate::error::{Denial, DenialCode};
use crate::identity::strict_object;
use crate::sql::bigquery::TableName;
use crate::sql::bigquery::names::Binding;

/// Most rows of one request, as the service has it.
const MAX_ROWS: usize = 50_000;

/// tabledata.insertAll
pub(super) async fn run(asked: &Asked<'_>, exchange: &mut Exchange) -> Result<Answer, Fault> {
    let name = TableName {
        project: asked.project.clone(),
        dataset: asked.name(0)?.to_owned(),
        table: asked.name(1)?.to_owned(),
    };
    let (mark, rule) = written(asked, &name)?;
    super::form::json_type(exchange.header("content-type")?)?;
    let body = exchange.body().await?;
    // Read strictly, then cut: a row's numbers pass with all their digits.
    let object = strict_object(&body).map_err(|fault| Fault::form(format!("body: {fault}")))?;
    let options = options(object)?;
    let members = rows::members(&body).ok_or_else(|| Fault::form("body"))?;
    let list = members.iter().find(|(name, _)| name == "rows").map(|(_, value)| value);
    let list = list.and_then(rows::elements).ok_or_else(|| Fault::form("body.rows"))?;
    if list.len() > MAX_ROWS {
        return Err(Fault::form("body.rows"));
    }
    let mut sent = options;
    for (index, row) in list.iter().enumerate() {
        sent.extend_from_slice(if index > 0 { b"," } else { b"" });
        sent.extend_from_slice(&self::row(asked, row, mark.as_ref())?);
    }
    sent.extend_from_slice(b"]}");
    let call = Call::new(
        Verb::Post,
        ["projects", &name.project, "datasets", &name.dataset, "tables", &name.table, "insertAll"],
    )
    .bytes(Bytes::from(sent));
    let relation = RelationRule { relation: name.to_string().into(), rule };
    let facts = Facts { relations: [relation].into(), rewritten: mark.is_some(), ..asked.facts() };
    asked.admit(1)?;
    let reply = asked.perform(&call, &facts, uncounted).await?;
    answer(&name, &reply)
}

/// How rows of a table are marked, and the rule that says so. `None`: the table is the tenant's own.
///
/// # Errors
/// HR1013 for a table that is read only.
pub(super) fn written(
    asked: &Asked<'_>,
    name: &TableName,
) -> Result<(Option<Mark>, std::sync::Arc<str>), Fault> {
    let place = asked.place();
    let read_only = || Fault::from(Denial::of(DenialCode::ReadOnly, name.to_string()));
    match asked.env(&place).bind(name)? {
        Binding::Own => Ok((None, "dataset_per_tenant".into())),
        Binding::Tenants(rule) if rule.access.insert => {
            Ok((Some(Mark::of(&rule, &asked.tenant)?), std::sync::Arc::clone(&rule.rule)))
        }
        Binding::Tenants(_) | Binding::Shared(_) | Binding::SecureContext(_) => Err(read_only()),
    }
}

/// The beginning of the body: options, up to the rows.
fn options(object: Map<String, Value>) -> Result<Vec<u8>, Fault> {
    let mut fields = Fields::new("body", object);
    fields.ignore(&["kind", "rows", "traceId"]);
    let mut sent = Map::new();
    for name in ["skipInvalidRows", "ignoreUnknownValues"] {
        if let Some(flag) = fields.flag(name)? {
            sent.insert(name.to_owned(), flag.into());
        }
    }
    // SECURITY: templateSuffix would make tables; it is not on the list.
    fields.end()?;
    let mut text = Value::Object(sent).to_string();
    text.pop();
    text.push_str(if text.len() > 1 { ",\"rows\":[" } else { "\"rows\":[" });
    Ok(text.into_bytes())
}

/// One entry of `rows`, written anew.
fn row(asked: &Asked<'_>, row: &Bytes, mark: Option<&Mark>) -> Result<Vec<u8>, Fault> {
    let members = rows::members(row).ok_or_else(|| Fault::form("body.rows"))?;
    let mut built = Vec::with_capacity(row.len() + 64);
    let mut values = None;
    built.push(b'{');
    for (name, value) in &members {
        match (name.as_str(), serde_json::from_slice::<Value>(value)) {
            ("insertId", Ok(Value::String(id))) => {
                // SECURITY: the service drops a row whose id it has seen; two tenants' must differ.
                let id = asked.owner().veiled(Use::Request, &id);
                built.extend_from_slice(format!("\"insertId\":{},", Value::from(id)).as_bytes());
            }
            ("insertId", Ok(Value::Null)) => {}
            ("json", Ok(Value::Object(_))) => values = Some(value),
            _ => return Err(Fault::form("body.rows")),
        }
    }
    let values = values.ok_or_else(|| Fault::form("body.rows"))?;
    built.extend_from_slice(b"\"json\":");
    match mark {
        Some(mark) => built.extend_from_slice(&json_row(values, mark)?),
        None => built.extend_from_slice(values),
    }
    built.push(b'}');
    Ok(built)
}

fn answer(name: &TableName, reply: &Reply) -> Result<Answer, Fault> {
    if reply.status == 404 {
        let shown = format!("Table {}:{}.{}", name.project, name.dataset, name.table);
        return Err(Fault::NotFound(shown));
    }
    // What can be quoted is what the client sent; the schema is known to it.
    let known = scrub::Known { text: "", protected: false };
    if !reply.is_good() {
        return Err(scrub::fault(reply, known));
    }
    let told = reply.object()?;
    let mut body = json!({"kind": "bigquery#tableDataInsertAllResponse"});
    if let (Some(Value::Array(faults)), Value::Object(fields)) =
        (told.get("insertErrors"), &mut body)
    {
        let faults: Vec<Value> = faults.iter().map(insert_error).collect();
        fields.insert("insertErrors".to_owned(), faults.into());
    }
    Ok(Answer::json(200, &body))
}

fn insert_error(fault: &Value) -> Value {
    let errors: Vec<Value> = fault
        .get("errors")
        .and_then(Value::as_array)
        .into_iter()
        .flatten()
        .map(|error| {
            let mut kept = Map::new();
            super::resource::keep(
                error,
                &["reason", "location", "debugInfo", "message"],
                &mut kept,
            );
            Value::Object(kept)
        })
        .collect();
    json!({"index": fault.get("index").and_then(Value::as_u64).unwrap_or_default(), "errors": errors})
}
