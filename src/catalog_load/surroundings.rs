//! What surrounds the tables and weakens isolation: roles, grants, triggers, rules, extensions,
//! publications. Layer 4, pure.
//!
//! Most of it does not pass through Hedgerow at all, and that is the point: a proxy guards its own
//! door, and these are the others.

use super::finding::{Finding, FindingKind, Severity};
use super::posture::{effective_policy, is_protected};
use super::survey::{Role, Survey, Trigger};
use crate::catalog::Catalog;
use crate::ids::{QuotedIdent, RelationName};
use crate::policy::{Policy, Protection};

/// Roles of PostgreSQL's own that reach beyond tables, and what each reaches.
const POWERS: &[(&str, &str)] = &[
    ("pg_read_all_data", "reads every table"),
    ("pg_write_all_data", "writes every table"),
    ("pg_read_server_files", "reads files of the server"),
    ("pg_write_server_files", "writes files of the server"),
    ("pg_execute_server_program", "runs programs on the server"),
    ("pg_read_all_stats", "sees all sessions and their statements"),
    ("pg_monitor", "sees all sessions and their statements"),
    ("pg_signal_backend", "ends the sessions of others"),
    ("pg_create_subscription", "opens connections to other servers"),
];

/// Extensions that reach out of the database or show what others do, and how.
const REACH: &[(&str, &str)] = &[
    ("adminpack", "reads and writes files of the server"),
    ("aws_lambda", "calls functions over the network"),
    ("aws_s3", "copies tables to and from object storage"),
    ("azure_storage", "copies tables to and from object storage"),
    ("dblink", "runs any SQL text over connections of its own, past Hedgerow"),
    ("file_fdw", "reads files of the server"),
    ("http", "sends HTTP requests from the server"),
    ("mongo_fdw", "opens connections to other servers"),
    ("multicorn", "runs Python on the server"),
    ("mysql_fdw", "opens connections to other servers"),
    ("odbc_fdw", "opens connections to other servers"),
    ("ogr_fdw", "reads files and opens connections"),
    ("old_snapshot", "shows what other sessions do"),
    ("oracle_fdw", "opens connections to other servers"),
    ("pageinspect", "shows the raw pages of tables, every tenant's rows in them"),
    ("pg_background", "runs any SQL text in sessions of its own"),
    ("pg_buffercache", "shows which parts of tables are in use"),
    ("pg_cron", "runs SQL text later, in sessions of its own"),
    ("pg_freespacemap", "shows how full tables are"),
    ("pg_net", "sends HTTP requests from the server"),
    ("pg_stat_statements", "shows statements of other tenants, and how often they run"),
    ("pg_visibility", "shows which pages of tables changed"),
    ("pg_walinspect", "shows the write-ahead log, every tenant's rows in it"),
    ("pgrowlocks", "shows which rows others have locked"),
    ("pgstattuple", "shows how many rows tables have"),
    ("postgres_fdw", "opens connections to other servers, and to this one past Hedgerow"),
    ("redis_fdw", "opens connections to other servers"),
    ("sslinfo", "shows the certificate of Hedgerow's own connection"),
    ("tds_fdw", "opens connections to other servers"),
];

/// Words by which a trigger's function changes data, runs text, calls further, or tells others.
const DEEDS: &[&str] = &[
    "INSERT",
    "UPDATE",
    "DELETE",
    "MERGE",
    "TRUNCATE",
    "COPY",
    "EXECUTE",
    "PERFORM",
    "CALL",
    "NOTIFY",
    "PG_NOTIFY",
    "SETVAL",
    "SET_CONFIG",
];

/// Every weakness of the surroundings.
pub(super) fn findings(catalog: &Catalog, policy: &Policy, survey: &Survey) -> Vec<Finding> {
    let mut report = Report { catalog, policy, findings: Vec::new() };
    report.roles(&survey.roles);
    report.constraints(survey);
    for trigger in &survey.triggers {
        report.trigger(trigger);
    }
    for (relation, rule, event) in &survey.rules {
        report.rule(relation, rule, event);
    }
    report.grants(survey);
    report.sequences(survey);
    report.code(survey);
    report.publications(survey);
    for (relation, name) in &survey.open_policies {
        if report.protected(relation) {
            report.add(
                FindingKind::RlsOpen,
                relation,
                format!(
                    "the row-level policy {} is true for every row, and permissive policies add up",
                    QuotedIdent(name)
                ),
                format!("DROP POLICY {} ON {relation};", QuotedIdent(name)),
            );
        }
    }
    report.findings
}

struct Report<'a> {
    catalog: &'a Catalog,
    policy: &'a Policy,
    findings: Vec<Finding>,
}

