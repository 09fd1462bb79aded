"""End a worker loop: by SIGTERM or SIGINT, or by its work, and by force when its grace is over."""

from __future__ import annotations

import contextlib
import math
import signal
from collections.abc import Callable
from queue import Empty, SimpleQueue
from types import FrameType, TracebackType
from typing import Any, Self

__all__ = ["GraceOver", "Stop"]

_AGAIN = 2.0
"""Seconds after which what did not end when its grace was over is interrupted once more."""


class GraceOver(BaseException):
    """Raised by a signal handler in the job at hand: no error of the job's own, so that it does not take it for one."""


class Stop:
    """The request to begin no further job. Signals are noted while it is entered, in the main thread.

    A second signal does what it does without us. `late` is called when the grace is over, and again and again.
    """

    def __init__(self, grace: float) -> None:
        self.asked = False
        self.late: Callable[[], None] = _nothing
        self.grace = grace
        self._wakers: list[Callable[[], object]] = []
        self._before: dict[int, Any] = {}
        self._signalled = False

    def __enter__(self) -> Self:
        for number in (signal.SIGTERM, signal.SIGINT):
            self._before[number] = signal.signal(number, self._note)
        return self

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if self._signalled and hasattr(signal, "setitimer"):
            signal.setitimer(signal.ITIMER_REAL, 0)
        self._restore()

    def ask(self) -> None:
        """Let no further job begin, and end all pauses. A signal handler may call it, whatever it interrupts."""
        self.asked = True
        for wake in tuple(self._wakers):
            wake()

    def wake(self, by: Callable[[], object]) -> None:
        """Call a function when it is asked; now, if it was."""
        self._wakers.append(by)
        if self.asked:
            by()

    def pauses(self) -> Callable[[float], None]:
        """Return a function that waits for so many seconds, or until the end is asked for; one thread may call it.

        A SimpleQueue may be filled while this very thread waits for it, which an Event may not.
        """
        tokens: SimpleQueue[None] = SimpleQueue()
        self.wake(lambda: tokens.put(None))

        def pause(seconds: float) -> None:
            with contextlib.suppress(Empty):
                tokens.get(timeout=seconds)

        return pause

    def _note(self, number: int, frame: FrameType | None) -> None:
        is_second, self._signalled = self._signalled, True
        self._restore()
        if is_second:  # it came before the first had restored what it does
            signal.raise_signal(number)
            return
        if hasattr(signal, "setitimer") and self.grace < math.inf:
            self._before[signal.SIGALRM] = signal.signal(signal.SIGALRM, lambda *_: self.late())
            signal.setitimer(signal.ITIMER_REAL, max(self.grace, 0.001), _AGAIN)  # 0 would be never
        self.ask()

    def _restore(self) -> None:
        for number, handler in self._before.items():
            signal.signal(number, handler)


def _nothing() -> None:
    """Do nothing: there is no job at hand."""
