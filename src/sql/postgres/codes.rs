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
}

/// `WITH HOLD` among a cursor's options.
pub const CURSOR_HOLD: i64 = raw::CURSOR_OPT_HOLD as i64;
