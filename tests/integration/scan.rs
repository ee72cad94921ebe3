//! `hedgerow scan`: every weakness that it names is made on a real server, found, put right by the
//! statement that it gives, and found no more; and a database without a policy gets one that holds.

use std::collections::BTreeSet;
use std::path::Path;
use std::sync::{Mutex, PoisonError};

use serde_json::Value;

use crate::support::fixture::{self, World};
use crate::support::hedgerow::{self, Options};
use crate::support::postgres::{APP_USER, SUPERUSER, server};
use crate::support::{TENANT_A, TENANT_B, process};

/// A schema in which each kind of weakness stands once.
const WEAK: &str = "
CREATE EXTENSION btree_gist; CREATE EXTENSION dblink; CREATE EXTENSION pageinspect;
CREATE TABLE tenants (id uuid PRIMARY KEY);
CREATE TABLE rooms (id bigint GENERATED ALWAYS AS IDENTITY PRIMARY KEY, tenant_id uuid NOT NULL REFERENCES tenants);
CREATE SEQUENCE numbers;
CREATE TABLE bookings (
  id bigint DEFAULT nextval('numbers') PRIMARY KEY, tenant_id uuid,
  code text CONSTRAINT code_once UNIQUE, room bigint CONSTRAINT in_room REFERENCES rooms (id),
  during tstzrange, CONSTRAINT one_at_a_time EXCLUDE USING gist (room WITH =, during WITH &&));
CREATE UNIQUE INDEX lower_code ON bookings (lower(code));
CREATE UNIQUE INDEX lower_code_of_tenant ON bookings (tenant_id, lower(code));
CREATE TABLE invoices (id bigint DEFAULT nextval('numbers') PRIMARY KEY, tenant_id text NOT NULL);
CREATE TABLE history (at timestamptz, what text);
CREATE TABLE forgotten (id int);
CREATE TABLE parts (id int) PARTITION BY RANGE (id);
CREATE TABLE parts_1 PARTITION OF parts FOR VALUES FROM (0) TO (9);
CREATE FUNCTION remember() RETURNS trigger LANGUAGE plpgsql SECURITY DEFINER AS
  $$ BEGIN INSERT INTO history VALUES (now(), NEW.code); RETURN NEW; END $$;
CREATE FUNCTION stamp() RETURNS trigger LANGUAGE plpgsql AS $$ BEGIN NEW.code := 'UPDATE'; RETURN NEW; END $$;
CREATE TRIGGER remembers BEFORE INSERT ON bookings FOR EACH ROW EXECUTE FUNCTION remember();
CREATE TRIGGER stamps BEFORE INSERT ON bookings FOR EACH ROW EXECUTE FUNCTION stamp();
CREATE RULE quietly AS ON DELETE TO rooms DO INSTEAD NOTHING;
CREATE VIEW every_booking AS SELECT * FROM bookings;
CREATE MATERIALIZED VIEW kept_bookings AS SELECT * FROM bookings;
ALTER TABLE rooms ENABLE ROW LEVEL SECURITY;
CREATE POLICY open_to_all ON rooms USING (true);
GRANT SELECT ON bookings TO PUBLIC; GRANT UPDATE (tenant_id) ON rooms TO PUBLIC;
GRANT CREATE ON SCHEMA public TO PUBLIC;
GRANT USAGE ON SEQUENCE numbers TO PUBLIC;
ALTER DEFAULT PRIVILEGES GRANT SELECT ON TABLES TO PUBLIC;
CREATE FUNCTION notice() RETURNS event_trigger LANGUAGE plpgsql AS $$ BEGIN END $$;
CREATE EVENT TRIGGER watcher ON ddl_command_end EXECUTE FUNCTION notice();
CREATE PUBLICATION carried FOR TABLE bookings;
";

const POLICY: &str = "
engine: postgres
tenant: {column: tenant_id, type: uuid}
tables:
  public.tenants: {tenant: id}
  public.rooms: {tenant: tenant_id, columns: {colour: deny}}
  public.bookings: {tenant: tenant_id}
  public.invoices: {tenant: tenant_id}
  public.history: deny
  public.every_booking: shared
  public.kept_bookings: shared
  public.gone: deny
functions: {allow: [public.remember]}
";

