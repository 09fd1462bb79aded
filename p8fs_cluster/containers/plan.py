"""The plan of an injected function: its parameters are found once, their providers once for each container."""

from __future__ import annotations

import contextlib
import inspect
import sys
from collections.abc import Callable, Iterable, Iterator, Sequence
from typing import Any, Final, NamedTuple

from dependency_injector import providers

from p8fs_cluster.containers.default import default
from p8fs_cluster.di import context
from p8fs_cluster.di.by_type import asks_by_type
from p8fs_cluster.di.call_scope import Call, joined, maker
from p8fs_cluster.di.compiling import compiled_all, constant
from p8fs_cluster.di.entering import is_awaited, settled
from p8fs_cluster.di.layers import effective
from p8fs_cluster.di.lookup import ProvidersOf, found, nearest, with_subcontainers
from p8fs_cluster.di.markers import MARKER, Injection, injections_of, name_of, signature_of, text_of
from p8fs_cluster.di.scoped import Scoped, blocking_in, thread_for
from p8fs_cluster.exceptions import InjectionError

__all__ = ["Plan"]

_LOOKS = 100
"""How many calls of a function look for values that stay the same: one that is awaited may be there by then."""


_in_force: Final = context.in_force.get


class _Bound(NamedTuple):
    """An injection, and where its value comes from in the active container."""

    name: str
    get: Callable[[], Any]
    provider: Any = None
    """The resources opened for the call; None when there are none."""
    joins: bool = False
    scoped: tuple[Scoped[Any], ...] = ()
    """The scoped providers that the value is made of; none if something of it is asynchronous."""

    async def promised(self) -> Any:
        """Return the value, made in a worker thread where it would block, and a framework gives one."""
        in_thread = thread_for(self.scoped)
        return self.get() if in_thread is None else await in_thread(self.get)


class _Binding:
    """All injections of a function in one container."""

    __slots__ = ("calls", "injections")

    def __init__(self, injections: Sequence[_Bound]) -> None:
        self.injections = injections
        self.calls = 0
        """How many calls have looked for what the next one can take."""


class _Made:
    """Values that are made anew for each call: taking them apart calls a compiled function.

    To tell them from values that stay the same would cost those a fifth of their time.
    """

    __slots__ = ("__iter__",)

    def __init__(self, make: Callable[[], Iterator[Any]]) -> None:
        self.__iter__ = make


