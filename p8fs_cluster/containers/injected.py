"""The parameters that `@inject` fills: which provider of a container each one is to receive."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from types import ModuleType
from typing import Any, NamedTuple

from dependency_injector import providers, wiring

from p8fs_cluster.containers import markers
from p8fs_cluster.containers.annotations import signature_of
from p8fs_cluster.containers.lookup import ProvidersOf, found
from p8fs_cluster.exceptions import InjectionError

__all__ = ["Injection", "functions_of", "injections_of", "resolved"]

_LIVE: Any = wiring.Provider


class Injection(NamedTuple):
    """A marked parameter: what it wants by its annotation, and the provider that it gets, None when there is none."""

    function: str
    parameter: inspect.Parameter
    wanted: Any
    marker: Any
    provider: Any

    @property
    def live(self) -> bool:
        """Whether it gets the provider itself."""
        return isinstance(self.marker, _LIVE)

    @property
    def asked_for(self) -> str:
        """The marker, nearly as it is written."""
        return markers.text_of(self.marker)


def injections_of(function: Any) -> tuple[tuple[inspect.Parameter, Any], ...]:
    """Return the parameters of an `@inject`ed function that are marked, each with its marker.

    >>> def port(api=wiring.Provide["api"]): ...
    >>> [(parameter.name, marker) for parameter, marker in injections_of(port)]
    [('api', Provide['api'])]
    """
    plain = inspect.unwrap(function)
    try:
        signature = inspect.signature(plain)
        marked = markers.injections_of(plain, signature, {})
    except (NameError, TypeError, ValueError, InjectionError):  # is told when it is called
        return ()
    return tuple((signature.parameters[each.name], each.target) for each in marked)


def functions_of(things: Iterable[Any]) -> Iterator[Any]:
    """Yield functions, those of modules and of their classes included, in the order of their definition."""
    for thing in things:
        if isinstance(thing, ModuleType):
            own = [member for member in vars(thing).values() if getattr(member, "__module__", None) == thing.__name__]
            yield from functions_of(member for member in own if isinstance(member, type) or inspect.isfunction(member))
        elif isinstance(thing, type):
            members = (getattr(member, "__func__", member) for member in vars(thing).values())
            yield from filter(inspect.isfunction, members)
        else:
            yield thing


def resolved(function: Any, searched: Iterable[ProvidersOf]) -> Iterator[Injection]:
    """Yield what each marked parameter of `function` gets of the first container that has it."""
    signature = signature_of(providers.Callable(inspect.unwrap(function)))
    for parameter, marker in injections_of(function):
        wanted = signature.annotation(parameter) if signature else parameter.empty
        name = f"{function.__module__}.{function.__qualname__}"
        yield Injection(name, parameter, wanted, marker, found(marker, searched))
