//! What names mean: policy and catalog seen through the session's search path. Layer 2.
//!
//! Both the rewriter and the checker resolve through here; each on its own parser's tree.

use std::collections::HashSet;
use std::sync::Arc;

use super::totality::Parameter;
use super::{functions, lists};
use crate::catalog::{Catalog, Relation, RelationKind};
use crate::claims::{Principal, TenantClaim};
use crate::error::{Denial, DenialCode};
use crate::ids::{QuotedIdent, RelationName};
use crate::mutant;
use crate::policy::{
    Access, ColumnRule, Mode, Policy, PolicyExpression, Privileges, Protection, TablePolicy,
    TenantType,
};
use crate::sql::account::{NamedRelation, Notes};
use crate::sql::temporary::{self, Temporary};

/// Partitions of partitions of … deeper than anyone builds them.
const MAX_GENERATIONS: u8 = 8;
/// The name of the rule under which catalogs are open.
const CATALOG_RULE: &str = "pg_catalog";

/// Policy, catalog and caller of one decision.
#[derive(Clone, Copy)]
pub struct Env<'a> {
    /// The policy.
    pub policy: &'a Policy,
    /// The catalog.
    pub catalog: &'a Catalog,
    /// The caller.
    pub principal: &'a Principal,
    /// Types of the parameters `$1`, `$2`, … as the client declared them; what is not there is open.
    pub parameters: &'a [Parameter],
    /// What the policy lets this caller do beyond a tenant.
    pub privileges: Privileges,
    /// What is only monitored is open.
    pub lenient: bool,
    /// The session's temporary tables.
    pub temporary: &'a Temporary,
    /// Where the account of the decision goes.
    pub notes: Notes<'a>,
}

/// What a relation's name stands for.
#[derive(Clone, Debug)]
pub enum Resolved<'a> {
    /// A catalog that describes the schema, with the columns of it that stay closed.
    Catalog {
        /// `pg_catalog` or `information_schema`.
        schema: &'static str,
        /// Columns that may not be touched.
        closed: &'static [&'static str],
    },
    /// A relation under a policy entry that is not `deny`.
    Table(Table<'a>),
}

/// A relation that the policy opens.
#[derive(Clone, Debug)]
pub struct Table<'a> {
    /// Its name.
    pub name: RelationName,
    /// Its rule.
    pub policy: Arc<TablePolicy>,
    /// What the catalog knows of it; `None` offline.
    pub relation: Option<&'a Relation>,
}

impl Table<'_> {
    /// Whether its rows belong to tenants.
    pub fn is_protected(&self) -> bool {
        match self.policy.protection {
            Protection::Tenant { .. } | Protection::TenantThrough { .. } => true,
            Protection::Shared => self.policy.condition.is_some(),
            Protection::Deny => true,
        }
    }

    /// Whether it is a table whose rows carry system columns.
    pub fn has_system_columns(&self) -> bool {
        self.relation.is_some_and(|relation| {
            matches!(relation.kind, RelationKind::Table | RelationKind::PartitionedTable)
        })
    }

    /// Columns that nobody sees.
    pub fn denied_columns(&self) -> impl Iterator<Item = &str> {
        self.policy.columns.iter().filter_map(|(column, rule)| match rule {
            _ if mutant::on("column-open") => None,
            ColumnRule::Deny => Some(column.as_str()),
            ColumnRule::Mask { .. } => None,
        })
    }

    /// Columns that this principal sees masked, each with what stands in its place.
    pub fn masks<'t>(
        &'t self,
        env: Env<'t>,
    ) -> impl Iterator<Item = (&'t str, &'t PolicyExpression)> {
        self.policy.columns.iter().filter_map(move |(column, rule)| match rule {
            _ if mutant::on("mask-open") => None,
            ColumnRule::Mask { unless: Some(unless), .. }
                if unless.holds(&env.principal.claims) =>
            {
                None
            }
            ColumnRule::Mask { expression, .. } => Some((column.as_str(), expression)),
            ColumnRule::Deny => None,
        })
    }

    /// Whether this principal sees a column of it masked.
    pub fn is_masked(&self, env: Env<'_>) -> bool {
        self.masks(env).next().is_some()
    }
}

