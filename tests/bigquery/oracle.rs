//! Noninterference for GoogleSQL: a query of tenant A through Hedgerow, where the rows of A and B lie, gives
//! what the very text gives where only A's rows lie. Generated queries, the stand-in as the service.
//!
//! `HEDGEROW_BIGQUERY_ORACLE_SECONDS` and `…_SEED` say how long and from where; with `…_GATHER=1` what
//! differs is printed and counted, and the run goes on.
//!
//! The stand-in is no BigQuery. What it cannot do is not generated, or is on a list with its reason; an
//! answer is compared only where both sides gave one.

use std::collections::BTreeMap;
use std::time::{Duration, Instant};

use hedgerow::policy::BigQueryPolicy;
use serde_json::{Value, json};

use super::POLICY;
use super::emulator::{Emulator, emulator, failure};
use super::stand::Stand;

/// The project that holds A's rows alone.
const ALONE: &str = "solo-a";

/// A source of choices that a seed repeats.
pub struct Dice(pub u64);

impl Dice {
    pub fn roll(&mut self, below: usize) -> usize {
        // splitmix64
        self.0 = self.0.wrapping_add(0x9e37_79b9_7f4a_7c15);
        let mut z = self.0;
        z = (z ^ (z >> 30)).wrapping_mul(0xbf58_476d_1ce4_e5b9);
        z = (z ^ (z >> 27)).wrapping_mul(0x94d0_49bb_1331_11eb);
        usize::try_from((z ^ (z >> 31)) % below as u64).unwrap()
    }

