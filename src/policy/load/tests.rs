//! Golden messages and meanings of policy files.

use insta::assert_snapshot;
use proptest::prelude::*;

use super::*;

fn compiled(text: &str) -> Policies {
    compile(&[("policies/a.yaml", text)], PolicyEpoch(7)).unwrap_or_else(|faults| {
        panic!("{}", faults.iter().map(|f| format!("{f}\n")).collect::<String>())
    })
}

fn faults(text: &str) -> String {
    faults_of(&[("a.yaml", text)])
}

fn faults_of(files: &[(&str, &str)]) -> String {
    let faults = compile(files, PolicyEpoch(1)).expect_err("the files have faults");
    faults.iter().map(ToString::to_string).collect::<Vec<_>>().join("\n")
}

const CONTRACT: &str = r#"
engine: postgres
mode: enforce
tenant: {column: tenant_id, type: uuid}
tables:
  public.tenants:        {tenant: id}
  public.users:
    tenant: tenant_id
    columns:
      email:         {mask: "left(email, 1) || '***'", unless: {claim: role, in: [admin]}}
      password_hash: deny
  public.resources:      {tenant_through: {account_id: public.cloud_accounts.id}}
  public.cloud_accounts: {access: [select]}
  public.orders:         {tenant: tenant_id, access: [select, insert, update], where: "region = claim('region')"}
  public.currencies:     shared
  "metrics.*":           {tenant: tenant_id}
  "*.*":                 deny
  "metrics.cost_*":      {tenant: {column: org, type: text}, mode: monitor}
  public.secrets:        deny
  'public."Customers"':  {tenant: '"tenantId"'}
functions: {allow: [public.slugify, upper_case]}
ddl: {claim: role, in: [migrator]}
break_glass: {claim: role, in: [dba], max_lifetime: 1h}
quotas:
  - {statements_per_second: 200, burst: 400, concurrent: 20}
  - {tenant: free-*, statements_per_second: 10}
"#;

#[test]
fn every_shape_of_the_contract_is_compiled() {
    let policy = compiled(CONTRACT).postgres;
    assert_eq!(policy.epoch, PolicyEpoch(7));
    let table = |schema: &str, name: &str| policy.table(&RelationName::new(schema, name)).unwrap();
    let tenant =
        |column: &str, tenant_type| Protection::Tenant { column: column.into(), tenant_type };
    assert_eq!(table("public", "tenants").protection, tenant("id", TenantType::Uuid));
    assert_eq!(table("public", "tenants").at.to_string(), "policies/a.yaml:6:3");
    let users = table("public", "users");
    assert_eq!(users.access, Access::ALL);
    assert_eq!(users.columns["password_hash"], ColumnRule::Deny);
    let ColumnRule::Mask { expression, unless: Some(unless) } = &users.columns["email"] else {
        panic!("{users:?}")
    };
    assert_eq!(expression.text, "left(email, 1) || '***'");
    assert_eq!(expression.at.to_string(), "policies/a.yaml:10:29");
    assert_eq!(unless.accepted, ["admin".to_owned()].into());
    assert_eq!(
        table("public", "resources").protection,
        Protection::TenantThrough {
            column: "account_id".into(),
            parent: RelationName::new("public", "cloud_accounts"),
            parent_column: "id".into(),
        }
    );
    let accounts = table("public", "cloud_accounts");
    assert_eq!(accounts.protection, tenant("tenant_id", TenantType::Uuid));
    assert_eq!(accounts.access, Access::READ);
    let orders = table("public", "orders");
    assert!(!orders.access.delete && orders.access.update);
    assert_eq!(orders.condition.as_ref().unwrap().text, "region = claim('region')");
    assert_eq!(table("public", "currencies").protection, Protection::Shared);
    assert_eq!(table("public", "secrets").protection, Protection::Deny);
    assert_eq!(table("public", "Customers").protection, tenant("tenantId", TenantType::Uuid));
    assert_eq!(&*table("metrics", "daily").rule, "metrics.*");
    assert_eq!(table("metrics", "cost_daily").protection, tenant("org", TenantType::Text));
    assert_eq!(table("metrics", "cost_daily").mode, Mode::Monitor);
    assert_eq!(&*table("public", "customers").rule, "*.*");
    assert!(policy.table(&RelationName::new("pg_catalog", "pg_stats")).is_none());
    assert!(policy.functions.contains(&("public".into(), "upper_case".into())));
    assert_eq!(policy.break_glass.as_ref().unwrap().max_lifetime_seconds, 3_600);
    assert_eq!(policy.quotas.len(), 2);
    assert_eq!(policy.quotas[1].tenant.as_deref(), Some("free-*"));
    assert_eq!(policy.expressions().count(), 2);
}

