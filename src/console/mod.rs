//! The auditors' web page over the audit files of many sidecars. Layer 5.
//!
//! Owns: an index over the files (`index`, `watch`), the answers to queries (`query`, `select`), the
//! pages (`pages`, `templates/`), and who may look (`access`). Refuses: to write anything, to ask
//! anybody outside, requests under a foreign `Host`, and to show records to whoever has not signed in
//! where the listener is not on loopback.
//!
//! Text in records comes from clients, and so from attackers: templates escape every field, the
//! content security policy runs no script but the page's own file, exports carry no formula.

mod access;
mod diff;
mod export;
mod http;
mod index;
mod pages;
mod query;
mod records;
mod select;
mod text;
mod watch;
mod why;

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use hyper::server::conn::http1;
use hyper_util::rt::{TokioIo, TokioTimer};
use hyper_util::service::TowerToHyperService;
use tokio::io::{AsyncRead, AsyncWrite};
use tokio::net::TcpListener;
use tokio::sync::Semaphore;
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

pub use access::{Access, RequiredClaim, SignIn};

use crate::audit::TrustedKeys;

/// Longest request head, in bytes: a search and a token fit.
const MAX_HEAD_BYTES: usize = 32 * 1024;
/// Time in which the whole request head, and the TLS handshake before it, must have come.
const HEAD_TIMEOUT: Duration = Duration::from_secs(15);
/// Connections at once; further ones wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 256;
/// Pause after a failed accept, so that the loop does not spin.
const ACCEPT_PAUSE: Duration = Duration::from_millis(100);

/// What a statement would become under the policies that are loaded now.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Outlook {
    /// It would be sent, as this text.
    Sent(String),
    /// It would be denied: code, and reason in plain words.
    Denied(String, String),
    /// It cannot be told, and why.
    Unknown(String),
}

/// Computes an [`Outlook`] from the statement and the tenant of a record.
pub type Explainer = Box<dyn Fn(&str, &str) -> Outlook + Send + Sync>;

/// What the console shows, and to whom.
pub struct Settings {
    /// Segment files, or directories of them.
    pub paths: Vec<PathBuf>,
    /// The public keys to trust; `None`: those that lie beside the records.
    pub keys: Option<TrustedKeys>,
    /// Bound of the index, in bytes.
    pub memory: u64,
    /// Where to listen.
    pub listen: SocketAddr,
    /// Names that a `Host` header may give, besides addresses and `localhost`.
    pub hosts: Vec<String>,
    /// Who may look.
    pub access: Access,
    /// TLS, where the console itself ends it.
    pub tls: Option<TlsAcceptor>,
    /// What a statement would become now, where policies were given.
    pub explainer: Option<Explainer>,
}

/// What every answer may need.
struct State {
    watch: watch::Watch,
    hosts: Vec<String>,
    access: Access,
    explainer: Option<Explainer>,
}

/// The bound console.
pub struct Server {
    listener: TcpListener,
    tls: Option<TlsAcceptor>,
    state: Arc<State>,
}

/// How far the index is built.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Built {
    /// Bytes read, and bytes there are.
    pub bytes: (u64, u64),
    /// Records so far.
    pub records: u64,
    /// Whether everything that was there at the start is read.
    pub complete: bool,
}

impl Server {
    /// Takes the port and begins to read.
    ///
    /// # Errors
    /// The port cannot be taken, or the system gives no thread.
    pub async fn bind(settings: Settings) -> io::Result<Self> {
        let listener = TcpListener::bind(settings.listen).await?;
        let watch = watch::watch(settings.paths, settings.keys, settings.memory)?;
        let state = State {
            watch,
            hosts: settings.hosts,
            access: settings.access,
            explainer: settings.explainer,
        };
        Ok(Self { listener, tls: settings.tls, state: Arc::new(state) })
    }

    /// Where it listens, with the port that was taken.
    ///
    /// # Errors
    /// The operating system does not say.
    pub fn local_addr(&self) -> io::Result<SocketAddr> {
        self.listener.local_addr()
    }

    /// Tells how far the index is built, as long as the answer is kept.
    pub fn built(&self) -> impl Fn() -> Built + Send + use<> {
        let shared = Arc::clone(&self.state.watch.shared);
        move || Built {
            bytes: shared.progress.bytes(),
            records: watch::read(&shared.index).rows().len() as u64,
            complete: !shared.progress.building(),
        }
    }

    /// Serves until `shutdown` is cancelled. Connections are cut then: nothing here is in the middle
    /// of anything that matters.
    pub async fn run(self, shutdown: CancellationToken) {
        let Self { listener, tls, state } = self;
        let router = http::router(state);
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        loop {
            let Ok(place) = Arc::clone(&places).acquire_owned().await else { return };
            let accepted = tokio::select! {
                () = shutdown.cancelled() => return,
                accepted = listener.accept() => accepted,
            };
            let stream = match accepted {
                Ok((stream, _)) => stream,
                Err(error) => {
                    tracing::warn!(%error, "console: a connection could not be accepted");
                    tokio::time::sleep(ACCEPT_PAUSE).await;
                    continue;
                }
            };
            let (router, tls, stop) = (router.clone(), tls.clone(), shutdown.clone());
            tokio::spawn(async move {
                let _place = place;
                let serving = async {
                    match tls {
                        None => serve(stream, router).await,
                        Some(tls) => {
                            match tokio::time::timeout(HEAD_TIMEOUT, tls.accept(stream)).await {
                                Ok(Ok(stream)) => serve(stream, router).await,
                                Ok(Err(error)) => tracing::debug!(%error, "console: TLS"),
                                Err(_) => tracing::debug!("console: TLS took too long"),
                            }
                        }
                    }
                };
                tokio::select! {
                    () = serving => {}
                    () = stop.cancelled() => {}
                }
            });
        }
    }
}

async fn serve<S>(stream: S, router: axum::Router)
where
    S: AsyncRead + AsyncWrite + Unpin + Send,
{
    let connection = http1::Builder::new()
        .timer(TokioTimer::new())
        .header_read_timeout(HEAD_TIMEOUT)
        .max_buf_size(MAX_HEAD_BYTES)
        .serve_connection(TokioIo::new(stream), TowerToHyperService::new(router));
    if let Err(error) = connection.await {
        tracing::debug!(%error, "console: a connection ended early");
    }
}
