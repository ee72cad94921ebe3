//! Other spellings of a statement that mean the same, or wrap it: comments within, quoted names,
//! Unicode escapes, capitals, a name that is shadowed, the whole as a CTE, LATERAL or derived table.

use crate::random::Random;
use crate::tables::TABLES;

/// A way to spell.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum Kind {
    Comments,
    Quotes,
    UnicodeEscapes,
    Capitals,
    Shadow,
    Cte,
    Lateral,
    Derived,
    Exists,
}

impl Kind {
    pub const SPELLINGS: [Self; 4] =
        [Self::Comments, Self::Quotes, Self::UnicodeEscapes, Self::Capitals];
    pub const ALL: [Self; 9] = [
        Self::Comments,
        Self::Quotes,
        Self::UnicodeEscapes,
        Self::Capitals,
        Self::Shadow,
        Self::Cte,
        Self::Lateral,
        Self::Derived,
        Self::Exists,
    ];

    /// Whether the rows come as they came before.
    pub const fn keeps_order(self) -> bool {
        matches!(self, Self::Comments | Self::Quotes | Self::UnicodeEscapes | Self::Capitals)
    }

    /// The statement in this spelling.
    pub fn apply(self, sql: &str, random: &mut Random) -> String {
        let sql = sql.trim();
        match self {
            Self::Cte => format!("WITH wrapped AS ({sql}) SELECT * FROM wrapped"),
            Self::Lateral => {
                format!("SELECT l.* FROM (VALUES (1)) AS one(n), LATERAL ({sql}) AS l")
            }
            Self::Derived => format!("SELECT * FROM ({sql}) AS d"),
            Self::Exists => format!("SELECT EXISTS ({sql}) AS found"),
            Self::Shadow => {
                let table = random.pick(&["accounts", "orders", "stock", "events", "currencies"]);
                let cte = format!("{table} AS (SELECT * FROM {table})");
                match sql.strip_prefix("WITH ") {
                    Some(rest) if !rest.starts_with("RECURSIVE") => format!("WITH {cte}, {rest}"),
                    Some(_) => sql.to_owned(),
                    None => format!("WITH {cte} {sql}"),
                }
            }
            Self::Comments | Self::Quotes | Self::UnicodeEscapes | Self::Capitals => {
                self.respell(sql, random)
            }
        }
    }

    fn respell(self, sql: &str, random: &mut Random) -> String {
        let tokens = tokens(sql);
        let mut out = String::new();
        for (index, token) in tokens.iter().enumerate() {
            let called = tokens.get(index + 1).is_some_and(|next| next.starts_with('('));
            let named = !called && is_known_name(token);
            match self {
                Self::Comments => {
                    if random.chance(12) {
                        out.push_str(random.pick(&[
                            "/**/",
                            "/* ; DELETE FROM accounts */",
                            "/* /* nested */ ' */",
                            "--'\n",
                            "-- /*\n",
                            "/*\"*/",
                        ]));
                    }
                    out.push_str(token);
                }
                Self::Quotes if named => out.push_str(&format!("\"{token}\"")),
                Self::UnicodeEscapes if named && random.chance(60) => {
                    let at = random.below(token.len());
                    let (head, tail) = token.split_at(at);
                    let mut letters = tail.chars();
                    let letter = letters.next().map_or(0, u32::from);
                    out.push_str(&format!("U&\"{head}\\{letter:04x}{}\"", letters.as_str()));
                }
                Self::Capitals if is_word(token) && random.chance(70) => {
                    out.push_str(&token.to_ascii_uppercase());
                }
                _ => out.push_str(token),
            }
        }
        out
    }
}

fn is_word(token: &str) -> bool {
    token.starts_with(|letter: char| letter.is_ascii_alphabetic() || letter == '_')
        && token.bytes().all(|byte| byte.is_ascii_alphanumeric() || byte == b'_')
}

/// A table or column of the grammar, unquoted.
fn is_known_name(token: &str) -> bool {
    TABLES
        .iter()
        .any(|table| table.name == token || table.columns.iter().any(|(name, ..)| *name == token))
}

/// Tokens and what stands between them; together they are the text.
fn tokens(sql: &str) -> Vec<&str> {
    let mut found = Vec::new();
    let mut rest = sql;
    while !rest.is_empty() {
        let (token, after) = rest.split_at(token_length(rest));
        found.push(token);
        rest = after;
    }
    found
}

fn token_length(text: &str) -> usize {
    let bytes = text.as_bytes();
    let until = |from: usize, stop: &dyn Fn(u8) -> bool| {
        bytes[from..].iter().position(|byte| stop(*byte)).map_or(bytes.len(), |at| from + at)
    };
    let quoted = |from: usize, escapes: bool| {
        let quote = bytes[from];
        let mut at = from + 1;
        while at < bytes.len() {
            match bytes[at] {
                b'\\' if escapes => at += 2,
                byte if byte == quote && bytes.get(at + 1) == Some(&quote) => at += 2,
                byte if byte == quote => return at + 1,
                _ => at += 1,
            }
        }
        bytes.len()
    };
    let is_name = |byte: u8| byte.is_ascii_alphanumeric() || byte == b'_' || byte >= 0x80;
    let length = match (bytes[0], bytes.get(1), bytes.get(2)) {
        (b'e' | b'E', Some(b'\''), _) => quoted(1, true),
        (b'b' | b'B' | b'x' | b'X' | b'n' | b'N', Some(b'\''), _) => quoted(1, false),
        (b'u' | b'U', Some(b'&'), Some(b'\'' | b'"')) => quoted(2, false),
        (b'\'' | b'"', ..) => quoted(0, false),
        (b'$', Some(next), _) if next.is_ascii_digit() => until(1, &|byte| !byte.is_ascii_digit()),
        (b'$', ..) => {
            // A dollar quote, as a whole.
            let tag = 1 + until(1, &|byte| byte == b'$');
            text.get(..tag)
                .and_then(|tag| text.get(tag.len()..)?.find(tag).map(|at| at + 2 * tag.len()))
                .unwrap_or(bytes.len())
        }
        (b'-', Some(b'-'), _) => until(0, &|byte| byte == b'\n'),
        (b'/', Some(b'*'), _) => text.find("*/").map_or(bytes.len(), |at| at + 2),
        (first, ..) if first.is_ascii_digit() => until(0, &|byte| !(is_name(byte) || byte == b'.')),
        (first, ..) if is_name(first) => until(0, &|byte| !is_name(byte)),
        (first, ..) if first.is_ascii_whitespace() => until(0, &|byte| !byte.is_ascii_whitespace()),
        (first, ..) if b"+-*/<>=~!@#%^&|`?:".contains(&first) => {
            until(0, &|byte| !b"+-*/<>=~!@#%^&|`?:".contains(&byte))
        }
        _ => 1,
    };
    (length.max(1)..=bytes.len()).find(|end| text.is_char_boundary(*end)).unwrap_or(bytes.len())
}

#[test]
fn a_text_is_all_of_its_tokens() {
    let sql = "SELECT a.\"b\"\"c\", 'it''s', E'\\'', $1::int, $x$ ' $x$, 1.5, j ->> 'k' /* c */ -- d\n FROM ü";
    assert_eq!(tokens(sql).concat(), sql);
    assert!(tokens(sql).contains(&"$x$ ' $x$") && tokens(sql).contains(&"'it''s'"));
}
