//! `hedgerow console`: the auditors' web page; its place on the command line, as it is not built
//! yet. Layer 6.

use std::net::SocketAddr;
use std::path::PathBuf;
use std::process::ExitCode;

use clap::Args;

/// Show audit files on a web page (not built yet)
#[derive(Clone, Debug, Args)]
pub struct ConsoleArgs {
    /// Segment files, or directories of them
    #[arg(long, env = "HEDGEROW_AUDIT", value_name = "PATH", num_args = 1.., required = true)]
    pub audit: Vec<PathBuf>,
    /// Where to serve the page
    #[arg(long, env = "HEDGEROW_LISTEN", value_name = "ADDRESS", default_value = "127.0.0.1:9188")]
    pub listen: SocketAddr,
}

/// Says that it is not built.
pub fn run(_: &ConsoleArgs) -> ExitCode {
    super::fail(&anyhow::anyhow!(
        "the console is not built yet; `hedgerow audit search` finds records, `hedgerow audit \
         verify` checks them"
    ))
}
