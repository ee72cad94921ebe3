//! Walks the tree that would be sent, level by level, and demands the guards. Layer 2.

use super::super::codes;
use super::super::env::{Env, Resolved, Table};
use super::super::scope::{bare_name, is_statement, visible_name};
use super::super::tree::Tree;
use super::guards::{
    are_guarded, conjuncts, is_counted, is_policy_condition, is_tenant_guard, is_tenant_literal,
    null_extended, selects_parents, shielded,
};
use super::shape::is_total;
use crate::error::{Denial, DenialCode};
use crate::policy::Protection;

/// CTEs in scope: name, and whether the planner may merge unguarded rows of it into its reader.
#[derive(Clone, Copy)]
struct Scope<'s> {
    outer: Option<&'s Scope<'s>>,
    own: &'s [(&'s str, bool)],
    level: Option<&'s Level<'s>>,
}

impl Scope<'_> {
    fn cte(&self, name: &str) -> Option<bool> {
        let own = self.own.iter().rev().find(|(own, _)| *own == name);
        own.map(|(_, exposed)| *exposed).or_else(|| self.outer.and_then(|outer| outer.cte(name)))
    }
}

/// A protected relation of a level, under conditions of that level.
struct Flat<'s> {
    table: Table<'s>,
    visible: &'s str,
}

/// One FROM.
struct Level<'s> {
    outer: Option<&'s Level<'s>>,
    flat: Vec<Flat<'s>>,
    /// A derived table or CTE that may be merged stands in it.
    merged: bool,
}

impl Level<'_> {
    fn finds(&self, wanted: &dyn Fn(&Flat<'_>) -> bool) -> bool {
        self.flat.iter().any(wanted) || self.outer.is_some_and(|outer| outer.finds(wanted))
    }

    fn holds_any(&self) -> bool {
        self.finds(&|_| true)
    }

    fn merges_any(&self) -> bool {
        self.merged || self.outer.is_some_and(Level::merges_any)
    }
}

fn unguarded(name: &str) -> Denial {
    Denial::of(DenialCode::ParsersDisagree, name)
}

fn leak() -> Denial {
    Denial::new(DenialCode::LeakPossible)
}

/// Demands that everything in the statement is kept to the tenant.
///
/// # Errors
/// HR1008 for a missing guard, HR1009 for an expression that could meet other tenants' rows.
pub(super) fn verify(statement: &Tree<'_>, env: Env<'_>) -> Result<(), Denial> {
    let verifier = Verifier { env };
    let scope = Scope { outer: None, own: &[], level: None };
    let inner = statement.at("query");
    match statement.kind() {
        kind if is_statement(kind) => verifier.statement(statement, scope).map(|_| ()),
        "ExplainStmt" | "PrepareStmt" | "DeclareCursorStmt" | "CopyStmt" => {
            if statement.is("ExplainStmt") {
                verifier.explain(statement)?;
            }
            if is_statement(inner.kind()) {
                verifier.statement(inner, scope).map(|_| ())
            } else if inner.is("ExecuteStmt") {
                verifier.expressions(inner, scope)
            } else {
                Err(unguarded("query"))
            }
        }
        // Statements without relations; the arguments of EXECUTE may hold sub-queries.
        _ => verifier.expressions(statement, scope),
    }
}

struct Verifier<'e> {
    env: Env<'e>,
}

/// Where a relation's guard must stand.
#[derive(Clone, Copy)]
enum Place<'t, 'a> {
    /// Among the conjuncts of this condition.
    In(&'t Tree<'a>),
    /// Nowhere: the relation cannot stand here unguarded.
    Nowhere,
}

