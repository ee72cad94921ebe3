//! One request on a connection: pingora reads it, bounds hold, one answer is written. Layer 5.
//!
//! Refuses bodies over [`MAX_BODY_BYTES`], packed ones that grow over it, any encoding but gzip, and
//! clients that are slower than the time-outs.

use std::net::SocketAddr;
use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use pingora::apps::HttpPersistentSettings;
use pingora::http::ResponseHeader;
use pingora::protocols::Stream;
use pingora::protocols::http::ServerSession;
use serde_json::{Map, Value};
use tokio::sync::{OwnedSemaphorePermit, Semaphore};
use tokio::time::timeout;

use super::answer::Answer;
use super::fault::{BodyFault, Fault};
use super::form;
use crate::identity::strict_object;

/// Longest body that is read whole, in bytes, packed or not: as the service's own limit.
pub(super) const MAX_BODY_BYTES: usize = 10 << 20;
/// A body that takes no room out of what all share: connections bound how many there are.
const SMALL_BODY_BYTES: usize = 64 << 10;
/// How long a client may keep a connection without a request, in seconds.
const KEEP_ALIVE_SECONDS: u64 = 60;
/// How long until a whole head must have come.
const HEAD_TIMEOUT: Duration = Duration::from_secs(75);
/// How long until a whole body must have come.
const BODY_TIMEOUT: Duration = Duration::from_secs(60);
/// How long the client may not take anything of an answer.
const WRITE_TIMEOUT: Duration = Duration::from_secs(60);
/// What is read of a body that nobody wanted, so that the client reads the answer: a socket that is closed
/// with bytes unread takes back what was written.
const DRAIN_BYTES: usize = 16 << 20;
/// How long that is done.
const DRAIN_TIMEOUT: Duration = Duration::from_secs(2);
/// Headers that say another method than the request line.
const OVERRIDES: &[&str] = &["x-http-method-override", "x-http-method", "x-method-override"];

/// One request and the connection that it came on.
pub(super) struct Exchange {
    session: ServerSession,
    /// Where the client is.
    pub(super) peer: SocketAddr,
    /// KiB of bodies that may be held at a time, by all requests together.
    room: Arc<Semaphore>,
    held: Option<OwnedSemaphorePermit>,
}

/// A connection between two requests.
pub(super) struct Kept(Stream, Option<HttpPersistentSettings>);

impl Kept {
    /// A fresh connection.
    pub(super) fn fresh(stream: Stream) -> Self {
        Self(stream, None)
    }
}

impl Exchange {
    /// Waits for the next request. `None`: the client went, or what came is no request.
    pub(super) async fn next(kept: Kept, peer: SocketAddr, room: Arc<Semaphore>) -> Option<Self> {
        let Kept(stream, settings) = kept;
        let mut session = ServerSession::new_http1(stream);
        session.set_keepalive(Some(KEEP_ALIVE_SECONDS));
        if let Some(settings) = settings {
            settings.apply_to_session(&mut session);
        }
        session.set_write_timeout(Some(WRITE_TIMEOUT));
        match timeout(HEAD_TIMEOUT, session.read_request()).await {
            Ok(Ok(true)) => Some(Self { session, peer, room, held: None }),
            Ok(Ok(false)) | Err(_) => None,
            Ok(Err(error)) => {
                tracing::debug!(%error, "a request could not be read");
                // Nobody who speaks HTTP sent it; the answer is a courtesy.
                let _ = session.respond_error(400).await;
                None
            }
        }
    }

    /// The connection ends with this request.
    pub(super) fn last(&mut self) {
        self.session.set_keepalive(None);
    }

    /// The method of the request line.
    pub(super) fn verb(&self) -> String {
        self.session.req_header().method.as_str().to_owned()
    }

    /// The target of the request line, as it came.
    pub(super) fn target(&self) -> Vec<u8> {
        self.session.req_header().raw_path().to_vec()
    }

    /// A header that came once, and is text.
    ///
    /// # Errors
    /// HR5002 for one that came twice or is not text.
    pub(super) fn header(&self, name: &'static str) -> Result<Option<&str>, Fault> {
        let mut values = self.session.req_header().headers.get_all(name).iter();
        match (values.next(), values.next()) {
            (None, _) => Ok(None),
            (Some(value), None) => {
                value.to_str().map(Some).map_err(|_| Fault::form(format!("header {name}")))
            }
            (Some(_), Some(_)) => Err(Fault::form(format!("header {name}"))),
        }
    }

    /// What holds of every request whatever its method: no other method in a header, one framing.
    ///
    /// # Errors
    /// HR5002.
    pub(super) fn check_head(&self) -> Result<(), Fault> {
        for name in OVERRIDES {
            if self.session.req_header().headers.contains_key(*name) {
                return Err(Fault::form(format!("header {name}")));
            }
        }
        // pingora drops Content-Length where there is Transfer-Encoding; here both are refused.
        if self.session.req_header().headers.contains_key("transfer-encoding")
            && let Some(session) = self.session.as_http1()
        {
            let head = session.get_headers_raw_bytes().to_ascii_lowercase();
            if head.windows(16).any(|window| window == b"\ncontent-length:") {
                return Err(Fault::form("header content-length beside transfer-encoding"));
            }
        }
        Ok(())
    }

