//! One statement on both sides, and the reduction of one that differs.

use crate::delivery::Delivery;
use crate::grammar::{Grammar, Tenants};
use crate::judge::{Verdict, compare};
use crate::random::Random;
use crate::report::{Failure, Report};
use crate::tree::Tree;
use crate::world::World;
use crate::write::Statement;

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

/// A world and its statements.
pub struct Run {
    world: World,
    seed: u64,
    planner: Option<u64>,
}

impl Run {
    pub fn new(tenants: Tenants, seed: u64) -> Self {
        Self { world: World::new(tenants), seed, planner: None }
    }

    pub fn finish(self) {
        self.world.hedgerow.finish();
    }

    /// Makes statement `number` of the seed and compares.
    pub fn one(&mut self, number: u64, report: &mut Report) {
        let mut random = Random::new(
            (self.seed ^ (self.world.tenants.sql_type.len() as u64) << 32)
                .wrapping_mul(1_000_003)
                .wrapping_add(number),
        );
        let delivery = random.choose(&Delivery::ALL);
        let grammar = Grammar::new(random, self.world.tenants.clone(), delivery.has_parameters());
        let statement = grammar.statement();
        let sql = statement.tree.render();
        self.prepare_sessions(number / PLANNER_STATEMENTS);
        let (verdict, failed_alone) = self.play(&statement, &sql, delivery);
        report.count(&statement, &verdict, failed_alone, &sql);
        if let Verdict::Different(difference) = verdict {
            let reduced = self.reduce(&statement, delivery, &difference);
            report.fail(Failure {
                number,
                delivery,
                tenant: self.world.tenants.sql_type,
                planner: self
                    .planner
                    .map_or_else(String::new, |planner| settings(planner).join(", ")),
                sql,
                difference,
                reduced,
            });
        }
    }

    /// Runs a statement of a file by simple query.
    pub fn replay(&mut self, sql: &str) -> Verdict {
        let writes = ["INSERT", "UPDATE", "DELETE", "MERGE"].iter().any(|word| sql.contains(word));
        let statement =
            Statement { tree: Tree::nothing(), parameters: Vec::new(), ordered: false, writes };
        self.play(&statement, sql, Delivery::Simple).0
    }

    /// What came of it, and the SQLSTATE of the plain side.
    fn play(&mut self, statement: &Statement, sql: &str, delivery: Delivery) -> (Verdict, String) {
        let (proxied, plain) = self.world.clients();
        let through = delivery.send(proxied, sql, &statement.parameters, statement.writes);
        let straight = delivery.send(plain, sql, &statement.parameters, statement.writes);
        proxied.forget();
        plain.forget();
        let known = format!("{sql} {}", statement.parameters.join(" "));
        let mut verdict = compare(&known, statement.ordered, &through, &straight);
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
        best.render()
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
            parameters: statement.parameters.clone(),
            ordered: statement.ordered && tree.render().contains("ORDER BY"),
            writes: statement.writes,
        };
        let sql = candidate.tree.render();
        matches!(self.play(&candidate, &sql, delivery).0, Verdict::Different(difference) if kind_of(&difference) == kind)
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
