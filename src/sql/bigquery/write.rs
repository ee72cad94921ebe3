//! Statements that change data or make tables: targets are bound to the tenant, rows that come in
//! are checked or filled. Pure.

use std::collections::BTreeSet;

use sqlparser::ast::{
    Assignment, AssignmentTarget, Delete, Expr, FromTable, FunctionArg, FunctionArgExpr,
    FunctionArguments, Insert, Merge, MergeAction, MergeClauseKind, MergeInsertKind,
    MergeUpdateKind, ObjectName, Query, SelectItem, SetExpr, Statement, TableFactor, TableObject,
    TableWithJoins, Update, UpdateTableFromKind, Value, Values, Visit,
};

use super::StatementKind;
use super::carry::bare_names;
use super::definitions::{create_table, create_view, declaration, drop_table, variable};
use super::dialect::parser;
use super::expression::tenant_literal;
use super::factor::{full_name, quoted};
use super::guard::conjunction;
use super::level::{Clause, Level};
use super::names::{Binding, TableName, path};
use super::rewrite::{Rewriter, Use, form};
use crate::error::{Denial, DenialCode};
use crate::mutant;
use crate::policy::{ColumnRule, Protection, TablePolicy};

/// The error that a row of another tenant raises upstream; the HTTP side knows it by its code.
pub const WRITE_OUTSIDE: &str = "hedgerow: HR1011 the row would not belong to the tenant";

/// Rewrites one statement of a script.
///
/// # Errors
/// The denial.
pub fn statement(
    rewriter: &mut Rewriter<'_>,
    statement: &mut Statement,
) -> Result<StatementKind, Denial> {
    if rewriter.carry.on {
        rewriter.bare = bare_names(statement);
    }
    match statement {
        Statement::Query(query) => rewriter.query(query, false).map(|_| StatementKind::Query),
        Statement::Insert(insert) => insertion(rewriter, insert).map(|()| StatementKind::Insert),
        Statement::Update(update) => updating(rewriter, update).map(|()| StatementKind::Update),
        Statement::Delete(delete) => deletion(rewriter, delete).map(|()| StatementKind::Delete),
        Statement::Merge(merge) => merging(rewriter, merge).map(|()| StatementKind::Merge),
        Statement::CreateTable(create) => {
            create_table(rewriter, create).map(|()| StatementKind::CreateTable)
        }
        Statement::CreateView(create) => {
            create_view(rewriter, create).map(|()| StatementKind::CreateView)
        }
        Statement::Drop { .. } => drop_table(rewriter, statement).map(|()| StatementKind::Drop),
        Statement::Declare { stmts } => {
            stmts.iter_mut().try_for_each(|declare| declaration(rewriter, declare))?;
            Ok(StatementKind::Variable)
        }
        Statement::Set(set) => variable(rewriter, set).map(|()| StatementKind::Variable),
        other => {
            let text = other.to_string();
            let word = text.split_whitespace().next().unwrap_or_default().to_owned();
            Err(Denial::of(DenialCode::StatementKind, word))
        }
    }
}

/// A table that is written.
struct Target {
    /// The rule, if rows of several tenants are in it.
    rule: Option<std::sync::Arc<TablePolicy>>,
    /// The range variable by which the statement knows it.
    variable: String,
}

/// Binds the target of UPDATE, DELETE or MERGE. `None` for a temporary table of the tenant's own.
fn target(
    rewriter: &mut Rewriter<'_>,
    factor: &mut TableFactor,
    uses: &[Use],
) -> Result<Option<Target>, Denial> {
    let TableFactor::Table {
        name,
        alias,
        args: None,
        with_hints,
        version: None,
        with_ordinality: false,
        partitions,
        json_path: None,
        sample: None,
        index_hints,
    } = factor
    else {
        return Err(form("target"));
    };
    let plain = with_hints.is_empty() && partitions.is_empty() && index_hints.is_empty();
    if !plain || alias.as_ref().is_some_and(|a| !a.columns.is_empty() || a.at.is_some()) {
        return Err(form("target"));
    }
    let Some(table) = written(rewriter, name)? else { return Ok(None) };
    let variable =
        alias.as_ref().map_or_else(|| table.table.clone(), |alias| alias.name.value.clone());
    *name = full_name(&table);
    let mut rule = None;
    for used in uses {
        rule = match rewriter.bind(&table, *used)? {
            Binding::Tenants(rule) => Some(rule),
            Binding::Own => None,
            Binding::Shared(_) | Binding::SecureContext(_) => {
                return Err(Denial::of(DenialCode::ReadOnly, table.to_string()));
            }
        };
    }
    Ok(Some(Target { rule, variable }))
}

