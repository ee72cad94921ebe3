//! The policy's own condition on written rows, in the tree that would be sent. Layer 2.
//!
//! A row passes where one of the condition's columns carries the test: the condition itself, over what is
//! written to each of its columns, looked at in the type in which it is stored.

use super::super::codes;
use super::super::env::{Env, Table};
use super::super::tree::Tree;
use super::guards::{cast_type, column, is_tenant_literal, is_true_test, says_expression, string};
use super::writes::raises;
use crate::mutant;
use crate::policy::{PolicyExpression, Protection};

/// Types that a value can be looked at in before it is stored: storing changes nothing, but for the
/// blanks at the end of a `varchar`.
const STEADY: &[&str] = &["text", "varchar", "uuid", "int2", "int4", "int8", "bool", "date"];

/// The columns that a condition names.
fn named(condition: &PolicyExpression) -> Option<Vec<String>> {
    fn gather(tree: &Tree<'_>, found: &mut Vec<String>) {
        if let Some([name]) = column(tree).as_deref()
            && !found.iter().any(|known| known == name)
        {
            found.push((*name).to_owned());
        }
        tree.children().for_each(|child| gather(child, found));
    }
    let parsed = pg_raw_parse::parse(&format!("SELECT ({}\n)", condition.text)).ok()?;
    let mut print = String::new();
    let tree = Tree::of(parsed.stmts().next()?, &mut print).ok()?;
    let mut found = Vec::new();
    gather(&tree, &mut found);
    Some(found)
}

/// Whether a row that is written satisfies the table's condition, or fails as it is made. `written` is
/// what stands for a column; a column for which nothing stands keeps what the row visible as `kept` has.
pub(super) fn meets_condition<'t, 'a: 't>(
    table: &Table<'_>,
    kept: Option<&str>,
    written: &dyn Fn(&str) -> Option<&'t Tree<'a>>,
    env: Env<'_>,
) -> bool {
    let Some(condition) = &table.policy.condition else { return true };
    if mutant::on("check-row") {
        return true;
    }
    let Some(columns) = named(condition) else { return false };
    // The tenant's column is seen to by itself, and its value is the same before and after.
    let free: Vec<&str> =
        columns.iter().map(String::as_str).filter(|name| !is_tenants(table, name)).collect();
    let touched = free.iter().any(|name| written(name).is_some());
    if kept.is_some() && !touched {
        return true;
    }
    let row = Row { table, condition, columns: &columns, kept, written, env };
    free.into_iter().any(|name| written(name).is_some_and(|value| row.is_tested(value, name)))
}

fn is_tenants(table: &Table<'_>, name: &str) -> bool {
    match &table.policy.protection {
        Protection::Tenant { column, .. } => column == name,
        Protection::TenantThrough { .. } | Protection::Shared | Protection::Deny => false,
    }
}

struct Row<'r, 't, 'a> {
    table: &'r Table<'r>,
    condition: &'r PolicyExpression,
    columns: &'r [String],
    kept: Option<&'r str>,
    written: &'r dyn Fn(&str) -> Option<&'t Tree<'a>>,
    env: Env<'r>,
}

