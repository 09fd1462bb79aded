"""Retries of transactions that failed for another's sake, after random pauses that grow."""

from __future__ import annotations

import math
import random
import time
from collections.abc import Callable, Iterator

from p8fs_cluster.exceptions import CommitUnknown, StorageTimeout, StorageUnavailable

__all__ = ["Attempts", "pause", "seconds"]

_LONGEST = 2.0
"""Seconds that a pause lasts at most."""

_ENDLESS = 86400.0 * 365
"""Seconds from which on a wait counts as endless: what is longer than the system's waits can be."""


def seconds(timeout: float) -> float:
    """Return a timeout that was given, if it is one.

    :raises ValueError: it is not more than 0.
    """
    if not timeout > 0:
        raise ValueError(f"timeout is in seconds, more than 0, and math.inf for none: not {timeout!r}")
    return math.inf if timeout > _ENDLESS else timeout


class Attempts:
    """The attempts to run a transaction: how long each may take, and which of their errors are worth another one."""

    def __init__(self, retry: int, timeout: float | None, clock: Callable[[], float] = time.monotonic) -> None:
        self._left = retry
        self._made = 0
        self._clock = clock
        self._deadline = None if timeout is None else clock() + seconds(timeout)

    def seconds_left(self) -> float | None:
        """Return the seconds that the next attempt may take, None without a limit."""
        return None if self._deadline is None else max(self._deadline - self._clock(), 0)

    def pause_after(self, exc: BaseException, retry_pause: Callable[[BaseException], float | None]) -> float | None:
        """Return the seconds to wait before the next attempt; None: there is none, and the error is to be raised."""
        base = _pause_after(exc, retry_pause) if self._made < self._left else None
        self._made += 1
        return None if base is None else pause(base, self._made - 1)


def pause(base: float, attempt: int, chance: Callable[[], float] = random.random, longest: float = _LONGEST) -> float:
    """Return the seconds to wait after the failed `attempt` (from 0): random, so that rivals don't meet again.

    >>> [pause(0.01, attempt, lambda: 1.0) for attempt in (0, 1, 2, 2000)]
    [0.01, 0.02, 0.04, 2.0]
    """
    return chance() * min(base * 2.0 ** min(attempt, 100), longest)  # 2.0**1024 is no number


def _pause_after(exc: BaseException, retry_pause: Callable[[BaseException], float | None]) -> float | None:
    """Return the seconds to begin with before a failed transaction is tried again, None if it must not be.

    Our errors and SQLAlchemy's are raised from the driver's, which `retry_pause` knows.
    """
    if isinstance(exc, CommitUnknown | StorageTimeout | StorageUnavailable):
        return None
    bases = map(retry_pause, _causes(exc))
    return next((base for base in bases if base is not None), None)


def _causes(exc: BaseException) -> Iterator[BaseException]:
    seen: BaseException | None = exc
    while seen is not None:
        yield seen
        seen = seen.__cause__
