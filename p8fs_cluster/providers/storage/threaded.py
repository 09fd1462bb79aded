"""Asyncio over an engine that has no driver for it: each call runs in a thread.

The binding of an embedded store may hold the interpreter's lock while it writes, so a thread keeps the event loop from
waiting for the disk only between calls: many small ones are better than a big one.
"""

from __future__ import annotations

import asyncio
import sys
import time
import weakref
from types import FrameType
from typing import TYPE_CHECKING, Any

from p8fs_cluster.providers.storage.engines import Parameters
from p8fs_cluster.providers.storage.operations import Checkout

if TYPE_CHECKING:
    from p8fs_cluster.providers.storage.handle import Storage

__all__ = ["Threaded", "ThreadedEngine"]


class Threaded:
    """Bytes to bytes, as the connection beneath has it.

    >>> asyncio.run(Threaded({b"key": b"value"}).get(b"key"))
    b'value'
    """

    __slots__ = ("checkout", "connection")

    def __init__(self, connection: Any, checkout: Checkout | None = None) -> None:
        self.connection = connection
        self.checkout: Any = checkout

    async def get(self, key: bytes, default: bytes | None = None) -> bytes | None:
        """Return the value of a key, or `default`."""
        value: bytes | None = await asyncio.to_thread(self.connection.get, key, default)
        return value

    async def put(self, key: bytes, value: bytes) -> None:
        """Set the value of a key."""
        await asyncio.to_thread(self.connection.__setitem__, key, value)

    async def delete(self, key: bytes) -> None:
        """Take a key away, if it is there."""
        await asyncio.to_thread(self.connection.delete, key)

    async def items(self) -> list[tuple[bytes, bytes]]:
        """Return all keys and values, in the order of the keys."""
        return await asyncio.to_thread(lambda: list(self.connection.items()))


class _Checkout(Checkout):
    """The checkout of a thread, on behalf of a task's."""

    holder: weakref.ref[Any] | None

    def note(self, borrower: FrameType) -> None:
        super().note(borrower)
        if self.holder is not None and (checkout := self.holder()) is not None:
            self.site = checkout.site


class ThreadedEngine:
    """The engine of the handle for threads, each of whose calls runs in a thread."""

    def __init__(self, storage: Storage) -> None:
        self._storage = storage

    async def open(self) -> None:
        await asyncio.to_thread(self._storage.open)

    def close(self) -> None:
        """The handle for threads closes it."""

    async def acquire(self, deadline: float | None, holder: weakref.ref[Any] | None = None) -> Threaded:
        left = None if deadline is None else max(deadline - time.monotonic(), 0)
        checkout = _Checkout(self._storage, left)
        checkout.holder = holder
        return Threaded(await asyncio.to_thread(checkout.begin, sys._getframe()), checkout)

    async def release(self, connection: Threaded, exc: BaseException | None) -> None:
        await asyncio.to_thread(connection.checkout.__exit__, type(exc) if exc else None, exc, None)

    async def execute(self, connection: Threaded, sql: str, parameters: Parameters) -> list[Any]:
        engine = connection.checkout.lifecycle.engine
        return await asyncio.to_thread(engine.execute, connection.connection, sql, parameters)

    async def ping(self, connection: Threaded) -> None:
        await asyncio.to_thread(connection.checkout.lifecycle.engine.ping, connection.connection)

    def cut(self, connection: Threaded) -> None:
        connection.checkout.lifecycle.engine.cut(connection.connection)

    def retry_pause(self, exc: BaseException) -> float | None:
        """Return what the engine in force says."""
        return self._storage.spec.engine_class().retry_pause(exc)

    def stats(self) -> dict[str, int]:
        return {}
