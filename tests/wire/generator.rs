//! Scripts by chance: any message in any state, often enough in one that makes sense.

use crate::play::{
    Said, bind, close, data, describe, done, execute, fail, flush, function_call, parse, query,
    sync, terminate,
};
use crate::random::Random;
use crate::support::TENANT_A;

const TEXTS: &[&str] = &[
    "SELECT 1",
    "SELECT id, name FROM users ORDER BY id",
    "SELECT g, repeat('x', g) FROM generate_series(1, 5) g",
    "SELECT 1/0",
    "SELECT * FROM {denied}",
    "SELECT nonsense FROM users",
    "SELECT id FROM users WHERE id = 1 OR name = 'Bob'",
    "",
    "BEGIN",
    "BEGIN",
    "COMMIT",
    "ROLLBACK",
    "SAVEPOINT s",
    "ROLLBACK TO s",
    "RELEASE s",
    "SET TimeZone = 'Asia/Tokyo'",
    "SET LOCAL TimeZone = 'Asia/Tokyo'",
    "RESET ALL",
    "DISCARD ALL",
    "DEALLOCATE ALL",
    "SHOW TimeZone",
    "PREPARE q AS SELECT id FROM users ORDER BY id",
    "EXECUTE q",
    "DEALLOCATE q",
    "DECLARE c CURSOR FOR SELECT id FROM users ORDER BY id",
    "FETCH 2 FROM c",
    "CLOSE c",
    "COPY (SELECT id FROM users ORDER BY id) TO STDOUT",
    "COPY documents FROM STDIN",
    "UPDATE documents SET title = title || '!' WHERE id = 2",
    "DELETE FROM documents WHERE id > 3",
    "SELECT id, title FROM documents ORDER BY id",
];

const SEVERAL: &[&str] = &[
    "SELECT 1; SELECT 2",
    "SELECT 1; SELECT 1/0; SELECT 2",
    "SELECT 1; SELECT * FROM {denied}",
    "BEGIN; SELECT 1",
    "SELECT 1; COMMIT; SELECT 2",
    "UPDATE documents SET title = 'z' WHERE id = 3; SELECT 1/0",
    "COPY documents FROM STDIN; SELECT 2",
    ";;SELECT 1;",
];

const PARAMETRIC: &[&str] = &[
    "SELECT $1::int + 1",
    "SELECT id FROM users WHERE id >= $1::int ORDER BY id",
    "UPDATE documents SET title = 'p' WHERE id = $1::int RETURNING id",
];

const STATEMENTS: &[&str] = &["", "", "s", "t"];
const PORTALS: &[&str] = &["", "", "p", "r"];

/// A script of up to two dozen messages.
pub fn script(random: &mut Random) -> Vec<Said> {
    let mut script = Vec::new();
    for _ in 0..random.between(1, 12) {
        step(random, &mut script);
    }
    if random.chance(3) {
        script.push(terminate());
    }
    script
}

fn text<'a>(random: &mut Random) -> &'a str {
    let from = if random.chance(15) { PARAMETRIC } else { TEXTS };
    random.pick(from)
}

fn step(random: &mut Random, script: &mut Vec<Said>) {
    let (statement, portal) = (random.pick(STATEMENTS), random.pick(PORTALS));
    let kind = if random.chance(50) { b'S' } else { b'P' };
    let name = if kind == b'S' { statement } else { portal };
    match random.below(100) {
        0..20 => script.push(query(random.pick(TEXTS))),
        20..24 => script.push(query(random.pick(SEVERAL))),
        24..44 => {
            script.push(parse(statement, text(random)));
            if random.chance(30) {
                script.push(describe(b'S', statement));
            }
            script.push(bind(portal, statement, parameters(random)));
            if random.chance(30) {
                script.push(describe(b'P', portal));
            }
            script.push(execute(portal, rows(random)));
        }
        44..50 => script.push(parse(statement, text(random))),
        50..58 => {
            script.push(bind(portal, statement, parameters(random)));
            script.push(execute(portal, rows(random)));
        }
        58..64 => script.push(execute(portal, rows(random))),
        64..68 => script.push(describe(kind, name)),
        68..72 => script.push(close(kind, name)),
        72..86 => script.push(sync()),
        86..89 => script.push(flush()),
        89..94 => copied(random, script),
        94..95 => script.push(data("99\n")),
        95..96 => script.push(done()),
        96..97 => script.push(fail("by chance")),
        97..98 => script.push(function_call()),
        _ => {
            script.push(query("BEGIN"));
            script.push(query(random.pick(TEXTS)));
        }
    }
}

fn copied(random: &mut Random, script: &mut Vec<Said>) {
    let sql = "COPY documents FROM STDIN";
    if random.chance(50) {
        script.push(query(sql));
    } else {
        script.extend([parse("", sql), bind("", "", &[]), execute("", 0)]);
    }
    for _ in 0..random.below(3) {
        script.push(data(&format!("{}\t{TENANT_A}\tc\t\\N\t\\N\n", random.between(4, 40))));
    }
    match random.below(10) {
        0..6 => script.push(done()),
        6..8 => script.push(fail("by chance")),
        _ => {}
    }
    if random.chance(50) {
        script.push(sync());
    }
}

fn parameters(random: &mut Random) -> &'static [Option<&'static str>] {
    const CHOICES: &[&[Option<&str>]] = &[&[], &[], &[Some("2")], &[None], &[Some("x")]];
    random.choose(CHOICES)
}

fn rows(random: &mut Random) -> u32 {
    random.choose(&[0, 0, 0, 1, 2])
}