impl<'e> Verifier<'e> {
    fn explain(&self, statement: &Tree<'_>) -> Result<(), Denial> {
        let mut protected = statement.at("query").is("ExecuteStmt");
        statement.walk(&mut |node| {
            if node.is("RangeVar")
                && let Some(name) = node.at("relname").text()
                && let Ok(Resolved::Table(table)) =
                    self.env.resolve(None, node.at("schemaname").text(), name)
            {
                protected |= table.is_protected();
            }
            Ok::<(), Denial>(())
        })?;
        let off = |option: &Tree<'_>| {
            option.at("defname").text() == Some("costs")
                && (option.at("arg").text() == Some("off")
                    || *option.at("arg").at("boolval") == Tree::Bool(false))
        };
        let options = statement.at("options").items();
        let last_costs =
            options.iter().rev().find(|option| option.at("defname").text() == Some("costs"));
        let runs = options.iter().any(|option| option.at("defname").text() == Some("analyze"));
        if protected && (runs || !last_costs.is_some_and(off)) {
            return Err(leak());
        }
        Ok(())
    }

    /// Whether the statement's rows may be merged into its reader with unguarded rows among them.
    fn statement(&self, statement: &Tree<'_>, scope: Scope<'_>) -> Result<bool, Denial> {
        let with = statement.at("with_clause");
        let recursive = with.at("recursive").truth();
        let ctes = with.at("ctes").items();
        let mut own: Vec<(&str, bool)> = Vec::new();
        if recursive {
            own.extend(
                ctes.iter().filter_map(|cte| cte.at("ctename").text()).map(|name| (name, false)),
            );
        }
        for cte in ctes {
            let inner = Scope { outer: Some(&scope), own: &own, level: scope.level };
            let query = cte.at("ctequery");
            let exposed = self.statement(query, inner)?;
            let materialized = cte.at("ctematerialized").number() == Some(1);
            let name = cte.at("ctename").text().ok_or_else(leak)?;
            own.push((name, exposed && !materialized && !recursive && query.is("SelectStmt")));
        }
        let scope = Scope { outer: Some(&scope), own: &own, level: scope.level };
        match statement.kind() {
            "SelectStmt" => self.select(statement, scope),
            "InsertStmt" => self.insert(statement, scope).map(|()| false),
            "UpdateStmt" | "DeleteStmt" => self.change(statement, scope).map(|()| false),
            "MergeStmt" => self.merge(statement, scope).map(|()| false),
            _ => Err(leak()),
        }
    }

    fn select(&self, select: &Tree<'_>, scope: Scope<'_>) -> Result<bool, Denial> {
        let limited =
            !select.at("limit_count").is_absent() || !select.at("limit_offset").is_absent();
        if select.at("op").number() != Some(codes::SETOP_NONE) {
            let left = self.statement(select.at("larg"), scope)?;
            let right = self.statement(select.at("rarg"), scope)?;
            self.fields(select, scope, &["larg", "rarg", "with_clause"])?;
            return Ok((left || right) && !limited);
        }
        let mut level = Level { outer: scope.level, flat: Vec::new(), merged: false };
        let mut conditions = vec![select.at("where_clause")];
        for item in select.at("from_clause").items() {
            self.from(
                item,
                Place::In(select.at("where_clause")),
                scope,
                &mut level,
                &mut conditions,
            )?;
        }
        let here = Scope { level: Some(&level), ..scope };
        for condition in conditions {
            self.conditions(condition, &level)?;
        }
        self.having(select.at("having_clause"), &level)?;
        self.fields(select, here, &["with_clause", "from_clause"])?;
        self.from_expressions(select.at("from_clause"), here)?;
        Ok((!level.flat.is_empty() || level.merged) && !limited)
    }

    /// One FROM item: relations into the level, ON conditions among the conditions.
    fn from<'t>(
        &self,
        item: &'t Tree<'_>,
        place: Place<'t, '_>,
        scope: Scope<'_>,
        level: &mut Level<'t>,
        conditions: &mut Vec<&'t Tree<'t>>,
    ) -> Result<(), Denial>
    where
        'e: 't,
    {
        match item.kind() {
            "RangeVar" => self.relation(item, place, scope, level),
            "RangeTableSample" => self.from(item.at("relation"), place, scope, level, conditions),
            "RangeSubselect" => {
                // What stands beside it may reach into it only if it is LATERAL; the level so far
                // is what it could name.
                let inner = Scope { level: Some(level), ..scope };
                level.merged |= self.statement(item.at("subquery"), inner)?;
                Ok(())
            }
            "JoinExpr" => {
                let on = item.at("quals");
                let supplied = if on.is_absent() { Place::Nowhere } else { Place::In(on) };
                let hidden = !item.at("alias").is_absent();
                let (left, right) = match item.at("jointype").number() {
                    _ if hidden => (Place::Nowhere, Place::Nowhere),
                    Some(codes::JOIN_INNER) => (place, place),
                    Some(codes::JOIN_LEFT) => (place, supplied),
                    Some(codes::JOIN_RIGHT) => (supplied, place),
                    Some(_) | None => (Place::Nowhere, Place::Nowhere),
                };
                self.from(item.at("larg"), left, scope, level, conditions)?;
                self.from(item.at("rarg"), right, scope, level, conditions)?;
                if item.at("jointype").number() == Some(codes::JOIN_FULL) {
                    // No CASE can stand in a FULL JOIN; both sides are apart.
                    return if level.merged && !is_total(on) { Err(leak()) } else { Ok(()) };
                }
                conditions.push(on);
                Ok(())
            }
            "RangeFunction" | "RangeTableFunc" => Ok(()),
            kind => Err(unguarded(kind)),
        }
    }

    fn relation<'t>(
        &self,
        relation: &'t Tree<'_>,
        place: Place<'_, '_>,
        scope: Scope<'_>,
        level: &mut Level<'t>,
    ) -> Result<(), Denial>
    where
        'e: 't,
    {
        if let Some(exposed) = bare_name(relation).and_then(|name| scope.cte(name)) {
            level.merged |= exposed;
            return Ok(());
        }
        let name = relation.at("relname").text().ok_or_else(leak)?;
        let visible = visible_name(relation).ok_or_else(leak)?;
        let schema = relation.at("schemaname").text();
        let table = match self.env.resolve(relation.at("catalogname").text(), schema, name)? {
            Resolved::Catalog { .. } => return Ok(()),
            Resolved::Table(table) => table,
        };
        if !table.is_protected() {
            return Ok(());
        }
        let renamed = !relation.at("alias").at("colnames").is_absent();
        let Place::In(condition) = place else { return Err(unguarded(name)) };
        if renamed
            || schema.is_none()
            || !are_guarded(&conjuncts(condition), &table, visible, self.env)
        {
            return Err(unguarded(name));
        }
        level.flat.push(Flat { table, visible });
        Ok(())
    }

    /// Every conjunct is a guard, total, or shielded by guards.
    fn conditions(&self, condition: &Tree<'_>, level: &Level<'_>) -> Result<(), Denial> {
        for conjunct in conjuncts(condition) {
            let passes = self.is_guard(conjunct, level) || is_total(conjunct);
            if passes || (!level.holds_any() && !level.merges_any()) {
                continue;
            }
            let behind = shielded(conjunct).is_some_and(|(guard, _)| self.is_shield(guard, level));
            if !behind && level.holds_any() || level.merges_any() {
                return Err(leak());
            }
        }
        Ok(())
    }

    fn is_guard(&self, conjunct: &Tree<'_>, level: &Level<'_>) -> bool {
        level.finds(&|flat| {
            is_tenant_guard(conjunct, &flat.table, flat.visible, self.env)
                || is_policy_condition(conjunct, &flat.table, flat.visible, self.env)
        })
    }

    /// The condition of a shield: guards, each possibly with the null-extended rows.
    fn is_shield(&self, guard: &Tree<'_>, level: &Level<'_>) -> bool {
        let parts = conjuncts(guard);
        !parts.is_empty()
            && parts.into_iter().all(|part| {
                let strict = null_extended(part).map_or(part, |(guard, _)| guard);
                conjuncts(strict).into_iter().all(|one| self.is_guard(one, level))
            })
    }

    /// HAVING without aggregates is moved into WHERE: it must be total or carry an aggregate.
    fn having(&self, having: &Tree<'_>, level: &Level<'_>) -> Result<(), Denial> {
        if !level.holds_any() && !level.merged {
            return Ok(());
        }
        for conjunct in conjuncts(having) {
            let kept = shielded(conjunct).is_some_and(|(guard, _)| is_counted(guard));
            if !kept && !is_total(conjunct) {
                return Err(leak());
            }
        }
        Ok(())
    }

    fn change(&self, statement: &Tree<'_>, scope: Scope<'_>) -> Result<(), Denial> {
        let condition = statement.at("where_clause");
        let mut level = Level { outer: None, flat: Vec::new(), merged: false };
        let mut conditions = vec![condition];
        if condition.is("CurrentOfExpr") {
            // The cursor's own query was guarded when it was declared.
            return Err(leak());
        }
        let no_ctes = Scope { outer: None, own: &[], level: None };
        self.relation(statement.at("relation"), Place::In(condition), no_ctes, &mut level)?;
        for field in ["from_clause", "using_clause"] {
            for item in statement.at(field).items() {
                self.from(item, Place::In(condition), scope, &mut level, &mut conditions)?;
            }
        }
        for condition in conditions {
            self.conditions(condition, &level)?;
        }
        let here = Scope { level: Some(&level), ..scope };
        if statement.is("UpdateStmt")
            && let Some(table) = self.protected_target(statement)?
        {
            self.assignments(statement.at("target_list"), &table, false)?;
        }
        self.fields(statement, here, &["with_clause", "relation", "from_clause", "using_clause"])?;
        self.from_expressions(statement.at("from_clause"), here)?;
        self.from_expressions(statement.at("using_clause"), here)
    }

    fn protected_target(&self, statement: &Tree<'_>) -> Result<Option<Table<'e>>, Denial> {
        let relation = statement.at("relation");
        let name = relation.at("relname").text().ok_or_else(leak)?;
        let schema = relation.at("schemaname").text();
        match self.env.resolve(relation.at("catalogname").text(), schema, name)? {
            Resolved::Catalog { .. } => Err(Denial::of(DenialCode::ReadOnly, name)),
            Resolved::Table(table) if !table.is_protected() => Ok(None),
            Resolved::Table(_) if schema.is_none() => Err(unguarded(name)),
            Resolved::Table(table) => Ok(Some(table)),
        }
    }

    fn insert(&self, statement: &Tree<'_>, scope: Scope<'_>) -> Result<(), Denial> {
        let source = statement.at("select_stmt");
        if let Some(table) = self.protected_target(statement)? {
            if let Some(column) = demanded(&table) {
                let columns: Vec<&str> = statement
                    .at("cols")
                    .items()
                    .iter()
                    .filter_map(|column| column.at("name").text())
                    .collect();
                let at = columns
                    .iter()
                    .position(|name| *name == column)
                    .ok_or_else(|| unguarded(column))?;
                let twice = columns.iter().skip(at + 1).any(|name| *name == column);
                if twice || source.is_absent() {
                    return Err(unguarded(column));
                }
                self.source(source, at, columns.len(), &table)?;
            }
            self.conflict(statement, &table, scope)?;
        }
        let visible = visible_name(statement.at("relation")).ok_or_else(leak)?;
        let mut level = Level { outer: None, flat: Vec::new(), merged: false };
        if let Some(table) = self.protected_target(statement)? {
            level.flat.push(Flat { table, visible });
        }
        if is_statement(source.kind()) {
            self.statement(source, scope)?;
        }
        let here = Scope { level: Some(&level), ..scope };
        self.fields(statement, here, &["with_clause", "relation", "select_stmt"])
    }

    /// Every row of an INSERT's source has the tenant, or a checked value, in the column.
    fn source(
        &self,
        source: &Tree<'_>,
        at: usize,
        width: usize,
        table: &Table<'_>,
    ) -> Result<(), Denial> {
        let outside = || unguarded("INSERT");
        if source.at("op").number() != Some(codes::SETOP_NONE) {
            self.source(source.at("larg"), at, width, table)?;
            return self.source(source.at("rarg"), at, width, table);
        }
        let rows = source.at("values_lists").items();
        for row in rows {
            let value = row.items().get(at).ok_or_else(outside)?;
            if row.items().len() != width || !self.is_demanded(value, table) {
                return Err(outside());
            }
        }
        if !rows.is_empty() {
            return Ok(());
        }
        let items = source.at("target_list").items();
        let star = items.iter().any(|item| {
            item.at("val").at("fields").items().iter().any(|field| field.is("A_Star"))
                || item.at("val").at("indirection").items().iter().any(|field| field.is("A_Star"))
        });
        // Behind a star only the last position is known: PostgreSQL refuses another width.
        let value = if star {
            if at + 1 != width { None } else { items.last() }
        } else if items.len() == width {
            items.get(at)
        } else {
            None
        };
        match value {
            Some(item) if self.is_demanded(item.at("val"), table) => Ok(()),
            Some(_) | None => Err(outside()),
        }
    }

    /// The tenant's literal, or a value checked as the row is made:
    /// `(SELECT CASE WHEN test THEN v ELSE … END FROM (SELECT value::type AS v) c)`.
    fn is_demanded(&self, value: &Tree<'_>, table: &Table<'_>) -> bool {
        if let Protection::Tenant { tenant_type, .. } = &table.policy.protection
            && is_tenant_literal(value, *tenant_type, self.env)
        {
            return true;
        }
        let Some((case, seen)) = checked_parts(value) else { return false };
        let [when] = case.at("args").items() else { return false };
        if when.at("result") != seen {
            return false;
        }
        let test = when.at("expr");
        match &table.policy.protection {
            Protection::Tenant { tenant_type, .. } => {
                test.is("A_Expr")
                    && test.at("name").name_parts().is_some_and(|name| name == ["="])
                    && test.at("lexpr") == seen
                    && is_tenant_literal(test.at("rexpr"), *tenant_type, self.env)
            }
            Protection::TenantThrough { .. } => {
                test.is("SubLink")
                    && test.at("sub_link_type").number() == Some(codes::ANY_SUBLINK)
                    && test.at("oper_name").is_absent()
                    && test.at("testexpr") == seen
                    && selects_parents(test.at("subselect"), table, self.env, 0)
            }
            Protection::Shared | Protection::Deny => false,
        }
    }

    fn assignments(&self, list: &Tree<'_>, table: &Table<'_>, upsert: bool) -> Result<(), Denial> {
        let Some(column) = demanded(table) else { return Ok(()) };
        for item in list.items().iter().filter(|item| item.at("name").text() == Some(column)) {
            let value = item.at("val");
            let excluded = upsert
                && super::guards::column(value).is_some_and(|parts| parts == ["excluded", column]);
            if !excluded && !self.is_demanded(value, table) {
                return Err(Denial::of(DenialCode::TenantColumnChange, column));
            }
        }
        Ok(())
    }

    /// DO UPDATE: its WHERE is evaluated in the order of the text, so the guards stand first.
    fn conflict(
        &self,
        statement: &Tree<'_>,
        table: &Table<'_>,
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
                is_tenant_guard(conjunct, table, visible, self.env)
                    || is_policy_condition(conjunct, table, visible, self.env)
            })
            .count();
        if !are_guarded(found.get(..guards).unwrap_or_default(), table, visible, self.env) {
            return Err(unguarded(visible));
        }
        let level = Level {
            outer: None,
            flat: vec![Flat { table: table.clone(), visible }],
            merged: false,
        };
        self.conditions(conflict.at("where_clause"), &level)?;
        self.assignments(conflict.at("target_list"), table, true)?;
        self.expressions(conflict, Scope { level: Some(&level), ..scope })
    }

    fn merge(&self, statement: &Tree<'_>, scope: Scope<'_>) -> Result<(), Denial> {
        let condition = statement.at("join_condition");
        let mut level = Level { outer: None, flat: Vec::new(), merged: false };
        let mut conditions = vec![condition];
        let no_ctes = Scope { outer: None, own: &[], level: None };
        self.relation(statement.at("relation"), Place::In(condition), no_ctes, &mut level)?;
        self.from(
            statement.at("source_relation"),
            Place::Nowhere,
            scope,
            &mut level,
            &mut conditions,
        )?;
        for condition in conditions {
            self.conditions(condition, &level)?;
        }
        let target = self.protected_target(statement)?;
        let visible = visible_name(statement.at("relation")).ok_or_else(leak)?;
        for clause in statement.at("merge_when_clauses").items() {
            self.conditions(clause.at("condition"), &level)?;
            let Some(table) = &target else { continue };
            let of_source = clause.at("match_kind").number() == Some(codes::NOT_MATCHED_BY_TARGET);
            if !of_source
                && !are_guarded(&conjuncts(clause.at("condition")), table, visible, self.env)
            {
                return Err(unguarded(visible));
            }
            match clause.at("command_type").number() {
                Some(codes::CMD_INSERT) => {
                    let Some(column) = demanded(table) else { continue };
                    let mut columns = clause.at("target_list").items().iter();
                    let at = columns
                        .position(|item| item.at("name").text() == Some(column))
                        .ok_or_else(|| unguarded(column))?;
                    let values = clause.at("values").items();
                    let fits = values.len() == clause.at("target_list").items().len()
                        && values.get(at).is_some_and(|value| self.is_demanded(value, table));
                    if !fits {
                        return Err(unguarded(column));
                    }
                }
                Some(codes::CMD_UPDATE) => {
                    self.assignments(clause.at("target_list"), table, false)?
                }
                Some(_) | None => {}
            }
        }
        let here = Scope { level: Some(&level), ..scope };
        self.fields(statement, here, &["with_clause", "relation", "source_relation"])
    }

    /// Sub-queries in expressions of a statement's own fields.
    fn fields(&self, statement: &Tree<'_>, scope: Scope<'_>, but: &[&str]) -> Result<(), Denial> {
        statement
            .fields()
            .iter()
            .filter(|(name, _)| !but.contains(name))
            .try_for_each(|(_, value)| self.expressions(value, scope))
    }

    /// Sub-queries in ON, in functions' arguments, in samples: not those that are FROM items.
    fn from_expressions(&self, from: &Tree<'_>, scope: Scope<'_>) -> Result<(), Denial> {
        match from.kind() {
            "" => from.items().iter().try_for_each(|item| self.from_expressions(item, scope)),
            "JoinExpr" => {
                self.from_expressions(from.at("larg"), scope)?;
                self.from_expressions(from.at("rarg"), scope)?;
                self.expressions(from.at("quals"), scope)
            }
            "RangeVar" | "RangeSubselect" => Ok(()),
            "RangeTableSample" => self.fields(from, scope, &["relation"]),
            _ => self.expressions(from, scope),
        }
    }

    fn expressions(&self, tree: &Tree<'_>, scope: Scope<'_>) -> Result<(), Denial> {
        match tree.kind() {
            kind if is_statement(kind) => self.statement(tree, scope).map(|_| ()),
            "LockingClause" => Ok(()),
            "RangeVar" => Err(unguarded("relation")),
            _ => tree.children().try_for_each(|child| self.expressions(child, scope)),
        }
    }
}

