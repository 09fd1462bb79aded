"""What is opened for one call: closed after it in reverse order, told how the call ended, shared only where asked."""

from __future__ import annotations

import asyncio
import contextlib
import inspect
import threading
from collections.abc import Callable
from contextvars import ContextVar
from types import TracebackType
from typing import Any

from dependency_injector import providers

from p8fs_cluster.containers.building import Resource
from p8fs_cluster.containers.opening import Exit, Opened, is_asynchronous, is_awaited, open_async, open_now
from p8fs_cluster.exceptions import InjectionError
from p8fs_cluster.providers.overriding import Overridable

__all__ = ["Call", "effective", "joined", "maker"]

_calls: ContextVar[tuple[Call, Any] | None] = ContextVar("p8fs_cluster_calls", default=None)


class Call:
    """The resources of one call. Leaving closes them; the call's exception always goes on to the caller."""

    __slots__ = ("_exits", "owner", "values")

    def __init__(self) -> None:
        self.values: dict[Any, Any] = {}
        self.owner: Any = None
        self._exits: list[Exit] = []

    def open(self, provider: Any, make: Callable[[], Any]) -> Any:
        """Open what `make` returns, for this call.

        :raises InjectionError: it is asynchronous.
        """
        made = make()
        if is_asynchronous(made):
            if inspect.iscoroutine(made):
                made.close()
            raise InjectionError(f"{provider} is asynchronous, so what it is injected into has to be `async def`")
        return self._keep(provider, open_now(made))

    async def open_async(self, provider: Any, make: Callable[[], Any]) -> Any:
        """Open what `make` returns, for this call."""
        made = make()
        return self._keep(provider, await open_async(made) if is_asynchronous(made) else open_now(made))

    def publish(self) -> None:
        """Let calls inside this one join what it has opened."""
        if self.values:
            self.owner = _owner()
            _calls.set((self, _calls.get()))

    def leave(self, exc: BaseException | None) -> None:
        """Close in reverse order. What a step raises goes on to the next one, and to the caller."""
        raised = exc
        self._withdraw()
        while self._exits:
            try:
                self._exits.pop()(*_details(raised))
            except BaseException as fault:
                raised = fault
        if raised is not None and raised is not exc:
            raise raised

    async def leave_async(self, exc: BaseException | None) -> None:
        """Do as `leave` does, and await what is asynchronous."""
        raised = exc
        self._withdraw()
        while self._exits:
            try:
                left = self._exits.pop()(*_details(raised))
                if is_awaited(left):
                    await left
            except BaseException as fault:
                raised = fault
        if raised is not None and raised is not exc:
            raise raised

    def _keep(self, provider: Any, opened: Opened) -> Any:
        self.values[provider] = opened.value
        if opened.exit is not None:
            self._exits.append(opened.exit)
        return opened.value

    def _withdraw(self) -> None:
        self.values = {}  # contexts that were copied meanwhile find nothing to join
        innermost = _calls.get()
        if innermost is not None and innermost[0] is self:
            _calls.set(innermost[1])


def joined(provider: Any) -> tuple[Any] | None:
    """Return, in a tuple, what the nearest call around this one has opened, in this very task or thread."""
    around = _calls.get()
    owner = _owner() if around else None
    while around is not None:
        call, around = around
        if provider in call.values and call.owner == owner:
            return (call.values[provider],)
    return None


def effective(provider: Any) -> Any:
    """Return what stands in the place of a provider here and now, or itself."""
    while True:
        layer = provider.layer() if isinstance(provider, Overridable) else None
        replacement = provider.last_overriding if layer is None else layer.replaced.get(provider)
        if replacement is None:
            return provider
        provider = replacement


def maker(provider: providers.Provider[Any]) -> Callable[[], Any]:
    """Return what makes, at each call, a context manager or a promise of one."""
    if isinstance(provider, Resource):
        make: Callable[[], Any] = provider.maker()
        return make
    if isinstance(provider, providers.Object):  # somebody else's
        return lambda: contextlib.nullcontext(provider())
    return lambda: _enterable(provider)


def _enterable(provider: providers.Provider[Any]) -> Any:
    made = provider()
    if inspect.isgenerator(made):
        return contextlib.contextmanager(lambda: made)()
    if inspect.isasyncgen(made):
        return contextlib.asynccontextmanager(lambda: made)()
    if hasattr(made, "__enter__") or is_asynchronous(made):
        return made
    raise InjectionError(f"{provider} gives nothing that could be closed: Closing is for what yields, a Resource say")


def _owner() -> Any:
    try:
        return threading.get_ident(), asyncio.current_task()
    except RuntimeError:
        return threading.get_ident(), None


def _details(exc: BaseException | None) -> tuple[Any, Any, TracebackType | None]:
    return (None, None, None) if exc is None else (type(exc), exc, exc.__traceback__)
