// Drizzle through Hedgerow, over node-postgres and over postgres.js: its builder, relational queries, prepared
// statements, upserts, nested transactions, views, migrations' book-keeping denied. Exit 0 when all of it holds, as both tenants.

import assert from "node:assert/strict";
import { and, asc, avg, between, count, desc, eq, exists, gt, gte, ilike, inArray, isNull, or, relations, sql, sum } from "drizzle-orm";
import { drizzle as overPg } from "drizzle-orm/node-postgres";
import { drizzle as overPostgresJs } from "drizzle-orm/postgres-js";
import { alias, date, integer, jsonb, numeric, pgTable, text, unionAll, uuid } from "drizzle-orm/pg-core";
import pg from "pg";
import postgres from "postgres";
import { settings, tenants } from "./tenants.mjs";

const users = pgTable("users", {
  id: integer().primaryKey(),
  tenantId: uuid("tenant_id").notNull(),
  email: text().notNull(),
  name: text().notNull(),
  credit: integer().notNull().default(0),
  tags: text().array().notNull(),
});
const orders = pgTable("orders", {
  id: integer().primaryKey(),
  tenantId: uuid("tenant_id").notNull(),
  userId: integer("user_id").notNull().references(() => users.id),
  total: numeric({ precision: 12, scale: 2 }).notNull(),
  note: text(),
  placed: date().notNull(),
});
const documents = pgTable("documents", {
  id: integer().primaryKey(),
  tenantId: uuid("tenant_id").notNull(),
  title: text(),
  meta: jsonb(),
  parent: integer(),
});
const vault = pgTable("vault", { id: integer().primaryKey(), secret: text() });
const schema = {
  users, orders, documents, vault,
  usersRelations: relations(users, ({ many }) => ({ orders: many(orders) })),
  ordersRelations: relations(orders, ({ one }) => ({ user: one(users, { fields: [orders.userId], references: [users.id] }) })),
};

// What Drizzle wraps is the driver's own error.
const denied = (error) => [error, error.cause].some((each) => each?.code === "42501" && /^hedgerow: /.test(each.message));
const ids = (rows) => rows.map((row) => row.id);

async function reads(db, tenant) {
  assert.deepEqual(ids(await db.select().from(users).orderBy(asc(users.id))), tenant.users);
  assert.deepEqual((await db.select({ name: users.name }).from(users).where(inArray(users.id, [1, 2, 3, 101, 102, 103])).orderBy(users.id)).map((row) => row.name), tenant.names);
  assert.equal((await db.select().from(users).where(and(gt(users.id, 0), or(ilike(users.name, "a%"), ilike(users.name, "b%")), between(users.id, 0, 200)))).length, 3);
  assert.equal(await db.$count(users), 3);
  const joined = await db.select({ order: orders, user: { name: users.name } }).from(orders).innerJoin(users, eq(orders.userId, users.id)).orderBy(desc(orders.total));
  assert.ok(joined.length >= 2 && joined.every((row) => row.order.tenantId === tenant.id), JSON.stringify(joined));
  const totals = db.$with("totals").as(db.select({ userId: orders.userId, spent: sum(orders.total).as("spent"), n: count().as("n") }).from(orders).groupBy(orders.userId));
  assert.equal((await db.with(totals).select().from(users).leftJoin(totals, eq(users.id, totals.userId))).length, 3);
  const [mean] = await db.select({ mean: avg(users.credit), most: sql`max(${users.credit})`.mapWith(Number) }).from(users);
  assert.ok(mean.most > 0);
  assert.equal((await db.select().from(users).where(exists(db.select({ one: sql`1` }).from(orders).where(eq(orders.userId, users.id))))).length, 2);
  const other = alias(users, "other");
  assert.equal((await db.select({ id: other.id }).from(users).innerJoin(other, eq(users.id, other.id)).limit(2).offset(1)).length, 2);
  assert.equal((await unionAll(db.select({ id: users.id }).from(users), db.select({ id: documents.id }).from(documents))).length, 3 + (tenant.name === "A" ? 3 : 2));
  assert.deepEqual((await db.selectDistinctOn([users.id], { id: users.id }).from(users).orderBy(users.id)).map((row) => row.id), tenant.users);
  const foreign = tenant.name === "A" ? 101 : 1;
  assert.deepEqual(await db.select().from(users).where(eq(users.id, foreign)), []);
}