/// The column whose value decides to whom a row belongs.
fn demanded<'t>(table: &'t Table<'_>) -> Option<&'t str> {
    match &table.policy.protection {
        Protection::Tenant { column, .. } | Protection::TenantThrough { column, .. } => {
            Some(column)
        }
        Protection::Shared | Protection::Deny => None,
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
    let named = super::guards::column(seen).is_some_and(|parts| {
        Some(parts.as_slice())
            == inner.at("name").text().map(|name| [alias, name]).as_ref().map(<[&str; 2]>::as_slice)
    });
    let bare = select.at("where_clause").is_absent()
        && derived.is("RangeSubselect")
        && derived.at("subquery").at("from_clause").is_absent()
        && case.is("CaseExpr")
        && case.at("arg").is_absent()
        && raises(case.at("defresult"));
    (scalar && named && bare).then_some((case, seen))
}

/// The value that a checked value was made of, its cast taken off.
pub(super) fn checked_value<'t, 'a>(value: &'t Tree<'a>) -> Option<&'t Tree<'a>> {
    checked_parts(value)?;
    let select = value.at("subselect");
    let [derived] = select.at("from_clause").items() else { return None };
    let [inner] = derived.at("subquery").at("target_list").items() else { return None };
    Some(inner.at("val").at("arg"))
}

/// Text that is no number, cast to a number: it fails whenever it is reached.
fn raises(tree: &Tree<'_>) -> bool {
    let to_text = tree.at("arg");
    let to_int = to_text.at("arg");
    let text = to_int.at("arg");
    tree.is("TypeCast")
        && super::guards::cast_type(to_text) == Some("text")
        && super::guards::cast_type(to_int) == Some("int4")
        && text.at("name").name_parts().is_some_and(|name| name == ["||"])
        && super::guards::string(text.at("lexpr"))
            .is_some_and(|text| text.starts_with("hedgerow:HR"))
}
