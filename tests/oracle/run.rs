//! One statement on both sides, and the reduction of one that differs.

use crate::delivery::Delivery;
use crate::grammar::Grammar;
use crate::judge::{Answers, Verdict, compare};
use crate::open::Open;
use crate::random::Random;
use crate::report::{Failure, Report};
use crate::statement::{Source, Statement};
use crate::tree::Tree;
use crate::twist;
use crate::world::{Stage, World};

/// Settings that make the planner choose what it would not choose by itself.
const PLANNERS: &[&[&str]] = &[
    &[],
    &["enable_seqscan"],
    &["enable_hashjoin", "enable_mergejoin"],
    &["enable_nestloop"],
    &["enable_seqscan", "enable_nestloop"],
    &["enable_hashjoin", "enable_hashagg"],
    &["enable_seqscan", "enable_indexscan"],
    &["enable_seqscan", "enable_bitmapscan", "enable_mergejoin"],
];
/// Statements under one set of settings.
const PLANNER_STATEMENTS: u64 = 20;
/// Statements that a reduction may try.
const REDUCTION_TRIALS: usize = 400;

/// One of so many statements is sqlsmith's, about.
const FOREIGN_SHARE: u64 = 12;

/// A world and its statements.
pub struct Run {
    world: World,
    open: Open,
    seed: u64,
    planner: Option<u64>,
}

impl Run {
    pub fn new(stage: &Stage, seed: u64) -> Self {
        let name = stage
            .name
            .bytes()
            .fold(seed, |hash, byte| (hash ^ u64::from(byte)).wrapping_mul(0x0100_0000_01b3));
        Self { world: World::new(stage, seed), open: Open::load(), seed: name, planner: None }
    }

    pub fn finish(self) {
        self.world.hedgerow.finish();
    }

    /// Makes statement `number` of the seed and compares. What it is depends on the seed, the stage
    /// and the number alone.
    pub fn one(&mut self, number: u64, report: &mut Report) {
        let mut random =
            Random::new(self.seed.wrapping_mul(0x2545_f491_4f6c_dd1d).wrapping_add(number << 20));
        let delivery = random.choose(&Delivery::ALL);
        let statement = self.make(&mut random, delivery, number);
        let (sql, _) = statement.text();
        self.prepare_sessions(number / PLANNER_STATEMENTS);
        let (verdict, failed_alone) = self.play(&statement, delivery);
        report.count(&statement, &verdict, failed_alone, &sql, &self.open);
        if let Verdict::Different(difference) = verdict {
            let reduced = self.reduce(&statement, delivery, &difference);
            report.fail(Failure {
                number,
                delivery,
                stage: self.world.stage,
                source: statement.source,
                planner: self
                    .planner
                    .map_or_else(String::new, |planner| settings(planner).join(", ")),
                sql,
                difference,
                reduced,
            });
        }
    }

    fn make(&mut self, random: &mut Random, delivery: Delivery, number: u64) -> Statement {
        let kind = random.below(100);
        if kind >= 92
            && let Some(sql) = self.world.foreign.statement(number / FOREIGN_SHARE)
        {
            return Statement::of_text(Source::Sqlsmith, &sql);
        }
        if (84..92).contains(&kind) {
            let corpus = std::mem::take(&mut self.world.corpus);
            let sql = corpus.statement(random, |sql| self.world.plans(sql));
            self.world.corpus = corpus;
            if let Some(sql) = sql {
                let mut statement = Statement::of_text(Source::Corpus, &sql);
                if random.chance(30) {
                    let spelling = random.choose(&twist::Kind::SPELLINGS);
                    statement.spelling = Some((spelling, random.clone()));
                }
                return statement;
            }
        }
        let tenants = self.world.tenants.clone();
        let grammar = Grammar::new(random.clone(), tenants, delivery.has_parameters());
        let mut statement = grammar.statement();
        if (70..84).contains(&kind) {
            let twist = random.choose(if statement.writes {
                &twist::Kind::SPELLINGS[..]
            } else {
                &twist::Kind::ALL[..]
            });
            statement.source = Source::Twisted;
            statement.ordered &= twist.keeps_order();
            statement.spelling = Some((twist, random.clone()));
        }
        statement
    }

