//! What is on disk, and when.

use serde_json::{Value, json};

use crate::support::fixture::{POLICY, World};
use crate::support::hedgerow::{Options, command, records_in};
use crate::support::token::Token;

#[test]
fn a_denials_record_is_on_disk_when_the_client_has_its_answer() {
    let world = World::new();
    let mut a = world.a();
    let denied = ["SELECT * FROM vault", "SELECT * FROM internal_keys", "SET row_security = off"];
    for sql in denied {
        assert!(a.query(sql).denied(), "{sql}");
    }
    world.hedgerow.kill();
    let text = format!("{:?}", world.hedgerow.records());
    for code in ["HR1004", "HR1003", "HR1006"] {
        assert!(text.contains(code), "{code} is not on disk: {text}");
    }
    let verified = world.hedgerow.verify(&["--open"]);
    assert!(verified.status.success(), "{verified:?}");
    let strict = world.hedgerow.verify(&[]);
    assert!(!strict.status.success(), "an open segment does not pass as closed");
    world.hedgerow.assert_no_canary();
}

#[test]
fn in_strict_mode_every_answered_statement_has_its_record() {
    let world = World::with(&Options { audit_mode: "strict", ..Options::new(POLICY) });
    let mut a = world.a();
    let answered: Vec<String> =
        (0..20).map(|n| format!("SELECT id AS answered_{n} FROM users")).collect();
    for sql in &answered {
        assert_eq!(a.query(sql).rows().len(), 3);
    }
    world.hedgerow.kill();
    let text = format!("{:?}", world.hedgerow.records());
    for n in 0..answered.len() {
        assert!(text.contains(&format!("answered_{n}")), "statement {n} has no record");
    }
    assert!(world.hedgerow.verify(&["--open"]).status.success());
    world.hedgerow.assert_no_canary();
}

#[test]
fn an_allowed_statements_record_comes_soon_and_holds_no_literal() {
    let world = World::new();
    let mut a = world.a();
    a.query("SELECT id FROM users WHERE name = 'a literal of mine'");
    a.extended("SELECT id FROM users WHERE name = $1", &[Some("a parameter of mine")]);
    let record = world.hedgerow.record_with(&["FROM users WHERE name"]);
    let text = record.to_string();
    for wanted in [crate::support::TENANT_A, "user-1", "wire-test", "public.users"] {
        assert!(text.contains(wanted), "{wanted} in {text}");
    }
    a.terminate();
    let everything = format!("{:?}", world.hedgerow.records());
    assert!(!everything.contains("literal of mine") && !everything.contains("parameter of mine"));
    world.finish();
}

#[test]
fn a_changed_cut_or_reordered_record_is_found() {
    let world = World::new();
    let mut a = world.a();
    for n in 0..20 {
        a.query(&format!("SELECT {n} FROM users"));
    }
    a.query("SELECT * FROM vault");
    a.terminate();
    world.hedgerow.terminate();
    assert!(world.hedgerow.verify(&[]).status.success());
    let directory = world.hedgerow.audit_directory();
    let file = std::fs::read_dir(&directory)
        .unwrap()
        .flatten()
        .map(|entry| entry.path())
        .find(|path| path.extension().is_some_and(|extension| extension == "jsonl"))
        .expect("a segment");
    let good = std::fs::read_to_string(&file).unwrap();
    let lines: Vec<&str> = good.lines().collect();
    assert!(lines.len() > 20);
    let mut swapped = lines.clone();
    swapped.swap(5, 6);
    let without_one: Vec<&str> = [&lines[..7], &lines[8..]].concat();
    let forgeries = [
        good.replace("HR1004", "HR1003"),
        swapped.join("\n") + "\n",
        without_one.join("\n") + "\n",
        lines[..lines.len() - 3].join("\n") + "\n",
        good.replacen("\"sub", "\"sUb", 1).replacen(
            crate::support::TENANT_A,
            crate::support::TENANT_B,
            1,
        ),
    ];
    for forged in forgeries {
        assert_ne!(forged, good);
        std::fs::write(&file, &forged).unwrap();
        let verified = world.hedgerow.verify(&[]);
        assert_eq!(
            verified.status.code(),
            Some(1),
            "{}",
            String::from_utf8_lossy(&verified.stdout)
        );
    }
    std::fs::write(&file, &good).unwrap();
    assert!(world.hedgerow.verify(&[]).status.success());
    world.finish();
}

