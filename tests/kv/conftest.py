"""Each engine in turn, through either handle."""

from __future__ import annotations

import contextlib
import time
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from p8fs_cluster import Container
from p8fs_cluster.exceptions import StorageError
from p8fs_cluster.kv.flights import Flight, Flights
from p8fs_cluster.testing import MovedClock, memory_storage
from tests.conformance.awaited import Loop
from tests.kv.twins import Twin
from tests.servers import SQL, Server

LOCAL = ("memory", "rocksdb")
KINDS = (*LOCAL, *SQL)
TABLE = "p8fs_kv"


@dataclass
class Case:
    """A key-value store under test."""

    kind: str
    container: Container
    loop: Loop | None
    settings: dict[str, Any]
    clock: MovedClock | None = None

    @property
    def sql(self) -> bool:
        return self.kind in SQL

    @property
    def kv(self) -> Any:
        return Twin(self.loop, self.container.async_kv()) if self.loop else self.container.kv()

    def end(self, namespace: str, key: str) -> None:
        """Let a value's time be over by the store's clock, without the store's doing."""
        if self.clock is not None:
            self.clock.move(10_000)
        elif self.sql:
            physical = namespace.encode() + b"\0" + key.encode()
            self.container.storage().execute(f"UPDATE {TABLE} SET expires_at = 1 WHERE k = %s", (physical,))
        else:
            kv = self.container.kv().namespace(namespace)
            kv.expire(key, 0.001)
            time.sleep(0.002)


def drop(settings: dict[str, Any]) -> None:
    """Let there be no tables."""
    with Container(config=settings) as container:
        for table in (TABLE, f"{TABLE}_versions"):
            container.storage().execute(f"DROP TABLE IF EXISTS {table}")


def empty(settings: dict[str, Any]) -> None:
    """Let there be no keys; a table that is there stays, as TiDB takes long to make one."""
    with Container(config=settings) as container, contextlib.suppress(StorageError):
        container.storage().execute(f"DELETE FROM {TABLE}")


@contextlib.contextmanager
def opened(kind: str, asynchronous: bool, settings: dict[str, Any]) -> Iterator[Case]:
    """Give the store of some settings, or one in memory."""
    with contextlib.ExitStack() as stack:
        loop = stack.enter_context(Loop().running()) if asynchronous else None
        container = stack.enter_context(Container(config=settings))
        case = Case(kind, container, loop, settings)
        if kind == "memory":
            case.clock = MovedClock()
            storage = memory_storage(clock=case.clock)
            stack.enter_context(container.storage.override(storage))
        yield case
        if loop:
            loop.call(container.aclose)


def settings_of(kind: str, request: pytest.FixtureRequest, tmp_path: Path) -> dict[str, Any]:
    if kind not in SQL:
        return {"storage_provider": "rocksdb", "rocksdb_path": tmp_path / "rocksdb"}
    server: Server = request.getfixturevalue(f"{kind}_server")
    settings = {**server.settings, "kv_create": True}
    empty(settings)
    return settings


@pytest.fixture(params=[*KINDS, *(f"async {kind}" for kind in KINDS)])
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Case]:
    """Every engine, through either handle."""
    kind = request.param.removeprefix("async ")
    with opened(kind, kind != request.param, settings_of(kind, request, tmp_path)) as case:
        yield case


@pytest.fixture(params=SQL)
def sql_case(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Case]:
    """The SQL servers, through the handle for threads."""
    with opened(request.param, False, settings_of(request.param, request, tmp_path)) as case:
        yield case


@pytest.fixture(params=KINDS)
def thread_case(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Case]:
    """Every engine, through the handle for threads."""
    with opened(request.param, False, settings_of(request.param, request, tmp_path)) as case:
        yield case


@pytest.fixture(params=[False, True])
def local(request: pytest.FixtureRequest) -> Iterator[Case]:
    """Memory, through either handle."""
    with opened("memory", request.param, {}) as case:
        yield case


@pytest.fixture
def joiners(monkeypatch: pytest.MonkeyPatch) -> list[object]:
    """The claims of this process that callers have joined."""
    found: list[object] = []
    join = Flights.join

    def noted(flights: Flights, key: int | bytes) -> tuple[Flight, bool]:
        flight, is_new = join(flights, key)
        if not is_new and isinstance(key, int):
            found.append(key)
        return flight, is_new

    monkeypatch.setattr(Flights, "join", noted)
    return found
