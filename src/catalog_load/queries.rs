//! The catalog queries, and how their rows become a [`Catalog`]. Layer 4.
//!
//! INVARIANT: every text here runs with `search_path = pg_catalog`, so that no object that a user
//! made in another schema is ever called in Hedgerow's name.

use std::collections::{BTreeSet, HashMap};
use std::sync::Arc;

use tokio::time::timeout;
use tokio_postgres::types::{FromSqlOwned, Type};
use tokio_postgres::{Client, IsolationLevel, Row, SimpleQueryMessage, Transaction};

use super::{LOAD_TIMEOUT, LoadError, MAX_COLUMNS, MAX_RELATIONS};
use crate::catalog::{
    CastContext, Catalog, Column, ForeignKey, Function, ImpliedCast, ImpliedCheck, Posture,
    Relation, RelationKind,
};
use crate::ids::{CatalogEpoch, RelationName};

/// A catalog, and the fingerprint of the snapshot that it was read in.
pub(super) struct Loaded {
    pub(super) catalog: Catalog,
    pub(super) fingerprint: Fingerprint,
    /// `search_path` as the fresh session had it, unresolved.
    pub(super) search_path: String,
}

/// A digest of everything in the system catalogs that [`read`] looks at.
#[derive(Clone, Debug, PartialEq, Eq)]
pub(super) struct Fingerprint(String);

/// What a watching session sees.
pub(super) struct Glance {
    pub(super) fingerprint: Fingerprint,
    /// `search_path` as this session has it: follows a changed configuration file.
    pub(super) search_path: String,
}

/// Relations that are ours to know. Temporary ones belong to a session, not to the schema.
macro_rules! user_schema {
    () => {
        "n.nspname NOT IN ('pg_catalog', 'information_schema', 'pg_toast') \
         AND n.nspname !~ '^pg_(toast_)?temp_'"
    };
}
pub(super) use user_schema;

/// Kinds of [`RelationKind`].
macro_rules! relation_kinds {
    () => {
        "c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S')"
    };
}

