//! What a statement is and whether it may run at all, judged on PostgreSQL's own tree. Layer 2.
//!
//! Statement kinds, nodes, relations, functions, operators, types, settings: each is on a list or
//! denied. What passes here may still need guards; the rewriter puts them.

use super::codes;
use super::env::{Env, Resolved};
use super::lists;
use super::scope::{Met, direct_relations, is_statement, visible_name, walk};
use super::sizes::is_size;
use super::tree::Tree;
use crate::error::{Denial, DenialCode};
use crate::ids::RelationName;
use crate::mutant;
use crate::policy::Access;
use crate::sql::account::NamedRelation;
use crate::sql::advisory;
use crate::sql::{End, Kind, RelationUse};

/// What is known of a statement that may run.
#[derive(Clone, Debug)]
pub struct Class {
    /// What it does.
    pub kind: Kind,
    /// Relations and rules, in order of first use.
    pub relations: Vec<RelationUse>,
    /// Whether it touches rows that belong to tenants.
    pub protected: bool,
    /// Whether it must be rewritten: it names a table, whose schema is written out at the least.
    pub rewritten: bool,
}

/// Nodes that may stand in a query or data change. A node that is not named here is one that nobody
/// has thought about.
const NODES: &[&str] = &[
    "A_ArrayExpr",
    "A_Const",
    "A_Expr",
    "A_Indices",
    "A_Indirection",
    "A_Star",
    "Alias",
    "BitString",
    "BoolExpr",
    "Boolean",
    "BooleanTest",
    "CTECycleClause",
    "CTESearchClause",
    "CaseExpr",
    "CaseWhen",
    "CoalesceExpr",
    "CollateClause",
    // The columns of a function's rows: `f(x) AS r(a int)`.
    "ColumnDef",
    "ColumnRef",
    "CommonTableExpr",
    "CurrentOfExpr",
    "DefElem",
    "DeleteStmt",
    "Float",
    "FuncCall",
    "GroupingFunc",
    "GroupingSet",
    "IndexElem",
    "InferClause",
    "InsertStmt",
    "Integer",
    "JoinExpr",
    "JsonAggConstructor",
    "JsonArrayAgg",
    "JsonArrayConstructor",
    "JsonArrayQueryConstructor",
    "JsonFormat",
    "JsonFuncExpr",
    "JsonArgument",
    "JsonBehavior",
    "JsonIsPredicate",
    "JsonKeyValue",
    "JsonObjectAgg",
    "JsonObjectConstructor",
    "JsonOutput",
    "JsonParseExpr",
    "JsonReturning",
    "JsonScalarExpr",
    "JsonSerializeExpr",
    "JsonValueExpr",
    "LockingClause",
    "MergeStmt",
    "MergeWhenClause",
    "MinMaxExpr",
    "MultiAssignRef",
    "NamedArgExpr",
    "NullTest",
    "OnConflictClause",
    "ParamRef",
    "RangeFunction",
    "RangeSubselect",
    "RangeTableFunc",
    "RangeTableFuncCol",
    "RangeTableSample",
    "RangeVar",
    "ResTarget",
    "ReturningClause",
    "RowExpr",
    "SQLValueFunction",
    "SelectStmt",
    "SetToDefault",
    "SortBy",
    "String",
    "SubLink",
    "TypeCast",
    "TypeName",
    "UpdateStmt",
    "WindowDef",
    "WithClause",
    "XmlExpr",
    "XmlSerialize",
];

