"""Who is lent a connection, and what becomes of places that nobody gives back: by a clock that the test moves."""

from __future__ import annotations

import gc
import weakref
from typing import Any

import pytest

from p8fs_cluster.providers.storage.circuit_breaker import CircuitBreaker
from p8fs_cluster.providers.storage.pool import CircuitOpen, Exhausted, Pool, _Await, _Connect, _Pause


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


class Connection:
    holder: weakref.ref[Any] | None = None
    deadline: float | None = None
    expires = idle_since = 0.0
    closed = outdated = is_lost = unfinished = False
    fit = whole = True

    def __init__(self, clock: Clock) -> None:
        self.born = clock()

    def fileno(self) -> int:
        return -1

    def lend(self, deadline: float | None) -> None:
        self.deadline = deadline

    def is_fit(self) -> bool:
        return self.fit and not self.closed

    def works(self) -> bool:
        return self.whole and not self.closed

    def end(self) -> None:
        self.closed = True


class World:
    """A pool whose shell is the test: what a borrower waits for is told, and its outcome is given."""

    def __init__(self, size: int = 1, lifetime: float = 3600) -> None:
        self.clock = Clock()
        self.woken: list[object] = []
        world = self

        class Shell(Pool[Connection]):
            def _new_waiter(self) -> object:
                return object()

            def _waken(self, waiter: object) -> None:
                world.woken.append(waiter)

        self.pool = Shell(CircuitBreaker(self.clock), size, lifetime, (OSError,), self.clock)

    def borrower(self, seconds: float = 10) -> Borrower:
        return Borrower(self, seconds)


class Borrower:
    def __init__(self, world: World, seconds: float) -> None:
        self.world = world
        self.lent: Connection | None = world.pool.at_once()
        self.steps = world.pool.lend(world.clock() + seconds)
        self.step: Any = None
        if self.lent is None:
            self.go_on(None)

    def go_on(self, outcome: object) -> None:
        try:
            self.step = self.steps.throw(outcome) if isinstance(outcome, BaseException) else self.steps.send(outcome)
        except StopIteration as done:
            self.step, self.lent = None, done.value

    def connect(self) -> Connection:
        assert isinstance(self.step, _Connect)
        self.go_on(Connection(self.world.clock))
        assert self.lent is not None
        return self.lent

    @property
    def waits(self) -> bool:
        return isinstance(self.step, _Await)

    @property
    def is_woken(self) -> bool:
        return self.waits and self.step.waiter in self.world.woken


def test_the_first_to_ask_is_served_first() -> None:
    world = World()
    connection = world.borrower().connect()
    first, second = world.borrower(), world.borrower()
    assert (first.waits, second.waits, world.pool.waiting) == (True, True, 2)
    world.pool.give_back(connection, sound=True)
    assert (first.is_woken, second.is_woken) == (True, False)
    late = world.borrower()
    assert late.waits, "though a connection is idle"
    second.go_on(True)
    assert second.waits, "woken in vain"
    first.go_on(True)
    assert first.lent is connection


def test_who_has_waited_long_enough_is_told_and_leaves_the_queue() -> None:
    world = World()
    connection = world.borrower().connect()
    impatient, patient = world.borrower(1), world.borrower(10)
    world.clock.now += 1
    with pytest.raises(Exhausted):
        impatient.go_on(False)
    world.pool.give_back(connection, sound=True)
    patient.go_on(True)
    assert patient.lent is connection
    assert world.pool.waiting == 0


def test_a_borrower_that_was_interrupted_while_it_waited_is_not_waited_for() -> None:
    world = World()
    connection = world.borrower().connect()
    gone, next_one = world.borrower(), world.borrower()
    del gone
    world.pool.give_back(connection, sound=True)
    assert next_one.is_woken
    next_one.go_on(True)
    assert next_one.lent is connection


def test_a_place_goes_with_whoever_was_interrupted_while_it_connected() -> None:
    world = World()
    connecting = world.borrower()
    waiting = world.borrower()
    with pytest.raises(ZeroDivisionError):
        connecting.go_on(ZeroDivisionError())
    assert waiting.is_woken
    waiting.go_on(True)
    waiting.connect()
    assert world.pool.size == 1


