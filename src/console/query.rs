//! What a page is asked for: filters, window, search, place. Read from a URL, written back as one,
//! so that every filter is a link. Layer 5, pure.

use super::text::{encode, pairs, rfc3339};
use crate::audit::search::parse_time;
use jiff::Timestamp;

/// Which outcomes are shown.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub(super) enum Show {
    /// What was refused, or would have been.
    #[default]
    Denied,
    /// Attempts on other tenants' data.
    CrossTenant,
    /// Let through, for the table is only monitored.
    WouldDeny,
    /// Refused sign-ins.
    SignIn,
    /// What failed, and gaps.
    Errors,
    /// What was let through.
    Allowed,
    /// All records.
    Everything,
}

impl Show {
    /// All, with the word in the URL and the one on the page.
    pub(super) const ALL: &[(Self, &str, &str)] = &[
        (Self::Denied, "denied", "Denied"),
        (Self::CrossTenant, "cross-tenant", "Cross-tenant"),
        (Self::WouldDeny, "would-deny", "Would deny"),
        (Self::SignIn, "sign-in", "Refused sign-ins"),
        (Self::Errors, "errors", "Errors and gaps"),
        (Self::Allowed, "allowed", "Allowed"),
        (Self::Everything, "all", "Everything"),
    ];

    /// Its word in the URL.
    pub(super) fn word(self) -> &'static str {
        Self::ALL.iter().find(|(show, _, _)| *show == self).map_or("", |(_, word, _)| word)
    }
}

/// Windows that are one click away, and their names.
pub(super) const WINDOWS: &[(&str, &str)] = &[
    ("1h", "1 hour"),
    ("24h", "24 hours"),
    ("7d", "7 days"),
    ("30d", "30 days"),
    ("", "all time"),
];

/// Where a page begins: rows before this one, by the index's order.
pub(super) type Cursor = (i64, u32, u32);

/// What is asked for.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub(super) struct Query {
    pub(super) show: Show,
    pub(super) tenant: Option<String>,
    pub(super) code: Option<String>,
    pub(super) service: Option<String>,
    /// A chain.
    pub(super) source: Option<String>,
    pub(super) fingerprint: Option<String>,
    pub(super) session: Option<String>,
    pub(super) search: Option<String>,
    /// As written: RFC 3339, a date, or how long ago.
    pub(super) since: Option<String>,
    pub(super) until: Option<String>,
    /// Grouped by statement.
    pub(super) grouped: bool,
    pub(super) before: Option<Cursor>,
}

impl Query {
    /// Longest value that is looked at, in bytes.
    const LONGEST: usize = 2_048;

    /// Reads the query part of a URL. Unknown names are passed over; what cannot be read is no
    /// filter, and [`Query::window`] tells of times that are none.
    pub(super) fn read(text: &str) -> Self {
        let mut query = Self::default();
        for (name, value) in pairs(text) {
            let end = value.floor_char_boundary(Self::LONGEST);
            let value = value.split_at(end).0.to_owned();
            let given = (!value.is_empty()).then(|| value.clone());
            match name.as_str() {
                "show" => {
                    let known = Show::ALL.iter().find(|(_, word, _)| *word == value);
                    query.show = known.map_or_else(Show::default, |(show, _, _)| *show);
                }
                // An empty name is one too: records without a tenant, clients without a name.
                "tenant" => query.tenant = Some(value),
                "service" => query.service = Some(value),
                "code" => query.code = given.map(|code| code.to_ascii_uppercase()),
                "source" => query.source = given,
                "fp" => query.fingerprint = given,
                "session" => query.session = given,
                "q" => {
                    query.search =
                        given.map(|text| text.trim().to_owned()).filter(|t| !t.is_empty())
                }
                "since" => query.since = given,
                "until" => query.until = given,
                "by" => query.grouped = value == "statement",
                "before" => query.before = cursor(&value),
                _ => {}
            }
        }
        query
    }

