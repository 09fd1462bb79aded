"""Resources opened for one call: closed in reverse order, told how the call ended, shared only where asked."""

from __future__ import annotations

import asyncio
import contextlib
import functools
import inspect
from asyncio import _get_running_loop
from collections.abc import AsyncGenerator, Callable, Generator
from threading import get_ident
from types import GeneratorType
from typing import Any

from dependency_injector import providers

from p8fs_cluster.di.entering import Opened, end_by, is_asynchronous, is_awaited, leave, open_async, open_now
from p8fs_cluster.di.layers import effective
from p8fs_cluster.di.overriding import Overridable
from p8fs_cluster.di.ownership import described, named
from p8fs_cluster.di.providers import maker_of
from p8fs_cluster.exceptions import InjectionError

__all__ = ["Call", "joined", "maker"]

_calls: dict[Any, Call] = {}
"""The innermost call that is running, of each task, or of each thread that runs no event loop."""


class Call:
    """The resources of one call. Leaving closes them; the call's exception always goes on to the caller."""

    __slots__ = ("_owner", "opened", "outer")

    def __init__(self) -> None:
        self.opened: list[tuple[Any, Any, Any]] = []
        """The providers of what was opened, its values, and what closes them."""
        self.outer: Call | None = None
        self._owner: Any = None

    def open(self, provider: Any, made: Any) -> Any:
        """Open for this call what was made for it.

        :raises InjectionError: it is asynchronous.
        """
        if type(made) is GeneratorType:
            for value in made:
                self.opened.append((provider, value, made))
                return value
            raise RuntimeError(f"{made!r} did not yield")
        if is_asynchronous(made):
            if inspect.iscoroutine(made):
                made.close()
            raise InjectionError(
                f"{described(provider)} is asynchronous: what it is injected into has to be `async def`"
            )
        return self._keep(provider, open_now(made))

    async def open_async(self, provider: Any, made: Any) -> Any:
        """Do as `open` does with what may be asynchronous."""
        if not is_asynchronous(made):
            return self.open(provider, made)
        return self._keep(provider, await open_async(made))

    def publish(self) -> None:
        """Let calls inside this one join what it has opened, in the same task or thread."""
        owner = get_ident() if _get_running_loop() is None else _running()
        self._owner = owner
        self.outer = _calls.get(owner)
        _calls[owner] = self

    def leave(self, exc: BaseException | None) -> None:
        """Close in reverse order. What a step raises goes on to the next one, and to the caller."""
        raised, opened, owner = exc, self.opened, self._owner
        if owner is not None and self.outer is None and _calls[owner] is self:
            del _calls[owner]
        else:
            self._withdraw()
        while opened:
            end = opened.pop()[2]
            try:
                if raised is None and type(end) is GeneratorType:
                    for _ in end:
                        raise RuntimeError(f"{end!r} yielded more than once")
                else:
                    end_by(end, raised)
            except BaseException as fault:
                raised = fault
        if raised is not exc and raised is not None:
            raise raised

    async def leave_async(self, exc: BaseException | None) -> None:
        """Do as `leave` does, and await what is asynchronous."""
        raised, opened = exc, self.opened
        self._withdraw()
        while opened:
            try:
                left = end_by(opened.pop()[2], raised)
                if is_awaited(left):
                    await left
            except BaseException as fault:
                raised = fault
        if raised is not exc and raised is not None:
            raise raised

    def _keep(self, provider: Any, opened: Opened) -> Any:
        self.opened.append((provider, *opened))
        return opened.value

    def _withdraw(self) -> None:
        if self._owner is None:
            return
        inner, outer = _calls[self._owner], self.outer
        if inner is not self:  # coroutines that take turns in one task may end in any order
            while inner.outer is not self and inner.outer is not None:
                inner = inner.outer
            inner.outer = outer
        elif outer is None:
            del _calls[self._owner]
        else:
            _calls[self._owner] = outer


def _running() -> Any:
    """Return the running task; the thread, where none runs, as in a callback of an event loop."""
    loop = _get_running_loop()
    return (loop and asyncio.current_task(loop)) or get_ident()


