//! The checker: reads the text that would be sent with PostgreSQL's own grammar, and lets it pass
//! only if every relation in it is one that the policy opens, every protected one stands under its
//! guard, and, guards taken out, it says what the client said. Layer 2.
//!
//! It shares no code with the rewriter, and never names it: what they have in common is policy,
//! catalog and the reviewed lists.

mod compare;
mod copy;
mod form;
mod grouping;
mod guards;
mod level;
mod listen;
mod locks;
mod made;
mod masks;
mod outputs;
mod rows;
mod shape;
mod temporary;
mod truncate;
mod types;
mod verify;
mod writes;

#[cfg(test)]
mod tests;

use super::env::{Env, Resolved};
use super::scope::{Met, walk};
use super::tree::Tree;
use crate::error::{Denial, DenialCode};
use crate::mutant;
use crate::policy::Mode;

pub use form::Form;

/// A statement that passed the checker: the exact text that may go upstream. Only [`seal`] makes
/// one; nobody else can:
///
/// ```compile_fail,E0423
/// let unchecked = hedgerow::sql::Guarded("DROP TABLE customers".to_owned());
/// ```
///
/// What the checker made can be read:
///
/// ```
/// fn read(guarded: &hedgerow::sql::Guarded) -> &str {
///     guarded.text()
/// }
/// ```
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct Guarded(String);

impl Guarded {
    /// The text to send.
    pub fn text(&self) -> &str {
        &self.0
    }

    /// A text that nobody checked, for tests of what comes after.
    #[cfg(test)]
    pub(crate) fn for_test(text: impl Into<String>) -> Self {
        Self(text.into())
    }
}

/// Checks that `text` says what the client said and reads nothing but what is monitored: a statement
/// that cannot be bound to the tenant and is let through to be seen.
///
/// # Errors
/// HR1008, and HR1009 for a relation that is enforced.
pub fn unguarded(client: &Tree<'_>, text: String, env: Env<'_>) -> Result<Guarded, Denial> {
    let disagree = || Denial::new(DenialCode::ParsersDisagree);
    let parsed = pg_raw_parse::parse(&text).map_err(|_| disagree())?;
    let mut statements = parsed.stmts();
    let (Some(statement), None) = (statements.next(), statements.next()) else {
        return Err(disagree());
    };
    let mut print = String::new();
    let sent = Tree::of(statement, &mut print)?;
    let mut monitored = env.lenient;
    walk(&sent, &mut |met| {
        if let Met::Read(relation) | Met::Target(relation, _) = met {
            let name = relation.at("relname").text().unwrap_or_default();
            let schema = relation.at("schemaname").text();
            monitored &= match env.resolve(relation.at("catalogname").text(), schema, name)? {
                Resolved::Catalog { .. } => true,
                Resolved::Table(table) => {
                    table.policy.mode == Mode::Monitor && !table.is_masked(env)
                }
            };
        }
        Ok(())
    })?;
    locks::are_own(&sent, env)?;
    if !monitored || *client != sent {
        return Err(Denial::new(DenialCode::LeakPossible));
    }
    Ok(Guarded(text))
}

/// Checks `text` against the tree of what the client wrote.
///
/// # Errors
/// HR1008 when the text cannot be read, or says something else than the client did; HR1009 when a
/// guard is not where it must be. The codes of resolution pass through.
pub fn seal(client: &Tree<'_>, text: String, env: Env<'_>) -> Result<Guarded, Denial> {
    let disagree = || Denial::new(DenialCode::ParsersDisagree);
    let parsed = pg_raw_parse::parse(&text).map_err(|_| disagree())?;
    let mut statements = parsed.stmts();
    let first = statements.next().ok_or_else(disagree)?;
    if statements.next().is_some() && !mutant::on("check-second-statement") {
        return Err(disagree());
    }
    if mutant::on("checker-off") {
        return Ok(Guarded(text));
    }
    let mut print = String::new();
    let sent = Tree::of(first, &mut print)?;
    if !mutant::on("check-guards") {
        verify::verify(&sent, env)?;
    }
    if !compare::same(client, &sent, env) && !mutant::on("check-meaning") {
        return Err(disagree());
    }
    Ok(Guarded(text))
}
