//! What is sent for which text; what is denied.

mod reviews;

use super::*;
use crate::claims::{Claims, TenantClaim};
use crate::ids::PolicyEpoch;

const POLICY: &str = r#"
engine: bigquery
tenant: {column: tenant_id, type: text}
tables:
  acme-prod.app.customers: {tenant: tenant_id}
  acme-prod.app.orders: {tenant: tenant_id}
  acme-prod.app.order_items: {tenant_through: {order_id: acme-prod.app.orders.id}}
  acme-prod.app.currencies: shared
  acme-prod.app.secrets: deny
  "acme-prod.app.events_*": {tenant: tenant_id}
  acme-prod.app.events: {tenant: tenant_id}
  acme-prod.archive.customers: {tenant: org}
  acme-prod.app.people:
    tenant: tenant_id
    columns:
      email: {mask: "CONCAT(SUBSTR(email, 1, 1), '***')", unless: {claim: role, in: [admin]}}
      hash: deny
  acme-prod.app.regional: {tenant: tenant_id, where: "region = claim('region')"}
  acme-prod.secure.view: {tenant: tenant_id}
functions: {allow: [acme-prod.udfs.pure]}
datasets:
  "acme-prod.own_*": dataset_per_tenant
  acme-prod.secure: secure_context
"#;

fn policy() -> BigQueryPolicy {
    crate::policy::load::compile(&[("p.yaml", POLICY)], PolicyEpoch(1)).unwrap().bigquery
}

fn place() -> Place {
    Place {
        project: "acme-prod".into(),
        default_dataset: Some(("acme-prod".into(), "app".into())),
        session: false,
    }
}

fn decided(text: &str) -> Result<Decided, Denial> {
    let claims = serde_json::json!({"region": "eu"}).as_object().unwrap().clone();
    let principal = Principal::assumed(Some(TenantClaim::Text("tenant-a".into())), Claims(claims));
    decide(text, &policy(), &principal, &place(), Limits::default())
}

fn sent(text: &str) -> String {
    match decided(text) {
        Ok(decided) => decided.guarded.text().to_owned(),
        Err(denial) => format!("{denial}"),
    }
}

fn code(text: &str) -> Option<DenialCode> {
    decided(text).err().map(|denial| denial.code)
}

#[test]
fn queries_are_bound_in_every_position() {
    let texts = [
        "SELECT secret FROM app.customers WHERE TRUE OR id = 1",
        "SELECT c.secret, o.note FROM app.customers c FULL JOIN app.orders o ON o.customer_id = c.id",
        "SELECT t FROM app.customers c, c.tags t",
        "SELECT secret FROM app.customers EXCEPT DISTINCT SELECT secret FROM app.customers WHERE id < 0",
        "SELECT ARRAY(SELECT secret FROM app.customers), (SELECT MAX(secret) FROM customers)",
        "SELECT secret FROM app.customers QUALIFY ROW_NUMBER() OVER (ORDER BY id DESC) = 1",
        "SELECT * FROM app.customers PIVOT(SUM(credit) FOR name IN ('Bob','Ann'))",
        "FROM app.customers |> WHERE id > 0 |> SELECT secret",
        "WITH RECURSIVE customers AS (SELECT secret FROM app.customers UNION ALL SELECT secret FROM customers WHERE FALSE) SELECT secret FROM customers",
        "WITH customers AS (SELECT * FROM customers) SELECT * FROM customers",
        "SELECT * EXCEPT (tenant_id) REPLACE ('tenant-a' AS name) FROM app.customers",
        "SELECT secret FROM app.order_items",
        "SELECT secret FROM `acme-prod.app.customers`",
        "SELECT secret FROM acme-prod.app.customers",
        "SELECT payload FROM `acme-prod.app.events_*`",
        "SELECT payload FROM app.events_20260101",
        "SELECT secret FROM app.customers FOR SYSTEM_TIME AS OF TIMESTAMP_SUB(CURRENT_TIMESTAMP(), INTERVAL 1 HOUR)",
        "SELECT _PARTITIONTIME, payload FROM app.events WHERE _PARTITIONTIME > TIMESTAMP '2026-01-01' AND PARSE_DATE('%Y', payload) IS NULL",
        "SELECT id FROM app.customers WHERE id = 101 AND CAST(secret AS INT64) = 1",
        "SELECT * FROM app.people",
        "SELECT * FROM app.regional AS r",
        "SELECT * FROM app.currencies",
        "SELECT * FROM secure.view",
        "SELECT secret FROM archive.customers",
        "SELECT * FROM own_tenant_a.t",
    ];
    let shown: Vec<String> =
        texts.iter().map(|text| format!("{text}\n    {}", sent(text))).collect();
    insta::assert_snapshot!(shown.join("\n"));
}

#[test]
fn writes_are_bound() {
    let texts = [
        "UPDATE app.customers SET name = 'x' WHERE TRUE",
        "UPDATE app.customers c SET name = o.note FROM app.orders o WHERE o.customer_id = c.id AND CAST(c.secret AS INT64) = 1",
        "UPDATE app.customers SET tenant_id = 'tenant-b' WHERE id = 1",
        "DELETE FROM app.customers WHERE TRUE",
        "DELETE app.order_items WHERE sku = 'x'",
        "INSERT INTO app.customers (id, name) VALUES (1, 'x'), (2, 'y')",
        "INSERT INTO app.customers (tenant_id, id) VALUES ('tenant-a', 1)",
        "INSERT INTO app.customers (tenant_id, id) VALUES ('tenant-b', 1)",
        "INSERT INTO app.customers (tenant_id, id) VALUES (@t, 1)",
        "INSERT INTO app.customers (id) SELECT id FROM app.orders",
        "INSERT INTO app.customers (tenant_id, id) SELECT tenant_id, id FROM app.orders",
        "INSERT INTO app.customers VALUES ('tenant-a', 1)",
        "INSERT INTO app.currencies (code) VALUES ('x')",
        "MERGE app.customers T USING (SELECT 1 AS id) S ON T.id = S.id WHEN NOT MATCHED THEN INSERT (tenant_id, id) VALUES ('tenant-b', 901)",
        "MERGE app.customers T USING app.orders S ON T.id = S.customer_id WHEN MATCHED THEN UPDATE SET name = S.note WHEN NOT MATCHED THEN INSERT (id, name) VALUES (S.id, S.note) WHEN NOT MATCHED BY SOURCE THEN DELETE",
        "MERGE app.customers T USING app.customers S ON FALSE WHEN NOT MATCHED THEN INSERT ROW",
        "CREATE OR REPLACE TABLE own_tenant_a.t AS SELECT * FROM app.customers",
        "CREATE OR REPLACE TABLE app.customers AS SELECT * FROM app.customers",
        "CREATE TEMP TABLE t AS SELECT * FROM app.customers; SELECT secret FROM t",
        "DECLARE s STRING DEFAULT (SELECT STRING_AGG(secret) FROM app.customers); SELECT s",
        "DROP TABLE IF EXISTS own_tenant_a.t",
        "DROP TABLE app.customers",
    ];
    let shown: Vec<String> =
        texts.iter().map(|text| format!("{text}\n    {}", sent(text))).collect();
    insta::assert_snapshot!(shown.join("\n"));
}

