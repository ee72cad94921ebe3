//! The catalog's door against a real server.

use std::time::Duration;

use tokio::time::{Instant, sleep};

use super::testing::Server;
use super::{Catalogs, FindingKind, LoadError, connect, load};
use crate::catalog::{Catalog, RelationKind};
use crate::ids::RelationName;

const SCHEMA: &str = r#"
    CREATE ROLE app LOGIN; CREATE ROLE keeper; GRANT keeper TO app;
    CREATE SCHEMA metrics; CREATE SCHEMA app AUTHORIZATION app;
    CREATE TABLE tenants (id uuid PRIMARY KEY, name text NOT NULL UNIQUE);
    CREATE TYPE mood AS ENUM ('good', 'bad');
    CREATE TABLE "Odd Name" (
      id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY,
      tenant_id uuid NOT NULL REFERENCES tenants (id),
      "Mixed" mood, tags text[] DEFAULT '{}', double int GENERATED ALWAYS AS (2 * 2) STORED,
      gone int, number serial, UNIQUE (tenant_id, "Mixed"));
    ALTER TABLE "Odd Name" DROP COLUMN gone;
    ALTER TABLE "Odd Name" OWNER TO keeper;
    CREATE UNIQUE INDEX odd_lower ON "Odd Name" (lower(tags[1]));
    CREATE TABLE metrics.daily (tenant_id uuid, day date) PARTITION BY RANGE (day);
    CREATE TABLE metrics.daily_1 PARTITION OF metrics.daily
      FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
    ALTER TABLE metrics.daily ENABLE ROW LEVEL SECURITY, FORCE ROW LEVEL SECURITY;
    CREATE VIEW open_view AS SELECT * FROM tenants;
    CREATE VIEW invoked WITH (security_invoker = on, security_barrier) AS SELECT * FROM tenants;
    CREATE FUNCTION all_names() RETURNS SETOF text LANGUAGE sql SECURITY DEFINER
      AS 'SELECT name FROM tenants';
    CREATE FUNCTION gen_random_uuid() RETURNS uuid LANGUAGE sql AS 'SELECT NULL::uuid';
    CREATE FUNCTION upper(text) RETURNS text LANGUAGE sql AS 'SELECT $1';
    CREATE FUNCTION upper(int) RETURNS text LANGUAGE sql AS 'SELECT $1::text';
    CREATE FUNCTION lower(text, b text DEFAULT '') RETURNS text LANGUAGE sql AS 'SELECT $1';
    CREATE FUNCTION initcap(named text) RETURNS text LANGUAGE sql AS 'SELECT $1';
    CREATE OPERATOR === (LEFTARG = int, RIGHTARG = int, FUNCTION = int4eq);
"#;

async fn run(server: &Server, sql: &str) {
    connect(&server.endpoint("owner"), "postgres")
        .await
        .unwrap()
        .client
        .batch_execute(sql)
        .await
        .unwrap();
}

fn relation<'a>(catalog: &'a Catalog, schema: &str, name: &str) -> &'a crate::catalog::Relation {
    catalog.relation(&RelationName::new(schema, name)).unwrap()
}

