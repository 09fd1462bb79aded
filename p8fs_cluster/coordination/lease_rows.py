"""The statements of leases, which are the same on every engine; each is one look at the database's clock."""

from __future__ import annotations

import time
import uuid
from collections.abc import Callable
from typing import NamedTuple, TypeVar

from p8fs_cluster.coordination.terms import Timing, Token
from p8fs_cluster.coordination.times import MICRO, micro
from p8fs_cluster.exceptions import CoordinationError
from p8fs_cluster.providers.storage.leases import TABLE, Busy, LeaseStore, Run

__all__ = ["NAMES", "NODE", "Held", "LeaseRows", "key_of", "patiently"]

NODE = "node:"
"""The beginning of the keys of leases that are the presence of a process."""
NAMES = "p8fs_lease_names"
"""The names that ever had a lease, so that a row that was deleted by hand is told from one that never was."""

_LONGEST = 255
_PAUSE = 0.02
T = TypeVar("T")
_GAP = 1.6
"""Intervals between two renewals from which on there was a gap."""


def key_of(kind: str, name: object) -> str:
    """Return the key of a lease; no two names, of whatever kind, share one.

    :raises CoordinationError: it is no usable name.

    >>> key_of("lock", "invoices")
    'lock:invoices'
    """
    if not isinstance(name, str):
        raise CoordinationError(f"a name is a str, not a {type(name).__name__}: {name!r}")
    try:
        size = len(name.encode())
    except UnicodeEncodeError:
        raise CoordinationError(f"the name {name!r} is no UTF-8 text") from None
    if not name or "\0" in name or size > _LONGEST:
        raise CoordinationError(f"a name has 1 to {_LONGEST} bytes of UTF-8, and no NUL: {name[:80]!r} has {size}")
    return f"{kind}:{name}"


def patiently(call: Callable[[], T], seconds: float) -> T:
    """Return what a call returns; while somebody else has the row locked, for so many seconds, it is made again.

    :raises Busy: the row was locked all the time.
    """
    until = time.monotonic() + seconds
    while True:
        try:
            return call()
        except Busy:
            if time.monotonic() > until:
                raise
            time.sleep(_PAUSE)


class Held(NamedTuple):
    """A lease as the database has it."""

    holder: str | None
    fence: int
    left: float
    """Seconds until it ends by the database's clock; at most 0 if it has."""
    owner: str
    """The present holder, or the last one, for people."""
    resigning: bool
    """True if its holder is asked to give it up."""
    age: float
    """Seconds since it was granted."""

    @property
    def is_free(self) -> bool:
        return self.holder is None or self.left <= 0


