//! What a query level sees: the relations of one FROM, their columns, and which of them can show
//! rows of other tenants to an expression. Layer 2.

use std::cell::Cell;
use std::rc::Rc;

use sqlparser::ast::{Expr, Ident};

use super::super::env::Env;
use super::super::totality::Class;
use super::dialect::unmarked;
use crate::mutant;

/// The result columns of a query or relation, in order: name, and its class where the column is
/// *total*, that is where reading it can neither fail nor have an effect. `None` where the columns
/// are not known.
pub type Outputs = Option<Vec<(String, Option<Class>)>>;

/// How a relation of a level is kept to the tenant.
#[derive(Clone)]
pub enum Bond {
    /// Conditions of this level keep it (WHERE or ON).
    Flat {
        /// True for the tenant's rows; null-extended rows pass where the relation is null-supplied.
        guard: Box<Expr>,
    },
    /// A derived table or CTE whose own level has guards, which the planner may merge into this one.
    Merged {
        /// Set when it must be kept apart.
        barrier: Rc<Cell<bool>>,
        /// Whether a guard in it is a semi-join, which the planner may put above a sort.
        semi_join: bool,
    },
    /// Nothing of other tenants is in it.
    Free,
}

/// A relation of a level.
#[derive(Clone)]
pub struct Rel {
    /// The name that qualifies its columns.
    pub visible: String,
    /// Its columns.
    pub columns: Outputs,
    /// How it is kept.
    pub bond: Bond,
    /// Its tenant column, where it has one, for the egress guard.
    pub tenant: Option<String>,
}

/// Which levels further out a guard may name.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Sight {
    /// All of them.
    Open,
    /// Not the next, but those further out: a derived table without LATERAL.
    Blind,
    /// None: what is computed of groups may name grouped columns only, and an aggregate is computed
    /// by the query whose columns stand in it, so that a column more could make it another query's.
    /// Both see only rows that the guards of the levels around have let through.
    Sealed,
}

/// One FROM, linked to the levels around it.
pub struct Level<'p> {
    /// The enclosing level, whose columns are visible too.
    pub outer: Option<&'p Level<'p>>,
    /// The relations in order.
    pub rels: Vec<Rel>,
    /// Which levels further out a guard written here may name.
    pub sight: Sight,
    /// What names and parameters mean.
    pub env: Env<'p>,
}

/// A column found: where, and its class if total.
pub struct Found<'l> {
    /// The relation; `None` when several could own the column, or none is known to.
    pub rel: Option<&'l Rel>,
    /// Its class if reading it is total.
    pub class: Option<Class>,
}

/// The name that an identifier means: folded as PostgreSQL folds, unquoted as it unquotes.
pub fn name_of(ident: &Ident) -> String {
    if ident.quote_style.is_none() && ident.value.starts_with(char::is_control) {
        let (mark, name) = unmarked(ident);
        return if mark.is_empty() { ident.value.clone() } else { name_of(&name) };
    }
    match ident.quote_style {
        Some(_) => ident.value.replace("\"\"", "\""),
        None => ident.value.to_ascii_lowercase(),
    }
}

impl<'p> Level<'p> {
    /// A level without relations.
    pub const fn new(env: Env<'p>, outer: Option<&'p Level<'p>>) -> Self {
        Self { outer, rels: Vec::new(), sight: Sight::Open, env }
    }

    /// What stands between a level and a derived table of it that is not LATERAL.
    pub const fn screen(of: &'p Level<'p>) -> Self {
        Self { outer: Some(of), rels: Vec::new(), sight: Sight::Blind, env: of.env }
    }

    /// What stands between a level and a sub-query of it that is computed of groups.
    pub const fn seal(env: Env<'p>, of: Option<&'p Level<'p>>) -> Self {
        Self { outer: of, rels: Vec::new(), sight: Sight::Sealed, env }
    }

