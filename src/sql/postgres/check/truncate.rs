//! TRUNCATE in the tree that would be sent: nothing that holds a tenant's rows is emptied. Layer 2.

use super::super::codes;
use super::super::env::{Env, Resolved};
use super::super::tree::Tree;
use super::verify::{leak, unguarded};
use crate::error::Denial;
use crate::ids::RelationName;
use crate::policy::Protection;

/// Demands a caller that may change the schema, and of every table that would be empty afterwards that every
/// tenant reads it. The other way round from the decision: from each protected table up, not from the named
/// ones down.
///
/// # Errors
/// HR1008, HR1009.
pub(super) fn verify(statement: &Tree<'_>, env: Env<'_>) -> Result<(), Denial> {
    if !env.privileges.ddl {
        return Err(leak());
    }
    let mut named = Vec::new();
    for relation in statement.at("relations").items() {
        let name = relation.at("relname").text().ok_or_else(leak)?;
        let schema = relation.at("schemaname").text();
        match env.resolve(relation.at("catalogname").text(), schema, name)? {
            Resolved::Table(table) if !is_protected(&table.name, env) => named.push(table.name),
            Resolved::Table(_) | Resolved::Catalog { .. } => return Err(unguarded(name)),
        }
    }
    let cascade = statement.at("behavior").number() == Some(codes::DROP_CASCADE);
    let mut protected = env.catalog.relations.keys().filter(|name| is_protected(name, env));
    if named.is_empty() || protected.any(|name| reaches(name, &named, cascade, env)) {
        return Err(leak());
    }
    Ok(())
}

/// Whatever not every tenant reads, and what no policy names.
fn is_protected(name: &RelationName, env: Env<'_>) -> bool {
    !matches!(env.own_rule(name).as_deref(), Some(rule) if rule.protection == Protection::Shared)
}

/// Whether a table is emptied with one of those named: by what it inherits from, by what it refers to.
fn reaches(name: &RelationName, named: &[RelationName], cascade: bool, env: Env<'_>) -> bool {
    let mut seen = vec![name.clone()];
    let mut at = 0;
    while let Some(each) = seen.get(at).cloned() {
        at += 1;
        if named.contains(&each) {
            return true;
        }
        let Some(relation) = env.catalog.relation(&each) else { continue };
        let parents = relation.parents.iter().map(|(schema, table)| (schema, table));
        let keys = relation.foreign_keys.iter().filter(|_| cascade);
        let referred = keys.map(|key| (&key.parent_schema, &key.parent_name));
        for (schema, table) in parents.chain(referred) {
            let next = RelationName::new(schema.as_str(), table.as_str());
            if !seen.contains(&next) {
                seen.push(next);
            }
        }
    }
    false
}
