//! Levels around a query in an expression. The service computes such a query by a join with the rows around
//! it, whatever the expression chooses by IF, so that a condition in it may be asked of rows that the guards
//! around have not judged: what it reads of them needs those guards as well. Pure.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::rc::Rc;

use sqlparser::ast::{
    AccessExpr, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, ObjectName,
    ObjectNamePart, Query, Select, SelectItem, SelectItemQualifiedWildcardKind, TableFactor, Visit,
    VisitMut, Visitor, VisitorMut, visit_expressions,
};
use sqlparser::tokenizer::Span;

use super::factor::lower;
use super::functions;
use super::level::{Input, Level, Partial};
use super::rewrite::Rewriter;
use crate::mutant;

/// What a query may read of a level that it stands in.
#[derive(Debug)]
pub struct Around {
    /// Its guarded range variables.
    inputs: Vec<Input>,
    /// Names of all of them, in lower case.
    variables: BTreeSet<String>,
    /// Names of its columns that may raise an error.
    partial: Partial,
    /// Whether a join of it makes rows of nulls.
    outer: bool,
}

/// The levels around, the nearest last.
pub type Surroundings = Vec<Rc<Around>>;

/// The guards of rows around that a condition reads.
pub struct Needed {
    /// As conditions.
    pub guards: Vec<String>,
    /// Whether one of them cannot be repeated, or which they are is not known.
    pub unmet: bool,
}

/// Whether rows of several tenants are around.
pub fn is_guarded(around: &Surroundings) -> bool {
    !mutant::on("bq-around") && around.iter().any(|level| !level.inputs.is_empty())
}

/// Whether a condition reads a column around that may raise an error.
pub fn reads_partial(around: &Surroundings, condition: &Expr) -> bool {
    around.iter().any(|level| level.partial.is_read_by(condition))
}

/// What a condition needs of the levels around. `own`: range variables of its own level; `listed`: names of its
/// SELECT list that it sees.
pub fn needed(
    around: &Surroundings,
    own: &BTreeSet<String>,
    listed: &BTreeSet<String>,
    condition: &Expr,
) -> Needed {
    let mut needed = Needed { guards: Vec::new(), unmet: false };
    if !is_guarded(around) {
        return needed;
    }
    for Head { name, inside } in Names::of(condition).heads {
        // SECURITY: a column of the list hides the table around that has its name, and its guard with it.
        if listed.contains(&name) {
            needed.unmet = true;
            continue;
        }
        if own.contains(&name) {
            continue;
        }
        let found = around.iter().rev().find(|level| level.variables.contains(&name));
        let Some(level) = found else {
            // A column, of this level or of one around; in a query of the condition's, it is that one's to judge.
            needed.unmet |= !inside;
            continue;
        };
        let named = |input: &&Input| input.variable == name;
        // One that has no guard of its own may be made of the rows of those that have one.
        let all = !level.inputs.iter().any(|input| named(&input));
        for input in level.inputs.iter().filter(|input| all || named(input)) {
            match &input.guard {
                Some(guard) if level.outer => {
                    needed.guards.push(format!("COALESCE({guard}, TRUE)"));
                }
                Some(guard) => needed.guards.push(guard.clone()),
                None => needed.unmet = true,
            }
        }
    }
    needed.guards.sort();
    needed.guards.dedup();
    needed
}

/// That all rows around are the tenant's; `None` where a guard cannot be repeated, or is hidden.
pub fn all_guards(around: &Surroundings) -> Option<String> {
    let mut guards = Vec::new();
    for (at, level) in around.iter().enumerate() {
        for input in &level.inputs {
            let hidden = |inner: &Rc<Around>| inner.variables.contains(&input.variable);
            if around.iter().skip(at + 1).any(hidden) {
                return None;
            }
            let guard = input.guard.as_ref()?;
            guards.push(if level.outer {
                format!("COALESCE({guard}, TRUE)")
            } else {
                guard.clone()
            });
        }
    }
    (!guards.is_empty()).then(|| guards.join(" AND "))
}

