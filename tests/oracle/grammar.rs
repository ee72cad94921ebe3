//! The grammar's expressions. Each has a type; each survives A's rows, and many fail at or tell of
//! any other row that they are evaluated on.

use crate::random::Random;
use crate::tables::{Column, Trick, Ty};
use crate::tree::{Sort, Tree};

/// A relation in scope.
#[derive(Clone, Debug)]
pub struct Source {
    pub alias: String,
    pub columns: Vec<Column>,
    /// `GROUP BY alias.id` makes every other column known.
    pub keyed: bool,
}

/// What an expression may name.
#[derive(Clone, Debug, Default)]
pub struct Scope {
    pub here: Vec<Source>,
    pub outer: Vec<Source>,
}

/// Where the world's tenants are spelled.
#[derive(Clone, Debug)]
pub struct Tenants {
    pub sql_type: &'static str,
    pub a: &'static str,
    pub b: &'static str,
}

/// One statement in the making.
pub struct Grammar {
    pub random: Random,
    pub tenants: Tenants,
    pub names: usize,
    /// Common table expressions in scope.
    pub ctes: Vec<Source>,
    /// Values of `$1`, `$2`, …; none in protocols without parameters.
    pub parameters: Vec<String>,
    pub with_parameters: bool,
    /// The statement writes. A row lock in it skips the rows that it has written already, and which
    /// those are is settled by the plan: it takes none.
    pub writing: bool,
}

fn expression(ty: Ty, template: &str, children: Vec<Tree>) -> Tree {
    Tree::expression(ty, template, children)
}

impl Grammar {
    pub fn new(random: Random, tenants: Tenants, with_parameters: bool) -> Self {
        Self {
            random,
            tenants,
            names: 0,
            ctes: Vec::new(),
            parameters: Vec::new(),
            with_parameters,
            writing: false,
        }
    }

    /// A name of its own.
    pub fn name(&mut self, prefix: &str) -> String {
        self.names += 1;
        format!("{prefix}{}", self.names)
    }

    /// A type that columns have.
    pub fn ty(&mut self) -> Ty {
        self.random.choose(&Ty::ALL)
    }

    /// A literal, now and then one of B's values.
    pub fn literal(&mut self, ty: Ty) -> Tree {
        let lure = self.random.chance(25);
        let number = self.random.between(0, 6);
        let text = match ty {
            Ty::Int if lure => format!("4242{:02}", number + 1),
            Ty::Int => number.to_string(),
            Ty::Num if lure => format!("4242{:02}.5", number + 1),
            Ty::Num => format!("{number}.5"),
            Ty::Float => format!("{number}.25::float8"),
            Ty::Text if lure => format!("'B-SECRET-CODE-{}'::text", number + 1),
            Ty::Text if self.random.chance(30) => format!("'ann-{number}'::text"),
            Ty::Text => format!("'{number}'::text"),
            Ty::Json => format!("'{{\"k\": {number}}}'::jsonb"),
            Ty::Moment => format!("'2026-01-0{}Z'::timestamptz", number + 1),
            Ty::Date => format!("'2026-01-0{}'::date", number + 1),
            Ty::Bool => ["true", "false"][number % 2].to_owned(),
            Ty::Texts => format!("ARRAY['{number}', '7']"),
            Ty::Uuid => format!("'00000000-0000-4000-8000-{number:012}'::uuid"),
            Ty::Tenant => {
                let who = if self.random.chance(50) { self.tenants.b } else { self.tenants.a };
                format!("'{who}'::{}", self.tenants.sql_type)
            }
        };
        Tree::text(Sort::Expression(ty), text)
    }

    /// A literal that no spy tells of: whether a constant is evaluated is settled by the plan.
    pub fn constant(&mut self, ty: Ty) -> Tree {
        let number = self.random.below(7);
        let (value, cast) = match ty {
            Ty::Text => (number.to_string(), "text"),
            Ty::Int => (number.to_string(), "int"),
            Ty::Num => (format!("{number}.5"), "numeric"),
            _ => return self.literal(ty),
        };
        if let Some(parameter) = self.parameter(ty, &value, cast) {
            return parameter;
        }
        let text = if ty == Ty::Text { format!("'{value}'::text") } else { value };
        Tree::text(Sort::Expression(ty), text)
    }

    /// `$n`, where the way of sending takes parameters; now and then.
    fn parameter(&mut self, ty: Ty, value: &str, cast: &str) -> Option<Tree> {
        if !self.with_parameters || !self.random.chance(30) {
            return None;
        }
        self.parameters.push(value.to_owned());
        let text = format!("${}::{cast}", self.parameters.len());
        Some(Tree::text(Sort::Expression(ty), text).feature("parameter"))
    }

