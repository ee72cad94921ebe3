//! The plan, its text, and its application to a real server.

use std::sync::Arc;

use super::render::{PlanError, Variables, literal, plan};
use super::{Target, admin_endpoint, run};
use crate::catalog::{Catalog, Column, Relation, RelationKind};
use crate::catalog_load::testing::Server;
use crate::catalog_load::{FindingKind, connect, load, posture};
use crate::claims::ClaimPath;
use crate::endpoint::TlsMode;
use crate::ids::RelationName;
use crate::policy::{
    Access, Mode, Policy, PolicyExpression, Protection, SourcePosition, TablePolicy, TenantType,
};

const VARIABLES: Variables<'static> = Variables { tenant: "app.current_tenant", claims: &[] };

fn relation(name: &str, columns: &[(&str, &str)], parents: &[&str]) -> (RelationName, Relation) {
    let columns = columns
        .iter()
        .map(|(name, type_name)| Column {
            name: (*name).to_owned(),
            type_schema: "pg_catalog".to_owned(),
            type_name: (*type_name).to_owned(),
            not_null: true,
            has_default: false,
            generated: false,
            ..Column::default()
        })
        .collect();
    let relation = Relation {
        schema: "public".to_owned(),
        name: name.to_owned(),
        oid: 0,
        kind: RelationKind::Table,
        columns,
        primary_key: Vec::new(),
        unique_keys: Vec::new(),
        foreign_keys: Vec::new(),
        parents: parents.iter().map(|name| ("public".to_owned(), (*name).to_owned())).collect(),
        rls_enabled: false,
        rls_forced: false,
        security_invoker: false,
        security_barrier: false,
        owner: "owner".to_owned(),
    };
    (relation.relation_name(), relation)
}

fn policy(entries: Vec<(&str, Protection, Access)>) -> Policy {
    let tables = entries.into_iter().map(|(name, protection, access)| {
        let rule = TablePolicy {
            protection,
            access,
            condition: None,
            columns: Default::default(),
            mode: Mode::Enforce,
            rule: Arc::from(format!("public.{name}")),
            at: SourcePosition { file: Arc::from("test.yaml"), line: 1, column: 1 },
        };
        (RelationName::new("public", name), Arc::new(rule))
    });
    Policy { tables: tables.collect(), ..Policy::default() }
}

fn tenant(column: &str, tenant_type: TenantType) -> Protection {
    Protection::Tenant { column: column.to_owned(), tenant_type }
}

fn through(column: &str, parent: &str) -> Protection {
    Protection::TenantThrough {
        column: column.to_owned(),
        parent: RelationName::new("public", parent),
        parent_column: "id".to_owned(),
    }
}

#[test]
fn the_script_is_stable_readable_and_quoted() {
    let catalog = Catalog {
        relations: [
            relation("accounts", &[("id", "int8"), ("tenant_id", "int4")], &[]),
            relation("resources", &[("id", "int8"), ("account_id", "int8")], &[]),
            relation("Odd \"Name\"", &[("Tenant", "uuid")], &[]),
            relation("odd_part", &[("Tenant", "uuid")], &["Odd \"Name\""]),
            relation("currencies", &[("code", "text")], &[]),
            relation("secrets", &[("x", "text")], &[]),
            relation("unnamed", &[("x", "text")], &[]),
        ]
        .into_iter()
        .collect(),
        ..Catalog::default()
    };
    let access = Access { update: false, delete: false, ..Access::ALL };
    let policy = policy(vec![
        ("accounts", tenant("tenant_id", TenantType::Int), Access::ALL),
        ("resources", through("account_id", "accounts"), access),
        ("Odd \"Name\"", tenant("Tenant", TenantType::Uuid), Access::READ),
        ("currencies", Protection::Shared, Access::READ),
        ("secrets", Protection::Deny, Access::ALL),
    ]);
    let script = plan(&catalog, &policy, VARIABLES, "App").unwrap().script();
    insta::assert_snapshot!(script);
}

#[test]
fn a_policy_that_does_not_fit_the_schema_is_an_error_each() {
    let catalog = Catalog {
        relations: [
            relation("a", &[("id", "int8"), ("b_id", "int8")], &[]),
            relation("b", &[("id", "int8"), ("a_id", "int8")], &[]),
            relation("c", &[("id", "int8")], &[]),
            relation("d", &[("id", "int8"), ("c_id", "int8")], &[]),
        ]
        .into_iter()
        .collect(),
        ..Catalog::default()
    };
    let policy = policy(vec![
        ("a", through("b_id", "b"), Access::ALL),
        ("b", through("a_id", "a"), Access::ALL),
        ("c", tenant("tenant_id", TenantType::Uuid), Access::ALL),
        ("d", through("c_id", "nowhere"), Access::ALL),
    ]);
    let errors = plan(&catalog, &policy, VARIABLES, "app").unwrap_err();
    let name = |name: &str| RelationName::new("public", name);
    assert_eq!(errors.len(), 4);
    assert!(matches!(errors[0], PlanError::Chain(_)) && matches!(errors[1], PlanError::Chain(_)));
    assert_eq!(errors[2], PlanError::NoColumn(name("c"), "tenant_id".to_owned()));
    assert_eq!(errors[3], PlanError::NoParent(name("d"), name("nowhere")));
}