    /// The part of a level that an ON can name: the operands of its join.
    pub fn part(&self, rels: Vec<Rel>) -> Level<'p> {
        Self { outer: self.outer, rels, sight: self.sight, env: self.env }
    }

    /// The level without the relations that a LATERAL sub-select cannot name. What is merged among
    /// them is kept apart: nobody could do that later.
    pub fn without(&self, hidden: &[std::ops::Range<usize>]) -> Level<'p> {
        let is_hidden = |at: usize| hidden.iter().any(|range| range.contains(&at));
        let (mut rels, mut barriers) = (Vec::new(), Vec::new());
        for (at, rel) in self.rels.iter().enumerate() {
            match &rel.bond {
                Bond::Merged { barrier, .. } if is_hidden(at) => barriers.push(barrier),
                Bond::Merged { .. } | Bond::Flat { .. } | Bond::Free if is_hidden(at) => {}
                Bond::Merged { .. } | Bond::Flat { .. } | Bond::Free => rels.push(rel.clone()),
            }
        }
        barriers.into_iter().for_each(|barrier| barrier.set(true));
        self.part(rels)
    }

    /// Finds a column by its written parts.
    pub fn find(&self, parts: &[Ident]) -> Found<'_> {
        let names: Vec<String> = parts.iter().map(name_of).collect();
        match names.as_slice() {
            [column] => self.unqualified(column),
            [.., qualifier, column] => self.qualified(qualifier, column),
            [] => Found { rel: None, class: None },
        }
    }

    fn unqualified(&self, column: &str) -> Found<'_> {
        let mut owners = self.rels.iter().filter(|rel| match &rel.columns {
            Some(columns) => columns.iter().any(|(name, _)| name == column),
            None => true,
        });
        match (owners.next(), owners.next()) {
            (Some(rel), None) => Found { rel: Some(rel), class: rel.class(column) },
            (Some(_), Some(_)) => Found { rel: None, class: None },
            (None, _) => match self.outer {
                Some(outer) => outer.unqualified(column),
                None => Found { rel: None, class: None },
            },
        }
    }

    fn qualified(&self, qualifier: &str, column: &str) -> Found<'_> {
        match self.rels.iter().find(|rel| rel.visible == qualifier) {
            Some(rel) => Found { rel: Some(rel), class: rel.class(column) },
            None => match self.outer {
                Some(outer) => outer.qualified(qualifier, column),
                None => Found { rel: None, class: None },
            },
        }
    }

    /// The relation visible under a name, here or further out.
    pub fn visible(&self, name: &str) -> Option<&Rel> {
        self.rels
            .iter()
            .find(|rel| rel.visible == name)
            .or_else(|| self.outer.and_then(|outer| outer.visible(name)))
    }

    /// Every guard of this level and those around it.
    pub fn guards(&self) -> Vec<&Expr> {
        let mut guards: Vec<&Expr> = self
            .rels
            .iter()
            .filter_map(|rel| match &rel.bond {
                Bond::Flat { guard } => Some(guard.as_ref()),
                Bond::Merged { .. } | Bond::Free => None,
            })
            .collect();
        if let Some(outer) = self.nameable() {
            guards.extend(outer.guards());
        }
        guards
    }

    /// The next level out whose relations can be named from this one.
    fn nameable(&self) -> Option<&'p Self> {
        match self.sight {
            Sight::Open => self.outer,
            Sight::Blind => self.outer.and_then(Level::nameable),
            Sight::Sealed => None,
        }
    }

    /// Whether rows of other tenants may meet an expression of this level: a relation is flat, or
    /// merged from below.
    pub fn exposed(&self) -> bool {
        self.rels.iter().any(|rel| match &rel.bond {
            Bond::Flat { .. } => true,
            Bond::Merged { barrier, .. } => !barrier.get(),
            Bond::Free => false,
        })
    }

    /// Keeps apart what holds a semi-join guard; whether one is left in what is merged.
    pub fn settle_semi_joins(&self, clean: bool) -> bool {
        let mut left = false;
        for rel in &self.rels {
            if let Bond::Merged { barrier, semi_join: true } = &rel.bond {
                if !clean && !mutant::on("semi-join-merged") {
                    barrier.set(true);
                }
                left |= !barrier.get();
            }
        }
        left
    }

    /// The same of this level or any around it.
    pub fn exposed_anywhere(&self) -> bool {
        self.exposed() || self.outer.is_some_and(Level::exposed_anywhere)
    }

    /// Keeps every merged relation of this level and those around it apart.
    pub fn raise_barriers(&self) {
        for rel in &self.rels {
            if let Bond::Merged { barrier, .. } = &rel.bond
                && !mutant::on("barrier")
            {
                barrier.set(true);
            }
        }
        if let Some(outer) = self.outer {
            outer.raise_barriers();
        }
    }
}

impl Rel {
    fn class(&self, column: &str) -> Option<Class> {
        let columns = self.columns.as_ref()?;
        columns.iter().find(|(name, _)| name == column).and_then(|(_, class)| *class)
    }
}
