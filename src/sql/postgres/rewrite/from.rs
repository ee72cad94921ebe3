//! FROM: resolves each relation, decides where its guard goes, and puts it there. Layer 2.
//!
//! WHERE for relations that every result row has; ON of the lowest outer join for null-supplied
//! ones; a filtered sub-select, kept apart, where neither can name the tenant column (FULL JOIN,
//! USING and NATURAL on the null-supplying side, column alias lists, aliased join trees).

use std::cell::Cell;
use std::rc::Rc;

use sqlparser::ast::{
    Expr, Join, JoinConstraint, JoinOperator, ObjectName, ObjectNamePart, Select, SelectItem,
    SelectItemQualifiedWildcardKind, TableAlias, TableFactor, TableWithJoins, Value, Values,
};

use super::super::env::{Env, Resolved, Table};
use super::super::totality::{self, Class};
use super::grouping::Keyless;
use super::guard;
use super::joined::{Joined, joined_columns};
use super::level::{Bond, Level, Outputs, Rel, name_of};
use super::{Ctes, Rewriter, Scope, blame, dialect, keep_apart};
use crate::catalog::RelationKind;
use crate::error::{Denial, DenialCode};
use crate::mutant;
use crate::policy::Protection;
use crate::sql::account::{self, Notes};

/// The alias of rows that the client did not name.
const ROWS: &str = "hedgerow_rows";

/// Where the guard of a relation goes.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Position {
    /// Into WHERE.
    Where,
    /// Into the ON of the join with that number, in order of appearance.
    On(usize),
    /// Into a sub-select in the relation's place.
    Apart,
}

/// Guards on their way into the tree, and derived tables that may have to be kept apart.
#[derive(Default)]
pub(super) struct Placement {
    /// For WHERE.
    pub conditions: Vec<Expr>,
    /// For ON, by join number.
    joins: Vec<Vec<Expr>>,
    /// What the ON of each join can name, by join number.
    operands: Vec<Operands>,
    /// One for each derived table, in order of appearance.
    pub barriers: Vec<Rc<Cell<bool>>>,
    /// An expression in FROM itself (arguments, LATERAL) is not total.
    pub unclean: bool,
    /// So is one somewhere below, in a derived table; or a function makes rows, or they are a sample.
    pub computes: bool,
    /// Relations of the level that a LATERAL sub-select at hand cannot name.
    pub hidden: Vec<std::ops::Range<usize>>,
    /// Tables that are read through a sub-select, which has no primary key.
    pub keyless: Vec<Keyless>,
}

impl Placement {
    /// For what stands beside the target of a data change, which LATERAL cannot name.
    pub fn beside(level: &Level<'_>) -> Self {
        let target = 0..level.rels.len();
        Self { hidden: vec![target], ..Self::default() }
    }

    /// Keeps apart the derived tables whose barrier was raised.
    pub fn raise(&self, items: &mut [TableWithJoins], notes: Notes<'_>) {
        let mut barriers = self.barriers.iter();
        for item in items {
            raise_in(item, &mut barriers, notes);
        }
    }
}

fn raise_in<'b>(
    item: &mut TableWithJoins,
    barriers: &mut impl Iterator<Item = &'b Rc<Cell<bool>>>,
    notes: Notes<'_>,
) {
    let factors = std::iter::once(&mut item.relation)
        .chain(item.joins.iter_mut().map(|join| &mut join.relation));
    for factor in factors {
        match factor {
            TableFactor::Derived { subquery, alias, .. } => {
                let raised = barriers.next().is_some_and(|barrier| barrier.get());
                raised.then(|| stand_apart(subquery, alias.as_ref(), notes));
            }
            TableFactor::NestedJoin { table_with_joins, .. } => {
                raise_in(table_with_joins, barriers, notes)
            }
            _ => {}
        }
    }
}

fn stand_apart(subquery: &mut sqlparser::ast::Query, alias: Option<&TableAlias>, notes: Notes<'_>) {
    if subquery.limit_clause.is_none() {
        let query = alias.map(|alias| name_of(&alias.name)).unwrap_or_default();
        let form = account::Form::OffsetZero;
        notes.take(|account| account.barriers.push(account::Barrier { query, form }));
    }
    keep_apart(subquery);
}

