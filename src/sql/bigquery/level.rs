//! What one level of FROM reads, and the shield of conditions that may raise an error. Pure.
//!
//! BigQuery promises no order of evaluation: it may move a condition below the one that binds a
//! table to the tenant, through derived tables, groups and unions. Whoever sees that it failed would
//! learn something of another tenant's row. So each conjunct that may fail, or that reads a column
//! whose computation may, stands in `IF(guard, conjunct, FALSE)`, for GoogleSQL does promise that
//! `IF` computes no branch that it does not choose. A conjunct that needs the outcome of an aggregate
//! or of a window cannot be moved below it, and stays as it is.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use sqlparser::ast::{
    BinaryOperator, Expr, FunctionArg, FunctionArguments, Ident, ObjectName, Query, SelectItem,
    SelectItemQualifiedWildcardKind, TableAlias, Visit, Visitor, visit_expressions,
};

use super::carry::Derivation;
use super::dialect::parser;
use super::functions;
use crate::error::{Denial, DenialCode};
use crate::mutant;

/// Names whose computation may raise an error, in lower case.
#[derive(Clone, Debug, Default)]
pub struct Partial {
    /// Which names they are is not known: any may be.
    all: bool,
    /// Whether something without a name may: whole rows have it, and whatever counts columns.
    unnamed: bool,
    names: BTreeSet<String>,
}

impl Partial {
    /// Every name may be one.
    pub const fn everything() -> Self {
        Self { all: true, unnamed: true, names: BTreeSet::new() }
    }

    pub fn is_empty(&self) -> bool {
        !self.all && !self.unnamed && self.names.is_empty()
    }

    pub fn add(&mut self, name: &str) {
        self.names.insert(name.to_ascii_lowercase());
    }

    /// Adds a column, which may have no name.
    pub fn add_column(&mut self, name: Option<&Ident>) {
        match name {
            Some(name) => self.add(&name.value),
            None => self.unnamed |= !mutant::on("bq-unnamed"),
        }
    }

    /// Whether a name is one.
    pub fn has(&self, name: &str) -> bool {
        self.all || self.names.contains(&name.to_ascii_lowercase())
    }

    pub fn join(&mut self, other: &Self) {
        self.all |= other.all;
        self.unnamed |= other.unnamed;
        self.names.extend(other.names.iter().cloned());
    }

    /// Whether a part reads such a name. Any word of a path counts: it may be a column or a field.
    fn is_read_by<T: Visit>(&self, part: &T) -> bool {
        if self.is_empty() {
            return false;
        }
        visit_expressions(part, |expr| match expr {
            Expr::Identifier(name) if !name.value.starts_with('@') && self.has(&name.value) => {
                ControlFlow::Break(())
            }
            Expr::CompoundIdentifier(names) if names.iter().any(|name| self.has(&name.value)) => {
                ControlFlow::Break(())
            }
            _ => ControlFlow::Continue(()),
        })
        .is_break()
    }

    /// Whether a list of columns, as USING has it, names one.
    pub fn is_named_by(&self, columns: &[ObjectName]) -> bool {
        columns.iter().any(|column| self.has(&column.to_string().replace('`', "")))
    }

    /// Whether evaluating the expression cannot raise an error, wherever BigQuery does it.
    pub fn leaves_total(&self, expr: &Expr) -> bool {
        functions::is_total(expr) && !self.is_read_by(expr)
    }
}

/// Which rows a condition judges.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clause {
    /// Rows: WHERE, ON, and QUALIFY of a level without groups.
    Rows,
    /// Groups: HAVING, and QUALIFY of a level with groups.
    Groups,
}

/// A range variable whose rows passed a guard.
#[derive(Clone, Debug)]
pub struct Input {
    /// Its name in lower case; empty for none.
    pub variable: String,
    /// The condition that holds of its rows, if it can be repeated here.
    pub guard: Option<String>,
}

/// One level of FROM.
#[derive(Default)]
pub struct Level {
    /// Its guarded range variables.
    pub inputs: Vec<Input>,
    /// Names of all its range variables, in lower case, as far as they are known.
    pub variables: BTreeSet<String>,
    /// Names of columns that may raise an error.
    pub partial: Partial,
    /// Whether a join of the level makes rows of nulls.
    pub outer: bool,
    /// A guard that goes into the level's WHERE.
    pub where_guard: Option<Expr>,
    /// Whether a range variable carries its guard in a column.
    pub carries: bool,
}

