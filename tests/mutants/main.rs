//! Tests of the tests: faults planted in Hedgerow (src/mutant.rs, `mutants.yaml`), each of which must
//! be caught. `docs/mutants.md` is the table of what catches which.
//!
//! `make test` shows that the checker refuses what the rewriter's faults spoil, and plants every fault
//! that a unit test catches under that very test. `make mutants` plants each fault under the suites,
//! cheapest first, and writes the table anew; the rewriter's with the checker switched off, so that
//! the attacks and the oracle meet real leaks on a real server.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what it expected by failing"
)]

mod list;
mod suites;
mod table;
mod world;

use hedgerow::error::DenialCode;
use hedgerow::mutant::plant;
use list::List;
use suites::Suites;
use world::World;

/// One test: what is planted is planted in the whole process.
#[test]
fn every_seeded_fault_is_caught() {
    let list = List::load();
    let mut wrong = of_the_rewriter(&list);
    let suites = Suites::build();
    if std::env::var_os("HEDGEROW_MUTANTS").is_some_and(|value| value == "all") {
        wrong.extend(table::write(&list, &suites));
    } else {
        wrong.extend(table::hold(&list, &suites));
    }
    assert!(
        wrong.is_empty(),
        "{} of the faults are not caught:\n{}",
        wrong.len(),
        wrong.join("\n")
    );
}

/// Each fault of the rewriter spoils its statements, and the checker refuses what it spoiled.
fn of_the_rewriter(list: &List) -> Vec<String> {
    let world = World::new();
    let mut wrong = Vec::new();
    for fault in &list.rewriter {
        for sql in &fault.sql {
            let name = fault.fault.as_str();
            let mut complain = |what: String| wrong.push(format!("{name}: {sql}\n    {what}"));
            plant(&[]);
            let sound = world.sent(sql);
            if sound.is_err() != fault.denied {
                complain(format!("without the fault: {sound:?}"));
            }
            plant(&[name, "checker-off"]);
            let spoiled = world.sent(sql);
            if spoiled == sound || spoiled.is_err() {
                complain(format!("is not spoiled: {spoiled:?}"));
            }
            plant(&[name]);
            let checked = world.sent(sql);
            let refused = matches!(
                checked,
                Err(DenialCode::ParsersDisagree | DenialCode::LeakPossible)
                    | Err(DenialCode::TenantColumnChange)
            );
            if refused != fault.unseen.is_none() {
                complain(format!("the checker says {checked:?} to {spoiled:?}"));
            }
        }
    }
    plant(&[]);
    wrong
}
