//! The door to the upstream's catalog: reads it, watches it, reports what it says of the posture.
//! Layer 4.
//!
//! Owns the few SQL texts that Hedgerow sends in its own name, all of them reads of `pg_catalog` in
//! a read-only transaction. Refuses catalogs over [`MAX_RELATIONS`], and never evicts a good
//! snapshot because a newer one could not be had.

mod binding;
mod cache;
mod connect;
mod finding;
mod posture;
mod queries;
mod surroundings;
mod survey;
#[cfg(test)]
pub(crate) mod testing;
#[cfg(test)]
mod tests;
mod tls;

use std::sync::Arc;
use std::time::Duration;

pub use binding::of_connection;
pub use cache::{Catalogs, Followed, WATCH_INTERVAL};
pub use connect::{Session, connect};
pub use finding::{Finding, FindingKind, Severity};
pub use posture::{effective_policy, findings, is_protected, policy_type, posture};
pub use survey::{Survey, survey};
pub use tls::client_config;

use tokio_postgres::error::SqlState;

use crate::catalog::Catalog;
use crate::endpoint::Endpoint;
use crate::ids::CatalogEpoch;

/// How long signing in to the upstream may take.
pub const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// How long the reading of one catalog may take.
pub const LOAD_TIMEOUT: Duration = Duration::from_secs(60);
/// Most relations of one catalog.
pub const MAX_RELATIONS: usize = 200_000;
/// Most columns of one catalog, all relations together.
pub const MAX_COLUMNS: usize = 5_000_000;
/// Longest name of a database, in bytes: PostgreSQL cuts longer ones off (NAMEDATALEN).
pub const MAX_DATABASE_NAME: usize = 63;

/// Why a catalog could not be had. Operator text: it may name the upstream, so no client sees it.
#[derive(Clone, Debug, thiserror::Error)]
pub enum LoadError {
    /// The name cannot be a database's.
    #[error("not a database name: empty, over 63 bytes, or with a NUL byte")]
    DatabaseName,
    /// Too many databases are in use.
    #[error("catalogs of {0} databases are loaded already, which is the limit")]
    TooManyDatabases(usize),
    /// TLS towards the upstream cannot be set up.
    #[error("TLS towards the upstream: {0}")]
    Tls(Arc<str>),
    /// No session with the upstream.
    #[error("cannot connect to the upstream: {}", database_error(.0))]
    Connect(Arc<tokio_postgres::Error>),
    /// The upstream did not answer in time.
    #[error("the upstream did not answer within {} s", .0.as_secs())]
    Timeout(Duration),
    /// A catalog query failed.
    #[error("catalog query failed: {}", database_error(.0))]
    Query(Arc<tokio_postgres::Error>),
    /// The catalog is over a limit.
    #[error("the catalog has more than {limit} {what}")]
    TooLarge {
        /// What there is too much of.
        what: &'static str,
        /// The limit.
        limit: usize,
    },
    /// The catalog holds something that was not expected.
    #[error("unexpected catalog content: {0}")]
    Content(&'static str),
    /// [`Catalogs`] was dropped.
    #[error("shutting down")]
    ShuttingDown,
}

impl LoadError {
    /// Whether the connection went in the middle of a query.
    fn is_cut_off(&self) -> bool {
        match self {
            Self::Query(error) => {
                error.is_closed() || error.code() == Some(&SqlState::ADMIN_SHUTDOWN)
            }
            Self::Connect(_)
            | Self::Timeout(_)
            | Self::DatabaseName
            | Self::TooManyDatabases(_)
            | Self::Tls(_)
            | Self::TooLarge { .. }
            | Self::Content(_)
            | Self::ShuttingDown => false,
        }
    }

    /// Whether trying again later may help without anyone changing anything.
    pub const fn is_transient(&self) -> bool {
        match self {
            Self::Connect(_) | Self::Timeout(_) | Self::Query(_) => true,
            Self::DatabaseName
            | Self::TooManyDatabases(_)
            | Self::Tls(_)
            | Self::TooLarge { .. }
            | Self::Content(_)
            | Self::ShuttingDown => false,
        }
    }
}

/// The server's own words where there are any: `tokio_postgres::Error` alone says only `db error`.
fn database_error(error: &tokio_postgres::Error) -> String {
    use std::error::Error as _;
    match (error.as_db_error(), error.source()) {
        (Some(db), _) => format!("{} ({})", db.message(), db.code().code()),
        (None, Some(source)) => format!("{error}: {source}"),
        (None, None) => error.to_string(),
    }
}

/// Reads the catalog of `database` once, on a connection of its own. Its epoch is 1.
///
/// # Errors
/// [`LoadError`]: no connection, a failing query, or a catalog over the limits.
pub async fn load(endpoint: &Endpoint, database: &str) -> Result<Catalog, LoadError> {
    let mut session = connect(endpoint, database).await?;
    let loaded = queries::read(&mut session.client).await?;
    Ok(Catalog { epoch: CatalogEpoch(1), ..loaded.catalog })
}
