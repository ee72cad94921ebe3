//! Policy files → [`Policies`], or every fault at once. Layer 1, pure: the caller reads the files.
//!
//! Refuses what could be understood in two ways: two entries for one name, a child whose parent has
//! no tenant, a column without a type. SQL in `where` and `mask` is not read here but by `sql`
//! ([`Policy::expressions`] lists it).

use std::collections::{BTreeMap, HashMap};
use std::sync::Arc;

use super::bigquery::{self, BigQueryPattern, BigQueryPolicy};
use super::file::{
    AccessWord, BigQueryFile, BreakGlassEntry, ClaimRuleEntry, ColumnEntry, DefaultTenant,
    ModeWord, PolicyFile, PostgresFile, QuotaEntry, ScalarText, TableEntry, TableRules, TableWord,
    TenantEntry, TypeWord,
};
use super::name::{self, EntryName};
use super::{
    Access, BreakGlass, ClaimRule, ColumnRule, Mode, Policy, PolicyExpression, Protection, Quota,
    RelationPattern, TablePolicy, TenantType,
};
use crate::claims::ClaimPath;
use crate::ids::{PolicyEpoch, RelationName};
use crate::mutant;
use crate::yaml::read::{At, FromNode, Present};
use crate::yaml::{self, Fault, Key, SourcePosition, quoted};

/// Longest way from a table through its parents to a tenant column.
pub const MAX_TENANT_THROUGH: usize = 3;

const MONITOR: &str = "`mode: monitor`: what would be denied is recorded and let through";
const MONITOR_LATER: &str = "`mode: monitor` is not built yet for BigQuery";
const MASK: &str = "masks are not built yet for BigQuery";

/// Everything that the policy files say.
#[derive(Clone, Debug, Default)]
pub struct Policies {
    /// The policy for PostgreSQL.
    pub postgres: Policy,
    /// The policy for BigQuery.
    pub bigquery: BigQueryPolicy,
    /// What is accepted but not enforced as written yet, sorted. Each of these fails closed.
    pub warnings: Vec<Fault>,
}

/// Compiles policy files, given as (name, text).
///
/// # Errors
/// Every fault of every file, sorted by file, line and column.
pub fn compile<N: AsRef<str>, T: AsRef<str>>(
    files: &[(N, T)],
    epoch: PolicyEpoch,
) -> Result<Policies, Vec<Fault>> {
    let mut compiler = Compiler::default();
    let mut all_read = true;
    for (name, text) in files {
        match yaml::parse(name.as_ref(), text.as_ref(), &mut compiler.faults) {
            Ok(node) => match PolicyFile::from_node(&node, &mut compiler.faults) {
                Some(PolicyFile::Postgres(file)) => compiler.postgres(*file),
                Some(PolicyFile::BigQuery(file)) => compiler.bigquery(*file),
                None => all_read = false,
            },
            Err(fault) => {
                compiler.faults.push(fault);
                all_read = false;
            }
        }
    }
    compiler.order();
    // A parent may stand in the file that could not be read.
    if all_read && !mutant::on("parents-unchecked") {
        compiler.check_parents();
    }
    compiler.finish(epoch)
}

/// What a table entry takes from its file.
struct Defaults {
    /// Column and type; placeholders when the file's own are faulty.
    tenant: Option<(String, TenantType)>,
    mode: Mode,
    names: Names,
}

/// How an engine spells a parent's column and a column.
#[derive(Clone, Copy)]
struct Names {
    parent: fn(&str) -> Result<(RelationName, String), String>,
    column: fn(&str) -> Result<String, String>,
    /// Whether it shows columns masked.
    masks: bool,
}

#[derive(Default)]
struct Compiler {
    faults: Vec<Fault>,
    warnings: Vec<Fault>,
    postgres: Policy,
    /// The mode of each file for PostgreSQL.
    postgres_modes: Vec<Mode>,
    bigquery: BigQueryPolicy,
    /// First place of each name, by engine and canonical spelling.
    seen: HashMap<(&'static str, String), SourcePosition>,
}

impl Compiler {
    fn fault(&mut self, at: &SourcePosition, message: impl Into<String>) {
        self.faults.push(Fault::new(at, message));
    }

