//! Scripts of several batches in flight: what becomes of names when one of them fails, and what is said
//! of it.

use super::{IDS, Named, Part, run};
use crate::play::{
    Said, bind, close, describe, done, execute, flush, function_call, parse, pause, sync, terminate,
};

const WRONG: &str = "SELECT nonsense FROM users";
const ONE: &str = "SELECT $1::int + 1";

pub(super) fn scripts() -> Vec<Named> {
    vec![
        (
            "an unnamed statement behind one that failed in the batch before",
            say![
                parse("", WRONG),
                sync(),
                parse("", IDS),
                pause(),
                bind("", "", &[]),
                execute("", 0),
                sync(),
                pause(),
                bind("", "", &[]),
                execute("", 0),
                sync()
            ],
        ),
        (
            "a Query behind a batch that failed takes the unnamed statement away",
            say![
                run(IDS),
                sync(),
                run("SELECT 1/0"),
                parse("", IDS),
                sync(),
                "SELECT 1",
                pause(),
                bind("", "", &[]),
                execute("", 0),
                sync()
            ],
        ),
        (
            "a Query that is skipped takes nothing away",
            say![
                parse("", ONE),
                bind("", "", &[]),
                "SELECT 1",
                sync(),
                pause(),
                bind("", "", &[Some("2")]),
                execute("", 0),
                sync()
            ],
        ),
        (
            "a Close that is skipped leaves the name taken",
            say![
                parse("s", IDS),
                sync(),
                run("SELECT 1/0"),
                close(b'S', "s"),
                sync(),
                parse("s", "SELECT 1"),
                pause(),
                sync(),
                bind("", "s", &[]),
                execute("", 0),
                sync()
            ],
        ),
        (
            "a name that is closed and given again in two batches",
            say![
                parse("s", IDS),
                sync(),
                close(b'S', "s"),
                sync(),
                parse("s", "SELECT 1"),
                bind("", "s", &[]),
                execute("", 0),
                sync(),
                pause(),
                bind("", "s", &[]),
                execute("", 0),
                sync()
            ],
        ),
        (
            "a portal that was never made does not hide the one before",
            say![
                "BEGIN",
                parse("a", IDS),
                parse("b", "SELECT 1"),
                bind("p", "a", &[]),
                sync(),
                "SAVEPOINT s",
                bind("", "b", &[Some("too many")]),
                bind("p", "b", &[]),
                sync(),
                "ROLLBACK TO s",
                execute("p", 2),
                sync(),
                "COMMIT"
            ],
        ),
        (
            "DEALLOCATE ALL leaves the unnamed statement",
            say![
                parse("", IDS),
                parse("t", "DEALLOCATE ALL"),
                bind("", "t", &[]),
                execute("", 0),
                bind("", "", &[]),
                execute("", 0),
                bind("", "t", &[]),
                sync()
            ],
        ),
        (
            "DISCARD ALL by batch leaves the unnamed statement",
            say![run("DISCARD ALL"), sync(), bind("", "", &[]), execute("", 0), sync()],
        ),
        (
            "the unnamed statement of another transaction is none of this one's",
            say![
                run("ROLLBACK"),
                sync(),
                "SELECT 1",
                run("ROLLBACK"),
                bind("", "", &[]),
                execute("", 0),
                sync()
            ],
        ),
        (
            "an unnamed statement that was refused",
            say![
                parse("", IDS),
                sync(),
                parse("", "SELECT * FROM {denied}"),
                sync(),
                bind("", "", &[]),
                execute("", 0),
                sync(),
                run("SELECT 1; SELECT 2"),
                sync(),
                bind("", "", &[]),
                sync()
            ],
        ),
        (
            "errors name a statement as the client does",
            say![
                parse("s", ONE),
                parse("t", ONE),
                sync(),
                bind("", "t", &[]),
                sync(),
                bind("", "s", &[]),
                sync(),
                describe(b'S', "t"),
                bind("", "t", &[]),
                sync()
            ],
        ),
        (
            "a name is taken also by what needs no server",
            say![parse("s", "ROLLBACK"), parse("s", IDS), sync(), bind("", "s", &[]), sync()],
        ),
        ("Close right before Terminate", say![sync(), close(b'P', ""), done(), terminate()]),
        ("Parse right before Terminate", say![parse("", "BEGIN"), pause(), terminate()]),
        (
            "what is answered without the server waits for a Flush",
            say![parse("", "BEGIN"), pause(), flush(), bind("", "", &[]), pause(), terminate()],
        ),
        (
            "what is answered without the server waits for a Sync",
            say![run("BEGIN"), pause(), sync(), pause(), run("COMMIT"), pause(), sync()],
        ),
        (
            "a FunctionCall in a failed transaction",
            say!["BEGIN", "SELECT 1/0", function_call(), "SELECT 1", "ROLLBACK"],
        ),
        (
            "a FunctionCall in a transaction that failed before it began",
            say!["BEGIN", "SELECT * FROM {denied}", function_call(), "COMMIT"],
        ),
        (
            "a FunctionCall leaves the unnamed statement",
            say![
                parse("", IDS),
                sync(),
                function_call(),
                bind("", "", &[]),
                execute("", 0),
                sync()
            ],
        ),
    ]
}
