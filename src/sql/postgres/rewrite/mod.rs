//! The rewriter: binds every relation of a statement to the tenant. Layer 2.
//!
//! It works on sqlparser's tree of the canonical text (what libpg_query prints of the client's
//! statement), level by level: a *level* is one FROM. Its guards stand first, as plain typed
//! predicates that an index can serve; every conjunct beside them that is not *total*
//! ([`total`]) is shielded by CASE, so that no other tenant's row ever meets it. Where the planner
//! could merge a lower level into this one and carry an expression past its guard, the lower level
//! is kept apart by `OFFSET 0` or MATERIALIZED.
//!
//! Nothing rests on the rewriter being right: the checker reads what it wrote with PostgreSQL's own
//! grammar and refuses what it cannot follow. The rewriter rests on nothing of the checker.

mod blame;
mod condition;
mod dialect;
mod from;
mod group;
mod grouping;
mod guard;
mod joined;
mod level;
mod limits;
mod locks;
mod made;
mod mask;
mod parameters;
mod sizes;
mod subqueries;
mod total;
mod with_check;
mod write;

use std::cell::Cell;
use std::ops::ControlFlow;
use std::rc::Rc;

use sqlparser::ast::{
    Cte, CteAsMaterialized, Distinct, Expr, GroupByExpr, LimitClause, Offset, OffsetRows,
    OrderByKind, Query, Select, SelectItem, SelectItemQualifiedWildcardKind, SetExpr, Statement,
    Value, VisitMut,
};
use sqlparser::dialect::PostgreSqlDialect;
use sqlparser::parser::{Parser, ParserError, ParserOptions};
use sqlparser::tokenizer::{Token, Tokenizer};

use super::env::Env;
use super::totality::{Class, is_mergeable};
use crate::error::{Denial, DenialCode};
use crate::mutant;
use crate::sql::account::{self, Treatment};
pub use level::name_of;
use level::{Bond, Level, Outputs};
use subqueries::SubqueryRewriting;
use total::Subqueries;

pub use condition::{ClaimKind, Unspelled, parse as parse_condition, spelled};
pub use guard::MARKER;

/// A parser that keeps the source's own spelling of literals: with `unescape` on, printing can turn
/// a literal into SQL (`'\''…`).
fn parser(text: &str) -> Result<Parser<'static>, ParserError> {
    empty_parser().try_with_sql(text)
}

fn empty_parser() -> Parser<'static> {
    Parser::new(&DIALECT)
        .with_options(ParserOptions::new().with_unescape(false))
        .with_recursion_limit(200)
}

static DIALECT: PostgreSqlDialect = PostgreSqlDialect {};

/// A statement, and what of it was swapped for words that sqlparser knows.
pub struct Parsed {
    statement: Statement,
    swaps: dialect::Swaps,
}

impl Parsed {
    /// The statement as it would be sent.
    ///
    /// # Errors
    /// HR4002 when a swapped clause is not found again.
    pub fn text(&self) -> Result<String, Denial> {
        self.swaps.put_back(&self.statement.to_string()).ok_or(Denial::new(DenialCode::Internal))
    }
}

/// Parses exactly one statement, to the end of the text.
///
/// # Errors
/// HR1001.
pub fn parse(text: &str) -> Result<Parsed, Denial> {
    let cannot = || Denial::new(DenialCode::CannotParse);
    let tokens = Tokenizer::new(&DIALECT, text)
        .with_unescape(mutant::on("unescape"))
        .tokenize_with_location()
        .map_err(|_| cannot())?;
    let (tokens, swaps) = dialect::swap(tokens);
    let mut parser = empty_parser().with_tokens_with_locations(tokens);
    let statement = parser.parse_statement().map_err(|_| cannot())?;
    while parser.consume_token(&Token::SemiColon) {}
    if parser.peek_token().token == Token::EOF {
        Ok(Parsed { statement, swaps })
    } else {
        Err(cannot())
    }
}

/// A rewritten statement.
pub struct Rewritten {
    /// The text, with guards.
    pub text: String,
    /// Result columns that hold the tenant, by position.
    pub tenant_columns: Vec<usize>,
}

