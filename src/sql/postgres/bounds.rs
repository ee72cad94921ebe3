//! Bounds on a text before any parser sees it. Layer 2.
//!
//! Both parsers' trees are walked recursively, in C and in Rust: what bounds the stack is not the
//! length of a text but how deep its brackets nest and how long its operator chains are. This scan
//! reads just enough of PostgreSQL's lexical rules (manual, 4.1) to count them. A misjudged text
//! costs a denial, nothing else: no decision rests on this scan.

use crate::error::{Denial, DenialCode};
use crate::sql::Limits;

/// Longest sum of open brackets and operators on the way to any token. A tree is at most a small
/// multiple of this deep; the deciding stack is sized for it ([`super::DECIDING_STACK`]).
pub const MAX_DEPTH: usize = 1_500;

/// Most statements in one simple query.
pub const MAX_STATEMENTS: usize = 500;

/// Checks length, NUL bytes and depth.
///
/// # Errors
/// HR4003 over a limit, HR1001 for a NUL byte.
pub fn check(text: &str, limits: Limits) -> Result<(), Denial> {
    if text.len() > limits.max_statement {
        return Err(Denial::new(DenialCode::StatementTooLarge));
    }
    if text.contains('\0') {
        return Err(Denial::new(DenialCode::CannotParse));
    }
    if depth(text.as_bytes()) > MAX_DEPTH {
        return Err(Denial::of(DenialCode::StatementTooLarge, "nesting"));
    }
    Ok(())
}

/// The depth of the deepest token: brackets open around it plus operators and words chained before
/// it since the last comma, at every level.
fn depth(text: &[u8]) -> usize {
    let mut levels: Vec<Open> = vec![Open { chain: 0, case: false }];
    let (mut below, mut deepest) = (0usize, 0usize);
    let mut at = 0usize;
    // Behind a dot every word is a name: `t.end`.
    let mut dotted = false;
    while let Some(&byte) = text.get(at) {
        let rest = text.get(at..).unwrap_or_default();
        let blank =
            byte.is_ascii_whitespace() || rest.starts_with(b"--") || rest.starts_with(b"/*");
        let named = dotted;
        dotted = byte == b'.' || dotted && blank;
        at += match byte {
            b'\'' => quoted(rest, b'\'', escapes(text, at)),
            b'"' => quoted(rest, b'"', false),
            b'$' => dollar_quoted(rest),
            b'-' if rest.starts_with(b"--") => {
                rest.iter().position(|b| *b == b'\n').map_or(rest.len(), |end| end + 1)
            }
            b'/' if rest.starts_with(b"/*") => comment(rest),
            b'(' | b'[' => {
                below += open(&mut levels, false);
                1
            }
            b')' | b']' => {
                // It closes every CASE in it as well.
                while levels.len() > 1 {
                    let case = levels.pop().is_some_and(|level| level.case);
                    below = below.saturating_sub(chain_of(&levels) + 1);
                    if !case {
                        break;
                    }
                }
                1
            }
            b',' | b';' => {
                if let Some(level) = levels.last_mut() {
                    level.chain = 0;
                }
                1
            }
            b'a'..=b'z' | b'A'..=b'Z' | b'_' | 0x80.. => {
                let length = rest.iter().position(|b| !is_word(*b)).unwrap_or(rest.len());
                let word = rest.get(..length).unwrap_or_default();
                let in_case = !named && levels.last().is_some_and(|level| level.case);
                if word.eq_ignore_ascii_case(b"case") {
                    below += open(&mut levels, true);
                } else if in_case && word.eq_ignore_ascii_case(b"end") {
                    levels.pop();
                    below = below.saturating_sub(chain_of(&levels) + 1);
                } else if in_case && ARMS.iter().any(|arm| word.eq_ignore_ascii_case(arm)) {
                    // The arms of one CASE stand side by side.
                    if let Some(level) = levels.last_mut() {
                        level.chain = 0;
                    }
                } else {
                    chain(&mut levels, chains(word));
                }
                length
            }
            b'+' | b'-' | b'*' | b'/' | b'<' | b'>' | b'=' | b'~' | b'!' | b'@' | b'#' | b'%'
            | b'^' | b'&' | b'|' | b'`' | b'?' | b':' | b'.' => {
                chain(&mut levels, true);
                1
            }
            _ => 1,
        }
        .max(1);
        deepest = deepest.max(below + chain_of(&levels));
    }
    deepest
}

/// A bracket or CASE that is open.
struct Open {
    /// What is chained in it since the last comma.
    chain: usize,
    /// `CASE`, which END closes; a bracket does not mind END, which may be a name.
    case: bool,
}

/// What opens an arm of a CASE.
const ARMS: [&[u8]; 3] = [b"when", b"then", b"else"];

fn chain_of(levels: &[Open]) -> usize {
    levels.last().map_or(0, |level| level.chain)
}

/// Opens a level; by how much deeper it is.
fn open(levels: &mut Vec<Open>, case: bool) -> usize {
    let deeper = chain_of(levels) + 1;
    levels.push(Open { chain: 0, case });
    deeper
}

fn chain(levels: &mut [Open], chains: bool) {
    if chains && let Some(level) = levels.last_mut() {
        level.chain += 1;
    }
}

