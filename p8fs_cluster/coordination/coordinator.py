"""The threads and connections that all leases of a cluster handle share."""

from __future__ import annotations

import contextlib
import logging
import os
import platform
import threading
import time
import weakref
from collections.abc import Callable
from contextvars import Context
from typing import TYPE_CHECKING, Any, TypeVar

from p8fs_cluster.config.problems import variable_of
from p8fs_cluster.config.settings import P8FSConfig
from p8fs_cluster.coordination import tables
from p8fs_cluster.coordination.clock import Clock
from p8fs_cluster.coordination.functions import name_of
from p8fs_cluster.coordination.lease_rows import NODE, LeaseRows, patiently
from p8fs_cluster.coordination.tally import Tally
from p8fs_cluster.coordination.terms import Timing
from p8fs_cluster.coordination.wakeups import Wakeups
from p8fs_cluster.coordination.work import Ending, Work, stopped
from p8fs_cluster.coordination.worker import Worker
from p8fs_cluster.di.settings import SettingsSource
from p8fs_cluster.exceptions import CoordinationError
from p8fs_cluster.providers.storage.engines import EngineSpec, built_in
from p8fs_cluster.providers.storage.leases import Leases, LeaseStore, Limits, NoTable

if TYPE_CHECKING:
    from p8fs_cluster.coordination.roster import Roster

__all__ = ["CLOSED", "Connected", "Coordinator"]

log = logging.getLogger("p8fs_cluster.coordination")

_PATIENCE = 5.0
"""Seconds for a statement that no lease hangs on, and for the end of all that is held together."""
_LEAST = 0.1
"""Seconds that each lease has at least for its release."""

CLOSED = "the container of this cluster was closed: use it inside `with container:`"

T = TypeVar("T")


class Connected:
    """A store, and the statements on it."""

    def __init__(self, store: LeaseStore) -> None:
        self.store = store
        self.leases = LeaseRows(store)