    /// A column beside one of B's values: the comparison is true on B's rows alone. The column is
    /// bare, so that no function can tell of the literal.
    fn lure(&mut self, scope: &Scope) -> Option<Tree> {
        let ty = self.random.choose(&[Ty::Int, Ty::Text, Ty::Num, Ty::Tenant, Ty::Text]);
        let (column, _) = self.column(scope, ty)?;
        let number = self.random.between(1, 12);
        let (value, cast) = match ty {
            Ty::Int => ((424_200 + number).to_string(), "int"),
            Ty::Num => (format!("{}.5", 424_200 + number), "numeric"),
            Ty::Tenant => (self.tenants.b.to_owned(), self.tenants.sql_type),
            _ => {
                let word = self.random.pick(&["B-SECRET-", "B-SECRET-CODE-", "B-SECRET-SKU-"]);
                (format!("{word}{number}"), "text")
            }
        };
        let value = self
            .parameter(ty, &value, cast)
            .unwrap_or_else(|| Tree::text(Sort::Expression(ty), format!("'{value}'::{cast}")));
        let template =
            self.random.pick(&["($ = $)", "($ = $)", "($ IN ($))", "($ >= $)", "($ <> $)"]);
        Some(expression(Ty::Bool, template, vec![column, value]).feature("lure"))
    }

    /// A column of the type; now and then of an outer query.
    pub fn column(&mut self, scope: &Scope, ty: Ty) -> Option<(Tree, Trick)> {
        let outer = !scope.outer.is_empty() && self.random.chance(15);
        let from = if outer { &scope.outer } else { &scope.here };
        let fitting: Vec<(&Source, &Column)> = from
            .iter()
            .flat_map(|source| source.columns.iter().map(move |column| (source, column)))
            .filter(|(_, column)| column.ty == ty)
            .collect();
        if fitting.is_empty() {
            return None;
        }
        let (source, column) = fitting[self.random.below(fitting.len())];
        let text = format!("{}.{}", source.alias, column.name);
        let tree = Tree::text(Sort::Expression(ty), text);
        Some((if outer { tree.feature("correlated") } else { tree }, column.trick))
    }

    /// An expression of the type.
    pub fn expression(&mut self, scope: &Scope, ty: Ty, depth: usize) -> Tree {
        if depth == 0 || self.random.chance(30) {
            return match self.column(scope, ty) {
                Some((column, _)) if self.random.chance(80) => column,
                _ => self.constant(ty),
            };
        }
        if self.random.chance(40)
            && let Some(unsafe_one) = self.unsafe_expression(scope, ty)
        {
            return unsafe_one;
        }
        let below = depth - 1;
        if self.random.chance(6) {
            let parts = vec![
                self.condition(scope, below),
                self.expression(scope, ty, below),
                self.expression(scope, ty, below),
            ];
            return expression(ty, "CASE WHEN $ THEN $ ELSE $ END", parts).feature("case");
        }
        if self.random.chance(5) {
            let parts = vec![self.expression(scope, ty, below), self.expression(scope, ty, 0)];
            return expression(ty, "coalesce($, $)", parts);
        }
        if self.random.chance(6) {
            return self.scalar_subquery(scope, ty, below);
        }
        let same = |grammar: &mut Self, template: &str| {
            let parts =
                vec![grammar.expression(scope, ty, below), grammar.expression(scope, ty, 0)];
            expression(ty, template, parts)
        };
        match ty {
            Ty::Bool => self.condition(scope, below),
            Ty::Int | Ty::Num | Ty::Float => match self.random.below(5) {
                0 => same(self, "($ + $)"),
                1 => same(self, "($ - $)"),
                2 => same(self, "greatest($, $)"),
                3 if ty == Ty::Int => {
                    expression(ty, "length($)", vec![self.expression(scope, Ty::Text, below)])
                }
                _ => expression(ty, "abs($)", vec![self.expression(scope, ty, below)]),
            },
            Ty::Text => match self.random.below(6) {
                0 => same(self, "($ || $)"),
                1 => expression(ty, "upper($)", vec![self.expression(scope, ty, below)]),
                2 => expression(ty, "lower($)", vec![self.expression(scope, ty, below)]),
                3 => {
                    let other = self.ty();
                    expression(ty, "($)::text", vec![self.expression(scope, other, below)])
                }
                4 => expression(ty, "left($, 3)", vec![self.expression(scope, ty, below)]),
                _ => expression(ty, "($ ->> 'k')", vec![self.expression(scope, Ty::Json, below)]),
            },
            Ty::Json => match self.random.below(2) {
                0 => expression(ty, "to_jsonb($)", vec![self.expression(scope, Ty::Text, below)]),
                _ => expression(ty, "($ -> 'k')", vec![self.expression(scope, ty, below)]),
            },
            Ty::Moment => {
                expression(ty, "date_trunc('day', $)", vec![self.expression(scope, ty, below)])
            }
            Ty::Texts => expression(ty, "ARRAY[$]", vec![self.expression(scope, Ty::Text, below)]),
            Ty::Uuid | Ty::Date | Ty::Tenant => {
                self.column(scope, ty).map_or_else(|| self.literal(ty), |(column, _)| column)
            }
        }
    }

