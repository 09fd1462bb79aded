"""Passwords that last for a while: of a callable and of a command, on each SQL server, on threads and asyncio."""

from __future__ import annotations

import asyncio
import shlex
import sys
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest

from p8fs_cluster import Container, StorageUnavailable, set_password_source
from p8fs_cluster.exceptions import ConfigurationError
from p8fs_cluster.providers.storage import passwords
from tests import servers


class Rotating:
    """A user of a server whose password changes; it hands out the password, and counts how often it is asked."""

    def __init__(self, server: servers.Server) -> None:
        self.prefix = "pg" if server.settings["storage_provider"] == "postgresql" else "tidb"
        self.setting = f"{self.prefix}_password"
        self._administrator = Container(config=server.settings)
        self.settings = {**server.settings, f"{self.prefix}_user": "rotating", self.setting: "never-right"}
        self.asked = 0
        self.password = ""

    def rotate(self, password: str) -> None:
        """Give the user another password."""
        for statement in self._statements(password):
            self._administrator.storage().execute(statement)
        self.password = password

    def _statements(self, password: str) -> list[str]:
        if self.prefix == "pg":
            exists = self._administrator.storage().execute("SELECT 1 FROM pg_roles WHERE rolname = 'rotating'")
            return [f"{'ALTER' if exists else 'CREATE'} ROLE rotating LOGIN PASSWORD '{password}'"]
        return [
            "CREATE USER IF NOT EXISTS rotating@'%'",
            f"ALTER USER rotating@'%' IDENTIFIED BY '{password}'",
            "GRANT ALL ON *.* TO rotating@'%'",
        ]

    def __call__(self) -> str:
        self.asked += 1
        return self.password

    def close(self) -> None:
        """End what was opened."""
        set_password_source(self.setting, None)
        self._administrator.close()


@pytest.fixture
def rotating(sql_server: servers.Server) -> Iterator[Rotating]:
    user = Rotating(sql_server)
    user.rotate("hunter-first")
    yield user
    user.close()


def on_threads(container: Container) -> Any:
    return container.storage().execute("SELECT 1")


def on_asyncio(container: Container) -> Any:
    return asyncio.run(awaited(container))


async def awaited(container: Container) -> Any:
    async with container:
        return await container.async_storage().execute("SELECT 1")


sides = pytest.mark.parametrize("side", [on_threads, on_asyncio])
Side = Callable[[Container], Any]


@sides
def test_a_callable_is_asked_and_what_it_gave_is_kept(side: Side, rotating: Rotating) -> None:
    set_password_source(rotating.setting, rotating)
    for _ in range(3):
        with Container(config=rotating.settings) as container:
            assert side(container) == [(1,)]
    assert rotating.asked == 1


@sides
def test_asked_anew_when_it_ends_and_when_the_server_refuses_it(
    side: Side, rotating: Rotating, monkeypatch: pytest.MonkeyPatch
) -> None:
    now = [100.0]
    monkeypatch.setattr(passwords, "clock", lambda: now[0])
    set_password_source(rotating.setting, lambda: (rotating(), 60.0))
    for password, seconds, asked in (("hunter-1", 0, 1), ("hunter-1", 59, 1), ("hunter-1", 60, 2), ("hunter-2", 61, 3)):
        rotating.rotate(password)
        now[0] = 100.0 + seconds
        with Container(config=rotating.settings) as container:
            assert side(container) == [(1,)], (password, seconds)
        assert rotating.asked == asked


@sides
def test_a_command(side: Side, rotating: Rotating, tmp_path: Path) -> None:
    (tmp_path / "password").write_text("hunter-first\n")
    command = f"{sys.executable} -c \"print(open('{tmp_path}/password').read(), end='')\""
    settings = {**rotating.settings, f"{rotating.setting}_command": command}
    with Container(config=settings) as container:
        assert side(container) == [(1,)]
    (tmp_path / "password").write_text("hunter-second\n")
    rotating.rotate("hunter-second")
    with Container(config=settings) as container:
        assert side(container) == [(1,)]
        container.logger().warning("with hunter-second")


@sides
@pytest.mark.parametrize(
    ("code", "told"),
    [
        ("raise SystemExit(3)", "ended with exit code 3"),
        ("import time; time.sleep(60)", "did not end within 1.6 of the P8FS_POOL_TIMEOUT=2 seconds"),
        ("pass", "gave no password"),
        (None, "can't be run: No such file or directory"),
    ],
)
def test_a_command_that_fails(side: Side, code: str | None, told: str, rotating: Rotating) -> None:
    command = "/no/such/command" if code is None else f"{sys.executable} -c {shlex.quote(code)}"
    settings = {**rotating.settings, f"{rotating.setting}_command": command, "pool_timeout": 2}
    with Container(config=settings) as container, pytest.raises(StorageUnavailable) as caught:
        side(container)
    assert told in str(caught.value)


@sides
def test_a_password_that_stays_wrong_is_asked_for_once_more_and_no_oftener(side: Side, rotating: Rotating) -> None:
    rotating.password = "hunter-wrong"
    set_password_source(rotating.setting, rotating)
    with Container(config=rotating.settings) as container, pytest.raises(StorageUnavailable) as caught:
        side(container)
    assert rotating.asked == 2
    assert "hunter" not in str(caught.value)


def test_only_passwords_of_stores_are_asked_for() -> None:
    with pytest.raises(ConfigurationError, match="P8FS_AUTH_JWT_SECRET is no password that can be asked for"):
        set_password_source("auth_jwt_secret", lambda: "x")