/// The relations that the ON of a join can name: its own operands.
#[derive(Clone, Default)]
enum Operands {
    /// All of the level.
    #[default]
    Level,
    /// These of the level, first and one past the last.
    Range(usize, usize),
    /// These, which stand under an alias that hides them from the level.
    Hidden(Vec<Rel>),
}

/// Which sides of a join are null-supplied, and its condition.
struct Side<'j> {
    left: bool,
    right: bool,
    constraint: Option<&'j JoinConstraint>,
}

fn side(join: &Join) -> Result<Side<'_>, Denial> {
    let (left, right, constraint) = match &join.join_operator {
        JoinOperator::Join(constraint)
        | JoinOperator::Inner(constraint)
        | JoinOperator::CrossJoin(constraint) => (false, false, Some(constraint)),
        JoinOperator::Left(constraint) | JoinOperator::LeftOuter(constraint) => {
            (false, true, Some(constraint))
        }
        JoinOperator::Right(constraint) | JoinOperator::RightOuter(constraint) => {
            (true, false, Some(constraint))
        }
        JoinOperator::FullOuter(constraint) => (true, true, Some(constraint)),
        _ => return Err(Denial::new(DenialCode::CannotParse)),
    };
    Ok(Side { left, right, constraint })
}

/// Whether a guard can stand in the ON of an outer join.
fn takes_guard(side: &Side<'_>) -> bool {
    (!(side.left && side.right) || mutant::on("full-join-flat"))
        && matches!(side.constraint, Some(JoinConstraint::On(_)))
}

impl<'a> Rewriter<'a> {
    /// Resolves one FROM item into the level.
    pub(super) fn place_item(
        &mut self,
        item: &mut TableWithJoins,
        level: &mut Level<'_>,
        ctes: Option<&Ctes<'_>>,
        placement: &mut Placement,
    ) -> Result<(), Denial> {
        self.join_tree(item, level, ctes, placement, Position::Where)
    }

    /// Resolves one relation into the level; a protected table is set apart under its guard.
    pub(super) fn factor_apart(
        &mut self,
        factor: &mut TableFactor,
        level: &mut Level<'_>,
        ctes: Option<&Ctes<'_>>,
        placement: &mut Placement,
    ) -> Result<(), Denial> {
        let position = if mutant::on("merge-source") { Position::Where } else { Position::Apart };
        self.factor(factor, level, ctes, placement, position)
    }

    fn join_tree(
        &mut self,
        item: &mut TableWithJoins,
        level: &mut Level<'_>,
        ctes: Option<&Ctes<'_>>,
        placement: &mut Placement,
        around: Position,
    ) -> Result<(), Denial> {
        // Joins are numbered before descending, so that the second walk meets them in this order.
        let first = placement.joins.len();
        placement.joins.resize_with(first + item.joins.len(), Vec::new);
        placement.operands.resize_with(first + item.joins.len(), Operands::default);
        let start = level.rels.len();
        let mut positions = Vec::with_capacity(item.joins.len() + 1);
        for index in 0..=item.joins.len() {
            positions.push(position(&item.joins, index, first, around)?);
        }
        let sides: Vec<bool> =
            item.joins.iter().map(|join| side(join).is_ok_and(|side| !side.left)).collect();
        let factors = std::iter::once(&mut item.relation)
            .chain(item.joins.iter_mut().map(|join| &mut join.relation));
        for (index, (factor, position)) in factors.zip(positions).enumerate() {
            // Only an inner or a left join lets its right side look at its left one.
            let looks = index.checked_sub(1).is_none_or(|join| sides.get(join) == Some(&true));
            if !looks {
                placement.hidden.push(start..level.rels.len());
            }
            self.factor(factor, level, ctes, placement, position)?;
            if !looks {
                placement.hidden.pop();
            }
            if let Some(join) = index.checked_sub(1)
                && let Some(operands) = placement.operands.get_mut(first + join)
            {
                *operands = Operands::Range(start, level.rels.len());
            }
        }
        Ok(())
    }

