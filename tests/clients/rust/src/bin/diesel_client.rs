//! Diesel through Hedgerow, over libpq: its query builder, upserts, nested transactions, COPY, its pool.
//! Exit 0 when all of it holds, as both tenants.

use std::io::Read;

use diesel::connection::SimpleConnection;
use diesel::dsl::{count_star, exists, max, sql};
use diesel::pg::{CopyFormat, PgConnection};
use diesel::prelude::*;
use diesel::r2d2::{ConnectionManager, CustomizeConnection, Pool};
use diesel::result::{DatabaseErrorKind, Error};
use diesel::sql_types::{Integer, Text};
use hedgerow_clients::{TENANTS, Tenant};
use uuid::Uuid;

diesel::table! {
    users (id) { id -> Integer, tenant_id -> Uuid, email -> Text, name -> Text, credit -> Integer, tags -> Array<Text>, }
}
diesel::table! {
    orders (id) { id -> Integer, tenant_id -> Uuid, user_id -> Integer, note -> Nullable<Text>, }
}
diesel::table! {
    documents (id) { id -> Integer, tenant_id -> Uuid, title -> Nullable<Text>, meta -> Nullable<Jsonb>, }
}
diesel::table! {
    vault (id) { id -> Integer, secret -> Text, }
}
diesel::joinable!(orders -> users (user_id));
diesel::allow_tables_to_appear_in_same_query!(users, orders, documents);
diesel::define_sql_function! { fn lower(text: Text) -> Text; }

#[derive(Queryable, Selectable, Identifiable, Debug)]
struct User {
    id: i32,
    tenant_id: Uuid,
    name: String,
    tags: Vec<String>,
}

#[derive(Queryable, Selectable, Identifiable, Associations, Debug)]
#[diesel(belongs_to(User))]
struct Order {
    id: i32,
    user_id: i32,
    note: Option<String>,
}

#[derive(Insertable, AsChangeset, Clone, Debug)]
#[diesel(treat_none_as_default_value = false)]
struct Document {
    id: i32,
    tenant_id: Uuid,
    title: Option<String>,
    meta: Option<serde_json::Value>,
}

#[derive(QueryableByName)]
struct Named {
    #[diesel(sql_type = Integer)]
    id: i32,
    #[diesel(sql_type = Text)]
    name: String,
}

fn assert_denied<T>(outcome: QueryResult<T>, wanted: &str) {
    match outcome.err().expect("not denied") {
        Error::DatabaseError(_, said) => {
            assert!(said.message().starts_with("hedgerow: "), "{}", said.message());
            assert!(said.details().unwrap_or_default().starts_with(wanted), "{:?}", said.details());
        }
        other => panic!("{other}"),
    }
}

fn typed_queries(connection: &mut PgConnection, tenant: &Tenant) -> QueryResult<()> {
    let found: Vec<User> =
        users::table.order(users::id).select(User::as_select()).load(connection)?;
    assert_eq!(found.iter().map(|user| user.id).collect::<Vec<_>>(), tenant.users);
    assert!(found.iter().all(|user| user.tenant_id == tenant.id), "{found:?}");
    assert_eq!(
        found.iter().map(|user| user.tags.len()).sum::<usize>(),
        if tenant.name == "A" { 3 } else { 2 }
    );
    let some: Vec<String> = users::table
        .filter(
            users::id
                .eq_any([1, 2, 3, 101, 102, 103])
                .and(users::name.ilike("%a%").or(users::credit.gt(0))),
        )
        .order(users::id)
        .select(users::name)
        .load(connection)?;
    assert_eq!(some, tenant.names);
    assert_eq!(
        users::table.find(tenant.foreign).select(users::id).first::<i32>(connection).optional()?,
        None
    );
    let own = Order::belonging_to(&found)
        .select(Order::as_select())
        .order(orders::id)
        .load(connection)?;
    assert_eq!(own.iter().map(|order| order.id).collect::<Vec<_>>(), tenant.orders);
    assert!(
        own.grouped_by(&found).iter().any(|each| each.iter().any(|order| order.note.is_some()))
    );
    let joined: Vec<(String, Option<i32>)> = users::table
        .left_join(orders::table)
        .order((users::id, orders::id))
        .select((users::name, orders::id.nullable()))
        .load(connection)?;
    assert!(joined.len() >= 3, "{joined:?}");
    let grouped: Vec<(i32, i64)> = orders::table
        .group_by(orders::user_id)
        .select((orders::user_id, count_star()))
        .load(connection)?;
    assert_eq!(grouped.len(), 2);
    let with_orders =
        users::table.filter(exists(orders::table.filter(orders::user_id.eq(users::id)))).count();
    assert_eq!(with_orders.get_result::<i64>(connection)?, 2);
    assert!(users::table.select(max(users::credit)).first::<Option<i32>>(connection)?.is_some());
    assert_eq!(
        users::table.filter(lower(users::name).eq("ann")).count().get_result::<i64>(connection)?,
        1
    );
    let text = "SELECT id, name FROM users WHERE id > $1 ORDER BY id LIMIT 2 OFFSET 1";
    let raw: Vec<Named> = diesel::sql_query(text).bind::<Integer, _>(0).load(connection)?;
    assert_eq!(
        raw.iter().map(|row| (row.id, row.name.as_str())).collect::<Vec<_>>(),
        [(tenant.users[1], tenant.names[1]), (tenant.users[2], tenant.names[2])]
    );
    // Portions of one row.
    let rows = users::table
        .order(users::id)
        .select(users::id)
        .load_iter::<i32, diesel::pg::PgRowByRowLoadingMode>(connection)?;
    assert_eq!(rows.collect::<QueryResult<Vec<i32>>>()?, tenant.users);
    Ok(())
}

