//! What surrounds the tables and that no decision asks for: roles, grants, triggers, rules, extensions,
//! publications. Read once, by `hedgerow scan`. Layer 4.
//!
//! Only catalogs that every role may read are read, so that a scan sees as the upstream's role what an
//! owner would see.

use tokio::time::timeout;
use tokio_postgres::{IsolationLevel, Transaction};

use super::queries::{At as _, PIN_SEARCH_PATH, query_fault, rows, user_schema};
use super::{LOAD_TIMEOUT, LoadError, connect};
use crate::endpoint::Endpoint;
use crate::ids::{QuotedIdent, RelationName};

/// What a scan reads beside the catalog.
#[derive(Clone, Debug, Default)]
pub struct Survey {
    /// Every role.
    pub roles: Vec<Role>,
    /// Unique keys, primary keys and unique indexes by name.
    pub keys: Vec<Key>,
    /// Foreign keys by name.
    pub foreign_keys: Vec<Key>,
    /// Exclusion constraints; `columns` are those that are compared with `=`.
    pub exclusions: Vec<Key>,
    /// Functions with their argument types, as ALTER FUNCTION names them: (schema, name, signature).
    pub signatures: Vec<(String, String, String)>,
    /// Triggers that somebody made.
    pub triggers: Vec<Trigger>,
    /// Rules, but for those that make views: (relation, rule, event).
    pub rules: Vec<(RelationName, String, String)>,
    /// What PUBLIC may do: (relation, kind for REVOKE, privileges).
    pub public_grants: Vec<(RelationName, String, String)>,
    /// What PUBLIC may do with relations that do not exist yet: (role that makes them, schema or empty,
    /// kind for REVOKE, privileges).
    pub default_grants: Vec<(String, String, String, String)>,
    /// Schemas in which everybody may make objects.
    pub open_schemas: Vec<String>,
    /// Sequences.
    pub sequences: Vec<Sequence>,
    /// Event triggers: (name, event, function).
    pub event_triggers: Vec<(String, String, String)>,
    /// Published relations: (publication, of all tables, relation, row filter or empty).
    pub publications: Vec<(String, bool, RelationName, String)>,
    /// Extensions, and whether the upstream role may call any function of theirs.
    pub extensions: Vec<(String, bool)>,
    /// Languages that are not trusted, beside those of the server itself.
    pub languages: Vec<String>,
    /// Permissive policies that are true for every row and hold for the upstream role: (relation, policy).
    pub open_policies: Vec<(RelationName, String)>,
}

/// A role, seen from the upstream's.
#[derive(Clone, Debug)]
#[expect(clippy::struct_excessive_bools, reason = "PostgreSQL's own attributes")]
pub struct Role {
    /// Its name.
    pub name: String,
    /// SUPERUSER
    pub superuser: bool,
    /// BYPASSRLS
    pub bypass_rls: bool,
    /// LOGIN
    pub login: bool,
    /// CREATEROLE
    pub create_role: bool,
    /// REPLICATION
    pub replication: bool,
    /// The superuser that every server is born with.
    pub bootstrap: bool,
    /// The upstream's role.
    pub is_upstream: bool,
    /// The upstream's role is a member of it.
    pub of_upstream: bool,
}

/// A key or constraint by name.
#[derive(Clone, Debug)]
pub struct Key {
    /// Schema of its table.
    pub schema: String,
    /// Its table.
    pub table: String,
    /// Its own name.
    pub name: String,
    /// Whether it is a constraint, not an index alone.
    pub constraint: bool,
    /// Its plain columns.
    pub columns: Vec<String>,
    /// How it was defined.
    pub definition: String,
}

impl Key {
    /// The statement that takes it away; `None` for a key whose name is not known.
    pub fn drop_statement(&self) -> Option<String> {
        if self.name.is_empty() {
            return None;
        }
        let (name, schema) = (QuotedIdent(&self.name), QuotedIdent(&self.schema));
        Some(if self.constraint {
            format!("ALTER TABLE {} DROP CONSTRAINT {name};", self.relation())
        } else {
            format!("DROP INDEX {schema}.{name};")
        })
    }

    /// Its table.
    pub fn relation(&self) -> RelationName {
        RelationName::new(&self.schema, &self.table)
    }
}

/// A trigger.
#[derive(Clone, Debug)]
pub struct Trigger {
    /// Its table.
    pub relation: RelationName,
    /// Its name.
    pub name: String,
    /// Its function, schema-qualified.
    pub function: RelationName,
    /// The function runs with its owner's rights.
    pub security_definer: bool,
    /// The function's language.
    pub language: String,
    /// The function's text.
    pub body: String,
}

