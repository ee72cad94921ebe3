//! Written values in the tree that would be sent: whose row they make. Layer 2.

use super::super::codes;
use super::super::env::{Env, Reference, Table};
use super::super::scope::{is_statement, visible_name};
use super::super::tree::Tree;
use super::guards::{
    are_guarded, cast_type, column, conjuncts, is_policy_condition, is_tenant_guard,
    is_tenant_literal, selects_keys, selects_parents, string,
};
use super::made::selects_made;
use super::rows::meets_condition;
use super::verify::{Condition, Flat, Level, Place, Scope, Verifier, leak, unguarded};
use crate::error::{Denial, DenialCode};
use crate::ids::RelationName;
use crate::mutant;
use crate::policy::Protection;

/// What a table demands of the values written to one of its columns.
enum Demand<'t, 'e> {
    /// They decide to whom the row belongs.
    Own(&'t Table<'e>),
    /// They refer to a row that must be the tenant's.
    Reference(Reference<'e>),
}

/// Every demand of a table, with its column.
fn demands<'t, 'e>(table: &'t Table<'e>, env: Env<'e>) -> Vec<(&'t str, Demand<'t, 'e>)>
where
    'e: 't,
{
    let own = match &table.policy.protection {
        Protection::Tenant { column, .. } | Protection::TenantThrough { column, .. } => {
            Some((column.as_str(), Demand::Own(table)))
        }
        Protection::Shared | Protection::Deny => None,
    };
    let references = env.references(table).into_iter();
    references
        .map(|reference| (reference.column, Demand::Reference(reference)))
        .chain(own)
        .collect()
}

impl Demand<'_, '_> {
    /// Whether the column may be left out, or be given its default.
    const fn may_default(&self) -> bool {
        matches!(self, Self::Reference(_))
    }

