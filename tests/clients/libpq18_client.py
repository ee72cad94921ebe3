"""What libpq 18 brings: protocol 3.2 with its long cancel keys, and TLS from the first byte. Exit 0 when
all of it holds; with an older libpq it says that it is skipped.

The harness passes ports, database and tokens in the environment, and whether the listener has TLS.
"""

import os
import sys
import threading
import time

import psycopg
from psycopg import errors
from tenants import DATABASE, expect, run

TLS = os.environ.get("HEDGEROW_TLS") == "1"


def connect(tenant, **options):
    return psycopg.connect(
        host="127.0.0.1", port=tenant.port, user="application", password=tenant.token, dbname=DATABASE,
        connect_timeout=10, autocommit=True, **options,
    )


def works(connection, tenant):
    rows = connection.execute("SELECT id FROM users ORDER BY id").fetchall()
    expect([row[0] for row in rows], tenant.users)
    with connection.pipeline():
        cursors = [connection.execute("SELECT %s::int + count(*) FROM users", (n,)) for n in range(5)]
        expect([cursor.fetchone()[0] for cursor in cursors], [n + 3 for n in range(5)])
    try:
        connection.execute("SELECT * FROM vault")
    except errors.InsufficientPrivilege:
        pass
    else:
        raise AssertionError("not denied")


def cancels(connection, tenant):
    def cancel():
        time.sleep(0.4)
        connection.cancel_safe(timeout=10)

    other = threading.Thread(target=cancel)
    other.start()
    try:
        connection.execute("SELECT count(*) FROM generate_series(1, 3000000000)")
    except errors.QueryCanceled:
        pass
    else:
        raise AssertionError("not cancelled")
    other.join()
    # What comes right behind a cancel request is nobody's to cancel.
    for _ in range(20):
        expect(connection.execute("SELECT count(*) FROM users").fetchone()[0], 3)


def versions_of_the_protocol(tenant):
    for version in ("3.0", "3.2"):
        with connect(tenant, min_protocol_version=version, max_protocol_version=version) as connection:
            works(connection, tenant)
            cancels(connection, tenant)


def the_newest_version_is_negotiated(tenant):
    with connect(tenant, max_protocol_version="latest") as connection:
        works(connection, tenant)


def tls_from_the_first_byte(tenant):
    for negotiation in ("direct", "postgres"):
        with connect(tenant, sslmode="require", sslnegotiation=negotiation) as connection:
            assert connection.pgconn.ssl_in_use
            works(connection, tenant)
            cancels(connection, tenant)


def oauth_is_not_asked_for(tenant):
    with connect(tenant, require_auth="password") as connection:
        works(connection, tenant)


if psycopg.pq.version() < 180000:
    print(f"skipped: libpq is {psycopg.pq.version()}, not 18")
    sys.exit(0)
if TLS:
    run([tls_from_the_first_byte])
else:
    run([versions_of_the_protocol, the_newest_version_is_negotiated, oauth_is_not_asked_for])
