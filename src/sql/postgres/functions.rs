//! Every function of `pg_catalog` by what it can do, and so whether a tenant may call it. Layer 2.
//!
//! An auditor reads this file. What is on no list is denied, as what is listed under a [`Reach`] that
//! is not open. PostgreSQL itself calls thousands of functions more (for operators, casts, types,
//! indexes); called by name they are denied. `tests/integration/totality.rs` holds the lists against
//! a live `pg_proc`. Reviewed against PostgreSQL 15 to 18.

/// What is closed, and a policy may open: such a function costs time and nothing else.
pub use crate::policy::OPENED_BY_POLICY;

/// What a function can do.
#[derive(Clone, Copy, Debug, PartialEq, Eq, Hash)]
pub enum Reach {
    /// Computes from its arguments, the clock and chance. It may raise an error, unless
    /// [`totality`](super::totality) lists it.
    Pure,
    /// Tells of the session itself, and of names and types.
    Describes,
    /// Takes numbers from a sequence.
    Sequence,
    /// Runs text as SQL.
    RunsSql,
    /// Reads rows where no guard stands.
    ReadsTables,
    /// Reaches files, programs or the network.
    Outside,
    /// Changes settings, or the state of the server or of other sessions.
    Changes,
    /// Shows what other tenants do.
    Leaks,
    /// Shows definitions that are the operator's.
    Definitions,
    /// Meant for PostgreSQL's own use.
    Internal,
}

impl Reach {
    /// Whether a tenant may call such a function.
    pub const fn is_open(self) -> bool {
        match self {
            Self::Pure | Self::Describes | Self::Sequence => true,
            Self::RunsSql
            | Self::ReadsTables
            | Self::Outside
            | Self::Changes
            | Self::Leaks
            | Self::Definitions
            | Self::Internal => false,
        }
    }

    /// What it can do, as the end of the sentence "The function …".
    pub const fn verb(self) -> &'static str {
        match self {
            Self::Pure => "computes from its arguments",
            Self::Describes => "tells of the session, of names and of types",
            Self::Sequence => "takes numbers from a sequence",
            Self::RunsSql => "runs text as SQL, which nobody has checked",
            Self::ReadsTables => "reads rows where no guard stands",
            Self::Outside => "reaches files, programs or addresses of the server",
            Self::Changes => "changes settings, or the state of the server or of other sessions",
            Self::Leaks => "shows what other tenants do",
            Self::Definitions => "shows definitions that are the operator's",
            Self::Internal => "is meant for PostgreSQL's own use",
        }
    }
}

/// Functions that can do the same.
#[derive(Clone, Copy, Debug)]
pub struct Family {
    /// What they can do.
    pub reach: Reach,
    /// What they are about.
    pub about: &'static str,
    /// Their names. Where the family is not open, a `*` at an end stands for anything.
    names: &'static str,
}

impl Family {
    /// The names.
    pub fn names(&self) -> impl Iterator<Item = &'static str> + use<> {
        self.names.split_ascii_whitespace()
    }

    fn holds(&self, name: &str) -> bool {
        self.names().any(|listed| match (listed.strip_prefix('*'), listed.strip_suffix('*')) {
            (Some(end), _) => name.ends_with(end),
            (None, Some(beginning)) => name.starts_with(beginning),
            (None, None) => listed == name,
        })
    }
}

