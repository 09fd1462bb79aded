"""Stand-ins for threads: a worker's queue, and the place and the event of who waits for a lease."""

from __future__ import annotations

import heapq
import itertools
from collections.abc import Callable
from typing import Any, TypeVar

import greenlet

from p8fs_cluster.coordination.coordinator import Coordinator
from p8fs_cluster.coordination.worker import Due
from tests.simulation.events import Machine

__all__ = ["Event", "Interrupted", "Place", "Queue", "TaskPlace"]

T = TypeVar("T")


class Queue:
    """Does as `Worker` does, in a thread of the simulation: one action after the other, each an event of its own."""

    def __init__(self, machine: Machine) -> None:
        self._machine = machine
        self._due: list[tuple[float, int, Due]] = []
        self._numbers = itertools.count()
        self._closed = False
        self._busy = False
        self._thread: greenlet.greenlet | None = None

    def at(self, when: float, action: Callable[[], object], dropped: Callable[[], object] | None = None) -> Due:
        due = Due(action, dropped)
        if not self._closed:
            heapq.heappush(self._due, (when, next(self._numbers), due))
            self._machine.simulation.at(self._machine.true(when), self._wake, self._machine)
        return due

    def soon(self, action: Callable[[], object], dropped: Callable[[], object] | None = None) -> Due:
        return self.at(self._machine.now(), action, dropped)

    def close(self, seconds: float) -> None:
        self._closed = True
        self._due.clear()

    def _wake(self) -> None:
        if self._busy:
            return
        while self._due and self._due[0][2].is_cancelled:
            heapq.heappop(self._due)
        if self._due and self._due[0][0] <= self._machine.now():
            if self._thread is None:
                self._machine.simulation.start(self._run, self._machine)
                self._busy = True
            else:
                self._thread.switch()

    def _run(self) -> None:
        self._thread = greenlet.getcurrent()
        while True:
            self._busy = True
            while self._due and self._due[0][0] <= self._machine.now():
                heapq.heappop(self._due)[2].run()
                self._machine.simulation.sleep(0, self._machine)
            self._busy = False
            self._machine.simulation.park()


class Interrupted(BaseException):
    """The exception in a waiting thread that is interrupted, as a task that is cancelled."""


class Event:
    """An event that one thread of the simulation waits for."""

    def __init__(self, place: Place) -> None:
        self._place = place
        self._set = False
        self._waiting: greenlet.greenlet | None = None

    def set(self) -> None:
        self._set = True
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            machine = self._place.machine
            machine.simulation.at(machine.simulation.now, waiting.switch, machine)

    def clear(self) -> None:
        self._set = False

    def wait(self) -> None:
        if not self._set:
            self._place.awaited, self._waiting = self, greenlet.getcurrent()
            self._place.machine.simulation.park()

    def interrupt(self) -> None:
        """Let the wait end with an exception, if somebody waits."""
        waiting, self._waiting = self._waiting, None
        if waiting is not None:
            waiting.throw(Interrupted)


class Place:
    """Does as the `Place` of threads does: calls run where they are made."""

    def __init__(self, coordinator: Coordinator) -> None:
        self.machine: Machine = coordinator.clock
        self.awaited: Event | None = None
        self._coordinator = coordinator

    def run(self, call: Callable[[], T]) -> T:
        return call()

    def pause(self, seconds: float, event: Event) -> None:
        due = self._coordinator.deadlines.at(self.machine.now() + seconds, event.set)
        try:
            event.wait()
            event.clear()
        finally:
            due.cancel()

    def interrupt(self) -> None:
        """Interrupt who waits here."""
        if self.awaited is not None:
            self.awaited.interrupt()


class TaskPlace(Place):
    """Does as `AsyncPlace` does: calls run in the coordinator's worker, and go on if who waits is interrupted."""

    def run(self, call: Callable[[], T]) -> T:
        results: list[Callable[[], T]] = []
        done = Event(self)

        def run() -> None:
            try:
                result = call()
            except Exception as exc:
                results.append(lambda exc=exc: _raise(exc))
            else:
                results.append(lambda: result)
            done.set()

        self._coordinator.require_open()
        self._coordinator.calls.soon(run)
        done.wait()
        return results[0]()


def _raise(exc: Exception) -> Any:
    raise exc
