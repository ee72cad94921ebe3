//! What a policy file may say: its sections, as the operator writes them. Layer 1, pure.
//!
//! These types give the reader and `policy.schema.json`; [`super::load`] gives them their meaning.

use std::borrow::Cow;

use schemars::{JsonSchema, Schema, SchemaGenerator, json_schema};

use crate::yaml::read::{
    At, ClaimPathText, DurationText, Entries, FromNode, Present, SizeText, expected, nearest,
};
use crate::yaml::{Fault, Node, Value};
use crate::{choice, section};

/// A policy file of either engine; `engine` says which, and without it a file is PostgreSQL's.
#[derive(Clone, Debug, JsonSchema)]
#[schemars(untagged, title = "Hedgerow policy file")]
pub enum PolicyFile {
    /// `engine: postgres`
    Postgres(Box<PostgresFile>),
    /// `engine: bigquery`
    BigQuery(Box<BigQueryFile>),
}

impl FromNode for PolicyFile {
    fn from_node(node: &Node, faults: &mut Vec<Fault>) -> Option<Self> {
        let engine = match &node.value {
            Value::Map(entries) => entries.iter().find(|(key, _)| key.text == "engine"),
            Value::Null => return expected(node, "a policy", faults),
            Value::Bool(_)
            | Value::Integer(_)
            | Value::Number(_)
            | Value::Text(_)
            | Value::List(_) => return expected(node, "a map", faults),
        };
        match engine.map(|(_, engine)| (engine, &engine.value)) {
            None => Some(Self::Postgres(FromNode::from_node(node, faults).map(Box::new)?)),
            Some((_, Value::Text(engine))) if engine == "postgres" => {
                Some(Self::Postgres(FromNode::from_node(node, faults).map(Box::new)?))
            }
            Some((_, Value::Text(engine))) if engine == "bigquery" => {
                Some(Self::BigQuery(FromNode::from_node(node, faults).map(Box::new)?))
            }
            Some((engine, _)) => expected(engine, "`postgres` or `bigquery`", faults),
        }
    }
}

choice! {
    /// PostgreSQL.
    pub enum PostgresEngine {
        /// PostgreSQL.
        Postgres = "postgres",
    }
}

choice! {
    /// BigQuery.
    pub enum BigQueryEngine {
        /// BigQuery.
        BigQuery = "bigquery",
    }
}

choice! {
    /// What happens to a statement that would be denied.
    pub enum ModeWord {
        /// It is denied.
        Enforce = "enforce",
        /// It is recorded as would-deny and let through.
        Monitor = "monitor",
    }
}

choice! {
    /// The type of a tenant column.
    pub enum TypeWord {
        /// `uuid`
        Uuid = "uuid",
        /// `text`, `varchar`, `char`
        Text = "text",
        /// `smallint`, `integer`, `bigint`
        Int = "int",
    }
}

choice! {
    /// A privilege on a table.
    pub enum AccessWord {
        /// Reading.
        Select = "select",
        /// Adding rows.
        Insert = "insert",
        /// Changing rows.
        Update = "update",
        /// Removing rows.
        Delete = "delete",
    }
}

choice! {
    /// A table without rules of its own.
    pub enum TableWord {
        /// Every tenant reads, none writes.
        Shared = "shared",
        /// No tenant reads or writes.
        Deny = "deny",
    }
}

choice! {
    /// A column that is never available.
    pub enum ColumnWord {
        /// Never available.
        Deny = "deny",
    }
}

choice! {
    /// How a BigQuery dataset keeps tenants apart.
    pub enum DatasetWord {
        /// Shared tables: statements are rewritten.
        Rewrite = "rewrite",
        /// Views that read the request's secure context.
        SecureContext = "secure_context",
        /// A dataset a tenant: names are checked.
        DatasetPerTenant = "dataset_per_tenant",
    }
}

section! {
    /// Policies for PostgreSQL.
    pub struct PostgresFile {
        /// The engine.
        pub engine: Option<PostgresEngine>,
        /// Enforced (the default) or only monitored: for every table below that does not say.
        pub mode: Option<At<ModeWord>>,
        /// The tenant column of every table below that does not name its own.
        pub tenant: Option<Present<DefaultTenant>>,
        /// Rules by table: `public.users`, `users`, `public."Customers"`, or a pattern `metrics.*`.
        pub tables: Option<Entries<TableEntry>>,
        /// Functions beyond the built-in safe list.
        pub functions: Option<Functions>,
        /// Who may change the schema.
        pub ddl: Option<At<ClaimRuleEntry>>,
        /// Who sees every tenant.
        pub break_glass: Option<At<BreakGlassEntry>>,
        /// Limits on tenants.
        pub quotas: Option<Vec<At<QuotaEntry>>>,
    }
}

