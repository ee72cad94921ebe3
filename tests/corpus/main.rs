//! What share of real SQL is taken for what it is: the corpus, decided with a policy that makes every
//! table a tenant's. `docs/corpus.md` is rendered from it.
//!
//! The whole corpus is data of its own, found by `HEDGEROW_CORPUS` or beside the repository; where
//! it is not there, a sample of the same kinds takes its place. `HEDGEROW_CORPUS_REFUSED=1` prints what
//! is refused, `HEDGEROW_BLESS=1` writes the page anew.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what it expected by failing"
)]

mod forms;

use std::collections::BTreeMap;
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::Command;

use hedgerow::catalog::Catalog;
use hedgerow::claims::{Claims, Principal, TenantClaim};
use hedgerow::decide::{Context, decide};
use hedgerow::ids::PolicyEpoch;
use hedgerow::policy::Policy;
use hedgerow::policy::load::compile;
use hedgerow::sql::Limits;
use hedgerow::sql::postgres::understands;
use serde::Deserialize;

/// The sample: every statement of it is accepted.
const SAMPLE: &str = include_str!("sample.jsonl");
/// What the queries and data changes of the corpus must reach at least; raised as the share grows,
/// never lowered.
const LEAST_SHARE_OF_QUERIES: f64 = 0.999;
/// The codes that mean: not read, or not of a kind that may run. The others judge what a statement does.
const NOT_TAKEN: [&str; 3] = ["HR1001", "HR1002", "HR1008"];
/// The kinds that the promise is about.
const QUERIES: [&str; 4] = ["DeleteStmt", "InsertStmt", "SelectStmt", "UpdateStmt"];
/// The policy: every table of every schema is a tenant's.
const POLICY: &str = "
engine: postgres
tenant: {column: tenant_id, type: uuid}
tables: {\"*.*\": {tenant: tenant_id}}
";
/// Why what is left is refused, for `docs/corpus.md`: a part of the text, and the reason.
const REASONS: &[(&str, &str)] = &[
    (
        "=@",
        "pgx's own named parameters, which pgx replaces before it sends: to PostgreSQL `=@` is an operator that nobody has",
    ),
    (
        "RETURNING WITH (OLD AS",
        "names for OLD and NEW in RETURNING: PostgreSQL 18, and not read by sqlparser",
    ),
    ("INSERT DEFAULT VALUES", "MERGE with INSERT DEFAULT VALUES: not read by sqlparser"),
    ("TRUNCATE", "TRUNCATE: it takes every tenant's rows"),
    ("INTO", "SELECT INTO makes a table"),
];

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

fn policy() -> Policy {
    compile(&[("corpus", POLICY)], PolicyEpoch(1)).expect("the policy is one").postgres
}

/// The code of the denial, if it is one of [`NOT_TAKEN`].
fn refusal(sql: &str, policy: &Policy) -> Option<&'static str> {
    let catalog =
        Catalog { live: false, search_path: vec!["public".to_owned()], ..Catalog::default() };
    let tenant = TenantClaim::Text("aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa".to_owned());
    let principal = Principal::assumed(Some(tenant), Claims::default());
    let limits = Limits::default();
    let context = Context { policy, catalog: &catalog, principal: &principal, limits };
    let code = decide(sql, context).err()?.denial.code.code();
    NOT_TAKEN.into_iter().find(|not_taken| *not_taken == code)
}

