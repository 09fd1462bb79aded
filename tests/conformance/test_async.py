"""What only the asynchronous handle has: tasks, loops and cancellation. The rest of the suite serves both."""

from __future__ import annotations

import asyncio
import contextlib
import os
import random
from collections.abc import AsyncIterator, Awaitable, Callable
from pathlib import Path
from typing import Any

import aiomysql
import psycopg
import pymysql
import pytest
import uvloop

from p8fs_cluster import Container, Provide, inject
from p8fs_cluster.exceptions import StorageClosed, StorageError, StorageTimeout, StorageUnavailable
from p8fs_cluster.providers.storage.async_handle import AsyncStorage
from p8fs_cluster.providers.storage.threaded import Threaded
from p8fs_cluster.testing import memory_storage
from tests.processes import forked
from tests.servers import SQL, Server, free_port

SLEEP = {"postgresql": "SELECT pg_sleep(60)", "tidb": "SELECT SLEEP(60)"}


@pytest.fixture(params=["memory", "rocksdb", *SQL])
def settings(request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    """The settings of every engine."""
    if request.param in SQL:
        server: Server = request.getfixturevalue(f"{request.param}_server")
        return {**server.settings, "pool_max_size": 3}
    named = {"rocksdb_path": tmp_path / "rocksdb", "storage_provider": "rocksdb"}
    return {**named, "service_name": request.param}


@pytest.fixture(params=SQL)
def sql_settings(request: pytest.FixtureRequest) -> dict[str, Any]:
    """The settings of those that speak SQL."""
    server: Server = request.getfixturevalue(f"{request.param}_server")
    return {**server.settings, "pool_max_size": 3}


@contextlib.asynccontextmanager
async def storage_of(settings: dict[str, Any]) -> AsyncIterator[tuple[Container, AsyncStorage]]:
    """Give a container and its asynchronous handle."""
    async with Container(config=settings) as container:
        if settings.get("service_name") == "memory":
            container.storage.override(memory_storage(container.config))
        yield container, container.async_storage()


def run(settings: dict[str, Any], test: Callable[[Container, AsyncStorage], Awaitable[None]]) -> None:
    """Run a test in an event loop of its own; nothing is left borrowed."""

    async def body() -> None:
        async with storage_of(settings) as (container, storage):
            await test(container, storage)
            assert storage.stats()["borrowed"] == 0

    asyncio.run(body())


async def ask(connection: Any, statement: Any, parameters: Any = None) -> list[Any]:
    cursor = connection.cursor() if isinstance(connection, psycopg.AsyncConnection) else await connection.cursor()
    await cursor.execute(statement, parameters)
    return list(await cursor.fetchall()) if cursor.description else []


async def put(storage: AsyncStorage, key: str, value: str) -> None:
    async with storage as connection:
        await put_on(connection, key, value)


async def put_on(connection: Any, key: str, value: str) -> None:
    if isinstance(connection, Threaded):
        await connection.put(key.encode(), value.encode())
    else:
        await ask(connection, "INSERT INTO async_conformance VALUES (%s, %s)", (key, value))


async def get(storage: AsyncStorage, key: str) -> str | None:
    async with storage as connection:
        if isinstance(connection, Threaded):
            value = await connection.get(key.encode())
            return None if value is None else value.decode()
        rows = await ask(connection, "SELECT value FROM async_conformance WHERE name = %s", (key,))
        return rows[0][0] if rows else None


async def with_table(storage: AsyncStorage) -> None:
    if storage.provider in ("postgresql", "tidb"):
        await storage.execute("DROP TABLE IF EXISTS async_conformance")
        await storage.execute("CREATE TABLE async_conformance (name VARCHAR(64) PRIMARY KEY, value TEXT)")


def test_commit_and_rollback(settings: dict[str, Any]) -> None:
    async def test(container: Container, storage: AsyncStorage) -> None:
        await with_table(storage)
        await put(storage, "key", "wärde → 値")
        assert await get(storage, "key") == "wärde → 値"
        for kind in (ZeroDivisionError, asyncio.CancelledError, KeyError):
            with pytest.raises(kind):
                async with storage as connection:
                    await put_on(connection, kind.__name__, "x")
                    raise kind
            assert (await get(storage, kind.__name__) is None) is storage.transactional
        assert 0 < await storage.ping() < 60

    run(settings, test)


def test_tasks_have_connections_of_their_own(settings: dict[str, Any]) -> None:
    async def test(container: Container, storage: AsyncStorage) -> None:
        await with_table(storage)
        await asyncio.gather(*(put(storage, f"key {number}", str(number)) for number in range(30)))
        assert [await get(storage, f"key {number}") for number in range(30)] == [str(number) for number in range(30)]
        assert storage.stats()["borrowed"] == 0

    run(settings, test)


def test_it_follows_overrides_and_closes(sql_settings: dict[str, Any]) -> None:
    async def test(container: Container, storage: AsyncStorage) -> None:
        async with storage as old:
            with container.config.override({"service_name": "elsewhere"}):
                async with storage as new:
                    assert new is not old
                assert await ask(old, "SELECT 1") == [(1,)]
            async with storage.connection() as again:
                assert again is not new
        prefix = "pg" if storage.provider == "postgresql" else "tidb"
        with container.config.override({f"{prefix}_port": free_port()}), pytest.raises(StorageUnavailable):
            await storage.execute("SELECT 1")
        assert await storage.execute("SELECT 1") == [(1,)]
        await container.aclose()
        with pytest.raises(StorageClosed):
            await storage.execute("SELECT 1")
        with container:
            assert await storage.execute("SELECT 1") == [(1,)]

    run(sql_settings, test)


def test_it_is_injected(settings: dict[str, Any]) -> None:
    @inject
    async def pinged(storage: AsyncStorage = Provide[Container.async_storage]) -> float:
        return await storage.ping()

    async def test(container: Container, storage: AsyncStorage) -> None:
        assert await pinged() > 0

    run(settings, test)


def test_each_loop_has_an_engine_of_its_own(sql_settings: dict[str, Any]) -> None:
    whoami = {"postgresql": "SELECT pg_backend_pid()", "tidb": "SELECT CONNECTION_ID()"}[
        sql_settings["storage_provider"]
    ]
    with Container(config=sql_settings) as container:
        storage = container.async_storage()
        first, second = (asyncio.run(storage.execute(whoami)) for _ in range(2))
        assert first != second
        assert storage.stats()["engines"] == 0, "each was closed with its loop"


def test_deadlines(sql_settings: dict[str, Any]) -> None:
    async def test(container: Container, storage: AsyncStorage) -> None:
        sleep = SLEEP[storage.provider]
        with pytest.raises(StorageTimeout, match="timeout="):
            await storage.execute(sleep, timeout=0.1)
        with pytest.raises((psycopg.OperationalError, pymysql.OperationalError)):
            async with storage.connection(timeout=0.1) as connection:
                await ask(connection, sleep)
        with container.config.override({"query_timeout": 0.1}), pytest.raises(StorageTimeout, match="QUERY_TIMEOUT"):
            await storage.execute(sleep)
        assert await storage.execute("SELECT 1", timeout=30) == [(1,)]

    run(sql_settings, test)


def test_a_server_that_hangs(sql_server: Server) -> None:
    if not sql_server.is_ours:
        pytest.skip("the environment names this server; it is not ours to stop")

    async def test(container: Container, storage: AsyncStorage) -> None:
        assert await storage.execute("SELECT 1") == [(1,)]
        sql_server.hang()
        try:
            calls = [storage.execute("SELECT 1", timeout=0.5) for _ in range(8)]
            answers = await asyncio.gather(*calls, return_exceptions=True)
        finally:
            sql_server.go_on()
        assert {type(answer).__bases__[0] for answer in answers} <= {StorageTimeout, StorageUnavailable, StorageError}
        assert await storage.execute("SELECT 1") == [(1,)]

    run({**sql_server.settings, "pool_max_size": 2}, test)


def test_a_restart(sql_server: Server) -> None:
    if not sql_server.is_ours:
        pytest.skip("the environment names this server; it is not ours to stop")

    async def test(container: Container, storage: AsyncStorage) -> None:
        async with storage, storage:
            pass
        sql_server.stop()
        with pytest.raises(StorageUnavailable):
            await storage.execute("SELECT 1")
        sql_server.start()
        assert [await storage.execute("SELECT 1") for _ in range(10)] == [[(1,)]] * 10

    run(sql_server.settings, test)


def test_cancelled_tasks_poison_nothing(sql_settings: dict[str, Any]) -> None:
    """Every answer belongs to its question, whenever others were cancelled."""
    chance = random.Random(1)

    async def test(container: Container, storage: AsyncStorage) -> None:
        async def question(number: int) -> None:
            async with storage as connection:
                assert await ask(connection, f"SELECT {number}") == [(number,)]
                assert await ask(connection, f"SELECT {number} + 1") == [(number + 1,)]

        async def cancelled(number: int) -> None:
            task = asyncio.create_task(question(number))
            for _ in range(chance.randrange(12)):
                await asyncio.sleep(0)
            task.cancel()
            with contextlib.suppress(asyncio.CancelledError):
                await task

        for start in range(0, 1000, 20):
            await asyncio.gather(
                *(cancelled(start + number) for number in range(10)), question(start), question(-start)
            )
        assert storage.stats()["waiting"] == 0

    run(sql_settings, test)


def test_a_child_has_connections_of_its_own(sql_settings: dict[str, Any]) -> None:
    whoami = {"postgresql": "SELECT pg_backend_pid()", "tidb": "SELECT CONNECTION_ID()"}[
        sql_settings["storage_provider"]
    ]

    async def test(container: Container, storage: AsyncStorage) -> None:
        mine = await storage.execute(whoami)

        def in_child() -> Any:
            asyncio._set_running_loop(None)
            return asyncio.run(storage.execute(whoami))

        assert forked(in_child) != [list(row) for row in mine]
        assert await storage.execute(whoami) == mine
        assert os.getpid()

    run(sql_settings, test)


def test_a_late_borrower_of_an_engine_not_in_force_is_cut_off(
    sql_settings: dict[str, Any], caplog: pytest.LogCaptureFixture
) -> None:
    async def test(container: Container, storage: AsyncStorage) -> None:
        with container.config.override({"pool_drain_timeout": 0.2, "service_name": "old"}) as old:
            del old
            checkout = storage.connection()
            connection = await checkout.__aenter__()
        await storage.execute("SELECT 1")
        with pytest.raises((psycopg.Error, pymysql.MySQLError)):
            for _ in range(1000):
                await ask(connection, "SELECT 1")
                await asyncio.sleep(0.01)
        with contextlib.suppress(StorageError):
            await checkout.__aexit__(None, None, None)
        assert "is not in force any more, and its borrower is cut off" in caplog.text

    run(sql_settings, test)


def test_results_that_are_half_read(sql_settings: dict[str, Any]) -> None:
    """What a borrower did not read never reaches the next one."""

    async def test(container: Container, storage: AsyncStorage) -> None:
        with container.config.override({"pool_max_size": 1}):
            for _ in range(3):
                if storage.provider == "postgresql":
                    async with storage as connection, connection.cursor(name="half") as cursor:
                        await cursor.execute("SELECT generate_series(1, 1000)")
                        assert await cursor.fetchone() == (1,)
                else:
                    with pytest.warns(UserWarning, match="left incomplete"):
                        async with storage as connection:
                            cursor = await connection.cursor(aiomysql.SSCursor)
                            await cursor.execute("SELECT 1 UNION SELECT 2 UNION SELECT 3")
                            assert await cursor.fetchone() is not None
                assert await storage.execute("SELECT 7") == [(7,)]

    run(sql_settings, test)


@pytest.mark.parametrize("runner", ["asyncio", "uvloop"])
def test_one_loop_after_the_other(sql_settings: dict[str, Any], runner: str) -> None:
    runs = asyncio.run if runner == "asyncio" else uvloop.run
    with Container(config=sql_settings) as container:
        for _ in range(4):
            assert runs(container.async_storage().execute("SELECT 1")) == [(1,)]
