"""An engine in use: opened once, leased to many, closed when it is not wanted and nobody holds it any more."""

from __future__ import annotations

import contextlib
import contextvars
import logging
import math
import threading
import time
from typing import Any, Protocol
from weakref import ref

from p8fs_cluster.di.teardown import OPENED
from p8fs_cluster.exceptions import StorageUnavailable
from p8fs_cluster.providers.storage.engines import Engine
from p8fs_cluster.providers.storage.outcome import Outcome

__all__ = ["Slot", "tell_cut_off"]

log = logging.getLogger("p8fs_cluster.storage")
_SHOWN = 5
"""Borrowers that a message names."""


def tell_cut_off(engine: object, checkout: object) -> None:
    """Log that a borrower has had its time to give back a connection of an engine that is not in force any more."""
    log.warning("%r is not in force any more, and its borrower is cut off: %s", engine, checkout)


class Checkout(Protocol):
    """What a slot needs to know of its checkouts."""

    connection: Any
    since: float
    reference: ref[Any]

    def is_abandoned(self) -> bool:
        """Return whether its block has ended without ending the checkout."""


class Slot:
    """An engine and its checkouts. Retired, it closes when the last checkout ends, unless it is revived before."""

    def __init__(self, engine: Engine, drain_timeout: float) -> None:
        self.engine = engine
        self._drain_timeout = drain_timeout
        self.opened_at = 0
        self.inherited = False
        """Whether it belongs to the process that this one was forked from."""
        self.gone = threading.Event()
        """Set when the engine is closed."""
        self._checkouts: set[ref[Checkout]] = set()
        """References, so that a checkout that an interruption dropped does not count; see `_known`."""
        self._lock = threading.Lock()
        self._opening: Outcome[None] | None = None
        self._patience: threading.Timer | None = None
        self._retired = False
        self._closing = False

    @property
    def borrowed(self) -> int:
        """How many checkouts are open."""
        return len(self._known())

    @property
    def checkouts(self) -> tuple[Checkout, ...]:
        """Who holds a connection, longest first."""
        holding = (checkout for checkout in self._known() if checkout.connection is not None)
        return tuple(sorted(holding, key=lambda checkout: checkout.since))

    def told_holders(self) -> str:
        """Tell who holds connections, those first who have them longest."""
        checkouts = self.checkouts
        more = f", and {len(checkouts) - _SHOWN} more" if len(checkouts) > _SHOWN else ""
        return "; ".join(map(str, checkouts[:_SHOWN])) + more

    @property
    def is_open(self) -> bool:
        """Whether the engine was opened and not closed."""
        return bool(self.opened_at) and not self.gone.is_set()

    def open(self, deadline: float | None = None) -> None:
        """Open the engine once. Whoever comes while it is being opened waits for that attempt and shares its error.

        :raises StorageUnavailable: it can't be opened, or is not by `deadline`, of the monotonic clock.
        """
        if self.opened_at:
            return
        ours: Outcome[None] = Outcome()
        try:
            with self._lock:
                if self._closing:
                    return  # retired before it was opened; `enter` says so
                attempt = self._opening = self._opening or ours
            if attempt is ours and deadline is None:
                self._attempt(ours)
            elif attempt is ours:  # it may last longer than we do
                context = contextvars.copy_context()
                ours.begin(context.run, self._attempt, ours)
        except BaseException as exc:
            if self._opening is ours and ours.claim():  # interrupted before it was begun: nobody may wait for it
                self._opening = None
                ours.raised(exc)
            raise
        try:
            attempt.result(None if deadline in (None, math.inf) else max(deadline - time.monotonic(), 0))
        except TimeoutError:
            if attempt.told:
                raise
            raise StorageUnavailable(
                f"{self.engine!r}: it could not be opened by the deadline that timeout= gave"
            ) from None

    def enter(self, checkout: Checkout) -> bool:
        """Count a checkout, unless the engine is retired. No lock: `retire` counts after it has set its flag."""
        checkout.reference = reference = ref(checkout)
        self._checkouts.add(reference)
        if self._retired:
            self.leave(checkout)
            return False
        return True

    def leave(self, checkout: Checkout) -> None:
        """End a checkout; the last one of a retired engine closes it."""
        self._checkouts.discard(checkout.reference)
        if self._retired:
            self._close_if_unused()

    def retire(self, raising: bool = False) -> None:
        """Refuse new checkouts, and close the engine now or when the last checkout ends; late ones are cut off."""
        with self._lock:
            first, self._retired = not self._retired, True
        self._close_if_unused(raising)
        if first and self.is_open:
            self._patience = threading.Timer(self._drain_timeout, self._cut)
            self._patience.daemon = True
            self._patience.start()

    def revive(self) -> bool:
        """Serve again. Return False when it is too late: the engine is being closed, and `gone` tells when it is."""
        with self._lock:
            if not self._closing:
                self._retired = False
                self._be_patient()
            return not self._closing

    def _attempt(self, attempt: Outcome[None]) -> None:
        if not attempt.claim():
            return
        try:
            self.engine.open()
        except BaseException as exc:
            self._opening = None
            attempt.raised(exc)
            self._close_if_unused()
            return
        self.opened_at = next(OPENED)
        attempt.returned(None)
        if self._retired:
            self._close_if_unused()

    def _cut(self) -> None:
        """Only those who borrowed before it was retired are left: nobody else comes meanwhile."""
        for checkout in self.checkouts if self._retired else ():
            tell_cut_off(self.engine, checkout)
            with contextlib.suppress(Exception):
                self.engine.cut(checkout.connection)
        self._close_if_unused()  # those who were interrupted before they could leave have not asked for it

    def _known(self) -> list[Checkout]:
        """Return the checkouts that are not over, though their blocks may have been interrupted before they said so."""
        known = []
        for reference in tuple(self._checkouts):
            checkout = reference()
            if checkout is None or checkout.is_abandoned():
                self._checkouts.discard(reference)
            else:
                known.append(checkout)
        return known

    def _be_patient(self) -> None:
        if self._patience is not None:
            self._patience.cancel()
            self._patience = None

    def _close_if_unused(self, raising: bool = False) -> None:
        if not self._retired:
            return
        self._known()
        with self._lock:
            being_opened = self._opening is not None and not self.opened_at
            if self._closing or not self._retired or self._checkouts or being_opened:
                return
            self._closing = True
            self._be_patient()
        try:
            if self.opened_at:
                self.engine.close()
        except Exception:
            if raising:
                raise
            log.exception("closing a drained %s engine failed", self.engine.provider)
        finally:
            self.gone.set()