fn writes(connection: &mut PgConnection, tenant: &Tenant) -> QueryResult<()> {
    let rows: Vec<Document> = (0..20)
        .map(|n| Document {
            id: tenant.base + n,
            tenant_id: tenant.id,
            title: Some(format!("diesel {n}")),
            meta: Some(n.into()),
        })
        .collect();
    let made: Vec<i32> = diesel::insert_into(documents::table)
        .values(&rows)
        .returning(documents::id)
        .get_results(connection)?;
    assert_eq!(made.len(), 20);
    let again = diesel::insert_into(documents::table)
        .values(&rows)
        .on_conflict(documents::id)
        .do_update()
        .set(documents::title.eq(diesel::upsert::excluded(documents::title)))
        .execute(connection)?;
    assert_eq!(again, 20);
    assert_eq!(
        diesel::insert_into(documents::table)
            .values(&rows[0])
            .on_conflict_do_nothing()
            .execute(connection)?,
        0
    );
    let duplicate = diesel::insert_into(documents::table).values(&rows[0]).execute(connection);
    assert!(
        matches!(duplicate, Err(Error::DatabaseError(DatabaseErrorKind::UniqueViolation, _))),
        "{duplicate:?}"
    );
    let changed = diesel::update(documents::table.filter(documents::id.ge(10_000)))
        .set(documents::title.eq("changed"))
        .execute(connection)?;
    assert_eq!(changed, 20);
    let foreign =
        Document { id: tenant.base + 50, tenant_id: tenant.stranger(), title: None, meta: None };
    assert_denied(
        diesel::insert_into(documents::table).values(&foreign).execute(connection),
        "HR1011",
    );
    assert_eq!(
        diesel::delete(documents::table.filter(documents::title.eq("changed")))
            .execute(connection)?,
        20
    );
    Ok(())
}

fn transactions_and_savepoints(connection: &mut PgConnection, tenant: &Tenant) -> QueryResult<()> {
    let title = |connection: &mut PgConnection| {
        documents::table
            .find(tenant.documents[0])
            .select(documents::title)
            .first::<Option<String>>(connection)
    };
    let set = |connection: &mut PgConnection, text: &str| {
        diesel::update(documents::table.find(tenant.documents[0]))
            .set(documents::title.eq(text))
            .execute(connection)
    };
    let before = title(connection)?;
    let outcome: QueryResult<()> =
        connection.build_transaction().serializable().read_write().run(|connection| {
            set(connection, "outer")?;
            let denied: QueryResult<Vec<i32>> = connection
                .transaction(|connection| vault::table.select(vault::id).load(connection));
            assert_denied(denied, "HR1004");
            connection.transaction(|connection| set(connection, "inner"))?;
            let locked: Option<String> = documents::table
                .find(tenant.documents[0])
                .select(documents::title)
                .for_update()
                .first(connection)?;
            assert_eq!(locked.as_deref(), Some("inner"));
            Err(Error::RollbackTransaction)
        });
    assert_eq!(outcome, Err(Error::RollbackTransaction));
    assert_eq!(title(connection)?, before);
    let counted: i64 = connection
        .build_transaction()
        .read_only()
        .repeatable_read()
        .deferrable()
        .run(|connection| users::table.count().get_result(connection))?;
    assert_eq!(counted, 3);
    connection.test_transaction::<_, Error, _>(|connection| set(connection, "never"));
    assert_eq!(title(connection)?, before);
    Ok(())
}

