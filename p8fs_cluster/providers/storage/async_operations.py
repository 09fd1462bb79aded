"""The operations of a handle for asyncio on its engines.

`operations.py` is made of this file by `scripts/threads.py`.
"""

from __future__ import annotations

import asyncio
import sys
import time
from collections.abc import Awaitable, Callable
from types import FrameType, TracebackType
from typing import TYPE_CHECKING, Any, TypeVar

from p8fs_cluster.exceptions import PoolExhausted, StorageError
from p8fs_cluster.providers.storage.checkout import Borrowed, Enter, Exit, site_of
from p8fs_cluster.providers.storage.engine_lifecycle import AsyncEngineLifecycle
from p8fs_cluster.providers.storage.engine_table import Handle
from p8fs_cluster.providers.storage.engines import Parameters
from p8fs_cluster.providers.storage.observability import traced
from p8fs_cluster.providers.storage.retries import Attempts, seconds

__all__ = ["AsyncCall", "AsyncCheckout", "AsyncOperations"]

T = TypeVar("T")


class AsyncCheckout(Borrowed):
    """A connection for one `async with` block, and who borrowed it."""

    handle: AsyncOperations
    lifecycle: AsyncEngineLifecycle

    def __init__(self, handle: AsyncOperations, timeout: float | None = None) -> None:
        self.handle = handle
        self._timeout = timeout

    async def __aenter__(self) -> Any:
        return await self.begin(sys._getframe(1))

    async def begin(self, borrower: FrameType) -> Any:
        """Borrow for the block that begins in this frame."""
        self.note(borrower)
        deadline = None if self._timeout is None else self.since + self._timeout
        self.lifecycle = lifecycle = await self.handle.enter(self, deadline)
        try:
            self.connection = await lifecycle.engine.acquire(deadline, self.reference)
        except PoolExhausted as exc:
            lifecycle.leave(self)
            raise PoolExhausted(f"{exc}; {lifecycle.described_checkouts()}") from exc.__cause__
        except BaseException:
            lifecycle.leave(self)
            raise
        return self.connection

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self.connection is None:
            raise StorageError("this block has ended already, or was never begun")
        self.ended = True
        lifecycle = self.lifecycle
        if lifecycle.inherited:
            _inherited.append(self.connection)
            return  # forked inside the block: the connection is the parent's to give back
        try:
            await lifecycle.engine.release(self.connection, exc)
        finally:
            self.connection = None
            lifecycle.leave(self)


class AsyncCall(AsyncCheckout):
    """A checkout that ends with a call of this library, where it was borrowed: the caller's line takes long to find."""

    def note(self, borrower: FrameType) -> None:
        self.site = site_of(borrower)
        self.since = time.monotonic()


_inherited: list[Any] = []
"""Connections of the process that this one was forked from: nothing may finalize them."""


class AsyncOperations(Handle):
    """The operations on a borrowed connection."""

    if TYPE_CHECKING:

        async def __aenter__(self) -> Any: ...
        async def __aexit__(
            self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
        ) -> None: ...

    else:
        __aenter__ = Enter("__aenter__")
        __aexit__ = Exit("__aexit__")

    def connection(self, timeout: float | None = None) -> AsyncCheckout:
        """Return an asynchronous context manager that borrows one connection; `async with storage` is its short form.

        `timeout`: seconds that the block may take, waiting for the connection and the commit included; past them every
        wait for the store ends. `math.inf`: no limit. Without it each wait has `query_timeout` seconds of its own.

        :raises StorageUnavailable: none could be had within `pool_timeout` seconds.
        :raises StorageTimeout: the store did not answer in time.
        :raises CommitUnknown: the connection was lost during the commit.
        """
        return AsyncCheckout(self, timeout if timeout is None else seconds(timeout))

    async def execute(self, sql: str, parameters: Parameters = None, timeout: float | None = None) -> list[Any]:
        """Run one statement, committed, and return its rows as a list of tuples; an empty one when it has none.

        `sql` is PEP 249 text with `%s`, on both SQL stores. `timeout`: seconds for it all, as in `connection`.

        :raises StorageTimeout: the store did not answer in time.
        :raises CommitUnknown: the connection was lost before the answer came, and the statement does not only read.
        :raises StorageError: the statement failed (the driver's error is its `__cause__`), or the store has no SQL.
        """
        return await self.executed(self.connection(timeout), sql, parameters)

    async def executed(self, checkout: AsyncCheckout, sql: str, parameters: Parameters) -> list[Any]:
        """Do what `execute` does, with a checkout that was made for it."""
        with traced(self, sql):
            async with checkout as connection:
                return await checkout.lifecycle.engine.execute(connection, sql, parameters)

    async def run_in_transaction(
        self, work: Callable[[Any], Awaitable[T]], *, retry: int = 5, timeout: float | None = None
    ) -> T:
        """Return `await work(connection)`, committed. A conflict with others runs it all again, up to `retry` times.

        So `work` may run more than once: let it do nothing that a rollback does not undo. Between two attempts is a
        random pause that grows. A commit whose answer was lost is not repeated. `timeout`: seconds for all of it.

        :raises StorageError: the store has no transactions, or the last attempt failed.
        :raises CommitUnknown: the connection was lost during a commit.
        """
        attempts = Attempts(retry, timeout)
        while True:
            checkout = AsyncCheckout(self, attempts.seconds_left())
            try:
                async with checkout as connection:
                    spec = checkout.lifecycle.spec
                    if not spec.transactional:
                        raise StorageError(f"{spec.provider} has no transactions: use storage.connection()")
                    return await work(connection)
            except Exception as exc:
                pause = attempts.pause_after(exc, checkout.lifecycle.engine.retry_pause) if checkout.ended else None
                if pause is None:
                    raise
            await asyncio.sleep(pause)

    async def ping(self) -> float:
        """Make one round trip to the store and return the seconds it took.

        :raises StorageError: the store did not answer within `pool_timeout` seconds.
        """
        started = time.monotonic()
        checkout = self.connection(self._settings().pool_timeout)
        async with checkout as connection:
            await checkout.lifecycle.engine.ping(connection)
        return time.monotonic() - started

    async def inspect(self) -> str:
        """Ask the server what it is, and return its version and what of its settings matters; "" without a server.

        :raises StorageError: its settings make reads stale or locks empty.
        """
        engine = self.spec.engine_class()
        return engine.inspected([await self.execute(question) for question in engine.questions])

    async def enter(self, checkout: AsyncCheckout, deadline: float | None) -> AsyncEngineLifecycle:
        """Return the engine in force, opened, with one more checkout counted.

        :raises StorageUnavailable: it can't be opened.
        """
        raise NotImplementedError
