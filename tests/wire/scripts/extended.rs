//! Scripts of the extended protocol: statements, portals, pipelines, errors within them.

use super::{IDS, Named, Part, run};
use crate::play::{Said, bind, close, describe, execute, flush, function_call, parse, sync};

pub(super) fn scripts() -> Vec<Named> {
    let ids = |portal: &str, name: &str| say![parse(name, IDS), bind(portal, name, &[])];
    vec![
        ("Sync alone", say![sync(), sync(), sync()]),
        ("Flush alone", say![flush(), flush(), sync(), flush()]),
        ("a statement", say![run(IDS), sync()]),
        (
            "a statement with both descriptions",
            say![
                parse("s", IDS),
                describe(b'S', "s"),
                bind("p", "s", &[]),
                describe(b'P', "p"),
                execute("p", 0),
                sync()
            ],
        ),
        (
            "descriptions of what returns nothing",
            say![
                parse("s", "DELETE FROM documents WHERE id = $1"),
                describe(b'S', "s"),
                bind("p", "s", &[Some("77")]),
                describe(b'P', "p"),
                execute("p", 0),
                sync()
            ],
        ),
        (
            "an empty statement",
            say![
                parse("", ""),
                describe(b'S', ""),
                bind("", "", &[]),
                describe(b'P', ""),
                execute("", 0),
                sync()
            ],
        ),
        ("two statements in one Parse", say![parse("", "SELECT 1; SELECT 2"), sync(), "SELECT 1"]),
        (
            "parameters",
            say![
                parse("s", "SELECT id, name FROM users WHERE id = $1 OR name = $2 ORDER BY id"),
                describe(b'S', "s"),
                bind("", "s", &[Some("1"), Some("Ada")]),
                execute("", 0),
                bind("", "s", &[None, Some("Bob")]),
                execute("", 0),
                sync()
            ],
        ),
        (
            "too few parameters",
            say![
                parse("s", "SELECT $1::int"),
                bind("", "s", &[]),
                execute("", 0),
                sync(),
                bind("", "s", &[Some("1")]),
                execute("", 0),
                sync()
            ],
        ),
        (
            "a parameter that cannot be read",
            say![
                parse("s", "SELECT id FROM users WHERE id = $1"),
                bind("", "s", &[Some("x")]),
                execute("", 0),
                sync()
            ],
        ),
        (
            "a portal in portions",
            say![
                "BEGIN",
                ids("p", "s"),
                execute("p", 1),
                execute("p", 1),
                execute("p", 5),
                execute("p", 1),
                sync(),
                "COMMIT"
            ],
        ),
        (
            "a portal in portions across Sync",
            say![
                "BEGIN",
                ids("p", "s"),
                execute("p", 1),
                sync(),
                execute("p", 1),
                sync(),
                describe(b'P', "p"),
                execute("p", 0),
                close(b'P', "p"),
                sync(),
                execute("p", 0),
                sync(),
                "ROLLBACK"
            ],
        ),
        (
            "a portal does not survive its transaction",
            say![
                ids("p", "s"),
                execute("p", 1),
                sync(),
                execute("p", 1),
                sync(),
                bind("p", "s", &[]),
                execute("p", 0),
                sync()
            ],
        ),
        (
            "a portal that is bound twice",
            say!["BEGIN", ids("p", "s"), bind("p", "s", &[]), sync(), "ROLLBACK"],
        ),
        (
            "the unnamed portal is replaced",
            say![
                parse("s", "SELECT $1::int"),
                bind("", "s", &[Some("1")]),
                bind("", "s", &[Some("2")]),
                execute("", 0),
                sync()
            ],
        ),
        (
            "two portals at once",
            say![
                "BEGIN",
                ids("p", "s"),
                bind("q", "s", &[]),
                execute("p", 1),
                execute("q", 2),
                execute("p", 1),
                execute("q", 2),
                sync(),
                "COMMIT"
            ],
        ),
        (
            "an executed portal executed again",
            say!["BEGIN", ids("p", "s"), execute("p", 0), execute("p", 0), sync(), "COMMIT"],
        ),
        (
            "a write executed twice",
            say![
                "BEGIN",
                parse("w", "UPDATE documents SET title = title WHERE id = 1"),
                bind("w", "w", &[]),
                execute("w", 0),
                execute("w", 0),
                sync(),
                "ROLLBACK"
            ],
        ),
        (
            "names that do not exist",
            say![
                bind("", "none", &[]),
                sync(),
                describe(b'S', "none"),
                sync(),
                describe(b'P', "none"),
                sync(),
                execute("none", 0),
                sync(),
                close(b'S', "none"),
                close(b'P', "none"),
                sync()
            ],
        ),
        (
            "the unnamed statement before there is one",
            say![
                bind("", "", &[]),
                execute("", 0),
                sync(),
                describe(b'S', ""),
                sync(),
                execute("", 0),
                sync()
            ],
        ),
        (
            "a name that is taken",
            say![
                parse("s", "SELECT 1"),
                sync(),
                parse("s", "SELECT 2"),
                sync(),
                bind("", "s", &[]),
                execute("", 0),
                sync()
            ],
        ),
        (
            "a name that is closed and taken again",
            say![
                parse("s", "SELECT 1"),
                close(b'S', "s"),
                parse("s", "SELECT 2"),
                bind("", "s", &[]),
                execute("", 0),
                sync(),
                close(b'S', "s"),
                sync(),
                bind("", "s", &[]),
                sync()
            ],
        ),
        (
            "the unnamed statement is replaced",
            say![
                parse("", "SELECT 1"),
                sync(),
                parse("", "SELECT 2"),
                bind("", "", &[]),
                execute("", 0),
                sync(),
                bind("", "", &[]),
                execute("", 0),
                sync()
            ],
        ),
        (
            "a Query takes the unnamed statement away",
            say![
                parse("", "SELECT 1"),
                sync(),
                "SELECT 2",
                bind("", "", &[]),
                execute("", 0),
                sync()
            ],
        ),
        (
            "a failed Parse takes the unnamed statement away",
            say![
                parse("", "SELECT 1"),
                sync(),
                parse("", "SELECT nonsense"),
                sync(),
                bind("", "", &[]),
                execute("", 0),
                sync()
            ],
        ),
        (
            "a statement outlives a failed transaction",
            say![
                "BEGIN",
                parse("s", "SELECT 7"),
                sync(),
                "SELECT 1/0",
                "ROLLBACK",
                bind("", "s", &[]),
                execute("", 0),
                sync()
            ],
        ),
        (
            "a statement prepared before the failure in its own batch",
            say![
                parse("s", "SELECT 7"),
                parse("", "SELECT nonsense"),
                sync(),
                bind("", "s", &[]),
                execute("", 0),
                sync()
            ],
        ),
        (
            "what follows an error is skipped",
            say![
                run("SELECT 1/0"),
                run("SELECT 2"),
                parse("s", "SELECT 3"),
                close(b'S', "s"),
                flush(),
                describe(b'S', "s"),
                sync(),
                bind("", "s", &[]),
                sync(),
                "SELECT 4"
            ],
        ),
        (
            "a Query behind an error is skipped",
            say![run("SELECT 1/0"), "SELECT 2", sync(), "SELECT 3"],
        ),
        (
            "an error in each of several batches",
            say![
                run("SELECT 1"),
                sync(),
                run("SELECT 1/0"),
                sync(),
                run("SELECT * FROM {denied}"),
                sync(),
                run("SELECT 2"),
                sync()
            ],
        ),
        ("a Query in place of Sync", say![run("SELECT 1"), "SELECT 2", run("SELECT 3"), sync()]),
        (
            "a Query behind a Parse alone",
            say![parse("s", "SELECT 1"), "SELECT 2", bind("", "s", &[]), execute("", 0), sync()],
        ),
        (
            "several Syncs in flight",
            say![run("SELECT 1"), sync(), sync(), run("SELECT 2"), sync(), sync()],
        ),
        (
            "a batch is one transaction",
            say![
                run(
                    "INSERT INTO documents VALUES (70, 'aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa', 'x', NULL, NULL)"
                ),
                run("SELECT 1/0"),
                sync(),
                "SELECT count(*) FROM documents WHERE id = 70"
            ],
        ),
        (
            "a denial undoes its batch",
            say![
                run(
                    "INSERT INTO documents VALUES (71, 'aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa', 'x', NULL, NULL)"
                ),
                run("SELECT * FROM {denied}"),
                sync(),
                "SELECT count(*) FROM documents WHERE id = 71"
            ],
        ),
        (
            "a denial with a name",
            say![
                parse("s", "SELECT * FROM {denied}"),
                bind("", "s", &[]),
                execute("", 0),
                sync(),
                bind("", "s", &[]),
                sync()
            ],
        ),
        (
            "a denial in a transaction",
            say![
                "BEGIN",
                run(IDS),
                sync(),
                run("SELECT * FROM {denied}"),
                sync(),
                run("SELECT 1"),
                sync(),
                "ROLLBACK"
            ],
        ),
        (
            "a transaction by Parse, Bind, Execute",
            say![run("BEGIN"), sync(), run(IDS), sync(), run("COMMIT"), sync()],
        ),
        ("a whole transaction in one batch", say![run("BEGIN"), run(IDS), run("COMMIT"), sync()]),
        (
            "a transaction that fails in one batch",
            say![
                run("BEGIN"),
                run("SELECT 1/0"),
                run("COMMIT"),
                sync(),
                run("SELECT 1"),
                sync(),
                run("ROLLBACK"),
                sync()
            ],
        ),
        (
            "a transaction that ends in the middle of a batch",
            say![run("BEGIN"), run("COMMIT"), run(IDS), run("BEGIN"), sync(), "ROLLBACK"],
        ),
        (
            "BEGIN described",
            say![
                parse("b", "BEGIN"),
                describe(b'S', "b"),
                bind("b", "b", &[]),
                describe(b'P', "b"),
                execute("b", 0),
                sync(),
                bind("", "b", &[]),
                execute("", 0),
                sync(),
                "COMMIT"
            ],
        ),
        (
            "BEGIN prepared and run in each transaction",
            say![
                parse("b", "BEGIN"),
                parse("c", "COMMIT"),
                sync(),
                bind("", "b", &[]),
                execute("", 0),
                bind("", "c", &[]),
                execute("", 0),
                sync(),
                bind("", "b", &[]),
                execute("", 0),
                run(IDS),
                bind("", "c", &[]),
                execute("", 0),
                sync()
            ],
        ),
        ("ends without a transaction, by batch", say![run("COMMIT"), run("ROLLBACK"), sync()]),
        (
            "in a failed transaction",
            say![
                "BEGIN",
                "SELECT 1/0",
                parse("s", "SELECT 1"),
                sync(),
                parse("r", "ROLLBACK"),
                bind("", "r", &[]),
                execute("", 0),
                sync(),
                run("SELECT 1"),
                sync()
            ],
        ),
        (
            "a bound portal in a failed transaction",
            say![
                "BEGIN",
                ids("p", "s"),
                execute("p", 1),
                sync(),
                "SELECT 1/0",
                execute("p", 1),
                sync(),
                bind("", "s", &[]),
                sync(),
                describe(b'S', "s"),
                sync(),
                "ROLLBACK"
            ],
        ),
        (
            "SQL's EXECUTE of a protocol name",
            say![parse("s", "SELECT 1"), sync(), close(b'S', "s"), sync(), "EXECUTE s"],
        ),
        (
            "protocol's Bind of an SQL name",
            say![
                "PREPARE q AS SELECT id FROM users ORDER BY id",
                bind("", "q", &[]),
                execute("", 0),
                sync(),
                "DEALLOCATE q",
                bind("", "q", &[]),
                sync()
            ],
        ),
        (
            "DEALLOCATE ALL",
            say![parse("s", "SELECT 1"), sync(), "DEALLOCATE ALL", bind("", "s", &[]), sync()],
        ),
        (
            "DISCARD ALL takes statements away",
            say![parse("s", "SELECT 1"), sync(), "DISCARD ALL", bind("", "s", &[]), sync()],
        ),
        (
            "DEALLOCATE in a batch",
            say![
                parse("s", "SELECT 1"),
                run("DEALLOCATE s"),
                bind("", "s", &[]),
                sync(),
                "SELECT 1"
            ],
        ),
        (
            "settings by batch",
            say![
                run("SET TimeZone = 'Asia/Tokyo'"),
                sync(),
                run("SHOW TimeZone"),
                sync(),
                run("RESET ALL"),
                sync(),
                run("SHOW TimeZone"),
                sync()
            ],
        ),
        (
            "FETCH by batch",
            say![
                "BEGIN",
                run("DECLARE c CURSOR FOR SELECT id FROM users ORDER BY id"),
                run("FETCH 2 FROM c"),
                sync(),
                run("CLOSE c"),
                sync(),
                "COMMIT"
            ],
        ),
        (
            "Flush in the middle",
            say![
                parse("", IDS),
                flush(),
                bind("", "", &[]),
                flush(),
                execute("", 1),
                flush(),
                execute("", 0),
                flush(),
                sync()
            ],
        ),
        ("Flush behind an error", say![run("SELECT 1/0"), flush(), flush(), sync(), "SELECT 1"]),
        (
            "a FunctionCall in a batch",
            say![run("SELECT 1"), function_call(), run("SELECT 2"), sync()],
        ),
        (
            "a closed portal",
            say!["BEGIN", ids("p", "s"), close(b'P', "p"), execute("p", 0), sync(), "ROLLBACK"],
        ),
        (
            "a closed statement leaves its portal",
            say!["BEGIN", ids("p", "s"), close(b'S', "s"), execute("p", 0), sync(), "COMMIT"],
        ),
        (
            "many rows in portions",
            say![
                "BEGIN",
                parse("g", "SELECT g FROM generate_series(1, 40) g"),
                bind("g", "g", &[]),
                execute("g", 7),
                execute("g", 7),
                execute("g", 7),
                sync(),
                execute("g", 100),
                sync(),
                "COMMIT"
            ],
        ),
        (
            "EXPLAIN prepared",
            say![
                parse("e", "EXPLAIN (COSTS OFF) SELECT 1"),
                describe(b'S', "e"),
                bind("", "e", &[]),
                execute("", 0),
                sync()
            ],
        ),
    ]
}
