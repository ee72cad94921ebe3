//! The official clients through Hedgerow at the stand-in, unmodified but for endpoint and token: as two
//! tenants, with the same code and different rows.

use std::path::Path;
use std::process::Command;
use std::time::Duration;

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