/// Whether something that hands on columns reads those of rows around, by the names of their tables: nothing
/// says so any more above it. (One that leaves the table's name out is not seen; SECURITY.md says so.)
pub fn may_hand_on<T: Visit>(around: &Surroundings, own: &BTreeSet<String>, part: &T) -> bool {
    if !is_guarded(around) {
        return false;
    }
    let names = Names::of(part);
    let is_own = |name: &String| own.contains(name) || names.tables.contains(name);
    let around = |name: &String| self::names(around, name);
    names.heads.iter().any(|head| !is_own(&head.name) && around(&head.name))
}

/// The same of a SELECT list, whose stars are no expressions.
pub fn list_may_hand_on(
    around: &Surroundings,
    own: &BTreeSet<String>,
    projection: &Vec<SelectItem>,
) -> bool {
    let star = |item: &SelectItem| match item {
        SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::ObjectName(name), _) => {
            matches!(name.0.first(), Some(ObjectNamePart::Identifier(first))
                if !own.contains(&lower(first)) && names(around, &lower(first)))
        }
        _ => false,
    };
    is_guarded(around) && projection.iter().any(star) || may_hand_on(around, own, projection)
}

/// A path's first word.
struct Head {
    name: String,
    /// Whether a query of the part says it.
    inside: bool,
}

/// Names that a part reads, and the words in it that are no columns.
#[derive(Default)]
struct Names {
    /// How many queries are around.
    queries: usize,
    heads: Vec<Head>,
    /// Its own range variables, in lower case.
    tables: BTreeSet<String>,
    words: BTreeSet<Span>,
}

impl Names {
    fn of<T: Visit>(part: &T) -> Self {
        let mut names = Self::default();
        let _ = Visit::visit(part, &mut names);
        names
    }

    fn take(&mut self, name: &Ident) {
        self.heads.push(Head { name: lower(name), inside: self.queries > 0 });
    }

    fn take_path(&mut self, name: &ObjectName) {
        if let Some(ObjectNamePart::Identifier(first)) = name.0.first() {
            // What a star hands on is this level's, also from within a query.
            self.heads.push(Head { name: lower(first), inside: false });
        }
    }
}

impl Visitor for Names {
    type Break = ();

