//! Pipe operators, bound like the clauses that they stand for. Pure.

use std::mem;

use sqlparser::ast::{Expr, PipeOperator, Query, VisitMut};

use super::around;
use super::carry::Purpose;
use super::factor::lower;
use super::level::Columns;
use super::level::{
    Clause, Input, Level, Partial, Shields, implied_name, may_fail, something_may_fail,
};
use super::rewrite::{Rewriter, form, select_item};
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
        let guarded = level.is_guarded();
        let mut made = made(operator, level);
        let result = self.piped(operator, level, &mut made);
        level.partial.join(&made);
        if let PipeOperator::Extend { exprs } = operator {
            // From here on the name is the column's.
            level.hide(exprs)?;
            level.hide_by_stars(exprs);
            level.list(exprs);
            level.mixed |= around::may_hand_on(&level.around, &level.variables, exprs);
        }
        if !names_stay {
            let guarded = guarded || level.is_guarded();
            let partial = mem::take(&mut level.partial);
            let input = Input { variable: String::new(), guard: None };
            *level = Level {
                // Columns that it made may be of rows around.
                mixed: true,
                around: mem::take(&mut level.around),
                first: self.aliases.len(),
                inputs: guarded.then_some(input).into_iter().collect(),
                partial,
                ..Level::default()
            };
        }
        result
    }

    /// The operator, once it is known what names it makes.
    fn piped(
        &mut self,
        operator: &mut PipeOperator,
        level: &mut Level,
        made: &mut Partial,
    ) -> Result<(), Denial> {
        match operator {
            PipeOperator::Join(join) if join.global => Err(form("global join")),
            PipeOperator::Join(join) => {
                self.join(&mut join.join_operator, &mut join.relation, level)
            }
            PipeOperator::Where { expr } => {
                level.hands |= self.within(level, |rewriter| rewriter.condition(expr))?;
                let client = mem::replace(expr, Expr::Tuple(Vec::new()));
                *expr = self.shielded(level, client, Clause::Rows)?;
                Ok(())
            }
            PipeOperator::Union { queries, .. } => self.united(queries, level, Purpose::Read),
            PipeOperator::Intersect { queries, .. } | PipeOperator::Except { queries, .. } => {
                let guarded = level.is_guarded() || level.partial.is_sealed();
                if guarded && !level.partial.is_empty() {
                    self.unmet("a comparison of rows with a column whose computation may fail")?;
                }
                self.united(queries, level, Purpose::Compared)
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
                self.columns(exprs, level, made)
            }
            PipeOperator::Set { .. }
            | PipeOperator::Aggregate { .. }
            | PipeOperator::Pivot { .. }
            | PipeOperator::Unpivot { .. } => self.columns(operator, level, made),
            PipeOperator::Limit { .. }
            | PipeOperator::OrderBy { .. }
            | PipeOperator::TableSample { .. }
            | PipeOperator::Drop { .. }
            | PipeOperator::Rename { .. } => {
                self.within(level, |rewriter| rewriter.expressions(operator))
            }
        }
    }

    /// Columns that an operator makes.
    fn columns<T: VisitMut>(
        &mut self,
        part: &mut T,
        level: &Level,
        made: &mut Partial,
    ) -> Result<(), Denial> {
        if self.within(level, |rewriter| rewriter.values(part))?.any() {
            made.seal();
        }
        Ok(())
    }

    /// A set operation with queries.
    fn united(
        &mut self,
        queries: &mut [Query],
        level: &mut Level,
        purpose: Purpose,
    ) -> Result<(), Denial> {
        for query in queries {
            let derivation = self.query_for(query, purpose)?;
            if purpose == Purpose::Compared {
                self.comparable(&[&derivation])?;
            }
            if derivation.guarded {
                level.inputs.push(Input { variable: String::new(), guard: None });
            }
            level.partial.join(&derivation.columns.partial);
            if !derivation.columns.partial.is_empty() {
                level.partial.spread();
            }
        }
        Ok(())
    }
}

/// The names that an operator makes for what may fail when a condition behind reads it.
fn made(operator: &PipeOperator, level: &Level) -> Partial {
    let mut partial = Partial::default();
    match operator {
        PipeOperator::Join(_)
        | PipeOperator::Where { .. }
        | PipeOperator::OrderBy { .. }
        | PipeOperator::Limit { .. }
        | PipeOperator::TableSample { .. }
        | PipeOperator::Drop { .. }
        // What others hand on is known once they are rewritten.
        | PipeOperator::Union { .. }
        | PipeOperator::Intersect { .. }
        | PipeOperator::Except { .. }
        | PipeOperator::Call { .. } => {}
        PipeOperator::Select { exprs } | PipeOperator::Extend { exprs } => {
            partial = Columns::of(exprs, level, &Shields::None).partial;
        }
        PipeOperator::Aggregate { full_table_exprs, group_by_expr } => {
            for item in full_table_exprs.iter().chain(group_by_expr) {
                let name = item.expr.alias.as_ref().or_else(|| implied_name(&item.expr.expr));
                if may_fail(&item.expr.expr, &level.partial) {
                    partial.add_column(name);
                }
            }
        }
        PipeOperator::Rename { mappings } => {
            for mapping in mappings.iter().filter(|mapping| level.partial.has(&mapping.ident.value)) {
                partial.add(&mapping.alias.value);
            }
        }
        PipeOperator::As { alias } => {
            if !level.partial.is_empty() {
                partial.add(&alias.value);
            }
        }
        PipeOperator::Set { .. } | PipeOperator::Pivot { .. } | PipeOperator::Unpivot { .. } => {
            if !level.partial.is_empty() || something_may_fail(operator, &level.partial) {
                partial = Partial::everything();
            }
        }
    }
    partial
}
