//! Walks the tree that would be sent, level by level, and demands the guards. Layer 2.

use super::super::codes;
use super::super::env::{Env, Resolved, Table};
use super::super::functions;
use super::super::lists;
use super::super::scope::{bare_name, is_statement, visible_name};
use super::super::tree::Tree;
use super::guards::{
    are_guarded, conjuncts, is_counted, is_policy_condition, is_tenant_guard, null_extended,
    shielded,
};
pub(super) use super::level::{Condition, Exposure, Flat, Level, Members, Scope};
use super::made::Made;
use super::masks::{Target, masked_table, shows_masked};
use super::outputs::Outputs;
use super::shape::is_total;
use super::types::{are_bounded, are_total};
use crate::error::{Denial, DenialCode};
use crate::mutant;

pub(super) fn unguarded(name: &str) -> Denial {
    Denial::of(DenialCode::ParsersDisagree, name)
}

pub(super) fn leak() -> Denial {
    Denial::new(DenialCode::LeakPossible)
}

/// Demands that everything in the statement is kept to the tenant.
///
/// # Errors
/// HR1008 for a missing guard, HR1009 for an expression that could meet other tenants' rows.
pub(super) fn verify(statement: &Tree<'_>, env: Env<'_>) -> Result<(), Denial> {
    let verifier = Verifier { env, tenants: reads_tenants(statement, env) };
    let scope = Scope::EMPTY;
    let inner = statement.at("query");
    super::temporary::makes_no_other(statement)?;
    super::locks::are_own(statement, env)?;
    match statement.kind() {
        _ if super::listen::concerns(statement) => super::listen::verify(statement, env),
        _ if super::temporary::concerns(statement) => verifier.temporary(statement, scope),
        kind if is_statement(kind) => verifier.statement(statement, scope).map(|_| ()),
        "CopyStmt" if statement.at("is_from").truth() => verifier.copy_in(statement, scope),
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
        "TruncateStmt" => super::truncate::verify(statement, env),
        kind if changes_schema(kind, env) => {
            // What is copied is read; the shape of the schema has no rows.
            if statement.is("CreateTableAsStmt") {
                verifier.statement(inner, scope).map(|_| ())
            } else {
                Ok(())
            }
        }
        // Its names are those of constraints, which have no rows.
        "ConstraintsSetStmt" => Ok(()),
        // Statements without relations; the arguments of EXECUTE may hold sub-queries.
        kind if WITHOUT_RELATIONS.contains(&kind) => verifier.expressions(statement, scope),
        _ => Err(leak()),
    }
}

/// Statements that name no relation.
const WITHOUT_RELATIONS: &[&str] = &[
    "ClosePortalStmt",
    "DeallocateStmt",
    "DiscardStmt",
    "ExecuteStmt",
    "FetchStmt",
    "TransactionStmt",
    "UnlistenStmt",
    "VariableSetStmt",
    "VariableShowStmt",
];

/// Whether a statement of that kind is this caller's to change the schema with.
fn changes_schema(kind: &str, env: Env<'_>) -> bool {
    env.privileges.ddl && lists::SCHEMA_CHANGES.contains(&kind)
}

pub(super) struct Verifier<'e> {
    pub(super) env: Env<'e>,
    /// Whether rows of several tenants, or masked columns, can be met anywhere in the statement.
    tenants: bool,
}

/// Whether a relation anywhere in the statement is protected. What cannot be resolved is a common
/// table expression, or denied where it stands.
fn reads_tenants(statement: &Tree<'_>, env: Env<'_>) -> bool {
    let protected = |node: &Tree<'_>| {
        let Some(name) = node.at("relname").text().filter(|_| node.is("RangeVar")) else {
            return false;
        };
        match env.resolve(node.at("catalogname").text(), node.at("schemaname").text(), name) {
            Ok(Resolved::Table(table)) => table.is_protected() || !table.policy.columns.is_empty(),
            Ok(Resolved::Catalog { .. }) | Err(_) => false,
        }
    };
    statement.walk(&mut |node| if protected(node) { Err(()) } else { Ok(()) }).is_err()
}

