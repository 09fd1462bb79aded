"""Whether a server can be reached, so that callers fail fast while it can't, and one of them tries now and then."""

from __future__ import annotations

import time
from collections.abc import Callable

__all__ = ["Circuit"]

RETRY = 0.2
"""Seconds between two tries to connect while the server can't be reached."""


class Circuit:
    """Open while the last try to connect failed. There is no I/O here, so threads and tasks share it.

    >>> circuit = Circuit()
    >>> circuit.may_try()
    True
    >>> circuit.fail(OSError("refused"))
    >>> circuit.failure, circuit.may_try()
    (OSError('refused'), False)
    >>> circuit.succeed()
    >>> circuit.failure, circuit.may_try()
    (None, True)
    """

    def __init__(self, clock: Callable[[], float] = time.monotonic) -> None:
        self._clock = clock
        self._next = 0.0
        self.failure: BaseException | None = None
        """Why the last try failed, None if it did not."""

    def may_try(self) -> bool:
        """Return whether the caller may try to connect: always while closed, else one caller every `RETRY` seconds."""
        if self.failure is None:
            return True
        now = self._clock()
        if now < self._next:
            return False
        self._next = now + RETRY
        return True

    def fail(self, failure: BaseException) -> None:
        """Open it, or keep it open."""
        self._next = self._clock() + RETRY
        self.failure = failure

    def succeed(self) -> None:
        """Close it."""
        self.failure = None
