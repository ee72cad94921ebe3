//! Identities that may do more than a tenant: `ddl` changes the schema, `break_glass` sees everyone.

use serde_json::{Value, json};

use crate::support::fixture::{POLICY, World};
use crate::support::hedgerow::Options;
use crate::support::postgres::server;
use crate::support::token::{Token, now};
use crate::support::wire::WireClient;
use crate::support::{TENANT_A, TENANT_B};

/// The usual policy, with identities, and names that migrations make.
fn policy() -> String {
    format!(
        "{POLICY}\
         ddl: {{claim: role, in: [migrator]}}\n\
         break_glass: {{claim: role, in: [dba], max_lifetime: 10m}}\n"
    )
    .replace(
        "  public.vault: deny\n",
        "  public.vault: deny\n  public.projects: {tenant: tenant_id}\n  public.copies: {tenant: tenant_id}\n  \
         \"open.*\": shared\n  public.schema_migrations: shared\n  public.django_migrations: shared\n",
    )
}

/// A world in which the upstream's role owns some tables.
fn world(audit_mode: &'static str) -> World {
    let world = World::with(&Options { audit_mode, ..Options::new(&policy()) });
    world.truth(
        "GRANT ALL ON SCHEMA public TO app_user; CREATE SCHEMA open AUTHORIZATION app_user; \
         GRANT app_owner TO app_user; SELECT 1",
    );
    world
}

fn token(role: &str, tenant: Option<&str>, lifetime: i64) -> String {
    let issued = now();
    let token = Token::hs256(tenant.unwrap_or(TENANT_A))
        .claim("role", role.into())
        .claim("iat", json!(issued))
        .claim("exp", json!(issued + lifetime));
    if tenant.is_some() { token.sign() } else { token.without("tenant_id").sign() }
}

fn session(world: &World, token: &str) -> WireClient {
    world.hedgerow.sign_in(world.hedgerow.address, &world.database, token)
}

fn critical(world: &World) -> Vec<Value> {
    let records = world.hedgerow.records();
    records.into_iter().filter(|record| record["severity_id"] == json!(5)).collect()
}

#[test]
fn what_a_ddl_identity_makes_is_there_for_the_next_statement_of_every_session() {
    let world = world("balanced");
    let (mut migrator, mut a) = (session(&world, &token("migrator", None, 600)), world.a());
    for (sql, tag) in [
        (
            "CREATE TABLE projects (id serial PRIMARY KEY, tenant_id uuid NOT NULL, name text)",
            "CREATE TABLE",
        ),
        ("CREATE INDEX projects_name ON projects (lower(name))", "CREATE INDEX"),
        ("COMMENT ON TABLE projects IS 'of tenants'", "COMMENT"),
        ("ALTER TABLE projects ADD COLUMN done boolean NOT NULL DEFAULT false", "ALTER TABLE"),
    ] {
        assert_eq!(migrator.query(sql).tags(), [tag], "{sql}");
    }
    assert_eq!(a.query("INSERT INTO projects (name) VALUES ('mine') RETURNING done").value(), "f");
    assert_eq!(world.truth("SELECT tenant_id FROM projects"), TENANT_A);
    assert_eq!(migrator.query("BEGIN").tags(), ["BEGIN"]);
    migrator.query("ALTER TABLE projects RENAME COLUMN name TO title");
    assert_eq!(migrator.extended("COMMIT", &[]).tags(), ["COMMIT"]);
    assert_eq!(a.query("SELECT title FROM projects").value(), "mine");
    assert_eq!(migrator.query("DROP TABLE projects").tags(), ["DROP TABLE"]);
    assert_eq!(a.query("SELECT title FROM projects").denial_code(), "HR1003");
    world.finish();
}

#[test]
fn nobody_else_changes_the_schema() {
    let world = world("balanced");
    let mut a = world.a();
    for sql in [
        "CREATE TABLE projects (id int)",
        "ALTER TABLE users ADD COLUMN x int",
        "DROP TABLE users",
        "COMMENT ON TABLE users IS 'x'",
        "CREATE INDEX ON users (name)",
        "CREATE TABLE copies AS SELECT * FROM users",
        "CREATE VIEW v AS SELECT 1",
    ] {
        assert_eq!(a.query(sql).denial_code(), "HR1002", "{sql}");
    }
    world.finish();
}

