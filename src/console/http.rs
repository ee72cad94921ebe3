//! Paths, headers, sign-in: what stands between a request and a page. Layer 5.

use std::sync::Arc;

use axum::Router;
use axum::body::{Body, to_bytes};
use axum::extract::{Path, RawQuery, Request, State as Extract};
use axum::http::{HeaderMap, HeaderValue, Method, StatusCode, Uri, header};
use axum::middleware::{self, Next};
use axum::response::{IntoResponse, Response};
use axum::routing::{get, post};

use super::access::{Access, host_is_ours};
use super::query::Query;
use super::text::{encode, pairs};
use super::{State, export, pages};

/// SECURITY: nothing runs and nothing is fetched but the page's own files; no frame shows it.
const POLICY: &str = "default-src 'none'; style-src 'self'; script-src 'self'; img-src 'self'; \
    connect-src 'self'; form-action 'self'; base-uri 'none'; frame-ancestors 'none'";

const STYLE: &str = include_str!("assets/console.css");
const SCRIPT: &str = include_str!("assets/console.js");
const ICON: &str = include_str!("assets/icon.svg");

/// Largest body of a sign-in, in bytes: a token and its encoding.
const MAX_FORM: usize = 64 * 1024;

/// Who is looking; `None` where nobody needs to sign in.
#[derive(Clone, Default)]
pub(super) struct Viewer(pub(super) Option<String>);

/// The closed table of paths.
pub(super) fn router(state: Arc<State>) -> Router {
    let shown = Router::new()
        .route("/", get(overview))
        .route("/rows", get(rows))
        .route("/sources", get(sources))
        .route("/record/{chain}/{segment}/{line}", get(record))
        .route("/record/{chain}/{segment}/{line}/raw", get(raw))
        .route("/export.csv", get(export_csv))
        .route("/export.jsonl", get(export_json))
        .layer(middleware::from_fn_with_state(Arc::clone(&state), require_sign_in));
    Router::new()
        .merge(shown)
        .route("/sign-in", get(sign_in_page).post(sign_in))
        .route("/sign-out", post(sign_out))
        .route("/livez", get(async || "ok\n"))
        .route("/assets/console.css", get(async || asset("text/css; charset=utf-8", STYLE)))
        .route("/assets/console.js", get(async || asset("text/javascript; charset=utf-8", SCRIPT)))
        .route("/assets/icon.svg", get(async || asset("image/svg+xml", ICON)))
        .fallback(async || pages::failure(StatusCode::NOT_FOUND, "There is no such page."))
        .layer(middleware::from_fn_with_state(Arc::clone(&state), guard))
        .with_state(state)
}

fn asset(kind: &'static str, text: &'static str) -> Response {
    ([(header::CONTENT_TYPE, HeaderValue::from_static(kind))], text).into_response()
}