/// Roles belong to the whole server: who makes some and who counts them take turns.
static ROLES: Mutex<()> = Mutex::new(());

/// `hedgerow scan` on `database`, in JSON: its exit code and its report.
fn scan(directory: &Path, database: &str, more: &[&str]) -> (Option<i32>, Value) {
    let mut arguments =
        vec!["scan", "--config", "hedgerow.yaml", "--format", "json", "--database", database];
    arguments.extend(more);
    let output = hedgerow::command(&arguments, directory);
    let text = String::from_utf8(output.stdout).unwrap();
    let report = serde_json::from_str(&text).unwrap_or_else(|error| {
        panic!("{error}: {text}{}", String::from_utf8_lossy(&output.stderr))
    });
    (output.status.code(), report)
}

/// Kind, object and severity of each finding.
fn named(report: &Value) -> BTreeSet<(String, String, String)> {
    let text = |finding: &Value, key: &str| finding[key].as_str().unwrap().to_owned();
    let findings = report["findings"].as_array().unwrap().iter();
    findings.map(|f| (text(f, "kind"), text(f, "object"), text(f, "severity"))).collect()
}

fn directory_with(policy: &str) -> tempfile::TempDir {
    let directory = tempfile::tempdir().unwrap();
    let (listen, admin) = (process::free_address(), process::free_address());
    hedgerow::write_configuration(directory.path(), &Options::new(policy), listen, admin);
    directory
}

#[test]
fn each_weakness_is_found_once_with_how_bad_it_is_why_and_what_to_do() {
    let _alone = ROLES.lock().unwrap_or_else(PoisonError::into_inner);
    let database = server().clone_of("template1");
    server().run(&database, WEAK);
    let directory = directory_with(POLICY);
    let (code, report) = scan(directory.path(), &database, &[]);
    assert_eq!(code, Some(1));
    let found = named(&report);
    let expected = [
        ("column-missing", "public.rooms.colour", "medium"),
        ("default-privileges", "postgres", "medium"),
        ("event-trigger", "watcher", "low"),
        ("exclusion-across-tenants", "public.bookings", "medium"),
        ("extension-reach", "dblink", "medium"),
        ("extension-reach", "pageinspect", "medium"),
        ("foreign-key-across-tenants", "public.bookings", "medium"),
        ("no-policy", "public.forgotten", "low"),
        ("no-policy", "public.parts", "low"),
        ("public-grant", "public.bookings", "high"),
        ("public-grant", "public.numbers", "low"),
        ("public-grant", "public.rooms", "high"),
        ("publication", "carried", "medium"),
        ("rls-missing", "public.bookings", "medium"),
        ("rls-missing", "public.invoices", "medium"),
        ("rls-missing", "public.tenants", "medium"),
        ("rls-not-forced", "public.rooms", "medium"),
        ("rls-open", "public.rooms", "high"),
        ("rule-rewrites", "public.rooms", "medium"),
        ("schema-create", "public", "medium"),
        ("security-definer", "public.dblink_connect_u", "medium"),
        ("security-definer", "public.remember", "high"),
        ("sequence-shared", "public.numbers", "low"),
        ("table-missing", "public.gone", "low"),
        ("tenant-nullable", "public.bookings.tenant_id", "medium"),
        ("tenant-type", "public.invoices.tenant_id", "medium"),
        ("trigger-writes", "remembers on public.bookings", "high"),
        ("unique-across-tenants", "public.bookings", "medium"),
        ("view-hides-table", "public.every_booking", "high"),
        ("view-hides-table", "public.kept_bookings", "high"),
    ];
    let expected: BTreeSet<_> = expected
        .iter()
        .map(|(kind, object, severity)| ((*kind).into(), (*object).into(), (*severity).into()))
        .collect();
    assert_eq!(found, expected);
    let findings = report["findings"].as_array().unwrap();
    assert!(findings.iter().all(|f| f["why"].as_str().is_some_and(|why| why.len() > 20)));
    assert!(findings.iter().all(|f| f["fix"].as_str().is_some_and(|fix| fix.len() > 10)));
    // The index that holds the tenant is no finding: two of the three are left.
    let unique = findings.iter().filter(|f| f["kind"] == "unique-across-tenants");
    assert_eq!(unique.count(), 2);
    let order: Vec<_> = findings.iter().map(|f| f["severity"].as_str().unwrap()).collect();
    let rank = |name: &&str| ["critical", "high", "medium", "low"].iter().position(|s| s == name);
    assert!(order.is_sorted_by_key(rank), "the worst come first: {order:?}");

    let text = hedgerow::command(
        &["scan", "--config", "hedgerow.yaml", "--database", &database],
        directory.path(),
    );
    let text = String::from_utf8(text.stdout).unwrap();
    assert!(text.contains("high      public-grant  public.bookings\n    why  everybody"), "{text}");
    assert!(text.contains("fix  REVOKE ALL ON TABLE public.bookings FROM PUBLIC;"), "{text}");
    assert!(text.trim_end().ends_with("7 high, 18 medium, 6 low"), "{text}");
    server().drop_database(&database);
}

