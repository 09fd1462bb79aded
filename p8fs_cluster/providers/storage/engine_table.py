"""The engines of a handle: which one is in force, which ones drain, and what a change of the settings does to them."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable, Hashable
from functools import partial
from typing import Any, Generic, TypeVar

from p8fs_cluster.config.settings import P8FSConfig
from p8fs_cluster.di import context
from p8fs_cluster.di.settings import SettingsSource
from p8fs_cluster.di.teardown import Closable, Step
from p8fs_cluster.exceptions import StorageClosed
from p8fs_cluster.forking import Stage, after_fork
from p8fs_cluster.providers.storage.checkout import Borrowed
from p8fs_cluster.providers.storage.engine_lifecycle import EngineLifecycle
from p8fs_cluster.providers.storage.engines import EngineSpec, SpecOf
from p8fs_cluster.providers.storage.leak_monitor import look_again

__all__ = ["CLOSED", "EngineTable", "Handle", "specs_in_use"]

CLOSED = "the container of this storage was closed: use it inside `with container:`"

L = TypeVar("L", bound=EngineLifecycle[Any])


class EngineTable(Generic[L]):
    """The engines of one place, which is all threads or one event loop; no I/O but the closing of engines."""

    def __init__(self, settings: SettingsSource, spec_of: SpecOf, made: Callable[[EngineSpec, P8FSConfig], L]) -> None:
        self._settings = settings
        self._spec_of = spec_of
        self._made = made
        self._engines: dict[Hashable, L] = {}
        self.in_force: L | None = None
        """The engine that serves here, as long as `epoch` is that of the context: nothing has changed anywhere."""
        self.epoch: object = None
        self._last: L | None = None
        self._closed = False
        self._lock = threading.Lock()
        self.swaps = 0

    @property
    def open_ones(self) -> list[L]:
        """The engines that are open, those that drain included."""
        return [engine for engine in tuple(self._engines.values()) if engine.is_open]

    @property
    def unopened(self) -> list[L]:
        """The engines that are not open yet."""
        return [engine for engine in tuple(self._engines.values()) if not engine.is_open]

    def known(self, snapshot: P8FSConfig) -> bool:
        """Return whether there is an engine for these settings."""
        return self._key(snapshot) in self._engines

    def wanted(self, snapshot: P8FSConfig) -> L:
        """Return the engine for these settings, to be opened if it is not open yet.

        :raises StorageClosed: the container was closed.
        """
        key = self._key(snapshot)
        while True:
            with self._lock:
                if self._closed:
                    raise StorageClosed(CLOSED)
                engine = self._engines.get(key)
                if engine is None or engine.gone.is_set():
                    engine = self._engines[key] = self._made(self._spec_of(snapshot), snapshot)
            if engine.revive():
                return engine
            engine.gone.wait()  # a directory, say, can be opened again only when it is closed

    def put_in_force(self, engine: L, epoch: object) -> None:
        """Let the next borrowers find the engine at once, unless something has changed since that `context.epoch`."""
        with self._lock:
            closed = self._closed
            if not closed and epoch is context.epoch and self._settings.announced:
                self.swaps += self._last not in (None, engine)
                self.in_force, self.epoch = None, epoch
                self.in_force = self._last = engine
        if closed:
            engine.retire()
        self.retire_unused()

    def changed(self) -> None:
        """Ask for the settings anew at the next borrower, and retire what nobody needs any more."""
        self.in_force = None
        self.retire_unused()

    def retire_unused(self) -> None:
        """Close, or let drain, every engine that no snapshot in use needs any more."""
        needed = set(map(self._key, self._settings.in_use()))
        with self._lock:
            self._engines = {key: engine for key, engine in self._engines.items() if not engine.gone.is_set()}
            unused = [self._engines[key] for key in self._engines.keys() - needed]
        for engine in unused:
            engine.retire()

    def shut(self) -> None:
        """Refuse further borrowers."""
        with self._lock:
            self._closed = True
            self.in_force = None

    def reopen(self) -> None:
        """Serve borrowers again."""
        self._closed = False

    def _key(self, snapshot: P8FSConfig) -> Hashable:
        return self._spec_of(snapshot).key(snapshot)


class Handle(Closable):
    """The part that the handles for threads and for asyncio share: all that waits for nothing."""

    def __init__(self, settings: SettingsSource, spec_of: SpecOf) -> None:
        self._settings = settings
        self._spec_of = spec_of
        self._closed = False
        self._inherited: list[Any] = []
        self._forget()
        settings.follow(self._follow)
        settings.verify(self._verify)
        _handles.add(self)

    @property
    def spec(self) -> EngineSpec:
        """Return what is known of the engine in force. Asking loads no driver."""
        return self._spec_of(self._settings())

    @property
    def provider(self) -> str:
        """The name of the engine in force, as `storage_provider` has it. Asking loads no driver."""
        return self.spec.provider

    @property
    def sqlalchemy_url(self) -> str | None:
        """`dialect+driver://` of the engine in force, None when it has no SQL."""
        return self.spec.sqlalchemy_url

    @property
    def transactional(self) -> bool:
        """Return whether an exception in a `with` block undoes, on the engine in force, what the block wrote."""
        return self.spec.transactional

    def settings_now(self) -> P8FSConfig:
        """Return the snapshot that new borrowers are served by."""
        return self._settings()

    def stats(self) -> dict[str, Any]:
        """Return numbers for metrics: `borrowed`, `engines` (open ones, draining too), `swaps`, and of the pools.

        `size`, `idle` and `waiting` are sums over the open engines; `max_size` is what the engine in force may open.
        """
        engines, tables = self._open_ones(), self._tables()
        pools = [engine.engine.stats() for engine in engines]
        serving = [engine.engine.stats() for table in tables if (engine := table.in_force) and engine in engines]
        counts = {name: sum(pool[name] for pool in pools) for name in ("size", "idle", "waiting")}
        return {
            "provider": self.provider,
            "engines": len(engines),
            "borrowed": sum(engine.borrowed for engine in engines),
            "swaps": sum(table.swaps for table in tables),
            "max_size": serving[-1]["max_size"] if serving else self._settings().pool_max_size,
            **counts,
        }

    def holders(self) -> list[Borrowed]:
        """Return who holds a connection now: the place that borrowed it, and since when."""
        return [checkout for engine in self._open_ones() for checkout in engine.checkouts]

    def opened(self) -> list[Step]:
        """Return number, name and closer of every engine that is open, for the container that closes them."""
        return [
            (engine.opened_at, f"{self._kind} ({engine.spec.provider})", partial(self._end, engine))
            for engine in self._open_ones()
        ]

    def shut(self) -> None:
        """Refuse further borrowers; `reopen` takes it back."""
        self._closed = True
        for table in self._tables():
            table.shut()
            for engine in table.unopened:
                self._retire(engine)  # whoever waited for it may have gone

    def reopen(self) -> None:
        """Serve borrowers (again)."""
        self._closed = False
        for table in self._tables():
            table.reopen()

    def cut_off(self) -> None:
        """End the connections of those who still borrow although the handle was closed; the log names each."""
        for engine in self._open_ones():
            engine.cut()

    def forget_parent(self) -> None:
        """In a forked child: leave the parent's engines alone, referenced so that nothing finalizes them."""
        for table in self._tables():
            self._inherited.append(table)
            for engine in table.open_ones:
                engine.inherited = True
        self._forget()

    def __repr__(self) -> str:
        return f"<{type(self).__name__} {'closed' if self._closed else self.provider}>"

    _kind: str
    """The name of the handle where its engines are closed."""

    def _tables(self) -> tuple[EngineTable[Any], ...]:
        raise NotImplementedError

    def _forget(self) -> None:
        """Begin with no engine."""
        raise NotImplementedError

    def _retire(self, engine: Any, raising: bool = False) -> None:
        engine.retire(raising)

    def _verify(self, snapshot: P8FSConfig) -> None:
        """Open the engine of settings that are to come, if one is in use. What can't be opened is not put in force."""
        raise NotImplementedError

    def _follow(self) -> None:
        look_again()
        for table in self._tables():
            table.changed()

    def _open_ones(self) -> list[Any]:
        return [engine for table in self._tables() for engine in table.open_ones]

    def _end(self, engine: Any) -> None:
        self.shut()
        self._retire(engine, raising=True)


_handles: weakref.WeakSet[Handle] = weakref.WeakSet()


def specs_in_use() -> set[EngineSpec]:
    """Return the specs of all engines that are open in this process."""
    return {engine.spec for handle in tuple(_handles) for engine in handle._open_ones()}


def _after_fork() -> None:
    for handle in tuple(_handles):
        handle.forget_parent()


after_fork(Stage.STORAGE, _after_fork)
