//! PostgreSQL's SQL: one statement's way from the client's text to a [`Guarded`]. Layer 2.
//!
//! 1. [`bounds`]: length, NUL, depth, before any parser sees the text.
//! 2. [`tree`]: PostgreSQL's own grammar (libpg_query) reads it.
//! 3. [`classify`]: statement kind, every node, relation, function, operator, setting: on a list or
//!    denied.
//! 4. libpg_query prints the statement canonically: comments, escapes and odd spellings are gone.
//! 5. [`rewrite`]: if it touches tenants' rows, sqlparser reads the canonical text and guards are
//!    put in.
//! 6. [`check`]: the text that would be sent is read again by PostgreSQL's grammar; every guard must
//!    stand where it holds, and without guards it must say what the client said.

mod bounds;
mod check;
mod classify;
mod closed;
mod codes;
mod command;
mod copy_in;
mod depth;
mod env;
mod expression;
mod forms;
pub mod functions;
mod implied;
mod listen;
mod lists;
mod literals;
mod masked;
mod monitor;
mod notation;
mod recorded;
mod residue;
mod rewrite;
mod schema_change;
mod scope;
mod search_path;
mod sizes;
mod staging;
mod temporary;
mod tokens;
pub mod totality;
mod tree;
mod truncate;

#[cfg(test)]
mod tests;

use std::cell::RefCell;
use std::sync::Arc;

use super::copy::CopyWay;
use super::{Decided, Fingerprint, Kind, Limits, Refusal};
use crate::catalog::Catalog;
use crate::claims::Principal;
use crate::error::{Denial, DenialCode};
use crate::ids::QuotedIdent;
use crate::policy::{Policy, Protection};
use crate::sql::account::{Account, Notes};
use crate::sql::temporary::Temporary;
use env::Env;
use totality::Parameter;
use tree::Tree;

pub use check::{Form, Guarded};
pub use expression::check_expression;
pub use literals::{Literal, Split, split};
pub use residue::token_change;
pub use rewrite::{ClaimKind, MARKER, Unspelled, parse_condition, spelled};
pub use search_path::is_unchanged_by_text as keeps_search_path;

/// Stack that [`bounds::MAX_DEPTH`] levels of either parser's recursion need at most, in a debug
/// build. A thread that has less left gets [`DECIDING_STACK`].
const STACK_NEEDED: usize = 6 << 20;
/// Stack of a decision on a thread that has too little of its own.
const DECIDING_STACK: usize = 64 << 20;

/// How many words may stand before the query of a PREPARE or DECLARE, at most.
const MAX_WORDS_BEFORE_QUERY: usize = 64;
/// How libpg_query ends a CREATE TABLE AS that copies no rows.
const NO_DATA: &str = " WITH NO DATA";

/// See [`crate::decide::decide`].
///
/// # Errors
/// The denial of the first statement that may not run.
pub fn decide(
    text: &str,
    policy: &Policy,
    catalog: &Catalog,
    principal: &Principal,
    limits: Limits,
) -> Result<Vec<Decided>, Denial> {
    decide_prepared(text, policy, catalog, principal, limits, &[])
}

/// See [`crate::decide::decide_prepared`].
///
/// # Errors
/// The denial of the first statement that may not run.
pub fn decide_prepared(
    text: &str,
    policy: &Policy,
    catalog: &Catalog,
    principal: &Principal,
    limits: Limits,
    declared: &[Parameter],
) -> Result<Vec<Decided>, Denial> {
    decide_in_session(text, policy, catalog, principal, limits, declared, Temporary::NONE)
        .map_err(|refusal| refusal.denial)
}

/// See [`crate::decide::decide_in_session`].
///
/// # Errors
/// The denial of the first statement that may not run, and what is known of that one.
pub fn decide_in_session(
    text: &str,
    policy: &Policy,
    catalog: &Catalog,
    principal: &Principal,
    limits: Limits,
    declared: &[Parameter],
    temporary: &Temporary,
) -> Result<Vec<Decided>, Refusal> {
    let whole = |denial| refused_whole(text, denial);
    bounds::check(text, limits).map_err(whole)?;
    let privileges = policy.privileges(principal).map_err(whole)?;
    let notes = Notes::default();
    let lenient = false;
    let parameters = declared;
    let env = Env { policy, catalog, principal, parameters, privileges, lenient, temporary, notes };
    stacker::maybe_grow(STACK_NEEDED, DECIDING_STACK, || statements(text, env))
}