    /// An expression over a column that is harmless on A's rows only.
    fn unsafe_expression(&mut self, scope: &Scope, ty: Ty) -> Option<Tree> {
        use {Trick as K, Ty as T};
        let number = self.random.between(1, 9);
        let from = match ty {
            T::Int => self.random.choose(&[T::Int, T::Int, T::Text, T::Num, T::Json, T::Texts]),
            T::Num => self.random.choose(&[T::Num, T::Float, T::Text]),
            T::Bool => self.random.choose(&[T::Text, T::Int, T::Date, T::Moment]),
            T::Json | T::Date | T::Uuid | T::Text => T::Text,
            T::Float => T::Float,
            T::Moment => T::Moment,
            T::Texts | T::Tenant => return None,
        };
        let (column, trick) = self.column(scope, from)?;
        let template = match (ty, from, trick) {
            (T::Int, T::Int, K::Small) => self
                .random
                .pick(&[
                    "(1000 / ($ - 424203))",
                    "($ * 10000)",
                    "($)::int2::int",
                    "ascii(chr($ + 1))",
                    "spy($)",
                    "length(repeat('abcdefghij', $))",
                    "(100 % ($ - 424201))",
                    "(sqrt(1000 - $))::int",
                    "get_bit('\\xffffffffffff'::bytea, $)",
                    "(3 << ($)::int2)",
                ])
                .to_owned(),
            (T::Int, T::Int, _) => "spy($)".to_owned(),
            (T::Int, T::Text, K::IntText) => self
                .random
                .pick(&["($)::int", "spy($)::int", "cast($ AS int)", "to_number($, '9')::int"])
                .to_owned(),
            (T::Int, T::Num, K::Small) => "($)::int2::int".to_owned(),
            (T::Int, T::Json, K::JsonK) => self
                .random
                .pick(&["($ ->> 'k')::int", "($ -> 'k')::int", "($ ->> 'k')::numeric::int"])
                .to_owned(),
            (T::Int, T::Texts, K::IntTexts) => self
                .random
                .pick(&["($)[1]::int", "(($)::int[])[1]", "($)[1:1]::int[] [1]"])
                .to_owned(),
            (T::Num, T::Num, K::Small) => self
                .random
                .pick(&[
                    "(1 / ($ - 424202.5))",
                    "($)::numeric(5,2)",
                    "spy($)",
                    "ln(1000 - $)",
                    "power($ + 1, 50)::numeric(90,0)",
                ])
                .to_owned(),
            (T::Num, T::Float, K::Small) => "(1 / ($ - 424202.5)::numeric)".to_owned(),
            (T::Num, T::Text, K::IntText) => "($)::numeric".to_owned(),
            (T::Float, T::Float, K::Small) => self
                .random
                .pick(&["exp($ / 100)", "(1 / ($ - 424201.5))", "sqrt(1000 - $)"])
                .to_owned(),
            (T::Bool, T::Text, K::Pattern) => self
                .random
                .pick(&[
                    "('pat1x' LIKE $)",
                    "('B-SECRET-NOTE-1x' LIKE $)",
                    "('B-SECRET-NOTE-2x' ~~* $)",
                    "('a' ~ $)",
                ])
                .to_owned(),
            (T::Bool, T::Text, K::ClassText) => self
                .random
                .pick(&[
                    "has_table_privilege($, 'select')",
                    "(($)::regclass::oid > 0::oid)",
                    "(to_regclass($) IS NULL)",
                ])
                .to_owned(),
            (T::Bool, T::Text, K::IntText) => self
                .random
                .pick(&["(($)::int > 2)", "($)::int::bool", "trip($)", "(($)::int IN (1, 2, 3))"])
                .to_owned(),
            (T::Bool, T::Text, K::DateText) => "(($)::date > '2026-02-03')".to_owned(),
            (T::Bool, T::Text, K::UuidText) => {
                "(($)::uuid <> '00000000-0000-4000-8000-000000000001')".to_owned()
            }
            (T::Bool, T::Text, _) => self.random.pick(&["trip($)", "(spy($) > 'a')"]).to_owned(),
            (T::Bool, T::Int, K::Small) => self
                .random
                .pick(&["(10 / ($ - 424201) < 1)", "(spy($) > 1)", "(($)::int2 > 1)"])
                .to_owned(),
            (T::Bool, T::Int, _) => "(spy($) > 3)".to_owned(),
            (T::Bool, T::Date, K::Year) => "(($ + 2147483647 / 1000) > '2026-01-01')".to_owned(),
            (T::Bool, T::Moment, K::Year) => "($ + interval '290500 years' > now())".to_owned(),
            (T::Moment, T::Moment, K::Year) => "($ + interval '290500 years')".to_owned(),
            (T::Json, T::Text, K::JsonText | K::IntText) => "($)::jsonb".to_owned(),
            (T::Date, T::Text, K::DateText) => {
                self.random.pick(&["($)::date", "to_date($, 'YYYY-MM-DD')"]).to_owned()
            }
            (T::Uuid, T::Text, K::UuidText) => "($)::uuid".to_owned(),
            (T::Text, T::Text, K::ClassText) => "($)::regclass::text".to_owned(),
            (T::Text, T::Text, _) => {
                ["spy($)", "spy(lower($))", "split_part($, '-', 1)"][number % 3].to_owned()
            }
            _ => return None,
        };
        Some(expression(ty, &template, vec![column]).feature("unsafe"))
    }

