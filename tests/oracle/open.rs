//! `open.txt`: the differences that are known and not repaired yet.

use crate::statement::{Source, Statement};
use crate::support::wire::Report;

const LIST: &str = include_str!("open.txt");

/// One of them.
struct Entry {
    behind: bool,
    sqlstate: String,
    words: String,
    features: Vec<String>,
    why: String,
}

/// The list.
pub struct Open(Vec<Entry>);

impl Open {
    pub fn load() -> Self {
        let lines = LIST.lines().filter(|line| !line.starts_with('#') && !line.trim().is_empty());
        let entries = lines.map(|line| {
            let fields: Vec<&str> = line.split('|').map(str::trim).collect();
            let [side, sqlstate, words, features, why] = fields.as_slice() else {
                panic!("five fields: {line}");
            };
            assert!(["behind", "without"].contains(side) && !why.is_empty(), "{line}");
            Entry {
                behind: *side == "behind",
                sqlstate: (*sqlstate).to_owned(),
                words: (*words).to_owned(),
                features: features.split(',').map(|feature| feature.trim().to_owned()).collect(),
                why: (*why).to_owned(),
            }
        });
        Self(entries.collect())
    }

    /// The entry for an error behind the proxy only.
    pub fn behind(&self, statement: &Statement, error: &Report) -> Option<usize> {
        self.find(statement, error, true)
    }

    /// The entry for an error without the proxy only.
    pub fn without(&self, statement: &Statement, error: &Report) -> Option<usize> {
        self.find(statement, error, false)
    }

    /// Why an entry is open.
    pub fn why(&self, place: usize) -> String {
        let entry = &self.0[place];
        format!("{} {}: {}", entry.sqlstate, entry.words, entry.why)
    }

    fn find(&self, statement: &Statement, error: &Report, behind: bool) -> Option<usize> {
        let features = statement.tree.features();
        // What others make has no features that are known here.
        let foreign = matches!(statement.source, Source::Corpus | Source::Sqlsmith);
        self.0.iter().position(|entry| {
            entry.behind == behind
                && entry.sqlstate == error.sqlstate()
                && error.message().contains(&entry.words)
                && (foreign
                    || entry.features.iter().any(|feature| features.contains(feature.as_str())))
        })
    }
}
