//! What a decision says of itself: which guards it put where, what it kept apart, and how it judged
//! each condition of the client's. Layer 2, pure data.
//!
//! The decision writes it as it goes, when asked to ([`crate::decide::explain`]); nothing rests on it,
//! and no decision reads it.

use std::cell::RefCell;
use std::fmt;

use super::RelationUse;
use super::postgres::totality::Class;
use crate::ids::RelationName;

/// The account of one statement.
#[derive(Clone, Debug, Default, PartialEq, Eq)]
pub struct Account {
    /// Relations that the statement names, also those that are denied, in order of first use.
    pub relations: Vec<NamedRelation>,
    /// Guards by relation.
    pub guards: Vec<Guard>,
    /// Queries that are kept apart from those that read them.
    pub barriers: Vec<Barrier>,
    /// The client's conditions, conjunct by conjunct.
    pub conjuncts: Vec<Conjunct>,
    /// Columns of written rows that are filled or checked.
    pub written: Vec<Written>,
}

/// A relation that a statement names.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct NamedRelation {
    /// The relation, as far as it is known.
    pub relation: String,
    /// The rule that applies; `None` where there is none.
    pub rule: Option<String>,
}

impl From<&RelationUse> for NamedRelation {
    fn from(used: &RelationUse) -> Self {
        Self { relation: used.relation.to_string(), rule: Some(used.rule.to_string()) }
    }
}

/// Where a guard stands.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Place {
    /// In WHERE.
    Where,
    /// In the ON of an outer join whose other side is preserved.
    On,
    /// In a sub-query in the relation's place.
    Apart,
    /// In the WHERE of ON CONFLICT DO UPDATE.
    ConflictUpdate,
    /// In ON and in every WHEN of MERGE.
    Merge,
}

impl Place {
    /// A word for tools.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Where => "where",
            Self::On => "on",
            Self::Apart => "apart",
            Self::ConflictUpdate => "conflict-update",
            Self::Merge => "merge",
        }
    }

    /// Why the guard stands there.
    pub const fn why(self) -> &'static str {
        match self {
            Self::Where => "every row of the result has a row of it",
            Self::On => {
                "an outer join may leave it out; in WHERE the guard would drop rows without a match"
            }
            Self::Apart => {
                "neither WHERE nor ON can name its tenant column there (FULL JOIN, USING, NATURAL, an \
                 alias with a column list or around a join), or its rows feed a MERGE, or it is shown masked"
            }
            Self::ConflictUpdate => "the row in conflict may be another tenant's",
            Self::Merge => "a foreign row must neither match nor count as not matched",
        }
    }
}

/// A guard.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guard {
    /// The relation that it guards.
    pub relation: RelationName,
    /// The name under which the statement knows it.
    pub visible: String,
    /// Where it stands.
    pub place: Place,
    /// The condition.
    pub condition: String,
}

/// How a query is kept apart.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Form {
    /// `OFFSET 0`
    OffsetZero,
    /// `AS MATERIALIZED`
    Materialized,
}

impl Form {
    /// As SQL spells it.
    pub const fn word(self) -> &'static str {
        match self {
            Self::OffsetZero => "OFFSET 0",
            Self::Materialized => "MATERIALIZED",
        }
    }
}

/// Why a query is kept apart: the planner could merge it, and carry a condition that is not total past
/// its guard.
pub const WHY_APART: &str = "the planner could merge it, and try an expression that is not total on rows before their guard";

/// A query that is kept apart.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Barrier {
    /// Its alias.
    pub query: String,
    /// By what.
    pub form: Form,
}

/// How a conjunct is treated.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum Treatment {
    /// It is total: it stands beside the guard, where an index can serve it.
    Total,
    /// It is not total, and stands behind the guard.
    Shielded(NotTotal),
    /// It is not total, and no row of another tenant can meet it.
    Unexposed(NotTotal),
}

/// What is not total in an expression.
#[derive(Clone, Debug, PartialEq, Eq)]
pub enum NotTotal {
    /// A function.
    Function(String),
    /// An operator between two classes; `None` is a constant.
    Operator {
        /// The symbol.
        symbol: String,
        /// The class on the left.
        left: Option<Class>,
        /// The class on the right.
        right: Option<Class>,
    },
    /// An operator that a schema defines in place of PostgreSQL's own.
    Shadowed(String),
    /// A cast to that type.
    Cast(String),
    /// A column of a type that has no class, or one that may fail by itself.
    Column(String),
    /// A parameter whose type is not certain.
    Parameter(String),
    /// A pattern that is no plain literal.
    Pattern,
    /// A query that holds something that is not total, or several.
    Query,
    /// Some other form of expression.
    Form(String),
}

impl fmt::Display for NotTotal {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        let side = |class: &Option<Class>| {
            class.map_or_else(|| "a constant".to_owned(), |class| format!("{class:?}"))
        };
        match self {
            Self::Function(name) => write!(f, "the function {name} may raise an error"),
            Self::Operator { symbol, left, right } => write!(
                f,
                "the operator {symbol} between {} and {} may raise an error",
                side(left),
                side(right)
            ),
            Self::Shadowed(symbol) => {
                write!(f, "a schema defines an operator {symbol} of its own for built-in types")
            }
            Self::Cast(to) => write!(f, "the cast to {to} may fail"),
            Self::Column(name) => {
                write!(
                    f,
                    "the column {name} is of a type, collation or view that may raise an error, or not known"
                )
            }
            Self::Parameter(name) => write!(f, "the type of the parameter {name} is not certain"),
            Self::Pattern => f.write_str("the pattern is no literal, or holds a backslash"),
            Self::Query => f.write_str("the query within is not total throughout"),
            Self::Form(form) => write!(f, "`{form}` is not on the list of what is total"),
        }
    }
}

/// The clause that a conjunct stands in.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Clause {
    /// WHERE or ON.
    Condition,
    /// HAVING
    Having,
}

/// A conjunct of the client's.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Conjunct {
    /// Its text, as it was read.
    pub text: String,
    /// Where it stands.
    pub clause: Clause,
    /// What became of it.
    pub treatment: Treatment,
}

/// A column of written rows that must hold what belongs to the tenant.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Written {
    /// The relation.
    pub relation: RelationName,
    /// The column.
    pub column: String,
    /// What is demanded of it.
    pub demand: &'static str,
}

/// Where the account is written to; nowhere when nobody asked.
#[derive(Clone, Copy, Default)]
pub struct Notes<'a>(Option<&'a RefCell<Account>>);

impl<'a> Notes<'a> {
    /// Notes that are kept.
    pub const fn kept(account: &'a RefCell<Account>) -> Self {
        Self(Some(account))
    }

    /// Whether somebody wants notes.
    pub const fn wanted(self) -> bool {
        self.0.is_some()
    }

    /// Takes a note, if somebody wants it.
    pub fn take(self, note: impl FnOnce(&mut Account)) {
        if let Some(account) = self.0
            && let Ok(mut account) = account.try_borrow_mut()
        {
            note(&mut account);
        }
    }
}