/// Sums of hashes do not depend on the order of rows, so that no sort is needed. `pg_class` is
/// compared by content, for TRUNCATE and VACUUM FULL write new rows without changing the schema;
/// elsewhere a row's `xmin` tells that it was written. `pg_db_role_setting` and `pg_namespace`
/// (names, privileges) decide the search path of a fresh session.
const FINGERPRINT: &str = concat!(
    "WITH relations AS MATERIALIZED (
       SELECT c.oid, ROW(c.oid, c.relname, c.relnamespace, c.relkind, c.relowner, c.relrowsecurity,
                         c.relforcerowsecurity, c.reloptions)::text AS content
       FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
       WHERE c.relpersistence <> 't' AND ",
    relation_kinds!(),
    " AND ",
    user_schema!(),
    "), parts(part) AS (
       SELECT 'relation ' || count(*) || ' ' || sum(hashtextextended(content, 0)) FROM relations
       UNION ALL SELECT 'column ' || count(*) || ' ' ||
         sum(hashtextextended(a.attrelid || '.' || a.attnum || '.' || a.xmin, 0))
         FROM pg_attribute a JOIN relations r ON r.oid = a.attrelid WHERE a.attnum > 0
       UNION ALL SELECT 'constraint ' || count(*) || ' ' ||
         sum(hashtextextended(k.oid || '.' || k.xmin, 0))
         FROM pg_constraint k JOIN relations r ON r.oid = k.conrelid
       UNION ALL SELECT 'index ' || count(*) || ' ' ||
         sum(hashtextextended(i.indexrelid || '.' || i.xmin, 0))
         FROM pg_index i JOIN relations r ON r.oid = i.indrelid WHERE i.indisunique
       UNION ALL SELECT 'parent ' || count(*) || ' ' ||
         sum(hashtextextended(h.inhrelid || '.' || h.inhparent || '.' || h.xmin, 0))
         FROM pg_inherits h JOIN relations r ON r.oid = h.inhrelid
       UNION ALL SELECT 'rule ' || count(*) || ' ' ||
         sum(hashtextextended(w.oid || '.' || w.xmin, 0))
         FROM pg_rewrite w JOIN relations r ON r.oid = w.ev_class
       UNION ALL SELECT 'function ' || count(*) || ' ' ||
         sum(hashtextextended(p.oid || '.' || p.xmin, 0))
         FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
         WHERE n.nspname !~ '^pg_temp_'
       UNION ALL SELECT 'operator ' || count(*) || ' ' ||
         sum(hashtextextended(o.oid || '.' || o.xmin, 0))
         FROM pg_operator o JOIN pg_namespace n ON n.oid = o.oprnamespace
         WHERE n.nspname <> 'pg_catalog' OR o.oid >= 16384
       UNION ALL SELECT 'cast ' || count(*) || ' ' ||
         sum(hashtextextended(c.oid || '.' || c.xmin, 0)) FROM pg_cast c WHERE c.oid >= 16384
       UNION ALL SELECT 'check ' || count(*) || ' ' ||
         sum(hashtextextended(k.oid || '.' || k.xmin, 0)) FROM pg_constraint k WHERE k.contypid <> 0
       UNION ALL SELECT 'row ' || count(*) || ' ' ||
         sum(hashtextextended(a.attrelid || '.' || a.attnum || '.' || a.xmin, 0))
         FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
         WHERE c.relkind = 'c' AND c.oid >= 16384 AND a.attnum > 0
       UNION ALL SELECT 'type ' || count(*) || ' ' ||
         sum(hashtextextended(t.oid || '.' || t.xmin, 0))
         FROM pg_type t JOIN pg_namespace n ON n.oid = t.typnamespace WHERE ",
    user_schema!(),
    "  UNION ALL SELECT 'extension ' || count(*) || ' ' ||
         sum(hashtextextended(e.oid || '.' || e.xmin, 0)) FROM pg_extension e
       UNION ALL SELECT 'schema ' || count(*) || ' ' ||
         sum(hashtextextended(n.oid || '.' || n.xmin, 0)) FROM pg_namespace n WHERE ",
    user_schema!(),
    "  UNION ALL SELECT 'setting ' || count(*) || ' ' ||
         sum(hashtextextended(ROW(s.setdatabase, s.setrole, s.setconfig)::text, 0))
         FROM pg_db_role_setting s
       UNION ALL SELECT 'role ' || count(*) || ' ' ||
         sum(hashtextextended(ROW(g.oid, g.rolname, g.rolsuper, g.rolbypassrls)::text, 0))
         FROM pg_roles g WHERE pg_has_role(current_user, g.oid, 'MEMBER')
     )
     SELECT string_agg(part, '; ' ORDER BY part) FROM parts"
);

pub(super) const PIN_SEARCH_PATH: &str = "SELECT pg_catalog.set_config('search_path', 'pg_catalog', true), \
     pg_catalog.set_config('jit', 'off', true), \
     pg_catalog.set_config('statement_timeout', '60s', true)";

/// Read before the search path is pinned, hence every name in full.
const SEARCH_PATH: &str = "SELECT pg_catalog.current_schemas(false)::pg_catalog.text[], \
     pg_catalog.current_setting('search_path')";

const SESSION: &str = "SELECT current_user::text, current_setting('server_version_num')::int4,
       r.rolsuper, r.rolbypassrls,
       ARRAY(SELECT g.rolname::text FROM pg_roles g
             WHERE pg_has_role(current_user, g.oid, 'MEMBER') ORDER BY 1)
     FROM pg_roles r WHERE r.rolname = current_user";

const RELATIONS: &str = concat!(
    "SELECT c.oid, n.nspname::text, c.relname::text, c.relkind::text,
       c.relrowsecurity, c.relforcerowsecurity, pg_get_userbyid(c.relowner)::text,
       coalesce((SELECT o.option_value::bool FROM pg_options_to_table(c.reloptions) o
                 WHERE o.option_name = 'security_invoker'), false),
       coalesce((SELECT o.option_value::bool FROM pg_options_to_table(c.reloptions) o
                 WHERE o.option_name = 'security_barrier'), false)
     FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relpersistence <> 't' AND ",
    relation_kinds!(),
    " AND ",
    user_schema!(),
    " LIMIT $1"
);