/// The families. A name is looked for from the top.
pub const FAMILIES: &[Family] = &[
    Family {
        reach: Reach::Pure,
        about: "aggregates and window functions: see rows that the guards let through",
        names: "array_agg avg bit_and bit_or bit_xor bool_and bool_or corr count covar_pop \
                covar_samp cume_dist dense_rank every first_value json_agg json_agg_strict \
                json_object_agg jsonb_agg jsonb_object_agg lag last_value lead max min mode \
                nth_value ntile percent_rank percentile_cont percentile_disc range_agg \
                range_intersect_agg rank regr_avgx regr_avgy regr_count regr_intercept regr_r2 \
                regr_slope regr_sxx regr_sxy regr_syy row_number stddev stddev_pop stddev_samp \
                string_agg sum var_pop var_samp variance xmlagg any_value",
    },
    Family {
        reach: Reach::Pure,
        about: "numbers",
        names: "abs acos acosd acosh asin asind asinh atan atan2 atan2d atand atanh cbrt ceil \
                ceiling cos cosd cosh cot cotd degrees div exp factorial floor gcd lcm ln log log10 \
                min_scale mod pi pow power radians random round scale sign sin sind sinh sqrt tan \
                tand tanh trim_scale trunc width_bucket numeric int2 int4 int8 float4 float8 to_hex \
                to_bin to_oct erf erfc random_normal",
    },
    Family {
        reach: Reach::Pure,
        about: "text",
        names: "ascii bit_length btrim char_length character_length chr concat concat_ws format \
                initcap left length lower lpad ltrim md5 normalize is_normalized octet_length \
                overlay parse_ident position quote_ident quote_literal quote_nullable regexp_count \
                regexp_instr regexp_like regexp_match regexp_matches regexp_replace \
                regexp_split_to_array regexp_split_to_table regexp_substr repeat replace reverse \
                right rpad rtrim split_part starts_with string_to_array string_to_table strpos \
                substr substring text to_ascii translate trim unistr upper varchar bpchar casefold \
                textlen like notlike like_escape similar_escape similar_to_escape unicode_assigned \
                to_char to_number",
    },
    Family {
        reach: Reach::Pure,
        about: "bytes and hashes",
        names: "bit_count convert convert_from convert_to decode encode get_bit get_byte set_bit \
                set_byte sha224 sha256 sha384 sha512 crc32 crc32c hashtext hashtextextended",
    },
    Family {
        reach: Reach::Pure,
        about: "dates and times",
        names: "age clock_timestamp date date_add date_bin date_part date_subtract date_trunc \
                extract isfinite justify_days justify_hours justify_interval make_date make_interval \
                make_time make_timestamp make_timestamptz now overlaps statement_timestamp timeofday \
                time timestamp timestamptz timetz timezone to_date to_timestamp \
                transaction_timestamp interval",
    },
    Family {
        reach: Reach::Pure,
        about: "arrays, ranges, sets",
        names: "array_append array_cat array_dims array_fill array_length array_lower array_ndims \
                array_position array_positions array_prepend array_remove array_replace \
                array_reverse array_sample array_shuffle array_sort array_to_string \
                array_to_tsvector array_upper cardinality generate_series generate_subscripts \
                trim_array unnest isempty lower_inc lower_inf upper_inc upper_inf range_merge \
                multirange daterange datemultirange int4range int4multirange int8range \
                int8multirange numrange nummultirange tsrange tsmultirange tstzrange tstzmultirange \
                greatest least coalesce nullif num_nonnulls num_nulls enum_first enum_last \
                enum_range array_larger array_smaller",
    },
    Family {
        reach: Reach::Pure,
        about: "JSON and XML values",
        names: "array_to_json json_array_elements json_array_elements_text json_array_length \
                json_build_array json_build_object json_each json_each_text json_extract_path \
                json_extract_path_text json_object json_object_keys json_populate_record \
                json_populate_recordset json_strip_nulls json_to_record json_to_recordset \
                json_typeof jsonb_array_elements jsonb_array_elements_text jsonb_array_length \
                jsonb_build_array jsonb_build_object jsonb_concat jsonb_contained jsonb_contains \
                jsonb_delete jsonb_delete_path jsonb_each jsonb_each_text jsonb_exists \
                jsonb_exists_all jsonb_exists_any jsonb_extract_path jsonb_extract_path_text \
                jsonb_insert jsonb_object jsonb_object_keys jsonb_path_exists jsonb_path_exists_tz \
                jsonb_path_match jsonb_path_match_tz jsonb_path_query jsonb_path_query_array \
                jsonb_path_query_array_tz jsonb_path_query_first jsonb_path_query_first_tz \
                jsonb_path_query_tz jsonb_populate_record jsonb_populate_recordset jsonb_pretty \
                jsonb_set jsonb_set_lax jsonb_strip_nulls jsonb_to_record jsonb_to_recordset \
                jsonb_typeof row_to_json to_json to_jsonb xmlcomment xmlexists xml_is_well_formed \
                xml_is_well_formed_content xml_is_well_formed_document xpath xpath_exists",
    },
    Family {
        reach: Reach::Pure,
        about: "full text",
        names: "get_current_ts_config json_to_tsvector jsonb_to_tsvector numnode phraseto_tsquery \
                plainto_tsquery querytree setweight strip to_tsquery to_tsvector ts_delete ts_filter \
                ts_headline ts_rank ts_rank_cd tsquery_phrase tsvector_to_array websearch_to_tsquery \
                ts_debug ts_lexize ts_parse ts_token_type",
    },
    Family {
        reach: Reach::Pure,
        about: "network, geometry, identifiers",
        names: "abbrev broadcast family host hostmask inet_merge inet_same_family macaddr8_set7bit \
                masklen netmask network set_masklen area box center circle diagonal diameter height \
                isclosed isopen line lseg npoints path pclose point polygon popen radius slope width \
                bound_box gen_random_uuid uuidv4 uuidv7 uuid_extract_timestamp uuid_extract_version \
                ishorizontal isparallel isperp isvertical",
    },
    Family {
        reach: Reach::Describes,
        about: "the session itself, names and types: what the catalogs tell as well",
        names: "current_catalog current_database current_role current_schema current_schemas \
                current_user session_user user current_setting current_date current_time \
                current_timestamp localtime localtimestamp getdatabaseencoding pg_backend_pid \
                pg_client_encoding pg_collation_for pg_column_size pg_conf_load_time \
                pg_encoding_to_char pg_char_to_encoding pg_get_userbyid pg_get_expr \
                pg_get_constraintdef pg_get_indexdef pg_get_partkeydef \
                pg_get_partition_constraintdef pg_get_function_arguments \
                pg_get_function_identity_arguments pg_get_function_result pg_get_keywords \
                pg_get_triggerdef pg_get_serial_sequence pg_get_statisticsobjdef_columns \
                pg_is_in_recovery pg_is_other_temp_schema pg_my_temp_schema pg_jit_available \
                pg_postmaster_start_time pg_size_bytes pg_size_pretty pg_table_is_visible \
                pg_type_is_visible pg_function_is_visible pg_operator_is_visible \
                pg_opclass_is_visible pg_opfamily_is_visible pg_collation_is_visible \
                pg_conversion_is_visible pg_ts_config_is_visible pg_ts_dict_is_visible \
                pg_ts_parser_is_visible pg_ts_template_is_visible pg_statistics_obj_is_visible \
                pg_typeof pg_relation_is_updatable pg_column_is_updatable \
                pg_index_column_has_property pg_index_has_property pg_indexam_has_property \
                pg_describe_object pg_identify_object pg_options_to_table pg_partition_root \
                pg_partition_ancestors pg_relation_is_publishable pg_tablespace_location \
                pg_timezone_names pg_timezone_abbrevs pg_event_trigger_ddl_commands \
                pg_extension_update_paths pg_input_is_valid pg_basetype row_security_active \
                col_description format_type obj_description shobj_description oidvectortypes \
                to_regclass to_regcollation to_regnamespace to_regoper to_regoperator to_regproc \
                to_regprocedure to_regrole to_regtype version has_any_column_privilege \
                has_column_privilege has_database_privilege has_foreign_data_wrapper_privilege \
                has_function_privilege has_language_privilege has_parameter_privilege \
                has_schema_privilege has_sequence_privilege has_server_privilege has_table_privilege \
                has_tablespace_privilege has_type_privilege pg_has_role aclexplode acldefault \
                makeaclitem pg_advisory_unlock_all pg_partition_tree",
    },
    Family {
        reach: Reach::Sequence,
        about: "numbers of one's own inserts: gaps tell of others' inserts, as the threat model says",
        names: "nextval currval",
    },
    Family {
        reach: Reach::RunsSql,
        about: "text that is run as SQL",
        names: "query_to_xml* cursor_to_xml* table_to_xml* schema_to_xml* database_to_xml* ts_stat \
                ts_rewrite",
    },
    Family {
        reach: Reach::ReadsTables,
        about: "rows of tables, large objects and stored statistics, past the guards",
        names: "lo_* loread lowrite currtid2 pg_mcv_list_items pg_sequence_last_value lastval",
    },
    Family {
        reach: Reach::Outside,
        about: "files, logs, programs and addresses of the server",
        names: "pg_read_file* pg_read_binary_file pg_ls_* pg_stat_file pg_current_logfile \
                pg_hba_file_rules pg_ident_file_mappings pg_show_all_file_settings \
                pg_relation_filepath pg_relation_filenode pg_filenode_relation \
                pg_tablespace_databases pg_config pg_rotate_logfile* inet_server_addr \
                inet_server_port inet_client_addr inet_client_port pg_import_system_collations \
                pg_collation_actual_version pg_database_collation_actual_version pg_walfile_name* \
                pg_get_catalog_foreign_keys pg_control_*",
    },
    Family {
        reach: Reach::Changes,
        about: "settings, locks, other sessions, replication and the server's state",
        names: "set_config setseed setval pg_advisory_* pg_try_advisory_* pg_notify pg_sleep* \
                pg_reload_conf pg_terminate_backend pg_cancel_backend pg_log_backend_memory_contexts \
                pg_stat_reset* pg_stat_clear_snapshot pg_stat_force_next_flush pg_replication_* \
                pg_create_* pg_drop_replication_slot pg_copy_* pg_logical_* pg_switch_wal \
                pg_wal_replay_* pg_promote pg_backup_* binary_upgrade_* pg_nextoid \
                pg_stop_making_pinned_objects pg_extension_config_dump brin_desummarize_range \
                brin_summarize_new_values brin_summarize_range gin_clean_pending_list \
                pg_export_snapshot",
    },
    Family {
        reach: Reach::Leaks,
        about: "what other sessions and tenants do: statistics, locks, transactions, other statements' text",
        names: "pg_stat_get_* pg_stat_have_stats pg_lock_status pg_blocking_pids \
                pg_safe_snapshot_blocking_pids pg_isolation_test_session_is_blocked txid_* pg_current_xact_id* pg_current_snapshot pg_snapshot_* \
                pg_visible_in_snapshot pg_xact_* pg_last_* pg_current_wal_* pg_wal_lsn_diff \
                pg_is_wal_replay_paused pg_get_wal_* pg_get_multixact_members mxid_age \
                pg_prepared_statement pg_prepared_xact pg_cursor pg_listening_channels \
                pg_notification_queue_usage current_query pg_show_all_settings pg_settings_get_flags \
                pg_show_replication_origin_status pg_get_replication_slots \
                pg_get_backend_memory_contexts pg_get_shmem_allocations pg_column_compression \
                pg_indexam_progress_phasename",
    },
    Family {
        reach: Reach::Leaks,
        about: "sizes, which all tenants' rows make: a call is sent with NULL in its place, and answers NULL",
        names: "pg_relation_size pg_table_size pg_indexes_size pg_total_relation_size \
                pg_database_size pg_tablespace_size",
    },
    Family {
        reach: Reach::Definitions,
        about: "text of views, functions and rules, which may hold the operator's secrets",
        names: "pg_get_viewdef pg_get_functiondef pg_get_function_sqlbody \
                pg_get_function_arg_default pg_get_ruledef pg_get_statisticsobjdef \
                pg_get_statisticsobjdef_expressions pg_get_publication_tables \
                pg_get_replica_identity_index pg_sequence_parameters pg_get_object_address \
                pg_identify_object_as_address pg_available_extension* pg_encoding_max_length \
                pg_event_trigger_* getpgusername",
    },
    Family {
        reach: Reach::Internal,
        about: "PostgreSQL's own: triggers, index and type support, called by the server and not by name",
        names: "RI_FKey_* *_trigger tsvector_update_trigger* unique_key_recheck amvalidate bernoulli \
                system satisfies_hash_partition pg_trigger_depth postgresql_fdw_validator \
                xmlvalidate shell_in shell_out enum_in enum_out enum_recv enum_send gin_* \
                ginarrayextract gtsquery_* gtsvector_* int4inc int8_sum numeric_* dexp dlog1 dlog10 \
                dround dtrunc nameconcatoid cash_words pg_lsn",
    },
];

