//! Pipe operators, bound like the clauses that they stand for. Pure.

use std::mem;

use sqlparser::ast::{Expr, PipeOperator};

use super::guard::Level;
use super::rewrite::{Rewriter, form, lower, select_item};
use crate::error::{Denial, DenialCode};

impl Rewriter<'_> {
    /// One operator. `level`: the tables whose names are still seen.
    pub fn pipe(&mut self, operator: &mut PipeOperator, level: &mut Level) -> Result<(), Denial> {
        if super::pseudo::is_named(operator) {
            return Err(form("a pseudo-column behind a pipe"));
        }
        let names_stay = matches!(
            operator,
            PipeOperator::Join(_)
                | PipeOperator::Where { .. }
                | PipeOperator::Extend { .. }
                | PipeOperator::Limit { .. }
                | PipeOperator::OrderBy { .. }
                | PipeOperator::TableSample { .. }
        );
        if !names_stay {
            *level = Level::default();
        }
        match operator {
            PipeOperator::Join(join) => {
                self.join(&mut join.join_operator, &mut join.relation, level)
            }
            PipeOperator::Where { expr } => {
                self.expressions(expr)?;
                let client = mem::replace(expr, Expr::Tuple(Vec::new()));
                *expr = level.shield(client)?;
                Ok(())
            }
            PipeOperator::Union { queries, .. }
            | PipeOperator::Intersect { queries, .. }
            | PipeOperator::Except { queries, .. } => {
                queries.iter_mut().try_for_each(|query| self.query(query))
            }
            PipeOperator::As { alias } => {
                self.aliases.push(lower(alias));
                Ok(())
            }
            PipeOperator::Call { function, .. } => {
                Err(Denial::of(DenialCode::Function, function.name.to_string()))
            }
            PipeOperator::Select { exprs } | PipeOperator::Extend { exprs } => {
                exprs.iter().try_for_each(select_item)?;
                self.expressions(exprs)
            }
            PipeOperator::Limit { .. }
            | PipeOperator::OrderBy { .. }
            | PipeOperator::TableSample { .. }
            | PipeOperator::Set { .. }
            | PipeOperator::Drop { .. }
            | PipeOperator::Aggregate { .. }
            | PipeOperator::Rename { .. }
            | PipeOperator::Pivot { .. }
            | PipeOperator::Unpivot { .. } => self.expressions(operator),
        }
    }
}
