"""The pauses and records of a worker loop while the store is away."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable

from p8fs_cluster.exceptions import LeaseLost
from p8fs_cluster.providers.storage.faults import fault_of
from p8fs_cluster.providers.storage.retries import pause

__all__ = ["Outage", "Pauses"]

log = logging.getLogger(__name__)

_FIRST, _LONGEST = 0.1, 30.0
"""Seconds of the first pause and of those that follow, each twice as long as the one before, at most."""


class Outage:
    """An outage of the store, shared by all workers of a loop: its beginning and its end are logged once."""

    def __init__(self) -> None:
        self._failures = 0
        self._lock = threading.Lock()

    def failed(self, error: BaseException) -> None:
        """Note a job that failed for the store's sake."""
        with self._lock:
            self._failures += 1
            is_first = self._failures == 1
        if is_first:
            log.error("the store does not answer, and the work is tried again until it does: %s", error)

    def succeeded(self) -> None:
        """Note a job that was done."""
        with self._lock:
            failures, self._failures = self._failures, 0
        if failures:
            log.info("the store answers again: jobs that had failed meanwhile: %d", failures)


class Pauses:
    """The pauses of one worker.

    >>> from p8fs_cluster import StorageUnavailable
    >>> pauses = Pauses(Outage(), every=1.0, chance=lambda: 1.0)
    >>> pauses.after_success()
    1.0
    >>> logging.disable()
    >>> [pauses.after_error(StorageUnavailable("refused")) for _ in range(11)][::5], pauses.after_error(ValueError())
    ([0.1, 3.2, 30.0], None)
    >>> logging.disable(logging.NOTSET)
    """

    def __init__(self, outage: Outage, every: float, chance: Callable[[], float] | None = None) -> None:
        self._outage = outage
        self._every = every
        self._chance = chance or (lambda: random.uniform(0.5, 1))  # noqa: S311 — workers shall not meet again
        self._failures = 0

    def after_success(self) -> float:
        """Return the seconds to pause after a job that was done."""
        self._failures = 0
        self._outage.succeeded()
        return self._every

    def after_error(self, exc: BaseException) -> float | None:
        """Return the seconds to pause after a job that failed; None: not for the store's sake, so the loop ends."""
        if isinstance(exc, LeaseLost):  # others lead now, or this process does again
            log.warning("the work is tried again, as its lease was lost: %s", exc)
            return self._every
        told = fault_of(exc)
        if told is None:
            return None
        self._outage.failed(told.error)
        self._failures += 1
        return pause(_FIRST, self._failures - 1, self._chance, longest=_LONGEST)
