"""The ticks of schedules: when they are due by the database's clock, and which process has them."""

from __future__ import annotations

import datetime
import logging
import math
import zoneinfo
from collections.abc import Iterator
from typing import Any, NamedTuple

from cronsim import CronSim, CronSimError

from p8fs_cluster.config import secrets
from p8fs_cluster.coordination.holding import Holding
from p8fs_cluster.coordination.ledger import run_guarded
from p8fs_cluster.coordination.tables import RUNS
from p8fs_cluster.coordination.times import MICRO, micro, moment
from p8fs_cluster.exceptions import CoordinationError, StorageError
from p8fs_cluster.logging.redaction import Redactor

__all__ = ["Cron", "Run", "Ticks"]

log = logging.getLogger("p8fs_cluster.coordination")

_KEPT = 100
"""Runs of each schedule that are kept."""
_LONGEST = 500
"""Characters of an outcome that are kept."""
_PATIENCE = 5.0
_redacted = Redactor(secrets.known)


class Run(NamedTuple):
    """One run of what is scheduled."""

    tick: datetime.datetime
    """The time at which it was due."""
    began: datetime.datetime
    ended: datetime.datetime | None
    """None: it runs, or its process died."""
    owner: str
    outcome: str | None
    """`done`, or the error; None while `ended` is."""


class Cron:
    """A cron expression in a time zone.

    >>> cron = Cron("0 3 * * *", "Europe/Berlin")
    >>> datetime.datetime.fromtimestamp(cron.after(1_767_225_600), datetime.UTC).isoformat()
    '2026-01-01T02:00:00+00:00'
    """

    def __init__(self, expression: str, timezone: str) -> None:
        self.expression = expression
        self.zone: datetime.tzinfo
        try:
            self.zone = datetime.UTC if timezone == "UTC" else zoneinfo.ZoneInfo(timezone)
        except (zoneinfo.ZoneInfoNotFoundError, ValueError, TypeError, OSError):
            raise CoordinationError(f"timezone={timezone!r}: no such time zone, such as Europe/Berlin") from None
        try:
            self.after(0)
        except (CronSimError, AttributeError, TypeError) as exc:
            told = "five fields are needed, as in '0 3 * * *'"
            raise CoordinationError(f"cron={expression!r}: {exc or 'no such expression'}: {told}") from None

    def after(self, seconds: float) -> float:
        """Return the first tick after a moment, both in seconds since 1970; infinite: there is none."""
        begin = datetime.datetime.fromtimestamp(math.floor(seconds), self.zone)
        ticks: Iterator[datetime.datetime] = CronSim(self.expression, begin)
        tick = next(ticks, None)
        return math.inf if tick is None else tick.timestamp()


class Ticks:
    """The ticks of one schedule as this process sees them. Each one is run at most once in the cluster."""

    def __init__(self, holding: Holding, cron: Cron, grace: float) -> None:
        self.holding = holding
        self.key = holding.key
        self._cron = cron
        self._grace = grace
        self.due: float | None = None
        """The tick that comes next here, or is due; None before the database was asked."""

    def pause(self) -> float:
        """Return the seconds until the next tick by the database's clock; at most 0: it is due.

        :raises StorageError: the store can't be asked.
        """
        [(micros,)] = self._asked("SELECT $now")
        now = float(micros) / MICRO
        if self.due is None:
            self.due = self._cron.after(now)
        elif now - self.due > self._grace:
            log.warning("%s: the tick of %s was missed here, %.0f s ago", self.key, _told(self.due), now - self.due)
            self.due = self._cron.after(now)
        return self.due - now

    def passed(self) -> None:
        """Go on to the tick that follows the one that was due."""
        if self.due is not None:
            self.due = self._cron.after(self.due)

    def claim(self, tick: float) -> bool:
        """Return whether this process, which holds the lease, is to run a tick: nobody has begun it, or a later one.

        :raises LeaseLost: the lease is over.
        """
        begun = [row[0] for row in self._asked(f"SELECT tick FROM {RUNS} WHERE name = %s ORDER BY tick DESC", self.key)]
        if begun and begun[0] >= round(tick):
            return False
        insert = f"INSERT INTO {RUNS} (name, tick, began_at, owner) VALUES (%s, %s, $now, %s)"
        statements: list[tuple[str, tuple[object, ...]]] = [(insert, (self.key, round(tick), self.holding.owner()))]
        if len(begun) >= _KEPT:
            statements.append((f"DELETE FROM {RUNS} WHERE name = %s AND tick < %s", (self.key, begun[_KEPT - 1])))
        run_guarded(self.holding, statements)
        return True

    def end(self, tick: float, outcome: str) -> None:
        """Note how a run has ended, without any secret that the settings hold."""
        told = _redacted(outcome)[:_LONGEST]
        sql = f"UPDATE {RUNS} SET ended_at = $now, outcome = %s WHERE name = %s AND tick = %s"
        try:
            self._asked(sql, told, self.key, round(tick))
        except StorageError as exc:
            log.warning("%s: how the run of %s has ended (%s) can't be noted: %s", self.key, _told(tick), told, exc)

    def runs(self) -> list[Run]:
        """Return the last runs, the latest first."""
        sql = f"SELECT tick, began_at, ended_at, owner, outcome FROM {RUNS} WHERE name = %s ORDER BY tick DESC"
        return [
            Run(moment(micro(tick)), moment(began), None if ended is None else moment(ended), owner, outcome)
            for tick, began, ended, owner, outcome in self._asked(sql, self.key)
        ]

    def _asked(self, sql: str, *parameters: object) -> list[tuple[Any, ...]]:
        return self.holding.coordinator.ask(lambda connected: connected.store.execute(sql, parameters, _PATIENCE))


def _told(seconds: float) -> str:
    return moment(micro(seconds)).isoformat()
