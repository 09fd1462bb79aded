"""What the SQL stores promise, with one text on each; and what the others say when they are asked for SQL."""

from __future__ import annotations

import math
import select
import threading
from typing import Any

import psycopg.rows
import pymysql.cursors
import pytest
import sqlalchemy

from p8fs_cluster.exceptions import StorageError, StorageUnavailable
from tests.conformance.cases import Case


def test_a_store_without_sql_says_so(case: Case) -> None:
    if case.sql:
        assert case.storage.execute("SELECT 1") == [(1,)]
        return
    with pytest.raises(StorageError, match="no SQL"):
        case.storage.execute("SELECT 1")
    with pytest.raises(StorageError, match="no SQL"):
        case.container.engine().connect()


def test_execute(sql_case: Case) -> None:
    storage = sql_case.storage
    assert storage.execute("SELECT %s, %s", (1, "ö%s'\"\\→")) == [(1, "ö%s'\"\\→")]
    assert storage.execute("INSERT INTO conformance VALUES (%s, %s)", ("a", "1")) == []
    assert storage.execute("SELECT name FROM conformance WHERE name LIKE 'a%'") == [("a",)]
    assert storage.execute("SELECT value FROM conformance WHERE name = %(name)s", {"name": "a"}) == [("1",)]
    assert storage.execute("SELECT * FROM conformance WHERE name = 'b'") == []


def test_a_statement_that_fails(sql_case: Case) -> None:
    storage = sql_case.storage
    storage.execute("INSERT INTO conformance VALUES ('twice', 'x')")
    with pytest.raises(StorageError, match="the statement failed") as caught:
        storage.execute("INSERT INTO conformance VALUES ('twice', 'x')")
    assert caught.value.__cause__ is not None
    with pytest.raises(StorageError):
        storage.execute("SELEKT")
    assert storage.execute("SELECT 1") == [(1,)]
    assert storage.stats()["borrowed"] == 0


def test_a_failed_transaction_does_not_reach_the_next_borrower(sql_case: Case) -> None:
    for _ in range(5):
        with pytest.raises(Exception, match=r"SELEKT|syntax"), sql_case.storage as connection:
            connection.cursor().execute("SELEKT")
        assert sql_case.storage.execute("SELECT 1") == [(1,)]


def test_an_exhausted_pool_is_told_in_time(sql_case: Case) -> None:
    with sql_case.container.config.override({"pool_max_size": 1, "pool_timeout": 0.2}):
        with sql_case.storage, pytest.raises(StorageUnavailable, match="P8FS_POOL_MAX_SIZE") as caught:
            sql_case.storage.execute("SELECT 1")
        assert "all 1 connections were borrowed for 0.2 s" in str(caught.value)
        assert sql_case.storage.execute("SELECT 1") == [(1,)]


def test_a_waiting_borrower_gets_what_comes_back(sql_case: Case) -> None:
    results = []
    with sql_case.container.config.override({"pool_max_size": 1}):
        with sql_case.storage:
            thread = threading.Thread(target=lambda: results.append(sql_case.storage.execute("SELECT 1")))
            thread.start()
        thread.join()
    assert results == [[(1,)]]


def test_borrowers_are_served_in_turn(sql_case: Case) -> None:
    """However busy the pool, nobody is passed over: of five threads on one connection each gets its share."""
    together, served = threading.Barrier(5), [0] * 5

    def use(number: int) -> None:
        together.wait()
        while sum(served) < 2000:
            sql_case.storage.execute("SELECT 1")
            served[number] += 1

    with sql_case.container.config.override({"pool_max_size": 1}):
        threads = [threading.Thread(target=use, args=(number,)) for number in range(5)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()
    assert min(served) > 50


@pytest.mark.parametrize("parameters", [(1, 2), {}, ("\udcff",)])
def test_parameters_that_do_not_fit(sql_case: Case, parameters: Any) -> None:
    with pytest.raises(StorageError, match="the statement failed"):
        sql_case.storage.execute("SELECT %(a)s, '%%'" if parameters == {} else "SELECT %s, %s, %s", parameters)
    assert sql_case.storage.execute("SELECT 1") == [(1,)]


def test_statements_that_leave_something_open(sql_case: Case) -> None:
    sql_case.storage.execute("BEGIN")
    if sql_case.storage.provider == "postgresql":
        with pytest.raises(StorageError, match="COPY"):
            sql_case.storage.execute("COPY (SELECT 1) TO STDOUT")
    for _ in range(3):
        assert sql_case.storage.execute("SELECT 1") == [(1,)]


def test_the_shape_of_rows_does_not_reach_the_next_borrower(sql_case: Case) -> None:
    with sql_case.storage as connection:
        if sql_case.storage.provider == "postgresql":
            connection.row_factory = psycopg.rows.dict_row
            connection.read_only = True
        else:
            connection.cursorclass = pymysql.cursors.DictCursor
    sql_case.put("writable", "x")
    with sql_case.storage as connection, connection.cursor() as cursor:
        cursor.execute("SELECT 1")
        assert list(cursor.fetchall()) == [(1,)]


def test_autocommit_does_not_reach_the_next_borrower(server_case: Case) -> None:
    with server_case.storage as connection:
        if server_case.storage.provider == "postgresql":
            connection.autocommit = True
        else:
            connection.autocommit(True)
        server_case.access.put(connection, "at once", "x")
        assert server_case.get("at once") == "x"
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), server_case.storage as connection:
            server_case.access.put(connection, "undone", "x")
            1 / 0  # noqa: B018
    assert server_case.get("undone") is None


