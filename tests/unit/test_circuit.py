"""Who tries to reach a server that is gone, who waits, and who fails: by a clock that the test moves."""

from __future__ import annotations

from p8fs_cluster.providers.storage.circuit_breaker import PATIENCE, RETRY, CircuitBreaker


class Clock:
    now = 100.0

    def __call__(self) -> float:
        return self.now


def test_everybody_tries_while_it_is_closed() -> None:
    circuit = CircuitBreaker(Clock())
    assert [circuit.wait(100), circuit.wait(100)] == [0, 0]


def test_one_tries_in_each_interval_and_the_others_fail_with_it() -> None:
    circuit = CircuitBreaker(clock := Clock())
    circuit.fail(OSError("first"), begun=99)
    assert circuit.wait(100) == RETRY
    clock.now += RETRY
    assert circuit.wait(100) == 0, "one tries"
    assert circuit.wait(100) == RETRY, "and others wait"
    circuit.fail(OSError("second"), begun=clock.now)
    assert circuit.wait(100) is None, "they were there when it began"
    assert circuit.wait(clock.now + 0.01), "who comes later waits for the next"
    assert str(circuit.failure) == "second"


def test_nobody_waits_long_for_tries_that_hang() -> None:
    circuit = CircuitBreaker(clock := Clock())
    circuit.fail(OSError(), begun=99)
    clock.now += RETRY
    assert circuit.wait(100) == 0, "this one hangs"
    clock.now += RETRY
    assert circuit.wait(100.1) == 0, "and keeps nobody from trying"
    clock.now = 100 + PATIENCE
    assert circuit.wait(100) is None


def test_success_closes_it_for_those_who_wait() -> None:
    circuit = CircuitBreaker(Clock())
    circuit.fail(OSError(), begun=99)
    assert circuit.wait(100) == RETRY
    circuit.succeed()
    assert [circuit.wait(100), circuit.wait(100)] == [0, 0]
