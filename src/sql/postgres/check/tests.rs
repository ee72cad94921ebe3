//! Texts that a faulty rewriter could hand over, each a small step away from what a sound one does:
//! the checker refuses them all.

use super::seal;
use crate::error::DenialCode;
use crate::sql::Limits;
use crate::sql::account::Notes;
use crate::sql::postgres::env::Env;
use crate::sql::postgres::tests::{GUARD, catalog, policy, principal};
use crate::sql::postgres::tree::Tree;

/// What the sound rewriter sends, the tenant's literal as `$A`.
fn sound(client: &str) -> String {
    let decided =
        super::super::decide(client, &policy(), &catalog(), &principal(), Limits::default());
    let decided = decided.unwrap_or_else(|denial| panic!("{client}: {denial:?}"));
    decided[0].guarded.text().replace(GUARD, "$A").replace('"', "")
}

/// What the checker says to a text in the place of a statement.
fn verdict(client: &str, text: &str) -> Result<(), DenialCode> {
    let (policy, catalog, principal) = (policy(), catalog(), principal());
    let privileges = policy.privileges(&principal).unwrap();
    let (policy, catalog, principal) = (&policy, &catalog, &principal);
    let notes = Notes::default();
    let env = Env {
        policy,
        catalog,
        principal,
        parameters: &[],
        privileges,
        lenient: false,
        temporary: crate::sql::temporary::Temporary::NONE,
        notes,
    };
    let parsed = pg_raw_parse::parse(client).unwrap();
    let print = format!("{:?}", parsed.stmts().next().unwrap());
    let tree = Tree::read(&print).unwrap();
    let text = text.replace("$A", GUARD);
    seal(&tree, text, env).map(|_| ()).map_err(|denial| denial.code)
}

fn refuses(client: &str, text: &str) {
    let verdict = verdict(client, text);
    let refused = matches!(
        verdict,
        Err(DenialCode::ParsersDisagree
            | DenialCode::LeakPossible
            | DenialCode::TenantColumnChange)
    );
    assert!(refused, "{client}\n  as {text}\n  {verdict:?}");
}