/// Judges one statement.
///
/// # Errors
/// The denial.
pub fn classify(statement: &Tree<'_>, env: Env<'_>) -> Result<Class, Denial> {
    let kind = match statement.kind() {
        "SelectStmt" => Kind::Select,
        "InsertStmt" => Kind::Insert,
        "UpdateStmt" => Kind::Update,
        "DeleteStmt" => Kind::Delete,
        "MergeStmt" => Kind::Merge,
        "TransactionStmt" => return transaction(statement),
        "VariableSetStmt" => return setting(statement, env),
        "VariableShowStmt" => return show(statement),
        "ConstraintsSetStmt" => return Ok(plain(Kind::Transaction)),
        "DiscardStmt" => return Ok(plain(Kind::Discard)),
        "UnlistenStmt" if statement.at("conditionname").is_absent() => {
            return Ok(plain(Kind::Discard));
        }
        "DeallocateStmt" => {
            let name = statement.at("name").text().map(str::to_owned);
            return Ok(plain(Kind::Deallocate(name)));
        }
        "FetchStmt" | "ClosePortalStmt" => return Ok(plain(Kind::Cursor)),
        "DeclareCursorStmt" => Kind::Cursor,
        "PrepareStmt" => Kind::Prepare(name_of(statement)?),
        "ExecuteStmt" => Kind::Execute(name_of(statement)?),
        "ExplainStmt" => Kind::Explain,
        "CopyStmt" => {
            copy(statement)?;
            Kind::CopyOut
        }
        "TruncateStmt" if env.privileges.ddl => return super::truncate::judge(statement, env),
        _ if env.privileges.ddl => {
            let change = super::schema_change::judge(statement, env)?;
            return change.ok_or_else(|| kind_denied(statement));
        }
        _ => return Err(kind_denied(statement)),
    };
    if let Kind::Prepare(_) | Kind::Explain | Kind::Cursor = &kind {
        let inner = statement.at("query");
        let fits = match kind {
            Kind::Cursor => inner.is("SelectStmt"),
            Kind::Explain => {
                is_statement(inner.kind()) || inner.is("ExecuteStmt") && !analyzes(statement)
            }
            _ => is_statement(inner.kind()),
        };
        if !fits {
            return Err(kind_denied(inner));
        }
    }
    let mut class = body(statement, kind, env)?;
    if class.kind == Kind::Explain && (class.protected || statement.at("query").is("ExecuteStmt")) {
        explain(statement)?;
        // Estimates are made of all tenants' rows: they are left out.
        class.protected = true;
        class.rewritten = true;
    }
    Ok(class)
}

fn plain(kind: Kind) -> Class {
    Class { kind, relations: Vec::new(), protected: false, rewritten: false }
}

/// A statement kind in SQL's words.
fn kind_denied(statement: &Tree<'_>) -> Denial {
    Denial::of(DenialCode::StatementKind, super::command::words(statement))
}

fn name_of(statement: &Tree<'_>) -> Result<String, Denial> {
    statement.at("name").text().map(str::to_owned).ok_or_else(|| kind_denied(statement))
}

fn transaction(statement: &Tree<'_>) -> Result<Class, Denial> {
    match statement.at("kind").number() {
        Some(codes::TWO_PHASE_PREPARE | codes::TWO_PHASE_COMMIT | codes::TWO_PHASE_ROLLBACK)
        | None => Err(Denial::of(DenialCode::StatementKind, "two-phase commit")),
        Some(codes::BEGIN | codes::START) => {
            Ok(plain(Kind::Begin(super::residue::begin(statement))))
        }
        Some(codes::COMMIT | codes::ROLLBACK) if statement.at("chain").truth() => {
            Ok(plain(Kind::End(End::AndChain)))
        }
        Some(codes::COMMIT | codes::ROLLBACK) => Ok(plain(Kind::End(End::Plain))),
        Some(_) => Ok(plain(Kind::Transaction)),
    }
}

fn setting(statement: &Tree<'_>, env: Env<'_>) -> Result<Class, Denial> {
    let name = statement.at("name").text().unwrap_or_default().to_ascii_lowercase();
    let denied = || Denial::of(DenialCode::ProtectedSetting, name.clone());
    match statement.at("kind").number() {
        Some(codes::RESET_ALL) => return Ok(plain(Kind::Setting)),
        // `SET TRANSACTION` and `SET SESSION CHARACTERISTICS`; not `SET TRANSACTION SNAPSHOT`.
        Some(codes::SET_MULTI) if name != "transaction snapshot" => {
            return Ok(plain(Kind::Transaction));
        }
        // Back to the path that the session began with, which is the one that names resolve by.
        Some(codes::SET_DEFAULT | codes::RESET) if name == "search_path" => {
            return Ok(plain(Kind::Setting));
        }
        Some(codes::SET_VALUE)
            if name == "search_path"
                && super::search_path::is_unchanged_by(statement, env.catalog) =>
        {
            return Ok(plain(Kind::Setting));
        }
        Some(codes::SET_VALUE | codes::SET_DEFAULT | codes::RESET) => {}
        Some(_) | None => return Err(denied()),
    }
    if !lists::FREE_SETTINGS.contains(&name.as_str()) && !mutant::on("any-setting") {
        return Err(denied());
    }
    let pinned = lists::PINNED_SETTINGS.iter().find(|(setting, _)| *setting == name);
    if let (Some((_, accepted)), Some(codes::SET_VALUE)) = (pinned, statement.at("kind").number()) {
        let [argument] = statement.at("args").items() else { return Err(denied()) };
        let value = argument.at("val").at("");
        let text = match value {
            Tree::Bool(flag) => if *flag { "on" } else { "off" }.to_owned(),
            Tree::Number(number) => number.to_string(),
            Tree::Text(text) => text.to_ascii_lowercase().replace(['-', '_'], ""),
            Tree::None | Tree::List(_) | Tree::Node(..) => return Err(denied()),
        };
        if !accepted.contains(&text.as_str()) && !mutant::on("pinned") {
            return Err(denied());
        }
    }
    Ok(plain(Kind::Setting))
}