/// Rewrites one query or data change.
///
/// # Errors
/// A denial where the statement cannot be bound to the tenant.
pub fn rewrite(text: &str, env: Env<'_>) -> Result<Rewritten, Denial> {
    let mut parsed = parse(text)?;
    locks::bind(&mut parsed.statement, env)?;
    sizes::bind(&mut parsed.statement)?;
    let parameters = parameters::of_statement(&parsed.statement, text, env.parameters);
    let env = Env { parameters: &parameters, ..env };
    let mut rewriter = Rewriter {
        env,
        tenant_columns: Vec::new(),
        depth: 0,
        plain_order: true,
        grouped: false,
        expanding: None,
        at_target: false,
        named: if env.catalog.live { None } else { mask::named_columns(&parsed.statement) },
    };
    rewriter.statement(&mut parsed.statement, None)?;
    Ok(Rewritten { text: parsed.text()?, tenant_columns: rewriter.tenant_columns })
}

/// What a query is, seen from the level that reads it.
struct Shape {
    /// Its columns.
    outputs: Outputs,
    /// Whether the planner may merge it into the reading level with unguarded rows in it.
    exposed: bool,
    /// Whether a guard in it is a semi-join that may still be moved.
    semi_join: bool,
    /// Whether every expression in it is total.
    clean: bool,
}

/// A CTE in scope.
struct CteInScope {
    name: String,
    outputs: Outputs,
    exposed: bool,
    semi_join: bool,
    barrier: Rc<Cell<bool>>,
    /// The rows that it makes.
    made: Option<made::Made>,
}

/// The CTEs in scope, innermost WITH first.
struct Ctes<'p> {
    outer: Option<&'p Ctes<'p>>,
    own: Vec<CteInScope>,
}

impl Ctes<'_> {
    fn find(&self, name: &str) -> Option<&CteInScope> {
        self.own
            .iter()
            .rev()
            .find(|cte| cte.name == name)
            .or_else(|| self.outer.and_then(|outer| outer.find(name)))
    }
}

/// The scope of an expression or sub-query.
#[derive(Clone, Copy)]
struct Scope<'p> {
    level: Option<&'p Level<'p>>,
    ctes: Option<&'p Ctes<'p>>,
}

struct Rewriter<'a> {
    env: Env<'a>,
    tenant_columns: Vec<usize>,
    /// How many queries are open: the result columns of the outermost are the client's.
    depth: usize,
    /// Whether the query at hand sorts by nothing but columns.
    plain_order: bool,
    /// Whether what is looked at is computed of groups.
    grouped: bool,
    /// The depth of the query whose `*` is written out: an INSERT's source, where the tenant's column
    /// must be found.
    expanding: Option<usize>,
    /// The next relation is the target of a data change, which keeps its place.
    at_target: bool,
    /// Offline: the names that the statement gives to columns, where no `*` stands for others.
    named: Option<Vec<String>>,
}

