//! COPY … FROM STDIN: rows of the tenant come in as on a plain connection; no other row does.

use std::time::Duration;

use crate::same::{Look, Pair};
use crate::support::fixture::{World, database_of_a};
use crate::support::postgres::{APP_USER, server};
use crate::support::wire::{self, Outcome, WireClient};
use crate::support::{TENANT_A, TENANT_B};

/// A's documents as they stand, past the proxy.
const DOCUMENTS: &str = "SELECT coalesce(string_agg(concat_ws('|', id, tenant_id, title, meta, \
    coalesce(parent::text, 'no')), E'\\n' ORDER BY id), '') FROM documents \
    WHERE tenant_id = 'aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa'";

/// COPY with its data in one go, each piece a message.
fn copy(client: &mut WireClient, sql: &str, pieces: &[&[u8]]) -> Outcome {
    let mut bytes = wire::query(sql);
    for piece in pieces {
        bytes.extend(wire::frame(b'd', piece));
    }
    bytes.extend(wire::copy_done());
    client.send(&bytes);
    client.collect(1)
}

/// The same COPY on both sides looks the same and leaves the same rows.
fn assert_same_copies(copies: &[(&str, &str)]) {
    let mut pair = Pair::new();
    let mut differences = Vec::new();
    for (sql, data) in copies {
        let through = copy(&mut pair.proxied, sql, &[data.as_bytes()]);
        let straight = copy(&mut pair.direct, sql, &[data.as_bytes()]);
        let (look, expected) = (Look::of(sql, &through), Look::of(sql, &straight));
        let (rows, wanted) =
            (pair.world.truth(DOCUMENTS), server().run(&pair.only_a, DOCUMENTS).value());
        if look != expected || rows != wanted || through.shape() != straight.shape() {
            differences.push(format!("{sql} {data:?}\n{look:?}\n{expected:?}\n{rows}\n{wanted}"));
        }
        server().run(&pair.only_a, "DELETE FROM documents WHERE id > 3");
        server().run(&pair.world.database, "DELETE FROM documents WHERE id BETWEEN 4 AND 100");
    }
    assert!(differences.is_empty(), "{}", differences.join("\n\n"));
    pair.world.finish();
}

#[test]
fn rows_of_the_tenant_come_in_by_text_and_csv_with_every_option() {
    let a = TENANT_A;
    let text =
        format!("10\t{a}\tten\t\\N\t\\N\n11\t{}\ta\\tb\\\\\t{{\"k\": 1}}\t10\n", a.to_uppercase());
    let csv = format!("10,{{{a}}},ten,,\n11,{a},\"a,\"\"b\nc\",\"{{\"\"k\"\": 1}}\",10\n");
    let reordered = format!("title;id;tenant_id\n'it\\'s;';20;{a}\n;21;{a}\n");
    assert_same_copies(&[
        ("COPY documents FROM STDIN", &text),
        ("COPY documents FROM STDIN", &format!("{text}\\.\nwhatever")),
        ("COPY documents FROM STDIN", &text.replace('\n', "\r\n")),
        ("COPY public.documents FROM STDIN WITH (FORMAT csv)", &csv),
        ("COPY documents FROM STDIN CSV", &csv),
        ("copy documents from stdin (format 'csv', encoding 'utf-8')", &csv),
        (
            "COPY documents (title, id, tenant_id) FROM STDIN \
             (FORMAT csv, HEADER true, DELIMITER ';', QUOTE '''', ESCAPE '\\')",
            &reordered,
        ),
        (
            "COPY documents (title, id, tenant_id) FROM STDIN (FORMAT csv, HEADER match, DELIMITER ';', \
             QUOTE '''', ESCAPE '\\')",
            &reordered,
        ),
        (
            "COPY documents (title, id, tenant_id) FROM STDIN (FORMAT csv, HEADER match)",
            "title,id\n",
        ),
        (
            "COPY documents (title, id, tenant_id) FROM STDIN (FORMAT csv, HEADER match)",
            "title,id,tenant\n",
        ),
        (
            "COPY documents (id, tenant_id, title, parent) FROM STDIN \
             (FORMAT csv, NULL 'nil', FORCE_NULL (parent), FORCE_NOT_NULL (title))",
            &format!("10,{a},nil,\"nil\"\n"),
        ),
        (
            "COPY documents (id, tenant_id, title) FROM STDIN DELIMITER '|' NULL 'x' ",
            &format!("10|{a}|x\n11|{a}|y\n"),
        ),
        (
            "COPY documents (id, tenant_id) FROM STDIN (FORMAT csv) WHERE id > 10 AND title IS NULL",
            &format!("10,{a}\n11,{a}\n"),
        ),
        ("COPY documents FROM STDIN", ""),
        ("COPY documents (id, tenant_id) FROM STDIN", &format!("10\t{a}\n10\t{a}\n")),
        ("COPY documents (id, tenant_id) FROM STDIN", &format!("10\t{a}\n11")),
        ("COPY documents (id, tenant_id) FROM STDIN", &format!("10\t{a}\t1\n")),
        ("COPY documents (id, tenant_id) FROM STDIN (FORMAT csv)", &format!("10,{a}\n\"11")),
        ("COPY documents (id, tenant_id) FROM STDIN", &format!("10\t{a}\r\n11\t{a}\n")),
    ]);
}