    fn warn(&mut self, at: &SourcePosition, message: &str) {
        self.warnings.push(Fault::new(at, message));
    }

    /// The mode; monitoring is no mistake, but nobody should forget it.
    fn mode(&mut self, mode: Option<At<ModeWord>>, names: Names) -> Option<Mode> {
        let At { value, at } = mode?;
        match value {
            ModeWord::Enforce => {}
            ModeWord::Monitor => self.warn(&at, if names.masks { MONITOR } else { MONITOR_LATER }),
        }
        Some(value.into())
    }

    /// The value, or its error as a fault at `at`.
    fn take<T>(&mut self, at: &SourcePosition, read: Result<T, String>) -> Option<T> {
        read.map_err(|message| self.fault(at, message)).ok()
    }

    /// The value of a name, or its error as a fault that quotes the name.
    fn take_name<T>(
        &mut self,
        name: &str,
        at: &SourcePosition,
        read: Result<T, String>,
    ) -> Option<T> {
        self.take(at, read.map_err(|message| format!("{}: {message}", quoted(name))))
    }

    /// Notes the first place of a name; a second one is a fault.
    fn first(&mut self, kind: &'static str, name: String, at: &SourcePosition) -> bool {
        match self.seen.get(&(kind, name.clone())) {
            Some(_) if mutant::on("second-entry") => true,
            Some(first) => {
                let message = format!("{} has two entries; the first is at {first}", quoted(&name));
                self.fault(at, message);
                false
            }
            None => {
                self.seen.insert((kind, name), at.clone());
                true
            }
        }
    }

