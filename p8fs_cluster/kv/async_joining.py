"""Running and joining the calls of cached functions, for asyncio: each is a task that belongs to all its callers."""

from __future__ import annotations

import asyncio
import inspect
from collections.abc import Callable, Coroutine
from typing import Any

from p8fs_cluster.exceptions import KVError
from p8fs_cluster.kv.flights import Flight, Flights, Outcome

__all__ = ["async_flown", "async_joined", "async_require"]


def async_require(function: Any) -> None:
    """Return if this is a coroutine function.

    :raises KVError: it is none.
    """
    if not (inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None))):  # noqa: B004
        raise KVError("an AsyncKV caches what `async def` returns: for another function use container.kv().cached")


async def async_flown(
    flights: Flights, key: int | bytes, flight: Flight, call: Callable[[], Coroutine[Any, Any, bytes | None]]
) -> bytes | None:
    """Run a new call beside its caller, in the caller's context, and return what it returns.

    A caller that is cancelled leaves it to the others; with the last one the call ends as well.
    """
    loop = asyncio.get_running_loop()
    task = loop.create_task(call(), name="p8fs-cluster cached")
    task.add_done_callback(lambda task: flights.end(key, flight, _outcome_of(task)))

    def cancel() -> None:
        if not task.cancelling():  # a second time would cut short what it does about the first
            task.cancel()

    flight.cancel = lambda: loop.call_soon_threadsafe(cancel)
    return await async_joined(flights, flight)


async def async_joined(flights: Flights, flight: Flight) -> bytes | None:
    """Return what a call returns."""
    try:
        return (await asyncio.wrap_future(flight.outcome)).get()
    except asyncio.CancelledError:
        if flights.leave(flight) and flight.cancel is not None:
            flight.cancel()
            await asyncio.wrap_future(flight.outcome)
        raise


def _outcome_of(task: asyncio.Task[bytes | None]) -> Outcome:
    if task.cancelled():
        by_itself = RuntimeError("a cached function was cancelled by something that it awaited")
        return Outcome() if task.cancelling() else Outcome(fault=by_itself)
    fault = task.exception()
    if fault is None:
        return Outcome(task.result())
    return Outcome(fault=fault) if isinstance(fault, Exception) else Outcome()