def test_a_connection_that_its_borrower_closed_is_replaced(sql_case: Case) -> None:
    for _ in range(5):
        with sql_case.storage as connection:
            connection.close()
    assert sql_case.storage.execute("SELECT 1") == [(1,)]


def test_a_server_that_ended_the_session_is_noticed(server_case: Case) -> None:
    storage = server_case.storage
    by_provider = {
        "postgresql": ("SELECT pg_backend_pid()", "SELECT pg_terminate_backend(%s)"),
        "tidb": ("SELECT connection_id()", "KILL %s"),
    }
    whoami, kill = by_provider[storage.provider]
    with storage as first, storage as second:
        sessions = {}
        for connection in (first, second):
            cursor = connection.cursor()
            cursor.execute(whoami)
            sessions[cursor.fetchone()[0]] = connection.fileno()
    with storage as killer:
        cursor = killer.cursor()
        cursor.execute(whoami)
        me = cursor.fetchone()[0]
        for session in sessions.keys() - {me}:
            cursor.execute(kill, (session,))
            assert select.select([sessions[session]], [], [], 30)[0], "the server closes it a moment later"
    for _ in range(5):
        assert storage.execute("SELECT 1") == [(1,)]


def test_sqlalchemy_shares_the_pool_and_follows(orm_case: Case) -> None:
    engine = orm_case.container.engine()
    table = sqlalchemy.table("conformance", sqlalchemy.column("name"), sqlalchemy.column("value"))
    with engine.begin() as connection:
        connection.execute(table.insert(), [{"name": "orm", "value": "x"}])
        assert orm_case.storage.stats()["borrowed"] == 1
    assert orm_case.get("orm") == "x"
    with engine.connect() as connection:
        connection.execute(table.insert(), [{"name": "not committed", "value": "x"}])
    assert orm_case.get("not committed") is None
    with pytest.raises(ZeroDivisionError), engine.begin() as connection:
        connection.execute(table.insert(), [{"name": "rolled back", "value": "x"}])
        1 / 0  # noqa: B018
    assert orm_case.get("rolled back") is None
    with orm_case.container.config.override(orm_case.elsewhere):
        assert orm_case.container.engine() is engine
        with engine.connect() as connection:
            assert connection.scalar(sqlalchemy.text("SELECT 1")) == 1
        assert orm_case.storage.stats()["engines"] == 2
    assert orm_case.storage.stats()["borrowed"] == 0
    for _ in range(20):
        with engine.connect() as connection:
            assert connection.scalar(sqlalchemy.select(sqlalchemy.func.count()).select_from(table)) == 1
    assert orm_case.storage.stats()["size"] <= 3


def test_an_engine_object_of_another_provider_says_so(orm_case: Case) -> None:
    engine = orm_case.container.engine()
    other = "tidb" if orm_case.storage.provider == "postgresql" else "postgresql"
    with (
        orm_case.container.config.override({"storage_provider": other}),
        pytest.raises(StorageError, match=r"call container\.engine\(\) again"),
        engine.connect(),
    ):
        pass


@pytest.mark.parametrize("value", [b"abc", b"", b"\x00\xff'", bytearray(b"xyz")], ids=repr)
def test_bytes_as_parameters(sql_case: Case, value: Any) -> None:
    kind = "BYTEA" if sql_case.storage.provider == "postgresql" else "BLOB"
    sql_case.storage.execute("DROP TABLE IF EXISTS blobs")
    sql_case.storage.execute(f"CREATE TABLE blobs (v {kind})")
    sql_case.storage.execute("INSERT INTO blobs VALUES (%s)", (value,))
    [(back,)] = sql_case.storage.execute("SELECT v FROM blobs")
    assert bytes(back) == bytes(value)


def test_lists_as_parameters(server_case: Case) -> None:
    """Each driver has its own form for many values: arrays on PostgreSQL, lists in brackets on MySQL's protocol."""
    if server_case.storage.provider == "postgresql":
        assert server_case.storage.execute("SELECT 1 WHERE 'a' = ANY(%s)", (["a", "b"],)) == [(1,)]
        return
    for values in (("a", "b"), ["a", "b"], [b"a"], {"a"}):
        assert server_case.storage.execute("SELECT 1 WHERE 'a' IN %s", (values,)) == [(1,)]


@pytest.mark.parametrize("timeout", [math.inf, 1e9, 1e300])
def test_endless_and_huge_timeouts_as_the_first_use(case: Case, timeout: float) -> None:
    with case.storage.connection(timeout=timeout) as connection:
        case.access.put(connection, "key", "x")
    assert case.get("key") == "x"


def test_large_statements_stay_in_no_cache(server_case: Case) -> None:
    import tracemalloc

    server_case.storage.execute("SELECT 1")
    tracemalloc.start()
    try:
        for number in range(40):
            server_case.storage.execute(f"SELECT LENGTH('{number:08d}{'x' * 1_000_000}')")
        held, _ = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert held < 10_000_000
