//! `search_path` as clients set it: names are resolved by the path that a fresh session has, so a client
//! may set that path, in any spelling, and no other. Layer 2.
//!
//! Drivers and frameworks send `SET search_path TO public` on every connection; refused, they do not
//! connect. A path that would change what a bare name means is refused: relations are sent with their
//! schema, but functions, operators and types are found by the server's path.

use super::tree::Tree;
use crate::catalog::Catalog;

/// What stands for the schema of the session's role.
const USER: &str = "$user";
/// Searched first, whether it is named or not.
const CATALOG: &str = "pg_catalog";

/// Whether `SET search_path TO …` says the path that the session has anyway.
pub fn is_unchanged_by(statement: &Tree<'_>, catalog: &Catalog) -> bool {
    let names: Option<Vec<&str>> = statement
        .at("args")
        .items()
        .iter()
        .map(|name| name.at("val").at("").text().filter(|_| name.is("A_Const")))
        .collect();
    names.is_some_and(|names| says_the_same(&names, catalog))
}

/// The same for the setting's text, as a start parameter has it: `"$user", public`.
pub fn is_unchanged_by_text(text: &str, catalog: &Catalog) -> bool {
    split(text).is_some_and(|names| {
        let names: Vec<&str> = names.iter().map(String::as_str).collect();
        says_the_same(&names, catalog)
    })
}

fn says_the_same(names: &[&str], catalog: &Catalog) -> bool {
    let mut path: Vec<&str> = Vec::new();
    for name in names {
        let schema = match *name {
            USER if is_there(&catalog.role, catalog) => catalog.role.as_str(),
            USER => continue,
            // Behind another schema it would no longer be searched first.
            CATALOG if path.is_empty() => continue,
            CATALOG => return false,
            schema => schema,
        };
        if !path.contains(&schema) {
            path.push(schema);
        }
    }
    path.iter().eq(catalog.search_path.iter())
}

/// Whether the schema of that name is searched, or holds anything that could be found there.
fn is_there(schema: &str, catalog: &Catalog) -> bool {
    catalog.search_path.iter().any(|searched| searched == schema)
        || catalog.relations.keys().any(|relation| relation.schema == schema)
        || catalog.functions.iter().any(|function| function.schema == schema)
        || catalog.user_types.iter().any(|(owner, _)| owner == schema)
}

/// The names of a list as PostgreSQL's SplitIdentifierString reads it: bare ones folded, quoted ones as
/// they are. `None` where it would not read it.
fn split(text: &str) -> Option<Vec<String>> {
    let mut names = Vec::new();
    let mut rest = text.trim_matches(is_space);
    loop {
        let after = match rest.strip_prefix('"') {
            Some(quoted) => {
                let mut name = String::new();
                let mut rest = quoted;
                loop {
                    let (part, behind) = rest.split_once('"')?;
                    name.push_str(part);
                    match behind.strip_prefix('"') {
                        Some(more) => {
                            name.push('"');
                            rest = more;
                        }
                        None => {
                            rest = behind;
                            break;
                        }
                    }
                }
                names.push(name);
                rest
            }
            None => {
                let end = rest.find(|c| c == ',' || is_space(c)).unwrap_or(rest.len());
                let (name, behind) = rest.split_at(end);
                // Another case than ASCII's is folded by the server's locale.
                if name.is_empty() || !name.is_ascii() {
                    return None;
                }
                names.push(name.to_ascii_lowercase());
                behind
            }
        };
        let after = after.trim_start_matches(is_space);
        if after.is_empty() {
            return Some(names);
        }
        rest = after.strip_prefix(',')?.trim_start_matches(is_space);
    }
}

const fn is_space(character: char) -> bool {
    matches!(character, ' ' | '\t' | '\n' | '\r' | '\u{b}' | '\u{c}')
}

#[cfg(test)]
mod tests {
    use super::*;

    fn catalog(role: &str, path: &[&str]) -> Catalog {
        let search_path = path.iter().map(|schema| (*schema).to_owned()).collect();
        Catalog { live: true, role: role.to_owned(), search_path, ..Catalog::default() }
    }

    #[test]
    fn the_path_that_is_there_can_be_said_in_any_spelling() {
        let plain = catalog("app", &["public"]);
        for text in [
            "public",
            "PUBLIC",
            " \"public\" ",
            "\"$user\", public",
            "$user,public",
            "pg_catalog, public",
            "public, public",
        ] {
            assert!(is_unchanged_by_text(text, &plain), "{text}");
        }
        let own = catalog("app", &["app", "public"]);
        for text in ["\"$user\", public", "app, public", "\"$user\", app, public"] {
            assert!(is_unchanged_by_text(text, &own), "{text}");
        }
    }

    #[test]
    fn no_other_path_is_the_same() {
        let plain = catalog("app", &["public"]);
        for text in [
            "",
            "\"\"",
            "metrics",
            "public, metrics",
            "metrics, public",
            "public, pg_catalog",
            "public, pg_temp",
            "pg_temp, public",
            "\"Public\"",
            "\"public",
            "public,",
            "public;",
            "public metrics",
            "app, public",
            "'public'",
            "\"$user\"",
        ] {
            assert!(!is_unchanged_by_text(text, &plain), "{text}");
        }
        assert!(!is_unchanged_by_text("public, app", &catalog("app", &["app", "public"])));
        // The role's schema is not searched by itself, but there.
        let mut hidden = catalog("app", &["public"]);
        hidden.user_types.insert(("app".to_owned(), "text".to_owned()));
        assert!(!is_unchanged_by_text("\"$user\", public", &hidden));
        assert!(is_unchanged_by_text("public", &hidden));
    }
}
