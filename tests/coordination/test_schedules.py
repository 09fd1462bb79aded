"""Functions that the cluster runs at times, on every store, on threads and asyncio."""

from __future__ import annotations

import threading
from typing import Any

import pytest

from p8fs_cluster.coordination.schedules import Cron
from p8fs_cluster.exceptions import CoordinationError
from tests.coordination.conftest import Case
from tests.coordination.twins import as_coroutine
from tests.processes import until

EACH_SECOND = "* * * * * *"


def _schedule(case: Case, cluster: Any, fn: Any, cron: str = EACH_SECOND, **options: Any) -> Any:
    return cluster.schedule("nightly", cron, as_coroutine(fn) if case.loop else fn, **options)


def _pass(case: Case, condition: Any, seconds: float = 0.25) -> None:
    def seen() -> bool:
        if case.clock is not None and not condition():
            case.clock.move(seconds)
        return bool(condition())

    until(seen, "it runs")


def test_each_tick_is_run_once_whoever_runs_it(case: Case) -> None:
    calls: list[int] = []
    with (
        _schedule(case, case.cluster, lambda: calls.append(1)) as first,
        _schedule(case, case.other(), lambda: calls.append(2)),
    ):
        _pass(case, lambda: len(calls) >= 3)
        runs = first.runs()
    ticks = [run.tick for run in first.runs()]
    assert len(set(ticks)) == len(ticks) == len(calls)
    assert ticks == sorted(ticks, reverse=True)
    assert runs[-1].outcome == "done"
    assert runs[-1].ended >= runs[-1].began >= runs[-1].tick, "by the database's clock it began when it was due"


def test_a_run_that_fails_is_noted_and_the_next_one_comes(case: Case, caplog: pytest.LogCaptureFixture) -> None:
    calls: list[int] = []

    def fail() -> None:
        calls.append(1)
        if len(calls) == 1:
            raise ZeroDivisionError("in the job")

    with _schedule(case, case.cluster, fail) as schedule:
        _pass(case, lambda: len(calls) >= 2)
        _pass(case, lambda: len([run for run in schedule.runs() if run.outcome]) >= 2)
        outcomes = [run.outcome for run in schedule.runs()]
    assert outcomes[-1] == "ZeroDivisionError: in the job"
    assert outcomes[-2] == "done"
    assert "the run failed" in caplog.text


def test_a_run_that_is_not_over_leaves_out_the_next_ticks(case: Case) -> None:
    begun, go_on = threading.Event(), threading.Event()
    calls: list[int] = []

    def work() -> None:
        calls.append(1)
        begun.set()
        assert go_on.wait(60)

    with _schedule(case, case.cluster, work) as first, _schedule(case, case.other(), work):
        _pass(case, begun.is_set)
        if case.clock is not None:
            case.clock.move(3)
        else:
            now = [case.sql_of("SELECT max(expires_at) FROM p8fs_leases")]
            until(lambda: case.sql_of("SELECT max(expires_at) FROM p8fs_leases") != now[0], "time passes")
        assert len(calls) == 1
        go_on.set()
        _pass(case, lambda: len(calls) >= 2)
    assert len(first.runs()) == len(calls)


def test_a_tick_long_past_is_left_out_and_told(moved_case: Case, caplog: pytest.LogCaptureFixture) -> None:
    calls: list[int] = []
    assert moved_case.clock is not None
    with _schedule(moved_case, moved_case.cluster, lambda: calls.append(1), "0 * * * *", grace=30) as schedule:
        until(lambda: schedule.name == "nightly" and _has_planned(moved_case), "it is planned")
        moved_case.clock.move(3600 * 5)
        until(lambda: "was missed here" in caplog.text, "it is told")
        assert calls == []
        _pass(moved_case, lambda: calls, 25)
        assert len(schedule.runs()) == 1


def _has_planned(case: Case) -> bool:
    return bool(case.container.coordination().coordinator().deadlines._due)


def test_stopped_it_runs_no_more(moved_case: Case) -> None:
    calls: list[int] = []
    schedule = _schedule(moved_case, moved_case.cluster, lambda: calls.append(1))
    _pass(moved_case, lambda: calls)
    schedule.stop()
    count = len(calls)
    assert moved_case.clock is not None
    moved_case.clock.move(10)
    assert len(calls) == count


def test_a_job_may_stop_its_own_schedule(moved_case: Case) -> None:
    schedules: list[Any] = []
    calls: list[int] = []

    async def stop_async() -> None:
        await schedules[0]._behind.stop()
        calls.append(1)

    def stop() -> None:
        schedules[0].stop()
        calls.append(1)

    schedules.append(moved_case.cluster.schedule("nightly", EACH_SECOND, stop_async if moved_case.loop else stop))
    _pass(moved_case, lambda: calls)
    schedules[0].stop()
    assert [run.outcome for run in schedules[0].runs()] == ["done"]


def test_a_hundred_runs_are_kept(moved_case: Case) -> None:
    calls: list[int] = []
    with _schedule(moved_case, moved_case.cluster, lambda: calls.append(1)) as schedule:
        for number in range(1, 106):
            _pass(moved_case, lambda number=number: len(calls) >= number, 0.5)
        until(lambda: len(schedule.runs()) <= 101, "the oldest are forgotten")


@pytest.mark.parametrize(
    ("cron", "zone"), [("", "UTC"), ("0 3 * *", "UTC"), ("61 3 * * *", "UTC"), (None, "UTC"), (7, "UTC"), ("x", "UTC")]
)
def test_expressions_that_mean_nothing_are_refused(moved_case: Case, cron: Any, zone: str) -> None:
    with pytest.raises(CoordinationError, match="cron="):
        _schedule(moved_case, moved_case.cluster, lambda: None, cron, timezone=zone)


@pytest.mark.parametrize("zone", ["Europe/Nowhere", "", "../etc/passwd", 7])
def test_time_zones_that_are_none_are_refused(moved_case: Case, zone: Any) -> None:
    with pytest.raises(CoordinationError, match="timezone="):
        _schedule(moved_case, moved_case.cluster, lambda: None, timezone=zone)


def test_a_night_without_an_hour_and_one_with_two() -> None:
    cron = Cron("30 2 * * *", "Europe/Berlin")
    spring, autumn = 1_774_738_800, 1_792_879_200  # 2026-03-29 and 2026-10-25, 00:00 in Berlin
    assert cron.after(spring) - spring == pytest.approx(2 * 3600, abs=3600), "it is not left out"
    first = cron.after(autumn)
    assert cron.after(first) - first > 20 * 3600, "it is run once"
