//! Whether guards and shields mean, to the service's own analyzer, what Hedgerow takes them for: generated
//! statements whose names are made to collide are decided, and what would be sent is analysed by ZetaSQL, which
//! numbers every column (`zetasql/guards.mjs` says what must hold).
//!
//! `HEDGEROW_ZETASQL_STATEMENTS` says how many, `HEDGEROW_ZETASQL_SEED` from where.

use hedgerow::claims::{Claims, Principal, TenantClaim};
use hedgerow::sql::Limits;
use hedgerow::sql::bigquery::{Place, decide};
use serde_json::json;

use super::oracle::{Dice, setting};
use super::zetasql::{parser, read_by};
use super::{ATTACKS, Attacks, POLICY, policy};

/// What no client's text holds.
const TENANT: &str = "the-tenant-itself";

#[derive(Clone, Copy, PartialEq, Eq)]
enum Type {
    Number,
    Text,
    /// `STRUCT<tenant_id STRING, age INT64>`
    Profile,
}
use Type::{Number, Profile, Text};

type Columns = Vec<(String, Type)>;

/// A range variable and its columns.
#[derive(Clone)]
struct Variable {
    name: String,
    columns: Columns,
}

const TABLES: &[(&str, &[(&str, Type)])] = &[
    (
        "app.customers",
        &[
            ("id", Number),
            ("tenant_id", Text),
            ("credit", Number),
            ("secret", Text),
            ("c", Profile),
            ("profile", Profile),
        ],
    ),
    (
        "app.orders",
        &[
            ("id", Number),
            ("tenant_id", Text),
            ("customer_id", Number),
            ("total", Number),
            ("note", Text),
        ],
    ),
    ("app.order_items", &[("order_id", Number), ("credit", Number), ("sku", Text)]),
    ("app.currencies", &[("code", Text), ("rate", Number), ("profile", Profile)]),
];

/// Few, so that columns, tables, fields and range variables have each other's names.
const NAMES: &[&str] =
    &["c", "o", "s", "customers", "orders", "credit", "profile", "tenant_id", "id", "k", "n"];

/// The schema as the analyzer is told it.
fn schema() -> serde_json::Value {
    let tables = TABLES.iter().map(|(name, columns)| {
        let columns = columns.iter().map(|(name, of)| {
            let of = match of {
                Number => json!("INT64"),
                Text => json!("STRING"),
                Profile => json!({"tenant_id": "STRING", "age": "INT64"}),
            };
            ((*name).to_owned(), of)
        });
        let columns: serde_json::Map<_, _> = columns.collect();
        let mut table = json!({"columns": columns});
        match *name {
            "app.customers" | "app.orders" => table["tenant"] = json!("tenant_id"),
            "app.order_items" => table["through"] = json!("order_id"),
            _ => {}
        }
        (format!("acme-prod.{name}"), table)
    });
    json!({"tenant": TENANT, "tables": tables.collect::<serde_json::Map<_, _>>()})
}

struct Generator {
    dice: Dice,
    /// Common table expressions that can be read, with their columns.
    entries: Vec<Variable>,
}

impl Generator {
    fn name(&mut self) -> String {
        self.dice.of(NAMES).to_owned()
    }

    /// A name that is not among those.
    fn other(&mut self, than: &[String]) -> String {
        loop {
            let mut name = self.name();
            if self.dice.one_in(4) {
                name.push('2');
            }
            if !than.contains(&name) {
                return name;
            }
        }
    }

    /// A column of a type, or a field of one.
    fn column(&mut self, of: Type, scope: &[Variable]) -> Option<String> {
        let mut found = Vec::new();
        for variable in scope {
            for (name, have) in &variable.columns {
                let field = match (of, have) {
                    (Number, Profile) => ".age",
                    (Text, Profile) => ".tenant_id",
                    (of, have) if of == *have => "",
                    _ => continue,
                };
                found.push(if self.dice.one_in(15) {
                    format!("{name}{field}")
                } else if self.dice.one_in(12) {
                    format!("({}.{name}){field}", variable.name)
                } else {
                    format!("{}.{name}{field}", variable.name)
                });
            }
        }
        if found.is_empty() { None } else { Some(found.swap_remove(self.dice.roll(found.len()))) }
    }

