//! Noninterference for GoogleSQL: a query of tenant A through Hedgerow, where the rows of A and B lie, gives
//! what the very text gives where only A's rows lie. Generated queries, the stand-in as the service.
//!
//! `HEDGEROW_ORACLE_SECONDS` and `HEDGEROW_ORACLE_SEED` say how long and from where.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use serde_json::{Value, json};

use super::POLICY;
use super::emulator::{emulator, failure};
use super::stand::Stand;

/// The project that holds A's rows alone.
const ALONE: &str = "solo-a";

/// A source of choices that a seed repeats.
struct Dice(u64);

impl Dice {
    fn roll(&mut self, below: usize) -> usize {
        // splitmix64
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % below as u64).unwrap()
    }

    fn of<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.roll(choices.len())]
    }

    fn one_in(&mut self, count: usize) -> bool {
        self.roll(count) == 0
    }
}

/// A table with columns of two types. No two have one name: the stand-in then finds neither.
struct Table {
    name: &'static str,
    numbers: &'static [&'static str],
    texts: &'static [&'static str],
}

const TABLES: &[Table] = &[
    Table {
        name: "app.customers",
        numbers: &["id", "credit"],
        texts: &["tenant_id", "name", "secret", "email"],
    },
    Table { name: "app.orders", numbers: &["id", "customer_id"], texts: &["tenant_id", "note"] },
    Table { name: "app.order_items", numbers: &["order_id"], texts: &["sku", "secret"] },
    Table { name: "app.currencies", numbers: &["rate"], texts: &["code"] },
    Table { name: "app.events_20260101", numbers: &["id"], texts: &["payload", "tenant_id"] },
    Table { name: "app.events_*", numbers: &["id"], texts: &["payload", "tenant_id"] },
];

/// Texts that are made of dice.
struct Generator {
    dice: Dice,
    aliases: usize,
}

/// A range variable and its columns.
#[derive(Clone)]
struct Variable {
    name: String,
    numbers: Vec<String>,
    texts: Vec<String>,
}

impl Generator {
    fn alias(&mut self) -> String {
        self.aliases += 1;
        format!("v{}", self.aliases)
    }

    /// A table between marks, with a choice of its spelling: [`spelled`] reads it.
    fn spelled(&mut self, table: &str) -> String {
        format!("\u{1}{}{table}\u{2}", self.dice.roll(4))
    }

    fn source(&mut self, depth: usize) -> (String, Variable) {
        let alias = self.alias();
        if depth > 0 && self.dice.one_in(3) {
            let (text, columns) = self.projection(depth - 1);
            let variable = Variable { name: alias.clone(), ..columns };
            return (format!("({text}) AS {alias}"), variable);
        }
        let table = &TABLES[self.dice.roll(TABLES.len())];
        let own = |names: &[&str]| names.iter().map(|name| (*name).to_owned()).collect();
        let variable =
            Variable { name: alias.clone(), numbers: own(table.numbers), texts: own(table.texts) };
        (format!("{} AS {alias}", self.spelled(table.name)), variable)
    }

    fn number(&mut self, variables: &[Variable]) -> String {
        let variable = &variables[self.dice.roll(variables.len())].clone();
        if variable.numbers.is_empty() || self.dice.one_in(5) {
            return self.dice.of(&["1", "2", "101", "0", "3"]).to_owned();
        }
        let column = &variable.numbers[self.dice.roll(variable.numbers.len())];
        let column = format!("{}.{column}", variable.name);
        match self.dice.roll(8) {
            0 => format!("COALESCE({column}, 0)"),
            1 => format!("ABS({column})"),
            2 => format!("({column} + 1)"),
            3 => format!("IF({column} > 2, {column}, 0)"),
            _ => column,
        }
    }

    fn text(&mut self, variables: &[Variable]) -> String {
        let variable = &variables[self.dice.roll(variables.len())].clone();
        if variable.texts.is_empty() || self.dice.one_in(6) {
            return self
                .dice
                .of(&["'tenant-b'", "'B-SECRET-101'", "'x'", "'A-SECRET-1'"])
                .to_owned();
        }
        let column = &variable.texts[self.dice.roll(variable.texts.len())];
        let column = format!("{}.{column}", variable.name);
        match self.dice.roll(8) {
            0 => format!("UPPER({column})"),
            1 => format!("CONCAT({column}, 'x')"),
            2 => format!("SUBSTR({column}, 1, 3)"),
            _ => column,
        }
    }

