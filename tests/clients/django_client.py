"""Django through Hedgerow: introspection, the ORM, transactions. Exit 0 when all of it holds."""

import io
import re

import django
from django.apps import AppConfig
from django.conf import settings
from tenants import BOTH, DATABASE, expect, run


class Application(AppConfig):
    """This file is the application: only an installed one gets its reverse relations."""

    name, label, path = "__main__", "application", "."


settings.configure(
    DATABASES={
        alias: {
            "ENGINE": "django.db.backends.postgresql", "NAME": DATABASE, "USER": "application",
            "PASSWORD": tenant.token, "HOST": "127.0.0.1", "PORT": str(tenant.port), **options,
        }
        for alias, tenant, options in [
            ("default", BOTH[0], {}),
            *((tenant.name, tenant, {}) for tenant in BOTH),
            # The second way to bind parameters, and a pool of Django's own.
            *((f"{tenant.name}-server", tenant, {
                "OPTIONS": {"server_side_binding": True, "pool": {"min_size": 1, "max_size": 2}},
            }) for tenant in BOTH),
        ]
    },
    INSTALLED_APPS=["django.contrib.postgres", "__main__.Application"],
    USE_TZ=True,
    DEFAULT_AUTO_FIELD="django.db.models.AutoField",
)
django.setup()

from django.contrib.postgres.aggregates import ArrayAgg, StringAgg  # noqa: E402
from django.contrib.postgres.fields import ArrayField  # noqa: E402
from django.core.management import call_command  # noqa: E402
from django.db import DatabaseError, IntegrityError, connections, models, transaction  # noqa: E402
from django.db.models import Avg, Count, Exists, F, OuterRef, Prefetch, Q, Subquery, Sum, Value, Window  # noqa: E402
from django.db.models.functions import Coalesce, Concat, Lower, RowNumber, TruncMonth  # noqa: E402


class User(models.Model):
    id = models.IntegerField(primary_key=True)
    tenant_id = models.UUIDField()
    email = models.TextField()
    name = models.TextField()
    credit = models.IntegerField(default=0)
    tags = ArrayField(models.TextField(), default=list)

    class Meta:
        app_label, db_table, managed = "application", "users", False


class Order(models.Model):
    id = models.IntegerField(primary_key=True)
    tenant_id = models.UUIDField()
    user = models.ForeignKey(User, models.CASCADE, related_name="orders")
    total = models.DecimalField(max_digits=12, decimal_places=2)
    note = models.TextField(null=True)
    placed = models.DateField()

    class Meta:
        app_label, db_table, managed = "application", "orders", False


class Document(models.Model):
    id = models.IntegerField(primary_key=True)
    tenant_id = models.UUIDField()
    title = models.TextField(null=True)
    meta = models.JSONField(null=True)
    parent = models.ForeignKey("self", models.CASCADE, null=True, db_column="parent", db_constraint=False)

    class Meta:
        app_label, db_table, managed = "application", "documents", False


def aliases(tenant):
    return (tenant.name, f"{tenant.name}-server")


def introspection_reads_the_schema(tenant):
    for alias in aliases(tenant):
        out = io.StringIO()
        call_command("inspectdb", database=alias, include_views=True, include_partitions=True, stdout=out)
        text = out.getvalue()
        assert "class Orders(" in text and "class UserOverview(" in text, text
        # It asks for `*`: denied where the policy denies a column, as without that column's privilege.
        expect(re.findall("Unable to inspect table '(.*)'", text), ["internal_keys", "order_totals", "users", "vault"])
        connection = connections[alias]
        with connection.cursor() as cursor:
            introspection = connection.introspection
            assert "users_lower_idx" in introspection.get_constraints(cursor, "users")
            expect(introspection.get_primary_key_columns(cursor, "orders"), ["id"])
            introspection.get_sequences(cursor, "orders"), introspection.get_relations(cursor, "orders")


def rows_are_filtered_and_joined(tenant):
    for alias in aliases(tenant):
        users, orders = User.objects.using(alias), Order.objects.using(alias)
        expect(list(users.order_by("id").values_list("id", flat=True)), tenant.users)
        expect(users.get(id=tenant.users[0]).name, tenant.names[0])
        expect(users.filter(id=101 if tenant.name == "A" else 1).exists(), False)
        expect(users.filter(Q(name__icontains="a") | Q(email__istartswith="b")).count(), 3)
        expect(users.filter(tags__contains=["x"]).count(), 1)
        expect(users.filter(name__regex="^A").exclude(name="Ada").count(), 2 if tenant.name == "A" else 1)
        expect(users.filter(id__in=[1, 2, 101]).count(), 2 if tenant.name == "A" else 1)
        expect([order.user.tenant_id.hex[0] for order in orders.select_related("user")],
               [tenant.id[0]] * len(tenant.orders))
        found = users.prefetch_related(Prefetch("orders", Order.objects.using(alias).filter(total__gt=0))).order_by("id")
        expect(sorted(order.id for user in found for order in user.orders.all()), tenant.orders)
        expect(len(users.order_by("-credit")[1:3]), 2)
        expect(len(users.filter(orders__total__gte=1).distinct()), 2)
        expect(sum(1 for _ in users.order_by("id").iterator(chunk_size=2)), 3)
        expect(len(users.union(users.filter(id__gt=1)).values_list("id")), 3)
        expect(users.filter(id__gt=0).explain().count("Users"), 0)


