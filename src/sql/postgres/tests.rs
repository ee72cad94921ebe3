//! What is sent for what: the decision on a small catalog.

mod deep;

use std::collections::BTreeMap;
use std::sync::Arc;

use crate::catalog::{Catalog, Column, Relation, RelationKind};
use crate::claims::{Claims, Principal, TenantClaim};
use crate::error::DenialCode;
use crate::ids::RelationName;
use crate::policy::{
    Access, Policy, PolicyExpression, Protection, SourcePosition, TablePolicy, TenantType,
};
use crate::sql::{Decided, Limits};

const A: &str = "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa";
pub(super) const GUARD: &str = "'aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa'::uuid";

fn position() -> SourcePosition {
    SourcePosition { file: "test.yaml".into(), line: 1, column: 1 }
}

fn entry(protection: Protection, rule: &str) -> TablePolicy {
    let access = if protection == Protection::Shared { Access::READ } else { Access::ALL };
    TablePolicy {
        protection,
        access,
        condition: None,
        columns: BTreeMap::new(),
        mode: crate::policy::Mode::Enforce,
        rule: rule.into(),
        at: position(),
    }
}

fn tenant(column: &str) -> Protection {
    Protection::Tenant { column: column.to_owned(), tenant_type: TenantType::Uuid }
}

pub(super) fn policy() -> Policy {
    let mut policy = Policy::default();
    let mut add = |name: &str, protection: Protection| {
        policy.tables.insert(RelationName::new("public", name), Arc::new(entry(protection, name)));
    };
    add("customers", tenant("tenant_id"));
    add("orders", tenant("tenant_id"));
    add("currencies", Protection::Shared);
    add("secrets", Protection::Deny);
    add(
        "items",
        Protection::TenantThrough {
            column: "order_id".to_owned(),
            parent: RelationName::new("public", "orders"),
            parent_column: "id".to_owned(),
        },
    );
    let mut regional = entry(tenant("tenant_id"), "regional");
    regional.condition = Some(PolicyExpression {
        text: "region = claim('region') OR region IS NULL".to_owned(),
        at: position(),
    });
    policy.tables.insert(RelationName::new("public", "regional"), Arc::new(regional));
    let mut ruled = entry(tenant("tenant_id"), "ruled");
    let text = "region = claim('region') AND (kind < 10 OR kind IS NULL)".to_owned();
    ruled.condition = Some(PolicyExpression { text, at: position() });
    policy.tables.insert(RelationName::new("public", "ruled"), Arc::new(ruled));
    policy
}

fn relation(name: &str, columns: &[(&str, &str)]) -> Relation {
    Relation {
        schema: "public".to_owned(),
        name: name.to_owned(),
        oid: 1,
        kind: RelationKind::Table,
        columns: columns
            .iter()
            .map(|(name, type_name)| Column {
                name: (*name).to_owned(),
                type_schema: "pg_catalog".to_owned(),
                type_name: (*type_name).to_owned(),
                not_null: false,
                has_default: false,
                generated: false,
                ..Column::default()
            })
            .collect(),
        primary_key: vec!["id".to_owned()],
        unique_keys: Vec::new(),
        foreign_keys: Vec::new(),
        parents: Vec::new(),
        rls_enabled: false,
        rls_forced: false,
        security_invoker: false,
        security_barrier: false,
        owner: "owner".to_owned(),
    }
}

pub(super) fn catalog() -> Catalog {
    let mut catalog =
        Catalog { live: true, search_path: vec!["public".to_owned()], ..Catalog::default() };
    for relation in [
        relation(
            "customers",
            &[
                ("id", "int4"),
                ("tenant_id", "uuid"),
                ("email", "text"),
                ("name", "text"),
                ("secret", "text"),
                ("credit", "int4"),
                ("data", "jsonb"),
            ],
        ),
        relation(
            "orders",
            &[
                ("id", "int4"),
                ("tenant_id", "uuid"),
                ("customer_id", "int4"),
                ("total", "numeric"),
                ("note", "text"),
            ],
        ),
        relation("items", &[("id", "int4"), ("order_id", "int4"), ("sku", "text")]),
        relation("currencies", &[("code", "text"), ("rate", "numeric")]),
        relation("secrets", &[("id", "int4")]),
        relation("unlisted", &[("id", "int4")]),
        relation("regional", &[("id", "int4"), ("tenant_id", "uuid"), ("region", "text")]),
        relation(
            "ruled",
            &[("id", "int4"), ("tenant_id", "uuid"), ("region", "varchar"), ("kind", "int4")],
        ),
    ] {
        catalog.relations.insert(relation.relation_name(), relation);
    }
    catalog
}

pub(super) fn principal() -> Principal {
    let claims = serde_json::json!({"tenant_id": A, "region": "eu"});
    let serde_json::Value::Object(claims) = claims else { panic!("an object") };
    Principal::assumed(Some(TenantClaim::Text(A.to_owned())), Claims(claims))
}

fn decide(sql: &str) -> Result<Vec<Decided>, DenialCode> {
    super::decide(sql, &policy(), &catalog(), &principal(), Limits::default())
        .map_err(|denial| denial.code)
}

fn sent(sql: &str) -> String {
    match decide(sql) {
        Ok(decided) => decided
            .iter()
            .map(|one| one.guarded.text().replace(GUARD, "$A"))
            .collect::<Vec<_>>()
            .join(";"),
        Err(code) => code.to_string(),
    }
}

#[test]
fn a_look_up_gets_a_plain_guard() {
    assert_eq!(
        sent("SELECT name FROM customers WHERE id = 1"),
        "SELECT name FROM public.customers WHERE customers.tenant_id = $A AND (id = 1)"
            .replace("public.customers", "\"public\".\"customers\"")
            .replace("customers.tenant_id", "\"customers\".\"tenant_id\"")
    );
}

