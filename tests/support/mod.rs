//! What the tests stand on: a real PostgreSQL, a real `hedgerow`, tokens, a raw wire client, and
//! the canary scanner that every client's traffic passes.
//!
//! Nothing here waits without a bound, listens on a fixed port or needs root; every process that a
//! test starts ends with the test binary, however that ends.
#![allow(dead_code, reason = "each test binary uses its own part of this module")]

pub mod canary;
pub mod fault_proxy;
pub mod fixture;
pub mod hedgerow;
pub mod http;
pub mod postgres;
pub mod process;
pub mod redis;
pub mod token;
pub mod wire;

/// Tenant A: the caller, and in attacks the attacker.
pub const TENANT_A: &str = "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa";
/// Tenant B: the neighbour, whose values must never be seen.
pub const TENANT_B: &str = "bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb";