/// A column that refers to a row which belongs to a tenant (a foreign key of one column).
pub struct Reference<'a> {
    /// The referring column.
    pub column: &'a str,
    /// The table referred to.
    pub parent: Table<'a>,
    /// Its key.
    pub parent_column: &'a str,
}

impl<'a> Env<'a> {
    /// The columns of a table that refer to protected tables. A row that refers to another tenant's
    /// tells that it exists, and lives and dies with it. Keys of several columns are left to
    /// PostgreSQL: they hold the tenant column, or `hedgerow scan` reports them.
    pub fn references(&self, table: &Table<'a>) -> Vec<Reference<'a>> {
        let own = match &table.policy.protection {
            Protection::Tenant { column, .. } | Protection::TenantThrough { column, .. } => {
                column.as_str()
            }
            Protection::Shared | Protection::Deny => "",
        };
        let keys = table.relation.map(|relation| relation.foreign_keys.as_slice());
        let mut references: Vec<Reference<'a>> = Vec::new();
        for key in keys.unwrap_or_default() {
            let ([column], [parent_column]) =
                (key.columns.as_slice(), key.parent_columns.as_slice())
            else {
                continue;
            };
            let Ok(Resolved::Table(parent)) =
                self.resolve(None, Some(&key.parent_schema), &key.parent_name)
            else {
                continue;
            };
            let known = references.iter().any(|reference| reference.column == column);
            if parent.is_protected() && column != own && !known {
                references.push(Reference { column, parent, parent_column });
            }
        }
        references
    }

    /// Resolves a relation's name as PostgreSQL would with the session's search path.
    ///
    /// # Errors
    /// HR1003 for what nobody knows or no policy names, HR1004 for what the policy denies, HR1007
    /// for closed catalogs.
    pub fn resolve(
        &self,
        database: Option<&str>,
        schema: Option<&str>,
        name: &str,
    ) -> Result<Resolved<'a>, Denial> {
        let written = || match schema {
            Some(schema) => format!("{}.{}", QuotedIdent(schema), QuotedIdent(name)),
            None => QuotedIdent(name).to_string(),
        };
        let unknown = || Denial::of(DenialCode::UnknownRelation, written());
        if database.is_some() {
            return Err(unknown());
        }
        if matches!(schema, None | Some(temporary::SCHEMA))
            && let Some(table) = self.temporary.table(name)
        {
            let name = RelationName::new(temporary::SCHEMA, name);
            let relation = table.relation.as_ref();
            return Ok(Resolved::Table(Table { name, policy: own_table(), relation }));
        }
        match schema {
            Some("pg_catalog") => return catalog(name, written(), self.catalog.server_version),
            Some("information_schema") if !name.starts_with('_') => {
                // Hosts and passwords of foreign servers, which are closed in pg_catalog too.
                let closed: &[&str] =
                    if name.ends_with("_options") { &["option_value"] } else { &[] };
                return Ok(Resolved::Catalog { schema: "information_schema", closed });
            }
            Some("information_schema") => return Err(Denial::of(DenialCode::Catalog, written())),
            None if name.starts_with("pg_") => {
                return catalog(name, written(), self.catalog.server_version);
            }
            Some(_) | None => {}
        }
        let candidates: Vec<RelationName> = match schema {
            Some(schema) => vec![RelationName::new(schema, name)],
            None => self
                .catalog
                .search_path
                .iter()
                .map(|schema| RelationName::new(schema.as_str(), name))
                .collect(),
        };
        let name = candidates
            .into_iter()
            .find(|candidate| {
                self.catalog.relations.contains_key(candidate)
                    || self.temporary.has_made(candidate)
                    || (!self.catalog.live && self.policy.table(candidate).is_some())
            })
            .ok_or_else(unknown)?;
        let relation = self.catalog.relation(&name);
        let policy = match rule(self.policy, self.catalog, &name) {
            // Its columns are known when it is committed: until then no rule may rest on them.
            Some(policy) if relation.is_none() && self.temporary.has_made(&name) => {
                let open = policy.protection == Protection::Shared
                    && policy.condition.is_none()
                    && policy.columns.is_empty();
                if !open && !mutant::on("made-unseen") {
                    return Err(unknown());
                }
                self.widened(policy)
            }
            Some(policy) if self.lenient && policy.mode == Mode::Monitor => {
                self.monitored(&policy, relation)
            }
            Some(policy) => self.widened(policy),
            None if self.lenient && self.policy.mode == Mode::Monitor => unlisted(),
            None => return Err(unknown()),
        };
        let denied = || Denial::of(DenialCode::RelationDenied, written());
        if policy.protection == Protection::Deny
            || relation.is_some_and(|relation| relation.kind == RelationKind::Sequence)
            || !self.columns_stand(&policy, relation)
        {
            return Err(denied());
        }
        if !self.parent_key_is_unique(&policy) {
            let what = format!("{}: the key of its parent is not unique", written());
            return Err(Denial::of(DenialCode::LeakPossible, what));
        }
        let children = self.has_protected_child(&name) && !mutant::on("protected-child");
        if policy.protection == Protection::Shared && children {
            return Err(Denial::of(DenialCode::LeakPossible, written()));
        }
        Ok(Resolved::Table(Table { name, policy, relation }))
    }

