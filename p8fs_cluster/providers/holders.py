"""Reports connections that somebody keeps for long, by a thread that looks now and then."""

from __future__ import annotations

import logging
import os
import threading
import time
import weakref
from collections.abc import Sequence
from typing import Protocol

from p8fs_cluster.config.settings import P8FSConfig
from p8fs_cluster.providers.lease import Borrowed

__all__ = ["watch_holders"]

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

    def watch(self, handle: _Handle) -> None:
        """Look at this handle too, from now on."""
        with self._lock:
            self._handles.add(handle)
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="p8fs-holders", daemon=True)
                self._thread.start()

    def _run(self) -> None:
        while True:
            with self._lock:
                limits = [limit for handle in self._handles if (limit := handle.settings_now().slow_borrow)]
                if not limits:
                    self._thread = None
                    return
            time.sleep(min(limits) / _LOOKS)
            for handle in tuple(self._handles):
                report(handle)


def report(handle: _Handle) -> None:
    """Log, once, who has held a connection for longer than the settings allow."""
    limit, now = handle.settings_now().slow_borrow, time.monotonic()
    for lease in handle.holders():
        if limit and not lease.told and now - lease.since >= limit:
            lease.told = True
            log.warning("a connection is held for longer than P8FS_SLOW_BORROW=%g s: %s", limit, lease)


_holders = _Holders()
watch_holders = _holders.watch
os.register_at_fork(after_in_child=_holders.forget)
