//! What the checker knows of a FROM while it walks: relations under their conditions, CTEs in scope, and
//! what the planner may merge from below. Layer 2.

use std::ops::Range;

use super::super::env::Table;
use super::super::totality::{Class, Parameter};
use super::super::tree::Tree;
use super::made::Made;
use super::outputs::Outputs;
use super::types;
use crate::catalog::Relation;

/// What the planner may merge of a query into its reader.
#[derive(Clone, Default)]
pub(super) struct Exposure {
    /// Rows that only the query's own guards keep out.
    pub(super) rows: bool,
    /// A guard that is a semi-join, which may be done after sorting.
    pub(super) semi_join: bool,
    /// Its columns, as far as they have names, and whether reading one may fail.
    pub(super) columns: Outputs,
    /// The rows that it makes.
    pub(super) made: Option<Made>,
}

impl Exposure {
    pub(super) fn or(self, other: Self) -> Self {
        Self {
            rows: self.rows || other.rows,
            semi_join: self.semi_join || other.semi_join,
            columns: self.columns.merged(other.columns),
            made: None,
        }
    }

    pub(super) fn unless(self, apart: bool) -> Self {
        // Of what class its columns are stays true of them.
        if apart { Self { columns: self.columns, ..Self::default() } } else { self }
    }
}

/// What the sub-queries of `IN` and `= ANY` in an expression may show to the level that asks them: of a
/// conjunct the planner makes a semi-join, and then compares what they select beside their guards.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub(super) enum Members {
    /// Anything: the planner makes no join of them.
    Free,
    /// Columns that cannot fail.
    Total,
    /// No rows.
    Apart,
}

/// CTEs in scope: name, and whether the planner may merge unguarded rows of it into its reader.
#[derive(Clone, Copy)]
pub(super) struct Scope<'s> {
    pub(super) outer: Option<&'s Scope<'s>>,
    pub(super) own: &'s [(&'s str, Exposure)],
    pub(super) level: Option<&'s Level<'s>>,
    pub(super) members: Members,
}

impl Scope<'_> {
    /// Nothing in scope.
    pub(super) const EMPTY: Self =
        Self { outer: None, own: &[], level: None, members: Members::Free };

    /// The scope of a query that stands in this one, with these CTEs of its own.
    pub(super) fn within<'s>(&'s self, own: &'s [(&'s str, Exposure)]) -> Scope<'s> {
        Scope { outer: Some(self), own, level: self.level, members: Members::Free }
    }

    pub(super) fn cte(&self, name: &str) -> Option<Exposure> {
        let own = self.own.iter().rev().find(|(own, _)| *own == name);
        own.map(|(_, exposed)| exposed.clone())
            .or_else(|| self.outer.and_then(|outer| outer.cte(name)))
    }
}

/// A protected relation of a level, under conditions of that level.
#[derive(Clone)]
pub(super) struct Flat<'s> {
    pub(super) table: Table<'s>,
    pub(super) visible: &'s str,
}

/// One FROM.
pub(super) struct Level<'s> {
    pub(super) outer: Option<&'s Level<'s>>,
    pub(super) flat: Vec<Flat<'s>>,
    /// A derived table or CTE that may be merged stands in it.
    pub(super) merged: bool,
    /// How many of them.
    pub(super) merges: usize,
    /// A guard in it, or in what is merged, is a semi-join.
    pub(super) semi_join: bool,
    /// It does nothing but show one relation masked.
    pub(super) shows_masked: bool,
    /// Flat relations that a LATERAL sub-select at hand cannot name.
    pub(super) hidden: Vec<Range<usize>>,
    /// The other relations, by the name that qualifies their columns; known ones with their columns.
    pub(super) beside: Vec<(&'s str, Option<&'s Relation>)>,
    /// What is merged from below, by name, with its columns.
    pub(super) below: Vec<(&'s str, Outputs)>,
    /// What sub-selects and CTEs show, merged or apart, by name.
    pub(super) shown: Vec<(&'s str, Outputs)>,
    /// A function in FROM is given columns, which it may pass on under names of its own.
    pub(super) passes_columns: bool,
    /// What the client declared of the statement's parameters.
    pub(super) parameters: &'s [Parameter],
}

/// A condition of a level, and the relations that it can name.
pub(super) struct Condition<'t> {
    pub(super) tree: &'t Tree<'t>,
    /// For the ON of a join: its operands among the flat relations, and whether one is merged.
    pub(super) operands: Option<(Range<usize>, bool)>,
}

impl<'t> Condition<'t> {
    /// A condition on all of a level.
    pub(super) const fn whole(tree: &'t Tree<'t>) -> Self {
        Self { tree, operands: None }
    }
}

impl<'s> Level<'s> {
    /// A level without relations.
    pub(super) const fn new(outer: Option<&'s Level<'s>>, parameters: &'s [Parameter]) -> Self {
        Self {
            outer,
            parameters,
            flat: Vec::new(),
            merged: false,
            merges: 0,
            semi_join: false,
            shows_masked: false,
            hidden: Vec::new(),
            beside: Vec::new(),
            below: Vec::new(),
            shown: Vec::new(),
            passes_columns: false,
        }
    }