    /// The rule as it holds for this caller. Break-glass: every tenant's rows, as those of a table that
    /// belongs to nobody; columns and access stay as they are. `ddl`: what every tenant reads may be
    /// written, for who makes the tables fills them.
    fn widened(&self, rule: Arc<TablePolicy>) -> Arc<TablePolicy> {
        match rule.protection {
            Protection::Tenant { .. } | Protection::TenantThrough { .. }
                if self.privileges.every_tenant =>
            {
                Arc::new(TablePolicy {
                    protection: Protection::Shared,
                    condition: None,
                    ..TablePolicy::clone(&rule)
                })
            }
            Protection::Shared if self.privileges.ddl => {
                Arc::new(TablePolicy { access: Access::ALL, ..TablePolicy::clone(&rule) })
            }
            Protection::Tenant { .. }
            | Protection::TenantThrough { .. }
            | Protection::Shared
            | Protection::Deny => rule,
        }
    }

    /// The rule of a table in monitor mode, as it stands where it would deny: guards and masks stay.
    fn monitored(&self, rule: &Arc<TablePolicy>, relation: Option<&Relation>) -> Arc<TablePolicy> {
        let widened = self.widened(Arc::clone(rule));
        let mut open = TablePolicy { access: Access::ALL, ..TablePolicy::clone(&widened) };
        open.columns.retain(|_, rule| matches!(rule, ColumnRule::Mask { .. }));
        if open.protection == Protection::Deny
            || !self.columns_stand(&open, relation)
            || !self.parent_key_is_unique(&open)
        {
            open.protection = Protection::Shared;
            open.condition = None;
        }
        Arc::new(open)
    }

    /// A relation and its rule, whatever the rule says, for the account.
    pub fn named(&self, schema: Option<&str>, name: &str) -> NamedRelation {
        if let Ok(Resolved::Catalog { schema, .. }) = self.resolve(None, schema, name) {
            let relation = RelationName::new(schema, name).to_string();
            return NamedRelation { relation, rule: Some(schema.to_owned()) };
        }
        let schemas: Vec<&str> = match schema {
            Some(schema) => vec![schema],
            None => self.catalog.search_path.iter().map(String::as_str).collect(),
        };
        let mut candidates = schemas.iter().map(|schema| RelationName::new(*schema, name));
        let known = candidates.find_map(|candidate| {
            let rule = rule(self.policy, self.catalog, &candidate)?;
            Some(NamedRelation {
                relation: candidate.to_string(),
                rule: Some(rule.rule.to_string()),
            })
        });
        known.unwrap_or_else(|| NamedRelation {
            relation: match schema {
                Some(schema) => RelationName::new(schema, name).to_string(),
                None => QuotedIdent(name).to_string(),
            },
            rule: None,
        })
    }

    /// The full name of a relation that is there or would be made, and its rule. For changes of the
    /// schema: a relation that is denied has a shape too.
    pub fn known(
        &self,
        schema: Option<&str>,
        name: &str,
    ) -> (RelationName, Option<Arc<TablePolicy>>) {
        let found = match schema {
            Some(schema) => Some(RelationName::new(schema, name)),
            None => {
                let path = self.catalog.search_path.iter();
                let mut names = path.map(|schema| RelationName::new(schema.as_str(), name));
                names
                    .clone()
                    .find(|name| self.catalog.relations.contains_key(name))
                    .or(names.next())
            }
        };
        let found = found.unwrap_or_else(|| RelationName::new("public", name));
        let rule = rule(self.policy, self.catalog, &found);
        (found, rule)
    }

