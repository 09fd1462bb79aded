"""This process's presence among the nodes, and the view of all of them, kept by those who look."""

from __future__ import annotations

import json
import logging
import uuid
from collections.abc import Mapping
from typing import Any

from p8fs_cluster.coordination.candidacy import Candidacy
from p8fs_cluster.coordination.coordinator import Coordinator
from p8fs_cluster.coordination.lease_rows import NAMES, NODE
from p8fs_cluster.coordination.tables import VIEWS
from p8fs_cluster.coordination.terms import Timing
from p8fs_cluster.coordination.times import MICRO, micro
from p8fs_cluster.coordination.views import Change, Node, Row, View, changes, next_members
from p8fs_cluster.exceptions import CoordinationError, StorageError
from p8fs_cluster.providers.storage.leases import TABLE, Run

__all__ = ["FRESH", "Roster"]

log = logging.getLogger("p8fs_cluster.coordination")

_AFTER = "node;"
_NAME = "nodes"
_FORGOTTEN = 24 * 3600 * 1_000_000
"""Microseconds after which the row of a node that is gone is deleted."""
_LONGEST = 4000
_PATIENCE = 5.0
FRESH = 0.1
"""Intervals for which those who watch believe in a check that somebody else has made, so that many cost little."""


class Roster:
    """The nodes as this process knows them."""

    def __init__(self, coordinator: Coordinator) -> None:
        self._coordinator = coordinator
        self._mine: Candidacy | None = None
        self._last: View | None = None
        self._left: set[str] = set()
        self._reads_since: float | None = None
        self._read_at = 0.0
        self.interval = Timing.of(15).interval
        """Seconds between two looks of those who watch."""

    @property
    def me(self) -> str | None:
        """The id of this process, None if it has not joined."""
        return None if self._mine is None else self._mine.holding.key.removeprefix(NODE)

    @property
    def last(self) -> View | None:
        """The last view that was read, None if nobody has asked for one."""
        return self._last

    def presence(self, timing: Timing, labels: Mapping[str, str] | None, address: str) -> Candidacy:
        """Return the candidacy for the lease that is this process's presence.

        :raises CoordinationError: it has joined already, or the labels can't be used.
        """
        if self._mine is not None and self._mine.is_standing:
            raise CoordinationError("this process has joined already, with labels and an address of that time")
        settings = self._coordinator.settings()
        about = json.dumps(
            {
                "service": settings.service_name,
                "version": settings.service_version,
                "pod": settings.pod,
                "address": address,
                "labels": _labels(labels),
            }
        )
        if len(about) > _LONGEST:
            raise CoordinationError(f"labels and address have {len(about)} characters as JSON, {_LONGEST} at most")
        self._mine = mine = Candidacy(self._coordinator, NODE + str(uuid.uuid4()), timing)
        mine.holding.owner = lambda: about
        self.interval = timing.interval
        return mine

    def leave(self) -> None:
        """End this process's presence, if it has joined."""
        mine, self._mine = self._mine, None
        if mine is not None:
            mine.withdraw(self.interval)
            self._coordinator.candidacies.pop(mine.holding.key, None)

    def view(self, quick: bool = False) -> View:
        """Return the nodes as they are; the last view, marked as stale, while the database can't be asked.

        `quick`: one that somebody has checked just now will do.

        :raises StorageError: it can't be asked, and could not before.
        """
        try:
            return self._read(quick)
        except StorageError as exc:
            self._reads_since = None
            if self._last is None:
                raise
            if not self._last.stale:
                log.warning("the nodes can't be asked for, their last view is kept: %s", exc)
            self._last = self._last.aged()
            return self._last

    def changes(self, before: View) -> tuple[View, list[Change]]:
        """Return the view now, and who came and went since another one."""
        after = self.view(quick=True)
        return after, changes(before, after, self._left)

    def _read(self, quick: bool) -> View:
        view = self._last if quick and self._is_fresh() else None
        if view is None:
            view = self._coordinator.ask(lambda connected: connected.store.transact(self._checked, _PATIENCE))
        now = self._coordinator.clock.now()
        if self._reads_since is None or now - self._read_at > 2 * self.interval:
            self._reads_since = now
        self._read_at = now
        self._last = view
        return view

    def _is_fresh(self) -> bool:
        """Return whether somebody has just checked that the last view of this process is still the last of all."""
        if self._last is None or self._last.stale or self._last.me != self.me:
            return False
        sql = f"SELECT 1 FROM {VIEWS} WHERE name = %s AND number = %s AND checked_at > $now - %s"
        parameters = (_NAME, self._last.number, micro(self.interval * FRESH))
        return bool(self._coordinator.ask(lambda connected: connected.store.execute(sql, parameters, _PATIENCE)))

    def _checked(self, run: Run) -> View:
        """Read all nodes, and number a new view if they are others; who looks at the same time, waits."""
        run(f"INSERT $ignore INTO {VIEWS} (name, number, members, changed_at, checked_at) "
            "VALUES (%s, 0, '[]', $now, $now) $nothing", (_NAME,))  # fmt: skip
        [(number, text)] = run(f"SELECT number, members FROM {VIEWS} WHERE name = %s $locking", (_NAME,))
        [(now,)] = run("SELECT $now", ())
        rows = _rows(run)
        old = json.loads(text)
        members, stale = next_members(old, rows.values(), now, self._is_witness(rows))
        if members != old:
            number += 1
            run(f"UPDATE {VIEWS} SET number = %s, members = %s, changed_at = $now WHERE name = %s",
                (number, json.dumps(members), _NAME))  # fmt: skip
            self._forget(run)
        if not stale:
            run(f"UPDATE {VIEWS} SET checked_at = $now WHERE name = %s", (_NAME,))
        self._left = {row.id for row in rows.values() if row.holder is None}
        return View(number, tuple(Node.of(rows[id_]) for id_ in members if id_ in rows), stale, self.me)

    def _is_witness(self, rows: Mapping[str, Row]) -> bool:
        """Return whether this process could read all the time that a node needs to be lost."""
        longest = max((row.ttl for row in rows.values()), default=0) / MICRO
        now = self._coordinator.clock.now()
        steady = self._reads_since is not None and now - self._read_at <= 2 * self.interval
        return steady and now - (self._reads_since or now) >= longest

    def _forget(self, run: Run) -> None:
        """Delete the rows of nodes that are long gone."""
        gone = f"SELECT name FROM {TABLE} WHERE name > %s AND name < %s AND expires_at < $now - %s"
        for (name,) in run(gone, (NODE, _AFTER, _FORGOTTEN)):
            for table in (NAMES, TABLE):
                run(f"DELETE FROM {table} WHERE name = %s", (name,))


def _rows(run: Run) -> dict[str, Row]:
    columns = "name, holder, fence, expires_at, ttl, acquired_at, healed_at, owner"
    found = run(f"SELECT {columns} FROM {TABLE} WHERE name > %s AND name < %s", (NODE, _AFTER))
    return {row.id: row for row in (Row(name.removeprefix(NODE), *rest) for name, *rest in found)}


def _labels(labels: Mapping[str, str] | None) -> dict[str, str]:
    given: dict[Any, Any] = dict(labels or {})
    for name, value in given.items():
        if not (isinstance(name, str) and isinstance(value, str)):
            raise CoordinationError(f"labels are texts by name, not {name!r}: {value!r}")
    return given
