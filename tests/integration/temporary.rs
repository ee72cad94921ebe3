//! Temporary tables: a session's own work, are found before all others, and never make another tenant's
//! rows come or go.

use crate::support::fixture::{POLICY, World};
use crate::support::hedgerow::Options;
use crate::support::wire::{self, WireClient};

fn pooled() -> World {
    let mut options = Options::new(POLICY);
    options.pool_mode = "transaction";
    options.max_connections = 2;
    World::with(&options)
}

fn runs(client: &mut WireClient, sql: &str, tags: &[&str]) {
    let outcome = client.query(sql);
    assert_eq!(outcome.tags(), tags, "{sql}: {outcome:?}");
}

#[test]
fn temporary_tables_are_made_filled_and_joined_with_the_tenants_own_rows() {
    let world = World::new();
    let (mut a, mut b) = (world.a(), world.b());
    for (sql, tags) in [
        ("DROP TABLE IF EXISTS staging", vec!["DROP TABLE"]),
        (
            "CREATE TEMP TABLE staging (id int PRIMARY KEY, name text NOT NULL DEFAULT upper('x'), CHECK (id > 0))",
            vec!["CREATE TABLE"],
        ),
        ("INSERT INTO staging (id, name) SELECT id, secret FROM users", vec!["INSERT 0 3"]),
        ("INSERT INTO staging VALUES (101, 'A-own'), (7, DEFAULT)", vec!["INSERT 0 2"]),
        ("UPDATE staging SET name = lower(name) WHERE id > 6", vec!["UPDATE 2"]),
        ("CREATE INDEX ON staging (lower(name))", vec!["CREATE INDEX"]),
        ("ANALYZE staging", vec!["ANALYZE"]),
        (
            "CREATE TEMPORARY TABLE copied AS SELECT * FROM orders WITH NO DATA",
            vec!["CREATE TABLE AS"],
        ),
        ("INSERT INTO copied SELECT * FROM orders", vec!["INSERT 0 3"]),
        ("SELECT id, secret INTO TEMP picked FROM users WHERE credit > 10", vec!["SELECT 2"]),
        (
            "CREATE TEMP TABLE a1 (LIKE users INCLUDING DEFAULTS); INSERT INTO a1 SELECT * FROM a1",
            vec!["CREATE TABLE", "INSERT 0 0"],
        ),
        ("CREATE TABLE pg_temp.named (a int)", vec!["CREATE TABLE"]),
        ("DELETE FROM pg_temp.named", vec!["DELETE 0"]),
        ("TRUNCATE named, copied", vec!["TRUNCATE TABLE"]),
        ("DROP TABLE named, pg_temp.copied", vec!["DROP TABLE"]),
    ] {
        let tags: Vec<&str> = tags.into_iter().collect();
        runs(&mut a, sql, &tags);
    }
    assert_eq!(a.query("SELECT id FROM staging ORDER BY id").lines(), ["1", "2", "3", "7", "101"]);
    assert_eq!(
        a.query("SELECT secret FROM picked ORDER BY id").lines(),
        ["A-SECRET-2", "A-SECRET-3"]
    );
    // What another tenant has under the same number is not met, whatever the table asks for.
    let joined = "SELECT u.id FROM staging s JOIN users u ON u.id = s.id ORDER BY u.id";
    assert_eq!(a.query(joined).lines(), ["1", "2", "3"]);
    let probed = "SELECT s.id FROM staging s JOIN users u ON u.id = s.id AND u.secret::int = s.id";
    assert!(!a.query(probed).errors().is_empty(), "A's own secret is no number");
    runs(
        &mut a,
        "DELETE FROM users u USING staging s WHERE u.id = s.id AND s.id = 101",
        &["DELETE 0"],
    );
    runs(
        &mut a,
        "MERGE INTO staging s USING users u ON u.id = s.id WHEN MATCHED THEN DELETE WHEN NOT MATCHED THEN INSERT VALUES (u.id, u.name)",
        &["MERGE 3"],
    );
    let outcome =
        a.extended("INSERT INTO staging VALUES ($1, $2) RETURNING name", &[Some("9"), Some("n")]);
    assert_eq!(outcome.lines(), ["n"], "{outcome:?}");
    // Of another session it is not known.
    assert_eq!(b.query("SELECT * FROM staging").denial_code(), "HR1003");
    assert_eq!(b.query("SELECT * FROM pg_temp.staging").denial_code(), "HR1003");
    a.terminate();
    b.terminate();
    world.finish();
}

