-- knex 3.3.0: columnInfo, hasTable, hasColumn.

--! same
select version()

--! same ["users"]
select * from information_schema.columns where table_name = $1 and table_catalog = current_database() and table_schema = current_schema()

--! same ["users"]
select * from information_schema.tables where table_name = $1 and table_schema = current_schema()

--! same ["users", "id"]
select * from information_schema.columns where table_name = $1 and column_name = $2 and table_schema = current_schema()
