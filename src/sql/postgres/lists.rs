//! The lists that the decision rests on: functions, operators, settings, catalogs, types. Layer 2.
//!
//! An auditor reads this file. What is not on a list is denied (functions, settings, catalogs) or
//! guarded (operators and functions that are not total). Names are those of `pg_catalog`.

/// Functions that a tenant may call: they read no table, run no SQL text, reach no file, network or
/// other session, change no setting, and keep nothing. Reviewed against PostgreSQL 15–18's pg_proc.
pub const SAFE_FUNCTIONS: &[(&str, &str)] = &[
    (
        "aggregates and window functions: see rows that the guards let through",
        "array_agg avg bit_and bit_or bit_xor bool_and bool_or corr count covar_pop covar_samp \
         cume_dist dense_rank every first_value json_agg json_agg_strict json_object_agg jsonb_agg \
         jsonb_object_agg lag last_value lead max min mode nth_value ntile percent_rank \
         percentile_cont percentile_disc range_agg range_intersect_agg rank regr_avgx regr_avgy \
         regr_count regr_intercept regr_r2 regr_slope regr_sxx regr_sxy regr_syy row_number stddev \
         stddev_pop stddev_samp string_agg sum var_pop var_samp variance xmlagg any_value",
    ),
    (
        "numbers",
        "abs acos acosd acosh asin asind asinh atan atan2 atan2d atand atanh cbrt ceil ceiling cos \
         cosd cosh cot cotd degrees div exp factorial floor gcd lcm ln log log10 min_scale mod pi \
         pow power radians random round scale sign sin sind sinh sqrt tan tand tanh trim_scale \
         trunc width_bucket numeric int2 int4 int8 float4 float8 to_hex to_bin to_oct erf erfc \
         random_normal",
    ),
    (
        "text",
        "ascii bit_length btrim char_length character_length chr concat concat_ws format initcap \
         left length lower lpad ltrim md5 normalize is_normalized octet_length overlay parse_ident \
         position quote_ident quote_literal quote_nullable regexp_count regexp_instr regexp_like \
         regexp_match regexp_matches regexp_replace regexp_split_to_array regexp_split_to_table \
         regexp_substr repeat replace reverse right rpad rtrim split_part starts_with \
         string_to_array string_to_table strpos substr substring text to_ascii translate trim \
         unistr upper varchar bpchar casefold textlen like notlike like_escape similar_escape \
         similar_to_escape unicode_assigned to_char to_number",
    ),
    (
        "bytes and hashes",
        "bit_count convert convert_from convert_to decode encode get_bit get_byte set_bit set_byte \
         sha224 sha256 sha384 sha512 crc32 crc32c hashtext hashtextextended",
    ),
    (
        "dates and times",
        "age clock_timestamp date date_add date_bin date_part date_subtract date_trunc extract \
         isfinite justify_days justify_hours justify_interval make_date make_interval make_time \
         make_timestamp make_timestamptz now overlaps statement_timestamp timeofday time timestamp \
         timestamptz timetz timezone to_date to_timestamp transaction_timestamp interval",
    ),
    (
        "arrays, ranges, sets",
        "array_append array_cat array_dims array_fill array_length array_lower array_ndims \
         array_position array_positions array_prepend array_remove array_replace array_reverse \
         array_sample array_shuffle array_sort array_to_string array_to_tsvector array_upper \
         cardinality generate_series generate_subscripts trim_array unnest isempty lower_inc \
         lower_inf upper_inc upper_inf range_merge multirange daterange datemultirange int4range \
         int4multirange int8range int8multirange numrange nummultirange tsrange tsmultirange \
         tstzrange tstzmultirange greatest least coalesce nullif num_nonnulls num_nulls \
         enum_first enum_last enum_range array_larger array_smaller",
    ),
    (
        "JSON and XML values",
        "array_to_json json_array_elements json_array_elements_text json_array_length \
         json_build_array json_build_object json_each json_each_text json_extract_path \
         json_extract_path_text json_object json_object_keys json_populate_record \
         json_populate_recordset json_strip_nulls json_to_record json_to_recordset json_typeof \
         jsonb_array_elements jsonb_array_elements_text jsonb_array_length jsonb_build_array \
         jsonb_build_object jsonb_concat jsonb_contained jsonb_contains jsonb_delete \
         jsonb_delete_path jsonb_each jsonb_each_text jsonb_exists jsonb_exists_all \
         jsonb_exists_any jsonb_extract_path jsonb_extract_path_text jsonb_insert jsonb_object \
         jsonb_object_keys jsonb_path_exists jsonb_path_exists_tz jsonb_path_match \
         jsonb_path_match_tz jsonb_path_query jsonb_path_query_array jsonb_path_query_array_tz \
         jsonb_path_query_first jsonb_path_query_first_tz jsonb_path_query_tz \
         jsonb_populate_record jsonb_populate_recordset jsonb_pretty jsonb_set jsonb_set_lax \
         jsonb_strip_nulls jsonb_to_record jsonb_to_recordset jsonb_typeof row_to_json to_json \
         to_jsonb xmlcomment xmlexists xml_is_well_formed xml_is_well_formed_content \
         xml_is_well_formed_document xpath xpath_exists",
    ),
    (
        "full text",
        "get_current_ts_config json_to_tsvector jsonb_to_tsvector numnode phraseto_tsquery \
         plainto_tsquery querytree setweight strip to_tsquery to_tsvector ts_delete ts_filter \
         ts_headline ts_rank ts_rank_cd tsquery_phrase tsvector_to_array websearch_to_tsquery",
    ),
    (
        "network, geometry, identifiers",
        "abbrev broadcast family host hostmask inet_merge inet_same_family macaddr8_set7bit masklen \
         netmask network set_masklen area box center circle diagonal diameter height isclosed \
         isopen line lseg npoints path pclose point polygon popen radius slope width bound_box \
         gen_random_uuid uuidv4 uuidv7 uuid_extract_timestamp uuid_extract_version",
    ),
    (
        "about the session itself and about names and types, which the catalogs tell as well",
        "current_catalog current_database current_role current_schema current_schemas current_user \
         session_user user current_setting current_date current_time current_timestamp localtime \
         localtimestamp getdatabaseencoding pg_backend_pid pg_client_encoding pg_collation_for \
         pg_column_size pg_conf_load_time pg_encoding_to_char pg_char_to_encoding pg_get_userbyid \
         pg_get_expr pg_get_constraintdef pg_get_indexdef pg_get_partkeydef \
         pg_get_partition_constraintdef pg_get_function_arguments pg_get_function_identity_arguments \
         pg_get_function_result pg_get_keywords pg_get_triggerdef pg_get_serial_sequence \
         pg_get_statisticsobjdef_columns pg_is_in_recovery pg_is_other_temp_schema \
         pg_my_temp_schema pg_jit_available pg_postmaster_start_time pg_size_bytes pg_size_pretty \
         pg_table_is_visible pg_type_is_visible pg_function_is_visible pg_operator_is_visible \
         pg_opclass_is_visible pg_opfamily_is_visible pg_collation_is_visible \
         pg_conversion_is_visible pg_ts_config_is_visible pg_ts_dict_is_visible \
         pg_ts_parser_is_visible pg_ts_template_is_visible pg_statistics_obj_is_visible \
         pg_typeof pg_relation_is_updatable pg_column_is_updatable pg_index_column_has_property \
         pg_index_has_property pg_indexam_has_property pg_describe_object pg_identify_object \
         pg_options_to_table pg_partition_root pg_partition_ancestors pg_relation_is_publishable \
         pg_tablespace_location pg_timezone_names pg_timezone_abbrevs pg_event_trigger_ddl_commands \
         pg_extension_update_paths pg_input_is_valid pg_basetype row_security_active col_description \
         format_type obj_description shobj_description oidvectortypes to_regclass to_regcollation \
         to_regnamespace to_regoper to_regoperator to_regproc to_regprocedure to_regrole to_regtype \
         version has_any_column_privilege has_column_privilege has_database_privilege \
         has_foreign_data_wrapper_privilege has_function_privilege has_language_privilege \
         has_parameter_privilege has_schema_privilege has_sequence_privilege has_server_privilege \
         has_table_privilege has_tablespace_privilege has_type_privilege pg_has_role aclexplode \
         acldefault makeaclitem pg_advisory_unlock_all",
    ),
    (
        "sequences of one's own inserts: numbers without rows (gaps tell of others' inserts; the \
         threat model says so)",
        "nextval currval",
    ),
];

