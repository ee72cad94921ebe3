//! What the live schema says about how well the policies are backed: the posture report. Layer 4,
//! pure.
//!
//! Reads a [`Catalog`] and a [`Policy`], asks nobody. A finding is advice to the operator; no
//! decision depends on it.

use std::collections::BTreeSet;
use std::fmt;

use crate::catalog::{Catalog, Relation, RelationKind};
use crate::ids::{QuotedIdent, RelationName};
use crate::policy::{Policy, Protection, TablePolicy, TenantType};

/// The oldest server version that is tested against.
const OLDEST_SERVER: u32 = 150_000;

/// What kind of weakness it is. Its name is public interface: scripts filter by it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum FindingKind {
    /// The upstream role is a superuser.
    RoleSuperuser,
    /// The upstream role has BYPASSRLS.
    RoleBypassRls,
    /// The upstream role owns a protected table.
    RoleOwner,
    /// A server older than those that are tested.
    ServerVersion,
    /// A protected table without row-level security.
    RlsMissing,
    /// Row-level security does not bind the table's owner.
    RlsNotForced,
    /// A policy names a table that does not exist.
    TableMissing,
    /// A policy names a column that does not exist.
    ColumnMissing,
    /// The tenant column may be NULL.
    TenantNullable,
    /// The tenant column has another type than the policy says.
    TenantType,
    /// A table or view that no policy names: denied.
    NoPolicy,
    /// A unique key without the tenant: a violation tells of another tenant's row.
    UniqueAcrossTenants,
    /// A foreign key without the tenant: it may lead to another tenant's row.
    ForeignKeyAcrossTenants,
    /// A function that runs with its owner's rights.
    SecurityDefiner,
    /// A view that reads protected tables with its owner's rights.
    ViewHidesTable,
}

impl FindingKind {
    /// Its name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::RoleSuperuser => "role-superuser",
            Self::RoleBypassRls => "role-bypassrls",
            Self::RoleOwner => "role-owner",
            Self::ServerVersion => "server-version",
            Self::RlsMissing => "rls-missing",
            Self::RlsNotForced => "rls-not-forced",
            Self::TableMissing => "table-missing",
            Self::ColumnMissing => "column-missing",
            Self::TenantNullable => "tenant-nullable",
            Self::TenantType => "tenant-type",
            Self::NoPolicy => "no-policy",
            Self::UniqueAcrossTenants => "unique-across-tenants",
            Self::ForeignKeyAcrossTenants => "foreign-key-across-tenants",
            Self::SecurityDefiner => "security-definer",
            Self::ViewHidesTable => "view-hides-table",
        }
    }

    /// Whether `postgres.require_rls` must refuse to start because of it: row-level security would
    /// not hold.
    pub const fn breaks_rls(self) -> bool {
        match self {
            Self::RoleSuperuser | Self::RoleBypassRls | Self::RlsMissing | Self::RlsNotForced => {
                true
            }
            Self::RoleOwner
            | Self::ServerVersion
            | Self::TableMissing
            | Self::ColumnMissing
            | Self::TenantNullable
            | Self::TenantType
            | Self::NoPolicy
            | Self::UniqueAcrossTenants
            | Self::ForeignKeyAcrossTenants
            | Self::SecurityDefiner
            | Self::ViewHidesTable => false,
        }
    }
}

/// One weakness.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// What kind.
    pub kind: FindingKind,
    /// What it is about, as SQL would name it.
    pub object: String,
    /// What it means and what to do, in plain words.
    pub advice: String,
}

impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{:<27} {}: {}", self.kind.name(), self.object, self.advice)
    }
}

/// The rule that protects a relation: its own, or, for a partition that no policy names, the one of
/// the table that it is a partition of.
pub fn effective_policy<'a>(
    catalog: &Catalog,
    policy: &'a Policy,
    relation: &Relation,
) -> Option<&'a TablePolicy> {
    if let Some(rule) = policy.table(&relation.relation_name()) {
        return Some(rule);
    }
    let mut seen = BTreeSet::from([relation.relation_name()]);
    let mut ancestors: Vec<&(String, String)> = relation.parents.iter().collect();
    while let Some((schema, name)) = ancestors.pop() {
        let parent = RelationName::new(schema, name);
        if let Some(rule) = policy.table(&parent) {
            return Some(rule);
        }
        if seen.insert(parent.clone())
            && let Some(relation) = catalog.relation(&parent)
        {
            ancestors.extend(&relation.parents);
        }
    }
    None
}

/// Whether rows of the relation belong to tenants, so that row-level security should hold on it.
pub const fn is_protected(rule: &TablePolicy) -> bool {
    match rule.protection {
        Protection::Tenant { .. } | Protection::TenantThrough { .. } => true,
        Protection::Shared | Protection::Deny => false,
    }
}

