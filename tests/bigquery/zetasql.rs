//! What is sent, read by the service's own parser: the tables that ZetaSQL finds in it are those that the
//! decision saw.

use std::io::Write as _;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use super::{ATTACKS, Attacks, EVERYTHING, POLICY, corpus, decided, decided_with_routines, policy};

/// Where the parser is installed: `make bigquery-env` does it.
pub fn parser() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bigquery/zetasql");
    let directory = std::env::var_os("HEDGEROW_ZETASQL").map_or(beside, PathBuf::from);
    if directory.join("node_modules/@fivetrandevelopers/zetasql").is_dir() {
        return Some(directory);
    }
    println!("SKIPPED: the ZetaSQL parser is not installed; `make bigquery-env` installs it");
    None
}

/// Hands lines to a program beside the parser: whether it ends well, and what it prints.
pub fn read_by(directory: &Path, program: &str, lines: Vec<String>) -> (bool, String) {
    let mut child = Command::new("node")
        .arg(program)
        .current_dir(directory)
        .stdin(Stdio::piped())
        .stdout(Stdio::piped())
        .spawn()
        .expect("node can be run");
    let mut input = child.stdin.take().unwrap();
    let writer = std::thread::spawn(move || {
        for line in lines {
            writeln!(input, "{line}").unwrap();
        }
    });
    let output = child.wait_with_output().unwrap();
    writer.join().unwrap();
    (output.status.success(), String::from_utf8_lossy(&output.stdout).into_owned())
}

#[test]
fn the_services_own_parser_finds_no_table_that_the_decision_did_not_see() {
    let Some(directory) = parser() else { return };
    let mut lines = Vec::new();
    let mut take = |sent: &str, relations: &[hedgerow::sql::bigquery::TableUse]| {
        let mut tables: Vec<String> = relations.iter().map(|used| used.table.to_string()).collect();
        // Its guard reads the parent.
        if tables.iter().any(|table| table == "acme-prod.app.order_items") {
            tables.push("acme-prod.app.orders".to_owned());
        }
        lines.push(serde_json::json!({"sent": sent, "tables": tables}).to_string());
    };
    let attacks: Attacks = serde_saphyr::from_str(ATTACKS).unwrap();
    let of_attacks = policy(POLICY);
    for sql in attacks.attacks.iter().flat_map(|attack| &attack.sql) {
        match decided(sql, &of_attacks, "app") {
            // The parser reads one statement at a time.
            Ok(decided) if decided.kinds.len() == 1 => {
                take(decided.guarded.text(), &decided.relations);
            }
            _ => {}
        }
    }
    let everything = policy(EVERYTHING);
    for query in corpus().unwrap_or_default() {
        match decided_with_routines(&query.sql, &everything) {
            Ok(decided) if decided.kinds.len() == 1 => {
                take(decided.guarded.text(), &decided.relations);
            }
            _ => {}
        }
    }
    let count = lines.len();
    let (sound, told) = read_by(&directory, "tables.mjs", lines);
    assert!(sound, "{told}");
    let last = told.lines().rfind(|line| line.contains("\"same\"")).unwrap();
    let counts: serde_json::Value = serde_json::from_str(last).unwrap();
    println!("{count} texts: {counts}");
    // An older release than the service's: it does not know pipes, and what it does not read says nothing.
    let same = counts["same"].as_u64().unwrap();
    assert!(same * 100 >= count as u64 * 95, "{counts} of {count}");
}
