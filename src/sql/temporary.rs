//! The temporary tables of one session, as far as the decision needs them. Layer 2; pure.
//!
//! They hold what the session put there, which is its own tenant's: they need no policy. PostgreSQL finds
//! them before all others, so a name means the session's table where there is one. What is sent says
//! `pg_temp.name`; were the session wrong about a table, the server would say that there is none, and
//! never take another's.
//!
//! Beside them stand the names of relations that the present transaction has made, by a `ddl` identity: until
//! it is committed the catalog does not know them. What the policy says of a name holds as ever.

use crate::catalog::Relation;
use crate::ids::RelationName;
use crate::sql::Kind;

/// The schema by which every session calls its own temporary tables.
pub const SCHEMA: &str = "pg_temp";
/// Most of them in a session.
pub const MAX_TABLES: usize = 1000;

/// One of them.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TemporaryTable {
    /// Its name.
    pub name: String,
    /// Its columns, where the statement that made it tells them.
    pub relation: Option<Relation>,
    /// `ON COMMIT DROP`
    pub until_commit: bool,
}

/// All of them.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Temporary {
    tables: Vec<TemporaryTable>,
    made: Vec<RelationName>,
}

/// What a statement does to them, once it is complete.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum TemporaryChange {
    /// There is one more.
    Made(Box<TemporaryTable>),
    /// These are gone.
    Dropped(Vec<String>),
    /// They are what they were: rows, indexes and statistics only.
    Kept,
}

impl Temporary {
    /// None.
    pub const NONE: &'static Self = &Self { tables: Vec::new(), made: Vec::new() };

    /// The table of that name.
    pub fn table(&self, name: &str) -> Option<&TemporaryTable> {
        self.tables.iter().find(|table| table.name == name)
    }

    /// Whether there is nothing that the catalog does not know.
    pub fn is_empty(&self) -> bool {
        self.tables.is_empty() && self.made.is_empty()
    }

    /// Whether there is a temporary table.
    pub fn holds_tables(&self) -> bool {
        !self.tables.is_empty()
    }

    /// Whether the present transaction has made a relation of that name.
    pub fn has_made(&self, name: &RelationName) -> bool {
        self.made.contains(name)
    }

    /// The present transaction has made a relation. One too many is not known until it is committed.
    pub fn make(&mut self, name: &RelationName) {
        if self.made.len() < MAX_TABLES && !self.has_made(name) {
            self.made.push(name.clone());
        }
    }

    /// Whether there is room for another.
    pub fn is_full(&self) -> bool {
        self.tables.len() >= MAX_TABLES
    }

    /// Takes a change.
    pub fn change(&mut self, change: &TemporaryChange) {
        match change {
            // `IF NOT EXISTS` leaves the one that is there.
            TemporaryChange::Made(table) if self.table(&table.name).is_some() => {}
            TemporaryChange::Made(table) => self.tables.push(TemporaryTable::clone(table)),
            TemporaryChange::Dropped(names) => {
                self.tables.retain(|table| !names.contains(&table.name))
            }
            TemporaryChange::Kept => {}
        }
    }

    /// What a statement leaves for the next one of its text.
    pub fn follow(&mut self, kind: &Kind) {
        if let Kind::Temporary(change) = kind {
            self.change(change);
        }
        if let Kind::SchemaChange(Some(made)) = kind {
            self.make(made);
        }
    }

    /// A transaction was committed: the catalog knows what it made.
    pub fn commit(&mut self) {
        self.made.clear();
        self.tables.retain(|table| !table.until_commit);
    }

    /// DISCARD ALL, DISCARD TEMP, another backend.
    pub fn clear(&mut self) {
        self.tables.clear();
        self.made.clear();
    }
}
