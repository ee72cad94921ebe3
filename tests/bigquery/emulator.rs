//! `bqemulator`, a BigQuery of DuckDB, as the service behind Hedgerow: one process for this binary.

use std::path::{Path, PathBuf};
use std::process::{Child, Command, Stdio};
use std::sync::OnceLock;
use std::time::Duration;

use serde_json::{Value, json};

use super::process::{self, Guardian};

const START_LIMIT: Duration = Duration::from_secs(90);

/// The running stand-in.
pub struct Emulator {
    pub url: String,
    _guardian: Guardian,
    _child: Child,
}

/// The interpreter with stand-in and clients: `make bigquery-env` makes it.
pub fn python() -> Option<PathBuf> {
    let beside = Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv-bigquery/bin/python");
    let python = std::env::var_os("HEDGEROW_BIGQUERY_PYTHON").map_or(beside, PathBuf::from);
    if python.is_file() {
        return Some(python);
    }
    assert!(
        std::env::var_os("HEDGEROW_REQUIRE_BIGQUERY").is_none(),
        "no stand-in for BigQuery at {}",
        python.display()
    );
    println!("SKIPPED: no stand-in for BigQuery; `make bigquery-env` makes .venv-bigquery");
    None
}

/// The stand-in of this binary, started at first use; `None` where it is not installed.
pub fn emulator() -> Option<&'static Emulator> {
    static EMULATOR: OnceLock<Option<Emulator>> = OnceLock::new();
    EMULATOR.get_or_init(|| python().map(|python| Emulator::start(&python))).as_ref()
}

impl Emulator {
    fn start(python: &Path) -> Self {
        let program = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/bigquery/stand_in.py");
        let (rest, grpc) = (process::free_address().port(), process::free_address().port());
        let child = Command::new(python)
            .arg(program)
            .args(["start", "--ephemeral", "--project", "acme-prod", "--log-level", "error"])
            .args(["--rest-port", &rest.to_string(), "--grpc-port", &grpc.to_string()])
            .env_remove("HTTP_PROXY")
            .env_remove("http_proxy")
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("bqemulator can be run");
        let guardian = Guardian::after_exit("kill -KILL \"$1\"", &[&child.id().to_string()]);
        process::eventually("bqemulator listens", START_LIMIT, || {
            std::net::TcpStream::connect(("127.0.0.1", rest)).ok()
        });
        Self { url: format!("http://127.0.0.1:{rest}"), _guardian: guardian, _child: child }
    }

    /// Runs a query in a project, past Hedgerow.
    ///
    /// # Panics
    /// The service answers an error: a fixture that failed is no empty table.
    pub async fn query(&self, project: &str, text: &str) -> Value {
        let body = json!({"query": text, "useLegacySql": false, "defaultDataset": {"projectId": project, "datasetId": "app"}});
        let answer = self.ask(project, body).await;
        assert!(failure(&answer).is_none(), "{text}: {answer}");
        answer
    }

    /// Runs a query in a project, past Hedgerow; what the service says, errors too.
    pub async fn ask(&self, project: &str, body: Value) -> Value {
        let url = format!("{}/bigquery/v2/projects/{project}/queries", self.url);
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        let request = client.post(url).header("content-type", "application/json");
        let response = request.body(body.to_string()).send().await.unwrap();
        let text = response.text().await.unwrap();
        serde_json::from_str(&text).unwrap_or_else(|_| panic!("{text}"))
    }