    /// The body as one strict JSON object: UTF-8, no name twice.
    ///
    /// # Errors
    /// [`Fault::Body`], HR5002.
    pub(super) async fn json(&mut self) -> Result<Map<String, Value>, Fault> {
        form::json_type(self.header("content-type")?)?;
        let body = self.body().await?;
        strict_object(&body).map_err(|fault| Fault::form(format!("body: {fault}")))
    }

    /// The body, unpacked.
    ///
    /// # Errors
    /// [`Fault::Body`], HR5002.
    pub(super) async fn body(&mut self) -> Result<Bytes, Fault> {
        self.body_up_to(MAX_BODY_BYTES).await
    }

    /// The body, unpacked, up to a bound of its own.
    ///
    /// # Errors
    /// [`Fault::Body`], HR5002.
    pub(super) async fn body_up_to(&mut self, most: usize) -> Result<Bytes, Fault> {
        let packed = match self.header("content-encoding")? {
            None => false,
            Some(name) if name.eq_ignore_ascii_case("identity") => false,
            Some(name) if name.eq_ignore_ascii_case("gzip") => true,
            Some(_) => return Err(Fault::form("header content-encoding")),
        };
        let told = self.header("content-length")?.and_then(|text| text.parse::<usize>().ok());
        if told.is_some_and(|bytes| bytes > most) {
            return Err(Fault::Body(BodyFault::TooLarge));
        }
        let bound = if packed { most } else { told.unwrap_or(most) };
        self.hold(bound).await?;
        let read = timeout(BODY_TIMEOUT, self.read_whole(most)).await;
        let body = read.map_err(|_| Fault::Body(BodyFault::TooSlow))??;
        if packed { form::unpack(&body, most) } else { Ok(body) }
    }

    /// Takes room for a body out of what all requests share. Small ones wait for nobody.
    async fn hold(&mut self, bytes: usize) -> Result<(), Fault> {
        if bytes <= SMALL_BODY_BYTES {
            return Ok(());
        }
        let kib = u32::try_from(bytes / 1024 + 1).unwrap_or(u32::MAX);
        let permit = Arc::clone(&self.room).acquire_many_owned(kib).await;
        self.held = Some(permit.map_err(|_| Fault::Unavailable)?);
        Ok(())
    }

    /// Whether the client waits for a word before it sends the body.
    fn expects_word(&self) -> bool {
        let expect = self.header("expect").ok().flatten();
        expect.is_some_and(|text| text.eq_ignore_ascii_case("100-continue"))
    }

    async fn drain(&mut self) {
        let mut left = DRAIN_BYTES;
        while let Ok(Some(chunk)) = self.chunk().await {
            match left.checked_sub(chunk.len()) {
                Some(less) => left = less,
                None => return,
            }
        }
    }

    async fn read_whole(&mut self, most: usize) -> Result<Bytes, Fault> {
        if self.expects_word() {
            self.session.write_continue_response().await.map_err(|_| broken())?;
        }
        let mut body = BytesMut::new();
        while let Some(chunk) = self.chunk().await? {
            if body.len() + chunk.len() > most {
                return Err(Fault::Body(BodyFault::TooLarge));
            }
            body.extend_from_slice(&chunk);
        }
        Ok(body.freeze())
    }

    /// The next piece of the body; `None` at its end.
    ///
    /// # Errors
    /// [`Fault::Body`]
    pub(super) async fn chunk(&mut self) -> Result<Option<Bytes>, Fault> {
        self.session.read_request_body().await.map_err(|_| broken())
    }

    /// Writes the answer. The connection, if it can carry another request.
    pub(super) async fn finish(mut self, answer: Answer) -> Option<Kept> {
        if !self.session.is_body_done() && !self.expects_word() {
            // A body that comes slower than that is not waited for.
            let _ = timeout(DRAIN_TIMEOUT, self.drain()).await;
        }
        if let Err(error) = self.write(answer).await {
            tracing::debug!(%error, "an answer could not be written");
            return None;
        }
        let settings = HttpPersistentSettings::for_session(&self.session);
        let reusable = self.session.finish().await.ok()??;
        let (stream, _) = reusable.into_parts();
        Some(Kept(stream, Some(settings)))
    }

    async fn write(&mut self, answer: Answer) -> pingora::Result<()> {
        let mut header = ResponseHeader::build(answer.status, Some(8))?;
        if !answer.body.is_empty() {
            header.insert_header("content-type", "application/json; charset=UTF-8")?;
        }
        if answer.status != 204 {
            header.insert_header("content-length", answer.length().to_string())?;
        }
        header.insert_header("cache-control", "private, no-store")?;
        header.insert_header("x-content-type-options", "nosniff")?;
        if answer.challenge {
            header.insert_header("www-authenticate", "Bearer realm=\"hedgerow\"")?;
        }
        if let Some(location) = &answer.location {
            header.insert_header("location", location)?;
        }
        if let Some(range) = &answer.range {
            header.insert_header("range", range)?;
        }
        self.session.write_response_header(Box::new(header)).await?;
        for piece in answer.body {
            self.session.write_response_body(piece, false).await?;
        }
        self.session.write_response_body(Bytes::new(), true).await
    }
}

fn broken() -> Fault {
    Fault::Body(BodyFault::Broken)
}
