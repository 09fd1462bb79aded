"""The pytest plugin, in a pytest run of its own and in this one."""

from __future__ import annotations

import logging
import subprocess
import sys
from pathlib import Path
from typing import Any

import pytest

from p8fs_cluster import Container
from p8fs_cluster.testing.plugin import CapturedLogs

TESTS = """
import pytest
from p8fs_cluster import Container, Provide, inject

@inject
def port(api=Provide[Container.api]):
    return api.port

def test_shut_out(container, monkeypatch):
    assert container.config().pg_host == "localhost" and container.storage().provider == "rocksdb"
    with container.storage() as database:
        database[b"a"] = b"1"

@pytest.mark.settings(api_port=9001)
class TestMarked:
    def test_of_the_class(self, container):
        assert port() == 9001

    @pytest.mark.settings(api_port=9002)
    def test_nearest(self, container, override_settings):
        assert port() == 9002
        override_settings(api_port=9003)
        override_settings(pg_host="db")
        assert port() == 9003 and container.config().pg_host == "db"

def test_leaks_an_override(container):
    container.api.override("fake")

def test_leaks_a_connection(container):
    container.kept = container.storage().connection()
    container.kept.__enter__()

def test_leaks_an_isolated_override(container):
    container.config.override({"api_port": 9009}, isolated=True)

def test_after_the_leaks(container):
    assert port() == 8000
"""


OWN = """
from collections.abc import Iterator
from typing import Any
import pytest
from fastapi import FastAPI
from fastapi.testclient import TestClient
from p8fs_cluster import Container, Provide, Scoped, inject
from p8fs_cluster.frameworks.fastapi import lifespan

def open_transaction() -> Iterator[list]:
    yield []

class Application(Container):
    transaction = Scoped(open_transaction)
    tenant = Scoped.given(str)

@inject
def use(transaction: list = Provide[Application.transaction], tenant: str = Provide[Application.tenant]) -> str:
    transaction.append(tenant)
    return tenant * len(transaction)

def test_a_scope(container, open_scope):
    assert isinstance(container.transaction, Scoped)
    open_scope(values={str: "a"})
    assert [use(), use()] == ["a", "aa"]
    with container.transaction.override([1]):
        assert use() == "aa"

@pytest.mark.settings(api_port=9001)
def test_before_the_lifespan_starts(container):
    app = FastAPI(lifespan=lifespan(container, values=lambda connection: {str: "t"}))
    @app.get("/")
    @inject
    def get(transaction: Any = Provide[Application.transaction], api: Any = Provide[Container.api]) -> list:
        return [transaction, api.port]
    with container.transaction.override("fake"), TestClient(app) as client:
        assert client.get("/").json() == ["fake", 9001]

def test_leaks_an_override(container):
    container.transaction.override("fake")
"""


@pytest.mark.parametrize("how", ["ini", "fixture"])
def test_a_container_of_ones_own(how: str, tmp_path: Path) -> None:
    (tmp_path / "test_own.py").write_text(OWN)
    if how == "ini":
        (tmp_path / "pytest.ini").write_text("[pytest]\np8fs_container = test_own:Application\npythonpath = .\n")
    else:
        (tmp_path / "pytest.ini").write_text("[pytest]\npythonpath = .\n")
        (tmp_path / "conftest.py").write_text(
            "import pytest\n@pytest.fixture(scope='session')\n"
            "def container_class():\n    from test_own import Application\n    return Application\n"
        )
    command = [sys.executable, "-m", "pytest", "-q", "-rA", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert "3 passed, 1 error" in done.stdout, done.stdout
    assert "an override of 'transaction'" in done.stdout


def test_a_container_that_is_not_there(tmp_path: Path) -> None:
    (tmp_path / "test_own.py").write_text("def test_it(container): pass\n")
    (tmp_path / "pytest.ini").write_text("[pytest]\np8fs_container = nowhere:Application\n")
    command = [sys.executable, "-m", "pytest", "-q", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert "p8fs_container=nowhere:Application names no container class" in done.stdout + done.stderr


def test_in_a_run_of_its_own(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("P8FS_PG_HOST", "outside")
    (tmp_path / "test_it.py").write_text(TESTS)
    (tmp_path / ".env").write_text("P8FS_PG_HOST=from-the-file\n")
    (tmp_path / "pytest.ini").write_text("[pytest]\naddopts = --strict-markers\n")
    command = [sys.executable, "-m", "pytest", "-q", "-rA", "-p", "no:cacheprovider", str(tmp_path)]
    done = subprocess.run(command, cwd=tmp_path, capture_output=True, text=True)
    assert "7 passed, 3 errors" in done.stdout, done.stdout
    assert "left behind: an override of 'api'" in done.stdout
    assert "left behind: 1 borrowed connection(s)" in done.stdout


@pytest.mark.settings(service_name="plugged")
def test_in_ours(container: Container, override_settings: Any, capture_logs: CapturedLogs) -> None:
    container.logger().info("number %d", 7)
    assert (capture_logs.messages, capture_logs.records[0].name) == (["number 7"], "plugged")
    assert capture_logs.records[0].levelno == logging.INFO
    override_settings(service_name="other")
    assert container.logger().name == "other"
