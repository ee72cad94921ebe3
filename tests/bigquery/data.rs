//! Rows without SQL, and what they cost: tabledata.list, insertAll, load jobs, the bytes of the day; at a
//! service that records what it is asked.

use std::sync::Arc;
use std::sync::atomic::{AtomicBool, Ordering};
use std::time::Duration;

use serde_json::{Value, json};

use super::POLICY;
use super::stand::{Got, Stand, read_policy, send};
use super::token;

const TABLE: &str = "/bigquery/v2/projects/acme-prod/datasets/app/tables/customers";
const UPLOAD: &str = "/upload/bigquery/v2/projects/acme-prod/jobs";

/// What the service answers to queries: one row, then another page.
fn pages(stand: &Stand) {
    stand.service.answers(|seen| {
        let reference = json!({"projectId": "acme-prod", "jobId": "made-upstream", "location": "EU"});
        let row = |text: &str| json!([{"f": [{"v": text}]}]);
        let more = seen.target.contains("pageToken=next");
        let answer = match (seen.method.as_str(), more) {
            ("GET", false) => json!({"jobComplete": true, "totalRows": "2", "rows": row("one"), "pageToken": "next", "jobReference": reference}),
            ("GET", true) => json!({"jobComplete": true, "totalRows": "2", "rows": row("two"), "jobReference": reference}),
            _ => json!({"jobComplete": true, "totalRows": "2", "jobReference": reference, "schema": {"fields": []}}),
        };
        (200, answer)
    });
}

#[tokio::test]
async fn rows_of_a_table_that_tenants_share_are_a_guarded_query() {
    let stand = Stand::start(POLICY).await;
    pages(&stand);
    let first = stand
        .ask(
            "tenant-a",
            "GET",
            &format!("{TABLE}/data?maxResults=1&selectedFields=id,secret"),
            Value::Null,
        )
        .await;
    assert_eq!(
        (first.status, &first.body["kind"]),
        (200, &json!("bigquery#tableDataList")),
        "{first:?}"
    );
    assert_eq!(first.body["rows"][0]["f"][0]["v"], "one");
    assert_eq!(first.body["totalRows"], "2");
    let seen = stand.service.seen();
    assert_eq!(seen.len(), 2, "{seen:#?}");
    let text = seen[0].body["query"].as_str().unwrap();
    assert!(text.starts_with("SELECT `id`, `secret` FROM (SELECT * FROM `acme-prod`.`app`.`customers` WHERE `customers`.`tenant_id` = 'tenant-a')"), "{text}");
    assert_eq!(seen[0].body["useLegacySql"], false);
    assert_eq!(seen[0].body["labels"]["tenant"], "tenant-a");
    assert!(seen[1].target.contains("/queries/made-upstream?"), "{}", seen[1].target);
    assert!(seen.iter().all(|one| !one.target.contains("/data")), "{seen:#?}");

    let token = first.body["pageToken"].as_str().unwrap().to_owned();
    // Nothing of the service's own token, nor of the job, can be read in it.
    assert!(!token.contains("next") && !token.contains("made-upstream"), "{token}");
    let next = |tenant: &'static str, table: &'static str| {
        let target = format!(
            "/bigquery/v2/projects/acme-prod/datasets/app/tables/{table}/data?selectedFields=id,secret&pageToken={}",
            token.replace(' ', "%20")
        );
        let stand = &stand;
        async move { stand.ask(tenant, "GET", &target, Value::Null).await }
    };
    let second = next("tenant-a", "customers").await;
    assert_eq!(second.body["rows"][0]["f"][0]["v"], "two", "{second:?}");
    assert_eq!(second.body["pageToken"], Value::Null);
    stand.service.seen();
    // A page is its tenant's, and its table's.
    for (tenant, table) in [("tenant-b", "customers"), ("tenant-a", "orders")] {
        let got = next(tenant, table).await;
        assert_eq!((got.status, got.reason()), (404, "notFound"), "{tenant} {table}");
    }
    assert!(stand.service.seen().is_empty());
    stand.finish().await;
}

