//! Hedgerow: a sidecar that keeps tenants apart.
//!
//! The map, in the order in which a statement travels (layer in brackets; imports go down only,
//! `tests/architecture.rs` holds that):
//!
//! | module | owns |
//! |---|---|
//! | [`wire`] (1) | PostgreSQL frames and messages: bytes, no meaning, no I/O |
//! | [`identity`] (1) | token verification → [`identity::VerifiedIdentity`] |
//! | [`policy`] (1) | policy files → an immutable [`policy::Policy`] with an epoch |
//! | [`quota`] (1) | how fast and how much at once a tenant may ask: arithmetic |
//! | [`catalog`] (1) | what the upstream's relations, columns and functions look like |
//! | [`sql`] (2) | parse, resolve, classify, rewrite, check → [`sql::Guarded`] |
//! | [`audit`] (2/3) | records, hash chain, segments, verification |
//! | [`decide`] (3) | the one decision: statement + principal + policy + catalog → verdict |
//! | [`keys`], [`catalog_load`] (4) | the doors to outside: key sets, catalog queries |
//! | [`sinks`] (4) | audit records on their way elsewhere: Kafka, OTLP, buckets, a table |
//! | [`postgres`], [`bigquery`], [`admin`] (5) | listeners, sessions, upstreams; health and metrics |
//! | [`limiter`], [`store`] (4) | quotas with a clock; the door to Redis |
//! | [`console`] (5) | the auditors' page over audit files |
//! | [`config`], [`cli`] (6) | the configuration file, the commands |
//!
//! [`ids`], [`claims`], [`copy_format`], [`error`], [`endpoint`], [`units`] and [`yaml`] (0) are known
//! to all; [`mutant`] (0) is empty but in builds for the tests of the tests.
#![forbid(unsafe_code)]

pub mod admin;
pub mod audit;
pub mod bigquery;
pub mod catalog;
pub mod catalog_load;
pub mod claims;
pub mod cli;
pub mod config;
pub mod console;
pub mod copy_format;
pub mod decide;
pub mod endpoint;
pub mod error;
pub mod identity;
pub mod ids;
pub mod keys;
pub mod limiter;
pub mod mutant;
pub mod policy;
pub mod postgres;
pub mod quota;
pub mod sinks;
pub mod sql;
pub mod store;
pub mod units;
pub mod wire;
pub mod yaml;
