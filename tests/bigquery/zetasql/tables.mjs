// What the real ZetaSQL parser reads in texts that Hedgerow would send: one JSON object a line on
// standard input, `{"sent": "…", "tables": ["project.dataset.table"]}`; a line on standard output for
// each text whose tables are others, then the counts. Exit 1 if there was one.
import { createInterface } from 'node:readline';
import { runServer, terminateServer, ZetaSQLClient } from '@fivetrandevelopers/zetasql';

const port = Number(process.env.PORT ?? 50005);
runServer(port).catch((error) => {
  console.error(error);
  process.exit(2);
});
ZetaSQLClient.init(port);
const client = ZetaSQLClient.getInstance();
for (let tries = 0; ; tries += 1) {
  try {
    await client.extractTableNamesFromStatement({ sqlStatement: 'SELECT 1' });
    break;
  } catch (error) {
    if (tries > 900) throw error;
    await new Promise((resolve) => setTimeout(resolve, 100));
  }
}
const { options } = { options: await client.getLanguageOptions({ maximumFeatures: true }) };
// Statements of every kind are read, not only queries.
const languageOptions = { ...options, supportedStatementKinds: [] };

let same = 0;
let unread = 0;
let different = 0;
for await (const line of createInterface({ input: process.stdin })) {
  const { sent, tables } = JSON.parse(line);
  let found;
  try {
    const answer = await client.extractTableNamesFromStatement({
      sqlStatement: sent,
      options: languageOptions,
    });
    found = answer.tableName.map((name) => name.tableNameSegment.join('.'));
  } catch (error) {
    unread += 1;
    if (process.env.VERBOSE) console.log(JSON.stringify({ unread: error.details ?? String(error), sent }));
    continue;
  }
  // A common table expression or an array of a table is no table.
  const read = new Set(found);
  const known = new Set(tables);
  const missed = [...read].filter((name) => !known.has(name));
  if (missed.length > 0) {
    different += 1;
    console.log(JSON.stringify({ missed, sent, tables }));
  } else {
    same += 1;
  }
}
console.log(JSON.stringify({ same, unread, different }));
terminateServer();
process.exit(different > 0 ? 1 : 0);