const COLUMNS: &str = concat!(
    "SELECT a.attrelid, a.attname::text, tn.nspname::text, t.typname::text, a.attnotnull,
       a.atthasdef OR a.attidentity <> '', a.attgenerated <> '' OR a.attidentity = 'a', a.attnum
     FROM pg_attribute a
     JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
     JOIN pg_type t ON t.oid = a.atttypid JOIN pg_namespace tn ON tn.oid = t.typnamespace
     WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relpersistence <> 't' AND ",
    relation_kinds!(),
    " AND ",
    user_schema!(),
    " ORDER BY a.attrelid, a.attnum LIMIT $1"
);

const UNIQUE_KEYS: &str = concat!(
    "SELECT i.indrelid, i.indisprimary,
       i.indpred IS NULL AND i.indexprs IS NULL AND i.indisvalid AND i.indimmediate, x.relname::text,
       ARRAY(SELECT a.attname::text
             FROM generate_series(0, i.indnkeyatts - 1) AS k(at)
             JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[k.at]
             ORDER BY k.at)
     FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
     JOIN pg_class c ON c.oid = i.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE i.indisunique AND c.relpersistence <> 't' AND ",
    user_schema!(),
    " ORDER BY i.indrelid, x.relname"
);

const FOREIGN_KEYS: &str = concat!(
    "SELECT k.conrelid, pn.nspname::text, p.relname::text,
       ARRAY(SELECT a.attname::text FROM unnest(k.conkey) WITH ORDINALITY AS u(num, at)
             JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.num ORDER BY u.at),
       ARRAY(SELECT a.attname::text FROM unnest(k.confkey) WITH ORDINALITY AS u(num, at)
             JOIN pg_attribute a ON a.attrelid = k.confrelid AND a.attnum = u.num ORDER BY u.at)
     FROM pg_constraint k
     JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
     JOIN pg_class p ON p.oid = k.confrelid JOIN pg_namespace pn ON pn.oid = p.relnamespace
     WHERE k.contype = 'f' AND ",
    user_schema!(),
    " ORDER BY k.conrelid, k.conname"
);

const PARENTS: &str = "SELECT h.inhrelid, n.nspname::text, c.relname::text
     FROM pg_inherits h JOIN pg_class c ON c.oid = h.inhparent
     JOIN pg_namespace n ON n.oid = c.relnamespace ORDER BY h.inhrelid, h.inhseqno";

/// The last column: whether one of `pg_catalog` takes just these arguments, also where a call leaves some
/// out, gives more, or names them.
const FUNCTIONS: &str = "SELECT n.nspname::text, p.proname::text, p.prosecdef, l.lanname::text,
       p.pronargdefaults = 0 AND p.provariadic = 0 AND EXISTS (
         SELECT FROM pg_proc b JOIN pg_namespace bn ON bn.oid = b.pronamespace
         WHERE bn.nspname = 'pg_catalog' AND b.proname = p.proname
           AND b.proargtypes = p.proargtypes AND b.provariadic = 0
           AND b.proargnames IS NOT DISTINCT FROM p.proargnames)
     FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
     JOIN pg_language l ON l.oid = p.prolang
     WHERE n.nspname <> 'pg_catalog' AND n.nspname !~ '^pg_temp_' ORDER BY 1, 2, p.oid";

/// Attribute notation fills in defaults, and makes an array of one value for VARIADIC. A function that is
/// named as the type which it returns is a cast (`int4`), as `::` is. Who takes `internal` cannot be called.
const ATTRIBUTE_FUNCTIONS: &str =
    "SELECT p.proname::text FROM pg_proc p JOIN pg_type t ON t.oid = p.prorettype
     WHERE p.pronamespace = 'pg_catalog'::regnamespace
       AND p.pronargs >= 1 AND p.pronargs - p.pronargdefaults <= 1
       AND NOT 'internal'::regtype = ANY (p.proargtypes)
     GROUP BY p.proname HAVING NOT bool_and(t.typname = p.proname)";

