//! The operator's own expressions (`where`): parsed, bound to the claims, qualified. Layer 2.

use std::ops::ControlFlow;

use sqlparser::ast::{
    Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Value, VisitMut, VisitorMut,
};

use super::super::env::Env;
use super::guard;
use crate::claims::ClaimPath;
use crate::error::{Denial, DenialCode};
use crate::mutant;
use crate::policy::PolicyExpression;

/// Parses a policy's expression, without binding anything.
///
/// # Errors
/// A message for the operator.
pub fn parse(text: &str) -> Result<Expr, String> {
    let mut parser = super::parser(text).map_err(|error| error.to_string())?;
    let expression = parser.parse_expr().map_err(|error| error.to_string())?;
    match parser.peek_token().token {
        sqlparser::tokenizer::Token::EOF => Ok(expression),
        other => Err(format!("unexpected {other} after the expression")),
    }
}

/// The condition for one statement: columns qualified, `claim('path')` replaced by its value.
///
/// # Errors
/// HR4002 for what `parse` refuses, HR2008 for a claim that is no scalar.
pub fn bind(expression: &PolicyExpression, env: Env<'_>, qualifier: &str) -> Result<Expr, Denial> {
    let mut parsed = parse(&expression.text).map_err(|_| Denial::new(DenialCode::Internal))?;
    let mut binder = Binder { env, qualifier };
    match parsed.visit(&mut binder) {
        ControlFlow::Continue(()) => Ok(parsed),
        ControlFlow::Break(denial) => Err(denial),
    }
}

/// Replaces claims and qualifies columns; anything that could reach outside the row is refused.
struct Binder<'a> {
    env: Env<'a>,
    qualifier: &'a str,
}

impl Binder<'_> {
    fn claim(&self, path: &str) -> Result<Expr, Denial> {
        let missing = || Denial::of(DenialCode::TokenClaim, path);
        let path = ClaimPath::parse(path).ok_or_else(missing)?;
        Ok(match self.env.principal.claims.at(&path).filter(|_| !mutant::on("claim-lost")) {
            Some(serde_json::Value::String(text)) if !text.contains('\0') => {
                guard::cast(guard::string(text), "text")
            }
            Some(serde_json::Value::Number(number)) => {
                guard::cast(guard::string(&number.to_string()), "numeric")
            }
            Some(serde_json::Value::Bool(flag)) => Expr::Value(Value::Boolean(*flag).into()),
            None | Some(serde_json::Value::Null) => {
                guard::cast(Expr::Value(Value::Null.into()), "text")
            }
            Some(
                serde_json::Value::String(_)
                | serde_json::Value::Array(_)
                | serde_json::Value::Object(_),
            ) => return Err(missing()),
        })
    }
}

/// The path of a `claim('path')` call.
fn claim_path(expression: &Expr) -> Option<&str> {
    let Expr::Function(function) = expression else { return None };
    if function.name.to_string() != "claim" {
        return None;
    }
    let FunctionArguments::List(list) = &function.args else { return None };
    let [FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(value)))] = list.args.as_slice()
    else {
        return None;
    };
    match &value.value {
        Value::SingleQuotedString(path) => Some(path),
        _ => None,
    }
}

impl VisitorMut for Binder<'_> {
    type Break = Denial;

    fn post_visit_expr(&mut self, expression: &mut Expr) -> ControlFlow<Denial> {
        if let Some(path) = claim_path(expression) {
            return match self.claim(path) {
                Ok(value) => {
                    *expression = value;
                    ControlFlow::Continue(())
                }
                Err(denial) => ControlFlow::Break(denial),
            };
        }
        match expression {
            Expr::Identifier(column) => {
                let column = column.clone();
                *expression = Expr::CompoundIdentifier(vec![guard::ident(self.qualifier), column]);
                ControlFlow::Continue(())
            }
            Expr::Subquery(_) | Expr::Exists { .. } | Expr::InSubquery { .. } => {
                ControlFlow::Break(Denial::new(DenialCode::Internal))
            }
            _ => ControlFlow::Continue(()),
        }
    }
}
