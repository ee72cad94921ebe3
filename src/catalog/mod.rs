//! A model of the upstream's schema, as far as the decision needs it. Layer 1: pure data; filled
//! by `catalog_load`, or from a file, or (offline) guessed from the policy.

pub mod file;

use std::collections::{BTreeMap, BTreeSet, HashMap, HashSet};

use serde::{Deserialize, Serialize};

use crate::ids::{CatalogEpoch, RelationName};

/// What kind of relation it is (`pg_class.relkind`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum RelationKind {
    /// `r`
    Table,
    /// `p`
    PartitionedTable,
    /// `v`
    View,
    /// `m`
    MaterializedView,
    /// `f`
    ForeignTable,
    /// `S`
    Sequence,
}

/// A column (`pg_attribute`), in ordinal order within its relation.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
pub struct Column {
    /// Its name, case-exact.
    pub name: String,
    /// Its number (`attnum`); 0 when it was not read from a server.
    #[serde(default)]
    pub number: i16,
    /// Schema of its type, for example `pg_catalog`.
    pub type_schema: String,
    /// `pg_type.typname`, for example `uuid`, `int4`, `_text`; domains by their own name.
    pub type_name: String,
    /// Declared NOT NULL.
    pub not_null: bool,
    /// Has a default, is an identity column or is generated.
    pub has_default: bool,
    /// `GENERATED ALWAYS AS (…) STORED`, or an identity that is ALWAYS: no value may be given.
    pub generated: bool,
}

/// A foreign key of one column or more.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ForeignKey {
    /// Columns of this relation.
    pub columns: Vec<String>,
    /// Schema of the referenced relation.
    pub parent_schema: String,
    /// The referenced relation.
    pub parent_name: String,
    /// Columns of the referenced relation, in the same order.
    pub parent_columns: Vec<String>,
}

/// A table, view or other relation.
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Relation {
    /// Schema.
    pub schema: String,
    /// Name.
    pub name: String,
    /// Its OID; 0 when it was not read from a server.
    pub oid: u32,
    /// Its kind.
    pub kind: RelationKind,
    /// Its columns, dropped ones left out.
    pub columns: Vec<Column>,
    /// Columns of the primary key.
    pub primary_key: Vec<String>,
    /// Unique keys other than the primary key.
    pub unique_keys: Vec<Vec<String>>,
    /// Foreign keys.
    pub foreign_keys: Vec<ForeignKey>,
    /// Relations that this one is a partition or an inheritance child of.
    pub parents: Vec<(String, String)>,
    /// Row-level security is enabled.
    pub rls_enabled: bool,
    /// Row-level security is forced (binds the owner too).
    pub rls_forced: bool,
    /// Views: `security_invoker = true`.
    pub security_invoker: bool,
    /// Views: `security_barrier = true`.
    pub security_barrier: bool,
    /// Owner's role name.
    pub owner: String,
}

impl Relation {
    /// The column of that name.
    pub fn column(&self, name: &str) -> Option<&Column> {
        self.columns.iter().find(|column| column.name == name)
    }

    /// Its schema-qualified name.
    pub fn relation_name(&self) -> RelationName {
        RelationName::new(&self.schema, &self.name)
    }
}

/// A function, procedure or aggregate outside `pg_catalog` (those inside are known by name).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct Function {
    /// Schema.
    pub schema: String,
    /// Name.
    pub name: String,
    /// `SECURITY DEFINER`
    pub security_definer: bool,
    /// Language name.
    pub language: String,
    /// Its bare name never means it: `pg_catalog`, where names are looked up first, has a function of that
    /// name with the same arguments. `false` where that is not known.
    #[serde(default)]
    pub hidden: bool,
}

/// Where PostgreSQL takes a cast for itself (`pg_cast.castcontext`).
#[derive(Clone, Copy, Debug, PartialEq, Eq, Serialize, Deserialize)]
#[serde(rename_all = "snake_case")]
pub enum CastContext {
    /// `e`: only where it is written.
    Explicit,
    /// `a`: also for a value that is stored in a column.
    Assignment,
    /// `i`: anywhere.
    Implicit,
}

/// A cast that runs a function of somebody's making. Types and functions are (schema, name).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImpliedCast {
    /// From this type.
    pub source: (String, String),
    /// To this type.
    pub target: (String, String),
    /// By this function.
    pub function: (String, String),
    /// Where.
    pub context: CastContext,
    /// The source and the types that are made of it: domains, arrays, rows, of any depth.
    pub sources: BTreeSet<(String, String)>,
    /// The target and the types that are made of it.
    pub targets: BTreeSet<(String, String)>,
}

