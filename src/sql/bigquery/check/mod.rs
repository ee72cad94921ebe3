//! The checker: reads the text that would be sent, takes every guard out that is exactly the one
//! which the policy asks for, and demands that what is left is what the client wrote, and that no
//! table stands in it that needed a guard. Shares no code with the rewriter. Pure.

use std::ops::ControlFlow;
use std::sync::Arc;

use sqlparser::ast::{
    AssignmentTarget, BinaryOperator, Expr, FromTable, Join, JoinOperator, MergeAction,
    MergeClauseKind, MergeInsertKind, MergeUpdateKind, ObjectName, Query, Select, SelectItem,
    SetExpr, Statement, TableAlias, TableFactor, TableObject, TableWithJoins, UnaryOperator, Value,
    VisitMut, VisitorMut,
};

mod rows;
mod shape;

use super::expression::policy_expression;
use super::names::{Binding, Env, TableName};
use crate::claims::TenantClaim;
use crate::error::{Denial, DenialCode};
use crate::policy::{ColumnRule, Protection, TablePolicy, TenantType};
use shape::{
    CARRIER, NAMELESS, all_of, if_arguments, is_boolean, is_carrier, is_noted, is_null, is_plain,
    key_query, names_column, noted, otherwise_true, parts, plain_table, settled, without_carrier,
};

/// A text that passed the checker and may go upstream. Only [`seal`] makes one.
///
/// ```compile_fail,E0423
/// let unchecked = hedgerow::sql::bigquery::GuardedQuery("DROP TABLE t".to_owned());
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct GuardedQuery(String);

impl GuardedQuery {
    /// The text to send.
    pub fn text(&self) -> &str {
        &self.0
    }
}

fn unguarded(what: impl Into<String>) -> Denial {
    Denial::of(DenialCode::LeakPossible, what)
}

fn disagree() -> Denial {
    Denial::new(DenialCode::ParsersDisagree)
}

/// Checks `sent` against the client's own text.
///
/// # Errors
/// HR1008 when the text reads otherwise than the client's, HR1009 when a guard is not where it must
/// be. The codes of resolution pass through.
pub fn seal(client: &str, sent: String, env: Env<'_>) -> Result<GuardedQuery, Denial> {
    super::lexer::gate(&sent)?;
    let mut theirs = super::parse(client)?;
    let mut ours = super::parse(&sent)?;
    // What is parsed from our text must print as our text: a literal that swallowed a guard does not.
    if super::print(&ours) != sent || theirs.len() != ours.len() {
        return Err(disagree());
    }
    let mut temporary = Vec::new();
    for (theirs, ours) in theirs.iter_mut().zip(ours.iter_mut()) {
        let mut stripped = Strip::new(env, Side::Sent, &temporary);
        stripped.statement(ours)?;
        let mut plain = Strip::new(env, Side::Client, &temporary);
        plain.statement(theirs)?;
        if ours.to_string() != theirs.to_string() || stripped.paths.len() != plain.paths.len() {
            return Err(disagree());
        }
        for (sent, client) in stripped.paths.iter().zip(&plain.paths) {
            same_table(sent, client, env)?;
        }
        temporary.extend(stripped.made);
    }
    Ok(GuardedQuery(sent))
}

/// Whether the table that is sent is the one that the client named.
fn same_table(sent: &[String], client: &[String], env: Env<'_>) -> Result<(), Denial> {
    let place = env.place;
    let same = match (sent, client) {
        ([project, dataset, table], [name]) => {
            table == name
                && place.default_dataset.as_ref().is_some_and(|(p, d)| p == project && d == dataset)
        }
        ([project, dataset, table], [d, t]) => {
            *project == place.project && dataset == d && table == t
        }
        (sent, client) => sent == client,
    };
    if same { Ok(()) } else { Err(disagree()) }
}

#[derive(Clone, Copy, PartialEq, Eq)]
enum Side {
    /// The text that would be sent: guards are taken out and verified.
    Sent,
    /// The client's text: spelled the same way, nothing taken out.
    Client,
}

