"""Running a function for as long as a lease is held, for asyncio: it is cancelled when the lease is lost."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable
from typing import Any

from p8fs_cluster.coordination.async_calling import AsyncEvent, AsyncPlace
from p8fs_cluster.coordination.functions import name_of
from p8fs_cluster.coordination.holding import Holding
from p8fs_cluster.coordination.terms import Term

__all__ = ["async_run"]


async def async_run(place: AsyncPlace, holding: Holding, term: Term, call: Callable[[], Any]) -> Any:
    """Return what a call returns, awaited; it is cancelled when the term is lost.

    :raises LeaseLost: the term was lost meanwhile.
    """

    async def called() -> Any:
        result = call()
        return await result if inspect.isawaitable(result) else result

    lost = AsyncEvent(place)
    holding.watch(term, lost.set)
    task, watching = asyncio.ensure_future(called()), asyncio.ensure_future(lost.wait())
    try:
        await asyncio.wait({task, watching}, return_when=asyncio.FIRST_COMPLETED)
    finally:
        watching.cancel()
        task.cancel()
        await asyncio.gather(task, watching, return_exceptions=True)  # its end, before anybody else has the lease
    if not term.is_held(holding.coordinator.clock.now()):
        raise holding.over(term)
    if task.cancelled():  # passed on, it would look like an end of who asks
        raise RuntimeError(f"the function was cancelled by something that it awaited: {name_of(call)}")
    return task.result()
