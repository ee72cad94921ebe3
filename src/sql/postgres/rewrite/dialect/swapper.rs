//! The walk over the tokens that swaps clause by clause. Layer 2.

use sqlparser::keywords::Keyword;
use sqlparser::tokenizer::{Span, Token, TokenWithSpan, Word};

use super::{CURRENT_ROW, MARK, Swap};

/// Calls whose arguments carry words of their own.
const WORDED_CALLS: &[&str] = &[
    "json_exists",
    "json_objectagg",
    "json_query",
    "json_scalar",
    "json_serialize",
    "json_value",
    "xmlattributes",
    "xmlelement",
    "xmlexists",
    "xmlforest",
    "xmlpi",
];

/// The words within [`WORDED_CALLS`] that are no expressions.
const CALL_WORDS: &[&str] = &[
    "array",
    "conditional",
    "default",
    "empty",
    "error",
    "false",
    "keep",
    "keys",
    "null",
    "object",
    "omit",
    "on",
    "passing",
    "quotes",
    "ref",
    "scalar",
    "string",
    "true",
    "unconditional",
    "unique",
    "unknown",
    "value",
    "with",
    "without",
    "wrapper",
];

/// Words behind which an expression goes on.
const OPERATORS: &[Keyword] = &[
    Keyword::AND,
    Keyword::BETWEEN,
    Keyword::CASE,
    Keyword::DISTINCT,
    Keyword::ELSE,
    Keyword::ESCAPE,
    Keyword::FROM,
    Keyword::ILIKE,
    Keyword::IN,
    Keyword::IS,
    Keyword::LIKE,
    Keyword::NOT,
    Keyword::OR,
    Keyword::SIMILAR,
    Keyword::THEN,
    Keyword::TO,
    Keyword::WHEN,
];

/// Walks the tokens once, from left to right.
pub(super) struct Swapper<'t> {
    tokens: &'t [TokenWithSpan],
    at: usize,
    out: Vec<TokenWithSpan>,
    swaps: Vec<Swap>,
    /// The depth of the UPDATE's SET that is open.
    set: Option<usize>,
    /// Brackets open.
    depth: usize,
}

impl<'t> Swapper<'t> {
    pub(super) fn new(tokens: &'t [TokenWithSpan]) -> Self {
        let out = Vec::with_capacity(tokens.len());
        Self { tokens, at: 0, out, swaps: Vec::new(), set: None, depth: 0 }
    }

    /// The tokens for sqlparser, and what was swapped.
    pub(super) fn run(mut self) -> (Vec<TokenWithSpan>, Vec<Swap>) {
        while self.at < self.tokens.len() {
            self.step();
        }
        (self.out, self.swaps)
    }

    fn token(&self, ahead: usize) -> Option<&Token> {
        self.tokens.get(self.at + ahead).map(|token| &token.token)
    }

    fn is_word(&self, ahead: usize, spelled: &str) -> bool {
        is_word(self.token(ahead), spelled)
    }

    /// Whether the words stand from here on.
    fn are_words(&self, words: &[&str]) -> bool {
        words.iter().enumerate().all(|(ahead, word)| self.is_word(ahead, word))
    }

    fn copy(&mut self) {
        self.out.extend(self.tokens.get(self.at).cloned());
        self.at += 1;
    }

    fn push(&mut self, token: Token) {
        self.out.push(TokenWithSpan { token, span: Span::empty() });
    }

    fn push_word(&mut self, value: String, keyword: Keyword) {
        self.push(Token::Word(Word { value, quote_style: None, keyword }));
    }

    /// Pushes a marked word; `name` follows the mark.
    fn push_mark(&mut self, swap: Swap, name: &str) {
        let value = format!("{MARK}{}{MARK}{name}", self.swaps.len());
        self.swaps.push(swap);
        self.push_word(value, Keyword::NoKeyword);
    }

    /// Pushes `FOR UPDATE OF` a mark.
    fn push_lock(&mut self, swap: Swap) {
        self.push_word("FOR".to_owned(), Keyword::FOR);
        self.push_word("UPDATE".to_owned(), Keyword::UPDATE);
        self.push_word("OF".to_owned(), Keyword::OF);
        self.push_mark(swap, "");
    }

