"""The parameters that `@inject` fills: which provider of a container each one is to receive."""

from __future__ import annotations

import inspect
import pkgutil
from collections.abc import Iterable, Iterator, Sequence
from importlib import import_module
from types import ModuleType
from typing import Any, NamedTuple

from dependency_injector import providers, wiring

from p8fs_cluster.containers.graph.candidates import asked_for
from p8fs_cluster.containers.graph.inference import signature_of
from p8fs_cluster.di import markers
from p8fs_cluster.di.by_type import asks_by_type
from p8fs_cluster.di.lookup import ProvidersOf, found
from p8fs_cluster.exceptions import InjectionError

__all__ = ["Injection", "functions_of", "injections_of", "resolved", "unfilled"]

_LIVE: Any = wiring.Provider


class Injection(NamedTuple):
    """A marked parameter: what it wants by its annotation, and the provider that it gets, None when there is none."""

    function: str
    parameter: inspect.Parameter
    wanted: Any
    marker: Any
    provider: Any
    fault: tuple[str, str] | None = None
    """Why nothing can be chosen by type, and the way out."""

    @property
    def live(self) -> bool:
        """Return whether it gets the provider itself."""
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
        signature = markers.signature_of(plain)
        marked = markers.injections_of(plain, signature, {})
    except (NameError, TypeError, ValueError, InjectionError):  # is told when it is called
        return ()
    return tuple((signature.parameters[each.name], each.target) for each in marked)


def unfilled(things: Iterable[Any]) -> Iterator[tuple[str, str]]:
    """Yield functions and classes whose markers nobody fills, or can read, each with the reason."""
    for function in functions_of(things):
        chain = [function]
        while (inner := getattr(chain[-1], "__wrapped__", None)) is not None:
            chain.append(inner)
        filled = any(hasattr(each, markers.INJECTED) or wiring._is_patched(each) for each in chain)
        if not filled and injections_of(function):
            yield markers.name_of(function), "its markers are not filled: @inject is missing"
        if filled and "<locals>" not in function.__qualname__:
            yield from ((markers.name_of(function), what) for what in _unread(chain[-1]))
    for cls in classes_of(things):
        for name, field in getattr(cls, "__pydantic_fields__", {}).items():
            if isinstance(field.default, markers.MARKER):
                yield markers.name_of(cls), f"{name!r} is a field of a pydantic model, where no marker is filled"


def _unread(function: Any) -> Iterator[str]:
    """Yield why the markers of a function can't be read, if they can't."""
    try:
        markers.injections_of(function, markers.signature_of(function), {})
    except NameError as exc:
        yield f"an annotation can't be read: {exc}"


def classes_of(things: Iterable[Any]) -> Iterator[type]:
    """Yield classes, those of modules included."""
    for thing in things:
        if isinstance(thing, ModuleType):
            yield from classes_of(member for module in _modules(thing) for member in _own(module))
        elif isinstance(thing, type):
            yield thing


def functions_of(things: Iterable[Any]) -> Iterator[Any]:
    """Yield functions, those of packages, modules and classes included, in the order of their definition."""
    for thing in things:
        if isinstance(thing, ModuleType):
            own = [member for module in _modules(thing) for member in _own(module)]
            yield from functions_of(member for member in own if isinstance(member, type) or inspect.isfunction(member))
        elif isinstance(thing, type):
            members = (getattr(member, "__func__", member) for member in vars(thing).values())
            yield from filter(inspect.isfunction, members)
        else:
            yield thing


def _own(module: ModuleType) -> list[Any]:
    return [member for member in vars(module).values() if getattr(member, "__module__", None) == module.__name__]


def _modules(module: ModuleType) -> Iterator[ModuleType]:
    """Yield a module, and if it is a package those in it, imported."""
    yield module
    for part in pkgutil.walk_packages(getattr(module, "__path__", ()), f"{module.__name__}."):
        if not part.name.endswith("__main__"):
            yield import_module(part.name)


def resolved(function: Any, container: Any, searched: Sequence[ProvidersOf]) -> Iterator[Injection]:
    """Yield what each marked parameter of `function` gets of the first container that has it."""
    signature = signature_of(providers.Callable(inspect.unwrap(function)))
    for parameter, marker in injections_of(function):
        wanted = signature.annotation(parameter) if signature else parameter.empty
        name = f"{function.__module__}.{function.__qualname__}"
        if asks_by_type(marker):
            yield Injection(name, parameter, wanted, marker, *asked_for(marker, container))
        else:
            yield Injection(name, parameter, wanted, marker, found(marker, searched))
