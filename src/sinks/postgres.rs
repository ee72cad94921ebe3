//! A PostgreSQL table, one row a record. Layer 4.
//!
//! The primary key is chain and sequence, and a row that is there stays as it is, so that a repeat
//! changes nothing. `record` is of type `json`, which keeps the text byte for byte: the chain can be
//! verified from the table.

use std::time::Duration;

use super::DeliveryError;
use crate::audit::{Batch, Record};
use crate::catalog_load::{Session, connect};
use crate::endpoint::Endpoint;

/// Longest run of one of our statements, on the server.
const STATEMENT_MS: u32 = 30_000;
/// Longest wait for the answer, which is longer than that.
const ANSWER_WITHIN: Duration = Duration::from_secs(40);

/// Where the table is.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Settings {
    /// The server and the role.
    pub endpoint: Endpoint,
    /// The database.
    pub database: String,
    /// Schema and name of the table; made if absent.
    pub schema: String,
    /// See `schema`.
    pub table: String,
}

/// A table.
pub(super) struct Table {
    settings: Settings,
    session: Option<Session>,
}

impl Table {
    pub(super) fn new(settings: Settings) -> Self {
        Self { settings, session: None }
    }

    /// The table's name as SQL.
    fn name(&self) -> String {
        format!("{}.{}", quoted(&self.settings.schema), quoted(&self.settings.table))
    }

    pub(super) async fn deliver(&mut self, batch: &Batch) -> Result<(), DeliveryError> {
        let inserted = match tokio::time::timeout(ANSWER_WITHIN, self.insert(batch)).await {
            Ok(inserted) => inserted,
            Err(_) => Err(DeliveryError::plain("the server does not answer")),
        };
        if inserted.is_err() {
            self.session = None;
        }
        inserted
    }

    async fn insert(&mut self, batch: &Batch) -> Result<(), DeliveryError> {
        if self.session.as_ref().is_none_or(|session| session.client.is_closed()) {
            self.session = Some(self.open().await?);
        }
        let Some(session) = &self.session else {
            return Err(DeliveryError::plain("no session"));
        };
        // Without a statement per batch size: arrays of equal length, one row each.
        let sql = format!(
            "INSERT INTO {} (chain, sequence, time, kind, decision, code, tenant, record)
             SELECT chain::uuid, sequence, time::timestamptz, kind, decision, code, tenant, record::json
             FROM unnest($1::text[], $2::bigint[], $3::text[], $4::text[], $5::text[], $6::text[],
                         $7::text[], $8::text[])
               AS r (chain, sequence, time, kind, decision, code, tenant, record)
             ON CONFLICT (chain, sequence) DO NOTHING",
            self.name()
        );
        let all = |part: fn(&Record) -> &str| batch.records.iter().map(part).collect::<Vec<_>>();
        let maybe =
            |part: fn(&Record) -> Option<&str>| batch.records.iter().map(part).collect::<Vec<_>>();
        let sequences: Vec<i64> = batch
            .records
            .iter()
            .map(|record| i64::try_from(record.sequence()).unwrap_or(i64::MAX))
            .collect();
        session
            .client
            .execute(
                &sql,
                &[
                    &all(Record::chain),
                    &sequences,
                    &all(Record::time),
                    &all(Record::kind),
                    &all(Record::decision),
                    &maybe(Record::code),
                    &maybe(Record::tenant),
                    &all(|record| &record.line),
                ],
            )
            .await
            .map(drop)
            .map_err(|error| said(&error))
    }

    /// Signs in, and sees to it that the table is there.
    async fn open(&self) -> Result<Session, DeliveryError> {
        let session = connect(&self.settings.endpoint, &self.settings.database)
            .await
            .map_err(DeliveryError::new)?;
        let client = &session.client;
        // What the server is told of a record must not depend on its role's settings.
        let settings = format!(
            "SET statement_timeout = {STATEMENT_MS}; SET lock_timeout = {STATEMENT_MS};
             SET TimeZone = 'UTC'; SET DateStyle = 'ISO'; SET synchronous_commit = on"
        );
        client.batch_execute(&settings).await.map_err(|error| said(&error))?;
        let there = client
            .query_one("SELECT to_regclass($1) IS NOT NULL", &[&self.name()])
            .await
            .map_err(|error| said(&error))?
            .try_get::<_, bool>(0)
            .map_err(|error| said(&error))?;
        if !there {
            let make = format!(
                "CREATE TABLE IF NOT EXISTS {} (
                   chain uuid NOT NULL, sequence bigint NOT NULL, time timestamptz NOT NULL,
                   kind text NOT NULL, decision text NOT NULL, code text, tenant text,
                   record json NOT NULL, PRIMARY KEY (chain, sequence))",
                self.name()
            );
            client.batch_execute(&make).await.map_err(|error| said(&error))?;
        }
        Ok(session)
    }
}

/// What the server said, without DETAIL: that would quote a record.
fn said(error: &tokio_postgres::Error) -> DeliveryError {
    match error.as_db_error() {
        Some(error) => {
            DeliveryError(format!("{} (SQLSTATE {})", error.message(), error.code().code()))
        }
        None => DeliveryError::new(error),
    }
}

/// A name in double quotes.
fn quoted(name: &str) -> String {
    format!("\"{}\"", name.replace('"', "\"\""))
}

#[cfg(test)]
mod tests {
    use super::quoted;

    #[test]
    fn a_name_cannot_leave_its_quotes() {
        assert_eq!(quoted("a\"; DROP TABLE x --"), "\"a\"\"; DROP TABLE x --\"");
    }
}