class LeaseRows:
    """Lease rows, one statement each. A row is never deleted by us."""

    def __init__(self, store: LeaseStore) -> None:
        self._store = store

    def acquire(self, key: str, holder: str, timing: Timing, owner: str, seconds: float) -> Token | None:
        """Take a lease that is free, has ended, or is the holder's own; None: somebody else has it, or no row is there.

        Its fence is greater than any before, by the row, and if that was lost, by the database's clock. One's own never
        ends sooner than before: this may be carried out late, when it was extended.
        """
        others = (
            "healed_at = CASE WHEN holder = %s THEN $now ELSE 0 END, "
            "acquired_at = CASE WHEN holder = %s THEN acquired_at ELSE $now END, "
            "holder = %s, expires_at = $greatest(expires_at, $now + %s), ttl = %s, owner = %s, "
            "resign = 0, waiting_until = 0"
        )
        where = "name = %s AND (holder IS NULL OR holder = %s OR expires_at <= $now)"
        ttl = micro(timing.ttl)
        parameters = (holder, holder, holder, ttl, ttl, owner, key, holder)
        stamp = self._store.update("$greatest(fence + 1, $ms)", others, where, parameters, seconds)
        return None if stamp is None else Token(stamp.timeline, stamp.fence)

    def renew(self, key: str, holder: str, fence: int, timing: Timing, seconds: float) -> bool:
        """Extend the lease from now on; False: it is over, or its holder is asked to resign.

        A row tells when its renewals had a gap, and healed. The lease never ends sooner than before: a renewal with
        another ttl may be carried out late.
        """
        gap = micro(timing.ttl - _GAP * timing.interval)
        healed = "healed_at = CASE WHEN expires_at - $now < %s THEN $now ELSE healed_at END"
        others = f"{healed}, expires_at = $greatest(expires_at, $now + %s), ttl = %s"
        where = "name = %s AND holder = %s AND fence = %s AND expires_at > $now AND resign <> fence"
        ttl = micro(timing.ttl)
        return self._store.update("fence", others, where, (gap, ttl, ttl, key, holder, fence), seconds) is not None

    def release(self, key: str, holder: str, fence: int, seconds: float, announce: bool) -> bool:
        """End the lease, if it is still the holder's."""
        where = "name = %s AND holder = %s AND fence = %s"
        others = "holder = NULL, expires_at = $now"
        found = self._store.update("fence", others, where, (key, holder, fence), seconds, announce=announce)
        return found is not None

    def abandon(self, key: str, holder: str, seconds: float) -> None:
        """End whatever lease the holder may have: whether it was granted, nobody knows."""
        sql = f"UPDATE {TABLE} SET holder = NULL, expires_at = $now WHERE name = %s AND holder = %s"
        self._store.execute(sql, (key, holder), seconds)

    def look(self, key: str, seconds: float) -> Held | None:
        """Return the lease as it is; None: there is no row."""
        sql = f"SELECT holder, fence, expires_at - $now, owner, resign, $now - acquired_at FROM {TABLE} WHERE name = %s"
        rows = self._store.execute(sql, (key,), seconds)
        if not rows:
            return None
        holder, fence, left, owner, resign, age = rows[0]
        return Held(holder, fence, left / MICRO, owner, resign == fence, age / MICRO)

    def wait_for(self, key: str, period: float, seconds: float) -> None:
        """Note that somebody waits for the lease for the next seconds, unless that is noted already."""
        sql = f"UPDATE {TABLE} SET waiting_until = $now + %s WHERE name = %s AND waiting_until < $now + %s"
        self._store.execute(sql, (micro(2 * period), key, micro(period)), seconds)

    def create(self, key: str, ttl: float, seconds: float) -> None:
        """Make the row of a lease that has none. If it was deleted, it is free after a ttl: a holder may live."""
        shortest = micro(ttl)

        def make(run: Run) -> None:
            by = str(uuid.uuid4())  # of this transaction alone: who made the name before may not hold the lease now
            run(f"INSERT $ignore INTO {NAMES} (name, made_by, ttl) VALUES (%s, %s, %s) $nothing", (key, by, shortest))
            [(first, longest)] = run(f"SELECT made_by, ttl FROM {NAMES} WHERE name = %s $locking", (key,))
            holder, quarantine = (None, 0) if first == by else ("", max(longest, shortest))
            columns = "(name, holder, fence, expires_at, ttl, acquired_at, healed_at, owner, resign, waiting_until)"
            values = "(%s, %s, $ms + %s, $now + %s, 0, 0, 0, '', 0, 0)"
            parameters = (key, holder, -(-quarantine // 1000), quarantine)
            run(f"INSERT $ignore INTO {TABLE} {columns} VALUES {values} $nothing", parameters)

        self._store.transact(make, seconds)

    def note_ttl(self, key: str, ttl: float, seconds: float) -> bool:
        """Note the longest ttl under a name, for the case that its row is deleted; False: the name is not there."""
        longest = micro(ttl)
        found = self._store.execute(f"SELECT ttl FROM {NAMES} WHERE name = %s", (key,), seconds)
        if found and found[0][0] < longest:
            sql = f"UPDATE {NAMES} SET ttl = %s WHERE name = %s AND ttl < %s"
            self._store.execute(sql, (longest, key, longest), seconds)
        return bool(found)
