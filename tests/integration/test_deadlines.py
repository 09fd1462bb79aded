"""Deadlines: every wait ends, whatever the server does, and what was ended is never lent again."""

from __future__ import annotations

import asyncio
import math
import threading
import time
from collections.abc import Iterator
from typing import Any

import psycopg
import pymysql
import pytest

from p8fs_cluster import Container, Storage
from p8fs_cluster.exceptions import CommitUnknown, StorageTimeout, StorageUnavailable
from tests.relays import relay
from tests.servers import Server

SLEEP = {"postgresql": "SELECT pg_sleep(60)", "tidb": "SELECT SLEEP(60)"}


@pytest.fixture
def storage(sql_server: Server) -> Iterator[Storage]:
    if not sql_server.is_ours:
        pytest.skip("the environment names this server; it is not ours to stop")
    with Container(config=sql_server.settings) as container:
        container.storage().execute("SELECT 1")
        yield container.storage()
        sql_server.go_on()


def run(connection: Any, statement: str) -> list[Any]:
    cursor = connection.cursor()
    cursor.execute(statement)
    return list(cursor.fetchall())


def test_a_slow_statement_ends(storage: Storage) -> None:
    with pytest.raises(StorageTimeout, match="timeout="):
        storage.execute(SLEEP[storage.provider], timeout=0.2)
    assert storage.execute("SELECT 1", timeout=30) == [(1,)]
    assert storage.stats()["borrowed"] == 0


def test_the_fault_is_the_drivers_too(storage: Storage) -> None:
    with pytest.raises((psycopg.OperationalError, pymysql.OperationalError)) as caught:
        storage.execute(SLEEP[storage.provider], timeout=0.2)
    assert isinstance(caught.value, StorageTimeout)


def test_the_settings_bound_each_wait(sql_server: Server) -> None:
    with Container(config={**sql_server.settings, "query_timeout": 0.2}) as container:
        storage = container.storage()
        with pytest.raises(StorageTimeout, match=r"P8FS_QUERY_TIMEOUT \(from code\)"), storage as connection:
            run(connection, SLEEP[storage.provider])
        with pytest.raises(StorageTimeout, match=r"within 0\.2 s"):
            storage.execute(SLEEP[storage.provider])
        with storage.connection(timeout=math.inf) as connection:  # a block's own deadline takes its place
            short = SLEEP[storage.provider].replace("60", "0.4")
            assert len(run(connection, short)) == 1


def test_a_block_ends_against_a_server_that_hangs(storage: Storage, sql_server: Server) -> None:
    with pytest.raises(StorageTimeout), storage.connection(timeout=0.5) as connection:
        run(connection, "SELECT 1")
        sql_server.hang()
        run(connection, "SELECT 1")
    sql_server.go_on()
    assert storage.execute("SELECT 1") == [(1,)]


def test_a_statement_that_is_too_big_for_the_buffers_of_a_server_that_hangs(
    storage: Storage, sql_server: Server
) -> None:
    with pytest.raises(StorageTimeout), storage.connection(timeout=1) as connection:
        run(connection, "SELECT 1")
        sql_server.hang()
        run(connection, f"SELECT LENGTH('{'x' * 15_000_000}')")


def test_what_the_deadline_ended_is_not_lent_again(storage: Storage) -> None:
    with pytest.raises(StorageTimeout), storage.connection(timeout=0.2) as connection:
        run(connection, SLEEP[storage.provider])
    with storage as following:
        assert following is not connection
        assert run(following, "SELECT 2") == [(2,)]


def test_a_block_that_is_late_itself_sends_no_commit(storage: Storage) -> None:
    storage.execute("DROP TABLE IF EXISTS late")
    storage.execute("CREATE TABLE late (name VARCHAR(10))")
    late = threading.Event()
    with pytest.raises(StorageTimeout), storage.connection(timeout=0.3) as connection:
        connection.cursor().execute("INSERT INTO late VALUES ('x')")
        late.wait(0.4)
    assert storage.execute("SELECT * FROM late") == []


def test_a_commit_whose_answer_does_not_come(storage: Storage, sql_server: Server) -> None:
    storage.execute("DROP TABLE IF EXISTS unknown")
    storage.execute("CREATE TABLE unknown (name VARCHAR(10))")
    attempts = []

    def work(connection: Any) -> None:
        attempts.append(connection)
        connection.cursor().execute("INSERT INTO unknown VALUES ('x')")
        sql_server.hang()

    with pytest.raises(CommitUnknown, match="look whether it was done"):
        storage.run_in_transaction(work, timeout=0.5)
    assert len(attempts) == 1, "a commit that may have been done is not repeated"


def test_connecting_to_a_server_that_hangs(sql_server: Server) -> None:
    if not sql_server.is_ours:
        pytest.skip("the environment names this server; it is not ours to stop")
    with Container(config=sql_server.settings) as container:
        sql_server.hang()
        try:
            with pytest.raises(StorageUnavailable, match=r"opened by the deadline|no answer"):
                container.storage().execute("SELECT 1", timeout=0.3)
        finally:
            sql_server.go_on()


def test_one_more_connection_to_a_server_that_hangs(storage: Storage, sql_server: Server) -> None:
    with storage:
        sql_server.hang()
        with pytest.raises(StorageUnavailable):
            storage.execute("SELECT 1", timeout=0.3)
        sql_server.go_on()


def test_a_result_larger_than_the_buffers_is_whole(storage: Storage) -> None:
    assert len(storage.execute("SELECT REPEAT('x', 3000000)", timeout=30)[0][0]) == 3_000_000


@pytest.mark.parametrize("timeout", [0, -1, math.nan])
def test_what_is_no_timeout_is_refused(sql_container: Container, timeout: float) -> None:
    with pytest.raises(ValueError, match="timeout is in seconds"):
        sql_container.storage().execute("SELECT 1", timeout=timeout)
    assert sql_container.storage().stats()["borrowed"] == 0


@pytest.mark.parametrize("handle", ["threads", "asyncio"])
def test_a_result_that_trickles_ends_at_the_deadline(sql_server: Server, handle: str) -> None:
    """Bytes that come one by one, within one packet, keep nobody waiting."""
    trickling = threading.Event()
    prefix = "pg" if sql_server.provider == "postgresql" else "tidb"
    with relay("127.0.0.1", 0, sql_server.settings[f"{prefix}_port"], trickling) as port:
        settings = {**sql_server.settings, f"{prefix}_host": "127.0.0.1", f"{prefix}_port": port, "pool_max_size": 1}
        large = "SELECT REPEAT('x', 100000)"

        async def asynchronous() -> None:
            async with Container(config=settings) as container:
                storage = container.async_storage()
                assert len((await storage.execute(large))[0][0]) == 100_000
                trickling.set()
                with pytest.raises(StorageTimeout):
                    await storage.execute(large, timeout=0.5)

        begun = time.monotonic()
        if handle == "asyncio":
            asyncio.run(asynchronous())
        else:
            with Container(config=settings) as container:
                assert len(container.storage().execute(large)[0][0]) == 100_000
                trickling.set()
                with pytest.raises(StorageTimeout):
                    container.storage().execute(large, timeout=0.5)
        assert time.monotonic() - begun < 60, "all of it would take 1,000 s"
