"""The numbers of one cluster handle, and metrics for OpenTelemetry, in a process that has imported its API."""

from __future__ import annotations

import itertools
import sys
import weakref
from collections.abc import Callable, Iterable, Iterator
from typing import Any

from p8fs_cluster.coordination.coordinator import Coordinator

__all__ = ["measure", "stats"]

Observed = Iterator[tuple[float, dict[str, str]]]

_KIND = "p8fs.lease.kind"
_NAME = "p8fs.lease.name"


def stats(coordinator: Coordinator) -> dict[str, Any]:
    """Return the numbers of this process as a plain dict; the database is not asked."""
    tally, view = coordinator.tally, coordinator.roster.last
    return {
        "leaders": {
            key.partition(":")[2]: _candidate(coordinator, key)
            for key in tuple(coordinator.candidacies)
            if key.startswith("leader:")
        },
        "locks_held": tally.held["lock"],
        "losses": sum(tuple(tally.losses.values())),
        "missed_beats": tally.missed_beats,
        "nodes": None if view is None else len(view),
        "view": None if view is None else view.number,
    }


def measure(coordinator: Coordinator) -> None:
    """Let OpenTelemetry's meter, if there is one, ask for these numbers, until the container ends."""
    metrics = sys.modules.get("opentelemetry.metrics")
    if metrics is None:
        return
    _measured[coordinator] = number = next(_numbers)
    if number == 1:  # an instrument that is made twice keeps the first one's callback alone
        meter = metrics.get_meter("p8fs_cluster")
        for kind, name, unit, observe in _INSTRUMENTS:
            getattr(meter, f"create_observable_{kind}")(name, callbacks=[_callback(metrics, observe)], unit=unit)


def _callback(metrics: Any, observe: Callable[[Coordinator], Observed]) -> Callable[[Any], Iterable[Any]]:
    def observed(_: Any) -> Iterable[Any]:
        for coordinator, number in tuple(_measured.items()):
            if not coordinator.closed:
                cluster = {"p8fs.cluster.name": f"{coordinator.spec.provider}-{number}"}
                for value, attributes in observe(coordinator):
                    yield metrics.Observation(value, cluster | attributes)

    return observed


def _candidate(coordinator: Coordinator, key: str) -> dict[str, Any]:
    holding = coordinator.candidacies[key].holding
    term = holding.term
    if term is None or not term.is_held(now := coordinator.clock.now()):
        return {"status": 0, "fence": None, "renew_age": None}
    return {"status": 1, "fence": term.token.fence, "renew_age": now - term.renewed_at}


def _of_leaders(number: str) -> Callable[[Coordinator], Observed]:
    def observe(coordinator: Coordinator) -> Observed:
        for name, leader in stats(coordinator)["leaders"].items():
            if leader[number] is not None:
                yield leader[number], {_KIND: "leader", _NAME: name}

    return observe


def _renew_ages(coordinator: Coordinator) -> Observed:
    yield from _of_leaders("renew_age")(coordinator)
    me = coordinator.roster.me
    age = None if me is None else _candidate(coordinator, f"node:{me}")["renew_age"]
    if age is not None:
        yield age, {_KIND: "node"}


def _held(coordinator: Coordinator) -> Observed:
    for kind, count in tuple(coordinator.tally.held.items()):
        yield count, {_KIND: kind}


def _losses(coordinator: Coordinator) -> Observed:
    for (kind, name), count in tuple(coordinator.tally.losses.items()):
        yield count, {_KIND: kind} | ({_NAME: name} if name else {})


def _count(number: str) -> Callable[[Coordinator], Observed]:
    def observe(coordinator: Coordinator) -> Observed:
        count = stats(coordinator)[number]
        if count is not None:
            yield count, {}

    return observe


_INSTRUMENTS: tuple[tuple[str, str, str, Callable[[Coordinator], Observed]], ...] = (
    ("gauge", "p8fs.leader.status", "1", _of_leaders("status")),
    ("gauge", "p8fs.leader.term", "1", _of_leaders("fence")),
    ("gauge", "p8fs.lease.renew_age", "s", _renew_ages),
    ("up_down_counter", "p8fs.lease.held", "{lease}", _held),
    ("counter", "p8fs.lease.losses", "{lease}", _losses),
    ("counter", "p8fs.lease.missed_beats", "{beat}", _count("missed_beats")),
    ("up_down_counter", "p8fs.node.count", "{node}", _count("nodes")),
    ("gauge", "p8fs.node.view", "1", _count("view")),
)
_numbers = itertools.count(1)
"""Tells the clusters of one process from each other."""

_measured: weakref.WeakKeyDictionary[Coordinator, int] = weakref.WeakKeyDictionary()
