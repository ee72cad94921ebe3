"""psycopg 3 through Hedgerow, as an application uses it. Exit 0 when all of it holds.

The harness passes ports, database and tokens in the environment.
"""

from uuid import UUID

import psycopg
from psycopg import errors
from psycopg.rows import dict_row
from psycopg.types.json import Jsonb
from psycopg_pool import ConnectionPool
from tenants import A, B, DATABASE, expect, run


def settings(tenant):
    return {
        "host": "127.0.0.1", "port": tenant.port, "user": "application", "password": tenant.token,
        "dbname": DATABASE, "connect_timeout": 10,
    }


def connect(tenant, **options):
    return psycopg.connect(**settings(tenant), **options)


def ids(connection, sql="SELECT id FROM users ORDER BY id", parameters=None, **options):
    return [row[0] for row in connection.execute(sql, parameters, **options).fetchall()]


def each_tenant_sees_its_own(tenant):
    with connect(tenant) as connection:
        expect(ids(connection), tenant.users)


def parameters_and_server_side_binding(tenant):
    with connect(tenant) as connection:
        sql = "SELECT id FROM users WHERE id = ANY(%s) ORDER BY id"
        expect(ids(connection, sql, (list(range(110)),)), tenant.users)
        for _ in range(10):  # past prepare_threshold: a named statement from the sixth on
            expect(ids(connection, "SELECT id FROM users WHERE name = %s", (tenant.names[1],)), tenant.users[1:2])
        stranger = "Bob" if tenant.name == "A" else "Art"
        expect(ids(connection, "SELECT id FROM users WHERE name = %s", (stranger,), prepare=True), [])
        with connection.cursor(row_factory=dict_row) as cursor:
            cursor.execute("SELECT id, name FROM users WHERE id = %(id)s", {"id": tenant.users[0]})
            expect(cursor.fetchone(), {"id": tenant.users[0], "name": tenant.names[0]})
        total = connection.execute("SELECT sum(total) FROM orders WHERE id > %s", (0,), binary=True).fetchone()[0]
        assert total > 60, total
        found = connection.execute("SELECT id FROM documents WHERE meta @> %s", (Jsonb({}),)).fetchall()
        expect(len(found), 2)


def a_denial_is_insufficient_privilege(tenant):
    with connect(tenant, autocommit=True) as connection:
        try:
            connection.execute("SELECT * FROM vault")
        except errors.InsufficientPrivilege as denial:
            assert denial.diag.message_primary.startswith("hedgerow: "), denial
            assert "HR1004" in denial.diag.message_detail, denial.diag.message_detail
        else:
            raise AssertionError("not denied")
        expect(ids(connection), tenant.users)


def transactions_roll_back(tenant):
    document = tenant.documents[0]
    title = "SELECT title FROM documents WHERE id = %s"
    with connect(tenant) as connection:
        before = ids(connection, title, (document,))
        try:
            with connection.transaction():
                connection.execute("UPDATE documents SET title = 'never' WHERE id = %s", (document,))
                connection.execute("SELECT * FROM vault")
        except errors.InsufficientPrivilege:
            pass
        expect(ids(connection, title, (document,)), before)
        with connection.transaction():
            connection.execute("UPDATE documents SET title = 'kept' WHERE id = %s", (document,))
            try:
                with connection.transaction():  # a savepoint
                    connection.execute("SELECT * FROM internal_keys")
            except errors.InsufficientPrivilege:
                pass
        expect(ids(connection, title, (document,)), ["kept"])
    for level in psycopg.IsolationLevel:
        with connect(tenant) as connection:
            connection.isolation_level, connection.read_only = level, True
            expect(ids(connection), tenant.users)


def pipelines_keep_their_order(tenant):
    with connect(tenant, autocommit=True) as connection:
        with connection.pipeline():
            cursors = [connection.execute("SELECT id FROM users WHERE id = %s", (n,)) for n in (1, 101, 3, 103)]
            expect([[row[0] for row in cursor] for cursor in cursors],
                   [[n] if n in tenant.users else [] for n in (1, 101, 3, 103)])
        try:
            with connection.pipeline():  # the error is raised where psycopg reads it: here or below
                connection.execute("SELECT id FROM vault")
                connection.execute("SELECT 1")
        except errors.InsufficientPrivilege as denial:
            assert "HR1004" in denial.diag.message_detail, denial
        else:
            raise AssertionError("not denied")
        expect(ids(connection), tenant.users)


def named_cursors_stream(tenant):
    with connect(tenant) as connection, connection.cursor(name="portion", scrollable=True) as cursor:
        cursor.itersize = 2
        cursor.execute("SELECT id FROM users ORDER BY id")
        expect([row[0] for row in cursor], tenant.users)
    with connect(tenant) as connection, connection.cursor() as cursor:
        expect([row[0] for row in cursor.stream("SELECT id FROM users ORDER BY id")], tenant.users)