/// Prefix operators have no left type.
const OPERATORS: &str = "SELECT DISTINCT o.oprname::text FROM pg_operator o
     JOIN pg_namespace n ON n.oid = o.oprnamespace
     WHERE n.nspname <> 'pg_catalog' AND NOT EXISTS (
       SELECT FROM pg_type t JOIN pg_namespace tn ON tn.oid = t.typnamespace
       WHERE t.oid IN (o.oprleft, o.oprright) AND tn.nspname <> 'pg_catalog')";

/// The least OID of what was made after `initdb`.
macro_rules! first_made {
    () => {
        "16384"
    };
}

/// Functions `p` of somebody's making: not those that PostgreSQL itself runs for an operator or a cast, nor an
/// extension's code in C that changes nothing.
macro_rules! somebodys {
    () => {
        concat!(
            "p.oid <> 0 AND NOT (p.oid < ",
            first_made!(),
            " AND (EXISTS (SELECT FROM pg_operator b WHERE b.oprcode = p.oid AND b.oid < ",
            first_made!(),
            ") OR EXISTS (SELECT FROM pg_cast b WHERE b.castfunc = p.oid AND b.oid < ",
            first_made!(),
            "))) AND NOT (NOT p.prosecdef AND p.provolatile <> 'v' AND p.prolang IN
               (SELECT l.oid FROM pg_language l WHERE l.lanname IN ('c', 'internal'))
             AND EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_proc'::regclass
               AND d.objid = p.oid AND d.refclassid = 'pg_extension'::regclass AND d.deptype = 'e'))"
        )
    };
}

const IMPLIED_OPERATORS: &str = concat!(
    "SELECT DISTINCT o.oprname::text, n.nspname::text, p.proname::text
     FROM pg_operator o JOIN pg_proc p ON p.oid = o.oprcode
     JOIN pg_namespace n ON n.oid = p.pronamespace
     WHERE o.oid >= ",
    first_made!(),
    " AND ",
    somebodys!(),
    " ORDER BY 1, 2, 3"
);

/// Casts, each with the types that are made of its source and of its target. Those of a source of
/// PostgreSQL's own are not asked for: its values are everywhere.
const IMPLIED_CASTS: &str = concat!(
    "WITH RECURSIVE made AS MATERIALIZED (
       SELECT c.oid, c.castsource, c.casttarget, c.castcontext, n.nspname, p.proname
       FROM pg_cast c JOIN pg_proc p ON p.oid = c.castfunc
       JOIN pg_namespace n ON n.oid = p.pronamespace
       WHERE c.oid >= ",
    first_made!(),
    " AND ",
    somebodys!(),
    "), held(root, type) AS (
       SELECT m.casttarget, m.casttarget FROM made m
       UNION SELECT m.castsource, m.castsource FROM made m WHERE m.castsource >= ",
    first_made!(),
    "  UNION
       SELECT h.root, of.type FROM held h CROSS JOIN LATERAL (
         SELECT t.oid FROM pg_type t
         WHERE t.typbasetype = h.type OR t.typelem = h.type AND t.typcategory = 'A'
         UNION ALL
         SELECT c.reltype FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
         WHERE a.atttypid = h.type AND a.attnum > 0 AND NOT a.attisdropped AND c.reltype <> 0
       ) AS of(type)
     )
     SELECT sn.nspname::text, s.typname::text, tn.nspname::text, t.typname::text,
       m.nspname::text, m.proname::text, m.castcontext::text,
       ARRAY(SELECT hn.nspname::text FROM held h JOIN pg_type y ON y.oid = h.type
             JOIN pg_namespace hn ON hn.oid = y.typnamespace WHERE h.root = s.oid ORDER BY y.oid),
       ARRAY(SELECT y.typname::text FROM held h JOIN pg_type y ON y.oid = h.type
             WHERE h.root = s.oid ORDER BY y.oid),
       ARRAY(SELECT hn.nspname::text FROM held h JOIN pg_type y ON y.oid = h.type
             JOIN pg_namespace hn ON hn.oid = y.typnamespace WHERE h.root = t.oid ORDER BY y.oid),
       ARRAY(SELECT y.typname::text FROM held h JOIN pg_type y ON y.oid = h.type
             WHERE h.root = t.oid ORDER BY y.oid)
     FROM made m
     JOIN pg_type s ON s.oid = m.castsource JOIN pg_namespace sn ON sn.oid = s.typnamespace
     JOIN pg_type t ON t.oid = m.casttarget JOIN pg_namespace tn ON tn.oid = t.typnamespace
     ORDER BY m.oid"
);

