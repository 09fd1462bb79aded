"""Nothing that is secret gets into logs, messages and tables of coordination."""

from __future__ import annotations

import asyncio
import functools
import threading

import pytest

from p8fs_cluster import Container
from p8fs_cluster.exceptions import CoordinationError, LeaseLost
from p8fs_cluster.testing import MovedClock, memory_coordination
from tests.coordination.conftest import Case
from tests.coordination.twins import as_coroutine
from tests.processes import until

SECRET = "hunter2-hunter2"


def test_a_function_that_runs_on_is_told_without_its_arguments(
    moved_case: Case, caplog: pytest.LogCaptureFixture
) -> None:
    assert moved_case.clock is not None
    running, go_on = threading.Event(), threading.Event()

    def hang(password: str) -> None:
        running.set()
        go_on.wait(60)

    def run() -> None:
        with pytest.raises(LeaseLost):
            moved_case.cluster.leader("scheduler", ttl=15).run_while_leader(hang, SECRET)

    thread = threading.Thread(target=run)
    thread.start()
    assert running.wait(60)
    moved_case.container.coordination().coordinator().renewals.close(5)
    moved_case.clock.move(14)
    until(lambda: "is lost" in caplog.text, "the loss is told")
    if moved_case.loop is None:
        until(lambda: "hang runs on" in caplog.text, "and the function")
    go_on.set()
    thread.join(60)
    assert SECRET not in caplog.text


def test_a_callback_that_fails_is_told_without_its_arguments(
    moved_case: Case, caplog: pytest.LogCaptureFixture
) -> None:
    def fail(password: str, token: object) -> None:
        raise ZeroDivisionError

    leader = moved_case.cluster.leader("scheduler", on_elected=functools.partial(fail, SECRET))
    assert leader.wait(60)
    until(lambda: "a callback of coordination failed" in caplog.text, "it is told")
    assert "fail" in caplog.text
    assert SECRET not in caplog.text


def test_how_a_run_has_ended_is_kept_without_secrets(moved_case: Case) -> None:
    assert moved_case.clock is not None

    def fail() -> None:
        raise ValueError("postgresql://me:hunter2-hunter2@db/app " + "x" * 10_000)

    fn = as_coroutine(fail) if moved_case.loop else fail
    with moved_case.cluster.schedule("nightly", "* * * * * *", fn) as schedule:

        def ended() -> bool:
            assert moved_case.clock is not None
            moved_case.clock.move(0.5)
            return any(run.outcome for run in schedule.runs())

        until(ended, "a run has ended")
        [told] = {run.outcome for run in schedule.runs() if run.outcome}
    assert told.startswith("ValueError: postgresql://me:***@db/app")
    assert SECRET not in told
    assert len(told) == 500


def test_nobody_awaits_for_ever_what_the_end_of_a_container_drops() -> None:
    """A call waits behind another one, and never comes."""

    async def closed() -> str:
        container = Container()
        with container.coordination.override(memory_coordination(MovedClock())):
            coordinator = container.coordination().coordinator()
            begun, go_on = threading.Event(), threading.Event()
            coordinator.calls.soon(lambda: (begun.set(), go_on.wait(60)))
            assert await asyncio.to_thread(begun.wait, 60)
            waiting = asyncio.ensure_future(container.async_cluster().nodes())
            await asyncio.sleep(0)
            closing = asyncio.ensure_future(asyncio.to_thread(coordinator.calls.close, 60))
            try:
                with pytest.raises(CoordinationError, match="closed"):
                    await asyncio.wait_for(waiting, 60)
            finally:
                go_on.set()
                await closing
            for _, _, close in container.coordination().opened():
                close()
        return "told"

    assert asyncio.run(closed()) == "told"