impl Report<'_> {
    fn add(
        &mut self,
        kind: FindingKind,
        object: &dyn std::fmt::Display,
        why: impl Into<String>,
        fix: impl Into<String>,
    ) {
        self.findings.push(Finding::new(kind, object, why, fix));
    }

    /// Whether rows of the relation belong to tenants, or to nobody.
    fn protected(&self, relation: &RelationName) -> bool {
        let found = self.catalog.relation(relation);
        let rule = found.and_then(|found| effective_policy(self.catalog, self.policy, found));
        rule.is_some_and(|rule| is_protected(rule) || matches!(rule.protection, Protection::Deny))
    }

    /// The column that holds the tenant, where the relation has one of its own.
    fn tenant_of(&self, relation: &RelationName) -> Option<&str> {
        let found = self.catalog.relation(relation)?;
        match &effective_policy(self.catalog, self.policy, found)?.protection {
            Protection::Tenant { column, .. } => Some(column),
            Protection::TenantThrough { .. } | Protection::Shared | Protection::Deny => None,
        }
    }

    fn roles(&mut self, roles: &[Role]) {
        let upstream = QuotedIdent(&self.catalog.role).to_string();
        let superuser = self.catalog.posture.superuser;
        for role in roles.iter().filter(|role| !role.is_upstream && !role.bootstrap) {
            let name = QuotedIdent(&role.name);
            // A member may take on the attributes by SET ROLE, a stranger has to sign in.
            let member = role.of_upstream && !superuser;
            let severity = match (member, role.login) {
                (true, _) => Severity::High,
                (false, true) => Severity::Medium,
                (false, false) => Severity::Low,
            };
            let way = if member {
                format!("{upstream} is a member and may take it on")
            } else if role.login {
                "who signs in as it, past Hedgerow, is bound by nothing".to_owned()
            } else {
                "its members may take it on".to_owned()
            };
            let attributes = [
                (role.superuser, FindingKind::RoleSuperuser, "SUPERUSER"),
                (role.bypass_rls && !role.superuser, FindingKind::RoleBypassRls, "BYPASSRLS"),
            ];
            for (_, kind, word) in attributes.into_iter().filter(|(has, ..)| *has) {
                let why = format!("it has {word}: row-level security does not bind it, and {way}");
                let fix = format!("ALTER ROLE {name} NO{word};");
                self.findings.push(Finding::new(kind, &name, why, fix).of(severity));
            }
        }
        if superuser {
            return;
        }
        for role in roles.iter().filter(|role| role.of_upstream && !role.is_upstream) {
            if let Some((power, what)) = POWERS.iter().find(|(power, _)| *power == role.name) {
                self.add(
                    FindingKind::RolePowers,
                    &upstream,
                    format!("it is a member of {power}, which {what}"),
                    format!("REVOKE {power} FROM {upstream};"),
                );
            }
        }
        for role in roles.iter().filter(|role| role.is_upstream) {
            let attributes = [
                (role.create_role, "CREATEROLE", "may make roles and take on more than it has"),
                (role.replication, "REPLICATION", "may read every row by replication"),
            ];
            for (_, word, what) in attributes.into_iter().filter(|(has, ..)| *has) {
                let fix = format!("ALTER ROLE {upstream} NO{word};");
                self.add(
                    FindingKind::RolePowers,
                    &upstream,
                    format!("it has {word} and {what}"),
                    fix,
                );
            }
        }
    }

    fn constraints(&mut self, survey: &Survey) {
        for key in &survey.exclusions {
            let relation = key.relation();
            let Some(tenant) = self.tenant_of(&relation).map(str::to_owned) else { continue };
            if key.columns.contains(&tenant) {
                continue;
            }
            let tenant = QuotedIdent(&tenant);
            self.add(
                FindingKind::ExclusionAcrossTenants,
                &relation,
                format!(
                    "the exclusion constraint {} does not compare {tenant}: a violation tells that \
                     another tenant has such a row",
                    QuotedIdent(&key.name)
                ),
                format!(
                    "CREATE EXTENSION IF NOT EXISTS btree_gist;\n\
                     ALTER TABLE {relation} DROP CONSTRAINT {};\n\
                     and add it anew with `{tenant} WITH =` in front: {}",
                    QuotedIdent(&key.name),
                    key.definition
                ),
            );
        }
    }

    fn trigger(&mut self, trigger: &Trigger) {
        // The server's own functions for triggers touch the row alone; a partition's triggers are
        // those of its table.
        if trigger.language == "internal"
            || !self.protected(&trigger.relation)
            || self.policy.table(&trigger.relation).is_none()
        {
            return;
        }
        let readable = matches!(trigger.language.as_str(), "plpgsql" | "sql");
        let deeds = deeds(&trigger.body);
        if readable && deeds.is_empty() {
            return;
        }
        let what = if readable {
            format!("contains {}", deeds.join(", "))
        } else {
            format!("is written in {}, which this scan does not read", trigger.language)
        };
        let rights = if trigger.security_definer {
            "its owner's rights, past row-level security"
        } else {
            "the rights of the upstream role"
        };
        let severity = if trigger.security_definer { Severity::High } else { Severity::Medium };
        let finding = Finding::new(
            FindingKind::TriggerWrites,
            &format!("{} on {}", QuotedIdent(&trigger.name), trigger.relation),
            format!(
                "its function {} {what}; it runs with {rights}, and Hedgerow does not see what it sends",
                trigger.function
            ),
            format!(
                "read it: what it touches must carry the tenant of NEW or OLD; then accept it with\n\
                 --accept '{}:{} on {}'",
                FindingKind::TriggerWrites.name(),
                QuotedIdent(&trigger.name),
                trigger.relation
            ),
        );
        self.findings.push(finding.of(severity));
    }

    fn rule(&mut self, relation: &RelationName, rule: &str, event: &str) {
        let named = self.catalog.relation(relation);
        let known =
            named.is_some_and(|found| effective_policy(self.catalog, self.policy, found).is_some());
        if known {
            self.add(
                FindingKind::RuleRewrites,
                relation,
                format!(
                    "the rule {} makes another statement of each {event}, behind the guard",
                    QuotedIdent(rule)
                ),
                format!(
                    "DROP RULE {} ON {relation};   a trigger does it better",
                    QuotedIdent(rule)
                ),
            );
        }
    }

    fn grants(&mut self, survey: &Survey) {
        for (relation, kind, privileges) in &survey.public_grants {
            let sequence = kind == "SEQUENCE";
            if !sequence && !self.protected(relation) {
                continue;
            }
            let finding = Finding::new(
                FindingKind::PublicGrant,
                relation,
                format!("everybody who can connect past Hedgerow has {privileges} on it"),
                format!("REVOKE ALL ON {kind} {relation} FROM PUBLIC;"),
            );
            let severity = if sequence { Severity::Low } else { finding.severity };
            self.findings.push(finding.of(severity));
        }
        for (role, schema, kind, privileges) in &survey.default_grants {
            let role = QuotedIdent(role);
            let place = if schema.is_empty() {
                String::new()
            } else {
                format!(" IN SCHEMA {}", QuotedIdent(schema))
            };
            self.add(
                FindingKind::DefaultPrivileges,
                &role,
                format!(
                    "{} that {role} makes{} will be open to everybody who can connect: {privileges}",
                    kind.to_lowercase(),
                    place.to_lowercase().replace("in schema", "in the schema")
                ),
                format!(
                    "ALTER DEFAULT PRIVILEGES FOR ROLE {role}{place} REVOKE ALL ON {kind} FROM PUBLIC;"
                ),
            );
        }
        for schema in &survey.open_schemas {
            let schema = QuotedIdent(schema);
            self.add(
                FindingKind::SchemaCreate,
                &schema,
                "everybody who can connect may make functions and operators in it, which statements \
                 and triggers of others then find",
                format!("REVOKE CREATE ON SCHEMA {schema} FROM PUBLIC;"),
            );
        }
    }

    fn sequences(&mut self, survey: &Survey) {
        for sequence in &survey.sequences {
            let name = &sequence.name;
            if sequence.tables.len() > 1 {
                self.add(
                    FindingKind::SequenceShared,
                    name,
                    format!(
                        "{} draw from it: gaps in one tenant's numbers count what others did",
                        sequence.tables.join(", ")
                    ),
                    "give each table an identity column, or keys that tell nothing:\n\
                     ALTER TABLE … ALTER COLUMN id SET DEFAULT gen_random_uuid();",
                );
            } else if !sequence.owned && sequence.usable {
                let role = QuotedIdent(&self.catalog.role);
                let fix = match sequence.tables.first() {
                    Some(table) => format!("ALTER SEQUENCE {name} OWNED BY {table}.COLUMN;"),
                    None => format!("REVOKE ALL ON SEQUENCE {name} FROM {role}, PUBLIC;"),
                };
                self.add(
                    FindingKind::SequenceShared,
                    name,
                    "it belongs to no column and every tenant draws from it: gaps count what others did",
                    fix,
                );
            }
        }
    }

    fn code(&mut self, survey: &Survey) {
        for (name, event, function) in &survey.event_triggers {
            let name = QuotedIdent(name);
            self.add(
                FindingKind::EventTrigger,
                &name,
                format!(
                    "{function} runs at {event}, with the rights of whoever changes the schema"
                ),
                format!("ALTER EVENT TRIGGER {name} DISABLE;   or read it and accept it"),
            );
        }
        for (extension, callable) in &survey.extensions {
            let Some((name, what)) = REACH.iter().find(|(known, _)| known == extension) else {
                continue;
            };
            let (severity, who) = if *callable {
                (
                    Severity::Medium,
                    "the upstream role may call it; Hedgerow denies it where no policy allows it",
                )
            } else {
                (Severity::Low, "the upstream role may not call it")
            };
            let finding = Finding::new(
                FindingKind::ExtensionReach,
                name,
                format!("it {what}; {who}"),
                format!("DROP EXTENSION {name};   or REVOKE EXECUTE on its functions FROM PUBLIC"),
            );
            self.findings.push(finding.of(severity));
        }
        for language in &survey.languages {
            let language = QuotedIdent(language);
            self.add(
                FindingKind::LanguageUntrusted,
                &language,
                "functions in it reach files, the network and every table; triggers may call them",
                format!("DROP LANGUAGE {language};   or DROP EXTENSION of the same name"),
            );
        }
    }

    /// One finding a publication: how many relations of tenants it carries without a filter.
    fn publications(&mut self, survey: &Survey) {
        let mut names: Vec<(&String, bool)> =
            survey.publications.iter().map(|(name, all, ..)| (name, *all)).collect();
        names.dedup();
        for (publication, all) in names {
            let carried: Vec<String> = survey
                .publications
                .iter()
                .filter(|(name, _, relation, filter)| {
                    name == publication && filter.is_empty() && self.protected(relation)
                })
                .map(|(_, _, relation, _)| relation.to_string())
                .collect();
            let (Some(first), quoted) = (carried.first(), QuotedIdent(publication)) else {
                continue;
            };
            let whole = if all { " (FOR ALL TABLES)" } else { "" };
            self.add(
                FindingKind::Publication,
                &quoted,
                format!(
                    "it carries the rows of every tenant to each subscriber{whole}: {}",
                    carried.join(", ")
                ),
                format!(
                    "for a subscriber of one tenant: CREATE PUBLICATION … FOR TABLE {first} WHERE (tenant = …);\n\
                     otherwise keep REPLICATION to roles that may see all tenants, and accept it"
                ),
            );
        }
    }
}

