//! The official clients through Hedgerow at the stand-in, unmodified but for endpoint and token: as two
//! tenants, with the same code and different rows.

use std::path::{Path, PathBuf};
use std::process::Command;
use std::time::Duration;

use serde_json::{Value, json};

use super::emulator::{Emulator, emulator, python};
use super::stand::Stand;
use super::{POLICY, process, token};

const LIMIT: Duration = Duration::from_secs(300);
/// The tests that write share one set of tables.
pub static TABLES: tokio::sync::Mutex<()> = tokio::sync::Mutex::const_new(());

async fn stand(emulator: &Emulator) -> Stand {
    emulator.fixture("acme-prod", &[]).await;
    let url = emulator.url.clone();
    Stand::with(POLICY, |settings| settings.upstream = url).await
}

/// Runs a program of tests/clients, and gives what it printed.
async fn program(stand: &Stand, mut command: Command, tenant: &str) -> String {
    command
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients"))
        .env("ENDPOINT", format!("http://{}", stand.address))
        .env("TOKEN", token::of(tenant))
        .env("TENANT", tenant)
        .env("NO_PROXY", "127.0.0.1")
        .env("PYTHONDONTWRITEBYTECODE", "1");
    let output =
        tokio::task::spawn_blocking(move || process::run(&mut command, LIMIT)).await.unwrap();
    let told = String::from_utf8_lossy(&output.stdout).into_owned();
    let errors = String::from_utf8_lossy(&output.stderr);
    assert!(output.status.success(), "{tenant}: {told}\n{errors}");
    told
}

async fn python_program(name: &str) {
    let (Some(emulator), Some(python)) = (emulator(), python()) else { return };
    let _tables = TABLES.lock().await;
    let stand = stand(emulator).await;
    let mut fixture = Command::new(&python);
    fixture.arg("bigquery_fixture.py");
    fixture
        .current_dir(Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients"))
        .env("ENDPOINT", &emulator.url)
        .env("TENANTS", "tenant-a,tenant-b");
    tokio::task::spawn_blocking(move || process::succeed(&mut fixture, LIMIT)).await.unwrap();
    for tenant in ["tenant-a", "tenant-b"] {
        let mut command = Command::new(&python);
        command.arg(name);
        println!("{tenant}: {}", program(&stand, command, tenant).await.replace('\n', ", "));
    }
    stand.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_official_python_client_works_as_two_tenants() {
    python_program("bigquery_client.py").await;
}

#[tokio::test(flavor = "multi_thread")]
async fn sqlalchemy_and_pandas_work_as_two_tenants() {
    python_program("bigquery_others.py").await;
}

/// dbt, where `make dbt-env` installed it.
fn dbt() -> Option<PathBuf> {
    let dbt = Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv-dbt/bin/dbt");
    if dbt.is_file() {
        return Some(dbt);
    }
    println!("SKIPPED: dbt is not installed; `make dbt-env` installs it");
    None
}

#[tokio::test(flavor = "multi_thread")]
async fn dbt_builds_a_project_twice_in_each_tenants_dataset() {
    let (Some(emulator), Some(dbt)) = (emulator(), dbt()) else { return };
    let _tables = TABLES.lock().await;
    let stand = stand(emulator).await;
    // The shared table, with rows of both: dbt must find each tenant's own in it.
    for (tenant, rows) in [("tenant-a", "(1, 5), (2, 500), (3, NULL)"), ("tenant-b", "(101, 900)")]
    {
        let rows = rows.replace('(', &format!("('{tenant}', "));
        let text =
            format!("INSERT INTO `acme-prod.app.customers` (tenant_id, id, credit) VALUES {rows}");
        emulator.query("acme-prod", &text).await;
    }
    for (tenant, dataset, expected) in [
        ("tenant-a", "own_tenant_a", json!([["high", "1"], ["low", "2"]])),
        ("tenant-b", "own_tenant_b", json!([["high", "1"]])),
    ] {
        // Twice: the second time it finds what it made, and replaces it.
        for _ in 0..2 {
            let files = tempfile::tempdir().unwrap();
            let mut command = Command::new(&dbt);
            command
                .args(["build", "--project-dir", "dbt", "--profiles-dir", "dbt", "--target-path"])
                .arg(files.path())
                .arg("--log-path")
                .arg(files.path())
                .env("DATASET", dataset)
                .env("DBT_SEND_ANONYMOUS_USAGE_STATS", "false");
            let told = program(&stand, command, tenant).await;
            assert!(told.contains("PASS=5 WARN=0 ERROR=0 SKIP=0"), "{tenant}: {told}");
        }
        let text = format!("SELECT grade, customers FROM {dataset}.credit ORDER BY grade");
        let answer = stand.query(tenant, json!({"query": text, "useLegacySql": false})).await;
        let rows = answer.body["rows"].as_array().unwrap().iter();
        let rows: Vec<[&Value; 2]> =
            rows.map(|row| [&row["f"][0]["v"], &row["f"][1]["v"]]).collect();
        assert_eq!(json!(rows), expected, "{tenant}: {answer:?}");
    }
    stand.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn the_official_node_client_works_as_two_tenants() {
    let (Some(emulator), Some(python)) = (emulator(), python()) else { return };
    let clients = Path::new(env!("CARGO_MANIFEST_DIR")).join("tests/clients");
    if !clients.join("node_modules/@google-cloud/bigquery").is_dir() {
        println!("SKIPPED: the Node.js client is not installed; `make node` installs it");
        return;
    }
    let _tables = TABLES.lock().await;
    let stand = stand(emulator).await;
    let mut fixture = Command::new(&python);
    fixture.arg("bigquery_fixture.py").current_dir(&clients);
    fixture.env("ENDPOINT", &emulator.url).env("TENANTS", "tenant-a,tenant-b");
    tokio::task::spawn_blocking(move || process::succeed(&mut fixture, LIMIT)).await.unwrap();
    for tenant in ["tenant-a", "tenant-b"] {
        let mut command = Command::new("node");
        command.arg("bigquery_node_client.mjs");
        println!("{tenant}: {}", program(&stand, command, tenant).await.replace('\n', ", "));
    }
    stand.finish().await;
}
