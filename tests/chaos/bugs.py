"""Bugs that others have had, each as a change of our code: the checker has to find every one of them."""

# ruff: noqa: PLR0917  (the parameters are those of what is replaced)

from __future__ import annotations

import importlib
import socket
import time
from collections.abc import Callable, Sequence
from typing import Any

from p8fs_cluster.coordination.clock import BOOTTIME
from p8fs_cluster.coordination.coordinator import Coordinator
from p8fs_cluster.coordination.holding import Holding
from p8fs_cluster.coordination.lease_rows import LeaseRows
from p8fs_cluster.coordination.terms import Term, Timing, Token
from p8fs_cluster.exceptions import StorageError
from p8fs_cluster.providers.storage.leases import TABLE, Run, Spelling, Stamp

__all__ = ["SEEDED"]

Change = Callable[[Any, str, Any], None]
"""Sets an attribute of something: `setattr`, or that of pytest's monkeypatch, which takes it back."""


def flag(change: Change) -> None:
    """Believe until a renewal tells otherwise, in place of up to a deadline."""
    change(Term, "is_held", lambda term, now: term.ended is None)
    change(Term, "renew", lambda term, sent_at, now, deadline: term.ended is None)
    change(Holding, "_watch", lambda holding, term: None)


def same_token(change: Change) -> None:
    """Give the next holder the token of the last one."""

    def acquire(rows: Any, key: str, holder: str, timing: Timing, owner: str, seconds: float) -> Token | None:
        others = "holder = %s, expires_at = $now + %s, owner = %s, resign = 0, waiting_until = 0"
        where = "name = %s AND (holder IS NULL OR holder = %s OR expires_at <= $now)"
        parameters = (holder, round(timing.ttl * 1e6), owner, key, holder)
        stamp = rows._store.update("fence", others, where, parameters, seconds)
        return None if stamp is None else Token(stamp.timeline, stamp.fence)

    change(LeaseRows, "acquire", acquire)


def client_clock(change: Change) -> None:
    """Count by the clock of whoever asks, in place of the database's."""
    spell = Spelling.__call__
    change(
        Spelling, "__call__", lambda spelling, text: spell(spelling, text.replace("$now", str(int(time.time() * 1e6))))
    )


def release_by_name(change: Change) -> None:
    """End whatever lease there is under the name."""

    def release(rows: Any, key: str, holder: str, fence: int, seconds: float, announce: bool) -> bool:
        others = "holder = NULL, expires_at = $now"
        return rows._store.update("fence", others, "name = %s", (key,), seconds, announce=announce) is not None

    change(LeaseRows, "release", release)


def renew_by_name(change: Change) -> None:
    """Extend whatever lease there is under the name."""

    def renew(rows: Any, key: str, holder: str, fence: int, timing: Timing, seconds: float) -> bool:
        others, where = "expires_at = $now + %s", "name = %s AND expires_at > $now"
        return rows._store.update("fence", others, where, (round(timing.ttl * 1e6), key), seconds) is not None

    change(LeaseRows, "renew", renew)


def deadline_from_reply(change: Change) -> None:
    """Count the deadline from when the reply came."""
    init, renew = Term.__init__, Term.renew

    def begin(term: Term, timing: Timing, token: Token, sent_at: float) -> None:
        init(term, timing, token, BOOTTIME.now())

    change(Term, "__init__", begin)
    change(Term, "renew", lambda term, sent_at, now, deadline: renew(term, now, now, deadline))


def host_name(change: Change) -> None:
    """Take the host's name for the holder's."""
    init = Holding.__init__

    def named(self: Holding, coordinator: Coordinator, key: str, timing: Timing) -> None:
        init(self, coordinator, key, timing)
        self.holder = socket.gethostname()[:36]

    change(Holding, "__init__", named)


def kept_after_rollback(change: Change) -> None:
    """Believe what a statement returned, though its transaction was not committed."""
    acquire = LeaseRows.acquire

    def believed(rows: Any, *args: Any) -> Token | None:
        found: list[Token | None] = []

        def work(run: Run) -> None:
            found.append(acquire(LeaseRows(_InTransaction(run)), *args))  # type: ignore[arg-type]

        try:
            rows._store.transact(work, args[-1])
        except StorageError:
            if not found:
                raise
        return found[-1]

    change(LeaseRows, "acquire", believed)


class _InTransaction:
    """A store whose statements are committed later, if they are; PostgreSQL's."""

    def __init__(self, run: Run) -> None:
        self._run = run

    def update(self, fence: str, others: str, where: str, parameters: Sequence[Any], seconds: float) -> Stamp | None:
        rows = self._run(f"UPDATE {TABLE} SET fence = {fence}, {others} WHERE {where} RETURNING fence", parameters)
        return Stamp(rows[0][0], 1) if rows else None


def affected_rows(change: Change) -> None:
    """Be elected where the number of rows is not 0: MySQL's protocol may count those found, changed or not."""
    tidb, acquire = _store_of("tidb"), LeaseRows.acquire

    def elected(rows: Any, key: str, holder: str, timing: Timing, owner: str, seconds: float) -> Token | None:
        if not isinstance(rows._store, tidb):
            return acquire(rows, key, holder, timing, owner, seconds)
        parameters = (holder, holder, holder, holder, round(timing.ttl * 1e6), key)
        with rows._store._direct.connection(seconds) as connection:
            if not rows._store._cursor(connection, _UPSERT, parameters).rowcount:
                return None
            [(fence,)] = rows._store._run(connection, f"SELECT fence FROM {TABLE} WHERE name = %s", (key,))
        return Token(0, fence)

    change(LeaseRows, "acquire", elected)


_UPSERT = f"""UPDATE {TABLE} SET
    holder = IF(holder IS NULL OR holder = %s OR expires_at <= $now, %s, holder),
    fence = IF(holder = %s, fence + 1, fence), expires_at = IF(holder = %s, $now + %s, expires_at)
    WHERE name = %s"""


def _store_of(provider: str) -> Any:
    """Return the class of an engine's stores."""
    return importlib.import_module(f"p8fs_cluster.providers.storage.{provider}.leases")._Store


SEEDED: dict[str, Callable[[Change], None]] = {
    function.__name__: function
    for function in (
        flag, same_token, client_clock, release_by_name, renew_by_name, deadline_from_reply, host_name,
        kept_after_rollback, affected_rows,
    )
}  # fmt: skip
"""Name → what seeds it. `kept_after_rollback` is for PostgreSQL, `affected_rows` for MySQL's protocol."""
