//! The catalog as a file: what `hedgerow scan --catalog FILE` writes and `hedgerow explain
//! --catalog FILE` reads. Layer 1, pure.
//!
//! Refuses other versions and two relations of one name; lists are sorted, so that the file can be
//! kept in a repository and compared.

use std::collections::BTreeMap;

use serde::{Deserialize, Serialize};

use super::{Catalog, Function, ImpliedCast, ImpliedCheck, Relation};
use crate::ids::RelationName;

/// Version of the file's form.
const VERSION: u32 = 1;

#[derive(Serialize, Deserialize)]
#[serde(deny_unknown_fields)]
struct CatalogFile {
    version: u32,
    server_version: u32,
    role: String,
    search_path: Vec<String>,
    relations: Vec<Relation>,
    functions: Vec<Function>,
    user_operators: Vec<String>,
    user_types: Vec<(String, String)>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    extensions: Vec<String>,
    #[serde(default, skip_serializing_if = "BTreeMap::is_empty")]
    implied_operators: BTreeMap<String, Vec<(String, String)>>,
    #[serde(default, skip_serializing_if = "Vec::is_empty")]
    implied_casts: Vec<ImpliedCast>,
    #[serde(default)]
    implied_checks: Vec<ImpliedCheck>,
    /// Schema, relation, column.
    #[serde(default)]
    unsteady_columns: Vec<(String, String, String)>,
}

/// Why a text is not a catalog file.
#[derive(Debug, thiserror::Error)]
pub enum CatalogFileError {
    /// Not JSON of that form.
    #[error("{0}")]
    Json(#[from] serde_json::Error),
    /// Another version.
    #[error("its version is {0}, this program reads version {VERSION}")]
    Version(u32),
    /// Two relations of one name.
    #[error("it holds the relation {0} twice")]
    Twice(crate::ids::RelationName),
}

/// The catalog as JSON, sorted by name.
///
/// # Errors
/// When it cannot be written as JSON.
pub fn to_json(catalog: &Catalog) -> Result<String, CatalogFileError> {
    let mut relations: Vec<Relation> = catalog.relations.values().cloned().collect();
    relations.sort_by_key(Relation::relation_name);
    let mut functions = catalog.functions.clone();
    functions.sort_by(|a, b| (&a.schema, &a.name).cmp(&(&b.schema, &b.name)));
    let mut user_operators: Vec<String> = catalog.user_operators.iter().cloned().collect();
    user_operators.sort();
    let mut user_types: Vec<(String, String)> = catalog.user_types.iter().cloned().collect();
    user_types.sort();
    let unsteady = catalog.unsteady_columns.iter().flat_map(|(relation, columns)| {
        let RelationName { schema, name } = relation;
        columns.iter().map(|column| (schema.clone(), name.clone(), column.clone()))
    });
    let mut unsteady_columns: Vec<(String, String, String)> = unsteady.collect();
    unsteady_columns.sort();
    let mut extensions: Vec<String> = catalog.extensions.iter().cloned().collect();
    extensions.sort();
    let file = CatalogFile {
        version: VERSION,
        server_version: catalog.server_version,
        role: catalog.role.clone(),
        search_path: catalog.search_path.clone(),
        relations,
        functions,
        user_operators,
        user_types,
        extensions,
        implied_operators: catalog.implied_operators.clone(),
        implied_casts: catalog.implied_casts.clone(),
        implied_checks: catalog.implied_checks.clone(),
        unsteady_columns,
    };
    Ok(serde_json::to_string_pretty(&file)? + "\n")
}

/// The catalog of a file. It counts as live: a name that it does not hold is unknown.
///
/// # Errors
/// When the text is not a catalog file of this version.
pub fn from_json(text: &str) -> Result<Catalog, CatalogFileError> {
    let file: CatalogFile = serde_json::from_str(text)?;
    if file.version != VERSION {
        return Err(CatalogFileError::Version(file.version));
    }
    let mut catalog = Catalog {
        live: true,
        server_version: file.server_version,
        functions: file.functions,
        user_operators: file.user_operators.into_iter().collect(),
        user_types: file.user_types.into_iter().collect(),
        extensions: file.extensions.into_iter().collect(),
        implied_operators: file.implied_operators,
        implied_casts: file.implied_casts,
        implied_checks: file.implied_checks,
        search_path: file.search_path,
        role: file.role,
        ..Catalog::default()
    };
    for (schema, relation, column) in file.unsteady_columns {
        let relation = RelationName::new(&schema, &relation);
        catalog.unsteady_columns.entry(relation).or_default().insert(column);
    }
    for relation in file.relations {
        let name = relation.relation_name();
        if catalog.relations.insert(name.clone(), relation).is_some() {
            return Err(CatalogFileError::Twice(name));
        }
    }
    Ok(catalog)
}

#[cfg(test)]
mod tests {
    use super::*;

