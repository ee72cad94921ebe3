//! LISTEN, UNLISTEN, NOTIFY and `pg_notify` in the tree that would be sent: no channel but the tenant's.
//! Layer 2.

use super::super::codes;
use super::super::env::Env;
use super::super::tree::Tree;
use super::guards::string;
use super::verify::leak;
use crate::error::Denial;
use crate::sql::channel::Channels;

/// Whether a statement is of these kinds: such a one is sent for nothing else.
pub(super) fn concerns(statement: &Tree<'_>) -> bool {
    matches!(statement.kind(), "ListenStmt" | "NotifyStmt")
        || statement.is("UnlistenStmt") && !statement.at("conditionname").is_absent()
        || notified(statement).is_some()
}

fn own(env: Env<'_>) -> Option<Channels> {
    env.principal.tenant.as_ref().map(Channels::of)
}

/// The call in a `SELECT pg_notify(…)`.
fn notified<'t, 'a>(select: &'t Tree<'a>) -> Option<&'t Tree<'a>> {
    let [item] = select.at("target_list").items() else { return None };
    let call = item.at("val");
    let name = call.at("funcname").name_parts()?;
    let is_notify = call.is("FuncCall") && name.last() == Some(&"pg_notify");
    (select.is("SelectStmt") && is_notify).then_some(call)
}

/// Every channel that the statement can name begins with the tenant's prefix.
///
/// # Errors
/// HR1009.
pub(super) fn verify(statement: &Tree<'_>, env: Env<'_>) -> Result<(), Denial> {
    let own = own(env).ok_or_else(leak)?;
    let begins = |name: &str| name.is_empty() || name.starts_with(own.prefix());
    let holds = match notified(statement) {
        None => {
            statement.at("conditionname").text().is_some_and(|name| name.starts_with(own.prefix()))
        }
        Some(call) => {
            let alone =
                ["from_clause", "where_clause", "with_clause", "group_clause", "sort_clause"]
                    .iter()
                    .all(|clause| statement.at(clause).is_absent());
            let [channel, payload] = call.at("args").items() else { return Err(leak()) };
            alone && is_value(payload) && is_within(channel, &begins)
        }
    };
    if holds { Ok(()) } else { Err(leak()) }
}

/// A constant of the tenant's, or a CASE without ELSE whose every result begins with one.
fn is_within(channel: &Tree<'_>, begins: &dyn Fn(&str) -> bool) -> bool {
    if let Some(name) = string(channel) {
        return begins(name);
    }
    let whens = channel.at("args").items();
    channel.is("CaseExpr")
        && channel.at("arg").is_absent()
        && channel.at("defresult").is_absent()
        && !whens.is_empty()
        && whens.iter().all(|when| {
            let result = when.at("result");
            let joined = result.is("A_Expr")
                && result.at("kind").number() == Some(codes::OP)
                && result.at("name").name_parts().is_some_and(|name| name == ["||"]);
            joined
                && string(result.at("lexpr")).is_some_and(|name| !name.is_empty() && begins(name))
        })
}

fn is_value(tree: &Tree<'_>) -> bool {
    string(tree).is_some() || tree.is("ParamRef") || tree.is("TypeCast") && is_value(tree.at("arg"))
}

/// Whether what is sent does to the tenant's channel what the client's does to its own.
pub(super) fn same(client: &Tree<'_>, sent: &Tree<'_>, env: Env<'_>) -> bool {
    let Some(own) = own(env) else { return false };
    if let (Some(asked), Some(made)) = (notified(client), notified(sent)) {
        let ([channel, payload], [_, sent_payload]) =
            (asked.at("args").items(), made.at("args").items())
        else {
            return false;
        };
        let literal = string(channel).is_none_or(|name| {
            string(made.at("args").items().first().unwrap_or(&Tree::None)).is_some_and(|sent| {
                name.is_empty() && sent.is_empty() || name.len() > 63 || sent == own.upstream(name)
            })
        });
        let label = |select: &Tree<'_>| {
            select
                .at("target_list")
                .items()
                .first()
                .and_then(|item| item.at("name").text().map(str::to_owned))
        };
        return literal
            && bare_value(payload) == bare_value(sent_payload)
            && label(client) == label(sent);
    }
    let name = |statement: &Tree<'_>| statement.at("conditionname").text().map(str::to_owned);
    client.kind() == sent.kind()
        && name(client).is_some_and(|asked| name(sent) == Some(own.upstream(&asked)))
        && client.at("payload") == sent.at("payload")
}

/// A value without its casts to text.
fn bare_value<'t, 'a>(tree: &'t Tree<'a>) -> &'t Tree<'a> {
    if tree.is("TypeCast") { bare_value(tree.at("arg")) } else { tree }
}
