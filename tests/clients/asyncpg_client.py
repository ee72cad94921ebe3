"""asyncpg through Hedgerow: named prepared statements, its type introspection, its pool's reset.

The harness passes ports, database and tokens in the environment. Exit 0 when all of it holds.
"""

import asyncio
import os

import asyncpg


def settings(tenant):
    return {
        "host": "127.0.0.1",
        "port": int(os.environ[f"HEDGEROW_PORT_{tenant}"]),
        "user": "application",
        "password": os.environ[f"HEDGEROW_TOKEN_{tenant}"],
        "database": os.environ["HEDGEROW_DATABASE"],
        "timeout": 10,
        "ssl": False,
    }


async def main():
    connection = await asyncpg.connect(**settings("A"))
    rows = await connection.fetch("SELECT id, tags FROM users WHERE id > $1 ORDER BY id", 0)
    assert [row["id"] for row in rows] == [1, 2, 3], rows
    assert rows[0]["tags"] == ["x", "y"], rows[0]
    try:
        await connection.fetch("SELECT * FROM vault")
    except asyncpg.InsufficientPrivilegeError as denial:
        assert "hedgerow: " in str(denial), denial
    else:
        raise AssertionError("not denied")
    async with connection.transaction():
        await connection.execute("UPDATE documents SET title = $1 WHERE id = $2", "async", 1)
        async for row in connection.cursor("SELECT id FROM users ORDER BY id", prefetch=2):
            assert row["id"] < 100
    await connection.close()

    # The pool sends its reset query on release; the tenant must stay.
    async with asyncpg.create_pool(min_size=1, max_size=2, **settings("B")) as pool:
        for _ in range(5):
            async with pool.acquire() as pooled:
                found = [row["id"] for row in await pooled.fetch("SELECT id FROM users ORDER BY id")]
                assert found == [101, 102, 103], found


asyncio.run(main())
