//! PostgreSQL's SQL for a parser that does not know all of it. Layer 2.
//!
//! Some clauses sqlparser cannot read, or reads as something else (`FROM ONLY t` as a table named
//! `only`). Each such clause is swapped, token by token, for a word that sqlparser takes in that
//! place, and put back into the text that it prints. The word begins with NUL, which no text that
//! passed [`bounds`](super::super::bounds) holds: nobody can write one. Nothing rests on the swap
//! being right: what is sent is read by PostgreSQL's grammar and compared with what the client wrote.

mod swapper;

use sqlparser::ast::Ident;
use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::{Token, TokenWithSpan};

use swapper::{Swapper, is_worded_call};

/// What encloses the number of a swapped clause.
const MARK: char = '\0';

/// Stands for `CURRENT OF cursor` behind its mark.
const CURRENT_ROW: &str = "hedgerow_current_row";

/// Words that sqlparser reserves for other databases. PostgreSQL takes them as names, and prints
/// them without quotes.
const NAMES: &[Keyword] = &[
    Keyword::ANTI,
    Keyword::ASOF,
    Keyword::CLUSTER,
    Keyword::CONNECT,
    Keyword::CONVERT,
    Keyword::DISTRIBUTE,
    Keyword::DIV,
    Keyword::FORMAT,
    Keyword::GLOBAL,
    Keyword::MAP,
    Keyword::MATCH,
    Keyword::MATCH_CONDITION,
    Keyword::MATCH_RECOGNIZE,
    Keyword::MEMBER,
    Keyword::MINUS,
    Keyword::OPEN,
    Keyword::OUTPUT,
    Keyword::PIVOT,
    Keyword::PREWHERE,
    Keyword::PRIOR,
    Keyword::QUALIFY,
    Keyword::REGEXP,
    Keyword::RLIKE,
    Keyword::SAMPLE,
    Keyword::SEMI,
    Keyword::SETTINGS,
    Keyword::SORT,
    Keyword::START,
    Keyword::STRUCT,
    Keyword::TOP,
    Keyword::UNPIVOT,
    Keyword::VIEW,
    Keyword::XOR,
];

/// One swapped clause, as it is put back.
struct Swap {
    /// Printed before the mark, to be dropped.
    before: &'static str,
    /// What PostgreSQL is to read.
    text: String,
    /// Printed after the mark, to be dropped.
    after: &'static str,
}

/// What was swapped in a text.
#[derive(Default)]
pub struct Swaps(Vec<Swap>);

impl Swaps {
    /// The printed text with every clause in its place; `None` where a mark means none.
    pub fn put_back(&self, printed: &str) -> Option<String> {
        if self.0.is_empty() {
            return (!printed.contains(MARK)).then(|| printed.to_owned());
        }
        let mut text = String::with_capacity(printed.len() + 64);
        let mut rest = printed;
        while let Some((before, marked)) = rest.split_once(MARK) {
            let (number, after) = marked.split_once(MARK)?;
            let swap = self.0.get(number.parse::<usize>().ok()?)?;
            text.push_str(before);
            if text.ends_with(swap.before) {
                text.truncate(text.len() - swap.before.len());
            }
            text.push_str(&swap.text);
            rest = after.strip_prefix(swap.after).unwrap_or(after);
        }
        text.push_str(rest);
        Some(text)
    }
}

/// The mark in front of a name, `""` for none; and the name.
pub fn unmarked(ident: &Ident) -> (&str, Ident) {
    let split = ident.value.strip_prefix(MARK).and_then(|marked| marked.find(MARK));
    let Some(end) = split else { return ("", ident.clone()) };
    let (mark, name) = ident.value.split_at_checked(end + 2).unwrap_or((&ident.value, ""));
    let quoted = name.strip_prefix('"').and_then(|name| name.strip_suffix('"'));
    let name = match quoted {
        Some(name) => Ident::with_quote('"', name),
        None => Ident::new(name),
    };
    (mark, name)
}

/// A name behind a mark.
pub fn marked(mark: &str, name: &Ident) -> Ident {
    if mark.is_empty() { name.clone() } else { Ident::new(format!("{mark}{name}")) }
}

/// Whether a condition is `CURRENT OF cursor`.
pub fn is_current_row(condition: &sqlparser::ast::Expr) -> bool {
    match condition {
        sqlparser::ast::Expr::Identifier(word) => {
            word.value.starts_with(MARK) && word.value.ends_with(CURRENT_ROW)
        }
        _ => false,
    }
}

/// Whether an expression's text ends in a swapped `.*`.
pub fn ends_in_star(expression: &sqlparser::ast::Expr) -> bool {
    use sqlparser::ast::{AccessExpr, Expr};
    match expression {
        Expr::CompoundFieldAccess { access_chain, .. } => match access_chain.last() {
            Some(AccessExpr::Dot(Expr::Identifier(last))) => last.value.starts_with(MARK),
            _ => false,
        },
        Expr::CompoundIdentifier(parts) => {
            parts.last().is_some_and(|last| last.value.starts_with(MARK))
        }
        _ => false,
    }
}