#[test]
fn the_client_is_told_of_its_own_columns() {
    let pair = Pair::new();
    let (world, mut a, mut direct) = (pair.world, pair.proxied, pair.direct);
    for sql in [
        "COPY documents FROM STDIN",
        "COPY documents (tenant_id, id) FROM STDIN CSV",
        "COPY documents (id, tenant_id) FROM STDIN (FORMAT binary)",
    ] {
        let told: Vec<Vec<u8>> = [&mut a, &mut direct]
            .into_iter()
            .map(|client| {
                client.send(&wire::query(sql));
                let told = client.collect_until(|outcome| outcome.shape().ends_with('G'));
                client.send(&wire::frame(b'f', b"enough\0"));
                let end = client.collect(1);
                assert_eq!(end.sqlstate(), "57014", "{end:?}");
                assert_eq!(end.error().message(), "COPY from stdin failed: enough");
                told.messages.last().unwrap().body.clone()
            })
            .collect();
        assert_eq!(told[0], told[1], "{sql}");
    }
    a.terminate();
    world.finish();
}

#[test]
fn a_row_of_another_tenant_ends_the_copy_and_nothing_of_it_stays() {
    let world = World::new();
    let mut a = world.a();
    let all = "SELECT count(*) FROM documents";
    for (sql, row) in [
        ("COPY documents (id, tenant_id) FROM STDIN", format!("51\t{TENANT_B}\n")),
        ("COPY documents (id, tenant_id) FROM STDIN", "51\t\\N\n".to_owned()),
        ("COPY documents (id, tenant_id) FROM STDIN CSV", format!("51,\"{TENANT_B}\"\n")),
        ("COPY documents (id, tenant_id) FROM STDIN CSV", "51,\n".to_owned()),
        ("COPY documents (id, tenant_id) FROM STDIN", format!("51\t\\x62{}\n", &TENANT_B[1..])),
        ("COPY documents (tenant_id, id) FROM STDIN", format!("{TENANT_B}\t51\n")),
    ] {
        let separator = if sql.ends_with("CSV") { ',' } else { '\t' };
        let own = if sql.contains("(id") {
            format!("50{separator}{TENANT_A}\n")
        } else {
            format!("{TENANT_A}{separator}50\n")
        };
        let outcome = copy(&mut a, sql, &[own.as_bytes(), row.as_bytes(), own.as_bytes()]);
        assert_eq!(outcome.denial_code(), "HR1011", "{sql} {row:?} {outcome:?}");
        assert_eq!(outcome.shape(), "GEZ", "{outcome:?}");
        assert_eq!(world.truth(all), "5", "{sql}");
    }
    assert_eq!(world.hedgerow.record_with(&["HR1011"])["status"], "Failure");
    // In a transaction it is aborted, as by an error of the server's.
    a.query("BEGIN");
    a.query(
        "INSERT INTO documents (id, tenant_id) VALUES (60, 'aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa')",
    );
    let row = format!("51\t{TENANT_B}\n");
    let outcome = copy(&mut a, "COPY documents (id, tenant_id) FROM STDIN", &[row.as_bytes()]);
    assert_eq!((outcome.denial_code().as_str(), outcome.status()), ("HR1011", Some('E')));
    assert_eq!(a.query("SELECT 1").sqlstate(), "25P02");
    a.query("ROLLBACK");
    assert_eq!(world.truth(all), "5");
    a.terminate();
    world.finish();
}

