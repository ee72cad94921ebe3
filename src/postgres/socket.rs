//! One type for every kind of connection. Layer 5.

use std::io;
use std::mem::MaybeUninit;
use std::os::fd::AsRawFd as _;
use std::pin::Pin;
use std::task::{Context, Poll};
use std::time::Duration;

use pingora::protocols::l4::ext::{TCP_INFO, get_tcp_info};
use socket2::{SockRef, TcpKeepalive};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio::net::{TcpStream, UnixStream};

/// Idle time after which the kernel asks whether a silent peer is still there.
const KEEPALIVE_IDLE: Duration = Duration::from_secs(10);
/// Between two such questions.
const KEEPALIVE_INTERVAL: Duration = Duration::from_secs(5);
/// How long a peer may leave such questions, or what it was sent, without an acknowledgement: with
/// the interval, one that is gone is noticed within 30 seconds.
const UNACKNOWLEDGED: Duration = Duration::from_secs(25);
/// How long a side may take nothing before the kernel is told to be patient: for the kernel a peer
/// that does not read and one that is gone look alike, and after [`UNACKNOWLEDGED`] it gives up both.
pub(super) const STALL_LOOK: Duration = Duration::from_secs(10);

/// A connection to a client or to the upstream.
pub(super) enum Socket {
    Tcp(TcpStream),
    Unix(UnixStream),
    TlsServer(Box<tokio_rustls::server::TlsStream<TcpStream>>),
    TlsClient(Box<tokio_rustls::client::TlsStream<TcpStream>>),
    #[cfg(test)]
    Memory(tokio::io::DuplexStream),
}

/// How long the kernel waits for a peer that takes nothing.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Patience {
    Usual,
    /// It does not read: so long; zero: for ever.
    Stalled(Duration),
}

/// A connection whose kernel can be told to wait.
pub(super) trait Patient {
    fn be_patient(&self, patience: Patience);

    /// Whether a peer that takes nothing acknowledges nothing either, as one does that is gone. One that
    /// only does not read still acknowledges what it was sent.
    fn has_vanished(&self) -> bool;
}

/// How long nothing was acknowledged before a peer counts as vanished, in milliseconds: shorter than
/// [`STALL_LOOK`], longer than the pause between two of the kernel's tries by then.
const SILENCE: u32 = 8_000;

impl Socket {
    fn tcp(&self) -> Option<&TcpStream> {
        match self {
            Self::Tcp(stream) => Some(stream),
            Self::TlsServer(stream) => Some(stream.get_ref().0),
            Self::TlsClient(stream) => Some(stream.get_ref().0),
            // The kernel knows at once when the other side is gone.
            Self::Unix(_) => None,
            #[cfg(test)]
            Self::Memory(_) => None,
        }
    }
}

impl Patient for Socket {
    fn has_vanished(&self) -> bool {
        // pingora asks the kernel so that nothing unsafe is needed here.
        let told = self.tcp().and_then(|stream| get_tcp_info(stream.as_raw_fd()).ok());
        // Who has said that there is no room is asked now and then whether there is: one of these
        // questions may be on its way, two without an answer are silence.
        let is_asked = |info: &TCP_INFO| info.tcpi_unacked > 0 || info.tcpi_probes > 1;
        told.is_some_and(|info| is_asked(&info) && info.tcpi_last_ack_recv >= SILENCE)
    }

    fn be_patient(&self, patience: Patience) {
        let Some(stream) = self.tcp() else { return };
        let timeout = match patience {
            Patience::Usual => Some(UNACKNOWLEDGED),
            Patience::Stalled(limit) if limit.is_zero() => None,
            Patience::Stalled(limit) => Some(limit),
        };
        if let Err(error) = SockRef::from(stream).set_tcp_user_timeout(timeout) {
            tracing::debug!(%error, "a socket option could not be set");
        }
    }
}

#[cfg(test)]
impl Patient for tokio::io::DuplexStream {
    fn be_patient(&self, _patience: Patience) {}

    fn has_vanished(&self) -> bool {
        false
    }
}

/// A connection that could not be brought to another thread.
pub(super) struct Stayed;

