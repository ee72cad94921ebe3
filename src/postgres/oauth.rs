//! SASL OAUTHBEARER towards clients (RFC 7628, as PostgreSQL 18 speaks it). Layer 5.
//!
//! With a token in hand it is one round trip. A client without one, or whose token does not hold, is
//! told where to get one, answers with a dummy message, and is refused.

use bytes::BytesMut;
use tokio::io::{AsyncReadExt as _, AsyncWriteExt as _};

use super::answer::Answer;
use super::sign_in::SignInFault;
use super::startup::Opened;
use crate::wire::backend::{authentication_sasl, authentication_sasl_continue};
use crate::wire::startup::MAX_PASSWORD_BYTES;
use crate::wire::{DecodeFault, FrameBuffer, FrameFault, Piece, Plan, frontend};

/// The mechanism's name.
const MECHANISM: &str = "OAUTHBEARER";

/// An exchange that the client has begun.
pub(super) struct Exchange {
    incoming: FrameBuffer,
    /// The token; `None` when the client asks where to get one.
    pub(super) token: Option<String>,
}

/// Asks for a token.
pub(super) async fn ask(opened: &mut Opened) -> Result<Exchange, SignInFault> {
    let mut out = BytesMut::new();
    authentication_sasl(&mut out, &[MECHANISM]);
    send(opened, &out).await?;
    let mut incoming = FrameBuffer::with(std::mem::take(&mut opened.buffered));
    let body = receive(opened, &mut incoming).await?;
    let malformed = |_fault| Answer::protocol_violation("malformed OAUTHBEARER message");
    let (mechanism, data) = frontend::sasl_initial_response(&body).map_err(malformed)?;
    if mechanism != MECHANISM {
        let message = "client selected an invalid SASL authentication mechanism";
        return Err(Answer::protocol_violation(message).into());
    }
    let token = bearer(data).map_err(malformed)?.map(str::to_owned);
    Ok(Exchange { incoming, token })
}

impl Exchange {
    /// The exchange is over: what the client sent behind it waits for the session.
    pub(super) fn finish(mut self, opened: &mut Opened) {
        opened.buffered = std::mem::take(self.incoming.space());
    }

    /// Tells the client that its token does not hold, and where to get one; it must say that it heard.
    pub(super) async fn fail(
        mut self,
        opened: &mut Opened,
        issuer: Option<&str>,
    ) -> Result<(), SignInFault> {
        let mut document = serde_json::Map::new();
        document.insert("status".to_owned(), "invalid_token".into());
        if let Some(issuer) = issuer {
            let issuer = issuer.trim_end_matches('/');
            document.insert(
                "openid-configuration".to_owned(),
                format!("{issuer}/.well-known/openid-configuration").into(),
            );
        }
        let mut out = BytesMut::new();
        let document = serde_json::Value::Object(document).to_string();
        authentication_sasl_continue(&mut out, document.as_bytes());
        send(opened, &out).await?;
        match receive(opened, &mut self.incoming).await?.as_slice() {
            [1] => Ok(()),
            _ => Err(Answer::protocol_violation("malformed OAUTHBEARER message").into()),
        }
    }
}

async fn send(opened: &mut Opened, bytes: &[u8]) -> Result<(), SignInFault> {
    let sent = async {
        opened.socket.write_all(bytes).await?;
        opened.socket.flush().await
    };
    sent.await.map_err(|_left: std::io::Error| SignInFault::ClientLeft)
}

/// The body of the next message, which must be a SASL response.
async fn receive(opened: &mut Opened, incoming: &mut FrameBuffer) -> Result<Vec<u8>, SignInFault> {
    loop {
        let piece = incoming.next(|header| match header.tag {
            frontend::tag::PASSWORD if header.total <= MAX_PASSWORD_BYTES => Ok(Plan::Whole),
            other => Err(FrameFault::Tag(other)),
        });
        match piece {
            Ok(Some(Piece::Frame(frame))) => return Ok(frame.body().to_vec()),
            Ok(_) => {}
            Err(_fault) => {
                return Err(Answer::protocol_violation("expected SASL response").into());
            }
        }
        match opened.socket.read_buf(incoming.space()).await {
            Ok(0) | Err(_) => return Err(SignInFault::ClientLeft),
            Ok(_) => {}
        }
    }
}

/// The token of a client's first message: `n,,` or `y,,`, then key/value pairs of which `auth` counts,
/// each ended by a 0x01, and one more at the end. `None`: an empty `auth`.
fn bearer(data: &[u8]) -> Result<Option<&str>, DecodeFault> {
    let text = std::str::from_utf8(data).map_err(|_invalid| DecodeFault::NotUtf8)?;
    let pairs = text
        .strip_prefix("n,,\u{1}")
        .or_else(|| text.strip_prefix("y,,\u{1}"))
        .and_then(|rest| rest.strip_suffix("\u{1}\u{1}"))
        .ok_or(DecodeFault::Field)?;
    let mut auth = None;
    for pair in pairs.split('\u{1}') {
        let (key, value) = pair.split_once('=').ok_or(DecodeFault::Field)?;
        if key.is_empty() || !key.bytes().all(|byte| byte.is_ascii_alphabetic()) {
            return Err(DecodeFault::Field);
        }
        if key == "auth" && auth.replace(value).is_some() {
            return Err(DecodeFault::Field);
        }
    }
    let auth = auth.ok_or(DecodeFault::Field)?;
    if auth.is_empty() {
        return Ok(None);
    }
    let (scheme, token) = auth.split_once(' ').ok_or(DecodeFault::Field)?;
    if !scheme.eq_ignore_ascii_case("Bearer") {
        return Err(DecodeFault::Field);
    }
    Ok(Some(token.trim_start_matches(' ')))
}