#[test]
fn literals_cannot_be_left() {
    assert_eq!(literal("app.t"), "'app.t'");
    assert_eq!(literal("a'b"), "'a''b'");
    assert_eq!(literal("a\\'b"), "E'a\\\\''b'");
}

#[test]
fn an_administrators_url_never_falls_back_to_clear_text() {
    let (endpoint, database) = admin_endpoint(
        "postgres://boss:s%40cret@db.example.com:6000/orders?sslmode=verify-ca&sslrootcert=/ca",
    )
    .unwrap();
    assert_eq!((endpoint.host.as_str(), endpoint.port), ("db.example.com", 6000));
    assert_eq!((endpoint.user.as_str(), database.as_deref()), ("boss", Some("orders")));
    assert_eq!(endpoint.password.unwrap().expose(), "s@cret");
    assert_eq!(endpoint.tls, TlsMode::VerifyCa);
    assert_eq!(
        admin_endpoint("postgres://boss@db.example.com").unwrap().0.tls,
        TlsMode::VerifyFull
    );
    assert_eq!(admin_endpoint("postgres://boss@localhost").unwrap().0.tls, TlsMode::Disable);
    for bad in
        ["", "postgres://boss@h?sslmode=prefer", "postgres://h", "postgres://a@h,i", "x:s3cret"]
    {
        let error = admin_endpoint(bad).unwrap_err().to_string();
        assert!(!error.contains("s3cret"), "{bad}");
    }
}

const SCHEMA: &str = "
    CREATE TABLE accounts (id serial PRIMARY KEY, tenant_id uuid NOT NULL);
    CREATE TABLE resources (id int, account_id int);
    CREATE TABLE currencies (code text);
    CREATE TABLE daily (tenant_id uuid, day date) PARTITION BY RANGE (day);
    CREATE TABLE daily_1 PARTITION OF daily FOR VALUES FROM ('2026-01-01') TO ('2026-02-01');
    INSERT INTO accounts (tenant_id) VALUES
      ('11111111-1111-1111-1111-111111111111'), ('22222222-2222-2222-2222-222222222222');
    INSERT INTO resources VALUES (10, 1), (11, 1), (20, 2);";

#[tokio::test]
async fn applying_makes_it_so_and_applying_again_changes_nothing() {
    let Some(server) = Server::start() else { return };
    let admin = server.endpoint("owner");
    let owner = connect(&admin, "postgres").await.unwrap();
    owner.client.batch_execute(SCHEMA).await.unwrap();
    let target = Target {
        upstream: server.endpoint("app"),
        database: "postgres".to_owned(),
        policy: Arc::new(policy(vec![
            ("accounts", tenant("tenant_id", TenantType::Uuid), Access::ALL),
            ("resources", through("account_id", "accounts"), Access::ALL),
            ("daily", tenant("tenant_id", TenantType::Uuid), Access::READ),
            ("currencies", Protection::Shared, Access::READ),
        ])),
        setting: "app.current_tenant".to_owned(),
        variables: Vec::new(),
    };
    let first = run(&target, Some(&admin), true).await.unwrap();
    assert!(first.contains("policy hedgerow_tenant made"), "{first}");
    let again = run(&target, Some(&admin), true).await.unwrap();
    assert!(again.starts_with("nothing to change"), "{again}");

    let app = connect(&target.upstream, "postgres").await.unwrap();
    app.client
        .batch_execute("SET app.current_tenant = '11111111-1111-1111-1111-111111111111'")
        .await
        .unwrap();
    let count = async |text: &str| app.client.query_typed(text, &[]).await.unwrap().len();
    assert_eq!(count("SELECT FROM accounts").await, 1);
    assert_eq!(count("SELECT FROM resources").await, 2);
    let foreign =
        "INSERT INTO accounts (tenant_id) VALUES ('22222222-2222-2222-2222-222222222222')";
    assert!(app.client.batch_execute(foreign).await.is_err());
    assert!(app.client.batch_execute("INSERT INTO currencies VALUES ('x')").await.is_err());
    assert!(app.client.batch_execute("INSERT INTO daily VALUES (NULL, NULL)").await.is_err());
    assert!(app.client.batch_execute("RESET app.current_tenant").await.is_ok());
    assert_eq!(count("SELECT FROM accounts").await, 0, "without a tenant there is no row");

    // The posture report agrees.
    let catalog = load(&target.upstream, "postgres").await.unwrap();
    let findings = posture(&catalog, &target.policy);
    assert!(!findings.iter().any(|finding| finding.kind.breaks_rls()), "{findings:?}");
    assert!(!findings.iter().any(|finding| finding.kind == FindingKind::NoPolicy));

    // Every kind of drift is put right, once.
    for drift in [
        "ALTER POLICY hedgerow_tenant ON accounts USING (true)",
        "DROP POLICY hedgerow_tenant ON resources",
        "ALTER TABLE daily_1 NO FORCE ROW LEVEL SECURITY",
        "ALTER TABLE accounts DISABLE ROW LEVEL SECURITY",
        "GRANT INSERT ON currencies TO app",
        "REVOKE SELECT ON resources FROM app",
        "REVOKE USAGE ON SEQUENCE accounts_id_seq FROM app",
    ] {
        owner.client.batch_execute(drift).await.unwrap();
        assert!(
            run(&target, Some(&admin), true).await.unwrap().contains("1 change made"),
            "{drift}"
        );
        let again = run(&target, Some(&admin), true).await.unwrap();
        assert!(again.starts_with("nothing to change"), "{drift}: {again}");
    }
    owner.client.batch_execute("CREATE POLICY wide ON accounts USING (true)").await.unwrap();
    assert!(run(&target, Some(&admin), true).await.unwrap().contains("warning  public.accounts"));

    // The printed script leads to the same state, as often as it is run, and an ordinary role
    // cannot apply.
    let script = run(&target, Some(&admin), false).await.unwrap();
    owner.client.batch_execute(&script).await.unwrap();
    owner.client.batch_execute(&script).await.unwrap();
    owner.client.batch_execute("DROP POLICY wide ON accounts").await.unwrap();
    assert!(run(&target, None, true).await.is_err());
}

