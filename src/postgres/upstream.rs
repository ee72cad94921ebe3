//! Opening a backend: connection, TLS, authentication, start parameters. Layer 5.
//!
//! Refuses to fall back: a mode that asks for TLS never goes on without it. What goes wrong is told
//! to the operator's log; the client learns only that there is no upstream.

use std::io;
use std::path::PathBuf;
use std::sync::Arc;
use std::time::Duration;

use bytes::{BufMut, BytesMut};
use postgres_protocol::authentication::md5_hash;
use postgres_protocol::authentication::sasl::{
    ChannelBinding, SCRAM_SHA_256, SCRAM_SHA_256_PLUS, ScramSha256,
};
use rustls_pki_types::ServerName;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio::time::timeout;
use tokio_rustls::TlsConnector;

use super::answer::Answer;
use super::parameters;
use super::socket::{Socket, tune};
use crate::catalog_load::{self, LoadError};
use crate::endpoint::{Binding, Endpoint, Secret};
use crate::error::SqlState;
use crate::wire::backend::{self, TransactionStatus, c_str, frame, tag};
use crate::wire::error_fields::field;
use crate::wire::frontend;
use crate::wire::reader::Reader;
use crate::wire::startup::{ProtocolVersion, ssl_request, startup_message};
use crate::wire::{DecodeFault, ErrorFields, FrameBuffer, FrameFault, Piece, Plan};

/// How long opening a backend may take in all.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(10);
/// Longest frame while signing in, in bytes.
const MAX_SIGN_IN_FRAME: usize = 1 << 20;
/// Most bytes of ParameterStatus frames kept for the client.
const MAX_STATUS_BYTES: usize = 256 << 10;