#[tokio::test]
async fn a_live_schema_is_read_as_it_is() {
    let Some(server) = Server::start() else { return };
    run(&server, SCHEMA).await;
    let catalog = load(&server.endpoint("app"), "postgres").await.unwrap();
    assert!(catalog.live);
    assert!(catalog.server_version >= 150_000);
    assert_eq!(catalog.role, "app");
    assert_eq!(catalog.search_path, ["app", "public"]);
    assert!(!catalog.posture.superuser && !catalog.posture.bypass_rls);
    assert_eq!(catalog.posture.member_of, ["app", "keeper"]);

    let odd = relation(&catalog, "public", "Odd Name");
    assert_eq!((odd.kind, odd.owner.as_str()), (RelationKind::Table, "keeper"));
    let columns: Vec<_> = odd.columns.iter().map(|column| column.name.as_str()).collect();
    assert_eq!(columns, ["id", "tenant_id", "Mixed", "tags", "double", "number"]);
    let of = |name: &str| odd.column(name).unwrap();
    assert!(of("id").generated && of("double").generated && !of("number").generated);
    assert!(of("number").has_default && of("tags").has_default && !of("Mixed").has_default);
    assert!(of("tenant_id").not_null && !of("Mixed").not_null);
    assert_eq!(
        (of("Mixed").type_schema.as_str(), of("Mixed").type_name.as_str()),
        ("public", "mood")
    );
    assert_eq!(of("tags").type_name, "_text");
    assert_eq!(odd.primary_key, ["id"]);
    assert_eq!(odd.unique_keys, [["tenant_id", "Mixed"]]);
    assert_eq!(odd.foreign_keys[0].parent_name, "tenants");
    assert_eq!(odd.foreign_keys[0].parent_columns, ["id"]);

    let daily = relation(&catalog, "metrics", "daily");
    assert_eq!(daily.kind, RelationKind::PartitionedTable);
    assert!(daily.rls_enabled && daily.rls_forced && !odd.rls_enabled);
    let part = relation(&catalog, "metrics", "daily_1");
    assert_eq!(part.parents, [("metrics".to_owned(), "daily".to_owned())]);
    let invoked = relation(&catalog, "public", "invoked");
    assert!(invoked.security_invoker && invoked.security_barrier);
    assert!(!relation(&catalog, "public", "open_view").security_invoker);
    assert!(
        catalog
            .functions
            .iter()
            .any(|f| f.name == "all_names" && f.security_definer && f.language == "sql")
    );
    let hidden = |name: &str| -> Vec<bool> {
        let functions = catalog.functions.iter().filter(|function| function.name == name);
        functions.map(|function| function.hidden).collect()
    };
    assert_eq!(hidden("gen_random_uuid"), [true]);
    assert_eq!(hidden("upper"), [true, false]);
    assert_eq!((hidden("lower"), hidden("initcap")), (vec![false], vec![false]));
    assert!(catalog.user_operators.contains("==="));
    // PostgreSQL runs it for an operator of its own.
    assert!(!catalog.implied_operators.contains_key("==="));
    for callable in ["ts_stat", "lo_get", "regclassin", "num_nulls", "upper"] {
        assert!(catalog.attribute_functions.contains(callable), "{callable}");
    }
    for not in ["date_trunc", "version", "oid", "name", "system", "all_names"] {
        assert!(!catalog.attribute_functions.contains(not), "{not}");
    }
    assert!(catalog.user_types.contains(&("public".to_owned(), "mood".to_owned())));
    assert!(catalog.relations.keys().all(|name| !name.schema.starts_with("pg_")));
    let owned = &catalog.posture.owned_sequences;
    assert!(
        owned
            .iter()
            .any(|(_, sequence, _, table)| sequence.contains("number") && table == "Odd Name")
    );

    let findings = super::posture(&catalog, &crate::policy::Policy::default());
    let kinds: std::collections::BTreeSet<_> =
        findings.iter().map(|finding| finding.kind).collect();
    assert!(
        kinds.contains(&FindingKind::NoPolicy) && kinds.contains(&FindingKind::SecurityDefiner)
    );
    assert!(kinds.contains(&FindingKind::ViewHidesTable));
    assert!(
        !findings.iter().any(|finding| finding.object == "public.invoked"
            && finding.kind == FindingKind::ViewHidesTable)
    );
}

