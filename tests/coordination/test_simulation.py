"""Leases under a fake clock: random schedules hold, and the same schedules find bugs that are put in on purpose."""

from __future__ import annotations

import math
from collections.abc import Callable
from contextlib import AbstractContextManager
from typing import Any

import pytest

from p8fs_cluster.providers.storage.leases import TABLE
from tests.simulation import bugs
from tests.simulation.checker import BELIEF
from tests.simulation.directed import Case
from tests.simulation.faults import Result, play
from tests.simulation.schedules import simulated

SCHEDULES = 500
"""Of the 10,000 that `make simulation` plays."""
STEPPED = 100
BUGGY = 1000


def kinds_of(result: Result) -> set[str]:
    return {violation.kind for violation in result.violations}


def test_nothing_is_violated() -> None:
    results = [play(seed) for seed in range(SCHEDULES)]
    assert [(each.seed, each.violations) for each in results if each.violations] == []
    assert sum(each.grants for each in results) > 5 * SCHEDULES
    assert sum(each.losses for each in results) > SCHEDULES
    assert sum(each.writes for each in results) > 5 * SCHEDULES


def test_a_seed_determines_the_course() -> None:
    assert [play(seed) for seed in range(10)] == [play(seed) for seed in range(10)]


def test_a_forward_step_of_the_databases_clock_breaks_belief_and_no_token() -> None:
    found = [kinds_of(play(seed, step=1)) for seed in range(STEPPED)]
    assert set().union(*found) == {BELIEF}


def test_a_backward_step_of_the_databases_clock_breaks_nothing() -> None:
    results = [play(seed, step=-1) for seed in range(STEPPED)]
    assert [(each.seed, each.violations) for each in results if each.violations] == []


@pytest.mark.parametrize(("bug", "kinds"), bugs.BUGS.items(), ids=lambda value: getattr(value, "__name__", ""))
def test_a_bug_shows(bug: Callable[[], AbstractContextManager[Any]], kinds: set[str]) -> None:
    found: set[str] = set()
    with bug():
        for seed in range(BUGGY):
            found |= kinds_of(play(seed))
            if found >= kinds:
                return
    pytest.fail(f"{kinds - found} not found in {BUGGY} schedules")


def test_a_deadline_from_the_reply_shows() -> None:
    with simulated(1):
        assert BELIEF not in answered_late()
        with bugs.deadline_from_reply():
            assert BELIEF in answered_late()


def answered_late() -> set[str]:
    """Return what is violated where the grant of a lease, which then is not renewed, is heard of late."""
    case = Case()
    case.at(0.0, lambda: case.second.attempt(1))  # makes the row
    case.at(0.1, lambda: case.second.release(1))
    case.direct(0.2, "acquired_at = CASE", 0.0, 1.9)
    case.at(0.3, lambda: case.first.attempt(5))
    case.at(2.3, lambda: setattr(case.schedule.nodes[0].machine, "cut_until", math.inf))
    case.at(3.6, lambda: case.second.attempt(1))
    return case.run(4.0)


def test_a_renewal_by_name_shows() -> None:
    """No random schedule has a renewal of somebody else's lease: its own deadline comes first."""
    with simulated(1):
        assert stepped_forward() < 1.0, "the next renewal ends it"
        with bugs.renewal_by_name():
            assert stepped_forward() > 15.0


def stepped_forward() -> float:
    """Return how long two have believed in a lease that the database's clock has ended too soon."""
    case, step_at = Case(), 1.0
    case.at(0.0, lambda: case.first.attempt(1))
    case.at(step_at, lambda: case.database.step(4.0))
    case.at(step_at, lambda: case.second.attempt(1))
    assert case.run(20.0) == {BELIEF}
    return case.schedule.checker.two_believed - step_at


def test_a_renewal_without_the_token_shows() -> None:
    with simulated(1):
        assert not stale()
        with bugs.renewal_without_token():
            assert stale()


def stale() -> bool:
    """Return whether a lease is still believed in with a token that is not the database's, as an attempt came late."""
    case = Case()
    case.at(0.0, lambda: case.first.attempt(1))
    case.at(0.5, lambda: case.first.release(1))
    case.direct(0.9, "acquired_at = CASE", 1.0, 0.0)
    case.at(1.0, lambda: case.first.attempt(0.3))
    case.at(1.5, lambda: case.first.attempt(1))
    case.play(10.0)
    [(fence,)] = case.database.execute(f"SELECT fence FROM {TABLE}", ())
    return case.first.is_held and case.first.require().token.fence != fence
