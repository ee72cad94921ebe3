//! Rows that a statement makes beside others: `WITH o AS (INSERT … RETURNING id) INSERT … SELECT id FROM o`.
//! Layer 2.
//!
//! A statement does not see the rows that it makes, so a check that looks a parent's key up in its table
//! would refuse a child of a parent made beside it. But what an INSERT returns are rows that its own checks
//! have made the tenant's: a key that is among them is one of the tenant's, too.

use sqlparser::ast::{Cte, Expr, Query, SelectItem, SetExpr, Statement, TableObject};

use super::super::env::{Env, Table};
use super::level::name_of;
use super::{CteInScope, Ctes, Rewriter, guard};
use crate::catalog::RelationKind;
use crate::ids::RelationName;

/// The rows that an INSERT in a CTE returns.
pub(super) struct Made {
    relation: RelationName,
    /// The CTE's columns that are columns of the relation: their names here and there.
    columns: Vec<(String, String)>,
}

impl<'a> Rewriter<'a> {
    /// What a CTE makes, before it is rewritten; `None` where that is not plain to see.
    pub(super) fn made_by(&self, cte: &Cte) -> Option<Made> {
        let SetExpr::Insert(Statement::Insert(insert)) = cte.query.body.as_ref() else {
            return None;
        };
        let TableObject::TableName(name) = &insert.table else { return None };
        let (table, visible) = self.target(&mut name.clone()).ok()?;
        let visible = insert.table_alias.as_ref().map_or(visible, |alias| name_of(&alias.alias));
        if !cte.alias.columns.is_empty() {
            return None;
        }
        let own = own_columns(&table, self.env)?;
        let mut columns = Vec::new();
        for item in insert.returning.iter().flatten() {
            let (value, name) = match item {
                SelectItem::UnnamedExpr(value) => (value, None),
                SelectItem::ExprWithAlias { expr, alias } => (expr, Some(name_of(alias))),
                SelectItem::Wildcard(_) => {
                    columns.extend(own.iter().map(|name| (name.clone(), name.clone())));
                    continue;
                }
                SelectItem::ExprWithAliases { .. } | SelectItem::QualifiedWildcard(..) => continue,
            };
            let column = match value {
                Expr::Identifier(column) => name_of(column),
                Expr::CompoundIdentifier(parts) => match parts.as_slice() {
                    [owner, column] if name_of(owner) == visible => name_of(column),
                    _ => continue,
                },
                _ => continue,
            };
            if own.contains(&column) {
                columns.push((name.unwrap_or_else(|| column.clone()), column));
            }
        }
        // Two columns of one name: a reader could not tell them apart.
        let once = |name: &String| columns.iter().filter(|(known, _)| known == name).count() == 1;
        let columns = columns.iter().filter(|(name, _)| once(name)).cloned().collect();
        Some(Made { relation: table.name, columns })
    }
}

/// The columns of a stored table that this caller sees as they are.
fn own_columns(table: &Table<'_>, env: Env<'_>) -> Option<Vec<String>> {
    let relation = table.relation.filter(|relation| match relation.kind {
        RelationKind::Table | RelationKind::PartitionedTable => true,
        RelationKind::View
        | RelationKind::MaterializedView
        | RelationKind::ForeignTable
        | RelationKind::Sequence => false,
    })?;
    if table.is_masked(env) || table.denied_columns().next().is_some() {
        return None;
    }
    Some(relation.columns.iter().map(|column| column.name.clone()).collect())
}

impl Ctes<'_> {
    /// `SELECT cte.column FROM cte` for every CTE in scope that makes rows of a relation and returns
    /// their key.
    pub(super) fn made(&self, relation: &RelationName, key: &str) -> Vec<Query> {
        let mut found: Vec<Query> = Vec::new();
        let mut seen: Vec<&str> = Vec::new();
        let mut level = Some(self);
        while let Some(ctes) = level {
            for cte in ctes.own.iter().rev() {
                // One that an inner one hides cannot be named.
                if seen.contains(&cte.name.as_str()) {
                    continue;
                }
                seen.push(&cte.name);
                found.extend(keys(cte, relation, key));
            }
            level = ctes.outer;
        }
        found
    }
}

fn keys(cte: &CteInScope, relation: &RelationName, key: &str) -> Option<Query> {
    let made = cte.made.as_ref().filter(|made| made.relation == *relation)?;
    let (name, _) = made.columns.iter().find(|(_, column)| column == key)?;
    let item = SelectItem::UnnamedExpr(guard::column(&cte.name, name));
    Some(guard::select_from(guard::own_factor(&cte.name), item, None))
}

/// Whether a source of rows brings CTEs of its own, which could hide those of its statement.
pub(super) fn has_with(source: &Query) -> bool {
    fn body_has(body: &SetExpr) -> bool {
        match body {
            SetExpr::Query(query) => has_with(query),
            SetExpr::SetOperation { left, right, .. } => body_has(left) || body_has(right),
            SetExpr::Select(_) | SetExpr::Values(_) => false,
            SetExpr::Insert(_)
            | SetExpr::Update(_)
            | SetExpr::Delete(_)
            | SetExpr::Merge(_)
            | SetExpr::Table(_) => true,
        }
    }
    source.with.is_some() || body_has(&source.body)
}