/// Every weakness that the schema shows, in a stable order.
pub fn posture(catalog: &Catalog, policy: &Policy) -> Vec<Finding> {
    let mut report = Report { catalog, policy, findings: Vec::new() };
    report.role();
    for name in policy.tables.keys().filter(|name| catalog.relation(name).is_none()) {
        report.add(
            FindingKind::TableMissing,
            name,
            "a policy names it, the database does not have it; check the spelling",
        );
    }
    for relation in catalog.relations.values() {
        match effective_policy(catalog, policy, relation) {
            Some(rule) => report.relation(relation, rule),
            None if relation.kind == RelationKind::Sequence => {}
            None => report.add(
                FindingKind::NoPolicy,
                &relation.relation_name(),
                "no policy names it, so it is denied; add it as tenant, shared or deny",
            ),
        }
    }
    report.views();
    report.functions();
    let mut findings = report.findings;
    findings.sort();
    findings.dedup();
    findings
}

struct Report<'a> {
    catalog: &'a Catalog,
    policy: &'a Policy,
    findings: Vec<Finding>,
}

impl Report<'_> {
    fn add(&mut self, kind: FindingKind, object: &dyn fmt::Display, advice: impl Into<String>) {
        self.findings.push(Finding { kind, object: object.to_string(), advice: advice.into() });
    }

    fn role(&mut self) {
        let role = QuotedIdent(&self.catalog.role).to_string();
        if self.catalog.posture.superuser {
            self.add(
                FindingKind::RoleSuperuser,
                &role,
                "the upstream role is a superuser, row-level security does not bind it; \
                 sign in as an ordinary role",
            );
        }
        if self.catalog.posture.bypass_rls {
            self.add(
                FindingKind::RoleBypassRls,
                &role,
                "the upstream role has BYPASSRLS; ALTER ROLE … NOBYPASSRLS",
            );
        }
        let version = self.catalog.server_version;
        if version != 0 && version < OLDEST_SERVER {
            self.add(
                FindingKind::ServerVersion,
                &format!("PostgreSQL {}.{}", version / 10_000, version % 100),
                "older than 15, the oldest version that Hedgerow is tested with",
            );
        }
    }

    fn relation(&mut self, relation: &Relation, rule: &TablePolicy) {
        let name = relation.relation_name();
        for column in rule.columns.keys().filter(|column| relation.column(column).is_none()) {
            self.add(
                FindingKind::ColumnMissing,
                &column_of(relation, column),
                "a column rule names it, the table does not have it",
            );
        }
        match &rule.protection {
            Protection::Shared | Protection::Deny => return,
            // A partition has its columns and keys from its table: said there, once.
            Protection::Tenant { .. } | Protection::TenantThrough { .. }
                if self.policy.table(&name).is_none() => {}
            Protection::Tenant { column, tenant_type } => {
                self.tenant_column(relation, column, *tenant_type);
                self.keys(relation, column);
            }
            Protection::TenantThrough { column, .. } => self.link_column(relation, column),
        }
        let is_table =
            matches!(relation.kind, RelationKind::Table | RelationKind::PartitionedTable);
        if is_table && !relation.rls_enabled {
            self.add(
                FindingKind::RlsMissing,
                &name,
                "no row-level security beneath the rewrite; run hedgerow rls",
            );
        } else if is_table && !relation.rls_forced {
            self.add(
                FindingKind::RlsNotForced,
                &name,
                "row-level security does not bind its owner; run hedgerow rls",
            );
        }
        // A superuser counts as a member of every role: said once is enough.
        let posture = &self.catalog.posture;
        if is_table && !posture.superuser && posture.member_of.contains(&relation.owner) {
            self.add(
                FindingKind::RoleOwner,
                &name,
                "the upstream role owns it and could switch row-level security off; \
                 give it to another role",
            );
        }
    }

    fn tenant_column(&mut self, relation: &Relation, column: &str, tenant_type: TenantType) {
        let object = column_of(relation, column);
        let Some(found) = relation.column(column) else {
            return self.add(
                FindingKind::ColumnMissing,
                &object,
                "the policy's tenant column does not exist; every statement on it is denied",
            );
        };
        let is_view = matches!(relation.kind, RelationKind::View | RelationKind::MaterializedView);
        if !found.not_null && !is_view {
            self.add(
                FindingKind::TenantNullable,
                &object,
                "rows without a tenant belong to nobody; ALTER COLUMN … SET NOT NULL",
            );
        }
        let (expected, accepted): (_, &[&str]) = match tenant_type {
            TenantType::Uuid => ("uuid", &["uuid"]),
            TenantType::Text => ("text", &["text", "varchar", "bpchar"]),
            TenantType::Int => ("int", &["int2", "int4", "int8"]),
        };
        if found.type_schema != "pg_catalog" || !accepted.contains(&found.type_name.as_str()) {
            let advice = format!("the policy says {expected}, the column is {}", found.type_name);
            self.add(FindingKind::TenantType, &object, advice);
        }
    }

    fn link_column(&mut self, relation: &Relation, column: &str) {
        if relation.column(column).is_none() {
            self.add(
                FindingKind::ColumnMissing,
                &column_of(relation, column),
                "the policy's tenant_through column does not exist; every statement on the table \
                 is denied",
            );
        }
    }

    fn keys(&mut self, relation: &Relation, tenant: &str) {
        let name = relation.relation_name();
        let holds = |columns: &[String]| columns.iter().any(|column| column == tenant);
        for key in relation.unique_keys.iter().filter(|key| !holds(key)) {
            let advice = format!(
                "the unique key ({}) does not hold {}: a violation tells that another tenant has \
                 the value",
                key.join(", "),
                QuotedIdent(tenant)
            );
            self.add(FindingKind::UniqueAcrossTenants, &name, advice);
        }
        // Keys that nobody can guess or that the database gives out tell nothing.
        if !relation.primary_key.is_empty()
            && !holds(&relation.primary_key)
            && !relation.primary_key.iter().all(|column| is_surrogate(relation, column))
        {
            let advice = format!(
                "the primary key ({}) does not hold {}: a violation tells that another tenant has \
                 the value",
                relation.primary_key.join(", "),
                QuotedIdent(tenant)
            );
            self.add(FindingKind::UniqueAcrossTenants, &name, advice);
        }
        for (schema, table, index) in &self.catalog.posture.special_unique_indexes {
            if *schema == relation.schema && *table == relation.name {
                let advice = format!(
                    "the unique index {} has expressions or a condition: check that it cannot \
                     cross tenants",
                    QuotedIdent(index)
                );
                self.findings.push(Finding {
                    kind: FindingKind::UniqueAcrossTenants,
                    object: name.to_string(),
                    advice,
                });
            }
        }
        for key in relation.foreign_keys.iter().filter(|key| !holds(&key.columns)) {
            let parent = RelationName::new(&key.parent_schema, &key.parent_name);
            if self.policy.table(&parent).is_some_and(|rule| is_protected(rule)) {
                let advice = format!(
                    "the foreign key ({}) to {parent} does not hold {}: it may lead to another \
                     tenant's row",
                    key.columns.join(", "),
                    QuotedIdent(tenant)
                );
                self.add(FindingKind::ForeignKeyAcrossTenants, &name, advice);
            }
        }
    }

    fn views(&mut self) {
        for (schema, view, source_schema, source) in &self.catalog.posture.view_sources {
            let (view, source) =
                (RelationName::new(schema, view), RelationName::new(source_schema, source));
            let Some(relation) = self.catalog.relation(&view) else { continue };
            let invoker = relation.kind == RelationKind::View && relation.security_invoker;
            let Some(read) = self.catalog.relation(&source) else { continue };
            let hides = effective_policy(self.catalog, self.policy, read)
                .is_none_or(|rule| !matches!(rule.protection, Protection::Shared));
            let guarded = self.policy.table(&view).is_some_and(|rule| match rule.protection {
                Protection::Tenant { .. } | Protection::TenantThrough { .. } | Protection::Deny => {
                    true
                }
                Protection::Shared => false,
            });
            if hides && !invoker && !guarded {
                let advice = format!(
                    "it reads {source} with its owner's rights and has no tenant policy of its \
                     own; give it one, or make it security_invoker"
                );
                self.findings.push(Finding {
                    kind: FindingKind::ViewHidesTable,
                    object: view.to_string(),
                    advice,
                });
            }
        }
    }

    fn functions(&mut self) {
        let functions = self.catalog.functions.iter();
        for function in functions.filter(|function| function.security_definer) {
            let name = RelationName::new(&function.schema, &function.name);
            let allowed =
                self.policy.functions.contains(&(function.schema.clone(), function.name.clone()));
            let advice = if allowed {
                "runs with its owner's rights, and the policy allows it: read it with care"
            } else {
                "runs with its owner's rights; it is denied, but triggers and views may call it"
            };
            self.findings.push(Finding {
                kind: FindingKind::SecurityDefiner,
                object: name.to_string(),
                advice: advice.to_owned(),
            });
        }
    }
}

/// A column whose values the database makes up (identity, sequence, random UUID).
fn is_surrogate(relation: &Relation, column: &str) -> bool {
    relation.column(column).is_some_and(|column| column.has_default || column.type_name == "uuid")
}

fn column_of(relation: &Relation, column: &str) -> String {
    format!("{}.{}", relation.relation_name(), QuotedIdent(column))
}
