"""psycopg 3 through Hedgerow, as an application uses it. Exit 0 when all of it holds.

The harness passes ports, database and tokens in the environment.
"""

import os

import psycopg
from psycopg import errors
from psycopg.rows import dict_row


def connect(tenant, **options):
    """A connection of tenant A or B."""
    return psycopg.connect(
        host="127.0.0.1",
        port=int(os.environ[f"HEDGEROW_PORT_{tenant}"]),
        user="application",
        password=os.environ[f"HEDGEROW_TOKEN_{tenant}"],
        dbname=os.environ["HEDGEROW_DATABASE"],
        connect_timeout=10,
        **options,
    )


def ids(connection, sql="SELECT id FROM users ORDER BY id", parameters=None, **options):
    return [row[0] for row in connection.execute(sql, parameters, **options).fetchall()]


def each_tenant_sees_its_own():
    with connect("A") as a, connect("B") as b:
        assert ids(a) == [1, 2, 3], ids(a)
        assert ids(b) == [101, 102, 103], ids(b)


def parameters_and_server_side_binding():
    with connect("A") as a:
        sql = "SELECT id FROM users WHERE id = ANY(%s) ORDER BY id"
        assert ids(a, sql, ([1, 2, 101],)) == [1, 2]
        for _ in range(10):  # past prepare_threshold: a named statement from the sixth on
            assert ids(a, "SELECT id FROM users WHERE name = %s", ("Art",)) == [2]
        assert ids(a, "SELECT id FROM users WHERE name = %s", ("Bob",), prepare=True) == []
        with a.cursor(row_factory=dict_row) as cursor:
            cursor.execute("SELECT id, email FROM users WHERE id = %(id)s", {"id": 1})
            assert cursor.fetchone() == {"id": 1, "email": "ann@a.example"}
        assert a.execute("SELECT total FROM orders WHERE id = 1", binary=True).fetchone()[0] == 11


def a_denial_is_insufficient_privilege():
    with connect("A", autocommit=True) as a:
        try:
            a.execute("SELECT * FROM vault")
        except errors.InsufficientPrivilege as denial:
            assert denial.diag.message_primary.startswith("hedgerow: "), denial
            assert "HR1004" in denial.diag.message_detail, denial.diag.message_detail
        else:
            raise AssertionError("not denied")
        assert ids(a) == [1, 2, 3]


def transactions_roll_back():
    with connect("A") as a:
        try:
            with a.transaction():
                a.execute("UPDATE documents SET title = 'never' WHERE id = 1")
                a.execute("SELECT * FROM vault")
        except errors.InsufficientPrivilege:
            pass
        titles = ids(a, "SELECT title FROM documents WHERE id = 1")
        assert titles == ["root"], titles
        with a.transaction():
            a.execute("UPDATE documents SET title = 'kept' WHERE id = 1")
            try:
                with a.transaction():  # a savepoint
                    a.execute("SELECT * FROM internal_keys")
            except errors.InsufficientPrivilege:
                pass
        assert ids(a, "SELECT title FROM documents WHERE id = 1") == ["kept"]


def pipelines_keep_their_order():
    with connect("A", autocommit=True) as a, a.pipeline():
        cursors = [a.execute("SELECT id FROM users WHERE id = %s", (n,)) for n in (1, 101, 3)]
        assert [cursor.fetchall() for cursor in cursors] == [[(1,)], [], [(3,)]]


def named_cursors_stream():
    with connect("A") as a, a.cursor(name="portion") as cursor:
        cursor.itersize = 2
        cursor.execute("SELECT id FROM users ORDER BY id")
        assert [row[0] for row in cursor] == [1, 2, 3]


def copy_out_works():
    with connect("A") as a, a.cursor() as cursor:
        with cursor.copy("COPY (SELECT id, name FROM users ORDER BY id) TO STDOUT") as copy:
            assert list(copy.rows()) == [("1", "Ann"), ("2", "Art"), ("3", "Ada")]


def executemany_writes():
    with connect("A") as a:
        tenant = "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa"
        rows = [(n, tenant, f"title {n}") for n in range(200, 220)]
        with a.cursor() as cursor:
            cursor.executemany("INSERT INTO documents (id, tenant_id, title) VALUES (%s, %s, %s)", rows)
        assert len(ids(a, "SELECT id FROM documents WHERE id >= 200")) == 20


def a_wrong_password_is_an_operational_error():
    try:
        psycopg.connect(
            host="127.0.0.1", port=int(os.environ["HEDGEROW_PORT_A"]), user="x", password="wrong",
            dbname=os.environ["HEDGEROW_DATABASE"], connect_timeout=10,
        )
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
    executemany_writes,
    a_wrong_password_is_an_operational_error,
]

if __name__ == "__main__":
    for check in CHECKS:
        print(check.__name__.replace("_", " "), flush=True)
        check()
