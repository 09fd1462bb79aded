"""Fixtures: servers that are started once and only when a test wants them, and a world without anybody's settings."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import hypothesis
import pytest

from p8fs_cluster import Container
from p8fs_cluster.config import secrets, section, spelling
from p8fs_cluster.config.sources import registered, source
from p8fs_cluster.di import context
from p8fs_cluster.logging.setup import LoggingSetup
from tests import servers

hypothesis.settings.register_profile("untimed", deadline=None)  # a slow machine is no fault
hypothesis.settings.load_profile("untimed")


def pytest_report_header() -> str:
    return f"servers: {servers.described()}"


@pytest.fixture(scope="session")
def postgresql_server() -> Iterator[servers.Server]:
    with servers.postgresql() as server:
        yield server


@pytest.fixture(scope="session")
def mariadb_server() -> Iterator[servers.Server]:
    with servers.mariadb() as server:
        yield server


@pytest.fixture(scope="session")
def tidb_server() -> Iterator[servers.Server]:
    with servers.tidb() as server:
        yield server


@pytest.fixture(params=servers.MYSQL)
def mysql_server(request: pytest.FixtureRequest) -> servers.Server:
    """Each server of MySQL's protocol that there is, in turn."""
    server: servers.Server = request.getfixturevalue(f"{request.param}_server")
    return server


@pytest.fixture(params=servers.SQL)
def sql_server(request: pytest.FixtureRequest) -> servers.Server:
    """Each SQL server that there is, in turn."""
    server: servers.Server = request.getfixturevalue(f"{request.param}_server")
    return server


@pytest.fixture
def sql_container(sql_server: servers.Server) -> Iterator[Container]:
    with Container(config=sql_server.settings) as container:
        yield container


@pytest.fixture
def rocksdb_settings(tmp_path: Path) -> dict[str, Any]:
    return {"storage_provider": "rocksdb", "rocksdb_path": tmp_path / "rocksdb"}


@pytest.fixture(autouse=True)
def no_settings_from_outside(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Iterator[None]:
    """No variable of ours, no `.env`, no section of another test, and logging and what is entered as before."""
    entered = list(context._everywhere)
    for name in list(os.environ):
        if name.upper().startswith("P8FS_"):
            monkeypatch.delenv(name)
    monkeypatch.delenv("COLUMNS", raising=False)  # which pytest-xdist sets
    monkeypatch.setenv("PYTEST_ADDOPTS", "-p no:anydi")  # see pyproject.toml; for the tests that run pytest
    monkeypatch.chdir(tmp_path)
    (tmp_path / ".git").touch()  # so that no `.env` above is looked for
    for table in ("_declared", "_owners"):
        entries = vars(section)[table].items()  # a test that is about an engine of the tests declares its settings
        known = {name: cls for name, cls in entries if not cls.__module__.startswith("tests.engines.")}
        monkeypatch.setattr(section, table, known)
    monkeypatch.setattr(registered, "_registered", {})
    monkeypatch.setattr(registered, "_defaults", {})
    monkeypatch.setattr(source, "_own", None)
    spelling.forget()
    secrets.forget()
    yield
    spelling.forget()  # else the process tells at its end of names that a test's section had
    LoggingSetup.reset()
    assert context._everywhere == entered, "a test left a container entered, which would serve the next ones"
