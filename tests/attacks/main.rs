//! Every known way around a tenant-isolating proxy, tried through the real one on a real server.
//!
//! The data is `postgres.yaml` (its header says what each field means), once without and once with
//! row-level security beneath. `open.txt` lists what does not hold yet, with the reason: an entry
//! that fails and is not listed fails the test, and so does a listed entry that holds.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what it expected by failing"
)]

mod entry;
mod judge;
mod play;
mod state;
#[path = "../support/mod.rs"]
mod support;

use std::collections::{BTreeMap, BTreeSet};
use std::sync::atomic::{AtomicUsize, Ordering};
use std::sync::{Mutex, MutexGuard};

use entry::{Attacks, Entry};
use play::{Door, Stage, Verdict, World};
use support::hedgerow::{Hedgerow, Options};

/// Worker threads: each plays whole entries on databases of its own.
const WORKERS: usize = 3;

#[test]
fn every_known_attack_fails_or_is_listed_as_open() {
    let _alone = alone();
    let attacks = Attacks::load();
    let hedgerow = Hedgerow::start(&Options::new(&attacks.policy));
    let entries = selected(&attacks);
    let verdicts = play_all(&attacks, &entries, &worlds(), Door::Hedgerow(&hedgerow));
    print_table(&verdicts);
    hedgerow.finish();
    if entries.len() == attacks.attacks.len() {
        compare_with_the_open_list(&verdicts);
    }
}

/// The same where tenants take turns at few connections.
#[test]
fn every_known_attack_fails_over_shared_connections_too() {
    let _alone = alone();
    let attacks = Attacks::load();
    let options =
        Options { pool_mode: "transaction", max_connections: 4, ..Options::new(&attacks.policy) };
    let hedgerow = Hedgerow::start(&options);
    let entries = selected(&attacks);
    let verdicts = play_all(&attacks, &entries, &[World::Rls], Door::Hedgerow(&hedgerow));
    hedgerow.finish();
    let failing: BTreeSet<_> = verdicts
        .iter()
        .filter(|verdict| !verdict.failures.is_empty())
        .map(|verdict| (verdict.id.clone(), verdict.world))
        .collect();
    let new: Vec<_> = failing.difference(&open_list()).cloned().collect();
    assert!(new.is_empty(), "not listed in open.txt but failing over shared connections: {new:?}");
}

#[test]
fn the_judge_condemns_what_an_unprotected_server_lets_happen() {
    let _alone = alone();
    let attacks = Attacks::load();
    let entries: Vec<_> = selected(&attacks)
        .into_iter()
        .filter(|entry| {
            let observed = entry.observed.get("pg15_unprotected").and_then(|value| value.as_str());
            observed.is_some_and(|seen| {
                seen.split('+')
                    .any(|what| ["leak", "modifies_other", "distinguishable"].contains(&what))
            })
        })
        .collect();
    let verdicts = play_all(&attacks, &entries, &[World::Plain], Door::Unprotected);
    let acquitted: Vec<&str> = verdicts
        .iter()
        .filter(|verdict| verdict.failures.is_empty())
        .map(|verdict| verdict.id.as_str())
        .collect();
    println!(
        "{} attacks work on an unprotected server, {} condemned",
        entries.len(),
        entries.len() - acquitted.len()
    );
    assert!(acquitted.is_empty(), "of {} attacks the judge let pass {acquitted:?}", entries.len());
}

/// One test at a time: what an attack does to a role it does to the whole server.
fn alone() -> MutexGuard<'static, ()> {
    static ALONE: Mutex<()> = Mutex::new(());
    ALONE.lock().unwrap_or_else(|poison| poison.into_inner())
}

/// Both worlds, or the one that `HEDGEROW_ATTACK_WORLD=plain` names.
fn worlds() -> Vec<World> {
    let only = std::env::var("HEDGEROW_ATTACK_WORLD").ok();
    let wanted = |world: &World| only.as_ref().is_none_or(|only| *only == world.to_string());
    World::ALL.into_iter().filter(wanted).collect()
}

