// What the harness passes in the environment, and what each tenant must see.

export const tenants = [
  { name: "A", id: "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa", users: [1, 2, 3], names: ["Ann", "Art", "Ada"], base: 10_000 },
  { name: "B", id: "bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb", users: [101, 102, 103], names: ["Bob", "Bea", "Ann"], base: 20_000 },
];

export const settings = ({ name }) => ({
  host: "127.0.0.1",
  port: Number(process.env[`HEDGEROW_PORT_${name}`]),
  user: "application",
  password: process.env[`HEDGEROW_TOKEN_${name}`],
  database: process.env.HEDGEROW_DATABASE,
});