    fn number(&mut self, scope: &[Variable], depth: usize) -> String {
        let Some(column) = self.column(Number, scope) else { return "7".to_owned() };
        match self.dice.roll(14) {
            0 | 1 => format!("DIV(7, {column} - 5)"),
            2 => match self.column(Text, scope) {
                Some(text) => format!("CAST({text} AS INT64)"),
                None => "8".to_owned(),
            },
            3 => format!("IF({column} > 2, {column}, 0)"),
            4 => format!("COALESCE({column}, DIV(1, {column}))"),
            5 if depth > 0 => match self.sub_query(Number, scope, depth - 1) {
                Some(query) => format!("({query} LIMIT 1)"),
                None => column,
            },
            6 => format!("CASE WHEN {} THEN {column} ELSE 3 END", self.condition(scope, 0)),
            7 if depth > 0 => match self.sub_query(Number, scope, depth - 1) {
                Some(query) => {
                    let mapped = self.dice.of(&["u", "DIV(1, u - 5)"]);
                    let asked = self.dice.of(&["u > 0", "DIV(1, u - 5) > 0"]);
                    format!("(SELECT MAX({mapped}) FROM UNNEST(ARRAY({query})) AS u WHERE {asked})")
                }
                None => column,
            },
            8 if depth > 0 => match self.sub_query(Profile, scope, depth - 1) {
                Some(query) => format!("({query} LIMIT 1).age"),
                None => column,
            },
            _ => column,
        }
    }

    fn text(&mut self, scope: &[Variable]) -> String {
        let Some(column) = self.column(Text, scope) else { return "'x'".to_owned() };
        match self.dice.roll(8) {
            0 => format!("UPPER({column})"),
            1 => format!("REPEAT({column}, 1)"),
            2 => "'x'".to_owned(),
            _ => column,
        }
    }

    fn value(&mut self, of: Type, scope: &[Variable], depth: usize) -> String {
        match of {
            Number => self.number(scope, depth),
            Text => self.text(scope),
            Profile if self.dice.one_in(2) => {
                format!("STRUCT('x' AS tenant_id, {} AS age)", self.number(scope, 0))
            }
            Profile => self
                .column(Profile, scope)
                .unwrap_or_else(|| "STRUCT('x' AS tenant_id, 1 AS age)".to_owned()),
        }
    }

    fn condition(&mut self, scope: &[Variable], depth: usize) -> String {
        match self.dice.roll(16) {
            0..=3 => format!("DIV(1, {} - 5) > 0", self.number(scope, depth)),
            4 => format!("{} = {}", self.text(scope), self.text(scope)),
            5 => format!("{} IN (1, {})", self.number(scope, 0), self.number(scope, 0)),
            6 => format!("{} BETWEEN 1 AND {}", self.number(scope, 0), self.number(scope, 0)),
            7 => format!("{} LIKE 'x%'", self.text(scope)),
            8 | 9 => {
                let word = self.dice.of(&["AND", "OR"]);
                format!(
                    "({} {word} {})",
                    self.condition(scope, depth),
                    self.condition(scope, depth)
                )
            }
            10 => format!("NOT ({})", self.condition(scope, depth)),
            11 | 12 if depth > 0 => match self.sub_query(Number, scope, depth - 1) {
                Some(query) => format!("{} IN ({query})", self.number(scope, 0)),
                None => "TRUE".to_owned(),
            },
            13 if depth > 0 => match self.sub_query(Number, scope, depth - 1) {
                Some(query) => format!("EXISTS ({query})"),
                None => "TRUE".to_owned(),
            },
            _ => format!(
                "{} {} {}",
                self.number(scope, depth),
                self.dice.of(&["=", ">", "<="]),
                self.number(scope, 0)
            ),
        }
    }

    /// A query of one column, which may read what is around it.
    fn sub_query(&mut self, of: Type, around: &[Variable], depth: usize) -> Option<String> {
        let (from, mut scope) = self.from(depth);
        let own = scope.clone();
        if self.dice.one_in(2) {
            scope.extend_from_slice(around);
        }
        let filter = self.filter(&scope, depth);
        Some(format!("SELECT {} FROM {from}{filter}", self.value(of, &own, 0)))
    }

    fn filter(&mut self, scope: &[Variable], depth: usize) -> String {
        if self.dice.one_in(3) {
            return String::new();
        }
        format!(" WHERE {}", self.condition(scope, depth))
    }