    /// The text of the next `count` tokens, which are left behind.
    fn take(&mut self, count: usize) -> String {
        let end = (self.at + count).min(self.tokens.len());
        let text = spell(self.tokens.get(self.at..end).unwrap_or_default());
        self.at = end;
        text
    }

    /// How far ahead the bracket closes that opens `ahead`; the closing one included.
    fn bracket(&self, ahead: usize) -> Option<usize> {
        let mut open = 0usize;
        for (index, token) in self.tokens.iter().enumerate().skip(self.at + ahead) {
            match token.token {
                Token::LParen | Token::LBracket => open += 1,
                Token::RParen | Token::RBracket => open = open.checked_sub(1)?,
                _ => {}
            }
            if open == 0 {
                return Some(index - self.at + 1);
            }
        }
        None
    }

    /// How many tokens a name ahead takes, its dots included.
    fn name(&self, ahead: usize) -> usize {
        let mut taken = 0;
        while matches!(self.token(ahead + taken), Some(Token::Word(_))) {
            taken += 1;
            if !matches!(self.token(ahead + taken), Some(Token::Period)) {
                return taken;
            }
            taken += 1;
        }
        taken
    }

    fn step(&mut self) {
        let Some(token) = self.token(0) else { return };
        let swapped = match token {
            Token::Word(word) if word.quote_style.is_none() => match word.keyword {
                Keyword::ONLY => self.only(),
                Keyword::FOR => self.row_lock(),
                Keyword::TRIM => self.trim(),
                Keyword::ROWS => self.rows_from(),
                Keyword::ON => self.conflict(),
                Keyword::CURRENT if self.is_word(1, "of") => self.current_of(),
                Keyword::CURRENT | Keyword::UNBOUNDED | Keyword::PRECEDING | Keyword::FOLLOWING => {
                    self.frame_end()
                }
                Keyword::CYCLE | Keyword::SEARCH => self.search_or_cycle(),
                Keyword::COLLATE => self.collate(),
                Keyword::SET => {
                    self.set = Some(self.depth);
                    self.copy();
                    self.subscript();
                    true
                }
                Keyword::FROM | Keyword::WHERE | Keyword::RETURNING | Keyword::WHEN => {
                    if self.set == Some(self.depth) {
                        self.set = None;
                    }
                    false
                }
                _ if is_worded_call(token) => self.worded_call(),
                _ => false,
            },
            Token::Comma if self.set == Some(self.depth) => {
                self.copy();
                self.subscript();
                true
            }
            Token::Mul => self.star(),
            Token::LParen | Token::LBracket => {
                self.depth += 1;
                false
            }
            Token::RParen | Token::RBracket => {
                self.depth = self.depth.saturating_sub(1);
                if self.set.is_some_and(|depth| depth > self.depth) {
                    self.set = None;
                }
                false
            }
            _ => false,
        };
        if !swapped {
            self.copy();
        }
    }

    /// `ONLY name`, `ONLY (name)`: the first part of the name is marked.
    fn only(&mut self) -> bool {
        let fetched = self.out.last().map(|token| &token.token);
        if is_word(fetched, "row") || is_word(fetched, "rows") {
            return false;
        }
        let bracketed = matches!(self.token(1), Some(Token::LParen));
        let first = if bracketed { 2 } else { 1 };
        let taken = self.name(first);
        let closed = !bracketed || matches!(self.token(first + taken), Some(Token::RParen));
        let Some(Token::Word(word)) = self.token(first) else { return false };
        if !closed {
            return false;
        }
        let name = Token::Word(word.clone()).to_string();
        let swap = Swap { before: "", text: "ONLY ".to_owned(), after: "" };
        self.push_mark(swap, &name);
        self.at += first + 1;
        (1..taken).for_each(|_| self.copy());
        self.at += usize::from(bracketed);
        true
    }

    /// `CURRENT OF cursor`
    fn current_of(&mut self) -> bool {
        let Some(Token::Word(_)) = self.token(2) else { return false };
        let text = self.take(3);
        self.push_mark(Swap { before: "", text, after: CURRENT_ROW }, CURRENT_ROW);
        true
    }

