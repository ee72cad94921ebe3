//! The PostgreSQL front: listener, sign-in, session, upstream. Layer 5.
//!
//! The way of a connection: [`Server`] accepts it; `startup` negotiates TLS and reads the startup
//! packet; `sign_in` verifies the token; `session` relays. In the session, `requests` and `extended`
//! handle what the client sends, `relay` what the server answers, `replies` is the queue of answers
//! that are owed. `engage` takes a backend out of the `pool` when the server is needed and gives it
//! back; `here` answers what needs no server; `token` changes `who` the session speaks for, and
//! `bearers` hold what a token says once for all its sessions. `judge` asks for decisions, `recorder`
//! keeps the audit trail.
//!
//! Refuses: everything that was not decided. What goes upstream goes through
//! [`outbox::Outbox`], which takes statements only as [`crate::sql::Guarded`] with an audit permit.

mod allowance;
mod answer;
mod bearers;
mod cancel;
mod copy_flow;
mod copy_in;
mod crew;
mod egress;
mod engage;
mod extended;
mod facts;
mod here;
mod judge;
mod limits;
mod listener;
mod meters;
mod names;
mod notify;
mod oauth;
mod outbox;
mod parameters;
mod pool;
mod recorder;
mod relay;
mod replies;
mod requests;
mod scrub;
mod session;
mod sessions;
mod sign_in;
mod socket;
mod staging;
mod startup;
mod statements;
mod tables;
mod tls;
mod token;
mod upstream;
mod who;

#[cfg(test)]
mod tests;

use std::collections::BTreeMap;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::sync::atomic::AtomicBool;
use std::time::Duration;

use arc_swap::ArcSwap;

pub use listener::{BindError, Reload, Renewal, Server};
pub use tls::TlsFileError;

use crate::audit::Audit;
use crate::catalog_load::Catalogs;
use crate::claims::ClaimPath;
use crate::endpoint::Endpoint;
use crate::keys::Authenticator;
use crate::limiter::Limiter;
use crate::policy::Policy;

/// How the front is set up. Plain and validated: [`Server::bind`] checks only what needs the system.
#[derive(Clone, Debug)]
pub struct Settings {
    /// Where TCP clients connect.
    pub listen: Option<SocketAddr>,
    /// The directory of the Unix socket `.s.PGSQL.<port>`; the port is that of `listen`, or 5432.
    pub unix_socket: Option<PathBuf>,
    /// TLS towards clients. Without it, only clients on loopback and the Unix socket are served.
    pub tls: Option<ClientTls>,
    /// The upstream.
    pub endpoint: Endpoint,
    /// How clients hand over their token.
    pub authentication: Authentication,
    /// How long a client keeps a backend.
    pub pool_mode: PoolMode,
    /// Most backends of one database, those of all tenants together.
    pub max_connections: usize,
    /// How long a backend may lie idle.
    pub idle_timeout: Duration,
    /// Upstream settings that carry claims. They become reset values of the backend.
    pub session_variables: Vec<(String, ClaimPath)>,
    /// Limits.
    pub limits: Limits,
    /// How long after `exp` a session may still start statements.
    pub leeway: Duration,
    /// How long transactions may go on after shutdown was asked for.
    pub drain_timeout: Duration,
}

/// How a client hands over its token.
#[derive(Clone, Copy, Debug, Default, PartialEq, Eq)]
pub enum Method {
    /// As the password, asked for in clear.
    #[default]
    Password,
    /// By SASL OAUTHBEARER (RFC 7628), as PostgreSQL 18 has it.
    OAuthBearer,
}

/// How clients hand over their token, by user name.
#[derive(Clone, Debug, Default)]
pub struct Authentication {
    /// For those who are not named.
    pub usual: Method,
    /// For users by name.
    pub by_user: BTreeMap<String, Method>,
}

impl Authentication {
    fn method(&self, user: &str) -> Method {
        self.by_user.get(user).copied().unwrap_or(self.usual)
    }
}

/// How long a client keeps a backend.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum PoolMode {
    /// Until it leaves.
    Session,
    /// Until its transaction ends.
    Transaction,
}

/// Certificate and key for TLS towards clients, in PEM.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct ClientTls {
    /// The certificate chain, own certificate first.
    pub certificate: PathBuf,
    /// The private key.
    pub key: PathBuf,
}

/// Limits on clients and statements.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Most clients at a time.
    pub max_clients: usize,
    /// Longest statement text, in bytes.
    pub max_statement: usize,
    /// Longest run of a statement, enforced by the upstream; zero: no limit.
    pub statement_timeout: Duration,
    /// Longest pause within a transaction; zero: no limit.
    pub idle_in_transaction_timeout: Duration,
    /// How long a client may take none of what it is sent; zero: no limit.
    pub slow_client_timeout: Duration,
    /// How long a client may take to sign in.
    pub startup_timeout: Duration,
    /// Most bytes of long messages that are held at a time, of all clients together.
    pub max_buffered: usize,
}

impl Default for Limits {
    /// The contract's defaults.
    fn default() -> Self {
        Self {
            max_clients: 1000,
            max_statement: 1 << 20,
            statement_timeout: Duration::ZERO,
            idle_in_transaction_timeout: Duration::from_secs(300),
            slow_client_timeout: Duration::from_secs(300),
            startup_timeout: Duration::from_secs(30),
            max_buffered: 256 << 20,
        }
    }
}

/// What the front shares with the rest of the process. Cheap to clone.
#[derive(Clone)]
pub struct Shared {
    /// The policy in force.
    pub policy: Arc<ArcSwap<Policy>>,
    /// The upstream's catalogs.
    pub catalogs: Catalogs,
    /// Who verifies tokens.
    pub authenticator: Authenticator,
    /// The audit trail.
    pub audit: Audit,
    /// The tenants' quotas.
    pub limiter: Limiter,
    /// Whether new sessions are taken; while false they get `57P03`.
    pub ready: Arc<AtomicBool>,
}
