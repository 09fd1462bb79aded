"""The decisions of who waits for a lease: when to try, how long to pause, when to give up. Any thread may do a step."""

from __future__ import annotations

import logging
import math

from p8fs_cluster.coordination.holding import Holding
from p8fs_cluster.exceptions import CoordinationError, StorageError
from p8fs_cluster.providers.storage.faults import fault_of

__all__ = ["Claim"]

log = logging.getLogger("p8fs_cluster.coordination")

_OUTAGE = 1.0
"""Most seconds between two attempts while the store can't be reached."""


class Claim:
    """One wait for a lease, which rides out an outage of the store as long as there is time."""

    def __init__(self, holding: Holding, timeout: float | None) -> None:
        if timeout is not None and not (isinstance(timeout, int | float) and not math.isnan(timeout)):
            raise CoordinationError(f"timeout={timeout!r}: seconds to wait at most, 0 for one attempt, None for ever")
        self._holding = holding
        self._holder = holding.holder
        self._clock = holding.coordinator.clock
        self._until = math.inf if timeout is None else self._clock.now() + timeout
        self._first = True
        self._told = False
        self._in_doubt = False
        self.granted = False

    def step(self) -> float | None:
        """Try once. None: it is decided, see `granted`; else the seconds to wait before the next step.

        :raises StorageError: the store can't be reached, and there is no time left; or it refuses a statement.
        """
        self._holding.coordinator.require_open()
        interval = self._holding.timing.interval
        left = self._until - self._clock.now()
        try:
            seconds = max(min(interval, left), interval / 3) if left > 0 else interval
            pause = self._holding.attempt(seconds, self._first, self._holder)
        except StorageError as exc:
            self._in_doubt = True
            left = self._until - self._clock.now()
            if left <= 0 or fault_of(exc) is None:
                raise
            if not self._told:
                self._told = True
                log.warning("%s: waiting for the lease, although the store can't be asked: %s", self._holding.key, exc)
            return min(interval, _OUTAGE, left)
        self._first = self._told = False
        if pause is None:
            self.granted = True
            return None
        left = self._until - self._clock.now()
        if left > 0:
            return min(pause, left)
        if self._in_doubt:  # an attempt whose answer was lost may be carried out yet
            self._holding.abandon()
        return None
