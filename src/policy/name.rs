//! Names in policy files: `public.users`, `users`, `public."Customers"`, `metrics.*`. Layer 1, pure.
//!
//! An unquoted part is what PostgreSQL would read it as, which is why capital letters outside
//! double quotes are refused: folded or not, half of the readers would be wrong, and an entry that
//! names no table must not leave the table to a wider pattern.

use crate::ids::RelationName;

/// One part of a dotted name.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Part {
    /// The part, unquoted.
    pub text: String,
    /// Whether an unquoted `*` stands in it.
    pub pattern: bool,
}

/// What an entry of `tables` names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum EntryName {
    /// One relation.
    Exact(RelationName),
    /// All relations that match.
    Pattern(super::RelationPattern),
}

/// Splits a dotted name into its parts.
///
/// # Errors
/// What is wrong with the name, in plain words.
pub fn parts(text: &str) -> Result<Vec<Part>, String> {
    let mut parts = Vec::new();
    let mut rest = text;
    loop {
        let (part, after) = match rest.strip_prefix('"') {
            Some(quoted) => quoted_part(quoted)?,
            None => bare_part(rest)?,
        };
        parts.push(part);
        match after.strip_prefix('.') {
            Some(next) => rest = next,
            None if after.is_empty() => return Ok(parts),
            None => return Err("a `.` must follow a closing quote".to_owned()),
        }
    }
}

/// Reads up to the closing quote; `""` stands for one quote.
fn quoted_part(text: &str) -> Result<(Part, &str), String> {
    let mut name = String::new();
    let mut rest = text;
    loop {
        let Some((head, tail)) = rest.split_once('"') else {
            return Err("a double quote is not closed".to_owned());
        };
        name.push_str(head);
        match tail.strip_prefix('"') {
            Some(next) => {
                name.push('"');
                rest = next;
            }
            None if name.is_empty() => return Err("a part is empty".to_owned()),
            None => return Ok((Part { text: name, pattern: false }, tail)),
        }
    }
}

/// Reads up to the next dot.
fn bare_part(text: &str) -> Result<(Part, &str), String> {
    let (name, rest) = text.split_at(text.find('.').unwrap_or(text.len()));
    if name.is_empty() {
        return Err("a part is empty".to_owned());
    }
    if name.chars().any(char::is_uppercase) {
        return Err(format!(
            "write '\"{name}\"' in double quotes if the name has capital letters, else `{}`",
            name.to_lowercase()
        ));
    }
    let allowed = |c: char| c.is_alphanumeric() || matches!(c, '_' | '$' | '*');
    if let Some(other) = name.chars().find(|c| !allowed(*c)) {
        return Err(format!(
            "a part with the character `{}` must stand in double quotes",
            other.escape_default()
        ));
    }
    Ok((Part { text: name.to_owned(), pattern: name.contains('*') }, rest))
}

/// Writes a name so that [`parts`] reads the same parts: in double quotes where it must be.
pub fn spell(parts: &[&str]) -> String {
    let plain = |part: &str| {
        !part.is_empty()
            && !part.chars().any(char::is_uppercase)
            && part.chars().all(|c| c.is_alphanumeric() || matches!(c, '_' | '$'))
    };
    let spelled = parts.iter().map(|part| match plain(part) {
        true => (*part).to_owned(),
        false => format!("\"{}\"", part.replace('"', "\"\"")),
    });
    spelled.collect::<Vec<_>>().join(".")
}

/// The name of an entry in `tables`.
///
/// # Errors
/// What is wrong with the name.
pub fn entry(text: &str) -> Result<EntryName, String> {
    let (schema, name) = match <[Part; 2]>::try_from(parts(text)?) {
        Ok([schema, name]) => (schema, name),
        Err(other) => match <[Part; 1]>::try_from(other) {
            Ok([name]) if name.pattern => {
                return Err(format!(
                    "a pattern needs its schema: `public.{0}` or `*.{0}`",
                    name.text
                ));
            }
            Ok([name]) => (Part { text: "public".to_owned(), pattern: false }, name),
            Err(_) => return Err("a table is named `schema.table`".to_owned()),
        },
    };
    if is_system_schema(&schema.text) {
        return Err(
            "the system catalogs are judged by Hedgerow itself, no policy names them".to_owned()
        );
    }
    if !schema.pattern && !name.pattern {
        return Ok(EntryName::Exact(RelationName::new(schema.text, name.text)));
    }
    let literal_star = |part: &Part| !part.pattern && part.text.contains('*');
    if literal_star(&schema) || literal_star(&name) {
        return Err("a pattern cannot hold a quoted `*`".to_owned());
    }
    Ok(EntryName::Pattern(super::RelationPattern { schema: schema.text, name: name.text }))
}

