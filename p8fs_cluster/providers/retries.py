"""When a transaction is tried again: what failed for another's sake, after a random pause that grows."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

__all__ = ["causes", "pause"]

_LONGEST = 2.0


def pause(base: float, attempt: int, chance: Callable[[], float] = random.random) -> float:
    """Return the seconds to wait after the failed `attempt` (from 0): random, so that rivals don't meet again.

    >>> [pause(0.01, attempt, lambda: 1.0) for attempt in (0, 1, 2, 20)]
    [0.01, 0.02, 0.04, 2.0]
    """
    return chance() * min(base * 2.0**attempt, _LONGEST)


def causes(exc: BaseException) -> Iterator[BaseException]:
    """Yield an exception and what it was raised from: our errors and SQLAlchemy's are raised from the driver's.

    >>> error = RuntimeError("ours")
    >>> error.__cause__ = OSError("the driver's")
    >>> list(causes(error))
    [RuntimeError('ours'), OSError("the driver's")]
    """
    seen: BaseException | None = exc
    while seen is not None:
        yield seen
        seen = seen.__cause__
