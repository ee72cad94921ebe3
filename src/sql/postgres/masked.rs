//! Masked columns of a table that is written, judged on the client's tree. Layer 2.
//!
//! Where a masked column is read, its mask stands in its place ([`super::rewrite`]): whoever sees the
//! mask computes with the mask. A table that is *written* cannot be replaced by what shows it masked;
//! so its masked columns are replaced one by one in WHERE, SET and RETURNING, and what cannot be told
//! apart there is refused here:
//!
//! - A change of a masked column (UPDATE, DO UPDATE, MERGE): who sees `a***` and saves the row would
//!   write `a***`. INSERT gives a value that the caller knows.
//! - An INSERT into a masked column that a unique key holds: a duplicate-key error would tell whether
//!   the value is there.
//! - The column's bare name in a sub-query, where it may be the target's or another table's.
//! - The whole row, and every mention in ON CONFLICT and MERGE.

use super::codes;
use super::env::{Env, Resolved, Table};
use super::scope::{is_statement, visible_name};
use super::tree::Tree;
use crate::error::{Denial, DenialCode};

/// Judges every data change in the statement.
///
/// # Errors
/// HR1010.
pub fn judge(statement: &Tree<'_>, env: Env<'_>) -> Result<(), Denial> {
    statement.walk(&mut |node| {
        let writes = is_statement(node.kind()) || node.is("CopyStmt") && node.at("is_from").truth();
        if !writes || !node.at("relation").is("RangeVar") {
            return Ok(());
        }
        let relation = node.at("relation");
        let (Some(name), Some(visible)) = (relation.at("relname").text(), visible_name(relation))
        else {
            return Ok(());
        };
        let schema = relation.at("schemaname").text();
        match env.resolve(relation.at("catalogname").text(), schema, name)? {
            Resolved::Table(table) if table.is_masked(env) => {
                Target { visible, table: &table, env }.judge(node)
            }
            Resolved::Table(_) | Resolved::Catalog { .. } => Ok(()),
        }
    })
}

/// A table that is written, with masked columns.
struct Target<'t> {
    visible: &'t str,
    table: &'t Table<'t>,
    env: Env<'t>,
}

/// Where a column is named.
#[derive(Clone, Copy, PartialEq, Eq)]
enum Place {
    /// Where the rewriter puts the mask in its place.
    Own,
    /// Anywhere else.
    Beyond,
}

