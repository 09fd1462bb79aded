"""The belief of a holder in its lease. Nothing here waits or reads a clock: every time is given."""

from __future__ import annotations

import math
from collections.abc import Callable
from dataclasses import dataclass
from typing import NamedTuple

from p8fs_cluster.exceptions import CoordinationError

__all__ = ["Term", "Timing", "Token"]

_LEAST_MARGIN = 0.1
"""The least part of the ttl between a holder's deadline and the end of its lease: clocks differ in speed."""


class Token(NamedTuple):
    """A fencing token: a later holder's is greater, also after a replica was promoted.

    >>> Token(1, 7) < Token(1, 8) < Token(2, 3)
    True
    """

    timeline: int
    """PostgreSQL's timeline, which grows when a replica is promoted; 0 on other stores."""
    fence: int
    """The number that other resources compare."""


@dataclass(frozen=True)
class Timing:
    """Seconds of a lease: interval < deadline < ttl.

    >>> Timing.of(15)
    Timing(ttl=15, deadline=10.0, interval=3.0)
    """

    ttl: float
    """For which the store grants the lease, from each renewal on."""
    deadline: float
    """For which the holder believes in it, from the moment before a request was sent."""
    interval: float
    """Between two renewals, and between two looks of those who wait."""

    @classmethod
    def of(cls, ttl: float, deadline: float | None = None, interval: float | None = None) -> Timing:
        """Return the timing; by default the deadline is two thirds of the ttl, and the interval a fifth.

        :raises CoordinationError: they don't fit.

        >>> Timing.of(4, deadline=3.6).deadline
        3.6
        """
        for name, value in (("ttl", ttl), ("deadline", deadline), ("interval", interval)):
            number = isinstance(value, int | float) and not isinstance(value, bool)
            if value is not None and not (number and math.isfinite(value) and value > 0):
                raise CoordinationError(f"{name}={value!r}: a number of seconds greater than 0 is needed")
        if deadline is None:
            deadline = ttl * 2 / 3
        if interval is None:
            interval = min(ttl / 5, deadline / 2)
        if not interval < deadline < ttl:
            told = f"interval={interval:g}, deadline={deadline:g}, ttl={ttl:g}"
            raise CoordinationError(f"{told}: the interval must be less than the deadline, and that less than the ttl")
        most = ttl * (1 - _LEAST_MARGIN)
        if deadline > most and not math.isclose(deadline, most):  # 3 - 2.7 is less than a tenth of 3
            raise CoordinationError(f"deadline={deadline:g}: at most {most:g}, nine tenths of ttl={ttl:g}")
        return cls(ttl, deadline, interval)


class Term:
    """One holding of a lease, from its grant to its end. Past its deadline it is over, whatever comes later.

    `until` is counted from the moment before the request was sent, so that the store's count ends later.

    >>> term = Term(Timing.of(15), Token(0, 1), sent_at=100.0)
    >>> term.is_held(109.9), term.is_held(110.0)
    (True, False)
    """

    def __init__(self, timing: Timing, token: Token, sent_at: float) -> None:
        self.timing = timing
        self.token = token
        self.until = sent_at + timing.deadline
        self.renewed_at = sent_at
        self.ended: str | None = None
        """The reason for its end, None before that, as far as anybody has looked."""
        self.lost = False
        """True if it ended before its holder gave it up."""
        self.watchers: list[Callable[[], object]] = []
        """Called when it is lost, by a thread that must not wait."""

    def is_held(self, now: float) -> bool:
        """Return whether it may be believed in now."""
        return self.ended is None and now < self.until

    @property
    def overdue(self) -> str:
        """The reason for its end when its deadline has passed."""
        return f"no renewal came through within {self.timing.deadline:g} s"

    def renew(self, sent_at: float, now: float, deadline: float) -> bool:
        """Count the deadline from a renewal that was sent then and has succeeded; False: it came too late.

        Several may be carried out in any order, with any ttl: the lease ends after the last of their ends.
        """
        if self.ended is None and now >= self.until:
            self.end(self.overdue)
        if self.ended is not None:
            return False
        self.renewed_at = max(self.renewed_at, sent_at)
        self.until = max(self.until, sent_at + deadline)
        return True

    def end(self, why: str, lost: bool = True) -> bool:
        """End it, for good; False: it was over before."""
        if self.ended is not None:
            return False
        self.ended, self.lost = why, lost
        return True