/// The table of a path that is written; `None` for a temporary one.
fn written(rewriter: &Rewriter<'_>, name: &ObjectName) -> Result<Option<TableName>, Denial> {
    let parts = path(name)?;
    if let [single] = parts.as_slice()
        && rewriter.temporary.contains(&single.to_ascii_lowercase())
    {
        return Ok(None);
    }
    match rewriter.env.resolve(&parts)? {
        Some(table) if !table.table.contains('*') => Ok(Some(table)),
        Some(_) | None => Err(Denial::of(DenialCode::UnknownRelation, parts.join("."))),
    }
}

/// What a statement that writes says.
struct Said {
    text: String,
    /// Names that stand alone in it, in lower case.
    alone: BTreeSet<String>,
}

impl Said {
    fn by<T: Visit + ToString>(statement: &T) -> Self {
        Self { text: statement.to_string(), alone: bare_names(statement) }
    }
}

/// Refuses statements that name a closed column of a table that they write: the table stands there
/// as it is, so nothing would mask it.
fn closed_columns(target: &Target, rewriter: &Rewriter<'_>, said: &Said) -> Result<(), Denial> {
    let Some(rule) = target.rule.as_ref().filter(|rule| !rewriter.open_columns(rule)) else {
        return Ok(());
    };
    // The name of the table alone is its whole row.
    if said.alone.contains(&target.variable.to_ascii_lowercase()) && !mutant::on("bq-whole-row") {
        return Err(Denial::of(DenialCode::ColumnDenied, target.variable.clone()));
    }
    let text = &said.text;
    let lower = text.to_ascii_lowercase();
    let words: Vec<&str> = lower.split(|c: char| !(c.is_alphanumeric() || c == '_')).collect();
    for (column, column_rule) in &rule.columns {
        let named = words.contains(&column.to_ascii_lowercase().as_str());
        let closed = match column_rule {
            ColumnRule::Deny => true,
            ColumnRule::Mask { unless, .. } => {
                !unless.as_ref().is_some_and(|unless| unless.holds(&rewriter.env.principal.claims))
            }
        };
        if closed && (named || lower.contains('*')) {
            return Err(Denial::of(DenialCode::ColumnDenied, column.clone()));
        }
    }
    Ok(())
}

fn updating(rewriter: &mut Rewriter<'_>, update: &mut Update) -> Result<(), Denial> {
    let said = Said::by(update);
    let Update {
        update_token: _,
        optimizer_hints,
        table,
        assignments,
        from,
        selection,
        returning: None,
        output: None,
        or: None,
        order_by,
        limit: None,
    } = update
    else {
        return Err(form("update"));
    };
    if !optimizer_hints.is_empty() || !order_by.is_empty() || !table.joins.is_empty() {
        return Err(form("update"));
    }
    let target = target(rewriter, &mut table.relation, &[Use::Read, Use::Update])?;
    let mut level = rewriter.level();
    match from {
        None => {}
        Some(UpdateTableFromKind::AfterSet(items)) => {
            items.iter_mut().try_for_each(|item| rewriter.table_with_joins(item, &mut level))?;
        }
        Some(UpdateTableFromKind::BeforeSet(_)) => return Err(form("update")),
    }
    if let Some(target) = &target {
        closed_columns(target, rewriter, &said)?;
    }
    if let Some(Target { rule: Some(rule), .. }) = &target {
        assigned(rule, assignments)?;
    }
    rewriter.name_variables(&mut level);
    let seen = seen(rewriter, target.as_ref(), &level)?;
    rewriter.within(&seen, |rewriter| rewriter.values(assignments))?;
    level.hands |= rewriter.within(&seen, |rewriter| rewriter.condition(selection))?;
    guard_where(rewriter, target.as_ref(), selection, &level)
}