/// All entries, or those that `HEDGEROW_ATTACK=PG-004,PG-005` names.
fn selected(attacks: &Attacks) -> Vec<&Entry> {
    let only = std::env::var("HEDGEROW_ATTACK").ok();
    let wanted =
        |entry: &&Entry| only.as_ref().is_none_or(|only| only.split(',').any(|id| id == entry.id));
    attacks.attacks.iter().filter(wanted).collect()
}

fn play_all(
    attacks: &Attacks,
    entries: &[&Entry],
    worlds: &[World],
    door: Door<'_>,
) -> Vec<Verdict> {
    let stages: Vec<Stage> = worlds.iter().map(|world| Stage::prepare(attacks, *world)).collect();
    let next = AtomicUsize::new(0);
    let verdicts = Mutex::new(Vec::new());
    std::thread::scope(|scope| {
        for _worker in 0..WORKERS {
            scope.spawn(|| {
                let mut rooms: Vec<_> = stages.iter().map(Stage::room).collect();
                while let Some(entry) = entries.get(next.fetch_add(1, Ordering::Relaxed)) {
                    for room in &mut rooms {
                        let verdict = room.play(entry, door);
                        verdicts.lock().unwrap().push(verdict);
                    }
                }
            });
        }
    });
    let mut verdicts = verdicts.into_inner().unwrap();
    verdicts.sort_by(|a: &Verdict, b| (&a.id, a.world).cmp(&(&b.id, b.world)));
    assert_eq!(verdicts.len(), entries.len() * worlds.len(), "every entry was played");
    verdicts
}

fn print_table(verdicts: &[Verdict]) {
    let mut classes: BTreeMap<&str, BTreeMap<World, (usize, usize)>> = BTreeMap::new();
    for verdict in verdicts {
        for class in [verdict.class.as_str(), "~all"] {
            let (held, all) =
                classes.entry(class).or_default().entry(verdict.world).or_insert((0, 0));
            *all += 1;
            *held += usize::from(verdict.failures.is_empty());
        }
    }
    println!("| class | held without RLS | held with RLS |\n|---|---|---|");
    for (class, worlds) in &classes {
        let cell = |world| match worlds.get(&world) {
            Some((held, all)) => {
                format!("{held}/{all} ({:.1} %)", 100.0 * *held as f64 / *all as f64)
            }
            None => String::new(),
        };
        let class = class.trim_start_matches('~');
        println!("| {class} | {} | {} |", cell(World::Plain), cell(World::Rls));
    }
    for verdict in verdicts.iter().filter(|verdict| !verdict.failures.is_empty()) {
        println!(
            "FAILS {} {} {}: {}",
            verdict.id,
            verdict.world,
            verdict.title,
            verdict.failures.join("; ")
        );
    }
}

/// `open.txt`: `<id> <plain|rls|both> <reason>` a line; `#` begins a comment.
fn open_list() -> BTreeSet<(String, World)> {
    let mut listed = BTreeSet::new();
    for line in include_str!("open.txt").lines().map(str::trim) {
        if line.is_empty() || line.starts_with('#') {
            continue;
        }
        let mut words = line.splitn(3, ' ');
        let (id, worlds) = (words.next().unwrap(), words.next().unwrap_or_default());
        let reason = words.next().unwrap_or_default();
        assert!(reason.len() > 10, "open.txt gives no reason for {id}");
        for world in self::worlds() {
            if worlds == "both" || worlds == world.to_string() {
                assert!(listed.insert((id.to_owned(), world)), "open.txt lists {id} twice");
            }
        }
    }
    listed
}

fn compare_with_the_open_list(verdicts: &[Verdict]) {
    let listed = open_list();
    let failing: BTreeSet<_> = verdicts
        .iter()
        .filter(|verdict| !verdict.failures.is_empty())
        .map(|verdict| (verdict.id.clone(), verdict.world))
        .collect();
    let spell = |set: Vec<&(String, World)>| {
        set.into_iter().map(|(id, world)| format!("{id} {world}")).collect::<Vec<_>>().join(", ")
    };
    let new = spell(failing.difference(&listed).collect());
    let stale = spell(listed.difference(&failing).collect());
    assert!(
        new.is_empty() && stale.is_empty(),
        "not listed in open.txt but failing: [{new}]; listed but holding: [{stale}]"
    );
}