def copy_out_works(tenant):
    with connect(tenant) as connection, connection.cursor() as cursor:
        with cursor.copy("COPY (SELECT id, name FROM users ORDER BY id) TO STDOUT") as copy:
            expect(list(copy.rows()), [(str(n), name) for n, name in zip(tenant.users, tenant.names)])


def copy_in_works(tenant):
    stranger = A if tenant is B else B
    rows = [(tenant.base + n, tenant.id, f"tab\t{n} \\ \"q\"\nline") for n in range(50)]
    titles = "SELECT id, title FROM documents WHERE id >= 10000 ORDER BY id"
    with connect(tenant, autocommit=True) as connection, connection.cursor() as cursor:
        for form in ("", " (FORMAT binary)"):
            with cursor.copy(f"COPY documents (id, tenant_id, title) FROM STDIN{form}") as copy:
                copy.set_types(["int4", "uuid", "text"])
                for row in rows:
                    copy.write_row((row[0], UUID(row[1]), row[2]))
            expect(cursor.rowcount, 50)
            expect(cursor.execute(titles).fetchall(), [(row[0], row[2]) for row in rows])
            expect(cursor.execute("DELETE FROM documents WHERE id >= 10000").rowcount, 50)
        with cursor.copy("COPY documents (id, title) FROM STDIN (FORMAT csv, HEADER)") as copy:
            copy.write("id,title\n" + "".join(f'{row[0]},"{row[2].replace(chr(34), chr(34) * 2)}"\n' for row in rows))
        expect(cursor.execute("SELECT DISTINCT tenant_id::text FROM documents").fetchall(), [(tenant.id,)])
        expect(cursor.execute(titles).fetchall(), [(row[0], row[2]) for row in rows])
        expect(cursor.execute("DELETE FROM documents WHERE id >= 10000").rowcount, 50)
        try:
            with cursor.copy("COPY documents (id, tenant_id) FROM STDIN") as copy:
                copy.write_row((tenant.base, tenant.id))
                copy.write_row((tenant.base + 1, stranger.id))
        except errors.InsufficientPrivilege as denial:
            assert "HR1011" in denial.diag.message_detail, denial.diag.message_detail
        else:
            raise AssertionError("not denied")
        try:
            with cursor.copy("COPY documents (id) FROM STDIN") as copy:
                copy.write_row((tenant.base,))
                raise KeyError("the program's own")
        except KeyError:
            pass
        expect(cursor.execute(titles).fetchall(), [])


def notifications_are_the_tenants_own(tenant):
    stranger = A if tenant is B else B
    with connect(tenant, autocommit=True) as listener, connect(tenant, autocommit=True) as own:
        listener.execute("LISTEN news")
        with connect(stranger, autocommit=True) as foreign:
            foreign.execute("SELECT pg_notify(%s, %s)", ("news", "foreign"))
        own.execute("SELECT pg_notify(%s, %s)", ("news", "own"))
        heard = [(one.channel, one.payload) for one in listener.notifies(timeout=5, stop_after=1)]
        expect(heard, [("news", "own")])


def many_rows_are_written(tenant):
    with connect(tenant) as connection:
        rows = [(tenant.base + n, tenant.id, f"title {n}") for n in range(20)]
        with connection.cursor() as cursor:
            cursor.executemany(
                "INSERT INTO documents (id, tenant_id, title) VALUES (%s, %s, %s) RETURNING id", rows, returning=True)
            expect([set_of_rows.fetchone()[0] for set_of_rows in cursor.results()], [row[0] for row in rows])
        expect(connection.execute("DELETE FROM documents WHERE id >= 10000").rowcount, 20)


def a_pool_keeps_the_tenant(tenant):
    reset = lambda connection: connection.execute("DISCARD ALL")  # noqa: E731
    with ConnectionPool(
        kwargs={**settings(tenant), "autocommit": True}, min_size=1, max_size=2, reset=reset,
        check=ConnectionPool.check_connection,
    ) as pool:
        for _ in range(5):
            with pool.connection() as connection:
                expect(ids(connection), tenant.users)


def a_wrong_password_is_an_operational_error(tenant):
    try:
        psycopg.connect(**{**settings(tenant), "password": "wrong"})
    except psycopg.OperationalError as error:
        assert "hedgerow" in str(error), error
    else:
        raise AssertionError("signed in with a wrong password")


CHECKS = [
    each_tenant_sees_its_own,
    parameters_and_server_side_binding,
    a_denial_is_insufficient_privilege,
    transactions_roll_back,
    pipelines_keep_their_order,
    named_cursors_stream,
    copy_out_works,
    copy_in_works,
    notifications_are_the_tenants_own,
    many_rows_are_written,
    a_pool_keeps_the_tenant,
    a_wrong_password_is_an_operational_error,
]

if __name__ == "__main__":
    run(CHECKS)
