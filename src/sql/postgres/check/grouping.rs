//! What GROUP BY groups by, in every set of it. Layer 2.

use super::super::codes;
use super::super::tree::Tree;
use super::guards::column;

/// Whether a key of GROUP BY makes every group one of a single value of the column `qualifier.name`.
pub(super) fn is_by(key: &Tree<'_>, qualifier: &str, name: &str, select: &Tree<'_>) -> bool {
    if !key.is("GroupingSet") {
        return is_column(key, qualifier, name, select);
    }
    // Of ROLLUP and CUBE one set is empty.
    let sets = key.at("content").items();
    key.at("kind").number() == Some(codes::GROUPING_SETS)
        && !sets.is_empty()
        && sets.iter().all(|set| {
            let row =
                set.is("RowExpr") && set.at("row_format").number() == Some(codes::IMPLICIT_ROW);
            if row {
                set.at("args").items().iter().any(|key| is_column(key, qualifier, name, select))
            } else {
                is_column(set, qualifier, name, select)
            }
        })
}

/// Whether a key that is no set is the column, by name or by its number among the results.
fn is_column(key: &Tree<'_>, qualifier: &str, name: &str, select: &Tree<'_>) -> bool {
    let number = key.at("val").at("").number().filter(|_| key.is("A_Const"));
    let key = match number.and_then(|number| usize::try_from(number - 1).ok()) {
        Some(at) => match select.at("target_list").items().get(at) {
            Some(item) => item.at("val"),
            None => return false,
        },
        None => key,
    };
    match column(key).as_deref() {
        Some([only]) => *only == name,
        Some([owner, column]) => *owner == qualifier && *column == name,
        Some(_) | None => false,
    }
}

/// Whether the column may stand in a grouping set: where it is left out of another, it is NULL, and
/// grouping by it everywhere would say something else.
pub(super) fn is_in_a_set(keys: &[Tree<'_>], qualifier: &str, name: &str) -> bool {
    let mut found = false;
    for key in keys.iter().filter(|key| key.is("GroupingSet")) {
        let _never = key.walk(&mut |node| {
            found |= match column(node).as_deref() {
                Some([only]) => *only == name,
                Some([.., owner, column]) => *owner == qualifier && *column == name,
                Some([]) => true,
                // A number means a result, and an expression whatever is in it.
                None => node.is("A_Const"),
            };
            Ok::<(), std::convert::Infallible>(())
        });
    }
    found
}