#[test]
fn a_copy_without_the_tenant_column_is_filled_with_the_tenant() {
    let world = World::new();
    for (mut client, id) in [(world.a(), 70), (world.b(), 80)] {
        let outcome = copy(
            &mut client,
            "COPY documents (id, title) FROM STDIN",
            &[format!("{id}\tx\n").as_bytes()],
        );
        assert_eq!(outcome.tags(), ["COPY 1"], "{outcome:?}");
        let next = id + 1;
        let csv = format!("title,id\n\"a\nb\",{next}\n");
        let sql = "COPY documents (title, id) FROM STDIN (FORMAT csv, HEADER)";
        assert_eq!(copy(&mut client, sql, &[csv.as_bytes()]).tags(), ["COPY 1"]);
        let binary = binary(&[&[Some(&(id + 2_i32).to_be_bytes()), Some(b"bin"), None]]);
        let sql = "COPY documents (id, title, meta) FROM STDIN (FORMAT binary)";
        let outcome = copy(&mut client, sql, &[&binary]);
        assert_eq!(outcome.tags(), ["COPY 1"], "{outcome:?}");
        client.terminate();
    }
    let owners = "SELECT string_agg(id || ':' || left(tenant_id::text, 1), ' ' ORDER BY id) \
                  FROM documents WHERE id BETWEEN 70 AND 90";
    assert_eq!(world.truth(owners), "70:a 71:a 72:a 80:b 81:b 82:b");
    world.finish();
}

fn binary(rows: &[&[Option<&[u8]>]]) -> Vec<u8> {
    let mut data = b"PGCOPY\n\xff\r\n\0\0\0\0\0\0\0\0\0".to_vec();
    for row in rows {
        data.extend((row.len() as i16).to_be_bytes());
        for field in *row {
            match field {
                Some(value) => {
                    data.extend((value.len() as i32).to_be_bytes());
                    data.extend(*value);
                }
                None => data.extend((-1_i32).to_be_bytes()),
            }
        }
    }
    data.extend((-1_i16).to_be_bytes());
    data
}

#[test]
fn binary_rows_are_checked_too() {
    let world = World::new();
    let mut a = world.a();
    let tenant = |text: &str| uuid::Uuid::parse_str(text).unwrap().into_bytes();
    let sql = "COPY documents (id, tenant_id, title) FROM STDIN WITH (FORMAT binary)";
    let row = |id: i32, owner: &str| {
        binary(&[&[Some(&id.to_be_bytes()), Some(&tenant(owner)), Some("ä".as_bytes())]])
    };
    assert_eq!(copy(&mut a, sql, &[&row(90, TENANT_A)]).tags(), ["COPY 1"]);
    assert_eq!(copy(&mut a, sql, &[&row(91, TENANT_B)]).denial_code(), "HR1011");
    let mut extra = row(92, TENANT_A);
    extra.push(0);
    let outcome = copy(&mut a, sql, &[&extra]);
    assert_eq!(outcome.error().message(), "received copy data after EOF marker");
    let outcome = copy(&mut a, sql, &[b"id,tenant"]);
    assert_eq!(outcome.error().message(), "COPY file signature not recognized");
    let pieces: Vec<Vec<u8>> = row(93, TENANT_A).iter().map(|byte| vec![*byte]).collect();
    let pieces: Vec<&[u8]> = pieces.iter().map(Vec::as_slice).collect();
    assert_eq!(copy(&mut a, sql, &pieces).tags(), ["COPY 1"]);
    assert_eq!(world.truth("SELECT count(*) FROM documents WHERE id BETWEEN 90 AND 99"), "2");
    a.terminate();
    world.finish();
}

