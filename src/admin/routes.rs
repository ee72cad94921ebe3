//! What each admin path answers. Layer 5: reads [`Status`], changes nothing.

use axum::extract::{Request, State};
use axum::http::{HeaderValue, StatusCode, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::get;
use axum::{Extension, Router};
use serde::Serialize;

use super::policy_view::PolicyView;
use super::status::Readiness;
use super::{Peer, Recorder, Status};

const JSON: HeaderValue = HeaderValue::from_static("application/json");
const TEXT: HeaderValue = HeaderValue::from_static("text/plain; charset=utf-8");
/// The Prometheus text exposition format.
const EXPOSITION: HeaderValue =
    HeaderValue::from_static("text/plain; version=0.0.4; charset=utf-8");

#[derive(Clone)]
struct Shared {
    status: Status,
    recorder: Recorder,
}

/// The closed table of paths. `get` also answers HEAD, and 405 for any other method.
pub(super) fn router(status: Status, recorder: Recorder) -> Router {
    Router::new()
        .route("/startup", get(startup))
        .route("/livez", get(livez))
        .route("/readyz", get(readyz))
        .route("/metrics", get(metrics))
        .route("/debug/policy", get(debug_policy))
        .fallback(not_found)
        .layer(middleware::from_fn(refuse_body))
        .layer(middleware::map_response(harden))
        .with_state(Shared { status, recorder })
}

#[derive(Serialize)]
struct ReadyAnswer {
    ready: bool,
    checks: Readiness,
    policy_epoch: Option<u64>,
}

#[derive(Serialize)]
struct StartedAnswer {
    started: bool,
}

async fn startup(State(shared): State<Shared>) -> Response {
    let started = shared.status.started();
    json(gate(started), &StartedAnswer { started })
}

/// Alive means that this task still runs: nothing else is asked, so that a fault of the upstream
/// or of audit never gets the process restarted.
async fn livez() -> Response {
    text(StatusCode::OK, "ok\n")
}

async fn readyz(State(shared): State<Shared>) -> Response {
    let checks = shared.status.readiness();
    let policy_epoch = shared.status.policy().map(|policy| policy.epoch.0);
    let ready = checks.ready();
    json(gate(ready), &ReadyAnswer { ready, checks, policy_epoch })
}

async fn metrics(State(shared): State<Shared>) -> Response {
    if let Some(policy) = shared.status.policy() {
        super::recorder::publish_policy_epoch(policy.epoch);
    }
    ([(header::CONTENT_TYPE, EXPOSITION)], shared.recorder.render()).into_response()
}

/// SECURITY: the policy tells an attacker which tables to go for. Whoever reaches a loopback
/// address of this host or pod (`kubectl port-forward` does) may read it, nobody else, even when
/// the listener is bound to every address for the sake of probes.
async fn debug_policy(
    State(shared): State<Shared>,
    Extension(Peer(peer)): Extension<Peer>,
) -> Response {
    if !peer.ip().to_canonical().is_loopback() {
        return text(StatusCode::FORBIDDEN, "only for peers on a loopback address\n");
    }
    match shared.status.policy() {
        Some(policy) => json(StatusCode::OK, &PolicyView::of(&policy)),
        None => text(StatusCode::SERVICE_UNAVAILABLE, "no policy is loaded\n"),
    }
}

async fn not_found() -> Response {
    text(
        StatusCode::NOT_FOUND,
        "not found; there are /startup /livez /readyz /metrics /debug/policy\n",
    )
}

/// No path here takes a body: one that is announced is refused and never read.
async fn refuse_body(request: Request, next: Next) -> Response {
    let headers = request.headers();
    let announced = headers.contains_key(header::TRANSFER_ENCODING)
        || headers.get(header::CONTENT_LENGTH).is_some_and(|length| length != "0");
    if announced {
        return text(StatusCode::PAYLOAD_TOO_LARGE, "no request body is taken here\n");
    }
    next.run(request).await
}

/// Answers are of the moment, and are what they say they are.
async fn harden(mut response: Response) -> Response {
    let headers = response.headers_mut();
    headers.insert(header::CACHE_CONTROL, HeaderValue::from_static("no-store"));
    headers.insert(header::X_CONTENT_TYPE_OPTIONS, HeaderValue::from_static("nosniff"));
    response
}

const fn gate(open: bool) -> StatusCode {
    if open { StatusCode::OK } else { StatusCode::SERVICE_UNAVAILABLE }
}

fn text(status: StatusCode, body: &'static str) -> Response {
    (status, [(header::CONTENT_TYPE, TEXT)], body).into_response()
}

fn json<T: Serialize>(status: StatusCode, body: &T) -> Response {
    match serde_json::to_string_pretty(body) {
        Ok(mut body) => {
            body.push('\n');
            (status, [(header::CONTENT_TYPE, JSON)], body).into_response()
        }
        Err(error) => {
            tracing::error!(%error, "admin: an answer could not be written as JSON");
            text(StatusCode::INTERNAL_SERVER_ERROR, "the answer could not be written\n")
        }
    }
}
