"""One pool of a service's connections, a tenant for each transaction: psycopg, asyncpg and SQLAlchemy with
SET LOCAL hedgerow.token. Exit 0 when all of it holds."""

import asyncio
import os
import threading

import asyncpg
import psycopg
from sqlalchemy import URL, create_engine, event, text
from sqlalchemy.orm import Session
from tenants import BOTH, DATABASE, expect

PORT = int(os.environ["HEDGEROW_PORT"])
SERVICE = os.environ["HEDGEROW_TOKEN_SERVICE"]
IDS = "SELECT id FROM users ORDER BY id"
ROUNDS = 12


def local(tenant):
    return f"SET LOCAL hedgerow.token = '{tenant.token}'"


def connect(**options):
    return psycopg.connect(
        host="127.0.0.1", port=PORT, dbname=DATABASE, user="service", password=SERVICE, **options
    )


def psycopg_prepares_and_pipelines():
    with connect(prepare_threshold=1) as connection:
        for turn in range(ROUNDS):
            tenant = BOTH[turn % 2]
            with connection.transaction(), connection.cursor() as cursor:
                cursor.execute(local(tenant))
                found = cursor.execute("SELECT id FROM users WHERE id > %s ORDER BY id", [0]).fetchall()
                expect([row[0] for row in found], tenant.users, "prepared")
        for turn in range(ROUNDS):
            tenant = BOTH[turn % 2]
            with connection.pipeline(), connection.transaction():
                connection.execute(local(tenant))
                first = connection.execute("SELECT id FROM users WHERE id > %s ORDER BY id", [0])
                second = connection.execute("SELECT count(*) FROM orders")
                expect([row[0] for row in first.fetchall()], tenant.users, "pipeline")
                expect(second.fetchone()[0], len(tenant.orders), "pipeline")
        try:
            connection.execute(IDS)
            raise AssertionError("a service has no tenant")
        except psycopg.errors.InvalidAuthorizationSpecification:
            connection.rollback()


def sqlalchemy_serves_a_tenant_a_session():
    url = URL.create("postgresql+psycopg", "service", SERVICE, "127.0.0.1", PORT, DATABASE)
    # SQLAlchemy asks the server for its version and schema when it connects first: as a tenant.
    engine = create_engine(url, pool_size=3, max_overflow=0)

    @event.listens_for(engine, "connect", insert=True)
    def sign_in(connection, _record):
        connection.autocommit = True
        connection.execute(f"SET hedgerow.token = '{BOTH[0].token}'")
        connection.autocommit = False

    @event.listens_for(Session, "after_begin")
    def become_tenant(session, _transaction, connection):
        connection.exec_driver_sql(local(session.info["tenant"]))

    def work(tenant):
        for _ in range(ROUNDS):
            with Session(engine, info={"tenant": tenant}) as session:
                expect(list(session.scalars(text(IDS))), tenant.users, "session")
                session.commit()

    in_threads([lambda tenant=tenant: work(tenant) for tenant in BOTH * 2])
    engine.dispose()


async def asyncpg_pool():
    pool = await asyncpg.create_pool(
        host="127.0.0.1", port=PORT, database=DATABASE, user="service", password=SERVICE,
        min_size=1, max_size=3, reset=lambda _connection: asyncio.sleep(0),
    )

    async def work(tenant):
        for _ in range(ROUNDS):
            async with pool.acquire() as connection, connection.transaction():
                await connection.execute(local(tenant))
                found = await connection.fetch("SELECT id FROM users WHERE id > $1 ORDER BY id", 0)
                expect([row["id"] for row in found], tenant.users, "asyncpg")

    await asyncio.gather(*(work(tenant) for tenant in BOTH * 3))
    await pool.close()


def asyncpg_serves_a_tenant_a_transaction():
    asyncio.run(asyncpg_pool())


def in_threads(works):
    failed = []

    def guarded(work):
        try:
            work()
        except BaseException as error:
            failed.append(error)

    threads = [threading.Thread(target=guarded, args=[work]) for work in works]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    if failed:
        raise failed[0]


if __name__ == "__main__":
    for check in (
        psycopg_prepares_and_pipelines,
        sqlalchemy_serves_a_tenant_a_session,
        asyncpg_serves_a_tenant_a_transaction,
    ):
        print(check.__name__.replace("_", " "), flush=True)
        check()
