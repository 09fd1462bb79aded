"""Reports connections that somebody keeps for long, by a thread that looks now and then."""

from __future__ import annotations

import logging
import threading
import time
import weakref
from collections.abc import Sequence
from typing import Protocol

from p8fs_cluster.config.problems import variable_of
from p8fs_cluster.config.settings import P8FSConfig
from p8fs_cluster.forking import Stage, after_fork
from p8fs_cluster.providers.storage.checkout import Borrowed

__all__ = ["look_again", "watch_holders"]

log = logging.getLogger("p8fs_cluster.storage")
_LOOKS = 4
"""Looks in the time that the settings allow, so that a report is at most a quarter late."""


class _Handle(Protocol):
    def holders(self) -> Sequence[Borrowed]: ...
    def settings_now(self) -> P8FSConfig: ...


class _Holders:
    """The handles that are looked at, and the thread that does it while there are any with open connections."""

    def __init__(self) -> None:
        self.forget()

    def forget(self) -> None:
        """Begin anew; in a forked child, where the thread is not."""
        self._handles: weakref.WeakSet[_Handle] = weakref.WeakSet()
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._changed = threading.Event()

    def look_again(self) -> None:
        """Look now, as the settings may allow another time than before."""
        self._changed.set()

    def watch(self, handle: _Handle) -> None:
        """Look at this handle too, from now on."""
        with self._lock:
            if handle not in self._handles:
                self._handles.add(handle)
                self._changed.set()
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="p8fs-holders", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while True:
            with self._lock:
                limits = [limit for handle in self._handles if (limit := _limit(handle))]
                if not limits:
                    self._thread = None
                    return
            self._changed.wait(min(limits) / _LOOKS)
            self._changed.clear()
            for handle in tuple(self._handles):
                try:
                    report(handle)
                except Exception:
                    log.exception("looking who holds connections of %r failed", handle)


def _limit(handle: _Handle) -> float | None:
    try:
        return handle.settings_now().slow_borrow
    except Exception:  # whoever borrows hears of it
        return None


def report(handle: _Handle) -> None:
    """Log, once, who has held a connection for longer than the settings allow."""
    limit, now = handle.settings_now().slow_borrow, time.monotonic()
    for checkout in handle.holders():
        if limit and not checkout.told and now - checkout.since >= limit:
            checkout.told = True
            name = variable_of("slow_borrow")
            log.warning("a connection is held for longer than %s=%g s: %s", name, limit, checkout)


_holders = _Holders()
watch_holders, look_again = _holders.watch, _holders.look_again
after_fork(Stage.STORAGE, _holders.forget)
