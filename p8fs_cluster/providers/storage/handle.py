"""The storage handle, safe to keep and to share, over engines that are swapped when the settings change."""

from __future__ import annotations

import itertools
import math
import sys
import threading
import time
import weakref
from collections.abc import Callable, Generator, Hashable
from functools import partial
from pathlib import Path
from types import TracebackType
from typing import Any, TypeVar

from p8fs_cluster.config.settings import P8FSConfig
from p8fs_cluster.di import context
from p8fs_cluster.di.settings import SettingsSource
from p8fs_cluster.di.teardown import Closable, Step
from p8fs_cluster.exceptions import StorageClosed, StorageError
from p8fs_cluster.forking import Stage, after_fork
from p8fs_cluster.providers.storage.checkout import Checkout, Entered
from p8fs_cluster.providers.storage.engine_lifecycle import Slot
from p8fs_cluster.providers.storage.engines import ENGINES, Engine, Engines, Parameters, Span, engine_class
from p8fs_cluster.providers.storage.leak_monitor import look_again, watch_holders
from p8fs_cluster.providers.storage.observability import measure, traced
from p8fs_cluster.providers.storage.retries import pause, pause_after

__all__ = ["Storage", "seconds"]

T = TypeVar("T")


class Storage(Closable):
    """A handle on the store that the settings name: keep it, share it, inject it; borrow a connection with `with`.

    The block's end commits, an exception rolls back (RocksDB has no transactions: its writes stand), and the
    connection always goes back. What is borrowed is a `psycopg.Connection`, a PyMySQL connection, or a
    `rocksdict.Rdict` in raw mode. Settings that change are followed by the next borrower.

    >>> from p8fs_cluster.testing import memory_storage
    >>> storage = memory_storage()
    >>> with storage as connection:
    ...     connection[b"key"] = b"value"
    >>> with storage as connection:
    ...     connection[b"key"]
    b'value'
    """

    def __init__(self, settings: SettingsSource, engines: Engines = ENGINES) -> None:
        self._settings = settings
        self._engines = engines
        self._slots: dict[Hashable, Slot] = {}
        self._inherited: list[dict[Hashable, Slot]] = []
        self._in_force: Slot | None = None
        self._version: object = None
        """The `context.version` at which it came in force: nothing has changed anywhere since."""
        self._last: Slot | None = None
        self._swaps = 0
        self._changes = 0
        self._entered = Entered()
        self._closed = False
        self._lock = threading.Lock()
        settings.follow(self._follow)
        settings.verify(self._verify)
        _handles.add(self)

    @property
    def provider(self) -> str:
        """The engine in force: "postgresql", "tidb" or "rocksdb". Asking loads no driver."""
        named = self._settings().storage_provider
        place = self._engines[named]
        return named if isinstance(place, str) else place.provider

    @property
    def sqlalchemy_url(self) -> str | None:
        """`dialect+driver://` of the engine in force, None when it has no SQL."""
        return self._engine_class().sqlalchemy_url

    @property
    def transactional(self) -> bool:
        """Whether an exception in a `with` block undoes, on the engine in force, what the block wrote."""
        return self._engine_class().transactional

    def open(self) -> None:
        """Open the engine in force now, rather than at the first borrower.

        :raises StorageUnavailable: it can't be reached, or refuses us.
        """
        self._adopt(None)

    def connection(self, timeout: float | None = None) -> Checkout:
        """Return a context manager that borrows one connection, like `with storage` itself.

        `timeout`: seconds that the block may take, waiting for the connection and the commit included; past them every
        wait for the store ends. `math.inf`: no limit. Without it each wait has `query_timeout` seconds of its own.

        :raises StorageUnavailable: none could be had within `pool_timeout` seconds.
        :raises StorageTimeout: the store did not answer in time.
        :raises CommitUnknown: the connection was lost during the commit.
        """
        return Checkout(self.enter_slot, seconds(timeout))

    def execute(self, sql: str, parameters: Parameters = None, timeout: float | None = None) -> list[Any]:
        """Run one statement, committed, and return its rows as a list of tuples; an empty one when it has none.

        `sql` is PEP 249 text with `%s`, on both SQL stores. `timeout`: seconds for it all, as in `connection`.

        :raises StorageTimeout: the store did not answer in time.
        :raises StorageError: the statement failed (the driver's error is its `__cause__`), or the store has no SQL.
        """
        checkout = Checkout(self.enter_slot, seconds(timeout))
        with traced(self, sql), checkout as connection:
            return checkout.slot.engine.execute(connection, sql, parameters)

    def run_in_transaction(self, work: Callable[[Any], T], *, retry: int = 5, timeout: float | None = None) -> T:
        """Return `work(connection)`, committed. A conflict with others runs it all again, up to `retry` times.

        So `work` may run more than once: let it do nothing that a rollback does not undo. Between two attempts is a
        random pause that grows. A commit whose answer was lost is not repeated. `timeout`: seconds for all of it.

        :raises StorageError: the store has no transactions, or the last attempt failed.
        :raises CommitUnknown: the connection was lost during a commit.

        >>> from p8fs_cluster.testing import memory_storage
        >>> memory_storage().run_in_transaction(lambda connection: connection.get(b"key", b"none"))
        b'none'
        """
        deadline = None if timeout is None else time.monotonic() + (seconds(timeout) or 0)
        for attempt in itertools.count():
            left = None if deadline is None else max(deadline - time.monotonic(), 0)
            checkout = Checkout(self.enter_slot, left)
            try:
                with checkout as connection:
                    if not checkout.slot.engine.transactional:
                        raise StorageError(f"{checkout.slot.engine.provider} has no transactions: use `with storage`")
                    return work(connection)
            except Exception as exc:
                if (
                    checkout.ended
                    and attempt < retry
                    and (base := pause_after(exc, checkout.slot.engine.retry_pause)) is not None
                ):
                    time.sleep(pause(base, attempt))
                    continue
                raise
        raise AssertionError("unreachable")

    def scan(
        self, prefix: bytes = b"", *, start: bytes | None = None, stop: bytes | None = None, reverse: bool = False
    ) -> Generator[tuple[bytes, bytes], None, None]:
        """Yield the keys of an embedded store and their values, in the order of bytes, as they are now.

        `prefix`: what the keys begin with; `start`, `stop`: the first key, and the first that is left out. The store is
        borrowed until the last pair, or until the iterator is closed or forgotten. rocksdict's own `iter()` crashes the
        process when it is moved past its end.

        :raises StorageError: the store is a server, which is asked by SQL.

        >>> from p8fs_cluster.testing import memory_storage
        >>> storage = memory_storage()
        >>> with storage as connection:
        ...     connection[b"note:1"], connection[b"note:2"], connection[b"user:1"] = b"a", b"b", b"c"
        >>> list(storage.scan(b"note:", reverse=True))
        [(b'note:2', b'b'), (b'note:1', b'a')]
        """
        checkout = Checkout(self.enter_slot)
        with checkout as connection:
            yield from checkout.slot.engine.scan(connection, Span.of(prefix, start, stop), reverse)

    def checkpoint(self, folder: str | Path) -> None:
        """Write a whole copy of an embedded store into a new folder: its backup, while it is in use.

        :raises StorageError: it can't be written, or the store is a server, which has tools of its own for that.
        """
        checkout = Checkout(self.enter_slot)
        with checkout:
            copy = getattr(checkout.slot.engine, "checkpoint", None)
            if copy is None:
                raise StorageError(f"{self.provider} has no checkpoints: use its own tools, pg_dump or BR")
            copy(Path(folder))

    def ping(self) -> float:
        """Make one round trip to the store and return the seconds it took.

        :raises StorageError: the store did not answer within `pool_timeout` seconds.
        """
        started = time.monotonic()
        checkout = Checkout(self.enter_slot, self._settings().pool_timeout)
        with checkout as connection:
            checkout.slot.engine.ping(connection)
        return time.monotonic() - started

    def inspect(self) -> str:
        """Ask the server what it is, and return its version and what of its settings matters; "" without a server.

        :raises StorageError: its settings make reads stale or locks empty.

        >>> from p8fs_cluster.testing import memory_storage
        >>> memory_storage().inspect()
        ''
        """
        engine = self._engine_class()
        return engine.inspected([self.execute(question) for question in engine.questions])

    def stats(self) -> dict[str, Any]:
        """Return numbers for metrics: `borrowed`, `engines` (open ones, draining too), `swaps`, and the pool's own."""
        slots = self._open_slots()
        slot = self._in_force
        pool = slot.engine.stats() if slot in slots and slot else dict.fromkeys(("size", "idle", "waiting"), 0)
        borrowed = sum(slot.borrowed for slot in slots)
        limit = {"max_size": self._settings().pool_max_size}
        counts = {"engines": len(slots), "borrowed": borrowed, "swaps": self._swaps}
        return {"provider": self.provider, **counts, **limit, **pool}

    def settings_now(self) -> P8FSConfig:
        """Return the snapshot that new borrowers are served by."""
        return self._settings()

    def holders(self) -> list[Checkout]:
        """Return who holds a connection now: the place that borrowed it, and since when."""
        return [
            checkout for slot in self._open_slots() for checkout in slot.checkouts if isinstance(checkout, Checkout)
        ]

    def opened(self) -> list[Step]:
        """Return number, name and closer of every engine that is open, for the container that closes them."""
        slots = self._open_slots()
        return [(slot.opened_at, f"storage ({slot.engine.provider})", partial(self._close, slot)) for slot in slots]

    def shut(self) -> None:
        """Refuse further borrowers; `reopen` takes it back."""
        with self._lock:
            self._closed = True
            self._in_force = None
            being_opened = [slot for slot in self._slots.values() if not slot.is_open]
        for slot in being_opened:
            slot.retire()  # whoever waited for it may have gone

    def reopen(self) -> None:
        """Serve borrowers (again)."""
        self._closed = False

    def enter_slot(self, checkout: Checkout, deadline: float | None = None) -> Slot:
        """Return the slot of the engine in force, opened, with one more checkout counted."""
        slot = self._in_force
        nothing_changed = self._version is context.version and not context.in_force.get().isolated
        if slot is not None and nothing_changed and slot.enter(checkout):
            return slot
        while True:
            slot = self._adopt(deadline)
            if slot.enter(checkout):
                return slot

    def __enter__(self) -> Any:
        checkout, frame = Checkout(self.enter_slot), sys._getframe(1)
        if frame in self._entered.by_frame:
            self._entered.end_abandoned(frame)
        connection = checkout.begin(frame)
        self._entered.push(frame, checkout)
        return connection

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        checkout = self._entered.pop(sys._getframe(1))
        if not isinstance(checkout, Checkout):
            raise StorageError("a `with storage` block ended where none had begun; use storage.connection() here")
        checkout.__exit__(exc_type, exc, traceback)

    def __repr__(self) -> str:
        return f"<Storage {'closed' if self._closed else self.provider}>"

    def _open_slots(self) -> list[Slot]:
        return [slot for slot in tuple(self._slots.values()) if slot.is_open]

    def _engine_class(self) -> type[Engine]:
        return engine_class(self._engines, self._settings())

    def _key(self, snapshot: P8FSConfig) -> Hashable:
        engine = engine_class(self._engines, snapshot)
        return engine.provider, engine.key(snapshot)

    def _adopt(self, deadline: float | None) -> Slot:
        changes, version = self._changes, context.version
        snapshot = self._settings()
        slot = self._slot_for(snapshot)
        slot.open(deadline)
        watch_holders(self)
        measure(self)
        with self._lock:
            closed = self._closed
            if changes == self._changes and not closed and self._settings.announced:
                self._swaps += self._last not in (None, slot)
                self._in_force, self._version = None, version
                self._in_force = self._last = slot
        if closed:
            slot.retire()
        self._retire_unused()
        return slot

    def _verify(self, snapshot: P8FSConfig) -> None:
        """Open the engine of settings that are to come, if one is in use: what can't be opened does not come."""
        if not self._open_slots() or self._key(snapshot) in self._slots:
            return
        self._slot_for(snapshot).open()

    def _slot_for(self, snapshot: P8FSConfig) -> Slot:
        key = self._key(snapshot)
        while True:
            with self._lock:
                if self._closed:
                    raise StorageClosed("the container of this storage was closed: use it inside `with container:`")
                slot = self._slots.get(key)
                if slot is None or slot.gone.is_set():
                    slot = self._slots[key] = Slot(
                        engine_class(self._engines, snapshot)(snapshot), snapshot.pool_drain_timeout
                    )
            if slot.revive():
                return slot
            slot.gone.wait()  # a directory, say, can be opened again only when it is closed

    def _follow(self) -> None:
        with self._lock:
            self._changes += 1
            self._in_force = None
        look_again()
        self._retire_unused()

    def _retire_unused(self) -> None:
        """Close, or let drain, every engine that no snapshot in use needs any more."""
        needed = set(map(self._key, self._settings.in_use()))
        with self._lock:
            self._slots = {key: slot for key, slot in self._slots.items() if not slot.gone.is_set()}
            unused = [self._slots[key] for key in self._slots.keys() - needed]
        for slot in unused:
            slot.retire()

    def _close(self, slot: Slot) -> None:
        self.shut()
        slot.retire(raising=True)

    def forget_parent(self) -> None:
        """In a forked child: leave the parent's engines alone, referenced so that nothing finalizes them."""
        for slot in self._slots.values():
            slot.inherited = True
        self._inherited.append(self._slots)
        self._slots, self._in_force, self._last = {}, None, None
        self._lock = threading.Lock()


def seconds(timeout: float | None) -> float | None:
    """Return a timeout that was given, if it is one; what is longer than the system's waits can be is no limit.

    :raises ValueError: it is not more than 0.
    """
    if timeout is not None and not timeout > 0:
        raise ValueError(f"timeout is in seconds, more than 0, and math.inf for none: not {timeout!r}")
    return math.inf if timeout is not None and timeout > _LONGEST else timeout


_LONGEST = 86400.0 * 365
"""Seconds from which on a wait counts as endless."""

_handles: weakref.WeakSet[Storage] = weakref.WeakSet()


def _after_fork() -> None:
    for handle in tuple(_handles):
        handle.forget_parent()


after_fork(Stage.STORAGE, _after_fork)
