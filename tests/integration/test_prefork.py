"""Servers and programs that fork after the storage was used: each process has connections of its own."""

from __future__ import annotations

import json
import os
import signal
import urllib.request
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path
from typing import Any

import pytest

from p8fs_cluster import Container
from tests.integration.sessions import alive
from tests.processes import PATIENCE, Running, running, serving, until
from tests.servers import Server


def whole(blocks: int = 0) -> dict[str, Any]:
    """The parent's transaction sees its row, nobody else does, and it is committed in the end, as `blocks` others."""
    return {"rows": [1, blocks, 1 + blocks]}


@pytest.fixture
def watcher(sql_server: Server) -> Iterator[Container]:
    """Looks at the server from outside."""
    with Container(config=sql_server.settings) as container:
        yield container


class Workers:
    """A server's workers, and the sessions that each of them used."""

    def __init__(self, server: Running, url: str) -> None:
        self.server = server
        self.url = url
        self.sessions: dict[int, set[int]] = {}

    def meet(self, number: int, but: frozenset[int] = frozenset()) -> set[int]:
        """Ask, many at a time, until so many workers have answered; return their process ids."""
        met: set[int] = set()
        with ThreadPoolExecutor(6) as threads:

            def enough() -> bool:
                met.update(*threads.map(self._ask, range(12)))
                return len(met - but) >= number

            until(enough, f"{number} workers answer")
        return met - but

    def _ask(self, _: int) -> set[int]:
        with urllib.request.urlopen(self.url, timeout=PATIENCE) as response:
            answer = json.load(response)
        self.sessions.setdefault(answer["pid"], set()).update(answer["sessions"])
        return {answer["pid"]}

    def share_nothing(self, *others: int) -> None:
        """Fail if a session was used by two processes."""
        used = [session for sessions in self.sessions.values() for session in sessions] + [*others]
        assert len(used) == len(set(used)), self.sessions

    def left_nothing(self, watcher: Container, *others: int) -> None:
        """Wait until the server of the storage has none of the sessions any more."""
        used = set(others).union(*self.sessions.values())
        until(lambda: used.isdisjoint(alive(watcher.storage())), "the sessions end")


def test_gunicorn_with_preload(sql_server: Server, tmp_path: Path, watcher: Container) -> None:
    app = "tests.integration.prefork_app"
    options = ("--config", f"python:{app}", f"{app}:app")
    with serving(tmp_path / "log", "gunicorn", *options, settings=sql_server.settings) as (server, url):
        workers = Workers(server, url)
        first = workers.meet(3)
        for pid, how in zip(first, (signal.SIGTERM, signal.SIGKILL), strict=False):
            os.kill(pid, how)
        workers.meet(2, but=frozenset(first))
        assert server.end() == 0
        assert "Error" not in server.output
    told = json.loads((tmp_path / "master.json").read_text())
    workers.share_nothing(*told["before"].values())
    assert told["after"] == {**told["before"], **whole()}
    workers.left_nothing(watcher, *told["before"].values())


def test_uvicorn_with_workers(sql_server: Server, tmp_path: Path, watcher: Container) -> None:
    options = ("--workers", 2, "tests.integration.prefork_asgi:app")
    with serving(tmp_path / "log", "uvicorn", *options, settings=sql_server.settings) as (server, url):
        workers = Workers(server, url)
        workers.meet(2)
        assert server.end() in (0, -signal.SIGTERM)
    workers.share_nothing()
    workers.left_nothing(watcher)


@pytest.mark.parametrize(("how", "blocks"), [("fork", 0), ("spawn", 0), ("os.fork", 1), ("busy", 5)])
def test_children_of_a_program(how: str, blocks: int, sql_server: Server, tmp_path: Path) -> None:
    with running(tmp_path / "log", "-m", "tests.integration.forking", how, settings=sql_server.settings) as parent:
        assert parent.wait() == 0, parent.output
        told: dict[str, Any] = json.loads(parent.output.splitlines()[-1])
    used = [*told["before"].values(), *(session for child in told["children"] for session in child)]
    assert len(told["children"]) == 2 * max(blocks, 1)
    assert len(used) == len(set(used)), told
    if how == "busy":  # other threads have used the idle one as well
        del told["before"]["idle"], told["after"]["idle"]
    assert told["after"] == {**told["before"], **whole(blocks)}
