"""Running and joining the calls of cached functions, for threads: each runs in the thread that has begun it."""

from __future__ import annotations

import inspect
from collections.abc import Callable
from typing import Any

from p8fs_cluster.exceptions import KVError
from p8fs_cluster.kv.flights import Flight, Flights, Outcome

__all__ = ["flown", "joined", "require"]


def require(function: Any) -> None:
    """Return if this is a function that returns a value, not something to await.

    :raises KVError: it is none.
    """
    if inspect.iscoroutinefunction(function) or inspect.iscoroutinefunction(getattr(function, "__call__", None)):  # noqa: B004
        raise KVError("a KV caches what `def` returns: for a coroutine function use container.async_kv().cached")


def flown(flights: Flights, key: int | bytes, flight: Flight, call: Callable[[], bytes | None]) -> bytes | None:
    """Run a new call, and return what it returns."""
    outcome = Outcome()
    try:
        outcome = Outcome(call())
    except Exception as exc:
        outcome = Outcome(fault=exc)
        raise
    finally:
        flights.end(key, flight, outcome)
    return outcome.payload


def joined(flights: Flights, flight: Flight) -> bytes | None:
    """Return what a call returns."""
    return flight.outcome.result().get()
