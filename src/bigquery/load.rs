//! Load jobs with their data in the request. Layer 5.
//!
//! Into a dataset of the tenant's own any of the service's formats. Into a table that tenants share
//! newline-delimited JSON and CSV, whose rows are read, checked or filled, and written anew; other
//! formats hold rows that are not read here, and are denied. Files of a bucket are never loaded: they
//! would be read with Hedgerow's own rights.

use std::sync::Arc;

use bytes::Bytes;
use serde_json::{Map, Value, json};

use super::dispatch::{Asked, uncounted};
use super::fault::Fault;
use super::form::Fields;
use super::incoming::{CsvForm, Mark, csv_lines, json_lines};
use super::insert_all::written;
use super::jobs::{CREATE, WRITE, layout, named_table};
use super::recorder::Facts;
use super::upstream::{Call, Verb};
use super::{job_form, scrub, tables};
use crate::audit::RelationRule;
use crate::error::{Denial, DenialCode};
use crate::sql::bigquery::TableName;

/// Formats of a file.
const FORMATS: &[&str] = &["CSV", "NEWLINE_DELIMITED_JSON", "AVRO", "PARQUET", "ORC"];
/// Most leading lines that are no rows.
const MAX_SKIPPED: u64 = 1_000_000;

/// A load that was read.
#[derive(Debug)]
pub(super) struct Load {
    /// `configuration.load`, as it is sent.
    sent: Map<String, Value>,
    labels: Value,
    /// The upstream id of the job, and its place.
    pub(super) job: String,
    location: Option<String>,
    table: TableName,
    rule: Arc<str>,
    /// How rows are marked; `None`: the table is the tenant's own.
    mark: Option<Mark>,
    format: &'static str,
    csv: CsvForm,
}

/// Reads the job of an upload.
///
/// # Errors
/// The denial.
pub(super) fn read(asked: &Asked<'_>, job: Map<String, Value>) -> Result<Load, Fault> {
    let mut fields = Fields::new("job", job);
    let (shown, location) = super::jobs::new_reference(asked, &mut fields)?;
    let mut configuration = fields
        .object("configuration", "configuration")?
        .ok_or_else(|| Fault::Invalid("Required parameter is missing".to_owned()))?;
    fields.end()?;
    configuration.ignore(&["jobType"]);
    let labels = job_form::labels(asked, configuration.texts("labels")?)?;
    let load = configuration.take("load");
    let load = load.ok_or_else(|| Fault::from(Denial::of(DenialCode::JobKind, "upload")))?;
    configuration.end()?;
    let mut fields = Fields::of("configuration.load", load)?;
    let table = fields.take("destinationTable").ok_or_else(|| Fault::form("destinationTable"))?;
    let table = named_table(asked, table)?;
    let (mark, rule) = written(asked, &table)?;
    let format = fields.word("sourceFormat", FORMATS)?.unwrap_or("CSV");
    if mark.is_some() && !matches!(format, "CSV" | "NEWLINE_DELIMITED_JSON") {
        return Err(Denial::of(DenialCode::ApiForm, format!("sourceFormat {format}")).into());
    }
    let mut sent = Map::new();
    let mut put = |name: &str, value: Value| sent.insert(name.to_owned(), value);
    put(
        "destinationTable",
        json!({"projectId": table.project, "datasetId": table.dataset, "tableId": table.table}),
    );
    put("sourceFormat", format.into());
    if let Some(schema) = fields.take("schema") {
        put("schema", tables::new_schema(schema)?);
    }
    if let Some(word) = fields.word("createDisposition", CREATE)? {
        put("createDisposition", word.into());
    }
    if let Some(word) = fields.word("writeDisposition", WRITE)? {
        if mark.is_some() && word != "WRITE_APPEND" {
            // The table's rows are every tenant's: neither replaced nor asked whether there are any.
            return Err(Fault::form(format!("writeDisposition {word}")));
        }
        put("writeDisposition", word.into());
    }
    if let Some(count) = fields.count("maxBadRecords")? {
        put("maxBadRecords", count.into());
    }
    if let Some(flag) = fields.flag("ignoreUnknownValues")? {
        put("ignoreUnknownValues", flag.into());
    }
    if let Some(text) = fields.text("nullMarker")? {
        // The tenant's own value would be loaded as no tenant at all.
        if mark.as_ref().is_some_and(|mark| mark.is_text(&text)) {
            return Err(Fault::form("nullMarker"));
        }
        put("nullMarker", text.into());
    }
    if let Some(flag) = fields.flag("allowJaggedRows")? {
        put("allowJaggedRows", flag.into());
    }
    fields.word("encoding", &["UTF-8"])?;
    let csv = csv(&mut fields)?;
    match mark {
        Some(_) => {
            put("createDisposition", "CREATE_NEVER".into());
            put("writeDisposition", "WRITE_APPEND".into());
        }
        None => {
            own(&mut fields, format, &csv, &mut sent)?;
        }
    }
    fields.end()?;
    let job = job_form::new_job(asked, shown)?;
    Ok(Load { sent, labels, job, location, table, rule, mark, format, csv })
}

