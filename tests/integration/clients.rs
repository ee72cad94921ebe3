//! Real clients, as applications use them: one program a driver, mostly below `tests/clients`.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use crate::support::fixture::{POLICY, World};
use crate::support::hedgerow::Options;
use crate::support::{TENANT_A, TENANT_B, postgres, process, token};

fn psql(world: &World, tenant: &str, arguments: &[&str]) -> std::process::Output {
    let address = if tenant == TENANT_A { world.hedgerow.for_a() } else { world.hedgerow.for_b() };
    let mut command = Command::new(postgres::client_program("psql"));
    command
        .args(["-X", "-A", "-t", "-h", "127.0.0.1", "-p", &address.port().to_string()])
        .args(["-U", "application", "-d", &world.database])
        .args(arguments)
        .env("PGPASSWORD", token::of(tenant))
        .env("PGCONNECT_TIMEOUT", "10")
        .env("PGSSLMODE", "prefer");
    process::run(&mut command, Duration::from_secs(60))
}

fn text(bytes: &[u8]) -> String {
    String::from_utf8_lossy(bytes).into_owned()
}

#[test]
fn psql_shows_each_tenant_its_own_rows() {
    let world = World::new();
    let sql = "SELECT id, name FROM users ORDER BY id";
    let a = psql(&world, TENANT_A, &["-c", sql]);
    assert_eq!(text(&a.stdout), "1|Ann\n2|Art\n3|Ada\n", "{}", text(&a.stderr));
    let b = psql(&world, TENANT_B, &["-c", sql]);
    assert_eq!(text(&b.stdout), "101|Bob\n102|Bea\n103|Ann\n", "{}", text(&b.stderr));
    world.finish();
}

#[test]
fn psql_prints_a_denial_like_any_error() {
    let world = World::new();
    let denied = psql(&world, TENANT_A, &["-c", "SELECT * FROM vault"]);
    let stderr = text(&denied.stderr);
    assert_eq!(denied.status.code(), Some(1), "{stderr}");
    assert!(stderr.contains("ERROR:  hedgerow: ") && stderr.contains("HR1004"), "{stderr}");
    world.finish();
}

#[test]
fn psqls_own_commands_work() {
    let world = World::new();
    for (command, wanted) in [
        ("\\d", "user_overview"),
        ("\\dt", "users"),
        ("\\di", "users_lower_idx"),
        ("\\dv", "user_overview"),
        ("\\df", "slugify"),
        ("\\dn", "public"),
        ("\\dn+", "public"),
        ("\\du", "app_user"),
        ("\\l", &world.database),
        ("\\d users", "Foreign-key constraints"),
        ("\\d orders", "REFERENCES users(tenant_id, id)"),
        ("\\d events", "Partition key: RANGE (day)"),
        ("\\d events_2025", "Partition of: events"),
        ("\\d seen_by_rls", "POLICY \"tenant\""),
        ("\\d user_overview", "tenant_id"),
        ("\\d+ users", "Check constraints"),
        ("\\dp", "app_user"),
        ("\\dT", ""),
        ("\\ds", ""),
        ("\\dm", ""),
        ("\\dx", "plpgsql"),
        ("\\dP", "events"),
        ("\\dtS", "pg_class"),
        ("\\dS pg_class", "relname"),
        ("\\conninfo", &world.database),
        ("\\copy (SELECT id FROM users ORDER BY id) TO STDOUT", "1\n2\n3"),
    ] {
        let output = psql(&world, TENANT_A, &["-P", "tuples_only=off", "-c", command]);
        let stdout = text(&output.stdout);
        assert!(
            output.status.success() && stdout.contains(wanted),
            "{command}: {stdout}{}",
            text(&output.stderr)
        );
    }
    world.finish();
}

