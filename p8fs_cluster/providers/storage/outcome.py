"""A future for a thread of its own, whose waiters may be interrupted by a signal handler at any moment."""

from __future__ import annotations

import _thread
from collections import deque
from collections.abc import Callable
from typing import Generic, TypeVar

__all__ = ["Outcome"]

T = TypeVar("T")


class Outcome(Generic[T]):
    """The result of a function, or its exception.

    `threading.Thread.start` and `concurrent.futures.Future` are written in Python and hold locks: an exception of a
    signal handler that strikes within them leaves those held, and the other side waits for ever. Here each waiter has a
    lock of its own, and every step is one call into C.
    """

    def __init__(self) -> None:
        self.told = False
        self._value: T
        self._error: BaseException | None = None
        self._claims = [None]
        self._waiting: deque[_thread.LockType] = deque()

    def begin(self, function: Callable[..., object], *arguments: object) -> None:
        """Call a function in a thread that ends with the process; it tells what it came to."""
        _thread.start_new_thread(function, arguments)

    def claim(self) -> bool:
        """Return whether the caller is the first to ask: the one who tells, or the one who gives up waiting."""
        try:
            self._claims.pop()
        except IndexError:
            return False
        return True

    def returned(self, value: T) -> None:
        """Tell all who wait."""
        self._value = value
        self._wake()

    def raised(self, error: BaseException) -> None:
        """Raise in all who wait."""
        self._error = error
        self._wake()

    def result(self, seconds: float | None = None) -> T:
        """Return what was returned, or raise what was raised.

        :raises TimeoutError: it came to nothing within so many seconds.
        """
        if not self.told:
            ours = _thread.allocate_lock()
            ours.acquire()
            self._waiting.append(ours)
            if not self.told and not ours.acquire(timeout=-1 if seconds is None else seconds) and not self.told:
                raise TimeoutError
        if self._error is not None:
            raise self._error
        return self._value

    def _wake(self) -> None:
        self.told = True
        while self._waiting:
            self._waiting.popleft().release()