/// SHOW of one setting; SHOW ALL tells of the server.
fn show(statement: &Tree<'_>) -> Result<Class, Denial> {
    let name = statement.at("name").text().unwrap_or_default().to_ascii_lowercase();
    if lists::CLOSED_SETTINGS.contains(&name.as_str()) {
        return Err(Denial::of(DenialCode::ProtectedSetting, name));
    }
    Ok(plain(Kind::Setting))
}

/// COPY to the client, of a query or a table: the table is read through a query.
fn copy(statement: &Tree<'_>) -> Result<(), Denial> {
    let source = statement.at("query").is("SelectStmt") || !statement.at("relation").is_absent();
    let to_client = !statement.at("is_from").truth()
        && !statement.at("is_program").truth()
        && statement.at("filename").is_absent();
    let object = statement.at("relation").at("relname").text().unwrap_or("COPY");
    if to_client && source { Ok(()) } else { Err(Denial::of(DenialCode::Copy, object)) }
}

/// Whether an EXPLAIN runs its statement.
fn analyzes(statement: &Tree<'_>) -> bool {
    statement
        .at("options")
        .items()
        .iter()
        .any(|option| option.at("defname").text() == Some("analyze"))
}

/// EXPLAIN of a protected table: the plan's shape may be seen, counts may not.
fn explain(statement: &Tree<'_>) -> Result<(), Denial> {
    for option in statement.at("options").items() {
        match option.at("defname").text() {
            Some(
                "costs" | "verbose" | "format" | "settings" | "generic_plan" | "summary" | "timing",
            ) => {}
            Some(other) => {
                return Err(Denial::of(
                    DenialCode::LeakPossible,
                    format!("EXPLAIN {}", other.to_uppercase()),
                ));
            }
            None => return Err(Denial::of(DenialCode::LeakPossible, "EXPLAIN")),
        }
    }
    Ok(())
}

/// A relation whose columns are not all open.
pub struct Closed<'t> {
    /// The name that qualifies its columns.
    pub visible: &'t str,
    /// The columns that are not open.
    pub columns: Vec<String>,
    /// What touching them is.
    pub code: DenialCode,
}

impl Closed<'_> {
    /// The denial of a statement that touches one of them, or `*` several.
    pub fn denied(&self, column: &str) -> Denial {
        match self.code {
            DenialCode::ColumnDenied => Denial::of(self.code, format!("{}.{column}", self.visible)),
            _ => Denial::of(self.code, self.visible),
        }
    }
}

