"""The storage handle for asyncio: the contract of `Storage`, with one engine for each event loop that uses it."""

from __future__ import annotations

import asyncio
import contextlib
import itertools
import sys
import time
import weakref
from collections.abc import AsyncIterator, Awaitable, Callable, Hashable
from functools import partial
from importlib import import_module
from types import FrameType, TracebackType
from typing import Any, Protocol, TypeVar

from p8fs_cluster.config.settings import P8FSConfig
from p8fs_cluster.di.settings import SettingsSource
from p8fs_cluster.di.teardown import OPENED, Step
from p8fs_cluster.exceptions import PoolExhausted, StorageClosed, StorageError
from p8fs_cluster.forking import Stage, after_fork
from p8fs_cluster.providers.storage.checkout import Borrowed, Entered
from p8fs_cluster.providers.storage.engine_lifecycle import tell_cut_off
from p8fs_cluster.providers.storage.engines import ENGINES, Parameters, engine_class
from p8fs_cluster.providers.storage.handle import Storage, seconds
from p8fs_cluster.providers.storage.leak_monitor import look_again, watch_holders
from p8fs_cluster.providers.storage.observability import measure, traced
from p8fs_cluster.providers.storage.retries import pause, pause_after
from p8fs_cluster.providers.storage.threaded import Threaded

__all__ = ["AsyncStorage"]

T = TypeVar("T")

_CHUNK = 1000
"""Pairs that a scan reads in a thread at once."""

_ENGINES = {
    "postgresql": "p8fs_cluster.providers.storage.postgresql.async_engine:AsyncPostgreSQL",
    "tidb": "p8fs_cluster.providers.storage.tidb.async_engine:AsyncTiDB",
}
"""Those with drivers for asyncio; any other is used through the synchronous handle, in threads."""


class _Engine(Protocol):
    """What an engine's file for asyncio provides; its calls come from one event loop. `close` ends all at once."""

    async def open(self) -> None: ...
    def close(self) -> None: ...
    async def acquire(self, deadline: float | None) -> Any: ...
    async def release(self, connection: Any, exc: BaseException | None) -> None: ...
    async def execute(self, connection: Any, sql: str, parameters: Parameters) -> list[Any]: ...
    async def ping(self, connection: Any) -> None: ...
    def cut(self, connection: Any) -> None: ...
    def stats(self) -> dict[str, int]: ...


