//! What clients were told about what they wrote, held against what the database holds.

use std::collections::BTreeMap;
use std::sync::Mutex;
use std::sync::atomic::{AtomicU32, Ordering};

use crate::support::fixture::World;

/// What a client knows of one of its rows.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Told {
    /// It was told that the row is there.
    Written,
    /// It was told that the statement or its transaction failed, or it rolled it back.
    Failed,
    /// The connection went in between, or 08007: it may be there or not.
    Unknown,
}

/// The rows of all clients.
pub struct Ledger {
    next: AtomicU32,
    rows: Mutex<BTreeMap<u32, (&'static str, Told)>>,
}

impl Ledger {
    pub fn new() -> Self {
        Self { next: AtomicU32::new(10_000), rows: Mutex::default() }
    }

    /// A key that nobody has.
    pub fn key(&self) -> u32 {
        self.next.fetch_add(1, Ordering::Relaxed)
    }

    pub fn note(&self, key: u32, tenant: &'static str, told: Told) {
        let mut rows = self.rows.lock().unwrap_or_else(|poison| poison.into_inner());
        rows.insert(key, (tenant, told));
    }

    /// Panics when the database holds something else than what was told. Gives how many rows were
    /// written, failed and left open.
    pub fn audit(&self, world: &World) -> (usize, usize, usize) {
        let there: BTreeMap<u32, String> = world
            .truth(
                "SELECT coalesce(string_agg(id || '=' || tenant_id, ' '), '') FROM documents \
                 WHERE id >= 10000",
            )
            .split_whitespace()
            .filter_map(|row| {
                let (id, tenant) = row.split_once('=')?;
                Some((id.parse().expect("a number"), tenant.to_owned()))
            })
            .collect();
        let rows = self.rows.lock().unwrap_or_else(|poison| poison.into_inner());
        let mut counts = (0, 0, 0);
        for (key, (tenant, told)) in rows.iter() {
            match (told, there.get(key)) {
                (Told::Written, Some(owner)) => {
                    assert_eq!(owner, tenant, "row {key} belongs to another tenant");
                    counts.0 += 1;
                }
                (Told::Written, None) => {
                    panic!("an invented success: row {key} of {tenant} is not there");
                }
                (Told::Failed, None) => counts.1 += 1,
                (Told::Failed, Some(_)) => {
                    panic!(
                        "row {key} of {tenant} is there, and its client was told that it failed"
                    );
                }
                (Told::Unknown, owner) => {
                    assert!(owner.is_none_or(|owner| owner == tenant), "row {key}: {owner:?}");
                    counts.2 += 1;
                }
            }
        }
        let unknown = there.keys().find(|key| !rows.contains_key(key));
        assert_eq!(unknown, None, "a row that nobody wrote");
        counts
    }
}