    /// The full name that a new relation gets: without a schema, in the first one of the search path.
    pub fn new_name(&self, schema: Option<&str>, name: &str) -> RelationName {
        let first = self.catalog.search_path.first().map_or("public", String::as_str);
        RelationName::new(schema.unwrap_or(first), name)
    }

    /// The policy's rule for a relation, as it is written: not widened for this caller.
    pub fn own_rule(&self, name: &RelationName) -> Option<Arc<TablePolicy>> {
        rule(self.policy, self.catalog, name)
    }

    /// Whether a bare name means a relation of the database.
    pub fn is_relation(&self, name: &str) -> bool {
        self.catalog.relations.keys().any(|relation| relation.name == name)
            || self.policy.tables.keys().any(|relation| relation.name == name)
    }

    /// Whether the catalog knows the relation as a view.
    pub fn is_view(&self, name: &RelationName) -> bool {
        self.catalog.relation(name).is_some_and(|relation| relation.kind == RelationKind::View)
    }

    /// Whether the catalog has the columns that the policy rests on.
    fn columns_stand(&self, policy: &TablePolicy, relation: Option<&Relation>) -> bool {
        match (&policy.protection, relation) {
            (
                Protection::Tenant { column, .. } | Protection::TenantThrough { column, .. },
                Some(relation),
            ) => relation.column(column).is_some(),
            (Protection::Tenant { .. } | Protection::TenantThrough { .. }, None)
            | (Protection::Shared | Protection::Deny, _) => true,
        }
    }

    /// Whether a row of a child has one parent at most. A key that two tenants' rows may have would show the
    /// children of one to the other: whoever can write a parent could take another tenant's key.
    fn parent_key_is_unique(&self, policy: &TablePolicy) -> bool {
        let Protection::TenantThrough { parent, parent_column, .. } = &policy.protection else {
            return true;
        };
        let Some(relation) = self.catalog.relation(parent).filter(|_| self.catalog.live) else {
            return true;
        };
        let alone = |key: &Vec<String>| *key == [parent_column.as_str()];
        let unique = alone(&relation.primary_key) || relation.unique_keys.iter().any(alone);
        // No key spans a table and those that inherit from it; one of partitions does.
        let spans = relation.kind == RelationKind::PartitionedTable || !self.has_children(parent);
        unique && spans || mutant::on("parent-key")
    }

    /// Reading a table reads its children: a shared one must not have children of tenants.
    fn has_protected_child(&self, name: &RelationName) -> bool {
        let mut parents = HashSet::from([(name.schema.as_str(), name.name.as_str())]);
        for _generation in 0..MAX_GENERATIONS {
            let children: Vec<&Relation> = self
                .catalog
                .relations
                .values()
                .filter(|child| {
                    let mut of = child.parents.iter();
                    of.any(|(schema, table)| parents.contains(&(schema.as_str(), table.as_str())))
                })
                .collect();
            if children.is_empty() {
                return false;
            }
            let protected = |child: &&Relation| {
                let rule = self.policy.table(&child.relation_name());
                rule.is_some_and(|rule| rule.protection != Protection::Shared)
            };
            if children.iter().any(protected) {
                return true;
            }
            parents =
                children.iter().map(|child| (child.schema.as_str(), child.name.as_str())).collect();
        }
        true
    }

    /// Whether a relation has partitions or inheritance children.
    pub fn has_children(&self, name: &RelationName) -> bool {
        self.catalog.relations.values().any(|child| {
            let mut parents = child.parents.iter();
            parents.any(|(schema, parent)| *schema == name.schema && *parent == name.name)
        })
    }

