"""Cancelled, interrupted, forked, and processes that die: nothing is held that nobody knows of."""

from __future__ import annotations

import asyncio
import os
import signal
import sys
import threading
import time
from pathlib import Path
from typing import Any

import pytest

from p8fs_cluster import Container
from p8fs_cluster.exceptions import CoordinationError, LeaseLost
from p8fs_cluster.providers.storage.local_leases import local_store
from tests.coordination.conftest import SHORT, Case, only
from tests.processes import forked, running, until
from tests.servers import SQL


def _holders(case: Case, name: str = "lock:invoices") -> list[Any]:
    return case.sql_of("SELECT holder FROM p8fs_leases WHERE name = %s", (name,))


@only("sql_case", *(f"async {kind}" for kind in SQL))
def test_a_cancelled_attempt_holds_nothing(sql_case: Case) -> None:
    """Cancelled wherever it is: before the statement, while it runs, after its answer."""
    assert sql_case.loop is not None

    async def cancelled(pauses: int) -> bool:
        lock = sql_case.container.async_cluster().lock("invoices", **sql_case.timing)
        task = asyncio.create_task(lock.acquire(timeout=0))
        for _ in range(pauses):
            await asyncio.sleep(0)
        coordinator = sql_case.container.coordination().coordinator()
        coordinator.calls.soon(lambda: None)
        task.cancel()
        try:
            taken = await task
        except asyncio.CancelledError:
            return False
        if taken:
            await lock.release()
        return bool(taken)

    with sql_case.cluster.lock("invoices", **sql_case.timing):
        """The tables are there."""
    for pauses in range(12):
        sql_case.loop.call(cancelled, pauses)
        until(lambda: _holders(sql_case) in ([], [(None,)]), "nobody holds it")


def test_an_interrupt_of_the_main_thread_leaves_nothing_held(postgresql_server: Any, tmp_path: Path) -> None:
    code = f"""
import signal, sys
from p8fs_cluster import Container
with Container(config={{**{postgresql_server.settings!r}, "cluster_create": True}}) as container:
    cluster = container.cluster()
    with cluster.lock("held"):
        print("ready", flush=True)
        try:
            cluster.lock("held").acquire()
        except KeyboardInterrupt:
            print("interrupted", flush=True)
    with cluster.lock("held", timeout=0) as lock:
        print("taken again", flush=True)
"""
    with running(tmp_path / "log", "-c", code) as process:
        process.until(lambda: "ready" in process.output, "it waits")
        process.process.send_signal(signal.SIGINT)
        assert process.wait() == 0, process.output
        assert "interrupted\ntaken again" in process.output


@only("case", "rocksdb", *SQL)
def test_a_forked_child_holds_nothing_and_can_take_its_own(case: Case) -> None:
    lock = case.cluster.lock("invoices", **case.timing)
    assert lock.acquire()
    leader = case.cluster.leader("scheduler", **case.timing)
    assert leader.wait(60)

    def child() -> dict[str, Any]:
        told: dict[str, Any] = {"held": lock.held, "leads": leader.is_leader, "lost": lock.lost.is_set()}
        try:
            told["taken"] = lock.acquire(timeout=0)
            with case.cluster.lock("reports", **case.timing) as own:
                told["own"] = own.held
        except CoordinationError as exc:
            told["refused"] = str(exc)
        return told

    told = forked(child)
    assert told["held"] is told["leads"] is False
    assert told["lost"] is True
    if case.sql:
        assert told["taken"] is False, "the parent has it"
        assert told["own"] is True
    else:
        assert "in use by another process" in told["refused"]
    assert lock.held, "the parent's is untouched"
    lock.extend()
    lock.release()


def test_a_child_can_use_leases_whatever_the_threads_of_its_parent_were_at(tmp_path: Path) -> None:
    """SQLite's own locks would stay locked in a child, if a thread that the child has not were inside it."""
    over = threading.Event()

    def use() -> None:
        while not over.is_set():
            local_store(tmp_path / "parents", time.time).close()

    def child() -> str:
        local_store(tmp_path / "childs", time.time).close()
        return "opened"

    thread = threading.Thread(target=use)
    thread.start()
    try:
        assert {forked(child) for _ in range(30)} == {"opened"}
    finally:
        over.set()
        thread.join()


