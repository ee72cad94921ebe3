//! Table names: every spelling of a path becomes project, dataset and table. Pure.
//!
//! What is sent upstream names each table in full, and no default dataset is sent along: a name that
//! resolved otherwise there than here would find nothing.

use std::fmt;
use std::sync::Arc;

use sqlparser::ast::{ObjectName, ObjectNamePart};

use crate::claims::Principal;
use crate::error::{Denial, DenialCode};
use crate::policy::file::DatasetWord;
use crate::policy::{BigQueryPolicy, TablePolicy};

/// A table or view, in full.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
pub struct TableName {
    /// Project.
    pub project: String,
    /// Dataset; case-sensitive.
    pub dataset: String,
    /// Table; case-sensitive; may end in `*` (a wildcard table).
    pub table: String,
}

impl fmt::Display for TableName {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        write!(f, "{}.{}.{}", self.project, self.dataset, self.table)
    }
}

impl TableName {
    /// `` `project.dataset.table` ``, as a statement names it. Its parts hold no backtick.
    pub fn quoted(&self) -> String {
        format!("`{self}`")
    }
}

/// Where a statement runs: what completes short names.
#[derive(Clone, Debug)]
pub struct Place {
    /// The project of the request.
    pub project: String,
    /// The request's default dataset: project and dataset.
    pub default_dataset: Option<(String, String)>,
    /// Whether the request belongs to a session of the tenant: its temporary tables have one part.
    pub session: bool,
}

/// How a table is bound to the tenant.
#[derive(Clone, Debug)]
pub enum Binding {
    /// Rows of several tenants: guarded by the rule.
    Tenants(Arc<TablePolicy>),
    /// Read by every tenant as it is.
    Shared(Arc<TablePolicy>),
    /// Views of a dataset that read the request's secure context.
    SecureContext(Arc<TablePolicy>),
    /// In a dataset of this tenant's own.
    Own,
}

/// Everything that a decision depends on, besides the text.
#[derive(Clone, Copy)]
pub struct Env<'a> {
    /// The policy.
    pub policy: &'a BigQueryPolicy,
    /// The caller.
    pub principal: &'a Principal,
    /// Where the statement runs.
    pub place: &'a Place,
}

/// The parts of a path, whatever its backticks hold.
///
/// # Errors
/// HR1001 for a part that is no plain identifier.
pub fn path(name: &ObjectName) -> Result<Vec<String>, Denial> {
    let unreadable = || Denial::of(DenialCode::CannotParse, name.to_string());
    let mut parts = Vec::new();
    for part in &name.0 {
        match part {
            ObjectNamePart::Identifier(ident) => {
                parts.extend(ident.value.split('.').map(str::to_owned));
            }
            ObjectNamePart::Function(_) => return Err(unreadable()),
        }
    }
    let allowed = |c: char| c.is_alphanumeric() || matches!(c, '_' | '-' | '*');
    let well = |part: &String| {
        !part.is_empty() && part.chars().all(allowed) && !part.trim_end_matches('*').contains('*')
    };
    if parts.is_empty() || !parts.iter().all(well) {
        return Err(unreadable());
    }
    Ok(parts)
}

impl Env<'_> {
    /// The table that a path names. `None` for a single name without a default dataset.
    ///
    /// # Errors
    /// HR1007 for INFORMATION_SCHEMA and meta tables, HR1003 for a path of no known form.
    pub fn resolve(&self, parts: &[String]) -> Result<Option<TableName>, Denial> {
        let hidden = |part: &String| {
            part.eq_ignore_ascii_case("information_schema")
                || part.starts_with("__")
                || part.to_ascii_lowercase().starts_with("region-")
        };
        if parts.iter().any(hidden) {
            return Err(Denial::of(DenialCode::Catalog, parts.join(".")));
        }
        let (project, dataset, table) = match parts {
            [table] => match &self.place.default_dataset {
                Some((project, dataset)) => (project, dataset, table),
                None => return Ok(None),
            },
            [dataset, table] => (&self.place.project, dataset, table),
            [project, dataset, table] => (project, dataset, table),
            _ => return Err(Denial::of(DenialCode::UnknownRelation, parts.join("."))),
        };
        if project.contains('*') || dataset.contains('*') {
            return Err(Denial::of(DenialCode::UnknownRelation, parts.join(".")));
        }
        Ok(Some(TableName {
            project: project.clone(),
            dataset: dataset.clone(),
            table: table.clone(),
        }))
    }

    /// How a table is bound.
    ///
    /// # Errors
    /// HR1003 for a table that no rule names, HR1004 for one that is denied or another tenant's.
    pub fn bind(&self, name: &TableName) -> Result<Binding, Denial> {
        if let Some(own) = self.own(&name.project, &name.dataset) {
            return if own {
                Ok(Binding::Own)
            } else {
                Err(Denial::of(DenialCode::RelationDenied, name.to_string()))
            };
        }
        let rule = self.rule(name)?;
        let secure = self
            .policy
            .datasets
            .get(&(name.project.clone(), name.dataset.clone()))
            .is_some_and(|mode| *mode == DatasetWord::SecureContext);
        match rule.protection {
            crate::policy::Protection::Deny => {
                Err(Denial::of(DenialCode::RelationDenied, name.to_string()))
            }
            _ if secure => Ok(Binding::SecureContext(rule)),
            crate::policy::Protection::Shared => Ok(Binding::Shared(rule)),
            crate::policy::Protection::Tenant { .. }
            | crate::policy::Protection::TenantThrough { .. } => Ok(Binding::Tenants(rule)),
        }
    }

    /// Whether a dataset that is one tenant's is this tenant's; `None` for any other dataset.
    ///
    /// In the policy's `project.tenant_*: dataset_per_tenant` the `*` stands for the tenant as
    /// [`in_dataset_name`] writes it. A dataset that several such rules name is the tenant's if all of
    /// them say so.
    pub fn own(&self, project: &str, dataset: &str) -> Option<bool> {
        let tenant = self.principal.tenant.as_ref();
        let tenant = tenant.and_then(|tenant| in_dataset_name(&tenant.to_string()));
        let mut owned = None;
        for ((of_project, pattern), mode) in &self.policy.datasets {
            let matches = crate::policy::wildcard(of_project, project)
                && crate::policy::wildcard(pattern, dataset);
            if *mode == DatasetWord::DatasetPerTenant && matches {
                let mine = tenant.as_ref().is_some_and(|tenant| {
                    pattern.contains('*') && pattern.replacen('*', tenant, 1) == dataset
                });
                owned = Some(owned.unwrap_or(true) && mine);
            }
        }
        owned
    }

    /// The rule of a table. A wildcard table needs one rule that names all that it may match.
    fn rule(&self, name: &TableName) -> Result<Arc<TablePolicy>, Denial> {
        let unknown = || Denial::of(DenialCode::UnknownRelation, name.to_string());
        let Some(prefix) = name.table.strip_suffix('*') else {
            return self
                .policy
                .tables
                .iter()
                .find(|(pattern, _)| pattern.matches(&name.project, &name.dataset, &name.table))
                .map(|(_, rule)| Arc::clone(rule))
                .ok_or_else(unknown);
        };
        let mut found = None;
        for (pattern, rule) in &self.policy.tables {
            let place = crate::policy::wildcard(&pattern.project, &name.project)
                && crate::policy::wildcard(&pattern.dataset, &name.dataset);
            if !place {
                continue;
            }
            let covers = pattern
                .table
                .strip_suffix('*')
                .is_some_and(|wide| !wide.contains('*') && prefix.starts_with(wide));
            let literal = pattern.table.split('*').next().unwrap_or_default();
            let meets = literal.starts_with(prefix)
                || pattern.table.contains('*') && prefix.starts_with(literal);
            if covers {
                found = Some(Arc::clone(rule));
                break;
            }
            if meets {
                return Err(unknown());
            }
        }
        found.ok_or_else(unknown)
    }
}

