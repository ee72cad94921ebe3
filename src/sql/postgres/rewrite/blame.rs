//! What it is in an expression that is not total: for the account, after the judgement. Layer 2.

use sqlparser::ast::{Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Value};

use super::super::env::Env;
use super::level::Level;
use super::total::{Subqueries, class};
use crate::ids::RelationName;
use crate::sql::account::{Guard, NotTotal, Place};

/// Longest form of an expression that is quoted, in characters.
const MAX_QUOTED: usize = 60;

/// The innermost part that is not total, of an expression that is not.
pub fn of(expression: &Expr, level: &Level<'_>, subqueries: Subqueries) -> NotTotal {
    let class_of = |inner: &Expr| class(inner, level, subqueries);
    let parts = parts(expression);
    // A literal has a class of its own, or takes that of the other side.
    if let Some(part) = parts.iter().find(|part| class_of(part).is_none()) {
        return of(part, level, subqueries);
    }
    match expression {
        Expr::Identifier(_) | Expr::CompoundIdentifier(_) => {
            NotTotal::Column(expression.to_string())
        }
        Expr::Value(value) if matches!(value.value, Value::Placeholder(_)) => {
            NotTotal::Parameter(expression.to_string())
        }
        Expr::Function(function) => NotTotal::Function(function.name.to_string()),
        Expr::Cast { data_type, .. } => NotTotal::Cast(data_type.to_string()),
        Expr::BinaryOp { left, op, right } => {
            let symbol = op.to_string();
            if level.env.catalog.user_operators.contains(&symbol) {
                NotTotal::Shadowed(symbol)
            } else {
                NotTotal::Operator { symbol, left: class_of(left), right: class_of(right) }
            }
        }
        Expr::Like { .. } | Expr::ILike { .. } | Expr::SimilarTo { .. } => NotTotal::Pattern,
        Expr::InSubquery { .. } | Expr::Exists { .. } | Expr::Subquery(_) => NotTotal::Query,
        other => {
            let text = other.to_string();
            let mut quoted: String = text.chars().take(MAX_QUOTED).collect();
            if quoted.len() < text.len() {
                quoted.push('…');
            }
            NotTotal::Form(quoted)
        }
    }
}

/// The operands of an expression, for the forms that are judged by their parts.
fn parts(expression: &Expr) -> Vec<&Expr> {
    match expression {
        Expr::Nested(inner)
        | Expr::IsNull(inner)
        | Expr::IsNotNull(inner)
        | Expr::IsTrue(inner)
        | Expr::IsNotTrue(inner)
        | Expr::IsFalse(inner)
        | Expr::IsNotFalse(inner)
        | Expr::IsUnknown(inner)
        | Expr::IsNotUnknown(inner)
        | Expr::UnaryOp { expr: inner, .. }
        | Expr::Cast { expr: inner, .. }
        | Expr::InSubquery { expr: inner, .. }
        | Expr::Like { expr: inner, .. }
        | Expr::ILike { expr: inner, .. } => vec![inner],
        Expr::BinaryOp { left, right, .. }
        | Expr::IsDistinctFrom(left, right)
        | Expr::IsNotDistinctFrom(left, right) => vec![left, right],
        Expr::Between { expr, low, high, .. } => vec![expr, low, high],
        Expr::InList { expr, list, .. } => std::iter::once(&**expr).chain(list).collect(),
        Expr::Function(function) => match &function.args {
            FunctionArguments::List(list) => list
                .args
                .iter()
                .filter_map(|argument| match argument {
                    FunctionArg::Unnamed(FunctionArgExpr::Expr(expression)) => Some(expression),
                    _ => None,
                })
                .collect(),
            FunctionArguments::None | FunctionArguments::Subquery(_) => Vec::new(),
        },
        Expr::Case { conditions, else_result, .. } => conditions
            .iter()
            .flat_map(|when| [&when.condition, &when.result])
            .chain(else_result.as_deref())
            .collect(),
        _ => Vec::new(),
    }
}

/// Notes the guard of a relation.
pub fn note_guard(
    env: Env<'_>,
    relation: &RelationName,
    visible: &str,
    place: Place,
    condition: &Expr,
) {
    env.notes.take(|account| {
        account.guards.push(Guard {
            relation: relation.clone(),
            visible: visible.to_owned(),
            place,
            condition: condition.to_string(),
        });
    });
}
