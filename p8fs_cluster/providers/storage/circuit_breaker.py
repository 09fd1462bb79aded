"""A memory of whether a server can be reached: callers fail fast while it can't, and one of them tries now and then."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["CircuitBreaker"]

RETRY = 0.1
"""Seconds between the beginnings of two tries to connect while the server can't be reached."""

PATIENCE = 0.5
"""Seconds that a caller waits for somebody's try, when these hang."""


class CircuitBreaker:
    """Open while the last try to connect failed. There is no I/O here, so threads and tasks share it.

    Whoever fails fast does so because a try has failed that began after he came: never for an outage that is over.

    >>> circuit = CircuitBreaker(lambda: 100.0)
    >>> circuit.wait(arrived=100.0)
    0.0
    >>> circuit.fail(OSError("refused"), begun=99.0)
    >>> circuit.wait(arrived=100.0)
    0.1
    >>> circuit.fail(OSError("refused"), begun=100.0)
    >>> circuit.wait(arrived=100.0) is None
    True
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._next = 0.0
        self._begun = 0.0
        self.failure: BaseException | None = None
        """The fault of the last try, None if it did not fail."""

    def wait(self, arrived: float) -> float | None:
        """Return 0 if the caller may try now, else the seconds after which to ask again; None: fail with `failure`.

        `arrived`: when the caller first asked, by the monotonic clock.
        """
        if self.failure is None:
            return 0.0
        now = self._clock()
        if self._begun >= arrived or now - arrived >= PATIENCE:
            return None
        if now < self._next:
            return round(self._next - now, 4)
        self._next = now + RETRY
        return 0.0

    def fail(self, failure: BaseException, begun: float) -> None:
        """Open it, or keep it open: the try that was begun then has failed."""
        self._next = max(self._next, self._clock() + RETRY)
        self._begun = max(self._begun, begun)
        self.failure = failure

    def succeed(self) -> None:
        """Close it."""
        self.failure = None
