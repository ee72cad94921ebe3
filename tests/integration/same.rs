//! Noninterference in small: a statement of A through the proxy, on the database that holds both
//! tenants, must look as it does straight on a database that holds A's rows only.

use crate::support::TENANT_A;
use crate::support::fixture::{World, database_of_a};
use crate::support::postgres::{APP_USER, server};
use crate::support::wire::{Outcome, WireClient};

/// What a client can tell of an answer.
#[derive(Debug, PartialEq, Eq)]
pub struct Look {
    rows: Vec<String>,
    columns: Vec<Vec<(String, u32)>>,
    tags: Vec<String>,
    errors: Vec<(String, String)>,
    notices: Vec<String>,
    status: Option<char>,
}

impl Look {
    /// Row order counts only where the statement asks for one.
    pub fn of(sql: &str, outcome: &Outcome) -> Self {
        let mut rows = outcome.lines();
        if !sql.to_uppercase().contains("ORDER BY") {
            rows.sort();
        }
        let text = |report: &crate::support::wire::Report| {
            (report.sqlstate().to_owned(), report.message().to_owned())
        };
        Self {
            rows,
            columns: outcome.columns(),
            tags: outcome.tags(),
            errors: outcome.errors().iter().map(text).collect(),
            notices: outcome.notices().iter().map(|notice| notice.message().to_owned()).collect(),
            status: outcome.status(),
        }
    }
}

/// The two sides.
pub struct Pair {
    /// The world with both tenants.
    pub world: World,
    /// A through the proxy.
    pub proxied: WireClient,
    /// Straight to the database of A alone.
    pub direct: WireClient,
    /// That database.
    pub only_a: String,
}

impl Pair {
    pub fn new() -> Self {
        let world = World::new();
        let only_a = database_of_a();
        let mut direct = server().connect(APP_USER, &only_a);
        direct.query(&format!("SET app.current_tenant = '{TENANT_A}'"));
        let proxied = world.a();
        Self { world, proxied, direct, only_a }
    }

    /// Runs the statement on both sides, by simple Query; the difference in words, if any.
    pub fn difference(&mut self, sql: &str) -> Option<String> {
        let (proxied, direct) = (self.proxied.query(sql), self.direct.query(sql));
        compare(sql, &proxied, &direct)
    }

    /// The same by the extended protocol.
    pub fn difference_extended(
        &mut self,
        sql: &str,
        parameters: &[Option<&str>],
    ) -> Option<String> {
        let (proxied, direct) =
            (self.proxied.extended(sql, parameters), self.direct.extended(sql, parameters));
        compare(sql, &proxied, &direct)
    }

    /// Runs every statement and reports all differences at once.
    pub fn assert_same(&mut self, statements: &[&str]) {
        let differences: Vec<String> =
            statements.iter().filter_map(|sql| self.difference(sql)).collect();
        let (count, all) = (differences.len(), statements.len());
        assert!(differences.is_empty(), "{count} of {all} differ:\n{}", differences.join("\n"));
    }
}

pub fn compare(sql: &str, proxied: &Outcome, direct: &Outcome) -> Option<String> {
    let (through, straight) = (Look::of(sql, proxied), Look::of(sql, direct));
    let details: Vec<String> =
        proxied.errors().iter().map(|error| error.field('D').to_owned()).collect();
    (through != straight).then(|| {
        format!("- {sql}\n    proxied: {through:?} {details:?}\n    direct:  {straight:?}")
    })
}
