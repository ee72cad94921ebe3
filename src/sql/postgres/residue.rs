//! What a statement leaves behind in the server's session when its transaction is over, and the two
//! kinds of statement that the front takes for itself: the beginning of a transaction, which may wait
//! for the first statement in it, and a new token. Layer 2.
//!
//! A front that lends one backend to many clients needs to know. What is not known to leave nothing
//! behind keeps the backend for its client.

use super::codes;
use super::tree::Tree;
use crate::endpoint::Secret;
use crate::sql::advisory;
use crate::sql::temporary::TemporaryChange;
use crate::sql::{Begin, Keeps, Kind, Residue, TokenChange, TokenScope};

/// The setting by which a session takes on another identity.
const TOKEN: &str = "hedgerow.token";
/// `set_config` with its schema or without.
const SET_CONFIG: &str = "set_config";

/// What a statement of this kind leaves behind.
pub fn residue(statement: &Tree<'_>, kind: &Kind) -> Residue {
    match kind {
        Kind::Prepare(_) => return Residue::Kept(Keeps::Prepared),
        Kind::Listen(_) => return Residue::Kept(Keeps::Listening),
        Kind::Temporary(change) => {
            return match **change {
                TemporaryChange::Made(_) => Residue::Kept(Keeps::Temporary),
                TemporaryChange::Dropped(_) | TemporaryChange::Kept => Residue::Nothing,
            };
        }
        Kind::Cursor
            if statement.is("DeclareCursorStmt")
                && statement
                    .at("options")
                    .number()
                    .is_none_or(|options| options & codes::CURSOR_HOLD != 0) =>
        {
            return Residue::Kept(Keeps::Cursor);
        }
        // `SET SESSION CHARACTERISTICS` adds to what an earlier one said.
        Kind::Transaction
            if statement.is("VariableSetStmt")
                && !statement.at("is_local").truth()
                && statement.at("name").text() != Some("TRANSACTION") =>
        {
            return Residue::Kept(Keeps::Setting);
        }
        Kind::Setting if statement.is("VariableSetStmt") => {
            return match (statement.at("kind").number(), statement.at("name").text()) {
                (Some(codes::RESET_ALL), _) => Residue::Nothing,
                _ if statement.at("is_local").truth() => Residue::Nothing,
                (_, Some(name)) => Residue::Setting(name.to_ascii_lowercase()),
                (_, None) => Residue::Kept(Keeps::Setting),
            };
        }
        _ => {}
    }
    if let Some(name) = lone_set_config(statement) {
        return Residue::Setting(name);
    }
    let mut kept = Residue::Nothing;
    let walked: Result<(), ()> = statement.walk(&mut |node| {
        if is_set_config(node) && !is_local(node) {
            kept = Residue::Kept(Keeps::Setting);
        } else if takes_lock(node) && kept == Residue::Nothing {
            kept = Residue::Kept(Keeps::Lock);
        }
        Ok(())
    });
    if walked.is_err() { Residue::Kept(Keeps::Setting) } else { kept }
}

fn is_set_config(node: &Tree<'_>) -> bool {
    node.is("FuncCall")
        && node.at("funcname").items().last().and_then(Tree::text) == Some(SET_CONFIG)
}

/// Whether a call may leave the session with an advisory lock.
fn takes_lock(node: &Tree<'_>) -> bool {
    let name = node.at("funcname").items().last().and_then(Tree::text);
    node.is("FuncCall") && name.is_some_and(|name| advisory::OF_SESSION.contains(&name))
}

/// Whether a `set_config` plainly ends with the transaction.
fn is_local(call: &Tree<'_>) -> bool {
    matches!(call.at("args").items(), [_, _, local] if local.at("val").at("").truth())
}

/// The setting of `SELECT set_config('name', 'value', false)`, as drivers send it when they connect:
/// nothing beside it, and constants only, so that it can be said again to another backend.
fn lone_set_config(statement: &Tree<'_>) -> Option<String> {
    if !statement.is("SelectStmt") {
        return None;
    }
    let [target] = statement.at("target_list").items() else { return None };
    let call = target.at("val");
    let [name, value, local] = call.at("args").items() else { return None };
    let constant = [name, value, local].iter().all(|argument| argument.is("A_Const"));
    let alone = statement.fields().iter().all(|(field, value)| {
        matches!(*field, "target_list" | "limit_option" | "op" | "all" | "group_distinct")
            || value.is_absent()
            || matches!(value, Tree::Bool(false))
    });
    (alone && constant && is_set_config(call) && !is_local(call))
        .then(|| name.at("val").at("").text().map(str::to_ascii_lowercase))
        .flatten()
}

