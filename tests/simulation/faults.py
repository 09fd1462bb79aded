"""Random schedules: what fares badly up to the time from which on all is well."""

from __future__ import annotations

import random
from collections.abc import Callable
from dataclasses import dataclass

from tests.simulation.checker import Violation
from tests.simulation.database import Network
from tests.simulation.schedules import Node, Schedule, simulated

__all__ = ["Result", "play"]


@dataclass(frozen=True)
class Result:
    """The result of a schedule."""

    seed: int
    events: int
    grants: int
    losses: int
    writes: int
    """The number of writes that a fenced resource has accepted."""
    violations: tuple[Violation, ...]


def play(seed: int, step: int = 0) -> Result:
    """Play a random schedule; `step`: -1 or 1 steps the database's clock back or forward, and rows stay then."""
    with simulated(seed):
        schedule = _peopled(seed)
        schedule.simulation.start(Faults(schedule, step).run)
        checker = schedule.play()
    counts = schedule.simulation.count, checker.grants, checker.losses, checker.writes
    return Result(seed, *counts, tuple(checker.violations))


def _peopled(seed: int) -> Schedule:
    """Return a schedule with two to four electors for each of one or two leases, some in one process."""
    chosen = random.Random(seed)
    ttl = chosen.choice([1.0, 3.0, 15.0])
    schedule = Schedule(seed, ttl, ttl * chosen.uniform(3, 8))
    for key in ("lease:a", "lease:b")[: chosen.choice([1, 1, 2])]:
        for _ in range(chosen.choice([2, 2, 3])):
            schedule.node((chosen.choice([schedule.candidate, schedule.locker]), key))
        if chosen.random() < 0.3:
            schedule.node((schedule.locker, key), (schedule.locker, key))
    return schedule


class Faults:
    """The faults of one schedule, at random times."""

    def __init__(self, schedule: Schedule, step: int) -> None:
        self._schedule = schedule
        self._random = schedule.random
        self._step = step
        self._every = schedule.ttl * self._random.choice([0.3, 1.0, 3.0])
        _trouble(schedule.network, self._random, schedule.ttl)
        kinds: list[Callable[[], object]] = [self.pause, self.pause, self.cut, self.outage, self.resign, self.kill]
        kinds.append(self.stop)
        if not step:
            kinds.append(self.delete)
        self._kinds = self._random.sample(kinds, self._random.randint(1, len(kinds)))
        if step:
            self._kinds.append(self.step)

    def run(self) -> None:
        """Do one after the other, until all is well."""
        schedule = self._schedule
        while True:
            schedule.simulation.sleep(schedule.pause_of(self._every))
            if schedule.is_calm:
                return
            self._random.choice(self._kinds)()

    def pause(self) -> None:
        self._node().machine.pause(self._long())

    def cut(self) -> None:
        self._node().machine.cut_until = self._schedule.simulation.now + self._long()

    def outage(self) -> None:
        self._schedule.database.down_until = self._schedule.simulation.now + self._long()

    def resign(self) -> None:
        self._schedule.database.ask_to_resign(self._key())

    def delete(self) -> None:
        self._schedule.database.delete(self._key())

    def kill(self) -> None:
        node = self._node()
        node.machine.die()
        self._schedule.node(*node.wanted)

    def stop(self) -> None:
        node = self._node()
        self._schedule.stop(node)
        self._schedule.node(*node.wanted)

    def step(self) -> None:
        self._schedule.database.step(self._step * self._random.random() * 2 * self._schedule.ttl)

    def _node(self) -> Node:
        lives = [node for node in self._schedule.nodes if not (node.machine.is_dead or node.coordinator.closed)]
        return self._random.choice(lives)

    def _key(self) -> str:
        return self._random.choice(sorted(self._schedule.ttls) or ["lease:a"])

    def _long(self) -> float:
        return self._schedule.pause_of(self._schedule.ttl * self._random.choice([0.2, 1.0, 2.0]))


def _trouble(network: Network, chosen: random.Random, ttl: float) -> None:
    """Let some kinds of trouble happen to statements, seldom or often."""
    for name in ("refused", "cut_off", "late", "slow", "lost"):
        setattr(network, name, chosen.choice([0.0, 0.0, 0.02, 0.2]))
    network.longest = ttl * chosen.choice([0.3, 1.0, 3.0])
