//! What a run saw: how many statements ran, returned rows, were denied (by code and by what the
//! grammar had put into them), and each difference with what repeats it.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::delivery::Delivery;
use crate::judge::Verdict;
use crate::open::Open;
use crate::statement::{Source, Statement};

/// At least this share of statements must run without an error where A is alone.
const LEAST_RUNNING: f64 = 70.0;
/// At least this share must return rows.
const LEAST_WITH_ROWS: f64 = 40.0;
/// Examples kept for each denial code and error.
const EXAMPLES: usize = 3;

/// Characters of a difference that are shown of its begin and of its end.
const SHOWN_OF_A_DIFFERENCE: usize = 800;

/// A difference.
pub struct Failure {
    pub number: u64,
    pub delivery: Delivery,
    pub stage: &'static str,
    pub source: Source,
    pub planner: String,
    pub sql: String,
    pub difference: String,
    pub reduced: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { number, delivery, stage, source, planner, sql, difference, reduced } = self;
        let difference = shortened(difference);
        write!(
            f,
            "DIFFERENT statement {number} of {stage} ({source:?}, {delivery:?}, {planner})\n  whole: {sql}\n  \
             reduced: {reduced}\n  {difference}"
        )
    }
}

/// Begin and end of a text that may hold thousands of rows.
fn shortened(text: &str) -> String {
    let letters: Vec<char> = text.chars().collect();
    match letters.len().checked_sub(2 * SHOWN_OF_A_DIFFERENCE) {
        None | Some(0) => text.to_owned(),
        Some(left_out) => {
            let (head, tail) = letters.split_at(SHOWN_OF_A_DIFFERENCE);
            let tail = &tail[left_out..];
            format!(
                "{} … {left_out} characters … {}",
                head.iter().collect::<String>(),
                tail.iter().collect::<String>()
            )
        }
    }
}

/// The counts of one source of statements.
#[derive(Default)]
struct Counts {
    statements: usize,
    /// Ran without an error where A is alone.
    running: usize,
    with_rows: usize,
    same: usize,
    denied: usize,
    unsettled: usize,
}

/// The counts.
#[derive(Default)]
pub struct Report {
    pub statements: usize,
    pub failures: Vec<Failure>,
    pub time: Duration,
    sources: BTreeMap<Source, Counts>,
    timed_out: usize,
    /// Denials of the grammar's statements and of the others, by code.
    denied: BTreeMap<String, (usize, Vec<String>)>,
    denied_others: BTreeMap<String, (usize, Vec<String>)>,
    open: BTreeMap<String, (usize, Vec<String>)>,
    features: BTreeMap<&'static str, (usize, usize)>,
    plain_errors: BTreeMap<String, (usize, Vec<String>)>,
    other_errors: Vec<String>,
}

impl Report {
    pub fn count(
        &mut self,
        statement: &Statement,
        verdict: &Verdict,
        plain_error: String,
        sql: &str,
        open: &Open,
    ) {
        self.statements += 1;
        let counts = self.sources.entry(statement.source).or_default();
        counts.statements += 1;
        let ours = matches!(statement.source, Source::Grammar | Source::Twisted);
        if plain_error.is_empty() {
            counts.running += 1;
        } else if ours {
            note(&mut self.plain_errors, plain_error, sql);
        }
        let denied = matches!(verdict, Verdict::Denied(_));
        for feature in statement.tree.features() {
            let (all, refused) = self.features.entry(feature).or_default();
            *all += 1;
            *refused += usize::from(denied);
        }
        match verdict {
            Verdict::Same { rows, .. } => {
                counts.same += 1;
                counts.with_rows += usize::from(*rows);
            }
            Verdict::Denied(code) => {
                counts.denied += 1;
                let table = if ours { &mut self.denied } else { &mut self.denied_others };
                note(table, code.clone(), sql);
            }
            Verdict::TimedOut => self.timed_out += 1,
            Verdict::Unsettled => counts.unsettled += 1,
            Verdict::Open(place) => note(&mut self.open, open.why(*place), sql),
            Verdict::OtherError(difference) => {
                self.other_errors.push(format!("{sql}\n      {difference}"))
            }
            Verdict::Different(_) => {}
        }
    }

