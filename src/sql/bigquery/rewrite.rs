//! Binds every table of a statement to the tenant, in sqlparser's tree. Pure.
//!
//! A guarded table becomes `(SELECT * FROM table WHERE tenant = '…') AS table`; columns with a rule
//! are left out or replaced there (`EXCEPT`, `REPLACE`). Conditions of the client's that might raise
//! an error are shielded ([`super::level`]). An array named in FROM (`c.tags`) becomes
//! `UNNEST(c.tags)`, so that no path of two parts is left which BigQuery could take for a table.

use std::collections::BTreeSet;
use std::mem;

use sqlparser::ast::{
    Expr, GroupByExpr, JoinConstraint, JoinOperator, LimitClause, OrderBy, Query, Select,
    SelectFlavor, SelectItem, SetExpr, SetOperator, SetQuantifier, TableAlias, TableFactor,
    TableWithJoins, With,
};

use super::TableUse;
use super::around::{self, Surroundings};
use super::carry::{self, Carry, Cte, Derivation, Purpose};
use super::factor::{alias_of, full_name, lower, plain_table, plain_table_checks, quoted};
use super::guard::conjunction;
use super::level::Columns;
use super::level::{Clause, Input, Level, Partial};
use super::names::{Binding, Env, TableName, path};
use super::pseudo::is_named;
use crate::error::{Denial, DenialCode};
use crate::policy::TablePolicy;

