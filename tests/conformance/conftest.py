"""Each engine in turn; a fourth one joins by one line here."""

from __future__ import annotations

import contextlib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from p8fs_cluster import Container
from p8fs_cluster.config.section import claim
from p8fs_cluster.testing import memory_storage
from tests.conformance.awaited import Handle, Loop
from tests.conformance.cases import Bytes, Case, Sql
from tests.engines.installed import install
from tests.engines.sqlite import SQLiteSettings
from tests.servers import SQL, Server

SMALL = 3
"""Connections in the pool, few enough to be exhausted."""


ALL = ("memory", "rocksdb", *SQL, "sqlite")
"""The kinds of stores; the last one is the tests' own engine."""


def through_both(engines: tuple[str, ...]) -> list[str]:
    return [*engines, *(f"async {engine}" for engine in engines)]


@pytest.fixture(params=through_both(ALL))
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Case]:
    """Every engine, through either handle."""
    with case_of(request, tmp_path) as case:
        yield case


@pytest.fixture(params=through_both((*SQL, "sqlite")))
def sql_case(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Case]:
    """Those that declare SQL, through either handle."""
    with case_of(request, tmp_path) as case:
        yield case


@pytest.fixture(params=through_both(SQL))
def server_case(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Case]:
    """The SQL servers, for what they say of sessions and conflicts, through either handle."""
    with case_of(request, tmp_path) as case:
        yield case


@pytest.fixture(params=ALL)
def thread_case(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Case]:
    """Every engine, for what only the synchronous handle has: how a `with` block finds its end."""
    with case_of(request, tmp_path) as case:
        yield case


@pytest.fixture(params=(*SQL, "sqlite"))
def orm_case(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Case]:
    """Those that declare SQL, for what only the synchronous handle has: SQLAlchemy."""
    with case_of(request, tmp_path) as case:
        yield case


@pytest.fixture(params=SQL)
def orm_server_case(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Case]:
    """The SQL servers, for SQLAlchemy."""
    with case_of(request, tmp_path) as case:
        yield case


@contextlib.contextmanager
def case_of(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Case]:
    settings: dict[str, Any] = {"storage_provider": "rocksdb", "rocksdb_path": tmp_path / "rocksdb"}
    elsewhere: dict[str, Any] = {"rocksdb_path": tmp_path / "elsewhere"}
    engine = request.param.removeprefix("async ")
    server: Server | None = None
    if engine == "sqlite":
        request.getfixturevalue("monkeypatch").syspath_prepend(install(tmp_path / "site"))
        claim(SQLiteSettings)  # a test's sections are forgotten at its end, and a module is imported once
        settings = {"storage_provider": "sqlite", "sqlite_path": tmp_path / "app.db"}
        elsewhere = {"service_name": "elsewhere"}
    if engine in SQL:
        server = request.getfixturevalue(f"{engine}_server")
        settings = server.settings
        elsewhere = {"service_name": "elsewhere"}
    with contextlib.ExitStack() as stack:
        loop = stack.enter_context(Loop().running()) if engine != request.param else None
        container = stack.enter_context(Container(config={**settings, "pool_max_size": SMALL, "pool_timeout": 5}))
        if engine == "memory":
            container.storage.override(memory_storage(container.config))
        handle = container.storage()
        url = handle.sqlalchemy_url
        storage: Any = Handle(loop, container.async_storage(), url) if loop else handle
        yield Case(
            container=container,
            storage=storage,
            access=Sql(storage) if url else Bytes(),
            elsewhere=elsewhere,
            transactional=storage.transactional,
            sql=url is not None,
            size=lambda: storage.stats()["borrowed"],
            kind=engine,
            server=server,
        )
        if engine == "memory":
            handle.shut()