impl Rewriter<'_> {
    fn statement(
        &mut self,
        statement: &mut Statement,
        ctes: Option<&Ctes<'_>>,
    ) -> Result<(), Denial> {
        match statement {
            Statement::Query(query) => self.query(query, Scope { level: None, ctes }).map(|_| ()),
            Statement::Insert(insert) => self.insert(insert, ctes),
            Statement::Update(update) => self.update(update, ctes),
            Statement::Delete(delete) => self.delete(delete, ctes),
            Statement::Merge(merge) => self.merge(merge, ctes),
            _ => Err(Denial::new(DenialCode::StatementKind)),
        }
    }

    fn query(&mut self, query: &mut Query, scope: Scope<'_>) -> Result<Shape, Denial> {
        self.depth += 1;
        let grouped = std::mem::take(&mut self.grouped);
        let mut own = Ctes { outer: scope.ctes, own: Vec::new() };
        // What is locked waits, or fails; what reads itself may have no end.
        let mut clean = query.locks.is_empty();
        if let Some(with) = &mut query.with {
            if with.recursive {
                clean = false;
                // SECURITY: visible to each other, whatever their order, and merged unless they read
                // themselves: what is not known yet is taken for the worst.
                own.own.extend(with.cte_tables.iter().map(|cte| CteInScope {
                    name: name_of(&cte.alias.name),
                    outputs: None,
                    exposed: !is_materialized(cte),
                    semi_join: !is_materialized(cte),
                    barrier: Rc::default(),
                    made: None,
                }));
            }
            for cte in &mut with.cte_tables {
                let (entry, total) =
                    self.cte(cte, Scope { level: scope.level, ctes: Some(&own) })?;
                clean &= total || mutant::on("cte-total");
                own.own.push(entry);
            }
        }
        let inner = Scope { level: scope.level, ctes: Some(&own) };
        let around = std::mem::replace(&mut self.plain_order, has_plain_order(query));
        let mut shape = self.set_expr(&mut query.body, inner)?;
        self.plain_order = around;
        shape.clean &= clean && has_plain_order(query);
        if let Some(order_by) = &mut query.order_by {
            match &mut order_by.kind {
                OrderByKind::Expressions(keys) => {
                    for key in keys {
                        let subqueries = self.subqueries(&mut key.expr, inner)?;
                        shape.clean &= matches!(subqueries, Subqueries::Clean(_));
                    }
                }
                OrderByKind::All(_) => return Err(Denial::new(DenialCode::CannotParse)),
            }
        }
        let limits = self.limits(query, inner)?;
        shape.exposed &= !limits.any;
        shape.clean &= limits.total;
        if let Some(with) = &mut query.with {
            for cte in &mut with.cte_tables {
                let name = name_of(&cte.alias.name);
                if own.own.iter().any(|entry| entry.name == name && entry.barrier.get()) {
                    cte.materialized = Some(CteAsMaterialized::Materialized);
                    let barrier =
                        account::Barrier { query: name, form: account::Form::Materialized };
                    self.env.notes.take(|account| account.barriers.push(barrier));
                }
            }
        }
        self.depth -= 1;
        self.grouped = grouped;
        Ok(shape)
    }

    /// A CTE, and whether every expression in it is total.
    fn cte(&mut self, cte: &mut Cte, scope: Scope<'_>) -> Result<(CteInScope, bool), Denial> {
        let made = self.made_by(cte);
        let shape = self.query(&mut cte.query, scope)?;
        let changes_data = matches!(
            *cte.query.body,
            SetExpr::Insert(_) | SetExpr::Update(_) | SetExpr::Delete(_) | SetExpr::Merge(_)
        );
        let apart = is_materialized(cte);
        let entry = CteInScope {
            name: name_of(&cte.alias.name),
            outputs: from::renamed(shape.outputs, &cte.alias),
            exposed: shape.exposed && !changes_data && !apart,
            semi_join: shape.semi_join,
            barrier: Rc::default(),
            made,
        };
        Ok((entry, shape.clean))
    }

    fn set_expr(&mut self, body: &mut SetExpr, scope: Scope<'_>) -> Result<Shape, Denial> {
        match body {
            SetExpr::Select(select) => self.select(select, scope),
            SetExpr::Query(query) => {
                self.depth -= 1;
                let shape = self.query(query, scope);
                self.depth += 1;
                shape
            }
            SetExpr::SetOperation { left, right, .. } => {
                // Egress is told of a plain SELECT only: positions of two branches may differ.
                self.depth += 1;
                let (left, right) = (self.set_expr(left, scope)?, self.set_expr(right, scope)?);
                self.depth -= 1;
                let outputs = merged(left.outputs, right.outputs);
                // A column of two types is brought to one of them, which may fail.
                let even = outputs.iter().flatten().all(|(_, class)| class.is_some());
                Ok(Shape {
                    clean: left.clean && right.clean && even && outputs.is_some(),
                    outputs,
                    exposed: left.exposed || right.exposed,
                    semi_join: left.semi_join || right.semi_join,
                })
            }
            SetExpr::Values(values) => self.values(values, scope),
            SetExpr::Insert(statement)
            | SetExpr::Update(statement)
            | SetExpr::Delete(statement)
            | SetExpr::Merge(statement) => {
                self.statement(statement, scope.ctes)?;
                Ok(Shape { outputs: None, exposed: false, semi_join: false, clean: false })
            }
            SetExpr::Table(_) => Err(Denial::new(DenialCode::CannotParse)),
        }
    }

    fn select(&mut self, select: &mut Select, scope: Scope<'_>) -> Result<Shape, Denial> {
        let mut level = Level::new(self.env, scope.level);
        let mut placement = from::Placement::default();
        if self.expanding == Some(self.depth) {
            from::name_rows(select);
        }
        for item in &mut select.from {
            self.place_item(item, &mut level, scope.ctes, &mut placement)?;
        }
        let level = level;
        let here = Scope { level: Some(&level), ctes: scope.ctes };
        let mut clean = true;
        self.join_conditions(&mut select.from, &mut placement, here, &mut clean)?;
        select.selection = self.bound(
            std::mem::take(&mut placement.conditions),
            select.selection.take(),
            here,
            &mut clean,
        )?;
        let grouped = group::is_grouped(select);
        self.grouped = grouped;
        if let Some(having) = select.having.take() {
            select.having = Some(self.having(having, here, &mut clean)?);
        }
        self.grouped = false;
        self.other_clauses(select, here, &mut clean)?;
        self.grouped = grouped;
        grouping::by_what_keys_settle(select, &placement.keyless, &level);
        let outputs = self.projection(&mut select.projection, here, &mut clean)?;
        self.grouped = false;
        if self.expanding == Some(self.depth) {
            expand(&mut select.projection, &outputs);
        }
        if self.depth == 1 {
            self.tenant_columns = from::tenant_columns(select, &level);
        }
        let settled = clean && self.plain_order && !placement.unclean;
        let mut semi_join = level.settle_semi_joins(settled);
        if settled {
            semi_join |= guard::has_semi_join(select.selection.as_mut(), &mut select.from);
        } else {
            guard::fix_semi_joins(select.selection.as_mut(), &mut select.from);
        }
        placement.raise(&mut select.from, self.env.notes);
        let clean = clean && !placement.computes;
        Ok(Shape { outputs, exposed: level.exposed(), semi_join, clean })
    }

    /// The guards, then the client's conjuncts, each total or shielded.
    fn bound(
        &mut self,
        guards: Vec<Expr>,
        client: Option<Expr>,
        scope: Scope<'_>,
        clean: &mut bool,
    ) -> Result<Option<Expr>, Denial> {
        let mut conditions = guards;
        let mut conjuncts = Vec::new();
        if let Some(client) = client {
            flatten(client, &mut conjuncts);
        }
        for mut conjunct in conjuncts {
            let written = self.env.notes.wanted().then(|| conjunct.to_string());
            let (subqueries, exposed) = self.subqueries_met(&mut conjunct, scope)?;
            let level = scope.level.ok_or(Denial::new(DenialCode::Internal))?;
            conditions.push(if total::is_total(&conjunct, level, subqueries) {
                self.note(written, account::Clause::Condition, || Treatment::Total);
                nested(conjunct)
            } else {
                *clean = false;
                level.raise_barriers();
                let guards = guard::all(relevant_guards(&conjunct, level));
                self.note(written, account::Clause::Condition, || {
                    let why = blame::of(&conjunct, level, subqueries);
                    if guards.is_some() {
                        Treatment::Shielded(why)
                    } else {
                        Treatment::Unexposed(why)
                    }
                });
                match guards {
                    Some(_) if mutant::on("shield") => nested(conjunct),
                    Some(condition) => guard::shield(condition, conjunct),
                    None => {
                        if !mutant::on("sublink-apart") {
                            subqueries::keep_members_apart(&mut conjunct, &exposed, self.env.notes);
                        }
                        nested(conjunct)
                    }
                }
            });
        }
        Ok(guard::all(conditions))
    }

    /// Notes what became of a conjunct, where `written` is its text.
    fn note(
        &self,
        written: Option<String>,
        clause: account::Clause,
        treatment: impl FnOnce() -> Treatment,
    ) {
        if let Some(text) = written {
            let conjunct = account::Conjunct { text, clause, treatment: treatment() };
            self.env.notes.take(|account| account.conjuncts.push(conjunct));
        }
    }

    /// HAVING: the planner moves a conjunct without aggregates into WHERE. One that is not total is
    /// therefore given an aggregate that changes nothing.
    fn having(&mut self, having: Expr, scope: Scope<'_>, clean: &mut bool) -> Result<Expr, Denial> {
        let level = scope.level.ok_or(Denial::new(DenialCode::Internal))?;
        let mut conjuncts = Vec::new();
        flatten(having, &mut conjuncts);
        let mut conditions = Vec::new();
        for mut conjunct in conjuncts {
            let written = self.env.notes.wanted().then(|| conjunct.to_string());
            let subqueries = self.subqueries(&mut conjunct, scope)?;
            if total::is_total(&conjunct, level, subqueries) {
                self.note(written, account::Clause::Having, || Treatment::Total);
                conditions.push(nested(conjunct));
                continue;
            }
            *clean = false;
            level.raise_barriers();
            let exposed = level.exposed() || !level.guards().is_empty();
            self.note(written, account::Clause::Having, || {
                let why = blame::of(&conjunct, level, subqueries);
                if exposed { Treatment::Shielded(why) } else { Treatment::Unexposed(why) }
            });
            conditions.push(if exposed && !mutant::on("having") {
                guard::shield(counted(), conjunct)
            } else {
                nested(conjunct)
            });
        }
        guard::all(conditions).ok_or(Denial::new(DenialCode::Internal))
    }

    fn other_clauses(
        &mut self,
        select: &mut Select,
        scope: Scope<'_>,
        clean: &mut bool,
    ) -> Result<(), Denial> {
        let GroupByExpr::Expressions(keys, modifiers) = &mut select.group_by else {
            return Err(Denial::new(DenialCode::CannotParse));
        };
        if !modifiers.is_empty() {
            return Err(Denial::new(DenialCode::CannotParse));
        }
        for key in keys {
            let subqueries = self.subqueries(key, scope)?;
            *clean &= scope.level.is_some_and(|level| total::is_total(key, level, subqueries));
        }
        if let Some(Distinct::On(keys)) = &mut select.distinct {
            for key in keys {
                let subqueries = self.subqueries(key, scope)?;
                *clean &= scope.level.is_some_and(|level| total::is_total(key, level, subqueries));
            }
        }
        for window in &mut select.named_window {
            *clean = false;
            let mut rewriting = SubqueryRewriting::new(self, scope);
            if let ControlFlow::Break(denial) = window.visit(&mut rewriting) {
                return Err(denial);
            }
        }
        Ok(())
    }

    fn projection(
        &mut self,
        items: &mut [SelectItem],
        scope: Scope<'_>,
        clean: &mut bool,
    ) -> Result<Outputs, Denial> {
        let level = scope.level.ok_or(Denial::new(DenialCode::Internal))?;
        let mut outputs: Outputs = Some(Vec::new());
        let mut push = |more: Outputs| match (&mut outputs, more) {
            (Some(known), Some(more)) => known.extend(more),
            (known, _) => *known = None,
        };
        for item in items {
            match item {
                SelectItem::UnnamedExpr(expression) if dialect::ends_in_star(expression) => {
                    self.subqueries(expression, scope)?;
                    *clean = false;
                    push(None);
                }
                SelectItem::UnnamedExpr(expression) => {
                    let class = self.item_class(expression, scope, clean)?;
                    push(output_name(expression).map(|name| vec![(name, class)]));
                }
                SelectItem::ExprWithAlias { expr, alias } => {
                    let class = self.item_class(expr, scope, clean)?;
                    push(Some(vec![(name_of(alias), class)]));
                }
                SelectItem::Wildcard(_) => {
                    level.rels.iter().for_each(|rel| push(rel.columns.clone()));
                }
                SelectItem::QualifiedWildcard(
                    SelectItemQualifiedWildcardKind::ObjectName(name),
                    _,
                ) => {
                    let rel = name.0.last().and_then(|part| part.as_ident()).map(name_of);
                    push(
                        rel.and_then(|rel| level.visible(&rel)).and_then(|rel| rel.columns.clone()),
                    );
                }
                SelectItem::QualifiedWildcard(
                    SelectItemQualifiedWildcardKind::Expr(expression),
                    _,
                ) => {
                    self.subqueries(expression, scope)?;
                    *clean = false;
                    push(None);
                }
                SelectItem::ExprWithAliases { .. } => {
                    return Err(Denial::new(DenialCode::CannotParse));
                }
            }
        }
        Ok(outputs)
    }

    fn item_class(
        &mut self,
        expression: &mut Expr,
        scope: Scope<'_>,
        clean: &mut bool,
    ) -> Result<Option<Class>, Denial> {
        let level = scope.level.ok_or(Denial::new(DenialCode::Internal))?;
        let subqueries = self.subqueries(expression, scope)?;
        let class = total::class(expression, level, subqueries);
        *clean &= class.is_some() || is_plain_count(expression);
        Ok(class)
    }

    /// Rewrites every sub-query of an expression; says whether all of them are clean.
    fn subqueries(
        &mut self,
        expression: &mut Expr,
        scope: Scope<'_>,
    ) -> Result<Subqueries, Denial> {
        self.subqueries_met(expression, scope).map(|(subqueries, _)| subqueries)
    }

    /// The same, and whether each of the outermost is exposed to this level.
    fn subqueries_met(
        &mut self,
        expression: &mut Expr,
        scope: Scope<'_>,
    ) -> Result<(Subqueries, Vec<bool>), Denial> {
        let mut rewriting = SubqueryRewriting::new(self, scope);
        if let ControlFlow::Break(denial) = expression.visit(&mut rewriting) {
            return Err(denial);
        }
        let subqueries = match rewriting.columns.as_slice() {
            _ if !rewriting.clean => Subqueries::Unclean,
            [only] => Subqueries::Clean(*only),
            _ => Subqueries::Clean(None),
        };
        Ok((subqueries, rewriting.exposed))
    }
}