#[test]
fn search_finds_a_tenants_denials() {
    let world = World::new();
    let (mut a, mut b) = (world.a(), world.b());
    a.query("SELECT * FROM vault");
    b.query("SELECT 1");
    a.terminate();
    b.terminate();
    world.hedgerow.terminate();
    let directory = world.hedgerow.audit_directory();
    let path = directory.to_str().unwrap();
    let arguments = [
        "audit",
        "search",
        path,
        "--tenant",
        crate::support::TENANT_A,
        "--decision",
        "deny",
        "--format",
        "json",
    ];
    let found = command(&arguments, world.hedgerow.directory());
    let text = String::from_utf8_lossy(&found.stdout);
    assert!(found.status.success() && text.contains("HR1004"), "{text}");
    assert!(!text.contains(crate::support::TENANT_B), "{text}");
    assert!(!records_in(&directory).is_empty());
    world.finish();
}

fn statement(record: &Value) -> &str {
    record.pointer("/query_info/query_string").and_then(Value::as_str).unwrap_or_default()
}

#[test]
fn a_denials_record_names_its_statement_and_the_rules_that_applied() {
    let world = World::new();
    let mut a = world.a();
    for (sql, recorded, relations) in [
        (
            "UPDATE orders SET total = 78 WHERE id = -1; SELECT * FROM vault WHERE 'geheim' = 'x'",
            "SELECT * FROM vault WHERE $1 = $2",
            json!([{"relation": "public.vault", "rule": "public.vault"}]),
        ),
        (
            "SELECT 1 AS unnamed FROM users, nosuchtable",
            "SELECT $1 AS unnamed FROM users, nosuchtable",
            json!([
                {"relation": "public.users", "rule": "public.users"},
                {"relation": "nosuchtable", "rule": "none"}
            ]),
        ),
        (
            "COPY orders TO PROGRAM 'geheim'",
            "COPY orders TO PROGRAM $1",
            json!([{"relation": "public.orders", "rule": "public.orders"}]),
        ),
        ("DO $$ BEGIN RAISE 'geheim'; END $$", "DO $1", Value::Null),
        ("ALTER ROLE app_user PASSWORD 'geheim'", "ALTER ROLE", Value::Null),
    ] {
        assert!(a.query(sql).denied(), "{sql}");
        let records = world.hedgerow.records();
        let record = records.iter().find(|record| statement(record) == recorded);
        let record = record.unwrap_or_else(|| panic!("no record says {recorded}: {records:?}"));
        let own = &record["unmapped"]["hedgerow"];
        assert_eq!(own["decision"], "deny", "{sql}");
        assert_eq!(own["relations"], relations, "{sql}");
    }
    for sql in ["BEGIN", "SET LOCAL statement_timeout = '5s'", "ROLLBACK"] {
        assert!(!a.query(sql).denied(), "{sql}");
    }
    for recorded in ["\"BEGIN\"", "\"SET LOCAL statement_timeout TO $1\"", "\"ROLLBACK\""] {
        world.hedgerow.record_with(&[recorded]);
    }
    let service = Token::hs256("").without("tenant_id").sign();
    let mut service = world.hedgerow.sign_in(world.hedgerow.address, &world.database, &service);
    assert!(service.query("SELECT 4711 AS of_a_service").denied());
    world.hedgerow.record_with(&["HR2009", "SELECT $1 AS of_a_service"]);
    service.terminate();
    a.terminate();
    let everything = format!("{:?}", world.hedgerow.records());
    assert!(!everything.contains("geheim") && !everything.contains("4711"));
    world.finish();
}