/// A sequence.
#[derive(Clone, Debug)]
pub struct Sequence {
    /// Its name.
    pub name: RelationName,
    /// A column owns it (serial, identity).
    pub owned: bool,
    /// The upstream role may draw from it.
    pub usable: bool,
    /// Tables whose defaults draw from it.
    pub tables: Vec<String>,
}

impl Survey {
    /// The key over exactly these columns.
    pub fn key(&self, schema: &str, table: &str, columns: &[String]) -> Option<&Key> {
        self.keys
            .iter()
            .find(|key| key.schema == schema && key.table == table && key.columns == columns)
    }

    /// The functions of that name as ALTER FUNCTION names them; none when they are not known.
    pub fn signatures<'a>(
        &'a self,
        schema: &'a str,
        name: &'a str,
    ) -> impl Iterator<Item = &'a str> {
        let found = self.signatures.iter().filter(move |(s, n, _)| s == schema && n == name);
        found.map(|(_, _, signature)| signature.as_str())
    }
}

const ROLES: &str =
    "SELECT r.rolname::text, r.rolsuper, r.rolbypassrls, r.rolcanlogin, r.rolcreaterole,
       r.rolreplication, r.oid = 10, r.rolname = current_user,
       pg_has_role(current_user, r.oid, 'MEMBER')
     FROM pg_roles r ORDER BY 1";

const KEYS: &str = concat!(
    "SELECT n.nspname::text, c.relname::text, x.relname::text, k.oid IS NOT NULL,
       ARRAY(SELECT a.attname::text FROM generate_series(0, i.indnkeyatts - 1) AS p(at)
             JOIN pg_attribute a ON a.attrelid = i.indrelid AND a.attnum = i.indkey[p.at]
             ORDER BY p.at),
       pg_get_indexdef(x.oid)
     FROM pg_index i JOIN pg_class x ON x.oid = i.indexrelid
     JOIN pg_class c ON c.oid = i.indrelid JOIN pg_namespace n ON n.oid = c.relnamespace
     LEFT JOIN pg_constraint k ON k.conindid = x.oid AND k.contype IN ('p', 'u')
     WHERE i.indisunique AND c.relpersistence <> 't' AND ",
    user_schema!(),
    " ORDER BY 1, 2, 3"
);

const FOREIGN_KEYS: &str = concat!(
    "SELECT n.nspname::text, c.relname::text, k.conname::text, true,
       ARRAY(SELECT a.attname::text FROM unnest(k.conkey) WITH ORDINALITY AS u(num, at)
             JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = u.num ORDER BY u.at),
       pg_get_constraintdef(k.oid)
     FROM pg_constraint k
     JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE k.contype = 'f' AND ",
    user_schema!(),
    " ORDER BY 1, 2, 3"
);

const EXCLUSIONS: &str = concat!(
    "SELECT n.nspname::text, c.relname::text, k.conname::text, true,
       ARRAY(SELECT a.attname::text FROM unnest(k.conkey, k.conexclop) AS e(num, op)
             JOIN pg_operator o ON o.oid = e.op AND o.oprname = '='
             JOIN pg_attribute a ON a.attrelid = k.conrelid AND a.attnum = e.num),
       pg_get_constraintdef(k.oid)
     FROM pg_constraint k
     JOIN pg_class c ON c.oid = k.conrelid JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE k.contype = 'x' AND ",
    user_schema!(),
    " ORDER BY 1, 2, 3"
);

const SIGNATURES: &str = concat!(
    "SELECT n.nspname::text, p.proname::text, p.oid::regprocedure::text
     FROM pg_proc p JOIN pg_namespace n ON n.oid = p.pronamespace
     WHERE p.prosecdef AND ",
    user_schema!(),
    " ORDER BY 1, 2, 3"
);

const TRIGGERS: &str = concat!(
    "SELECT n.nspname::text, c.relname::text, t.tgname::text, fn.nspname::text, p.proname::text,
       p.prosecdef, l.lanname::text, p.prosrc
     FROM pg_trigger t JOIN pg_class c ON c.oid = t.tgrelid
     JOIN pg_namespace n ON n.oid = c.relnamespace
     JOIN pg_proc p ON p.oid = t.tgfoid JOIN pg_namespace fn ON fn.oid = p.pronamespace
     JOIN pg_language l ON l.oid = p.prolang
     WHERE NOT t.tgisinternal AND t.tgenabled <> 'D' AND ",
    user_schema!(),
    " ORDER BY 1, 2, 3"
);

const RULES: &str = concat!(
    "SELECT n.nspname::text, c.relname::text, w.rulename::text,
       CASE w.ev_type WHEN '1' THEN 'SELECT' WHEN '2' THEN 'UPDATE' WHEN '3' THEN 'INSERT' ELSE 'DELETE' END
     FROM pg_rewrite w JOIN pg_class c ON c.oid = w.ev_class
     JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE w.rulename <> '_RETURN' AND ",
    user_schema!(),
    " ORDER BY 1, 2, 3"
);