/// Each step of a statement: what stands in the sound text, and what a fault makes of it.
const STEPS: &[(&str, &[(&str, &str)])] = &[
    (
        "SELECT id FROM customers WHERE name = 'x'",
        &[
            ("customers.tenant_id = $A AND ", ""),
            ("SELECT id", "SELECT secret"),
            ("public.customers", "customers"),
            ("public.customers", "public.orders customers"),
            ("= $A", "= 'bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb'::uuid"),
            ("= $A", "IS DISTINCT FROM $A"),
            ("= $A AND", "= $A OR"),
            ("= $A", "= current_setting('app.current_tenant')::uuid"),
            ("'x'", "'y'"),
            (" AND (name = 'x')", ""),
            ("(name = 'x')", "(name = 'x') AND (id = 1)"),
            ("customers.tenant_id = $A", "(customers.tenant_id = $A OR true)"),
            ("customers.tenant_id = $A", "NOT customers.tenant_id = $A"),
            ("customers.tenant_id = $A", "customers.id = $A"),
            ("FROM public.customers", "FROM ONLY public.customers"),
        ],
    ),
    (
        "SELECT c.id FROM customers c, orders o",
        &[
            ("o.tenant_id = $A", "c.tenant_id = $A"),
            ("c.tenant_id = $A AND o.tenant_id = $A", "o.tenant_id = $A"),
            ("public.orders o", "public.orders o, public.orders p"),
        ],
    ),
    (
        "SELECT c.id FROM customers c LEFT JOIN orders o ON o.customer_id = c.id",
        &[
            ("o.tenant_id = $A AND ", ""),
            ("LEFT JOIN", "RIGHT JOIN"),
            ("LEFT JOIN", "FULL JOIN"),
            (" WHERE c.tenant_id = $A", ""),
        ],
    ),
    (
        "SELECT c.id FROM customers c FULL JOIN orders o ON o.customer_id = c.id",
        &[
            ("WHERE o.tenant_id = $A OFFSET 0", "OFFSET 0"),
            ("WHERE c.tenant_id = $A", "WHERE true"),
        ],
    ),
    ("SELECT a FROM customers c(a, b)", &[("WHERE c.tenant_id = $A", "")]),
    (
        "UPDATE regional SET region = lower('EU') WHERE id = 1",
        &[
            ("hedgerow_check.region IS NULL", "true"),
            ("'eu'::text", "'us'::text"),
            ("(lower('EU'))::text", "('eu')::text"),
            ("hedgerow:HR1011", "nothing"),
            ("THEN (hedgerow_check.region)", "THEN (hedgerow_check.other)"),
            ("OFFSET 0) AS hedgerow_check", "FROM public.currencies OFFSET 0) AS hedgerow_check"),
        ],
    ),
    (
        "INSERT INTO ruled (id, region, kind) VALUES (1, 'eu', 2)",
        &[
            ("(2)::int4 AS kind", "(3)::int4 AS kind"),
            ("(2)::int4 AS kind", "(2)::int8 AS kind"),
            ("('eu')::varchar AS region, ", ""),
            ("WHEN (hedgerow_check.region LIKE '% ') IS TRUE THEN", "WHEN false THEN"),
            ("LIKE '% '", "LIKE '%x'"),
            ("hedgerow_check.kind < 10", "hedgerow_check.kind < 100"),
        ],
    ),
    (
        "SELECT pg_advisory_xact_lock(5, 6)",
        &[
            ("sha256(", "sha224("),
            ("(5)::INT4", "(7)::INT4"),
            ("p' ||", "q' ||"),
            ("|| ' ' || (6)::INT4::TEXT", ""),
            ("(6)::INT4", "(5)::INT4"),
            ("1, 16", "1, 15"),
        ],
    ),
    (
        "SELECT id FROM customers WHERE secret::int = 1",
        &[("ELSE false END", "ELSE true END"), ("THEN (", "THEN (true OR ")],
    ),
    (
        "SELECT c.id FROM customers c, orders o WHERE (c.secret || o.note)::int = 1",
        &[
            (
                "CASE WHEN c.tenant_id = $A AND o.tenant_id = $A THEN",
                "CASE WHEN c.tenant_id = $A THEN",
            ),
            (
                "CASE WHEN c.tenant_id = $A AND o.tenant_id = $A THEN",
                "CASE WHEN o.tenant_id = $A THEN",
            ),
            ("CASE WHEN c.tenant_id = $A AND o.tenant_id = $A THEN", "CASE WHEN true THEN"),
        ],
    ),
    (
        "SELECT id FROM customers ORDER BY id LIMIT ALL OFFSET 7",
        &[
            (" OFFSET 7", ""),
            (" OFFSET 7", " LIMIT 1 OFFSET 7"),
            ("customers.tenant_id = $A", "true"),
        ],
    ),
    (
        "SELECT id FROM customers ORDER BY id LIMIT 7",
        &[
            (" LIMIT 7", ""),
            (" LIMIT 7", " LIMIT NULL"),
            (" LIMIT 7", " FETCH FIRST 7 ROWS WITH TIES"),
        ],
    ),
    (
        "SELECT id FROM (SELECT * FROM customers) c WHERE c.secret::int = 1",
        &[(" OFFSET 0", ""), (" OFFSET 0", " OFFSET 1")],
    ),
    (
        "SELECT 1 FROM currencies k WHERE k.rate IN (SELECT secret::int FROM customers)",
        &[(" OFFSET 0", ""), (" OFFSET 0", " OFFSET 1")],
    ),
    (
        "SELECT 1 FROM currencies k JOIN currencies j ON k.rate IN (SELECT secret::int FROM customers)",
        &[(" OFFSET 0", "")],
    ),
    (
        "UPDATE customers SET name = 'x' WHERE id = 1 AND credit IN (SELECT note::int FROM orders)",
        &[("CASE WHEN customers.tenant_id = $A THEN", "CASE WHEN true THEN")],
    ),
    (
        "SELECT 1 FROM currencies k WHERE EXISTS (SELECT 1 FROM currencies j WHERE j.rate > ANY (SELECT secret::int FROM customers UNION ALL SELECT 1))",
        &[(" OFFSET 0", "")],
    ),
    (
        "SELECT id FROM items i WHERE EXISTS (SELECT 1 FROM currencies k WHERE k.code = i.sku LIMIT 1)",
        &[(" LIMIT 1", " LIMIT 2")],
    ),
    (
        "WITH c AS (SELECT * FROM customers) SELECT id FROM c WHERE c.secret::int = 1",
        &[("AS MATERIALIZED", "AS"), ("AS MATERIALIZED", "AS NOT MATERIALIZED")],
    ),
    (
        "SELECT name FROM customers GROUP BY name HAVING name::int > 0",
        &[("CASE WHEN count(*) >= 0 THEN", "CASE WHEN 1 >= 0 THEN")],
    ),
    (
        "SELECT (SELECT max(secret) FROM customers) FROM currencies",
        &[(" WHERE customers.tenant_id = $A", "")],
    ),
    (
        "SELECT id FROM items",
        &[(" WHERE hedgerow_parent_0.tenant_id = $A", ""), ("public.orders", "public.customers")],
    ),
    ("SELECT sku::int FROM items", &[(" IS TRUE", ""), (" IS TRUE", " IS NOT FALSE")]),
    (
        "SELECT id FROM regional",
        &[
            ("'eu'", "'us'"),
            ("'eu'::text OR regional.region IS NULL", "'eu'::text OR true"),
            ("ELSE false END", "ELSE true END"),
        ],
    ),
    (
        "EXPLAIN SELECT id FROM customers",
        &[("COSTS OFF", "COSTS ON"), ("COSTS OFF", "COSTS OFF, ANALYZE")],
    ),
    (
        "UPDATE customers SET tenant_id = $1",
        &[
            ("THEN (hedgerow_check.hedgerow_value) ELSE", "THEN (gen_random_uuid()) ELSE"),
            ("hedgerow_check.hedgerow_value = $A", "hedgerow_check.hedgerow_value <> $A"),
        ],
    ),
    (
        "INSERT INTO customers (id) VALUES (1)",
        &[(", $A", ", gen_random_uuid()"), ("tenant_id", "secret")],
    ),
    (
        "INSERT INTO customers (id, name) VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET name = 'y' WHERE customers.secret = 'z'",
        &[
            ("WHERE customers.tenant_id = $A AND", "WHERE"),
            (
                "WHERE customers.tenant_id = $A AND (customers.secret = 'z')",
                "WHERE (customers.secret = 'z') AND customers.tenant_id = $A",
            ),
        ],
    ),
    (
        "MERGE INTO customers c USING (SELECT 1 AS id) s ON c.id = s.id WHEN MATCHED THEN DELETE",
        &[
            ("WHEN MATCHED AND c.tenant_id = $A THEN", "WHEN MATCHED THEN"),
            ("ON c.tenant_id = $A AND", "ON"),
        ],
    ),
];

