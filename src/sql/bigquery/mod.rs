//! GoogleSQL: one text's way to a [`GuardedQuery`]. Layer 2, pure.
//!
//! 0. [`plain`] says in plain words what sqlparser does not read.
//! 1. [`lexer`]: a lexer of our own must see the tokens that sqlparser sees.
//! 2. sqlparser reads the text; [`rewrite`] and [`write`] judge every node and bind every table.
//! 3. [`check`]: the text that would be sent is read again; every table in it must be one that the
//!    policy opens, each guarded one in the form that binds it, and, guards taken out, it must say
//!    what the client said.
//!
//! There is no catalog: names are what the policy says, and a column that does not exist is
//! BigQuery's error.

mod around;
mod arrays;
mod carry;
mod check;
mod definitions;
mod dialect;
mod expression;
mod factor;
mod functions;
mod guard;
mod judge;
mod level;
mod lexer;
pub mod names;
mod operands;
mod pipe;
mod plain;
mod pseudo;
mod rewrite;
mod write;

#[cfg(test)]
mod tests;

use std::ops::ControlFlow;
use std::sync::Arc;

use sha2::{Digest, Sha256};
use sqlparser::ast::{Expr, Statement, Value, VisitMut, VisitorMut};

use super::{Fingerprint, Limits};
use crate::claims::Principal;
use crate::error::{Denial, DenialCode};
use crate::policy::BigQueryPolicy;

pub use check::GuardedQuery;
pub use names::{Place, TableName};
pub use write::WRITE_OUTSIDE;

/// Most statements of a script.
const MAX_STATEMENTS: usize = 100;
/// Deepest nesting, as sqlparser counts it.
const MAX_DEPTH: usize = 60;
/// Most terms of one text that a tree may hold on one spine: deeper ones exhaust the stack.
const MAX_TERMS: usize = 4_000;
/// Most times that a text is rewritten.
const MAX_TRIES: usize = 8;
/// Stack of a decision on a thread that has less than [`STACK_NEEDED`].
const DECIDING_STACK: usize = 64 << 20;
const STACK_NEEDED: usize = 16 << 20;

/// What a statement does.
#[derive(Clone, Copy, Debug, PartialEq, Eq)]
pub enum StatementKind {
    /// SELECT, or a query in pipe syntax.
    Query,
    /// INSERT
    Insert,
    /// UPDATE
    Update,
    /// DELETE
    Delete,
    /// MERGE
    Merge,
    /// CREATE TABLE … AS
    CreateTable,
    /// CREATE VIEW
    CreateView,
    /// DROP TABLE, DROP VIEW
    Drop,
    /// DECLARE, SET
    Variable,
}

impl StatementKind {
    /// A word for records and metrics.
    pub const fn word(self) -> &'static str {
        match self {
            Self::Query => "select",
            Self::Insert => "insert",
            Self::Update => "update",
            Self::Delete => "delete",
            Self::Merge => "merge",
            Self::CreateTable => "create_table",
            Self::CreateView => "create_view",
            Self::Drop => "drop",
            Self::Variable => "variable",
        }
    }
}

/// A table that a text uses, and the rule that applied.
#[derive(Clone, Debug, PartialEq, Eq)]
pub struct TableUse {
    /// The table.
    pub table: TableName,
    /// The policy entry's name.
    pub rule: Arc<str>,
}

/// A decided text.
#[derive(Clone, Debug)]
pub struct Decided {
    /// What may be sent.
    pub guarded: GuardedQuery,
    /// What its statements do, in order.
    pub kinds: Vec<StatementKind>,
    /// Tables and rules, in order of first use.
    pub relations: Vec<TableUse>,
    /// Whether a table was guarded: then error texts are scrubbed.
    pub protected: bool,
    /// Whether the request must carry the tenant in its secure context.
    pub secure_context: bool,
    /// Whether the sent text differs from the client's in more than spelling.
    pub rewritten: bool,
    /// Shape, for the record.
    pub fingerprint: Fingerprint,
}

/// Decides a text: one statement or a script. All of it or nothing.
///
/// # Errors
/// The denial of the first statement that may not run.
pub fn decide(
    text: &str,
    policy: &BigQueryPolicy,
    principal: &Principal,
    place: &Place,
    limits: Limits,
) -> Result<Decided, Denial> {
    if text.len() > limits.max_statement {
        return Err(Denial::of(DenialCode::StatementTooLarge, "bytes"));
    }
    if principal.tenant.is_none() {
        return Err(Denial::new(DenialCode::TokenTenant));
    }
    let env = names::Env { policy, principal, place };
    stacker::maybe_grow(STACK_NEEDED, DECIDING_STACK, || decide_here(text, env))
}