    fn pre_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
        self.queries += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &Query) -> ControlFlow<()> {
        self.queries = self.queries.saturating_sub(1);
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
        for item in &select.projection {
            match item {
                SelectItem::QualifiedWildcard(
                    SelectItemQualifiedWildcardKind::ObjectName(name),
                    _,
                ) => self.take_path(name),
                SelectItem::Wildcard(_) if select.from.is_empty() => {
                    self.heads.push(Head { name: "*".to_owned(), inside: false });
                }
                _ => {}
            }
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_table_factor(&mut self, factor: &TableFactor) -> ControlFlow<()> {
        let (alias, last) = match factor {
            TableFactor::Table { name, alias, .. } => (alias.as_ref(), name.0.last()),
            TableFactor::Derived { alias, .. }
            | TableFactor::UNNEST { alias, .. }
            | TableFactor::Pivot { alias, .. }
            | TableFactor::Unpivot { alias, .. } => (alias.as_ref(), None),
            _ => (None, None),
        };
        match (alias, last) {
            (Some(alias), _) => {
                self.tables.insert(lower(&alias.name));
            }
            (None, Some(ObjectNamePart::Identifier(last))) => {
                self.tables.insert(lower(last));
            }
            (None, _) => {}
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        self.words.extend(words(expr));
        match expr {
            Expr::Identifier(name)
                if name.value.starts_with('@') || self.words.contains(&name.span) => {}
            Expr::Identifier(name) => self.take(name),
            Expr::CompoundIdentifier(names) => {
                if let Some(first) = names.first() {
                    self.take(first);
                }
            }
            Expr::QualifiedWildcard(name, _) => self.take_path(name),
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

/// What sqlparser reads as a name in an expression and is none: fields, and parts of dates.
fn words(expr: &Expr) -> Vec<Span> {
    let fields = |access: &AccessExpr| match access {
        AccessExpr::Dot(Expr::Identifier(name)) => Some(name.span),
        AccessExpr::Dot(_) | AccessExpr::Subscript(_) => None,
    };
    match expr {
        Expr::CompoundFieldAccess { access_chain, .. } => {
            access_chain.iter().filter_map(fields).collect()
        }
        Expr::Function(function) => date_part(function).into_iter().collect(),
        _ => Vec::new(),
    }
}

fn date_part(function: &Function) -> Option<Span> {
    // By exact names: a routine of that ending has columns there.
    let place = match functions::plain_name(&function.name).as_str() {
        "week" => 0,
        "last_day"
        | "date_trunc"
        | "datetime_trunc"
        | "time_trunc"
        | "timestamp_trunc"
        | "normalize"
        | "normalize_and_casefold" => 1,
        "date_diff" | "datetime_diff" | "time_diff" | "timestamp_diff" => 2,
        _ => return None,
    };
    let FunctionArguments::List(list) = &function.args else { return None };
    match list.args.get(place)? {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Identifier(name))) => Some(name.span),
        _ => None,
    }
}

/// Whether a condition has parameters of its own, which look like columns.
fn has_lambda<T: Visit>(condition: &T) -> bool {
    visit_expressions(condition, |expr| match expr {
        Expr::Lambda(_) => ControlFlow::Break(()),
        _ => ControlFlow::Continue(()),
    })
    .is_break()
}

/// Whether a name is that of a range variable around.
pub fn names(around: &Surroundings, name: &str) -> bool {
    around.iter().any(|level| level.variables.contains(name))
}

/// Puts the one range variable of a level before every column that stands alone: then none of them can be a
/// column of a level around. `kept`: names that are no columns.
pub fn qualify<T: VisitMut + Visit>(
    condition: &mut T,
    variable: &str,
    kept: &dyn Fn(&str) -> bool,
) {
    if has_lambda(condition) {
        return;
    }
    let mut qualifying = Qualifying { variable, kept, queries: 0, words: BTreeSet::new() };
    let _ = VisitMut::visit(condition, &mut qualifying);
}

struct Qualifying<'a> {
    variable: &'a str,
    kept: &'a dyn Fn(&str) -> bool,
    queries: usize,
    words: BTreeSet<Span>,
}

impl Qualifying<'_> {
    /// Whether a name is no range variable.
    fn is_column(&self, name: &Ident) -> bool {
        let lower = lower(name);
        lower != self.variable && !(self.kept)(&lower)
    }
}

impl VisitorMut for Qualifying<'_> {
    type Break = ();

    fn pre_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
        self.queries += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<()> {
        self.queries = self.queries.saturating_sub(1);
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if self.queries > 0 {
            return ControlFlow::Continue(());
        }
        self.words.extend(words(expr));
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if self.queries > 0 {
            return ControlFlow::Continue(());
        }
        let qualifier = Ident::with_quote('`', self.variable);
        match expr {
            Expr::Identifier(name)
                if !name.value.starts_with('@')
                    && !self.words.contains(&name.span)
                    && self.is_column(name) =>
            {
                *expr = Expr::CompoundIdentifier(vec![qualifier, name.clone()]);
            }
            // The field of a column.
            Expr::CompoundIdentifier(names) if names.first().is_some_and(|n| self.is_column(n)) => {
                names.insert(0, qualifier);
            }
            _ => {}
        }
        ControlFlow::Continue(())
    }
}

impl Rewriter<'_> {
    /// A level of FROM in the surroundings of this place.
    pub fn level(&self) -> Level {
        Level { around: self.around.clone(), first: self.aliases.len(), ..Level::default() }
    }

    /// Takes note of the names of a level's range variables.
    pub fn name_variables(&self, level: &mut Level) {
        level.variables.extend(self.aliases.iter().skip(level.first).cloned());
    }

    /// Reads a part whose queries may read the level.
    pub fn within<T>(&mut self, level: &Level, read: impl FnOnce(&mut Self) -> T) -> T {
        let mut variables = level.variables.clone();
        variables.extend(self.aliases.iter().skip(level.first).cloned());
        let inputs = level.inputs.clone();
        let partial = level.partial.clone();
        self.around.push(Rc::new(Around { inputs, variables, partial, outer: level.outer }));
        let result = read(self);
        self.around.pop();
        result
    }
}