const fn is_materialized(cte: &Cte) -> bool {
    matches!(cte.materialized, Some(CteAsMaterialized::Materialized))
}

/// Writes a lone `*` out, where its columns are known and each name means one of them.
fn expand(items: &mut Vec<SelectItem>, outputs: &Outputs) {
    let (Some(outputs), [SelectItem::Wildcard(_)]) = (outputs, items.as_slice()) else { return };
    let mut names: Vec<&str> = outputs.iter().map(|(name, _)| name.as_str()).collect();
    names.sort_unstable();
    if names.windows(2).all(|pair| pair.first() != pair.last()) {
        let column = |(name, _): &(String, Option<Class>)| {
            SelectItem::UnnamedExpr(Expr::Identifier(guard::ident(name)))
        };
        *items = outputs.iter().map(column).collect();
    }
}

/// Whether a query sorts by nothing but columns and positions.
fn has_plain_order(query: &Query) -> bool {
    let plain = |key: &sqlparser::ast::OrderByExpr| {
        matches!(key.expr, Expr::Identifier(_) | Expr::CompoundIdentifier(_) | Expr::Value(_))
    };
    match query.order_by.as_ref().map(|order_by| &order_by.kind) {
        _ if mutant::on("order-total") => true,
        None => true,
        Some(OrderByKind::Expressions(keys)) => keys.iter().all(plain),
        Some(OrderByKind::All(_)) => false,
    }
}

