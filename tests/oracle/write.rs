//! The grammar's INSERT, UPDATE, DELETE and MERGE, alone and in WITH.

use crate::grammar::{Grammar, Scope, Source};
use crate::select::{Place, table};
use crate::statement::Statement;
use crate::tables::{Column, TABLES, Table, Trick, Ty};
use crate::tree::{Sort, Tree};

impl Grammar {
    /// Any statement.
    pub fn statement(mut self) -> Statement {
        let kind = self.random.below(100);
        self.writing = kind > 64;
        let (tree, ordered, writes) = match kind {
            0..=64 => {
                let depth = self.random.between(0, 2);
                let query = self.query(&Scope::default(), None, depth, Place::Top);
                (query.tree, query.ordered, false)
            }
            65..=74 => (self.insert(), false, true),
            75..=83 => (self.update(), false, true),
            84..=89 => (self.delete(), false, true),
            90..=94 => (self.merge(), false, true),
            _ => {
                let name = self.name("m");
                let written = match self.random.below(3) {
                    0 => self.insert_returning("id"),
                    1 => self.update_returning("id"),
                    _ => self.delete_returning("id"),
                };
                let source = Source {
                    alias: name.clone(),
                    columns: vec![crate::select::column("id", Ty::Int)],
                    keyed: false,
                };
                self.ctes.push(source);
                let query = self.query(&Scope::default(), None, 1, Place::Inner);
                let tree = Tree::of(
                    Sort::Other,
                    &format!(
                        "WITH {name} AS ($) SELECT * FROM ($) AS z FULL JOIN {name} AS zz ON true"
                    ),
                    vec![written, query.tree],
                );
                (tree.feature("data-modifying with"), false, true)
            }
        };
        Statement::of_grammar(tree.optional(), self.parameters, ordered, writes)
    }

