//! The dependency tree keeps to `deny.toml`, also where cargo-deny is not installed: banned crates,
//! licences, sources. Advisories need cargo-deny and its database.
#![allow(clippy::unwrap_used, clippy::indexing_slicing, reason = "a failing test may panic")]

use std::path::Path;
use std::process::Command;

use serde_json::Value;

fn rules() -> String {
    std::fs::read_to_string(Path::new(env!("CARGO_MANIFEST_DIR")).join("deny.toml")).unwrap()
}

/// Every quoted text between two marks of `deny.toml`.
fn quoted(rules: &str, from: &str, to: &str) -> Vec<String> {
    let section = rules.split_once(from).unwrap().1.split_once(to).unwrap().0;
    section.split('"').skip(1).step_by(2).map(str::to_owned).collect()
}

fn packages() -> Vec<Value> {
    let output = Command::new(env!("CARGO"))
        .args(["metadata", "--format-version", "1", "--locked"])
        .args(["--filter-platform", "x86_64-unknown-linux-gnu"])
        .current_dir(env!("CARGO_MANIFEST_DIR"))
        .output()
        .unwrap();
    assert!(output.status.success(), "{}", String::from_utf8_lossy(&output.stderr));
    let metadata: Value = serde_json::from_slice(&output.stdout).unwrap();
    metadata["packages"].as_array().unwrap().clone()
}

/// A crate that may come in through its wrappers alone.
struct Ban {
    name: String,
    wrappers: Vec<String>,
}

fn bans(rules: &str) -> Vec<Ban> {
    let section = rules.split_once("\ndeny = [").unwrap().1.split_once("\n]").unwrap().0;
    let lines = section.lines().filter(|line| line.contains("crate = "));
    lines
        .map(|line| Ban {
            name: quoted(line, "crate = ", ",").remove(0),
            wrappers: line
                .split_once("wrappers = ")
                .map(|(_, rest)| quoted(&format!("={rest}"), "=[", "]"))
                .unwrap_or_default(),
        })
        .collect()
}

/// Whether an SPDX expression can be met with the allowed licences.
fn met(expression: &str, allowed: &[String]) -> bool {
    let text = expression.replace('/', " OR ").replace('(', " ( ").replace(')', " ) ");
    let words: Vec<&str> = text.split_whitespace().collect();
    let mut at = 0;
    let verdict = any(&words, &mut at, allowed);
    verdict && at == words.len()
}

fn any(words: &[&str], at: &mut usize, allowed: &[String]) -> bool {
    let mut verdict = all(words, at, allowed);
    while words.get(*at) == Some(&"OR") {
        *at += 1;
        verdict |= all(words, at, allowed);
    }
    verdict
}

fn all(words: &[&str], at: &mut usize, allowed: &[String]) -> bool {
    let mut verdict = one(words, at, allowed);
    while words.get(*at) == Some(&"AND") {
        *at += 1;
        verdict &= one(words, at, allowed);
    }
    verdict
}

fn one(words: &[&str], at: &mut usize, allowed: &[String]) -> bool {
    if words.get(*at) == Some(&"(") {
        *at += 1;
        let verdict = any(words, at, allowed);
        *at += 1;
        return verdict;
    }
    let mut licence = words[*at].to_owned();
    *at += 1;
    if words.get(*at) == Some(&"WITH") {
        licence = format!("{licence} WITH {}", words[*at + 1]);
        *at += 2;
    }
    allowed.contains(&licence)
}

#[test]
fn the_licence_check_reads_expressions() {
    let allowed = ["MIT".to_owned(), "Zlib".to_owned(), "A WITH B".to_owned()];
    for good in ["MIT", "GPL-3.0 OR MIT", "GPL-3.0/MIT", "(X OR MIT) AND Zlib", "A WITH B OR X"] {
        assert!(met(good, &allowed), "{good}");
    }
    for bad in ["GPL-3.0", "MIT AND GPL-3.0", "(X OR Y) AND MIT", "A", "MIT WITH B"] {
        assert!(!met(bad, &allowed), "{bad}");
    }
}

#[test]
fn every_dependency_keeps_to_deny_toml() {
    let rules = rules();
    let allowed = quoted(&rules, "\nallow = [", "]");
    let exceptions = quoted(&rules, "\nexceptions = [", "\n");
    let banned = bans(&rules);
    let registries = quoted(&rules, "\nallow-registry = [", "]");
    let mut faults = Vec::new();
    for package in packages() {
        let name = package["name"].as_str().unwrap();
        let licence = package["license"].as_str().unwrap_or("none given");
        if banned.iter().any(|ban| ban.name == name && ban.wrappers.is_empty()) {
            faults.push(format!("{name} is banned"));
        }
        for needed in package["dependencies"].as_array().unwrap() {
            let wrapped =
                banned.iter().find(|ban| needed["name"] == *ban.name && !ban.wrappers.is_empty());
            if wrapped.is_some_and(|ban| !ban.wrappers.iter().any(|wrapper| wrapper == name))
                && needed["optional"] == false
                && needed["kind"].is_null()
            {
                faults.push(format!("{} is banned, and {name} brings it", needed["name"]));
            }
        }
        let excepted = exceptions.first().is_some_and(|crate_name| crate_name == name);
        if !excepted && !met(licence, &allowed) {
            faults.push(format!("{name} is under {licence}"));
        }
        if let Some(source) = package["source"].as_str()
            && !registries.iter().any(|registry| source == format!("registry+{registry}"))
        {
            faults.push(format!("{name} comes from {source}"));
        }
    }
    assert!(faults.is_empty(), "{faults:#?}");
}
