//! SQL: parse, resolve, classify, rewrite, check. Layer 2: pure; never names `wire` or `identity`.
//!
//! [`Guarded`] is the permission to send a text upstream. Only the checker makes one.

pub mod postgres;

use crate::ids::RelationName;
use std::sync::Arc;

/// Bounds on what the parsers are given.
#[derive(Clone, Copy, Debug)]
pub struct Limits {
    /// Longest text in bytes (`postgres.limits.max_statement`).
    pub max_statement: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_statement: 1 << 20 }
    }
}

/// A statement that passed the checker: the exact text that may go upstream.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guarded(String);

impl Guarded {
    /// The text to send.
    pub fn text(&self) -> &str {
        &self.0
    }

    /// A text that nobody checked, for tests of what carries it.
    #[cfg(test)]
    pub(crate) fn for_test(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

/// What a statement does, as far as session and audit care.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Kind {
    /// SELECT, VALUES, TABLE.
    Select,
    /// INSERT
    Insert,
    /// UPDATE
    Update,
    /// DELETE
    Delete,
    /// MERGE
    Merge,
    /// EXPLAIN
    Explain,
    /// BEGIN, COMMIT, ROLLBACK, SAVEPOINT, …
    Transaction,
    /// SET, RESET, SHOW of a harmless setting.
    Setting,
    /// PREPARE name
    Prepare(String),
    /// EXECUTE name
    Execute(String),
    /// DEALLOCATE name, or all (`None`)
    Deallocate(Option<String>),
    /// DECLARE, FETCH, MOVE, CLOSE
    Cursor,
    /// COPY (query) TO STDOUT
    CopyOut,
    /// DISCARD, UNLISTEN *: what drivers' pools send on release.
    Discard,
    /// An empty statement.
    Empty,
}

impl Kind {
    /// A word for records and metrics.
    pub const fn word(&self) -> &'static str {
        match self {
            Self::Select => "select",
            Self::Insert => "insert",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Merge => "merge",
            Self::Explain => "explain",
            Self::Transaction => "transaction",
            Self::Setting => "setting",
            Self::Prepare(_) => "prepare",
            Self::Execute(_) => "execute",
            Self::Deallocate(_) => "deallocate",
            Self::Cursor => "cursor",
            Self::CopyOut => "copy",
            Self::Discard => "discard",
            Self::Empty => "empty",
        }
    }
}

/// A relation that a statement uses, and the rule that applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct RelationUse {
    /// The relation.
    pub relation: RelationName,
    /// The policy entry's name; for catalogs `pg_catalog`.
    pub rule: Arc<str>,
}

/// The shape of a statement: literals replaced by `$n`, and a hash of that.
#[derive(Clone, Debug, PartialEq, Eq, Default)]
pub struct Fingerprint {
    /// Sixteen hex digits; empty when the text could not be read.
    pub hash: String,
    /// The text with literals replaced; empty when the text could not be read.
    pub normalized: String,
}

/// One decided statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decided {
    /// What may be sent.
    pub guarded: Guarded,
    /// What it does.
    pub kind: Kind,
    /// Whether the sent text binds a protected relation (then errors are scrubbed).
    pub protected: bool,
    /// Whether the sent text differs from the client's in more than spelling.
    pub rewritten: bool,
    /// Relations and rules, in order of first use.
    pub relations: Vec<RelationUse>,
    /// Names of the result columns that hold a protected table's tenant, by position, where known:
    /// egress compares them with the tenant.
    pub tenant_columns: Vec<usize>,
    /// Shape, for the record.
    pub fingerprint: Fingerprint,
}
