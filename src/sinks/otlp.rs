//! OTLP logs over HTTP, encoded as JSON (OTLP 1.x, "OTLP/HTTP"). Layer 4.
//!
//! The body of a log record is the audit record as it is in the file; what collectors filter by is
//! repeated in attributes. `hedgerow.chain` and `hedgerow.sequence` tell a repeat.

use std::time::Duration;

use reqwest::header::{AUTHORIZATION, CONTENT_TYPE};
use serde_json::{Value, json};

use super::DeliveryError;
use crate::audit::{Batch, Record};
use crate::endpoint::Secret;

/// Longest wait for a connection.
const CONNECT_WITHIN: Duration = Duration::from_secs(5);
/// Longest wait for an answer.
const ANSWER_WITHIN: Duration = Duration::from_secs(20);
/// Longest part of an answer that is read.
const MAX_ANSWER: usize = 64 * 1024;

/// Where the collector is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The full URL, with `/v1/logs`.
    pub url: String,
    /// A bearer token.
    pub token: Option<Secret>,
}

/// A collector.
pub(super) struct Collector {
    settings: Settings,
    client: Option<reqwest::Client>,
}

impl Collector {
    pub(super) fn new(settings: Settings) -> Self {
        Self { settings, client: None }
    }

    pub(super) async fn deliver(&mut self, batch: &Batch) -> Result<(), DeliveryError> {
        let client = match &self.client {
            Some(client) => client.clone(),
            None => {
                let client = reqwest::Client::builder()
                    .connect_timeout(CONNECT_WITHIN)
                    .timeout(ANSWER_WITHIN)
                    .redirect(reqwest::redirect::Policy::none())
                    .build()
                    .map_err(DeliveryError::new)?;
                self.client.insert(client).clone()
            }
        };
        let mut request = client
            .post(&self.settings.url)
            .header(CONTENT_TYPE, "application/json")
            .body(body(batch).to_string());
        if let Some(token) = &self.settings.token {
            request = request.header(AUTHORIZATION, format!("Bearer {}", token.expose()));
        }
        let answer = request.send().await.map_err(|error| {
            // The URL is the operator's own, and in the configuration.
            DeliveryError::new(error.without_url())
        })?;
        let status = answer.status();
        let text = read_answer(answer).await?;
        if !status.is_success() {
            return Err(DeliveryError(format!("the collector answered {status}")));
        }
        match rejected(&text) {
            0 => Ok(()),
            count => Err(DeliveryError(format!("the collector rejected {count} records"))),
        }
    }
}

async fn read_answer(mut answer: reqwest::Response) -> Result<Vec<u8>, DeliveryError> {
    let mut text = Vec::new();
    while let Some(part) = answer.chunk().await.map_err(DeliveryError::new)? {
        text.extend_from_slice(&part);
        if text.len() > MAX_ANSWER {
            break;
        }
    }
    Ok(text)
}

/// What `partialSuccess` says; a number may be text in protobuf's JSON.
fn rejected(answer: &[u8]) -> u64 {
    let answer: Value = serde_json::from_slice(answer).unwrap_or(Value::Null);
    match answer.pointer("/partialSuccess/rejectedLogRecords") {
        Some(Value::String(text)) => text.parse().unwrap_or(1),
        Some(Value::Number(number)) => number.as_u64().unwrap_or(1),
        Some(Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_)) | None => 0,
    }
}

/// An `ExportLogsServiceRequest`.
fn body(batch: &Batch) -> Value {
    let records: Vec<Value> = batch.records.iter().map(log_record).collect();
    json!({
        "resourceLogs": [{
            "resource": {"attributes": [text("service.name", "hedgerow")]},
            "scopeLogs": [{
                "scope": {"name": "hedgerow.audit", "version": env!("CARGO_PKG_VERSION")},
                "logRecords": records,
            }],
        }],
    })
}

fn log_record(record: &Record) -> Value {
    let nanoseconds = (u128::from(record.milliseconds()) * 1_000_000).to_string();
    let (number, word) = severity(record.severity());
    let mut attributes = vec![
        text("hedgerow.chain", record.chain()),
        json!({"key": "hedgerow.sequence", "value": {"intValue": record.sequence().to_string()}}),
        text("hedgerow.decision", record.decision()),
        text("hedgerow.kind", record.kind()),
        text("log.record.uid", record.uid()),
    ];
    attributes.extend(record.code().map(|code| text("hedgerow.code", code)));
    attributes.extend(record.tenant().map(|tenant| text("hedgerow.tenant", tenant)));
    json!({
        "timeUnixNano": nanoseconds,
        "observedTimeUnixNano": nanoseconds,
        "severityNumber": number,
        "severityText": word,
        "body": {"stringValue": record.line},
        "attributes": attributes,
    })
}

fn text(key: &str, value: &str) -> Value {
    json!({"key": key, "value": {"stringValue": value}})
}

/// OCSF's severity as OpenTelemetry counts.
const fn severity(ocsf: u8) -> (u8, &'static str) {
    match ocsf {
        0..=1 => (9, "INFO"),
        2 => (10, "INFO2"),
        3 => (13, "WARN"),
        4 => (17, "ERROR"),
        5.. => (21, "FATAL"),
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_a_collector_rejects_is_read_in_both_spellings() {
        assert_eq!(rejected(b"{}"), 0);
        assert_eq!(rejected(b""), 0);
        assert_eq!(rejected(br#"{"partialSuccess":{}}"#), 0);
        assert_eq!(rejected(br#"{"partialSuccess":{"rejectedLogRecords":"3"}}"#), 3);
        assert_eq!(rejected(br#"{"partialSuccess":{"rejectedLogRecords":2}}"#), 2);
    }
}