/// Functions of the safe list that are *total*: for every row they return without error, and they
/// have no effect. Only these may see another tenant's row, for nothing of it can come out.
/// Arguments must be total as well.
pub const TOTAL_FUNCTIONS: &str = "lower upper length char_length character_length octet_length btrim ltrim rtrim trim coalesce \
     md5 now current_date current_timestamp statement_timestamp transaction_timestamp \
     clock_timestamp localtimestamp jsonb_typeof json_typeof jsonb_exists isfinite isempty \
     lower_inc upper_inc lower_inf upper_inf cardinality";

/// Operators that are total on the built-in types that [`comparable`] pairs.
pub const COMPARISONS: &[&str] = &["=", "<>", "!=", "<", ">", "<=", ">="];

/// Other total operators on built-in types, by the class of their left operand.
/// jsonb: containment and look-ups return null, never an error. Arrays and ranges: containment and
/// overlap compare elements.
pub const TOTAL_OPERATORS: &[(Class, &[&str])] = &[
    (Class::Jsonb, &["@>", "<@", "->", "->>", "?", "?|", "?&", "#>", "#>>"]),
    (Class::Array, &["@>", "<@", "&&"]),
    (Class::Range, &["@>", "<@", "&&", "<<", ">>", "-|-"]),
    (Class::TextSearch, &["@@"]),
    (Class::Network, &["<<", "<<=", ">>", ">>=", "&&"]),
];