/// Sizes tell how many rows others have; texts of views and functions are the operator's.
#[test]
fn psqls_copy_takes_rows_of_the_tenant() {
    let world = World::new();
    let directory = tempfile::tempdir().unwrap();
    let file = directory.path().join("rows.csv");
    std::fs::write(&file, format!("id,tenant_id,title\n300,{TENANT_A},\"a, b\"\n")).unwrap();
    let command =
        format!("\\copy documents (id, tenant_id, title) from '{}' csv header", file.display());
    let output = psql(&world, TENANT_A, &["-c", &command]);
    assert_eq!(text(&output.stdout), "COPY 1\n", "{}", text(&output.stderr));
    let output = psql(&world, TENANT_B, &["-c", &command]);
    assert!(text(&output.stderr).contains("HR1011"), "{}", text(&output.stderr));
    let command = "\\copy (select title from documents where id = 300) to stdout csv";
    assert_eq!(text(&psql(&world, TENANT_A, &["-c", command]).stdout), "\"a, b\"\n");
    world.finish();
}

#[test]
fn psql_is_shown_no_sizes() {
    let world = World::new();
    let size = regex::Regex::new(r"\d (bytes|kB|MB)").unwrap();
    for (command, wanted) in
        [("\\dt+", "users"), ("\\di+", "users_lower_idx"), ("\\l+", world.database.as_str())]
    {
        let output = psql(&world, TENANT_A, &["-c", command]);
        let shown = text(&output.stdout);
        assert!(output.status.success() && shown.contains(wanted), "{command}: {shown}");
        assert!(!size.is_match(&shown), "{command}: {shown}");
    }
    world.finish();
}

#[test]
fn psqls_commands_that_would_tell_of_others_are_denied() {
    let world = World::new();
    for command in ["\\d+ user_overview", "\\sf slugify", "\\sv user_overview"] {
        let output = psql(&world, TENANT_A, &["-c", command]);
        let stderr = text(&output.stderr);
        assert!(!output.status.success() && stderr.contains("hedgerow: "), "{command}: {stderr}");
    }
    world.finish();
}

fn python() -> PathBuf {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let venv = root.join(".venv/bin/python");
    let python = std::env::var_os("HEDGEROW_PYTHON").map_or(venv, PathBuf::from);
    assert!(
        python.is_file(),
        "the Python clients are not installed: `make python` makes .venv, or HEDGEROW_PYTHON names one"
    );
    python
}

/// Runs a client's program of `tests/clients`, which ends with 0 when all of it holds.
fn run_client(program: &Path, script: &str) {
    run_client_with(program, &[], script);
}

fn run_client_with(program: &Path, arguments: &[&str], script: &str) {
    for (pool_mode, max_connections) in [("session", 120), ("transaction", 4)] {
        let options = Options { pool_mode, max_connections, ..Options::new(POLICY) };
        run_client_in(&World::with(&options), program, arguments, script);
    }
}

fn run_client_in(world: &World, program: &Path, arguments: &[&str], script: &str) {
    let root = PathBuf::from(env!("CARGO_MANIFEST_DIR"));
    let mut command = Command::new(program);
    command
        .args(arguments)
        .arg(root.join("tests/clients").join(script))
        .env("HEDGEROW_PORT_A", world.hedgerow.for_a().port().to_string())
        .env("HEDGEROW_PORT_B", world.hedgerow.for_b().port().to_string())
        .env("HEDGEROW_PORT", world.hedgerow.address.port().to_string())
        .env("HEDGEROW_TOKEN_SERVICE", token::Token::hs256("").without("tenant_id").sign())
        .env("HEDGEROW_DATABASE", &world.database)
        .env("HEDGEROW_TOKEN_A", token::of(TENANT_A))
        .env("HEDGEROW_TOKEN_B", token::of(TENANT_B))
        .env("PYTHONDONTWRITEBYTECODE", "1");
    let output = process::run(&mut command, Duration::from_secs(120));
    assert!(output.status.success(), "{script}\n{}{}", text(&output.stdout), text(&output.stderr));
    world.hedgerow.finish();
}

#[test]
fn psycopg_works_as_an_application_uses_it() {
    run_client(&python(), "psycopg_client.py");
}

#[test]
fn libpq_18_works_by_protocol_3_2() {
    run_client(&python(), "libpq18_client.py");
}

