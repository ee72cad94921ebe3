//! GoogleSQL for sqlparser: its BigQuery dialect, and what that one does not read. Pure.
//!
//! - `ARRAY<STRUCT<x INT64>>[…]`: sqlparser takes `ARRAY<INT64>[…]` for two comparisons and has no
//!   reading for a nested type. Here it is an array behind the text of its type.
//! - `<<` and `>>`, and lambdas (`x -> x > 1`).
//! - Words that sqlparser takes for keywords where GoogleSQL has none: behind a point
//!   (`SAFE.SUBSTR`), and `WITH OFFSET AS offset`.
//! - `0xF001`, which sqlparser prints as a literal that GoogleSQL has not.
//! - `AS RANGE<DATE>`: the type is one word here.
//! - `a.b.f(x).y`, a field of what a routine returns: sqlparser takes the call for a field of `a.b`.
//!
//! What is read here must print as it was: [`super::check`] reads the printed text again.

use std::any::TypeId;
use std::ops::ControlFlow;

use sqlparser::ast::{
    AccessExpr, Expr, Ident, ObjectName, ObjectNamePart, Statement, TableFactor, VisitMut,
    VisitorMut,
};
use sqlparser::dialect::{BigQueryDialect, Dialect};
use sqlparser::keywords::Keyword;
use sqlparser::parser::{Parser, ParserError, ParserOptions};
use sqlparser::tokenizer::{Token, TokenWithSpan, Tokenizer, Word};

use crate::error::{Denial, DenialCode};
use crate::mutant;

/// The dialect. Behaves as sqlparser's own where it does not say otherwise: that one is asked.
#[derive(Clone, Copy, Debug, Default)]
pub struct GoogleSql;

/// Hands a question about the dialect to sqlparser's own.
macro_rules! as_bigquery {
    ($($question:ident)*) => {
        $(fn $question(&self) -> bool {
            BigQueryDialect.$question()
        })*
    };
}

impl Dialect for GoogleSql {
    fn dialect(&self) -> TypeId {
        TypeId::of::<BigQueryDialect>()
    }

    fn parse_statement(&self, parser: &mut Parser) -> Option<Result<Statement, ParserError>> {
        BigQueryDialect.parse_statement(parser)
    }

    fn parse_prefix(&self, parser: &mut Parser) -> Option<Result<Expr, ParserError>> {
        let [first, second] = parser.peek_tokens_ref();
        let typed = matches!(&first.token, Token::Word(word)
            if word.keyword == Keyword::ARRAY && word.quote_style.is_none());
        (typed && second.token == Token::Lt).then(|| typed_array(parser))
    }

    fn is_delimited_identifier_start(&self, ch: char) -> bool {
        BigQueryDialect.is_delimited_identifier_start(ch)
    }

    fn identifier_quote_style(&self, identifier: &str) -> Option<char> {
        BigQueryDialect.identifier_quote_style(identifier)
    }

    fn is_identifier_start(&self, ch: char) -> bool {
        BigQueryDialect.is_identifier_start(ch)
    }

    fn is_identifier_part(&self, ch: char) -> bool {
        BigQueryDialect.is_identifier_part(ch)
    }

    fn is_column_alias(&self, word: &Keyword, parser: &mut Parser) -> bool {
        BigQueryDialect.is_column_alias(word, parser)
    }

    fn supports_bitwise_shift_operators(&self) -> bool {
        true
    }

    fn supports_lambda_functions(&self) -> bool {
        true
    }

    as_bigquery! {
        supports_projection_trailing_commas
        supports_column_definition_trailing_commas
        supports_triple_quoted_string
        supports_window_function_null_treatment_arg
        supports_string_literal_backslash_escape
        supports_window_clause_named_window_reference
        supports_parenthesized_set_variables
        supports_select_wildcard_except
        require_interval_qualifier
        supports_struct_literal
        supports_select_expr_star
        supports_from_first_select
        supports_execute_immediate
        supports_table_versioning
        supports_group_by_expr
        supports_pipe_operator
        supports_create_table_multi_schema_info_sources
        supports_select_wildcard_replace
        supports_comma_separated_trim
    }
}

