"""What a thread of its own comes to, and those who wait for it."""

from __future__ import annotations

import sys
import threading
from itertools import count
from queue import SimpleQueue
from types import FrameType
from typing import Any

import pytest

from p8fs_cluster.providers.storage.outcome import Outcome


class Interrupt(Exception):
    """What a signal handler might raise."""


def test_all_who_wait_have_what_was_returned() -> None:
    outcome: Outcome[str] = Outcome()
    heard: SimpleQueue[str] = SimpleQueue()
    threads = [threading.Thread(target=lambda: heard.put(outcome.result(30))) for _ in range(3)]
    for thread in threads:
        thread.start()
    outcome.begin(outcome.returned, "found")
    assert [heard.get(timeout=30) for _ in threads] == ["found"] * 3
    assert outcome.result() == "found"


def test_what_was_raised_is_raised_in_each() -> None:
    outcome: Outcome[None] = Outcome()
    outcome.begin(outcome.raised, ValueError("no"))
    for _ in range(2):
        with pytest.raises(ValueError, match="no"):
            outcome.result(30)


def test_nothing_in_time() -> None:
    outcome: Outcome[None] = Outcome()
    with pytest.raises(TimeoutError):
        outcome.result(0)
    assert outcome.claim()
    assert not outcome.claim()


def test_an_exception_before_any_line_hangs_nobody() -> None:
    """Lines of the standard library too: it is their locks that are left held."""
    struck = True

    def strike(line: int) -> None:
        nonlocal struck
        left, struck = line, False

        def trace(_: FrameType, event: str, __: Any) -> Any:
            nonlocal left, struck
            left -= event == "line"
            if not left:
                sys.settrace(None)
                struck = True
                raise Interrupt
            return trace

        sys.settrace(trace)

    for line in count(1):
        outcome: Outcome[int] = Outcome()
        told: SimpleQueue[int] = SimpleQueue()

        def work(outcome: Outcome[int] = outcome, told: SimpleQueue[int] = told, line: int = line) -> None:
            outcome.returned(line)
            told.put(line)

        begun = False
        strike(line)
        try:
            outcome.begin(work)
            begun = True
            outcome.result(30)
        except Interrupt:
            assert struck
        finally:
            sys.settrace(None)
        if begun or not told.empty():
            assert told.get(timeout=30) == line
            assert outcome.result(30) == line
        if not struck:
            break
    assert line > 5
