//! Expressions of a statement: each node judged, each query in them rewritten. Pure.

use std::mem;
use std::ops::ControlFlow;

use sqlparser::ast::{Expr, ObjectName, Query, SetExpr, Statement, Values, VisitMut, VisitorMut};

use super::judge;
use super::rewrite::{Rewriter, form};
use crate::error::{Denial, DenialCode};

impl Rewriter<'_> {
    /// Judges every expression of a part, and rewrites the queries in it.
    pub fn expressions<T: VisitMut>(&mut self, part: &mut T) -> Result<(), Denial> {
        let mut visitor = Expressions { rewriter: self, queries: Vec::new(), denial: None };
        match VisitMut::visit(part, &mut visitor) {
            ControlFlow::Continue(()) => Ok(()),
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
        let result = self.rewriter.query(&mut inner, false);
        self.queries.push(inner);
        match result {
            Ok(_) => ControlFlow::Continue(()),
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
}
