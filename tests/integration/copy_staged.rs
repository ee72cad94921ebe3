//! COPY … FROM STDIN where more is asked of a row than its tenant, or the server takes no COPY: the rows go
//! by way of a temporary table, of which the client hears nothing.

use crate::same::{Look, Pair};
use crate::support::fixture::World;
use crate::support::hedgerow::Options;
use crate::support::postgres::server;
use crate::support::wire::{self, Outcome, WireClient};
use crate::support::{TENANT_A, TENANT_B, fixture};

/// Tables that refer to others: a pattern of the policy opens them.
const REFERRING: &str = "CREATE TABLE metrics.notes (id int PRIMARY KEY, tenant_id uuid NOT NULL \
    DEFAULT 'aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa', sample int REFERENCES metrics.samples, \
    note varchar(6), size numeric(6,2), at timestamptz, tags text[], flag \"char\", pad char(3), \
    bits bit(4), raw bytea, doc jsonb); GRANT ALL ON metrics.notes TO app_user";

/// The tables' rows of A.
const ROWS: &str = "SELECT coalesce((SELECT string_agg(i::text, E'\\n' ORDER BY id) FROM order_items i \
    WHERE id < 100 OR id > 1000), '') || coalesce((SELECT string_agg(n::text, E'\\n' ORDER BY id) \
    FROM metrics.notes n), '') || coalesce((SELECT string_agg(d::text, E'\\n' ORDER BY id) FROM \
    documents d WHERE tenant_id = 'aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa'), '')";

fn copy_bytes(sql: &str, data: &[u8]) -> Vec<u8> {
    let mut bytes = wire::query(sql);
    bytes.extend(wire::frame(b'd', data));
    bytes.extend(wire::copy_done());
    bytes
}

fn copy(client: &mut WireClient, sql: &str, data: &[u8]) -> Outcome {
    client.send(&copy_bytes(sql, data));
    client.collect(1)
}

/// As libpq's extended COPY: a Sync at once, which the server swallows, and one behind the end.
fn copy_extended(client: &mut WireClient, sql: &str, data: &[u8]) -> Outcome {
    let mut bytes = wire::parse("", sql, &[]);
    bytes.extend(wire::describe(b'S', ""));
    bytes.extend(wire::bind("", "", &[]));
    bytes.extend(wire::execute("", 0));
    client.send(&bytes);
    client.send(&wire::sync());
    let begun = client
        .collect_until(|outcome| outcome.shape().ends_with('G') || outcome.shape().ends_with('Z'));
    if begun.shape().ends_with('Z') {
        return begun;
    }
    let mut rest = wire::frame(b'd', data);
    rest.extend(wire::copy_done());
    rest.extend(wire::sync());
    client.send(&rest);
    begun.then(client.collect(1))
}

fn pair(row_security: bool) -> Pair {
    let pair = Pair::new();
    for database in [&pair.world.database, &pair.only_a] {
        server().run(database, REFERRING);
    }
    if row_security {
        let forced = "ALTER TABLE documents ENABLE ROW LEVEL SECURITY; \
            ALTER TABLE documents FORCE ROW LEVEL SECURITY; CREATE POLICY tenant ON documents \
            USING (tenant_id::text = current_setting('app.current_tenant', true))";
        server().run(&pair.world.database, forced);
    }
    pair
}

