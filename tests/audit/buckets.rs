//! Object storage: parts that make up the segments. On an S3 server (moto, from PyPI), on Azurite (npm,
//! Microsoft's own stand-in for Azure's blobs), and on a stand-in of ours for Google's ([`crate::google`]).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::sync::Arc;
use std::time::Duration;

use base64::Engine as _;
use hedgerow::audit::Cursor;
use hedgerow::endpoint::Secret;
use hedgerow::sinks::Kind;
use hedgerow::sinks::object_store::{Parts, Service, Settings};
use object_store::aws::AmazonS3Builder;
use object_store::azure::MicrosoftAzureBuilder;
use object_store::{ObjectStore, ObjectStoreExt as _};

use crate::google::Google;
use crate::support::process::{self, Guardian};
use crate::trail::{Trail, eventually, run, segments, sink};

const FINISH: Duration = Duration::from_secs(20);
/// The account that Azurite has, and its key: both are in Microsoft's documents.
const AZURITE: (&str, &str) = (
    "devstoreaccount1",
    "Eby8vdM02xNOcqFlqUwJPLlmEtlCDXJ1OUzFT50uSRZ6IFsuFq2UVErCz4I6tq/K1SZFPTOtr/KBHBeksoGMGw==",
);

/// A server of this test.
struct Process {
    child: std::process::Child,
    guardian: Guardian,
}

impl Process {
    fn start(program: &Path, arguments: &[&str]) -> Self {
        let child = Command::new(program)
            .args(arguments)
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("the server can be started");
        let guardian =
            Guardian::after_exit("kill -KILL \"$1\" 2>/dev/null", &[&child.id().to_string()]);
        Self { child, guardian }
    }
}

impl Drop for Process {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        self.guardian.dismiss();
    }
}

/// A bucket on a server of this test.
struct Bucket {
    endpoint: String,
    service: Service,
    name: &'static str,
    /// Another way into it than the sink's.
    store: Stored,
    _server: Option<Process>,
}

enum Stored {
    Client(Arc<dyn ObjectStore>),
    Google(Google),
}

/// A program of `HEDGEROW_<name>`, or of the environment that `make <name>` makes.
fn program(name: &str, ours: &str) -> Option<PathBuf> {
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join(ours);
    let named = std::env::var_os(format!("HEDGEROW_{}", name.to_uppercase())).map(PathBuf::from);
    let found = [named, Some(ours)].into_iter().flatten().find(|path| path.exists());
    if found.is_none() {
        eprintln!(
            "SKIPPED: object storage is not tested without {name}: `make {name}` installs it"
        );
    }
    found
}

