"""The asynchronous key-value store in the clothes of the synchronous one, so that one text of a test serves both."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable
from typing import Any

from tests.conformance.awaited import Loop

__all__ = ["Twin"]


class Twin:
    """A handle, an atomic or a transaction for asyncio; whatever is called runs in the loop, and is waited for."""

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

    def run_in_transaction(self, work: Callable[[Any], Any], **kwargs: Any) -> Any:
        async def in_a_thread(transaction: Any) -> Any:
            return await asyncio.to_thread(work, Twin(self._loop, transaction))

        return self._loop.call(self._behind.run_in_transaction, in_a_thread, **kwargs)

    def _called(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        return self._wrapped(self._loop.call(function, *args, **kwargs))

    def _each(self, results: Any) -> Any:
        while (result := self._loop.call(anext, results, None)) is not None:
            yield result

    def _wrapped(self, result: Any) -> Any:
        if inspect.isasyncgen(result):
            return self._each(result)
        return Twin(self._loop, result) if type(result).__name__.startswith("Async") else result
