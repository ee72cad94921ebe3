"""psycopg2 through Hedgerow: the simple protocol, values pasted by the client. Exit 0 when all holds."""

import psycopg2
from psycopg2 import errors, extras, sql
from psycopg2.extensions import ISOLATION_LEVEL_READ_COMMITTED, ISOLATION_LEVEL_SERIALIZABLE
from psycopg2.pool import ThreadedConnectionPool
from tenants import DATABASE, expect, run


def settings(tenant):
    return {
        "host": "127.0.0.1", "port": tenant.port, "user": "application", "password": tenant.token,
        "dbname": DATABASE, "connect_timeout": 10,
    }


def connect(tenant):
    return psycopg2.connect(**settings(tenant))


def column(cursor, text, parameters=None):
    cursor.execute(text, parameters)
    return [row[0] for row in cursor.fetchall()]


def each_tenant_sees_its_own_rows(tenant):
    with connect(tenant) as connection, connection.cursor() as cursor:
        expect(column(cursor, "SELECT id FROM users ORDER BY id"), tenant.users)
        everyone = tuple(range(1, 110))
        expect(column(cursor, "SELECT id FROM users WHERE id IN %s ORDER BY id", (everyone,)), tenant.users)
        expect(column(cursor, "SELECT name FROM users WHERE name LIKE %s ORDER BY id", ("B%",)),
               [name for name in tenant.names if name.startswith("B")])
        expect(column(cursor, "SELECT id FROM users WHERE name = %(name)s", {"name": "it's \\ '' ; --"}), [])


def quoting_by_the_client_holds(tenant):
    with connect(tenant) as connection, connection.cursor() as cursor:
        for value in ("'", "\\", "\\'; SELECT 1 --", "$$x$$", "\u2028", "{a,\"b\"}"):
            expect(column(cursor, "SELECT %s", (value,)), [value])
        text = sql.SQL("SELECT {} FROM {} ORDER BY 1").format(sql.Identifier("id"), sql.Identifier("public", "users"))
        expect(column(cursor, text), tenant.users)


def rows_are_inserted_in_bulk(tenant):
    rows = [(tenant.base + n, tenant.id, f"bulk {n}") for n in range(50)]
    with connect(tenant) as connection, connection.cursor() as cursor:
        returned = extras.execute_values(
            cursor, "INSERT INTO documents (id, tenant_id, title) VALUES %s RETURNING id", rows, fetch=True)
        expect(len(returned), 50)
        extras.execute_batch(cursor, "UPDATE documents SET title = %s WHERE id = %s",
                             [("batch", tenant.base + n) for n in range(10)])
        expect(column(cursor, "SELECT count(*) FROM documents WHERE title = 'batch'"), [10])
        cursor.execute("DELETE FROM documents WHERE id >= %s", (10_000,))
        expect(cursor.rowcount, 50)


def rows_and_dictionaries(tenant):
    with connect(tenant) as connection:
        with connection.cursor(cursor_factory=extras.RealDictCursor) as cursor:
            cursor.execute("SELECT u.id, o.total FROM users u JOIN orders o ON o.user_id = u.id ORDER BY o.id")
            expect(len(cursor.fetchall()), len(tenant.orders))
        with connection.cursor() as cursor:
            extras.register_uuid(conn_or_curs=cursor)
            expect(str(column(cursor, "SELECT DISTINCT tenant_id FROM users")[0]), tenant.id)
            expect(column(cursor, "SELECT tags FROM users ORDER BY id")[2], [])


def isolation_levels_and_savepoints(tenant):
    connection = connect(tenant)
    connection.set_session(isolation_level=ISOLATION_LEVEL_SERIALIZABLE, readonly=True, deferrable=True)
    with connection.cursor() as cursor:
        expect(column(cursor, "SHOW transaction_isolation"), ["serializable"])
        expect(column(cursor, "SELECT id FROM users ORDER BY id"), tenant.users)
    connection.rollback()
    connection.set_session(isolation_level=ISOLATION_LEVEL_READ_COMMITTED, readonly=False, deferrable=False)
    with connection.cursor() as cursor:
        cursor.execute("SAVEPOINT before")
        try:
            cursor.execute("SELECT * FROM vault")
        except errors.InsufficientPrivilege as denial:
            assert denial.diag.message_primary.startswith("hedgerow: "), denial
        cursor.execute("ROLLBACK TO SAVEPOINT before")
        expect(column(cursor, "SELECT id FROM users ORDER BY id"), tenant.users)
    connection.reset()
    connection.close()


def named_cursors_stream(tenant):
    with connect(tenant) as connection, connection.cursor(name="portion") as cursor:
        cursor.itersize = 2
        cursor.execute("SELECT id FROM users ORDER BY id")
        expect([row[0] for row in cursor], tenant.users)


def a_pool_keeps_the_tenant(tenant):
    pool = ThreadedConnectionPool(1, 2, **settings(tenant))
    for _ in range(4):
        connection = pool.getconn()
        with connection.cursor() as cursor:
            expect(column(cursor, "SELECT id FROM users ORDER BY id"), tenant.users)
        pool.putconn(connection)
    pool.closeall()


CHECKS = [
    each_tenant_sees_its_own_rows,
    quoting_by_the_client_holds,
    rows_are_inserted_in_bulk,
    rows_and_dictionaries,
    isolation_levels_and_savepoints,
    named_cursors_stream,
    a_pool_keeps_the_tenant,
]

if __name__ == "__main__":
    run(CHECKS)
