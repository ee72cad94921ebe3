//! The pages: what a template needs, put together from the index, the files and the standings.
//! Layer 5.

mod overview;
mod plot;
mod record;
mod rows;
mod sources;

pub(super) use overview::{Answer, fresh_rows, overview};
pub(super) use record::{raw, record};
pub(super) use sources::sources;

use std::path::Path;

use askama::Template;
use axum::http::{HeaderValue, StatusCode, header};
use axum::response::{IntoResponse, Response};

use super::State;
use super::http::Viewer;
use super::text;
use super::watch::{Standing, read};

/// What every page shows around its content.
struct Frame {
    page: &'static str,
    viewer: Option<String>,
    health: Health,
    building: Option<Building>,
    broken: Vec<Broken>,
}

/// The state of all chains in a few words.
struct Health {
    class: &'static str,
    text: String,
}

/// How far the first reading has come.
struct Building {
    percent: u64,
    text: String,
}

/// One source that does not verify.
struct Broken {
    anchor: String,
    source: String,
    text: String,
}

impl Frame {
    fn new(state: &State, viewer: &Viewer, page: &'static str) -> Self {
        let shared = &state.watch.shared;
        let standings = read(&shared.standings);
        let broken: Vec<Broken> = standings
            .iter()
            .filter(|standing| standing.broken())
            .map(|standing| Broken {
                anchor: anchor(standing),
                source: source_name(&standing.directory, &standing.chain),
                text: what_is_wrong(standing),
            })
            .collect();
        let building = shared.progress.building().then(|| {
            let (done, total) = shared.progress.bytes();
            Building {
                percent: (done.saturating_mul(100)).checked_div(total).unwrap_or(0).min(100),
                text: format!("{} of {}", text::bytes(done), text::bytes(total)),
            }
        });
        Self { page, viewer: viewer.0.clone(), health: health(&standings), building, broken }
    }
}

fn health(standings: &[Standing]) -> Health {
    let chains = standings.iter().filter(|standing| !standing.chain.is_empty()).count() as u64;
    let broken = standings.iter().filter(|standing| standing.broken()).count() as u64;
    if broken > 0 {
        let verb = if broken == 1 { "does" } else { "do" };
        let text = format!("{} {verb} not verify", text::count(broken, "source", "sources"));
        return Health { class: "bad", text };
    }
    if chains == 0 {
        return Health { class: "wait", text: "no audit files yet".to_owned() };
    }
    if standings.iter().any(|standing| !standing.complete) {
        let (total, done) = standings.iter().fold((0_u64, 0_u64), |(total, done), standing| {
            (total.saturating_add(standing.bytes.0), done.saturating_add(standing.bytes.1))
        });
        let percent = done.saturating_mul(100).checked_div(total).unwrap_or(0).min(99);
        return Health { class: "wait", text: format!("verifying: {percent} %") };
    }
    Health { class: "good", text: format!("{} intact", text::count(chains, "chain", "chains")) }
}

/// Why a source does not verify; empty when it does.
fn what_is_wrong(standing: &Standing) -> String {
    match (&standing.problem, &standing.fault) {
        (Some(problem), _) => problem.clone(),
        (None, Some(fault)) => fault.text.clone(),
        (None, None) => String::new(),
    }
}

/// Where a source is on its page.
fn anchor(standing: &Standing) -> String {
    if standing.chain.is_empty() { "none".to_owned() } else { format!("c-{}", standing.chain) }
}

/// A source's name for people: its directory's name, and the end of the chain's id (its beginning is
/// the time, which chains of one day share).
fn source_name(directory: &Path, chain: &str) -> String {
    let mut name = short_directory(directory);
    if !chain.is_empty() {
        let from = chain.len().saturating_sub(6);
        let end = chain.get(from..).unwrap_or(chain);
        name.push_str(&format!(" · …{end}"));
    }
    name
}

/// The last part of a directory's name that says something: `audit` alone does not.
fn short_directory(directory: &Path) -> String {
    let mut parts =
        directory.components().rev().filter_map(|part| part.as_os_str().to_str()).take(2);
    let (last, parent) = (parts.next().unwrap_or("."), parts.next());
    match (last, parent) {
        ("audit", Some(parent)) if parent != "/" => format!("{parent}/{last}"),
        (last, _) => last.to_owned(),
    }
}

fn html(status: StatusCode, page: &impl Template) -> Response {
    match page.render() {
        Ok(text) => {
            let kind = HeaderValue::from_static("text/html; charset=utf-8");
            (status, [(header::CONTENT_TYPE, kind)], text).into_response()
        }
        Err(error) => {
            tracing::error!(%error, "console: a template could not be filled in");
            (StatusCode::INTERNAL_SERVER_ERROR, "The page could not be made.\n").into_response()
        }
    }
}

#[derive(Template)]
#[template(path = "plain.html")]
struct Plain<'a> {
    title: &'a str,
    text: &'a str,
    sign_in: bool,
    next: &'a str,
}

/// A page that says why there is none.
pub(super) fn failure(status: StatusCode, text: &str) -> Response {
    let title = match status {
        StatusCode::NOT_FOUND => "Not found",
        StatusCode::UNAUTHORIZED => "Sign in",
        StatusCode::FORBIDDEN => "Not allowed",
        _ => status.canonical_reason().unwrap_or("That did not work"),
    };
    html(status, &Plain { title, text, sign_in: false, next: "" })
}

/// The page that asks for a token.
pub(super) fn sign_in(status: StatusCode, next: &str, text: &str) -> Response {
    html(status, &Plain { title: "Sign in", text, sign_in: true, next })
}

/// A name and a value on a page.
struct Fact {
    name: &'static str,
    value: String,
    link: String,
}

impl Fact {
    fn plain(name: &'static str, value: impl Into<String>) -> Self {
        Self { name, value: value.into(), link: String::new() }
    }

    fn linked(name: &'static str, value: impl Into<String>, link: impl Into<String>) -> Self {
        Self { name, value: value.into(), link: link.into() }
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn sources_have_names_that_tell_them_apart() {
        let chain = "01934f5e-0000-7000-8000-00000000abcd";
        let name = |path: &str| source_name(Path::new(path), chain);
        assert_eq!(name("/var/lib/orders-7f/audit"), "orders-7f/audit · …00abcd");
        assert_eq!(name("/collected/billing-0"), "billing-0 · …00abcd");
        assert_eq!(source_name(Path::new("/audit"), ""), "audit");
    }
}