const PUBLIC_GRANTS: &str = concat!(
    "SELECT n.nspname::text, c.relname::text, CASE c.relkind WHEN 'S' THEN 'SEQUENCE' ELSE 'TABLE' END,
       string_agg(DISTINCT g.privilege_type, ', ')
     FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace,
     LATERAL (SELECT e.grantee, e.privilege_type FROM aclexplode(c.relacl) e
              UNION ALL
              SELECT e.grantee, e.privilege_type FROM pg_attribute a, aclexplode(a.attacl) e
              WHERE a.attrelid = c.oid AND a.attnum > 0 AND NOT a.attisdropped) g
     WHERE g.grantee = 0 AND c.relpersistence <> 't' AND c.relkind IN ('r', 'p', 'v', 'm', 'f', 'S') AND ",
    user_schema!(),
    " GROUP BY 1, 2, 3 ORDER BY 1, 2"
);

const DEFAULT_GRANTS: &str =
    "SELECT pg_get_userbyid(d.defaclrole)::text, coalesce(n.nspname::text, ''),
       CASE d.defaclobjtype WHEN 'S' THEN 'SEQUENCES' ELSE 'TABLES' END,
       string_agg(DISTINCT g.privilege_type, ', ')
     FROM pg_default_acl d LEFT JOIN pg_namespace n ON n.oid = d.defaclnamespace,
     LATERAL aclexplode(d.defaclacl) g
     WHERE g.grantee = 0 AND d.defaclobjtype IN ('r', 'S')
     GROUP BY 1, 2, 3 ORDER BY 1, 2, 3";

const OPEN_SCHEMAS: &str = concat!(
    "SELECT n.nspname::text FROM pg_namespace n
     WHERE EXISTS (SELECT FROM aclexplode(n.nspacl) g
                   WHERE g.grantee = 0 AND g.privilege_type = 'CREATE') AND ",
    user_schema!(),
    " ORDER BY 1"
);

const SEQUENCES: &str = concat!(
    "SELECT n.nspname::text, c.relname::text,
       EXISTS (SELECT FROM pg_depend d WHERE d.classid = 'pg_class'::regclass AND d.objid = c.oid
               AND d.refclassid = 'pg_class'::regclass AND d.deptype IN ('a', 'i')),
       has_sequence_privilege(c.oid, 'USAGE, UPDATE'),
       ARRAY(SELECT DISTINCT f.adrelid::regclass::text FROM pg_depend d
             JOIN pg_attrdef f ON f.oid = d.objid
             WHERE d.classid = 'pg_attrdef'::regclass AND d.refclassid = 'pg_class'::regclass
               AND d.refobjid = c.oid ORDER BY 1)
     FROM pg_class c JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE c.relkind = 'S' AND c.relpersistence <> 't' AND ",
    user_schema!(),
    " ORDER BY 1, 2"
);

const EVENT_TRIGGERS: &str = "SELECT e.evtname::text, e.evtevent::text, e.evtfoid::regproc::text
     FROM pg_event_trigger e WHERE e.evtenabled <> 'D' ORDER BY 1";

/// A row filter is known since PostgreSQL 15.
const PUBLICATIONS: &str =
    "SELECT t.pubname::text, p.puballtables, t.schemaname::text, t.tablename::text,
       coalesce(to_jsonb(t) ->> 'rowfilter', '')
     FROM pg_publication_tables t JOIN pg_publication p ON p.pubname = t.pubname ORDER BY 1, 3, 4";

const EXTENSIONS: &str = "SELECT e.extname::text,
       EXISTS (SELECT FROM pg_depend d JOIN pg_proc p ON p.oid = d.objid
               WHERE d.classid = 'pg_proc'::regclass AND d.refclassid = 'pg_extension'::regclass
                 AND d.refobjid = e.oid AND d.deptype = 'e' AND has_function_privilege(p.oid, 'EXECUTE'))
     FROM pg_extension e ORDER BY 1";

const LANGUAGES: &str = "SELECT l.lanname::text FROM pg_language l
     WHERE NOT l.lanpltrusted AND l.lanname NOT IN ('internal', 'c') ORDER BY 1";

const OPEN_POLICIES: &str = "SELECT n.nspname::text, c.relname::text, y.polname::text
     FROM pg_policy y JOIN pg_class c ON c.oid = y.polrelid JOIN pg_namespace n ON n.oid = c.relnamespace
     WHERE y.polpermissive AND y.polcmd IN ('*', 'r', 'w', 'd')
       AND pg_get_expr(y.polqual, y.polrelid) = 'true'
       AND EXISTS (SELECT FROM unnest(y.polroles) AS r(role)
                   WHERE CASE r.role WHEN 0 THEN true ELSE pg_has_role(current_user, r.role, 'MEMBER') END)
     ORDER BY 1, 2, 3";

