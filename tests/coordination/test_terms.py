"""Decisions of coordination that need neither a store nor a thread: timings, terms, keys, workers, claims."""

from __future__ import annotations

import logging
import math
import threading
from collections.abc import Callable, Iterator
from typing import Any

import pytest
from hypothesis import example, given
from hypothesis import strategies as st

from p8fs_cluster.coordination import worker as workers
from p8fs_cluster.coordination.claim import Claim
from p8fs_cluster.coordination.coordinator import Coordinator
from p8fs_cluster.coordination.functions import takes
from p8fs_cluster.coordination.holding import Holding
from p8fs_cluster.coordination.lease_rows import key_of
from p8fs_cluster.coordination.terms import Term, Timing, Token
from p8fs_cluster.coordination.worker import Worker
from p8fs_cluster.exceptions import CoordinationError, LeaseLost, StorageError, StorageUnavailable
from p8fs_cluster.testing import MovedClock, memory_coordination

SECONDS = st.floats(allow_nan=True, allow_infinity=True) | st.floats(1e-3, 1e5) | st.integers(-1, 10**6)


@given(ttl=SECONDS, deadline=SECONDS | st.none(), interval=SECONDS | st.none())
@example(ttl=3.0, deadline=2.7, interval=None)
@example(ttl=15, deadline=None, interval=None)
def test_a_timing_is_refused_or_keeps_its_order(ttl: float, deadline: float | None, interval: float | None) -> None:
    try:
        timing = Timing.of(ttl, deadline, interval)
    except CoordinationError:
        return
    assert 0 < timing.interval < timing.deadline < timing.ttl < math.inf
    assert timing.ttl - timing.deadline >= timing.ttl * 0.1 * (1 - 1e-6)
    assert deadline in (None, timing.deadline)
    assert interval in (None, timing.interval)


@given(ttl=st.floats(1e-3, 1e9), part=st.floats(0.01, 0.9))
def test_what_fits_is_taken(ttl: float, part: float) -> None:
    assert Timing.of(ttl).ttl == ttl
    assert Timing.of(ttl, ttl * part, ttl * part / 2) == Timing(ttl, ttl * part, ttl * part / 2)


@pytest.mark.parametrize(
    ("timing", "told"),
    [
        ((0,), "ttl=0: a number of seconds greater than 0"),
        ((True,), "ttl=True"),
        (("15",), "ttl='15'"),
        ((math.inf,), "ttl=inf"),
        ((15, math.nan), "deadline=nan"),
        ((15, 10, -1), "interval=-1"),
        ((15, 10, 10), "the interval must be less than the deadline"),
        ((15, 15), "deadline=15, ttl=15"),
        ((15, 14), "deadline=14: at most 13.5, nine tenths of ttl=15"),
    ],
)
def test_what_does_not_fit_is_told(timing: tuple[float, ...], told: str) -> None:
    with pytest.raises(CoordinationError, match=told):
        Timing.of(*timing)


def test_tokens_compare_by_timeline_and_then_by_fence() -> None:
    assert sorted([Token(2, 1), Token(1, 9), Token(1, 10)]) == [(1, 9), (1, 10), (2, 1)]


class TestTerm:
    def term(self) -> Term:
        return Term(Timing.of(15, 10, 3), Token(0, 1), 100.0)

    def test_it_is_held_up_to_its_deadline_whether_anybody_looks_or_not(self) -> None:
        term = self.term()
        assert [term.is_held(now) for now in (100.0, 109.999, 110.0)] == [True, True, False]
        assert term.ended is None

    def test_a_renewal_counts_from_the_moment_before_it_was_sent(self) -> None:
        term = self.term()
        assert term.renew(103.0, 108.0, 10)
        assert (term.renewed_at, term.until) == (103.0, 113.0)

    def test_a_renewal_that_comes_too_late_ends_it(self) -> None:
        term = self.term()
        assert not term.renew(103.0, 110.0, 10)
        assert term.ended == "no renewal came through within 10 s"
        assert not term.is_held(104.0)
        assert not term.renew(104.0, 104.0, 10)

    def test_an_older_renewal_that_comes_later_takes_nothing_back(self) -> None:
        term = self.term()
        assert term.renew(106.0, 107.0, 10)
        assert term.renew(103.0, 108.0, 10)
        assert (term.renewed_at, term.until) == (106.0, 116.0)

    def test_it_ends_once(self) -> None:
        term = self.term()
        assert term.end("first")
        assert not term.end("second")
        assert term.ended == "first"
        assert not term.is_held(100.0)