#[tokio::test]
async fn rows_of_other_tables_are_denied_or_pass() {
    let stand = Stand::start(POLICY).await;
    pages(&stand);
    for (table, code) in [("app/tables/unknown", "HR1003"), ("own_tenant_b/tables/t", "HR1004")] {
        let target = format!("/bigquery/v2/projects/acme-prod/datasets/{table}/data");
        let got = stand.ask("tenant-a", "GET", &target, Value::Null).await;
        assert_eq!((got.status, got.code()), (403, code), "{table}");
    }
    for column in ["id`,(SELECT", "a.b", "*", ""] {
        let target = format!("{TABLE}/data?selectedFields={column},");
        let got = stand.ask("tenant-a", "GET", &target, Value::Null).await;
        assert_eq!(got.code(), "HR5002", "{column}");
    }
    let got = stand
        .ask(
            "tenant-a",
            "GET",
            "/bigquery/v2/projects/acme-prod/datasets/_anon/tables/x/data",
            Value::Null,
        )
        .await;
    assert_eq!(got.status, 404);
    assert!(stand.service.seen().is_empty());
    for table in ["app/tables/currencies", "own_tenant_a/tables/t"] {
        let target = format!("/bigquery/v2/projects/acme-prod/datasets/{table}/data");
        let got = stand.ask("tenant-a", "GET", &target, Value::Null).await;
        assert_eq!(got.status, 200, "{table}: {got:?}");
        assert!(stand.service.only().target.ends_with(&format!("{table}/data")));
    }
    stand.finish().await;
}

#[tokio::test]
async fn a_query_that_fails_is_no_empty_table() {
    let stand = Stand::start(POLICY).await;
    let target = format!("{TABLE}/data");
    stand.service.answers(|_| (200, json!({"errors": [{"reason": "invalidQuery", "message": "Bad int64 value: B-SECRET-1"}], "jobComplete": true})));
    let got = stand.ask("tenant-a", "GET", &target, Value::Null).await;
    assert_eq!(got.status, 400, "{got:?}");
    assert!(!got.text.contains("SECRET"), "{}", got.text);
    stand.service.answers(|seen| match seen.method.as_str() {
        "POST" => (
            200,
            json!({"jobComplete": false, "jobReference": {"projectId": "acme-prod", "jobId": "j"}}),
        ),
        _ => (
            200,
            json!({"jobComplete": false, "jobReference": {"projectId": "acme-prod", "jobId": "j"}}),
        ),
    });
    let got = stand.ask("tenant-a", "GET", &target, Value::Null).await;
    assert_eq!(got.status, 503, "{got:?}");
    stand.finish().await;
}

