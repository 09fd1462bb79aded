"""Clocks that durations are measured by: they count the time in which the machine was asleep or the process stopped."""

from __future__ import annotations

import sys
import threading
import time
from typing import Protocol

__all__ = ["BOOTTIME", "Clock"]


class Clock(Protocol):
    """Seconds that only grow, and waits that end by them."""

    def now(self) -> float: ...
    def wall(self) -> float:
        """Return the seconds since 1970, for a store that has no clock of its own."""

    def wait(self, condition: threading.Condition, until: float | None) -> None:
        """Wait, with the condition held, until it is notified, or until that time; both may come early."""


class Boottime:
    """The machine's clock since its start: CLOCK_BOOTTIME where there is one."""

    def __init__(self) -> None:
        number = getattr(time, "CLOCK_BOOTTIME", None)
        if number is None and sys.platform == "darwin":
            number = time.CLOCK_MONOTONIC  # which goes on while the machine is asleep, unlike time.monotonic()
        self._number = number

    def now(self) -> float:
        return time.monotonic() if self._number is None else time.clock_gettime(self._number)

    def wall(self) -> float:
        return time.time()

    def wait(self, condition: threading.Condition, until: float | None) -> None:
        condition.wait(None if until is None else max(0.0, min(until - self.now(), threading.TIMEOUT_MAX)))


BOOTTIME = Boottime()