/// Judges a query or data change, whatever statement it is part of.
///
/// # Errors
/// The denial.
pub fn body(statement: &Tree<'_>, kind: Kind, env: Env<'_>) -> Result<Class, Denial> {
    let mut class = plain(kind);
    let mut closed: Vec<Closed<'_>> = Vec::new();
    let mut changes_setting = false;
    let into_temporary = super::temporary::is_temporary(statement.at("into_clause").at("rel"));
    let mut asked: Vec<*const Tree<'_>> = Vec::new();
    walk(statement, &mut |met| match met {
        Met::Node(node) => {
            changes_setting |= is_set_config(node);
            if is_named_access_method(node) {
                asked.push(std::ptr::from_ref(node.at("rexpr")));
            }
            if asked.contains(&std::ptr::from_ref(node)) {
                return env.function(&[CURRENT_SETTING]);
            }
            // `SELECT … INTO TEMP` itself, which `temporary` has judged.
            if into_temporary && std::ptr::eq(node, statement) {
                return Ok(());
            }
            class.rewritten |= is_lock(node) || is_size(node);
            judge_node(node, env)
        }
        Met::Read(relation) => {
            let needs = |access: &Access| access.select;
            judge_relation(
                relation,
                env,
                needs,
                DenialCode::RelationDenied,
                &mut class,
                &mut closed,
            )
        }
        Met::Target(relation, statement) => {
            let needs = |access: &Access| writes_allowed(statement, access);
            judge_relation(relation, env, needs, DenialCode::ReadOnly, &mut class, &mut closed)
        }
    })?;
    // SECURITY: a setting must not carry off what a tenant's row holds.
    if changes_setting && class.protected && !mutant::on("set-config") {
        return Err(Denial::of(DenialCode::Function, SET_CONFIG));
    }
    if !closed.is_empty() && !reads_one_setting(statement, &closed) {
        judge_columns(statement, &closed)?;
        super::closed::judge(statement, &closed)?;
    }
    super::masked::judge(statement, env)?;
    super::notation::judge(statement, env)?;
    super::implied::judge_casts(statement, env)?;
    super::implied::judge_checks(statement, env)?;
    Ok(class)
}

/// Every relation that a statement names, with the rule that applies to it; also those that are
/// refused. For the account: nothing is decided here.
pub fn named_relations(statement: pg_raw_parse::Node<'_>, env: Env<'_>) -> Vec<NamedRelation> {
    let mut print = String::new();
    let Ok(tree) = Tree::of(statement, &mut print) else { return Vec::new() };
    let mut found: Vec<NamedRelation> = Vec::new();
    let _: Result<(), Denial> = walk(&tree, &mut |met| {
        if let Met::Read(relation) | Met::Target(relation, _) = met
            && let Some(name) = relation.at("relname").text()
        {
            let named = env.named(relation.at("schemaname").text(), name);
            if !found.contains(&named) {
                found.push(named);
            }
        }
        Ok(())
    });
    found
}

fn writes_allowed(statement: &Tree<'_>, access: &Access) -> bool {
    let conflict_update =
        statement.at("on_conflict_clause").at("action").number() == Some(codes::CONFLICT_UPDATE);
    let reads =
        !statement.at("returning_clause").is_absent() || !statement.at("where_clause").is_absent();
    let writes = match statement.kind() {
        "InsertStmt" => access.insert && (access.update || !conflict_update),
        "UpdateStmt" => access.update,
        "DeleteStmt" => access.delete,
        "MergeStmt" => statement.at("merge_when_clauses").items().iter().all(|clause| match clause
            .at("command_type")
            .number()
        {
            Some(codes::CMD_INSERT) => access.insert,
            Some(codes::CMD_UPDATE) => access.update,
            Some(codes::CMD_DELETE) => access.delete,
            Some(_) | None => access.select,
        }),
        _ => false,
    };
    writes && (access.select || !reads)
}

fn judge_relation<'t>(
    relation: &'t Tree<'_>,
    env: Env<'t>,
    needs: impl Fn(&Access) -> bool,
    refusal: DenialCode,
    class: &mut Class,
    closed: &mut Vec<Closed<'t>>,
) -> Result<(), Denial> {
    let name = relation.at("relname").text().ok_or(Denial::new(DenialCode::Internal))?;
    let visible = visible_name(relation).ok_or(Denial::new(DenialCode::Internal))?;
    let resolved =
        env.resolve(relation.at("catalogname").text(), relation.at("schemaname").text(), name)?;
    let used = match &resolved {
        Resolved::Catalog { schema, closed: columns } => {
            if refusal == DenialCode::ReadOnly {
                return Err(Denial::of(DenialCode::ReadOnly, name));
            }
            if !columns.is_empty() {
                let columns = columns.iter().map(|column| (*column).to_owned()).collect();
                closed.push(Closed { visible, columns, code: DenialCode::Catalog });
            }
            RelationUse { relation: RelationName::new(*schema, name), rule: (*schema).into() }
        }
        Resolved::Table(table) => {
            if !needs(&table.policy.access) && !mutant::on("access") {
                return Err(Denial::of(refusal, table.name.to_string()));
            }
            class.protected |= table.is_protected();
            class.rewritten = true;
            let columns: Vec<String> = table.denied_columns().map(str::to_owned).collect();
            if !columns.is_empty() {
                closed.push(Closed { visible, columns, code: DenialCode::ColumnDenied });
            }
            RelationUse {
                relation: table.name.clone(),
                rule: std::sync::Arc::clone(&table.policy.rule),
            }
        }
    };
    if !class.relations.contains(&used) {
        class.relations.push(used);
    }
    Ok(())
}

