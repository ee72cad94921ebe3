//! What a table in FROM may have, and how names are written. Pure.

use sqlparser::ast::{
    Expr, Ident, ObjectName, ObjectNamePart, TableAlias, TableFactor, TableSampleKind, TableVersion,
};

use super::names::TableName;
use super::rewrite::form;
use crate::error::{Denial, DenialCode};

/// Refuses whatever a table in FROM may have beside name, alias, FOR SYSTEM_TIME and TABLESAMPLE.
pub fn plain_table(factor: &TableFactor) -> Result<(), Denial> {
    let TableFactor::Table {
        name,
        alias,
        args,
        with_hints,
        version,
        with_ordinality,
        partitions,
        json_path,
        sample,
        index_hints,
    } = factor
    else {
        return Err(form("from"));
    };
    if args.is_some() {
        return Err(Denial::of(DenialCode::Function, name.to_string()));
    }
    if !with_hints.is_empty()
        || *with_ordinality
        || !partitions.is_empty()
        || json_path.is_some()
        || !index_hints.is_empty()
        || !matches!(version, None | Some(TableVersion::ForSystemTimeAsOf(_)))
    {
        return Err(form("from"));
    }
    plain_table_checks(alias.as_ref())?;
    sampled(sample.as_ref())
}

pub fn plain_table_checks(alias: Option<&TableAlias>) -> Result<(), Denial> {
    match alias {
        Some(alias) if !alias.columns.is_empty() || alias.at.is_some() => Err(form("alias")),
        _ => Ok(()),
    }
}

/// TABLESAMPLE SYSTEM (n PERCENT); nothing else is BigQuery's.
fn sampled(sample: Option<&TableSampleKind>) -> Result<(), Denial> {
    match sample {
        None => Ok(()),
        Some(
            TableSampleKind::BeforeTableAlias(sample) | TableSampleKind::AfterTableAlias(sample),
        ) if sample.seed.is_none()
            && sample.bucket.is_none()
            && sample.offset.is_none()
            && sample.quantity.as_ref().is_none_or(|quantity| is_constant(&quantity.value)) =>
        {
            Ok(())
        }
        Some(_) => Err(form("tablesample")),
    }
}

/// A literal or a parameter.
pub fn is_constant(expr: &Expr) -> bool {
    match expr {
        Expr::Value(_) => true,
        Expr::Identifier(name) => name.value.starts_with('@'),
        _ => false,
    }
}

pub fn lower(name: &Ident) -> String {
    name.value.to_ascii_lowercase()
}

pub fn ident(text: &str) -> Ident {
    Ident::with_quote('`', text)
}

/// An identifier in backticks. Names of the policy and of parsed paths hold none.
pub fn quoted(name: &str) -> String {
    format!("`{}`", name.replace(['`', '\\', '\n', '\r'], ""))
}

pub fn alias_of(name: &str) -> TableAlias {
    TableAlias { explicit: true, name: ident(name), columns: Vec::new(), at: None }
}

/// `` `project`.`dataset`.`table` ``
pub fn full_name(table: &TableName) -> ObjectName {
    ObjectName(
        [&table.project, &table.dataset, &table.table]
            .into_iter()
            .map(|part| ObjectNamePart::Identifier(ident(part)))
            .collect(),
    )
}

/// The parent of a policy: its schema is `project.dataset`.
pub fn parent_name(schema: &str, table: &str) -> Result<TableName, Denial> {
    let (project, dataset) =
        schema.split_once('.').ok_or_else(|| Denial::new(DenialCode::Internal))?;
    Ok(TableName {
        project: project.to_owned(),
        dataset: dataset.to_owned(),
        table: table.to_owned(),
    })
}
