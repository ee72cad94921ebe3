//! Policies: what each tenant may see and do, compiled from `policies/*.yaml`. Layer 1: pure data,
//! no I/O (files are read by `config`, which hands over their text).
//!
//! A relation that no entry names is denied. An exact name wins over a pattern.

pub mod bigquery;
pub mod file;
pub mod load;
pub mod name;

use std::collections::{BTreeMap, BTreeSet, HashMap};
use std::sync::Arc;

use crate::claims::{ClaimPath, Claims, Principal};
use crate::error::{Denial, DenialCode};
use crate::ids::{PolicyEpoch, RelationName};
use crate::mutant;
pub use crate::policy::bigquery::BigQueryPolicy;
pub use crate::policy::load::Policies;
pub use crate::policy::name::OPENED_BY_POLICY;
pub use crate::yaml::{Fault, SourcePosition};

/// The type of a tenant column: how the tenant becomes a literal.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum TenantType {
    /// `'…'::uuid`
    Uuid,
    /// `'…'::text`
    Text,
    /// `'…'::bigint` (or the column's own integer type)
    Int,
}

/// What happens to a statement that would be denied.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Default)]
pub enum Mode {
    /// It is denied.
    #[default]
    Enforce,
    /// It is recorded as would-deny and let through.
    Monitor,
}

/// An SQL expression of the operator's, over the table's own columns and `claim('path')`. Checked
/// by `sql` at load.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct PolicyExpression {
    /// The text as written.
    pub text: String,
    /// Where it stands.
    pub at: SourcePosition,
}

/// A condition on a claim: `{claim: role, in: [admin]}`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct ClaimRule {
    /// The claim.
    pub claim: ClaimPath,
    /// Its accepted values, compared as text.
    pub accepted: BTreeSet<String>,
}

impl ClaimRule {
    /// Whether the claims satisfy the rule: the claim is one of the values, or a list that holds one.
    pub fn holds(&self, claims: &Claims) -> bool {
        let accepts = |value: &serde_json::Value| match value {
            serde_json::Value::String(text) => self.accepted.contains(text),
            serde_json::Value::Number(number) => self.accepted.contains(&number.to_string()),
            serde_json::Value::Bool(flag) => {
                self.accepted.contains(if *flag { "true" } else { "false" })
            }
            serde_json::Value::Null
            | serde_json::Value::Array(_)
            | serde_json::Value::Object(_) => false,
        };
        match claims.at(&self.claim) {
            Some(_) if mutant::on("claim-any") => true,
            Some(serde_json::Value::Array(values)) => values.iter().any(accepts),
            Some(value) => accepts(value),
            None => false,
        }
    }
}

/// What a tenant may do with a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
#[expect(clippy::struct_excessive_bools, reason = "four independent privileges, as in SQL's GRANT")]
pub struct Access {
    /// SELECT
    pub select: bool,
    /// INSERT
    pub insert: bool,
    /// UPDATE
    pub update: bool,
    /// DELETE
    pub delete: bool,
}

impl Access {
    /// Everything.
    pub const ALL: Self = Self { select: true, insert: true, update: true, delete: true };
    /// Reading only.
    pub const READ: Self = Self { select: true, insert: false, update: false, delete: false };
    /// Nothing.
    pub const NONE: Self = Self { select: false, insert: false, update: false, delete: false };
}

/// How a table's rows belong to tenants.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum Protection {
    /// A column holds the tenant.
    Tenant {
        /// The tenant column, as the catalog spells it.
        column: String,
        /// Its type.
        tenant_type: TenantType,
    },
    /// A foreign key leads to a row that belongs to a tenant.
    TenantThrough {
        /// The column of this table.
        column: String,
        /// The parent table.
        parent: RelationName,
        /// The parent's key that `column` refers to.
        parent_column: String,
    },
    /// Every tenant reads, none writes.
    Shared,
    /// No tenant reads or writes.
    Deny,
}

/// A rule on one column.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub enum ColumnRule {
    /// Never available.
    Deny,
    /// Replaced by an expression, unless the claims say otherwise.
    Mask {
        /// What takes its place.
        expression: PolicyExpression,
        /// Who sees the column itself.
        unless: Option<ClaimRule>,
    },
}

/// The rule for one table, or for all tables that a pattern names.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct TablePolicy {
    /// How its rows belong to tenants.
    pub protection: Protection,
    /// What a tenant may do; for [`Protection::Shared`] always [`Access::READ`].
    pub access: Access,
    /// A further condition on every row seen or touched.
    pub condition: Option<PolicyExpression>,
    /// Rules on columns, by column name.
    pub columns: BTreeMap<String, ColumnRule>,
    /// Enforced or only monitored.
    pub mode: Mode,
    /// The entry as written (`public.orders` or `metrics.*`): the rule's name in audit records.
    pub rule: Arc<str>,
    /// Where the entry stands.
    pub at: SourcePosition,
}

/// Who may see every tenant, and for how long a token may live.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct BreakGlass {
    /// Who.
    pub rule: ClaimRule,
    /// Longest lifetime of such a token, in seconds.
    pub max_lifetime_seconds: u64,
}

/// What a caller may do beyond a tenant.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Default)]
pub struct Privileges {
    /// It may change the schema.
    pub ddl: bool,
    /// It sees the rows of every tenant.
    pub every_tenant: bool,
}

