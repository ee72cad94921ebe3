//! GROUP BY a primary key, where the table is read through a sub-select. Layer 2.
//!
//! PostgreSQL lets a query show every column of a table whose primary key it groups by (manual,
//! 7.2.3). A sub-select has no key, so there the other columns are grouped by as well.

use sqlparser::ast::{Expr, GroupByExpr, Ident, Select, SelectItem, Value};

use super::super::env::Table;
use super::super::totality::Class;
use super::guard;
use super::level::{Level, Outputs, name_of};

/// A table that is read through a sub-select: GROUP BY its key no longer settles its other columns.
pub(super) struct Keyless {
    /// The name that qualifies its columns.
    pub visible: String,
    /// Its primary key, as the level names it.
    pub key: Vec<String>,
    /// The columns that can be grouped by, as the level names them.
    pub columns: Vec<String>,
}

impl Keyless {
    /// `None` for what has no primary key.
    pub fn of(table: &Table<'_>, visible: &str, columns: &Outputs) -> Option<Self> {
        let relation = table.relation.filter(|relation| !relation.primary_key.is_empty())?;
        let columns = columns.as_ref()?;
        let key = relation.primary_key.iter().map(|key| {
            let at = relation.columns.iter().position(|column| column.name == *key)?;
            columns.get(at).map(|(name, _)| name.clone())
        });
        let groups = |class: &Option<Class>| !matches!(class, None | Some(Class::Document));
        let columns = columns.iter().filter(|(_, class)| groups(class));
        Some(Self {
            visible: visible.to_owned(),
            key: key.collect::<Option<_>>()?,
            columns: columns.map(|(name, _)| name.clone()).collect(),
        })
    }

    /// The same for a table that is shown under masks, with its columns' own names.
    pub fn masked(
        table: &Table<'_>,
        visible: &str,
        columns: &Outputs,
        masks: &[&str],
    ) -> Option<Self> {
        let key = &table.relation?.primary_key;
        let columns = columns.as_ref()?;
        let shown = |name: &String| columns.iter().any(|(column, _)| column == name);
        if key.is_empty() || !key.iter().all(|name| shown(name) && !masks.contains(&name.as_str()))
        {
            return None;
        }
        let groups = |(name, class): &&(String, Option<Class>)| {
            masks.contains(&name.as_str()) || !matches!(class, None | Some(Class::Document))
        };
        let columns = columns.iter().filter(groups).map(|(name, _)| name.clone()).collect();
        Some(Self { visible: visible.to_owned(), key: key.clone(), columns })
    }
}

/// GROUP BY a primary key settles the other columns of its table. Where the table is read through a
/// sub-select, which has no key, they are grouped by as well: that changes no group.
pub(super) fn by_what_keys_settle(select: &mut Select, keyless: &[Keyless], level: &Level<'_>) {
    let GroupByExpr::Expressions(keys, _) = &mut select.group_by else { return };
    let sets = |key: &Expr| matches!(key, Expr::GroupingSets(_) | Expr::Rollup(_) | Expr::Cube(_));
    if keys.is_empty() || keys.iter().any(sets) {
        return;
    }
    for table in keyless {
        let grouped: Vec<String> = keys
            .iter()
            .filter_map(|key| meant(key, &select.projection))
            .filter(|parts| level.find(parts).rel.is_some_and(|rel| rel.visible == table.visible))
            .filter_map(|parts| parts.last().map(name_of))
            .collect();
        if table.key.iter().all(|key| grouped.contains(key)) {
            let others = table.columns.iter().filter(|column| !grouped.contains(column));
            let others: Vec<Expr> =
                others.map(|column| guard::column(&table.visible, column)).collect();
            keys.extend(others);
        }
    }
}

/// The column that a key of GROUP BY means: itself, or the select item of that number.
fn meant<'e>(key: &'e Expr, items: &'e [SelectItem]) -> Option<&'e [Ident]> {
    match key {
        Expr::Nested(inner) => meant(inner, items),
        Expr::Identifier(column) => Some(std::slice::from_ref(column)),
        Expr::CompoundIdentifier(parts) => Some(parts),
        Expr::Value(value) => {
            let Value::Number(digits, _) = &value.value else { return None };
            let at = digits.parse::<usize>().ok()?.checked_sub(1)?;
            match items.get(at)? {
                SelectItem::UnnamedExpr(Expr::Identifier(column))
                | SelectItem::ExprWithAlias { expr: Expr::Identifier(column), .. } => {
                    Some(std::slice::from_ref(column))
                }
                SelectItem::UnnamedExpr(Expr::CompoundIdentifier(parts))
                | SelectItem::ExprWithAlias { expr: Expr::CompoundIdentifier(parts), .. } => {
                    Some(parts)
                }
                SelectItem::UnnamedExpr(_)
                | SelectItem::ExprWithAlias { .. }
                | SelectItem::ExprWithAliases { .. }
                | SelectItem::QualifiedWildcard(..)
                | SelectItem::Wildcard(_) => None,
            }
        }
        _ => None,
    }
}
