"""The numbers of one process, on every store, on threads and asyncio."""

from __future__ import annotations

import pytest

from p8fs_cluster.exceptions import LeaseLost, StorageUnavailable
from tests.coordination.conftest import Case
from tests.processes import until


def test_of_leaders(case: Case) -> None:
    leader = case.cluster.leader("scheduler", ttl=15)
    assert leader.wait(60)
    told = case.cluster.stats()["leaders"]["scheduler"]
    assert (told["status"], told["fence"]) == (1, leader.fence)
    assert 0 <= told["renew_age"] < 15
    leader.withdraw()
    assert case.cluster.stats()["leaders"] == {"scheduler": {"status": 0, "fence": None, "renew_age": None}}
    assert case.cluster.stats()["losses"] == 0, "what is given up is not lost"


def test_of_locks(case: Case) -> None:
    locks = [case.cluster.lock(name, ttl=15) for name in "abc"]
    assert all(lock.acquire() for lock in locks)
    assert case.cluster.stats()["locks_held"] == 3
    locks[0].release()
    case.sql_of("UPDATE p8fs_leases SET fence = fence + 1 WHERE name = %s", ("lock:b",))
    with pytest.raises(LeaseLost):
        locks[1].extend()
    told = case.cluster.stats()
    assert (told["locks_held"], told["losses"]) == (1, 1)
    case.sql_of("UPDATE p8fs_leases SET fence = fence + 1 WHERE name = %s", ("lock:c",))
    with pytest.raises(LeaseLost):
        locks[2].release()
    told = case.cluster.stats()
    assert (told["locks_held"], told["losses"], told["missed_beats"]) == (0, 2, 0)


def test_of_nodes_that_were_looked_at(case: Case) -> None:
    case.cluster.join(ttl=15)
    assert case.cluster.stats()["nodes"] is case.cluster.stats()["view"] is None
    view = case.cluster.nodes()
    told = case.cluster.stats()
    assert (told["nodes"], told["view"]) == (1, view.number)


def test_of_renewals_that_failed(moved_case: Case, monkeypatch: pytest.MonkeyPatch) -> None:
    lock = moved_case.cluster.lock("invoices", ttl=15)
    assert lock.acquire()
    leases = moved_case.container.coordination().coordinator().connected("renewals").leases

    def fail(*_: object) -> bool:
        raise StorageUnavailable("refused")

    monkeypatch.setattr(leases, "renew", fail)
    assert moved_case.clock is not None
    moved_case.clock.move(3.1)
    until(lambda: moved_case.cluster.stats()["missed_beats"] == 1, "a beat is missed")
    assert moved_case.cluster.stats()["locks_held"] == 1
    moved_case.clock.move(10)
    until(lambda: moved_case.cluster.stats()["locks_held"] == 0, "the lock is lost")
    assert moved_case.cluster.stats()["losses"] == 1
