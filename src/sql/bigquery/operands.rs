//! Expressions of a statement: each node judged, each query in them rewritten. Pure.

use std::mem;
use std::ops::ControlFlow;

use sqlparser::ast::{
    Expr, FunctionArguments, Ident, ObjectName, Query, SetExpr, Statement, Values, VisitMut,
    VisitorMut, visit_expressions, visit_expressions_mut,
};

use super::carry::{Derivation, Purpose};
use super::functions;
use super::judge;
use super::rewrite::{Rewriter, form};
use crate::error::{Denial, DenialCode};
use crate::mutant;

/// What the queries in a part hand on to it.
#[derive(Clone, Copy, Debug, Default)]
pub struct Handed {
    /// Whether values come of rows that passed a guard, and no aggregate keeps what is asked of them
    /// above it.
    pub rows: bool,
    /// Whether such a value, or one that is compared with, may fail.
    pub failing: bool,
    /// Whether any value may fail.
    pub partial: bool,
}

impl Handed {
    fn of(derivation: &Derivation) -> Self {
        let partial = !derivation.columns.partial.is_empty();
        let guarded = derivation.guarded && !mutant::on("bq-handed");
        Self { rows: guarded && !derivation.pinned, failing: guarded && partial, partial }
    }

    fn and(self, other: Self) -> Self {
        Self {
            rows: self.rows || other.rows,
            failing: self.failing || other.failing,
            partial: self.partial || other.partial,
        }
    }

    /// Whether anything comes of rows whose guard cannot be repeated.
    pub const fn any(self) -> bool {
        self.rows || self.failing
    }
}

/// Whether an expression is a query, or asks one.
pub fn is_query(expr: &Expr) -> bool {
    match expr {
        Expr::Subquery(_) | Expr::Exists { .. } | Expr::InSubquery { .. } => true,
        Expr::Function(function) => matches!(function.args, FunctionArguments::Subquery(_)),
        _ => false,
    }
}

/// Whether a query stands in an expression.
pub fn holds_query(expr: &Expr) -> bool {
    visit_expressions(expr, |expr| {
        if is_query(expr) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })
    .is_break()
}

/// Whether a condition may raise an error by what it does with the values of queries in it.
pub fn may_fail_around(condition: &Expr) -> bool {
    let mut around = condition.clone();
    let mut values = 0;
    let _ = visit_expressions_mut(&mut around, |expr| {
        if matches!(expr, Expr::Subquery(_) | Expr::Function(_)) && is_query(expr) {
            values += 1;
            *expr = Expr::Identifier(Ident::new("@value"));
        }
        ControlFlow::<()>::Continue(())
    });
    values > 0 && !functions::is_total(&around)
}

impl Rewriter<'_> {
    /// Judges every expression of a part, and rewrites the queries in it.
    pub fn expressions<T: VisitMut>(&mut self, part: &mut T) -> Result<(), Denial> {
        self.condition(part).map(|_| ())
    }

    /// The same. Whether the queries in it hand on rows that passed a guard of their own.
    pub fn condition<T: VisitMut>(&mut self, part: &mut T) -> Result<bool, Denial> {
        let handed = self.values(part)?;
        if handed.failing {
            self.unmet("a query whose values may fail, above rows whose guard cannot be repeated")?;
        }
        Ok(handed.rows)
    }

    /// The same, for a part whose values are not asked for anything here.
    pub fn values<T: VisitMut>(&mut self, part: &mut T) -> Result<Handed, Denial> {
        let mut visitor =
            Expressions { rewriter: self, queries: Vec::new(), handed: Vec::new(), denial: None };
        match VisitMut::visit(part, &mut visitor) {
            ControlFlow::Continue(()) => {
                Ok(visitor.handed.into_iter().fold(Handed::default(), Handed::and))
            }
            ControlFlow::Break(()) => {
                Err(visitor.denial.unwrap_or_else(|| Denial::new(DenialCode::Internal)))
            }
        }
    }
}

/// Judges expressions; queries in them are taken out and rewritten by the rewriter itself, for only
/// it knows the scopes.
struct Expressions<'r, 'a> {
    rewriter: &'r mut Rewriter<'a>,
    queries: Vec<Query>,
    /// What each query hands on, in order.
    handed: Vec<Handed>,
    denial: Option<Denial>,
}

impl Expressions<'_, '_> {
    fn deny(&mut self, denial: Denial) -> ControlFlow<()> {
        self.denial = Some(denial);
        ControlFlow::Break(())
    }
}

fn empty_query() -> Query {
    Query {
        with: None,
        body: Box::new(SetExpr::Values(Values {
            explicit_row: false,
            value_keyword: false,
            rows: Vec::new(),
        })),
        order_by: None,
        limit_clause: None,
        fetch: None,
        locks: Vec::new(),
        for_clause: None,
        settings: None,
        format_clause: None,
        pipe_operators: Vec::new(),
    }
}

impl VisitorMut for Expressions<'_, '_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        let mut inner = mem::replace(query, empty_query());
        let result = self.rewriter.query_for(&mut inner, Purpose::Compared);
        self.queries.push(inner);
        match result {
            Ok(derivation) => {
                self.handed.push(Handed::of(&derivation));
                ControlFlow::Continue(())
            }
            Err(denial) => self.deny(denial),
        }
    }

    fn post_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        match self.queries.pop() {
            Some(inner) => {
                *query = inner;
                ControlFlow::Continue(())
            }
            None => self.deny(Denial::new(DenialCode::Internal)),
        }
    }

    fn pre_visit_relation(&mut self, relation: &mut ObjectName) -> ControlFlow<()> {
        let denial = form(&relation.to_string());
        self.deny(denial)
    }

    fn pre_visit_statement(&mut self, _: &mut Statement) -> ControlFlow<()> {
        self.deny(Denial::of(DenialCode::StatementKind, "a statement in an expression"))
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        match judge::expression(expr, self.rewriter.env) {
            Ok(()) => ControlFlow::Continue(()),
            Err(denial) => self.deny(denial),
        }
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        // The query was the last that was seen.
        match (expr, self.handed.last_mut()) {
            (Expr::Exists { .. }, Some(handed)) => *handed = Handed::default(),
            (Expr::InSubquery { .. }, Some(handed)) => handed.rows = false,
            _ => {}
        }
        ControlFlow::Continue(())
    }
}
