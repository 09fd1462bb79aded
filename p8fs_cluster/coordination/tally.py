"""Counts of leases, for metrics."""

from __future__ import annotations

import threading
from collections import Counter

__all__ = ["Tally"]


class Tally:
    """The leases that are held, the losses, and the renewals that failed; any thread may count."""

    def __init__(self) -> None:
        self.held: Counter[str] = Counter()
        """Kind → leases that are held."""
        self.losses: Counter[tuple[str, str]] = Counter()
        """Kind and name → losses; the name is empty but for leaders, as nothing bounds the number of locks."""
        self.missed_beats = 0
        self._lock = threading.Lock()

    def begun(self, key: str) -> None:
        """Count a term that begins."""
        with self._lock:
            self.held[_kind(key)] += 1

    def ended(self, key: str) -> None:
        """Count a term that ends."""
        with self._lock:
            self.held[_kind(key)] -= 1

    def lost(self, key: str) -> None:
        """Count the loss of a lease."""
        kind, _, name = key.partition(":")
        with self._lock:
            self.losses[kind, name if kind == "leader" else ""] += 1

    def missed(self) -> None:
        """Count a renewal that failed."""
        with self._lock:
            self.missed_beats += 1


def _kind(key: str) -> str:
    return key.partition(":")[0]
