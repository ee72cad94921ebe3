//! The list of seeded faults, as types.

use serde::Deserialize;

/// A fault of the rewriter, with what it spoils.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Rewriter {
    pub fault: String,
    pub breaks: String,
    /// Statements that come out otherwise under the fault.
    pub sql: Vec<String>,
    /// Without the fault they are denied.
    #[serde(default)]
    pub denied: bool,
    /// Why the checker cannot see it.
    pub unseen: Option<String>,
}

/// A fault of another part.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct Other {
    pub fault: String,
    pub breaks: String,
}

/// All faults.
#[derive(Deserialize)]
#[serde(deny_unknown_fields)]
pub struct List {
    pub rewriter: Vec<Rewriter>,
    pub checker: Vec<Other>,
    pub classifier: Vec<Other>,
    pub policy: Vec<Other>,
    pub token: Vec<Other>,
    pub session: Vec<Other>,
    pub googlesql: Vec<Other>,
    pub audit: Vec<Other>,
}

/// A part of the program, and the unit tests that look at it.
pub struct Part<'l> {
    pub title: &'static str,
    pub faults: &'l [Other],
    pub units: &'static [&'static str],
}

impl List {
    pub fn load() -> Self {
        serde_saphyr::from_str(include_str!("mutants.yaml")).unwrap()
    }

    /// The parts beside the rewriter.
    pub fn parts(&self) -> [Part<'_>; 7] {
        let part = |title, faults, units| Part { title, faults, units };
        [
            part(
                "Checker",
                self.checker.as_slice(),
                ["sql::postgres::check::", "sql::"].as_slice(),
            ),
            part(
                "Classifier",
                &self.classifier,
                &["sql::postgres::tests::what_may", "sql::postgres::closed", "sql::"],
            ),
            part(
                "Policy compiler",
                &self.policy,
                &["policy::", "sql::postgres::expression", "sql::", "config::"],
            ),
            part("Token verification", &self.token, &["identity::", "keys::"]),
            part(
                "Session",
                &self.session,
                &[
                    "decide::",
                    "postgres::egress",
                    "postgres::scrub",
                    "postgres::replies",
                    "postgres::judge",
                    "postgres::parameters",
                ],
            ),
            part("GoogleSQL", &self.googlesql, &["sql::bigquery::"]),
            part("Audit", &self.audit, &["audit::"]),
        ]
    }
}
