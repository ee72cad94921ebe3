//! INSERT, UPDATE, DELETE, MERGE: every row written belongs to the tenant, and only the tenant's
//! rows are touched. Layer 2.
//!
//! The tenant column is filled where the client leaves it out; where it gives a value that is not
//! known to be the tenant's, the value is checked as the row is made, and the statement fails.

use sqlparser::ast::{
    Assignment, AssignmentTarget, BinaryOperator, Delete, Expr, FromTable, Insert, Merge,
    MergeAction, MergeClauseKind, MergeInsertKind, MergeUpdateKind, ObjectName, OnConflictAction,
    OnInsert, Query, SelectItem, SetExpr, TableFactor, TableObject, TableWithJoins, Update,
    UpdateTableFromKind, Value, Values,
};

use super::super::env::{Resolved, Table};
use super::from::{Placement, columns_of, name_parts, qualified};
use super::level::{Bond, Level, Rel, name_of};
use super::{Ctes, Rewriter, Scope, dialect, guard, made};
use crate::error::{Denial, DenialCode};
use crate::mutant;
use crate::policy::Protection;
use crate::sql::account;

/// What the tenancy of a table demands of the values written to one of its columns.
struct Demand {
    column: String,
    /// The type in which a value is checked.
    type_name: &'static str,
    kind: DemandKind,
}

enum DemandKind {
    /// The value is the tenant.
    Tenant(Expr),
    /// The value is the key of one of the tenant's parents: one of the first query, or of the others.
    Parent(Query, Vec<Query>),
    /// The value is null, or the key of a row of the tenant's.
    Reference(Query, Vec<Query>),
}

impl Demand {
    /// A value that passes, or fails as the row is made.
    fn check(&self, value: Expr, code: DenialCode) -> Expr {
        match &self.kind {
            DemandKind::Tenant(tenant) => {
                let tenant = tenant.clone();
                guard::checked(value, self.type_name, |seen| guard::equals(seen, tenant), code)
            }
            DemandKind::Parent(parents, made) => {
                let test = |seen: Expr| among_any(seen.clone(), among(seen, parents.clone()), made);
                guard::checked(value, self.type_name, test, code)
            }
            DemandKind::Reference(keys, made) => {
                let test = |seen: Expr| {
                    let null = Expr::IsNull(Box::new(seen.clone()));
                    let known = or(null, among(seen.clone(), keys.clone()));
                    among_any(seen, known, made)
                };
                guard::checked(value, self.type_name, test, code)
            }
        }
    }

    /// What stands in the column when the client gives nothing.
    fn filled(&self) -> Result<Expr, Denial> {
        match &self.kind {
            DemandKind::Tenant(tenant) => Ok(tenant.clone()),
            DemandKind::Parent(..) | DemandKind::Reference(..) => {
                Err(Denial::of(DenialCode::WriteOutsideTenant, self.column.clone()))
            }
        }
    }

    /// Whether the column's own default may stand.
    const fn may_default(&self) -> bool {
        matches!(self.kind, DemandKind::Reference(..))
    }

    /// The value to write for the one that the client wrote.
    fn written(&self, value: &mut Expr, code: DenialCode) -> Result<(), Denial> {
        if is_default(value) {
            if !self.may_default() {
                *value = self.filled()?;
            }
            return Ok(());
        }
        if let DemandKind::Tenant(tenant) = &self.kind
            && let Some(text) = literal_text(value)
        {
            if literal_text(tenant).is_some_and(|own| same_value(&own, &text, self.type_name)) {
                *value = tenant.clone();
                return Ok(());
            }
            if !mutant::on("foreign-literal") {
                return Err(Denial::of(code, self.column.clone()));
            }
            return Ok(());
        }
        if mutant::on("value-unchecked") {
            return Ok(());
        }
        let client = std::mem::replace(value, Expr::Value(Value::Null.into()));
        *value = self.check(client, code);
        Ok(())
    }
}

fn note_written(env: super::Env<'_>, table: &Table<'_>, demand: &Demand) {
    let (relation, column) = (&table.name, &demand.column);
    env.notes.take(|account| {
        account.written.push(account::Written {
            relation: relation.clone(),
            column: column.clone(),
            demand: match demand.kind {
                DemandKind::Tenant(_) => "the tenant: filled in where it is left out, else checked",
                DemandKind::Parent(..) => "the key of a parent that is the tenant's: checked",
                DemandKind::Reference(..) => {
                    "null, or the key of a row that is the tenant's: checked"
                }
            },
        });
    });
}