#[test]
fn rows_are_copied_into_and_out_of_a_temporary_table() {
    let world = World::new();
    let mut a = world.a();
    runs(&mut a, "CREATE TEMP TABLE staging (id int, name text)", &["CREATE TABLE"]);
    let mut bytes = wire::query("COPY staging FROM STDIN (FORMAT csv)");
    bytes.extend(wire::copy_data("1,one\n101,\"A two\"\n"));
    bytes.extend(wire::copy_done());
    a.send(&bytes);
    let outcome = a.collect(1);
    assert_eq!(outcome.tags(), ["COPY 2"], "{outcome:?}");
    let outcome = a.query("COPY staging TO STDOUT");
    assert_eq!(outcome.tags(), ["COPY 2"], "{outcome:?}");
    a.terminate();
    world.finish();
}

#[test]
fn a_temporary_table_hides_the_table_of_its_name_as_postgresql_does_and_opens_nothing() {
    let world = World::new();
    let mut a = world.a();
    runs(&mut a, "CREATE TEMP TABLE users (id int, secret text)", &["CREATE TABLE"]);
    runs(&mut a, "INSERT INTO users VALUES (101, 'A-own')", &["INSERT 0 1"]);
    assert_eq!(a.query("SELECT secret FROM users").lines(), ["A-own"]);
    assert_eq!(a.query("SELECT id FROM public.users ORDER BY id").lines(), ["1", "2", "3"]);
    assert_eq!(a.query("SELECT count(*) FROM user_overview").lines(), ["3"]);
    let both = "SELECT p.id FROM public.users p JOIN users u ON true ORDER BY 1";
    assert_eq!(a.query(both).lines(), ["1", "2", "3"]);
    runs(&mut a, "DROP TABLE users", &["DROP TABLE"]);
    assert_eq!(a.query("SELECT id FROM users ORDER BY id").lines(), ["1", "2", "3"]);
    assert_eq!(a.query("DROP TABLE users").denial_code(), "HR1002");
    assert_eq!(a.query("DROP TABLE IF EXISTS users").denial_code(), "HR1002");
    assert_eq!(a.query("TRUNCATE users").denial_code(), "HR1002");
    assert_eq!(world.truth("SELECT count(*) FROM users"), "6");
    a.terminate();
    world.finish();
}

#[test]
fn what_reaches_beyond_the_sessions_own_schema_is_denied() {
    let world = World::new();
    let mut a = world.a();
    runs(&mut a, "CREATE TEMP TABLE own (id int)", &["CREATE TABLE"]);
    for (sql, code) in [
        ("CREATE TEMP TABLE t () INHERITS (users)", "HR1002"),
        (
            "CREATE TEMP TABLE t PARTITION OF events FOR VALUES FROM ('2027-01-01') TO ('2028-01-01')",
            "HR1002",
        ),
        ("CREATE TEMP TABLE t (id int REFERENCES users)", "HR1002"),
        ("CREATE TEMP TABLE t (id int) TABLESPACE pg_default", "HR1002"),
        ("CREATE TEMP TABLE t (LIKE vault)", "HR1004"),
        ("CREATE TEMP TABLE t (LIKE users INCLUDING ALL)", "HR1002"),
        ("CREATE TEMP TABLE t (LIKE pg_stats)", "HR1007"),
        ("CREATE TEMP TABLE t (a text DEFAULT pg_read_file('/etc/passwd'))", "HR1005"),
        ("CREATE TEMP TABLE t (a text CHECK (all_secrets() > a))", "HR1005"),
        ("CREATE TEMP TABLE t AS SELECT * FROM vault", "HR1004"),
        ("CREATE TEMP TABLE t AS SELECT password_hash FROM users", "HR1010"),
        ("CREATE TEMP TABLE t AS EXECUTE p", "HR1002"),
        ("CREATE TEMP VIEW v AS SELECT 1", "HR1002"),
        ("CREATE TEMP SEQUENCE s", "HR1002"),
        ("SELECT * INTO TEMP t FROM vault", "HR1004"),
        ("SELECT 1 INTO t", "HR1002"),
        ("SELECT * FROM (SELECT 1 INTO TEMP t) x", "HR1002"),
        ("EXPLAIN ANALYZE SELECT 1 INTO TEMP t", "HR1002"),
        // Types are looked for there first: the guards' literals would be of another type.
        ("CREATE TEMP TABLE uuid (a int)", "HR1002"),
        ("CREATE TEMP TABLE \"text\" (a int)", "HR1002"),
        ("CREATE TEMP TABLE pg_class (a int)", "HR1002"),
        ("CREATE TABLE t AS SELECT 1", "HR1002"),
        ("CREATE TABLE t (a int)", "HR1002"),
        ("CREATE INDEX ON users (id)", "HR1002"),
        ("ANALYZE own, users", "HR1002"),
        ("ANALYZE", "HR1002"),
        ("DROP TABLE own, users", "HR1002"),
        ("TRUNCATE own, users", "HR1002"),
        ("ALTER TABLE own INHERIT users", "HR1002"),
        ("CREATE INDEX ON own (all_secrets())", "HR1005"),
    ] {
        let outcome = a.query(sql);
        assert!(outcome.denied(), "{sql}: {outcome:?}");
        assert_eq!(outcome.denial_code(), code, "{sql}");
    }
    a.terminate();
    world.finish();
}

