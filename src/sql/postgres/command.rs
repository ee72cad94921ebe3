//! The words by which SQL calls a statement: `CREATE TABLE`, `ANALYZE`. Layer 2.
//!
//! For denials and for records of statements whose text is not kept. They follow from the kind of
//! statement alone, and hold nothing that a client wrote.

use pg_raw_parse::raw::{ObjectType, RoleStmtType, TransactionStmtKind};

use super::codes;
use super::tree::Tree;

/// Statements whose words follow from their kind.
const COMMANDS: &[(&str, &str)] = &[
    ("AlterCollationStmt", "ALTER COLLATION"),
    ("AlterDatabaseRefreshCollStmt", "ALTER DATABASE"),
    ("AlterDatabaseSetStmt", "ALTER DATABASE"),
    ("AlterDatabaseStmt", "ALTER DATABASE"),
    ("AlterDefaultPrivilegesStmt", "ALTER DEFAULT PRIVILEGES"),
    ("AlterDomainStmt", "ALTER DOMAIN"),
    ("AlterEnumStmt", "ALTER TYPE"),
    ("AlterEventTrigStmt", "ALTER EVENT TRIGGER"),
    ("AlterExtensionContentsStmt", "ALTER EXTENSION"),
    ("AlterExtensionStmt", "ALTER EXTENSION"),
    ("AlterFdwStmt", "ALTER FOREIGN DATA WRAPPER"),
    ("AlterForeignServerStmt", "ALTER SERVER"),
    ("AlterOpFamilyStmt", "ALTER OPERATOR FAMILY"),
    ("AlterOperatorStmt", "ALTER OPERATOR"),
    ("AlterPolicyStmt", "ALTER POLICY"),
    ("AlterPublicationStmt", "ALTER PUBLICATION"),
    ("AlterRoleSetStmt", "ALTER ROLE"),
    ("AlterRoleStmt", "ALTER ROLE"),
    ("AlterSeqStmt", "ALTER SEQUENCE"),
    ("AlterStatsStmt", "ALTER STATISTICS"),
    ("AlterSubscriptionStmt", "ALTER SUBSCRIPTION"),
    ("AlterSystemStmt", "ALTER SYSTEM"),
    ("AlterTSConfigurationStmt", "ALTER TEXT SEARCH CONFIGURATION"),
    ("AlterTSDictionaryStmt", "ALTER TEXT SEARCH DICTIONARY"),
    ("AlterTableMoveAllStmt", "ALTER TABLE"),
    ("AlterTableSpaceOptionsStmt", "ALTER TABLESPACE"),
    ("AlterTypeStmt", "ALTER TYPE"),
    ("AlterUserMappingStmt", "ALTER USER MAPPING"),
    ("CallStmt", "CALL"),
    ("CheckPointStmt", "CHECKPOINT"),
    ("ClosePortalStmt", "CLOSE"),
    ("ClusterStmt", "CLUSTER"),
    ("CommentStmt", "COMMENT"),
    ("CompositeTypeStmt", "CREATE TYPE"),
    ("ConstraintsSetStmt", "SET CONSTRAINTS"),
    ("CopyStmt", "COPY"),
    ("CreateAmStmt", "CREATE ACCESS METHOD"),
    ("CreateCastStmt", "CREATE CAST"),
    ("CreateConversionStmt", "CREATE CONVERSION"),
    ("CreateDomainStmt", "CREATE DOMAIN"),
    ("CreateEnumStmt", "CREATE TYPE"),
    ("CreateEventTrigStmt", "CREATE EVENT TRIGGER"),
    ("CreateExtensionStmt", "CREATE EXTENSION"),
    ("CreateFdwStmt", "CREATE FOREIGN DATA WRAPPER"),
    ("CreateForeignServerStmt", "CREATE SERVER"),
    ("CreateForeignTableStmt", "CREATE FOREIGN TABLE"),
    ("CreateOpClassStmt", "CREATE OPERATOR CLASS"),
    ("CreateOpFamilyStmt", "CREATE OPERATOR FAMILY"),
    ("CreatePLangStmt", "CREATE LANGUAGE"),
    ("CreatePolicyStmt", "CREATE POLICY"),
    ("CreatePublicationStmt", "CREATE PUBLICATION"),
    ("CreateRangeStmt", "CREATE TYPE"),
    ("CreateSchemaStmt", "CREATE SCHEMA"),
    ("CreateSeqStmt", "CREATE SEQUENCE"),
    ("CreateStatsStmt", "CREATE STATISTICS"),
    ("CreateStmt", "CREATE TABLE"),
    ("CreateSubscriptionStmt", "CREATE SUBSCRIPTION"),
    ("CreateTableSpaceStmt", "CREATE TABLESPACE"),
    ("CreateTransformStmt", "CREATE TRANSFORM"),
    ("CreateTrigStmt", "CREATE TRIGGER"),
    ("CreateUserMappingStmt", "CREATE USER MAPPING"),
    ("CreatedbStmt", "CREATE DATABASE"),
    ("DeallocateStmt", "DEALLOCATE"),
    ("DeclareCursorStmt", "DECLARE CURSOR"),
    ("DeleteStmt", "DELETE"),
    ("DiscardStmt", "DISCARD"),
    ("DoStmt", "DO"),
    ("DropOwnedStmt", "DROP OWNED"),
    ("DropRoleStmt", "DROP ROLE"),
    ("DropSubscriptionStmt", "DROP SUBSCRIPTION"),
    ("DropTableSpaceStmt", "DROP TABLESPACE"),
    ("DropUserMappingStmt", "DROP USER MAPPING"),
    ("DropdbStmt", "DROP DATABASE"),
    ("ExecuteStmt", "EXECUTE"),
    ("ExplainStmt", "EXPLAIN"),
    ("ImportForeignSchemaStmt", "IMPORT FOREIGN SCHEMA"),
    ("IndexStmt", "CREATE INDEX"),
    ("InsertStmt", "INSERT"),
    ("ListenStmt", "LISTEN"),
    ("LoadStmt", "LOAD"),
    ("LockStmt", "LOCK TABLE"),
    ("MergeStmt", "MERGE"),
    ("NotifyStmt", "NOTIFY"),
    ("PrepareStmt", "PREPARE"),
    ("ReassignOwnedStmt", "REASSIGN OWNED"),
    ("RefreshMatViewStmt", "REFRESH MATERIALIZED VIEW"),
    ("ReindexStmt", "REINDEX"),
    ("RuleStmt", "CREATE RULE"),
    ("SecLabelStmt", "SECURITY LABEL"),
    ("SelectStmt", "SELECT"),
    ("TruncateStmt", "TRUNCATE"),
    ("UnlistenStmt", "UNLISTEN"),
    ("UpdateStmt", "UPDATE"),
    ("VariableShowStmt", "SHOW"),
    ("ViewStmt", "CREATE VIEW"),
];