#[test]
fn what_cannot_be_bound_is_denied() {
    use DenialCode::*;
    for (text, expected) in [
        ("SELECT * FROM app.unknown", UnknownRelation),
        ("SELECT * FROM app.secrets", RelationDenied),
        ("SELECT * FROM own_tenant_b.t", RelationDenied),
        ("SELECT secret FROM `acme-prod.app.CUSTOMERS`", UnknownRelation),
        ("SELECT DISTINCT _TABLE_SUFFIX FROM `acme-prod.app.*`", UnknownRelation),
        ("SELECT table_name FROM app.INFORMATION_SCHEMA.TABLES", Catalog),
        ("SELECT query FROM `region-us`.INFORMATION_SCHEMA.JOBS_BY_PROJECT", Catalog),
        ("SELECT row_count FROM app.__TABLES__", Catalog),
        ("EXECUTE IMMEDIATE 'SELECT secret FROM app.customers'", StatementKind),
        ("CALL app.export_all()", StatementKind),
        ("TRUNCATE TABLE app.customers", StatementKind),
        ("SELECT app.get_secret(1)", Function),
        ("SELECT * FROM EXTERNAL_QUERY('us.prod-pg', 'SELECT 1')", Function),
        ("SELECT @@project_id", ProtectedSetting),
        ("SET @@dataset_id = 'archive'", ProtectedSetting),
        ("CREATE SNAPSHOT TABLE app.s CLONE app.customers", StatementKind),
        ("CREATE TABLE own_tenant_a.c CLONE app.customers", StatementKind),
        ("CREATE TABLE own_tenant_a.c LIKE app.customers", StatementKind),
    ] {
        assert_eq!(code(text), Some(expected), "{text}: {}", sent(text));
    }
    for text in [
        "SELECT secret FROM APPENDS(TABLE app.customers, NULL, NULL)",
        "SELECT payload FROM `acme-prod.app.events$20260101`",
        "SELECT * FROM ML.PREDICT(MODEL app.churn, TABLE app.customers)",
        "EXPORT DATA OPTIONS(uri='gs://x/*', format='CSV') AS SELECT * FROM app.customers",
        "CREATE FUNCTION own_tenant_a.f() AS ((SELECT 1))",
        "BEGIN SELECT 1; END",
        "",
        ";",
    ] {
        assert!(code(text).is_some(), "{text}: {}", sent(text));
    }
}

#[test]
fn routines_are_called_where_the_policy_allows_them_by_name() {
    for text in [
        "SELECT `acme-prod.udfs.pure`(id) FROM app.customers",
        "SELECT `acme-prod`.udfs.pure(id) FROM app.customers",
        "SELECT udfs.pure(id) FROM app.customers",
        "SELECT udfs.pure(id).x FROM app.customers",
        "SELECT `acme-prod`.udfs.pure(id)[OFFSET(0)].y.z FROM app.customers",
        // Chained to a value: a function of the service's.
        "SELECT c.tags[OFFSET(0)].lower(), (c.secret).lower() FROM app.customers AS c",
    ] {
        assert_eq!(code(text), None, "{text}: {}", sent(text));
    }
    for text in [
        "SELECT pure(1)",
        "SELECT udfs.other(1)",
        "SELECT udfs.PURE(1)",
        "SELECT `other.udfs.pure`(1)",
        "SELECT SAFE.udfs.pure(1)",
        "SELECT net.my_routine(1)",
        // A field of what a routine returns: the whole of its name counts, not the last word.
        "SELECT udfs.other(1).x",
        "SELECT app.lower(secret).x FROM app.customers",
        "SELECT other.app.lower(secret).x FROM app.customers",
        "SELECT `other.app`.lower(secret).x FROM app.customers",
        "SELECT app.lower(secret)[OFFSET(0)] FROM app.customers",
        "SELECT app.lower(secret).x.upper(1) FROM app.customers",
        "SELECT app.current_date().x",
        "SELECT app.lower(secret).x.* FROM app.customers",
        "SELECT 1 FROM app.customers GROUP BY app.lower(secret).x",
        "FROM app.customers |> AGGREGATE COUNT(*) GROUP BY app.lower(secret).x AS y",
        "SELECT * FROM UNNEST(app.split('x').y)",
        "SELECT 1 FROM app.customers WHERE app.if(TRUE, 1, 2).x = 1",
    ] {
        assert_eq!(code(text), Some(DenialCode::Function), "{text}: {}", sent(text));
    }
}

#[test]
fn a_pseudo_column_of_a_join_binds_the_first_table_in_where() {
    let text = sent(
        "SELECT e.id, p FROM `acme-prod.app.events_*` AS e, UNNEST(e.params) AS p \
         WHERE _TABLE_SUFFIX > '2026' AND CAST(e.payload AS INT64) = 1",
    );
    assert!(text.contains("WHERE `e`.`tenant_id` = 'tenant-a' AND ("), "{text}");
    assert!(text.contains("IF(`e`.`tenant_id` = 'tenant-a', CAST("), "{text}");
    let two = sent(
        "SELECT o.id FROM `acme-prod.app.events_*` AS e JOIN app.orders AS o ON o.id = e.id \
         WHERE e._TABLE_SUFFIX > '2026'",
    );
    assert!(
        two.contains("FROM `acme-prod`.`app`.`orders` WHERE `orders`.`tenant_id` = 'tenant-a'"),
        "{two}"
    );
    for text in [
        // The join would make rows of the first table out of nothing, or keep the other's.
        "SELECT o.id FROM app.events AS e RIGHT JOIN app.orders AS o ON o.id = e.id WHERE _PARTITIONTIME IS NULL",
        "SELECT o.id FROM app.events AS e FULL JOIN app.orders AS o ON o.id = e.id WHERE _PARTITIONTIME IS NULL",
        // An array of other tenants' rows would be computed.
        "SELECT p FROM app.events AS e, UNNEST(GENERATE_ARRAY(1, DIV(1, e.id))) AS p WHERE _PARTITIONTIME IS NULL",
    ] {
        assert_eq!(code(text), Some(DenialCode::LeakPossible), "{text}: {}", sent(text));
    }
}