/// Keywords that nest a tree by standing in a row.
fn chains(word: &[u8]) -> bool {
    const CHAINING: [&[u8]; 19] = [
        b"and",
        b"or",
        b"not",
        b"union",
        b"intersect",
        b"except",
        b"join",
        b"when",
        b"select",
        b"is",
        b"isnull",
        b"notnull",
        b"collate",
        b"like",
        b"ilike",
        b"in",
        b"between",
        b"explain",
        b"at",
    ];
    CHAINING.iter().any(|chaining| word.eq_ignore_ascii_case(chaining))
}

const fn is_word(byte: u8) -> bool {
    byte.is_ascii_alphanumeric() || byte == b'_' || byte == b'$' || byte >= 0x80
}

/// Whether the quote at `at` opens an `E'…'` string.
fn escapes(text: &[u8], at: usize) -> bool {
    let before = |back: usize| at.checked_sub(back).and_then(|i| text.get(i)).copied();
    matches!(before(1), Some(b'e' | b'E')) && !before(2).is_some_and(is_word)
}

fn quoted(rest: &[u8], quote: u8, backslash: bool) -> usize {
    let mut at = 1;
    while let Some(&byte) = rest.get(at) {
        at += 1;
        if byte == b'\\' && backslash {
            at += 1;
        } else if byte == quote {
            if rest.get(at) != Some(&quote) {
                return at;
            }
            at += 1;
        }
    }
    rest.len()
}

fn dollar_quoted(rest: &[u8]) -> usize {
    let Some(tag) = rest.iter().skip(1).position(|b| *b == b'$') else { return 1 };
    let Some(delimiter) = rest.get(..tag + 2) else { return 1 };
    let name = delimiter.get(1..tag + 1).unwrap_or_default();
    if name.first().is_some_and(u8::is_ascii_digit) || !name.iter().all(|b| is_word(*b)) {
        return 1;
    }
    let body = rest.get(delimiter.len()..).unwrap_or_default();
    body.windows(delimiter.len())
        .position(|window| window == delimiter)
        .map_or(rest.len(), |end| end + 2 * delimiter.len())
}

fn comment(rest: &[u8]) -> usize {
    let (mut at, mut open) = (2, 1usize);
    while open > 0 {
        match rest.get(at..) {
            Some([b'*', b'/', ..]) => (at, open) = (at + 2, open - 1),
            Some([b'/', b'*', ..]) => (at, open) = (at + 2, open + 1),
            Some([_, ..]) => at += 1,
            Some([]) | None => return rest.len(),
        }
    }
    at
}

#[cfg(test)]
mod tests {
    use super::{MAX_DEPTH, check, depth};
    use crate::error::DenialCode;
    use crate::sql::Limits;

    #[test]
    fn wide_statements_are_not_deep() {
        let row = "(1, -2, 'a+b+c', now() - interval '1 day')";
        let text = format!("INSERT INTO t VALUES {}", vec![row; 5_000].join(", "));
        assert!(depth(text.as_bytes()) < 50, "{}", depth(text.as_bytes()));
    }

    #[test]
    fn chains_and_nesting_are_deep() {
        assert!(depth(format!("SELECT {}1", "1+".repeat(4_000)).as_bytes()) > MAX_DEPTH);
        assert!(depth(format!("SELECT {}", "(".repeat(4_000)).as_bytes()) > MAX_DEPTH);
        let unions = vec!["SELECT 1"; 2_000].join(" UNION ALL ");
        assert!(depth(unions.as_bytes()) > MAX_DEPTH);
    }

    #[test]
    fn the_arms_of_one_case_are_wide_and_nested_ones_deep() {
        let arms = vec!["WHEN a = 'x' AND b < 1 THEN 'y' || c"; 2_000].join(" ");
        assert!(depth(format!("SELECT CASE {arms} ELSE 1 END").as_bytes()) < 20);
        let nested =
            format!("SELECT {}1{}", "CASE WHEN a THEN ".repeat(2_000), " END".repeat(2_000));
        assert!(depth(nested.as_bytes()) > MAX_DEPTH);
        let names = format!("SELECT {}1", "(SELECT 1 end, ".repeat(2_000));
        assert!(depth(names.as_bytes()) > MAX_DEPTH);
        let labels = format!("SELECT {}1", "(SELECT 1 case, 1 end, ".repeat(2_000));
        assert!(depth(labels.as_bytes()) > MAX_DEPTH);
        for name in ["t.end", "t . /* */ end", "t.-- x\n end", "(t).end", "t.then"] {
            let named = format!("SELECT {}1", format!("CASE WHEN {name} THEN ").repeat(2_000));
            assert!(depth(named.as_bytes()) > MAX_DEPTH, "{name}");
            let chained =
                format!("SELECT CASE WHEN {}1 THEN 2 END", format!("{name} + ").repeat(2_000));
            assert!(depth(chained.as_bytes()) > MAX_DEPTH, "{name}");
        }
        let open = format!("SELECT {}1", "CASE WHEN (".repeat(2_000));
        assert!(depth(open.as_bytes()) > MAX_DEPTH);
    }

    #[test]
    fn strings_and_comments_do_not_count() {
        for quoted in
            ["'((((++++'", "E'\\'((((+'", "$a$((((+$a$", "\"((((\"", "/* ((( /* ++ */ */ 1"]
        {
            assert!(depth(format!("SELECT {quoted}").as_bytes()) < 4, "{quoted}");
        }
    }

    #[test]
    fn the_limit_on_length_is_inclusive() {
        let limits = Limits { max_statement: 8 };
        assert_eq!(check("SELECT 1", limits), Ok(()));
        assert_eq!(check("SELECT 10", limits).unwrap_err().code, DenialCode::StatementTooLarge);
    }
}
