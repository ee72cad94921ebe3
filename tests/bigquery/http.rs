//! The HTTP side against a service that records what it is asked: who may ask, what is sent, what
//! comes back, whose a job is.

use serde_json::{Value, json};

use super::stand::{Got, Seen, Stand, read_policy, send};
use super::token::{self, Token};

const POLICY: &str = "
engine: bigquery
tenant: {column: tenant_id, type: text}
tables:
  acme-prod.app.customers:
    tenant: tenant_id
    columns: {secret: deny}
  acme-prod.app.orders: {tenant: tenant_id}
  acme-prod.app.currencies: shared
  acme-prod.app.hidden: deny
  acme-prod.secure.view: {tenant: tenant_id}
datasets:
  \"acme-prod.own_*\": dataset_per_tenant
  acme-prod.secure: secure_context
labels: {team: data}
maximum_bytes_billed: 1MiB
";
const A: &str = "tenant-a";
const B: &str = "tenant-b";
const BASE: &str = "/bigquery/v2/projects/acme-prod";

/// A service that runs queries: it answers with the text that it was sent, as a row.
fn runs_queries(seen: &Seen) -> (u16, Value) {
    let rows = json!([{"f": [{"v": seen.body["query"]}]}]);
    let reference =
        json!({"projectId": "acme-prod", "jobId": "job_made_upstream", "location": "US"});
    (
        200,
        json!({
            "kind": "bigquery#queryResponse", "jobReference": reference, "jobComplete": true,
            "schema": {"fields": [{"name": "x", "type": "STRING", "policyTags": {"names": ["t"]}}]},
            "rows": rows, "totalRows": "1", "pageToken": "next", "totalBytesProcessed": "4242",
            "queryId": "q", "totalSlotMs": "7", "cacheHit": false,
        }),
    )
}

fn error(status: u16, reason: &str, message: &str) -> (u16, Value) {
    let errors = json!([{"reason": reason, "message": message, "domain": "global"}]);
    (status, json!({"error": {"code": status, "message": message, "errors": errors}}))
}

fn assert_denied(got: &Got, code: &str) {
    assert_eq!((got.status, got.reason()), (403, "accessDenied"), "{got:?}");
    assert_eq!(got.code(), code, "{got:?}");
    assert_eq!(got.body["error"]["status"], "PERMISSION_DENIED");
    let message = got.body["error"]["errors"][0]["message"].as_str().unwrap();
    assert!(message.starts_with("hedgerow: "), "{message}");
}

#[tokio::test(flavor = "multi_thread")]
async fn a_query_is_bound_labelled_and_capped_and_nothing_else_is_sent() {
    let stand = Stand::start(POLICY).await;
    stand.service.answers(runs_queries);
    let got = stand
        .query(A, json!({
            "query": "SELECT note FROM orders WHERE id > @id", "useLegacySql": false,
            "defaultDataset": {"datasetId": "app"}, "maxResults": 10, "timeoutMs": 1000,
            "parameterMode": "named",
            "queryParameters": [{"name": "id", "parameterType": {"type": "INT64"}, "parameterValue": {"value": 1}}],
            "labels": {"mine": "yes", "tenant": "tenant-b"}, "requestId": "r-1",
            "maximumBytesBilled": "99999999999",
            "secureContext": {"secureParameterEntries": {"tenant_id": "tenant-b"}},
            "formatOptions": {"useInt64Timestamp": true}, "location": "EU",
        }))
        .await;
    assert_eq!(got.status, 200, "{got:?}");
    let seen = stand.service.only();
    assert_eq!(
        (seen.method.as_str(), seen.target.as_str()),
        ("POST", "/bigquery/v2/projects/acme-prod/queries")
    );
    let sent = &seen.body;
    let text = sent["query"].as_str().unwrap();
    assert!(text.contains("'tenant-a'") && text.contains("acme-prod"), "{text}");
    assert_eq!(sent["useLegacySql"], false);
    assert_eq!(sent["maximumBytesBilled"], "1048576");
    assert_eq!(sent["parameterMode"], "NAMED");
    assert_eq!(sent["labels"]["tenant"], "tenant-a");
    assert_eq!(sent["labels"]["team"], "data");
    assert_eq!(sent["labels"]["mine"], "yes");
    assert_ne!(sent["requestId"], "r-1");
    for absent in ["defaultDataset", "secureContext", "useQueryCache"] {
        assert!(sent.get(absent).is_none(), "{absent}");
    }
    // The client's token stays here.
    assert!(seen.headers.get("authorization").is_none());
    // Back comes what is on the list.
    let body = &got.body;
    assert_eq!(body["rows"][0]["f"][0]["v"], text);
    assert_eq!(body["schema"]["fields"][0], json!({"name": "x", "type": "STRING"}));
    for absent in ["totalBytesProcessed", "queryId", "totalSlotMs"] {
        assert!(body.get(absent).is_none(), "{absent}");
    }
    assert_ne!(body["pageToken"], "next");
    let job = body["jobReference"]["jobId"].as_str().unwrap();
    assert!(job.starts_with("hrs_") && job.ends_with("_job_made_upstream"), "{job}");
    let records = stand.finish().await;
    let record = records.iter().find(|record| record.to_string().contains("\"rewrite\"")).unwrap();
    let own = &record["unmapped"]["hedgerow"];
    assert_eq!((own["engine"].as_str(), own["tenant"].as_str()), (Some("bigquery"), Some(A)));
    assert_eq!(own["rows"], 1);
    assert!(!record.to_string().contains("eyJ"), "a token is in the record");
}

