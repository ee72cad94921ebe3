//! Advisory locks: the number of each becomes one of the tenant's own. Layer 2.

use std::ops::ControlFlow;

use sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Statement, VisitMut,
    VisitorMut,
};

use super::super::env::Env;
use super::level::name_of;
use super::parser;
use crate::error::{Denial, DenialCode};
use crate::mutant;
use crate::sql::advisory::{FUNCTIONS, prefix};

/// Stand for the client's arguments in the text that is parsed.
const ARGUMENTS: [&str; 2] = ["hedgerow_first", "hedgerow_second"];

/// Puts every advisory lock of a statement into the tenant's space.
///
/// # Errors
/// HR1005 for a call of another form.
pub fn bind(statement: &mut Statement, env: Env<'_>) -> Result<(), Denial> {
    if mutant::on("advisory-shared") {
        return Ok(());
    }
    let mut locks = Locks { prefix: prefix(env.principal.tenant.as_ref()) };
    match statement.visit(&mut locks) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(denial) => Err(denial),
    }
}

struct Locks {
    prefix: String,
}

impl Locks {
    fn number(&self, arguments: &[Expr]) -> Option<Expr> {
        let [first, second] = ARGUMENTS;
        let text = match arguments {
            [_] => format!("'{}n' || ({first})::int8::text", self.prefix),
            [_, _] => format!(
                "'{}p' || ({first})::int4::text || ' ' || ({second})::int4::text",
                self.prefix
            ),
            _ => return None,
        };
        let number = format!(
            "('x' || pg_catalog.\"substr\"(pg_catalog.encode(pg_catalog.sha256(\
             pg_catalog.convert_to({text}, 'UTF8')), 'hex'), 1, 16))::bit(64)::int8"
        );
        let mut number = parser(&number).ok()?.parse_expr().ok()?;
        let mut filling = Filling { arguments };
        let _: ControlFlow<()> = number.visit(&mut filling);
        Some(number)
    }
}

impl VisitorMut for Locks {
    type Break = Denial;

    fn post_visit_expr(&mut self, expression: &mut Expr) -> ControlFlow<Denial> {
        let Expr::Function(Function { name, args, filter, over, within_group, .. }) = expression
        else {
            return ControlFlow::Continue(());
        };
        let called = name.0.last().and_then(|part| part.as_ident()).map(name_of);
        let Some(called) = called.filter(|called| FUNCTIONS.contains(&called.as_str())) else {
            return ControlFlow::Continue(());
        };
        let refused = || ControlFlow::Break(Denial::of(DenialCode::Function, called.as_str()));
        let FunctionArguments::List(list) = args else { return refused() };
        let plain = filter.is_none()
            && over.is_none()
            && within_group.is_empty()
            && list.duplicate_treatment.is_none()
            && list.clauses.is_empty();
        let arguments: Option<Vec<Expr>> = list
            .args
            .iter()
            .map(|argument| match argument {
                FunctionArg::Unnamed(FunctionArgExpr::Expr(value)) => Some(value.clone()),
                FunctionArg::Unnamed(_)
                | FunctionArg::Named { .. }
                | FunctionArg::ExprNamed { .. } => None,
            })
            .collect();
        match arguments.filter(|_| plain).and_then(|arguments| self.number(&arguments)) {
            Some(number) => {
                list.args = vec![FunctionArg::Unnamed(FunctionArgExpr::Expr(number))];
                ControlFlow::Continue(())
            }
            None => refused(),
        }
    }
}

/// Puts the client's arguments where their names stand.
struct Filling<'f> {
    arguments: &'f [Expr],
}

impl VisitorMut for Filling<'_> {
    type Break = ();

    fn post_visit_expr(&mut self, expression: &mut Expr) -> ControlFlow<()> {
        let Expr::Identifier(name) = &*expression else { return ControlFlow::Continue(()) };
        let at = ARGUMENTS.iter().position(|argument| *argument == name.value);
        if let Some(argument) = at.and_then(|at| self.arguments.get(at)) {
            *expression = argument.clone();
            // What the client wrote is not looked into again.
        }
        ControlFlow::Continue(())
    }
}