/// The form of a text that was decided: what is sent for every text that differs from it in literals
/// only. `None` when the verdict could depend on a literal.
pub fn form(
    split: &Split<'_>,
    text: &str,
    decided: &[Decided],
    policy: &Policy,
    catalog: &Catalog,
    principal: &Principal,
    limits: Limits,
) -> Option<Form> {
    let privileges = policy.privileges(principal).ok()?;
    let env = Env {
        policy,
        catalog,
        principal,
        parameters: &[],
        privileges,
        lenient: false,
        temporary: Temporary::NONE,
        notes: Notes::default(),
    };
    forms::learn(split, text, decided, env, limits)
}

/// See [`crate::decide::explain`]. The accounts are those of the statements that were looked at; when
/// one is refused, its is the last.
pub fn explain(
    text: &str,
    policy: &Policy,
    catalog: &Catalog,
    principal: &Principal,
    limits: Limits,
) -> (Vec<Account>, Result<Vec<Decided>, Refusal>) {
    let mut accounts = Vec::new();
    let whole = |denial| refused_whole(text, denial);
    let verdict = bounds::check(text, limits).map_err(whole).and_then(|()| {
        stacker::maybe_grow(STACK_NEEDED, DECIDING_STACK, || {
            let privileges = policy.privileges(principal).map_err(whole)?;
            let parsed = parse_some(text).map_err(whole)?;
            let mut decided = Vec::new();
            let mut temporary = Temporary::default();
            let alone = (parsed.len() == 1).then_some(text);
            for statement in parsed.stmts() {
                let account = RefCell::new(Account::default());
                let notes = Notes::kept(&account);
                let env = Env {
                    policy,
                    catalog,
                    principal,
                    parameters: &[],
                    privileges,
                    lenient: false,
                    temporary: &temporary,
                    notes,
                };
                let verdict = decide_or_monitor(statement, alone, env);
                let relations = classify::named_relations(statement, env);
                accounts.push(Account { relations, ..account.take() });
                let verdict = verdict.map_err(|denial| refused(statement, denial, env))?;
                temporary.follow(&verdict.kind);
                decided.push(verdict);
            }
            Ok(decided)
        })
    });
    (accounts, verdict)
}

fn parse_some(text: &str) -> Result<pg_raw_parse::ParseResult, Denial> {
    let parsed = parse(text)?;
    if parsed.len() > bounds::MAX_STATEMENTS {
        return Err(Denial::of(DenialCode::StatementTooLarge, "statements"));
    }
    Ok(parsed)
}

/// The refusal of one statement. Only what is refused pays for it.
fn refused(statement: pg_raw_parse::Node<'_>, denial: Denial, env: Env<'_>) -> Refusal {
    let relations = classify::named_relations(statement, env);
    Refusal { denial, fingerprint: fingerprint_of(statement), relations }
}

/// The refusal of a text before any of its statements was looked at.
fn refused_whole(text: &str, denial: Denial) -> Refusal {
    Refusal { denial, fingerprint: fingerprint(text), relations: Vec::new() }
}

fn statements(text: &str, env: Env<'_>) -> Result<Vec<Decided>, Refusal> {
    let parsed = parse_some(text).map_err(|denial| refused_whole(text, denial))?;
    // What stands alone can be read from the client's own text.
    let alone = (parsed.len() == 1).then_some(text);
    if let Some(only) = alone {
        return parsed
            .stmts()
            .map(|statement| decide_or_refuse(statement, Some(only), env))
            .collect();
    }
    // A table that one statement makes is there for the next.
    let mut temporary = env.temporary.clone();
    let mut decided = Vec::with_capacity(parsed.len());
    for statement in parsed.stmts() {
        let one = decide_or_refuse(statement, None, Env { temporary: &temporary, ..env })?;
        temporary.follow(&one.kind);
        decided.push(one);
    }
    Ok(decided)
}

fn decide_or_refuse(
    statement: pg_raw_parse::Node<'_>,
    alone: Option<&str>,
    env: Env<'_>,
) -> Result<Decided, Refusal> {
    decide_or_monitor(statement, alone, env).map_err(|denial| refused(statement, denial, env))
}

