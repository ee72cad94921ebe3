//! A weakness that `hedgerow scan` and the start of `serve` report: what, how bad, why, and what to do.
//! Layer 4, pure.

use std::fmt;

use serde::Serialize;

/// How bad a weakness is. The order is from worst to least.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash, Serialize)]
#[serde(rename_all = "lowercase")]
pub enum Severity {
    /// A lock of the design is off: without the rewrite every row would be open.
    Critical,
    /// Rows of other tenants may be reached past the rewrite.
    High,
    /// A second lock is missing, or the existence of another tenant's value shows.
    Medium,
    /// Denied, or of use only together with something else: to be tidied up.
    Low,
}

impl Severity {
    /// All of them, the worst first.
    pub const ALL: [Self; 4] = [Self::Critical, Self::High, Self::Medium, Self::Low];

    /// Its name in reports.
    pub const fn name(self) -> &'static str {
        match self {
            Self::Critical => "critical",
            Self::High => "high",
            Self::Medium => "medium",
            Self::Low => "low",
        }
    }
}

/// The kinds, their names in reports, and how bad each is where nothing makes it worse or better.
macro_rules! kinds {
    ($($(#[doc = $text:literal])+ $kind:ident = $name:literal, $severity:ident;)+) => {
        /// What kind of weakness it is. Its name is public interface: scripts filter by it.
        #[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord, Hash)]
        pub enum FindingKind {
            $($(#[doc = $text])+ $kind,)+
        }

        impl FindingKind {
            /// All of them, in the order of reports.
            pub const ALL: &[Self] = &[$(Self::$kind),+];

            /// Its name in reports.
            pub const fn name(self) -> &'static str {
                match self { $(Self::$kind => $name),+ }
            }

            /// What it is, in one sentence.
            pub const fn meaning(self) -> &'static str {
                match self { $(Self::$kind => concat!($($text),+).trim_ascii_start()),+ }
            }

            /// How bad it is where nothing makes it worse or better.
            pub const fn severity(self) -> Severity {
                match self { $(Self::$kind => Severity::$severity),+ }
            }
        }
    };
}

kinds! {
    /// A superuser: the upstream role, or another that an application could sign in as.
    RoleSuperuser = "role-superuser", Critical;
    /// A role with BYPASSRLS: the upstream role, or another that an application could sign in as.
    RoleBypassRls = "role-bypassrls", Critical;
    /// The upstream role reaches files, programs, all data or other sessions, or may make roles.
    RolePowers = "role-powers", High;
    /// The upstream role owns a protected table.
    RoleOwner = "role-owner", Medium;
    /// A server older than those that are tested.
    ServerVersion = "server-version", Low;
    /// A protected table without row-level security.
    RlsMissing = "rls-missing", Medium;
    /// Row-level security does not bind the table's owner.
    RlsNotForced = "rls-not-forced", Medium;
    /// A permissive policy that is true for every row: it opens what the others close.
    RlsOpen = "rls-open", High;
    /// A policy names a table that does not exist.
    TableMissing = "table-missing", Low;
    /// A policy names a column that does not exist.
    ColumnMissing = "column-missing", Medium;
    /// The tenant column may be NULL.
    TenantNullable = "tenant-nullable", Medium;
    /// The tenant column has another type than the policy says.
    TenantType = "tenant-type", Medium;
    /// A table or view that no policy names: denied.
    NoPolicy = "no-policy", Low;
    /// A unique key without the tenant: a violation tells of another tenant's row.
    UniqueAcrossTenants = "unique-across-tenants", Medium;
    /// An exclusion constraint without the tenant: a violation tells of another tenant's row.
    ExclusionAcrossTenants = "exclusion-across-tenants", Medium;
    /// A foreign key without the tenant: it may lead to another tenant's row.
    ForeignKeyAcrossTenants = "foreign-key-across-tenants", Medium;
    /// A function that runs with its owner's rights.
    SecurityDefiner = "security-definer", Medium;
    /// A view that reads protected tables with its owner's rights, or a materialized view of them.
    ViewHidesTable = "view-hides-table", High;
    /// A trigger on a protected table that changes data elsewhere or runs SQL that cannot be read.
    TriggerWrites = "trigger-writes", Medium;
    /// A rule: PostgreSQL rewrites statements on the relation behind Hedgerow's back.
    RuleRewrites = "rule-rewrites", Medium;
    /// Everybody who can connect has a privilege on the relation.
    PublicGrant = "public-grant", High;
    /// New tables or sequences will be open to everybody.
    DefaultPrivileges = "default-privileges", Medium;
    /// Everybody may make objects in a schema, and so shadow those that applications name.
    SchemaCreate = "schema-create", Medium;
    /// A sequence that several tables or tenants draw from: its values tell how much others do.
    SequenceShared = "sequence-shared", Low;
    /// Code that runs at changes of the schema, with the rights of whoever makes them.
    EventTrigger = "event-trigger", Low;
    /// Logical replication carries the rows of all tenants away.
    Publication = "publication", Medium;
    /// An extension that reaches files, the network, other databases or others' statements.
    ExtensionReach = "extension-reach", Medium;
    /// A language whose functions are not confined to the database.
    LanguageUntrusted = "language-untrusted", Medium;
}

impl FindingKind {
    /// Whether `postgres.require_rls` must refuse to start because of it: row-level security would
    /// not hold.
    pub const fn breaks_rls(self) -> bool {
        matches!(
            self,
            Self::RoleSuperuser | Self::RoleBypassRls | Self::RlsMissing | Self::RlsNotForced
        )
    }
}

/// One weakness.
#[derive(Clone, Debug, PartialEq, Eq, PartialOrd, Ord)]
pub struct Finding {
    /// What kind.
    pub kind: FindingKind,
    /// How bad.
    pub severity: Severity,
    /// What it is about, as SQL would name it.
    pub object: String,
    /// Why it matters, in plain words.
    pub why: String,
    /// What puts it right: SQL, a line of a policy file, or a command; several are lines.
    pub fix: String,
}

impl Finding {
    /// A finding as bad as its kind.
    pub fn new(
        kind: FindingKind,
        object: &dyn fmt::Display,
        why: impl Into<String>,
        fix: impl Into<String>,
    ) -> Self {
        Self {
            kind,
            severity: kind.severity(),
            object: object.to_string(),
            why: why.into(),
            fix: fix.into(),
        }
    }

    /// The same, worse or less bad than its kind.
    #[must_use]
    pub fn of(self, severity: Severity) -> Self {
        Self { severity, ..self }
    }
}

/// Four lines or more for a person.
impl fmt::Display for Finding {
    fn fmt(&self, f: &mut fmt::Formatter<'_>) -> fmt::Result {
        writeln!(f, "{:<9} {}  {}", self.severity.name(), self.kind.name(), self.object)?;
        write!(f, "    why  {}", self.why)?;
        for (number, line) in self.fix.lines().enumerate() {
            write!(f, "\n    {}  {line}", if number == 0 { "fix" } else { "   " })?;
        }
        Ok(())
    }
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn every_kind_has_a_name_of_its_own_and_a_sentence() {
        let mut names: Vec<&str> = FindingKind::ALL.iter().map(|kind| kind.name()).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        for kind in FindingKind::ALL {
            assert!(kind.meaning().ends_with('.'), "{kind:?}");
        }
    }
}
