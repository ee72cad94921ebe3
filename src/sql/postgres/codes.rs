//! The values of PostgreSQL's parse-tree enums that the code looks at. Layer 2.

use pg_raw_parse::raw;

macro_rules! codes {
    ($($(#[$doc:meta])* $name:ident = $module:ident :: $value:ident;)*) => {
        $($(#[$doc])* pub const $name: i64 = raw::$module::$value as i64;)*
    };
}

codes! {
    /// `a AND b`
    AND = BoolExprType::AND_EXPR;
    /// `a OR b`
    OR = BoolExprType::OR_EXPR;
    /// `a op b`
    OP = A_Expr_Kind::AEXPR_OP;
    /// `a op ANY (b)`
    OP_ANY = A_Expr_Kind::AEXPR_OP_ANY;
    /// `a op ALL (b)`
    OP_ALL = A_Expr_Kind::AEXPR_OP_ALL;
    /// `a IS DISTINCT FROM b`
    DISTINCT = A_Expr_Kind::AEXPR_DISTINCT;
    /// `a IS NOT DISTINCT FROM b`
    NOT_DISTINCT = A_Expr_Kind::AEXPR_NOT_DISTINCT;
    /// `a IN (…)`
    IN = A_Expr_Kind::AEXPR_IN;
    /// `a LIKE b`
    LIKE = A_Expr_Kind::AEXPR_LIKE;
    /// `a ILIKE b`
    ILIKE = A_Expr_Kind::AEXPR_ILIKE;
    /// `a BETWEEN b AND c`
    BETWEEN = A_Expr_Kind::AEXPR_BETWEEN;
    /// `a NOT BETWEEN b AND c`
    NOT_BETWEEN = A_Expr_Kind::AEXPR_NOT_BETWEEN;
    /// `a = ANY (SELECT …)`, `a IN (SELECT …)`
    ANY_SUBLINK = SubLinkType::ANY_SUBLINK;
    /// `EXISTS (SELECT …)`
    EXISTS_SUBLINK = SubLinkType::EXISTS_SUBLINK;
    /// `(SELECT …)`
    EXPR_SUBLINK = SubLinkType::EXPR_SUBLINK;
    /// `JOIN`
    JOIN_INNER = JoinType::JOIN_INNER;
    /// `LEFT JOIN`
    JOIN_LEFT = JoinType::JOIN_LEFT;
    /// `FULL JOIN`
    JOIN_FULL = JoinType::JOIN_FULL;
    /// `RIGHT JOIN`
    JOIN_RIGHT = JoinType::JOIN_RIGHT;
    /// `WHEN NOT MATCHED [BY TARGET]`
    NOT_MATCHED_BY_TARGET = MergeMatchKind::MERGE_WHEN_NOT_MATCHED_BY_TARGET;
    /// `ON CONFLICT DO UPDATE`
    CONFLICT_UPDATE = OnConflictAction::ONCONFLICT_UPDATE;
    /// `GROUPING SETS (…)`
    GROUPING_SETS = GroupingSetKind::GROUPING_SET_SETS;
    /// `(a, b)` without ROW
    IMPLICIT_ROW = CoercionForm::COERCE_IMPLICIT_CAST;
    /// `UPDATE` in MERGE
    CMD_UPDATE = CmdType::CMD_UPDATE;
    /// `INSERT` in MERGE
    CMD_INSERT = CmdType::CMD_INSERT;
    /// `DELETE` in MERGE
    CMD_DELETE = CmdType::CMD_DELETE;
    /// `BEGIN`
    BEGIN = TransactionStmtKind::TRANS_STMT_BEGIN;
    /// `START TRANSACTION`
    START = TransactionStmtKind::TRANS_STMT_START;
    /// `COMMIT`
    COMMIT = TransactionStmtKind::TRANS_STMT_COMMIT;
    /// `ROLLBACK`
    ROLLBACK = TransactionStmtKind::TRANS_STMT_ROLLBACK;
    /// `PREPARE TRANSACTION`
    TWO_PHASE_PREPARE = TransactionStmtKind::TRANS_STMT_PREPARE;
    /// `COMMIT PREPARED`
    TWO_PHASE_COMMIT = TransactionStmtKind::TRANS_STMT_COMMIT_PREPARED;
    /// `ROLLBACK PREPARED`
    TWO_PHASE_ROLLBACK = TransactionStmtKind::TRANS_STMT_ROLLBACK_PREPARED;
    /// `SET x TO y`
    SET_VALUE = VariableSetKind::VAR_SET_VALUE;
    /// `SET x TO DEFAULT`
    SET_DEFAULT = VariableSetKind::VAR_SET_DEFAULT;
    /// `SET TRANSACTION …`
    SET_MULTI = VariableSetKind::VAR_SET_MULTI;
    /// `RESET x`
    RESET = VariableSetKind::VAR_RESET;
    /// `RESET ALL`
    RESET_ALL = VariableSetKind::VAR_RESET_ALL;
    /// `XMLPARSE`
    XML_PARSE = XmlExprOp::IS_XMLPARSE;
    /// `UNION`, …: none
    SETOP_NONE = SetOperation::SETOP_NONE;
    /// A table.
    OBJECT_TABLE = ObjectType::OBJECT_TABLE;
    /// An index.
    OBJECT_INDEX = ObjectType::OBJECT_INDEX;
    /// A view.
    OBJECT_VIEW = ObjectType::OBJECT_VIEW;
    /// A materialized view.
    OBJECT_MATVIEW = ObjectType::OBJECT_MATVIEW;
    /// A sequence.
    OBJECT_SEQUENCE = ObjectType::OBJECT_SEQUENCE;
    /// A type.
    OBJECT_TYPE = ObjectType::OBJECT_TYPE;
    /// A domain.
    OBJECT_DOMAIN = ObjectType::OBJECT_DOMAIN;
    /// A schema.
    OBJECT_SCHEMA = ObjectType::OBJECT_SCHEMA;
    /// A column.
    OBJECT_COLUMN = ObjectType::OBJECT_COLUMN;
    /// A constraint of a table.
    OBJECT_TABCONSTRAINT = ObjectType::OBJECT_TABCONSTRAINT;
    /// ALTER TABLE: add column.
    AT_ADD_COLUMN = AlterTableType::AT_AddColumn;
    /// ALTER TABLE: column default.
    AT_COLUMN_DEFAULT = AlterTableType::AT_ColumnDefault;
    /// ALTER TABLE: drop not null.
    AT_DROP_NOT_NULL = AlterTableType::AT_DropNotNull;
    /// ALTER TABLE: set not null.
    AT_SET_NOT_NULL = AlterTableType::AT_SetNotNull;
    /// ALTER TABLE: set statistics.
    AT_SET_STATISTICS = AlterTableType::AT_SetStatistics;
    /// ALTER TABLE: set options.
    AT_SET_OPTIONS = AlterTableType::AT_SetOptions;
    /// ALTER TABLE: set storage.
    AT_SET_STORAGE = AlterTableType::AT_SetStorage;
    /// ALTER TABLE: drop column.
    AT_DROP_COLUMN = AlterTableType::AT_DropColumn;
    /// ALTER TABLE: add constraint.
    AT_ADD_CONSTRAINT = AlterTableType::AT_AddConstraint;
    /// ALTER TABLE: alter constraint.
    AT_ALTER_CONSTRAINT = AlterTableType::AT_AlterConstraint;
    /// ALTER TABLE: validate constraint.
    AT_VALIDATE_CONSTRAINT = AlterTableType::AT_ValidateConstraint;
    /// ALTER TABLE: drop constraint.
    AT_DROP_CONSTRAINT = AlterTableType::AT_DropConstraint;
    /// ALTER TABLE: alter column type.
    AT_ALTER_COLUMN_TYPE = AlterTableType::AT_AlterColumnType;
    /// ALTER TABLE: set rel options.
    AT_SET_REL_OPTIONS = AlterTableType::AT_SetRelOptions;
    /// ALTER TABLE: reset rel options.
    AT_RESET_REL_OPTIONS = AlterTableType::AT_ResetRelOptions;
    /// ALTER TABLE: add inherit.
    AT_ADD_INHERIT = AlterTableType::AT_AddInherit;
    /// ALTER TABLE: drop inherit.
    AT_DROP_INHERIT = AlterTableType::AT_DropInherit;
    /// ALTER TABLE: enable row security.
    AT_ENABLE_ROW_SECURITY = AlterTableType::AT_EnableRowSecurity;
    /// ALTER TABLE: force row security.
    AT_FORCE_ROW_SECURITY = AlterTableType::AT_ForceRowSecurity;
    /// ALTER TABLE: attach partition.
    AT_ATTACH_PARTITION = AlterTableType::AT_AttachPartition;
    /// ALTER TABLE: detach partition.
    AT_DETACH_PARTITION = AlterTableType::AT_DetachPartition;
    /// ALTER TABLE: add identity.
    AT_ADD_IDENTITY = AlterTableType::AT_AddIdentity;
    /// ALTER TABLE: set identity.
    AT_SET_IDENTITY = AlterTableType::AT_SetIdentity;
    /// ALTER TABLE: drop identity.
    AT_DROP_IDENTITY = AlterTableType::AT_DropIdentity;
    /// `NULL`
    CONSTR_NULL = ConstrType::CONSTR_NULL;
    /// `NOT NULL`
    CONSTR_NOTNULL = ConstrType::CONSTR_NOTNULL;
    /// `DEFAULT`
    CONSTR_DEFAULT = ConstrType::CONSTR_DEFAULT;
    /// `GENERATED … AS IDENTITY`
    CONSTR_IDENTITY = ConstrType::CONSTR_IDENTITY;
    /// `GENERATED ALWAYS AS (…) STORED`
    CONSTR_GENERATED = ConstrType::CONSTR_GENERATED;
    /// `CHECK`
    CONSTR_CHECK = ConstrType::CONSTR_CHECK;
    /// `PRIMARY KEY`
    CONSTR_PRIMARY = ConstrType::CONSTR_PRIMARY;
    /// `UNIQUE`
    CONSTR_UNIQUE = ConstrType::CONSTR_UNIQUE;
    /// `FOREIGN KEY`
    CONSTR_FOREIGN = ConstrType::CONSTR_FOREIGN;
    /// `ON COMMIT DROP`
    ONCOMMIT_DROP = OnCommitAction::ONCOMMIT_DROP;
    /// `CASCADE`
    DROP_CASCADE = DropBehavior::DROP_CASCADE;
}

/// A temporary relation (`relpersistence`).
pub const TEMPORARY: i64 = b't' as i64;

/// `WITH HOLD` among a cursor's options.
pub const CURSOR_HOLD: i64 = raw::CURSOR_OPT_HOLD as i64;
