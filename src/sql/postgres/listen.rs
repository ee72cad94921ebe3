//! LISTEN, UNLISTEN, NOTIFY and `SELECT pg_notify(…)`: the channel gets its tenant's name. Layer 2.
//!
//! `pg_notify` is taken where it stands alone and its arguments are constants or parameters: then the
//! name can be made without evaluating anything twice. Elsewhere it is HR1005, as any function that is
//! not on the list.

use super::codes;
use super::env::Env;
use super::tree::Tree;
use crate::error::{Denial, DenialCode};
use crate::ids::QuotedIdent;
use crate::sql::Kind;
use crate::sql::channel::{Channels, MAX_NAME, MAX_PLAIN};

/// What is sent for such a statement.
pub struct Plan {
    /// What it does.
    pub kind: Kind,
    /// The text to send.
    pub text: String,
}

/// The caller's channels.
///
/// # Errors
/// HR2009 without a tenant.
pub fn channels(env: Env<'_>) -> Result<Channels, Denial> {
    let tenant = env.principal.tenant.as_ref();
    tenant.map(Channels::of).ok_or(Denial::new(DenialCode::TokenTenant))
}

/// The plan for a statement of these kinds; `None` for another.
///
/// # Errors
/// HR2009 without a tenant.
pub fn plan(statement: &Tree<'_>, env: Env<'_>) -> Result<Option<Plan>, Denial> {
    let named = statement.at("conditionname").text();
    let upstream = |name: &str| {
        channels(env)
            .map(|channels| format!("\"{}\"", channels.upstream(name).replace('"', "\"\"")))
    };
    let (kind, text) = match (statement.kind(), named) {
        ("ListenStmt", Some(name)) => {
            (Kind::Listen(name.to_owned()), format!("LISTEN {}", upstream(name)?))
        }
        ("UnlistenStmt", Some(name)) => (Kind::Notify, format!("UNLISTEN {}", upstream(name)?)),
        ("NotifyStmt", Some(name)) => {
            let payload =
                statement.at("payload").text().map(|payload| format!(", {}", literal(payload)));
            let text = format!("NOTIFY {}{}", upstream(name)?, payload.unwrap_or_default());
            (Kind::Notify, text)
        }
        ("SelectStmt", _) => match call(statement) {
            Some((item, channel, payload)) => {
                let text = select(item, channel, payload, &channels(env)?);
                (Kind::Notify, text)
            }
            None => return Ok(None),
        },
        _ => return Ok(None),
    };
    Ok(Some(Plan { kind, text }))
}

fn literal(text: &str) -> String {
    format!("'{}'", text.replace('\'', "''"))
}

/// An argument that costs nothing to evaluate twice.
pub enum Argument<'t> {
    /// A string.
    Text(&'t str),
    /// `$n`, with or without a cast to text.
    Parameter(i64),
}

/// The target, channel and payload of a `SELECT pg_notify(channel, payload)` and nothing else.
pub fn call<'t>(select: &'t Tree<'_>) -> Option<(&'t Tree<'t>, Argument<'t>, Argument<'t>)> {
    let bare = select.fields().iter().all(|(name, value)| match *name {
        "target_list" | "limit_option" => true,
        "op" => value.number() == Some(codes::SETOP_NONE),
        "group_distinct" | "all" => !value.truth(),
        _ => value.is_absent(),
    });
    let [item] = select.at("target_list").items() else { return None };
    let call = item.at("val");
    let [channel, payload] = call.at("args").items() else { return None };
    let plain = call.is("FuncCall")
        && call.fields().iter().all(|(name, value)| match *name {
            "funcname" | "args" | "funcformat" => true,
            _ => value.is_absent() || *value == Tree::Bool(false),
        })
        && item.at("indirection").is_absent();
    let name = call.at("funcname").name_parts()?;
    let is_notify = matches!(name.as_slice(), ["pg_notify"] | ["pg_catalog", "pg_notify"]);
    (bare && plain && is_notify).then_some((item, argument(channel)?, argument(payload)?))
}

fn argument<'t>(tree: &'t Tree<'_>) -> Option<Argument<'t>> {
    match tree.kind() {
        "A_Const" if tree.at("val").is("String") => {
            tree.at("val").at("").text().map(Argument::Text)
        }
        "ParamRef" => tree.at("number").number().map(Argument::Parameter),
        "TypeCast" => {
            let names = tree.at("type_name").at("names").name_parts()?;
            let to_text = matches!(names.as_slice(), ["text"] | ["pg_catalog", "text"])
                && tree.at("type_name").at("array_bounds").is_absent();
            if to_text { argument(tree.at("arg")) } else { None }
        }
        _ => None,
    }
}

fn select(item: &Tree<'_>, channel: Argument<'_>, payload: Argument<'_>, own: &Channels) -> String {
    let channel = match channel {
        Argument::Text("") => literal(""),
        Argument::Text(name) if name.len() <= MAX_NAME => literal(&own.upstream(name)),
        // The server refuses it as it would the client's.
        Argument::Text(_) => literal(&format!("{}{}", own.prefix(), "x".repeat(MAX_NAME))),
        Argument::Parameter(number) => {
            let (value, prefix) = (format!("${number}::text"), own.prefix());
            format!(
                "CASE WHEN octet_length({value}) BETWEEN 1 AND {MAX_PLAIN} THEN '{prefix}n' || {value} \
                 WHEN octet_length({value}) BETWEEN {} AND {MAX_NAME} THEN '{prefix}h' || \
                 substr(encode(sha256(convert_to({value}, 'UTF8')), 'hex'), 1, {MAX_PLAIN}) \
                 WHEN octet_length({value}) > {MAX_NAME} THEN '{prefix}' || repeat('x', {}) END",
                MAX_PLAIN + 1,
                MAX_NAME + 1,
            )
        }
    };
    let payload = match payload {
        Argument::Text(text) => literal(text),
        Argument::Parameter(number) => format!("${number}::text"),
    };
    let name = item.at("name").text().map(|name| format!(" AS {}", QuotedIdent(name)));
    format!("SELECT pg_catalog.pg_notify({channel}, {payload}){}", name.unwrap_or_default())
}
