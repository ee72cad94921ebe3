//! Whether an expression is made of total parts only, by its shape. Layer 2.
//!
//! The rewriter judges by types as well and leaves unshielded only what it finds total. This second
//! look knows no types: it makes sure that nothing outside the reviewed lists stands unshielded.
//! [`types`](super::types) adds those of protected columns.

use super::super::codes;
use super::super::totality;
use super::super::tree::Tree;
use super::guards::{cast_type, string};
use crate::mutant;

/// Whether every part of the tree is of the total kind.
pub(super) fn is_total(tree: &Tree<'_>) -> bool {
    let parts_total = || tree.children().all(is_total);
    match tree.kind() {
        "" => match tree {
            Tree::List(items) => items.iter().all(is_total),
            Tree::None | Tree::Bool(_) | Tree::Number(_) | Tree::Text(_) | Tree::Node(..) => true,
        },
        "A_Const" | "ParamRef" | "ColumnRef" | "A_Star" | "String" | "SQLValueFunction"
        | "Alias" | "RangeVar" | "SetToDefault" => true,
        _ if mutant::on("check-total") => true,
        "A_Expr" => is_total_operator(tree) && parts_total(),
        "FuncCall" => is_total_call(tree) && parts_total(),
        "TypeCast" => is_total_cast(tree),
        "CoalesceExpr" | "NullTest" | "BooleanTest" | "BoolExpr" | "CaseExpr" | "CaseWhen"
        | "A_ArrayExpr" | "ResTarget" | "SortBy" | "JoinExpr" | "RangeSubselect"
        | "CommonTableExpr" => parts_total(),
        // What reads itself may have no end.
        "WithClause" => !tree.at("recursive").truth() && parts_total(),
        "SelectStmt" => {
            let limits = [tree.at("limit_count"), tree.at("limit_offset")];
            (limits.into_iter().all(is_limit) || mutant::on("check-limit")) && parts_total()
        }
        "SubLink" => asks(tree) && tree.at("oper_name").is_absent() && parts_total(),
        _ => false,
    }
}

/// A number of rows, or none. A parameter may be negative.
fn is_limit(tree: &Tree<'_>) -> bool {
    let value = tree.at("val");
    let rows = || value.is("Integer") && value.at("").number().is_some_and(|rows| rows >= 0);
    tree.is_absent() || tree.is("A_Const") && (tree.at("isnull").truth() || rows())
}

/// EXISTS and IN fail for no number of rows; a sub-query that stands for a value takes one.
fn asks(sublink: &Tree<'_>) -> bool {
    matches!(sublink.at("sub_link_type").number(), Some(codes::EXISTS_SUBLINK | codes::ANY_SUBLINK))
        || mutant::on("check-scalar")
}

/// A constant: literal, literal cast, array of them; with `parameters`, those as well.
fn is_constant(tree: &Tree<'_>) -> bool {
    match tree.kind() {
        "A_Const" | "ParamRef" => true,
        "TypeCast" => is_constant(tree.at("arg")),
        "A_ArrayExpr" => tree.at("elements").items().iter().all(is_constant),
        _ => false,
    }
}

fn is_total_cast(tree: &Tree<'_>) -> bool {
    is_constant(tree.at("arg"))
        || matches!(cast_type(tree), Some("text" | "varchar" | "bpchar"))
            && is_total(tree.at("arg"))
}

fn is_total_operator(tree: &Tree<'_>) -> bool {
    let Some([symbol]) = tree
        .at("name")
        .name_parts()
        .as_deref()
        .map(<[&str]>::to_vec)
        .as_deref()
        .and_then(|parts| <[&str; 1]>::try_from(parts).ok())
    else {
        return false;
    };
    let (left, right) = (tree.at("lexpr"), tree.at("rexpr"));
    match tree.at("kind").number() {
        Some(codes::OP) => match symbol {
            // Dates by constant intervals; a sign before a constant.
            "+" | "-" => {
                is_clock(left) && is_constant(right) || left.is_absent() && is_constant(right)
            }
            _ => is_listed(symbol),
        },
        Some(codes::OP_ANY | codes::OP_ALL) => {
            totality::COMPARISONS.contains(&symbol) && is_elements(left, right)
        }
        Some(
            codes::DISTINCT | codes::NOT_DISTINCT | codes::IN | codes::BETWEEN | codes::NOT_BETWEEN,
        ) => true,
        Some(codes::LIKE | codes::ILIKE) => is_plain_pattern(right),
        Some(_) | None => false,
    }
}

/// The right side of `= ANY`: constants, or an array column beside a constant.
fn is_elements(left: &Tree<'_>, right: &Tree<'_>) -> bool {
    is_constant(right) || is_constant(left) && right.is("ColumnRef")
}

fn is_listed(symbol: &str) -> bool {
    totality::is_total_symbol(symbol)
}

fn is_clock(tree: &Tree<'_>) -> bool {
    match tree.kind() {
        "SQLValueFunction" => true,
        "FuncCall" => tree.at("args").is_absent() && is_total_call(tree),
        "TypeCast" => is_constant(tree.at("arg")),
        _ => false,
    }
}

fn is_plain_pattern(tree: &Tree<'_>) -> bool {
    match tree.kind() {
        "TypeCast" => is_plain_pattern(tree.at("arg")),
        _ => string(tree).is_some_and(|pattern| !pattern.contains('\\')),
    }
}

fn is_total_call(tree: &Tree<'_>) -> bool {
    let bare = ["agg_order", "agg_filter", "over"].iter().all(|field| tree.at(field).is_absent());
    let name = tree.at("funcname").name_parts();
    let name = match name.as_deref() {
        Some([name] | ["pg_catalog", name]) => *name,
        _ => return false,
    };
    // `count(*)` ends a sub-select that is otherwise total; it fails for no row.
    bare && (totality::is_total_name(name) || name == "count" && tree.at("agg_star").truth())
}