    fn factor(
        &mut self,
        factor: &mut TableFactor,
        level: &mut Level<'_>,
        ctes: Option<&Ctes<'_>>,
        placement: &mut Placement,
        position: Position,
    ) -> Result<(), Denial> {
        match factor {
            TableFactor::Table { args: None, sample, .. } => {
                placement.computes |= sample.is_some();
                self.relation(factor, level, ctes, placement, position)
            }
            TableFactor::Derived { lateral, subquery, alias, .. } => {
                // LATERAL or not, columns of this level resolve the same or not at all; its guards
                // can be named in LATERAL only.
                let shape = {
                    self.depth += 1;
                    let around = if *lateral {
                        &level.without(&placement.hidden)
                    } else {
                        &Level::screen(level)
                    };
                    let shape = self.query(subquery, Scope { level: Some(around), ctes })?;
                    self.depth -= 1;
                    shape
                };
                let barrier = Rc::new(Cell::new(false));
                placement.barriers.push(Rc::clone(&barrier));
                placement.unclean |= *lateral && !shape.clean;
                placement.computes |= !shape.clean;
                // SECURITY: merged into this level, `LATERAL (SELECT f(t.c) AS x)` becomes f(t.c), on
                // every row of t that the planner likes, wherever x stands.
                let reach = if *lateral { Some(&*level) } else { level.outer };
                let exposed = shape.exposed || reach.is_some_and(Level::exposed_anywhere);
                let bond = if exposed {
                    Bond::Merged { barrier, semi_join: shape.semi_join }
                } else {
                    Bond::Free
                };
                let (visible, columns) = match alias {
                    Some(alias) => (name_of(&alias.name), renamed(shape.outputs, alias)),
                    None => (String::new(), shape.outputs),
                };
                level.rels.push(Rel { visible, columns, bond, tenant: None });
                Ok(())
            }
            TableFactor::NestedJoin { table_with_joins, alias } => {
                let apart = alias.is_some() && !mutant::on("aliased-join-flat");
                let around = if apart { Position::Apart } else { position };
                let before = level.rels.len();
                let first = placement.joins.len();
                self.join_tree(table_with_joins, level, ctes, placement, around)?;
                if let Some(alias) = alias {
                    // Under an alias the relations are not addressable; all is seen through it.
                    // SECURITY: what is merged into the tree can be reached by the alias's columns,
                    // and the level no longer knows it, so that nobody could raise its barrier.
                    for rel in level.rels.iter().skip(before) {
                        if let Bond::Merged { barrier, .. } = &rel.bond {
                            barrier.set(true);
                        }
                    }
                    for operands in placement.operands.iter_mut().skip(first) {
                        if let Operands::Range(start, end) = *operands {
                            let hidden = level.rels.get(start..end).unwrap_or_default();
                            *operands = Operands::Hidden(hidden.to_vec());
                        }
                    }
                    level.rels.truncate(before);
                    level.rels.push(free(name_of(&alias.name), None));
                }
                Ok(())
            }
            TableFactor::Table { name, alias, args: Some(call), .. } => {
                placement.computes = true;
                for argument in &mut call.args {
                    placement.unclean |= !self.argument(argument, level, ctes)?;
                }
                level
                    .rels
                    .push(free(function_name(name, alias.as_ref()), alias_columns(alias.as_ref())));
                Ok(())
            }
            TableFactor::Function { name, args, alias, .. } => {
                placement.computes = true;
                for argument in args {
                    placement.unclean |= !self.argument(argument, level, ctes)?;
                }
                level
                    .rels
                    .push(free(function_name(name, alias.as_ref()), alias_columns(alias.as_ref())));
                Ok(())
            }
            TableFactor::UNNEST { alias, array_exprs, .. } => {
                placement.computes = true;
                for array in array_exprs {
                    let subqueries = self.subqueries(array, Scope { level: Some(level), ctes })?;
                    placement.unclean |= !super::total::is_total(array, level, subqueries);
                }
                let visible = alias
                    .as_ref()
                    .map_or_else(|| "unnest".to_owned(), |alias| name_of(&alias.name));
                level.rels.push(free(visible, alias_columns(alias.as_ref())));
                Ok(())
            }
            _ => Err(Denial::new(DenialCode::CannotParse)),
        }
    }