#[tokio::test]
async fn inserted_rows_are_checked_or_filled() {
    let stand = Stand::start(POLICY).await;
    let target = format!("{TABLE}/insertAll");
    let insert = |rows: Value| {
        let (stand, target) = (&stand, &target);
        async move { stand.ask("tenant-a", "POST", target, json!({"rows": rows})).await }
    };
    let got = insert(json!([
        {"insertId": "x", "json": {"id": 1}},
        {"json": {"tenant_id": "tenant-a", "id": 2}},
    ]))
    .await;
    assert_eq!(got.status, 200, "{got:?}");
    let sent = stand.service.only();
    assert_eq!(sent.body["rows"][0]["json"], json!({"id": 1, "tenant_id": "tenant-a"}));
    assert_eq!(sent.body["rows"][1]["json"], json!({"tenant_id": "tenant-a", "id": 2}));
    let veiled = sent.body["rows"][0]["insertId"].as_str().unwrap().to_owned();
    assert_ne!(veiled, "x");
    // The same id of another tenant is another id.
    stand
        .ask("tenant-b", "POST", &target, json!({"rows": [{"insertId": "x", "json": {"id": 1}}]}))
        .await;
    assert_ne!(stand.service.only().body["rows"][0]["insertId"], veiled.as_str());
    for (rows, code) in [
        (json!([{"json": {"id": 1}}, {"json": {"tenant_id": "tenant-b"}}]), "HR1011"),
        (json!([{"json": {"TENANT_ID": "tenant-b"}}]), "HR1011"),
        (json!([{"json": {"tenant_id": null}}]), "HR1011"),
        (json!([{"json": {}, "other": 1}]), "HR5002"),
        (json!([{"id": 1}]), "HR5002"),
        (json!({"json": {}}), "HR5002"),
    ] {
        let got = insert(rows.clone()).await;
        assert_eq!((got.status, got.code(), got.reason()), (403, code, "accessDenied"), "{rows}");
    }
    let suffix = json!({"templateSuffix": "_x", "rows": [{"json": {"id": 1}}]});
    assert_eq!(stand.ask("tenant-a", "POST", &target, suffix).await.code(), "HR5002");
    for (table, code) in
        [("order_items", "HR1009"), ("currencies", "HR1013"), ("unknown", "HR1003")]
    {
        let target =
            format!("/bigquery/v2/projects/acme-prod/datasets/app/tables/{table}/insertAll");
        let got =
            stand.ask("tenant-a", "POST", &target, json!({"rows": [{"json": {"id": 1}}]})).await;
        assert_eq!(got.code(), code, "{table}");
    }
    assert!(stand.service.seen().is_empty());
    // Digits that no float holds pass as they stand; in the tenant's own dataset rows pass as they are.
    let own = "/bigquery/v2/projects/acme-prod/datasets/own_tenant_a/tables/t/insertAll";
    let request = stand
        .request("POST", own)
        .bearer_auth(token::of("tenant-a"))
        .header("content-type", "application/json");
    send(request.body(r#"{"rows":[{"json":{"n":12345678901234567890.123456789}}]}"#)).await;
    let sent = stand.service.only();
    assert!(sent.text.contains("12345678901234567890.123456789"), "{}", sent.text);
    stand.finish().await;
}

fn related(job: &Value, file: &str) -> String {
    format!(
        "--b\r\ncontent-type: application/json\r\n\r\n{job}\r\n--b\r\ncontent-type: */*\r\n\r\n{file}\r\n--b--"
    )
}

fn load(table: &str, more: Value) -> Value {
    let (dataset, table) = table.split_once('.').unwrap();
    let mut load = json!({"destinationTable": {"projectId": "acme-prod", "datasetId": dataset, "tableId": table}});
    for (name, value) in more.as_object().unwrap() {
        load[name] = value.clone();
    }
    json!({"jobReference": {"projectId": "acme-prod", "jobId": "load-1"}, "configuration": {"load": load}})
}

async fn upload(stand: &Stand, job: &Value, file: &str) -> Got {
    let request = stand.request("POST", &format!("{UPLOAD}?uploadType=multipart"));
    let request = request.bearer_auth(token::of("tenant-a"));
    send(
        request
            .header("content-type", "multipart/related; boundary=\"b\"")
            .body(related(job, file)),
    )
    .await
}

#[tokio::test]
async fn loaded_rows_are_checked_or_filled() {
    let stand = Stand::start(POLICY).await;
    let json_lines = json!({"sourceFormat": "NEWLINE_DELIMITED_JSON"});
    let got = upload(
        &stand,
        &load("app.customers", json_lines.clone()),
        "{\"id\":1}\n{\"id\":2,\"tenant_id\":\"tenant-a\"}\n",
    )
    .await;
    assert_eq!(got.status, 200, "{got:?}");
    let sent = stand.service.only();
    assert_eq!(sent.target, "/upload/bigquery/v2/projects/acme-prod/jobs?uploadType=multipart");
    assert!(
        sent.text.contains(
            "{\"id\":1,\"tenant_id\":\"tenant-a\"}\n{\"id\":2,\"tenant_id\":\"tenant-a\"}\n"
        ),
        "{}",
        sent.text
    );
    assert!(
        sent.text.contains("\"writeDisposition\":\"WRITE_APPEND\"")
            && sent.text.contains("\"hedgerow_owner\"")
    );
    assert!(!sent.text.contains("\"jobId\":\"load-1\""), "the job's id is bound to the tenant");

    let schema = json!({"fields": [{"name": "id", "type": "INTEGER"}, {"name": "tenant_id", "type": "STRING"}]});
    let csv = json!({"sourceFormat": "CSV", "schema": schema, "skipLeadingRows": 1, "fieldDelimiter": ";"});
    let got =
        upload(&stand, &load("app.customers", csv.clone()), "id;tenant_id\n1;tenant-a\n").await;
    assert_eq!(got.status, 200, "{got:?}");
    let sent = stand.service.only().text;
    assert!(
        sent.contains("\r\n\r\n\"id\",\"tenant_id\"\n1,tenant-a\n\r\n--")
            && sent.contains("\"fieldDelimiter\":\",\""),
        "{sent}"
    );
    assert!(sent.contains("\"skipLeadingRows\":1"), "{sent}");
    // The columns of the table itself, where the job has none.
    stand.service.answers(|seen| match seen.method.as_str() {
        "GET" => (200, json!({"schema": {"fields": [{"name": "tenant_id"}, {"name": "id"}]}})),
        _ => (200, json!({})),
    });
    let got = upload(&stand, &load("app.customers", json!({})), "tenant-a,1\n").await;
    assert_eq!(got.status, 200, "{got:?}");
    assert!(stand.service.seen()[1].text.contains("\"tenant_id\",\"id\"\ntenant-a,1\n"));
    let before = stand.service.seen().len();
    assert_eq!(before, 0);

    for (job, file, code) in [
        (
            load("app.customers", json_lines.clone()),
            "{\"id\":1}\n{\"tenant_id\":\"tenant-b\"}\n",
            "HR1011",
        ),
        (load("app.customers", csv.clone()), "id;tenant_id\n1;tenant-b\n", "HR1011"),
        (load("app.customers", csv), "1;tenant-a\n\"x;tenant-a\n", "HR5002"),
        (load("app.customers", json!({"sourceFormat": "PARQUET"})), "PAR1", "HR5002"),
        (load("app.customers", json!({"writeDisposition": "WRITE_TRUNCATE"})), "", "HR5002"),
        (
            load("app.customers", json!({"schemaUpdateOptions": ["ALLOW_FIELD_ADDITION"]})),
            "",
            "HR5002",
        ),
        (load("app.customers", json!({"sourceUris": ["gs://b/x"]})), "", "HR5002"),
        (load("app.customers", json!({"nullMarker": "tenant-a"})), "", "HR5002"),
        (load("app.order_items", json_lines.clone()), "{}", "HR1009"),
        (load("app.currencies", json_lines.clone()), "{}", "HR1013"),
        (load("own_tenant_b.t", json_lines.clone()), "{}", "HR1004"),
        (json!({"configuration": {"query": {"query": "SELECT 1"}}}), "", "HR5006"),
    ] {
        let got = upload(&stand, &job, file).await;
        assert_eq!((got.status, got.code()), (403, code), "{job}: {got:?}");
    }
    assert!(stand.service.seen().iter().all(|seen| seen.method == "GET"), "nothing was loaded");
    let got =
        upload(&stand, &load("own_tenant_a.t", json!({"sourceFormat": "PARQUET"})), "PAR1").await;
    assert_eq!(got.status, 200, "{got:?}");
    stand.finish().await;
}

#[tokio::test]
async fn a_resumable_upload_is_its_tenants_and_is_checked_whole() {
    let stand = Stand::start(POLICY).await;
    let job = load("app.customers", json!({"sourceFormat": "NEWLINE_DELIMITED_JSON"}));
    let begin = || {
        stand.ask(
            "tenant-a",
            "POST",
            "/upload/bigquery/v2/projects/acme-prod/jobs?uploadType=resumable",
            job.clone(),
        )
    };
    let begun = begin().await;
    assert_eq!(begun.status, 200, "{begun:?}");
    let location = begun.headers["location"].to_str().unwrap().to_owned();
    assert!(location.starts_with(&format!("http://{}/upload/", stand.address)), "{location}");
    let target = location.split_once(&stand.address.to_string()).unwrap().1.to_owned();
    let put = |tenant: &str, range: &str, body: &'static str| {
        let request = stand
            .request("PUT", &target)
            .bearer_auth(token::of(tenant))
            .header("content-range", range);
        send(request.body(body))
    };
    // A row that is cut in two.
    let got = put("tenant-a", "bytes 0-9/*", "{\"tenant_i").await;
    assert_eq!((got.status, got.headers["range"].to_str().unwrap()), (308, "bytes=0-9"));
    let foreign = put("tenant-b", "bytes 10-25/26", "d\":\"tenant-a\"}\n\n").await;
    assert_eq!((foreign.status, foreign.reason()), (404, "notFound"));
    // A piece that is elsewhere than where the upload stands changes nothing.
    assert_eq!(put("tenant-a", "bytes 0-9/*", "{\"tenant_i").await.status, 308);
    assert!(stand.service.seen().is_empty());
    let done = put("tenant-a", "bytes 10-25/26", "d\":\"tenant-a\"}\n\n").await;
    assert_eq!(done.status, 200, "{done:?}");
    assert!(stand.service.only().text.contains("\r\n\r\n{\"tenant_id\":\"tenant-a\"}\n"));
    assert_eq!(put("tenant-a", "bytes 10-25/26", "d\":\"tenant-a\"}\n\n").await.status, 404);

    let location = begin().await.headers["location"].to_str().unwrap().to_owned();
    let target = location.split_once(&stand.address.to_string()).unwrap().1;
    let wrong = stand.request("PUT", target).bearer_auth(token::of("tenant-a"));
    let wrong = send(wrong.body("{\"tenant_id\":\"tenant-b\"}")).await;
    assert_eq!(wrong.code(), "HR1011", "{wrong:?}");
    assert!(stand.service.seen().is_empty());

    // The policy changes while an upload is under way: the one that holds now counts.
    let location = begin().await.headers["location"].to_str().unwrap().to_owned();
    let target = location.split_once(&stand.address.to_string()).unwrap().1;
    let read_only = POLICY.replace(
        "acme-prod.app.customers: {tenant: tenant_id}",
        "acme-prod.app.customers: {tenant: tenant_id, access: [select]}",
    );
    assert_ne!(read_only, POLICY);
    stand.policy.store(Arc::new(read_policy(&read_only, 2)));
    let late = stand.request("PUT", target).bearer_auth(token::of("tenant-a"));
    let late = send(late.body("{\"id\":1}")).await;
    assert_eq!(late.code(), "HR1013", "{late:?}");
    assert!(stand.service.seen().is_empty());
    stand.finish().await;
}

#[tokio::test]
async fn a_tenants_day_has_so_many_bytes() {
    let policy = format!("{POLICY}maximum_bytes_billed: 5000\nbytes_per_day: 1000\n");
    let stand = Stand::start(&policy).await;
    stand.service.answers(|seen| {
        let dry = seen.body["configuration"]["dryRun"] == json!(true);
        let reference = json!({"projectId": "acme-prod", "jobId": format!("j{}", seen.body["query"].as_str().unwrap_or_default().len())});
        if dry {
            (200, json!({"statistics": {"totalBytesProcessed": "600"}, "status": {"state": "DONE"}}))
        } else {
            (200, json!({"jobComplete": true, "totalRows": "0", "totalBytesProcessed": "300", "totalBytesBilled": "700", "jobReference": reference}))
        }
    });
    let ask = |tenant: &'static str, text: &'static str| {
        stand.query(tenant, json!({"query": text, "useLegacySql": false}))
    };
    assert_eq!(ask("tenant-a", "SELECT id FROM app.customers").await.status, 200);
    let seen = stand.service.seen();
    assert_eq!(seen.len(), 2, "{seen:#?}");
    assert!(
        seen[0].body["configuration"]["query"]["query"].as_str().unwrap().contains("'tenant-a'")
    );
    // The smaller of the policy's bound and of what is left.
    assert_eq!(seen[1].body["maximumBytesBilled"], "1000");
    let spent = ask("tenant-a", "SELECT name FROM app.customers").await;
    assert_eq!(
        (spent.status, spent.code(), spent.reason()),
        (403, "HR3003", "quotaExceeded"),
        "{spent:?}"
    );
    assert!(spent.text.contains("300 of 1000 left today"), "{}", spent.text);
    assert_eq!(stand.service.only().body["configuration"]["dryRun"], true);
    // A dry run costs nothing, and another tenant has a day of its own.
    let dry = json!({"query": "SELECT 1 AS x", "useLegacySql": false, "dryRun": true});
    assert_eq!(stand.query("tenant-a", dry).await.status, 200);
    assert_eq!(ask("tenant-b", "SELECT id FROM app.customers").await.status, 200);
    let records = stand.finish().await;
    assert!(records.iter().any(|record| record.to_string().contains("HR3003")));
}

/// A table as a dry run names it.
fn referenced(dataset: &str, table: &str) -> Value {
    json!({"projectId": "acme-prod", "datasetId": dataset, "tableId": table})
}

#[tokio::test]
async fn where_it_is_asked_the_service_must_read_what_was_decided() {
    let stand = Stand::with(POLICY, |settings| settings.compare_dry_runs = true).await;
    let answers = |tables: Value| {
        stand.service.answers(move |seen| {
            if seen.body["configuration"]["dryRun"] != json!(true) {
                let reference = json!({"projectId": "acme-prod", "jobId": "j"});
                return (
                    200,
                    json!({"jobComplete": true, "totalRows": "0", "jobReference": reference}),
                );
            }
            let query =
                if tables.is_null() { json!({}) } else { json!({"referencedTables": tables}) };
            (200, json!({"statistics": {"query": query}, "status": {"state": "DONE"}}))
        });
    };
    let ask =
        |text: &'static str| stand.query("tenant-a", json!({"query": text, "useLegacySql": false}));
    let customers = referenced("app", "customers");
    // Read alike: asked once, then known.
    answers(json!([customers]));
    let text = "SELECT id FROM app.customers";
    assert_eq!(ask(text).await.status, 200);
    assert_eq!(stand.service.seen().len(), 2);
    assert_eq!(ask(text).await.status, 200);
    assert_eq!(stand.service.seen().len(), 1);
    // A table that tenants may read as it is opens nothing.
    answers(json!([customers, referenced("app", "currencies")]));
    assert_eq!(ask("SELECT name FROM app.customers").await.status, 200);
    // A table that the decision did not see: a tenants' one, one that nobody knows; and no word of any.
    for tables in [
        json!([customers, referenced("app", "orders")]),
        json!([referenced("elsewhere", "customers")]),
        json!([customers, {"projectId": "acme-prod"}]),
        json!(null),
    ] {
        stand.service.seen();
        answers(tables.clone());
        let got = ask("SELECT credit FROM app.customers").await;
        assert_eq!((got.status, got.code()), (403, "HR1008"), "{tables} {got:?}");
        assert_eq!(stand.service.only().body["configuration"]["dryRun"], true, "nothing ran");
    }
    // One statement more is no way around: of a script a dry run tells nothing. Nor is a list that need not be
    // whole.
    answers(json!([customers]));
    let script = ask("SELECT id FROM app.customers; SELECT 1 AS x").await;
    assert_eq!((script.status, script.code()), (403, "HR1008"), "{script:?}");
    assert!(stand.service.seen().is_empty(), "nothing ran");
    for (tables, code) in [(49, ""), (50, "HR1008")] {
        answers(Value::Array(vec![customers.clone(); tables]));
        let text = if tables == 49 {
            "SELECT email FROM app.customers"
        } else {
            "SELECT tags FROM app.customers"
        };
        assert_eq!(ask(text).await.code(), code, "{tables}");
    }
    answers(json!(null));
    // As a job, too; and where nothing is read, nothing needs to be said.
    let configuration =
        json!({"query": {"query": "SELECT credit FROM app.customers", "useLegacySql": false}});
    let target = "/bigquery/v2/projects/acme-prod/jobs";
    let job = stand.ask("tenant-a", "POST", target, json!({"configuration": configuration})).await;
    assert_eq!((job.status, job.code()), (403, "HR1008"), "{job:?}");
    assert_eq!(ask("SELECT 1 AS x").await.status, 200);
    // Rows without SQL.
    let target = "/bigquery/v2/projects/acme-prod/datasets/app/tables/customers/data";
    let listed = stand.ask("tenant-a", "GET", target, Value::Null).await;
    assert_eq!((listed.status, listed.code()), (403, "HR1008"), "{listed:?}");
    stand.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_tenants_queries_obey_its_quotas() {
    let policy = format!(
        "{POLICY}quotas: [{{statements_per_second: 0.001, burst: 3}}, {{tenant: tenant-c, concurrent: 1}}]\n"
    );
    let stand = Stand::start(&policy).await;
    // The slow one is under way from its arrival until it is let go.
    let (arrived, let_go) = (Arc::new(AtomicBool::new(false)), Arc::new(AtomicBool::new(false)));
    let (at_service, released) = (Arc::clone(&arrived), Arc::clone(&let_go));
    stand.service.answers(move |seen| {
        if seen.text.contains("slow") {
            at_service.store(true, Ordering::SeqCst);
            // What waits for this thread goes to another: it may be the very request that ends the wait.
            tokio::task::block_in_place(|| {
                for _ in 0..6_000 {
                    if released.load(Ordering::SeqCst) {
                        break;
                    }
                    std::thread::sleep(Duration::from_millis(5));
                }
            });
        }
        let reference = json!({"projectId": "acme-prod", "jobId": "j"});
        (200, json!({"jobComplete": true, "totalRows": "0", "jobReference": reference}))
    });
    let ask = |tenant: &'static str, text: &'static str| {
        stand.query(tenant, json!({"query": text, "useLegacySql": false}))
    };
    // A refused text takes nothing; a script takes what it has statements.
    assert_eq!(ask("tenant-a", "SELECT * FROM app.nowhere").await.code(), "HR1003");
    assert_eq!(ask("tenant-a", "SELECT id FROM app.customers; SELECT 1 AS x").await.status, 200);
    assert_eq!(ask("tenant-a", "SELECT id FROM app.customers").await.status, 200);
    let before = stand.service.seen().len();
    let spent = ask("tenant-a", "SELECT id FROM app.customers").await;
    assert_eq!(before, 2);
    assert_eq!(
        (spent.status, spent.code(), spent.reason()),
        (403, "HR3001", "rateLimitExceeded"),
        "{spent:?}"
    );
    assert!(stand.service.seen().is_empty(), "nothing of it was sent");
    // Rows without SQL are counted like queries; questions about what is there cost nothing.
    let rows = "/bigquery/v2/projects/acme-prod/datasets/app/tables/customers/data";
    assert_eq!(stand.ask("tenant-a", "GET", rows, json!(null)).await.code(), "HR3001");
    let insert = "/bigquery/v2/projects/acme-prod/datasets/app/tables/customers/insertAll";
    let row = json!({"rows": [{"json": {"tenant_id": "tenant-a", "id": 1}}]});
    assert_eq!(stand.ask("tenant-a", "POST", insert, row).await.code(), "HR3001");
    let jobs = "/bigquery/v2/projects/acme-prod/jobs";
    let job =
        json!({"configuration": {"query": {"query": "SELECT 1 AS x", "useLegacySql": false}}});
    assert_eq!(stand.ask("tenant-a", "POST", jobs, job).await.code(), "HR3001");
    assert_eq!(stand.ask("tenant-a", "GET", jobs, json!(null)).await.status, 200);
    // Another tenant has a bucket of its own.
    assert_eq!(ask("tenant-b", "SELECT id FROM app.customers").await.status, 200);
    // One at a time, whatever is asked.
    let (slow, beside) = tokio::join!(ask("tenant-c", "SELECT 'slow' AS x"), async {
        while !arrived.load(Ordering::SeqCst) {
            tokio::time::sleep(Duration::from_millis(5)).await;
        }
        let beside = stand.ask("tenant-c", "GET", jobs, json!(null)).await;
        let_go.store(true, Ordering::SeqCst);
        beside
    });
    assert_eq!((slow.status, beside.code()), (200, "HR3002"), "{beside:?}");
    assert_eq!(stand.ask("tenant-c", "GET", jobs, json!(null)).await.status, 200);
    let records = stand.finish().await;
    assert!(records.iter().any(|record| record.to_string().contains("HR3002")));
}

#[tokio::test]
async fn a_monitored_quota_is_recorded_and_lets_through() {
    let quotas =
        "engine: bigquery\nmode: monitor\nquotas: [{statements_per_second: 0.001, burst: 1}]\n";
    let files = [("p.yaml", POLICY), ("q.yaml", quotas)];
    let policy = hedgerow::policy::load::compile(&files, hedgerow::ids::PolicyEpoch(2)).unwrap();
    let stand = Stand::start(POLICY).await;
    stand.policy.store(std::sync::Arc::new(policy.bigquery));
    for _ in 0..2 {
        let got = stand.query("tenant-a", json!({"query": "SELECT 1 AS x", "useLegacySql": false}));
        assert_eq!(got.await.status, 200);
    }
    let records = stand.finish().await;
    let noted = records.iter().filter(|record| record.to_string().contains("would_deny"));
    assert_eq!(noted.count(), 1, "{records:#?}");
}
