//! The way to the service: calls that are built from parts, sent with an audit permit. Layer 5.
//!
//! A [`Call`] is made of a method, segments, parameters and a body that handlers wrote; there is no way
//! to put a client's bytes, path or header into one. An answer is read whole, up to a bound.

use std::sync::Arc;
use std::time::Duration;

use bytes::{Bytes, BytesMut};
use reqwest::{Method, Url};
use serde_json::{Map, Value};

use super::credentials::TokenSource;
use super::fault::Fault;
use crate::audit::AuditPermit;

/// Largest answer that is read, in bytes: more than any page of the service.
const MAX_ANSWER_BYTES: usize = 64 << 20;
/// Dialling and TLS.
const CONNECT_TIMEOUT: Duration = Duration::from_secs(5);
/// A call, beyond what the call itself waits for.
const CALL_TIMEOUT: Duration = Duration::from_secs(60);
/// How often a call is sent at most.
const ATTEMPTS: u32 = 3;
/// The pause before the second attempt; doubles.
const PAUSE: Duration = Duration::from_millis(100);
const USER_AGENT: &str = concat!("hedgerow/", env!("CARGO_PKG_VERSION"));

/// What a call does, and whether it can be sent twice.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Verb {
    /// Reads.
    Get,
    /// Makes or runs.
    Post,
    /// Replaces.
    Put,
    /// Changes.
    Patch,
    /// Removes.
    Delete,
}

impl Verb {
    const fn method(self) -> Method {
        match self {
            Self::Get => Method::GET,
            Self::Post => Method::POST,
            Self::Put => Method::PUT,
            Self::Patch => Method::PATCH,
            Self::Delete => Method::DELETE,
        }
    }
}

/// A call to the service.
#[derive(Clone, Debug)]
pub struct Call {
    verb: Verb,
    segments: Vec<String>,
    parameters: Vec<(&'static str, String)>,
    body: Option<Body>,
    upload: bool,
    if_match: Option<String>,
    waits: Duration,
}

impl Call {
    /// A call to the path of these segments below `/bigquery/v2`.
    pub(super) fn new<const N: usize>(verb: Verb, segments: [&str; N]) -> Self {
        Self {
            verb,
            segments: segments.iter().map(|segment| (*segment).to_owned()).collect(),
            parameters: Vec::new(),
            body: None,
            upload: false,
            if_match: None,
            waits: Duration::ZERO,
        }
    }

    /// With a query parameter.
    pub(super) fn parameter(mut self, name: &'static str, value: impl Into<String>) -> Self {
        self.parameters.push((name, value.into()));
        self
    }

    /// With a query parameter, if there is a value.
    pub(super) fn maybe(self, name: &'static str, value: Option<impl Into<String>>) -> Self {
        match value {
            Some(value) => self.parameter(name, value),
            None => self,
        }
    }

    /// With a body.
    pub(super) fn body(mut self, body: Map<String, Value>) -> Self {
        self.body = Some(Body::Json(Bytes::from(Value::Object(body).to_string())));
        self
    }

    /// With a body that a handler wrote as JSON.
    pub(super) fn bytes(mut self, body: Bytes) -> Self {
        self.body = Some(Body::Json(body));
        self
    }

    /// As an upload: a job, and the file that a handler wrote.
    pub(super) fn upload(mut self, job: &Value, file: &[u8]) -> Self {
        // INVARIANT: random, so that no file holds it.
        let boundary = uuid::Uuid::new_v4().simple().to_string();
        let mut body = format!(
            "--{boundary}\r\ncontent-type: application/json; charset=UTF-8\r\n\r\n{job}\r\n\
             --{boundary}\r\ncontent-type: application/octet-stream\r\n\r\n"
        )
        .into_bytes();
        body.extend_from_slice(file);
        body.extend_from_slice(format!("\r\n--{boundary}--\r\n").as_bytes());
        self.body = Some(Body::Related { boundary, bytes: body.into() });
        self.upload = true;
        self.parameter("uploadType", "multipart")
    }

    /// Only if the object is still as the caller knows it.
    pub(super) fn if_match(mut self, etag: Option<String>) -> Self {
        self.if_match = etag;
        self
    }

    /// The service itself may take so long before it answers.
    pub(super) fn waits(mut self, waits: Duration) -> Self {
        self.waits = waits;
        self
    }
}

/// The body of a call.
#[derive(Clone, Debug)]
enum Body {
    Json(Bytes),
    /// `multipart/related`
    Related {
        boundary: String,
        bytes: Bytes,
    },
}

/// What the service answered.
#[derive(Clone, Debug)]
pub struct Reply {
    /// The HTTP status.
    pub status: u16,
    /// The body.
    pub body: Bytes,
}

impl Reply {
    /// Whether it is a success.
    pub fn is_good(&self) -> bool {
        (200..300).contains(&self.status)
    }

    /// The body as an object; an empty one for none.
    pub(super) fn object(&self) -> Result<Map<String, Value>, Fault> {
        if self.body.is_empty() {
            return Ok(Map::new());
        }
        serde_json::from_slice(&self.body).map_err(|_| {
            tracing::warn!(status = self.status, "the service answers what is no JSON object");
            Fault::Unavailable
        })
    }
}

/// The service.
pub(super) struct Upstream {
    base: Url,
    client: reqwest::Client,
    tokens: TokenSource,
    /// `host:port`, for records.
    pub(super) name: Arc<str>,
}

impl Upstream {
    /// The service at a URL.
    pub(super) fn new(base: Url, client: reqwest::Client, tokens: TokenSource) -> Self {
        let host = base.host_str().unwrap_or_default();
        let port = base.port_or_known_default().unwrap_or_default();
        let name = format!("{host}:{port}").into();
        Self { base, client, tokens, name }
    }

