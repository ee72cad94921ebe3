//! Ways to a closed column that do not spell it: new names for it, joins by it, writes to it. Layer 2.
//!
//! [`classify`](super::classify) refuses a closed column by its name, by `*` and as part of a whole
//! row. A column list behind an alias (`users u(a, b)`) and an alias around a join give the column
//! another name, and NATURAL and USING compare it unnamed; these are refused here.

use super::classify::Closed;
use super::scope::{direct_relations, is_statement, visible_name};
use super::tree::Tree;
use crate::error::Denial;
use crate::mutant;

/// Refuses a statement that renames, joins by, or writes a closed column.
pub fn judge(statement: &Tree<'_>, closed: &[Closed<'_>]) -> Result<(), Denial> {
    statement.walk(&mut |node| match node.kind() {
        "RangeVar" if !node.at("alias").at("colnames").items().is_empty() => {
            refuse(visible_name(node).and_then(|visible| Some((named(closed, visible)?, "*"))))
        }
        "JoinExpr" => refuse(joined(node, closed).filter(|_| !mutant::on("closed-join"))),
        "CopyStmt" => refuse(copied(node, closed)),
        kind if is_statement(kind) => refuse(written(node, closed)),
        _ => Ok(()),
    })
}

/// A closed relation, and which of its columns is touched.
type Hit<'c, 't, 'n> = Option<(&'c Closed<'t>, &'n str)>;

fn refuse(hit: Hit<'_, '_, '_>) -> Result<(), Denial> {
    match hit {
        Some((relation, column)) => Err(relation.denied(column)),
        None => Ok(()),
    }
}

fn named<'c, 't>(closed: &'c [Closed<'t>], visible: &str) -> Option<&'c Closed<'t>> {
    closed.iter().find(|relation| relation.visible == visible)
}

