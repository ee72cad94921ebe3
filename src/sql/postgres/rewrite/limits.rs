//! Expressions of a query that stand in no SELECT: those of VALUES, and what limits the rows. Layer 2.

use sqlparser::ast::{Expr, LimitClause, Query, Value, Values};

use super::super::totality::{Class, is_mergeable};
use super::{Rewriter, Scope, Shape, from, total};
use crate::error::Denial;
use crate::mutant;

/// What LIMIT, OFFSET and FETCH make of a query.
pub(super) struct Limits {
    /// It has one of them: the planner merges it into no other.
    pub(super) any: bool,
    /// No row, and no parameter, can make one of them fail.
    pub(super) total: bool,
}

impl Rewriter<'_> {
    /// Rewrites the sub-queries of what limits a query.
    pub(super) fn limits(&mut self, query: &mut Query, scope: Scope<'_>) -> Result<Limits, Denial> {
        let mut limits =
            Limits { any: query.limit_clause.is_some() || query.fetch.is_some(), total: true };
        let mut expressions: Vec<&mut Expr> = match &mut query.limit_clause {
            Some(LimitClause::LimitOffset { limit, offset, limit_by }) => limit
                .iter_mut()
                .chain(offset.iter_mut().map(|offset| &mut offset.value))
                .chain(limit_by.iter_mut())
                .collect(),
            Some(LimitClause::OffsetCommaLimit { offset, limit }) => vec![offset, limit],
            None => Vec::new(),
        };
        expressions.extend(query.fetch.iter_mut().filter_map(|fetch| fetch.quantity.as_mut()));
        for expression in expressions {
            limits.total &= is_plain(expression) || mutant::on("limit-total");
            self.subqueries(expression, scope)?;
        }
        Ok(limits)
    }

    /// VALUES: total where each value is, and none is brought to another's type.
    pub(super) fn values(
        &mut self,
        values: &mut Values,
        scope: Scope<'_>,
    ) -> Result<Shape, Denial> {
        let mut rows: Vec<Vec<Option<Class>>> = Vec::with_capacity(values.rows.len());
        for row in &mut values.rows {
            let mut classes = Vec::with_capacity(row.content.len());
            for value in &mut row.content {
                let subqueries = self.subqueries(value, scope)?;
                classes.push(scope.level.and_then(|level| total::class(value, level, subqueries)));
            }
            rows.push(classes);
        }
        let several = rows.len() > 1;
        let clean = rows.iter().all(|row| {
            let total =
                |class: &Option<Class>| class.is_some_and(|class| !several || is_mergeable(class));
            row.iter().all(total) && Some(row) == rows.first()
        });
        Ok(Shape { outputs: from::values_outputs(values), exposed: false, semi_join: false, clean })
    }
}

/// A number of rows, or none: not a parameter, which may be negative.
fn is_plain(limit: &Expr) -> bool {
    match limit {
        Expr::Nested(inner) => is_plain(inner),
        Expr::Value(value) => match &value.value {
            Value::Number(digits, _) => digits.parse::<i32>().is_ok_and(|rows| rows >= 0),
            Value::Null => true,
            _ => false,
        },
        _ => false,
    }
}

#[cfg(test)]
mod tests {
    use crate::sql::Limits;
    use crate::sql::postgres::decide;
    use crate::sql::postgres::tests::{catalog, policy, principal};

    /// Whether the condition of the statement stands behind the guard.
    fn is_shielded(condition: &str) -> bool {
        let sql = format!("SELECT 1 FROM items i WHERE {condition}");
        let decided = decide(&sql, &policy(), &catalog(), &principal(), Limits::default());
        let decided = decided.unwrap_or_else(|denial| panic!("{sql}: {denial:?}"));
        decided[0].guarded.text().contains(" THEN (EXISTS")
    }

    #[test]
    fn a_sub_query_that_a_row_could_make_fail_is_shielded() {
        for query in [
            "SELECT 1 FROM currencies LIMIT CASE WHEN i.sku = 'x' THEN -1 ELSE 1 END",
            "SELECT 1 FROM currencies OFFSET CASE WHEN i.sku = 'x' THEN -1 ELSE 1 END",
            "SELECT 1 FROM currencies ORDER BY 1 FETCH FIRST $1 ROWS WITH TIES",
            "SELECT 1 FROM currencies WHERE code = i.sku LIMIT -1",
            "SELECT 1 FROM currencies WHERE code = i.sku LIMIT $1",
            "SELECT 1 FROM currencies WHERE code = i.sku LIMIT (SELECT i.id)",
            "SELECT 1 FROM (SELECT 1 FROM currencies LIMIT i.id) d",
            "SELECT 1 FROM currencies UNION ALL (SELECT 1 FROM currencies LIMIT i.id)",
            "WITH x AS (SELECT 1 FROM currencies LIMIT i.id) SELECT 1 FROM x",
            "WITH x AS MATERIALIZED (SELECT (SELECT code FROM currencies WHERE code = i.sku) AS p) SELECT 1 FROM x",
            "WITH RECURSIVE x AS (SELECT 1 UNION ALL SELECT 1 FROM x WHERE i.sku = 'x') SELECT 1 FROM x",
            "SELECT o.total FROM orders o UNION ALL SELECT '1'::float8",
            "VALUES (i.id), (1.5::numeric)",
            "SELECT 1 FROM generate_series(1, i.id) g",
            "SELECT 1 FROM currencies TABLESAMPLE bernoulli (50)",
        ] {
            assert!(is_shielded(&format!("EXISTS ({query})")), "{query}");
        }
    }

    #[test]
    fn a_sub_query_that_fails_for_no_row_stands_beside_the_guard() {
        for query in [
            "SELECT 1 FROM currencies WHERE code = i.sku LIMIT 1",
            "SELECT 1 FROM currencies WHERE code = i.sku LIMIT NULL OFFSET 5",
            "SELECT 1 FROM currencies ORDER BY 1 FETCH FIRST 3 ROWS WITH TIES",
            "SELECT 1 FROM (SELECT 1 FROM currencies LIMIT 2) d",
            "WITH x AS (SELECT code FROM currencies LIMIT 2) SELECT 1 FROM x WHERE code = i.sku",
            "SELECT i.id UNION ALL SELECT 1",
            "VALUES (i.id), (1)",
        ] {
            assert!(!is_shielded(&format!("EXISTS ({query})")), "{query}");
        }
    }
}
