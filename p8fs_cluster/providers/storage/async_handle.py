"""The storage handle for asyncio: the contract of `Storage`, with one engine for each event loop that uses it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

from p8fs_cluster.config.settings import P8FSConfig
from p8fs_cluster.di import context
from p8fs_cluster.di.settings import SettingsSource
from p8fs_cluster.exceptions import StorageClosed
from p8fs_cluster.providers.storage.async_operations import AsyncCheckout, AsyncOperations
from p8fs_cluster.providers.storage.checkout import Borrowed
from p8fs_cluster.providers.storage.engine_lifecycle import AsyncEngineLifecycle
from p8fs_cluster.providers.storage.engine_table import CLOSED, EngineTable
from p8fs_cluster.providers.storage.engines import EngineSpec, SpecOf, spec_of
from p8fs_cluster.providers.storage.handle import Storage
from p8fs_cluster.providers.storage.leak_monitor import look_again, watch_holders
from p8fs_cluster.providers.storage.observability import measure
from p8fs_cluster.providers.storage.threaded import ThreadedEngine

__all__ = ["AsyncStorage"]

_CHUNK = 1000
"""Pairs that a scan reads in a thread at once."""

Table = EngineTable[AsyncEngineLifecycle]


class AsyncStorage(AsyncOperations):
    """A handle on the store that the settings name, for any number of event loops: keep it, share it, inject it.

    What is borrowed is the driver's own connection, or a `Threaded` on a store that has no driver for asyncio. The
    block's end commits, an exception rolls back, a cancelled task's connection is rolled back or ended, never lent in
    the middle of an answer.

    >>> from p8fs_cluster.testing import memory_storage
    >>> async def noted() -> bytes:
    ...     with Container().override_providers(storage=memory_storage()) as container:
    ...         async with container.async_storage().connection() as connection:
    ...             await connection.put(b"key", b"value")
    ...             return await connection.get(b"key")
    >>> from p8fs_cluster import Container
    >>> asyncio.run(noted())
    b'value'
    """

    _kind = "async storage"

    def __init__(self, settings: SettingsSource, synchronous: Callable[[], Storage], spec_of: SpecOf = spec_of) -> None:
        self._synchronous = synchronous
        super().__init__(settings, spec_of)

    @property
    def spec(self) -> EngineSpec:
        """Return what is known of the engine in force, or of a fake in place of the handle for threads."""
        return self._synchronous().spec

    async def open(self) -> None:
        """Open the engine in force now, for this event loop, rather than at the first borrower.

        :raises StorageUnavailable: it can't be reached, or refuses us.
        """
        self._admit()
        if self._is_in_threads():
            await asyncio.to_thread(self._synchronous().open)
        else:
            await self._adopt(self._table())

    async def checkpoint(self, folder: str | Path) -> None:
        """Write a whole copy of an embedded store into a new folder, as `Storage.checkpoint` does, in a thread.

        :raises StorageError: it can't be written, or the store has no checkpoints but tools of its own for that.
        """
        await asyncio.to_thread(self._synchronous().checkpoint, folder)

    async def scan(
        self, prefix: bytes = b"", *, start: bytes | None = None, stop: bytes | None = None, reverse: bool = False
    ) -> AsyncIterator[tuple[bytes, bytes]]:
        """Yield the keys of an embedded store and their values, as `Storage.scan` does, read in threads.

        :raises StorageError: the store is a server, which is asked by SQL.
        """
        pairs = self._synchronous().scan(prefix, start=start, stop=stop, reverse=reverse)
        try:
            while chunk := await asyncio.to_thread(lambda: list(itertools.islice(pairs, _CHUNK))):
                for pair in chunk:
                    yield pair
        finally:
            await asyncio.to_thread(pairs.close)

    def stats(self) -> dict[str, Any]:
        """Return numbers for metrics, of all event loops together, named as `Storage.stats` names them."""
        return self._synchronous().stats() if self._is_in_threads() else super().stats()

    def holders(self) -> list[Borrowed]:
        """Return who holds a connection now: the place that borrowed it, and since when."""
        return self._synchronous().holders() if self._is_in_threads() else super().holders()

    async def enter(self, checkout: AsyncCheckout, deadline: float | None) -> AsyncEngineLifecycle:
        self._admit()
        table = self._table()
        lifecycle = table.in_force if table.epoch is context.epoch else None
        if lifecycle is not None and not context.in_force.get().isolated and lifecycle.enter(checkout):
            return lifecycle
        if self._is_in_threads():
            lifecycle = self._in_threads()
            lifecycle.enter(checkout)
            return lifecycle
        while True:
            lifecycle = await self._adopt(table)
            if lifecycle.enter(checkout):
                return lifecycle

    async def _adopt(self, table: Table) -> AsyncEngineLifecycle:
        epoch = context.epoch
        lifecycle = table.wanted(self._settings())
        await lifecycle.open()
        watch_holders(self)
        measure(self)
        table.put_in_force(lifecycle, epoch)
        return lifecycle

    def _admit(self) -> None:
        """A new loop has a table of its own, which knows nothing of the end of the container."""
        if self._closed:
            raise StorageClosed(CLOSED)

    def _is_in_threads(self) -> bool:
        """Return whether the engine in force has no driver for asyncio, or is a fake."""
        spec = self.spec
        return spec.async_engine is None or spec is not self._spec_of(self._settings())

    def _in_threads(self) -> AsyncEngineLifecycle:
        """Return the lifecycle of one checkout: the handle for threads has the engine and sees to its end."""
        loop = asyncio.get_running_loop()
        return AsyncEngineLifecycle(ThreadedEngine(self._synchronous()), self.spec, 0, loop)

    def _table(self) -> Table:
        loop = asyncio.get_running_loop()
        table = self._loops.get(loop)
        if table is None:
            self._sweep()
            table = self._loops[loop] = EngineTable(self._settings, self._spec_of, _made_for(loop))
        return table

    def _sweep(self) -> None:
        """End the connections of loops that were closed without closing the container."""
        for loop in [loop for loop in self._loops if loop.is_closed()]:
            for lifecycle in self._loops.pop(loop).open_ones:
                lifecycle.end()

    def _tables(self) -> tuple[Table, ...]:
        return tuple(self._loops.values())

    def _forget(self) -> None:
        self._loops: dict[asyncio.AbstractEventLoop, Table] = {}

    def _follow(self) -> None:
        look_again()
        for loop, table in tuple(self._loops.items()):
            _call_in(loop, table.changed)

    def _retire(self, engine: AsyncEngineLifecycle, raising: bool = False) -> None:
        _call_in(engine.loop, engine.retire, raising)

    def _verify(self, snapshot: P8FSConfig) -> None:
        """Open the engine of settings that are to come, if one is in use. Any thread may ask, so its twin does it."""
        tables = self._tables()
        spec = self._spec_of(snapshot)
        used = any(table.open_ones for table in tables)
        if used and spec.async_engine and not any(table.known(snapshot) for table in tables):
            engine = spec.engine_class()(snapshot)
            engine.open()
            engine.close()


def _made_for(loop: asyncio.AbstractEventLoop) -> Callable[[EngineSpec, P8FSConfig], AsyncEngineLifecycle]:
    def made(spec: EngineSpec, snapshot: P8FSConfig) -> AsyncEngineLifecycle:
        engine = spec.async_engine_class()
        assert engine is not None  # noqa: S101
        return AsyncEngineLifecycle(engine(snapshot), spec, snapshot.pool_drain_timeout, loop)

    return made


def _call_in(loop: asyncio.AbstractEventLoop, function: Callable[..., object], *arguments: Any) -> None:
    """Call a function where its event loop runs; at once if that is here, or is over."""
    if loop is asyncio._get_running_loop() or loop.is_closed():
        function(*arguments)
    else:
        with contextlib.suppress(RuntimeError):  # it was closed meanwhile
            loop.call_soon_threadsafe(function, *arguments)
