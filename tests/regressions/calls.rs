//! Functions that run without a call by name: attribute notation, operators, casts, the expressions of a
//! temporary table. Each is tried as tenant A on a real server, beside its nearest neighbour that is allowed.

use crate::support::fixture::{POLICY, World};
use crate::support::hedgerow::Options;
use crate::support::postgres;
use crate::support::wire::WireClient;

/// What an operator may have in his schema: functions that show every tenant's rows to who calls them, an
/// operator and a cast that do, and a large object that all may read.
const SCHEMA: &str = "
    CREATE FUNCTION leak_row(currencies) RETURNS text LANGUAGE sql STABLE SECURITY DEFINER
      AS 'SELECT string_agg(secret, '','') FROM public.users';
    CREATE FUNCTION op_leak(int, int) RETURNS text LANGUAGE sql STABLE SECURITY DEFINER
      AS 'SELECT secret FROM public.users WHERE id = $1';
    CREATE FUNCTION leak_int(int) RETURNS point LANGUAGE sql STABLE SECURITY DEFINER
      AS 'SELECT point(credit, 0) FROM public.users WHERE id = $1';
    CREATE OPERATOR @@ (LEFTARG = int, RIGHTARG = int, FUNCTION = op_leak);
    CREATE CAST (int AS point) WITH FUNCTION leak_int(int);
    CREATE SEQUENCE numbers;
    SELECT lo_from_bytea(424299, 'B-SECRET-LARGEOBJECT');
    GRANT SELECT, UPDATE ON LARGE OBJECT 424299 TO PUBLIC;
    GRANT SELECT, UPDATE, USAGE ON SEQUENCE numbers TO PUBLIC";

fn world() -> (World, WireClient) {
    let world = World::new();
    postgres::server().run(&world.database, SCHEMA);
    let a = world.a();
    (world, a)
}

fn end(world: World) {
    world.hedgerow.assert_no_canary();
    world.finish();
}

/// Denied by that code, and nothing came back.
fn refused(client: &mut WireClient, code: &str, statements: &[&str]) {
    for sql in statements {
        let outcome = client.query(sql);
        assert_eq!(outcome.denial_code(), code, "{sql}: {outcome:?}");
        assert!(outcome.rows().is_empty(), "{sql}: {outcome:?}");
    }
}

/// Run, and answered so.
fn answered(client: &mut WireClient, statements: &[(&str, &str)]) {
    for (sql, expected) in statements {
        let outcome = client.query(sql);
        assert!(outcome.errors().is_empty(), "{sql}: {outcome:?}");
        assert_eq!(outcome.lines().join(";"), *expected, "{sql}");
    }
}

#[test]
fn attribute_notation_calls_no_function_that_may_not_be_called() {
    let (world, mut a) = world();
    refused(
        &mut a,
        "HR1005",
        &[
            "SELECT ('SELECT array_to_tsvector(array_agg(secret)) FROM public.users'::text).ts_stat",
            "SELECT (('SELECT array_to_tsvector(array_agg(secret)) FROM public.users'::text).ts_stat).word",
            "SELECT s.ts_stat FROM unnest(ARRAY['SELECT array_to_tsvector(array_agg(secret)) FROM public.users']) s",
            "PREPARE p(text) AS SELECT ($1).ts_stat",
            "SELECT ('SELECT to_tsvector(''simple'', set_config(''app.current_tenant'', \
              ''bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb'', false))'::text).ts_stat",
            "SELECT (424299::oid).lo_get",
            "SELECT u.lo_get FROM unnest(ARRAY[424299::oid]) u",
            "SELECT (424299::oid).lo_unlink",
            "SELECT (1).pg_terminate_backend",
            "SELECT g.pg_stat_get_backend_activity FROM generate_series(1, 4) g",
            "SELECT (77::int8).pg_advisory_lock",
            "SELECT ('public.numbers'::regclass).pg_sequence_last_value",
            "SELECT ('public.users'::regclass).pg_relation_size",
            "SELECT ('public.user_overview'::regclass).pg_get_viewdef",
            "SELECT (0).pg_sleep",
            "SELECT ('port'::text).current_setting",
            "SELECT ('.'::text).pg_ls_dir",
            // No family lists it.
            "SELECT ('public.users'::text).regclassin",
            "SELECT (k).leak_row FROM currencies k",
            "SELECT (k).leak_row.upper FROM currencies k LIMIT 1",
            "SELECT public.currencies.leak_row FROM currencies",
        ],
    );
    refused(&mut a, "HR1010", &["SELECT u.to_jsonb FROM users u"]);
    refused(&mut a, "HR1007", &["SELECT p.to_jsonb FROM pg_proc p"]);
    answered(
        &mut a,
        &[
            ("SELECT id FROM seen_by_rls", "1"),
            ("SELECT ('ab'::text).upper", "AB"),
            ("SELECT (k).rate FROM currencies k WHERE k.code = 'EUR'", "1.0"),
            ("SELECT (jsonb_each('{\"a\": 1}')).key", "a"),
            ("SELECT (information_schema._pg_expandarray(ARRAY[7])).n", "1"),
            ("SELECT s.lo_get FROM (SELECT max(id) AS lo_get FROM users) s", "3"),
            ("SELECT s.count FROM (SELECT count(*) FROM users) s", "3"),
        ],
    );
    end(world);
}

