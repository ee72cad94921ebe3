//! The lists that the decision rests on: settings, catalogs, operators. Layer 2.
//!
//! An auditor reads this file, and with it [`functions`](super::functions) and
//! [`totality`](super::totality). What is not on a list is denied. Names are those of `pg_catalog`.

/// Settings that a session may change. All else is the operator's.
pub const FREE_SETTINGS: &[&str] = &[
    "application_name",
    "bytea_output",
    "client_encoding",
    "client_min_messages",
    "constraint_exclusion",
    "cursor_tuple_fraction",
    "datestyle",
    "default_transaction_deferrable",
    "default_transaction_isolation",
    "default_transaction_read_only",
    "enable_bitmapscan",
    "enable_hashagg",
    "enable_hashjoin",
    "enable_indexonlyscan",
    "enable_indexscan",
    "enable_material",
    "enable_memoize",
    "enable_mergejoin",
    "enable_nestloop",
    "enable_partition_pruning",
    "enable_partitionwise_aggregate",
    "enable_partitionwise_join",
    "enable_seqscan",
    "enable_sort",
    "enable_tidscan",
    "extra_float_digits",
    "from_collapse_limit",
    "geqo",
    "idle_in_transaction_session_timeout",
    "intervalstyle",
    "jit",
    "join_collapse_limit",
    "lc_monetary",
    "lc_numeric",
    "lc_time",
    "lock_timeout",
    "max_parallel_workers_per_gather",
    "plan_cache_mode",
    "random_page_cost",
    "seed",
    "seq_page_cost",
    "standard_conforming_strings",
    "statement_timeout",
    "synchronize_seqscans",
    "synchronous_commit",
    "timezone",
    "transaction_deferrable",
    "transaction_isolation",
    "transaction_read_only",
    "work_mem",
    "xmlbinary",
    "xmloption",
];

/// Settings that a session may not even see: they tell of the server.
pub const CLOSED_SETTINGS: &[&str] = &[
    "all",
    "archive_cleanup_command",
    "archive_command",
    "archive_library",
    "config_file",
    "data_directory",
    "dynamic_library_path",
    "external_pid_file",
    "hba_file",
    "ident_file",
    "krb_server_keyfile",
    "listen_addresses",
    "local_preload_libraries",
    "log_directory",
    "log_filename",
    "log_line_prefix",
    "port",
    "primary_conninfo",
    "primary_slot_name",
    "recovery_end_command",
    "restore_command",
    "session_preload_libraries",
    "shared_preload_libraries",
    "ssl_ca_file",
    "ssl_cert_file",
    "ssl_crl_file",
    "ssl_key_file",
    "ssl_passphrase_command",
    "synchronous_standby_names",
    "syslog_ident",
    "unix_socket_directories",
];

/// Functions of `information_schema` that may be called: they compute from their arguments alone.
/// JDBC's metadata calls it.
pub const INFORMATION_FUNCTIONS: &[&str] = &["_pg_expandarray"];

/// Settings of [`FREE_SETTINGS`] that are pinned to one value (compared in lower case without `-`
/// and `_`): the parsers and the wire rely on it.
pub const PINNED_SETTINGS: &[(&str, &[&str])] = &[
    ("client_encoding", &["utf8", "unicode"]),
    ("standard_conforming_strings", &["on", "true", "1", "yes"]),
    ("client_min_messages", &["notice", "warning", "error", "panic", "fatal"]),
];

/// Catalogs of `pg_catalog` that describe the schema: names, types, definitions of tables. They
/// hold no rows of tenants. The columns named are those that do tell of rows, or of texts that the
/// operator keeps to himself; touching them (or `*`, or the whole row) is denied.
pub const OPEN_CATALOGS: &[(&str, &[&str])] = &[
    ("pg_aggregate", &[]),
    ("pg_am", &[]),
    ("pg_amop", &[]),
    ("pg_amproc", &[]),
    ("pg_attrdef", &[]),
    ("pg_attribute", &["attmissingval"]),
    ("pg_auth_members", &[]),
    ("pg_available_extension_versions", &[]),
    ("pg_available_extensions", &[]),
    ("pg_cast", &[]),
    (
        "pg_class",
        &["reltuples", "relpages", "relallvisible", "relallfrozen", "relfrozenxid", "relminmxid"],
    ),
    ("pg_collation", &[]),
    ("pg_constraint", &[]),
    ("pg_conversion", &[]),
    ("pg_database", &["datfrozenxid", "datminmxid"]),
    ("pg_default_acl", &[]),
    ("pg_depend", &[]),
    ("pg_description", &[]),
    ("pg_enum", &[]),
    ("pg_event_trigger", &[]),
    ("pg_extension", &[]),
    ("pg_foreign_data_wrapper", &["fdwoptions"]),
    ("pg_foreign_server", &["srvoptions"]),
    ("pg_foreign_table", &["ftoptions"]),
    ("pg_index", &[]),
    ("pg_indexes", &[]),
    ("pg_inherits", &[]),
    ("pg_language", &[]),
    ("pg_namespace", &[]),
    ("pg_opclass", &[]),
    ("pg_operator", &[]),
    ("pg_opfamily", &[]),
    ("pg_partitioned_table", &[]),
    ("pg_policies", &["qual", "with_check"]),
    ("pg_policy", &[]),
    ("pg_proc", &["prosrc", "prosqlbody", "proconfig"]),
    ("pg_publication", &[]),
    ("pg_publication_namespace", &[]),
    ("pg_publication_rel", &[]),
    ("pg_publication_tables", &[]),
    ("pg_range", &[]),
    ("pg_rewrite", &["ev_action", "ev_qual"]),
    ("pg_roles", &["rolpassword", "rolconfig"]),
    ("pg_seclabel", &[]),
    ("pg_seclabels", &[]),
    ("pg_sequence", &[]),
    ("pg_sequences", &["last_value"]),
    ("pg_settings", &["setting", "boot_val", "reset_val", "sourcefile", "sourceline"]),
    ("pg_shdescription", &[]),
    ("pg_shseclabel", &[]),
    ("pg_statistic_ext", &["stxexprs"]),
    ("pg_subscription", &["subconninfo"]),
    ("pg_tables", &[]),
    ("pg_tablespace", &["spcoptions"]),
    ("pg_timezone_abbrevs", &[]),
    ("pg_timezone_names", &[]),
    ("pg_transform", &[]),
    ("pg_trigger", &["tgqual", "tgargs"]),
    ("pg_ts_config", &[]),
    ("pg_ts_config_map", &[]),
    ("pg_ts_dict", &["dictinitoption"]),
    ("pg_ts_parser", &[]),
    ("pg_ts_template", &[]),
    ("pg_type", &[]),
    ("pg_user", &["passwd", "useconfig"]),
    ("pg_views", &["definition"]),
    ("pg_matviews", &["definition"]),
];

