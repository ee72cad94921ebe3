//! The listener: accepts connections, bounds their number, drains at shutdown. Layer 5.
//!
//! pingora reads and writes HTTP on each connection; accepting is ours, because pingora's own server
//! bounds no connections and sleeps through its grace period at shutdown.

use std::io;
use std::net::SocketAddr;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use pingora::listeners::tls::Acceptor;
use pingora::protocols::Stream;
use pingora::protocols::l4::stream::Stream as TcpLink;
use rustls::ServerConfig;
use rustls::crypto::ring;
use rustls_pki_types::pem::PemObject as _;
use rustls_pki_types::{CertificateDer, PrivateKeyDer};
use tokio::net::{TcpListener, TcpStream};
use tokio::sync::Semaphore;
use tokio::task::JoinSet;
use tokio::time::{sleep, timeout};
use tokio_util::sync::CancellationToken;

use super::budget::Budget;
use super::credentials::{TokenSource, account_secret};
use super::dispatch::{Front, KnownJobs};
use super::dry_run::ReadAlike;
use super::exchange::{Exchange, Kept};
use super::judge::Judge;
use super::keyring::{Keyring, KeyringError};
use super::meters::{Counted, Meters};
use super::upload::Uploads;
use super::upstream::{self, Upstream};
use super::{CredentialError, Credentials, Settings, Shared};
use crate::sql::Limits;

/// Most connections at a time; further ones wait in the kernel's queue.
const MAX_CONNECTIONS: usize = 1_000;
/// KiB of request bodies that are held at a time.
const BODY_ROOM_KIB: usize = 256 << 10;
/// How long a TLS handshake may take.
const HANDSHAKE_TIMEOUT: Duration = Duration::from_secs(10);
/// Pause after a failed accept: the reason, such as too many open files, rarely goes away at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Where the metadata server is, if it is not where it usually is; as Google's libraries have it.
const METADATA_HOST_VARIABLE: &str = "GCE_METADATA_HOST";

