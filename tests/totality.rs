//! The lists of functions and of what is total, held against a live PostgreSQL: what they name is
//! there, everything that is there is judged, and nothing that is called total raises an error for
//! any of the extreme values of its types.
#![allow(
    clippy::unwrap_used,
    clippy::expect_used,
    clippy::panic,
    clippy::indexing_slicing,
    reason = "a test says what it expected by failing"
)]

#[path = "support/mod.rs"]
mod support;

use std::collections::BTreeSet;

use hedgerow::sql::postgres::functions::{self, FAMILIES, Reach};
use hedgerow::sql::postgres::totality::{
    Bound, COMPARISONS, Class, TOTAL_FUNCTIONS, TOTAL_OPERATORS, TYPE_OIDS, TYPES, class_of,
    comparable, is_mergeable, unifiable,
};
use support::postgres::{SUPERUSER, Server, server};
use support::wire::WireClient;

/// Extreme values of each type, as SQL.
const VALUES: &[(&str, &[&str])] = &[
    ("int2", &["-32768", "-1", "0", "1", "32767"]),
    ("int4", &["-2147483648", "-1", "0", "1", "2147483647"]),
    ("int8", &["-9223372036854775808", "-1", "0", "5000000000", "9223372036854775807"]),
    ("oid", &["'0'", "'1'", "'4294967295'"]),
    (
        "numeric",
        &["'NaN'", "'Infinity'", "'-Infinity'", "0", "'1e131071'", "'-1e131071'", "'1e-16383'"],
    ),
    ("float4", &["'NaN'", "'Infinity'", "'-Infinity'", "'-0'", "'3.4e38'", "'1e-45'"]),
    ("float8", &["'NaN'", "'Infinity'", "'-Infinity'", "'-0'", "'1.7e308'", "'5e-324'"]),
    (
        "text",
        &[
            "''",
            "' '",
            "E'\\x01'",
            "repeat('x', 300000)",
            "'İIıßſ'",
            "'%_\\'",
            "'😀é'",
            "E'e\\u0301\\u00ad'",
            "repeat('ŉ', 100000)",
            "'NaN'",
            "E'\\uFFFF'",
        ],
    ),
    ("varchar", &["''", "'ß  '", "repeat('é', 1000)"]),
    ("bpchar", &["''", "'   '", "'x  '"]),
    ("name", &["''", "repeat('x', 63)", "'ÄÖ'"]),
    ("char", &["''", "'x'", "'\\377'"]),
    ("bool", &["true", "false"]),
    ("uuid", &["'00000000-0000-0000-0000-000000000000'", "'ffffffff-ffff-ffff-ffff-ffffffffffff'"]),
    (
        "date",
        &[
            "'4714-11-24 BC'",
            "'5874897-12-31'",
            "'infinity'",
            "'-infinity'",
            "'2000-01-01'",
            "'294277-01-01'",
        ],
    ),
    (
        "timestamp",
        &[
            "'4714-11-24 00:00:00 BC'",
            "'294276-12-31 23:59:59.999999'",
            "'infinity'",
            "'-infinity'",
            "'2000-01-01'",
        ],
    ),
    (
        "timestamptz",
        &[
            "'4714-11-24 00:00:00+00 BC'",
            "'294276-12-31 23:59:59.999999+00'",
            "'infinity'",
            "'-infinity'",
            "'2000-01-01'",
        ],
    ),
    ("time", &["'00:00'", "'24:00'", "'23:59:59.999999'"]),
    ("timetz", &["'00:00+15:59'", "'24:00-15:59'", "'12:00+00'"]),
    (
        "interval",
        &[
            "'178000000 years'",
            "'-178000000 years'",
            "'2147483647 days'",
            "'-2147483648 days'",
            "'9223372036854 seconds'",
            "'1 mon -1 day 00:00:01'",
        ],
    ),
    ("bytea", &["''", "'\\x00ff'", "decode(repeat('00', 100000), 'hex')"]),
    (
        "jsonb",
        &[
            "'null'",
            "'1'",
            "'\"x\"'",
            "'[]'",
            "'{}'",
            "'1e131071'",
            "'{\"\": {\"a\": [1, null]}}'",
            "'[[], {}, \"a\", 1]'",
            // As deep as the server takes them in: containment of two such runs out of stack.
            "(repeat('[', 13000) || repeat(']', 13000))",
            "(repeat('{\"a\":', 8000) || '1' || repeat('}', 8000))",
            "'{\"a\": \"x\", \"x\": null}'",
        ],
    ),
    (
        "tsvector",
        &[
            "''",
            "'a:1A b:2 c:16383'",
            "array_to_tsvector(array(SELECT n::text FROM generate_series(1, 5000) n))",
        ],
    ),
    ("inet", &["'0.0.0.0/0'", "'255.255.255.255'", "'::/0'", "'ffff:ffff::1'", "'10.1.2.3/8'"]),
    ("cidr", &["'0.0.0.0/0'", "'255.255.255.255/32'", "'::/0'", "'10.0.0.0/8'"]),
    (
        "int4range",
        &["'empty'", "'(,)'", "'[-2147483648,2147483647)'", "'[1,1]'", "'[2147483647,)'"],
    ),
    ("int8range", &["'empty'", "'(,)'", "'[-9223372036854775808,9223372036854775807)'"]),
    (
        "numrange",
        &["'empty'", "'(,)'", "'[1e-1000,1e1000]'", "'[1,NaN]'", "'[-Infinity,Infinity]'"],
    ),
    ("tsrange", &["'empty'", "'(,)'", "'[-infinity,infinity]'", "'[4714-11-24 BC,294276-12-31]'"]),
    ("tstzrange", &["'empty'", "'(,)'", "'[-infinity,infinity]'", "'[2000-01-01,294276-12-31]'"]),
    (
        "daterange",
        &["'empty'", "'(,)'", "'[-infinity,infinity)'", "'[4714-11-24 BC,5874897-12-31)'"],
    ),
    ("int4multirange", &["'{}'", "'{(,)}'", "'{[1,2),[5,)}'", "'{[-2147483648,2147483647)}'"]),
    ("int8multirange", &["'{}'", "'{(,)}'", "'{[1,2),[5,)}'"]),
    ("nummultirange", &["'{}'", "'{(,)}'", "'{[1,NaN]}'"]),
    ("tsmultirange", &["'{}'", "'{(,)}'", "'{[-infinity,infinity]}'"]),
    ("tstzmultirange", &["'{}'", "'{(,)}'", "'{[-infinity,infinity]}'"]),
    ("datemultirange", &["'{}'", "'{(,)}'", "'{[4714-11-24 BC,5874897-12-31)}'"]),
];

