"""Races that random schedules have found, laid down step by step."""

from __future__ import annotations

from collections.abc import Callable, Iterator

import pytest

from p8fs_cluster.coordination.holding import Holding
from p8fs_cluster.coordination.terms import Timing
from tests.simulation.checker import BELIEF
from tests.simulation.schedules import Schedule, simulated

KEY = "lock:invoices"


class Case:
    """Two machines with a lock each, and what they do in threads of their own."""

    def __init__(self) -> None:
        self.schedule = Schedule(1)
        self.database, self.network = self.schedule.database, self.schedule.network
        self.first, self.second = self.holding(), self.holding()

    def holding(self, ttl: float = 3.0) -> Holding:
        node = self.schedule.node()
        return self.schedule.holding(node, KEY, Timing.of(ttl))

    def at(self, seconds: float, action: Callable[[], object]) -> None:
        """Do something after so many seconds, in a thread of its own."""
        self.schedule.simulation.at(seconds, lambda: self.schedule.simulation.start(action))

    def play(self, seconds: float) -> None:
        """Run it so long; nothing may be raised, and no two may believe."""
        try:
            self.schedule.simulation.run(seconds)
            assert not self.schedule.simulation.faults
            assert [each for each in self.schedule.checker.violations if each.kind == BELIEF] == []
        finally:
            self.schedule.simulation.close()


@pytest.fixture
def case() -> Iterator[Case]:
    with simulated(1):
        yield Case()


def test_who_made_a_lease_does_not_take_it_at_once_when_its_row_was_deleted(case: Case) -> None:
    case.at(0.0, lambda: case.first.attempt(1))
    case.at(0.1, lambda: case.first.release(1))
    case.at(0.2, lambda: case.second.attempt(1))
    case.at(0.3, lambda: case.database.delete(KEY))
    case.at(0.4, lambda: case.first.attempt(1))
    case.at(0.5, lambda: case.first.attempt(1))
    case.play(0.6)
    assert not case.first.is_held
