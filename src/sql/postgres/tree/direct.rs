//! Reads libpg_query's nodes themselves, kind by kind, without their print. Layer 2.
//!
//! The table names every field of a node, as its print does, but for positions. A kind that is not
//! in it makes the whole statement be read from its print. A test holds the two readings together,
//! field by field, for every kind of the table.

use std::borrow::Cow;

use pg_raw_parse::list::{CastNodeList, NodeList};
use pg_raw_parse::{ConstValue, Node, nodes};

use super::Tree;

/// What a field can hold; `None` where it cannot be read without the print.
trait Read<'a> {
    fn read(self) -> Option<Tree<'a>>;
}

impl<'a> Read<'a> for Option<&'a str> {
    fn read(self) -> Option<Tree<'a>> {
        Some(self.map_or(Tree::None, |text| Tree::Text(Cow::Borrowed(text))))
    }
}

impl Read<'_> for bool {
    fn read(self) -> Option<Tree<'static>> {
        Some(Tree::Bool(self))
    }
}

macro_rules! numbers {
    ($($number:ty)*) => {
        $(impl Read<'_> for $number {
            fn read(self) -> Option<Tree<'static>> {
                Some(Tree::Number(i64::from(self)))
            }
        })*
    };
}

numbers! { i8 i16 i32 i64 u32 }

impl<'a> Read<'a> for &'a NodeList {
    fn read(self) -> Option<Tree<'a>> {
        self.into_iter().map(node).collect::<Option<_>>().map(Tree::List)
    }
}

impl<'a, T> Read<'a> for &'a CastNodeList<T>
where
    Self: IntoIterator<Item = &'a T>,
    Node<'a>: From<&'a T>,
{
    fn read(self) -> Option<Tree<'a>> {
        self.into_iter().map(|item| node(Node::from(item))).collect::<Option<_>>().map(Tree::List)
    }
}

impl<'a, T> Read<'a> for Option<&'a T>
where
    Node<'a>: From<&'a T>,
{
    fn read(self) -> Option<Tree<'a>> {
        self.map_or(Some(Tree::None), |child| node(Node::from(child)))
    }
}

impl<'a> Read<'a> for Node<'a> {
    fn read(self) -> Option<Tree<'a>> {
        node(self)
    }
}

impl<'a> Read<'a> for Option<ConstValue<'a>> {
    fn read(self) -> Option<Tree<'a>> {
        let text = |text| Tree::Text(Cow::Borrowed(text));
        let (kind, value) = match self {
            None => return Some(Tree::None),
            Some(ConstValue::Integer(number)) => ("Integer", Tree::Number(number.into())),
            Some(ConstValue::Float(digits)) => ("Float", text(digits)),
            Some(ConstValue::Boolean(flag)) => ("Boolean", Tree::Bool(flag)),
            Some(ConstValue::String(value)) => ("String", text(value)),
            Some(ConstValue::BitString(bits)) => ("BitString", text(bits)),
            Some(_) => return None,
        };
        Some(Tree::Node(kind, vec![("", value)]))
    }
}

/// The table: kinds and their fields. A field with `()` is read by a method of the node.
macro_rules! kinds {
    ($($kind:ident { $($field:ident $(($($call:tt)*))?),* $(,)? })*) => {
        /// Reads a node and everything below it; `None` when it meets a kind that is not in the
        /// table.
        pub(super) fn node(node: Node<'_>) -> Option<Tree<'_>> {
            match node {
                Node::None => Some(Tree::None),
                Node::NodeList(list) => list.read(),
                $(Node::$kind(node) => node.tree(),)*
                _ => None,
            }
        }

        // A function for each, so that a level of a deep tree takes the stack of its own kind only.
        $(impl<'a> Kind<'a> for &'a nodes::$kind {
            #[inline(never)]
            fn tree(self) -> Option<Tree<'a>> {
                let fields = vec![
                    $((stringify!($field), Read::read(self.$field $(($($call)*))?)?)),*
                ];
                Some(Tree::Node(stringify!($kind), fields))
            }
        })*

        #[cfg(test)]
        const KINDS: &[&str] = &[$(stringify!($kind)),*];
    };
}

/// A kind of node of the table.
trait Kind<'a> {
    fn tree(self) -> Option<Tree<'a>>;
}

