//! Sub-queries of an expression: each is rewritten once, with the scope around it; those of `IN` and
//! `= ANY`, which the planner makes joins of, are kept apart where their guards would not hold. Layer 2.

use std::ops::ControlFlow;

use sqlparser::ast::{Expr, Query, VisitMut, VisitorMut};

use super::super::totality::Class;
use super::level::Level;
use super::{Rewriter, Scope, Shape, group, keep_apart};
use crate::error::Denial;
use crate::sql::account::{self, Notes};

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
    /// For each sub-query whether the planner may merge it into this level with unguarded rows in it.
    pub(super) exposed: Vec<bool>,
}

impl<'r, 'a, 'p> SubqueryRewriting<'r, 'a, 'p> {
    pub(super) const fn new(rewriter: &'r mut Rewriter<'a>, scope: Scope<'p>) -> Self {
        let aggregates = if rewriter.grouped { 1 } else { 0 };
        Self {
            rewriter,
            scope,
            open: 0,
            aggregates,
            clean: true,
            columns: Vec::new(),
            exposed: Vec::new(),
        }
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
                    self.exposed.push(shape.exposed);
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

/// Keeps apart the exposed sub-queries of `IN` and `= ANY` in a conjunct that stands unshielded.
///
/// SECURITY: of such a conjunct the planner makes a semi-join, merges the sub-query into the level, and
/// compares what the sub-query selects on every row that it likes: `true IN (SELECT f(t.c) FROM t WHERE
/// guard)` became `f(t.c) AND guard`, by cost.
pub(super) fn keep_members_apart(conjunct: &mut Expr, exposed: &[bool], notes: Notes<'_>) {
    let mut members = Members { exposed, met: 0, open: 0, notes };
    let _: ControlFlow<()> = conjunct.visit(&mut members);
}

/// Meets the outermost sub-queries in the order in which they were rewritten.
struct Members<'e> {
    exposed: &'e [bool],
    met: usize,
    open: usize,
    notes: Notes<'e>,
}

impl Members<'_> {
    /// The sub-query that was met last is the right side of the expression that ends here.
    fn end(&self, query: &mut Query) {
        let last = self.met.checked_sub(1).and_then(|last| self.exposed.get(last));
        if last == Some(&false) {
            return;
        }
        if query.limit_clause.is_none() {
            let (query, form) = ("IN".to_owned(), account::Form::OffsetZero);
            self.notes.take(|account| account.barriers.push(account::Barrier { query, form }));
        }
        keep_apart(query);
    }
}

