//! The egress guard against a rewriter that forgot every guard: what the client sends is sent as it is,
//! nobody says which columns hold a tenant, and still no row of another tenant comes out.

use std::sync::Arc;

use bytes::BufMut as _;

use super::real::{Client, Proxy, bind, execute, message, parse, run, sync};
use crate::ids::PolicyEpoch;
use crate::policy::load::compile;

const POLICY: &str = "
tenant: {column: tenant_id, type: text}
tables:
  public.orders: {}
  public.numbers: {tenant: {column: tenant, type: int}}
  public.order_view: {tenant: t}
  public.parted: {}
";

/// A proxy before a database with rows of the tenants `a` and `b`; sessions are those of `a`.
async fn world() -> Proxy {
    let proxy = Proxy::start().await;
    let mut setup = proxy.connect().await;
    for sql in [
        "CREATE TABLE orders (id int, tenant_id text)",
        "CREATE TABLE step (n int)",
        "INSERT INTO orders VALUES (1, 'a'), (2, 'b'), (3, NULL)",
        "CREATE VIEW order_view AS SELECT id, tenant_id AS t FROM orders",
        "CREATE TABLE parted (id int, tenant_id text) PARTITION BY LIST (tenant_id)",
        "CREATE TABLE parted_b PARTITION OF parted FOR VALUES IN ('b')",
        "INSERT INTO parted VALUES (1, 'b')",
    ] {
        let replies = setup.query(sql).await;
        assert_eq!(replies.last().map(String::as_str), Some("ZI"), "{replies:?}");
    }
    let policy = compile(&[("p", POLICY)], PolicyEpoch(1)).unwrap().postgres;
    proxy.policy.store(Arc::new(policy));
    proxy.catalogs.refresh("postgres").await.unwrap();
    proxy
}

/// A Bind of binary results.
fn bind_binary(name: &str) -> Vec<u8> {
    let body = format!("\0{name}\0\0\0\0\0\0\u{1}\0\u{1}");
    message(b'B', |out| out.put_slice(body.as_bytes())).to_vec()
}

fn describe(what: &str) -> Vec<u8> {
    message(b'D', |out| out.put_slice(format!("{what}\0").as_bytes())).to_vec()
}

fn execute_some(rows: u8) -> Vec<u8> {
    message(b'E', |out| out.put_slice(&[0, 0, 0, 0, rows])).to_vec()
}

/// Demands that the session ended before a row of `b` came.
fn stopped(what: &str, replies: &[String]) {
    let last = replies.last().map(String::as_str).unwrap_or_default();
    assert!(last.starts_with("E 42501 hedgerow: the result was stopped"), "{what}: {replies:?}");
    let foreign = |reply: &&String| reply.starts_with("D ") && reply.ends_with('b');
    assert_eq!(replies.iter().find(foreign), None, "{what}");
}

