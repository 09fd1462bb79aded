"""Opening what yields: a generator, a context manager, sync or async, by whatever a provider calls."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
from collections.abc import AsyncGenerator, Callable, Generator
from types import GeneratorType, TracebackType
from typing import Any, Final, NamedTuple, TypeAlias

__all__ = [
    "Exit",
    "Opened",
    "begun",
    "closes",
    "end_by",
    "generator_of",
    "is_asynchronous",
    "is_awaited",
    "is_brought",
    "leave",
    "open_async",
    "open_async_generator",
    "open_in_task",
    "open_now",
    "opens_asynchronously",
    "settled",
]

Exit: TypeAlias = Callable[[type[BaseException] | None, BaseException | None, TracebackType | None], Any]


class Opened(NamedTuple):
    """A value that was opened, and the function that closes it; None if there is nothing to close."""

    value: Any
    exit: Exit | Generator[Any, Any, Any] | None


def generator_of(provides: Any) -> Callable[..., Generator[Any, Any, Any]] | None:
    """Return the generator function from which `contextlib.contextmanager` made `provides`, None if it did not."""
    made_here = getattr(provides, "__code__", None) is _HELPER
    found: Callable[..., Generator[Any, Any, Any]] | None = provides.__wrapped__ if made_here else None
    return found


_HELPER: Final = contextlib.contextmanager(iter).__code__


def is_asynchronous(made: Any) -> bool:
    """Return whether `made` has to be awaited to be opened."""
    return is_awaited(made) or (hasattr(made, "__aenter__") and not hasattr(made, "__enter__"))


def opens_asynchronously(provides: Any) -> bool:
    """Return whether a function or class is known, before it is called, to give what is opened asynchronously."""
    call = _unwrapped(provides)
    if isinstance(call, type):
        return hasattr(call, "__aenter__") and not hasattr(call, "__enter__")
    return inspect.iscoroutinefunction(call) or inspect.isasyncgenfunction(call)


def closes(provides: Any) -> bool:
    """Return whether a function or class is known, before it is called, to give what has to be closed after use."""
    call = _unwrapped(provides)
    if isinstance(call, type):
        return any(hasattr(call, name) for name in ("__exit__", "__aexit__", "shutdown"))
    return inspect.isgeneratorfunction(call) or inspect.isasyncgenfunction(call)


def _unwrapped(provides: Any) -> Any:
    return inspect.unwrap(provides) if inspect.isroutine(provides) else provides


def is_awaited(made: Any) -> bool:
    """Return whether `made` is a promise. An object that merely can be awaited is a value."""
    return asyncio.isfuture(made) or inspect.iscoroutine(made)


def is_brought(promise: Any) -> bool:
    """Return whether a promise has brought a value, rather than an exception."""
    return asyncio.isfuture(promise) and promise.done() and not promise.cancelled() and promise.exception() is None


def settled(value: Any) -> Any:
    """Return what a promise that was kept has brought, else the value itself."""
    return value.result() if asyncio.isfuture(value) and value.done() else value


def open_now(made: Any) -> Opened:
    """Enter a context manager; anything else is the value itself."""
    if hasattr(made, "__enter__") and hasattr(made, "__exit__"):
        return Opened(made.__enter__(), made.__exit__)
    return Opened(made, None)


def leave(opened: Opened, exc: BaseException | None) -> Any:
    """Call what ends `opened`, told of an exception. Return what that returns, which may have to be awaited."""
    return end_by(opened.exit, exc)


def end_by(exit: Exit | Generator[Any, Any, Any] | None, exc: BaseException | None) -> Any:
    """Close by an exit, or by going on with a generator that has yielded; return what may have to be awaited."""
    if exit is None:
        return None
    if type(exit) is GeneratorType:
        if exc is not None:
            return _thrown(exit, exc)
        for _ in exit:
            exit.close()
            raise RuntimeError(f"{exit!r} yielded more than once")
        return None
    call: Any = exit
    return call(None, None, None) if exc is None else call(type(exc), exc, exc.__traceback__)


def _thrown(opened: Generator[Any, Any, Any], exc: BaseException) -> Any:
    manager: Any = contextlib.contextmanager(lambda: opened)()
    return manager.__exit__(type(exc), exc, exc.__traceback__)


def begun(generator: Generator[Any, Any, Any]) -> Any:
    """Return what a generator yields, with which it is open; it is closed by going on."""
    for value in generator:
        return value
    raise RuntimeError(f"{generator!r} did not yield")


async def open_async_generator(generator: AsyncGenerator[Any, Any]) -> Opened:
    """Do as `open_async` with the context manager over a generator, in half the time."""
    async for value in generator:
        return Opened(value, functools.partial(_end_async_generator, generator))
    raise RuntimeError(f"{generator!r} did not yield")


async def _end_async_generator(generator: AsyncGenerator[Any, Any], kind: Any, exc: Any, traceback: Any) -> Any:
    if exc is not None:
        manager: Any = contextlib.asynccontextmanager(lambda: generator)()
        return await manager.__aexit__(kind, exc, traceback)
    async for _ in generator:
        await generator.aclose()
        raise RuntimeError(f"{generator!r} yielded more than once")
    return None


async def open_async(made: Any) -> Opened:
    """Do as `open_now` does with what is to be awaited, or is an asynchronous context manager."""
    if is_awaited(made):
        made = await made
    if hasattr(made, "__aenter__") and hasattr(made, "__aexit__"):
        return Opened(await made.__aenter__(), made.__aexit__)
    return open_now(made)


def open_in_task(made: Any) -> Opened:
    """Begin `open_async` in a task of the running loop: the value is its future, and the exit is to be awaited."""
    opened: list[Opened] = []

    async def enter() -> Any:
        opened.append(await open_async(made))
        return opened[0].value

    async def end(*exc_info: Any) -> Any:
        await entering
        left = leave(opened[0], exc_info[1])
        return await left if inspect.isawaitable(left) else left

    entering = asyncio.ensure_future(enter())
    return Opened(entering, end)
