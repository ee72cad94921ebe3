//! Reading the policy directory: every `*.yaml` below it, in order of path. Layer 6.
//!
//! Refuses a directory without policies, links that lead in a circle, and more files than anybody
//! means.

use std::path::{Path, PathBuf};

use super::read_text;
use crate::ids::PolicyEpoch;
use crate::policy::{Policies, Policy, load::compile};
use crate::sql::postgres::check_expression;
use crate::yaml::{Fault, SourcePosition, quoted};

/// Most policy files.
const MAX_FILES: usize = 10_000;
/// Deepest directory below the policy directory.
const MAX_DEPTH: usize = 8;

/// Reads and compiles the policies below `directory`; `at` is where the configuration names it.
/// Files that look like policies but are not read (`*.yml`), and what is not enforced as written yet,
/// are added to `warnings`.
///
/// # Errors
/// Every fault of every file, sorted.
pub fn load(
    directory: &Path,
    at: &SourcePosition,
    epoch: PolicyEpoch,
    warnings: &mut Vec<Fault>,
) -> Result<Policies, Vec<Fault>> {
    let mut found = Found::default();
    if let Err(message) = find(directory, MAX_DEPTH, &mut found) {
        return Err(vec![Fault::new(at, message)]);
    }
    if found.files.is_empty() {
        let message = format!("there is no `*.yaml` file below `{}`", directory.display());
        return Err(vec![Fault::new(at, message)]);
    }
    for path in found.ignored {
        let message = "the file is not read: policies are named `*.yaml`";
        warnings.push(super::start_of(&path.display().to_string(), message));
    }
    found.files.sort();
    let mut faults = Vec::new();
    let mut texts = Vec::with_capacity(found.files.len());
    for path in found.files {
        let name = path.display().to_string();
        match read_text(&path) {
            Ok(text) => texts.push((name, text)),
            Err(message) => faults.push(super::start_of(&name, message)),
        }
    }
    match compile(&texts, epoch) {
        Ok(mut policies) => {
            faults.extend(expression_faults(&policies.postgres));
            if faults.is_empty() {
                warnings.append(&mut policies.warnings);
                return Ok(policies);
            }
        }
        Err(mut more) => faults.append(&mut more),
    }
    faults.sort();
    Err(faults)
}

/// What is wrong with the SQL in `where` and `mask`. Here, and not where files are compiled, because
/// SQL is another layer's.
fn expression_faults(policy: &Policy) -> Vec<Fault> {
    let mut faults = Vec::new();
    for (table, expression) in policy.expressions() {
        if let Err(message) = check_expression(&expression.text) {
            let message =
                format!("{}: the SQL expression is refused: {message}", quoted(&table.rule));
            faults.push(Fault::new(&expression.at, message));
        }
    }
    faults
}

/// Whether there is no policy yet: no directory, or none of the files that would be read.
pub fn are_absent(directory: &Path) -> bool {
    match std::fs::exists(directory) {
        Ok(false) => true,
        Ok(true) => files(directory).is_ok_and(|files| files.is_empty()),
        Err(_) => false,
    }
}

/// The policy files below a directory, sorted.
///
/// # Errors
/// A plain sentence when a directory cannot be read.
pub fn files(directory: &Path) -> Result<Vec<PathBuf>, String> {
    let mut found = Found::default();
    find(directory, MAX_DEPTH, &mut found)?;
    found.files.sort();
    Ok(found.files)
}

#[derive(Default)]
struct Found {
    files: Vec<PathBuf>,
    ignored: Vec<PathBuf>,
}

fn find(directory: &Path, depth: usize, found: &mut Found) -> Result<(), String> {
    let plain = |error: std::io::Error| {
        format!("the directory `{}` cannot be read: {error}", directory.display())
    };
    for entry in std::fs::read_dir(directory).map_err(plain)? {
        let path = entry.map_err(plain)?.path();
        // Kubernetes mounts a ConfigMap through `..data` links; the same files show again beside it.
        let hidden = path.file_name().is_some_and(|name| name.as_encoded_bytes().starts_with(b"."));
        if hidden {
            continue;
        }
        if path.is_dir() {
            let Some(depth) = depth.checked_sub(1) else {
                return Err(format!("`{}` lies too deep", path.display()));
            };
            find(&path, depth, found)?;
            continue;
        }
        match path.extension().and_then(|extension| extension.to_str()) {
            Some("yaml") => found.files.push(path),
            Some("yml") => found.ignored.push(path),
            _ => {}
        }
        if found.files.len() > MAX_FILES {
            return Err(format!("there are more than {MAX_FILES} policy files"));
        }
    }
    Ok(())
}
