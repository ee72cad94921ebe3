//! What a hostile review found on PostgreSQL 15: expressions of a sub-query that the planner carries
//! into the level around it, and sub-queries that fail for the rows that they are asked about. Each
//! statement says through the proxy, where B's rows are too, what it says on a database without them.

use super::same::Pair;

fn assert_all_same(mut pair: Pair, statements: &[String]) {
    let statements: Vec<&str> = statements.iter().map(String::as_str).collect();
    pair.assert_same(&statements);
    let told = pair.proxied.query("SELECT count(*) FROM users");
    assert_eq!(told.lines(), ["3"], "the session is still one that answers");
    pair.world.hedgerow.assert_no_canary();
    pair.world.finish();
}

/// `IN` becomes a join, and what its sub-query selects a condition on the tenants' table, cheaper than
/// the guard: it printed the names that B's rows hold (42P01).
#[test]
fn what_the_sub_query_of_in_selects_is_computed_of_the_tenants_rows_alone() {
    let test = "has_table_privilege(c.title, 'select')";
    let b = "FROM documents c WHERE c.id = 101";
    let v = "(VALUES (true)) v(x)";
    let mut pair = Pair::new();
    for sql in ["SET enable_seqscan = off", "CREATE TEMP TABLE flags AS SELECT true AS x, 1 AS n"] {
        assert_eq!(pair.difference(sql), None, "{sql}");
    }
    let mut statements = vec![
        format!("SELECT 1 FROM {v} WHERE v.x IN (SELECT {test} {b})"),
        format!("SELECT 1 FROM {v} WHERE v.x = ANY (SELECT {test} {b})"),
        format!("SELECT 1 FROM {v} WHERE v.x NOT IN (SELECT {test} {b})"),
        format!("SELECT 1 FROM {v} WHERE v.x IN (SELECT {test} {b} LIMIT ALL)"),
        format!("SELECT 1 FROM {v} WHERE (v.x, 1) IN (SELECT {test}, 1 {b})"),
        format!("SELECT 1 FROM {v} JOIN currencies k ON v.x IN (SELECT {test} {b})"),
        format!("SELECT 1 FROM currencies k LEFT JOIN {v} ON v.x IN (SELECT {test} {b})"),
        format!("SELECT 1 FROM {v} WHERE v.x IN (SELECT d.y FROM (SELECT {test} AS y {b}) d)"),
        format!(
            "SELECT 1 FROM {v} WHERE v.x IN (WITH w AS (SELECT {test} AS y {b}) SELECT y FROM w)"
        ),
        format!(
            "WITH w AS (SELECT {test} AS y {b}) SELECT 1 FROM {v} WHERE v.x IN (SELECT y FROM w)"
        ),
        format!("SELECT 1 FROM {v} WHERE v.x IN (SELECT {test} {b} UNION ALL SELECT false)"),
        format!("SELECT 1 FROM {v} WHERE v.x IN (SELECT {test} {b} GROUP BY 1)"),
        format!("SELECT 1 FROM {v} WHERE v.x IN (SELECT DISTINCT {test} {b})"),
        format!(
            "SELECT 1 FROM {v} WHERE v.x IN (SELECT {test} {b} GROUP BY c.title HAVING count(*) > 0)"
        ),
        format!("SELECT 1 FROM generate_series(1, 1) v(n) WHERE (v.n = 1) IN (SELECT {test} {b})"),
        format!("SELECT 1 FROM currencies k WHERE (k.code = 'EUR') IN (SELECT {test} {b})"),
        format!(
            "SELECT 1 FROM {v} WHERE EXISTS (SELECT 1 FROM {v} WHERE v.x IN (SELECT {test} {b}))"
        ),
        format!("SELECT (SELECT 1 FROM {v} WHERE v.x IN (SELECT {test} {b}))"),
        format!("SELECT d.n FROM (SELECT 1 AS n FROM {v} WHERE v.x IN (SELECT {test} {b})) d"),
        format!("COPY (SELECT 1 FROM {v} WHERE v.x IN (SELECT {test} {b})) TO STDOUT"),
        format!(
            "MERGE INTO flags f USING currencies k ON f.x IN (SELECT {test} {b}) WHEN MATCHED THEN UPDATE SET n = 3"
        ),
        format!("UPDATE flags SET n = 2 WHERE x IN (SELECT {test} {b})"),
        format!("DELETE FROM flags WHERE x IN (SELECT {test} {b})"),
        // Where nothing is carried anywhere.
        format!("SELECT v.x IN (SELECT {test} {b}) FROM {v}"),
        format!("SELECT count(*) FROM {v} HAVING true IN (SELECT {test} {b})"),
        format!("SELECT 1 FROM {v} WHERE v.x = ALL (SELECT {test} {b})"),
        format!("SELECT 1 FROM {v} WHERE v.x = (SELECT {test} {b})"),
        format!("SELECT 1 FROM {v} WHERE EXISTS (SELECT {test} {b})"),
        format!("SELECT 1 FROM (VALUES (true IN (SELECT {test} {b}))) w(x) WHERE w.x"),
        format!(
            "SELECT 1 FROM (SELECT true IN (SELECT {test} {b}) AS y FROM currencies) d WHERE d.y"
        ),
        format!("SELECT g FROM generate_series(1, (true IN (SELECT {test} {b}))::int) g"),
        format!(
            "UPDATE flags SET x = x IN (SELECT {test} {b}) RETURNING true IN (SELECT {test} {b})"
        ),
        format!("INSERT INTO flags SELECT true, 1 FROM {v} WHERE v.x IN (SELECT {test} {b})"),
    ];
    // What is A's own is found as ever.
    statements.extend([
        "SELECT v.x FROM (VALUES (true), (false)) v(x) WHERE v.x IN (SELECT c.secret::text LIKE 'A%' FROM users c)".to_owned(),
        "SELECT v.n FROM generate_series(1, 200) v(n) WHERE v.n IN (SELECT c.id FROM users c)".to_owned(),
        "SELECT v.n FROM generate_series(1, 200) v(n) WHERE v.n IN (SELECT c.id + 1 FROM users c)".to_owned(),
        "SELECT count(*) FROM flags".to_owned(),
    ]);
    assert_all_same(pair, &statements);
}