    /// The window in microseconds, or a sentence about the time that cannot be read.
    ///
    /// # Errors
    /// When `since` or `until` is no time.
    pub(super) fn window(&self, now: Timestamp) -> Result<(Option<i64>, Option<i64>), String> {
        let read = |text: &Option<String>| {
            text.as_deref()
                .map(|text| parse_time(text, now).map(Timestamp::as_microsecond))
                .transpose()
        };
        Ok((read(&self.since)?, read(&self.until)?))
    }

    /// As the query part of a URL, without the question mark; empty for the home page.
    pub(super) fn text(&self) -> String {
        let mut parts = Vec::new();
        let mut put = |name: &str, value: &str| parts.push(format!("{name}={}", encode(value)));
        if self.show != Show::default() {
            put("show", self.show.word());
        }
        let filters = [
            ("tenant", &self.tenant),
            ("code", &self.code),
            ("service", &self.service),
            ("source", &self.source),
            ("fp", &self.fingerprint),
            ("session", &self.session),
            ("q", &self.search),
            ("since", &self.since),
            ("until", &self.until),
        ];
        for (name, value) in filters {
            if let Some(value) = value {
                put(name, value);
            }
        }
        if self.grouped {
            put("by", "statement");
        }
        if let Some((time, file, line)) = self.before {
            put("before", &format!("{time}.{file}.{line}"));
        }
        parts.join("&")
    }

    /// The link to this on a page.
    pub(super) fn link(&self, path: &str) -> String {
        let text = self.text();
        if text.is_empty() { path.to_owned() } else { format!("{path}?{text}") }
    }

    /// The same from its first page on, changed.
    pub(super) fn with(&self, change: impl FnOnce(&mut Self)) -> Self {
        let mut query = self.clone();
        query.before = None;
        change(&mut query);
        query
    }

    /// The same for a span of time, in microseconds.
    pub(super) fn during(&self, since: i64, until: i64) -> Self {
        self.with(|query| {
            query.since = Some(rfc3339(since));
            query.until = Some(rfc3339(until));
        })
    }
}

fn cursor(text: &str) -> Option<Cursor> {
    let mut parts = text.split('.');
    let cursor =
        (parts.next()?.parse().ok()?, parts.next()?.parse().ok()?, parts.next()?.parse().ok()?);
    parts.next().is_none().then_some(cursor)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_query_is_a_link_that_reads_back_as_itself() {
        let query = Query {
            show: Show::CrossTenant,
            tenant: Some(String::new()),
            code: Some("HR1004".to_owned()),
            service: Some("<b>&\"'".to_owned()),
            source: Some("c".to_owned()),
            fingerprint: Some("f".to_owned()),
            session: Some("s".to_owned()),
            search: Some("a=b & c".to_owned()),
            since: Some("24h".to_owned()),
            until: Some("2026-11-21T00:00:00Z".to_owned()),
            grouped: true,
            before: Some((-1, 2, 3)),
        };
        assert_eq!(Query::read(&query.text()), query);
        assert_eq!(Query::default().link("/"), "/");
        assert_eq!(Query::read(""), Query::default());
        assert_eq!(Query::read("show=nonsense&before=1.2&who=me"), Query::default());
        assert_eq!(query.with(|query| query.tenant = None).before, None);
        for (show, word, _) in Show::ALL {
            assert_eq!(Query::read(&format!("show={word}")).show, *show);
        }
    }

    #[test]
    fn windows_are_read_or_complained_about() {
        let now = "2026-11-21T12:00:00Z".parse().unwrap();
        let query = Query::read("since=1h&until=2026-11-21T11:30:00Z");
        let (since, until) = query.window(now).unwrap();
        assert_eq!(until.unwrap() - since.unwrap(), 1_800_000_000);
        assert!(Query::read("since=yesterday").window(now).is_err());
    }
}
