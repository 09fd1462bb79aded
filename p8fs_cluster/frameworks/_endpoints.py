"""The functions that an application's routes call, for the check of their injections at the start."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from typing import Any

__all__ = ["endpoints"]


def endpoints(routes: Iterable[Any]) -> list[Any]:
    """Return the handlers of routes, of those that are mounted too, and what FastAPI's `Depends` asks for them."""
    return list(dict.fromkeys(filter(inspect.isfunction, _called(routes))))


def _called(routes: Iterable[Any]) -> Iterator[Any]:
    for route in routes:
        yield getattr(route, "endpoint", None)
        yield from _of_dependant(getattr(route, "dependant", None))
        yield from _called(getattr(route, "routes", None) or ())


def _of_dependant(dependant: Any) -> Iterator[Any]:
    for inner in getattr(dependant, "dependencies", ()):
        yield inner.call
        yield from _of_dependant(inner)
