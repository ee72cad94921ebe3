//! What a run saw: how many statements ran, returned rows, were denied (by code and by what the
//! grammar had put into them), and each difference with what repeats it.

use std::collections::BTreeMap;
use std::fmt;
use std::time::Duration;

use crate::delivery::Delivery;
use crate::judge::Verdict;
use crate::write::Statement;

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
    pub tenant: &'static str,
    pub planner: String,
    pub sql: String,
    pub difference: String,
    pub reduced: String,
}

impl fmt::Display for Failure {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let Self { number, delivery, tenant, planner, sql, difference, reduced } = self;
        let difference = shortened(difference);
        write!(
            f,
            "DIFFERENT statement {number} ({delivery:?}, tenant {tenant}, {planner})\n  whole: {sql}\n  \
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

/// The counts.
#[derive(Default)]
pub struct Report {
    pub statements: usize,
    pub failures: Vec<Failure>,
    pub time: Duration,
    running: usize,
    compared: usize,
    with_rows: usize,
    timed_out: usize,
    denied: BTreeMap<String, (usize, Vec<String>)>,
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
    ) {
        self.statements += 1;
        if plain_error.is_empty() {
            self.running += 1;
        } else {
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
                self.compared += 1;
                self.with_rows += usize::from(*rows);
            }
            Verdict::Denied(code) => note(&mut self.denied, code.clone(), sql),
            Verdict::TimedOut => self.timed_out += 1,
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

    pub fn print(&self, seed: u64) {
        let share = |count: usize| 100.0 * count as f64 / self.statements.max(1) as f64;
        let denied: usize = self.denied.values().map(|(count, _)| count).sum();
        println!(
            "seed {seed}: {} statements in {:.0} s ({:.0}/s); {:.1} % run without error, {:.1} % return rows; \
             {:.1} % equal, {:.2} % denied, {} other error, {} timed out, {} different",
            self.statements,
            self.time.as_secs_f64(),
            self.statements as f64 / self.time.as_secs_f64().max(0.001),
            share(self.running),
            share(self.with_rows),
            share(self.compared),
            share(denied),
            self.other_errors.len(),
            self.timed_out,
            self.failures.len(),
        );
        for (title, counts) in
            [("denied", &self.denied), ("errors without the proxy", &self.plain_errors)]
        {
            for (code, (count, examples)) in counts {
                println!("{title} {code}: {count}");
                examples.iter().for_each(|example| println!("    {example}"));
            }
        }
        println!("| feature | statements | denied |\n|---|---:|---:|");
        for (feature, (all, refused)) in &self.features {
            println!("| {feature} | {all} | {:.1} % |", 100.0 * *refused as f64 / *all as f64);
        }
        for other in self.other_errors.iter().take(10) {
            println!("other error: {other}");
        }
    }

    /// A grammar whose statements fail or find nothing proves nothing.
    pub fn assert_useful(&self) {
        let share = |count: usize| 100.0 * count as f64 / self.statements as f64;
        assert!(
            share(self.running) >= LEAST_RUNNING,
            "{:.1} % ran without error",
            share(self.running)
        );
        assert!(
            share(self.with_rows) >= LEAST_WITH_ROWS,
            "{:.1} % returned rows",
            share(self.with_rows)
        );
    }
}

fn note(counts: &mut BTreeMap<String, (usize, Vec<String>)>, code: String, sql: &str) {
    let (count, examples) = counts.entry(code).or_default();
    *count += 1;
    examples.push(sql.to_owned());
    // The shortest tell most.
    examples.sort_by_key(String::len);
    examples.truncate(EXAMPLES);
}
