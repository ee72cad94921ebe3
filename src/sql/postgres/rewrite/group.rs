//! What is computed of groups: which SELECT returns groups, and which call is an aggregate. Layer 2.

use std::ops::ControlFlow;

use sqlparser::ast::{Expr, GroupByExpr, Query, Select, Visit, Visitor};

use super::super::functions;
use super::level::name_of;

/// Whether a SELECT returns groups: by GROUP BY, by HAVING, or by an aggregate of its own.
pub fn is_grouped(select: &Select) -> bool {
    let keys = match &select.group_by {
        GroupByExpr::Expressions(keys, _) => !keys.is_empty(),
        GroupByExpr::All(_) => true,
    };
    keys || select.having.is_some() || {
        let mut aggregates = Aggregates { queries: 0 };
        select.projection.iter().any(|item| item.visit(&mut aggregates).is_break())
    }
}

/// Breaks at an aggregate that stands in no sub-query.
struct Aggregates {
    queries: usize,
}

impl Visitor for Aggregates {
    type Break = ();

    fn pre_visit_query(&mut self, _query: &Query) -> ControlFlow<()> {
        self.queries += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _query: &Query) -> ControlFlow<()> {
        self.queries -= 1;
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expression: &Expr) -> ControlFlow<()> {
        if self.queries == 0 && may_aggregate(expression) {
            return ControlFlow::Break(());
        }
        ControlFlow::Continue(())
    }
}

/// Whether an expression is a call of an aggregate, or of a function that could be one.
pub fn may_aggregate(expression: &Expr) -> bool {
    let Expr::Function(function) = expression else { return false };
    let name = function.name.0.last().and_then(|part| part.as_ident()).map(name_of);
    function.over.is_none() && name.is_none_or(|name| functions::may_aggregate(&name))
}