/// Domains with a CHECK that calls such a function, or an operator of one, each with the types made of it.
const IMPLIED_CHECKS: &str = concat!(
    "WITH RECURSIVE made AS MATERIALIZED (
       SELECT DISTINCT c.contypid AS domain, n.nspname, p.proname
       FROM pg_constraint c
       JOIN pg_depend r ON r.classid = 'pg_constraint'::regclass AND r.objid = c.oid
       LEFT JOIN pg_operator o ON r.refclassid = 'pg_operator'::regclass AND o.oid = r.refobjid
       JOIN pg_proc p ON p.oid = CASE WHEN r.refclassid = 'pg_proc'::regclass THEN r.refobjid
                                      ELSE o.oprcode::oid END
       JOIN pg_namespace n ON n.oid = p.pronamespace
       WHERE c.contypid >= ",
    first_made!(),
    " AND ",
    somebodys!(),
    "), held(root, type) AS (
       SELECT m.domain, m.domain FROM made m
       UNION
       SELECT h.root, of.type FROM held h CROSS JOIN LATERAL (
         SELECT t.oid FROM pg_type t
         WHERE t.typbasetype = h.type OR t.typelem = h.type AND t.typcategory = 'A'
         UNION ALL
         SELECT c.reltype FROM pg_attribute a JOIN pg_class c ON c.oid = a.attrelid
         WHERE a.atttypid = h.type AND a.attnum > 0 AND NOT a.attisdropped AND c.reltype <> 0
         UNION ALL
         SELECT unnest(ARRAY[g.rngtypid, g.rngmultitypid]) FROM pg_range g WHERE g.rngsubtype = h.type
       ) AS of(type)
     )
     SELECT dn.nspname::text, d.typname::text, m.nspname::text, m.proname::text,
       ARRAY(SELECT hn.nspname::text FROM held h JOIN pg_type y ON y.oid = h.type
             JOIN pg_namespace hn ON hn.oid = y.typnamespace WHERE h.root = d.oid ORDER BY y.oid),
       ARRAY(SELECT y.typname::text FROM held h JOIN pg_type y ON y.oid = h.type
             WHERE h.root = d.oid ORDER BY y.oid)
     FROM made m JOIN pg_type d ON d.oid = m.domain JOIN pg_namespace dn ON dn.oid = d.typnamespace
     ORDER BY 1, 2, 3, 4"
);

const EXTENSIONS: &str = "SELECT extname::text FROM pg_extension";

/// Columns under a collation that is neither the database's own nor C (comparing two of them may have
/// no collation, and a nondeterministic one has no LIKE), and those of PostgreSQL 18 that are computed
/// as they are read.
const UNSTEADY_COLUMNS: &str = concat!(
    "SELECT n.nspname::text, c.relname::text, a.attname::text
     FROM pg_attribute a
     JOIN pg_class c ON c.oid = a.attrelid JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE a.attnum > 0 AND NOT a.attisdropped AND c.relpersistence <> 't'
       AND (a.attcollation NOT IN (0, 'pg_catalog.\"default\"'::regcollation, 'pg_catalog.\"C\"'::regcollation)
            OR a.attgenerated = 'v') AND ",
    relation_kinds!(),
    " AND ",
    user_schema!()
);

const TYPES: &str = concat!(
    "SELECT n.nspname::text, t.typname::text, t.oid FROM pg_type t
     JOIN pg_namespace n ON n.oid = t.typnamespace WHERE ",
    user_schema!()
);

const VIEW_SOURCES: &str = concat!(
    "SELECT DISTINCT n.nspname::text, c.relname::text, sn.nspname::text, s.relname::text
     FROM pg_depend d JOIN pg_rewrite w ON w.oid = d.objid
     JOIN pg_class c ON c.oid = w.ev_class JOIN pg_namespace n ON n.oid = c.relnamespace
     JOIN pg_class s ON s.oid = d.refobjid JOIN pg_namespace sn ON sn.oid = s.relnamespace
     WHERE d.classid = 'pg_rewrite'::regclass AND d.refclassid = 'pg_class'::regclass
       AND d.refobjid <> w.ev_class AND c.relkind IN ('v', 'm') AND ",
    user_schema!(),
    " ORDER BY 1, 2, 3, 4"
);