/// Takes a chain of ANDs apart.
fn flatten(expression: Expr, conjuncts: &mut Vec<Expr>) {
    match expression {
        Expr::BinaryOp { left, op: sqlparser::ast::BinaryOperator::And, right } => {
            flatten(*left, conjuncts);
            flatten(*right, conjuncts);
        }
        Expr::Nested(inner)
            if matches!(*inner, Expr::BinaryOp { op: sqlparser::ast::BinaryOperator::And, .. }) =>
        {
            flatten(*inner, conjuncts);
        }
        other => conjuncts.push(other),
    }
}

fn nested(expression: Expr) -> Expr {
    match expression {
        plain @ (Expr::Nested(_)
        | Expr::Identifier(_)
        | Expr::CompoundIdentifier(_)
        | Expr::Value(_)) => plain,
        other => Expr::Nested(Box::new(other)),
    }
}

/// `count(*) >= 0`
fn counted() -> Expr {
    use sqlparser::ast::{
        BinaryOperator, Function, FunctionArg, FunctionArgExpr, FunctionArgumentList,
        FunctionArguments, Ident, ObjectName,
    };
    let count = Expr::Function(Function {
        name: ObjectName::from(vec![Ident::new("count")]),
        uses_odbc_syntax: false,
        parameters: FunctionArguments::None,
        args: FunctionArguments::List(FunctionArgumentList {
            duplicate_treatment: None,
            args: vec![FunctionArg::Unnamed(FunctionArgExpr::Wildcard)],
            clauses: Vec::new(),
        }),
        filter: None,
        null_treatment: None,
        over: None,
        within_group: Vec::new(),
    });
    let zero = Expr::Value(Value::Number("0".to_owned(), false).into());
    Expr::BinaryOp { left: Box::new(count), op: BinaryOperator::GtEq, right: Box::new(zero) }
}

