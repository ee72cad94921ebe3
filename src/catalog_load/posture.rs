//! What the live schema says about how well the policies are backed: the posture report. Layer 4,
//! pure.
//!
//! Reads a [`Catalog`] and a [`Policy`] (and for `hedgerow scan` a [`Survey`]), asks nobody. A finding
//! is advice to the operator; no decision depends on it.

use std::collections::BTreeSet;
use std::fmt;

use super::finding::{Finding, FindingKind, Severity};
use super::surroundings;
use super::survey::{Key, Survey};
use crate::catalog::{Catalog, Relation, RelationKind};
use crate::ids::{QuotedIdent, RelationName};
use crate::policy::{Policy, Protection, TablePolicy, TenantType};

/// The oldest server version that is tested against.
const OLDEST_SERVER: u32 = 150_000;

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
    report(catalog, policy, &Survey::default())
}

/// Every weakness that the schema and what surrounds it show, the worst first.
pub fn findings(catalog: &Catalog, policy: &Policy, survey: &Survey) -> Vec<Finding> {
    let mut findings = report(catalog, policy, survey);
    findings.extend(surroundings::findings(catalog, policy, survey));
    findings.sort_by(|a, b| (a.severity, a).cmp(&(b.severity, b)));
    findings.dedup();
    findings
}

fn report(catalog: &Catalog, policy: &Policy, survey: &Survey) -> Vec<Finding> {
    let mut report = Report { catalog, policy, survey, findings: Vec::new() };
    report.role();
    for name in policy.tables.keys().filter(|name| catalog.relation(name).is_none()) {
        report.add(
            FindingKind::TableMissing,
            name,
            "a policy names it, the database does not have it: a slip of the pen, or left over",
            "correct the name in the policy file, or take the entry out",
        );
    }
    for relation in catalog.relations.values() {
        match effective_policy(catalog, policy, relation) {
            Some(rule) => report.relation(relation, rule),
            None if relation.kind == RelationKind::Sequence => {}
            // Of a partition its table tells, once.
            None if report.has_parent(relation) => {}
            None => report.no_policy(relation),
        }
    }
    report.views();
    report.functions();
    let mut findings = report.findings;
    findings.sort();
    findings.dedup();
    findings
}

/// What puts missing row-level security right.
const MAKE_RLS: &str = "hedgerow rls --config … --apply   (without --apply it prints the SQL)";

struct Report<'a> {
    catalog: &'a Catalog,
    policy: &'a Policy,
    survey: &'a Survey,
    findings: Vec<Finding>,
}

