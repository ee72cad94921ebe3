//! What one level of FROM reads, and the shield of conditions that may raise an error. Pure.
//!
//! BigQuery promises no order of evaluation: it may move a condition below the one that binds a
//! table to the tenant, through derived tables, groups and unions. Whoever sees that it failed would
//! learn something of another tenant's row. So each conjunct that may fail, or that reads a column
//! whose computation may, stands in `IF(guard, conjunct, FALSE)`, for GoogleSQL does promise that
//! `IF` computes no branch that it does not choose. A conjunct that needs the outcome of an aggregate
//! or of a window cannot be moved below it, and stays as it is.

mod columns;

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use sqlparser::ast::{
    AccessExpr, BinaryOperator, Expr, FunctionArg, FunctionArguments, Ident, ObjectName, Query,
    SelectItem, SelectItemQualifiedWildcardKind, Visit, Visitor, visit_expressions,
};

pub use self::columns::Columns;
use super::around::{self, Surroundings};
use super::carry::Derivation;
use super::dialect::parser;
use super::functions;
use super::operands;
use super::rewrite::form;
use crate::error::{Denial, DenialCode};
use crate::mutant;

/// Names whose computation may raise an error, in lower case.
#[derive(Clone, Debug, Default)]
pub struct Partial {
    /// Which names they are is not known: any may be.
    all: bool,
    /// Whether something without a name may: whole rows have it, and whatever counts columns.
    unnamed: bool,
    /// Whether some hold values of rows whose guard cannot be repeated above: those that a query in an
    /// expression hands on.
    sealed: bool,
    /// Whether an aggregate here is one of all rows: there are no keys by which it could be told without
    /// them. It holds of this level alone, and is not joined.
    one_group: bool,
    names: BTreeSet<String>,
}

impl Partial {
    /// Every name may be one.
    pub fn everything() -> Self {
        Self { all: true, unnamed: true, ..Self::default() }
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
        let name = name.to_ascii_lowercase();
        // `f0_`, `f1_`, …: what the service calls a column without a name.
        let number = name.strip_prefix('f').and_then(|rest| rest.strip_suffix('_'));
        let unnamed = number.is_some_and(|digits| digits.bytes().all(|b| b.is_ascii_digit()));
        self.all || self.unnamed && unnamed || self.names.contains(&name)
    }

    /// Which of them are names is not known any more.
    pub fn spread(&mut self) {
        self.all |= !self.is_empty();
    }

    /// Whether an aggregate of the level is one of all rows.
    pub const fn set_one_group(&mut self, one: bool) {
        self.one_group = one;
    }

    /// They hold values whose guard cannot be repeated.
    pub fn seal(&mut self) {
        self.sealed |= !self.is_empty();
    }

    pub const fn is_sealed(&self) -> bool {
        self.sealed
    }

    /// Whether a part reads a value whose guard cannot be repeated, or may.
    fn seals<T: Visit>(&self, part: &T) -> bool {
        self.sealed && self.is_read_by(part)
    }

    pub fn join(&mut self, other: &Self) {
        self.all |= other.all;
        self.unnamed |= other.unnamed;
        self.sealed |= other.sealed;
        self.names.extend(other.names.iter().cloned());
    }