#[test]
fn all_faults_are_reported_at_once_with_their_places() {
    assert_snapshot!(faults(r#"
engine: postgres
mod: enforce
tenant: {column: tenant_id, type: guid}
tables:
  public.users: {tenat: id}
  public.a: share
  public.b: tenant_id
  public.c: 7
  public.d: {access: [select, read, select]}
  Public.e: shared
  public.f: {tenant: id, tenant_through: {x: public.b.id}}
  public.g: {columns: {email: hide, x: {mask: ""}, Y: deny, z: {mask: "1", unless: {claim: a..b, in: []}}}}
  public.a: deny
ddl: {claim: role}
break_glass: {claim: role, in: [dba], max_lifetime: 1}
quotas: [{burst: 3, statements_per_second: -1}, {tenant: x}]
functions: {allow: ["public.*"]}
"#), @r#"
a.yaml:3:1: the file has no key `mod`; did you mean `mode`?
a.yaml:4:35: `tenant.type` must be `uuid`, `text` or `int`, not `guid`
a.yaml:6:18: `tables.public.users` has no key `tenat`; did you mean `tenant`?
a.yaml:7:13: `tables.public.a` must be `shared`, `deny` or a map such as `{tenant: tenant_id}`, not `share`
a.yaml:8:13: `tables.public.b` must be `shared`, `deny` or a map such as `{tenant: tenant_id}`, not `tenant_id`
a.yaml:9:13: `tables.public.c` must be `shared`, `deny` or a map such as `{tenant: tenant_id}`, not the number 7
a.yaml:10:31: `tables.public.d.access[1]` must be `select`, `insert`, `update` or `delete`, not `read`
a.yaml:11:3: `Public.e`: write '"Public"' in double quotes if the name has capital letters, else `public`
a.yaml:12:42: `public.f`: either `tenant` or `tenant_through`, not both
a.yaml:13:31: `tables.public.g.columns.email` must be `deny`, or `{mask: "SQL expression", unless: …}`, not `hide`
a.yaml:13:47: `tables.public.g.columns.x.mask` must be text that is not empty, not empty text
a.yaml:13:92: `tables.public.g.columns.z.unless.claim` must be a claim path such as `tenant_id`, `org.id` or `"https://example.com/claims".tenant`, not `a..b`
a.yaml:14:3: `public.a` is given twice; first at a.yaml:7:3
a.yaml:15:6: `ddl` lacks the key `in`
a.yaml:16:53: `break_glass.max_lifetime` must be a duration with its unit, such as `30s` or `5m`, not the number 1
a.yaml:17:10: a quota needs `statements_per_second` or `concurrent`
a.yaml:17:44: `quotas[0].statements_per_second` must be a number greater than 0, not the number -1
a.yaml:17:49: a quota needs `statements_per_second` or `concurrent`
a.yaml:18:21: `public.*`: functions are allowed one by one, without `*`
"#);
}

#[test]
fn of_postgresqls_own_functions_a_policy_opens_a_short_list_and_no_other() {
    let open = "functions: {allow: [pg_catalog.pg_sleep, pg_catalog.pg_sleep_for]}\n";
    let policy = compiled(open).postgres;
    assert!(policy.functions.contains(&("pg_catalog".into(), "pg_sleep".into())));
    assert_snapshot!(faults("functions: {allow: [pg_catalog.pg_read_file, pg_catalog.upper]}\n"), @r#"
a.yaml:1:21: `pg_catalog.pg_read_file`: of PostgreSQL's own functions a policy opens only pg_sleep, pg_sleep_for, pg_sleep_until; the others are open or closed by what they can do (docs/functions.md)
a.yaml:1:46: `pg_catalog.upper`: of PostgreSQL's own functions a policy opens only pg_sleep, pg_sleep_for, pg_sleep_until; the others are open or closed by what they can do (docs/functions.md)
"#);
}

#[test]
fn a_table_needs_a_tenant_and_a_type() {
    assert_snapshot!(faults(r#"
tables:
  a: {access: [select]}
  b: {tenant: org}
  c: {tenant: {column: org}}
  d: {tenant: {column: org, type: int}, access: []}
  e: {tenant_through: {x: a.id, y: b.id}}
"#), @r#"
a.yaml:3:3: `a` needs `tenant` or `tenant_through`, as the file has no default `tenant`
a.yaml:4:15: the type of `org` is not known: write `{column: …, type: uuid | text | int}` here, or give the file a default `tenant`
a.yaml:5:24: the type of `org` is not known: write `{column: …, type: uuid | text | int}` here, or give the file a default `tenant`
a.yaml:6:49: `access` is empty: write `deny` for a table that nobody uses
a.yaml:7:23: `tenant_through` must name exactly one column: `{account_id: public.accounts.id}`
"#);
}

#[test]
fn two_entries_for_one_name_are_an_error_naming_both_places() {
    assert_snapshot!(faults_of(&[
        ("a.yaml", "tables: {users: shared, '\"x\".*': deny}\nddl: {claim: r, in: [a]}\n"),
        ("b.yaml", "tables: {public.users: deny, x.*: shared}\nddl: {claim: r, in: [a]}\n"),
    ]), @r#"
b.yaml:1:10: `public.users` has two entries; the first is at a.yaml:1:10
b.yaml:1:30: `x.*` has two entries; the first is at a.yaml:1:25
b.yaml:2:6: `ddl` has two entries; the first is at a.yaml:2:6
"#);
}

#[test]
fn tenant_through_must_lead_to_a_tenant() {
    assert_snapshot!(faults(r#"
tenant: {column: t, type: int}
tables:
  s: shared
  p0: {tenant: t}
  p1: {tenant_through: {x: p0.id}}
  p2: {tenant_through: {x: p1.id}}
  p3: {tenant_through: {x: p2.id}}
  p4: {tenant_through: {x: p3.id}}
  c1: {tenant_through: {x: c2.id}}
  c2: {tenant_through: {x: c1.id}}
  n: {tenant_through: {x: nowhere.id}}
  o: {tenant_through: {x: s.id}}
  "m.*": {tenant_through: {x: m.a.id}}
  v: {tenant_through: {x: y}}
"#), @r#"
a.yaml:9:3: `p4`: `tenant_through` leads over more than 3 parents
a.yaml:10:3: `c1`: `tenant_through` leads in a circle at `public.c1`
a.yaml:11:3: `c2`: `tenant_through` leads in a circle at `public.c2`
a.yaml:12:3: `n`: the parent `public.nowhere` has no entry of its own
a.yaml:13:3: `o`: the parent `s` has no tenant: it is `shared` or `deny`
a.yaml:14:3: `m.*`: `tenant_through` leads in a circle at `m.a`
a.yaml:15:27: `y`: the parent is named `schema.table.column`
"#);
}

#[test]
fn a_parent_in_another_file_is_found_and_faulty_parents_do_not_echo() {
    let files = [
        ("a.yaml", "tables: {c: {tenant_through: {x: p.id}}}"),
        ("b.yaml", "tables: {p: {tenant: {column: t, type: int}}}"),
    ];
    assert!(compile(&files, PolicyEpoch(1)).is_ok());
    assert_snapshot!(faults(
        "tables:\n  c: {tenant_through: {x: p.id}}\n  p: {tenant: {colum: t, type: int}}\n"
    ), @r#"
a.yaml:3:15: `tables.p.tenant` lacks the key `column`
a.yaml:3:16: `tables.p.tenant` has no key `colum`; did you mean `column`?
"#);
    assert_snapshot!(faults_of(&[files[0], ("b.yaml", "tables: {p: ")]), @r#"
b.yaml:1:9: not readable as YAML: unclosed bracket '{'
"#);
}

#[test]
fn bigquery_files_are_compiled() {
    let policy = compiled(
        r#"
engine: bigquery
tenant: {column: tenant_id, type: text}
tables:
  acme-prod.sales.*: {tenant: tenant_id}
  acme-prod.sales.orders: {tenant_through: {customer: acme-prod.sales.customers.id}}
  acme-prod.public.rates: shared
datasets: {acme-prod.sales: rewrite}
functions: {allow: [acme-prod.udfs.slug]}
maximum_bytes_billed: 10GiB
bytes_per_day: 1000000
labels: {team: data}
"#,
    )
    .bigquery;
    assert_eq!(policy.maximum_bytes_billed, Some(10 << 30));
    assert_eq!(policy.bytes_per_day, Some(1_000_000));
    assert_eq!(policy.tables[2].0.table, "*");
    assert_eq!(policy.labels["team"], "data");
    assert!(policy.functions.contains("acme-prod.udfs.slug"));
    assert_snapshot!(faults(
        "engine: bigquery\ntables: {a.b.c: shared}\nfunctions: {allow: [\"a.b.*\", f]}\n"
    ), @r#"
a.yaml:3:21: routines are allowed one by one, without `*`
a.yaml:3:30: `f`: the name must have the form `project.dataset.table`
"#);
    assert_snapshot!(faults(
        "engine: bigquery\ntables: {a.b: shared, a.b.c: {access: [select]}}\ndatasets: {a.b: rewritten}\nlabels: {Team: x}\nmaximum_bytes_billed: 10GB\nddl: {}\n"
    ), @r#"
a.yaml:2:10: `a.b`: the name must have the form `project.dataset.table`
a.yaml:2:23: `a.b.c` needs `tenant` or `tenant_through`, as the file has no default `tenant`
a.yaml:3:17: `datasets.a.b` must be `rewrite`, `secure_context` or `dataset_per_tenant`, not `rewritten`
a.yaml:4:10: `Team`: a label's key has up to 63 small letters, digits, `_`, `-`, a letter first
a.yaml:5:23: `maximum_bytes_billed`: `10GB` is not a size: write a whole number and a unit, one of B, KiB, MiB, GiB, for example `64KiB`
a.yaml:6:1: the file has no key `ddl`; known keys: `engine`, `mode`, `tenant`, `tables`, `datasets`, `functions`, `maximum_bytes_billed`, `bytes_per_day`, `labels`, `quotas`
"#);
}

#[test]
fn files_that_are_no_policy_are_refused() {
    assert_snapshot!(faults_of(&[("a.yaml", ""), ("b.yaml", "- x"), ("c.yaml", "engine: mysql"), ("d.yaml", "engine: [postgres]")]), @r#"
a.yaml:1:1: the file must be a policy, not nothing
b.yaml:1:1: the file must be a map, not a list
c.yaml:1:9: `engine` must be `postgres` or `bigquery`, not `mysql`
d.yaml:1:9: `engine` must be `postgres` or `bigquery`, not a list
"#);
}

proptest! {
    #![proptest_config(ProptestConfig { cases: 400, ..ProptestConfig::default() })]

    #[test]
    fn no_policy_file_panics(
        parts in prop::collection::vec(prop::sample::select(vec![
            "engine", "postgres", "bigquery", ": ", "\n", "  ", "tables", "tenant", "{", "}", "[",
            "]", ", ", "public.users", "\"*.*\"", "shared", "deny", "column", "type", "uuid",
            "tenant_through", "access", "select", "where", "columns", "mask", "'", "\"", "ddl",
            "claim", "in", "quotas", "- ", "&a ", "*a", "1", "1h", "é", "\u{0}", "null", "~",
        ]), 0..40)
    ) {
        let text = parts.concat();
        let _ = compile(&[("f.yaml", text.as_str()), ("g.yaml", text.as_str())], PolicyEpoch(1));
    }

    #[test]
    fn a_mutilated_policy_never_panics(at in 0usize..1_000, length in 0usize..12, put in "[a-z:{}\\[\\] \n\"'*.]{0,6}") {
        let chars: Vec<char> = CONTRACT.chars().collect();
        let at = at.min(chars.len());
        let end = (at + length).min(chars.len());
        let text: String = chars[..at].iter().copied().chain(put.chars()).chain(chars[end..].iter().copied()).collect();
        let _ = compile(&[("f.yaml", text)], PolicyEpoch(1));
    }
}

#[test]
fn a_quota_needs_something_to_limit_and_a_burst_needs_a_rate() {
    assert_snapshot!(faults("
quotas:
  - {tenant: a}
  - {burst: 3, concurrent: 1}
  - {statements_per_second: 1, burst: 0}
  - {statements_per_second: 0}
  - {concurrent: 2}
"), @r"
a.yaml:3:5: a quota needs `statements_per_second` or `concurrent`
a.yaml:4:5: `burst` needs `statements_per_second`
a.yaml:5:39: `quotas[2].burst` must be a whole number from 1 to 4294967295, not the number 0
a.yaml:6:5: a quota needs `statements_per_second` or `concurrent`
a.yaml:6:29: `quotas[3].statements_per_second` must be a number greater than 0, not the number 0
");
    let monitored = compiled("mode: monitor\nquotas: [{concurrent: 2}]\n").postgres;
    assert_eq!(monitored.quotas[0].mode, Mode::Monitor);
}
