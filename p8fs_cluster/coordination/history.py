"""The history that the database keeps: terms of leaders, runs of schedules, entries of the ledger."""

from __future__ import annotations

import datetime
import heapq
import logging
from collections import deque
from typing import Any, NamedTuple

from p8fs_cluster.coordination.coordinator import Connected
from p8fs_cluster.coordination.holding import Holding
from p8fs_cluster.coordination.tables import EVENTS, LEDGER, RUNS
from p8fs_cluster.coordination.terms import Term
from p8fs_cluster.coordination.times import micro, moment
from p8fs_cluster.exceptions import CoordinationError, StorageError

__all__ = ["KINDS", "Event", "TermNotes", "latest"]

log = logging.getLogger("p8fs_cluster.coordination")

KINDS = ("leader", "once", "schedule")
"""The kinds of leases that have a history."""
_LEADER = "leader:"
_KEPT = 100
"""Events of each leader that are kept."""
_PENDING = 20
_PATIENCE = 1.0
"""Seconds for a statement that writes, in the thread that candidates are tried in."""
_READING = 5.0


class Event(NamedTuple):
    """Something that was done under a lease."""

    time: datetime.datetime
    """By the database's clock."""
    kind: str
    """`leader`, `once` or `schedule`."""
    name: str
    event: str
    """Of a leader `elected` or `ended`, of what is done once `done`, of a schedule `run`."""
    owner: str
    fence: int | None
    tick: datetime.datetime | None
    """The time at which the run was due."""
    ended: datetime.datetime | None
    """The end of the run; None: it goes on, or its process died."""
    detail: str | None
    """The reason for the end of a term, or the outcome of a run."""


_Placed = tuple[int, Event]
"""The place of an event among the others, in microseconds, and the event."""


class TermNotes:
    """Notes for the database on the terms of one candidate, if it is a leader's. They wait while it can't be reached,
    and nothing waits for them.
    """

    def __init__(self, holding: Holding) -> None:
        self._holding = holding
        self._pending: deque[tuple[int, str, float, str]] = deque(maxlen=_PENDING)

    def elected(self, term: Term) -> None:
        """Note that a term has begun."""
        self._note(term, "elected", "")

    def ended(self, term: Term) -> None:
        """Note that a term has ended."""
        self._note(term, "ended", term.ended or "")

    def write(self) -> None:
        """Write what waits, and leave it if the database can't be reached."""
        while self._pending:
            entry = self._pending[0]
            try:
                self._write(*entry)
            except (StorageError, CoordinationError) as exc:
                log.debug("%s: its history could not be written: %s", self._holding.key, exc)
                return
            if self._pending and self._pending[0] is entry:
                self._pending.popleft()

    def _note(self, term: Term, event: str, why: str) -> None:
        coordinator = self._holding.coordinator
        if not self._holding.key.startswith(_LEADER):
            return
        self._pending.append((term.token.fence, event, coordinator.clock.now(), why))
        if coordinator.closed:
            self.write()
        else:
            coordinator.calls.soon(self.write)

    def _write(self, fence: int, event: str, noted_at: float, why: str) -> None:
        coordinator, key = self._holding.coordinator, self._holding.key
        store = coordinator.connected("calls").store
        ago = micro(coordinator.clock.now() - noted_at)
        columns, values = "(name, fence, event, happened_at, owner, why)", "(%s, %s, %s, $now - %s, %s, %s)"
        insert = f"INSERT $ignore INTO {EVENTS} {columns} VALUES {values} $nothing"
        store.execute(insert, (key, fence, event, ago, self._holding.owner(), why), _PATIENCE)
        oldest = (
            f"SELECT happened_at FROM {EVENTS} WHERE name = %s ORDER BY happened_at DESC LIMIT 1 OFFSET {_KEPT - 1}"
        )
        for (kept,) in store.execute(oldest, (key,), _PATIENCE):
            store.execute(f"DELETE FROM {EVENTS} WHERE name = %s AND happened_at < %s", (key, kept), _PATIENCE)


def latest(connected: Connected, name: str | None, limit: int) -> list[Event]:
    """Return what was done last, under one name or all, the latest first.

    :raises NoTable: a table is not there.
    :raises StorageError: the store can't be reached.
    """
    found = [pair for read in (_terms, _done, _runs) for pair in read(connected, name, limit)]
    return [event for _, event in heapq.nlargest(limit, found, key=lambda pair: pair[0])]


def _terms(connected: Connected, name: str | None, limit: int) -> list[_Placed]:
    """Return events with the places that their fences give them: each was timed by a message that took some while."""
    select = f"SELECT name, fence, event, happened_at, owner, why FROM {EVENTS}"
    rows = _rows(connected, select, "happened_at", _key("leader", name), limit)
    placed: list[_Placed] = []
    place: dict[str, int] = {}
    for key, fence, event, at, owner, why in sorted(rows, key=lambda row: (row[0], row[1], row[2] == "ended")):
        place[key] = max(at, place.get(key, at))
        told = Event(moment(at), "leader", _name(key), event, owner, fence, None, None, why or None)
        placed.append((place[key], told))
    return placed[::-1]


def _done(connected: Connected, name: str | None, limit: int) -> list[_Placed]:
    select = f"SELECT name, done_at, owner, fence FROM {LEDGER}"
    return [
        (at, Event(moment(at), "once", _name(key), "done", owner, fence, None, None, None))
        for key, at, owner, fence in _rows(connected, select, "done_at", _key("once", name), limit)
    ]


def _runs(connected: Connected, name: str | None, limit: int) -> list[_Placed]:
    select = f"SELECT name, began_at, tick, ended_at, owner, outcome FROM {RUNS}"
    placed: list[_Placed] = []
    for key, began, tick, ended, owner, outcome in _rows(connected, select, "began_at", _key("schedule", name), limit):
        due, over = moment(micro(tick)), None if ended is None else moment(ended)
        placed.append((began, Event(moment(began), "schedule", _name(key), "run", owner, None, due, over, outcome)))
    return placed


def _rows(connected: Connected, select: str, order: str, key: str | None, limit: int) -> list[tuple[Any, ...]]:
    where, parameters = ("", ()) if key is None else (" WHERE name = %s", (key,))
    return connected.store.execute(f"{select}{where} ORDER BY {order} DESC LIMIT %s", (*parameters, limit), _READING)


def _key(kind: str, name: str | None) -> str | None:
    return None if name is None else f"{kind}:{name}"


def _name(key: str) -> str:
    return key.partition(":")[2]
