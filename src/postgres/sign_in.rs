//! From an opened connection to a session: token, audit, backend. Layer 5.

use std::sync::Arc;
use std::time::Duration;

use bytes::BytesMut;
use tokio::io::{AsyncRead, AsyncReadExt as _, AsyncWrite, AsyncWriteExt as _};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::answer::Answer;
use super::cancel::{Flight, IssuedKey};
use super::judge::Judge;
use super::listener::Front;
use super::meters::Counted;
use super::parameters::Requested;
use super::recorder::{Caller, Recorder};
use super::session::{Link, Rules, Session};
use super::socket::Socket;
use super::startup::Opened;
use crate::audit::ClientAddress;
use crate::decide::Viewpoint;
use crate::error::{Denial, DenialCode, SqlState};
use crate::identity::VerifiedIdentity;
use crate::sql;
use crate::wire::backend::{
    TransactionStatus, authentication_cleartext_password, authentication_ok, backend_key_data,
    ready_for_query,
};
use crate::wire::error_fields::Severity;
use crate::wire::startup::{MAX_PASSWORD_BYTES, ProtocolVersion};
use crate::wire::{FrameBuffer, FrameFault, Piece, Plan, frontend};

/// How long a client waits for a backend when all are taken.
const BACKEND_WAIT: Duration = Duration::from_secs(10);
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
    pub(super) session: Session<Socket, Socket>,
    pub(super) key: IssuedKey,
    pub(super) flight: Arc<Flight>,
    pub(super) place: OwnedSemaphorePermit,
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
    let settings = match requested.backend_settings(
        &front.settings.limits,
        &front.settings.session_variables,
        identity.claims(),
    ) {
        Ok(settings) => settings,
        Err(denial) => return Err(refuse(&recorder, &denial, denial.sqlstate()).await.into()),
    };
    // The catalog comes first: a database that does not exist gets no entry among the backends.
    if let Err(error) = front.shared.catalogs.current(&caller.database).await {
        tracing::warn!(%error, "no catalog for a new session");
        return Err(unreachable_upstream().into());
    }
    let place = place(front, &caller.database).await?;
    recorder.signed_in().await.map_err(|_unavailable| Answer::audit_unavailable())?;
    let connecting = Counted::new(&front.meters.upstream_connecting);
    let backend = match front.connector.open(&caller.database, &settings).await {
        Ok(backend) => backend,
        Err(fault) => {
            tracing::warn!(upstream = &*front.upstream_name, %fault, "no backend for a client");
            return Err(fault.answer().into());
        }
    };
    drop(connecting);
    Ok(Admitted { identity, recorder, caller, backend, place })
}

/// A verified caller with a backend.
pub(super) struct Admitted {
    identity: VerifiedIdentity,
    recorder: Recorder,
    caller: Caller,
    backend: super::upstream::Backend<Socket>,
    place: OwnedSemaphorePermit,
}

impl Admitted {
    /// Welcomes the client: ParameterStatus, key, ReadyForQuery.
    pub(super) fn welcome(
        self,
        front: &Front,
        opened: Opened,
        version: ProtocolVersion,
    ) -> Result<SignedIn, Box<(Opened, Answer)>> {
        let Self { identity, recorder, caller, backend, place } = self;
        let flight = Flight::new(backend.key, Arc::clone(&front.connector));
        let Some(key) = front.cancel_keys.issue(version, &flight) else {
            tracing::error!("the system gives no randomness");
            return Err(Box::new((opened, unreachable_upstream())));
        };
        let mut out = BytesMut::new();
        authentication_ok(&mut out);
        out.extend_from_slice(&backend.statuses);
        backend_key_data(&mut out, key.process, &key.secret);
        ready_for_query(&mut out, TransactionStatus::Idle);
        let judge = Judge {
            policy: Arc::clone(&front.shared.policy),
            catalogs: front.shared.catalogs.clone(),
            verdicts: Arc::clone(&front.verdicts),
            viewpoint: Viewpoint::new(
                identity.principal(),
                &caller.database,
                sql::Limits { max_statement: front.settings.limits.max_statement },
            ),
            meters: Arc::clone(&front.meters),
        };
        let rules = Rules {
            expires_at: identity.expires_at(),
            leeway: front.settings.leeway,
            idle_in_transaction: front.settings.limits.idle_in_transaction_timeout,
        };
        let link = Link::new(judge, recorder, rules, identity.tenant(), Arc::clone(&flight), out);
        let session = Session::new(
            (opened.socket, FrameBuffer::with(opened.buffered)),
            (backend.socket, backend.incoming),
            link,
        );
        Ok(SignedIn { session, key, flight, place })
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
    let policy = front.shared.policy.load();
    let verdict = verdict.and_then(|identity| match identity.tenant() {
        Some(_) => Ok(identity),
        // Who changes the schema, or sees every tenant, need not be one.
        None if policy.may_change_schema(identity.claims())
            || policy.breaks_glass(identity.claims()) =>
        {
            Ok(identity)
        }
        None => Err(Denial::new(DenialCode::TokenTenant)),
    });
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

/// A place among the backends of a database.
async fn place(front: &Front, database: &str) -> Result<OwnedSemaphorePermit, SignInFault> {
    let places = front.backends.get(database).map(|places| Arc::clone(&places));
    let places = places.unwrap_or_else(|| {
        let fresh = || Arc::new(Semaphore::new(front.settings.max_connections));
        Arc::clone(&front.backends.entry(database.to_owned()).or_insert_with(fresh))
    });
    match timeout(BACKEND_WAIT, places.acquire_owned()).await {
        Ok(Ok(place)) => Ok(place),
        Ok(Err(_)) | Err(_) => Err(Answer::new(
            SqlState::TOO_MANY_CONNECTIONS,
            "all connections to the database are in use",
        )
        .with_hint("Try again later, or ask the operator for a larger pool.")
        .into()),
    }
}

fn unreachable_upstream() -> Answer {
    Answer::new(SqlState::CONNECTION_FAILURE, "the database cannot be reached")
        .with_hint("Try again later; the operator's log has the reason.")
}
