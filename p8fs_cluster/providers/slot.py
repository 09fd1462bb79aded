"""An engine in use: opened once, leased to many, closed when it is not wanted and nobody holds it any more."""

from __future__ import annotations

import logging
import threading
from concurrent.futures import Future

from p8fs_cluster.providers.engine import Engine
from p8fs_cluster.providers.teardown import OPENED

__all__ = ["Slot"]

log = logging.getLogger(__name__)


class Slot:
    """An engine and its leases. Retired, it closes when the last lease ends, unless it is revived before."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine
        self.opened_at = 0
        self.inherited = False
        """Whether it belongs to the process that this one was forked from."""
        self.gone = threading.Event()
        """Set when the engine is closed."""
        self._leases: list[None] = []
        self._lock = threading.Lock()
        self._opening: Future[None] | None = None
        self._retired = False
        self._closing = False

    @property
    def borrowed(self) -> int:
        """How many leases are open."""
        return len(self._leases)

    @property
    def is_open(self) -> bool:
        """Whether the engine was opened and not closed."""
        return bool(self.opened_at) and not self.gone.is_set()

    def open(self) -> None:
        """Open the engine once. Whoever comes while it is being opened waits for that attempt and shares its error."""
        if self.opened_at:
            return
        with self._lock:
            if self._closing:
                return  # retired before it was opened; `enter` says so
            attempt, mine = self._opening, self._opening is None
            if attempt is None:
                attempt = self._opening = Future()
        if mine:
            self._attempt(attempt)
        attempt.result()

    def enter(self) -> bool:
        """Count a lease, unless the engine is retired. No lock: `retire` looks at leases after, we before its flag."""
        self._leases.append(None)
        if self._retired:
            self.leave()
            return False
        return True

    def leave(self) -> None:
        """End a lease; the last one of a retired engine closes it."""
        self._leases.pop()
        if self._retired:
            self._close_if_unused()

    def retire(self, raising: bool = False) -> None:
        """Refuse new leases, and close the engine now or when the last lease ends."""
        with self._lock:
            self._retired = True
        self._close_if_unused(raising)

    def revive(self) -> bool:
        """Serve again. Return False when it is too late: the engine is being closed, and `gone` tells when it is."""
        with self._lock:
            if not self._closing:
                self._retired = False
            return not self._closing

    def _attempt(self, attempt: Future[None]) -> None:
        try:
            self.engine.open()
        except BaseException as exc:
            self._opening = None
            attempt.set_exception(exc)
            self._close_if_unused()
            return
        self.opened_at = next(OPENED)
        attempt.set_result(None)
        if self._retired:
            self._close_if_unused()

    def _close_if_unused(self, raising: bool = False) -> None:
        with self._lock:
            being_opened = self._opening is not None and not self.opened_at
            if self._closing or not self._retired or self._leases or being_opened:
                return
            self._closing = True
        try:
            if self.opened_at:
                self.engine.close()
        except Exception:
            if raising:
                raise
            log.exception("closing a drained %s engine failed", self.engine.provider)
        finally:
            self.gone.set()
