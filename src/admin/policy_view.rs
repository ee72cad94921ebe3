//! What `/debug/policy` shows of a policy: which rule holds for which relation. Layer 5.
//!
//! Left out on purpose: the text of conditions and masks (they may hold literals); the answer says
//! that there is one and where it stands.

use std::collections::BTreeMap;
use std::fmt::Write as _;

use serde::Serialize;

use crate::claims::ClaimPath;
use crate::policy::{
    Access, ClaimRule, ColumnRule, Mode, Policy, Protection, Quota, TablePolicy, TenantType,
};

/// A policy as JSON.
#[derive(Serialize)]
pub(super) struct PolicyView {
    engine: &'static str,
    epoch: u64,
    tables: Vec<TableView>,
    patterns: Vec<TableView>,
    functions: Vec<String>,
    ddl: Option<ClaimView>,
    break_glass: Option<BreakGlassView>,
    quotas: Vec<QuotaView>,
}

#[derive(Serialize)]
struct TableView {
    relation: String,
    rule: String,
    at: String,
    protection: ProtectionView,
    access: Vec<&'static str>,
    mode: &'static str,
    has_condition: bool,
    #[serde(skip_serializing_if = "BTreeMap::is_empty")]
    columns: BTreeMap<String, &'static str>,
}

#[derive(Serialize)]
#[serde(tag = "kind", rename_all = "snake_case")]
enum ProtectionView {
    Tenant { column: String, r#type: &'static str },
    TenantThrough { column: String, parent: String, parent_column: String },
    Shared,
    Deny,
}

#[derive(Serialize)]
struct ClaimView {
    claim: String,
    r#in: Vec<String>,
}

#[derive(Serialize)]
struct BreakGlassView {
    #[serde(flatten)]
    rule: ClaimView,
    max_lifetime_seconds: u64,
}

#[derive(Serialize)]
struct QuotaView {
    tenant: String,
    #[serde(skip_serializing_if = "Option::is_none")]
    statements_per_second: Option<f64>,
    #[serde(skip_serializing_if = "Option::is_none")]
    burst: Option<u32>,
    #[serde(skip_serializing_if = "Option::is_none")]
    concurrent: Option<u32>,
    mode: &'static str,
}

impl PolicyView {
    /// The view: exact entries by name, patterns in the order in which they are tried.
    pub(super) fn of(policy: &Policy) -> Self {
        let mut tables: Vec<TableView> = policy
            .tables
            .iter()
            .map(|(relation, table)| TableView::of(relation.to_string(), table))
            .collect();
        tables.sort_by(|left, right| left.relation.cmp(&right.relation));
        Self {
            engine: "postgres",
            epoch: policy.epoch.0,
            tables,
            patterns: policy
                .patterns
                .iter()
                .map(|(pattern, table)| {
                    TableView::of(format!("{}.{}", pattern.schema, pattern.name), table)
                })
                .collect(),
            functions: policy
                .functions
                .iter()
                .map(|(schema, name)| format!("{schema}.{name}"))
                .collect(),
            ddl: policy.ddl.as_ref().map(ClaimView::of),
            break_glass: policy.break_glass.as_ref().map(|break_glass| BreakGlassView {
                rule: ClaimView::of(&break_glass.rule),
                max_lifetime_seconds: break_glass.max_lifetime_seconds,
            }),
            quotas: policy.quotas.iter().map(QuotaView::of).collect(),
        }
    }
}

impl TableView {
    fn of(relation: String, table: &TablePolicy) -> Self {
        Self {
            relation,
            rule: table.rule.to_string(),
            at: table.at.to_string(),
            protection: ProtectionView::of(&table.protection),
            access: access_words(table.access),
            mode: mode_word(table.mode),
            has_condition: table.condition.is_some(),
            columns: table
                .columns
                .iter()
                .map(|(column, rule)| {
                    let word = match rule {
                        ColumnRule::Deny => "deny",
                        ColumnRule::Mask { .. } => "mask",
                    };
                    (column.clone(), word)
                })
                .collect(),
        }
    }
}

impl ProtectionView {
    fn of(protection: &Protection) -> Self {
        match protection {
            Protection::Tenant { column, tenant_type } => Self::Tenant {
                column: column.clone(),
                r#type: match tenant_type {
                    TenantType::Uuid => "uuid",
                    TenantType::Text => "text",
                    TenantType::Int => "int",
                },
            },
            Protection::TenantThrough { column, parent, parent_column } => Self::TenantThrough {
                column: column.clone(),
                parent: parent.to_string(),
                parent_column: parent_column.clone(),
            },
            Protection::Shared => Self::Shared,
            Protection::Deny => Self::Deny,
        }
    }
}

impl ClaimView {
    fn of(rule: &ClaimRule) -> Self {
        Self { claim: claim_path(&rule.claim), r#in: rule.accepted.iter().cloned().collect() }
    }
}

impl QuotaView {
    fn of(quota: &Quota) -> Self {
        let Quota { tenant, statements_per_second, burst, concurrent, mode } = quota;
        Self {
            tenant: tenant.clone().unwrap_or_else(|| "*".to_owned()),
            statements_per_second: *statements_per_second,
            burst: *burst,
            concurrent: *concurrent,
            mode: mode_word(*mode),
        }
    }
}

const fn mode_word(mode: Mode) -> &'static str {
    match mode {
        Mode::Enforce => "enforce",
        Mode::Monitor => "monitor",
    }
}

fn access_words(access: Access) -> Vec<&'static str> {
    let Access { select, insert, update, delete } = access;
    [(select, "select"), (insert, "insert"), (update, "update"), (delete, "delete")]
        .into_iter()
        .filter_map(|(granted, word)| granted.then_some(word))
        .collect()
}

/// The path as the policy file spells it: segments that hold a dot stand in quotes.
fn claim_path(path: &ClaimPath) -> String {
    let mut text = String::new();
    for (index, segment) in path.segments().iter().enumerate() {
        let dot = if index == 0 { "" } else { "." };
        let quote = if segment.contains('.') { "\"" } else { "" };
        // Writing to a String cannot fail.
        let _ = write!(text, "{dot}{quote}{segment}{quote}");
    }
    text
}