    fn target(&mut self) -> &'static Table {
        let writable: Vec<&Table> = TABLES.iter().filter(|table| table.writable).collect();
        self.random.choose(&writable)
    }

    fn returning(&mut self, scope: &Scope) -> Tree {
        if self.random.chance(50) {
            let ty = self.ty();
            let items = vec![
                self.expression(scope, Ty::Int, 1),
                self.expression(scope, Ty::Text, 1).optional(),
                self.expression(scope, ty, 1).optional(),
            ];
            Tree::clause("RETURNING $", vec![Tree::list(", ", items)]).feature("returning")
        } else if self.random.chance(20) {
            // Not the columns of FROM and USING: see `further`.
            let alias = &scope.here[0].alias;
            Tree::text(Sort::Optional, format!("RETURNING {alias}.*")).feature("returning *")
        } else {
            Tree::nothing()
        }
    }

    /// A value that keeps the column's trick.
    fn fresh(&mut self, scope: &Scope, column: &Column) -> Tree {
        let number = self.random.between(1, 8);
        let text = match (column.trick, column.ty) {
            (Trick::IntText | Trick::Plain, Ty::Text) => format!("'{number}'"),
            (Trick::UuidText, _) => format!("'00000000-0000-4000-8000-00000000000{number}'"),
            (Trick::DateText, _) => format!("'2026-02-0{number}'"),
            (Trick::ClassText, _) => "'pg_type'".to_owned(),
            (Trick::JsonText, _) => format!("'{{\"k\": {number}}}'"),
            (Trick::Pattern, _) => format!("'pat{number}%'"),
            (Trick::JsonK, _) => format!("'{{\"k\": {number}}}'::jsonb"),
            (Trick::IntTexts, _) => format!("'{{{number}}}'::text[]"),
            (Trick::Small, Ty::Int) => {
                if let Some((other, _)) = self.small(scope) {
                    return Tree::expression(Ty::Int, "(($) % 40)", vec![other]);
                }
                number.to_string()
            }
            (Trick::Small, _) => format!("{number}.5"),
            (_, ty) => ty.literal().to_owned(),
        };
        Tree::text(Sort::Expression(column.ty), text)
    }

    fn small(&mut self, scope: &Scope) -> Option<(Tree, Trick)> {
        let found = self.column(scope, Ty::Int)?;
        (found.1 == Trick::Small && self.random.chance(50)).then_some(found)
    }

    fn changeable(&mut self, table: &Table) -> Vec<Column> {
        let mut columns: Vec<Column> = table
            .columns()
            .into_iter()
            .filter(|column| {
                !["id", "tenant_id", "owner", "order_id", "region", "day", "sku"]
                    .contains(&column.name.as_str())
                    && column.ty != Ty::Tenant
            })
            .collect();
        while columns.len() > 3 {
            let at = self.random.below(columns.len());
            columns.remove(at);
        }
        columns
    }

    fn insert(&mut self) -> Tree {
        let table = self.target();
        let returning = self.returning(&of_table(table));
        self.insert_into(table, returning)
    }

    fn insert_returning(&mut self, text: &str) -> Tree {
        let table = self.target();
        self.insert_into(table, Tree::text(Sort::Other, format!("RETURNING {text}")))
    }

    fn insert_into(&mut self, table: &'static Table, returning: Tree) -> Tree {
        // Now and then a key that A has already; never one of another tenant's (global unique keys
        // are a documented difference).
        let base = if self.random.chance(20) {
            self.random.between(1, 6)
        } else {
            1000 + self.random.below(1000)
        };
        let with_tenant = self.random.chance(50);
        let from_select = self.random.chance(40);
        let source_table =
            self.random.pick(&["accounts", "orders", "stock", "regional"]).to_owned();
        let source = Source {
            alias: "s".to_owned(),
            columns: self::table(&source_table).columns(),
            keyed: false,
        };
        let scope = if from_select {
            Scope { here: vec![source], outer: Vec::new() }
        } else {
            Scope::default()
        };
        let mut names = vec!["id".to_owned()];
        let id = if from_select { format!("s.id + {}", base + 1000) } else { base.to_string() };
        let mut values = vec![Tree::text(Sort::Other, id)];
        for (name, ty, trick) in table.columns.iter().skip(1) {
            let tenant = Some(*name) == table.tenant;
            let required = ["order_id", "region", "day", "sku", "name"].contains(name);
            if tenant && !with_tenant || !tenant && !required && self.random.chance(40) {
                continue;
            }
            names.push((*name).to_owned());
            let value = match *name {
                _ if tenant => {
                    let cast = if *ty == Ty::Tenant { self.tenants.sql_type } else { "text" };
                    format!("'{}'::{cast}", self.tenants.a)
                }
                "order_id" => self.random.between(1, 12).to_string(),
                "region" => self.random.pick(&["'eu'", "lower('EU')"]).to_owned(),
                "day" => self.random.pick(&["'2025-06-01'::date", "'2026-06-01'::date"]).to_owned(),
                "sku" if from_select => format!("'n{base}-' || s.id"),
                "sku" => format!("'n{base}'"),
                _ => {
                    let column = Column { name: (*name).to_owned(), ty: *ty, trick: *trick };
                    let fresh = self.fresh(&scope, &column);
                    values.push(fresh);
                    continue;
                }
            };
            values.push(Tree::text(Sort::Other, value));
        }
        let values = Tree::list(", ", values);
        let rows = if from_select {
            let filter = Tree::clause("WHERE $", vec![self.condition(&scope, 1)]);
            Tree::of(
                Sort::Other,
                &format!("SELECT $ FROM {source_table} AS s $"),
                vec![values, filter],
            )
            .feature("insert select")
        } else {
            Tree::of(Sort::Other, "VALUES ($)", vec![values]).feature("insert values")
        };
        let conflict = if self.random.chance(35) { self.conflict(table) } else { Tree::nothing() };
        let template = format!("INSERT INTO {} ({}) $ $ $", table.name, names.join(", "));
        Tree::of(Sort::Other, &template, vec![rows, conflict, returning]).feature("insert")
    }

    fn conflict(&mut self, table: &'static Table) -> Tree {
        if self.random.chance(40) || !table.keyed {
            return Tree::text(Sort::Optional, "ON CONFLICT DO NOTHING")
                .feature("on conflict do nothing");
        }
        let Some(column) = self.changeable(table).pop() else { return Tree::nothing() };
        let value = self.fresh(&Scope::default(), &column);
        let mut scope = of_table(table);
        scope.here[0].alias = table.name.to_owned();
        let filter = Tree::clause("WHERE $", vec![self.condition(&scope, 1)]);
        Tree::clause(
            &format!("ON CONFLICT (id) DO UPDATE SET {} = $ $", column.name),
            vec![value, filter],
        )
        .feature("on conflict do update")
    }

    fn update(&mut self) -> Tree {
        let table = self.target();
        let returning = self.returning(&of_alias(table));
        self.update_of(table, returning)
    }

    fn update_returning(&mut self, text: &str) -> Tree {
        let table = self.target();
        self.update_of(table, Tree::text(Sort::Other, format!("RETURNING u.{text}")))
    }

    fn update_of(&mut self, table: &'static Table, returning: Tree) -> Tree {
        let target = of_alias(table);
        let mut settings = Vec::new();
        for column in self.changeable(table) {
            let value = self.fresh(&target, &column);
            settings.push(Tree::of(Sort::Optional, &format!("{} = $", column.name), vec![value]));
        }
        // Within the row rule: what is outside of it is denied.
        if table.name == "regional" && self.random.chance(50) {
            let value = self.random.pick(&["'eu'", "u.region", "lower('EU')", "left(u.region, 2)"]);
            settings.push(Tree::text(Sort::Optional, format!("region = {value}")));
        }
        let (from, scope) = self.further("FROM", &target, "update from");
        let filter = Tree::clause("WHERE $", vec![self.condition(&scope, 2)]);
        let template = format!("UPDATE {} AS u SET $ $ $ $", table.name);
        Tree::of(Sort::Other, &template, vec![Tree::list(", ", settings), from, filter, returning])
            .feature("update")
    }

    fn delete(&mut self) -> Tree {
        let table = self.target();
        let returning = self.returning(&of_alias(table));
        self.delete_from(table, returning)
    }

    fn delete_returning(&mut self, text: &str) -> Tree {
        let table = self.target();
        self.delete_from(table, Tree::text(Sort::Other, format!("RETURNING u.{text}")))
    }

    fn delete_from(&mut self, table: &'static Table, returning: Tree) -> Tree {
        let (using, scope) = self.further("USING", &of_alias(table), "delete using");
        let filter = Tree::clause("WHERE $", vec![self.condition(&scope, 2)]);
        Tree::of(
            Sort::Other,
            &format!("DELETE FROM {} AS u $ $ $", table.name),
            vec![using, filter, returning],
        )
        .feature("delete")
    }

    /// FROM or USING; which of several matches counts is not settled, so that nothing but the
    /// condition may name it.
    fn further(&mut self, word: &str, target: &Scope, feature: &'static str) -> (Tree, Scope) {
        if !self.random.chance(40) {
            return (Tree::nothing(), target.clone());
        }
        let (relation, sources) = self.relation(&Scope::default(), 1);
        let here = target.here.iter().cloned().chain(sources).collect();
        let tree = Tree::of(Sort::Other, &format!("{word} $"), vec![relation]).feature(feature);
        (tree, Scope { here, outer: Vec::new() })
    }

    fn merge(&mut self) -> Tree {
        let table = self.target();
        let source =
            self::table(self.random.pick(&["accounts", "orders", "regional", "currencies"]));
        let key = if source.name == "currencies" { "ord" } else { "id" };
        let target = of_alias(table);
        let joined = Source { alias: "s".to_owned(), columns: source.columns(), keyed: false };
        let both = Scope {
            here: target.here.iter().cloned().chain([joined.clone()]).collect(),
            outer: Vec::new(),
        };
        let only_source = Scope { here: vec![joined], outer: Vec::new() };
        let mut whens = Vec::new();
        if self.random.chance(70) {
            let action = match self.changeable(table).pop() {
                Some(column) if self.random.chance(70) => {
                    let value = self.fresh(&both, &column);
                    Tree::of(Sort::Other, &format!("UPDATE SET {} = $", column.name), vec![value])
                }
                _ => Tree::text(Sort::Other, self.random.pick(&["DELETE", "DO NOTHING"])),
            };
            let when = Tree::clause("AND $", vec![self.condition(&both, 1)]);
            whens.push(Tree::of(Sort::Optional, "WHEN MATCHED $ THEN $", vec![when, action]));
        }
        if whens.is_empty() || self.random.chance(60) {
            let base = 1000 + self.random.below(1000);
            let mut names = vec!["id"];
            let mut values = vec![Tree::text(Sort::Other, format!("s.{key} + {base}"))];
            for (name, ty, trick) in table.columns.iter().skip(1) {
                let value = match *name {
                    "order_id" => "1".to_owned(),
                    "region" => "'eu'".to_owned(),
                    "day" => "'2026-06-01'".to_owned(),
                    "sku" => format!("'m{base}-' || s.{key}"),
                    "name" => "'7'".to_owned(),
                    _ if Some(*name) == table.tenant => {
                        if self.random.chance(50) {
                            continue;
                        }
                        let cast = if *ty == Ty::Tenant { self.tenants.sql_type } else { "text" };
                        format!("'{}'::{cast}", self.tenants.a)
                    }
                    _ if self.random.chance(50) => continue,
                    _ => {
                        let column = Column { name: (*name).to_owned(), ty: *ty, trick: *trick };
                        names.push(name);
                        let fresh = self.fresh(&only_source, &column);
                        values.push(fresh);
                        continue;
                    }
                };
                names.push(name);
                values.push(Tree::text(Sort::Other, value));
            }
            let when = Tree::clause("AND $", vec![self.condition(&only_source, 1)]);
            let template =
                format!("WHEN NOT MATCHED $ THEN INSERT ({}) VALUES ($)", names.join(", "));
            whens.push(Tree::of(Sort::Optional, &template, vec![when, Tree::list(", ", values)]));
        }
        let on = Tree::clause("AND $", vec![self.condition(&both, 1)]);
        let template = format!(
            "MERGE INTO {} AS u USING {} AS s ON u.id = s.{key} $ $",
            table.name, source.name
        );
        Tree::of(Sort::Other, &template, vec![on, Tree::list(" ", whens)]).feature("merge")
    }
}

fn of_table(table: &Table) -> Scope {
    let source = Source { alias: table.name.to_owned(), columns: table.columns(), keyed: false };
    Scope { here: vec![source], outer: Vec::new() }
}

fn of_alias(table: &Table) -> Scope {
    let mut scope = of_table(table);
    for source in &mut scope.here {
        source.alias = "u".to_owned();
    }
    scope
}
