"""An engine in use: opened once, lent to many, closed when it is not wanted and nobody has borrowed from it.

What is decided here does no I/O but the closing, which takes no time. The two shells open the engine, each in its way.
"""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import logging
import math
import threading
import time
from collections.abc import AsyncIterator, Callable
from typing import Any, Generic, Protocol, TypeVar
from weakref import ref

from p8fs_cluster.di.teardown import OPENED
from p8fs_cluster.exceptions import StorageUnavailable
from p8fs_cluster.providers.storage.engines import AsyncEngine, Engine, EngineSpec
from p8fs_cluster.providers.storage.outcome import Outcome

__all__ = ["AsyncEngineLifecycle", "Counted", "EngineLifecycle", "ThreadEngineLifecycle"]

log = logging.getLogger("p8fs_cluster.storage")

_SHOWN = 5
"""The number of borrowers that a message lists."""

E = TypeVar("E", bound=Engine | AsyncEngine)


class Counted(Protocol):
    """The parts of a checkout that the engine's lifecycle uses."""

    connection: Any
    since: float
    reference: ref[Any]


class Timer(Protocol):
    """A call that is to come."""

    def cancel(self) -> object: ...


class EngineLifecycle(Generic[E]):
    """An engine and its checkouts. Retired, it closes when the last one ends, unless it is revived before."""

    def __init__(self, engine: E, spec: EngineSpec, drain_timeout: float) -> None:
        self.engine = engine
        self.spec = spec
        self.opened_at = 0
        self.inherited = False
        """True if it belongs to the process that this one was forked from."""
        self.gone = threading.Event()
        """Set when the engine is closed."""
        self._drain_timeout = drain_timeout
        self._checkouts: set[ref[Counted]] = set()
        """References, so that a checkout that an interruption dropped does not count."""
        self._lock = threading.Lock()
        self._patience: Timer | None = None
        self._retired = False
        self._closing = False

    @property
    def checkouts(self) -> tuple[Any, ...]:
        """The checkouts that hold a connection, the longest first."""
        holding = [checkout for checkout in self._known() if checkout.connection is not None]
        return tuple(sorted(holding, key=lambda checkout: checkout.since))

    @property
    def borrowed(self) -> int:
        """Return how many checkouts there are, those included that wait for a connection."""
        return len(self._known())

    @property
    def is_open(self) -> bool:
        """Return whether the engine was opened and not closed."""
        return bool(self.opened_at) and not self.gone.is_set()

    @property
    def is_being_opened(self) -> bool:
        """Return whether an attempt to open the engine goes on, which nobody may wait for any more."""
        return False

    def described_checkouts(self) -> str:
        """Return who holds connections, those first who have them longest."""
        checkouts = self.checkouts
        more = f", and {len(checkouts) - _SHOWN} more" if len(checkouts) > _SHOWN else ""
        return "; ".join(map(str, checkouts[:_SHOWN])) + more

    def enter(self, checkout: Counted) -> bool:
        """Count a checkout, unless the engine is retired. No lock: `retire` counts after it has set its flag."""
        checkout.reference = reference = ref(checkout)
        self._checkouts.add(reference)
        if self._retired:
            self.leave(checkout)
            return False
        return True

    def leave(self, checkout: Counted) -> None:
        """End a checkout; the last one of a retired engine closes it."""
        self._checkouts.discard(checkout.reference)
        if self._retired:
            self._close_if_unused()

    def retire(self, raising: bool = False) -> None:
        """Refuse new checkouts, and close the engine now or when the last one ends; late ones are cut off."""
        with self._lock:
            first, self._retired = not self._retired, True
        self._close_if_unused(raising)
        if first and self.is_open:
            self._patience = self._call_later(self._drain_timeout, self.cut)

    def revive(self) -> bool:
        """Serve again. Return False when it is too late: the engine is being closed, and `gone` tells when it is."""
        with self._lock:
            if not self._closing:
                self._retired = False
                self._be_patient()
            return not self._closing

    def _call_later(self, seconds: float, function: Callable[[], None]) -> Timer | None:
        raise NotImplementedError

    def _opened(self) -> None:
        self.opened_at = next(OPENED)
        if self._retired:
            self._close_if_unused()

    def cut(self) -> None:
        """End the connections of those who borrowed before it was retired: nobody else comes meanwhile."""
        for checkout in self.checkouts if self._retired else ():
            log.warning("%r is not in force any more, and its borrower is cut off: %s", self.engine, checkout)
            with contextlib.suppress(Exception):
                self.engine.cut(checkout.connection)
        self._close_if_unused()  # those who were interrupted before they could leave have not asked for it

    def _known(self) -> list[Counted]:
        found = (reference() for reference in tuple(self._checkouts))
        known = [checkout for checkout in found if checkout is not None]
        if len(known) < len(self._checkouts):
            self._checkouts -= {reference for reference in tuple(self._checkouts) if reference() is None}
        return known

    def _be_patient(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _close_if_unused(self, raising: bool = False) -> None:
        if not self._retired:
            return
        self._known()
        with self._lock:
            if self._closing or not self._retired or self._checkouts or self.is_being_opened:
                return
            self._closing = True
            self._be_patient()
        try:
            if self.opened_at:
                self.engine.close()
        except Exception:
            if raising:
                raise
            log.exception("closing a drained %s engine failed", self.spec.provider)
        finally:
            self.gone.set()


class ThreadEngineLifecycle(EngineLifecycle[Engine]):
    """The engine of a process, opened by the thread that needs it first."""

    _opening: Outcome[None] | None = None

    @property
    def is_being_opened(self) -> bool:
        return self._opening is not None and not self.opened_at

    def open(self, deadline: float | None = None) -> None:
        """Open the engine once. Whoever comes while it is being opened waits for that attempt and shares its error.

        :raises StorageUnavailable: it can't be opened, or is not by `deadline`, of the monotonic clock.
        """
        if self.opened_at:
            return
        ours: Outcome[None] = Outcome()
        try:
            with self._lock:
                if self._closing:
                    return  # retired before it was opened; `enter` says so
                attempt = self._opening = self._opening or ours
            if attempt is ours and deadline is None:
                self._attempt(ours)
            elif attempt is ours:  # it may last longer than we do
                context = contextvars.copy_context()
                ours.begin(context.run, self._attempt, ours)
        except BaseException as exc:
            if self._opening is ours and ours.claim():  # interrupted before it was begun: nobody may wait for it
                self._opening = None
                ours.raised(exc)
            raise
        try:
            attempt.result(None if deadline in (None, math.inf) else max(deadline - time.monotonic(), 0))
        except TimeoutError:
            if attempt.told:
                raise
            raise StorageUnavailable(
                f"{self.engine!r}: it could not be opened by the deadline that timeout= gave"
            ) from None

    def _attempt(self, attempt: Outcome[None]) -> None:
        if not attempt.claim():
            return
        try:
            self.engine.open()
        except BaseException as exc:
            self._opening = None
            attempt.raised(exc)
            self._close_if_unused()
            return
        self._opened()
        attempt.returned(None)

    def _call_later(self, seconds: float, function: Callable[[], None]) -> Timer:
        timer = threading.Timer(seconds, function)
        timer.daemon = True
        timer.start()
        return timer


class AsyncEngineLifecycle(EngineLifecycle[AsyncEngine]):
    """The engine of one event loop, opened by the task that needs it first; all its calls come from that loop."""

    def __init__(
        self, engine: AsyncEngine, spec: EngineSpec, drain_timeout: float, loop: asyncio.AbstractEventLoop
    ) -> None:
        super().__init__(engine, spec, drain_timeout)
        self.loop = loop
        self._opening = asyncio.Lock()
        self._guard: AsyncIterator[None] | None = None

    @property
    def is_being_opened(self) -> bool:
        return self._opening.locked()

    async def open(self) -> None:
        """Open the engine once. Whoever comes while it is being opened waits, and tries again if that has failed.

        :raises StorageUnavailable: it can't be opened.
        """
        if self.opened_at:
            return
        try:
            async with self._opening:
                if not self.opened_at:
                    await self.engine.open()
                    self._guard = self._until_the_loop_ends()
                    await anext(self._guard)
                    self._opened()
        finally:
            self._close_if_unused()

    def end(self) -> None:
        """Close the engine at once, whoever has borrowed from it: its loop is over."""
        self._checkouts.clear()
        self.retire()

    async def _until_the_loop_ends(self) -> AsyncIterator[None]:
        """Close the engine when its loop shuts down its generators, as `asyncio.run` does at its end."""
        try:
            yield
        finally:
            self.end()

    def _call_later(self, seconds: float, function: Callable[[], None]) -> Timer | None:
        return None if self.loop.is_closed() else self.loop.call_later(seconds, function)