async function relationalQueries(db, tenant) {
  const found = await db.query.users.findMany({ with: { orders: { columns: { id: true, total: true }, orderBy: asc(orders.id) } }, orderBy: asc(users.id) });
  assert.deepEqual(ids(found), tenant.users);
  assert.equal(found.flatMap((user) => user.orders).length, tenant.name === "A" ? 3 : 2);
  const first = await db.query.orders.findFirst({ columns: { id: true }, where: gte(orders.total, "1"), orderBy: asc(orders.id) });
  assert.equal(first.id, tenant.users[0]);
  // Of what is related to, it reads `*` whichever columns are asked for: denied where the policy denies one.
  await assert.rejects(async () => await db.query.orders.findFirst({ with: { user: { columns: { name: true } } } }), denied);
}

async function preparedStatements(db, tenant) {
  const byName = db.select({ id: users.id }).from(users).where(eq(users.name, sql.placeholder("name"))).orderBy(users.id).prepare("users_by_name");
  for (const name of ["Ann", "Bob", "Ann"]) {
    assert.deepEqual(ids(await byName.execute({ name })), tenant.users.filter((_, n) => tenant.names[n] === name));
  }
  const related = db.query.users.findMany({ where: eq(users.id, sql.placeholder("id")), with: { orders: true } }).prepare("user_with_orders");
  assert.equal((await related.execute({ id: tenant.users[0] })).length, 1);
}

async function writes(db, tenant) {
  const rows = Array.from({ length: 20 }, (_, n) => ({ id: tenant.base + n, tenantId: tenant.id, title: `drizzle ${n}`, meta: { n } }));
  assert.equal((await db.insert(documents).values(rows).returning({ id: documents.id })).length, 20);
  await db.insert(documents).values(rows).onConflictDoUpdate({ target: documents.id, set: { title: sql`excluded.title || '!'` } });
  await db.insert(documents).values(rows[0]).onConflictDoNothing();
  assert.equal((await db.select().from(documents).where(and(eq(documents.title, "drizzle 3!"), isNull(documents.parent)))).length, 1);
  const [changed] = await db.update(documents).set({ title: "changed", meta: { deep: [1, null, "ü"] } }).where(eq(documents.id, tenant.base)).returning();
  assert.deepEqual(changed.meta, { deep: [1, null, "ü"] });
  const stranger = tenants.find((other) => other !== tenant).id;
  await assert.rejects(db.insert(documents).values({ id: tenant.base + 50, tenantId: stranger, title: "foreign" }), denied);
  assert.equal((await db.delete(documents).where(gte(documents.id, 10_000)).returning({ id: documents.id })).length, 20);
}

async function transactions(db, tenant) {
  const [before] = await db.select().from(documents).where(eq(documents.id, tenant.users[0]));
  await assert.rejects(db.transaction(async (tx) => {
    await tx.update(documents).set({ title: "never" }).where(eq(documents.id, before.id));
    // A transaction in a transaction is a savepoint.
    await assert.rejects(tx.transaction(async (inner) => await inner.select().from(vault)), denied);
    await tx.transaction(async (inner) => await inner.update(documents).set({ title: "in the savepoint" }).where(eq(documents.id, before.id)));
    const [row] = await tx.select().from(documents).where(eq(documents.id, before.id)).for("update");
    assert.equal(row.title, "in the savepoint");
    tx.rollback();
  }, { isolationLevel: "serializable", accessMode: "read write" }));
  assert.deepEqual((await db.select().from(documents).where(eq(documents.id, before.id)))[0], before);
  const [many] = await db.transaction(async (tx) => await Promise.all([tx.select().from(users), tx.$count(orders)]), { accessMode: "read only" });
  assert.equal(many.length, 3);
}

async function denials(db) {
  await assert.rejects(async () => await db.select().from(vault), denied);
  await assert.rejects(async () => await db.execute(sql`SELECT password_hash FROM ${users}`), denied);
  await assert.rejects(async () => await db.execute(sql`CREATE TABLE IF NOT EXISTS "__drizzle_migrations" (id serial PRIMARY KEY)`), denied);
  await assert.rejects(async () => await db.execute(sql`SELECT missing FROM ${users}`), (error) => [error, error.cause].some((each) => ["42703", "42501"].includes(each?.code)));
}

for (const tenant of tenants) {
  const { host, port, user, password, database } = settings(tenant);
  const pool = new pg.Pool({ ...settings(tenant), max: 2 });
  const client = postgres({ host, port, user, password, database, max: 2, onnotice: () => {} });
  for (const db of [overPg(pool, { schema }), overPostgresJs(client, { schema })]) {
    for (const check of [reads, relationalQueries, preparedStatements, writes, transactions, denials]) {
      await check(db, tenant);
    }
    const found = await Promise.all(Array.from({ length: 9 }, () => db.select({ id: users.id }).from(users).orderBy(users.id)));
    for (const rows of found) assert.deepEqual(ids(rows), tenant.users);
  }
  await pool.end();
  await client.end();
}
