"""Tables of two tenants in the stand-in, and a client of the official library for either way."""

import datetime
import os

from google.api_core.client_options import ClientOptions
from google.cloud import bigquery
from google.oauth2.credentials import Credentials

PROJECT = "acme-prod"


def client(endpoint: str, token: str) -> bigquery.Client:
    """The official client; nothing but endpoint and token is not as it comes."""
    return bigquery.Client(
        project=PROJECT,
        credentials=Credentials(token=token),
        client_options=ClientOptions(api_endpoint=endpoint),
    )


def column(name, kind, mode="NULLABLE"):
    return bigquery.SchemaField(name, kind, mode=mode)


TABLES = {
    "app.customers": [
        column("tenant_id", "STRING"),
        column("id", "INT64"),
        column("name", "STRING"),
        column("secret", "STRING"),
        column("credit", "INT64"),
        column("tags", "STRING", "REPEATED"),
    ],
    "app.orders": [
        column("tenant_id", "STRING"),
        column("id", "INT64"),
        column("customer_id", "INT64"),
        column("total", "NUMERIC"),
        column("note", "STRING"),
    ],
    "app.order_items": [
        column("order_id", "INT64"),
        column("sku", "STRING"),
        column("secret", "STRING"),
    ],
    "app.currencies": [column("code", "STRING"), column("rate", "NUMERIC")],
    "app.unknown": [column("tenant_id", "STRING"), column("secret", "STRING")],
    "archive.customers": [
        column("org", "STRING"),
        column("id", "INT64"),
        column("secret", "STRING"),
    ],
    "app.events_20250101": [
        column("tenant_id", "STRING"), column("id", "INT64"), column("payload", "STRING"),
    ],
    "app.events_20260101": [
        column("tenant_id", "STRING"), column("id", "INT64"), column("payload", "STRING"),
    ],
}


def rows(tenant: str) -> dict[str, list[str]]:
    """The tenant's rows, as values of an INSERT. B's numbers begin at 101."""
    first, mark = (1, "A") if tenant == "tenant-a" else (101, "B")
    table = {
        "app.customers": [
            f"('{tenant}', {first + n}, '{mark}-name-{n}', '{mark}-SECRET-CUST-{first + n}', "
            f"{(first + n) * 10}, ['{mark}-tag', 'both'])"
            for n in range(3)
        ],
        "app.orders": [
            f"('{tenant}', {first + n}, {first + n % 2}, {first + n}.25, '{mark}-SECRET-ORDER-{n}')"
            for n in range(4)
        ],
        "app.order_items": [f"({first + n}, 'SKU-{n}', '{mark}-SECRET-ITEM-{n}')" for n in range(4)],
        "app.unknown": [f"('{tenant}', '{mark}-SECRET-UNKNOWN')"],
        "archive.customers": [f"('{tenant}', {first}, '{mark}-SECRET-ARCH')"],
        "app.events_20250101": [f"('{tenant}', {first}, '{mark}-SECRET-EVENT-25')"],
        "app.events_20260101": [f"('{tenant}', {first}, '{mark}-SECRET-EVENT-26')"],
    }
    return table


def load(direct: bigquery.Client, tenants: list[str], datasets=("app", "archive")) -> None:
    """Makes the tables with the rows of these tenants. `direct` talks to the stand-in itself."""
    for dataset in [*datasets, "own_tenant_a", "own_tenant_b"]:
        direct.create_dataset(dataset, exists_ok=True)
    for name, schema in TABLES.items():
        direct.delete_table(f"{PROJECT}.{name}", not_found_ok=True)
        direct.create_table(bigquery.Table(f"{PROJECT}.{name}", schema=schema))
    for tenant in tenants:
        for name, values in rows(tenant).items():
            direct.query_and_wait(f"INSERT INTO `{PROJECT}.{name}` VALUES {', '.join(values)}")
    direct.query_and_wait(
        f"INSERT INTO `{PROJECT}.app.currencies` VALUES ('EUR', 1), ('USD', 1.1)"
    )


if __name__ == "__main__":
    load(client(os.environ["ENDPOINT"], "none"), os.environ["TENANTS"].split(","))
    print(f"loaded {datetime.datetime.now():%H:%M:%S}")
