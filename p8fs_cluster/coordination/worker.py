"""A thread that does what is due, one thing after the other, and ends with its owner."""

from __future__ import annotations

import heapq
import itertools
import logging
import threading
from collections.abc import Callable

from p8fs_cluster.coordination.clock import Clock

__all__ = ["Due", "Worker"]

log = logging.getLogger("p8fs_cluster.coordination")

_COMPACT = 1000
"""Actions to come from which on cancelled ones are dropped."""


class Due:
    """An action that is to come. Cancelled, it does not."""

    __slots__ = ("_action", "_dropped")

    def __init__(self, action: Callable[[], object], dropped: Callable[[], object] | None = None) -> None:
        self._action: Callable[[], object] | None = action
        self._dropped = dropped

    def cancel(self) -> None:
        """Let it not run, if it has not begun."""
        self._action = None

    @property
    def is_cancelled(self) -> bool:
        """Return whether nothing is to be done any more."""
        return self._action is None

    def drop(self) -> None:
        """Tell who waits for it that it does not come."""
        if self._action is not None and self._dropped is not None:
            self._dropped()
        self._action = None

    def run(self) -> None:
        action, self._action = self._action, None
        if action is not None:
            action()


class Worker:
    """Runs actions at their times, in a daemon thread that the first of them starts."""

    def __init__(self, name: str, clock: Clock) -> None:
        self._name = f"p8fs-cluster {name}"
        self._clock = clock
        self._changed = threading.Condition()
        self._due: list[tuple[float, int, Due]] = []
        self._numbers = itertools.count()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._compact_at = _COMPACT

    def at(self, when: float, action: Callable[[], object], dropped: Callable[[], object] | None = None) -> Due:
        """Run an action at a time of the clock; after `close` never, and call `dropped` in its place."""
        due = Due(action, dropped)
        with self._changed:
            closed = self._closed
            if not closed:
                self._drop_cancelled()
                heapq.heappush(self._due, (when, next(self._numbers), due))
                if self._thread is None:
                    self._thread = threading.Thread(target=self._run, name=self._name, daemon=True)
                    self._thread.start()
                if self._due[0][2] is due:  # else the thread waits for something sooner: short locks wake nobody
                    self._changed.notify()
        if closed:
            due.drop()
        return due

    def soon(self, action: Callable[[], object], dropped: Callable[[], object] | None = None) -> Due:
        """Run an action after those that are due before, as `at` does."""
        return self.at(self._clock.now(), action, dropped)

    def close(self, seconds: float) -> None:
        """End when what runs has ended, and wait for that so long; what is to come does not."""
        with self._changed:
            self._closed = True
            left, self._due = self._due, []
            self._changed.notify()
            thread = self._thread
        for _, _, due in left:
            due.drop()
        if thread is not None and thread is not threading.current_thread():
            thread.join(seconds)

    def _drop_cancelled(self) -> None:
        """Keep the heap small where most actions are cancelled, such as the renewals of short locks."""
        if len(self._due) >= self._compact_at:
            first = self._due[0]
            self._due = [entry for entry in self._due if entry is first or not entry[2].is_cancelled]
            heapq.heapify(self._due)
            self._compact_at = max(_COMPACT, 2 * len(self._due))

    def _run(self) -> None:
        while (due := self._next()) is not None:
            try:
                due.run()
            except Exception:
                log.exception("%s: unexpected", self._name)
            del due  # or a finished action would keep its lease referenced

    def _next(self) -> Due | None:
        with self._changed:
            while not self._closed:
                if not self._due:
                    self._clock.wait(self._changed, None)
                elif self._due[0][0] > self._clock.now():
                    self._clock.wait(self._changed, self._due[0][0])
                else:
                    return heapq.heappop(self._due)[2]
        return None
