//! `hedgerow scan`: what the live database says about the policies, and a draft for the tables
//! that no policy names. Layer 6.
//!
//! The draft errs on the side of `deny`: only a tenant column, or a foreign key that leads to one,
//! makes a table readable. Nothing is guessed to be shared.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;
use std::path::PathBuf;
use std::process::ExitCode;
use std::sync::Arc;

use anyhow::Context as _;

use crate::catalog::{Catalog, Relation, RelationKind};
use crate::catalog_load::{effective_policy, is_protected, load, posture};
use crate::endpoint::Endpoint;
use crate::ids::RelationName;
use crate::policy::{Policy, Protection, name};

/// Names of tenant columns that are met in the wild, the likeliest first.
const TENANT_COLUMNS: &[&str] = &[
    "tenant_id",
    "org_id",
    "organization_id",
    "organisation_id",
    "customer_id",
    "company_id",
    "workspace_id",
    "account_id",
    "tenant",
];

/// What the command line says.
#[derive(Clone, Debug, clap::Args)]
pub struct ScanArgs {
    /// The configuration file
    #[arg(long, value_name = "FILE", env = "HEDGEROW_CONFIG")]
    pub config: PathBuf,
    /// Write a draft of the missing policies to this file, which must not exist
    #[arg(long, value_name = "FILE", env = "HEDGEROW_WRITE")]
    pub write: Option<PathBuf>,
    /// Write the catalog to this file, for hedgerow explain --catalog
    #[arg(long, value_name = "FILE", env = "HEDGEROW_CATALOG")]
    pub catalog: Option<PathBuf>,
    /// The database [default: that of the configuration]
    #[arg(long, value_name = "NAME", env = "HEDGEROW_DATABASE")]
    pub database: Option<String>,
}

impl ScanArgs {
    /// Scans and prints; `to_json` is the catalog file's format. Exits 0 when clean, 1 with
    /// findings.
    ///
    /// # Errors
    /// No connection, or a file that cannot be written.
    pub async fn run(
        &self,
        upstream: &Endpoint,
        policy: &Arc<Policy>,
        to_json: impl FnOnce(&Catalog) -> anyhow::Result<String> + Send,
    ) -> anyhow::Result<ExitCode> {
        let database = self.database.as_ref().or(upstream.database.as_ref());
        let database = database.context("the configuration names no database: --database")?;
        let catalog = load(upstream, database).await?;
        if let Some(path) = &self.catalog {
            let text = to_json(&catalog)?;
            std::fs::write(path, text).with_context(|| path.display().to_string())?;
            println!("catalog written to {}", path.display());
        }
        let findings = posture(&catalog, policy);
        for finding in &findings {
            println!("{finding}");
        }
        if let Some(path) = &self.write {
            match draft(&catalog, policy) {
                Some(text) => {
                    use std::io::Write as _;
                    let file = std::fs::OpenOptions::new().write(true).create_new(true).open(path);
                    file.and_then(|mut file| file.write_all(text.as_bytes()))
                        .with_context(|| path.display().to_string())?;
                    println!("draft written to {}: read it before you use it", path.display());
                }
                None => println!("no draft: a policy names every table"),
            }
        }
        match findings.len() {
            0 => println!("clean: {} relations, no findings", catalog.relations.len()),
            count => println!("{count} findings in {} relations", catalog.relations.len()),
        }
        Ok(ExitCode::from(u8::from(!findings.is_empty())))
    }
}