    fn defaults(
        &mut self,
        tenant: Option<Present<DefaultTenant>>,
        mode: Option<At<ModeWord>>,
        names: Names,
    ) -> Defaults {
        let tenant = tenant.map(|Present(tenant)| {
            let column = tenant.as_ref().and_then(|tenant| {
                let At { value, at } = &tenant.column;
                self.take_name(value, at, (names.column)(value))
            });
            let tenant_type = tenant.map_or(TenantType::Text, |tenant| tenant.r#type.into());
            (column.unwrap_or_default(), tenant_type)
        });
        Defaults { tenant, mode: self.mode(mode, names).unwrap_or_default(), names }
    }

    fn postgres(&mut self, file: PostgresFile) {
        let names = Names { parent: name::parent_column, column: name::column, masks: true };
        let defaults = self.defaults(file.tenant, file.mode, names);
        self.postgres_modes.push(defaults.mode);
        for (key, entry) in file.tables.unwrap_or_default().0 {
            let Some(name) = self.take_name(&key.text, &key.at, name::entry(&key.text)) else {
                let _ = self.table(&key, entry, &defaults);
                continue;
            };
            let spelling = match &name {
                EntryName::Exact(relation) => relation.to_string(),
                EntryName::Pattern(pattern) => format!("{}.{}", pattern.schema, pattern.name),
            };
            let fresh = self.first("table", spelling, &key.at);
            let table = Arc::new(self.table(&key, entry, &defaults));
            match name {
                _ if !fresh => {}
                EntryName::Exact(relation) => {
                    self.postgres.tables.insert(relation, table);
                }
                EntryName::Pattern(pattern) => self.postgres.patterns.push((pattern, table)),
            }
        }
        for At { value, at } in file.functions.map(|f| f.allow).unwrap_or_default() {
            if let Some(function) = self.take_name(&value, &at, name::function(&value)) {
                self.postgres.functions.insert(function);
            }
        }
        if let Some(At { value, at }) = file.ddl
            && self.first("key", "ddl".to_owned(), &at)
        {
            self.postgres.ddl = self.claim_rule(value);
        }
        if let Some(At { value, at }) = file.break_glass
            && self.first("key", "break_glass".to_owned(), &at)
        {
            self.postgres.break_glass = self.break_glass(value, &at);
        }
        for quota in file.quotas.unwrap_or_default() {
            let quota = self.quota(quota, defaults.mode);
            self.postgres.quotas.extend(quota);
        }
    }

    fn bigquery(&mut self, file: BigQueryFile) {
        let column = |column: &str| Ok(column.to_owned());
        let names = Names { parent: bigquery_parent, column, masks: false };
        let defaults = self.defaults(file.tenant, file.mode, names);
        for (key, entry) in file.tables.unwrap_or_default().0 {
            let table = Arc::new(self.table(&key, entry, &defaults));
            let parts = self.take_name(&key.text, &key.at, bigquery::split(&key.text, 3));
            let Some(Ok([project, dataset, table_name])) = parts.map(<[String; 3]>::try_from)
            else {
                continue;
            };
            if self.first("BigQuery table", key.text, &key.at) {
                let pattern = BigQueryPattern { project, dataset, table: table_name };
                self.bigquery.tables.push((pattern, table));
            }
        }
        for (key, mode) in file.datasets.unwrap_or_default().0 {
            let parts = self.take_name(&key.text, &key.at, bigquery::split(&key.text, 2));
            if let Some(Ok([project, dataset])) = parts.map(<[String; 2]>::try_from)
                && self.first("BigQuery dataset", key.text, &key.at)
            {
                self.bigquery.datasets.insert((project, dataset), mode);
            }
        }
        for At { value, at } in file.functions.map(|f| f.allow).unwrap_or_default() {
            let parts = self.take_name(&value, &at, bigquery::split(&value, 3));
            if parts.is_some() && value.contains('*') {
                let message = "routines are allowed one by one, without `*`".to_owned();
                self.fault(&at, message);
            } else if parts.is_some() {
                self.bigquery.functions.insert(value);
            }
        }
        if let Some(At { value, at }) = file.maximum_bytes_billed
            && self.first("key", "maximum_bytes_billed".to_owned(), &at)
        {
            self.bigquery.maximum_bytes_billed = Some(value.0);
        }
        if let Some(At { value, at }) = file.bytes_per_day
            && self.first("key", "bytes_per_day".to_owned(), &at)
        {
            self.bigquery.bytes_per_day = Some(value.0);
        }
        for (key, label) in file.labels.unwrap_or_default().0 {
            let allowed = |c: char| c.is_lowercase() || c.is_numeric() || matches!(c, '_' | '-');
            let valid = |text: &str| text.chars().count() <= 63 && text.chars().all(allowed);
            if !valid(&key.text) || !key.text.starts_with(char::is_lowercase) {
                let message = format!(
                    "{}: a label's key has up to 63 small letters, digits, `_`, `-`, a letter first",
                    quoted(&key.text)
                );
                self.fault(&key.at, message);
            } else if !valid(&label.value) {
                let message = format!(
                    "{}: a label's value has up to 63 small letters, digits, `_` and `-`",
                    quoted(&label.value)
                );
                self.fault(&label.at, message);
            } else if self.first("BigQuery label", key.text.clone(), &key.at) {
                self.bigquery.labels.insert(key.text, label.value);
            }
        }
        for quota in file.quotas.unwrap_or_default() {
            let quota = self.quota(quota, defaults.mode);
            self.bigquery.quotas.extend(quota);
        }
    }

    /// The policy of one entry. A faulty one becomes a placeholder, so that entries that lean on it
    /// are judged as if it were well: nothing compiled leaves a run with faults.
    fn table(&mut self, key: &Key, entry: TableEntry, defaults: &Defaults) -> TablePolicy {
        let plain = |protection, access| TablePolicy {
            protection,
            access,
            condition: None,
            columns: BTreeMap::new(),
            mode: defaults.mode,
            rule: key.text.as_str().into(),
            at: key.at.clone(),
        };
        match entry {
            TableEntry::Word(TableWord::Shared) if mutant::on("shared-writable") => {
                plain(Protection::Shared, Access::ALL)
            }
            TableEntry::Word(TableWord::Shared) => plain(Protection::Shared, Access::READ),
            TableEntry::Word(TableWord::Deny) if mutant::on("deny-shared") => {
                plain(Protection::Shared, Access::READ)
            }
            TableEntry::Word(TableWord::Deny) => plain(Protection::Deny, Access::NONE),
            TableEntry::Rules(rules) => {
                let placeholder = plain(placeholder(), Access::NONE);
                self.rules(key, *rules, defaults, placeholder)
            }
            TableEntry::Faulty => plain(placeholder(), Access::NONE),
        }
    }

    fn rules(
        &mut self,
        key: &Key,
        rules: TableRules,
        defaults: &Defaults,
        table: TablePolicy,
    ) -> TablePolicy {
        let protection = match (rules.tenant, rules.tenant_through) {
            (Some(_), Some(through)) => {
                self.fault(
                    &through.at,
                    format!("{}: either `tenant` or `tenant_through`, not both", quoted(&key.text)),
                );
                None
            }
            (Some(tenant), None) => self.tenant(tenant, defaults),
            (None, Some(through)) => match <[_; 1]>::try_from(through.value.0) {
                Ok([(column, parent)]) => self.tenant_through(&column, parent, defaults.names),
                Err(_) => {
                    self.fault(
                        &through.at,
                        "`tenant_through` must name exactly one column: \
                         `{account_id: public.accounts.id}`",
                    );
                    None
                }
            },
            (None, None) => match &defaults.tenant {
                Some((column, tenant_type)) => {
                    Some(Protection::Tenant { column: column.clone(), tenant_type: *tenant_type })
                }
                None => {
                    self.fault(
                        &key.at,
                        format!(
                            "{} needs `tenant` or `tenant_through`, as the file has no default `tenant`",
                            quoted(&key.text)
                        ),
                    );
                    None
                }
            },
        };
        let mode = self.mode(rules.mode, defaults.names);
        let mut columns = BTreeMap::new();
        for (column, rule) in rules.columns.unwrap_or_default().0 {
            let read = (defaults.names.column)(&column.text);
            let name = self.take_name(&column.text, &column.at, read);
            let rule = match rule {
                ColumnEntry::Word(_) => Some(ColumnRule::Deny),
                ColumnEntry::Mask(mask) => {
                    if !defaults.names.masks {
                        self.warn(&mask.mask.at, MASK);
                    }
                    let expression = expression(mask.mask);
                    match mask.unless.map(|rule| self.claim_rule(rule)) {
                        Some(None) => None,
                        Some(Some(unless)) => {
                            Some(ColumnRule::Mask { expression, unless: Some(unless) })
                        }
                        None => Some(ColumnRule::Mask { expression, unless: None }),
                    }
                }
            };
            if let (Some(name), Some(rule)) = (name, rule)
                && columns.insert(name.clone(), rule).is_some()
            {
                let message = format!("the column {} has two rules", quoted(&name));
                self.fault(&column.at, message);
            }
        }
        TablePolicy {
            protection: protection.unwrap_or_else(placeholder),
            access: rules.access.map_or(Access::ALL, |access| self.access(access)),
            condition: rules.r#where.map(expression).filter(|_| !mutant::on("where-dropped")),
            columns,
            mode: mode.unwrap_or(defaults.mode),
            ..table
        }
    }

    fn tenant(&mut self, tenant: TenantEntry, defaults: &Defaults) -> Option<Protection> {
        let (At { value, at }, given) = match tenant {
            TenantEntry::Column(column) => (column, None),
            TenantEntry::Typed(typed) => (typed.column, typed.r#type),
        };
        let column = self.take_name(&value, &at, (defaults.names.column)(&value));
        let default = defaults.tenant.as_ref().map(|(_, tenant_type)| *tenant_type);
        let Some(tenant_type) = given.map(TenantType::from).or(default) else {
            self.fault(
                &at,
                format!(
                    "the type of {} is not known: write `{{column: …, type: uuid | text | int}}` \
                     here, or give the file a default `tenant`",
                    quoted(&value)
                ),
            );
            return None;
        };
        Some(Protection::Tenant { column: column?, tenant_type })
    }

    fn tenant_through(
        &mut self,
        column: &Key,
        parent: At<String>,
        names: Names,
    ) -> Option<Protection> {
        let own = self.take_name(&column.text, &column.at, (names.column)(&column.text));
        let read = (names.parent)(&parent.value);
        let (parent, parent_column) = self.take_name(&parent.value, &parent.at, read)?;
        Some(Protection::TenantThrough { column: own?, parent, parent_column })
    }

    fn access(&mut self, access: At<Vec<At<AccessWord>>>) -> Access {
        let mut granted = Access::NONE;
        if access.value.is_empty() {
            self.fault(&access.at, "`access` is empty: write `deny` for a table that nobody uses");
        }
        for At { value, at } in access.value {
            let privilege = match value {
                AccessWord::Select => &mut granted.select,
                AccessWord::Insert => &mut granted.insert,
                AccessWord::Update => &mut granted.update,
                AccessWord::Delete => &mut granted.delete,
            };
            if std::mem::replace(privilege, true) {
                self.fault(&at, format!("`{}` is given twice", value.word()));
            }
        }
        granted
    }

    fn claim_rule(&mut self, entry: ClaimRuleEntry) -> Option<ClaimRule> {
        self.claim_values(entry.claim.0, entry.r#in)
    }

    fn claim_values(&mut self, claim: ClaimPath, values: At<Vec<ScalarText>>) -> Option<ClaimRule> {
        if values.value.is_empty() {
            self.fault(&values.at, "`in` must list at least one value");
            return None;
        }
        Some(ClaimRule { claim, accepted: values.value.into_iter().map(|value| value.0).collect() })
    }

    fn break_glass(&mut self, entry: BreakGlassEntry, at: &SourcePosition) -> Option<BreakGlass> {
        let max_lifetime_seconds = entry.max_lifetime.0.as_secs();
        if max_lifetime_seconds == 0 {
            self.fault(at, "`max_lifetime` must be at least `1s`");
        }
        let rule = self.claim_values(entry.claim.0, entry.r#in)?;
        Some(BreakGlass { rule, max_lifetime_seconds })
    }

    fn quota(&mut self, At { value, at }: At<QuotaEntry>, mode: Mode) -> Option<Quota> {
        if value.statements_per_second.is_none() && value.concurrent.is_none() {
            let message = "a quota needs `statements_per_second` or `concurrent`";
            self.fault(&at, message);
            return None;
        }
        if value.burst.is_some() && value.statements_per_second.is_none() {
            self.fault(&at, "`burst` needs `statements_per_second`");
            return None;
        }
        Some(Quota {
            tenant: value.tenant.map(|tenant| tenant.0),
            statements_per_second: value.statements_per_second,
            burst: value.burst,
            concurrent: value.concurrent,
            mode,
        })
    }

    /// Puts the narrow patterns before the wide ones; equals stay in file order.
    fn order(&mut self) {
        self.postgres.patterns.sort_by_key(|(pattern, _)| {
            let length = literal_length(pattern);
            std::cmp::Reverse(if mutant::on("pattern-order") { 0 } else { length })
        });
        self.bigquery.tables.sort_by_key(|(pattern, _)| {
            (!pattern.is_exact(), std::cmp::Reverse(pattern.literal_length()))
        });
    }

    /// Each `tenant_through` must lead to a tenant column within [`MAX_TENANT_THROUGH`] steps.
    fn check_parents(&mut self) {
        let mut faults = Vec::new();
        let exact = self.postgres.tables.values();
        for table in exact.chain(self.postgres.patterns.iter().map(|(_, table)| table)) {
            if let Err(message) = leads_to_tenant(table, |parent| self.postgres.table(parent)) {
                faults.push(Fault::new(&table.at, message));
            }
        }
        for (_, table) in &self.bigquery.tables {
            let find = |parent: &RelationName| {
                let (project, dataset) = parent.schema.split_once('.')?;
                let mut tables = self.bigquery.tables.iter();
                tables.find(|(p, _)| p.matches(project, dataset, &parent.name)).map(|(_, t)| t)
            };
            if let Err(message) = leads_to_tenant(table, find) {
                faults.push(Fault::new(&table.at, message));
            }
        }
        self.faults.append(&mut faults);
    }

    fn finish(mut self, epoch: PolicyEpoch) -> Result<Policies, Vec<Fault>> {
        if !self.faults.is_empty() && !mutant::on("faults-dropped") {
            self.faults.sort();
            self.faults.dedup();
            return Err(self.faults);
        }
        self.postgres.epoch = epoch;
        let modes = &self.postgres_modes;
        if !modes.is_empty() && modes.iter().all(|mode| *mode == Mode::Monitor) {
            self.postgres.mode = Mode::Monitor;
        }
        self.bigquery.epoch = epoch;
        self.warnings.sort();
        let Self { postgres, bigquery, warnings, .. } = self;
        Ok(Policies { postgres, bigquery, warnings })
    }
}

/// Follows `tenant_through` from parent to parent.
fn leads_to_tenant<'a>(
    table: &'a Arc<TablePolicy>,
    find: impl Fn(&RelationName) -> Option<&'a Arc<TablePolicy>>,
) -> Result<(), String> {
    let mut way = vec![table];
    let mut current = table;
    loop {
        let parent = match &current.protection {
            Protection::Tenant { .. } => return Ok(()),
            Protection::TenantThrough { parent, .. } => parent,
            Protection::Shared | Protection::Deny if way.len() == 1 => return Ok(()),
            Protection::Shared | Protection::Deny => {
                return Err(format!(
                    "{}: the parent {} has no tenant: it is `shared` or `deny`",
                    quoted(&table.rule),
                    quoted(&current.rule)
                ));
            }
        };
        let Some(next) = find(parent) else {
            return Err(format!(
                "{}: the parent `{parent}` has no entry of its own",
                quoted(&table.rule)
            ));
        };
        if way.iter().any(|seen| Arc::ptr_eq(seen, next)) {
            return Err(format!(
                "{}: `tenant_through` leads in a circle at `{parent}`",
                quoted(&table.rule)
            ));
        }
        if way.len() > MAX_TENANT_THROUGH {
            return Err(format!(
                "{}: `tenant_through` leads over more than {MAX_TENANT_THROUGH} parents",
                quoted(&table.rule)
            ));
        }
        way.push(next);
        current = next;
    }
}

fn literal_length(pattern: &RelationPattern) -> usize {
    let literal = |text: &str| text.chars().filter(|c| *c != '*').count();
    literal(&pattern.schema) + literal(&pattern.name)
}

fn bigquery_parent(text: &str) -> Result<(RelationName, String), String> {
    let form = || "the parent is named `project.dataset.table.column`".to_owned();
    let (table, column) = text.rsplit_once('.').ok_or_else(form)?;
    match <[String; 3]>::try_from(bigquery::split(table, 3).map_err(|_| form())?) {
        Ok([project, dataset, table]) if !column.is_empty() && !text.contains('*') => {
            Ok((RelationName::new(format!("{project}.{dataset}"), table), column.to_owned()))
        }
        _ => Err(form()),
    }
}

/// Stands for a rule that could not be read, in a run that ends in faults.
fn placeholder() -> Protection {
    Protection::Tenant { column: String::new(), tenant_type: TenantType::Text }
}

fn expression(text: At<String>) -> PolicyExpression {
    PolicyExpression { text: text.value, at: text.at }
}

impl From<ModeWord> for Mode {
    fn from(word: ModeWord) -> Self {
        match word {
            ModeWord::Enforce => Self::Enforce,
            ModeWord::Monitor => Self::Monitor,
        }
    }
}

impl From<TypeWord> for TenantType {
    fn from(word: TypeWord) -> Self {
        match word {
            TypeWord::Uuid => Self::Uuid,
            TypeWord::Text => Self::Text,
            TypeWord::Int => Self::Int,
        }
    }
}

#[cfg(test)]
mod tests;
