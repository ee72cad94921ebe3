//! The first packets of a connection: TLS, GSSAPI, cancel, startup. Layer 5.
//!
//! Refuses: bytes that were sent in clear behind an SSLRequest (CVE-2021-23214), a second request for
//! encryption, direct TLS without its ALPN name, packets over PostgreSQL's own limit.

use std::io;
use std::net::SocketAddr;

use bytes::{Buf, BytesMut};
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};
use tokio::net::{TcpStream, UnixStream};
use tokio_rustls::TlsAcceptor;

use super::answer::Answer;
use super::parameters::{ParameterFault, Requested};
use super::socket::Socket;
use super::tls::ALPN;
use crate::error::{Denial, DenialCode, SqlState};
use crate::mutant;
use crate::wire::DecodeFault;
use crate::wire::backend::negotiate_protocol_version;
use crate::wire::startup::{FirstPacket, ProtocolVersion, first_packet_length};

/// The first byte of a TLS handshake.
const TLS_HANDSHAKE: u8 = 0x16;

/// Where a client comes from.
pub(super) enum Incoming {
    Tcp(TcpStream, SocketAddr),
    Unix(UnixStream),
}

impl Incoming {
    /// The same, heard of by the runtime that this is called on.
    pub(super) fn brought_here(self) -> io::Result<Self> {
        Ok(match self {
            Self::Tcp(stream, peer) => Self::Tcp(TcpStream::from_std(stream.into_std()?)?, peer),
            Self::Unix(stream) => Self::Unix(UnixStream::from_std(stream.into_std()?)?),
        })
    }
}

/// A connection, and bytes of it that were read already.
pub(super) struct Opened {
    pub(super) socket: Socket,
    pub(super) buffered: BytesMut,
}

/// What a client wants.
pub(super) enum Opening {
    Session {
        opened: Opened,
        version: ProtocolVersion,
        requested: Requested,
    },
    /// The connection stays open until the request was carried out: clients wait for its end before
    /// they go on, so that it does not hit what they ask next.
    Cancel {
        asking: Opened,
        process: i32,
        secret: Vec<u8>,
    },
}

/// Why there is no session.
pub(super) enum StartupFault {
    /// Nothing can be said, or nothing is to be said.
    Silent,
    /// The client is told.
    Told(Box<Opened>, Answer),
    /// The client is told, and there is a record.
    Denied(Box<Opened>, Denial),
}

impl From<io::Error> for StartupFault {
    fn from(_error: io::Error) -> Self {
        Self::Silent
    }
}

/// Whether encryption may still be asked for.
enum Encryption {
    Open,
    GssRefused,
    Settled,
}

/// Reads until it is known what the client wants.
pub(super) async fn negotiate(
    incoming: Incoming,
    tls: Option<&TlsAcceptor>,
) -> Result<Opening, StartupFault> {
    let mut encryption = Encryption::Open;
    let (socket, must_encrypt) = match incoming {
        Incoming::Unix(stream) => (Socket::Unix(stream), false),
        Incoming::Tcp(stream, peer) => {
            let mut first = [0; 1];
            let direct = stream.peek(&mut first).await? == 1 && first == [TLS_HANDSHAKE];
            match tls {
                Some(tls) if direct => {
                    let stream = tls.accept(stream).await?;
                    if stream.get_ref().1.alpn_protocol() != Some(ALPN) {
                        return Err(StartupFault::Silent);
                    }
                    encryption = Encryption::Settled;
                    (Socket::TlsServer(Box::new(stream)), false)
                }
                Some(_) | None => (Socket::Tcp(stream), !peer.ip().to_canonical().is_loopback()),
            }
        }
    };
    let mut opened = Opened { socket, buffered: BytesMut::new() };
    loop {
        let length = match packet(&mut opened).await? {
            Ok(length) => length,
            Err(_fault) => return Err(malformed(opened)),
        };
        let bytes = opened.buffered.split_to(length);
        match (FirstPacket::decode(&bytes), encryption) {
            (Err(_fault), _) => return Err(malformed(opened)),
            (Ok(FirstPacket::SslRequest), Encryption::Open | Encryption::GssRefused) => {
                encryption = Encryption::Settled;
                // CVE-2021-23214: what was sent in clear must not be taken for what came encrypted.
                if !opened.buffered.is_empty() && !mutant::on("early-data") {
                    return Err(StartupFault::Silent);
                }
                opened.socket = match (tls, opened.socket) {
                    (Some(tls), Socket::Tcp(mut stream)) => {
                        stream.write_all(b"S").await?;
                        Socket::TlsServer(Box::new(tls.accept(stream).await?))
                    }
                    (_, mut socket) => {
                        socket.write_all(b"N").await?;
                        socket.flush().await?;
                        socket
                    }
                };
            }
            (Ok(FirstPacket::GssEncRequest), Encryption::Open) => {
                encryption = Encryption::GssRefused;
                if !opened.buffered.is_empty() {
                    return Err(StartupFault::Silent);
                }
                opened.socket.write_all(b"N").await?;
                opened.socket.flush().await?;
            }
            (Ok(FirstPacket::SslRequest | FirstPacket::GssEncRequest), _) => {
                return Err(malformed(opened));
            }
            (Ok(FirstPacket::CancelRequest { process, secret }), _) => {
                let secret = secret.to_vec();
                return Ok(Opening::Cancel { asking: opened, process, secret });
            }
            (Ok(FirstPacket::Startup { version, parameters }), _) => {
                if must_encrypt && !matches!(opened.socket, Socket::TlsServer(_)) {
                    let answer = Answer::new(SqlState::INVALID_AUTHORIZATION, "TLS is required")
                        .with_hint("Connect with sslmode=require or stronger.");
                    return Err(StartupFault::Told(Box::new(opened), answer));
                }
                return startup(opened, version, &parameters).await;
            }
        }
    }
}