/// What a built-in type is, for the question which operators are total on it.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Class {
    /// int2, int4, int8, oid
    Integer,
    /// numeric: total with integers; not with floats (out of range)
    Numeric,
    /// float4, float8
    Float,
    /// text, varchar, bpchar, name
    Text,
    /// bool
    Bool,
    /// uuid
    Uuid,
    /// date, timestamp, timestamptz
    Moment,
    /// time, timetz, interval
    Time,
    /// bytea
    Bytes,
    /// jsonb
    Jsonb,
    /// json, xml: no comparison
    Document,
    /// arrays of total element types
    Array,
    /// ranges and multiranges
    Range,
    /// tsvector, tsquery
    TextSearch,
    /// inet, cidr
    Network,
    /// An untyped string, NULL or parameter: it takes the type of the other side when the statement
    /// is parsed, before any row is read.
    Unknown,
}

/// The class of a built-in type by its `typname`; `None` for every other type.
pub fn class_of(type_name: &str) -> Option<Class> {
    Some(match type_name {
        "int2" | "int4" | "int8" | "oid" | "smallint" | "integer" | "int" | "bigint" => {
            Class::Integer
        }
        "numeric" | "decimal" => Class::Numeric,
        "float4" | "float8" | "real" => Class::Float,
        "text" | "varchar" | "bpchar" | "name" | "char" => Class::Text,
        "bool" | "boolean" => Class::Bool,
        "uuid" => Class::Uuid,
        "date" | "timestamp" | "timestamptz" => Class::Moment,
        "time" | "timetz" | "interval" => Class::Time,
        "bytea" => Class::Bytes,
        "jsonb" => Class::Jsonb,
        "json" | "xml" => Class::Document,
        "tsvector" | "tsquery" => Class::TextSearch,
        "inet" | "cidr" => Class::Network,
        "int4range" | "int8range" | "numrange" | "tsrange" | "tstzrange" | "daterange"
        | "int4multirange" | "int8multirange" | "nummultirange" | "tsmultirange"
        | "tstzmultirange" | "datemultirange" => Class::Range,
        other => return other.strip_prefix('_').and_then(class_of).map(|_| Class::Array),
    })
}

/// Whether comparing two classes is total. Numeric with float is not: the numeric is cast and may
/// be out of range, with its value in the message. Nor is numeric with a parameter, which a driver
/// may declare as float8. Moments are: comparisons across date and timestamp do not overflow.
pub fn comparable(left: Class, right: Class) -> bool {
    use Class::{Array, Bool, Bytes, Document, Float, Integer, Jsonb, Moment, Network, Numeric};
    use Class::{Range, Text, TextSearch, Time, Unknown, Uuid};
    match (left, right) {
        (Document, _) | (_, Document) => false,
        (Unknown, other) | (other, Unknown) => other != Numeric,
        (Integer, Integer | Numeric | Float)
        | (Numeric, Integer | Numeric)
        | (Float, Integer | Float)
        | (Text, Text)
        | (Bool, Bool)
        | (Uuid, Uuid)
        | (Moment, Moment)
        | (Time, Time)
        | (Bytes, Bytes)
        | (Jsonb, Jsonb)
        | (Array, Array)
        | (Range, Range)
        | (TextSearch, TextSearch)
        | (Network, Network) => true,
        (
            Integer | Numeric | Float | Text | Bool | Uuid | Moment | Time | Bytes | Jsonb | Array
            | Range | TextSearch | Network,
            _,
        ) => false,
    }
}

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
    "listen_addresses",
    "port",
    "unix_socket_directories",
    "primary_conninfo",
    "session_preload_libraries",
    "shared_preload_libraries",
    "log_line_prefix",
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
    ("pg_sequence", &[]),
    ("pg_settings", &["setting", "boot_val", "reset_val", "sourcefile", "sourceline"]),
    ("pg_shdescription", &[]),
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