/// Swaps what sqlparser cannot read.
pub fn swap(mut tokens: Vec<TokenWithSpan>) -> (Vec<TokenWithSpan>, Swaps) {
    let mut needed = false;
    for token in &mut tokens {
        if let Token::Word(word) = &mut token.token
            && word.quote_style.is_none()
            && word.keyword != Keyword::NoKeyword
        {
            needed |= calls_for_swap(word.keyword);
            if NAMES.contains(&word.keyword) {
                word.keyword = Keyword::NoKeyword;
            }
        } else {
            needed |=
                matches!(token.token, Token::LBracket | Token::Mul) || is_worded_call(&token.token);
        }
    }
    if !needed {
        return (tokens, Swaps::default());
    }
    tokens.retain(|token| !matches!(token.token, Token::Whitespace(_)));
    let (tokens, swaps) = Swapper::new(&tokens).run();
    (tokens, Swaps(swaps))
}

const fn calls_for_swap(keyword: Keyword) -> bool {
    matches!(
        keyword,
        Keyword::ONLY
            | Keyword::KEY
            | Keyword::OF
            | Keyword::TRIM
            | Keyword::ROWS
            | Keyword::CONFLICT
            | Keyword::EXCLUDE
            | Keyword::CYCLE
            | Keyword::SEARCH
            | Keyword::COLLATE
    )
}

#[cfg(test)]
mod tests {
    use super::super::parse;
    use crate::sql::postgres::understands;

    #[test]
    fn clauses_that_sqlparser_does_not_know_come_back_as_they_were() {
        for sql in [
            "SELECT 1 FROM ONLY t, ONLY a.\"b c\" x JOIN ONLY u ON true",
            "UPDATE ONLY a.t SET b = 1",
            "SELECT 1 FROM t FOR NO KEY UPDATE",
            "SELECT 1 FROM t, u FOR KEY SHARE OF t, u NOWAIT FOR UPDATE OF t SKIP LOCKED",
            "SELECT substring(a FROM 1 FOR update), \"trim\"(b) FROM t",
            "SELECT trim(a), trim(LEADING FROM b), trim(both 'x' FROM c) FROM t",
            "SELECT x FROM t qualify WHERE qualify.x = 1",
            "SELECT top, minus, t.format, settings AS sample FROM top.view start",
            "SELECT convert(a, 'a', 'b') FROM t",
            "INSERT INTO t (a) VALUES (1) ON CONFLICT (a) WHERE b IN (1, 2) DO NOTHING",
            "INSERT INTO t (a) VALUES (1) ON CONFLICT (lower(a) COLLATE \"C\", b) DO UPDATE SET a = 2",
            "SELECT sum(a) OVER (ORDER BY b ROWS BETWEEN UNBOUNDED PRECEDING AND CURRENT ROW EXCLUDE TIES) FROM t",
            "SELECT sum(a) OVER (ROWS BETWEEN 1 PRECEDING AND 1 + 1 FOLLOWING EXCLUDE CURRENT ROW) FROM t",
            "SELECT * FROM ROWS FROM (f(a, (SELECT 1)) AS (x int, \"y\" text[])) WITH ORDINALITY o(p, q)",
            "SELECT * FROM t, LATERAL ROWS FROM (f(t.a), a.g(), h(1) AS (z numeric(3, 1))) r",
            "SELECT * FROM ROWS FROM (f())",
            "SELECT a::varchar(10) COLLATE \"C\", b || c COLLATE s.\"x\" FROM t ORDER BY a COLLATE \"C\" DESC",
            "WITH RECURSIVE w AS (SELECT 1 AS a UNION ALL SELECT a + 1 FROM w) SEARCH DEPTH FIRST BY a SET s CYCLE a SET c USING p SELECT * FROM w",
            "WITH RECURSIVE w(a) AS (SELECT 1 UNION ALL SELECT a + 1 FROM w) CYCLE a SET c TO 1 DEFAULT 0 USING p SELECT * FROM w",
            "SELECT * FROM (SELECT 1) cycle, (SELECT 2) search",
            "UPDATE t SET a[1] = 2, b.c[2].d = a[3], e = 4 WHERE a[1] = 5",
            "SELECT (t.a).*, (f(1)).* FROM t",
            "SELECT json_value(a, '$.b' PASSING 1 AS c, (2 + d) AS e RETURNING int DEFAULT f ON EMPTY ERROR ON ERROR) FROM t",
            "SELECT json_exists(a, '$'), json_query(a, '$' WITH WRAPPER), xmlelement(name x, b), xmlpi(name y) FROM t",
            "SELECT json_value(value, name DEFAULT error ON ERROR), json_exists(passing, keys), xmlforest(a AS b, name) FROM t",
            "SELECT a FROM t WHERE (a = b) BETWEEN c AND d",
            "UPDATE t SET a = 1 WHERE CURRENT OF c RETURNING a",
            "DELETE FROM t AS x WHERE CURRENT OF \"C d\"",
        ] {
            assert_eq!(understands(sql), Ok(()), "{sql}");
        }
    }

    #[test]
    fn what_is_written_like_a_mark_is_none() {
        for sql in ["SELECT '\u{0}0\u{0}' FROM ONLY t", "SELECT \"\u{0}0\u{0}\" FROM t"] {
            let text = parse(sql).and_then(|parsed| parsed.text());
            assert!(text.is_err() || understands(sql).is_err(), "{text:?}");
        }
    }
}