    /// Whether a part reads such a name. Any word of a path counts: it may be a column or a field.
    pub fn is_read_by<T: Visit>(&self, part: &T) -> bool {
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
    /// Where they begin among all that are in scope.
    pub first: usize,
    /// Names of its SELECT list, in lower case, where a condition sees them.
    pub listed: BTreeSet<String>,
    /// Whether something of its FROM, or what a pipe added, may hand on what it reads of the rows around.
    pub mixed: bool,
    /// The levels around it.
    pub around: Surroundings,
    /// Names of columns that may raise an error.
    pub partial: Partial,
    /// Whether a join of the level makes rows of nulls.
    pub outer: bool,
    /// A guard that goes into the level's WHERE.
    pub where_guard: Option<Expr>,
    /// Its range variables that carry their guard in a column, in lower case.
    pub carrying: BTreeSet<String>,
    /// Whether a query in a condition hands on rows that passed a guard of their own.
    pub hands: bool,
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

    /// The same level once more.
    pub fn copy(&self) -> Self {
        Self {
            inputs: self.inputs.clone(),
            variables: self.variables.clone(),
            first: self.first,
            mixed: self.mixed,
            listed: self.listed.clone(),
            around: self.around.clone(),
            partial: self.partial.clone(),
            outer: self.outer,
            hands: self.hands,
            ..Self::default()
        }
    }

    /// The same above its groups, where the guards of its rows cannot be repeated.
    pub fn grouped(&self) -> Self {
        let mut level = self.copy();
        level.inputs.iter_mut().for_each(|input| input.guard = None);
        level
    }

    /// The level with the target of a write beside it.
    pub fn with(&self, variable: &str, guard: &Expr) -> Self {
        let mut level = self.copy();
        let (variable, guard) = (variable.to_ascii_lowercase(), Some(guard.to_string()));
        level.variables.insert(variable.clone());
        level.inputs.push(Input { variable, guard });
        level
    }

    /// Takes in a join that stands in parentheses.
    pub fn absorb(&mut self, inner: Self) {
        self.inputs.extend(inner.inputs);
        self.variables.extend(inner.variables);
        self.carrying.extend(inner.carrying);
        self.partial.join(&inner.partial);
        self.outer |= inner.outer;
        self.hands |= inner.hands;
        self.mixed |= inner.mixed;
    }

    /// Takes the guards of range variables that a column of the SELECT list hides by its name: `c.tenant_id`
    /// is a field of that column then. Answers the guards as they were, for [`Level::show`].
    ///
    /// # Errors
    /// HR1009 where the guard of such a variable stands in WHERE itself.
    pub fn hide(&mut self, projection: &[SelectItem]) -> Result<Vec<Option<String>>, Denial> {
        let guards = self.inputs.iter().map(|input| input.guard.clone()).collect();
        for item in projection {
            let name = match item {
                SelectItem::ExprWithAlias { alias, .. } => alias,
                // A range variable wins over a column of its name: this is its own row.
                SelectItem::UnnamedExpr(Expr::Identifier(_)) => continue,
                SelectItem::UnnamedExpr(expr) => match implied_name(expr) {
                    Some(name) if !mutant::on("bq-hidden-by-name") => name,
                    _ => continue,
                },
                // What a star names is hidden by [`Level::hide_by_stars`].
                _ => continue,
            };
            let name = name.value.to_ascii_lowercase();
            for input in self.inputs.iter_mut().filter(|input| input.variable == name) {
                if self.where_guard.is_some() {
                    return Err(form("a column of the name of its table"));
                }
                input.guard = None;
            }
        }
        Ok(guards)
    }

    /// Makes every column of a SELECT list without a table's name this level's, where rows are around and it has
    /// but one range variable.
    pub fn qualify(&self, projection: &mut Vec<SelectItem>) {
        let mut variables = self.variables.iter();
        let within = around::is_guarded(&self.around);
        if let (true, Some(variable), None) = (within, variables.next(), variables.next()) {
            let kept = |name: &str| around::names(&self.around, name);
            around::qualify(projection, variable, &kept);
        }
    }

    /// Lets conditions see the names of the SELECT list.
    pub fn list(&mut self, projection: &[SelectItem]) {
        self.listed.extend(projection.iter().filter_map(|item| match item {
            SelectItem::ExprWithAlias { alias, .. } => Some(alias.value.to_ascii_lowercase()),
            SelectItem::UnnamedExpr(expr) => {
                implied_name(expr).map(|name| name.value.to_ascii_lowercase())
            }
            _ => None,
        }));
    }

    /// Takes all guards where the list has a star: which names it brings, and which range variables those
    /// hide, is not known. WHERE does not see them.
    pub fn hide_by_stars(&mut self, projection: &[SelectItem]) {
        let stars = projection.iter().any(|item| {
            !matches!(item, SelectItem::UnnamedExpr(_) | SelectItem::ExprWithAlias { .. })
        });
        if stars && !mutant::on("bq-hidden-by-star") {
            self.inputs.iter_mut().for_each(|input| input.guard = None);
        }
    }

    /// Puts guards back that [`Level::hide`] took.
    pub fn show(&mut self, guards: Vec<Option<String>>) {
        for (input, guard) in self.inputs.iter_mut().zip(guards) {
            input.guard = guard;
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

    fn conjunct(&self, mut conjunct: Expr, clause: Clause) -> Result<Shielded, Denial> {
        let within = around::is_guarded(&self.around);
        let exposed = self.is_guarded() || self.hands || self.partial.sealed || within;
        let total = self.partial.leaves_total(&conjunct)
            && !(within && around::reads_partial(&self.around, &conjunct));
        let stays = mutant::on("bq-shield")
            || !exposed
            || total
            || is_pinned(&conjunct, self.partial.one_group);
        if stays {
            return Ok(Shielded { condition: conjunct, unmet: false });
        }
        // No guard of this level holds of them.
        if within && self.mixed
            || self.partial.seals(&conjunct)
            || self.hands && operands::may_fail_around(&conjunct)
        {
            return Ok(Shielded { condition: conjunct, unmet: true });
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
        let mut variables = self.variables.iter();
        if let (true, Some(variable), None) = (within, variables.next(), variables.next()) {
            let kept = |name: &str| self.listed.contains(name) || around::names(&self.around, name);
            around::qualify(&mut conjunct, variable, &kept);
        }
        let of_others = around::needed(&self.around, &self.variables, &self.listed, &conjunct);
        let needed = self.needed(&conjunct);
        let unmet = of_others.unmet || needed.iter().any(|input| input.guard.is_none());
        let guards = needed.iter().filter_map(|input| input.guard.as_deref());
        // Those of rows around hold whether the groups have rows or not.
        let own = self.joined(guards, clause);
        let all: Vec<String> = own.into_iter().chain(of_others.guards).collect();
        let condition = match all.as_slice() {
            [] => conjunct,
            guards => conditional(&guards.join(" AND "), conjunct, "FALSE")?,
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

    /// Shields a value as a whole.
    ///
    /// # Errors
    /// HR4002 should the shield not be GoogleSQL.
    pub fn shield_value(&self, value: Expr) -> Result<Shielded, Denial> {
        let condition = conditional(&self.truth(Clause::Rows), value, "NULL")?;
        Ok(Shielded { condition, unmet: !self.is_complete() })
    }

    /// Shields the columns of a SELECT list that may fail and are within reach.
    pub fn shield_columns(
        &self,
        projection: &mut [SelectItem],
        shields: &Shields,
    ) -> Result<(), Denial> {
        let guard = self.truth(Clause::Rows);
        for item in projection {
            let (expr, alias) = match item {
                SelectItem::ExprWithAlias { expr, alias } => (expr, Some(&*alias)),
                SelectItem::UnnamedExpr(expr) => (expr, None),
                SelectItem::ExprWithAliases { .. }
                | SelectItem::Wildcard(_)
                | SelectItem::QualifiedWildcard(..) => continue,
            };
            if shields.reach(expr, alias, &self.partial) {
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
pub fn conditional(guard: &str, value: Expr, otherwise: &str) -> Result<Expr, Denial> {
    let internal = || Denial::new(DenialCode::Internal);
    let mut shielded =
        parser(&format!("IF({guard}, TRUE, {otherwise})"))?.parse_expr().map_err(|_| internal())?;
    let Expr::Function(function) = &mut shielded else { return Err(internal()) };
    let FunctionArguments::List(list) = &mut function.args else { return Err(internal()) };
    let Some(FunctionArg::Unnamed(slot)) = list.args.get_mut(1) else { return Err(internal()) };
    *slot = sqlparser::ast::FunctionArgExpr::Expr(value);
    Ok(shielded)
}

/// Whether the outcome of an aggregate or a window is needed: then the expression is computed above
/// it, where only the tenant's rows are.
///
/// Not if it is made of parts, one of which may be asked for without the others, or by a choice that
/// may leave the outcome out; nor if a column stands beside the outcome, for then an outcome that turns
/// out to be constant leaves a condition of that column (a key of the groups, or of the window's parts).
///
/// `one_group`: there are no keys of groups.
pub fn is_pinned(expr: &Expr, one_group: bool) -> bool {
    let mut reading = Pinned { one_group, ..Pinned::default() };
    let _ = Visit::visit(expr, &mut reading);
    reading.computed && (!reading.in_parts || mutant::on("bq-pinned"))
}

/// Looks for aggregates and windows, and for what stands around them.
#[derive(Default)]
struct Pinned {
    /// Whether there are no keys of groups.
    one_group: bool,
    /// How many aggregates and windows are around.
    inside: usize,
    /// Whether there is one.
    computed: bool,
    /// Whether something around them is made of parts, or chooses.
    in_parts: bool,
}

/// Whether it is an aggregate or a window.
fn computes(expr: &Expr) -> bool {
    let Expr::Function(function) = expr else { return false };
    function.over.is_some() || functions::is_aggregate(&function.name)
}

/// Whether it is one whose outcome the groups or parts are needed for.
fn pins(expr: &Expr, one_group: bool) -> bool {
    let Expr::Function(function) = expr else { return false };
    let of_all = one_group && function.over.is_none();
    computes(expr) && (of_all || functions::needs_rows(function))
}

impl Visitor for Pinned {
    type Break = ();

    fn pre_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
        // An aggregate in a sub-query is that one's.
        self.in_parts = true;
        ControlFlow::Break(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        if pins(expr, self.one_group) {
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
                Expr::Identifier(name) => !name.value.starts_with('@'),
                // These need all of their operands.
                Expr::CompoundFieldAccess { .. }
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
        if pins(expr, self.one_group) {
            self.inside = self.inside.saturating_sub(1);
        }
        ControlFlow::Continue(())
    }
}

/// The name that a column has without an alias: the last of its path, or the field that it takes. (GoogleSQL,
/// "Implicit aliases".) Parentheses around it change nothing.
pub fn implied_name(expr: &Expr) -> Option<&Ident> {
    match expr {
        Expr::Identifier(name) => Some(name),
        Expr::CompoundIdentifier(names) => names.last(),
        Expr::Nested(inner) => implied_name(inner),
        Expr::CompoundFieldAccess { access_chain, .. } => match access_chain.last()? {
            AccessExpr::Dot(field) => implied_name(field),
            AccessExpr::Subscript(_) => None,
        },
        _ => None,
    }
}

/// Whether a column with this expression may raise an error when a condition reads it.
pub fn may_fail(expr: &Expr, partial: &Partial) -> bool {
    !partial.leaves_total(expr)
        && !is_pinned(expr, partial.one_group)
        && !mutant::on("bq-column-fails")
}

/// Which columns of a SELECT list are shielded where they are computed.
#[derive(Clone, Debug)]
pub enum Shields {
    /// None.
    None,
    /// All that may fail and have a name of their own.
    Named,
    /// All that may fail, those without a name as well.
    All,
    /// The keys of groups among them, by their names there: an alias wins over a column of FROM.
    Keys(BTreeSet<String>),
}

impl Shields {
    /// Whether a column is among them. One with a query of its own is not: the service would have to
    /// take that query out of the shield again.
    fn reach(&self, expr: &Expr, alias: Option<&Ident>, partial: &Partial) -> bool {
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
        let named_by_itself = alias.is_none() && implied_name(expr).is_some();
        may_fail(expr, partial)
            && !partial.seals(expr)
            && match self {
                Self::None => false,
                Self::Named => alias.is_some() && plain(true),
                Self::All => !named_by_itself && plain(true),
                Self::Keys(keys) => {
                    alias.is_some_and(|alias| keys.contains(&alias.value.to_ascii_lowercase()))
                        && plain(false)
                }
            }
    }
}

/// Whether something in a part may raise an error when a condition reads what comes of it.
pub fn something_may_fail<T: Visit>(part: &T, partial: &Partial) -> bool {
    visit_expressions(part, |expr| {
        if may_fail(expr, partial) { ControlFlow::Break(()) } else { ControlFlow::Continue(()) }
    })
    .is_break()
}
