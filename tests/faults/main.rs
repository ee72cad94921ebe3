//! The two-tenant leak oracle under faults: many clients of two tenants work through Hedgerow while
//! something goes wrong, one file a fault. A row of another tenant, an answer to another question, a
//! success that the database does not know, or a failure that it does, is a failure of the test; so
//! is a Hedgerow that does not serve once the fault is over. `docs/faults.md` has the table.
//!
//! `HEDGEROW_FAULT_SECONDS` (2 by default) is how long each fault lasts in each pool mode,
//! `HEDGEROW_FAULT_SEED` what the clients and the faults do. `make faults SECONDS=1800 SEED=7`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what it expected by failing"
)]

mod backends_killed;
mod cancels;
mod client_cut;
mod client_silent;
mod crowd;
mod identities;
mod ledger;
mod policy_reloaded;
#[path = "../oracle/random.rs"]
#[allow(dead_code, reason = "each test binary uses its own part of this module")]
mod random;
mod slow_and_split;
#[path = "../support/mod.rs"]
mod support;
mod upstream_cut;
mod upstream_refused;
mod upstream_silent;

/// Every fault is explained to people, and nothing is explained that is not tested.
#[test]
fn the_table_in_the_docs_names_every_fault() {
    let root = std::path::Path::new(env!("CARGO_MANIFEST_DIR"));
    let page = std::fs::read_to_string(root.join("docs/faults.md")).unwrap();
    let helpers = ["main", "crowd", "ledger"];
    let mut files: Vec<String> = std::fs::read_dir(root.join("tests/faults"))
        .unwrap()
        .map(|entry| entry.unwrap().path().file_stem().unwrap().to_str().unwrap().to_owned())
        .filter(|name| !helpers.contains(&name.as_str()))
        .collect();
    files.sort();
    let mut told: Vec<String> = page
        .lines()
        .filter_map(|line| {
            line.strip_prefix("| `")?.split_once('`').map(|(name, _)| name.to_owned())
        })
        .collect();
    told.sort();
    told.dedup();
    assert_eq!(files, told);
}
