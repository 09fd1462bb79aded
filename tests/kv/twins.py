"""The asynchronous key-value store in the clothes of the synchronous one."""

from __future__ import annotations

import asyncio
import functools
from collections.abc import Callable
from typing import Any

from tests.conformance import twins
from tests.coordination.twins import as_coroutine

__all__ = ["Twin"]


class Twin(twins.Twin):
    """A store, an atomic or a transaction."""

    def cached(self, *args: Any, **kwargs: Any) -> Callable[[Any], Any]:
        """Decorate a function of the test, as a coroutine function."""

        def decorated(function: Any) -> Any:
            cached = self._behind.cached(*args, **kwargs)(as_coroutine(function))
            called: Any = functools.wraps(function)(functools.partial(self._loop.call, cached))
            called.forget = functools.partial(self._loop.call, cached.forget)
            return called

        return decorated

    def run_in_transaction(self, work: Callable[[Any], Any], **kwargs: Any) -> Any:
        """Run a function of the test, in a thread, on the transaction."""

        async def in_a_thread(transaction: Any) -> Any:
            return await asyncio.to_thread(work, Twin(self._loop, transaction))

        return self._loop.call(self._behind.run_in_transaction, in_a_thread, **kwargs)
