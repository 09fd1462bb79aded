"""A statement of `execute` is a transaction of its own: what that costs, what it leaves, and an answer that is lost."""

from __future__ import annotations

import contextlib
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from p8fs_cluster import Container
from p8fs_cluster.config.settings import P8FSConfig
from p8fs_cluster.exceptions import CommitUnknown, StorageError
from p8fs_cluster.providers.storage.postgresql.messages import PostgreSQLMessages
from tests.chaos.network import network
from tests.conformance.awaited import Handle, Loop
from tests.conformance.conftest import through_both
from tests.processes import until
from tests.relays import Turns, relay
from tests.servers import MYSQL, SQL, Server


@contextlib.contextmanager
def handle(request: pytest.FixtureRequest, port: int) -> Iterator[Any]:
    """Give a handle of one connection that leads through another port."""
    engine = request.param.removeprefix("async ")
    server: Server = request.getfixturevalue(f"{engine}_server")
    plain = {"pg_sslmode": "disable"} if engine == "postgresql" else {}
    with contextlib.ExitStack() as stack:
        loop = stack.enter_context(Loop().running()) if engine != request.param else None
        settings = {**server.settings, str(server.port_setting): port, "pool_max_size": 1, **plain}
        container = stack.enter_context(Container(config=settings))
        yield Handle(loop, container.async_storage(), "") if loop else container.storage()


@pytest.fixture(params=through_both(MYSQL))
def counted(request: pytest.FixtureRequest) -> Iterator[tuple[Any, Turns]]:
    server: Server = request.getfixturevalue(f"{request.param.removeprefix('async ')}_server")
    turns = Turns()
    with (
        relay("127.0.0.1", 0, server.settings["tidb_port"], turns=turns) as port,
        handle(request, port) as storage,
    ):
        storage.execute("DROP TABLE IF EXISTS alone")
        storage.execute("CREATE TABLE alone (id INTEGER)")
        yield storage, turns


def run(connection: Any, statement: str) -> Any:
    cursor = connection.cursor()
    cursor.execute(statement)
    return list(cursor.fetchall()) if cursor.description else []


def test_one_round_trip_and_one_more_after_a_block(counted: tuple[Any, Turns]) -> None:
    storage, turns = counted
    storage.execute("SELECT 1")  # the session was reset after the CREATE
    for _ in range(3):
        before = turns.count
        assert storage.execute("SELECT COUNT(*) FROM alone") == [(0,)]
        assert turns.count - before == 1
    with storage.connection() as connection:
        run(connection, "SELECT 1")
    for round_trips in (2, 1):
        before = turns.count
        storage.execute("INSERT INTO alone VALUES (1)")
        assert turns.count - before == round_trips


def test_a_block_after_it_is_a_transaction(counted: tuple[Any, Turns]) -> None:
    storage, _ = counted
    storage.execute("INSERT INTO alone VALUES (1)")
    with pytest.raises(KeyError), storage.connection() as connection:
        assert connection.get_autocommit() is False
        run(connection, "INSERT INTO alone VALUES (2)")
        assert connection.get_autocommit() is False
        raise KeyError
    assert storage.execute("SELECT id FROM alone") == [(1,)]


def test_a_borrower_may_let_each_statement_be_one(counted: tuple[Any, Turns]) -> None:
    storage, _ = counted
    storage.execute("INSERT INTO alone VALUES (1)")
    with pytest.raises(KeyError), storage.connection() as connection:
        connection.autocommit(True)
        assert connection.get_autocommit() is True
        run(connection, "INSERT INTO alone VALUES (2)")
        raise KeyError
    assert storage.execute("SELECT id FROM alone ORDER BY id") == [(1,), (2,)]


def test_who_is_interrupted_in_the_change_leaves_no_answer_behind(counted: tuple[Any, Turns]) -> None:
    storage, _ = counted
    storage.execute("SELECT 1")

    def interrupted() -> None:
        raise InterruptedError

    with pytest.raises(InterruptedError), storage.connection() as connection:
        connection._read_ok_packet = interrupted
        run(connection, "SELECT 2")
    assert storage.stats()["size"] == 0, "it was to be ended"
    assert storage.execute("SELECT 3") == [(3,)]


