//! Scripts written by hand: every message of a client's, in every state.

use crate::play::{
    ENDLESS, Said, bind, cancel, cancel_copy, data, done, execute, fail, flush, function_call,
    parse, query, raw, sync, terminate,
};
use crate::support::{TENANT_A, wire};

/// A script and what it is about.
pub struct Script {
    pub name: &'static str,
    pub messages: Vec<Said>,
}

/// Parse, Bind, Execute of the unnamed statement.
fn run(sql: &str) -> Vec<Said> {
    vec![parse("", sql), bind("", "", &[]), execute("", 0)]
}

fn rows(ids: &[u32]) -> Said {
    let text: Vec<String> =
        ids.iter().map(|id| format!("{id}\t{TENANT_A}\tcopied\t\\N\t\\N\n")).collect();
    data(&text.concat())
}

macro_rules! say {
    ($($part:expr),* $(,)?) => {{
        let mut all: Vec<Said> = Vec::new();
        $(all.extend(Into::<Part>::into($part).0);)*
        all
    }};
}

mod extended;
mod pipelines;

struct Part(Vec<Said>);

impl From<Said> for Part {
    fn from(said: Said) -> Self {
        Self(vec![said])
    }
}

impl From<Vec<Said>> for Part {
    fn from(said: Vec<Said>) -> Self {
        Self(said)
    }
}

impl From<&str> for Part {
    fn from(sql: &str) -> Self {
        Self(vec![query(sql)])
    }
}

const IDS: &str = "SELECT id FROM users ORDER BY id";
const COPY_IN: &str = "COPY documents FROM STDIN";

/// All of them.
pub fn all() -> Vec<Script> {
    let mut all = simple();
    all.extend(extended::scripts());
    all.extend(pipelines::scripts());
    all.extend(copy());
    all.extend(broken());
    all.into_iter().map(|(name, messages)| Script { name, messages }).collect()
}

