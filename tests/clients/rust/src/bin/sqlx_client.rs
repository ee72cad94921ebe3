//! sqlx through Hedgerow: cached prepared statements, transactions, COPY, its pool.
//! Exit 0 when all of it holds, as both tenants.

use std::time::Duration;

use futures_util::{StreamExt, TryStreamExt};
use hedgerow_clients::{TENANTS, Tenant};
use sqlx::postgres::{PgConnectOptions, PgConnection, PgListener, PgPoolOptions};
use sqlx::types::Json;
use sqlx::{Connection, Executor, QueryBuilder, Row, Statement};
use uuid::Uuid;

type Outcome = Result<(), sqlx::Error>;

const IDS: &str = "SELECT id FROM users ORDER BY id";

fn assert_denied<T>(outcome: Result<T, sqlx::Error>, wanted: &str) {
    let error = outcome.err().expect("not denied");
    let database = error.as_database_error().unwrap_or_else(|| panic!("{error}"));
    assert_eq!(database.code().as_deref(), Some("42501"), "{error}");
    assert!(database.message().starts_with("hedgerow: "), "{error}");
    let postgres = database.downcast_ref::<sqlx::postgres::PgDatabaseError>();
    assert!(postgres.detail().unwrap_or_default().starts_with(wanted), "{postgres:?}");
}

async fn typed_queries(connection: &mut PgConnection, tenant: &Tenant) -> Outcome {
    let ids: Vec<i32> = sqlx::query_scalar(IDS).fetch_all(&mut *connection).await?;
    assert_eq!(ids, tenant.users);
    let all: Vec<i32> = (0..110).collect();
    let found: Vec<(i32, String, Vec<String>)> =
        sqlx::query_as("SELECT id, name, tags FROM users WHERE id = ANY($1) ORDER BY id")
            .bind(&all)
            .fetch_all(&mut *connection)
            .await?;
    assert_eq!(found.iter().map(|(_, name, _)| name.as_str()).collect::<Vec<_>>(), tenant.names);
    let row = sqlx::query("SELECT tenant_id, total::float8, note FROM orders WHERE id = $1")
        .bind(tenant.orders[0])
        .fetch_one(&mut *connection)
        .await?;
    assert_eq!(row.get::<Uuid, _>(0), tenant.id);
    assert!(row.get::<f64, _>(1) > 1.0);
    let meta: Json<serde_json::Value> =
        sqlx::query_scalar("SELECT meta FROM documents WHERE id = $1")
            .bind(tenant.documents[0])
            .fetch_one(&mut *connection)
            .await?;
    assert!(meta["k"].is_string(), "{meta:?}");
    let none = sqlx::query(IDS.replace("ORDER", "WHERE id = $1 ORDER").as_str())
        .bind(tenant.foreign)
        .fetch_optional(&mut *connection)
        .await?;
    assert!(none.is_none());
    let mut rows = sqlx::query_scalar::<_, i32>("SELECT id FROM users WHERE id > $1 ORDER BY id")
        .bind(0)
        .fetch(connection);
    let mut streamed = Vec::new();
    while let Some(id) = rows.try_next().await? {
        streamed.push(id);
    }
    assert_eq!(streamed, tenant.users);
    Ok(())
}

async fn prepared_statements(connection: &mut PgConnection, tenant: &Tenant) -> Outcome {
    for round in 0..6 {
        let name = ["Ann", "Bob"][round % 2];
        let ids: Vec<i32> = sqlx::query_scalar("SELECT id FROM users WHERE name = $1 ORDER BY id")
            .bind(name)
            .fetch_all(&mut *connection)
            .await?;
        let own = tenant.users.iter().zip(tenant.names);
        assert_eq!(ids, own.filter(|(_, own)| *own == name).map(|(id, _)| *id).collect::<Vec<_>>());
    }
    let prepared = (&mut *connection)
        .prepare("SELECT u.id, u.name, o.total FROM users u JOIN orders o ON o.user_id = u.id")
        .await?;
    assert_eq!(prepared.columns().len(), 3);
    // A script of several statements goes by the simple protocol.
    let mut script =
        sqlx::raw_sql("SELECT 1; SELECT id FROM users; SELECT 2").fetch_many(&mut *connection);
    let mut rows = 0;
    while let Some(each) = script.next().await {
        rows += usize::from(each?.is_right());
    }
    drop(script);
    assert_eq!(rows, 5);
    connection.clear_cached_statements().await?;
    connection.ping().await
}