#[test]
fn libpq_18_works_with_tls_from_the_first_byte() {
    let directory = tempfile::TempDir::new().unwrap();
    let file = |name: &str| directory.path().join(name).display().to_string();
    let subject = ["-subj", "/CN=localhost", "-addext", "subjectAltName=DNS:localhost"];
    process::succeed(
        Command::new("openssl")
            .args(["req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1"])
            .args(["-nodes", "-days", "2"])
            .args(subject)
            .args(["-keyout", &file("key.pem"), "-out", &file("cert.pem")]),
        Duration::from_secs(30),
    );
    let postgres_extra =
        format!("  tls: {{cert_file: {}, key_file: {}}}\n", file("cert.pem"), file("key.pem"));
    let world = World::with(&Options { postgres_extra, ..Options::new(POLICY) });
    let env = Path::new("env");
    let python = python().display().to_string();
    run_client_in(&world, env, &["HEDGEROW_TLS=1", &python], "libpq18_client.py");
}

#[test]
fn one_pool_of_a_service_serves_a_tenant_a_transaction() {
    run_client(&python(), "identities_client.py");
}

/// PostgreSQL's own benchmark, for what it finds in protocol: eight clients over two backends.
#[test]
fn pgbench_runs_over_few_backends_by_every_protocol() {
    let options = Options { pool_mode: "transaction", max_connections: 2, ..Options::new(POLICY) };
    let world = World::with(&options);
    let script = tempfile::NamedTempFile::new().unwrap();
    let text_of_script = "\\set id random(1, 3)\n\\set title random(1, 4000)\n\
        SELECT name FROM users WHERE id = :id;\nBEGIN;\n\
        UPDATE documents SET title = :title::text WHERE id = :id;\n\
        SELECT title FROM documents WHERE id = :id;\nEND;\n";
    std::fs::write(script.path(), text_of_script).unwrap();
    let bench = postgres::client_program("pgbench");
    for protocol in ["simple", "extended", "prepared"] {
        let mut command = Command::new(&bench);
        command
            .args(["-n", "-M", protocol, "-c", "8", "-j", "8", "-t", "40", "-f"])
            .arg(script.path())
            .args(["-h", "127.0.0.1", "-p", &world.hedgerow.for_a().port().to_string()])
            .args(["-U", "application", &world.database])
            .env("PGPASSWORD", token::of(TENANT_A));
        let output = process::run(&mut command, Duration::from_secs(120));
        let (out, err) = (text(&output.stdout), text(&output.stderr));
        assert!(output.status.success(), "{protocol}: {out}{err}");
        assert!(out.contains("actually processed: 320/320"), "{protocol}: {out}{err}");
    }
    world.finish();
}

#[test]
fn psycopg2_works_as_an_application_uses_it() {
    run_client(&python(), "psycopg2_client.py");
}

#[test]
fn asyncpg_works_as_an_application_uses_it() {
    run_client(&python(), "asyncpg_client.py");
}

#[test]
fn sqlalchemy_works_as_an_application_uses_it() {
    run_client(&python(), "sqlalchemy_client.py");
}

#[test]
fn django_works_as_an_application_uses_it() {
    run_client(&python(), "django_client.py");
}

/// Node.js is optional: without it, or without the clients that `make node` installs, the test says
/// that it is skipped.
fn run_node(script: &str) {
    let modules = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients/node_modules");
    let there = Command::new("node").arg("--version").output().is_ok_and(|o| o.status.success());
    if there && modules.is_dir() {
        run_client(Path::new("node"), script);
    } else {
        eprintln!("{script}: skipped, Node.js or its clients are not installed (`make node`)");
    }
}

#[test]
fn node_postgres_works_as_an_application_uses_it() {
    run_node("node_postgres_client.mjs");
}

#[test]
fn postgres_js_works_as_an_application_uses_it() {
    run_node("postgres_js_client.mjs");
}

#[test]
fn drizzle_works_as_an_application_uses_it() {
    run_node("drizzle_client.mjs");
}

