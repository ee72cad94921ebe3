//! Whether two trees say the same once our guards are taken out. Layer 2.
//!
//! Both trees are read in the same way: what looks like a guard is taken out of both, so that a
//! guard of the client's own making neither helps nor hurts.

use std::borrow::Cow;

use super::super::codes;
use super::super::env::{Env, Resolved, Table};
use super::super::scope::{is_statement, visible_name};
use super::super::sizes::{asks_of_nothing, is_size};
use super::super::tree::Tree;
use super::grouping;
use super::guards::{conjuncts, is_counted, is_tenant_literal, null_extended, shielded, string};
use super::masks::{is_mask, lists_open_columns};
use super::writes::checked_value;
use crate::mutant;
use crate::policy::{Protection, TenantType};

/// Whether `sent` says what `client` says.
pub(super) fn same(client: &Tree<'_>, sent: &Tree<'_>, env: Env<'_>) -> bool {
    let mut masked = Vec::new();
    targets(client, env, &mut masked);
    Comparison { env, masked }.same(client, sent)
}

/// The tables that a statement writes and whose columns this caller sees masked, by visible name.
fn targets<'e>(tree: &Tree<'_>, env: Env<'e>, found: &mut Vec<(String, Table<'e>)>) {
    let relation = tree.at("relation");
    if is_statement(tree.kind())
        && let (Some(name), Some(visible)) = (relation.at("relname").text(), visible_name(relation))
        && let Ok(Resolved::Table(table)) =
            env.resolve(None, relation.at("schemaname").text(), name)
        && table.is_masked(env)
    {
        found.push((visible.to_owned(), table));
    }
    tree.children().for_each(|child| targets(child, env, found));
}

struct Comparison<'e> {
    env: Env<'e>,
    /// Tables that are written: a mask stands for a column of theirs.
    masked: Vec<(String, Table<'e>)>,
}

