//! From policies and catalog to row-level security: the plan, and its SQL text. Layer 6, pure.
//!
//! The same catalog and policy give the same text, byte for byte. The text may be run again and
//! again; `apply` runs only the parts of a plan that the database does not have yet.

use std::collections::BTreeSet;
use std::fmt::Write as _;

use crate::catalog::{Catalog, Column, Relation, RelationKind};
use crate::catalog_load::effective_policy;
use crate::claims::ClaimPath;
use crate::ids::{QuotedIdent, RelationName};
use crate::policy::{Access, Policy, Protection, TablePolicy, TenantType};
use crate::sql::postgres::{ClaimKind, Unspelled, spelled};

/// The name of every policy that Hedgerow makes.
pub(super) const POLICY_NAME: &str = "hedgerow_tenant";
/// Longest chain of `tenant_through` from a table to the one that has the tenant.
const MAX_CHAIN: usize = 8;

/// What follows from the policies for one database.
#[derive(Debug)]
pub(super) struct Plan {
    /// The upstream role that the grants are for.
    pub(super) role: String,
    /// Schemas that it must be able to look into.
    pub(super) schemas: BTreeSet<String>,
    /// Tables and views in order of name.
    pub(super) tables: Vec<TablePlan>,
    /// Sequences that it must be able to draw from, in order of name.
    pub(super) sequences: BTreeSet<RelationName>,
}

/// What follows for one table.
#[derive(Debug)]
pub(super) struct TablePlan {
    pub(super) relation: RelationName,
    /// Row-level security with this condition.
    pub(super) condition: Option<String>,
    /// Privileges of the upstream role; `None`: none of our business (partitions, reached through
    /// their table).
    pub(super) access: Option<Access>,
    /// Why it looks so, for the reader.
    pub(super) remark: String,
}

/// Why there is no plan.
#[derive(Debug, PartialEq, Eq, thiserror::Error)]
pub(super) enum PlanError {
    #[error("{0}: the policy's column {1} does not exist")]
    NoColumn(RelationName, String),
    #[error("{0}: tenant_through leads to {1}, which has no tenant policy")]
    ParentWithoutTenant(RelationName, RelationName),
    #[error("{0}: tenant_through leads to {1}, which does not exist")]
    NoParent(RelationName, RelationName),
    #[error("{0}: the policy's `where` cannot be read")]
    Condition(RelationName),
    #[error("{0}: tenant_through is a circle, or longer than {MAX_CHAIN} tables")]
    Chain(RelationName),
}

/// The session variables that a condition reads.
#[derive(Clone, Copy, Debug)]
pub(super) struct Variables<'v> {
    /// The one that carries the tenant.
    pub(super) tenant: &'v str,
    /// All of them, and the claim that each carries.
    pub(super) claims: &'v [(String, ClaimPath)],
}

/// The plan, or all that stands in its way. `role` is the upstream role.
pub(super) fn plan(
    catalog: &Catalog,
    policy: &Policy,
    variables: Variables<'_>,
    role: &str,
) -> Result<Plan, Vec<PlanError>> {
    let mut errors = Vec::new();
    let mut plan = Plan {
        role: role.to_owned(),
        schemas: BTreeSet::new(),
        tables: Vec::new(),
        sequences: BTreeSet::new(),
    };
    let mut relations: Vec<_> = catalog.relations.values().collect();
    relations.sort_by_key(|relation| relation.relation_name());
    for relation in relations {
        let Some(rule) = effective_policy(catalog, policy, relation) else { continue };
        if relation.kind == RelationKind::Sequence {
            continue;
        }
        let named = policy.table(&relation.relation_name()).is_some();
        match table(catalog, policy, variables, relation, rule, named) {
            Ok(table) => {
                if table.access.is_some_and(|access| access != NO_ACCESS) {
                    plan.schemas.insert(relation.schema.clone());
                }
                if table.access.is_some_and(|access| access.insert) {
                    plan.sequences.extend(sequences_of(catalog, relation));
                }
                plan.tables.push(table);
            }
            Err(error) => errors.push(error),
        }
    }
    if errors.is_empty() { Ok(plan) } else { Err(errors) }
}

