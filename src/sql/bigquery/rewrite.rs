//! Binds every table of a statement to the tenant, in sqlparser's tree. Pure.
//!
//! A guarded table becomes `(SELECT * FROM table WHERE tenant = '…') AS table`; columns with a rule
//! are left out or replaced there (`EXCEPT`, `REPLACE`). Conditions of the client's that might raise
//! an error are shielded by `IF(tenant = '…', condition, FALSE)`, for BigQuery promises no order of
//! evaluation. An array named in FROM (`c.tags`) becomes `UNNEST(c.tags)`, so that no path of two
//! parts is left which BigQuery could take for a table.

use std::mem;
use std::ops::ControlFlow;

use sqlparser::ast::{
    Expr, Ident, JoinConstraint, JoinOperator, LimitClause, ObjectName, ObjectNamePart, OrderBy,
    Query, Select, SelectFlavor, SelectItem, SetExpr, TableAlias, TableFactor, TableSampleKind,
    TableVersion, TableWithJoins, Values, VisitMut, VisitorMut,
};

use super::guard::{Level, conjunction};
use super::names::{Binding, Env, TableName, path};
use super::pseudo::is_named;
use super::{TableUse, judge};
use crate::error::{Denial, DenialCode};
use crate::policy::TablePolicy;

/// The state of one statement's rewriting.
pub struct Rewriter<'a> {
    /// What the decision depends on.
    pub env: Env<'a>,
    /// Names of common table expressions in scope, in lower case.
    ctes: Vec<String>,
    /// Range variables in scope, in lower case.
    pub aliases: Vec<String>,
    /// Temporary tables that the script has made, in lower case.
    pub temporary: Vec<String>,
    /// Tables and rules, in order of first use.
    pub relations: Vec<TableUse>,
    /// Whether a table was guarded.
    pub protected: bool,
    /// Whether a view of the request's secure context is read.
    pub secure_context: bool,
    /// Whether anything but a table of the tenant's own dataset is read.
    pub foreign: bool,
}

pub fn form(what: &str) -> Denial {
    Denial::of(DenialCode::LeakPossible, what)
}

impl<'a> Rewriter<'a> {
    /// A rewriter for one text.
    pub const fn new(env: Env<'a>) -> Self {
        Self {
            env,
            ctes: Vec::new(),
            aliases: Vec::new(),
            temporary: Vec::new(),
            relations: Vec::new(),
            protected: false,
            secure_context: false,
            foreign: false,
        }
    }

    /// A query in any position.
    pub fn query(&mut self, query: &mut Query) -> Result<(), Denial> {
        let ctes = self.ctes.len();
        let aliases = self.aliases.len();
        let result = self.query_in_scope(query);
        self.ctes.truncate(ctes);
        self.aliases.truncate(aliases);
        result
    }

    fn query_in_scope(&mut self, query: &mut Query) -> Result<(), Denial> {
        let Query {
            with,
            body,
            order_by,
            limit_clause,
            fetch,
            locks,
            for_clause,
            settings,
            format_clause,
            pipe_operators,
        } = query;
        if fetch.is_some()
            || !locks.is_empty()
            || for_clause.is_some()
            || settings.is_some()
            || format_clause.is_some()
        {
            return Err(form("query"));
        }
        if let Some(with) = with {
            if with.recursive {
                self.ctes.extend(with.cte_tables.iter().map(|cte| lower(&cte.alias.name)));
            }
            for cte in &mut with.cte_tables {
                if cte.from.is_some() || cte.materialized.is_some() {
                    return Err(form("with"));
                }
                self.query(&mut cte.query)?;
                self.ctes.push(lower(&cte.alias.name));
            }
        }
        // Behind a bare FROM, pipes see the tables' own names: there, guards can be repeated.
        let mut level = match body.as_mut() {
            SetExpr::Select(select) => {
                let bare = matches!(select.flavor, SelectFlavor::FromFirstNoSelect);
                let level = self.select(select)?;
                if bare { level } else { Level::default() }
            }
            other => {
                self.set_expr(other)?;
                Level::default()
            }
        };
        if let Some(order_by) = order_by {
            let OrderBy { kind: _, interpolate } = &order_by;
            if interpolate.is_some() {
                return Err(form("order by"));
            }
            self.expressions(order_by)?;
        }
        match limit_clause {
            None => {}
            Some(LimitClause::LimitOffset { limit, offset, limit_by }) if limit_by.is_empty() => {
                self.expressions(limit)?;
                self.expressions(offset)?;
            }
            Some(_) => return Err(form("limit")),
        }
        pipe_operators.iter_mut().try_for_each(|operator| self.pipe(operator, &mut level))
    }

