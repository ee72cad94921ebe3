//! From an opened connection to a session: token, audit, backend. Layer 5.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::time::timeout;

use super::answer::Answer;
use super::cancel::{Flight, IssuedKey};
use super::judge::Judge;
use super::listener::Front;
use super::parameters::Requested;
use super::pool::{Backend, Overlay};
use super::recorder::{Caller, Recorder};
use super::session::{Beginning, Link, Rules, Session};
use super::sessions::Registered;
use super::socket::Socket;
use super::startup::Opened;
use super::who::{Door, Standing, Who};
use super::{Method, PoolMode, oauth};
use crate::audit::ClientAddress;
use crate::decide::Recent;
use crate::error::{Denial, DenialCode, SqlState};
use crate::identity::VerifiedIdentity;
use crate::sql::temporary::Temporary;
use crate::wire::backend::{
    TransactionStatus, authentication_cleartext_password, authentication_ok, backend_key_data,
    ready_for_query,
};
use crate::wire::error_fields::Severity;
use crate::wire::startup::{MAX_PASSWORD_BYTES, ProtocolVersion};
use crate::wire::{FrameBuffer, FrameFault, Piece, Plan, frontend};

/// How long a farewell may take to reach a client that does not read.
const FAREWELL_TIMEOUT: Duration = Duration::from_secs(2);
/// How long a client may take to hang up once it was told.
const LINGER: Duration = Duration::from_millis(500);

/// Why there is no session.
pub(super) enum SignInFault {
    /// The client hung up.
    ClientLeft,
    /// The client is told.
    Told(Answer),
}

impl From<Answer> for SignInFault {
    fn from(answer: Answer) -> Self {
        Self::Told(answer)
    }
}

/// A session, and what lives as long as it does.
pub(super) struct SignedIn {
    pub(super) session: Session<Socket>,
    pub(super) registered: Registered,
    _key: IssuedKey,
    _flight: Arc<Flight>,
}

/// Tells a client that its connection ends, and why.
pub(super) async fn farewell<C>(client: &mut C, answer: &Answer)
where
    C: AsyncRead + AsyncWrite + Unpin,
{
    let mut out = BytesMut::new();
    answer.fields(Severity::Fatal).encode_error(&mut out);
    let told = async {
        client.write_all(&out).await?;
        client.shutdown().await
    };
    // A client that does not listen is not told.
    if let Ok(Ok(())) = timeout(FAREWELL_TIMEOUT, told).await {
        linger(client).await;
    }
}

/// Waits for the other side to hang up: a socket that is closed with bytes unread takes back what was
/// written.
pub(super) async fn linger<C: AsyncRead + Unpin>(client: &mut C) {
    let hung_up = async {
        let mut ignored = [0; 1024];
        while client.read(&mut ignored).await.is_ok_and(|read| read > 0) {}
    };
    let _still_there = timeout(LINGER, hung_up).await;
}

/// Who this client says it is.
pub(super) fn caller(front: &Front, address: ClientAddress, requested: &Requested) -> Caller {
    Caller {
        address,
        user: requested.user.as_str().into(),
        application: requested.application_name().map(Into::into),
        database: front.connector.database(&requested.database).into(),
        upstream: Arc::clone(&front.upstream_name),
    }
}

