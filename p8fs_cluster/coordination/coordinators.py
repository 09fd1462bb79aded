"""The coordinators that both handles share: one for each engine in use, opened on demand, closed at the end."""

from __future__ import annotations

import sys
import threading
import weakref
from collections.abc import Callable, Hashable

from p8fs_cluster.coordination.candidacy import Candidacy
from p8fs_cluster.coordination.clock import BOOTTIME, Clock
from p8fs_cluster.coordination.coordinator import CLOSED, Coordinator
from p8fs_cluster.coordination.observability import measure
from p8fs_cluster.coordination.roster import Roster
from p8fs_cluster.coordination.terms import Timing
from p8fs_cluster.di import context
from p8fs_cluster.di.settings import SettingsSource
from p8fs_cluster.di.teardown import Closable, Step
from p8fs_cluster.exceptions import CoordinationError
from p8fs_cluster.forking import Stage, after_fork
from p8fs_cluster.providers.storage.engines import EngineSpec
from p8fs_cluster.providers.storage.handle import Storage

__all__ = ["Coordinators"]

_FIRST = sys.maxsize
"""Work under leases may use all that its container has opened, so it ends before that is closed."""


class Coordinators(Closable):
    """The coordinators of one container."""

    def __init__(self, settings: SettingsSource, storage: Callable[[], Storage], clock: Clock = BOOTTIME) -> None:
        self._settings = settings
        self._storage = storage
        self._clock = clock
        self._lock = threading.Lock()
        self._closed = False
        self._epoch: object = None
        self._current: Coordinator | None = None
        """The coordinator as long as nothing has changed anywhere."""
        self._opened: dict[Hashable, Coordinator] = {}
        self._inherited: list[Coordinator] = []
        _all.add(self)

    def coordinator(self) -> Coordinator:
        """Return the coordinator of the engine in force; it connects when it is first asked something.

        :raises CoordinationError: the engine has no leases, or the container was closed.
        """
        epoch, current = context.epoch, self._current
        if epoch is self._epoch and current is not None and not context.in_force.get().isolated:
            return current
        spec = self._storage().spec
        if context.in_force.get().isolated:
            self._require_shared(spec)
        key = spec.key(self._settings()) if spec.embedded else spec.provider
        with self._lock:
            if self._closed:
                raise CoordinationError(CLOSED)
            if key not in self._opened:
                coordinator = Coordinator(self._settings, spec, self._clock)
                coordinator.roster = Roster(coordinator)
                measure(coordinator)
                self._opened[key] = coordinator
            found = self._opened[key]
            self._current, self._epoch = found, epoch if self._settings.announced else None
            return found

    def _require_shared(self, spec: EngineSpec) -> None:
        here, everywhere = self._settings(), self._settings.everywhere()
        if (spec.key(here), here.cluster_create) != (spec.key(everywhere), everywhere.cluster_create):
            raise CoordinationError(
                "the settings of this store are overridden with isolated=True, which the threads of coordination don't "
                "see: override them for the whole process"
            )

    def candidacy(self, key: str, timing: Timing, known: Candidacy | None = None) -> Candidacy:
        """Return this process's candidacy, which stands if it is new; the `known` one at the end of the container.

        :raises CoordinationError: it has another timing.
        """
        try:
            coordinator = self.coordinator()
        except CoordinationError:
            if self._closed and known is not None:
                return known
            raise
        with self._lock:
            found: Candidacy | None = coordinator.candidacies.get(key)
            made = found or Candidacy(coordinator, key, timing)
        if found is None:
            made.stand()
        elif found.holding.timing != timing:
            raise CoordinationError(f"{key} stands already with {found.holding.timing}, not {timing}")
        return made

    def opened(self) -> list[Step]:
        """Forget the coordinators that are open, refuse to open others, and return what closes them."""
        with self._lock:
            self._closed = True
            opened, self._opened, self._current = self._opened, {}, None
        return [(_FIRST, "cluster", coordinator.close) for coordinator in opened.values()]

    def shut(self) -> None:
        """Refuse from now on; `reopen` takes it back."""
        self._closed, self._current = True, None

    def reopen(self) -> None:
        """Serve (again)."""
        self._closed = False

    def forget_parent(self) -> None:
        """In a forked child: what is held belongs to the parent, and so do the connections."""
        self._lock = threading.Lock()
        for coordinator in self._opened.values():
            coordinator.forget_parent()
            self._inherited.append(coordinator)
        self._opened, self._current = {}, None


_all: weakref.WeakSet[Coordinators] = weakref.WeakSet()


def _after_fork() -> None:
    for coordinators in tuple(_all):
        coordinators.forget_parent()


after_fork(Stage.STORAGE, _after_fork)