class TestKeys:
    @given(kind=st.sampled_from(["lock", "leader"]), name=st.text(max_size=300))
    def test_no_two_names_share_one(self, kind: str, name: str) -> None:
        try:
            key = key_of(kind, name)
        except CoordinationError:
            assert not name or "\0" in name or len(name.encode()) > 255
            return
        assert key.partition(":") == (kind, ":", name)

    @pytest.mark.parametrize("name", ["", "a\0b", "x" * 256, "é" * 128, "\ud800", 7, None, b"a"])
    def test_what_is_no_name_is_refused(self, name: object) -> None:
        with pytest.raises(CoordinationError, match="name"):
            key_of("lock", name)

    def test_the_longest_name_is_taken(self) -> None:
        assert key_of("lock", "x" * 255) == "lock:" + "x" * 255


@pytest.fixture
def clock() -> MovedClock:
    return MovedClock()


class TestWorker:
    @pytest.fixture
    def worker(self, clock: MovedClock) -> Iterator[Worker]:
        worker = Worker("tests", clock)
        yield worker
        worker.close(10)

    def finish(self, worker: Worker) -> None:
        """Return when what is due was done."""
        done = threading.Event()
        worker.soon(done.set)
        assert done.wait(10)

    def test_actions_come_in_the_order_of_their_times_and_then_of_their_making(
        self, worker: Worker, clock: MovedClock
    ) -> None:
        done: list[str] = []
        now = clock.now()
        for when, name in ((3, "c"), (1, "a"), (2, "b1"), (2, "b2"), (9, "later")):
            worker.at(now + when, lambda name=name: done.append(name))
        self.finish(worker)
        assert done == []
        clock.move(3)
        self.finish(worker)
        assert done == ["a", "b1", "b2", "c"]

    def test_a_cancelled_action_does_not_come(self, worker: Worker, clock: MovedClock) -> None:
        done: list[int] = []
        due = worker.at(clock.now() + 1, lambda: done.append(1))
        worker.at(clock.now() + 1, lambda: done.append(2))
        due.cancel()
        assert due.is_cancelled
        clock.move(1)
        self.finish(worker)
        assert done == [2]

    def test_an_exception_is_logged_and_the_next_action_comes(
        self, worker: Worker, caplog: pytest.LogCaptureFixture
    ) -> None:
        with caplog.at_level(logging.ERROR, "p8fs_cluster.coordination"):
            worker.soon(lambda: 1 / 0)
            self.finish(worker)
        assert "ZeroDivisionError" in caplog.text

    def test_nothing_comes_after_close(self, worker: Worker, clock: MovedClock) -> None:
        done: list[int] = []
        worker.at(clock.now() + 1, lambda: done.append(1))
        self.finish(worker)
        worker.close(10)
        worker.soon(lambda: done.append(2))
        clock.move(2)
        worker.close(10)
        assert done == []

    def test_close_waits_for_what_runs(self, worker: Worker) -> None:
        began, goes_on = threading.Event(), threading.Event()
        done: list[int] = []

        def act() -> None:
            began.set()
            assert goes_on.wait(10)
            done.append(1)

        worker.soon(act)
        assert began.wait(10)
        worker.close(0)
        assert done == []
        goes_on.set()
        worker.close(10)
        assert done == [1]

    def test_an_action_may_close_it(self, worker: Worker) -> None:
        done = threading.Event()
        worker.soon(lambda: (worker.close(10), done.set()))
        assert done.wait(10)

    def test_what_does_not_come_is_told(self, worker: Worker, clock: MovedClock) -> None:
        told: list[str] = []
        worker.at(clock.now() + 100, int, lambda: told.append("left"))
        worker.at(clock.now() + 100, int, lambda: told.append("cancelled")).cancel()
        worker.close(10)
        worker.soon(int, lambda: told.append("too late"))
        assert told == ["left", "too late"]

    def test_cancelled_actions_are_dropped(self, worker: Worker, clock: MovedClock) -> None:
        kept = [worker.at(clock.now() + 100, int) for _ in range(50)]
        for _ in range(20 * workers._COMPACT):
            worker.at(clock.now() + 200, int).cancel()
            assert len(worker._due) <= workers._COMPACT + 1
        assert not any(due.is_cancelled for due in kept)
        assert sum(not entry[2].is_cancelled for entry in worker._due) == 50