/// A condition with its shields.
pub struct Shielded {
    pub condition: Expr,
    /// Whether a conjunct needs a guard that cannot be repeated here.
    pub unmet: bool,
}

impl Level {
    /// Above a query whose range variables are no longer seen.
    pub fn above(derivation: &Derivation) -> Self {
        let input = Input { variable: String::new(), guard: None };
        Self {
            inputs: derivation.guarded.then_some(input).into_iter().collect(),
            partial: derivation.columns.partial.clone(),
            ..Self::default()
        }
    }

    pub fn is_guarded(&self) -> bool {
        !self.inputs.is_empty()
    }

    /// Whether the guards of all can be repeated.
    pub fn is_complete(&self) -> bool {
        self.inputs.iter().all(|input| input.guard.is_some())
    }

    /// That all guards hold: TRUE of every row that is there.
    pub fn truth(&self, clause: Clause) -> String {
        let guards = self.inputs.iter().filter_map(|input| input.guard.as_deref());
        self.joined(guards, clause).unwrap_or_else(|| "TRUE".to_owned())
    }

    fn joined<'a>(&self, guards: impl Iterator<Item = &'a str>, clause: Clause) -> Option<String> {
        let one = |guard: &str| {
            if self.outer { format!("COALESCE({guard}, TRUE)") } else { guard.to_owned() }
        };
        let all = guards.map(one).collect::<Vec<_>>();
        if all.is_empty() {
            return None;
        }
        let all = all.join(" AND ");
        Some(match clause {
            Clause::Rows => all,
            Clause::Groups => format!("COALESCE(LOGICAL_AND({all}), TRUE)"),
        })
    }

    /// Shields the conjuncts that may raise an error.
    ///
    /// # Errors
    /// HR4002 should the shield not be GoogleSQL.
    pub fn shield(&self, condition: Expr, clause: Clause) -> Result<Shielded, Denial> {
        match condition {
            Expr::BinaryOp { left, op: BinaryOperator::And, right } => {
                let left = self.shield(*left, clause)?;
                let right = self.shield(*right, clause)?;
                Ok(Shielded {
                    condition: Expr::BinaryOp {
                        left: Box::new(left.condition),
                        op: BinaryOperator::And,
                        right: Box::new(right.condition),
                    },
                    unmet: left.unmet || right.unmet,
                })
            }
            conjunct => self.conjunct(conjunct, clause),
        }
    }

    fn conjunct(&self, conjunct: Expr, clause: Clause) -> Result<Shielded, Denial> {
        let stays = mutant::on("bq-shield")
            || !self.is_guarded()
            || self.partial.leaves_total(&conjunct)
            || is_pinned(&conjunct);
        if stays {
            return Ok(Shielded { condition: conjunct, unmet: false });
        }
        // Sides of an equation are shielded one by one where each reads one table: so it stays an
        // equation of the two, which an outer join needs and any other is fast by.
        if let (Expr::BinaryOp { left, op: BinaryOperator::Eq, right }, Clause::Rows) =
            (&conjunct, clause)
            && let (Some(of_left), Some(of_right)) = (self.only(left), self.only(right))
            && of_left != of_right
        {
            let Expr::BinaryOp { left, op, right } = conjunct else {
                return Err(Denial::new(DenialCode::Internal));
            };
            let (left, unmet_left) = self.side(*left, of_left)?;
            let (right, unmet_right) = self.side(*right, of_right)?;
            let condition = Expr::BinaryOp { left: Box::new(left), op, right: Box::new(right) };
            return Ok(Shielded { condition, unmet: unmet_left || unmet_right });
        }
        let needed = self.needed(&conjunct);
        let unmet = needed.iter().any(|input| input.guard.is_none());
        let guards = needed.iter().filter_map(|input| input.guard.as_deref());
        let condition = match self.joined(guards, clause) {
            Some(guard) => conditional(&guard, conjunct, "FALSE")?,
            None => conjunct,
        };
        Ok(Shielded { condition, unmet })
    }

    fn side(&self, side: Expr, of: usize) -> Result<(Expr, bool), Denial> {
        if self.partial.leaves_total(&side) || mutant::on("bq-side") {
            return Ok((side, false));
        }
        let guard = self.inputs.get(of).and_then(|input| input.guard.as_deref());
        match self.joined(guard.into_iter(), Clause::Rows) {
            Some(guard) => Ok((conditional(&guard, side, "NULL")?, false)),
            None => Ok((side, true)),
        }
    }

    /// Shields the columns of a SELECT list that may fail, where they have a name of their own.
    pub fn shield_columns(
        &self,
        projection: &mut [SelectItem],
        shields: &Shields,
    ) -> Result<(), Denial> {
        let guard = self.truth(Clause::Rows);
        for item in projection {
            if let SelectItem::ExprWithAlias { expr, alias } = item
                && shields.reach(expr, &alias.value, &self.partial)
            {
                let value = std::mem::replace(expr, Expr::Tuple(Vec::new()));
                *expr = conditional(&guard, value, "NULL")?;
            }
        }
        Ok(())
    }

    /// The one input that an expression reads, if every name in it says that it does.
    fn only(&self, expr: &Expr) -> Option<usize> {
        match self.read_by(expr)?.as_slice() {
            [one] => Some(*one),
            _ => None,
        }
    }

    /// The inputs on which an expression may depend: all, unless every name in it says otherwise.
    fn needed(&self, expr: &Expr) -> Vec<&Input> {
        match self.read_by(expr) {
            Some(some) if !some.is_empty() => {
                some.iter().filter_map(|at| self.inputs.get(*at)).collect()
            }
            _ => self.inputs.iter().collect(),
        }
    }

    /// The places of the inputs that an expression names; `None` if it may name others.
    fn read_by(&self, expr: &Expr) -> Option<Vec<usize>> {
        let mut found = BTreeSet::new();
        let known = visit_expressions(expr, |expr| match self.named_by(expr) {
            Named::None => ControlFlow::Continue(()),
            Named::Input(at) => {
                found.insert(at);
                ControlFlow::Continue(())
            }
            Named::Unknown => ControlFlow::Break(()),
        });
        known.is_continue().then(|| found.into_iter().collect())
    }

    /// Whether `name.*` is a whole range variable's.
    fn is_variable(&self, of: &SelectItemQualifiedWildcardKind) -> bool {
        match of {
            SelectItemQualifiedWildcardKind::ObjectName(name) => {
                self.variables.contains(&name.to_string().replace('`', "").to_ascii_lowercase())
            }
            SelectItemQualifiedWildcardKind::Expr(_) => false,
        }
    }

    fn named_by(&self, expr: &Expr) -> Named {
        match expr {
            Expr::Identifier(name) if name.value.starts_with('@') => Named::None,
            Expr::Identifier(_)
            | Expr::Subquery(_)
            | Expr::Exists { .. }
            | Expr::InSubquery { .. } => Named::Unknown,
            Expr::CompoundIdentifier(names) => {
                let first = names.first().map(|name| name.value.to_ascii_lowercase());
                let at =
                    self.inputs.iter().position(|input| Some(&input.variable) == first.as_ref());
                at.map_or(Named::Unknown, Named::Input)
            }
            _ => Named::None,
        }
    }
}