const OWNED_SEQUENCES: &str = concat!(
    "SELECT n.nspname::text, c.relname::text, tn.nspname::text, t.relname::text
     FROM pg_depend d
     JOIN pg_class c ON c.oid = d.objid AND c.relkind = 'S'
     JOIN pg_namespace n ON n.oid = c.relnamespace
     JOIN pg_class t ON t.oid = d.refobjid JOIN pg_namespace tn ON tn.oid = t.relnamespace
     WHERE d.classid = 'pg_class'::regclass AND d.refclassid = 'pg_class'::regclass
       AND d.deptype = 'a' AND ",
    user_schema!(),
    " ORDER BY 1, 2"
);

/// Reads the whole catalog in one snapshot. The session must be fresh: its search path becomes the
/// catalog's.
pub(super) async fn read(client: &mut Client) -> Result<Loaded, LoadError> {
    match timeout(LOAD_TIMEOUT, read_in_snapshot(client)).await {
        Ok(outcome) => outcome,
        Err(_elapsed) => Err(LoadError::Timeout(LOAD_TIMEOUT)),
    }
}

async fn read_in_snapshot(client: &mut Client) -> Result<Loaded, LoadError> {
    let transaction = client
        .build_transaction()
        .read_only(true)
        .isolation_level(IsolationLevel::RepeatableRead)
        .start()
        .await
        .map_err(query_fault)?;
    let fresh = one(&transaction, SEARCH_PATH).await?;
    let schemas: Vec<String> = fresh.at(0)?;
    rows(&transaction, PIN_SEARCH_PATH).await?;
    let fingerprint = Fingerprint(one(&transaction, FINGERPRINT).await?.at(0)?);
    let session = one(&transaction, SESSION).await?;

    let (mut relations, names) = relations(&transaction).await?;
    let mut posture = Posture {
        superuser: session.at(2)?,
        bypass_rls: session.at(3)?,
        member_of: session.at(4)?,
        ..Posture::default()
    };
    columns(&transaction, &mut relations).await?;
    keys(&transaction, &mut relations, &mut posture).await?;
    for row in rows(&transaction, VIEW_SOURCES).await? {
        posture.view_sources.push((row.at(0)?, row.at(1)?, row.at(2)?, row.at(3)?));
    }
    for row in rows(&transaction, OWNED_SEQUENCES).await? {
        posture.owned_sequences.push((row.at(0)?, row.at(1)?, row.at(2)?, row.at(3)?));
    }
    // It is, unless the path names it in another place.
    let catalog_first = schemas.iter().position(|schema| schema == "pg_catalog").unwrap_or(0) == 0;
    let mut catalog = Catalog {
        epoch: CatalogEpoch::default(),
        live: true,
        server_version: u32::try_from(session.at::<i32>(1)?).unwrap_or_default(),
        search_path: schemas.into_iter().filter(|schema| schema != "pg_catalog").collect(),
        role: session.at(0)?,
        posture,
        ..Catalog::default()
    };
    for row in rows(&transaction, FUNCTIONS).await? {
        catalog.functions.push(Function {
            schema: row.at(0)?,
            name: row.at(1)?,
            security_definer: row.at(2)?,
            language: row.at(3)?,
            hidden: catalog_first && row.at(4)?,
        });
    }
    for row in rows(&transaction, ATTRIBUTE_FUNCTIONS).await? {
        catalog.attribute_functions.insert(row.at(0)?);
    }
    for row in rows(&transaction, OPERATORS).await? {
        catalog.user_operators.insert(row.at(0)?);
    }
    for row in rows(&transaction, IMPLIED_OPERATORS).await? {
        let functions = catalog.implied_operators.entry(row.at(0)?).or_default();
        functions.push((row.at(1)?, row.at(2)?));
    }
    for row in rows(&transaction, IMPLIED_CASTS).await? {
        catalog.implied_casts.push(ImpliedCast {
            source: (row.at(0)?, row.at(1)?),
            target: (row.at(2)?, row.at(3)?),
            function: (row.at(4)?, row.at(5)?),
            context: match row.at::<String>(6)?.as_str() {
                "e" => CastContext::Explicit,
                "a" => CastContext::Assignment,
                _ => CastContext::Implicit,
            },
            sources: pairs(row.at(7)?, row.at(8)?),
            targets: pairs(row.at(9)?, row.at(10)?),
        });
    }
    for row in rows(&transaction, IMPLIED_CHECKS).await? {
        catalog.implied_checks.push(ImpliedCheck {
            domain: (row.at(0)?, row.at(1)?),
            function: (row.at(2)?, row.at(3)?),
            holders: pairs(row.at(4)?, row.at(5)?),
        });
    }
    for row in rows(&transaction, EXTENSIONS).await? {
        catalog.extensions.insert(row.at(0)?);
    }
    for row in rows(&transaction, UNSTEADY_COLUMNS).await? {
        let relation = RelationName::new(&row.at::<String>(0)?, &row.at::<String>(1)?);
        catalog.unsteady_columns.entry(relation).or_default().insert(row.at(2)?);
    }
    for row in rows(&transaction, TYPES).await? {
        let name: (String, String) = (row.at(0)?, row.at(1)?);
        catalog.types_by_oid.insert(row.at(2)?, name.clone());
        catalog.user_types.insert(name);
    }
    transaction.commit().await.map_err(query_fault)?;
    catalog.by_oid = names.iter().cloned().collect();
    catalog.relations =
        names.into_iter().filter_map(|(oid, name)| Some((name, relations.remove(&oid)?))).collect();
    Ok(Loaded { catalog, fingerprint, search_path: fresh.at(1)? })
}

