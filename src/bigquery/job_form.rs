//! What jobs.query and jobs.insert have in common: a query's fields, read and written anew. Layer 5.

use std::sync::Arc;

use serde_json::{Map, Value, json};

use super::dispatch::Asked;
use super::fault::Fault;
use super::form::{Fields, is_name, is_word};
use super::judge::Verdict;
use super::keyring::{Use, is_job_id};
use super::{parameters, target::printable};
use crate::error::{Denial, DenialCode};

/// The label that says whose a job is, in words; for the operator's bills.
pub(super) const TENANT_LABEL: &str = "tenant";
/// The label that says whose a job is, for Hedgerow: a MAC.
pub(super) const OWNER_LABEL: &str = "hedgerow_owner";
/// The entry of the secure context that views read.
const SECURE_ENTRY: &str = "tenant_id";
/// Most labels of a job.
const MAX_LABELS: usize = 64;
/// Longest label, in characters.
const MAX_LABEL: usize = 63;
/// Fields of old that mean nothing in GoogleSQL, and what only Hedgerow sets.
const WITHOUT_MEANING: &[&str] =
    &["kind", "preserveNulls", "flattenResults", "allowLargeResults", "secureContext"];

/// A query that was decided, and its configuration as it is sent.
pub(super) struct QueryForm {
    /// The decision.
    pub(super) verdict: Arc<Verdict>,
    /// The client's own text.
    pub(super) text: Arc<str>,
    /// Fields of the configuration.
    pub(super) sent: Map<String, Value>,
}

/// Reads the fields that both methods have, decides the query.
///
/// # Errors
/// The denial.
pub(super) fn query(asked: &Asked<'_>, fields: &mut Fields) -> Result<QueryForm, Fault> {
    fields.ignore(WITHOUT_MEANING);
    let text = fields
        .text("query")?
        .ok_or_else(|| Fault::Invalid("Required parameter is missing: query".to_owned()))?;
    if fields.flag("useLegacySql")? == Some(true) {
        return Err(Denial::new(DenialCode::LegacySql).into());
    }
    let mut place = asked.place();
    place.default_dataset = default_dataset(asked, fields)?;
    let mut sent = Map::new();
    let mut put = |name: &str, value: Value| sent.insert(name.to_owned(), value);
    if let Some(properties) = connection_properties(asked, fields)? {
        place.session = properties.session;
        put("connectionProperties", properties.sent);
    }
    if let Some(create) = fields.flag("createSession")? {
        put("createSession", create.into());
    }
    if let Some(mode) = fields.word("parameterMode", &["NAMED", "POSITIONAL"])? {
        put("parameterMode", mode.into());
    }
    if let Some(list) = fields.list("queryParameters")? {
        put("queryParameters", parameters::rebuild(list)?);
    }
    let cached = fields.flag("useQueryCache")?;
    let theirs = fields.count("maximumBytesBilled")?.filter(|bytes| *bytes > 0);
    let principal = asked.identity.principal();
    let verdict = asked.front.judge.decide(&text, &asked.policy, principal, &place)?;
    let protected = verdict.decided.protected || verdict.decided.secure_context;
    let theirs = theirs.map(|bytes| if protected { coarse(bytes) } else { bytes });
    let most = match (theirs, asked.policy.maximum_bytes_billed) {
        (Some(theirs), Some(ours)) => Some(theirs.min(ours)),
        (theirs, ours) => theirs.or(ours),
    };
    if let Some(most) = most {
        put("maximumBytesBilled", most.to_string().into());
    }
    if let Some(cached) = cached {
        put("useQueryCache", cached.into());
    }
    decided(asked, &verdict, &mut sent);
    Ok(QueryForm { verdict, text: text.into(), sent })
}

/// A client's bound of bytes for tables that tenants share, rounded up to a power of two, 1 GiB at least:
/// asked again and again, an exact one would tell how large the tables are.
fn coarse(bytes: u64) -> u64 {
    const LEAST: u64 = 1 << 30;
    const MOST: u64 = 1 << 62;
    bytes.clamp(LEAST, MOST).next_power_of_two()
}

/// What was decided, as it is sent.
pub(super) fn decided(asked: &Asked<'_>, verdict: &Verdict, sent: &mut Map<String, Value>) {
    let mut put = |name: &str, value: Value| sent.insert(name.to_owned(), value);
    put("query", verdict.decided.guarded.text().into());
    // SECURITY: the service's default is true.
    put("useLegacySql", false.into());
    if verdict.decided.secure_context {
        put(
            "secureContext",
            json!({"secureParameterEntries": {SECURE_ENTRY: asked.tenant.to_string()}}),
        );
        // Whether the service's cache knows of secure contexts is not said anywhere.
        put("useQueryCache", false.into());
    }
}