/// A domain whose CHECK runs a function of somebody's making. Types and functions are (schema, name).
#[derive(Clone, Debug, PartialEq, Eq, Serialize, Deserialize)]
pub struct ImpliedCheck {
    /// The domain.
    pub domain: (String, String),
    /// The function.
    pub function: (String, String),
    /// The domain and the types that are made of it: domains, arrays, rows, ranges, of any depth.
    pub holders: BTreeSet<(String, String)>,
}

/// What only the posture report and `hedgerow rls` ask for: no decision looks at it.
#[derive(Clone, Debug, Default, PartialEq, Eq, Serialize, Deserialize)]
#[serde(default)]
pub struct Posture {
    /// The upstream role is a superuser: row-level security does not bind it.
    pub superuser: bool,
    /// The upstream role has BYPASSRLS.
    pub bypass_rls: bool,
    /// Roles that the upstream role is, or is a member of: what they own, it owns.
    pub member_of: Vec<String>,
    /// Unique indexes over expressions or with a WHERE clause: (schema, table, index).
    pub special_unique_indexes: Vec<(String, String, String)>,
    /// What each view reads: (view's schema, view, relation's schema, relation).
    pub view_sources: Vec<(String, String, String, String)>,
    /// Sequences that fill a column: (sequence's schema, sequence, table's schema, table).
    pub owned_sequences: Vec<(String, String, String, String)>,
}

/// A snapshot of the upstream's schema.
#[derive(Clone, Debug, Default)]
pub struct Catalog {
    /// Its version.
    pub epoch: CatalogEpoch,
    /// Whether it was read from a server: if not, names that it does not hold are judged by the
    /// policy alone (`hedgerow explain` offline).
    pub live: bool,
    /// `server_version_num`; 0 when unknown.
    pub server_version: u32,
    /// Relations outside `pg_catalog` and `information_schema`.
    pub relations: HashMap<RelationName, Relation>,
    /// Names of relations by OID; empty when they were not read from a server.
    pub by_oid: HashMap<u32, RelationName>,
    /// Functions outside `pg_catalog`.
    pub functions: Vec<Function>,
    /// Functions of `pg_catalog` that can be called with one value, and so by attribute notation
    /// (`value.function`); not those named as the type that they return. Empty when they were not read
    /// from a server.
    pub attribute_functions: HashSet<String>,
    /// Operator symbols that some schema other than `pg_catalog` defines between types of
    /// `pg_catalog`: PostgreSQL may take such an operator for its own.
    pub user_operators: HashSet<String>,
    /// Functions (schema, name) behind operators, by the operator's symbol; not those that PostgreSQL itself
    /// runs for an operator, nor an extension's own in C.
    pub implied_operators: BTreeMap<String, Vec<(String, String)>>,
    /// Casts by functions, with the same left out.
    pub implied_casts: Vec<ImpliedCast>,
    /// Domains with such functions in a CHECK.
    pub implied_checks: Vec<ImpliedCheck>,
    /// Extensions that are there.
    pub extensions: HashSet<String>,
    /// Columns that reading or comparing may fail for: computed as they are read, or under a collation
    /// of their own.
    pub unsteady_columns: HashMap<RelationName, HashSet<String>>,
    /// Types outside `pg_catalog` as (schema, name): enums, domains, composites, ranges, row types
    /// of tables, and the array types of all of them.
    pub user_types: HashSet<(String, String)>,
    /// Their names by OID; empty when they were not read from a server.
    pub types_by_oid: HashMap<u32, (String, String)>,
    /// The search path of a fresh upstream session, `$user` resolved, `pg_catalog` left out.
    pub search_path: Vec<String>,
    /// The upstream role.
    pub role: String,
    /// Facts for the posture report.
    pub posture: Posture,
}

impl Catalog {
    /// Whether reading or comparing a column may fail.
    pub fn is_unsteady(&self, relation: &RelationName, column: &str) -> bool {
        self.unsteady_columns.get(relation).is_some_and(|columns| columns.contains(column))
    }

    /// The relation of that name.
    pub fn relation(&self, name: &RelationName) -> Option<&Relation> {
        self.relations.get(name)
    }
}
