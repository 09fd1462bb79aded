"""SQLAlchemy over the handle has what its dialects expect of a pool of their own."""

from __future__ import annotations

import gc
import threading
from typing import Any

import pytest
import sqlalchemy as sa
from sqlalchemy.orm import DeclarativeBase, Mapped, mapped_column

from tests.conformance.cases import Case


class Base(DeclarativeBase):
    pass


class Row(Base):
    __tablename__ = "orm_rows"
    id: Mapped[int] = mapped_column(primary_key=True)
    text: Mapped[str] = mapped_column(sa.String(20))


def test_an_update_that_changes_nothing_finds_its_row(orm_case: Case) -> None:
    """The ORM takes a row that was found, and not changed, for one that is there."""
    engine = orm_case.container.engine()
    Base.metadata.drop_all(engine)
    Base.metadata.create_all(engine)
    with orm_case.container.session() as session:
        session.add(Row(id=1, text="old"))
        session.commit()
    with orm_case.container.session() as session:
        session.expire_on_commit = False
        row = session.get_one(Row, 1)
        session.commit()
        orm_case.storage.execute("UPDATE orm_rows SET text = 'new' WHERE id = 1")
        row.text = "new"
        session.commit()
    with engine.begin() as connection:
        assert connection.execute(sa.update(Row).values(text="new")).rowcount == 1


def test_an_invalidated_connection_is_not_lent_again(orm_server_case: Case) -> None:
    session = sa.text(
        "SELECT pg_backend_pid()" if orm_server_case.storage.provider == "postgresql" else "SELECT CONNECTION_ID()"
    )
    with orm_server_case.container.config.override({"pool_max_size": 1}):
        with orm_server_case.container.engine().connect() as connection:
            first = connection.scalar(session)
            connection.invalidate()
        with orm_server_case.container.engine().connect() as connection:
            assert connection.scalar(session) != first
        assert orm_server_case.storage.stats()["borrowed"] == 0


def test_a_level_of_isolation_with_the_drivers_cursor(orm_server_case: Case) -> None:
    level = "SERIALIZABLE" if orm_server_case.storage.provider == "postgresql" else "READ COMMITTED"
    with orm_server_case.container.config.override({"pool_max_size": 1}):
        for _ in range(3):
            with orm_server_case.container.engine().connect().execution_options(isolation_level=level) as connection:
                cursor = connection.connection.cursor()
                cursor.execute("SELECT 1")
                cursor.close()
                assert connection.get_isolation_level() == level
            with orm_server_case.container.engine().connect() as connection:
                assert connection.get_isolation_level() != level
        assert orm_server_case.storage.stats()["borrowed"] == 0


def test_json_and_arrays(orm_case: Case) -> None:
    value = {"a": [1, None, "→ 😀"]}
    table = sa.Table("orm_json", sa.MetaData(), sa.Column("j", sa.JSON), sa.Column("b", sa.LargeBinary))
    engine = orm_case.container.engine()
    table.drop(engine, checkfirst=True)
    table.create(engine)
    with engine.begin() as connection:
        connection.execute(table.insert(), {"j": value, "b": b"\x00\xff"})
        assert connection.execute(sa.select(table)).all() == [(value, b"\x00\xff")]


def test_a_table_that_changes_under_prepared_statements(orm_case: Case) -> None:
    """A migration costs nothing where the statement is the first of its transaction, and no more than a repetition."""
    storage, name = orm_case.storage, "migrated"
    for sql in (f"DROP TABLE IF EXISTS {name}", f"CREATE TABLE {name} (n INT)", f"INSERT INTO {name} VALUES (1)"):
        storage.execute(sql)

    def in_a_transaction(connection: Any) -> Any:
        cursor = connection.cursor()
        cursor.execute("SELECT 1")
        cursor.fetchall()
        cursor.execute(f"SELECT * FROM {name} WHERE n = %s", (1,))
        return list(cursor.fetchall())

    def by_the_orm() -> Any:
        with orm_case.container.session() as session:
            return session.execute(sa.text(f"SELECT * FROM {name} WHERE n = :n"), {"n": 1}).all()

    ways = [
        lambda: storage.execute(f"SELECT * FROM {name} WHERE n = %s", (1,)),
        lambda: storage.run_in_transaction(in_a_transaction),
        by_the_orm,
    ]
    for number, way in enumerate(ways):
        together = [threading.Thread(target=lambda way=way: [way() for _ in range(10)]) for _ in range(3)]
        for thread in together:
            thread.start()
        for thread in together:
            thread.join()
        storage.execute(f"ALTER TABLE {name} ADD COLUMN c{number} INT")
        for _ in range(10):
            assert len(way()[0]) == number + 2


def test_a_connection_that_is_forgotten_comes_back(orm_case: Case) -> None:
    with orm_case.container.config.override({"pool_max_size": 1}):
        connection = orm_case.container.engine().connect()
        connection.execute(sa.text("SELECT 1"))
        del connection
        gc.collect()
        assert orm_case.storage.execute("SELECT 1") == [(1,)]


def test_errors_show_no_parameters_unless_the_setting_says_so(orm_case: Case) -> None:
    statement, engine = sa.text("SELECT * FROM no_such_table WHERE a = :a"), orm_case.container.engine()
    for shown in (False, True, False):
        with (
            orm_case.container.config.override({"log_parameters": shown}),
            pytest.raises(sa.exc.DBAPIError) as caught,
            orm_case.container.session() as session,
        ):
            session.execute(statement, {"a": "ann@example"})
        assert ("ann@example" in str(caught.value)) is shown
    with pytest.raises(sa.exc.DBAPIError) as caught, engine.connect() as connection:
        connection.execute(statement, {"a": "ann@example"})
    assert "ann@example" not in str(caught.value)
