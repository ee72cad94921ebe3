//! Statements of real applications, moved to the oracle's tables: every relation and column is
//! swapped for one of ours until PostgreSQL can plan the outcome.

use std::collections::{BTreeMap, BTreeSet};
use std::ops::ControlFlow;
use std::path::PathBuf;
use std::process::Command;

use serde::Deserialize;
use sqlparser::ast::{
    AssignmentTarget, Expr, Ident, ObjectName, Query, SelectItem, SetExpr, Statement, TableAlias,
    TableFactor, Value, VisitMut, VisitorMut,
};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::{Parser, ParserOptions};

use crate::random::Random;
use crate::tables::{TABLES, Table};

/// What is always there.
const SAMPLE: &str = include_str!("../corpus/sample.jsonl");
/// How often a statement is moved before it is given up.
const TRIALS: usize = 12;

#[derive(Deserialize)]
struct Line {
    #[serde(default)]
    kind: String,
    sql: String,
}

/// The statements.
#[derive(Default)]
pub struct Corpus(Vec<String>);

impl Corpus {
    /// The whole corpus where it is (`HEDGEROW_CORPUS`, or beside the repository), else the sample.
    pub fn load() -> Self {
        let beside =
            PathBuf::from(env!("CARGO_MANIFEST_DIR")).join("../shared/corpus/postgres.jsonl.gz");
        let path = std::env::var_os("HEDGEROW_CORPUS").map_or(beside, PathBuf::from);
        let text = Command::new("gzip").arg("-dc").arg(&path).output().ok();
        let text = text.filter(|output| output.status.success());
        let text = text.map_or_else(
            || SAMPLE.to_owned(),
            |output| String::from_utf8(output.stdout).expect("UTF-8"),
        );
        let kept = text.lines().filter_map(|line| {
            let line: Line = serde_json::from_str(line).expect("a line of the corpus");
            let fits = ["SelectStmt", "UpdateStmt", "DeleteStmt"].contains(&line.kind.as_str())
                && line.sql.len() < 3000
                && !line.sql.contains("pg_")
                && !line.sql.contains("information_schema");
            fits.then_some(line.sql)
        });
        Self(kept.collect())
    }

    /// One of them on our tables; `plans` says whether PostgreSQL can plan it.
    pub fn statement(
        &self,
        random: &mut Random,
        mut plans: impl FnMut(&str) -> bool,
    ) -> Option<String> {
        let sql = &self.0[random.below(self.0.len())];
        for _ in 0..TRIALS {
            let moved = moved(sql, random)?;
            if plans(&moved) {
                return Some(moved);
            }
        }
        None
    }
}

fn moved(sql: &str, random: &mut Random) -> Option<String> {
    static DIALECT: PostgreSqlDialect = PostgreSqlDialect {};
    let mut statements = Parser::new(&DIALECT)
        .with_options(ParserOptions::new().with_unescape(false))
        .try_with_sql(sql)
        .ok()?
        .parse_statements()
        .ok()?;
    let (Some(mut statement), true) = (statements.pop(), statements.is_empty()) else {
        return None;
    };
    let writes = !matches!(statement, Statement::Query(_));
    let mut mover = Mover::new(random, writes);
    let _ = statement.visit(&mut mover);
    if let Statement::Update(update) = &mut statement {
        let table = mover.first?;
        for assignment in &mut update.assignments {
            let AssignmentTarget::ColumnName(name) = &mut assignment.target else { return None };
            let changeable: Vec<&str> = table
                .columns
                .iter()
                .map(|(name, ..)| *name)
                .filter(|name| !FIXED.contains(name))
                .collect();
            *name = ObjectName::from(vec![Ident::new(mover.random.choose(&changeable))]);
        }
    }
    mover.phase = Phase::Columns;
    let _ = statement.visit(&mut mover);
    Some(statement.to_string())
}

/// Columns that a statement of the oracle does not change: see the head of `main.rs`.
const FIXED: &[&str] = &["id", "tenant_id", "owner", "order_id", "region", "day", "sku"];

#[derive(PartialEq, Eq)]
enum Phase {
    Relations,
    Columns,
}

