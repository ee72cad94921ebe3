//! A throw-away PostgreSQL: found, made, started, stopped. Layer 6.
//!
//! Refuses to run as root (as PostgreSQL itself does): root's server runs as `postgres` or
//! `nobody`. It listens on a Unix socket that only its account may enter, and on a free port of the
//! loopback interface, where a password is asked for.

use std::fs;
use std::net::{Ipv4Addr, TcpListener};
use std::os::unix::fs::{MetadataExt, PermissionsExt, chown};
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::{Context as _, bail};

use crate::endpoint::{Binding, Endpoint, Secret, TlsMode};

/// The cluster's superuser. It has no password: only the Unix socket lets it in.
const SUPERUSER: &str = "postgres";
/// How long the server may take to start or to stop.
const PATIENCE: Duration = Duration::from_secs(30);
/// Settings for rows that nobody will miss.
const SETTINGS: &[&str] = &[
    "fsync=off",
    "synchronous_commit=off",
    "full_page_writes=off",
    "shared_buffers=128MB",
    "max_wal_size=1GB",
    "max_connections=100",
    "logging_collector=off",
];

/// A running server; dropping it stops it. Its files belong to whoever made the directory.
pub(super) struct Server {
    child: Child,
    bin: PathBuf,
    account: Option<Account>,
    home: PathBuf,
    port: u16,
}

/// The operating system's account that the server runs as, when we are root.
#[derive(Clone, Copy)]
struct Account {
    uid: u32,
    gid: u32,
}

impl Server {
    /// Makes a cluster in `home` (an existing directory) and starts it.
    pub(super) fn start(home: &Path) -> anyhow::Result<Self> {
        let bin = binaries()?;
        let account = account()?;
        if let Some(Account { uid, gid }) = account {
            chown(home, Some(uid), Some(gid))?;
        }
        let data = home.join("data");
        let initdb = command(&bin.join("initdb"), account)
            .args(["--username", SUPERUSER, "--encoding", "UTF8", "--locale", "C", "--no-sync"])
            .args(["--auth-local", "trust", "--auth-host", "scram-sha-256", "--pgdata"])
            .arg(&data)
            .output()
            .context("initdb")?;
        succeeded("initdb", &initdb)?;

        let port = free_port()?;
        let log = fs::File::create(home.join("postgres.log"))?;
        let mut postgres = command(&bin.join("postgres"), account);
        postgres.arg("-D").arg(&data);
        for setting in SETTINGS {
            postgres.args(["-c", setting]);
        }
        let child = postgres
            .args(["-c", "listen_addresses=127.0.0.1", "-c", &format!("port={port}")])
            .args(["-c", &format!("unix_socket_directories=\"{}\"", home.display())])
            .args(["-c", "unix_socket_permissions=0700"])
            .stdout(log.try_clone()?)
            .stderr(log)
            // Its own process group: Ctrl-C is for us, who stop things in order.
            .process_group(0)
            .spawn()
            .context("postgres")?;
        let mut server = Self { child, bin, account, home: home.to_owned(), port };
        server.wait_until_ready()?;
        Ok(server)
    }

    /// The superuser, through the Unix socket.
    pub(super) fn superuser(&self) -> Endpoint {
        self.endpoint(SUPERUSER, &self.home.display().to_string(), None)
    }

    /// A role with a password, through TCP.
    pub(super) fn role(&self, user: &str, password: &str) -> Endpoint {
        self.endpoint(user, "127.0.0.1", Some(Secret::new(password)))
    }

    /// The port on the loopback interface.
    pub(super) const fn port(&self) -> u16 {
        self.port
    }

    fn endpoint(&self, user: &str, host: &str, password: Option<Secret>) -> Endpoint {
        Endpoint {
            host: host.to_owned(),
            port: self.port,
            database: None,
            user: user.to_owned(),
            password,
            tls: TlsMode::Disable,
            channel_binding: Binding::Prefer,
            ca_file: None,
            client_certificate: None,
        }
    }