    fn set_expr(&mut self, body: &mut SetExpr) -> Result<(), Denial> {
        match body {
            SetExpr::Select(select) => self.select(select).map(|_| ()),
            SetExpr::Query(query) => self.query(query),
            SetExpr::SetOperation { left, right, .. } => {
                self.set_expr(left)?;
                self.set_expr(right)
            }
            SetExpr::Values(_)
            | SetExpr::Insert(_)
            | SetExpr::Update(_)
            | SetExpr::Delete(_)
            | SetExpr::Merge(_)
            | SetExpr::Table(_) => Err(form("query body")),
        }
    }

    fn select(&mut self, select: &mut Select) -> Result<Level, Denial> {
        let Select {
            select_token: _,
            optimizer_hints,
            distinct,
            select_modifiers,
            top,
            top_before_distinct: _,
            projection,
            exclude,
            into,
            from,
            lateral_views,
            prewhere,
            selection,
            connect_by,
            group_by,
            cluster_by,
            distribute_by,
            sort_by,
            having,
            named_window,
            qualify,
            window_before_qualify: _,
            value_table_mode: _,
            flavor,
        } = select;
        let foreign = !optimizer_hints.is_empty()
            || select_modifiers.is_some()
            || top.is_some()
            || exclude.is_some()
            || into.is_some()
            || !lateral_views.is_empty()
            || prewhere.is_some()
            || !connect_by.is_empty()
            || !cluster_by.is_empty()
            || !distribute_by.is_empty()
            || !sort_by.is_empty()
            || !matches!(flavor, SelectFlavor::Standard | SelectFlavor::FromFirstNoSelect);
        if foreign {
            return Err(form("select"));
        }
        let pseudo = is_named(projection)
            || is_named(selection)
            || is_named(group_by)
            || is_named(having)
            || is_named(qualify);
        let mut level = Level::default();
        if pseudo {
            self.pseudo_from(from, &mut level)?;
        } else {
            for item in from.iter_mut() {
                self.table_with_joins(item, &mut level)?;
            }
        }
        self.expressions(distinct)?;
        projection.iter().try_for_each(select_item)?;
        self.expressions(projection)?;
        self.expressions(selection)?;
        self.expressions(group_by)?;
        self.expressions(having)?;
        self.expressions(named_window)?;
        self.expressions(qualify)?;
        if let Some(client) = selection.take() {
            *selection = Some(level.shield(client)?);
        }
        if let Some(guard) = level.where_guard.take() {
            let client = selection.take();
            *selection = Some(conjunction(guard, client));
        }
        Ok(level)
    }

    /// An item of UPDATE's FROM.
    pub fn source_item(&mut self, item: &mut TableWithJoins) -> Result<(), Denial> {
        self.table_with_joins(item, &mut Level::default())
    }

    /// MERGE's source.
    pub fn source_factor(&mut self, factor: &mut TableFactor) -> Result<(), Denial> {
        self.factor(factor, &mut Level::default(), false)
    }

    pub fn table_with_joins(
        &mut self,
        item: &mut TableWithJoins,
        level: &mut Level,
    ) -> Result<(), Denial> {
        self.factor(&mut item.relation, level, false)?;
        for join in &mut item.joins {
            self.join(&mut join.join_operator, &mut join.relation, level)?;
        }
        Ok(())
    }

    pub fn join(
        &mut self,
        operator: &mut JoinOperator,
        relation: &mut TableFactor,
        level: &mut Level,
    ) -> Result<(), Denial> {
        let (outer, constraint) = match operator {
            JoinOperator::Join(c) | JoinOperator::Inner(c) | JoinOperator::CrossJoin(c) => {
                (false, c)
            }
            JoinOperator::Left(c)
            | JoinOperator::LeftOuter(c)
            | JoinOperator::Right(c)
            | JoinOperator::RightOuter(c)
            | JoinOperator::FullOuter(c) => (true, c),
            JoinOperator::Semi(_)
            | JoinOperator::LeftSemi(_)
            | JoinOperator::RightSemi(_)
            | JoinOperator::Anti(_)
            | JoinOperator::LeftAnti(_)
            | JoinOperator::RightAnti(_)
            | JoinOperator::CrossApply
            | JoinOperator::OuterApply
            | JoinOperator::AsOf { .. }
            | JoinOperator::StraightJoin(_)
            | JoinOperator::ArrayJoin
            | JoinOperator::LeftArrayJoin
            | JoinOperator::InnerArrayJoin => return Err(form("join")),
        };
        level.outer |= outer;
        self.factor(relation, level, false)?;
        match constraint {
            JoinConstraint::On(condition) => {
                self.expressions(condition)?;
                let client = mem::replace(condition, Expr::Tuple(Vec::new()));
                *condition = level.shield(client)?;
                Ok(())
            }
            JoinConstraint::Using(_) | JoinConstraint::None => Ok(()),
            JoinConstraint::Natural => Err(form("natural join")),
        }
    }

