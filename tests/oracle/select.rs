//! The grammar's queries.

use crate::grammar::{Grammar, Scope, Source};
use crate::tables::{Column, TABLES, Table, Trick, Ty};
use crate::tree::{Sort, Tree};

/// A query and its columns.
pub struct Query {
    pub tree: Tree,
    pub columns: Vec<Column>,
    /// Its rows come in an order that the data settles.
    pub ordered: bool,
}

/// Where a query stands.
#[derive(Clone, Copy, PartialEq, Eq)]
pub enum Place {
    Top,
    Inner,
}

impl Grammar {
    /// `(SELECT aggregate …)` or one with LIMIT 1: a single value.
    pub fn scalar_subquery(&mut self, scope: &Scope, ty: Ty, depth: usize) -> Tree {
        let outer = self.inner_scope(scope);
        let (relation, here) = self.relation(&outer, 1);
        let inner = Scope { here, outer: outer.outer };
        let value = self.expression(&inner, ty, depth.min(1));
        let condition = self.condition(&inner, depth.min(1));
        Tree::expression(
            ty,
            "(SELECT $ AS x FROM $ $ ORDER BY 1 LIMIT 1)",
            vec![value, relation, Tree::clause("WHERE $", vec![condition])],
        )
        .feature("scalar subquery")
    }

    fn inner_scope(&self, scope: &Scope) -> Scope {
        let outer = scope.here.iter().chain(&scope.outer).cloned().collect();
        Scope { here: Vec::new(), outer }
    }

    /// EXISTS, IN, = ANY, row comparison.
    pub fn subquery_condition(&mut self, scope: &Scope, depth: usize) -> Tree {
        let outer = self.inner_scope(scope);
        let ty = self.ty();
        match self.random.below(4) {
            0 | 1 => {
                let query = self.query(&outer, None, depth.min(1), Place::Inner).tree;
                let template = self.random.pick(&["EXISTS ($)", "(NOT EXISTS ($))"]);
                Tree::expression(Ty::Bool, template, vec![query]).feature("exists")
            }
            2 => {
                let one = self.expression(scope, ty, 0);
                let query = self.query(&outer, Some(&[ty]), depth.min(1), Place::Inner).tree;
                let template = self.random.pick(&[
                    "($ IN ($))",
                    "($ NOT IN ($))",
                    "($ = ANY ($))",
                    "($ >= ALL ($))",
                ]);
                let template = if ty == Ty::Bool { "($ IN ($))" } else { template };
                Tree::expression(Ty::Bool, template, vec![one, query]).feature("in subquery")
            }
            _ => {
                let (one, two) =
                    (self.expression(scope, Ty::Int, 0), self.expression(scope, ty, 0));
                let query =
                    self.query(&outer, Some(&[Ty::Int, ty]), depth.min(1), Place::Inner).tree;
                Tree::expression(Ty::Bool, "(($, $) IN ($))", vec![one, two, query])
                    .feature("row in subquery")
            }
        }
    }

