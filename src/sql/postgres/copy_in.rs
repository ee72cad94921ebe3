//! COPY … FROM STDIN: judged as the INSERT that it stands for, sent as a COPY whose first column is the
//! tenant, or by way of a temporary table. Layer 2.
//!
//! What a tenant may write, and to which columns, is decided once, for INSERT: the same rows, written
//! `INSERT INTO table (columns) VALUES ($1, …)`, go through the whole decision. Where that INSERT asks
//! nothing of a row but its tenant, the rows go as COPY, and the session writes the tenant into each.
//! Where it asks more (a row that belongs by its parent, a reference to another row, the policy's
//! condition), or where the server refuses COPY, an INSERT takes them from where they are [`staging`].

use super::env::{Env, Resolved, Table};
use super::scope::{Met, walk};
use super::staging::{self, Texts};
use super::tree::Tree;
use super::{classify, implied, notation};
use crate::catalog::RelationKind;
use crate::copy_format::{CopyFormat, Csv, Header, Lines};
use crate::error::{Denial, DenialCode};
use crate::ids::QuotedIdent;
use crate::policy::{Protection, TenantType};
use crate::sql::copy::{CopyIn, CopyTenant, CopyWay, TenantKind};
use crate::sql::temporary::SCHEMA;

/// Longest null marker, in bytes.
const MAX_NULL: usize = 1000;
/// From this version on `\.` is data in CSV.
const NO_CSV_MARKER: u32 = 180_000;

/// A COPY … FROM STDIN, read.
pub struct Plan {
    /// What the session needs.
    pub copy: CopyIn,
    /// How the rows go in.
    pub into: Into,
    /// The COPY into the client's table, without WHERE: what is sent, or what is told of it.
    pub text: String,
}

/// How the rows go in.
pub enum Into {
    /// By COPY; what they may be is what this INSERT may write.
    Table {
        /// The INSERT that the COPY stands for.
        insert: String,
    },
    /// By way of a temporary table.
    Staging(Texts),
}

/// Whether it is a COPY that writes.
pub fn writes(statement: &Tree<'_>) -> bool {
    statement.is("CopyStmt") && statement.at("is_from").truth()
}

/// Reads the statement. `where_text` gives its WHERE as it stands in the canonical text.
///
/// # Errors
/// HR1014 for what COPY may not do here, HR1009 without a catalog; resolution's and the tenant's own.
pub fn plan(
    statement: &Tree<'_>,
    where_text: impl FnOnce() -> Result<String, Denial>,
    env: Env<'_>,
) -> Result<Plan, Denial> {
    let relation = statement.at("relation");
    let name = relation.at("relname").text().ok_or(Denial::new(DenialCode::Internal))?;
    let denied = |object: &str| Denial::of(DenialCode::Copy, object);
    if statement.at("is_program").truth() || !statement.at("filename").is_absent() {
        return Err(denied(name));
    }
    let (catalog, schema) = (relation.at("catalogname").text(), relation.at("schemaname").text());
    let Resolved::Table(table) = env.resolve(catalog, schema, name)? else {
        return Err(Denial::of(DenialCode::ReadOnly, name));
    };
    if !table.policy.access.insert {
        return Err(Denial::of(DenialCode::ReadOnly, table.name.to_string()));
    }
    let kind = table.relation.map(|relation| relation.kind);
    if !matches!(kind, None | Some(RelationKind::Table | RelationKind::PartitionedTable)) {
        return Err(denied(name));
    }
    let columns = columns(statement, &table)?;
    let options = statement.at("options").items();
    let format = Options { columns: &columns, options, env }.format()?;
    let own = table.name.schema == SCHEMA;
    let tenant = if own { None } else { tenant(&table, &columns, env)? };
    let at = tenant.as_ref().and_then(|tenant| tenant.at);
    let rest: Vec<&str> = columns
        .iter()
        .enumerate()
        .filter(|(position, _)| Some(*position) != at)
        .map(|(_, column)| column.as_str())
        .collect();
    let refers = env.references(&table).iter().any(|own| rest.contains(&own.column));
    let tested = refers || table.policy.condition.is_some();
    let copied = own || tenant.is_some() && !tested && !refuses_copy(&table, env);
    let condition = statement.at("where_clause");
    judge_where(condition, &table, env)?;
    let list = |columns: &mut dyn Iterator<Item = &str>| {
        columns.map(|column| QuotedIdent(column).to_string()).collect::<Vec<_>>().join(", ")
    };
    let binary = if format == CopyFormat::Binary { " WITH (FORMAT binary)" } else { "" };
    let first = tenant.as_ref().map(|tenant| tenant.column.as_str());
    let names = list(&mut first.into_iter().chain(rest.iter().copied()));
    let text = format!("COPY {} ({names}) FROM STDIN{binary}", table.name);
    let into = if !copied {
        if !staging::looks_at(condition, &rest) {
            return Err(denied("WHERE"));
        }
        let condition = if condition.is_absent() { String::new() } else { where_text()? };
        Into::Staging(Texts::new(&table, &rest, &format!("{binary}{condition}"), env)?)
    } else if rest.is_empty() {
        Into::Table { insert: format!("INSERT INTO {} DEFAULT VALUES", table.name) }
    } else {
        let values: Vec<String> = (1..=rest.len()).map(|number| format!("${number}")).collect();
        let (names, values) = (list(&mut rest.iter().copied()), values.join(", "));
        Into::Table { insert: format!("INSERT INTO {} ({names}) VALUES ({values})", table.name) }
    };
    let way = CopyWay::Copy;
    Ok(Plan { copy: CopyIn { columns, tenant, format, way }, into, text })
}

