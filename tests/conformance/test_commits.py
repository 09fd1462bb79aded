"""A block that ends without an error was committed; one that was not is told so, and may be run again."""

from __future__ import annotations

import contextlib
import select
import sqlite3
import threading
from typing import Any

import psycopg
import psycopg.rows
import psycopg.sql
import pymysql
import pytest
import sqlalchemy

from p8fs_cluster.exceptions import NotCommitted, StorageError
from tests.conformance.cases import Case
from tests.processes import until

POSTGRESQL = "postgresql"


def run(connection: Any, statement: Any) -> Any:
    cursor = connection.cursor()
    cursor.execute(statement)
    return list(cursor.fetchall()) if cursor.description else []


def fail(connection: Any) -> None:
    """Let a statement fail, and catch its error."""
    with contextlib.suppress(psycopg.Error, pymysql.MySQLError, sqlite3.Error):
        run(connection, "SELECT * FROM there_is_no_such_table")


def ends_transactions(case: Case) -> bool:
    """Return whether an error of any statement fails the transaction; on MySQL's protocol it undoes the statement."""
    return case.storage.provider == POSTGRESQL


def test_an_error_that_the_block_caught(sql_case: Case) -> None:
    told = pytest.raises(NotCommitted, match=r"connection\.transaction") if ends_transactions(sql_case) else None
    with told or contextlib.nullcontext(), sql_case.storage as connection:
        sql_case.access.put(connection, "key", "x")
        fail(connection)
    assert sql_case.get("key") == (None if told else "x")
    assert sql_case.storage.execute("SELECT 1") == [(1,)]


def test_the_error_that_was_caught_is_the_cause(sql_case: Case) -> None:
    if not ends_transactions(sql_case):
        return
    with pytest.raises(NotCommitted) as caught, sql_case.storage as connection:
        fail(connection)
    assert isinstance(caught.value.__cause__, psycopg.errors.UndefinedTable)


def test_a_rollback_by_the_block_is_no_error(server_case: Case) -> None:
    for how in ("method", "statement"):
        with server_case.storage as connection:
            server_case.access.put(connection, "undone", "x")
            fail(connection)
            connection.rollback() if how == "method" else run(connection, "ROLLBACK")
            server_case.access.put(connection, how, "x")
        assert (server_case.get("undone"), server_case.get(how)) == (None, "x")


def test_a_rollback_in_any_clothes(server_case: Case) -> None:
    statements: list[Any] = ["/* all of it */ ROLLBACK", "-- all\n rollback", b"ROLLBACK"]
    if ends_transactions(server_case):
        statements += [psycopg.sql.SQL("ROLLBACK"), "ABORT"]
    for number, statement in enumerate(statements):
        with server_case.storage as connection:
            server_case.access.put(connection, "undone", "x")
            fail(connection)
            run(connection, statement)
            server_case.access.put(connection, f"kept {number}", "x")
        assert (server_case.get("undone"), server_case.get(f"kept {number}")) == (None, "x")


def test_a_savepoint_keeps_the_rest(server_case: Case) -> None:
    with server_case.storage as connection:
        server_case.access.put(connection, "kept", "x")
        run(connection, "SAVEPOINT here")
        fail(connection)
        run(connection, "ROLLBACK TO SAVEPOINT here")
    assert server_case.get("kept") == "x"


@pytest.mark.parametrize("how", ["method", "COMMIT", "end", "/* all */ COMMIT"])
def test_a_commit_by_the_block_after_an_error(sql_case: Case, how: str) -> None:
    if not ends_transactions(sql_case):
        return
    with pytest.raises(NotCommitted), sql_case.storage as connection:
        sql_case.access.put(connection, "key", "x")
        fail(connection)
        connection.commit() if how == "method" else run(connection, how)
    assert sql_case.get("key") is None


def test_sqlalchemy_is_told(orm_case: Case) -> None:
    if not ends_transactions(orm_case):
        return
    insert = sqlalchemy.text("INSERT INTO conformance VALUES ('orm', 'x')")

    def failing(connection: Any) -> None:
        connection.execute(insert)
        with contextlib.suppress(sqlalchemy.exc.DBAPIError):
            connection.execute(sqlalchemy.text("SELECT * FROM there_is_no_such_table"))

    with pytest.raises(sqlalchemy.exc.DBAPIError, match="nothing was committed"):  # noqa: SIM117
        with orm_case.container.engine().begin() as connection:
            failing(connection)
    with orm_case.container.session() as session:
        failing(session)
        with pytest.raises(sqlalchemy.exc.DBAPIError, match="nothing was committed"):
            session.commit()
    assert orm_case.get("orm") is None
    assert orm_case.storage.stats()["borrowed"] == 0