fn among(value: Expr, keys: Query) -> Expr {
    Expr::InSubquery { expr: Box::new(value), subquery: Box::new(keys), negated: false }
}

fn or(left: Expr, right: Expr) -> Expr {
    Expr::BinaryOp { left: Box::new(left), op: BinaryOperator::Or, right: Box::new(right) }
}

/// `known OR value IN (…) OR …`: the keys of rows that the statement makes itself.
fn among_any(value: Expr, known: Expr, made: &[Query]) -> Expr {
    made.iter().fold(known, |test, keys| or(test, among(value.clone(), keys.clone())))
}

pub(super) fn is_default(value: &Expr) -> bool {
    matches!(value, Expr::Identifier(word) if word.quote_style.is_none() && word.value.eq_ignore_ascii_case("default"))
}

/// The text of a literal, casts and parentheses taken off.
fn literal_text(value: &Expr) -> Option<String> {
    match value {
        Expr::Nested(inner) => literal_text(inner),
        Expr::Cast { expr, .. } => literal_text(expr),
        Expr::Value(value) => match &value.value {
            Value::SingleQuotedString(text) => Some(text.replace("''", "'")),
            Value::Number(digits, _) => Some(digits.clone()),
            Value::Null => Some(String::new()),
            _ => None,
        },
        _ => None,
    }
}

fn same_value(own: &str, given: &str, type_name: &str) -> bool {
    match type_name {
        "uuid" => uuid::Uuid::try_parse(given).is_ok_and(|given| given.to_string() == own),
        _ => own == given,
    }
}