def joined(provider: Any) -> tuple[Any] | None:
    """Return, in a tuple, what the nearest call around this one has opened, in this very task or thread."""
    call = _calls.get(_running())
    while call is not None:
        for opened, value, _ in call.opened:
            if opened is provider:
                return (value,)
        call = call.outer
    return None


def maker(provider: providers.Provider[Any]) -> Callable[[], Any]:
    """Return what makes, at each call, a context manager or a promise of one."""
    if isinstance(provider, Overridable) and provider.scope is not None:
        raise InjectionError(
            f"{named(provider)} is closed at the end of its scope {provider.scope!r}: write Provide[…]"
        )
    if isinstance(provider, providers.BaseResource):
        make: Callable[[], Any] = maker_of(provider, bare=True)
        return make
    if isinstance(provider, providers.Object):  # somebody else's
        return lambda: contextlib.nullcontext(provider())
    if _resources(provider, in_force=False):  # as declared: a fake in place of a resource has nothing to be closed
        return lambda: _over(provider, _resources(provider))
    return lambda: _enterable(provider)


def _resources(provider: Any, in_force: bool = True) -> dict[Any, None]:
    """Return the resources that a provider is built from at each call, not those that a singleton keeps."""
    found: dict[Any, None] = {}
    for declared in _built_from(provider):
        needed = effective(declared) if in_force else declared
        if isinstance(needed, providers.BaseResource):
            found[needed] = None
        else:
            found |= _resources(needed, in_force)
    return found


def _built_from(provider: Any) -> list[Any]:
    if isinstance(provider, (providers.BaseSingleton, providers.BaseResource, providers.Delegate, providers.Object)):
        return []
    overriding = provider.overridden
    return [needed for needed in provider.related if needed not in overriding]


def _over(provider: Any, resources: dict[Any, None]) -> Any:
    """Return a context manager that opens the resources, gives what the provider makes of them, and closes them."""
    made = {resource: maker_of(resource)() for resource in resources}
    manager: Any = _opened_async if any(map(is_asynchronous, made.values())) else _opened
    return manager(provider, made)


@contextlib.contextmanager
def _opened(provider: Any, made: dict[Any, Any]) -> Generator[Any, None, None]:
    with contextlib.ExitStack() as stack:
        values = {}
        for resource, each in made.items():
            opened = open_now(each)
            stack.push(functools.partial(_left, opened))
            values[resource] = opened.value
        yield _built(provider, values)


@contextlib.asynccontextmanager
async def _opened_async(provider: Any, made: dict[Any, Any]) -> AsyncGenerator[Any, None]:
    async with contextlib.AsyncExitStack() as stack:
        values = {}
        for resource, each in made.items():
            opened = await open_async(each) if is_asynchronous(each) else open_now(each)
            stack.push_async_exit(functools.partial(_left_async, opened))
            values[resource] = opened.value
        value = _built(provider, values)
        yield await value if is_awaited(value) else value


def _left(opened: Opened, kind: Any, exc: BaseException | None, traceback: Any) -> Any:
    return leave(opened, exc)


async def _left_async(opened: Opened, kind: Any, exc: BaseException | None, traceback: Any) -> Any:
    result = leave(opened, exc)
    return await result if is_awaited(result) else result


def _built(provider: Any, values: dict[Any, Any]) -> Any:
    return _with(provider, values)()


def _with(provider: Any, values: dict[Any, Any]) -> Any:
    """Return a provider that is built from these values where it was from their resources."""
    provider = effective(provider)
    if provider in values:
        return providers.Object(values[provider])
    if not values or not _resources(provider):
        return provider
    memo = {id(needed): _with(needed, values) for needed in _built_from(provider)}
    return providers.deepcopy(provider, memo)


def _enterable(provider: providers.Provider[Any]) -> Any:
    made = provider()
    if inspect.isasyncgen(made):
        return contextlib.asynccontextmanager(lambda: made)()
    if type(made) is GeneratorType or hasattr(made, "__enter__") or is_asynchronous(made):
        return made
    raise InjectionError(f"{described(provider)} gives nothing that could be closed: Closing is for what yields")