/// The closed relation that `COPY relation TO` would write out: all columns, or those of its list.
fn copied<'c, 't, 'n>(copy: &'n Tree<'_>, closed: &'c [Closed<'t>]) -> Hit<'c, 't, 'n> {
    let relation = named(closed, visible_name(copy.at("relation"))?)?;
    let list = copy.at("attlist").items();
    if list.is_empty() {
        return Some((relation, "*"));
    }
    let mut names = list.iter().filter_map(Tree::text);
    names.find(|name| relation.columns.iter().any(|own| own == name)).map(|name| (relation, name))
}

/// The closed relation of a join that gives it another name, or compares its columns unnamed.
fn joined<'c, 't, 'n>(join: &'n Tree<'_>, closed: &'c [Closed<'t>]) -> Hit<'c, 't, 'n> {
    let using = join.at("using_clause").items();
    let whole = !join.at("alias").is_absent() || join.at("is_natural").truth();
    if !whole && using.is_empty() {
        return None;
    }
    let mut direct = Vec::new();
    direct_relations(join, &mut direct);
    direct.into_iter().filter_map(visible_name).find_map(|visible| {
        let relation = named(closed, visible)?;
        if whole {
            return Some((relation, "*"));
        }
        let mut names = using.iter().filter_map(Tree::text);
        let named = names.find(|name| relation.columns.iter().any(|column| column == name));
        named.map(|name| (relation, name))
    })
}

/// The closed relation whose closed column a data change writes, or finds a conflict by.
fn written<'c, 't, 'n>(change: &'n Tree<'_>, closed: &'c [Closed<'t>]) -> Hit<'c, 't, 'n> {
    let target = change.at("relation");
    let relation = named(closed, visible_name(target)?)?;
    let conflict = change.at("on_conflict_clause");
    let own = [
        change.at("cols"),
        conflict.at("target_list"),
        conflict.at("infer").at("index_elems"),
        if change.is("UpdateStmt") { change.at("target_list") } else { &Tree::None },
    ];
    let merges = change.at("merge_when_clauses").items().iter().map(|when| when.at("target_list"));
    let items = own.into_iter().chain(merges).flat_map(Tree::items);
    let mut names = items.filter_map(|item| item.at("name").text());
    if let Some(name) = names.find(|name| relation.columns.iter().any(|column| column == name)) {
        return Some((relation, name));
    }
    // Without a column list the values meet every column in turn.
    let by_place = change.is("InsertStmt")
        && change.at("cols").items().is_empty()
        && !change.at("select_stmt").is_absent();
    (by_place && !mutant::on("closed-by-place")).then_some((relation, "*"))
}

#[cfg(test)]
mod tests {
    use crate::catalog::Catalog;
    use crate::claims::{Claims, Principal, TenantClaim};
    use crate::error::DenialCode;
    use crate::ids::PolicyEpoch;
    use crate::policy::load::compile;
    use crate::sql::Limits;

    const POLICY: &str = "
tenant: {column: tenant_id, type: text}
tables:
  users: {columns: {email: deny, hash: deny}}
  notes: {}
";

    fn verdict(sql: &str) -> Option<DenialCode> {
        let policy = compile(&[("p", POLICY)], PolicyEpoch(1)).unwrap().postgres;
        let catalog =
            Catalog { live: false, search_path: vec!["public".to_owned()], ..Catalog::default() };
        let tenant = Some(TenantClaim::Text("t".to_owned()));
        let principal = Principal::assumed(tenant, Claims::default());
        let verdict = super::super::decide(sql, &policy, &catalog, &principal, Limits::default());
        verdict.err().map(|denial| denial.code)
    }

    #[test]
    fn a_closed_column_is_out_of_reach_by_whatever_way() {
        for sql in [
            "SELECT email FROM users",
            "SELECT hash FROM users",
            "SELECT * FROM users",
            "SELECT u FROM users u",
            "SELECT row_to_json(u) FROM users u",
            "SELECT u.row_to_json FROM users u",
            "SELECT u.row_to_json FROM notes, LATERAL (SELECT 1 FROM users u WHERE u.to_jsonb IS NULL) u",
            "DELETE FROM users RETURNING users.to_jsonb",
            "INSERT INTO users (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET name = excluded.to_jsonb::text",
            "SELECT id FROM users ORDER BY email",
            "SELECT x.e FROM users x(i, e)",
            "SELECT e FROM notes n, LATERAL (SELECT e FROM users x(i, e)) y",
            "SELECT e FROM users x(i, e) TABLESAMPLE system (100)",
            "COPY users TO STDOUT",
            "COPY users (id, hash) TO STDOUT",
            "SELECT j.email FROM (users CROSS JOIN notes) j",
            "SELECT j.b FROM (users CROSS JOIN notes) j(a, b)",
            "SELECT j FROM (users CROSS JOIN notes) j",
            "SELECT j.* FROM (users u CROSS JOIN notes) j",
            "SELECT 1 FROM users NATURAL JOIN notes",
            "SELECT 1 FROM users JOIN (VALUES ('a@b.c')) v(email) USING (email)",
            "SELECT 1 FROM notes n JOIN users u USING (id, hash)",
            "UPDATE users SET email = 'x'",
            "UPDATE users SET (id, hash) = (1, 'x')",
            "INSERT INTO users (id, email) VALUES (1, 'x')",
            "INSERT INTO users VALUES (1, 'x')",
            "INSERT INTO users (id) VALUES (1) ON CONFLICT (email) DO NOTHING",
            "INSERT INTO users (id) VALUES (1) ON CONFLICT (id) DO UPDATE SET hash = 'x'",
            "MERGE INTO users u USING notes n ON u.id = n.id WHEN MATCHED THEN UPDATE SET hash = 'x'",
            "MERGE INTO users u USING notes n ON u.id = n.id WHEN NOT MATCHED THEN INSERT (id, email) VALUES (1, 'x')",
        ] {
            assert_eq!(verdict(sql), Some(DenialCode::ColumnDenied), "{sql}");
        }
    }

    #[test]
    fn open_columns_stay_open() {
        for sql in [
            "SELECT id FROM users",
            "SELECT u.id FROM users u JOIN notes n USING (id)",
            "SELECT 1 FROM notes NATURAL JOIN notes m",
            "SELECT n.row_to_json FROM notes n",
            "SELECT u.count FROM (SELECT count(*) FROM users u) u",
            "UPDATE users SET name = 'x'",
            "DELETE FROM users WHERE id = 1",
            "COPY (SELECT id FROM users) TO STDOUT",
        ] {
            assert_eq!(verdict(sql), None, "{sql}");
        }
    }
}