type Named = (&'static str, Vec<Said>);

fn simple() -> Vec<Named> {
    vec![
        ("a query", say![IDS]),
        ("an empty query", say!["", ";", " ;; ", "-- nothing", "/* */;"]),
        ("two statements", say!["SELECT 1; SELECT id FROM users ORDER BY id;"]),
        ("empty statements between others", say!["; SELECT 1;; SELECT 2;"]),
        ("the second of three fails", say!["SELECT 1; SELECT 1/0; SELECT 3"]),
        (
            "what stood before a failure is undone",
            say![
                "INSERT INTO documents VALUES (50, 'aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa', 'x', NULL, NULL); SELECT 1/0",
                "SELECT count(*) FROM documents WHERE id = 50"
            ],
        ),
        ("a denied statement", say!["SELECT * FROM {denied}", IDS]),
        (
            "a denied statement among others",
            say!["SELECT 1; SELECT * FROM {denied}; SELECT 2", IDS],
        ),
        (
            "a denied statement in a transaction",
            say!["BEGIN", IDS, "SELECT * FROM {denied}", IDS, "COMMIT", IDS],
        ),
        (
            "a denied statement right after BEGIN",
            say!["BEGIN", "SELECT * FROM {denied}", "SELECT 1", "COMMIT"],
        ),
        ("a transaction", say!["BEGIN", IDS, "COMMIT"]),
        (
            "an empty transaction",
            say![
                "BEGIN",
                "COMMIT",
                "BEGIN",
                "ROLLBACK",
                "START TRANSACTION",
                "END",
                "BEGIN",
                "ABORT"
            ],
        ),
        (
            "a transaction within a transaction",
            say!["BEGIN", "BEGIN", IDS, "BEGIN", "COMMIT", "COMMIT"],
        ),
        ("ends without a transaction", say!["COMMIT", "ROLLBACK", "END", "ABORT"]),
        ("a failed transaction", say!["BEGIN", "SELECT 1/0", "SELECT 1", "", "COMMIT", "SELECT 1"]),
        (
            "a failed transaction is rolled back",
            say!["BEGIN", IDS, "SELECT 1/0", "ROLLBACK", "SELECT 1"],
        ),
        (
            "savepoints",
            say![
                "BEGIN",
                "SAVEPOINT s",
                "SELECT 1/0",
                "ROLLBACK TO s",
                IDS,
                "RELEASE s",
                "ROLLBACK TO s",
                "SELECT 1",
                "ROLLBACK"
            ],
        ),
        (
            "savepoints without a transaction",
            say!["SAVEPOINT s", "ROLLBACK TO s", "RELEASE s", "SELECT 1"],
        ),
        (
            "BEGIN with options",
            say![
                "BEGIN ISOLATION LEVEL SERIALIZABLE",
                "SHOW transaction_isolation",
                "COMMIT",
                "BEGIN READ ONLY",
                "DELETE FROM documents WHERE id = 3",
                "ROLLBACK"
            ],
        ),
        (
            "COMMIT AND CHAIN",
            say!["BEGIN", IDS, "COMMIT AND CHAIN", IDS, "ROLLBACK AND CHAIN", "SELECT 1", "COMMIT"],
        ),
        ("a transaction in one query", say!["BEGIN; SELECT 1; COMMIT", "SELECT 2"]),
        (
            "a transaction opened in one query",
            say!["SELECT 1; BEGIN; SELECT 2", IDS, "COMMIT; SELECT 3"],
        ),
        (
            "a failure in an implicit transaction that BEGIN made explicit",
            say!["SELECT 1; BEGIN; SELECT 1/0; SELECT 2", "SELECT 3", "COMMIT"],
        ),
        (
            "settings are reported",
            say![
                "SET TimeZone = 'Europe/Berlin'",
                "SHOW TimeZone",
                "RESET TimeZone",
                "SHOW TimeZone"
            ],
        ),
        (
            "settings of a transaction",
            say![
                "BEGIN",
                "SET LOCAL TimeZone = 'Asia/Tokyo'",
                "SHOW TimeZone",
                "COMMIT",
                "SHOW TimeZone"
            ],
        ),
        (
            "settings that are rolled back",
            say!["BEGIN", "SET TimeZone = 'Asia/Tokyo'", "ROLLBACK", "SHOW TimeZone"],
        ),
        (
            "settings that were made before a failure",
            say!["BEGIN", "SET TimeZone = 'Asia/Tokyo'", "SELECT 1/0", "COMMIT", "SHOW TimeZone"],
        ),
        (
            "SET LOCAL without a transaction warns",
            say!["SET LOCAL TimeZone = 'Asia/Tokyo'", "SHOW TimeZone"],
        ),
        (
            "resets",
            say![
                "RESET ALL",
                "DEALLOCATE ALL",
                "CLOSE ALL",
                "UNLISTEN *",
                "DISCARD PLANS",
                "DISCARD SEQUENCES",
                "DISCARD TEMP",
                "DISCARD ALL",
                "SELECT 1"
            ],
        ),
        ("DISCARD ALL in a transaction", say!["BEGIN", IDS, "DISCARD ALL", "ROLLBACK"]),
        ("DISCARD ALL beside another statement", say!["SELECT 1; DISCARD ALL", "SELECT 1"]),
        (
            "prepared by SQL",
            say![
                "PREPARE p AS SELECT id FROM users ORDER BY id",
                "EXECUTE p",
                "PREPARE p AS SELECT 1",
                "DEALLOCATE p",
                "EXECUTE p",
                "DEALLOCATE p"
            ],
        ),
        (
            "prepared with parameters",
            say![
                "PREPARE p (int, text) AS SELECT $1 + 1, $2",
                "EXECUTE p (1, 'x')",
                "EXECUTE p (1)",
                "EXECUTE p ('x', 'y')",
                "DEALLOCATE ALL",
                "EXECUTE p (1, 'x')"
            ],
        ),
        (
            "a cursor",
            say![
                "BEGIN",
                "DECLARE c CURSOR FOR SELECT id FROM users ORDER BY id",
                "FETCH c",
                "FETCH 5 FROM c",
                "FETCH c",
                "MOVE BACKWARD ALL FROM c",
                "CLOSE c",
                "FETCH c",
                "ROLLBACK"
            ],
        ),
        (
            "a cursor without a transaction",
            say!["DECLARE c CURSOR FOR SELECT 1", "FETCH c", "CLOSE c"],
        ),
        (
            "a cursor WITH HOLD",
            say![
                "DECLARE h CURSOR WITH HOLD FOR SELECT id FROM users ORDER BY id",
                "FETCH 2 FROM h",
                "CLOSE h",
                "FETCH h"
            ],
        ),
        (
            "errors of many kinds",
            say![
                "SELECT nonsense",
                "SELECT * FROM users WHERE nonsense = 1",
                "SELECT 'x'::int",
                "SELECT 1 FROM users HAVING false LIMIT -1",
                "INSERT INTO documents (id) VALUES (1, 2)",
                "SELECT id + 'x' FROM users"
            ],
        ),
        (
            "a key that is taken",
            say![
                "INSERT INTO documents VALUES (1, 'aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa', 'x', NULL, NULL)",
                "SELECT 1"
            ],
        ),
        (
            "writes",
            say![
                "INSERT INTO documents VALUES (60, 'aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa', 'x', NULL, NULL) RETURNING id, title",
                "UPDATE documents SET title = 'y' WHERE id >= 60 RETURNING title",
                "DELETE FROM documents WHERE id >= 60",
                "DELETE FROM documents WHERE id >= 60"
            ],
        ),
        ("EXPLAIN of what holds no table", say!["EXPLAIN (COSTS OFF) SELECT 1"]),
        ("what is no SQL", say!["SELEC 1", "SELECT 1 FROM", "SELECT 1"]),
        ("a cancelled statement", say![ENDLESS, cancel(), IDS]),
        (
            "a cancelled statement in a transaction",
            say!["BEGIN", IDS, ENDLESS, cancel(), IDS, "COMMIT", IDS],
        ),
        ("a FunctionCall", say![function_call(), "SELECT 1"]),
        (
            "a FunctionCall in a transaction",
            say!["BEGIN", IDS, function_call(), "SELECT 1", "ROLLBACK"],
        ),
        ("Terminate behind a query", say![IDS, terminate()]),
        ("Terminate in a transaction", say!["BEGIN", IDS, terminate()]),
        ("Terminate behind what was never synced", say![run("SELECT 1"), terminate()]),
        ("messages behind Terminate", say!["SELECT 1", terminate(), "SELECT 2"]),
    ]
}

fn copy() -> Vec<Named> {
    let count = "SELECT count(*) FROM documents WHERE id BETWEEN 80 AND 99";
    let clear = "DELETE FROM documents WHERE id BETWEEN 80 AND 99";
    vec![
        ("COPY out", say!["COPY (SELECT id, name FROM users ORDER BY id) TO STDOUT", IDS]),
        ("COPY out of nothing", say!["COPY (SELECT id FROM users WHERE false) TO STDOUT"]),
        (
            "COPY out that fails",
            say!["COPY (SELECT 1 / (id - 2) FROM users ORDER BY id) TO STDOUT", "SELECT 1"],
        ),
        (
            "COPY out by batch",
            say![run("COPY (SELECT id FROM users ORDER BY id) TO STDOUT"), run("SELECT 1"), sync()],
        ),
        ("COPY out beside others", say!["SELECT 1; COPY (SELECT 2) TO STDOUT; SELECT 3"]),
        ("COPY in", say![COPY_IN, rows(&[80, 81]), rows(&[82]), done(), count, clear]),
        ("COPY in of nothing", say![COPY_IN, done(), count]),
        (
            "COPY in that the client stops",
            say![COPY_IN, rows(&[80]), fail("I changed my mind"), count],
        ),
        (
            "COPY in with a broken row",
            say![COPY_IN, data("80\tnot a tenant\tx\t\\N\t\\N\n"), rows(&[81]), done(), count],
        ),
        ("COPY in with too few columns", say![COPY_IN, data("80\n"), done(), count]),
        ("COPY in with a key that is taken", say![COPY_IN, rows(&[80, 1]), done(), count]),
        ("COPY in by batch", say![run(COPY_IN), rows(&[80]), done(), sync(), count, clear]),
        (
            "COPY in by batch that the client stops",
            say![run(COPY_IN), rows(&[80]), fail("no"), sync(), count],
        ),
        (
            "COPY in by batch, Sync and Flush in between",
            say![
                run(COPY_IN),
                sync(),
                rows(&[80]),
                flush(),
                sync(),
                rows(&[81]),
                done(),
                sync(),
                count,
                clear
            ],
        ),
        (
            "COPY in by batch, more behind it",
            say![run(COPY_IN), rows(&[80]), done(), run("SELECT 1"), sync(), count, clear],
        ),
        (
            "COPY in in a transaction that is rolled back",
            say!["BEGIN", COPY_IN, rows(&[80]), done(), count, "ROLLBACK", count],
        ),
        (
            "COPY in in a transaction that failed",
            say!["BEGIN", "SELECT 1/0", COPY_IN, rows(&[80]), done(), "ROLLBACK", count],
        ),
        (
            "a Query in the middle of COPY in",
            say![COPY_IN, rows(&[80]), "SELECT 1", "SELECT 2", count],
        ),
        (
            "a Parse in the middle of COPY in",
            say![COPY_IN, rows(&[80]), run("SELECT 1"), sync(), count],
        ),
        (
            "a Parse in the middle of COPY in by batch",
            say![run(COPY_IN), rows(&[80]), run("SELECT 1"), sync(), count],
        ),
        (
            "COPY messages outside of COPY",
            say![
                data("x"),
                done(),
                fail("x"),
                "SELECT 1",
                run("SELECT 2"),
                data("y"),
                done(),
                sync()
            ],
        ),
        (
            "COPY messages behind an error",
            say![run("SELECT 1/0"), data("x"), done(), fail("x"), sync()],
        ),
        (
            "COPY messages behind a failed COPY",
            say!["COPY nowhere_either FROM STDIN", data("x"), done(), "SELECT 1"],
        ),
        ("a denied COPY", say!["COPY {denied} FROM STDIN", data("x"), done(), "SELECT 1"]),
        (
            "a denied COPY by batch",
            say![run("COPY {denied} FROM STDIN"), data("x"), done(), sync(), "SELECT 1"],
        ),
        (
            "COPY in beside others",
            say![
                "SELECT 1; COPY documents FROM STDIN; SELECT 2",
                rows(&[80]),
                done(),
                count,
                clear
            ],
        ),
        (
            "two COPY in one query",
            say![
                "COPY documents FROM STDIN; COPY documents FROM STDIN",
                rows(&[80]),
                done(),
                rows(&[81]),
                done(),
                count,
                clear
            ],
        ),
        (
            "COPY in with its end mark",
            say![COPY_IN, rows(&[80]), data("\\.\n"), done(), count, clear],
        ),
        (
            "COPY in, a row in pieces",
            say![
                COPY_IN,
                data("80\taaaaaaaa-aaaa-4aaa-"),
                data("8aaa-aaaaaaaaaaaa\tx\t\\"),
                data("N\t\\N"),
                data("\n"),
                done(),
                count,
                clear
            ],
        ),
        (
            "COPY in, the last line without its end",
            say![
                COPY_IN,
                data("80\taaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa\tx\t\\N\t\\N"),
                done(),
                count,
                clear
            ],
        ),
        ("a cancelled COPY in", say![COPY_IN, rows(&[80]), cancel_copy(), done(), count]),
    ]
}

fn broken() -> Vec<Named> {
    let frame = |what: &str, tag: u8, body: &[u8]| raw(what, wire::frame(tag, body));
    vec![
        ("an unknown message", say!["SELECT 1", frame("?", b'?', b""), "SELECT 2"]),
        (
            "an unknown message behind an error",
            say![run("SELECT 1/0"), frame("?", b'?', b""), sync(), "SELECT 1"],
        ),
        ("a password out of place", say![frame("p", b'p', b"x\0"), "SELECT 1"]),
        ("a length below four", say!["SELECT 1", raw("Q, length 3", b"Q\0\0\0\x03".to_vec())]),
        ("a Query without its end", say![frame("Query", b'Q', b"SELECT 1"), "SELECT 2"]),
        (
            "a Query with bytes behind its end",
            say![frame("Query", b'Q', b"SELECT 1\0SELECT 2\0"), "SELECT 2"],
        ),
        ("a Sync with a body", say![frame("Sync", b'S', b"x"), "SELECT 2"]),
        ("a Bind that ends early", say![frame("Bind", b'B', b"\0\0\0"), sync(), "SELECT 2"]),
        ("a Describe of neither kind", say![frame("Describe", b'D', b"X\0"), sync(), "SELECT 2"]),
        ("a Close of neither kind", say![frame("Close", b'C', b"X\0"), sync(), "SELECT 2"]),
        ("an Execute that ends early", say![frame("Execute", b'E', b"\0\0"), sync(), "SELECT 2"]),
        ("a text that is not UTF-8", say![frame("Query", b'Q', b"SELECT '\xff'\0"), "SELECT 2"]),
    ]
}
