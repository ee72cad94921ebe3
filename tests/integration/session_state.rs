//! The session's variables are out of the client's reach, and nothing of a session stays behind.

use crate::support::fixture::World;
use crate::support::wire::{self, WireClient};
use crate::support::{TENANT_A, TENANT_B, token};

const SEEN: &str = "SELECT id FROM seen_by_rls";

#[test]
fn reset_all_and_discard_all_keep_the_session_variables() {
    let world = World::new();
    let mut a = world.a();
    for sql in
        ["RESET ALL", "DISCARD ALL", "DEALLOCATE ALL", "UNLISTEN *", "DISCARD PLANS", "CLOSE ALL"]
    {
        let outcome = a.query(sql);
        assert!(outcome.errors().is_empty(), "{sql}: {outcome:?}");
        assert_eq!(a.query(SEEN).lines(), ["1"], "after {sql}");
    }
    a.terminate();
    world.finish();
}

#[test]
fn no_route_changes_a_session_variable() {
    let world = World::new();
    let mut a = world.a();
    let b = TENANT_B;
    let routes = [
        format!("SET app.current_tenant = '{b}'"),
        format!("SET SESSION app.current_tenant TO '{b}'"),
        format!("SET \"app.current_tenant\" = '{b}'"),
        format!("SET App.Current_Tenant = '{b}'"),
        format!("SELECT set_config('app.current_tenant', '{b}', false)"),
        format!("SELECT pg_catalog.set_config('app.current_tenant', '{b}', true)"),
        format!(
            "SELECT id FROM users WHERE set_config('app.' || 'current_tenant', '{b}', false) IS NOT NULL"
        ),
        format!("SELECT id FROM users ORDER BY set_config('app.current_tenant', '{b}', false)"),
        format!(
            "INSERT INTO documents (id, tenant_id, title) VALUES (90, '{TENANT_A}', set_config('app.current_tenant', '{b}', false))"
        ),
        format!(
            "WITH x AS (SELECT set_config('app.current_tenant', '{b}', false)) SELECT * FROM x"
        ),
        format!("PREPARE p AS SELECT set_config('app.current_tenant', '{b}', false)"),
        format!("EXPLAIN ANALYZE SELECT set_config('app.current_tenant', '{b}', false)"),
        format!("DO $$ BEGIN PERFORM set_config('app.current_tenant', '{b}', false); END $$"),
        format!("ALTER ROLE app_user SET app.current_tenant = '{b}'"),
        format!("ALTER DATABASE {} SET app.current_tenant = '{b}'", world.database),
        format!("UPDATE pg_settings SET setting = '{b}' WHERE name = 'app.current_tenant'"),
        "RESET app.current_tenant".to_owned(),
        "SET app.current_tenant TO DEFAULT".to_owned(),
        "SET ROLE postgres".to_owned(),
        "SET SESSION AUTHORIZATION postgres".to_owned(),
    ];
    for sql in &routes {
        for outcome in [a.query(sql), a.extended(sql, &[])] {
            assert!(outcome.denied(), "{sql}: {outcome:?}");
        }
        assert_eq!(a.query(SEEN).lines(), ["1"], "after {sql}");
    }
    a.terminate();
    let mut fresh = world.a();
    assert_eq!(fresh.query(SEEN).lines(), ["1"]);
    fresh.terminate();
    world.finish();
}

#[test]
fn startup_parameters_are_an_allow_list() {
    let world = World::new();
    let token = token::of(TENANT_A);
    let option = format!("-c app.current_tenant={TENANT_B}");
    for (name, value) in [
        ("options", option.as_str()),
        ("app.current_tenant", TENANT_B),
        ("search_path", "metrics"),
        ("session_preload_libraries", "x"),
        ("role", "postgres"),
        ("row_security", "off"),
        ("replication", "database"),
        ("standard_conforming_strings", "off"),
    ] {
        let mut client = WireClient::connect(world.hedgerow.for_a());
        let parameters = [("user", "x"), ("database", world.database.as_str()), (name, value)];
        let start = client.start(&parameters, Some(&token));
        if start.ready() {
            assert_eq!(client.query(SEEN).lines(), ["1"], "{name}={value}");
            assert_eq!(client.query("SELECT id FROM users ORDER BY id").lines(), ["1", "2", "3"]);
            assert_eq!(client.query("SHOW standard_conforming_strings").value(), "on");
        } else {
            assert!(start.error().is_fatal(), "{name}={value}: {start:?}");
        }
    }
    world.finish();
}