impl<'a> Rewriter<'a> {
    fn demand(&self, table: &Table<'_>, ctes: Option<&Ctes<'_>>) -> Result<Option<Demand>, Denial> {
        let column_type = |column: &str, otherwise: &'static str| match table.relation {
            None => Some(otherwise),
            Some(relation) => guard::checkable_type(&relation.column(column)?.type_name),
        };
        match &table.policy.protection {
            Protection::Tenant { column, tenant_type } => {
                let literal = guard::tenant_literal(self.env, table, column, *tenant_type)?;
                let type_name =
                    column_type(column, "text").ok_or(Denial::new(DenialCode::LeakPossible))?;
                let type_name = if table.relation.is_some() {
                    type_name
                } else {
                    match tenant_type {
                        crate::policy::TenantType::Uuid => "uuid",
                        crate::policy::TenantType::Text => "text",
                        crate::policy::TenantType::Int => "int8",
                    }
                };
                Ok(Some(Demand {
                    column: column.clone(),
                    type_name,
                    kind: DemandKind::Tenant(literal),
                }))
            }
            Protection::TenantThrough { column, parent, parent_column } => {
                let parents = guard::parent_keys(self.env, table, 0)?;
                let made = ctes.map(|ctes| ctes.made(parent, parent_column)).unwrap_or_default();
                let type_name =
                    column_type(column, "text").ok_or(Denial::new(DenialCode::LeakPossible))?;
                Ok(Some(Demand {
                    column: column.clone(),
                    type_name,
                    kind: DemandKind::Parent(parents, made),
                }))
            }
            Protection::Shared => Ok(None),
            Protection::Deny => Err(Denial::new(DenialCode::RelationDenied)),
        }
    }

    /// All that the table demands of written values: references first, its own tenancy last. Rows made
    /// in `ctes` are there for them.
    fn demands(&self, table: &Table<'_>, ctes: Option<&Ctes<'_>>) -> Result<Vec<Demand>, Denial> {
        let mut demands = Vec::new();
        for reference in self.env.references(table) {
            if mutant::on("reference-unchecked") {
                break;
            }
            let column = table.relation.and_then(|relation| relation.column(reference.column));
            let type_name = column
                .and_then(|column| guard::checkable_type(&column.type_name))
                .ok_or_else(|| Denial::of(DenialCode::LeakPossible, reference.column))?;
            let keys = guard::keys_of(self.env, &reference.parent, reference.parent_column, 0)?;
            let made = ctes.map(|ctes| ctes.made(&reference.parent.name, reference.parent_column));
            let kind = DemandKind::Reference(keys, made.unwrap_or_default());
            demands.push(Demand { column: reference.column.to_owned(), type_name, kind });
        }
        demands.extend(self.demand(table, ctes)?);
        Ok(demands)
    }

    /// Resolves a target table, which is never a CTE.
    pub(super) fn target(&self, name: &mut ObjectName) -> Result<(Table<'a>, String), Denial> {
        let parts = name_parts(name)?;
        let visible = parts.last().cloned().ok_or(Denial::new(DenialCode::Internal))?;
        match self.resolve(&parts)? {
            Resolved::Table(table) => {
                *name = qualified(&table);
                Ok((table, visible))
            }
            Resolved::Catalog { .. } => Err(Denial::of(DenialCode::ReadOnly, visible)),
        }
    }

    pub(super) fn insert(
        &mut self,
        insert: &mut Insert,
        ctes: Option<&Ctes<'_>>,
    ) -> Result<(), Denial> {
        let TableObject::TableName(name) = &mut insert.table else {
            return Err(Denial::new(DenialCode::CannotParse));
        };
        let (table, visible) = self.target(name)?;
        let visible = insert.table_alias.as_ref().map_or(visible, |alias| name_of(&alias.alias));
        let guards = guard::guards(self.env, &table, &visible)?;
        let hidden = insert.source.as_ref().is_some_and(|source| made::has_with(source));
        let demands = self.demands(&table, ctes.filter(|_| !hidden))?;
        let check = self.row_check(&table)?;
        for demand in &demands {
            note_written(self.env, &table, demand);
        }
        let relation = table.name.clone();
        let columns = columns_of(&table, self.env);
        let all_names: Option<Vec<String>> =
            columns.as_ref().map(|columns| columns.iter().map(|(name, _)| name.clone()).collect());
        let tenant = match &table.policy.protection {
            Protection::Tenant { column, .. } => Some(column.clone()),
            Protection::TenantThrough { .. } | Protection::Shared | Protection::Deny => None,
        };
        if let Some(returning) = &mut insert.returning {
            self.mask_returning(returning, &table, &visible)?;
        }

        // WITH stands on the source query; its CTEs are rewritten with it.
        if insert.source.is_none() && (!demands.is_empty() || check.is_some()) {
            // DEFAULT VALUES: the one value that has no default is the tenant.
            let own = demands.last().filter(|demand| !demand.may_default());
            let own = own.ok_or_else(|| Denial::of(DenialCode::LeakPossible, visible.clone()))?;
            insert.columns = vec![column_list_entry(&own.column)];
            insert.source = Some(Box::new(guard::values(own.filled()?)));
        }
        if let Some(source) = insert.source.as_mut() {
            self.depth += 1;
            let around = self.expanding.replace(self.depth + 1);
            self.query(source, Scope { level: None, ctes })?;
            self.expanding = around;
            self.depth -= 1;
        }
        if !demands.is_empty() || check.is_some() {
            let source = insert.source.as_mut().ok_or(Denial::new(DenialCode::Internal))?;
            let mut named: Vec<String> =
                insert.columns.iter().map(column_name).collect::<Result<_, _>>()?;
            if named.is_empty() {
                let all = all_names
                    .ok_or_else(|| Denial::of(DenialCode::LeakPossible, visible.clone()))?;
                named = match width(&source.body) {
                    Some(width) if width <= all.len() => all.into_iter().take(width).collect(),
                    // Too many values: PostgreSQL refuses the text below as it would the client's.
                    Some(_) => all,
                    None => return Err(Denial::of(DenialCode::LeakPossible, visible)),
                };
                insert.columns = named.iter().map(|name| column_list_entry(name)).collect();
            }
            for demand in &demands {
                let at = named.iter().position(|name| *name == demand.column);
                if at.is_none() && demand.may_default() {
                    continue;
                }
                if at.is_none() {
                    insert.columns.push(column_list_entry(&demand.column));
                }
                fill(&mut source.body, at, named.len(), demand)?;
            }
            if let Some(check) = &check {
                let named: Vec<String> =
                    insert.columns.iter().map(column_name).collect::<Result<_, _>>()?;
                check.rows(&mut source.body, &named)?;
            }
        }

        let bond = guard::all(guards.iter().cloned())
            .map_or(Bond::Free, |guard| Bond::Flat { guard: Box::new(guard) });
        let mut level = Level::new(self.env, None);
        level.rels.push(Rel {
            visible: visible.clone(),
            columns: columns.clone(),
            bond: bond.clone(),
            tenant,
        });
        match &mut insert.on {
            None => {}
            Some(OnInsert::OnConflict(conflict)) => {
                if let OnConflictAction::DoUpdate(update) = &mut conflict.action {
                    if let Bond::Flat { guard } = &bond {
                        let place = account::Place::ConflictUpdate;
                        super::blame::note_guard(self.env, &relation, &visible, place, guard);
                    }
                    // Only here is "excluded" visible: the row that was to be inserted, our own.
                    let mut level = Level::new(self.env, None);
                    level.rels.push(Rel {
                        visible: visible.clone(),
                        columns: columns.clone(),
                        bond,
                        tenant: None,
                    });
                    level.rels.push(Rel {
                        visible: "excluded".to_owned(),
                        columns: Some(Vec::new()),
                        bond: Bond::Free,
                        tenant: None,
                    });
                    let scope = Scope { level: Some(&level), ctes };
                    self.assignments(&mut update.assignments, &demands, scope, true)?;
                    if let Some(check) = &check {
                        check.assignments(&mut update.assignments, &visible)?;
                    }
                    let client = update.selection.take();
                    update.selection = if mutant::on("upsert-guard") {
                        client
                    } else if mutant::on("upsert-guard-last") {
                        guard::all(client.into_iter().chain(guards))
                    } else {
                        self.bound(guards, client, scope, &mut true)?
                    };
                }
            }
            Some(OnInsert::DuplicateKeyUpdate(_)) | Some(_) => {
                return Err(Denial::new(DenialCode::CannotParse));
            }
        }
        self.returning(insert.returning.as_mut(), &level, ctes)
    }

    pub(super) fn update(
        &mut self,
        update: &mut Update,
        ctes: Option<&Ctes<'_>>,
    ) -> Result<(), Denial> {
        if !update.table.joins.is_empty() {
            return Err(Denial::new(DenialCode::CannotParse));
        }
        let demands = self.demands_of(&update.table.relation)?;
        let (table, visible) = self.target_of(&update.table.relation)?;
        let check = self.row_check(&table)?;
        for assignment in &mut update.assignments {
            self.mask_expression(&mut assignment.value, &table, &visible)?;
        }
        if let Some(selection) = &mut update.selection {
            self.mask_expression(selection, &table, &visible)?;
        }
        if let Some(returning) = &mut update.returning {
            self.mask_returning(returning, &table, &visible)?;
        }
        let mut level = Level::new(self.env, None);
        let mut placement = Placement::default();
        self.at_target = true;
        self.place_item(&mut update.table, &mut level, ctes, &mut placement)?;
        let from = match &mut update.from {
            Some(UpdateTableFromKind::BeforeSet(from) | UpdateTableFromKind::AfterSet(from)) => {
                from.as_mut_slice()
            }
            None => &mut [],
        };
        let mut barriers = Placement::beside(&level);
        barriers.conditions = std::mem::take(&mut placement.conditions);
        for item in from.iter_mut() {
            self.place_item(item, &mut level, ctes, &mut barriers)?;
        }
        let level = level;
        let scope = Scope { level: Some(&level), ctes };
        self.join_conditions(from, &mut barriers, scope, &mut true)?;
        update.selection = self.selected(&mut barriers, update.selection.take(), scope)?;
        self.assignments(&mut update.assignments, &demands, scope, false)?;
        if let Some(check) = &check {
            check.assignments(&mut update.assignments, &visible)?;
        }
        let total = !barriers.unclean;
        level.settle_semi_joins(total);
        if !total {
            guard::fix_semi_joins(update.selection.as_mut(), from);
        }
        barriers.raise(from, self.env.notes);
        self.returning(update.returning.as_mut(), &level, ctes)
    }

    pub(super) fn delete(
        &mut self,
        delete: &mut Delete,
        ctes: Option<&Ctes<'_>>,
    ) -> Result<(), Denial> {
        let FromTable::WithFromKeyword(targets) = &mut delete.from else {
            return Err(Denial::new(DenialCode::CannotParse));
        };
        if let [target] = targets.as_slice() {
            let (table, visible) = self.target_of(&target.relation)?;
            if let Some(selection) = &mut delete.selection {
                self.mask_expression(selection, &table, &visible)?;
            }
            if let Some(returning) = &mut delete.returning {
                self.mask_returning(returning, &table, &visible)?;
            }
        }
        let mut level = Level::new(self.env, None);
        let mut placement = Placement::default();
        for target in targets.iter_mut() {
            self.at_target = true;
            self.place_item(target, &mut level, ctes, &mut placement)?;
        }
        let using: &mut [TableWithJoins] = delete.using.as_deref_mut().unwrap_or_default();
        let mut barriers = Placement::beside(&level);
        barriers.conditions = std::mem::take(&mut placement.conditions);
        for item in using.iter_mut() {
            self.place_item(item, &mut level, ctes, &mut barriers)?;
        }
        let level = level;
        let scope = Scope { level: Some(&level), ctes };
        self.join_conditions(using, &mut barriers, scope, &mut true)?;
        delete.selection = self.selected(&mut barriers, delete.selection.take(), scope)?;
        let total = !barriers.unclean;
        level.settle_semi_joins(total);
        if !total {
            guard::fix_semi_joins(delete.selection.as_mut(), using);
        }
        barriers.raise(using, self.env.notes);
        self.returning(delete.returning.as_mut(), &level, ctes)
    }

    /// The condition of an UPDATE or DELETE under its guards. The row that a cursor stands on is the
    /// tenant's, for its query was guarded; PostgreSQL takes nothing beside CURRENT OF.
    fn selected(
        &mut self,
        barriers: &mut Placement,
        client: Option<Expr>,
        scope: Scope<'_>,
    ) -> Result<Option<Expr>, Denial> {
        let guards = std::mem::take(&mut barriers.conditions);
        match client {
            Some(current) if dialect::is_current_row(&current) => Ok(Some(current)),
            client => self.bound(guards, client, scope, &mut true),
        }
    }

    pub(super) fn merge(
        &mut self,
        merge: &mut Merge,
        ctes: Option<&Ctes<'_>>,
    ) -> Result<(), Denial> {
        let demands = self.demands_of(&merge.table)?;
        let (table, visible) = self.target_of(&merge.table)?;
        let check = self.row_check(&table)?;
        let mut level = Level::new(self.env, None);
        let mut placement = Placement::default();
        let mut target = TableWithJoins { relation: merge.table.clone(), joins: Vec::new() };
        self.at_target = true;
        self.place_item(&mut target, &mut level, ctes, &mut placement)?;
        merge.table = target.relation;
        let guards = std::mem::take(&mut placement.conditions);
        // A source row of another tenant would take the NOT MATCHED path: it is filtered before.
        let mut sources = Placement::beside(&level);
        self.factor_apart(&mut merge.source, &mut level, ctes, &mut sources)?;
        let level = level;
        let scope = Scope { level: Some(&level), ctes };
        let only_sources = level.part(level.rels.iter().skip(1).cloned().collect());
        let client = std::mem::replace(&mut *merge.on, Expr::Value(Value::Null.into()));
        *merge.on = self
            .bound(
                if mutant::on("merge-on") { Vec::new() } else { guards.clone() },
                Some(client),
                scope,
                &mut true,
            )?
            .ok_or(Denial::new(DenialCode::Internal))?;
        for clause in &mut merge.clauses {
            let on_target = match clause.clause_kind {
                _ if mutant::on("merge-when") => Vec::new(),
                MergeClauseKind::Matched | MergeClauseKind::NotMatchedBySource => guards.clone(),
                MergeClauseKind::NotMatched | MergeClauseKind::NotMatchedByTarget => Vec::new(),
            };
            // Without a match there is no target to name: the sources are filtered already.
            let named = match clause.clause_kind {
                MergeClauseKind::NotMatched | MergeClauseKind::NotMatchedByTarget => {
                    Scope { level: Some(&only_sources), ctes }
                }
                MergeClauseKind::Matched | MergeClauseKind::NotMatchedBySource => scope,
            };
            clause.predicate = self.bound(on_target, clause.predicate.take(), named, &mut true)?;
            match &mut clause.action {
                MergeAction::Insert(insert) => {
                    let MergeInsertKind::Values(values) = &mut insert.kind else {
                        return Err(Denial::new(DenialCode::CannotParse));
                    };
                    for value in values.rows.iter_mut().flat_map(|row| row.content.iter_mut()) {
                        self.subqueries(value, named)?;
                    }
                    if demands.is_empty() && check.is_none() {
                        continue;
                    }
                    if insert.columns.is_empty() {
                        let object = "INSERT without a column list";
                        return Err(Denial::of(DenialCode::LeakPossible, object));
                    }
                    let named: Vec<String> =
                        insert.columns.iter().map(column_name).collect::<Result<_, _>>()?;
                    for demand in &demands {
                        let at = named.iter().position(|name| *name == demand.column);
                        if at.is_none() && demand.may_default() {
                            continue;
                        }
                        if at.is_none() {
                            insert.columns.push(column_list_entry(&demand.column));
                        }
                        fill_values(values, at, named.len(), demand)?;
                    }
                    if let Some(check) = &check {
                        let named: Vec<String> =
                            insert.columns.iter().map(column_name).collect::<Result<_, _>>()?;
                        for row in &mut values.rows {
                            check.row(&mut row.content, &named)?;
                        }
                    }
                }
                MergeAction::Update(update) => {
                    let MergeUpdateKind::Set(assignments) = &mut update.kind else {
                        return Err(Denial::new(DenialCode::CannotParse));
                    };
                    self.assignments(assignments, &demands, scope, false)?;
                    if let Some(check) = &check {
                        check.assignments(assignments, &visible)?;
                    }
                }
                MergeAction::Delete { .. } => {}
                MergeAction::DoNothing { .. } => {}
            }
        }
        if let TableFactor::Derived { .. } = &merge.source {
            let mut item = TableWithJoins { relation: merge.source.clone(), joins: Vec::new() };
            sources.raise(std::slice::from_mut(&mut item), self.env.notes);
            merge.source = item.relation;
        }
        if merge.output.is_some() {
            return Err(Denial::new(DenialCode::CannotParse));
        }
        Ok(())
    }

    fn demands_of(&self, target: &TableFactor) -> Result<Vec<Demand>, Denial> {
        let (table, _) = self.target_of(target)?;
        self.demands(&table, None)
    }

    /// The table that is changed, and the name that qualifies its columns.
    fn target_of(&self, target: &TableFactor) -> Result<(Table<'a>, String), Denial> {
        let TableFactor::Table { name, alias, .. } = target else {
            return Err(Denial::new(DenialCode::CannotParse));
        };
        let (table, name) = self.target(&mut name.clone())?;
        Ok((table, alias.as_ref().map_or(name, |alias| name_of(&alias.name))))
    }

    fn assignments(
        &mut self,
        assignments: &mut [Assignment],
        demands: &[Demand],
        scope: Scope<'_>,
        upsert: bool,
    ) -> Result<(), Denial> {
        for assignment in assignments {
            self.subqueries(&mut assignment.value, scope)?;
            let names = match &assignment.target {
                AssignmentTarget::ColumnName(name) => vec![name],
                AssignmentTarget::Tuple(names) => names.iter().collect(),
            };
            let mut columns = Vec::new();
            for name in names {
                columns.extend(name_parts(name)?.into_iter().next());
            }
            for demand in demands.iter().filter(|demand| columns.contains(&demand.column)) {
                let tuple = matches!(assignment.target, AssignmentTarget::Tuple(_));
                let unset = is_default(&assignment.value) && !demand.may_default();
                if tuple || unset {
                    let code = DenialCode::TenantColumnChange;
                    return Err(Denial::of(code, demand.column.clone()));
                }
                if mutant::on("tenant-moved") {
                    continue;
                }
                if upsert && is_excluded(&assignment.value, &demand.column) {
                    continue;
                }
                let code = match demand.kind {
                    DemandKind::Tenant(_) => DenialCode::TenantColumnChange,
                    DemandKind::Parent(..) | DemandKind::Reference(..) => {
                        DenialCode::WriteOutsideTenant
                    }
                };
                demand.written(&mut assignment.value, code)?;
            }
        }
        Ok(())
    }

    fn returning(
        &mut self,
        items: Option<&mut Vec<SelectItem>>,
        level: &Level<'_>,
        ctes: Option<&Ctes<'_>>,
    ) -> Result<(), Denial> {
        let scope = Scope { level: Some(level), ctes };
        match items {
            Some(items) => self.projection(items, scope, &mut true).map(|_| ()),
            None => Ok(()),
        }
    }
}

