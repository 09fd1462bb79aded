"""Threads that an event loop awaits, and that do not keep the process from ending."""

from __future__ import annotations

import asyncio
import contextlib
import threading
from collections.abc import Callable
from contextvars import copy_context
from typing import Any, TypeVar

__all__ = ["in_thread", "soon"]

T = TypeVar("T")


async def in_thread(function: Callable[[], T], name: str = "p8fs-step") -> T:
    """Return what a thread of its own returns: each has one, so none waits for another."""
    loop = asyncio.get_running_loop()
    future: asyncio.Future[T] = loop.create_future()

    def settle(how: Callable[[Any], None], value: Any) -> None:
        if not future.done():
            how(value)

    def work() -> None:
        try:
            value = function()
        except BaseException as exc:
            soon(loop, settle, future.set_exception, exc)
        else:
            soon(loop, settle, future.set_result, value)

    threading.Thread(target=copy_context().run, args=(work,), name=name, daemon=True).start()
    return await future


def soon(loop: asyncio.AbstractEventLoop, function: Callable[..., object], *arguments: Any) -> None:
    """Call a function in a loop's thread, unless the loop is closed; a signal handler may call this."""
    with contextlib.suppress(RuntimeError):
        loop.call_soon_threadsafe(function, *arguments)
