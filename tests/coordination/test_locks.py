"""Locks, on every store, on threads and asyncio."""

from __future__ import annotations

import threading
from collections.abc import Callable
from typing import Any

import pytest

from p8fs_cluster.exceptions import CoordinationError, LeaseLost, LockTimeout, StorageUnavailable
from tests.coordination.conftest import Case
from tests.processes import until


def test_a_lock_excludes_others_until_it_is_released(case: Case) -> None:
    other = case.other().lock("invoices", **case.timing)
    with case.cluster.lock("invoices", **case.timing) as lock:
        assert lock.held
        assert not lock.lost.is_set()
        assert not other.acquire(timeout=0)
        assert not other.held
    assert not lock.held
    assert other.acquire(timeout=0)
    other.release()


def test_tokens_are_pairs_that_grow(case: Case) -> None:
    tokens = []
    for cluster in (case.cluster, case.other(), case.cluster):
        with cluster.lock("invoices", **case.timing) as lock:
            tokens.append(lock.token)
            assert lock.token == (lock.token.timeline, lock.fence)
    assert tokens == sorted(set(tokens))
    assert [fence for _, fence in tokens] == sorted({fence for _, fence in tokens}), "the number grows by itself"


def test_an_object_can_be_used_again_and_holds_once(case: Case) -> None:
    lock = case.cluster.lock("invoices", **case.timing)
    with lock:
        first = lock.token
        with pytest.raises(CoordinationError, match="held already"):
            lock.acquire(timeout=0)
    with lock:
        assert lock.token > first


def test_waiting_ends_when_the_holder_releases(case: Case) -> None:
    lock = case.cluster.lock("invoices", **case.timing)
    other = case.other().lock("invoices", **case.timing)
    assert lock.acquire()
    got: list[bool] = []
    waiter = threading.Thread(target=lambda: got.append(other.acquire(timeout=60)))
    waiter.start()
    until(lambda: case.container.coordination().coordinator() is not None, "somebody waits")
    lock.release()
    _until_over(case, waiter)
    assert got == [True]
    other.release()


def _until_over(case: Case, thread: threading.Thread) -> None:
    def over() -> bool:
        if case.clock is not None:
            case.clock.move(0.2)
        return not thread.is_alive()

    until(over, "the waiter has it")
    thread.join()


def test_waiting_has_an_end(case: Case) -> None:
    with case.cluster.lock("invoices", **case.timing):
        other = case.other().lock("invoices", **case.timing, timeout=0.01)
        tried = threading.Event()
        faults: list[BaseException] = []

        def enter() -> None:
            try:
                with other:
                    tried.set()
            except LockTimeout as exc:
                faults.append(exc)

        thread = threading.Thread(target=enter)
        thread.start()
        _until_over(case, thread)
        assert not tried.is_set()
        assert "'invoices' was not free within 0.01 s" in str(faults[0])


def test_a_lease_that_nobody_renews_ends_and_its_block_says_so(case: Case) -> None:
    told: list[LeaseLost] = []
    lock = case.cluster.lock("invoices", **case.timing, on_lost=told.append)
    with pytest.raises(LeaseLost, match="is over"), lock:
        _stop_renewals(case)
        case.pass_ttl("lock:invoices", lambda: lock.lost.is_set() or not lock.held)
        if case.kind == "tidb":
            assert case.other().lock("invoices", **case.timing).acquire(timeout=5), "it is free"
        else:
            assert not lock.held
            assert lock.lost.wait(60)
            until(lambda: told, "the callback was called")
            assert isinstance(told[0], LeaseLost)


def _stop_renewals(case: Case) -> None:
    case.container.coordination().coordinator().renewals.close(5)


def test_renewals_keep_it_past_its_ttl(case: Case) -> None:
    with case.cluster.lock("invoices", **case.timing) as lock:
        fence = lock.fence
        renewed = _renewals_seen(case, lock)
        for _ in range(2 if case.kind == "tidb" else 10):  # where a renewal is due in 3 s
            renewed()
        assert lock.held
        assert lock.fence == fence
        assert not case.other().lock("invoices", **case.timing).acquire(timeout=0)


def _renewals_seen(case: Case, lock: Any) -> Callable[[], None]:
    def expiry() -> Any:
        return case.sql_of("SELECT expires_at FROM p8fs_leases WHERE name = %s", ("lock:invoices",))[0][0]

    def renewed() -> None:
        before = expiry()
        if case.clock is not None:
            case.clock.move(case.timing["interval"] + 0.01)
        until(lambda: expiry() > before, "it was renewed")

    return renewed


def test_extend_renews_now_and_for_longer(case: Case) -> None:
    with case.cluster.lock("invoices", **case.timing) as lock:
        lock.extend(ttl=60)
        [(expires, acquired)] = case.sql_of(
            "SELECT expires_at, acquired_at FROM p8fs_leases WHERE name = %s", ("lock:invoices",)
        )
        assert expires - acquired >= 59_000_000
        assert lock.held