/// Takes guards and spellings out of one statement, and notes the tables in order.
struct Strip<'a> {
    env: Env<'a>,
    side: Side,
    /// Temporary tables of statements before.
    temporary: &'a [String],
    /// Temporary tables that this statement makes.
    made: Vec<String>,
    /// Paths in order of their places.
    paths: Vec<Vec<String>>,
    denial: Option<Denial>,
}

impl<'a> Strip<'a> {
    const fn new(env: Env<'a>, side: Side, temporary: &'a [String]) -> Self {
        Self { env, side, temporary, made: Vec::new(), paths: Vec::new(), denial: None }
    }

    fn walk<T: VisitMut>(&mut self, part: &mut T) -> Result<(), Denial> {
        match VisitMut::visit(part, self) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => Err(self.denial.take().unwrap_or_else(disagree)),
        }
    }

    /// The rule of a table that holds several tenants' rows; `None` for one that needs no guard.
    fn rule(&self, parts: &[String]) -> Result<Option<Arc<TablePolicy>>, Denial> {
        let [project, dataset, table] = parts else { return Ok(None) };
        let name =
            TableName { project: project.clone(), dataset: dataset.clone(), table: table.clone() };
        match self.env.bind(&name)? {
            Binding::Tenants(rule) => Ok(Some(rule)),
            Binding::Shared(_) | Binding::SecureContext(_) | Binding::Own => Ok(None),
        }
    }

    fn statement(&mut self, statement: &mut Statement) -> Result<(), Denial> {
        match statement {
            Statement::Update(update) => {
                let rule = self.target(&mut update.table.relation)?;
                if let Some((rule, variable)) = &rule {
                    self.take_guard(rule, variable, &mut update.selection)?;
                    for assignment in &update.assignments {
                        self.not_the_owner(rule, &assignment.target)?;
                    }
                }
            }
            Statement::Delete(delete) => {
                let items = match &mut delete.from {
                    FromTable::WithFromKeyword(items) | FromTable::WithoutKeyword(items) => items,
                };
                let [item] = items.as_mut_slice() else { return Err(disagree()) };
                let rule = self.target(&mut item.relation)?;
                if let Some((rule, variable)) = &rule {
                    self.take_guard(rule, variable, &mut delete.selection)?;
                }
            }
            Statement::Insert(insert) => {
                let TableObject::TableName(name) = &mut insert.table else {
                    return Err(disagree());
                };
                let rule = self.note_written(name)?;
                if let Some(rule) = &rule {
                    let source = insert.source.as_mut().ok_or_else(disagree)?;
                    self.filled(rule, &mut insert.columns, source)?;
                }
            }
            Statement::Merge(merge) => self.merge(merge)?,
            Statement::CreateTable(create) => {
                self.note_made(&mut create.name, create.temporary)?;
            }
            Statement::CreateView(create) => self.note_made(&mut create.name, false)?,
            Statement::Drop { names, .. } => {
                names.iter_mut().try_for_each(|name| self.note_made(name, false))?;
            }
            Statement::Query(_) | Statement::Declare { .. } | Statement::Set(_) => {}
            // SECURITY: the rewriter sends no other kind; one that it sent by mistake ends here.
            _ => return Err(disagree()),
        }
        self.walk(statement)
    }

    fn merge(&mut self, merge: &mut sqlparser::ast::Merge) -> Result<(), Denial> {
        let rule = self.target(&mut merge.table)?;
        let Some((rule, variable)) = rule else { return Ok(()) };
        let mut on = Some(std::mem::replace(merge.on.as_mut(), Expr::Tuple(Vec::new())));
        self.take_guard(&rule, &variable, &mut on)?;
        *merge.on = on.ok_or_else(disagree)?;
        for clause in &mut merge.clauses {
            if matches!(clause.clause_kind, MergeClauseKind::NotMatchedBySource) {
                self.take_guard(&rule, &variable, &mut clause.predicate)?;
            }
            match &mut clause.action {
                MergeAction::Insert(insert) => {
                    let MergeInsertKind::Values(values) = &mut insert.kind else {
                        return Err(unguarded("merge"));
                    };
                    let rows = values.rows.iter_mut().map(|row| &mut row.content).collect();
                    self.filled_rows(&rule, &mut insert.columns, rows)?;
                }
                MergeAction::Update(update) => {
                    let MergeUpdateKind::Set(assignments) = &update.kind else {
                        return Err(unguarded("merge"));
                    };
                    for assignment in assignments {
                        self.not_the_owner(&rule, &assignment.target)?;
                    }
                }
                MergeAction::Delete { .. } => {}
                MergeAction::DoNothing { .. } => return Err(disagree()),
            }
        }
        Ok(())
    }

    /// Notes the target of a write, and says what guards it.
    fn target(
        &mut self,
        factor: &mut TableFactor,
    ) -> Result<Option<(Arc<TablePolicy>, String)>, Denial> {
        let TableFactor::Table { name, alias, .. } = factor else { return Err(disagree()) };
        self.one_reading(alias.as_mut())?;
        *alias = settled(alias.take(), &parts(name)?);
        let variable = alias.as_ref().map(|alias| alias.name.value.clone());
        Ok(self.note_written(name)?.zip(variable))
    }

    /// Refuses an alias that the service might read as something else. The client's is spelled as it is sent.
    fn one_reading(&self, alias: Option<&mut TableAlias>) -> Result<(), Denial> {
        let Some(alias) = alias.filter(|alias| !alias.explicit) else { return Ok(()) };
        if self.side == Side::Sent {
            return Err(unguarded(alias.to_string()));
        }
        alias.explicit = true;
        alias.name.quote_style = Some('`');
        Ok(())
    }

    /// Refuses a word before JOIN that the service would read as an alias.
    fn plain_joins(&self, joins: &[Join]) -> Result<(), Denial> {
        if self.side == Side::Sent && joins.iter().any(|join| join.global) {
            return Err(unguarded("GLOBAL"));
        }
        Ok(())
    }

    fn note_written(&mut self, name: &mut ObjectName) -> Result<Option<Arc<TablePolicy>>, Denial> {
        let path = parts(name)?;
        let rule = match self.side {
            Side::Client => None,
            Side::Sent => {
                let known =
                    path.len() == 3 || matches!(path.as_slice(), [one] if self.is_temporary(one));
                if !known {
                    return Err(unguarded(path.join(".")));
                }
                self.rule(&path)?
            }
        };
        self.paths.push(path);
        *name = noted();
        Ok(rule)
    }

    fn is_temporary(&self, name: &str) -> bool {
        self.temporary.iter().any(|known| known.eq_ignore_ascii_case(name))
    }

    fn note_made(&mut self, name: &mut ObjectName, temporary: bool) -> Result<(), Denial> {
        let path = parts(name)?;
        if temporary {
            self.made.extend(path.last().cloned());
        } else if self.side == Side::Sent {
            let [project, dataset, _] = path.as_slice() else {
                return Err(unguarded(path.join(".")));
            };
            if self.env.own(project, dataset) != Some(true) {
                return Err(unguarded(path.join(".")));
            }
        }
        self.paths.push(path);
        *name = noted();
        Ok(())
    }

    fn not_the_owner(&self, rule: &TablePolicy, target: &AssignmentTarget) -> Result<(), Denial> {
        let AssignmentTarget::ColumnName(name) = target else { return Err(disagree()) };
        let (Protection::Tenant { column, .. } | Protection::TenantThrough { column, .. }) =
            &rule.protection
        else {
            return Err(disagree());
        };
        if self.side == Side::Sent
            && parts(name)?.iter().any(|part| part.eq_ignore_ascii_case(column))
        {
            return Err(unguarded(name.to_string()));
        }
        Ok(())
    }

    /// Takes `guard AND (client)` apart: the guard must be there, of the range variable that the table has.
    fn take_guard(
        &self,
        rule: &TablePolicy,
        variable: &str,
        place: &mut Option<Expr>,
    ) -> Result<(), Denial> {
        if self.side == Side::Client {
            return Ok(());
        }
        let missing = || unguarded("a write without its guard");
        if rule.condition.is_some() {
            return Err(missing());
        }
        match place.take().ok_or_else(missing)? {
            Expr::BinaryOp { left, op: BinaryOperator::And, right }
                if self.binds(rule, &left, Some(variable))?
                    && matches!(*right, Expr::Nested(_)) =>
            {
                let Expr::Nested(client) = *right else { return Err(missing()) };
                *place = Some(*client);
                Ok(())
            }
            guard if self.binds(rule, &guard, Some(variable))? => Ok(()),
            _ => Err(missing()),
        }
    }

    /// Whether a condition is the one that binds the rows of the table to the tenant. `variable`: the range
    /// variable whose columns it must name; `None` for one that narrows what is bound already.
    fn binds(
        &self,
        rule: &TablePolicy,
        condition: &Expr,
        variable: Option<&str>,
    ) -> Result<bool, Denial> {
        match (&rule.protection, condition) {
            (
                Protection::Tenant { column, tenant_type },
                Expr::BinaryOp { left, op: BinaryOperator::Eq, right },
            ) => Ok(names_column(left, column, variable) && self.is_tenant(right, *tenant_type)),
            (
                Protection::TenantThrough { column, parent, parent_column },
                Expr::InSubquery { expr, subquery, negated: false },
            ) => {
                let Some((project, dataset)) = parent.schema.split_once('.') else {
                    return Ok(false);
                };
                let path = [project, dataset, parent.name.as_str()].map(str::to_owned).to_vec();
                let Some(parent_rule) = self.rule(&path)? else { return Ok(false) };
                let Some((selected, table, inner)) = key_query(subquery) else {
                    return Ok(false);
                };
                let parent = Some(parent.name.as_str());
                Ok(names_column(expr, column, variable)
                    && names_column(selected, parent_column, parent)
                    && parts(table)? == path
                    && self.binds(&parent_rule, inner, parent)?)
            }
            _ => Ok(false),
        }
    }

    fn is_tenant(&self, expr: &Expr, tenant_type: TenantType) -> bool {
        let negative = match expr {
            Expr::UnaryOp { op: UnaryOperator::Minus, expr } => Some(expr.as_ref()),
            _ => None,
        };
        let Expr::Value(value) = negative.unwrap_or(expr) else { return false };
        let Some(tenant) = &self.env.principal.tenant else { return false };
        match (&value.value, tenant_type, tenant) {
            (Value::SingleQuotedString(text), TenantType::Text, tenant) => {
                negative.is_none() && *text == tenant.to_string()
            }
            (Value::SingleQuotedString(text), TenantType::Uuid, TenantClaim::Text(tenant)) => {
                negative.is_none()
                    && uuid::Uuid::try_parse(tenant).is_ok_and(|tenant| tenant.to_string() == *text)
            }
            (Value::Number(number, _), TenantType::Int, tenant) => {
                let sign = if negative.is_some() { "-" } else { "" };
                tenant.to_string().parse::<i64>().ok()
                    == format!("{sign}{number}").parse::<i64>().ok()
            }
            _ => false,
        }
    }

    /// The table of `(SELECT * … FROM table WHERE guard)`, if the query is exactly that, or that with
    /// the guard as a column.
    fn guard_form(&self, query: &Query) -> Result<Option<GuardForm>, Denial> {
        let SetExpr::Select(select) = query.body.as_ref() else { return Ok(None) };
        let (options, carrier) = match select.projection.as_slice() {
            [SelectItem::Wildcard(options)] => (options, None),
            [SelectItem::Wildcard(options), SelectItem::ExprWithAlias { expr, alias }]
                if is_carrier(alias) =>
            {
                (options, Some(expr))
            }
            _ => return Ok(None),
        };
        let [TableWithJoins { relation, joins }] = select.from.as_slice() else { return Ok(None) };
        let TableFactor::Table { name, alias, args: None, .. } = relation else {
            return Ok(None);
        };
        let path = parts(name)?;
        let wildcard = path.last().is_some_and(|last| last.ends_with('*'));
        let variable = match alias {
            Some(alias) if wildcard && alias.explicit && alias.columns.is_empty() => {
                alias.name.value.as_str()
            }
            None if !wildcard => path.last().map_or("", String::as_str),
            Some(_) | None => return Ok(None),
        };
        if path.len() != 3 || !joins.is_empty() {
            return Ok(None);
        }
        let Some(rule) = self.rule(&path)? else { return Ok(None) };
        let Some(condition) = &select.selection else { return Ok(None) };
        // Closed by printing: a clause that is not named here would make the texts differ.
        let column = carrier.map(|_| format!(", {condition} AS `{CARRIER}`")).unwrap_or_default();
        if format!("SELECT *{options}{column} FROM {relation} WHERE {condition}")
            != query.to_string()
        {
            return Ok(None);
        }
        let (tenant, own) = match (&rule.condition, condition) {
            (None, condition) => (condition, None),
            (Some(text), Expr::BinaryOp { left, op: BinaryOperator::And, right }) => {
                (left.as_ref(), Some((text, right.as_ref())))
            }
            (Some(_), _) => return Ok(None),
        };
        if let Some((text, right)) = own
            && format!("({})", policy_expression(&text.text, self.env, variable)?)
                != right.to_string()
        {
            return Ok(None);
        }
        let bound = self.binds(&rule, tenant, Some(variable))?;
        if !bound || !self.columns_closed(&rule, options, variable)? {
            return Ok(None);
        }
        Ok(Some(GuardForm { path }))
    }

    /// Whether every column with a rule is left out or masked, and nothing else is.
    fn columns_closed(
        &self,
        rule: &TablePolicy,
        options: &sqlparser::ast::WildcardAdditionalOptions,
        variable: &str,
    ) -> Result<bool, Denial> {
        let mut denied = Vec::new();
        let mut masked = Vec::new();
        for (column, column_rule) in &rule.columns {
            match column_rule {
                ColumnRule::Deny => denied.push(format!("`{column}`")),
                ColumnRule::Mask { expression, unless } => {
                    let open =
                        unless.as_ref().is_some_and(|rule| rule.holds(&self.env.principal.claims));
                    if !open {
                        let mask = policy_expression(&expression.text, self.env, variable)?;
                        masked.push(format!("({mask}) AS `{column}`"));
                    }
                }
            }
        }
        let mut expected = String::new();
        if !denied.is_empty() {
            expected = format!(" EXCEPT ({})", denied.join(", "));
        }
        if !masked.is_empty() {
            expected = format!("{expected} REPLACE ({})", masked.join(", "));
        }
        Ok(options.to_string() == expected)
    }

    /// Takes `IF(guard, condition, FALSE)` and `IF(guard, value, NULL)` out. They only ever narrow, so
    /// whose they were does not matter: they are taken out of both texts.
    fn unshield(&self, expr: &mut Expr) -> Result<(), Denial> {
        while let Some([guard, condition, otherwise]) = if_arguments(expr) {
            let narrows = is_boolean(otherwise, false) || is_null(otherwise);
            if !narrows || !self.is_guard_chain(guard)? {
                return Ok(());
            }
            let condition = std::mem::replace(condition, Expr::Tuple(Vec::new()));
            *expr = condition;
        }
        Ok(())
    }

    /// Whether a condition is made of guards alone: it reads nothing but guarded tables' keys and
    /// carriers.
    fn is_guard_chain(&self, expr: &Expr) -> Result<bool, Denial> {
        // Of all rows of a group, and TRUE where an outer join found none: in either order.
        if let Some(inner) = otherwise_true(expr).or_else(|| all_of(expr)) {
            return self.is_guard_chain(inner);
        }
        match expr {
            Expr::BinaryOp { left, op: BinaryOperator::And, right } => {
                Ok(self.is_guard_chain(left)? && self.is_guard_chain(right)?)
            }
            Expr::InSubquery { .. } => {
                for (_, rule) in &self.env.policy.tables {
                    if self.binds(rule, expr, None)? {
                        return Ok(true);
                    }
                }
                Ok(false)
            }
            Expr::BinaryOp { left, op: BinaryOperator::Eq, right } => {
                let types = [TenantType::Text, TenantType::Uuid, TenantType::Int];
                Ok(matches!(left.as_ref(), Expr::CompoundIdentifier(_))
                    && types.into_iter().any(|of| self.is_tenant(right, of)))
            }
            Expr::CompoundIdentifier(names) => {
                Ok(matches!(names.as_slice(), [_, name] if is_carrier(name)))
            }
            _ => Ok(false),
        }
    }

    /// Takes the carrier off a SELECT list, and out of what its `*` leave out.
    fn take_carriers(&self, select: &mut Select) -> Result<(), Denial> {
        if let Some(SelectItem::ExprWithAlias { expr, alias }) = select.projection.last()
            && is_carrier(alias)
            && select.projection.len() > 1
        {
            if !is_boolean(expr, true) && !self.is_guard_chain(expr)? {
                return Err(unguarded(CARRIER));
            }
            select.projection.pop();
        }
        for item in &mut select.projection {
            if let SelectItem::Wildcard(options) | SelectItem::QualifiedWildcard(_, options) = item
            {
                without_carrier(options);
            }
        }
        Ok(())
    }

    /// FROM of a level whose guard stands in WHERE: its first table is protected, and no join makes
    /// rows of it that WHERE does not see. Any other protected table must have its own guard.
    fn where_form(&mut self, select: &mut Select) -> Result<(), Denial> {
        let inner = select.from.iter().flat_map(|item| &item.joins).all(|join| {
            matches!(
                join.join_operator,
                JoinOperator::Join(_)
                    | JoinOperator::Inner(_)
                    | JoinOperator::CrossJoin(_)
                    | JoinOperator::Left(_)
                    | JoinOperator::LeftOuter(_)
            )
        });
        let Some(TableWithJoins { relation, .. }) = select.from.first_mut() else {
            return Ok(());
        };
        let plain = is_plain(relation);
        let TableFactor::Table { name, alias, .. } = relation else { return Ok(()) };
        let path = parts(name)?;
        let Some(rule) = self.rule(&path)? else { return Ok(()) };
        if !plain {
            return Err(unguarded(path.join(".")));
        }
        let open = rule.columns.values().all(|column| match column {
            ColumnRule::Deny => false,
            ColumnRule::Mask { unless, .. } => {
                unless.as_ref().is_some_and(|unless| unless.holds(&self.env.principal.claims))
            }
        });
        if !inner || !open {
            return Err(unguarded(path.join(".")));
        }
        // SECURITY: the guard in WHERE names the table by an alias that is there to be read.
        let explicit = alias.as_ref().filter(|alias| alias.explicit);
        let Some(variable) = explicit.map(|alias| alias.name.value.clone()) else {
            return Err(unguarded(path.join(".")));
        };
        *alias = match alias.take() {
            Some(alias) if alias.name.value.starts_with(NAMELESS) => None,
            alias => settled(alias, &path),
        };
        *name = noted();
        self.paths.push(path);
        self.take_guard(&rule, &variable, &mut select.selection)
    }

    fn table(&mut self, factor: &mut TableFactor) -> Result<(), Denial> {
        if let TableFactor::UNNEST { with_offset_alias: Some(offset), .. } = factor {
            if self.side == Side::Sent && offset.quote_style.is_none() {
                return Err(unguarded(offset.value.as_str()));
            }
            offset.quote_style = Some('`');
        }
        match factor {
            TableFactor::Table { alias, .. }
            | TableFactor::Derived { alias, .. }
            | TableFactor::UNNEST { alias, .. }
            | TableFactor::Pivot { alias, .. }
            | TableFactor::Unpivot { alias, .. } => self.one_reading(alias.as_mut())?,
            TableFactor::NestedJoin { table_with_joins, .. } => {
                self.plain_joins(&table_with_joins.joins)?;
            }
            _ => {}
        }
        if let TableFactor::UNNEST { array_exprs, .. } = factor {
            array_exprs.iter_mut().try_for_each(|array| self.unshield(array))?;
        }
        // An array in FROM is written in two ways.
        if let TableFactor::UNNEST { alias, array_exprs, with_offset: false, .. } = factor
            && let [Expr::CompoundIdentifier(names)] = array_exprs.as_mut_slice()
        {
            let path: Vec<String> = names.iter().map(|name| name.value.clone()).collect();
            let alias = settled(alias.take(), &path);
            self.paths.push(path);
            *factor = plain_table(alias);
            return Ok(());
        }
        if self.side == Side::Sent
            && let TableFactor::Derived { alias, .. } = factor
            && alias.as_ref().is_some_and(|alias| alias.name.value.starts_with(NAMELESS))
        {
            *alias = None;
        }
        if self.side == Side::Sent
            && let TableFactor::Derived { lateral: false, subquery, alias, sample: None } = factor
            && let Some(form) = self.guard_form(subquery)?
        {
            let alias = settled(alias.take(), &form.path);
            let inner = match subquery.body.as_mut() {
                SetExpr::Select(select) => {
                    select.from.pop().map(|item| item.relation).ok_or_else(disagree)?
                }
                _ => return Err(disagree()),
            };
            let TableFactor::Table { version, sample, .. } = inner else {
                return Err(disagree());
            };
            self.paths.push(form.path);
            let mut table = plain_table(alias);
            if let TableFactor::Table { version: v, sample: s, .. } = &mut table {
                *v = version;
                *s = sample;
            }
            *factor = table;
            return Ok(());
        }
        let plain = is_plain(factor);
        let TableFactor::Table { name, alias, .. } = factor else { return Ok(()) };
        if is_noted(name) {
            return Ok(());
        }
        let path = parts(name)?;
        if self.side == Side::Sent {
            if !plain {
                return Err(unguarded(path.join(".")));
            }
            match path.as_slice() {
                // A common table expression or a temporary table: no default dataset is sent.
                [_] => {}
                [_, _, _] if self.rule(&path)?.is_none() => {}
                _ => return Err(unguarded(path.join("."))),
            }
        }
        *alias = settled(alias.take(), &path);
        self.paths.push(path);
        *name = noted();
        Ok(())
    }
}

