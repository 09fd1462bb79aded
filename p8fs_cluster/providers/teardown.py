"""Closing what was opened: in the reverse order of opening, every step tried, the faults told together."""

from __future__ import annotations

import inspect
import itertools
from collections.abc import Callable, Iterable
from typing import Any

from p8fs_cluster.exceptions import CloseError

__all__ = ["OPENED", "Step", "close", "close_async"]

Step = tuple[int, str, Callable[[], Any]]
"""The number of its opening, its name, and what closes it."""

OPENED = itertools.count(1)
"""Numbers whatever is opened, so that it can be closed in reverse order."""

Faults = list[tuple[str, BaseException]]


def close(steps: Iterable[Step]) -> None:
    """Run the steps, the last opened first.

    :raises CloseError: some failed; every other one was done.
    """
    faults: Faults = []
    for _, name, step in _reversed(steps):
        try:
            if inspect.isawaitable(pending := step()):
                _dispose(pending)
                raise RuntimeError("an asynchronous resource: use `async with` or `await aclose()`")
        except BaseException as exc:
            faults.append((name, exc))
    _raise(faults)


async def close_async(steps: Iterable[Step]) -> None:
    """Do as `close` does, and await what is asynchronous.

    :raises CloseError: some failed; every other one was done.
    """
    faults: Faults = []
    for _, name, step in _reversed(steps):
        try:
            if inspect.isawaitable(pending := step()):
                await pending
        except BaseException as exc:
            faults.append((name, exc))
    _raise(faults)


def _reversed(steps: Iterable[Step]) -> list[Step]:
    return sorted(steps, key=lambda step: step[0], reverse=True)


def _dispose(pending: Any) -> None:
    close = getattr(pending, "close", None)
    if close:
        close()


def _raise(faults: Faults) -> None:
    for _, exc in faults:
        if not isinstance(exc, Exception):
            raise exc
    if faults:
        raise CloseError(tuple(faults))
