//! The columns that a SELECT list makes, and which of them may raise an error. Pure.

use sqlparser::ast::SelectItem;

use super::{Level, Partial, Shields, implied_name, may_fail, something_may_fail};
use crate::mutant;

/// The columns of a SELECT list.
#[derive(Clone, Debug, Default)]
pub struct Columns {
    /// Name and whether it may fail, one a column; `None` where a `*` stands in the list.
    pub listed: Option<Vec<(Option<String>, bool)>>,
    /// The names that may fail.
    pub partial: Partial,
}

impl Columns {
    /// Reads a list above a level. `shields`: those that are about to be shielded.
    pub fn of(projection: &[SelectItem], level: &Level, shields: &Shields) -> Self {
        let mut listed = Some(Vec::new());
        let mut partial = Partial::default();
        for item in projection {
            let (name, fails) = match item {
                SelectItem::UnnamedExpr(expr) => {
                    let name = implied_name(expr);
                    let shielded = shields.reach(expr, None, &level.partial);
                    (name, may_fail(expr, &level.partial) && !shielded)
                }
                SelectItem::ExprWithAlias { expr, alias } => {
                    let shielded = shields.reach(expr, Some(alias), &level.partial);
                    (Some(alias), may_fail(expr, &level.partial) && !shielded)
                }
                SelectItem::ExprWithAliases { .. } => {
                    partial = Partial::everything();
                    (None, true)
                }
                SelectItem::Wildcard(options) => {
                    listed = None;
                    partial.join(&level.partial);
                    if something_may_fail(options, &level.partial) {
                        partial.all = true;
                    }
                    continue;
                }
                SelectItem::QualifiedWildcard(of, options) => {
                    listed = None;
                    partial.join(&level.partial);
                    // SECURITY: names of fields are not known, those of a value that may fail no less.
                    let fields = !level.partial.is_empty()
                        && !level.is_variable(of)
                        && !mutant::on("bq-fields");
                    if fields
                        || something_may_fail(item, &level.partial)
                        || something_may_fail(options, &level.partial)
                    {
                        partial.all = true;
                    }
                    continue;
                }
            };
            if fails {
                partial.add_column(name);
            }
            if let Some(listed) = &mut listed {
                listed.push((name.map(|name| name.value.to_ascii_lowercase()), fails));
            }
        }
        if level.partial.sealed {
            partial.seal();
        }
        Self { listed, partial }
    }

    /// Those of a query whose rows are values: of fields of a value that may fail, any may.
    pub fn of_values(self) -> Self {
        let mut partial = self.partial;
        partial.spread();
        Self { listed: None, partial }
    }

    /// Columns of a set operation that matches them by their names.
    pub fn united_by_name(self, right: &Self) -> Self {
        if mutant::on("bq-by-name") {
            return self.united(right);
        }
        let mut partial = self.partial;
        partial.join(&right.partial);
        let fails = |name: &Option<String>| {
            name.as_ref().is_none_or(|name| partial.all || partial.names.contains(name))
        };
        let listed = self.listed.map(|listed| {
            listed.into_iter().map(|(name, _)| (name.clone(), fails(&name))).collect()
        });
        Self { listed, partial }
    }

    /// Columns of a set operation that matches them by their places: names are those of the left.
    pub fn united(self, right: &Self) -> Self {
        if right.partial.is_empty() && right.listed.is_none() {
            return Self { listed: None, ..self };
        }
        let right_partial = &right.partial;
        match (self.listed, &right.listed) {
            (Some(left), Some(right)) if left.len() == right.len() => {
                let listed: Vec<_> = left
                    .into_iter()
                    .zip(right)
                    .map(|((name, fails), (_, other))| (name, fails || *other))
                    .collect();
                let sealed = self.partial.sealed || right_partial.sealed;
                let mut partial = Partial { all: self.partial.all, sealed, ..Partial::default() };
                for (name, _) in listed.iter().filter(|(_, fails)| *fails) {
                    match name {
                        Some(name) => partial.add(name),
                        None => partial.unnamed = true,
                    }
                }
                Self { listed: Some(listed), partial }
            }
            (_, right_listed) => {
                let fails = !right.partial.is_empty()
                    || right_listed.iter().flatten().any(|(_, fails)| *fails);
                let mut partial = self.partial;
                if fails {
                    partial.join(right_partial);
                    partial.join(&Partial::everything());
                }
                Self { listed: None, partial }
            }
        }
    }
}