#[test]
fn the_statements_that_findings_give_put_them_right_and_then_the_scan_is_clean() {
    let _alone = ROLES.lock().unwrap_or_else(PoisonError::into_inner);
    let database = server().clone_of("template1");
    server().run(&database, WEAK);
    let policy =
        POLICY.replace(", columns: {colour: deny}", "").replace("  public.gone: deny\n", "");
    let policy = policy
        .replace("shared", "deny")
        .replace(
            "public.invoices: {tenant: tenant_id}",
            "public.invoices: {tenant: {column: tenant_id, type: text}}",
        )
        .replace("functions: {allow: [public.remember]}", "")
        + "  public.forgotten: deny\n  public.parts: deny\n";
    let directory = directory_with(&policy);
    let (_, report) = scan(directory.path(), &database, &[]);
    // What SQL mends at once; the others ask for a decision.
    let by_statement = [
        "default-privileges",
        "public-grant",
        "rls-open",
        "schema-create",
        "foreign-key-across-tenants",
        "tenant-nullable",
    ];
    for finding in report["findings"].as_array().unwrap() {
        let kind = finding["kind"].as_str().unwrap();
        let fix = finding["fix"].as_str().unwrap();
        let plain = kind == "unique-across-tenants" && fix.contains("DROP CONSTRAINT");
        if by_statement.contains(&kind) || plain {
            let lines = fix.lines().filter(|line| line.ends_with(';')).map(str::to_owned);
            let sql: String = lines.collect::<Vec<_>>().join("\n");
            server().run(&database, &sql.replace("FOR ROLE postgres", ""));
        }
    }
    server().run(
        &database,
        "ALTER TABLE bookings DROP CONSTRAINT one_at_a_time,
           ADD EXCLUDE USING gist (tenant_id WITH =, room WITH =, during WITH &&);
         DROP INDEX lower_code; DROP RULE quietly ON rooms; DROP EVENT TRIGGER watcher;
         DROP EXTENSION dblink; DROP EXTENSION pageinspect;
         ALTER FUNCTION remember() SECURITY INVOKER; DROP TRIGGER remembers ON bookings;
         ALTER TABLE invoices ALTER id SET DEFAULT 7; ALTER SEQUENCE numbers OWNED BY bookings.id;",
    );
    let socket = server().socket_directory().display().to_string().replace('/', "%2F");
    let address = format!("postgres://{SUPERUSER}@{socket}:{}/{database}", server().port);
    let made = hedgerow::command(
        &["rls", "--config", "hedgerow.yaml", "--apply", "--admin-url", &address],
        directory.path(),
    );
    assert!(made.status.success(), "{}", String::from_utf8_lossy(&made.stderr));
    let (code, report) = scan(directory.path(), &database, &[]);
    assert_eq!(
        named(&report),
        BTreeSet::from([("publication".into(), "carried".into(), "medium".into())])
    );
    assert_eq!(code, Some(1));
    let (code, report) = scan(directory.path(), &database, &["--accept", "publication:carried"]);
    assert_eq!((code, report["clean"].as_bool()), (Some(0), Some(true)), "{report}");
    assert_eq!(report["accepted"].as_array().unwrap().len(), 1);
    let (code, _) = scan(directory.path(), &database, &["--accept", "publication:other"]);
    assert_eq!(code, Some(1));
    server().drop_database(&database);
}