#[tokio::test]
async fn the_posture_report_names_each_weakness_once() {
    use crate::policy::{
        Access, Mode, Policy, Protection, SourcePosition, TablePolicy, TenantType,
    };
    use std::sync::Arc;
    let Some(server) = Server::start() else { return };
    let schema = "
        CREATE ROLE app LOGIN;
        CREATE TABLE orgs (id uuid PRIMARY KEY, name text);
        CREATE TABLE users (id int PRIMARY KEY, org text NOT NULL, mail text UNIQUE,
                            UNIQUE (org, mail));
        CREATE UNIQUE INDEX mails ON users (lower(mail));
        CREATE TABLE facts (org uuid, user_id int REFERENCES users, day date)
          PARTITION BY RANGE (day);
        CREATE TABLE facts_1 PARTITION OF facts FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
        ALTER TABLE facts ENABLE ROW LEVEL SECURITY;
        ALTER TABLE facts OWNER TO app;";
    run(&server, schema).await;
    let rule = |column: &str| {
        Arc::new(TablePolicy {
            protection: Protection::Tenant {
                column: column.to_owned(),
                tenant_type: TenantType::Uuid,
            },
            access: Access::ALL,
            condition: None,
            columns: Default::default(),
            mode: Mode::Enforce,
            rule: Arc::from("rule"),
            at: SourcePosition { file: Arc::from("test.yaml"), line: 1, column: 1 },
        })
    };
    let entries = [("orgs", "id"), ("users", "org"), ("facts", "org"), ("gone", "org")];
    let policy = Policy {
        tables: entries
            .into_iter()
            .map(|(table, column)| (RelationName::new("public", table), rule(column)))
            .collect(),
        ..Policy::default()
    };
    let catalog = load(&server.endpoint("app"), "postgres").await.unwrap();
    let findings: Vec<_> = super::posture(&catalog, &policy)
        .into_iter()
        .map(|finding| (finding.kind.name(), finding.object))
        .collect();
    let expected = [
        ("role-owner", "public.facts"),
        ("rls-missing", "public.facts_1"),
        ("rls-missing", "public.orgs"),
        ("rls-missing", "public.users"),
        ("rls-not-forced", "public.facts"),
        ("table-missing", "public.gone"),
        ("tenant-nullable", "public.facts.org"),
        ("tenant-type", "public.users.org"),
        // The primary key, the key on mail alone, the index on an expression.
        ("unique-across-tenants", "public.users"),
        ("unique-across-tenants", "public.users"),
        ("unique-across-tenants", "public.users"),
        ("foreign-key-across-tenants", "public.facts"),
    ];
    let expected: Vec<_> =
        expected.into_iter().map(|(kind, object)| (kind, object.to_owned())).collect();
    assert_eq!(findings, expected);
    let owner = load(&server.endpoint("owner"), "postgres").await.unwrap();
    let findings = super::posture(&owner, &policy);
    let first: Vec<_> = findings.iter().take(2).map(|finding| finding.kind).collect();
    assert_eq!(first, [FindingKind::RoleSuperuser, FindingKind::RoleBypassRls]);
    assert!(!findings.iter().any(|finding| finding.kind == FindingKind::RoleOwner));
}

/// Waits for the watch to notice, within a few of its intervals.
async fn noticed(catalogs: &Catalogs, before: &Catalog) -> bool {
    // Generous: a busy machine is no fault.
    let deadline = Instant::now() + 30 * super::WATCH_INTERVAL;
    while Instant::now() < deadline {
        if catalogs.current("postgres").await.unwrap().epoch > before.epoch {
            return true;
        }
        sleep(Duration::from_millis(50)).await;
    }
    false
}

