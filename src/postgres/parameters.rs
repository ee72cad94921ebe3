//! Start parameters: what a client may ask for, what a backend is started with. Layer 5; pure.
//!
//! An allow-list: a start parameter goes straight into a setting of the server's (CVE-2025-12819 came
//! in by `search_path`). Session variables and pins go in last and win.

use std::time::Duration;

use serde_json::Value;

use super::Limits;
use crate::catalog::Catalog;
use crate::claims::{ClaimPath, Claims};
use crate::endpoint::Secret;
use crate::error::{Denial, DenialCode};
use crate::mutant;
use crate::sql::postgres::keeps_search_path;
use crate::wire::startup::split_options;

/// The startup option that carries a token.
const TOKEN: &str = "hedgerow.token";
/// Allowed where it changes nothing: Django's `options` and JDBC's `currentSchema` send it.
const SEARCH_PATH: &str = "search_path";
/// What a client may set, as PostgreSQL spells it.
const ALLOWED: [&str; 8] = [
    "application_name",
    "client_encoding",
    "DateStyle",
    "TimeZone",
    "IntervalStyle",
    "extra_float_digits",
    "statement_timeout",
    "lock_timeout",
];
/// What every backend is started with: how text is read must not change under the decision.
const PINNED: [(&str, &str); 3] =
    [("client_encoding", "UTF8"), ("standard_conforming_strings", "on"), ("row_security", "on")];

/// What a client asked for.
#[derive(Clone, Debug, Default)]
pub(super) struct Requested {
    pub(super) user: String,
    pub(super) database: String,
    pub(super) token: Option<Secret>,
    /// `_pq_.` options, which are none of ours.
    pub(super) unknown_options: Vec<String>,
    /// A search path, which [`Requested::take_search_path`] judges once the schema is known.
    search_path: Option<String>,
    settings: Vec<(&'static str, String)>,
}

/// A start parameter that cannot be.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) enum ParameterFault {
    /// One that a tenant may not set.
    Denied(Denial),
    /// An encoding other than UTF-8.
    Encoding,
    /// No user name.
    NoUser,
    /// `options` that cannot be read.
    Options,
}

impl Requested {
    /// Reads the parameters of a StartupMessage.
    pub(super) fn read(parameters: &[(&str, &str)]) -> Result<Self, ParameterFault> {
        let mut requested = Self::default();
        for (name, value) in parameters {
            match *name {
                "user" => requested.user = (*value).to_owned(),
                "database" => requested.database = (*value).to_owned(),
                "replication" => {
                    if !matches!(*value, "false" | "off" | "no" | "0") {
                        let denial = Denial::of(DenialCode::ProtocolMessage, "replication");
                        return Err(ParameterFault::Denied(denial));
                    }
                }
                "options" => {
                    for (name, value) in
                        split_options(value).map_err(|_fault| ParameterFault::Options)?
                    {
                        if name.eq_ignore_ascii_case(TOKEN) {
                            requested.token = Some(Secret::new(value));
                        } else {
                            requested.set(&name, &value)?;
                        }
                    }
                }
                name if name.starts_with("_pq_.") => {
                    requested.unknown_options.push(name.to_owned())
                }
                name => requested.set(name, value)?,
            }
        }
        if requested.user.is_empty() {
            return Err(ParameterFault::NoUser);
        }
        if requested.database.is_empty() {
            requested.database.clone_from(&requested.user);
        }
        Ok(requested)
    }

    fn set(&mut self, name: &str, value: &str) -> Result<(), ParameterFault> {
        if name.eq_ignore_ascii_case(SEARCH_PATH) {
            self.search_path = Some(value.to_owned());
            return Ok(());
        }
        let Some(known) = ALLOWED.iter().find(|known| known.eq_ignore_ascii_case(name)) else {
            let denial = Denial::of(DenialCode::ProtectedSetting, name);
            return Err(ParameterFault::Denied(denial));
        };
        if *known == "client_encoding" {
            // SQL_ASCII is what clients say in the C locale: bytes as they are. They get UTF-8.
            let plain: String = value
                .chars()
                .filter(char::is_ascii_alphanumeric)
                .map(|letter| letter.to_ascii_lowercase())
                .collect();
            return match plain.as_str() {
                "utf8" | "unicode" | "sqlascii" => Ok(()),
                _ => Err(ParameterFault::Encoding),
            };
        }
        self.settings.retain(|(set, _)| set != known);
        self.settings.push((known, value.to_owned()));
        Ok(())
    }

