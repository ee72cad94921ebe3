//! The draft of a policy for the tables that no policy names. Layer 6, pure.
//!
//! It errs on the side of `deny`: only a tenant column, or a foreign key that leads to one, makes a
//! table readable. Nothing is guessed to be shared.

use std::collections::{BTreeMap, BTreeSet};
use std::fmt::Write as _;

use crate::catalog::{Catalog, Relation, RelationKind};
use crate::catalog_load::{effective_policy, is_protected, policy_type};
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

/// A policy file for the tables that no policy names; `None` when there are none. `column` is the
/// tenant column, without it the likeliest is taken.
///
/// # Errors
/// No table has that column, in a type that tenants may have.
pub fn draft(
    catalog: &Catalog,
    policy: &Policy,
    column: Option<&str>,
) -> anyhow::Result<Option<String>> {
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
        return Ok(None);
    }
    let tenant = tenant_column(catalog, column);
    if let (Some(column), None) = (column, &tenant) {
        anyhow::bail!("no table has a column {column} of type uuid, text or integer");
    }
    let mut rules = tenant
        .as_ref()
        .map_or_else(BTreeMap::new, |tenant| direct_rules(catalog, &missing, tenant));
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
        let rule = match rules.get(&name) {
            Some(rule) => format!("{rule}{}", remark(relation)),
            None => format!("deny   # {}", why_denied(relation, tenant.as_ref())),
        };
        let key = name::spell(&[&relation.schema, &relation.name]);
        let _ = writeln!(text, "  {}: {rule}", scalar(&key));
    }
    Ok(Some(text))
}

/// What the reader should look at twice.
fn remark(relation: &Relation) -> &'static str {
    match relation.kind {
        RelationKind::View if !relation.security_invoker => {
            "   # a view, read with its owner's rights: does each row hold this tenant's data alone?"
        }
        RelationKind::MaterializedView => {
            "   # a materialized view: does each row hold this tenant's data alone?"
        }
        RelationKind::ForeignTable => "   # a foreign table: row-level security cannot hold on it",
        RelationKind::Table
        | RelationKind::PartitionedTable
        | RelationKind::View
        | RelationKind::Sequence => "",
    }
}

/// Why the draft denies a relation, and what else it might be.
fn why_denied(relation: &Relation, tenant: Option<&(String, &'static str)>) -> String {
    let Some((tenant, tenant_type)) = tenant else {
        return "no tenant column was found: hedgerow scan --tenant-column names it".to_owned();
    };
    if let Some(column) = relation.column(tenant) {
        return format!("its {tenant} is of type {}, which no tenant can have", column.type_name);
    }
    let key = match relation.primary_key.as_slice() {
        [key] => relation.column(key),
        _ => None,
    };
    let of_tenants = tenant
        .strip_suffix("_id")
        .is_some_and(|stem| relation.name.to_lowercase().trim_end_matches('s') == stem);
    match key {
        Some(key)
            if of_tenants
                && policy_type(&key.type_schema, &key.type_name) == Some(*tenant_type) =>
        {
            format!("the tenants themselves? then {{tenant: {}}}", key.name)
        }
        _ => "no tenant was found: shared, if every tenant may read it".to_owned(),
    }
}

/// The tenant column that most tables have (or `wanted`), and its type in a policy's words.
fn tenant_column(catalog: &Catalog, wanted: Option<&str>) -> Option<(String, &'static str)> {
    let mut counts: BTreeMap<(&str, &'static str), usize> = BTreeMap::new();
    for relation in catalog.relations.values() {
        for column in &relation.columns {
            let likely = match wanted {
                Some(wanted) => wanted == column.name,
                None => TENANT_COLUMNS.contains(&column.name.as_str()),
            };
            if let (true, Some(kind)) =
                (likely, policy_type(&column.type_schema, &column.type_name))
            {
                *counts.entry((column.name.as_str(), kind)).or_default() += 1;
            }
        }
    }
    let rank = |name: &str| TENANT_COLUMNS.iter().position(|known| *known == name);
    let best =
        counts.into_iter().max_by_key(|((name, _), count)| (*count, std::cmp::Reverse(rank(name))));
    best.map(|((name, kind), _)| (name.to_owned(), kind))
}

/// Tables with the tenant column, and the tables of tenants that it refers to.
fn direct_rules(
    catalog: &Catalog,
    missing: &[&Relation],
    (tenant, usual): &(String, &'static str),
) -> BTreeMap<RelationName, String> {
    let mut rules = BTreeMap::new();
    let rule = |relation: &Relation, column: &str| {
        let found = relation.column(column)?;
        let kind = policy_type(&found.type_schema, &found.type_name)?;
        let spelled = scalar(&name::spell(&[column]));
        Some(if kind == *usual {
            format!("{{tenant: {spelled}}}")
        } else {
            format!("{{tenant: {{column: {spelled}, type: {kind}}}}}")
        })
    };
    for relation in missing {
        if let Some(rule) = rule(relation, tenant) {
            rules.insert(relation.relation_name(), rule);
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
        let found = missing.iter().find(|relation| relation.relation_name() == parent);
        if let Some(rule) = found.and_then(|relation| rule(relation, key)) {
            rules.entry(parent).or_insert(rule);
        }
    }
    rules
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
        let text = draft(&catalog, &Policy::default(), None).unwrap().unwrap();
        let compiled = crate::policy::load::compile(&[("draft.yaml", &text)], PolicyEpoch(1));
        let compiled = compiled.unwrap_or_else(|faults| panic!("{faults:#?}")).postgres;
        for relation in catalog.relations.values() {
            assert!(compiled.tables.contains_key(&relation.relation_name()), "{}", relation.name);
        }
        insta::assert_snapshot!(text);
    }
}