impl VisitorMut for Members<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, _query: &mut Query) -> ControlFlow<()> {
        self.met += usize::from(self.open == 0);
        self.open += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _query: &mut Query) -> ControlFlow<()> {
        self.open -= 1;
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expression: &mut Expr) -> ControlFlow<()> {
        if self.open > 0 {
            return ControlFlow::Continue(());
        }
        match expression {
            Expr::InSubquery { subquery, .. } => self.end(subquery),
            Expr::AnyOp { right, .. }
            | Expr::Like { any: true, pattern: right, .. }
            | Expr::ILike { any: true, pattern: right, .. } => {
                if let Expr::Subquery(subquery) = right.as_mut() {
                    self.end(subquery);
                }
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use crate::sql::Limits;
    use crate::sql::postgres::decide;
    use crate::sql::postgres::tests::{GUARD, catalog, policy, principal};

    fn sent(sql: &str) -> String {
        let decided = decide(sql, &policy(), &catalog(), &principal(), Limits::default());
        let decided = decided.unwrap_or_else(|denial| panic!("{sql}: {denial:?}"));
        decided[0].guarded.text().replace(GUARD, "$A").replace('"', "")
    }

    /// How often a text is kept apart by us.
    fn barriers(sql: &str) -> usize {
        sent(sql).matches("OFFSET 0").count() - sql.matches("OFFSET 0").count()
    }

    #[test]
    fn what_in_selects_is_computed_before_it_is_compared() {
        let from = "FROM public.customers c WHERE c.tenant_id = $A OFFSET 0";
        for (client, expected) in [
            (
                "SELECT 1 FROM currencies k WHERE (k.code = 'x') IN (SELECT c.secret::int = 1 FROM customers c)",
                format!("((k.code = 'x') IN (SELECT c.secret::INT = 1 {from}))"),
            ),
            (
                "SELECT 1 FROM currencies k WHERE k.rate = ANY (SELECT c.secret::int FROM customers c)",
                format!("(k.rate = ANY(SELECT c.secret::INT {from}))"),
            ),
        ] {
            let text = sent(client);
            assert!(text.ends_with(&expected), "{client}\n  as {text}");
        }
    }

    #[test]
    fn in_is_kept_apart_wherever_the_planner_makes_a_join_of_it_and_no_shield_stands_around() {
        let test = "SELECT c.secret::int FROM customers c";
        for client in [
            "SELECT 1 FROM currencies k WHERE k.rate IN (#)",
            "SELECT 1 FROM currencies k WHERE k.rate > ANY (#)",
            "SELECT 1 FROM currencies k WHERE k.rate IN (# UNION ALL SELECT 1)",
            "SELECT 1 FROM currencies k WHERE k.rate IN (# GROUP BY 1)",
            "SELECT 1 FROM currencies k WHERE NOT k.rate IN (#)",
            "SELECT 1 FROM currencies k WHERE (k.rate, 1) IN (SELECT c.id, 1 FROM customers c)",
            "SELECT 1 FROM currencies k WHERE k.rate IN (SELECT y FROM (#) d(y))",
            "SELECT 1 FROM currencies k WHERE k.rate IN (WITH w(y) AS (#) SELECT y FROM w)",
            "WITH w(y) AS (#) SELECT 1 FROM currencies k WHERE k.rate IN (SELECT y FROM w)",
            "WITH RECURSIVE w(y) AS (#) SELECT 1 FROM currencies k WHERE k.rate IN (SELECT y FROM w)",
            "SELECT 1 FROM currencies k JOIN currencies j ON k.rate IN (#)",
            "SELECT 1 FROM currencies k LEFT JOIN currencies j ON k.rate IN (#)",
            "SELECT 1 FROM currencies k WHERE EXISTS (SELECT 1 FROM currencies j WHERE j.rate IN (#))",
            "SELECT (SELECT 1 FROM currencies k WHERE k.rate IN (#))",
            "SELECT 1 FROM generate_series(1, 2) g WHERE g IN (#)",
            // The comparison fails, or what stands on the left is not known.
            "SELECT 1 FROM currencies k WHERE k.rate::float8 IN (SELECT o.total FROM orders o)",
            // Within an IN that is itself apart.
            "SELECT 1 FROM currencies k WHERE k.rate IN (SELECT j.rate FROM currencies j WHERE j.rate IN (#))",
        ] {
            let client = client.replace('#', test);
            assert_eq!(barriers(&client), 1, "{client}\n  as {}", sent(&client));
        }
    }

    #[test]
    fn in_is_left_to_the_planner_where_it_is_total_or_shielded_or_no_condition() {
        let test = "SELECT c.secret::int FROM customers c";
        for client in [
            "SELECT 1 FROM currencies k WHERE k.rate IN (SELECT c.id FROM customers c)",
            "SELECT 1 FROM currencies k WHERE k.code IN (SELECT lower(c.name) FROM customers c)",
            "SELECT 1 FROM currencies k WHERE k.rate IN (SELECT j.rate::int FROM currencies j)",
            "SELECT id FROM customers WHERE credit IN (#)",
            "SELECT id FROM orders WHERE customer_id IN (SELECT id FROM customers WHERE name = 'x')",
            "SELECT 1 FROM currencies k WHERE k.rate IN (# OFFSET 0)",
            "SELECT 1 FROM currencies k WHERE k.rate IN (# LIMIT 5)",
            "SELECT 1 FROM currencies k WHERE EXISTS (#)",
            "SELECT 1 FROM currencies k WHERE k.rate = (#)",
            "SELECT 1 FROM currencies k WHERE k.rate = ALL (#)",
            "SELECT k.rate IN (#) FROM currencies k",
            "SELECT count(*) FROM currencies k HAVING count(*) IN (#)",
        ] {
            let client = client.replace('#', test);
            assert_eq!(barriers(&client), 0, "{client}\n  as {}", sent(&client));
        }
    }
}
