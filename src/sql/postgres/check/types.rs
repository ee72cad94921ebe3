//! Whether what stands unshielded is total by the types of the protected columns in it, as far as the
//! catalog tells. Layer 2.
//!
//! [`shape`](super::shape) knows no types. This look knows those of stored columns: a view's column is
//! an expression that may fail, and not all built-in types compare without error.

use super::super::codes;
use super::super::totality::{self, Class};
use super::super::tree::Tree;
use super::guards::column;
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
        "SubLink" => are_total(tree.at("testexpr"), level),
        "A_Expr" => compares(tree, level) && tree.children().all(|part| are_total(part, level)),
        _ => tree.children().all(|part| are_total(part, level)),
    }
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