#[test]
fn the_policy_holds_for_the_data_of_who_changes_the_schema() {
    let world = world("balanced");
    let mut nobody = session(&world, &token("migrator", None, 600));
    let mut of_a = session(&world, &token("migrator", Some(TENANT_A), 600));
    assert_eq!(nobody.query("SELECT id FROM users").denial_code(), "HR2009");
    assert_eq!(of_a.query("SELECT count(*) FROM users").value(), "3");
    assert_eq!(
        of_a.query("CREATE TABLE copies AS SELECT id, tenant_id, secret FROM users").tags(),
        ["SELECT 3"]
    );
    assert_eq!(world.truth("SELECT count(*) FROM copies"), "3");
    assert_eq!(nobody.query("CREATE TABLE c2 AS SELECT id FROM users").denial_code(), "HR2009");
    assert_eq!(
        of_a.query("CREATE TABLE c3 AS SELECT password_hash FROM users").denial_code(),
        "HR1010"
    );
    assert_eq!(nobody.query("INSERT INTO currencies VALUES ('CHF', 1)").tags(), ["INSERT 0 1"]);
    assert_eq!(world.a().query("INSERT INTO currencies VALUES ('SEK', 1)").denial_code(), "HR1013");
    world.finish();
}

#[test]
fn a_schema_change_does_not_carry_rows_out_of_the_policy() {
    let world = world("balanced");
    let mut migrator = session(&world, &token("migrator", Some(TENANT_A), 600));
    for (code, sql) in [
        ("HR1002", "CREATE FUNCTION f() RETURNS int LANGUAGE sql SECURITY DEFINER AS 'SELECT 1'"),
        ("HR1002", "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'"),
        ("HR1002", "DO $$ BEGIN END $$"),
        (
            "HR1002",
            "CREATE TRIGGER t BEFORE INSERT ON users FOR EACH ROW EXECUTE FUNCTION suppress_redundant_updates_trigger()",
        ),
        ("HR1002", "CREATE RULE r AS ON INSERT TO users DO ALSO NOTHING"),
        ("HR1002", "CREATE POLICY p ON users USING (true)"),
        ("HR1002", "DROP POLICY p ON users"),
        ("HR1002", "ALTER TABLE users DISABLE ROW LEVEL SECURITY"),
        ("HR1002", "ALTER TABLE users NO FORCE ROW LEVEL SECURITY"),
        ("HR1002", "ALTER TABLE users OWNER TO app_user"),
        ("HR1002", "GRANT SELECT ON users TO public"),
        ("HR1002", "CREATE EXTENSION dblink"),
        ("HR1002", "TRUNCATE users"),
        ("HR1002", "ALTER SYSTEM SET work_mem = '1GB'"),
        ("HR1002", "ALTER SCHEMA public RENAME TO open2"),
        ("HR1005", "CREATE INDEX ON users (pg_read_file(name))"),
        ("HR1005", "ALTER TABLE orders ADD CHECK (all_secrets() IS NULL)"),
        ("HR1006", "SET app.current_tenant = 'x'"),
        ("HR1009", "CREATE VIEW open.v AS SELECT * FROM orders"),
        ("HR1009", "CREATE VIEW open.v AS SELECT 1 FROM currencies, users"),
        ("HR1009", "ALTER TABLE users SET SCHEMA open"),
        ("HR1009", "ALTER TABLE internal_keys RENAME TO projects"),
        ("HR1009", "ALTER TABLE orders INHERIT currencies"),
        ("HR1010", "ALTER TABLE users RENAME COLUMN tenant_id TO t"),
        ("HR1010", "ALTER TABLE users RENAME COLUMN password_hash TO p"),
        ("HR1010", "ALTER TABLE users RENAME COLUMN name TO password_hash"),
        ("HR1010", "ALTER TABLE regional RENAME COLUMN region TO r"),
        ("HR1010", "ALTER TABLE users DROP COLUMN tenant_id"),
        (
            "HR1010",
            "ALTER TABLE users ALTER COLUMN tenant_id TYPE uuid USING 'aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa'::uuid",
        ),
        ("HR1010", "ALTER TABLE users ALTER COLUMN name TYPE text USING password_hash"),
        (
            "HR1010",
            "ALTER TABLE users ADD COLUMN x text GENERATED ALWAYS AS (password_hash) STORED",
        ),
    ] {
        assert_eq!(migrator.query(sql).denial_code(), code, "{sql}");
    }
    for sql in [
        "CREATE VIEW unlisted AS SELECT * FROM users",
        "CREATE VIEW open.rates AS SELECT code, rate FROM currencies",
        "ALTER TABLE users ENABLE ROW LEVEL SECURITY",
        "ALTER TABLE users RENAME COLUMN name TO full_name",
        "ALTER TABLE documents RENAME TO papers",
    ] {
        assert!(migrator.query(sql).errors().is_empty(), "{sql}");
    }
    assert_eq!(migrator.query("SELECT * FROM unlisted").denial_code(), "HR1003");
    assert_eq!(migrator.query("SELECT * FROM papers").denial_code(), "HR1003");
    // What fails on another tenant's row quotes none of it.
    let failed = migrator.query("ALTER TABLE orders ADD UNIQUE (placed)").error();
    assert_eq!(failed.sqlstate(), "23505");
    assert_eq!(failed.field('D'), "");
    assert!(
        migrator
            .query("ALTER TABLE regional ADD CHECK (secret LIKE 'A%')")
            .error()
            .field('D')
            .is_empty()
    );
    world.finish();
}

