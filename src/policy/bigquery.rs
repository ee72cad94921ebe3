//! The compiled BigQuery policy. Layer 1, pure. Validated at load; the BigQuery side reads it.

use std::collections::{BTreeMap, BTreeSet};
use std::sync::Arc;

use super::file::DatasetWord;
use super::{Quota, TablePolicy, wildcard};
use crate::ids::PolicyEpoch;

/// A pattern over `project.dataset.table`, each part with `*`; without `*` an exact name.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct BigQueryPattern {
    /// Project.
    pub project: String,
    /// Dataset.
    pub dataset: String,
    /// Table; in a rule on datasets `*`.
    pub table: String,
}

impl BigQueryPattern {
    /// Whether it names one table.
    pub fn is_exact(&self) -> bool {
        ![&self.project, &self.dataset, &self.table].iter().any(|part| part.contains('*'))
    }

    /// Whether it names the table.
    pub fn matches(&self, project: &str, dataset: &str, table: &str) -> bool {
        wildcard(&self.project, project)
            && wildcard(&self.dataset, dataset)
            && wildcard(&self.table, table)
    }

    /// Characters that are not `*`: how narrow the pattern is.
    pub fn literal_length(&self) -> usize {
        [&self.project, &self.dataset, &self.table]
            .iter()
            .map(|part| part.chars().filter(|c| *c != '*').count())
            .sum()
    }
}

/// One immutable snapshot of the BigQuery policy.
#[derive(Clone, Debug, Default)]
pub struct BigQueryPolicy {
    /// Its version.
    pub epoch: PolicyEpoch,
    /// Rules; exact names first, then patterns in order of falling length of their literal text.
    pub tables: Vec<(BigQueryPattern, Arc<TablePolicy>)>,
    /// How datasets keep tenants apart, by `project.dataset`.
    pub datasets: BTreeMap<(String, String), DatasetWord>,
    /// Routines that tenants may call, by `project.dataset.routine`.
    pub functions: BTreeSet<String>,
    /// Most bytes that one query may be billed for.
    pub maximum_bytes_billed: Option<u64>,
    /// Most bytes that a tenant may scan a day.
    pub bytes_per_day: Option<u64>,
    /// Labels of every job.
    pub labels: BTreeMap<String, String>,
    /// Quotas in file order.
    pub quotas: Vec<Quota>,
}

/// Splits `project.dataset.table` (or `project.dataset`) at its dots.
///
/// # Errors
/// What is wrong with the name.
pub fn split(text: &str, parts: usize) -> Result<Vec<String>, String> {
    let form = if parts == 3 { "project.dataset.table" } else { "project.dataset" };
    let found: Vec<String> = text.split('.').map(str::to_owned).collect();
    if found.len() != parts || found.iter().any(String::is_empty) {
        return Err(format!("the name must have the form `{form}`"));
    }
    let allowed = |c: char| c.is_alphanumeric() || matches!(c, '-' | '_' | ':' | '*' | '$');
    match text.chars().find(|c| *c != '.' && !allowed(*c)) {
        Some(other) => Err(format!("the character `{}` is not allowed", other.escape_default())),
        None => Ok(found),
    }
}