class TestClaim:
    @pytest.fixture
    def coordinator(self, clock: MovedClock) -> Iterator[Coordinator]:
        coordinators = memory_coordination(clock)
        coordinator = coordinators.coordinator()
        yield coordinator
        coordinator.close()

    @pytest.fixture
    def holding(self, coordinator: Coordinator) -> Holding:
        return Holding(coordinator, "lock:a", Timing.of(15, 10, 3))

    @pytest.fixture
    def other(self, coordinator: Coordinator) -> Holding:
        return Holding(coordinator, "lock:a", Timing.of(15, 10, 3))

    def failing(
        self, holding: Holding, monkeypatch: pytest.MonkeyPatch, exc: Exception, clock: MovedClock, seconds: float = 0
    ) -> None:
        """Let each attempt fail after so many seconds."""

        def attempt(*_: object) -> None:
            clock.move(seconds)
            raise exc

        monkeypatch.setattr(holding, "attempt", attempt)

    def test_a_free_lease_is_granted_in_one_step(self, holding: Holding) -> None:
        claim = Claim(holding, 0)
        assert claim.step() is None
        assert claim.granted
        assert holding.is_held

    def test_without_time_one_attempt_decides(self, holding: Holding, other: Holding) -> None:
        assert other.attempt(1) is None
        claim = Claim(holding, 0)
        assert claim.step() is None
        assert not claim.granted

    def test_the_next_step_comes_after_an_interval_at_most(self, holding: Holding, other: Holding) -> None:
        assert other.attempt(1) is None
        pause = Claim(holding, None).step()
        assert pause == 3

    def test_the_next_step_comes_when_the_lease_ends(self, holding: Holding, other: Holding, clock: MovedClock) -> None:
        assert other.attempt(1) is None
        other.term = None
        other._cancel()
        clock.move(14)
        claim = Claim(holding, None)
        pause = claim.step()
        assert pause is not None
        assert 1 < pause <= 1.05
        clock.move(pause)
        assert claim.step() is None
        assert claim.granted

    def test_no_pause_is_longer_than_the_time_that_is_left(self, holding: Holding, other: Holding) -> None:
        assert other.attempt(1) is None
        pause = Claim(holding, 0.5).step()
        assert pause == 0.5

    def test_it_ends_ungranted_when_its_time_is_over(self, holding: Holding, other: Holding, clock: MovedClock) -> None:
        assert other.attempt(1) is None
        claim = Claim(holding, 2)
        assert claim.step() == 2
        clock.move(2)
        assert claim.step() is None
        assert not claim.granted

    def test_an_outage_is_waited_out_and_told_once(
        self, holding: Holding, monkeypatch: pytest.MonkeyPatch, clock: MovedClock, caplog: pytest.LogCaptureFixture
    ) -> None:
        self.failing(holding, monkeypatch, StorageUnavailable("refused"), clock)
        claim = Claim(holding, 1.5)
        assert [claim.step(), claim.step()] == [1.0, 1.0]
        assert caplog.text.count("the store can't be asked") == 1
        clock.move(1)
        assert claim.step() == 0.5

    def test_an_outage_is_raised_when_there_is_no_time_left(
        self, holding: Holding, monkeypatch: pytest.MonkeyPatch, clock: MovedClock
    ) -> None:
        self.failing(holding, monkeypatch, StorageUnavailable("refused"), clock, seconds=2)
        with pytest.raises(StorageUnavailable):
            Claim(holding, 2).step()

    def test_what_is_no_outage_is_raised_at_once(
        self, holding: Holding, monkeypatch: pytest.MonkeyPatch, clock: MovedClock
    ) -> None:
        self.failing(holding, monkeypatch, StorageError("permission denied"), clock)
        with pytest.raises(StorageError, match="permission"):
            Claim(holding, None).step()

    def test_a_statement_waits_no_longer_than_there_is_time(
        self, holding: Holding, monkeypatch: pytest.MonkeyPatch
    ) -> None:
        given: list[float] = []
        monkeypatch.setattr(holding, "attempt", lambda seconds, *_: given.append(seconds))
        for timeout in (None, 1.0, 0):
            Claim(holding, timeout).step()
        assert given == [3, 1.0, 3], "a single attempt has an interval"

    def test_a_closed_container_refuses(self, holding: Holding, coordinator: Coordinator) -> None:
        coordinator.close()
        with pytest.raises(CoordinationError, match="closed"):
            Claim(holding, None).step()

    @pytest.mark.parametrize("timeout", [math.nan, "1", object()])
    def test_what_is_no_time_is_refused(self, holding: Holding, timeout: object) -> None:
        with pytest.raises(CoordinationError, match="timeout"):
            Claim(holding, timeout)  # type: ignore[arg-type]

    def test_an_abandoned_claim_takes_nothing(self, holding: Holding, other: Holding) -> None:
        claim = Claim(holding, None)
        holding.abandon()
        assert claim.step() is not None
        assert not holding.is_held
        assert other.attempt(1) is None


