"""Races that random schedules have found, laid down step by step."""

from __future__ import annotations

import math
from collections.abc import Iterator

import pytest

from p8fs_cluster import Container
from p8fs_cluster.coordination.lease_rows import NAMES
from p8fs_cluster.providers.storage.leases import TABLE
from p8fs_cluster.testing import MovedClock, memory_coordination
from tests.simulation.directed import KEY, Case
from tests.simulation.schedules import simulated


@pytest.fixture
def case() -> Iterator[Case]:
    with simulated(1):
        yield Case()


def test_who_made_a_lease_does_not_take_it_at_once_when_its_row_was_deleted(case: Case) -> None:
    case.at(0.0, lambda: case.first.attempt(1))
    case.at(0.1, lambda: case.first.release(1))
    case.at(0.2, lambda: case.second.attempt(1))
    case.at(0.3, lambda: case.database.delete(KEY))
    case.at(0.4, lambda: case.first.attempt(1))
    case.at(0.5, lambda: case.first.attempt(1))
    case.play(0.6)
    assert not case.first.is_held


def test_an_abandoned_attempt_takes_nothing_when_its_reply_comes(case: Case) -> None:
    case.at(0.0, lambda: case.second.attempt(1))  # makes the row
    case.at(0.5, lambda: case.second.release(1))
    case.direct(0.9, "acquired_at = CASE", 0.1, 0.1)
    case.at(1.0, lambda: case.first.attempt(1))
    case.at(1.15, case.first.abandon)
    case.at(1.5, lambda: case.second.attempt(1))
    case.play(1.6)
    assert (case.first.is_held, case.second.is_held) == (False, True)


def test_an_attempt_is_taken_for_the_one_that_began_to_wait(case: Case) -> None:
    former = case.first.holder
    case.at(0.0, case.first.abandon)
    case.at(0.1, lambda: case.first.attempt(1, True, former))
    case.at(0.2, lambda: case.second.attempt(1))
    case.play(0.5)
    assert (case.first.is_held, case.second.is_held) == (False, True)


def test_what_is_abandoned_late_ends_no_later_attempt(case: Case) -> None:
    case.direct(0.0, "SET holder = NULL, expires_at = $now WHERE name = %s AND holder = %s", 1.0, 0.1)
    case.at(0.0, lambda: case.second.attempt(1))  # makes the row
    case.at(0.1, lambda: case.second.release(1))
    case.at(0.5, case.first.abandon)
    case.at(1.0, lambda: case.first.attempt(1))
    case.at(1.6, lambda: case.second.attempt(1))
    case.play(1.7)
    assert case.first.is_held


def test_an_extension_is_not_believed_in_before_it_is_carried_out(case: Case) -> None:
    """The renewal before it, which is on its way, is none for the longer ttl."""
    case.at(0.0, lambda: case.first.attempt(1))
    case.direct(0.5, "SET fence = fence", 0.2, 0.3)  # the renewal at 0.6
    case.direct(0.7, "SET fence = fence", math.inf, 0.0)
    case.at(0.8, lambda: case.extend(30))
    case.refuse(1.0, 3.95)
    case.at(3.96, lambda: case.second.attempt(1))
    case.play(4.0)
    assert case.second.is_held


def test_a_renewal_that_is_carried_out_late_does_not_shorten_an_extension(case: Case) -> None:
    case.at(0.0, lambda: case.first.attempt(1))
    case.direct(0.5, "SET fence = fence", 0.5, 0.1)  # the renewal at 0.6
    case.at(0.7, lambda: case.extend(30))
    case.refuse(1.5, 5.0)
    case.at(5.1, lambda: case.second.attempt(1))
    case.play(5.5)
    assert case.first.is_held


def test_an_attempt_that_is_carried_out_late_does_not_shorten_an_extension(case: Case) -> None:
    case.at(0.0, lambda: case.second.attempt(1))  # makes the row
    case.at(0.1, lambda: case.second.release(1))
    case.direct(0.2, "acquired_at = CASE", 1.0, 0.0)
    case.at(0.3, lambda: case.first.attempt(0.1))
    case.at(0.5, lambda: case.first.attempt(1))
    case.at(0.8, lambda: case.extend(30))
    case.refuse(1.0, 5.0)
    case.at(5.1, lambda: case.second.attempt(1))
    case.play(5.5)


def test_a_term_that_is_noticed_late_to_be_over_stops_no_renewals_of_the_next(case: Case) -> None:
    """As when a process goes on that was stopped: the lock is acquired before the worker of deadlines runs."""
    machine, deadlines = case.schedule.nodes[0].machine, case.first.coordinator.deadlines
    case.at(0.0, lambda: case.first.attempt(1))
    case.refuse(0.5, 2.5)
    case.at(1.0, lambda: deadlines.soon(lambda: machine.sleep(5)))
    case.at(3.5, lambda: case.first.attempt(1))
    case.play(20.0)
    assert case.first.is_held
    assert case.schedule.checker.losses == 1


def test_a_lease_is_not_taken_before_its_ttl_is_noted(case: Case) -> None:
    """Or who makes its row again, after it was deleted, would not know how long its holder believes in it."""
    patient = case.holding(ttl=30.0)
    case.direct(0.0, "acquired_at = CASE", 0.5, 0.0)
    case.at(0.0, lambda: patient.attempt(1))
    case.at(0.1, lambda: case.first.attempt(1))
    case.at(0.3, lambda: case.first.release(1))
    case.at(1.0, lambda: case.database.delete(KEY))
    case.at(1.1, lambda: case.first.attempt(1))
    case.at(5.0, lambda: case.first.attempt(1))
    case.play(6.0)


def test_a_name_that_was_deleted_is_made_again(case: Case) -> None:
    case.at(0.0, lambda: case.first.attempt(1))
    case.at(0.5, lambda: case.database.execute(f"DELETE FROM {NAMES}", ()))
    case.at(1.0, lambda: case.extend(30))
    case.at(1.2, lambda: case.first.release(1))
    case.at(1.5, lambda: case.second.attempt(1))
    case.play(2.0)
    assert case.database.execute(f"SELECT name, ttl FROM {NAMES}", ()) == [(KEY, 30_000_000)]
    assert case.second.is_held


@pytest.mark.parametrize("table", [TABLE, NAMES])
def test_a_table_that_was_deleted_is_made_again_and_its_leases_are_kept_for_their_ttl(table: str) -> None:
    clock = MovedClock()
    with Container() as container, container.coordination.override(memory_coordination(clock)):
        cluster = container.cluster()
        first, second = cluster.lock("invoices", ttl=15), cluster.lock("invoices", ttl=15)
        assert first.acquire(0)
        token = first.token
        store = container.coordination().coordinator().connected("calls").store
        store.execute(f"DROP TABLE {table}", (), 1)
        assert not second.acquire(0)
        clock.move(15.1)
        assert second.acquire(0)
        assert second.token > token