#[test]
fn what_only_postgresql_reads_is_guarded_like_the_rest() {
    assert_eq!(
        sent("SELECT name FROM ONLY customers FOR NO KEY UPDATE OF customers SKIP LOCKED"),
        r#"SELECT name FROM ONLY "public"."customers" WHERE "customers"."tenant_id" = $A FOR NO KEY UPDATE OF customers SKIP LOCKED"#
    );
    assert_eq!(
        sent("SELECT a FROM customers, ROWS FROM (generate_series(1, id)) a"),
        r#"SELECT a FROM "public"."customers", ROWS FROM (generate_series(1, id)) a WHERE "customers"."tenant_id" = $A"#
    );
    assert_eq!(
        sent("DELETE FROM ONLY customers WHERE id = 1"),
        r#"DELETE FROM ONLY "public"."customers" WHERE "customers"."tenant_id" = $A AND (id = 1)"#
    );
}

#[test]
fn a_key_settles_the_columns_of_a_table_that_is_read_through_a_sub_select() {
    let text = sent("SELECT i.sku FROM items i FULL JOIN currencies k ON true GROUP BY i.id");
    assert!(text.ends_with(r#"GROUP BY i.id, "i"."order_id", "i"."sku""#), "{text}");
    let text = sent("SELECT i.sku FROM items i FULL JOIN currencies k ON true GROUP BY i.sku");
    assert!(text.ends_with("GROUP BY i.sku"), "{text}");
    let text = sent("SELECT i.sku FROM items i JOIN currencies k ON true GROUP BY i.id");
    assert!(text.ends_with("GROUP BY i.id"), "{text}");
}

#[test]
fn with_recursive_does_not_keep_apart_what_is_not_recursive() {
    let text =
        sent("WITH RECURSIVE w AS (SELECT * FROM customers) SELECT 1 FROM w WHERE secret::int = 1");
    assert!(text.contains("w AS MATERIALIZED ("), "{text}");
    let text = sent(
        "WITH RECURSIVE a AS (SELECT * FROM b WHERE secret::int = 1), b AS (SELECT * FROM customers) SELECT 1 FROM a",
    );
    assert!(text.contains("b AS MATERIALIZED ("), "{text}");
}

#[test]
fn everything_that_is_allowed_passes_the_checker() {
    for sql in [
        "SELECT 1",
        "SELECT * FROM customers",
        "SELECT c.* FROM customers c WHERE c.secret::int = 1 OR true",
        "SELECT c.id, o.id FROM customers c LEFT JOIN orders o ON o.customer_id = c.id AND o.total > 1000000 ORDER BY 1",
        "SELECT c.id FROM customers c RIGHT JOIN currencies k ON c.secret = k.code WHERE c.credit + 1 > 2",
        "SELECT * FROM customers c FULL JOIN orders o ON o.customer_id = c.id",
        "SELECT * FROM customers c LEFT JOIN orders o USING (tenant_id)",
        "SELECT * FROM customers NATURAL JOIN orders",
        "SELECT x.e5 FROM customers AS x(e1, e2, e3, e4, e5, e6, tenant_id)",
        "SELECT * FROM (customers c JOIN orders o ON o.customer_id = c.id) j",
        "SELECT * FROM (customers c JOIN orders o ON o.customer_id = c.id)",
        "SELECT * FROM currencies k LEFT JOIN (customers c JOIN orders o ON o.customer_id = c.id) ON c.name = k.code",
        "WITH a AS (SELECT * FROM customers) SELECT * FROM a WHERE secret::int = 1",
        "WITH RECURSIVE r(n) AS (SELECT 1 UNION ALL SELECT n + 1 FROM r WHERE n < 5) SELECT * FROM r, customers",
        "WITH RECURSIVE r(n) AS (SELECT id FROM customers UNION ALL SELECT n / 2 FROM r WHERE 10 / n > 1) SELECT n::text::int FROM r WHERE 1 / n = 1",
        "WITH RECURSIVE a AS (SELECT * FROM b WHERE secret::int = 1), b AS (SELECT * FROM customers) SELECT * FROM a",
        "WITH u AS (UPDATE customers SET name = 'x' WHERE id = 1 RETURNING *) SELECT * FROM u",
        "SELECT * FROM (SELECT id, secret::int AS s FROM customers) x WHERE x.s = 1",
        "SELECT * FROM (SELECT id, secret FROM customers) x WHERE x.secret = 'a'",
        "SELECT (SELECT max(secret) FROM customers), EXISTS (SELECT 1 FROM orders WHERE orders.customer_id = c.id) FROM customers c",
        "SELECT name FROM customers WHERE id IN (SELECT customer_id FROM orders WHERE total > 5)",
        "SELECT name FROM customers WHERE id = (SELECT max(customer_id) FROM orders)",
        "SELECT name FROM customers c WHERE EXISTS (SELECT 1 FROM orders o WHERE o.customer_id = c.id AND c.secret::int = 1)",
        "SELECT count(*), name FROM customers GROUP BY name HAVING count(*) > 1 AND upper(name) = 'X' AND length(name)::text::int > 1",
        "SELECT id FROM customers UNION ALL SELECT id FROM orders ORDER BY 1 LIMIT 5",
        "SELECT id FROM customers FOR UPDATE",
        "SELECT c.id FROM customers c JOIN orders o ON true FOR UPDATE OF c",
        "SELECT row_number() OVER (PARTITION BY name ORDER BY id) FROM customers",
        "SELECT count(*) FILTER (WHERE credit > 1) FROM customers",
        "TABLE customers",
        "VALUES (1, 2), (3, 4)",
        "SELECT * FROM customers c, LATERAL (SELECT * FROM orders o WHERE o.customer_id = c.id LIMIT 1) x",
        "SELECT g FROM generate_series(1,9) g FETCH FIRST (SELECT count(*) FROM customers) ROWS ONLY",
        "SELECT * FROM items",
        "SELECT i.* FROM items i JOIN orders o ON o.id = i.order_id WHERE i.sku = 'x'",
        "SELECT sku || 1 FROM items ORDER BY upper(sku) || id",
        "SELECT sku::int FROM (SELECT * FROM items) x ORDER BY 1",
        "SELECT * FROM items i, generate_series(1, i.sku::int) g",
        "SELECT * FROM items i, LATERAL (SELECT i.sku::int AS n) x WHERE x.n = 1",
        "SELECT count(*), sum(id) FROM items GROUP BY sku::int",
        "SELECT o.id FROM orders o LEFT JOIN items i ON i.order_id = o.id WHERE i.sku || 'x' = 'y'",
        "SELECT * FROM regional WHERE id = 1",
        "INSERT INTO customers (email, name) VALUES ('a', 'b'), ('c', DEFAULT) RETURNING id",
        "INSERT INTO customers (tenant_id, email) VALUES ('aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa', 'b')",
        "INSERT INTO customers (tenant_id, email) VALUES ($1, $2)",
        "INSERT INTO customers VALUES (1, 'aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa', 'e')",
        "INSERT INTO customers VALUES (1)",
        "INSERT INTO customers (tenant_id, email) SELECT tenant_id, email FROM customers",
        "INSERT INTO customers (email) SELECT note FROM orders UNION SELECT 'x'",
        "INSERT INTO items (order_id, sku) VALUES (1, 'x')",
        "INSERT INTO customers DEFAULT VALUES RETURNING id",
        "INSERT INTO customers (id, tenant_id, email) SELECT * FROM UNNEST(($1)::int4[], ($2)::uuid[], ($3)::text[]) RETURNING id",
        "INSERT INTO customers (id, email) SELECT * FROM UNNEST(($1)::int4[], ($2)::text[])",
        "INSERT INTO customers SELECT * FROM customers",
        "INSERT INTO customers TABLE customers",
        "INSERT INTO regional SELECT * FROM (SELECT * FROM regional) x WHERE id = 1",
        "INSERT INTO orders (id, tenant_id, customer_id, total, note) SELECT * FROM orders",
        "INSERT INTO customers (name) SELECT code FROM currencies",
        "INSERT INTO customers (id, email) VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET email = excluded.email, tenant_id = excluded.tenant_id WHERE customers.secret::int = 1",
        "INSERT INTO customers (id, email) VALUES (1, 'x') ON CONFLICT DO NOTHING",
        "WITH x AS (SELECT 1 AS a) INSERT INTO customers (credit) SELECT a FROM x",
        "UPDATE customers SET name = 'x' WHERE id > 0 OR false",
        "UPDATE customers SET tenant_id = 'aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa', name = $1 WHERE id = $2",
        "UPDATE customers c SET name = o.note FROM orders o WHERE o.customer_id = c.id RETURNING c.*",
        "UPDATE customers SET (name, email) = (SELECT 'a', 'b')",
        "DELETE FROM customers",
        "DELETE FROM customers c USING orders o WHERE o.customer_id = c.id AND o.note = c.name",
        "MERGE INTO customers c USING orders o ON c.id = o.customer_id WHEN MATCHED AND c.name = 'x' THEN UPDATE SET name = o.note WHEN NOT MATCHED THEN INSERT (email) VALUES (o.note)",
        "MERGE INTO customers c USING (VALUES (1)) v(id) ON c.id = v.id AND c.secret::int = 1 WHEN MATCHED THEN DELETE",
        "EXPLAIN SELECT * FROM customers",
        "EXPLAIN (VERBOSE, FORMAT json) SELECT * FROM customers",
        "PREPARE p(int) AS SELECT * FROM customers WHERE id = $1",
        "EXECUTE p(1)",
        "DEALLOCATE ALL",
        "DECLARE c CURSOR FOR SELECT * FROM customers",
        "FETCH 10 FROM c",
        "CLOSE c",
        "COPY (SELECT * FROM customers) TO STDOUT WITH (FORMAT csv, HEADER)",
        "COPY customers TO STDOUT",
        "COPY public.customers (name, \"email\") TO STDOUT (FORMAT csv, HEADER)",
        "COPY customers TO STDOUT DELIMITER '|' NULL '' CSV HEADER",
        "COPY items TO STDOUT (FORMAT binary)",
        "COPY currencies TO STDOUT",
        "COPY customers FROM STDIN",
        "COPY customers (email, tenant_id) FROM STDIN CSV HEADER",
        "COPY customers (id) FROM STDIN (FORMAT binary) WHERE id > 0",
        "COPY customers (email) FROM STDIN NULL ' WHERE ' WHERE email > ' WHERE '",
        "BEGIN ISOLATION LEVEL SERIALIZABLE",
        "SAVEPOINT a",
        "ROLLBACK TO SAVEPOINT a",
        "COMMIT",
        "SET statement_timeout = '5s'",
        "SET TIME ZONE 'UTC'",
        "SET client_encoding TO 'UTF8'",
        "SET SESSION CHARACTERISTICS AS TRANSACTION ISOLATION LEVEL READ COMMITTED",
        "RESET ALL",
        "RESET search_path",
        "SET search_path TO DEFAULT",
        "SELECT pg_catalog.pg_am.amname <> current_setting($1::varchar) FROM pg_catalog.pg_am",
        "WITH RECURSIVE n(i) AS (VALUES (1) UNION ALL SELECT i + 1 FROM n WHERE i < 5) SELECT * FROM n",
        "SET search_path TO public",
        "SET SESSION search_path = \"$user\", 'public'",
        "SET LOCAL search_path TO pg_catalog, public",
        "SET SCHEMA 'public'",
        "SHOW search_path",
        "SELECT current_setting('jit') AS cur, set_config('jit', 'off', false) AS new",
        "SELECT current_setting('server_version_num')::int, pg_catalog.current_setting('TimeZone'::text, true)",
        "SELECT pg_catalog.set_config('TimeZone', $1, true)",
        "SELECT c.name, o.note, count(*) FROM customers c FULL JOIN orders o ON o.customer_id = c.id GROUP BY c.id, o.id",
        "SELECT c.name, max(o.id) FROM orders o LEFT JOIN customers c USING (tenant_id) GROUP BY 1, c.id HAVING c.email > 'a' ORDER BY c.credit",
        "SELECT x.c, count(*) FROM customers AS x(a, b, c) FULL JOIN orders o ON true GROUP BY x.a",
        "SELECT setting FROM pg_catalog.pg_settings WHERE name='max_index_keys'",
        "SELECT (information_schema._pg_expandarray(i.indkey)).n FROM pg_catalog.pg_index i",
        "SELECT idx.indexrelname, idx.relname, schemaname FROM pg_stat_user_indexes idx",
        "SELECT st.relid, st.relname FROM pg_catalog.pg_statio_all_tables AS st",
        "SELECT schemaname, sequencename, start_value, cache_size FROM pg_sequences AS seq",
        "SELECT policyname, cmd, roles FROM pg_policies",
        "SELECT pg_advisory_lock(1), pg_try_advisory_xact_lock_shared(1, $1) AS got FROM customers WHERE pg_advisory_unlock(id)",
        "WITH l AS MATERIALIZED (SELECT pg_advisory_xact_lock(hashtext('x'))) INSERT INTO customers (id) VALUES (1)",
        "PREPARE p AS SELECT pg_advisory_lock($1)",
        "UPDATE customers AS c SET name = 'x' WHERE CURRENT OF cur RETURNING c.id",
        "DELETE FROM items WHERE CURRENT OF \"C u r\"",
        "CREATE TEMP TABLE t (id int, a text DEFAULT lower('X') CHECK (a > ''), b numeric(3, 1)[])",
        "CREATE TEMP TABLE t ON COMMIT DROP AS SELECT * FROM customers WHERE secret::int = 1 WITH NO DATA",
        "SELECT c.id INTO TEMPORARY t FROM customers c GROUP BY c.id",
        "CREATE TEMP TABLE customers (LIKE customers INCLUDING DEFAULTS); INSERT INTO customers SELECT * FROM public.customers; DROP TABLE customers; SELECT * FROM customers",
        "DROP TABLE IF EXISTS staging",
        "DISCARD ALL",
        "SHOW server_version",
        "SELECT relname FROM pg_class c JOIN pg_catalog.pg_namespace n ON n.oid = c.relnamespace",
        "SELECT table_name FROM information_schema.tables",
        "SELECT 'a\\' || 'b', E'a\\'b', $$x'y$$, U&'\\0061'",
        "SELECT '\\'' || (SELECT string_agg(secret, $$,$$) FROM customers) --'",
        "SELECT name FROM customers WHERE name = '\\'' OR true --'",
        "SELECT '''''' AS v, \"customers\".\"name\" FROM customers",
        "SELECT id end FROM customers",
        "SELECT 1; SELECT 2",
        "SELECT * FROM ONLY customers",
        "SELECT c.name FROM ONLY public.customers c TABLESAMPLE system (50) WHERE c.secret::int = 1",
        "SELECT * FROM ONLY (orders) FULL JOIN ONLY customers AS c(a, b) ON true",
        "WITH w AS (SELECT * FROM ONLY orders) SELECT * FROM ONLY w",
        "UPDATE ONLY customers SET name = 'x' WHERE secret::int = 1",
        "DELETE FROM ONLY public.customers USING ONLY orders WHERE orders.note = name",
        "SELECT id FROM customers FETCH FIRST 2 ROWS ONLY",
        "SELECT id FROM customers FOR NO KEY UPDATE",
        "SELECT c.id FROM customers c, orders o FOR KEY SHARE OF c, o SKIP LOCKED",
        "SELECT c.id FROM customers c, orders o FOR UPDATE OF c NOWAIT FOR SHARE OF o",
        "SELECT * FROM (SELECT id FROM customers FOR NO KEY UPDATE OF customers) x",
        "SELECT id FROM orders o WHERE ((o.id >= 2) IN (true, false))",
        "DECLARE c CURSOR FOR SELECT id FROM orders o WHERE ((o.id >= 2) IN (true, false))",
        "PREPARE p (int) AS\nSELECT id FROM orders o WHERE ((o.id >= $1) IN (true, false));",
        "DELETE FROM customers c WHERE NOT EXISTS (VALUES (c.name || c.id))",
        "SELECT c.id FROM customers c WHERE EXISTS (SELECT 1 FROM (SELECT c.secret::int AS n) d)",
        "SELECT id FROM customers LIMIT (SELECT n FROM (VALUES (1), (2)) v(n) WHERE 1 / n = 1 LIMIT 1)",
        "SELECT 1 FROM customers c, (SELECT code::int FROM currencies WHERE code::int = 1) k WHERE c.secret::int = 1",
        "UPDATE customers u SET name = 'x' FROM (SELECT max(g) AS m FROM generate_series(1, 3) g HAVING max(1 / g) = 1) k WHERE u.id = k.m",
        "UPDATE customers u SET name = 'x' FROM (currencies k RIGHT JOIN orders o ON k.code = o.note AND o.note::int = 1) AS j(a, b, c, d, e, f, g)",
        "SELECT 1 FROM (generate_series(1, 3) g LEFT JOIN currencies k ON k.code::int = g) j JOIN customers c ON true",
        "DELETE FROM customers u USING currencies k LEFT JOIN LATERAL (SELECT o.id FROM orders o WHERE k.code::int = 1 LIMIT 4) d ON true",
        "SELECT 1 FROM customers c RIGHT JOIN LATERAL (SELECT o.id FROM orders o WHERE o.note::int = 1 AND 1 / o.id = 1) d ON c.id = d.id",
        "MERGE INTO customers c USING orders o ON c.id = o.id WHEN NOT MATCHED AND o.id IN (SELECT g FROM generate_series(1, 2) g WHERE 1 / g = 1) THEN INSERT (name) VALUES ((SELECT k.code FROM currencies k WHERE k.code::int = o.id))",
        "SELECT id FROM orders o WHERE (o.id IS DISTINCT FROM 2) IS NOT NULL -- ONLY ;",
        "UPDATE customers SET data['a'] = '1', data['b']['c'] = $1 WHERE id = 1",
        "INSERT INTO customers (id) VALUES (1) ON CONFLICT (id, lower(email)) WHERE name IS NULL DO UPDATE SET name = 'x'",
        "SELECT n.a FROM customers c, ROWS FROM (jsonb_to_recordset(c.data) AS (a int, b text), unnest(ARRAY[c.id])) WITH ORDINALITY n",
        "SELECT (c).*, trim(c.name) FROM customers c",
    ] {
        assert!(decide(sql).is_ok(), "{sql}\n{:?}", decide(sql));
    }
}

#[test]
fn a_row_rule_over_several_columns_looks_at_all_of_them_as_they_are_written() {
    for sql in [
        "INSERT INTO ruled (id, region, kind) VALUES (1, 'eu', 2), (2, lower($1), NULL)",
        "INSERT INTO ruled VALUES (1, 'aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa', 'eu', $1)",
        "INSERT INTO ruled (region, kind) SELECT note, id FROM orders",
        "UPDATE ruled SET kind = kind + 1",
        "UPDATE ruled SET kind = -1, region = lower(region)",
        "UPDATE ruled AS r SET region = o.note FROM orders o WHERE o.id = r.id",
        "UPDATE ruled SET id = 2",
        "DELETE FROM ruled",
        "INSERT INTO ruled (region, kind) VALUES ('eu', 1) ON CONFLICT (id) DO UPDATE SET kind = excluded.kind",
        "MERGE INTO ruled r USING orders o ON o.id = r.id WHEN MATCHED THEN UPDATE SET kind = o.id WHEN NOT MATCHED THEN INSERT (region, kind) VALUES ('eu', o.id + 1)",
    ] {
        assert!(decide(sql).is_ok(), "{sql}\n{:?}", decide(sql));
    }
    for (sql, code) in [
        ("INSERT INTO ruled (region) VALUES ('eu')", DenialCode::WriteOutsideTenant),
        ("INSERT INTO ruled (region, kind) VALUES ('eu', DEFAULT)", DenialCode::WriteOutsideTenant),
        // Two values that may come out otherwise where they stand twice.
        (
            "INSERT INTO ruled (region, kind) VALUES (lower('EU'), 1 + random()::int)",
            DenialCode::LeakPossible,
        ),
        ("UPDATE ruled SET region = lower(region), kind = kind + 1", DenialCode::LeakPossible),
        ("UPDATE ruled SET (region, kind) = ('eu', 1)", DenialCode::WriteOutsideTenant),
        ("COPY ruled (kind) FROM STDIN", DenialCode::WriteOutsideTenant),
    ] {
        assert_eq!(decide(sql).unwrap_err(), code, "{sql}");
    }
}

#[test]
fn what_may_not_run_is_denied_by_its_code() {
    for (sql, code) in [
        ("SELEC 1", DenialCode::CannotParse),
        ("SELECT * FROM ONLY secrets", DenialCode::RelationDenied),
        ("DELETE FROM ONLY nowhere", DenialCode::UnknownRelation),
        ("CREATE TABLE t (a int)", DenialCode::StatementKind),
        ("DO $$ BEGIN END $$", DenialCode::StatementKind),
        ("SELECT 1 INTO t", DenialCode::StatementKind),
        ("TRUNCATE customers", DenialCode::StatementKind),
        ("PREPARE TRANSACTION 'x'", DenialCode::StatementKind),
        ("SELECT * FROM nowhere", DenialCode::UnknownRelation),
        ("SELECT * FROM unlisted", DenialCode::UnknownRelation),
        ("SELECT * FROM other.customers", DenialCode::UnknownRelation),
        ("SELECT * FROM secrets", DenialCode::RelationDenied),
        ("SELECT set_config('a.b', 'c', false)", DenialCode::Function),
        ("SELECT set_config('search_path', 'public', false)", DenialCode::Function),
        ("SELECT set_config('client_encoding', 'SJIS', false)", DenialCode::Function),
        ("SELECT set_config($1, 'off', false)", DenialCode::Function),
        ("SELECT set_config('ji' || 't', 'off', false)", DenialCode::Function),
        ("SELECT public.set_config('jit', 'off', false)", DenialCode::Function),
        ("SELECT set_config('application_name', name, false) FROM customers", DenialCode::Function),
        ("SELECT pg_read_file('x')", DenialCode::Function),
        ("SELECT XMLPARSE(DOCUMENT '<a/>')", DenialCode::Function),
        ("SELECT my_function(1)", DenialCode::Function),
        ("SET app.current_tenant = 'x'", DenialCode::ProtectedSetting),
        ("SET search_path = x", DenialCode::ProtectedSetting),
        ("SET search_path TO public, x", DenialCode::ProtectedSetting),
        ("SET LOCAL search_path TO 'public, x'", DenialCode::ProtectedSetting),
        ("SET SCHEMA ''", DenialCode::ProtectedSetting),
        ("SET search_path TO pg_temp, public", DenialCode::ProtectedSetting),
        ("SET search_path FROM CURRENT", DenialCode::ProtectedSetting),
        ("SET ROLE x", DenialCode::ProtectedSetting),
        ("SET standard_conforming_strings = off", DenialCode::ProtectedSetting),
        ("SET client_encoding = 'SJIS'", DenialCode::ProtectedSetting),
        ("SHOW ALL", DenialCode::ProtectedSetting),
        ("SHOW data_directory", DenialCode::ProtectedSetting),
        ("SELECT current_setting('primary_conninfo')", DenialCode::ProtectedSetting),
        (
            "SELECT pg_catalog.current_setting('Primary_ConnInfo'::text, true)",
            DenialCode::ProtectedSetting,
        ),
        ("SELECT current_setting('port' || '')", DenialCode::ProtectedSetting),
        ("SELECT current_setting(name) FROM pg_class", DenialCode::ProtectedSetting),
        ("SELECT current_setting($1)", DenialCode::ProtectedSetting),
        ("SELECT amname <> current_setting($1::varchar) FROM pg_am", DenialCode::ProtectedSetting),
        (
            "SELECT pg_catalog.pg_am.amname <> current_setting($1 || '') FROM pg_am",
            DenialCode::ProtectedSetting,
        ),
        ("SELECT * FROM pg_stats", DenialCode::Catalog),
        ("SELECT setting FROM pg_settings", DenialCode::Catalog),
        ("SELECT * FROM pg_settings WHERE name = 'x'", DenialCode::Catalog),
        ("SELECT setting FROM pg_settings WHERE name = 'primary_conninfo'", DenialCode::Catalog),
        ("SELECT setting FROM pg_settings WHERE name <> 'x'", DenialCode::Catalog),
        ("SELECT setting FROM pg_settings WHERE name = 'x' OR true", DenialCode::Catalog),
        (
            "SELECT (SELECT max(setting) FROM pg_settings) FROM pg_settings WHERE name = 'x'",
            DenialCode::Catalog,
        ),
        (
            "SELECT setting FROM pg_settings WHERE name = 'x' UNION SELECT setting FROM pg_settings",
            DenialCode::Catalog,
        ),
        (
            "SELECT information_schema._pg_truetypid(a, t) FROM pg_attribute a, pg_type t",
            DenialCode::Function,
        ),
        ("SELECT reltuples FROM pg_class", DenialCode::Catalog),
        ("SELECT option_value FROM information_schema.user_mapping_options", DenialCode::Catalog),
        ("SELECT * FROM information_schema.foreign_server_options", DenialCode::Catalog),
        ("SELECT * FROM pg_class", DenialCode::Catalog),
        ("SELECT last_value FROM pg_sequences", DenialCode::Catalog),
        ("SELECT * FROM pg_sequences", DenialCode::Catalog),
        ("SELECT idx_scan FROM pg_stat_user_indexes", DenialCode::Catalog),
        ("SELECT i FROM pg_stat_user_indexes i", DenialCode::Catalog),
        ("SELECT relname FROM pg_stat_user_tables", DenialCode::Catalog),
        (
            "SELECT relname FROM pg_class NATURAL JOIN pg_catalog.pg_statio_all_tables",
            DenialCode::Catalog,
        ),
        ("SELECT s.heap_blks_hit FROM pg_catalog.pg_statio_all_tables AS s", DenialCode::Catalog),
        ("EXPLAIN ANALYZE SELECT * FROM customers", DenialCode::LeakPossible),
        (
            "INSERT INTO customers (tenant_id, email) SELECT * FROM orders o, items i",
            DenialCode::LeakPossible,
        ),
        (
            "INSERT INTO customers (tenant_id) VALUES ('bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb')",
            DenialCode::WriteOutsideTenant,
        ),
        ("INSERT INTO items DEFAULT VALUES", DenialCode::WriteOutsideTenant),
        (
            "UPDATE customers SET tenant_id = 'bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb'",
            DenialCode::TenantColumnChange,
        ),
        (
            "UPDATE customers SET (name, tenant_id) = (SELECT 'n', NULL)",
            DenialCode::TenantColumnChange,
        ),
        ("UPDATE customers SET tenant_id = DEFAULT", DenialCode::TenantColumnChange),
        ("UPDATE currencies SET rate = 0", DenialCode::ReadOnly),
        ("UPDATE pg_settings SET setting = 'x'", DenialCode::ReadOnly),
        ("COPY customers FROM '/tmp/x'", DenialCode::Copy),
        ("COPY items FROM STDIN (FREEZE)", DenialCode::Copy),
        ("COPY currencies FROM STDIN", DenialCode::ReadOnly),
        ("COPY customers TO '/tmp/x'", DenialCode::Copy),
        ("COPY (SELECT 1) TO PROGRAM 'x'", DenialCode::Copy),
        ("SELECT 1; DROP TABLE customers", DenialCode::StatementKind),
    ] {
        assert_eq!(decide(sql).map(|_| ()).unwrap_err(), code, "{sql}");
    }
    let names = "SELECT option_name FROM information_schema.foreign_server_options";
    assert!(decide(names).is_ok(), "{names}");
}

#[test]
fn unsafe_conjuncts_are_shielded_and_total_ones_are_not() {
    let shielded = |sql: &str| sent(sql).contains("CASE WHEN");
    for total in [
        "id = 1",
        "id = $1",
        "id IN (1, 2)",
        "id = ANY($1)",
        "lower(email) = 'x'",
        "email LIKE 'a%'",
        "credit BETWEEN 1 AND 5",
        "data @> '{\"a\": 1}'",
        "data ->> 'a' = 'b'",
        "name IS NULL",
        "NOT (id = 1 OR name <> 'x')",
        "credit > 1.5",
        "tenant_id = $1::uuid",
        "name = ANY(ARRAY['a', 'b'])",
    ] {
        assert!(!shielded(&format!("SELECT 1 FROM customers WHERE {total}")), "{total}");
    }
    for partial in [
        "secret::int = 1",
        "1 / credit = 1",
        "has_table_privilege(secret, 'select')",
        "email LIKE 'a\\'",
        "email LIKE name",
        "email ~ 'x'",
        "credit + 1 = 2",
        "nextval('s') > 0",
        "email || 'x' = 'y'",
        "substring(email, 1, 2) = 'a'",
        "data -> 'a' = secret::jsonb",
        "id::text::int = 1",
    ] {
        assert!(shielded(&format!("SELECT 1 FROM customers WHERE {partial}")), "{partial}");
    }
}

#[test]
fn a_lower_level_is_kept_apart_when_an_expression_could_be_carried_into_it() {
    assert!(
        sent("SELECT * FROM (SELECT secret FROM customers) x WHERE x.secret::int = 1")
            .contains("OFFSET 0")
    );
    assert!(
        sent("SELECT * FROM (SELECT secret::int AS s FROM customers) x WHERE x.s = 1")
            .contains("OFFSET 0")
    );
    assert!(
        !sent("SELECT * FROM (SELECT secret FROM customers) x WHERE x.secret = 'a'")
            .contains("OFFSET 0")
    );
    assert!(
        sent("WITH x AS (SELECT secret FROM customers) SELECT * FROM x WHERE secret::int = 1")
            .contains("MATERIALIZED")
    );
}

#[test]
fn egress_knows_where_the_tenant_stands() {
    let columns = |sql: &str| decide(sql).unwrap()[0].tenant_columns.clone();
    assert_eq!(columns("SELECT * FROM customers"), [1]);
    assert_eq!(columns("SELECT name, tenant_id AS t, c.* FROM customers c"), [1, 3]);
    assert_eq!(columns("SELECT name FROM customers"), [] as [usize; 0]);
}

#[test]
fn literals_never_reach_the_record() {
    let decided = decide("SELECT 1 FROM customers WHERE email = 'geheim' AND id = 4711").unwrap();
    assert!(!decided[0].fingerprint.normalized.contains("geheim"));
    assert!(!decided[0].fingerprint.normalized.contains("4711"));
    assert_eq!(super::fingerprint("CREATE ROLE x PASSWORD 'geheim'").normalized, "CREATE ROLE");
}

#[test]
fn deep_and_long_texts_are_refused_and_break_nothing() {
    for text in [
        format!("SELECT {}1", "1+".repeat(200_000)),
        format!("SELECT {}1{}", "(".repeat(100_000), ")".repeat(100_000)),
        format!("SELECT {}1", "NOT ".repeat(50_000)),
        vec!["SELECT 1"; 20_000].join(" UNION ALL "),
        format!("SELECT 1 WHERE {}", vec!["a = 1"; 20_000].join(" OR ")),
        format!("SELECT {}", "'".repeat(99_999)),
        format!("SELECT {}", "CASE WHEN ".repeat(20_000)),
        format!("SELECT 1 FROM {}", vec!["customers"; 20_000].join(" JOIN ")),
    ] {
        let limits = Limits { max_statement: 4 << 20 };
        let result = super::decide(&text, &policy(), &catalog(), &principal(), limits);
        assert!(result.is_err(), "{}", &text[..40]);
    }
    let chain = vec!["id = 1"; 400].join(" OR ");
    assert!(decide(&format!("SELECT 1 FROM customers WHERE {chain}")).is_ok());
    let rows = vec!["(1, 'x', -1)"; 5_000].join(", ");
    assert!(decide(&format!("INSERT INTO customers (id, email, credit) VALUES {rows}")).is_ok());
}

#[test]
fn the_deepest_text_that_passes_the_bounds_fits_the_stack_that_is_asked_for() {
    let depth = super::bounds::MAX_DEPTH - 20;
    let texts = [
        format!("SELECT {}1 FROM customers", "1+".repeat(depth)),
        format!("SELECT 1 FROM customers WHERE {}", vec!["id=1"; depth / 2].join(" OR ")),
        vec!["SELECT 1"; depth / 2].join(" UNION "),
        format!("SELECT {}1{}", "(".repeat(depth), ")".repeat(depth)),
        format!("SELECT {} 1", "NOT ".repeat(depth)),
        format!("SELECT {}1{}", "f(".repeat(depth), ")".repeat(depth)),
        format!("SELECT 1{}", "::text".repeat(depth / 2)),
        format!("SELECT 1 FROM {}", vec!["customers"; depth].join(" CROSS JOIN ")),
        format!("SELECT {}1{}", "CASE WHEN true THEN ".repeat(depth / 2), " END".repeat(depth / 2)),
        format!("{}SELECT 1{}", "SELECT * FROM (".repeat(depth / 4), ") x".repeat(depth / 4)),
    ];
    std::thread::Builder::new()
        .stack_size(super::STACK_NEEDED)
        .spawn(move || {
            for text in texts {
                assert!(super::bounds::check(&text, Limits::default()).is_ok(), "{}", &text[..60]);
                let (policy, catalog, principal) = (policy(), catalog(), principal());
                let env = super::Env {
                    policy: &policy,
                    catalog: &catalog,
                    principal: &principal,
                    parameters: &[],
                    privileges: crate::policy::Privileges::default(),
                    lenient: false,
                    temporary: crate::sql::temporary::Temporary::NONE,
                    notes: crate::sql::account::Notes::default(),
                };
                let _ = super::statements(&text, env);
            }
        })
        .unwrap()
        .join()
        .unwrap();
}

#[test]
fn a_guard_through_a_parent_is_a_filter_where_something_is_computed_of_the_rows() {
    assert!(!sent("SELECT * FROM items WHERE sku = 'x' ORDER BY sku").contains("IS TRUE"));
    for computes in [
        "SELECT * FROM items ORDER BY sku::int",
        "SELECT sku::int FROM items ORDER BY 1",
        "SELECT sum(id) FROM items GROUP BY sku::int",
        "SELECT * FROM items i, generate_series(1, i.sku::int) g",
        "SELECT DISTINCT sku::int FROM items",
        "UPDATE orders SET note = 'x' FROM items i, LATERAL (SELECT i.sku::int AS n) x WHERE x.n = orders.id",
        "DELETE FROM orders USING items i, generate_series(1, i.sku::int) g WHERE g = orders.id",
    ] {
        assert!(sent(computes).contains("IS TRUE"), "{computes}\n{}", sent(computes));
    }
    let merged = sent("SELECT sku::int FROM (SELECT * FROM items) x ORDER BY 1");
    assert!(merged.contains("OFFSET 0"), "{merged}");
}

#[test]
fn every_table_is_named_with_its_schema() {
    assert_eq!(sent("SELECT code FROM currencies"), "SELECT code FROM \"public\".\"currencies\"");
}

/// The text that would be sent for a statement with parameters of those types.
fn sent_prepared(sql: &str, declared: &[super::totality::Parameter]) -> String {
    let (policy, catalog, principal) = (policy(), catalog(), principal());
    let limits = Limits::default();
    let decided =
        super::decide_prepared(sql, &policy, &catalog, &principal, limits, declared).unwrap();
    decided[0].guarded.text().to_owned()
}

#[test]
fn a_cast_that_a_foreign_row_can_make_fail_is_shielded() {
    // `int = oid` casts to oid: "OID out of range" would tell of the row.
    for condition in [
        "CASE WHEN secret = 'x' THEN 5000000000 ELSE 1 END = '5'::oid",
        "CASE WHEN secret = 'x' THEN 5000000000 ELSE 1 END IN ('5'::oid, '6'::oid)",
        "credit BETWEEN '1'::oid AND '2'::oid",
        "credit = ANY (ARRAY['5'::oid])",
        "secret = 'x' OR credit = ('y'::text)::int4",
        "secret = 'x' OR ('z'::text)::timestamptz IS NULL",
        "secret = 'x' OR (now() - '300000 years'::interval) IS NULL",
        "secret = 'x' OR clock_timestamp() IS NULL",
        "md5(secret) = 'x'",
        "CASE WHEN secret = 'x' THEN 5000000000 ELSE 1 END IN (SELECT '5'::oid)",
        "coalesce(ARRAY[1], ARRAY['1'::oid]) IS NULL",
    ] {
        let sent = sent(&format!("SELECT id FROM customers WHERE {condition}"));
        assert!(sent.contains("CASE WHEN \"customers\".\"tenant_id\" = "), "{sent}");
    }
    for condition in [
        "credit = 5",
        "credit IN (5, 6)",
        "credit = ANY (ARRAY[5, 6])",
        "'x' = secret",
        "credit IN (SELECT 5)",
        "id IN (SELECT o.customer_id FROM orders o WHERE o.note = 'x')",
        "(now() - '30 days'::interval) IS NULL",
        "lower(secret) = 'x'",
        "data @> '{}'",
        "data ? 'x'",
    ] {
        let sent = sent(&format!("SELECT id FROM customers WHERE {condition}"));
        assert!(!sent.contains("CASE"), "{sent}");
    }
}

#[test]
fn a_parameter_counts_as_total_only_where_its_type_is_certain() {
    use super::totality::Parameter::{Foreign, Open, Typed};
    let shielded = |condition: &str, declared: &[super::totality::Parameter]| {
        let sql = format!("SELECT id FROM customers WHERE {condition}");
        sent_prepared(&sql, declared).contains("CASE")
    };
    for declared in [&[][..], &[Open], &[Typed("int8")], &[Typed("int4")], &[Typed("numeric")]] {
        assert!(!shielded("credit = $1", declared), "{declared:?}");
        assert!(!shielded("credit = ANY (ARRAY[$1])", declared), "{declared:?}");
    }
    for declared in [&[Typed("oid")], &[Foreign(0)], &[Typed("text")]] {
        assert!(shielded("credit = $1", declared), "{declared:?}");
        assert!(shielded("credit IN ($1, $2)", declared), "{declared:?}");
        assert!(shielded("credit = ANY (ARRAY[$1])", declared), "{declared:?}");
        assert!(shielded("credit = $1::int4", declared), "{declared:?}");
    }
    assert!(shielded("credit = ANY ($1)", &[Typed("_oid")]));
    assert!(!shielded("credit = ANY ($1)", &[Typed("_int8")]));
    assert!(!shielded("credit = $1::int4 AND id = $1::int4", &[]));
    assert!(shielded("$1::oid IS NULL AND credit = $1", &[]), "$1 is an oid");
    assert!(!shielded("email = $1 AND name = $1", &[]));
    assert!(
        !sent("PREPARE p (int8) AS SELECT id FROM customers WHERE credit = $1").contains("CASE")
    );
    assert!(sent("PREPARE p (oid) AS SELECT id FROM customers WHERE credit = $1").contains("CASE"));
}

#[test]
fn what_a_schema_defines_in_place_of_a_built_in_is_not_total() {
    let policy = {
        let mut policy = policy();
        policy.functions.insert(("public".to_owned(), "lower".to_owned()));
        policy
    };
    let mut catalog = catalog();
    let sent = |catalog: &Catalog, condition: &str| {
        let sql = format!("SELECT id FROM customers WHERE {condition}");
        let limits = Limits::default();
        let decided = super::decide(&sql, &policy, catalog, &principal(), limits).unwrap();
        decided[0].guarded.text().to_owned()
    };
    assert!(!sent(&catalog, "lower(email) = 'x'").contains("CASE"));
    assert!(!sent(&catalog, "data @> '{}' AND name = 'x'").contains("CASE"));
    catalog.functions.push(crate::catalog::Function {
        schema: "public".to_owned(),
        name: "lower".to_owned(),
        security_definer: false,
        language: "plpgsql".to_owned(),
        hidden: false,
    });
    assert!(sent(&catalog, "lower(email) = 'x'").contains("CASE"));
    assert!(!sent(&catalog, "pg_catalog.lower(email) = 'x'").contains("CASE"));
    catalog.user_operators.insert("@>".to_owned());
    assert!(sent(&catalog, "data @> '{}'").contains("CASE"));
    let name = RelationName::new("public", "customers");
    catalog.unsteady_columns.entry(name).or_default().insert("name".to_owned());
    assert!(sent(&catalog, "name = 'x'").contains("CASE"));
}
