"""Work that is done once in a cluster, on every store, on threads and asyncio."""

from __future__ import annotations

import signal
import threading
from pathlib import Path
from typing import Any

import pytest

from p8fs_cluster import Container
from p8fs_cluster.exceptions import LeaseLost, LockTimeout
from tests.coordination.conftest import Case
from tests.processes import running


def _once(case: Case, cluster: Any, fn: Any, **options: Any) -> bool:
    from tests.coordination.twins import as_coroutine

    done: bool = cluster.once("migrate", as_coroutine(fn) if case.loop else fn, **options)
    return done


def test_it_is_done_once_for_ever(case: Case) -> None:
    calls: list[int] = []
    assert _once(case, case.cluster, lambda: calls.append(1)) is True
    assert _once(case, case.cluster, lambda: calls.append(2)) is False
    assert _once(case, case.other(), lambda: calls.append(3)) is False
    assert calls == [1]


def test_what_fails_is_done_again(case: Case) -> None:
    def fail() -> None:
        raise ZeroDivisionError("in the migration")

    with pytest.raises(ZeroDivisionError):
        _once(case, case.cluster, fail)
    calls: list[int] = []
    assert _once(case, case.other(), lambda: calls.append(1)) is True
    assert calls == [1]


def test_many_at_once_do_it_once_and_all_return_when_it_is_done(case: Case) -> None:
    clusters = [case.other() for _ in range(4)]
    begun, go_on, done = threading.Event(), threading.Event(), []
    results: list[bool] = []

    def migrate() -> None:
        begun.set()
        assert go_on.wait(60)
        done.append(1)

    def run(number: int) -> None:
        result = _once(case, clusters[number], migrate)
        assert done == [1], "it returns when it is done"
        results.append(result)

    threads = [threading.Thread(target=run, args=(number,)) for number in range(4)]
    for thread in threads:
        thread.start()
    assert begun.wait(60)
    go_on.set()
    for thread in threads:
        while thread.is_alive():
            if case.clock is not None:
                case.clock.move(0.5)
            thread.join(0.05)
    assert sorted(results) == [False, False, False, True]


def test_waiting_for_somebody_else_has_an_end(case: Case) -> None:
    begun, go_on = threading.Event(), threading.Event()

    def migrate() -> None:
        begun.set()
        assert go_on.wait(60)

    thread = threading.Thread(target=_once, args=(case, case.cluster, migrate))
    thread.start()
    assert begun.wait(60)
    with pytest.raises(LockTimeout, match="somebody else was doing it"):
        _once(case, case.other(), migrate, timeout=0)
    go_on.set()
    thread.join(60)


def test_a_lease_that_is_lost_meanwhile_records_nothing(case: Case) -> None:
    def migrate() -> None:
        case.sql_of("UPDATE p8fs_leases SET holder = 'somebody', owner = 'else', fence = fence + 1")

    with pytest.raises(LeaseLost):
        _once(case, case.cluster, migrate)
    assert case.sql_of("SELECT name FROM p8fs_once") == []


def test_a_process_that_dies_in_the_middle_leaves_it_to_the_next(postgresql_server: Any, tmp_path: Path) -> None:
    settings = {**postgresql_server.settings, "cluster_create": True}
    code = f"""
import time
from p8fs_cluster import Container
with Container(config={settings!r}) as container:
    container.cluster().once("dies", lambda: (print("begun", flush=True), time.sleep(600)), ttl=1)
"""
    with Container(config=settings) as container, running(tmp_path / "log", "-c", code) as process:
        container.cluster().once("tables", lambda: None)
        container.storage().execute("DELETE FROM p8fs_once")
        process.until(lambda: "begun" in process.output, "it has begun")
        process.end(signal.SIGKILL)
        calls: list[int] = []
        assert container.cluster().once("dies", lambda: calls.append(1), ttl=1) is True
        assert calls == [1]
        assert container.cluster().once("dies", lambda: calls.append(2)) is False


def test_the_ledger_of_an_embedded_store_survives_its_process(tmp_path: Path) -> None:
    settings = {"storage_provider": "rocksdb", "rocksdb_path": tmp_path / "db"}
    for expected in (True, False):
        with Container(config=settings) as container:
            assert container.cluster().once("migrate", lambda: None) is expected
