//! The binary under test: configured, started, watched, stopped.

use std::net::SocketAddr;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::sync::{Mutex, MutexGuard};
use std::time::{Duration, Instant};

use serde_json::Value;

use super::canary::{Canary, Relay};
use super::process::{self, Guardian};
use super::wire::{Outcome, WireClient};
use super::{TENANT_A, TENANT_B, http, postgres, token};

const BINARY: &str = env!("CARGO_BIN_EXE_hedgerow");
const READY_LIMIT: Duration = Duration::from_secs(30);
const STOP_LIMIT: Duration = Duration::from_secs(40);

/// How a `hedgerow` of a test is configured.
#[derive(Clone, Debug)]
pub struct Options {
    /// The policy file's text.
    pub policy: String,
    /// `balanced` or `strict`.
    pub audit_mode: &'static str,
    /// `session` or `transaction`.
    pub pool_mode: &'static str,
    /// The content of `limits: {…}`.
    pub limits: String,
    /// Further keys below `postgres:`, each line indented by two spaces.
    pub postgres_extra: String,
    /// Further keys below `identity:`, each line indented by two spaces.
    pub identity_extra: String,
    /// Most backends of a database.
    pub max_connections: usize,
    /// Further keys of `pool: {…}`, each behind a comma.
    pub pool_extra: &'static str,
    /// Where the audit files go.
    pub audit_directory: String,
    /// Further keys below `audit:`, each line indented by two spaces.
    pub audit_extra: String,
    /// `TYPE` of the tenant claim's path.
    pub tenant_claim: &'static str,
    /// Where the upstream is, when it is not PostgreSQL itself.
    pub upstream_port: Option<u16>,
    /// Further variables of its environment.
    pub environment: Vec<(&'static str, String)>,
}

impl Options {
    /// The given policy, everything else by default.
    pub fn new(policy: &str) -> Self {
        Self {
            policy: policy.to_owned(),
            audit_mode: "balanced",
            pool_mode: match std::env::var("HEDGEROW_POOL_MODE").as_deref() {
                Ok("transaction") => "transaction",
                Ok(_) | Err(_) => "session",
            },
            limits: "max_clients: 500, max_statement: 1MiB".to_owned(),
            postgres_extra: String::new(),
            identity_extra: String::new(),
            max_connections: 120,
            pool_extra: "",
            audit_directory: "audit".to_owned(),
            audit_extra: String::new(),
            tenant_claim: "tenant_id",
            upstream_port: None,
            environment: Vec::new(),
        }
    }
}

/// A running `hedgerow`, with a relay for the clients of each tenant.
pub struct Hedgerow {
    child: Mutex<Child>,
    pid: u32,
    directory: tempfile::TempDir,
    /// Where it listens.
    pub address: SocketAddr,
    /// Its health and metrics.
    pub admin: SocketAddr,
    relay_a: Relay,
    relay_b: Relay,
    guardian: Guardian,
}

impl Hedgerow {
    /// Writes the configuration, starts the process and waits until it is ready. A port that
    /// somebody else took in the meantime is a reason to try again.
    pub fn start(options: &Options) -> Self {
        let directory =
            tempfile::Builder::new().prefix("hedgerow-").tempdir().expect("a temporary directory");
        for _attempt in 0..4 {
            let (address, admin) = (process::free_address(), process::free_address());
            write_configuration(directory.path(), options, address, admin);
            let log = std::fs::File::create(directory.path().join("log")).expect("a log file");
            let output =
                std::fs::File::create(directory.path().join("stdout")).expect("an output file");
            let mut child = Command::new(BINARY)
                .args(["serve", "--config"])
                .arg(directory.path().join("hedgerow.yaml"))
                .current_dir(directory.path())
                .envs(options.environment.iter().map(|(name, value)| (name, value)))
                .stdin(Stdio::null())
                .stdout(output)
                .stderr(log)
                .spawn()
                .expect("hedgerow can be started");
            let end = Instant::now() + READY_LIMIT;
            let ready = loop {
                if http::get(admin, "/readyz").is_some_and(|(status, _)| status == 200) {
                    break true;
                }
                let ended = child.try_wait().expect("a child can be waited for").is_some();
                if ended || Instant::now() > end {
                    break false;
                }
                std::thread::sleep(Duration::from_millis(10));
            };
            if ready {
                let pid = child.id();
                return Self {
                    child: Mutex::new(child),
                    pid,
                    relay_a: Relay::start(address, Canary::of_b()),
                    relay_b: Relay::start(address, Canary::of_a()),
                    directory,
                    address,
                    admin,
                    guardian: Guardian::after_exit(
                        "kill -KILL \"$1\" 2>/dev/null",
                        &[&pid.to_string()],
                    ),
                };
            }
            child.kill().ok();
            child.wait().ok();
            let text = std::fs::read_to_string(directory.path().join("log")).unwrap_or_default();
            let taken = text.contains("in use") || text.contains("the same address");
            assert!(taken, "hedgerow did not become ready:\n{text}");
        }
        panic!("no free port was found");
    }