@pytest.mark.parametrize("statement", ["SET autocommit = 0", "SET SESSION autocommit = OFF", "BEGIN"])
def test_what_it_does_to_the_session_is_undone(counted: tuple[Any, Turns], statement: str) -> None:
    storage, _ = counted
    storage.execute("SELECT 1")
    storage.execute(statement)
    storage.execute("INSERT INTO alone VALUES (1)")
    with pytest.raises(KeyError), storage.connection() as connection:
        run(connection, "INSERT INTO alone VALUES (2)")
        raise KeyError
    assert storage.execute("SELECT id FROM alone") == [(1,)]


def test_one_that_failed_leaves_nothing_open(counted: tuple[Any, Turns]) -> None:
    storage, _ = counted
    with pytest.raises(StorageError, match="no_such_table"):
        storage.execute("INSERT INTO no_such_table VALUES (1)")
    storage.execute("INSERT INTO alone VALUES (1)")
    assert storage.execute("SELECT id FROM alone") == [(1,)]


@pytest.mark.parametrize("refused", ["mariadb", "async mariadb"])
def test_what_could_not_be_sent_whole_was_not_done(refused: str, request: pytest.FixtureRequest) -> None:
    request.param = refused
    server: Server = request.getfixturevalue("mariadb_server")
    with handle(request, server.settings["tidb_port"]) as storage:
        storage.execute("DROP TABLE IF EXISTS refused")
        storage.execute("CREATE TABLE refused (v LONGBLOB)")
        with pytest.raises(StorageError, match="max_allowed_packet") as caught:
            storage.execute("INSERT INTO refused VALUES (%s)", (b"x" * (20 << 20),))
        assert not isinstance(caught.value, CommitUnknown)
        assert storage.execute("SELECT COUNT(*) FROM refused") == [(0,)]


@pytest.mark.parametrize(
    ("statement", "expected"),
    [
        ("SELECT v FROM refused", StorageError),
        (" (select 1) union (select 2)", StorageError),
        ("SELECT v INTO other FROM refused", CommitUnknown),
        ("EXPLAIN ANALYZE INSERT INTO refused VALUES ('')", CommitUnknown),
        ("WITH gone AS (DELETE FROM refused RETURNING v) SELECT v FROM gone", CommitUnknown),
        ("/* select */ UPDATE refused SET v = ''", CommitUnknown),
    ],
)
def test_whether_a_lost_statement_may_have_written(statement: str, expected: type[StorageError]) -> None:
    assert type(PostgreSQLMessages(P8FSConfig()).of_statement(statement, "lost", lost=True)) is expected
    assert type(PostgreSQLMessages(P8FSConfig()).of_statement(statement, "refused", lost=False)) is StorageError


LONG = {
    "postgresql": "FROM pg_sleep(1)",
    "mariadb": "FROM (SELECT SLEEP(1)) AS slept",
    "tidb": "FROM (SELECT SLEEP(1)) AS slept",
}
SEEN = {
    "postgresql": "SELECT count(*) FROM pg_stat_activity WHERE state = 'active' AND query LIKE %s",
    "mariadb": "SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE %s",
    "tidb": "SELECT COUNT(*) FROM information_schema.processlist WHERE info LIKE %s",
}


@pytest.mark.parametrize("lost", through_both(SQL))
def test_an_answer_that_is_lost(lost: str, request: pytest.FixtureRequest) -> None:
    """A write may have been done, so it is no statement that failed; a read has done nothing."""
    request.param = lost
    kind = lost.removeprefix("async ")
    server: Server = request.getfixturevalue(f"{kind}_server")
    with Container(config=server.settings) as beside, network(server.settings[str(server.port_setting)]) as between:
        direct = beside.storage()
        direct.execute("DROP TABLE IF EXISTS lost")
        direct.execute("CREATE TABLE lost (id INTEGER)")
        with handle(request, between.port) as storage:
            for statement, expected in (
                (f"SELECT 1 {LONG[kind]}", StorageError),
                (f"INSERT INTO lost SELECT 1 {LONG[kind]}", CommitUnknown),
            ):
                between.heal()
                storage.execute("SELECT 1")
                faults: list[BaseException] = []

                def execute(statement: str = statement, faults: list[BaseException] = faults) -> None:
                    try:
                        storage.execute(statement)
                    except StorageError as exc:
                        faults.append(exc)

                thread = threading.Thread(target=execute)
                thread.start()
                until(lambda: direct.execute(SEEN[kind], (f"{statement}%",)) != [(0,)], "it runs")  # noqa: B023
                between.cut()
                thread.join()
                assert [type(fault) for fault in faults] == [expected]
        until(lambda: direct.execute("SELECT COUNT(*) FROM lost") == [(1,)], "it was done all the same")
