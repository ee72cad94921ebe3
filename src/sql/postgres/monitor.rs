//! Monitor mode: what a statement would be denied for is recorded, and it is let through. Layer 2.
//!
//! A refused statement is decided a second time with [`Env::lenient`]: tables in monitor mode, and
//! relations that no policy names where every file says `monitor`, are open for what they are closed
//! for; guards and masks stay. What cannot be bound to the tenant at all is sent as it is, if every
//! relation in it is monitored.
//!
//! Never let through: protected settings, catalogs of other tenants' data, files, statement kinds,
//! PostgreSQL's own functions outside the safe list, writes of another tenant's rows, faults of identity.

use super::check::{self, Guarded};
use super::classify::Class;
use super::env::Env;
use super::tree::Tree;
use crate::error::{Denial, DenialCode};

/// Whether a statement that was refused for this may be decided again.
pub const fn is_monitored(code: DenialCode) -> bool {
    matches!(
        code,
        DenialCode::CannotParse
            | DenialCode::UnknownRelation
            | DenialCode::RelationDenied
            | DenialCode::Function
            | DenialCode::ParsersDisagree
            | DenialCode::LeakPossible
            | DenialCode::ColumnDenied
            | DenialCode::ReadOnly
    )
}

/// The text as the client meant it, where it cannot be bound to the tenant.
///
/// # Errors
/// The denial, where something in it is not monitored.
pub fn as_it_is(
    tree: &Tree<'_>,
    class: &Class,
    canonical: &str,
    denial: Denial,
    env: Env<'_>,
) -> Result<Guarded, Denial> {
    let cannot_bind = matches!(
        denial.code,
        DenialCode::CannotParse | DenialCode::ParsersDisagree | DenialCode::LeakPossible
    );
    if env.lenient && cannot_bind && class.rewritten {
        check::unguarded(tree, canonical.to_owned(), env).map_err(|_| denial)
    } else {
        Err(denial)
    }
}
