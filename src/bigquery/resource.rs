//! Resources of the API on their way back: what is on a list, and nothing else. Layer 5.

use serde_json::{Map, Value, json};

use super::dispatch::{Asked, KnownJob};
use super::job_form::{OWNER_LABEL, TENANT_LABEL};
use super::keyring::{Owner, Use};
use super::scrub;
use crate::sql::bigquery::TableName;

/// Fields of a column.
const COLUMN: &[&str] = &[
    "name",
    "type",
    "mode",
    "description",
    "maxLength",
    "precision",
    "scale",
    "collation",
    "defaultValueExpression",
    "roundingMode",
    "timestampPrecision",
];
/// Fields of a query's configuration that say nothing beyond what the client said.
const QUERY: &[&str] = &[
    "createDisposition",
    "writeDisposition",
    "priority",
    "useQueryCache",
    "useLegacySql",
    "parameterMode",
    "queryParameters",
    "maximumBytesBilled",
    "timePartitioning",
    "rangePartitioning",
    "clustering",
    "schemaUpdateOptions",
    "createSession",
    "scriptOptions",
];
/// Fields of a load's configuration.
const LOAD: &[&str] = &[
    "createDisposition",
    "writeDisposition",
    "schema",
    "skipLeadingRows",
    "fieldDelimiter",
    "quote",
    "nullMarker",
    "encoding",
    "allowQuotedNewlines",
    "allowJaggedRows",
    "sourceFormat",
    "autodetect",
    "maxBadRecords",
    "ignoreUnknownValues",
    "timePartitioning",
    "rangePartitioning",
    "clustering",
    "schemaUpdateOptions",
];
/// Fields of a copy's configuration.
const COPY: &[&str] = &["createDisposition", "writeDisposition", "operationType"];
/// Fields of statistics that tell nothing of tables.
const STATISTICS: &[&str] = &[
    "creationTime",
    "startTime",
    "endTime",
    "numChildJobs",
    "completionRatio",
    "finalExecutionDurationMs",
];
/// The same of a query.
const QUERY_STATISTICS: &[&str] = &[
    "statementType",
    "numDmlAffectedRows",
    "dmlStats",
    "undeclaredQueryParameters",
    "ddlOperationPerformed",
];
/// What tells how large the tables are that were read, and whether somebody wrote to them since.
const OF_TABLES: &[&str] = &[
    "totalBytesProcessed",
    "totalBytesBilled",
    "totalBytesProcessedAccuracy",
    "estimatedBytesProcessed",
    "cacheHit",
];

/// Copies fields that are on a list.
pub(super) fn keep(from: &Value, names: &[&str], to: &mut Map<String, Value>) {
    for name in names {
        if let Some(value) = from.get(*name) {
            to.insert((*name).to_owned(), value.clone());
        }
    }
}

/// A schema without what is not a column's own, and without columns that the policy denies.
pub(super) fn schema(schema: &Value, denied: &[&str]) -> Value {
    let fields = schema.get("fields").map(|fields| columns(fields, denied, 0));
    match fields {
        Some(fields) => json!({"fields": fields}),
        None => json!({}),
    }
}

fn columns(fields: &Value, denied: &[&str], depth: u32) -> Value {
    /// As deep as the service nests records, with room.
    const MAX_DEPTH: u32 = 20;
    let list = fields.as_array().map(Vec::as_slice).unwrap_or_default();
    let column = |field: &Value| {
        let name = field.get("name").and_then(Value::as_str).unwrap_or_default();
        if depth > MAX_DEPTH || denied.iter().any(|denied| denied.eq_ignore_ascii_case(name)) {
            return None;
        }
        let mut kept = Map::new();
        keep(field, COLUMN, &mut kept);
        if let Some(inner) = field.get("fields") {
            kept.insert("fields".to_owned(), columns(inner, &[], depth + 1));
        }
        if let Some(of) = field.get("rangeElementType").and_then(|of| of.get("type")) {
            kept.insert("rangeElementType".to_owned(), json!({"type": of}));
        }
        Some(Value::Object(kept))
    };
    Value::Array(list.iter().filter_map(column).collect())
}

/// A session's id, bound to the tenant.
pub(super) fn session(owner: Owner<'_>, info: &Value) -> Option<Value> {
    let id = info.get("sessionId")?.as_str()?;
    Some(json!({"sessionId": owner.seal(Use::Session, "", id)}))
}

/// The name of a table in a resource.
pub(super) fn table_name(reference: &Value) -> Option<TableName> {
    let text = |name: &str| reference.get(name).and_then(Value::as_str).map(str::to_owned);
    Some(TableName {
        project: text("projectId")?,
        dataset: text("datasetId")?,
        table: text("tableId")?,
    })
}

fn reference(name: &TableName) -> Value {
    json!({"projectId": name.project, "datasetId": name.dataset, "tableId": name.table})
}

/// Whether a dataset is one of those that the service makes for results.
pub(super) fn is_anonymous(dataset: &str) -> bool {
    dataset.starts_with('_')
}

/// What an anonymous table's MAC is over, beside its name.
pub(super) fn anonymous_context(dataset: &str) -> String {
    format!("anonymous {dataset}")
}

/// A table in a job of the tenant's, if it may be told: by the policy, or a result, whose name is then
/// bound to the tenant.
fn shown_table(asked: &Asked<'_>, told: &Value) -> Option<Value> {
    let mut name = table_name(told)?;
    if is_anonymous(&name.dataset) {
        name.table = asked.owner().seal(Use::Table, &anonymous_context(&name.dataset), &name.table);
        return Some(reference(&name));
    }
    let place = asked.place();
    asked.env(&place).bind(&name).is_ok().then(|| reference(&name))
}