/// Where a relation's guard must stand.
#[derive(Clone, Copy)]
pub(super) enum Place<'t, 'a> {
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
        if protected && (runs || !last_costs.is_some_and(off)) && !mutant::on("check-explain") {
            return Err(leak());
        }
        Ok(())
    }

    /// Whether the statement's rows may be merged into its reader with unguarded rows among them.
    pub(super) fn statement(
        &self,
        statement: &Tree<'_>,
        scope: Scope<'_>,
    ) -> Result<Exposure, Denial> {
        let with = statement.at("with_clause");
        let recursive = with.at("recursive").truth();
        let ctes = with.at("ctes").items();
        let mut own: Vec<(&str, Exposure)> = Vec::new();
        if recursive {
            // SECURITY: PostgreSQL merges them as any other, but for those that read themselves; one
            // that is not known yet is taken for the worst.
            let columns = Outputs::unknown();
            let rows = self.tenants;
            let worst = Exposure { rows, semi_join: self.tenants, columns, made: None };
            own.extend(ctes.iter().filter_map(|cte| {
                let apart = cte.at("ctematerialized").number() == Some(1);
                cte.at("ctename").text().map(|name| (name, worst.clone().unless(apart)))
            }));
        }
        for cte in ctes {
            let inner = scope.within(&own);
            let query = cte.at("ctequery");
            let exposed = self.statement(query, inner)?;
            let materialized = cte.at("ctematerialized").number() == Some(1);
            let name = cte.at("ctename").text().ok_or_else(leak)?;
            let apart = materialized || !query.is("SelectStmt");
            let made = Made::by(cte, self.env);
            own.push((name, Exposure { made, ..exposed.unless(apart) }));
        }
        let scope = scope.within(&own);
        self.hides_masked(statement)?;
        match statement.kind() {
            "SelectStmt" => self.select(statement, scope),
            "InsertStmt" => self.insert(statement, scope).map(|()| Exposure::default()),
            "UpdateStmt" | "DeleteStmt" => {
                self.change(statement, scope).map(|()| Exposure::default())
            }
            "MergeStmt" => self.merge(statement, scope).map(|()| Exposure::default()),
            _ => Err(leak()),
        }
    }

    /// A data change names no masked column of its target outside the mask.
    fn hides_masked(&self, statement: &Tree<'_>) -> Result<(), Denial> {
        let relation = statement.at("relation");
        let (Some(table), Some(visible)) =
            (masked_table(relation, self.env), visible_name(relation))
        else {
            return Ok(());
        };
        if (Target { table: &table, visible, env: self.env }).is_hidden_in(statement) {
            Ok(())
        } else {
            Err(unguarded(visible))
        }
    }

    fn select(&self, select: &Tree<'_>, scope: Scope<'_>) -> Result<Exposure, Denial> {
        let limited =
            !select.at("limit_count").is_absent() || !select.at("limit_offset").is_absent();
        if select.at("op").number() != Some(codes::SETOP_NONE) {
            let left = self.statement(select.at("larg"), scope)?;
            let right = self.statement(select.at("rarg"), scope)?;
            self.fields(select, scope, &["larg", "rarg", "with_clause", "into_clause"])?;
            return Ok(left.or(right).unless(limited));
        }
        let mut level = Level::new(scope.level, self.env.parameters);
        level.shows_masked = shows_masked(select, self.env);
        let mut conditions = vec![Condition::whole(select.at("where_clause"))];
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
        self.all_conditions(conditions, &level)?;
        self.having(select.at("having_clause"), &level)?;
        // A limit holds for all rows: it can name none of them.
        self.expressions(select.at("limit_count"), scope)?;
        self.expressions(select.at("limit_offset"), scope)?;
        // What is computed of groups is computed of rows that the guards have let through, by a
        // query that is merged into no other; a guard in it would name columns without a group.
        let computed = ["target_list", "having_clause"];
        // Only a whole statement has INTO: `makes_no_other` has seen to that.
        let rest = ["with_clause", "from_clause", "limit_count", "limit_offset", "into_clause"];
        self.fields(select, here, &[&rest[..], &computed[..]].concat())?;
        let after = if is_grouped(select) { Scope { level: None, ..here } } else { here };
        for field in computed {
            self.expressions(select.at(field), after)?;
        }
        self.beside_relations(select.at("from_clause"), here)?;
        let computed = [
            select.at("target_list"),
            select.at("distinct_clause"),
            select.at("group_clause"),
            select.at("sort_clause"),
            select.at("window_clause"),
        ];
        if level.semi_join
            && !(computed.into_iter().all(|part| is_total(part) && are_bounded(part, &level))
                && arguments_total(select.at("from_clause")))
        {
            return Err(leak());
        }
        let rows = !level.flat.is_empty() || level.merged;
        let columns = Outputs::of(select, &level);
        let semi_join = level.semi_join;
        Ok(Exposure { rows, semi_join, columns, made: None }.unless(limited))
    }

    /// One FROM item: relations into the level, ON conditions among the conditions.
    pub(super) fn from<'t>(
        &self,
        item: &'t Tree<'_>,
        place: Place<'t, '_>,
        scope: Scope<'_>,
        level: &mut Level<'t>,
        conditions: &mut Vec<Condition<'t>>,
    ) -> Result<(), Denial>
    where
        'e: 't,
    {
        match item.kind() {
            "RangeVar" => {
                if !level.shows_masked && masked_table(item, self.env).is_some() {
                    return Err(unguarded(visible_name(item).ok_or_else(leak)?));
                }
                self.relation(item, place, scope, level)
            }
            "RangeTableSample" => self.from(item.at("relation"), place, scope, level, conditions),
            "RangeSubselect" => {
                // What stands beside it may reach into it only if it is LATERAL; the level so far
                // is what it could name.
                let exposure = if item.at("lateral").truth() {
                    let hidden = &level.hidden;
                    let named = level
                        .part(|at| !hidden.iter().any(|range| range.contains(&at)), level.merged);
                    let inner = Scope { level: Some(&named), ..scope };
                    self.statement(item.at("subquery"), inner)?
                } else {
                    self.statement(item.at("subquery"), scope)?
                };
                let alias = item.at("alias");
                level.merge(alias.at("aliasname").text(), alias.at("colnames"), exposure);
                level
                    .beside
                    .extend(item.at("alias").at("aliasname").text().map(|name| (name, None)));
                Ok(())
            }
            "JoinExpr" => {
                let on = item.at("quals");
                let supplied = if on.is_absent() { Place::Nowhere } else { Place::In(on) };
                let hidden = !item.at("alias").is_absent();
                let (left, right) = match item.at("jointype").number() {
                    _ if hidden => (Place::Nowhere, Place::Nowhere),
                    _ if mutant::on("check-join-side") => (place, place),
                    Some(codes::JOIN_INNER) => (place, place),
                    Some(codes::JOIN_LEFT) => (place, supplied),
                    Some(codes::JOIN_RIGHT) => (supplied, place),
                    Some(_) | None => (Place::Nowhere, Place::Nowhere),
                };
                let start = level.flat.len();
                let before = level.merges;
                self.from(item.at("larg"), left, scope, level, conditions)?;
                // Only an inner or a left join lets its right side look at its left one.
                let looks = matches!(
                    item.at("jointype").number(),
                    Some(codes::JOIN_INNER | codes::JOIN_LEFT)
                );
                if !looks {
                    level.hidden.push(start..level.flat.len());
                }
                self.from(item.at("rarg"), right, scope, level, conditions)?;
                if !looks {
                    level.hidden.pop();
                }
                let merged = level.merges > before;
                if item.at("jointype").number() == Some(codes::JOIN_FULL) {
                    // No CASE can stand in a FULL JOIN; both sides are apart.
                    return if merged && !is_total(on) { Err(leak()) } else { Ok(()) };
                }
                let operands = Some((start..level.flat.len(), merged));
                conditions.push(Condition { tree: on, operands });
                Ok(())
            }
            "RangeFunction" | "RangeTableFunc" => {
                level.passes_columns |= names_a_column(item);
                Ok(())
            }
            kind => Err(unguarded(kind)),
        }
    }

    pub(super) fn relation<'t>(
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
            let names = relation.at("alias").at("colnames");
            level.merge(visible_name(relation), names, exposed);
            level.beside.extend(visible_name(relation).map(|visible| (visible, None)));
            return Ok(());
        }
        let name = relation.at("relname").text().ok_or_else(leak)?;
        let visible = visible_name(relation).ok_or_else(leak)?;
        let schema = relation.at("schemaname").text();
        let table = match self.env.resolve(relation.at("catalogname").text(), schema, name)? {
            Resolved::Catalog { .. } => {
                level.beside.push((visible, None));
                return Ok(());
            }
            Resolved::Table(table) => table,
        };
        if schema.is_none() && !mutant::on("check-bare-name") {
            // What a bare name means is for the server's search path to say.
            return Err(unguarded(name));
        }
        let renamed = !relation.at("alias").at("colnames").is_absent();
        if !table.is_protected() {
            // Its columns go by other names then.
            level.beside.push((visible, table.relation.filter(|_| !renamed)));
            return Ok(());
        }
        let Place::In(condition) = place else { return Err(unguarded(name)) };
        if renamed && !mutant::on("check-renamed")
            || !are_guarded(&conjuncts(condition), &table, visible, self.env)
        {
            return Err(unguarded(name));
        }
        level.semi_join |= conjuncts(condition).into_iter().any(|conjunct| {
            conjunct.is("SubLink")
                && !mutant::on("check-semi-join")
                && is_tenant_guard(conjunct, &table, visible, self.env)
        });
        level.flat.push(Flat { table, visible });
        Ok(())
    }

    /// Each condition as [`Self::conditions`], by the relations that it can name.
    pub(super) fn all_conditions(
        &self,
        conditions: Vec<Condition<'_>>,
        level: &Level<'_>,
    ) -> Result<(), Denial> {
        for Condition { tree, operands } in conditions {
            match operands {
                None => self.conditions(tree, level)?,
                Some((range, merged)) => {
                    self.conditions(tree, &level.part(|at| range.contains(&at), merged))?;
                }
            }
        }
        Ok(())
    }

    /// Every conjunct is a guard, total, or shielded by guards.
    pub(super) fn conditions(&self, condition: &Tree<'_>, level: &Level<'_>) -> Result<(), Denial> {
        for conjunct in conjuncts(condition) {
            let passes = self.is_guard(conjunct, level)
                || (is_total(conjunct) && are_total(conjunct, level));
            if passes || (!level.holds_any() && !level.merges_any()) {
                continue;
            }
            let behind = shielded(conjunct).is_some_and(|(guard, inner)| {
                self.is_shield(guard, level) && self.covers(guard, inner, level)
            });
            let merged = level.merges_any() && !mutant::on("check-merged");
            if !behind && level.holds_any() || merged {
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

    /// Whether a shield holds the guard of every relation of its level that the expression behind it
    /// may name. Those of the levels around it were kept where they stand.
    fn covers(&self, guard: &Tree<'_>, inner: &Tree<'_>, level: &Level<'_>) -> bool {
        let mut named: Vec<Vec<&str>> = Vec::new();
        gather_columns(inner, &mut named);
        level.flat.iter().all(|flat| {
            let met = named.iter().any(|parts| level.may_name(parts, flat));
            let held = conjuncts(guard).into_iter().any(|part| {
                let strict = null_extended(part).map_or(part, |(guard, _)| guard);
                let guards = conjuncts(strict);
                are_guarded(&guards, &flat.table, flat.visible, self.env)
            }) || are_guarded(&conjuncts(guard), &flat.table, flat.visible, self.env);
            held || !met
        })
    }

    /// HAVING without aggregates is moved into WHERE: it must be total or carry an aggregate.
    fn having(&self, having: &Tree<'_>, level: &Level<'_>) -> Result<(), Denial> {
        if !level.holds_any() && !level.merged {
            return Ok(());
        }
        for conjunct in conjuncts(having) {
            let kept = shielded(conjunct).is_some_and(|(guard, _)| is_counted(guard));
            let total = is_total(conjunct) && are_bounded(conjunct, level);
            if !kept && !total && !mutant::on("check-having") {
                return Err(leak());
            }
        }
        Ok(())
    }

    fn change(&self, statement: &Tree<'_>, scope: Scope<'_>) -> Result<(), Denial> {
        let condition = statement.at("where_clause");
        let mut level = Level::new(None, self.env.parameters);
        let mut conditions = vec![Condition::whole(condition)];
        let no_ctes = Scope::EMPTY;
        if condition.is("CurrentOfExpr") {
            // The row is one that a cursor shows: its query was guarded when it was declared, and no
            // guard can stand beside it.
            let alone = ["from_clause", "using_clause"];
            if !alone.iter().all(|field| statement.at(field).is_absent()) {
                return Err(leak());
            }
            self.current_row(statement, &mut level)?;
            conditions.clear();
        } else {
            self.relation(statement.at("relation"), Place::In(condition), no_ctes, &mut level)?;
        }
        level.hidden.push(0..level.flat.len());
        for field in ["from_clause", "using_clause"] {
            for item in statement.at(field).items() {
                self.from(item, Place::In(condition), scope, &mut level, &mut conditions)?;
            }
        }
        self.all_conditions(conditions, &level)?;
        let beside = [statement.at("from_clause"), statement.at("using_clause")];
        if level.semi_join && !beside.into_iter().all(arguments_total) {
            return Err(leak());
        }
        let here = Scope { level: Some(&level), ..scope };
        if statement.is("UpdateStmt")
            && let Some(table) = self.protected_target(statement)?
            && !mutant::on("check-assignments")
        {
            let visible = visible_name(statement.at("relation")).ok_or_else(leak)?;
            self.assignments(statement.at("target_list"), &table, visible, None)?;
        }
        self.fields(statement, here, &["with_clause", "relation", "from_clause", "using_clause"])?;
        self.beside_relations(statement.at("from_clause"), here)?;
        self.beside_relations(statement.at("using_clause"), here)
    }

    /// The target of a change of the row that a cursor stands on.
    fn current_row<'t>(&self, statement: &'t Tree<'_>, level: &mut Level<'t>) -> Result<(), Denial>
    where
        'e: 't,
    {
        let visible = visible_name(statement.at("relation")).ok_or_else(leak)?;
        match self.protected_target(statement)? {
            Some(table) => level.flat.push(Flat { table, visible }),
            None => level.beside.push((visible, None)),
        }
        Ok(())
    }

    pub(super) fn protected_target(
        &self,
        statement: &Tree<'_>,
    ) -> Result<Option<Table<'e>>, Denial> {
        let relation = statement.at("relation");
        let name = relation.at("relname").text().ok_or_else(leak)?;
        let schema = relation.at("schemaname").text();
        match self.env.resolve(relation.at("catalogname").text(), schema, name)? {
            Resolved::Catalog { .. } => Err(Denial::of(DenialCode::ReadOnly, name)),
            Resolved::Table(_) if schema.is_none() => Err(unguarded(name)),
            Resolved::Table(table) if !table.is_protected() => Ok(None),
            Resolved::Table(table) => Ok(Some(table)),
        }
    }

    /// Sub-queries in expressions of a statement's own fields.
    pub(super) fn fields(
        &self,
        statement: &Tree<'_>,
        scope: Scope<'_>,
        but: &[&str],
    ) -> Result<(), Denial> {
        statement.fields().iter().filter(|(name, _)| !but.contains(name)).try_for_each(
            |(name, value)| match *name {
                "where_clause" | "join_condition" => self.in_conjuncts(value, scope),
                _ => self.expressions(value, scope),
            },
        )
    }

    /// Sub-queries in a condition that the planner takes apart by its ANDs. It makes no join of what
    /// stands in a CASE.
    fn in_conjuncts(&self, condition: &Tree<'_>, scope: Scope<'_>) -> Result<(), Denial> {
        conjuncts(condition).into_iter().try_for_each(|conjunct| {
            let members = match scope.level {
                _ if conjunct.is("CaseExpr") => Members::Free,
                Some(level) if self.is_guard(conjunct, level) => Members::Free,
                Some(level) if is_total(conjunct) && are_total(conjunct, level) => Members::Total,
                Some(_) | None => Members::Apart,
            };
            self.expressions(conjunct, Scope { members, ..scope })
        })
    }

    /// What the sub-query of IN shows is what its place allows.
    fn membership(&self, sublink: &Tree<'_>, scope: Scope<'_>) -> Result<(), Denial> {
        self.expressions(sublink.at("testexpr"), scope)?;
        let exposure = self.statement(sublink.at("subselect"), scope)?;
        let shown = match scope.members {
            Members::Free => false,
            Members::Total => exposure.rows && exposure.columns.any_may_fail(),
            Members::Apart => exposure.rows,
        };
        if shown && !mutant::on("check-members") { Err(leak()) } else { Ok(()) }
    }

    /// Sub-queries in ON, in functions' arguments, in samples: not those that are FROM items.
    fn beside_relations(&self, from: &Tree<'_>, scope: Scope<'_>) -> Result<(), Denial> {
        match from.kind() {
            "" => from.items().iter().try_for_each(|item| self.beside_relations(item, scope)),
            "JoinExpr" => {
                self.beside_relations(from.at("larg"), scope)?;
                self.beside_relations(from.at("rarg"), scope)?;
                if from.at("jointype").number() == Some(codes::JOIN_FULL) {
                    // The planner makes no join of what a FULL JOIN asks.
                    self.expressions(from.at("quals"), scope)
                } else {
                    self.in_conjuncts(from.at("quals"), scope)
                }
            }
            "RangeVar" | "RangeSubselect" => Ok(()),
            "RangeTableSample" => self.fields(from, scope, &["relation"]),
            _ => self.expressions(from, scope),
        }
    }

    pub(super) fn expressions(&self, tree: &Tree<'_>, scope: Scope<'_>) -> Result<(), Denial> {
        match tree.kind() {
            kind if is_statement(kind) && mutant::on("check-subqueries") => Ok(()),
            kind if is_statement(kind) => self.statement(tree, scope).map(|_| ()),
            "SubLink" if is_membership(tree) && !mutant::on("check-subqueries") => {
                self.membership(tree, scope)
            }
            "FuncCall" if may_aggregate(tree) => {
                let sealed = Scope { level: None, ..scope };
                tree.children().try_for_each(|child| self.expressions(child, sealed))
            }
            "LockingClause" => Ok(()),
            "RangeVar" => Err(unguarded("relation")),
            _ => tree.children().try_for_each(|child| self.expressions(child, scope)),
        }
    }
}

