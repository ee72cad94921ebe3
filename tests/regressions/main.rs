//! What went wrong elsewhere, and must not go wrong here: the CVEs of PostgreSQL's row security and
//! of its poolers, each by its name (`cves`), functions that run without being called
//! by name (`calls`), and the silent differences between the rewriter's parser
//! and PostgreSQL's (`parsers`). What the oracle found is in `same.sql`, which it replays itself.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what it expected by failing"
)]

mod calls;
mod cves;
mod parsers;
mod poolers;
mod pulled_up;
#[allow(dead_code, reason = "the integration tests use more of it")]
#[path = "../integration/same.rs"]
mod same;
#[path = "../support/mod.rs"]
mod support;