/// The WHERE of a COPY as it stands behind the canonical text: found by reading what could be it, for
/// a marker's literal may look like one. The checker compares it with the client's.
pub fn condition<'c>(canonical: &'c str, statement: &Tree<'_>) -> Option<&'c str> {
    canonical.match_indices(" WHERE ").map(|(at, _)| canonical.get(at..).unwrap_or_default()).find(
        |condition| {
            let Ok(parsed) = pg_raw_parse::parse(&format!("SELECT{condition}")) else {
                return false;
            };
            let Some(select) = parsed.stmts().next() else { return false };
            let print = format!("{select:?}");
            Tree::read(&print)
                .is_ok_and(|tree| tree.at("where_clause") == statement.at("where_clause"))
        },
    )
}

/// The columns that the rows have: those that are named, or all that may be given.
fn columns(statement: &Tree<'_>, table: &Table<'_>) -> Result<Vec<String>, Denial> {
    let denied = || Denial::of(DenialCode::Copy, table.name.name.as_str());
    let named = statement.at("attlist").name_parts().ok_or_else(denied)?;
    let columns: Vec<String> = if named.is_empty() {
        let relation = table.relation.ok_or(Denial::new(DenialCode::LeakPossible))?;
        // Of generated columns COPY takes identities and leaves out the others.
        if relation.columns.iter().any(|column| column.generated) {
            return Err(denied());
        }
        relation.columns.iter().map(|column| column.name.clone()).collect()
    } else {
        named.into_iter().map(str::to_owned).collect()
    };
    for (position, column) in columns.iter().enumerate() {
        let twice = columns.iter().take(position).any(|before| before == column);
        let unknown = table.relation.is_some_and(|relation| relation.column(column).is_none());
        if twice || unknown {
            return Err(Denial::of(DenialCode::Copy, column.as_str()));
        }
    }
    Ok(columns)
}