class _Slot:
    """An engine of one loop, and how many have borrowed from it; retired, it closes with the last of them."""

    def __init__(self, engine: _Engine, snapshot: P8FSConfig, loop: asyncio.AbstractEventLoop) -> None:
        self.engine = engine
        self.name = snapshot.storage_provider
        self.loop = loop
        self._drain_timeout = snapshot.pool_drain_timeout
        self._patience: asyncio.TimerHandle | None = None
        self._guard: AsyncIterator[None] | None = None
        self.opened_at = 0
        self.checkouts: dict[AsyncCheckout, None] = {}
        self.retired = False
        self._opening = asyncio.Lock()

    async def open(self) -> None:
        """Open it once; who comes meanwhile waits."""
        async with self._opening:
            if not self.opened_at:
                await self.engine.open()
                self._guard = self._until_the_loop_ends()
                await anext(self._guard)
                self.opened_at = next(OPENED)

    def leave(self, checkout: AsyncCheckout) -> None:
        """End a checkout."""
        del self.checkouts[checkout]
        if self.retired and not self.checkouts:
            self._close()

    def retire(self) -> None:
        """Close it, now or with the last checkout; late ones are cut off."""
        first, self.retired = not self.retired, True
        if not first:
            return
        if not self.checkouts:
            self._close()
        elif not self.loop.is_closed():
            self._patience = self.loop.call_later(self._drain_timeout, self._cut)

    def _cut(self) -> None:
        for checkout in tuple(self.checkouts):
            if checkout.connection is not None:
                tell_cut_off(self.engine, checkout)
                self.engine.cut(checkout.connection)

    def _close(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
        self.engine.close()

    async def _until_the_loop_ends(self) -> AsyncIterator[None]:
        """Close the engine when its loop shuts down its generators, as `asyncio.run` does at its end."""
        try:
            yield
        finally:
            self.retired = True
            self._close()


class AsyncStorage:
    """A handle on the store that the settings name, for any number of event loops: keep it, share it, inject it.

    What is borrowed is a `psycopg.AsyncConnection`, an `aiomysql.Connection`, or a `Threaded` on a store that has no
    driver for asyncio (RocksDB). The block's end commits, an exception rolls back, a cancelled task's connection is
    rolled back or ended, never lent in the middle of an answer.

    >>> from p8fs_cluster.testing import memory_storage
    >>> async def noted() -> bytes:
    ...     with Container().override_providers(storage=memory_storage()) as container:
    ...         async with container.async_storage() as connection:
    ...             await connection.put(b"key", b"value")
    ...             return await connection.get(b"key")
    >>> from p8fs_cluster import Container
    >>> asyncio.run(noted())
    b'value'
    """

    def __init__(self, settings: SettingsSource, synchronous: Callable[[], Storage]) -> None:
        self._settings = settings
        self._synchronous = synchronous
        self._slots: dict[asyncio.AbstractEventLoop, dict[Hashable, _Slot]] = {}
        self._entered = Entered()
        self._closed = False
        self._swaps = 0
        settings.follow(self._follow)
        settings.verify(self._verify)
        _handles.add(self)

    @property
    def provider(self) -> str:
        """The engine in force: "postgresql", "tidb" or "rocksdb". Asking loads no driver."""
        return self._synchronous().provider

    @property
    def transactional(self) -> bool:
        """Whether an exception in the block undoes, on the engine in force, what the block wrote."""
        return self._synchronous().transactional

    def connection(self, timeout: float | None = None) -> AsyncCheckout:
        """Return an asynchronous context manager that borrows one connection; `timeout` is as `Storage` has it.

        :raises StorageUnavailable: none could be had within `pool_timeout` seconds.
        :raises StorageTimeout: the store did not answer in time.
        :raises CommitUnknown: the connection was lost during the commit.
        """
        return AsyncCheckout(self, seconds(timeout))

    async def execute(self, sql: str, parameters: Parameters = None, timeout: float | None = None) -> list[Any]:
        """Run one statement, committed, and return its rows as a list of tuples; an empty one when it has none.

        :raises StorageTimeout: the store did not answer in time.
        :raises StorageError: the statement failed (the driver's error is its `__cause__`), or the store has no SQL.
        """
        self._admit()
        if not self._is_asynchronous():
            return await asyncio.to_thread(self._synchronous().execute, sql, parameters, timeout)
        checkout = self.connection(timeout)
        with traced(self, sql):
            async with checkout as connection:
                return await checkout.engine.execute(connection, sql, parameters)

    async def run_in_transaction(
        self, work: Callable[[Any], Awaitable[T]], *, retry: int = 5, timeout: float | None = None
    ) -> T:
        """Return `await work(connection)`, committed, run again after conflicts; see `Storage.run_in_transaction`.

        :raises StorageError: the store has no transactions, or the last attempt failed.
        :raises CommitUnknown: the connection was lost during a commit.
        """
        if not self.transactional:
            raise StorageError(f"{self.provider} has no transactions: use `async with storage`")
        retry_pause = engine_class(ENGINES, self._settings()).retry_pause if self._is_asynchronous() else None
        deadline = None if timeout is None else time.monotonic() + (seconds(timeout) or 0)
        for attempt in range(retry + 1):
            left = None if deadline is None else max(deadline - time.monotonic(), 1e-6)
            try:
                async with self.connection(left) as connection:
                    return await work(connection)
            except Exception as exc:
                base = pause_after(exc, retry_pause) if retry_pause and attempt < retry else None
                if base is None:
                    raise
            await asyncio.sleep(pause(base, attempt))
        raise AssertionError("unreachable")

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

    async def ping(self) -> float:
        """Make one round trip to the store and return the seconds it took.

        :raises StorageError: the store did not answer within `pool_timeout` seconds.
        """
        self._admit()
        if not self._is_asynchronous():
            return await asyncio.to_thread(self._synchronous().ping)
        started = time.monotonic()
        checkout = self.connection(self._settings().pool_timeout)
        async with checkout as connection:
            await checkout.engine.ping(connection)
        return time.monotonic() - started

    async def inspect(self) -> str:
        """Ask the server what it is, as `Storage.inspect` does.

        :raises StorageError: its settings make reads stale or locks empty.
        """
        if not self._is_asynchronous():
            return await asyncio.to_thread(self._synchronous().inspect)
        engine = engine_class(ENGINES, self._settings())
        return engine.inspected([await self.execute(question) for question in engine.questions])

    def stats(self) -> dict[str, Any]:
        """Return numbers for metrics, of all event loops together, named as `Storage.stats` names them."""
        if not self._is_asynchronous():
            return self._synchronous().stats()
        slots = [slot for slot in self._open_slots() if slot.opened_at]
        pools = [slot.engine.stats() for slot in slots]
        counts = {name: sum(pool[name] for pool in pools) for name in ("size", "idle", "waiting")}
        borrowed = sum(len(slot.checkouts) for slot in slots)
        limit = {"max_size": self._settings().pool_max_size, "swaps": self._swaps}
        return {"provider": self.provider, "engines": len(slots), "borrowed": borrowed, **limit, **counts}

    def settings_now(self) -> P8FSConfig:
        """Return the snapshot that new borrowers are served by."""
        return self._settings()

    def holders(self) -> list[Borrowed]:
        """Return who holds a connection now: the place that borrowed it, and since when."""
        if not self._is_asynchronous():
            return [*self._synchronous().holders()]
        return [checkout for slot in self._open_slots() for checkout in slot.checkouts]

    def opened(self) -> list[Step]:
        """Return number, name and closer of every engine that is open, for the container that closes them."""
        slots = self._open_slots()
        return [(slot.opened_at, f"async storage ({slot.name})", partial(self._end, slot)) for slot in slots]

    def shut(self) -> None:
        """Refuse further borrowers; `reopen` takes it back."""
        self._closed = True

    def reopen(self) -> None:
        """Serve borrowers (again)."""
        self._closed = False

    async def __aenter__(self) -> Any:
        checkout, frame = self.connection(), sys._getframe(1)
        connection = await checkout.begin(frame)
        self._entered.push(frame, checkout)
        return connection

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        checkout = self._entered.pop(sys._getframe(1))
        if not isinstance(checkout, AsyncCheckout):
            raise StorageError(
                "an `async with storage` block ended where none had begun; use storage.connection() here"
            )
        await checkout.__aexit__(exc_type, exc, traceback)

    def __repr__(self) -> str:
        return f"<AsyncStorage {'closed' if self._closed else self.provider}>"

    async def enter_slot(self, checkout: AsyncCheckout) -> _Slot | None:
        """Return the slot in force here, opened, with the checkout counted; None if the engine is not asynchronous."""
        self._admit()
        if not self._is_asynchronous():
            return None
        while True:
            slot = self._slot_for(self._settings())
            slot.checkouts[checkout] = None
            try:
                await slot.open()
            except BaseException:
                slot.leave(checkout)
                raise
            if not slot.retired:
                measure(self)
                watch_holders(self)
                return slot
            slot.leave(checkout)  # the settings have changed meanwhile

    def _admit(self) -> None:
        if self._closed:
            raise StorageClosed("the container of this storage was closed: use it inside `with container:`")

    def _is_asynchronous(self) -> bool:
        """A fake in place of the synchronous handle stands in for this one as well."""
        return self.provider in _ENGINES

    def _slot_for(self, snapshot: P8FSConfig) -> _Slot:
        loop = asyncio.get_running_loop()
        if loop not in self._slots:
            self._sweep()
        here = self._slots.setdefault(loop, {})
        key = engine_class(ENGINES, snapshot).key(snapshot)
        slot = here.get(key)
        if slot is None or slot.retired:
            self._swaps += bool(here)
            module, _, name = _ENGINES[snapshot.storage_provider].partition(":")
            slot = here[key] = _Slot(getattr(import_module(module), name)(snapshot), snapshot, loop)
        return slot

    def _sweep(self) -> None:
        """End the connections of loops that were closed without closing the container."""
        for loop in [loop for loop in self._slots if loop.is_closed()]:
            for slot in self._slots.pop(loop).values():
                slot.engine.close()

    def _open_slots(self) -> list[_Slot]:
        here = [slot for slots in tuple(self._slots.values()) for slot in tuple(slots.values())]
        return [slot for slot in here if slot.checkouts or not slot.retired]

    def _follow(self) -> None:
        look_again()
        for loop in tuple(self._slots):
            with contextlib.suppress(RuntimeError):  # it was closed
                loop.call_soon_threadsafe(self._retire_unused, loop)

    def _retire_unused(self, loop: asyncio.AbstractEventLoop) -> None:
        needed = {engine_class(ENGINES, snapshot).key(snapshot) for snapshot in self._settings.in_use()}
        here = self._slots.get(loop, {})
        for key in here.keys() - needed:
            here[key].retire()
            if not here[key].checkouts:
                del here[key]

    def _verify(self, snapshot: P8FSConfig) -> None:
        """Open the engine of settings that are to come, if one is in use; any thread may ask, so the twin does it."""
        used = {key for slots in tuple(self._slots.values()) for key in slots}
        twin = engine_class(ENGINES, snapshot)
        if used and snapshot.storage_provider in _ENGINES and twin.key(snapshot) not in used:
            engine = twin(snapshot)
            engine.open()
            engine.close()

    def _end(self, slot: _Slot) -> Any:
        """Close an engine; from another thread than its loop's, that loop does it."""
        self.shut()
        self._slots.get(slot.loop, {}).clear()
        running = asyncio._get_running_loop()
        if slot.loop is running or slot.loop.is_closed():
            slot.retire()
        else:
            slot.loop.call_soon_threadsafe(slot.retire)

    def forget_parent(self) -> None:
        """In a forked child: leave the parent's engines alone, referenced so that nothing finalizes them."""
        _inherited.append(self._slots)
        self._slots = {}


class AsyncCheckout(Borrowed):
    """A connection for one `async with` block, and who borrowed it."""

    __slots__ = ("_storage", "_synchronous", "_timeout", "slot")
    slot: _Slot | None

    def __init__(self, storage: AsyncStorage, timeout: float | None) -> None:
        super().__init__()
        self._storage = storage
        self._timeout = timeout

    async def __aenter__(self) -> Any:
        return await self.begin(sys._getframe(1))

    @property
    def engine(self) -> _Engine:
        """What the connection is of."""
        assert self.slot is not None  # noqa: S101
        return self.slot.engine

    async def begin(self, borrower: FrameType) -> Any:
        """Borrow for the block that begins in this frame."""
        self.note(borrower)
        deadline = None if self._timeout is None else self.since + self._timeout
        self.slot = await self._storage.enter_slot(self)
        if self.slot is None:
            self._synchronous = self._storage._synchronous().connection(self._timeout)
            self.connection = Threaded(await asyncio.to_thread(self._synchronous.begin, borrower))
            return self.connection
        try:
            self.connection = await self.slot.engine.acquire(deadline)
        except PoolExhausted as exc:
            holders = [str(checkout) for checkout in self.slot.checkouts if checkout is not self]
            self.slot.leave(self)
            raise PoolExhausted(f"{exc}; {'; '.join(holders)}") from exc.__cause__
        except BaseException:
            self.slot.leave(self)
            raise
        return self.connection

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.ended = True
        if self.slot is None:
            await asyncio.to_thread(self._synchronous.__exit__, exc_type, exc, traceback)
            return
        try:
            await self.slot.engine.release(self.connection, exc)
        finally:
            self.slot.leave(self)


_handles: weakref.WeakSet[AsyncStorage] = weakref.WeakSet()
_inherited: list[Any] = []


def _after_fork() -> None:
    for handle in tuple(_handles):
        handle.forget_parent()


after_fork(Stage.STORAGE, _after_fork)
