//! A throw-away PostgreSQL for the tests beside the code: Unix socket only, gone when dropped.

use std::fs;
use std::os::unix::fs::{PermissionsExt, chown};
use std::path::{Path, PathBuf};
use std::process::{Command, Stdio};

use crate::endpoint::{Binding, Endpoint, Secret, TlsMode};

/// A running server.
pub(crate) struct Server {
    home: tempfile::TempDir,
    bin: PathBuf,
    as_user: Option<&'static str>,
}

impl Server {
    /// Makes a cluster and starts it; `None`, said aloud, where PostgreSQL is not installed.
    pub(crate) fn start() -> Option<Self> {
        let Some(bin) = binaries() else {
            eprintln!("skipped: no PostgreSQL server binaries found");
            return None;
        };
        let home = tempfile::Builder::new().prefix("hedgerow-test-").tempdir().unwrap();
        fs::set_permissions(home.path(), fs::Permissions::from_mode(0o755)).unwrap();
        // The server refuses to run as root: hand the directory to the account that Debian made.
        let id = |flag| Command::new("id").args([flag, "postgres"]).output().unwrap().stdout;
        let number = |text: Vec<u8>| String::from_utf8(text).unwrap().trim().parse::<u32>().ok();
        let root = fs::metadata("/proc/self").is_ok_and(|own| {
            use std::os::unix::fs::MetadataExt;
            own.uid() == 0
        });
        if root {
            chown(home.path(), number(id("-u")), number(id("-g"))).unwrap();
        }
        let server = Self { home, bin, as_user: root.then_some("postgres") };
        let data = server.data();
        server.run("initdb", &["-D", &data, "-U", "owner", "-A", "trust", "-N", "-E", "UTF8"]);
        server.start_again("");
        Some(server)
    }

    /// Starts it, with more `postgres` options.
    pub(crate) fn start_again(&self, more: &str) {
        let options = format!(
            "-c listen_addresses='' -c unix_socket_directories='{}' -c fsync=off \
             -c shared_buffers=16MB -c max_connections=40 {more}",
            self.home.path().display()
        );
        let log = self.home.path().join("log").display().to_string();
        self.run("pg_ctl", &["-D", &self.data(), "-w", "-l", &log, "-o", &options, "start"]);
    }

    pub(crate) fn stop(&self) {
        self.run("pg_ctl", &["-D", &self.data(), "-w", "-m", "immediate", "stop"]);
    }

    /// A directory that the server may read.
    pub(crate) fn home(&self) -> &Path {
        self.home.path()
    }

    /// Hands a file over to the server's account, as private as it insists on.
    pub(crate) fn give(&self, file: &Path) {
        use std::os::unix::fs::MetadataExt;
        let owner = fs::metadata(self.home.path()).unwrap();
        chown(file, Some(owner.uid()), Some(owner.gid())).unwrap();
        fs::set_permissions(file, fs::Permissions::from_mode(0o600)).unwrap();
    }

    /// How it asks who is there, from its next start on: the content of `pg_hba.conf`.
    pub(crate) fn authenticate(&self, rules: &str) {
        fs::write(Path::new(&self.data()).join("pg_hba.conf"), rules).unwrap();
    }

    /// The server, for `user`.
    pub(crate) fn endpoint(&self, user: &str) -> Endpoint {
        Endpoint {
            host: self.home.path().display().to_string(),
            port: 5432,
            database: None,
            user: user.to_owned(),
            password: Some(Secret::new("not asked for")),
            tls: TlsMode::Disable,
            channel_binding: Binding::Prefer,
            ca_file: None,
            client_certificate: None,
        }
    }

    fn data(&self) -> String {
        self.home.path().join("data").display().to_string()
    }

    fn run(&self, program: &str, arguments: &[&str]) {
        let program = self.bin.join(program);
        let mut command = match self.as_user {
            Some(user) => {
                let mut command = Command::new("runuser");
                command.args(["-u", user, "--"]).arg(program);
                command
            }
            None => Command::new(program),
        };
        let status =
            command.args(arguments).current_dir("/").stdout(Stdio::null()).status().unwrap();
        assert!(status.success(), "{arguments:?}");
    }
}

impl Drop for Server {
    fn drop(&mut self) {
        let pid = Path::new(&self.data()).join("postmaster.pid");
        if pid.exists() {
            self.stop();
        }
    }
}

/// The newest installed server's directory.
fn binaries() -> Option<PathBuf> {
    let installed = fs::read_dir("/usr/lib/postgresql").ok()?.flatten();
    let newest = installed
        .map(|entry| entry.path().join("bin"))
        .filter(|bin| bin.join("initdb").exists())
        .max();
    newest.or_else(|| {
        std::env::split_paths(&std::env::var_os("PATH")?).find(|bin| bin.join("initdb").exists())
    })
}
