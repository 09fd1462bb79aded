"""Discrete events in true time, and machines that are paused or die, whose clocks run at speeds of their own."""

from __future__ import annotations

import heapq
import itertools
import math
import random
import threading
import traceback
from collections.abc import Callable

import greenlet

__all__ = ["Machine", "Simulation"]

_WAKING = 0.05
"""Most seconds that a thread takes to go on after its machine was paused."""
_TICK = 1e-6
"""Seconds that an event comes later than its clock's time, so that rounding brings none too early."""


class Simulation:
    """Events, one after the other. What waits for one is a greenlet; `look` is called after each event of a machine."""

    def __init__(self, seed: int) -> None:
        self.random = random.Random(seed)
        self.now = 0.0
        self.count = 0
        self.look: Callable[[], object] = lambda: None
        self.faults: list[str] = []
        """The exceptions that nobody handled."""
        self._events: list[tuple[float, int, Machine | None, Callable[[], object]]] = []
        self._numbers = itertools.count()
        self._hub = greenlet.getcurrent()
        self._tasks: list[greenlet.greenlet] = []

    def at(self, when: float, action: Callable[[], object], machine: Machine | None = None) -> None:
        """Do something at a true time, or as soon after it as the machine runs."""
        heapq.heappush(self._events, (max(when, self.now), next(self._numbers), machine, action))

    def start(self, function: Callable[[], object], machine: Machine | None = None) -> None:
        """Begin a thread."""
        task = greenlet.greenlet(function, self._hub)
        self._tasks.append(task)
        self.at(self.now, task.switch, machine)

    def sleep(self, seconds: float, machine: Machine | None = None) -> None:
        """Let a thread wait so many seconds of true time."""
        self.at(self.now + seconds, greenlet.getcurrent().switch, machine)
        self.park()

    def park(self) -> None:
        """Let a thread wait until something switches to it."""
        self._hub.switch()

    def run(self, until: float) -> None:
        """Let everything happen up to a true time."""
        while self._events and self._events[0][0] <= until:
            when, _, machine, action = heapq.heappop(self._events)
            if machine is not None and machine.wakes_at > when:
                if not machine.is_dead:
                    self.at(machine.wakes_at + self.random.random() * _WAKING, action, machine)
                continue
            self.now = when
            self.count += 1
            try:
                action()
            except Exception:
                self.faults.append(traceback.format_exc())
            if machine is not None:  # what the others do begins no belief
                self.look()
        self.now = until

    def close(self) -> None:
        """End all threads."""
        for task in self._tasks:
            if not task.dead:
                task.throw()
        self._events.clear()


class Machine:
    """A machine, and its clock since its start, which goes on while nothing else of it does."""

    def __init__(self, simulation: Simulation, name: str, speed: float, wall: float) -> None:
        self.simulation = simulation
        self.name = name
        self.speed = speed
        self.wakes_at = 0.0
        self.cut_until = 0.0
        """The true time up to which no packet comes through."""
        self._started = simulation.random.uniform(0, 1e6)
        self._wall = wall

    def now(self) -> float:
        return self._started + self.simulation.now * self.speed

    def wall(self) -> float:
        return self._wall + self.simulation.now * self.speed

    def wait(self, condition: threading.Condition, until: float | None) -> None:
        raise AssertionError("a thread waits in real time")

    def true(self, local: float) -> float:
        """Return the true time at which the clock has come to a time."""
        return (local - self._started) / self.speed + _TICK

    def sleep(self, seconds: float) -> None:
        """Let a thread wait so many seconds of this clock."""
        self.simulation.sleep(seconds / self.speed + _TICK, self)

    def pause(self, seconds: float) -> None:
        """Stop all threads so long."""
        self.wakes_at = max(self.wakes_at, self.simulation.now + seconds)
        self.simulation.at(self.wakes_at, lambda: None, self)

    def die(self) -> None:
        """Stop all threads for good."""
        self.wakes_at = math.inf

    @property
    def is_dead(self) -> bool:
        return self.wakes_at == math.inf

    @property
    def runs(self) -> bool:
        return self.wakes_at <= self.simulation.now
