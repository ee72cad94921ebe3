//! This same binary as an operator runs it: one-off commands, and `serve` in the background.
//! Layer 6.

use std::fs;
use std::os::unix::process::CommandExt;
use std::path::{Path, PathBuf};
use std::process::{Child, Command, ExitStatus, Output, Stdio};
use std::time::{Duration, Instant};

use anyhow::bail;
use tokio::time::sleep;

/// How long the proxy may take to start or to stop.
pub(super) const PATIENCE: Duration = Duration::from_secs(30);

/// This same binary, with a subcommand and without our own settings.
pub(super) fn hedgerow(subcommand: &str) -> anyhow::Result<Command> {
    let mut command = Command::new(std::env::current_exe()?);
    // The twins of our own flags would be taken for the subcommand's.
    for (name, _) in std::env::vars_os() {
        if name.to_string_lossy().starts_with("HEDGEROW_") {
            command.env_remove(name);
        }
    }
    command.arg(subcommand).stdin(Stdio::null());
    Ok(command)
}

/// A program's standard output, if it ended with one of `expected`.
pub(super) fn finished(what: &str, output: &Output, expected: &[i32]) -> anyhow::Result<String> {
    let text = String::from_utf8_lossy(&output.stdout).into_owned();
    if output.status.code().is_some_and(|code| expected.contains(&code)) {
        return Ok(text);
    }
    bail!("{what} ({}):\n{text}{}", output.status, String::from_utf8_lossy(&output.stderr))
}

/// The last `count` lines.
pub(super) fn last_lines(text: &str, count: usize) -> &str {
    let from = text.trim_end().rmatch_indices('\n').nth(count - 1).map_or(0, |(at, _)| at + 1);
    text.get(from..).unwrap_or(text)
}

/// `hedgerow serve`; dropping it stops it.
pub(super) struct Proxy {
    child: Child,
    log: PathBuf,
}

impl Proxy {
    /// Starts it with the configuration in `files`, and a log beside it.
    pub(super) fn start(files: &Path) -> anyhow::Result<Self> {
        let log = files.join("hedgerow.log");
        let output = fs::File::create(&log)?;
        let child = hedgerow("serve")?
            .arg("--config")
            .arg(files.join("hedgerow.yaml"))
            .stdout(output.try_clone()?)
            .stderr(output)
            // Its own process group: Ctrl-C is for us, who stop things in order.
            .process_group(0)
            .spawn()?;
        Ok(Self { child, log })
    }

    /// How it ended, if it did.
    pub(super) fn exited(&mut self) -> std::io::Result<Option<ExitStatus>> {
        self.child.try_wait()
    }

    /// The end of its log.
    pub(super) fn log(&self) -> String {
        let text = fs::read_to_string(&self.log).unwrap_or_default();
        last_lines(&text, 20).to_owned()
    }

    /// Waits for its end.
    pub(super) async fn ended(&mut self) -> ExitStatus {
        loop {
            if let Ok(Some(status)) = self.child.try_wait() {
                return status;
            }
            sleep(Duration::from_millis(200)).await;
        }
    }

    /// SIGTERM, some patience, then SIGKILL.
    pub(super) fn stop(&mut self) -> anyhow::Result<ExitStatus> {
        if let Some(status) = self.child.try_wait()? {
            return Ok(status);
        }
        let kill = format!("kill -TERM {}", self.child.id());
        Command::new("/bin/sh").args(["-c", &kill]).status()?;
        let deadline = Instant::now() + PATIENCE;
        while Instant::now() < deadline {
            if let Some(status) = self.child.try_wait()? {
                return Ok(status);
            }
            std::thread::sleep(Duration::from_millis(20));
        }
        self.child.kill()?;
        Ok(self.child.wait()?)
    }
}

impl Drop for Proxy {
    fn drop(&mut self) {
        if let Err(error) = self.stop() {
            eprintln!("hedgerow serve could not be stopped: {error:#}");
        }
    }
}