    /// A query; `want` fixes the types of its columns.
    pub fn query(
        &mut self,
        outer: &Scope,
        want: Option<&[Ty]>,
        depth: usize,
        place: Place,
    ) -> Query {
        let kept = self.ctes.len();
        let with = if depth > 0 && self.random.chance(if place == Place::Top { 25 } else { 6 }) {
            self.with_clause(outer, depth)
        } else {
            Tree::nothing()
        };
        let mut query = self.body(outer, want, depth);
        let locks = std::mem::take(&mut query.locks);
        self.ctes.truncate(kept);
        let count = query.columns.len();
        // PostgreSQL before 18 takes ORDER BY a column that a condition binds to a constant for
        // settled, although grouping sets make it NULL: the guard binds the tenant column.
        let sets = query.tree.features().contains("grouping sets");
        let ordered = !sets && place == Place::Top && self.random.chance(50);
        let limited = !sets && self.random.chance(if place == Place::Top { 15 } else { 10 });
        let order = if ordered || limited || query.distinct_on {
            let places: Vec<String> = (1..=count)
                .map(|n| {
                    let free = !query.distinct_on && place == Place::Top;
                    let how = if free {
                        self.random.pick(&["", " DESC", " NULLS FIRST", ""])
                    } else {
                        ""
                    };
                    format!("{n}{how}")
                })
                .collect();
            Tree::text(Sort::Optional, format!("ORDER BY {}", places.join(", ")))
                .feature("order by")
        } else {
            Tree::nothing()
        };
        let limit = if limited && !locks {
            let scope = Scope::default();
            match self.random.below(4) {
                0 => Tree::clause("LIMIT ($)::int", vec![self.scalar_subquery(&scope, Ty::Int, 0)])
                    .feature("limit subquery"),
                1 => Tree::text(Sort::Optional, "OFFSET 1 LIMIT 4").feature("limit"),
                2 => Tree::text(Sort::Optional, "FETCH FIRST 3 ROWS ONLY").feature("limit"),
                _ => Tree::text(Sort::Optional, "LIMIT 5").feature("limit"),
            }
        } else {
            Tree::nothing()
        };
        let lock = if locks {
            let strength = self.random.pick(&["UPDATE", "SHARE", "NO KEY UPDATE", "KEY SHARE"]);
            Tree::text(Sort::Optional, format!("FOR {strength}")).feature("row lock")
        } else {
            Tree::nothing()
        };
        Query {
            tree: Tree::of(Sort::Query, "$ $ $ $ $", vec![with, query.tree, order, limit, lock]),
            columns: query.columns,
            ordered: ordered || limited,
        }
    }

    fn with_clause(&mut self, outer: &Scope, depth: usize) -> Tree {
        let mut parts = Vec::new();
        let recursive = self.random.chance(25);
        for _ in 0..self.random.between(1, 2) {
            let name = self.name("w");
            if recursive && self.random.chance(70) {
                let scope = Scope {
                    here: Vec::new(),
                    outer: outer.here.iter().chain(&outer.outer).cloned().collect(),
                };
                let seed = self.expression(
                    &Scope { here: Vec::new(), outer: scope.outer.clone() },
                    Ty::Int,
                    0,
                );
                let (step, columns) = if self.random.chance(50) {
                    ("SELECT r.n + 1, a.name FROM $ AS r JOIN accounts AS a ON a.parent = r.n WHERE r.n < 6 AND $".to_owned(), "accounts")
                } else {
                    ("SELECT a.id, a.name FROM accounts AS a, $ AS r WHERE a.parent = r.n AND a.id > r.n AND $".to_owned(), "accounts")
                };
                let source = Source {
                    alias: "a".to_owned(),
                    columns: table(columns).columns(),
                    keyed: false,
                };
                let condition = self.condition(&Scope { here: vec![source], outer: Vec::new() }, 1);
                let step = Tree::of(
                    Sort::Other,
                    &step,
                    vec![Tree::text(Sort::Other, name.clone()), condition],
                );
                let union = self.random.pick(&["UNION", "UNION"]);
                parts.push(
                    Tree::of(
                        Sort::Other,
                        &format!("{name}(n, t) AS (SELECT ($)::int, 'x'::text {union} ($))"),
                        vec![seed, step],
                    )
                    .feature("recursive"),
                );
                self.ctes.push(Source {
                    alias: name,
                    columns: vec![column("n", Ty::Int), column("t", Ty::Text)],
                    keyed: false,
                });
                continue;
            }
            let query = self.query(outer, None, depth - 1, Place::Inner);
            let materialized = self.random.pick(&["", "", "MATERIALIZED ", "NOT MATERIALIZED "]);
            let feature = if materialized.is_empty() { "with" } else { "with materialized" };
            parts.push(
                Tree::of(Sort::Other, &format!("{name} AS {materialized}($)"), vec![query.tree])
                    .feature(feature),
            );
            self.ctes.push(Source { alias: name, columns: query.columns, keyed: false });
        }
        let parts = parts.into_iter().map(Tree::optional).collect();
        let word = if recursive { "WITH RECURSIVE $" } else { "WITH $" };
        Tree::clause(word, vec![Tree::list(", ", parts)])
    }