/// Operator symbols of `pg_catalog`. Where an extension gives one of them another meaning for its own
/// types (`=` of citext), PostgreSQL still finds the built-in one first for built-in types; a symbol
/// that only extensions or users define is denied.
const BUILT_IN_OPERATORS: &str = "!! !~ !~* !~~ !~~* # ## #- #> #>> % & && &< &<| &> * *< *<= *<> *= *> \
    *>= + - -> ->> -|- / < <-> << <<= <<| <= <> <@ <^ = > >= >> >>= >^ ? ?# ?& ?- ?-| ?| ?|| @ @-@ \
    @> @? @@ @@@ ^ ^@ | |&> |/ |>> || ||/ ~ ~* ~<=~ ~<~ ~= ~>=~ ~>~ ~~ ~~* !=";

/// Whether `pg_catalog` has an operator of that symbol.
pub fn is_built_in_operator(symbol: &str) -> bool {
    BUILT_IN_OPERATORS.split_ascii_whitespace().any(|built_in| built_in == symbol)
}

/// Whether the built-in safe list holds a function.
pub fn is_safe_function(name: &str) -> bool {
    SAFE_FUNCTIONS.iter().any(|(_, names)| names.split_ascii_whitespace().any(|safe| safe == name))
}

/// Whether a function is an aggregate, or none of ours, which could be one.
pub fn may_aggregate(name: &str) -> bool {
    let found = SAFE_FUNCTIONS
        .iter()
        .find(|(_, names)| names.split_ascii_whitespace().any(|known| known == name));
    found.is_none_or(|(what, _)| what.starts_with("aggregates"))
}

/// Whether a function is total.
pub fn is_total_function(name: &str) -> bool {
    TOTAL_FUNCTIONS.split_ascii_whitespace().any(|total| total == name)
}

/// Columns of a catalog that may not be touched; `None` when the catalog itself is closed.
pub fn open_catalog(name: &str) -> Option<&'static [&'static str]> {
    OPEN_CATALOGS.iter().find(|(open, _)| *open == name).map(|(_, columns)| *columns)
}

#[cfg(test)]
mod tests {
    use super::{
        Class, FREE_SETTINGS, OPEN_CATALOGS, SAFE_FUNCTIONS, TOTAL_FUNCTIONS, comparable,
        is_safe_function,
    };

    #[test]
    fn nothing_that_runs_text_reads_files_or_sets_settings_is_safe() {
        for dangerous in [
            "set_config",
            "query_to_xml",
            "table_to_xml",
            "schema_to_xml",
            "database_to_xml",
            "cursor_to_xml",
            "ts_stat",
            "ts_rewrite",
            "pg_read_file",
            "pg_ls_dir",
            "lo_get",
            "lo_import",
            "dblink",
            "pg_terminate_backend",
            "pg_cancel_backend",
            "pg_notify",
            "pg_advisory_lock",
            "pg_stat_get_activity",
            "setval",
            "lastval",
            "pg_relation_size",
            "pg_get_viewdef",
            "pg_get_functiondef",
            "pg_sleep",
            "pg_export_snapshot",
            "inet_server_addr",
            "txid_current",
            "pg_current_xact_id",
            "pg_show_all_settings",
        ] {
            assert!(!is_safe_function(dangerous), "{dangerous}");
        }
    }

    #[test]
    fn every_total_function_is_a_safe_one() {
        for name in TOTAL_FUNCTIONS.split_ascii_whitespace() {
            assert!(is_safe_function(name), "{name}");
        }
    }

    #[test]
    fn lists_hold_no_name_twice() {
        let mut names: Vec<_> =
            SAFE_FUNCTIONS.iter().flat_map(|(_, names)| names.split_ascii_whitespace()).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        assert!(FREE_SETTINGS.is_sorted());
        assert!(OPEN_CATALOGS.len() > 50);
    }

    #[test]
    fn numeric_is_not_comparable_with_floats_or_parameters() {
        assert!(comparable(Class::Numeric, Class::Integer));
        assert!(!comparable(Class::Numeric, Class::Float));
        assert!(!comparable(Class::Unknown, Class::Numeric));
        assert!(comparable(Class::Unknown, Class::Text));
    }
}
