"""Opening what yields: a generator, a context manager, sync or async, by whatever a provider calls."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
from collections.abc import Callable, Generator
from types import TracebackType
from typing import Any, Final, NamedTuple, TypeAlias

__all__ = [
    "Exit",
    "Opened",
    "closes",
    "generator_of",
    "is_asynchronous",
    "is_awaited",
    "leave",
    "open_async",
    "open_generator",
    "open_in_task",
    "open_now",
    "opens_asynchronously",
]

Exit: TypeAlias = Callable[[type[BaseException] | None, BaseException | None, TracebackType | None], Any]


class Opened(NamedTuple):
    """A value that was opened, and the function that closes it; None if there is nothing to close."""

    value: Any
    exit: Exit | None


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


def open_now(made: Any) -> Opened:
    """Enter a context manager; anything else is the value itself."""
    if hasattr(made, "__enter__") and hasattr(made, "__exit__"):
        return Opened(made.__enter__(), made.__exit__)
    return Opened(made, None)


def leave(opened: Opened, exc: BaseException | None) -> Any:
    """Call what ends `opened`, told of an exception. Return what that returns, which may have to be awaited."""
    if opened.exit is None:
        return None
    return opened.exit(None, None, None) if exc is None else opened.exit(type(exc), exc, exc.__traceback__)


def open_generator(begun: Generator[Any, Any, Any]) -> Opened:
    """Do as `open_now` with the context manager over a generator, in half the time."""
    for value in begun:
        return Opened(value, _EndOf(begun))
    raise RuntimeError("generator didn't yield")


class _EndOf:
    """Closes a generator that has yielded once."""

    __slots__ = ("_begun",)

    def __init__(self, begun: Generator[Any, Any, Any]) -> None:
        self._begun = begun

    def __call__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> Any:
        if exc is None:
            for _ in self._begun:
                self._begun.close()
                raise RuntimeError("generator didn't stop")
            return None
        manager: Any = contextlib.contextmanager(lambda: self._begun)()
        return manager.__exit__(exc_type, exc, traceback)


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

    async def leave(*exc_info: Any) -> Any:
        await entering
        left = opened[0].exit and opened[0].exit(*exc_info)
        return await left if inspect.isawaitable(left) else left

    entering = asyncio.ensure_future(enter())
    return Opened(entering, leave)
