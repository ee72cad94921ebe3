//! Carriers: a column of a derived table or common table expression that says that the guards below
//! hold, so that conditions above can be shielded by it. It is TRUE of every row that is there, it is
//! left out of every `*`, and it is there only in statements that need it. Pure.

use std::collections::BTreeSet;
use std::ops::ControlFlow;

use sqlparser::ast::{
    ExceptSelectItem, Expr, GroupByExpr, Ident, ObjectNamePart, Query, Select, SelectFlavor,
    SelectItem, SelectItemQualifiedWildcardKind, SetExpr, SetQuantifier, TableAlias, Value, Visit,
    Visitor, WildcardAdditionalOptions, visit_expressions, visit_relations,
};

use super::around;
use super::dialect::parser;
use super::factor::{alias_of, lower, quoted};
use super::functions;
use super::level::Columns;
use super::level::{Clause, Input, Level, Shields, is_pinned};
use super::rewrite::{Rewriter, form};
use crate::error::{Denial, DenialCode};
use crate::mutant;

/// The column. A client's statement that needs carriers must not use the name.
pub const CARRIER: &str = "hedgerow_guard";
/// Begins the name of a range variable that the client's text leaves without one.
pub const NAMELESS: &str = "hedgerow_source_";

/// What a query's columns are for.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Purpose {
    /// They are handed on as they come.
    Read,
    /// They are handed on with a carrier beside them.
    Carried,
    /// They are compared with others': the service may make a condition on the rows below of it.
    Compared,
}

/// What a query's rows are made of.
#[derive(Clone, Debug, Default)]
pub struct Derivation {
    /// Whether rows of several tenants are below.
    pub guarded: bool,
    /// Whether it has the carrier.
    pub carried: bool,
    /// Whether the carrier says it of all of them.
    pub complete: bool,
    /// Whether every column needs the outcome of an aggregate or a window.
    pub pinned: bool,
    /// Whether columns may be of rows around the expression that it stands in.
    pub mixed: bool,
    /// Its columns.
    pub columns: Columns,
}

/// A common table expression in scope.
#[derive(Clone, Debug)]
pub struct Cte {
    /// Its name in lower case.
    pub name: String,
    /// What it is made of.
    pub derivation: Derivation,
}

/// Whether carriers are made, and where not.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Carry {
    /// Whether they are.
    pub on: bool,
    /// Common table expressions that must not have one: they are read as whole rows.
    pub without: BTreeSet<String>,
}

/// Whether a text says one of the names that are Hedgerow's own.
pub fn names_a_carrier(text: &str) -> bool {
    let text = text.to_ascii_lowercase();
    text.contains(CARRIER) || text.contains(NAMELESS)
}

/// Names that stand alone in expressions, in lower case: a range variable among them is a whole row.
pub fn bare_names<T: Visit>(statement: &T) -> BTreeSet<String> {
    let mut names = BTreeSet::new();
    let _ = visit_expressions(statement, |expr| {
        if let Expr::Identifier(name) = expr {
            names.insert(lower(name));
        }
        ControlFlow::<()>::Continue(())
    });
    names
}

/// Whether a query of WITH RECURSIVE reads itself: then the service makes it in full before it is read,
/// and no condition gets into it. One with names of its own is not taken for such.
pub fn recurses(query: &Query, name: &Ident) -> bool {
    let reads = visit_relations(query, |relation| match relation.0.as_slice() {
        [ObjectNamePart::Identifier(one)] if lower(one) == lower(name) => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    });
    let mut names = OwnNames(false);
    let _ = Visit::visit(query, &mut names);
    mutant::on("bq-recursive")
        || reads.is_break()
            && !names.0
            && matches!(query.body.as_ref(), SetExpr::SetOperation { .. })
}

/// Looks for WITH.
struct OwnNames(bool);

impl Visitor for OwnNames {
    type Break = ();

