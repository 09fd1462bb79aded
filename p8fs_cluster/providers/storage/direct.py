"""A few connections of one purpose, beside the pool that everybody borrows from, with less around each statement."""

from __future__ import annotations

import threading
import time
import weakref
from collections.abc import Callable, Hashable, Iterator
from contextlib import contextmanager
from typing import Any

from p8fs_cluster.config.settings import P8FSConfig
from p8fs_cluster.di import context
from p8fs_cluster.di.settings import SettingsSource
from p8fs_cluster.exceptions import StorageClosed
from p8fs_cluster.forking import Stage, after_fork
from p8fs_cluster.providers.storage.engines import Engine, SpecOf

__all__ = ["Direct"]


class Direct:
    """An engine of its own, which follows the settings: another place or password means new connections.

    An isolated override of the settings, which threads don't see, is not followed.
    """

    def __init__(self, settings: SettingsSource, spec_of: SpecOf, engine: Callable[[P8FSConfig], Any]) -> None:
        self._settings = settings
        self._spec_of = spec_of
        self._made = engine
        self._lock = threading.Lock()
        self._inherited: list[Engine] = []
        self._version: object = None
        self._key: Hashable = None
        self._engine: Engine | None = None
        self._closed = False
        _all.add(self)

    @property
    def settings(self) -> P8FSConfig:
        """The settings in force."""
        return self._settings.everywhere()

    @contextmanager
    def connection(self, seconds: float) -> Iterator[Any]:
        """Lend a connection whose waits end after so many seconds, with its engine.

        :raises StorageUnavailable: there is none.
        """
        engine = self.engine()
        connection = engine.acquire(time.monotonic() + seconds)
        try:
            yield connection
        except BaseException as exc:
            self._release(engine, connection, exc)
            raise
        self._release(engine, connection, None)

    def execute(self, sql: str, parameters: Any, seconds: float) -> list[Any]:
        """Run one statement and return its rows.

        :raises StorageError: it failed.
        """
        engine = self.engine()
        connection = engine.acquire(time.monotonic() + seconds)
        try:
            rows = engine.execute(connection, sql, parameters)
        except BaseException as exc:
            self._release(engine, connection, exc)
            raise
        self._release(engine, connection, None)
        return rows

    def engine(self) -> Engine:
        """Return the engine for the settings in force.

        :raises StorageClosed: it was closed.
        """
        engine, epoch = self._engine, context.epoch
        if engine is not None and epoch is self._version:
            return engine
        return self._renewed(epoch)

    def close(self) -> None:
        """End the connections, for good."""
        with self._lock:
            self._closed = True
            engine, self._engine = self._engine, None
        if engine is not None:
            engine.close()

    def _release(self, engine: Engine, connection: Any, exc: BaseException | None) -> None:
        engine.release(connection, exc)
        if engine is not self._engine:  # the settings have changed meanwhile, or it was closed
            engine.close()

    def _renewed(self, epoch: object) -> Engine:
        snapshot = self.settings
        key = self._spec_of(snapshot).key(snapshot)
        with self._lock:
            if self._closed:
                raise StorageClosed("the connections of coordination were closed")
            before, old = self._key, self._engine
            if old is None or before != key:
                self._engine = self._made(snapshot)
            self._key = key
            self._version = epoch if self._settings.announced else None
            engine = self._engine
        if old is not None and old is not engine and old.stats()["size"] == old.stats()["idle"]:
            old.close()  # else whoever has borrowed from it does so
        assert engine is not None  # noqa: S101
        return engine

    def _forget_parent(self) -> None:
        self._lock = threading.Lock()
        if self._engine is not None:
            self._inherited.append(self._engine)
            self._engine = None


_all: weakref.WeakSet[Direct] = weakref.WeakSet()


def _after_fork() -> None:
    for direct in tuple(_all):
        direct._forget_parent()


after_fork(Stage.STORAGE, _after_fork)
