//! Channel binding: what a TLS connection shows of the server's certificate, so that a password's proof
//! is worth nothing to whoever stands in between with another one. RFC 5929, `tls-server-end-point`.
//! Layer 4; but for the handshake, pure.

use std::future::Future;
use std::io;
use std::pin::Pin;
use std::sync::Arc;
use std::task::{Context, Poll};

use rustls::{ClientConfig, ClientConnection};
use rustls_pki_types::{InvalidDnsNameError, ServerName};
use sha2::{Digest as _, Sha256, Sha384, Sha512};
use tokio::io::{AsyncRead, AsyncWrite, ReadBuf};
use tokio_postgres::tls::{ChannelBinding, MakeTlsConnect, TlsConnect, TlsStream};
use tokio_rustls::TlsConnector;

/// DER's tags of a SEQUENCE and of an OBJECT IDENTIFIER.
const SEQUENCE: u8 = 0x30;
const OBJECT: u8 = 0x06;
/// `1.2.840.113549.1.1`, the signatures of PKCS #1; one more byte says which.
const RSA: &[u8] = &[0x2a, 0x86, 0x48, 0x86, 0xf7, 0x0d, 0x01, 0x01];
/// `1.2.840.10045.4`, ECDSA.
const ECDSA: &[u8] = &[0x2a, 0x86, 0x48, 0xce, 0x3d, 0x04];

/// The channel binding of a connection to the upstream; `None` where its certificate defines none.
pub fn of_connection(connection: &ClientConnection) -> Option<Vec<u8>> {
    end_point(connection.peer_certificates()?.first()?)
}

/// The hash of a certificate by the hash function of its signature, MD5 and SHA-1 counting as SHA-256.
/// `None` for signatures that have no such function of their own (Ed25519) or name it elsewhere
/// (RSASSA-PSS): PostgreSQL knows no binding for the one, and older ones none for the other.
fn end_point(certificate: &[u8]) -> Option<Vec<u8>> {
    let (whole, _) = element(SEQUENCE, certificate)?;
    let (_to_be_signed, rest) = element(SEQUENCE, whole)?;
    let (algorithm, _signature) = element(SEQUENCE, rest)?;
    let (object, _parameters) = element(OBJECT, algorithm)?;
    let sha256 = || Some(Sha256::digest(certificate).to_vec());
    let sha384 = || Some(Sha384::digest(certificate).to_vec());
    let sha512 = || Some(Sha512::digest(certificate).to_vec());
    match (object.strip_prefix(RSA), object.strip_prefix(ECDSA)) {
        (Some([4 | 5 | 11]), _) | (_, Some([1] | [3, 2])) => sha256(),
        (Some([12]), _) | (_, Some([3, 3])) => sha384(),
        (Some([13]), _) | (_, Some([3, 4])) => sha512(),
        _ => None,
    }
}

/// The content of the element of DER that `bytes` begin with, if it has this tag, and what follows it.
fn element(tag: u8, bytes: &[u8]) -> Option<(&[u8], &[u8])> {
    let (&found, rest) = bytes.split_first()?;
    let (&short, rest) = rest.split_first()?;
    let (length, rest) = match short {
        0..=0x7f => (usize::from(short), rest),
        0x81..=0x84 => {
            let (long, rest) = rest.split_at_checked(usize::from(short & 0x7f))?;
            (long.iter().fold(0, |length, byte| length << 8 | usize::from(*byte)), rest)
        }
        _ => return None,
    };
    if found == tag { rest.split_at_checked(length) } else { None }
}

/// TLS for the sessions of Hedgerow's own, with channel binding.
#[derive(Clone)]
pub(super) struct MakeTls(pub(super) Arc<ClientConfig>);

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> MakeTlsConnect<S> for MakeTls {
    type Stream = Bound<S>;
    type TlsConnect = Handshake;
    type Error = InvalidDnsNameError;

    fn make_tls_connect(&mut self, host: &str) -> Result<Handshake, InvalidDnsNameError> {
        let name = ServerName::try_from(host)?.to_owned();
        Ok(Handshake { name, connector: TlsConnector::from(Arc::clone(&self.0)) })
    }
}

