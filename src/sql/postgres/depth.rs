//! How deep PostgreSQL goes into itself for a literal. Layer 2.
//!
//! Some operators that have an answer for every value go into themselves as deep as an operand is, and run out
//! of stack (54001) where that is deep enough. A client who chooses the operand chooses the depth, and a
//! conjunct beside it chooses the row that it is evaluated on. So such an operator is total only beside a literal
//! that is seen to be shallow. Rewriter and checker each call this for themselves.

/// Most wildcards of a LIKE pattern: matching goes into itself at each `%`.
const MAX_WILDCARDS: usize = 64;
/// Most operators of a text search query: matching goes into itself at each. (At some 14,000 it fails.)
const MAX_QUERY_OPERATORS: usize = 200;
/// Deepest nesting of a JSON document. Containment goes as deep as the shallower side, and fails between
/// 8,000 and 14,000.
const MAX_NESTING: usize = 64;

/// Whether LIKE and ILIKE match the pattern without going deep, and without complaint: a trailing backslash
/// fails, and only where matching gets that far.
pub fn is_shallow_pattern(pattern: &str) -> bool {
    let wildcards = pattern.bytes().filter(|byte| matches!(byte, b'%' | b'_')).count();
    !pattern.contains('\\') && wildcards <= MAX_WILDCARDS
}

/// Whether a text search query has few operators. What looks like one within a quoted lexeme counts.
pub fn is_shallow_query(query: &str) -> bool {
    let operators =
        query.bytes().filter(|byte| matches!(byte, b'&' | b'|' | b'!' | b'<' | b'(')).count();
    operators <= MAX_QUERY_OPERATORS
}

/// Whether a JSON document is nested no deeper than anybody writes it. (What is no JSON fails when the statement
/// is parsed.)
pub fn is_shallow_document(document: &str) -> bool {
    let (mut depth, mut deepest) = (0_usize, 0_usize);
    let (mut in_string, mut escaped) = (false, false);
    for byte in document.bytes() {
        match byte {
            _ if escaped => escaped = false,
            b'\\' if in_string => escaped = true,
            b'"' => in_string = !in_string,
            b'[' | b'{' if !in_string => {
                depth += 1;
                deepest = deepest.max(depth);
            }
            b']' | b'}' if !in_string => depth = depth.saturating_sub(1),
            _ => {}
        }
    }
    deepest <= MAX_NESTING
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn depth_is_told_by_what_postgresql_goes_into_itself_for() {
        assert!(is_shallow_pattern("%a_b%") && is_shallow_pattern(&"%".repeat(64)));
        assert!(!is_shallow_pattern(&"%e".repeat(65)) && !is_shallow_pattern("a\\"));
        assert!(is_shallow_query("'a' & !(b <-> c)") && is_shallow_query(&"a&".repeat(200)));
        for operator in ["&", "|", "!", "<->", "("] {
            assert!(!is_shallow_query(&operator.repeat(201)), "{operator}");
        }
        let nested = |levels: usize| format!("{}{}", "[".repeat(levels), "]".repeat(levels));
        assert!(is_shallow_document(&nested(64)) && !is_shallow_document(&nested(65)));
        assert!(is_shallow_document(&"[],{},".repeat(1_000)));
        assert!(is_shallow_document(&format!("\"{}\"", "[".repeat(100))));
        // A closing bracket in a string closes nothing.
        assert!(!is_shallow_document(&"[\"]\\\"]\",".repeat(65)));
    }
}
