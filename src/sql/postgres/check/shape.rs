//! Whether an expression is made of total parts only, by its shape. Layer 2.
//!
//! The rewriter judges by types as well and leaves unshielded only what it finds total. This second
//! look knows no types: it makes sure that nothing outside the reviewed lists stands unshielded.
//! [`types`](super::types) adds those of protected columns.

use super::super::codes;
use super::super::depth;
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
        "A_Expr" if is_match(tree) => {
            is_shallow_query(tree.at("rexpr")) && is_total(tree.at("lexpr"))
        }
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

/// `document @@ query`
fn is_match(tree: &Tree<'_>) -> bool {
    tree.at("kind").number() == Some(codes::OP)
        && tree.at("name").name_parts().is_some_and(|name| name == ["@@"])
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
    is_constant(tree.at("arg")) && !is_query_type(tree)
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

/// Text search queries are trees: what is done with them goes as deep as they are.
fn is_query_type(tree: &Tree<'_>) -> bool {
    let names = tree.at("type_name").at("names").items();
    names.last().and_then(Tree::text).is_some_and(|name| name == "tsquery")
}

/// A literal text search query that is shallow, with or without its type.
fn is_shallow_query(tree: &Tree<'_>) -> bool {
    let literal = if cast_type(tree) == Some("tsquery") { tree.at("arg") } else { tree };
    string(literal).is_some_and(depth::is_shallow_query) || mutant::on("check-depth")
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
        _ => string(tree)
            .is_some_and(|text| depth::is_shallow_pattern(text) || mutant::on("check-depth")),
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