/// No privilege at all.
const NO_ACCESS: Access = Access { select: false, insert: false, update: false, delete: false };

fn sequences_of(catalog: &Catalog, relation: &Relation) -> Vec<RelationName> {
    let owned = catalog.posture.owned_sequences.iter();
    owned
        .filter(|(_, _, schema, table)| *schema == relation.schema && *table == relation.name)
        .map(|(schema, sequence, _, _)| RelationName::new(schema, sequence))
        .collect()
}

fn table(
    catalog: &Catalog,
    policy: &Policy,
    variables: Variables<'_>,
    relation: &Relation,
    rule: &TablePolicy,
    named: bool,
) -> Result<TablePlan, PlanError> {
    let can_have_policies = match relation.kind {
        RelationKind::Table | RelationKind::PartitionedTable => true,
        RelationKind::View
        | RelationKind::MaterializedView
        | RelationKind::ForeignTable
        | RelationKind::Sequence => false,
    };
    let qualifier = relation.name.as_str();
    let mut conditions = Conditions { catalog, policy, variables, gaps: Vec::new() };
    let (condition, access, mut remark) = match &rule.protection {
        Protection::Tenant { .. } | Protection::TenantThrough { .. } => {
            let condition = conditions.of(relation, rule, qualifier, 0)?;
            let remark = match &rule.protection {
                Protection::TenantThrough { parent, .. } => format!("tenant through {parent}"),
                _ => "tenant".to_owned(),
            };
            (can_have_policies.then_some(condition), rule.access, remark)
        }
        Protection::Shared => {
            let own = conditions.own(relation, rule, qualifier)?;
            let own = own.filter(|_| can_have_policies);
            (own, Access::READ, "shared: every tenant reads".to_owned())
        }
        Protection::Deny => (None, NO_ACCESS, "denied".to_owned()),
    };
    let protected =
        matches!(rule.protection, Protection::Tenant { .. } | Protection::TenantThrough { .. });
    if protected && !can_have_policies {
        remark.push_str("; a view or foreign table has no row-level security of its own");
    } else if !conditions.gaps.is_empty() {
        let claims = conditions.gaps.join(", ");
        let _ = write!(
            remark,
            "; a `where` is held by Hedgerow alone: no session variable carries {claims}"
        );
    } else if rule.condition.is_some() && condition.is_some() {
        remark.push_str(", with its `where`");
    }
    if !named {
        let _ = write!(remark, ", as a partition under {}", rule.rule);
    }
    let access = named.then_some(access);
    Ok(TablePlan { relation: relation.relation_name(), condition, access, remark })
}

/// Makes conditions.
struct Conditions<'p> {
    catalog: &'p Catalog,
    policy: &'p Policy,
    variables: Variables<'p>,
    /// Claims that a `where` names and no session variable carries.
    gaps: Vec<String>,
}

