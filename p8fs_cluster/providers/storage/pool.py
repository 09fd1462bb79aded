"""A pool of connections, first come, first served: its decisions do no I/O, and threads and event loops share them.

Nothing is counted up and down. What there is, is known by weak references that go with their objects, so an exception
of a signal handler, wherever it strikes, can't lose a place: Celery's soft time limit is one, gunicorn's abort another.
"""

from __future__ import annotations

import asyncio
import logging
import random
import threading
import time
import weakref
from collections import deque
from collections.abc import Awaitable, Callable, Generator
from dataclasses import dataclass
from typing import Any, Generic, Protocol, TypeVar

from p8fs_cluster.exceptions import StorageTimeout
from p8fs_cluster.providers.storage.circuit_breaker import CircuitBreaker

__all__ = ["AsyncPool", "CircuitOpen", "Exhausted", "Pool", "Pooled", "ThreadPool"]

log = logging.getLogger("p8fs_cluster.storage")

_GIVEN_BACK = 0.02
"""Seconds between two looks whether somebody has given back a connection, when the server takes no more."""

_LOOK = 0.1
"""Seconds between two looks of a waiting borrower whether a place was dropped rather than given back."""

_MAX_IDLE = 600.0
"""Seconds that a connection may be idle while others are used, before it is closed."""

_JITTER = 0.1
"""The part of a lifetime by which lifetimes differ, so that connections made together don't end together."""


class Pooled(Protocol):
    """The parts of a connection that the pool uses."""

    born: float
    expires: float
    """The times at which it is too old to be lent and at which it came back last: by the monotonic clock."""
    idle_since: float
    deadline: float | None
    outdated: bool
    """True if it showed that it, and any connection from before, is of no use."""
    holder: weakref.ref[Any] | None
    """The borrower, where known."""

    @property
    def closed(self) -> bool: ...
    @property
    def is_lost(self) -> bool:
        """Return whether it ended otherwise than by its borrower's closing it, which is a rollback."""

    @property
    def unfinished(self) -> bool:
        """Return whether there is something to commit."""

    def fileno(self) -> int: ...
    def lend(self, deadline: float | None) -> None:
        """Note until when its borrower may wait."""

    def is_fit(self) -> bool:
        """Return whether an idle one can be lent, told without a round trip."""

    def works(self) -> bool:
        """Return whether the server has not ended it, be it lent or idle."""

    def end(self) -> None:
        """Close it at once, whatever it is doing."""


C = TypeVar("C", bound=Pooled)


class Exhausted(Exception):
    """Every connection was borrowed all the time."""


class CircuitOpen(Exception):
    """Somebody else's try to connect has failed, and this one was not made. `failure`: the error of that try."""

    def __init__(self, failure: BaseException) -> None:
        super().__init__(failure)
        self.failure = failure


class _Place:
    """Held while a connection is made: it counts as one."""

    __slots__ = ("__weakref__",)


class _Turn:
    """A borrower's place in the queue, as long as somebody holds it."""

    __slots__ = ("__weakref__", "over", "waiter")

    def __init__(self, waiter: Any) -> None:
        self.waiter = waiter
        self.over = False


@dataclass(frozen=True, slots=True)
class _Connect:
    """Return a new connection within so many seconds; TimeoutError if there is none by then."""

    seconds: float


@dataclass(frozen=True, slots=True)
class _Pause:
    seconds: float


@dataclass(frozen=True, slots=True)
class _Await:
    """Wait until the waiter is woken, at most for so many seconds; return whether it was."""

    waiter: Any
    seconds: float


_Steps = Generator[_Connect | _Pause | _Await, Any, C]


