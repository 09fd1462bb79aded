"""The storage handle, safe to keep and to share, over engines that are swapped when the settings change."""

from __future__ import annotations

import itertools
import logging
import os
import sys
import threading
import time
import weakref
from collections.abc import Callable, Hashable, Mapping, Sequence
from concurrent.futures import Future
from contextvars import ContextVar
from functools import partial
from importlib import import_module
from types import FrameType, TracebackType
from typing import Any, ClassVar, Protocol

from p8fs_cluster.config.settings import P8FSConfig
from p8fs_cluster.exceptions import StorageClosed, StorageError
from p8fs_cluster.providers.settings import SettingsSource

__all__ = ["ENGINES", "OPENED", "Engine", "Lease", "Storage"]

log = logging.getLogger(__name__)

OPENED = itertools.count(1)
"""Numbers whatever a container opens, so that it can be closed in reverse order."""


class Engine(Protocol):
    """What an engine's file provides. The constructor stores; `open` does I/O; calls come from any thread.

    Borrowed connections are counted outside: `close` is called once, when none is out.
    """

    provider: ClassVar[str]
    sqlalchemy_url: ClassVar[str | None]
    """`dialect+driver://` for SQLAlchemy; None: the store has no SQL, and `execute` raises StorageError."""
    transactional: ClassVar[bool]
    """Whether an exception in the `with` block undoes what the block wrote."""

    def __init__(self, settings: P8FSConfig) -> None: ...

    @staticmethod
    def key(settings: P8FSConfig) -> Hashable:
        """Return all that an engine depends on: equal keys share an engine."""

    def open(self) -> None: ...
    def close(self) -> None: ...
    def acquire(self) -> Any: ...
    def release(self, connection: Any, exc: BaseException | None) -> None:
        """Commit, or roll back if `exc` is given, then take the connection back, whatever happened."""

    def execute(self, connection: Any, sql: str, parameters: Sequence[Any] | Mapping[str, Any] | None) -> list[Any]: ...
    def ping(self, connection: Any) -> None:
        """Make one round trip, ended by `pool_timeout`."""

    def stats(self) -> dict[str, int]: ...


ENGINES: Mapping[str, str] = {
    "postgresql": "p8fs_cluster.providers.postgresql:PostgreSQL",
    "tidb": "p8fs_cluster.providers.tidb:TiDB",
    "rocksdb": "p8fs_cluster.providers.rocksdb:RocksDB",
}
"""The one table of engines: `storage_provider` → where its class is. The module is imported when it is first used."""