/// The tenant as the rows must carry it; `None` where the table has no tenant column.
fn tenant(
    table: &Table<'_>,
    columns: &[String],
    env: Env<'_>,
) -> Result<Option<CopyTenant>, Denial> {
    let (column, tenant_type) = match &table.policy.protection {
        Protection::Tenant { column, tenant_type } => (column, *tenant_type),
        Protection::TenantThrough { .. } => return Ok(None),
        Protection::Shared | Protection::Deny => {
            return Err(Denial::of(DenialCode::ReadOnly, table.name.to_string()));
        }
    };
    let text = env.tenant_text(tenant_type)?;
    let known = table.relation.and_then(|relation| relation.column(column));
    let kind = match (tenant_type, known.map(|column| column.type_name.as_str())) {
        (TenantType::Uuid, None | Some("uuid")) => TenantKind::Uuid,
        (TenantType::Text, None | Some("text" | "varchar")) => TenantKind::Text,
        (TenantType::Text, Some("bpchar")) => TenantKind::Padded,
        (TenantType::Int, Some("int2")) => TenantKind::Int2,
        (TenantType::Int, Some("int4")) => TenantKind::Int4,
        (TenantType::Int, None | Some("int8")) => TenantKind::Int8,
        (TenantType::Uuid | TenantType::Text | TenantType::Int, Some(_)) => {
            return Err(Denial::of(DenialCode::LeakPossible, column.as_str()));
        }
    };
    let at = columns.iter().position(|name| name == column);
    let tenant = CopyTenant { column: column.clone(), at, text, kind };
    // A tenant that is no number of the column's width has no rows there.
    match tenant.written(&CopyFormat::Binary) {
        Some(_) => Ok(Some(tenant)),
        None => Err(Denial::new(DenialCode::TokenTenant)),
    }
}

/// Whether row-level security binds the upstream role on this table: then PostgreSQL refuses COPY FROM.
fn refuses_copy(table: &Table<'_>, env: Env<'_>) -> bool {
    let posture = &env.catalog.posture;
    table.relation.is_some_and(|relation| {
        let owns =
            relation.owner == env.catalog.role || posture.member_of.contains(&relation.owner);
        relation.rls_enabled
            && !(posture.superuser || posture.bypass_rls)
            && (relation.rls_forced || !owns)
    })
}

/// A WHERE sees the incoming row only, which is the client's own.
fn judge_where(condition: &Tree<'_>, table: &Table<'_>, env: Env<'_>) -> Result<(), Denial> {
    if condition.is_absent() {
        return Ok(());
    }
    if !table.policy.columns.is_empty() {
        return Err(Denial::of(DenialCode::ColumnDenied, "WHERE"));
    }
    walk(condition, &mut |met| match met {
        Met::Node(node) => classify::judge_node(node, env),
        Met::Read(_) | Met::Target(..) => Err(Denial::of(DenialCode::Copy, "WHERE")),
    })?;
    notation::judge(condition, env)?;
    implied::judge_casts(condition, env)?;
    implied::judge_checks(condition, env)
}

/// The options of a COPY FROM.
struct Options<'o> {
    columns: &'o [String],
    options: &'o [Tree<'o>],
    env: Env<'o>,
}

