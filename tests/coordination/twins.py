"""The asynchronous cluster in the clothes of the synchronous one."""

from __future__ import annotations

import asyncio
import functools
import inspect
from collections.abc import Callable
from typing import Any

from tests.conformance import twins

__all__ = ["Twin", "as_coroutine"]


class Twin(twins.Twin):
    """A cluster, a lock, a leader or an event."""

    def leader_only(self, *args: Any, **kwargs: Any) -> Callable[[Callable[..., Any]], Callable[..., Any]]:
        """Decorate a function of the test, which blocks nobody."""
        decorate = self._loop.call(self._behind.leader_only, *args, **kwargs)

        def decorated(function: Callable[..., Any]) -> Callable[..., Any]:
            return functools.partial(self._loop.call, decorate(as_coroutine(function)))

        return decorated

    def run_while_leader(self, function: Callable[..., Any], *args: Any, **kwargs: Any) -> Any:
        """Run a function of the test, as a coroutine function."""
        return self._loop.call(self._behind.run_while_leader, as_coroutine(function), *args, **kwargs)


def as_coroutine(function: Callable[..., Any]) -> Callable[..., Any]:
    """Return a coroutine function that does what a function does, in a thread."""
    if inspect.iscoroutinefunction(function):
        return function

    @functools.wraps(function)
    async def called(*args: Any, **kwargs: Any) -> Any:
        return await asyncio.to_thread(function, *args, **kwargs)

    return called
