//! The wire oracle: the same bytes to PostgreSQL and through Hedgerow; what comes back must be the
//! same messages in the same order, but for the differences that `compare.rs` lists one by one.
//!
//! PostgreSQL is asked on a database that holds A's rows and the shared tables only, Hedgerow on one
//! that holds everybody's: on those the answers are equal by construction. Scripts that were written
//! by hand cover every message in every state; a generator makes more. Both pool modes.
//!
//! `HEDGEROW_WIRE_SECONDS` (16 by default, shared by the pool modes) and `HEDGEROW_WIRE_SEED` choose
//! how long and what is generated; `HEDGEROW_WIRE_ONE=<number>` repeats one script.
//! `make wire SECONDS=600 SEED=7`.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what it expected by failing"
)]

mod compare;
mod generator;
mod opening;
mod play;
#[path = "../oracle/random.rs"]
mod random;
mod scripts;
#[path = "../support/mod.rs"]
mod support;

use std::time::{Duration, Instant};

use play::{Pair, Split};
use random::Random;

const MODES: [&str; 2] = ["session", "transaction"];

fn setting(name: &str, default: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(default)
}

#[test]
fn written_scripts_are_answered_as_postgresql_answers_them() {
    let mut differences = Vec::new();
    for mode in MODES {
        let pair = Pair::new(mode);
        for script in scripts::all() {
            // In pieces it takes longer; for one mode it says enough.
            let splits: &[Split] =
                if mode == "session" { &[Split::Whole] } else { &[Split::Whole, Split::Pieces(5)] };
            for &split in splits {
                let differs = || pair.difference(&script.messages, split);
                let Some(difference) = differs() else { continue };
                // What the clock decides, on either side, differs once; what differs again is ours.
                eprintln!("{mode}, {split:?}: {} differed once:\n{difference}", script.name);
                if let Some(difference) = differs().and_then(|_| differs()) {
                    differences.push(format!("{mode}, {split:?}: {}\n{difference}", script.name));
                    break;
                }
            }
        }
        pair.finish();
    }
    assert!(differences.is_empty(), "{}", differences.join("\n\n"));
}

/// How many generated scripts are played without `HEDGEROW_WIRE_SECONDS` (`make wire` sets it).
const SCRIPTS: u64 = 300;

#[test]
fn generated_scripts_are_answered_as_postgresql_answers_them() {
    let seed = setting("HEDGEROW_WIRE_SEED", 1);
    let one = std::env::var("HEDGEROW_WIRE_ONE").ok().and_then(|text| text.parse::<u64>().ok());
    let seconds = setting("HEDGEROW_WIRE_SECONDS", 0);
    let (time, most) = match seconds {
        0 if one.is_some() => (Duration::from_secs(120), u64::MAX),
        0 => (Duration::from_secs(120), SCRIPTS),
        seconds => (Duration::from_secs(seconds), u64::MAX),
    };
    let mut differences = Vec::new();
    let mut played = 0_u64;
    for mode in MODES {
        let pair = Pair::new(mode);
        let end = Instant::now() + time / 2;
        let mut number = one.unwrap_or(0);
        while Instant::now() < end && number < most && differences.len() < 5 {
            let mut random = Random::new(seed.wrapping_mul(1_000_003).wrapping_add(number));
            let messages = generator::script(&mut random);
            let split =
                if random.chance(70) { Split::Whole } else { Split::Pieces(random.between(1, 9)) };
            if pair.difference(&messages, split).is_some() {
                let (shortest, difference) = pair.shorten(messages, split);
                let said: Vec<&str> = shortest.iter().map(|said| said.what.as_str()).collect();
                differences.push(format!(
                    "{mode}, seed {seed}, script {number}, {split:?}:\n  {}\n{difference}",
                    said.join("\n  ")
                ));
            }
            played += 1;
            number += 1;
            if one.is_some() {
                break;
            }
        }
        pair.finish();
    }
    assert!(played > 0, "no script was played");
    eprintln!("wire oracle: seed {seed}, {played} generated scripts");
    assert!(differences.is_empty(), "{}", differences.join("\n\n"));
}