impl Options<'_> {
    fn format(&self) -> Result<CopyFormat, Denial> {
        const KNOWN: &[&str] = &[
            "format",
            "delimiter",
            "null",
            "header",
            "quote",
            "escape",
            "force_not_null",
            "force_null",
            "encoding",
        ];
        for (position, option) in self.options.iter().enumerate() {
            let name = option.at("defname").text().unwrap_or_default();
            let twice = self
                .options
                .iter()
                .take(position)
                .any(|other| other.at("defname").text() == Some(name));
            if !KNOWN.contains(&name) || twice {
                return Err(denied(name));
            }
        }
        if let Some(encoding) = self.text("encoding")?
            && !matches!(encoding.to_ascii_lowercase().as_str(), "utf8" | "utf-8" | "unicode")
        {
            return Err(denied("encoding"));
        }
        match self.text("format")?.unwrap_or("text") {
            "binary"
                if self.options.iter().all(|option| {
                    matches!(option.at("defname").text(), Some("format" | "encoding"))
                }) =>
            {
                Ok(CopyFormat::Binary)
            }
            "text" => self.lines(None),
            "csv" => self.lines(Some(self.csv()?)),
            _ => Err(denied("format")),
        }
    }

    fn lines(&self, csv: Option<Csv>) -> Result<CopyFormat, Denial> {
        let (delimiter, null) = if csv.is_some() { (b',', "") } else { (b'\t', "\\N") };
        let delimiter = self.byte("delimiter")?.unwrap_or(delimiter);
        let null = self.text("null")?.unwrap_or(null);
        if null.contains(['\r', '\n'])
            || null.len() > MAX_NULL
            || null.as_bytes().contains(&delimiter)
        {
            return Err(denied("null"));
        }
        let meaningful = delimiter == b'\\'
            || csv.is_none()
                && (delimiter == b'.'
                    || delimiter.is_ascii_lowercase()
                    || delimiter.is_ascii_digit());
        if meaningful {
            return Err(denied("delimiter"));
        }
        match &csv {
            Some(csv) if csv.quote == delimiter || null.as_bytes().contains(&csv.quote) => {
                return Err(denied("quote"));
            }
            None => {
                for name in ["quote", "escape", "force_not_null", "force_null"] {
                    if self.option(name).is_some() {
                        return Err(denied(name));
                    }
                }
            }
            Some(_) => {}
        }
        let null = null.as_bytes().to_vec();
        Ok(CopyFormat::Lines(Lines { delimiter, null, header: self.header()?, csv }))
    }

    fn csv(&self) -> Result<Csv, Denial> {
        let quote = self.byte("quote")?.unwrap_or(b'"');
        let escape = self.byte("escape")?.unwrap_or(quote);
        // A backslash that quotes might begin `\.` too.
        if quote == b'\\' {
            return Err(denied("quote"));
        }
        Ok(Csv {
            quote,
            escape,
            end_marker: self.env.catalog.server_version < NO_CSV_MARKER,
            force_not_null: self.flags("force_not_null")?,
            force_null: self.flags("force_null")?,
        })
    }

    fn header(&self) -> Result<Header, Denial> {
        let Some(option) = self.option("header") else { return Ok(Header::None) };
        let argument = option.at("arg");
        let word = match argument.kind() {
            "" if argument.is_absent() => "true".to_owned(),
            "Boolean" if argument.at("boolval").truth() => "true".to_owned(),
            "Boolean" => "false".to_owned(),
            "Integer" => argument.at("ival").number().unwrap_or_default().to_string(),
            _ => argument.text().map(str::to_ascii_lowercase).unwrap_or_default(),
        };
        match word.as_str() {
            "true" | "on" | "1" => Ok(Header::Skip),
            "false" | "off" | "0" => Ok(Header::None),
            "match" => Ok(Header::Match),
            _ => Err(denied("header")),
        }
    }

    fn option(&self, name: &str) -> Option<&Tree<'_>> {
        self.options.iter().find(|option| option.at("defname").text() == Some(name))
    }

    fn text(&self, name: &str) -> Result<Option<&str>, Denial> {
        match self.option(name) {
            None => Ok(None),
            Some(option) => option.at("arg").text().map(Some).ok_or_else(|| denied(name)),
        }
    }

    /// One character of one byte, no line end.
    fn byte(&self, name: &str) -> Result<Option<u8>, Denial> {
        match self.text(name)?.map(str::as_bytes) {
            None => Ok(None),
            Some([byte]) if !matches!(byte, b'\r' | b'\n' | 0) => Ok(Some(*byte)),
            Some(_) => Err(denied(name)),
        }
    }

    /// The columns that an option names, by position.
    fn flags(&self, name: &str) -> Result<Vec<bool>, Denial> {
        let Some(option) = self.option(name) else { return Ok(Vec::new()) };
        let argument = option.at("arg");
        if argument.is("A_Star") {
            return Ok(vec![true; self.columns.len()]);
        }
        let named = argument.name_parts().unwrap_or_default();
        let known = |name: &&str| self.columns.iter().any(|column| column == name);
        if named.is_empty() || !named.iter().all(known) {
            return Err(denied(name));
        }
        Ok(self.columns.iter().map(|column| named.contains(&column.as_str())).collect())
    }
}

fn denied(option: &str) -> Denial {
    Denial::of(DenialCode::Copy, option)
}
