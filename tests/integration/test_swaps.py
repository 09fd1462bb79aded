"""Engines that change under those who use them: by a reload, at a rotated password, to one that is not there."""

from __future__ import annotations

import logging
import threading
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from p8fs_cluster import Container
from p8fs_cluster.exceptions import StorageError, StorageUnavailable
from p8fs_cluster.health.checks import steps
from tests.processes import until
from tests.servers import Server, free_port

PREFIX = {"postgresql": "pg", "tidb": "tidb"}


@pytest.fixture
def environment(sql_server: Server, monkeypatch: pytest.MonkeyPatch) -> Server:
    """A server that the environment's settings lead to, not an override's."""
    for name, value in sql_server.settings.items():
        monkeypatch.setenv(f"P8FS_{name.upper()}", str(value))
    return sql_server


@pytest.fixture
def container(environment: Server) -> Iterator[Container]:
    with Container() as container:
        assert container.storage().execute("SELECT 1") == [(1,)]
        yield container


def who(container: Container) -> Any:
    statement = {"postgresql": "SELECT current_user::text", "tidb": "SELECT CURRENT_USER()"}
    return container.storage().execute(statement[container.storage().provider])[0][0].partition("@")[0]


def rotating(container: Container, password: str) -> None:
    """Make the user, or give it another password."""
    with container.storage() as connection:
        cursor = connection.cursor()
        if container.storage().provider == "postgresql":
            cursor.execute("SELECT 1 FROM pg_roles WHERE rolname = 'rotating'")
            verb = "ALTER" if cursor.fetchall() else "CREATE"
            cursor.execute(f"{verb} ROLE rotating LOGIN PASSWORD '{password}'")
        else:
            cursor.execute("CREATE USER IF NOT EXISTS rotating@'%'")
            cursor.execute(f"ALTER USER rotating@'%' IDENTIFIED BY '{password}'")
            cursor.execute("GRANT ALL ON test.* TO rotating@'%'")


def test_a_password_that_rotates_under_load(
    container: Container, environment: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    admin, name = Container(config=environment.settings), PREFIX[environment.settings["storage_provider"]].upper()
    faults: list[Exception] = []
    served, over = [0], threading.Event()

    def caller() -> None:
        while not over.is_set():
            try:
                container.storage().execute("SELECT 1")
                served[0] += 1
            except Exception as exc:
                faults.append(exc)

    with admin:
        rotating(admin, "first")
        monkeypatch.setenv(f"P8FS_{name}_USER", "rotating")
        monkeypatch.setenv(f"P8FS_{name}_PASSWORD", "first")
        container.config.reload()
        threads = [threading.Thread(target=caller) for _ in range(8)]
        for thread in threads:
            thread.start()
        for number in range(5):
            rotating(admin, f"number {number}")
            monkeypatch.setenv(f"P8FS_{name}_PASSWORD", f"number {number}")
            container.config.reload()
            before = served[0]
            until(lambda before=before: served[0] > before + 20 or faults, "callers go on")
        over.set()
        for thread in threads:
            thread.join()
    assert faults == []
    assert container.storage().stats()["swaps"] == 6
    assert container.storage().stats()["engines"] == 1


def test_what_cant_be_verified_leaves_the_old_one_serving(
    container: Container, environment: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    name = PREFIX[environment.settings["storage_provider"]].upper()
    before, snapshot = who(container), container.config()
    monkeypatch.setenv(f"P8FS_{name}_PORT", str(free_port()))
    with pytest.raises(StorageUnavailable, match=f"P8FS_{name}_PORT \\(from the environment\\)"):
        container.config.reload()
    assert container.config() is snapshot
    assert who(container) == before
    assert container.storage().stats()["engines"] == 1
    told = next(iter(steps(container.config, container.storage())))
    assert "the last good settings stay in force" in str(told.fault)
    monkeypatch.setenv(f"P8FS_{name}_PORT", str(environment.settings[f"{name.lower()}_port"]))
    container.config.reload()
    assert all(step.ok for step in steps(container.config, container.storage()))


def test_to_another_provider_and_back(
    container: Container, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, environment: Server
) -> None:
    with container.storage() as connection:
        monkeypatch.setenv("P8FS_STORAGE_PROVIDER", "rocksdb")
        monkeypatch.setenv("P8FS_ROCKSDB_PATH", str(tmp_path / "rocksdb"))
        container.config.reload()
        with container.storage() as database:
            database[b"key"] = b"value"
        cursor = connection.cursor()
        cursor.execute("SELECT 1")
        assert list(cursor.fetchall()) == [(1,)], "who has borrowed keeps the old one"
    assert container.storage().stats()["engines"] == 1, "which is closed when it is given back"
    monkeypatch.setenv("P8FS_STORAGE_PROVIDER", environment.settings["storage_provider"])
    container.config.reload()
    assert container.storage().execute("SELECT 1") == [(1,)]


def test_who_does_not_give_back_is_cut_off(
    container: Container, monkeypatch: pytest.MonkeyPatch, caplog: pytest.LogCaptureFixture
) -> None:
    monkeypatch.setenv("P8FS_POOL_DRAIN_TIMEOUT", "0.05")
    monkeypatch.setenv("P8FS_POOL_MAX_SIZE", "2")
    container.config.reload()
    caplog.set_level(logging.WARNING)
    with pytest.raises(StorageError), container.storage() as connection:
        connection.cursor().execute("SELECT 1")
        monkeypatch.setenv("P8FS_POOL_MAX_SIZE", "3")
        container.config.reload()
        until(lambda: "is cut off" in caplog.text, "the borrower is told")
    assert f"{Path(__file__).name}:" in caplog.text
    until(lambda: container.storage().stats()["engines"] == 1, "the old engine is closed")
    assert container.storage().execute("SELECT 1") == [(1,)]


def test_an_override_is_never_served_by_another_store(container: Container, environment: Server) -> None:
    """Whoever names a store by an override wants that one, or an error: what he writes must not go elsewhere."""
    name = PREFIX[environment.settings["storage_provider"]]
    with container.config.override({f"{name}_port": free_port()}), pytest.raises(StorageUnavailable):
        container.storage().execute("SELECT 1")
    assert container.storage().execute("SELECT 1") == [(1,)]
