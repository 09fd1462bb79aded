"""One schedule: machines with candidates and lockers, a database, a network, and the checker that sees all of them."""

from __future__ import annotations

import contextlib
import functools
import logging
import random
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from unittest import mock

from p8fs_cluster.config.settings import P8FSConfig
from p8fs_cluster.coordination.candidacy import Candidacy
from p8fs_cluster.coordination.claiming import claimed
from p8fs_cluster.coordination.coordinator import Coordinator
from p8fs_cluster.coordination.holding import Holding
from p8fs_cluster.coordination.terms import Term, Timing
from p8fs_cluster.di.settings import SettingsProvider
from p8fs_cluster.exceptions import CoordinationError, LeaseLost, StorageError
from p8fs_cluster.providers.storage.engines import EngineSpec
from p8fs_cluster.testing.memory import MemoryEngine
from tests.simulation.checker import Checker, Elector
from tests.simulation.database import Database, Network, SimulatedLeases
from tests.simulation.events import Machine, Simulation
from tests.simulation.worker import Event, Interrupted, Place, Queue, TaskPlace

__all__ = ["FASTEST", "SLOWEST", "Node", "Schedule", "simulated"]

SLOWEST, FASTEST = 0.98, 1.02
"""Seconds of a machine's clock, or the database's, in a true one."""
_SLACK = 0.2
"""Seconds for the statements of an election, and for those who wait to spread."""
_TIMINGS = ((2 / 3, 1 / 5), (0.9, 0.3), (0.9, 0.1), (0.5, 0.2), (0.8, 0.7))
"""Deadlines and intervals, as parts of the ttl."""


@dataclass(eq=False)
class Node:
    """A process on a machine of its own, and what it wants."""

    machine: Machine
    coordinator: Coordinator
    wanted: list[tuple[Callable[[Node, str], object], str]]


