//! What a guard looks like in PostgreSQL's tree. Layer 2.

use super::super::codes;
use super::super::env::{Env, Resolved, Table};
use super::super::tree::Tree;
use crate::claims::ClaimPath;
use crate::mutant;
use crate::policy::{PolicyExpression, Protection, TenantType};

/// Deepest chain of parents that a guard may climb.
const MAX_PARENTS: u8 = 4;

/// The conjuncts of a condition, nested ANDs taken apart; none for an absent one.
pub(super) fn conjuncts<'t, 'a>(condition: &'t Tree<'a>) -> Vec<&'t Tree<'a>> {
    let mut found = Vec::new();
    collect(condition, &mut found);
    found
}

fn collect<'t, 'a>(condition: &'t Tree<'a>, found: &mut Vec<&'t Tree<'a>>) {
    let and = condition.at("boolop").number() == Some(codes::AND);
    if condition.is("BoolExpr") && (and || mutant::on("check-or")) {
        condition.at("args").items().iter().for_each(|part| collect(part, found));
    } else if !condition.is_absent() {
        found.push(condition);
    }
}

/// The parts of a column reference, none of them `*`.
pub(super) fn column<'t>(tree: &'t Tree<'_>) -> Option<Vec<&'t str>> {
    tree.is("ColumnRef").then(|| tree.at("fields").name_parts()).flatten()
}

fn is_column(tree: &Tree<'_>, qualifier: &str, name: &str) -> bool {
    column(tree).is_some_and(|parts| {
        parts == [qualifier, name] || mutant::on("check-qualifier") && parts.last() == Some(&name)
    })
}

/// The text of a string constant.
pub(super) fn string<'t>(tree: &'t Tree<'_>) -> Option<&'t str> {
    let value = tree.at("val");
    (tree.is("A_Const") && value.is("String")).then(|| value.at("").text()).flatten()
}

/// The last part of a cast's type, when it is a plain type of `pg_catalog`.
pub(super) fn cast_type<'t>(tree: &'t Tree<'_>) -> Option<&'t str> {
    let type_name = tree.at("type_name");
    let plain = type_name.at("typmods").is_absent() && type_name.at("array_bounds").is_absent();
    let parts = tree.is("TypeCast").then(|| type_name.at("names").name_parts()).flatten()?;
    match parts.as_slice() {
        [name] | ["pg_catalog", name] if plain => Some(name),
        _ => None,
    }
}

/// Whether a tree is the tenant's literal in a type of the policy's kind.
pub(super) fn is_tenant_literal(tree: &Tree<'_>, tenant_type: TenantType, env: Env<'_>) -> bool {
    let kind_fits = match (tenant_type, cast_type(tree)) {
        (TenantType::Uuid, Some("uuid"))
        | (TenantType::Text, Some("text" | "bpchar"))
        | (TenantType::Int, Some("int2" | "int4" | "int8")) => true,
        (TenantType::Uuid | TenantType::Text | TenantType::Int, _) => false,
    };
    let says =
        env.tenant_text(tenant_type).is_ok_and(|own| string(tree.at("arg")) == Some(own.as_str()));
    kind_fits && (says || mutant::on("check-literal"))
}

fn is_equality<'t, 'a>(tree: &'t Tree<'a>) -> Option<(&'t Tree<'a>, &'t Tree<'a>)> {
    let equality = tree.is("A_Expr")
        && tree.at("kind").number() == Some(codes::OP)
        && tree.at("name").name_parts().is_some_and(|name| name == ["="]);
    let any = tree.is("A_Expr") && mutant::on("check-operator");
    (equality || any).then(|| (tree.at("lexpr"), tree.at("rexpr")))
}

/// Whether the conjunct says that a row of `table`, visible under `qualifier`, is the tenant's.
pub(super) fn is_tenant_guard(
    conjunct: &Tree<'_>,
    table: &Table<'_>,
    qualifier: &str,
    env: Env<'_>,
) -> bool {
    is_guard_at(conjunct, table, qualifier, env, 0)
}

fn is_guard_at(
    conjunct: &Tree<'_>,
    table: &Table<'_>,
    qualifier: &str,
    env: Env<'_>,
    depth: u8,
) -> bool {
    match &table.policy.protection {
        Protection::Tenant { column, tenant_type } => {
            is_equality(conjunct).is_some_and(|(left, right)| {
                is_column(left, qualifier, column) && is_tenant_literal(right, *tenant_type, env)
            })
        }
        Protection::TenantThrough { column, .. } => {
            let conjunct = if is_true_test(conjunct) { conjunct.at("arg") } else { conjunct };
            conjunct.is("SubLink")
                && conjunct.at("sub_link_type").number() == Some(codes::ANY_SUBLINK)
                && conjunct.at("oper_name").is_absent()
                && is_column(conjunct.at("testexpr"), qualifier, column)
                && selects_parents(conjunct.at("subselect"), table, env, depth)
        }
        Protection::Shared | Protection::Deny => false,
    }
}