/// Statements by source or kind: all, and refused by code.
type Cells = BTreeMap<String, (usize, BTreeMap<&'static str, usize>)>;

#[derive(Default)]
struct Shares {
    by_kind: Cells,
    by_source: Cells,
    reasons: BTreeMap<(&'static str, &'static str), usize>,
    queries: usize,
    refused_queries: usize,
    unexplained: Vec<String>,
}

impl Shares {
    fn of(statements: &[Statement]) -> Self {
        let policy = policy();
        let mut shares = Self::default();
        for statement in statements {
            let refused = refusal(&statement.sql, &policy);
            for (cells, name) in
                [(&mut shares.by_kind, &statement.kind), (&mut shares.by_source, &statement.source)]
            {
                let cell = cells.entry(name.clone()).or_default();
                cell.0 += 1;
                if let Some(code) = refused {
                    *cell.1.entry(code).or_default() += 1;
                }
            }
            let query = QUERIES.contains(&statement.kind.as_str());
            shares.queries += usize::from(query);
            let Some(code) = refused else { continue };
            shares.refused_queries += usize::from(query);
            if std::env::var_os("HEDGEROW_CORPUS_REFUSED").is_some() {
                println!("{code} {}: {}", statement.source, statement.sql);
            }
            let upper = statement.sql.to_uppercase();
            match REASONS.iter().find(|(part, _)| upper.contains(part)) {
                Some((_, reason)) => *shares.reasons.entry((code, reason)).or_default() += 1,
                None => shares.unexplained.push(format!("{code}: {}", statement.sql)),
            }
        }
        shares
    }

    fn share(&self) -> f64 {
        1.0 - self.refused_queries as f64 / self.queries as f64
    }

    fn page(&self) -> String {
        let mut page = format!(
            "# What of real SQL is accepted\n\n\
             <!-- Rendered from the corpus by tests/corpus; do not edit. -->\n\n\
             Statements that ORMs, query builders, drivers and benchmarks send, decided with a policy that \
             makes every table a tenant's. *Refused* is what cannot be read (HR1001), is of a kind that may \
             not run (HR1002), or is read differently by two parsers (HR1008). Of {} SELECT, INSERT, UPDATE \
             and DELETE, {} are accepted: {:.2} %.\n",
            self.queries,
            self.queries - self.refused_queries,
            100.0 * self.share(),
        );
        for (title, cells) in [("source", &self.by_source), ("kind", &self.by_kind)] {
            let codes = NOT_TAKEN.join(" | ");
            write!(
                page,
                "\n| {title} | statements | {codes} | accepted |\n|---|---:|---:|---:|---:|---:|\n"
            )
            .unwrap();
            for (name, (all, refused)) in cells {
                let counts: Vec<String> = NOT_TAKEN
                    .iter()
                    .map(|code| refused.get(code).copied().unwrap_or_default().to_string())
                    .collect();
                let accepted = all - refused.values().sum::<usize>();
                let share = 100.0 * accepted as f64 / *all as f64;
                writeln!(page, "| {name} | {all} | {} | {share:.1} % |", counts.join(" | "))
                    .unwrap();
            }
        }
        page.push_str(
            "\nWhat is refused, and why:\n\n| code | statements | why |\n|---|---:|---|\n",
        );
        for ((code, reason), count) in &self.reasons {
            writeln!(page, "| {code} | {count} | {reason} |").unwrap();
        }
        if !self.unexplained.is_empty() {
            writeln!(page, "| | {} | each for itself |", self.unexplained.len()).unwrap();
        }
        page
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
}

#[test]
fn the_corpus_is_accepted_to_the_published_share() {
    let Some(corpus) = corpus() else {
        println!("the corpus is not here; HEDGEROW_CORPUS names it");
        return;
    };
    let shares = Shares::of(&corpus);
    let page = shares.page();
    println!("{page}");
    for text in shares.unexplained.iter().take(40) {
        println!("without a reason yet: {text}");
    }
    assert!(shares.share() >= LEAST_SHARE_OF_QUERIES, "the share fell to {:.4}", shares.share());
    let file = PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("docs/corpus.md");
    if std::env::var_os("HEDGEROW_BLESS").is_some() {
        std::fs::write(&file, &page).unwrap();
    }
    // A page that says less than is so is old; one that says more is wrong.
    let published = std::fs::read_to_string(&file).unwrap();
    let share = published.split("accepted: ").nth(1).and_then(|rest| rest.split(' ').next());
    let share: f64 = share.and_then(|share| share.parse().ok()).expect("the page says a share");
    assert!(
        share <= 100.0 * shares.share() + 0.005,
        "docs/corpus.md claims {share} %: write it anew with HEDGEROW_BLESS=1 cargo test --test corpus"
    );
}
