//! Sub-queries of an expression: each is rewritten once, with the scope around it. Layer 2.

use std::ops::ControlFlow;

use sqlparser::ast::{Expr, Query, VisitorMut};

use super::super::totality::Class;
use super::level::Level;
use super::{Rewriter, Scope, Shape, group};
use crate::error::Denial;

/// Finds the outermost sub-queries of an expression and rewrites each once.
pub(super) struct SubqueryRewriting<'r, 'a, 'p> {
    rewriter: &'r mut Rewriter<'a>,
    scope: Scope<'p>,
    open: usize,
    /// Aggregates around what is visited, and one more where all of it is computed of groups.
    aggregates: usize,
    pub(super) clean: bool,
    /// For each sub-query the class of its only column.
    pub(super) columns: Vec<Option<Class>>,
}

impl<'r, 'a, 'p> SubqueryRewriting<'r, 'a, 'p> {
    pub(super) const fn new(rewriter: &'r mut Rewriter<'a>, scope: Scope<'p>) -> Self {
        let aggregates = if rewriter.grouped { 1 } else { 0 };
        Self { rewriter, scope, open: 0, aggregates, clean: true, columns: Vec::new() }
    }

    fn rewrite(&mut self, query: &mut Query) -> Result<Shape, Denial> {
        if self.aggregates == 0 {
            return self.rewriter.query(query, self.scope);
        }
        let sealed = Level::seal(self.rewriter.env, self.scope.level);
        self.rewriter.query(query, Scope { level: Some(&sealed), ctes: self.scope.ctes })
    }
}

impl VisitorMut for SubqueryRewriting<'_, '_, '_> {
    type Break = Denial;

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<Denial> {
        if self.open == 0 {
            self.rewriter.depth += 1;
            match self.rewrite(query) {
                Ok(shape) => {
                    self.clean &= shape.clean;
                    self.columns.push(match shape.outputs.as_deref() {
                        Some([(_, class)]) => *class,
                        Some(_) | None => None,
                    });
                }
                Err(denial) => return ControlFlow::Break(denial),
            }
            self.rewriter.depth -= 1;
        }
        self.open += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _query: &mut Query) -> ControlFlow<Denial> {
        self.open -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expression: &mut Expr) -> ControlFlow<Denial> {
        self.aggregates += usize::from(self.open == 0 && group::may_aggregate(expression));
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expression: &mut Expr) -> ControlFlow<Denial> {
        self.aggregates -= usize::from(self.open == 0 && group::may_aggregate(expression));
        ControlFlow::Continue(())
    }
}