/// `… IS TRUE`
pub(super) fn is_true_test(tree: &Tree<'_>) -> bool {
    tree.is("BooleanTest") && tree.at("booltesttype").number() == Some(0)
}

/// `SELECT p.key FROM schema.parent AS p WHERE <the guards of parent>` and nothing else.
pub(super) fn selects_parents(
    select: &Tree<'_>,
    table: &Table<'_>,
    env: Env<'_>,
    depth: u8,
) -> bool {
    let Protection::TenantThrough { parent, parent_column, .. } = &table.policy.protection else {
        return false;
    };
    match env.resolve(None, Some(&parent.schema), &parent.name) {
        Ok(Resolved::Table(parent)) => selects_keys(select, &parent, parent_column, env, depth),
        Ok(Resolved::Catalog { .. }) | Err(_) => false,
    }
}

/// `SELECT p.key FROM schema.table AS p WHERE <the guards of table>` and nothing else.
pub(super) fn selects_keys(
    select: &Tree<'_>,
    table: &Table<'_>,
    key: &str,
    env: Env<'_>,
    depth: u8,
) -> bool {
    let bare = select.fields().iter().all(|(name, value)| match *name {
        "target_list" | "from_clause" | "where_clause" => true,
        "group_distinct" | "all" => !value.truth(),
        "limit_option" | "op" => value.number() == Some(0),
        _ => value.is_absent(),
    });
    let ([item], [relation]) = (select.at("target_list").items(), select.at("from_clause").items())
    else {
        return false;
    };
    let alias = relation.at("alias");
    let Some(qualifier) = alias.at("aliasname").text() else { return false };
    bare && depth < MAX_PARENTS
        && select.is("SelectStmt")
        && relation.is("RangeVar")
        && relation.at("inh").truth()
        && alias.at("colnames").is_absent()
        && relation.at("schemaname").text() == Some(table.name.schema.as_str())
        && relation.at("relname").text() == Some(table.name.name.as_str())
        && is_column(item.at("val"), qualifier, key)
        && (mutant::on("check-parents")
            || guarded_by(&conjuncts(select.at("where_clause")), table, qualifier, env, depth + 1))
}