kinds! {
    A_ArrayExpr { elements() }
    A_Const { val(), isnull }
    A_Expr { kind, name(), lexpr(), rexpr() }
    A_Indices { is_slice, lidx(), uidx() }
    A_Indirection { arg(), indirection() }
    A_Star {}
    Alias { aliasname(), colnames() }
    BitString { bsval() }
    BoolExpr { boolop, args() }
    Boolean { boolval }
    BooleanTest { arg(), booltesttype }
    CTECycleClause {
        cycle_col_list(), cycle_mark_column(), cycle_mark_value(), cycle_mark_default(),
        cycle_path_column(), cycle_mark_type, cycle_mark_typmod, cycle_mark_collation,
        cycle_mark_neop
    }
    CTESearchClause { search_col_list(), search_breadth_first, search_seq_column() }
    CaseExpr { casetype, casecollid, arg(), args(), defresult() }
    CaseWhen { expr(), result() }
    ClosePortalStmt { portalname() }
    CoalesceExpr { coalescetype, coalescecollid, args() }
    CollateClause { arg(), collname() }
    ColumnDef {
        colname(), type_name(), compression(), inhcount, is_local, is_not_null, is_from_type,
        storage, storage_name(), raw_default(), cooked_default(), identity, identity_sequence(),
        generated, coll_clause(), coll_oid, constraints(), fdwoptions()
    }
    ColumnRef { fields() }
    CommonTableExpr {
        ctename(), aliascolnames(), ctematerialized, ctequery(), search_clause(), cycle_clause(),
        cterecursive, cterefcount, ctecolnames()
    }
    CopyStmt {
        relation(), query(), attlist(), is_from, is_program, filename(), options(),
        where_clause()
    }
    CurrentOfExpr { cvarno, cursor_name(), cursor_param }
    DeallocateStmt { name(), isall }
    DeclareCursorStmt { portalname(), options, query() }
    DefElem { defnamespace(), defname(), arg(), defaction }
    DeleteStmt { relation(), using_clause(), where_clause(), returning_clause(), with_clause() }
    DiscardStmt { target }
    ExecuteStmt { name(), params() }
    ExplainStmt { query(), options() }
    FetchStmt { direction, how_many, portalname(), ismove }
    Float { fval() }
    FuncCall {
        funcname(), args(), agg_order(), agg_filter(), over(), agg_within_group, agg_star,
        agg_distinct, func_variadic, funcformat
    }
    GroupingFunc { args(), refs(), cols(), agglevelsup }
    GroupingSet { kind, content() }
    IndexElem {
        name(), expr(), indexcolname(), collation(), opclass(), opclassopts(), ordering,
        nulls_ordering
    }
    InferClause { index_elems(), where_clause(), conname() }
    InsertStmt {
        relation(), cols(), select_stmt(), on_conflict_clause(), returning_clause(),
        with_clause(), override_
    }
    Integer { ival }
    JoinExpr {
        jointype, is_natural, larg(), rarg(), using_clause(), join_using_alias(), quals(),
        alias(), rtindex
    }
    JsonAggConstructor { output(), agg_filter(), agg_order(), over() }
    JsonArgument { val(), name() }
    JsonArrayAgg { constructor(), arg(), absent_on_null }
    JsonArrayConstructor { exprs(), output(), absent_on_null }
    JsonArrayQueryConstructor { query(), output(), format(), absent_on_null }
    JsonBehavior { btype, expr(), coerce }
    JsonFormat { format_type, encoding }
    JsonFuncExpr {
        op, column_name(), context_item(), pathspec(), passing(), output(), on_empty(),
        on_error(), wrapper, quotes
    }
    JsonIsPredicate { expr(), format(), item_type, unique_keys }
    JsonKeyValue { key(), value() }
    JsonObjectAgg { constructor(), arg(), absent_on_null, unique }
    JsonObjectConstructor { exprs(), output(), absent_on_null, unique }
    JsonOutput { type_name(), returning() }
    JsonParseExpr { expr(), output(), unique_keys }
    JsonReturning { format(), typid, typmod }
    JsonScalarExpr { expr(), output() }
    JsonSerializeExpr { expr(), output() }
    JsonValueExpr { raw_expr(), formatted_expr(), format() }
    LockingClause { locked_rels(), strength, wait_policy }
    MergeStmt {
        relation(), source_relation(), join_condition(), merge_when_clauses(), returning_clause(),
        with_clause()
    }
    MergeWhenClause { match_kind, command_type, override_, condition(), target_list(), values() }
    MinMaxExpr { minmaxtype, minmaxcollid, inputcollid, op, args() }
    MultiAssignRef { source(), colno, ncolumns }
    NamedArgExpr { arg(), name(), argnumber }
    NullTest { arg(), nulltesttype, argisrow }
    OnConflictClause { action, infer(), target_list(), where_clause() }
    ParamRef { number }
    PrepareStmt { name(), argtypes(), query() }
    RangeFunction { lateral, ordinality, is_rowsfrom, functions(), alias(), coldeflist() }
    RangeSubselect { lateral, subquery(), alias() }
    RangeTableFunc { lateral, docexpr(), rowexpr(), namespaces(), columns(), alias() }
    RangeTableFuncCol {
        colname(), type_name(), for_ordinality, is_not_null, colexpr(), coldefexpr()
    }
    RangeTableSample { relation(), method(), args(), repeatable() }
    RangeVar { catalogname(), schemaname(), relname(), inh, relpersistence, alias() }
    ResTarget { name(), indirection(), val() }
    ReturningClause { options(), exprs() }
    RowExpr { args(), row_typeid, row_format, colnames() }
    SQLValueFunction { op, type_, typmod }
    SelectStmt {
        distinct_clause(), into_clause(), target_list(), from_clause(), where_clause(),
        group_clause(), group_distinct, having_clause(), window_clause(), values_lists(),
        sort_clause(), limit_offset(), limit_count(), limit_option, locking_clause(),
        with_clause(), op, all, larg(), rarg()
    }
    SetToDefault { type_id, type_mod, collation }
    SortBy { node(), sortby_dir, sortby_nulls, use_op() }
    String { sval() }
    SubLink { sub_link_type, sub_link_id, testexpr(), oper_name(), subselect() }
    TransactionStmt { kind, options(), savepoint_name(), gid(), chain }
    TypeCast { arg(), type_name() }
    TypeName { names(), type_oid, setof, pct_type, typmods(), typemod, array_bounds() }
    UpdateStmt {
        relation(), target_list(), where_clause(), from_clause(), returning_clause(),
        with_clause()
    }
    VariableSetStmt { kind, name(), args(), jumble_args, is_local }
    VariableShowStmt { name() }
    WindowDef {
        name(), refname(), partition_clause(), order_clause(), frame_options, start_offset(),
        end_offset()
    }
    WithClause { ctes(), recursive }
    XmlExpr { op, name(), named_args(), arg_names(), args(), xmloption, indent, type_, typmod }
    XmlSerialize { xmloption, expr(), type_name(), indent }
}

