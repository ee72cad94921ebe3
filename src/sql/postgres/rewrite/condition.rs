//! The operator's own expressions (`where`): parsed, bound to the claims, qualified. Layer 2.

use std::ops::ControlFlow;

use sqlparser::ast::{
    BinaryOperator, Expr, FunctionArg, FunctionArgExpr, FunctionArguments, Value, VisitMut,
    VisitorMut,
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

/// What a claim's value is where the token is not at hand: what the other side of its comparison is.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum ClaimKind {
    /// A string.
    Text,
    /// A number.
    Number,
    /// true or false
    Truth,
}

/// Why an expression cannot be said for row-level security.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Unspelled {
    /// It cannot be read.
    Unreadable,
    /// The table has no such column.
    Column(String),
    /// No setting carries this claim.
    Claim(String),
}

/// The condition as row-level security can hold it: columns qualified, each claim read from the setting
/// that carries it, as text, as `numeric` or as `boolean`. `column` tells what a column may be compared
/// with, `setting` the literal of the setting's name.
///
/// # Errors
/// [`Unspelled`].
pub fn spelled(
    text: &str,
    qualifier: &str,
    column: &dyn Fn(&str) -> Option<ClaimKind>,
    setting: &dyn Fn(&ClaimPath) -> Option<String>,
) -> Result<String, Unspelled> {
    let mut parsed = parse(text).map_err(|_| Unspelled::Unreadable)?;
    match parsed.visit(&mut Speller { qualifier, column, setting }) {
        ControlFlow::Continue(()) => Ok(parsed.to_string()),
        ControlFlow::Break(fault) => Err(fault),
    }
}

struct Speller<'s> {
    qualifier: &'s str,
    column: &'s dyn Fn(&str) -> Option<ClaimKind>,
    setting: &'s dyn Fn(&ClaimPath) -> Option<String>,
}

impl Speller<'_> {
    /// What an expression is, as far as one look tells.
    fn kind(&self, expression: &Expr) -> ClaimKind {
        match expression {
            Expr::Nested(inner) => self.kind(inner),
            Expr::Identifier(column) => {
                (self.column)(&super::name_of(column)).unwrap_or(ClaimKind::Text)
            }
            Expr::Value(value) => match &value.value {
                Value::Number(..) => ClaimKind::Number,
                Value::Boolean(_) => ClaimKind::Truth,
                _ => ClaimKind::Text,
            },
            _ => ClaimKind::Text,
        }
    }

    /// Puts the setting in a claim's place.
    fn settle(&self, expression: &mut Expr, kind: ClaimKind) -> Result<(), Unspelled> {
        let Some(path) = claim_path(expression) else { return Ok(()) };
        let unknown = || Unspelled::Claim(path.to_owned());
        let known = ClaimPath::parse(path).ok_or_else(unknown)?;
        let setting = (self.setting)(&known).ok_or_else(unknown)?;
        let cast = match kind {
            ClaimKind::Text => "",
            ClaimKind::Number => "::numeric",
            ClaimKind::Truth => "::boolean",
        };
        let value = format!("NULLIF(current_setting({setting}, true), ''){cast}");
        *expression = parse(&value).map_err(|_| Unspelled::Unreadable)?;
        Ok(())
    }

    fn compare(&self, left: &mut Expr, right: &mut Expr) -> Result<(), Unspelled> {
        let (of_left, of_right) = (self.kind(left), self.kind(right));
        self.settle(left, of_right)?;
        self.settle(right, of_left)
    }
}

