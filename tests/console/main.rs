//! The auditors' page over files of the real writer, by HTTP and in a real browser.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what it expected by failing"
)]

#[path = "../support/audit_data.rs"]
mod audit_data;
mod browser;
mod hostile;
mod page;
mod sealed;
mod sign_in;
mod site;
mod trail;
