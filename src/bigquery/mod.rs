//! The BigQuery front: HTTP, routes, jobs, upstream. Layer 5.
//!
//! The way of a request: [`Server`] accepts the connection and pingora reads the head (`exchange`);
//! `caller` verifies the token; `target` takes the path and query string apart; [`routes`] finds the
//! method in the one table of methods; its handler (`query`, `jobs`, `tables`, …) reads the body and
//! has it decided; `upstream` sends a request that was built anew from what was understood; `resource`
//! and `rows` let back only what is on a list. `recorder` keeps the audit trail, `keyring` binds the
//! ids that a tenant is given to that tenant.
//!
//! Refuses: every method, parameter, field and header that is not on a list. Nothing of a request is
//! forwarded: [`upstream::Call`] is made of names that were read and of texts that were checked.

mod answer;
mod budget;
mod caller;
mod credentials;
mod datasets;
mod dispatch;
mod dry_run;
mod exchange;
mod fault;
mod form;
mod incoming;
mod insert_all;
mod job_form;
mod jobs;
mod judge;
mod keyring;
mod listener;
mod load;
mod meters;
mod parameters;
mod query;
mod recorder;
mod resource;
mod results;
pub mod routes;
mod rows;
mod scrub;
mod tabledata;
mod tables;
mod target;
mod upload;
pub mod upstream;

use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwap;

pub use credentials::CredentialError;
pub use keyring::KeyringError;
pub use listener::{BindError, Server, TlsReload, TlsRenewal};

use crate::audit::Audit;
use crate::keys::Authenticator;
use crate::limiter::Limiter;
use crate::policy::BigQueryPolicy;

/// How the front is set up. Plain and validated.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where clients connect.
    pub listen: SocketAddr,
    /// TLS towards clients: certificate chain and key in PEM.
    pub tls: Option<(PathBuf, PathBuf)>,
    /// The service's URL.
    pub upstream: String,
    /// Hedgerow's own credentials.
    pub credentials: Credentials,
    /// The project that tenants use beside those that the policy names.
    pub default_project: Option<String>,
    /// Where the key lies that binds ids to tenants; made if it is not there. `None`: it follows from
    /// the service account's key.
    pub ownership_key: Option<PathBuf>,
    /// Whether a dry run must read the tables that the decision saw, before a text runs.
    pub compare_dry_runs: bool,
    /// Longest statement, in bytes.
    pub max_statement: usize,
    /// How long requests may go on after shutdown was asked for.
    pub drain_timeout: Duration,
}

/// Hedgerow's own credentials towards BigQuery.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Credentials {
    /// A service account's key file.
    File(PathBuf),
    /// The metadata server's.
    Metadata,
    /// None, for stand-ins.
    None,
}

/// What the front shares with the rest of the process. Cheap to clone.
#[derive(Clone)]
pub struct Shared {
    /// The policy in force.
    pub policy: Arc<ArcSwap<BigQueryPolicy>>,
    /// Who verifies tokens.
    pub authenticator: Authenticator,
    /// The audit trail.
    pub audit: Audit,
    /// The tenants' quotas.
    pub limiter: Limiter,
}
