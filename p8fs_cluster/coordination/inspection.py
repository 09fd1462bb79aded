"""The leases as an operator sees them, and changes them by hand. Nothing here makes a table."""

from __future__ import annotations

import difflib
from typing import Any, NamedTuple

from p8fs_cluster.coordination.coordinator import Connected
from p8fs_cluster.coordination.lease_rows import NAMES, key_of, patiently
from p8fs_cluster.coordination.times import MICRO
from p8fs_cluster.exceptions import CoordinationError
from p8fs_cluster.providers.storage.leases import TABLE, Busy

__all__ = [
    "BLOCKED",
    "FREE",
    "HELD",
    "Lease",
    "NoSuchLease",
    "ask_to_resign",
    "lease_of",
    "leases",
    "now",
    "release",
    "require_known",
]

HELD, FREE, BLOCKED = "held", "free", "blocked"
"""The states of a lease. Blocked: its row was deleted by hand, and its holder may believe in it for one ttl yet."""

_COLUMNS = "name, holder, fence, expires_at - $now, owner, resign, $now - acquired_at"
_AS_SEEN = "name = %s AND fence = %s AND holder IS NOT NULL AND expires_at > $now"


class NoSuchLease(CoordinationError):
    """There never was a lease of this name; the message has names like it."""


class Lease(NamedTuple):
    """A lease as the database has it, its times by the database's clock."""

    name: str
    state: str
    owner: str
    """The present holder, or the last one."""
    fence: int
    seconds_left: float | None
    """None: it is free."""
    age: float | None
    """Seconds since it was granted; None: it is free."""
    resigning: bool
    """True if its holder is asked to give it up."""


def now(connected: Connected, seconds: float) -> float:
    """Return the time of the database, in seconds since 1970.

    :raises StorageError: the store can't be reached.
    """
    [(at,)] = connected.store.execute("SELECT $now", (), seconds)
    return float(at) / MICRO


def leases(connected: Connected, kind: str, seconds: float, *, held: bool = False) -> list[Lease]:
    """Return the leases of a kind by name; `held`: without those that are free.

    :raises NoTable: the tables are not there.
    :raises StorageError: the store can't be reached.
    """
    only = " AND holder IS NOT NULL AND expires_at > $now" if held else ""
    sql = f"SELECT {_COLUMNS} FROM {TABLE} WHERE name > %s AND name < %s{only} ORDER BY name"
    return [_lease(row) for row in connected.store.execute(sql, (f"{kind}:", f"{kind};"), seconds)]


def lease_of(connected: Connected, kind: str, name: str, seconds: float) -> Lease:
    """Return one lease.

    :raises NoSuchLease: there is none of this name.
    :raises StorageError: the store can't be reached.
    """
    rows = connected.store.execute(f"SELECT {_COLUMNS} FROM {TABLE} WHERE name = %s", (key_of(kind, name),), seconds)
    if not rows:
        require_known(connected, (kind,), name, seconds)
        raise NoSuchLease(f"the row of the {kind} {name!r} was deleted; who uses it next makes it again")
    return _lease(rows[0])


def require_known(connected: Connected, kinds: tuple[str, ...], name: str, seconds: float) -> None:
    """Return if there ever was a lease of this name, of one of the kinds.

    :raises NoSuchLease: there was none; the message has names like it.
    """
    known: set[str] = set()
    for kind in kinds:
        sql = f"SELECT name FROM {NAMES} WHERE name > %s AND name < %s"
        rows = connected.store.execute(sql, (f"{kind}:", f"{kind};"), seconds)
        known.update(key.partition(":")[2] for (key,) in rows)
    if name not in known:
        near = difflib.get_close_matches(name, sorted(known), cutoff=0.5)
        hint = f"; did you mean {' or '.join(near)}?" if near else "" if known else "; there is none at all"
        raise NoSuchLease(f"{name}: there is no such {' or '.join(kinds)}{hint}")


def release(connected: Connected, lease: Lease, seconds: float) -> bool:
    """Free a lock as it was seen, so that its holder loses it; False: it has changed hands, or was free, meanwhile.

    The fence grows: from now on no guard lets the holder's writes through, and its next renewal tells it.

    :raises Busy: a guarded transaction of its holder was under way all the time.
    :raises StorageError: the store can't be reached.
    """
    fence, others = "$greatest(fence + 1, $ms)", "holder = NULL, expires_at = $now, resign = 0"
    key, update = key_of("lock", lease.name), connected.store.update
    try:
        found = patiently(lambda: update(fence, others, _AS_SEEN, (key, lease.fence), seconds, announce=True), seconds)
    except Busy as exc:
        raise Busy(f"{key}: a transaction of its holder has the row locked, try again: {exc}") from exc
    return found is not None


def ask_to_resign(connected: Connected, lease: Lease, seconds: float) -> bool:
    """Ask a leader, as it was seen, to give up at its next renewal; False: another one leads meanwhile, or nobody.

    :raises StorageError: the store can't be reached.
    """
    parameters, update = (key_of("leader", lease.name), lease.fence), connected.store.update
    found = patiently(lambda: update("fence", "resign = fence", _AS_SEEN, parameters, seconds), seconds)
    return found is not None


def _lease(row: tuple[Any, ...]) -> Lease:
    key, holder, fence, left, owner, resign, age = row
    free = holder is None or left <= 0
    state = FREE if free else HELD if holder else BLOCKED
    seconds_left, since = (None, None) if free else (left / MICRO, age / MICRO if holder else None)
    return Lease(key.partition(":")[2], state, owner, fence, seconds_left, since, not free and resign == fence)
