"""The parameters that `@inject` fills: which provider of a container each one is to receive."""

from __future__ import annotations

import inspect
from collections.abc import Iterable, Iterator
from types import ModuleType
from typing import Annotated, Any, NamedTuple, get_args, get_origin

from dependency_injector import providers, wiring

from p8fs_cluster.containers.annotations import Signature, signature_of

__all__ = ["Injection", "ProvidersOf", "functions_of", "injections_of", "resolved"]

_MARKER: Any = wiring._Marker
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
        """What the marker names, without addresses."""
        asked = self.marker.provider
        if isinstance(asked, str):
            return f"{type(self.marker).__name__}[{asked!r}]"
        return f"{type(self.marker).__name__}[{type(asked).__name__} of another container]"


def injections_of(function: Any) -> tuple[tuple[inspect.Parameter, Any], ...]:
    """Return the parameters of an `@inject`ed function that are marked, each with its marker.

    >>> def port(api=wiring.Provide["api"]): ...
    >>> [(parameter.name, marker) for parameter, marker in injections_of(port)]
    [('api', Provide['api'])]
    """
    signature = signature_of(providers.Callable(inspect.unwrap(function)))
    found = [(p, _marker_of(p, signature)) for p in signature.parameters.values()] if signature else []
    return tuple((parameter, marker) for parameter, marker in found if marker is not None)


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


class ProvidersOf(wiring.ProvidersMap):
    """dependency-injector's look-up of markers, also in a declarative class, and without its mark on the container."""

    def __init__(self, container: Any) -> None:
        self._container = container
        self._map = dict(_pairs(container, getattr(container, "declarative_parent", None) or container))


def resolved(function: Any, containers: Iterable[ProvidersOf]) -> Iterator[Injection]:
    """Yield what each marked parameter of `function` gets of the first container that has it."""
    signature = signature_of(providers.Callable(inspect.unwrap(function)))
    for parameter, marker in injections_of(function):
        wanted = signature.annotation(parameter) if signature else parameter.empty
        name = f"{function.__module__}.{function.__qualname__}"
        yield Injection(name, parameter, wanted, marker, _found(marker, containers))


def _pairs(current: Any, original: Any) -> Iterator[tuple[Any, Any]]:
    yield original.__self__, current.__self__
    for name, provider in current.providers.items():
        declared = original.providers.get(name)
        if declared is not None:
            yield declared, provider
        if isinstance(provider, providers.Container) and isinstance(declared, providers.Container):
            yield from _pairs(provider.container, declared.container)


def _found(marker: Any, containers: Iterable[ProvidersOf]) -> Any:
    for container in containers:
        provider = container.resolve_provider(marker.provider, marker.modifier)
        if isinstance(provider, providers.Provider):
            return provider
    return None


def _marker_of(parameter: inspect.Parameter, signature: Signature) -> Any | None:
    annotation = signature.annotation(parameter)
    metadata = get_args(annotation)[1:] if get_origin(annotation) is Annotated else ()
    for candidate in (*metadata, parameter.default):
        marker = getattr(candidate, "dependency", candidate)  # FastAPI's Depends(Provide[...])
        if isinstance(marker, _MARKER):
            while isinstance(marker.provider, _MARKER):  # Closing[Provide[...]]
                marker = marker.provider
            return marker
    return None