#[test]
fn rows_that_are_looked_at_one_by_one_come_in_as_on_a_plain_connection() {
    let mut pair = pair(true);
    let a = TENANT_A;
    let notes = "10\t5\tabc\t1.005\t2026-01-01 00:00:00+00\t{a,\"b c\"}\tx\ty\t1010\t\\\\x00ff\t{\"k\": 1}\n";
    let note = "COPY metrics.notes (id, sample, note, size, at, tags, flag, pad, bits, raw, doc) FROM STDIN";
    let note =
        |id: i32, sample: &str| (note, notes.replacen("10\t5", &format!("{id}\t{sample}"), 1));
    // On A's own database nothing fills the tenant.
    let filled = format!("ALTER TABLE documents ALTER tenant_id SET DEFAULT '{a}'");
    server().run(&pair.only_a, &filled);
    let mut differences = Vec::new();
    for (sql, data) in [
        // A row belongs to its parent's tenant.
        ("COPY order_items FROM STDIN", "10\t1\ts\t1\tA\n11\t2\t\t2\t\n".to_owned()),
        (
            "COPY order_items (secret, sku, qty, order_id, id) FROM STDIN CSV",
            "a,b,1,1,12\n".to_owned(),
        ),
        ("COPY order_items FROM STDIN", String::new()),
        ("COPY order_items FROM STDIN", "13\t1\ts\torder_items\tA\n".to_owned()),
        ("COPY order_items FROM STDIN", "14\t1\ts\n".to_owned()),
        ("COPY order_items FROM STDIN", "15\t1\t\\N\t1\tA\n".to_owned()),
        ("COPY order_items FROM STDIN", "16\t1\ta\t1\tA\n16\t1\ta\t1\tA\n".to_owned()),
        ("COPY order_items (id, order_id) FROM STDIN", "17\t1\n".to_owned()),
        (
            "COPY order_items FROM STDIN WHERE qty > 1",
            "18\t1\ts\t1\tA\n19\t2\ts\t2\tA\n".to_owned(),
        ),
        // It refers to a row of the tenant's, or to none.
        note(20, "1"),
        note(21, "\\N"),
        (
            "COPY metrics.notes (id, tenant_id, sample) FROM STDIN",
            format!("22\t{a}\t1\n23\t{a}\t1\n"),
        ),
        ("COPY metrics.notes (sample, tenant_id, id) FROM STDIN", format!("1\t{{{a}}}\t24\n")),
        ("COPY metrics.notes (id, sample, note) FROM STDIN", "25\t1\ttoo long\n".to_owned()),
        ("COPY metrics.notes (id, sample, pad, bits) FROM STDIN", "25\t1\t\t101\n".to_owned()),
        // The server takes no COPY under row-level security.
        ("COPY documents FROM STDIN", format!("10\t{a}\tten\t{{\"k\": [1]}}\t1\n")),
        ("COPY documents (id, title) FROM STDIN CSV HEADER", "id,title\n11,\"a\nb\"\n".to_owned()),
    ] {
        for extended in [false, true] {
            let run = if extended { copy_extended } else { copy };
            let through = run(&mut pair.proxied, sql, data.as_bytes());
            let straight = run(&mut pair.direct, sql, data.as_bytes());
            let (look, expected) = (Look::of(sql, &through), Look::of(sql, &straight));
            let rows = pair.world.truth(ROWS);
            let wanted = server().run(&pair.only_a, ROWS).value();
            if look != expected || rows != wanted || through.shape() != straight.shape() {
                differences.push(format!(
                    "{sql} {data:?} {extended}\n{look:?}\n{expected:?}\n{} {}\n{rows}\n{wanted}",
                    through.shape(),
                    straight.shape()
                ));
            }
            for database in [&pair.only_a, &pair.world.database] {
                server().run(
                    database,
                    "DELETE FROM order_items WHERE id BETWEEN 3 AND 99; DELETE FROM metrics.notes; \
                     DELETE FROM documents WHERE id BETWEEN 4 AND 99",
                );
            }
        }
    }
    assert!(differences.is_empty(), "{}", differences.join("\n\n"));
    assert_eq!(
        pair.world.truth("SELECT count(*) FROM pg_class WHERE relname = 'hedgerow_copy'"),
        "0"
    );
    pair.world.finish();
}

