//! Functions that run without a call by name: attribute notation, operators, casts, the expressions of a
//! temporary table. Each is tried as tenant A on a real server, beside its nearest neighbour that is allowed.

use crate::support::fixture::{POLICY, World};
use crate::support::hedgerow::Options;
use crate::support::postgres;
use crate::support::wire::{self, WireClient};

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

/// A conjunct in front of one that runs out of stack would choose the row, and 54001 tell that it is there.
#[test]
fn no_conjunct_goes_so_deep_on_another_tenants_row_that_it_fails() {
    let world = World::new();
    postgres::server().run(
        &world.database,
        "ALTER TABLE orders ADD doc tsvector, ADD data jsonb, ADD tags text[];
         UPDATE orders SET note = 'A-NOTE', doc = 'a', data = '{\"a\": 1}', tags = '{a}';
         UPDATE orders SET note = 'B-NOTE' WHERE tenant_id = 'bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb';",
    );
    let mut a = world.a();
    // Else what parameters alone decide is computed when the statement is planned, whatever the rows.
    answered(&mut a, &[("SET plan_cache_mode = force_generic_plan", "")]);
    let many = format!("{}x", "%e".repeat(60_000));
    let text = "e".repeat(60_000);
    let query = format!("a{}", "<->a".repeat(20_000));
    let nested = format!("{}{}", "[".repeat(13_500), "]".repeat(13_500));
    for (condition, parameters) in [
        (format!("$1::text LIKE '{many}'"), vec![text.as_str()]),
        (format!("$1::text ILIKE '{many}'"), vec![&text]),
        (format!("(note || '{text}') LIKE '{many}'"), vec![]),
        (format!("doc @@ '{query}'"), vec![]),
        ("doc @@ $1".to_owned(), vec![&query]),
        ("$1::tsvector @@ $2::tsquery".to_owned(), vec!["a", &query]),
        ("$1::tsquery = $2".to_owned(), vec![&query, &query]),
        ("$1::jsonb @> $2".to_owned(), vec![&nested, &nested]),
        ("$1::jsonb <@ $2::jsonb".to_owned(), vec![&nested, &nested]),
    ] {
        let parameters: Vec<Option<&str>> = parameters.into_iter().map(Some).collect();
        let short: String = condition.chars().take(60).collect();
        let mut told = |guess: &str| {
            let sql = format!(
                "SELECT count(*) FROM orders WHERE note LIKE '{guess}' AND (note IS NULL OR {condition})"
            );
            let outcome = a.extended(&sql, &parameters);
            (outcome.sqlstate(), outcome.lines())
        };
        // What no row takes part in may fail when it is planned, and then for every guess.
        let (right, wrong) = (told("B-NOTE%"), told("C-NOTE%"));
        assert_eq!(right, wrong, "{short}");
    }
    answered(
        &mut a,
        &[
            ("SELECT count(*) > 0 FROM orders WHERE note LIKE 'A%' AND doc @@ 'a & !b'", "t"),
            ("SELECT count(*) > 0 FROM orders WHERE data @> '{\"a\": 1}' AND tags @> '{a}'", "t"),
        ],
    );
    end(world);
}

/// What runs behind an enum, a domain or JSON: each function would tell every tenant's rows.
const TYPES: &str = "
    CREATE TYPE mood AS ENUM ('good', 'bad'); CREATE TYPE en2 AS ENUM ('x');
    CREATE FUNCTION en2int(en2) RETURNS int LANGUAGE sql STABLE SECURITY DEFINER
      AS 'SELECT max(credit) FROM public.users';
    CREATE FUNCTION en2json(en2) RETURNS json LANGUAGE sql STABLE SECURITY DEFINER
      AS 'SELECT json_agg(secret) FROM public.users';
    CREATE CAST (en2 AS int4) WITH FUNCTION en2int(en2);
    CREATE CAST (en2 AS json) WITH FUNCTION en2json(en2);
    CREATE TYPE pair AS (c en2);
    CREATE FUNCTION known_email(text) RETURNS bool LANGUAGE sql STABLE SECURITY DEFINER
      AS 'SELECT EXISTS (SELECT FROM public.users WHERE email = $1)';
    CREATE DOMAIN known AS text CHECK (known_email(VALUE));
    CREATE DOMAIN small AS int CHECK (VALUE < 10);
    CREATE TYPE contact AS (email known)";