/// Judges one node: on a list, or denied.
///
/// # Errors
/// HR1002 and HR1005.
pub fn judge_node(node: &Tree<'_>, env: Env<'_>) -> Result<(), Denial> {
    super::implied::judge_operators(node, env)?;
    match node.kind() {
        "ExplainStmt" | "PrepareStmt" | "ExecuteStmt" | "DeclareCursorStmt" | "CopyStmt" => Ok(()),
        "FuncCall" if is_set_config(node) => judge_set_config(node, env),
        "FuncCall" if shows_closed_setting(node) => {
            Err(Denial::of(DenialCode::ProtectedSetting, CURRENT_SETTING))
        }
        "FuncCall" if is_lock(node) || is_size(node) => judge_own_call(node, env),
        "FuncCall" => {
            let parts =
                node.at("funcname").name_parts().ok_or(Denial::new(DenialCode::Function))?;
            match parts.as_slice() {
                // PostgreSQL's own, and nobody's to replace.
                ["information_schema", name] if lists::INFORMATION_FUNCTIONS.contains(name) => {
                    Ok(())
                }
                parts => env.function(parts),
            }
        }
        "A_Expr" => judge_operator(node.at("name")),
        "SubLink" => judge_operator(node.at("oper_name")),
        "SortBy" => judge_operator(node.at("use_op")),
        "TypeName" => judge_type(node, env),
        // It may load what the text names.
        "XmlExpr" if node.at("op").number() == Some(codes::XML_PARSE) => {
            Err(Denial::of(DenialCode::Function, "xmlparse"))
        }
        "SelectStmt" if !node.at("into_clause").is_absent() && !mutant::on("select-into") => {
            Err(Denial::of(DenialCode::StatementKind, "SELECT INTO"))
        }
        kind if NODES.contains(&kind) || mutant::on("any-node") => Ok(()),
        kind if kind.ends_with("Stmt") => Err(kind_denied(node)),
        kind => Err(Denial::of(DenialCode::StatementKind, kind)),
    }
}

/// Whether a call is one of an advisory lock, which the rewriter brings into the tenant's own space.
fn is_lock(node: &Tree<'_>) -> bool {
    let name = node.at("funcname").items().last().and_then(Tree::text);
    node.is("FuncCall") && name.is_some_and(|name| advisory::FUNCTIONS.contains(&name))
}

/// A call that the rewriter changes must be of PostgreSQL's own function.
fn judge_own_call(call: &Tree<'_>, env: Env<'_>) -> Result<(), Denial> {
    match call.at("funcname").name_parts().as_deref() {
        Some([name]) if !env.is_user_function(name) => Ok(()),
        Some(["pg_catalog", _]) => Ok(()),
        name => Err(Denial::of(DenialCode::Function, name.unwrap_or_default().join("."))),
    }
}

/// The function that does what SHOW does.
const CURRENT_SETTING: &str = "current_setting";

/// Whether a call may show a setting that SHOW does not: any that is not named by a literal may.
fn shows_closed_setting(call: &Tree<'_>) -> bool {
    if call.at("funcname").items().last().and_then(Tree::text) != Some(CURRENT_SETTING) {
        return false;
    }
    let Some(name) = call.at("args").items().first() else { return false };
    let literal = if name.is("TypeCast") { name.at("arg") } else { name };
    match literal.at("val").at("").text() {
        Some(name) if literal.is("A_Const") => {
            lists::CLOSED_SETTINGS.contains(&name.to_ascii_lowercase().as_str())
        }
        Some(_) | None => true,
    }
}

/// `pg_catalog.pg_am.amname <> current_setting($1)`, as SQLAlchemy's reflection asks. The setting is
/// only known when it runs, but whether it is the name of an access method tells nothing: a column of
/// three parts is that of the catalog itself.
fn is_named_access_method(node: &Tree<'_>) -> bool {
    let setting = node.at("rexpr");
    let argument = match setting.at("args").items() {
        [argument] if argument.is("TypeCast") => argument.at("arg"),
        [argument] => argument,
        _ => return false,
    };
    node.is("A_Expr")
        && node.at("name").name_parts().is_some_and(|name| matches!(name[..], ["<>" | "="]))
        && node.at("lexpr").is("ColumnRef")
        && node.at("lexpr").at("fields").name_parts().as_deref()
            == Some(&["pg_catalog", "pg_am", "amname"][..])
        && setting.is("FuncCall")
        && setting.at("funcname").name_parts().as_deref() == Some(&[CURRENT_SETTING][..])
        && argument.is("ParamRef")
}