/// Why there is no backend. Operator text.
#[derive(Debug, thiserror::Error)]
pub(super) enum ConnectFault {
    #[error("connection: {0}")]
    Io(#[from] io::Error),
    #[error("no answer within {} s", CONNECT_TIMEOUT.as_secs())]
    Timeout,
    #[error("the server does not offer TLS, which the configuration asks for")]
    NoTls,
    #[error("the configured host is not a name that TLS can check")]
    HostName,
    #[error("the server asks for a password and none is configured")]
    NoPassword,
    #[error("the server asks for an authentication method that is not supported ({0})")]
    Method(i32),
    #[error("the server signs in without channel binding, which the configuration asks for")]
    Unbound,
    #[error("the server's proof of the password is wrong: {0}")]
    Proof(io::Error),
    #[error("the server answers out of order (message type {0})")]
    Unexpected(u8),
    #[error("the server's answer cannot be read: {0}")]
    Frame(#[from] FrameFault),
    #[error("the server's answer cannot be read: {0}")]
    Decode(#[from] DecodeFault),
    #[error("the server reports {0}={1}, which is not what was asked for")]
    Pinned(String, String),
    #[error("the server refused: {message} ({state})")]
    Refused { state: String, message: String },
}

impl ConnectFault {
    /// What the client may know.
    pub(super) fn answer(&self) -> Answer {
        if let Self::Refused { state, message } = self {
            // What the client asked for itself, in the server's words: a bad start parameter, a
            // database that does not exist.
            for own in [SqlState("22023"), SqlState("3D000")] {
                if state == own.0 {
                    return Answer::plain(own, message);
                }
            }
            if state == SqlState::TOO_MANY_CONNECTIONS.0 {
                return Answer::new(
                    SqlState::TOO_MANY_CONNECTIONS,
                    "the database takes no more connections",
                );
            }
        }
        Answer::new(SqlState::CONNECTION_FAILURE, "the database cannot be reached")
            .with_hint("Try again later; the operator's log has the reason.")
    }
}

/// The key that cancels what a backend does.
#[derive(Clone, Default)]
pub(super) struct BackendKey {
    pub(super) process: i32,
    pub(super) secret: Vec<u8>,
}

/// A backend that is ready for its first query.
pub(super) struct Backend<S> {
    pub(super) socket: S,
    pub(super) incoming: FrameBuffer,
    pub(super) key: BackendKey,
    /// ParameterStatus frames, as they came, for the client.
    pub(super) statuses: BytesMut,
}

/// Opens connections to one endpoint.
pub(super) struct Connector {
    endpoint: Endpoint,
    tls: Option<TlsConnector>,
}

impl Connector {
    /// Reads certificates, if TLS is asked for.
    pub(super) fn new(endpoint: Endpoint) -> Result<Self, LoadError> {
        let tls = if endpoint.host.starts_with('/') {
            None
        } else {
            catalog_load::client_config(&endpoint)?
                .map(|config| TlsConnector::from(Arc::new(config)))
        };
        Ok(Self { endpoint, tls })
    }

    /// `host:port`, for the operator's records.
    pub(super) fn name(&self) -> String {
        format!("{}:{}", self.endpoint.host, self.endpoint.port)
    }

    /// The database that a client gets who asked for `wanted`.
    pub(super) fn database<'a>(&'a self, wanted: &'a str) -> &'a str {
        self.endpoint.database.as_deref().unwrap_or(wanted)
    }

    /// A connection, encrypted if the configuration says so, on which nothing was said yet.
    pub(super) async fn dial(&self) -> Result<Socket, ConnectFault> {
        let Endpoint { host, port, .. } = &self.endpoint;
        if host.starts_with('/') {
            let path: PathBuf = [host.as_str(), &format!(".s.PGSQL.{port}")].iter().collect();
            return Ok(Socket::Unix(UnixStream::connect(path).await?));
        }
        let mut stream = TcpStream::connect((host.as_str(), *port)).await?;
        tune(&stream);
        let Some(tls) = &self.tls else { return Ok(Socket::Tcp(stream)) };
        let mut request = BytesMut::new();
        ssl_request(&mut request);
        stream.write_all(&request).await?;
        // CVE-2021-23222: exactly one byte is read, so that what comes behind it in clear goes to the
        // TLS handshake, which it breaks.
        match stream.read_u8().await? {
            b'S' => {
                let name =
                    ServerName::try_from(host.clone()).map_err(|_bad| ConnectFault::HostName)?;
                Ok(Socket::TlsClient(Box::new(tls.connect(name, stream).await?)))
            }
            b'N' => Err(ConnectFault::NoTls),
            other => Err(ConnectFault::Unexpected(other)),
        }
    }

    /// Opens a backend with these start parameters.
    pub(super) async fn open(
        &self,
        database: &str,
        settings: &[(String, String)],
    ) -> Result<Backend<Socket>, ConnectFault> {
        let attempt = async { self.sign_in(self.dial().await?, database, settings).await };
        timeout(CONNECT_TIMEOUT, attempt).await.map_err(|_elapsed| ConnectFault::Timeout)?
    }

    async fn sign_in(
        &self,
        socket: Socket,
        database: &str,
        settings: &[(String, String)],
    ) -> Result<Backend<Socket>, ConnectFault> {
        let binding = match (&socket, self.endpoint.channel_binding) {
            (_, Binding::Disable) => None,
            (Socket::TlsClient(stream), Binding::Prefer | Binding::Require) => {
                catalog_load::of_connection(stream.get_ref().1)
            }
            (_, Binding::Prefer | Binding::Require) => None,
        };
        let mut line = Line { socket, incoming: FrameBuffer::new(), out: BytesMut::new() };
        let named = [("user", self.endpoint.user.as_str()), ("database", database)];
        let settings = settings.iter().map(|(name, value)| (name.as_str(), value.as_str()));
        startup_message(&mut line.out, ProtocolVersion::V3_0, named.into_iter().chain(settings));
        line.send().await?;
        line.authenticate(&self.endpoint, binding).await?;
        let mut key = BackendKey::default();
        let mut statuses = BytesMut::new();
        loop {
            let (tag, body) = line.receive().await?;
            match tag {
                tag::PARAMETER_STATUS => {
                    let (name, value) = backend::read_parameter_status(&body)?;
                    if !parameters::status_is_as_pinned(name, value) {
                        return Err(ConnectFault::Pinned(name.to_owned(), value.to_owned()));
                    }
                    if statuses.len().saturating_add(body.len()) < MAX_STATUS_BYTES {
                        backend::parameter_status(&mut statuses, name, value);
                    }
                }
                tag::BACKEND_KEY_DATA => {
                    let mut reader = Reader::new(&body);
                    key = BackendKey { process: reader.int32()?, secret: reader.rest().to_vec() };
                }
                tag::READY_FOR_QUERY => {
                    if TransactionStatus::decode(&body)? != TransactionStatus::Idle {
                        return Err(ConnectFault::Unexpected(tag));
                    }
                    let Line { socket, incoming, out: _ } = line;
                    return Ok(Backend { socket, incoming, key, statuses });
                }
                tag::NOTICE_RESPONSE => {}
                other => return Err(ConnectFault::Unexpected(other)),
            }
        }
    }
}

/// A connection on which one side waits for the other: signing in.
struct Line {
    socket: Socket,
    incoming: FrameBuffer,
    out: BytesMut,
}

impl Line {
    async fn send(&mut self) -> Result<(), ConnectFault> {
        self.socket.write_all_buf(&mut self.out).await?;
        Ok(self.socket.flush().await?)
    }

    /// The next message; an error of the server's is the fault [`ConnectFault::Refused`].
    async fn receive(&mut self) -> Result<(u8, Vec<u8>), ConnectFault> {
        loop {
            let piece = self.incoming.next(|header| {
                if header.total > MAX_SIGN_IN_FRAME {
                    Err(FrameFault::TooLong(header.tag))
                } else {
                    Ok(Plan::Whole)
                }
            })?;
            if let Some(Piece::Frame(frame)) = piece {
                if frame.tag == tag::ERROR_RESPONSE {
                    let fields = ErrorFields::decode(frame.body())?;
                    return Err(ConnectFault::Refused {
                        state: fields.text(field::CODE).to_owned(),
                        message: fields.text(field::MESSAGE).to_owned(),
                    });
                }
                return Ok((frame.tag, frame.body().to_vec()));
            }
            if self.socket.read_buf(self.incoming.space()).await? == 0 {
                return Err(io::Error::from(io::ErrorKind::UnexpectedEof).into());
            }
        }
    }

    async fn authentication(&mut self) -> Result<(i32, Vec<u8>), ConnectFault> {
        loop {
            let (tag, body) = self.receive().await?;
            match tag {
                tag::AUTHENTICATION => {
                    let mut reader = Reader::new(&body);
                    return Ok((reader.int32()?, reader.rest().to_vec()));
                }
                tag::NOTICE_RESPONSE | tag::NEGOTIATE_PROTOCOL_VERSION => {}
                other => return Err(ConnectFault::Unexpected(other)),
            }
        }
    }

    async fn password(&mut self, password: &str) -> Result<(), ConnectFault> {
        frame(&mut self.out, frontend::tag::PASSWORD, |body| c_str(body, password));
        self.send().await
    }

    /// `binding` is what the server's certificate binds a proof to.
    async fn authenticate(
        &mut self,
        endpoint: &Endpoint,
        binding: Option<Vec<u8>>,
    ) -> Result<(), ConnectFault> {
        let must_bind = endpoint.channel_binding == Binding::Require;
        let password =
            || endpoint.password.as_ref().map(Secret::expose).ok_or(ConnectFault::NoPassword);
        match self.authentication().await? {
            // SECURITY: before anything of the password is shown.
            (0 | 3 | 5, _) if must_bind => return Err(ConnectFault::Unbound),
            (0, _) => return Ok(()),
            (3, _) => self.password(password()?).await?,
            (5, salt) => {
                let salt =
                    <[u8; 4]>::try_from(salt.as_slice()).map_err(|_bad| DecodeFault::Field)?;
                let hash = md5_hash(endpoint.user.as_bytes(), password()?.as_bytes(), salt);
                self.password(&hash).await?;
            }
            (10, mechanisms) => {
                let bound = offers(&mechanisms, SCRAM_SHA_256_PLUS)?;
                let (mechanism, binding) = match binding {
                    Some(end_point) if bound => {
                        (SCRAM_SHA_256_PLUS, ChannelBinding::tls_server_end_point(end_point))
                    }
                    Some(_) | None if must_bind => return Err(ConnectFault::Unbound),
                    // Says that it was not offered: a server that did offer it refuses then.
                    Some(_) => (SCRAM_SHA_256, ChannelBinding::unrequested()),
                    None => (SCRAM_SHA_256, ChannelBinding::unsupported()),
                };
                if !offers(&mechanisms, mechanism)? {
                    return Err(ConnectFault::Method(10));
                }
                self.scram(password()?, mechanism, binding).await?;
            }
            (other, _) => return Err(ConnectFault::Method(other)),
        }
        match self.authentication().await? {
            (0, _) => Ok(()),
            (other, _) => Err(ConnectFault::Method(other)),
        }
    }

    async fn scram(
        &mut self,
        password: &str,
        mechanism: &str,
        binding: ChannelBinding,
    ) -> Result<(), ConnectFault> {
        let mut scram = ScramSha256::new(password.as_bytes(), binding);
        frame(&mut self.out, frontend::tag::PASSWORD, |body| {
            c_str(body, mechanism);
            body.put_i32(i32::try_from(scram.message().len()).unwrap_or(i32::MAX));
            body.put_slice(scram.message());
        });
        self.send().await?;
        match self.authentication().await? {
            (11, challenge) => scram.update(&challenge).map_err(ConnectFault::Proof)?,
            (other, _) => return Err(ConnectFault::Method(other)),
        }
        frame(&mut self.out, frontend::tag::PASSWORD, |body| body.put_slice(scram.message()));
        self.send().await?;
        match self.authentication().await? {
            (12, proof) => scram.finish(&proof).map_err(ConnectFault::Proof),
            (other, _) => Err(ConnectFault::Method(other)),
        }
    }
}

/// Whether a list of SASL mechanisms holds `wanted`.
fn offers(mechanisms: &[u8], wanted: &str) -> Result<bool, DecodeFault> {
    let mut reader = Reader::new(mechanisms);
    loop {
        match reader.c_str()? {
            "" => return Ok(false),
            mechanism if mechanism == wanted => return Ok(true),
            _another => {}
        }
    }
}
