//! The columns that USING and NATURAL compare without a condition that could be shielded. Layer 2.

use sqlparser::ast::JoinConstraint;

use super::super::totality::{self, Class};
use super::level::{Level, name_of};

/// What is known of comparing them.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub(super) enum Joined {
    /// It fails for no row.
    Total,
    /// What they hold is not known, or is computed.
    Unknown,
    /// It may fail: a `numeric` may be too large for the `double precision` beside it.
    Loose,
}

/// What the operands of a join, which make the level, are compared by.
pub(super) fn joined_columns(constraint: &JoinConstraint, level: &Level<'_>) -> Joined {
    let names: Option<Vec<String>> = match constraint {
        JoinConstraint::Using(names) => Some(
            names
                .iter()
                .filter_map(|name| name.0.last().and_then(|part| part.as_ident()).map(name_of))
                .collect(),
        ),
        JoinConstraint::Natural => None,
        JoinConstraint::On(_) | JoinConstraint::None => return Joined::Total,
    };
    let mut joined = Joined::Total;
    let mut met: Vec<(&str, Class)> = Vec::new();
    for rel in &level.rels {
        let Some(columns) = &rel.columns else {
            joined = joined.max(Joined::Unknown);
            continue;
        };
        for (name, class) in columns {
            if names.as_ref().is_some_and(|names| !names.contains(name)) {
                continue;
            }
            let Some(class) = *class else {
                joined = joined.max(Joined::Unknown);
                continue;
            };
            let loose = |(other, before): &(&str, Class)| {
                other == name && !totality::comparable(*before, class)
            };
            if met.iter().any(loose) {
                joined = Joined::Loose;
            }
            met.push((name, class));
        }
    }
    joined
}

#[cfg(test)]
mod tests {
    use crate::error::DenialCode;
    use crate::sql::Limits;
    use crate::sql::postgres::decide;
    use crate::sql::postgres::tests::{catalog, policy, principal};

    fn sent(sql: &str) -> Result<String, DenialCode> {
        decide(sql, &policy(), &catalog(), &principal(), Limits::default())
            .map(|decided| decided[0].guarded.text().to_owned())
            .map_err(|denial| denial.code)
    }

    #[test]
    fn columns_that_may_not_compare_join_no_table_without_a_condition() {
        let loose = "(SELECT '1.5'::float8 AS total) v";
        for join in ["JOIN # USING (total)", "NATURAL JOIN #", "LEFT JOIN # USING (total)"] {
            let join = join.replace('#', loose);
            let denied = sent(&format!("SELECT 1 FROM orders {join}"));
            assert_eq!(denied, Err(DenialCode::LeakPossible), "{join}");
            let apart = sent(&format!("SELECT 1 FROM (SELECT total FROM orders) o {join}"));
            assert!(
                apart.clone().is_ok_and(|text| text.contains("OFFSET 0)")),
                "{join}: {apart:?}"
            );
        }
        for sql in [
            "SELECT 1 FROM orders JOIN (SELECT 1.5 AS total) v USING (total)",
            "SELECT 1 FROM orders JOIN (SELECT 1 AS total) v USING (total)",
            "SELECT 1 FROM (SELECT total FROM orders) o JOIN (SELECT 1 AS total) v USING (total)",
            "SELECT 1 FROM customers c JOIN orders o USING (tenant_id)",
        ] {
            let sent = sent(sql);
            assert!(sent.clone().is_ok_and(|text| !text.contains("OFFSET 0")), "{sql}: {sent:?}");
        }
    }

    #[test]
    fn between_asks_for_the_operators_that_it_calls() {
        let shielded = |own: &str, negated: &str| {
            let mut catalog = catalog();
            catalog.user_operators.insert(own.to_owned());
            let sql = format!("SELECT id FROM customers WHERE credit {negated} BETWEEN 1 AND 2");
            let decided = decide(&sql, &policy(), &catalog, &principal(), Limits::default());
            decided.unwrap()[0].guarded.text().contains("CASE WHEN")
        };
        for (own, of_between, of_not_between) in [
            ("<", false, true),
            (">", false, true),
            ("<=", true, false),
            (">=", true, false),
            ("#", false, false),
        ] {
            assert_eq!(shielded(own, ""), of_between, "{own}");
            assert_eq!(shielded(own, "NOT"), of_not_between, "{own}");
        }
    }
}