def test_a_row_deleted_by_hand_is_a_lost_lease_and_heals_with_a_greater_token(case: Case) -> None:
    lock = case.cluster.lock("invoices", **case.timing)
    assert lock.acquire()
    token = lock.token
    case.sql_of("DELETE FROM p8fs_leases WHERE name = %s", ("lock:invoices",))
    with pytest.raises(LeaseLost, match="deleted"):
        lock.extend()
    assert not lock.held
    assert lock.lost.is_set()
    other = case.other().lock("invoices", **case.timing)
    assert not other.acquire(timeout=0), "whoever held it, may not know yet: nobody has it for one ttl"
    case.sql_of("UPDATE p8fs_leases SET expires_at = 0")
    assert other.acquire(timeout=0)
    assert other.token > token
    other.release()


def test_a_lease_taken_away_is_lost_at_the_next_renewal(case: Case) -> None:
    lock = case.cluster.lock("invoices", **case.timing)
    assert lock.acquire()
    case.sql_of("UPDATE p8fs_leases SET holder = 'somebody', owner = 'else', fence = fence + 1")
    with pytest.raises(LeaseLost, match="taken away: else has it"):
        lock.extend()
    with pytest.raises(LeaseLost):
        lock.release()


def test_a_release_after_the_loss_harms_nobody(case: Case) -> None:
    lock, other = case.cluster.lock("invoices", **case.timing), case.other().lock("invoices", **case.timing)
    assert lock.acquire()
    _stop_renewals(case)
    case.sql_of("UPDATE p8fs_leases SET expires_at = 0")
    assert other.acquire(timeout=5)
    with pytest.raises(LeaseLost):
        lock.release()
    assert other.held
    if case.clock is None:
        other.extend()
    other.release()


def test_what_was_never_acquired_says_so(case: Case) -> None:
    lock = case.cluster.lock("invoices", **case.timing)
    assert not lock.held
    assert not lock.lost.is_set()
    for use in (lambda: lock.token, lambda: lock.fence, lock.release, lock.extend, lock.lost.wait):
        with pytest.raises(CoordinationError):
            use()


def test_an_exception_of_the_block_releases_and_comes_through(case: Case) -> None:
    with pytest.raises(ZeroDivisionError), case.cluster.lock("invoices", **case.timing):
        _ = 1 / 0
    assert case.other().lock("invoices", **case.timing).acquire(timeout=0)


NAMES = ["a", "A", "a ", " a", "ä", "a\u0308", "a:b", "a'b", "%s", "日本", "$now", "x" * 255]


def test_no_two_names_share_a_key(case: Case) -> None:
    locks = [case.cluster.lock(name, **case.timing) for name in NAMES]
    assert all(lock.acquire(timeout=0) for lock in locks)
    assert case.cluster.leader("a", **case.timing).wait(60), "a leader is no lock of the same name"
    for lock in locks:
        lock.release()


@pytest.mark.parametrize("name", ["", "a\0b", "x" * 256, "\ud800", 7, None, b"a"])
def test_names_that_no_store_can_hold_are_refused(moved_case: Case, name: Any) -> None:
    with pytest.raises(CoordinationError, match="name"):
        moved_case.cluster.lock(name)


@pytest.mark.parametrize(
    "timing",
    [
        {"ttl": 0},
        {"ttl": -1},
        {"ttl": "15"},
        {"ttl": float("nan")},
        {"ttl": float("inf")},
        {"ttl": True},
        {"ttl": 10, "deadline": 10},
        {"ttl": 10, "deadline": 9.5},
        {"ttl": 10, "deadline": 5, "interval": 5},
        {"ttl": 10, "interval": 8},
    ],
)
def test_timings_that_promise_nothing_are_refused(moved_case: Case, timing: dict[str, Any]) -> None:
    for make in (moved_case.cluster.lock, moved_case.cluster.leader):
        with pytest.raises(CoordinationError):
            make("invoices", **timing)


def test_a_closed_container_refuses_and_its_leases_are_free(case: Case) -> None:
    lock = case.cluster.lock("invoices", **case.timing)
    assert lock.acquire()
    other = case.other()
    case.close()
    assert not lock.held
    if case.sql:
        assert other.lock("invoices", **case.timing).acquire(timeout=0), "closing gives leases back"
        with pytest.raises(CoordinationError, match="closed"):
            case.cluster.lock("invoices", **case.timing).acquire(timeout=0)
        with case.container:
            assert case.cluster.lock("reports", **case.timing).acquire(timeout=0), "the handle is valid again"


def test_a_refused_renewal_ends_the_belief_though_nobody_can_say_why(
    moved_case: Case, monkeypatch: pytest.MonkeyPatch
) -> None:
    lock = moved_case.cluster.lock("invoices", ttl=15)
    assert lock.acquire()
    moved_case.sql_of("UPDATE p8fs_leases SET fence = fence + 1")
    leases = moved_case.container.coordination().coordinator().connected("renewals").leases

    def fail(*_: Any) -> None:
        raise StorageUnavailable("down")

    monkeypatch.setattr(leases, "look", fail)
    with pytest.raises(LeaseLost, match="can't be asked why: down"):
        lock.extend()
    assert not lock.held
