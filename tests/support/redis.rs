//! A throw-away redis-server. A machine without one skips the tests that need it, and says so.

use std::net::SocketAddr;
use std::process::{Child, Command, Stdio};
use std::sync::Mutex;
use std::time::Duration;

use super::process::{self, Guardian};

/// A server of one test.
pub struct Redis {
    child: Mutex<Option<(Child, Guardian)>>,
    address: SocketAddr,
    directory: tempfile::TempDir,
    cluster: bool,
}

impl Redis {
    /// A server that keeps nothing beyond its end; `None` where there is no redis-server.
    pub fn start() -> Option<Self> {
        Self::of(false)
    }

    /// The same as a cluster of one node.
    pub fn start_cluster() -> Option<Self> {
        Self::of(true)
    }

    fn of(cluster: bool) -> Option<Self> {
        let there = Command::new("redis-server").arg("--version").stdout(Stdio::null()).status();
        if there.is_err() {
            eprintln!("SKIPPED: there is no redis-server here (scripts/install-deps.sh gets it)");
            return None;
        }
        let directory = tempfile::Builder::new().prefix("redis-").tempdir().expect("a directory");
        let child = Mutex::new(None);
        let redis = Self { child, address: process::free_address(), directory, cluster };
        redis.run();
        if cluster {
            redis.command(&["CLUSTER", "ADDSLOTSRANGE", "0", "16383"]);
            process::eventually("the cluster is up", Duration::from_secs(30), || {
                redis.command(&["CLUSTER", "INFO"]).contains("cluster_state:ok").then_some(())
            });
        }
        Some(redis)
    }

    /// Its URL.
    pub fn url(&self) -> String {
        format!("redis://{}/0", self.address)
    }

    /// Runs a command there and returns what it says.
    pub fn command(&self, arguments: &[&str]) -> String {
        let port = self.address.port().to_string();
        let mut command = Command::new("redis-cli");
        command.args(["-p", &port]).args(arguments);
        process::succeed(&mut command, Duration::from_secs(10))
    }

    /// Ends it at once; what it held is gone.
    pub fn stop(&self) {
        let held = self.child.lock().expect("not poisoned").take();
        if let Some((mut child, mut guardian)) = held {
            child.kill().ok();
            child.wait().ok();
            guardian.dismiss();
        }
    }

    /// Starts it again, empty, at the same address.
    pub fn run(&self) {
        let port = self.address.port().to_string();
        let child = Command::new("redis-server")
            .args(["--port", &port, "--bind", "127.0.0.1", "--save", "", "--appendonly", "no"])
            .args(["--cluster-enabled", if self.cluster { "yes" } else { "no" }])
            .arg("--dir")
            .arg(self.directory.path())
            .stdin(Stdio::null())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("redis-server can be started");
        let pid = child.id().to_string();
        let guardian = Guardian::after_exit("kill -KILL \"$1\" 2>/dev/null", &[&pid]);
        *self.child.lock().expect("not poisoned") = Some((child, guardian));
        process::eventually("redis answers", Duration::from_secs(30), || {
            let mut ping = Command::new("redis-cli");
            ping.args(["-p", &port, "PING"]);
            let output = process::run(&mut ping, Duration::from_secs(10));
            output.stdout.starts_with(b"PONG").then_some(())
        });
    }
}

impl Drop for Redis {
    fn drop(&mut self) {
        self.stop();
    }
}