impl Target<'_> {
    /// The denial of a statement that touches a masked column, or `*` several.
    fn refused(&self, column: &str) -> Denial {
        Denial::of(DenialCode::ColumnDenied, format!("{}.{column}", self.visible))
    }

    fn is_masked(&self, column: Option<&str>) -> bool {
        self.table.masks(self.env).any(|(masked, _)| column == Some(masked))
    }

    fn judge(&self, change: &Tree<'_>) -> Result<(), Denial> {
        let changes = [
            if change.is("UpdateStmt") { change.at("target_list") } else { &Tree::None },
            change.at("on_conflict_clause").at("target_list"),
            change.at("on_conflict_clause").at("infer").at("index_elems"),
        ];
        let updates = change.at("merge_when_clauses").items().iter();
        let updates = updates
            .filter(|when| when.at("command_type").number() == Some(codes::CMD_UPDATE))
            .map(|when| when.at("target_list"));
        let mut changed = changes.into_iter().chain(updates).flat_map(Tree::items);
        if let Some(item) = changed.find(|item| self.is_masked(item.at("name").text())) {
            return Err(self.refused(item.at("name").text().unwrap_or("*")));
        }
        self.inserts(change)?;
        let returned = change.at("returning_clause").at("exprs").items();
        let alone = ["from_clause", "using_clause"].iter().all(|list| change.at(list).is_absent());
        let star = |item: &Tree<'_>| matches!(item.at("val").at("fields").items(), [only] if only.is("A_Star"));
        if returned.iter().any(star) && !alone {
            return Err(self.refused("*"));
        }
        match change.kind() {
            "InsertStmt" => {
                self.mentions(change.at("on_conflict_clause"), Place::Beyond)?;
                self.returned(returned)
            }
            "UpdateStmt" | "DeleteStmt" => {
                self.mentions(change.at("target_list"), Place::Own)?;
                self.mentions(change.at("where_clause"), Place::Own)?;
                self.returned(returned)
            }
            _ => ["join_condition", "merge_when_clauses", "returning_clause"]
                .iter()
                .try_for_each(|field| self.mentions(change.at(field), Place::Beyond)),
        }
    }

    /// INSERT, also MERGE's: no value for a masked column that a unique key holds.
    fn inserts(&self, change: &Tree<'_>) -> Result<(), Denial> {
        let merged = change.at("merge_when_clauses").items().iter();
        let mut lists: Vec<&Tree<'_>> = merged
            .filter(|when| when.at("command_type").number() == Some(codes::CMD_INSERT))
            .map(|when| when.at("target_list"))
            .collect();
        if change.is("InsertStmt") && !change.at("select_stmt").is_absent() {
            lists.push(change.at("cols"));
        }
        if change.is("CopyStmt") {
            lists.push(change.at("attlist"));
        }
        for list in lists {
            let given = |column: &str| {
                list.items().is_empty()
                    || list
                        .items()
                        .iter()
                        .any(|item| item.at("name").text().or_else(|| item.text()) == Some(column))
            };
            let mut masked = self.table.masks(self.env).map(|(column, _)| column);
            if let Some(column) = masked.find(|column| given(column) && self.is_key(column)) {
                return Err(self.refused(column));
            }
        }
        Ok(())
    }

    /// Whether a unique key holds the column, or may: an index over an expression is not looked into.
    fn is_key(&self, column: &str) -> bool {
        let Some(relation) = self.table.relation else { return false };
        let special = &self.env.catalog.posture.special_unique_indexes;
        relation
            .unique_keys
            .iter()
            .chain([&relation.primary_key])
            .any(|key| key.iter().any(|held| held == column))
            || special
                .iter()
                .any(|(schema, name, _)| *schema == relation.schema && *name == relation.name)
    }

    /// A RETURNING list: `*` and `row.*` are written out.
    fn returned(&self, items: &[Tree<'_>]) -> Result<(), Denial> {
        let star = |item: &&Tree<'_>| {
            item.at("val").at("fields").items().last().is_some_and(|last| last.is("A_Star"))
        };
        let plain = items.iter().filter(|item| !star(item));
        plain.into_iter().try_for_each(|item| self.mentions(item, Place::Own))
    }

    fn mentions(&self, tree: &Tree<'_>, place: Place) -> Result<(), Denial> {
        if tree.is("ColumnRef") {
            return self.mention(tree.at("fields").items(), place);
        }
        let place = if is_statement(tree.kind()) { Place::Beyond } else { place };
        tree.children().try_for_each(|child| self.mentions(child, place))
    }

    fn mention(&self, fields: &[Tree<'_>], place: Place) -> Result<(), Denial> {
        let parts: Vec<Option<&str>> = fields.iter().map(Tree::text).collect();
        let refused = match parts.as_slice() {
            // Bare, or the whole row.
            [only] => {
                *only == Some(self.visible) || place == Place::Beyond && self.is_masked(*only)
            }
            [.., row, None] => *row == Some(self.visible),
            [.., row, column] => {
                *column == Some(self.visible)
                    || *row == Some(self.visible)
                        && place == Place::Beyond
                        && self.is_masked(*column)
            }
            [] => false,
        };
        let column = parts.last().copied().flatten().filter(|name| *name != self.visible);
        if refused { Err(self.refused(column.unwrap_or("*"))) } else { Ok(()) }
    }
}

#[cfg(test)]
mod tests {
    use crate::catalog::{Catalog, Column, Relation, RelationKind};
    use crate::claims::{Claims, Principal, TenantClaim};
    use crate::error::DenialCode;
    use crate::ids::{PolicyEpoch, RelationName};
    use crate::policy::load::compile;
    use crate::sql::Limits;