/// `count(*)`, which is total whatever the rows.
fn is_plain_count(expression: &Expr) -> bool {
    matches!(expression, Expr::Function(_))
        && expression.to_string().eq_ignore_ascii_case("count(*)")
}

/// The guards that must hold before the conjunct may be evaluated: of every relation that it names;
/// of all when it names none, or one that cannot be told.
fn relevant_guards(conjunct: &Expr, level: &Level<'_>) -> Vec<Expr> {
    let mut guards: Vec<Expr> = Vec::new();
    let nameable = level.guards();
    let (mut named, mut unsure) = (false, false);
    let mut look = |parts: &[sqlparser::ast::Ident]| {
        named = true;
        let found = level.find(parts);
        match found.rel.map(|rel| &rel.bond) {
            Some(Bond::Flat { guard }) => {
                if !guards.contains(guard.as_ref()) && nameable.contains(&guard.as_ref()) {
                    guards.push(guard.as_ref().clone());
                }
            }
            // What stands there may be computed of a guarded row beside it: `unnest(t.tags)`.
            Some(Bond::Merged { .. } | Bond::Free) => unsure |= found.class.is_none(),
            None => unsure = true,
        }
    };
    let _: ControlFlow<()> = sqlparser::ast::visit_expressions(conjunct, |expression| {
        match expression {
            Expr::Identifier(column) => look(std::slice::from_ref(column)),
            Expr::CompoundIdentifier(parts) => look(parts),
            Expr::QualifiedWildcard(..) | Expr::Wildcard(_) => look(&[]),
            _ => {}
        }
        ControlFlow::Continue(())
    });
    if mutant::on("shield-by-one") {
        return guards.into_iter().take(1).collect();
    }
    if named && !unsure && !guards.is_empty() {
        guards
    } else {
        nameable.into_iter().cloned().collect()
    }
}