    fn body(&mut self, outer: &Scope, want: Option<&[Ty]>, depth: usize) -> Body {
        if depth > 0 && self.random.chance(14) {
            let types: Vec<Ty> = match want {
                Some(types) => types.to_vec(),
                None => (0..self.random.between(1, 3)).map(|_| self.ty()).collect(),
            };
            let left = self.body(outer, Some(&types), depth - 1).without_locks();
            let right = self.body(outer, Some(&types), depth - 1).without_locks();
            // Of numbers that are equal and not written alike (3 and 3.0) the plan chooses which stays.
            let operators: &[_] = if types.contains(&Ty::Num) {
                &["UNION ALL"]
            } else {
                &["UNION", "UNION ALL", "INTERSECT", "EXCEPT", "EXCEPT ALL"]
            };
            let operator = self.random.pick(operators);
            let columns = left.columns.iter().zip(&right.columns).map(|(column, other)| Column {
                trick: if column.trick == other.trick { column.trick } else { Trick::None },
                ..column.clone()
            });
            let columns = columns.collect();
            let tree =
                Tree::of(Sort::Query, &format!("($) {operator} ($)"), vec![left.tree, right.tree]);
            return Body {
                tree: tree.feature("set operation"),
                columns,
                locks: false,
                distinct_on: false,
            };
        }
        if self.random.chance(4) && (want.is_none() || depth == 0) {
            let types: Vec<Ty> = want.map_or_else(|| vec![Ty::Int, Ty::Text], <[Ty]>::to_vec);
            let scope = Scope { here: Vec::new(), outer: outer.outer.clone() };
            let row = |grammar: &mut Self| {
                let items = types.iter().map(|ty| grammar.expression(&scope, *ty, 1)).collect();
                Tree::of(Sort::Optional, "($)", vec![Tree::list(", ", items)])
            };
            let rows = vec![row(self), row(self)];
            let columns =
                types.iter().enumerate().map(|(n, ty)| column(&format!("column{}", n + 1), *ty));
            return Body {
                columns: columns.collect(),
                tree: Tree::of(Sort::Query, "VALUES $", vec![Tree::list(", ", rows)])
                    .feature("values"),
                locks: false,
                distinct_on: false,
            };
        }
        self.plain_select(outer, want, depth)
    }

    fn plain_select(&mut self, outer: &Scope, want: Option<&[Ty]>, depth: usize) -> Body {
        let (relation, here) = self.relation(outer, depth + 1);
        let scope = Scope { here, outer: outer.outer.clone() };
        let filter = if self.random.chance(70) {
            Tree::clause("WHERE $", vec![self.condition(&scope, depth.min(2) + 1)])
        } else {
            Tree::nothing()
        };
        let types: Vec<Ty> = match want {
            Some(types) => types.to_vec(),
            None => (0..self.random.between(1, 4)).map(|_| self.ty()).collect(),
        };
        if want.is_none() && self.random.chance(5) {
            let [source] = scope.here.as_slice() else {
                return self.projected(&scope, &types, relation, filter, depth);
            };
            let mut columns = source.columns.clone();
            let (list, feature) = if self.random.chance(50) {
                ("*".to_owned(), "star")
            } else if self.random.chance(50) {
                (format!("{}.*", source.alias), "star")
            } else {
                columns = vec![column("j", Ty::Text)];
                (format!("{}::text AS j", source.alias), "whole row")
            };
            return Body {
                tree: Tree::of(
                    Sort::Query,
                    &format!("SELECT {list} FROM $ $"),
                    vec![relation, filter],
                )
                .feature(feature),
                columns,
                locks: self.random.chance(15) && !self.writing,
                distinct_on: false,
            };
        }
        match self.random.below(10) {
            0 | 1 => self.grouped(&scope, &types, relation, filter),
            2 => self.grouped_by_key(&scope, &types, relation, filter),
            _ => self.projected(&scope, &types, relation, filter, depth),
        }
    }