/// A policy file for the tables that no policy names; `None` when there are none.
pub fn draft(catalog: &Catalog, policy: &Policy) -> Option<String> {
    let mut missing: Vec<&Relation> = catalog
        .relations
        .values()
        .filter(|relation| relation.kind != RelationKind::Sequence)
        // A partition is covered by the table that it is a partition of.
        .filter(|relation| relation.parents.is_empty())
        .filter(|relation| effective_policy(catalog, policy, relation).is_none())
        .collect();
    missing.sort_by_key(|relation| relation.relation_name());
    if missing.is_empty() {
        return None;
    }
    let tenant = tenant_column(catalog);
    let mut rules = direct_rules(catalog, &missing, tenant.as_ref().map(|(name, _)| name.as_str()));
    extend_through(catalog, policy, &missing, &mut rules);

    let mut text = String::from(
        "# Drafted by hedgerow scan from the live schema: read every line before you use it.\n\
         engine: postgres\nmode: enforce\n",
    );
    if let Some((column, tenant_type)) = &tenant {
        let _ = writeln!(text, "tenant: {{column: {}, type: {tenant_type}}}", scalar(column));
    }
    text.push_str("tables:\n");
    for relation in missing {
        let name = relation.relation_name();
        let rule = rules.get(&name).map_or(
            "deny   # no tenant was found: shared, if every tenant may read it",
            String::as_str,
        );
        let key = name::spell(&[&relation.schema, &relation.name]);
        let _ = writeln!(text, "  {}: {rule}", scalar(&key));
    }
    Some(text)
}

/// The tenant column that most tables have, and its type in a policy's words.
fn tenant_column(catalog: &Catalog) -> Option<(String, &'static str)> {
    let mut counts: BTreeMap<(&str, &'static str), usize> = BTreeMap::new();
    for relation in catalog.relations.values() {
        for column in &relation.columns {
            let known = TENANT_COLUMNS.iter().find(|name| **name == column.name);
            if let (Some(name), Some(kind)) = (known, tenant_type(&column.type_name)) {
                *counts.entry((*name, kind)).or_default() += 1;
            }
        }
    }
    let rank = |name: &str| TENANT_COLUMNS.iter().position(|known| *known == name);
    let best =
        counts.into_iter().max_by_key(|((name, _), count)| (*count, std::cmp::Reverse(rank(name))));
    best.map(|((name, kind), _)| (name.to_owned(), kind))
}

fn tenant_type(type_name: &str) -> Option<&'static str> {
    match type_name {
        "uuid" => Some("uuid"),
        "text" | "varchar" | "bpchar" => Some("text"),
        "int2" | "int4" | "int8" => Some("int"),
        _ => None,
    }
}

/// Tables with the tenant column, and the tables of tenants that it refers to.
fn direct_rules(
    catalog: &Catalog,
    missing: &[&Relation],
    tenant: Option<&str>,
) -> BTreeMap<RelationName, String> {
    let Some(tenant) = tenant else { return BTreeMap::new() };
    let mut rules = BTreeMap::new();
    for relation in missing {
        if relation.column(tenant).is_some() {
            rules.insert(relation.relation_name(), tenant_rule(tenant));
        }
    }
    let referred: BTreeSet<(RelationName, &String)> = catalog
        .relations
        .values()
        .flat_map(|relation| &relation.foreign_keys)
        .filter(|key| matches!(key.columns.as_slice(), [column] if column == tenant))
        .filter_map(|key| {
            let parent = RelationName::new(&key.parent_schema, &key.parent_name);
            Some((parent, key.parent_columns.first()?))
        })
        .collect();
    for (parent, key) in referred {
        if missing.iter().any(|relation| relation.relation_name() == parent) {
            rules.entry(parent).or_insert_with(|| tenant_rule(key));
        }
    }
    rules
}

fn tenant_rule(column: &str) -> String {
    format!("{{tenant: {}}}", scalar(&name::spell(&[column])))
}