async fn denials(connection: &mut PgConnection, _: &Tenant) -> Outcome {
    assert_denied(sqlx::query("SELECT * FROM vault").fetch_all(&mut *connection).await, "HR1004");
    assert_denied(
        sqlx::query("SELECT secret FROM internal_keys WHERE id = $1")
            .bind(1)
            .fetch_all(&mut *connection)
            .await,
        "HR1003",
    );
    assert_denied(connection.execute("SELECT password_hash FROM users").await, "HR1010");
    assert_denied(
        connection.execute("CREATE TABLE _sqlx_migrations (version bigint PRIMARY KEY)").await,
        "HR1002",
    );
    assert_denied(connection.execute("SELECT 1; SELECT * FROM vault").await, "HR1004");
    let missing = sqlx::query("SELECT 1 / $1").bind(0).fetch_all(&mut *connection).await;
    let missing = missing.expect_err("an error");
    assert_eq!(
        missing.as_database_error().and_then(|error| error.code()).as_deref(),
        Some("22012")
    );
    Ok(())
}

async fn writes(connection: &mut PgConnection, tenant: &Tenant) -> Outcome {
    let mut many = QueryBuilder::new("INSERT INTO documents (id, tenant_id, title, meta) ");
    many.push_values(0..20, |mut row, n| {
        row.push_bind(tenant.base + n).push_bind(tenant.id).push_bind("many").push_bind(Json(n));
    });
    many.push(" RETURNING id");
    let made: Vec<i32> = many.build_query_scalar().fetch_all(&mut *connection).await?;
    assert_eq!(made.len(), 20);
    let unnested = sqlx::query(
        "INSERT INTO documents (id, tenant_id, title) SELECT * FROM UNNEST($1::int[], $2::uuid[], $3::text[]) \
         ON CONFLICT (id) DO UPDATE SET title = excluded.title",
    )
    .bind(&made)
    .bind(vec![tenant.id; made.len()])
    .bind(vec!["unnested"; made.len()])
    .execute(&mut *connection)
    .await?;
    assert_eq!(unnested.rows_affected(), 20);
    let foreign = sqlx::query("INSERT INTO documents (id, tenant_id) VALUES ($1, $2)")
        .bind(tenant.base + 50)
        .bind(tenant.stranger())
        .execute(&mut *connection)
        .await;
    assert_denied(foreign, "HR1011");
    let gone = sqlx::query("DELETE FROM documents WHERE title = $1")
        .bind("unnested")
        .execute(connection)
        .await?;
    assert_eq!(gone.rows_affected(), 20);
    Ok(())
}

async fn transactions_and_savepoints(connection: &mut PgConnection, tenant: &Tenant) -> Outcome {
    let title = "SELECT title FROM documents WHERE id = $1";
    let document = tenant.documents[0];
    let before: Option<String> =
        sqlx::query_scalar(title).bind(document).fetch_one(&mut *connection).await?;
    let mut outer = connection.begin().await?;
    sqlx::query("SET TRANSACTION ISOLATION LEVEL SERIALIZABLE").execute(&mut *outer).await?;
    sqlx::query("UPDATE documents SET title = 'outer' WHERE id = $1")
        .bind(document)
        .execute(&mut *outer)
        .await?;
    let mut inner = outer.begin().await?;
    assert_denied(sqlx::query("SELECT * FROM vault").fetch_all(&mut *inner).await, "HR1004");
    let aborted =
        sqlx::query("SELECT 1").execute(&mut *inner).await.expect_err("an aborted transaction");
    assert_eq!(
        aborted.as_database_error().and_then(|error| error.code()).as_deref(),
        Some("25P02")
    );
    inner.rollback().await?;
    let mut inner = outer.begin().await?;
    sqlx::query("UPDATE documents SET title = 'inner' WHERE id = $1")
        .bind(document)
        .execute(&mut *inner)
        .await?;
    inner.commit().await?;
    let now: Option<String> =
        sqlx::query_scalar(title).bind(document).fetch_one(&mut *outer).await?;
    assert_eq!(now.as_deref(), Some("inner"));
    // Dropped without a word: sqlx rolls back before it uses the connection again.
    drop(outer);
    let after: Option<String> =
        sqlx::query_scalar(title).bind(document).fetch_one(connection).await?;
    assert_eq!(after, before);
    Ok(())
}

