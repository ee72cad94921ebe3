//! Rows that come in: the tenant stands in each, or what the client wrote there is compared with it. Pure.

use sqlparser::ast::{
    BinaryOperator, Expr, ObjectName, Query, SelectItem, SetExpr, TableFactor, TableWithJoins,
};

use super::shape::{empty, if_arguments, place_of};
use super::{Strip, unguarded};
use crate::error::Denial;
use crate::policy::{Protection, TablePolicy, TenantType};

impl Strip<'_> {
    /// Rows that come in: the tenant column is named, and each row holds the tenant there.
    pub(super) fn filled(
        &mut self,
        rule: &TablePolicy,
        columns: &mut Vec<ObjectName>,
        source: &mut Query,
    ) -> Result<(), Denial> {
        let missing = || unguarded("an insert without the tenant");
        if rule.condition.is_some() {
            return Err(missing());
        }
        if let SetExpr::Values(values) = source.body.as_mut() {
            let rows = values.rows.iter_mut().map(|row| &mut row.content).collect();
            return self.filled_rows(rule, columns, rows);
        }
        let Protection::Tenant { column, tenant_type } = &rule.protection else {
            return Err(missing());
        };
        let place = place_of(columns, column)?.ok_or_else(missing)?;
        let SetExpr::Select(select) = source.body.as_mut() else { return Err(missing()) };
        // `SELECT *, tenant FROM (client)`: the tenant is the last column.
        let wrapped = matches!(
            select.projection.as_slice(),
            [SelectItem::Wildcard(_), SelectItem::UnnamedExpr(last)]
                if place + 1 == columns.len() && self.is_tenant(last, *tenant_type)
        );
        if wrapped {
            let expected = {
                let [
                    TableWithJoins {
                        relation: TableFactor::Derived { subquery, alias: None, .. },
                        ..
                    },
                ] = select.from.as_slice()
                else {
                    return Err(missing());
                };
                let Some(SelectItem::UnnamedExpr(last)) = select.projection.last() else {
                    return Err(missing());
                };
                format!("SELECT *, {last} FROM ({subquery})")
            };
            if expected != source.to_string() {
                return Err(missing());
            }
            let SetExpr::Select(select) = source.body.as_mut() else { return Err(missing()) };
            let Some(TableWithJoins { relation: TableFactor::Derived { subquery, .. }, .. }) =
                select.from.first_mut()
            else {
                return Err(missing());
            };
            let client = std::mem::replace(subquery.as_mut(), empty());
            *source = client;
            columns.pop();
            return Ok(());
        }
        if !source.pipe_operators.is_empty() {
            return Err(missing());
        }
        let SetExpr::Select(select) = source.body.as_mut() else { return Err(missing()) };
        let star = |item: &SelectItem| {
            matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..))
        };
        if select.projection.len() != columns.len() || select.projection.iter().any(star) {
            return Err(missing());
        }
        match select.projection.get_mut(place) {
            Some(
                SelectItem::UnnamedExpr(value) | SelectItem::ExprWithAlias { expr: value, .. },
            ) => self.take_check(value, *tenant_type),
            _ => Err(missing()),
        }
    }

    pub(super) fn filled_rows(
        &self,
        rule: &TablePolicy,
        columns: &mut Vec<ObjectName>,
        mut rows: Vec<&mut Vec<Expr>>,
    ) -> Result<(), Denial> {
        let missing = || unguarded("an insert without the tenant");
        let Protection::Tenant { column, tenant_type } = &rule.protection else {
            return Err(missing());
        };
        let place = place_of(columns, column)?.ok_or_else(missing)?;
        for row in &mut rows {
            if row.len() != columns.len() {
                return Err(missing());
            }
            let value = row.get_mut(place).ok_or_else(missing)?;
            self.take_check(value, *tenant_type)?;
        }
        // A tenant that stands last may be ours; the client's text says whether it is.
        if place + 1 == columns.len()
            && rows.iter().all(|row| row.last().is_some_and(|v| self.is_tenant(v, *tenant_type)))
        {
            columns.pop();
            for row in rows {
                row.pop();
            }
        }
        Ok(())
    }

    /// The tenant's literal, or `IF((client) = tenant, tenant, ERROR(…))`, which becomes the client's
    /// value.
    fn take_check(&self, value: &mut Expr, tenant_type: TenantType) -> Result<(), Denial> {
        if self.is_tenant(value, tenant_type) {
            return Ok(());
        }
        let missing = || unguarded("an insert without the tenant");
        let Some([condition, then, otherwise]) = if_arguments(value) else {
            return Err(missing());
        };
        if !self.is_tenant(then, tenant_type)
            || otherwise.to_string() != format!("ERROR('{}')", super::super::WRITE_OUTSIDE)
        {
            return Err(missing());
        }
        let Expr::BinaryOp { left, op: BinaryOperator::Eq, right } = condition else {
            return Err(missing());
        };
        let Expr::Nested(client) = left.as_mut() else { return Err(missing()) };
        if !self.is_tenant(right, tenant_type) {
            return Err(missing());
        }
        let client = std::mem::replace(client.as_mut(), Expr::Tuple(Vec::new()));
        *value = client;
        Ok(())
    }
}
