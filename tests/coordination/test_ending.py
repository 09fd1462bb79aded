"""The end of a container: what runs under leases ends first, then they are given up, and nothing begins any more."""

from __future__ import annotations

import asyncio
import contextlib
import threading
import time
from collections.abc import Callable
from typing import Any

import pytest

from p8fs_cluster import Container
from p8fs_cluster.coordination import coordinator as coordinator_module
from p8fs_cluster.exceptions import CloseError, CoordinationError, LeaseLost
from tests.coordination.conftest import Case
from tests.coordination.test_schedules import EACH_SECOND, _pass, _schedule
from tests.coordination.twins import as_coroutine
from tests.processes import until


class Background:
    """A call in a thread of its own, and what it has raised or returned."""

    def __init__(self, call: Callable[..., Any], *args: Any) -> None:
        self.result: Any = None
        self.fault: BaseException | None = None
        self._thread = threading.Thread(target=self._run, args=(call, *args), daemon=True)
        self._thread.start()

    def _run(self, call: Callable[..., Any], *args: Any) -> None:
        try:
            self.result = call(*args)
        except BaseException as exc:
            self.fault = exc

    def join(self) -> None:
        self._thread.join(60)
        assert not self._thread.is_alive(), "it goes on for ever"


def _holder(case: Case, key: str) -> Any:
    """Return who has a lease, seen from outside."""
    if case.sql:
        with Container(config=case.settings) as container:
            [(holder,)] = container.storage().execute("SELECT holder FROM p8fs_leases WHERE name = %s", (key,))
    else:
        [(holder,)] = case.sql_of("SELECT holder FROM p8fs_leases WHERE name = %s", (key,))
    return holder


def _holder_at_the_end_of(case: Case, key: str, begun: threading.Event, over: list[Any]) -> Callable[[], Any]:
    """Return a leader's function that runs until it is told to end, and then looks who has the lease."""
    leader = case.cluster.leader("scheduler", **case.timing)

    async def work_async() -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            over.append(await asyncio.to_thread(_holder, case, key))

    def work() -> None:
        begun.set()
        while not leader.lost.wait(0.05):
            assert leader.is_leader
        over.append((_holder(case, key), leader.is_leader))

    return work_async if case.loop else work


def test_a_leaders_function_ends_before_its_lease_is_given_up(sql_case: Case) -> None:
    begun, over = threading.Event(), []
    leader = sql_case.cluster.leader("scheduler", **sql_case.timing)
    work = _holder_at_the_end_of(sql_case, "leader:scheduler", begun, over)
    running = Background(leader.run_while_leader, work)
    assert begun.wait(60)
    holder = _holder(sql_case, "leader:scheduler")
    assert holder is not None
    sql_case.close()
    running.join()
    assert over == [holder if sql_case.loop else (holder, False)]
    assert isinstance(running.fault, LeaseLost)
    assert "container is closed" in str(running.fault)
    assert _holder(sql_case, "leader:scheduler") is None, "others lead at once"


def test_a_candidate_is_told_when_its_container_is_closed(case: Case) -> None:
    leader = case.cluster.leader("scheduler", **case.timing)
    assert leader.wait(60)
    leader.withdraw()
    case.sql_of("UPDATE p8fs_leases SET holder = 'somebody', owner = 'else', expires_at = expires_at + 600000000")
    waiting = [Background(leader.wait), Background(leader.run_while_leader, lambda: None)]
    candidacy = case.container.coordination().coordinator().candidacies["leader:scheduler"]
    until(lambda: len(candidacy.changed) == 2, "they wait")
    case.close()
    for each in waiting:
        each.join()
        assert isinstance(each.fault, CoordinationError)
        assert "was closed" in str(each.fault)