#[test]
fn types_run_no_function_that_may_not_be_called() {
    let world = World::new();
    let server = postgres::server();
    server.run(&world.database, TYPES);
    let oid = |name: &str| -> u32 {
        let sql = format!("SELECT oid FROM pg_type WHERE typname = '{name}'");
        server.run(&world.database, &sql).value().parse().unwrap()
    };
    let mut a = world.a();
    let mut declared = |sql: &str, oid: u32, value: &str| {
        let mut bytes = wire::parse("", sql, &[oid]);
        bytes.extend(wire::bind("", "", &[Some(value)]));
        bytes.extend(wire::execute("", 0));
        bytes.extend(wire::sync());
        a.send(&bytes);
        a.collect(1)
    };
    for (sql, name, value) in [
        ("SELECT $1::int4", "en2", "x"),
        ("SELECT to_json($1)", "en2", "x"),
        ("SELECT ($1).c::int4", "pair", "(x)"),
        ("SELECT $1::text", "known", "b1@b"),
        ("SELECT $1::text", "_known", "{b1@b}"),
        ("SELECT 1 WHERE $1 IS NULL", "contact", "(b1@b)"),
    ] {
        let outcome = declared(sql, oid(name), value);
        assert_eq!(outcome.denial_code(), "HR1005", "{sql}: {outcome:?}");
    }
    for (sql, name, value, expected) in [
        ("SELECT $1", "mood", "good", "good"),
        ("SELECT $1::text", "en2", "x", "x"),
        ("SELECT $1::int4", "small", "5", "5"),
    ] {
        assert_eq!(declared(sql, oid(name), value).lines(), [expected], "{sql}");
    }
    refused(
        &mut a,
        "HR1005",
        &[
            "SELECT 'x'::en2::int4",
            "SELECT to_json('x'::en2)",
            "SELECT json_build_object('a', 'x'::en2)",
            "SELECT jsonb_agg('x'::en2)",
            "SELECT ('x'::en2).to_json",
            "SELECT row_to_json(ROW('x'::en2))",
            "SELECT 'b1@b'::known",
            "SELECT known 'b1@b'",
            "SELECT known('b1@b')",
            "SELECT ('b1@b'::text).known",
            "SELECT s.known FROM unnest(ARRAY['b1@b']) s",
            "SELECT ARRAY['b1@b']::known[]",
            "SELECT ROW('b1@b')::contact",
            "SELECT * FROM json_to_record('{\"a\": \"b1@b\"}') AS r(a known)",
            "SELECT * FROM json_populate_record(NULL::contact, '{\"email\": \"b1@b\"}')",
            "CREATE TEMP TABLE t (a known)",
        ],
    );
    answered(
        &mut a,
        &[
            ("SELECT to_json('good'::mood), 5::small", "\"good\"|5"),
            ("SELECT 'x'::en2", "x"),
            ("SELECT jsonb_build_object('a', 1)", "{\"a\": 1}"),
        ],
    );
    end(world);
}

/// Sessions of all tenants see the definitions of each other's temporary tables in the catalogs.
#[test]
fn the_definition_of_a_temporary_table_holds_no_values() {
    let world = World::new();
    let mut b = world.b();
    refused(
        &mut b,
        "HR1002",
        &[
            "CREATE TEMP TABLE t (a text DEFAULT 'B-SECRET-DEFAULT')",
            "CREATE TEMP TABLE t (a int DEFAULT 424242)",
            "CREATE TEMP TABLE t (a numeric DEFAULT 4242.42)",
            "CREATE TEMP TABLE t (a text CHECK (a <> 'B-SECRET-CHECK'))",
            "CREATE TEMP TABLE t (a text, CHECK (a IN ('x', 'B-SECRET-CHECK')))",
            "CREATE TEMP TABLE t (a text, b text GENERATED ALWAYS AS (a || 'B-SECRET-GENERATED') STORED)",
            "CREATE TEMP TABLE t (a date DEFAULT '2026-01-01'::date)",
        ],
    );
    answered(
        &mut b,
        &[
            (
                "CREATE TEMP TABLE t (id serial PRIMARY KEY, a varchar(4000) DEFAULT '', n numeric(12, 2) \
                 DEFAULT 0, at timestamptz DEFAULT now(), d jsonb DEFAULT '{}', done bool DEFAULT false, \
                 m int DEFAULT NULL CHECK (m > -1 AND m <= 100), l text GENERATED ALWAYS AS (lower(a) || '-') STORED)",
                "",
            ),
            ("CREATE INDEX ON t (lower(a)) WHERE NOT done", ""),
            ("CREATE TEMP TABLE u (LIKE users INCLUDING DEFAULTS)", ""),
            ("INSERT INTO t (a) VALUES ('X') RETURNING l", "x-"),
        ],
    );
    refused(
        &mut b,
        "HR1002",
        &[
            "CREATE INDEX ON t (a) WHERE a = 'B-SECRET-INDEX'",
            "CREATE INDEX ON t ((a || 'B-SECRET'))",
        ],
    );
    // What A can see of it: its names.
    let mut a = world.a();
    answered(
        &mut a,
        &[
            ("SELECT count(*) > 0 FROM pg_class WHERE relname = 't'", "t"),
            (
                "SELECT count(*) FROM pg_attrdef d JOIN pg_class c ON c.oid = d.adrelid \
                 WHERE pg_get_expr(adbin, adrelid) LIKE '%SECRET%' AND c.relname = 't'",
                "0",
            ),
        ],
    );
    end(world);
}
