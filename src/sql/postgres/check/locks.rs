//! Advisory locks and sizes in the tree that would be sent: no number but one of the tenant's own space,
//! and no size but of nothing. Layer 2.

use super::super::env::Env;
use super::super::sizes::{asks_of_nothing, is_size};
use super::super::tree::Tree;
use super::verify::leak;
use crate::error::Denial;
use crate::mutant;
use crate::sql::advisory::{FUNCTIONS, prefix};

/// Whether a node is a call that takes, tries or gives up a lock.
pub(super) fn is_lock(node: &Tree<'_>) -> bool {
    node.is("FuncCall")
        && node
            .at("funcname")
            .items()
            .last()
            .and_then(Tree::text)
            .is_some_and(|name| FUNCTIONS.contains(&name))
}

/// Every lock of the statement is the tenant's, and nothing's size is asked for.
///
/// # Errors
/// HR1009.
pub(super) fn are_own(statement: &Tree<'_>, env: Env<'_>) -> Result<(), Denial> {
    statement.walk(&mut |node| {
        let told = is_size(node) && !asks_of_nothing(node);
        let another =
            is_lock(node) && !mutant::on("check-advisory") && numbers(node, env).is_none();
        if told || another { Err(leak()) } else { Ok(()) }
    })
}

/// The client's numbers in a call whose lock is the tenant's.
pub(super) fn numbers<'t, 'a>(call: &'t Tree<'a>, env: Env<'_>) -> Option<Vec<&'t Tree<'a>>> {
    let [number] = call.at("args").items() else { return None };
    let own = prefix(env.principal.tenant.as_ref());
    let hashed = |text: &str| {
        format!(
            "SELECT ('x' || pg_catalog.substr(pg_catalog.encode(pg_catalog.sha256(\
             pg_catalog.convert_to({text}, 'UTF8')), 'hex'), 1, 16))::bit(64)::int8"
        )
    };
    [
        hashed(&format!("'{own}n' || ($1)::int8::text")),
        hashed(&format!("'{own}p' || ($1)::int4::text || ' ' || ($2)::int4::text")),
    ]
    .iter()
    .find_map(|text| {
        let parsed = pg_raw_parse::parse(text).ok()?;
        let mut print = String::new();
        let form = Tree::of(parsed.stmts().next()?, &mut print).ok()?;
        let [item] = form.at("target_list").items() else { return None };
        let mut found = Vec::new();
        fits(item.at("val"), number, &mut found).then_some(found)
    })
}

/// Whether `sent` has the form's shape; what stands in its parameters' places is found.
fn fits<'t, 'a>(form: &Tree<'_>, sent: &'t Tree<'a>, found: &mut Vec<&'t Tree<'a>>) -> bool {
    match (form, sent) {
        (Tree::Node("ParamRef", _), Tree::Node(..)) => {
            found.push(sent);
            true
        }
        (Tree::Node(kind, fields), Tree::Node(other, others)) => {
            kind == other
                && fields.len() == others.len()
                && fields
                    .iter()
                    .zip(others)
                    .all(|((name, value), (other, sent))| name == other && fits(value, sent, found))
        }
        (Tree::List(items), Tree::List(others)) => {
            items.len() == others.len()
                && items.iter().zip(others).all(|(item, sent)| fits(item, sent, found))
        }
        (form, sent) => form == sent,
    }
}