#[test]
fn one_step_away_from_sound_is_refused() {
    for (client, steps) in STEPS {
        let sound = sound(client);
        assert_eq!(verdict(client, &sound), Ok(()), "{client}\n  as {sound}");
        for (from, to) in *steps {
            assert!(sound.contains(from), "{from:?} is not in {sound:?}");
            refuses(client, &sound.replacen(from, to, 1));
        }
    }
}

#[test]
fn a_sub_query_that_may_fail_is_not_asked_beside_a_guard() {
    let guard = "i.order_id IN (SELECT hedgerow_parent_0.id FROM public.orders AS hedgerow_parent_0 \
                 WHERE hedgerow_parent_0.tenant_id = $A)";
    for query in [
        "SELECT 1 FROM public.currencies k LIMIT CASE WHEN i.sku = 'x' THEN -1 ELSE 1 END",
        "SELECT 1 FROM public.currencies k OFFSET CASE WHEN i.sku = 'x' THEN -1 ELSE 1 END",
        "SELECT 1 FROM public.currencies k WHERE k.code = i.sku LIMIT -1",
        "SELECT 1 FROM public.currencies k WHERE k.code = i.sku LIMIT $1",
        "SELECT 1 FROM public.currencies k WHERE k.code = i.sku OFFSET 1.5",
        "SELECT 1 FROM (SELECT 1 FROM public.currencies k LIMIT i.id) d",
        "SELECT 1 FROM public.currencies k WHERE k.code = i.sku FOR UPDATE NOWAIT",
        "WITH x AS MATERIALIZED (SELECT (SELECT k.code FROM public.currencies k WHERE k.code = i.sku) AS p) SELECT 1 FROM x",
        "WITH RECURSIVE x AS (SELECT 1 UNION ALL SELECT 1 FROM x WHERE i.sku = 'x') SELECT 1 FROM x",
    ] {
        let client =
            format!("SELECT id FROM items i WHERE EXISTS ({})", query.replace("public.", ""));
        let sent = |condition: String| {
            format!("SELECT id FROM public.items i WHERE {guard} AND {condition}")
        };
        refuses(&client, &sent(format!("(EXISTS ({query}))")));
        let shielded = sent(format!("CASE WHEN {guard} THEN (EXISTS ({query})) ELSE false END"));
        assert_eq!(verdict(&client, &shielded), Ok(()), "{client}\n  as {shielded}");
        let beside = client.replace("items i WHERE EXISTS", "items i, LATERAL") + " d";
        refuses(
            &beside,
            &format!("SELECT id FROM public.items i, LATERAL ({query}) d WHERE {guard}"),
        );
    }
}