impl Conditions<'_> {
    /// The condition under which a row of `relation`, known as `qualifier`, is the tenant's and
    /// satisfies the policy's `where`. That is evaluated on the tenant's rows only, in the order of a
    /// CASE: an error in it would tell of other tenants' rows.
    fn of(
        &mut self,
        relation: &Relation,
        rule: &TablePolicy,
        qualifier: &str,
        depth: usize,
    ) -> Result<String, PlanError> {
        let belongs = self.belongs(relation, rule, qualifier, depth)?;
        Ok(match self.own(relation, rule, qualifier)? {
            Some(own) => format!("{belongs} AND CASE WHEN {belongs} THEN ({own}) ELSE false END"),
            None => belongs,
        })
    }

    /// The policy's `where`, if it has one that can be said.
    fn own(
        &mut self,
        relation: &Relation,
        rule: &TablePolicy,
        qualifier: &str,
    ) -> Result<Option<String>, PlanError> {
        let Some(own) = &rule.condition else { return Ok(None) };
        let claims = self.variables.claims;
        let column = |name: &str| relation.column(name).map(kind);
        let setting = |path: &ClaimPath| {
            let carrier = claims.iter().find(|(_, carried)| carried == path);
            carrier.map(|(name, _)| literal(name))
        };
        match spelled(&own.text, qualifier, &column, &setting) {
            Ok(text) => Ok(Some(text)),
            Err(Unspelled::Claim(path)) => {
                self.gaps.push(path);
                Ok(None)
            }
            Err(Unspelled::Column(column)) => {
                let column = QuotedIdent(&column).to_string();
                Err(PlanError::NoColumn(relation.relation_name(), column))
            }
            Err(Unspelled::Unreadable) => Err(PlanError::Condition(relation.relation_name())),
        }
    }

    fn belongs(
        &mut self,
        relation: &Relation,
        rule: &TablePolicy,
        qualifier: &str,
        depth: usize,
    ) -> Result<String, PlanError> {
        let name = relation.relation_name();
        let found = |column: &str| {
            relation
                .column(column)
                .ok_or_else(|| PlanError::NoColumn(name.clone(), QuotedIdent(column).to_string()))
        };
        let known = QuotedIdent(qualifier);
        match &rule.protection {
            Protection::Tenant { column, tenant_type } => {
                let cast = cast(found(column)?, *tenant_type);
                let setting = literal(self.variables.tenant);
                let value = format!("NULLIF(current_setting({setting}, true), ''){cast}");
                let column = QuotedIdent(column);
                Ok(if depth == 0 {
                    format!("{column} = {value}")
                } else {
                    format!("{known}.{column} = {value}")
                })
            }
            Protection::TenantThrough { column, parent, parent_column } => {
                found(column)?;
                if depth == MAX_CHAIN {
                    return Err(PlanError::Chain(name));
                }
                let Some(above) = self.catalog.relation(parent) else {
                    return Err(PlanError::NoParent(name, parent.clone()));
                };
                let Some(parent_rule) = effective_policy(self.catalog, self.policy, above) else {
                    return Err(PlanError::ParentWithoutTenant(name, parent.clone()));
                };
                if above.column(parent_column).is_none() {
                    let column = QuotedIdent(parent_column).to_string();
                    return Err(PlanError::NoColumn(parent.clone(), column));
                }
                // The name of no table: an alias that hid the outer table would compare the parent
                // with itself.
                let alias = format!("hedgerow_parent_{}", depth + 1);
                let inner = self.of(above, parent_rule, &alias, depth + 1)?;
                Ok(format!(
                    "EXISTS (SELECT 1 FROM {parent} AS {alias} WHERE {alias}.{} = {known}.{} \
                     AND {inner})",
                    QuotedIdent(parent_column),
                    QuotedIdent(column),
                ))
            }
            Protection::Shared | Protection::Deny => {
                Err(PlanError::ParentWithoutTenant(name.clone(), name))
            }
        }
    }
}

/// As what a claim is compared with a column: strings in a token are text, numbers `numeric`.
fn kind(column: &Column) -> ClaimKind {
    let numeric = ["int2", "int4", "int8", "numeric", "float4", "float8"];
    match column.type_name.as_str() {
        name if column.type_schema != "pg_catalog" || name.is_empty() => ClaimKind::Text,
        name if numeric.contains(&name) => ClaimKind::Number,
        "bool" => ClaimKind::Truth,
        _ => ClaimKind::Text,
    }
}

/// The cast that makes the setting's text comparable with the column, so that its index serves.
fn cast(column: &Column, tenant_type: TenantType) -> &'static str {
    match (tenant_type, column.type_name.as_str()) {
        (TenantType::Uuid, _) => "::uuid",
        (TenantType::Text, _) => "",
        (TenantType::Int, "int2") => "::smallint",
        (TenantType::Int, "int4") => "::integer",
        (TenantType::Int, _) => "::bigint",
    }
}

/// A string literal, whatever `standard_conforming_strings` says.
pub(super) fn literal(text: &str) -> String {
    let quoted = text.replace('\'', "''");
    if quoted.contains('\\') {
        format!("E'{}'", quoted.replace('\\', "\\\\"))
    } else {
        format!("'{quoted}'")
    }
}