/// The decision; where what refuses is only monitored, the decision without it, and what it was.
fn decide_or_monitor(
    statement: pg_raw_parse::Node<'_>,
    alone: Option<&str>,
    env: Env<'_>,
) -> Result<Decided, Denial> {
    match decide_one(statement, alone, env) {
        Err(denial) if env.policy.monitors() && monitor::is_monitored(denial.code) => {
            let lenient = Env { lenient: true, ..env };
            env.notes.take(|account| *account = Account::default());
            // What is refused even so is refused for a reason that is enforced.
            let decided = decide_one(statement, alone, lenient)?;
            Ok(Decided { would_deny: Some(denial), ..decided })
        }
        verdict => verdict,
    }
}

fn parse(text: &str) -> Result<pg_raw_parse::ParseResult, Denial> {
    pg_raw_parse::parse(text).map_err(|_| Denial::new(DenialCode::CannotParse))
}

fn decide_one(
    statement: pg_raw_parse::Node<'_>,
    alone: Option<&str>,
    env: Env<'_>,
) -> Result<Decided, Denial> {
    let mut print = String::new();
    let tree = Tree::of(statement, &mut print)?;
    let prepared = prepared_types(&tree);
    let env = match &prepared {
        Some(parameters) => Env { parameters, ..env },
        None => env,
    };
    if let Some(plan) = listen::plan(&tree, env)? {
        return decide_notify(statement, &tree, plan, env);
    }
    if copy_in::writes(&tree) {
        return decide_copy_in(statement, &tree, env);
    }
    if let Some(plan) = temporary::plan(&tree, || canonical(statement), env)? {
        return decide_temporary(statement, &tree, plan, env);
    }
    let class = classify::classify(&tree, env)?;
    let canonical = canonical(statement)?;
    let fingerprint = recorded::fingerprint(statement, &tree, &canonical);
    let (sealed, mut tenant_columns) = if class.rewritten {
        match bind(statement, &tree, &canonical, env) {
            Ok((text, columns)) => (check::seal(&tree, text, env), columns),
            Err(denial) => (Err(denial), Vec::new()),
        }
    } else {
        (check::seal(&tree, canonical.clone(), env), Vec::new())
    };
    let guarded = match (sealed, alone) {
        (Ok(guarded), _) => guarded,
        // What libpg_query prints is not always what it read: `(a = b) IN (c)` loses its brackets.
        (Err(denial), Some(own)) if denial.code == DenialCode::ParsersDisagree && !env.lenient => {
            let rewritten = match own_query(own, &tree).map(|own| rewrite::rewrite(own, env)) {
                Some(Ok(rewritten)) => rewritten,
                Some(Err(_)) | None => return Err(denial),
            };
            let before = before_query(statement, &canonical)?;
            if before.is_empty() {
                tenant_columns = rewritten.tenant_columns;
            }
            check::seal(&tree, format!("{before}{}", rewritten.text), env)?
        }
        (Err(denial), _) => monitor::as_it_is(&tree, &class, &canonical, denial, env)?,
    };
    let rewritten = guarded.text() != canonical;
    Ok(Decided {
        guarded,
        would_deny: None,
        residue: residue::residue(&tree, &class.kind),
        kind: class.kind,
        protected: class.protected,
        rewritten,
        relations: class.relations,
        tenant_columns,
        fingerprint,
    })
}

/// What stands in the canonical text before the query that a statement ends with.
fn before_query(statement: pg_raw_parse::Node<'_>, canonical: &str) -> Result<String, Denial> {
    use pg_raw_parse::Node;
    let query = match statement {
        Node::PrepareStmt(prepare) => prepare.query(),
        Node::DeclareCursorStmt(declare) => declare.query(),
        _ => return Ok(String::new()),
    };
    let query = self::canonical(query)?;
    let before = canonical.strip_suffix(query.as_str());
    before.map(str::to_owned).ok_or(Denial::new(DenialCode::ParsersDisagree))
}

