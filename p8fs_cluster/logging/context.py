"""Fields of every record in a block: `log_context`, over awaits, and in threads by `carried`."""

from __future__ import annotations

import contextlib
import functools
import inspect
import re
import sys
from collections.abc import Callable, Mapping
from contextvars import ContextVar, Token, copy_context
from types import MappingProxyType, TracebackType
from typing import Any, ParamSpec, TypeVar

from p8fs_cluster.logging.fields import apart

__all__ = ["bound", "carried", "log_context", "mark", "marked"]

P = ParamSpec("P")
R = TypeVar("R")

_NOTHING: Mapping[str, Any] = MappingProxyType({})
_bound: ContextVar[Mapping[str, Any]] = ContextVar("p8fs_log_context", default=_NOTHING)
_TRACEPARENT = re.compile(r"(?!ff)([0-9a-f]{2})-(?!0{32})([0-9a-f]{32})-(?!0{16})([0-9a-f]{16})-[0-9a-f]{2}(-.*)?")


class log_context:  # noqa: N801
    """Put fields into every record of the block, or of a decorated function; inner ones win.

    They cross `await`, new tasks and `asyncio.to_thread`; `carried` takes them into other threads. `traceparent`, as
    W3C defines it, becomes `trace_id` and `span_id`; an invalid one is left out.

    >>> with log_context(request_id="a1", user="ann"), log_context(user="bob"):
    ...     dict(bound())
    {'request_id': 'a1', 'user': 'bob'}
    """

    def __init__(self, /, **fields: Any) -> None:
        traceparent = fields.pop("traceparent", None)
        self._fields = {**apart(fields), **_ids(traceparent)}
        self._tokens: list[Token[Mapping[str, Any]]] = []

    def __enter__(self) -> None:
        self._tokens.append(_bound.set({**_bound.get(), **self._fields}))

    def __exit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        token = self._tokens.pop()
        with contextlib.suppress(ValueError):  # a generator that another task ends: nothing is bound there
            _bound.reset(token)

    def __call__(self, function: Callable[P, R]) -> Callable[P, R]:
        if inspect.iscoroutinefunction(function):

            @functools.wraps(function)
            async def awaited(*args: P.args, **kwargs: P.kwargs) -> Any:
                with log_context(**self._fields):
                    return await function(*args, **kwargs)

            return awaited  # type: ignore[return-value]

        @functools.wraps(function)
        def called(*args: P.args, **kwargs: P.kwargs) -> R:
            with log_context(**self._fields):
                return function(*args, **kwargs)

        return called


def carried(function: Callable[P, R]) -> Callable[P, R]:
    """Return `function` with the present context, for a thread or an executor: both would lose it.

    >>> from concurrent.futures import ThreadPoolExecutor
    >>> with ThreadPoolExecutor() as executor, log_context(request_id="a1"):
    ...     executor.submit(carried(lambda: dict(bound()))).result()
    {'request_id': 'a1'}
    """
    context = copy_context()

    @functools.wraps(function)
    def inside(*args: P.args, **kwargs: P.kwargs) -> R:
        return context.copy().run(function, *args, **kwargs)  # a context itself can't be entered by two threads

    return inside


def bound() -> Mapping[str, Any]:
    """Return what is bound here, with the ids of OpenTelemetry's span if there is one."""
    telemetry = sys.modules.get("opentelemetry.trace")
    if telemetry is None:
        return _bound.get()
    return {**_bound.get(), **_ids_of_span(telemetry)}


def mark(exc: BaseException) -> None:
    """Let the records of an exception tell what is bound here, also those that are made when nothing is any more.

    >>> fault = ValueError("too long")
    >>> with log_context(request_id="a1"):
    ...     mark(fault)
    >>> dict(marked(fault))
    {'request_id': 'a1'}
    """
    with contextlib.suppress(Exception):  # one that takes no attributes
        exc.__p8fs_bound__ = bound()  # type: ignore[attr-defined]


def marked(exc: BaseException | None) -> Mapping[str, Any]:
    """Return what was bound where an exception was marked."""
    fields = getattr(exc, "__p8fs_bound__", None)
    return fields if isinstance(fields, Mapping) else _NOTHING


def _ids(traceparent: object) -> dict[str, str]:
    found = _TRACEPARENT.fullmatch(traceparent) if isinstance(traceparent, str) else None
    if found is None or (found[1] == "00" and found[4]):
        return {}
    return {"trace_id": found[2], "span_id": found[3]}


def _ids_of_span(telemetry: Any) -> dict[str, str]:
    with contextlib.suppress(Exception):  # half an import, or a fake: a record is worth more than its ids
        context = telemetry.get_current_span().get_span_context()
        if context.is_valid:
            return {"trace_id": f"{context.trace_id:032x}", "span_id": f"{context.span_id:016x}"}
    return {}