/// The function that does what SET does.
const SET_CONFIG: &str = "set_config";

fn is_set_config(node: &Tree<'_>) -> bool {
    node.is("FuncCall")
        && node.at("funcname").items().last().and_then(Tree::text) == Some(SET_CONFIG)
}

/// `set_config('jit', …)`, as drivers send it: a setting that SET may change to any value, named by
/// a plain literal. A setting that is pinned, protected or only known when it runs stays closed.
fn judge_set_config(call: &Tree<'_>, env: Env<'_>) -> Result<(), Denial> {
    let built_in = match call.at("funcname").name_parts().as_deref() {
        Some([_]) => !env.is_user_function(SET_CONFIG),
        Some(["pg_catalog", _]) => true,
        Some(_) | None => false,
    };
    let name = match call.at("args").items() {
        [name, _value, _local] if name.is("A_Const") => name.at("val").at("").text(),
        _ => None,
    };
    let name = name.map(str::to_ascii_lowercase).unwrap_or_default();
    let free = lists::FREE_SETTINGS.contains(&name.as_str())
        && !lists::PINNED_SETTINGS.iter().any(|(pinned, _)| *pinned == name);
    if built_in && (free || mutant::on("set-config-any")) {
        Ok(())
    } else {
        Err(Denial::of(DenialCode::Function, SET_CONFIG))
    }
}

fn judge_operator(name: &Tree<'_>) -> Result<(), Denial> {
    let Some(parts) = name.name_parts() else { return Err(Denial::new(DenialCode::Function)) };
    match parts.as_slice() {
        [] => Ok(()),
        ["pg_catalog", _] => Ok(()),
        [symbol]
            if lists::is_built_in_operator(symbol)
                || symbol.starts_with(|c: char| c.is_ascii_alphabetic()) =>
        {
            // `BETWEEN` and its like are written where an operator's name would stand.
            Ok(())
        }
        _ if mutant::on("any-operator") => Ok(()),
        _ => Err(Denial::of(DenialCode::Function, format!("operator {}", parts.join(".")))),
    }
}

/// A type of `pg_catalog`, or one that the catalog knows. A type name can also be a row type, which
/// holds no rows.
fn judge_type(node: &Tree<'_>, env: Env<'_>) -> Result<(), Denial> {
    let parts = node.at("names").name_parts().ok_or(Denial::new(DenialCode::CannotParse))?;
    match parts.as_slice() {
        [_] | ["pg_catalog", _] => Ok(()),
        [schema, name]
            if !env.catalog.live
                || env.catalog.user_types.contains(&((*schema).to_owned(), (*name).to_owned())) =>
        {
            Ok(())
        }
        _ => Err(Denial::of(DenialCode::UnknownRelation, parts.join("."))),
    }
}

/// `SELECT setting FROM pg_settings WHERE name = 'max_index_keys'`, as drivers ask for what SHOW
/// tells them too: one plain look-up of a setting that SHOW does not close, and nothing beside it.
fn reads_one_setting(statement: &Tree<'_>, closed: &[Closed<'_>]) -> bool {
    const CATALOG: &str = "pg_settings";
    let [Closed { visible: CATALOG, code: DenialCode::Catalog, .. }] = closed else { return false };
    let [from] = statement.at("from_clause").items() else { return false };
    let [target] = statement.at("target_list").items() else { return false };
    let [shown] = target.at("val").at("fields").items() else { return false };
    let test = statement.at("where_clause");
    let [column] = test.at("lexpr").at("fields").items() else { return false };
    let Some(name) = test.at("rexpr").at("val").at("").text() else { return false };
    statement.is("SelectStmt")
        && shown.text() == Some("setting")
        && from.is("RangeVar")
        && from.at("relname").text() == Some(CATALOG)
        && test.is("A_Expr")
        && test.at("kind").number() == Some(codes::OP)
        && matches!(test.at("name").name_parts().as_deref(), Some(["="]))
        && column.text() == Some("name")
        && test.at("rexpr").is("A_Const")
        && !lists::CLOSED_SETTINGS.contains(&name.to_ascii_lowercase().as_str())
}