class Schedule:
    """One course of events, which its seed and what is started determine."""

    def __init__(self, seed: int, ttl: float = 3.0, calm_at: float = 0.0) -> None:
        self.simulation = Simulation(seed)
        self.random = self.simulation.random
        self.ttl = ttl
        self.calm_at = calm_at
        """The true time from which on nothing goes wrong."""
        self.database = Database(self.simulation, self._speed())
        self.network = Network(calm_at)
        self.checker = Checker(self.simulation, calm_at)
        self.database.granted = self.checker.granted
        self.simulation.look = self.checker.look
        self.nodes: list[Node] = []
        self.stopped: set[Machine] = set()
        self.ttls: dict[str, float] = {}
        """Key → the longest ttl that somebody has."""
        self.intervals: dict[str, float] = {}
        self._settings = SettingsProvider()
        self._settings.override(_SETTINGS)

    @property
    def is_calm(self) -> bool:
        return self.simulation.now >= self.calm_at

    def play(self) -> Checker:
        """Run it to its end, and return the checker, which has judged."""
        try:
            self.simulation.run(self.calm_at + _SLACK)
            bounds = {key: self.calm_at + self._longest(key) / SLOWEST + _SLACK for key in self.ttls}
            self.simulation.run(max(bounds.values()) + 2 * self.ttl)
            self.checker.finish(bounds, self.stopped)
        finally:
            self.simulation.close()
        return self.checker

    def _longest(self, key: str) -> float:
        """Return the seconds within which somebody holds a lease: that a row was deleted, must be noticed first."""
        noticed = 2 if key in self.database.deleted else 1
        return self.ttls[key] + noticed * self.intervals[key] + self.database.put_back

    def pause_of(self, mean: float) -> float:
        """Return the true seconds of a random pause, which ends when all is well."""
        return min(self.random.expovariate(1 / mean), max(self.calm_at - self.simulation.now, 0.0))

    def timing(self, key: str, ttl: float) -> Timing:
        """Return a random timing for a key."""
        deadline, interval = self.random.choice(_TIMINGS)
        timing = Timing.of(ttl, ttl * deadline, ttl * interval)
        self.ttls[key] = max(self.ttls.get(key, 0), timing.ttl)
        self.intervals[key] = max(self.intervals.get(key, 0), timing.interval)
        return timing

    def node(self, *wanted: tuple[Callable[[Node, str], object], str]) -> Node:
        """Start a node: each wanted is `candidate` or `locker`, and a key."""
        wall = self.random.choice([0.0, self.random.uniform(-30, 30)])
        machine = Machine(self.simulation, f"machine {len(self.nodes)}", self._speed(), self.database.clock() + wall)
        spec = EngineSpec(
            provider="simulated",
            engine=MemoryEngine,
            leases=lambda settings: SimulatedLeases(machine, self.database, self.network),
        )
        coordinator = Coordinator(self._settings, spec, machine, lambda name, clock: Queue(machine))
        node = Node(machine, coordinator, list(wanted))
        self.nodes.append(node)
        for want, key in wanted:
            self.simulation.start(lambda want=want, key=key: want(node, key), machine)
        return node

    def stop(self, node: Node) -> None:
        """End a node as a container ends, in a thread of its own."""
        self.stopped.add(node.machine)
        self.simulation.start(node.coordinator.close, node.machine)

    def candidate(self, node: Node, key: str) -> None:
        """Stand for a lease, and now and then give it up."""
        candidacy = self.stand(node, key, self.timing(key, self.ttl * self.random.choice([1, 1, 1, 0.5])))
        seconds = candidacy.holding.timing.interval
        while True:
            self.simulation.sleep(self.pause_of(3 * self.ttl), node.machine)
            if self.is_calm or node.coordinator.closed:
                return
            if self.random.random() < 0.5:
                candidacy.resign(seconds)
                continue
            candidacy.withdraw(seconds)
            self.simulation.sleep(self.pause_of(self.ttl / 2), node.machine)
            if not node.coordinator.closed:
                candidacy.stand()

    def stand(self, node: Node, key: str, timing: Timing) -> Candidacy:
        """Return a candidacy that stands."""
        candidacy = Candidacy(node.coordinator, key, timing)
        ended = candidacy.holding.on_end
        elector = self._elector(node.machine, candidacy.holding)

        def on_end(term: Term) -> None:
            self.checker.ended(elector, term)
            ended(term)

        candidacy.holding.on_end = on_end
        candidacy.stand()
        return candidacy

    def locker(self, node: Node, key: str) -> None:
        """Take a lease and release it, again and again; once all is well, hold it."""
        holding = self.holding(node, key, self.timing(key, self.ttl * self.random.choice([1, 1, 1, 0.5])))
        place = self.random.choice([Place, TaskPlace])(node.coordinator)
        while not node.coordinator.closed:
            if not self.is_calm and self.random.random() < 0.3:
                self.simulation.at(self.simulation.now + self.pause_of(self.ttl / 2), place.interrupt, node.machine)
            with contextlib.suppress(StorageError, CoordinationError, Interrupted):
                self._use(place, holding)
            self.simulation.sleep(self.pause_of(self.random.choice([0.01, self.ttl / 5])) + 0.001, node.machine)

    def _use(self, place: Place, holding: Holding) -> None:
        """Take a lease, and release it after some time."""
        if not claimed(place, holding, None if self.is_calm else self.random.choice([0, self.ttl, 3 * self.ttl])):
            return
        self._hold(place.machine, holding)
        if holding.is_held or self.random.random() < 0.5:  # else it was lost, and is acquired anew at once
            place.run(functools.partial(holding.give_up, holding.timing.interval))
            holding.term = None

    def holding(self, node: Node, key: str, timing: Timing) -> Holding:
        """Return the holding of a lock, which the checker looks at."""
        holding = Holding(node.coordinator, key, timing)
        elector = self._elector(node.machine, holding)
        holding.on_end = lambda term: self.checker.ended(elector, term)
        return holding

    def _hold(self, machine: Machine, holding: Holding) -> None:
        """Hold a lease for some time, and perhaps extend it."""
        until = machine.now() + self.random.expovariate(1 / self.ttl)
        while holding.is_held and (self.is_calm or machine.now() < until):
            machine.sleep(holding.timing.interval)
            if holding.is_held and not self.is_calm and self.random.random() < 0.2:
                term = holding.require()
                timing = self.timing(holding.key, self.ttl * self.random.choice([0.5, 1, 1.5]))
                with contextlib.suppress(StorageError, LeaseLost):
                    holding.extend(term, timing, term.timing.interval)

    def _elector(self, machine: Machine, holding: Holding) -> Elector:
        elector = Elector(machine, holding)
        self.checker.watch(elector)
        self.simulation.start(lambda: self._write(elector), machine)
        return elector

    def _write(self, elector: Elector) -> None:
        """Write to what the lease protects, whenever it is believed in; a write may take long."""
        holding, checker = elector.holding, self.checker
        while True:
            self.simulation.sleep(self.random.expovariate(2 / self.ttl), elector.machine)
            if holding.is_held:
                term, ordinal = elector.terms[-1], elector.ordinals[-1]
                late = self.random.choice([0.0, 0.001, self.random.random() * 2 * self.ttl])
                self.simulation.at(
                    self.simulation.now + late,
                    lambda token=term.token, ordinal=ordinal: checker.write(holding.key, token, ordinal),
                )

    def _speed(self) -> float:
        return self.random.choice([SLOWEST, 1.0, FASTEST, self.random.uniform(SLOWEST, FASTEST)])


@contextlib.contextmanager
def simulated(seed: int) -> Iterator[None]:
    """Let the package's own random pauses follow the seed, and its logger be silent."""
    log, state = logging.getLogger("p8fs_cluster.coordination"), random.getstate()
    random.seed(seed)
    was, log.disabled = log.disabled, True
    try:
        with mock.patch("p8fs_cluster.coordination.claiming.Event", Event):
            yield
    finally:
        log.disabled = was
        random.setstate(state)


_SETTINGS = P8FSConfig(service_name="simulated", cluster_create=False)