def test_who_asks_while_the_container_is_closed_does_not_stand_again(
    sql_case: Case, caplog: pytest.LogCaptureFixture
) -> None:
    caplog.set_level("INFO", "p8fs_cluster.coordination")
    leader = sql_case.cluster.leader("scheduler", **sql_case.timing)
    assert leader.wait(60)
    asking, asked = threading.Event(), []

    def ask() -> None:
        while not asking.is_set():
            asked.append(leader.is_leader)

    polls = Background(ask)
    until(lambda: asked, "it asks")
    sql_case.close()
    asking.set()
    polls.join()
    assert polls.fault is None
    assert asked[-1] is False
    assert caplog.text.count("elected, with the token") == 1


def test_a_scheduled_run_ends_before_its_lease_is_given_up_and_is_noted(sql_case: Case) -> None:
    begun, over = threading.Event(), []

    def work() -> None:
        begun.set()
        time.sleep(0.3)  # longer than closing takes otherwise
        over.append(_holder(sql_case, "schedule:nightly"))

    _schedule(sql_case, sql_case.cluster, work)
    assert begun.wait(60)
    sql_case.close()
    assert len(over) == 1
    assert over[0] is not None
    assert _holder(sql_case, "schedule:nightly") is None
    with Container(config=sql_case.settings) as container:
        outcomes = container.storage().execute("SELECT outcome FROM p8fs_scheduled_runs")
    assert outcomes == [("done",)]


def test_what_is_done_once_is_recorded_by_a_container_that_is_being_closed(sql_case: Case) -> None:
    begun = threading.Event()

    def migrate() -> None:
        begun.set()
        time.sleep(0.3)

    running = Background(sql_case.cluster.once, "migrate", as_coroutine(migrate) if sql_case.loop else migrate)
    assert begun.wait(60)
    sql_case.close()
    running.join()
    assert (running.fault, running.result) == (None, True)
    assert sql_case.other().once("migrate", migrate) is False


def test_what_does_not_end_keeps_its_lease_until_that_ends(
    sql_case: Case, caplog: pytest.LogCaptureFixture, monkeypatch: pytest.MonkeyPatch
) -> None:
    """On threads nothing can be ended: nobody else is to begin at once beside it."""
    monkeypatch.setattr(coordinator_module, "_PATIENCE", 0.2)
    begun, go_on = threading.Event(), threading.Event()
    leader = sql_case.cluster.leader("scheduler", ttl=15)

    async def stubborn() -> None:
        begun.set()
        while not go_on.is_set():
            with contextlib.suppress(asyncio.CancelledError):
                await asyncio.sleep(0.05)

    def work() -> None:
        begun.set()
        go_on.wait(60)

    running = Background(leader.run_while_leader, stubborn if sql_case.loop else work)
    assert begun.wait(60)
    sql_case.close()
    assert _holder(sql_case, "leader:scheduler") is not None
    assert "runs on, although its container is closed" in caplog.text
    go_on.set()
    running.join()
    assert isinstance(running.fault, LeaseLost)


def test_a_job_that_exits_is_a_run_that_failed(moved_case: Case) -> None:
    calls: list[int] = []

    def leave() -> None:
        calls.append(1)
        if len(calls) == 1:
            raise asyncio.CancelledError if moved_case.loop else SystemExit(3)

    with _schedule(moved_case, moved_case.cluster, leave) as schedule:
        _pass(moved_case, lambda: len(calls) >= 2)
        _pass(moved_case, lambda: len([run for run in schedule.runs() if run.outcome]) >= 2)
        outcomes = [run.outcome for run in schedule.runs()]
    assert outcomes[-2] == "done", "the schedule goes on"
    assert ("was cancelled" if moved_case.loop else "SystemExit: 3") in outcomes[-1]