/// Conditions that BigQuery may move below the one that binds the table, with what must be sent of them.
const SHIELDED: &[(&str, &str)] = &[
    (
        "SELECT * FROM (SELECT credit FROM app.customers) AS s WHERE 1 / (s.credit - 105007) > 0",
        "SELECT * EXCEPT (`hedgerow_guard`) FROM (SELECT credit, `customers`.`tenant_id` = 'tenant-a' AS `hedgerow_guard` FROM (SELECT * FROM `acme-prod`.`app`.`customers` WHERE `customers`.`tenant_id` = 'tenant-a') AS `customers`) AS s WHERE IF(`s`.`hedgerow_guard`, 1 / (s.credit - 105007) > 0, FALSE)",
    ),
    (
        "SELECT credit FROM (SELECT credit FROM app.customers) WHERE 1 / (credit - 105007) > 0",
        "AS hedgerow_source_1 WHERE IF(`hedgerow_source_1`.`hedgerow_guard`, 1 / ",
    ),
    (
        "WITH s AS (SELECT credit FROM app.customers) SELECT credit FROM s WHERE CAST(credit AS STRING) = 'x' AND credit > 1",
        "WHERE IF(`s`.`hedgerow_guard`, CAST(credit AS STRING) = 'x', FALSE) AND credit > 1",
    ),
    // The outer condition cannot fail; what it reads can.
    (
        "SELECT y FROM (SELECT 1 / (credit - 105007) AS y, id FROM app.customers) AS s WHERE y > 3 AND id > 1",
        "SELECT y FROM (SELECT IF(`customers`.`tenant_id` = 'tenant-a', 1 / (credit - 105007), NULL) AS y, id, `customers`",
    ),
    (
        "SELECT a.id FROM (SELECT 1 / credit AS y, id FROM app.customers) AS a JOIN app.orders AS o USING (y)",
        "(SELECT IF(`customers`.`tenant_id` = 'tenant-a', 1 / credit, NULL) AS y, id, ",
    ),
    (
        "WITH a AS (SELECT *, 1 / credit AS y FROM app.customers), b AS (SELECT * FROM a) SELECT id FROM b WHERE b.y > 3",
        "b AS (SELECT * EXCEPT (`hedgerow_guard`), `a`.`hedgerow_guard` AS `hedgerow_guard` FROM a) SELECT id FROM b WHERE b.y > 3",
    ),
    (
        "SELECT k FROM (SELECT credit AS k, COUNT(*) AS n FROM app.customers GROUP BY credit) AS s WHERE 1 / (k - 105007) > 0",
        "COALESCE(LOGICAL_AND(`customers`.`tenant_id` = 'tenant-a'), TRUE) AS `hedgerow_guard`",
    ),
    (
        "SELECT k FROM (SELECT o.id AS k, COUNT(*) AS n FROM app.currencies AS x LEFT JOIN app.orders AS o ON o.code = x.code GROUP BY o.id) AS s WHERE 1 / (k - 5) > 0",
        "COALESCE(LOGICAL_AND(COALESCE(`o`.`tenant_id` = 'tenant-a', TRUE)), TRUE) AS `hedgerow_guard`",
    ),
    (
        "SELECT n FROM (SELECT 1 / credit AS y, COUNT(*) AS n FROM app.customers GROUP BY y) AS s JOIN app.orders AS o USING (y)",
        "(SELECT IF(`customers`.`tenant_id` = 'tenant-a', 1 / credit, NULL) AS y, COUNT(*) AS n, COALESCE(",
    ),
    (
        "SELECT x FROM (SELECT credit AS x FROM app.customers UNION ALL SELECT 1 / id FROM app.orders) AS s WHERE x > 1",
        "1 / id, `orders`.`tenant_id` = 'tenant-a' AS `hedgerow_guard`",
    ),
    // BETWEEN and IN are comparisons that may be taken apart, and a name in backticks is the same name.
    (
        "SELECT 1 FROM app.customers GROUP BY credit HAVING 1 / (credit - 5) BETWEEN 0 AND COUNT(*)",
        "HAVING IF(COALESCE(LOGICAL_AND(`customers`.`tenant_id` = 'tenant-a'), TRUE), 1 / (credit - 5) BETWEEN 0 AND COUNT(*), FALSE)",
    ),
    (
        "SELECT 1 FROM app.customers GROUP BY credit HAVING 1 / (credit - 5) IN (1, COUNT(*))",
        "HAVING IF(COALESCE(LOGICAL_AND(`customers`.`tenant_id` = 'tenant-a'), TRUE), 1 / (credit - 5) IN (1, COUNT(*)), FALSE)",
    ),
    (
        "SELECT 1 FROM app.customers GROUP BY credit HAVING `coalesce`(1 / (credit - 5), COUNT(*)) > 0",
        "HAVING IF(COALESCE(LOGICAL_AND(`customers`.`tenant_id` = 'tenant-a'), TRUE), `coalesce`(1 / (credit - 5), COUNT(*)) > 0, FALSE)",
    ),
    // An aggregate that a choice may leave out keeps nothing above the guard.
    (
        "SELECT 1 FROM app.customers GROUP BY credit HAVING IF(COUNT(*) > 1, 1 / (credit - 5), 0) > 0",
        "HAVING IF(COALESCE(LOGICAL_AND(`customers`.`tenant_id` = 'tenant-a'), TRUE), IF(COUNT(*) > 1, 1 / (credit - 5), 0) > 0, FALSE)",
    ),
    (
        "SELECT name FROM app.customers GROUP BY name, credit HAVING 1 / (credit - 105007) > 0 AND COUNT(*) / 2 > 1",
        "HAVING IF(COALESCE(LOGICAL_AND(`customers`.`tenant_id` = 'tenant-a'), TRUE), 1 / (credit - 105007) > 0, FALSE) AND COUNT(*) / 2 > 1",
    ),
    (
        "SELECT name FROM app.customers WHERE TRUE QUALIFY 1 / (credit - 105007) > 0 AND ROW_NUMBER() OVER (PARTITION BY credit) = 1",
        "QUALIFY IF(`customers`.`tenant_id` = 'tenant-a', 1 / (credit - 105007) > 0, FALSE) AND ROW_NUMBER()",
    ),
    (
        "SELECT sku FROM app.order_items AS i WHERE CAST(i.secret AS INT64) = 1",
        "WHERE IF(`i`.`hedgerow_guard`, CAST(i.secret AS INT64) = 1, FALSE)",
    ),
    (
        "SELECT * FROM app.regional WHERE CAST(secret AS INT64) = 1",
        "SELECT * EXCEPT (`hedgerow_guard`) FROM (SELECT *, `regional`.`tenant_id` = 'tenant-a' AND (`regional`.region = ('eu')) AS `hedgerow_guard` FROM",
    ),
    // A name that shadows itself is no recursion.
    (
        "WITH RECURSIVE c AS (WITH c AS (SELECT credit FROM app.customers) SELECT credit FROM c) SELECT id FROM app.orders AS o WHERE 1 / o.id > 0",
        "WHERE IF(`o`.`tenant_id` = 'tenant-a', 1 / o.id > 0, FALSE)",
    ),
    (
        "SELECT u FROM app.customers AS c, UNNEST([1 / c.credit]) AS u WHERE u > 3",
        "WHERE IF(`c`.`tenant_id` = 'tenant-a', u > 3, FALSE)",
    ),
    // What has no name leaves a trace: a `*`, a set operation or a whole row may hand it on.
    (
        "SELECT id FROM (SELECT *, 1 AS k FROM app.customers UNION ALL SELECT *, CAST(secret AS INT64) FROM app.customers) WHERE k = 1",
        "WHERE IF(`hedgerow_source_1`.`hedgerow_guard`, k = 1, FALSE)",
    ),
    (
        "SELECT k FROM (SELECT 1 AS id, 2 AS k UNION ALL SELECT * FROM (SELECT id, 1 / (credit - 5) FROM app.customers)) WHERE k > 0",
        "WHERE IF(`hedgerow_source_1`.`hedgerow_guard`, k > 0, FALSE)",
    ),
    // Fields of a value have names of their own.
    (
        "SELECT k FROM (SELECT s.* FROM (SELECT STRUCT(1 / (credit - 5) AS k) AS s FROM app.customers)) WHERE k > 0",
        "(SELECT IF(`customers`.`tenant_id` = 'tenant-a', STRUCT(1 / (credit - 5) AS k), NULL) AS s, ",
    ),
    (
        "SELECT k FROM (SELECT d.s.* FROM (SELECT DISTINCT STRUCT(1 / (credit - 5) AS k) AS s FROM app.customers) AS d) WHERE k > 0",
        "WHERE IF(`hedgerow_source_1`.`hedgerow_guard`, k > 0, FALSE)",
    ),
    (
        "SELECT 1 FROM (SELECT DISTINCT [STRUCT(1 / (credit - 5) AS k)] AS arr FROM app.customers) AS d, UNNEST(d.arr) AS x WHERE k > 0",
        "WHERE IF(`d`.`hedgerow_guard`, k > 0, FALSE)",
    ),
    (
        "SELECT x FROM (SELECT DISTINCT [1 / (credit - 5)] AS arr FROM app.customers) AS d, d.arr AS x WHERE x > 0",
        "WHERE IF(`d`.`hedgerow_guard`, x > 0, FALSE)",
    ),
    (
        "SELECT d.* FROM (SELECT d.*, o.note FROM (SELECT DISTINCT 1 / (credit - 5) AS k, id FROM app.customers) AS d JOIN app.orders AS o USING (id)) AS d WHERE id > 0 AND k > 0",
        "WHERE id > 0 AND IF(`d`.`hedgerow_guard`, k > 0, FALSE)",
    ),
    // What is compared with a query's rows is a condition on them, in the end.
    (
        "SELECT 1 FROM own_tenant_a.t AS t WHERE 3.0 IN (SELECT 1 / (c.credit - 5) FROM app.customers AS c)",
        "IN (SELECT IF(`c`.`tenant_id` = 'tenant-a', 1 / (c.credit - 5), NULL) FROM",
    ),
    (
        "SELECT 1 FROM own_tenant_a.t AS t WHERE 3.0 = (SELECT 1 / (c.credit - 5) AS x FROM app.customers AS c LIMIT 1)",
        "= (SELECT IF(`c`.`tenant_id` = 'tenant-a', 1 / (c.credit - 5), NULL) AS x FROM",
    ),
    (
        "SELECT 1 FROM own_tenant_a.t AS t WHERE 3.0 IN (SELECT y FROM (SELECT 1 / (credit - 5) AS y FROM app.customers) AS s)",
        "IN (SELECT y FROM (SELECT IF(`customers`.`tenant_id` = 'tenant-a', 1 / (credit - 5), NULL) AS y, ",
    ),
    (
        "SELECT 1 / (credit - 5) FROM app.customers EXCEPT DISTINCT SELECT 3.0",
        "SELECT IF(`customers`.`tenant_id` = 'tenant-a', 1 / (credit - 5), NULL) FROM",
    ),
    (
        "SELECT 3.0 AS x INTERSECT DISTINCT SELECT 1 / (credit - 5) FROM app.customers",
        "SELECT IF(`customers`.`tenant_id` = 'tenant-a', 1 / (credit - 5), NULL) FROM",
    ),
    // A query in UNNEST may ask of rows of the tables before it.
    (
        "SELECT 1 FROM app.customers AS c, UNNEST(ARRAY(SELECT 1 FROM UNNEST([1]) AS z WHERE 1 / (c.credit - 5) > 0)) AS x",
        "UNNEST(IF(`c`.`tenant_id` = 'tenant-a', ARRAY(SELECT 1 FROM UNNEST([1]) AS z WHERE IF(`c`.`tenant_id` = 'tenant-a', 1 / (c.credit - 5) > 0, false)), NULL)) AS x",
    ),
    (
        "SELECT 1 FROM (SELECT credit FROM app.customers) AS c, UNNEST(ARRAY(SELECT 1 FROM UNNEST([1]) AS z WHERE 1 / (c.credit - 5) > 0)) AS x",
        "UNNEST(IF(`c`.`hedgerow_guard`, ARRAY(SELECT 1 FROM",
    ),
    (
        "SELECT payload FROM `acme-prod.app.events_*` WHERE CAST(payload AS INT64) = 1",
        "AS hedgerow_source_1 WHERE IF(`hedgerow_source_1`.`tenant_id` = 'tenant-a', CAST(payload",
    ),
    (
        "SELECT c.* FROM app.customers AS c LEFT JOIN (SELECT CAST(note AS INT64) AS k FROM app.orders) AS o ON o.k = CAST(c.secret AS INT64)",
        "ON o.k = IF(COALESCE(`c`.`tenant_id` = 'tenant-a', TRUE), CAST(c.secret AS INT64), NULL)",
    ),
    (
        "SELECT * FROM secure.view AS v WHERE 1 / (v.credit - 105007) > 0",
        "WHERE IF(`v`.`tenant_id` = 'tenant-a', 1 / (v.credit - 105007) > 0, FALSE)",
    ),
    (
        "UPDATE own_tenant_a.t AS t SET x = 1 FROM app.customers AS c WHERE 1 / (c.credit - 105007) > 0",
        "WHERE IF(`c`.`tenant_id` = 'tenant-a', 1 / (c.credit - 105007) > 0, FALSE)",
    ),
    (
        "MERGE own_tenant_a.t AS t USING app.customers AS c ON t.id = c.id WHEN NOT MATCHED AND 1 / (c.credit - 105007) > 0 THEN INSERT ROW",
        "WHEN NOT MATCHED AND IF(`c`.`tenant_id` = 'tenant-a', 1 / (c.credit - 105007) > 0, FALSE) THEN INSERT ROW",
    ),
];