    /// The tenant's literal, or a value checked as the row is made:
    /// `(SELECT CASE WHEN test THEN v ELSE … END FROM (SELECT value::type AS v OFFSET 0) c)`. `beside` is
    /// the scope in which CTEs of the statement can be named there.
    fn is_met(&self, value: &Tree<'_>, env: Env<'_>, beside: Option<Scope<'_>>) -> bool {
        match self {
            _ if mutant::on("check-written") => true,
            Self::Own(table) => match &table.policy.protection {
                Protection::Tenant { tenant_type, .. } => {
                    is_tenant_literal(value, *tenant_type, env)
                        || tested(value).is_some_and(|(test, seen)| {
                            test.is("A_Expr")
                                && test.at("kind").number() == Some(codes::OP)
                                && test.at("name").name_parts().is_some_and(|name| name == ["="])
                                && test.at("lexpr") == seen
                                && is_tenant_literal(test.at("rexpr"), *tenant_type, env)
                        })
                }
                Protection::TenantThrough { parent, parent_column, .. } => tested(value)
                    .is_some_and(|(test, seen)| {
                        let tests = alternatives(test).unwrap_or_else(|| vec![test]);
                        let Some((among, made)) = tests.split_first() else { return false };
                        is_among(among, seen)
                            && selects_parents(among.at("subselect"), table, env, 0)
                            && are_made(made, seen, parent, parent_column, beside)
                    }),
                Protection::Shared | Protection::Deny => false,
            },
            Self::Reference(reference) => {
                let nothing = value.is("SetToDefault") || value.at("isnull").truth();
                nothing
                    || tested(value).is_some_and(|(test, seen)| {
                        let tests = alternatives(test).unwrap_or_default();
                        let [null, among, made @ ..] = tests.as_slice() else { return false };
                        let (parent, key) = (&reference.parent, reference.parent_column);
                        null.is("NullTest")
                            && null.at("nulltesttype").number() == Some(0)
                            && null.at("arg") == seen
                            && is_among(among, seen)
                            && selects_keys(among.at("subselect"), parent, key, env, 0)
                            && are_made(made, seen, &parent.name, key, beside)
                    })
            }
        }
    }
}

/// The tests of which one is enough.
fn alternatives<'t, 'a>(test: &'t Tree<'a>) -> Option<Vec<&'t Tree<'a>>> {
    let either = test.is("BoolExpr") && test.at("boolop").number() == Some(codes::OR);
    either.then(|| test.at("args").items().iter().collect())
}

/// Whether each test looks for the key among rows of `parent` that the statement makes itself.
fn are_made(
    tests: &[&Tree<'_>],
    seen: &Tree<'_>,
    parent: &RelationName,
    key: &str,
    beside: Option<Scope<'_>>,
) -> bool {
    tests.iter().all(|test| {
        is_among(test, seen)
            && beside.is_some_and(|scope| selects_made(test.at("subselect"), parent, key, scope))
    })
}

/// The test of a checked value, and the column that stands for the value.
fn tested<'t, 'a>(value: &'t Tree<'a>) -> Option<(&'t Tree<'a>, &'t Tree<'a>)> {
    let (case, seen) = checked_parts(value)?;
    match case.at("args").items() {
        [when] => Some((when.at("expr"), seen)),
        _ => None,
    }
}

/// `seen IN (SELECT …)`
fn is_among(test: &Tree<'_>, seen: &Tree<'_>) -> bool {
    test.is("SubLink")
        && test.at("sub_link_type").number() == Some(codes::ANY_SUBLINK)
        && test.at("oper_name").is_absent()
        && test.at("testexpr") == seen
}

impl<'e> Verifier<'e> {
    pub(super) fn insert(&self, statement: &Tree<'_>, scope: Scope<'_>) -> Result<(), Denial> {
        let source = statement.at("select_stmt");
        let visible = visible_name(statement.at("relation")).ok_or_else(leak)?;
        let mut level = Level::new(None, self.env.parameters);
        if let Some(table) = self.protected_target(statement)? {
            let columns: Vec<&str> = statement
                .at("cols")
                .items()
                .iter()
                .filter_map(|column| column.at("name").text())
                .collect();
            for (column, demand) in demands(&table, self.env) {
                let mut places = columns.iter().enumerate().filter(|(_, name)| **name == column);
                match (places.next(), places.next()) {
                    (Some((at, _)), None) if !source.is_absent() => {
                        self.source(source, at, columns.len(), (&demand, Some(scope)))?;
                    }
                    // Without a column list every column is meant.
                    (None, _) if mutant::on("check-left-out") => {}
                    (None, _) if demand.may_default() && !columns.is_empty() => {}
                    _ => return Err(unguarded(column)),
                }
            }
            if table.policy.condition.is_some() {
                self.rows_meet(source, &columns, &table)?;
            }
            self.conflict(statement, &table, scope)?;
            level.flat.push(Flat { table, visible });
        }
        if is_statement(source.kind()) {
            self.statement(source, scope)?;
        }
        let here = Scope { level: Some(&level), ..scope };
        self.fields(statement, here, &["with_clause", "relation", "select_stmt"])
    }

    /// Every row of an INSERT's source meets the demand on the column at `at`. CTEs of the source's own
    /// would hide those of the statement.
    fn source(
        &self,
        source: &Tree<'_>,
        at: usize,
        width: usize,
        (demand, beside): (&Demand<'_, '_>, Option<Scope<'_>>),
    ) -> Result<(), Denial> {
        let outside = || unguarded("INSERT");
        let beside = beside.filter(|_| source.at("with_clause").is_absent());
        if source.at("op").number() != Some(codes::SETOP_NONE) {
            self.source(source.at("larg"), at, width, (demand, beside))?;
            return self.source(source.at("rarg"), at, width, (demand, beside));
        }
        let rows = source.at("values_lists").items();
        for row in rows {
            let value = row.items().get(at).ok_or_else(outside)?;
            if row.items().len() != width || !demand.is_met(value, self.env, beside) {
                return Err(outside());
            }
        }
        if !rows.is_empty() {
            return Ok(());
        }
        let items = source.at("target_list").items();
        let star = items.iter().any(|item| {
            let value = item.at("val");
            let mut parts =
                value.at("fields").items().iter().chain(value.at("indirection").items());
            parts.any(|part| part.is("A_Star"))
        });
        // Behind a star only the last position is known: PostgreSQL refuses another width.
        let value = if star {
            if at + 1 == width { items.last() } else { None }
        } else if items.len() == width {
            items.get(at)
        } else {
            None
        };
        match value {
            Some(item) if demand.is_met(item.at("val"), self.env, beside) => Ok(()),
            Some(_) | None => Err(outside()),
        }
    }

    /// Every row of an INSERT's source satisfies the policy's condition.
    fn rows_meet(
        &self,
        source: &Tree<'_>,
        columns: &[&str],
        table: &Table<'e>,
    ) -> Result<(), Denial> {
        let outside = || unguarded("where");
        if source.at("op").number() != Some(codes::SETOP_NONE) {
            self.rows_meet(source.at("larg"), columns, table)?;
            return self.rows_meet(source.at("rarg"), columns, table);
        }
        let place = |name: &str| {
            let mut places = columns.iter().enumerate().filter(|(_, known)| **known == name);
            match (places.next(), places.next()) {
                (Some((at, _)), None) => Some(at),
                (_, _) => None,
            }
        };
        let rows = source.at("values_lists").items();
        for row in rows {
            let written = |name: &str| place(name).and_then(|at| row.items().get(at));
            if row.items().len() != columns.len()
                || !meets_condition(table, None, &written, self.env)
            {
                return Err(outside());
            }
        }
        if !rows.is_empty() {
            return Ok(());
        }
        let items = source.at("target_list").items();
        let written =
            |name: &str| place(name).and_then(|at| items.get(at)).map(|item| item.at("val"));
        let star = items.iter().any(|item| {
            let value = item.at("val");
            let mut parts =
                value.at("fields").items().iter().chain(value.at("indirection").items());
            parts.any(|part| part.is("A_Star"))
        });
        let meets = !star
            && items.len() == columns.len()
            && meets_condition(table, None, &written, self.env);
        if meets { Ok(()) } else { Err(outside()) }
    }

    /// What is assigned to columns that the table makes demands of. `upsert` is the scope of a DO UPDATE, in
    /// which `excluded` stands for the row that was to be inserted.
    pub(super) fn assignments(
        &self,
        list: &Tree<'_>,
        table: &Table<'e>,
        visible: &str,
        upsert: Option<Scope<'_>>,
    ) -> Result<(), Denial> {
        let written = |name: &str| {
            let mut items = list.items().iter();
            let found = items.find(|item| item.at("name").text() == Some(name))?;
            // A part of a column is not the column.
            Some(if found.at("indirection").is_absent() { found.at("val") } else { found })
        };
        if !meets_condition(table, Some(visible), &written, self.env) {
            return Err(unguarded("where"));
        }
        for (name, demand) in demands(table, self.env) {
            for item in list.items().iter().filter(|item| item.at("name").text() == Some(name)) {
                let value = item.at("val");
                let excluded = upsert.is_some()
                    && column(value).is_some_and(|parts| parts == ["excluded", name]);
                if !excluded && !demand.is_met(value, self.env, upsert) {
                    return Err(Denial::of(DenialCode::TenantColumnChange, name));
                }
            }
        }
        Ok(())
    }

    /// DO UPDATE: its WHERE is evaluated in the order of the text, so the guards stand first.
    fn conflict(
        &self,
        statement: &Tree<'_>,
        table: &Table<'e>,
        scope: Scope<'_>,
    ) -> Result<(), Denial> {
        let conflict = statement.at("on_conflict_clause");
        if conflict.at("action").number() != Some(codes::CONFLICT_UPDATE) {
            return Ok(());
        }
        let visible = visible_name(statement.at("relation")).ok_or_else(leak)?;
        let found = conjuncts(conflict.at("where_clause"));
        let guards = found
            .iter()
            .take_while(|conjunct| {
                mutant::on("check-upsert-order")
                    || is_tenant_guard(conjunct, table, visible, self.env)
                    || is_policy_condition(conjunct, table, visible, self.env)
            })
            .count();
        if !are_guarded(found.get(..guards).unwrap_or_default(), table, visible, self.env) {
            return Err(unguarded(visible));
        }
        let level = Level {
            flat: vec![Flat { table: table.clone(), visible }],
            ..Level::new(None, self.env.parameters)
        };
        self.conditions(conflict.at("where_clause"), &level)?;
        self.assignments(conflict.at("target_list"), table, visible, Some(scope))?;
        self.expressions(conflict, Scope { level: Some(&level), ..scope })
    }

    pub(super) fn merge(&self, statement: &Tree<'_>, scope: Scope<'_>) -> Result<(), Denial> {
        let condition = statement.at("join_condition");
        let mut level = Level::new(None, self.env.parameters);
        let mut conditions = vec![Condition::whole(condition)];
        let no_ctes = Scope::EMPTY;
        self.relation(statement.at("relation"), Place::In(condition), no_ctes, &mut level)?;
        level.hidden.push(0..level.flat.len());
        let source = statement.at("source_relation");
        self.from(source, Place::Nowhere, scope, &mut level, &mut conditions)?;
        self.all_conditions(conditions, &level)?;
        let target = self.protected_target(statement)?;
        let visible = visible_name(statement.at("relation")).ok_or_else(leak)?;
        // Without a match there is no target, and the sources are apart.
        let sources = Level { merged: level.merged, ..Level::new(None, self.env.parameters) };
        for clause in statement.at("merge_when_clauses").items() {
            let unmatched = clause.at("match_kind").number() == Some(codes::NOT_MATCHED_BY_TARGET);
            let named = if unmatched { &sources } else { &level };
            self.conditions(clause.at("condition"), named)?;
            self.expressions(clause, Scope { level: Some(named), ..scope })?;
            if let Some(table) = &target {
                self.when(clause, table, visible)?;
            }
        }
        let here = Scope { level: Some(&level), ..scope };
        let seen = ["with_clause", "relation", "source_relation", "merge_when_clauses"];
        self.fields(statement, here, &seen)
    }

    /// One WHEN of a MERGE into a protected table.
    fn when(&self, clause: &Tree<'_>, table: &Table<'e>, visible: &str) -> Result<(), Denial> {
        let of_source = clause.at("match_kind").number() == Some(codes::NOT_MATCHED_BY_TARGET);
        let guarded = are_guarded(&conjuncts(clause.at("condition")), table, visible, self.env);
        if !of_source && !guarded && !mutant::on("check-merge-when") {
            return Err(unguarded(visible));
        }
        let columns = clause.at("target_list").items();
        match clause.at("command_type").number() {
            Some(codes::CMD_INSERT) => {
                let values = clause.at("values").items();
                for (name, demand) in demands(table, self.env) {
                    let at = columns.iter().position(|item| item.at("name").text() == Some(name));
                    let met = match at.and_then(|at| values.get(at)) {
                        Some(value) => {
                            values.len() == columns.len() && demand.is_met(value, self.env, None)
                        }
                        None => demand.may_default() && at.is_none() && !columns.is_empty(),
                    };
                    if !met {
                        return Err(unguarded(name));
                    }
                }
                let written = |name: &str| {
                    let at =
                        columns.iter().position(|item| item.at("name").text() == Some(name))?;
                    values.get(at)
                };
                if !meets_condition(table, None, &written, self.env) {
                    return Err(unguarded("where"));
                }
                Ok(())
            }
            Some(codes::CMD_UPDATE) => {
                self.assignments(clause.at("target_list"), table, visible, None)
            }
            Some(_) | None => Ok(()),
        }
    }
}

/// Takes a checked value apart into its CASE and the column that stands for the value, which the
/// only FROM item evaluates.
pub(super) fn checked_parts<'t, 'a>(value: &'t Tree<'a>) -> Option<(&'t Tree<'a>, &'t Tree<'a>)> {
    let select = value.at("subselect");
    let scalar =
        value.is("SubLink") && value.at("sub_link_type").number() == Some(codes::EXPR_SUBLINK);
    let ([item], [derived]) = (select.at("target_list").items(), select.at("from_clause").items())
    else {
        return None;
    };
    let alias = derived.at("alias").at("aliasname").text()?;
    let [inner] = derived.at("subquery").at("target_list").items() else { return None };
    let case = item.at("val");
    let [when] = case.at("args").items() else { return None };
    let seen = when.at("result");
    let named = column(seen).is_some_and(|parts| {
        Some(parts.as_slice())
            == inner.at("name").text().map(|name| [alias, name]).as_ref().map(<[&str; 2]>::as_slice)
    });
    let bare = select.at("where_clause").is_absent()
        && derived.is("RangeSubselect")
        && derived.at("subquery").at("from_clause").is_absent()
        && case.is("CaseExpr")
        && case.at("arg").is_absent()
        && (raises(case.at("defresult")) || mutant::on("check-raise"));
    (scalar && named && bare).then_some((case, seen))
}

/// The value that a checked value was made of, its cast taken off.
pub(super) fn checked_value<'t, 'a>(value: &'t Tree<'a>) -> Option<&'t Tree<'a>> {
    let select = value.at("subselect");
    let ([item], [derived]) = (select.at("target_list").items(), select.at("from_clause").items())
    else {
        return None;
    };
    let inner = derived.at("subquery").at("target_list").items();
    let case = item.at("val");
    let [when] = case.at("args").items() else { return None };
    let [_, carrier] =
        column(when.at("result")).as_deref().and_then(|parts| <[&str; 2]>::try_from(parts).ok())?;
    let of_row = raises(case.at("defresult"));
    if checked_parts(value).is_none() && !of_row {
        return None;
    }
    let own = inner.iter().find(|item| item.at("name").text() == Some(carrier))?;
    Some(own.at("val").at("arg"))
}

/// Text that is no number, cast to a number: it fails whenever it is reached.
pub(super) fn raises(tree: &Tree<'_>) -> bool {
    let to_text = tree.at("arg");
    let to_int = to_text.at("arg");
    let text = to_int.at("arg");
    tree.is("TypeCast")
        && cast_type(to_text) == Some("text")
        && cast_type(to_int) == Some("int4")
        && text.at("name").name_parts().is_some_and(|name| name == ["||"])
        && string(text.at("lexpr")).is_some_and(|text| text.starts_with("hedgerow:HR"))
}
