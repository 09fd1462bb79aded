"""`kv.cached` in several processes and event loops: one computes for all, whatever becomes of it."""

from __future__ import annotations

import asyncio
import contextlib
import signal
import threading
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import pytest

from p8fs_cluster import Container
from p8fs_cluster.kv import AsyncKV
from p8fs_cluster.testing import memory_storage
from tests.conformance.awaited import Loop
from tests.coordination.twins import as_coroutine
from tests.kv.caching import THREADS, Slow, asking, begun
from tests.kv.computing import asked
from tests.kv.conftest import Case, opened
from tests.processes import Running, forked, running, until
from tests.servers import Server

# Several processes


@contextlib.contextmanager
def processes(
    case: Case, tmp_path: Path, count: int, threads: int, way: str = "quickly"
) -> Iterator[tuple[Any, list[Running]]]:
    """Give the store, and processes that ask at once."""
    kv = case.kv.namespace("computed")
    kv.clear()
    with contextlib.ExitStack() as stack:
        arguments = ("-m", "tests.kv.computing", threads, way)
        started = [
            stack.enter_context(running(tmp_path / f"{number}.log", *arguments, settings=case.settings))
            for number in range(count)
        ]
        started[0].until(lambda: int(kv.get("ready") or 0) == count, "all are ready")
        kv.put("begin", b"")
        yield kv, started


def runs(kv: Any) -> int:
    return int(kv.get("runs") or 0)


def test_of_four_processes_with_four_threads_each_one_computes(sql_case: Case, tmp_path: Path) -> None:
    with processes(sql_case, tmp_path, 4, 4) as (kv, started):
        assert [process.wait() for process in started] == [0] * 4
        assert [process.output.split("\n")[:4] for process in started] == [["['what', 1]"] * 4] * 4
        assert runs(kv) == 1


@pytest.fixture(params=["postgresql", "async postgresql", "mariadb", "async mariadb"])
def waiting_case(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Case]:
    server: Server = request.getfixturevalue(f"{request.param.removeprefix('async ')}_server")
    settings = {**server.settings, "kv_create": True}
    with opened(request.param.removeprefix("async "), request.param.startswith("async"), settings) as case:
        yield case


def test_when_the_owner_is_killed_its_claim_ends(waiting_case: Case, tmp_path: Path) -> None:
    with processes(waiting_case, tmp_path, 1, 1, "until told") as (kv, [owner]):
        owner.until(lambda: runs(kv) == 1, "it computes")
        waiting = begun(asked(kv, "quickly"), "what")
        looked = kv.stats()["calls"]
        owner.end(signal.SIGKILL)
        until(lambda: kv.stats()["calls"] > looked + 3, "it looks at the claim now and then")
        assert not waiting.done() and runs(kv) == 1
        [claim] = kv.scan("cached:", keys_only=True)
        waiting_case.end("computed", claim.decode())
        assert waiting.result(60) == ["what", 2] and runs(kv) == 2


def test_when_the_owner_raises_those_who_wait_compute(waiting_case: Case, tmp_path: Path) -> None:
    with processes(waiting_case, tmp_path, 1, 1, "in vain") as (kv, [owner]):
        owner.until(lambda: runs(kv) == 1, "it computes")
        waiting = begun(asked(kv, "quickly"), "what")
        kv.put("go on", b"")
        assert waiting.result(60) == ["what", 2] and runs(kv) == 2
        assert owner.wait() == 1 and "RuntimeError: there is no answer" in owner.output


def test_those_who_wait_get_the_result_of_another_process(waiting_case: Case, tmp_path: Path) -> None:
    with processes(waiting_case, tmp_path, 1, 1, "until told") as (kv, [owner]):
        owner.until(lambda: runs(kv) == 1, "it computes")
        answer = asked(kv, "quickly")
        waiting = [begun(answer, "what") for _ in range(THREADS)]
        asking(waiting_case, kv.stats()["calls"] + THREADS + 3)
        kv.put("go on", b"")
        assert [each.result(60) for each in waiting] == [["what", 1]] * THREADS and runs(kv) == 1


def test_a_forked_child_waits_for_its_parent_as_for_anybody(postgresql_server: Server) -> None:
    settings = {**postgresql_server.settings, "kv_create": True}
    with Container(config=settings) as container:
        kv = container.kv().namespace("computed")
        kv.clear()
        answer = asked(kv, "until told")
        parents = begun(answer, "what")
        until(lambda: runs(kv) == 1, "it computes")

        def child() -> Any:
            kv.put("go on", b"")
            return answer("what")

        assert forked(child) == ["what", 1] and parents.result(60) == ["what", 1]


# Asyncio


@pytest.fixture(params=["memory", "rocksdb", "postgresql", "mariadb"])
def async_case(request: pytest.FixtureRequest, tmp_path: Path) -> Iterator[Case]:
    settings: dict[str, Any] = {"storage_provider": "rocksdb", "rocksdb_path": tmp_path / "rocksdb"}
    if request.param in ("postgresql", "mariadb"):
        settings = {**request.getfixturevalue(f"{request.param}_server").settings, "kv_create": True}
    with opened(request.param, True, settings) as case:
        case.kv.namespace("computed").clear()
        yield case


