"""First come, first served, for a limited number at a time.

SQLAlchemy's QueuePool lets whoever is quickest take a returned connection: with five threads on three connections, two
waited until their timeout while the others were served ten thousand times.
"""

from __future__ import annotations

import threading
from collections import deque

__all__ = ["Turns"]


class Turns:
    """A semaphore that hands a permit to whoever has waited longest.

    >>> turns = Turns(1)
    >>> turns.take(0.01), turns.take(0.01)
    (True, False)
    >>> turns.give_back()
    >>> turns.take(0.01)
    True
    """

    def __init__(self, permits: int) -> None:
        self._free = permits
        self._lock = threading.Lock()
        self._queue: deque[threading.Lock] = deque()

    @property
    def waiting(self) -> int:
        """How many wait now."""
        return len(self._queue)

    def take(self, timeout: float) -> bool:
        """Wait for a permit, at most `timeout` seconds; return whether it was given."""
        with self._lock:
            if self._free and not self._queue:
                self._free -= 1
                return True
            turn = threading.Lock()
            turn.acquire()
            self._queue.append(turn)
        if turn.acquire(timeout=timeout):
            return True
        with self._lock:
            if turn in self._queue:
                self._queue.remove(turn)
                return False
        return True  # it was given between the timeout and now

    def give_back(self) -> None:
        """Return a permit; the longest waiting gets it."""
        with self._lock:
            if self._queue:
                self._queue.popleft().release()
            else:
                self._free += 1