class TestInTheLoopItself:
    """As in a web server's lifespan: the container is closed by the loop that its work runs in."""

    @pytest.fixture
    def container(self, rocksdb_settings: dict[str, Any]) -> Container:
        return Container(config=rocksdb_settings)

    @staticmethod
    async def _led(over: list[Any], begun: asyncio.Event, coordinator: Any) -> None:
        begun.set()
        try:
            await asyncio.Event().wait()
        finally:
            await asyncio.sleep(0.1)
            over.append(coordinator.closed)

    async def _leading(self, container: Container, over: list[Any]) -> tuple[asyncio.Task[Any], Any]:
        """Lead in a task."""
        begun, leader = asyncio.Event(), container.async_cluster().leader("scheduler")
        coordinator = container.coordination().coordinator()
        task = asyncio.create_task(leader.run_while_leader(self._led, over, begun, coordinator))
        await begun.wait()
        return task, leader

    def test_tasks_are_waited_for(self, container: Container) -> None:
        async def main() -> None:
            over: list[Any] = []
            async with container:
                task, leader = await self._leading(container, over)
            assert over == [False], "its lease was not given up yet"
            assert not leader.is_leader
            with pytest.raises(LeaseLost, match="container is closed"):
                await task

        asyncio.run(main())

    def test_a_cancelled_task_of_a_leader_gives_up_its_lease(self, container: Container) -> None:
        async def main() -> None:
            over: list[Any] = []
            async with container:
                task, leader = await self._leading(container, over)
                task.cancel()
                await asyncio.wait({task})
                assert task.cancelled()
                assert over == [False]
                assert not leader.is_leader
                async with container.async_cluster().leader("scheduler") as again:
                    assert await again.wait(60)

        asyncio.run(main())

    def test_closed_without_awaiting_it_tells_what_to_write(self, container: Container) -> None:
        async def main() -> None:
            over: list[Any] = []
            with pytest.raises(CloseError, match="async with"), container:
                task, _ = await self._leading(container, over)
            with pytest.raises(LeaseLost):
                await task
            assert over == [True]

        asyncio.run(main())

    def test_a_run_at_hand_is_finished(self, container: Container) -> None:
        async def main() -> None:
            done: list[int] = []
            begun = asyncio.Event()

            async def job() -> None:
                begun.set()
                await asyncio.sleep(0.2)
                done.append(1)

            async with container:
                schedule = container.async_cluster().schedule("nightly", EACH_SECOND, job)
                await begun.wait()
            assert done == [1]
            async with container:
                schedule = container.async_cluster().schedule("nightly", "0 0 1 1 *", job)
                assert [run.outcome for run in await schedule.runs()] == ["done"]

        asyncio.run(main())

    def test_the_function_itself_may_close_the_container(self, container: Container) -> None:
        async def main() -> None:
            async with container:
                with pytest.raises(LeaseLost):
                    await container.async_cluster().leader("scheduler").run_while_leader(container.aclose)

        asyncio.run(main())


def test_a_thread_may_close_the_container_that_its_function_runs_under(rocksdb_settings: dict[str, Any]) -> None:
    with Container(config=rocksdb_settings) as container, pytest.raises(LeaseLost):
        container.cluster().leader("scheduler").run_while_leader(container.close)


def test_what_the_function_uses_is_closed_after_it(rocksdb_settings: dict[str, Any]) -> None:
    """Although it was opened later."""
    begun, ended = threading.Event(), []
    with Container(config={**rocksdb_settings, "pool_drain_timeout": 0.01}) as container:
        leader = container.cluster().leader("scheduler")

        def work() -> None:
            with container.storage() as connection:
                begun.set()
                assert leader.lost.wait(60)
                connection[b"written"] = b"yes"
            ended.append(1)

        running = Background(leader.run_while_leader, work)
        assert begun.wait(60)
    running.join()
    assert ended, running.fault


def test_a_container_that_is_entered_twice_ends_with_the_outer_block(case: Case) -> None:
    leader = case.cluster.leader("scheduler", **case.timing)
    with case.container:
        assert leader.wait(60)
    assert leader.is_leader
    case.close()
    assert not leader.is_leader
    with case.container:
        if case.kind != "memory":  # the override's own is not entered with it
            assert leader.wait(60), "it stands again"