#[test]
fn transactions_take_temporary_tables_back_and_drop_them_at_commit() {
    let world = World::new();
    let mut a = world.a();
    runs(&mut a, "BEGIN", &["BEGIN"]);
    runs(&mut a, "CREATE TEMP TABLE users (secret text)", &["CREATE TABLE"]);
    assert!(a.query("SELECT secret FROM users").lines().is_empty());
    runs(&mut a, "ROLLBACK", &["ROLLBACK"]);
    assert_eq!(a.query("SELECT id FROM users ORDER BY id").lines(), ["1", "2", "3"]);
    runs(&mut a, "BEGIN", &["BEGIN"]);
    runs(&mut a, "CREATE TEMP TABLE users (id int) ON COMMIT DROP", &["CREATE TABLE"]);
    assert!(a.query("SELECT id FROM users").lines().is_empty());
    runs(&mut a, "COMMIT", &["COMMIT"]);
    assert_eq!(a.query("SELECT id FROM users ORDER BY id").lines(), ["1", "2", "3"]);
    let failed = a.query("CREATE TEMP TABLE users (id int); SELECT 1 / 0");
    assert_eq!(failed.sqlstate(), "22012");
    assert_eq!(a.query("SELECT id FROM users ORDER BY id").lines(), ["1", "2", "3"]);
    runs(&mut a, "CREATE TEMP TABLE users (id int)", &["CREATE TABLE"]);
    runs(&mut a, "DISCARD ALL", &["DISCARD ALL"]);
    assert_eq!(a.query("SELECT id FROM users ORDER BY id").lines(), ["1", "2", "3"]);
    a.terminate();
    world.finish();
}

#[test]
fn in_transaction_pooling_a_temporary_table_keeps_its_backend_and_goes_with_it() {
    let world = pooled();
    let (mut one, mut two) = (world.a(), world.a());
    let pid = |client: &mut WireClient| client.query("SELECT pg_backend_pid()").value();
    runs(&mut one, "CREATE TEMP TABLE staging (id int)", &["CREATE TABLE"]);
    let own = pid(&mut one);
    two.query("BEGIN");
    assert_ne!(pid(&mut two), own);
    two.query("COMMIT");
    for round in 0..3 {
        runs(&mut one, "INSERT INTO staging VALUES (1)", &["INSERT 0 1"]);
        assert_eq!(pid(&mut one), own, "{round}");
        assert_ne!(pid(&mut two), own, "{round}");
    }
    assert_eq!(two.query("SELECT * FROM staging").denial_code(), "HR1003");
    runs(&mut one, "DISCARD ALL", &["DISCARD ALL"]);
    assert_eq!(one.query("SELECT * FROM staging").denial_code(), "HR1003");
    runs(&mut one, "CREATE TEMP TABLE staging (id int)", &["CREATE TABLE"]);
    one.terminate();
    assert_eq!(two.query("SELECT * FROM staging").denial_code(), "HR1003");
    two.terminate();
    world.finish();
}
