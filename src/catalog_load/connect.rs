//! A session of Hedgerow's own with the upstream, for catalog queries and `hedgerow rls`. Layer 4.
//!
//! Client statements never come this way: they go through `postgres`, which accepts only what the
//! checker made.

use std::sync::Arc;
use std::time::Duration;

use tokio::time::timeout;
use tokio_postgres::config::{ChannelBinding, SslMode};
use tokio_postgres::{Client, Config, NoTls};

use super::binding::MakeTls;
use super::{CONNECT_TIMEOUT, LoadError, MAX_DATABASE_NAME, tls};
use crate::endpoint::{Binding, Endpoint};

/// What the server's activity view and log show of these sessions.
const APPLICATION_NAME: &str = "hedgerow";

/// Idle time after which the kernel asks whether a silent upstream is still there.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(30);

/// An open session. Dropping it says goodbye to the upstream and closes the connection.
pub struct Session {
    /// The session's client.
    pub client: Client,
}

/// Signs in to `database` as the endpoint's role.
///
/// # Errors
/// [`LoadError`] when the name cannot be a database's, TLS cannot be set up as asked for, or the
/// upstream refuses or does not answer within [`CONNECT_TIMEOUT`].
pub async fn connect(endpoint: &Endpoint, database: &str) -> Result<Session, LoadError> {
    if database.is_empty() || database.len() > MAX_DATABASE_NAME || database.contains('\0') {
        return Err(LoadError::DatabaseName);
    }
    let mut config = Config::new();
    config
        .host(&endpoint.host)
        .port(endpoint.port)
        .user(&endpoint.user)
        .dbname(database)
        .application_name(APPLICATION_NAME)
        .connect_timeout(CONNECT_TIMEOUT)
        .keepalives_idle(KEEPALIVE_IDLE)
        .channel_binding(match endpoint.channel_binding {
            Binding::Disable => ChannelBinding::Disable,
            Binding::Prefer => ChannelBinding::Prefer,
            Binding::Require => ChannelBinding::Require,
        });
    if let Some(password) = &endpoint.password {
        config.password(password.expose());
    }
    // A Unix socket has no TLS in PostgreSQL, whatever the mode says.
    let tls = if endpoint.host.starts_with('/') { None } else { tls::client_config(endpoint)? };
    let attempt = async {
        match tls {
            None => {
                config.ssl_mode(SslMode::Disable);
                let (client, connection) = config.connect(NoTls).await?;
                tokio::spawn(drive(connection));
                Ok(client)
            }
            Some(tls) => {
                config.ssl_mode(SslMode::Require);
                let (client, connection) = config.connect(MakeTls(Arc::new(tls))).await?;
                tokio::spawn(drive(connection));
                Ok(client)
            }
        }
    };
    match timeout(CONNECT_TIMEOUT, attempt).await {
        Ok(Ok(client)) => Ok(Session { client }),
        Ok(Err(error)) => Err(LoadError::Connect(Arc::new(error))),
        Err(_elapsed) => Err(LoadError::Timeout(CONNECT_TIMEOUT)),
    }
}

async fn drive(connection: impl Future<Output = Result<(), tokio_postgres::Error>>) {
    if let Err(error) = connection.await {
        // Whoever uses the client sees the same fault as the result of a query.
        tracing::debug!(%error, "catalog session ended");
    }
}
