"""An asynchronous object in the clothes of the synchronous one, so that one text of a test serves both."""

from __future__ import annotations

import functools
import inspect
from collections.abc import Callable
from typing import Any

from tests.conformance.awaited import Awaited, Loop

__all__ = ["Twin"]


class Twin:
    """A handle of ours for asyncio, or what it has returned; whatever is called runs in the loop, and is waited for."""

    def __init__(self, loop: Loop | None, behind: Any) -> None:
        assert loop is not None
        self._loop = loop
        self._behind = behind

    def __getattr__(self, name: str) -> Any:
        found = self._loop.call(getattr, self._behind, name)
        return functools.partial(self._called, found) if inspect.isroutine(found) else self._wrapped(found)

    def __enter__(self) -> Any:
        return self._wrapped(self._loop.call(self._behind.__aenter__))

    def __exit__(self, *exc_info: object) -> None:
        self._loop.call(self._behind.__aexit__, *exc_info)

    def _called(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        args = tuple(argument.behind if isinstance(argument, Awaited) else argument for argument in args)
        return self._wrapped(self._loop.call(function, *args, **kwargs))

    def _each(self, results: Any) -> Any:
        while (result := self._loop.call(anext, results, None)) is not None:
            yield result

    def _wrapped(self, result: Any) -> Any:
        if inspect.isasyncgen(result):
            return self._each(result)
        cls = type(result)
        ours = cls.__module__.startswith("p8fs_cluster.") and cls.__name__.startswith("Async")
        return type(self)(self._loop, result) if ours else result