/// How the client's CSV is written.
fn csv(fields: &mut Fields) -> Result<CsvForm, Fault> {
    let delimiter = match fields.text("fieldDelimiter")?.as_deref() {
        None => ',',
        Some("\\t" | "tab") => '\t',
        Some(text) => {
            let mut chars = text.chars();
            match (chars.next(), chars.next()) {
                (Some(c), None) if !matches!(c, '\n' | '\r' | '"' | '\0') => c,
                _ => return Err(Fault::form("fieldDelimiter")),
            }
        }
    };
    let quote = match fields.text("quote")?.as_deref() {
        None => Some('"'),
        Some("") => None,
        Some(text) => {
            let mut chars = text.chars();
            match (chars.next(), chars.next()) {
                (Some(c), None) if c != delimiter && c.is_ascii_graphic() => Some(c),
                _ => return Err(Fault::form("quote")),
            }
        }
    };
    let skip = fields.count("skipLeadingRows")?.unwrap_or(0);
    if skip > MAX_SKIPPED {
        return Err(Fault::form("skipLeadingRows"));
    }
    let line_breaks = fields.flag("allowQuotedNewlines")?.unwrap_or(false);
    Ok(CsvForm { delimiter, quote, skip, line_breaks })
}

/// What only a load into the tenant's own dataset may say; its file is sent as it is.
fn own(
    fields: &mut Fields,
    format: &str,
    csv: &CsvForm,
    sent: &mut Map<String, Value>,
) -> Result<(), Fault> {
    if let Some(flag) = fields.flag("autodetect")? {
        sent.insert("autodetect".to_owned(), flag.into());
    }
    if format == "CSV" {
        sent.insert("fieldDelimiter".to_owned(), csv.delimiter.to_string().into());
        sent.insert("quote".to_owned(), csv.quote.map(String::from).unwrap_or_default().into());
        sent.insert("allowQuotedNewlines".to_owned(), csv.line_breaks.into());
        sent.insert("skipLeadingRows".to_owned(), csv.skip.into());
    }
    if let Some(mut options) = fields.object("parquetOptions", "parquetOptions")? {
        let mut built = Map::new();
        for name in ["enableListInference", "enumAsString"] {
            if let Some(flag) = options.flag(name)? {
                built.insert(name.to_owned(), flag.into());
            }
        }
        options.end()?;
        sent.insert("parquetOptions".to_owned(), Value::Object(built));
    }
    layout(fields, sent)
}