    /// One item of FROM. `input` is set for the table below PIVOT and UNPIVOT, whose columns no
    /// longer carry the table's name.
    pub fn factor(
        &mut self,
        factor: &mut TableFactor,
        level: &mut Level,
        input: bool,
    ) -> Result<(), Denial> {
        match factor {
            TableFactor::Table { .. } => self.table(factor, level, input),
            TableFactor::Derived { lateral: false, subquery, alias, sample: None } => {
                self.query(subquery)?;
                self.variable(alias.as_ref())
            }
            TableFactor::UNNEST {
                alias,
                array_exprs,
                with_offset: _,
                with_offset_alias: _,
                with_ordinality: false,
            } => {
                self.expressions(array_exprs)?;
                self.variable(alias.as_ref())
            }
            TableFactor::NestedJoin { table_with_joins, alias: None } => {
                self.table_with_joins(table_with_joins, level)
            }
            TableFactor::Pivot {
                table,
                aggregate_functions,
                value_column,
                value_source,
                default_on_null: None,
                alias,
            } => {
                self.factor(table, level, true)?;
                self.expressions(aggregate_functions)?;
                self.expressions(value_column)?;
                self.expressions(value_source)?;
                self.variable(alias.as_ref())
            }
            TableFactor::Unpivot { table, value, name: _, columns, null_inclusion: _, alias } => {
                self.factor(table, level, true)?;
                self.expressions(value)?;
                self.expressions(columns)?;
                self.variable(alias.as_ref())
            }
            TableFactor::Derived { .. }
            | TableFactor::UNNEST { .. }
            | TableFactor::NestedJoin { .. }
            | TableFactor::Pivot { .. }
            | TableFactor::TableFunction { .. }
            | TableFactor::Function { .. }
            | TableFactor::JsonTable { .. }
            | TableFactor::OpenJsonTable { .. }
            | TableFactor::UnpivotExpr { .. }
            | TableFactor::MatchRecognize { .. }
            | TableFactor::XmlTable { .. }
            | TableFactor::SemanticView { .. } => Err(form("from")),
        }
    }

    fn variable(&mut self, alias: Option<&TableAlias>) -> Result<(), Denial> {
        plain_table_checks(alias)?;
        self.aliases.extend(alias.map(|alias| lower(&alias.name)));
        Ok(())
    }

    /// A path in FROM: a common table expression, an array of a range variable, or a table.
    fn table(
        &mut self,
        factor: &mut TableFactor,
        level: &mut Level,
        input: bool,
    ) -> Result<(), Denial> {
        let TableFactor::Table {
            name,
            alias,
            args,
            with_hints,
            version,
            with_ordinality,
            partitions,
            json_path,
            sample,
            index_hints,
        } = factor
        else {
            return Err(form("from"));
        };
        if args.is_some() {
            return Err(Denial::of(DenialCode::Function, name.to_string()));
        }
        if !with_hints.is_empty()
            || *with_ordinality
            || !partitions.is_empty()
            || json_path.is_some()
            || !index_hints.is_empty()
            || !matches!(version, None | Some(TableVersion::ForSystemTimeAsOf(_)))
        {
            return Err(form("from"));
        }
        plain_table_checks(alias.as_ref())?;
        sampled(sample.as_ref())?;
        let parts = path(name)?;
        let head = parts.first().map(|part| part.to_ascii_lowercase()).unwrap_or_default();
        if parts.len() > 1 && self.aliases.contains(&head) {
            return self.array(factor, &parts);
        }
        let Some(table) = self.table_named(&parts)? else {
            if version.is_some() {
                return Err(form("from"));
            }
            let last = parts.last().cloned().unwrap_or_default();
            let variable = alias.as_ref().map_or(last, |alias| alias.name.value.clone());
            self.aliases.push(variable.to_ascii_lowercase());
            return Ok(());
        };
        self.expressions(version)?;
        let variable = match alias.as_ref() {
            Some(alias) => alias.name.value.clone(),
            None => parts.last().cloned().unwrap_or_default(),
        };
        self.aliases.push(variable.to_ascii_lowercase());
        *name = full_name(&table);
        let wildcard = table.table.ends_with('*');
        match self.bind(&table, Use::Read)? {
            Binding::Tenants(rule) => {
                let alias = match alias.take() {
                    Some(alias) => Some(alias),
                    None if wildcard => None,
                    None => Some(alias_of(&variable)),
                };
                let subquery = self.guarded_select(&rule, factor)?;
                *factor = TableFactor::Derived {
                    lateral: false,
                    subquery: Box::new(subquery),
                    alias,
                    sample: None,
                };
                if !input && !wildcard && self.sees_tenant(&rule) {
                    level.guards.push(self.guard(&rule, Some(&variable))?);
                }
            }
            Binding::Shared(_) | Binding::SecureContext(_) | Binding::Own => {
                if alias.is_none() && !wildcard {
                    *alias = Some(alias_of(&variable));
                }
            }
        }
        Ok(())
    }