enum Named {
    /// No column.
    None,
    /// A column of this input.
    Input(usize),
    /// A column of any.
    Unknown,
}

/// `IF(guard, value, otherwise)`.
fn conditional(guard: &str, value: Expr, otherwise: &str) -> Result<Expr, Denial> {
    let internal = || Denial::new(DenialCode::Internal);
    let mut shielded =
        parser(&format!("IF({guard}, TRUE, {otherwise})"))?.parse_expr().map_err(|_| internal())?;
    let Expr::Function(function) = &mut shielded else { return Err(internal()) };
    let FunctionArguments::List(list) = &mut function.args else { return Err(internal()) };
    let Some(FunctionArg::Unnamed(slot)) = list.args.get_mut(1) else { return Err(internal()) };
    *slot = sqlparser::ast::FunctionArgExpr::Expr(value);
    Ok(shielded)
}

/// Puts every conjunct that may raise an error behind a guard of another table than the one that it
/// may have been moved to.
///
/// # Errors
/// HR4002 should the shield not be GoogleSQL.
pub fn shield(condition: Expr, guard: &str, partial: &Partial) -> Result<Expr, Denial> {
    match condition {
        Expr::BinaryOp { left, op: BinaryOperator::And, right } => Ok(Expr::BinaryOp {
            left: Box::new(shield(*left, guard, partial)?),
            op: BinaryOperator::And,
            right: Box::new(shield(*right, guard, partial)?),
        }),
        total if partial.leaves_total(&total) => Ok(total),
        other => conditional(guard, other, "FALSE"),
    }
}

/// Whether the outcome of an aggregate or a window is needed: then the expression is computed above
/// it, where only the tenant's rows are.
///
/// Not if it is made of parts, one of which may be asked for without the others, or by a choice that
/// may leave the outcome out.
fn is_pinned(expr: &Expr) -> bool {
    let mut reading = Pinned::default();
    let _ = Visit::visit(expr, &mut reading);
    reading.computed && (!reading.in_parts || mutant::on("bq-pinned"))
}