    /// Rewrites the sub-queries of an argument; whether it is total.
    fn argument(
        &mut self,
        argument: &mut sqlparser::ast::FunctionArg,
        level: &Level<'_>,
        ctes: Option<&Ctes<'_>>,
    ) -> Result<bool, Denial> {
        use sqlparser::ast::{FunctionArg, FunctionArgExpr};
        let argument = match argument {
            FunctionArg::Unnamed(argument)
            | FunctionArg::Named { arg: argument, .. }
            | FunctionArg::ExprNamed { arg: argument, .. } => argument,
        };
        match argument {
            FunctionArgExpr::Expr(expression) => {
                let scope = Scope { level: Some(level), ctes };
                let subqueries = self.subqueries(expression, scope)?;
                Ok(super::total::is_total(expression, level, subqueries))
            }
            FunctionArgExpr::Wildcard => Ok(true),
            FunctionArgExpr::QualifiedWildcard(_) | FunctionArgExpr::WildcardWithOptions(_) => {
                Err(Denial::new(DenialCode::CannotParse))
            }
        }
    }

    fn relation(
        &mut self,
        factor: &mut TableFactor,
        level: &mut Level<'_>,
        ctes: Option<&Ctes<'_>>,
        placement: &mut Placement,
        position: Position,
    ) -> Result<(), Denial> {
        let TableFactor::Table { name, alias, .. } = factor else {
            return Err(Denial::new(DenialCode::Internal));
        };
        if is_misread_only(name) {
            return Err(Denial::of(DenialCode::CannotParse, "ONLY"));
        }
        let parts = name_parts(name)?;
        if let [.., single] = parts.as_slice()
            && (parts.len() == 1 || mutant::on("cte-qualified"))
            && let Some(cte) = ctes.and_then(|ctes| ctes.find(single))
        {
            let bond = if cte.exposed {
                Bond::Merged { barrier: Rc::clone(&cte.barrier), semi_join: cte.semi_join }
            } else {
                Bond::Free
            };
            let visible =
                alias.as_ref().map_or_else(|| single.clone(), |alias| name_of(&alias.name));
            let columns = match alias {
                Some(alias) => renamed(cte.outputs.clone(), alias),
                None => cte.outputs.clone(),
            };
            level.rels.push(Rel { visible, columns, bond, tenant: None });
            return Ok(());
        }
        let visible = match (&alias, parts.last()) {
            (Some(alias), _) => name_of(&alias.name),
            (None, Some(last)) => last.clone(),
            (None, None) => return Err(Denial::new(DenialCode::Internal)),
        };
        let table = match self.resolve(&parts)? {
            Resolved::Catalog { .. } => {
                level.rels.push(free(visible, None));
                return Ok(());
            }
            Resolved::Table(table) => table,
        };
        let mark = match name.0.first().and_then(|part| part.as_ident()) {
            Some(first) => dialect::unmarked(first).0.to_owned(),
            None => String::new(),
        };
        *name = qualified(&table);
        if let Some(ObjectNamePart::Identifier(first)) = name.0.first_mut() {
            *first = dialect::marked(&mark, first);
        }
        let target = std::mem::take(&mut self.at_target);
        if !target && table.is_masked(self.env) {
            let apart = position == Position::Apart;
            return self.show_masked(factor, &table, visible, apart, level, placement);
        }
        let columns = columns_of(&table, self.env);
        let columns = match &alias {
            Some(alias) => renamed(columns, alias),
            None => columns,
        };
        if !table.is_protected() {
            level.rels.push(free(visible, columns));
            return Ok(());
        }
        let tenant = match &table.policy.protection {
            Protection::Tenant { column, .. } => Some(column.clone()),
            Protection::TenantThrough { .. } | Protection::Shared | Protection::Deny => None,
        };
        let renames = alias.as_ref().is_some_and(|alias| !alias.columns.is_empty());
        let guards = guard::guards(self.env, &table, &visible)?;
        let whole =
            guard::all(guards.iter().cloned()).ok_or(Denial::new(DenialCode::LeakPossible))?;
        let place = match position {
            Position::Where if !renames => account::Place::Where,
            Position::On(_) if !renames => account::Place::On,
            Position::Apart | Position::Where | Position::On(_) => account::Place::Apart,
        };
        blame::note_guard(self.env, &table.name, &visible, place, &whole);
        let bond = match position {
            Position::Apart => None,
            Position::Where | Position::On(_) if renames && !mutant::on("renamed-flat") => None,
            Position::Where => {
                placement
                    .conditions
                    .extend(guards.into_iter().filter(|_| !mutant::on("guard-where")));
                Some(Bond::Flat { guard: Box::new(whole.clone()) })
            }
            Position::On(join) => {
                let slot =
                    placement.joins.get_mut(join).ok_or(Denial::new(DenialCode::Internal))?;
                slot.extend(guards.into_iter().filter(|_| !mutant::on("guard-on")));
                Some(Bond::Flat {
                    guard: Box::new(guard::or_null_extended(whole.clone(), &table, &visible)?),
                })
            }
        };
        match bond {
            Some(bond) => level.rels.push(Rel { visible, columns, bond, tenant }),
            None => {
                guard::set_apart(factor, &visible, whole)?;
                placement.keyless.extend(Keyless::of(&table, &visible, &columns));
                placement.barriers.push(Rc::new(Cell::new(true)));
                level.rels.push(Rel { visible, columns, bond: Bond::Free, tenant });
            }
        }
        Ok(())
    }