/// Verifies who is calling and opens a backend.
pub(super) async fn sign_in(
    front: &Front,
    opened: &mut Opened,
    address: ClientAddress,
    requested: &Requested,
) -> Result<Admitted, SignInFault> {
    let caller = caller(front, address, requested);
    let mut recorder =
        Recorder::new(front.shared.audit.clone(), &caller, Arc::clone(&front.meters));
    let identity = identify(front, opened, requested, &recorder).await?;
    recorder.identified(&identity);
    // The catalog comes first: a database that does not exist gets no entry among the backends.
    let catalog = match front.shared.catalogs.current(&caller.database).await {
        Ok(catalog) => catalog,
        Err(error) => {
            tracing::warn!(%error, "no catalog for a new session");
            return Err(unreachable_upstream().into());
        }
    };
    let mut requested = requested.clone();
    requested.token = None;
    if let Err(denial) = requested.take_search_path(&catalog) {
        return Err(refuse(&recorder, &denial, denial.sqlstate()).await.into());
    }
    let mut door = Door {
        pool: front.pool(&caller.database),
        mode: front.settings.pool_mode,
        authenticator: Some(front.shared.authenticator.clone()),
        policy: Arc::clone(&front.shared.policy),
        database: Arc::clone(&caller.database),
        requested: requested.clone(),
        limits: front.limits.now(),
        variables: Arc::clone(&front.session_variables),
        serial: 0,
    };
    let who = match door.admit(identity) {
        Ok(who) => who,
        Err(denial) => return Err(refuse(&recorder, &denial, denial.sqlstate()).await.into()),
    };
    recorder.signed_in().await.map_err(|_unavailable| Answer::audit_unavailable())?;
    let (statuses, backend) = first_backend(&door, &who).await?;
    Ok(Admitted { recorder, door, who, statuses, backend })
}

/// How the server introduces itself, and the backend if the session has one from the beginning.
async fn first_backend(door: &Door, who: &Who) -> Result<(BytesMut, Option<Backend>), SignInFault> {
    if door.mode == PoolMode::Transaction
        && let Some(statuses) = door.pool.statuses(&who.key)
    {
        return Ok((statuses, None));
    }
    let backend = door.pool.take(&who.key, &Overlay::new()).await.map_err(|fault| {
        tracing::warn!(%fault, "no backend for a client");
        fault.answer()
    })?;
    let statuses = door.pool.statuses(&who.key).unwrap_or_default();
    if who.standing == Standing::Service {
        // It has no tenant's variables, and nothing is ever sent to it.
        backend.close_later();
        return Ok((statuses, None));
    }
    Ok((statuses, Some(backend)))
}

/// A verified caller.
pub(super) struct Admitted {
    recorder: Recorder,
    door: Door,
    who: Arc<Who>,
    statuses: BytesMut,
    backend: Option<Backend>,
}

impl Admitted {
    /// Welcomes the client: ParameterStatus, key, ReadyForQuery.
    pub(super) fn welcome(
        self,
        front: &Front,
        opened: Opened,
        version: ProtocolVersion,
    ) -> Result<SignedIn, Box<(Opened, Answer)>> {
        let Self { recorder, door, who, statuses, backend } = self;
        let flight = Flight::new(Arc::clone(&front.connector));
        let Some(key) = front.cancel_keys.issue(version, &flight) else {
            tracing::error!("the system gives no randomness");
            return Err(Box::new((opened, unreachable_upstream())));
        };
        let mut welcome = BytesMut::new();
        authentication_ok(&mut welcome);
        welcome.extend_from_slice(&statuses);
        backend_key_data(&mut welcome, key.process, &key.secret);
        ready_for_query(&mut welcome, TransactionStatus::Idle);
        let judge = Judge {
            policy: Arc::clone(&front.shared.policy),
            catalogs: front.shared.catalogs.clone(),
            followed: None,
            verdicts: Arc::clone(&front.verdicts),
            recent: Recent::default(),
            viewpoint: who.bearer.viewpoint.clone(),
            meters: Arc::clone(&front.meters),
            temporary: Temporary::default(),
            limiter: front.shared.limiter.clone(),
        };
        let rules = Rules { leeway: front.settings.leeway };
        let flight_of_session = Arc::clone(&flight);
        let link = Link::new(Beginning {
            judge,
            recorder,
            rules,
            in_force: front.limits.clone(),
            door,
            who,
            flight: flight_of_session,
            backend,
            welcome,
        });
        let session = Session::new((opened.socket, FrameBuffer::with(opened.buffered)), link);
        let registered = front.sessions.register();
        Ok(SignedIn { session, registered, _key: key, _flight: flight })
    }
}

