"""A candidate for a lease that it wants again and again; it is tried for in the coordinator's thread."""

from __future__ import annotations

import logging
import random
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from typing import Protocol

from p8fs_cluster.coordination.coordinator import Coordinator
from p8fs_cluster.coordination.functions import name_of
from p8fs_cluster.coordination.history import TermNotes
from p8fs_cluster.coordination.holding import RESIGN, Holding
from p8fs_cluster.coordination.terms import Term, Timing
from p8fs_cluster.coordination.worker import Due
from p8fs_cluster.exceptions import CoordinationError, StorageError

__all__ = ["Callback", "Candidacy", "follow", "watched"]

log = logging.getLogger("p8fs_cluster.coordination")

_OUTAGE = 1.0
"""Most seconds between two attempts while the store can't be reached."""

Callback = Callable[..., object]


class Candidacy:
    """One process's candidacy under a name: waits for the lease, leads, and stands again when a term was lost."""

    def __init__(self, coordinator: Coordinator, key: str, timing: Timing) -> None:
        self.coordinator = coordinator
        self.holding = Holding(coordinator, key, timing)
        self.holding.on_end = self._ended
        self.holding.on_missed = lambda exc: self._tell(self.missed, exc)
        self._notes = TermNotes(self.holding)
        self.holding.on_release = self._notes.ended
        self.elected: list[Callable[[Term], None]] = [self._notes.elected]
        self.lost: list[Callable[[Term], None]] = []
        self.missed: list[Callable[[Exception], None]] = []
        self.changed: list[Callable[[], object]] = []
        """Called after each attempt, and at each end, by a thread that must not wait."""
        self.fault: Exception | None = None
        """The fault of the last attempt, None if it had none: somebody else may lead then."""
        self._tries = 0
        self._rests_until = 0.0
        self._standing = False
        self._listening = False
        self._first = True
        self._due: Due | None = None
        self._lock = threading.Lock()
        coordinator.candidacies[key] = self

    @property
    def is_standing(self) -> bool:
        """Return whether it tries, or leads."""
        return self._standing and not self.coordinator.closing

    @property
    def was_tried(self) -> bool:
        """Return whether there was an attempt since it stands."""
        return self._tries > 0

    def stand(self) -> None:
        """Begin to try, unless it does."""
        self.coordinator.require_open()
        with self._lock:
            if self._standing:
                return
            self._standing, self._first, self._tries = True, True, 0
        self._plan(0)

    def withdraw(self, seconds: float) -> None:
        """Try no longer, and give up the lease if it is held."""
        with self._lock:
            if not self._standing:
                return
            self._standing = False
        self._listen(False)
        self._give_up(seconds)

    def resign(self, seconds: float) -> None:
        """Give up the lease, and leave it to others for one ttl before trying again."""
        self._rest()
        self._give_up(seconds)

    def _was_withdrawn(self) -> bool:
        """Return whether it was withdrawn while it was tried."""
        return not self.is_standing

    def _give_up(self, seconds: float) -> None:
        term, was_held = self.holding.term, self.holding.is_held
        if term is not None and self.holding.is_to_be_given_up:
            self.holding.give_up(seconds)
            if was_held:  # else it is told already
                self._tell(self.lost, term)
        self._tell_changed()

    def _rest(self) -> None:
        """Leave it to others for one ttl."""
        ttl = self.holding.timing.ttl
        self._rests_until = self.coordinator.clock.now() + ttl
        self._plan(ttl)

    def _listen(self, waiting: bool) -> None:
        """Be woken when the lease may be free, as long as somebody else has it: that takes a connection."""
        with self._lock:
            if self._listening is waiting:
                return
            self._listening = waiting
        wakeups = self.coordinator.wakeups
        (wakeups.add if waiting else wakeups.remove)(self.holding.key, self._wake)

    def _plan(self, seconds: float) -> None:
        with self._lock:
            if self._due is not None:
                self._due.cancel()
            if self._standing:
                self._due = self.coordinator.calls.at(self.coordinator.clock.now() + seconds, self._try)

    def _wake(self) -> None:
        """Try at once, unless it is left to others, or held; at the end of the container tell those who wait."""
        if self.coordinator.closing:
            self._tell_changed()
            return
        rests = self.coordinator.clock.now() < self._rests_until
        if not (rests or self.holding.is_held) and self._tries:
            self._plan(0)

    def _try(self) -> None:
        holding = self.holding
        if not self.is_standing or holding.is_held:
            return
        interval = holding.timing.interval
        try:
            pause = holding.attempt(interval, self._first)
        except Exception as exc:  # whatever it is, a standby that tries no longer would be missed when it is needed
            if self.fault is None:
                ours = isinstance(exc, StorageError | CoordinationError)
                log.warning("%s: nobody can be elected here: %s", holding.key, exc, exc_info=None if ours else exc)
            self.fault, pause = exc, min(interval, _OUTAGE)
        else:
            self.fault, self._first = None, False
            self._notes.write()
        self._tries += 1
        self._listen(pause is not None and self.is_standing)
        if pause is not None:
            self._plan(pause)
        elif self._was_withdrawn():
            holding.give_up(interval)
        elif (term := holding.term) is not None:
            log.info("%s: elected, with the token %s", holding.key, tuple(term.token))
            self._tell(self.elected, term)
        self._tell_changed()

    def _ended(self, term: Term) -> None:
        """Stand again: soon, or after one ttl if an operator wants others to lead."""
        interval = self.holding.timing.interval
        self._notes.ended(term)
        if term.ended == RESIGN:
            self.holding.abandon()
            self._rest()
        else:
            self._plan(interval * random.uniform(0.1, 0.5))  # noqa: S311
        self._tell(self.lost, term)
        self._tell_changed()

    def _tell(self, told: list[Callable[..., None]], argument: object) -> None:
        for each in tuple(told):
            each(argument)

    def _tell_changed(self) -> None:
        for each in tuple(self.changed):
            each()


@contextmanager
def watched(holding: Holding, term: Term, fn: object) -> Iterator[None]:
    """Tell the operator, again and again, of a function that runs on when its term is over."""
    clock, deadlines, timing = holding.coordinator.clock, holding.coordinator.deadlines, holding.timing
    running = True

    def look() -> None:
        if not running:
            return
        now = clock.now()
        if term.is_held(now):
            deadlines.at(term.until + timing.interval, look)
        else:
            log.error("%s: %s runs on, although its term ended %.1f s ago: let it ask is_leader, or wait for lost",
                      holding.key, name_of(fn), now - term.until)  # fmt: skip
            deadlines.at(now + timing.ttl, look)

    deadlines.at(term.until + timing.interval, look)
    try:
        yield
    finally:
        running = False


class _Place(Protocol):
    def tell(self, callback: Callable[..., object], argument: object) -> None: ...


def follow(
    candidacy: Candidacy, place: _Place | None, elected: Callback | None, lost: Callback | None, missed: Callback | None
) -> None:
    """Call what a user gave, from now on, where that user waits."""
    if place is None:
        return
    if elected is not None:
        candidacy.elected.append(lambda term: place.tell(elected, term.token))
    if lost is not None:
        candidacy.lost.append(lambda term: place.tell(lost, candidacy.holding.over(term)))
    if missed is not None:
        candidacy.missed.append(lambda exc: place.tell(missed, exc))
