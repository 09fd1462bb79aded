"""One database with a clock of its own, and the connections to it: late, lost, refused, or carried out unheard."""

from __future__ import annotations

import math
import weakref
from collections.abc import Callable, Generator, Sequence
from dataclasses import dataclass, field
from typing import Any, ClassVar

from p8fs_cluster.config.settings import P8FSConfig
from p8fs_cluster.coordination import tables
from p8fs_cluster.exceptions import StorageError, StorageTimeout, StorageUnavailable
from p8fs_cluster.providers.storage.leases import TABLE, LeaseStore, Limits, Run, Stamp
from p8fs_cluster.providers.storage.local_leases import LocalStore
from tests.simulation.events import Machine, Simulation

__all__ = ["Connection", "Database", "Network", "SimulatedLeases"]

_EPOCH = 1_800_000_000.0
_TRIP = 0.003
"""Most seconds in one direction, where nothing is wrong."""


@dataclass
class Network:
    """The chances that a statement fares badly, each from 0 to 1, up to the true time from which on all is well."""

    calm_at: float
    refused: float = 0.0
    cut_off: float = 0.0
    """Carried out, and the connection fails."""
    late: float = 0.0
    """The request is on its way for up to `longest`."""
    slow: float = 0.0
    """The reply is."""
    lost: float = 0.0
    longest: float = 0.0
    directed: list[tuple[str, float, float]] = field(default_factory=list)
    """Parts of statements, and the seconds that the next such request and its reply take; each is used once."""

    def direction(self, text: str) -> tuple[float, float] | None:
        """Return the seconds that a statement's request and reply are to take, if that is laid down."""
        for direction in self.directed:
            if direction[0] in text:
                self.directed.remove(direction)
                return direction[1:]
        return None


class Database:
    """Lease rows in memory, by a clock that runs at its own speed and can be stepped."""

    def __init__(self, simulation: Simulation, speed: float) -> None:
        self.simulation = simulation
        self.stepped = 0.0
        self.put_back = 0.0
        """Seconds by which the clock was put back, which leases last longer."""
        self.down_until = 0.0
        self.deleted: set[str] = set()
        self.granted: Callable[[str, str, Stamp], None] = lambda key, holder, stamp: None
        self._speed = speed
        clock = weakref.WeakMethod(self.clock)  # the garbage collector sees no cycle through SQLite's functions
        self._store = LocalStore(None, lambda: clock()())
        tables.create(self._store, 0)

    def clock(self) -> float:
        return _EPOCH + self.simulation.now * self._speed + self.stepped

    def step(self, seconds: float) -> None:
        """Put the clock forward, or back."""
        self.stepped += seconds
        self.put_back += max(-seconds, 0.0)

    def execute(self, sql: str, parameters: Sequence[Any]) -> list[tuple[Any, ...]]:
        return self._store.execute(sql, parameters, 0)

    def update(self, fence: str, others: str, where: str, parameters: Sequence[Any]) -> Stamp | None:
        stamp = self._store.update(fence, others, where, parameters, 0)
        if stamp is not None and "acquired_at = " in others:
            self.granted(parameters[-2], parameters[0], stamp)
        return stamp

    def transact(self, work: Callable[[Run], Any]) -> Any:
        return self._store.transact(work, 0)

    def ask_to_resign(self, key: str) -> None:
        """Do as an operator does, who wants somebody else to hold a lease."""
        self.execute(f"UPDATE {TABLE} SET resign = fence WHERE name = %s", (key,))

    def delete(self, key: str) -> None:
        """Delete the row of a lease."""
        self.deleted.add(key)
        self.execute(f"DELETE FROM {TABLE} WHERE name = %s", (key,))


class Connection:
    """A machine's connection to the database, as `LeaseStore` has it."""

    def __init__(self, machine: Machine, database: Database, network: Network) -> None:
        self._machine = machine
        self._database = database
        self._network = network

    def execute(self, sql: str, parameters: Sequence[Any], seconds: float) -> list[tuple[Any, ...]]:
        return self._call(sql, lambda: self._database.execute(sql, parameters), seconds)

    def update(
        self, fence: str, others: str, where: str, parameters: Sequence[Any], seconds: float, *, announce: bool = False
    ) -> Stamp | None:
        text = f"SET fence = {fence}, {others} WHERE {where}"
        return self._call(text, lambda: self._database.update(fence, others, where, parameters), seconds)

    def transact(self, work: Callable[[Run], Any], seconds: float) -> Any:
        return self._call("BEGIN", lambda: self._database.transact(work), seconds)

    def limits(self, seconds: float) -> Limits | None:
        return None

    def announcements(self) -> Generator[str | None, None, None] | None:
        return None

    def close(self) -> None: ...
    def forget(self) -> None: ...

    def _call(self, text: str, statement: Callable[[], Any], seconds: float) -> Any:
        """Return the reply, or raise, while other threads go on; the statement is carried out once at most."""
        simulation, random = self._machine.simulation, self._machine.simulation.random
        gives_up = simulation.now + seconds / self._machine.speed
        there, back = self._trips(text)
        replies: list[Callable[[], Any]] = []

        def carry_out() -> None:
            if simulation.now < self._database.down_until:
                replies.append(_refusal)
                return
            try:
                result = statement()
            except StorageError as exc:
                replies.append(lambda exc=exc: _raise(exc))
            else:
                replies.append(lambda: result)

        if there < math.inf:
            simulation.at(there, carry_out)
        simulation.sleep(min(max(back, there), gives_up) - simulation.now, self._machine)
        if back > gives_up or not replies:
            raise StorageTimeout("no reply in time")
        if random.random() < self._chance(self._network.cut_off):
            raise StorageUnavailable("the connection was lost")
        return replies[0]()

    def _trips(self, text: str) -> tuple[float, float]:
        """Return the true times at which the statement is carried out and the reply comes; infinity: never."""
        network, random, now = self._network, self._machine.simulation.random, self._machine.simulation.now
        if (directed := network.direction(text)) is not None:
            return now + directed[0], now + sum(directed)
        there = now + random.uniform(_TRIP / 10, _TRIP)
        if random.random() < self._chance(network.refused):
            self._machine.simulation.sleep(there - now, self._machine)
            raise StorageUnavailable("connection refused")
        if random.random() < self._chance(network.late):
            there += random.random() ** 2 * network.longest
        if there < self._machine.cut_until:
            there = self._machine.cut_until + random.random() * _TRIP if random.random() < 0.5 else math.inf
        if now < network.calm_at < there < math.inf:
            there = network.calm_at
        back = there + random.uniform(_TRIP / 10, _TRIP)
        if random.random() < self._chance(network.slow):
            back += random.random() ** 2 * network.longest
        if random.random() < self._chance(network.lost) or back < self._machine.cut_until:
            back = math.inf
        return there, back

    def _chance(self, chance: float) -> float:
        return chance if self._machine.simulation.now < self._network.calm_at else 0.0


class SimulatedLeases:
    """The coordination of a simulated engine, for one machine."""

    guard: ClassVar[str] = ""
    announces: ClassVar[bool] = False

    def __init__(self, machine: Machine, database: Database, network: Network) -> None:
        self._arguments = machine, database, network

    def store(self, clock: Callable[[], float]) -> LeaseStore:
        return Connection(*self._arguments)

    @staticmethod
    def commits_at_once(connection: Any) -> bool:
        return False

    @staticmethod
    def refusal(settings: P8FSConfig) -> str:
        return ""


def _refusal() -> None:
    raise StorageUnavailable("connection refused: the database is down")


def _raise(exc: StorageError) -> None:
    raise exc