/// As tests and fixtures of Django, Rails and others empty their tables, and put sequences right.
#[test]
fn who_changes_the_schema_empties_reference_data_and_nothing_else() {
    let world = world("balanced");
    let mut migrator = session(&world, &token("migrator", Some(TENANT_A), 600));
    for sql in [
        "CREATE TABLE open.kinds (id serial PRIMARY KEY, name text)",
        "CREATE TABLE open.details (id serial PRIMARY KEY, kind int REFERENCES open.kinds)",
        "INSERT INTO open.kinds (name) VALUES ('a'), ('b')",
        "INSERT INTO open.details (kind) VALUES (1), (2)",
        "SELECT setval(pg_get_serial_sequence('open.kinds', 'id'), coalesce(max(id), 1), max(id) IS NOT null) FROM open.kinds",
    ] {
        assert!(migrator.query(sql).errors().is_empty(), "{sql}");
    }
    assert_eq!(migrator.query("TRUNCATE open.kinds").sqlstate(), "0A000", "it is referred to");
    for sql in [
        "TRUNCATE TABLE ONLY open.details",
        "TRUNCATE open.kinds, open.details RESTART IDENTITY",
        "TRUNCATE \"open\".\"kinds\" CASCADE",
    ] {
        assert_eq!(migrator.query(sql).tags(), ["TRUNCATE TABLE"], "{sql}");
        assert_eq!(migrator.query("SELECT count(*) FROM open.details").value(), "0", "{sql}");
    }
    assert_eq!(
        migrator.query("INSERT INTO open.kinds (name) VALUES ('c') RETURNING id").value(),
        "1"
    );
    let refers =
        "CREATE TABLE projects (id int, tenant_id uuid NOT NULL, kind int REFERENCES open.kinds)";
    assert_eq!(migrator.query(refers).tags(), ["CREATE TABLE"]);
    for (detail, sql) in [
        ("HR1009: public.projects", "TRUNCATE open.kinds CASCADE"),
        ("HR1009: public.projects", "TRUNCATE open.details, open.kinds CASCADE"),
        ("HR1002: TRUNCATE", "TRUNCATE projects"),
        ("HR1002: TRUNCATE", "TRUNCATE open.details, users"),
        ("HR1002: TRUNCATE", "TRUNCATE pg_class"),
        ("HR1003: internal_keys", "TRUNCATE internal_keys"),
        ("HR1004: vault", "TRUNCATE open.details, vault"),
    ] {
        let denied = migrator.query(sql).error();
        assert_eq!(denied.field('D'), detail, "{sql}");
    }
    assert_eq!(migrator.query("TRUNCATE open.details").tags(), ["TRUNCATE TABLE"]);
    let mut dba = session(&world, &token("dba", None, 600));
    let mut a = world.a();
    for session in [&mut dba, &mut a] {
        assert_eq!(session.query("TRUNCATE open.details").denial_code(), "HR1002");
        assert_eq!(session.query("SELECT setval('open.kinds_id_seq', 1)").denial_code(), "HR1005");
    }
    world.hedgerow.kill();
}

