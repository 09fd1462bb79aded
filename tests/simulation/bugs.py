"""Bugs that a test puts into the package, and that the simulation must find."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from contextlib import AbstractContextManager, ExitStack
from typing import Any
from unittest import mock

from p8fs_cluster.coordination.holding import Holding
from p8fs_cluster.coordination.lease_rows import LeaseRows
from p8fs_cluster.coordination.terms import Term, Timing
from p8fs_cluster.providers.storage.leases import Stamp
from tests.simulation.checker import BELIEF, FENCE, TOKEN
from tests.simulation.database import Connection

__all__ = ["BUGS", "renewal_by_name", "renewal_without_token"]


def flag() -> AbstractContextManager[Any]:
    """Believe until a thread notes the end, in place of comparing at each use."""
    held = property(lambda self: self.term is not None and self.term.ended is None)
    return mock.patch.object(Holding, "is_held", held)


def no_bump() -> AbstractContextManager[Any]:
    """Grant a lease with the token that it had."""
    return _updating(lambda connection, fence, others, where: ("fence", others, where))


def deadline_from_reply() -> AbstractContextManager[Any]:
    """Count the deadline from the moment at which the reply came."""
    begin, renew = Holding._begin, Term.renew

    def begun(self: Holding, term: Term, holder: str) -> bool:
        return begin(self, Term(term.timing, term.token, self.coordinator.clock.now()), holder)

    def renewed(self: Term, sent_at: float, now: float, deadline: float) -> bool:
        return renew(self, now, now, deadline)

    patches = ExitStack()
    patches.enter_context(mock.patch.object(Holding, "_begin", begun))
    patches.enter_context(mock.patch.object(Term, "renew", renewed))
    return patches


def release_by_name() -> AbstractContextManager[Any]:
    """End the lease, whoever has it."""

    def release(self: LeaseRows, key: str, *rest: object) -> bool:
        others = "holder = NULL, expires_at = $now"
        return self._store.update("fence", others, "name = %s", (key,), 1) is not None

    return mock.patch.object(LeaseRows, "release", release)


def renewal_by_name() -> AbstractContextManager[Any]:
    """Extend the lease, whoever has it."""
    return _renewing("name = %s", lambda key, holder: (key,))


def renewal_without_token() -> AbstractContextManager[Any]:
    """Extend the lease of the holder, whichever token it has been granted with."""
    return _renewing("name = %s AND holder = %s", lambda key, holder: (key, holder))


def client_clock() -> AbstractContextManager[Any]:
    """Compare and count by the clock of whoever asks."""

    def changed(connection: Connection, *texts: str) -> tuple[str, ...]:
        now = str(round(connection._machine.wall() * 1e6))
        return tuple(text.replace("$now", now) for text in texts)

    return _updating(changed)


def _renewing(whose: str, parameters: Callable[[str, str], tuple[str, ...]]) -> AbstractContextManager[Any]:
    others = "expires_at = $greatest(expires_at, $now + %s)"
    where = f"{whose} AND expires_at > $now AND resign <> fence"

    def renew(self: LeaseRows, key: str, holder: str, fence: int, timing: Timing, *rest: float) -> bool:
        given = round(timing.ttl * 1_000_000), *parameters(key, holder)
        return self._store.update("fence", others, where, given, *rest) is not None

    return mock.patch.object(LeaseRows, "renew", renew)


def _updating(changed: Callable[..., tuple[str, ...]]) -> AbstractContextManager[Any]:
    update = Connection.update

    def updated(
        self: Connection, fence: str, others: str, where: str, parameters: Sequence[Any], *rest: Any, **named: Any
    ) -> Stamp | None:
        return update(self, *changed(self, fence, others, where), parameters, *rest, **named)

    return mock.patch.object(Connection, "update", updated)


BUGS: dict[Callable[[], AbstractContextManager[Any]], set[str]] = {
    flag: {BELIEF},
    no_bump: {TOKEN, FENCE},
    deadline_from_reply: {BELIEF},
    release_by_name: {BELIEF},
    client_clock: {BELIEF},
}
"""Those that random schedules find, and all kinds of violation that they cause."""