    fn source(&mut self, depth: usize, taken: &[String]) -> (String, Variable) {
        let mut name = self.other(taken);
        if depth > 0 && self.dice.one_in(3) {
            let (text, columns) = self.query(depth - 1);
            return (format!("({text}) AS {name}"), Variable { name, columns });
        }
        if !self.entries.is_empty() && self.dice.one_in(3) {
            let entry = self.entries[self.dice.roll(self.entries.len())].clone();
            return (
                format!("{} AS {name}", entry.name),
                Variable { name, columns: entry.columns },
            );
        }
        if self.dice.one_in(8) {
            let column = self.name();
            let text = format!("(SELECT STRUCT('x' AS tenant_id, 5 AS age) AS {column}) AS {name}");
            return (text, Variable { name, columns: vec![(column, Profile)] });
        }
        let (table, columns) = TABLES[self.dice.roll(TABLES.len())];
        let columns = columns.iter().map(|(name, of)| ((*name).to_owned(), *of)).collect();
        let plain = table.trim_start_matches("app.").to_owned();
        if self.dice.one_in(3) && !taken.contains(&plain) {
            name.clone_from(&plain);
            return (table.to_owned(), Variable { name, columns });
        }
        (format!("{table} AS {name}"), Variable { name, columns })
    }

    fn from(&mut self, depth: usize) -> (String, Vec<Variable>) {
        let (mut text, first) = self.source(depth, &[]);
        let mut taken = vec![first.name.clone()];
        let mut scope = vec![first];
        for _ in 0..self.dice.roll(3) {
            let (source, variable) = self.source(depth.saturating_sub(1), &taken);
            taken.push(variable.name.clone());
            let shared = scope.first().and_then(|first| {
                first.columns.iter().find(|(name, of)| {
                    *of != Profile && variable.columns.contains(&(name.clone(), *of))
                })
            });
            let shared = shared.map(|(name, _)| name.clone());
            scope.push(variable);
            let comma = text.contains(", ");
            let kind = self.dice.of(&["JOIN", "LEFT JOIN", "RIGHT JOIN", "FULL JOIN", ","]);
            let kind = if comma && kind != "," { "JOIN" } else { kind };
            text = match shared {
                _ if kind == "," => format!("{text}, {source}"),
                Some(column) if scope.len() == 2 && self.dice.one_in(3) => {
                    format!("{text} {kind} {source} USING ({column})")
                }
                _ => format!("{text} {kind} {source} ON {}", self.condition(&scope, 0)),
            };
        }
        (text, scope)
    }

    /// A SELECT list, and the columns that it makes as far as they are known.
    fn list(&mut self, scope: &[Variable], depth: usize) -> (Vec<String>, Columns) {
        let mut items = Vec::new();
        let mut columns = Columns::new();
        let mut names: Vec<String> = Vec::new();
        for _ in 0..=self.dice.roll(3) {
            let variable = scope[self.dice.roll(scope.len())].clone();
            let of = [Number, Number, Text, Profile][self.dice.roll(4)];
            let of_fields = variable.columns.iter().find(|(_, of)| *of == Profile);
            match self.dice.roll(8) {
                7 if of_fields.is_some() => {
                    let column = &of_fields.unwrap().0;
                    items.push(format!("{}.{column}.*", variable.name));
                    let fields = [("tenant_id", Text), ("age", Number)];
                    names.extend(fields.map(|(name, _)| name.to_owned()));
                    columns.extend(fields.map(|(name, of)| (name.to_owned(), of)));
                }
                0 => {
                    items.push(format!("{}.*", variable.name));
                    names.extend(variable.columns.iter().map(|(name, _)| name.clone()));
                    columns.extend(variable.columns);
                }
                1 | 2 => {
                    let at = self.dice.roll(variable.columns.len());
                    let (name, of) = variable.columns[at].clone();
                    if !names.contains(&name) {
                        items.push(format!("{}.{name}", variable.name));
                        names.push(name.clone());
                        columns.push((name, of));
                    }
                }
                _ => {
                    let name = self.other(&names);
                    items.push(format!("{} AS {name}", self.value(of, scope, depth)));
                    names.push(name.clone());
                    columns.push((name, of));
                }
            }
        }
        if items.is_empty() {
            items.push("1 AS one".to_owned());
            columns.push(("one".to_owned(), Number));
        }
        (items, columns)
    }