fn decide_here(text: &str, env: names::Env<'_>) -> Result<Decided, Denial> {
    let text = &*plain::plain(text);
    lexer::gate(text)?;
    bounded(text)?;
    let plain = print(&parse(text)?);
    let fingerprint = fingerprint(&mut parse(text)?);
    let (rewriter, statements, kinds) = rewritten(text, env)?;
    let sent = print(&statements);
    let rewritten = sent != plain;
    let guarded = check::seal(text, sent, env)?;
    Ok(Decided {
        guarded,
        kinds,
        relations: rewriter.relations,
        protected: rewriter.protected,
        secure_context: rewriter.secure_context,
        rewritten,
        fingerprint,
    })
}

/// The statements, every table bound. A statement that needs carriers is rewritten once more, with them.
fn rewritten<'a>(
    text: &str,
    env: names::Env<'a>,
) -> Result<(rewrite::Rewriter<'a>, Vec<Statement>, Vec<StatementKind>), Denial> {
    let mut carry = carry::Carry::default();
    for _ in 0..MAX_TRIES {
        let mut statements = parse(text)?;
        let mut rewriter = rewrite::Rewriter::new(env, carry);
        let kinds = statements
            .iter_mut()
            .map(|statement| write::statement(&mut rewriter, statement))
            .collect::<Result<Vec<_>, _>>()?;
        match rewriter.wanted.take() {
            None => {
                dialect::explicit_aliases(&mut statements);
                return Ok((rewriter, statements, kinds));
            }
            Some(wanted) => carry = wanted,
        }
        if carry::names_a_carrier(text) {
            return Err(Denial::of(DenialCode::LeakPossible, carry::CARRIER));
        }
    }
    Err(Denial::of(DenialCode::LeakPossible, "conditions that may fail"))
}

/// Chains of operators that would make the tree too deep to walk.
fn bounded(text: &str) -> Result<(), Denial> {
    let upper = text.to_ascii_uppercase();
    let words = upper.split(|c: char| !c.is_ascii_alphanumeric());
    let chained = words.filter(|w| matches!(*w, "AND" | "OR" | "UNION" | "JOIN" | "NOT")).count();
    let signs = text.chars().filter(|c| "+-*/|<>=,".contains(*c)).count();
    if chained > MAX_TERMS || signs > MAX_TERMS * 8 {
        return Err(Denial::of(DenialCode::StatementTooLarge, "terms"));
    }
    Ok(())
}

/// Reads a script.
fn parse(text: &str) -> Result<Vec<Statement>, Denial> {
    let mut statements = dialect::parser(text)?
        .with_recursion_limit(MAX_DEPTH)
        .parse_statements()
        .map_err(|error| match error {
            sqlparser::parser::ParserError::RecursionLimitExceeded => {
                Denial::of(DenialCode::StatementTooLarge, "nesting")
            }
            _ => Denial::new(DenialCode::CannotParse),
        })?;
    dialect::whole_names(&mut statements);
    match statements.len() {
        0 => Err(Denial::new(DenialCode::CannotParse)),
        count if count > MAX_STATEMENTS => {
            Err(Denial::of(DenialCode::StatementTooLarge, "statements"))
        }
        _ => Ok(statements),
    }
}

fn print(statements: &[Statement]) -> String {
    statements.iter().map(ToString::to_string).collect::<Vec<_>>().join(";\n")
}

/// The text with its literals replaced, and a hash of that.
fn fingerprint(statements: &mut [Statement]) -> Fingerprint {
    let mut literals = Literals(0);
    for statement in statements.iter_mut() {
        let _ = VisitMut::visit(statement, &mut literals);
    }
    let normalized = print(statements);
    let hash = Sha256::digest(normalized.as_bytes());
    let hash = hash.iter().take(8).map(|byte| format!("{byte:02x}")).collect();
    Fingerprint { hash, normalized }
}

struct Literals(usize);

impl Literals {
    fn next(&mut self) -> Value {
        self.0 += 1;
        Value::Placeholder(format!("${}", self.0))
    }
}

impl VisitorMut for Literals {
    type Break = ();

    fn pre_visit_value(&mut self, value: &mut sqlparser::ast::ValueWithSpan) -> ControlFlow<()> {
        if !matches!(value.value, Value::Placeholder(_) | Value::Null | Value::Boolean(_)) {
            value.value = self.next();
        }
        ControlFlow::Continue(())
    }

    fn pre_visit_expr(&mut self, expr: &mut Expr) -> ControlFlow<()> {
        if let Expr::TypedString(typed) = expr {
            typed.value.value = self.next();
        }
        ControlFlow::Continue(())
    }
}