/// `ARRAY<type>[…]`.
fn typed_array(parser: &mut Parser) -> Result<Expr, ParserError> {
    let kind = parser.parse_data_type()?;
    parser.expect_token(&Token::LBracket)?;
    let value = parser.parse_array_expr(false)?;
    Ok(Expr::Prefixed { prefix: Ident::new(kind.to_string()), value: Box::new(value) })
}

/// Whether the prefix of an expression is the type of an array, as [`typed_array`] writes it: no word
/// of a text holds such a character.
pub fn is_typed_array(prefix: &Ident) -> bool {
    prefix.quote_style.is_none() && prefix.value.starts_with("ARRAY<")
}

/// The tokens of a text, with their places.
///
/// # Errors
/// HR1001.
pub fn tokens(text: &str) -> Result<Vec<TokenWithSpan>, Denial> {
    Tokenizer::new(&GoogleSql, text)
        .with_unescape(false)
        .tokenize_with_location()
        .map_err(|_| Denial::new(DenialCode::CannotParse))
}

/// A parser of GoogleSQL. Literals are kept as written: with escapes taken out and put in again,
/// sqlparser prints other text than it read.
///
/// # Errors
/// HR1001.
pub fn parser(text: &str) -> Result<Parser<'static>, Denial> {
    let mut tokens = joined_types(tokens(text)?);
    plain_words(&mut tokens);
    Ok(Parser::new(&GoogleSql)
        .with_options(ParserOptions::new().with_unescape(false).with_trailing_commas(true))
        .with_tokens_with_locations(tokens))
}

/// Takes from words what makes sqlparser see a keyword in them, where GoogleSQL has none.
fn plain_words(tokens: &mut [TokenWithSpan]) {
    let mut after_point = false;
    // Behind these, OFFSET is a name.
    let mut before_name = false;
    for token in tokens {
        let is_point = token.token == Token::Period;
        let mut name_follows = matches!(token.token, Token::Comma | Token::LParen);
        match &mut token.token {
            Token::Word(word) if word.quote_style.is_none() => {
                if after_point || before_name && word.keyword == Keyword::OFFSET {
                    word.keyword = Keyword::NoKeyword;
                }
                // `WITH OFFSET offset`: the second is a name.
                name_follows = matches!(
                    word.keyword,
                    Keyword::AS | Keyword::BY | Keyword::SELECT | Keyword::OFFSET
                );
            }
            Token::HexStringLiteral(digits) => {
                token.token = Token::Number(format!("0x{digits}"), false);
            }
            Token::Whitespace(_) => name_follows = before_name,
            _ => {}
        }
        after_point = is_point;
        before_name = name_follows;
    }
}

/// Makes one word of every `RANGE<DATE>` behind AS, where nothing but the type of a CAST can stand.
fn joined_types(tokens: Vec<TokenWithSpan>) -> Vec<TokenWithSpan> {
    if !tokens.iter().any(|token| is_word(&token.token, "RANGE")) {
        return tokens;
    }
    let mut joined = Vec::with_capacity(tokens.len());
    let mut rest = tokens.as_slice();
    let mut after_as = false;
    while let [first, behind @ ..] = rest {
        if after_as && let Some((value, behind)) = range_type(rest) {
            let word = Word { value, quote_style: None, keyword: Keyword::NoKeyword };
            joined.push(TokenWithSpan { token: Token::Word(word), span: first.span });
            rest = behind;
            after_as = false;
            continue;
        }
        if !matches!(first.token, Token::Whitespace(_)) {
            after_as = is_word(&first.token, "AS");
        }
        joined.push(first.clone());
        rest = behind;
    }
    joined
}