    /// Sends a call. Reading calls are sent again when the service cannot be reached or is busy;
    /// others only when they cannot have arrived.
    ///
    /// # Errors
    /// [`Fault::Unavailable`]
    pub(super) async fn send(&self, call: &Call, _permit: &AuditPermit) -> Result<Reply, Fault> {
        let mut pause = PAUSE;
        for attempt in 1..=ATTEMPTS {
            let last = attempt == ATTEMPTS;
            match self.once(call).await {
                Ok(reply) if reply.status == 401 => {
                    // Its credential, not the client's.
                    tracing::error!("the service refuses Hedgerow's credentials");
                    self.tokens.forget().await;
                    if last {
                        return Err(Fault::Unavailable);
                    }
                }
                Ok(reply) => {
                    let busy = matches!(reply.status, 502..=504) && call.verb == Verb::Get;
                    if !busy || last {
                        return Ok(reply);
                    }
                }
                Err(Lost { may_have_run, reason }) => {
                    tracing::warn!(reason, attempt, "a call to the service failed");
                    if last || may_have_run && call.verb != Verb::Get {
                        return Err(Fault::Unavailable);
                    }
                }
            }
            tokio::time::sleep(pause).await;
            pause *= 2;
        }
        Err(Fault::Unavailable)
    }

    async fn once(&self, call: &Call) -> Result<Reply, Lost> {
        let token = self.tokens.token().await.map_err(|reason| {
            tracing::error!(reason, "no access token for the service");
            Lost { may_have_run: false, reason }
        })?;
        let url = self.url(call).ok_or_else(|| Lost {
            may_have_run: true,
            reason: "the configured URL cannot have a path".to_owned(),
        })?;
        let mut request = self
            .client
            .request(call.verb.method(), url)
            .timeout(CALL_TIMEOUT + call.waits)
            .header("accept", "application/json");
        if let Some(token) = &token {
            request = request.bearer_auth(token);
        }
        if let Some(etag) = &call.if_match {
            request = request.header("if-match", etag);
        }
        request = match &call.body {
            Some(Body::Json(body)) => {
                request.header("content-type", "application/json").body(body.clone())
            }
            Some(Body::Related { boundary, bytes }) => request
                .header("content-type", format!("multipart/related; boundary={boundary}"))
                .body(bytes.clone()),
            None if call.verb == Verb::Get => request,
            None => request.header("content-length", "0"),
        };
        let mut response = request.send().await.map_err(|error| Lost::of(&error))?;
        let status = response.status().as_u16();
        let mut body = BytesMut::new();
        while let Some(chunk) = response.chunk().await.map_err(|error| Lost::of(&error))? {
            if body.len() + chunk.len() > MAX_ANSWER_BYTES {
                let reason = "the answer is over the limit".to_owned();
                return Err(Lost { may_have_run: true, reason });
            }
            body.extend_from_slice(&chunk);
        }
        Ok(Reply { status, body: body.freeze() })
    }

    fn url(&self, call: &Call) -> Option<Url> {
        let mut url = self.base.clone();
        {
            let mut path = url.path_segments_mut().ok()?;
            path.pop_if_empty();
            if call.upload {
                path.push("upload");
            }
            path.extend(["bigquery", "v2"]).extend(&call.segments);
        }
        if !call.parameters.is_empty() {
            url.query_pairs_mut().extend_pairs(&call.parameters);
        }
        Some(url)
    }
}

/// A call that brought no answer.
struct Lost {
    /// The service may have done what it was asked.
    may_have_run: bool,
    /// For the log.
    reason: String,
}

impl Lost {
    fn of(error: &reqwest::Error) -> Self {
        let mut reason =
            if error.is_timeout() { "timed out" } else { "connection failed" }.to_owned();
        let mut cause = std::error::Error::source(error);
        while let Some(inner) = cause {
            reason = inner.to_string();
            cause = inner.source();
        }
        Self { may_have_run: !error.is_connect(), reason }
    }
}

/// The client for all calls: ring, the system's authorities, no redirects.
///
/// # Errors
/// A sentence for the operator.
pub(super) fn client(no_proxy: bool) -> Result<reqwest::Client, String> {
    let mut roots = rustls::RootCertStore::empty();
    roots.add_parsable_certificates(rustls_native_certs::load_native_certs().certs);
    let provider = Arc::new(rustls::crypto::ring::default_provider());
    let tls = rustls::ClientConfig::builder_with_provider(provider)
        .with_safe_default_protocol_versions()
        .map_err(|error| error.to_string())?
        .with_root_certificates(roots)
        .with_no_client_auth();
    let builder = reqwest::Client::builder()
        .use_preconfigured_tls(tls)
        .redirect(reqwest::redirect::Policy::none())
        .connect_timeout(CONNECT_TIMEOUT)
        .tcp_nodelay(true)
        .user_agent(USER_AGENT);
    let builder = if no_proxy { builder.no_proxy() } else { builder };
    builder.build().map_err(|error| error.to_string())
}
