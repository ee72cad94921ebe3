"""What the harness passes in the environment, and what each tenant must see: the clients' common part."""

import os
from dataclasses import dataclass

DATABASE = os.environ["HEDGEROW_DATABASE"]


@dataclass(frozen=True)
class Tenant:
    """A tenant of the fixture. The programs run the same code for each of them."""

    name: str
    id: str
    users: list
    names: list
    orders: list
    documents: list

    @property
    def port(self):
        return int(os.environ[f"HEDGEROW_PORT_{self.name}"])

    @property
    def token(self):
        return os.environ[f"HEDGEROW_TOKEN_{self.name}"]

    @property
    def base(self):
        """Ids for rows of its own: two tenants share the primary keys of one table."""
        return 10_000 if self.name == "A" else 20_000


A = Tenant("A", "aaaaaaaa-aaaa-4aaa-8aaa-aaaaaaaaaaaa", [1, 2, 3], ["Ann", "Art", "Ada"], [1, 2, 3], [1, 2, 3])
B = Tenant("B", "bbbbbbbb-bbbb-4bbb-8bbb-bbbbbbbbbbbb", [101, 102, 103], ["Bob", "Bea", "Ann"], [101, 102], [101, 102])
BOTH = (A, B)


def expect(found, wanted, what=""):
    """Fails with both values."""
    assert found == wanted, f"{what}: {wanted!r} expected, came {found!r}"


def run(checks):
    """Runs every check as both tenants, in turns."""
    for check in checks:
        for tenant in BOTH:
            print(f"{check.__name__.replace('_', ' ')} ({tenant.name})", flush=True)
            check(tenant)