#[test]
fn conditions_that_may_fail_are_shielded_wherever_they_may_be_moved_from() {
    for (text, part) in SHIELDED {
        let sent = sent(text);
        let same = sent.to_ascii_lowercase().contains(&part.to_ascii_lowercase());
        assert!(same, "{text}\n{sent}\n{part}");
    }
}

#[test]
fn conditions_that_cannot_fail_or_cannot_be_moved_stay_as_they_are() {
    for text in [
        "SELECT * FROM (SELECT id FROM app.customers) AS s WHERE s.id > 3",
        "SELECT * FROM (SELECT id, ROW_NUMBER() OVER (ORDER BY id) AS rn FROM app.customers) AS s WHERE s.rn = 1",
        "SELECT * FROM (SELECT name, SUM(IF(credit > 1, 1, 0)) / 2 AS n FROM app.customers GROUP BY name) AS s WHERE s.n > 3",
        "SELECT * FROM (SELECT 1 / rate AS r FROM app.currencies) AS s WHERE 1 / s.r > 3",
        "WITH RECURSIVE r AS (SELECT id FROM app.customers UNION ALL SELECT id - 1 FROM r WHERE id / 2 > 1) SELECT id FROM r WHERE id > 1",
        "SELECT 1 / credit FROM app.customers WHERE id > 1 ORDER BY 1 / credit",
    ] {
        let sent = sent(text);
        assert!(!sent.contains("hedgerow") && !sent.contains("IF(`"), "{text}\n{sent}");
        assert!(sent.contains("= 'tenant-a'") || sent.contains("currencies"), "{sent}");
    }
}

