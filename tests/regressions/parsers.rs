//! The two parsers' silent differences: sqlparser 0.63 reads or prints these otherwise than PostgreSQL
//! means them. Through the proxy each must give what it gives on a database without tenant B, or be
//! denied where nobody needs it.

use crate::same::Pair;

/// What must become of a statement.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Must {
    /// It works as on the plain database.
    Same,
    /// It is denied, or works as on the plain database.
    Hold,
    /// It is an error here and there, in whatever words.
    Error,
}
use Must::{Error, Hold, Same};

fn hold(difference: &str, statements: &[(Must, &str)]) {
    let mut pair = Pair::new();
    let mut wrong = Vec::new();
    for client in [&mut pair.proxied, &mut pair.direct] {
        // That a name was cut is told to nobody who asks for the name as it was cut.
        client.query("SET client_min_messages = warning");
    }
    for (must, sql) in statements {
        pair.proxied.query("BEGIN");
        pair.direct.query("BEGIN");
        let through = pair.proxied.query(sql);
        let straight = pair.direct.query(sql);
        let failed = !through.errors().is_empty() && !straight.errors().is_empty();
        if *must == Hold && through.denied() || *must == Error && failed {
            // Nothing of it ran.
        } else if let Some(found) = crate::same::compare(sql, &through, &straight) {
            wrong.push(found);
        }
        pair.proxied.query("ROLLBACK");
        pair.direct.query("ROLLBACK");
    }
    let rows = "SELECT count(*) || ' ' || (SELECT count(*) FROM orders) FROM users";
    assert_eq!(pair.world.truth(rows), "6 5", "{difference}: rows are gone");
    pair.world.hedgerow.assert_no_canary();
    pair.world.finish();
    assert!(wrong.is_empty(), "{difference}: {} differ:\n{}", wrong.len(), wrong.join("\n"));
}

#[test]
fn a_backslash_before_a_quote_ends_no_literal() {
    hold(
        "1, 3",
        &[
            (Same, r"SELECT id FROM users WHERE name = 'nobody\'' OR true --'"),
            (Same, r"SELECT '\'' || (SELECT string_agg(secret, $$,$$) FROM users) --'"),
            (Same, r"SELECT '\'' || (SELECT string_agg(secret, $$,$$) FROM users) --' FROM users"),
            (Same, r"UPDATE users SET name = '\'' WHERE true --' WHERE id = 1"),
            (Hold, r"SELECT N'\'' || secret FROM users --' FROM users"),
            (Error, r"SELECT DATE 'a\'' FROM users --' FROM users"),
            (Error, r"SELECT INTERVAL '1\'' FROM users --' FROM users"),
            (Same, r"SELECT id FROM users WHERE name = E'\'' OR name = E'\\\'' ORDER BY id"),
        ],
    );
}

