//! A throw-away PostgreSQL: one server a test binary, one database a test.
//!
//! The server process never runs as root. It listens on a free loopback port (SCRAM, what
//! `hedgerow` dials) and on a Unix socket in its own directory (trust, what the tests use).

use std::path::{Path, PathBuf};
use std::process::Command;
use std::sync::atomic::{AtomicU32, Ordering};
use std::sync::{Mutex, OnceLock};
use std::time::Duration;

use super::process::{self, Guardian};
use super::wire::{Outcome, WireClient};

/// The role that `hedgerow` uses upstream.
pub const APP_USER: &str = "app_user";
/// Its password.
pub const APP_PASSWORD: &str = "upstream-password-of-the-tests";
/// The superuser of the throw-away server.
pub const SUPERUSER: &str = "postgres";

const START_LIMIT: Duration = Duration::from_secs(60);
const SETTINGS: &str = "fsync = off
synchronous_commit = off
full_page_writes = off
autovacuum = off
jit = off
max_connections = 400
max_prepared_transactions = 20
shared_buffers = 64MB
max_wal_size = 2GB
checkpoint_timeout = 1h
listen_addresses = '127.0.0.1'
password_encryption = 'scram-sha-256'
log_min_messages = fatal
timezone = 'UTC'
";

/// The running server.
pub struct Server {
    /// Its port on loopback, and the suffix of its Unix socket.
    pub port: u16,
    socket_directory: PathBuf,
    templates: Mutex<Vec<String>>,
    databases: AtomicU32,
    /// The upstream role's password as the server keeps it.
    verifier: String,
    _guardian: Guardian,
}

/// The one server of this test binary, started at first use.
pub fn server() -> &'static Server {
    static SERVER: OnceLock<Server> = OnceLock::new();
    SERVER.get_or_init(Server::start)
}

/// The directory of the server programs: that of HEDGEROW_POSTGRES, or the newest that is installed.
pub fn programs() -> PathBuf {
    std::env::var_os("HEDGEROW_POSTGRES").map_or_else(installed, PathBuf::from)
}

/// A client program of PostgreSQL's: of the version under test, or of the newest that is installed (builds
/// of a server alone have none).
pub fn client_program(name: &str) -> PathBuf {
    [programs(), installed()]
        .iter()
        .map(|directory| directory.join(name))
        .find(|program| program.is_file())
        .unwrap_or_else(|| panic!("{name} is installed"))
}

fn installed() -> PathBuf {
    let version = |path: &Path| {
        path.parent()
            .and_then(Path::file_name)
            .and_then(|name| name.to_str()?.parse::<f64>().ok())
            .unwrap_or(0.0)
    };
    let mut found: Vec<PathBuf> = std::fs::read_dir("/usr/lib/postgresql")
        .into_iter()
        .flatten()
        .flatten()
        .map(|entry| entry.path().join("bin"))
        .filter(|bin| bin.join("initdb").is_file())
        .collect();
    found.sort_by(|a, b| version(a).total_cmp(&version(b)));
    found
        .pop()
        .or_else(|| {
            std::env::split_paths(&std::env::var_os("PATH")?)
                .find(|dir| dir.join("initdb").is_file())
        })
        .expect("PostgreSQL's server programs are installed (Debian: apt install postgresql)")
}

impl Server {
    fn start() -> Self {
        let programs = programs();
        let base = tempfile::Builder::new()
            .prefix("hedgerow-pg-")
            .tempdir()
            .expect("a temporary directory")
            .keep();
        let data = base.join("data");
        let account = unprivileged_account();
        prepare_directory(&base, account);
        let as_account = |program: &str| {
            let program = programs.join(program);
            match account {
                None => Command::new(program),
                Some(user) => {
                    let mut command = Command::new("runuser");
                    command.args(["-u", user, "--"]).arg(program);
                    command
                }
            }
        };
        process::succeed(
            as_account("initdb")
                .current_dir(&base)
                .args(["-U", SUPERUSER, "-A", "trust", "-E", "UTF8", "--locale=C", "-N", "-D"])
                .arg(&data),
            START_LIMIT,
        );
        std::fs::write(
            data.join("pg_hba.conf"),
            "local all all trust\nlocal replication all trust\n\
             host all all 127.0.0.1/32 scram-sha-256\n",
        )
        .expect("pg_hba.conf can be written");
        let configuration = data.join("postgresql.conf");
        let defaults = std::fs::read_to_string(&configuration).expect("initdb wrote it");
        for _attempt in 0..5 {
            let port = process::free_address().port();
            let socket = base.display();
            std::fs::write(
                &configuration,
                format!(
                    "{defaults}\n{SETTINGS}port = {port}\nunix_socket_directories = '{socket}'\n"
                ),
            )
            .expect("postgresql.conf can be written");
            let started = process::run(
                as_account("pg_ctl")
                    .current_dir(&base)
                    .args(["start", "-w", "-t", "60", "-s", "-D"])
                    .arg(&data)
                    .arg("-l")
                    .arg(base.join("log")),
                START_LIMIT,
            );
            if !started.status.success() {
                continue;
            }
            let stop = format!("{:?}", as_account("pg_ctl")).replace('"', "'");
            let guardian = Guardian::after_exit(
                &format!("{stop} stop -m immediate -s -D \"$1/data\"; rm -rf \"$1\""),
                &[base.to_str().expect("UTF-8")],
            );
            let mut server = Self {
                port,
                socket_directory: base,
                templates: Mutex::default(),
                databases: AtomicU32::new(0),
                verifier: String::new(),
                _guardian: guardian,
            };
            server.run(
                SUPERUSER,
                &format!("CREATE ROLE {APP_USER} LOGIN PASSWORD '{APP_PASSWORD}'; CREATE ROLE app_owner LOGIN"),
            );
            let verifier =
                format!("SELECT rolpassword FROM pg_authid WHERE rolname = '{APP_USER}'");
            server.verifier = server.run(SUPERUSER, &verifier).value();
            return server;
        }
        let log = std::fs::read_to_string(base.join("log")).unwrap_or_default();
        panic!("PostgreSQL did not start:\n{log}");
    }

