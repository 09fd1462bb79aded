"""Schedules that are laid down step by step."""

from __future__ import annotations

import contextlib
from collections.abc import Callable

from p8fs_cluster.coordination.holding import Holding
from p8fs_cluster.coordination.terms import Timing
from p8fs_cluster.exceptions import LeaseLost, StorageError
from tests.simulation.checker import BELIEF
from tests.simulation.schedules import Schedule

__all__ = ["KEY", "Case"]

KEY = "lock:invoices"


class Case:
    """Two machines with a lock each, and what they do in threads of their own."""

    def __init__(self) -> None:
        self.schedule = Schedule(1, calm_at=100.0)
        self.database, self.network = self.schedule.database, self.schedule.network
        self.first, self.second = self.holding(), self.holding()

    def holding(self, ttl: float = 3.0) -> Holding:
        """Return the lock of one more machine."""
        return self.schedule.holding(self.schedule.node(), KEY, Timing.of(ttl))

    def at(self, seconds: float, action: Callable[[], object]) -> None:
        """Do something after so many seconds, in a thread of its own; that the store is not reached is no fault."""

        def act() -> None:
            with contextlib.suppress(StorageError, LeaseLost):
                action()

        self.schedule.simulation.at(seconds, lambda: self.schedule.simulation.start(act))

    def direct(self, seconds: float, text: str, there: float, back: float) -> None:
        """Let the next statement with a text, from then on, take so many seconds in each direction."""
        self.at(seconds, lambda: self.network.directed.append((text, there, back)))

    def refuse(self, begin: float, end: float) -> None:
        """Let no connection come about in between."""
        self.at(begin, lambda: setattr(self.network, "refused", 1.0))
        self.at(end, lambda: setattr(self.network, "refused", 0.0))

    def extend(self, ttl: float) -> None:
        """Extend the first lock."""
        self.first.extend(self.first.require(), Timing.of(ttl), 1)

    def run(self, seconds: float) -> set[str]:
        """Let so many seconds pass, and return which kinds of violation there were."""
        try:
            self.schedule.simulation.run(seconds)
            assert self.schedule.simulation.faults == []
            return {each.kind for each in self.schedule.checker.violations}
        finally:
            self.schedule.simulation.close()

    def play(self, seconds: float) -> None:
        """Let so many seconds pass, in which no two may believe."""
        assert BELIEF not in self.run(seconds), self.schedule.checker.violations
