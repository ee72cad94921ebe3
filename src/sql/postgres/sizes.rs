//! Functions that tell how large a relation or a database is, which is made of all tenants' rows: a call is
//! sent with NULL for what it asks of, and so answers NULL, as for a relation that is not there. Layer 2.
//!
//! Tools ask for sizes among other things (`\dt+` of psql): refused, they would show nothing at all.

use super::tree::Tree;

/// The functions, all of them strict, and the type of their first argument, in which NULL is written.
const SIZES: &[(&str, &str)] = &[
    ("pg_database_size", "name"),
    ("pg_indexes_size", "regclass"),
    ("pg_relation_size", "regclass"),
    ("pg_table_size", "regclass"),
    ("pg_tablespace_size", "name"),
    ("pg_total_relation_size", "regclass"),
];

/// The type in which such a function is given NULL; `None` for another function.
pub fn unknown_of(name: &str) -> Option<&'static str> {
    SIZES.iter().find(|(known, _)| *known == name).map(|(_, type_name)| *type_name)
}

/// Whether a node is a call of such a function, in whatever schema.
pub fn is_size(node: &Tree<'_>) -> bool {
    called(node).is_some()
}

/// Whether a call of such a function asks of nothing.
pub fn asks_of_nothing(call: &Tree<'_>) -> bool {
    let ([argument], Some(type_name)) = (call.at("args").items(), called(call)) else {
        return false;
    };
    let cast = argument.at("type_name");
    argument.is("TypeCast")
        && argument.at("arg").is("A_Const")
        && argument.at("arg").at("isnull").truth()
        && cast.at("array_bounds").is_absent()
        && cast.at("names").name_parts().is_some_and(|name| name == [type_name])
}

fn called(node: &Tree<'_>) -> Option<&'static str> {
    let name = node.at("funcname").items().last().and_then(Tree::text)?;
    unknown_of(name).filter(|_| node.is("FuncCall"))
}

#[cfg(test)]
mod tests {
    use crate::error::DenialCode;
    use crate::sql::Limits;
    use crate::sql::postgres::decide;
    use crate::sql::postgres::tests::{catalog, policy, principal};

    fn sent(sql: &str) -> Result<String, DenialCode> {
        let decided = decide(sql, &policy(), &catalog(), &principal(), Limits::default());
        let decided = decided.map_err(|denial| denial.code)?;
        Ok(decided[0].guarded.text().replace('"', "").to_lowercase())
    }

    #[test]
    fn a_size_is_asked_of_nothing() {
        for (sql, expected) in [
            ("SELECT pg_table_size('customers')", "select pg_table_size(null::regclass)"),
            (
                "SELECT pg_catalog.pg_relation_size(c.oid, 'main') FROM pg_class c",
                "select pg_catalog.pg_relation_size(null::regclass) from pg_class as c",
            ),
            (
                "SELECT pg_size_pretty(pg_database_size(current_database()))",
                "select pg_size_pretty(pg_database_size(null::name))",
            ),
        ] {
            let text = sent(sql).unwrap();
            assert_eq!(
                text.replace("pg_catalog.pg_class", "pg_class").replace(" as c", " c"),
                expected.replace(" as c", " c"),
                "{sql}"
            );
        }
    }

    #[test]
    fn a_size_that_would_be_told_is_refused() {
        for sql in [
            "SELECT metrics.pg_table_size('customers')",
            "SELECT pg_table_size(VARIADIC ARRAY[1])",
            "COPY customers (id) FROM STDIN WHERE pg_table_size('customers') > 1",
            "CREATE TEMP TABLE t (a bigint DEFAULT pg_table_size('customers'))",
            "PREPARE p AS SELECT pg_table_size(DISTINCT 'customers')",
        ] {
            let sent = sent(sql);
            assert!(
                sent.is_err() || sent.as_ref().is_ok_and(|text| !text.contains("customers'")),
                "{sql} {sent:?}"
            );
        }
    }
}