/// A handshake that is to begin.
pub(super) struct Handshake {
    name: ServerName<'static>,
    connector: TlsConnector,
}

impl<S: AsyncRead + AsyncWrite + Unpin + Send + 'static> TlsConnect<S> for Handshake {
    type Stream = Bound<S>;
    type Error = io::Error;
    type Future = Pin<Box<dyn Future<Output = io::Result<Bound<S>>> + Send>>;

    fn connect(self, stream: S) -> Self::Future {
        Box::pin(async move { self.connector.connect(self.name, stream).await.map(Bound) })
    }
}

/// A connection that knows its binding.
pub(super) struct Bound<S>(tokio_rustls::client::TlsStream<S>);

impl<S: AsyncRead + AsyncWrite + Unpin> TlsStream for Bound<S> {
    fn channel_binding(&self) -> ChannelBinding {
        of_connection(self.0.get_ref().1)
            .map_or_else(ChannelBinding::none, ChannelBinding::tls_server_end_point)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncRead for Bound<S> {
    fn poll_read(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        buffer: &mut ReadBuf<'_>,
    ) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_read(cx, buffer)
    }
}

impl<S: AsyncRead + AsyncWrite + Unpin> AsyncWrite for Bound<S> {
    fn poll_write(
        self: Pin<&mut Self>,
        cx: &mut Context<'_>,
        bytes: &[u8],
    ) -> Poll<io::Result<usize>> {
        Pin::new(&mut self.get_mut().0).poll_write(cx, bytes)
    }

    fn poll_flush(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_flush(cx)
    }

    fn poll_shutdown(self: Pin<&mut Self>, cx: &mut Context<'_>) -> Poll<io::Result<()>> {
        Pin::new(&mut self.get_mut().0).poll_shutdown(cx)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn sequence(parts: &[&[u8]]) -> Vec<u8> {
        let body = parts.concat();
        let mut bytes = vec![SEQUENCE, 0x82];
        bytes.extend(u16::try_from(body.len()).unwrap().to_be_bytes());
        bytes.extend(body);
        bytes
    }

    fn certificate(object: &[u8]) -> Vec<u8> {
        let mut algorithm = vec![OBJECT, u8::try_from(object.len()).unwrap()];
        algorithm.extend(object);
        let to_be_signed = sequence(&[&[2, 1, 7], &[0; 300]]);
        sequence(&[&to_be_signed, &sequence(&[&algorithm, &[5, 0]]), &[3, 1, 0]])
    }

    #[test]
    fn the_hash_is_that_of_the_signature_and_never_a_broken_one() {
        for (family, kind, length) in [
            (RSA, &[4][..], 32),
            (RSA, &[5], 32),
            (RSA, &[11], 32),
            (RSA, &[12], 48),
            (RSA, &[13], 64),
            (ECDSA, &[1], 32),
            (ECDSA, &[3, 2], 32),
            (ECDSA, &[3, 3], 48),
            (ECDSA, &[3, 4], 64),
        ] {
            let made = certificate(&[family, kind].concat());
            assert_eq!(end_point(&made).map(|hash| hash.len()), Some(length), "{kind:?}");
        }
        let sha256 = certificate(&[RSA, &[11]].concat());
        assert_eq!(end_point(&sha256).unwrap(), Sha256::digest(&sha256).to_vec());
    }

    #[test]
    fn what_has_no_hash_or_is_no_certificate_has_no_binding() {
        // RSASSA-PSS, Ed25519, and something unheard of.
        for object in [&[RSA, &[10]].concat()[..], &[0x2b, 0x65, 0x70], &[1, 2, 3]] {
            assert_eq!(end_point(&certificate(object)), None);
        }
        let whole = certificate(&[RSA, &[11]].concat());
        for length in 0..whole.len() - 4 {
            assert_eq!(end_point(&whole[..length]), None, "{length}");
        }
        assert_eq!(end_point(&[SEQUENCE, 0x80, 0, 0]), None);
        assert_eq!(end_point(&[SEQUENCE, 0x84, 0xff, 0xff, 0xff, 0xff]), None);
    }
}
