"""Waits of the asyncio side: calls run in the coordinator's thread, and events come into the event loop."""

from __future__ import annotations

import asyncio
import contextlib
import contextvars
import inspect
import logging
from collections.abc import Callable, Coroutine
from typing import Any, TypeVar

from p8fs_cluster.coordination.coordinator import CLOSED, Coordinator
from p8fs_cluster.coordination.functions import name_of, takes
from p8fs_cluster.exceptions import CoordinationError

__all__ = ["AsyncEvent", "AsyncPlace"]

log = logging.getLogger("p8fs_cluster.coordination")

T = TypeVar("T")


class AsyncEvent:
    """An event that any thread may set, and one event loop waits for."""

    def __init__(self, place: AsyncPlace) -> None:
        self._loop = place.loop
        self._event = asyncio.Event()
        self._set = False

    def set(self) -> None:
        """Set it, from any thread."""
        self._set = True
        _in_loop(self._loop, self._event.set)

    def clear(self) -> None:
        """Begin anew."""
        self._set = False
        self._event.clear()

    def is_set(self) -> bool:
        """Return whether it was set."""
        return self._set

    async def wait(self, timeout: float | None = None) -> bool:
        """Return whether it is set, when it is or so many seconds have passed."""
        with contextlib.suppress(TimeoutError):
            await asyncio.wait_for(self._event.wait(), timeout)
        return self._set


class AsyncPlace:
    """The event loop that a lock or a leader belongs to while it is used."""

    def __init__(self, coordinator: Coordinator) -> None:
        self._coordinator = coordinator
        self._context = contextvars.copy_context()
        self.loop = asyncio.get_running_loop()

    async def run(self, call: Callable[[], T]) -> T:
        """Return what a call returns that waits for the store."""
        future: asyncio.Future[T] = self.loop.create_future()

        def run() -> None:
            try:
                result = call()
            except BaseException as exc:
                _in_loop(self.loop, _settle, future, None, exc)
            else:
                _in_loop(self.loop, _settle, future, result, None)

        if self._coordinator.closed:
            raise CoordinationError(CLOSED)
        closed = CoordinationError(CLOSED)
        self._coordinator.calls.soon(run, lambda: _in_loop(self.loop, _settle, future, None, closed))
        return await future

    async def pause(self, seconds: float, event: AsyncEvent) -> None:
        """Wait for an event, at most so many seconds of the coordinator's clock."""
        coordinator = self._coordinator
        due = coordinator.deadlines.at(coordinator.clock.now() + seconds, event.set, event.set)
        try:
            if not coordinator.closing:
                await event.wait()
            event.clear()
        finally:
            due.cancel()

    def spawn(self, work: Callable[[], Coroutine[Any, Any, None]], name: str) -> asyncio.Task[None]:
        """Let work run beside its caller, in the caller's context."""
        return self.loop.create_task(work(), name=f"p8fs-cluster {name}")

    async def join(self, running: asyncio.Task[None], seconds: float | None) -> None:
        """Return when work has ended, or after so many seconds."""
        await asyncio.wait({running}, timeout=seconds)

    def tell(self, callback: Callable[..., Any], argument: object) -> None:
        """Call in the event loop what a user gave, and await what it returns, in the context in which this was made."""

        async def called() -> None:
            try:
                result = callback(*takes(callback, argument))
                if inspect.isawaitable(result):
                    await result
            except Exception:
                log.exception("a callback of coordination failed: %s", name_of(callback))

        def begin() -> None:
            task = self.loop.create_task(called(), context=self._context.copy())
            _tasks.add(task)
            task.add_done_callback(_tasks.discard)

        _in_loop(self.loop, begin)


_tasks: set[asyncio.Task[None]] = set()
"""Callbacks that run: an event loop references its tasks weakly."""


def _in_loop(loop: asyncio.AbstractEventLoop, call: Callable[..., object], *args: object) -> None:
    if not loop.is_closed():
        loop.call_soon_threadsafe(call, *args)


def _settle(future: asyncio.Future[Any], result: object, exc: BaseException | None) -> None:
    if future.done():
        return
    if exc is None:
        future.set_result(result)
    else:
        future.set_exception(exc)