/// What CREATE, ALTER and DROP are said of.
const OBJECTS: &[(u32, &str)] = &[
    (ObjectType::OBJECT_ACCESS_METHOD, "ACCESS METHOD"),
    (ObjectType::OBJECT_AGGREGATE, "AGGREGATE"),
    (ObjectType::OBJECT_ATTRIBUTE, "TYPE"),
    (ObjectType::OBJECT_CAST, "CAST"),
    (ObjectType::OBJECT_COLUMN, "TABLE"),
    (ObjectType::OBJECT_COLLATION, "COLLATION"),
    (ObjectType::OBJECT_CONVERSION, "CONVERSION"),
    (ObjectType::OBJECT_DATABASE, "DATABASE"),
    (ObjectType::OBJECT_DOMAIN, "DOMAIN"),
    (ObjectType::OBJECT_DOMCONSTRAINT, "DOMAIN"),
    (ObjectType::OBJECT_EVENT_TRIGGER, "EVENT TRIGGER"),
    (ObjectType::OBJECT_EXTENSION, "EXTENSION"),
    (ObjectType::OBJECT_FDW, "FOREIGN DATA WRAPPER"),
    (ObjectType::OBJECT_FOREIGN_SERVER, "SERVER"),
    (ObjectType::OBJECT_FOREIGN_TABLE, "FOREIGN TABLE"),
    (ObjectType::OBJECT_FUNCTION, "FUNCTION"),
    (ObjectType::OBJECT_INDEX, "INDEX"),
    (ObjectType::OBJECT_LANGUAGE, "LANGUAGE"),
    (ObjectType::OBJECT_LARGEOBJECT, "LARGE OBJECT"),
    (ObjectType::OBJECT_MATVIEW, "MATERIALIZED VIEW"),
    (ObjectType::OBJECT_OPCLASS, "OPERATOR CLASS"),
    (ObjectType::OBJECT_OPERATOR, "OPERATOR"),
    (ObjectType::OBJECT_OPFAMILY, "OPERATOR FAMILY"),
    (ObjectType::OBJECT_POLICY, "POLICY"),
    (ObjectType::OBJECT_PROCEDURE, "PROCEDURE"),
    (ObjectType::OBJECT_PUBLICATION, "PUBLICATION"),
    (ObjectType::OBJECT_ROLE, "ROLE"),
    (ObjectType::OBJECT_ROUTINE, "ROUTINE"),
    (ObjectType::OBJECT_RULE, "RULE"),
    (ObjectType::OBJECT_SCHEMA, "SCHEMA"),
    (ObjectType::OBJECT_SEQUENCE, "SEQUENCE"),
    (ObjectType::OBJECT_SUBSCRIPTION, "SUBSCRIPTION"),
    (ObjectType::OBJECT_STATISTIC_EXT, "STATISTICS"),
    (ObjectType::OBJECT_TABCONSTRAINT, "TABLE"),
    (ObjectType::OBJECT_TABLE, "TABLE"),
    (ObjectType::OBJECT_TABLESPACE, "TABLESPACE"),
    (ObjectType::OBJECT_TRANSFORM, "TRANSFORM"),
    (ObjectType::OBJECT_TRIGGER, "TRIGGER"),
    (ObjectType::OBJECT_TSCONFIGURATION, "TEXT SEARCH CONFIGURATION"),
    (ObjectType::OBJECT_TSDICTIONARY, "TEXT SEARCH DICTIONARY"),
    (ObjectType::OBJECT_TSPARSER, "TEXT SEARCH PARSER"),
    (ObjectType::OBJECT_TSTEMPLATE, "TEXT SEARCH TEMPLATE"),
    (ObjectType::OBJECT_TYPE, "TYPE"),
    (ObjectType::OBJECT_USER_MAPPING, "USER MAPPING"),
    (ObjectType::OBJECT_VIEW, "VIEW"),
];