section! {
    /// The file's default tenant column.
    pub struct DefaultTenant {
        /// Its name.
        pub column: At<String>,
        /// Its type.
        pub r#type: TypeWord,
    }
}

section! {
    /// A tenant column with its own type.
    pub struct TypedTenant {
        /// Its name.
        pub column: At<String>,
        /// Its type; without it that of the file's default.
        pub r#type: Option<TypeWord>,
    }
}

/// A table's tenant column: its name, or its name and type.
#[derive(Clone, Debug, JsonSchema)]
#[schemars(untagged)]
pub enum TenantEntry {
    /// `tenant_id`, of the file's default type.
    Column(At<String>),
    /// `{column: org, type: text}`
    Typed(TypedTenant),
}

impl FromNode for TenantEntry {
    fn from_node(node: &Node, faults: &mut Vec<Fault>) -> Option<Self> {
        match &node.value {
            Value::Text(_) => FromNode::from_node(node, faults).map(Self::Column),
            Value::Map(_) => FromNode::from_node(node, faults).map(Self::Typed),
            Value::Null
            | Value::Bool(_)
            | Value::Integer(_)
            | Value::Number(_)
            | Value::List(_) => {
                expected(node, "a column's name, or `{column: …, type: uuid | text | int}`", faults)
            }
        }
    }
}

/// The rule for a table, or for all that a pattern names.
#[derive(Clone, Debug, JsonSchema)]
#[schemars(untagged)]
pub enum TableEntry {
    /// `shared` or `deny`.
    Word(TableWord),
    /// Rules.
    Rules(Box<TableRules>),
    /// An entry with faults: its name is known, its rules are not.
    #[schemars(skip)]
    Faulty,
}

impl FromNode for TableEntry {
    fn from_node(node: &Node, faults: &mut Vec<Fault>) -> Option<Self> {
        let before = faults.len();
        let entry = match &node.value {
            Value::Map(_) => {
                FromNode::from_node(node, faults).map(|rules| Self::Rules(Box::new(rules)))
            }
            Value::Text(word) if TableWord::WORDS.contains(&word.as_str()) => {
                FromNode::from_node(node, faults).map(Self::Word)
            }
            Value::Text(word) if nearest(word, TableWord::WORDS.iter().copied()).is_none() => {
                let what = format!("`shared`, `deny` or a map such as `{{tenant: {word}}}`");
                expected(node, &what, faults)
            }
            Value::Text(_)
            | Value::Null
            | Value::Bool(_)
            | Value::Integer(_)
            | Value::Number(_)
            | Value::List(_) => {
                expected(node, "`shared`, `deny` or a map such as `{tenant: tenant_id}`", faults)
            }
        };
        Some(entry.filter(|_| faults.len() == before).unwrap_or(Self::Faulty))
    }
}

section! {
    /// Rules for a table.
    pub struct TableRules {
        /// The column that holds the tenant.
        pub tenant: Option<TenantEntry>,
        /// The foreign key that leads to a row of the tenant: `{account_id: public.accounts.id}`.
        pub tenant_through: Option<At<Entries<At<String>>>>,
        /// What a tenant may do; without it everything.
        pub access: Option<At<Vec<At<AccessWord>>>>,
        /// A further SQL condition on every row; `claim('path')` stands for a claim.
        pub r#where: Option<At<String>>,
        /// Rules on columns.
        pub columns: Option<Entries<ColumnEntry>>,
        /// Enforced or only monitored.
        pub mode: Option<At<ModeWord>>,
    }
}

/// A rule on a column.
#[derive(Clone, Debug, JsonSchema)]
#[schemars(untagged)]
pub enum ColumnEntry {
    /// `deny`
    Word(ColumnWord),
    /// A mask.
    Mask(MaskEntry),
}

impl FromNode for ColumnEntry {
    fn from_node(node: &Node, faults: &mut Vec<Fault>) -> Option<Self> {
        match &node.value {
            Value::Map(_) => FromNode::from_node(node, faults).map(Self::Mask),
            Value::Text(word) if ColumnWord::WORDS.contains(&word.as_str()) => {
                FromNode::from_node(node, faults).map(Self::Word)
            }
            Value::Text(_)
            | Value::Null
            | Value::Bool(_)
            | Value::Integer(_)
            | Value::Number(_)
            | Value::List(_) => {
                expected(node, "`deny`, or `{mask: \"SQL expression\", unless: …}`", faults)
            }
        }
    }
}