fn deletion(rewriter: &mut Rewriter<'_>, delete: &mut Delete) -> Result<(), Denial> {
    let said = Said::by(delete);
    let Delete {
        delete_token: _,
        optimizer_hints,
        tables,
        from,
        using: None,
        selection,
        returning: None,
        output: None,
        order_by,
        limit: None,
    } = delete
    else {
        return Err(form("delete"));
    };
    let items = match from {
        FromTable::WithFromKeyword(items) | FromTable::WithoutKeyword(items) => items,
    };
    let [TableWithJoins { relation, joins }] = items.as_mut_slice() else {
        return Err(form("delete"));
    };
    if !optimizer_hints.is_empty()
        || !tables.is_empty()
        || !order_by.is_empty()
        || !joins.is_empty()
    {
        return Err(form("delete"));
    }
    let target = target(rewriter, relation, &[Use::Read, Use::Delete])?;
    if let Some(target) = &target {
        closed_columns(target, rewriter, &said)?;
    }
    let mut level = rewriter.level();
    let seen = seen(rewriter, target.as_ref(), &level)?;
    level.hands = rewriter.within(&seen, |rewriter| rewriter.condition(selection))?;
    guard_where(rewriter, target.as_ref(), selection, &level)
}

/// What a statement that writes may read: its sources, and the target beside them.
fn seen(
    rewriter: &Rewriter<'_>,
    target: Option<&Target>,
    sources: &Level,
) -> Result<Level, Denial> {
    match target {
        Some(Target { rule: Some(rule), variable }) => {
            Ok(sources.with(variable, &rewriter.full_guard(rule, variable)?))
        }
        Some(Target { rule: None, variable }) => {
            let mut level = sources.copy();
            level.variables.insert(variable.to_ascii_lowercase());
            Ok(level)
        }
        None => Ok(sources.copy()),
    }
}

/// `WHERE guard AND (what the client wrote)`. `sources`: what UPDATE reads beside its target.
fn guard_where(
    rewriter: &mut Rewriter<'_>,
    target: Option<&Target>,
    selection: &mut Option<Expr>,
    sources: &Level,
) -> Result<(), Denial> {
    let Some(Target { rule: Some(rule), variable, .. }) = target else {
        if let Some(client) = selection.take() {
            *selection = Some(rewriter.shielded(sources, client, Clause::Rows)?);
        }
        return Ok(());
    };
    let guard = rewriter.full_guard(rule, variable)?;
    let level = sources.with(variable, &guard);
    let client = match selection.take() {
        Some(client) => Some(rewriter.shielded(&level, client, Clause::Rows)?),
        None => None,
    };
    *selection = Some(conjunction(guard, client));
    Ok(())
}

/// Refuses SET of the column that says whose the row is.
fn assigned(rule: &TablePolicy, assignments: &[Assignment]) -> Result<(), Denial> {
    let owner = owner_column(rule);
    for assignment in assignments {
        let AssignmentTarget::ColumnName(name) = &assignment.target else {
            return Err(form("set"));
        };
        if path(name)?.iter().any(|part| Some(part.to_ascii_lowercase()) == owner) {
            return Err(Denial::of(DenialCode::TenantColumnChange, name.to_string()));
        }
    }
    Ok(())
}

/// The column that says whose a row is, in lower case.
fn owner_column(rule: &TablePolicy) -> Option<String> {
    match &rule.protection {
        Protection::Tenant { column, .. } | Protection::TenantThrough { column, .. } => {
            Some(column.to_ascii_lowercase())
        }
        Protection::Shared | Protection::Deny => None,
    }
}

