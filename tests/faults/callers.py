"""Threads that call all the time, and what came of each call."""

from __future__ import annotations

import contextlib
import threading
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field


@dataclass
class Call:
    """One call: when it began and ended, by the monotonic clock, and its fault. It ends when it is back."""

    begun: float
    ended: float | None = None
    fault: BaseException | None = None

    @property
    def ok(self) -> bool:
        return self.ended is not None and self.fault is None


@dataclass
class Calls:
    """What all the threads did."""

    made: list[Call] = field(default_factory=list)
    over: threading.Event = field(default_factory=threading.Event)

    def between(self, begin: float, end: float) -> list[Call]:
        """Return the calls that began in that time."""
        return [call for call in self.made if begin <= call.begun < end]

    def failed(self) -> list[Call]:
        return [call for call in self.made if call.fault is not None]

    def first_success(self, after: float) -> float:
        """Return when the first call ended well after a moment."""
        return min((call.ended for call in self.made if call.ok and call.ended and call.ended >= after), default=1e18)

    def longest(self, begin: float, end: float) -> float:
        """Return the seconds of that time that the longest call took; those not back yet count until its end."""
        spans = (min(call.ended or end, end) - max(call.begun, begin) for call in self.made if call.begun < end)
        return max(spans, default=0.0)


@contextlib.contextmanager
def calling(action: Callable[[], object], threads: int, pause: float = 0.001) -> Iterator[Calls]:
    """Call `action` in threads until the end of the block. Threads that are stuck by then are left behind."""
    calls = Calls()

    def caller() -> None:
        while not calls.over.is_set():
            call = Call(time.monotonic())
            calls.made.append(call)
            try:
                action()
            except Exception as exc:
                call.fault = exc
            call.ended = time.monotonic()
            calls.over.wait(pause)

    running = [threading.Thread(target=caller, daemon=True) for _ in range(threads)]
    for thread in running:
        thread.start()
    try:
        yield calls
    finally:
        calls.over.set()
        deadline = time.monotonic() + 15
        for thread in running:
            thread.join(max(deadline - time.monotonic(), 0.01))


def wait_for(condition: Callable[[], object], seconds: float = 60) -> None:
    """Wait for a condition that the callers bring about, if they do."""
    deadline = time.monotonic() + seconds
    while not condition() and time.monotonic() < deadline:
        time.sleep(0.002)