#[test]
fn data_may_be_cut_anywhere() {
    let world = World::new();
    let mut a = world.a();
    let data = format!("1000,{TENANT_A},\"x\ny\"\r\n1001,{TENANT_A},ä\r\n");
    let sql = "COPY documents (id, tenant_id, title) FROM STDIN CSV";
    for size in [1, 2, 3, 7, 40] {
        let pieces: Vec<&[u8]> = data.as_bytes().chunks(size).collect();
        assert_eq!(copy(&mut a, sql, &pieces).tags(), ["COPY 2"], "{size}");
        assert_eq!(a.query("DELETE FROM documents WHERE id >= 1000").tags(), ["DELETE 2"]);
    }
    // The messages themselves, too.
    let mut bytes = wire::query(sql);
    bytes.extend(wire::copy_data(&data));
    bytes.extend(wire::copy_done());
    for size in [1, 3, 11] {
        a.send_split(&bytes, size);
        assert_eq!(a.collect(1).tags(), ["COPY 2"], "{size}");
        a.query("DELETE FROM documents WHERE id >= 1000");
    }
    a.terminate();
    world.finish();
}

#[test]
fn copies_run_by_the_extended_protocol_in_pipelines_and_in_scripts() {
    let mut pair = Pair::new();
    let row = |id: i32| wire::copy_data(&format!("{id}\t{TENANT_A}\n"));
    let sql = "COPY documents (id, tenant_id) FROM STDIN";
    let mut extended = wire::parse("", sql, &[]);
    extended.extend(wire::describe(b'S', ""));
    extended.extend(wire::bind("", "", &[]));
    extended.extend(wire::execute("", 0));
    // As libpq does: a Sync at once, which COPY swallows, and one behind the end.
    extended.extend(wire::sync());
    extended.extend(row(10));
    extended.extend(wire::flush());
    extended.extend(wire::copy_done());
    extended.extend(wire::sync());
    extended.extend(wire::query("SELECT count(*) FROM documents"));
    let mut failing = wire::parse("", sql, &[]);
    failing.extend(wire::bind("", "", &[]));
    failing.extend(wire::execute("", 0));
    failing.extend(wire::copy_data("11\tno uuid\n"));
    failing.extend(wire::copy_data("12\tno uuid\n"));
    failing.extend(wire::copy_done());
    failing.extend(wire::parse("", "SELECT 1", &[]));
    failing.extend(wire::sync());
    let mut script = wire::query(&format!("SELECT 1; {sql}; SELECT 2; {sql}; SELECT 3"));
    for id in [20, 21] {
        script.extend(row(id));
        script.extend(wire::copy_done());
    }
    script.extend(wire::query("SELECT count(*) FROM documents"));
    let mut stray = row(30);
    stray.extend(wire::copy_done());
    stray.extend(wire::frame(b'f', b"no\0"));
    stray.extend(wire::query("SELECT 4"));
    for (bytes, ready, fails) in
        [(extended, 2, false), (failing, 1, true), (script, 2, false), (stray, 1, false)]
    {
        let outcomes: Vec<Outcome> = [&mut pair.proxied, &mut pair.direct]
            .into_iter()
            .map(|client| {
                client.send(&bytes);
                client.collect(ready)
            })
            .collect();
        assert_eq!(outcomes[0].shape(), outcomes[1].shape(), "{:?}", outcomes[0]);
        assert_eq!(outcomes[0].lines(), outcomes[1].lines());
        assert_eq!(outcomes[0].tags(), outcomes[1].tags());
        assert_eq!(!outcomes[0].errors().is_empty(), fails);
    }
    pair.world.finish();
}