    fn wait_until_ready(&mut self) -> anyhow::Result<()> {
        let deadline = Instant::now() + PATIENCE;
        loop {
            if let Some(status) = self.child.try_wait()? {
                let log = fs::read_to_string(self.home.join("postgres.log")).unwrap_or_default();
                bail!("PostgreSQL ended at once ({status}):\n{}", log.trim_end());
            }
            // The file's last line turns into "ready" once connections are accepted.
            let state = fs::read_to_string(self.home.join("data/postmaster.pid"));
            if state.is_ok_and(|state| state.lines().nth(7).is_some_and(|s| s.trim() == "ready")) {
                return Ok(());
            }
            if Instant::now() > deadline {
                bail!("PostgreSQL is not ready after {} s", PATIENCE.as_secs());
            }
            std::thread::sleep(Duration::from_millis(50));
        }
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let stopped = command(&self.bin.join("pg_ctl"), self.account)
            .args(["stop", "--wait", "--mode", "fast", "--timeout", "20", "--pgdata"])
            .arg(self.home.join("data"))
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .status();
        if !stopped.is_ok_and(|status| status.success()) {
            // Its backends end when they notice that it is gone.
            let _ = self.child.kill();
        }
        let _ = self.child.wait();
    }
}

fn command(program: &Path, account: Option<Account>) -> Command {
    let mut command = Command::new(program);
    // The account may not be allowed to look into our working directory.
    command.current_dir("/").stdin(Stdio::null()).env("LC_ALL", "C").env_remove("PGDATA");
    if let Some(Account { uid, gid }) = account {
        command.uid(uid).gid(gid);
    }
    command
}

fn succeeded(what: &str, output: &Output) -> anyhow::Result<()> {
    if output.status.success() {
        return Ok(());
    }
    bail!("{what} failed: {}", String::from_utf8_lossy(&output.stderr).trim())
}

/// A port that was free a moment ago.
pub(super) fn free_port() -> anyhow::Result<u16> {
    let listener = TcpListener::bind((Ipv4Addr::LOCALHOST, 0)).context("no free port")?;
    Ok(listener.local_addr()?.port())
}

/// The directory of the newest server programs: Debian's, else those in `PATH`.
fn binaries() -> anyhow::Result<PathBuf> {
    let complete =
        |bin: &PathBuf| ["initdb", "postgres", "pg_ctl"].iter().all(|p| bin.join(p).exists());
    let version = |bin: &Path| {
        let name = bin.parent()?.file_name()?.to_str()?;
        name.split('.').next()?.parse::<u32>().ok()
    };
    let installed = fs::read_dir("/usr/lib/postgresql").into_iter().flatten().flatten();
    let newest = installed
        .map(|entry| entry.path().join("bin"))
        .filter(complete)
        .max_by_key(|bin| version(bin));
    let path = std::env::var_os("PATH").unwrap_or_default();
    newest.or_else(|| std::env::split_paths(&path).find(complete)).context(
        "no PostgreSQL server was found (initdb, postgres, pg_ctl); on Debian and Ubuntu: \
         apt-get install postgresql, or run make demo, which does that",
    )
}

/// The account for the server; `None` when we are not root and it may run as ourselves.
fn account() -> anyhow::Result<Option<Account>> {
    if fs::metadata("/proc/self")?.uid() != 0 {
        return Ok(None);
    }
    let accounts = fs::read_to_string("/etc/passwd").context("/etc/passwd")?;
    let named = |wanted: &str| {
        accounts.lines().find_map(|line| {
            let mut fields = line.split(':');
            let name = fields.next()?;
            let (uid, gid) = (fields.nth(1)?.parse().ok()?, fields.next()?.parse().ok()?);
            (name == wanted && uid != 0).then_some(Account { uid, gid })
        })
    };
    let account = named("postgres").or_else(|| named("nobody"));
    account.map(Some).context("root needs an account named postgres or nobody for the server")
}

/// A directory that is gone when this is dropped.
pub(super) struct Scratch(PathBuf);

impl Scratch {
    /// A new directory below the system's temporary one. Others may pass through, not list it.
    pub(super) fn new() -> anyhow::Result<Self> {
        let path = std::env::temp_dir().join(format!("hedgerow-demo-{}", super::random_hex(6)?));
        fs::create_dir(&path).with_context(|| path.display().to_string())?;
        let scratch = Self(path);
        fs::set_permissions(&scratch.0, fs::Permissions::from_mode(0o711))?;
        Ok(scratch)
    }

    pub(super) fn path(&self) -> &Path {
        &self.0
    }
}

impl Drop for Scratch {
    fn drop(&mut self) {
        if let Err(error) = fs::remove_dir_all(&self.0) {
            eprintln!("could not remove {}: {error}", self.0.display());
        }
    }
}