/// The family of a function of `pg_catalog`; `None` for what nobody has listed.
pub fn family(name: &str) -> Option<&'static Family> {
    FAMILIES.iter().find(|family| family.holds(name))
}

/// What identities that the policy's `ddl` names may call beyond the open families: what ALTER SEQUENCE does
/// too, as fixtures and restored dumps say it.
pub const OF_SCHEMA_CHANGES: &[&str] = &["setval"];

/// Whether a tenant may call the function of `pg_catalog` of that name.
pub fn is_allowed(name: &str) -> bool {
    // The open families hold names only, without `*`.
    FAMILIES.iter().any(|family| family.reach.is_open() && family.names().any(|open| open == name))
}

/// Whether a function is an aggregate, or none of ours, which could be one.
pub fn may_aggregate(name: &str) -> bool {
    let mut open = FAMILIES.iter().filter(|family| family.reach.is_open());
    let found = open.find(|family| family.names().any(|listed| listed == name));
    found.is_none_or(|family| family.about.starts_with("aggregates"))
}

/// Whether a function of `pg_catalog` only computes from its arguments.
pub fn computes(name: &str) -> bool {
    family(name).is_some_and(|family| family.reach == Reach::Pure)
}

/// Whether it is an aggregate or a window function of `pg_catalog`.
pub fn is_aggregate(name: &str) -> bool {
    computes(name) && may_aggregate(name)
}