fn pairs(schemas: Vec<String>, names: Vec<String>) -> BTreeSet<(String, String)> {
    schemas.into_iter().zip(names).collect()
}

type ByOid = HashMap<u32, Relation>;

async fn relations(
    transaction: &Transaction<'_>,
) -> Result<(ByOid, Vec<(u32, RelationName)>), LoadError> {
    let found = limited(transaction, RELATIONS, "relations", MAX_RELATIONS).await?;
    let mut relations = HashMap::with_capacity(found.len());
    let mut names = Vec::with_capacity(found.len());
    for row in found {
        let relation = Relation {
            oid: row.at(0)?,
            schema: row.at(1)?,
            name: row.at(2)?,
            kind: kind(&row.at::<String>(3)?)?,
            columns: Vec::new(),
            primary_key: Vec::new(),
            unique_keys: Vec::new(),
            foreign_keys: Vec::new(),
            parents: Vec::new(),
            rls_enabled: row.at(4)?,
            rls_forced: row.at(5)?,
            owner: row.at(6)?,
            security_invoker: row.at(7)?,
            security_barrier: row.at(8)?,
        };
        names.push((relation.oid, relation.relation_name()));
        relations.insert(relation.oid, relation);
    }
    Ok((relations, names))
}

async fn columns(transaction: &Transaction<'_>, relations: &mut ByOid) -> Result<(), LoadError> {
    for row in limited(transaction, COLUMNS, "columns", MAX_COLUMNS).await? {
        let Some(relation) = relations.get_mut(&row.at(0)?) else { continue };
        relation.columns.push(Column {
            name: row.at(1)?,
            type_schema: row.at(2)?,
            type_name: row.at(3)?,
            not_null: row.at(4)?,
            has_default: row.at(5)?,
            generated: row.at(6)?,
            number: row.at(7)?,
        });
    }
    Ok(())
}