    fn select(&mut self, depth: usize) -> (String, Columns) {
        let (from, scope) = self.from(depth);
        let filter = self.filter(&scope, depth);
        match self.dice.roll(5) {
            0 => {
                let key = self.number(&scope, 0);
                let (k, n) = (self.name(), "made".to_owned());
                let inner = self.number(&scope, 0);
                let name = self.dice.of(&["COUNT", "SUM", "MAX", "MIN", "ANY_VALUE"]);
                let inner_of_one = self.dice.of(&["MAX", "SUM", "ANY_VALUE"]);
                let outer = vec![Variable {
                    name: "unused".to_owned(),
                    columns: vec![(k.clone(), Number), (n.clone(), Number)],
                }];
                let having = match self.dice.roll(7) {
                    3 => format!(" HAVING IF(COUNT(*) > 0, DIV(1, {k} - 5) > 0, TRUE)"),
                    4 => format!(" HAVING COALESCE(DIV({inner_of_one}({k}), 7), COUNT(*)) > 0"),
                    5 => format!(" HAVING {k} - COUNT(*) BETWEEN 0 AND DIV(1, {k})"),
                    0 => format!(" HAVING DIV(1, {name}({inner}) - 5) > 0"),
                    1 => format!(" HAVING DIV(1, {k} - 5) > 0 AND COUNT(*) > 1"),
                    2 => format!(" HAVING {}", self.condition(&outer, 0).replace("unused.", "")),
                    _ => String::new(),
                };
                let text = format!(
                    "SELECT {key} AS {k}, {name}({inner}) AS {n} FROM {from}{filter} GROUP BY {}{having}",
                    self.dice.of(&["1", k.as_str()])
                );
                (text, vec![(k, Number), (n, Number)])
            }
            1 => {
                let (mut items, mut columns) = self.list(&scope, 0);
                let key = self.number(&scope, 0);
                let order = self.number(&scope, 0);
                let name = self.dice.of(&[
                    "ROW_NUMBER()",
                    "COUNT(*)",
                    "MAX(1)",
                    "FIRST_VALUE(1)",
                    "LAG(1)",
                ]);
                let named = self.dice.one_in(3);
                let window = format!("PARTITION BY {key} ORDER BY {order}");
                let (over, windows) = if named {
                    ("w".to_owned(), format!(" WINDOW w AS ({window})"))
                } else {
                    (format!("({window})"), String::new())
                };
                items.push(format!("{name} OVER {over} AS rn"));
                columns.push(("rn".to_owned(), Number));
                let condition = self.condition(&scope, 0);
                let qualify = self.dice.of(&["rn = 1 AND ", "", "DIV(1, rn) > 0 AND "]);
                let text = format!(
                    "SELECT {} FROM {from}{filter} QUALIFY {qualify}{condition}{windows}",
                    items.join(", ")
                );
                (text, columns)
            }
            _ => {
                let (items, columns) = self.list(&scope, depth);
                let distinct = if self.dice.one_in(8) { "DISTINCT " } else { "" };
                (format!("SELECT {distinct}{} FROM {from}{filter}", items.join(", ")), columns)
            }
        }
    }

    fn query(&mut self, depth: usize) -> (String, Columns) {
        let (text, columns) = self.select(depth);
        let plain = columns.iter().all(|(_, of)| *of != Profile);
        if !self.dice.one_in(6) || !plain || text.contains('*') {
            return (text, columns);
        }
        let (from, scope) = self.from(0);
        let filter = self.filter(&scope, 0);
        let values: Vec<String> =
            columns.iter().map(|(_, of)| self.value(*of, &scope, 0)).collect();
        let word =
            self.dice.of(&["UNION ALL", "UNION DISTINCT", "EXCEPT DISTINCT", "INTERSECT DISTINCT"]);
        (format!("({text}) {word} SELECT {} FROM {from}{filter}", values.join(", ")), columns)
    }