    const POLICY: &str = "
tenant: {column: tenant_id, type: text}
tables:
  users: {columns: {email: {mask: \"left(email, 1) || '***'\", unless: {claim: role, in: [admin]}}, hash: deny}}
  cards: {columns: {digits: {mask: \"100 / limit_\"}, holder: {mask: \"NULL\"}}}
  notes: {columns: {body: {mask: \"lower(body)\"}}}
";

    fn relation(name: &str, columns: &[(&str, &str)], key: &[&str]) -> Relation {
        let columns = columns.iter().map(|(name, type_name)| Column {
            name: (*name).to_owned(),
            type_schema: "pg_catalog".to_owned(),
            type_name: (*type_name).to_owned(),
            not_null: false,
            has_default: false,
            generated: false,
            ..Column::default()
        });
        Relation {
            schema: "public".to_owned(),
            name: name.to_owned(),
            oid: 1,
            kind: RelationKind::Table,
            columns: columns.collect(),
            primary_key: vec!["id".to_owned()],
            unique_keys: vec![key.iter().map(|column| (*column).to_owned()).collect()],
            foreign_keys: Vec::new(),
            parents: Vec::new(),
            rls_enabled: false,
            rls_forced: false,
            security_invoker: false,
            security_barrier: false,
            owner: "o".to_owned(),
        }
    }

    fn catalog() -> Catalog {
        let users: &[_] = &[
            ("id", "int4"),
            ("tenant_id", "text"),
            ("email", "text"),
            ("name", "text"),
            ("hash", "text"),
        ];
        let cards: &[_] = &[
            ("id", "int4"),
            ("tenant_id", "text"),
            ("digits", "text"),
            ("limit_", "int4"),
            ("holder", "text"),
        ];
        let notes: &[_] =
            &[("id", "int4"), ("tenant_id", "text"), ("email", "text"), ("body", "text")];
        let relations = [
            relation("users", users, &["tenant_id", "email"]),
            relation("cards", cards, &[]),
            relation("notes", notes, &[]),
        ];
        let named = relations
            .into_iter()
            .map(|relation| (RelationName::new("public", relation.name.as_str()), relation));
        Catalog {
            live: true,
            search_path: vec!["public".to_owned()],
            relations: named.collect(),
            ..Catalog::default()
        }
    }

    fn decided(sql: &str, claims: &str, catalog: &Catalog) -> Result<String, DenialCode> {
        let policy = compile(&[("p", POLICY)], PolicyEpoch(1)).unwrap().postgres;
        let claims = Claims(serde_json::from_str(claims).unwrap());
        let principal = Principal::assumed(Some(TenantClaim::Text("t".to_owned())), claims);
        let verdict = super::super::decide(sql, &policy, catalog, &principal, Limits::default());
        verdict
            .map(|statements| statements[0].guarded.text().to_owned())
            .map_err(|denial| denial.code)
    }

    const MASK: &str = "left(\"users\".email, 1) || '***'";

    #[test]
    fn whoever_reads_sees_the_mask_and_computes_with_it() {
        let catalog = catalog();
        for sql in [
            "SELECT email FROM users",
            "SELECT * FROM users".replace('*', "id, email").as_str(),
            "SELECT row_to_json(users) FROM users".replace("users)", "users.*)").as_str(),
            "SELECT id FROM users WHERE email = 'a'",
            "SELECT id FROM users WHERE email::int > 1",
            "SELECT id FROM users ORDER BY email",
            "SELECT email, count(*) FROM users GROUP BY email HAVING email > 'a'",
            "SELECT n.id FROM notes n JOIN users USING (email)",
            "SELECT n.id FROM notes n LEFT JOIN users ON n.email = users.email",
            "SELECT n.id FROM notes n FULL JOIN users ON n.email = users.email",
            "SELECT (SELECT email FROM users LIMIT 1)",
            "WITH w AS (SELECT email FROM users) SELECT * FROM w",
            "SELECT email FROM users UNION SELECT email FROM notes",
            "SELECT e FROM users x(a, b, e)",
            "SELECT email FROM users TABLESAMPLE system (10) FOR UPDATE",
            "INSERT INTO notes (id, email) SELECT id, email FROM users",
            "UPDATE notes SET email = users.email FROM users WHERE users.id = notes.id",
            "DELETE FROM notes USING users WHERE users.email = notes.email",
            "MERGE INTO notes n USING users ON n.id = users.id WHEN MATCHED THEN UPDATE SET email = users.email",
            "COPY (SELECT email FROM users) TO STDOUT",
            "PREPARE p AS SELECT email FROM users WHERE id = $1",
            "UPDATE users SET name = email",
            "UPDATE users SET name = 'x' WHERE email = 'a***' RETURNING email",
            "UPDATE users SET name = 'x' WHERE users.email::int = 1 RETURNING upper(users.email)",
            "DELETE FROM users WHERE email LIKE 'a%' RETURNING id, email AS e",
            "INSERT INTO users (id, name) VALUES (1, 'x') RETURNING email",
        ] {
            // The denied column stands in the way of the row as a whole, and of new column names.
            let refused = sql.contains("users.*") || sql.contains("users x(");
            match decided(sql, "{}", &catalog) {
                Ok(sent) if !refused => {
                    assert!(sent.contains(MASK), "{sql}\n{sent}");
                    assert_eq!(
                        sent.replace(MASK, "").matches("users\".email").count(),
                        sent.matches("\"users\".email)").count(),
                        "{sql}\n{sent}"
                    );
                }
                Err(DenialCode::ColumnDenied) if refused => {}
                other => panic!("{sql}: {other:?}"),
            }
        }
    }

    #[test]
    fn whole_rows_and_stars_hold_masks() {
        let catalog = catalog();
        for (sql, shown) in [
            ("SELECT * FROM cards", "100 / \"cards\".limit_"),
            ("SELECT c FROM cards c", "100 / \"c\".limit_"),
            ("SELECT to_jsonb(c.*) FROM cards c", "100 / \"c\".limit_"),
            ("SELECT j FROM (cards CROSS JOIN notes) j", "100 / \"cards\".limit_"),
            ("SELECT 1 FROM cards NATURAL JOIN notes", "100 / \"cards\".limit_"),
            ("COPY cards TO STDOUT", "100 / \"cards\".limit_"),
            (
                "INSERT INTO cards (id, digits) VALUES (1, '1') RETURNING *",
                "100 / \"cards\".limit_",
            ),
            ("DELETE FROM cards c RETURNING c.*", "100 / \"c\".limit_"),
        ] {
            let sent = decided(sql, "{}", &catalog).unwrap();
            assert!(sent.contains(shown), "{sql}\n{sent}");
            assert!(!sent.contains(".digits"), "{sql}\n{sent}");
        }
    }

    #[test]
    fn a_mask_that_may_fail_is_kept_to_the_tenants_rows() {
        let catalog = catalog();
        let sent = decided("SELECT id FROM cards WHERE digits = 1", "{}", &catalog).unwrap();
        assert!(sent.contains("OFFSET 0"), "{sent}");
        let sent = decided("SELECT id FROM notes WHERE email = 'a'", "{}", &catalog).unwrap();
        assert!(!sent.contains("OFFSET 0"), "{sent}");
    }

    #[test]
    fn what_would_write_or_reach_the_column_itself_is_refused() {
        let catalog = catalog();
        for sql in [
            "UPDATE users SET email = 'x'",
            "UPDATE users SET (name, email) = ('a', 'b')",
            "INSERT INTO users (id, email) VALUES (1, 'x')",
            "INSERT INTO users VALUES (1, 't', 'x')",
            "COPY users (id, email) FROM STDIN",
            "INSERT INTO users (id) VALUES (1) ON CONFLICT (email) DO NOTHING",
            "INSERT INTO users (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET email = 'x'",
            "INSERT INTO users (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET name = users.email",
            "INSERT INTO users (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET name = 'x' WHERE users.email = 'a'",
            "UPDATE users SET name = (SELECT email)",
            "UPDATE users u SET name = (SELECT u.email FROM notes)",
            "UPDATE users u SET name = 'x' WHERE EXISTS (SELECT FROM notes n WHERE n.email = u.email)",
            "UPDATE users SET name = users::text",
            "UPDATE users SET name = to_jsonb(users.*)::text",
            "DELETE FROM users RETURNING users",
            "DELETE FROM users RETURNING to_jsonb(users.*)",
            "DELETE FROM users RETURNING users.to_jsonb",
            "UPDATE users u SET name = u.row_to_json::text",
            "UPDATE cards SET id = 1 FROM notes WHERE notes.id = cards.id RETURNING *",
            "MERGE INTO users u USING notes n ON u.email = n.email WHEN MATCHED THEN DELETE",
            "MERGE INTO users u USING notes n ON u.id = n.id WHEN MATCHED THEN UPDATE SET name = u.email",
            "MERGE INTO users u USING notes n ON u.id = n.id WHEN NOT MATCHED THEN INSERT (id, email) VALUES (1, 'x')",
        ] {
            assert_eq!(decided(sql, "{}", &catalog), Err(DenialCode::ColumnDenied), "{sql}");
        }
    }

    #[test]
    fn the_excepted_see_the_column_and_its_neighbours_stay_open() {
        let catalog = catalog();
        let admin = r#"{"role": "admin"}"#;
        for (sql, claims) in [
            ("SELECT email FROM users", admin),
            ("UPDATE users SET email = 'x' RETURNING email", admin),
            ("INSERT INTO users (id, email) VALUES (1, 'x')", admin),
            ("UPDATE users SET name = 'x'", "{}"),
            ("INSERT INTO cards (id, digits) VALUES (1, 'x')", "{}"),
            ("UPDATE users SET name = (SELECT n.email FROM notes n LIMIT 1)", "{}"),
            (
                "INSERT INTO users (id, name) VALUES (1, 'x') ON CONFLICT (id) DO UPDATE SET name = 'y'",
                "{}",
            ),
        ] {
            let sent = decided(sql, claims, &catalog).unwrap();
            assert!(!sent.contains("***"), "{sql}\n{sent}");
        }
        assert_eq!(
            decided("SELECT hash FROM users", admin, &catalog),
            Err(DenialCode::ColumnDenied)
        );
    }

    #[test]
    fn offline_the_columns_are_those_that_the_statement_names() {
        let offline =
            Catalog { live: false, search_path: vec!["public".to_owned()], ..Catalog::default() };
        let sent = decided("SELECT id, email FROM users WHERE name = 'x'", "{}", &offline).unwrap();
        assert!(sent.contains(MASK) && sent.contains(".\"name\""), "{sent}");
        assert_eq!(decided("SELECT * FROM cards", "{}", &offline), Err(DenialCode::ColumnDenied));
    }
}
