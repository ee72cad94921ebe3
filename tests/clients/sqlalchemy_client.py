"""SQLAlchemy 2 through Hedgerow: reflection, Core, an ORM session. Exit 0 when all of it holds."""

from sqlalchemy import (
    URL, ForeignKey, MetaData, Table, Text, create_engine, delete, exists, func, insert, inspect,
    select, text, update,
)
from sqlalchemy.dialects.postgresql import ARRAY, JSONB, UUID
from sqlalchemy.dialects.postgresql import insert as upsert
from sqlalchemy.exc import IntegrityError, ProgrammingError
from sqlalchemy.orm import (
    DeclarativeBase, Mapped, Session, aliased, joinedload, mapped_column, relationship, selectinload,
    subqueryload,
)
from tenants import DATABASE, expect, run


class Base(DeclarativeBase):
    pass


class User(Base):
    __tablename__ = "users"
    id: Mapped[int] = mapped_column(primary_key=True)
    tenant_id: Mapped[str] = mapped_column(UUID(as_uuid=False))
    email: Mapped[str]
    name: Mapped[str]
    credit: Mapped[int] = mapped_column(server_default=text("0"))
    tags: Mapped[list] = mapped_column(ARRAY(Text), server_default=text("'{}'"))
    orders: Mapped[list["Order"]] = relationship(back_populates="user")


class Order(Base):
    __tablename__ = "orders"
    id: Mapped[int] = mapped_column(primary_key=True)
    tenant_id: Mapped[str] = mapped_column(UUID(as_uuid=False))
    user_id: Mapped[int] = mapped_column(ForeignKey("users.id"))
    total: Mapped[float]
    note: Mapped[str | None]
    user: Mapped[User] = relationship(back_populates="orders")


class Document(Base):
    __tablename__ = "documents"
    id: Mapped[int] = mapped_column(primary_key=True)
    tenant_id: Mapped[str] = mapped_column(UUID(as_uuid=False))
    title: Mapped[str | None]
    meta: Mapped[dict | None] = mapped_column(JSONB(none_as_null=True))
    parent: Mapped[int | None]


def engine(tenant, driver="psycopg", **options):
    url = URL.create(f"postgresql+{driver}", "application", tenant.token, "127.0.0.1", tenant.port, DATABASE)
    return create_engine(url, **options)


def engines(tenant):
    return [engine(tenant, driver) for driver in ("psycopg", "psycopg2")]


def reflection_reads_the_schema(tenant):
    for each in engines(tenant):
        inspector = inspect(each)
        assert {"users", "orders", "documents"} <= set(inspector.get_table_names())
        assert "user_overview" in inspector.get_view_names()
        assert {"public", "metrics"} <= set(inspector.get_schema_names())
        expect(inspector.get_pk_constraint("orders")["constrained_columns"], ["id"])
        expect({key["referred_table"] for key in inspector.get_foreign_keys("orders")}, {"tenants", "users"})
        assert any("lower" in str(index) for index in inspector.get_indexes("users"))
        expect(len(inspector.get_unique_constraints("users")), 2)
        expect(len(inspector.get_check_constraints("users")), 1)
        inspector.get_sequence_names(), inspector.get_enums(), inspector.get_domains()
        inspector.get_table_comment("users"), inspector.get_table_options("users")
        metadata = MetaData()
        metadata.reflect(each, views=True)
        metadata.reflect(each, schema="metrics")
        assert metadata.tables["orders"].c.total.type.scale == 2
        table = Table("documents", MetaData(), autoload_with=each)
        with each.connect() as connection:
            expect(connection.scalars(select(table.c.id).order_by(table.c.id)).all(), tenant.documents)
        each.dispose()


def relationships_load_in_every_way(tenant):
    for each in engines(tenant):
        with Session(each) as session:
            expect(session.scalars(select(User.id).order_by(User.id)).all(), tenant.users)
            expect(sum(len(user.orders) for user in session.scalars(select(User))), len(tenant.orders))
        for strategy in (selectinload, joinedload, subqueryload):
            with Session(each) as session:
                users = session.scalars(select(User).options(strategy(User.orders))).unique().all()
                expect(sorted(order.id for user in users for order in user.orders), tenant.orders, strategy.__name__)
        with Session(each) as session:
            orders = session.scalars(select(Order).options(joinedload(Order.user, innerjoin=True)).order_by(Order.id))
            assert all(order.user.tenant_id == tenant.id for order in orders)
            assert session.get(User, tenant.users[0]).name == tenant.names[0]
            stranger = 101 if tenant.name == "A" else 1
            assert session.get(User, stranger) is None
        each.dispose()


