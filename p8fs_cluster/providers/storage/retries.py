"""When a transaction is tried again: what failed for another's sake, after a random pause that grows."""

from __future__ import annotations

import random
from collections.abc import Callable, Iterator

from p8fs_cluster.exceptions import CommitUnknown, StorageTimeout, StorageUnavailable

__all__ = ["pause", "pause_after"]

_LONGEST = 2.0


def pause(base: float, attempt: int, chance: Callable[[], float] = random.random) -> float:
    """Return the seconds to wait after the failed `attempt` (from 0): random, so that rivals don't meet again.

    >>> [pause(0.01, attempt, lambda: 1.0) for attempt in (0, 1, 2, 20)]
    [0.01, 0.02, 0.04, 2.0]
    """
    return chance() * min(base * 2.0**attempt, _LONGEST)


def pause_after(exc: BaseException, retry_pause: Callable[[BaseException], float | None]) -> float | None:
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
