//! Masked columns in the tree that would be sent: nowhere but inside their masks. Layer 2.
//!
//! A relation that is read with masks stands alone in a select that holds nothing of the client's:
//! `(SELECT open columns, masks FROM relation WHERE its guards)`. A relation that is written keeps its
//! place; there every mention of a masked column must be the whole mask.

use super::super::codes;
use super::super::env::{Env, Resolved, Table};
use super::super::scope::visible_name;
use super::super::tree::Tree;
use super::guards::{column, conjuncts, is_policy_condition, is_tenant_guard, says_expression};

/// The table of a relation's node, where this caller sees it masked.
pub(super) fn masked_table<'e>(relation: &Tree<'_>, env: Env<'e>) -> Option<Table<'e>> {
    let (schema, name) = (relation.at("schemaname").text()?, relation.at("relname").text()?);
    match env.resolve(relation.at("catalogname").text(), Some(schema), name) {
        Ok(Resolved::Table(table)) if table.is_masked(env) => Some(table),
        Ok(Resolved::Table(_) | Resolved::Catalog { .. }) | Err(_) => None,
    }
}

/// Whether a tree is the mask of `name`, a column of `table` visible as `qualifier`.
pub(super) fn is_mask(
    tree: &Tree<'_>,
    name: &str,
    table: &Table<'_>,
    qualifier: &str,
    env: Env<'_>,
) -> bool {
    table
        .masks(env)
        .any(|(masked, mask)| masked == name && says_expression(mask, tree, qualifier, env))
}

/// Whether an item of a select list shows a column of the table as this caller may see it; its name.
pub(super) fn shown_column<'t>(
    item: &'t Tree<'_>,
    table: &Table<'_>,
    qualifier: &str,
    env: Env<'_>,
) -> Option<&'t str> {
    if !item.at("indirection").is_absent() {
        return None;
    }
    let value = item.at("val");
    let closed = |name: &str| {
        table.denied_columns().any(|denied| denied == name)
            || table.masks(env).any(|(masked, _)| masked == name)
    };
    match (item.at("name").text(), column(value).as_deref()) {
        (None, Some([row, name])) if *row == qualifier && !closed(name) => {
            value.at("fields").items().last().and_then(Tree::text)
        }
        (Some(name), _) if is_mask(value, name, table, qualifier, env) => Some(name),
        _ => None,
    }
}

/// Whether a select does nothing but show one table masked.
pub(super) fn shows_masked(select: &Tree<'_>, env: Env<'_>) -> bool {
    let bare = select.fields().iter().all(|(name, value)| match *name {
        "target_list" | "from_clause" | "where_clause" | "limit_option" => true,
        "limit_offset" => value.is_absent() || value.at("val").at("").number() == Some(0),
        "op" => value.number() == Some(codes::SETOP_NONE),
        "group_distinct" | "all" => !value.truth(),
        _ => value.is_absent(),
    });
    let [item] = select.at("from_clause").items() else { return false };
    let relation = if item.is("RangeTableSample") { item.at("relation") } else { item };
    let (true, Some(table), Some(qualifier)) =
        (bare && relation.is("RangeVar"), masked_table(relation, env), visible_name(relation))
    else {
        return false;
    };
    let items = select.at("target_list").items();
    !items.is_empty()
        && items.iter().all(|item| shown_column(item, &table, qualifier, env).is_some())
        && conjuncts(select.at("where_clause")).into_iter().all(|conjunct| {
            is_tenant_guard(conjunct, &table, qualifier, env)
                || is_policy_condition(conjunct, &table, qualifier, env)
        })
}

/// Whether a list shows the open columns of a table, all of them and in order where they are known.
pub(super) fn lists_open_columns(
    items: &[Tree<'_>],
    table: &Table<'_>,
    qualifier: &str,
    env: Env<'_>,
) -> bool {
    let shown: Option<Vec<&str>> =
        items.iter().map(|item| shown_column(item, table, qualifier, env)).collect();
    let Some(shown) = shown else { return false };
    let Some(relation) = table.relation else { return !env.catalog.live };
    let names = relation.columns.iter().map(|column| column.name.as_str());
    let open = names.filter(|name| table.denied_columns().all(|denied| denied != *name));
    open.eq(shown)
}

/// The masked columns of the table that a data change writes.
pub(super) struct Target<'t> {
    pub(super) table: &'t Table<'t>,
    pub(super) visible: &'t str,
    pub(super) env: Env<'t>,
}

impl Target<'_> {
    /// Whether the change neither writes a masked column anew nor names one outside its mask.
    pub(super) fn is_hidden_in(&self, change: &Tree<'_>) -> bool {
        let updated = [
            if change.is("UpdateStmt") { change.at("target_list") } else { &Tree::None },
            change.at("on_conflict_clause").at("target_list"),
        ];
        let merged = change.at("merge_when_clauses").items().iter();
        let merged = merged
            .filter(|when| when.at("command_type").number() != Some(codes::CMD_INSERT))
            .map(|when| when.at("target_list"));
        let mut written = updated.into_iter().chain(merged).flat_map(Tree::items);
        let inferred = change.at("on_conflict_clause").at("infer").at("index_elems").items();
        let returned = change.at("returning_clause").at("exprs").items();
        let star = |item: &Tree<'_>| matches!(item.at("val").at("fields").items(), [only] if only.is("A_Star"));
        !written.any(|item| self.is_masked(item.at("name").text()))
            && !inferred.iter().any(|item| self.is_masked(item.at("name").text()))
            && !returned.iter().any(star)
            && change.fields().iter().all(|(field, value)| match *field {
                // None of these can see the target.
                "with_clause" | "relation" | "cols" | "select_stmt" | "from_clause"
                | "using_clause" | "source_relation" => true,
                _ => self.is_hidden(value),
            })
    }

    fn is_masked(&self, name: Option<&str>) -> bool {
        self.table.masks(self.env).any(|(masked, _)| name == Some(masked))
    }

    fn is_hidden(&self, tree: &Tree<'_>) -> bool {
        let whole_mask = !matches!(tree.kind(), "" | "ColumnRef")
            && self
                .table
                .masks(self.env)
                .any(|(_, mask)| says_expression(mask, tree, self.visible, self.env));
        if whole_mask {
            return true;
        }
        if tree.is("ColumnRef") {
            let parts: Vec<Option<&str>> =
                tree.at("fields").items().iter().map(Tree::text).collect();
            return match parts.as_slice() {
                [only] => *only != Some(self.visible) && !self.is_masked(*only),
                [.., row, column] => {
                    *column != Some(self.visible)
                        && (*row != Some(self.visible)
                            || column.is_some() && !self.is_masked(*column))
                }
                [] => false,
            };
        }
        tree.children().all(|child| self.is_hidden(child))
    }
}
