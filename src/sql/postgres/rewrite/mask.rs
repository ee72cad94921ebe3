//! Masks: where a caller sees a column masked, the mask stands in the column's place. Layer 2.
//!
//! A relation that is read is set apart as a derived table that shows it masked, so that no
//! expression of the client's, wherever it stands, can name the column itself. A relation that is
//! written keeps its place; its masked columns are replaced in WHERE, SET and RETURNING.

use std::cell::Cell;
use std::ops::ControlFlow;
use std::rc::Rc;

use sqlparser::ast::{
    Expr, Ident, Query, Select, SelectItem, SelectItemQualifiedWildcardKind, Statement,
    TableFactor, Visit, VisitMut, Visitor, VisitorMut,
};

use super::super::env::Table;
use super::from::{Placement, columns_of, renamed};
use super::grouping::Keyless;
use super::level::{Bond, Level, Outputs, Rel, name_of};
use super::total::{self, Subqueries};
use super::{Rewriter, condition, guard, keep_apart};
use crate::error::{Denial, DenialCode};
use crate::policy::Protection;

/// What a column list of a masked table is made of.
pub(super) struct Shown {
    /// The select list.
    pub items: Vec<SelectItem>,
    /// Names, and classes where total.
    pub outputs: Vec<(String, Option<super::Class>)>,
}

impl Rewriter<'_> {
    /// The open columns of `table`, visible as `qualifier`, masked ones under their masks.
    fn shown(
        &self,
        table: &Table<'_>,
        qualifier: &str,
        level: &Level<'_>,
    ) -> Result<Shown, Denial> {
        let hidden: Vec<&str> = table.denied_columns().collect();
        let known: Outputs = columns_of(table, self.env).or_else(|| {
            // Offline nobody knows the columns: those that the statement names will do.
            let named = self.named.as_ref()?;
            Some(named.iter().map(|name| (name.clone(), None)).collect())
        });
        let known =
            known.ok_or_else(|| Denial::of(DenialCode::ColumnDenied, format!("{qualifier}.*")))?;
        let mut shown = Shown { items: Vec::new(), outputs: Vec::new() };
        for (name, class) in known {
            if hidden.contains(&name.as_str()) {
                continue;
            }
            match table.masks(self.env).find(|(masked, _)| *masked == name) {
                None => {
                    shown.items.push(SelectItem::UnnamedExpr(guard::column(qualifier, &name)));
                    shown.outputs.push((name, class));
                }
                Some((_, mask)) => {
                    let expr = condition::bind(mask, self.env, qualifier)?;
                    let class = total::class(&expr, level, Subqueries::Clean(None));
                    let expr = Expr::Nested(Box::new(expr));
                    shown
                        .items
                        .push(SelectItem::ExprWithAlias { expr, alias: guard::ident(&name) });
                    shown.outputs.push((name, class));
                }
            }
        }
        Ok(shown)
    }

    /// Replaces a table by `(SELECT columns, masks FROM table AS visible WHERE guards) AS alias`.
    pub(super) fn show_masked(
        &mut self,
        factor: &mut TableFactor,
        table: &Table<'_>,
        visible: String,
        apart: bool,
        level: &mut Level<'_>,
        placement: &mut Placement,
    ) -> Result<(), Denial> {
        let guards = guard::guards(self.env, table, &visible)?;
        let mut inner = Level::new(self.env, None);
        let whole = guard::all(guards.iter().cloned());
        if let Some(whole) = &whole {
            let place = crate::sql::account::Place::Apart;
            super::blame::note_guard(self.env, &table.name, &visible, place, whole);
        }
        inner.rels.push(Rel {
            visible: visible.clone(),
            columns: columns_of(table, self.env),
            bond: whole.map_or(Bond::Free, |guard| Bond::Flat { guard: Box::new(guard) }),
            tenant: None,
        });
        let shown = self.shown(table, &visible, &inner)?;
        let masks: Vec<&str> = table.masks(self.env).map(|(column, _)| column).collect();
        let masked = |name: &str| masks.contains(&name);
        let tenant = match &table.policy.protection {
            Protection::Tenant { column, .. } if !masked(column) => Some(column.clone()),
            Protection::Tenant { .. }
            | Protection::TenantThrough { .. }
            | Protection::Shared
            | Protection::Deny => None,
        };
        let total = shown.outputs.iter().all(|(name, class)| class.is_some() || !masked(name));
        let TableFactor::Table { alias, .. } = factor else {
            return Err(Denial::new(DenialCode::Internal));
        };
        let outer = alias.take().unwrap_or_else(|| guard::table_alias(&visible));
        *alias = Some(guard::table_alias(&visible));
        let mut selection = guard::all(guards);
        let semi_join = if total {
            guard::has_semi_join(selection.as_mut(), &mut [])
        } else {
            guard::fix_semi_joins(selection.as_mut(), &mut []);
            false
        };
        let mut subquery = guard::select_of(factor.clone(), shown.items, selection);
        if apart {
            keep_apart(&mut subquery);
        }
        let barrier = Rc::new(Cell::new(apart));
        placement.barriers.push(Rc::clone(&barrier));
        let bond = if apart || !inner.exposed() {
            Bond::Free
        } else {
            Bond::Merged { barrier, semi_join }
        };
        let columns = renamed(Some(shown.outputs), &outer);
        if outer.columns.is_empty() {
            placement.keyless.extend(Keyless::masked(table, &visible, &columns, &masks));
        }
        level.rels.push(Rel { visible, columns, bond, tenant });
        *factor = TableFactor::Derived {
            lateral: false,
            subquery: Box::new(subquery),
            alias: Some(outer),
            sample: None,
        };
        Ok(())
    }

    /// Puts masks into an expression of a data change, in the place of its target's columns.
    pub(super) fn mask_expression(
        &self,
        expression: &mut Expr,
        table: &Table<'_>,
        visible: &str,
    ) -> Result<(), Denial> {
        if !table.is_masked(self.env) {
            return Ok(());
        }
        let mut masking = Masking { rewriter: self, table, visible, open: 0 };
        match expression.visit(&mut masking) {
            ControlFlow::Continue(()) => Ok(()),
            ControlFlow::Break(denial) => Err(denial),
        }
    }

    /// The same for a RETURNING list, in which `*` is written out.
    pub(super) fn mask_returning(
        &self,
        items: &mut Vec<SelectItem>,
        table: &Table<'_>,
        visible: &str,
    ) -> Result<(), Denial> {
        if !table.is_masked(self.env) {
            return Ok(());
        }
        let mut masked = Vec::with_capacity(items.len());
        for mut item in std::mem::take(items) {
            match &mut item {
                SelectItem::UnnamedExpr(expression) => {
                    let name = match expression {
                        Expr::Identifier(column) => Some(name_of(column)),
                        Expr::CompoundIdentifier(parts) => parts.last().map(name_of),
                        _ => None,
                    };
                    let before = expression.clone();
                    self.mask_expression(expression, table, visible)?;
                    if let Some(name) = name
                        && *expression != before
                    {
                        let expr = std::mem::replace(expression, before);
                        item = SelectItem::ExprWithAlias { expr, alias: guard::ident(&name) };
                    }
                    masked.push(item);
                }
                SelectItem::ExprWithAlias { expr, .. } => {
                    self.mask_expression(expr, table, visible)?;
                    masked.push(item);
                }
                SelectItem::Wildcard(_)
                | SelectItem::QualifiedWildcard(
                    SelectItemQualifiedWildcardKind::ObjectName(_),
                    _,
                ) => {
                    let own = match &item {
                        SelectItem::QualifiedWildcard(
                            SelectItemQualifiedWildcardKind::ObjectName(name),
                            _,
                        ) => {
                            let last = name.0.last().and_then(|part| part.as_ident()).map(name_of);
                            last.as_deref() == Some(visible)
                        }
                        _ => true,
                    };
                    if own {
                        masked
                            .extend(self.shown(table, visible, &Level::new(self.env, None))?.items);
                    } else {
                        masked.push(item);
                    }
                }
                SelectItem::QualifiedWildcard(SelectItemQualifiedWildcardKind::Expr(_), _)
                | SelectItem::ExprWithAliases { .. } => {
                    return Err(Denial::of(DenialCode::ColumnDenied, format!("{visible}.*")));
                }
            }
        }
        *items = masked;
        Ok(())
    }
}

