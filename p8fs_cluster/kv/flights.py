"""The calls of cached functions that run in this process, and how many wait for each. Nothing here does I/O."""

from __future__ import annotations

import threading
import weakref
from collections.abc import Callable
from concurrent.futures import Future
from typing import NamedTuple

from p8fs_cluster.forking import Stage, after_fork

__all__ = ["Flight", "Flights", "Outcome"]


class Outcome(NamedTuple):
    """The end of a call: an encoded result, an error, or neither, after which everyone looks at the store again."""

    payload: bytes | None = None
    fault: Exception | None = None

    def get(self) -> bytes | None:
        """Return the encoded result, or raise the error."""
        if self.fault is not None:
            raise self.fault
        return self.payload


class Flight:
    """A call that one caller has begun, and others have joined, of whatever thread or event loop."""

    def __init__(self) -> None:
        self.outcome: Future[Outcome] = Future()
        self.outcome.set_running_or_notify_cancel()  # so that a caller's end can't cancel it
        self.callers = 1
        self.cancel: Callable[[], object] | None = None
        """Ends the call, where it can be ended."""


class Flights:
    """The calls of one function: by the version of the claim that they have made, or that they wait for; and by the
    key, while a claim is being made.

    >>> flights = Flights()
    >>> flight, _ = flights.join(7)
    >>> flights.join(7) == (flight, False)
    True
    >>> flights.end(7, flight, Outcome(b"1"))
    >>> flight.outcome.result().get()
    b'1'
    """

    def __init__(self) -> None:
        self.begin_anew()
        _all.add(self)

    def begin_anew(self) -> None:
        """Forget the calls of the process that this one was forked from."""
        self._lock = threading.Lock()
        self._running: dict[int | bytes, Flight] = {}

    def join(self, key: int | bytes) -> tuple[Flight, bool]:
        """Return the call that runs, or a new one, which the caller is to run, and whether it is new."""
        with self._lock:
            flight = self._running.get(key)
            if flight is not None:
                flight.callers += 1
                return flight, False
            flight = self._running[key] = Flight()
            return flight, True

    def end(self, key: int | bytes, flight: Flight, outcome: Outcome) -> None:
        """Tell those who wait, unless it was ended before."""
        with self._lock:
            if self._running.get(key) is flight:
                del self._running[key]
            if not flight.outcome.done():
                flight.outcome.set_result(outcome)

    def leave(self, flight: Flight) -> bool:
        """Note that a caller does not wait any more, and return whether it was the last one."""
        with self._lock:
            flight.callers -= 1
            return flight.callers == 0


_all: weakref.WeakSet[Flights] = weakref.WeakSet()


def _after_fork() -> None:
    for flights in tuple(_all):
        flights.begin_anew()


after_fork(Stage.LOCKS, _after_fork)