/// A quota: for each tenant, or for those whose name a pattern matches.
#[derive(Clone, Debug, PartialEq)]
pub struct Quota {
    /// Tenant pattern with `*`; `None` for every tenant.
    pub tenant: Option<String>,
    /// Statements per second.
    pub statements_per_second: Option<f64>,
    /// Statements at once above the rate.
    pub burst: Option<u32>,
    /// Sessions or requests with a statement in flight.
    pub concurrent: Option<u32>,
    /// Enforced, or only monitored: that of its file.
    pub mode: Mode,
}

/// A pattern over `schema.table`, each part with `*`.
#[derive(Clone, Debug, PartialEq, Eq, Hash)]
pub struct RelationPattern {
    /// Pattern of the schema.
    pub schema: String,
    /// Pattern of the relation.
    pub name: String,
}

impl RelationPattern {
    /// Whether the pattern names the relation.
    pub fn matches(&self, relation: &RelationName) -> bool {
        wildcard(&self.schema, &relation.schema) && wildcard(&self.name, &relation.name)
    }
}

/// Whether `text` matches `pattern`, in which `*` stands for any run of characters.
pub fn wildcard(pattern: &str, text: &str) -> bool {
    match pattern.split_once('*') {
        None if mutant::on("pattern-prefix") => text.starts_with(pattern),
        None => pattern == text,
        Some((head, tail)) => text.strip_prefix(head).is_some_and(|rest| {
            rest.char_indices()
                .map(|(at, _)| at)
                .chain([rest.len()])
                .any(|at| rest.get(at..).is_some_and(|end| wildcard(tail, end)))
        }),
    }
}

/// The compiled PostgreSQL policy: one immutable snapshot.
#[derive(Clone, Debug, Default)]
pub struct Policy {
    /// Its version.
    pub epoch: PolicyEpoch,
    /// What holds where no table's rule does (relations that no policy names, functions): monitored if
    /// every file says so.
    pub mode: Mode,
    /// Exact entries.
    pub tables: HashMap<RelationName, Arc<TablePolicy>>,
    /// Patterns in order of falling length of their literal text; first match wins.
    pub patterns: Vec<(RelationPattern, Arc<TablePolicy>)>,
    /// Functions beyond the built-in safe list, as (schema, name).
    pub functions: BTreeSet<(String, String)>,
    /// Who may change the schema.
    pub ddl: Option<ClaimRule>,
    /// Who sees every tenant.
    pub break_glass: Option<BreakGlass>,
    /// Quotas in file order.
    pub quotas: Vec<Quota>,
}

impl Policy {
    /// What a caller may do beyond a tenant.
    ///
    /// # Errors
    /// HR2008 for a caller whom break-glass names with a token that lives longer than it may: such a
    /// token is good for nothing, so that nobody keeps one at hand.
    pub fn privileges(&self, caller: &Principal) -> Result<Privileges, Denial> {
        let every_tenant = match &self.break_glass {
            Some(break_glass) if break_glass.rule.holds(&caller.claims) => {
                if caller.lifetime_seconds > break_glass.max_lifetime_seconds {
                    let object = "exp: the lifetime is over the limit of break-glass tokens";
                    return Err(Denial::of(DenialCode::TokenClaim, object));
                }
                true
            }
            Some(_) | None => false,
        };
        Ok(Privileges { ddl: self.may_change_schema(&caller.claims), every_tenant })
    }

    /// Whether anything is only monitored.
    pub fn monitors(&self) -> bool {
        let patterns = self.patterns.iter().map(|(_, table)| table);
        self.mode == Mode::Monitor
            || self.tables.values().chain(patterns).any(|table| table.mode == Mode::Monitor)
    }

    /// Whether the claims are those of a `ddl` identity.
    pub fn may_change_schema(&self, claims: &Claims) -> bool {
        self.ddl.as_ref().is_some_and(|rule| rule.holds(claims))
    }

    /// Whether the claims are those of a break-glass identity, whatever its token's lifetime.
    pub fn breaks_glass(&self, claims: &Claims) -> bool {
        self.break_glass.as_ref().is_some_and(|break_glass| break_glass.rule.holds(claims))
    }

    /// The rule for a relation: the exact entry, else the first pattern that names it, else `None`,
    /// which means denied.
    ///
    /// SECURITY: a pattern never names a relation of a system schema, so that `*.*` does not open
    /// the catalogs.
    pub fn table(&self, relation: &RelationName) -> Option<&Arc<TablePolicy>> {
        let exact = self.tables.get(relation).filter(|_| !mutant::on("pattern-first"));
        exact.or_else(|| {
            if name::is_system_schema(&relation.schema) && !mutant::on("system-pattern") {
                return None;
            }
            self.patterns
                .iter()
                .find(|(pattern, _)| pattern.matches(relation))
                .map(|(_, table)| table)
        })
    }

    /// Every SQL expression of the policy with the rule that it belongs to, for `sql` to check.
    pub fn expressions(&self) -> impl Iterator<Item = (&Arc<TablePolicy>, &PolicyExpression)> {
        self.tables.values().chain(self.patterns.iter().map(|(_, table)| table)).flat_map(|table| {
            let masks = table.columns.values().filter_map(|rule| match rule {
                ColumnRule::Deny => None,
                ColumnRule::Mask { expression, .. } => Some(expression),
            });
            table.condition.iter().chain(masks).map(move |expression| (table, expression))
        })
    }
}