/// The client's own text of the query that a statement is, or ends with.
fn own_query<'t>(text: &'t str, tree: &Tree<'_>) -> Option<&'t str> {
    let query = match tree.kind() {
        kind if scope::is_statement(kind) => return Some(text),
        "PrepareStmt" | "DeclareCursorStmt" => tree.at("query"),
        _ => return None,
    };
    // It begins at the first word from which on the text says what the query says.
    let starts = text.match_indices([' ', '\n', '\t', '(']).map(|(at, _)| at + 1);
    starts.take(MAX_WORDS_BEFORE_QUERY).find_map(|at| {
        let rest = text.get(at..)?;
        let parsed = parse(rest).ok()?;
        let (Some(statement), 1) = (parsed.stmts().next(), parsed.len()) else { return None };
        let mut print = String::new();
        let same = Tree::of(statement, &mut print).is_ok_and(|read| read == *query);
        same.then_some(rest)
    })
}

/// Temporary tables, which are the session's own.
fn decide_temporary(
    statement: pg_raw_parse::Node<'_>,
    tree: &Tree<'_>,
    plan: temporary::Plan,
    env: Env<'_>,
) -> Result<Decided, Denial> {
    let temporary::Plan { class, change, text } = plan;
    let canonical = canonical(statement)?;
    let kind = Kind::Temporary(Arc::new(change));
    let text = match text {
        Some(text) => text,
        None if class.rewritten => bind(statement, tree, &canonical, env)?.0,
        None => canonical.clone(),
    };
    let guarded = check::seal(tree, text, env)?;
    let rewritten = guarded.text() != canonical;
    Ok(Decided {
        guarded,
        would_deny: None,
        residue: residue::residue(tree, &kind),
        fingerprint: recorded::fingerprint(statement, tree, &canonical),
        kind,
        protected: class.protected,
        rewritten,
        relations: class.relations,
        tenant_columns: Vec::new(),
    })
}

/// LISTEN and NOTIFY, on the tenant's own channels.
fn decide_notify(
    statement: pg_raw_parse::Node<'_>,
    tree: &Tree<'_>,
    plan: listen::Plan,
    env: Env<'_>,
) -> Result<Decided, Denial> {
    let guarded = check::seal(tree, plan.text, env)?;
    Ok(Decided {
        guarded,
        residue: residue::residue(tree, &plan.kind),
        kind: plan.kind,
        protected: false,
        rewritten: true,
        relations: Vec::new(),
        would_deny: None,
        tenant_columns: Vec::new(),
        fingerprint: recorded::fingerprint(statement, tree, &canonical(statement)?),
    })
}

/// COPY … FROM STDIN: allowed where the INSERT of the same rows is.
fn decide_copy_in(
    statement: pg_raw_parse::Node<'_>,
    tree: &Tree<'_>,
    env: Env<'_>,
) -> Result<Decided, Denial> {
    let disagree = || Denial::new(DenialCode::ParsersDisagree);
    let condition = || {
        let canonical = canonical(statement)?;
        copy_in::condition(&canonical, tree).map(str::to_owned).ok_or_else(disagree)
    };
    let mut plan = copy_in::plan(tree, condition, env)?;
    let decided = match &plan.into {
        copy_in::Into::Staging(texts) => {
            let (decided, staged) = texts.decide(env)?;
            plan.copy.way = CopyWay::Staged(Box::new(staged));
            decided
        }
        copy_in::Into::Table { insert } => {
            let insert = parse(insert)?;
            let (Some(insert), 1) = (insert.stmts().next(), insert.len()) else {
                return Err(disagree());
            };
            let mut decided = decide_one(insert, None, env)?;
            let mut text = plan.text.clone();
            if !tree.at("where_clause").is_absent() {
                text.push_str(&condition()?);
            }
            decided.guarded = check::seal(tree, text, env)?;
            decided
        }
    };
    Ok(Decided {
        kind: Kind::CopyIn(Arc::new(plan.copy)),
        residue: residue::residue(tree, &Kind::Insert),
        rewritten: true,
        fingerprint: recorded::of(plan.text),
        ..decided
    })
}

/// The types that an SQL PREPARE declares.
fn prepared_types(tree: &Tree<'_>) -> Option<Vec<Parameter>> {
    let parameter = |type_name: &Tree<'_>| {
        let plain = type_name.at("array_bounds").is_absent() && type_name.at("typmods").is_absent();
        match type_name.at("names").name_parts().as_deref() {
            Some([name] | ["pg_catalog", name]) if plain => Parameter::of_name(name),
            Some(_) | None => Parameter::Foreign(0),
        }
    };
    tree.is("PrepareStmt").then(|| tree.at("argtypes").items().iter().map(parameter).collect())
}

