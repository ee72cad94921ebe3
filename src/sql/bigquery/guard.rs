//! Guards: the condition that binds a table's rows to the tenant, and the derived table that holds it.
//! Pure.

use sqlparser::ast::{BinaryOperator, Expr, Query, SetExpr, TableFactor, TableWithJoins};

use super::carry::carrier_of;
use super::dialect::parser;
use super::expression::{policy_expression, tenant_literal};
use super::names::Binding;
use super::rewrite::{Rewriter, form, parent_name, quoted};
use crate::error::{Denial, DenialCode};
use crate::mutant;
use crate::policy::{ColumnRule, Protection, TablePolicy};

impl Rewriter<'_> {
    /// `SELECT * FROM table WHERE guard`, with the client's FOR SYSTEM_TIME and TABLESAMPLE. With a
    /// carrier, the guard is a column as well.
    pub fn guarded_select(
        &self,
        rule: &TablePolicy,
        table: &TableFactor,
        carries: bool,
    ) -> Result<Query, Denial> {
        let TableFactor::Table { name, version, sample, .. } = table else {
            return Err(form("from"));
        };
        let mut except = Vec::new();
        let mut replace = Vec::new();
        for (column, column_rule) in &rule.columns {
            match column_rule {
                ColumnRule::Deny if mutant::on("bq-column") => {}
                ColumnRule::Deny => except.push(quoted(column)),
                ColumnRule::Mask { expression, unless } => {
                    let open = unless
                        .as_ref()
                        .is_some_and(|unless| unless.holds(&self.env.principal.claims));
                    if !open {
                        let mask = policy_expression(&expression.text, self.env)?;
                        replace.push(format!("({mask}) AS {}", quoted(column)));
                    }
                }
            }
        }
        let list = |word: &str, items: &[String]| match items {
            [] => String::new(),
            items => format!(" {word} ({})", items.join(", ")),
        };
        let text = format!(
            "SELECT *{}{} FROM {name} WHERE {}",
            list("EXCEPT", &except),
            list("REPLACE", &replace),
            self.guard(rule, None)?,
        );
        let mut query =
            parser(&text)?.parse_query().map_err(|_| Denial::new(DenialCode::Internal))?;
        let SetExpr::Select(select) = query.body.as_mut() else {
            return Err(Denial::new(DenialCode::Internal));
        };
        let [TableWithJoins { relation: TableFactor::Table { version: v, sample: s, .. }, .. }] =
            select.from.as_mut_slice()
        else {
            return Err(Denial::new(DenialCode::Internal));
        };
        v.clone_from(version);
        s.clone_from(sample);
        if carries {
            select.projection.push(carrier_of(&self.guard(rule, None)?.to_string())?);
        }
        Ok(*query)
    }

    /// The condition that binds a table's rows to the tenant, its columns qualified if asked.
    pub fn guard(&self, rule: &TablePolicy, variable: Option<&str>) -> Result<Expr, Denial> {
        let mut text = self.tenant_condition(rule, variable, 0)?;
        if let Some(condition) = &rule.condition {
            if variable.is_some() || mutant::on("bq-where") {
                // The policy's own columns would need the qualifier: only the tenant is repeated.
            } else {
                let condition = policy_expression(&condition.text, self.env)?;
                text = format!("{text} AND ({condition})");
            }
        }
        parser(&text)?.parse_expr().map_err(|_| Denial::new(DenialCode::Internal))
    }

    /// The whole condition for a table that is written, or whose guard stands in WHERE.
    pub fn full_guard(&self, rule: &TablePolicy, variable: &str) -> Result<Expr, Denial> {
        if rule.condition.is_some() {
            return Err(form("a condition of the policy on a written table"));
        }
        self.guard(rule, Some(variable))
    }

    fn tenant_condition(
        &self,
        rule: &TablePolicy,
        variable: Option<&str>,
        depth: usize,
    ) -> Result<String, Denial> {
        let qualified = |column: &str| match variable {
            Some(variable) => format!("{}.{}", quoted(variable), quoted(column)),
            None => quoted(column),
        };
        match &rule.protection {
            Protection::Tenant { .. } if mutant::on("bq-guard") => Ok("TRUE".to_owned()),
            Protection::Tenant { column, tenant_type } => {
                Ok(format!("{} = {}", qualified(column), tenant_literal(self.env, *tenant_type)?))
            }
            Protection::TenantThrough { column, parent, parent_column }
                if depth <= crate::policy::load::MAX_TENANT_THROUGH =>
            {
                let name = parent_name(&parent.schema, &parent.name)?;
                match self.env.bind(&name)? {
                    Binding::Tenants(rule) => Ok(format!(
                        "{} IN (SELECT {} FROM {} WHERE {})",
                        qualified(column),
                        quoted(parent_column),
                        name.quoted(),
                        self.tenant_condition(&rule, None, depth + 1)?,
                    )),
                    Binding::Shared(_) | Binding::SecureContext(_) | Binding::Own => {
                        Err(Denial::new(DenialCode::Internal))
                    }
                }
            }
            Protection::TenantThrough { .. } | Protection::Shared | Protection::Deny => {
                Err(Denial::new(DenialCode::Internal))
            }
        }
    }

    /// Whether no column of the table is closed to the caller.
    pub fn open_columns(&self, rule: &TablePolicy) -> bool {
        rule.columns.values().all(|column| match column {
            ColumnRule::Deny => false,
            ColumnRule::Mask { unless, .. } => {
                unless.as_ref().is_some_and(|unless| unless.holds(&self.env.principal.claims))
            }
        })
    }

    /// Whether the guarded form of the table hands on the tenant column as it is.
    pub fn sees_tenant(&self, rule: &TablePolicy) -> bool {
        match &rule.protection {
            Protection::Tenant { column, .. } => !rule.columns.contains_key(column),
            Protection::TenantThrough { .. } | Protection::Shared | Protection::Deny => false,
        }
    }
}

/// `guard AND (client)`.
pub fn conjunction(guard: Expr, client: Option<Expr>) -> Expr {
    match client {
        None => guard,
        Some(client) => Expr::BinaryOp {
            left: Box::new(guard),
            op: BinaryOperator::And,
            right: Box::new(Expr::Nested(Box::new(client))),
        },
    }
}