/// Reads what surrounds the tables of `database`, on a connection of its own.
///
/// # Errors
/// [`LoadError`]: no connection, or a failing query.
pub async fn survey(endpoint: &Endpoint, database: &str) -> Result<Survey, LoadError> {
    let mut session = connect(endpoint, database).await?;
    let transaction = session
        .client
        .build_transaction()
        .read_only(true)
        .isolation_level(IsolationLevel::RepeatableRead)
        .start()
        .await
        .map_err(query_fault)?;
    match timeout(LOAD_TIMEOUT, read(&transaction)).await {
        Ok(outcome) => outcome,
        Err(_elapsed) => Err(LoadError::Timeout(LOAD_TIMEOUT)),
    }
}

async fn read(transaction: &Transaction<'_>) -> Result<Survey, LoadError> {
    rows(transaction, PIN_SEARCH_PATH).await?;
    let mut survey = Survey {
        keys: keys(transaction, KEYS).await?,
        foreign_keys: keys(transaction, FOREIGN_KEYS).await?,
        exclusions: keys(transaction, EXCLUSIONS).await?,
        ..Survey::default()
    };
    for row in rows(transaction, ROLES).await? {
        survey.roles.push(Role {
            name: row.at(0)?,
            superuser: row.at(1)?,
            bypass_rls: row.at(2)?,
            login: row.at(3)?,
            create_role: row.at(4)?,
            replication: row.at(5)?,
            bootstrap: row.at(6)?,
            is_upstream: row.at(7)?,
            of_upstream: row.at(8)?,
        });
    }
    for row in rows(transaction, SIGNATURES).await? {
        survey.signatures.push((row.at(0)?, row.at(1)?, row.at(2)?));
    }
    for row in rows(transaction, TRIGGERS).await? {
        survey.triggers.push(Trigger {
            relation: RelationName::new(&row.at::<String>(0)?, &row.at::<String>(1)?),
            name: row.at(2)?,
            function: RelationName::new(&row.at::<String>(3)?, &row.at::<String>(4)?),
            security_definer: row.at(5)?,
            language: row.at(6)?,
            body: row.at(7)?,
        });
    }
    for row in rows(transaction, RULES).await? {
        survey.rules.push((named(&row)?, row.at(2)?, row.at(3)?));
    }
    for row in rows(transaction, PUBLIC_GRANTS).await? {
        survey.public_grants.push((named(&row)?, row.at(2)?, row.at(3)?));
    }
    for row in rows(transaction, DEFAULT_GRANTS).await? {
        survey.default_grants.push((row.at(0)?, row.at(1)?, row.at(2)?, row.at(3)?));
    }
    for row in rows(transaction, OPEN_SCHEMAS).await? {
        survey.open_schemas.push(row.at(0)?);
    }
    for row in rows(transaction, SEQUENCES).await? {
        survey.sequences.push(Sequence {
            name: named(&row)?,
            owned: row.at(2)?,
            usable: row.at(3)?,
            tables: row.at(4)?,
        });
    }
    for row in rows(transaction, EVENT_TRIGGERS).await? {
        survey.event_triggers.push((row.at(0)?, row.at(1)?, row.at(2)?));
    }
    for row in rows(transaction, PUBLICATIONS).await? {
        let relation = RelationName::new(&row.at::<String>(2)?, &row.at::<String>(3)?);
        survey.publications.push((row.at(0)?, row.at(1)?, relation, row.at(4)?));
    }
    for row in rows(transaction, EXTENSIONS).await? {
        survey.extensions.push((row.at(0)?, row.at(1)?));
    }
    for row in rows(transaction, LANGUAGES).await? {
        survey.languages.push(row.at(0)?);
    }
    for row in rows(transaction, OPEN_POLICIES).await? {
        survey.open_policies.push((named(&row)?, row.at(2)?));
    }
    Ok(survey)
}

/// The relation that a row begins with.
fn named(row: &tokio_postgres::Row) -> Result<RelationName, LoadError> {
    Ok(RelationName::new(&row.at::<String>(0)?, &row.at::<String>(1)?))
}

async fn keys(transaction: &Transaction<'_>, text: &str) -> Result<Vec<Key>, LoadError> {
    let mut keys = Vec::new();
    for row in rows(transaction, text).await? {
        keys.push(Key {
            schema: row.at(0)?,
            table: row.at(1)?,
            name: row.at(2)?,
            constraint: row.at(3)?,
            columns: row.at(4)?,
            definition: row.at(5)?,
        });
    }
    Ok(keys)
}