/// Swaps relations, then columns.
struct Mover<'r> {
    random: &'r mut Random,
    phase: Phase,
    /// Names that the statement itself makes: CTEs, column aliases.
    own: BTreeSet<String>,
    /// The first relation: the target of an UPDATE.
    first: Option<&'static Table>,
    by_name: BTreeMap<String, &'static Table>,
    by_alias: BTreeMap<String, &'static Table>,
    columns: BTreeMap<(String, String), String>,
    writes: bool,
}

impl<'r> Mover<'r> {
    const fn new(random: &'r mut Random, writes: bool) -> Self {
        Self {
            random,
            phase: Phase::Relations,
            own: BTreeSet::new(),
            first: None,
            by_name: BTreeMap::new(),
            by_alias: BTreeMap::new(),
            columns: BTreeMap::new(),
            writes,
        }
    }

    fn swap(&mut self, name: &mut ObjectName, alias: &mut Option<TableAlias>) {
        let Some(old) = name.0.last().and_then(|part| part.as_ident()).cloned() else { return };
        if name.0.len() == 1 && self.own.contains(&old.value) {
            return;
        }
        let (random, first, writes) = (&mut *self.random, self.first, self.writes);
        let table = *self.by_name.entry(old.value.clone()).or_insert_with(|| {
            loop {
                let table = &TABLES[random.below(TABLES.len())];
                // The first relation of what writes is its target.
                if first.is_some() || !writes || table.writable {
                    break table;
                }
            }
        });
        self.first.get_or_insert(table);
        *name = ObjectName::from(vec![Ident::new(table.name)]);
        let visible = alias.get_or_insert_with(|| TableAlias {
            explicit: true,
            name: old,
            columns: Vec::new(),
            at: None,
        });
        self.by_alias.insert(visible.name.value.clone(), table);
    }

    /// A column for one that was named, the same for the same.
    fn column(&mut self, qualifier: &str, name: &str) -> Option<String> {
        let key = (qualifier.to_owned(), name.to_owned());
        if let Some(known) = self.columns.get(&key) {
            return Some(known.clone());
        }
        let tables: Vec<&Table> = match self.by_alias.get(qualifier) {
            Some(table) => vec![table],
            None if qualifier.is_empty() => self.by_alias.values().copied().collect(),
            None => return None,
        };
        if tables.is_empty() {
            return None;
        }
        let table = self.random.choose(&tables);
        let (column, ..) = self.random.choose(table.columns);
        self.columns.insert(key, column.to_owned());
        Some(column.to_owned())
    }
}

impl VisitorMut for Mover<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        if self.phase == Phase::Relations {
            let ctes = query.with.iter().flat_map(|with| &with.cte_tables);
            self.own.extend(ctes.map(|cte| cte.alias.name.value.clone()));
            if let SetExpr::Select(select) = &*query.body {
                for item in &select.projection {
                    if let SelectItem::ExprWithAlias { alias, .. } = item {
                        self.own.insert(alias.value.clone());
                    }
                }
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        if self.phase == Phase::Relations
            && let TableFactor::Table { name, alias, args: None, .. } = factor
        {
            self.swap(name, alias);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expression: &mut Expr) -> ControlFlow<()> {
        if self.phase == Phase::Relations {
            return ControlFlow::Continue(());
        }
        match expression {
            Expr::Identifier(name) if !self.own.contains(&name.value) => {
                if let Some(column) = self.column("", &name.value.clone()) {
                    *name = Ident::new(column);
                }
            }
            Expr::CompoundIdentifier(parts) => {
                let [.., qualifier, name] = parts.as_slice() else {
                    return ControlFlow::Continue(());
                };
                if let Some(column) = self.column(&qualifier.value, &name.value) {
                    *parts = vec![qualifier.clone(), Ident::new(column)];
                }
            }
            Expr::Value(value) if matches!(value.value, Value::Placeholder(_)) => {
                let text =
                    self.random.pick(&["'1'", "'1'", "2", "NULL", "'ann-1'", "'2026-01-01'"]);
                value.value = match text.strip_prefix('\'').and_then(|text| text.strip_suffix('\''))
                {
                    Some(text) => Value::SingleQuotedString(text.to_owned()),
                    None if text == "NULL" => Value::Null,
                    None => Value::Number(text.to_owned(), false),
                };
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}
