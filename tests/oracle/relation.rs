//! The grammar's FROM: tables, common table expressions, derived tables, functions, joins of all
//! kinds, trees of joins with names of their own.

use crate::grammar::{Grammar, Scope, Source};
use crate::select::{Place, column};
use crate::tables::{Column, TABLES, Table, Ty};
use crate::tree::{Sort, Tree};

impl Grammar {
    /// A relation and what it brings into scope.
    pub fn relation(&mut self, outer: &Scope, depth: usize) -> (Tree, Vec<Source>) {
        if depth > 0 && self.random.chance(45) {
            return self.join(outer, depth);
        }
        self.single(outer, depth)
    }

    fn single(&mut self, outer: &Scope, depth: usize) -> (Tree, Vec<Source>) {
        match self.random.below(20) {
            0 | 1 if depth > 0 => {
                let query = self.query(
                    &Scope { here: Vec::new(), outer: outer.outer.clone() },
                    None,
                    depth - 1,
                    Place::Inner,
                );
                self.derived("($) AS", query.tree, query.columns, "derived table")
            }
            2 => {
                let alias = self.name("v");
                let rows = (0..2)
                    .map(|_| {
                        let items = vec![self.constant(Ty::Int), self.constant(Ty::Text)];
                        Tree::of(Sort::Optional, "($)", vec![Tree::list(", ", items)])
                    })
                    .collect();
                let tree = Tree::of(
                    Sort::Relation,
                    &format!("(VALUES $) AS {alias}(n, t)"),
                    vec![Tree::list(", ", rows)],
                );
                let columns = vec![column("n", Ty::Int), column("t", Ty::Text)];
                (tree.feature("values in from"), vec![Source { alias, columns, keyed: false }])
            }
            3 => {
                let alias = self.name("g");
                let tree =
                    Tree::text(Sort::Relation, format!("generate_series(1, 3) AS {alias}(n)"));
                (
                    tree.feature("function in from"),
                    vec![Source { alias, columns: vec![column("n", Ty::Int)], keyed: false }],
                )
            }
            4..=6 if !self.ctes.is_empty() => {
                let cte = self.random.choose(&self.ctes.clone());
                let alias = self.name("x");
                let tree = Tree::text(Sort::Relation, format!("{} AS {alias}", cte.alias));
                (tree, vec![Source { alias, ..cte }])
            }
            _ => {
                let table = &TABLES[self.random.below(TABLES.len())];
                self.table(table)
            }
        }
    }

    /// A table under a name of its own.
    pub fn table(&mut self, table: &Table) -> (Tree, Vec<Source>) {
        let alias = self.name("a");
        let columns = table.columns();
        let (text, feature, columns) = match self.random.below(40) {
            0 => (format!("public.{} AS {alias}", table.name), "qualified table", columns),
            1 => (format!("ONLY {} AS {alias}", table.name), "only", columns),
            2..=5 => {
                let renamed: Vec<Column> = columns
                    .into_iter()
                    .enumerate()
                    .map(|(n, column)| Column { name: format!("k{}", n + 1), ..column })
                    .collect();
                let names: Vec<&str> = renamed.iter().map(|column| column.name.as_str()).collect();
                (
                    format!("{} AS {alias}({})", table.name, names.join(", ")),
                    "column aliases",
                    renamed,
                )
            }
            _ => (format!("{} AS {alias}", table.name), table.name, columns),
        };
        let keyed = table.keyed && columns.first().is_some_and(|column| column.name == "id");
        (Tree::text(Sort::Relation, text).feature(feature), vec![Source { alias, columns, keyed }])
    }

    fn derived(
        &mut self,
        template: &str,
        query: Tree,
        columns: Vec<Column>,
        feature: &'static str,
    ) -> (Tree, Vec<Source>) {
        let alias = self.name("d");
        let (names, columns) = if self.random.chance(25) {
            let columns: Vec<Column> = columns
                .into_iter()
                .enumerate()
                .map(|(n, column)| Column { name: format!("y{}", n + 1), ..column })
                .collect();
            let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
            (format!("({})", names.join(", ")), columns)
        } else {
            (String::new(), columns)
        };
        let tree = Tree::of(Sort::Relation, &format!("{template} {alias}{names}"), vec![query]);
        (tree.feature(feature), vec![Source { alias, columns, keyed: false }])
    }

