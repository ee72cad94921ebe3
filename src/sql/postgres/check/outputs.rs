//! The columns of a query, and which of them are computed in a way that may fail. Layer 2.
//!
//! Where the planner merges a query into its reader, a column of it is the expression that stands for it, and
//! is evaluated where the reader names it: beside the guards, or before them.

use super::super::codes;
use super::super::totality::Class;
use super::super::tree::Tree;
use super::guards::column;
use super::level::Level;
use super::shape::is_total;
use super::types::{are_total, reads_freely, stored};

/// The columns of a query, as far as they have names.
#[derive(Clone, Default)]
pub(super) struct Outputs {
    named: Vec<Output>,
    /// A `*` is among them: they are not in order.
    starred: bool,
}

#[derive(Clone)]
struct Output {
    name: String,
    /// Whether reading it may fail.
    fails: bool,
    /// Its class, where it is a stored column.
    class: Option<Class>,
}

impl Output {
    /// A column that may have any name, and fail.
    const UNKNOWN: Self = Self { name: String::new(), fails: true, class: None };
}

impl Outputs {
    /// Columns that nobody knows: any of them may fail.
    pub(super) fn unknown() -> Self {
        Self { named: vec![Output::UNKNOWN], starred: true }
    }

    /// Whether a column of that name may fail. One that has no name that is known may have any.
    pub(super) fn may_fail(&self, name: &str) -> bool {
        self.named.iter().any(|own| own.fails && (own.name == name || own.name.is_empty()))
    }

    /// The class of the column of that name, where it is a stored one.
    pub(super) fn class(&self, name: &str) -> Option<Class> {
        let mut own = self.named.iter().filter(|own| own.name == name);
        own.next().filter(|_| own.next().is_none())?.class
    }

    /// Whether any of them may fail.
    pub(super) fn any_may_fail(&self) -> bool {
        self.named.iter().any(|own| own.fails)
    }

    /// Those of a set operation: named as the left ones, as bad as either.
    pub(super) fn merged(mut self, other: Self) -> Self {
        let in_order = !self.starred && !other.starred && self.named.len() == other.named.len();
        let any = other.named.iter().any(|own| own.fails);
        for (at, own) in self.named.iter_mut().enumerate() {
            let other = other.named.get(at).filter(|_| in_order);
            own.fails |= other.map_or(any, |other| other.fails);
            own.class = own.class.filter(|_| other.is_some_and(|other| other.class == own.class));
        }
        self
    }

    /// Under a column alias list.
    pub(super) fn renamed(mut self, names: &Tree<'_>) -> Self {
        let names = names.items();
        if names.is_empty() {
            return self;
        }
        let any = self.named.iter().any(|own| own.fails);
        if self.starred {
            self.named.iter_mut().for_each(|own| own.class = None);
        }
        if self.starred && any {
            self.named.push(Output::UNKNOWN);
        } else {
            for (own, name) in self.named.iter_mut().zip(names) {
                if let Some(name) = name.text() {
                    name.clone_into(&mut own.name);
                }
            }
        }
        self
    }

    /// Those of a plain SELECT.
    pub(super) fn of(select: &Tree<'_>, level: &Level<'_>) -> Self {
        let mut outputs = Self::default();
        for item in select.at("target_list").items() {
            let value = item.at("val");
            let star = value.at("fields").items().last().is_some_and(|last| last.is("A_Star"));
            if star {
                let fields = value.at("fields").items();
                let row = fields.iter().rev().nth(1).and_then(Tree::text);
                outputs.star(row, level);
                continue;
            }
            let fails = !(is_total(value) && are_total(value, level));
            let name = item.at("name").text().map_or_else(|| name_of(value), str::to_owned);
            outputs.named.push(Output { name, fails, class: column_class(value, level) });
        }
        outputs
    }

    fn star(&mut self, row: Option<&str>, level: &Level<'_>) {
        self.starred = true;
        let named = |visible: &str| row.is_none_or(|row| row == visible);
        for (_, columns) in level.below.iter().filter(|(visible, _)| named(visible)) {
            self.named.extend(columns.named.iter().cloned());
        }
        let flat = level.flat.iter().map(|flat| (flat.visible, flat.table.relation, true));
        let beside = level.beside.iter().map(|(visible, known)| (*visible, *known, false));
        for (visible, known, guarded) in flat.chain(beside) {
            let Some(known) = known.filter(|_| named(visible)) else { continue };
            self.named.extend(known.columns.iter().map(|column| Output {
                name: column.name.clone(),
                fails: guarded && !reads_freely(Some(known), &column.name),
                class: stored(known, &column.name),
            }));
        }
    }
}

fn column_class(value: &Tree<'_>, level: &Level<'_>) -> Option<Class> {
    let parts = column(value)?;
    let (name, qualifiers) = parts.split_last()?;
    level.stored(qualifiers.last().copied(), name)
}

/// The name that PostgreSQL gives to an unnamed item (`FigureColname`); empty where it is not told here.
fn name_of(value: &Tree<'_>) -> String {
    match value.kind() {
        "ColumnRef" => column(value).and_then(|parts| parts.last().map(|name| (*name).to_owned())),
        "FuncCall" => value.at("funcname").items().last().and_then(Tree::text).map(str::to_owned),
        "TypeCast" => match value.at("arg").kind() {
            "ColumnRef" | "FuncCall" | "TypeCast" => Some(name_of(value.at("arg"))),
            _ => {
                let names = value.at("type_name").at("names").items();
                names.last().and_then(Tree::text).map(str::to_owned)
            }
        },
        "CollateClause" => Some(name_of(value.at("arg"))),
        "CaseExpr" => match value.at("defresult").kind() {
            "ColumnRef" | "FuncCall" => Some(name_of(value.at("defresult"))),
            "" => Some("case".to_owned()),
            _ => None,
        },
        "CoalesceExpr" => Some("coalesce".to_owned()),
        "A_ArrayExpr" => Some("array".to_owned()),
        "RowExpr" => Some("row".to_owned()),
        "A_Expr" if value.at("kind").number() == Some(codes::OP) => Some("?column?".to_owned()),
        _ => None,
    }
    .unwrap_or_default()
}
