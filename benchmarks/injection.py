"""Injection of p8fs_cluster against plain Python by hand and six peers, in one run.

    python -m benchmarks.injection

Each round measures every contender once, in an order that turns. Printed are the least and the median nanoseconds per
call, and the median of the rounds' ratios of p8fs_cluster to each. What is measured is in `benchmarks/contenders`.
"""

from __future__ import annotations

import asyncio
import statistics
import time
from collections.abc import Awaitable, Callable
from timeit import Timer
from types import ModuleType

from benchmarks.contenders import (
    Cache,
    Mailer,
    Service,
    anydi,
    dependency_injector,
    dishka,
    ours,
    plain,
    svcs,
    that_depends,
    wireup,
)
from benchmarks.rounds import Figures, Loop, aim, measure, ratio
from p8fs_cluster.config.settings import P8FSConfig

ROUNDS = 21
SECONDS = 0.03
OURS = "p8fs_cluster"
PLAIN = "plain Python"
PEERS = {
    "dependency-injector": dependency_injector,
    "dishka": dishka,
    "wireup": wireup,
    "anydi": anydi,
    "svcs": svcs,
    "that-depends": that_depends,
}
BY_HAND = {OURS: ours, PLAIN: plain}


def loops(modules: dict[str, ModuleType], expression: str) -> dict[str, Loop]:
    """Return what evaluates `expression` in each module, without a call of our own around it."""
    return {name: Timer(expression, globals=vars(module)).timeit for name, module in modules.items()}


def awaiting(function: Callable[[], Awaitable[object]], runner: asyncio.Runner) -> Loop:
    """Return what awaits calls of `function` within one run of the event loop."""

    async def loop(times: int) -> float:
        started = time.perf_counter()
        for _ in range(times):
            await function()
        return time.perf_counter() - started

    return lambda times: runner.run(loop(times))


def verify(module: ModuleType, runner: asyncio.Runner) -> None:
    """Make sure that what is timed gives the right objects, and closes the resource once a call."""
    service = eval(module.RESOLVE, vars(module))  # noqa: S307
    assert type(service) is Service
    assert module.one() is service
    for _ in range(2):
        assert [type(thing) for thing in module.three()] == [Service, Cache, Mailer]
        assert module.three()[0] is service
        assert type(asynchronous := runner.run(module.one_async())) is Service
        assert asynchronous is runner.run(module.one_async())
    calls = [module.with_resource() for _ in range(3)]
    assert [(transaction.closed, closed_within) for transaction, closed_within in calls] == [(1, 0)] * 3
    assert len({id(transaction) for transaction, _ in calls}) == 3


def verify_more(module: ModuleType) -> None:
    """Do so for what only we and plain Python do."""
    assert type(module.made()) is Service
    assert module.made() is not module.made()
    assert isinstance(module.configured(), P8FSConfig)
    assert module.configured() is module.configured()
    assert module.positional(1, 2) == (1, 2, module.one())


def show(title: str, contenders: dict[str, Loop]) -> Figures:
    """Measure and print one case."""
    figures = measure(contenders, ROUNDS, SECONDS)
    print(f"\n{title:40}{'min':>10}{'median':>13}{'ours to it':>13}")
    for name, seconds in sorted(figures.items(), key=lambda item: statistics.median(item[1])):
        least, median = min(seconds) * 1e9, statistics.median(seconds) * 1e9
        print(f"  {name:36}{least:9.0f} ns{median:9.0f} ns{ratio(figures, OURS, name):13.2f}")
    return figures


def aim_at_peers(title: str, figures: Figures, limit: float) -> None:
    """Say how we stand to the fastest peer: the one to which our ratio is the worst."""
    worst, fastest = max((ratio(figures, OURS, name), name) for name in PEERS)
    aim(f"{title}, to the fastest peer ({fastest})", worst, limit)


def main() -> None:
    """Verify, measure, and say which aims are met."""
    everyone = {**BY_HAND, **PEERS}
    with ours.application, asyncio.Runner() as runner:
        for module in everyone.values():
            verify(module, runner)
        for module in BY_HAND.values():
            verify_more(module)
        show("resolve a singleton", {n: loops({n: m}, m.RESOLVE)[n] for n, m in everyone.items()})
        one = show("inject a singleton", loops(everyone, "one()"))
        three = show("inject three singletons", loops(everyone, "three()"))
        one_async = show("await, a singleton", {n: awaiting(m.one_async, runner) for n, m in everyone.items()})
        resource = show("a resource for the time of the call", loops(everyone, "with_resource()"))
        show("inject from a factory", loops(BY_HAND, "made()"))
        show("inject the settings", loops(BY_HAND, "configured()"))
        show("inject after positional arguments", loops(BY_HAND, "positional(1, 2)"))
    print()
    aim_at_peers("inject a singleton", one, 0.8)
    aim("inject a singleton, to plain Python", ratio(one, OURS, PLAIN), 2.5)
    aim_at_peers("inject three singletons", three, 0.6)
    aim_at_peers("await, a singleton", one_async, 0.8)
    aim_at_peers("a resource for the time of the call", resource, 0.9)


if __name__ == "__main__":
    main()