fn insertion(rewriter: &mut Rewriter<'_>, insert: &mut Insert) -> Result<(), Denial> {
    let Insert {
        insert_token: _,
        optimizer_hints,
        or: None,
        ignore: false,
        into: _,
        table: TableObject::TableName(name),
        table_alias: None,
        columns,
        overwrite: false,
        source: Some(source),
        assignments,
        partitioned: None,
        after_columns,
        has_table_keyword: false,
        on: None,
        returning: None,
        output: None,
        replace_into: false,
        priority: None,
        insert_alias: None,
        settings: None,
        format_clause: None,
        multi_table_insert_type: None,
        multi_table_into_clauses,
        multi_table_when_clauses,
        multi_table_else_clause: None,
    } = insert
    else {
        return Err(form("insert"));
    };
    let plain = optimizer_hints.is_empty()
        && assignments.is_empty()
        && after_columns.is_empty()
        && multi_table_into_clauses.is_empty()
        && multi_table_when_clauses.is_empty();
    if !plain {
        return Err(form("insert"));
    }
    let table = written(rewriter, name)?;
    let rule = match &table {
        None => None,
        Some(table) => {
            *name = full_name(table);
            match rewriter.bind(table, Use::Insert)? {
                Binding::Tenants(rule) => Some(rule),
                Binding::Own => None,
                Binding::Shared(_) | Binding::SecureContext(_) => {
                    return Err(Denial::of(DenialCode::ReadOnly, table.to_string()));
                }
            }
        }
    };
    match source.body.as_mut() {
        SetExpr::Values(values) => {
            if source.with.is_some() || !source.pipe_operators.is_empty() {
                return Err(form("insert"));
            }
            rewriter.values(values)?;
        }
        _ => {
            rewriter.query(source, false)?;
        }
    }
    match rule {
        None => Ok(()),
        Some(rule) => fill(rewriter, &rule, columns, source),
    }
}

/// The place of the tenant column among those that a write names.
fn owner_place(rule: &TablePolicy, columns: &[ObjectName]) -> Result<Option<usize>, Denial> {
    let owner = owner_column(rule);
    let mut place = None;
    for (index, column) in columns.iter().enumerate() {
        if path(column)?.last().map(|part| part.to_ascii_lowercase()) == owner {
            if place.is_some() {
                return Err(form("insert"));
            }
            place = Some(index);
        }
    }
    Ok(place)
}

/// The tenant's literal for a table that rows come into.
fn owner_literal(rewriter: &Rewriter<'_>, rule: &TablePolicy) -> Result<String, Denial> {
    if rule.condition.is_some() {
        return Err(form("a condition of the policy on a written table"));
    }
    match &rule.protection {
        Protection::Tenant { tenant_type, .. } => tenant_literal(rewriter.env, *tenant_type),
        Protection::TenantThrough { .. } => Err(form("rows of a table without tenant column")),
        Protection::Shared | Protection::Deny => Err(Denial::new(DenialCode::Internal)),
    }
}

/// Fills the tenant column of every row, or checks it.
fn fill(
    rewriter: &Rewriter<'_>,
    rule: &TablePolicy,
    columns: &mut Vec<ObjectName>,
    source: &mut Query,
) -> Result<(), Denial> {
    let literal = owner_literal(rewriter, rule)?;
    if columns.is_empty() {
        return Err(form("insert without a list of columns"));
    }
    let place = owner_place(rule, columns)?;
    if place.is_none() {
        columns.push(owner_name(rule)?);
    }
    match (source.body.as_mut(), place) {
        (SetExpr::Values(values), place) => fill_rows(values, place, columns.len(), &literal),
        (SetExpr::Select(select), Some(place)) if source.pipe_operators.is_empty() => {
            let star = select.projection.iter().any(|item| {
                matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..))
            });
            if star {
                return Err(form("insert of * into a list with the tenant"));
            }
            match select.projection.get_mut(place) {
                Some(SelectItem::UnnamedExpr(expr) | SelectItem::ExprWithAlias { expr, .. }) => {
                    check_value(expr, &literal)
                }
                _ => Err(form("insert")),
            }
        }
        (_, Some(_)) => Err(form("insert of a set operation into a list with the tenant")),
        (_, None) => {
            let wrapper = format!("SELECT *, {literal} FROM (SELECT 1)");
            let mut wrapped =
                parser(&wrapper)?.parse_query().map_err(|_| Denial::new(DenialCode::Internal))?;
            if let SetExpr::Select(select) = wrapped.body.as_mut()
                && let Some(TableWithJoins {
                    relation: TableFactor::Derived { subquery, .. }, ..
                }) = select.from.first_mut()
            {
                std::mem::swap(subquery.as_mut(), source);
            } else {
                return Err(Denial::new(DenialCode::Internal));
            }
            *source = *wrapped;
            Ok(())
        }
    }
}

