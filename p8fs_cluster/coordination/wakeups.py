"""Waking those who wait for a lease, when it is released in this process, or the database announces it."""

from __future__ import annotations

import contextlib
import logging
import threading
from collections.abc import Callable

from p8fs_cluster.providers.storage.leases import LeaseStore

__all__ = ["Wakeups"]

log = logging.getLogger("p8fs_cluster.coordination")

_PATIENCE = 5.0
"""Seconds to wait for the end of the thread, and between two looks whether there are announcements now."""


class Wakeups:
    """Wakes those who wait for a lease, when it is released in this process, or the database announces it."""

    def __init__(self, announces: bool, store: Callable[[], LeaseStore]) -> None:
        self._announces = announces
        self._store = store
        self._waiting: dict[str, list[Callable[[], object]]] = {}
        self._lock = threading.Lock()
        self._thread: threading.Thread | None = None
        self._closed = False
        self._changed = threading.Event()

    def add(self, key: str, wake: Callable[[], object], announced: bool = True) -> None:
        """Call `wake` when the lease may be free, or the container is closed, until it is removed.

        `announced`: whether to listen for what the database announces, which takes a connection.
        """
        with self._lock:
            self._waiting.setdefault(key, []).append(wake)
            if announced and self._announces and self._thread is None and not self._closed:
                self._thread = threading.Thread(target=self._listen, name="p8fs-cluster announcements", daemon=True)
                self._thread.start()

    def remove(self, key: str, wake: Callable[[], object]) -> None:
        """Undo `add`."""
        with self._lock:
            waiting = self._waiting[key]
            waiting.remove(wake)
            if not waiting:
                del self._waiting[key]

    def wake(self, key: str | None) -> None:
        """Wake who waits for a lease; None: everybody, as announcements may have been missed."""
        with self._lock:
            wakes = [wake for name, waiting in self._waiting.items() if key in (None, name) for wake in waiting]
        for wake in wakes:
            wake()

    def close(self) -> None:
        """End the thread, within a second."""
        self._closed = True
        self._changed.set()
        thread = self._thread
        if thread is not None:
            self._store().close()
            thread.join(_PATIENCE)

    def _listen(self) -> None:
        while not self._closed:
            try:
                self._hear()
            except Exception as exc:  # an outage, most of the time
                log.debug("no announcements, so those who wait look at intervals: %s", exc)
            self._changed.wait(1)
            with self._lock:
                if not self._waiting:
                    self._thread = None
                    return

    def _hear(self) -> None:
        heard = self._store().announcements()
        if heard is None:
            self._changed.wait(_PATIENCE)
            return
        with contextlib.closing(heard):
            for key in heard:
                if self._closed or not self._waiting:
                    return
                if key is not None:
                    self.wake(key or None)