#[test]
fn what_leaves_the_guard_out_or_puts_it_elsewhere_is_refused() {
    for (client, text) in [
        (
            "SELECT id FROM customers",
            "SELECT id FROM public.customers WHERE customers.tenant_id = $A; DELETE FROM public.customers",
        ),
        ("SELECT id FROM customers", ""),
        (
            "SELECT id FROM customers WHERE secret::int = 1",
            "SELECT id FROM public.customers WHERE customers.tenant_id = $A AND (secret::int = 1)",
        ),
        (
            "SELECT 1 FROM currencies k WHERE k.rate IN (SELECT y FROM (SELECT secret::int AS y FROM customers) d)",
            "SELECT 1 FROM public.currencies k WHERE (k.rate IN (SELECT y FROM \
             (SELECT secret::int AS y FROM public.customers WHERE customers.tenant_id = $A) d))",
        ),
        (
            "WITH RECURSIVE w AS (SELECT secret::int AS y FROM customers) SELECT 1 FROM currencies k WHERE k.rate IN (SELECT y FROM w)",
            "WITH RECURSIVE w AS (SELECT secret::int AS y FROM public.customers WHERE customers.tenant_id = $A) \
             SELECT 1 FROM public.currencies k WHERE (k.rate IN (SELECT y FROM w))",
        ),
        (
            "SELECT a FROM customers c(a, b)",
            "SELECT a FROM public.customers c(a, b) WHERE c.tenant_id = $A",
        ),
        (
            "SELECT c.id FROM customers c LEFT JOIN orders o ON o.customer_id = c.id",
            "SELECT c.id FROM public.customers c LEFT JOIN public.orders o ON o.customer_id = c.id \
             WHERE c.tenant_id = $A AND o.tenant_id = $A",
        ),
        (
            "SELECT c.id FROM customers c FULL JOIN orders o ON o.customer_id = c.id",
            "SELECT c.id FROM public.customers c FULL JOIN public.orders o \
             ON c.tenant_id = $A AND o.tenant_id = $A AND o.customer_id = c.id",
        ),
        (
            "SELECT name FROM customers GROUP BY name HAVING name::int > 0",
            "SELECT name FROM public.customers WHERE customers.tenant_id = $A GROUP BY name HAVING name::int > 0",
        ),
        (
            "EXPLAIN SELECT id FROM customers",
            "EXPLAIN SELECT id FROM public.customers WHERE customers.tenant_id = $A",
        ),
        ("SELECT id FROM regional", "SELECT id FROM public.regional WHERE regional.tenant_id = $A"),
        (
            "INSERT INTO regional (id, region) VALUES (1, 'us')",
            "INSERT INTO public.regional (id, region, tenant_id) VALUES (1, 'us', $A)",
        ),
        (
            "UPDATE ruled SET kind = 1 WHERE id = 1",
            "UPDATE public.ruled SET kind = 1 WHERE ruled.tenant_id = $A AND CASE WHEN ruled.tenant_id = $A THEN (ruled.region = 'eu'::text AND (ruled.kind < 10 OR ruled.kind IS NULL)) ELSE false END AND (id = 1)",
        ),
        ("SELECT pg_advisory_lock(5)", "SELECT pg_advisory_lock(5)"),
        ("SELECT pg_try_advisory_lock(5, 6)", "SELECT pg_try_advisory_lock(5, 6)"),
        (
            "UPDATE customers SET name = 'x' WHERE CURRENT OF c",
            "UPDATE public.customers SET name = 'x'",
        ),
        (
            "UPDATE customers SET name = o.note FROM orders o WHERE CURRENT OF c",
            "UPDATE public.customers SET name = o.note FROM public.orders o WHERE CURRENT OF c",
        ),
        (
            "CREATE TEMP TABLE t AS SELECT id FROM customers",
            "CREATE TEMP TABLE t AS SELECT id FROM public.customers",
        ),
        ("SELECT id INTO TEMP t FROM customers", "SELECT id INTO TEMP t FROM public.customers"),
        (
            "SELECT id FROM customers",
            "SELECT id INTO TEMP t FROM public.customers WHERE customers.tenant_id = $A",
        ),
        ("DROP TABLE IF EXISTS nobody", "DROP TABLE IF EXISTS pg_temp.other"),
        ("DROP TABLE IF EXISTS nobody", "DROP TABLE IF EXISTS nobody"),
        ("CREATE TEMP TABLE t (a int)", "CREATE TABLE t (a int)"),
        (
            "CREATE TEMP TABLE t () INHERITS (customers)",
            "CREATE TEMP TABLE t () INHERITS (customers)",
        ),
        (
            "UPDATE customers SET tenant_id = $1",
            "UPDATE public.customers SET tenant_id = $1 WHERE customers.tenant_id = $A",
        ),
        (
            "UPDATE customers SET tenant_id = $1",
            "UPDATE public.customers SET tenant_id = (SELECT CASE WHEN c.v = $A THEN c.v ELSE c.v END \
             FROM (SELECT $1::uuid AS v OFFSET 0) c) WHERE customers.tenant_id = $A",
        ),
        ("INSERT INTO customers (id) VALUES (1)", "INSERT INTO public.customers (id) VALUES (1)"),
        (
            "INSERT INTO customers (id, tenant_id) VALUES (1, $1)",
            "INSERT INTO public.customers (id, tenant_id) VALUES (1, $1)",
        ),
        (
            "INSERT INTO customers (id) VALUES (1), (2)",
            "INSERT INTO public.customers (id, tenant_id) VALUES (1, $A), (2, gen_random_uuid())",
        ),
        (
            "INSERT INTO items (id, order_id) VALUES (1, 2)",
            "INSERT INTO public.items (id, order_id) VALUES (1, 2)",
        ),
    ] {
        refuses(client, text);
    }
}