@dataclass
class Tasks:
    """A coroutine function that counts its runs, and the store that it is cached in."""

    kv: AsyncKV[Any]

    def __post_init__(self) -> None:
        self.runs, self.ends = 0, 0
        self.may_end = asyncio.Event()
        self.cached = self.kv.cached(60, name="slow")(self.slow)

    async def slow(self, what: str) -> Any:
        self.runs += 1
        try:
            await self.may_end.wait()
        finally:
            self.ends += 1
        return what

    async def begun(self) -> None:
        while not self.runs:
            await asyncio.sleep(0.001)


def run_tasks(case: Case, work: Callable[[Tasks], Any]) -> Any:
    async def run() -> Any:
        async with asyncio.timeout(60):
            return await work(Tasks(case.container.async_kv().namespace("computed").json))

    assert case.loop is not None
    return case.loop.call(run)


def test_in_one_loop_callers_join(async_case: Case) -> None:
    async def work(tasks: Tasks) -> None:
        calls = [asyncio.create_task(tasks.cached("a")) for _ in range(30)]
        await tasks.begun()
        tasks.may_end.set()
        assert await asyncio.gather(*calls) == ["a"] * 30
        assert tasks.runs == 1

    run_tasks(async_case, work)


def test_a_caller_that_is_cancelled_leaves_the_call_to_the_others(async_case: Case, joiners: list[object]) -> None:
    async def work(tasks: Tasks) -> None:
        first = asyncio.create_task(tasks.cached("a"))
        await tasks.begun()
        others = [asyncio.create_task(tasks.cached("a")) for _ in range(3)]
        while len(joiners) < 3:
            await asyncio.sleep(0.001)
        first.cancel()
        others[0].cancel()
        await asyncio.wait({first, others[0]})
        assert first.cancelled() and others[0].cancelled() and not tasks.ends
        tasks.may_end.set()
        assert await asyncio.gather(*others[1:]) == ["a", "a"]
        assert tasks.runs == 1 and await tasks.cached("a") == "a" and tasks.runs == 1

    run_tasks(async_case, work)


def test_with_its_last_caller_a_call_ends(async_case: Case) -> None:
    async def work(tasks: Tasks) -> None:
        calls = [asyncio.create_task(tasks.cached("a")) for _ in range(3)]
        await tasks.begun()
        for call in calls:
            call.cancel()
        await asyncio.wait(calls)
        assert all(call.cancelled() for call in calls) and tasks.ends == tasks.runs == 1
        assert await tasks.kv.count() == 0, "the claim is gone"
        tasks.may_end.set()
        assert await tasks.cached("a") == "a" and tasks.runs == 2

    run_tasks(async_case, work)


def test_a_call_that_is_cancelled_at_any_moment_leaves_no_claim(async_case: Case) -> None:
    async def work(tasks: Tasks) -> None:
        tasks.may_end.set()
        for pauses in range(20):
            call = asyncio.create_task(tasks.cached(f"{pauses}"))
            for _ in range(pauses):
                await asyncio.sleep(0.0004)
            call.cancel()
            await asyncio.gather(call, return_exceptions=True)
        tasks.runs = 0
        kept = await tasks.kv.count()
        assert [await tasks.cached(f"{number}") for number in range(20)] == [f"{number}" for number in range(20)]
        assert tasks.runs == 20 - kept, "what is there is a result, not a claim"

    run_tasks(async_case, work)


def test_a_function_that_something_else_has_cancelled_is_told(local: Case) -> None:
    async def cancelled() -> None:
        future = asyncio.get_running_loop().create_future()
        future.cancel()
        await future

    with opened("memory", True, {}) as case:
        assert case.loop is not None
        cached: Any = case.container.async_kv().json.cached(60, name="f")(cancelled)
        with pytest.raises(RuntimeError, match="was cancelled by something that it awaited"):
            case.loop.call(cached)
        assert case.kv.count() == 0


def test_loops_of_several_threads_join_each_other(joiners: list[object]) -> None:
    slow = Slow()
    with Container() as container, container.storage.override(memory_storage()):
        kv = container.async_kv().json
        cached: Any = kv.cached(60, name="f")(as_coroutine(slow))
        with ThreadPoolExecutor(2) as pool:
            calls = [pool.submit(asyncio.run, cached("a")) for _ in range(2)]
            until(lambda: joiners, "one has joined the other")
            slow.may_end.set()
            assert [call.result(60) for call in calls] == [["a", 1]] * 2 and slow.runs == ["a"]


def test_a_loop_that_ends_leaves_its_call_to_the_others(joiners: list[object]) -> None:
    with Container() as container, container.storage.override(memory_storage()):
        kv = container.async_kv().json
        began, may_leave = threading.Event(), threading.Event()

        @kv.cached(60, name="f")
        async def cached() -> int:
            if began.is_set():
                return 2
            began.set()
            await asyncio.sleep(600)
            return 1

        async def left() -> None:
            calls = asyncio.create_task(cached()), asyncio.create_task(cached())
            while not may_leave.is_set():
                await asyncio.sleep(0.001)
            assert not any(call.done() for call in calls)

        with Loop().running() as loop:
            leaving = begun(lambda: asyncio.run(left()))
            assert began.wait(60)
            other = begun(loop.call, cached)
            until(lambda: len(joiners) == 2, "all others have joined")
            may_leave.set()
            leaving.result(60)
            assert other.result(60) == 2