fn owner_name(rule: &TablePolicy) -> Result<ObjectName, Denial> {
    let (Protection::Tenant { column, .. } | Protection::TenantThrough { column, .. }) =
        &rule.protection
    else {
        return Err(Denial::new(DenialCode::Internal));
    };
    parser(&quoted(column))?.parse_object_name(false).map_err(|_| Denial::new(DenialCode::Internal))
}

fn fill_rows(
    values: &mut Values,
    place: Option<usize>,
    width: usize,
    literal: &str,
) -> Result<(), Denial> {
    for row in &mut values.rows {
        match place {
            Some(place) => {
                let value = row.content.get_mut(place).ok_or_else(|| form("insert"))?;
                check_value(value, literal)?;
            }
            None => row.content.push(literal_expression(literal)?),
        }
        if row.content.len() != width {
            return Err(form("insert"));
        }
    }
    Ok(())
}

fn literal_expression(literal: &str) -> Result<Expr, Denial> {
    parser(literal)?.parse_expr().map_err(|_| Denial::new(DenialCode::Internal))
}

/// A value for the tenant column: a literal is judged now, anything else when it is computed.
fn check_value(value: &mut Expr, literal: &str) -> Result<(), Denial> {
    if let Expr::Value(constant) = value
        && !matches!(constant.value, Value::Placeholder(_))
    {
        let same = match &constant.value {
            Value::SingleQuotedString(text) | Value::DoubleQuotedString(text) => {
                format!("'{text}'") == literal
            }
            Value::Number(number, _) => number == literal,
            _ => false,
        };
        if same {
            *value = literal_expression(literal)?;
            return Ok(());
        }
        return Err(Denial::new(DenialCode::WriteOutsideTenant));
    }
    let mut checked =
        parser(&format!("IF(TRUE = {literal}, {literal}, ERROR('{WRITE_OUTSIDE}'))"))?
            .parse_expr()
            .map_err(|_| Denial::new(DenialCode::Internal))?;
    let internal = || Denial::new(DenialCode::Internal);
    let Expr::Function(function) = &mut checked else { return Err(internal()) };
    let FunctionArguments::List(list) = &mut function.args else { return Err(internal()) };
    let Some(FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::BinaryOp { left, .. }))) =
        list.args.first_mut()
    else {
        return Err(internal());
    };
    let client = std::mem::replace(value, Expr::Tuple(Vec::new()));
    **left = Expr::Nested(Box::new(client));
    *value = checked;
    Ok(())
}

