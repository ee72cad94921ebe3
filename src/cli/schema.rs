//! `hedgerow schema` (hidden): the JSON schemas of the two kinds of files. Layer 6.
//!
//! They are generated from the types that read the files, kept in the repository, and a test holds
//! that they are up to date.

use std::process::ExitCode;

use clap::{Args, ValueEnum};
use serde_json::{Value, json};

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
    let (title, schema) = match of {
        SchemaOf::Config => ("Hedgerow configuration", schemars::schema_for!(ConfigFile)),
        SchemaOf::Policy => ("Hedgerow policy file", schemars::schema_for!(PolicyFile)),
    };
    let mut schema = schema.to_value();
    without_null(&mut schema);
    if let Value::Object(schema) = &mut schema {
        schema.insert("title".to_owned(), title.into());
    }
    Ok(serde_json::to_string_pretty(&schema)? + "\n")
}

/// An optional key may be left out, but a key without a value is an error: takes `null` from the
/// alternatives.
fn without_null(schema: &mut Value) {
    match schema {
        Value::Object(object) => {
            object.values_mut().for_each(without_null);
            if let Some(Value::Array(types)) = object.get_mut("type") {
                types.retain(|one| one != "null");
                if let [only] = types.as_slice() {
                    let only = only.clone();
                    object.insert("type".to_owned(), only);
                }
            }
            if let Some(Value::Array(words)) = object.get_mut("enum") {
                words.retain(|word| !word.is_null());
            }
            if let Some(Value::Array(mut choices)) = object.remove("anyOf") {
                choices.retain(|choice| choice != &json!({"type": "null"}));
                match choices.as_slice() {
                    [Value::Object(only)] => object.extend(only.clone()),
                    _ => {
                        object.insert("anyOf".to_owned(), choices.into());
                    }
                }
            }
        }
        Value::Array(items) => items.iter_mut().for_each(without_null),
        Value::Null | Value::Bool(_) | Value::Number(_) | Value::String(_) => {}
    }
}