/// The name that PostgreSQL gives to an unnamed select item, as far as it is told by a column.
fn output_name(expression: &Expr) -> Option<String> {
    match expression {
        Expr::Identifier(column) => Some(name_of(column)),
        Expr::CompoundIdentifier(parts) => parts.last().map(name_of),
        Expr::Nested(inner) => output_name(inner),
        Expr::Function(function) => {
            function.name.0.last().and_then(|part| part.as_ident()).map(name_of)
        }
        _ => Some("?column?".to_owned()),
    }
}

/// Columns of a set operation: the left's names; total where both sides are, in the same class.
fn merged(left: Outputs, right: Outputs) -> Outputs {
    let (left, right) = (left?, right?);
    (left.len() == right.len()).then(|| {
        left.into_iter()
            .zip(right)
            .map(|((name, left), (_, right))| {
                let same = |class: &Class| Some(*class) == right && is_mergeable(*class);
                (name, left.filter(same))
            })
            .collect()
    })
}

/// `OFFSET 0`: keeps a query apart from the level that reads it.
fn keep_apart(query: &mut Query) {
    let zero = || Offset {
        value: Expr::Value(Value::Number("0".to_owned(), false).into()),
        rows: OffsetRows::None,
    };
    // A limit keeps apart already.
    if query.limit_clause.is_none() {
        query.limit_clause = Some(LimitClause::LimitOffset {
            limit: None,
            offset: Some(zero()),
            limit_by: Vec::new(),
        });
    }
}