/// Element types of the arrays that are tried.
const ELEMENTS: &[&str] = &[
    "int4",
    "int8",
    "numeric",
    "float8",
    "text",
    "name",
    "uuid",
    "bool",
    "date",
    "timestamptz",
    "interval",
    "bytea",
    "jsonb",
    "inet",
    "int4range",
    "tsvector",
    "oid",
];

/// Names of the open families that are younger than PostgreSQL 15, or words of the grammar.
const NOT_IN_15: &str = "any_value array_reverse array_sample array_shuffle array_sort casefold coalesce \
    crc32 crc32c current_catalog current_date current_role current_time current_timestamp date_add \
    date_subtract erf erfc greatest json_agg_strict least localtime localtimestamp nullif pg_basetype \
    pg_input_is_valid random_normal to_bin to_oct trim unicode_assigned user uuid_extract_timestamp \
    uuid_extract_version uuidv4 uuidv7";

fn quoted(type_name: &str) -> String {
    format!("pg_catalog.\"{type_name}\"")
}

/// The types of a class.
fn types_of(class: Class) -> Vec<String> {
    if class == Class::Array {
        return ELEMENTS.iter().map(|element| format!("_{element}")).collect();
    }
    let listed = TYPES.iter().find(|(listed, _)| *listed == class);
    listed
        .map(|(_, names)| names.iter().map(|name| (*name).to_owned()).collect())
        .unwrap_or_default()
}