#[tokio::test]
async fn a_row_rule_holds_beneath_as_it_does_above() {
    let Some(server) = Server::start() else { return };
    let admin = server.endpoint("owner");
    let owner = connect(&admin, "postgres").await.unwrap();
    let schema = "
        CREATE TABLE accounts (id int, tenant_id text, region text, level int, divisor int);
        CREATE TABLE resources (id int, account_id int);
        CREATE TABLE prices (id int, region text);
        INSERT INTO accounts VALUES (1, 'a', 'eu', 1, 1), (2, 'a', 'us', 1, 1), (3, 'a', 'eu', 9, 1),
          (4, 'b', 'eu', 1, 0), (5, 'a', 'eu', NULL, 1);
        INSERT INTO resources VALUES (10, 1), (20, 2), (40, 4);
        INSERT INTO prices VALUES (1, 'eu'), (2, 'us');";
    owner.client.batch_execute(schema).await.unwrap();
    let mut policy = policy(vec![
        ("accounts", tenant("tenant_id", TenantType::Text), Access::ALL),
        ("resources", through("account_id", "accounts"), Access::ALL),
        ("prices", Protection::Shared, Access::READ),
    ]);
    let mut rule = |table: &str, text: &str| {
        let name = RelationName::new("public", table);
        let mut own = TablePolicy::clone(&policy.tables[&name]);
        let at = own.at.clone();
        own.condition = Some(PolicyExpression { text: text.to_owned(), at });
        policy.tables.insert(name, Arc::new(own));
    };
    // A row of another tenant's would divide by zero.
    rule("accounts", "region = claim('region') AND claim('level') >= level AND 1 / divisor = 1");
    rule("prices", "region = claim('region')");
    let path = |text| ClaimPath::parse(text).unwrap();
    let mut target = Target {
        upstream: server.endpoint("app"),
        database: "postgres".to_owned(),
        policy: Arc::new(policy),
        setting: "app.tenant".to_owned(),
        variables: vec![
            ("app.tenant".to_owned(), path("tenant_id")),
            ("app.region".to_owned(), path("region")),
            ("app.level".to_owned(), path("level")),
        ],
    };
    run(&target, Some(&admin), true).await.unwrap();
    let again = run(&target, Some(&admin), true).await.unwrap();
    assert!(again.starts_with("nothing to change"), "{again}");
    let app = connect(&target.upstream, "postgres").await.unwrap();
    let ids = async |text: &str| -> Vec<i32> {
        let rows = app.client.query_typed(text, &[]).await.unwrap();
        rows.iter().map(|row| row.get(0)).collect()
    };
    let claims = "SET app.tenant = 'a'; SET app.region = 'eu'; SET app.level = '3'";
    app.client.batch_execute(claims).await.unwrap();
    assert_eq!(ids("SELECT id FROM accounts ORDER BY id").await, [1]);
    assert_eq!(ids("SELECT id FROM resources ORDER BY id").await, [10]);
    assert_eq!(ids("SELECT id FROM prices ORDER BY id").await, [1]);
    for (row, fits) in [("6, 'a', 'eu', 2, 1", true), ("7, 'a', 'us', 2, 1", false)] {
        let insert = format!("INSERT INTO accounts VALUES ({row})");
        assert_eq!(app.client.batch_execute(&insert).await.is_ok(), fits, "{row}");
    }
    // Without the claim there is nothing.
    app.client.batch_execute("SET app.region = ''").await.unwrap();
    assert_eq!(ids("SELECT id FROM accounts").await, [0; 0]);
    // A claim that nothing carries: the tenant holds, and the script says what does not.
    target.variables.truncate(2);
    let script = run(&target, Some(&admin), false).await.unwrap();
    assert!(script.contains("no session variable carries level"), "{script}");
    assert!(script.contains("-- public.prices: shared: every tenant reads, with its `where`"));
}