#[tokio::test(flavor = "multi_thread")]
async fn without_a_good_token_nothing_is_answered_and_the_refusal_is_on_record() {
    let stand = Stand::start(POLICY).await;
    let target = format!("{BASE}/queries");
    let expired = Token::hs256(A).claim("exp", (token::now() - 60).into()).sign();
    let nobody = Token::hs256(A).without("tenant_id").sign();
    let forged = Token::hs256(A).secret(b"another secret, longer than thirty-two bytes").sign();
    for (header, value, code) in [
        ("x-other", String::new(), "HR2011"),
        ("authorization", "Basic dTpw".to_owned(), "HR2011"),
        ("authorization", "Bearer nonsense".to_owned(), "HR2001"),
        ("authorization", format!("Bearer {expired}"), "HR2002"),
        ("authorization", format!("Bearer {nobody}"), "HR2009"),
        ("authorization", format!("Bearer {forged}"), "HR2001"),
        ("x-hedgerow-token", expired.clone(), "HR2002"),
    ] {
        let got = send(stand.request("POST", &target).header(header, value).body("{}")).await;
        assert_eq!((got.status, got.reason()), (401, "authError"), "{got:?}");
        assert_eq!(got.code(), code);
        assert_eq!(got.headers["www-authenticate"], "Bearer realm=\"hedgerow\"");
    }
    // Unknown paths tell nobody anything either.
    assert_eq!(send(stand.request("GET", "/")).await.status, 401);
    // The header of our own wins over the library's credential.
    stand.service.answers(runs_queries);
    let request = stand.request("POST", &target).bearer_auth("ya29.google");
    let body = json!({"query": "SELECT 1"}).to_string();
    let got = send(request.header("x-hedgerow-token", token::of(A)).body(body)).await;
    assert_eq!(got.status, 200, "{got:?}");
    stand.service.only();
    let records = stand.finish().await;
    let refused = records.iter().filter(|record| record.to_string().contains("HR20")).count();
    assert_eq!(refused, 8);
}

