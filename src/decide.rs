//! The one decision: statement text + principal + policy + catalog → verdict. Layer 3, pure: no
//! I/O, no clock. PostgreSQL sessions, `explain`, tests and fuzzers all come through here.

mod verdicts;

pub use verdicts::{Made, Question, Recent, Source, Verdicts, Viewpoint};

use crate::catalog::Catalog;
use crate::claims::Principal;
use crate::policy::Policy;
use crate::sql::account::Account;
use crate::sql::postgres::totality::Parameter;
use crate::sql::postgres::{Form, Split};
use crate::sql::temporary::Temporary;
use crate::sql::{Decided, Limits};

pub use crate::sql::Refusal;

/// Everything that a decision depends on, besides the text.
#[derive(Clone, Copy)]
pub struct Context<'a> {
    /// The policy snapshot.
    pub policy: &'a Policy,
    /// The catalog snapshot.
    pub catalog: &'a Catalog,
    /// The caller.
    pub principal: &'a Principal,
    /// Bounds on what is looked at.
    pub limits: Limits,
}

/// Decides every statement of `text` (a simple query may hold several). All of them or none: the
/// first that is refused refuses the text, for nothing of it may run.
///
/// # Errors
/// The denial of the first statement that may not run, with what is known of it for the record.
pub fn decide(text: &str, context: Context<'_>) -> Result<Vec<Decided>, Refusal> {
    decide_prepared(text, context, &[])
}

/// The same for a text whose parameters have the types that the client declared; those that it left
/// out are open.
///
/// # Errors
/// As [`decide`].
pub fn decide_prepared(
    text: &str,
    context: Context<'_>,
    declared: &[Parameter],
) -> Result<Vec<Decided>, Refusal> {
    decide_in_session(text, context, declared, Temporary::NONE)
}

/// The same in a session that has temporary tables.
///
/// # Errors
/// As [`decide`].
pub fn decide_in_session(
    text: &str,
    context: Context<'_>,
    declared: &[Parameter],
    temporary: &Temporary,
) -> Result<Vec<Decided>, Refusal> {
    let Context { policy, catalog, principal, limits } = context;
    crate::sql::postgres::decide_in_session(
        text, policy, catalog, principal, limits, declared, temporary,
    )
}

/// The form of a text that was decided, for texts that differ from it in literals only; `None` when
/// its verdict may not be shared. Takes about as long as three decisions.
pub fn form(
    split: &Split<'_>,
    text: &str,
    decided: &[Decided],
    context: Context<'_>,
) -> Option<Form> {
    let Context { policy, catalog, principal, limits } = context;
    crate::sql::postgres::form(split, text, decided, policy, catalog, principal, limits)
}

/// A verdict and the decision's own account of how it came about.
#[derive(Clone, Debug)]
pub struct Explanation {
    /// What [`decide`] says.
    pub verdict: Result<Vec<Decided>, Refusal>,
    /// One account a statement, in order. When a statement is refused, its account is the last.
    pub accounts: Vec<Account>,
}

/// Decides as [`decide`] does, and keeps an account.
pub fn explain(text: &str, context: Context<'_>) -> Explanation {
    let Context { policy, catalog, principal, limits } = context;
    let (accounts, verdict) =
        crate::sql::postgres::explain(text, policy, catalog, principal, limits);
    Explanation { verdict, accounts }
}
