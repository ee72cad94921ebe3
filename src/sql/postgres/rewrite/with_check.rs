//! The policy's own condition on the row that a write makes, as WITH CHECK of row-level security has it.
//! Layer 2.
//!
//! One of the condition's columns carries the test: its value is looked at together with the others' as
//! the row is made, and the statement fails. The carrier's value is evaluated once; those of the others
//! stand twice, so they must be ones that come out the same: constants, parameters, columns.

use sqlparser::ast::{
    Assignment, AssignmentTarget, Expr, SelectItem, SetExpr, UnaryOperator, Value,
};

use super::super::env::Table;
use super::super::expression::columns_of;
use super::from::name_parts;
use super::{Rewriter, condition, guard};
use crate::error::{Denial, DenialCode};
use crate::mutant;
use crate::policy::Protection;

/// A condition on rows that are written.
pub(super) struct RowCheck {
    /// The condition, over the looked-at values.
    test: Expr,
    columns: Vec<Column>,
}

struct Column {
    name: String,
    /// The type in which its value is looked at.
    type_name: &'static str,
    /// What it holds whatever the client writes.
    fixed: Option<Expr>,
    /// Whether something else is demanded of it, so that it cannot carry the test.
    demanded: bool,
}

/// The type in which a value is looked at as it will be stored: one that storing changes in nothing.
fn steady_type(type_name: &str) -> Option<&'static str> {
    ["text", "varchar", "uuid", "int2", "int4", "int8", "bool", "date"]
        .into_iter()
        .find(|steady| *steady == type_name)
}

impl<'a> Rewriter<'a> {
    /// What the policy demands of the rows of a table, beside their tenant.
    pub(super) fn row_check(&self, table: &Table<'a>) -> Result<Option<RowCheck>, Denial> {
        let Some(own) = &table.policy.condition else { return Ok(None) };
        let names = columns_of(&own.text).ok_or(Denial::new(DenialCode::Internal))?;
        let mut columns: Vec<Column> = Vec::new();
        for name in names {
            if columns.iter().any(|known| known.name == name) {
                continue;
            }
            let type_name = match table.relation {
                // Offline nobody knows it.
                None => "text",
                Some(relation) => {
                    let column = relation.column(&name);
                    let steady = column
                        .filter(|column| column.type_schema == "pg_catalog")
                        .and_then(|column| steady_type(&column.type_name));
                    steady.ok_or_else(|| Denial::of(DenialCode::LeakPossible, name.as_str()))?
                }
            };
            let fixed = match &table.policy.protection {
                Protection::Tenant { column, tenant_type } if *column == name => {
                    Some(guard::tenant_literal(self.env, table, column, *tenant_type)?)
                }
                Protection::Tenant { .. }
                | Protection::TenantThrough { .. }
                | Protection::Shared
                | Protection::Deny => None,
            };
            let through = matches!(&table.policy.protection,
                Protection::TenantThrough { column, .. } if *column == name);
            let refers = self.env.references(table).iter().any(|own| own.column == name);
            let demanded = fixed.is_some() || through || refers;
            columns.push(Column { name, type_name, fixed, demanded });
        }
        if mutant::on("row-unchecked") {
            return Ok(None);
        }
        let test = condition::bind(own, self.env, guard::CHECK)?;
        Ok(Some(RowCheck { test, columns }))
    }
}

impl RowCheck {
    /// Whether the condition looks at a column.
    fn holds(&self, name: &str) -> bool {
        self.columns.iter().any(|column| column.name == name)
    }

    /// Puts the test into every row of an INSERT's source.
    pub(super) fn rows(&self, body: &mut SetExpr, names: &[String]) -> Result<(), Denial> {
        match body {
            SetExpr::Values(values) => {
                values.rows.iter_mut().try_for_each(|row| self.row(&mut row.content, names))
            }
            SetExpr::Select(select) => {
                let mut row = Vec::with_capacity(select.projection.len());
                for item in &select.projection {
                    match item {
                        SelectItem::UnnamedExpr(value)
                        | SelectItem::ExprWithAlias { expr: value, .. } => row.push(value.clone()),
                        SelectItem::ExprWithAliases { .. }
                        | SelectItem::QualifiedWildcard(..)
                        | SelectItem::Wildcard(_) => {
                            return Err(Denial::of(DenialCode::LeakPossible, "INSERT … SELECT *"));
                        }
                    }
                }
                self.row(&mut row, names)?;
                for (item, written) in select.projection.iter_mut().zip(row) {
                    if let SelectItem::UnnamedExpr(value)
                    | SelectItem::ExprWithAlias { expr: value, .. } = item
                    {
                        *value = written;
                    }
                }
                Ok(())
            }
            SetExpr::SetOperation { left, right, .. } => {
                self.rows(left, names)?;
                self.rows(right, names)
            }
            SetExpr::Query(query) => self.rows(&mut query.body, names),
            SetExpr::Insert(_)
            | SetExpr::Update(_)
            | SetExpr::Delete(_)
            | SetExpr::Merge(_)
            | SetExpr::Table(_) => Err(Denial::new(DenialCode::CannotParse)),
        }
    }

