"""Waits of the side for threads: calls run where they are made."""

from __future__ import annotations

import contextvars
import threading
from collections.abc import Callable
from typing import TypeVar

from p8fs_cluster.coordination.coordinator import CLOSED, Coordinator
from p8fs_cluster.coordination.functions import takes
from p8fs_cluster.exceptions import CoordinationError

__all__ = ["Event", "Place"]

T = TypeVar("T")


class Event(threading.Event):
    """An event that any thread may set, and wait for."""

    def __init__(self, place: Place) -> None:
        super().__init__()


class Place:
    """The threads that a lock or a leader is used by."""

    def __init__(self, coordinator: Coordinator) -> None:
        self._coordinator = coordinator
        self._context = contextvars.copy_context()

    def run(self, call: Callable[[], T]) -> T:
        """Return what a call returns that waits for the store."""
        if self._coordinator.closed:
            raise CoordinationError(CLOSED)
        return call()

    def pause(self, seconds: float, event: Event) -> None:
        """Wait for an event, at most so many seconds of the coordinator's clock."""
        coordinator = self._coordinator
        due = coordinator.deadlines.at(coordinator.clock.now() + seconds, event.set, event.set)
        try:
            if not coordinator.closing:
                event.wait()
            event.clear()
        finally:
            due.cancel()

    def spawn(self, work: Callable[[], None], name: str) -> threading.Thread:
        """Let work run beside its caller, in the caller's context."""
        run = contextvars.copy_context().run
        thread = threading.Thread(target=run, args=(work,), name=f"p8fs-cluster {name}", daemon=True)
        thread.start()
        return thread

    def join(self, running: threading.Thread, seconds: float | None) -> None:
        """Return when work has ended, or after so many seconds."""
        running.join(seconds)

    def tell(self, callback: Callable[..., object], argument: object) -> None:
        """Call what a user gave, in a thread that nothing waits for, and in the context in which this was made."""
        self._coordinator.tell(self._context, callback, *takes(callback, argument))