def test_an_embedded_store_belongs_to_one_process(tmp_path: Path) -> None:
    settings = {"storage_provider": "rocksdb", "rocksdb_path": str(tmp_path / "db")}
    code = f"""
from p8fs_cluster import Container
with Container(config={settings!r}) as container:
    lock = container.cluster().lock("invoices")
    assert lock.acquire(timeout=0)
    fence = lock.fence
    print("fence", fence, flush=True)
    import time
    time.sleep(600)
"""
    with running(tmp_path / "log", "-c", code) as process, Container(config=settings) as container:
        process.until(lambda: "fence" in process.output, "it holds the lock")
        lock = container.cluster().lock("invoices")
        with pytest.raises(CoordinationError, match="in use by another process"):
            lock.acquire(timeout=0)
        process.end(signal.SIGKILL)
        assert lock.acquire(timeout=0), "what a dead process held, is free at once"
        assert lock.fence > int(process.output.split()[1])


@pytest.mark.parametrize("mode", ["read-only", "secondary"])
def test_who_only_looks_on_at_a_rocksdb_coordinates_nothing(tmp_path: Path, mode: str) -> None:
    settings = {"storage_provider": "rocksdb", "rocksdb_path": tmp_path / "db", "rocksdb_mode": mode}
    with Container(config=settings) as container:
        lock = container.cluster().lock("invoices")
        with pytest.raises(CoordinationError, match=f"P8FS_ROCKSDB_MODE={mode}"):
            lock.acquire(timeout=0)


def test_two_containers_of_a_process_share_the_leases_of_a_rocksdb(tmp_path: Path) -> None:
    settings = {"storage_provider": "rocksdb", "rocksdb_path": tmp_path / "db"}
    with Container(config=settings) as one, Container(config=settings) as two, one.cluster().lock("invoices"):
        assert not two.cluster().lock("invoices").acquire(timeout=0)


def test_a_stopped_process_believes_in_nothing_when_it_goes_on(postgresql_server: Any) -> None:
    code = f"""
import os, sys
from p8fs_cluster import Container
with Container(config={{**{postgresql_server.settings!r}, "cluster_create": True}}) as container:
    lock = container.cluster().lock("stopped", ttl=1, deadline=0.6, interval=0.2)
    assert lock.acquire()
    print("held", flush=True)
    line = sys.stdin.readline()
    print("after", lock.held, lock.lost.is_set(), flush=True)
    os._exit(0)
"""
    import subprocess

    with Container(config={**postgresql_server.settings, "cluster_create": True}) as container:
        process = subprocess.Popen(
            [sys.executable, "-c", code], stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True
        )
        try:
            assert process.stdin is not None
            assert process.stdout is not None
            assert process.stdout.readline() == "held\n"
            os.kill(process.pid, signal.SIGSTOP)
            with container.cluster().lock("stopped", **SHORT):
                process.stdin.write("\n")
                process.stdin.flush()
                os.kill(process.pid, signal.SIGCONT)
                assert process.stdout.readline() == "after False True\n"
        finally:
            process.kill()
            process.communicate()


def test_waiters_are_told_when_their_container_is_closed(case: Case) -> None:
    held = case.other().lock("invoices", **case.timing)
    assert held.acquire()
    lock = case.cluster.lock("invoices", **case.timing)
    faults: list[BaseException] = []

    def wait() -> None:
        try:
            lock.acquire()
        except CoordinationError as exc:
            faults.append(exc)

    thread = threading.Thread(target=wait)
    thread.start()
    until(lambda: case.container.coordination().coordinator().wakeups._waiting, "it waits")
    case.close()
    thread.join(60)
    assert not thread.is_alive()
    assert faults, "it did not return as if nothing had happened"
    assert not isinstance(faults[0], LeaseLost)