#[test]
fn the_expressions_of_a_temporary_table_call_no_function_that_may_not_be_called() {
    let (world, mut a) = world();
    answered(
        &mut a,
        &[
            ("CREATE TEMP TABLE plain (i int, a text DEFAULT (('ab'::text).upper))", ""),
            ("INSERT INTO plain (i) VALUES (1) RETURNING a", "AB"),
            ("CREATE INDEX ON plain ((lower(a)))", ""),
        ],
    );
    refused(
        &mut a,
        "HR1005",
        &[
            "CREATE TEMP TABLE t (i int, a text DEFAULT ((NULL::public.currencies).leak_row))",
            "CREATE TEMP TABLE t (i int DEFAULT (424299::oid).lo_get)",
            "CREATE TEMP TABLE t (i int CHECK (('SELECT 1'::text).ts_stat IS NULL))",
            "CREATE TEMP TABLE t (i int, a bytea GENERATED ALWAYS AS ((424299::oid).lo_get) STORED)",
            "CREATE TEMP TABLE t (i int, CHECK ((k).leak_row IS NULL), k currencies)",
            "CREATE INDEX ON plain ((('x'::text).ts_stat))",
            "CREATE INDEX ON plain (i) WHERE (424299::oid).lo_get IS NULL",
            "CREATE TEMP TABLE t (i int, a text DEFAULT 101 @@ 0)",
            "CREATE TEMP TABLE t (i int, a point DEFAULT 101::point)",
        ],
    );
    end(world);
}

#[test]
fn operators_and_casts_run_no_function_that_may_not_be_called() {
    let (world, mut a) = world();
    refused(
        &mut a,
        "HR1005",
        &[
            "SELECT 101 @@ 0",
            "SELECT id FROM users WHERE (101 @@ id) LIKE 'B%'",
            "SELECT 101 @@ ANY (ARRAY[0])",
            "SELECT 101::point",
            "SELECT CAST(id + 100 AS point) FROM users",
            "SELECT ARRAY[101]::point[]",
            "PREPARE p(int) AS SELECT $1::point",
        ],
    );
    answered(
        &mut a,
        &[
            ("SELECT to_tsvector('simple', 'a') OPERATOR(pg_catalog.@@) 'a'::tsquery", "t"),
            ("SELECT 101 + 1, 101::text, point(1, 2)", "102|101|(1,2)"),
        ],
    );
    end(world);
}

/// What the policy allows, and what an extension brings in C, stays.
#[test]
fn operators_and_casts_run_what_the_policy_allows_and_extensions_code() {
    let policy =
        POLICY.replace("public.slugify]", "public.slugify, public.add, public.diagonal_of]");
    let world = World::with(&Options::new(&policy));
    postgres::server().run(
        &world.database,
        "CREATE EXTENSION pg_trgm; CREATE EXTENSION btree_gist; CREATE EXTENSION citext;
         CREATE FUNCTION add(int, int) RETURNS int LANGUAGE sql AS 'SELECT $1 + $2';
         CREATE FUNCTION diagonal_of(int) RETURNS point LANGUAGE sql AS 'SELECT point($1, $1)';
         CREATE OPERATOR @@ (LEFTARG = int, RIGHTARG = int, FUNCTION = add);
         CREATE CAST (int AS point) WITH FUNCTION diagonal_of(int)",
    );
    let mut a = world.a();
    answered(
        &mut a,
        &[
            ("SELECT 101 @@ 1", "102"),
            ("SELECT 7::point", "(7,7)"),
            ("SELECT 'word' % 'words', 1 <-> 3, 'A'::citext = 'a'", "t|2|t"),
            ("SELECT true::citext", "true"),
        ],
    );
    end(world);
}
