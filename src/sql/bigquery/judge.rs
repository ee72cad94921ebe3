//! Which forms of expressions touch nothing but their operands. Pure.

use sqlparser::ast::{
    AccessExpr, Expr, FunctionArguments, Ident, ObjectName, ObjectNamePart, Subscript,
    UnaryOperator, Value,
};

use super::dialect::{fields_before_a_call, is_typed_array};
use super::functions;
use super::names::Env;
use super::rewrite::form;
use crate::error::{Denial, DenialCode};
use crate::mutant;

/// Whether an expression's own form is one of GoogleSQL's that touch nothing but their operands.
pub fn expression(expr: &Expr, env: Env<'_>) -> Result<(), Denial> {
    match expr {
        Expr::Identifier(name) => identifier(name),
        Expr::CompoundIdentifier(names) => names.iter().try_for_each(identifier),
        Expr::Value(value) => match &value.value {
            Value::Placeholder(name) if name.starts_with("@@") => {
                Err(Denial::of(DenialCode::ProtectedSetting, name.clone()))
            }
            Value::DollarQuotedString(_) => Err(form("literal")),
            _ => Ok(()),
        },
        Expr::Function(function) => {
            if function.uses_odbc_syntax
                || !matches!(function.parameters, FunctionArguments::None)
                || !function.within_group.is_empty()
                || function.filter.is_some()
            {
                return Err(form("function call"));
            }
            let parts = function_path(&function.name)?;
            if functions::is_allowed(&parts, env) {
                Ok(())
            } else {
                Err(Denial::of(DenialCode::Function, function.name.to_string()))
            }
        }
        Expr::CompoundFieldAccess { root, access_chain } => {
            // SECURITY: such a call would be judged by the last of its names.
            if fields_before_a_call(root, access_chain).is_some() && !mutant::on("bq-call-name") {
                return Err(form("function call"));
            }
            let known = access_chain.iter().all(|access| match access {
                AccessExpr::Dot(Expr::Identifier(_) | Expr::Function(_)) => true,
                AccessExpr::Dot(_) => false,
                AccessExpr::Subscript(Subscript::Index { .. }) => true,
                AccessExpr::Subscript(Subscript::Slice { .. }) => false,
            });
            if known { Ok(()) } else { Err(form("subscript")) }
        }
        Expr::UnaryOp { op, .. } => match op {
            UnaryOperator::Plus
            | UnaryOperator::Minus
            | UnaryOperator::Not
            | UnaryOperator::BitwiseNot => Ok(()),
            _ => Err(form("operator")),
        },
        Expr::IsFalse(_)
        | Expr::IsNotFalse(_)
        | Expr::IsTrue(_)
        | Expr::IsNotTrue(_)
        | Expr::IsNull(_)
        | Expr::IsNotNull(_)
        | Expr::IsUnknown(_)
        | Expr::IsNotUnknown(_)
        | Expr::IsDistinctFrom(..)
        | Expr::IsNotDistinctFrom(..)
        | Expr::InList { .. }
        | Expr::InSubquery { .. }
        | Expr::InUnnest { .. }
        | Expr::Between { .. }
        | Expr::BinaryOp { .. }
        | Expr::Like { .. }
        | Expr::Cast { .. }
        | Expr::AtTimeZone { .. }
        | Expr::Extract { .. }
        | Expr::Ceil { .. }
        | Expr::Floor { .. }
        | Expr::Substring { .. }
        | Expr::Trim { .. }
        | Expr::Collate { .. }
        | Expr::Nested(_)
        | Expr::TypedString(_)
        | Expr::Case { .. }
        | Expr::Exists { .. }
        | Expr::Subquery(_)
        | Expr::GroupingSets(_)
        | Expr::Cube(_)
        | Expr::Rollup(_)
        | Expr::Tuple(_)
        | Expr::Struct { .. }
        | Expr::Named { .. }
        | Expr::Array(_)
        | Expr::Interval(_)
        | Expr::Wildcard(_)
        | Expr::QualifiedWildcard(..)
        | Expr::Lambda(_)
        | Expr::JsonAccess { .. } => Ok(()),
        Expr::Prefixed { prefix, .. } if is_typed_array(prefix) => Ok(()),
        Expr::Prefixed { .. } => Err(form("literal")),
        Expr::IsJson { .. }
        | Expr::IsNormalized { .. }
        | Expr::ILike { .. }
        | Expr::SimilarTo { .. }
        | Expr::RLike { .. }
        | Expr::AnyOp { .. }
        | Expr::AllOp { .. }
        | Expr::Convert { .. }
        | Expr::Position { .. }
        | Expr::Overlay { .. }
        | Expr::Dictionary(_)
        | Expr::Map(_)
        | Expr::MatchAgainst { .. }
        | Expr::OuterJoin(_)
        | Expr::Prior(_)
        | Expr::MemberOf(_) => Err(form("expression")),
    }
}

fn identifier(name: &Ident) -> Result<(), Denial> {
    if name.value.starts_with("@@") {
        return Err(Denial::of(DenialCode::ProtectedSetting, name.value.clone()));
    }
    Ok(())
}

fn function_path(name: &ObjectName) -> Result<Vec<String>, Denial> {
    name.0
        .iter()
        .map(|part| match part {
            ObjectNamePart::Identifier(ident) => Ok(ident.value.split('.').map(str::to_owned)),
            ObjectNamePart::Function(_) => Err(form("function call")),
        })
        .collect::<Result<Vec<_>, _>>()
        .map(|parts| parts.into_iter().flatten().collect())
}