#[test]
fn harmless_startup_parameters_work() {
    let world = World::new();
    let token = token::of(TENANT_A);
    let mut client = WireClient::connect(world.hedgerow.for_a());
    let parameters = [
        ("user", "x"),
        ("database", world.database.as_str()),
        ("application_name", "orders"),
        ("client_encoding", "UTF8"),
        ("TimeZone", "Europe/Berlin"),
        ("DateStyle", "ISO, DMY"),
        ("extra_float_digits", "2"),
    ];
    let start = client.start(&parameters, Some(&token));
    assert!(start.ready(), "{start:?}");
    assert_eq!(client.query("SHOW TimeZone").value(), "Europe/Berlin");
    client.terminate();
    world.finish();
}

#[test]
fn the_search_path_that_holds_anyway_can_be_set_and_no_other() {
    let world = World::new();
    let mut a = world.a();
    for sql in [
        "SET search_path TO public",
        "SET SESSION search_path = \"$user\", public",
        "SET search_path TO 'public'",
        "SET SCHEMA 'public'",
        "SET search_path TO DEFAULT",
    ] {
        assert_eq!(a.query(sql).tags(), ["SET"], "{sql}");
        assert_eq!(a.query("SELECT id FROM users ORDER BY id").lines(), ["1", "2", "3"], "{sql}");
    }
    a.query("SET search_path TO public");
    assert_eq!(a.query("SHOW search_path").value(), "public");
    for sql in [
        "SET search_path TO metrics, public",
        "SET search_path TO public, metrics",
        "SET LOCAL search_path TO metrics",
        "SET search_path TO pg_temp, public",
        "SET search_path TO public, pg_catalog",
        "SET search_path TO ''",
    ] {
        assert_eq!(a.query(sql).denial_code(), "HR1006", "{sql}");
    }
    assert_eq!(a.query("SELECT count(*) FROM samples").denial_code(), "HR1003");
    a.terminate();
    let token = token::of(TENANT_A);
    for (name, value, welcome) in [
        ("options", "-c search_path=public", true),
        ("search_path", "\"$user\", public", true),
        ("search_path", "metrics", false),
        ("options", "-c search_path=public,metrics", false),
    ] {
        let mut client = WireClient::connect(world.hedgerow.for_a());
        let parameters = [("user", "x"), ("database", world.database.as_str()), (name, value)];
        let start = client.start(&parameters, Some(&token));
        assert_eq!(start.ready(), welcome, "{value}: {start:?}");
        if welcome {
            assert_eq!(client.query("SELECT id FROM users ORDER BY id").lines(), ["1", "2", "3"]);
            client.terminate();
        } else {
            assert_eq!(start.denial_code(), "HR1006", "{value}");
        }
    }
    world.finish();
}

#[test]
fn nothing_of_a_session_is_left_to_the_next() {
    let world = World::new();
    for round in 0..4 {
        let mut b = world.b();
        b.query("PREPARE left_behind AS SELECT secret FROM users");
        b.query("SET timezone = 'Asia/Tokyo'");
        b.query("SET search_path = metrics, public");
        b.query("BEGIN");
        b.query("DECLARE c CURSOR FOR SELECT secret FROM users");
        if round % 2 == 0 {
            b.terminate();
        } else {
            drop(b);
        }
        let mut a = world.a();
        assert_eq!(a.query("SELECT 1").status(), Some('I'));
        assert!(!a.query("EXECUTE left_behind").errors().is_empty());
        let mut bytes = wire::bind("", "left_behind", &[]);
        bytes.extend(wire::execute("", 0));
        bytes.extend(wire::sync());
        a.send(&bytes);
        assert!(!a.collect(1).errors().is_empty());
        assert!(!a.query("FETCH 1 FROM c").errors().is_empty());
        assert_ne!(a.query("SHOW timezone").value(), "Asia/Tokyo");
        assert_eq!(a.query(SEEN).lines(), ["1"]);
        a.terminate();
    }
    world.finish();
}

#[test]
fn harmless_settings_work_and_end_with_their_transaction() {
    let world = World::new();
    let mut a = world.a();
    let before = a.query("SHOW statement_timeout").value();
    a.query("BEGIN");
    assert_eq!(a.query("SET LOCAL statement_timeout = '7s'").tags(), ["SET"]);
    assert_eq!(a.query("SHOW statement_timeout").value(), "7s");
    a.query("ROLLBACK");
    assert_eq!(a.query("SHOW statement_timeout").value(), before);
    a.terminate();
    world.finish();
}