/// Functions of `pg_catalog` that are closed and that a policy may open. They cost time, or read the
/// session's own state: nothing of another tenant's, and nothing of the server's.
pub const OPENED_BY_POLICY: &[&str] = &["pg_sleep", "pg_sleep_for", "pg_sleep_until"];

/// A function's schema and name; `public` when no schema is given.
///
/// # Errors
/// What is wrong with the name.
pub fn function(text: &str) -> Result<(String, String), String> {
    let parts = parts(text)?;
    if parts.iter().any(|part| part.pattern) {
        return Err("functions are allowed one by one, without `*`".to_owned());
    }
    match parts.as_slice() {
        [name] => Ok(("public".to_owned(), name.text.clone())),
        [schema, name]
            if schema.text == "pg_catalog" && !OPENED_BY_POLICY.contains(&name.text.as_str()) =>
        {
            Err(format!(
                "of PostgreSQL's own functions a policy opens only {}; the others are open or closed by \
                 what they can do (docs/functions.md)",
                OPENED_BY_POLICY.join(", ")
            ))
        }
        [schema, name] => Ok((schema.text.clone(), name.text.clone())),
        _ => Err("a function is named `schema.function`, without arguments".to_owned()),
    }
}

/// A parent's column: `schema.table.column`, or `table.column` in `public`.
///
/// # Errors
/// What is wrong with the name.
pub fn parent_column(text: &str) -> Result<(RelationName, String), String> {
    let parts = parts(text)?;
    if parts.iter().any(|part| part.pattern) {
        return Err("the parent is one column of one table, without `*`".to_owned());
    }
    match parts.as_slice() {
        [table, column] => Ok((RelationName::new("public", &table.text), column.text.clone())),
        [schema, table, column] => {
            Ok((RelationName::new(&schema.text, &table.text), column.text.clone()))
        }
        _ => Err("the parent is named `schema.table.column`".to_owned()),
    }
}

/// A column's name.
///
/// # Errors
/// What is wrong with the name.
pub fn column(text: &str) -> Result<String, String> {
    match parts(text)?.as_slice() {
        [Part { text, pattern: false }] => Ok(text.clone()),
        _ => Err("a column is one name without `.` and `*`".to_owned()),
    }
}

/// Whether PostgreSQL keeps the schema for itself: those that begin with `pg_`, and
/// `information_schema`.
pub fn is_system_schema(schema: &str) -> bool {
    schema.starts_with("pg_") || schema == "information_schema"
}

#[cfg(test)]
mod tests {
    use super::super::RelationPattern;
    use super::*;

    #[test]
    fn names_are_read_as_postgresql_reads_them() {
        let exact = |schema, name| Ok(EntryName::Exact(RelationName::new(schema, name)));
        assert_eq!(entry("public.users"), exact("public", "users"));
        assert_eq!(entry("users"), exact("public", "users"));
        assert_eq!(entry("public.\"Customers\""), exact("public", "Customers"));
        assert_eq!(entry("\"a.b\".\"c\"\"d\""), exact("a.b", "c\"d"));
        assert_eq!(entry("s.\"a*\""), exact("s", "a*"));
        let pattern = |schema: &str, name: &str| {
            Ok(EntryName::Pattern(RelationPattern { schema: schema.into(), name: name.into() }))
        };
        assert_eq!(entry("metrics.*"), pattern("metrics", "*"));
        assert_eq!(entry("*.*"), pattern("*", "*"));
        assert_eq!(function("slugify"), Ok(("public".into(), "slugify".into())));
        assert_eq!(
            parent_column("public.cloud_accounts.id"),
            Ok((RelationName::new("public", "cloud_accounts"), "id".into()))
        );
        assert_eq!(column("\"tenantId\""), Ok("tenantId".into()));
    }

    #[test]
    fn a_name_that_is_spelled_reads_as_it_was() {
        for part in ["users", "Users", "a.b", "c\"d", "a*", "ünder", "x y", "ÄB", "a-b", "1"] {
            let spelled = spell(&["public", part]);
            assert_eq!(
                entry(&spelled),
                Ok(EntryName::Exact(RelationName::new("public", part))),
                "{spelled}"
            );
            assert_eq!(column(&spell(&[part])), Ok(part.to_owned()));
        }
    }

    #[test]
    fn unclear_names_are_refused() {
        for text in [
            "",
            ".",
            "a.",
            ".a",
            "a.b.c",
            "Users",
            "public.Users",
            "\"open",
            "\"\"",
            "\"a\"b",
            "a-b",
            "a b",
            "*",
            "pg_catalog.pg_class",
            "information_schema.tables",
            "*.\"a*\"",
        ] {
            assert!(entry(text).is_err(), "{text}");
        }
        assert!(function("public.*").is_err() && function("a.b.c").is_err());
        assert!(column("a.b").is_err() && column("tenantId").is_err() && column("*").is_err());
        assert!(parent_column("id").is_err() && parent_column("a.*.id").is_err());
    }
}
