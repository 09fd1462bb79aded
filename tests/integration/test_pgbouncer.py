"""A real PgBouncer in transaction mode: the next statement may run in another session."""

from __future__ import annotations

import asyncio
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest
from sqlalchemy import text

from p8fs_cluster import Container
from p8fs_cluster.exceptions import StorageError, StorageUnavailable
from tests import servers
from tests.servers import Server

MANY = 200


@pytest.fixture(scope="module")
def bouncer(postgresql_server: Server) -> Iterator[Server]:
    with servers.pgbouncer(postgresql_server) as server:
        yield server


@pytest.fixture
def settings(bouncer: Server) -> dict[str, Any]:
    return {**bouncer.settings, "pg_pgbouncer": True, "pool_max_size": 8, "pg_statement_timeout": 30}


def test_statements_from_many_threads(settings: dict[str, Any]) -> None:
    with Container(config=settings) as container, ThreadPoolExecutor(8) as threads:
        storage = container.storage()

        def square(number: int) -> Any:
            with storage as connection:
                connection.execute("SELECT set_config('p8fs.number', %s::text, true)", (number,))
                return connection.execute("SELECT %s::int * current_setting('p8fs.number')::int", (number,)).fetchone()

        answers = list(threads.map(square, range(MANY)))
    assert answers == [(number * number,) for number in range(MANY)]


def test_statements_from_many_tasks(settings: dict[str, Any]) -> None:
    async def squares() -> list[Any]:
        async with Container(config=settings) as container:
            storage = container.async_storage()
            return await asyncio.gather(*(storage.execute("SELECT %s::int * 2", (n,)) for n in range(MANY)))

    assert asyncio.run(squares()) == [[(2 * number,)] for number in range(MANY)]


def test_the_server_takes_its_time_limit_from_its_own_settings(settings: dict[str, Any]) -> None:
    """PgBouncer would refuse the connection for the option that carries ours."""
    with Container(config=settings) as container:
        assert container.storage().execute("SHOW statement_timeout") == [("0",)]


def test_a_pooler_that_restarts(settings: dict[str, Any], bouncer: Server) -> None:
    with Container(config=settings) as container:
        storage = container.storage()
        assert storage.execute("SELECT 1") == [(1,)]
        bouncer.kill()
        bouncer.start()
        for _ in range(10):
            assert storage.execute("SELECT 1") == [(1,)]


def test_orm(settings: dict[str, Any]) -> None:
    with Container(config=settings) as container, ThreadPoolExecutor(8) as threads:

        def double(number: int) -> Any:
            with container.session() as session:
                return session.execute(text("SELECT :n * 2"), {"n": number}).scalar_one()

        assert list(threads.map(double, range(MANY))) == [2 * number for number in range(MANY)]


def test_a_pooler_that_no_setting_tells_of_is_named(bouncer: Server) -> None:
    """Statements that one session prepared are run in another."""
    with Container(config={**bouncer.settings, "pool_max_size": 8}) as container, ThreadPoolExecutor(8) as threads:
        storage = container.storage()

        def ask(number: int) -> str:
            try:
                storage.execute("SELECT %s::int", (number,))
            except StorageError as exc:
                return str(exc)
            return ""

        faults = [fault for fault in threads.map(ask, range(500)) if fault]
    assert faults
    assert all("P8FS_PG_PGBOUNCER=true" in fault for fault in faults), faults[0]


def test_its_refusal_of_our_options_names_the_setting(bouncer: Server) -> None:
    with Container(config={**bouncer.settings, "pg_statement_timeout": 5}) as container:  # noqa: SIM117
        with pytest.raises(StorageUnavailable, match="P8FS_PG_PGBOUNCER"):
            container.storage().execute("SELECT 1")
