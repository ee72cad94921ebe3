//! Walks a parse tree and tells relations from CTE names. Layer 2.
//!
//! Every node is met once, whatever it is; PostgreSQL's scoping of WITH (manual, 7.8) decides which
//! `RangeVar` stands for a relation.

use super::tree::Tree;
use crate::error::Denial;

/// What the walk meets.
pub enum Met<'t, 'a> {
    /// Any node, before its children.
    Node(&'t Tree<'a>),
    /// A relation that is read.
    Read(&'t Tree<'a>),
    /// The relation that a data change writes, and the statement.
    Target(&'t Tree<'a>, &'t Tree<'a>),
}

/// CTE names in scope.
#[derive(Clone, Copy)]
struct Names<'n> {
    outer: Option<&'n Names<'n>>,
    own: &'n [&'n str],
}

impl Names<'_> {
    fn holds(&self, name: &str) -> bool {
        self.own.contains(&name) || self.outer.is_some_and(|outer| outer.holds(name))
    }
}

/// Statements that may have a WITH.
pub fn is_statement(kind: &str) -> bool {
    matches!(kind, "SelectStmt" | "InsertStmt" | "UpdateStmt" | "DeleteStmt" | "MergeStmt")
}

/// The name by which a `RangeVar` may mean a CTE: only a bare name does.
pub fn bare_name<'t>(relation: &'t Tree<'_>) -> Option<&'t str> {
    let bare = relation.at("schemaname").is_absent() && relation.at("catalogname").is_absent();
    bare.then(|| relation.at("relname").text()).flatten()
}

/// Walks the whole tree.
///
/// # Errors
/// The first error of `see`.
pub fn walk<'t, 'a>(
    tree: &'t Tree<'a>,
    see: &mut impl FnMut(Met<'t, 'a>) -> Result<(), Denial>,
) -> Result<(), Denial> {
    descend(tree, None, see)
}

fn descend<'t, 'a>(
    tree: &'t Tree<'a>,
    names: Option<&Names<'_>>,
    see: &mut impl FnMut(Met<'t, 'a>) -> Result<(), Denial>,
) -> Result<(), Denial> {
    match tree {
        Tree::Node(..) => see(Met::Node(tree))?,
        Tree::List(items) => return items.iter().try_for_each(|item| descend(item, names, see)),
        Tree::None | Tree::Bool(_) | Tree::Number(_) | Tree::Text(_) => return Ok(()),
    }
    match tree.kind() {
        "RangeVar" => match bare_name(tree) {
            Some(name) if names.is_some_and(|names| names.holds(name)) => Ok(()),
            Some(_) | None => see(Met::Read(tree)),
        },
        // Names the aliases to lock, not relations.
        "LockingClause" => Ok(()),
        kind if is_statement(kind) => {
            let with = tree.at("with_clause");
            if with.is_absent() {
                return fields(tree, names, see);
            }
            see(Met::Node(with))?;
            let ctes = with.at("ctes").items();
            let all: Vec<&str> = ctes.iter().filter_map(|cte| cte.at("ctename").text()).collect();
            for (index, cte) in ctes.iter().enumerate() {
                let seen = if with.at("recursive").truth() {
                    &all[..]
                } else {
                    all.get(..index).unwrap_or_default()
                };
                descend(cte, Some(&Names { outer: names, own: seen }), see)?;
            }
            fields(tree, Some(&Names { outer: names, own: &all }), see)
        }
        _ => tree.fields().iter().try_for_each(|(_, value)| descend(value, names, see)),
    }
}

fn fields<'t, 'a>(
    statement: &'t Tree<'a>,
    names: Option<&Names<'_>>,
    see: &mut impl FnMut(Met<'t, 'a>) -> Result<(), Denial>,
) -> Result<(), Denial> {
    for (name, value) in statement.fields() {
        match *name {
            // SELECT INTO is refused, or makes a temporary table, which is looked at for itself.
            "with_clause" | "into_clause" => {}
            "relation" => {
                see(Met::Node(value))?;
                see(Met::Target(value, statement))?;
            }
            _ => descend(value, names, see)?,
        }
    }
    Ok(())
}

/// The relations that stand directly in a FROM: joins and samples opened, sub-selects not.
pub fn direct_relations<'t, 'a>(from: &'t Tree<'a>, found: &mut Vec<&'t Tree<'a>>) {
    match from.kind() {
        "RangeVar" => found.push(from),
        "JoinExpr" => {
            direct_relations(from.at("larg"), found);
            direct_relations(from.at("rarg"), found);
        }
        "RangeTableSample" => direct_relations(from.at("relation"), found),
        _ => from.items().iter().for_each(|item| direct_relations(item, found)),
    }
}

/// The name that qualifies a relation's columns.
pub fn visible_name<'t>(relation: &'t Tree<'_>) -> Option<&'t str> {
    relation.at("alias").at("aliasname").text().or_else(|| relation.at("relname").text())
}
