//! Whether what stands unshielded is total by the types of the protected columns in it, as far as the
//! catalog tells. Layer 2.
//!
//! [`shape`](super::shape) knows no types. This look knows those of stored columns: a view's column is
//! an expression that may fail, and not all built-in types compare without error.

use super::super::codes;
use super::super::depth;
use super::super::totality::{self, Class, Parameter};
use super::super::tree::Tree;
use super::guards::{column, string};
use super::level::Level;
use crate::catalog::{Relation, RelationKind};
use crate::mutant;

/// What is known of the value of an expression.
enum Told {
    /// Of no protected column, or of more than one.
    Nothing,
    /// Reading it may fail.
    Loose,
    /// Its class.
    Class(Class),
}

/// Whether every protected column is one that can be read without error, and is compared with what it
/// can be compared with. Sub-queries are looked at for themselves.
pub(super) fn are_total(tree: &Tree<'_>, level: &Level<'_>) -> bool {
    match tree.kind() {
        _ if mutant::on("check-types") => true,
        "ColumnRef" => !matches!(told(tree, level), Told::Loose),
        // What the client declared it to be may be compared by going as deep as it is.
        "ParamRef" => !matches!(parameter(tree, level), Some(Parameter::Foreign(_))),
        "SubLink" => are_total(tree.at("testexpr"), level),
        "A_Expr" if contains(tree) && !is_bounded(tree, level) => false,
        "A_Expr" => compares(tree, level) && tree.children().all(|part| are_total(part, level)),
        _ => tree.children().all(|part| are_total(part, level)),
    }
}

/// Whether nothing goes into itself as deep as the client likes, where columns are known to be those of rows
/// that the guards have let through.
pub(super) fn are_bounded(tree: &Tree<'_>, level: &Level<'_>) -> bool {
    if tree.is("SubLink") {
        return are_bounded(tree.at("testexpr"), level);
    }
    let here = !(tree.is("A_Expr") && contains(tree)) || is_bounded(tree, level);
    here && tree.children().all(|part| are_bounded(part, level))
}

/// Whether two protected columns may be compared, where an operator compares such.
fn compares(tree: &Tree<'_>, level: &Level<'_>) -> bool {
    let operator = tree.at("kind").number() == Some(codes::OP);
    let name = tree.at("name").name_parts();
    let compares =
        matches!(name.as_deref(), Some([symbol]) if totality::COMPARISONS.contains(symbol));
    match (told(tree.at("lexpr"), level), told(tree.at("rexpr"), level)) {
        (Told::Class(left), Told::Class(right)) if operator && compares => {
            totality::comparable(left, right)
        }
        (_, _) => true,
    }
}

/// `a @> b`, `a <@ b`: of arrays, of ranges, or of documents, where it goes as deep as the shallower one.
fn contains(tree: &Tree<'_>) -> bool {
    let name = tree.at("name").name_parts();
    tree.at("kind").number() == Some(codes::OP)
        && matches!(name.as_deref(), Some(["@>" | "<@"]))
        && !mutant::on("check-depth")
}

/// Whether one side is a shallow literal, or is known to be no document.
fn is_bounded(tree: &Tree<'_>, level: &Level<'_>) -> bool {
    [tree.at("lexpr"), tree.at("rexpr")].into_iter().any(|side| {
        let literal = if side.is("TypeCast") { side.at("arg") } else { side };
        string(literal).is_some_and(depth::is_shallow_document)
            || class_of(side, level).is_some_and(|class| class != Class::Jsonb)
    })
}

/// The class of a value, where its type is written, declared, or that of a stored column.
fn class_of(tree: &Tree<'_>, level: &Level<'_>) -> Option<Class> {
    match tree.kind() {
        "A_ArrayExpr" => Some(Class::Array),
        "TypeCast" => {
            let type_name = tree.at("type_name");
            let name = match type_name.at("names").name_parts()?.as_slice() {
                [name] | ["pg_catalog", name] => totality::class_of(name)?,
                _ => return None,
            };
            Some(if type_name.at("array_bounds").is_absent() { name } else { Class::Array })
        }
        "ParamRef" => match parameter(tree, level)? {
            Parameter::Typed(name) => totality::class_of(name),
            Parameter::Open | Parameter::Reused | Parameter::Foreign(_) => None,
        },
        "ColumnRef" => {
            let parts = column(tree)?;
            let (name, qualifiers) = parts.split_last()?;
            level.stored(qualifiers.last().copied(), name)
        }
        _ => None,
    }
}

fn parameter(tree: &Tree<'_>, level: &Level<'_>) -> Option<Parameter> {
    let number = usize::try_from(tree.at("number").number()?).ok()?.checked_sub(1)?;
    level.parameters.get(number).copied()
}

fn told(tree: &Tree<'_>, level: &Level<'_>) -> Told {
    match column(tree).as_deref() {
        Some([name]) if level.is_computed(None, name) => Told::Loose,
        Some([.., qualifier, name]) if level.is_computed(Some(qualifier), name) => Told::Loose,
        Some([name]) => match level.owners(name).as_slice() {
            [known] => class(*known, name),
            _ => Told::Nothing,
        },
        Some([.., qualifier, name]) => match level.flat_of(qualifier) {
            Some(known) => class(known, name),
            None => Told::Nothing,
        },
        Some([]) | None => Told::Nothing,
    }
}

/// Whether a relation's column can be read without error.
pub(super) fn reads_freely(relation: Option<&Relation>, name: &str) -> bool {
    !matches!(class(relation, name), Told::Loose)
}

/// The class of a relation's column, if it is stored.
pub(super) fn stored(relation: &Relation, name: &str) -> Option<Class> {
    match class(Some(relation), name) {
        Told::Class(class) => Some(class),
        Told::Nothing | Told::Loose => None,
    }
}

/// The class of a relation's column, where it is stored and of a built-in type.
fn class(relation: Option<&Relation>, name: &str) -> Told {
    let stored = relation.filter(|relation| match relation.kind {
        RelationKind::Table | RelationKind::PartitionedTable | RelationKind::MaterializedView => {
            true
        }
        RelationKind::View | RelationKind::ForeignTable | RelationKind::Sequence => false,
    });
    let column = stored.and_then(|relation| relation.column(name));
    column
        .filter(|column| column.type_schema == "pg_catalog")
        .and_then(|column| totality::class_of(&column.type_name))
        .map_or(Told::Loose, Told::Class)
}