    fn statement(&mut self) -> String {
        self.entries.clear();
        let mut with = Vec::new();
        for _ in 0..self.dice.roll(3).saturating_sub(usize::from(self.dice.one_in(2))) {
            let (text, columns) = self.query(1);
            let name = format!("cte{}", with.len());
            with.push(format!("{name} AS ({text})"));
            self.entries.push(Variable { name, columns });
        }
        let with =
            if with.is_empty() { String::new() } else { format!("WITH {} ", with.join(", ")) };
        let kind = self.dice.roll(14);
        if (kind < 2) || kind == 13 {
            self.entries.clear();
        }
        match kind {
            0 => {
                let (from, mut scope) = self.source(0, &["t".to_owned()]);
                let columns =
                    TABLES[0].1.iter().map(|(name, of)| ((*name).to_owned(), *of)).collect();
                scope.columns.retain(|(name, _)| name != "t");
                let scope = [Variable { name: "t".to_owned(), columns }, scope];
                format!(
                    "UPDATE app.customers AS t SET credit = {} FROM {from} WHERE {}",
                    self.number(&scope, 0),
                    self.condition(&scope, 1)
                )
            }
            1 => {
                let columns =
                    TABLES[1].1.iter().map(|(name, of)| ((*name).to_owned(), *of)).collect();
                let scope = [Variable { name: "orders".to_owned(), columns }];
                format!("DELETE FROM app.orders WHERE {}", self.condition(&scope, 1))
            }
            13 => {
                let (using, source) = self.source(1, &["t".to_owned()]);
                let columns =
                    TABLES[0].1.iter().map(|(name, of)| ((*name).to_owned(), *of)).collect();
                let target = Variable { name: "t".to_owned(), columns };
                let own = [source.clone()];
                let both = [target, source];
                format!(
                    "MERGE app.customers AS t USING {using} ON {} WHEN MATCHED AND {} THEN UPDATE SET credit = {} WHEN NOT MATCHED AND {} THEN INSERT (tenant_id, id) VALUES ('x', {})",
                    self.condition(&both, 0),
                    self.condition(&both, 1),
                    self.number(&both, 0),
                    self.condition(&own, 1),
                    self.number(&own, 0),
                )
            }
            12 => {
                let (query, columns) = self.query(1);
                let named = |of| columns.iter().find(|(_, have)| *have == of);
                let (Some((n, _)), Some((t, _))) = (named(Number), named(Text)) else {
                    return format!("{with}{query}");
                };
                let (n, t) = (n.clone(), t.clone());
                let made =
                    [Variable { name: "p".to_owned(), columns: vec![("px".to_owned(), Number)] }];
                format!(
                    "{with}SELECT * FROM (SELECT {n}, {t} FROM ({query})) PIVOT(SUM({n}) FOR {t} IN ('x' AS px)) AS p WHERE {}",
                    self.condition(&made, 0)
                )
            }
            _ => format!("{with}{}", self.query(2).0),
        }
    }
}

#[test]
fn guards_mean_to_the_services_own_analyzer_what_they_are_taken_for() {
    let Some(directory) = parser() else { return };
    let policy = policy(POLICY);
    let principal = Principal::assumed(Some(TenantClaim::Text(TENANT.into())), Claims::default());
    let place = Place {
        project: "acme-prod".into(),
        default_dataset: Some(("acme-prod".into(), "app".into())),
        session: false,
    };
    let mut lines = vec![schema().to_string()];
    let mut denied = std::collections::BTreeMap::<String, usize>::new();
    let mut take =
        |original: &str| match decide(original, &policy, &principal, &place, Limits::default()) {
            Ok(decided) if decided.kinds.len() == 1 => {
                let in_full = original.replace("app.", "`acme-prod`.app.");
                lines
                    .push(json!({"original": in_full, "sent": decided.guarded.text()}).to_string());
            }
            Ok(_) => {}
            Err(denial) => *denied.entry(denial.to_string()).or_default() += 1,
        };
    let attacks: Attacks = serde_saphyr::from_str(ATTACKS).unwrap();
    attacks.attacks.iter().flat_map(|attack| &attack.sql).for_each(|sql| take(sql));
    let dice = Dice(setting("HEDGEROW_ZETASQL_SEED", 1));
    let mut generator = Generator { dice, entries: Vec::new() };
    let count = setting("HEDGEROW_ZETASQL_STATEMENTS", 4_000);
    for _ in 0..count {
        take(&generator.statement());
    }
    let sent = lines.len() - 1;
    let (sound, told) = read_by(&directory, "guards.mjs", lines);
    println!("{count} statements, {sent} sent, denied: {denied:#?}\n{told}");
    assert!(sound, "guards do not mean what they are taken for");
    let last = told.lines().rfind(|line| line.contains("\"unread\"")).unwrap();
    let counts: serde_json::Value = serde_json::from_str(last).unwrap();
    assert!(counts["read"].as_u64().unwrap() * 4 >= count, "too few can be read: {counts}");
}