    fn projected(
        &mut self,
        scope: &Scope,
        types: &[Ty],
        relation: Tree,
        filter: Tree,
        depth: usize,
    ) -> Body {
        let mut items = Vec::new();
        let mut columns = Vec::new();
        for ty in types {
            let (tree, trick) = match self.column(scope, *ty) {
                Some(found) if self.random.chance(35) => found,
                _ => {
                    let window =
                        matches!(ty, Ty::Int | Ty::Text | Ty::Num) && self.random.chance(8);
                    let tree = if window {
                        self.window(scope, *ty)
                    } else {
                        self.expression(scope, *ty, depth + 1)
                    };
                    (tree, Trick::None)
                }
            };
            let name = self.name("c");
            items.push(Tree::of(Sort::Other, &format!("$ AS {name}"), vec![tree]));
            columns.push(Column { name, ty: *ty, trick });
        }
        let (head, locks, distinct_on) = match self.random.below(20) {
            0 => ("SELECT DISTINCT $ FROM $ $", false, false),
            1 => {
                let first = columns.first().map(|_| "1").unwrap_or_default();
                let _ = first;
                ("SELECT DISTINCT ON (1) $ FROM $ $", false, true)
            }
            2 | 3 if !scope.here.is_empty() && !self.writing => ("SELECT $ FROM $ $", true, false),
            _ => ("SELECT $ FROM $ $", false, false),
        };
        let feature = if distinct_on { "distinct on" } else { "select" };
        let tree = Tree::of(Sort::Query, head, vec![Tree::list(", ", items), relation, filter]);
        Body { tree: tree.feature(feature), columns, locks, distinct_on }
    }

    fn window(&mut self, scope: &Scope, ty: Ty) -> Tree {
        let key = self.expression(scope, Ty::Int, 1);
        let by = self.expression(scope, Ty::Text, 1);
        let over = "OVER (PARTITION BY $ ORDER BY $)";
        let parts = match ty {
            Ty::Text => {
                let value = self.expression(scope, ty, 1);
                return Tree::expression(ty, &format!("max($) {over}"), vec![value, by, key])
                    .feature("window");
            }
            Ty::Num => {
                let value = self.expression(scope, ty, 1);
                return Tree::expression(ty, &format!("sum($) {over}"), vec![value, by, key])
                    .feature("window");
            }
            _ => vec![by, key],
        };
        let function = self.random.pick(&["rank()", "dense_rank()", "count(*)"]);
        Tree::expression(ty, &format!("({function} {over})::int"), parts).feature("window")
    }

    fn aggregate(&mut self, scope: &Scope, ty: Ty) -> Tree {
        let filter = if self.random.chance(30) {
            Tree::clause(" FILTER (WHERE $)", vec![self.condition(scope, 1)]).feature("filter")
        } else {
            Tree::nothing()
        };
        let value = self.expression(scope, ty, 1);
        let template = match ty {
            Ty::Int => self.random.pick(&[
                "count($)$::int",
                "max($)$",
                "min($)$",
                "count(DISTINCT $)$::int",
                "sum($)$::int",
            ]),
            Ty::Num => self.random.pick(&["max($)$", "sum($)$", "min($)$"]),
            // Not sums: a sum of floats depends on the order of its terms.
            Ty::Float => self.random.pick(&["max($)$", "min($)$"]),
            Ty::Text => {
                let list = self.expression(scope, ty, 0);
                let template = "string_agg($, ',' ORDER BY $)$";
                if self.random.chance(40) {
                    let again = value.clone();
                    let _ = list;
                    return Tree::expression(ty, template, vec![value, again, filter])
                        .feature("aggregate");
                }
                self.random.pick(&["max($)$", "min($)$"])
            }
            Ty::Bool => self.random.pick(&["bool_or($)$", "bool_and($)$"]),
            Ty::Date | Ty::Moment => "max($)$",
            Ty::Texts => {
                let inner = self.expression(scope, Ty::Text, 1);
                let again = inner.clone();
                return Tree::expression(
                    ty,
                    "array_agg($ ORDER BY $)$",
                    vec![inner, again, filter],
                )
                .feature("aggregate");
            }
            Ty::Json => {
                let inner = self.expression(scope, Ty::Int, 1);
                let again = inner.clone();
                return Tree::expression(
                    ty,
                    "jsonb_agg($ ORDER BY $)$",
                    vec![inner, again, filter],
                )
                .feature("aggregate");
            }
            Ty::Uuid | Ty::Tenant => return self.literal(ty),
        };
        Tree::expression(ty, template, vec![value, filter]).feature("aggregate")
    }