async fn startup(
    mut opened: Opened,
    version: ProtocolVersion,
    parameters: &[(&str, &str)],
) -> Result<Opening, StartupFault> {
    if version.major != ProtocolVersion::V3_2.major {
        let message = format!(
            "unsupported frontend protocol {}.{}: server supports 3.0 to 3.2",
            version.major, version.minor
        );
        let answer = Answer::plain(SqlState("0A000"), &message);
        return Err(StartupFault::Told(Box::new(opened), answer));
    }
    let requested = match Requested::read(parameters) {
        Ok(requested) => requested,
        Err(ParameterFault::Denied(denial)) => {
            return Err(StartupFault::Denied(Box::new(opened), denial));
        }
        Err(ParameterFault::Encoding) => {
            let answer = Answer::new(SqlState("22023"), "only client_encoding UTF8 is supported")
                .with_hint("Set the client's encoding to UTF8.");
            return Err(StartupFault::Told(Box::new(opened), answer));
        }
        Err(ParameterFault::NoUser) => {
            let answer = Answer::plain(
                SqlState::INVALID_AUTHORIZATION,
                "no PostgreSQL user name specified in startup packet",
            );
            return Err(StartupFault::Told(Box::new(opened), answer));
        }
        Err(ParameterFault::Options) => {
            let mut denial = Denial::new(DenialCode::ProtectedSetting);
            denial.object = Some("options".to_owned());
            return Err(StartupFault::Denied(Box::new(opened), denial));
        }
    };
    let spoken = version.min(ProtocolVersion::V3_2);
    if spoken != version || !requested.unknown_options.is_empty() {
        let options: Vec<&str> = requested.unknown_options.iter().map(String::as_str).collect();
        let mut out = BytesMut::new();
        negotiate_protocol_version(&mut out, spoken, &options);
        while out.has_remaining() {
            opened.socket.write_buf(&mut out).await?;
        }
    }
    Ok(Opening::Session { opened, version: spoken, requested })
}

fn malformed(opened: Opened) -> StartupFault {
    StartupFault::Told(Box::new(opened), Answer::protocol_violation("invalid startup packet"))
}

/// Reads until a whole first packet is buffered; answers its length.
async fn packet(opened: &mut Opened) -> Result<Result<usize, DecodeFault>, io::Error> {
    loop {
        match first_packet_length(&opened.buffered) {
            Err(fault) => return Ok(Err(fault)),
            Ok(Some(length)) if opened.buffered.len() >= length => return Ok(Ok(length)),
            Ok(_) => {}
        }
        if opened.socket.read_buf(&mut opened.buffered).await? == 0 {
            return Err(io::ErrorKind::UnexpectedEof.into());
        }
    }
}
