"""The asynchronous handle in the clothes of the synchronous one, so that one text of a test serves both.

An event loop runs in a thread of its own; whatever is called runs there, and is waited for.
"""

from __future__ import annotations

import asyncio
import inspect
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from types import FrameType
from typing import Any

from p8fs_cluster.providers.storage.async_handle import AsyncCheckout, AsyncStorage


class Loop:
    """An event loop in a thread."""

    def __init__(self) -> None:
        self._loop = asyncio.new_event_loop()

    def call(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Return what a function returns, or what it returns when it is awaited."""

        async def called() -> Any:
            result = function(*args, **kwargs)
            return await result if inspect.isawaitable(result) else result

        return asyncio.run_coroutine_threadsafe(called(), self._loop).result()

    @contextmanager
    def running(self) -> Iterator[Loop]:
        thread = threading.Thread(target=self._loop.run_forever)
        thread.start()
        try:
            yield self
        finally:
            self.call(self._loop.shutdown_default_executor)
            self._loop.call_soon_threadsafe(self._loop.stop)
            thread.join()
            self._loop.close()


class Awaited:
    """A connection or a cursor."""

    def __init__(self, loop: Loop, behind: Any) -> None:
        self.__dict__.update(loop=loop, behind=behind)

    def __getattr__(self, name: str) -> Any:
        found = getattr(self.behind, name)
        return (lambda *args, **kwargs: self._result(found, *args, **kwargs)) if callable(found) else found

    def __setattr__(self, name: str, value: Any) -> None:
        setter = getattr(self.behind, f"set_{name}", None)
        self.loop.call(setter, value) if setter else setattr(self.behind, name, value)

    def __setitem__(self, key: bytes, value: bytes) -> None:
        self.put(key, value)

    def __enter__(self) -> Awaited:
        return self

    def __exit__(self, *exc_info: object) -> None:
        self.close()

    def __eq__(self, other: object) -> bool:
        return isinstance(other, Awaited) and self.behind is other.behind

    def __hash__(self) -> int:
        return id(self.behind)

    def fileno(self) -> int:
        """Return the descriptor of the socket."""
        number: int = self.behind.fileno()
        return number

    def _result(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        result = self.loop.call(function, *args, **kwargs)
        return Awaited(self.loop, result) if hasattr(result, "fetchall") else result


class Checkout:
    """What `storage.connection()` gives."""

    def __init__(self, loop: Loop, checkout: AsyncCheckout) -> None:
        self._loop = loop
        self._lease = checkout

    def __enter__(self) -> Awaited:
        return self.begin(sys._getframe(1))

    def begin(self, borrower: FrameType) -> Awaited:
        return Awaited(self._loop, self._loop.call(self._lease.begin, borrower))

    def __exit__(self, *exc_info: Any) -> None:
        self._loop.call(self._lease.__aexit__, *exc_info)


class Handle:
    """What `container.storage()` gives. A block that begins in a thread ends there."""

    def __init__(self, loop: Loop, storage: AsyncStorage, sqlalchemy_url: str | None) -> None:
        self._loop = loop
        self._storage = storage
        self._open = threading.local()
        self.sqlalchemy_url = sqlalchemy_url

    def __getattr__(self, name: str) -> Any:
        return getattr(self._storage, name)

    def __enter__(self) -> Awaited:
        checkout = self.connection()
        connection = checkout.begin(sys._getframe(1))
        self._open.checkouts = (checkout, getattr(self._open, "checkouts", None))
        return connection

    def __exit__(self, *exc_info: Any) -> None:
        checkout, self._open.checkouts = self._open.checkouts
        checkout.__exit__(*exc_info)

    def connection(self, timeout: float | None = None) -> Checkout:
        return Checkout(self._loop, self._storage.connection(timeout))

    def execute(self, *args: Any, **kwargs: Any) -> Any:
        return self._loop.call(self._storage.execute, *args, **kwargs)

    def ping(self) -> Any:
        return self._loop.call(self._storage.ping)

    def inspect(self) -> Any:
        return self._loop.call(self._storage.inspect)

    def scan(self, *args: Any, **kwargs: Any) -> Iterator[Any]:
        pairs = self._storage.scan(*args, **kwargs)
        try:
            while (pair := self._loop.call(anext, pairs, None)) is not None:
                yield pair
        finally:
            self._loop.call(pairs.aclose)

    def open(self) -> None:
        self._loop.call(self._storage.open)

    def stats(self) -> Any:
        """Return the numbers when the loop has heard of all changes."""
        return self._loop.call(self._storage.stats)

    def run_in_transaction(self, work: Callable[[Any], Any], **kwargs: Any) -> Any:
        async def in_a_thread(connection: Any) -> Any:
            return await asyncio.to_thread(work, Awaited(self._loop, connection))

        return self._loop.call(self._storage.run_in_transaction, in_a_thread, **kwargs)