/// The state of one statement's rewriting.
pub struct Rewriter<'a> {
    /// What the decision depends on.
    pub env: Env<'a>,
    /// Common table expressions in scope.
    pub ctes: Vec<Cte>,
    /// Range variables in scope, in lower case.
    pub aliases: Vec<String>,
    /// Range variables in scope that have a carrier, in lower case.
    pub carriers: Vec<String>,
    /// The levels in whose expressions the query at hand stands.
    pub around: Surroundings,
    /// Whether carriers are made.
    pub carry: Carry,
    /// What another try must do otherwise.
    pub wanted: Option<Carry>,
    /// Names that stand alone in the statement's expressions, where carriers are made.
    pub bare: BTreeSet<String>,
    /// Set where a query's columns are taken as they come.
    pub without_carriers: bool,
    /// How many range variables were given a name.
    pub nameless: usize,
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
    pub const fn new(env: Env<'a>, carry: Carry) -> Self {
        Self {
            env,
            ctes: Vec::new(),
            aliases: Vec::new(),
            carriers: Vec::new(),
            around: Vec::new(),
            carry,
            wanted: None,
            bare: BTreeSet::new(),
            without_carriers: false,
            nameless: 0,
            temporary: Vec::new(),
            relations: Vec::new(),
            protected: false,
            secure_context: false,
            foreign: false,
        }
    }

    /// A query in any position. `carries`: it gets a carrier.
    pub fn query(&mut self, query: &mut Query, carries: bool) -> Result<Derivation, Denial> {
        self.query_for(query, if carries { Purpose::Carried } else { Purpose::Read })
    }

    /// A query whose columns are for something.
    pub fn query_for(&mut self, query: &mut Query, purpose: Purpose) -> Result<Derivation, Denial> {
        let ctes = self.ctes.len();
        let aliases = self.aliases.len();
        let carriers = self.carriers.len();
        let result = self.query_in_scope(query, purpose);
        self.ctes.truncate(ctes);
        self.aliases.truncate(aliases);
        self.carriers.truncate(carriers);
        result
    }

    fn query_in_scope(
        &mut self,
        query: &mut Query,
        purpose: Purpose,
    ) -> Result<Derivation, Denial> {
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
            self.with(with)?;
        }
        // Behind a bare FROM, pipes see the tables' own names: there, guards can be repeated.
        let (mut level, below, derivation) = match body.as_mut() {
            SetExpr::Select(select) => {
                let bare = matches!(select.flavor, SelectFlavor::FromFirstNoSelect);
                // All its columns come out: none may be a carrier.
                let without = self.without_carriers;
                self.without_carriers |= bare;
                let read = self.select(select, purpose);
                self.without_carriers = without;
                let (level, derivation) = read?;
                if bare {
                    (level.copy(), level, derivation)
                } else {
                    (self.above(&derivation), level.grouped(), derivation)
                }
            }
            other => {
                let derivation = self.set_expr(other, purpose)?;
                let level = self.above(&derivation);
                (level.copy(), level, derivation)
            }
        };
        if let Some(order_by) = order_by {
            let OrderBy { kind: _, interpolate } = &order_by;
            if interpolate.is_some() {
                return Err(form("order by"));
            }
            self.within(&below, |rewriter| rewriter.values(order_by))?;
        }
        match limit_clause {
            None => {}
            Some(LimitClause::LimitOffset { limit, offset, limit_by }) if limit_by.is_empty() => {
                self.expressions(limit)?;
                self.expressions(offset)?;
            }
            Some(_) => return Err(form("limit")),
        }
        if pipe_operators.is_empty() {
            return Ok(derivation);
        }
        let without = mem::replace(&mut self.without_carriers, true);
        let piped =
            pipe_operators.iter_mut().try_for_each(|operator| self.pipe(operator, &mut level));
        self.without_carriers = without;
        piped?;
        Ok(Derivation {
            guarded: level.is_guarded() || level.partial.is_sealed(),
            mixed: level.mixed,
            columns: Columns { listed: None, partial: level.partial },
            ..Derivation::default()
        })
    }

    /// The level above a query whose range variables are no longer seen.
    fn above(&self, derivation: &Derivation) -> Level {
        let first = self.aliases.len();
        // Columns that it made may be of rows around.
        Level { around: self.around.clone(), first, mixed: true, ..Level::above(derivation) }
    }

    fn with(&mut self, with: &mut With) -> Result<(), Denial> {
        let first = self.ctes.len();
        if with.recursive {
            // One that names itself is made in full before it is read; one that is only named before
            // its place may be anything.
            let unknown = Derivation {
                guarded: true,
                columns: Columns { listed: None, partial: Partial::everything() },
                ..Derivation::default()
            };
            self.ctes.extend(with.cte_tables.iter().map(|cte| Cte {
                name: lower(&cte.alias.name),
                derivation: if carry::recurses(&cte.query, &cte.alias.name) {
                    Derivation::default()
                } else {
                    unknown.clone()
                },
            }));
        }
        for (at, cte) in with.cte_tables.iter_mut().enumerate() {
            if cte.from.is_some() || cte.materialized.is_some() {
                return Err(form("with"));
            }
            let itself = with.recursive && carry::recurses(&cte.query, &cte.alias.name);
            let carries = !with.recursive && self.asks_of_cte(cte);
            let mut derivation = self.query(&mut cte.query, carries)?;
            if !cte.alias.columns.is_empty() {
                derivation.columns.partial.spread();
            }
            let name = lower(&cte.alias.name);
            match self.ctes.get_mut(first + at) {
                // The service may see that the part which names itself has no rows.
                Some(known) if itself => {
                    known.derivation =
                        Derivation { guarded: derivation.guarded, ..Derivation::default() };
                }
                Some(known) => known.derivation = derivation,
                None => self.ctes.push(Cte { name, derivation }),
            }
        }
        Ok(())
    }

    fn set_expr(&mut self, body: &mut SetExpr, purpose: Purpose) -> Result<Derivation, Denial> {
        match body {
            SetExpr::Select(select) if matches!(select.flavor, SelectFlavor::Standard) => {
                self.select(select, purpose).map(|(_, derivation)| derivation)
            }
            SetExpr::Query(query) => self.query_for(query, purpose),
            SetExpr::SetOperation { op, left, right, set_quantifier } => {
                let compares = *op != SetOperator::Union;
                let purpose = match purpose {
                    Purpose::Read if compares => Purpose::Compared,
                    other => other,
                };
                let carriers = self.carriers.len();
                let left = self.set_expr(left, purpose)?;
                self.carriers.truncate(carriers);
                let right = self.set_expr(right, purpose)?;
                if compares {
                    self.comparable(&[&left, &right])?;
                }
                Ok(Derivation {
                    guarded: left.guarded || right.guarded,
                    carried: left.carried && right.carried,
                    complete: left.complete && right.complete,
                    pinned: left.pinned && right.pinned,
                    mixed: left.mixed || right.mixed,
                    columns: match set_quantifier {
                        SetQuantifier::ByName
                        | SetQuantifier::AllByName
                        | SetQuantifier::DistinctByName => {
                            left.columns.united_by_name(&right.columns)
                        }
                        SetQuantifier::All | SetQuantifier::Distinct | SetQuantifier::None => {
                            left.columns.united(&right.columns)
                        }
                    },
                })
            }
            SetExpr::Select(_)
            | SetExpr::Values(_)
            | SetExpr::Insert(_)
            | SetExpr::Update(_)
            | SetExpr::Delete(_)
            | SetExpr::Merge(_)
            | SetExpr::Table(_) => Err(form("query body")),
        }
    }

    fn select(
        &mut self,
        select: &mut Select,
        purpose: Purpose,
    ) -> Result<(Level, Derivation), Denial> {
        let groups = carry::has_groups(select);
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
            value_table_mode,
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
        let mut level = self.level();
        if pseudo {
            self.pseudo_from(from, &mut level)?;
        } else {
            for item in from.iter_mut() {
                self.table_with_joins(item, &mut level)?;
            }
        }
        self.name_variables(&mut level);
        self.expressions(distinct)?;
        projection.iter().try_for_each(select_item)?;
        level.qualify(projection);
        let mixed =
            level.mixed || around::list_may_hand_on(&level.around, &level.variables, projection);
        let above = if groups == Some(false) { level.copy() } else { level.grouped() };
        let handed = self.within(&above, |rewriter| rewriter.values(projection))?;
        level.hands |= self.within(&level, |rewriter| rewriter.condition(selection))?;
        self.within(&level, |rewriter| rewriter.expressions(group_by))?;
        level.hands |= self.within(&above, |rewriter| rewriter.condition(having))?;
        self.within(&above, |rewriter| rewriter.expressions(named_window))?;
        level.hands |= self.within(&above, |rewriter| rewriter.condition(qualify))?;
        let keyless = matches!(&*group_by, GroupByExpr::Expressions(keys, modifiers)
            if keys.is_empty() && modifiers.is_empty());
        let one_group = keyless && groups == Some(true);
        level.partial.set_one_group(one_group);
        let carries = purpose == Purpose::Carried;
        let list = (&*group_by, groups, distinct.is_some());
        let shields = Self::shields(list, projection, &level, purpose);
        let mut columns = Columns::of(projection, &level, &shields);
        if value_table_mode.is_some() {
            columns = columns.of_values();
        }
        if handed.any() {
            columns.partial.seal();
        }
        let pinned = carry::is_pinned_list(projection, one_group);
        let below = mem::take(&mut level.partial);
        // What stands in the SELECT list is known by its name in HAVING and QUALIFY; in WHERE too, where a
        // project's option has column aliases reused. It hides a range variable of that name.
        level.partial.join(&below);
        level.partial.join(&columns.partial);
        level.partial.set_one_group(one_group);
        let guards = level.hide(projection)?;
        if let Some(client) = selection.take() {
            *selection = Some(self.shielded(&level, client, Clause::Rows)?);
        }
        level.hide_by_stars(projection);
        level.list(projection);
        if let Some(client) = having.take() {
            *having = Some(self.shielded(&level, client, Clause::Groups)?);
        }
        if let Some(client) = qualify.take() {
            let clause = if groups == Some(true) { Clause::Groups } else { Clause::Rows };
            *qualify = Some(self.shielded(&level, client, clause)?);
        }
        level.partial = below;
        level.show(guards);
        if let Some(guard) = level.where_guard.take() {
            let client = selection.take();
            *selection = Some(conjunction(guard, client));
        }
        level.shield_columns(projection, &shields)?;
        self.leave_out(projection, &level);
        if carries {
            projection.push(Self::carrier(&level, groups == Some(true))?);
        }
        let derivation = Derivation {
            guarded: level.is_guarded() || handed.any(),
            carried: carries,
            complete: level.is_complete(),
            pinned,
            mixed,
            columns,
        };
        Ok((level, derivation))
    }

    pub fn table_with_joins(
        &mut self,
        item: &mut TableWithJoins,
        level: &mut Level,
    ) -> Result<(), Denial> {
        self.factor(&mut item.relation, level, false)?;
        for join in &mut item.joins {
            // SECURITY: to the service GLOBAL is the name of the table before it.
            if join.global {
                return Err(form("global join"));
            }
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
                self.name_variables(level);
                level.hands |= self.within(level, |rewriter| rewriter.condition(condition))?;
                let client = mem::replace(condition, Expr::Tuple(Vec::new()));
                *condition = self.shielded(level, client, Clause::Rows)?;
                Ok(())
            }
            // The service may ask for them not to be null before it joins.
            JoinConstraint::Using(columns) if level.partial.is_named_by(columns) => {
                self.unmet("using a column whose computation may fail")
            }
            JoinConstraint::Using(_) => Ok(()),
            JoinConstraint::None => Ok(()),
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
                let carries = !input
                    && self.asks(subquery, alias.as_ref().map(|alias| alias.name.value.as_str()));
                if carries && alias.is_none() {
                    *alias = Some(self.nameless());
                }
                let derivation = self.query(subquery, carries)?;
                self.variable(alias.as_ref())?;
                let variable = alias.as_ref().map(|alias| alias.name.value.clone());
                self.derived(level, variable.as_deref(), &derivation, input);
                Ok(())
            }
            TableFactor::UNNEST {
                alias,
                array_exprs,
                with_offset,
                with_offset_alias,
                with_ordinality: false,
            } => {
                let offset = with_offset_alias.as_ref().map_or("offset", |name| &name.value);
                let offset = with_offset.then(|| offset.to_ascii_lowercase());
                self.arrays(array_exprs, alias.as_ref(), offset, level)
            }
            TableFactor::NestedJoin { table_with_joins, alias: None } => {
                // A condition in it sees the tables in it, and no others of the level.
                let mut inner = self.level();
                self.table_with_joins(table_with_joins, &mut inner)?;
                self.name_variables(&mut inner);
                level.absorb(inner);
                Ok(())
            }
            TableFactor::Pivot {
                table,
                aggregate_functions,
                value_column,
                value_source,
                default_on_null: None,
                alias,
            } => {
                let outside = self.aliases.len();
                self.factor(table, level, true)?;
                let below = level.grouped();
                self.within(&below, |rewriter| {
                    rewriter.expressions(aggregate_functions)?;
                    rewriter.expressions(value_column)?;
                    rewriter.expressions(value_source)
                })?;
                // The name of the table below is gone.
                self.aliases.truncate(outside);
                self.variable(alias.as_ref())
            }
            TableFactor::Unpivot { table, value, name: _, columns, null_inclusion: _, alias } => {
                let outside = self.aliases.len();
                self.factor(table, level, true)?;
                // Its names become values.
                level.partial.spread();
                let below = level.grouped();
                self.within(&below, |rewriter| {
                    rewriter.expressions(value)?;
                    rewriter.expressions(columns)
                })?;
                self.aliases.truncate(outside);
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

    pub fn variable(&mut self, alias: Option<&TableAlias>) -> Result<(), Denial> {
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
        plain_table(factor)?;
        let TableFactor::Table { name, alias, version, .. } = factor else {
            return Err(form("from"));
        };
        let parts = path(name)?;
        let head = parts.first().map(|part| part.to_ascii_lowercase()).unwrap_or_default();
        if parts.len() > 1 && self.aliases.contains(&head) {
            return self.array(factor, &parts, level);
        }
        let Some(table) = self.table_named(&parts)? else {
            if version.is_some() {
                return Err(form("from"));
            }
            let last = parts.last().cloned().unwrap_or_default();
            let variable =
                alias.as_ref().map_or_else(|| last.clone(), |alias| alias.name.value.clone());
            self.aliases.push(variable.to_ascii_lowercase());
            self.common(level, &last, &variable, input);
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
                    Some(alias) => alias,
                    None if wildcard => self.nameless(),
                    None => alias_of(&variable),
                };
                let variable = alias.name.value.clone();
                let name = variable.to_ascii_lowercase();
                let repeated = !input && self.sees_tenant(&rule) && rule.condition.is_none();
                let carries = !input
                    && !repeated
                    && self.carry.on
                    && !self.without_carriers
                    && !self.bare.contains(&name);
                let subquery = self.guarded_select(&rule, factor, carries)?;
                *factor = TableFactor::Derived {
                    lateral: false,
                    subquery: Box::new(subquery),
                    alias: Some(alias),
                    sample: None,
                };
                let guard = match (repeated, carries) {
                    (true, _) => Some(self.guard(&rule, &variable)?.to_string()),
                    (false, true) => {
                        Some(format!("{}.{}", quoted(&variable), quoted(carry::CARRIER)))
                    }
                    (false, false) => None,
                };
                if carries {
                    level.carrying.insert(name.clone());
                    self.carriers.push(name.clone());
                }
                level.inputs.push(Input { variable: name, guard });
            }
            Binding::SecureContext(rule) => {
                // The view is what keeps tenants apart; its conditions may be moved as well.
                let guard = match self.sees_tenant(&rule) && !input {
                    true => Some(self.guard(&rule, &variable)?.to_string()),
                    false => None,
                };
                level.inputs.push(Input { variable: variable.to_ascii_lowercase(), guard });
                if alias.is_none() && !wildcard {
                    *alias = Some(alias_of(&variable));
                }
            }
            Binding::Shared(_) | Binding::Own => {
                if alias.is_none() && !wildcard {
                    *alias = Some(alias_of(&variable));
                }
            }
        }
        Ok(())
    }

    /// The table of a path; `None` for a common table expression and for a temporary table.
    pub fn table_named(&self, parts: &[String]) -> Result<Option<TableName>, Denial> {
        if let [single] = parts {
            let name = single.to_ascii_lowercase();
            if self.ctes.iter().any(|cte| cte.name == name) || self.temporary.contains(&name) {
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

pub fn select_item(item: &SelectItem) -> Result<(), Denial> {
    match item {
        SelectItem::UnnamedExpr(_)
        | SelectItem::ExprWithAlias { .. }
        | SelectItem::QualifiedWildcard(..)
        | SelectItem::Wildcard(_) => Ok(()),
        SelectItem::ExprWithAliases { .. } => Err(form("select list")),
    }
}
