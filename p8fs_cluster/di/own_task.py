"""Opening and closing a value in one task, as a task group or a timeout within must end where it began.

Where neither has to wait, whoever asks does it at once in that task's name: no turn of the event loop is lost.
"""

from __future__ import annotations

import asyncio
from asyncio import _get_running_loop
from collections.abc import Awaitable, Coroutine, Generator
from contextvars import Context, copy_context
from typing import Any

from p8fs_cluster.di.entering import Opened, is_awaited, leave
from p8fs_cluster.di.keeping import building
from p8fs_cluster.exceptions import InjectionError

__all__ = ["open_in_own_task"]


def open_in_own_task(opening: Coroutine[Any, Any, Opened]) -> Opened:
    """Open in a task of its own, which closes as well. The value is a future; the exit may return one to await."""
    own = _OwnTask(opening)
    own.open()
    return Opened(own.value, own.close)


class _OwnTask:
    """The task in whose name a value is opened and closed."""

    def __init__(self, opening: Coroutine[Any, Any, Opened]) -> None:
        self._loop = asyncio.get_running_loop()
        self.value: asyncio.Future[Any] = self._loop.create_future()
        self._told: asyncio.Future[BaseException | None] = self._loop.create_future()
        """Brings the exception that the value is closed with."""
        self._context = copy_context()
        self._opened = Opened(None, None)
        self._opening = _Steps(opening)
        self._closing: _Steps | None = None
        self._task = self._loop.create_task(_Startable(self._live()), context=self._context)

    def open(self) -> None:
        """Take the first step of opening."""
        try:
            self._opening.begin(self._task, self._context)
        except BaseException as exc:
            self._told.set_result(None)
            if not isinstance(exc, (Exception, asyncio.CancelledError)):
                self.value.cancel()
                raise
            self._fail(exc)
            return
        if self._opening.is_done:
            self._context.run(self._has_opened)

    def close(self, kind: Any, exc: BaseException | None, traceback: Any) -> Awaitable[None] | None:
        """Take the first step of closing, and return what is to be awaited, unless that was the last one."""
        is_idle = self.value.done() and not (self._told.done() or self._task.cancelling())
        if not is_idle or _get_running_loop() is not self._loop:
            return self._close_later(exc)
        self._closing = closing = _Steps(_left(self._opened, exc))
        try:
            closing.begin(self._task, self._context)
        finally:
            if not self._told.done():
                self._told.set_result(None)
        return None if closing.is_done else self._task

    async def _close_later(self, exc: BaseException | None) -> None:
        if not self._told.done():
            self._told.set_result(exc)
        await self._task

    async def _live(self) -> None:
        if not self._opening.is_begun:  # an event loop that begins tasks at once
            await asyncio.sleep(0)
        if not self.value.done():
            try:
                await self._opening
            except BaseException as exc:
                self._fail(exc)
                if isinstance(exc, asyncio.CancelledError):
                    raise
                return
            self._has_opened()
        if self._opening.is_done:
            await self._end()

    async def _end(self) -> None:
        """Close the value when it is told to, or when the task is cancelled, as a task group within does.

        Unless the value handles that, the task ends as cancelled: whoever ends the scope must not take it for success.
        """
        cancelled: BaseException | None = None
        try:
            exc = await self._told
        except asyncio.CancelledError as caught:
            exc = cancelled = caught
        if self._closing is None:
            is_handled = await _left(self._opened, exc)
            if cancelled is not None and not is_handled:
                raise cancelled
        elif not self._closing.is_done:
            self._closing.thrown = exc
            await self._closing

    def _has_opened(self) -> None:
        building.set(None)
        self._opened = self._opening.result
        if self._told.done():
            self.value.set_exception(InjectionError("the scope has ended before its value was open"))
            self.value.exception()  # it is no fault if nobody waits any more
        else:
            self.value.set_result(self._opened.value)

    def _fail(self, exc: BaseException) -> None:
        if isinstance(exc, asyncio.CancelledError):
            self.value.cancel()
        else:
            self.value.set_exception(exc)


class _Startable(Coroutine[Any, Any, None]):
    """A coroutine that a task may cancel before its first step: it is cancelled where it waits first."""

    def __init__(self, coroutine: Coroutine[Any, Any, None]) -> None:
        self._coroutine = coroutine
        self._is_started = False

    def send(self, value: Any) -> Any:
        self._is_started = True
        return self._coroutine.send(value)

    def throw(self, *exc: Any) -> Any:
        if not self._is_started:
            self.send(None)
        return self._coroutine.throw(*exc)

    def close(self) -> None:
        self._coroutine.close()

    def __await__(self) -> Generator[Any, Any, None]:
        return self._coroutine.__await__()

    def __getattr__(self, name: str) -> Any:
        return getattr(self._coroutine, name)


class _Steps:
    """A coroutine of a task whose first step another task takes in its name."""

    def __init__(self, coroutine: Coroutine[Any, Any, Any]) -> None:
        self._coroutine = coroutine
        self._waits_for: Any = None
        self.is_begun = False
        self.is_done = False
        self.result: Any = None
        self.thrown: BaseException | None = None
        """The exception to go on with."""

    def begin(self, task: asyncio.Task[Any], context: Context) -> None:
        """Take the first step. What it raises is raised here; the task awaits the rest, unless it is done."""
        loop = task.get_loop()
        current = asyncio.current_task(loop)
        self.is_begun = True
        if current is not None:
            asyncio._leave_task(loop, current)
        asyncio._enter_task(loop, task)
        try:
            self._waits_for = context.run(self._coroutine.send, None)
        except StopIteration as done:
            self.is_done, self.result = True, done.value
        except BaseException:
            self.is_done = True
            raise
        finally:
            asyncio._leave_task(loop, task)
            if current is not None:
                asyncio._enter_task(loop, current)

    def __await__(self) -> Generator[Any, Any, Any]:
        try:
            if self.thrown is not None:
                self._waits_for = self._coroutine.throw(self.thrown)
            while True:
                try:
                    sent = yield self._waits_for
                except BaseException as exc:
                    self._waits_for = self._coroutine.throw(exc)
                else:
                    self._waits_for = self._coroutine.send(sent)
        except StopIteration as done:
            self.is_done, self.result = True, done.value


async def _left(opened: Opened, exc: BaseException | None) -> bool:
    """Close a value, and return whether it has handled the exception."""
    left = leave(opened, exc)
    return bool(await left if is_awaited(left) else left)