/// A session on a database whose locale is not C, with one table `v_<type>` of extreme values a type.
fn session(server: &Server, database: &str, locale: &str) -> WireClient {
    server.run(
        SUPERUSER,
        &format!("CREATE DATABASE {database} TEMPLATE template0 ENCODING 'UTF8' {locale}"),
    );
    let mut script = String::new();
    for (type_name, values) in VALUES {
        let quoted = quoted(type_name);
        let rows: Vec<String> = values
            .iter()
            .map(|value| format!("(({value})::{quoted})"))
            .chain([format!("(NULL::{quoted})")])
            .collect();
        script += &format!("CREATE TABLE \"v_{type_name}\" (v) AS VALUES {};", rows.join(", "));
    }
    for element in ELEMENTS {
        let quoted = quoted(element);
        script += &format!(
            "CREATE TABLE v__{element} (v) AS VALUES ('{{}}'::{quoted}[]), ('{{NULL}}'::{quoted}[]), (NULL);
             INSERT INTO v__{element} SELECT array_agg(v) FROM v_{element};
             INSERT INTO v__{element} SELECT ARRAY[v] FROM v_{element};
             INSERT INTO v__{element} SELECT ARRAY[ARRAY[v, v], ARRAY[v, NULL]] FROM v_{element} LIMIT 3;"
        );
    }
    server.run(database, &script);
    let mut client = server.connect(SUPERUSER, database);
    client.limit = std::time::Duration::from_secs(60);
    client
}

/// Whether PostgreSQL reads the expression at all; then it must not fail for any of the values.
fn holds(
    client: &mut WireClient,
    expression: &str,
    from: &str,
    failures: &mut Vec<String>,
) -> bool {
    let plan = client.query(&format!("EXPLAIN SELECT count({expression}) FROM {from}"));
    if !plan.errors().is_empty() {
        return false;
    }
    let ran = client.query(&format!("SELECT count({expression}) FROM {from}"));
    if let Some(error) = ran.errors().first() {
        failures.push(format!(
            "{expression} FROM {from}: {}",
            error.message().chars().take(100).collect::<String>()
        ));
    }
    true
}