    /// Resolves name parts that are no CTE.
    pub(super) fn resolve(&self, parts: &[String]) -> Result<Resolved<'a>, Denial> {
        match parts {
            [name] => self.env.resolve(None, None, name),
            [schema, name] => self.env.resolve(None, Some(schema), name),
            [database, schema, name] => self.env.resolve(Some(database), Some(schema), name),
            _ => Err(Denial::new(DenialCode::UnknownRelation)),
        }
    }

    /// Puts guards into ON and shields the client's conditions there.
    pub(super) fn join_conditions(
        &mut self,
        items: &mut [TableWithJoins],
        placement: &mut Placement,
        scope: Scope<'_>,
        clean: &mut bool,
    ) -> Result<(), Denial> {
        let mut next = 0;
        for item in items {
            self.conditions_of(item, placement, scope, clean, &mut next)?;
        }
        Ok(())
    }

    fn conditions_of(
        &mut self,
        item: &mut TableWithJoins,
        placement: &mut Placement,
        scope: Scope<'_>,
        clean: &mut bool,
        next: &mut usize,
    ) -> Result<(), Denial> {
        let first = *next;
        *next += item.joins.len();
        if let TableFactor::NestedJoin { table_with_joins, .. } = &mut item.relation {
            self.conditions_of(table_with_joins, placement, scope, clean, next)?;
        }
        for (index, join) in item.joins.iter_mut().enumerate() {
            if let TableFactor::NestedJoin { table_with_joins, .. } = &mut join.relation {
                self.conditions_of(table_with_joins, placement, scope, clean, next)?;
            }
            let guards = placement
                .joins
                .get_mut(first + index)
                .map(std::mem::take)
                .ok_or(Denial::new(DenialCode::Internal))?;
            let operands = placement.operands.get(first + index).cloned().unwrap_or_default();
            let part = scope.level.and_then(|level| operands_of(operands, level));
            let whole = scope;
            let scope = Scope { level: part.as_ref().or(scope.level), ctes: scope.ctes };
            let full = matches!(join.join_operator, JoinOperator::FullOuter(_));
            let constraint = match &mut join.join_operator {
                JoinOperator::Join(constraint)
                | JoinOperator::Inner(constraint)
                | JoinOperator::CrossJoin(constraint)
                | JoinOperator::Left(constraint)
                | JoinOperator::LeftOuter(constraint)
                | JoinOperator::Right(constraint)
                | JoinOperator::RightOuter(constraint)
                | JoinOperator::FullOuter(constraint) => constraint,
                _ => return Err(Denial::new(DenialCode::CannotParse)),
            };
            match constraint {
                JoinConstraint::On(condition) if full => {
                    // Both sides are filtered apart; a CASE would make the join impossible.
                    let subqueries = self.subqueries(condition, scope)?;
                    *clean &= scope
                        .level
                        .is_some_and(|level| super::total::is_total(condition, level, subqueries));
                    if !*clean && let Some(level) = whole.level {
                        level.raise_barriers();
                    }
                }
                JoinConstraint::On(condition) => {
                    let client = std::mem::replace(condition, Expr::Value(Value::Null.into()));
                    *condition = self
                        .bound(guards, Some(client), scope, clean)?
                        .ok_or(Denial::new(DenialCode::Internal))?;
                    if !*clean && let Some(level) = whole.level {
                        level.raise_barriers();
                    }
                }
                JoinConstraint::Using(_) | JoinConstraint::Natural | JoinConstraint::None => {
                    if !guards.is_empty() {
                        return Err(Denial::new(DenialCode::Internal));
                    }
                    // The columns compared must be total, or nothing merged may stand beside them.
                    let Some(level) = scope.level else { continue };
                    let joined = joined_columns(constraint, level);
                    if joined != Joined::Total {
                        *clean = false;
                        whole.level.unwrap_or(level).raise_barriers();
                    }
                    let flat = |rel: &Rel| matches!(rel.bond, Bond::Flat { .. });
                    if joined == Joined::Loose && level.rels.iter().any(flat) {
                        return Err(Denial::of(DenialCode::LeakPossible, "USING"));
                    }
                }
            }
        }
        Ok(())
    }
}