    /// The protected relation of that name, here or further out: what the catalog knows of it.
    pub(super) fn flat_of(&self, qualifier: &str) -> Option<Option<&Relation>> {
        if let Some(flat) = self.flat.iter().find(|flat| flat.visible == qualifier) {
            return Some(flat.table.relation);
        }
        if self.beside.iter().any(|(beside, _)| *beside == qualifier) {
            return None;
        }
        self.outer.and_then(|outer| outer.flat_of(qualifier))
    }

    /// Whether a column, by its name and what qualifies it, is one of what is merged from below, here or
    /// further out, that is computed and may fail.
    pub(super) fn is_computed(&self, qualifier: Option<&str>, name: &str) -> bool {
        let named = |visible: &str| qualifier.is_none_or(|qualifier| qualifier == visible);
        if self.below.iter().any(|(visible, columns)| named(visible) && columns.may_fail(name)) {
            return true;
        }
        let here = match qualifier {
            Some(_) => {
                self.flat.iter().any(|flat| named(flat.visible))
                    || self.beside.iter().any(|(visible, _)| named(visible))
            }
            None => self
                .flat
                .iter()
                .any(|flat| flat.table.relation.is_some_and(|known| known.column(name).is_some())),
        };
        !here && self.outer.is_some_and(|outer| outer.is_computed(qualifier, name))
    }

    /// The protected relations of this level that own a column, or whose columns nobody knows; none
    /// where another relation owns it.
    pub(super) fn owners(&self, column: &str) -> Vec<Option<&Relation>> {
        let has =
            |known: Option<&Relation>| known.is_some_and(|known| known.column(column).is_some());
        if self.beside.iter().any(|(_, known)| has(*known)) {
            return Vec::new();
        }
        let known = self.flat.iter().map(|flat| flat.table.relation);
        known.filter(|known| known.is_none() || has(*known)).collect()
    }

    /// Whether an expression that names the column by these parts may meet rows of the relation.
    pub(super) fn may_name(&self, parts: &[&str], flat: &Flat<'_>) -> bool {
        match parts {
            [.., qualifier, _] if self.flat.iter().any(|flat| flat.visible == *qualifier) => {
                flat.visible == *qualifier
            }
            [.., qualifier, _] => {
                self.passes_columns && !self.beside.iter().any(|(beside, _)| beside == qualifier)
            }
            [column] => {
                let owns = |flat: &Flat<'_>| {
                    flat.visible == *column
                        || flat.table.relation.is_none_or(|known| known.column(column).is_some())
                };
                let beside = |known: &Option<&Relation>| {
                    known.is_some_and(|known| known.column(column).is_some())
                };
                let elsewhere = self.flat.iter().any(owns)
                    || self.beside.iter().any(|(_, known)| beside(known));
                owns(flat) || self.passes_columns && !elsewhere
            }
            [] => true,
        }
    }

    /// The part of the level that the given flat relations make.
    pub(super) fn part(&self, keeps: impl Fn(usize) -> bool, merged: bool) -> Self {
        let kept = self.flat.iter().enumerate().filter(|(at, _)| keeps(*at));
        Self {
            outer: self.outer,
            flat: kept.map(|(_, flat)| flat.clone()).collect(),
            merged,
            merges: usize::from(merged),
            semi_join: self.semi_join,
            shows_masked: self.shows_masked,
            hidden: Vec::new(),
            beside: self.beside.clone(),
            below: self.below.clone(),
            shown: self.shown.clone(),
            passes_columns: self.passes_columns,
            parameters: self.parameters,
        }
    }

    /// The class of a stored column, or of one that a sub-select shows as it is stored, here or further out.
    pub(super) fn stored(&self, qualifier: Option<&str>, name: &str) -> Option<Class> {
        let named = |visible: &str| qualifier.is_none_or(|qualifier| qualifier == visible);
        let relations = self.flat.iter().map(|flat| (flat.visible, flat.table.relation));
        let relations = relations.chain(self.beside.iter().copied());
        let relations = relations.filter(|(visible, _)| named(visible));
        let of_relations = relations.filter_map(|(_, known)| types::stored(known?, name));
        let shown = self.shown.iter().filter(|(visible, _)| named(visible));
        let of_queries = shown.filter_map(|(_, columns)| columns.class(name));
        let mut found = of_relations.chain(of_queries);
        match (found.next(), found.next()) {
            (Some(class), None) => Some(class),
            (Some(_), Some(_)) => None,
            (None, _) => self.outer.and_then(|outer| outer.stored(qualifier, name)),
        }
    }

    /// A derived table or CTE, visible under its name, its columns under these.
    pub(super) fn merge(&mut self, visible: Option<&'s str>, names: &Tree<'_>, exposure: Exposure) {
        let columns = exposure.columns.renamed(names);
        if exposure.rows {
            self.below.extend(visible.map(|visible| (visible, columns.clone())));
        }
        self.shown.extend(visible.map(|visible| (visible, columns)));
        self.merged |= exposure.rows;
        self.merges += usize::from(exposure.rows);
        self.semi_join |= exposure.semi_join;
    }

    pub(super) fn finds(&self, wanted: &dyn Fn(&Flat<'_>) -> bool) -> bool {
        self.flat.iter().any(wanted) || self.outer.is_some_and(|outer| outer.finds(wanted))
    }

    pub(super) fn holds_any(&self) -> bool {
        self.finds(&|_| true)
    }

    pub(super) fn merges_any(&self) -> bool {
        self.merged || self.outer.is_some_and(Level::merges_any)
    }
}