/// Looks for aggregates and windows, and for what stands around them.
#[derive(Default)]
struct Pinned {
    /// How many aggregates and windows are around.
    inside: usize,
    /// Whether there is one.
    computed: bool,
    /// Whether something around them is made of parts, or chooses.
    in_parts: bool,
}

fn computes(expr: &Expr) -> bool {
    let Expr::Function(function) = expr else { return false };
    function.over.is_some() || functions::is_aggregate(&function.name)
}

impl Visitor for Pinned {
    type Break = ();

    fn pre_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
        // An aggregate in a sub-query is that one's.
        self.in_parts = true;
        ControlFlow::Break(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        if computes(expr) {
            self.inside += 1;
            self.computed = true;
            return ControlFlow::Continue(());
        }
        self.in_parts |= self.inside == 0
            && match expr {
                Expr::BinaryOp { op: BinaryOperator::And | BinaryOperator::Or, .. } => true,
                Expr::Function(function) => matches!(
                    functions::plain_name(&function.name).as_str(),
                    "struct"
                        | "array"
                        | "if"
                        | "coalesce"
                        | "ifnull"
                        | "nullif"
                        | "json_object"
                        | "json_array"
                        | "range"
                ),
                // These need all of their operands.
                Expr::Identifier(_)
                | Expr::CompoundIdentifier(_)
                | Expr::CompoundFieldAccess { .. }
                | Expr::Value(_)
                | Expr::TypedString(_)
                | Expr::Interval(_)
                | Expr::Nested(_)
                | Expr::BinaryOp { .. }
                | Expr::UnaryOp { .. }
                | Expr::IsNull(_)
                | Expr::IsNotNull(_)
                | Expr::IsTrue(_)
                | Expr::IsNotTrue(_)
                | Expr::IsFalse(_)
                | Expr::IsNotFalse(_)
                | Expr::IsDistinctFrom(..)
                | Expr::IsNotDistinctFrom(..)
                | Expr::Like { .. }
                | Expr::Cast { .. }
                | Expr::AtTimeZone { .. }
                | Expr::Extract { .. }
                | Expr::Floor { .. }
                | Expr::Ceil { .. }
                | Expr::Position { .. }
                | Expr::Substring { .. }
                | Expr::Trim { .. } => false,
                // SECURITY: BETWEEN and IN are several comparisons; what is not known may be, too.
                _ => true,
            };
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        if computes(expr) {
            self.inside = self.inside.saturating_sub(1);
        }
        ControlFlow::Continue(())
    }
}

/// Whether a column with this expression may raise an error when a condition reads it.
pub fn may_fail(expr: &Expr, partial: &Partial) -> bool {
    !partial.leaves_total(expr) && !is_pinned(expr) && !mutant::on("bq-column-fails")
}

/// Which columns of a SELECT list are shielded where they are computed.
#[derive(Clone, Debug)]
pub enum Shields {
    /// None.
    None,
    /// All that may fail.
    All,
    /// The keys of groups among them, by their names there: an alias wins over a column of FROM.
    Keys(BTreeSet<String>),
}

impl Shields {
    /// Whether a column is among them. One with a query of its own is not: the service would have to
    /// take that query out of the shield again.
    fn reach(&self, expr: &Expr, alias: &str, partial: &Partial) -> bool {
        let plain = |with_aggregates: bool| {
            let other = visit_expressions(expr, |expr| match expr {
                Expr::Subquery(_) | Expr::Exists { .. } | Expr::InSubquery { .. } => {
                    ControlFlow::Break(())
                }
                Expr::Function(function)
                    if matches!(function.args, FunctionArguments::Subquery(_)) =>
                {
                    ControlFlow::Break(())
                }
                computed if !with_aggregates && computes(computed) => ControlFlow::Break(()),
                _ => ControlFlow::Continue(()),
            });
            other.is_continue()
        };
        may_fail(expr, partial)
            && match self {
                Self::None => false,
                Self::All => plain(true),
                Self::Keys(keys) => keys.contains(&alias.to_ascii_lowercase()) && plain(false),
            }
    }
}

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

/// Whether something in a part may raise an error when a condition reads what comes of it.
pub fn something_may_fail<T: Visit>(part: &T, partial: &Partial) -> bool {
    visit_expressions(part, |expr| {
        if may_fail(expr, partial) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })
    .is_break()
}