fn merging(rewriter: &mut Rewriter<'_>, merge: &mut Merge) -> Result<(), Denial> {
    let said = Said::by(merge);
    let Merge {
        merge_token: _,
        optimizer_hints,
        into: _,
        table,
        source,
        on,
        clauses,
        output: None,
    } = merge
    else {
        return Err(form("merge"));
    };
    if !optimizer_hints.is_empty() {
        return Err(form("merge"));
    }
    let mut uses = vec![Use::Read];
    for clause in clauses.iter() {
        match &clause.action {
            MergeAction::Insert(_) => uses.push(Use::Insert),
            MergeAction::Update(_) => uses.push(Use::Update),
            MergeAction::Delete { .. } => uses.push(Use::Delete),
            MergeAction::DoNothing { .. } => return Err(form("merge")),
        }
    }
    let target = target(rewriter, table, &uses)?;
    // INSERT ROW takes the source's columns as they come.
    let rows = clauses.iter().any(|clause| {
        matches!(&clause.action, MergeAction::Insert(insert)
            if matches!(insert.kind, MergeInsertKind::Row))
    });
    let mut sources = rewriter.level();
    rewriter.without_carriers = rows;
    let read = rewriter.factor(source, &mut sources, false);
    rewriter.without_carriers = false;
    read?;
    rewriter.name_variables(&mut sources);
    let rule = target.as_ref().and_then(|target| target.rule.clone());
    // What a row of both is judged by, and what a row of the target alone.
    let (guard, matched, unmatched) = match (&rule, &target) {
        (Some(rule), Some(target)) => {
            closed_columns(target, rewriter, &said)?;
            let guard = rewriter.full_guard(rule, &target.variable)?;
            let alone = Level { partial: sources.partial.clone(), ..rewriter.level() };
            let matched = sources.with(&target.variable, &guard);
            let unmatched = alone.with(&target.variable, &guard);
            (Some(guard), matched, unmatched)
        }
        _ => (None, seen(rewriter, target.as_ref(), &sources)?, rewriter.level()),
    };
    let hands = rewriter.within(&matched, |rewriter| rewriter.condition(on))?;
    let condition = std::mem::replace(on.as_mut(), Expr::Tuple(Vec::new()));
    let joined = Level { hands, ..matched.copy() };
    let condition = rewriter.shielded(&joined, condition, Clause::Rows)?;
    **on = match &guard {
        None => condition,
        Some(guard) => conjunction(copy(guard)?, Some(condition)),
    };
    for clause in clauses {
        let (level, guard) = match &clause.clause_kind {
            MergeClauseKind::Matched => (&matched, None),
            // It reads the source alone.
            MergeClauseKind::NotMatched | MergeClauseKind::NotMatchedByTarget => (&sources, None),
            MergeClauseKind::NotMatchedBySource => (&unmatched, guard.as_ref()),
        };
        let hands = rewriter.within(level, |rewriter| rewriter.condition(&mut clause.predicate))?;
        let level = Level { hands, ..level.copy() };
        let client = match clause.predicate.take() {
            Some(client) => Some(rewriter.shielded(&level, client, Clause::Rows)?),
            None => None,
        };
        clause.predicate = match guard {
            Some(guard) => Some(conjunction(copy(guard)?, client)),
            None => client,
        };
        match &mut clause.action {
            MergeAction::Update(update) => {
                let MergeUpdateKind::Set(assignments) = &mut update.kind else {
                    return Err(form("merge"));
                };
                if update.update_predicate.is_some() || update.delete_predicate.is_some() {
                    return Err(form("merge"));
                }
                if let Some(rule) = &rule {
                    assigned(rule, assignments)?;
                }
                rewriter.within(&matched, |rewriter| rewriter.expressions(assignments))?;
            }
            MergeAction::Insert(insert) => {
                if insert.insert_predicate.is_some() {
                    return Err(form("merge"));
                }
                match (&mut insert.kind, &rule) {
                    (MergeInsertKind::Values(values), Some(rule)) => {
                        rewriter.within(&sources, |rewriter| rewriter.expressions(values))?;
                        let literal = owner_literal(rewriter, rule)?;
                        if insert.columns.is_empty() {
                            return Err(form("insert without a list of columns"));
                        }
                        let place = owner_place(rule, &insert.columns)?;
                        if place.is_none() {
                            insert.columns.push(owner_name(rule)?);
                        }
                        fill_rows(values, place, insert.columns.len(), &literal)?;
                    }
                    (MergeInsertKind::Values(values), None) => {
                        rewriter.within(&sources, |rewriter| rewriter.expressions(values))?;
                    }
                    (MergeInsertKind::Row, None) => {}
                    (MergeInsertKind::Row, Some(_)) | (MergeInsertKind::Wildcard, _) => {
                        return Err(form("insert without a list of columns"));
                    }
                }
            }
            MergeAction::Delete { .. } => {}
            MergeAction::DoNothing { .. } => return Err(form("merge")),
        }
    }
    Ok(())
}

/// A guard once more, read from its text: trees are never cloned.
fn copy(guard: &Expr) -> Result<Expr, Denial> {
    parser(&guard.to_string())?.parse_expr().map_err(|_| Denial::new(DenialCode::Internal))
}