    /// Puts the test into one row of values for the named columns.
    pub(super) fn row(&self, values: &mut [Expr], names: &[String]) -> Result<(), Denial> {
        let place = |name: &str| names.iter().position(|known| known == name);
        let outside = |name: &str| Denial::of(DenialCode::WriteOutsideTenant, name);
        let mut written = Vec::with_capacity(self.columns.len());
        for column in &self.columns {
            let value = match &column.fixed {
                Some(fixed) => fixed.clone(),
                // What a default gives is for the server to know.
                None => place(&column.name)
                    .and_then(|at| values.get(at))
                    .filter(|value| !super::write::is_default(value))
                    .cloned()
                    .ok_or_else(|| outside(&column.name))?,
            };
            written.push((column, value, true));
        }
        let (name, test) = self.carried(written)?;
        match place(&name).and_then(|at| values.get_mut(at)) {
            Some(carrier) => {
                *carrier = test;
                Ok(())
            }
            None => Err(outside(&name)),
        }
    }

    /// Puts the test into an UPDATE's assignments; columns that it leaves alone are those of the row
    /// that is changed, visible as `row`.
    pub(super) fn assignments(
        &self,
        assignments: &mut [Assignment],
        row: &str,
    ) -> Result<(), Denial> {
        let outside = |name: &str| Denial::of(DenialCode::WriteOutsideTenant, name);
        let mut places: Vec<(String, usize)> = Vec::new();
        for (at, assignment) in assignments.iter().enumerate() {
            match &assignment.target {
                AssignmentTarget::ColumnName(name) => {
                    let parts = name_parts(name)?;
                    let Some(first) = parts.first().filter(|name| self.holds(name)) else {
                        continue;
                    };
                    let twice = places.iter().any(|(known, _)| known == first);
                    if parts.len() > 1 || twice || super::write::is_default(&assignment.value) {
                        return Err(outside(first));
                    }
                    places.push((first.clone(), at));
                }
                AssignmentTarget::Tuple(names) => {
                    for name in names {
                        let parts = name_parts(name)?;
                        if let Some(first) = parts.first().filter(|name| self.holds(name)) {
                            return Err(outside(first));
                        }
                    }
                }
            }
        }
        let assigned = |name: &str| places.iter().find(|(known, _)| known == name);
        if !places.iter().any(|(name, _)| !self.is_fixed(name)) {
            return Ok(());
        }
        let mut written = Vec::with_capacity(self.columns.len());
        for column in &self.columns {
            let at = assigned(&column.name).map(|(_, at)| *at);
            let value = match (&column.fixed, at.and_then(|at| assignments.get(at))) {
                (Some(fixed), _) => fixed.clone(),
                (None, Some(assignment)) => assignment.value.clone(),
                (None, None) => guard::column(row, &column.name),
            };
            written.push((column, value, at.is_some()));
        }
        let (name, test) = self.carried(written)?;
        let carrier = assigned(&name).and_then(|(_, at)| assignments.get_mut(*at));
        match carrier {
            Some(assignment) => {
                assignment.value = test;
                Ok(())
            }
            None => Err(outside(&name)),
        }
    }

    fn is_fixed(&self, name: &str) -> bool {
        self.columns.iter().any(|column| column.name == name && column.fixed.is_some())
    }

    /// Which column carries the test, and its value: `(SELECT CASE WHEN test THEN v ELSE … END FROM
    /// (SELECT a::type AS a, b::type AS b OFFSET 0) c)`.
    fn carried(&self, written: Vec<(&Column, Expr, bool)>) -> Result<(String, Expr), Denial> {
        let unclear = |name: &str| Denial::of(DenialCode::LeakPossible, name);
        let may_carry = |(column, _, given): &&(&Column, Expr, bool)| *given && !column.demanded;
        let once = written.iter().filter(may_carry).find(|(_, value, _)| !is_repeatable(value));
        let first = written.iter().find(may_carry);
        let carrier = once.or(first).map(|(column, _, _)| column.name.clone());
        let carrier = carrier.ok_or_else(|| {
            unclear(self.columns.first().map_or("where", |column| column.name.as_str()))
        })?;
        let mut items = Vec::with_capacity(written.len());
        let mut test = Expr::Nested(Box::new(self.test.clone()));
        let mut type_of_carrier = "text";
        for (column, value, _) in written {
            if column.name != carrier && !is_repeatable(&value) {
                return Err(unclear(&column.name));
            }
            let looked_at = guard::column(guard::CHECK, &column.name);
            if column.type_name == "varchar" {
                // Over its length, storing cuts blanks off: what is stored would not be what is tested.
                let blank = Expr::Like {
                    negated: false,
                    any: false,
                    expr: Box::new(looked_at),
                    pattern: Box::new(guard::string("% ")),
                    escape_char: None,
                };
                let refused = Expr::IsTrue(Box::new(Expr::Nested(Box::new(blank))));
                test = guard::case(refused, Expr::Value(Value::Boolean(false).into()), test);
            }
            let expr = guard::cast(Expr::Nested(Box::new(value)), column.type_name);
            if column.name == carrier {
                type_of_carrier = column.type_name;
            }
            items.push(SelectItem::ExprWithAlias { expr, alias: guard::ident(&column.name) });
        }
        Ok((carrier.clone(), guard::checked_row(items, &carrier, test, type_of_carrier)))
    }
}

/// Whether an expression gives the same value where it stands twice in a row.
fn is_repeatable(value: &Expr) -> bool {
    match value {
        Expr::Value(_)
        | Expr::Identifier(_)
        | Expr::CompoundIdentifier(_)
        | Expr::TypedString(_) => true,
        Expr::Nested(inner)
        | Expr::Cast { expr: inner, .. }
        | Expr::UnaryOp { op: UnaryOperator::Minus, expr: inner } => is_repeatable(inner),
        _ => false,
    }
}