#[tokio::test(flavor = "multi_thread")]
async fn forms_that_are_not_on_a_list_are_denied_and_never_sent() {
    let stand = Stand::start(POLICY).await;
    let query = |extra: Value| {
        let mut body = json!({"query": "SELECT 1", "useLegacySql": false});
        body.as_object_mut().unwrap().extend(extra.as_object().unwrap().clone());
        body
    };
    for (body, code) in [
        (json!({"query": "SELECT 1", "useLegacySql": true}), "HR5004"),
        (json!({"query": "SELECT secret FROM app.hidden"}), "HR1004"),
        (json!({"query": "SELECT x FROM app.nowhere"}), "HR1003"),
        (
            json!({"query": "SELECT x FROM customers", "defaultDataset": {"projectId": "other", "datasetId": "app"}}),
            "HR1003",
        ),
        (query(json!({"use_legacy_sql": true})), "HR5002"),
        (query(json!({"Query": "SELECT 2"})), "HR5002"),
        (query(json!({"userDefinedFunctionResources": [{"inlineCode": "x"}]})), "HR5002"),
        (query(json!({"destinationEncryptionConfiguration": {"kmsKeyName": "k"}})), "HR5002"),
        (
            query(json!({"connectionProperties": [{"key": "service_account", "value": "x"}]})),
            "HR1006",
        ),
        (
            query(json!({"connectionProperties": [{"key": "dataset_project_id", "value": "x"}]})),
            "HR1006",
        ),
        (query(json!({"continuous": true})), "HR5002"),
        (query(json!({"queryResultsFormat": "ARROW"})), "HR5002"),
        (query(json!({"maxResults": -1})), "HR5002"),
    ] {
        let got = stand.query(A, body.clone()).await;
        assert_denied(&got, code);
    }
    let target = format!("{BASE}/queries");
    let post = |body: &str| {
        let request = stand.request("POST", &target).bearer_auth(token::of(A));
        request.header("content-type", "application/json").body(body.to_owned())
    };
    for body in [
        r#"{"query":"SELECT 1","query":"SELECT 2"}"#,
        r#"{"query":"SELECT 1"}{}"#,
        "[]",
        "",
        "\u{feff}{\"query\":\"SELECT 1\"}",
    ] {
        assert_denied(&send(post(body)).await, "HR5002");
    }
    let odd = [("x-http-method-override", "GET"), ("content-encoding", "br")];
    for (name, value) in odd {
        assert_denied(&send(post(r#"{"query":"SELECT 1"}"#).header(name, value)).await, "HR5002");
    }
    let utf16 = stand.request("POST", &target).bearer_auth(token::of(A));
    let utf16 = utf16.header("content-type", "application/json; charset=utf-16").body("{}");
    assert_denied(&send(utf16).await, "HR5002");
    for (verb, target, code) in [
        ("POST", "/batch/bigquery/v2", "HR5001"),
        ("POST", "/mcp", "HR5001"),
        ("GET", "/bigquery/v2/projects/acme-prod/serviceAccount", "HR5001"),
        (
            "POST",
            "/bigquery/v2/projects/acme-prod/datasets/app/tables/customers:setIamPolicy",
            "HR5001",
        ),
        ("GET", "/bigquery/v2/projects/acme-prod%2Fdatasets", "HR5001"),
        ("GET", "/bigquery/v2/projects/acme-other/datasets", "HR5003"),
        ("GET", "/bigquery/v2/projects/acme-prod/jobs?allUsers=true", "HR5002"),
        ("GET", "/bigquery/v2/projects/acme-prod/jobs?key=x", "HR5002"),
        ("DELETE", "/bigquery/v2/projects/acme-prod/datasets/app", "HR5001"),
        ("DELETE", "/bigquery/v2/projects/acme-prod/datasets/app/tables/customers", "HR5005"),
        ("DELETE", "/bigquery/v2/projects/acme-prod/datasets/own_tenant_b/tables/t", "HR5005"),
    ] {
        assert_denied(&stand.ask(A, verb, target, Value::Null).await, code);
    }
    assert!(stand.service.seen().is_empty(), "something was sent");
    let records = stand.finish().await;
    assert!(records.iter().filter(|record| record.to_string().contains("HR5002")).count() > 10);
}

#[tokio::test(flavor = "multi_thread")]
async fn packed_bodies_are_unpacked_and_large_ones_refused() {
    use std::io::Write as _;
    let stand = Stand::start(POLICY).await;
    stand.service.answers(runs_queries);
    let pack = |bytes: &[u8]| {
        let mut encoder = flate2::write::GzEncoder::new(Vec::new(), flate2::Compression::best());
        encoder.write_all(bytes).unwrap();
        encoder.finish().unwrap()
    };
    let target = format!("{BASE}/queries");
    let post = |body: Vec<u8>| {
        let request = stand.request("POST", &target).bearer_auth(token::of(A));
        request.header("content-encoding", "gzip").body(body)
    };
    let got = send(post(pack(json!({"query": "SELECT 1"}).to_string().as_bytes()))).await;
    assert_eq!(got.status, 200, "{got:?}");
    stand.service.only();
    let bomb = pack(&vec![b' '; 64 << 20]);
    assert!(bomb.len() < 1 << 20);
    assert_eq!(send(post(bomb)).await.status, 413);
    let plain = stand.request("POST", &target).bearer_auth(token::of(A)).body(vec![b' '; 11 << 20]);
    assert_eq!(send(plain).await.status, 413);
    assert!(stand.service.seen().is_empty());
    stand.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_job_is_its_tenants_alone() {
    let stand = Stand::start(POLICY).await;
    // A service that knows every job: whatever is asked for is there.
    stand.service.answers(|seen| {
        let id = seen.target.split(['/', '?']).nth(6).unwrap_or("job_listed").to_owned();
        if seen.method == "POST" && !seen.target.contains("/cancel") {
            return (200, json!({"jobReference": seen.body["jobReference"], "configuration": seen.body["configuration"],
                "user_email": "sa@p.example", "status": {"state": "DONE"},
                "statistics": {"totalBytesProcessed": "9", "query": {"queryPlan": [{}], "totalBytesBilled": "9", "statementType": "SELECT"}}}));
        }
        (200, json!({"jobReference": {"projectId": "acme-prod", "jobId": id}, "jobComplete": true, "rows": [], "totalRows": "0", "pageToken": "p2"}))
    });
    let insert = json!({"jobReference": {"projectId": "acme-prod", "jobId": "mine", "location": "US"},
        "configuration": {"query": {"query": "SELECT note FROM app.orders", "useLegacySql": false}, "labels": {"a": "b"}}});
    let got = stand.ask(A, "POST", &format!("{BASE}/jobs"), insert.clone()).await;
    assert_eq!(got.status, 200, "{got:?}");
    let sent = stand.service.only().body;
    let upstream = sent["jobReference"]["jobId"].as_str().unwrap().to_owned();
    assert!(upstream.starts_with("hr_") && upstream.ends_with("_mine"));
    assert_eq!(sent["jobReference"]["location"], "US");
    assert_eq!(got.body["jobReference"]["jobId"], "mine");
    assert_eq!(got.body["id"], "acme-prod:US.mine");
    assert_eq!(got.body["configuration"]["labels"], json!({"a": "b"}));
    assert_eq!(got.body["configuration"]["query"]["query"], "SELECT note FROM app.orders");
    for secret in ["user_email", "queryPlan", "totalBytes", "tenant-a", "hr_"] {
        assert!(!got.text.contains(secret), "{secret}: {}", got.text);
    }
    // The same name is another job for another tenant.
    let other = stand.ask(B, "POST", &format!("{BASE}/jobs"), insert).await;
    assert_eq!(other.status, 200);
    assert_ne!(stand.service.only().body["jobReference"]["jobId"], upstream.as_str());
    stand
        .ask(A, "GET", &format!("{BASE}/queries/mine?maxResults=0&location=US"), Value::Null)
        .await;
    assert!(stand.service.only().target.contains(&upstream));
    // Neither the whole upstream id, nor a sealed one of another tenant's, nor a made up one.
    let got = stand.query(A, json!({"query": "SELECT 1"})).await;
    assert_eq!(got.status, 200);
    stand.service.seen();
    let got = stand.ask(A, "GET", &format!("{BASE}/queries/mine"), Value::Null).await;
    let page = got.body["pageToken"].as_str().unwrap().to_owned();
    stand.service.seen();
    let never_was =
        stand.ask(B, "GET", &format!("{BASE}/jobs/hrs_{}_x", "0".repeat(32)), Value::Null).await;
    for target in [
        format!("jobs/{upstream}"),
        format!("queries/{upstream}"),
        format!("queries/mine?pageToken={page}"),
        "queries/mine?pageToken=p2".to_owned(),
        format!("jobs?pageToken={page}"),
        "jobs?parentJobId=hrs_x".to_owned(),
        "datasets?pageToken=x".to_owned(),
        "datasets/_b1234/tables/anonB".to_owned(),
    ] {
        let got = stand.ask(B, "GET", &format!("{BASE}/{target}"), Value::Null).await;
        assert_eq!((got.status, got.reason()), (404, "notFound"), "{target}: {got:?}");
        assert_eq!(got.code(), "", "{target}");
        assert!(!got.text.contains("hedgerow"), "{}", got.text);
    }
    assert_eq!((never_was.status, never_was.reason()), (404, "notFound"));
    for (verb, target) in
        [("POST", format!("jobs/{upstream}/cancel")), ("DELETE", format!("jobs/{upstream}/delete"))]
    {
        let got = stand.ask(B, verb, &format!("{BASE}/{target}"), Value::Null).await;
        assert_eq!(got.status, 404, "{target}");
    }
    assert!(stand.service.seen().is_empty(), "something was asked of the service");
    // The page is the tenant's that was given it.
    let got =
        stand.ask(A, "GET", &format!("{BASE}/queries/mine?pageToken={page}"), Value::Null).await;
    assert_eq!(got.status, 200);
    assert!(stand.service.only().target.contains("pageToken=p2"));
    let cancelled =
        stand.ask(A, "POST", &format!("{BASE}/jobs/mine/cancel?location=US"), Value::Null).await;
    assert_eq!(cancelled.body["job"]["jobReference"]["jobId"], "mine");
    assert_eq!(stand.service.only().method, "POST");
    let deleted = stand.ask(A, "DELETE", &format!("{BASE}/jobs/mine/delete"), Value::Null).await;
    assert_eq!((deleted.status, deleted.text.as_str()), (204, ""));
    stand.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_list_of_jobs_holds_ones_own() {
    let stand = Stand::start(POLICY).await;
    stand.service.answers(|seen| (200, json!({"jobReference": seen.body["jobReference"]})));
    let insert = |id: &str| json!({"jobReference": {"jobId": id}, "configuration": {"query": {"query": "SELECT 1"}}});
    let mut upstream = Vec::new();
    let mut labels = Vec::new();
    for tenant in [A, B] {
        stand.ask(tenant, "POST", &format!("{BASE}/jobs"), insert("j")).await;
        let sent = stand.service.only().body;
        upstream.push(sent["jobReference"]["jobId"].clone());
        labels.push(sent["configuration"]["labels"].clone());
    }
    let job = |id: &Value, labels: &Value| {
        json!({"id": "x", "jobReference": {"projectId": "acme-prod", "jobId": id}, "state": "DONE",
            "configuration": {"labels": labels, "query": {"query": "SELECT 'B-SECRET'"}}})
    };
    let jobs = json!([
        job(&upstream[0], &labels[0]),
        job(&upstream[1], &labels[1]),
        job(&"job_of_a".into(), &labels[0]),
        job(&"job_of_b".into(), &labels[1]),
        // Another tenant's id with this tenant's label: the id decides.
        job(&upstream[1], &labels[0]),
        job(&"job_of_the_operator".into(), &json!({})),
    ]);
    stand.service.answers(move |seen| {
        if seen.target.contains("pageToken=two") {
            return (200, json!({"jobs": jobs}));
        }
        (200, json!({"jobs": [], "nextPageToken": "two"}))
    });
    let got = stand
        .ask(A, "GET", &format!("{BASE}/jobs?projection=full&maxResults=10"), Value::Null)
        .await;
    let ids: Vec<_> = got.body["jobs"]
        .as_array()
        .unwrap()
        .iter()
        .map(|job| job["jobReference"]["jobId"].as_str().unwrap())
        .collect();
    assert_eq!(ids.len(), 2, "{}", got.text);
    assert!(ids[0] == "j" && ids[1].ends_with("_job_of_a"), "{ids:?}");
    assert!(!got.text.contains("B-SECRET"), "{}", got.text);
    stand.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn results_copies_and_tables_go_into_ones_own_datasets_only() {
    let stand = Stand::start(POLICY).await;
    stand.service.answers(|seen| (200, json!({"jobReference": seen.body["jobReference"], "configuration": seen.body["configuration"]})));
    let table = |dataset: &str, table: &str| json!({"projectId": "acme-prod", "datasetId": dataset, "tableId": table});
    let query = |destination: Value| json!({"configuration": {"query": {"query": "SELECT note FROM app.orders", "destinationTable": destination, "writeDisposition": "WRITE_TRUNCATE"}}});
    let copy = |source: Value, destination: Value| json!({"configuration": {"copy": {"sourceTable": source, "destinationTable": destination}}});
    let own = || table("own_tenant_a", "t");
    for (body, code) in [
        (query(table("app", "customers")), "HR5005"),
        (query(table("own_tenant_b", "t")), "HR5005"),
        (query(table("own_tenant_a", "t$20260101")), "HR5002"),
        (copy(table("app", "customers"), own()), "HR1004"),
        (copy(table("app", "customers@-3600000"), own()), "HR5002"),
        (copy(table("own_tenant_b", "t"), own()), "HR1004"),
        (copy(own(), table("app", "currencies")), "HR5005"),
        (
            json!({"configuration": {"extract": {"sourceTable": table("app", "customers"), "destinationUris": ["gs://b/x"]}}}),
            "HR5006",
        ),
        (
            json!({"configuration": {"load": {"sourceUris": ["gs://b/x"], "destinationTable": own()}}}),
            "HR5006",
        ),
        (
            json!({"configuration": {"query": {"query": "SELECT * FROM ext", "tableDefinitions": {"ext": {"sourceUris": ["gs://b"]}}}}}),
            "HR1003",
        ),
        (
            json!({"configuration": {"query": {"query": "SELECT 1", "tableDefinitions": {"ext": {"sourceUris": ["gs://b"]}}}}}),
            "HR5002",
        ),
        (json!({"configuration": {}}), "HR5006"),
    ] {
        assert_denied(&stand.ask(A, "POST", &format!("{BASE}/jobs"), body).await, code);
    }
    assert!(stand.service.seen().is_empty());
    for body in [query(own()), copy(own(), own()), copy(table("app", "currencies"), own())] {
        let got = stand.ask(A, "POST", &format!("{BASE}/jobs"), body).await;
        assert_eq!(got.status, 200, "{got:?}");
        let sent = stand.service.only().body;
        assert!(sent.to_string().contains("own_tenant_a"), "{sent}");
    }
    let tables = format!("{BASE}/datasets/own_tenant_a/tables");
    let fresh = json!({"tableReference": own(), "schema": {"fields": [{"name": "id", "type": "INTEGER", "mode": "REQUIRED", "policyTags": {"names": []}}]}, "labels": {}});
    let got = stand.ask(A, "POST", &tables, fresh).await;
    assert_eq!(got.status, 200, "{got:?}");
    assert_eq!(
        stand.service.only().body["schema"]["fields"][0],
        json!({"name": "id", "type": "INTEGER", "mode": "REQUIRED"})
    );
    for odd in [
        json!({"tableReference": own(), "view": {"query": "SELECT * FROM app.customers"}}),
        json!({"tableReference": own(), "externalDataConfiguration": {"sourceUris": ["gs://b"]}}),
        json!({"tableReference": own(), "cloneDefinition": {"baseTableReference": table("app", "customers")}}),
        json!({"tableReference": own(), "materializedView": {"query": "SELECT 1"}}),
    ] {
        assert_denied(&stand.ask(A, "POST", &tables, odd).await, "HR5002");
    }
    assert_denied(&stand.ask(B, "POST", &tables, json!({"tableReference": own()})).await, "HR5005");
    assert!(stand.service.seen().is_empty());
    stand.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn lists_and_tables_show_what_the_policy_shows() {
    let stand = Stand::start(POLICY).await;
    stand.service.answers(|seen| {
        let dataset = |id: &str| json!({"kind": "bigquery#dataset", "id": format!("acme-prod:{id}"), "datasetReference": {"datasetId": id, "projectId": "acme-prod"}, "labels": {"customer": "x"}, "access": [{"userByEmail": "b@b.example"}]});
        let table = |id: &str| json!({"id": "x", "tableReference": {"projectId": "acme-prod", "datasetId": "app", "tableId": id}, "type": "TABLE", "numRows": "6"});
        (200, match seen.target.split('?').next().unwrap() {
            "/bigquery/v2/projects/acme-prod/datasets" => json!({"datasets": (["app", "archive", "own_tenant_a", "own_tenant_b", "_hash"].map(dataset))}),
            "/bigquery/v2/projects/acme-prod/datasets/app" => dataset("app"),
            "/bigquery/v2/projects/acme-prod/datasets/app/tables" => json!({"tables": (["customers", "hidden", "unknown", "currencies"].map(table)), "totalItems": 4}),
            _ => json!({"numRows": "6", "numBytes": "99", "lastModifiedTime": "1", "etag": "e", "type": "TABLE", "selfLink": "https://x",
                "schema": {"fields": [{"name": "id", "type": "INTEGER"}, {"name": "Secret", "type": "STRING"}]}}),
        })
    });
    let names = |got: &Got, list: &str, of: &str, id: &str| -> Vec<String> {
        got.body[list]
            .as_array()
            .unwrap()
            .iter()
            .map(|one| one[of][id].as_str().unwrap().to_owned())
            .collect()
    };
    let got = stand
        .ask(A, "GET", &format!("{BASE}/datasets?all=True&filter=labels.a:b"), Value::Null)
        .await;
    assert_eq!(names(&got, "datasets", "datasetReference", "datasetId"), ["app", "own_tenant_a"]);
    assert!(!got.text.contains("b.example"));
    assert!(!stand.service.only().target.contains("all"));
    let got = stand.ask(A, "GET", &format!("{BASE}/datasets/app"), Value::Null).await;
    assert!(!got.text.contains("b.example") && !got.text.contains("customer"), "{}", got.text);
    for foreign in ["own_tenant_b", "archive"] {
        assert_denied(
            &stand.ask(A, "GET", &format!("{BASE}/datasets/{foreign}"), Value::Null).await,
            "HR1003",
        );
        assert_denied(
            &stand.ask(A, "GET", &format!("{BASE}/datasets/{foreign}/tables"), Value::Null).await,
            "HR1003",
        );
    }
    let got = stand.ask(A, "GET", &format!("{BASE}/datasets/app/tables"), Value::Null).await;
    assert_eq!(names(&got, "tables", "tableReference", "tableId"), ["customers", "currencies"]);
    assert!(!got.text.contains("numRows") && !got.text.contains("totalItems"));
    let got =
        stand.ask(A, "GET", &format!("{BASE}/datasets/app/tables/customers"), Value::Null).await;
    assert_eq!(got.body["schema"]["fields"], json!([{"name": "id", "type": "INTEGER"}]));
    for secret in ["numRows", "numBytes", "lastModifiedTime", "etag", "selfLink"] {
        assert!(got.body.get(secret).is_none(), "{secret}");
    }
    let got =
        stand.ask(A, "GET", &format!("{BASE}/datasets/own_tenant_a/tables/t"), Value::Null).await;
    assert_eq!(got.body["numRows"], "6");
    assert_denied(
        &stand.ask(A, "GET", &format!("{BASE}/datasets/app/tables/hidden"), Value::Null).await,
        "HR1004",
    );
    assert_denied(
        &stand
            .ask(A, "GET", &format!("{BASE}/datasets/app/tables/customers$2026"), Value::Null)
            .await,
        "HR5002",
    );
    let got = stand.ask(A, "GET", "/bigquery/v2/projects", Value::Null).await;
    assert_eq!(got.body["projects"][0]["id"], "acme-prod");
    let got = stand.ask(A, "GET", &format!("{BASE}/datasets/app/routines"), Value::Null).await;
    assert_eq!((got.status, got.body), (200, json!({})));
    stand.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn secure_context_is_the_verified_tenants() {
    let stand = Stand::start(POLICY).await;
    stand.service.answers(runs_queries);
    let got = stand
        .query(
            A,
            json!({"query": "SELECT x FROM secure.view", "useQueryCache": true,
        "secureContext": {"secureParameterEntries": {"tenant_id": B}}}),
        )
        .await;
    assert_eq!(got.status, 200, "{got:?}");
    let sent = stand.service.only().body;
    assert_eq!(sent["secureContext"], json!({"secureParameterEntries": {"tenant_id": A}}));
    assert_eq!(sent["useQueryCache"], false);
    stand.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sessions_are_bound_to_the_tenant() {
    let stand = Stand::start(POLICY).await;
    stand.service.answers(|_| (200, json!({"jobReference": {"jobId": "j"}, "jobComplete": true, "sessionInfo": {"sessionId": "upstream-session"}})));
    let got = stand.query(A, json!({"query": "SELECT 1", "createSession": true})).await;
    let session = got.body["sessionInfo"]["sessionId"].as_str().unwrap().to_owned();
    assert!(session.ends_with("_upstream-session"));
    stand.service.seen();
    let with = |session: &str| json!({"query": "SELECT 1", "connectionProperties": [{"key": "session_id", "value": session}]});
    for foreign in
        [stand.query(B, with(&session)).await, stand.query(A, with("upstream-session")).await]
    {
        assert_eq!((foreign.status, foreign.reason()), (404, "notFound"));
    }
    assert!(stand.service.seen().is_empty());
    assert_eq!(stand.query(A, with(&session)).await.status, 200);
    let sent = stand.service.only().body;
    assert_eq!(
        sent["connectionProperties"],
        json!([{"key": "session_id", "value": "upstream-session"}])
    );
    stand.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn errors_of_the_service_tell_no_values_and_no_account() {
    let stand = Stand::start(POLICY).await;
    let query = json!({"query": "SELECT CAST(note AS INT64) FROM app.orders"});
    stand.service.answers(|_| error(400, "invalidQuery", "Bad int64 value: B-SECRET-ORDER-101"));
    let got = stand.query(A, query.clone()).await;
    assert_eq!((got.status, got.reason()), (400, "invalidQuery"));
    assert!(!got.text.contains("SECRET") && !got.text.contains("101"), "{}", got.text);
    assert!(got.text.contains("Bad int64 value"));
    stand.service.answers(|_| {
        error(403, "accessDenied", "User sa@p.iam.gserviceaccount.com does not have permission")
    });
    let got = stand.query(A, query.clone()).await;
    assert!(got.status == 403 && !got.text.contains("gserviceaccount"), "{}", got.text);
    // Hedgerow's own trouble with the service is not the client's: it may try again.
    for status in [401, 500, 502, 503] {
        stand
            .service
            .answers(move |_| error(status, "backendError", "sa@p.iam.gserviceaccount.com"));
        let got = stand.query(A, query.clone()).await;
        assert_eq!((got.status, got.reason()), (503, "backendError"), "{status}");
        assert!(!got.text.contains("gserviceaccount"));
    }
    // In the job's own account of itself too.
    stand.service.answers(|seen| {
        let failed = json!({"reason": "invalidQuery", "message": "Bad int64 value: B-SECRET", "debugInfo": "B-SECRET", "location": "B-SECRET"});
        (200, json!({"jobReference": seen.body["jobReference"], "status": {"state": "DONE", "errorResult": failed, "errors": [failed]}}))
    });
    let body = json!({"configuration": {"query": query}});
    let got = stand.ask(A, "POST", &format!("{BASE}/jobs"), body).await;
    assert!(got.status == 200 && !got.text.contains("SECRET"), "{}", got.text);
    // A row that would be another tenant's is a denial.
    stand.service.answers(|_| error(400, "invalidQuery", hedgerow::sql::bigquery::WRITE_OUTSIDE));
    assert_denied(&stand.query(A, json!({"query": "SELECT 1"})).await, "HR1011");
    stand.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn reading_calls_are_tried_again_and_writing_ones_are_not() {
    use std::sync::atomic::{AtomicU32, Ordering};
    let stand = Stand::start(POLICY).await;
    let count = std::sync::Arc::new(AtomicU32::new(0));
    let counted = std::sync::Arc::clone(&count);
    stand.service.answers(move |_| {
        if counted.fetch_add(1, Ordering::SeqCst) < 2 {
            error(503, "backendError", "x")
        } else {
            (200, json!({"jobComplete": true}))
        }
    });
    let got = stand.ask(A, "GET", &format!("{BASE}/queries/j"), Value::Null).await;
    assert_eq!((got.status, count.load(Ordering::SeqCst)), (200, 3));
    count.store(0, Ordering::SeqCst);
    let got = stand.query(A, json!({"query": "SELECT 1"})).await;
    assert_eq!((got.status, count.load(Ordering::SeqCst)), (503, 1));
    stand.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_new_policy_holds_from_the_next_request() {
    let stand = Stand::start(POLICY).await;
    stand.service.answers(runs_queries);
    let query = json!({"query": "SELECT note FROM app.orders"});
    assert_eq!(stand.query(A, query.clone()).await.status, 200);
    let closed =
        POLICY.replace("acme-prod.app.orders: {tenant: tenant_id}", "acme-prod.app.orders: deny");
    stand.policy.store(std::sync::Arc::new(read_policy(&closed, 2)));
    assert_denied(&stand.query(A, query).await, "HR1004");
    stand.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn requests_under_way_end_at_shutdown_and_idle_connections_are_closed() {
    let stand = Stand::start(POLICY).await;
    stand.service.answers(|seen| {
        std::thread::sleep(std::time::Duration::from_millis(300));
        runs_queries(seen)
    });
    let idle = tokio::net::TcpStream::connect(stand.address).await.unwrap();
    let body = json!({"query": "SELECT 1"}).to_string();
    let request =
        stand.request("POST", &format!("{BASE}/queries")).bearer_auth(token::of(A)).body(body);
    let under_way = tokio::spawn(send(request));
    while stand.service.seen().is_empty() {
        tokio::time::sleep(std::time::Duration::from_millis(5)).await;
    }
    let address = stand.address;
    let records = stand.finish().await;
    assert_eq!(under_way.await.unwrap().status, 200);
    assert!(records.iter().any(|record| record.to_string().contains("\"select\"")));
    let mut byte = [0; 1];
    idle.readable().await.unwrap();
    assert!(matches!(idle.try_read(&mut byte), Ok(0) | Err(_)));
    assert!(tokio::net::TcpStream::connect(address).await.is_err());
}

#[tokio::test(flavor = "multi_thread")]
async fn a_second_request_with_a_jobs_id_does_not_say_what_the_job_is() {
    let stand = Stand::start(POLICY).await;
    let failed = json!({"reason": "invalidQuery", "message": "Bad int64 value: B-SECRET"});
    let status = json!({"state": "DONE", "errorResult": failed, "errors": [failed]});
    let insert = |query: &str| json!({"jobReference": {"jobId": "j"}, "configuration": {"query": {"query": query}}});
    let jobs = format!("{BASE}/jobs");
    let job = format!("{BASE}/jobs/j");
    let told = status.clone();
    stand.service.answers(move |seen| {
        (200, json!({"jobReference": seen.body["jobReference"], "status": told, "statistics": {"totalBytesProcessed": "9"}}))
    });
    stand.ask(A, "POST", &jobs, insert("SELECT CAST(note AS INT64) FROM app.orders")).await;
    stand.service.answers(|_| error(409, "duplicate", "Already Exists: Job acme-prod:US.hr_x_j"));
    let got = stand.ask(A, "POST", &jobs, insert("SELECT 1")).await;
    assert_eq!((got.status, got.reason()), (409, "duplicate"));
    assert!(got.text.contains("acme-prod:j") && !got.text.contains("hr_"), "{}", got.text);
    stand.service.answers(move |_| {
        (200, json!({"status": status, "statistics": {"totalBytesProcessed": "9"}}))
    });
    let got = stand.ask(A, "GET", &job, Value::Null).await;
    for secret in ["SECRET", "totalBytes"] {
        assert!(!got.text.contains(secret), "{}", got.text);
    }
    // Nor after a restart, when nothing is known of the job.
    let got = stand.ask(B, "GET", &job, Value::Null).await;
    assert!(!got.text.contains("SECRET"), "{}", got.text);
    stand.finish().await;
}