class _Slot:
    """An engine with the number of its open leases; retired, it closes when the last one ends, unless it is revived."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.leases = 0
        self.opened_at = 0
        self.pid = os.getpid()
        self.gone = threading.Event()
        self._lock = threading.Lock()
        self._opening: Future[None] | None = None
        self._retired = False
        self._closing = False

    def open(self) -> None:
        """Open the engine once. Whoever comes while it is being opened waits for that attempt and shares its error."""
        if self.opened_at:
            return
        with self._lock:
            attempt, mine = self._opening, self._opening is None
            if attempt is None:
                attempt = self._opening = Future()
        if mine:
            self._attempt(attempt)
        attempt.result()

    def _attempt(self, attempt: Future[None]) -> None:
        try:
            self.engine.open()
        except BaseException as exc:
            self._opening = None
            attempt.set_exception(exc)
            return
        self.opened_at = next(OPENED)
        attempt.set_result(None)
        self._close_if_unused()

    def enter(self) -> bool:
        """Count a lease, unless the engine was retired meanwhile."""
        with self._lock:
            if self._retired:
                return False
            self.leases += 1
            return True

    def leave(self) -> None:
        """End a lease; the last one of a retired engine closes it."""
        with self._lock:
            self.leases -= 1
        if self._retired:
            self._close_if_unused()

    def retire(self, raising: bool = False) -> None:
        """Refuse new leases, and close the engine now or when the last lease ends."""
        with self._lock:
            self._retired = True
        self._close_if_unused(raising)

    def revive(self) -> bool:
        """Serve again. Return False when it is too late: the engine is being closed, and `gone` tells when it is."""
        with self._lock:
            if not self._closing:
                self._retired = False
            return not self._closing

    def _close_if_unused(self, raising: bool = False) -> None:
        with self._lock:
            if self._closing or not self._retired or self.leases or not self.opened_at:
                return
            self._closing = True
        try:
            self.engine.close()
        except Exception:
            if raising:
                raise
            log.exception("closing a drained %s engine failed", self.engine.provider)
        finally:
            self.gone.set()


class Lease:
    """One connection, borrowed for one `with` block."""

    __slots__ = ("_storage", "connection", "ended", "frame", "slot")

    def __init__(self, storage: Storage) -> None:
        self._storage = storage
        self.ended = False
        self.frame = 0

    def __enter__(self) -> Any:
        self.slot = slot = self._storage.enter_slot()
        try:
            self.connection = slot.engine.acquire()
        except BaseException:
            slot.leave()
            raise
        return self.connection

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.ended = True
        if self.slot.pid != os.getpid():
            return  # forked inside the block: the connection belongs to the parent
        try:
            self.slot.engine.release(self.connection, exc)
        finally:
            self.slot.leave()


_Entered = tuple[Lease, Any] | None
_entered: ContextVar[_Entered] = ContextVar("p8fs_cluster_entered", default=None)


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

    def __init__(self, settings: SettingsSource, engines: Mapping[str, str | type[Engine]] = ENGINES) -> None:
        self._settings = settings
        self._engines = engines
        self._slots: dict[Hashable, _Slot] = {}
        self._inherited: list[dict[Hashable, _Slot]] = []
        self._in_force: tuple[P8FSConfig, _Slot] | None = None
        self._by_frame: dict[int, list[Lease]] = {}
        self._closed = False
        self._lock = threading.Lock()
        settings.subscribe(self._retire_unused)
        _handles.add(self)

    @property
    def provider(self) -> str:
        """The engine in force: "postgresql", "tidb" or "rocksdb"."""
        return self._engine_class(self._settings()).provider

    @property
    def sqlalchemy_url(self) -> str | None:
        """`dialect+driver://` of the engine in force, None when it has no SQL."""
        return self._engine_class(self._settings()).sqlalchemy_url

    @property
    def transactional(self) -> bool:
        """Whether an exception in a `with` block undoes, on the engine in force, what the block wrote."""
        return self._engine_class(self._settings()).transactional

    def open(self) -> None:
        """Open the engine in force now, rather than at the first borrower.

        :raises StorageUnavailable: it can't be reached, or refuses us.
        """
        self.enter_slot().leave()

    def connection(self) -> Lease:
        """Return a context manager that borrows one connection, like `with storage` itself.

        :raises StorageUnavailable: none could be had within `pool_timeout` seconds.
        """
        return Lease(self)

    def execute(self, sql: str, parameters: Sequence[Any] | Mapping[str, Any] | None = None) -> list[Any]:
        """Run one statement, committed, and return its rows as a list of tuples; an empty one when it has none.

        `sql` is PEP 249 text with `%s`, on both SQL stores.

        :raises StorageError: the statement failed (the driver's error is its `__cause__`), or the store has no SQL.
        """
        lease = Lease(self)
        with lease as connection:
            return lease.slot.engine.execute(connection, sql, parameters)

    def ping(self) -> float:
        """Make one round trip to the store and return the seconds it took.

        :raises StorageError: the store did not answer within `pool_timeout` seconds.
        """
        started = time.monotonic()
        lease = Lease(self)
        with lease as connection:
            lease.slot.engine.ping(connection)
        return time.monotonic() - started

    def stats(self) -> dict[str, Any]:
        """Return numbers for metrics: `borrowed` and `engines` (open ones, draining included), and the pool's own."""
        slots = self._open_slots()
        in_force = self._in_force[1] if self._in_force else None
        pool = in_force.engine.stats() if in_force and in_force.opened_at else {}
        return {"provider": self.provider, "engines": len(slots), "borrowed": sum(s.leases for s in slots), **pool}

    def opened(self) -> list[tuple[int, str, Callable[[], None]]]:
        """Return number, name and closer of every engine that is open, for the container that closes them."""
        slots = self._open_slots()
        return [(slot.opened_at, f"storage ({slot.engine.provider})", partial(slot.retire, raising=True)) for slot in slots]

    def shut(self) -> None:
        """Refuse further borrowers; `reopen` takes it back."""
        with self._lock:
            self._closed = True
            self._in_force = None

    def reopen(self) -> None:
        """Serve borrowers (again)."""
        self._closed = False

    def enter_slot(self) -> _Slot:
        """Return the slot of the engine in force, opened, with one more lease counted."""
        while True:
            snapshot = self._settings()
            in_force = self._in_force
            if in_force is None or in_force[0] is not snapshot:
                in_force = self._adopt(snapshot)
            if in_force[1].enter():
                return in_force[1]
            self._in_force = None

    def __enter__(self) -> Any:
        lease = Lease(self)
        connection = lease.__enter__()
        # A `with` statement enters and leaves in one frame, whatever thread or context runs it by then (a generator
        # under FastAPI changes both). An ExitStack has two frames, but stays in one context.
        lease.frame = id(sys._getframe(1))
        self._by_frame.setdefault(lease.frame, []).append(lease)
        _entered.set((lease, _still_open(_entered.get())))
        return connection

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self._leaving(sys._getframe(1)).__exit__(exc_type, exc, traceback)

    def __repr__(self) -> str:
        return f"<Storage {'closed' if self._closed else self.provider}>"

    def _leaving(self, frame: FrameType) -> Lease:
        lease = next(reversed(self._by_frame.get(id(frame), ())), None)
        if lease is None:
            entered = _entered.get()
            while entered and (entered[0].ended or entered[0]._storage is not self):
                entered = entered[1]
            if entered is None:
                raise StorageError("a `with storage` block ended where none had begun; use storage.connection() here")
            lease = entered[0]
        leases = self._by_frame[lease.frame]
        leases.remove(lease)
        if not leases:
            del self._by_frame[lease.frame]
        return lease

    def _open_slots(self) -> list[_Slot]:
        return [slot for slot in tuple(self._slots.values()) if slot.opened_at and not slot.gone.is_set()]

    def _adopt(self, snapshot: P8FSConfig) -> tuple[P8FSConfig, _Slot]:
        slot = self._slot_for(snapshot)
        slot.open()
        self._in_force = in_force = (snapshot, slot)
        self._retire_unused()
        return in_force

    def _slot_for(self, snapshot: P8FSConfig) -> _Slot:
        engine_class = self._engine_class(snapshot)
        key = (engine_class.provider, engine_class.key(snapshot))
        while True:
            with self._lock:
                if self._closed:
                    raise StorageClosed("the container of this storage was closed: use it inside `with container:`")
                slot = self._slots.get(key)
                if slot is None or slot.gone.is_set():
                    slot = self._slots[key] = _Slot(engine_class(snapshot))
            if slot.revive():
                return slot
            slot.gone.wait()  # a directory, say, can be opened again only when it is closed

    def _engine_class(self, snapshot: P8FSConfig) -> type[Engine]:
        engine = self._engines[snapshot.storage_provider]
        if not isinstance(engine, str):
            return engine
        module, _, name = engine.partition(":")
        engine_class: type[Engine] = getattr(import_module(module), name)
        return engine_class

    def _retire_unused(self) -> None:
        """Close, or let drain, every engine that no snapshot in use needs any more."""
        needed = set()
        for snapshot in self._settings.in_use():
            engine_class = self._engine_class(snapshot)
            needed.add((engine_class.provider, engine_class.key(snapshot)))
        with self._lock:
            self._slots = {key: slot for key, slot in self._slots.items() if not slot.gone.is_set()}
            unused = [self._slots[key] for key in self._slots.keys() - needed]
        for slot in unused:
            slot.retire()

    def forget_parent(self) -> None:
        """In a forked child: leave the parent's engines alone, referenced so that nothing finalizes them."""
        self._inherited.append(self._slots)
        self._slots, self._in_force = {}, None
        self._lock = threading.Lock()


def _still_open(entered: _Entered) -> _Entered:
    while entered and entered[0].ended:
        entered = entered[1]
    return entered


_handles: weakref.WeakSet[Storage] = weakref.WeakSet()


def _after_fork() -> None:
    for handle in tuple(_handles):
        handle.forget_parent()


os.register_at_fork(after_in_child=_after_fork)
