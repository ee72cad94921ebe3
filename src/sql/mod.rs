//! SQL: parse, resolve, classify, rewrite, check. Layer 2: pure; never names `wire` or `identity`.
//!
//! [`Guarded`] is the permission to send a text upstream; only the checker makes one.

pub mod account;
pub mod advisory;
pub mod bigquery;
pub mod channel;
pub mod copy;
pub mod postgres;
pub mod temporary;

use std::sync::Arc;

use crate::ids::RelationName;

pub use postgres::Guarded;

/// Bounds on what the parsers are given.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub struct Limits {
    /// Longest text in bytes (`postgres.limits.max_statement`).
    pub max_statement: usize,
}

impl Default for Limits {
    fn default() -> Self {
        Self { max_statement: 1 << 20 }
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
    /// BEGIN, START TRANSACTION
    Begin(Begin),
    /// COMMIT, END, ROLLBACK
    End(End),
    /// SAVEPOINT, RELEASE, ROLLBACK TO, SET TRANSACTION, SET CONSTRAINTS
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
    /// COPY table FROM STDIN
    CopyIn(Arc<copy::CopyIn>),
    /// CREATE, ALTER, DROP, …: what a `ddl` identity may do to the schema; the relation that there is then.
    SchemaChange(Option<RelationName>),
    /// TRUNCATE of what every tenant reads, by a `ddl` identity.
    Truncate,
    /// A temporary table of the session's own, made, changed or dropped.
    Temporary(Arc<temporary::TemporaryChange>),
    /// DISCARD, UNLISTEN *: what drivers' pools send on release.
    Discard,
    /// LISTEN channel, by the client's name
    Listen(String),
    /// NOTIFY, `SELECT pg_notify(…)`, UNLISTEN channel
    Notify,
    /// An empty statement.
    Empty,
}

/// Whether the beginning of a transaction can fail on a server that works.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Begin {
    /// It cannot: it may be answered before the server has heard it.
    CannotFail,
    /// A standby refuses some.
    MayFail,
}

/// Whether the end of a transaction begins the next.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum End {
    /// It does not.
    Plain,
    /// `AND CHAIN`
    AndChain,
}

/// What a statement leaves behind in the server's session when its transaction is over.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Residue {
    /// Nothing.
    Nothing,
    /// A setting, by its name in lower case; saying the statement again gives another session the same.
    Setting(String),
    /// Something that only this session of the server has.
    Kept(Keeps),
}

/// What keeps a session of the server for one client.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Keeps {
    /// A setting whose value is not known, or that cannot be said again.
    Setting,
    /// A cursor WITH HOLD.
    Cursor,
    /// A statement prepared by SQL.
    Prepared,
    /// A registration with LISTEN.
    Listening,
    /// A temporary table.
    Temporary,
    /// An advisory lock of the session.
    Lock,
}

impl Keeps {
    /// A word for metrics.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Setting => "setting",
            Self::Cursor => "cursor",
            Self::Prepared => "prepared",
            Self::Listening => "listen",
            Self::Temporary => "temporary_table",
            Self::Lock => "advisory_lock",
        }
    }
}

/// `SET hedgerow.token`: taken by Hedgerow, never forwarded.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TokenChange {
    /// For how long.
    pub scope: TokenScope,
    /// The token; `None`: back to the identity that the session signed in with.
    pub token: Option<crate::endpoint::Secret>,
}

/// For how long a token is set.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum TokenScope {
    /// `SET`, `SET SESSION`: until the next.
    Session,
    /// `RESET`: the same, by another word.
    Reset,
    /// `SET LOCAL`: until the transaction ends.
    Transaction,
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
            Self::Begin(_) | Self::End(_) | Self::Transaction => "transaction",
            Self::Setting => "setting",
            Self::Prepare(_) => "prepare",
            Self::Execute(_) => "execute",
            Self::Deallocate(_) => "deallocate",
            Self::Cursor => "cursor",
            Self::CopyOut | Self::CopyIn(_) => "copy",
            Self::SchemaChange(_) => "schema_change",
            Self::Truncate => "truncate",
            Self::Temporary(_) => "temporary_table",
            Self::Discard => "discard",
            Self::Listen(_) => "listen",
            Self::Notify => "notify",
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

/// A refused statement: why, and what the record says of it.
#[derive(Clone, Debug)]
pub struct Refusal {
    /// Why.
    pub denial: crate::error::Denial,
    /// Its shape, when it could be read.
    pub fingerprint: Fingerprint,
    /// The relations that it names, as far as they are known, and the rules that apply.
    pub relations: Vec<account::NamedRelation>,
}

impl Refusal {
    /// The refusal of a text of which nothing is known.
    pub fn of(denial: crate::error::Denial) -> Self {
        Self { denial, fingerprint: Fingerprint::default(), relations: Vec::new() }
    }
}

/// One decided statement.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Decided {
    /// What may be sent.
    pub guarded: Guarded,
    /// What it does.
    pub kind: Kind,
    /// What it leaves behind in the server's session.
    pub residue: Residue,
    /// What it would have been denied for, were that not only monitored.
    pub would_deny: Option<crate::error::Denial>,
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

impl Decided {
    /// All that is sent for it: for a COPY whose rows are staged, four statements.
    pub fn sent(&self) -> String {
        let text = self.guarded.text();
        let Kind::CopyIn(copy) = &self.kind else { return text.to_owned() };
        let Some(staged) = copy.staged() else { return text.to_owned() };
        [staged.make.text(), text, staged.take.text(), staged.drop.text()].join("; ")
    }
}
