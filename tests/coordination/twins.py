"""The asynchronous cluster in the clothes of the synchronous one, so that one text of a test serves both."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from tests.conformance.awaited import Awaited, Loop

__all__ = ["Twin"]

_OURS = "p8fs_cluster.coordination."


class Twin:
    """A cluster, a lock, a leader or an event for asyncio; whatever is called runs in the loop, and is waited for."""

    def __init__(self, loop: Loop, behind: Any) -> None:
        self._loop = loop
        self._behind = behind

    def __getattr__(self, name: str) -> Any:
        found = self._loop.call(getattr, self._behind, name)
        return functools.partial(self._called, found) if callable(found) and not isinstance(found, Exception) else (
            self._wrapped(found)
        )  # fmt: skip

    def __enter__(self) -> Any:
        return self._wrapped(self._loop.call(self._behind.__aenter__))

    def __exit__(self, *exc_info: object) -> None:
        self._loop.call(self._behind.__aexit__, *exc_info)

    def leader_only(self, *args: Any, **kwargs: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Decorate a function of the test, which blocks nobody."""
        decorate = self._loop.call(self._behind.leader_only, *args, **kwargs)

        def decorated(function: Callable[..., Any]) -> Callable[..., Any]:
            return functools.partial(self._loop.call, decorate(as_coroutine(function)))

        return decorated

    def run_while_leader(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Run a function of the test, as a coroutine function."""
        return self._loop.call(self._behind.run_while_leader, as_coroutine(function), *args, **kwargs)

    def _called(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        args = tuple(argument.behind if isinstance(argument, Awaited) else argument for argument in args)
        return self._wrapped(self._loop.call(function, *args, **kwargs))

    def _each(self, results: Any) -> Any:
        while (result := self._loop.call(anext, results, None)) is not None:
            yield result

    def _wrapped(self, result: Any) -> Any:
        if inspect.isasyncgen(result):
            return self._each(result)
        asynchronous = type(result).__module__.startswith(_OURS) and type(result).__name__.startswith("Async")
        return Twin(self._loop, result) if asynchronous else result


def as_coroutine(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a coroutine function that does what a function does, in a thread."""
    if inspect.iscoroutinefunction(function):
        return function

    @functools.wraps(function)
    async def called(*args: Any, **kwargs: Any) -> Any:
        import asyncio

        return await asyncio.to_thread(function, *args, **kwargs)

    return called