    /// `FOR NO KEY UPDATE`, `FOR KEY SHARE`, `OF` several names.
    fn row_lock(&mut self) -> bool {
        let strengths: [&[&str]; 4] = [
            &["for", "no", "key", "update"],
            &["for", "key", "share"],
            &["for", "update"],
            &["for", "share"],
        ];
        let Some(strength) = strengths.into_iter().find(|words| self.are_words(words)) else {
            return false;
        };
        let mut taken = strength.len();
        let mut names = 0;
        if self.is_word(taken, "of") {
            loop {
                let name = self.name(taken + 1);
                taken += 1 + name;
                names += 1;
                if name == 0 || !matches!(self.token(taken), Some(Token::Comma)) {
                    break;
                }
            }
        }
        if strength.len() == 2 && names < 2 {
            return false;
        }
        if self.is_word(taken, "nowait") {
            taken += 1;
        } else if self.is_word(taken, "skip") {
            taken += 2;
        }
        let text = self.take(taken);
        self.push_lock(Swap { before: "FOR UPDATE OF ", text, after: "" });
        true
    }

    /// `TRIM (BOTH FROM x)`: a call of one argument.
    fn trim(&mut self) -> bool {
        let side = ["both", "leading", "trailing"].iter().any(|side| self.is_word(2, side));
        if !(matches!(self.token(1), Some(Token::LParen)) && side && self.is_word(3, "from")) {
            return false;
        }
        let text = self.take(4) + " ";
        self.push_mark(Swap { before: "", text, after: "(" }, "");
        self.push(Token::LParen);
        self.depth += 1;
        true
    }

    /// `ROWS FROM (f(a) AS (x int), g(b))`: one call of all arguments.
    fn rows_from(&mut self) -> bool {
        if !(self.are_words(&["rows", "from"]) && matches!(self.token(2), Some(Token::LParen))) {
            return false;
        }
        let Some(end) = self.bracket(2).map(|length| self.at + length) else { return false };
        let start = self.at;
        let (written, swapped) = (self.out.len(), self.swaps.len());
        let mut opening = "ROWS FROM (".to_owned();
        self.at += 3;
        loop {
            let name = self.name(0);
            let call = self.at + name;
            if name == 0 || !matches!(self.token(name), Some(Token::LParen)) {
                break;
            }
            let Some(length) = self.bracket(name) else { break };
            opening.push_str(&self.take(name));
            opening.push('(');
            if self.out.len() == written {
                self.push_mark(Swap { before: "", text: opening, after: "(" }, "");
                self.push(Token::LParen);
            } else {
                self.push_mark(Swap { before: ", ", text: opening, after: ", " }, "");
                self.push(Token::Comma);
            }
            // The arguments, between the brackets.
            self.at = call + 1;
            let inside = self.depth;
            self.depth += 1;
            let last = call + length - name - 1;
            let empty = self.at == last;
            while self.at < last {
                self.step();
            }
            self.depth = inside;
            self.at = last + 1;
            let mut closing = ")".to_owned();
            if self.is_word(0, "as") && matches!(self.token(1), Some(Token::LParen)) {
                let Some(columns) = self.bracket(1) else { break };
                closing.push(' ');
                closing.push_str(&self.take(columns));
            }
            if !empty {
                self.push(Token::Comma);
            }
            if self.at + 1 == end {
                closing.push(')');
                let before = if empty { "" } else { ", " };
                self.push_mark(Swap { before, text: closing, after: ")" }, "");
                self.push(Token::RParen);
                self.at = end;
                return true;
            }
            if !matches!(self.token(0), Some(Token::Comma)) {
                break;
            }
            self.at += 1;
            closing.push_str(", ");
            opening = closing;
        }
        self.out.truncate(written);
        self.swaps.truncate(swapped);
        self.at = start;
        false
    }

    /// `ON CONFLICT (a, lower(b)) WHERE c DO`: how the index is found is PostgreSQL's business.
    fn conflict(&mut self) -> bool {
        if !(self.are_words(&["on", "conflict"]) && matches!(self.token(2), Some(Token::LParen))) {
            return false;
        }
        let Some(mut end) = self.bracket(2) else { return false };
        let plain =
            (3..end).step_by(2).all(|ahead| matches!(self.token(ahead), Some(Token::Word(_))));
        if self.is_word(end, "where") {
            while self.token(end).is_some() && !self.is_word(end, "do") {
                let open = matches!(self.token(end), Some(Token::LParen | Token::LBracket));
                end = if open { self.bracket(end).unwrap_or(end + 1) } else { end + 1 };
            }
        } else if plain {
            return false;
        }
        self.copy();
        self.copy();
        let text = self.take(end - 2);
        self.push(Token::LParen);
        self.push_mark(Swap { before: "(", text, after: ")" }, "");
        self.push(Token::RParen);
        true
    }