/// A tenant as it stands in the name of a dataset, which holds letters, digits and `_` alone: `-` is
/// written `_`, and `_` is written `__`. `None` for a tenant that cannot be written so.
///
/// SECURITY: no two tenants are written alike: `a-b` and `a_b` are two tenants, and whoever may choose
/// a name may choose the other's. So `-` must stand between two letters or digits.
pub fn in_dataset_name(tenant: &str) -> Option<String> {
    let plain = |c: Option<&char>| c.is_some_and(char::is_ascii_alphanumeric);
    let letters: Vec<char> = tenant.chars().collect();
    let mut name = String::with_capacity(tenant.len());
    for (at, letter) in letters.iter().enumerate() {
        match letter {
            '-' => {
                let before = at.checked_sub(1).and_then(|before| letters.get(before));
                if !plain(before) || !plain(letters.get(at + 1)) {
                    return None;
                }
                name.push('_');
            }
            '_' => name.push_str("__"),
            letter if letter.is_ascii_alphanumeric() => name.push(*letter),
            _ => return None,
        }
    }
    (!name.is_empty()).then_some(name)
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::claims::{Claims, TenantClaim};
    use crate::ids::PolicyEpoch;

    #[test]
    fn no_two_tenants_share_a_datasets_name() {
        assert_eq!(in_dataset_name("tenant-a").as_deref(), Some("tenant_a"));
        assert_eq!(in_dataset_name("tenant_a").as_deref(), Some("tenant__a"));
        assert_eq!(in_dataset_name("7").as_deref(), Some("7"));
        for odd in ["", "-a", "a-", "a--b", "a-_b", "a_-b", "a.b", "a*", "\u{e9}", "a b"] {
            assert_eq!(in_dataset_name(odd), None, "{odd}");
        }
        let letters = ["a", "-", "_"];
        let mut texts = vec![String::new()];
        let mut seen = std::collections::HashMap::new();
        for _ in 0..6 {
            texts = texts.iter().flat_map(|t| letters.map(|l| format!("{t}{l}"))).collect();
            for text in &texts {
                if let Some(name) = in_dataset_name(text)
                    && let Some(other) = seen.insert(name, text.clone())
                {
                    panic!("{other} and {text}");
                }
            }
        }
    }

    #[test]
    fn a_dataset_that_two_rules_give_to_two_tenants_is_nobodys() {
        let text = "
engine: bigquery
datasets:
  \"p.own_*\": dataset_per_tenant
  \"p.own_eu_*\": dataset_per_tenant
";
        let policy =
            crate::policy::load::compile(&[("p.yaml", text)], PolicyEpoch(1)).unwrap().bigquery;
        let own = |tenant: &str, dataset: &str| {
            let tenant = Some(TenantClaim::Text(tenant.into()));
            let principal = Principal::assumed(tenant, Claims::default());
            let place = Place { project: "p".into(), default_dataset: None, session: false };
            Env { policy: &policy, principal: &principal, place: &place }.own("p", dataset)
        };
        assert_eq!(own("x", "own_x"), Some(true));
        assert_eq!(own("y", "own_x"), Some(false));
        assert_eq!(own("x", "own_eu_x"), Some(false));
        assert_eq!(own("eu-x", "own_eu_x"), Some(false));
        assert_eq!(own("x", "shared"), None);
    }
}