/// The front cannot be set up. For the operator.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// The address cannot be listened on.
    #[error("bigquery.listen {address}: {source}")]
    Listen {
        /// The address.
        address: SocketAddr,
        /// Why.
        source: io::Error,
    },
    /// TLS towards clients.
    #[error("bigquery.tls: {}: {reason}", path.display())]
    Tls {
        /// The file.
        path: PathBuf,
        /// What is wrong with it.
        reason: String,
    },
    /// The upstream's URL, or the client for it.
    #[error("bigquery.upstream: {0}")]
    Upstream(String),
    /// The credentials.
    #[error(transparent)]
    Credentials(#[from] CredentialError),
    /// The key that binds ids to tenants.
    #[error(transparent)]
    Keyring(#[from] KeyringError),
}

/// A bound listener.
pub struct Server {
    front: Arc<Front>,
    listener: TcpListener,
    tls: Arc<ArcSwapOption<Acceptor>>,
}

/// Reads the client-side certificate anew, for connections that begin from then on.
#[derive(Clone)]
pub struct TlsReload {
    files: Option<(PathBuf, PathBuf)>,
    tls: Arc<ArcSwapOption<Acceptor>>,
}

/// Certificate and key that were read and found good.
pub struct TlsRenewal(Option<Acceptor>);

impl TlsReload {
    /// Reads certificate and key from their files. Nothing is in force yet.
    ///
    /// # Errors
    /// [`BindError::Tls`]
    pub fn prepare(&self) -> Result<TlsRenewal, BindError> {
        Ok(TlsRenewal(self.files.as_ref().map(acceptor).transpose()?))
    }

    /// Puts it in force, for connections that begin from now on.
    pub fn apply(&self, renewal: TlsRenewal) {
        self.tls.store(renewal.0.map(Arc::new));
    }
}

impl Server {
    /// Binds the socket, reads certificates, keys and credentials. Must be called within a tokio
    /// runtime, after the metrics recorder was installed.
    ///
    /// # Errors
    /// [`BindError`]
    pub async fn bind(settings: Settings, shared: Shared) -> Result<Self, BindError> {
        let address = settings.listen;
        let listener = TcpListener::bind(address)
            .await
            .map_err(|source| BindError::Listen { address, source })?;
        let tls = settings.tls.as_ref().map(acceptor).transpose()?;
        let base = reqwest::Url::parse(&settings.upstream)
            .map_err(|error| BindError::Upstream(error.to_string()))?;
        let here = base.host_str().is_some_and(|host| {
            let host = host.trim_start_matches('[').trim_end_matches(']');
            host == "localhost" || host.parse::<std::net::IpAddr>().is_ok_and(|ip| ip.is_loopback())
        });
        let client = upstream::client(here).map_err(BindError::Upstream)?;
        // The metadata server is on this machine's own network: no proxy leads there.
        let direct = upstream::client(matches!(settings.credentials, Credentials::Metadata))
            .map_err(BindError::Upstream)?;
        let metadata_host = std::env::var(METADATA_HOST_VARIABLE).ok();
        let tokens = TokenSource::new(&settings.credentials, direct, metadata_host)?;
        let keyring = match (&settings.ownership_key, &settings.credentials) {
            (Some(path), _) => Keyring::from_file(path)?,
            (None, Credentials::File(path)) => Keyring::from_secret(&account_secret(path)?),
            (None, Credentials::Metadata | Credentials::None) => {
                return Err(BindError::Upstream("no ownership key is configured".to_owned()));
            }
        };
        let meters = Arc::new(Meters::new());
        let limits = Limits { max_statement: settings.max_statement };
        let front = Front {
            upstream: Upstream::new(base, client, tokens),
            keyring,
            judge: Judge::new(Arc::clone(&meters), limits),
            meters,
            jobs: KnownJobs::new(),
            uploads: Uploads::new(),
            budget: Budget::new(),
            read_alike: settings.compare_dry_runs.then(ReadAlike::new),
            room: Arc::new(Semaphore::new(BODY_ROOM_KIB)),
            settings,
            shared,
        };
        let tls = Arc::new(ArcSwapOption::from_pointee(tls));
        Ok(Self { front: Arc::new(front), listener, tls })
    }

    /// The address that clients connect to.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.listener.local_addr().ok()
    }

    /// A handle for SIGHUP.
    pub fn tls_reload(&self) -> TlsReload {
        TlsReload { files: self.front.settings.tls.clone(), tls: Arc::clone(&self.tls) }
    }

    /// Serves until `shutdown`; then takes no new connections and requests, lets those under way
    /// finish within `drain_timeout`, and returns when all have ended.
    pub async fn run(self, shutdown: CancellationToken) {
        let Self { front, listener, tls } = self;
        let places = Arc::new(Semaphore::new(MAX_CONNECTIONS));
        let mut connections = JoinSet::new();
        loop {
            let place = tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                Some(ended) = connections.join_next(), if !connections.is_empty() => {
                    if ended.is_err() {
                        tracing::error!("a connection's task panicked");
                    }
                    continue;
                }
                place = Arc::clone(&places).acquire_owned() => place,
            };
            // INVARIANT: nobody closes the semaphore.
            let Ok(place) = place else { break };
            let accepted = tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                accepted = listener.accept() => accepted,
            };
            match accepted {
                Ok((stream, peer)) => {
                    let (front, tls, shutdown) =
                        (Arc::clone(&front), tls.load_full(), shutdown.clone());
                    connections.spawn(async move {
                        connection(front, stream, peer, tls, shutdown).await;
                        drop(place);
                    });
                }
                Err(error) => {
                    tracing::warn!(%error, "a connection could not be accepted");
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop(listener);
        let ended = async { while connections.join_next().await.is_some() {} };
        if timeout(front.settings.drain_timeout, ended).await.is_err() {
            tracing::warn!("requests were cut at shutdown");
        }
    }
}

async fn connection(
    front: Arc<Front>,
    stream: TcpStream,
    peer: SocketAddr,
    tls: Option<Arc<Acceptor>>,
    shutdown: CancellationToken,
) {
    let _counted = Counted::new(&front.meters.clients);
    if stream.set_nodelay(true).is_err() {
        return;
    }
    let link = TcpLink::from(stream);
    let stream: Stream = match tls {
        Some(acceptor) => match timeout(HANDSHAKE_TIMEOUT, acceptor.tls_handshake(link)).await {
            Ok(Ok(stream)) => Box::new(stream),
            Ok(Err(_)) | Err(_) => return,
        },
        None => Box::new(link),
    };
    let mut kept = Some(Kept::fresh(stream));
    while let Some(connection) = kept.take() {
        let next = Exchange::next(connection, peer, Arc::clone(&front.room));
        let exchange = tokio::select! {
            biased;
            () = shutdown.cancelled() => return,
            exchange = next => exchange,
        };
        let Some(mut exchange) = exchange else { return };
        let answer = front.answer(&mut exchange).await;
        if shutdown.is_cancelled() {
            exchange.last();
        }
        kept = exchange.finish(answer).await;
    }
}

/// Reads certificate and key.
fn acceptor((certificate, key): &(PathBuf, PathBuf)) -> Result<Acceptor, BindError> {
    let fault = |path: &PathBuf, reason: String| BindError::Tls { path: path.clone(), reason };
    let chain = CertificateDer::pem_file_iter(certificate)
        .and_then(Iterator::collect::<Result<Vec<_>, _>>)
        .map_err(|error| fault(certificate, error.to_string()))?;
    let private =
        PrivateKeyDer::from_pem_file(key).map_err(|error| fault(key, error.to_string()))?;
    let mut config = ServerConfig::builder_with_provider(Arc::new(ring::default_provider()))
        .with_safe_default_protocol_versions()
        .and_then(|builder| builder.with_no_client_auth().with_single_cert(chain, private))
        .map_err(|error| fault(certificate, error.to_string()))?;
    // HTTP/1.1 alone: every client of the API speaks it.
    config.alpn_protocols = vec![b"http/1.1".to_vec()];
    Ok(Acceptor::from_server_config(Arc::new(config)))
}
