"""The storage handle, safe to keep and to share, over engines that are swapped when the settings change."""

from __future__ import annotations

import os
import sys
import threading
import time
import weakref
from collections.abc import Hashable
from functools import partial
from types import TracebackType
from typing import Any

from p8fs_cluster.config.settings import P8FSConfig
from p8fs_cluster.exceptions import StorageClosed, StorageError
from p8fs_cluster.providers.engine import ENGINES, Engine, Engines, Parameters, engine_class
from p8fs_cluster.providers.lease import Entered, Lease
from p8fs_cluster.providers.settings import SettingsSource
from p8fs_cluster.providers.slot import Slot
from p8fs_cluster.providers.teardown import Step

__all__ = ["Storage"]


class Storage:
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
        self._changes = 0
        self._entered = Entered()
        self._closed = False
        self._lock = threading.Lock()
        settings.follow(self._follow)
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
        self.enter_slot().leave()

    def connection(self) -> Lease:
        """Return a context manager that borrows one connection, like `with storage` itself.

        :raises StorageUnavailable: none could be had within `pool_timeout` seconds.
        """
        return Lease(self.enter_slot)

    def execute(self, sql: str, parameters: Parameters = None) -> list[Any]:
        """Run one statement, committed, and return its rows as a list of tuples; an empty one when it has none.

        `sql` is PEP 249 text with `%s`, on both SQL stores.

        :raises StorageError: the statement failed (the driver's error is its `__cause__`), or the store has no SQL.
        """
        lease = Lease(self.enter_slot)
        with lease as connection:
            return lease.slot.engine.execute(connection, sql, parameters)

    def ping(self) -> float:
        """Make one round trip to the store and return the seconds it took.

        :raises StorageError: the store did not answer within `pool_timeout` seconds.
        """
        started = time.monotonic()
        lease = Lease(self.enter_slot)
        with lease as connection:
            lease.slot.engine.ping(connection)
        return time.monotonic() - started

    def stats(self) -> dict[str, Any]:
        """Return numbers for metrics: `borrowed` and `engines` (open ones, draining included), and the pool's own."""
        slots = self._open_slots()
        pool = self._in_force.engine.stats() if self._in_force in slots and self._in_force else {}
        borrowed = sum(slot.borrowed for slot in slots)
        return {"provider": self.provider, "engines": len(slots), "borrowed": borrowed, **pool}

    def opened(self) -> list[Step]:
        """Return number, name and closer of every engine that is open, for the container that closes them."""
        slots = self._open_slots()
        return [(slot.opened_at, f"storage ({slot.engine.provider})", partial(self._close, slot)) for slot in slots]

    def shut(self) -> None:
        """Refuse further borrowers; `reopen` takes it back."""
        with self._lock:
            self._closed = True
            self._in_force = None

    def reopen(self) -> None:
        """Serve borrowers (again)."""
        self._closed = False

    def enter_slot(self) -> Slot:
        """Return the slot of the engine in force, opened, with one more lease counted."""
        slot = self._in_force
        if slot is not None and self._settings.announced and slot.enter():
            return slot
        while True:
            slot = self._adopt()
            if slot.enter():
                return slot

    def __enter__(self) -> Any:
        lease = Lease(self.enter_slot)
        connection = lease.__enter__()
        self._entered.push(sys._getframe(1), lease)
        return connection

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        lease = self._entered.pop(sys._getframe(1))
        if lease is None:
            raise StorageError("a `with storage` block ended where none had begun; use storage.connection() here")
        lease.__exit__(exc_type, exc, traceback)

    def __repr__(self) -> str:
        return f"<Storage {'closed' if self._closed else self.provider}>"

    def _open_slots(self) -> list[Slot]:
        return [slot for slot in tuple(self._slots.values()) if slot.is_open]

    def _engine_class(self) -> type[Engine]:
        return engine_class(self._engines, self._settings())

    def _key(self, snapshot: P8FSConfig) -> Hashable:
        engine = engine_class(self._engines, snapshot)
        return engine.provider, engine.key(snapshot)

    def _adopt(self) -> Slot:
        changes = self._changes
        slot = self._slot_for(self._settings())
        slot.open()
        with self._lock:
            closed = self._closed
            if changes == self._changes and not closed and self._settings.announced:
                self._in_force = slot
        if closed:
            slot.retire()
        self._retire_unused()
        return slot

    def _slot_for(self, snapshot: P8FSConfig) -> Slot:
        key = self._key(snapshot)
        while True:
            with self._lock:
                if self._closed:
                    raise StorageClosed("the container of this storage was closed: use it inside `with container:`")
                slot = self._slots.get(key)
                if slot is None or slot.gone.is_set():
                    slot = self._slots[key] = Slot(engine_class(self._engines, snapshot)(snapshot))
            if slot.revive():
                return slot
            slot.gone.wait()  # a directory, say, can be opened again only when it is closed

    def _follow(self) -> None:
        with self._lock:
            self._changes += 1
            self._in_force = None
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
        self._slots, self._in_force = {}, None
        self._lock = threading.Lock()


_handles: weakref.WeakSet[Storage] = weakref.WeakSet()


def _after_fork() -> None:
    for handle in tuple(_handles):
        handle.forget_parent()


os.register_at_fork(after_in_child=_after_fork)