#[test]
fn a_row_that_is_not_the_tenants_ends_the_copy_and_nothing_of_it_stays() {
    let mut pair = pair(true);
    let before = pair.world.truth(ROWS);
    for (sql, data) in [
        ("COPY order_items FROM STDIN", "10\t1\ts\t1\tA\n11\t101\ts\t1\tA\n".to_owned()),
        ("COPY order_items FROM STDIN", "10\t9999\ts\t1\tA\n".to_owned()),
        ("COPY order_items FROM STDIN", "10\t\\N\ts\t1\tA\n".to_owned()),
        ("COPY metrics.notes (id, sample) FROM STDIN", "10\t1\n11\t101\n".to_owned()),
        ("COPY metrics.notes (id, sample) FROM STDIN", "10\t9999\n".to_owned()),
        ("COPY metrics.notes (id, tenant_id, sample) FROM STDIN", format!("10\t{TENANT_B}\t1\n")),
        ("COPY documents (id, tenant_id) FROM STDIN", format!("10\t{TENANT_A}\n11\t{TENANT_B}\n")),
        ("COPY documents (id, tenant_id) FROM STDIN", "10\t\\N\n".to_owned()),
    ] {
        for run in [copy, copy_extended] {
            let outcome = run(&mut pair.proxied, sql, data.as_bytes());
            assert_eq!(outcome.denial_code(), "HR1011", "{sql} {data} {outcome:?}");
            assert_eq!(outcome.tags(), [""; 0]);
            assert_eq!(pair.world.truth(ROWS), before, "{sql} {data}");
        }
    }
    // In a transaction the rest is gone with it; a savepoint brings back what was before.
    let a = &mut pair.proxied;
    a.query("BEGIN");
    assert_eq!(copy(a, "COPY order_items FROM STDIN", b"10\t1\ts\t1\tA\n").tags(), ["COPY 1"]);
    a.query("SAVEPOINT s");
    let foreign = copy(a, "COPY order_items FROM STDIN", b"11\t101\ts\t1\tA\n");
    assert_eq!((foreign.denial_code().as_str(), foreign.status()), ("HR1011", Some('E')));
    a.query("ROLLBACK TO s");
    assert_eq!(copy(a, "COPY order_items FROM STDIN", b"12\t1\ts\t1\tA\n").tags(), ["COPY 1"]);
    assert_eq!(
        copy_extended(a, "COPY order_items FROM STDIN", b"13\t1\ts\t1\tA\n").tags(),
        ["COPY 1"]
    );
    assert_eq!(
        copy_extended(a, "COPY order_items FROM STDIN", b"14\t1\ts\t1\tA\n").tags(),
        ["COPY 1"]
    );
    assert_eq!(a.query("COMMIT").tags(), ["COMMIT"]);
    let ids =
        "SELECT string_agg(id::text, ' ' ORDER BY id) FROM order_items WHERE id BETWEEN 3 AND 99";
    assert_eq!(pair.world.truth(ids), "10 12 13 14");
    // The client's own end of it.
    a.send(&wire::query("COPY order_items FROM STDIN"));
    a.collect_until(|outcome| outcome.shape().ends_with('G'));
    a.send(&[wire::copy_data("20\t1\ts\t1\tA\n"), wire::frame(b'f', b"enough\0")].concat());
    let outcome = a.collect(1);
    assert_eq!(outcome.error().message(), "COPY from stdin failed: enough");
    assert_eq!(pair.world.truth(ids), "10 12 13 14");
    pair.world.finish();
}

#[test]
fn copies_by_way_of_a_table_run_in_scripts_and_pipelines() {
    let mut pair = pair(false);
    let row = |id: i32| wire::copy_data(&format!("{id}\t1\ts\t1\tA\n"));
    let sql = "COPY order_items FROM STDIN";
    let mut script = wire::query(&format!("SELECT 1; {sql}; SELECT 2; {sql}; SELECT 3"));
    for id in [20, 21] {
        script.extend(row(id));
        script.extend(wire::copy_done());
    }
    let mut pipeline =
        wire::parse("", "INSERT INTO documents (id, tenant_id) VALUES (30, $1)", &[2950]);
    pipeline.extend(wire::bind("", "", &[Some(TENANT_A)]));
    pipeline.extend(wire::execute("", 0));
    pipeline.extend(wire::parse("c", sql, &[]));
    pipeline.extend(wire::bind("p", "c", &[]));
    pipeline.extend(wire::execute("p", 0));
    pipeline.extend(row(22));
    pipeline.extend(wire::copy_done());
    pipeline.extend(wire::parse("", "SELECT count(*) FROM order_items", &[]));
    pipeline.extend(wire::bind("", "", &[]));
    pipeline.extend(wire::execute("", 0));
    pipeline.extend(wire::sync());
    let mut failing =
        wire::parse("", "INSERT INTO documents (id, tenant_id) VALUES (31, $1)", &[2950]);
    failing.extend(wire::bind("", "", &[Some(TENANT_A)]));
    failing.extend(wire::execute("", 0));
    failing.extend(wire::bind("p", "c", &[]));
    failing.extend(wire::execute("p", 0));
    failing.extend(row(22));
    failing.extend(wire::copy_done());
    failing.extend(wire::parse("", "SELECT 1", &[]));
    failing.extend(wire::sync());
    failing.extend(wire::query("SELECT count(*) FROM documents"));
    for (bytes, ready) in [(script, 1), (pipeline, 1), (failing, 2)] {
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
        let messages = |outcome: &Outcome| {
            outcome.errors().iter().map(|error| error.message().to_owned()).collect::<Vec<_>>()
        };
        assert_eq!(messages(&outcomes[0]), messages(&outcomes[1]));
    }
    pair.world.finish();
}