async fn rows_are_copied(connection: &mut PgConnection, tenant: &Tenant) -> Outcome {
    let mut copy = connection
        .copy_in_raw("COPY documents (id, tenant_id, title) FROM STDIN (FORMAT csv)")
        .await?;
    for n in 0..100 {
        copy.send(format!("{},{},copied {n}\n", tenant.base + n, tenant.id).into_bytes()).await?;
    }
    assert_eq!(copy.finish().await?, 100);
    let text = connection
        .copy_out_raw("COPY (SELECT id FROM documents WHERE id >= 10000 ORDER BY id) TO STDOUT")
        .await?;
    let chunks: Vec<_> = text.try_collect().await?;
    assert_eq!(chunks.concat().split(|byte| *byte == b'\n').count(), 101);
    let mut copy = connection.copy_in_raw("COPY documents (id, tenant_id) FROM STDIN").await?;
    copy.send(format!("{}\t{}\n", tenant.base + 200, tenant.stranger()).into_bytes()).await?;
    assert_denied(copy.finish().await, "HR1011");
    let mut copy = connection.copy_in_raw("COPY documents (id, tenant_id) FROM STDIN").await?;
    copy.send(format!("{}\t{}\n", tenant.base + 300, tenant.id).into_bytes()).await?;
    copy.abort("thought better of it").await?;
    let gone = sqlx::query("DELETE FROM documents WHERE id >= 10000").execute(connection).await?;
    assert_eq!(gone.rows_affected(), 100);
    Ok(())
}

async fn a_statement_is_interrupted(connection: &mut PgConnection, tenant: &Tenant) -> Outcome {
    connection.execute("SET statement_timeout = '50ms'").await?;
    let stopped = connection
        .execute("SELECT count(*) FROM generate_series(1, 1000000000)")
        .await
        .expect_err("a time-out");
    assert_eq!(
        stopped.as_database_error().and_then(|error| error.code()).as_deref(),
        Some("57014")
    );
    connection.execute("RESET statement_timeout").await?;
    let ids: Vec<i32> = sqlx::query_scalar(IDS).fetch_all(connection).await?;
    assert_eq!(ids, tenant.users);
    Ok(())
}

async fn a_pool_serves_one_tenant(tenant: &Tenant) -> Outcome {
    let options: PgConnectOptions = tenant.url().parse()?;
    let options = options.application_name("sqlx").options([("statement_timeout", "30s")]);
    let pool = PgPoolOptions::new()
        .max_connections(2)
        .test_before_acquire(true)
        .after_release(|connection, _| {
            Box::pin(async move {
                connection.execute("DISCARD ALL").await?;
                connection.clear_cached_statements().await?;
                Ok(true)
            })
        })
        .connect_with(options)
        .await?;
    for _ in 0..5 {
        let mut connection = pool.acquire().await?;
        connection.execute("SET TIME ZONE 'Asia/Tokyo'").await?;
        let zone: String = sqlx::query_scalar("SHOW timezone").fetch_one(&mut *connection).await?;
        assert_eq!(zone, "Asia/Tokyo");
    }
    let found = futures_util::future::try_join_all(
        (0..8).map(|_| sqlx::query_scalar::<_, i32>(IDS).fetch_all(&pool)),
    )
    .await?;
    assert!(found.iter().all(|ids| ids == &tenant.users), "{found:?}");
    // Its future is dropped in the middle: the pool must not hand out half an answer.
    let slow = sqlx::query("SELECT count(*) FROM generate_series(1, 30000000)").execute(&pool);
    assert!(tokio::time::timeout(Duration::from_millis(30), slow).await.is_err());
    let ids: Vec<i32> = sqlx::query_scalar(IDS).fetch_all(&pool).await?;
    assert_eq!(ids, tenant.users);
    pool.close().await;
    Ok(())
}

async fn notifications_arrive(tenant: &Tenant) -> Outcome {
    let mut listener = PgListener::connect(&tenant.url()).await?;
    listener.listen("news").await?;
    let mut other = PgConnection::connect(&tenant.url()).await?;
    sqlx::query("SELECT pg_notify($1, $2)")
        .bind("news")
        .bind(tenant.name)
        .execute(&mut other)
        .await?;
    let heard =
        tokio::time::timeout(Duration::from_secs(5), listener.recv()).await.expect("in time")?;
    assert_eq!((heard.channel(), heard.payload()), ("news", tenant.name));
    other.close().await
}

#[tokio::main(flavor = "current_thread")]
async fn main() -> Outcome {
    for tenant in &TENANTS {
        let mut connection = PgConnection::connect(&tenant.url()).await?;
        typed_queries(&mut connection, tenant).await?;
        prepared_statements(&mut connection, tenant).await?;
        denials(&mut connection, tenant).await?;
        writes(&mut connection, tenant).await?;
        transactions_and_savepoints(&mut connection, tenant).await?;
        rows_are_copied(&mut connection, tenant).await?;
        a_statement_is_interrupted(&mut connection, tenant).await?;
        connection.close().await?;
        a_pool_serves_one_tenant(tenant).await?;
        notifications_arrive(tenant).await?;
        println!("sqlx, tenant {}: done", tenant.name);
    }
    Ok(())
}
