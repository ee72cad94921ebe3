"""The official BigQuery client, used as applications use it, as one of two tenants.

ENDPOINT, TOKEN and TENANT are set; prints one line `ok …` a subject. With DIRECT=1 the stand-in itself
is asked, where there are only this tenant's rows: the program must be right there too.
"""

import io
import json
import os
import time

from google.api_core.exceptions import Forbidden, NotFound
from google.cloud import bigquery

from bigquery_fixture import PROJECT, client

TENANT = os.environ["TENANT"]
DIRECT = os.environ.get("DIRECT") == "1"
FIRST = 1 if TENANT == "tenant-a" else 101
MARK = "A" if TENANT == "tenant-a" else "B"
OWN = "own_" + TENANT.replace("-", "_")
TOKEN = os.environ.get("TOKEN", "none")

bq = client(os.environ["ENDPOINT"], TOKEN)
IDS = [FIRST, FIRST + 1, FIRST + 2]


def same(found, expected, what):
    assert found == expected, f"{what}: {found!r} instead of {expected!r}"


def ids(result):
    return sorted(row["id"] for row in result)


def queries():
    same(ids(bq.query("SELECT id FROM app.customers").result()), IDS, "query")
    same(ids(bq.query_and_wait("SELECT id FROM app.customers")), IDS, "query_and_wait")
    text = "SELECT c.id, o.note FROM app.customers c JOIN app.orders o ON o.customer_id = c.id"
    notes = [row["note"] for row in bq.query_and_wait(text)]
    assert notes and all(note.startswith(f"{MARK}-SECRET") for note in notes), notes
    same([row["n"] for row in bq.query_and_wait("SELECT COUNT(*) AS n FROM app.orders")], [4], "count")
    tags = bq.query_and_wait("SELECT t FROM app.customers c, UNNEST(c.tags) AS t WHERE t != 'both'")
    same([row["t"] for row in tags], [f"{MARK}-tag"] * 3, "unnest")
    items = [row["secret"] for row in bq.query_and_wait("SELECT secret FROM app.order_items")]
    assert len(items) == 4 and all(item.startswith(MARK) for item in items), items
    # Another tenant's rows are not there, whatever is asked for.
    for text in [
        "SELECT id FROM app.customers WHERE TRUE OR id = 1",
        f"SELECT id FROM `{PROJECT}.app.customers`",
        "SELECT id FROM app.customers WHERE id IN (1, 2, 3, 101, 102, 103)",
    ]:
        same(ids(bq.query_and_wait(text)), IDS, text)


def parameters():
    named = bigquery.QueryJobConfig(
        query_parameters=[
            bigquery.ScalarQueryParameter("id", "INT64", FIRST + 1),
            bigquery.ArrayQueryParameter("names", "STRING", [f"{MARK}-name-1", "x"]),
        ]
    )
    text = "SELECT id FROM app.customers WHERE id = @id AND name IN UNNEST(@names)"
    same(ids(bq.query_and_wait(text, job_config=named)), [FIRST + 1], "named")
    positional = bigquery.QueryJobConfig(
        query_parameters=[bigquery.ScalarQueryParameter(None, "INT64", FIRST)]
    )
    same(
        ids(bq.query("SELECT id FROM app.customers WHERE id > ?", job_config=positional).result()),
        IDS[1:],
        "positional",
    )
    struct = bigquery.QueryJobConfig(
        query_parameters=[
            bigquery.StructQueryParameter(
                "s",
                bigquery.ScalarQueryParameter("x", "INT64", 1),
                bigquery.ScalarQueryParameter("y", "STRING", "z"),
            )
        ]
    )
    row = next(iter(bq.query_and_wait("SELECT @s.x AS x, @s.y AS y", job_config=struct)))
    same((row["x"], row["y"]), (1, "z"), "struct")


def dry_run():
    config = bigquery.QueryJobConfig(dry_run=True, use_query_cache=False)
    job = bq.query("SELECT id FROM app.customers", job_config=config)
    assert job.dry_run and job.state == "DONE", job.state


