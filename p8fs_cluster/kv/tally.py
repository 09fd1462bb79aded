"""The numbers of the key-value store in one process."""

from __future__ import annotations

import itertools
import threading
import weakref
from collections import Counter

from p8fs_cluster.forking import Stage, after_fork
from p8fs_cluster.providers.storage.observability import Instruments

__all__ = ["INSTRUMENTS", "Tally"]

INSTRUMENTS = Instruments(
    "p8fs.kv.name",
    (
        ("counter", "p8fs.kv.calls", "{call}", {"calls": ""}),
        ("counter", "p8fs.kv.errors", "{call}", {"errors": ""}),
        ("counter", "p8fs.kv.conflicts", "{conflict}", {"conflicts": ""}),
        ("counter", "p8fs.kv.swept", "{key}", {"swept": ""}),
    ),
)


class Tally:
    """Counts: `calls` to the store, `errors` of these, `conflicts` of atomic calls, keys `swept`.

    >>> tally = Tally()
    >>> tally.call()
    0
    >>> tally.counts()
    {'calls': 1, 'errors': 0, 'conflicts': 0, 'swept': 0}
    """

    def __init__(self) -> None:
        self._counts: Counter[str] = Counter()
        self._calls, self._reads = itertools.count(), 0
        self.call = self._calls.__next__
        """Counts a call and returns a number that grows: one step of the interpreter, so it takes no lock."""
        self.renew_lock()
        _all.add(self)

    def renew_lock(self) -> None:
        """Begin with a lock that nobody holds."""
        self._lock = threading.Lock()

    def add(self, name: str, count: int = 1) -> None:
        """Count one more, or several."""
        with self._lock:
            self._counts[name] += count

    def counts(self) -> dict[str, int]:
        """Return all counts so far."""
        with self._lock:
            calls = self.call() - self._reads
            self._reads += 1
        return {"calls": calls, **{name: self._counts[name] for name in ("errors", "conflicts", "swept")}}


_all: weakref.WeakSet[Tally] = weakref.WeakSet()


def _after_fork() -> None:
    for tally in tuple(_all):
        tally.renew_lock()


after_fork(Stage.LOCKS, _after_fork)
