//! The temporary tables of one session, as far as the decision needs them. Layer 2; pure.
//!
//! They hold what the session put there, which is its own tenant's: they need no policy. PostgreSQL finds
//! them before all others, so a name means the session's table where there is one. What is sent says
//! `pg_temp.name`; were the session wrong about a table, the server would say that there is none, and
//! never take another's.

use crate::catalog::Relation;

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
pub struct Temporary(Vec<TemporaryTable>);

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
    pub const NONE: &'static Self = &Self(Vec::new());

    /// The table of that name.
    pub fn table(&self, name: &str) -> Option<&TemporaryTable> {
        self.0.iter().find(|table| table.name == name)
    }

    /// Whether there is none.
    pub fn is_empty(&self) -> bool {
        self.0.is_empty()
    }

    /// Whether there is room for another.
    pub fn is_full(&self) -> bool {
        self.0.len() >= MAX_TABLES
    }

    /// Takes a change.
    pub fn change(&mut self, change: &TemporaryChange) {
        match change {
            // `IF NOT EXISTS` leaves the one that is there.
            TemporaryChange::Made(table) if self.table(&table.name).is_some() => {}
            TemporaryChange::Made(table) => self.0.push(TemporaryTable::clone(table)),
            TemporaryChange::Dropped(names) => self.0.retain(|table| !names.contains(&table.name)),
            TemporaryChange::Kept => {}
        }
    }

    /// A transaction was committed.
    pub fn commit(&mut self) {
        self.0.retain(|table| !table.until_commit);
    }

    /// DISCARD ALL, DISCARD TEMP, another backend.
    pub fn clear(&mut self) {
        self.0.clear();
    }
}
