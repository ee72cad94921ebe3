//! Object storage: parts that make up the segments, on an S3 server (moto, from PyPI).

use std::collections::BTreeMap;
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};
use std::time::Duration;

use hedgerow::audit::Cursor;
use hedgerow::endpoint::Secret;
use hedgerow::sinks::Kind;
use hedgerow::sinks::object_store::{Parts, Service, Settings};
use object_store::aws::{AmazonS3, AmazonS3Builder};
use object_store::{ObjectStore as _, ObjectStoreExt as _};

use crate::support::process::{self, Guardian};
use crate::trail::{Trail, eventually, run, segments, sink};

const FINISH: Duration = Duration::from_secs(20);

/// An S3 server of this test.
struct Server {
    endpoint: String,
    child: std::process::Child,
    guardian: Guardian,
}

impl Drop for Server {
    fn drop(&mut self) {
        self.child.kill().ok();
        self.child.wait().ok();
        self.guardian.dismiss();
    }
}

/// `moto_server`: of `HEDGEROW_MOTO`, or of the environment that `make moto` makes.
fn program() -> Option<PathBuf> {
    let ours = Path::new(env!("CARGO_MANIFEST_DIR")).join(".venv-moto/bin/moto_server");
    let named = std::env::var_os("HEDGEROW_MOTO").map(PathBuf::from);
    [named, Some(ours)].into_iter().flatten().find(|path| path.is_file())
}

impl Server {
    async fn start() -> Option<Self> {
        let Some(program) = program() else {
            eprintln!(
                "SKIPPED: object storage is not tested without moto: `make moto` installs it"
            );
            return None;
        };
        let _ = rustls::crypto::ring::default_provider().install_default();
        let address = process::free_address();
        let child = Command::new(program)
            .args(["-H", "127.0.0.1", "-p", &address.port().to_string()])
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("moto can be started");
        let guardian =
            Guardian::after_exit("kill -KILL \"$1\" 2>/dev/null", &[&child.id().to_string()]);
        let endpoint = format!("http://{address}");
        let server = Self { endpoint, child, guardian };
        let client = reqwest::Client::new();
        for _ in 0..1_500 {
            let made = client.put(format!("{}/trail", server.endpoint)).send().await;
            if made.is_ok_and(|answer| answer.status().is_success()) {
                return Some(server);
            }
            tokio::time::sleep(Duration::from_millis(20)).await;
        }
        panic!("moto does not answer");
    }

    fn kind(&self, parts: Parts) -> Kind {
        Kind::ObjectStore(Settings {
            service: Service::S3 {
                region: Some("us-east-1".to_owned()),
                key: Some(("test".to_owned(), Secret::new("test"))),
            },
            bucket: "trail".to_owned(),
            prefix: "of/us".to_owned(),
            endpoint: Some(self.endpoint.clone()),
            allow_http: true,
            parts,
        })
    }

    fn store(&self) -> AmazonS3 {
        AmazonS3Builder::new()
            .with_endpoint(&self.endpoint)
            .with_allow_http(true)
            .with_region("us-east-1")
            .with_bucket_name("trail")
            .with_access_key_id("test")
            .with_secret_access_key("test")
            .build()
            .unwrap()
    }

    /// Every object, by name.
    async fn objects(&self) -> BTreeMap<String, Vec<u8>> {
        let store = self.store();
        let listed = store.list_with_delimiter(None).await.unwrap();
        let mut folders = listed.common_prefixes;
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

#[test]
fn the_parts_in_the_bucket_are_the_segments_byte_for_byte() {
    run(async {
        let Some(server) = Server::start().await else { return };
        let trail = Trail::new();
        let parts = Parts { size: 60_000, max_delay: Duration::from_secs(3_600) };
        let sinks = trail.start(vec![sink("archive", server.kind(parts))]);
        trail.write(700).await;
        trail.audit.close().await;
        sinks.finish(FINISH).await;
        let objects = server.objects().await;
        assert!(objects.len() > segments(&trail.directory()).len(), "{:?}", objects.keys());
        assert!(objects.keys().all(|name| name.starts_with("of/us/")), "{:?}", objects.keys());
        let files: Vec<Vec<u8>> =
            segments(&trail.directory()).iter().map(|path| std::fs::read(path).unwrap()).collect();
        assert!(files.len() > 3);
        assert_eq!(joined(&objects), files);
    });
}

#[test]
fn a_part_that_was_begun_before_a_crash_is_repeated_as_it_was() {
    run(async {
        let Some(server) = Server::start().await else { return };
        let trail = Trail::new();
        let large = Parts { size: 10_000_000, max_delay: Duration::from_secs(3_600) };
        let sinks = trail.start(vec![sink("archive", server.kind(large))]);
        trail.write(20).await;
        // Told to end, it writes what it knows to be there: one part, once it knows of all.
        tokio::time::sleep(Duration::from_secs(2)).await;
        sinks.finish(FINISH).await;
        let before = server.objects().await;
        assert_eq!(before.len(), 1);
        let cursor = Cursor::read(&trail.directory(), "archive").unwrap();
        // As a crash leaves it when the part is there and the cursor does not say so yet. Meanwhile
        // more was written, which must not become a part of that part.
        let crashed = Cursor { delivered: None, begun: cursor.delivered };
        assert!(crashed.begun.is_some());
        crashed.write(&trail.directory(), "archive").unwrap();
        trail.write(20).await;
        let sinks = trail.start(vec![sink("archive", server.kind(large))]);
        trail.audit.close().await;
        sinks.finish(FINISH).await;
        let after = server.objects().await;
        assert_eq!(after.len(), 2, "{:?}", after.keys());
        for (name, bytes) in &before {
            assert_eq!(after.get(name), Some(bytes), "{name} was changed");
        }
        let files: Vec<Vec<u8>> =
            segments(&trail.directory()).iter().map(|path| std::fs::read(path).unwrap()).collect();
        assert_eq!(joined(&after), files);
    });
}

#[test]
fn an_object_that_holds_something_else_is_left_as_it_is_and_stops_the_sink() {
    run(async {
        let Some(server) = Server::start().await else { return };
        let trail = Trail::new();
        let parts = Parts { size: 10_000, max_delay: Duration::from_secs(3_600) };
        let chain = segments(&trail.directory())[0]
            .file_name()
            .unwrap()
            .to_str()
            .unwrap()
            .strip_prefix("audit-")
            .unwrap()
            .split_at(36)
            .0
            .to_owned();
        let name = format!("of/us/{chain}/0000000001-000000000001.jsonl");
        let path = object_store::path::Path::from(name.clone());
        server.store().put(&path, "something else".into()).await.unwrap();
        let sinks = trail.start(vec![sink("archive", server.kind(parts))]);
        trail.write(100).await;
        eventually("the part was begun", || {
            Cursor::read(&trail.directory(), "archive").unwrap().begun.is_some()
        })
        .await;
        tokio::time::sleep(Duration::from_secs(1)).await;
        trail.audit.close().await;
        sinks.finish(Duration::from_secs(2)).await;
        let objects = server.objects().await;
        assert_eq!(objects.len(), 1);
        assert_eq!(objects[&name], b"something else");
        assert!(Cursor::read(&trail.directory(), "archive").unwrap().delivered.is_none());
    });
}
