"""Which container serves the functions that the cluster calls: that of whoever gave them."""

from __future__ import annotations

import asyncio
import threading
from collections.abc import Iterator
from typing import Any

import pytest

from p8fs_cluster import Container, Provide, inject
from tests.coordination.conftest import Case
from tests.coordination.twins import as_coroutine
from tests.processes import until


@inject
def port(api: Any = Provide[Container.api]) -> int:
    number: int = api.port
    return number


@pytest.fixture
def another() -> Iterator[None]:
    """Another container, which is entered in another thread, so that nothing but the context tells which serves."""
    entered, over = threading.Event(), threading.Event()

    def stay() -> None:
        with Container(config={"api_port": 1}):
            entered.set()
            over.wait(60)

    thread = threading.Thread(target=stay)
    thread.start()
    entered.wait(60)
    yield
    over.set()
    thread.join()


@pytest.fixture
def seen(case: Case, another: None) -> Iterator[list[Any]]:
    """The values that the functions saw, each called within a container whose port is 9001."""
    with case.container.config.override({"api_port": 9001}):
        yield []


def _within(case: Case, call: Any) -> Any:
    """Call in the context of the application: on asyncio in a task that has entered the container, as a lifespan."""
    if case.loop is None:
        return call(case.container.cluster())

    async def called() -> Any:
        async with case.container:
            result = call(case.container.async_cluster())
            return await result if asyncio.iscoroutine(result) else result

    return case.loop.call(called)


def _given(case: Case, fn: Any) -> Any:
    return as_coroutine(fn) if case.loop else fn


def test_a_scheduled_function(case: Case, seen: list[Any]) -> None:
    schedule = _within(
        case, lambda cluster: cluster.schedule("nightly", "* * * * * *", _given(case, lambda: seen.append(port())))
    )

    def ran() -> bool:
        if case.clock is not None:
            case.clock.move(0.3)
        return bool(seen)

    until(ran, "it runs")
    case.loop.call(schedule.stop) if case.loop else schedule.stop()
    assert set(seen) == {9001}


def test_what_is_done_once_and_what_a_leader_does(case: Case, seen: list[Any]) -> None:
    _within(case, lambda cluster: cluster.once("migrate", _given(case, lambda: seen.append(port()))))
    _within(
        case,
        lambda cluster: cluster.leader("scheduler", **case.timing).run_while_leader(
            _given(case, lambda: seen.append(port()))
        ),
    )
    _within(case, lambda cluster: cluster.leader_only("other", case.timing["ttl"])(_given(case, _noted(seen)))())
    assert seen == [9001] * 3


def _noted(seen: list[Any]) -> Any:
    return lambda: seen.append(port())


def test_the_callbacks_of_a_leader_and_of_a_lock(case: Case, seen: list[Any]) -> None:
    leader = _within(
        case, lambda cluster: cluster.leader("scheduler", **case.timing, on_elected=_noted(seen), on_lost=_noted(seen))
    )
    until(lambda: len(seen) == 1, "it is told of the election")
    case.loop.call(leader.withdraw) if case.loop else leader.withdraw()
    until(lambda: len(seen) == 2, "it is told of the end")

    async def lock_async(cluster: Any) -> None:
        await cluster.lock("invoices", **case.timing, on_lost=_noted(seen)).acquire()

    _within(
        case,
        lock_async
        if case.loop
        else lambda cluster: cluster.lock("invoices", **case.timing, on_lost=_noted(seen)).acquire(),
    )
    case.sql_of("UPDATE p8fs_leases SET holder = 'somebody', owner = 'else', fence = fence + 1")

    def told() -> bool:
        if case.clock is not None:
            case.clock.move(0.2)
        return len(seen) == 3

    until(told, "it is told that the lock is lost")
    assert seen == [9001] * 3