/// Whether a SELECT returns groups: by GROUP BY, by HAVING, or by an aggregate of its own.
fn is_grouped(select: &Tree<'_>) -> bool {
    fn aggregates(tree: &Tree<'_>) -> bool {
        let here = tree.is("FuncCall") && may_aggregate(tree);
        !is_statement(tree.kind()) && (here || tree.children().any(aggregates))
    }
    !select.at("group_clause").items().is_empty()
        || !select.at("having_clause").is_absent()
        || aggregates(select.at("target_list"))
}

/// Whether a call is of an aggregate, or of a function that could be one.
fn may_aggregate(call: &Tree<'_>) -> bool {
    let name = call.at("funcname").name_parts();
    let name = name.as_deref().and_then(<[&str]>::last);
    call.at("over").is_absent() && name.is_none_or(|name| functions::may_aggregate(name))
}

/// Whether what FROM items compute of the rows beside them is total: the arguments of functions, and
/// LATERAL sub-selects throughout.
fn arguments_total(from: &Tree<'_>) -> bool {
    match from.kind() {
        "" => from.items().iter().all(arguments_total),
        "JoinExpr" => arguments_total(from.at("larg")) && arguments_total(from.at("rarg")),
        "RangeVar" => true,
        "RangeSubselect" => !from.at("lateral").truth() || is_total(from.at("subquery")),
        "RangeFunction" => {
            let calls = from.at("functions").items().iter().flat_map(|call| call.items());
            calls.filter(|call| call.is("FuncCall")).all(|call| is_total(call.at("args")))
        }
        "RangeTableSample" => arguments_total(from.at("relation")),
        _ => false,
    }
}

/// The columns that a tree names, by their parts; `*` ends the parts of a whole row.
fn gather_columns<'t>(tree: &'t Tree<'_>, found: &mut Vec<Vec<&'t str>>) {
    if tree.is("ColumnRef") {
        let fields = tree.at("fields").items();
        let parts = fields.iter().map(|part| part.text().unwrap_or("*")).collect::<Vec<_>>();
        found.push(if parts == ["*"] { Vec::new() } else { parts });
    }
    tree.children().for_each(|child| gather_columns(child, found));
}

/// `… IN (SELECT …)`, `… = ANY (SELECT …)`
fn is_membership(sublink: &Tree<'_>) -> bool {
    sublink.at("sub_link_type").number() == Some(codes::ANY_SUBLINK)
}

fn names_a_column(tree: &Tree<'_>) -> bool {
    tree.is("ColumnRef") || tree.children().any(names_a_column)
}