/// Waits for a server to answer a request with success.
async fn answers(name: &str, request: impl Fn() -> reqwest::RequestBuilder) {
    let mut said = String::new();
    for _ in 0..6_000 {
        match request().send().await {
            Ok(answer) if answer.status().is_success() => return,
            Ok(answer) => said = answer.text().await.unwrap_or_default(),
            Err(error) => said = error.to_string(),
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("{name} does not answer: {said}");
}

impl Bucket {
    async fn s3() -> Option<Self> {
        let program = program("moto", ".venv-moto/bin/moto_server")?;
        let _ = rustls::crypto::ring::default_provider().install_default();
        let address = process::free_address();
        let port = address.port().to_string();
        let server = Process::start(&program, &["-H", "127.0.0.1", "-p", &port]);
        let endpoint = format!("http://{address}");
        let client = reqwest::Client::new();
        answers("moto", || client.put(format!("{endpoint}/trail"))).await;
        let store = AmazonS3Builder::new()
            .with_endpoint(&endpoint)
            .with_allow_http(true)
            .with_region("us-east-1")
            .with_bucket_name("trail")
            .with_access_key_id("test")
            .with_secret_access_key("test")
            .build()
            .unwrap();
        Some(Self {
            endpoint,
            service: Service::S3 {
                region: Some("us-east-1".to_owned()),
                key: Some(("test".to_owned(), Secret::new("test"))),
            },
            name: "trail",
            store: Stored::Client(Arc::new(store)),
            _server: Some(server),
        })
    }

    async fn azure() -> Option<Self> {
        let program = program("azurite", "tests/audit/azurite/node_modules/azurite")?;
        let _ = rustls::crypto::ring::default_provider().install_default();
        let address = process::free_address();
        let port = address.port().to_string();
        let main = program.join("dist/src/blob/main.js");
        let arguments = [
            main.to_str().unwrap(),
            "--blobHost=127.0.0.1",
            "--blobPort",
            &port,
            "--inMemoryPersistence",
            "--silent",
            "--disableTelemetry",
            // The client may speak a newer version than Azurite knows.
            "--skipApiVersionCheck",
        ];
        let server = Process::start(Path::new("node"), &arguments);
        let (account, key) = AZURITE;
        let endpoint = format!("http://{address}/{account}");
        let client = reqwest::Client::new();
        answers("azurite", || new_container(&client, &endpoint, "trail")).await;
        let store = MicrosoftAzureBuilder::new()
            .with_endpoint(endpoint.clone())
            .with_allow_http(true)
            .with_account(account)
            .with_access_key(key)
            .with_container_name("trail")
            .build()
            .unwrap();
        Some(Self {
            endpoint,
            service: Service::Azure { account: account.to_owned(), key: Some(Secret::new(key)) },
            name: "trail",
            store: Stored::Client(Arc::new(store)),
            _server: Some(server),
        })
    }

    async fn google() -> Self {
        let _ = rustls::crypto::ring::default_provider().install_default();
        let google = Google::start("trail").await;
        Self {
            endpoint: google.endpoint.clone(),
            service: Service::Gcs { service_account_file: Some(google.service_account()) },
            name: "trail",
            store: Stored::Google(google),
            _server: None,
        }
    }

    fn kind(&self, parts: Parts) -> Kind {
        Kind::ObjectStore(Settings {
            service: self.service.clone(),
            bucket: self.name.to_owned(),
            prefix: "of/us".to_owned(),
            endpoint: Some(self.endpoint.clone()),
            allow_http: true,
            parts,
        })
    }

    async fn put(&self, name: &str, text: &'static str) {
        match &self.store {
            Stored::Client(store) => {
                store.put(&object_store::path::Path::from(name), text.into()).await.unwrap();
            }
            Stored::Google(google) => google.put(name, text),
        }
    }

    /// Every object of a chain, by name.
    async fn objects(&self, trail: &Trail) -> BTreeMap<String, Vec<u8>> {
        let own = format!("/{}/", chain(trail));
        let mut found = match &self.store {
            Stored::Client(store) => all_of(&**store).await,
            Stored::Google(google) => google.objects(),
        };
        found.retain(|name, _| name.contains(&own));
        found
    }
}

async fn all_of(store: &dyn ObjectStore) -> BTreeMap<String, Vec<u8>> {
    let mut folders = store.list_with_delimiter(None).await.unwrap().common_prefixes;
    let mut found = BTreeMap::new();
    while let Some(folder) = folders.pop() {
        let listed = store.list_with_delimiter(Some(&folder)).await.unwrap();
        folders.extend(listed.common_prefixes);
        for object in listed.objects {
            let bytes = store.get(&object.location).await.unwrap().bytes().await.unwrap();
            found.insert(object.location.to_string(), bytes.to_vec());
        }
    }
    found
}

/// "Create Container", signed with the account's shared key.
fn new_container(client: &reqwest::Client, endpoint: &str, name: &str) -> reqwest::RequestBuilder {
    let (account, key) = AZURITE;
    let base64 = base64::engine::general_purpose::STANDARD;
    let (version, now) = ("2021-08-06", jiff::Timestamp::now());
    let date = now.strftime("%a, %d %b %Y %H:%M:%S GMT").to_string();
    let text = format!(
        "PUT\n\n\n\n\n\n\n\n\n\n\n\nx-ms-date:{date}\nx-ms-version:{version}\n\
         /{account}/{account}/{name}\nrestype:container"
    );
    let key = ring::hmac::Key::new(ring::hmac::HMAC_SHA256, &base64.decode(key).unwrap());
    let signature = base64.encode(ring::hmac::sign(&key, text.as_bytes()));
    client
        .put(format!("{endpoint}/{name}?restype=container"))
        .header("x-ms-date", date)
        .header("x-ms-version", version)
        .header("content-length", "0")
        .header("authorization", format!("SharedKey {account}:{signature}"))
}

/// The chain's id, as the name of its first segment has it.
fn chain(trail: &Trail) -> String {
    let first = segments(&trail.directory()).remove(0);
    let name = first.file_name().unwrap().to_str().unwrap().to_owned();
    name.strip_prefix("audit-").unwrap().split_at(36).0.to_owned()
}

/// The segments' bytes, in order.
fn files(trail: &Trail) -> Vec<Vec<u8>> {
    segments(&trail.directory()).iter().map(|path| std::fs::read(path).unwrap()).collect()
}

/// The parts of each segment, one behind the other.
fn joined(objects: &BTreeMap<String, Vec<u8>>) -> Vec<Vec<u8>> {
    let mut joined: BTreeMap<&str, Vec<u8>> = BTreeMap::new();
    for (name, bytes) in objects {
        let (segment, _) = name.rsplit_once('-').unwrap();
        joined.entry(segment).or_default().extend_from_slice(bytes);
    }
    joined.into_values().collect()
}

/// The parts in the bucket are the segments byte for byte.
async fn parts_make_up_the_segments(bucket: &Bucket) {
    let trail = Trail::new();
    let parts = Parts { size: 60_000, max_delay: Duration::from_secs(3_600) };
    let sinks = trail.start(vec![sink("archive", bucket.kind(parts))]);
    trail.write(700).await;
    trail.audit.close().await;
    sinks.finish(FINISH).await;
    let objects = bucket.objects(&trail).await;
    assert!(objects.len() > segments(&trail.directory()).len(), "{:?}", objects.keys());
    assert!(objects.keys().all(|name| name.starts_with("of/us/")), "{:?}", objects.keys());
    assert!(files(&trail).len() > 3);
    assert_eq!(joined(&objects), files(&trail));
}

/// A part that was begun before a crash is repeated as it was.
async fn a_begun_part_is_repeated(bucket: &Bucket) {
    let trail = Trail::new();
    let large = Parts { size: 10_000_000, max_delay: Duration::from_secs(3_600) };
    let sinks = trail.start(vec![sink("archive", bucket.kind(large))]);
    trail.write(20).await;
    // Told to end, it writes what it knows to be there: one part, once it knows of all.
    tokio::time::sleep(Duration::from_secs(2)).await;
    sinks.finish(FINISH).await;
    let before = bucket.objects(&trail).await;
    assert_eq!(before.len(), 1);
    let cursor = Cursor::read(&trail.directory(), "archive").unwrap();
    // As a crash leaves it when the part is there and the cursor does not say so yet. Meanwhile
    // more was written, which must not become a part of that part.
    let crashed = Cursor { delivered: None, begun: cursor.delivered };
    assert!(crashed.begun.is_some());
    crashed.write(&trail.directory(), "archive").unwrap();
    trail.write(20).await;
    let sinks = trail.start(vec![sink("archive", bucket.kind(large))]);
    trail.audit.close().await;
    sinks.finish(FINISH).await;
    let after = bucket.objects(&trail).await;
    assert_eq!(after.len(), 2, "{:?}", after.keys());
    for (name, bytes) in &before {
        assert_eq!(after.get(name), Some(bytes), "{name} was changed");
    }
    assert_eq!(joined(&after), files(&trail));
}

/// An object that holds something else is left as it is and stops the sink.
async fn nothing_is_overwritten(bucket: &Bucket) {
    let trail = Trail::new();
    let parts = Parts { size: 10_000, max_delay: Duration::from_secs(3_600) };
    let name = format!("of/us/{}/0000000001-000000000001.jsonl", chain(&trail));
    bucket.put(&name, "something else").await;
    let sinks = trail.start(vec![sink("archive", bucket.kind(parts))]);
    trail.write(100).await;
    eventually("the part was begun", || {
        Cursor::read(&trail.directory(), "archive").unwrap().begun.is_some()
    })
    .await;
    tokio::time::sleep(Duration::from_secs(1)).await;
    trail.audit.close().await;
    sinks.finish(Duration::from_secs(2)).await;
    let objects = bucket.objects(&trail).await;
    assert_eq!(objects.len(), 1);
    assert_eq!(objects[&name], b"something else");
    assert!(Cursor::read(&trail.directory(), "archive").unwrap().delivered.is_none());
}

async fn holds(bucket: &Bucket) {
    tokio::join!(
        parts_make_up_the_segments(bucket),
        a_begun_part_is_repeated(bucket),
        nothing_is_overwritten(bucket)
    );
}

#[test]
fn a_bucket_of_s3_gets_the_segments_in_parts_and_nothing_is_overwritten() {
    run(async {
        let Some(bucket) = Bucket::s3().await else { return };
        holds(&bucket).await;
    });
}

#[test]
fn a_container_of_azure_gets_the_segments_in_parts_and_nothing_is_overwritten() {
    run(async {
        let Some(bucket) = Bucket::azure().await else { return };
        holds(&bucket).await;
    });
}

#[test]
fn a_bucket_of_google_gets_the_segments_in_parts_and_nothing_is_overwritten() {
    run(async {
        let bucket = Bucket::google().await;
        holds(&bucket).await;
    });
}

#[test]
fn a_bucket_that_fails_now_and_then_gets_everything_all_the_same() {
    run(async {
        let bucket = Bucket::google().await;
        let Stored::Google(google) = &bucket.store else { unreachable!() };
        google.fail(true);
        let trail = Trail::new();
        let parts = Parts { size: 60_000, max_delay: Duration::from_secs(3_600) };
        let sinks = trail.start(vec![sink("archive", bucket.kind(parts))]);
        trail.write(700).await;
        eventually("some came through", || google.objects().len() > 5).await;
        assert!(google.refused() > 2);
        google.fail(false);
        trail.audit.close().await;
        sinks.finish(FINISH).await;
        assert_eq!(joined(&bucket.objects(&trail).await), files(&trail));
    });
}
