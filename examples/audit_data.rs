//! Writes audit files of a made-up company, to try the console on:
//! `cargo run --example audit_data -- DIRECTORY [RECORDS] [HOURS]`, then
//! `hedgerow console --audit DIRECTORY`.
#![allow(
    clippy::unwrap_used,
    clippy::indexing_slicing,
    clippy::panic,
    reason = "a tool for developers"
)]

#[path = "../tests/support/audit_data.rs"]
mod audit_data;

use std::path::PathBuf;
use std::time::Duration;

#[tokio::main]
async fn main() {
    let mut arguments = std::env::args().skip(1);
    let Some(directory) = arguments.next().map(PathBuf::from) else {
        eprintln!("usage: audit_data DIRECTORY [RECORDS] [HOURS]");
        return;
    };
    let records = arguments.next().map_or(20_000, |text| text.parse().unwrap());
    let hours: u64 = arguments.next().map_or(24, |text| text.parse().unwrap());
    let end = jiff::Timestamp::now();
    let span = Duration::from_secs(hours * 3_600);
    std::fs::create_dir_all(&directory).unwrap();
    audit_data::write(&directory, records, span, end, 64 << 20).await;
    println!("{records} records are below {}", directory.display());
}