    /// `… EXCLUDE TIES` at the end of a window's frame.
    fn frame_end(&mut self) -> bool {
        let ends: [(&[&str], &'static str); 5] = [
            (&["current", "row"], ""),
            (&["unbounded", "preceding"], ""),
            (&["unbounded", "following"], ""),
            (&["preceding"], "::"),
            (&["following"], "::"),
        ];
        let Some((words, before)) = ends
            .into_iter()
            .find(|(words, _)| self.are_words(words) && self.is_word(words.len(), "exclude"))
        else {
            return false;
        };
        let excluded: usize =
            if self.is_word(words.len() + 1, "group") || self.is_word(words.len() + 1, "ties") {
                1
            } else {
                2
            };
        let mut text = self.take(words.len() + 1 + excluded);
        if !before.is_empty() {
            text.insert(0, ' ');
            self.push(Token::DoubleColon);
        }
        self.push_mark(Swap { before, text, after: " FOLLOWING" }, "");
        self.push_word("FOLLOWING".to_owned(), Keyword::FOLLOWING);
        true
    }

    /// `WITH … AS (…) SEARCH …`, `… CYCLE …`.
    fn search_or_cycle(&mut self) -> bool {
        if !matches!(self.out.last().map(|token| &token.token), Some(Token::RParen)) {
            return false;
        }
        let mut taken = 0;
        for (first, last) in [("search", "set"), ("cycle", "using")] {
            if !self.is_word(taken, first) {
                continue;
            }
            // An alias may have these names: then brackets come first, or the end.
            while !self.is_word(taken, last) {
                let plain = matches!(
                    self.token(taken),
                    Some(
                        Token::Word(_)
                            | Token::Comma
                            | Token::Number(..)
                            | Token::SingleQuotedString(_)
                            | Token::Minus
                    )
                );
                if !plain {
                    return false;
                }
                taken += 1;
            }
            taken += 2;
        }
        // Nothing may follow the bracket: the clause goes where a lock would stand before it.
        let text = format!(") {}", self.take(taken));
        self.out.pop();
        self.push_lock(Swap { before: "FOR UPDATE OF ", text, after: ")" });
        self.push(Token::RParen);
        true
    }

    /// `x COLLATE name`, which binds nearly as closely as a cast and stands where one may.
    fn collate(&mut self) -> bool {
        let name = self.name(1);
        if name == 0 {
            return false;
        }
        let text = format!(" {}", self.take(1 + name));
        self.push(Token::DoubleColon);
        self.push_mark(Swap { before: "::", text, after: "" }, "");
        true
    }

    /// `SET a[1].b = …`: the column's name, and the rest behind a mark.
    fn subscript(&mut self) {
        let mut taken = self.name(0);
        let named = taken;
        while matches!(self.token(taken), Some(Token::LBracket)) {
            let Some(end) = self.bracket(taken) else { return };
            taken = end;
            if matches!(self.token(taken), Some(Token::Period)) {
                taken += 1 + self.name(taken + 1);
            }
        }
        // What is swapped is met by nobody: constants only, no query and no column.
        let constant = |ahead: usize| match self.token(ahead) {
            Some(Token::Word(_)) => {
                matches!(self.token(ahead - 1), Some(Token::DoubleColon | Token::Period))
            }
            Some(Token::LParen | Token::RParen) | None => false,
            Some(_) => true,
        };
        if named == 0
            || taken == named
            || !(named..taken).all(constant)
            || !matches!(self.token(taken), Some(Token::Eq))
        {
            return;
        }
        self.copy();
        let text = self.take(taken - 1);
        self.push(Token::Period);
        self.push_mark(Swap { before: ".", text, after: "" }, "");
    }

    /// `(row).*`
    fn star(&mut self) -> bool {
        let [.., row, dot] = self.out.as_slice() else { return false };
        if !matches!((&row.token, &dot.token), (Token::RParen, Token::Period)) {
            return false;
        }
        self.at += 1;
        self.push_mark(Swap { before: "", text: "*".to_owned(), after: "" }, "");
        true
    }

    /// `json_value(a, '$.b' PASSING c AS d DEFAULT e ON EMPTY)`: its words become arguments.
    fn worded_call(&mut self) -> bool {
        let Some(end) = matches!(self.token(1), Some(Token::LParen))
            .then(|| self.bracket(1))
            .flatten()
            .map(|length| self.at + length)
        else {
            return false;
        };
        self.copy();
        self.copy();
        self.depth += 1;
        let mut first = true;
        while self.at + 1 < end {
            let run = self.words_ahead(end);
            if run > 0 {
                let last = self.at + run + 1 >= end;
                let before = if first { "" } else { ", " };
                let mut text = self.take(run);
                if !first {
                    text.insert(0, ' ');
                    self.push(Token::Comma);
                }
                if !last {
                    text.push(' ');
                }
                self.push_mark(Swap { before, text, after: if last { "" } else { ", " } }, "");
                if !last {
                    self.push(Token::Comma);
                }
            } else if matches!(self.token(0), Some(Token::LParen | Token::LBracket)) {
                // What brackets hold is an expression's.
                let inner = self.bracket(0).map_or(end, |length| self.at + length);
                while self.at < inner {
                    self.step();
                }
            } else {
                self.step();
            }
            first = false;
        }
        true
    }

    /// How many tokens from here on are words of a worded call, with the comma behind them. No
    /// column is among them: the words follow an expression, and end where the next one begins.
    fn words_ahead(&self, end: usize) -> usize {
        let before = self.out.last().map(|token| &token.token);
        if matches!(before, Some(Token::LParen)) {
            // `xmlelement(name x, …)`
            let named = self.is_word(0, "name") && matches!(self.token(1), Some(Token::Word(_)));
            let comma = usize::from(matches!(self.token(2), Some(Token::Comma)));
            return if named { 2 + comma } else { 0 };
        }
        let complete = match before {
            Some(Token::Word(word)) => !OPERATORS.contains(&word.keyword),
            Some(
                Token::RParen
                | Token::RBracket
                | Token::Number(..)
                | Token::SingleQuotedString(_)
                | Token::Placeholder(_),
            ) => true,
            _ => false,
        };
        let mut taken = 0;
        while complete && self.at + taken + 1 < end {
            let more = match self.token(taken) {
                Some(Token::Comma) if taken > 0 => 1,
                Some(Token::Colon) => 1,
                Some(Token::Word(word)) if word.quote_style.is_none() => {
                    match word.value.to_ascii_lowercase().as_str() {
                        "as" => 2,
                        "returning" => self.until_word(taken, end),
                        known if CALL_WORDS.contains(&known) => 1,
                        _ => 0,
                    }
                }
                _ => 0,
            };
            taken += more;
            let opens =
                matches!(self.token(taken.saturating_sub(1)), Some(Token::Comma | Token::Colon))
                    || ["passing", "default"]
                        .iter()
                        .any(|word| taken > 0 && self.is_word(taken - 1, word));
            if more == 0 || opens {
                break;
            }
        }
        taken
    }

    /// `RETURNING type`, up to the next word of the call.
    fn until_word(&self, from: usize, end: usize) -> usize {
        let mut taken = 1;
        while self.at + from + taken + 1 < end {
            let known = match self.token(from + taken) {
                Some(Token::Word(word)) => {
                    CALL_WORDS.contains(&word.value.to_ascii_lowercase().as_str())
                }
                Some(Token::Comma) => true,
                _ => false,
            };
            if known {
                break;
            }
            taken += 1;
        }
        taken
    }
}

fn is_word(token: Option<&Token>, spelled: &str) -> bool {
    match token {
        Some(Token::Word(word)) => {
            word.quote_style.is_none() && word.value.eq_ignore_ascii_case(spelled)
        }
        _ => false,
    }
}

fn spell(tokens: &[TokenWithSpan]) -> String {
    let words: Vec<String> = tokens.iter().map(|token| token.token.to_string()).collect();
    words.join(" ")
}

/// Whether a token names a call whose arguments carry words of their own.
pub(super) fn is_worded_call(token: &Token) -> bool {
    match token {
        Token::Word(word) if word.quote_style.is_none() => {
            WORDED_CALLS.iter().any(|call| word.value.eq_ignore_ascii_case(call))
        }
        _ => false,
    }
}