#[test]
fn forms_of_copy_that_are_not_allowed_are_denied() {
    let world = World::new();
    let mut a = world.a();
    for (sql, code) in [
        ("COPY currencies FROM STDIN", "HR1013"),
        ("COPY price_list FROM STDIN", "HR1013"),
        ("COPY vault FROM STDIN", "HR1004"),
        ("COPY nowhere FROM STDIN", "HR1003"),
        ("COPY pg_class FROM STDIN", "HR1013"),
        ("COPY user_overview FROM STDIN", "HR1014"),
        ("COPY users FROM STDIN", "HR1010"),
        ("COPY users (id, password_hash) FROM STDIN", "HR1010"),
        ("COPY documents FROM '/etc/passwd'", "HR1014"),
        ("COPY documents FROM PROGRAM 'id'", "HR1014"),
        ("COPY documents (id, id) FROM STDIN", "HR1014"),
        ("COPY documents FROM STDIN (FREEZE)", "HR1014"),
        ("COPY documents FROM STDIN (ENCODING 'latin1')", "HR1014"),
        ("COPY documents FROM STDIN (FORMAT csv, QUOTE '\\')", "HR1014"),
        ("COPY documents FROM STDIN (DELIMITER 'ab')", "HR1014"),
        ("COPY documents FROM STDIN (FORMAT xml)", "HR1014"),
        ("COPY documents (id) FROM STDIN WHERE pg_read_file('x') IS NULL", "HR1005"),
        ("COPY documents (id) FROM STDIN WHERE EXISTS (SELECT 1 FROM users)", "HR1014"),
    ] {
        let outcome = a.query(sql);
        assert_eq!(outcome.denial_code(), code, "{sql} {outcome:?}");
        assert_eq!(outcome.shape(), "EZ");
    }
    let sql = "COPY users (id, email, name) FROM STDIN";
    assert_eq!(copy(&mut a, sql, &[b"9\tnew@a\tNew\n"]).tags(), ["COPY 1"]);
    a.terminate();
    world.finish();
}

#[test]
fn a_client_that_leaves_in_the_middle_leaves_nothing() {
    let world = World::new();
    for extended in [false, true] {
        let mut a = world.a();
        let sql = "COPY documents (id) FROM STDIN";
        if extended {
            let mut bytes = wire::parse("", sql, &[]);
            bytes.extend(wire::bind("", "", &[]));
            bytes.extend(wire::execute("", 0));
            a.send(&bytes);
        } else {
            a.send(&wire::query(sql));
        }
        a.collect_until(|outcome| outcome.shape().ends_with('G'));
        a.send(&wire::copy_data("500\n501\n"));
        drop(a);
    }
    std::thread::sleep(Duration::from_millis(500));
    assert_eq!(world.truth("SELECT count(*) FROM documents WHERE id >= 500"), "0");
    let mut a = world.a();
    assert_eq!(copy(&mut a, "COPY documents (id) FROM STDIN", &[b"500\n"]).tags(), ["COPY 1"]);
    a.terminate();
    world.finish();
}

#[test]
fn another_message_in_the_middle_ends_the_session() {
    let world = World::new();
    let mut a = world.a();
    a.send(&wire::query("COPY documents (id) FROM STDIN"));
    a.collect_until(|outcome| outcome.shape().ends_with('G'));
    a.send(&wire::copy_data("500\n"));
    a.send(&wire::query("SELECT 1"));
    let outcome = a.collect(1);
    assert_eq!((outcome.sqlstate().as_str(), outcome.closed), ("08P01", true), "{outcome:?}");
    assert_eq!(world.truth("SELECT count(*) FROM documents WHERE id >= 500"), "0");
    world.finish();
}