/// The level as the ON of a join sees it; `None` where that is all of it.
fn operands_of<'p>(operands: Operands, level: &Level<'p>) -> Option<Level<'p>> {
    match operands {
        Operands::Level => None,
        Operands::Range(0, end) if end == level.rels.len() => None,
        Operands::Range(start, end) => {
            Some(level.part(level.rels.get(start..end).unwrap_or_default().to_vec()))
        }
        Operands::Hidden(rels) => Some(level.part(rels)),
    }
}

/// Where the guard of the `index`-th relation of a join chain goes. Chains lean left: relation 0
/// and the relations before a join are its left side.
fn position(
    joins: &[Join],
    index: usize,
    first: usize,
    around: Position,
) -> Result<Position, Denial> {
    if around == Position::Apart {
        return Ok(Position::Apart);
    }
    let own = index.checked_sub(1);
    for (number, join) in joins.iter().enumerate().skip(own.unwrap_or(0)) {
        let side = side(join)?;
        let null_supplied = if own == Some(number) { side.right } else { side.left };
        if null_supplied && !mutant::on("null-side-where") {
            return Ok(if takes_guard(&side) {
                Position::On(first + number)
            } else {
                Position::Apart
            });
        }
    }
    Ok(around)
}

fn free(visible: String, columns: Outputs) -> Rel {
    Rel { visible, columns, bond: Bond::Free, tenant: None }
}

fn function_name(name: &ObjectName, alias: Option<&TableAlias>) -> String {
    alias.map(|alias| name_of(&alias.name)).unwrap_or_else(|| {
        name.0.last().and_then(|part| part.as_ident()).map(name_of).unwrap_or_default()
    })
}

/// The columns that an alias list names, none of them known to be total.
fn alias_columns(alias: Option<&TableAlias>) -> Outputs {
    let alias = alias.filter(|alias| !alias.columns.is_empty())?;
    Some(alias.columns.iter().map(|column| (name_of(&column.name), None)).collect())
}

/// Outputs under the names of an alias's column list.
pub(super) fn renamed(outputs: Outputs, alias: &TableAlias) -> Outputs {
    if alias.columns.is_empty() {
        return outputs;
    }
    match outputs {
        None => alias_columns(Some(alias)),
        Some(mut outputs) => {
            for (output, column) in outputs.iter_mut().zip(&alias.columns) {
                output.0 = name_of(&column.name);
            }
            Some(outputs)
        }
    }
}

/// `column1`, `column2`, … of VALUES; a column is total where all rows hold literals of one kind.
pub(super) fn values_outputs(values: &Values) -> Outputs {
    let class = |expression: &Expr| match expression {
        Expr::Value(value) => match &value.value {
            Value::Number(digits, _) if digits.parse::<i64>().is_ok() => Some(Class::Integer),
            Value::Boolean(_) => Some(Class::Bool),
            Value::SingleQuotedString(_) => Some(Class::Text),
            _ => None,
        },
        Expr::Cast { expr, data_type, .. } if matches!(**expr, Expr::Value(_)) => {
            super::total::type_class(data_type)
        }
        _ => None,
    };
    let first = &values.rows.first()?.content;
    let columns = first.iter().enumerate().map(|(index, expression)| {
        let shared = class(expression).filter(|shared| {
            values.rows.iter().all(|row| row.content.get(index).and_then(class) == Some(*shared))
        });
        (format!("column{}", index + 1), shared)
    });
    Some(columns.collect())
}

/// sqlparser reads `ONLY t` as a table named `only` under the alias t.
fn is_misread_only(name: &ObjectName) -> bool {
    matches!(name.0.as_slice(), [part] if part.as_ident().is_some_and(|ident| {
        ident.quote_style.is_none() && ident.value.eq_ignore_ascii_case("only")
    }))
}

