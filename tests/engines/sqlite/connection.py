"""SQLite's connections as the pool lends them, and as PEP 249 text with `%s` has them."""

from __future__ import annotations

import math
import re
import sqlite3
import time
from collections.abc import Callable
from typing import Any, Self

from p8fs_cluster.config.settings import P8FSConfig
from p8fs_cluster.exceptions import StorageUnavailable
from p8fs_cluster.providers.storage.messages import Messages
from p8fs_cluster.providers.storage.observability import tell_slow
from tests.engines.sqlite import SQLiteSettings

__all__ = ["Connection", "Cursor", "SQLiteMessages", "connect"]


class SQLiteMessages(Messages):
    provider = "sqlite"
    prefix = "sqlite"

    def unavailable(self, exc: BaseException) -> StorageUnavailable:
        return StorageUnavailable(self.at_fault(str(exc), "name a file that can be written", "sqlite_path"))

    def __str__(self) -> str:
        return f"sqlite at {self._settings.section(SQLiteSettings).path}"


def translated(sql: str, parameters: Any) -> tuple[str, Any]:
    """Return PEP 249's "format" and "pyformat" as SQLite has them; a text without parameters is as it is."""
    if parameters is None:
        return sql, ()
    text = re.sub(r"%(?:\((\w+)\))?([s%])", lambda found: _marked(found[1], found[2]), sql)
    return text, parameters


def _marked(name: str | None, kind: str) -> str:
    return "%" if kind == "%" else f":{name}" if name else "?"


class Cursor(sqlite3.Cursor):
    def __enter__(self) -> Self:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def execute(self, sql: str, parameters: Any = None) -> Self:
        """SQLAlchemy's statements have `?`, and ours `%s`."""
        started = time.monotonic()
        try:
            return super().execute(*translated(sql, parameters))
        finally:
            if slow := getattr(self.connection, "slow", None):
                tell_slow("sqlite", sql, time.monotonic() - started, slow)

    def executemany(self, sql: str, parameters: Any) -> Self:
        return super().executemany(translated(sql, ())[0], parameters)


class Connection(sqlite3.Connection):
    """What `Pooled` asks for, of a store that nobody can end from outside."""

    holder: Any = None
    idle_since = 0.0
    expires = math.inf
    deadline: float | None = None
    outdated = False
    closed = False
    is_lost = False
    slow: float | None = None
    give_back: Callable[[], None] | None = None

    def __init__(self, *given: Any, **named: Any) -> None:
        super().__init__(*given, **named)
        self.born = time.monotonic()

    @property
    def unfinished(self) -> bool:
        return self.in_transaction

    def cursor(self, factory: Any = Cursor) -> Any:
        return super().cursor(factory)

    def fileno(self) -> int:
        return -1

    def lend(self, deadline: float | None) -> None:
        self.deadline = deadline

    def is_fit(self) -> bool:
        return not self.closed

    works = is_fit

    def close(self) -> None:
        give_back, self.give_back = self.give_back, None
        if give_back:
            give_back()
        else:
            self.end()

    def end(self) -> None:
        self.closed = True
        super().close()


def connect(settings: P8FSConfig, messages: Messages, seconds: float) -> Connection:
    path = settings.section(SQLiteSettings).path
    path.parent.mkdir(parents=True, exist_ok=True)
    connection = sqlite3.connect(path, seconds, check_same_thread=False, factory=Connection)
    connection.execute("PRAGMA journal_mode = WAL")
    connection.slow = settings.slow_query
    return connection
