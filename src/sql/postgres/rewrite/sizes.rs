//! Calls of the functions that tell sizes: each is given NULL. Layer 2.

use std::ops::ControlFlow;

use sqlparser::ast::{
    Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Statement, Value, VisitMut,
    VisitorMut,
};

use super::super::sizes::unknown_of;
use super::guard;
use super::level::name_of;
use crate::error::{Denial, DenialCode};

/// Lets no call of a statement ask for a size.
///
/// # Errors
/// HR1005 for a call of another form.
pub fn bind(statement: &mut Statement) -> Result<(), Denial> {
    match statement.visit(&mut Sizes) {
        ControlFlow::Continue(()) => Ok(()),
        ControlFlow::Break(denial) => Err(denial),
    }
}

struct Sizes;

impl VisitorMut for Sizes {
    type Break = Denial;

    fn post_visit_expr(&mut self, expression: &mut Expr) -> ControlFlow<Denial> {
        let Expr::Function(Function { name, args, .. }) = expression else {
            return ControlFlow::Continue(());
        };
        let called = name.0.last().and_then(|part| part.as_ident()).map(name_of);
        let Some((called, type_name)) =
            called.and_then(|called| unknown_of(&called).map(|type_name| (called, type_name)))
        else {
            return ControlFlow::Continue(());
        };
        let FunctionArguments::List(list) = args else {
            return ControlFlow::Break(Denial::of(DenialCode::Function, called));
        };
        let nothing = guard::cast(Expr::Value(Value::Null.into()), type_name);
        list.args = vec![FunctionArg::Unnamed(FunctionArgExpr::Expr(nothing))];
        ControlFlow::Continue(())
    }
}