/// Everything that is called total, over all types that its classes hold.
fn everything_total_holds(client: &mut WireClient) -> (usize, Vec<String>) {
    let mut failures = Vec::new();
    let mut tried = 0;
    let classes: Vec<Class> = TYPES
        .iter()
        .map(|(class, _)| *class)
        .chain([Class::Array])
        .filter(|c| *c != Class::Document)
        .collect();
    let pairs = |left: Class, right: Class| {
        let right = types_of(right);
        types_of(left)
            .into_iter()
            .flat_map(move |l| right.clone().into_iter().map(move |r| (l.clone(), r)))
            .collect::<Vec<_>>()
    };
    for left in &classes {
        for right in &classes {
            for (l, r) in pairs(*left, *right) {
                let from = format!("\"v_{l}\" a, \"v_{r}\" b");
                if comparable(*left, *right) {
                    for symbol in COMPARISONS.iter().chain(&["IS DISTINCT FROM"]) {
                        tried += usize::from(holds(
                            client,
                            &format!("a.v {symbol} b.v"),
                            &from,
                            &mut failures,
                        ));
                    }
                    tried +=
                        usize::from(holds(client, "b.v BETWEEN a.v AND a.v", &from, &mut failures));
                }
                if unifiable(*left, *right) {
                    // Two values that no row takes part in, so that PostgreSQL makes an array of them.
                    let items = format!(
                        "(SELECT v FROM \"v_{r}\" LIMIT 1), (SELECT v FROM \"v_{r}\" OFFSET 1 LIMIT 1)"
                    );
                    tried += usize::from(holds(
                        client,
                        &format!("a.v IN ({items})"),
                        &from,
                        &mut failures,
                    ));
                }
                if left == right && is_mergeable(*left) {
                    tried += usize::from(holds(
                        client,
                        "coalesce(a.v, b.v)::text",
                        &from,
                        &mut failures,
                    ));
                    let case = "CASE WHEN a.v IS NULL THEN b.v ELSE a.v END::text";
                    tried += usize::from(holds(client, case, &from, &mut failures));
                }
            }
        }
        for name in types_of(*left) {
            let from = format!("\"v_{name}\" a");
            assert!(holds(client, "a.v::text", &from, &mut failures), "{name}::text");
            tried += usize::from(holds(client, "a.v = ANY (ARRAY[a.v])", &from, &mut failures));
        }
    }
    for name in types_of(Class::Integer) {
        for target in ["int8", "numeric", "float8", "float4"] {
            assert!(holds(
                client,
                &format!("a.v::{target}"),
                &format!("v_{name} a"),
                &mut failures
            ));
        }
    }
    for name in types_of(Class::Text) {
        let deepest = format!("LIKE '{}z'", "%e".repeat(64));
        for pattern in ["LIKE 'x%'", "NOT LIKE '%_x'", "ILIKE '%ß%'", "NOT ILIKE 'İ_'", &deepest]
        {
            let from = format!("\"v_{name}\" a");
            assert!(
                holds(client, &format!("a.v {pattern}"), &from, &mut failures),
                "{name} {pattern}"
            );
        }
    }
    for listed in TOTAL_OPERATORS {
        for symbol in listed.symbols {
            let mut known = 0;
            for literal in literals(listed.bound) {
                for l in types_of(listed.left) {
                    let from = format!("\"v_{l}\" a");
                    let expression = format!("a.v OPERATOR(pg_catalog.{symbol}) {literal}");
                    known += usize::from(holds(client, &expression, &from, &mut failures));
                    gives(client, &expression, &from, listed.gives, &mut failures);
                }
            }
            let right = if listed.bound == Bound::Flat { listed.right } else { &[] };
            for right in right {
                for (l, r) in pairs(listed.left, *right) {
                    let from = format!("\"v_{l}\" a, \"v_{r}\" b");
                    let expression = format!("a.v OPERATOR(pg_catalog.{symbol}) b.v");
                    if holds(client, &expression, &from, &mut failures) {
                        known += 1;
                        gives(client, &expression, &from, listed.gives, &mut failures);
                    }
                }
            }
            assert!(known > 0, "PostgreSQL has no {:?} {symbol} {:?}", listed.left, listed.right);
            tried += known;
        }
    }
    for listed in TOTAL_FUNCTIONS {
        let calls: Vec<(String, String)> = match listed.takes {
            [] => vec![(String::new(), "(VALUES (1)) a".to_owned())],
            [only] => only
                .iter()
                .flat_map(|class| types_of(*class))
                .map(|t| ("a.v".to_owned(), format!("\"v_{t}\" a")))
                .collect(),
            [first, second] => first
                .iter()
                .flat_map(|l| second.iter().flat_map(move |r| pairs(*l, *r)))
                .map(|(l, r)| ("a.v, b.v".to_owned(), format!("\"v_{l}\" a, \"v_{r}\" b")))
                .collect(),
            _ => panic!("three arguments are not tried yet"),
        };
        let mut known = 0;
        for (arguments, from) in calls {
            let keyword =
                matches!(listed.name, "current_timestamp" | "localtimestamp" | "current_date");
            let expression = if keyword {
                listed.name.to_owned()
            } else {
                format!("{}({arguments})", listed.name)
            };
            if holds(client, &expression, &from, &mut failures) {
                known += 1;
                gives(client, &expression, &from, listed.gives, &mut failures);
            }
        }
        assert!(known > 0, "PostgreSQL has no {} of {:?}", listed.name, listed.takes);
        tried += known;
    }
    for clock in ["now()", "localtimestamp", "current_date"] {
        for span in ["9999 months", "-9999 weeks", "999 years", "-999 years", "9999 days"] {
            for sign in ["+", "-"] {
                let expression = format!("{clock} {sign} '{span}'::interval");
                assert!(holds(client, &expression, "(VALUES (1)) a", &mut failures));
            }
        }
    }
    (tried, failures)
}