#[test]
fn a_condition_that_may_fail_where_no_guard_reaches_is_denied() {
    for (text, neighbour) in [
        // A whole row would show the guard.
        (
            "SELECT TO_JSON_STRING(s) FROM (SELECT credit FROM app.customers) AS s WHERE 1 / s.credit > 0",
            "SELECT TO_JSON_STRING(s) FROM (SELECT credit FROM app.customers) AS s WHERE s.credit > 0",
        ),
        (
            "WITH s AS (SELECT credit FROM app.customers) SELECT TO_JSON_STRING(s) FROM s WHERE 1 / s.credit > 0",
            "WITH s AS (SELECT credit FROM app.customers) SELECT TO_JSON_STRING(s) FROM s WHERE s.credit > 0",
        ),
        (
            "FROM app.customers |> SELECT credit |> WHERE 1 / credit > 0",
            "FROM app.customers |> WHERE 1 / credit > 0 |> SELECT credit |> WHERE credit > 0",
        ),
        (
            "FROM app.customers |> SELECT 1 / credit AS y |> WHERE y > 0",
            "FROM app.customers |> SELECT credit AS y |> WHERE y > 0",
        ),
        (
            "FROM (SELECT credit FROM app.customers) AS s |> WHERE 1 / s.credit > 0",
            "FROM (SELECT credit FROM app.customers) AS s |> WHERE s.credit > 0",
        ),
        (
            "SELECT * FROM app.customers PIVOT(SUM(credit) FOR name IN ('Bob')) WHERE 1 / id > 0",
            "SELECT * FROM app.customers PIVOT(SUM(credit) FOR name IN ('Bob')) WHERE id > 0",
        ),
        (
            "SELECT * FROM (SELECT DISTINCT 1 / credit AS y FROM app.customers) AS a JOIN app.orders AS o USING (y)",
            "SELECT * FROM (SELECT credit AS y FROM app.customers) AS a JOIN app.orders AS o USING (y)",
        ),
        (
            "WITH RECURSIVE c AS (WITH c AS (SELECT credit FROM app.customers) SELECT credit FROM c) SELECT * FROM c WHERE 1 / c.credit > 0",
            "WITH RECURSIVE c AS (WITH c AS (SELECT credit FROM app.customers) SELECT credit FROM c) SELECT * FROM c WHERE c.credit > 0",
        ),
        // Columns are matched by name: the second's `b` is the first's.
        (
            "SELECT b FROM (SELECT 1 AS a, id AS b FROM app.customers UNION ALL BY NAME SELECT 1 / credit AS b, 2 AS a FROM app.customers) AS s WHERE b > 1",
            "SELECT b FROM (SELECT 1 AS a, id AS b FROM app.customers UNION ALL BY NAME SELECT 1 / credit AS b, 2 AS a FROM app.customers) AS s WHERE a > 1",
        ),
        (
            "SELECT 1 FROM (SELECT id, 1 / (credit - 5) FROM app.customers) t JOIN (SELECT 1, 2.0) u ON t = u",
            "SELECT 1 FROM (SELECT id, credit FROM app.customers) t JOIN (SELECT 1, 2.0) u ON t = u",
        ),
        (
            "SELECT k FROM (SELECT AS VALUE STRUCT(1 / (credit - 5) AS k) FROM app.customers) WHERE k > 0",
            "SELECT k FROM (SELECT AS VALUE STRUCT(1 / (credit - 5) AS k) FROM app.currencies) WHERE k > 0",
        ),
        (
            "SELECT k FROM (SELECT AS VALUE s FROM (SELECT DISTINCT STRUCT(1 / (credit - 5) AS k) AS s FROM app.customers)) WHERE k > 0",
            "SELECT id FROM (SELECT AS STRUCT id FROM app.customers) WHERE id > 0",
        ),
        (
            "FROM app.customers |> EXTEND 1 / (credit - 5) AS k |> RENAME k AS j |> WHERE j > 0",
            "FROM app.customers |> EXTEND credit AS k |> RENAME k AS j |> WHERE j > 0",
        ),
        (
            "FROM app.customers |> EXTEND 1 / (credit - 5) AS k |> AS t |> WHERE t = t",
            "FROM app.customers |> EXTEND 1 / (credit - 5) AS k |> AS t |> WHERE id = 1",
        ),
        (
            "FROM app.customers |> EXTEND 1 / (credit - 5) |> AS t |> WHERE t = t",
            "FROM app.customers |> EXTEND 1 / (credit - 5) |> WHERE id = 1",
        ),
        (
            "FROM app.customers |> SELECT STRUCT(1 / (credit - 5) AS k) AS s |> SELECT s.* |> WHERE k > 0",
            "FROM app.customers |> SELECT STRUCT(1 / (credit - 5) AS k) AS s, id |> SELECT id |> WHERE id > 0",
        ),
        // Rows that a query in an expression hands on: their guard is not seen above.
        (
            "SELECT 1 FROM UNNEST(ARRAY(SELECT credit FROM app.customers)) AS k WHERE 1 / (k - 5) > 0",
            "SELECT 1 FROM UNNEST(ARRAY(SELECT credit FROM app.customers)) AS k WHERE k > 0",
        ),
        (
            "SELECT 1 FROM UNNEST(ARRAY(SELECT AS STRUCT credit FROM app.customers)) AS k WHERE 1 / (k.credit - 5) > 0",
            "SELECT 1 FROM UNNEST(ARRAY(SELECT AS STRUCT credit FROM app.customers)) AS k WHERE k.credit > 0",
        ),
        (
            "SELECT 1 FROM (SELECT ARRAY(SELECT credit FROM app.customers) AS a) AS d, d.a AS x WHERE 1 / (x - 5) > 0",
            "SELECT 1 FROM (SELECT ARRAY_AGG(credit) AS a FROM app.customers) AS d, d.a AS x WHERE 1 / (x - 5) > 0",
        ),
        (
            "SELECT 1 FROM (SELECT (SELECT AS STRUCT credit AS k FROM app.customers LIMIT 1) AS s) WHERE 1 / (s.k - 5) > 0",
            "SELECT 1 FROM (SELECT (SELECT SUM(credit) FROM app.customers) AS s) WHERE 1 / (s - 5) > 0",
        ),
        (
            "SELECT j FROM (SELECT 1 / (s.k - 5) AS j FROM (SELECT (SELECT AS STRUCT credit AS k FROM app.customers LIMIT 1) AS s)) WHERE j > 0",
            "SELECT j FROM (SELECT 1 / (s.k - 5) AS j FROM (SELECT (SELECT AS STRUCT rate AS k FROM app.currencies LIMIT 1) AS s)) WHERE j > 0",
        ),
        (
            "SELECT 1 FROM own_tenant_a.t AS t WHERE 1 / ((SELECT credit FROM app.customers LIMIT 1) - 5) > 0",
            "SELECT 1 FROM own_tenant_a.t AS t WHERE t.x = (SELECT credit FROM app.customers LIMIT 1)",
        ),
        (
            "UPDATE app.customers SET name = 'x' WHERE 1 / ((SELECT id FROM app.orders LIMIT 1) - 5) > 0",
            "UPDATE app.customers SET name = 'x' WHERE id IN UNNEST(ARRAY(SELECT customer_id FROM app.orders))",
        ),
        (
            "DELETE own_tenant_a.t WHERE 1 / ((SELECT credit FROM app.customers LIMIT 1) - 5) > 0",
            "DELETE own_tenant_a.t WHERE x IN (SELECT credit FROM app.customers)",
        ),
        (
            "FROM own_tenant_a.t |> EXTEND (SELECT credit FROM app.customers LIMIT 1) AS k |> WHERE 1 / (k - 5) > 0",
            "FROM own_tenant_a.t |> EXTEND (SELECT SUM(credit) FROM app.customers) AS k |> WHERE 1 / (k - 5) > 0",
        ),
        (
            "FROM own_tenant_a.t |> SELECT (SELECT credit FROM app.customers LIMIT 1) AS k |> SELECT 1 / (k - 5) AS j |> EXCEPT DISTINCT (SELECT 3.0)",
            "FROM own_tenant_a.t |> SELECT (SELECT SUM(credit) FROM app.customers) AS k |> SELECT k AS j |> EXCEPT DISTINCT (SELECT 3)",
        ),
        (
            "SELECT 1 FROM own_tenant_a.t AS t WHERE 3.0 IN (FROM app.customers |> SELECT 1 / (credit - 5) AS y)",
            "SELECT 1 FROM own_tenant_a.t AS t WHERE 3.0 IN (FROM app.customers |> SELECT credit AS y)",
        ),
        (
            "SELECT 1 / (credit - 5) AS y FROM app.customers GROUP BY 1 / (credit - 5) EXCEPT DISTINCT SELECT 3.0",
            "SELECT 1 / (credit - 5) AS y FROM app.customers GROUP BY y EXCEPT DISTINCT SELECT 3.0",
        ),
        (
            "SELECT hedgerow_guard FROM (SELECT credit FROM app.customers) AS s WHERE 1 / s.credit > 0",
            "SELECT hedgerow_guarded FROM (SELECT credit FROM app.customers) AS s WHERE s.credit > 0",
        ),
    ] {
        assert_eq!(code(text), Some(DenialCode::LeakPossible), "{text}: {}", sent(text));
        assert_eq!(code(neighbour), None, "{neighbour}: {}", sent(neighbour));
    }
}

