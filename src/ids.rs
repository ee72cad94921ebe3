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

/// Displays an identifier the way PostgreSQL must read it back: bare when it is plain lower case,
/// else in double quotes with inner quotes doubled.
pub struct QuotedIdent<'a>(pub &'a str);

impl fmt::Display for QuotedIdent<'_> {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let mut chars = self.0.chars();
        let plain = chars.next().is_some_and(|c| c.is_ascii_lowercase() || c == '_')
            && chars.all(|c| c.is_ascii_lowercase() || c.is_ascii_digit() || c == '_');
        if plain { f.write_str(self.0) } else { write!(f, "\"{}\"", self.0.replace('"', "\"\"")) }
    }
}

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