#[cfg(test)]
mod tests {
    use std::collections::BTreeSet;

    use super::super::Tree;
    use super::{KINDS, node};

    /// Whether both readings agree; `false` when the statement has no direct one. Notes the kinds met.
    fn agree(sql: &str, met: &mut BTreeSet<String>) -> bool {
        let parsed = pg_raw_parse::parse(sql).unwrap_or_else(|error| panic!("{error}: {sql}"));
        parsed.stmts().all(|statement| {
            let print = format!("{statement:?}");
            let printed = Tree::read(&print).unwrap();
            node(statement).is_some_and(|direct| {
                assert_eq!(direct, printed, "{sql}");
                let _: Result<(), ()> = direct.walk(&mut |part| {
                    met.insert(part.kind().to_owned());
                    Ok(())
                });
                true
            })
        })
    }

    #[test]
    fn both_readings_agree_on_every_kind() {
        let mut met = BTreeSet::new();
        for line in include_str!("../../../../tests/corpus/sample.jsonl").lines() {
            let statement: serde_json::Value = serde_json::from_str(line).unwrap();
            agree(statement["sql"].as_str().unwrap(), &mut met);
        }
        for sql in [
            "SELECT DISTINCT ON (a) a, b.*, -1, 1.5, 'x', true, NULL, b'1', $1, c[1:2], (d).e FROM ONLY s.t AS u(v) WHERE NOT a = 1 OR b IS NULL AND c IS TRUE",
            "SELECT f(DISTINCT a ORDER BY b) FILTER (WHERE c) OVER (PARTITION BY d ORDER BY e DESC NULLS LAST ROWS BETWEEN 1 PRECEDING AND CURRENT ROW), g(x => 1, VARIADIC y) FROM generate_series(1, 2) WITH ORDINALITY",
            "WITH RECURSIVE a(n) AS MATERIALIZED (SELECT 1 UNION ALL SELECT n + 1 FROM a) SEARCH DEPTH FIRST BY n SET o CYCLE n SET c USING p SELECT * FROM a WINDOW w AS (PARTITION BY n) ORDER BY n USING < LIMIT 5 OFFSET 1 FOR UPDATE OF a SKIP LOCKED",
            "SELECT CASE a WHEN 1 THEN 2 ELSE 3 END, CASE WHEN b THEN 1 END, coalesce(a, b), greatest(a, b), nullif(a, b), ARRAY[1, 2], ROW(1, 2), (1, 2), a COLLATE \"C\", a::varchar(5)[], current_date, GROUPING(a) FROM t TABLESAMPLE system (5) REPEATABLE (1) GROUP BY CUBE (a), GROUPING SETS (b, (c, d)) HAVING count(*) > 1",
            "SELECT EXISTS (SELECT 1), a = ANY (SELECT 1), a IN (1, 2), a BETWEEN 1 AND 2, a LIKE 'x' ESCAPE 'y', a IS DISTINCT FROM b, ARRAY(SELECT 1) FROM a JOIN b USING (c) LEFT JOIN d ON true NATURAL JOIN e, LATERAL (SELECT 1) f",
            "INSERT INTO t (a, b[1]) OVERRIDING SYSTEM VALUE VALUES (1, DEFAULT) ON CONFLICT (a) WHERE b DO UPDATE SET a = excluded.a, (b, c) = (1, 2) WHERE t.a RETURNING *",
            "UPDATE t SET a = 1 FROM u WHERE CURRENT OF c",
            "DELETE FROM t USING u WHERE a RETURNING b",
            "MERGE INTO t USING u ON a = b WHEN MATCHED AND c THEN UPDATE SET a = 1 WHEN NOT MATCHED THEN INSERT (a) VALUES (1)",
            "EXPLAIN (ANALYZE, FORMAT json) SELECT 1",
            "PREPARE p (int) AS SELECT 1",
            "EXECUTE p (1)",
            "DECLARE c CURSOR WITH HOLD FOR SELECT 1",
            "FETCH 5 FROM c",
            "CLOSE c",
            "DEALLOCATE p",
            "COPY (SELECT 1) TO STDOUT (FORMAT csv)",
            "COPY t (a) FROM STDIN WHERE a > 1",
            "BEGIN ISOLATION LEVEL SERIALIZABLE",
            "SAVEPOINT a",
            "COMMIT AND CHAIN",
            "SET a.b = 'c', 1",
            "SET TIME ZONE INTERVAL '1' HOUR",
            "SHOW a",
            "DISCARD ALL",
            "SELECT JSON_OBJECT('a': 1), JSON_ARRAY(1), JSON_VALUE(a, '$' RETURNING int DEFAULT 1 ON EMPTY), a IS JSON OBJECT, JSON_OBJECTAGG(a: b), JSON_ARRAYAGG(a), JSON('1'), JSON_SCALAR(1), JSON_SERIALIZE(a)",
            "SELECT JSON_VALUE(a, '$' PASSING 1 AS x), JSON_ARRAY(SELECT 1) FROM f() AS t(a int, b text)",
            "SELECT XMLELEMENT(NAME a, XMLATTRIBUTES(b AS c)), XMLSERIALIZE(CONTENT a AS text)",
            "SELECT * FROM XMLTABLE('/a' PASSING b COLUMNS c int PATH 'd' DEFAULT 1 NOT NULL)",
        ] {
            assert!(agree(sql, &mut met), "no direct reading: {sql}");
        }
        assert!(
            !agree("CREATE TABLE t (a int)", &mut met),
            "what is not in the table is read from its print"
        );
        let unmet: Vec<_> = KINDS.iter().filter(|kind| !met.contains(**kind)).collect();
        assert!(unmet.is_empty(), "not held against the print: {unmet:?}");
    }
}