#[test]
fn what_is_piped_is_shielded_too() {
    let text = sent("FROM app.customers |> WHERE CAST(secret AS INT64) = 1 |> SELECT id");
    assert!(text.contains("|> WHERE IF(`customers`.`tenant_id` = 'tenant-a', CAST("), "{text}");
}

#[test]
fn what_sqlparser_does_not_read_is_sent_in_other_words() {
    for (text, part) in [
        (r#"SELECT r"""a\"b""" FROM app.customers"#, r#"SELECT "a\\\"b" FROM (SELECT * FROM "#),
        (
            r"SELECT 1 FROM app.customers WHERE REGEXP_CONTAINS(name, r'^\\\'')",
            r#"IF(`customers`.`tenant_id` = 'tenant-a', REGEXP_CONTAINS(name, "^\\\\\\'"), false)"#,
        ),
        ("SELECT 1 FROM acme-prod.app.1_x", "HR1003 the relation is not known"),
        ("SELECT 1 FROM app.1_x", "HR1001 "),
        ("SELECT CAST(id AS STRING FORMAT ('9')), .5 FROM app.customers", "FORMAT '9'), 0.5 FROM"),
        ("SELECT CAST(x AS RANGE<DATE>) FROM app.customers", "CAST(x AS RANGE<DATE>) FROM"),
    ] {
        assert!(sent(text).contains(part), "{text}\n{}\n{part}", sent(text));
    }
    // What a literal hides stays hidden, and what it does not is seen.
    for text in [
        r"SELECT r'a\' || ' AS x UNION ALL SELECT s FROM app.secrets -- '",
        r"SELECT r'a\\' || x FROM app.secrets -- '",
    ] {
        let code = code(text);
        assert!(
            matches!(code, Some(DenialCode::CannotParse | DenialCode::RelationDenied)),
            "{text}: {code:?}"
        );
    }
}

#[test]
fn a_path_that_might_be_an_array_never_reads_a_table() {
    // `app` is a range variable here: BigQuery reads an array, and so does what is sent.
    let text = sent("SELECT * FROM app.currencies AS app, app.customers");
    assert!(text.contains("UNNEST(`app`.`customers`)"), "{text}");
}

#[test]
fn any_text_is_decided_without_fault() {
    let words = "SELECT |FROM |app.customers |WHERE |id = 1 |AND |(|) |, |JOIN |ON |WITH x AS (|UNION ALL |INSERT INTO |VALUES |'a' |`b` |x |UNNEST(|IF(|* |MERGE |;";
    let words: Vec<&'static str> = words.split('|').collect();
    proptest::proptest!(proptest::test_runner::Config::with_cases(200), |(
        picks in proptest::collection::vec(proptest::sample::select(words), 0..25)
    )| { let _ = decided(&picks.concat()); });
}

/// What a hostile review found to go without a shield, by other doors than a query's WHERE.
#[test]
fn writes_views_and_hidden_names_are_shielded_too() {
    for (text, part) in [
        (
            "MERGE app.customers T USING (SELECT 1 AS id) S ON T.id > S.id WHEN MATCHED AND 1 / (T.credit - 5) > 0 THEN UPDATE SET name = 'x'",
            "WHEN MATCHED AND IF(`t`.`tenant_id` = 'tenant-a', 1 / (T.credit - 5) > 0, FALSE) THEN",
        ),
        (
            "MERGE own_tenant_a.t T USING app.customers S ON T.id = S.id WHEN MATCHED AND 1 / (S.credit - 5) > 0 THEN DELETE",
            "WHEN MATCHED AND IF(`s`.`tenant_id` = 'tenant-a', 1 / (S.credit - 5) > 0, FALSE) THEN",
        ),
        (
            "MERGE app.customers T USING app.orders S ON 1 / (S.total - 5) > 0 WHEN MATCHED THEN DELETE",
            "ON `T`.`tenant_id` = 'tenant-a' AND (IF(`s`.`tenant_id` = 'tenant-a', 1 / (S.total - 5) > 0, FALSE))",
        ),
        (
            "UPDATE app.customers T SET name = 'x' FROM app.orders o WHERE 1 / (o.total - 5) > 0",
            "AND (IF(`o`.`tenant_id` = 'tenant-a', 1 / (o.total - 5) > 0, FALSE))",
        ),
        (
            "SELECT 1 FROM app.customers GROUP BY credit HAVING udfs.pure(1 / (credit - 5) > 0, COUNT(*) > 0)",
            "HAVING IF(COALESCE(LOGICAL_AND(",
        ),
        (
            "SELECT 1 FROM app.customers GROUP BY credit HAVING GREATEST(1 / (credit - 5), COUNT(*)) < 7",
            "HAVING IF(COALESCE(LOGICAL_AND(",
        ),
        (
            "SELECT 1 FROM app.customers GROUP BY credit HAVING 1 / (MAX(credit) - 5) > 0",
            "HAVING IF(COALESCE(LOGICAL_AND(",
        ),
        (
            "SELECT id FROM app.customers QUALIFY 1 / (credit - 5) > ROW_NUMBER() OVER (PARTITION BY credit)",
            "QUALIFY IF(`customers`.`tenant_id` = 'tenant-a', ",
        ),
        // Of a text it raises an error, and so does the last moment elsewhere.
        (
            "SELECT id FROM app.customers WHERE DATE(secret) = CURRENT_DATE()",
            "WHERE IF(`customers`.`tenant_id` = 'tenant-a', DATE(secret) = CURRENT_DATE(), FALSE)",
        ),
        (
            "SELECT id FROM app.customers WHERE EXTRACT(DATE FROM ts) = '2026-01-01'",
            "WHERE IF(`customers`.`tenant_id` = 'tenant-a', EXTRACT(DATE FROM ts) = '2026-01-01', FALSE)",
        ),
        // With column aliases reused, `k` is the column of the list in WHERE.
        (
            "SELECT 1 / (credit - 5) AS k FROM app.customers WHERE k > 0",
            "WHERE IF(`customers`.`tenant_id` = 'tenant-a', k > 0, FALSE)",
        ),
        // A field that is taken of a value has a name as well.
        (
            "SELECT 1 FROM (SELECT (STRUCT(1 / (credit - 5) AS k)).k FROM app.customers) AS x WHERE k > 0",
            "WHERE IF(`x`.`hedgerow_guard`, k > 0, FALSE)",
        ),
        // Keys that are listed by place, or not at all, are shielded where they are computed.
        (
            "SELECT * FROM (SELECT 1 / credit AS y, COUNT(*) AS n FROM app.customers GROUP BY 1) AS a JOIN app.orders AS o USING (y)",
            "IF(`customers`.`tenant_id` = 'tenant-a', 1 / credit, NULL) AS y",
        ),
        (
            "SELECT * FROM (SELECT 1 / credit AS y, COUNT(*) AS n FROM app.customers GROUP BY ALL) AS a JOIN app.orders AS o USING (y)",
            "IF(`customers`.`tenant_id` = 'tenant-a', 1 / credit, NULL) AS y",
        ),
    ] {
        let sent = sent(text);
        let same = sent.to_ascii_lowercase().contains(&part.to_ascii_lowercase());
        assert!(same, "{text}\n{sent}\n{part}");
    }
    for (text, neighbour) in [
        // A view is read as the query that it is, whoever reads it.
        (
            "CREATE OR REPLACE VIEW own_tenant_a.v AS SELECT * FROM app.customers",
            "CREATE OR REPLACE VIEW own_tenant_a.v AS SELECT * FROM own_tenant_a.t",
        ),
        (
            "CREATE VIEW own_tenant_a.v AS SELECT * FROM secure.view",
            "CREATE TABLE own_tenant_a.v AS SELECT * FROM secure.view",
        ),
        // The view's own guard cannot be repeated above a pivot, nor beside a pseudo-column.
        (
            "SELECT * FROM secure.view PIVOT(SUM(id) FOR name IN ('a')) WHERE 1 / (credit - 5) > 0",
            "SELECT * FROM secure.view PIVOT(SUM(id) FOR name IN ('a')) WHERE credit > 0",
        ),
        (
            "SELECT id FROM secure.view AS v WHERE 1 / (v.credit - 5) > 0 AND v._PARTITIONTIME IS NULL",
            "SELECT id FROM secure.view AS v WHERE v.credit > 0 AND v._PARTITIONTIME IS NULL",
        ),
        // `c.tenant_id` is a field of the client's own column there.
        (
            "SELECT STRUCT('tenant-a' AS tenant_id) AS c, ROW_NUMBER() OVER (PARTITION BY credit) AS n FROM app.customers AS c QUALIFY 1 / (credit - 5) > 0",
            "SELECT STRUCT('tenant-a' AS tenant_id) AS d, ROW_NUMBER() OVER (PARTITION BY credit) AS n FROM app.customers AS c QUALIFY 1 / (credit - 5) > 0",
        ),
        (
            "SELECT STRUCT('tenant-a' AS tenant_id) AS e, e.* FROM app.events AS e WHERE _PARTITIONTIME IS NOT NULL",
            "SELECT STRUCT('tenant-a' AS tenant_id) AS f, e.* FROM app.events AS e WHERE _PARTITIONTIME IS NOT NULL",
        ),
        // So it is where the column has no alias but its path's last name, or comes by a star.
        (
            "SELECT s.c, ROW_NUMBER() OVER (PARTITION BY credit) AS n FROM app.customers AS c, (SELECT STRUCT('tenant-a' AS tenant_id) AS c) AS s QUALIFY 1 / (credit - 5) > 0",
            "SELECT c, ROW_NUMBER() OVER (PARTITION BY credit) AS n FROM app.customers AS c, (SELECT STRUCT('tenant-a' AS tenant_id) AS c) AS s QUALIFY 1 / (credit - 5) > 0",
        ),
        (
            "SELECT (s).c, ROW_NUMBER() OVER (PARTITION BY credit) AS n FROM app.customers AS c, (SELECT STRUCT('tenant-a' AS tenant_id) AS c) AS s QUALIFY 1 / (credit - 5) > 0",
            "SELECT (s).d, ROW_NUMBER() OVER (PARTITION BY credit) AS n FROM app.customers AS c, (SELECT STRUCT('tenant-a' AS tenant_id) AS d) AS s QUALIFY 1 / (credit - 5) > 0",
        ),
        (
            "SELECT [s][OFFSET(0)].c, ROW_NUMBER() OVER (PARTITION BY credit) AS n FROM app.customers AS c, (SELECT STRUCT('tenant-a' AS tenant_id) AS c) AS s QUALIFY 1 / (credit - 5) > 0",
            "SELECT [s.c][OFFSET(0)], ROW_NUMBER() OVER (PARTITION BY credit) AS n FROM app.customers AS c, (SELECT STRUCT('tenant-a' AS tenant_id) AS c) AS s QUALIFY 1 / (credit - 5) > 0",
        ),
        (
            "SELECT s.*, ROW_NUMBER() OVER (PARTITION BY credit) AS n FROM app.customers AS c, (SELECT STRUCT('tenant-a' AS tenant_id) AS c) AS s QUALIFY 1 / (credit - 5) > 0",
            "SELECT s.*, ROW_NUMBER() OVER (PARTITION BY credit) AS n FROM app.customers AS c, (SELECT STRUCT('tenant-a' AS tenant_id) AS c) AS s QUALIFY n = 1 AND credit > 0",
        ),
        (
            "SELECT *, ROW_NUMBER() OVER (PARTITION BY credit) AS n FROM app.customers AS c, (SELECT STRUCT('tenant-a' AS tenant_id) AS c) AS s QUALIFY 1 / (credit - 5) > 0",
            "SELECT *, ROW_NUMBER() OVER (PARTITION BY credit) AS n FROM app.customers AS c, (SELECT STRUCT('tenant-a' AS tenant_id) AS c) AS s WHERE 1 / (credit - 5) > 0 QUALIFY n = 1",
        ),
        (
            "FROM app.customers AS c |> JOIN (SELECT STRUCT('tenant-a' AS tenant_id) AS c) AS s ON TRUE |> EXTEND s.c |> WHERE 1 / credit > 0",
            "FROM app.customers AS c |> JOIN (SELECT STRUCT('tenant-a' AS tenant_id) AS c) AS s ON TRUE |> EXTEND s.c AS d |> WHERE 1 / credit > 0",
        ),
        (
            "FROM app.customers AS c |> JOIN (SELECT STRUCT('tenant-a' AS tenant_id) AS c) AS s ON TRUE |> EXTEND s.* |> WHERE 1 / credit > 0",
            "FROM app.customers AS c |> JOIN (SELECT STRUCT('tenant-a' AS tenant_id) AS c) AS s ON TRUE |> WHERE 1 / credit > 0 |> EXTEND s.*",
        ),
        (
            "FROM app.customers |> EXTEND STRUCT('tenant-a' AS tenant_id) AS customers |> WHERE 1 / credit > 0",
            "FROM app.customers |> EXTEND STRUCT('tenant-a' AS tenant_id) AS c |> WHERE 1 / credit > 0",
        ),
    ] {
        assert_eq!(code(text), Some(DenialCode::LeakPossible), "{text}: {}", sent(text));
        assert_eq!(code(neighbour), None, "{neighbour}: {}", sent(neighbour));
    }
}

/// The column that carries a guard is left out of the stars of those variables that have it, and of no others.
#[test]
fn a_carrier_is_left_out_where_it_is() {
    let text = "SELECT o.* FROM app.order_items AS o JOIN (SELECT o.* FROM app.orders AS o WHERE 1 / o.total > 0) AS s ON 1 / (o.credit - s.id) > 0";
    let sent = sent(text);
    assert!(sent.starts_with("SELECT o.* EXCEPT (`hedgerow_guard`) FROM"), "{sent}");
    assert!(sent.contains("(SELECT o.*, "), "{sent}");
}

/// A pseudo-column, wherever it is named, opens no other door than that of the first table.
#[test]
fn a_pseudo_column_lets_nothing_else_pass() {
    for (text, neighbour) in [
        (
            "SELECT (SELECT s._change_type FROM (SELECT STRUCT('a' AS _change_type) AS s)), f.* FROM own_tenant_a.fn('tenant-b', EXTERNAL_QUERY('us.prod-pg', 'SELECT 1')) AS f",
            "SELECT (SELECT s._change_type FROM (SELECT STRUCT('a' AS _change_type) AS s)), f.* FROM own_tenant_a.fn AS f",
        ),
        (
            "SELECT _PARTITIONTIME FROM app.events('x', app.get_secret(1)) AS f",
            "SELECT _PARTITIONTIME FROM app.events AS f",
        ),
        ("SELECT _PARTITIONTIME FROM app.events()", "SELECT _PARTITIONTIME FROM app.events"),
    ] {
        assert_eq!(code(text), Some(DenialCode::Function), "{text}: {}", sent(text));
        assert_eq!(code(neighbour), None, "{neighbour}: {}", sent(neighbour));
    }
    let sampled = "SELECT id FROM app.events TABLESAMPLE SYSTEM (app.get_secret(1) PERCENT)";
    assert_eq!(code(sampled), Some(DenialCode::LeakPossible), "{}", sent(sampled));
    let plain = "SELECT id FROM app.events TABLESAMPLE SYSTEM (10 PERCENT)";
    assert_eq!(code(plain), None, "{}", sent(plain));
}

/// What a query in a condition of MERGE hands on passed a guard that cannot be repeated there.
#[test]
fn queries_in_conditions_of_merge_are_asked_about() {
    for (text, neighbour) in [
        (
            "MERGE own_tenant_a.t T USING own_tenant_a.u S ON T.id = S.id WHEN MATCHED AND 1 / ((SELECT credit FROM app.customers LIMIT 1) - 5) > 0 THEN DELETE",
            "MERGE own_tenant_a.t T USING own_tenant_a.u S ON T.id = S.id WHEN MATCHED AND (SELECT credit FROM app.customers LIMIT 1) > 0 THEN DELETE",
        ),
        (
            "MERGE own_tenant_a.t T USING own_tenant_a.u S ON 1 / ((SELECT credit FROM app.customers LIMIT 1) - 5) > 0 WHEN MATCHED THEN DELETE",
            "MERGE own_tenant_a.t T USING own_tenant_a.u S ON (SELECT credit FROM app.customers LIMIT 1) > 0 WHEN MATCHED THEN DELETE",
        ),
    ] {
        assert_eq!(code(text), Some(DenialCode::LeakPossible), "{text}: {}", sent(text));
        assert_eq!(code(neighbour), None, "{neighbour}: {}", sent(neighbour));
    }
}