    /// Takes the search path that was asked for, if it is the one that a session has anyway.
    ///
    /// # Errors
    /// HR1006 for any other.
    pub(super) fn take_search_path(&mut self, catalog: &Catalog) -> Result<(), Denial> {
        let Some(path) = self.search_path.take() else { return Ok(()) };
        if !keeps_search_path(&path, catalog) && !mutant::on("start-parameter") {
            return Err(Denial::of(DenialCode::ProtectedSetting, SEARCH_PATH));
        }
        self.settings.push((SEARCH_PATH, path));
        Ok(())
    }

    /// What the client calls itself.
    pub(super) fn application_name(&self) -> Option<&str> {
        self.settings
            .iter()
            .find(|(name, _)| *name == "application_name")
            .map(|(_, value)| value.as_str())
    }

    /// The start parameters of this client's backend.
    pub(super) fn backend_settings(
        &self,
        limits: &Limits,
        variables: &[(String, ClaimPath)],
        claims: &Claims,
    ) -> Result<Vec<(String, String)>, Denial> {
        let mut settings: Vec<(String, String)> = Vec::new();
        let mut set = |name: &str, value: String| {
            settings.retain(|(known, _)| !known.eq_ignore_ascii_case(name));
            settings.push((name.to_owned(), value));
        };
        for (name, value) in &self.settings {
            set(name, value.clone());
        }
        if !limits.statement_timeout.is_zero() {
            set("statement_timeout", self.statement_timeout(limits.statement_timeout));
        }
        for (name, path) in variables {
            set(name, variable(claims, path)?);
        }
        for (name, value) in PINNED {
            set(name, value.to_owned());
        }
        Ok(settings)
    }

    /// The limit in milliseconds, or what the client asked for if that is less.
    fn statement_timeout(&self, limit: Duration) -> String {
        let limit = limit.as_millis().max(1);
        self.settings
            .iter()
            .find(|(name, _)| *name == "statement_timeout")
            .and_then(|(_, value)| value.parse().ok())
            .filter(|wanted| (1..limit).contains(wanted))
            .unwrap_or(limit)
            .to_string()
    }
}

/// A claim as the text of a setting: empty when it is missing.
fn variable(claims: &Claims, path: &ClaimPath) -> Result<String, Denial> {
    let malformed = || Denial::of(DenialCode::TokenClaim, path.segments().join("."));
    match claims.at(path) {
        None | Some(Value::Null) => Ok(String::new()),
        Some(Value::Bool(flag)) => Ok(flag.to_string()),
        Some(Value::Number(number)) => Ok(number.to_string()),
        Some(Value::String(text)) if !text.contains('\0') => Ok(text.clone()),
        Some(Value::String(_) | Value::Array(_) | Value::Object(_)) => Err(malformed()),
    }
}

/// Whether a ParameterStatus leaves in place what must not change.
pub(super) fn status_is_as_pinned(name: &str, value: &str) -> bool {
    PINNED
        .iter()
        .find(|(pinned, _)| *pinned == name)
        .is_none_or(|(_, expected)| value.eq_ignore_ascii_case(expected))
}

#[cfg(test)]
mod tests {
    use super::*;
    use serde_json::json;

    fn read(parameters: &[(&str, &str)]) -> Result<Requested, ParameterFault> {
        let user = [("user", "alice")];
        Requested::read(&user.iter().chain(parameters).copied().collect::<Vec<_>>())
    }

    fn claims(value: Value) -> Claims {
        Claims(value.as_object().unwrap().clone())
    }

