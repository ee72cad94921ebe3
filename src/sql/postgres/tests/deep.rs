//! What the client chooses the depth of, keys of parents, shapes.

use super::*;

#[test]
fn children_are_shown_by_a_key_that_is_unique_alone() {
    let orders = RelationName::new("public", "orders");
    let verdict = |keys: (&[&str], &[&[&str]])| {
        let owned =
            |key: &[&str]| key.iter().map(|column| (*column).to_owned()).collect::<Vec<_>>();
        let mut catalog = catalog();
        let parent = catalog.relations.get_mut(&orders).unwrap();
        parent.primary_key = owned(keys.0);
        parent.unique_keys = keys.1.iter().map(|key| owned(key)).collect();
        super::super::decide(
            "SELECT sku FROM items",
            &policy(),
            &catalog,
            &principal(),
            Limits::default(),
        )
        .map(|_| ())
        .map_err(|denial| denial.code)
    };
    assert_eq!(verdict((&["id"], &[])), Ok(()));
    assert_eq!(verdict((&["tenant_id", "id"], &[&["id"]])), Ok(()));
    assert_eq!(verdict((&["tenant_id", "id"], &[])), Err(DenialCode::LeakPossible));
    assert_eq!(verdict((&[], &[&["id", "note"]])), Err(DenialCode::LeakPossible));
}

/// The tables, with columns of types that go deep.
fn deep_catalog() -> Catalog {
    let mut catalog = catalog();
    let own = catalog.relations.get_mut(&RelationName::new("public", "customers")).unwrap();
    let of = |name: &str, type_name: &str| Column {
        name: name.to_owned(),
        type_schema: "pg_catalog".to_owned(),
        type_name: type_name.to_owned(),
        ..Column::default()
    };
    own.columns.extend([
        of("other", "jsonb"),
        of("tags", "_text"),
        of("span", "int4range"),
        of("doc", "tsvector"),
        of("query", "tsquery"),
        of("bytes", "bytea"),
    ]);
    catalog
}

#[test]
fn what_goes_as_deep_as_the_client_likes_is_shielded() {
    let catalog = deep_catalog();
    let sent = |condition: &str, from: &str| {
        let sql = format!("SELECT 1 FROM {from} WHERE {condition}");
        let limits = Limits::default();
        let decided = super::super::decide(&sql, &policy(), &catalog, &principal(), limits);
        decided.unwrap_or_else(|denial| panic!("{sql}: {denial:?}"))[0].guarded.text().to_owned()
    };
    let many = "%e".repeat(65);
    let query = "a&".repeat(201) + "a";
    let nested = format!("{}{}", "[".repeat(65), "]".repeat(65));
    for deep in [
        &format!("email LIKE '{many}'"),
        &format!("email NOT ILIKE '{many}'"),
        &format!("$1::text LIKE '{many}'"),
        &format!("doc @@ '{query}'"),
        &format!("doc @@ '{query}'::tsquery"),
        "doc @@ $1",
        "doc @@ $1::tsquery",
        "doc @@ query",
        "query @@ 'a'",
        "'a'::tsquery @@ doc",
        "query = 'a'",
        "query IN ('a', 'b')",
        "query = ANY ($1)",
        "query::text = 'a'",
        "$1::tsquery = 'a'",
        "'a'::tsquery = $1",
        "data @> $1",
        "data @> $1::jsonb",
        "$1::jsonb <@ data",
        "data @> other",
        "data -> 'a' <@ other",
        "$1::jsonb @> $2",
        &format!("data @> '{nested}'"),
        &format!("'{nested}'::jsonb <@ data"),
        "bytes::text = 'x'",
        "tags::text = 'x'",
        "credit::\"char\" = 'x'",
    ] {
        let sent = sent(deep, "customers");
        assert!(sent.contains("CASE WHEN"), "{sent}");
    }
    let few = "%e".repeat(64);
    for shallow in [
        &format!("email LIKE '{few}'"),
        "email ILIKE '%a_b%'",
        "email::text LIKE 'a%'",
        "doc @@ 'a & !(b <-> c)'",
        "doc @@ 'a'::tsquery",
        "doc = 'a'",
        "data @> '{\"a\": [{\"b\": 1}]}'",
        "data @> '{}'::jsonb",
        "'{}'::jsonb <@ data",
        "data -> 'a' @> '[1]'",
        "data = $1",
        "data ? $1",
        "data ->> 'a' = $1",
        "tags @> $1",
        "tags @> ARRAY[$1]",
        "tags && $1::text[]",
        "span @> $1",
        "span <@ $1::int4range",
        "name::varchar = 'x'",
        "data::text = 'x'",
    ] {
        let sent = sent(shallow, "customers");
        assert!(!sent.contains("CASE"), "{sent}");
    }
    // Columns of sub-selects, kept apart or not, and of other relations beside.
    for from in [
        "(SELECT tags, data, other FROM customers) c",
        "(SELECT tags AS tags, data, other FROM customers OFFSET 0) c, orders o",
        "(SELECT * FROM customers) c, orders o",
        "customers c JOIN orders o ON o.customer_id = c.id",
    ] {
        assert!(!sent("c.tags @> $1", from).contains("CASE"), "{from}");
        assert!(!sent("c.data @> '{}'", from).contains("CASE"), "{from}");
        let deep = sent("c.data @> $1", from);
        assert!(deep.contains("CASE") || deep.contains("OFFSET 0"), "{deep}");
    }
    // Documents of the client's own among the columns.
    let own = sent("x.j @> $2", "(SELECT $1::jsonb AS j, id FROM customers) x, orders o");
    assert!(own.contains("CASE") || own.contains("OFFSET 0"), "{own}");
}

#[test]
fn a_literal_that_decides_what_is_total_stays_in_the_shape() {
    let split =
        super::super::split("SELECT 1 FROM customers WHERE id = 5 AND data @> '{}'").unwrap();
    assert_eq!(split.blind(), "SELECT 1 FROM customers WHERE id = $1 AND data @> '{}'");
}
