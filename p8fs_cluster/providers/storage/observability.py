"""Slow statements in the log; spans and metrics for OpenTelemetry, in a process that has imported its API."""

from __future__ import annotations

import contextlib
import itertools
import logging
import sys
import weakref
from collections.abc import Callable, Iterable
from contextlib import AbstractContextManager
from typing import Any, Protocol

from p8fs_cluster.providers.storage.engines import EngineSpec

__all__ = ["measure", "tell_slow", "traced"]

log = logging.getLogger("p8fs_cluster.storage")
_LOGGED = 200
"""Characters of a statement that are logged; its parameters never are."""

_NOTHING: AbstractContextManager[None] = contextlib.nullcontext()
_SHOWN = 2000
"""Characters of a statement that a span has; its parameters never are in it."""


class _Handle(Protocol):
    @property
    def spec(self) -> EngineSpec: ...
    def stats(self) -> dict[str, Any]: ...


def tell_slow(provider: str, statement: object, seconds: float, limit: float) -> None:
    """Log a statement that took at least `limit` seconds."""
    if seconds >= limit:
        text = statement if isinstance(statement, str) else type(statement).__name__
        log.warning("%s: a statement took %.3f s: %s", provider, seconds, " ".join(text.split())[:_LOGGED])


def traced(handle: _Handle, statement: str) -> AbstractContextManager[Any]:
    """Return what makes the block a client's span; it records what the block raises."""
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None:
        return _NOTHING
    spec = handle.spec
    span: AbstractContextManager[Any] = trace.get_tracer("p8fs_cluster").start_as_current_span(
        f"{statement.split(None, 1)[0].upper() if statement.strip() else 'execute'} {spec.provider}",
        kind=trace.SpanKind.CLIENT,
        attributes={"db.system.name": spec.system or spec.provider, "db.query.text": statement[:_SHOWN]},
    )
    return span


def measure(handle: _Handle) -> None:
    """Let OpenTelemetry's meter, if there is one, ask this handle for its numbers, for as long as it lives."""
    metrics = sys.modules.get("opentelemetry.metrics")
    if metrics is None or handle in _measured:
        return
    _measured[handle] = number = next(_numbers)
    if number == 1:  # an instrument that is made twice keeps the first one's callback alone
        meter = metrics.get_meter("p8fs_cluster")
        for name, unit, told in _COUNTS:
            meter.create_observable_up_down_counter(name, callbacks=[_callback(metrics, told)], unit=unit)


def _callback(metrics: Any, told: dict[str, str]) -> Callable[[Any], Iterable[Any]]:
    def observe(_: Any) -> Iterable[Any]:
        for handle, number in tuple(_measured.items()):
            stats = handle.stats()
            pool = {"db.client.connection.pool.name": f"{stats['provider']}-{number}"}
            for key, state in told.items():
                if key in stats:
                    attributes = pool | ({"db.client.connection.state": state} if state else {})
                    yield metrics.Observation(stats[key], attributes)

    return observe


_COUNTS = (
    ("db.client.connection.count", "{connection}", {"borrowed": "used", "idle": "idle"}),
    ("db.client.connection.max", "{connection}", {"max_size": ""}),
    ("db.client.connection.pending_requests", "{request}", {"waiting": ""}),
    ("p8fs.storage.swaps", "{swap}", {"swaps": ""}),
)
_numbers = itertools.count(1)
"""Tells the pools of one process from each other."""

_measured: weakref.WeakKeyDictionary[_Handle, int] = weakref.WeakKeyDictionary()