/// Replaces columns by masks. Sub-queries stay as they are: what they name of the target was refused.
struct Masking<'m, 'a> {
    rewriter: &'m Rewriter<'a>,
    table: &'m Table<'m>,
    visible: &'m str,
    open: usize,
}

impl Masking<'_, '_> {
    /// The target's column that the parts name.
    fn column(&self, parts: &[Ident]) -> Option<String> {
        let (column, before) = parts.split_last()?;
        let own = before.last().is_none_or(|row| name_of(row) == self.visible);
        own.then(|| name_of(column))
    }
}

impl VisitorMut for Masking<'_, '_> {
    type Break = Denial;

    fn pre_visit_query(&mut self, _: &mut Query) -> ControlFlow<Denial> {
        self.open += 1;
        ControlFlow::Continue(())
    }

    fn post_visit_query(&mut self, _: &mut Query) -> ControlFlow<Denial> {
        self.open -= 1;
        ControlFlow::Continue(())
    }

    fn post_visit_expr(&mut self, expression: &mut Expr) -> ControlFlow<Denial> {
        let name = match &*expression {
            Expr::Identifier(column) => self.column(std::slice::from_ref(column)),
            Expr::CompoundIdentifier(parts) => self.column(parts),
            _ => None,
        };
        let env = self.rewriter.env;
        let mask = name.and_then(|name| {
            self.table.masks(env).find(|(column, _)| *column == name).map(|(_, mask)| mask)
        });
        if let (0, Some(mask)) = (self.open, mask) {
            match condition::bind(mask, env, self.visible) {
                Ok(bound) => *expression = Expr::Nested(Box::new(bound)),
                Err(denial) => return ControlFlow::Break(denial),
            }
        }
        ControlFlow::Continue(())
    }
}

/// Every name that a statement gives to a column, for a table whose columns nobody knows; `None` where
/// a `*` stands for names that it does not give.
pub(super) fn named_columns(statement: &Statement) -> Option<Vec<String>> {
    let mut names = Names { found: Vec::new(), star: false };
    let _: ControlFlow<()> = statement.visit(&mut names);
    (!names.star).then_some(names.found)
}

struct Names {
    found: Vec<String>,
    star: bool,
}

impl Visitor for Names {
    type Break = ();

    fn pre_visit_expr(&mut self, expression: &Expr) -> ControlFlow<()> {
        let name = match expression {
            Expr::Identifier(column) => Some(name_of(column)),
            Expr::CompoundIdentifier(parts) => parts.last().map(name_of),
            _ => None,
        };
        self.star |= matches!(expression, Expr::Wildcard(_) | Expr::QualifiedWildcard(..));
        if let Some(name) = name
            && !self.found.contains(&name)
        {
            self.found.push(name);
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_select(&mut self, select: &Select) -> ControlFlow<()> {
        self.star |= select.projection.iter().any(|item| {
            matches!(item, SelectItem::Wildcard(_) | SelectItem::QualifiedWildcard(..))
        });
        ControlFlow::Continue(())
    }
}
