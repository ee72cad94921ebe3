//! The door to Redis: one server or a cluster, found out by asking. Layer 4.
//!
//! Nobody waits for Redis while a statement waits: what is kept there is exchanged in the
//! background. A connection that fails is dropped and made anew at the next use; whether there is
//! one is a metric.

use std::future::Future;
use std::time::Duration;

use redis::aio::{ConnectionLike, MultiplexedConnection};
use redis::cluster::ClusterClientBuilder;
use redis::cluster_async::ClusterConnection;
use redis::{
    AsyncConnectionConfig, Client, Cmd, ErrorKind, Pipeline, RedisError, RedisFuture, Value,
};

/// For a connection to come about, and for an answer.
const TIMEOUT: Duration = Duration::from_secs(2);

/// A Redis that may or may not be there.
pub struct Store {
    /// SECURITY: may hold a password; never printed.
    url: String,
    /// What it is used for, in the log and the metric.
    usage: &'static str,
    connection: Option<Connection>,
    up: Option<bool>,
}

/// A connection; cheap to clone.
#[derive(Clone)]
pub enum Connection {
    /// To the one server.
    One(MultiplexedConnection),
    /// To all nodes of a cluster.
    Cluster(ClusterConnection),
}

impl ConnectionLike for Connection {
    fn req_packed_command<'a>(&'a mut self, command: &'a Cmd) -> RedisFuture<'a, Value> {
        match self {
            Self::One(connection) => connection.req_packed_command(command),
            Self::Cluster(connection) => connection.req_packed_command(command),
        }
    }

    fn req_packed_commands<'a>(
        &'a mut self,
        pipeline: &'a Pipeline,
        offset: usize,
        count: usize,
    ) -> RedisFuture<'a, Vec<Value>> {
        match self {
            Self::One(connection) => connection.req_packed_commands(pipeline, offset, count),
            Self::Cluster(connection) => connection.req_packed_commands(pipeline, offset, count),
        }
    }

    fn get_db(&self) -> i64 {
        match self {
            Self::One(connection) => connection.get_db(),
            Self::Cluster(connection) => connection.get_db(),
        }
    }
}

/// Whether a text can be the URL of a Redis: `redis://` or `rediss://`, as `redis` reads it.
pub fn is_url(url: &str) -> bool {
    (url.starts_with("redis://") || url.starts_with("rediss://")) && Client::open(url).is_ok()
}

impl Store {
    /// A store that is not connected yet.
    pub fn new(url: &str, usage: &'static str) -> Self {
        Self { url: url.to_owned(), usage, connection: None, up: None }
    }

    /// Does something there, within a bounded time; the outcome is logged when it is another than
    /// the last, and told by `hedgerow_redis_up`.
    ///
    /// # Errors
    /// What Redis or the way to it says. The connection is given up, unless Redis itself answered.
    pub async fn with<T, F: Future<Output = Result<T, RedisError>>>(
        &mut self,
        work: impl FnOnce(Connection) -> F,
    ) -> Result<T, RedisError> {
        let attempt = async {
            let connection = match &self.connection {
                Some(connection) => connection.clone(),
                None => self.connection.insert(connect(&self.url).await?).clone(),
            };
            work(connection).await
        };
        let outcome = tokio::time::timeout(4 * TIMEOUT, attempt)
            .await
            .unwrap_or_else(|_elapsed| Err((ErrorKind::Io, "no answer in time").into()));
        if outcome.is_err() {
            self.connection = None;
        }
        self.tell(outcome.as_ref().err());
        outcome
    }

    fn tell(&mut self, error: Option<&RedisError>) {
        let up = error.is_none();
        metrics::gauge!("hedgerow_redis_up", "use" => self.usage).set(f64::from(u8::from(up)));
        if self.up.replace(up) == Some(up) {
            return;
        }
        match error {
            None => tracing::info!(r#use = self.usage, "Redis answers"),
            Some(error) => tracing::error!(
                r#use = self.usage, %error,
                "Redis cannot be used: what is known stays in force, others' news does not come"
            ),
        }
    }
}

async fn connect(url: &str) -> Result<Connection, RedisError> {
    let client = Client::open(url)?;
    let config = AsyncConnectionConfig::new()
        .set_connection_timeout(Some(TIMEOUT))
        .set_response_timeout(Some(TIMEOUT));
    let mut one = client.get_multiplexed_async_connection_with_config(&config).await?;
    let info: String = redis::cmd("INFO").arg("cluster").query_async(&mut one).await?;
    if !info.contains("cluster_enabled:1") {
        return Ok(Connection::One(one));
    }
    let cluster = ClusterClientBuilder::new([url])
        .connection_timeout(TIMEOUT)
        .response_timeout(TIMEOUT)
        .build()?;
    Ok(Connection::Cluster(cluster.get_async_connection().await?))
}
