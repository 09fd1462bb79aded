"""Closing what was opened: in the reverse order of opening, every step tried, the faults told together."""

from __future__ import annotations

import asyncio
import inspect
import itertools
from abc import ABC, abstractmethod
from collections.abc import Awaitable, Callable, Iterable
from typing import Any

from p8fs_cluster.exceptions import CloseError

__all__ = ["OPENED", "Closable", "Lasting", "Step", "close", "close_async", "close_begun"]

Step = tuple[int, str, Callable[[], Any]]
"""The number of its opening, its name, and what closes it."""


class Lasting:
    """A handle that stays valid when its container is closed and entered again."""


class Closable(Lasting, ABC):
    """A handle that opens its parts on demand, and whose end belongs to the singleton that keeps it."""

    @abstractmethod
    def opened(self) -> list[Step]:
        """Forget the parts that are open, and return what closes them."""

    @abstractmethod
    def shut(self) -> None:
        """Refuse from now on."""

    @abstractmethod
    def reopen(self) -> None:
        """Serve (again)."""

    def cut_off(self) -> None:
        """End what borrowers still hold, when a process ends; a handle that lends nothing has nothing to do."""


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


def close_begun(steps: Iterable[Step], after: Callable[[], None]) -> asyncio.Future[None] | None:
    """Run the steps now, and `after`; from the first asynchronous one on they are a task of the running loop.

    :raises CloseError: some failed; every other one was done.
    """
    faults: Faults = []
    ordered = _reversed(steps)
    for number, (_, name, step) in enumerate(ordered, 1):
        try:
            if inspect.isawaitable(pending := step()):
                if asyncio._get_running_loop() is not None:
                    return asyncio.ensure_future(_close_rest(name, pending, ordered[number:], faults, after))
                _dispose(pending)
                raise RuntimeError("an asynchronous resource: call this where its event loop runs")
        except BaseException as exc:
            faults.append((name, exc))
    after()
    _raise(faults)
    return None


async def _close_rest(
    name: str, pending: Awaitable[object], rest: list[Step], faults: Faults, after: Callable[[], None]
) -> None:
    try:
        await pending
    except BaseException as exc:
        faults.append((name, exc))
    try:
        await close_async(rest)
    except CloseError as exc:
        faults.extend(exc.errors)
    finally:
        after()
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
