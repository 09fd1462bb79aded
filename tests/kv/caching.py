"""Functions to cache, and calls of them beside the test."""

from __future__ import annotations

import threading
from collections.abc import Callable
from concurrent.futures import Future
from typing import Any

from tests.kv.conftest import Case
from tests.processes import until

THREADS = 6


class Slow:
    """A function that counts its runs, each of which ends when it is told to."""

    def __init__(self) -> None:
        self.runs: list[object] = []
        self.may_end = threading.Event()

    def __call__(self, what: object) -> list[object]:
        run = len(self.runs) + 1
        self.runs.append(what)
        assert self.may_end.wait(60)
        return [what, run]


def begun(function: Callable[..., Any], *args: object) -> Future[Any]:
    """Call in a thread of its own."""
    future: Future[Any] = Future()

    def run() -> None:
        try:
            future.set_result(function(*args))
        except BaseException as exc:
            future.set_exception(exc)

    threading.Thread(target=run, daemon=True).start()
    return future


def asking(case: Case, count: int) -> None:
    """Return when so many calls to the store were made."""
    until(lambda: case.kv.stats()["calls"] >= count, f"{count} calls to the store")


def giving(result: Any) -> Callable[[], Any]:
    return lambda: result