/// The token, verified; every refusal is recorded before it is told.
async fn identify(
    front: &Front,
    opened: &mut Opened,
    requested: &Requested,
    recorder: &Recorder,
) -> Result<VerifiedIdentity, SignInFault> {
    let (verdict, state) = match &requested.token {
        Some(token) => (
            front.shared.authenticator.authenticate(token.expose()).await,
            SqlState::INVALID_AUTHORIZATION,
        ),
        None if front.settings.authentication.method(&requested.user) == Method::OAuthBearer => {
            let exchange = oauth::ask(opened).await?;
            let verdict = match &exchange.token {
                Some(token) => front.shared.authenticator.authenticate(token).await,
                None => Err(Denial::new(DenialCode::TokenMissing)),
            };
            match &verdict {
                Ok(_) => exchange.finish(opened),
                Err(_) => exchange.fail(opened, front.shared.authenticator.first_issuer()).await?,
            }
            (verdict, SqlState::INVALID_AUTHORIZATION)
        }
        None => {
            let verdict = match ask_password(opened).await? {
                Password::TooLong => {
                    Err(Denial::of(DenialCode::TokenInvalid, "the password is too long"))
                }
                Password::Text(token) if token.is_empty() => {
                    Err(Denial::new(DenialCode::TokenMissing))
                }
                Password::Text(token) => front.shared.authenticator.authenticate(&token).await,
            };
            (verdict, SqlState::INVALID_PASSWORD)
        }
    };
    match verdict {
        Ok(identity) => Ok(identity),
        Err(denial) => {
            let state = if denial.code == DenialCode::TokenMissing {
                SqlState::INVALID_AUTHORIZATION
            } else {
                state
            };
            Err(refuse(recorder, &denial, state).await.into())
        }
    }
}

/// Records a refusal; the answer for the client.
pub(super) async fn refuse(recorder: &Recorder, denial: &Denial, state: SqlState) -> Answer {
    match recorder.refused_sign_in(denial, state.0).await {
        Ok(record) => Answer { state, ..Answer::denial(denial, record) },
        Err(_unavailable) => Answer::audit_unavailable(),
    }
}

/// What came as the password.
enum Password {
    Text(String),
    /// No token is that long; it was not read.
    TooLong,
}

async fn ask_password(opened: &mut Opened) -> Result<Password, SignInFault> {
    let mut out = BytesMut::new();
    authentication_cleartext_password(&mut out);
    let asked = async {
        opened.socket.write_all(&out).await?;
        opened.socket.flush().await
    };
    asked.await.map_err(|_left| SignInFault::ClientLeft)?;
    let mut incoming = FrameBuffer::with(std::mem::take(&mut opened.buffered));
    let password = password(&mut opened.socket, &mut incoming).await?;
    // What a client sends behind its password waits for the session.
    opened.buffered = std::mem::take(incoming.space());
    Ok(password)
}

async fn password<C: AsyncRead + Unpin>(
    client: &mut C,
    incoming: &mut FrameBuffer,
) -> Result<Password, SignInFault> {
    loop {
        let piece = incoming.next(|header| match header.tag {
            frontend::tag::PASSWORD if header.total <= MAX_PASSWORD_BYTES => Ok(Plan::Whole),
            frontend::tag::PASSWORD => Err(FrameFault::TooLong(header.tag)),
            other => Err(FrameFault::Tag(other)),
        });
        match piece {
            Ok(Some(Piece::Frame(frame))) => {
                return match frontend::password(frame.body()) {
                    Ok(text) => Ok(Password::Text(text.to_owned())),
                    Err(_fault) => {
                        Err(Answer::protocol_violation("invalid password packet").into())
                    }
                };
            }
            Ok(_) => {}
            Err(FrameFault::TooLong(_)) => return Ok(Password::TooLong),
            Err(_fault) => {
                return Err(Answer::protocol_violation("expected a password response").into());
            }
        }
        match client.read_buf(incoming.space()).await {
            Ok(0) | Err(_) => return Err(SignInFault::ClientLeft),
            Ok(_) => {}
        }
    }
}

fn unreachable_upstream() -> Answer {
    Answer::new(SqlState::CONNECTION_FAILURE, "the database cannot be reached")
        .with_hint("Try again later; the operator's log has the reason.")
}
