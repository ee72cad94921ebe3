//! Which tokens were taken back: the list of the revocation file, and whether it names an identity.
//! Layer 1; pure.
//!
//! One JSON object a line, in one of three forms; a line in any other form is a fault of the whole
//! list, for a revocation that nobody understands must not be taken for none:
//! - `{"iss": …, "jti": …}`: one token;
//! - `{"iss": …, "sub": …, "not_before": …}`: all tokens of a subject that were issued before;
//! - `{"tenant": …, "not_before": …}`: all tokens of a tenant that were issued before.
//!
//! `not_before` is in seconds since 1970, or a time as in RFC 3339.

use std::collections::{HashMap, HashSet};

use serde_json::{Map, Value};
use thiserror::Error;

use super::{VerifiedIdentity, strict_object};
use crate::claims::TenantClaim;

/// Longest list, in bytes.
pub const MAX_REVOCATION_BYTES: usize = 64 << 20;

/// A list that cannot be used.
#[derive(Clone, Debug, PartialEq, Eq, Error)]
pub enum RevocationFault {
    /// Over [`MAX_REVOCATION_BYTES`].
    #[error("is longer than {MAX_REVOCATION_BYTES} bytes")]
    TooLong,
    /// Not UTF-8.
    #[error("is not UTF-8")]
    NotUtf8,
    /// A line in none of the three forms.
    #[error("line {0} is not a revocation")]
    Line(usize),
}

/// A list of revocations.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct RevocationList {
    tokens: HashSet<(String, String)>,
    subjects: HashMap<(String, String), i64>,
    tenants: HashMap<TenantClaim, i64>,
}

impl RevocationList {
    /// Reads the text of a file.
    ///
    /// # Errors
    /// [`RevocationFault`], with the first line that is in no known form.
    pub fn parse(bytes: &[u8]) -> Result<Self, RevocationFault> {
        if bytes.len() > MAX_REVOCATION_BYTES {
            return Err(RevocationFault::TooLong);
        }
        let text = std::str::from_utf8(bytes).map_err(|_invalid| RevocationFault::NotUtf8)?;
        let mut list = Self::default();
        for (index, line) in text.lines().enumerate().filter(|(_, line)| !line.trim().is_empty()) {
            list.add(line).ok_or(RevocationFault::Line(index.saturating_add(1)))?;
        }
        Ok(list)
    }

    /// Takes up entries that come one by one. What is in no known form is counted and left out: it
    /// must not keep the others from taking effect.
    pub fn of_entries<'a>(entries: impl IntoIterator<Item = &'a [u8]>) -> (Self, usize) {
        let mut list = Self::default();
        let mut refused = 0_usize;
        for entry in entries.into_iter().filter(|entry| !entry.trim_ascii().is_empty()) {
            let taken = std::str::from_utf8(entry).ok().and_then(|line| list.add(line));
            refused = refused.saturating_add(usize::from(taken.is_none()));
        }
        (list, refused)
    }

    fn add(&mut self, line: &str) -> Option<()> {
        let entry = strict_object(line.trim().as_bytes()).ok()?;
        let text = |name: &str| entry.get(name)?.as_str().map(str::to_owned);
        let names: HashSet<&str> = entry.keys().map(String::as_str).collect();
        if names == HashSet::from(["iss", "jti"]) {
            self.tokens.insert((text("iss")?, text("jti")?));
        } else if names == HashSet::from(["iss", "sub", "not_before"]) {
            later(&mut self.subjects, (text("iss")?, text("sub")?), not_before(&entry)?);
        } else if names == HashSet::from(["tenant", "not_before"]) {
            let tenant = TenantClaim::from_value(entry.get("tenant")?)?;
            later(&mut self.tenants, tenant, not_before(&entry)?);
        } else {
            return None;
        }
        Some(())
    }

    /// Whether an identity's token was taken back.
    pub fn revokes(&self, identity: &VerifiedIdentity) -> bool {
        let of = |value: &str| (identity.issuer().to_owned(), value.to_owned());
        let issued_before = |limit: Option<&i64>| {
            limit.is_some_and(|not_before| identity.issued_at() < *not_before)
        };
        !self.tokens.is_empty()
            && identity.token_id().is_some_and(|token| self.tokens.contains(&of(token)))
            || !self.subjects.is_empty()
                && issued_before(self.subjects.get(&of(identity.subject())))
            || issued_before(identity.tenant().and_then(|tenant| self.tenants.get(tenant)))
    }

    /// How many revocations it holds.
    pub fn len(&self) -> usize {
        self.tokens.len().saturating_add(self.subjects.len()).saturating_add(self.tenants.len())
    }

    /// Whether it holds none.
    pub fn is_empty(&self) -> bool {
        self.len() == 0
    }
}

/// Of several lines about one caller, the latest time counts.
fn later<K: std::hash::Hash + Eq>(times: &mut HashMap<K, i64>, key: K, not_before: i64) {
    let time = times.entry(key).or_insert(not_before);
    *time = not_before.max(*time);
}

fn not_before(entry: &Map<String, Value>) -> Option<i64> {
    match entry.get("not_before")? {
        Value::Number(number) => number.as_i64().or_else(|| {
            // To the stricter second.
            let seconds = number.as_f64()?.ceil();
            (seconds.abs() < 1e15).then_some(seconds as i64)
        }),
        Value::String(text) => text.parse::<jiff::Timestamp>().ok().map(|time| time.as_second()),
        Value::Null | Value::Bool(_) | Value::Array(_) | Value::Object(_) => None,
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_line_in_no_known_form_is_a_fault_of_the_list() {
        let good = "{\"iss\":\"i\",\"jti\":\"1\"}\n\n{\"tenant\":7,\"not_before\":10}\n\
                    {\"iss\":\"i\",\"sub\":\"s\",\"not_before\":\"2026-01-01T00:00:00Z\"}";
        assert_eq!(RevocationList::parse(good.as_bytes()).unwrap().len(), 3);
        assert!(RevocationList::parse(b"").unwrap().is_empty());
        for bad in [
            "{\"iss\":\"i\",\"jti\":1}",
            "{\"jti\":\"1\"}",
            "{\"iss\":\"i\",\"jti\":\"1\",\"sub\":\"s\"}",
            "{\"iss\":\"i\",\"sub\":\"s\"}",
            "{\"iss\":\"i\",\"sub\":\"s\",\"not_before\":\"soon\"}",
            "{\"tenant\":[\"a\"],\"not_before\":1}",
            "{\"tenant\":\"a\",\"tenant\":\"b\",\"not_before\":1}",
            "{\"tenant\":\"a\",\"not_before\":1",
            "# none",
        ] {
            let text = format!("{{\"iss\":\"i\",\"jti\":\"0\"}}\n{bad}\n");
            assert_eq!(
                RevocationList::parse(text.as_bytes()),
                Err(RevocationFault::Line(2)),
                "{bad}"
            );
        }
        assert_eq!(RevocationList::parse(b"\xff"), Err(RevocationFault::NotUtf8));
    }

    #[test]
    fn an_entry_in_no_known_form_does_not_keep_the_others_out() {
        let entries: [&[u8]; 4] =
            [b"{\"iss\":\"i\",\"jti\":\"1\"}", b"", b"soon", b"{\"tenant\":7,\"not_before\":10}"];
        let (list, refused) = RevocationList::of_entries(entries);
        assert_eq!((list.len(), refused), (2, 1));
    }
}
