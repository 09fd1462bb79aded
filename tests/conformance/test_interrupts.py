"""An exception of a signal handler strikes anywhere: no place is lost, and no connection is lent out of step."""

from __future__ import annotations

import random
import signal
import sys
import threading
from collections.abc import Callable
from contextlib import suppress
from itertools import count
from types import FrameType
from typing import Any

import pytest

from p8fs_cluster.providers.storage import handle as module
from tests.conformance.cases import Case
from tests.conformance.conftest import SMALL
from tests.servers.capabilities import needs

pytestmark = pytest.mark.filterwarnings(  # which is how a socket or a connection that was dropped is told
    "ignore::ResourceWarning", "ignore::pytest.PytestUnraisableExceptionWarning"
)
SIGNALS = 60
OURS = module.__file__.removesuffix("handle.py")


class Interrupt(Exception):
    """What the handler raises."""


def interrupt_before(line: int) -> None:
    """Raise before that line of ours, the first being 1, in what this thread calls from now on; 0: before none."""
    left = line or -1

    def trace(frame: FrameType, event: str, _: Any) -> Any:
        nonlocal left
        if not frame.f_code.co_filename.startswith(OURS):
            return None
        left -= event == "line"
        if not left:
            sys.settrace(None)
            raise Interrupt
        return trace

    sys.settrace(trace)


def interrupted(line: int, use: Callable[[], object]) -> bool:
    """Interrupt a use before a line; return whether it came so far."""
    interrupt_before(line)
    try:
        use()
    except Interrupt:
        return True
    finally:
        sys.settrace(None)
    return False


def all_can_be_borrowed(case: Case) -> bool:
    with case.storage, case.storage, case.storage as connection:
        case.access.put(connection, f"key{random.random()}", "x")
    return case.size() == 0


@pytest.mark.parametrize("form", ["with", "connection", "execute"])
def test_before_any_line_of_a_block(thread_case: Case, form: str) -> None:
    needs(thread_case.kind, "connections that end when they are dropped")
    storage, access = thread_case.storage, thread_case.access

    def use() -> None:
        if form == "with":
            with storage as connection:
                access.get(connection, "key")
        elif form == "connection":
            with storage.connection() as connection:
                access.get(connection, "key")
        elif thread_case.sql:
            storage.execute("SELECT 1")

    assert all_can_be_borrowed(thread_case)
    for line in count(1):
        more = interrupted(line, use)
        if line % SMALL == 0 or not more:
            assert all_can_be_borrowed(thread_case), line
        if not more:
            break


def test_before_any_line_of_a_block_in_a_frame_that_lives_on(thread_case: Case) -> None:
    """What was interrupted before its block began, or came to its end, is taken back, though its frame goes on."""
    needs(thread_case.kind, "connections that end when they are dropped")
    assert all_can_be_borrowed(thread_case)
    for line in count(1):
        struck = True
        for before in (line, 0):
            interrupt_before(before)
            try:
                with thread_case.storage as connection:
                    thread_case.access.get(connection, "key")
            except Interrupt:
                assert before == line
                struck = True
            else:
                struck = struck and not before
            finally:
                sys.settrace(None)
        assert all_can_be_borrowed(thread_case), line
        if not struck:
            break


@pytest.mark.timeout(method="thread")  # the signal of the other method is the one used here
@pytest.mark.skipif(threading.current_thread() is not threading.main_thread(), reason="signals reach the main thread")
def test_signals_at_any_moment(thread_case: Case) -> None:
    needs(thread_case.kind, "connections that end when they are dropped")
    storage, access = thread_case.storage, thread_case.access
    thread_case.put("key", "value")

    struck = False

    def handler(*_: object) -> None:
        nonlocal struck
        if not struck:
            struck = True
            raise Interrupt

    def use(seconds: float) -> None:
        """Come to an end also where Python drops the exception, as it does in a `__del__`.

        Again each second: a thread of RocksDB's may be the one that the signal reaches, and Python does not look then.
        """
        nonlocal struck
        struck = False
        with suppress(Interrupt):
            signal.setitimer(signal.ITIMER_REAL, seconds, 1)
            while not struck:
                with storage as connection:
                    assert access.get(connection, "key") == "value"

    before = signal.signal(signal.SIGALRM, handler)
    chance = random.Random(5)
    try:
        for _ in range(SIGNALS):
            use(chance.uniform(0.0002, 0.005))
    finally:
        signal.setitimer(signal.ITIMER_REAL, 0)
        signal.signal(signal.SIGALRM, before)
    assert all_can_be_borrowed(thread_case)