    /// `FROM c, c.tags AS t` as `FROM c, UNNEST(c.tags) AS t`.
    fn array(&mut self, factor: &mut TableFactor, parts: &[String]) -> Result<(), Denial> {
        let TableFactor::Table { alias, version: None, sample: None, .. } = factor else {
            return Err(form("from"));
        };
        let last = parts.last().cloned().unwrap_or_default();
        let alias = alias.take().or_else(|| Some(alias_of(&last)));
        self.variable(alias.as_ref())?;
        let array = Expr::CompoundIdentifier(parts.iter().map(|part| ident(part)).collect());
        *factor = TableFactor::UNNEST {
            alias,
            array_exprs: vec![array],
            with_offset: false,
            with_offset_alias: None,
            with_ordinality: false,
        };
        Ok(())
    }

    /// The table of a path; `None` for a common table expression and for a temporary table.
    pub fn table_named(&self, parts: &[String]) -> Result<Option<TableName>, Denial> {
        if let [single] = parts {
            let name = single.to_ascii_lowercase();
            if self.ctes.contains(&name) || self.temporary.contains(&name) {
                return Ok(None);
            }
        }
        match self.env.resolve(parts)? {
            Some(table) => Ok(Some(table)),
            None if self.env.place.session && !parts.iter().any(|p| p.contains('*')) => Ok(None),
            None => Err(Denial::of(DenialCode::UnknownRelation, parts.join("."))),
        }
    }

    /// Binds a table, checks the privilege and notes the use.
    pub fn bind(&mut self, table: &TableName, used: Use) -> Result<Binding, Denial> {
        let binding = self.env.bind(table)?;
        let rule = match &binding {
            Binding::Tenants(rule) => {
                self.protected = true;
                self.foreign = true;
                privilege(rule, used, table)?;
                std::sync::Arc::clone(&rule.rule)
            }
            Binding::Shared(rule) => {
                self.foreign = true;
                privilege(rule, used, table)?;
                std::sync::Arc::clone(&rule.rule)
            }
            Binding::SecureContext(rule) => {
                self.foreign = true;
                self.secure_context = true;
                if used != Use::Read {
                    return Err(Denial::of(DenialCode::ReadOnly, table.to_string()));
                }
                privilege(rule, used, table)?;
                std::sync::Arc::clone(&rule.rule)
            }
            Binding::Own => "dataset_per_tenant".into(),
        };
        let used = TableUse { table: table.clone(), rule };
        if !self.relations.contains(&used) {
            self.relations.push(used);
        }
        Ok(binding)
    }

    /// Judges every expression of a part, and rewrites the queries in it.
    pub fn expressions<T: VisitMut>(&mut self, part: &mut T) -> Result<(), Denial> {
        let mut visitor = Expressions { rewriter: self, queries: Vec::new(), denial: None };
        match VisitMut::visit(part, &mut visitor) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(()) => {
                Err(visitor.denial.unwrap_or_else(|| Denial::new(DenialCode::Internal)))
            }
        }
    }
}

/// What a statement does with a table.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Use {
    /// SELECT
    Read,
    /// INSERT
    Insert,
    /// UPDATE
    Update,
    /// DELETE
    Delete,
}

fn privilege(rule: &TablePolicy, used: Use, table: &TableName) -> Result<(), Denial> {
    let allowed = match used {
        Use::Read => rule.access.select,
        Use::Insert => rule.access.insert,
        Use::Update => rule.access.update,
        Use::Delete => rule.access.delete,
    };
    let code = if used == Use::Read { DenialCode::RelationDenied } else { DenialCode::ReadOnly };
    if allowed { Ok(()) } else { Err(Denial::of(code, table.to_string())) }
}