impl Socket {
    /// The same connection, heard of by the runtime that this is called on, if its peer has said nothing
    /// that was not read. TLS cannot be taken apart: it is heard of where it was.
    ///
    /// # Errors
    /// [`Stayed`]: it has something to say, or is gone, or the system has no room.
    pub(super) fn brought_here(self) -> Result<Self, Stayed> {
        match self {
            Self::Tcp(stream) => {
                let stream = stream.into_std().map_err(|_gone| Stayed)?;
                stays_quiet(&SockRef::from(&stream))?;
                TcpStream::from_std(stream).map(Self::Tcp).map_err(|_full| Stayed)
            }
            Self::Unix(stream) => {
                let stream = stream.into_std().map_err(|_gone| Stayed)?;
                stays_quiet(&SockRef::from(&stream))?;
                UnixStream::from_std(stream).map(Self::Unix).map_err(|_full| Stayed)
            }
            stays @ (Self::TlsServer(_) | Self::TlsClient(_)) => Ok(stays),
            #[cfg(test)]
            stays @ Self::Memory(_) => Ok(stays),
        }
    }
}

/// Asks the kernel, which knows more than the runtime has heard.
fn stays_quiet(socket: &SockRef<'_>) -> Result<(), Stayed> {
    let mut byte = [MaybeUninit::uninit(); 1];
    match socket.peek(&mut byte) {
        Err(error) if error.kind() == io::ErrorKind::WouldBlock => Ok(()),
        Err(_) | Ok(_) => Err(Stayed),
    }
}

/// Sets what every TCP connection has: no delay, and a peer that is gone is noticed within half a
/// minute, whether or not something was sent to it. Failure costs only that.
pub(super) fn tune(stream: &TcpStream) {
    let keepalive = TcpKeepalive::new().with_time(KEEPALIVE_IDLE).with_interval(KEEPALIVE_INTERVAL);
    let socket = SockRef::from(stream);
    if let Err(error) = stream
        .set_nodelay(true)
        .and_then(|()| socket.set_tcp_keepalive(&keepalive))
        .and_then(|()| socket.set_tcp_user_timeout(Some(UNACKNOWLEDGED)))
    {
        tracing::debug!(%error, "socket options could not be set");
    }
}

macro_rules! each {
    ($self:ident, $method:ident $(, $argument:expr)*) => {
        match $self.get_mut() {
            Self::Tcp(stream) => Pin::new(stream).$method($($argument),*),
            Self::Unix(stream) => Pin::new(stream).$method($($argument),*),
            Self::TlsServer(stream) => Pin::new(stream.as_mut()).$method($($argument),*),
            Self::TlsClient(stream) => Pin::new(stream.as_mut()).$method($($argument),*),
            #[cfg(test)]
            Self::Memory(stream) => Pin::new(stream).$method($($argument),*),
        }
    };
}

impl AsyncRead for Socket {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        each!(self, poll_read, cx, buffer)
    }
}

impl AsyncWrite for Socket {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        each!(self, poll_write, cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, poll_flush, cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        each!(self, poll_shutdown, cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[tokio::test]
    async fn a_connection_that_has_something_to_say_goes_to_no_other_thread() {
        use tokio::io::AsyncWriteExt as _;
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        let (mut peer, _) = listener.accept().await.unwrap();
        let Ok(Socket::Tcp(stream)) = Socket::Tcp(stream).brought_here() else {
            panic!("it is quiet");
        };
        peer.write_all(b"x").await.unwrap();
        stream.readable().await.unwrap();
        assert!(Socket::Tcp(stream).brought_here().is_err());
    }

    #[tokio::test]
    async fn a_peer_that_is_gone_is_noticed_within_half_a_minute_and_one_that_stalls_is_waited_for()
    {
        let listener = tokio::net::TcpListener::bind("127.0.0.1:0").await.unwrap();
        let stream = TcpStream::connect(listener.local_addr().unwrap()).await.unwrap();
        tune(&stream);
        let bound = Duration::from_secs(30);
        let options = SockRef::from(&stream);
        assert!(options.keepalive().unwrap());
        // The kernel gives up at the first question after the time is over.
        let (first, between) =
            (options.tcp_keepalive_time().unwrap(), options.tcp_keepalive_interval().unwrap());
        let unacknowledged = options.tcp_user_timeout().unwrap().unwrap();
        assert!(first < unacknowledged && unacknowledged + between <= bound);
        assert!(STALL_LOOK < unacknowledged, "the kernel is told before it loses patience");
        let socket = Socket::Tcp(stream);
        let timeout = |socket: &Socket| match socket {
            Socket::Tcp(stream) => SockRef::from(stream).tcp_user_timeout().unwrap(),
            _ => None,
        };
        socket.be_patient(Patience::Stalled(Duration::from_secs(300)));
        assert_eq!(timeout(&socket), Some(Duration::from_secs(300)));
        socket.be_patient(Patience::Stalled(Duration::ZERO));
        assert_eq!(timeout(&socket), None);
        socket.be_patient(Patience::Usual);
        assert_eq!(timeout(&socket), Some(unacknowledged));
    }
}