    pub fn of<'a>(&mut self, choices: &[&'a str]) -> &'a str {
        choices[self.roll(choices.len())]
    }

    pub fn one_in(&mut self, count: usize) -> bool {
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

    /// A column that says whose its row is.
    fn mark(&mut self, variables: &[Variable]) -> Option<String> {
        let mut marks = Vec::new();
        for variable in variables {
            for column in &variable.texts {
                if matches!(column.as_str(), "secret" | "note" | "payload") {
                    marks.push(format!("{}.{column}", variable.name));
                }
            }
        }
        if marks.is_empty() { None } else { Some(marks.swap_remove(self.dice.roll(marks.len()))) }
    }

    fn condition(&mut self, variables: &[Variable], depth: usize) -> String {
        match self.dice.roll(16) {
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
            14 | 15 => match self.mark(variables) {
                // It fails on each of B's rows, and on none of A's.
                Some(column) => {
                    format!("CAST(REPLACE({column}, 'A-SECRET-', '') AS INT64) > 1")
                }
                None => "TRUE".to_owned(),
            },
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

/// Rows and columns of an answer, in no order. Case is no part of a column's name; the stand-in spells its
/// pseudo-columns now so, now so.
fn result(answer: &Value) -> (Value, Vec<String>) {
    let mut rows: Vec<String> =
        answer["rows"].as_array().into_iter().flatten().map(Value::to_string).collect();
    rows.sort();
    (
        answer["schema"]["fields"]
            .as_array()
            .map(|fields| {
                let name = |field: &Value| field["name"].as_str().map(str::to_ascii_lowercase);
                fields.iter().map(|field| json!([name(field), field["type"]])).collect()
            })
            .unwrap_or_default(),
        rows,
    )
}

pub fn setting(name: &str, otherwise: u64) -> u64 {
    std::env::var(name).ok().and_then(|text| text.parse().ok()).unwrap_or(otherwise)
}

/// Words in an error of the stand-in that say that it does not do, on its own, what the service does; with
/// what was asked. Such a query says nothing of Hedgerow and is counted apart, never as isolation.
const NOT_DONE: &[(&str, &str)] = &[];

fn is_not_done(error: &str) -> bool {
    NOT_DONE.iter().any(|(words, _)| error.contains(words))
}

/// One question and what became of it.
struct Round<'a> {
    stand: &'a Stand,
    emulator: &'a Emulator,
    policy: &'a BigQueryPolicy,
}

/// What a round showed.
#[derive(Clone, Copy, Debug, PartialEq, Eq, PartialOrd, Ord)]
enum Outcome {
    Equal,
    EqualAndEmpty,
    Denied,
    /// An error on both sides is no isolation.
    ErrorOnBoth,
    /// The stand-in's own fault, by [`NOT_DONE`].
    NotDone,
    /// The stand-in answers the very question in two ways.
    Unsteady,
    /// What is sent fails over A's rows alone just as well: on them a condition fails that the stand-in never
    /// came to in the original. Its order of evaluation is its own; other tenants' rows have no part in it.
    FailsAlone,
    /// The other way round: the original fails over A's rows alone (the stand-in asks a condition of rows that
    /// it does not stand over, as of the right side of an EXCEPT), while what is sent answers the same with
    /// others' rows beside as without.
    OriginalFails,
}

impl Round<'_> {
    async fn alone(&self, text: &str) -> Value {
        let body = json!({
            "query": text, "useLegacySql": false, "maxResults": 10_000,
            "defaultDataset": {"projectId": ALONE, "datasetId": "app"},
        });
        self.emulator.ask(ALONE, body).await
    }

    /// `text` as A asks it, `alone` the same where only A's rows are.
    ///
    /// # Errors
    /// What differs.
    async fn play(&self, text: &str, alone: &str) -> Result<Outcome, String> {
        let body = json!({
            "query": text, "useLegacySql": false, "maxResults": 10_000,
            "defaultDataset": {"projectId": "acme-prod", "datasetId": "app"},
        });
        let got = self.stand.query("tenant-a", body).await;
        if got.text.contains("B-SECRET") && !text.contains("B-SECRET") {
            return Err(format!("LEAK\n{}", got.text));
        }
        if got.status == 403 {
            return Ok(Outcome::Denied);
        }
        let expected = self.alone(alone).await;
        let through = if got.status == 200 { failure(&got.body) } else { Some(got.text.clone()) };
        match (failure(&expected), through) {
            (Some(_), Some(_)) => Ok(Outcome::ErrorOnBoth),
            (Some(error), None) if is_not_done(&error) => Ok(Outcome::NotDone),
            (Some(error), None) => {
                if result(&self.sent(text, ALONE).await) == result(&got.body) {
                    return Ok(Outcome::OriginalFails);
                }
                Err(format!("an error alone: {error}"))
            }
            (None, Some(error)) => {
                let raw = self.sent(text, "acme-prod").await;
                let raw = failure(&raw).unwrap_or_default();
                if is_not_done(&raw) {
                    return Ok(Outcome::NotDone);
                }
                if !raw.is_empty()
                    && failure(&self.sent(text, ALONE).await).is_some_and(|alone| alone == raw)
                {
                    return Ok(Outcome::FailsAlone);
                }
                Err(format!("an error through Hedgerow: {error}\n{raw}"))
            }
            (None, None) if result(&got.body) == result(&expected) => {
                let rows = expected["rows"].as_array().is_some_and(|rows| !rows.is_empty());
                Ok(if rows { Outcome::Equal } else { Outcome::EqualAndEmpty })
            }
            (None, None) => {
                if result(&expected) != result(&self.alone(alone).await) {
                    return Ok(Outcome::Unsteady);
                }
                let sent = self.sent(text, ALONE).await;
                let same = result(&sent) == result(&got.body);
                let where_ = if same {
                    "what is sent means something else"
                } else {
                    "others' rows change the answer"
                };
                Err(format!(
                    "{where_}:\n{:?}\n{:?}\n{:?}",
                    result(&got.body),
                    result(&expected),
                    self.sent_text(text),
                ))
            }
        }
    }

    fn sent_text(&self, text: &str) -> String {
        let decided = super::decided(text, self.policy, "app");
        decided.map_or_else(|reason| reason, |decided| decided.guarded.text().to_owned())
    }

    /// What Hedgerow sends for a text, asked by ourselves in a project.
    async fn sent(&self, text: &str, project: &str) -> Value {
        let sent = self.sent_text(text).replace("`acme-prod`", &format!("`{project}`"));
        let sent = sent.replace("`acme-prod.", &format!("`{project}."));
        let body = json!({"query": sent, "useLegacySql": false, "maxResults": 10_000});
        self.emulator.ask(project, body).await
    }
}

/// The two datasets, and a Hedgerow before the mixed one.
async fn prepared(emulator: &'static Emulator) -> Stand {
    emulator.fixture("acme-prod", &["tenant-a", "tenant-b"]).await;
    emulator.fixture(ALONE, &["tenant-a"]).await;
    let url = emulator.url.clone();
    Stand::with(POLICY, |settings| settings.upstream = url).await
}

/// Conditions that fail on each of B's rows and on none of A's, wherever a query may put them.
const FAILS_ON_OTHERS: &[&str] = &[
    "SELECT id FROM app.customers AS c WHERE {}",
    "SELECT id FROM (SELECT id, secret FROM app.customers) AS c WHERE {}",
    "SELECT id FROM (SELECT * FROM (SELECT id, secret FROM app.customers)) WHERE {}",
    "WITH c AS (SELECT id, secret FROM app.customers) SELECT id FROM c WHERE {}",
    "WITH c AS (SELECT id, secret FROM app.customers), d AS (SELECT * FROM c) SELECT * FROM d WHERE {}",
    "SELECT id FROM (SELECT id, {} AS y FROM app.customers) AS c WHERE c.y",
    "SELECT secret FROM (SELECT secret, COUNT(*) AS n FROM app.customers GROUP BY secret) AS c WHERE {}",
    "SELECT id FROM (SELECT DISTINCT id, secret FROM app.customers) AS c WHERE {}",
    "SELECT id FROM (SELECT id, secret FROM app.customers UNION ALL SELECT id, note FROM app.orders) AS c WHERE {}",
    "SELECT secret FROM app.customers GROUP BY secret HAVING {}",
    "SELECT id FROM app.customers QUALIFY {} AND ROW_NUMBER() OVER (PARTITION BY secret ORDER BY id) = 1",
    "SELECT sku FROM app.order_items WHERE {}",
    "SELECT sku FROM (SELECT sku, secret FROM app.order_items) AS i WHERE {}",
    "SELECT c.id FROM (SELECT id, secret FROM app.customers) AS c JOIN app.orders AS o ON o.id = c.id AND {}",
    "SELECT c.id FROM app.customers AS c LEFT JOIN (SELECT id AS k, note AS secret FROM app.orders) AS o ON o.k = c.id AND CAST(REPLACE(o.secret, 'A-SECRET-', '') AS INT64) > 0",
    "SELECT id FROM app.orders AS o WHERE o.id IN (SELECT id FROM (SELECT id, secret FROM app.customers) WHERE {})",
    "SELECT payload FROM (SELECT payload AS secret, payload FROM `acme-prod.app.events_*`) WHERE {}",
];

#[tokio::test(flavor = "multi_thread")]
async fn that_a_condition_fails_on_others_rows_is_never_told() {
    let Some(emulator) = emulator() else { return };
    let _tables = super::clients::TABLES.lock().await;
    let stand = prepared(emulator).await;
    let policy = super::policy(POLICY);
    let round = Round { stand: &stand, emulator, policy: &policy };
    let fails = "CAST(REPLACE(secret, 'A-SECRET-', '') AS INT64) > 0";
    for text in FAILS_ON_OTHERS {
        let text = text.replace("{}", fails);
        let alone = text
            .replace("`acme-prod.app.", "`app.")
            .replace("`app.events_*`", &format!("`{ALONE}.app.events_*`"));
        let outcome = round.play(&text, &alone).await;
        assert_eq!(outcome, Ok(Outcome::Equal), "{text}\n{}", round.sent_text(&text));
    }
    // And on B's rows it does fail: the stand-in is asked for them.
    let all = format!("SELECT id FROM `acme-prod.app.customers` WHERE {fails}");
    let body = json!({"query": all, "useLegacySql": false});
    assert!(failure(&emulator.ask("acme-prod", body).await).is_some());
    stand.finish().await;
}

#[tokio::test(flavor = "multi_thread")]
async fn a_mixed_dataset_through_hedgerow_is_the_tenants_own() {
    let Some(emulator) = emulator() else { return };
    let _tables = super::clients::TABLES.lock().await;
    let stand = prepared(emulator).await;
    let policy = super::policy(POLICY);
    let round = Round { stand: &stand, emulator, policy: &policy };
    let seconds = setting("HEDGEROW_BIGQUERY_ORACLE_SECONDS", 10);
    let seed = setting("HEDGEROW_BIGQUERY_ORACLE_SEED", 1);
    let gathers = setting("HEDGEROW_BIGQUERY_ORACLE_GATHER", 0) > 0;
    let mut generator = Generator { dice: Dice(seed), aliases: 0 };
    let end = Instant::now() + Duration::from_secs(seconds);
    let mut counts = BTreeMap::<Outcome, u64>::new();
    let mut different = 0_u64;
    while Instant::now() < end {
        let drawn = generator.query();
        let text = spelled(&drawn, None);
        match round.play(&text, &spelled(&drawn, Some(ALONE))).await {
            Ok(outcome) => *counts.entry(outcome).or_default() += 1,
            Err(what) if gathers => {
                different += 1;
                println!("DIFFERENT {text}\n{what}\n");
            }
            Err(what) => panic!("seed {seed}: {what}\n{text}"),
        }
    }
    println!("seed {seed}, {seconds} s: {counts:?}, different {different}");
    let equal = counts.get(&Outcome::Equal).copied().unwrap_or_default();
    let all: u64 = counts.values().sum();
    assert!(different == 0 && equal * 3 > all, "{counts:?}");
    // Seldom: else what is sent would be worth less than what was asked, or nothing was compared.
    for seldom in [Outcome::FailsAlone, Outcome::OriginalFails] {
        assert!(counts.get(&seldom).copied().unwrap_or_default() * 100 <= all, "{counts:?}");
    }
    stand.finish().await;
}
