"""One borrowed connection, and how the end of a `with storage` block finds the lease that its beginning took."""

from __future__ import annotations

import sys
import time
from collections.abc import Callable
from contextvars import ContextVar
from functools import lru_cache
from pathlib import Path
from types import CodeType, FrameType, TracebackType
from typing import Any

from p8fs_cluster.exceptions import PoolExhausted
from p8fs_cluster.providers.slot import Slot

__all__ = ["Borrowed", "Entered", "Lease"]

EnterSlot = Callable[["Lease", float | None], Slot]
"""Returns the slot in force with the lease counted, by the deadline."""


class Borrowed:
    """Who borrowed a connection: the place, and since when by the monotonic clock."""

    __slots__ = ("code", "connection", "ended", "frame", "line", "outer", "since", "told")
    connection: Any
    code: CodeType
    line: int
    since: float
    frame: FrameType | None
    outer: Borrowed | None

    def __init__(self) -> None:
        self.connection = None
        self.ended = self.told = False

    def note(self, borrower: FrameType) -> None:
        """Note the frame, or the one that called library code there, and the time."""
        code = borrower.f_code
        while _is_library(code) and borrower.f_back is not None:
            borrower = borrower.f_back
            code = borrower.f_code
        self.code, self.line, self.since = code, borrower.f_lineno, time.monotonic()

    def __str__(self) -> str:
        held = time.monotonic() - self.since
        return f"borrowed at {self.code.co_filename}:{self.line} in {self.code.co_qualname}, {held:.1f} s ago"


class Lease(Borrowed):
    """A connection for one `with` block, and who borrowed it."""

    __slots__ = ("_enter_slot", "_timeout", "slot")
    slot: Slot

    def __init__(self, enter_slot: EnterSlot, timeout: float | None = None) -> None:
        self.connection = None  # as the base has it; a call costs as much as all the rest
        self.ended = self.told = False
        self._enter_slot = enter_slot
        self._timeout = timeout

    def __enter__(self) -> Any:
        return self.begin(sys._getframe(1))

    def begin(self, borrower: FrameType) -> Any:
        """Borrow for the block that begins in this frame."""
        self.note(borrower)
        deadline = None if self._timeout is None else self.since + self._timeout
        self.slot = slot = self._enter_slot(self, deadline)
        try:
            self.connection = slot.engine.acquire(deadline)
        except PoolExhausted as exc:
            slot.leave(self)
            raise PoolExhausted(f"{exc}; {slot.told_holders()}") from exc.__cause__
        except BaseException:
            slot.leave(self)
            raise
        return self.connection

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        self.ended = True
        slot = self.slot
        if slot.inherited:
            return  # forked inside the block: the connection is the parent's to give back
        try:
            slot.engine.release(self.connection, exc)
        finally:
            slot.leave(self)


@lru_cache(1024)
def _is_library(code: CodeType) -> bool:
    path = Path(code.co_filename)
    return path.is_relative_to(_PACKAGE) or "sqlalchemy" in path.parts or path.name == "contextlib.py"


_PACKAGE = Path(__file__).parents[1]


_Stack = tuple[Borrowed, Any] | None
_here: ContextVar[_Stack] = ContextVar("p8fs_cluster_entered", default=None)


class Entered:
    """The leases of a handle's open `with` blocks.

    A `with` statement begins and ends in one frame, whatever thread or context runs it by then: FastAPI, for one, runs
    each half of a generator in another. So the frame tells. An ExitStack ends elsewhere than it begins, but in one
    context, which tells then. Frames are held, so that another one can't be mistaken for one that is gone.
    """

    def __init__(self) -> None:
        self._by_frame: dict[FrameType, Borrowed] = {}

    def push(self, frame: FrameType, lease: Borrowed) -> None:
        """Remember the lease of a block that begins in `frame`."""
        lease.frame = frame
        lease.outer = self._by_frame.get(frame)
        self._by_frame[frame] = lease
        _here.set((lease, _open_ones(_here.get())))

    def pop(self, frame: FrameType) -> Borrowed | None:
        """Return the lease of the block that ends in `frame`, None when there is none."""
        lease = self._by_frame.get(frame)
        if lease is None:
            lease = self._of_this_context()
        if lease is not None:
            self._forget(lease)
        return lease

    def _of_this_context(self) -> Borrowed | None:
        stack = _open_ones(_here.get())
        while stack is not None:
            lease: Borrowed = stack[0]
            if not lease.ended and lease in self._by_frame.values():
                return lease
            stack = stack[1]
        return None

    def _forget(self, lease: Borrowed) -> None:
        frame, lease.frame = lease.frame, None
        if frame is None:
            return
        inner = self._by_frame[frame]
        if inner is not lease:
            while inner.outer is not None and inner.outer is not lease:
                inner = inner.outer
            inner.outer = lease.outer
        elif lease.outer is None:
            del self._by_frame[frame]
        else:
            self._by_frame[frame] = lease.outer


def _open_ones(stack: _Stack) -> _Stack:
    while stack is not None and stack[0].ended:
        stack = stack[1]
    return stack