fn is_word(token: &Token, text: &str) -> bool {
    matches!(token, Token::Word(word)
        if word.quote_style.is_none() && word.value.eq_ignore_ascii_case(text))
}

/// The type of ranges at the beginning, and the tokens behind it.
fn range_type(tokens: &[TokenWithSpan]) -> Option<(String, &[TokenWithSpan])> {
    let mut rest = tokens;
    let mut next = || loop {
        let (first, behind) = rest.split_first()?;
        rest = behind;
        if !matches!(first.token, Token::Whitespace(_)) {
            return Some(&first.token);
        }
    };
    let (range, open, element, close) = (next()?, next()?, next()?, next()?);
    let element =
        ["DATE", "DATETIME", "TIMESTAMP"].into_iter().find(|kind| is_word(element, kind))?;
    let whole = is_word(range, "RANGE") && *open == Token::Lt && *close == Token::Gt;
    whole.then(|| (format!("RANGE<{element}>"), rest))
}

/// Gives every call the whole of its name.
///
/// SECURITY: of `a.b.f(x).y` sqlparser makes a field `f(x)` of `a.b`. A routine whose last name is that
/// of a function of the service's would pass for it.
pub fn whole_names<T: VisitMut>(part: &mut T) {
    if mutant::on("bq-call-name") {
        return;
    }
    let _ = VisitMut::visit(part, &mut WholeNames);
}

struct WholeNames;

impl VisitorMut for WholeNames {
    type Break = ();

    fn post_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        let Expr::CompoundFieldAccess { root, access_chain } = expr else {
            return ControlFlow::Continue(());
        };
        let Some(fields) = fields_before_a_call(root, access_chain) else {
            return ControlFlow::Continue(());
        };
        let path = std::mem::take(access_chain);
        let mut names: Vec<Ident> = names_of(root).unwrap_or_default().to_vec();
        for (at, access) in path.into_iter().enumerate() {
            match access {
                AccessExpr::Dot(Expr::Identifier(name)) if at < fields => names.push(name),
                AccessExpr::Dot(Expr::Function(mut function)) if at == fields => {
                    let last = std::mem::take(&mut function.name.0);
                    let path = names.drain(..).map(ObjectNamePart::Identifier);
                    function.name = ObjectName(path.chain(last).collect());
                    **root = Expr::Function(function);
                }
                other => access_chain.push(other),
            }
        }
        if access_chain.is_empty() {
            let call = std::mem::replace(root.as_mut(), Expr::Tuple(Vec::new()));
            *expr = call;
        }
        ControlFlow::Continue(())
    }
}

/// The names that an expression is made of, if it is made of nothing else.
const fn names_of(expr: &Expr) -> Option<&[Ident]> {
    match expr {
        Expr::Identifier(name) => Some(std::slice::from_ref(name)),
        Expr::CompoundIdentifier(names) => Some(names.as_slice()),
        _ => None,
    }
}

/// How many fields stand between a name and the first call behind it; `None` if something else does,
/// or nothing is called.
pub fn fields_before_a_call(root: &Expr, chain: &[AccessExpr]) -> Option<usize> {
    names_of(root)?;
    let field = |access: &AccessExpr| matches!(access, AccessExpr::Dot(Expr::Identifier(_)));
    let fields = chain.iter().take_while(|access| field(access)).count();
    matches!(chain.get(fields), Some(AccessExpr::Dot(Expr::Function(_)))).then_some(fields)
}

/// Writes every alias of FROM with AS and in quotes.
///
/// SECURITY: of `t HASH JOIN s` sqlparser makes an alias HASH, and the service a hint. What is sent must have
/// but one reading.
pub fn explicit_aliases<T: VisitMut>(part: &mut T) {
    if mutant::on("bq-alias") {
        return;
    }
    let _ = VisitMut::visit(part, &mut Aliases);
}

struct Aliases;