#[test]
fn a_backslash_before_a_quote_ends_no_identifier() {
    hold(
        "2",
        &[
            (Same, r#"SELECT 1 AS "a\""", secret FROM users --" FROM users"#),
            (Same, r#"SELECT id AS "a\""" FROM users ORDER BY "a\""""#),
            (Hold, r#"SELECT * FROM "a\""; DROP TABLE users --""#),
            (Same, r#"SELECT "x\".id FROM users AS "x\" ORDER BY 1"#),
        ],
    );
}

#[test]
fn type_modifiers_are_no_sql() {
    hold(
        "4",
        &[
            (Hold, "SELECT name::foo('x) FROM vault --') FROM users"),
            (Hold, "SELECT id::public.foo('x) FROM vault --') FROM users"),
        ],
    );
}

#[test]
fn end_is_a_label_and_ends_nothing() {
    hold(
        "5",
        &[
            (Same, "SELECT id end FROM users"),
            (Hold, "SELECT 1 end; DELETE FROM orders"),
            (
                Same,
                "INSERT INTO documents (id, tenant_id, title) SELECT 500 + id, tenant_id, name end FROM users",
            ),
            (Same, "PREPARE p AS SELECT id end FROM users"),
            (Same, "DECLARE c CURSOR FOR SELECT secret end FROM users"),
        ],
    );
}

#[test]
fn copy_from_stdin_swallows_no_statement() {
    hold(
        "6",
        &[
            (Hold, "COPY currencies FROM stdin; DELETE FROM orders"),
            (Hold, "COPY orders FROM stdin; DELETE FROM orders"),
        ],
    );
}

#[test]
fn operators_are_read_to_their_end() {
    hold(
        "7, 13, 14",
        &[
            (Same, "SELECT box '(0,0),(1,1)' &>'(0,0),(1,1)'::box FROM users -- '"),
            (Error, "SELECT id FROM users WHERE id=@id ORDER BY id"),
            (Error, "SELECT id FROM users WHERE 2=|/4 ORDER BY id"),
            (Error, "SELECT 5 !=-1 FROM users"),
            (Error, "SELECT id #~1, id +~id FROM users ORDER BY id"),
            (Same, "SELECT id = @id, 2 = |/4, id # ~1, 5 != -1 FROM users ORDER BY id"),
            (Same, "SELECT ~ ~id, @ @id, ~ -id FROM users ORDER BY id"),
            (
                Same,
                "SELECT id FROM users WHERE name ~~* 'AN%' AND name !~~ 'x' AND name ~'A' ORDER BY id",
            ),
            (Hold, "SELECT id FROM users WHERE id==1"),
            (Hold, "SELECT (ROW(1, 2) *= ROW(1, 2)) FROM users"),
        ],
    );
}

#[test]
fn adjacent_quotes_stay_two() {
    hold(
        "8, 9",
        &[
            (Same, "SELECT 'be$t''''t', '''', '''''' FROM users"),
            (Same, r#"SELECT id AS "x""""y", 1 AS """" FROM users ORDER BY 1"#),
            (Same, r#"SELECT """".id FROM users AS """" ORDER BY 1"#),
            (
                Same,
                r#"WITH "a""""b" AS (SELECT secret FROM users) SELECT * FROM "a""""b" ORDER BY 1"#,
            ),
            (Hold, r#"SELECT * FROM "users""""""#),
            (Same, "SELECT 'a'\n'b''c' FROM users"),
        ],
    );
}

#[test]
fn the_table_command_keeps_its_quotes() {
    hold(
        "10",
        &[
            (Same, r#"SELECT 'x', 1 UNION TABLE "currencies" ORDER BY 1"#),
            (Hold, r#"SELECT 1, 'x' UNION TABLE "Vault""#),
            (Hold, "SELECT 1, '11111111-1111-4111-8111-111111111111'::uuid, 'x' UNION TABLE vault"),
            (Hold, "TABLE internal_keys"),
            (Same, "TABLE currencies ORDER BY 1"),
            (Same, "SELECT count(*) FROM (TABLE orders) o"),
        ],
    );
}

#[test]
fn two_minus_signs_begin_no_comment() {
    hold(
        "11",
        &[
            (Same, "SELECT - -1 FROM users"),
            (Same, "SELECT id FROM users WHERE id - -1 > 2 ORDER BY - - id"),
            (Same, "SELECT id FROM users WHERE id = - - 1 AND name = 'Ann'"),
        ],
    );
}

#[test]
fn unicode_escapes_are_names_and_texts() {
    hold(
        "12",
        &[
            (Same, r#"SELECT U&"\0069d" FROM users ORDER BY 1"#),
            (Same, r#"SELECT id FROM U&"us\0065rs" ORDER BY id"#),
            (Hold, r#"SELECT * FROM U&"vau\006Ct""#),
            (Same, r"SELECT U&'\0041' FROM users"),
            (
                Same,
                r"SELECT id FROM users WHERE name = U&'\0041nn' OR name = U&'!0041rt' UESCAPE '!'",
            ),
        ],
    );
}

/// PostgreSQL 15 knows no such numbers and says so; the grammar of 18 does, and what is sent is the
/// number itself. Nobody's rows are shown by either.
#[test]
fn numbers_in_other_bases_are_numbers() {
    let mut pair = Pair::new();
    for sql in [
        "SELECT id FROM users WHERE id = 0x1",
        "SELECT 0b11",
        "SELECT 0o17 FROM users",
        "SELECT 1_000",
    ] {
        let outcome = pair.proxied.query(sql);
        let plain = pair.direct.query(sql);
        let rows = outcome.rows().len();
        assert!(
            outcome.denied() || !plain.errors().is_empty() || rows == plain.rows().len(),
            "{sql}: {outcome:?}"
        );
        assert!(rows <= 3, "{sql}: {outcome:?}");
    }
    let value = pair.proxied.query("SELECT 0b11");
    assert!(value.denied() || value.lines() == ["3"], "no alias: {value:?}");
    pair.world.finish();
}

#[test]
fn postfix_isnull_is_no_alias() {
    hold(
        "17",
        &[
            (Same, "SELECT note isnull FROM orders ORDER BY id"),
            (Same, "SELECT id FROM orders WHERE note isnull"),
            (Same, "SELECT note NOTNULL FROM orders ORDER BY id"),
            (Same, "SELECT id FROM orders WHERE note NOTNULL ORDER BY id"),
        ],
    );
}

#[test]
fn global_is_an_alias() {
    hold(
        "18",
        &[
            (Hold, "DELETE FROM orders global WHERE global.id = 101"),
            (Hold, "DELETE FROM orders global WHERE global.id = 3"),
            (Hold, "SELECT global.id FROM users global ORDER BY 1"),
            (Hold, "UPDATE users local SET name = 'x' WHERE local.id = 101"),
        ],
    );
}

#[test]
fn a_cast_behind_any_casts_the_comparison() {
    hold(
        "19",
        &[
            (Hold, "SELECT (1 = ANY(SELECT id FROM users))::int FROM currencies"),
            (Hold, "SELECT 1 = ANY(ARRAY(SELECT id FROM users))::bool FROM currencies"),
            (Hold, "SELECT id FROM users WHERE id = ANY('{1,101}'::int[]) ORDER BY id"),
            (Hold, "SELECT id FROM users WHERE id = ALL((SELECT ARRAY[1])::int[])"),
        ],
    );
}

#[test]
fn grouping_sets_frames_and_intervals_keep_their_meaning() {
    hold(
        "20 to 23",
        &[
            (
                Hold,
                "SELECT name, id, count(*) FROM users GROUP BY GROUPING SETS (ROLLUP (name, id), name) ORDER BY 1, 2, 3",
            ),
            (
                Hold,
                "SELECT id, count(*) OVER (ORDER BY placed RANGE '31 days' PRECEDING) FROM orders ORDER BY id",
            ),
            (Hold, "SELECT interval(2) '1.239 seconds' FROM users"),
            (Hold, "SELECT id FROM users ORDER BY id LIMIT ALL"),
            (Hold, "SELECT id FROM users ORDER BY id OFFSET 1 ROWS FETCH NEXT 1 ROWS ONLY"),
            (Hold, "SET LOCAL TRANSACTION READ ONLY"),
            (Hold, "SHOW fields"),
            (Hold, "COPY (SELECT id FROM users ORDER BY id) TO STDOUT (HEADER true, FORMAT csv)"),
        ],
    );
}

#[test]
fn only_and_replace_are_not_taken_for_tables() {
    hold(
        "misread relations",
        &[
            (Hold, "SELECT id FROM ONLY users ORDER BY id"),
            (Hold, "SELECT id FROM ONLY (users) ORDER BY id"),
            (Hold, "UPDATE ONLY users SET name = name"),
            (Hold, "DELETE FROM ONLY orders"),
            (Hold, "UPDATE replace users SET name = name"),
            (
                Hold,
                "MERGE INTO ONLY orders o USING (SELECT 101 AS id) s ON o.id = s.id WHEN MATCHED THEN DELETE",
            ),
            (Hold, "SELECT id FROM users* ORDER BY id"),
            (Hold, "SELECT * FROM current_user"),
            (Hold, "SELECT id INTO TEMP x FROM users"),
            (Same, "SELECT id FROM USERS ORDER BY id"),
            (Hold, r#"SELECT id FROM "USERS""#),
            (Hold, "SELECT id FROM üsers"),
            (Same, "SELECT name 'x' FROM users"),
        ],
    );
}

#[test]
fn names_are_cut_at_63_bytes_before_they_are_resolved() {
    let long = format!("{}{}", "v".repeat(63), "tail");
    hold(
        "names",
        &[
            (Hold, &format!("SELECT 1 AS {long} FROM users")),
            (Hold, &format!("SELECT id FROM {long}")),
            (
                Hold,
                &format!(
                    "WITH {long} AS (SELECT secret FROM users) SELECT * FROM {long} ORDER BY 1"
                ),
            ),
        ],
    );
}