impl VisitorMut for Speller<'_> {
    type Break = Unspelled;

    fn pre_visit_expr(&mut self, expression: &mut Expr) -> ControlFlow<Unspelled> {
        let settled = match expression {
            Expr::BinaryOp {
                left,
                op:
                    BinaryOperator::Eq
                    | BinaryOperator::NotEq
                    | BinaryOperator::Lt
                    | BinaryOperator::LtEq
                    | BinaryOperator::Gt
                    | BinaryOperator::GtEq,
                right,
            }
            | Expr::IsDistinctFrom(left, right)
            | Expr::IsNotDistinctFrom(left, right) => self.compare(left, right),
            Expr::InList { expr, list, .. } => {
                let kind = self.kind(expr);
                let mut others = list.iter().map(|item| self.kind(item));
                let of_list = others.find(|kind| *kind != ClaimKind::Text);
                list.iter_mut()
                    .try_for_each(|item| self.settle(item, kind))
                    .and_then(|()| self.settle(expr, of_list.unwrap_or(ClaimKind::Text)))
            }
            Expr::Between { expr, low, high, .. } => {
                let kind = self.kind(expr);
                let of_bounds = self.kind(low);
                self.settle(low, kind)
                    .and_then(|()| self.settle(high, kind))
                    .and_then(|()| self.settle(expr, of_bounds))
            }
            _ => Ok(()),
        };
        match settled {
            Ok(()) => ControlFlow::Continue(()),
            Err(fault) => ControlFlow::Break(fault),
        }
    }

    fn post_visit_expr(&mut self, expression: &mut Expr) -> ControlFlow<Unspelled> {
        if let Err(fault) = self.settle(expression, ClaimKind::Text) {
            return ControlFlow::Break(fault);
        }
        if let Expr::Identifier(column) = expression {
            let name = super::name_of(column);
            if (self.column)(&name).is_none() {
                return ControlFlow::Break(Unspelled::Column(name));
            }
            let column = column.clone();
            *expression = Expr::CompoundIdentifier(vec![guard::ident(self.qualifier), column]);
        }
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    fn said(text: &str) -> Result<String, Unspelled> {
        let column = |name: &str| match name {
            "region" | "Name" => Some(ClaimKind::Text),
            "level" => Some(ClaimKind::Number),
            "open" => Some(ClaimKind::Truth),
            _ => None,
        };
        let setting = |path: &ClaimPath| {
            let last = path.segments().last()?;
            (last != "secret").then(|| format!("'app.{last}'"))
        };
        spelled(text, "t", &column, &setting)
    }

    #[test]
    fn claims_are_read_from_their_settings_as_what_they_are_compared_with() {
        let of = |name: &str| format!("NULLIF(current_setting('app.{name}', true), '')");
        for (text, expected) in [
            ("region = claim('region')", format!("\"t\".region = {}", of("region"))),
            ("claim('a.b') >= level", format!("{}::NUMERIC >= \"t\".level", of("b"))),
            (
                "(level) < claim('x') AND open",
                format!("(\"t\".level) < {}::NUMERIC AND \"t\".open", of("x")),
            ),
            ("open = claim('x')", format!("\"t\".open = {}::BOOLEAN", of("x"))),
            ("level IN (1, claim('x'))", format!("\"t\".level IN (1, {}::NUMERIC)", of("x"))),
            (
                "level BETWEEN 1 AND claim('x')",
                format!("\"t\".level BETWEEN 1 AND {}::NUMERIC", of("x")),
            ),
            ("claim('x') = 5", format!("{}::NUMERIC = 5", of("x"))),
            (
                "claim('x') IS NULL OR \"Name\" LIKE 'it''s\\%'",
                format!("{} IS NULL OR \"t\".\"Name\" LIKE 'it''s\\%'", of("x")),
            ),
            ("level = claim('x')::int", format!("\"t\".level = {}::INT", of("x"))),
        ] {
            assert_eq!(said(text), Ok(expected), "{text}");
        }
    }

    #[test]
    fn what_cannot_be_said_is_told() {
        assert_eq!(said("region = claim('secret')"), Err(Unspelled::Claim("secret".to_owned())));
        assert_eq!(said("other = claim('x')"), Err(Unspelled::Column("other".to_owned())));
        assert_eq!(said("region ="), Err(Unspelled::Unreadable));
    }
}
