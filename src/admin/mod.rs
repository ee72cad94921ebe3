//! Health, metrics and a look at the loaded policy, over HTTP. Layer 5.
//!
//! Owns: the admin listener (`/startup`, `/livez`, `/readyz`, `/metrics`, `/debug/policy`), the
//! [`Status`] that answers it, and the one Prometheus recorder of the process. Refuses: any other
//! path (404), any method but GET and HEAD (405), request bodies (413), heads over
//! [`MAX_HEAD_BYTES`] (431). It changes nothing and holds no secret; `/debug/policy` answers
//! loopback peers only, wherever the listener is bound.
//!
//! One connection carries one request and lives for [`CONNECTION_LIFETIME`] at most, so that
//! neither a slow nor an idle peer can keep a probe waiting for long.

mod policy_view;
mod recorder;
mod routes;
mod status;
#[cfg(test)]
mod tests;

use std::io;
use std::net::SocketAddr;
use std::time::{Duration, Instant};

use axum::{Extension, Router};
use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::task::JoinSet;
use tokio_util::sync::CancellationToken;

pub use recorder::{InstallError, Kind, METRICS, Metric, Recorder, install_recorder};
pub use status::{Probes, Readiness, Status};

/// Longest request head in bytes; a longer one is answered 431.
pub const MAX_HEAD_BYTES: usize = 16 * 1024;
/// Time in which the whole request head must have come.
pub const HEAD_TIMEOUT: Duration = Duration::from_secs(5);
/// Time after which a connection is closed, whatever it is doing.
pub const CONNECTION_LIFETIME: Duration = Duration::from_secs(15);
/// Connections at once; further ones wait in the kernel's queue.
pub const MAX_CONNECTIONS: usize = 64;
/// Time that answers under way have left once the server was told to stop.
pub const SHUTDOWN_GRACE: Duration = Duration::from_secs(2);
/// How often histograms are drained, so that they do not grow when nobody scrapes.
const UPKEEP_INTERVAL: Duration = Duration::from_secs(5);
/// Pause after a failed accept (out of file descriptors), so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);
/// Between two lines in the log about that.
const ACCEPT_LOG: Duration = Duration::from_secs(10);

/// Where the admin server listens.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Settings {
    /// Address and port (`admin.listen`); port 0 takes a free one.
    pub listen: SocketAddr,
}

/// The bound admin server.
pub struct Server {
    listener: TcpListener,
    router: Router,
    recorder: Recorder,
}

/// The address of the peer of a connection, as the routes see it.
#[derive(Clone, Copy, Debug)]
struct Peer(SocketAddr);

impl Server {
    /// Takes the port and makes sure that the Prometheus recorder is installed. Metrics that are
    /// touched before [`install_recorder`] ran are lost, so call that first thing; here it only
    /// hands out the same recorder again.
    ///
    /// # Errors
    /// The port cannot be taken, or a foreign metrics recorder is installed in this process.
    pub async fn bind(settings: Settings, status: Status) -> io::Result<Self> {
        let recorder = install_recorder().map_err(io::Error::other)?;
        let listener = TcpListener::bind(settings.listen).await?;
        let router = routes::router(status, recorder.clone());
        Ok(Self { listener, router, recorder })
    }

    /// Where it listens, with the port that was taken.
    ///
    /// # Errors
    /// The operating system does not say.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Serves until `shutdown` is cancelled, then gives answers under way [`SHUTDOWN_GRACE`].
    ///
    /// While the process drains, `/readyz` must still be answered (with 503): cancel this server
    /// last, after the sessions are gone.
    pub async fn run(self, shutdown: CancellationToken) {
        let Self { listener, router, recorder } = self;
        let mut connections = JoinSet::new();
        let mut upkeep = tokio::time::interval(UPKEEP_INTERVAL);
        upkeep.set_missed_tick_behavior(tokio::time::MissedTickBehavior::Delay);
        let mut told: Option<Instant> = None;
        loop {
            tokio::select! {
                () = shutdown.cancelled() => break,
                _ = upkeep.tick() => recorder.run_upkeep(),
                Some(_) = connections.join_next(), if !connections.is_empty() => {}
                accepted = listener.accept(), if connections.len() < MAX_CONNECTIONS => {
                    match accepted {
                        Ok((stream, peer)) => {
                            let router = router.clone().layer(Extension(Peer(peer)));
                            connections.spawn(serve(stream, router, shutdown.clone()));
                        }
                        Err(error) => {
                            if told.is_none_or(|told| told.elapsed() >= ACCEPT_LOG) {
                                told = Some(Instant::now());
                                tracing::warn!(%error, "admin: connections cannot be accepted");
                            }
                            tokio::time::sleep(ACCEPT_PAUSE).await;
                        }
                    }
                }
            }
        }
        drop(listener);
        let all_answered = async { while connections.join_next().await.is_some() {} };
        if tokio::time::timeout(SHUTDOWN_GRACE, all_answered).await.is_err() {
            tracing::debug!("admin: connections were cut at shutdown");
        }
    }
}

/// One connection: one request, one answer.
async fn serve<S>(stream: S, router: Router, shutdown: CancellationToken)
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD_BYTES)
        .keep_alive(false)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    let mut connection = std::pin::pin!(connection);
    let answered = async {
        tokio::select! {
            result = connection.as_mut() => return result,
            () = shutdown.cancelled() => {}
        }
        connection.as_mut().graceful_shutdown();
        connection.await
    };
    match tokio::time::timeout(CONNECTION_LIFETIME, answered).await {
        Ok(Ok(())) => {}
        Ok(Err(error)) => tracing::debug!(%error, "admin: a connection ended early"),
        Err(_) => tracing::debug!("admin: a connection outlived its time and was cut"),
    }
}