def conflicting(case: Case) -> Any:
    """Return work whose first attempt meets a real conflict, whose error it catches; and the list of its attempts."""
    storage, attempts = case.storage, []
    case.put("a", "0")
    case.put("b", "0")

    def change(connection: Any, name: str) -> None:
        run(connection, f"UPDATE conformance SET value = CONCAT(value, '+') WHERE name = '{name}'")

    def rival(ready: threading.Event, go: threading.Event) -> None:
        with storage as connection:
            change(connection, "b")
            ready.set()
            go.wait(30)
            with contextlib.suppress(psycopg.Error, pymysql.MySQLError):
                change(connection, "a")
            connection.rollback()

    def work(connection: Any) -> None:
        attempts.append(connection)
        if len(attempts) > 1:
            change(connection, "a")
            change(connection, "b")
            return
        ready, go = threading.Event(), threading.Event()
        thread = threading.Thread(target=rival, args=(ready, go))
        thread.start()
        change(connection, "a")
        ready.wait(30)
        go.set()
        try:
            change(connection, "b")
        except (psycopg.Error, pymysql.MySQLError):  # one of the two is chosen; the test wants this one
            with contextlib.suppress(psycopg.Error):  # on PostgreSQL nothing more is taken
                case.access.put(connection, "alone", "x")
        else:
            attempts.pop()
            connection.rollback()
            thread.join()
            work(connection)
            return
        thread.join()

    return work, attempts


def test_a_deadlock_that_the_block_caught_is_run_again(server_case: Case) -> None:
    """The server ended the transaction at the deadlock: what followed must not be committed alone."""
    work, attempts = conflicting(server_case)
    server_case.storage.run_in_transaction(work)
    assert len(attempts) == 2
    assert [server_case.get(name) for name in ("a", "b", "alone")] == ["0+", "0+", None]


def test_a_deadlock_that_a_plain_block_caught_is_told(server_case: Case) -> None:
    work, _ = conflicting(server_case)
    with pytest.raises(NotCommitted, match=r"1213|had failed"), server_case.storage as connection:
        work(connection)
    assert [server_case.get(name) for name in ("a", "b", "alone")] == ["0", "0", None]
    assert server_case.storage.execute("SELECT 1") == [(1,)]


def test_a_commit_that_is_refused_leaves_nothing(sql_case: Case) -> None:
    storage = sql_case.storage
    if storage.provider != POSTGRESQL:
        return
    storage.execute("DROP TABLE IF EXISTS deferred")
    storage.execute("CREATE TABLE deferred (n INT UNIQUE DEFERRABLE INITIALLY DEFERRED)")
    with sql_case.container.config.override({"pool_max_size": 1}):
        with pytest.raises(StorageError, match="could not be committed"), storage as connection:
            connection.row_factory = psycopg.rows.dict_row
            run(connection, "SELECT pg_advisory_lock(7)")
            run(connection, "INSERT INTO deferred VALUES (1), (1)")
        assert storage.execute("SELECT count(*) FROM pg_locks WHERE locktype = 'advisory'") == [(0,)]
        with storage as connection:
            assert run(connection, "SELECT 1") == [(1,)]


def test_two_phases_left_open(sql_case: Case) -> None:
    storage = sql_case.storage
    if storage.provider == POSTGRESQL:
        begin = [lambda connection: connection.tpc_begin(connection.xid(1, "open", "x"))]
    elif sql_case.server is not None and sql_case.server.kind == "mariadb":
        begin = [lambda connection: run(connection, "XA START 'open'")]
    else:  # TiDB has no XA
        return
    with pytest.raises(StorageError), storage as connection:
        begin[0](connection)
        sql_case.access.put(connection, "open", "x")
    assert sql_case.get("open") is None


def test_a_stream_that_is_left_early(sql_case: Case) -> None:
    if sql_case.storage.provider != POSTGRESQL or "async" in type(sql_case.storage).__name__:
        return
    with sql_case.container.storage() as connection:
        for _ in connection.cursor().stream("SELECT generate_series(1, 3)"):
            pass
        run(connection, "INSERT INTO conformance VALUES ('whole', 'x')")
    with pytest.raises(NotCommitted), sql_case.container.storage() as connection:
        run(connection, "INSERT INTO conformance VALUES ('early', 'x')")
        for _ in connection.cursor().stream("SELECT generate_series(1, 1000000)"):
            break
    assert (sql_case.get("whole"), sql_case.get("early")) == ("x", None)


def test_a_session_that_the_server_ended_is_no_unknown_commit(server_case: Case) -> None:
    storage = server_case.storage
    session, kill = {
        POSTGRESQL: ("SELECT pg_backend_pid()", "SELECT pg_terminate_backend({})"),
        "tidb": ("SELECT CONNECTION_ID()", "KILL {}"),
    }[storage.provider]
    with pytest.raises(NotCommitted, match="before the commit was sent"), storage as connection:
        server_case.access.put(connection, "ended", "x")
        number = run(connection, session)[0][0]
        storage.execute(kill.format(number))
        until(lambda: select.select([connection.fileno()], [], [], 0)[0], "the server closes it")
        until(lambda: is_closed(connection.fileno()), "the server closes it")
    assert server_case.get("ended") is None


def is_closed(fileno: int) -> bool:
    poller = select.poll()
    poller.register(fileno, select.POLLRDHUP)
    return bool(poller.poll(0))