#[tokio::test(flavor = "multi_thread")]
async fn every_change_of_the_schema_grows_the_epoch() {
    let Some(server) = Server::start() else { return };
    run(&server, SCHEMA).await;
    let catalogs = Catalogs::new(server.endpoint("app"));
    let mut last = catalogs.current("postgres").await.unwrap();
    for change in [
        "ALTER TABLE tenants ADD COLUMN plan text",
        "ALTER TABLE tenants RENAME COLUMN plan TO tier",
        "ALTER TABLE tenants ALTER COLUMN tier SET NOT NULL",
        "ALTER TABLE tenants ALTER COLUMN tier SET DEFAULT 'x'",
        "ALTER TABLE tenants ALTER COLUMN tier TYPE varchar(9)",
        "ALTER TABLE tenants DROP COLUMN tier",
        "CREATE TABLE fresh (id int)",
        "ALTER TABLE fresh RENAME TO renamed",
        "ALTER TABLE renamed SET SCHEMA metrics",
        "ALTER TABLE metrics.renamed ENABLE ROW LEVEL SECURITY",
        "ALTER TABLE metrics.renamed ADD UNIQUE (id)",
        "ALTER TABLE metrics.renamed OWNER TO keeper",
        "DROP TABLE metrics.renamed",
        "ALTER TABLE metrics.daily DETACH PARTITION metrics.daily_1",
        "CREATE OR REPLACE VIEW open_view AS SELECT id, name FROM tenants WHERE name <> ''",
        "ALTER VIEW open_view SET (security_invoker = true)",
        "CREATE FUNCTION f() RETURNS int LANGUAGE sql AS 'SELECT 1'",
        "ALTER FUNCTION f() SECURITY DEFINER",
        "CREATE TYPE colour AS ENUM ('red')",
        "CREATE OPERATOR ==== (LEFTARG = int, RIGHTARG = int, FUNCTION = int4eq)",
        "ALTER SCHEMA metrics RENAME TO measures",
        "REVOKE USAGE ON SCHEMA app FROM app; ALTER SCHEMA app OWNER TO owner",
        "GRANT USAGE ON SCHEMA measures TO app",
        "ALTER ROLE app SET search_path = measures, public",
        "ALTER ROLE app BYPASSRLS",
    ] {
        run(&server, change).await;
        let current = catalogs.refresh("postgres").await.unwrap();
        assert!(current.epoch > last.epoch, "not seen: {change}");
        last = current;
    }
    assert_eq!(last.search_path, ["measures", "public"]);
    assert!(last.posture.bypass_rls);

    // What changes no schema keeps the epoch and every cache.
    for harmless in [
        "INSERT INTO tenants VALUES (gen_random_uuid(), 'a'); ANALYZE",
        "TRUNCATE tenants CASCADE",
        "CREATE TEMP TABLE mine (id int)",
        "VACUUM FULL tenants",
        "CREATE INDEX ON tenants (name, id)",
    ] {
        run(&server, harmless).await;
        assert_eq!(catalogs.refresh("postgres").await.unwrap().epoch, last.epoch, "{harmless}");
    }

    // And the watch sees a change without being asked.
    run(&server, "CREATE TABLE unasked (id int)").await;
    assert!(noticed(&catalogs, &last).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn the_last_good_catalog_outlives_the_upstream() {
    let Some(server) = Server::start() else { return };
    run(&server, SCHEMA).await;
    let catalogs = Catalogs::new(server.endpoint("app"));
    let good = catalogs.current("postgres").await.unwrap();
    server.stop();
    assert!(matches!(catalogs.refresh("postgres").await, Err(LoadError::Connect(_))));
    assert_eq!(catalogs.current("postgres").await.unwrap().epoch, good.epoch);
    server.start_again("");
    assert_eq!(catalogs.refresh("postgres").await.unwrap().epoch, good.epoch);
    run(&server, "CREATE TABLE later (id int)").await;
    assert!(noticed(&catalogs, &good).await);
}

#[tokio::test(flavor = "multi_thread")]
async fn many_askers_cause_one_load_and_refreshes_keep_their_distance() {
    let Some(server) = Server::start() else { return };
    let catalogs = Catalogs::new(server.endpoint("owner"));
    let askers: Vec<_> = (0..50)
        .map(|_| {
            let catalogs = catalogs.clone();
            tokio::spawn(async move { catalogs.current("postgres").await.unwrap().epoch })
        })
        .collect();
    for asker in askers {
        assert_eq!(asker.await.unwrap().0, 1);
    }
    let begun = Instant::now();
    for _ in 0..4 {
        catalogs.refresh("postgres").await.unwrap();
    }
    assert!(begun.elapsed() >= Duration::from_millis(750));
    let begun = Instant::now();
    let askers: Vec<_> = (0..50)
        .map(|_| {
            let catalogs = catalogs.clone();
            tokio::spawn(async move { catalogs.refresh("postgres").await.unwrap().epoch })
        })
        .collect();
    for asker in askers {
        assert_eq!(asker.await.unwrap().0, 1);
    }
    // One after the other they would take 12 s and more.
    assert!(begun.elapsed() < Duration::from_secs(10), "refreshes are shared");

    // Names that lead nowhere leave nothing behind.
    assert!(matches!(catalogs.current("no_such_database").await, Err(LoadError::Connect(_))));
    assert!(matches!(catalogs.current("").await, Err(LoadError::DatabaseName)));
    assert!(matches!(catalogs.current(&"x".repeat(64)).await, Err(LoadError::DatabaseName)));
    assert_eq!(catalogs.databases(), ["postgres"]);
    assert!(catalogs.current("template1").await.unwrap().epoch.0 == 2, "epochs are unique");
}

#[tokio::test]
async fn a_load_that_is_cut_off_is_tried_again_and_a_good_catalog_stays_meanwhile() {
    let Some(server) = Server::start() else { return };
    run(&server, SCHEMA).await;
    let (keeper, killer) = (
        connect(&server.endpoint("owner"), "postgres").await.unwrap(),
        connect(&server.endpoint("owner"), "postgres").await.unwrap(),
    );
    let kill = "SELECT count(pg_terminate_backend(pid)) FROM pg_stat_activity \
                WHERE usename = 'app' AND wait_event_type = 'Lock'";
    let killed = async || {
        while killer.client.query_one(kill, &[]).await.unwrap().get::<_, i64>(0) == 0 {
            sleep(Duration::from_millis(20)).await;
        }
    };
    // The first load, which somebody waits for.
    keeper.client.batch_execute("BEGIN; LOCK pg_catalog.pg_inherits").await.unwrap();
    let catalogs = Catalogs::new(server.endpoint("app"));
    let waiting = catalogs.clone();
    let first = tokio::spawn(async move { waiting.current("postgres").await });
    killed().await;
    keeper.client.batch_execute("COMMIT").await.unwrap();
    let first = first.await.unwrap().unwrap();
    // A later one: until it is there, the one before serves, and nothing of the change is lost.
    keeper.client.batch_execute("CREATE TABLE younger ()").await.unwrap();
    keeper.client.batch_execute("BEGIN; LOCK pg_catalog.pg_inherits").await.unwrap();
    let waiting = catalogs.clone();
    let second = tokio::spawn(async move { waiting.refresh("postgres").await });
    killed().await;
    assert_eq!(catalogs.current("postgres").await.unwrap().epoch, first.epoch);
    keeper.client.batch_execute("COMMIT").await.unwrap();
    let second = second.await.unwrap().unwrap();
    assert!(second.epoch > first.epoch);
    relation(&second, "public", "younger");
}

#[tokio::test]
async fn each_tls_mode_accepts_what_it_says_and_nothing_else() {
    use crate::endpoint::{Endpoint, TlsMode};
    let Some(server) = Server::start() else { return };
    let openssl = |arguments: &str| {
        std::process::Command::new("openssl")
            .args(arguments.split_whitespace())
            .current_dir(server.home())
            .output()
            .is_ok_and(|output| output.status.success())
    };
    let authority = "req -x509 -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -days 2 \
                     -addext basicConstraints=critical,CA:TRUE";
    assert!(openssl(&format!("{authority} -subj /CN=ours -keyout ca.key -out ca.pem")));
    assert!(openssl(&format!("{authority} -subj /CN=other -keyout other.key -out other.pem")));
    assert!(openssl(
        "req -new -newkey ec -pkeyopt ec_paramgen_curve:P-256 -nodes -subj /CN=localhost \
         -addext subjectAltName=DNS:localhost -keyout server.key -out server.csr"
    ));
    assert!(openssl(
        "x509 -req -in server.csr -CA ca.pem -CAkey ca.key -CAcreateserial -days 2 \
         -copy_extensions copy -out server.pem"
    ));
    let path = |name: &str| server.home().join(name);
    server.give(&path("server.key"));
    let port = std::net::TcpListener::bind("127.0.0.1:0").unwrap().local_addr().unwrap().port();
    server.stop();
    server.start_again(&format!(
        "-c listen_addresses=127.0.0.1 -c port={port} -c ssl=on -c ssl_cert_file={} \
         -c ssl_key_file={}",
        path("server.pem").display(),
        path("server.key").display()
    ));
    let attempt = async |host: &str, tls: TlsMode, ca: Option<&str>| {
        let endpoint = Endpoint {
            host: host.to_owned(),
            port,
            tls,
            ca_file: ca.map(path),
            ..server.endpoint("owner")
        };
        let session = connect(&endpoint, "postgres").await.ok()?;
        let text = "SELECT ssl FROM pg_stat_ssl WHERE pid = pg_backend_pid()";
        let row = session.client.query_typed(text, &[]).await.unwrap();
        Some(row[0].get::<_, bool>(0))
    };
    use TlsMode::{Disable, Require, VerifyCa, VerifyFull};
    for (host, mode, ca, expected) in [
        ("127.0.0.1", Disable, None, Some(false)),
        ("127.0.0.1", Require, None, Some(true)),
        ("127.0.0.1", VerifyCa, Some("ca.pem"), Some(true)),
        ("localhost", VerifyFull, Some("ca.pem"), Some(true)),
        ("127.0.0.1", VerifyFull, Some("ca.pem"), None),
        ("127.0.0.1", VerifyCa, Some("other.pem"), None),
        ("localhost", VerifyFull, Some("other.pem"), None),
        ("localhost", VerifyFull, Some("missing.pem"), None),
        ("localhost", VerifyFull, Some("server.key"), None),
    ] {
        assert_eq!(attempt(host, mode, ca).await, expected, "{host} {mode:?} {ca:?}");
    }
    // A server without TLS is refused by every mode that asks for it.
    server.stop();
    server.start_again(&format!("-c listen_addresses=127.0.0.1 -c port={port}"));
    assert_eq!(attempt("127.0.0.1", Disable, None).await, Some(false));
    assert_eq!(attempt("127.0.0.1", Require, None).await, None);
}