def test_a_loss_is_told_once_to_watchers(clock: MovedClock) -> None:
    coordinator = memory_coordination(clock).coordinator()
    holding = Holding(coordinator, "lock:a", Timing.of(15))
    assert holding.attempt(1) is None
    term, told = holding.require(), []
    holding.watch(term, lambda: told.append(1))
    holding.end(term, "taken away")
    holding.end(term, "taken away again")
    holding.watch(term, lambda: told.append(2))
    assert told == [1, 2]
    with pytest.raises(LeaseLost, match=r"taken away$"):
        holding.require()
    coordinator.close()


@pytest.mark.parametrize(
    ("callback", "given"), [(lambda: 0, ()), (lambda why: 0, (1,)), (lambda *all_of: 0, (1,)), (print, (1,))]
)
def test_a_callback_gets_what_it_takes(callback: Callable[..., object], given: tuple[object, ...]) -> None:
    assert takes(callback, 1) == given


def test_a_renewal_that_comes_too_late_is_told(clock: MovedClock, monkeypatch: pytest.MonkeyPatch) -> None:
    """As after a pause of the process: the reply is there before the thread that looks at deadlines."""
    coordinator = memory_coordination(clock).coordinator()
    holding = Holding(coordinator, "lock:a", Timing.of(15, 10, 3))
    assert holding.attempt(1) is None
    ended: list[Term] = []
    holding.on_end = ended.append
    holding._cancel()
    term = holding.require()
    leases = coordinator.connected("renewals").leases
    renew = leases.renew

    def renew_slowly(*args: Any) -> bool:
        kept = renew(*args)
        clock.move(12)
        return kept

    monkeypatch.setattr(leases, "renew", renew_slowly)
    assert not holding.renew(term, 3)
    assert ended == [term]
    coordinator.close()