    fn join(&mut self, outer: &Scope, depth: usize) -> (Tree, Vec<Source>) {
        let (left, mut here) = self.relation(outer, depth - 1);
        if self.random.chance(12) {
            return self.lateral(outer, left, here, depth);
        }
        let (right, others) = self.relation(outer, depth - 1);
        let one_each = here.len() == 1 && others.len() == 1;
        let common: Vec<String> = match (here.as_slice(), others.as_slice()) {
            ([one], [other]) => one
                .columns
                .iter()
                .filter(|column| {
                    other
                        .columns
                        .iter()
                        .any(|twin| twin.name == column.name && twin.ty == column.ty)
                })
                .map(|column| column.name.clone())
                .collect(),
            _ => Vec::new(),
        };
        let kind = self.random.pick(&[
            "JOIN",
            "LEFT JOIN",
            "RIGHT JOIN",
            "FULL JOIN",
            "JOIN",
            "LEFT JOIN",
            "CROSS JOIN",
        ]);
        let scope = Scope {
            here: here.iter().chain(&others).cloned().collect(),
            outer: outer.outer.clone(),
        };
        let tree = if kind == "CROSS JOIN" {
            let comma = self.random.chance(50);
            let template = if comma { "($ CROSS JOIN $)" } else { "($ INNER JOIN $ ON true)" };
            Tree::of(Sort::Relation, template, vec![left, right]).feature("cross join")
        } else if one_each && !common.is_empty() && self.random.chance(25) {
            let chosen = if self.random.chance(60) {
                common.first().cloned().unwrap_or_default()
            } else {
                common.last().cloned().unwrap_or_default()
            };
            let feature = match kind {
                "FULL JOIN" => "full join using",
                "RIGHT JOIN" => "right join using",
                "LEFT JOIN" => "left join using",
                _ => "join using",
            };
            if self.random.chance(20) {
                Tree::of(Sort::Relation, &format!("($ NATURAL {kind} $)"), vec![left, right])
                    .feature("natural join")
            } else {
                Tree::of(
                    Sort::Relation,
                    &format!("($ {kind} $ USING ({chosen}))"),
                    vec![left, right],
                )
                .feature(feature)
            }
        } else {
            let (mine, theirs) = (
                Scope { here: here.clone(), outer: Vec::new() },
                Scope { here: others.clone(), outer: Vec::new() },
            );
            let ty = self.random.choose(&[Ty::Int, Ty::Int, Ty::Text, Ty::Tenant]);
            let equal = match (self.column(&mine, ty), self.column(&theirs, ty)) {
                (Some((one, _)), Some((other, _))) => {
                    Tree::expression(Ty::Bool, "$ = $", vec![one, other])
                }
                _ => Tree::text(Sort::Expression(Ty::Bool), "true"),
            };
            let more = if self.random.chance(45) && kind != "FULL JOIN" {
                Tree::clause("AND $", vec![self.condition(&scope, 1)])
            } else {
                Tree::nothing()
            };
            let feature = match kind {
                "FULL JOIN" => "full join",
                "RIGHT JOIN" => "right join",
                "LEFT JOIN" => "left join",
                _ => "join",
            };
            Tree::of(
                Sort::Relation,
                &format!("($ {kind} $ ON $ $)"),
                vec![left, right, equal, more],
            )
            .feature(feature)
        };
        here.extend(others);
        if self.random.chance(6) {
            return self.named_tree(tree, here);
        }
        (tree, here)
    }

    /// `(a JOIN b …) AS j(…)`: the names inside can no longer be named.
    fn named_tree(&mut self, tree: Tree, here: Vec<Source>) -> (Tree, Vec<Source>) {
        let mut columns = Vec::new();
        let text = tree.render();
        // USING and NATURAL merge columns: their places are not known here.
        if text.contains("USING (") || text.contains("NATURAL") {
            return (tree, here);
        }
        for column in here.iter().flat_map(|source| source.columns.iter()) {
            columns.push(Column { name: format!("q{}", columns.len() + 1), ..column.clone() });
        }
        let alias = self.name("j");
        let names: Vec<&str> = columns.iter().map(|column| column.name.as_str()).collect();
        let template = format!("$ AS {alias}({})", names.join(", "));
        let tree = Tree::of(Sort::Relation, &template, vec![tree]).feature("named join tree");
        (tree, vec![Source { alias, columns, keyed: false }])
    }

    fn lateral(
        &mut self,
        outer: &Scope,
        left: Tree,
        mut here: Vec<Source>,
        depth: usize,
    ) -> (Tree, Vec<Source>) {
        let mine = Scope { here: here.clone(), outer: Vec::new() };
        let kind = self.random.pick(&["LEFT", "INNER"]);
        let (right, sources) = if self.random.chance(50) {
            let alias = self.name("l");
            let (template, ty, from) = *self.random.pick(&[
                &("unnest($)", Ty::Text, Ty::Texts),
                &("generate_series(1, least($, 12))", Ty::Int, Ty::Int),
                &("jsonb_object_keys($)", Ty::Text, Ty::Json),
                &("regexp_split_to_table($, '-')", Ty::Text, Ty::Text),
            ]);
            let Some((value, _)) = self.column(&mine, from) else { return (left, here) };
            let tree = Tree::of(Sort::Other, &format!("{template} AS {alias}(n)"), vec![value]);
            (
                tree.feature("lateral function"),
                vec![Source { alias, columns: vec![column("n", ty)], keyed: false }],
            )
        } else {
            let reach = here.iter().chain(&outer.outer).cloned().collect();
            let scope = Scope { here: Vec::new(), outer: reach };
            let query = self.query(&scope, None, depth.saturating_sub(1).min(1), Place::Inner);
            self.derived("LATERAL ($) AS", query.tree, query.columns, "lateral")
        };
        let tree =
            Tree::of(Sort::Relation, &format!("($ {kind} JOIN $ ON true)"), vec![left, right]);
        here.extend(sources);
        (tree, here)
    }
}