/// Whether a BEGIN may be answered before the server has heard it: only one that cannot fail there.
pub fn begin(statement: &Tree<'_>) -> Begin {
    let harmless = |option: &Tree<'_>| {
        let argument = option.at("arg").at("val").at("");
        match option.at("defname").text() {
            Some("transaction_isolation") => matches!(
                argument.text(),
                Some("read committed" | "read uncommitted" | "repeatable read")
            ),
            Some("transaction_read_only") => argument.number() == Some(1),
            Some(_) | None => false,
        }
    };
    if statement.at("options").items().iter().all(harmless) {
        Begin::CannotFail
    } else {
        Begin::MayFail
    }
}

/// The change of identity that a text asks for: `SET [SESSION | LOCAL] hedgerow.token = '…'`,
/// `SET hedgerow.token TO DEFAULT`, `RESET hedgerow.token`, as its only statement. `None` for any
/// other text.
pub fn token_change(text: &str) -> Option<TokenChange> {
    let bytes = text.as_bytes();
    // Every statement comes through here: cheap for those that are none.
    let mentions = bytes.len() <= MAX_TOKEN_STATEMENT
        && bytes
            .windows(TOKEN_WORD.len())
            .take(MAX_LOOK)
            .any(|window| window.eq_ignore_ascii_case(TOKEN_WORD));
    if !mentions {
        return None;
    }
    let parsed = pg_raw_parse::parse(text).ok()?;
    let mut statements = parsed.stmts();
    let (statement, None) = (statements.next()?, statements.next()) else { return None };
    let mut print = String::new();
    let tree = Tree::of(statement, &mut print).ok()?;
    let is_token = tree.at("name").text().is_some_and(|name| name.eq_ignore_ascii_case(TOKEN));
    if !tree.is("VariableSetStmt") || !is_token {
        return None;
    }
    let scope = match tree.at("kind").number() {
        _ if tree.at("is_local").truth() => TokenScope::Transaction,
        Some(codes::RESET) => TokenScope::Reset,
        Some(_) | None => TokenScope::Session,
    };
    let token = match (tree.at("kind").number(), tree.at("args").items()) {
        (Some(codes::SET_DEFAULT | codes::RESET), _) => None,
        (Some(codes::SET_VALUE), [argument]) => {
            Some(Secret::new(argument.at("val").at("").text().unwrap_or_default()))
        }
        (Some(_) | None, _) => Some(Secret::new("")),
    };
    Some(TokenChange { scope, token })
}

/// What a text that changes the identity holds near its beginning.
const TOKEN_WORD: &[u8] = b"hedgerow.token";
/// Bytes from the beginning within which it must stand.
const MAX_LOOK: usize = 256;
/// Longest text that may change the identity: a token and room for comments.
const MAX_TOKEN_STATEMENT: usize = 24 << 10;

#[cfg(test)]
mod tests {
    use super::*;

    fn of(sql: &str) -> Residue {
        let parsed = pg_raw_parse::parse(sql).unwrap();
        let print = format!("{:?}", parsed.stmts().next().unwrap());
        let tree = Tree::read(&print).unwrap();
        let kind = match tree.kind() {
            "PrepareStmt" => Kind::Prepare("p".to_owned()),
            "DeclareCursorStmt" => Kind::Cursor,
            "VariableSetStmt" if tree.at("kind").number() == Some(codes::SET_MULTI) => {
                Kind::Transaction
            }
            "VariableSetStmt" => Kind::Setting,
            _ => Kind::Select,
        };
        residue(&tree, &kind)
    }

