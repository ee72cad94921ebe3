//! What share of real SQL both parsers read alike: the first stage of the decision, without policy.
//!
//! The whole corpus is data of its own, found by `HEDGEROW_CORPUS` or beside the repository; where
//! it is not there, a sample of the same kinds takes its place. Printed by kind of statement.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what it expected by failing"
)]

mod forms;

use std::collections::BTreeMap;
use std::path::PathBuf;
use std::process::Command;

use hedgerow::sql::postgres::understands;
use serde::Deserialize;

/// The sample: every statement of it is accepted.
const SAMPLE: &str = include_str!("sample.jsonl");
/// What the whole corpus must reach at least; raised as the share grows, never lowered.
const LEAST_SHARE_OF_CORPUS: f64 = 0.98;

#[derive(Deserialize)]
struct Statement {
    source: String,
    #[serde(default)]
    kind: String,
    sql: String,
}

fn statements(text: &str) -> Vec<Statement> {
    text.lines()
        .map(|line| serde_json::from_str(line).unwrap_or_else(|error| panic!("{error}: {line}")))
        .collect()
}

/// The whole corpus, when it is there.
fn corpus() -> Option<Vec<Statement>> {
    let beside =
        PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus/postgres.jsonl.gz");
    let path = std::env::var_os("HEDGEROW_CORPUS").map_or(beside, PathBuf::from);
    if !path.is_file() {
        return None;
    }
    let output = Command::new("gzip").arg("-dc").arg(&path).output().expect("gzip can be run");
    assert!(output.status.success(), "{} cannot be read", path.display());
    Some(statements(&String::from_utf8(output.stdout).expect("UTF-8")))
}

/// Accepted statements and all, by kind and by source.
#[derive(Default)]
struct Shares {
    by_kind: BTreeMap<String, (usize, usize)>,
    by_source: BTreeMap<String, (usize, usize)>,
    codes: BTreeMap<&'static str, usize>,
    accepted: usize,
    all: usize,
}

impl Shares {
    fn of(statements: &[Statement]) -> Self {
        let mut shares = Self::default();
        for statement in statements {
            let verdict = understands(&statement.sql);
            let accepted = usize::from(verdict.is_ok());
            for cell in [
                shares.by_kind.entry(statement.kind.clone()).or_default(),
                shares.by_source.entry(statement.source.clone()).or_default(),
            ] {
                cell.0 += accepted;
                cell.1 += 1;
            }
            shares.accepted += accepted;
            shares.all += 1;
            if let Err(denial) = verdict {
                *shares.codes.entry(denial.code.code()).or_default() += 1;
            }
        }
        shares
    }

    fn share(&self) -> f64 {
        self.accepted as f64 / self.all as f64
    }

    fn print(&self, what: &str) {
        println!("{what}: {} of {} ({:.2} %)", self.accepted, self.all, 100.0 * self.share());
        println!("refused by code: {:?}", self.codes);
        for (title, cells) in [("kind", &self.by_kind), ("source", &self.by_source)] {
            println!("| {title} | accepted | of | share |\n|---|---|---|---|");
            for (name, (accepted, all)) in cells {
                let share = 100.0 * *accepted as f64 / *all as f64;
                println!("| {name} | {accepted} | {all} | {share:.1} % |");
            }
        }
    }
}

#[test]
fn every_statement_of_the_sample_is_read_alike_by_both_parsers() {
    let sample = statements(SAMPLE);
    let refused: Vec<String> = sample
        .iter()
        .filter_map(|statement| {
            Some(format!("{}: {}", understands(&statement.sql).err()?, statement.sql))
        })
        .collect();
    assert!(refused.is_empty(), "{}", refused.join("\n"));
    Shares::of(&sample).print("sample");
}

#[test]
fn the_corpus_is_accepted_to_the_published_share() {
    let Some(corpus) = corpus() else {
        println!("the corpus is not here; HEDGEROW_CORPUS names it");
        return;
    };
    let shares = Shares::of(&corpus);
    shares.print("corpus");
    assert!(shares.share() >= LEAST_SHARE_OF_CORPUS, "the share fell to {:.4}", shares.share());
}
