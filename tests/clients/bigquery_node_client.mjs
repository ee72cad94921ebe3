// The official Node.js client, as one of two tenants: query, parameters, rows of a table, a denial.
import assert from 'node:assert/strict';
import { BigQuery } from '@google-cloud/bigquery';
import { OAuth2Client } from 'google-auth-library';

const tenant = process.env.TENANT;
const first = tenant === 'tenant-a' ? 1 : 101;
const ids = [first, first + 1, first + 2];
const authClient = new OAuth2Client();
authClient.setCredentials({ access_token: process.env.TOKEN ?? 'none' });
const client = new BigQuery({ projectId: 'acme-prod', apiEndpoint: process.env.ENDPOINT, authClient });

const found = async (query, options = {}) => {
  const [rows] = await client.query({ query, ...options });
  return rows.map((row) => Number(row.id)).sort((a, b) => a - b);
};

assert.deepEqual(await found('SELECT id FROM app.customers'), ids);
assert.deepEqual(
  await found('SELECT id FROM app.customers WHERE id = @id', { params: { id: first } }),
  [first],
);
assert.deepEqual(
  await found('SELECT id FROM app.customers WHERE id > ?', { params: [first] }),
  ids.slice(1),
);
console.log('ok query');

const [rows] = await client.dataset('app').table('customers').getRows();
assert.deepEqual(rows.map((row) => Number(row.id)).sort((a, b) => a - b), ids);
console.log('ok rows');

if (process.env.DIRECT !== '1') {
  const begun = Date.now();
  await assert.rejects(client.query('SELECT * FROM app.unknown'), (error) => {
    assert.equal(error.code, 403);
    assert.match(error.message, /HR1003/);
    return true;
  });
  assert.ok(Date.now() - begun < 5000, 'the client tried again');
  await client.dataset('app').table('orders').insert([{ id: first + 90, note: 'from node' }]);
  assert.deepEqual(await found(`SELECT id FROM app.orders WHERE id = ${first + 90}`), [first + 90]);
  await client.query(`DELETE FROM app.orders WHERE id = ${first + 90}`);
  console.log('ok denial and insert');
}