/// The statement as libpg_query prints it.
fn canonical(statement: pg_raw_parse::Node<'_>) -> Result<String, Denial> {
    pg_raw_parse::deparse(statement)
        .map(|text| text.as_str().to_owned())
        .map_err(|_| Denial::new(DenialCode::CannotParse))
}

/// Rewrites the query that a statement is, or holds.
fn bind(
    statement: pg_raw_parse::Node<'_>,
    tree: &Tree<'_>,
    canonical: &str,
    env: Env<'_>,
) -> Result<(String, Vec<usize>), Denial> {
    use pg_raw_parse::Node;
    let inner = match statement {
        Node::ExplainStmt(explain) => explain.query(),
        Node::PrepareStmt(prepare) => prepare.query(),
        Node::DeclareCursorStmt(declare) => declare.query(),
        Node::CopyStmt(copy) => copy.query(),
        Node::CreateTableAsStmt(create) => create.query(),
        _ => {
            let rewritten = rewrite::rewrite(canonical, env)?;
            return Ok((rewritten.text, rewritten.tenant_columns));
        }
    };
    let disagree = || Denial::new(DenialCode::ParsersDisagree);
    if !tree.at("relation").is_absent() {
        let (_, options) = canonical.split_once(" TO STDOUT").ok_or_else(disagree)?;
        let query = rewrite::rewrite(&copied(tree, env)?, env)?.text;
        return Ok((format!("COPY ({query}) TO STDOUT{options}"), Vec::new()));
    }
    let inner_text = self::canonical(inner)?;
    let (before, after) = match tree.kind() {
        "CopyStmt" => {
            let (before, rest) = canonical.split_once('(').ok_or_else(disagree)?;
            (format!("{before}("), rest.strip_prefix(inner_text.as_str()).ok_or_else(disagree)?)
        }
        "CreateTableAsStmt" => {
            let (text, after) = match canonical.strip_suffix(NO_DATA) {
                Some(text) => (text.trim_end(), NO_DATA),
                None => (canonical, ""),
            };
            (text.strip_suffix(inner_text.trim_end()).ok_or_else(disagree)?.to_owned(), after)
        }
        _ => (canonical.strip_suffix(inner_text.as_str()).ok_or_else(disagree)?.to_owned(), ""),
    };
    let before = if tree.is("ExplainStmt") { explain_prefix(tree)? } else { before };
    let text = if tree.at("query").is("ExecuteStmt") {
        inner_text
    } else {
        rewrite::rewrite(&inner_text, env)?.text
    };
    Ok((format!("{before}{text}{after}"), Vec::new()))
}

/// The query that reads what `COPY table TO` would. That leaves out generated columns and rows of
/// children, which a query does not: where there are such, the client must write the query.
fn copied(tree: &Tree<'_>, env: Env<'_>) -> Result<String, Denial> {
    let relation = tree.at("relation");
    let name = relation.at("relname").text().ok_or(Denial::new(DenialCode::Internal))?;
    let needs_query = || Denial::of(DenialCode::Copy, name);
    let schema = relation.at("schemaname").text();
    let env::Resolved::Table(table) = env.resolve(None, schema, name)? else {
        return Err(needs_query());
    };
    let known = table.relation.ok_or_else(needs_query)?;
    let columns = tree.at("attlist").name_parts().ok_or_else(needs_query)?;
    let whole = known.kind == crate::catalog::RelationKind::Table
        && !env.has_children(&table.name)
        && (!columns.is_empty() || known.columns.iter().all(|column| !column.generated));
    if !whole {
        return Err(needs_query());
    }
    let list = match columns.as_slice() {
        [] => "*".to_owned(),
        columns => columns
            .iter()
            .map(|column| QuotedIdent(column).to_string())
            .collect::<Vec<_>>()
            .join(", "),
    };
    Ok(format!("SELECT {list} FROM {}", table.name))
}

