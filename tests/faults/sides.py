"""The two sides that each fault meets: `container.storage()`, and the driver's pool with its defaults."""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator
from typing import Any, Protocol

import psycopg_pool
from sqlalchemy import URL, create_engine

from p8fs_cluster import Container
from tests.processes import variables

THREADS = 8


class Side(Protocol):
    """One way to use a store."""

    name: str

    def execute(self, sql: str, timeout: float | None = None) -> list[Any]:
        """Run one statement; the bare pools know no timeout for it."""

    def swap(self, settings: dict[str, Any]) -> None:
        """Go over to other settings, while others are using it."""

    def close(self) -> None: ...


class Ours:
    """The handle; swapped by settings that are loaded again, as they are when a mounted secret changes."""

    name = "handle"

    def __init__(self, settings: dict[str, Any], **options: Any) -> None:
        self.options = {"pool_max_size": THREADS, **options}
        os.environ.update(variables({**settings, **self.options}))
        self.container = Container()
        self.container.__enter__()
        self.storage = self.container.storage()

    def execute(self, sql: str, timeout: float | None = None) -> list[Any]:
        return self.storage.execute(sql, timeout=timeout)

    def swap(self, settings: dict[str, Any]) -> None:
        os.environ.update(variables(settings))
        self.container.config.reload()

    def close(self) -> None:
        self.container.__exit__(None, None, None)
        for name in [name for name in os.environ if name.startswith("P8FS_")]:
            del os.environ[name]


class BarePostgres:
    """psycopg_pool with its defaults; swapped as one writes it: build the new one, assign it, close the old one."""

    name = "bare"

    def __init__(self, settings: dict[str, Any], **_: Any) -> None:
        self.pool = self._made(settings)

    def _made(self, settings: dict[str, Any]) -> psycopg_pool.ConnectionPool[Any]:
        parameters = {"host": settings["pg_host"], "port": settings["pg_port"], "dbname": settings["pg_database"],
                      "user": settings["pg_user"], "password": settings["pg_password"]}  # fmt: skip
        return psycopg_pool.ConnectionPool(kwargs=parameters, min_size=THREADS, max_size=THREADS, open=True)

    def execute(self, sql: str, timeout: float | None = None) -> list[Any]:
        with self.pool.connection() as connection:
            return connection.execute(sql).fetchall()

    def swap(self, settings: dict[str, Any]) -> None:
        old, self.pool = self.pool, self._made(settings)
        old.close()

    def close(self) -> None:
        self.pool.close(timeout=1)


class BareMySQL:
    """SQLAlchemy with its defaults over PyMySQL; swapped as one writes it."""

    name = "bare"

    def __init__(self, settings: dict[str, Any], **_: Any) -> None:
        self.engine = self._made(settings)

    def _made(self, settings: dict[str, Any]) -> Any:
        url = URL.create("mysql+pymysql", settings["tidb_user"], settings["tidb_password"], settings["tidb_host"],
                         settings["tidb_port"], settings["tidb_database"])  # fmt: skip
        return create_engine(url, pool_size=THREADS, max_overflow=0)

    def execute(self, sql: str, timeout: float | None = None) -> list[Any]:
        with self.engine.connect() as connection:
            return list(connection.exec_driver_sql(sql))

    def swap(self, settings: dict[str, Any]) -> None:
        old, self.engine = self.engine, self._made(settings)
        old.dispose()

    def close(self) -> None:
        self.engine.dispose()


BARE = {"postgresql": BarePostgres, "tidb": BareMySQL}


@contextlib.contextmanager
def side(ours: bool, settings: dict[str, Any], **options: Any) -> Iterator[Side]:
    """Give one side, in use: its pool has had a connection."""
    made: Side = Ours(settings, **options) if ours else BARE[settings["storage_provider"]](settings)
    try:
        made.execute("SELECT 1")
        yield made
    finally:
        made.close()