    fn pre_visit_query(&mut self, query: &Query) -> ControlFlow<()> {
        self.0 |= query.with.is_some();
        ControlFlow::Continue(())
    }
}

/// Whether a level has groups; `None` where that is not known.
pub fn has_groups(select: &Select) -> Option<bool> {
    let grouped = match &select.group_by {
        GroupByExpr::All(_) => true,
        GroupByExpr::Expressions(expressions, modifiers) => {
            !expressions.is_empty() || !modifiers.is_empty()
        }
    };
    if grouped || select.having.is_some() {
        return Some(true);
    }
    let mut reading = Groups::default();
    for item in &select.projection {
        match item {
            SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => {
                reading.column |=
                    matches!(expr, Expr::Identifier(name) if !name.value.starts_with('@'));
                let _ = Visit::visit(expr, &mut reading);
            }
            SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..) => reading.column = true,
            SelectItem::ExprWithAliases { .. } => {}
        }
    }
    match reading {
        Groups { aggregate: true, .. } => Some(true),
        // Beside an aggregate, no column could stand without a group.
        Groups { unknown: true, column: false, .. } => None,
        Groups { .. } => Some(false),
    }
}

/// The names of the SELECT list by which GROUP BY groups, in lower case: listed by name or by place, or all.
pub fn keys(group_by: &GroupByExpr, projection: &[SelectItem]) -> BTreeSet<String> {
    let named = |item: &SelectItem| match item {
        SelectItem::ExprWithAlias { alias, .. } => Some(lower(alias)),
        _ => None,
    };
    let star = |item: &SelectItem| {
        matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..))
    };
    match group_by {
        // Whatever is no aggregate; those are looked at where keys are shielded.
        GroupByExpr::All(modifiers) if modifiers.is_empty() => {
            projection.iter().filter_map(named).collect()
        }
        GroupByExpr::Expressions(expressions, modifiers) if modifiers.is_empty() => {
            let key = |expr: &Expr| match expr {
                Expr::Identifier(name) => Some(lower(name)),
                Expr::Value(value) => {
                    let Value::Number(place, _) = &value.value else { return None };
                    let before = projection.get(..place.parse().ok()?)?;
                    if before.iter().any(star) { None } else { named(before.last()?) }
                }
                _ => None,
            };
            expressions.iter().filter_map(key).collect()
        }
        GroupByExpr::All(_) | GroupByExpr::Expressions(..) => BTreeSet::new(),
    }
}

/// Looks for aggregates, those of sub-queries left out.
#[derive(Default)]
struct Groups {
    queries: usize,
    /// How many routines are around.
    routines: usize,
    aggregate: bool,
    /// Whether there is a routine: it may be an aggregate.
    unknown: bool,
    /// Whether a column is read outside of routines.
    column: bool,
}

fn is_routine(expr: &Expr) -> bool {
    matches!(expr, Expr::Function(function) if !functions::is_of_the_service(&function.name))
}

impl Visitor for Groups {
    type Break = ();

    fn pre_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
        self.queries += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
        self.queries = self.queries.saturating_sub(1);
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        if self.queries > 0 {
            return ControlFlow::Continue(());
        }
        if is_routine(expr) {
            self.unknown = true;
            self.routines += 1;
        }
        match expr {
            Expr::Function(function) => {
                self.aggregate |=
                    function.over.is_none() && functions::is_aggregate(&function.name);
            }
            // A bare word may be a part of a date.
            Expr::CompoundIdentifier(_) => self.column |= self.routines == 0,
            _ => {}
        }
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        if self.queries == 0 && is_routine(expr) {
            self.routines = self.routines.saturating_sub(1);
        }
        ControlFlow::Continue(())
    }
}

/// Whether a query can hand on a carrier.
fn can_carry(query: &Query) -> bool {
    query.pipe_operators.is_empty() && body_can_carry(&query.body)
}