/// Names the columns of `SELECT * FROM UNNEST(a, b, …)`, one an array: so ORMs insert many rows at
/// once, and the tenant's column must be found among them.
pub(super) fn name_rows(select: &mut Select) {
    let lone_star = matches!(select.projection.as_slice(), [SelectItem::Wildcard(_)]);
    let [item] = select.from.as_mut_slice() else { return };
    if let TableFactor::UNNEST { alias: alias @ None, array_exprs, with_ordinality: false, .. } =
        &mut item.relation
        && lone_star
        && item.joins.is_empty()
    {
        let mut named = guard::table_alias(ROWS);
        named.columns = (1..=array_exprs.len())
            .map(|number| sqlparser::ast::TableAliasColumnDef {
                name: guard::ident(&format!("{ROWS}_{number}")),
                data_type: None,
            })
            .collect();
        *alias = Some(named);
    }
}

/// The parts of a relation's name.
pub(super) fn name_parts(name: &ObjectName) -> Result<Vec<String>, Denial> {
    name.0
        .iter()
        .map(|part| part.as_ident().map(name_of))
        .collect::<Option<_>>()
        .ok_or(Denial::new(DenialCode::CannotParse))
}

/// The name as the catalog spells it.
pub(super) fn qualified(table: &Table<'_>) -> ObjectName {
    ObjectName::from(vec![guard::ident(&table.name.schema), guard::ident(&table.name.name)])
}

/// Columns of a table: total where the type is a built-in one, and nothing in the catalog says that
/// reading or comparing them may fail. A view's columns are expressions.
pub(super) fn columns_of(table: &Table<'_>, env: Env<'_>) -> Outputs {
    let relation = table.relation?;
    let stored = match relation.kind {
        RelationKind::Table | RelationKind::PartitionedTable | RelationKind::MaterializedView => {
            true
        }
        RelationKind::View | RelationKind::ForeignTable | RelationKind::Sequence => {
            mutant::on("view-total")
        }
    };
    let columns = relation.columns.iter().map(|column| {
        let plain = stored
            && column.type_schema == "pg_catalog"
            && !env.catalog.is_unsteady(&table.name, &column.name);
        let class = plain.then(|| totality::class_of(&column.type_name)).flatten();
        (column.name.clone(), class)
    });
    Some(columns.collect())
}

/// Positions of the result columns that are a protected table's tenant column, up to the first
/// position that cannot be told.
pub(super) fn tenant_columns(select: &Select, level: &Level<'_>) -> Vec<usize> {
    let merges = select.from.iter().flat_map(|item| &item.joins).any(|join| {
        side(join).is_ok_and(|side| {
            matches!(side.constraint, Some(JoinConstraint::Using(_) | JoinConstraint::Natural))
        })
    });
    let mut found = Vec::new();
    let mut at = 0;
    for item in &select.projection {
        let rels: Vec<&Rel> = match item {
            SelectItem::UnnamedExpr(expression) if dialect::ends_in_star(expression) => {
                return found;
            }
            SelectItem::UnnamedExpr(expression)
            | SelectItem::ExprWithAlias { expr: expression, .. } => {
                let parts = match expression {
                    Expr::Identifier(column) => std::slice::from_ref(column),
                    Expr::CompoundIdentifier(parts) => parts.as_slice(),
                    _ => &[],
                };
                let name = parts.last().map(name_of);
                if let Some(rel) = level.find(parts).rel
                    && rel.tenant.is_some()
                    && rel.tenant == name
                {
                    found.push(at);
                }
                at += 1;
                continue;
            }
            SelectItem::Wildcard(_) if !merges => level.rels.iter().collect(),
            SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), _) => {
                let rel = name.0.last().and_then(|part| part.as_ident()).map(name_of);
                rel.and_then(|rel| level.visible(&rel)).into_iter().collect()
            }
            SelectItem::Wildcard(_)
            | SelectItem::QualifiedWildcard(..)
            | SelectItem::ExprWithAliases { .. } => return found,
        };
        for rel in rels {
            let Some(columns) = &rel.columns else { return found };
            for (name, _) in columns {
                if rel.tenant.as_ref() == Some(name) {
                    found.push(at);
                }
                at += 1;
            }
        }
    }
    found
}