def aggregates_and_expressions(tenant):
    for alias in aliases(tenant):
        users, orders = User.objects.using(alias), Order.objects.using(alias)
        expect(users.aggregate(n=Count("id"), mean=Avg("credit"))["n"], 3)
        totals = users.annotate(sum=Coalesce(Sum("orders__total"), Value(0), output_field=models.DecimalField()))
        expect(len(totals.filter(sum__gt=0)), 2)
        expect(users.annotate(n=Count("orders", filter=Q(orders__total__gt=20))).order_by("-n")[0].n > 0, True)
        months = orders.annotate(month=TruncMonth("placed")).values("month").annotate(n=Count("*")).order_by("month")
        expect(len(months), len(tenant.orders))
        ranked = users.annotate(rank=Window(RowNumber(), partition_by=F("tenant_id"), order_by="id"))
        expect([user.rank for user in ranked.order_by("id")], [1, 2, 3])
        last = orders.filter(user=OuterRef("pk")).order_by("-placed").values("total")[:1]
        expect(len(users.annotate(last=Subquery(last)).filter(last__isnull=False)), 2)
        expect(users.filter(Exists(orders.filter(user=OuterRef("pk")))).count(), 2)
        gathered = users.aggregate(names=ArrayAgg("name", ordering="id"), text=StringAgg("name", delimiter=",", ordering="id"))
        expect(gathered, {"names": tenant.names, "text": ",".join(tenant.names)})
        expect(users.annotate(label=Concat(Lower("name"), Value("!"), output_field=models.TextField())).filter(label__endswith="!").count(), 3)


def rows_are_written(tenant):
    for alias in aliases(tenant):
        documents, base = Document.objects.using(alias), tenant.base
        documents.create(id=base, tenant_id=tenant.id, title="new", meta={"k": [1, 2]})
        expect(documents.get(meta__k__1=2).id, base)
        # An expression among the values makes Django write VALUES instead of UNNEST.
        made = [Document(id=base + n, tenant_id=tenant.id, title=Value("bulk")) for n in range(1, 30)]
        expect(len(documents.bulk_create(made, batch_size=10)), 29)
        documents.bulk_create(made, update_conflicts=True, unique_fields=["id"], update_fields=["title"])
        documents.bulk_create(made, ignore_conflicts=True)
        for each in made:
            each.title = "changed"
        documents.bulk_update(made, ["title"])
        expect(documents.filter(title="changed").count(), 29)
        one, created = documents.get_or_create(id=base, defaults={"tenant_id": tenant.id})
        expect(created, False)
        one.title, one.parent_id = "saved", base + 1
        one.save()
        expect(documents.select_related("parent").get(id=base).parent.title, "changed")
        _, created = documents.update_or_create(id=base + 40, defaults={"title": "late"}, create_defaults={"tenant_id": tenant.id, "title": "late"})
        expect(created, True)
        expect(documents.filter(id__gt=base + 20).update(title=Concat(F("title"), Value("!"), output_field=models.TextField())), 10)
        expect(documents.filter(id__gte=10_000).delete()[0], 31)


def rows_are_written_by_unnest(tenant):
    """`INSERT … SELECT * FROM UNNEST(…)`: the tenant column among the rows is checked."""
    for alias in aliases(tenant):
        documents = Document.objects.using(alias)
        rows = [Document(id=tenant.base + n, tenant_id=tenant.id, title="unnest") for n in range(5)]
        documents.bulk_create(rows)
        expect(documents.filter(title="unnest").delete()[0], 5)


def transactions_and_savepoints(tenant):
    for alias in aliases(tenant):
        documents = Document.objects.using(alias)
        try:
            with transaction.atomic(using=alias):
                documents.filter(id=tenant.documents[0]).update(title="never")
                try:
                    with transaction.atomic(using=alias):
                        documents.create(id=tenant.documents[0], tenant_id=tenant.id)
                except IntegrityError:
                    pass
                expect(documents.select_for_update(skip_locked=True).get(id=tenant.documents[0]).title, "never")
                with connections[alias].cursor() as cursor:
                    cursor.execute("SELECT * FROM vault")
        except DatabaseError as denial:
            assert "hedgerow: " in str(denial), denial
        else:
            raise AssertionError("not denied")
        assert documents.get(id=tenant.documents[0]).title != "never"
        with transaction.atomic(using=alias, durable=True):
            transaction.on_commit(lambda: None, using=alias)
            expect(documents.count(), len(tenant.documents))
        connections[alias].close()


CHECKS = [
    introspection_reads_the_schema,
    rows_are_filtered_and_joined,
    aggregates_and_expressions,
    rows_are_written,
    rows_are_written_by_unnest,
    transactions_and_savepoints,
]

if __name__ == "__main__":
    run(CHECKS)
    for alias in connections:
        connections[alias].close()
        getattr(connections[alias], "close_pool", lambda: None)()