    /// Makes the attacks' tables in a project, with the rows of these tenants.
    pub async fn fixture(&self, project: &str, tenants: &[&str]) {
        let client = reqwest::Client::builder().no_proxy().build().unwrap();
        for dataset in ["app", "archive", "own_tenant_a", "own_tenant_b"] {
            let url = format!("{}/bigquery/v2/projects/{project}/datasets", self.url);
            let body = json!({"datasetReference": {"projectId": project, "datasetId": dataset}});
            let request = client.post(url).header("content-type", "application/json");
            request.body(body.to_string()).send().await.unwrap();
        }
        for (table, columns) in TABLES {
            let text = format!("CREATE OR REPLACE TABLE `{project}.{table}` ({columns})");
            self.query(project, &text).await;
        }
        for tenant in tenants {
            for (table, rows) in rows(tenant) {
                let text = format!("INSERT INTO `{project}.{table}` VALUES {rows}");
                self.query(project, &text).await;
            }
        }
        let shared =
            format!("INSERT INTO `{project}.app.currencies` VALUES ('EUR', 1), ('USD', 1.1)");
        self.query(project, &shared).await;
    }
}

/// What an answer says went wrong. The stand-in answers 200 with errors where the service answers 400.
pub fn failure(answer: &Value) -> Option<String> {
    let first = answer["errors"].get(0).or_else(|| answer.get("error"));
    first.map(|error| error["message"].as_str().unwrap_or("unknown").to_owned())
}

const TABLES: &[(&str, &str)] = &[
    (
        "app.customers",
        "tenant_id STRING, id INT64, email STRING, name STRING, secret STRING, credit INT64, tags ARRAY<STRING>",
    ),
    ("app.orders", "tenant_id STRING, id INT64, customer_id INT64, total NUMERIC, note STRING"),
    ("app.order_items", "order_id INT64, sku STRING, secret STRING"),
    ("app.documents", "tenant_id STRING, id INT64, secret STRING, emb ARRAY<FLOAT64>"),
    ("app.currencies", "code STRING, rate NUMERIC"),
    ("app.events", "tenant_id STRING, id INT64, ts TIMESTAMP, payload STRING"),
    ("app.events_20250101", "tenant_id STRING, id INT64, payload STRING"),
    ("app.events_20260101", "tenant_id STRING, id INT64, payload STRING"),
    ("app.unknown", "tenant_id STRING, secret STRING"),
    ("archive.customers", "org STRING, id INT64, secret STRING"),
];

/// A tenant's rows. B's numbers begin at 101, and its texts say whose they are.
fn rows(tenant: &str) -> Vec<(&'static str, String)> {
    let (first, mark) = if tenant == "tenant-a" { (1, 'A') } else { (101, 'B') };
    let lines = |count: i64, row: &dyn Fn(i64) -> String| {
        (0..count).map(|n| row(first + n)).collect::<Vec<_>>().join(", ")
    };
    let text = |n: i64| format!("'{mark}-SECRET-{n}'");
    vec![
        (
            "app.customers",
            lines(5, &|n| {
                let credit =
                    if n % 2 == 0 { "NULL".to_owned() } else { (n * 1000 + 7).to_string() };
                format!(
                    "('{tenant}', {n}, 'c{n}@{mark}.example', '{mark}-name-{n}', {}, {credit}, ['{mark}-tag', 'both'])",
                    text(n)
                )
            }),
        ),
        (
            "app.orders",
            lines(6, &|n| format!("('{tenant}', {n}, {}, {n}.25, {})", first + n % 3, text(n))),
        ),
        ("app.order_items", lines(6, &|n| format!("({n}, 'SKU-{}', {})", n % 2, text(n)))),
        ("app.documents", lines(2, &|n| format!("('{tenant}', {n}, {}, [{n}.5, 2])", text(n)))),
        (
            "app.events",
            lines(3, &|n| {
                format!(
                    "('{tenant}', {n}, TIMESTAMP '2026-01-0{} 00:00:00+00', {})",
                    1 + n % 3,
                    text(n)
                )
            }),
        ),
        ("app.events_20250101", lines(2, &|n| format!("('{tenant}', {n}, {})", text(n)))),
        ("app.events_20260101", lines(2, &|n| format!("('{tenant}', {n}, {})", text(n)))),
        ("app.unknown", lines(1, &|n| format!("('{tenant}', {})", text(n)))),
        ("archive.customers", lines(2, &|n| format!("('{tenant}', {n}, {})", text(n)))),
    ]
}