def paging():
    result = bq.query("SELECT id FROM app.customers ORDER BY id").result(page_size=1)
    pages = [[row["id"] for row in page] for page in result.pages]
    same([page for page in pages if page], [[one] for one in IDS], "pages")
    same(result.total_rows, 3, "total")


def list_rows():
    table = bq.get_table(f"{PROJECT}.app.customers")
    same(ids(bq.list_rows(table)), IDS, "list_rows")
    result = bq.list_rows(table, page_size=2)
    same(sorted(row["id"] for page in result.pages for row in page), IDS, "pages of list_rows")
    chosen = [field for field in table.schema if field.name in ("id", "secret")]
    found = list(bq.list_rows(table, selected_fields=chosen))
    same(sorted(row["id"] for row in found), IDS, "selected_fields")
    assert all(row["secret"].startswith(f"{MARK}-SECRET") for row in found), found
    same(ids(bq.list_rows(table, start_index=1)), IDS[1:], "start_index")


def inserts():
    table = bq.get_table(f"{PROJECT}.app.orders")
    number = FIRST + 50
    row = {"tenant_id": TENANT, "id": number, "total": "1.5", "note": f"{MARK}-SECRET-streamed"}
    same(bq.insert_rows_json(table, [row]), [], "insert_rows_json")
    if not DIRECT:
        unmarked = {"id": number + 1, "note": f"{MARK}-SECRET-filled"}
        same(bq.insert_rows_json(table, [unmarked]), [], "insert without the tenant")
        denied(lambda: bq.insert_rows_json(table, [{**row, "tenant_id": OTHER}]), "HR1011")
        found = [r["id"] for r in bq.query_and_wait(f"SELECT id FROM app.orders WHERE id > {FIRST + 40}")]
        same(sorted(found), [number, number + 1], "what was inserted")
    bq.query_and_wait(f"INSERT INTO app.orders (tenant_id, id) VALUES ('{TENANT}', {FIRST + 52})")
    count = f"SELECT COUNT(*) AS n FROM app.orders WHERE id > {FIRST + 40}"
    same([row["n"] for row in bq.query_and_wait(count)], [2 if DIRECT else 3], "rows")
    bq.query(f"DELETE FROM app.orders WHERE id > {FIRST + 40}").result()
    same([row["n"] for row in bq.query_and_wait(count)], [0], "rows that are left")


def loads():
    table = f"{PROJECT}.app.orders"
    lines = [{"tenant_id": TENANT, "id": FIRST + 60 + n, "note": f"{MARK}-SECRET-load"} for n in range(3)]
    config = bigquery.LoadJobConfig(source_format="NEWLINE_DELIMITED_JSON", write_disposition="WRITE_APPEND")
    text = "".join(json.dumps(line) + "\n" for line in lines).encode()
    bq.load_table_from_file(io.BytesIO(text), table, job_config=config).result()
    csv = "".join(f"{TENANT},{FIRST + 70 + n},{FIRST},1.5,\"{MARK}-SECRET, csv\"\n" for n in range(3))
    config = bigquery.LoadJobConfig(
        source_format="CSV", skip_leading_rows=1, write_disposition="WRITE_APPEND"
    )
    text = "tenant_id,id,customer_id,total,note\n" + csv
    bq.load_table_from_file(io.BytesIO(text.encode()), table, job_config=config).result()
    if not DIRECT:
        # A file in one request, and rows of a list.
        file = io.BytesIO(text.encode())
        bq.load_table_from_file(file, table, size=len(text), job_config=config).result()
        bq.load_table_from_json([{"id": FIRST + 80}], table).result()
        wrong = text.replace(TENANT, OTHER)
        denied(lambda: bq.load_table_from_file(io.BytesIO(wrong.encode()), table, job_config=config), "HR1011")
        denied(
            lambda: bq.load_table_from_json(
                [{"id": 1}], table, job_config=bigquery.LoadJobConfig(write_disposition="WRITE_TRUNCATE")
            ),
            "HR5002",
        )
    count = f"SELECT COUNT(*) AS n FROM app.orders WHERE id >= {FIRST + 60}"
    same([row["n"] for row in bq.query_and_wait(count)], [6 if DIRECT else 10], "rows loaded")
    bq.query(f"DELETE FROM app.orders WHERE id >= {FIRST + 60}").result()


