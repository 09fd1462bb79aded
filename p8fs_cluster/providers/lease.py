"""One borrowed connection, and how the end of a `with storage` block finds the lease that its beginning took."""

from __future__ import annotations

from collections.abc import Callable
from contextvars import ContextVar
from types import FrameType, TracebackType
from typing import Any

from p8fs_cluster.providers.slot import Slot

__all__ = ["Entered", "Lease"]


class Lease:
    """A connection for one `with` block."""

    __slots__ = ("_enter_slot", "connection", "ended", "frame", "outer", "slot")
    slot: Slot
    connection: Any
    frame: FrameType | None
    outer: Lease | None

    def __init__(self, enter_slot: Callable[[], Slot]) -> None:
        self._enter_slot = enter_slot
        self.ended = False

    def __enter__(self) -> Any:
        self.slot = slot = self._enter_slot()
        try:
            self.connection = slot.engine.acquire()
        except BaseException:
            slot.leave()
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
            slot.leave()


_Stack = tuple[Lease, Any] | None
_here: ContextVar[_Stack] = ContextVar("p8fs_cluster_entered", default=None)


class Entered:
    """The leases of a handle's open `with` blocks.

    A `with` statement begins and ends in one frame, whatever thread or context runs it by then: FastAPI, for one, runs
    each half of a generator in another. So the frame tells. An ExitStack ends elsewhere than it begins, but in one
    context, which tells then. Frames are held, so that another one can't be mistaken for one that is gone.
    """

    def __init__(self) -> None:
        self._by_frame: dict[FrameType, Lease] = {}

    def push(self, frame: FrameType, lease: Lease) -> None:
        """Remember the lease of a block that begins in `frame`."""
        lease.frame = frame
        lease.outer = self._by_frame.get(frame)
        self._by_frame[frame] = lease
        _here.set((lease, _open_ones(_here.get())))

    def pop(self, frame: FrameType) -> Lease | None:
        """Return the lease of the block that ends in `frame`, None when there is none."""
        lease = self._by_frame.get(frame)
        if lease is None:
            lease = self._of_this_context()
        if lease is not None:
            self._forget(lease)
        return lease

    def _of_this_context(self) -> Lease | None:
        stack = _open_ones(_here.get())
        while stack is not None:
            lease: Lease = stack[0]
            if not lease.ended and lease in self._by_frame.values():
                return lease
            stack = stack[1]
        return None

    def _forget(self, lease: Lease) -> None:
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