#[test]
fn a_row_of_a_copy_satisfies_the_row_rule_or_the_copy_fails() {
    let world = World::new();
    let mut a = world.a();
    let sql = "COPY regional (id, region, secret) FROM STDIN";
    assert_eq!(copy(&mut a, sql, b"7\teu\tA\n8\teu\tA\n").tags(), ["COPY 2"]);
    for (sql, data, code) in [
        (sql, "9\teu\tA\n10\tus\tA\n", "HR1011"),
        (sql, "9\t\\N\tA\n", "HR1011"),
        ("COPY regional (id, secret) FROM STDIN", "", "HR1011"),
        ("COPY regional (id, region, secret) FROM STDIN WHERE tenant_id IS NULL", "", "HR1014"),
        ("COPY regional (id, region, secret) FROM STDIN WHERE ctid IS NULL", "", "HR1014"),
        ("COPY regional (id, region, secret) FROM STDIN WHERE regional.id > 1", "", "HR1014"),
        ("COPY regional (id, region, secret) FROM STDIN (FREEZE)", "", "HR1014"),
    ] {
        let outcome = copy(&mut a, sql, data.as_bytes());
        assert_eq!(outcome.denial_code(), code, "{sql} {outcome:?}");
    }
    let rows = "SELECT string_agg(concat_ws(' ', id, region, left(tenant_id::text, 1)), ', ' ORDER BY id) \
                FROM regional";
    assert_eq!(world.truth(rows), "1 eu a, 2 us a, 7 eu a, 8 eu a, 101 eu b");
    a.terminate();
    let records = world.hedgerow.records();
    let copies: Vec<_> = records
        .iter()
        .filter(|record| record.to_string().contains("COPY public.regional"))
        .collect();
    assert_eq!(copies.len(), 3, "{copies:?}");
    assert!(records.iter().all(|record| !record.to_string().contains("hedgerow_copy")));
    world.finish();
}

#[test]
fn without_the_right_to_temporary_tables_the_copy_is_denied_with_the_reason() {
    let world = World::with(&Options::new(fixture::POLICY));
    let mut a = world.a();
    let revoke = format!("REVOKE TEMPORARY ON DATABASE {} FROM PUBLIC", world.database);
    server().run(&world.database, &revoke);
    let outcome = copy(&mut a, "COPY order_items FROM STDIN", b"");
    assert_eq!(outcome.denial_code(), "HR1014", "{outcome:?}");
    // One that needs no table goes on as it did.
    let documents = "COPY documents (id) FROM STDIN";
    assert_eq!(copy(&mut a, documents, b"500\n").tags(), ["COPY 1"]);
    a.terminate();
    world.finish();
}

#[test]
fn a_copy_that_the_client_gives_up_names_the_clients_table() {
    let mut pair = pair(true);
    let data = b"10\t1\ts\t1\tA\n";
    let mut bytes = wire::query("COPY order_items FROM STDIN");
    bytes.extend(wire::frame(b'd', data));
    bytes.extend(wire::frame(b'f', b"no more\0"));
    let mut outcomes = [&mut pair.proxied, &mut pair.direct].map(|client| {
        client.send(&bytes);
        client.collect(1)
    });
    for outcome in &mut outcomes {
        let error = outcome.error();
        assert_eq!((error.sqlstate(), error.field('W')), ("57014", "COPY order_items, line 2"));
    }
    pair.world.finish();
}

#[test]
fn a_row_that_is_not_the_tenants_is_told_with_its_table() {
    let mut pair = pair(true);
    for (sql, data, object) in [
        ("COPY order_items FROM STDIN", "10\t9999\ts\t1\tA\n", "order_items"),
        ("COPY metrics.notes (id, sample) FROM STDIN", "10\t9999\n", "metrics.notes"),
    ] {
        let error = copy(&mut pair.proxied, sql, data.as_bytes()).error();
        assert!(error.field('D').starts_with("HR1011: "), "{error:?}");
        assert!(error.field('D').ends_with(object), "{error:?}");
    }
    let error =
        pair.proxied.query("INSERT INTO order_items VALUES (10, 9999, 's', 1, 'A')").error();
    assert_eq!(error.field('D'), "HR1011: order_items", "{error:?}");
    pair.world.finish();
}
