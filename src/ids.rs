//! Newtypes that every layer may name. Layer 0: depends on nothing of ours.

use std::fmt;

/// Version of the loaded policy; grows by one at each successful (re)load. Part of every cache key.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct PolicyEpoch(pub u64);

/// Version of the loaded catalog; grows by one whenever the upstream's schema was read anew.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Default)]
pub struct CatalogEpoch(pub u64);

/// A schema-qualified relation (table, view, …) as the catalog spells it: case-exact, unquoted.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct RelationName {
    /// Schema, for example `public`.
    pub schema: String,
    /// Relation, for example `orders`.
    pub name: String,
}

impl RelationName {
    /// A name from its two parts, taken as they are (no case folding, no unquoting).
    pub fn new(schema: impl Into<String>, name: impl Into<String>) -> Self {
        Self { schema: schema.into(), name: name.into() }
    }
}

impl fmt::Display for RelationName {
    /// `schema.name`, each part quoted when PostgreSQL would need it.
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}", QuotedIdent(&self.schema), QuotedIdent(&self.name))
    }
}

/// Displays an identifier the way PostgreSQL must read it back: bare when it is plain lower case and
/// no keyword, else in double quotes with inner quotes doubled.
pub struct QuotedIdent<'a>(pub &'a str);

impl fmt::Display for QuotedIdent<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut chars = self.0.chars();
        let plain = chars.next().is_some_and(|c| c.is_ascii_lowercase() || c == '_')
            && chars.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_')
            && KEYWORDS.binary_search(&self.0).is_err();
        if plain { f.write_str(self.0) } else { write!(f, "\"{}\"", self.0.replace('"', "\"\"")) }
    }
}

/// Every keyword that is not "unreserved" (`pg_get_keywords()` of PostgreSQL 15 to 18), sorted. Bare,
/// a column named `user` would be read as the function.
#[rustfmt::skip] // one word a line would be a page of nothing
const KEYWORDS: &[&str] = &[
    "all", "analyse", "analyze", "and", "any", "array", "as", "asc", "asymmetric", "authorization",
    "between", "bigint", "binary", "bit", "boolean", "both", "case", "cast", "char", "character",
    "check", "coalesce", "collate", "collation", "column", "concurrently", "constraint", "create",
    "cross", "current_catalog", "current_date", "current_role", "current_schema", "current_time",
    "current_timestamp", "current_user", "dec", "decimal", "default", "deferrable", "desc",
    "distinct", "do", "else", "end", "except", "exists", "extract", "false", "fetch", "float",
    "for", "foreign", "freeze", "from", "full", "grant", "greatest", "group", "grouping", "having",
    "ilike", "in", "initially", "inner", "inout", "int", "integer", "intersect", "interval", "into",
    "is", "isnull", "join", "json", "json_array", "json_arrayagg", "json_exists", "json_object",
    "json_objectagg", "json_query", "json_scalar", "json_serialize", "json_table", "json_value",
    "lateral", "leading", "least", "left", "like", "limit", "localtime", "localtimestamp",
    "merge_action", "national", "natural", "nchar", "none", "normalize", "not", "notnull", "null",
    "nullif", "numeric", "offset", "on", "only", "or", "order", "out", "outer", "overlaps",
    "overlay", "placing", "position", "precision", "primary", "real", "references", "returning",
    "right", "row", "select", "session_user", "setof", "similar", "smallint", "some", "substring",
    "symmetric", "system_user", "table", "tablesample", "then", "time", "timestamp", "to",
    "trailing", "treat", "trim", "true", "union", "unique", "user", "using", "values", "varchar",
    "variadic", "verbose", "when", "where", "window", "with", "xmlattributes", "xmlconcat",
    "xmlelement", "xmlexists", "xmlforest", "xmlnamespaces", "xmlparse", "xmlpi", "xmlroot",
    "xmlserialize", "xmltable",
];

/// The id of an audit record, quoted to the client in a denial's HINT: UUID version 7.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub struct RecordId(pub uuid::Uuid);

impl RecordId {
    /// A fresh, time-ordered id.
    pub fn fresh() -> Self {
        Self(uuid::Uuid::now_v7())
    }
}

impl fmt::Display for RecordId {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        self.0.fmt(f)
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn names_are_quoted_where_postgresql_needs_it() {
        let shown = |name| QuotedIdent(name).to_string();
        assert_eq!(shown("tenant_id"), "tenant_id");
        assert_eq!(shown("user"), "\"user\"");
        assert_eq!(shown("order"), "\"order\"");
        assert_eq!(shown("Mixed"), "\"Mixed\"");
        assert_eq!(shown("a\"b"), "\"a\"\"b\"");
        assert_eq!(shown(""), "\"\"");
        assert!(KEYWORDS.is_sorted(), "binary search needs it");
    }
}