/// As Alembic runs all migrations in one transaction, its own book-keeping among them.
#[test]
fn reference_data_is_filled_in_the_transaction_that_makes_its_table() {
    let world = world("balanced");
    let mut migrator = session(&world, &token("migrator", Some(TENANT_A), 600));
    let made = "CREATE TABLE schema_migrations (version text PRIMARY KEY)";
    let filled = "INSERT INTO schema_migrations VALUES ('1') RETURNING version";
    for sql in ["BEGIN", made] {
        assert!(migrator.query(sql).errors().is_empty(), "{sql}");
    }
    assert_eq!(migrator.extended(filled, &[]).value(), "1");
    assert_eq!(migrator.query("SELECT version FROM public.schema_migrations").value(), "1");
    assert_eq!(world.a().query("SELECT * FROM schema_migrations").denial_code(), "HR1003");
    migrator.query("ROLLBACK");
    assert_eq!(migrator.query(filled).denial_code(), "HR1003");

    // What belongs to tenants has columns that the guards rest on.
    for sql in ["BEGIN", "CREATE TABLE projects (id int, tenant_id uuid NOT NULL)"] {
        assert!(migrator.query(sql).errors().is_empty(), "{sql}");
    }
    assert_eq!(migrator.query("SELECT * FROM projects").denial_code(), "HR1003");
    migrator.query("ROLLBACK");

    for sql in ["BEGIN", "SAVEPOINT s", made, "ROLLBACK TO s"] {
        assert!(migrator.query(sql).errors().is_empty(), "{sql}");
    }
    assert_eq!(migrator.query(filled).sqlstate(), "42P01", "the server knows that it is gone");
    migrator.query("ROLLBACK");

    let all = "BEGIN; CREATE TABLE open.a (n int); INSERT INTO open.a VALUES (1); \
               ALTER TABLE open.a RENAME TO b; INSERT INTO open.b VALUES (2); COMMIT";
    let done = migrator.query(all);
    assert!(done.errors().is_empty(), "{done:?}");
    assert_eq!(world.a().query("SELECT count(*) FROM open.b").value(), "2");
    world.finish();
}

/// A new relation without a schema goes into the first one of the search path, whatever stands in the others.
#[test]
fn a_view_is_judged_by_the_name_that_it_gets() {
    let world = world("balanced");
    let path = format!("ALTER DATABASE {} SET search_path = open, public", world.database);
    server().run(&world.database, &path);
    let mut migrator = session(&world, &token("migrator", Some(TENANT_A), 600));
    for sql in [
        "CREATE VIEW internal_keys AS SELECT id, secret FROM users",
        "CREATE OR REPLACE VIEW vault AS SELECT * FROM orders",
    ] {
        assert_eq!(migrator.query(sql).denial_code(), "HR1009", "{sql}");
    }
    assert!(
        migrator
            .query("CREATE VIEW internal_keys AS SELECT code FROM currencies")
            .errors()
            .is_empty()
    );
    assert_eq!(world.a().query("SELECT count(*) FROM internal_keys").value(), "3");
    world.finish();
}

/// Migrations make sure of the extensions that they need.
#[test]
fn an_extension_that_is_there_may_be_asked_for_and_no_other() {
    let world = world("balanced");
    server().run(&world.database, "CREATE EXTENSION citext");
    let mut migrator = session(&world, &token("migrator", None, 600));
    let there = "CREATE EXTENSION IF NOT EXISTS \"citext\"";
    assert_eq!(migrator.query(there).tags(), ["CREATE EXTENSION"]);
    for sql in [
        "CREATE EXTENSION citext",
        "CREATE EXTENSION IF NOT EXISTS citext CASCADE",
        "CREATE EXTENSION IF NOT EXISTS hstore",
        "DROP EXTENSION citext",
    ] {
        assert_eq!(migrator.query(sql).denial_code(), "HR1002", "{sql}");
    }
    assert_eq!(world.a().query(there).denial_code(), "HR1002");
    world.finish();
}

#[test]
fn migrations_as_psql_and_rails_send_them_run() {
    let world = world("balanced");
    let mut migrator = session(&world, &token("migrator", None, 600));
    for sql in [
        "SET client_min_messages TO warning",
        "CREATE TABLE \"schema_migrations\" (\"version\" character varying NOT NULL PRIMARY KEY)",
        "SELECT \"schema_migrations\".\"version\" FROM \"schema_migrations\" ORDER BY \"schema_migrations\".\"version\" ASC",
        "BEGIN",
        "CREATE TABLE \"projects\" (\"id\" bigserial primary key, \"tenant_id\" uuid NOT NULL, \"name\" character varying, \
         \"created_at\" timestamp(6) NOT NULL, \"updated_at\" timestamp(6) NOT NULL)",
        "CREATE INDEX \"index_projects_on_tenant_id\" ON \"projects\" (\"tenant_id\")",
        "ALTER TABLE \"projects\" ADD CONSTRAINT \"fk_rails_1\" FOREIGN KEY (\"tenant_id\") REFERENCES \"tenants\" (\"id\")",
        "ALTER TABLE \"projects\" ADD \"state\" integer DEFAULT 0 NOT NULL",
        "ALTER TABLE \"projects\" ALTER COLUMN \"name\" SET NOT NULL",
        "ALTER TABLE \"projects\" ALTER COLUMN \"state\" TYPE bigint USING state::bigint",
        "INSERT INTO \"schema_migrations\" (\"version\") VALUES ('20260101000000') RETURNING \"version\"",
        "COMMIT",
        "CREATE TYPE mood AS ENUM ('sad', 'ok')",
        "ALTER TYPE mood ADD VALUE 'happy'",
        "CREATE SEQUENCE project_numbers OWNED BY projects.id",
        "ALTER TABLE projects ADD COLUMN feeling mood",
        "CREATE UNIQUE INDEX CONCURRENTLY projects_name ON projects (tenant_id, name) WHERE state > 0",
        "CREATE EXTENSION IF NOT EXISTS plpgsql",
        "DROP INDEX projects_name",
        "DROP TABLE projects, schema_migrations CASCADE",
    ] {
        let outcome = migrator.query(sql);
        assert!(outcome.errors().is_empty(), "{sql}: {:?}", outcome.errors());
    }
    world.finish();
}