class Plan:
    """The injections of one function, found once, and their providers, found once for each container."""

    __slots__ = ("_bound", "_function", "_injections", "_is_async", "_lowest", "_unread", "first", "opens", "signature")

    def __init__(self, function: Callable[..., Any], names: dict[str, Any]) -> None:
        self._function = function
        self._bound = object()
        """The key under which a cache has what was bound; the plan itself is the key of values that stay the same."""
        self._injections: tuple[Injection, ...] | None = None
        self._lowest = -1
        self.signature = signature_of(function)
        self._is_async = inspect.iscoroutinefunction(function)
        self.first = -1
        """The number of positional arguments of the caller if all injected ones come right after them, else -1."""
        self.opens = False
        """True if something is opened for each call."""
        self._unread: list[str] = []
        with contextlib.suppress(NameError):  # an annotation may name what the module defines further down
            found = injections_of(function, self.signature, names, self._unread)
            if found or not self._unread:
                self._know(found)

    @property
    def is_known(self) -> bool:
        """Return whether every annotation could be read."""
        return self._injections is not None

    @property
    def injections(self) -> tuple[Injection, ...]:
        """Return what is to be injected.

        :raises InjectionError: an annotation names what does not exist.
        """
        if self._injections is None:
            try:
                self._unread = []
                self._know(injections_of(self._function, self.signature, {}))
            except NameError as exc:
                raise InjectionError(f"{name_of(self._function)}: an annotation can't be read: {exc}") from exc
        return self._injections or ()

    def visible(self) -> inspect.Signature:
        """Return the signature as callers see it: a framework must not ask its users for what is injected."""
        injected = {each.name for each in self.injections}
        parameters = [each for each in self.signature.parameters.values() if each.name not in injected]
        return inspect.Signature(
            parameters, return_annotation=self.signature.return_annotation, __validate_parameters__=False
        )

    def values(self) -> tuple[Any, ...]:
        """Return all that is injected, and keep it for the next call if it will be the same."""
        kept = _in_force().cache.values
        bound = self.bound()
        values = tuple([settled(each.get()) for each in bound.injections])
        if kept.get(self._bound) is bound and bound.calls < _LOOKS and not self.opens:
            kept |= self._repeated(bound)
        return values

    def _repeated(self, bound: _Binding) -> dict[Any, Any]:
        """Return what the next call takes, by this plan: the values, or what makes them; nothing if neither can be."""
        values = [constant(each.get, is_settled=True) for each in bound.injections]
        if None not in values:
            return {self: tuple([value[0] for value in values if value is not None])}
        bound.calls += 1
        if bound.calls == 1:  # what is called for the first time may still turn out to give promises
            return {}
        make = compiled_all([each.get for each in bound.injections], is_settled=not self._is_async)
        return {} if make is None else {self: _Made(make)}

    async def values_async(self) -> tuple[Any, ...]:
        """Do as `values` does, and await what is promised."""
        bound = self.bound().injections
        if any(each.scoped for each in bound):
            values: Iterable[Any] = [await each.promised() if each.scoped else each.get() for each in bound]
        else:
            values = self.values()
        return tuple([await value if is_awaited(value) else value for value in values])

    def fill(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Put into `kwargs` what the caller has not given, and return them."""
        for each in self.missing(args, kwargs):
            kwargs[each.name] = settled(each.get())
        return kwargs

    async def fill_async(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> dict[str, Any]:
        """Do as `fill` does, and await what is promised."""
        for each in self.missing(args, kwargs):
            value = await each.promised() if each.scoped else each.get()
            kwargs[each.name] = await value if is_awaited(value) else value
        return kwargs

    def open(self, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Do as `fill` does, and open for the call what is to be closed after it."""
        bound: _Binding | None = None if args or kwargs else _in_force().cache.values.get(self._bound)
        for name, get, provider, joins, _ in self.missing(args, kwargs) if bound is None else bound.injections:
            if provider is None:
                kwargs[name] = settled(get())
            elif joins and (shared := joined(provider)) is not None:
                kwargs[name] = shared[0]
            else:
                kwargs[name] = call.open(provider, get())

    async def open_async(self, call: Call, args: tuple[Any, ...], kwargs: dict[str, Any]) -> None:
        """Do as `open` does, and await what is promised."""
        for each in self.missing(args, kwargs):
            if each.provider is None:
                value = await each.promised() if each.scoped else each.get()
                kwargs[each.name] = await value if is_awaited(value) else value
            elif each.joins and (shared := joined(each.provider)) is not None:
                kwargs[each.name] = shared[0]
            else:
                kwargs[each.name] = await call.open_async(each.provider, each.get())

    def missing(self, args: tuple[Any, ...], kwargs: dict[str, Any]) -> Sequence[_Bound]:
        """Return what the caller has not given."""
        if not kwargs and len(args) <= self._lowest:
            bound: _Binding | None = _in_force().cache.values.get(self._bound)
            return (bound or self.bound()).injections
        wanted = [each for each in self.injections if not _is_given(each, args, kwargs)]
        if len(wanted) == len(self.injections):
            return self.bound().injections
        names = {each.name for each in wanted}
        kept: _Binding | None = _in_force().cache.values.get(self._bound)
        return self._binding(wanted)[0] if kept is None else [each for each in kept.injections if each.name in names]

    def bound(self) -> _Binding:
        """Return where each value comes from, found out once a container."""
        kept = _in_force().cache.values
        bound: _Binding | None = kept.get(self._bound)
        if bound is None:
            injections, keep = self._binding(self.injections)
            bound = _Binding(injections)
            if keep:
                kept[self._bound] = bound
        return bound

    def _know(self, injections: tuple[Injection, ...]) -> None:
        first = injections[0].position if injections else -1
        together = [each.position for each in injections] == list(range(first, first + len(injections)))
        self.opens = any(each.way in ("closing", "joining") for each in injections)
        self.first = first if together and not self.opens else -1
        self._lowest = min([each.position for each in injections if each.position >= 0], default=sys.maxsize)
        self._injections = injections

    def _binding(self, injections: Sequence[Injection]) -> tuple[list[_Bound], bool]:
        if self._unread:
            self._read_again()
        container, keep = context.innermost(_in_force())
        return [self._bind(each, container or default()) for each in injections], keep

    def _read_again(self) -> None:
        """Refuse a function one of whose parameters has turned out to be marked since it was decorated.

        :raises InjectionError: with the parameter.
        """
        known = {each.name for each in self._injections or ()}
        for each in injections_of(self._function, self.signature, {}):
            if each.name not in known:
                annotation = self.signature.parameters[each.name].annotation
                raise InjectionError(
                    f"{name_of(self._function)}: parameter {each.name!r}: {annotation}, which marks it, is defined "
                    "after the function: define it before"
                )
        self._unread = []

    def _bind(self, injection: Injection, container: Any) -> _Bound:
        provider = self._provider(injection, container)
        if injection.way == "provider":
            return _Bound(injection.name, providers.Object(provider))
        if injection.way == "value":
            return _Bound(injection.name, provider, scoped=blocking_in(provider))
        opened = effective(provider)
        return _Bound(injection.name, maker(opened), opened, injection.way == "joining")

    def _provider(self, injection: Injection, container: Any) -> Any:
        if asks_by_type(injection.target):
            return self._provider_by_type(injection, container)
        provider = found(injection.target, map(ProvidersOf, with_subcontainers(container)))
        if provider is not None:
            return provider
        raise InjectionError(
            f"{name_of(self._function)}: parameter {injection.name!r}: {text_of(injection.marker)} is not in "
            f"the active container ({container.parent_name}){_hint(container, injection.target)}"
        )

    def _provider_by_type(self, injection: Injection, container: Any) -> Any:
        from p8fs_cluster.containers.graph.candidates import asked_for

        provider, fault = asked_for(injection.target, container)
        if fault is None:
            return provider
        told = f"{name_of(self._function)}: parameter {injection.name!r}: {text_of(injection.marker)}"
        raise InjectionError(f"{told}: {'; '.join(filter(None, fault))}")


def _is_given(injection: Injection, args: tuple[Any, ...], kwargs: dict[str, Any]) -> bool:
    if 0 <= injection.position < len(args):
        value = args[injection.position]
    else:
        value = kwargs.get(injection.name, injection.marker)
        if value is injection.marker:
            return False
    if isinstance(value, MARKER):
        raise InjectionError(f"parameter {injection.name!r}: {text_of(value)} was handed on as a value")
    return True


def _hint(container: Any, marker: Any) -> str:
    return nearest(marker.provider, container) if isinstance(marker.provider, str) else ""