    fn condition(&mut self, variables: &[Variable], depth: usize) -> String {
        match self.dice.roll(14) {
            0 | 1 => {
                let (left, right) = (self.number(variables), self.number(variables));
                format!("{left} {} {right}", self.dice.of(&["=", "<", ">", "<=", "!="]))
            }
            2 => format!("{} = {}", self.text(variables), self.text(variables)),
            3 => format!("{} LIKE '%SECRET%'", self.text(variables)),
            4 => format!("{} IS NOT NULL", self.number(variables)),
            5 => format!("TRUE OR {} = 1", self.number(variables)),
            6 => format!("{} IN (1, 2, 101, 102)", self.number(variables)),
            // What may raise an error on another tenant's rows, and none on A's.
            7 => format!("CAST(SUBSTR({}, 1, 0) AS STRING) = ''", self.text(variables)),
            8 => format!("1 / ({} - 101) < 5", self.number(variables)),
            9 => format!("MOD(7, CAST({} AS INT64) - 103) < 9", self.number(variables)),
            10 if depth > 0 => {
                let (text, columns) = self.projection(depth - 1);
                match columns.numbers.first() {
                    Some(column) => {
                        format!("{} IN (SELECT {column} FROM ({text}))", self.number(variables))
                    }
                    None => format!("EXISTS ({text})"),
                }
            }
            11 if depth > 0 => {
                let (source, inner) = self.source(0);
                let mut scope = variables.to_vec();
                scope.push(inner);
                let condition = self.condition(&scope, 0);
                format!("EXISTS (SELECT 1 FROM {source} WHERE {condition})")
            }
            12 => {
                let (a, b) = (self.condition(variables, 0), self.condition(variables, 0));
                format!("({a} {} {b})", self.dice.of(&["AND", "OR"]))
            }
            _ => format!("NOT ({} = {})", self.number(variables), self.number(variables)),
        }
    }

    fn from(&mut self, depth: usize) -> (String, Vec<Variable>) {
        let (mut text, first) = self.source(depth);
        let mut variables = vec![first];
        for _ in 0..self.dice.roll(3) {
            let (source, variable) = self.source(depth.saturating_sub(1));
            let kind =
                self.dice.of(&["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN", "CROSS JOIN"]);
            variables.push(variable);
            text = if kind == "CROSS JOIN" {
                format!("{text} CROSS JOIN {source}")
            } else {
                let condition = format!(
                    "{} = {}",
                    self.number(&variables[variables.len() - 1..]),
                    self.number(&variables[..1])
                );
                format!("{text} {kind} {source} ON {condition}")
            };
        }
        (text, variables)
    }

    /// A query with columns of names that are known.
    fn projection(&mut self, depth: usize) -> (String, Variable) {
        let (from, variables) = self.from(depth);
        let filter = if self.dice.one_in(3) {
            String::new()
        } else {
            format!(" WHERE {}", self.condition(&variables, depth))
        };
        let (n, t) = (self.alias(), self.alias());
        if self.dice.one_in(4) {
            let group = self.text(&variables);
            let aggregate = match self.dice.roll(4) {
                0 => "COUNT(*)".to_owned(),
                1 => format!("SUM({})", self.number(&variables)),
                2 => format!("MAX({})", self.number(&variables)),
                _ => format!("COUNT(DISTINCT {})", self.text(&variables)),
            };
            let having = if self.dice.one_in(3) { " HAVING COUNT(*) > 1" } else { "" };
            let text = format!(
                "SELECT {aggregate} AS {n}, {group} AS {t} FROM {from}{filter} GROUP BY {group}{having}"
            );
            return (text, Variable { name: String::new(), numbers: vec![n], texts: vec![t] });
        }
        let distinct = if self.dice.one_in(5) { "DISTINCT " } else { "" };
        let (number, text) = (self.number(&variables), self.text(&variables));
        let query = format!("SELECT {distinct}{number} AS {n}, {text} AS {t} FROM {from}{filter}");
        (query, Variable { name: String::new(), numbers: vec![n], texts: vec![t] })
    }

    fn query(&mut self) -> String {
        self.aliases = 0;
        match self.dice.roll(9) {
            0 => {
                let (query, columns) = self.projection(1);
                let name = self.alias();
                let outer = Variable { name: "w".to_owned(), ..columns };
                let condition = self.condition(&[outer], 1);
                format!("WITH {name} AS ({query}) SELECT * FROM {name} AS w WHERE {condition}")
            }
            1 => {
                let (left, right) = (self.projection(1).0, self.projection(1).0);
                format!(
                    "{left} {} {right}",
                    self.dice.of(&[
                        "UNION ALL",
                        "UNION DISTINCT",
                        "EXCEPT DISTINCT",
                        "INTERSECT DISTINCT"
                    ])
                )
            }
            2 => {
                let (query, columns) = self.projection(1);
                let number = &columns.numbers[0];
                format!(
                    "SELECT (SELECT COUNT(*) FROM ({query})) AS c, (SELECT MAX({number}) FROM ({query})) AS m"
                )
            }
            3 => {
                let table = self.spelled("app.customers");
                format!("SELECT t, COUNT(*) AS n FROM {table} AS c, UNNEST(c.tags) AS t GROUP BY t")
            }
            4 => {
                let (source, variable) = self.source(0);
                let condition = self.condition(std::slice::from_ref(&variable), 1);
                format!("SELECT * FROM {source} WHERE {condition}")
            }
            5 => {
                let (from, variables) = self.from(0);
                let (number, text) = (self.number(&variables), self.text(&variables));
                format!(
                    "SELECT {number} AS n, {text} AS t, ROW_NUMBER() OVER (ORDER BY {text}, {number}) AS r FROM {from} QUALIFY r <= 4"
                )
            }
            _ => self.projection(2).0,
        }
    }
}