/// The columns of a SELECT list.
#[derive(Clone, Debug, Default)]
pub struct Columns {
    /// Name and whether it may fail, one a column; `None` where a `*` stands in the list.
    pub listed: Option<Vec<(Option<String>, bool)>>,
    /// The names that may fail.
    pub partial: Partial,
}

impl Columns {
    /// Reads a list above a level. `shields`: those that are about to be shielded.
    pub fn of(projection: &[SelectItem], level: &Level, shields: &Shields) -> Self {
        let mut listed = Some(Vec::new());
        let mut partial = Partial::default();
        for item in projection {
            let (name, fails) = match item {
                SelectItem::UnnamedExpr(expr) => {
                    let name = match expr {
                        Expr::Identifier(name) => Some(name),
                        Expr::CompoundIdentifier(names) => names.last(),
                        _ => None,
                    };
                    (name, may_fail(expr, &level.partial))
                }
                SelectItem::ExprWithAlias { expr, alias } => {
                    let shielded = shields.reach(expr, &alias.value, &level.partial);
                    (Some(alias), may_fail(expr, &level.partial) && !shielded)
                }
                SelectItem::ExprWithAliases { .. } => {
                    partial = Partial::everything();
                    (None, true)
                }
                SelectItem::Wildcard(options) => {
                    listed = None;
                    partial.join(&level.partial);
                    if something_may_fail(options, &level.partial) {
                        partial.all = true;
                    }
                    continue;
                }
                SelectItem::QualifiedWildcard(of, options) => {
                    listed = None;
                    partial.join(&level.partial);
                    // SECURITY: names of fields are not known, those of a value that may fail no less.
                    let fields = !level.partial.is_empty()
                        && !level.is_variable(of)
                        && !mutant::on("bq-fields");
                    if fields
                        || something_may_fail(item, &level.partial)
                        || something_may_fail(options, &level.partial)
                    {
                        partial.all = true;
                    }
                    continue;
                }
            };
            if fails {
                partial.add_column(name);
            }
            if let Some(listed) = &mut listed {
                listed.push((name.map(|name| name.value.to_ascii_lowercase()), fails));
            }
        }
        Self { listed, partial }
    }

    /// Those of a query whose rows are values: of fields of a value that may fail, any may.
    pub fn of_values(self) -> Self {
        let partial = if self.partial.is_empty() { self.partial } else { Partial::everything() };
        Self { listed: None, partial }
    }

    /// Names of what UNNEST makes of arrays above a level.
    pub fn of_arrays(arrays: &[Expr], alias: Option<&TableAlias>, level: &Level) -> Partial {
        let mut partial = Partial::default();
        for array in arrays.iter().filter(|array| may_fail(array, &level.partial)) {
            match alias {
                Some(alias) if has_plain_elements(array) => partial.add(&alias.name.value),
                _ => return Partial::everything(),
            }
        }
        partial
    }

    /// Columns of a set operation that matches them by their names.
    pub fn united_by_name(self, right: &Self) -> Self {
        if mutant::on("bq-by-name") {
            return self.united(right);
        }
        let mut partial = self.partial;
        partial.join(&right.partial);
        let fails = |name: &Option<String>| {
            name.as_ref().is_none_or(|name| partial.all || partial.names.contains(name))
        };
        let listed = self.listed.map(|listed| {
            listed.into_iter().map(|(name, _)| (name.clone(), fails(&name))).collect()
        });
        Self { listed, partial }
    }

    /// Columns of a set operation that matches them by their places: names are those of the left.
    pub fn united(self, right: &Self) -> Self {
        if right.partial.is_empty() && right.listed.is_none() {
            return Self { listed: None, ..self };
        }
        match (self.listed, &right.listed) {
            (Some(left), Some(right)) if left.len() == right.len() => {
                let listed: Vec<_> = left
                    .into_iter()
                    .zip(right)
                    .map(|((name, fails), (_, other))| (name, fails || *other))
                    .collect();
                let mut partial = Partial { all: self.partial.all, ..Partial::default() };
                for (name, _) in listed.iter().filter(|(_, fails)| *fails) {
                    match name {
                        Some(name) => partial.add(name),
                        None => partial.unnamed = true,
                    }
                }
                Self { listed: Some(listed), partial }
            }
            (_, right_listed) => {
                let fails = !right.partial.is_empty()
                    || right_listed.iter().flatten().any(|(_, fails)| *fails);
                let partial = if fails { Partial::everything() } else { self.partial };
                Self { listed: None, partial }
            }
        }
    }
}
