//! Processes with an end: bounded runs, and a guardian that outlives a crashed test binary.

use std::io::{Read, Write};
use std::net::{SocketAddr, TcpListener};
use std::process::{Child, ChildStdin, Command, Output, Stdio};
use std::sync::mpsc;
use std::time::{Duration, Instant};

/// Runs a command to its end, or kills it after `limit` and panics.
pub fn run(command: &mut Command, limit: Duration) -> Output {
    let mut child = command
        .stdin(Stdio::null())
        .stdout(Stdio::piped())
        .stderr(Stdio::piped())
        .spawn()
        .unwrap_or_else(|error| panic!("cannot start {command:?}: {error}"));
    let stdout = drain(child.stdout.take().expect("piped"));
    let stderr = drain(child.stderr.take().expect("piped"));
    let Some(status) = wait(&mut child, limit) else {
        child.kill().ok();
        child.wait().ok();
        panic!("{command:?} did not end within {limit:?}");
    };
    let text = |receiver: mpsc::Receiver<Vec<u8>>| {
        receiver.recv_timeout(Duration::from_secs(5)).unwrap_or_default()
    };
    Output { status, stdout: text(stdout), stderr: text(stderr) }
}

/// Runs a command that must succeed and returns what it printed.
pub fn succeed(command: &mut Command, limit: Duration) -> String {
    let output = run(command, limit);
    assert!(
        output.status.success(),
        "{command:?} ended with {}\n{}{}",
        output.status,
        String::from_utf8_lossy(&output.stdout),
        String::from_utf8_lossy(&output.stderr)
    );
    String::from_utf8_lossy(&output.stdout).into_owned()
}

/// Waits for a child's end; `None` when it still runs after `limit`.
pub fn wait(child: &mut Child, limit: Duration) -> Option<std::process::ExitStatus> {
    let end = Instant::now() + limit;
    loop {
        if let Some(status) = child.try_wait().expect("a child can be waited for") {
            return Some(status);
        }
        if Instant::now() >= end {
            return None;
        }
        std::thread::sleep(Duration::from_millis(5));
    }
}

/// Polls until `condition` gives a value; panics with `what` after `limit`.
pub fn eventually<T>(what: &str, limit: Duration, mut condition: impl FnMut() -> Option<T>) -> T {
    let end = Instant::now() + limit;
    loop {
        if let Some(value) = condition() {
            return value;
        }
        assert!(Instant::now() < end, "{what}: not within {limit:?}");
        std::thread::sleep(Duration::from_millis(10));
    }
}

/// Sends a signal by name (`TERM`, `KILL`, `HUP`) to a process.
pub fn signal(pid: u32, name: &str) {
    Command::new("kill")
        .args([&format!("-{name}"), &pid.to_string()])
        .stderr(Stdio::null())
        .status()
        .expect("kill can be run");
}

/// A loopback address that was free a moment ago: the user of it must cope with a clash.
pub fn free_address() -> SocketAddr {
    TcpListener::bind("127.0.0.1:0")
        .and_then(|listener| listener.local_addr())
        .expect("loopback has a free port")
}

fn drain(mut from: impl Read + Send + 'static) -> mpsc::Receiver<Vec<u8>> {
    let (sender, receiver) = mpsc::channel();
    std::thread::spawn(move || {
        let mut bytes = Vec::new();
        from.read_to_end(&mut bytes).ok();
        sender.send(bytes).ok();
    });
    receiver
}

/// A shell that waits for the end of this test binary, in whatever way it comes, and then runs a
/// command. Rust's test runner gives no hook at exit; the pipe to the shell closes by itself.
pub struct Guardian {
    shell: Child,
    pipe: Option<ChildStdin>,
}

impl Guardian {
    /// Runs `script` with `arguments` as `$1`, `$2`, … once this process is gone, unless the
    /// guardian was dismissed before.
    pub fn after_exit(script: &str, arguments: &[&str]) -> Self {
        let mut shell = Command::new("sh")
            .arg("-c")
            .arg(format!(
                "trap '' INT TERM HUP; read -r word; [ \"$word\" = dismissed ] && exit; {script}"
            ))
            .arg("guardian")
            .args(arguments)
            .stdin(Stdio::piped())
            .stdout(Stdio::null())
            .stderr(Stdio::null())
            .spawn()
            .expect("sh can be run");
        let pipe = shell.stdin.take();
        Self { shell, pipe }
    }

    /// What it guarded has ended: nothing is left to do, and its process id may be another's.
    pub fn dismiss(&mut self) {
        if let Some(mut pipe) = self.pipe.take() {
            pipe.write_all(b"dismissed\n").ok();
        }
        self.shell.wait().ok();
    }
}