def test_a_connection_that_was_dropped_frees_its_place() -> None:
    world = World()
    borrower = world.borrower()
    borrower.connect()
    waiting = world.borrower()
    del borrower
    gc.collect()
    assert world.pool.size == 0
    waiting.go_on(False)
    assert waiting.connect()


@pytest.mark.parametrize("holder_is", ["gone", "there"])
def test_a_connection_whose_holder_is_gone_is_taken_back(holder_is: str) -> None:
    class Holder:
        pass

    world, holder = World(), Holder()
    connection = world.borrower().connect()
    connection.holder = weakref.ref(holder)
    if holder_is == "gone":
        del holder
    waiting = world.borrower()
    waiting.go_on(False)
    assert connection.closed is (holder_is != "there")
    assert isinstance(waiting.step, _Await if holder_is == "there" else _Connect)


def test_a_connection_that_failed_or_is_too_old_is_not_lent_again() -> None:
    for spoil in ("fit", "old", "unsound", "outdated"):
        world = World(lifetime=100)
        connection = world.borrower().connect()
        connection.outdated = spoil == "outdated"
        world.pool.give_back(connection, sound=spoil != "unsound")
        connection.fit = spoil != "fit"
        world.clock.now += 100 if spoil == "old" else 0
        assert world.borrower().connect() is not connection
        assert connection.closed


def test_an_outdated_connection_takes_those_from_before_with_it() -> None:
    world = World(size=2)
    first, second = world.borrower().connect(), world.borrower().connect()
    world.pool.give_back(second, sound=True)
    world.clock.now += 1
    first.outdated = True
    world.pool.give_back(first, sound=True)
    assert world.borrower().connect().born == world.clock.now
    assert second.closed


def test_connections_that_nobody_needs_are_closed() -> None:
    world = World(size=2)
    first, second = world.borrower().connect(), world.borrower().connect()
    world.pool.give_back(first, sound=True)
    world.clock.now += 601
    world.pool.give_back(second, sound=True)
    assert (first.closed, second.closed, world.pool.size) == (True, False, 1)


def test_one_that_comes_back_after_the_end_is_ended() -> None:
    world = World(size=2)
    lent, idle = world.borrower().connect(), world.borrower().connect()
    world.pool.give_back(idle, sound=True)
    world.pool.close()
    assert (idle.closed, lent.closed) == (True, False)
    world.pool.give_back(lent, sound=True)
    assert lent.closed
    assert world.pool.size == 0


def test_a_server_that_takes_no_more_lets_wait_for_what_it_has_given() -> None:
    world = World(size=2)
    connection = world.borrower().connect()
    refused = world.borrower()
    refused.go_on(OSError("too many connections"))
    assert isinstance(refused.step, _Pause)
    world.pool.give_back(connection, sound=True)
    refused.go_on(None)
    assert refused.lent is connection


def test_an_outage_fails_those_who_were_there_when_the_try_began() -> None:
    world = World(size=2)
    connection = world.borrower().connect()
    connection.whole = False
    waiting, trying = world.borrower(), None
    assert isinstance(waiting.step, _Connect)
    trying = world.borrower()
    assert trying.waits
    with pytest.raises(OSError, match="refused"):
        waiting.go_on(OSError("refused"))
    assert trying.is_woken
    with pytest.raises(CircuitOpen) as caught:
        trying.go_on(True)
    assert isinstance(caught.value.failure, OSError)


def test_another_ones_refusal_fails_nobody_while_connections_work() -> None:
    """As when a password has been changed at the server, and the settings are yet to follow."""
    world = World(size=3)
    connection = world.borrower().connect()
    first, second = world.borrower(), world.borrower()
    first.go_on(OSError("access denied"))
    second.go_on(OSError("access denied"))
    for borrower in (first, second):
        assert isinstance(borrower.step, _Pause)
        borrower.go_on(None)
        assert isinstance(borrower.step, _Pause), "not failed by the other's try"
    world.pool.give_back(connection, sound=True)
    second.go_on(None)
    assert second.lent is connection
