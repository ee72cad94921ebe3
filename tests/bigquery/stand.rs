//! Hedgerow's BigQuery front in this process, and a service behind it that records what it is asked
//! and answers what the test says.

use std::net::SocketAddr;
use std::path::Path;
use std::sync::{Arc, Mutex};
use std::time::Duration;

use arc_swap::ArcSwap;
use axum::body::{Body, to_bytes};
use axum::extract::State;
use axum::http::{HeaderMap, Request};
use axum::response::{IntoResponse, Response};
use hedgerow::audit::{self, Audit};
use hedgerow::bigquery::{Credentials, Server, Settings, Shared};
use hedgerow::claims::ClaimPath;
use hedgerow::identity::{Algorithm, IssuerSettings, VerifierSettings};
use hedgerow::ids::PolicyEpoch;
use hedgerow::keys::{self, Authenticator, KeySource};
use hedgerow::limiter::Limiter;
use hedgerow::policy::{BigQueryPolicy, load::compile};
use serde_json::{Value, json};
use tokio::net::TcpListener;
use tokio::task::JoinHandle;
use tokio_util::sync::CancellationToken;

use super::token;

/// What the service was asked.
#[derive(Clone, Debug)]
pub struct Seen {
    /// The method.
    pub method: String,
    /// Path and query string.
    pub target: String,
    /// Headers.
    pub headers: HeaderMap,
    /// The body; null for none and for what is no JSON.
    pub body: Value,
    /// The body's text.
    pub text: String,
}

type Answers = dyn Fn(&Seen) -> (u16, Value) + Send + Sync;

/// The service: records, and answers by a function that a test sets.
#[derive(Clone)]
pub struct Service {
    seen: Arc<Mutex<Vec<Seen>>>,
    answers: Arc<Mutex<Arc<Answers>>>,
    pub address: SocketAddr,
}

impl Service {
    pub async fn start() -> Self {
        let listener = TcpListener::bind("127.0.0.1:0").await.unwrap();
        let address = listener.local_addr().unwrap();
        let nothing: Arc<Answers> = Arc::new(|_| (200, json!({})));
        let service =
            Self { seen: Arc::default(), answers: Arc::new(Mutex::new(nothing)), address };
        let router = axum::Router::new().fallback(record).with_state(service.clone());
        tokio::spawn(async move { axum::serve(listener, router).await });
        service
    }

    /// From now on it answers so.
    pub fn answers(&self, answer: impl Fn(&Seen) -> (u16, Value) + Send + Sync + 'static) {
        *self.answers.lock().unwrap() = Arc::new(answer);
    }

    /// What it was asked since the last time.
    pub fn seen(&self) -> Vec<Seen> {
        std::mem::take(&mut self.seen.lock().unwrap())
    }

    /// The one thing that it was asked since the last time.
    pub fn only(&self) -> Seen {
        let mut seen = self.seen();
        assert_eq!(seen.len(), 1, "{seen:#?}");
        seen.remove(0)
    }
}

async fn record(State(service): State<Service>, request: Request<Body>) -> Response {
    let (head, body) = request.into_parts();
    let bytes = to_bytes(body, 64 << 20).await.unwrap();
    let seen = Seen {
        method: head.method.to_string(),
        target: head.uri.to_string(),
        headers: head.headers,
        body: serde_json::from_slice(&bytes).unwrap_or(Value::Null),
        text: String::from_utf8_lossy(&bytes).into_owned(),
    };
    service.seen.lock().unwrap().push(seen.clone());
    let answer = Arc::clone(&service.answers.lock().unwrap());
    let (status, body) = answer(&seen);
    let status = axum::http::StatusCode::from_u16(status).unwrap();
    (status, [("content-type", "application/json")], body.to_string()).into_response()
}

/// A Hedgerow in front of a service.
pub struct Stand {
    pub service: Service,
    pub policy: Arc<ArcSwap<BigQueryPolicy>>,
    pub directory: tempfile::TempDir,
    pub address: SocketAddr,
    pub client: reqwest::Client,
    audit: Audit,
    stop: CancellationToken,
    running: JoinHandle<()>,
}

/// What came back.
#[derive(Debug)]
pub struct Got {
    pub status: u16,
    pub headers: reqwest::header::HeaderMap,
    pub text: String,
    pub body: Value,
}