/// Tables without a tenant column whose foreign key leads to a table that has one; again and again,
/// until no more are found.
fn extend_through(
    catalog: &Catalog,
    policy: &Policy,
    missing: &[&Relation],
    rules: &mut BTreeMap<RelationName, String>,
) {
    loop {
        let mut found = Vec::new();
        for relation in missing.iter().filter(|r| !rules.contains_key(&r.relation_name())) {
            let through = relation.foreign_keys.iter().find_map(|key| {
                let ([column], [parent_column]) =
                    (key.columns.as_slice(), key.parent_columns.as_slice())
                else {
                    return None;
                };
                let parent = RelationName::new(&key.parent_schema, &key.parent_name);
                let named = catalog
                    .relation(&parent)
                    .and_then(|parent| effective_policy(catalog, policy, parent))
                    .is_some_and(|rule| {
                        is_protected(rule) && !matches!(rule.protection, Protection::Deny)
                    });
                (named || rules.contains_key(&parent)).then(|| {
                    let target =
                        name::spell(&[&key.parent_schema, &key.parent_name, parent_column]);
                    let column = name::spell(&[column]);
                    format!("{{tenant_through: {{{}: {}}}}}", scalar(&column), scalar(&target))
                })
            });
            if let Some(rule) = through {
                found.push((relation.relation_name(), rule));
            }
        }
        if found.is_empty() {
            return;
        }
        rules.extend(found);
    }
}

/// A YAML scalar: bare when it is a plain name, else in double quotes.
fn scalar(text: &str) -> String {
    let plain = |c: char| c.is_ascii_alphanumeric() || c == '_' || c == '.';
    let word = text.starts_with(|c: char| c.is_ascii_alphabetic());
    let reserved = ["true", "false", "yes", "no", "on", "off", "null", "y", "n"];
    if word && text.chars().all(plain) && !reserved.contains(&text.to_lowercase().as_str()) {
        return text.to_owned();
    }
    // JSON strings are YAML strings.
    serde_json::Value::from(text).to_string()
}

#[cfg(test)]
mod tests {
    use super::*;
    use crate::catalog::{Column, ForeignKey};
    use crate::ids::PolicyEpoch;

    fn relation(name: &str, columns: &[&str], keys: &[(&str, &str)]) -> (RelationName, Relation) {
        let relation = Relation {
            schema: "public".to_owned(),
            name: name.to_owned(),
            oid: 0,
            kind: RelationKind::Table,
            columns: columns
                .iter()
                .map(|name| Column {
                    name: (*name).to_owned(),
                    type_schema: "pg_catalog".to_owned(),
                    type_name: "uuid".to_owned(),
                    not_null: true,
                    has_default: false,
                    generated: false,
                    ..Column::default()
                })
                .collect(),
            primary_key: Vec::new(),
            unique_keys: Vec::new(),
            foreign_keys: keys
                .iter()
                .map(|(column, parent)| ForeignKey {
                    columns: vec![(*column).to_owned()],
                    parent_schema: "public".to_owned(),
                    parent_name: (*parent).to_owned(),
                    parent_columns: vec!["id".to_owned()],
                })
                .collect(),
            parents: Vec::new(),
            rls_enabled: false,
            rls_forced: false,
            security_invoker: false,
            security_barrier: false,
            owner: "owner".to_owned(),
        };
        (relation.relation_name(), relation)
    }

    #[test]
    fn a_draft_follows_tenant_columns_and_foreign_keys_and_denies_the_rest() {
        let catalog = Catalog {
            relations: [
                relation("orgs", &["id"], &[]),
                relation("users", &["id", "org_id"], &[("org_id", "orgs")]),
                relation("sessions", &["id", "user_id"], &[("user_id", "users")]),
                relation("clicks", &["id", "session_id"], &[("session_id", "sessions")]),
                relation("Odd: \"one\"", &["id"], &[]),
                relation("Accounts", &["Id", "org_id"], &[]),
                relation("Notes", &["id", "accountId"], &[("accountId", "Accounts")]),
            ]
            .into_iter()
            .collect(),
            ..Catalog::default()
        };
        let text = draft(&catalog, &Policy::default()).unwrap();
        let compiled = crate::policy::load::compile(&[("draft.yaml", &text)], PolicyEpoch(1));
        let compiled = compiled.unwrap_or_else(|faults| panic!("{faults:#?}")).postgres;
        for relation in catalog.relations.values() {
            assert!(compiled.tables.contains_key(&relation.relation_name()), "{}", relation.name);
        }
        insta::assert_snapshot!(text);
    }
}
