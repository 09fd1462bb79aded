"""One borrowed connection, and how the end of a `with storage` block finds the checkout that its beginning took."""

from __future__ import annotations

import inspect
import logging
import sys
import time
import weakref
from collections.abc import Callable
from contextvars import ContextVar
from itertools import islice
from opcode import opmap
from pathlib import Path
from types import CodeType, FrameType, TracebackType
from typing import Any

from p8fs_cluster.exceptions import PoolExhausted, StorageError
from p8fs_cluster.providers.storage.engine_lifecycle import Slot

__all__ = ["Borrowed", "Checkout", "Entered"]

log = logging.getLogger("p8fs_cluster.storage")

EnterSlot = Callable[["Checkout", float | None], Slot]
"""Returns the slot in force with the checkout counted, by the deadline."""


class Site:
    """A place in a program that borrows."""

    def __init__(self, code: CodeType, instruction: int) -> None:
        self.code = code
        self.instruction = instruction
        path = Path(code.co_filename)
        self.is_library = (
            path.is_relative_to(_PACKAGE) or "sqlalchemy" in path.parts or path.name == "contextlib.py"
        )  # it borrows for somebody else
        self.is_with = code.co_code[instruction] == _BEFORE_WITH
        """Whether the block that begins here ends in the same frame, for sure."""

    def __str__(self) -> str:
        line, *_ = next(islice(self.code.co_positions(), self.instruction // 2, None))
        return f"{self.code.co_filename}:{line} in {self.code.co_qualname}"


_PACKAGE = Path(__file__).parents[2]
_BEFORE_WITH = opmap.get("BEFORE_WITH", -1)
_sites: dict[tuple[int, int], Site] = {}
_MANY = 10_000


def site_of(frame: FrameType) -> Site:
    """Return the place where a frame is. The line comes later: Python takes half a microsecond to find it."""
    code, instruction = frame.f_code, frame.f_lasti
    key = id(code), instruction  # a code's hash takes longer than all of this
    site = _sites.get(key)
    if site is None or site.code is not code:
        if len(_sites) >= _MANY:
            _sites.clear()
        site = _sites[key] = Site(code, instruction)
    return site


class Borrowed:
    """Who borrowed a connection: the place, and since when by the monotonic clock."""

    connection: Any = None
    ended = False
    told = False
    """Whether it was reported as one that is held for long."""
    frame: FrameType | None = None
    """Of a block of the handle itself."""
    instruction = -1
    """Where in the frame it begins, if it is a `with` statement."""
    outer: Borrowed | None = None
    """The block around it in the same frame."""
    entered: Entered | None = None
    """What holds it until its block ends."""
    site: Site
    since: float

    def note(self, borrower: FrameType) -> None:
        """Note where the frame is, or the one that called library code there, and the time."""
        self.site = site = site_of(borrower)
        if site.is_library:
            while self.site.is_library and borrower.f_back is not None:
                borrower = borrower.f_back
                self.site = site_of(borrower)
        self.since = time.monotonic()

    def is_abandoned(self) -> bool:
        """Return whether its block was left without its end: a signal handler's exception may strike in between.

        That is known of a `with` statement alone, whose frame has ended. An ExitStack outlives the frame that fills it.
        """
        if self.frame is None or self.entered is None or self.instruction < 0 or not _has_ended(self.frame):
            return False
        self.entered.forget(self)
        return True

    def __str__(self) -> str:
        return f"borrowed at {self.site}, {time.monotonic() - self.since:.1f} s ago"


class Checkout(Borrowed):
    """A connection for one `with` block, and who borrowed it."""

    slot: Slot
    reference: weakref.ref[Any]

    def __init__(self, enter_slot: EnterSlot, timeout: float | None = None) -> None:
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
            self.connection = slot.engine.acquire(deadline, self.reference)
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
        if self.connection is None:
            raise StorageError("this block has ended already, or was never begun")
        self.ended = True
        slot = self.slot
        if slot.inherited:
            _inherited.append(self.connection)
            return  # forked inside the block: the connection is the parent's to give back
        try:
            slot.engine.release(self.connection, exc)
        finally:
            self.connection = None
            slot.leave(self)

    def abandon(self) -> None:
        """End it, whose block never came to its end."""
        log.warning("a block was interrupted before it could give its connection back: %s", self)
        try:
            if getattr(self.connection, "holder", None) is self.reference:
                self.slot.engine.release(self.connection, _Abandoned())
        finally:
            self.ended, self.connection = True, None
            self.slot.leave(self)


class _Abandoned(Exception):
    """Told to the engine, which rolls back."""


_inherited: list[Any] = []
"""Connections of the process that this one was forked from: nothing may finalize them."""


_Stack = tuple[Borrowed, Any] | None
_here: ContextVar[_Stack] = ContextVar("p8fs_cluster_entered", default=None)


class Entered:
    """The checkouts of a handle's open `with` blocks.

    A `with` statement begins and ends in one frame, whatever thread or context runs it by then: FastAPI, for one, runs
    each half of a generator in another. So the frame tells. An ExitStack ends elsewhere than it begins, but in one
    context, which tells then. Frames are held, so that another one can't be mistaken for one that is gone.
    """

    def __init__(self) -> None:
        self.by_frame: dict[FrameType, Borrowed] = {}
        """The innermost open block of each frame."""

    def end_abandoned(self, frame: FrameType) -> None:
        """End an earlier block that began where `frame` is now, and was interrupted before its end, in a loop."""
        checkout = self.by_frame.get(frame)
        while checkout is not None:
            if checkout.instruction == frame.f_lasti and isinstance(checkout, Checkout):
                self.forget(checkout)
                checkout.abandon()
                return
            checkout = checkout.outer

    def push(self, frame: FrameType, checkout: Borrowed) -> None:
        """Remember the checkout of a block that begins in `frame`."""
        checkout.frame, checkout.entered = frame, self
        is_with = site_of(frame).is_with
        if is_with:
            checkout.instruction = frame.f_lasti
        if frame in self.by_frame:
            checkout.outer = self.by_frame[frame]
        self.by_frame[frame] = checkout
        if not is_with:
            _here.set((checkout, _open_ones(_here.get())))

    def pop(self, frame: FrameType) -> Borrowed | None:
        """Return the checkout of the block that ends in `frame`, None when there is none."""
        checkout = self.by_frame.pop(frame, None)
        if checkout is None:
            checkout = self._of_this_context()
            if checkout is not None:
                self.forget(checkout)
        elif checkout.outer is not None:
            self.by_frame[frame] = checkout.outer
        return checkout

    def _of_this_context(self) -> Borrowed | None:
        stack = _open_ones(_here.get())
        while stack is not None:
            checkout: Borrowed = stack[0]
            if not checkout.ended and checkout in self.by_frame.values():
                return checkout
            stack = stack[1]
        return None

    def forget(self, checkout: Borrowed) -> None:
        """Hold a checkout no longer."""
        frame, checkout.frame = checkout.frame, None
        if frame is None:
            return
        inner = self.by_frame[frame]
        if inner is not checkout:
            while inner.outer is not None and inner.outer is not checkout:
                inner = inner.outer
            inner.outer = checkout.outer
        elif checkout.outer is None:
            del self.by_frame[frame]
        else:
            self.by_frame[frame] = checkout.outer


def _has_ended(frame: FrameType) -> bool:
    """Return whether a frame is not on any stack any more; of a generator's that can't be told."""
    if frame.f_code.co_flags & _SUSPENDABLE:
        return False
    try:
        frame.clear()  # refused for one that is executed
    except RuntimeError:
        return False
    return True


_SUSPENDABLE = inspect.CO_GENERATOR | inspect.CO_COROUTINE | inspect.CO_ASYNC_GENERATOR


def _open_ones(stack: _Stack) -> _Stack:
    while stack is not None and stack[0].ended:
        stack = stack[1]
    return stack