    #[test]
    fn what_is_not_on_the_list_is_denied() {
        for name in [
            "role",
            "session_authorization",
            "app.current_tenant",
            "standard_conforming_strings",
            "row_security",
            "Row_Security",
        ] {
            let expected = ParameterFault::Denied(Denial::of(DenialCode::ProtectedSetting, name));
            assert_eq!(read(&[(name, "x")]).unwrap_err(), expected);
            let option = format!("-c {name}=x");
            assert_eq!(read(&[("options", &option)]).unwrap_err(), expected);
        }
        assert!(matches!(read(&[("replication", "database")]), Err(ParameterFault::Denied(_))));
        assert!(matches!(read(&[("options", "-f s")]), Err(ParameterFault::Options)));
        assert!(matches!(read(&[("client_encoding", "LATIN1")]), Err(ParameterFault::Encoding)));
        assert!(matches!(Requested::read(&[]), Err(ParameterFault::NoUser)));
    }

    #[test]
    fn a_search_path_is_taken_only_where_it_changes_nothing() {
        let catalog = Catalog { search_path: vec!["public".to_owned()], ..Catalog::default() };
        let taken = |parameter: (&str, &str)| {
            let mut requested = read(&[parameter]).unwrap();
            requested.take_search_path(&catalog)?;
            requested.backend_settings(&Limits::default(), &[], &Claims::default())
        };
        for parameter in [
            ("search_path", "\"$user\", public"),
            ("Search_Path", "public"),
            ("options", "-c search_path=public"),
        ] {
            let settings = taken(parameter).unwrap();
            assert!(settings.iter().any(|(name, _)| name == "search_path"), "{parameter:?}");
        }
        for parameter in [
            ("search_path", "x"),
            ("search_path", ""),
            ("Search_Path", "public, x"),
            ("options", "-c search_path=x"),
            ("options", "-csearch_path=x,public"),
        ] {
            let denial = taken(parameter).unwrap_err();
            assert_eq!(denial, Denial::of(DenialCode::ProtectedSetting, "search_path"));
        }
    }

    #[test]
    fn a_token_is_taken_out_of_the_options() {
        let requested = read(&[
            ("options", "-c hedgerow.token=a.b.c --timezone=UTC"),
            ("client_encoding", "'utf-8'"),
        ])
        .unwrap();
        assert_eq!(requested.token.as_ref().unwrap().expose(), "a.b.c");
        assert_eq!(requested.database, "alice");
        let settings =
            requested.backend_settings(&Limits::default(), &[], &Claims::default()).unwrap();
        let names: Vec<_> =
            settings.iter().map(|(name, value)| format!("{name}={value}")).collect();
        assert_eq!(
            names,
            [
                "TimeZone=UTC",
                "client_encoding=UTF8",
                "standard_conforming_strings=on",
                "row_security=on"
            ]
        );
    }

    #[test]
    fn session_variables_come_from_claims_alone() {
        let path = |text| ClaimPath::parse(text).unwrap();
        let variables = [
            ("app.tenant".to_owned(), path("tenant")),
            ("app.level".to_owned(), path("level")),
            ("app.none".to_owned(), path("none")),
            ("application_name".to_owned(), path("tenant")),
        ];
        let requested = read(&[("application_name", "psql")]).unwrap();
        let settings = requested
            .backend_settings(
                &Limits::default(),
                &variables,
                &claims(json!({"tenant": "a", "level": 3})),
            )
            .unwrap();
        for expected in
            [("app.tenant", "a"), ("app.level", "3"), ("app.none", ""), ("application_name", "a")]
        {
            assert!(
                settings.contains(&(expected.0.to_owned(), expected.1.to_owned())),
                "{expected:?}"
            );
        }
        assert_eq!(settings.iter().filter(|(name, _)| name == "application_name").count(), 1);
        let denied = requested
            .backend_settings(&Limits::default(), &variables, &claims(json!({"tenant": ["a"]})))
            .unwrap_err();
        assert_eq!(denied.code, DenialCode::TokenClaim);
    }

    #[test]
    fn the_statement_timeout_can_only_be_lowered() {
        let limits = Limits { statement_timeout: Duration::from_secs(2), ..Limits::default() };
        for (wanted, expected) in
            [("500", "500"), ("0", "2000"), ("9999", "2000"), ("1min", "2000")]
        {
            let settings = read(&[("statement_timeout", wanted)])
                .unwrap()
                .backend_settings(&limits, &[], &Claims::default())
                .unwrap();
            assert!(settings.contains(&("statement_timeout".to_owned(), expected.to_owned())));
        }
    }
}