/// The first thing that a request meets and the last that its answer does.
async fn guard(Extract(state): Extract<Arc<State>>, request: Request, next: Next) -> Response {
    let mut response = match refuse(&state, &request) {
        Some((status, reason)) => pages::failure(status, reason),
        None => next.run(request).await,
    };
    let headers = response.headers_mut();
    for (name, value) in [
        (header::CONTENT_SECURITY_POLICY, POLICY),
        (header::CACHE_CONTROL, "no-store"),
        (header::X_CONTENT_TYPE_OPTIONS, "nosniff"),
        (header::X_FRAME_OPTIONS, "DENY"),
        (header::REFERRER_POLICY, "same-origin"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    for (name, value) in [
        ("cross-origin-opener-policy", "same-origin"),
        ("cross-origin-resource-policy", "same-origin"),
        ("permissions-policy", "camera=(), geolocation=(), microphone=()"),
    ] {
        headers.insert(name, HeaderValue::from_static(value));
    }
    response
}

/// Why a request is not answered at all.
fn refuse(state: &State, request: &Request) -> Option<(StatusCode, &'static str)> {
    let headers = request.headers();
    let one = |name| {
        let mut values = headers.get_all(name).iter();
        match (values.next(), values.next()) {
            (Some(value), None) => value.to_str().ok(),
            (_, Some(_)) | (None, None) => None,
        }
    };
    let Some(host) = one(header::HOST) else {
        return Some((StatusCode::BAD_REQUEST, "The request names no host."));
    };
    if !host_is_ours(host, &state.hosts) {
        let reason = "This name is not one of the console's: reach it by its address, or start it \
            with --host NAME.";
        return Some((StatusCode::MISDIRECTED_REQUEST, reason));
    }
    // A link that leads here from elsewhere is welcome; a page elsewhere that fetches is not.
    let text = |name: &str| headers.get(name).and_then(|value| value.to_str().ok());
    let foreign = text("sec-fetch-site").is_some_and(|site| site == "cross-site");
    let link = request.method() == Method::GET
        && text("sec-fetch-mode").is_some_and(|mode| mode == "navigate")
        && text("sec-fetch-dest").is_some_and(|destination| destination == "document");
    if foreign && !link {
        return Some((StatusCode::FORBIDDEN, "Other sites may not ask here."));
    }
    if request.method() == Method::POST {
        let origin = text("origin").map(|origin| origin.split("://").nth(1).unwrap_or_default());
        if origin.is_some_and(|origin| origin != host) {
            return Some((StatusCode::FORBIDDEN, "Other sites may not ask here."));
        }
    }
    None
}

/// Lets nobody see a record who has not signed in, where that is asked for.
async fn require_sign_in(
    Extract(state): Extract<Arc<State>>,
    mut request: Request,
    next: Next,
) -> Response {
    let viewer = match &state.access {
        Access::Loopback => Viewer(None),
        Access::SignIn(sign_in) => match sign_in.who(request.headers()).await {
            Ok(identity) => {
                tracing::info!(
                    subject = identity.subject(),
                    path = request.uri().path(),
                    "console: looked at"
                );
                Viewer(Some(identity.subject().to_owned()))
            }
            Err(refused) => {
                let next = request.uri().path_and_query().map_or("/", |path| path.as_str());
                let page = request.method() == Method::GET
                    && !request.headers().contains_key(header::AUTHORIZATION)
                    && !next.starts_with("/rows")
                    && !next.starts_with("/export");
                let status = if matches!(refused, super::access::Refused::Claim) {
                    StatusCode::FORBIDDEN
                } else {
                    StatusCode::UNAUTHORIZED
                };
                if page && status == StatusCode::UNAUTHORIZED {
                    return see_other(&format!("/sign-in?next={}", encode(next)));
                }
                let text = refused.text();
                let text = if text.is_empty() { "Sign in first." } else { &text };
                return pages::failure(status, text);
            }
        },
    };
    request.extensions_mut().insert(viewer);
    next.run(request).await
}

fn see_other(location: &str) -> Response {
    match HeaderValue::from_str(location) {
        Ok(location) => (StatusCode::SEE_OTHER, [(header::LOCATION, location)]).into_response(),
        Err(_) => pages::failure(StatusCode::BAD_REQUEST, "The address cannot be used."),
    }
}

/// Runs what reads files or many rows where it holds up nobody.
async fn blocking(work: impl FnOnce() -> Response + Send + 'static) -> Response {
    match tokio::task::spawn_blocking(work).await {
        Ok(response) => response,
        Err(error) => {
            tracing::error!(%error, "console: a page could not be made");
            pages::failure(StatusCode::INTERNAL_SERVER_ERROR, "The page could not be made.")
        }
    }
}

type Asked = (Extract<Arc<State>>, axum::Extension<Viewer>, RawQuery);

async fn overview((Extract(state), axum::Extension(viewer), RawQuery(query)): Asked) -> Response {
    let query = Query::read(&query.unwrap_or_default());
    blocking(move || match pages::overview(&state, &viewer, &query) {
        pages::Answer::Page(page) => page,
        pages::Answer::Elsewhere(location) => see_other(&location),
    })
    .await
}

async fn rows((Extract(state), _, RawQuery(query)): Asked) -> Response {
    let query = query.unwrap_or_default();
    blocking(move || pages::fresh_rows(&state, &query)).await
}

async fn sources((Extract(state), axum::Extension(viewer), _): Asked) -> Response {
    blocking(move || pages::sources(&state, &viewer)).await
}

type Address = Path<(String, u64, u32)>;

async fn record(
    Extract(state): Extract<Arc<State>>,
    axum::Extension(viewer): axum::Extension<Viewer>,
    Path((chain, segment, line)): Address,
) -> Response {
    blocking(move || pages::record(&state, &viewer, (&chain, segment, line))).await
}

async fn raw(
    Extract(state): Extract<Arc<State>>,
    Path((chain, segment, line)): Address,
) -> Response {
    blocking(move || pages::raw(&state, (&chain, segment, line))).await
}

async fn export_csv((Extract(state), _, RawQuery(query)): Asked) -> Response {
    export::answer(state, &query.unwrap_or_default(), export::Form::Csv)
}

async fn export_json((Extract(state), _, RawQuery(query)): Asked) -> Response {
    export::answer(state, &query.unwrap_or_default(), export::Form::JsonLines)
}

async fn sign_in_page(Extract(state): Extract<Arc<State>>, RawQuery(query): RawQuery) -> Response {
    match &state.access {
        Access::Loopback => see_other("/"),
        Access::SignIn(_) => {
            pages::sign_in(StatusCode::OK, &next_of(&query.unwrap_or_default()), "")
        }
    }
}

async fn sign_in(Extract(state): Extract<Arc<State>>, body: Body) -> Response {
    let Access::SignIn(sign_in) = &state.access else { return see_other("/") };
    let Ok(body) = to_bytes(body, MAX_FORM).await else {
        return pages::failure(StatusCode::PAYLOAD_TOO_LARGE, "That is no token.");
    };
    let form = String::from_utf8_lossy(&body);
    let token = pairs(&form).into_iter().find(|(name, _)| name == "token").map(|(_, token)| token);
    let next = next_of(&form);
    match sign_in.begin(token.unwrap_or_default().trim()).await {
        Ok(cookie) => with_cookie(see_other(&next), &cookie),
        Err(refused) => pages::sign_in(StatusCode::UNAUTHORIZED, &next, &refused.text()),
    }
}

async fn sign_out(Extract(state): Extract<Arc<State>>, headers: HeaderMap) -> Response {
    match &state.access {
        Access::Loopback => see_other("/"),
        Access::SignIn(sign_in) => with_cookie(see_other("/sign-in"), &sign_in.end(&headers)),
    }
}

fn with_cookie(mut response: Response, cookie: &str) -> Response {
    if let Ok(cookie) = HeaderValue::from_str(cookie) {
        response.headers_mut().insert(header::SET_COOKIE, cookie);
    }
    response
}

/// Where to go after signing in. SECURITY: a path of this site and nothing else, so that a link to
/// the sign-in page cannot lead away.
fn next_of(form: &str) -> String {
    let next = pairs(form).into_iter().find(|(name, _)| name == "next").map(|(_, next)| next);
    let ours = |next: &String| {
        next.starts_with('/')
            && !next.starts_with("//")
            && !next.contains(['\\', '\r', '\n', '\t'])
            && next.parse::<Uri>().is_ok_and(|uri| uri.authority().is_none())
    };
    next.filter(ours).unwrap_or_else(|| "/".to_owned())
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn signing_in_leads_to_a_page_of_this_site() {
        assert_eq!(next_of("next=%2F%3Ftenant%3Da"), "/?tenant=a");
        for away in
            ["//evil.example", "https://evil.example", "/\\evil.example", "", "evil", "/\t/x"]
        {
            assert_eq!(next_of(&format!("next={}", encode(away))), "/", "{away}");
        }
    }
}
