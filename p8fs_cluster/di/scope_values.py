"""The values of a provider in a scope: one that depends on no layers, which takes no lock, and those that do."""

from __future__ import annotations

import threading
from threading import get_ident
from typing import TYPE_CHECKING, Any

from p8fs_cluster.di.entering import end_by
from p8fs_cluster.di.footprints import forget
from p8fs_cluster.di.keeping import Cell
from p8fs_cluster.di.layers import Key
from p8fs_cluster.di.ownership import described
from p8fs_cluster.di.teardown import Step
from p8fs_cluster.forking import Stage, after_fork

if TYPE_CHECKING:
    from p8fs_cluster.di.overriding import Overridable
    from p8fs_cluster.di.scopes import Scope

__all__ = ["Values"]

_making = threading.Lock()
"""Held while something is made that few scopes have."""


class Values(Cell):
    """The values of one provider in one scope: itself the place of the one that depends on no layers.

    Whoever has put it into the scope builds that one without a lock; others wait for what `done` tells.
    """

    at_hand: tuple[object, Any] = (None, None)
    """An epoch, and the value that is in force as long as that is."""
    _cells: dict[Key, Cell] | None = None
    _lock: threading.RLock | None = None
    _is_done: threading.Event | None = None
    """The event that `done` sets, once somebody waits for who builds without a lock."""

    def __init__(self, scope: Scope, provider: Overridable[Any], builder: int = 0) -> None:
        self.scope = scope
        self.provider = provider
        self._builder = builder
        """The thread that builds it; 0 if none does without a lock."""

    @property
    def cells(self) -> dict[Key, Cell]:
        """The values, for each set of layers that they depend on."""
        found = self._cells
        if found is None:
            with _making:
                found = self._cells
                if found is None:
                    found = self._cells = {(): self}
                    self.scope.layered = (*self.scope.layered, self)
        return found

    @property
    def lock(self) -> threading.RLock:  # type: ignore[override]
        """The lock that is held while one is built; whoever gets it has waited for who builds without it."""
        with _making:
            if self._lock is None:
                self._lock = threading.RLock()
            if self._is_done is None and self._builder not in (0, get_ident()):
                self._is_done = threading.Event()
        if self._is_done is not None and self._builder not in (0, get_ident()):
            self._is_done.wait()
        return self._lock

    def done(self) -> None:
        """Tell that nobody builds without a lock any more."""
        self._builder = 0
        if self._is_done is not None:
            self._is_done.set()

    def cell(self, key: Key) -> Cell | None:
        """Return the place of the value for these layers, if there is one."""
        return self.cells.get(key) if key or self._cells is not None else self

    def take(self, key: Key | None = None, exc: BaseException | None = None) -> list[Step]:
        """Forget the value of an override that ends, and return what closes it, told of the override's exception."""
        cell = self.cells.pop(key or (), None)
        if cell is None or self.scope.closing.pop(cell, self) is self:
            return []
        return [(cell.opened_at, described(self.provider), lambda: end_by(cell.exit, exc))]

    def forget_layers(self) -> None:
        """Be taken out of the layers when the scope has ended."""
        cells, self._cells = self._cells, None
        for key in tuple(cells or ()):
            if key:
                forget(self, key)


def _after_fork() -> None:
    global _making  # noqa: PLW0603
    _making = threading.Lock()


after_fork(Stage.LOCKS, _after_fork)