/// Views of counters, of which tools read only whose counters they are: drizzle-kit an index's name,
/// Sequelize a table's. The columns named are all the others, as of [`NEWEST_KNOWN_SERVER`]: on a newer
/// server there may be more, and the view is closed.
const COUNTER_VIEWS: &[(&str, &[&str])] = &[
    ("pg_stat_user_indexes", &["idx_scan", "last_idx_scan", "idx_tup_read", "idx_tup_fetch"]),
    (
        "pg_statio_all_tables",
        &[
            "heap_blks_read",
            "heap_blks_hit",
            "idx_blks_read",
            "idx_blks_hit",
            "toast_blks_read",
            "toast_blks_hit",
            "tidx_blks_read",
            "tidx_blks_hit",
        ],
    ),
];

/// The newest server (`server_version_num`) whose [`COUNTER_VIEWS`] were read.
const NEWEST_KNOWN_SERVER: u32 = 189_999;

/// Operator symbols of `pg_catalog`. Where an extension gives one of them another meaning for its own
/// types (`=` of citext), PostgreSQL still finds the built-in one first for built-in types; a symbol
/// that only extensions or users define is denied.
const BUILT_IN_OPERATORS: &str = "!! !~ !~* !~~ !~~* # ## #- #> #>> % & && &< &<| &> * *< *<= *<> *= *> \
    *>= + - -> ->> -|- / < <-> << <<= <<| <= <> <@ <^ = > >= >> >>= >^ ? ?# ?& ?- ?-| ?| ?|| @ @-@ \
    @> @? @@ @@@ ^ ^@ | |&> |/ |>> || ||/ ~ ~* ~<=~ ~<~ ~= ~>=~ ~>~ ~~ ~~* !=";

/// The schema of PostgreSQL's own types.
pub const OWN_SCHEMA: &str = "pg_catalog";

/// Types to which PostgreSQL brings a value as an assignment would, wherever it asks for one: conditions,
/// LIMIT and OFFSET, TABLESAMPLE.
pub const TAKEN_AS_ASSIGNED: &[&str] = &["bool", "float4", "float8", "int8"];

/// Whether `pg_catalog` has an operator of that symbol.
pub fn is_built_in_operator(symbol: &str) -> bool {
    BUILT_IN_OPERATORS.split_ascii_whitespace().any(|built_in| built_in == symbol)
}

/// Columns of a catalog that may not be touched; `None` when the catalog itself is closed.
/// `server_version` is 0 when it is not known.
pub fn open_catalog(name: &str, server_version: u32) -> Option<&'static [&'static str]> {
    let counters = if server_version <= NEWEST_KNOWN_SERVER { COUNTER_VIEWS } else { &[] };
    let mut lists = OPEN_CATALOGS.iter().chain(counters);
    let open = lists.find(|(open, _)| *open == name).map(|(_, columns)| *columns);
    if crate::mutant::on("any-catalog") { open.or(Some(&[])) } else { open }
}

/// Statements that change the schema, for identities that the policy's `ddl` names. Kinds that run code
/// later with other rights (functions, triggers, rules), or that move rights, are not among them.
pub const SCHEMA_CHANGES: &[&str] = &[
    "AlterDomainStmt",
    "AlterEnumStmt",
    "AlterObjectSchemaStmt",
    "AlterSeqStmt",
    "AlterTableStmt",
    "CommentStmt",
    "CompositeTypeStmt",
    "CreateDomainStmt",
    "CreateEnumStmt",
    "CreateExtensionStmt",
    "CreateSchemaStmt",
    "CreateSeqStmt",
    "CreateStmt",
    "CreateTableAsStmt",
    "DropStmt",
    "IndexStmt",
    "RenameStmt",
    "ViewStmt",
];

#[cfg(test)]
mod tests {
    use super::{FREE_SETTINGS, OPEN_CATALOGS, open_catalog};

    #[test]
    fn lists_are_in_order() {
        assert!(FREE_SETTINGS.is_sorted());
        assert!(OPEN_CATALOGS.len() > 50);
    }

    #[test]
    fn views_of_counters_are_closed_on_servers_that_nobody_has_read() {
        for known in [0, 150_018, 180_004] {
            assert!(open_catalog("pg_stat_user_indexes", known).is_some());
        }
        assert_eq!(open_catalog("pg_stat_user_indexes", 190_000), None);
        assert!(open_catalog("pg_class", 190_000).is_some());
    }
}