class Pool(Generic[C]):
    """Decides what is lent to whom. `lend` yields what is to be waited for; a shell does it, and sends the outcome.

    The borrower connects itself; in an outage one of those that wait tries for all. `faults`: what connecting raises,
    rather than a signal handler meanwhile.
    """

    def __init__(
        self,
        circuit: CircuitBreaker,
        size: int,
        lifetime: float,
        faults: tuple[type[Exception], ...],
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._circuit = circuit
        self._faults = faults
        self._refusals: tuple[type[Exception], ...] = (*faults, CircuitOpen)
        self._clock = clock
        self._limit = size
        self._lifetime = lifetime
        self._lock = threading.Lock()
        self._all: set[weakref.ref[C]] = set()
        self._places: set[weakref.ref[_Place]] = set()
        self._idle: list[C] = []
        self._queue: deque[weakref.ref[_Turn]] = deque()
        self._stale_before = 0.0
        """Connections from before this moment are not lent any more."""
        self._closed = False

    @property
    def size(self) -> int:
        """Return how many connections there are."""
        return len(self._all)

    @property
    def idle(self) -> int:
        """Return how many of them nobody has borrowed."""
        return len(self._idle)

    @property
    def waiting(self) -> int:
        """Return how many wait for one now."""
        return sum(turn is not None and not turn.over for turn in (reference() for reference in tuple(self._queue)))

    def at_once(self) -> C | None:
        """Return an idle connection; None: there is none, or others were first, so `lend` is to be asked."""
        return None if self._queue else self._fit()

    def lend(self, until: float) -> _Steps[C]:
        """Return a connection; `until`: when to give up, by the monotonic clock.

        :raises Exhausted: none was given back by then.
        :raises CircuitOpen: another's try to connect has failed meanwhile.
        """
        arrived = self._clock()
        taken = self._taken() if self._first() is None else None
        if taken is None:
            taken = yield from self._queued(until)
        if not isinstance(taken, _Place):
            return taken
        try:
            return (yield from self._connected(arrived, until))
        finally:
            del taken
            self._wake()

    def give_back(self, connection: C, sound: bool) -> None:
        """Take a connection back, to be lent again if it is sound and not too old."""
        connection.holder = None
        now = self._clock()
        if connection.outdated:
            sound, self._stale_before = False, now
        if sound and now < connection.expires:
            connection.idle_since = now
            self._idle.append(connection)
            if self._closed:
                self.close()
            elif now - self._idle[0].idle_since > _MAX_IDLE:
                self._end(self._idle.pop(0))
        else:
            self._end(connection)
        if self._queue:
            self._wake()

    def close(self) -> None:
        """End every idle connection; one that is given back later is ended then."""
        self._closed = True
        while (connection := self._popped()) is not None:
            self._end(connection)

    def end_all(self) -> None:
        """End every connection, borrowed ones too."""
        self.close()
        for connection in self._connections():
            self._end(connection)

    def _popped(self) -> C | None:
        try:
            return self._idle.pop()
        except IndexError:
            return None

    def _fit(self) -> C | None:
        while (connection := self._popped()) is not None:
            current = connection.born >= self._stale_before and self._clock() < connection.expires
            if current and connection.is_fit():
                return connection
            self._end(connection)
        return None

    def _taken(self) -> C | _Place | None:
        """Return an idle connection, or the place of one to be made."""
        if (connection := self._fit()) is not None:
            return connection
        with self._lock:
            if len(self._all) + len(self._places) >= self._limit:
                return None
            place = _Place()
            self._places.add(weakref.ref(place, self._places.discard))
            return place

    def _queued(self, until: float) -> Generator[_Await, Any, C | _Place]:
        turn = _Turn(self._new_waiter())
        self._queue.append(weakref.ref(turn))
        try:
            while self._first() is not turn or (taken := self._taken()) is None:
                left = until - self._clock()
                if left <= 0:
                    if self._circuit.failure is not None:
                        raise CircuitOpen(self._circuit.failure)
                    raise Exhausted
                woken = yield _Await(turn.waiter, min(left, _LOOK))
                if not woken:
                    self._end_abandoned()
            return taken
        finally:
            turn.over = True
            self._wake()

    def _first(self) -> _Turn | None:
        """Return the turn of who has waited longest; those that are over or were dropped leave the queue."""
        while self._queue:
            with self._lock:
                turn = self._queue[0]() if self._queue else None
                if turn is not None and not turn.over:
                    return turn
                if self._queue:
                    self._queue.popleft()
        return None

    def _wake(self) -> None:
        turn = self._first()
        if turn is not None:
            self._waken(turn.waiter)

    def _connected(self, arrived: float, until: float) -> _Steps[C]:
        """Connect. If the server takes no more connections, but others work, wait for one of these."""
        while True:
            try:
                return (yield from self._tried(arrived, until))
            except self._refusals as exc:
                fault = exc.failure if isinstance(exc, CircuitOpen) else exc
                hangs = isinstance(fault, TimeoutError | StorageTimeout) or self._clock() >= until
                if hangs or not any(connection.works() for connection in self._connections()):
                    raise
            yield _Pause(_GIVEN_BACK)
            if (connection := self._fit()) is not None:
                return connection

    def _tried(self, arrived: float, until: float) -> _Steps[C]:
        while pause := self._circuit.wait(arrived):
            yield _Pause(min(pause, max(until - self._clock(), 0)))
        if pause is None and self._circuit.failure is not None:
            raise CircuitOpen(self._circuit.failure)
        started = self._clock()
        try:
            connection: C = yield _Connect(max(until - started, 0.001))
        except self._faults as exc:
            self._circuit.fail(exc, started)
            raise
        self._circuit.succeed()
        connection.holder = None
        connection.expires = connection.born + self._lifetime * (1 - random.uniform(0, _JITTER))  # noqa: S311
        self._all.add(weakref.ref(connection, self._all.discard))
        return connection

    def _connections(self) -> list[C]:
        return [connection for reference in tuple(self._all) if (connection := reference()) is not None]

    def _end_abandoned(self) -> None:
        """End the connections whose blocks have ended without giving them back."""
        for connection in self._connections():
            if _is_abandoned(connection):
                log.warning("a connection is ended whose borrower was interrupted before it could give it back")
                self._end(connection)

    def _end(self, connection: C) -> None:
        self._all.discard(weakref.ref(connection))
        connection.end()

    def _new_waiter(self) -> Any:
        raise NotImplementedError

    def _waken(self, waiter: Any) -> None:
        raise NotImplementedError


def _is_abandoned(connection: Pooled) -> bool:
    return connection.holder is not None and connection.holder() is None


class ThreadPool(Pool[C]):
    """A pool for any number of threads; `connect` makes a connection within so many seconds."""

    def __init__(self, connect: Callable[[float], C], *arguments: Any) -> None:
        super().__init__(*arguments)
        self._connect = connect

    def acquire(self, until: float) -> C:
        """Lend a connection, where `at_once` had none."""
        steps = self.lend(until)
        try:
            step = next(steps)
            while True:
                try:
                    outcome = self._done(step)
                except BaseException as exc:
                    step = steps.throw(exc)
                else:
                    step = steps.send(outcome)
        except StopIteration as done:
            lent: C = done.value
            return lent

    def _done(self, step: _Connect | _Pause | _Await) -> Any:
        if isinstance(step, _Connect):
            return self._connect(step.seconds)
        if isinstance(step, _Await):
            return step.waiter.acquire(timeout=step.seconds)
        return time.sleep(step.seconds)

    def _new_waiter(self) -> threading.Semaphore:
        return threading.Semaphore(0)

    def _waken(self, waiter: threading.Semaphore) -> None:
        waiter.release()


class AsyncPool(Pool[C]):
    """A pool for the tasks of one event loop; `connect` makes a connection within so many seconds."""

    def __init__(self, connect: Callable[[float], Awaitable[C]], *arguments: Any) -> None:
        super().__init__(*arguments)
        self._connect = connect

    async def acquire(self, until: float) -> C:
        """Lend a connection, where `at_once` had none."""
        steps = self.lend(until)
        try:
            step = next(steps)
            while True:
                try:
                    outcome = await self._done(step)
                except BaseException as exc:
                    step = steps.throw(exc)
                else:
                    step = steps.send(outcome)
        except StopIteration as done:
            lent: C = done.value
            return lent

    async def _done(self, step: _Connect | _Pause | _Await) -> Any:
        if isinstance(step, _Connect):
            async with asyncio.timeout(step.seconds):
                return await self._connect(step.seconds)
        if isinstance(step, _Pause):
            return await asyncio.sleep(step.seconds)
        try:
            async with asyncio.timeout(step.seconds):
                await step.waiter.acquire()
        except TimeoutError:
            return False
        return True

    def _new_waiter(self) -> asyncio.Semaphore:
        return asyncio.Semaphore(0)

    def _waken(self, waiter: asyncio.Semaphore) -> None:
        waiter.release()
