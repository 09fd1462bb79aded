"""Leaders, on every store, on threads and asyncio."""

from __future__ import annotations

import logging
import threading
from typing import Any

import pytest

from p8fs_cluster.exceptions import CoordinationError, LeaseLost
from tests.coordination.conftest import QUICK, Case, only
from tests.processes import until


def test_one_leads_and_the_other_follows_when_it_resigns(sql_case: Case) -> None:
    case = sql_case
    first = case.cluster.leader("scheduler", **case.timing)
    assert first.wait(60)
    assert first.is_leader
    other = case.other().leader("scheduler", **case.timing)
    other.wait_for_attempt()
    assert not other.is_leader
    token = first.token
    first.resign()
    assert not first.is_leader
    assert other.wait(60)
    assert other.token > token
    assert not first.is_leader, "who resigns leaves it to others for one ttl"


def test_callbacks_tell_of_each_term(case: Case) -> None:
    told: list[tuple[str, Any]] = []
    leader = case.cluster.leader(
        "scheduler",
        **case.timing,
        on_elected=lambda token: told.append(("elected", token)),
        on_lost=lambda why: told.append(("lost", why)),
    )
    assert leader.wait(60)
    until(lambda: told, "the first callback")
    assert told == [("elected", leader.token)]
    leader.resign()
    until(lambda: len(told) == 2, "the second callback")
    assert told[1][0] == "lost"
    assert "released" in str(told[1][1])


def test_callbacks_may_take_nothing_and_may_fail(case: Case, caplog: pytest.LogCaptureFixture) -> None:
    called: list[int] = []

    def fail() -> None:
        called.append(1)
        raise ZeroDivisionError("in a callback")

    leader = case.cluster.leader("scheduler", **case.timing, on_elected=fail)
    assert leader.wait(60)
    until(lambda: called and "a callback of coordination failed" in caplog.text, "it is told")
    assert leader.is_leader


@only("case", *QUICK)
def test_is_leader_ends_by_the_deadline_whoever_looks(case: Case) -> None:
    lost: list[BaseException] = []
    leader = case.cluster.leader("scheduler", **case.timing, on_lost=lost.append)
    assert leader.wait(60)
    event = leader.lost
    case.container.coordination().coordinator().renewals.close(5)
    if case.clock is not None:
        case.clock.move(0.61)
        assert not leader.is_leader, "nothing but the clock has moved"
    until(lambda: lost, "it is lost")
    assert event.is_set()
    assert isinstance(lost[0], LeaseLost)
    if case.clock is not None:
        with pytest.raises(LeaseLost):
            _ = leader.token


def test_a_lost_term_is_followed_by_another_with_a_greater_token(case: Case) -> None:
    leader = case.cluster.leader("scheduler", **case.timing)
    assert leader.wait(60)
    token, lost = leader.token, leader.lost
    case.sql_of("UPDATE p8fs_leases SET holder = 'somebody', owner = 'else', fence = fence + 1, expires_at = 0")

    def renewed() -> bool:
        if case.clock is not None:
            case.clock.move(0.2)
        return lost.is_set()

    until(renewed, "the renewal finds it gone")

    def again() -> bool:
        if case.clock is not None:
            case.clock.move(0.2)
        return leader.is_leader

    until(again, "it stands again")
    assert leader.token > token


def test_an_operator_can_ask_the_leader_to_resign(case: Case) -> None:
    lost: list[BaseException] = []
    leader = case.cluster.leader("scheduler", **case.timing, on_lost=lost.append)
    assert leader.wait(60)
    case.sql_of("UPDATE p8fs_leases SET resign = fence WHERE name = %s", ("leader:scheduler",))

    def gone() -> bool:
        if case.clock is not None and not lost:
            case.clock.move(0.16)
        return bool(lost)

    until(gone, "it has resigned")
    assert "an operator asks" in str(lost[0])
    until(
        lambda: case.sql_of("SELECT holder FROM p8fs_leases WHERE name = %s", ("leader:scheduler",)) == [(None,)],
        "the lease is free at once",
    )
    assert not leader.is_leader


def test_one_candidacy_for_each_name_and_process(case: Case) -> None:
    first, again = (case.cluster.leader("scheduler", **case.timing) for _ in range(2))
    assert first.wait(60)
    assert again.is_leader
    assert again.token == first.token
    with pytest.raises(CoordinationError, match="stands already"):
        case.cluster.leader("scheduler", ttl=99)


def test_leaving_the_block_withdraws(case: Case) -> None:
    with case.cluster.leader("scheduler", **case.timing) as leader:
        assert leader.wait(60)
    assert not leader.is_leader
    with case.other().leader("scheduler", **case.timing) as other:
        assert other.wait(60)
        assert other.is_leader


def test_run_while_leader_returns_what_the_function_does_and_releases(case: Case) -> None:
    leader = case.cluster.leader("scheduler", **case.timing)
    seen: list[bool] = []

    def work(number: int, *, by: int) -> int:
        seen.append(leader.is_leader)
        return number * by

    assert leader.run_while_leader(work, 6, by=7) == 42
    assert seen == [True]
    assert not leader.is_leader
    assert case.sql_of("SELECT holder FROM p8fs_leases WHERE name = %s", ("leader:scheduler",)) == [(None,)]