    /// Whether a function may be called: `Ok` or HR1005.
    ///
    /// # Errors
    /// HR1005 with the name as written.
    pub fn function(&self, parts: &[&str]) -> Result<(), Denial> {
        let denied = || Denial::of(DenialCode::Function, parts.join("."));
        let allowed = |schema: &str, name: &str| {
            self.policy.functions.contains(&(schema.to_owned(), name.to_owned()))
        };
        let built_in = |name: &str| {
            functions::is_allowed(name)
                || self.privileges.ddl && functions::OF_SCHEMA_CHANGES.contains(&name)
                || functions::OPENED_BY_POLICY.contains(&name) && allowed("pg_catalog", name)
        };
        // SECURITY: of a bare name PostgreSQL takes the function whose types fit best, of any schema of the
        // path: the closed one, though one of the operator's has its name.
        let closed = |name: &str| {
            functions::family(name).is_some_and(|family| !family.reach.is_open())
                && !built_in(name)
                && !mutant::on("closed-shadowed")
        };
        let open = match parts {
            ["pg_catalog", name] => built_in(name),
            [schema, name] => allowed(schema, name),
            [name] => {
                let mut shadows = self.catalog.functions.iter().filter(|function| {
                    function.name == *name
                        && !function.hidden
                        && self.catalog.search_path.contains(&function.schema)
                });
                match shadows.next() {
                    Some(first) => {
                        !closed(name)
                            && allowed(&first.schema, name)
                            && shadows.all(|other| allowed(&other.schema, name))
                    }
                    None if self.catalog.live => built_in(name),
                    None => {
                        let mut schemas = self.catalog.search_path.iter();
                        built_in(name)
                            || schemas.any(|schema| allowed(schema, name)) && !closed(name)
                    }
                }
            }
            _ => false,
        };
        // What the operator's own functions do is the operator's; what PostgreSQL's closed ones do is known.
        let monitored = || {
            self.lenient
                && self.policy.mode == Mode::Monitor
                && parts.first() != Some(&"pg_catalog")
                && !matches!(parts, [name] if closed(name))
                && parts.last().is_some_and(|name| self.is_user_function(name))
        };
        if open || mutant::on("any-function") || monitored() { Ok(()) } else { Err(denied()) }
    }

    /// Whether a name is that of a function outside `pg_catalog`, which attribute notation
    /// (`row.function`) would call.
    pub fn is_user_function(&self, name: &str) -> bool {
        self.catalog.functions.iter().any(|function| function.name == name)
    }

    /// The tenant as the text of a literal of the given type, in its one canonical spelling.
    ///
    /// # Errors
    /// HR2009 when the claim is missing or no value of the type.
    pub fn tenant_text(&self, tenant_type: TenantType) -> Result<String, Denial> {
        let unusable = || Denial::new(DenialCode::TokenTenant);
        match (self.principal.tenant.as_ref().ok_or_else(unusable)?, tenant_type) {
            (TenantClaim::Text(text), TenantType::Uuid) => {
                let hyphens: Vec<usize> = text.match_indices('-').map(|(at, _)| at).collect();
                if (text.len() != 36 || hyphens != [8, 13, 18, 23]) && !mutant::on("uuid-forms") {
                    return Err(unusable());
                }
                uuid::Uuid::try_parse(text).map(|uuid| uuid.to_string()).map_err(|_| unusable())
            }
            (TenantClaim::Text(text), TenantType::Text) => Ok(text.clone()),
            (TenantClaim::Integer(number), TenantType::Int) => Ok(number.to_string()),
            (TenantClaim::Text(text), TenantType::Int) => {
                let number: i64 = text.parse().map_err(|_| unusable())?;
                if number.to_string() == *text { Ok(text.clone()) } else { Err(unusable()) }
            }
            (TenantClaim::Integer(_), TenantType::Uuid | TenantType::Text) => Err(unusable()),
        }
    }
}

/// The rule of a temporary table: its rows are the session's own.
fn own_table() -> Arc<TablePolicy> {
    Arc::new(TablePolicy {
        protection: Protection::Shared,
        access: Access::ALL,
        condition: None,
        columns: std::collections::BTreeMap::new(),
        mode: Mode::Enforce,
        rule: "temporary".into(),
        at: crate::yaml::SourcePosition::default(),
    })
}

/// The rule of a relation that no policy names, where every file monitors.
fn unlisted() -> Arc<TablePolicy> {
    Arc::new(TablePolicy {
        protection: Protection::Shared,
        access: Access::ALL,
        condition: None,
        columns: std::collections::BTreeMap::new(),
        mode: Mode::Monitor,
        rule: "none".into(),
        at: crate::yaml::SourcePosition::default(),
    })
}

