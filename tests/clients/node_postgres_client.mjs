// node-postgres through Hedgerow: queries, parameters, named statements, a pool, transactions, a cursor.
// Exit 0 when all of it holds, as both tenants.

import assert from "node:assert/strict";
import pg from "pg";
import Cursor from "pg-cursor";
import { settings, tenants } from "./tenants.mjs";

const ids = (result) => result.rows.map((row) => row.id);
const own = "SELECT id FROM users ORDER BY id";

for (const tenant of tenants) {
  const client = new pg.Client(settings(tenant));
  await client.connect();
  assert.deepEqual(ids(await client.query(own)), tenant.users);
  assert.deepEqual(ids(await client.query("SELECT id FROM users WHERE id = ANY($1) ORDER BY id", [[1, 2, 3, 101, 102, 103]])), tenant.users);
  for (const name of ["Ann", "Bob", "Ann"]) {
    const named = { name: "by-name", text: "SELECT id FROM users WHERE name = $1 ORDER BY id", values: [name] };
    assert.deepEqual(ids(await client.query(named)), tenant.users.filter((_, n) => tenant.names[n] === name));
  }
  const [first, second] = await client.query("SELECT count(*)::int AS n FROM users; SELECT code FROM currencies");
  assert.equal(first.rows[0].n, 3);
  assert.equal(second.rowCount, 3);

  await assert.rejects(client.query("SELECT * FROM vault"), (error) => error.code === "42501" && /^hedgerow: /.test(error.message));
  await assert.rejects(client.query("SELECT * FROM vault WHERE id = $1", [1]), { code: "42501" });

  await client.query("BEGIN ISOLATION LEVEL REPEATABLE READ");
  const inserted = await client.query(
    "INSERT INTO documents (id, tenant_id, title, meta) VALUES ($1, $2, $3, $4) ON CONFLICT (id) DO UPDATE SET title = EXCLUDED.title RETURNING *",
    [tenant.base, tenant.id, "node", { k: [1, null, "ü"] }],
  );
  assert.deepEqual(inserted.rows[0].meta, { k: [1, null, "ü"] });
  await client.query("SAVEPOINT a");
  await assert.rejects(client.query("SELECT * FROM internal_keys"), { code: "42501" });
  await client.query("ROLLBACK TO SAVEPOINT a");
  await client.query("COMMIT");
  assert.equal((await client.query("DELETE FROM documents WHERE id = $1", [tenant.base])).rowCount, 1);

  const cursor = client.query(new Cursor("SELECT id FROM users WHERE id > $1 ORDER BY id", [0]));
  const portions = [await cursor.read(2), await cursor.read(2)];
  assert.deepEqual(portions.flat().map((row) => row.id), tenant.users);
  await cursor.close();
  await client.end();

  const pool = new pg.Pool({ ...settings(tenant), max: 3 });
  const found = await Promise.all(Array.from({ length: 9 }, () => pool.query(own)));
  for (const result of found) assert.deepEqual(ids(result), tenant.users);
  await pool.end();
}
