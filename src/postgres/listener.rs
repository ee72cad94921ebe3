//! The listener: accepts clients, bounds their number, drains at shutdown. Layer 5.

use std::io;
use std::net::SocketAddr;
use std::os::unix::fs::{FileTypeExt as _, PermissionsExt as _};
use std::path::{Path, PathBuf};
use std::sync::Arc;
use std::sync::atomic::Ordering;
use std::time::Duration;

use arc_swap::ArcSwapOption;
use dashmap::DashMap;
use tokio::net::{TcpListener, UnixListener};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::task::JoinSet;
use tokio::time::{Instant, sleep, timeout};
use tokio_rustls::TlsAcceptor;
use tokio_util::sync::CancellationToken;

use super::answer::Answer;
use super::cancel::CancelKeys;
use super::crew::{Crew, Seat};
use super::judge::Decision;
use super::limits::{ClientPlace, InForce, Met};
use super::meters::{Counted, Meters};
use super::pool::Pool;
use super::recorder::{Caller, Recorder};
use super::sessions::Sessions;
use super::sign_in::{self, SignInFault, farewell, refuse};
use super::socket::tune;
use super::startup::{Incoming, Opening, StartupFault, negotiate};
use super::tls::{self, TlsFileError};
use super::upstream::Connector;
use super::{ClientTls, Limits, Settings, Shared};
use crate::audit::ClientAddress;
use crate::catalog_load::LoadError;
use crate::claims::ClaimPath;
use crate::decide::Verdicts;
use crate::error::SqlState;

/// Connections beyond `max_clients` that are told so, or that bring a cancel request.
const MAX_TURNED_AWAY: usize = 100;
/// Pause after a failed accept: the reason, such as too many open files, rarely goes away at once.
const ACCEPT_PAUSE: Duration = Duration::from_millis(50);
/// Between two lines in the log about connections that cannot be accepted.
const ACCEPT_LOG: Duration = Duration::from_secs(10);
/// Memory for verdicts that were reached before, of all tenants together.
const VERDICT_BYTES: u64 = 64 << 20;
/// The port in a Unix socket's name when there is no TCP port.
const DEFAULT_PORT: u16 = 5432;