/// The clients of `tests/clients/rust`, a workspace of its own; `scripts/test.sh` has built it before.
fn run_rust(client: &str) {
    let root = Path::new(env!("CARGO_MANIFEST_DIR"));
    let target = Path::new(env!("CARGO_TARGET_TMPDIR")).with_file_name("clients");
    process::succeed(
        Command::new(env!("CARGO"))
            .args(["build", "--locked", "--quiet", "--bin", client, "--manifest-path"])
            .arg(root.join("tests/clients/rust/Cargo.toml"))
            .arg("--target-dir")
            .arg(&target),
        Duration::from_secs(600),
    );
    run_client(Path::new("env"), &target.join("debug").join(client).display().to_string());
}

#[test]
fn sqlx_works_as_an_application_uses_it() {
    run_rust("sqlx_client");
}

#[test]
fn diesel_works_as_an_application_uses_it() {
    run_rust("diesel_client");
}

/// pgjdbc is optional: Debian's `libpostgresql-jdbc-java`, or a jar named by HEDGEROW_JDBC, and a
/// Java that compiles.
#[test]
fn pgjdbc_works_as_an_application_uses_it() {
    const DEBIANS: &str = "/usr/share/java/postgresql.jar";
    let jar = std::env::var("HEDGEROW_JDBC").unwrap_or_else(|_| DEBIANS.to_owned());
    let java = Command::new("javac").arg("--version").output().is_ok_and(|o| o.status.success());
    if java && Path::new(&jar).is_file() {
        run_client_with(Path::new("java"), &["-cp", &jar], "JdbcClient.java");
    } else {
        eprintln!("JdbcClient.java: skipped, a Java compiler or pgjdbc is not installed");
    }
}

#[tokio::test]
async fn tokio_postgres_works_as_an_application_uses_it() {
    let world = World::new();
    let mut config = tokio_postgres::Config::new();
    config
        .host("127.0.0.1")
        .port(world.hedgerow.for_a().port())
        .user("application")
        .password(token::of(TENANT_A))
        .dbname(&world.database)
        .connect_timeout(Duration::from_secs(10));
    let (mut client, connection) = config.connect(tokio_postgres::NoTls).await.expect("a session");
    let driver = tokio::spawn(connection);
    let rows = client
        .query("SELECT id, name FROM users WHERE id >= $1 ORDER BY id", &[&1_i32])
        .await
        .unwrap();
    let names: Vec<String> = rows.iter().map(|row| row.get("name")).collect();
    assert_eq!(names, ["Ann", "Art", "Ada"]);
    let statement = client.prepare("SELECT count(*) FROM users WHERE name = $1").await.unwrap();
    for name in ["Ann", "Bob"] {
        let count: i64 = client.query_one(&statement, &[&name]).await.unwrap().get(0);
        assert_eq!(count, i64::from(name == "Ann"));
    }
    let transaction = client.transaction().await.unwrap();
    transaction
        .execute("UPDATE documents SET title = $1 WHERE id = $2", &[&"t", &1_i32])
        .await
        .unwrap();
    let denied = transaction.query("SELECT * FROM vault", &[]).await.unwrap_err();
    assert_eq!(denied.code().map(tokio_postgres::error::SqlState::code), Some("42501"));
    let aborted = transaction.query("SELECT 1", &[]).await.unwrap_err();
    assert_eq!(aborted.code().map(tokio_postgres::error::SqlState::code), Some("25P02"));
    transaction.rollback().await.unwrap();
    let messages =
        client.simple_query("SELECT id FROM orders ORDER BY id; SELECT 1").await.unwrap();
    assert!(messages.len() >= 6, "{}", messages.len());
    let (first, second) = tokio::join!(
        client.query_one("SELECT 1::int", &[]),
        client.query_one("SELECT 2::int", &[])
    );
    assert_eq!((first.unwrap().get::<_, i32>(0), second.unwrap().get::<_, i32>(0)), (1, 2));
    drop(client);
    tokio::time::timeout(Duration::from_secs(10), driver).await.unwrap().unwrap().unwrap();
    world.finish();
}