/// The request's default dataset. It is not sent: every name that is sent is whole.
fn default_dataset(
    asked: &Asked<'_>,
    fields: &mut Fields,
) -> Result<Option<(String, String)>, Fault> {
    let Some(mut dataset) = fields.object("defaultDataset", "defaultDataset")? else {
        return Ok(None);
    };
    let project = dataset.text("projectId")?.unwrap_or_else(|| asked.project.clone());
    let name = dataset.text("datasetId")?;
    dataset.end()?;
    let Some(name) = name else { return Ok(None) };
    if !is_name(&name) || !asked.front.serves(&project, &asked.policy) {
        return Err(Denial::of(DenialCode::UnknownRelation, printable(&name)).into());
    }
    Ok(Some((project, name)))
}

struct Properties {
    session: bool,
    sent: Value,
}

/// Properties of the connection: the session, which must be the tenant's, the time zone, a label.
fn connection_properties(
    asked: &Asked<'_>,
    fields: &mut Fields,
) -> Result<Option<Properties>, Fault> {
    let Some(list) = fields.list("connectionProperties")? else { return Ok(None) };
    let mut properties = Properties { session: false, sent: Value::Null };
    let mut sent = Vec::new();
    for value in list {
        let mut property = Fields::of("connectionProperties", value)?;
        let key = property.text("key")?.unwrap_or_default();
        let value = property.text("value")?.unwrap_or_default();
        property.end()?;
        let value = match key.as_str() {
            "session_id" => {
                properties.session = true;
                let own = asked.owner().open(Use::Session, "", &value);
                own.ok_or_else(|| Fault::foreign("Session"))?
            }
            "time_zone" | "query_label" if is_word(&value) => value,
            _ => {
                let object = format!("connectionProperties.{}", printable(&key));
                return Err(Denial::of(DenialCode::ProtectedSetting, object).into());
            }
        };
        sent.push(json!({"key": key, "value": value}));
    }
    properties.sent = Value::Array(sent);
    Ok(Some(properties))
}

/// The labels of a job: the client's, the policy's, the tenant's; the latter win.
///
/// # Errors
/// HR5002 for labels that cannot be.
pub(super) fn labels(asked: &Asked<'_>, theirs: Map<String, Value>) -> Result<Value, Fault> {
    let mut labels = theirs;
    let ours =
        [(TENANT_LABEL, label(&asked.tenant.to_string())), (OWNER_LABEL, asked.owner().tag())];
    for (name, value) in &asked.policy.labels {
        labels.insert(name.clone(), value.clone().into());
    }
    for (name, value) in ours {
        labels.insert(name.to_owned(), value.into());
    }
    if labels.len() > MAX_LABELS {
        return Err(Fault::form("labels"));
    }
    Ok(Value::Object(labels))
}

/// A text as a label's value: small letters, digits, `_` and `-`.
fn label(text: &str) -> String {
    let allowed = |c: char| c.is_lowercase() || c.is_numeric() || matches!(c, '_' | '-');
    text.to_lowercase().chars().map(|c| if allowed(c) { c } else { '_' }).take(MAX_LABEL).collect()
}

/// How values come: what clients ask for, on a list.
pub(super) fn format_options(fields: &mut Fields) -> Result<Option<Value>, Fault> {
    let Some(mut options) = fields.object("formatOptions", "formatOptions")? else {
        return Ok(None);
    };
    let mut sent = Map::new();
    if let Some(flag) = options.flag("useInt64Timestamp")? {
        sent.insert("useInt64Timestamp".to_owned(), flag.into());
    }
    if let Some(word) = options.word("timestampOutputFormat", TIMESTAMP_FORMATS)? {
        sent.insert("timestampOutputFormat".to_owned(), word.into());
    }
    options.end()?;
    Ok(Some(Value::Object(sent)))
}

/// The ways in which a timestamp can be written.
pub(super) const TIMESTAMP_FORMATS: &[&str] =
    &["TIMESTAMP_OUTPUT_FORMAT_UNSPECIFIED", "FLOAT64", "INT64", "ISO8601_STRING"];

/// A location.
pub(super) fn location(fields: &mut Fields) -> Result<Option<String>, Fault> {
    match fields.text("location")? {
        Some(text) if text.is_empty() => Ok(None),
        Some(text) if is_word(&text) => Ok(Some(text)),
        Some(_) => Err(Fault::form("location")),
        None => Ok(None),
    }
}

/// The upstream id of a job that the client calls so; made up where it has no name yet.
///
/// # Errors
/// [`Fault::Invalid`] for what is no id.
pub(super) fn new_job(asked: &Asked<'_>, shown: Option<String>) -> Result<String, Fault> {
    let shown = shown.unwrap_or_else(|| uuid::Uuid::new_v4().to_string());
    let invalid = || Fault::Invalid("Invalid value for jobId".to_owned());
    // A sealed id names a job that there is already.
    if !is_job_id(&shown) || shown.starts_with("hrs_") {
        return Err(invalid());
    }
    asked.owner().upstream_job(&shown).ok_or_else(invalid)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_tenant_becomes_a_label() {
        assert_eq!(label("Acme GmbH/1"), "acme_gmbh_1");
        assert_eq!(label(&"x".repeat(100)).len(), 63);
    }
}