/// The front cannot be set up. For the operator.
#[derive(Debug, thiserror::Error)]
pub enum BindError {
    /// Neither TCP nor Unix socket.
    #[error("postgres: neither listen nor unix_socket is configured")]
    Nowhere,
    /// The address or path cannot be listened on.
    #[error("postgres: cannot listen on {address}: {source}")]
    Listen {
        /// The address or path.
        address: String,
        /// Why.
        source: io::Error,
    },
    /// No threads for sessions.
    #[error("postgres: no threads: {0}")]
    Threads(io::Error),
    /// TLS towards clients.
    #[error("postgres: TLS: {0}")]
    Tls(#[from] TlsFileError),
    /// TLS towards the upstream.
    #[error("postgres: upstream: {0}")]
    Upstream(#[from] LoadError),
}

impl From<BindError> for io::Error {
    fn from(error: BindError) -> Self {
        Self::other(error)
    }
}

/// What all sessions share.
pub(super) struct Front {
    pub(super) settings: Settings,
    pub(super) shared: Shared,
    pub(super) meters: Arc<Meters>,
    pub(super) connector: Arc<Connector>,
    pub(super) upstream_name: Arc<str>,
    pub(super) cancel_keys: CancelKeys,
    pub(super) verdicts: Arc<Verdicts<Decision>>,
    /// Backends, by database.
    pub(super) pools: DashMap<String, Arc<Pool>>,
    pub(super) sessions: Sessions,
    pub(super) session_variables: Arc<[(String, ClaimPath)]>,
    tls: ArcSwapOption<TlsAcceptor>,
    pub(super) limits: InForce,
    turned_away: Arc<Semaphore>,
}

/// A bound listener.
pub struct Server {
    front: Arc<Front>,
    crew: Crew,
    tcp: Option<TcpListener>,
    unix: Option<(UnixListener, SocketFile)>,
}

/// Replaces what can be replaced while sessions run. Cheap to clone.
#[derive(Clone)]
pub struct Reload(Arc<Front>);

/// Certificate, key and limits that were read and found good.
pub struct Renewal {
    tls: Option<TlsAcceptor>,
    limits: Limits,
}

impl Reload {
    /// Reads certificate and key from their files. Nothing is in force yet.
    ///
    /// # Errors
    /// [`TlsFileError`].
    pub fn prepare(
        &self,
        tls: Option<&ClientTls>,
        limits: Limits,
    ) -> Result<Renewal, TlsFileError> {
        Ok(Renewal { tls: tls.map(tls::acceptor).transpose()?, limits })
    }

    /// Puts it in force: the certificate for connections that begin from now on, limits for all.
    pub fn apply(&self, renewal: Renewal) {
        self.0.tls.store(renewal.tls.map(Arc::new));
        self.0.limits.replace(renewal.limits);
    }
}

/// A Unix socket's file: removed when dropped.
struct SocketFile(PathBuf);

impl Drop for SocketFile {
    fn drop(&mut self) {
        // It may have been removed by others; then there is nothing to do.
        let _gone = std::fs::remove_file(&self.0);
    }
}

impl Front {
    /// The backends of a database.
    pub(super) fn pool(&self, database: &str) -> Arc<Pool> {
        if let Some(pool) = self.pools.get(database) {
            return Arc::clone(&pool);
        }
        let fresh = || {
            Pool::new(
                database,
                Arc::clone(&self.connector),
                self.settings.max_connections,
                self.settings.idle_timeout,
                Arc::clone(&self.meters),
            )
        };
        Arc::clone(&self.pools.entry(database.to_owned()).or_insert_with(fresh))
    }
}

impl Server {
    /// Binds the sockets and reads certificates. Must be called within a tokio runtime, after the
    /// metrics recorder was installed.
    ///
    /// # Errors
    /// [`BindError`].
    pub async fn bind(settings: Settings, shared: Shared) -> Result<Self, BindError> {
        let fault = |address: String| move |source| BindError::Listen { address, source };
        let tcp = match settings.listen {
            Some(address) => {
                Some(TcpListener::bind(address).await.map_err(fault(address.to_string()))?)
            }
            None => None,
        };
        let port = tcp
            .as_ref()
            .and_then(|listener| listener.local_addr().ok())
            .map_or(DEFAULT_PORT, |address| address.port());
        let unix = match &settings.unix_socket {
            Some(directory) => {
                let path = directory.join(format!(".s.PGSQL.{port}"));
                Some(bind_unix(&path).await.map_err(fault(path.display().to_string()))?)
            }
            None => None,
        };
        if tcp.is_none() && unix.is_none() {
            return Err(BindError::Nowhere);
        }
        let tls = settings.tls.as_ref().map(tls::acceptor).transpose()?;
        let connector = Connector::new(settings.endpoint.clone())?;
        let front = Front {
            upstream_name: connector.name().into(),
            connector: Arc::new(connector),
            meters: Arc::new(Meters::new()),
            cancel_keys: CancelKeys::default(),
            verdicts: Arc::new(Verdicts::new(VERDICT_BYTES)),
            pools: DashMap::new(),
            sessions: Sessions::default(),
            session_variables: settings.session_variables.clone().into(),
            tls: ArcSwapOption::from_pointee(tls),
            limits: InForce::new(settings.limits),
            turned_away: Arc::new(Semaphore::new(MAX_TURNED_AWAY)),
            settings,
            shared,
        };
        let crew = Crew::start().map_err(BindError::Threads)?;
        Ok(Self { front: Arc::new(front), crew, tcp, unix })
    }

    /// The TCP address that clients connect to.
    pub fn local_addr(&self) -> Option<SocketAddr> {
        self.tcp.as_ref().and_then(|listener| listener.local_addr().ok())
    }

    /// A handle for SIGHUP.
    pub fn reload(&self) -> Reload {
        Reload(Arc::clone(&self.front))
    }

    /// Serves until `shutdown`; then takes no new clients, lets transactions finish within
    /// `drain_timeout`, and returns when every session has ended.
    pub async fn run(self, shutdown: CancellationToken) {
        let Self { front, crew, tcp, unix } = self;
        let mut sessions = JoinSet::new();
        let waking = front
            .shared
            .authenticator
            .revocation_changes()
            .map(|changes| tokio::spawn(front.sessions.clone().wake_at(changes)));
        let mut refusals = Refusals::default();
        loop {
            let accepted = tokio::select! {
                biased;
                () = shutdown.cancelled() => break,
                accepted = accept(tcp.as_ref(), unix.as_ref().map(|(listener, _)| listener)) => accepted,
                Some(ended) = sessions.join_next(), if !sessions.is_empty() => {
                    if ended.is_err() {
                        // Its sockets are closed, its backend with them.
                        tracing::error!("a session's task panicked");
                    }
                    continue;
                }
            };
            match accepted {
                Ok(incoming) => admit(&front, incoming, &shutdown, (&crew, &mut sessions)),
                Err(error) => {
                    refusals.note(&error);
                    // Sessions that end give back what is missing.
                    sleep(ACCEPT_PAUSE).await;
                }
            }
        }
        drop((tcp, unix));
        while sessions.join_next().await.is_some() {}
        if let Some(waking) = waking {
            waking.abort();
        }
        let pools: Vec<_> = front.pools.iter().map(|pool| Arc::clone(&pool)).collect();
        for pool in pools {
            pool.shut().await;
        }
        // What runs on its threads still has nothing to finish.
        drop(crew);
    }
}

/// Connections that could not be accepted since the log was told of it.
#[derive(Default)]
struct Refusals {
    count: u64,
    told: Option<Instant>,
}

impl Refusals {
    fn note(&mut self, error: &io::Error) {
        Met::FileDescriptors.count();
        self.count = self.count.saturating_add(1);
        if self.told.is_none_or(|told| told.elapsed() >= ACCEPT_LOG) {
            tracing::error!(
                %error, tries = self.count,
                "connections cannot be accepted; if too many files are open, raise the limit of \
                 open files or lower max_clients"
            );
            *self = Self { count: 0, told: Some(Instant::now()) };
        }
    }
}

async fn accept(tcp: Option<&TcpListener>, unix: Option<&UnixListener>) -> io::Result<Incoming> {
    let tcp = async {
        match tcp {
            Some(listener) => {
                let (stream, peer) = listener.accept().await?;
                tune(&stream);
                Ok(Incoming::Tcp(stream, peer))
            }
            None => std::future::pending().await,
        }
    };
    let unix = async {
        match unix {
            Some(listener) => listener.accept().await.map(|(stream, _)| Incoming::Unix(stream)),
            None => std::future::pending().await,
        }
    };
    tokio::select! { incoming = tcp => incoming, incoming = unix => incoming }
}

async fn bind_unix(path: &Path) -> io::Result<(UnixListener, SocketFile)> {
    let stale = std::fs::symlink_metadata(path).is_ok_and(|file| file.file_type().is_socket())
        && tokio::net::UnixStream::connect(path)
            .await
            .is_err_and(|error| error.kind() == io::ErrorKind::ConnectionRefused);
    if stale {
        std::fs::remove_file(path)?;
    }
    let listener = UnixListener::bind(path)?;
    // As PostgreSQL's: who may connect is said by the directory, who is calling by the token.
    std::fs::set_permissions(path, std::fs::Permissions::from_mode(0o777))?;
    Ok((listener, SocketFile(path.to_owned())))
}

/// A connection's place, given back when dropped.
enum Place {
    /// Among the clients.
    Client(#[expect(dead_code, reason = "held until it is dropped")] ClientPlace),
    /// There is no place left: among those who are told so.
    TurnedAway(#[expect(dead_code, reason = "held until it is dropped")] OwnedSemaphorePermit),
}

fn admit(
    front: &Arc<Front>,
    incoming: Incoming,
    shutdown: &CancellationToken,
    (crew, sessions): (&Crew, &mut JoinSet<()>),
) {
    let Some(seat) = crew.seat() else { return };
    let runtime = seat.runtime.clone();
    let place = match front.limits.client() {
        Some(place) => Place::Client(place),
        None => match Arc::clone(&front.turned_away).try_acquire_owned() {
            Ok(permit) => Place::TurnedAway(permit),
            // A flood: nobody is told.
            Err(_flood) => return Met::MaxClients.count(),
        },
    };
    // A token of its own: a session asks it at each wake-up, and one for all would be a lock for all.
    let served = serve(Arc::clone(front), incoming, (place, seat), shutdown.child_token());
    sessions.spawn_on(served, &runtime);
}

async fn serve(
    front: Arc<Front>,
    incoming: Incoming,
    (place, seat): (Place, Seat),
    shutdown: CancellationToken,
) {
    let incoming = match incoming.brought_here() {
        Ok(incoming) => incoming,
        Err(error) => return tracing::debug!(%error, "a connection was lost before it began"),
    };
    let patience = front.limits.now().startup_timeout;
    let signing_in = Counted::new(&front.meters.clients_signing_in);
    let signed_in = tokio::select! {
        // What signing in takes is given back before the session waits for its first statement.
        signed_in = timeout(patience, Box::pin(open(&front, incoming, &place))) => signed_in,
        // Who has not signed in has nothing to finish.
        () = shutdown.cancelled() => return,
    };
    drop(signing_in);
    let mut signed_in = match signed_in {
        Ok(Some(signed_in)) => signed_in,
        Ok(None) => return,
        Err(_elapsed) => {
            tracing::info!(seconds = patience.as_secs(), "a client did not sign in in time");
            return Met::Startup.count();
        }
    };
    let _active = Counted::new(&front.meters.clients_active);
    let sign_in::SignedIn { session, registered, .. } = &mut *signed_in;
    let end = session.run(&shutdown, &registered.wake, front.settings.drain_timeout).await;
    tracing::debug!(?end, "session ended");
    drop((signed_in, place, seat));
}

/// Signs a client in. `None`: it was told why not.
async fn open(front: &Front, incoming: Incoming, place: &Place) -> Option<Box<sign_in::SignedIn>> {
    let address = match &incoming {
        Incoming::Tcp(_, peer) => ClientAddress::Tcp(*peer),
        Incoming::Unix(_) => ClientAddress::Unix,
    };
    let tls = front.tls.load_full();
    match negotiate(incoming, tls.as_deref()).await {
        Ok(Opening::Cancel { asking, process, secret }) => {
            if let Some(flight) = front.cancel_keys.find(process, &secret) {
                flight.cancel().await;
            }
            drop(asking);
            None
        }
        Ok(Opening::Session { mut opened, version, requested }) => {
            if let Some(answer) = not_now(front, place) {
                farewell(&mut opened.socket, &answer).await;
                return None;
            }
            let admitted =
                Box::pin(sign_in::sign_in(front, &mut opened, address, &requested)).await;
            let (mut opened, answer) = match admitted {
                Ok(admitted) => match admitted.welcome(front, opened, version) {
                    Ok(signed_in) => return Some(Box::new(signed_in)),
                    Err(refused) => *refused,
                },
                Err(SignInFault::Told(answer)) => (opened, answer),
                Err(SignInFault::ClientLeft) => return None,
            };
            farewell(&mut opened.socket, &answer).await;
            None
        }
        Err(StartupFault::Silent) => None,
        Err(StartupFault::Told(mut opened, answer)) => {
            farewell(&mut opened.socket, &answer).await;
            None
        }
        Err(StartupFault::Denied(mut opened, denial)) => {
            let caller = Caller {
                address,
                user: "".into(),
                application: None,
                database: "".into(),
                upstream: Arc::clone(&front.upstream_name),
            };
            let recorder =
                Recorder::new(front.shared.audit.clone(), &caller, Arc::clone(&front.meters));
            let answer = refuse(&recorder, &denial, denial.sqlstate()).await;
            farewell(&mut opened.socket, &answer).await;
            None
        }
    }
}

/// Why a client cannot be served, whoever it is.
fn not_now(front: &Front, place: &Place) -> Option<Answer> {
    match place {
        Place::TurnedAway(_) => {
            Met::MaxClients.count();
            Some(
                Answer::new(SqlState::TOO_MANY_CONNECTIONS, "too many clients")
                    .with_hint("Try again later, or ask the operator for a larger limit."),
            )
        }
        Place::Client(_) if !front.shared.ready.load(Ordering::Acquire) => Some(
            Answer::new(SqlState::CANNOT_CONNECT_NOW, "not ready").with_hint("Try again later."),
        ),
        Place::Client(_) => None,
    }
}