/// Words of transaction control.
const TRANSACTIONS: &[(u32, &str)] = &[
    (TransactionStmtKind::TRANS_STMT_BEGIN, "BEGIN"),
    (TransactionStmtKind::TRANS_STMT_START, "START TRANSACTION"),
    (TransactionStmtKind::TRANS_STMT_COMMIT, "COMMIT"),
    (TransactionStmtKind::TRANS_STMT_ROLLBACK, "ROLLBACK"),
    (TransactionStmtKind::TRANS_STMT_SAVEPOINT, "SAVEPOINT"),
    (TransactionStmtKind::TRANS_STMT_RELEASE, "RELEASE"),
    (TransactionStmtKind::TRANS_STMT_ROLLBACK_TO, "ROLLBACK TO SAVEPOINT"),
    (TransactionStmtKind::TRANS_STMT_PREPARE, "PREPARE TRANSACTION"),
    (TransactionStmtKind::TRANS_STMT_COMMIT_PREPARED, "COMMIT PREPARED"),
    (TransactionStmtKind::TRANS_STMT_ROLLBACK_PREPARED, "ROLLBACK PREPARED"),
];

/// The statement's words.
pub fn words(statement: &Tree<'_>) -> String {
    let either = |field: &str, yes: &'static str, no: &'static str| {
        (if statement.at(field).truth() { yes } else { no }).to_owned()
    };
    let of = |verb: &str, field: &str| match found(OBJECTS, statement.at(field).number()) {
        Some(object) => format!("{verb} {object}"),
        None => verb.to_owned(),
    };
    let kind = statement.kind();
    match kind {
        "AlterFunctionStmt" => of("ALTER", "objtype"),
        "AlterObjectDependsStmt" | "AlterObjectSchemaStmt" | "AlterOwnerStmt" => {
            of("ALTER", "object_type")
        }
        "AlterTableStmt" => of("ALTER", "objtype"),
        "CreateFunctionStmt" => either("is_procedure", "CREATE PROCEDURE", "CREATE FUNCTION"),
        "CreateRoleStmt" => match statement.at("stmt_type").number() {
            Some(kind) if kind == i64::from(RoleStmtType::ROLESTMT_USER) => "CREATE USER",
            Some(kind) if kind == i64::from(RoleStmtType::ROLESTMT_GROUP) => "CREATE GROUP",
            Some(_) | None => "CREATE ROLE",
        }
        .to_owned(),
        "CreateTableAsStmt" => of("CREATE", "objtype"),
        "DefineStmt" => of("CREATE", "kind"),
        "DropStmt" => of("DROP", "remove_type"),
        "FetchStmt" => either("ismove", "MOVE", "FETCH"),
        "GrantRoleStmt" | "GrantStmt" => either("is_grant", "GRANT", "REVOKE"),
        "RenameStmt" => of("ALTER", "rename_type"),
        "TransactionStmt" => {
            found(TRANSACTIONS, statement.at("kind").number()).unwrap_or("BEGIN").to_owned()
        }
        "VacuumStmt" => either("is_vacuumcmd", "VACUUM", "ANALYZE"),
        "VariableSetStmt" => match statement.at("kind").number() {
            Some(codes::RESET | codes::RESET_ALL) => "RESET",
            Some(_) | None => "SET",
        }
        .to_owned(),
        _ => match COMMANDS.iter().find(|(known, _)| *known == kind) {
            Some((_, words)) => (*words).to_owned(),
            None => kind.strip_suffix("Stmt").unwrap_or(kind).to_owned(),
        },
    }
}