    pub fn fail(&mut self, failure: Failure) {
        println!("{failure}");
        self.failures.push(failure);
    }

    /// The last words of a run that failed: where a log is cut, its end is what is left.
    pub fn failures_as_text(&self, seed: u64) -> String {
        let mut text = format!("{} statements differ, seed {seed}:\n", self.failures.len());
        for failure in &self.failures {
            text.push_str(&failure.to_string());
            text.push('\n');
        }
        text
    }

    fn grammar(&self) -> Counts {
        let mut all = Counts::default();
        for source in [Source::Grammar, Source::Twisted] {
            if let Some(counts) = self.sources.get(&source) {
                all.statements += counts.statements;
                all.running += counts.running;
                all.with_rows += counts.with_rows;
                all.denied += counts.denied;
            }
        }
        all
    }

    pub fn print(&self, seed: u64) {
        for (code, (count, examples)) in &self.plain_errors {
            println!("errors without the proxy {code}: {count}");
            examples.iter().for_each(|example| println!("    {example}"));
        }
        println!("| feature | statements | denied |\n|---|---:|---:|");
        for (feature, (all, refused)) in &self.features {
            println!("| {feature} | {all} | {:.1} % |", share(*refused, *all));
        }
        for other in self.other_errors.iter().take(10) {
            println!("other error: {other}");
        }
        for (why, (count, examples)) in &self.open {
            println!("open: {count} × {why}");
            examples.iter().take(1).for_each(|example| println!("    {example}"));
        }
        let grammar = self.grammar();
        let others = self.statements - grammar.statements;
        for (title, table, all) in [
            ("the grammar's", &self.denied, grammar.statements),
            ("the others'", &self.denied_others, others),
        ] {
            println!("| denied of {title} {all} | statements | share |\n|---|---:|---:|");
            for (code, (count, _)) in table {
                println!("| {code} | {count} | {:.2} % |", share(*count, all));
            }
            for (code, (_, examples)) in table {
                examples.iter().for_each(|example| println!("denied {code}: {example}"));
            }
        }
        println!("| source | statements | run | with rows | equal | unsettled | denied |");
        println!("|---|---:|---:|---:|---:|---:|---:|");
        for (source, counts) in &self.sources {
            let all = counts.statements;
            println!(
                "| {source:?} | {all} | {:.1} % | {:.1} % | {:.1} % | {:.1} % | {:.2} % |",
                share(counts.running, all),
                share(counts.with_rows, all),
                share(counts.same, all),
                share(counts.unsettled, all),
                share(counts.denied, all),
            );
        }
        println!(
            "seed {seed}: {} statements in {:.0} s ({:.0}/s); of the grammar's {:.1} % run without error, \
             {:.1} % return rows, {:.2} % are denied; {} other errors, {} open, {} timed out, {} different",
            self.statements,
            self.time.as_secs_f64(),
            self.statements as f64 / self.time.as_secs_f64().max(0.001),
            share(grammar.running, grammar.statements),
            share(grammar.with_rows, grammar.statements),
            share(grammar.denied, grammar.statements),
            self.other_errors.len(),
            self.open.values().map(|(count, _)| count).sum::<usize>(),
            self.timed_out,
            self.failures.len(),
        );
    }

    /// A grammar whose statements fail or find nothing proves nothing.
    pub fn assert_useful(&self) {
        let grammar = self.grammar();
        let running = share(grammar.running, grammar.statements);
        let with_rows = share(grammar.with_rows, grammar.statements);
        assert!(running >= LEAST_RUNNING, "{running:.1} % ran without error");
        assert!(with_rows >= LEAST_WITH_ROWS, "{with_rows:.1} % returned rows");
    }
}

fn share(count: usize, all: usize) -> f64 {
    100.0 * count as f64 / all.max(1) as f64
}

fn note(counts: &mut BTreeMap<String, (usize, Vec<String>)>, code: String, sql: &str) {
    let (count, examples) = counts.entry(code).or_default();
    *count += 1;
    examples.push(sql.to_owned());
    // The shortest tell most.
    examples.sort_by_key(String::len);
    examples.truncate(EXAMPLES);
}