/// The rule of a relation, or of the table that it is a partition or child of.
pub fn rule(policy: &Policy, catalog: &Catalog, name: &RelationName) -> Option<Arc<TablePolicy>> {
    fn inherited(
        policy: &Policy,
        catalog: &Catalog,
        name: &RelationName,
        generation: u8,
    ) -> Option<Arc<TablePolicy>> {
        if let Some(rule) = policy.table(name) {
            return Some(Arc::clone(rule));
        }
        if generation == MAX_GENERATIONS {
            return None;
        }
        catalog.relation(name)?.parents.iter().find_map(|(schema, parent)| {
            let parent = RelationName::new(schema.as_str(), parent.as_str());
            inherited(policy, catalog, &parent, generation + 1)
        })
    }
    inherited(policy, catalog, name, 0)
}

fn catalog(name: &str, written: String, server_version: u32) -> Result<Resolved<'static>, Denial> {
    match lists::open_catalog(name, server_version) {
        Some(closed) => Ok(Resolved::Catalog { schema: CATALOG_RULE, closed }),
        None => Err(Denial::of(DenialCode::Catalog, written)),
    }
}

#[cfg(test)]
mod tests {
    use crate::catalog::{Catalog, Function};
    use crate::claims::{Claims, Principal, TenantClaim};
    use crate::error::DenialCode;
    use crate::ids::PolicyEpoch;
    use crate::policy::load::compile;
    use crate::sql::Limits;

    #[test]
    fn a_function_that_postgresql_never_picks_by_its_bare_name_shadows_none() {
        let text = "functions: {allow: [pg_catalog.pg_sleep]}\n";
        let policy = compile(&[("p", text)], PolicyEpoch(1)).unwrap().postgres;
        let tenant = Some(TenantClaim::Text("t".to_owned()));
        let principal = Principal::assumed(tenant, Claims::default());
        let function = |name: &str, hidden| Function {
            schema: "public".to_owned(),
            name: name.to_owned(),
            security_definer: false,
            language: "c".to_owned(),
            hidden,
        };
        let catalog = Catalog {
            live: true,
            search_path: vec!["public".to_owned()],
            functions: vec![
                function("gen_random_uuid", true),
                function("upper", true),
                function("upper", false),
            ],
            ..Catalog::default()
        };
        let verdict = |sql: &str| {
            super::super::decide(sql, &policy, &catalog, &principal, Limits::default())
                .map(|_| ())
                .map_err(|denial| denial.code)
        };
        assert_eq!(verdict("SELECT gen_random_uuid()"), Ok(()));
        assert_eq!(verdict("SELECT upper('x')"), Err(DenialCode::Function));
        assert_eq!(verdict("SELECT public.gen_random_uuid()"), Err(DenialCode::Function));
        for open in ["pg_sleep(1)", "pg_catalog.pg_sleep(1)"] {
            assert_eq!(verdict(&format!("SELECT {open}")), Ok(()), "{open}");
        }
        assert_eq!(verdict("SELECT pg_sleep_for('1s')"), Err(DenialCode::Function));
    }

    #[test]
    fn a_closed_function_is_not_opened_by_one_of_its_name() {
        let text = "functions: {allow: [public.lo_get, public.pg_sleep, public.slugify]}\n";
        let policy = compile(&[("p", text)], PolicyEpoch(1)).unwrap().postgres;
        let tenant = Some(TenantClaim::Text("t".to_owned()));
        let principal = Principal::assumed(tenant, Claims::default());
        let named = |name: &str| Function {
            schema: "public".to_owned(),
            name: name.to_owned(),
            security_definer: false,
            language: "sql".to_owned(),
            hidden: false,
        };
        let functions = ["lo_get", "pg_sleep", "slugify"].map(named);
        for (live, functions) in [(true, functions.to_vec()), (false, Vec::new())] {
            let search_path = vec!["public".to_owned()];
            let catalog = Catalog { live, search_path, functions, ..Catalog::default() };
            let verdict = |sql: &str| {
                super::super::decide(sql, &policy, &catalog, &principal, Limits::default())
                    .map(|_| ())
                    .map_err(|denial| denial.code)
            };
            for call in ["lo_get(1)", "LO_GET(1::oid)", "pg_sleep(1)", "pg_catalog.lo_get(1)"] {
                assert_eq!(verdict(&format!("SELECT {call}")), Err(DenialCode::Function), "{call}");
            }
            for call in ["public.lo_get(1)", "public.pg_sleep(1)", "slugify('x')"] {
                assert_eq!(verdict(&format!("SELECT {call}")), Ok(()), "{call}");
            }
        }
    }
}