    const FILE: &str = r#"{
  "version": 1, "server_version": 150018, "role": "app", "search_path": ["public"],
  "relations": [{
    "schema": "public", "name": "orders", "oid": 16400, "kind": "table",
    "columns": [{"name": "id", "type_schema": "pg_catalog", "type_name": "int8",
      "not_null": true, "has_default": true, "generated": false}],
    "primary_key": ["id"], "unique_keys": [], "foreign_keys": [], "parents": [],
    "rls_enabled": true, "rls_forced": false, "security_invoker": false,
    "security_barrier": false, "owner": "owner"
  }],
  "functions": [], "user_operators": ["&&&"], "user_types": [["public", "mood"]]
}"#;

    #[test]
    fn what_runs_unnamed_is_kept() {
        let pair = |name: &str| ("public".to_owned(), name.to_owned());
        let mut catalog = from_json(FILE).unwrap();
        assert!(catalog.implied_operators.is_empty() && catalog.implied_casts.is_empty());
        catalog.implied_operators.insert("@@".to_owned(), vec![pair("leak")]);
        catalog.implied_checks.push(ImpliedCheck {
            domain: pair("known"),
            function: pair("is_known"),
            holders: [pair("known"), pair("_known")].into(),
        });
        catalog.implied_casts.push(ImpliedCast {
            source: pair("a"),
            target: pair("b"),
            function: pair("leak"),
            context: crate::catalog::CastContext::Assignment,
            sources: [pair("a")].into(),
            targets: [pair("b"), pair("_b")].into(),
        });
        let again = from_json(&to_json(&catalog).unwrap()).unwrap();
        assert_eq!(again.implied_operators, catalog.implied_operators);
        assert_eq!(again.implied_casts, catalog.implied_casts);
        assert_eq!(again.implied_checks, catalog.implied_checks);
    }

    #[test]
    fn a_catalog_comes_back_from_its_file() {
        let catalog = from_json(FILE).unwrap();
        assert!(catalog.live);
        let again = from_json(&to_json(&catalog).unwrap()).unwrap();
        assert_eq!(again.relations, catalog.relations);
        assert_eq!(again.user_types, catalog.user_types);
        assert_eq!(to_json(&again).unwrap(), to_json(&catalog).unwrap());
    }

    #[test]
    fn what_is_no_catalog_file_is_refused() {
        assert!(from_json("{}").is_err());
        assert!(from_json("[").is_err());
        let newer = FILE.replace("\"version\": 1", "\"version\": 2");
        assert!(matches!(from_json(&newer), Err(CatalogFileError::Version(2))));
        let value: serde_json::Value = serde_json::from_str(FILE).unwrap();
        let mut twice = value.clone();
        let relation = value["relations"][0].clone();
        twice["relations"].as_array_mut().unwrap().push(relation);
        assert!(matches!(from_json(&twice.to_string()), Err(CatalogFileError::Twice(_))));
    }
}
