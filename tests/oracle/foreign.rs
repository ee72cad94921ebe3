//! Statements of sqlsmith, a generator of others that knows the schema and nothing of tenants.
//!
//! It reads the catalogs of A's own database through a schema that shows it the functions of the
//! reviewed list only; of the rest it would make statements that are denied, one and all. It runs
//! beside the oracle, and its `n`th statement depends on the seed alone.

use std::io::{BufRead, BufReader};
use std::process::{Child, Command, Stdio};
use std::sync::{Arc, Mutex, PoisonError};
use std::time::{Duration, Instant};

use hedgerow::sql::postgres::functions::{FAMILIES, Family, Reach};

use crate::support::postgres::{APP_USER, server};

/// The most statements of one run.
const MOST: usize = 20_000;
/// How long a statement is waited for.
const PATIENCE: Duration = Duration::from_secs(5);

/// The running generator.
pub struct Foreign {
    child: Option<Child>,
    made: Arc<Mutex<Vec<String>>>,
}

impl Foreign {
    /// Starts it; it makes nothing where sqlsmith is not installed.
    pub fn start(database: &str, seed: u64) -> Self {
        let made = Arc::new(Mutex::new(Vec::new()));
        let names = safe_functions().join("', '");
        server().run(
            database,
            &format!(
                "CREATE SCHEMA IF NOT EXISTS for_sqlsmith; GRANT USAGE ON SCHEMA for_sqlsmith TO {APP_USER}; \
                 CREATE OR REPLACE VIEW for_sqlsmith.pg_proc AS SELECT * FROM pg_catalog.pg_proc \
                 WHERE proname IN ('{names}') AND pronamespace = 'pg_catalog'::regnamespace \
                 AND provolatile <> 'v'; \
                 GRANT SELECT ON for_sqlsmith.pg_proc TO {APP_USER}"
            ),
        );
        let target = format!(
            "host={} port={} user={APP_USER} dbname={database} \
             options='-c search_path=for_sqlsmith,public,pg_catalog'",
            server().socket_directory().display(),
            server().port
        );
        let child = Command::new("sqlsmith")
            .arg(format!("--target={target}"))
            .arg(format!("--seed={}", seed % 1_000_000))
            .arg(format!("--max-queries={MOST}"))
            .args(["--dry-run", "--exclude-catalog"])
            .stdin(Stdio::null())
            .stdout(Stdio::piped())
            .stderr(Stdio::null())
            .spawn();
        let Ok(mut child) = child else { return Self { child: None, made } };
        if let Some(output) = child.stdout.take() {
            let made = Arc::clone(&made);
            std::thread::spawn(move || {
                for part in BufReader::new(output).split(b';').map_while(Result::ok) {
                    let text = String::from_utf8_lossy(&part);
                    let text: Vec<&str> = text.split_whitespace().collect();
                    let text = text.join(" ");
                    // Its first words are not SQL; SETs of its own and our schema are no use.
                    if !text.is_empty() && !text.contains("for_sqlsmith") {
                        made.lock().unwrap_or_else(PoisonError::into_inner).push(text);
                    }
                }
            });
        }
        Self { child: Some(child), made }
    }

    /// Its `number`th statement, if it comes in time.
    pub fn statement(&self, number: u64) -> Option<String> {
        self.child.as_ref()?;
        let number = usize::try_from(number).ok()?;
        let end = Instant::now() + PATIENCE;
        while Instant::now() < end {
            let found = self.made.lock().unwrap_or_else(PoisonError::into_inner);
            if let Some(text) = found.get(number) {
                return Some(text.clone());
            }
            drop(found);
            std::thread::sleep(Duration::from_millis(5));
        }
        None
    }
}

impl Drop for Foreign {
    fn drop(&mut self) {
        if let Some(child) = &mut self.child {
            child.kill().ok();
            child.wait().ok();
        }
    }
}

/// The names of the families that only compute.
fn safe_functions() -> Vec<&'static str> {
    let families = FAMILIES.iter().filter(|family| family.reach == Reach::Pure);
    families.flat_map(Family::names).filter(|name| !name.contains('*')).collect()
}