fn rows_are_copied(connection: &mut PgConnection, tenant: &Tenant) -> QueryResult<()> {
    let rows: Vec<Document> = (0..50)
        .map(|n| Document {
            id: tenant.base + n,
            tenant_id: tenant.id,
            title: Some(format!("copied {n}")),
            meta: None,
        })
        .collect();
    assert_eq!(diesel::copy_from(documents::table).from_insertable(&rows).execute(connection)?, 50);
    let raw = diesel::copy_from(documents::table)
        .from_raw_data((documents::id, documents::tenant_id), |to| {
            writeln!(to, "{},{}", tenant.base + 60, tenant.id)
                .map_err(|error| Error::SerializationError(Box::new(error)))
        })
        .with_format(CopyFormat::Csv)
        .execute(connection)?;
    assert_eq!(raw, 1);
    let mut foreign = rows.clone();
    foreign.iter_mut().for_each(|row| row.id += 100);
    foreign[49].tenant_id = tenant.stranger();
    assert_denied(
        diesel::copy_from(documents::table).from_insertable(&foreign).execute(connection),
        "HR1011",
    );
    let mut text = String::new();
    let mut out =
        diesel::copy_to(orders::table).with_format(CopyFormat::Csv).load_raw(connection)?;
    out.read_to_string(&mut text).expect("the rows");
    drop(out);
    assert_eq!(text.lines().count(), tenant.orders.len(), "{text}");
    assert_eq!(
        diesel::delete(documents::table.filter(documents::id.ge(10_000))).execute(connection)?,
        51
    );
    Ok(())
}

fn denials(connection: &mut PgConnection, tenant: &Tenant) -> QueryResult<()> {
    assert_denied(vault::table.select(vault::secret).load::<String>(connection), "HR1004");
    assert_denied(
        users::table.select(sql::<Text>("password_hash")).load::<String>(connection),
        "HR1010",
    );
    // What `diesel migration run` begins with.
    let migrations = "CREATE TABLE IF NOT EXISTS __diesel_schema_migrations (version VARCHAR(50) PRIMARY KEY NOT NULL)";
    assert_denied(connection.batch_execute(migrations), "HR1002");
    connection.batch_execute("SET statement_timeout = '50ms'")?;
    let stopped = diesel::sql_query("SELECT count(*) FROM generate_series(1, 1000000000)")
        .execute(connection);
    assert!(stopped.is_err_and(|error| error.to_string().contains("statement timeout")));
    connection.batch_execute("RESET statement_timeout")?;
    assert_eq!(
        users::table.order(users::id).select(users::id).load::<i32>(connection)?,
        tenant.users
    );
    Ok(())
}

#[derive(Debug)]
struct Reset;

impl CustomizeConnection<PgConnection, diesel::r2d2::Error> for Reset {
    fn on_acquire(&self, connection: &mut PgConnection) -> Result<(), diesel::r2d2::Error> {
        connection
            .batch_execute("DISCARD ALL")
            .and_then(|()| connection.batch_execute("SET TIME ZONE 'UTC'"))
            .map_err(diesel::r2d2::Error::QueryError)
    }
}

fn a_pool_serves_one_tenant(tenant: &Tenant) -> QueryResult<()> {
    let manager = ConnectionManager::<PgConnection>::new(tenant.url());
    let pool = Pool::builder()
        .max_size(2)
        .test_on_check_out(true)
        .connection_customizer(Box::new(Reset))
        .build(manager)
        .expect("a pool");
    let threads: Vec<_> = (0..6)
        .map(|_| {
            let pool = pool.clone();
            std::thread::spawn(move || {
                let mut connection = pool.get().expect("a connection");
                users::table.order(users::id).select(users::id).load::<i32>(&mut connection)
            })
        })
        .collect();
    for thread in threads {
        assert_eq!(thread.join().expect("a thread")?, tenant.users);
    }
    Ok(())
}

fn main() -> QueryResult<()> {
    for tenant in &TENANTS {
        let mut connection = PgConnection::establish(&tenant.url()).expect("a session");
        for check in [typed_queries, writes, transactions_and_savepoints, rows_are_copied, denials]
        {
            check(&mut connection, tenant)?;
        }
        a_pool_serves_one_tenant(tenant)?;
        println!("Diesel, tenant {}: done", tenant.name);
    }
    Ok(())
}
