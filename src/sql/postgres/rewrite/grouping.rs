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
/// sub-select, which has no key, they are grouped by as well: that changes no group. Of grouping sets the
/// key must be in each; a column that stands in one is left where it is, for in the others it is NULL.
pub(super) fn by_what_keys_settle(select: &mut Select, keyless: &[Keyless], level: &Level<'_>) {
    let GroupByExpr::Expressions(keys, _) = &mut select.group_by else { return };
    let projection = &select.projection;
    let everywhere: Vec<&[Ident]> =
        keys.iter().flat_map(|key| of_every_set(key, projection)).collect();
    let mut in_sets: Vec<&[Ident]> = Vec::new();
    for key in keys.iter().flat_map(|key| sets(key).iter().flatten()) {
        match key {
            Expr::Identifier(_) | Expr::CompoundIdentifier(_) => {
                in_sets.extend(meant(key, projection));
            }
            // What else stands there is for PostgreSQL to tell.
            _ => return,
        }
    }
    let mut added = Vec::new();
    for table in keyless {
        let own = |parts: &&[Ident]| {
            level.find(parts).rel.is_some_and(|rel| rel.visible == table.visible)
        };
        let names = |columns: &[&[Ident]]| -> Vec<String> {
            let own = columns.iter().copied().filter(own);
            own.filter_map(|parts| parts.last().map(name_of)).collect()
        };
        let grouped = names(&everywhere);
        // A bare name there may be of another table: then the column is not added, either.
        let bare = in_sets.iter().filter(|parts| parts.len() == 1);
        let bare = bare.filter_map(|parts| parts.last().map(name_of));
        let parted: Vec<String> = bare.chain(names(&in_sets)).collect();
        if table.key.iter().all(|key| grouped.contains(key)) {
            let others = table
                .columns
                .iter()
                .filter(|column| !grouped.contains(column) && !parted.contains(column));
            added.extend(others.map(|column| guard::column(&table.visible, column)));
        }
    }
    keys.extend(added);
}

/// The grouping sets that a key of GROUP BY stands for; none for a plain one.
fn sets(key: &Expr) -> &[Vec<Expr>] {
    match key {
        Expr::GroupingSets(sets) | Expr::Rollup(sets) | Expr::Cube(sets) => sets,
        _ => &[],
    }
}

/// The columns that every group of a key of GROUP BY is by.
fn of_every_set<'e>(key: &'e Expr, items: &'e [SelectItem]) -> Vec<&'e [Ident]> {
    match key {
        Expr::GroupingSets(sets) => {
            let Some((first, others)) = sets.split_first() else { return Vec::new() };
            let columns = first.iter().filter_map(|key| meant(key, items));
            let in_all = |column: &&[Ident]| {
                let holds = |set: &Vec<Expr>| {
                    set.iter().any(|key| {
                        meant(key, items).is_some_and(|parts| {
                            parts.iter().map(name_of).eq(column.iter().map(name_of))
                        })
                    })
                };
                others.iter().all(holds)
            };
            columns.filter(in_all).collect()
        }
        // One of their sets is empty.
        Expr::Rollup(_) | Expr::Cube(_) => Vec::new(),
        _ => meant(key, items).into_iter().collect(),
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

#[cfg(test)]
mod tests {
    use crate::sql::Limits;
    use crate::sql::postgres::decide;
    use crate::sql::postgres::tests::{catalog, policy, principal};

    #[test]
    fn of_grouping_sets_the_key_is_in_each_and_what_stands_in_one_stays_there() {
        for (keys, added) in [
            ("i.id", r#", "i"."order_id", "i"."sku""#),
            ("i.id, ROLLUP (k.code)", r#", "i"."order_id", "i"."sku""#),
            ("GROUPING SETS ((i.id), (i.id, sku))", r#", "i"."order_id""#),
            ("GROUPING SETS ((i.id, sku), (i.id), ())", ""),
            ("ROLLUP (i.id)", ""),
            ("i.id, CUBE (lower(i.sku))", ""),
        ] {
            let sql = format!(
                "SELECT i.order_id FROM items i FULL JOIN currencies k ON true GROUP BY {keys}"
            );
            let decided = decide(&sql, &policy(), &catalog(), &principal(), Limits::default());
            let text = decided.unwrap()[0].guarded.text().to_owned();
            let (_, grouped) = text.split_once("GROUP BY ").unwrap();
            let plain = |text: &str| text.replace(' ', "").to_uppercase();
            assert_eq!(plain(grouped), plain(&format!("{keys}{added}")), "{text}");
        }
    }
}