/// The literals that stand beside such an operator, the deepest ones among them.
fn literals(bound: Bound) -> Vec<String> {
    match bound {
        Bound::Flat => Vec::new(),
        Bound::Document => vec![
            "'{}'".to_owned(),
            "'[1, {\"a\": \"x\"}]'::pg_catalog.jsonb".to_owned(),
            format!("'{}{}'", "[".repeat(64), "]".repeat(64)),
            format!("'{}1{}'", "{\"a\":".repeat(64), "}".repeat(64)),
        ],
        Bound::Query => ["&", "|", "<->"]
            .into_iter()
            .map(|operator| format!("'a{}'", format!(" {operator} a").repeat(200)))
            .chain(["'!(!a | (b <2> !c:*))'".to_owned(), "''::pg_catalog.tsquery".to_owned()])
            .collect(),
    }
}

/// The result must be of the class that the list says.
fn gives(
    client: &mut WireClient,
    expression: &str,
    from: &str,
    class: Class,
    failures: &mut Vec<String>,
) {
    let name = client.query(&format!(
        "SELECT typname FROM pg_type WHERE oid = (SELECT pg_typeof({expression}) FROM {from} LIMIT 1)"
    ));
    if class_of(&name.value()) != Some(class) {
        failures.push(format!("{expression} FROM {from} gives {}, not {class:?}", name.value()));
    }
}

#[test]
fn nothing_that_is_called_total_raises_for_any_value() {
    let server = server();
    let settings = [
        ("totality_c", "LOCALE 'C'", "SET timezone = 'UTC'"),
        (
            "totality_icu",
            "LOCALE_PROVIDER icu ICU_LOCALE 'tr-TR' LOCALE 'C'",
            "SET timezone = 'America/St_Johns'; SET datestyle = 'SQL, DMY'; \
             SET intervalstyle = 'sql_standard'; SET bytea_output = 'escape'; SET extra_float_digits = -15",
        ),
    ];
    for (database, locale, set) in settings {
        let mut client = session(server, database, locale);
        assert!(client.query(set).errors().is_empty());
        let (tried, failures) = everything_total_holds(&mut client);
        assert!(failures.is_empty(), "{} of {tried}:\n{}", failures.len(), failures.join("\n"));
        assert!(tried > 500, "only {tried} expressions could be tried");
    }
}

/// The same trial finds what is known to fail: it could not pass by trying nothing.
#[test]
fn the_trial_sees_an_error_where_there_is_one() {
    let mut client = session(server(), "totality_bad", "LOCALE 'C'");
    let mut failures = Vec::new();
    let many = "%e".repeat(60_000);
    let deep_like = format!("(repeat('e', 60000) || a.v) LIKE '{many}x'");
    let deep_query = "a.v @@ (SELECT (repeat('a<->', 20000) || 'a')::tsquery)".to_owned();
    for (expression, from) in [
        ("a.v = '5'::oid", "v_int8 a"),
        ("a.v = 1::float8", "v_numeric a"),
        ("a.v IN ('2000-01-01 00:00+00'::timestamptz, b.v)", "v_date a, v_timestamptz b"),
        ("coalesce(a.v, '2000-01-01 00:00+00'::timestamptz)", "v_date a"),
        ("a.v::int4", "v_text a"),
        ("a.v + 1", "v_int4 a"),
        ("now() - '300000 years'::interval", "v_int4 a"),
        ("a.v @> a.v", "v_jsonb a"),
        (&deep_like, "v_text a"),
        (&deep_query, "v_tsvector a"),
        ("a.v::\"char\"", "v_int4 a"),
    ] {
        let before = failures.len();
        holds(&mut client, expression, from, &mut failures);
        let expected = !expression.contains(" IN ");
        assert_eq!(failures.len() > before, expected, "{expression}");
    }
}

