"""Lease rows of one process, in a SQLite database: a file that no other process opens meanwhile, or memory."""

from __future__ import annotations

import contextlib
import os
import sqlite3
import threading
import weakref
from collections.abc import Callable, Generator, Sequence
from pathlib import Path
from typing import Any, TypeVar

from p8fs_cluster.config.problems import variable_of
from p8fs_cluster.exceptions import CoordinationError, StorageError
from p8fs_cluster.forking import Stage, after_fork, around_fork
from p8fs_cluster.providers.storage.leases import TABLE, Limits, NoTable, Run, Spelling, Stamp

__all__ = ["LocalStore", "local_store"]

T = TypeVar("T")

_SPELT = (
    ("$now", "p8fs_now()"),
    ("$ms", "(p8fs_now() / 1000)"),
    ("$greatest", "max"),
    ("$key", "TEXT"),
    ("$text", "TEXT"),
    ("$ignore", ""),
    ("$nothing", "ON CONFLICT DO NOTHING"),
    ("$id", "TEXT"),
    ("$fence_key", ""),
    ("$locking", ""),
    ("$often", ""),
    ("%s", "?"),
)


class LocalStore:
    """Statements on a database of this process, one at a time. Every holder of a lease was in this process."""

    def __init__(self, path: Path | None, clock: Callable[[], float]) -> None:
        self._process = os.getpid()
        self.users = 1
        """The number of users, each of whom closes it once."""
        self._spelt = Spelling(_SPELT)
        self._connection = _opened(path, clock)

    def execute(self, sql: str, parameters: Sequence[Any], seconds: float) -> list[tuple[Any, ...]]:
        with _sqlite.lock:
            return self._run(sql, parameters)

    def update(
        self, fence: str, others: str, where: str, parameters: Sequence[Any], seconds: float, *, announce: bool = False
    ) -> Stamp | None:
        sql = f"UPDATE {TABLE} SET fence = {fence}, {others} WHERE {where} RETURNING fence"
        rows = self.execute(sql, parameters, seconds)
        return Stamp(rows[0][0], 0) if rows else None

    def transact(self, work: Callable[[Run], T], seconds: float) -> T:
        with _sqlite.lock:
            self._run("BEGIN", ())
            try:
                result = work(self._run)
            except BaseException:
                self._run("ROLLBACK", ())
                raise
            self._run("COMMIT", ())
            return result

    def limits(self, seconds: float) -> Limits | None:
        return None

    def announcements(self) -> Generator[str | None, None, None] | None:
        return None

    def close(self) -> None:
        """Close it with the last of those in this process that use it; other processes may have the file then."""
        with _sqlite.lock:
            self.users -= 1
            if not self.users:
                self._connection.close()
                for path in [path for path, store in _stores.items() if store is self]:
                    del _stores[path]

    def __del__(self) -> None:
        if os.getpid() == self._process and hasattr(self, "_connection"):
            with _sqlite.lock:
                self._connection.close()

    def _run(self, sql: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
        try:
            return self._connection.execute(self._spelt(sql), parameters).fetchall()
        except sqlite3.Error as exc:
            told = f"the local leases: {exc}"
            raise (NoTable(told) if "no such" in str(exc) else StorageError(told)) from exc


def _opened(path: Path | None, clock: Callable[[], float]) -> sqlite3.Connection:
    if path is not None:
        path.parent.mkdir(parents=True, exist_ok=True)
    try:
        connection = sqlite3.connect(path or ":memory:", timeout=0, isolation_level=None, check_same_thread=False)
        connection.create_function("p8fs_now", 0, lambda: round(clock() * 1_000_000))
        if path is not None:
            connection.execute("PRAGMA locking_mode = EXCLUSIVE")
            connection.execute("PRAGMA journal_mode = WAL")
            connection.execute("BEGIN IMMEDIATE")  # which takes the lock, until the connection or the process ends
            connection.execute("COMMIT")
            with contextlib.suppress(sqlite3.OperationalError):  # no table yet
                connection.execute(f"UPDATE {TABLE} SET holder = NULL, expires_at = 0")  # of processes that are gone
    except sqlite3.Error as exc:
        if "locked" not in str(exc):
            raise StorageError(f"{path}, where leases of the embedded store are kept: {exc}") from exc
        raise CoordinationError(
            f"{path} is in use by another process: leases of an embedded store hold in one process; for several, "
            f"{variable_of('storage_provider')} has to name a server"
        ) from exc
    return connection


class _SQLite:
    """The lock of whoever is inside SQLite: its own locks would stay locked in a child that was forked meanwhile."""

    def __init__(self) -> None:
        self.lock = threading.RLock()


def local_store(path: Path | None, clock: Callable[[], float]) -> LocalStore:
    """Return the one store of a file in this process, or a new one in memory.

    :raises CoordinationError: another process has the file.
    """
    with _sqlite.lock:
        if path is None:
            return LocalStore(None, clock)
        path = path.resolve()
        store = _stores.get(path)
        if store is None:
            store = _stores[path] = LocalStore(path, clock)
        else:
            store.users += 1
        return store


_sqlite = _SQLite()
_stores: weakref.WeakValueDictionary[Path, LocalStore] = weakref.WeakValueDictionary()
_inherited: list[sqlite3.Connection] = []


def _after_fork() -> None:
    _sqlite.lock = threading.RLock()
    for store in tuple(_stores.values()):
        _inherited.append(store._connection)  # so that nothing finalizes it
    _stores.clear()


around_fork(lambda: _sqlite.lock.acquire(), lambda: _sqlite.lock.release())
after_fork(Stage.STORAGE, _after_fork)
