//! Arrays in FROM: UNNEST, and paths that name one (`c.tags`). Their elements are rows of the level; a
//! query in one may have conditions on rows of the tables before it. Pure.

use std::ops::ControlFlow;

use sqlparser::ast::{Expr, FunctionArguments, TableAlias, TableFactor, visit_expressions};

use super::around;
use super::factor::{alias_of, ident};
use super::functions;
use super::level::{Input, Level, Partial, conditional, may_fail};
use super::operands::{self, Handed};
use super::rewrite::{Rewriter, form};
use crate::error::Denial;
use crate::mutant;

/// Functions whose arrays hold plain values.
const PLAIN_ARRAYS: &[&str] = &[
    "generate_array",
    "generate_date_array",
    "generate_timestamp_array",
    "json_extract_array",
    "json_extract_string_array",
    "json_keys",
    "json_query_array",
    "json_value_array",
    "regexp_extract_all",
    "split",
    "to_code_points",
];

/// Whether the elements of an array have no fields, which would be names of their own.
fn has_plain_elements(array: &Expr) -> bool {
    let plain = |element: &Expr| match element {
        Expr::Value(_) | Expr::TypedString(_) | Expr::BinaryOp { .. } | Expr::UnaryOp { .. } => {
            true
        }
        Expr::Cast { data_type, .. } => !data_type.to_string().contains('<'),
        _ => false,
    };
    match array {
        Expr::Array(array) => array.elem.iter().all(plain),
        Expr::Function(function) => {
            PLAIN_ARRAYS.contains(&functions::plain_name(&function.name).as_str())
        }
        _ => false,
    }
}

/// `ARRAY(SELECT …)`
fn is_query(array: &Expr) -> bool {
    matches!(array, Expr::Function(function)
        if matches!(function.args, FunctionArguments::Subquery(_))
            && functions::plain_name(&function.name) == "array")
}

/// Names of what UNNEST makes of arrays above a level.
fn of_arrays(
    arrays: &[Expr],
    alias: Option<&TableAlias>,
    offset: Option<&str>,
    level: &Level,
    handed: Handed,
) -> Partial {
    let mut partial = Partial::default();
    for array in arrays.iter().filter(|array| may_fail(array, &level.partial)) {
        if is_query(array) && !handed.partial {
            continue;
        }
        // There is a place for each element only once the array is made.
        if let Some(offset) = offset {
            partial.add(offset);
        }
        match alias {
            Some(alias) if has_plain_elements(array) => partial.add(&alias.name.value),
            _ => return Partial::everything(),
        }
    }
    partial
}

/// Whether an array has a query in which something may fail. That may be a condition on rows of the
/// tables before it, and be moved to them.
fn has_conditions(array: &Expr, partial: &Partial) -> bool {
    let (mut queries, mut fails) = (false, false);
    let _ = visit_expressions(array, |expr| {
        let query = operands::is_query(expr);
        queries |= query;
        fails |= !query && may_fail(expr, partial);
        ControlFlow::<()>::Continue(())
    });
    queries && fails
}

impl Rewriter<'_> {
    /// UNNEST above what stands before it in FROM.
    pub fn arrays(
        &mut self,
        arrays: &mut Vec<Expr>,
        alias: Option<&TableAlias>,
        offset: Option<String>,
        level: &mut Level,
    ) -> Result<(), Denial> {
        self.name_variables(level);
        // Behind the guards of the rows around, an array of theirs has no elements for anybody else.
        for array in arrays.iter_mut() {
            if around::may_hand_on(&level.around, &level.variables, array) {
                match around::all_guards(&level.around).filter(|_| level.variables.is_empty()) {
                    Some(guards) if !operands::holds_query(array) => {
                        let client = std::mem::replace(array, Expr::Tuple(Vec::new()));
                        *array = conditional(&guards, client, "NULL")?;
                    }
                    Some(_) | None => level.mixed = true,
                }
            }
        }
        let handed = self.within(level, |rewriter| rewriter.values(arrays))?;
        let partial = of_arrays(arrays, alias, offset.as_deref(), level, handed);
        level.variables.extend(offset);
        if level.is_guarded() && !mutant::on("bq-array") {
            for array in arrays.iter_mut().filter(|array| has_conditions(array, &level.partial)) {
                let client = std::mem::replace(array, Expr::Tuple(Vec::new()));
                let shielded = level.shield_value(client)?;
                *array = shielded.condition;
                if shielded.unmet {
                    self.unmet("a query in UNNEST, above rows whose guard cannot be repeated")?;
                }
            }
        }
        level.partial.join(&partial);
        if handed.any() {
            let variable = alias.map(|alias| alias.name.value.to_ascii_lowercase());
            level.inputs.push(Input { variable: variable.unwrap_or_default(), guard: None });
        }
        self.variable(alias)
    }

    /// `FROM c, c.tags AS t` as `FROM c, UNNEST(c.tags) AS t`.
    pub fn array(
        &mut self,
        factor: &mut TableFactor,
        parts: &[String],
        level: &mut Level,
    ) -> Result<(), Denial> {
        let TableFactor::Table { alias, version: None, sample: None, .. } = factor else {
            return Err(form("from"));
        };
        let last = parts.last().cloned().unwrap_or_default();
        let alias = alias.take().or_else(|| Some(alias_of(&last)));
        let array = Expr::CompoundIdentifier(parts.iter().map(|part| ident(part)).collect());
        let mut arrays = vec![array];
        self.arrays(&mut arrays, alias.as_ref(), None, level)?;
        *factor = TableFactor::UNNEST {
            alias,
            array_exprs: arrays,
            with_offset: false,
            with_offset_alias: None,
            with_ordinality: false,
        };
        Ok(())
    }
}