#[test]
fn every_listed_type_and_function_is_there_and_none_is_volatile() {
    let server = server();
    for (oid, name) in TYPE_OIDS {
        let found =
            server.run(SUPERUSER, &format!("SELECT typname FROM pg_type WHERE oid = {oid}"));
        assert_eq!(found.value(), *name);
    }
    let words: BTreeSet<&str> = NOT_IN_15.split_ascii_whitespace().collect();
    let names = server.run(SUPERUSER, "SELECT DISTINCT proname FROM pg_proc").lines();
    let there: BTreeSet<&str> = names.iter().map(String::as_str).collect();
    for family in FAMILIES.iter().filter(|family| family.reach.is_open()) {
        for name in family.names().filter(|name| !there.contains(name)) {
            assert!(words.contains(name), "PostgreSQL has no function {name}");
        }
    }
    for listed in TOTAL_FUNCTIONS {
        let volatile = format!(
            "SELECT count(*) FROM pg_proc WHERE proname = '{}' AND provolatile = 'v'",
            listed.name
        );
        assert_eq!(server.run(SUPERUSER, &volatile).value(), "0", "{}", listed.name);
    }
    for listed in TOTAL_OPERATORS {
        for symbol in listed.symbols {
            let volatile = format!(
                "SELECT count(*) FROM pg_operator o JOIN pg_proc p ON p.oid = o.oprcode
                 WHERE oprname = '{symbol}' AND provolatile = 'v'"
            );
            assert_eq!(server.run(SUPERUSER, &volatile).value(), "0", "{symbol}");
        }
    }
}

/// What PostgreSQL calls by itself: for types, operators, casts, indexes, aggregates, languages.
const OF_POSTGRESQL: &str = "SELECT f::oid FROM (
    SELECT unnest(ARRAY[typinput, typoutput, typreceive, typsend, typmodin, typmodout, typanalyze, typsubscript]::oid[]) FROM pg_type
    UNION ALL SELECT unnest(ARRAY[oprcode, oprrest, oprjoin]::oid[]) FROM pg_operator
    UNION ALL SELECT castfunc FROM pg_cast UNION ALL SELECT amproc::oid FROM pg_amproc
    UNION ALL SELECT amhandler::oid FROM pg_am
    UNION ALL SELECT unnest(ARRAY[aggtransfn, aggfinalfn, aggcombinefn, aggserialfn, aggdeserialfn, aggmtransfn, aggminvtransfn, aggmfinalfn]::oid[]) FROM pg_aggregate
    UNION ALL SELECT unnest(ARRAY[lanplcallfoid, laninline, lanvalidator]) FROM pg_language
    UNION ALL SELECT conproc::oid FROM pg_conversion UNION ALL SELECT prosupport::oid FROM pg_proc
    UNION ALL SELECT unnest(ARRAY[prsstart, prstoken, prsend, prsheadline, prslextype]::oid[]) FROM pg_ts_parser
    UNION ALL SELECT unnest(ARRAY[tmplinit, tmpllexize]::oid[]) FROM pg_ts_template
    UNION ALL SELECT unnest(ARRAY[rngcanonical, rngsubdiff]::oid[]) FROM pg_range) x(f)";

#[test]
fn every_function_of_pg_catalog_is_judged() {
    let unlisted = format!(
        "SELECT DISTINCT proname FROM pg_proc WHERE pronamespace = 'pg_catalog'::regnamespace
         AND oid NOT IN ({OF_POSTGRESQL}) ORDER BY 1"
    );
    let unjudged: Vec<String> = server()
        .run(SUPERUSER, &unlisted)
        .lines()
        .into_iter()
        .filter(|name| functions::family(name).is_none())
        .collect();
    assert!(unjudged.is_empty(), "denied, but nobody says why: {unjudged:?}");
}

#[test]
fn aggregates_window_and_set_returning_functions_are_open_unless_a_reason_says_otherwise() {
    let of_kind = |condition: &str| {
        let sql = format!(
            "SELECT DISTINCT proname FROM pg_proc
             WHERE pronamespace = 'pg_catalog'::regnamespace AND {condition} ORDER BY 1"
        );
        server().run(SUPERUSER, &sql).lines()
    };
    for name in of_kind("prokind IN ('a', 'w')") {
        assert!(functions::is_allowed(&name), "{name}");
    }
    let closed: Vec<String> =
        of_kind("proretset").into_iter().filter(|name| !functions::is_allowed(name)).collect();
    for name in &closed {
        let reach = functions::family(name).map(|family| family.reach);
        assert!(
            matches!(
                reach,
                Some(
                    Reach::RunsSql
                        | Reach::ReadsTables
                        | Reach::Outside
                        | Reach::Changes
                        | Reach::Leaks
                        | Reach::Definitions
                )
            ),
            "{name}: {reach:?}"
        );
    }
    assert!(closed.len() < 60, "{closed:?}");
}
