//! The session's temporary tables, through transactions: made ones are gone when it is rolled back,
//! dropped ones are there again. Layer 5.
//!
//! What names mean rests on it, no more: a table that is not there any more is one that the server does not
//! find, and one that the session does not know of is never named to the server.

use std::sync::Arc;

use super::session::Link;
use crate::ids::RelationName;
use crate::sql::Keeps;
use crate::sql::temporary::{Temporary, TemporaryChange};
use crate::wire::backend::TransactionStatus;

impl Link {
    /// A statement about temporary tables is complete.
    pub(super) fn table_changed(&mut self, change: &TemporaryChange) {
        if self.tables_before.is_none() {
            self.tables_before = Some(self.judge.temporary.clone());
        }
        if self.tables_owner.is_none() {
            self.tables_owner = Some(Arc::clone(self.current()));
        }
        self.judge.temporary.change(change);
    }

    /// A statement has made a relation, which the catalog knows when the transaction is committed.
    pub(super) fn relation_made(&mut self, name: &RelationName) {
        if self.tables_before.is_none() {
            self.tables_before = Some(self.judge.temporary.clone());
        }
        self.judge.temporary.make(name);
    }

    /// Whether another identity of the same tenant has left temporary tables: it may have seen more.
    pub(super) fn has_anothers_tables(&self) -> bool {
        let who = self.current().bearer.viewpoint.principal();
        let owner = self.tables_owner.as_ref();
        self.judge.temporary.holds_tables()
            && owner.is_some_and(|owner| owner.bearer.viewpoint.principal() != who)
    }

    /// The transaction was committed.
    pub(super) fn keep_tables(&mut self) {
        if self.tables_before.take().is_some() {
            self.judge.temporary.commit();
            if !self.judge.temporary.holds_tables() {
                self.unpin(Keeps::Temporary);
            }
        }
    }

    /// The transaction was rolled back.
    pub(super) fn restore_tables(&mut self) {
        if let Some(before) = self.tables_before.take() {
            self.judge.temporary = before;
        }
    }

    /// Rolled back to a savepoint: which tables are there is for the server to know.
    pub(super) fn doubt_some_tables(&mut self) {
        let held = self.tables_before.as_ref().is_some_and(Temporary::holds_tables);
        if held || self.tables_before.is_some() && self.judge.temporary.holds_tables() {
            self.pin(Keeps::Setting);
        }
    }

    /// A statement failed. Outside a transaction block, all of its message is rolled back.
    pub(super) fn doubt_tables(&mut self) {
        if self.status == TransactionStatus::Idle {
            self.restore_tables();
        }
    }

    /// DISCARD ALL, DISCARD TEMP, or another backend.
    pub(super) fn forget_tables(&mut self) {
        self.tables_before = None;
        self.tables_owner = None;
        self.judge.temporary.clear();
        self.unpin(Keeps::Temporary);
    }
}