struct GuardForm {
    path: Vec<String>,
}

impl VisitorMut for Strip<'_> {
    type Break = ();

    fn pre_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        if self.side == Side::Sent {
            let joins = select.from.iter().try_for_each(|item| self.plain_joins(&item.joins));
            let read = joins
                .and_then(|()| self.where_form(select))
                .and_then(|()| self.take_carriers(select));
            match read {
                Ok(()) => {}
                Err(denial) => {
                    self.denial = Some(denial);
                    return ControlFlow::Break(());
                }
            }
        }
        ControlFlow::Continue(())
    }

    fn post_visit_select(&mut self, select: &mut Select) -> ControlFlow<()> {
        shape::unqualify(select);
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        match self.unshield(expr) {
            Ok(()) => ControlFlow::Continue(()),
            Err(denial) => {
                self.denial = Some(denial);
                ControlFlow::Break(())
            }
        }
    }

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        match self.table(factor) {
            Ok(()) => ControlFlow::Continue(()),
            Err(denial) => {
                self.denial = Some(denial);
                ControlFlow::Break(())
            }
        }
    }

    fn pre_visit_relation(&mut self, relation: &mut ObjectName) -> ControlFlow<()> {
        if is_noted(relation) {
            return ControlFlow::Continue(());
        }
        self.denial = Some(unguarded(relation.to_string()));
        ControlFlow::Break(())
    }
}