impl Got {
    /// `errors[0].reason`
    pub fn reason(&self) -> &str {
        self.body["error"]["errors"][0]["reason"].as_str().unwrap_or_default()
    }

    /// The code of a denial.
    pub fn code(&self) -> &str {
        self.body["error"]["details"][0]["reason"].as_str().unwrap_or_default()
    }
}

impl Stand {
    pub async fn start(policy: &str) -> Self {
        Self::with(policy, |_| {}).await
    }

    pub async fn with(policy: &str, change: impl FnOnce(&mut Settings)) -> Self {
        let directory = tempfile::tempdir().unwrap();
        let service = Service::start().await;
        let secret = directory.path().join("hmac");
        std::fs::write(&secret, token::HMAC_SECRET).unwrap();
        let authenticator = Authenticator::start(keys::Settings {
            revocation_redis: None,
            verifier: VerifierSettings {
                tenant_claim: ClaimPath::parse("tenant_id").unwrap(),
                leeway: Duration::from_secs(2),
                max_lifetime: Duration::from_secs(86_400),
                issuers: vec![IssuerSettings {
                    issuer: token::HMAC_ISSUER.to_owned(),
                    audiences: vec![token::AUDIENCE.to_owned()],
                    algorithms: vec![Algorithm::Hs256],
                }],
            },
            sources: vec![KeySource::HmacSecretFile(secret)],
            revocation_file: None,
        })
        .await
        .unwrap();
        let audit = Audit::open(audit::Settings::new(directory.path().join("audit"))).unwrap();
        let policy = Arc::new(ArcSwap::from_pointee(read_policy(policy, 1)));
        let mut settings = Settings {
            listen: "127.0.0.1:0".parse().unwrap(),
            tls: None,
            upstream: format!("http://{}", service.address),
            credentials: Credentials::None,
            default_project: Some("acme-prod".to_owned()),
            ownership_key: Some(directory.path().join("ownership.key")),
            compare_dry_runs: false,
            max_statement: 1 << 20,
            drain_timeout: Duration::from_secs(5),
        };
        change(&mut settings);
        let shared = Shared {
            policy: Arc::clone(&policy),
            authenticator,
            audit: audit.clone(),
            limiter: Limiter::start(),
        };
        let server = Server::bind(settings, shared).await.unwrap();
        let address = server.local_addr().unwrap();
        let stop = CancellationToken::new();
        let running = tokio::spawn(server.run(stop.clone()));
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        Self { service, policy, directory, address, client, audit, stop, running }
    }

    /// A request of a tenant's, with a body for null.
    pub async fn ask(&self, tenant: &str, verb: &str, target: &str, body: Value) -> Got {
        let request = self.request(verb, target).bearer_auth(token::of(tenant));
        if body.is_null() {
            return send(request).await;
        }
        send(request.header("content-type", "application/json").body(body.to_string())).await
    }

    /// A request to be filled.
    pub fn request(&self, verb: &str, target: &str) -> reqwest::RequestBuilder {
        let url = format!("http://{}{target}", self.address);
        self.client.request(verb.parse().unwrap(), url)
    }

    /// jobs.query
    pub async fn query(&self, tenant: &str, body: Value) -> Got {
        self.ask(tenant, "POST", "/bigquery/v2/projects/acme-prod/queries", body).await
    }

    /// Ends it; the records that it left.
    pub async fn finish(self) -> Vec<Value> {
        self.stop.cancel();
        self.running.await.unwrap();
        self.audit.close().await;
        records(&self.directory.path().join("audit"))
    }
}

/// Sends a request.
pub async fn send(request: reqwest::RequestBuilder) -> Got {
    let response = request.send().await.unwrap();
    let (status, headers) = (response.status().as_u16(), response.headers().clone());
    let text = response.text().await.unwrap();
    let body = serde_json::from_str(&text).unwrap_or(Value::Null);
    Got { status, headers, text, body }
}

/// A compiled policy.
pub fn read_policy(text: &str, epoch: u64) -> BigQueryPolicy {
    compile(&[("p.yaml", text)], PolicyEpoch(epoch)).unwrap().bigquery
}

fn records(directory: &Path) -> Vec<Value> {
    let mut files: Vec<_> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "jsonl"))
        .collect();
    files.sort();
    let text: String = files.iter().map(|file| std::fs::read_to_string(file).unwrap()).collect();
    text.lines().map(|line| serde_json::from_str(line).unwrap()).collect()
}
