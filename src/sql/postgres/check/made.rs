//! Rows that an INSERT in a CTE returns: they are the tenant's, for the INSERT is checked like any. Layer 2.

use super::super::env::{Env, Resolved};
use super::super::scope::visible_name;
use super::super::tree::Tree;
use super::guards::column;
use super::level::Scope;
use super::rows::is_bare;
use crate::catalog::RelationKind;
use crate::ids::RelationName;

/// The rows that a CTE makes.
#[derive(Clone)]
pub(super) struct Made {
    relation: RelationName,
    /// Its columns that are columns of the relation: their names here and there.
    columns: Vec<(String, String)>,
}

impl Made {
    /// What a CTE makes, where it is an INSERT into a stored table that returns columns as they are.
    pub(super) fn by(cte: &Tree<'_>, env: Env<'_>) -> Option<Self> {
        let statement = cte.at("ctequery");
        let relation = statement.at("relation");
        if !statement.is("InsertStmt") || !cte.at("aliascolnames").is_absent() {
            return None;
        }
        let (schema, name) = (relation.at("schemaname").text(), relation.at("relname").text()?);
        let Ok(Resolved::Table(table)) =
            env.resolve(relation.at("catalogname").text(), schema, name)
        else {
            return None;
        };
        let stored = table.relation.filter(|known| match known.kind {
            RelationKind::Table | RelationKind::PartitionedTable => true,
            RelationKind::View
            | RelationKind::MaterializedView
            | RelationKind::ForeignTable
            | RelationKind::Sequence => false,
        })?;
        if table.is_masked(env) {
            return None;
        }
        let visible = visible_name(relation)?;
        let returned = match statement.at("returning_clause") {
            clause if clause.is_absent() => statement.at("returning_list"),
            clause => clause.at("exprs"),
        };
        let mut columns: Vec<(String, String)> = Vec::new();
        for item in returned.items() {
            let value = item.at("val");
            if matches!(value.at("fields").items(), [star] if star.is("A_Star")) {
                let own = stored.columns.iter().map(|own| own.name.clone());
                columns.extend(own.map(|name| (name.clone(), name)));
                continue;
            }
            let own = match column(value).as_deref() {
                Some([name]) => (*name).to_owned(),
                Some([owner, name]) if *owner == visible => (*name).to_owned(),
                Some(_) | None => continue,
            };
            if stored.column(&own).is_some() {
                let name = item.at("name").text().unwrap_or(&own).to_owned();
                columns.push((name, own));
            }
        }
        Some(Self { relation: table.name, columns })
    }

    fn returns(&self, name: &str, key: &str) -> bool {
        let mut named = self.columns.iter().filter(|(known, _)| known == name);
        matches!((named.next(), named.next()), (Some((_, column)), None) if column == key)
    }
}

/// `SELECT cte.column FROM cte`, where the CTE in scope returns the keys of rows of `relation` that it
/// makes.
pub(super) fn selects_made(
    select: &Tree<'_>,
    relation: &RelationName,
    key: &str,
    scope: Scope<'_>,
) -> bool {
    let ([item], [from]) = (select.at("target_list").items(), select.at("from_clause").items())
    else {
        return false;
    };
    let plain = is_bare(select, &["target_list", "from_clause"])
        && from.is("RangeVar")
        && from.at("schemaname").is_absent()
        && from.at("catalogname").is_absent()
        && from.at("alias").is_absent();
    let (Some(name), Some(parts)) = (from.at("relname").text(), column(item.at("val"))) else {
        return false;
    };
    let made = scope.cte(name).and_then(|exposed| exposed.made);
    match (parts.as_slice(), made) {
        ([owner, column], Some(made)) => {
            plain && *owner == name && made.relation == *relation && made.returns(column, key)
        }
        (_, _) => false,
    }
}
