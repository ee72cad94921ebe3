//! A trail of this process, and what is in its files.

use std::path::{Path, PathBuf};
use std::time::Duration;

use hedgerow::audit::{Audit, Decision, Engine, Event, Kind, Settings};
use hedgerow::sinks::{self, Sinks};
use serde_json::Value;

/// A trail in a directory that goes with it.
pub struct Trail {
    pub audit: Audit,
    root: tempfile::TempDir,
}

/// Where a trail lies below its root.
pub fn directory(root: &Path) -> PathBuf {
    root.join("audit")
}

impl Trail {
    /// Opens a trail with small segments.
    pub fn new() -> Self {
        Self::with(|_| {})
    }

    /// Opens one with other settings.
    pub fn with(change: impl FnOnce(&mut Settings)) -> Self {
        // What a program does first; further calls change nothing.
        let _ = rustls::crypto::ring::default_provider().install_default();
        let root = tempfile::Builder::new().prefix("hedgerow-audit-").tempdir().unwrap();
        let mut settings = Settings::new(directory(root.path()));
        settings.max_size = 200_000;
        change(&mut settings);
        Self { audit: Audit::open(settings).unwrap(), root }
    }

    /// Its directory.
    pub fn directory(&self) -> PathBuf {
        directory(self.root.path())
    }

    /// Writes records and waits for the last one to be on disk.
    pub async fn write(&self, count: usize) {
        for number in 0..count {
            let mut event = Event::now(Kind::Statement, Decision::Rewrite, Engine::Postgres);
            event.tenant = Some("acme".into());
            event.statement = Some(format!("SELECT {number} FROM \"orders\" -- é").into());
            event.result_code = Some("00000".into());
            self.audit.room().await;
            let permit = self.audit.permit().unwrap();
            if number + 1 == count {
                permit.record_durable(event).await.unwrap();
            } else {
                permit.record(event);
            }
        }
    }

    /// Starts sinks on it.
    pub fn start(&self, settings: Vec<sinks::Settings>) -> Sinks {
        Sinks::start(settings, &self.directory(), &self.audit).unwrap()
    }

    /// Every record's line, in order.
    pub fn lines(&self) -> Vec<String> {
        segments(&self.directory())
            .iter()
            .flat_map(|path| {
                let text = std::fs::read_to_string(path).unwrap();
                text.lines().map(str::to_owned).collect::<Vec<_>>()
            })
            .collect()
    }
}

/// A required sink.
pub fn sink(name: &str, kind: sinks::Kind) -> sinks::Settings {
    sinks::Settings { name: name.to_owned(), kind, required: true }
}

/// The segment files, in order.
pub fn segments(directory: &Path) -> Vec<PathBuf> {
    let mut found: Vec<PathBuf> = std::fs::read_dir(directory)
        .unwrap()
        .map(|entry| entry.unwrap().path())
        .filter(|path| path.extension().is_some_and(|end| end == "jsonl"))
        .collect();
    found.sort();
    found
}

/// A line's sequence number.
pub fn sequence(line: &str) -> u64 {
    let record: Value = serde_json::from_str(line).expect("a record is JSON");
    record["metadata"]["sequence"].as_u64().expect("a record has its number")
}

/// Waits for something that has to come.
pub async fn eventually(what: &str, mut condition: impl FnMut() -> bool) {
    for _ in 0..3_000 {
        if condition() {
            return;
        }
        tokio::time::sleep(Duration::from_millis(20)).await;
    }
    panic!("never happened: {what}");
}

/// A runtime with two threads.
pub fn run<T>(test: impl Future<Output = T>) -> T {
    tokio::runtime::Builder::new_multi_thread()
        .worker_threads(2)
        .enable_all()
        .build()
        .unwrap()
        .block_on(test)
}
