//! Pseudo-columns (`_PARTITIONTIME`, `_TABLE_SUFFIX`): a derived table does not hand them on, so the
//! guard of the table that has them stands in WHERE. Pure.

use std::ops::ControlFlow;

use sqlparser::ast::{Expr, JoinOperator, TableFactor, TableWithJoins, VisitMut, VisitorMut};

use super::factor::{alias_of, full_name, lower, plain_table};
use super::functions;
use super::level::{Input, Level};
use super::names::{Binding, path};
use super::rewrite::{Rewriter, Use, form};
use crate::error::{Denial, DenialCode};

/// Columns that BigQuery adds to a table in FROM, and that a derived table does not hand on.
const PSEUDO_COLUMNS: &[&str] = &[
    "_partitiontime",
    "_partitiondate",
    "_table_suffix",
    "_file_name",
    "_change_type",
    "_change_timestamp",
];

impl Rewriter<'_> {
    /// FROM of a level that names pseudo-columns: they are the first table's, and its guard goes into
    /// WHERE. What is joined to it must leave its rows as they are: then WHERE comes soon enough.
    pub fn pseudo_from(
        &mut self,
        from: &mut [TableWithJoins],
        level: &mut Level,
    ) -> Result<(), Denial> {
        let Some((TableWithJoins { relation, joins }, more)) = from.split_first_mut() else {
            return Ok(());
        };
        self.pseudo_table(relation, level)?;
        for join in joins {
            if level.where_guard.is_some() {
                beside_a_guard_in_where(&join.relation, Some(&join.join_operator))?;
            }
            if join.global {
                return Err(form("global join"));
            }
            self.join(&mut join.join_operator, &mut join.relation, level)?;
        }
        for item in more {
            if level.where_guard.is_some() {
                beside_a_guard_in_where(&item.relation, None)?;
                for join in &item.joins {
                    beside_a_guard_in_where(&join.relation, Some(&join.join_operator))?;
                }
            }
            self.table_with_joins(item, level)?;
        }
        Ok(())
    }

    fn pseudo_table(
        &mut self,
        relation: &mut TableFactor,
        level: &mut Level,
    ) -> Result<(), Denial> {
        let TableFactor::Table { .. } = relation else {
            return self.factor(relation, level, false);
        };
        plain_table(relation)?;
        let TableFactor::Table { name, alias, version, .. } = relation else {
            return Err(form("from"));
        };
        let parts = path(name)?;
        let Some(table) = self.table_named(&parts)? else {
            return self.factor(relation, level, false);
        };
        // The guard names the table by its alias: none is left to the service to make up.
        let named = match alias.take() {
            Some(alias) => alias,
            None if table.table.ends_with('*') => self.nameless(),
            None => alias_of(parts.last().map_or("", String::as_str)),
        };
        let variable = named.name.value.clone();
        *alias = Some(named);
        self.expressions(version)?;
        match self.bind(&table, Use::Read)? {
            Binding::Tenants(rule) => {
                if !self.open_columns(&rule) {
                    return Err(Denial::of(DenialCode::ColumnDenied, table.to_string()));
                }
                level.inputs.push(Input {
                    variable: variable.to_ascii_lowercase(),
                    guard: Some(self.full_guard(&rule, &variable)?.to_string()),
                });
                level.where_guard = Some(self.full_guard(&rule, &variable)?);
            }
            // The view's own guard cannot be repeated here.
            Binding::SecureContext(_) => {
                level.inputs.push(Input { variable: variable.to_ascii_lowercase(), guard: None });
            }
            Binding::Shared(_) | Binding::Own => {}
        }
        *name = full_name(&table);
        self.aliases.push(variable.to_ascii_lowercase());
        Ok(())
    }
}

/// What may be joined to a table whose guard stands in WHERE: its rows are handed on as they are, and
/// nothing that might raise an error is computed of those that are not the tenant's.
fn beside_a_guard_in_where(
    relation: &TableFactor,
    operator: Option<&JoinOperator>,
) -> Result<(), Denial> {
    if !operator.is_none_or(keeps_the_left) {
        return Err(form("a pseudo-column of an outer join"));
    }
    match relation {
        TableFactor::Table { .. } | TableFactor::Derived { .. } => Ok(()),
        TableFactor::UNNEST { array_exprs, .. } if array_exprs.iter().all(functions::is_total) => {
            Ok(())
        }
        _ => Err(form("a pseudo-column of this join")),
    }
}

/// Whether a join hands on the rows on its left as they are, or not at all.
const fn keeps_the_left(operator: &JoinOperator) -> bool {
    matches!(
        operator,
        JoinOperator::Join(_)
            | JoinOperator::Inner(_)
            | JoinOperator::CrossJoin(_)
            | JoinOperator::Left(_)
            | JoinOperator::LeftOuter(_)
    )
}

/// Whether a part of a statement names a pseudo-column.
pub fn is_named<T: VisitMut>(part: &mut T) -> bool {
    let mut names = Names::default();
    let _ = VisitMut::visit(part, &mut names);
    names.pseudo
}

/// Looks for pseudo-columns.
#[derive(Default)]
struct Names {
    pseudo: bool,
}

impl VisitorMut for Names {
    type Break = ();

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        let last = match expr {
            Expr::Identifier(name) => Some(&*name),
            Expr::CompoundIdentifier(names) => names.last(),
            _ => None,
        };
        if let Some(name) = last {
            let name = lower(name);
            self.pseudo |= PSEUDO_COLUMNS.contains(&name.as_str());
        }
        ControlFlow::Continue(())
    }
}