fn found(list: &[(u32, &'static str)], number: Option<i64>) -> Option<&'static str> {
    list.iter().find(|(known, _)| number == Some(i64::from(*known))).map(|(_, words)| *words)
}

#[cfg(test)]
mod tests {
    use super::*;

    #[test]
    fn a_statement_is_called_what_sql_calls_it() {
        assert!(COMMANDS.is_sorted());
        for (sql, expected) in [
            ("ANALYZE t", "ANALYZE"),
            ("VACUUM ANALYZE t", "VACUUM"),
            ("CREATE TABLE t (a int)", "CREATE TABLE"),
            ("CREATE TABLE t AS SELECT 1", "CREATE TABLE"),
            ("CREATE MATERIALIZED VIEW t AS SELECT 1", "CREATE MATERIALIZED VIEW"),
            ("CREATE UNIQUE INDEX ON t (a)", "CREATE INDEX"),
            ("CREATE ROLE x PASSWORD 'y'", "CREATE ROLE"),
            ("CREATE USER x", "CREATE USER"),
            ("ALTER USER x PASSWORD 'y'", "ALTER ROLE"),
            ("ALTER ROLE x SET a TO b", "ALTER ROLE"),
            ("ALTER TABLE t ADD a int", "ALTER TABLE"),
            ("ALTER INDEX t SET (fillfactor = 1)", "ALTER INDEX"),
            ("ALTER TABLE t RENAME a TO b", "ALTER TABLE"),
            ("ALTER VIEW t RENAME TO b", "ALTER VIEW"),
            ("ALTER TABLE t OWNER TO x", "ALTER TABLE"),
            ("ALTER FUNCTION f OWNER TO x", "ALTER FUNCTION"),
            ("ALTER FUNCTION f STABLE", "ALTER FUNCTION"),
            ("ALTER TABLE t SET SCHEMA x", "ALTER TABLE"),
            ("CREATE FUNCTION f() RETURNS int LANGUAGE sql AS ''", "CREATE FUNCTION"),
            ("CREATE PROCEDURE f() LANGUAGE sql AS ''", "CREATE PROCEDURE"),
            ("CREATE AGGREGATE a (int) (sfunc = f, stype = int)", "CREATE AGGREGATE"),
            ("CREATE COLLATION c (locale = 'x')", "CREATE COLLATION"),
            ("CREATE EXTENSION x", "CREATE EXTENSION"),
            ("DROP TABLE t", "DROP TABLE"),
            ("DROP ROLE x", "DROP ROLE"),
            ("GRANT SELECT ON t TO x", "GRANT"),
            ("REVOKE x FROM y", "REVOKE"),
            ("SET a = 1", "SET"),
            ("RESET a", "RESET"),
            ("COMMIT", "COMMIT"),
            ("ROLLBACK TO a", "ROLLBACK TO SAVEPOINT"),
            ("FETCH 1 FROM c", "FETCH"),
            ("MOVE 1 FROM c", "MOVE"),
            ("DO ''", "DO"),
            ("LOCK TABLE t", "LOCK TABLE"),
        ] {
            let parsed = pg_raw_parse::parse(sql).unwrap();
            let mut print = String::new();
            let tree = Tree::of(parsed.stmts().next().unwrap(), &mut print).unwrap();
            assert_eq!(words(&tree), expected, "{sql}");
        }
    }
}
