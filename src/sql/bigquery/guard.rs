//! Guards: the condition that binds a table's rows to the tenant, the derived table that holds it,
//! and the shield of conditions that might raise an error. Pure.

use sqlparser::ast::{
    BinaryOperator, Expr, FunctionArg, FunctionArguments, Query, SetExpr, TableFactor,
    TableWithJoins,
};

use super::dialect::parser;
use super::expression::{policy_expression, tenant_literal};
use super::functions;
use super::names::Binding;
use super::rewrite::{Rewriter, form, parent_name, quoted};
use crate::error::{Denial, DenialCode};
use crate::policy::{ColumnRule, Protection, TablePolicy};

impl Rewriter<'_> {
    /// `SELECT * FROM table WHERE guard`, with the client's FOR SYSTEM_TIME and TABLESAMPLE.
    pub fn guarded_select(&self, rule: &TablePolicy, table: &TableFactor) -> Result<Query, Denial> {
        let TableFactor::Table { name, version, sample, .. } = table else {
            return Err(form("from"));
        };
        let mut except = Vec::new();
        let mut replace = Vec::new();
        for (column, column_rule) in &rule.columns {
            match column_rule {
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
        Ok(*query)
    }

    /// The condition that binds a table's rows to the tenant, its columns qualified if asked.
    pub fn guard(&self, rule: &TablePolicy, variable: Option<&str>) -> Result<Expr, Denial> {
        let mut text = self.tenant_condition(rule, variable, 0)?;
        if let Some(condition) = &rule.condition {
            if variable.is_some() {
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

/// The tables of one level of FROM.
#[derive(Default)]
pub struct Level {
    /// The tenant's condition on each guarded table of the level.
    pub guards: Vec<Expr>,
    /// Whether a join of the level makes rows of nulls.
    pub outer: bool,
    /// A guard that goes into the level's WHERE.
    pub where_guard: Option<Expr>,
}

impl Level {
    /// Shields what may raise an error: BigQuery may evaluate a condition before the one in the
    /// derived table.
    pub fn shield(&self, condition: Expr) -> Result<Expr, Denial> {
        if self.guards.is_empty() {
            return Ok(condition);
        }
        let guard = self.guards.iter().map(|guard| {
            if self.outer { format!("COALESCE({guard}, TRUE)") } else { guard.to_string() }
        });
        shield(condition, &guard.collect::<Vec<_>>().join(" AND "))
    }
}

/// Puts every conjunct that may raise an error behind the guard.
pub fn shield(condition: Expr, guard: &str) -> Result<Expr, Denial> {
    match condition {
        Expr::BinaryOp { left, op: BinaryOperator::And, right } => Ok(Expr::BinaryOp {
            left: Box::new(shield(*left, guard)?),
            op: BinaryOperator::And,
            right: Box::new(shield(*right, guard)?),
        }),
        total if functions::is_total(&total) => Ok(total),
        other => {
            let mut shielded = parser(&format!("IF({guard}, TRUE, FALSE)"))?
                .parse_expr()
                .map_err(|_| Denial::new(DenialCode::Internal))?;
            let internal = || Denial::new(DenialCode::Internal);
            let Expr::Function(function) = &mut shielded else { return Err(internal()) };
            let FunctionArguments::List(list) = &mut function.args else { return Err(internal()) };
            let Some(FunctionArg::Unnamed(slot)) = list.args.get_mut(1) else {
                return Err(internal());
            };
            *slot = sqlparser::ast::FunctionArgExpr::Expr(other);
            Ok(shielded)
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
