//! Behaviour through the real proxy on a real PostgreSQL, seen by real clients: a test's name is a
//! sentence about it. Every test's traffic passes the canary scanner, and at its end the proxy must
//! stop cleanly with audit files that verify.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what it expected by failing"
)]

mod audit;
mod bad_input;
mod clients;
mod columns;
mod command_line;
mod copy;
mod copy_staged;
mod denials;
mod half_open;
mod harness;
mod identity_over_time;
mod introspection;
mod limits;
mod locks;
mod monitor;
mod notify;
mod operations;
mod pooling;
mod positions;
mod privileges;
mod protocol;
mod quotas;
mod reload;
mod row_rules;
mod same;
mod scan;
mod selects;
mod session_state;
mod sign_in;
#[path = "../support/mod.rs"]
mod support;
mod temporary;
mod tokens;
mod transactions;
mod writes;