/// `EXPLAIN (…, COSTS OFF) `: estimates are made of all tenants' rows.
fn explain_prefix(tree: &Tree<'_>) -> Result<String, Denial> {
    let mut prefix = String::from("EXPLAIN (");
    for option in tree.at("options").items() {
        let name = option.at("defname").text().ok_or(Denial::new(DenialCode::Internal))?;
        if name == "costs" {
            continue;
        }
        let argument = option.at("arg");
        let value = match argument.text() {
            Some(text) if text.chars().all(|c| c.is_ascii_alphanumeric()) => text.to_owned(),
            Some(_) => return Err(Denial::new(DenialCode::CannotParse)),
            None if argument.is_absent() => String::new(),
            None => match argument.at("boolval") {
                Tree::Bool(flag) => flag.to_string(),
                Tree::None | Tree::Number(_) | Tree::Text(_) | Tree::List(_) | Tree::Node(..) => {
                    return Err(Denial::new(DenialCode::CannotParse));
                }
            },
        };
        prefix.push_str(&format!("{name} {value}, "));
    }
    prefix.push_str("COSTS OFF) ");
    Ok(prefix)
}

/// Whether a column that the server names by its table's OID and its number holds the tenant of a
/// protected table: for the egress guard, which asks nobody who took part in the decision.
pub fn is_tenant_column(policy: &Policy, catalog: &Catalog, table: u32, number: i16) -> bool {
    let Some(relation) = catalog.by_oid.get(&table).and_then(|name| catalog.relation(name)) else {
        return false;
    };
    let rule = env::rule(policy, catalog, &relation.relation_name());
    match rule.as_deref().map(|rule| &rule.protection) {
        Some(Protection::Tenant { column, .. }) => {
            relation.column(column).is_some_and(|column| column.number == number)
        }
        Some(Protection::TenantThrough { .. } | Protection::Shared | Protection::Deny) | None => {
            false
        }
    }
}

/// The shape of a text; empty when PostgreSQL's grammar cannot read it. For several statements,
/// that of the first.
pub fn fingerprint(text: &str) -> Fingerprint {
    let limits = Limits { max_statement: usize::MAX };
    if bounds::check(text, limits).is_err() {
        return Fingerprint::default();
    }
    stacker::maybe_grow(STACK_NEEDED, DECIDING_STACK, || {
        let Ok(parsed) = parse(text) else { return Fingerprint::default() };
        parsed.stmts().next().map(fingerprint_of).unwrap_or_default()
    })
}

/// The parts of the name of the one relation that a text writes; `None` when it is not one.
pub fn written(text: &str) -> Option<Vec<String>> {
    bounds::check(text, Limits { max_statement: usize::MAX }).ok()?;
    stacker::maybe_grow(STACK_NEEDED, DECIDING_STACK, || recorded::written(text))
}

fn fingerprint_of(statement: pg_raw_parse::Node<'_>) -> Fingerprint {
    let mut print = String::new();
    let Ok(tree) = Tree::of(statement, &mut print) else { return Fingerprint::default() };
    match canonical(statement) {
        Ok(canonical) => recorded::fingerprint(statement, &tree, &canonical),
        Err(_) => recorded::by_words(&tree),
    }
}

/// How far the two parsers agree on a text, without policy: for the acceptance figure.
///
/// # Errors
/// HR1001 or HR1008.
pub fn understands(text: &str) -> Result<(), Denial> {
    bounds::check(text, Limits { max_statement: usize::MAX })?;
    stacker::maybe_grow(STACK_NEEDED, DECIDING_STACK, || {
        let parsed = parse(text)?;
        let alone = (parsed.len() == 1).then_some(text);
        for statement in parsed.stmts() {
            let mut print = String::new();
            let client = Tree::of(statement, &mut print)?;
            let canonical = canonical(statement)?;
            let says_the_same = |text: &str| -> Result<bool, Denial> {
                let sent = parse(text)?;
                let Some(statement) = sent.stmts().next() else { return Ok(false) };
                let mut print = String::new();
                Ok(client == Tree::of(statement, &mut print)?)
            };
            let same = if scope::is_statement(client.kind()) {
                says_the_same(&rewrite::parse(&canonical)?.text()?)?
                    || match alone {
                        Some(own) => says_the_same(&rewrite::parse(own)?.text()?)?,
                        None => false,
                    }
            } else {
                says_the_same(&canonical)?
            };
            if !same {
                return Err(Denial::new(DenialCode::ParsersDisagree));
            }
        }
        Ok(())
    })
}