impl Comparison<'_> {
    /// Whether `sent` is the mask of the column that `client` names.
    fn is_masked(&self, client: &Tree<'_>, sent: &Tree<'_>) -> bool {
        let parts = super::guards::column(client);
        let Some((name, before)) = parts.as_deref().and_then(<[&str]>::split_last) else {
            return false;
        };
        self.masked.iter().any(|(visible, table)| {
            before.last().is_none_or(|row| row == visible)
                && is_mask(sent, name, table, visible, self.env)
        })
    }

    /// RETURNING: `*` of a masked table is written out.
    fn same_returned(&self, client: &[Tree<'_>], sent: &[Tree<'_>]) -> bool {
        let Some((item, rest)) = client.split_first() else { return sent.is_empty() };
        let written_out = match item.at("val").at("fields").items() {
            [star] if star.is("A_Star") => Some(None),
            [.., row, star] if star.is("A_Star") => Some(row.text()),
            _ => None,
        };
        let table = written_out.and_then(|row| {
            self.masked.iter().find(|(visible, _)| row.is_none_or(|row| row == visible))
        });
        if let Some((visible, table)) = table
            && let Some(width) = sent.len().checked_sub(rest.len())
            && let Some((own, others)) = sent.split_at_checked(width)
        {
            return lists_open_columns(own, table, visible, self.env)
                && self.same_returned(rest, others);
        }
        match sent.split_first() {
            Some((first, others)) => self.same(item, first) && self.same_returned(rest, others),
            None => false,
        }
    }

    fn same(&self, client: &Tree<'_>, sent: &Tree<'_>) -> bool {
        if super::listen::concerns(sent) || super::listen::concerns(client) {
            return super::listen::concerns(sent)
                && super::listen::concerns(client)
                && super::listen::same(client, sent, self.env);
        }
        match (client, sent) {
            (Tree::Node("ColumnRef", _), Tree::Node(..)) if self.is_masked(client, sent) => true,
            (Tree::Node("RangeVar", _), Tree::Node("RangeVar", _)) => {
                self.same_relation(client, sent)
            }
            (Tree::Node("RangeVar" | "RangeTableSample", _), Tree::Node("RangeSubselect", _)) => {
                self.set_apart(client, sent)
            }
            (Tree::Node("BoolExpr", _), Tree::Node("BoolExpr", _))
                if is_and(client) && is_and(sent) =>
            {
                self.same_all(&conjuncts(client), &conjuncts(sent))
            }
            (Tree::Node("InsertStmt", _), Tree::Node("InsertStmt", _)) => {
                self.same_insert(client, sent)
            }
            (Tree::Node("CopyStmt", _), Tree::Node("CopyStmt", _))
                if client.at("is_from").truth() || sent.at("is_from").truth() =>
            {
                client.at("is_from").truth()
                    && self.same_relation(client.at("relation"), sent.at("relation"))
                    && super::copy::takes_the_same(client, sent, self.env)
            }
            (Tree::Node("CopyStmt", _), Tree::Node("CopyStmt", _))
                if !client.at("relation").is_absent() =>
            {
                self.same_copy(client, sent)
            }
            (Tree::Node("FuncCall", _), Tree::Node("FuncCall", _))
                if super::locks::is_lock(client) || super::locks::is_lock(sent) =>
            {
                self.same_lock(client, sent)
            }
            (Tree::Node("FuncCall", _), Tree::Node("FuncCall", _)) if is_size(client) => {
                let mut fields = client.fields().iter().zip(sent.fields());
                asks_of_nothing(sent)
                    && fields.all(|((name, value), (_, other))| *name == "args" || value == other)
            }
            (Tree::Node("DropStmt", _), Tree::Node("DropStmt", _)) => {
                client == sent || super::temporary::drops_the_same(client, sent)
            }
            (Tree::Node("ExplainStmt", _), Tree::Node("ExplainStmt", _)) => {
                self.same_explain(client, sent)
            }
            (Tree::Node(kind, fields), Tree::Node(other, others)) => {
                kind == other
                    && fields.len() == others.len()
                    && fields.iter().zip(others).all(|((name, value), (other_name, other))| {
                        name == other_name && self.same_field(client, sent, name, value, other)
                    })
            }
            (Tree::List(items), Tree::List(others)) => {
                items.len() == others.len()
                    && items.iter().zip(others).all(|(item, other)| self.same(item, other))
            }
            (Tree::Text(_), Tree::Text(_)) if mutant::on("check-text") => true,
            (client, sent) => client == sent,
        }
    }

    fn same_field(
        &self,
        client_node: &Tree<'_>,
        sent_node: &Tree<'_>,
        name: &str,
        client: &Tree<'_>,
        sent: &Tree<'_>,
    ) -> bool {
        match (client_node.kind(), name) {
            ("SelectStmt" | "UpdateStmt" | "DeleteStmt" | "OnConflictClause", "where_clause")
            | ("JoinExpr", "quals")
            | ("MergeStmt", "join_condition")
            | ("MergeWhenClause", "condition")
            | ("SelectStmt", "having_clause") => self.same_condition(client, sent),
            ("SelectStmt", "limit_offset") => {
                is_zero(client) && sent.is_absent()
                    || client.is_absent() && is_zero(sent)
                    || self.same(client, sent)
            }
            // `LIMIT ALL` is none.
            ("SelectStmt", "limit_count") => {
                is_no_limit(client) && is_no_limit(sent) || self.same(client, sent)
            }
            // It only says whether there is a limit, which the other fields say.
            ("SelectStmt", "limit_option") => {
                is_no_limit(client_node.at("limit_count"))
                    && is_no_limit(sent_node.at("limit_count"))
                    || client == sent
            }
            ("SelectStmt", "group_clause") => {
                let (client, sent) = (client.items(), sent.items());
                let (own, added) = sent.split_at_checked(client.len()).unwrap_or_default();
                own.len() == client.len()
                    && client.iter().zip(own).all(|(key, sent)| self.same(key, sent))
                    && added.iter().all(|key| self.is_settled(key, client_node))
            }
            // Kept apart or not, a CTE gives the same rows.
            ("CommonTableExpr", "ctematerialized") => true,
            // Rows that the client did not name, named to tell their columns apart.
            ("RangeFunction", "alias") => {
                client == sent
                    || client.is_absent() && sent.at("aliasname").text() == Some("hedgerow_rows")
            }
            // `HEADER` and `HEADER true` (PostgreSQL's defGetBoolean takes both).
            ("DefElem", "arg") => {
                client == sent || flag(client).is_some() && flag(client) == flag(sent)
            }
            // A mask keeps the name of the column that it stands for.
            ("ResTarget", "name") => {
                client == sent
                    || client.is_absent()
                        && self.is_masked(client_node.at("val"), sent_node.at("val"))
                        && client_node.at("val").at("fields").items().last().and_then(Tree::text)
                            == sent.text()
            }
            ("ReturningClause", "exprs") => self.same_returned(client.items(), sent.items()),
            // A value written to a column: the client's, its check, or the tenant's literal for it.
            ("ResTarget", "val") => self.same_value(client, sent),
            ("MergeWhenClause", "target_list")
                if client_node.at("command_type").number() == Some(codes::CMD_INSERT) =>
            {
                self.same_columns(client, sent).is_some()
            }
            ("MergeWhenClause", "values")
                if client_node.at("command_type").number() == Some(codes::CMD_INSERT) =>
            {
                match self.same_columns(client_node.at("target_list"), sent_node.at("target_list"))
                {
                    Some(added) => self.same_row(client.items(), sent.items(), added),
                    None => false,
                }
            }
            _ => self.same(client, sent),
        }
    }

    /// Whether `key` is the column of a table whose whole primary key the client groups by, so that it
    /// has one value in each group.
    fn is_settled(&self, key: &Tree<'_>, select: &Tree<'_>) -> bool {
        let Some([qualifier, added]) = super::guards::column(key)
            .as_deref()
            .and_then(|parts| <&[&str; 2]>::try_from(parts).ok().copied())
        else {
            return false;
        };
        let keys = select.at("group_clause").items();
        let mut relations = Vec::new();
        super::super::scope::direct_relations(select.at("from_clause"), &mut relations);
        let Some(relation) = relations
            .into_iter()
            .find(|relation| super::super::scope::visible_name(relation) == Some(qualifier))
        else {
            return false;
        };
        let schema = relation.at("schemaname").text();
        let table =
            match self.env.resolve(None, schema, relation.at("relname").text().unwrap_or_default())
            {
                Ok(Resolved::Table(table)) => table,
                Ok(Resolved::Catalog { .. }) | Err(_) => return false,
            };
        let Some(known) = table.relation.filter(|known| !known.primary_key.is_empty()) else {
            return false;
        };
        let renamed = relation.at("alias").at("colnames").items();
        known.primary_key.iter().all(|column| {
            let at = known.columns.iter().position(|known| known.name == *column);
            let name =
                at.and_then(|at| renamed.get(at)).and_then(Tree::text).unwrap_or(column.as_str());
            keys.iter().any(|key| grouping::is_by(key, qualifier, name, select))
        }) && !grouping::is_in_a_set(keys, qualifier, added)
    }

    /// Conditions without guards and shields.
    fn same_condition(&self, client: &Tree<'_>, sent: &Tree<'_>) -> bool {
        self.same_all(&conjuncts(client), &conjuncts(sent))
    }

    fn same_all(&self, client: &[&Tree<'_>], sent: &[&Tree<'_>]) -> bool {
        let (mut stated, mut guards) = (Vec::new(), Vec::new());
        self.bare(client, &mut stated, &mut guards);
        let (mut stated_sent, mut guards_sent) = (Vec::new(), Vec::new());
        self.bare(sent, &mut stated_sent, &mut guards_sent);
        (stated.len() == stated_sent.len() || mutant::on("check-conjuncts"))
            && stated.iter().zip(&stated_sent).all(|(client, sent)| self.same(client, sent))
            && guards.iter().all(|guard| guards_sent.iter().any(|sent| self.same(guard, sent)))
    }

    fn bare<'t, 'a>(
        &self,
        list: &[&'t Tree<'a>],
        stated: &mut Vec<&'t Tree<'a>>,
        guards: &mut Vec<&'t Tree<'a>>,
    ) {
        for conjunct in list {
            if self.looks_like_guard(conjunct) {
                guards.push(conjunct);
            } else if let Some((guard, inner)) = shielded(conjunct)
                && self.looks_like_shield(guard)
            {
                if !self.is_operators_condition(conjunct) {
                    self.bare(&conjuncts(inner), stated, guards);
                }
            } else if !self.is_operators_condition(conjunct) {
                stated.push(conjunct);
            }
        }
    }

    /// A policy's own condition, which `verify` recognised where it had to stand.
    fn is_operators_condition(&self, conjunct: &Tree<'_>) -> bool {
        self.env
            .policy
            .tables
            .values()
            .chain(self.env.policy.patterns.iter().map(|(_, policy)| policy))
            .filter(|policy| policy.condition.is_some())
            .any(|policy| {
                let table = super::super::env::Table {
                    name: crate::ids::RelationName::new("", ""),
                    policy: std::sync::Arc::clone(policy),
                    relation: None,
                };
                qualifiers(conjunct).into_iter().any(|qualifier| {
                    super::guards::is_policy_condition(conjunct, &table, qualifier, self.env)
                })
            })
    }

    fn looks_like_guard(&self, conjunct: &Tree<'_>) -> bool {
        let equality = conjunct.is("A_Expr")
            && conjunct.at("name").name_parts().is_some_and(|name| name == ["="])
            && conjunct.at("lexpr").is("ColumnRef")
            && [TenantType::Uuid, TenantType::Text, TenantType::Int]
                .into_iter()
                .any(|tenant_type| is_tenant_literal(conjunct.at("rexpr"), tenant_type, self.env));
        equality || self.looks_like_parent_guard(conjunct)
    }

    fn looks_like_parent_guard(&self, conjunct: &Tree<'_>) -> bool {
        let policies = self
            .env
            .policy
            .tables
            .values()
            .chain(self.env.policy.patterns.iter().map(|(_, policy)| policy));
        let test =
            if super::guards::is_true_test(conjunct) { conjunct.at("arg") } else { conjunct };
        test.is("SubLink")
            && policies
                .filter(|policy| matches!(policy.protection, Protection::TenantThrough { .. }))
                .any(|policy| {
                    let table = super::super::env::Table {
                        name: crate::ids::RelationName::new("", ""),
                        policy: std::sync::Arc::clone(policy),
                        relation: None,
                    };
                    super::guards::column(test.at("testexpr")).is_some_and(|parts| {
                        match parts.as_slice() {
                            [qualifier, _] => super::guards::is_tenant_guard(
                                conjunct, &table, qualifier, self.env,
                            ),
                            _ => false,
                        }
                    })
                })
    }

    fn looks_like_shield(&self, guard: &Tree<'_>) -> bool {
        if is_counted(guard) {
            return true;
        }
        let parts = conjuncts(guard);
        !parts.is_empty()
            && parts.into_iter().all(|part| {
                let strict = null_extended(part).map_or(part, |(guard, _)| guard);
                conjuncts(strict)
                    .into_iter()
                    .all(|one| self.looks_like_guard(one) || self.is_operators_condition(one))
            })
    }

    fn same_relation(&self, client: &Tree<'_>, sent: &Tree<'_>) -> bool {
        let schema = client.at("schemaname").text();
        let (Some(name), Some(sent_name)) =
            (client.at("relname").text(), sent.at("relname").text())
        else {
            return false;
        };
        let named = match sent.at("schemaname").text() {
            sent_schema if sent_schema == schema => name == sent_name,
            Some(sent_schema) if schema.is_none() => match self.env.resolve(None, None, name) {
                Ok(Resolved::Table(table)) => {
                    table.name.schema == sent_schema && table.name.name == sent_name
                }
                Ok(Resolved::Catalog { .. }) | Err(_) => false,
            },
            Some(_) | None => false,
        };
        named
            && same_alias(client.at("alias"), sent.at("alias"), name)
            && ["catalogname", "inh", "relpersistence"]
                .iter()
                .all(|field| client.at(field) == sent.at(field))
    }

    /// `(SELECT * FROM relation AS v WHERE guards OFFSET 0) AS alias` in place of the relation.
    fn set_apart(&self, client: &Tree<'_>, sent: &Tree<'_>) -> bool {
        let select = sent.at("subquery");
        let [inner] = select.at("from_clause").items() else { return false };
        let star = match select.at("target_list").items() {
            [item] => {
                item.at("name").is_absent()
                    && matches!(item.at("val").at("fields").items(), [only] if only.is("A_Star"))
            }
            _ => false,
        };
        let bare = select.fields().iter().all(|(name, value)| match *name {
            "target_list" | "from_clause" | "where_clause" | "limit_option" => true,
            "limit_offset" => value.is_absent() || is_zero(value),
            "op" => value.number() == Some(codes::SETOP_NONE),
            "group_distinct" | "all" => !value.truth(),
            _ => value.is_absent(),
        });
        let (mut stated, mut guards) = (Vec::new(), Vec::new());
        self.bare(&conjuncts(select.at("where_clause")), &mut stated, &mut guards);
        let (relation, sent_relation) = match (client.kind(), inner.kind()) {
            ("RangeVar", "RangeVar") => (client, inner),
            ("RangeTableSample", "RangeTableSample") => {
                let sample = ["method", "args", "repeatable"]
                    .iter()
                    .all(|field| self.same(client.at(field), inner.at(field)));
                if !sample {
                    return false;
                }
                (client.at("relation"), inner.at("relation"))
            }
            _ => return false,
        };
        let Some(name) = relation.at("relname").text() else { return false };
        let schema = relation.at("schemaname").text();
        let (resolved, masked) = match self.env.resolve(None, schema, name) {
            Ok(Resolved::Table(table)) => (
                sent_relation.at("schemaname").text() == Some(table.name.schema.as_str())
                    && sent_relation.at("relname").text() == Some(table.name.name.as_str()),
                visible_name(sent_relation).is_some_and(|qualifier| {
                    let items = select.at("target_list").items();
                    table.is_masked(self.env)
                        && lists_open_columns(items, &table, qualifier, self.env)
                }),
            ),
            Ok(Resolved::Catalog { .. }) | Err(_) => (false, false),
        };
        (star || masked)
            && bare
            && stated.is_empty()
            && resolved
            && !sent.at("lateral").truth()
            && relation.at("inh") == sent_relation.at("inh")
            && same_alias(relation.at("alias"), sent.at("alias"), name)
    }

    /// A lock by the client's numbers, in the tenant's own space.
    fn same_lock(&self, client: &Tree<'_>, sent: &Tree<'_>) -> bool {
        let Some(numbers) = super::locks::numbers(sent, self.env) else { return false };
        let asked = client.at("args").items();
        let others = client
            .fields()
            .iter()
            .zip(sent.fields())
            .all(|((name, value), (_, other))| *name == "args" || value == other);
        others
            && asked.len() == numbers.len()
            && asked.iter().zip(numbers).all(|(asked, number)| self.same(asked, number))
    }

    /// `COPY (SELECT columns FROM table WHERE guards) TO STDOUT` for `COPY table (columns) TO STDOUT`.
    fn same_copy(&self, client: &Tree<'_>, sent: &Tree<'_>) -> bool {
        let query = sent.at("query");
        let others =
            client.fields().iter().zip(sent.fields()).all(|((name, value), (_, other))| {
                matches!(*name, "relation" | "query" | "attlist") || self.same(value, other)
            });
        let bare = query.fields().iter().all(|(name, value)| match *name {
            "target_list" | "from_clause" | "where_clause" | "limit_option" => true,
            "op" => value.number() == Some(codes::SETOP_NONE),
            "group_distinct" | "all" => !value.truth(),
            _ => value.is_absent(),
        });
        let (mut stated, mut guards) = (Vec::new(), Vec::new());
        self.bare(&conjuncts(query.at("where_clause")), &mut stated, &mut guards);
        let columns = client.at("attlist").items();
        let items = query.at("target_list").items();
        let listed = if columns.is_empty() {
            is_star(items)
        } else {
            columns.len() == items.len()
                && columns.iter().zip(items).all(|(column, item)| {
                    let named = super::guards::column(item.at("val"));
                    column.text().is_some_and(|name| named.is_some_and(|parts| parts == [name]))
                })
        };
        let [relation] = query.at("from_clause").items() else { return false };
        others
            && bare
            && listed
            && stated.is_empty()
            && sent.at("relation").is_absent()
            && sent.at("attlist").is_absent()
            && client.at("query").is_absent()
            && match relation.kind() {
                "RangeSubselect" => self.set_apart(client.at("relation"), relation),
                _ => self.same_relation(client.at("relation"), relation),
            }
    }

    fn same_explain(&self, client: &Tree<'_>, sent: &Tree<'_>) -> bool {
        let of = |tree: &Tree<'_>| {
            tree.at("options")
                .items()
                .iter()
                .filter(|option| option.at("defname").text() != Some("costs"))
                .count()
        };
        of(client) == of(sent)
            && client
                .at("options")
                .items()
                .iter()
                .filter(|option| option.at("defname").text() != Some("costs"))
                .all(|option| sent.at("options").items().contains(option))
            && self.same(client.at("query"), sent.at("query"))
    }

    /// INSERT: the column list may be written out, and the tenant's column added at its end.
    fn same_insert(&self, client: &Tree<'_>, sent: &Tree<'_>) -> bool {
        let others = client.fields().iter().zip(sent.fields()).all(
            |((name, value), (other, sent_value))| {
                name == other
                    && match *name {
                        "cols" | "select_stmt" => true,
                        _ => self.same_field(client, sent, name, value, sent_value),
                    }
            },
        );
        let Some(added) = self.same_columns_or_all(client, sent) else { return false };
        others && self.same_source(client.at("select_stmt"), sent.at("select_stmt"), added)
    }

    fn same_columns_or_all(&self, client: &Tree<'_>, sent: &Tree<'_>) -> Option<bool> {
        let (columns, sent_columns) = (client.at("cols"), sent.at("cols"));
        if !columns.is_absent() || sent_columns.is_absent() {
            return self.same_columns(columns, sent_columns);
        }
        // The client named no columns: the table's own, in order, and perhaps the tenant's.
        let relation = sent.at("relation");
        let name = relation.at("relname").text()?;
        let Ok(Resolved::Table(table)) =
            self.env.resolve(None, relation.at("schemaname").text(), name)
        else {
            return None;
        };
        let known = table.relation?;
        let named: Option<Vec<&str>> =
            sent_columns.items().iter().map(|column| column.at("name").text()).collect();
        let named = named?;
        let source = client.at("select_stmt");
        let width = if source.is_absent() {
            // DEFAULT VALUES, with the tenant written out.
            return (named.len() == 1).then_some(true);
        } else if is_star(source.at("target_list").items()) {
            let leading = named.iter().zip(&known.columns);
            leading.take_while(|(name, column)| **name == column.name).count()
        } else {
            source_width(source)?
        };
        let own = named.get(..width)?;
        let in_order = own.len() <= known.columns.len()
            && own.iter().zip(&known.columns).all(|(name, column)| **name == column.name);
        match named.len() - width {
            0 if in_order => Some(false),
            1 if in_order => Some(true),
            _ => None,
        }
    }

    /// Whether the lists are the same, but for one column more at the end: `Some(true)` with it.
    fn same_columns(&self, client: &Tree<'_>, sent: &Tree<'_>) -> Option<bool> {
        let (client, sent) = (client.items(), sent.items());
        let added = match sent.len().checked_sub(client.len()) {
            Some(0) => false,
            Some(1) => true,
            Some(_) | None => return None,
        };
        client.iter().zip(sent).all(|(column, other)| column == other).then_some(added)
    }

    fn same_source(&self, client: &Tree<'_>, sent: &Tree<'_>, added: bool) -> bool {
        if client.is_absent() {
            return match sent.at("values_lists").items() {
                [row] => matches!(row.items(), [value] if self.is_own(value)),
                _ => sent.is_absent(),
            };
        }
        if client.kind() != "SelectStmt" || sent.kind() != "SelectStmt" {
            return client == sent;
        }
        client.fields().iter().zip(sent.fields()).all(|((name, value), (other, sent_value))| {
            name == other
                && match *name {
                    "larg" | "rarg" => {
                        value.is_absent() && sent_value.is_absent()
                            || self.same_source(value, sent_value, added)
                    }
                    "values_lists" => {
                        value.items().len() == sent_value.items().len()
                            && value.items().iter().zip(sent_value.items()).all(
                                |(row, sent_row)| {
                                    self.same_row(row.items(), sent_row.items(), added)
                                },
                            )
                    }
                    "target_list"
                        if client.at("values_lists").is_absent()
                            && client.at("op").number() == Some(codes::SETOP_NONE) =>
                    {
                        self.same_targets(value.items(), sent_value.items(), added)
                    }
                    _ => self.same_field(client, sent, name, value, sent_value),
                }
        })
    }

    fn same_targets(&self, client: &[Tree<'_>], sent: &[Tree<'_>], added: bool) -> bool {
        if is_star(client) && !is_star(sent.get(..1).unwrap_or_default()) {
            // `*` written out: columns by their names, perhaps checked, perhaps the tenant's literal.
            return sent.iter().all(|item| {
                let value = item.at("val");
                let value = checked_value(value).unwrap_or(value);
                let named = super::guards::column(value).is_some_and(|parts| parts.len() == 1);
                named || self.is_own(value)
            });
        }
        client.len() + usize::from(added) == sent.len()
            && client.iter().zip(sent).all(|(item, other)| self.same(item, other))
    }

    fn same_row(&self, client: &[Tree<'_>], sent: &[Tree<'_>], added: bool) -> bool {
        client.len() + usize::from(added) == sent.len()
            && client.iter().zip(sent).all(|(value, other)| self.same_value(value, other))
    }

    fn same_value(&self, client: &Tree<'_>, sent: &Tree<'_>) -> bool {
        if self.same(client, sent) {
            return true;
        }
        if let Some(inner) = checked_value(sent) {
            return self.same(client, inner);
        }
        // The tenant's literal for DEFAULT, or for the same value written another way.
        self.is_own(sent) && (client.is("SetToDefault") || self.spells_tenant(client))
    }

    /// The tenant's literal.
    fn is_own(&self, value: &Tree<'_>) -> bool {
        [TenantType::Uuid, TenantType::Text, TenantType::Int]
            .into_iter()
            .any(|tenant_type| is_tenant_literal(value, tenant_type, self.env))
    }

    fn spells_tenant(&self, client: &Tree<'_>) -> bool {
        let literal = if client.is("TypeCast") { client.at("arg") } else { client };
        let text = match literal.at("val").at("") {
            Tree::Number(number) => Some(Cow::Owned(number.to_string())),
            _ => string(literal).map(Cow::Borrowed),
        };
        text.is_some_and(|text| {
            let text = text.as_ref();
            let uuid = uuid::Uuid::try_parse(text).ok().map(|uuid| uuid.to_string());
            [TenantType::Uuid, TenantType::Text, TenantType::Int].into_iter().any(|tenant_type| {
                self.env
                    .tenant_text(tenant_type)
                    .is_ok_and(|own| own == text || uuid.as_ref() == Some(&own))
            })
        })
    }
}

