// postgres.js through Hedgerow: pipelined prepared statements, its type look-up, transactions, cursors.
// Exit 0 when all of it holds, as both tenants.

import assert from "node:assert/strict";
import postgres from "postgres";
import { settings, tenants } from "./tenants.mjs";

for (const tenant of tenants) {
  const { host, port, user, password, database } = settings(tenant);
  const sql = postgres({ host, port, user, password, database, max: 2, fetch_types: true, onnotice: () => {} });
  const ids = async (query) => (await query).map((row) => row.id);

  assert.deepEqual(await ids(sql`SELECT id FROM users ORDER BY id`), tenant.users);
  const found = await Promise.all(Array.from({ length: 10 }, () => ids(sql`SELECT id FROM users WHERE id > ${0} ORDER BY id`)));
  for (const each of found) assert.deepEqual(each, tenant.users);
  assert.deepEqual(await ids(sql`SELECT id FROM users WHERE id IN ${sql([1, 2, 3, 101, 102, 103])} ORDER BY id`), tenant.users);
  assert.deepEqual(await ids(sql`SELECT id FROM users WHERE name = ANY(${tenant.names}) ORDER BY id`), tenant.users);
  assert.deepEqual((await sql`SELECT tags FROM users ORDER BY id`)[2].tags, []);
  assert.deepEqual((await sql`SELECT ${sql(["id", "name"])} FROM ${sql("users")} ORDER BY id`).map((row) => row.name), tenant.names);
  assert.deepEqual((await sql`SELECT id, total FROM orders`.describe()).columns.map((column) => column.name), ["id", "total"]);
  assert.equal((await sql.unsafe("SELECT 1 AS one; SELECT 2 AS two"))[1][0].two, 2);

  await assert.rejects(async () => await sql`SELECT * FROM vault`, (error) => error.code === "42501" && /^hedgerow: /.test(error.message));

  const rows = Array.from({ length: 20 }, (_, n) => ({ id: tenant.base + n, tenant_id: tenant.id, title: `js ${n}` }));
  const inserted = await sql`INSERT INTO documents ${sql(rows, "id", "tenant_id", "title")} RETURNING id`;
  assert.equal(inserted.length, 20);
  await sql.begin("ISOLATION LEVEL SERIALIZABLE READ WRITE", async (sql) => {
    await sql`UPDATE documents SET ${sql({ title: "changed", meta: sql.json({ k: 1 }) })} WHERE id >= ${10_000}`;
    await sql.savepoint(async (sql) => await sql`SELECT * FROM internal_keys`).catch((error) => assert.equal(error.code, "42501"));
    const [one, two] = await Promise.all([
      sql`SELECT count(*)::int AS n FROM documents WHERE title = 'changed'`,
      sql`SELECT id FROM users ORDER BY id`,
    ]);
    assert.equal(one[0].n, 20);
    assert.equal(two.length, 3);
  });
  assert.equal((await sql`DELETE FROM documents WHERE id >= ${10_000}`).count, 20);

  const portions = [];
  await sql`SELECT id FROM users ORDER BY id`.cursor(2, (part) => { portions.push(...part.map((row) => row.id)); });
  assert.deepEqual(portions, tenant.users);
  for await (const part of sql`SELECT id FROM users ORDER BY id`.cursor()) assert.ok(tenant.users.includes(part[0].id));
  const copied = [];
  for await (const chunk of await sql`COPY (SELECT id FROM users ORDER BY id) TO STDOUT`.readable()) copied.push(chunk);
  assert.equal(Buffer.concat(copied).toString(), tenant.users.map((id) => `${id}\n`).join(""));
  await sql.end();
}