/// Small pieces of what means something, put together at random: whatever PostgreSQL makes of them,
/// Hedgerow makes the same, or refuses.
#[test]
fn random_data_is_read_as_postgresql_reads_it() {
    const PIECES: &[&str] = &[
        "a", "\\", ".", "\\.", "\n", "\n", "\n", "\r", "\r\n", "\"", "\"\"", ",", ",", "|", "\\N",
        "N", "x41", "\\x4", "\\101", "\\n", " ", "ä", "'",
    ];
    let world = World::new();
    let only_a = database_of_a();
    let setup = "CREATE TABLE copied (n serial, tenant_id uuid NOT NULL DEFAULT \
                 'aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa', a text, b text); \
                 GRANT ALL ON copied, copied_n_seq TO PUBLIC";
    for database in [&world.database, &only_a] {
        server().run(database, &setup.replace("copied", "metrics.copied"));
    }
    let (mut a, mut direct) = (world.a(), server().connect(APP_USER, &only_a));
    let mut random = 0x2545_f491_4f6c_dd1d_u64;
    let mut next = |bound: usize| {
        random ^= random << 13;
        random ^= random >> 7;
        random ^= random << 17;
        usize::try_from(random % bound as u64).unwrap()
    };
    let state = "SELECT coalesce(string_agg(format('%L/%L', a, b), ' ' ORDER BY n), '') FROM metrics.copied";
    let (mut copied, mut refused, mut stricter) = (0, 0, 0);
    for round in 0..600 {
        let options = [
            "",
            " DELIMITER '|'",
            " CSV",
            " CSV QUOTE '''' ESCAPE '\\'",
            " CSV NULL 'a' DELIMITER '|'",
        ][next(5)];
        let columns = ["(a)", "(a, b)", "(a, b)"][next(3)];
        let data: String = (0..next(14)).map(|_| PIECES[next(PIECES.len())]).collect();
        let sql = format!("COPY metrics.copied {columns} FROM STDIN{options}");
        let through = copy(&mut a, &sql, &[data.as_bytes()]);
        let straight = copy(&mut direct, &sql, &[data.as_bytes()]);
        let (rows, wanted) = (world.truth(state), server().run(&only_a, state).value());
        for database in [&world.database, &only_a] {
            server().run(database, "TRUNCATE metrics.copied RESTART IDENTITY");
        }
        if !through.errors().is_empty() && straight.errors().is_empty() {
            // Only where `\.` shares a line with data.
            assert!(
                through.error().message().starts_with("end-of-copy marker") && data.contains("\\."),
                "round {round} {sql} {data:?} {through:?}"
            );
            stricter += 1;
            continue;
        }
        assert_eq!(
            through.tags(),
            straight.tags(),
            "round {round} {sql} {data:?} {through:?} {straight:?}"
        );
        assert_eq!(rows, wanted, "round {round} {sql} {data:?}");
        let state = (through.sqlstate(), straight.sqlstate());
        assert_eq!(state.0, state.1, "round {round} {sql} {data:?}");
        if straight.errors().is_empty() {
            copied += 1;
        } else {
            refused += 1;
        }
    }
    assert!(copied > 100 && refused > 100 && stricter < 60, "{copied} {refused} {stricter}");
    a.terminate();
    world.finish();
}

#[test]
fn a_large_copy_runs_in_constant_memory() {
    let world = World::new();
    let mut a = world.a();
    a.limit = Duration::from_secs(120);
    let memory = || -> u64 {
        let status =
            std::fs::read_to_string(format!("/proc/{}/status", world.hedgerow.pid())).unwrap();
        let line = status.lines().find(|line| line.starts_with("VmHWM:")).unwrap();
        line.split_whitespace().nth(1).unwrap().parse().unwrap()
    };
    let before = memory();
    a.send(&wire::query("COPY documents (id, title) FROM STDIN"));
    a.collect_until(|outcome| outcome.shape().ends_with('G'));
    let line = "x".repeat(1 << 10);
    let mut id = 10_000;
    for _message in 0..64 {
        let mut data = String::with_capacity(1 << 20);
        for _ in 0..1000 {
            data.push_str(&format!("{id}\t{line}\n"));
            id += 1;
        }
        a.send(&wire::copy_data(&data));
    }
    a.send(&wire::copy_done());
    let outcome = a.collect(1);
    assert_eq!(outcome.tags(), ["COPY 64000"], "{outcome:?}");
    let grown = memory().saturating_sub(before);
    assert!(grown < 16 << 10, "{grown} KiB for 64 MiB of rows");
    a.terminate();
    world.finish();
}
