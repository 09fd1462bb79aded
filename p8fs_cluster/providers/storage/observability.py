"""Slow statements in the log; spans and metrics for OpenTelemetry, in a process that has imported its API."""

from __future__ import annotations

import contextlib
import itertools
import logging
import sys
import weakref
from collections.abc import Callable, Iterable, Mapping, Sequence
from contextlib import AbstractContextManager
from typing import Any, Protocol

from p8fs_cluster.providers.storage.engines import EngineSpec

__all__ = ["Instruments", "Measured", "measure", "tell_slow", "traced"]

log = logging.getLogger("p8fs_cluster.storage")
_LOGGED = 200
"""Characters of a statement that are logged; its parameters never are."""

_NOTHING: AbstractContextManager[None] = contextlib.nullcontext()
_SHOWN = 2000
"""Characters of a statement that a span has; its parameters never are in it."""


class Measured(Protocol):
    """An object that has numbers."""

    def stats(self) -> dict[str, Any]:
        """Return them by name, and the engine's as `provider`."""


class _Handle(Measured, Protocol):
    @property
    def spec(self) -> EngineSpec: ...


def tell_slow(provider: str, statement: object, seconds: float, limit: float) -> None:
    """Log a statement that took at least `limit` seconds."""
    if seconds >= limit:
        text = statement if isinstance(statement, str) else type(statement).__name__
        log.warning("%s: a statement took %.3f s: %s", provider, seconds, " ".join(text.split())[:_LOGGED])


def traced(handle: _Handle, statement: str) -> AbstractContextManager[Any]:
    """Return what makes the block a client's span; it records what the block raises."""
    trace = sys.modules.get("opentelemetry.trace")
    if trace is None or isinstance(trace.get_tracer_provider(), trace.ProxyTracerProvider):
        return _NOTHING  # without the API, or without what would take the span
    spec = handle.spec
    span: AbstractContextManager[Any] = trace.get_tracer("p8fs_cluster").start_as_current_span(
        f"{statement.split(None, 1)[0].upper() if statement.strip() else 'execute'} {spec.provider}",
        kind=trace.SpanKind.CLIENT,
        attributes={"db.system.name": spec.system or spec.provider, "db.query.text": statement[:_SHOWN]},
    )
    return span


class Instruments:
    """Instruments of OpenTelemetry's meter, if there is one, that ask handles for their numbers while these live."""

    def __init__(self, label: str, counts: Sequence[tuple[str, str, str, Mapping[str, str]]]) -> None:
        self._label = label
        """The attribute that tells several handles of one process apart."""
        self._counts = counts
        """Kind, name and unit of each instrument; number of `stats()` → its state."""
        self._numbers = itertools.count(1)
        self._measured: weakref.WeakKeyDictionary[Any, int] = weakref.WeakKeyDictionary()

    def measure(self, handle: Measured) -> None:
        """Ask this handle from now on, in a process that has imported OpenTelemetry's API."""
        metrics = sys.modules.get("opentelemetry.metrics")
        if metrics is None or handle in self._measured:
            return
        self._measured[handle] = number = next(self._numbers)
        if number == 1:  # an instrument that is made twice keeps the first one's callback alone
            meter = metrics.get_meter("p8fs_cluster")
            for kind, name, unit, told in self._counts:
                create = getattr(meter, f"create_observable_{kind}")
                create(name, callbacks=[self._callback(metrics, told)], unit=unit)

    def _callback(self, metrics: Any, told: Mapping[str, str]) -> Callable[[Any], Iterable[Any]]:
        def observe(_: Any) -> Iterable[Any]:
            for handle, number in tuple(self._measured.items()):
                stats = handle.stats()
                label = {self._label: f"{stats['provider']}-{number}"}
                for key, state in told.items():
                    if key in stats:
                        attributes = label | ({"db.client.connection.state": state} if state else {})
                        yield metrics.Observation(stats[key], attributes)

        return observe


_POOLS = Instruments(
    "db.client.connection.pool.name",
    (
        ("up_down_counter", "db.client.connection.count", "{connection}", {"borrowed": "used", "idle": "idle"}),
        ("up_down_counter", "db.client.connection.max", "{connection}", {"max_size": ""}),
        ("up_down_counter", "db.client.connection.pending_requests", "{request}", {"waiting": ""}),
        ("up_down_counter", "p8fs.storage.swaps", "{swap}", {"swaps": ""}),
    ),
)


def measure(handle: Measured) -> None:
    """Let OpenTelemetry's meter, if there is one, ask this storage handle for its numbers, for as long as it lives."""
    _POOLS.measure(handle)