    #[test]
    fn what_stays_behind_is_known() {
        for nothing in [
            "SELECT 1",
            "SET LOCAL timezone = 'UTC'",
            "SET TRANSACTION READ ONLY",
            "RESET ALL",
            "DECLARE c CURSOR FOR SELECT 1",
            "SELECT set_config('jit', 'off', true)",
        ] {
            assert_eq!(of(nothing), Residue::Nothing, "{nothing}");
        }
        for (sql, name) in [
            ("SET TimeZone = 'UTC'", "timezone"),
            ("SET TIME ZONE 'UTC'", "timezone"),
            ("SET SESSION jit TO off", "jit"),
            ("RESET jit", "jit"),
            ("SET jit TO DEFAULT", "jit"),
            ("SELECT set_config('TimeZone', 'UTC', false)", "timezone"),
            ("SELECT pg_catalog.set_config('TimeZone', 'UTC', false) AS x", "timezone"),
        ] {
            assert_eq!(of(sql), Residue::Setting(name.to_owned()), "{sql}");
        }
        for (sql, keeps) in [
            ("PREPARE p AS SELECT 1", Keeps::Prepared),
            ("DECLARE c CURSOR WITH HOLD FOR SELECT 1", Keeps::Cursor),
            ("DECLARE c BINARY SCROLL CURSOR WITH HOLD FOR SELECT 1", Keeps::Cursor),
            ("SET SESSION CHARACTERISTICS AS TRANSACTION READ ONLY", Keeps::Setting),
            ("SELECT set_config('TimeZone', $1, false)", Keeps::Setting),
            ("SELECT set_config('TimeZone', 'UTC', $1)", Keeps::Setting),
            ("SELECT set_config('jit', 'off', false) WHERE false", Keeps::Setting),
            ("SELECT set_config('jit', 'off', false), 1", Keeps::Setting),
            ("SELECT x FROM (SELECT set_config('jit', 'off', false)) y(x)", Keeps::Setting),
            ("WITH w AS (SELECT 1) SELECT set_config('jit', 'off', false)", Keeps::Setting),
        ] {
            assert_eq!(of(sql), Residue::Kept(keeps), "{sql}");
        }
    }

    #[test]
    fn only_a_begin_that_cannot_fail_may_wait() {
        let of = |sql| {
            let parsed = pg_raw_parse::parse(sql).unwrap();
            let print = format!("{:?}", parsed.stmts().next().unwrap());
            begin(&Tree::read(&print).unwrap())
        };
        for sql in [
            "BEGIN",
            "START TRANSACTION",
            "BEGIN ISOLATION LEVEL REPEATABLE READ",
            "BEGIN ISOLATION LEVEL READ COMMITTED, READ ONLY",
        ] {
            assert_eq!(of(sql), Begin::CannotFail, "{sql}");
        }
        for sql in [
            "BEGIN ISOLATION LEVEL SERIALIZABLE",
            "BEGIN READ WRITE",
            "BEGIN READ ONLY, READ WRITE",
            "BEGIN DEFERRABLE",
        ] {
            assert_eq!(of(sql), Begin::MayFail, "{sql}");
        }
    }

    #[test]
    fn a_token_is_set_by_one_statement_alone() {
        let scope = |sql: &str| token_change(sql).map(|change| change.scope);
        let token =
            |sql: &str| token_change(sql).unwrap().token.map(|token| token.expose().to_owned());
        for sql in [
            "SET hedgerow.token = 'a.b.c'",
            "set session Hedgerow.Token to 'a.b.c';",
            "/* x */ SET hedgerow . token = 'a.b.c'".replace(" . ", ".").as_str(),
            "SET \"hedgerow.token\" = E'a.b\\x2ec'",
        ] {
            assert_eq!(scope(sql), Some(TokenScope::Session), "{sql}");
            assert_eq!(token(sql).as_deref(), Some("a.b.c"), "{sql}");
        }
        assert_eq!(scope("SET LOCAL hedgerow.token = 'x'"), Some(TokenScope::Transaction));
        for (sql, told) in [
            ("RESET hedgerow.token", TokenScope::Reset),
            ("SET hedgerow.token TO DEFAULT", TokenScope::Session),
        ] {
            assert_eq!(scope(sql), Some(told), "{sql}");
            assert_eq!(token(sql), None, "{sql}");
        }
        for sql in ["SET hedgerow.token = a, b", "SET hedgerow.token = $1"] {
            assert_eq!(token(sql).as_deref(), Some(""), "{sql}: refused as an empty token");
        }
        for sql in [
            "SELECT 'hedgerow.token'",
            "SET hedgerow.token = 'x'; SELECT 1",
            "SET hedgerow.tokens = 'x'",
            "SHOW hedgerow.token",
            "SELECT set_config('hedgerow.token', 'x', false)",
        ] {
            assert_eq!(scope(sql), None, "{sql}");
        }
    }
}