/// A job of the tenant's.
pub(super) fn job(asked: &Asked<'_>, job: &Value, upstream: &str, known: &KnownJob) -> Value {
    let told = known.told();
    let shown = asked.owner().shown_job(upstream);
    let location =
        job.get("jobReference").and_then(|of| of.get("location")).and_then(Value::as_str);
    let mut built = Map::new();
    let mut put = |name: &str, value: Value| built.insert(name.to_owned(), value);
    put("kind", "bigquery#job".into());
    put(
        "id",
        match location {
            Some(location) => format!("{}:{location}.{shown}", asked.project),
            None => format!("{}:{shown}", asked.project),
        }
        .into(),
    );
    let mut named = json!({"projectId": asked.project, "jobId": shown});
    if let (Value::Object(fields), Some(location)) = (&mut named, location) {
        fields.insert("location".to_owned(), location.into());
    }
    put("jobReference", named);
    if let Some(configuration) = job.get("configuration") {
        put("configuration", self::configuration(asked, configuration, known));
    }
    if let Some(status) = job.get("status") {
        put("status", self::status(status, told));
    }
    if let Some(state) = job.get("state").filter(|state| state.is_string()) {
        put("state", state.clone());
    }
    if let Some(error) = job.get("errorResult") {
        put("errorResult", scrub::entry(error, told));
    }
    if let Some(statistics) = job.get("statistics") {
        put("statistics", self::statistics(asked, statistics, known));
    }
    Value::Object(built)
}

fn status(status: &Value, told: scrub::Known<'_>) -> Value {
    let mut built = Map::new();
    keep(status, &["state"], &mut built);
    if let Some(error) = status.get("errorResult") {
        built.insert("errorResult".to_owned(), scrub::entry(error, told));
    }
    if let Some(errors) = status.get("errors") {
        built.insert("errors".to_owned(), scrub::entries(errors, told));
    }
    Value::Object(built)
}

fn configuration(asked: &Asked<'_>, configuration: &Value, known: &KnownJob) -> Value {
    let mut built = Map::new();
    keep(configuration, &["jobType", "dryRun", "jobTimeoutMs"], &mut built);
    if let Some(Value::Object(labels)) = configuration.get("labels") {
        let ours = |name: &str| {
            name == OWNER_LABEL || name == TENANT_LABEL || asked.policy.labels.contains_key(name)
        };
        let labels = labels.iter().filter(|(name, _)| !ours(name));
        let labels: Map<_, _> = labels.map(|(name, value)| (name.clone(), value.clone())).collect();
        built.insert("labels".to_owned(), Value::Object(labels));
    }
    for (kind, names) in [("query", QUERY), ("load", LOAD), ("copy", COPY)] {
        let Some(inner) = configuration.get(kind) else { continue };
        let mut kept = Map::new();
        keep(inner, names, &mut kept);
        for name in ["destinationTable", "sourceTable"] {
            if let Some(table) = inner.get(name).and_then(|table| shown_table(asked, table)) {
                kept.insert(name.to_owned(), table);
            }
        }
        if let Some(Value::Array(tables)) = inner.get("sourceTables") {
            let shown = tables.iter().filter_map(|table| shown_table(asked, table)).collect();
            kept.insert("sourceTables".to_owned(), Value::Array(shown));
        }
        if kind == "query" && !known.text.is_empty() {
            // The client's own text; what was sent says how the policy binds tables.
            kept.insert("query".to_owned(), (*known.text).into());
        }
        built.insert(kind.to_owned(), Value::Object(kept));
    }
    Value::Object(built)
}

fn statistics(asked: &Asked<'_>, statistics: &Value, known: &KnownJob) -> Value {
    let mut built = Map::new();
    keep(statistics, STATISTICS, &mut built);
    if !known.protected {
        keep(statistics, OF_TABLES, &mut built);
    }
    if let Some(parent) = statistics.get("parentJobId").and_then(Value::as_str) {
        built.insert("parentJobId".to_owned(), asked.owner().shown_job(parent).into());
    }
    if let Some(kind) = statistics.get("scriptStatistics").and_then(|of| of.get("evaluationKind")) {
        built.insert("scriptStatistics".to_owned(), json!({"evaluationKind": kind}));
    }
    if let Some(info) = statistics.get("sessionInfo").and_then(|info| session(asked.owner(), info))
    {
        built.insert("sessionInfo".to_owned(), info);
    }
    if let Some(query) = statistics.get("query") {
        let mut kept = Map::new();
        keep(query, QUERY_STATISTICS, &mut kept);
        if !known.protected {
            keep(query, OF_TABLES, &mut kept);
        }
        if let Some(of) = query.get("schema") {
            kept.insert("schema".to_owned(), schema(of, &[]));
        }
        if let Some(Value::Array(tables)) = query.get("referencedTables") {
            let shown = tables.iter().filter_map(|table| shown_table(asked, table)).collect();
            kept.insert("referencedTables".to_owned(), Value::Array(shown));
        }
        if let Some(table) = query.get("ddlTargetTable").and_then(|table| shown_table(asked, table))
        {
            kept.insert("ddlTargetTable".to_owned(), table);
        }
        built.insert("query".to_owned(), Value::Object(kept));
    }
    if let Some(load) = statistics.get("load") {
        let mut kept = Map::new();
        let names = ["inputFiles", "inputFileBytes", "outputRows", "outputBytes", "badRecords"];
        keep(load, &names, &mut kept);
        built.insert("load".to_owned(), Value::Object(kept));
    }
    if let Some(copy) = statistics.get("copy") {
        let mut kept = Map::new();
        keep(copy, &["copiedRows", "copiedLogicalBytes"], &mut kept);
        built.insert("copy".to_owned(), Value::Object(kept));
    }
    Value::Object(built)
}