impl Report<'_> {
    fn add(
        &mut self,
        kind: FindingKind,
        object: &dyn fmt::Display,
        why: impl Into<String>,
        fix: impl Into<String>,
    ) {
        self.findings.push(Finding::new(kind, object, why, fix));
    }

    fn role(&mut self) {
        let role = QuotedIdent(&self.catalog.role).to_string();
        if self.catalog.posture.superuser {
            self.add(
                FindingKind::RoleSuperuser,
                &role,
                "the upstream role is a superuser: row-level security does not bind it, and it \
                 reaches files and programs of the server",
                format!(
                    "ALTER ROLE {role} NOSUPERUSER;\n\
                     or let Hedgerow sign in as an ordinary role (hedgerow rls makes one)"
                ),
            );
        }
        if self.catalog.posture.bypass_rls {
            self.add(
                FindingKind::RoleBypassRls,
                &role,
                "row-level security does not bind the upstream role",
                format!("ALTER ROLE {role} NOBYPASSRLS;"),
            );
        }
        let version = self.catalog.server_version;
        if version != 0 && version < OLDEST_SERVER {
            self.add(
                FindingKind::ServerVersion,
                &format!("PostgreSQL {}.{}", version / 10_000, version % 100),
                "older than 15, the oldest version that Hedgerow is tested with",
                "upgrade the server",
            );
        }
    }

    /// Whether it is a partition or child of a relation that is reported itself.
    fn has_parent(&self, relation: &Relation) -> bool {
        relation.parents.iter().any(|(schema, name)| {
            self.catalog.relation(&RelationName::new(schema.as_str(), name.as_str())).is_some()
        })
    }

    fn no_policy(&mut self, relation: &Relation) {
        let name = relation.relation_name();
        let fix = format!(
            "in a policy file, below `tables:`, one of\n\
             {name}: {{tenant: COLUMN}}\n{name}: shared\n{name}: deny\n\
             (hedgerow scan --write FILE drafts it)"
        );
        self.add(FindingKind::NoPolicy, &name, "no policy names it, so it is denied", fix);
    }

    fn relation(&mut self, relation: &Relation, rule: &TablePolicy) {
        let name = relation.relation_name();
        for column in rule.columns.keys().filter(|column| relation.column(column).is_none()) {
            self.add(
                FindingKind::ColumnMissing,
                &column_of(relation, column),
                "a column rule names it, the table does not have it: the column that it meant may be \
                 open",
                format!("correct the name at {}", rule.at),
            );
        }
        match &rule.protection {
            Protection::Shared | Protection::Deny => return,
            // A partition has its columns and keys from its table: said there, once.
            Protection::Tenant { .. } | Protection::TenantThrough { .. }
                if self.policy.table(&name).is_none() => {}
            Protection::Tenant { column, tenant_type } => {
                self.tenant_column(relation, rule, column, *tenant_type);
                self.unique_keys(relation, column);
                self.foreign_keys(relation, column);
            }
            Protection::TenantThrough { column, .. } => {
                self.link_column(relation, rule, column);
                self.foreign_keys(relation, column);
            }
        }
        let is_table =
            matches!(relation.kind, RelationKind::Table | RelationKind::PartitionedTable);
        if is_table && !relation.rls_enabled {
            self.add(
                FindingKind::RlsMissing,
                &name,
                "no row-level security beneath the rewrite: one lock where there could be two",
                MAKE_RLS,
            );
        } else if is_table && !relation.rls_forced {
            self.add(
                FindingKind::RlsNotForced,
                &name,
                "row-level security does not bind the table's owner",
                format!("ALTER TABLE {name} FORCE ROW LEVEL SECURITY;"),
            );
        }
        // A superuser counts as a member of every role: said once is enough.
        let posture = &self.catalog.posture;
        if is_table && !posture.superuser && posture.member_of.contains(&relation.owner) {
            self.add(
                FindingKind::RoleOwner,
                &name,
                "the upstream role owns it and could switch row-level security off",
                format!("ALTER TABLE {name} OWNER TO another_role;"),
            );
        }
    }

    fn tenant_column(
        &mut self,
        relation: &Relation,
        rule: &TablePolicy,
        column: &str,
        tenant_type: TenantType,
    ) {
        let object = column_of(relation, column);
        let name = relation.relation_name();
        let Some(found) = relation.column(column) else {
            return self.add(
                FindingKind::ColumnMissing,
                &object,
                "the policy's tenant column does not exist: every statement on the table is denied",
                format!("correct the name at {}", rule.at),
            );
        };
        let is_view = matches!(relation.kind, RelationKind::View | RelationKind::MaterializedView);
        if !found.not_null && !is_view {
            let quoted = QuotedIdent(column);
            self.add(
                FindingKind::TenantNullable,
                &object,
                "rows without a tenant belong to nobody: no tenant sees them, nobody misses them",
                format!(
                    "DELETE or fill the rows WHERE {quoted} IS NULL, then\n\
                     ALTER TABLE {name} ALTER COLUMN {quoted} SET NOT NULL;"
                ),
            );
        }
        let (expected, accepted): (_, &[&str]) = match tenant_type {
            TenantType::Uuid => ("uuid", &["uuid"]),
            TenantType::Text => ("text", &["text", "varchar", "bpchar"]),
            TenantType::Int => ("int", &["int2", "int4", "int8"]),
        };
        if found.type_schema != "pg_catalog" || !accepted.contains(&found.type_name.as_str()) {
            let why = format!("the policy says {expected}, the column is {}", found.type_name);
            let fix = match policy_type(&found.type_schema, &found.type_name) {
                Some(word) => {
                    format!(
                        "{name}: {{tenant: {{column: {column}, type: {word}}}}}   ({})",
                        rule.at
                    )
                }
                None => format!("make the column {expected}, or deny the table at {}", rule.at),
            };
            self.add(FindingKind::TenantType, &object, why, fix);
        }
    }

    fn link_column(&mut self, relation: &Relation, rule: &TablePolicy, column: &str) {
        if relation.column(column).is_none() {
            self.add(
                FindingKind::ColumnMissing,
                &column_of(relation, column),
                "the policy's tenant_through column does not exist: every statement on the table is \
                 denied",
                format!("correct the name at {}", rule.at),
            );
        }
    }

    fn unique_keys(&mut self, relation: &Relation, tenant: &str) {
        let name = relation.relation_name();
        let holds = |columns: &[String]| columns.iter().any(|column| column == tenant);
        let mut keys: Vec<(&[String], &str)> = Vec::new();
        let unique = relation.unique_keys.iter().filter(|key| !holds(key));
        keys.extend(unique.map(|key| (key.as_slice(), "unique")));
        // Keys that nobody can guess or that the database gives out tell nothing.
        if !relation.primary_key.is_empty()
            && !holds(&relation.primary_key)
            && !relation.primary_key.iter().all(|column| is_surrogate(relation, column))
        {
            keys.push((&relation.primary_key, "primary"));
        }
        for (columns, word) in keys {
            let why = format!(
                "the {word} key ({}) does not hold {}: a violation tells that another tenant has the \
                 value",
                columns.join(", "),
                QuotedIdent(tenant)
            );
            let wider =
                columns_of(std::iter::once(tenant).chain(columns.iter().map(String::as_str)));
            let old = self.survey.key(&relation.schema, &relation.name, columns);
            let make = if word == "unique" { "UNIQUE" } else { "PRIMARY KEY" };
            let fix = match old.map(Key::drop_statement) {
                Some(Some(drop)) => format!("{drop}\nALTER TABLE {name} ADD {make} ({wider});"),
                _ => format!("ALTER TABLE {name} ADD {make} ({wider});   and drop the old key"),
            };
            self.add(FindingKind::UniqueAcrossTenants, &name, why, fix);
        }
        for (schema, table, index) in &self.catalog.posture.special_unique_indexes {
            if *schema != relation.schema || *table != relation.name {
                continue;
            }
            let key = self
                .survey
                .keys
                .iter()
                .find(|key| key.schema == *schema && key.table == *table && key.name == *index);
            if key.is_some_and(|key| holds(&key.columns)) {
                continue;
            }
            let why = format!(
                "the unique index {} has expressions or a condition, and {} is not among its columns: \
                 a violation may tell that another tenant has the value",
                QuotedIdent(index),
                QuotedIdent(tenant)
            );
            let drop = format!("DROP INDEX {}.{};", QuotedIdent(schema), QuotedIdent(index));
            let fix = match key.map(|key| key.definition.as_str()) {
                Some(definition) => {
                    format!(
                        "{drop}\nand make it anew with {} in front: {definition}",
                        QuotedIdent(tenant)
                    )
                }
                None => format!("make it anew with {} in front", QuotedIdent(tenant)),
            };
            self.findings.push(Finding::new(FindingKind::UniqueAcrossTenants, &name, why, fix));
        }
    }

    /// Foreign keys to tenants' rows that do not hold `column`: the tenant's own, or the one that leads
    /// to it.
    fn foreign_keys(&mut self, relation: &Relation, column: &str) {
        let name = relation.relation_name();
        let keys = relation.foreign_keys.iter();
        for key in keys.filter(|key| !key.columns.iter().any(|own| own == column)) {
            let parent = RelationName::new(&key.parent_schema, &key.parent_name);
            let Some(rule) = self.policy.table(&parent).filter(|rule| is_protected(rule)) else {
                continue;
            };
            let why = format!(
                "the foreign key ({}) to {parent} does not hold {}: what is written past Hedgerow may \
                 lead to another tenant's row",
                key.columns.join(", "),
                QuotedIdent(column)
            );
            let own_tenant = match effective_policy(self.catalog, self.policy, relation) {
                Some(rule) => matches!(rule.protection, Protection::Tenant { .. }),
                None => false,
            };
            let fix = match &rule.protection {
                Protection::Tenant { column: above, .. } if own_tenant => {
                    let of = |tenant: &str, rest: &[String]| {
                        columns_of(std::iter::once(tenant).chain(rest.iter().map(String::as_str)))
                    };
                    let (child, parent_key) =
                        (of(column, &key.columns), of(above, &key.parent_columns));
                    let old = self.survey.foreign_keys.iter().find(|known| {
                        known.schema == relation.schema
                            && known.table == relation.name
                            && known.columns == key.columns
                    });
                    let drop = old.map_or_else(
                        || "and drop the old one".to_owned(),
                        |old| {
                            format!(
                                "ALTER TABLE {name} DROP CONSTRAINT {};",
                                QuotedIdent(&old.name)
                            )
                        },
                    );
                    format!(
                        "ALTER TABLE {parent} ADD UNIQUE ({parent_key});\n\
                         ALTER TABLE {name} ADD FOREIGN KEY ({child}) REFERENCES {parent} ({parent_key});\n\
                         {drop}"
                    )
                }
                Protection::Tenant { .. }
                | Protection::TenantThrough { .. }
                | Protection::Shared
                | Protection::Deny => format!(
                    "give {name} and {parent} a tenant column each, and make the foreign key hold it"
                ),
            };
            self.add(FindingKind::ForeignKeyAcrossTenants, &name, why, fix);
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
            let own = self.policy.table(&view);
            let guarded = own.is_some_and(|rule| match rule.protection {
                Protection::Tenant { .. } | Protection::TenantThrough { .. } | Protection::Deny => {
                    true
                }
                Protection::Shared => false,
            });
            if !hides || invoker || guarded {
                continue;
            }
            let stored = relation.kind == RelationKind::MaterializedView;
            let what = if stored {
                format!("it keeps rows of {source}, where no row-level security holds")
            } else {
                format!("it reads {source} with its owner's rights")
            };
            // Without a policy of its own it is denied, and then harmless.
            let (severity, state) = match own {
                Some(_) => (FindingKind::ViewHidesTable.severity(), "and every tenant may read it"),
                None => (Severity::Low, "and no policy names it (so it is denied)"),
            };
            let mut fix = format!("{view}: {{tenant: COLUMN}}   or   {view}: deny");
            if !stored {
                fix.push_str(&format!("\nALTER VIEW {view} SET (security_invoker = true);"));
            }
            let finding =
                Finding::new(FindingKind::ViewHidesTable, &view, format!("{what}, {state}"), fix);
            self.findings.push(finding.of(severity));
        }
    }

    fn functions(&mut self) {
        let functions = self.catalog.functions.iter();
        for function in functions.filter(|function| function.security_definer) {
            let name = RelationName::new(&function.schema, &function.name);
            let allowed =
                self.policy.functions.contains(&(function.schema.clone(), function.name.clone()));
            let of_name = self.survey.signatures(&function.schema, &function.name);
            let invoker: Vec<String> =
                of_name.map(|one| format!("ALTER FUNCTION {one} SECURITY INVOKER;")).collect();
            let invoker = if invoker.is_empty() {
                format!("ALTER FUNCTION {name} SECURITY INVOKER;")
            } else {
                invoker.join("\n")
            };
            let (severity, why, fix) = if allowed {
                (
                    Severity::High,
                    "it runs with its owner's rights, past row-level security, and the policy allows \
                     tenants to call it",
                    format!("{invoker}\nor take it out of `functions: {{allow: […]}}`"),
                )
            } else {
                (
                    FindingKind::SecurityDefiner.severity(),
                    "it runs with its owner's rights, past row-level security; tenants may not call \
                     it, but triggers and views may",
                    format!(
                        "{invoker}\nor give it `SET search_path = pg_catalog, pg_temp` and REVOKE EXECUTE on it FROM PUBLIC"
                    ),
                )
            };
            let finding = Finding::new(FindingKind::SecurityDefiner, &name, why, fix);
            self.findings.push(finding.of(severity));
        }
    }
}

/// A type in a policy's words; `None` for one that a tenant column cannot have.
pub fn policy_type(schema: &str, name: &str) -> Option<&'static str> {
    match (schema, name) {
        ("pg_catalog", "uuid") => Some("uuid"),
        ("pg_catalog", "text" | "varchar" | "bpchar") => Some("text"),
        ("pg_catalog", "int2" | "int4" | "int8") => Some("int"),
        _ => None,
    }
}

/// Names as a list of columns.
fn columns_of<'a>(names: impl Iterator<Item = &'a str>) -> String {
    names.map(|name| QuotedIdent(name).to_string()).collect::<Vec<_>>().join(", ")
}

/// A column whose values the database makes up (identity, sequence, random UUID).
fn is_surrogate(relation: &Relation, column: &str) -> bool {
    relation.column(column).is_some_and(|column| column.has_default || column.type_name == "uuid")
}

fn column_of(relation: &Relation, column: &str) -> String {
    format!("{}.{}", relation.relation_name(), QuotedIdent(column))
}
