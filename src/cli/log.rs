//! Hedgerow's own log: lines on standard error, as JSON or text. Layer 6.
//!
//! Refuses nothing and adds nothing: what may be logged is decided where it is logged. Tokens,
//! claims and SQL literals never are.

use clap::ValueEnum;
use tracing_subscriber::EnvFilter;

use super::Global;
use crate::config::{Log, LogFormatWord, LogLevelWord};

/// `--log-level`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogLevel {
    /// Errors.
    Error,
    /// And warnings.
    Warn,
    /// And what an operator wants to know.
    Info,
    /// And what a developer wants to know.
    Debug,
    /// Everything.
    Trace,
}

/// `--log-format`
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum LogFormat {
    /// One JSON object a line.
    Json,
    /// Text.
    Text,
}

/// Starts the log: flags and environment win over the file. Later calls change nothing.
pub fn start(global: Global, file: Log) {
    let level = match global.log_level {
        Some(LogLevel::Error) => LogLevelWord::Error,
        Some(LogLevel::Warn) => LogLevelWord::Warn,
        Some(LogLevel::Info) => LogLevelWord::Info,
        Some(LogLevel::Debug) => LogLevelWord::Debug,
        Some(LogLevel::Trace) => LogLevelWord::Trace,
        None => file.level,
    };
    let format = match global.log_format {
        Some(LogFormat::Json) => LogFormatWord::Json,
        Some(LogFormat::Text) => LogFormatWord::Text,
        None => file.format,
    };
    // Libraries are heard from `warn` on: below it some of them print what passes through them.
    let library = match level {
        LogLevelWord::Error => "error",
        LogLevelWord::Warn | LogLevelWord::Info | LogLevelWord::Debug | LogLevelWord::Trace => {
            "warn"
        }
    };
    let filter = EnvFilter::new(format!("{library},hedgerow={}", level.word()));
    let lines = tracing_subscriber::fmt().with_env_filter(filter).with_writer(std::io::stderr);
    let started = match format {
        LogFormatWord::Json => lines.json().flatten_event(true).with_ansi(false).try_init(),
        LogFormatWord::Text => {
            use std::io::IsTerminal as _;
            lines.with_ansi(std::io::stderr().is_terminal()).try_init()
        }
    };
    drop(started);
}