    /// Runs a statement of a file by simple query.
    pub fn replay(&mut self, sql: &str) -> Verdict {
        self.play(&Statement::of_text(Source::File, sql), Delivery::Simple).0
    }

    /// What came of it, and the SQLSTATE of the plain side.
    fn play(&mut self, statement: &Statement, delivery: Delivery) -> (Verdict, String) {
        let (sql, parameters) = statement.text();
        let (proxied, plain) = self.world.clients();
        let (through, straight) = std::thread::scope(|scope| {
            let straight =
                scope.spawn(|| delivery.send(plain, &sql, &parameters, statement.writes));
            let through = delivery.send(proxied, &sql, &parameters, statement.writes);
            (through, straight.join().expect("an answer"))
        });
        let (proxied, plain) = self.world.clients();
        proxied.forget();
        plain.forget();
        let answers =
            Answers { sql: &sql, parameters: &parameters, proxied: &through, plain: &straight };
        let mut verdict = compare(statement, &answers, &self.open);
        if statement.writes {
            let compares = matches!(verdict, Verdict::Same { .. });
            let wrong = self.world.settle(compares);
            if !wrong.is_empty() {
                verdict = Verdict::Different(format!("after the write: {}", wrong.join("; ")));
            }
        }
        let force =
            [&through, &straight].into_iter().any(|answer| answer.closed || answer.timed_out)
                || verdict == Verdict::TimedOut;
        if self.world.renew(force) {
            self.planner = None;
        }
        (verdict, straight.sqlstate())
    }

    fn prepare_sessions(&mut self, planner: u64) {
        if self.planner == Some(planner) {
            return;
        }
        self.planner = Some(planner);
        let (proxied, plain) = self.world.clients();
        for sql in std::iter::once("RESET ALL".to_owned()).chain(settings(planner)) {
            for client in [&mut *proxied, &mut *plain] {
                let outcome = client.query(&sql);
                assert!(outcome.errors().is_empty(), "{sql}: {outcome:?}");
            }
        }
    }

    /// Cuts the statement down as long as it differs in the same way.
    fn reduce(&mut self, statement: &Statement, delivery: Delivery, difference: &str) -> String {
        let kind = kind_of(difference).to_owned();
        let mut best = statement.tree.clone();
        let mut trials = 0;
        let mut planner = self.planner;
        'again: loop {
            for smaller in best.smaller() {
                trials += 1;
                if trials > REDUCTION_TRIALS {
                    break 'again;
                }
                if let Some(planner) = planner {
                    self.prepare_sessions(planner);
                }
                planner = self.planner.or(planner);
                if self.fails_alike(statement, &smaller, delivery, &kind) {
                    best = smaller;
                    continue 'again;
                }
            }
            break;
        }
        Statement { tree: best, ..statement.clone() }.text().0
    }

    fn fails_alike(
        &mut self,
        statement: &Statement,
        tree: &Tree,
        delivery: Delivery,
        kind: &str,
    ) -> bool {
        let candidate = Statement {
            tree: tree.clone(),
            ordered: statement.ordered && tree.render().contains("ORDER BY"),
            ..statement.clone()
        };
        let verdict = self.play(&candidate, delivery).0;
        matches!(verdict, Verdict::Different(difference) if kind_of(&difference) == kind)
    }
}

fn settings(planner: u64) -> Vec<String> {
    let off = PLANNERS[planner as usize % PLANNERS.len()];
    let mut settings: Vec<String> = off.iter().map(|name| format!("SET {name} = off")).collect();
    if planner % 3 == 1 {
        settings.push("SET join_collapse_limit = 1".to_owned());
    }
    settings
}

/// The class of a difference: its words up to the first colon.
fn kind_of(difference: &str) -> &str {
    difference.split(':').next().unwrap_or(difference)
}
