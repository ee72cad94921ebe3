//! Guards: the condition that binds a table's rows to the tenant, and the derived table that holds it.
//! Pure.

use sqlparser::ast::{BinaryOperator, Expr, Query, SetExpr, TableFactor, TableWithJoins};

use super::carry::carrier_of;
use super::dialect::parser;
use super::expression::{policy_expression, tenant_literal};
use super::factor::{parent_name, quoted};
use super::names::{Binding, path};
use super::rewrite::{Rewriter, form};
use crate::error::{Denial, DenialCode};
use crate::mutant;
use crate::policy::{ColumnRule, Protection, TablePolicy};

/// The name of a wildcard table below its guard.
const GUARDED: &str = "hedgerow_rows";

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
        // Every column is named with its table: else one that the table lacks might be the client's own,
        // of a query around or a variable of the script.
        let last = path(name)?.pop().unwrap_or_default();
        let wildcard = last.ends_with('*');
        if wildcard && version.is_some() {
            return Err(form("a time of a wildcard table"));
        }
        let variable = if wildcard { GUARDED } else { last.as_str() };
        let alias = if wildcard { format!(" AS {GUARDED}") } else { String::new() };
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
                        let mask = policy_expression(&expression.text, self.env, variable)?;
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
            "SELECT *{}{} FROM {name}{alias} WHERE {}",
            list("EXCEPT", &except),
            list("REPLACE", &replace),
            self.whole_guard(rule, variable)?,
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
            select.projection.push(carrier_of(&self.whole_guard(rule, variable)?.to_string())?);
        }
        Ok(*query)
    }

    /// The condition that binds a table's rows to the tenant.
    pub fn guard(&self, rule: &TablePolicy, variable: &str) -> Result<Expr, Denial> {
        let text = self.tenant_condition(rule, variable, 0)?;
        parser(&text)?.parse_expr().map_err(|_| Denial::new(DenialCode::Internal))
    }

    /// The same with the policy's own condition, which is not repeated elsewhere.
    fn whole_guard(&self, rule: &TablePolicy, variable: &str) -> Result<Expr, Denial> {
        let Some(condition) = rule.condition.as_ref().filter(|_| !mutant::on("bq-where")) else {
            return self.guard(rule, variable);
        };
        let condition = policy_expression(&condition.text, self.env, variable)?;
        let text = format!("{} AND ({condition})", self.tenant_condition(rule, variable, 0)?);
        parser(&text)?.parse_expr().map_err(|_| Denial::new(DenialCode::Internal))
    }

    /// The whole condition for a table that is written, or whose guard stands in WHERE.
    pub fn full_guard(&self, rule: &TablePolicy, variable: &str) -> Result<Expr, Denial> {
        if rule.condition.is_some() {
            return Err(form("a condition of the policy on a written table"));
        }
        self.guard(rule, variable)
    }

    fn tenant_condition(
        &self,
        rule: &TablePolicy,
        variable: &str,
        depth: usize,
    ) -> Result<String, Denial> {
        let qualified = |column: &str| format!("{}.{}", quoted(variable), quoted(column));
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
                    Binding::Tenants(rule) => {
                        let key = format!("{}.{}", quoted(&name.table), quoted(parent_column));
                        let own = self.tenant_condition(&rule, &name.table, depth + 1)?;
                        if mutant::on("bq-parent-key") {
                            let from = name.quoted();
                            let column = qualified(column);
                            return Ok(format!(
                                "{column} IN (SELECT {key} FROM {from} WHERE {own})"
                            ));
                        }
                        // SECURITY: no key is unique here. One that another tenant's row has as well, because
                        // somebody wrote it so, would open that tenant's rows.
                        Ok(format!(
                            "{} IN (SELECT {key} FROM {} WHERE {key} IS NOT NULL GROUP BY {key} \
                             HAVING COUNTIF({own}) = COUNT(*))",
                            qualified(column),
                            name.quoted(),
                        ))
                    }
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