/// A generated text with its tables spelled: as the dice said, or in full in a project.
fn spelled(text: &str, project: Option<&str>) -> String {
    let mut pieces = text.split(['\u{1}', '\u{2}']);
    let mut built = pieces.next().unwrap().to_owned();
    while let (Some(marked), Some(rest)) = (pieces.next(), pieces.next()) {
        let (choice, table) = marked.split_at(1);
        let (dataset, name) = table.split_once('.').unwrap();
        match (project, choice) {
            (Some(project), _) => built.push_str(&format!("`{project}.{table}`")),
            (None, "0") => built.push_str(&format!("`acme-prod.{table}`")),
            (None, "1") if dataset == "app" && !name.contains('*') => built.push_str(name),
            (None, "2") => built.push_str(&format!("`{dataset}`.`{name}`")),
            (None, _) => built.push_str(&format!("`{table}`")),
        }
        built.push_str(rest);
    }
    built
}

/// Rows and columns of an answer, in no order.
fn result(answer: &Value) -> (Value, Vec<String>) {
    let mut rows: Vec<String> =
        answer["rows"].as_array().into_iter().flatten().map(Value::to_string).collect();
    rows.sort();
    (
        answer["schema"]["fields"]
            .as_array()
            .map(|f| f.iter().map(|c| json!([c["name"], c["type"]])).collect())
            .unwrap_or_default(),
        rows,
    )
}

fn setting(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

#[tokio::test(flavor = "multi_thread")]
#[ignore = "not in the suite yet: faults of the stand-in itself are still told apart by hand"]
async fn a_mixed_dataset_through_hedgerow_is_the_tenants_own() {
    let Some(emulator) = emulator() else { return };
    let _tables = super::clients::TABLES.lock().await;
    emulator.fixture("acme-prod", &["tenant-a", "tenant-b"]).await;
    emulator.fixture(ALONE, &["tenant-a"]).await;
    let url = emulator.url.clone();
    let stand = Stand::with(POLICY, |settings| settings.upstream = url).await;
    let seconds = setting("HEDGEROW_ORACLE_SECONDS", 60).min(1_800) / 3;
    let seed = setting("HEDGEROW_ORACLE_SEED", 1);
    let mut generator = Generator { dice: Dice(seed), aliases: 0 };
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut counts = BTreeMap::<&str, u64>::new();
    let mut denials = BTreeMap::<String, u64>::new();
    while Instant::now() < end {
        let drawn = generator.query();
        let text = spelled(&drawn, None);
        let body = json!({
            "query": text, "useLegacySql": false, "maxResults": 10_000,
            "defaultDataset": {"projectId": "acme-prod", "datasetId": "app"},
        });
        let got = stand.query("tenant-a", body).await;
        assert!(
            !got.text.contains("B-SECRET") || text.contains("'B-SECRET"),
            "LEAK: {text}\n{}",
            got.text
        );
        if got.status == 403 {
            *counts.entry("denied").or_default() += 1;
            *denials.entry(got.code().to_owned()).or_default() += 1;
            continue;
        }
        let alone = spelled(&drawn, Some(ALONE));
        let alone = json!({
            "query": alone, "useLegacySql": false, "maxResults": 10_000,
            "defaultDataset": {"projectId": ALONE, "datasetId": "app"},
        });
        let expected = emulator.ask(ALONE, alone).await;
        let through = if got.status == 200 { failure(&got.body) } else { Some(got.text.clone()) };
        match (failure(&expected), through) {
            // An error is no isolation: it is counted apart.
            (Some(_), Some(_)) => *counts.entry("error on both").or_default() += 1,
            (Some(error), None) => panic!("seed {seed}: an error alone: {error}\n{text}"),
            (None, Some(error)) => {
                panic!("seed {seed}: an error through Hedgerow: {error}\n{text}")
            }
            (None, None) => {
                assert_eq!(result(&got.body), result(&expected), "seed {seed}: {text}");
                let kind = if expected["rows"].as_array().is_some_and(|rows| !rows.is_empty()) {
                    "equal"
                } else {
                    "equal and empty"
                };
                *counts.entry(kind).or_default() += 1;
            }
        }
    }
    println!("seed {seed}, {seconds} s: {counts:?}; denials {denials:?}");
    let equal = counts.get("equal").copied().unwrap_or_default();
    let all: u64 = counts.values().sum();
    assert!(equal * 2 > all, "{counts:?}");
    stand.finish().await;
}
