//! `hedgerow schema` (hidden): the JSON schemas of the two kinds of files. Layer 6.
//!
//! They are generated from the types that read the files, kept in the repository, and a test holds
//! that they are up to date.

use std::process::ExitCode;

use clap::{Args, ValueEnum};

use crate::config::file::ConfigFile;
use crate::policy::file::PolicyFile;

/// Print a JSON schema
#[derive(Clone, Copy, Debug, Args)]
#[command(hide = true)]
pub struct SchemaArgs {
    /// Of which kind of file
    #[arg(value_enum)]
    pub of: SchemaOf,
}

/// A kind of file.
#[derive(Clone, Copy, Debug, PartialEq, Eq, ValueEnum)]
pub enum SchemaOf {
    /// `hedgerow.yaml`: kept as `hedgerow.schema.json`.
    Config,
    /// `policies/*.yaml`: kept as `policy.schema.json`.
    Policy,
}

/// Runs the command.
pub fn run(args: &SchemaArgs) -> ExitCode {
    match text(args.of) {
        Ok(text) => {
            print!("{text}");
            ExitCode::SUCCESS
        }
        Err(error) => super::fail(&error.into()),
    }
}

/// The schema as it is kept in the repository.
///
/// # Errors
/// When the schema is not JSON, which would be a fault of this program.
pub fn text(of: SchemaOf) -> Result<String, serde_json::Error> {
    let schema = match of {
        SchemaOf::Config => schemars::schema_for!(ConfigFile),
        SchemaOf::Policy => schemars::schema_for!(PolicyFile),
    };
    Ok(serde_json::to_string_pretty(&schema)? + "\n")
}