fn body_can_carry(body: &SetExpr) -> bool {
    match body {
        SetExpr::Select(select) => {
            select.value_table_mode.is_none()
                && matches!(select.flavor, SelectFlavor::Standard)
                && has_groups(select).is_some()
        }
        SetExpr::Query(query) => can_carry(query),
        SetExpr::SetOperation { left, right, set_quantifier, .. } => {
            matches!(
                set_quantifier,
                SetQuantifier::All | SetQuantifier::Distinct | SetQuantifier::None
            ) && body_can_carry(left)
                && body_can_carry(right)
        }
        _ => false,
    }
}

/// Whether every column of a SELECT list needs the outcome of an aggregate or a window.
pub fn is_pinned_list(projection: &[SelectItem], one_group: bool) -> bool {
    let pinned = |item: &SelectItem| match item {
        SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. } => {
            is_pinned(expr, one_group)
        }
        SelectItem::ExprWithAliases { .. }
        | SelectItem::Wildcard(_)
        | SelectItem::QualifiedWildcard(..) => false,
    };
    !projection.is_empty() && projection.iter().all(pinned)
}

impl Rewriter<'_> {
    /// Whether a query below a range variable gets a carrier.
    pub fn asks(&self, query: &Query, variable: Option<&str>) -> bool {
        self.carry.on
            && !self.without_carriers
            && variable.is_none_or(|name| !self.bare.contains(&name.to_ascii_lowercase()))
            && can_carry(query)
    }

    /// Whether a common table expression gets one.
    pub fn asks_of_cte(&self, cte: &sqlparser::ast::Cte) -> bool {
        let name = lower(&cte.alias.name);
        cte.alias.columns.is_empty()
            && !self.carry.without.contains(&name)
            && self.asks(&cte.query, None)
    }

    /// A name for a range variable that has none.
    pub fn nameless(&mut self) -> TableAlias {
        self.nameless += 1;
        let mut alias = alias_of(&format!("{NAMELESS}{}", self.nameless));
        alias.name.quote_style = None;
        alias
    }

    /// Adds a range variable over a query to a level.
    pub fn derived(
        &mut self,
        level: &mut Level,
        variable: Option<&str>,
        derivation: &Derivation,
        input: bool,
    ) {
        let name = variable.unwrap_or_default().to_ascii_lowercase();
        level.mixed |= derivation.mixed;
        if derivation.carried {
            level.carrying.insert(name.clone());
            self.carriers.push(name.clone());
        }
        if !derivation.guarded && !derivation.mixed {
            return;
        }
        if !derivation.columns.partial.is_empty() {
            level.partial.join(&derivation.columns.partial);
            level.partial.add(&name);
        }
        if !derivation.guarded {
            return;
        }
        let repeated = derivation.carried && derivation.complete && !input;
        let guard = variable
            .filter(|_| repeated)
            .map(|variable| format!("{}.{}", quoted(variable), quoted(CARRIER)));
        level.inputs.push(Input { variable: name, guard });
    }

    /// Adds a common table expression to a level.
    pub fn common(&mut self, level: &mut Level, name: &str, variable: &str, input: bool) {
        let lower = name.to_ascii_lowercase();
        let Some(cte) = self.ctes.iter().rfind(|cte| cte.name == lower) else { return };
        let derivation = cte.derivation.clone();
        let whole =
            input || self.without_carriers || self.bare.contains(&variable.to_ascii_lowercase());
        if derivation.carried && whole {
            // Its columns are read as they come: it goes without.
            let mut wanted = self.wanted.take().unwrap_or_else(|| self.carry.clone());
            wanted.without.insert(lower);
            self.wanted = Some(wanted);
        }
        self.derived(level, Some(variable), &derivation, input);
    }

    /// Leaves carriers out of every `*`.
    pub fn leave_out(&self, projection: &mut [SelectItem], level: &Level) {
        if mutant::on("bq-carrier-shown") {
            return;
        }
        for item in projection {
            match item {
                SelectItem::Wildcard(options) if !level.carrying.is_empty() => except(options),
                SelectItem::QualifiedWildcard(
                    SelectItemQualifiedWildcardKind::ObjectName(name),
                    options,
                ) => {
                    let name = name.to_string().replace('`', "").to_ascii_lowercase();
                    // One of a query around has the name for itself only if this level has none of it.
                    let around = !level.variables.contains(&name) && self.carriers.contains(&name);
                    if level.carrying.contains(&name) || around {
                        except(options);
                    }
                }
                SelectItem::Wildcard(_)
                | SelectItem::QualifiedWildcard(..)
                | SelectItem::UnnamedExpr(_)
                | SelectItem::ExprWithAlias { .. }
                | SelectItem::ExprWithAliases { .. } => {}
            }
        }
    }

    /// Which columns are shielded where they are computed, so that what reads them need not be.
    pub fn shields(
        select: (&GroupByExpr, Option<bool>, bool),
        projection: &[SelectItem],
        level: &Level,
        purpose: Purpose,
    ) -> Shields {
        let (group_by, groups, distinct) = select;
        let within_reach = level.is_guarded() && level.is_complete();
        match (purpose, groups) {
            _ if !within_reach || mutant::on("bq-compared") && purpose == Purpose::Compared => {
                Shields::None
            }
            (Purpose::Read, _) | (_, None) => Shields::None,
            (Purpose::Carried, _) if distinct => Shields::None,
            (_, Some(true)) => Shields::Keys(keys(group_by, projection)),
            (Purpose::Carried, Some(false)) => Shields::Named,
            (Purpose::Compared, Some(false)) => Shields::All,
        }
    }

    /// The carrier of a SELECT list.
    pub fn carrier(level: &Level, groups: bool) -> Result<SelectItem, Denial> {
        let clause = if groups { Clause::Groups } else { Clause::Rows };
        carrier_of(&level.truth(clause))
    }

    /// Something needs a guard that only a carrier could give.
    ///
    /// # Errors
    /// HR1009 where carriers are made already.
    pub fn unmet(&mut self, what: &str) -> Result<(), Denial> {
        if self.carry.on {
            return Err(form(what));
        }
        self.wanted = Some(Carry { on: true, ..Carry::default() });
        Ok(())
    }

    /// Refuses what is compared with columns that may fail, where they could not be shielded.
    pub fn comparable(&mut self, sides: &[&Derivation]) -> Result<(), Denial> {
        let within = around::is_guarded(&self.around);
        let exposed = |side: &&Derivation| side.guarded || within;
        if sides.iter().any(|side| exposed(side) && !side.columns.partial.is_empty()) {
            self.unmet("a comparison of rows with a column whose computation may fail")?;
        }
        Ok(())
    }

    /// Shields a condition; a guard that only a carrier could give is asked for.
    pub fn shielded(
        &mut self,
        level: &Level,
        condition: Expr,
        clause: Clause,
    ) -> Result<Expr, Denial> {
        let shielded = level.shield(condition, clause)?;
        if shielded.unmet {
            self.unmet("a condition that may fail, above rows whose guard cannot be repeated")?;
        }
        Ok(shielded.condition)
    }
}

/// `condition AS hedgerow_guard`
pub fn carrier_of(condition: &str) -> Result<SelectItem, Denial> {
    let expr = parser(condition)?.parse_expr().map_err(|_| Denial::new(DenialCode::Internal))?;
    Ok(SelectItem::ExprWithAlias { expr, alias: Ident::with_quote('`', CARRIER) })
}

fn except(options: &mut WildcardAdditionalOptions) {
    let carrier = Ident::with_quote('`', CARRIER);
    match &mut options.opt_except {
        Some(except) => except.additional_elements.push(carrier),
        None => {
            options.opt_except =
                Some(ExceptSelectItem { first_element: carrier, additional_elements: Vec::new() });
        }
    }
}