def test_run_while_leader_releases_when_the_function_fails(case: Case) -> None:
    leader = case.cluster.leader("scheduler", **case.timing)

    def fail() -> None:
        raise ZeroDivisionError("in the leader's function")

    with pytest.raises(ZeroDivisionError):
        leader.run_while_leader(fail)
    assert not leader.is_leader, "a dead function does not keep the lease"
    assert case.sql_of("SELECT holder FROM p8fs_leases WHERE name = %s", ("leader:scheduler",)) == [(None,)]
    assert leader.wait(60), "it can stand again"


def test_a_function_that_outlives_its_term_is_told(moved_case: Case, caplog: pytest.LogCaptureFixture) -> None:
    leader = moved_case.cluster.leader("scheduler", ttl=15)
    running, go_on = threading.Event(), threading.Event()
    faults: list[BaseException] = []

    def hang() -> None:
        running.set()
        go_on.wait(60)

    def run() -> None:
        try:
            leader.run_while_leader(hang)
        except LeaseLost as exc:
            faults.append(exc)

    thread = threading.Thread(target=run)
    thread.start()
    assert running.wait(60)
    moved_case.container.coordination().coordinator().renewals.close(5)
    assert moved_case.clock is not None
    moved_case.clock.move(14)
    if moved_case.loop is None:  # on asyncio the task is cancelled
        until(lambda: "runs on, although its term ended" in caplog.text, "the operator is told")
        moved_case.clock.move(15)
        until(lambda: caplog.text.count("runs on, although its term ended") == 2, "and told again")
    go_on.set()
    thread.join(60)
    assert len(faults) == 1
    assert "is over" in str(faults[0])


def test_leader_only_runs_in_the_leader_alone(case: Case) -> None:
    @case.cluster.leader_only("scheduler", case.timing["ttl"])
    def job(number: int) -> int:
        return number * 2

    assert job(21) == 42
    if case.sql:

        @case.other().leader_only("scheduler", case.timing["ttl"])
        def elsewhere(number: int) -> int:
            raise AssertionError("it is no leader")

        assert elsewhere(21) is None


def test_leader_only_does_not_hide_a_store_that_cannot_be_asked(sql_case: Case) -> None:
    sql_case.sql_of("CREATE TABLE IF NOT EXISTS p8fs_cluster_versions (version INT NOT NULL PRIMARY KEY)")
    sql_case.sql_of("DELETE FROM p8fs_cluster_versions")
    calls: list[int] = []

    @sql_case.without_create().leader_only("scheduler", sql_case.timing["ttl"])
    def job() -> None:
        calls.append(1)

    with pytest.raises(CoordinationError, match="cluster init"):
        job()
    assert not calls


def test_a_missed_beat_is_told_and_the_term_goes_on(case: Case, caplog: pytest.LogCaptureFixture) -> None:
    caplog.set_level(logging.WARNING)
    missed: list[BaseException] = []
    leader = case.cluster.leader("scheduler", **case.timing, on_missed_beat=missed.append)
    assert leader.wait(60)
    store = case.container.coordination().coordinator().connected("renewals").store
    plain, failures = store.update, iter([True])

    def failing(*args: Any, **kwargs: Any) -> Any:
        if next(failures, False):
            from p8fs_cluster.exceptions import StorageUnavailable

            raise StorageUnavailable("cut for a moment")
        return plain(*args, **kwargs)

    store.update = failing

    def told() -> bool:
        if case.clock is not None and not missed:
            case.clock.move(0.16)
        return bool(missed)

    until(told, "it is told")
    assert "cut for a moment" in str(missed[0])
    assert leader.is_leader


@pytest.mark.parametrize("fault", [RuntimeError("a bug"), OSError("no more files")])
def test_what_nobody_expects_ends_no_candidacy_and_no_term(
    moved_case: Case, caplog: pytest.LogCaptureFixture, fault: Exception
) -> None:
    assert moved_case.clock is not None
    moved_case.cluster.join()  # the tables are there
    coordinator = moved_case.container.coordination().coordinator()
    store = coordinator.connected("calls").store
    plain = store.update
    store.update = _failing_once(plain, fault)
    leader = moved_case.cluster.leader("scheduler", ttl=15)
    until(lambda: leader.fault is not None, "it is told")
    moved_case.clock.move(1)
    assert leader.wait(60)
    assert "nobody can be elected here" in caplog.text
    store.update = _failing_once(plain, fault)  # the store of renewals is the same one in memory
    for _ in range(10):
        moved_case.clock.move(1)
        until(lambda: not coordinator.renewals._due or coordinator.renewals._due[0][0] > moved_case.clock.now(), "done")
    assert "a renewal failed" in caplog.text
    assert leader.is_leader


def _failing_once(plain: Any, fault: Exception) -> Any:
    faults = iter([fault])

    def update(*args: Any, **kwargs: Any) -> Any:
        for each in faults:
            raise each
        return plain(*args, **kwargs)

    return update