def queries_of_every_shape(tenant):
    for each in engines(tenant):
        with Session(each) as session:
            totals = select(Order.user_id, func.sum(Order.total).label("sum")).group_by(Order.user_id).subquery()
            rows = session.execute(
                select(User.name, totals.c.sum).outerjoin(totals, totals.c.user_id == User.id).order_by(User.id)).all()
            expect([row[0] for row in rows], tenant.names)
            big = session.scalars(select(User.id).where(
                exists().where(Order.user_id == User.id, Order.total > 20)).order_by(User.id)).all()
            assert set(big) <= set(tenant.users), big
            expect(session.scalar(select(func.count()).select_from(User)), 3)
            other = aliased(User)
            pairs = session.execute(select(User.id, other.id).join(other, other.id > User.id)).all()
            expect(len(pairs), 3)
            ranked = session.execute(
                select(User.id, func.row_number().over(order_by=User.credit.desc()))).all()
            expect(len(ranked), 3)
            tree = select(Document.id, Document.parent).where(Document.parent.is_(None)).cte("tree", recursive=True)
            tree = tree.union_all(select(Document.id, Document.parent).join(tree, Document.parent == tree.c.id))
            expect(len(session.execute(select(tree.c.id)).all()), 3 if tenant.name == "A" else 1)
            expect(session.scalars(select(User.id).where(User.id.in_([1, 2, 101])).order_by(User.id)).all(),
                   [n for n in (1, 2, 101) if n in tenant.users])
            expect(session.scalars(select(User.id).where(User.tags.contains(["x"]))).all(), tenant.users[:1])
            expect(session.scalars(select(User.id).where(User.name.ilike("%n%")).order_by(User.id)).all(),
                   [n for n, name in zip(tenant.users, tenant.names) if "n" in name.lower()])
            expect(len(session.scalars(select(Document.id).where(Document.meta["k"].astext.is_not(None))).all()), 2)
            expect(len(session.scalars(select(User).with_for_update().order_by(User.id).limit(2).offset(1)).all()), 2)
            both = select(User.id).union(select(Order.id))
            expect(len(session.execute(both).all()), 3)
        each.dispose()


def a_session_writes(tenant):
    for each in engines(tenant):
        base = tenant.base
        with Session(each) as session:
            session.add_all(Document(id=base + n, tenant_id=tenant.id, title=f"t{n}", meta={"n": n}) for n in range(20))
            session.commit()
            one = session.get(Document, base)
            one.title = "changed"
            session.flush()
            session.refresh(one)
            expect(one.title, "changed")
            with session.begin_nested():
                session.execute(update(Document).where(Document.id > base + 10).values(title="late"))
            expect(session.scalar(select(func.count()).where(Document.title == "late")), 9)
            returned = session.scalars(
                insert(Document).returning(Document.id, sort_by_parameter_order=True),
                [{"id": base + n, "tenant_id": tenant.id, "title": "more"} for n in range(20, 30)]).all()
            expect(returned, [base + n for n in range(20, 30)])
            statement = upsert(Document).values(id=base, tenant_id=tenant.id, title="again")
            statement = statement.on_conflict_do_update(index_elements=["id"], set_={"title": statement.excluded.title})
            expect(session.scalar(statement.returning(Document.title)), "again")
            session.execute(upsert(Document).values(id=base, tenant_id=tenant.id).on_conflict_do_nothing())
            session.delete(session.get(Document, base + 1))
            session.commit()
            expect(session.execute(delete(Document).where(Document.id >= 10_000)).rowcount, 29)
            session.commit()
        with Session(each) as session:
            session.add(Document(id=tenant.documents[0], tenant_id=tenant.id))
            try:
                session.flush()
            except IntegrityError:
                session.rollback()
            else:
                raise AssertionError("a duplicate key")
            try:
                session.execute(text("SELECT * FROM vault"))
            except ProgrammingError as denial:
                assert "hedgerow: " in str(denial), denial
            session.rollback()
            expect(session.scalars(select(Document.id).order_by(Document.id)).all(), tenant.documents)
        each.dispose()


def isolation_levels_and_the_pool(tenant):
    for each in engines(tenant):
        for level in ("SERIALIZABLE", "REPEATABLE READ", "READ COMMITTED", "AUTOCOMMIT"):
            with each.connect().execution_options(isolation_level=level) as connection:
                expect(connection.scalars(select(User.id).order_by(User.id)).all(), tenant.users, level)
        with each.connect().execution_options(postgresql_readonly=True, postgresql_deferrable=True) as connection:
            expect(connection.scalar(text("SHOW transaction_read_only")), "on")
        with each.connect() as connection:
            streamed = connection.execution_options(yield_per=2).execute(select(User.id).order_by(User.id))
            expect([row[0] for row in streamed], tenant.users)
        each.dispose()
    pinged = engine(tenant, pool_pre_ping=True, pool_size=2)
    for _ in range(3):
        with pinged.connect() as connection:
            expect(connection.scalars(select(User.id).order_by(User.id)).all(), tenant.users)
    pinged.dispose()


CHECKS = [
    reflection_reads_the_schema,
    relationships_load_in_every_way,
    queries_of_every_shape,
    a_session_writes,
    isolation_levels_and_the_pool,
]

if __name__ == "__main__":
    run(CHECKS)