class Coordinator:
    """The threads and connections of one handle on one kind of engine; each begins when it is first used.

    Renewals have a thread and a connection that nothing else waits for. What ends a belief waits for no store at all,
    and callbacks wait for neither.
    """

    def __init__(
        self,
        settings: SettingsSource,
        spec: EngineSpec,
        clock: Clock,
        worker: Callable[[str, Clock], Worker] = Worker,
    ) -> None:
        cls = spec.leases_class()
        if cls is None:
            raise CoordinationError(f"{spec.provider} has no leases: {_way_out()}")
        self.settings = settings.everywhere
        self.spec = spec
        self.clock = clock
        self.engine: Leases = cls(settings)
        self._stores: dict[str, Connected] = {}
        self._opening = threading.Lock()
        self._owner: str | None = None
        self._ready = False
        self.closing = False
        """True from when nothing new may begin. Running work may still end its leases."""
        self.closed = False
        self._limits: Limits | None = None
        self.renewals = worker("renewals", clock)
        self.calls = worker("calls", clock)
        self.deadlines = worker("deadlines", clock)
        self.callbacks = worker("callbacks", clock)
        self.wakeups = Wakeups(self.engine.announces, lambda: self.connected("announcements").store)
        self.work: set[Work] = set()
        """The work that runs under leases, and ends before they are given up."""
        self.ending: weakref.WeakSet[Any] = weakref.WeakSet()
        """The parts that end with the container: each has a `key`, `close(seconds)` and `forget_parent()`."""
        self.tally = Tally()
        """Counts of lost leases and missed renewals."""
        self.roster: Roster
        """The nodes as this process knows them."""
        self.candidacies: dict[str, Any] = {}
        """Key → the candidacy of this process."""
        self.noted: dict[str, float] = {}
        """Name → the longest ttl that this process has noted."""

    def connected(self, name: str) -> Connected:
        """Return the store for one purpose, with a connection of its own.

        :raises CoordinationError: there can be none with these settings.
        """
        found = self._stores.get(name)
        if found is None:
            with self._opening:
                found = self._stores.get(name)
                if found is None:
                    if why := self.engine.refusal(self.settings()):
                        raise CoordinationError(why)
                    found = self._stores[name] = Connected(self.engine.store(self.clock.wall))
        return found

    def prepared(self, seconds: float) -> Connected:
        """Return the store for calls, with its tables there.

        :raises TablesMissing: they are not, and may not be made here.
        :raises StorageError: the store can't be reached.
        """
        connected = self.connected("calls")
        if not self._ready:
            self.prepare(connected, seconds)
            self._ready = True
        return connected

    def ask(self, call: Callable[[Connected], T], seconds: float = _PATIENCE) -> T:
        """Return what a call returns that waits for the store; again if a table has gone or a row was locked.

        :raises TablesMissing: the tables are not there, and may not be made here.
        :raises StorageError: the store can't be reached.
        """

        def asked() -> T:
            connected = self.prepared(seconds)
            try:
                return call(connected)
            except NoTable:
                self.table_is_gone()
                return call(self.prepared(seconds))

        return patiently(asked, seconds)

    def prepare(self, connected: Connected, seconds: float) -> None:
        """Make the tables, where that is allowed, or require them."""
        if may_create(self.settings()) or self.spec.embedded:
            tables.create(connected.store, max(seconds, _PATIENCE))
        else:
            tables.require(connected.store, seconds)
        self._limits = connected.store.limits(seconds)

    def check(self, timing: Timing) -> None:
        """Refuse a timing that the database's clock is too coarse for.

        :raises CoordinationError: it is.
        """
        limits = self._limits
        if limits and (timing.ttl < limits.ttl or timing.ttl - timing.deadline < limits.margin):
            least = f"ttl must be at least {limits.ttl:g} s, and the deadline {limits.margin:g} s less"
            raise CoordinationError(f"{least}, not ttl={timing.ttl:g} and deadline={timing.deadline:g}: {limits.why}")

    def table_is_gone(self) -> None:
        """Look for the tables, or make them, at the next call."""
        self._ready = False
        self.noted.clear()

    def tell(self, context: Context, callback: Callable[..., object], *args: object) -> None:
        """Call what a user gave, in a copy of a context, in a thread that nothing waits for."""

        def called() -> None:
            try:
                context.copy().run(callback, *args)
            except Exception:
                log.exception("a callback of coordination failed: %s", name_of(callback))

        self.callbacks.soon(called)

    def owner(self) -> str:
        """Return who this process is, for people."""
        if self._owner is None:
            settings = self.settings()
            place = settings.pod or settings.node_name or platform.node()
            self._owner = f"{settings.service_name}@{place}:{os.getpid()}"
        return self._owner

    def require_open(self) -> None:
        """Return if the container is open.

        :raises CoordinationError: it was closed, or is being closed.
        """
        if self.closing:
            raise CoordinationError(CLOSED)

    def close(self) -> Ending | None:
        """End what runs under leases, release what is held, and end the threads and connections.

        Return what is to be awaited, if some of it runs in this event loop.
        """
        self.closing = True
        self.wakeups.wake(None)
        return stopped(tuple(self.work), _PATIENCE, self._finish)

    def _finish(self) -> None:
        self.closed = True
        until = time.monotonic() + _PATIENCE
        with contextlib.ExitStack() as steps:  # run from the last to the first, whatever fails
            for connected in self._stores.values():
                steps.callback(connected.store.close)
            steps.callback(self.wakeups.close)
            for worker in (self.callbacks, self.deadlines, self.calls, self.renewals):
                steps.callback(worker.close, _PATIENCE)
            steps.callback(self.wakeups.wake, None)
            for each in sorted(self.ending, key=lambda each: each.key.startswith(NODE), reverse=True):
                steps.callback(_end, each, until)

    def forget_parent(self) -> None:
        """In a forked child: nothing is held here, and the threads are not here."""
        self.closing = self.closed = True
        for each in tuple(self.ending):
            each.forget_parent()


def _way_out() -> str:
    """Return which engines have leases, for a message."""
    able = [spec for spec in built_in() if spec.leases]
    shared = " or ".join(spec.provider for spec in able if not spec.embedded)
    alone = " or ".join(spec.provider for spec in able if spec.embedded)
    return f"coordination needs {variable_of('storage_provider')}={shared}, or {alone} for one process"


def _end(each: Any, until: float) -> None:
    each.close(max(until - time.monotonic(), _LEAST))


def may_create(settings: P8FSConfig) -> bool:
    """Return whether tables may be made at first use: as `cluster_create` says, else in development only."""
    return settings.is_development if settings.cluster_create is None else settings.cluster_create