async fn keys(
    transaction: &Transaction<'_>,
    relations: &mut ByOid,
    posture: &mut Posture,
) -> Result<(), LoadError> {
    for row in rows(transaction, UNIQUE_KEYS).await? {
        let Some(relation) = relations.get_mut(&row.at(0)?) else { continue };
        let (primary, complete): (bool, bool) = (row.at(1)?, row.at(2)?);
        // A key that is checked at the end of the transaction is none before.
        if primary && complete {
            relation.primary_key = row.at(4)?;
        } else if complete {
            relation.unique_keys.push(row.at(4)?);
        } else {
            let RelationName { schema, name } = relation.relation_name();
            posture.special_unique_indexes.push((schema, name, row.at(3)?));
        }
    }
    for row in rows(transaction, FOREIGN_KEYS).await? {
        let Some(relation) = relations.get_mut(&row.at(0)?) else { continue };
        relation.foreign_keys.push(ForeignKey {
            parent_schema: row.at(1)?,
            parent_name: row.at(2)?,
            columns: row.at(3)?,
            parent_columns: row.at(4)?,
        });
    }
    for row in rows(transaction, PARENTS).await? {
        let Some(relation) = relations.get_mut(&row.at(0)?) else { continue };
        relation.parents.push((row.at(1)?, row.at(2)?));
    }
    Ok(())
}

fn kind(relkind: &str) -> Result<RelationKind, LoadError> {
    match relkind {
        "r" => Ok(RelationKind::Table),
        "p" => Ok(RelationKind::PartitionedTable),
        "v" => Ok(RelationKind::View),
        "m" => Ok(RelationKind::MaterializedView),
        "f" => Ok(RelationKind::ForeignTable),
        "S" => Ok(RelationKind::Sequence),
        _ => Err(LoadError::Content("a kind of relation that was not asked for")),
    }
}

/// Looks whether the schema changed: one round trip, no row of the catalog leaves the server. After
/// an error the session may be inside a failed transaction and must be dropped.
pub(super) async fn glance(client: &Client) -> Result<Glance, LoadError> {
    let text = format!(
        "BEGIN READ ONLY; SELECT pg_catalog.current_setting('search_path'); \
         {PIN_SEARCH_PATH}; {FINGERPRINT}; COMMIT"
    );
    let messages = match timeout(LOAD_TIMEOUT, client.simple_query(&text)).await {
        Ok(outcome) => outcome.map_err(query_fault)?,
        Err(_elapsed) => return Err(LoadError::Timeout(LOAD_TIMEOUT)),
    };
    let mut firsts = messages.iter().filter_map(|message| match message {
        SimpleQueryMessage::Row(row) => row.get(0).map(str::to_owned),
        _ => None,
    });
    match (firsts.next(), firsts.next(), firsts.next()) {
        (Some(search_path), Some(_pinned), Some(fingerprint)) => {
            Ok(Glance { fingerprint: Fingerprint(fingerprint), search_path })
        }
        _ => Err(LoadError::Content("a fingerprint query without rows")),
    }
}

pub(super) async fn rows(transaction: &Transaction<'_>, text: &str) -> Result<Vec<Row>, LoadError> {
    // Unnamed statements: nothing stays behind, and a pooler in between does not mind.
    transaction.query_typed(text, &[]).await.map_err(query_fault)
}

async fn one(transaction: &Transaction<'_>, text: &str) -> Result<Row, LoadError> {
    let mut found = rows(transaction, text).await?;
    found.pop().ok_or(LoadError::Content("a query that must give a row gave none"))
}

/// The rows of a query that ends in `LIMIT $1`; more than `limit` of them are an error.
async fn limited(
    transaction: &Transaction<'_>,
    text: &str,
    what: &'static str,
    limit: usize,
) -> Result<Vec<Row>, LoadError> {
    let bound = i64::try_from(limit).unwrap_or(i64::MAX - 1) + 1;
    let found =
        transaction.query_typed(text, &[(&bound, Type::INT8)]).await.map_err(query_fault)?;
    if found.len() > limit { Err(LoadError::TooLarge { what, limit }) } else { Ok(found) }
}

pub(super) fn query_fault(error: tokio_postgres::Error) -> LoadError {
    LoadError::Query(Arc::new(error))
}

/// A field by position, without the panic of `Row::get`.
pub(super) trait At {
    fn at<T: FromSqlOwned>(&self, index: usize) -> Result<T, LoadError>;
}

impl At for Row {
    fn at<T: FromSqlOwned>(&self, index: usize) -> Result<T, LoadError> {
        self.try_get(index).map_err(query_fault)
    }
}
