//! What the grammar knows of `schema.sql`: columns, their types, and each column's trick, by which
//! A's values survive an expression that B's values fail at.

/// Types of the grammar.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub enum Ty {
    Int,
    Num,
    Float,
    Text,
    Bool,
    Uuid,
    Json,
    Moment,
    Date,
    Texts,
    /// The tenant column's type: uuid or int, by world.
    Tenant,
}

impl Ty {
    pub const ALL: [Self; 11] = [
        Self::Int,
        Self::Num,
        Self::Float,
        Self::Text,
        Self::Bool,
        Self::Uuid,
        Self::Json,
        Self::Moment,
        Self::Date,
        Self::Texts,
        Self::Tenant,
    ];

    /// Some value of the type.
    pub const fn literal(self) -> &'static str {
        match self {
            Self::Int => "1",
            Self::Num => "1.5",
            Self::Float => "1.25::float8",
            Self::Text => "'7'::text",
            Self::Bool => "true",
            Self::Uuid => "'00000000-0000-4000-8000-000000000001'::uuid",
            Self::Json => "'{\"k\": 1}'::jsonb",
            Self::Moment => "'2026-01-03Z'::timestamptz",
            Self::Date => "'2026-01-05'::date",
            Self::Texts => "'{1,7}'::text[]",
            Self::Tenant => "NULL",
        }
    }
}

/// What A's values of a column are good for and B's are not.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Trick {
    None,
    /// A below 50, B 4242nn.
    Small,
    /// A 2026, B 4242.
    Year,
    /// A: digits.
    IntText,
    UuidText,
    DateText,
    /// A: the name of a relation.
    ClassText,
    JsonText,
    /// A: no trailing backslash.
    Pattern,
    /// A: `k` is a number.
    JsonK,
    /// A: elements are digits.
    IntTexts,
    Plain,
}

/// A column.
#[derive(Clone, Debug)]
pub struct Column {
    pub name: String,
    pub ty: Ty,
    pub trick: Trick,
}

/// A table, view or shared table.
#[derive(Debug)]
pub struct Table {
    pub name: &'static str,
    pub columns: &'static [(&'static str, Ty, Trick)],
    pub tenant: Option<&'static str>,
    pub writable: bool,
    /// Whether `id` alone is a primary key: GROUP BY and ON CONFLICT rest on it.
    pub keyed: bool,
}

use Trick as K;
use Ty as T;

/// Everything that the grammar names.
pub const TABLES: &[Table] = &[
    Table {
        name: "accounts",
        columns: &[
            ("id", T::Int, K::None),
            ("tenant_id", T::Tenant, K::None),
            ("name", T::Text, K::Plain),
            ("code", T::Text, K::IntText),
            ("credit", T::Int, K::Small),
            ("balance", T::Num, K::Small),
            ("ratio", T::Float, K::Small),
            ("meta", T::Json, K::JsonK),
            ("tags", T::Texts, K::IntTexts),
            ("born", T::Moment, K::Year),
            ("parent", T::Int, K::None),
            ("flag", T::Bool, K::None),
        ],
        tenant: Some("tenant_id"),
        writable: true,
        keyed: true,
    },
    Table {
        name: "orders",
        columns: &[
            ("id", T::Int, K::None),
            ("tenant_id", T::Tenant, K::None),
            ("account_id", T::Int, K::None),
            ("total", T::Num, K::Small),
            ("qty", T::Int, K::Small),
            ("note", T::Text, K::Pattern),
            ("ref", T::Text, K::UuidText),
            ("placed", T::Date, K::Year),
            ("uid", T::Uuid, K::None),
        ],
        tenant: Some("tenant_id"),
        writable: true,
        keyed: true,
    },
    Table {
        name: "items",
        columns: &[
            ("id", T::Int, K::None),
            ("order_id", T::Int, K::None),
            ("sku", T::Text, K::IntText),
            ("amount", T::Int, K::Small),
            ("price", T::Num, K::Small),
        ],
        tenant: None,
        writable: true,
        keyed: true,
    },
    Table {
        name: "notes",
        columns: &[
            ("id", T::Int, K::None),
            ("owner", T::Text, K::Plain),
            ("body", T::Text, K::JsonText),
            ("rank", T::Int, K::Small),
            ("doc", T::Json, K::JsonK),
        ],
        tenant: Some("owner"),
        writable: true,
        keyed: true,
    },
    Table {
        name: "regional",
        columns: &[
            ("id", T::Int, K::None),
            ("tenant_id", T::Tenant, K::None),
            ("region", T::Text, K::Plain),
            ("secret", T::Text, K::IntText),
            ("n", T::Int, K::Small),
        ],
        tenant: Some("tenant_id"),
        writable: true,
        keyed: true,
    },
    Table {
        name: "events",
        columns: &[
            ("id", T::Int, K::None),
            ("tenant_id", T::Tenant, K::None),
            ("day", T::Date, K::None),
            ("kind", T::Text, K::ClassText),
            ("payload", T::Text, K::DateText),
            ("val", T::Int, K::Small),
        ],
        tenant: Some("tenant_id"),
        writable: true,
        keyed: false,
    },
    Table {
        name: "stock",
        columns: &[
            ("id", T::Int, K::None),
            ("tenant_id", T::Tenant, K::None),
            ("sku", T::Text, K::Plain),
            ("label", T::Text, K::IntText),
            ("n", T::Int, K::Small),
        ],
        tenant: Some("tenant_id"),
        writable: true,
        keyed: false,
    },
    Table {
        name: "account_view",
        columns: &[
            ("id", T::Int, K::None),
            ("tenant_id", T::Tenant, K::None),
            ("name", T::Text, K::Plain),
            ("code", T::Text, K::IntText),
            ("credit", T::Int, K::Small),
            ("meta", T::Json, K::JsonK),
        ],
        tenant: Some("tenant_id"),
        writable: false,
        keyed: false,
    },
    Table {
        name: "currencies",
        columns: &[
            ("code", T::Text, K::Plain),
            ("rate", T::Num, K::Small),
            ("label", T::Text, K::IntText),
            ("ord", T::Int, K::Small),
        ],
        tenant: None,
        writable: false,
        keyed: false,
    },
];

impl Table {
    /// Its columns as the grammar keeps them.
    pub fn columns(&self) -> Vec<Column> {
        self.columns
            .iter()
            .map(|(name, ty, trick)| Column { name: (*name).to_owned(), ty: *ty, trick: *trick })
            .collect()
    }
}
