"""SQLAlchemy and pandas over the official client, as one of two tenants."""

import os

import sqlalchemy

from bigquery_fixture import PROJECT, client

TENANT = os.environ["TENANT"]
FIRST = 1 if TENANT == "tenant-a" else 101
MARK = "A" if TENANT == "tenant-a" else "B"
IDS = [FIRST, FIRST + 1, FIRST + 2]
bq = client(os.environ["ENDPOINT"], os.environ.get("TOKEN", "none"))


def with_sqlalchemy():
    engine = sqlalchemy.create_engine(
        f"bigquery://{PROJECT}/app?user_supplied_client=True", connect_args={"client": bq}
    )
    customers = sqlalchemy.Table(
        "customers",
        sqlalchemy.MetaData(),
        sqlalchemy.Column("id", sqlalchemy.Integer),
        sqlalchemy.Column("name", sqlalchemy.String),
        schema="app",
    )
    with engine.connect() as connection:
        chosen = sqlalchemy.select(customers.c.id).order_by(customers.c.id)
        assert [row.id for row in connection.execute(chosen)] == IDS
        one = connection.execute(chosen.where(customers.c.name == f"{MARK}-name-1"))
        assert [row.id for row in one] == [FIRST + 1]
        text = sqlalchemy.text("SELECT COUNT(*) FROM app.orders WHERE id > :least")
        assert connection.execute(text, {"least": 0}).scalar() == 4
        inspector = sqlalchemy.inspect(connection)
        names = [column["name"] for column in inspector.get_columns("customers", schema="app")]
        assert names[:2] == ["tenant_id", "id"], names


def with_pandas():
    frame = bq.query("SELECT id, name, credit FROM app.customers ORDER BY id").to_dataframe(
        create_bqstorage_client=False
    )
    assert frame["id"].tolist() == IDS, frame
    assert frame["name"].str.startswith(MARK).all(), frame
    table = bq.get_table(f"{PROJECT}.app.customers")
    frame = bq.list_rows(table).to_dataframe(create_bqstorage_client=False)
    assert sorted(frame["id"].tolist()) == IDS, frame


failed = False
for subject in (with_sqlalchemy, with_pandas):
    try:
        subject()
        print(f"ok {subject.__name__}", flush=True)
    except Exception as error:  # every subject is told of
        failed = True
        print(f"FAILED {subject.__name__}: {type(error).__name__}: {error}", flush=True)
raise SystemExit(1 if failed else 0)