/// The privileges on tables that PostgreSQL 15 knows, in the order of its documentation, and
/// whether `access` includes each.
pub(super) const fn privileges(access: Access) -> [(&'static str, bool); 7] {
    [
        ("SELECT", access.select),
        ("INSERT", access.insert),
        ("UPDATE", access.update),
        ("DELETE", access.delete),
        ("TRUNCATE", false),
        ("REFERENCES", false),
        ("TRIGGER", false),
    ]
}

impl TablePlan {
    pub(super) fn enable(&self) -> String {
        format!("ALTER TABLE {} ENABLE ROW LEVEL SECURITY", self.relation)
    }

    pub(super) fn force(&self) -> String {
        format!("ALTER TABLE {} FORCE ROW LEVEL SECURITY", self.relation)
    }

    pub(super) fn drop_policy(&self) -> String {
        format!("DROP POLICY IF EXISTS {POLICY_NAME} ON {}", self.relation)
    }

    pub(super) fn create_policy(&self, condition: &str) -> String {
        format!(
            "CREATE POLICY {POLICY_NAME} ON {}\n  USING ({condition})\n  WITH CHECK ({condition})",
            self.relation
        )
    }

    /// The grant and the revocation that lead to `access`; either may be empty of privileges.
    pub(super) fn grants(&self, access: Access, role: &str) -> Vec<String> {
        let named = |wanted: bool| {
            let of_kind = privileges(access).into_iter().filter(move |(_, held)| *held == wanted);
            of_kind.map(|(name, _)| name).collect::<Vec<_>>().join(", ")
        };
        let (held, refused, role) = (named(true), named(false), QuotedIdent(role));
        let mut statements = Vec::new();
        if !refused.is_empty() {
            statements.push(format!("REVOKE {refused} ON TABLE {} FROM {role}", self.relation));
        }
        if !held.is_empty() {
            statements.push(format!("GRANT {held} ON TABLE {} TO {role}", self.relation));
        }
        statements
    }
}

impl Plan {
    /// Makes the role if there is none, without a password: it cannot sign in until it gets one.
    pub(super) fn create_role(&self) -> String {
        format!(
            "DO $role$ BEGIN\n  IF NOT EXISTS (SELECT FROM pg_catalog.pg_roles WHERE rolname = {}) \
             THEN\n    CREATE ROLE {} LOGIN NOSUPERUSER NOBYPASSRLS NOCREATEDB NOCREATEROLE;\n  \
             END IF;\nEND $role$",
            literal(&self.role),
            QuotedIdent(&self.role)
        )
    }

    pub(super) fn grant_schema(&self, schema: &str) -> String {
        format!("GRANT USAGE ON SCHEMA {} TO {}", QuotedIdent(schema), QuotedIdent(&self.role))
    }

    pub(super) fn grant_sequence(&self, sequence: &RelationName) -> String {
        format!("GRANT USAGE ON SEQUENCE {sequence} TO {}", QuotedIdent(&self.role))
    }

    /// The whole plan as one script, for `psql` or a migration. Running it again changes nothing.
    pub(super) fn script(&self) -> String {
        let mut script = String::from(
            "-- Row-level security, roles and grants that follow from Hedgerow's policies.\n\
             -- It may be run again and again: it leads to the same state each time.\n\
             BEGIN;\n\n-- The role that Hedgerow signs in as\n",
        );
        let mut statement = |text: &str| {
            script.push_str(text);
            script.push_str(";\n");
        };
        statement(&self.create_role());
        for schema in &self.schemas {
            statement(&self.grant_schema(schema));
        }
        for sequence in &self.sequences {
            statement(&self.grant_sequence(sequence));
        }
        for table in &self.tables {
            let heading = format!("{}: {}", table.relation, table.remark);
            // A line break in a name would end the comment.
            let _ = writeln!(script, "\n-- {}", heading.replace(['\n', '\r'], " "));
            let mut statement = |text: &str| {
                script.push_str(text);
                script.push_str(";\n");
            };
            if let Some(condition) = &table.condition {
                statement(&table.enable());
                statement(&table.force());
                statement(&table.drop_policy());
                statement(&table.create_policy(condition));
            }
            for grant in table.access.iter().flat_map(|access| table.grants(*access, &self.role)) {
                statement(&grant);
            }
        }
        script.push_str("\nCOMMIT;\n");
        script
    }
}