#[test]
fn break_glass_sees_every_tenant_and_each_statement_is_on_record_before_it_runs() {
    for mode in ["balanced", "strict"] {
        let world = world(mode);
        let mut dba = session(&world, &token("dba", None, 600));
        let count = "SELECT count(*) FROM users";
        for outcome in [dba.query(count), dba.extended(count, &[])] {
            assert_eq!(outcome.value(), "6");
        }
        let seen = dba.query("SELECT tenant_id FROM orders ORDER BY id DESC LIMIT 1");
        assert_eq!(seen.value(), TENANT_B, "the egress guard lets it through");
        let fixed = dba.query("UPDATE users SET name = 'Repaired' WHERE id = 101");
        assert_eq!(fixed.tags(), ["UPDATE 1"]);
        // It is killed without a chance to write anything more.
        dba.send(&crate::support::wire::query(
            "SELECT count(*) AS last_words FROM users, users b, users c",
        ));
        let told = dba.collect(1);
        assert_eq!(told.value(), "216");
        world.hedgerow.kill();
        let records = critical(&world);
        assert!(records.len() >= 5, "{mode}: {records:?}");
        let text = format!("{records:?}");
        assert!(text.contains("last_words") && text.contains("UPDATE users"), "{text}");
    }
}

#[test]
fn break_glass_opens_nothing_but_tenants() {
    let world = world("balanced");
    let mut dba = session(&world, &token("dba", Some(TENANT_A), 600));
    assert_eq!(dba.query("SELECT count(*) FROM regional").value(), "3", "row rules are of tenants");
    for (code, sql) in [
        ("HR1002", "CREATE TABLE x (id int)"),
        ("HR1003", "SELECT * FROM internal_keys"),
        ("HR1004", "SELECT * FROM vault"),
        ("HR1005", "SELECT pg_read_file('PG_VERSION')"),
        ("HR1006", "SET app.current_tenant = 'x'"),
        ("HR1007", "SELECT * FROM pg_stats"),
        ("HR1010", "SELECT password_hash FROM users"),
        ("HR1013", "UPDATE price_list SET price = 0"),
        ("HR1014", "COPY users TO '/tmp/x'"),
    ] {
        assert_eq!(dba.query(sql).denial_code(), code, "{sql}");
    }
    world.hedgerow.kill();
}

#[test]
fn a_break_glass_token_that_lives_too_long_is_good_for_nothing() {
    let world = world("balanced");
    let mut dba = session(&world, &token("dba", Some(TENANT_A), 3000));
    assert_eq!(dba.query("SELECT 1 FROM users").denial_code(), "HR2008");
    assert_eq!(dba.extended("SELECT 1", &[]).denial_code(), "HR2008");
    let mut a = world.a();
    assert_eq!(a.query("SELECT count(*) FROM users").value(), "3");
    world.finish();
}

#[test]
fn what_break_glass_leaves_open_is_not_for_a_lesser_token_of_the_same_tenant() {
    let world = world("balanced");
    let mut session = session(&world, &token("dba", Some(TENANT_A), 300));
    let lesser = format!("SET hedgerow.token = '{}'", token("clerk", Some(TENANT_A), 300));
    for sql in ["BEGIN", "DECLARE c CURSOR FOR SELECT email FROM users"] {
        assert!(session.query(sql).errors().is_empty(), "{sql}");
    }
    assert_eq!(session.query(&lesser).sqlstate(), "25001");
    assert!(session.query("ROLLBACK").errors().is_empty());
    let held = "DECLARE h CURSOR WITH HOLD FOR SELECT email FROM users";
    for sql in [held, lesser.as_str()] {
        assert!(session.query(sql).errors().is_empty(), "{sql}");
    }
    let fetched = session.query("FETCH ALL FROM h");
    assert_eq!(fetched.sqlstate(), "34000", "{fetched:?}");
    assert!(session.query("SELECT email FROM users").errors().is_empty());
}