impl VisitorMut for Aliases {
    type Break = ();

    fn pre_visit_table_factor(&mut self, factor: &mut TableFactor) -> ControlFlow<()> {
        if let TableFactor::UNNEST { with_offset_alias: Some(offset), .. } = factor {
            offset.quote_style = Some('`');
        }
        let alias = match factor {
            TableFactor::Table { alias, .. }
            | TableFactor::Derived { alias, .. }
            | TableFactor::UNNEST { alias, .. }
            | TableFactor::Pivot { alias, .. }
            | TableFactor::Unpivot { alias, .. } => alias.as_mut(),
            // The rewriter lets no other with an alias through.
            _ => None,
        };
        if let Some(alias) = alias.filter(|alias| !alias.explicit) {
            alias.explicit = true;
            alias.name.quote_style = Some('`');
        }
        ControlFlow::Continue(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn what_is_read_prints_as_it_was() {
        for text in [
            "SELECT ARRAY<STRUCT<x INT64>> [(1)]",
            "SELECT ARRAY<STRUCT<a INT64, b ARRAY<STRING>>> []",
            "SELECT 1 << 2 >> 1",
            "SELECT SAFE.SUBSTR('hello', 1)",
            "SELECT x, offset FROM UNNEST([1]) AS x WITH OFFSET offset ORDER BY offset LIMIT 1 OFFSET 2",
            "SELECT a[OFFSET(0)], 0xF001",
            "SELECT ARRAY_FILTER(a, e -> e > 1)",
            "SELECT CAST('[2026-01-01, UNBOUNDED)' AS RANGE<DATE>), range < date, SAFE_CAST(x AS RANGE<TIMESTAMP>)",
        ] {
            let printed = |text: &str| {
                let statements = parser(text).unwrap().parse_statements().unwrap();
                assert_eq!(statements.len(), 1, "{text}");
                statements.first().unwrap().to_string()
            };
            assert_eq!(printed(text), text);
        }
        assert!(
            parser("SELECT 1 FROM UNNEST([1]) WITH OFFSET AS offset")
                .unwrap()
                .parse_query()
                .is_ok()
        );
    }

    #[test]
    fn a_call_behind_names_has_all_of_them() {
        for (text, name) in [
            ("a.f(x).y", Some("a.f")),
            ("a.b.f(x)[OFFSET(0)].g(1)", Some("a.b.f")),
            ("`a.b`.f(x).y.z", Some("`a.b`.f")),
            ("a.b.f(x)", Some("a.b.f")),
            ("(a).f(x)", None),
            ("a.b[OFFSET(0)].f(x)", None),
        ] {
            let mut expr = parser(text).unwrap().parse_expr().unwrap();
            whole_names(&mut expr);
            assert_eq!(expr.to_string(), text);
            let root = match &expr {
                Expr::CompoundFieldAccess { root, .. } => root.as_ref(),
                other => other,
            };
            let called = match root {
                Expr::Function(function) => Some(function.name.to_string()),
                _ => None,
            };
            assert_eq!(called.as_deref(), name, "{text}");
        }
    }

    #[test]
    fn only_the_type_of_an_array_is_a_prefix() {
        assert!(is_typed_array(&Ident::new("ARRAY<INT64>")));
        assert!(!is_typed_array(&Ident::new("_utf8")));
        assert!(!is_typed_array(&Ident::with_quote('`', "ARRAY<x>")));
        let text = "SELECT ARRAY<INT64>[(SELECT 1 FROM d.t)]";
        let Statement::Query(query) = parser(text).unwrap().parse_statement().unwrap() else {
            panic!("{text}");
        };
        // The query in the array is found.
        let mut relations = 0;
        let _ = sqlparser::ast::visit_relations(&query, |_| {
            relations += 1;
            std::ops::ControlFlow::<()>::Continue(())
        });
        assert_eq!(relations, 1);
    }
}