    /// Where clients of tenant A connect: through the canary scanner.
    pub const fn for_a(&self) -> SocketAddr {
        self.relay_a.address()
    }

    /// Where clients of tenant B connect: through the canary scanner.
    pub const fn for_b(&self) -> SocketAddr {
        self.relay_b.address()
    }

    /// A session of tenant A.
    pub fn a(&self, database: &str) -> WireClient {
        self.sign_in(self.for_a(), database, &token::of(TENANT_A))
    }

    /// A session of tenant B.
    pub fn b(&self, database: &str) -> WireClient {
        self.sign_in(self.for_b(), database, &token::of(TENANT_B))
    }

    /// A session with this token, which must be accepted.
    pub fn sign_in(&self, address: SocketAddr, database: &str, token: &str) -> WireClient {
        let (client, outcome) = self.try_sign_in(address, database, token);
        assert!(outcome.ready(), "sign-in failed: {outcome:?}\n{}", self.log());
        client
    }

    /// A sign-in with any token and what came back.
    pub fn try_sign_in(
        &self,
        address: SocketAddr,
        database: &str,
        token: &str,
    ) -> (WireClient, Outcome) {
        let mut client = WireClient::connect(address);
        let parameters =
            [("user", "application"), ("database", database), ("application_name", "wire-test")];
        let outcome = client.start(&parameters, Some(token));
        (client, outcome)
    }

    /// What it logged.
    pub fn log(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("log")).unwrap_or_default()
    }

    /// What it wrote to standard output.
    pub fn standard_output(&self) -> String {
        std::fs::read_to_string(self.directory.path().join("stdout")).unwrap_or_default()
    }

    /// Its working directory, with `hedgerow.yaml`, `policies/` and `audit/`.
    pub fn directory(&self) -> &Path {
        self.directory.path()
    }

    /// The audit files' directory.
    pub fn audit_directory(&self) -> PathBuf {
        self.directory.path().join("audit")
    }

    /// The process id.
    pub const fn pid(&self) -> u32 {
        self.pid
    }

    /// Every complete record in the audit files, in file order. A last line that is still being
    /// written is left out.
    pub fn records(&self) -> Vec<Value> {
        records_in(&self.audit_directory())
    }

    /// Waits for a record that holds every one of `words` (records of allowed statements come
    /// within milliseconds, not before the answer).
    pub fn record_with(&self, words: &[&str]) -> Value {
        process::eventually(&format!("a record with {words:?}"), Duration::from_secs(30), || {
            self.records().into_iter().find(|record| {
                let text = record.to_string();
                words.iter().all(|word| text.contains(word))
            })
        })
    }

    /// Ends it at once, without a chance to flush.
    pub fn kill(&self) {
        let mut child = self.child();
        child.kill().ok();
        child.wait().ok();
    }

    /// SIGTERM, and its end: whether it came in time with exit code 0.
    pub fn terminate(&self) {
        process::signal(self.pid, "TERM");
        let status = process::wait(&mut self.child(), STOP_LIMIT);
        let code = status.and_then(|status| status.code());
        assert_eq!(code, Some(0), "exit after SIGTERM: {status:?}\n{}", self.log());
    }

    /// Whether the process still runs.
    pub fn runs(&self) -> bool {
        self.child().try_wait().is_ok_and(|status| status.is_none())
    }

    /// `hedgerow audit verify` over the audit files.
    pub fn verify(&self, arguments: &[&str]) -> Output {
        let directory = self.audit_directory();
        let mut command = Command::new(BINARY);
        command.args(["audit", "verify"]).args(arguments).arg(directory);
        process::run(&mut command, Duration::from_secs(60))
    }

    /// The end of every test: stops if it still runs, verifies the audit files and looks at what
    /// the scanners saw.
    pub fn finish(&self) {
        if self.runs() {
            self.terminate();
        }
        let verified = self.verify(&[]);
        assert!(
            verified.status.success(),
            "audit verify: {}{}",
            String::from_utf8_lossy(&verified.stdout),
            String::from_utf8_lossy(&verified.stderr)
        );
        self.assert_no_canary();
        // The directory's name is random letters: once they spelled the beginning of a token.
        let log = self.log().replace(&self.directory().display().to_string(), "DIRECTORY");
        assert!(!log.contains("panicked"), "hedgerow panicked:\n{log}");
        assert!(!log.contains(token::HMAC_SECRET) && !log.contains("eyJ"), "a secret was logged");
    }