impl Load {
    /// Sends the job with its rows.
    ///
    /// # Errors
    /// HR1011 for a row of another tenant: nothing is loaded then. What the policy no longer allows is
    /// denied as it would be today.
    pub(super) async fn run(
        mut self,
        asked: &Asked<'_>,
        file: Bytes,
    ) -> Result<super::answer::Answer, Fault> {
        // SECURITY: an upload may take its time; the policy that holds is the one of its last piece.
        let (mark, rule) = written(asked, &self.table)?;
        if mark != self.mark {
            return Err(Fault::foreign("Upload"));
        }
        self.rule = rule;
        let rows = match &self.mark {
            None => file,
            Some(mark) if self.format == "CSV" => {
                let columns = match names(self.sent.get("schema")) {
                    Some(names) => names,
                    None => self.columns_upstream(asked).await?,
                };
                let (rows, filled) = csv_lines(&file, &self.csv, &columns, mark)?;
                if filled {
                    add_column(&mut self.sent, mark)?;
                }
                for (name, value) in [("fieldDelimiter", ","), ("quote", "\"")] {
                    self.sent.insert(name.to_owned(), value.into());
                }
                self.sent.insert("allowQuotedNewlines".to_owned(), true.into());
                // The columns' names stand in front: no reader has to guess whether they do.
                self.sent.insert("skipLeadingRows".to_owned(), 1.into());
                self.sent.insert("encoding".to_owned(), "UTF-8".into());
                rows.into()
            }
            Some(mark) => {
                // A schema without the tenant's column would leave the value out.
                if names(self.sent.get("schema"))
                    .is_some_and(|names| !names.iter().any(|name| mark.is_column(name)))
                {
                    add_column(&mut self.sent, mark)?;
                }
                json_lines(&file, mark)?.into()
            }
        };
        let mut reference = json!({"projectId": asked.project, "jobId": self.job});
        if let (Value::Object(fields), Some(location)) = (&mut reference, &self.location) {
            fields.insert("location".to_owned(), location.as_str().into());
        }
        let job = json!({
            "jobReference": reference,
            "configuration": {"load": self.sent, "labels": self.labels},
        });
        let call = Call::new(Verb::Post, ["projects", &asked.project, "jobs"]).upload(&job, &rows);
        let relation =
            RelationRule { relation: self.table.to_string().into(), rule: Arc::clone(&self.rule) };
        let facts = Facts {
            kind: "load",
            relations: [relation].into(),
            rewritten: self.mark.is_some(),
            ..Facts::default()
        };
        asked.admit(1)?;
        let reply = asked.perform(&call, &facts, uncounted).await?;
        // Messages can quote no more than the file that the client sent.
        let known = super::dispatch::KnownJob { text: Arc::default(), protected: false };
        asked.front.jobs.made(self.job.clone(), &Arc::new(known), &reply);
        let known = super::results::known(asked, &self.job);
        super::jobs::answer(asked, &self.job, &reply, &known)
    }

    /// The columns of the table, in order, from the service.
    async fn columns_upstream(&self, asked: &Asked<'_>) -> Result<Vec<String>, Fault> {
        let name = &self.table;
        let call = Call::new(
            Verb::Get,
            ["projects", &name.project, "datasets", &name.dataset, "tables", &name.table],
        )
        .parameter("view", "BASIC");
        let reply = asked.perform(&call, &asked.facts(), uncounted).await?;
        if !reply.is_good() {
            return Err(scrub::fault(&reply, scrub::Known::NOTHING));
        }
        let table = reply.object()?;
        names(table.get("schema")).ok_or_else(|| Fault::form("schema"))
    }
}

/// Names of the columns of a schema.
fn names(schema: Option<&Value>) -> Option<Vec<String>> {
    let fields = schema?.get("fields")?.as_array()?;
    fields.iter().map(|field| field.get("name")?.as_str().map(str::to_owned)).collect()
}

/// Adds the tenant's column to the job's schema.
fn add_column(sent: &mut Map<String, Value>, mark: &Mark) -> Result<(), Fault> {
    let fields = sent
        .get_mut("schema")
        .and_then(|schema| schema.get_mut("fields"))
        .and_then(Value::as_array_mut)
        .ok_or_else(|| Fault::form("schema"))?;
    fields.push(json!({"name": mark.column, "type": mark.column_type}));
    Ok(())
}