#[test]
fn roles_that_nothing_binds_are_findings_and_the_servers_own_superuser_is_none() {
    let _alone = ROLES.lock().unwrap_or_else(PoisonError::into_inner);
    let database = fixture::database_of_both();
    server().run(
        &database,
        &format!(
            "CREATE ROLE scan_reporter LOGIN BYPASSRLS; CREATE ROLE scan_boss SUPERUSER; \
             GRANT pg_read_all_data TO {APP_USER}"
        ),
    );
    let directory = directory_with(fixture::POLICY);
    let (_, report) = scan(directory.path(), &database, &[]);
    server().run(
        &database,
        &format!(
            "DROP ROLE scan_reporter; DROP ROLE scan_boss; REVOKE pg_read_all_data FROM {APP_USER}"
        ),
    );
    let found = named(&report);
    let has = |kind: &str, object: &str, severity: &str| {
        found.contains(&(kind.into(), object.into(), severity.into()))
    };
    assert!(has("role-bypassrls", "scan_reporter", "medium"), "{found:?}");
    assert!(has("role-superuser", "scan_boss", "low"));
    assert!(has("role-powers", APP_USER, "high"));
    assert!(!found.iter().any(|(_, object, _)| object == "postgres"));
}

#[test]
fn a_database_without_any_policy_gets_a_draft_that_check_accepts_and_that_holds() {
    let database = fixture::database_of_both();
    let directory = directory_with("");
    std::fs::remove_dir_all(directory.path().join("policies")).unwrap();
    let run = |arguments: &[&str]| hedgerow::command(arguments, directory.path());
    // Without a policy nothing is served; a scan is where it begins.
    assert_eq!(run(&["check", "--config", "hedgerow.yaml"]).status.code(), Some(2));
    let mine = std::fs::read(directory.path().join("hedgerow.yaml")).unwrap();
    let over =
        ["scan", "--config", "hedgerow.yaml", "--database", &database, "--write", "hedgerow.yaml"];
    assert_eq!(run(&over).status.code(), Some(2), "a file that exists is never written over");
    assert_eq!(std::fs::read(directory.path().join("hedgerow.yaml")).unwrap(), mine);
    let draft = ["--write", "policies/draft.yaml"];
    let (code, report) = scan(directory.path(), &database, &draft);
    assert_eq!(code, Some(1));
    assert!(named(&report).iter().any(|(kind, ..)| kind == "no-policy"));
    let check = run(&["check", "--config", "hedgerow.yaml"]);
    assert!(check.status.success(), "{}", String::from_utf8_lossy(&check.stderr));
    let (_, report) = scan(directory.path(), &database, &[]);
    assert!(!named(&report).iter().any(|(kind, ..)| kind == "no-policy"));

    let text = std::fs::read_to_string(directory.path().join("policies/draft.yaml")).unwrap();
    assert!(text.contains("public.users: {tenant: tenant_id}"), "{text}");
    assert!(text.contains("public.currencies: deny   #"), "{text}");
    let world = World { hedgerow: hedgerow::Hedgerow::start(&Options::new(&text)), database };
    for (mut client, tenant) in [(world.a(), TENANT_A), (world.b(), TENANT_B)] {
        let outcome = client.query("SELECT DISTINCT tenant_id FROM users");
        assert_eq!(outcome.lines(), [tenant]);
        assert!(!client.query("SELECT * FROM order_items").denied(), "through its order");
        assert!(client.query("SELECT * FROM currencies").denied());
        client.terminate();
    }
    world.finish();
}

#[test]
fn what_a_scan_cannot_do_it_says_and_ends_with_2() {
    let directory = directory_with(POLICY);
    let run = |arguments: &[&str]| {
        let output = hedgerow::command(arguments, directory.path());
        (output.status.code(), String::from_utf8(output.stderr).unwrap())
    };
    let (code, error) = run(&["scan", "--config", "hedgerow.yaml"]);
    assert_eq!(code, Some(2));
    assert!(error.contains("--database"), "{error}");
    let (code, error) =
        run(&["scan", "--config", "hedgerow.yaml", "--database", "no_such_database"]);
    assert_eq!(code, Some(2));
    assert!(error.contains("no_such_database"), "{error}");
    let (code, error) = run(&["scan", "--config", "hedgerow.yaml", "--accept", "rls"]);
    assert_eq!(code, Some(2));
    assert!(error.contains("rls-missing"), "{error}");
}
