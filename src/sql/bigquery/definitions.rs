//! Statements that make or drop tables and views, and the variables of scripts. Pure.

use sqlparser::ast::{
    CreateTable, CreateTableOptions, CreateView, Declare, DeclareAssignment, ObjectName,
    ObjectType, Set, SqlOption, Statement,
};

use super::factor::full_name;
use super::names::path;
use super::rewrite::{Rewriter, Use, form};
use crate::error::{Denial, DenialCode};

/// Options of CREATE that hold no more than a description or a time.
const OPTIONS: &[&str] = &[
    "description",
    "labels",
    "friendly_name",
    "expiration_timestamp",
    "partition_expiration_days",
    "require_partition_filter",
];

/// `CREATE [TEMP] TABLE … AS query` into a dataset of the tenant's own.
pub fn create_table(rewriter: &mut Rewriter<'_>, create: &mut CreateTable) -> Result<(), Denial> {
    let kind = || Denial::of(DenialCode::StatementKind, "CREATE TABLE");
    // Closed by printing: a clause that is not named here would make the texts differ.
    let expected = {
        let query = create.query.as_ref().ok_or_else(kind)?;
        let partition = create.partition_by.as_ref();
        format!(
            "CREATE {}{}TABLE {}{}{}{}{} AS {query}",
            if create.or_replace { "OR REPLACE " } else { "" },
            if create.temporary { "TEMPORARY " } else { "" },
            if create.if_not_exists { "IF NOT EXISTS " } else { "" },
            create.name,
            partition.map(|by| format!(" PARTITION BY {by}")).unwrap_or_default(),
            create.cluster_by.as_ref().map(|by| format!(" CLUSTER BY {by}")).unwrap_or_default(),
            options(&create.table_options)?,
        )
    };
    if expected != create.to_string() {
        return Err(kind());
    }
    if let Some(query) = &mut create.query {
        rewriter.query(query, false)?;
    }
    rewriter.expressions(&mut create.partition_by)?;
    rewriter.expressions(&mut create.cluster_by)?;
    rewriter.expressions(&mut create.table_options)?;
    made(rewriter, &mut create.name, create.temporary)
}

pub fn create_view(rewriter: &mut Rewriter<'_>, create: &mut CreateView) -> Result<(), Denial> {
    let expected = format!(
        "CREATE {}VIEW {}{}{} AS {}",
        if create.or_replace { "OR REPLACE " } else { "" },
        if create.if_not_exists { "IF NOT EXISTS " } else { "" },
        create.name,
        options(&create.options)?,
        create.query,
    );
    if expected != create.to_string() {
        return Err(Denial::of(DenialCode::StatementKind, "CREATE VIEW"));
    }
    rewriter.query(&mut create.query, false)?;
    rewriter.expressions(&mut create.options)?;
    // SECURITY: a view is read as the query that it is, so that the conditions of who reads it stand beside
    // the guards in it; and who reads it does not see them.
    if rewriter.protected || rewriter.secure_context {
        return Err(form(
            "a view over tables of several tenants; CREATE TABLE … AS keeps the rows",
        ));
    }
    made(rewriter, &mut create.name, false)
}

/// Binds the name of a table that is made or dropped.
fn made(rewriter: &mut Rewriter<'_>, name: &mut ObjectName, temporary: bool) -> Result<(), Denial> {
    let parts = path(name)?;
    if temporary {
        let [single] = parts.as_slice() else { return Err(form("temporary table")) };
        rewriter.temporary.push(single.to_ascii_lowercase());
        return Ok(());
    }
    let unknown = || Denial::of(DenialCode::UnknownRelation, parts.join("."));
    let table = rewriter.env.resolve(&parts)?.ok_or_else(unknown)?;
    if table.table.contains('*') {
        return Err(unknown());
    }
    match rewriter.env.own(&table.project, &table.dataset) {
        Some(true) => {
            *name = full_name(&table);
            rewriter.bind(&table, Use::Insert).map(|_| ())
        }
        Some(false) | None => Err(Denial::of(DenialCode::StatementKind, table.to_string())),
    }
}

fn options(options: &CreateTableOptions) -> Result<String, Denial> {
    let list = match options {
        CreateTableOptions::None => return Ok(String::new()),
        CreateTableOptions::Options(list) => list,
        _ => return Err(form("options")),
    };
    for option in list {
        match option {
            SqlOption::KeyValue { key, .. }
                if OPTIONS.contains(&key.value.to_ascii_lowercase().as_str()) => {}
            _ => return Err(Denial::of(DenialCode::StatementKind, option.to_string())),
        }
    }
    Ok(format!(" {options}"))
}

pub fn drop_table(rewriter: &mut Rewriter<'_>, statement: &mut Statement) -> Result<(), Denial> {
    let Statement::Drop {
        object_type: ObjectType::Table | ObjectType::View,
        if_exists: _,
        names,
        cascade: false,
        restrict: false,
        purge: false,
        temporary: false,
        table: None,
    } = statement
    else {
        return Err(Denial::of(DenialCode::StatementKind, "DROP"));
    };
    names.iter_mut().try_for_each(|name| made(rewriter, name, false))
}

pub fn declaration(rewriter: &mut Rewriter<'_>, declare: &mut Declare) -> Result<(), Denial> {
    let Declare {
        names: _,
        data_type: _,
        assignment,
        declare_type: None,
        binary: None,
        sensitive: None,
        scroll: None,
        hold: None,
        for_query: None,
    } = declare
    else {
        return Err(form("declare"));
    };
    match assignment {
        None => Ok(()),
        Some(DeclareAssignment::Default(value)) => rewriter.values(value).map(|_| ()),
        Some(
            DeclareAssignment::Expr(_)
            | DeclareAssignment::DuckAssignment(_)
            | DeclareAssignment::For(_)
            | DeclareAssignment::MsSqlAssignment(_),
        ) => Err(form("declare")),
    }
}

pub fn variable(rewriter: &mut Rewriter<'_>, set: &mut Set) -> Result<(), Denial> {
    let (variables, values) = match set {
        Set::SingleAssignment { scope: None, hivevar: false, variable, values } => {
            (std::slice::from_ref(variable), values)
        }
        Set::ParenthesizedAssignments { variables, values } => (variables.as_slice(), values),
        _ => return Err(Denial::of(DenialCode::StatementKind, "SET")),
    };
    for variable in variables {
        let text = variable.to_string();
        let plain = |c: char| c.is_ascii_alphanumeric() || c == '_';
        if text.is_empty() || !text.chars().all(plain) {
            return Err(Denial::of(DenialCode::ProtectedSetting, text));
        }
    }
    rewriter.values(values).map(|_| ())
}