/// The name in a column list.
fn column_name(column: &ObjectName) -> Result<String, Denial> {
    name_parts(column)?.pop().ok_or(Denial::new(DenialCode::CannotParse))
}

fn column_list_entry(name: &str) -> ObjectName {
    ObjectName::from(vec![guard::ident(name)])
}

/// `excluded.column`: the value of the row that was to be inserted, which was checked.
fn is_excluded(value: &Expr, column: &str) -> bool {
    match value {
        Expr::CompoundIdentifier(parts) => match parts.as_slice() {
            [row, name] => name_of(row) == "excluded" && name_of(name) == column,
            _ => false,
        },
        _ => false,
    }
}

/// How many columns a source has, where that can be told.
fn width(body: &SetExpr) -> Option<usize> {
    match body {
        SetExpr::Values(values) => values.rows.first().map(|row| row.content.len()),
        SetExpr::Select(select) => select_width(&select.projection),
        SetExpr::SetOperation { left, .. } => width(left),
        SetExpr::Query(query) => width(&query.body),
        SetExpr::Insert(_)
        | SetExpr::Update(_)
        | SetExpr::Delete(_)
        | SetExpr::Merge(_)
        | SetExpr::Table(_) => None,
    }
}

/// How many columns a select list has, unless it holds a wildcard.
fn select_width(items: &[SelectItem]) -> Option<usize> {
    let plain = |item: &SelectItem| match item {
        SelectItem::UnnamedExpr(expression) => !dialect::ends_in_star(expression),
        SelectItem::ExprWithAlias { .. } => true,
        SelectItem::ExprWithAliases { .. }
        | SelectItem::QualifiedWildcard(..)
        | SelectItem::Wildcard(_) => false,
    };
    items.iter().all(plain).then_some(items.len())
}

