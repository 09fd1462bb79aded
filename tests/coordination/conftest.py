"""Each engine in turn, through either handle."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from p8fs_cluster import Container
from p8fs_cluster.exceptions import StorageError
from p8fs_cluster.testing import MovedClock, memory_coordination
from tests.conformance.awaited import Handle, Loop
from tests.coordination.twins import Twin
from tests.processes import until
from tests.servers import SQL, Server

LOCAL = ("memory", "rocksdb")
TABLES = (
    "p8fs_leases",
    "p8fs_lease_names",
    "p8fs_once",
    "p8fs_scheduled_runs",
    "p8fs_node_views",
    "p8fs_lease_events",
    "p8fs_cluster_versions",
)
SHORT = {"ttl": 1.0, "deadline": 0.6, "interval": 0.15}
"""For stores whose clock is fine enough; real TiDB wants 15 s."""


@dataclass
class Case:
    """A cluster under test: `cluster()` is another replica's view of the same leases."""

    kind: str
    container: Container
    cluster: Any
    loop: Loop | None
    settings: dict[str, Any]
    stack: contextlib.ExitStack
    clock: MovedClock | None = None

    @property
    def timing(self) -> dict[str, float]:
        """The shortest timing that the store takes."""
        return {"ttl": 15.0} if self.kind == "tidb" else SHORT

    @property
    def sql(self) -> bool:
        return self.kind in SQL

    def other(self) -> Any:
        """Return the cluster of another container, as another process would have it."""
        if not self.sql:
            return self.cluster  # one process, so one container will do: each lock is a holder of its own
        container = self.stack.enter_context(Container(config=self.settings))
        return self.twin(container)

    def without_create(self) -> Any:
        """Return the cluster of a container that may make no tables."""
        settings = {**self.settings, "cluster_create": False}
        return self.twin(self.stack.enter_context(Container(config=settings)))

    def twin(self, container: Container) -> Any:
        return Twin(self.loop, container.async_cluster()) if self.loop else container.cluster()

    def close(self) -> None:
        """Close the container, and what came with an override of it."""
        self.container.close()
        for _, _, close in self.container.coordination().opened():
            close()

    def storage(self) -> Any:
        handle = self.container.storage()
        return Handle(self.loop, self.container.async_storage(), handle.sqlalchemy_url) if self.loop else handle

    def pass_ttl(self, name: str, is_over: Callable[[], object]) -> None:
        """Let the lease of a name end by the store's clock, without anybody's doing, and wait for the condition."""
        if self.clock is not None:
            self.clock.move(self.timing["ttl"] + 0.1)
        elif self.kind == "tidb":  # a test does not wait for 15 s
            self.sql_of("UPDATE p8fs_leases SET expires_at = 0 WHERE name = %s", (name,))
        until(is_over, "the lease is over")

    def sql_of(self, sql: str, parameters: Any = ()) -> list[Any]:
        """Run a statement as an operator would, by hand."""
        if self.sql:
            return self.container.storage().execute(sql, parameters)
        coordinator = self.container.coordination().coordinator()
        return coordinator.connected("calls").store.execute(sql, parameters, 5)


TWINS = tuple(f"async {kind}" for kind in (*LOCAL, *SQL) if kind != "tidb")
"""The asynchronous side of each store; on TiDB, where a lease lasts 15 s, only `sql_case` has it."""


QUICK = (*LOCAL, *(kind for kind in SQL if kind != "tidb"), *TWINS)
"""Those where a lease may last less than 15 s."""


def only(fixture: str, *kinds: str) -> pytest.MarkDecorator:
    """Give a test some kinds of stores alone, those that it is about."""
    return pytest.mark.parametrize(fixture, kinds, indirect=True)


@pytest.fixture(params=[*LOCAL, *SQL, *TWINS])
def case(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Case]:
    """Every engine, through either handle."""
    with case_of(request, tmp_path) as case:
        yield case


@pytest.fixture(params=[*SQL, *(f"async {kind}" for kind in SQL)])
def sql_case(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Case]:
    """The SQL servers, through either handle."""
    with case_of(request, tmp_path) as case:
        yield case


@pytest.fixture(params=["memory", "async memory"])
def moved_case(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Case]:
    """Memory, whose clock the test moves, through either handle."""
    with case_of(request, tmp_path) as case:
        yield case


def empty(settings: dict[str, Any]) -> None:
    """Let there be no lease and no node; tables that are there stay, as TiDB takes long to make them."""
    with Container(config=settings) as container:
        for table in TABLES[:-1]:
            with contextlib.suppress(StorageError):
                container.storage().execute(f"DELETE FROM {table}")


def drop(settings: dict[str, Any]) -> None:
    """Let there be no tables."""
    with Container(config=settings) as container:
        for table in TABLES:
            container.storage().execute(f"DROP TABLE IF EXISTS {table}")


@contextlib.contextmanager
def case_of(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Case]:
    kind = request.param.removeprefix("async ")
    settings: dict[str, Any] = {"storage_provider": "rocksdb", "rocksdb_path": tmp_path / "rocksdb"}
    if kind in SQL:
        server: Server = request.getfixturevalue(f"{kind}_server")
        settings = {**server.settings, "cluster_create": True}
        empty(settings)
    with contextlib.ExitStack() as stack:
        loop = stack.enter_context(Loop().running()) if kind != request.param else None
        container = stack.enter_context(Container(config=settings))
        case = Case(kind, container, None, loop, settings, stack)
        if kind == "memory":
            case.clock = MovedClock()
            container.coordination.override(memory_coordination(case.clock))
        case.cluster = case.twin(container)
        yield case
        if kind == "memory":
            case.close()
