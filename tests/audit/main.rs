//! The audit trail as a whole: sinks at real destinations, crashes, full disks, erasure.
//!
//! `HEDGEROW_KILLS=1000 cargo test --test audit -- killed` kills it that often; 20 times otherwise.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what it expected by failing"
)]

mod buckets;
mod crash;
mod disk;
mod erase;
mod google;
mod sinks;
#[path = "../support/mod.rs"]
mod support;
mod trail;