    /// A boolean.
    pub fn condition(&mut self, scope: &Scope, depth: usize) -> Tree {
        use Ty::Bool;
        if self.random.chance(35)
            && let Some(unsafe_one) = self.unsafe_expression(scope, Bool)
        {
            return unsafe_one;
        }
        if self.random.chance(6)
            && let Some(lure) = self.lure(scope)
        {
            return lure;
        }
        let below = depth.saturating_sub(1);
        let kinds = if depth == 0 { 7 } else { 16 };
        let ty = self.ty();
        let one = self.expression(scope, ty, below);
        match self.random.below(kinds) {
            0..=3 => {
                // Equality of jsonb and arrays is fine; order too.
                let operator = self.random.pick(&["=", "<>", "<", ">=", ">", "<="]);
                let operator = if ty == Ty::Bool { "=" } else { operator };
                let other = self.expression(scope, ty, below);
                expression(Bool, &format!("($ {operator} $)"), vec![one, other])
            }
            4 => expression(Bool, "($ IS NOT NULL)", vec![one]),
            5 => expression(Bool, "($ IS NULL)", vec![one]),
            6 => {
                let other = self.expression(scope, ty, 0);
                expression(Bool, "($ IS DISTINCT FROM $)", vec![one, other])
            }
            7 | 8 => {
                let parts = vec![self.condition(scope, below), self.condition(scope, below)];
                expression(Bool, "($ AND $)", parts)
            }
            9 | 10 => {
                let parts = vec![self.condition(scope, below), self.condition(scope, below)];
                expression(Bool, "($ OR $)", parts)
            }
            11 => expression(Bool, "(NOT $)", vec![self.condition(scope, below)]),
            12 => {
                let parts = vec![one, self.literal(ty), self.expression(scope, ty, 0)];
                expression(Bool, "($ IN ($, $))", parts)
            }
            13 => {
                let text = self.expression(scope, Ty::Text, below);
                let pattern = self.random.pick(&["'ann%'", "'%SECRET%'", "'_'", "'a%\\%'"]);
                let operator = self.random.pick(&["LIKE", "NOT LIKE", "ILIKE"]);
                expression(Bool, &format!("($ {operator} {pattern})"), vec![text])
            }
            14 => self.subquery_condition(scope, below),
            _ => {
                let json = self.expression(scope, Ty::Json, 0);
                let texts = self.expression(scope, Ty::Texts, 0);
                match self.random.below(5) {
                    0 => expression(Bool, "($ @> '{\"k\": 1}'::jsonb)", vec![json]),
                    1 => expression(Bool, "($ ? 'k')", vec![json]),
                    2 => expression(Bool, "($ && '{7}'::text[])", vec![texts]),
                    3 => {
                        let text = self.expression(scope, Ty::Text, 0);
                        expression(Bool, "($ = ANY ($))", vec![text, texts])
                    }
                    _ => {
                        let number = self.expression(scope, Ty::Int, below);
                        expression(Bool, "($ BETWEEN 1 AND 5)", vec![number])
                    }
                }
            }
        }
    }
}