/// Fills or checks the demanded column in every row of a source of `count` columns.
fn fill(
    body: &mut SetExpr,
    at: Option<usize>,
    count: usize,
    demand: &Demand,
) -> Result<(), Denial> {
    match body {
        SetExpr::Values(values) => fill_values(values, at, count, demand),
        SetExpr::Select(_) if at.is_some() && mutant::on("insert-select") => Ok(()),
        SetExpr::Select(select) => {
            let Some(at) = at else {
                select.projection.push(SelectItem::UnnamedExpr(demand.filled()?));
                return Ok(());
            };
            if select_width(&select.projection).is_none() {
                return Err(Denial::of(DenialCode::LeakPossible, "INSERT … SELECT *"));
            }
            match select.projection.get_mut(at) {
                Some(
                    SelectItem::UnnamedExpr(value) | SelectItem::ExprWithAlias { expr: value, .. },
                ) => demand.written(value, DenialCode::WriteOutsideTenant),
                Some(_) | None => {
                    Err(Denial::of(DenialCode::WriteOutsideTenant, demand.column.clone()))
                }
            }
        }
        SetExpr::SetOperation { left, right, .. } => {
            fill(left, at, count, demand)?;
            if at.is_some() && mutant::on("insert-union") {
                return Ok(());
            }
            fill(right, at, count, demand)
        }
        SetExpr::Query(query) => fill(&mut query.body, at, count, demand),
        SetExpr::Insert(_)
        | SetExpr::Update(_)
        | SetExpr::Delete(_)
        | SetExpr::Merge(_)
        | SetExpr::Table(_) => Err(Denial::new(DenialCode::CannotParse)),
    }
}

fn fill_values(
    values: &mut Values,
    at: Option<usize>,
    count: usize,
    demand: &Demand,
) -> Result<(), Denial> {
    let rows = if at.is_some() && mutant::on("first-row") { 1 } else { values.rows.len() };
    for row in values.rows.iter_mut().take(rows) {
        let row = &mut row.content;
        match at {
            Some(at) => match row.get_mut(at) {
                Some(value) => demand.written(value, DenialCode::WriteOutsideTenant)?,
                None => {
                    return Err(Denial::of(DenialCode::WriteOutsideTenant, demand.column.clone()));
                }
            },
            // A row shorter than the list would put the tenant into another column.
            None if row.len() == count => row.push(demand.filled()?),
            None => return Err(Denial::new(DenialCode::CannotParse)),
        }
    }
    Ok(())
}
