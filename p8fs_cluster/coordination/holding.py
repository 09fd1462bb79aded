"""One claim to a lease: taking it, keeping it by renewals, and knowing when it is over. Any thread may ask."""

from __future__ import annotations

import functools
import logging
import random
import threading
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager

from p8fs_cluster.coordination.coordinator import Connected, Coordinator
from p8fs_cluster.coordination.lease_rows import LeaseRows, patiently
from p8fs_cluster.coordination.terms import Term, Timing
from p8fs_cluster.coordination.work import Work
from p8fs_cluster.coordination.worker import Due
from p8fs_cluster.exceptions import CoordinationError, LeaseLost, StorageError
from p8fs_cluster.providers.storage.leases import Busy, NoTable

__all__ = ["Holding"]

log = logging.getLogger("p8fs_cluster.coordination")

RESIGN = "an operator asks its holder to give it up"
_RELEASED = "it was released"
_CLOSED = "its container is closed"
_FORKED = "it is that of the process that this one was forked from"
_LEVELS = {_CLOSED: logging.INFO}
"""Reason for the loss of a lease → the level of that record, where it is no surprise."""
_TOO_LATE = 0.05
"""Seconds after which a lease that has ended is looked at again: those who wait spread over them."""


class Holding:
    """The lease of one elector, whose UUID is no other's: not a name, a host or a pod."""

    def __init__(self, coordinator: Coordinator, key: str, timing: Timing) -> None:
        self.coordinator = coordinator
        self.key = key
        self.timing = timing
        self.holder = str(uuid.uuid4())
        self.owner = coordinator.owner
        """Returns who holds it, for people."""
        self.term: Term | None = None
        self.on_end: Callable[[Term], None] = _nothing
        """Called once when a term is lost, by a thread that must not wait."""
        self.on_missed: Callable[[Exception], None] = _nothing
        """Called when a renewal fails, by a thread that must not wait."""
        self.on_release: Callable[[Term], None] = _nothing
        """Called when a term was given up, by the thread that did so."""
        self._ending = threading.Lock()
        self._next: list[Due] = []
        coordinator.ending.add(self)

    @property
    def is_held(self) -> bool:
        """Return whether the lease may be believed in now."""
        term = self.term
        return term is not None and term.is_held(self.coordinator.clock.now())

    def watch(self, term: Term, watcher: Callable[[], object]) -> None:
        """Call when a term is lost, at once if it is."""
        with self._ending:
            if term.ended is None:
                term.watchers.append(watcher)
                return
        if term.lost:
            watcher()

    def require(self) -> Term:
        """Return the term that is believed in.

        :raises LeaseLost: there is none.
        """
        term = self.term
        if term is None:
            raise LeaseLost(f"{self.key}: it was never acquired")
        if not term.is_held(self.coordinator.clock.now()):
            raise self.over(term)
        return term

    def over(self, term: Term) -> LeaseLost:
        """Return the error for a term that is over."""
        why = term.ended or term.overdue
        return LeaseLost(f"{self.key}: the lease {tuple(term.token)} is over: {why}")

    def attempt(self, seconds: float, first: bool = True, holder: str | None = None) -> float | None:
        """Try to take the lease; None: it is held now. Else return the seconds after which to try again, at the latest.

        `first`: try at once; later attempts look first, as a lease that is held is the rule then. `holder`: the one
        that began to wait, for which nothing is taken when that was abandoned; None: the one of now.

        :raises TablesMissing: there are no tables, and they may not be made here.
        :raises StorageError: the store can't be reached.
        """
        holder = holder or self.holder

        def attempted(connected: Connected) -> float | None:
            self.coordinator.check(self.timing)
            try:
                return self._attempt(connected, seconds, first, holder)
            except Busy:
                return self.timing.interval * random.uniform(0.1, 0.5)  # noqa: S311

        return self.coordinator.ask(attempted, seconds)

    def _attempt(self, connected: Connected, seconds: float, first: bool, holder: str) -> float | None:
        if first and self._take(connected, seconds, holder):
            return None
        leases = connected.leases
        found = leases.look(self.key, seconds)
        if found is None or (found.is_free and self.key not in self.coordinator.noted):
            leases.create(self.key, self.timing.ttl, seconds)
            found = leases.look(self.key, seconds)
        open_to_us = found is not None and (found.is_free or found.holder == holder)
        if open_to_us and self._take(connected, seconds, holder):
            return None
        if self.coordinator.engine.announces:
            leases.wait_for(self.key, self.timing.ttl, seconds)
        left = self.timing.interval if found is None or open_to_us else max(found.left, 0.0)
        return min(left + random.uniform(0.001, _TOO_LATE), self.timing.interval)  # noqa: S311

    def _take(self, connected: Connected, seconds: float, holder: str) -> bool:
        timing = self.timing
        if holder != self.holder or not self._is_noted(connected, timing.ttl, seconds):
            return False
        sent_at = self.coordinator.clock.now()
        token = connected.leases.acquire(self.key, holder, timing, self.owner(), seconds)
        return token is not None and self._begin(Term(timing, token, sent_at), holder)

    def _is_noted(self, connected: Connected, ttl: float, seconds: float) -> bool:
        """Note a ttl before the lease is taken with it; False: there is nothing yet to note it at."""
        noted = self.coordinator.noted
        if noted.get(self.key, 0) < ttl:
            if not connected.leases.note_ttl(self.key, ttl, seconds):
                return False
            noted[self.key] = ttl
        return True

    def _begin(self, term: Term, holder: str) -> bool:
        """Believe in a term from now on; False: its attempt was abandoned meanwhile."""
        if self.term is not None:  # past its deadline, and nobody has looked yet
            self.end(self.term, self.term.overdue)
        with self._ending:
            if holder != self.holder:
                return False
            self.term = term
        coordinator = self.coordinator
        coordinator.tally.begun(self.key)
        self._next = [
            coordinator.deadlines.at(term.until, functools.partial(self._watch, term)),
            coordinator.renewals.at(term.renewed_at + term.timing.interval, functools.partial(self._renew, term)),
        ]
        return True

    def _watch(self, term: Term) -> None:
        """End a term whose deadline has passed, or look again at the deadline that a renewal has brought."""
        if term.ended is not None:
            return
        if term.is_held(self.coordinator.clock.now()):
            self._next[0] = self.coordinator.deadlines.at(term.until, functools.partial(self._watch, term))
        else:
            self.end(term, term.overdue)

    def _renew(self, term: Term) -> None:
        now = self.coordinator.clock.now()
        if term.ended is not None or not term.is_held(now):
            return
        try:
            kept = self.renew(term, min(term.until - now, term.timing.interval))
        except Busy:  # by another's attempt, or a transaction that is guarded
            next_at = self.coordinator.clock.now() + term.timing.interval / 10
        except Exception as exc:  # whatever it is, the next renewal may come through
            log.warning("%s: a renewal failed, the lease is believed in until it is %.1f s old: %s",
                        self.key, term.timing.deadline, exc)  # fmt: skip
            self.coordinator.tally.missed()
            self.on_missed(exc)
            next_at = self.coordinator.clock.now() + term.timing.interval / 5
        else:
            next_at = term.renewed_at + term.timing.interval
            if not kept:
                return
        self._next[1] = self.coordinator.renewals.at(next_at, functools.partial(self._renew, term))

    def renew(self, term: Term, seconds: float, timing: Timing | None = None) -> bool:
        """Renew the lease now, in the thread of renewals, perhaps with another timing; False: it is over.

        :raises StorageError: the store can't be asked, so that it may be held or not.
        """
        timing = timing or term.timing
        leases = self.coordinator.connected("renewals").leases
        sent_at = self.coordinator.clock.now()
        try:
            kept = leases.renew(self.key, self.holder, term.token.fence, timing, seconds)
            why = "" if kept else self._why_over(term, leases, seconds)
        except NoTable:
            self.coordinator.table_is_gone()
            kept, why = False, "its table was deleted"
        if kept:
            now = self.coordinator.clock.now()
            if now >= term.until:  # before the term notes it by itself, which tells nobody
                self.end(term, term.overdue)
            kept = term.renew(sent_at, now, timing.deadline)
        if not kept:
            self.end(term, why)
        return kept

    def extend(self, term: Term, timing: Timing, seconds: float) -> None:
        """Renew the lease now, and from now on with another timing.

        :raises LeaseLost: it is over.
        """
        self.coordinator.check(timing)
        try:
            connected = self.coordinator.connected("renewals")
            if not self._is_noted(connected, timing.ttl, seconds):  # somebody has deleted the name
                connected.leases.create(self.key, timing.ttl, seconds)
            kept = patiently(lambda: self.renew(term, seconds, timing), seconds)
        except NoTable:
            kept = self.renew(term, seconds)  # which finds the lease gone
        if not kept:
            raise self.over(term)
        self.timing = term.timing = timing

    def _why_over(self, term: Term, leases: LeaseRows, seconds: float) -> str:
        try:
            found = leases.look(self.key, seconds)
        except StorageError as exc:  # over it is, whatever the reason
            return f"the database has refused to renew it, and can't be asked why: {exc}"
        if found is None:
            return "its row was deleted"
        if found.holder == self.holder and found.fence == term.token.fence:
            return RESIGN if found.resigning else "it had ended by the clock of the database"
        owner = found.owner if found.holder else ""  # an operator may have freed it
        return f"it was taken away: {owner or 'nobody'} has it, with the fence {found.fence}"

    def end(self, term: Term, why: str) -> None:
        """Note that a term is lost, once."""
        with self._ending:
            if not term.end(why):
                return
            watchers = tuple(term.watchers)
        self.coordinator.tally.ended(self.key)
        self.coordinator.tally.lost(self.key)
        for watcher in watchers:
            watcher()
        log.log(_LEVELS.get(why, logging.WARNING), "%s: the lease %s is lost: %s", self.key, tuple(term.token), why)
        self._cancel()
        self.on_end(term)

    def release(self, seconds: float) -> bool:
        """Give the lease up; False: it was lost before, or somebody else has it.

        :raises StorageError: the store can't be reached. The lease ends by itself then.
        """
        term = self.term
        if term is None:
            return False
        held = term.is_held(self.coordinator.clock.now())
        with self._ending:
            ours = term.end(_RELEASED, lost=False)
        if ours:
            self.coordinator.tally.ended(self.key)
        self._cancel()
        leases = self.coordinator.connected("calls").leases
        announce = self.coordinator.engine.announces
        try:
            holder, fence = self.holder, term.token.fence
            found = patiently(lambda: leases.release(self.key, holder, fence, seconds, announce), seconds)
        except NoTable:
            found = False
        self.coordinator.wakeups.wake(self.key)
        if ours and not (held and found):
            term.lost = True
            term.ended = "it had ended before it was released" if found else "somebody else has taken it, or its row"
            self.coordinator.tally.lost(self.key)
        if ours:
            self.on_release(term)
        return held and ours and found

    def give_up(self, seconds: float) -> bool:
        """Do as `release` does, and leave it to end by itself if the store can't be reached."""
        held = self.is_held
        try:
            return self.release(seconds)
        except StorageError as exc:
            log.warning("%s: could not be released, it ends in %g s: %s", self.key, self.timing.ttl, exc)
            return held

    def abandon(self) -> None:
        """Give up what an interrupted attempt may have taken, without waiting for that.

        The next attempt is another holder's: statements that are carried out late concern none but the former one.
        """
        coordinator = self.coordinator
        with self._ending:
            holder, self.holder = self.holder, str(uuid.uuid4())
            term, self.term = self.term, None
            if term is not None and term.end(_RELEASED, lost=False):
                coordinator.tally.ended(self.key)
        self._cancel()

        def abandon() -> None:
            try:
                leases, seconds = coordinator.connected("calls").leases, self.timing.interval
                patiently(lambda: leases.abandon(self.key, holder, seconds), seconds)
            except (StorageError, CoordinationError) as exc:
                log.warning("%s: an interrupted attempt may hold it for up to %g s: %s",
                            self.key, self.timing.ttl, exc)  # fmt: skip
            coordinator.wakeups.wake(self.key)

        coordinator.calls.soon(abandon)

    @contextmanager
    def working(self, stop: Callable[[], object] | None = None) -> Iterator[None]:
        """Let the end of the container wait for a block, which runs under this lease.

        `stop` is called then, and should bring the block to its end. What takes too long loses the lease.
        """
        work = Work(self, stop or _at_will, self.cut)
        self.coordinator.work.add(work)
        try:
            yield
        finally:
            self.coordinator.work.discard(work)
            work.done()

    def cut(self) -> None:
        """Believe in the lease no longer, as its container ends; it is given up when nothing runs under it any more."""
        if self.term is not None:
            self.end(self.term, _CLOSED)

    @property
    def is_to_be_given_up(self) -> bool:
        """Return whether nobody else can have the lease yet: it is held, or was cut off."""
        return self.is_held or (self.term is not None and self.term.ended == _CLOSED)

    def close(self, seconds: float) -> None:
        """Give the lease up as its container ends, unless something still runs under it."""
        if not self.is_to_be_given_up:
            return
        if any(work.lease is self and not work.is_over for work in tuple(self.coordinator.work)):
            log.error("%s: its function runs on, although its container is closed; the lease ends in %g s",
                      self.key, self.timing.ttl)  # fmt: skip
        else:
            self.give_up(seconds)

    def forget_parent(self) -> None:
        self._ending = threading.Lock()
        self.holder = str(uuid.uuid4())
        if self.term is not None:
            self.term.end(_FORKED)

    def _cancel(self) -> None:
        for due in self._next:
            due.cancel()


def _nothing(_: object) -> None:
    """Nobody is to be told."""


def _at_will() -> None:
    """It ends by itself."""