#[test]
fn what_goes_as_deep_as_the_client_likes_does_not_stand_unshielded() {
    let (many, few) = ("%e".repeat(65), "%e".repeat(64));
    let nested = format!("{}{}", "[".repeat(65), "]".repeat(65));
    let query = "a&".repeat(201) + "a";
    let unshielded = |condition: &str| {
        let client = format!("SELECT id FROM customers WHERE {condition}");
        let sent = format!(
            "SELECT id FROM public.customers WHERE customers.tenant_id = $A AND {condition}"
        );
        (client, sent)
    };
    for deep in [
        &format!("name LIKE '{many}'"),
        &format!("$1::text ILIKE '{many}'"),
        "$1::tsvector @@ $2",
        "$1::tsvector @@ $2::tsquery",
        &format!("$1::tsvector @@ '{query}'"),
        "$1::tsquery = 'a'",
        "'a'::tsquery IN ('b', $1)",
        "data @> $1",
        "$1::jsonb <@ data",
        "data -> 'a' @> data",
        "$1::jsonb @> $2::jsonb",
        &format!("data @> '{nested}'"),
        "credit::\"char\" = 'x'",
    ] {
        let (client, sent) = unshielded(deep);
        refuses(&client, &sent);
    }
    for shallow in [
        &format!("name LIKE '{few}'"),
        "$1::tsvector @@ 'a & b'",
        "$1::tsvector @@ 'a & b'::tsquery",
        "data @> '{}'",
        "data -> 'a' @> '{}'::jsonb",
        "$1::text[] @> ARRAY['a']",
        "$1::int4range @> $2",
    ] {
        let (client, sent) = unshielded(shallow);
        assert_eq!(verdict(&client, &sent), Ok(()), "{sent}");
    }
}