/// Refuses a statement that could show a closed column: by name, by `*`, or by a whole row.
fn judge_columns(statement: &Tree<'_>, closed: &[Closed<'_>]) -> Result<(), Denial> {
    statement.walk(&mut |node| {
        if is_statement(node.kind()) {
            judge_stars(node, closed)?;
        }
        if !node.is("ColumnRef") {
            return Ok(());
        }
        let fields = node.at("fields").items();
        let parts: Vec<Option<&str>> = fields.iter().map(Tree::text).collect();
        let hit = match parts.as_slice() {
            [Some(only)] => closed.iter().find(|relation| {
                relation.visible == *only || relation.columns.iter().any(|column| column == only)
            }),
            [.., Some(qualifier), None] => {
                closed.iter().find(|relation| relation.visible == *qualifier)
            }
            [.., Some(qualifier), Some(column)] => closed.iter().find(|relation| {
                // `schema.relation` as a whole row reads like `relation.column`.
                relation.visible == *column
                    || relation.visible == *qualifier
                        && relation.columns.iter().any(|closed| closed == column)
            }),
            _ => None,
        };
        let column = parts.last().copied().flatten();
        match hit {
            Some(relation) => {
                Err(relation.denied(column.filter(|name| *name != relation.visible).unwrap_or("*")))
            }
            None => Ok(()),
        }
    })
}

/// `SELECT *` and `RETURNING *` over a relation with closed columns.
fn judge_stars(statement: &Tree<'_>, closed: &[Closed<'_>]) -> Result<(), Denial> {
    let lists = [statement.at("target_list"), statement.at("returning_clause").at("exprs")];
    let star = lists
        .iter()
        .flat_map(|list| list.items())
        .any(|item| matches!(item.at("val").at("fields").items(), [only] if only.is("A_Star")));
    if !star || mutant::on("closed-star") {
        return Ok(());
    }
    let mut direct = Vec::new();
    for field in ["from_clause", "using_clause", "relation", "source_relation"] {
        direct_relations(statement.at(field), &mut direct);
    }
    let hit = direct
        .into_iter()
        .filter_map(visible_name)
        .find_map(|visible| closed.iter().find(|relation| relation.visible == visible));
    match hit {
        Some(relation) => Err(relation.denied("*")),
        None => Ok(()),
    }
}

#[cfg(test)]
mod tests {
    use super::super::scope::{Met, bare_name, walk};
    use super::Tree;

    fn reads(sql: &str) -> Vec<String> {
        let parsed = pg_raw_parse::parse(sql).unwrap();
        let print = format!("{:?}", parsed.stmts().next().unwrap());
        let tree = Tree::read(&print).unwrap();
        let mut names = Vec::new();
        walk(&tree, &mut |met| {
            if let Met::Read(relation) = met {
                names.push(bare_name(relation).unwrap_or("qualified").to_owned());
            }
            Ok(())
        })
        .unwrap();
        names
    }

    #[test]
    fn ctes_hide_relations_only_where_postgresql_says_so() {
        assert_eq!(reads("WITH a AS (SELECT * FROM b) SELECT * FROM a"), ["b"]);
        assert_eq!(reads("WITH a AS (SELECT * FROM a) SELECT * FROM a"), ["a"]);
        assert!(
            reads("WITH RECURSIVE a AS (SELECT 1 UNION SELECT * FROM a) SELECT * FROM a")
                .is_empty()
        );
        assert_eq!(reads("WITH a AS (SELECT 1), b AS (SELECT * FROM a) SELECT * FROM b, c"), ["c"]);
        assert_eq!(reads("WITH a AS (SELECT 1) SELECT * FROM public.a"), ["qualified"]);
        assert_eq!(reads("SELECT (WITH a AS (SELECT 1) SELECT 1 FROM a), 1 FROM a"), ["a"]);
        assert_eq!(reads("WITH a AS (SELECT * FROM b), b AS (SELECT 1) SELECT * FROM a, b"), ["b"]);
    }

    #[test]
    fn locking_names_aliases() {
        assert_eq!(reads("SELECT 1 FROM t x FOR UPDATE OF x"), ["t"]);
    }
}