def jobs():
    job = bq.query("SELECT id FROM app.customers", job_id=f"mine-{os.getpid()}-{MARK}", job_retry=None)
    job.result()
    same(bq.get_job(job.job_id).state, "DONE", "get_job")
    listed = [one.job_id for one in bq.list_jobs(max_results=50)]
    assert job.job_id in listed, listed
    cancelled = bq.cancel_job(job.job_id)
    same(cancelled.job_id, job.job_id, "cancel_job")
    try:
        bq.get_job("never-made")
    except NotFound:
        pass
    else:
        raise AssertionError("a job that was never made")


def own_dataset():
    name = f"{PROJECT}.{OWN}.notes"
    bq.delete_table(name, not_found_ok=True)
    table = bigquery.Table(name, schema=[bigquery.SchemaField("id", "INT64")])
    bq.create_table(table)
    bq.query_and_wait(f"INSERT INTO {OWN}.notes (id) VALUES (7)")
    same(ids(bq.query_and_wait(f"SELECT id FROM {OWN}.notes")), [7], "own table")
    bq.query(f"CREATE OR REPLACE TABLE {OWN}.copy AS SELECT id FROM app.customers").result()
    same(ids(bq.list_rows(bq.get_table(f"{PROJECT}.{OWN}.copy"))), IDS, "a table of a query")
    bq.delete_table(name)
    bq.delete_table(f"{PROJECT}.{OWN}.copy")


OTHER = "tenant-b" if TENANT == "tenant-a" else "tenant-a"


def denied(call, code):
    """The call raises Forbidden at once: clients do not try a denial again."""
    begun = time.monotonic()
    try:
        call()
    except Forbidden as error:
        assert code in str(error), error
    else:
        raise AssertionError(f"not denied with {code}")
    assert time.monotonic() - begun < 5, "the client tried again"


def denials():
    for text, code in [
        ("SELECT * FROM app.unknown", "HR1003"),
        ("SELECT * FROM app.INFORMATION_SCHEMA.TABLES", "HR1007"),
        ("SELECT * FROM own_" + OTHER.replace("-", "_") + ".notes", "HR1004"),
        (f"INSERT INTO app.orders (tenant_id, id) VALUES ('{OTHER}', 1)", "HR1011"),
        ("UPDATE app.orders SET tenant_id = 'x' WHERE TRUE", "HR1012"),
        ("INSERT INTO app.currencies (code) VALUES ('XXX')", "HR1013"),
        ("CREATE OR REPLACE TABLE app.customers AS SELECT 1 AS id", "HR1002"),
    ]:
        denied(lambda text=text: bq.query(text).result(), code)
        denied(lambda text=text: bq.query_and_wait(text), code)
    denied(lambda: list(bq.list_rows(f"{PROJECT}.app.unknown", selected_fields=[bigquery.SchemaField("secret", "STRING")])), "HR1003")


SUBJECTS = [queries, parameters, dry_run, paging, list_rows, inserts, loads, jobs, own_dataset]
if not DIRECT:
    SUBJECTS.append(denials)
chosen = os.environ.get("SUBJECTS", "").split(",") if os.environ.get("SUBJECTS") else None
failed = False
for subject in SUBJECTS:
    if chosen and subject.__name__ not in chosen:
        continue
    try:
        subject()
        print(f"ok {subject.__name__}", flush=True)
    except Exception as error:  # every subject is told of, not only the first that fails
        failed = True
        print(f"FAILED {subject.__name__}: {type(error).__name__}: {error}", flush=True)
raise SystemExit(1 if failed else 0)