async fn after(client: &mut Client, bytes: Vec<u8>) -> Vec<String> {
    client.send(&bytes).await;
    client.until_ready().await
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn no_row_of_another_tenant_comes_out_whatever_was_sent_upstream() {
    let proxy = world().await;
    let text = "SELECT tenant_id FROM orders ORDER BY id /*protected*/";
    for sql in [
        text,
        "SELECT o.tenant_id AS harmless FROM orders o ORDER BY id",
        "SELECT * FROM orders ORDER BY id",
        "SELECT t FROM order_view ORDER BY id",
        "SELECT v.t AS x FROM (SELECT * FROM order_view) v ORDER BY 1",
        "WITH w AS (SELECT tenant_id AS x FROM orders) SELECT x FROM w ORDER BY x",
        "SELECT tenant_id FROM parted",
        "SELECT tenant_id FROM parted_b",
        "INSERT INTO orders VALUES (9, 'b') RETURNING tenant_id",
        "UPDATE orders SET id = id RETURNING tenant_id",
    ] {
        let mut client = proxy.connect().await;
        stopped(sql, &client.query(sql).await);
    }
    let forms: [(&str, Vec<Vec<u8>>); 6] = [
        ("not described", vec![run("", text)]),
        (
            "binary, not described",
            vec![parse("", text).to_vec(), bind_binary(""), execute().to_vec()],
        ),
        (
            "statement described",
            vec![parse("s", text).to_vec(), describe("Ss"), bind("s").to_vec(), execute().to_vec()],
        ),
        (
            "portal described, binary",
            vec![parse("s", text).to_vec(), bind_binary("s"), describe("P"), execute().to_vec()],
        ),
        (
            "with a row limit",
            vec![parse("s", text).to_vec(), bind("s").to_vec(), execute_some(1), execute_some(1)],
        ),
        (
            "described, executed twice",
            vec![
                parse("s", text).to_vec(),
                describe("Ss"),
                sync().to_vec(),
                bind("s").to_vec(),
                execute().to_vec(),
            ],
        ),
    ];
    for (form, messages) in forms {
        let mut client = proxy.connect().await;
        let mut bytes = messages.concat();
        bytes.extend_from_slice(&sync());
        let mut replies = after(&mut client, bytes).await;
        if replies.last().is_some_and(|last| last.starts_with('Z')) {
            replies = client.until_ready().await;
        }
        stopped(form, &replies);
    }
    for sql in [
        [
            "BEGIN",
            "DECLARE c CURSOR FOR SELECT tenant_id FROM orders ORDER BY id",
            "FETCH ALL FROM c",
        ],
        [
            "BEGIN",
            "DECLARE c BINARY CURSOR FOR SELECT tenant_id FROM orders ORDER BY id",
            "FETCH 2 FROM c",
        ],
        ["BEGIN", "PREPARE p AS SELECT tenant_id FROM orders ORDER BY id", "EXECUTE p"],
    ] {
        let [first, second, last] = sql;
        for extended in [false, true] {
            let mut client = proxy.connect().await;
            for sql in [first, second] {
                assert_eq!(client.query(sql).await.last().map(String::as_str), Some("ZT"), "{sql}");
            }
            let replies = if extended {
                after(&mut client, [run("", last), sync().to_vec()].concat()).await
            } else {
                client.query(last).await
            };
            stopped(second, &replies);
        }
    }
    let records = proxy.records().await;
    assert_eq!(records.matches("\"severity_id\":5").count(), 22, "each is a critical record");
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn what_was_described_once_is_watched_each_time_it_is_executed() {
    let proxy = world().await;
    let mut client = proxy.connect().await;
    let text = "SELECT tenant_id FROM orders WHERE id <= (SELECT count(*) FROM step) + 1 ORDER BY id /*protected*/";
    let prepared =
        after(&mut client, [parse("s", text).to_vec(), describe("Ss"), sync().to_vec()].concat())
            .await;
    assert_eq!(prepared, ["1", "t", "T", "ZI"]);
    let again = || [bind("s").to_vec(), execute().to_vec(), sync().to_vec()].concat();
    for _ in 0..2 {
        assert_eq!(after(&mut client, again()).await, ["2", "D a", "C SELECT 1", "ZI"]);
    }
    proxy.connect().await.query("INSERT INTO step VALUES (1)").await;
    stopped("third time", &after(&mut client, again()).await);
}

#[tokio::test(flavor = "multi_thread", worker_threads = 2)]
async fn own_rows_pass_and_the_client_hears_no_answer_that_it_did_not_ask_for() {
    let proxy = world().await;
    let mut client = proxy.connect().await;
    let text = "SELECT tenant_id FROM orders WHERE id <> 2 ORDER BY id /*protected*/";
    let rows = ["1", "2", "D a", "D ", "C SELECT 2", "ZI"];
    for _ in 0..2 {
        assert_eq!(after(&mut client, [run("", text), sync().to_vec()].concat()).await, rows);
    }
    let nothing = "UPDATE orders SET id = id WHERE false /*protected*/";
    let replies = after(&mut client, [run("", nothing), sync().to_vec()].concat()).await;
    assert_eq!(replies, ["1", "2", "C UPDATE 0", "ZI"]);
    // A Describe that never reached the server counts for nothing.
    let bytes = [
        parse("s", text).to_vec(),
        bind("unknown").to_vec(),
        describe("Ss"),
        sync().to_vec(),
        bind("s").to_vec(),
        execute().to_vec(),
        sync().to_vec(),
    ];
    client.send(&bytes.concat()).await;
    let replies = client.until_ready().await;
    assert!(replies.iter().any(|reply| reply.starts_with("E 26000")), "{replies:?}");
    assert_eq!(client.until_ready().await, ["2", "D a", "D ", "C SELECT 2", "ZI"]);
    // A portal that is not there is told as the server tells it.
    let replies = after(&mut client, [execute().to_vec(), sync().to_vec()].concat()).await;
    assert!(replies[0].starts_with("E 34000"), "{replies:?}");
}