/// Whether a function of `pg_catalog` may take one value alone, as far as the families tell; for where the
/// server's own list was not read. Those that tell of the session under one word (`version`) take none.
pub fn may_take_one_value(name: &str) -> bool {
    family(name).is_some_and(|family| family.reach != Reach::Describes || name.contains('_'))
}

#[cfg(test)]
mod tests {
    use super::{FAMILIES, Reach, family, is_allowed};

    #[test]
    fn nothing_that_runs_text_reads_files_or_sets_settings_is_allowed() {
        for (dangerous, reach) in [
            ("set_config", Reach::Changes),
            ("query_to_xml", Reach::RunsSql),
            ("table_to_xml", Reach::RunsSql),
            ("schema_to_xml", Reach::RunsSql),
            ("database_to_xml", Reach::RunsSql),
            ("cursor_to_xml", Reach::RunsSql),
            ("ts_stat", Reach::RunsSql),
            ("ts_rewrite", Reach::RunsSql),
            ("pg_read_file", Reach::Outside),
            ("pg_ls_dir", Reach::Outside),
            ("lo_get", Reach::ReadsTables),
            ("lo_import", Reach::ReadsTables),
            ("pg_terminate_backend", Reach::Changes),
            ("pg_cancel_backend", Reach::Changes),
            ("pg_notify", Reach::Changes),
            ("pg_advisory_lock", Reach::Changes),
            ("pg_stat_get_activity", Reach::Leaks),
            ("setval", Reach::Changes),
            ("lastval", Reach::ReadsTables),
            ("pg_relation_size", Reach::Leaks),
            ("pg_get_viewdef", Reach::Definitions),
            ("pg_get_functiondef", Reach::Definitions),
            ("pg_sleep", Reach::Changes),
            ("pg_export_snapshot", Reach::Changes),
            ("inet_server_addr", Reach::Outside),
            ("txid_current", Reach::Leaks),
            ("pg_current_xact_id", Reach::Leaks),
            ("pg_show_all_settings", Reach::Leaks),
        ] {
            assert!(!is_allowed(dangerous), "{dangerous}");
            assert_eq!(family(dangerous).map(|family| family.reach), Some(reach), "{dangerous}");
        }
        assert!(!is_allowed("dblink") && family("dblink").is_none());
    }

    #[test]
    fn what_a_policy_may_open_is_closed_and_costs_time_alone() {
        for name in super::OPENED_BY_POLICY {
            assert!(!is_allowed(name), "{name}");
            assert_eq!(family(name).map(|family| family.reach), Some(Reach::Changes), "{name}");
            assert!(name.starts_with("pg_sleep"), "review what {name} can do");
        }
    }

    #[test]
    fn open_families_hold_each_name_once_and_no_pattern() {
        let open = FAMILIES.iter().filter(|family| family.reach.is_open());
        let mut names: Vec<_> = open.flat_map(super::Family::names).collect();
        let count = names.len();
        names.sort_unstable();
        names.dedup();
        assert_eq!(names.len(), count);
        assert!(names.iter().all(|name| !name.contains('*')));
    }
}
