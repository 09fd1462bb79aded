"""Work that runs under leases: at the end of its container it ends first, and its leases are given up then."""

from __future__ import annotations

import asyncio
import threading
import time
from collections.abc import Callable, Collection, Generator
from typing import Any

__all__ = ["Ending", "Work", "stopped"]

_CUT = 1.0
"""Seconds to wait for the end of what was cut off."""


class Work:
    """Something that runs under a lease: in the thread that makes this, or as a task of its event loop."""

    def __init__(self, lease: object, stop: Callable[[], object], cut: Callable[[], object]) -> None:
        self.lease = lease
        self.stop = stop
        """Asks it to end by itself."""
        self.cut = cut
        """Ends what it believes in, so that a task of asyncio is cancelled; a thread goes on."""
        self._thread = threading.current_thread()
        self._loop = asyncio._get_running_loop()
        self._waiter: asyncio.Future[None] | None = self._loop.create_future() if self._loop else None
        self._done = threading.Event()

    def done(self) -> None:
        """Note its end; called where it was made."""
        self._done.set()
        if self._waiter and not self._waiter.done():
            self._waiter.set_result(None)

    @property
    def is_over(self) -> bool:
        """Return whether it has ended, or can't go on."""
        return self._done.is_set() or (self._loop is not None and self._loop.is_closed())

    @property
    def waiter(self) -> asyncio.Future[None] | None:
        """Return what its end settles, if that can be awaited here."""
        return None if self._loop is not asyncio._get_running_loop() else self._waiter

    def wait(self, until: float) -> None:
        """Wait for its end up to a monotonic time, unless it is the caller's own."""
        if self._loop is None and self._thread is not threading.current_thread():
            self._done.wait(max(until - time.monotonic(), 0))
        elif self._loop is not None and self.waiter is None:
            while not self.is_over and time.monotonic() < until:
                self._done.wait(0.02)  # the loop may be closed meanwhile


def stopped(works: Collection[Work], seconds: float, finish: Callable[[], None]) -> Ending | None:
    """Let work end, wait for that so long, cut off what has not ended, wait again, and finish.

    Return what is to be awaited, if some of it are tasks of the running event loop.
    """
    for work in works:
        work.stop()
    if any(work.waiter for work in works):
        return Ending(works, seconds, finish)
    for patience in (seconds, _CUT):
        until = time.monotonic() + patience
        for work in works:
            work.wait(until)
        for work in works:
            if not work.is_over:
                work.cut()
    finish()
    return None


class Ending:
    """The end of what tasks of this event loop hold up. If it is closed in place of awaited, they are cut off."""

    def __init__(self, works: Collection[Work], seconds: float, finish: Callable[[], None]) -> None:
        self._works = works
        self._seconds = seconds
        self._finish = finish

    def __await__(self) -> Generator[Any, None, None]:
        return self._ended().__await__()

    def close(self) -> None:
        for work in self._works:
            work.cut()
        self._finish()

    async def _ended(self) -> None:
        try:
            for patience in (self._seconds, _CUT):
                waiters = [work.waiter for work in self._works if work.waiter and not work.is_over]
                if waiters:
                    await asyncio.wait(waiters, timeout=patience)
                for work in self._works:
                    if not work.is_over:
                        work.cut()
        finally:
            stopped([work for work in self._works if work.waiter is None], self._seconds, self._finish)
