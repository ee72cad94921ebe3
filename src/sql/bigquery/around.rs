//! Levels around a query in an expression. The service computes such a query by a join with the rows around
//! it, whatever the expression chooses by IF, so that a condition in it may be asked of rows that the guards
//! around have not judged: what it reads of them needs those guards as well. Pure.

use std::collections::BTreeSet;
use std::ops::ControlFlow;
use std::rc::Rc;

use sqlparser::ast::{
    AccessExpr, Expr, Function, FunctionArg, FunctionArgExpr, FunctionArguments, Ident, Query,
    Visit, VisitMut, Visitor, VisitorMut,
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

/// What a condition needs of the levels around. `own`: range variables of its own level.
pub fn needed(around: &Surroundings, own: &BTreeSet<String>, condition: &Expr) -> Needed {
    let mut needed = Needed { guards: Vec::new(), unmet: false };
    if !is_guarded(around) {
        return needed;
    }
    let mut names = Names { queries: 0, heads: Vec::new(), words: BTreeSet::new() };
    let _ = Visit::visit(condition, &mut names);
    for (head, inside) in names.heads {
        if own.contains(&head) {
            continue;
        }
        let found = around.iter().rev().find(|level| level.variables.contains(&head));
        let Some(level) = found else {
            // A column, of this level or of one around; in a query of the condition's, it is that one's to judge.
            needed.unmet |= !inside;
            continue;
        };
        for input in level.inputs.iter().filter(|input| input.variable == head) {
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

/// Names that a condition reads, and the words in it that are no columns.
struct Names {
    /// How many queries are around.
    queries: usize,
    /// The first word of each path, and whether a query of the condition's says it.
    heads: Vec<(String, bool)>,
    words: BTreeSet<Span>,
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

    fn pre_visit_expr(&mut self, expr: &Expr) -> ControlFlow<()> {
        match expr {
            Expr::Function(_) | Expr::CompoundFieldAccess { .. } => self.words.extend(words(expr)),
            Expr::Identifier(name)
                if name.value.starts_with('@') || self.words.contains(&name.span) => {}
            Expr::Identifier(name) => self.heads.push((lower(name), self.queries > 0)),
            Expr::CompoundIdentifier(names) => {
                if let Some(first) = names.first() {
                    self.heads.push((lower(first), self.queries > 0));
                }
            }
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
    let name = functions::plain_name(&function.name);
    let place = match name.as_str() {
        "last_day" => 1,
        name if name.ends_with("_trunc") => 1,
        name if name.ends_with("_diff") => 2,
        _ => return None,
    };
    let FunctionArguments::List(list) = &function.args else { return None };
    match list.args.get(place)? {
        FunctionArg::Unnamed(FunctionArgExpr::Expr(Expr::Identifier(name))) => Some(name.span),
        _ => None,
    }
}

/// Whether a name is that of a range variable around.
pub fn names(around: &Surroundings, name: &str) -> bool {
    around.iter().any(|level| level.variables.contains(name))
}

/// Puts the one range variable of a level before every column that stands alone: then none of them can be a
/// column of a level around. `kept`: names that are no columns.
pub fn qualify(condition: &mut Expr, variable: &str, kept: &dyn Fn(&str) -> bool) {
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