fn is_and(tree: &Tree<'_>) -> bool {
    tree.at("boolop").number() == Some(codes::AND)
}

fn is_zero(tree: &Tree<'_>) -> bool {
    tree.is("A_Const") && tree.at("val").at("").number() == Some(0)
}

/// No LIMIT, `LIMIT ALL` or `LIMIT NULL`.
fn is_no_limit(tree: &Tree<'_>) -> bool {
    tree.is_absent() || tree.is("A_Const") && tree.at("isnull").truth()
}

/// The same alias; none is the same as the relation's own name.
fn same_alias(client: &Tree<'_>, sent: &Tree<'_>, name: &str) -> bool {
    let own = |alias: &Tree<'_>| alias.at("aliasname").text().unwrap_or(name).to_owned();
    own(client) == own(sent) && client.at("colnames").items() == sent.at("colnames").items()
}

/// The value of a flag among options.
fn flag(argument: &Tree<'_>) -> Option<bool> {
    match (argument.at("boolval"), argument.text()) {
        (Tree::Bool(flag), _) => Some(*flag),
        (_, Some(word)) if word.eq_ignore_ascii_case("true") => Some(true),
        (_, Some(word)) if word.eq_ignore_ascii_case("false") => Some(false),
        _ => None,
    }
}

/// Whether a select list is a lone `*`.
fn is_star(items: &[Tree<'_>]) -> bool {
    match items {
        [item] => {
            matches!(item.at("val").at("fields").items(), [only] if only.is("A_Star"))
        }
        _ => false,
    }
}

/// How many columns a source of rows has, as far as its text tells.
fn source_width(source: &Tree<'_>) -> Option<usize> {
    if source.at("op").number() != Some(codes::SETOP_NONE) {
        return source_width(source.at("larg"));
    }
    match source.at("values_lists").items() {
        [first, ..] => Some(first.items().len()),
        [] => Some(source.at("target_list").items().len()),
    }
}

/// The qualifiers of the columns that a tree names.
fn qualifiers<'t>(tree: &'t Tree<'_>) -> Vec<&'t str> {
    let mut found = Vec::new();
    gather(tree, &mut found);
    found
}

fn gather<'t>(tree: &'t Tree<'_>, found: &mut Vec<&'t str>) {
    if let Some([qualifier, _]) = super::guards::column(tree).as_deref()
        && !found.contains(qualifier)
    {
        found.push(qualifier);
    }
    tree.children().for_each(|child| gather(child, found));
}
