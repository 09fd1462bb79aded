"""A function that the cluster runs at times, for threads: at most once for each tick, in whatever process has it.

Made by `scripts/threads.py`: edit `schedule.py`.
"""

from __future__ import annotations

import functools
import logging
from collections.abc import Callable
from contextvars import ContextVar
from types import TracebackType
from typing import Any, Self

from p8fs_cluster.coordination.calling import Event, Place
from p8fs_cluster.coordination.candidacy import watched
from p8fs_cluster.coordination.claiming import claimed
from p8fs_cluster.coordination.running import run
from p8fs_cluster.coordination.schedules import Run, Ticks
from p8fs_cluster.exceptions import CoordinationError, LeaseLost, StorageError

__all__ = ["Schedule"]

log = logging.getLogger("p8fs_cluster.coordination")

_LOOK = 60.0
"""Most seconds between two looks at the database's clock."""
_OUTAGE = 1.0
_within: ContextVar[object] = ContextVar("p8fs_cluster_schedule", default=None)
"""The schedule of whose run this is a part."""


class Schedule:
    """A function under a name and a cron expression; this process is one of those that may run it, until `stop`."""

    def __init__(self, ticks: Ticks, name: str, fn: Callable[[], Any]) -> None:
        self._ticks = ticks
        self._fn = fn
        self._name = name
        self._coordinator = ticks.holding.coordinator
        self._place = Place(self._coordinator)
        self._stopped = False
        self._wake = Event(self._place)
        self._running = self._place.spawn(self._work, f"schedule {name}")

    @property
    def name(self) -> str:
        """The name of the schedule."""
        return self._name

    def runs(self) -> list[Run]:
        """Return the last runs in the whole cluster, the latest first.

        :raises StorageError: the store can't be asked.
        """
        return Place(self._coordinator).run(self._ticks.runs)

    def stop(self) -> None:
        """Begin no further run here, and return when the one at hand has ended; at once, if that is who asks."""
        self._end()
        if _within.get() is not self:
            self._place.join(self._running, None)

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.stop()

    def _is_over(self) -> bool:
        return self._stopped or self._coordinator.closing

    def _end(self) -> None:
        self._stopped = True
        self._wake.set()

    def _work(self) -> None:
        _within.set(self)  # in a context of its own
        with self._ticks.holding.working(self._end):
            self._run_ticks()
        log.debug("schedule %s: ended", self._name)

    def _run_ticks(self) -> None:
        while not self._is_over():
            try:
                pause = self._place.run(self._ticks.pause)
                if pause <= 0:
                    self._run_tick(self._ticks.due)
                    self._ticks.passed()
                    continue
            except StorageError as exc:
                log.warning("schedule %s: the store can't be asked: %s", self._name, exc)
                pause = _OUTAGE
            except CoordinationError as exc:
                if self._coordinator.closing:
                    return
                log.error("schedule %s: %s", self._name, exc)  # noqa: TRY400
                pause = _LOOK
            if not self._is_over():
                self._place.pause(min(pause, _LOOK), self._wake)

    def _run_tick(self, tick: float | None) -> None:
        holding = self._ticks.holding
        if tick is None or not claimed(self._place, holding, 0):
            return  # somebody else has it, or runs the one before it still
        try:
            if self._place.run(functools.partial(self._ticks.claim, tick)):
                outcome = "interrupted"
                try:
                    outcome = self._outcome()
                finally:
                    self._place.run(functools.partial(self._ticks.end, tick, outcome))
        except LeaseLost as exc:
            log.error("schedule %s: %s", self._name, exc)  # noqa: TRY400
        finally:
            self._place.run(functools.partial(holding.give_up, holding.timing.interval))

    def _outcome(self) -> str:
        holding = self._ticks.holding
        term = holding.require()
        try:
            with watched(holding, term, self._fn):
                run(self._place, holding, term, self._fn)
        except LeaseLost as exc:
            log.error("schedule %s: the run did not end in time: %s", self._name, exc)  # noqa: TRY400
            return f"lost: {exc}"
        except (Exception, SystemExit) as exc:  # which would end a thread, and nobody would know
            log.exception("schedule %s: the run failed", self._name)
            return f"{type(exc).__name__}: {exc}"
        return "done"
