//! The guard of a table as GoogleSQL: the tenant as a literal, the policy's own expressions with
//! their claims. Pure.

use std::ops::ControlFlow;

use sqlparser::ast::{
    Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Value, VisitMut, VisitorMut,
};

use super::around;
use super::dialect::{parser, whole_names};
use super::names::Env;
use crate::claims::{ClaimPath, TenantClaim};
use crate::error::{Denial, DenialCode};
use crate::policy::TenantType;

/// The tenant as a literal of the column's type.
///
/// # Errors
/// HR2009 for a tenant that is no value of the type, or holds a character that a literal would have
/// to escape.
pub fn tenant_literal(env: Env<'_>, tenant_type: TenantType) -> Result<String, Denial> {
    let unusable = || Denial::new(DenialCode::TokenTenant);
    match (tenant_type, env.principal.tenant.as_ref().ok_or_else(unusable)?) {
        (TenantType::Int, TenantClaim::Integer(number)) => Ok(number.to_string()),
        (TenantType::Int, TenantClaim::Text(text)) => {
            text.parse::<i64>().map(|number| number.to_string()).map_err(|_| unusable())
        }
        (TenantType::Uuid, TenantClaim::Text(text)) => {
            uuid::Uuid::try_parse(text).map(|uuid| format!("'{uuid}'")).map_err(|_| unusable())
        }
        (TenantType::Text, TenantClaim::Text(text)) => literal(text).ok_or_else(unusable),
        (TenantType::Text, TenantClaim::Integer(number)) => Ok(format!("'{number}'")),
        (TenantType::Uuid, TenantClaim::Integer(_)) => Err(unusable()),
    }
}

/// A string literal, if the text needs no escape.
fn literal(text: &str) -> Option<String> {
    let plain = |c: char| c.is_ascii_alphanumeric() || " _-.:@/+=,".contains(c);
    (text.len() <= TenantClaim::MAX_BYTES && text.chars().all(plain)).then(|| format!("'{text}'"))
}

/// Parses one expression of the policy, puts the verified claims in, and the table's range variable before
/// every column.
///
/// # Errors
/// HR2008 when a claim is missing or cannot be a literal, HR4002 for an expression that the policy
/// should not hold.
pub fn policy_expression(text: &str, env: Env<'_>, variable: &str) -> Result<Expr, Denial> {
    let internal = || Denial::new(DenialCode::Internal);
    super::lexer::gate(text).map_err(|_| internal())?;
    let mut parser = parser(text)?;
    let mut expression = parser.parse_expr().map_err(|_| internal())?;
    if parser.peek_token().token != sqlparser::tokenizer::Token::EOF {
        return Err(internal());
    }
    whole_names(&mut expression);
    let mut claims = Claims { env, denial: None };
    match VisitMut::visit(&mut expression, &mut claims) {
        ControlFlow::Continue(()) => {
            around::qualify(&mut expression, variable, &|_| false);
            Ok(expression)
        }
        ControlFlow::Break(()) => Err(claims.denial.unwrap_or_else(internal)),
    }
}

/// Replaces `claim('path')`.
struct Claims<'a> {
    env: Env<'a>,
    denial: Option<Denial>,
}

impl VisitorMut for Claims<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, _: &mut sqlparser::ast::Query) -> ControlFlow<()> {
        self.denial = Some(Denial::new(DenialCode::Internal));
        ControlFlow::Break(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        let Expr::Function(function) = expr else { return ControlFlow::Continue(()) };
        if !function.name.to_string().eq_ignore_ascii_case("claim") {
            return ControlFlow::Continue(());
        }
        let path = match &function.args {
            FunctionArguments::List(list) => match list.args.as_slice() {
                [FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Value(value)))] => {
                    match &value.value {
                        Value::SingleQuotedString(path) | Value::DoubleQuotedString(path) => {
                            ClaimPath::parse(path)
                        }
                        _ => None,
                    }
                }
                _ => None,
            },
            FunctionArguments::None | FunctionArguments::Subquery(_) => None,
        };
        let value = path.as_ref().and_then(|path| self.env.principal.claims.at(path));
        let text = match value {
            Some(serde_json::Value::String(text)) => literal(text),
            Some(serde_json::Value::Number(number)) => number.as_i64().map(|n| n.to_string()),
            Some(serde_json::Value::Bool(flag)) => {
                Some(if *flag { "TRUE" } else { "FALSE" }.to_owned())
            }
            Some(
                serde_json::Value::Null
                | serde_json::Value::Array(_)
                | serde_json::Value::Object(_),
            )
            | None => None,
        };
        let parsed = text.and_then(|text| parser(&text).ok()?.parse_expr().ok());
        match parsed {
            Some(parsed) => {
                *expr = Expr::Nested(Box::new(parsed));
                ControlFlow::Continue(())
            }
            None => {
                self.denial = Some(Denial::of(DenialCode::TokenClaim, "claim"));
                ControlFlow::Break(())
            }
        }
    }
}