/// A comparison may fail as a function may: a number beyond `float8`, brought to it for the join.
#[test]
fn what_in_compares_with_is_no_other_tenants_row() {
    let mut pair = Pair::new();
    pair.world.truth("UPDATE price_list SET price = 10::numeric ^ 400 WHERE id = 101 RETURNING 1");
    let sql =
        "SELECT 1 FROM (VALUES (1.5::float8)) v(x) WHERE v.x IN (SELECT p.price FROM price_list p)";
    assert_eq!(pair.difference(sql), None);
    assert_all_same(pair, &[sql.replace("1.5", "2.5")]);
}

/// A limit that is no limit, more rows than one where one may be, a row that is locked: each is an error
/// for the rows that it is asked about, and stood beside the guard of a table without a tenant column.
#[test]
fn what_a_sub_query_says_of_another_tenants_row_is_not_asked() {
    let below = "LIMIT CASE WHEN i.secret LIKE 'B-SECRET-ITEM-1%' THEN -1 ELSE 1 END";
    let two = "(SELECT k2.code FROM currencies k2 WHERE i.secret LIKE 'B-SECRET-ITEM-10%')";
    let mut pair = Pair::new();
    let mut statements = vec![
        format!("SELECT i.id FROM order_items i WHERE EXISTS (SELECT 1 FROM currencies k {below})"),
        format!("SELECT i.id FROM order_items i WHERE EXISTS (SELECT 1 FROM currencies k {})", below.replace("LIMIT", "OFFSET")),
        format!("SELECT i.id FROM order_items i WHERE 'EUR' IN (SELECT k.code FROM currencies k {below})"),
        format!("SELECT i.id FROM order_items i JOIN currencies c ON EXISTS (SELECT 1 FROM currencies k {below}) AND c.code = 'EUR'"),
        format!("SELECT i.id FROM order_items i WHERE EXISTS (SELECT 1 FROM (SELECT 1 FROM currencies k {below}) d)"),
        format!("SELECT i.id FROM order_items i WHERE EXISTS ((SELECT 1 FROM currencies k {below}) UNION ALL SELECT 1)"),
        format!("SELECT i.id FROM order_items i WHERE EXISTS (WITH x AS MATERIALIZED (SELECT {two} AS p FROM currencies k) SELECT 1 FROM x)"),
        format!("SELECT i.id FROM order_items i WHERE EXISTS (WITH x AS MATERIALIZED (SELECT 1 FROM currencies k {below}) SELECT 1 FROM x)"),
        "SELECT i.id FROM order_items i WHERE i.secret LIKE 'B-SECRET%' AND EXISTS (SELECT 1 FROM currencies k WHERE k.code <> i.sku LIMIT -1)".to_owned(),
        "SELECT i.id FROM order_items i WHERE i.secret LIKE 'B-SECRET%' AND EXISTS (SELECT 1 FROM currencies k WHERE k.code <> i.sku OFFSET -1)".to_owned(),
        // Such tables were held by what a condition costs, no more.
        format!("SELECT i.id FROM users i WHERE EXISTS (SELECT 1 FROM currencies k {below})"),
        "SET join_collapse_limit = 1".to_owned(),
        "SET from_collapse_limit = 1".to_owned(),
        format!("SELECT i.id FROM order_items i, LATERAL (SELECT 1 FROM currencies k {below}) x"),
        format!("SELECT i.id FROM order_items i LEFT JOIN LATERAL (SELECT 1 FROM currencies k {below}) x ON true"),
        format!("SELECT i.id FROM order_items i, LATERAL (WITH x AS MATERIALIZED (SELECT {two} AS p FROM currencies k) SELECT 1 FROM x) y"),
    ];
    // The limits of every day.
    statements.extend(
        [
            "SELECT i.id FROM order_items i WHERE EXISTS (SELECT 1 FROM currencies k WHERE k.code <> i.sku LIMIT 1)",
            "SELECT i.id FROM order_items i WHERE EXISTS (SELECT 1 FROM currencies k OFFSET 5)",
            "SELECT i.id FROM order_items i, LATERAL (SELECT k.code FROM currencies k ORDER BY 1 LIMIT 1) x",
            "SELECT i.id FROM order_items i WHERE EXISTS (WITH x AS (SELECT 1 FROM currencies k) SELECT 1 FROM x)",
            "SELECT i.id FROM order_items i WHERE EXISTS (SELECT 1 FROM regexp_split_to_table('a', i.secret) r)",
            "SELECT id FROM users u WHERE EXISTS (SELECT 1 FROM unnest(u.tags) t WHERE t = 'x')",
            "SELECT i.id FROM order_items i ORDER BY i.id LIMIT 1",
        ]
        .map(str::to_owned),
    );
    statements.push(format!(
        "DELETE FROM order_items i WHERE EXISTS (SELECT 1 FROM currencies k {below})"
    ));
    let asked = "SELECT i.id FROM order_items i WHERE i.secret LIKE $1 AND EXISTS \
                 (SELECT 1 FROM currencies k WHERE k.code <> i.sku LIMIT $2)";
    for parameters in [[Some("B-%"), Some("-1")], [Some("A-%"), Some("1")]] {
        assert_eq!(pair.difference_extended(asked, &parameters), None);
    }
    assert_all_same(pair, &statements);
}