    fn grouped(&mut self, scope: &Scope, types: &[Ty], relation: Tree, filter: Tree) -> Body {
        let mut items = Vec::new();
        let mut keys = Vec::new();
        let mut columns = Vec::new();
        for ty in types {
            let name = self.name("c");
            let plain = Scope { here: scope.here.clone(), outer: Vec::new() };
            let (tree, trick) = match self.column(&plain, *ty) {
                Some((tree, trick)) if self.random.chance(40) => {
                    keys.push(tree.clone());
                    (tree, trick)
                }
                _ => (self.aggregate(scope, *ty), Trick::None),
            };
            items.push(Tree::of(Sort::Other, &format!("$ AS {name}"), vec![tree]));
            columns.push(Column { name, ty: *ty, trick });
        }
        let group = if keys.is_empty() {
            Tree::nothing()
        } else {
            let template = self.random.pick(&[
                "GROUP BY $",
                "GROUP BY $",
                "GROUP BY ROLLUP ($)",
                "GROUP BY GROUPING SETS (($), ())",
            ]);
            let tree = Tree::of(Sort::Other, template, vec![Tree::list(", ", keys)]);
            if template == "GROUP BY $" { tree } else { tree.feature("grouping sets") }
        };
        let having = if self.random.chance(40) {
            let ty = self.random.choose(&[Ty::Int, Ty::Text, Ty::Num]);
            let value = self.aggregate(scope, ty);
            let other =
                self.expression(&Scope { here: Vec::new(), outer: scope.outer.clone() }, ty, 0);
            Tree::clause("HAVING $ <> $", vec![value, other]).feature("having")
        } else {
            Tree::nothing()
        };
        let parts = vec![Tree::list(", ", items), relation, filter, group, having];
        Body {
            tree: Tree::of(Sort::Query, "SELECT $ FROM $ $ $ $", parts).feature("group by"),
            columns,
            locks: false,
            distinct_on: false,
        }
    }

    fn grouped_by_key(
        &mut self,
        scope: &Scope,
        types: &[Ty],
        relation: Tree,
        filter: Tree,
    ) -> Body {
        let Some(source) = scope.here.iter().find(|source| source.keyed).cloned() else {
            return self.grouped(scope, types, relation, filter);
        };
        let key = format!("{}.id", source.alias);
        let mine = Scope { here: vec![source], outer: Vec::new() };
        let mut items = Vec::new();
        let mut columns = Vec::new();
        for ty in types {
            let name = self.name("c");
            let tree = if self.random.chance(50) {
                self.expression(&mine, *ty, 1)
            } else {
                self.aggregate(scope, *ty)
            };
            items.push(Tree::of(Sort::Other, &format!("$ AS {name}"), vec![tree]));
            columns.push(Column { name, ty: *ty, trick: Trick::None });
        }
        Body {
            tree: Tree::of(
                Sort::Query,
                &format!("SELECT $ FROM $ $ GROUP BY {key}"),
                vec![Tree::list(", ", items), relation, filter],
            )
            .feature("group by key"),
            columns,
            locks: false,
            distinct_on: false,
        }
    }
}

/// The part of a query before ORDER BY.
struct Body {
    tree: Tree,
    columns: Vec<Column>,
    locks: bool,
    distinct_on: bool,
}

impl Body {
    fn without_locks(self) -> Self {
        // `(… DISTINCT ON …)` without its order would pick any row.
        if self.distinct_on {
            let places: Vec<String> = (1..=self.columns.len()).map(|n| n.to_string()).collect();
            let template = format!("$ ORDER BY {}", places.join(", "));
            let tree = Tree::of(Sort::Query, &template, vec![self.tree]);
            return Self { tree, columns: self.columns, locks: false, distinct_on: false };
        }
        Self { locks: false, ..self }
    }
}

/// A column without a trick.
pub fn column(name: &str, ty: Ty) -> Column {
    Column { name: name.to_owned(), ty, trick: Trick::None }
}

/// A table by name.
pub fn table(name: &str) -> &'static Table {
    TABLES.iter().find(|table| table.name == name).expect("a table of the grammar")
}
