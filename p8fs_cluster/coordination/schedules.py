"""What is scheduled: when a tick is due, by the database's clock, and who has it. Any thread may do a step."""

from __future__ import annotations

import datetime
import logging
import math
import zoneinfo
from collections.abc import Iterator
from typing import NamedTuple

from cronsim import CronSim, CronSimError

from p8fs_cluster.coordination.coordinator import Connected, Coordinator
from p8fs_cluster.coordination.holding import Holding
from p8fs_cluster.coordination.ledger import run_guarded
from p8fs_cluster.coordination.tables import RUNS
from p8fs_cluster.exceptions import CoordinationError

__all__ = ["Cron", "Run", "Ticks"]

log = logging.getLogger("p8fs_cluster.coordination")

_KEPT = 100
"""Runs of each schedule that are kept."""
_MICRO = 1_000_000


class Run(NamedTuple):
    """One run of what is scheduled."""

    tick: datetime.datetime
    """When it was due."""
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
        self._due: float | None = None

    @property
    def _coordinator(self) -> Coordinator:
        return self.holding.coordinator

    def pause(self) -> float:
        """Return the seconds until the next tick by the database's clock; at most 0: it is due.

        :raises StorageError: the store can't be asked.
        """
        now = self._coordinator.ask(self._now)
        if self._due is None:
            self._due = self._cron.after(now)
        elif now - self._due > self._grace:
            log.warning("%s: the tick of %s was missed here, %.0f s ago", self.key, _told(self._due), now - self._due)
            self._due = self._cron.after(now)
        return self._due - now

    def next(self) -> float:
        """Return the tick that is due, and go on to the one that follows."""
        due = self._due
        assert due is not None, "pause() comes first"  # noqa: S101
        self._due = self._cron.after(due)
        return due

    def claim(self, tick: float) -> bool:
        """Return whether this process, which holds the lease, is to run a tick: nobody has begun it, or a later one.

        :raises LeaseLost: the lease is over.
        """
        begun = self._coordinator.ask(self._last)
        if begun >= round(tick):
            return False
        insert = f"INSERT INTO {RUNS} (name, tick, began_at, owner) VALUES (%s, %s, $now, %s)"
        forget = f"DELETE FROM {RUNS} WHERE name = %s AND tick < %s"
        kept = [row[0] for row in self._coordinator.ask(self._ticks)]
        statements: list[tuple[str, tuple[object, ...]]] = [(insert, (self.key, round(tick), self.holding.owner()))]
        if len(kept) >= _KEPT:
            statements.append((forget, (self.key, kept[_KEPT - 1])))
        run_guarded(self.holding, statements, self.holding.timing.interval)
        return True

    def end(self, tick: float, outcome: str) -> None:
        """Note how a run has ended."""
        sql = f"UPDATE {RUNS} SET ended_at = $now, outcome = %s WHERE name = %s AND tick = %s"
        parameters = (outcome, self.key, round(tick))
        self._coordinator.ask(lambda connected: connected.store.execute(sql, parameters, self.holding.timing.interval))

    def runs(self) -> list[Run]:
        """Return the last runs, the latest first."""
        sql = f"SELECT tick, began_at, ended_at, owner, outcome FROM {RUNS} WHERE name = %s ORDER BY tick DESC"
        rows = self._coordinator.ask(lambda connected: connected.store.execute(sql, (self.key,), 5.0))
        return [
            Run(_time(tick), _time(began / _MICRO), None if ended is None else _time(ended / _MICRO), owner, outcome)
            for tick, began, ended, owner, outcome in rows
        ]

    def _now(self, connected: Connected) -> float:
        [(now,)] = connected.store.execute("SELECT $now", (), 5.0)
        return float(now) / _MICRO

    def _last(self, connected: Connected) -> float:
        [(last,)] = connected.store.execute(f"SELECT max(tick) FROM {RUNS} WHERE name = %s", (self.key,), 5.0)
        return -math.inf if last is None else float(last)

    def _ticks(self, connected: Connected) -> list[tuple[int]]:
        sql = f"SELECT tick FROM {RUNS} WHERE name = %s ORDER BY tick DESC"
        rows: list[tuple[int]] = connected.store.execute(sql, (self.key,), 5.0)
        return rows


def _time(seconds: float) -> datetime.datetime:
    return datetime.datetime.fromtimestamp(seconds, datetime.UTC)


def _told(seconds: float) -> str:
    return _time(seconds).isoformat()
