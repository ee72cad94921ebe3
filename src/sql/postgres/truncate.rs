//! TRUNCATE by identities that the policy's `ddl` names: fixtures and tests empty reference data. Layer 2.
//!
//! It empties only tables that every tenant reads. What goes with them must be such tables too: partitions
//! and children always, with CASCADE every table whose foreign keys lead to them.

use super::classify::Class;
use super::codes;
use super::env::{Env, Resolved};
use super::tree::Tree;
use crate::error::{Denial, DenialCode};
use crate::ids::RelationName;
use crate::mutant;
use crate::policy::Protection;
use crate::sql::{Kind, RelationUse};

/// Judges a TRUNCATE of a caller that may change the schema.
///
/// # Errors
/// HR1002 for a table that belongs to tenants, HR1009 for one that would be emptied with it; the denials of
/// relations that are not known or not available.
pub fn judge(statement: &Tree<'_>, env: Env<'_>) -> Result<Class, Denial> {
    let refused = || Denial::of(DenialCode::StatementKind, "TRUNCATE");
    let mut named = Vec::new();
    let mut relations = Vec::new();
    for relation in statement.at("relations").items() {
        let name = relation.at("relname").text().ok_or_else(refused)?;
        let schema = relation.at("schemaname").text();
        let resolved = env.resolve(relation.at("catalogname").text(), schema, name)?;
        let Resolved::Table(table) = resolved else { return Err(refused()) };
        if !is_shared(&table.name, env) && !mutant::on("truncate-tenants") {
            return Err(refused());
        }
        relations.push(RelationUse {
            relation: table.name.clone(),
            rule: std::sync::Arc::clone(&table.policy.rule),
        });
        named.push(table.name);
    }
    let cascade = statement.at("behavior").number() == Some(codes::DROP_CASCADE);
    if let Some(other) = protected_with(&named, cascade, env)
        && !mutant::on("truncate-with")
    {
        return Err(Denial::of(DenialCode::LeakPossible, other.to_string()));
    }
    Ok(Class { kind: Kind::Truncate, relations, protected: false, rewritten: false })
}

/// By the policy's own words: what break-glass widens is not emptied.
fn is_shared(name: &RelationName, env: Env<'_>) -> bool {
    env.own_rule(name).is_some_and(|rule| rule.protection == Protection::Shared)
}

/// A table that would be emptied with those named, and is not for every tenant.
fn protected_with(named: &[RelationName], cascade: bool, env: Env<'_>) -> Option<RelationName> {
    let mut emptied: Vec<RelationName> = named.to_vec();
    let mut at = 0;
    while let Some(parent) = emptied.get(at).cloned() {
        at += 1;
        for (name, relation) in &env.catalog.relations {
            let is = |schema: &str, table: &str| schema == parent.schema && table == parent.name;
            let inherits = relation.parents.iter().any(|(schema, table)| is(schema, table));
            let refers =
                relation.foreign_keys.iter().any(|key| is(&key.parent_schema, &key.parent_name));
            if !(inherits || cascade && refers) || emptied.contains(name) {
                continue;
            }
            if !is_shared(name, env) {
                return Some(name.clone());
            }
            emptied.push(name.clone());
        }
    }
    None
}