    /// The directory of its Unix socket.
    pub fn socket_directory(&self) -> &Path {
        &self.socket_directory
    }

    /// Its Unix socket.
    pub fn socket(&self) -> PathBuf {
        self.socket_directory.join(format!(".s.PGSQL.{}", self.port))
    }

    /// A connection straight to the server, past Hedgerow, over the Unix socket.
    pub fn connect(&self, user: &str, database: &str) -> WireClient {
        let mut client = WireClient::connect_unix(&self.socket());
        let started = client.start(&[("user", user), ("database", database)], None);
        assert!(started.ready(), "{user} cannot connect to {database}: {started:?}");
        client
    }

    /// Runs SQL as superuser; panics on any error.
    pub fn run(&self, database: &str, sql: &str) -> Outcome {
        let mut client = self.connect(SUPERUSER, database);
        client.limit = Duration::from_secs(60);
        let outcome = client.query(sql);
        assert!(
            outcome.errors().is_empty() && outcome.ready(),
            "in {database}: {:?}\n{}",
            outcome.errors(),
            sql.chars().take(400).collect::<String>()
        );
        outcome
    }

    /// Makes a template database once: `fill` runs in it the first time that `name` is asked for.
    pub fn template(&self, name: &str, from: &str, fill: impl FnOnce(&Self)) {
        let mut templates = self.templates.lock().unwrap_or_else(|poison| poison.into_inner());
        if !templates.iter().any(|known| known == name) {
            self.run(SUPERUSER, &format!("CREATE DATABASE {name} TEMPLATE {from}"));
            fill(self);
            templates.push(name.to_owned());
        }
    }

    /// A fresh database made from a template; the name is unique in this server.
    pub fn clone_of(&self, template: &str) -> String {
        let number = self.databases.fetch_add(1, Ordering::Relaxed);
        let name = format!("t{number}_{template}");
        self.run(SUPERUSER, &format!("CREATE DATABASE {name} TEMPLATE {template}"));
        name
    }

    /// Takes back what a statement did to the upstream role: roles belong to the whole server, so
    /// that one test's damage would be every test's.
    pub fn restore_role(&self) {
        let verifier = &self.verifier;
        let find = format!(
            "SELECT rolpassword IS DISTINCT FROM '{verifier}' OR EXISTS (SELECT FROM pg_db_role_setting \
             WHERE setrole = pg_authid.oid AND setdatabase = 0) FROM pg_authid WHERE rolname = '{APP_USER}'"
        );
        // An attack of another room may alter the role in the same moment, which the server says with
        // "tuple concurrently updated": then once more.
        for _ in 0..100 {
            if self.run(SUPERUSER, &find).value() != "t" {
                return;
            }
            let mut client = self.connect(SUPERUSER, SUPERUSER);
            let outcome = client.query(&format!(
                "ALTER ROLE {APP_USER} PASSWORD '{verifier}'; ALTER ROLE {APP_USER} RESET ALL"
            ));
            if outcome.errors().is_empty() {
                return;
            }
            std::thread::sleep(Duration::from_millis(50));
        }
        panic!("the upstream role cannot be put right");
    }

    /// Drops a database with whoever is connected to it.
    pub fn drop_database(&self, name: &str) {
        self.run(SUPERUSER, &format!("DROP DATABASE {name} WITH (FORCE)"));
    }
}

/// The account that runs the server when the tests run as root.
fn unprivileged_account() -> Option<&'static str> {
    let output = |arguments: &[&str]| {
        Command::new("id").args(arguments).output().ok().filter(|output| output.status.success())
    };
    let id = output(&["-u"]).expect("id can be run");
    if id.stdout.trim_ascii() != b"0" {
        return None;
    }
    let account = ["postgres", "nobody"].into_iter().find(|user| output(&["-u", user]).is_some());
    assert!(account.is_some(), "as root, the server needs an account to run as");
    account
}

fn prepare_directory(base: &Path, account: Option<&str>) {
    if let Some(user) = account {
        process::succeed(Command::new("chown").arg(user).arg(base), Duration::from_secs(30));
    }
    // The tests' own user reaches the socket whoever owns the directory; the data directory is 0700.
    process::succeed(Command::new("chmod").arg("755").arg(base), Duration::from_secs(30));
}