    /// No value of another tenant came back to any client.
    pub fn assert_no_canary(&self) {
        let (a, b) = (self.relay_a.findings(), self.relay_b.findings());
        assert!(a.is_empty(), "values of tenant B reached tenant A: {a:#?}");
        assert!(b.is_empty(), "values of tenant A reached tenant B: {b:#?}");
    }

    fn child(&self) -> MutexGuard<'_, Child> {
        self.child.lock().unwrap_or_else(|poison| poison.into_inner())
    }
}

impl Drop for Hedgerow {
    fn drop(&mut self) {
        if std::thread::panicking() {
            let log = self.log();
            let skip = log.lines().count().saturating_sub(30);
            eprintln!("hedgerow's log ends with:");
            log.lines().skip(skip).for_each(|line| eprintln!("  {line}"));
        }
        self.kill();
        self.guardian.dismiss();
    }
}

/// Runs the `hedgerow` binary with arguments to its end.
pub fn command(arguments: &[&str], directory: &Path) -> Output {
    let mut command = Command::new(BINARY);
    command.args(arguments).current_dir(directory);
    process::run(&mut command, Duration::from_secs(60))
}

/// Complete records in the audit files of a directory, by file name.
pub fn records_in(directory: &Path) -> Vec<Value> {
    let mut files: Vec<PathBuf> = std::fs::read_dir(directory)
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path())
        .filter(|path| path.extension().is_some_and(|extension| extension == "jsonl"))
        .collect();
    files.sort();
    files
        .iter()
        .filter_map(|file| std::fs::read_to_string(file).ok())
        .flat_map(|text| {
            text.split_inclusive('\n')
                .filter(|line| line.ends_with('\n'))
                .filter_map(|line| serde_json::from_str(line).ok())
                .collect::<Vec<Value>>()
        })
        .collect()
}

/// Writes a complete configuration for `hedgerow` into `directory`.
pub fn write_configuration(
    directory: &Path,
    options: &Options,
    listen: SocketAddr,
    admin: SocketAddr,
) {
    let write = |name: &str, text: &str| {
        let path = directory.join(name);
        std::fs::create_dir_all(path.parent().expect("below the directory")).expect("a directory");
        std::fs::write(&path, text).unwrap_or_else(|error| panic!("{}: {error}", path.display()));
    };
    write("secrets/upstream", &format!("{}\n", postgres::APP_PASSWORD));
    write("secrets/hmac", &format!("{}\n", token::HMAC_SECRET));
    write("keys/jwks.json", &token::key_set());
    write("policies/policy.yaml", &options.policy);
    let Options {
        audit_mode,
        pool_mode,
        limits,
        postgres_extra,
        identity_extra,
        max_connections,
        pool_extra,
        audit_directory,
        audit_extra,
        tenant_claim,
        upstream_port,
        environment: _,
        policy: _,
    } = options;
    let upstream = upstream_port.unwrap_or_else(|| postgres::server().port);
    let (hmac, eddsa, audience) = (token::HMAC_ISSUER, token::EDDSA_ISSUER, token::AUDIENCE);
    let user = postgres::APP_USER;
    write(
        "hedgerow.yaml",
        &format!(
            "identity:
  tenant_claim: {tenant_claim}
  leeway: 2s
  max_lifetime: 24h
  issuers:
    - issuer: {hmac}
      audiences: [{audience}]
      algorithms: [HS256]
      hmac_secret_file: secrets/hmac
    - issuer: {eddsa}
      audiences: [{audience}]
      algorithms: [EdDSA]
      jwks_file: keys/jwks.json
{identity_extra}postgres:
  listen: {listen}
  upstream:
    host: 127.0.0.1
    port: {upstream}
    user: {user}
    password_file: secrets/upstream
    tls: {{mode: disable}}
  pool: {{mode: {pool_mode}, max_connections: {max_connections}{pool_extra}}}
  session_variables:
    app.current_tenant: tenant_id
  limits: {{{limits}}}
{postgres_extra}policies: policies/
audit:
  directory: {audit_directory}
  mode: {audit_mode}
{audit_extra}admin:
  listen: {admin}
log: {{format: text, level: info}}
"
        ),
    );
}