/// Whether the conjuncts hold every guard of the table: the tenant's, and the policy's own
/// condition behind it.
pub(super) fn are_guarded(
    conjuncts: &[&Tree<'_>],
    table: &Table<'_>,
    qualifier: &str,
    env: Env<'_>,
) -> bool {
    guarded_by(conjuncts, table, qualifier, env, 0)
}

fn guarded_by(
    conjuncts: &[&Tree<'_>],
    table: &Table<'_>,
    qualifier: &str,
    env: Env<'_>,
    depth: u8,
) -> bool {
    let tenant = match table.policy.protection {
        Protection::Tenant { .. } | Protection::TenantThrough { .. } => {
            conjuncts.iter().any(|conjunct| is_guard_at(conjunct, table, qualifier, env, depth))
        }
        Protection::Shared => true,
        Protection::Deny => false,
    };
    let condition = match &table.policy.condition {
        None => true,
        Some(condition) => conjuncts
            .iter()
            .any(|conjunct| is_condition(conjunct, condition, table, qualifier, env, depth)),
    };
    tenant && (condition || mutant::on("check-condition"))
}

/// Whether the conjunct is the policy's condition, shielded by the tenant's guard where there is
/// one.
pub(super) fn is_policy_condition(
    conjunct: &Tree<'_>,
    table: &Table<'_>,
    qualifier: &str,
    env: Env<'_>,
) -> bool {
    table
        .policy
        .condition
        .as_ref()
        .is_some_and(|condition| is_condition(conjunct, condition, table, qualifier, env, 0))
}

fn is_condition(
    conjunct: &Tree<'_>,
    condition: &PolicyExpression,
    table: &Table<'_>,
    qualifier: &str,
    env: Env<'_>,
    depth: u8,
) -> bool {
    let stated = match table.policy.protection {
        Protection::Shared => conjunct,
        Protection::Tenant { .. } | Protection::TenantThrough { .. } | Protection::Deny => {
            match shielded(conjunct) {
                Some((guard, inner)) if is_guard_at(guard, table, qualifier, env, depth) => inner,
                Some(_) | None => return false,
            }
        }
    };
    says_expression(condition, stated, qualifier, env)
}

/// Whether a tree is the operator's expression, with columns qualified and claims bound.
pub(super) fn says_expression(
    expression: &PolicyExpression,
    sent: &Tree<'_>,
    qualifier: &str,
    env: Env<'_>,
) -> bool {
    let Ok(parsed) = pg_raw_parse::parse(&format!("SELECT ({}\n)", expression.text)) else {
        return false;
    };
    let Some(statement) = parsed.stmts().next() else { return false };
    let mut print = String::new();
    Tree::of(statement, &mut print).is_ok_and(|written| match written.at("target_list").items() {
        [item] => says(item.at("val"), sent, qualifier, env),
        _ => false,
    })
}

/// Whether `sent` is what the operator wrote, with columns qualified and claims bound.
fn says(written: &Tree<'_>, sent: &Tree<'_>, qualifier: &str, env: Env<'_>) -> bool {
    if let Some(path) = claim_path(written) {
        return is_claim(sent, path, env);
    }
    if let Some([name]) = column(written).as_deref() {
        return is_column(sent, qualifier, name);
    }
    match (written, sent) {
        (Tree::Node(kind, fields), Tree::Node(other, others)) => {
            kind == other
                && fields.len() == others.len()
                && fields.iter().zip(others).all(|((name, value), (other, sent))| {
                    name == other && says(value, sent, qualifier, env)
                })
        }
        (Tree::List(items), Tree::List(others)) => {
            items.len() == others.len()
                && items.iter().zip(others).all(|(item, sent)| says(item, sent, qualifier, env))
        }
        (written, sent) => written == sent,
    }
}

fn claim_path<'t>(call: &'t Tree<'_>) -> Option<&'t str> {
    let claim = call.is("FuncCall")
        && call.at("funcname").name_parts().is_some_and(|name| name == ["claim"]);
    match call.at("args").items() {
        [path] if claim => string(path),
        _ => None,
    }
}

fn is_claim(sent: &Tree<'_>, path: &str, env: Env<'_>) -> bool {
    let Some(path) = ClaimPath::parse(path) else { return false };
    let argument = sent.at("arg");
    match env.principal.claims.at(&path) {
        Some(serde_json::Value::String(text)) => {
            cast_type(sent) == Some("text") && string(argument) == Some(text)
        }
        Some(serde_json::Value::Number(number)) => {
            cast_type(sent) == Some("numeric")
                && string(argument) == Some(number.to_string().as_str())
        }
        Some(serde_json::Value::Bool(flag)) => *sent.at("val").at("") == Tree::Bool(*flag),
        None | Some(serde_json::Value::Null) => {
            cast_type(sent) == Some("text") && argument.at("isnull").truth()
        }
        Some(serde_json::Value::Array(_) | serde_json::Value::Object(_)) => false,
    }
}

/// Takes `CASE WHEN condition THEN inner ELSE false END` apart.
pub(super) fn shielded<'t, 'a>(tree: &'t Tree<'a>) -> Option<(&'t Tree<'a>, &'t Tree<'a>)> {
    let shield = tree.is("CaseExpr")
        && tree.at("arg").is_absent()
        && (*tree.at("defresult").at("val").at("") == Tree::Bool(false)
            || mutant::on("check-else"));
    match tree.at("args").items() {
        [when] if shield => Some((when.at("expr"), when.at("result"))),
        _ => None,
    }
}

/// `guard OR qualifier.witness IS NULL`: the guard of a relation that an outer join may leave out.
pub(super) fn null_extended<'t, 'a>(tree: &'t Tree<'a>) -> Option<(&'t Tree<'a>, &'t Tree<'a>)> {
    let either = tree.is("BoolExpr") && tree.at("boolop").number() == Some(codes::OR);
    match tree.at("args").items() {
        [guard, absent]
            if either && absent.is("NullTest") && absent.at("nulltesttype").number() == Some(0) =>
        {
            Some((guard, absent.at("arg")))
        }
        _ => None,
    }
}

/// `count(*) >= 0`: true, and an aggregate.
pub(super) fn is_counted(tree: &Tree<'_>) -> bool {
    let call = tree.at("lexpr");
    tree.is("A_Expr")
        && tree.at("name").name_parts().is_some_and(|name| name == [">="])
        && call.is("FuncCall")
        && call.at("agg_star").truth()
        && call.at("funcname").name_parts().is_some_and(|name| name == ["count"])
        && tree.at("rexpr").at("val").at("").number() == Some(0)
}
