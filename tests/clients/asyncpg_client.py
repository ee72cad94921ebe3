"""asyncpg through Hedgerow: named prepared statements, its type introspection, its pool's reset.

Exit 0 when all of it holds, as both tenants.
"""

import asyncio
import datetime
import decimal
import json
import uuid

import asyncpg
from tenants import BOTH, DATABASE, expect

IDS = "SELECT id FROM users ORDER BY id"


def settings(tenant):
    return {
        "host": "127.0.0.1", "port": tenant.port, "user": "application", "password": tenant.token,
        "database": DATABASE, "timeout": 10, "ssl": False,
    }


async def ids(connection, text=IDS, *parameters):
    return [row["id"] for row in await connection.fetch(text, *parameters)]


async def typed_parameters_and_results(connection, tenant):
    rows = await connection.fetch("SELECT id, tags FROM users WHERE id > $1 ORDER BY id", 0)
    expect([row["id"] for row in rows], tenant.users)
    assert isinstance(rows[0]["tags"], list), rows[0]
    expect(await ids(connection, "SELECT id FROM users WHERE id = ANY($1::int[]) ORDER BY id", list(range(110))), tenant.users)
    row = await connection.fetchrow("SELECT tenant_id, total, placed FROM orders WHERE id = $1", tenant.orders[0])
    expect(row["tenant_id"], uuid.UUID(tenant.id))
    assert isinstance(row["total"], decimal.Decimal) and isinstance(row["placed"], datetime.date), row
    expect(await connection.fetchval("SELECT count(*) FROM orders WHERE placed >= $1 AND total > $2",
                                     datetime.date(2026, 1, 1), decimal.Decimal("1")), len(tenant.orders))
    # A codec: asyncpg looks the type up in the catalogs.
    await connection.set_type_codec("jsonb", encoder=json.dumps, decoder=json.loads, schema="pg_catalog")
    meta = await connection.fetchval("SELECT meta FROM documents WHERE id = $1", tenant.documents[0])
    assert meta["k"].endswith("SECRET-DOC"), meta
    # A row type makes it introspect the table's columns.
    expect(await connection.fetchval("SELECT ROW(id, name) FROM users WHERE id = $1", tenant.users[0]),
           (tenant.users[0], tenant.names[0]))


async def prepared_statements(connection, tenant):
    statement = await connection.prepare("SELECT id FROM users WHERE name = $1 ORDER BY id")
    expect([kind.name for kind in statement.get_parameters()], ["text"])
    for name in ("Ann", "Bob"):
        wanted = [n for n, own in zip(tenant.users, tenant.names) if own == name]
        expect([row["id"] for row in await statement.fetch(name)], wanted)


async def a_denial_has_its_class(connection, tenant):
    try:
        await connection.fetch("SELECT * FROM vault")
    except asyncpg.InsufficientPrivilegeError as denial:
        assert "hedgerow: " in str(denial), denial
    else:
        raise AssertionError("not denied")
    expect(await ids(connection), tenant.users)


async def transactions_cursors_and_savepoints(connection, tenant):
    for options in ({}, {"isolation": "serializable"}, {"isolation": "repeatable_read", "readonly": True}):
        async with connection.transaction(**options):
            portions = [row["id"] async for row in connection.cursor(IDS, prefetch=2)]
            expect(portions, tenant.users)
    async with connection.transaction():
        await connection.execute("UPDATE documents SET title = $1 WHERE id = $2", "async", tenant.documents[0])
        try:
            async with connection.transaction():
                await connection.fetch("SELECT * FROM vault")
        except asyncpg.InsufficientPrivilegeError:
            pass
        expect(await connection.fetchval("SELECT title FROM documents WHERE id = $1", tenant.documents[0]), "async")


async def many_rows_in_one_call(connection, tenant):
    rows = [(tenant.base + n, tenant.id, f"many {n}") for n in range(100)]
    await connection.executemany("INSERT INTO documents (id, tenant_id, title) VALUES ($1, $2, $3)", rows)
    expect(await connection.fetchval("SELECT count(*) FROM documents WHERE title LIKE 'many%'"), 100)
    expect(await connection.execute("DELETE FROM documents WHERE id >= $1", 10_000), "DELETE 100")
    # A script of several statements goes by the simple protocol.
    expect(await connection.execute("BEGIN; UPDATE documents SET title = 'script'; ROLLBACK"), "ROLLBACK")


async def records_are_copied_in(connection, tenant):
    rows = [(tenant.base + n, uuid.UUID(tenant.id), f"copied {n}") for n in range(100)]
    columns = ["id", "tenant_id", "title"]
    expect(await connection.copy_records_to_table("documents", records=rows, columns=columns), "COPY 100")
    expect(await connection.copy_records_to_table("documents", records=[(tenant.base + 200, None)], columns=["id", "title"]),
           "COPY 1")
    expect(await connection.execute("DELETE FROM documents WHERE id >= $1", 10_000), "DELETE 101")
    stranger = next(other for other in BOTH if other is not tenant)
    foreign = [*rows, (tenant.base + 300, uuid.UUID(stranger.id), "foreign")]
    try:
        await connection.copy_records_to_table("documents", records=foreign, columns=columns)
    except asyncpg.InsufficientPrivilegeError as denial:
        assert "HR1011" in denial.detail, denial.detail
    else:
        raise AssertionError("not denied")
    expect(await connection.fetchval("SELECT count(*) FROM documents WHERE id >= 10000"), 0)


async def notifications_arrive(connection, tenant):
    heard = asyncio.Queue()
    await connection.add_listener("news", lambda _connection, _process, channel, payload: heard.put_nowait((channel, payload)))
    await connection.execute("SELECT pg_notify($1, $2)", "news", tenant.name)
    expect(await asyncio.wait_for(heard.get(), 5), ("news", tenant.name))
    await connection.reset()


async def a_pool_resets_and_keeps_the_tenant(_connection, tenant):
    async with asyncpg.create_pool(min_size=1, max_size=2, **settings(tenant)) as pool:
        for _ in range(5):
            async with pool.acquire() as pooled:
                expect(await ids(pooled), tenant.users)
                await pooled.execute("SET TIME ZONE 'Asia/Tokyo'")
        expect(await pool.fetchval("SHOW timezone") != "Asia/Tokyo", True)
        found = await asyncio.gather(*(ids(pool) for _ in range(8)))
        expect(found, [tenant.users] * 8)


async def main():
    checks = [
        typed_parameters_and_results,
        prepared_statements,
        a_denial_has_its_class,
        transactions_cursors_and_savepoints,
        many_rows_in_one_call,
        records_are_copied_in,
        notifications_arrive,
        a_pool_resets_and_keeps_the_tenant,
    ]
    for tenant in BOTH:
        connection = await asyncpg.connect(**settings(tenant))
        for check in checks:
            print(f"{check.__name__.replace('_', ' ')} ({tenant.name})", flush=True)
            await check(connection, tenant)
        await connection.close()


asyncio.run(main())