/// The deeds that a function's text names outside of string literals and comments, sorted.
fn deeds(body: &str) -> Vec<&'static str> {
    let mut words = std::collections::BTreeSet::new();
    let mut rest = body;
    while let Some(next) = rest.chars().next() {
        if let Some(behind) = rest.strip_prefix("--") {
            rest = behind.split_once('\n').map_or("", |(_, rest)| rest);
        } else if let Some(behind) = rest.strip_prefix("/*") {
            rest = behind.split_once("*/").map_or("", |(_, rest)| rest);
        } else if let Some(behind) = rest.strip_prefix('\'') {
            rest = behind.split_once('\'').map_or("", |(_, rest)| rest);
        } else if next.is_alphabetic() || next == '_' {
            let end = rest.find(|c: char| !c.is_alphanumeric() && c != '_').unwrap_or(rest.len());
            let (word, behind) = rest.split_at(end);
            let word = word.to_uppercase();
            words.extend(DEEDS.iter().copied().filter(|deed| *deed == word));
            rest = behind;
        } else {
            rest = rest.get(next.len_utf8()..).unwrap_or_default();
        }
    }
    words.into_iter().collect()
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn the_lists_are_sorted_so_that_a_reader_finds_a_name() {
        assert!(REACH.is_sorted_by_key(|(name, _)| *name));
    }

    #[test]
    fn a_triggers_deeds_are_read_past_literals_and_comments() {
        let stamp = "BEGIN -- UPDATE nothing\n /* DELETE */ IF TG_OP = 'INSERT' THEN
                     NEW.updated_at := now(); RAISE 'no UPDATE, it''s closed'; END IF; RETURN NEW; END";
        assert!(deeds(stamp).is_empty());
        let audit = "BEGIN insert INTO log VALUES (NEW.id); EXECUTE 'x'; RETURN NULL; END";
        assert_eq!(deeds(audit), ["EXECUTE", "INSERT"]);
        assert_eq!(deeds("perform pg_notify('x', NEW.secret)"), ["PERFORM", "PG_NOTIFY"]);
    }
}
