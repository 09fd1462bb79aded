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
from typing import Any

from benchmarks.contenders import (
    Cache,
    Handler,
    Mailer,
    Notes,
    Service,
    Transaction,
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
EVERYONE: dict[str, ModuleType] = {**BY_HAND, **PEERS}
WITH_SCOPES = {name: module for name, module in EVERYONE.items() if hasattr(module, "in_scope")}


def loops(modules: dict[str, ModuleType], expression: str) -> dict[str, Loop]:
    """Return what evaluates `expression` in each module, without a call of our own around it."""
    return {name: Timer(expression, globals=vars(module)).timeit for name, module in modules.items()}


def resolving(name: str) -> dict[str, Loop]:
    """Return what evaluates each module's own expression, which has that name."""
    return {each: Timer(getattr(module, name), globals=vars(module)).timeit for each, module in EVERYONE.items()}


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
    service = evaluated(module, "RESOLVE")
    assert type(service) is Service
    assert module.one() is service
    for _ in range(2):
        assert [type(thing) for thing in module.three()] == [Service, Cache, Mailer]
        assert module.three()[0] is service
        assert type(asynchronous := runner.run(module.one_async())) is Service
        assert asynchronous is runner.run(module.one_async())
    verify_made(module, runner)
    verify_closed(module.with_resource)
    if module in WITH_SCOPES.values():
        verify_closed(module.in_scope)


def verify_made(module: ModuleType, runner: asyncio.Runner) -> None:
    """Make sure that factories make something new each time, of the same singletons."""
    handlers = [evaluated(module, "GRAPH") for _ in range(3)]
    assert [(type(each), type(each.notes)) for each in handlers] == [(Handler, Notes)] * 3
    assert len({id(each) for each in handlers}) == len({id(each.notes) for each in handlers}) == 3
    assert all(each.mailer is module.three()[2] for each in handlers)
    calls = [module.mixed() for _ in range(3)]
    assert len({id(notes) for _, _, notes in calls}) == 3
    assert all(given[:2] == module.three()[:2] and type(given[2]) is Notes for given in calls)
    assert len({id(notes.repo) for notes in (*(each.notes for each in handlers), *(given[2] for given in calls))}) == 1
    calls = [runner.run(module.mixed_async()) for _ in range(3)]
    assert [[type(each) for each in given] for given in calls] == [[Service, Cache, Notes]] * 3
    assert len({id(notes) for _, _, notes in calls}) == 3
    assert len({(id(service), id(cache), id(notes.repo)) for service, cache, notes in calls}) == 1


def verify_closed(function: Callable[[], tuple[Transaction, int]]) -> None:
    """Make sure that each call gets a transaction of its own, which is open within and closed once afterwards."""
    calls = [function() for _ in range(3)]
    assert [(transaction.closed, closed_within) for transaction, closed_within in calls] == [(1, 0)] * 3
    assert len({id(transaction) for transaction, _ in calls}) == 3


def evaluated(module: ModuleType, name: str) -> Any:
    """Return what the module's own expression of that name gives."""
    return eval(getattr(module, name), vars(module))  # noqa: S307


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
    worst, fastest = max((ratio(figures, OURS, name), name) for name in PEERS if name in figures)
    aim(f"{title}, to the fastest peer ({fastest})", worst, limit)


def main() -> None:
    """Verify, measure, and say which aims are met."""
    with ours.application, asyncio.Runner() as runner:
        for module in EVERYONE.values():
            verify(module, runner)
        for module in BY_HAND.values():
            verify_more(module)
        resolved = show("resolve a singleton", resolving("RESOLVE"))
        graph = show("resolve a factory of four parts", resolving("GRAPH"))
        one = show("inject a singleton", loops(EVERYONE, "one()"))
        three = show("inject three singletons", loops(EVERYONE, "three()"))
        mixed = show("inject two singletons and a factory", loops(EVERYONE, "mixed()"))
        one_async = show("await, a singleton", {n: awaiting(m.one_async, runner) for n, m in EVERYONE.items()})
        show("await, two singletons and a factory", {n: awaiting(m.mixed_async, runner) for n, m in EVERYONE.items()})
        resource = show("a resource for the time of the call", loops(EVERYONE, "with_resource()"))
        scope = show("a scope with one scoped value", loops(WITH_SCOPES, "in_scope()"))
        show("inject from a factory", loops(BY_HAND, "made()"))
        show("inject the settings", loops(BY_HAND, "configured()"))
        show("inject after positional arguments", loops(BY_HAND, "positional(1, 2)"))
    print()
    aim("resolve a singleton, to dependency-injector", ratio(resolved, OURS, "dependency-injector"), 1.4)
    aim_at_peers("resolve a factory of four parts", graph, 0.8)
    aim("resolve a factory of four parts, to plain Python", ratio(graph, OURS, PLAIN), 2)
    aim_at_peers("inject a singleton", one, 0.5)
    aim("inject a singleton, to plain Python", ratio(one, OURS, PLAIN), 2.5)
    aim_at_peers("inject three singletons", three, 0.6)
    aim_at_peers("inject two singletons and a factory", mixed, 0.6)
    aim_at_peers("await, a singleton", one_async, 0.6)
    aim_at_peers("a resource for the time of the call", resource, 0.7)
    aim_at_peers("a scope with one scoped value", scope, 0.7)


if __name__ == "__main__":
    main()