section! {
    /// A column that is shown masked.
    pub struct MaskEntry {
        /// The SQL expression that takes its place.
        pub mask: At<String>,
        /// Who sees the column itself.
        pub unless: Option<ClaimRuleEntry>,
    }
}

section! {
    /// A condition on a claim.
    pub struct ClaimRuleEntry {
        /// The claim's path.
        pub claim: ClaimPathText,
        /// The accepted values; of a claim that is a list, one must be among them.
        pub r#in: At<Vec<ScalarText>>,
    }
}

/// A claim's value: text, a whole number, or a flag.
#[derive(Clone, Debug)]
pub struct ScalarText(pub String);

impl FromNode for ScalarText {
    fn from_node(node: &Node, faults: &mut Vec<Fault>) -> Option<Self> {
        match &node.value {
            Value::Text(text) if !text.is_empty() => Some(Self(text.clone())),
            Value::Integer(number) => Some(Self(number.to_string())),
            Value::Bool(flag) => Some(Self(flag.to_string())),
            Value::Text(_) | Value::Null | Value::Number(_) | Value::List(_) | Value::Map(_) => {
                expected(node, "text, a whole number, `true` or `false`", faults)
            }
        }
    }
}

impl JsonSchema for ScalarText {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Scalar".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": ["string", "integer", "boolean"], "minLength": 1})
    }
}

section! {
    /// Who sees every tenant.
    pub struct BreakGlassEntry {
        /// The claim's path.
        pub claim: ClaimPathText,
        /// The accepted values.
        pub r#in: At<Vec<ScalarText>>,
        /// Longest lifetime of such a token.
        pub max_lifetime: DurationText,
    }
}

section! {
    /// Functions that tenants may call.
    pub struct Functions {
        /// Their names: `public.slugify`.
        pub allow: Vec<At<String>>,
    }
}

section! {
    /// A limit on tenants.
    pub struct QuotaEntry {
        /// The tenants, `*` standing for any run of characters; without it each tenant.
        pub tenant: Option<ScalarText>,
        /// Statements per second.
        pub statements_per_second: Option<f64>,
        /// Statements at once above the rate; default what the rate gives in a second.
        pub burst: Option<u32>,
        /// Sessions or requests with a statement in flight.
        pub concurrent: Option<u32>,
    }
}

section! {
    /// Policies for BigQuery.
    pub struct BigQueryFile {
        /// The engine.
        pub engine: BigQueryEngine,
        /// Enforced (the default) or only monitored.
        pub mode: Option<At<ModeWord>>,
        /// The tenant column of every table below that does not name its own.
        pub tenant: Option<Present<DefaultTenant>>,
        /// Rules by table: `project.dataset.table`, each part with `*`.
        pub tables: Option<Entries<TableEntry>>,
        /// How datasets keep tenants apart: `project.dataset: rewrite`.
        pub datasets: Option<Entries<DatasetWord>>,
        /// Routines beyond the built-in safe list: `project.dataset.routine`. They must read no table.
        pub functions: Option<Functions>,
        /// Most bytes that one query may be billed for.
        pub maximum_bytes_billed: Option<At<Bytes>>,
        /// Most bytes that a tenant may scan a day.
        pub bytes_per_day: Option<At<Bytes>>,
        /// Labels of every job.
        pub labels: Option<Entries<At<String>>>,
        /// Limits on tenants.
        pub quotas: Option<Vec<At<QuotaEntry>>>,
    }
}

/// A number of bytes: whole, or a size such as `10GiB`.
#[derive(Clone, Copy, Debug)]
pub struct Bytes(pub u64);

impl FromNode for Bytes {
    fn from_node(node: &Node, faults: &mut Vec<Fault>) -> Option<Self> {
        match node.value {
            Value::Integer(_) => u64::from_node(node, faults).map(Self),
            Value::Null
            | Value::Bool(_)
            | Value::Number(_)
            | Value::Text(_)
            | Value::List(_)
            | Value::Map(_) => SizeText::from_node(node, faults).map(|size| Self(size.0)),
        }
    }
}

impl JsonSchema for Bytes {
    fn inline_schema() -> bool {
        true
    }

    fn schema_name() -> Cow<'static, str> {
        "Bytes".into()
    }

    fn json_schema(_: &mut SchemaGenerator) -> Schema {
        json_schema!({"type": ["string", "integer"], "minimum": 1, "pattern": "^[0-9]+ ?(B|KiB|MiB|GiB)$"})
    }
}