/// Judges expressions; queries in them are taken out and rewritten by the rewriter itself, for only
/// it knows the scopes.
struct Expressions<'r, 'a> {
    rewriter: &'r mut Rewriter<'a>,
    queries: Vec<Query>,
    denial: Option<Denial>,
}

impl Expressions<'_, '_> {
    fn deny(&mut self, denial: Denial) -> ControlFlow<()> {
        self.denial = Some(denial);
        ControlFlow::Break(())
    }
}

fn empty_query() -> Query {
    Query {
        with: None,
        body: Box::new(SetExpr::Values(Values {
            explicit_row: false,
            value_keyword: false,
            rows: Vec::new(),
        })),
        order_by: None,
        limit_clause: None,
        fetch: None,
        locks: Vec::new(),
        for_clause: None,
        settings: None,
        format_clause: None,
        pipe_operators: Vec::new(),
    }
}

impl VisitorMut for Expressions<'_, '_> {
    type Break = ();

    fn pre_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        let mut inner = mem::replace(query, empty_query());
        let result = self.rewriter.query(&mut inner);
        self.queries.push(inner);
        match result {
            Ok(()) => ControlFlow::Continue(()),
            Err(denial) => self.deny(denial),
        }
    }

    fn post_visit_query(&mut self, query: &mut Query) -> ControlFlow<()> {
        match self.queries.pop() {
            Some(inner) => {
                *query = inner;
                ControlFlow::Continue(())
            }
            None => self.deny(Denial::new(DenialCode::Internal)),
        }
    }

    fn pre_visit_relation(&mut self, relation: &mut ObjectName) -> ControlFlow<()> {
        let denial = form(&relation.to_string());
        self.deny(denial)
    }

    fn pre_visit_statement(&mut self, _: &mut sqlparser::ast::Statement) -> ControlFlow<()> {
        self.deny(Denial::of(DenialCode::StatementKind, "a statement in an expression"))
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        match judge::expression(expr, self.rewriter.env) {
            Ok(()) => ControlFlow::Continue(()),
            Err(denial) => self.deny(denial),
        }
    }
}

pub fn select_item(item: &SelectItem) -> Result<(), Denial> {
    match item {
        SelectItem::UnnamedExpr(_)
        | SelectItem::ExprWithAlias { .. }
        | SelectItem::QualifiedWildcard(..)
        | SelectItem::Wildcard(_) => Ok(()),
        SelectItem::ExprWithAliases { .. } => Err(form("select list")),
    }
}

pub fn plain_table_checks(alias: Option<&TableAlias>) -> Result<(), Denial> {
    match alias {
        Some(alias) if !alias.columns.is_empty() || alias.at.is_some() => Err(form("alias")),
        _ => Ok(()),
    }
}

/// TABLESAMPLE SYSTEM (n PERCENT); nothing else is BigQuery's.
pub fn sampled(sample: Option<&TableSampleKind>) -> Result<(), Denial> {
    match sample {
        None => Ok(()),
        Some(
            TableSampleKind::BeforeTableAlias(sample) | TableSampleKind::AfterTableAlias(sample),
        ) if sample.seed.is_none() && sample.bucket.is_none() && sample.offset.is_none() => Ok(()),
        Some(_) => Err(form("tablesample")),
    }
}

pub fn lower(name: &Ident) -> String {
    name.value.to_ascii_lowercase()
}

fn ident(text: &str) -> Ident {
    Ident::with_quote('`', text)
}

/// An identifier in backticks. Names of the policy and of parsed paths hold none.
pub fn quoted(name: &str) -> String {
    format!("`{}`", name.replace(['`', '\\', '\n', '\r'], ""))
}

pub fn alias_of(name: &str) -> TableAlias {
    TableAlias { explicit: true, name: ident(name), columns: Vec::new(), at: None }
}

/// `` `project`.`dataset`.`table` ``
pub fn full_name(table: &TableName) -> ObjectName {
    ObjectName(
        [&table.project, &table.dataset, &table.table]
            .into_iter()
            .map(|part| ObjectNamePart::Identifier(ident(part)))
            .collect(),
    )
}

/// The parent of a policy: its schema is `project.dataset`.
pub fn parent_name(schema: &str, table: &str) -> Result<TableName, Denial> {
    let (project, dataset) =
        schema.split_once('.').ok_or_else(|| Denial::new(DenialCode::Internal))?;
    Ok(TableName {
        project: project.to_owned(),
        dataset: dataset.to_owned(),
        table: table.to_owned(),
    })
}