impl Row<'_, '_, '_> {
    /// `(SELECT CASE WHEN condition THEN c.carrier ELSE … END FROM (SELECT a::type AS a, … OFFSET 0) c)`
    fn is_tested(&self, value: &Tree<'_>, carrier: &str) -> bool {
        let select = value.at("subselect");
        let scalar =
            value.is("SubLink") && value.at("sub_link_type").number() == Some(codes::EXPR_SUBLINK);
        let ([item], [derived]) =
            (select.at("target_list").items(), select.at("from_clause").items())
        else {
            return false;
        };
        let inner = derived.at("subquery");
        let Some(alias) = derived.at("alias").at("aliasname").text() else { return false };
        let case = item.at("val");
        let [when] = case.at("args").items() else { return false };
        let plain = scalar
            && derived.is("RangeSubselect")
            && !derived.at("lateral").truth()
            && derived.at("alias").at("colnames").is_absent()
            && is_bare(select, &["target_list", "from_clause"])
            && is_bare(inner, &["target_list", "limit_offset"])
            && case.is("CaseExpr")
            && case.at("arg").is_absent()
            && is_seen(when.at("result"), alias, carrier)
            && raises(case.at("defresult"));
        plain
            && self.looks_at_all(inner.at("target_list").items(), carrier)
            && self.says(when.at("expr"), alias)
    }

    /// Every column of the condition is looked at once, as it is written.
    fn looks_at_all(&self, items: &[Tree<'_>], carrier: &str) -> bool {
        items.len() == self.columns.len()
            && self.columns.iter().all(|name| {
                let mut own =
                    items.iter().filter(|item| item.at("name").text() == Some(name.as_str()));
                match (own.next(), own.next()) {
                    (Some(item), None) => self.looks_at(item.at("val"), name, name == carrier),
                    (_, _) => false,
                }
            })
    }

    fn looks_at(&self, looked_at: &Tree<'_>, name: &str, carries: bool) -> bool {
        let steady = match self.table.relation {
            None => cast_type(looked_at) == Some("text"),
            Some(relation) => relation.column(name).is_some_and(|column| {
                column.type_schema == "pg_catalog"
                    && STEADY.contains(&column.type_name.as_str())
                    && cast_type(looked_at) == Some(column.type_name.as_str())
            }),
        };
        let value = looked_at.at("arg");
        let same = match &self.table.policy.protection {
            Protection::Tenant { column, tenant_type } if column == name => {
                is_tenant_literal(value, *tenant_type, self.env)
            }
            Protection::Tenant { .. }
            | Protection::TenantThrough { .. }
            | Protection::Shared
            | Protection::Deny => match ((self.written)(name), self.kept) {
                (Some(_), _) if carries => true,
                (Some(written), _) => written == value && is_repeatable(value),
                (None, Some(row)) => is_seen(value, row, name),
                (None, None) => false,
            },
        };
        steady && same
    }

    /// The condition, behind a refusal of blanks at the end of each `varchar`.
    fn says(&self, test: &Tree<'_>, alias: &str) -> bool {
        let mut unpadded: Vec<&str> = Vec::new();
        let mut test = test;
        while let Some((name, rest)) = refuses_blanks(test, alias) {
            unpadded.push(name);
            test = rest;
        }
        let padded = |name: &str| {
            let column = self.table.relation.and_then(|relation| relation.column(name));
            column.is_some_and(|column| column.type_name == "varchar")
        };
        self.columns.iter().all(|name| !padded(name) || unpadded.contains(&name.as_str()))
            && says_expression(self.condition, test, alias, self.env)
    }
}

/// `CASE WHEN (c.name LIKE '% ') IS TRUE THEN false ELSE rest END`
fn refuses_blanks<'t, 'a>(test: &'t Tree<'a>, alias: &str) -> Option<(&'t str, &'t Tree<'a>)> {
    let [when] = test.at("args").items() else { return None };
    let like = when.at("expr").at("arg");
    let refused = test.is("CaseExpr")
        && test.at("arg").is_absent()
        && *when.at("result").at("val").at("") == Tree::Bool(false)
        && is_true_test(when.at("expr"))
        && like.is("A_Expr")
        && like.at("kind").number() == Some(codes::LIKE)
        && like.at("name").name_parts().is_some_and(|name| name == ["~~"])
        && string(like.at("rexpr")) == Some("% ");
    match column(like.at("lexpr")).as_deref() {
        Some([owner, name]) if refused && *owner == alias => Some((name, test.at("defresult"))),
        Some(_) | None => None,
    }
}

fn is_seen(tree: &Tree<'_>, alias: &str, name: &str) -> bool {
    column(tree).is_some_and(|parts| parts == [alias, name])
}

/// A SELECT with nothing but the given clauses.
pub(super) fn is_bare(select: &Tree<'_>, clauses: &[&str]) -> bool {
    select.is("SelectStmt")
        && select.fields().iter().all(|(name, value)| match *name {
            name if clauses.contains(&name) => true,
            "group_distinct" | "all" => !value.truth(),
            "op" => value.number() == Some(codes::SETOP_NONE),
            "limit_option" => true,
            _ => value.is_absent(),
        })
}

/// Whether an expression gives the same value where it stands twice in a row.
fn is_repeatable(tree: &Tree<'_>) -> bool {
    match tree.kind() {
        "A_Const" | "ParamRef" => true,
        "ColumnRef" => column(tree).is_some(),
        "TypeCast" => is_repeatable(tree.at("arg")),
        "A_Expr" => {
            let minus = tree.at("name").name_parts().is_some_and(|name| name == ["-"]);
            minus && tree.at("lexpr").is_absent() && is_repeatable(tree.at("rexpr"))
        }
        _ => false,
    }
}
