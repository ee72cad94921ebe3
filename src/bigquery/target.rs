//! A request's target: path and query string, taken apart once. Layer 5, pure.
//!
//! Refuses what two readers could read differently: encoded separators, dots and control characters,
//! empty segments, parameters that come twice.

use std::collections::BTreeMap;

use super::fault::Fault;
use crate::error::{Denial, DenialCode};

/// Longest target, in bytes.
pub(super) const MAX_TARGET_BYTES: usize = 16 * 1024;
/// Most query parameters.
const MAX_PARAMETERS: usize = 64;

/// A target that was read.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Target {
    /// Segments of the path, decoded.
    pub(super) segments: Vec<String>,
    /// Parameters of the query string, decoded; each name once.
    pub(super) parameters: BTreeMap<String, String>,
}

/// Takes a target apart.
///
/// # Errors
/// HR5001 for a path, HR5002 for a query string of an unclear form.
pub(super) fn parse(raw: &[u8]) -> Result<Target, Fault> {
    let path_fault = || Fault::from(Denial::new(DenialCode::ApiMethod));
    if raw.len() > MAX_TARGET_BYTES {
        return Err(Fault::form("the target's length"));
    }
    let text = std::str::from_utf8(raw).map_err(|_| path_fault())?;
    let (path, query) = match text.split_once('?') {
        Some((path, query)) => (path, Some(query)),
        None => (text, None),
    };
    let path = path.strip_prefix('/').ok_or_else(path_fault)?;
    let segments = path
        .split('/')
        .map(|segment| decode(segment, false).filter(|segment| plain(segment)))
        .collect::<Option<Vec<_>>>()
        .ok_or_else(path_fault)?;
    let mut parameters = BTreeMap::new();
    for pair in query.into_iter().flat_map(|query| query.split('&')) {
        let (name, value) = pair.split_once('=').unwrap_or((pair, ""));
        let (Some(name), Some(value)) = (decode(name, true), decode(value, true)) else {
            return Err(Fault::form("the query string"));
        };
        if name.is_empty() || value.chars().any(char::is_control) {
            return Err(Fault::form("the query string"));
        }
        let shown = printable(&name);
        if parameters.insert(name, value).is_some() || parameters.len() > MAX_PARAMETERS {
            return Err(Fault::form(format!("query parameter {shown}")));
        }
    }
    Ok(Target { segments, parameters })
}

/// Whether a segment means nothing but itself.
fn plain(segment: &str) -> bool {
    !segment.is_empty()
        && segment != "."
        && segment != ".."
        && !segment.chars().any(|c| matches!(c, '/' | '\\' | '?' | '#' | '%') || c.is_control())
}

/// Percent-decoding, once; `None` for anything that is not well formed.
fn decode(text: &str, form: bool) -> Option<String> {
    let mut bytes = Vec::with_capacity(text.len());
    let mut rest = text.bytes();
    while let Some(byte) = rest.next() {
        match byte {
            b'%' => {
                let high = char::from(rest.next()?).to_digit(16)?;
                let low = char::from(rest.next()?).to_digit(16)?;
                bytes.push(u8::try_from(high * 16 + low).ok()?);
            }
            b'+' if form => bytes.push(b' '),
            other => bytes.push(other),
        }
    }
    String::from_utf8(bytes).ok()
}

/// A name of the client's, short and without control characters.
pub(super) fn printable(text: &str) -> String {
    text.chars().filter(|c| !c.is_control()).take(64).collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn paths_are_decoded_once_and_unclear_ones_refused() {
        let target = parse(b"/bigquery/v2/projects/a%2Db/queries?x=1%26y&z").unwrap();
        assert_eq!(target.segments, ["bigquery", "v2", "projects", "a-b", "queries"]);
        assert_eq!(target.parameters["x"], "1&y");
        assert_eq!(target.parameters["z"], "");
        for raw in [
            "",
            "bigquery",
            "/a//b",
            "/a/",
            "/a/../b",
            "/a/%2e%2e/b",
            "/a%2Fb",
            "/a%2fb",
            "/a%5Cb",
            "/a\\b",
            "/a%00b",
            "/a%252Fb",
            "/a%zz",
            "/a%2",
            "/a#b",
            "http://other/a//b",
            "/a?x=1&x=2",
            "/a?=1",
            "/a?x=%0d%0a",
            "/a?x=%ff",
        ] {
            assert!(parse(raw.as_bytes()).is_err(), "{raw}");
        }
        assert!(parse(&[b"/", vec![b'a'; MAX_TARGET_BYTES].as_slice()].concat()).is_err());
    }
}
