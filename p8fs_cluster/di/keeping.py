"""The provider that keeps what it builds: one value for each set of overrides that it depends on, built once."""

from __future__ import annotations

import asyncio
import functools
import threading
from collections.abc import Generator
from contextvars import ContextVar
from typing import Any, TypeVar

from p8fs_cluster.di import context
from p8fs_cluster.di.depth import LEVELS, build_deep
from p8fs_cluster.di.entering import Exit, Opened, end_by, is_awaited
from p8fs_cluster.di.footprints import Footprint, commit, footprint, path_to
from p8fs_cluster.di.layers import Kept, Key
from p8fs_cluster.di.overriding import Overridable
from p8fs_cluster.di.ownership import named
from p8fs_cluster.di.teardown import OPENED, Step
from p8fs_cluster.exceptions import InjectionError

__all__ = ["Building", "Cell", "Keeping", "building", "discard", "watch"]

T = TypeVar("T")


class Cell:
    """The place of one value, with a lock of its own, so that an unrelated build never waits for it."""

    ready = False
    value: Any = None
    exit: Exit | Generator[Any, Any, Any] | None = None
    opened_at = 0

    def __init__(self) -> None:
        self.lock = threading.RLock()

    def fill(self, opened: Opened) -> bool:
        self.value, self.exit = opened
        self.opened_at = next(OPENED)
        self.ready = True
        return True


Building = tuple[Any, frozenset[str], int, int]
"""The provider that is being built here, the scopes whose values it may take, the number of the build, and how many
others are being built here, because each asked for the next."""

building: ContextVar[Building | None] = ContextVar("p8fs_cluster_building", default=None)


class Keeping(Overridable[T]):
    """Keeps one value for each set of layers that it depends on."""

    keeps = True

    def __init__(self, provides: Any = None, *args: Any, **kwargs: Any) -> None:
        self.cells: dict[Key, Cell] = {}
        self._inherited: list[dict[Key, Cell]] = []
        super().__init__(provides, *args, **kwargs)  # type: ignore[call-arg]

    @property
    def built(self) -> bool:
        """Return whether there is a value here and now."""
        cell = self.cells.get(footprint(self).key)
        return cell is not None and cell.ready

    @property
    def values(self) -> list[Any]:
        """All that is kept: without overrides, and in each that it depends on."""
        return [cell.value for cell in tuple(self.cells.values()) if cell.ready]

    def take(self, key: Key | None = None, exc: BaseException | None = None) -> list[Step]:
        """Forget what is kept for `key`, by default all of it, and return what closes it."""
        keys = tuple(self.cells) if key is None else (key,)
        cells = [cell for each in keys if (cell := self.cells.pop(each, None)) and cell.ready]
        context.changed()
        return [step for cell in cells for step in self._ending(cell, exc)]

    def give_up(self) -> list[Step]:
        return self.take()

    def forget_unfinished(self) -> None:
        """In a forked child: forget what a thread that is not here was building, with the lock that it holds."""
        self.cells = {key: cell for key, cell in self.cells.items() if cell.ready}

    def forget_parent(self) -> None:
        """In a forked child: build anew, and keep what is the parent's referenced, so that nothing finalizes it."""
        self._inherited.append(self.cells)
        self.cells = {}

    def _kept_value(self, kept: Kept, args: tuple[Any, ...], kwargs: dict[str, Any]) -> tuple[object, Any]:
        """Return what `kept` has, built if need be, and the epoch it was found for."""
        while True:
            epoch, found = context.epoch, footprint(self)
            cell = kept.cells.get(found.key) or kept.cells.setdefault(found.key, Cell())
            if cell.ready or self._filled(kept, found, args, kwargs):
                value = cell.value
                if asyncio.isfuture(value) and not value.done():
                    value = asyncio.shield(value)  # whoever gives up waiting does so alone
                return epoch, value

    def _filled(self, kept: Kept, found: Footprint, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
        """Build the value, once. Return False when what it depends on was overridden meanwhile."""
        self._require_lifetimes(found)
        outer = building.get()
        level = 0 if outer is None else outer[3] + 1
        if not args and not kwargs and level % LEVELS == 0:
            build_deep(self)
        key, cells = found.key, kept.cells
        cell: Cell | None = cells.get(key)
        if cell is None:  # forgotten meanwhile
            return False
        with cell.lock:
            if cell.ready:
                return True
            token = building.set((self, self._may_need(), next(OPENED), level))
            try:
                opened = self._open(args, kwargs)
            finally:
                building.reset(token)
            if commit(kept, self, found, functools.partial(self._fill, kept, key, cell, opened)):
                watch(cells, cell, key)
                return True
            self.footprints = (None, {})
        discard(opened.exit)
        return False

    def _fill(self, kept: Kept, key: Key, cell: Cell, opened: Opened) -> bool:
        """Keep what was opened in its place, unless that was given up meanwhile."""
        return kept.cells.get(key) is cell and cell.fill(opened)

    def _may_need(self) -> frozenset[str]:
        """Return the scopes that last as long as what this keeps."""
        return frozenset()

    def _require_lifetimes(self, found: Footprint) -> None:
        """Refuse to be made of what ends sooner.

        :raises InjectionError: something that it needs lives in a scope.
        """
        for needed in found.scoped:
            raise InjectionError(
                f"{named(self)} lives as long as its container, but {' → '.join(path_to(self, needed))} ends "
                f"with the scope {needed.scope!r}: make it Scoped as well, or a Factory"
            )

    def _open(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Opened:
        raise NotImplementedError

    def _ending(self, cell: Cell, exc: BaseException | None) -> list[Step]:
        raise NotImplementedError


def discard(exit: Exit | Generator[Any, Any, Any] | None) -> None:
    """Close a value that was opened for nothing, as what it depends on was overridden meanwhile."""
    left = end_by(exit, None)
    if is_awaited(left):
        asyncio.ensure_future(left)  # noqa: RUF006


def watch(cells: dict[Key, Cell], cell: Cell, key: Key) -> None:
    """Forget a promise that failed, so that the next call tries again."""

    def settled(promise: asyncio.Future[Any]) -> None:
        if (promise.cancelled() or promise.exception()) and cells.get(key) is cell:
            del cells[key]

    if asyncio.isfuture(cell.value):
        cell.value.add_done_callback(settled)
