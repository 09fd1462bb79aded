"""The types that providers give, by their classes and by annotations. Nothing is built or called to find them."""

from __future__ import annotations

import asyncio
import builtins
import contextlib
import functools
import inspect
import sys
import types
from collections.abc import (
    AsyncGenerator,
    AsyncIterable,
    AsyncIterator,
    Callable,
    Coroutine,
    Generator,
    Iterable,
    Iterator,
    Mapping,
)
from typing import Annotated, Any, NamedTuple, Self, Union, cast, get_args, get_origin

from dependency_injector import providers, resources
from pydantic import BaseModel

from p8fs_cluster.config.settings import P8FSConfig
from p8fs_cluster.containers.graph.checker_imports import names_for_checkers
from p8fs_cluster.di import markers
from p8fs_cluster.di.annotations import UNKNOWN
from p8fs_cluster.di.scoped import Scoped
from p8fs_cluster.di.settings import SettingsProvider

__all__ = [
    "CALLING",
    "GETTERS",
    "AsDeclared",
    "Given",
    "classes_of",
    "fits",
    "given",
    "injected",
    "is_delegated",
    "signature_of",
]

CALLING = (providers.Factory, providers.Callable, providers.BaseSingleton, providers.BaseResource)
"""Providers that call what they provide with arguments."""

GETTERS = (providers.ProvidedInstance, providers.AttributeGetter, providers.ItemGetter, providers.MethodCaller)
"""Providers that take a part of what another one gives."""

_STREAMS = (Iterator, Generator, Iterable, AsyncIterator, AsyncGenerator, AsyncIterable)
_PROMISES = (Coroutine, asyncio.Future, asyncio.Task)
_MANAGERS = (contextlib.AbstractContextManager, contextlib.AbstractAsyncContextManager)
_SELVES = (Self, "Self", "typing.Self")
_CUSTOM = (resources.Resource, resources.AsyncResource)
_NEW: Any = object.__new__
_MODEL: Any = type(BaseModel)
_CONTEXTS = ("__enter__", "__aenter__")
_TOWER: Mapping[type, tuple[type, ...]] = {float: (int,), complex: (int, float)}


class Given(NamedTuple):
    """The type that a provider gives: a class or an annotation. It is exact if no subclass is possible."""

    annotation: Any = UNKNOWN
    exact: bool = False


Known = dict[Any, Given]


class AsDeclared(Known):
    """Remembers types as they are declared, whatever override is in force."""


class Signature(NamedTuple):
    """The parameters of what a provider calls, and the names that their annotations see."""

    parameters: Mapping[str, inspect.Parameter]
    names: dict[str, Any]

    def annotation(self, parameter: inspect.Parameter) -> Any:
        """Return the annotation, evaluated; as it is written when it can't be."""
        return _evaluated(parameter.annotation, self.names)


def given(provider: Any, known: Known | None = None) -> Given:
    """Return what calling `provider` gives, its override in force included. `known` remembers it.

    With `AsDeclared` as `known`, no override counts.

    >>> given(providers.Factory(dict)).annotation
    <class 'dict'>
    """
    known = {} if known is None else known
    found = known.get(provider)
    if found is None:
        known[provider] = Given()  # who needs himself gives nothing that is known
        kind = cast(Any, type(provider))
        overriding = None if isinstance(known, AsDeclared) else provider.last_overriding
        found = _giver(kind)(provider, known) if overriding is None else given(overriding, known)
        known[provider] = found
    return found


def injected(value: Any, known: Known | None = None) -> Given:
    """Return what an argument receives when `value`, a provider or not, is injected into it."""
    if not isinstance(value, providers.Provider) or is_delegated(value):
        return Given(type(value), exact=True)
    return given(value, known)


def is_delegated(provider: Any) -> bool:
    """Return whether a provider is injected as it is, not called. Its type says so: some kinds have any attribute.

    >>> is_delegated(providers.DelegatedFactory(dict))
    True
    """
    return getattr(type(provider), "__IS_DELEGATED__", False)


def signature_of(provider: Any) -> Signature | None:
    """Return the signature of what `provider` calls; None when it is not known."""
    call = provider.provides
    if call is None or isinstance(call, providers.Provider):
        return None
    method = _method_called(call)
    try:
        parameters = markers.parameters_of(method or call, bound=method is not None)
    except (TypeError, ValueError):
        return None
    return Signature(parameters, _names_seen_by(call))


def classes_of(annotation: Any) -> tuple[type, ...] | None:
    """Return the classes that an annotation admits; None when that is not certain (protocols, type variables, …).

    >>> classes_of(int | None), classes_of(list[int])
    ((<class 'int'>, <class 'NoneType'>), None)
    """
    if isinstance(annotation, type):
        certain = annotation not in (UNKNOWN, Any) and not getattr(annotation, "_is_protocol", False)
        return (annotation,) if certain else None
    if annotation is None:
        return (type(None),)
    origin = get_origin(annotation)
    if origin is Annotated:
        return classes_of(get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        parts = [classes_of(part) for part in get_args(annotation)]
        return None if None in parts else tuple(cls for part in parts for cls in part or ())
    return None


def fits(what: Given, wanted: tuple[type, ...]) -> bool:
    """Return whether `what` may be an instance of one of the classes; True when that is not certain.

    >>> fits(Given(int), (float,)), fits(Given(str), (float,))
    (True, False)
    """
    classes = classes_of(what.annotation)
    if classes is None:
        return True
    return any(_may_be(cls, other, what.exact) for cls in classes for other in wanted)


def _given_by_call(provider: Any, known: Known) -> Given:
    call = provider.provides
    if isinstance(call, providers.Provider):
        return given(call, known)
    if isinstance(provider, Scoped) and provider.wanted is not None:
        return Given(provider.wanted)
    if isinstance(provider, providers.BaseResource | Scoped):
        return _given_by_resource(call)
    if isinstance(call, type):
        return Given(call, exact=call.__new__ is _NEW)
    returned = _returned(call)
    return Given(get_args(returned)[-1] if get_origin(returned) in _PROMISES else returned)


def _given_by_resource(call: Any) -> Given:
    """A generator gives what it yields; a context manager gives what its `__enter__` says that it is entered as."""
    if _is_custom(call):
        return Given(_returned(call.init))
    returned = call if isinstance(call, type) else _returned(call)
    if get_origin(returned) in (*_STREAMS, *_MANAGERS):
        return Given(get_args(returned)[0])
    classes = classes_of(returned) or ()
    enter = next((getattr(cls, name) for name in _CONTEXTS for cls in classes if hasattr(cls, name)), None)
    if enter is None:
        return Given(returned)
    entered = _returned(enter)
    return Given(returned if entered in _SELVES else entered)


def _given_by_dependency(dependency: Any, known: Known) -> Given:
    if dependency.default is None and (dependency.instance_of is not object or not dependency.overridden):
        return Given(dependency.instance_of)
    return given(dependency.default or dependency.overridden[0], known)


def _given_by_attribute(getter: Any, known: Known) -> Given:
    name, owner = str(getter.name), given(getter.provides, known).annotation
    if type(owner) is _MODEL:  # its fields are asked for again and again
        found = known.get((owner, name))
        if found is None:
            found = known[owner, name] = Given(_annotation_of_attribute(owner, name))
        return found
    classes = classes_of(owner) or ()
    return Given(_annotation_of_attribute(classes[0], name)) if len(classes) == 1 else Given()


def _annotation_of_attribute(cls: type, name: str) -> Any:
    if issubclass(cls, BaseModel) and name in cls.model_fields:
        return cls.model_fields[name].annotation
    member = inspect.getattr_static(cls, name, None)
    if isinstance(member, property):
        return _returned(member.fget)
    for owner in cls.__mro__:
        if name in vars(owner).get("__annotations__", {}):
            return _evaluated(vars(owner)["__annotations__"][name], vars(sys.modules[owner.__module__]))
    return UNKNOWN


_Giver = Callable[[Any, Known], Given]
_GIVERS: tuple[tuple[Any, _Giver], ...] = (
    (SettingsProvider, lambda provider, known: Given(P8FSConfig)),
    (CALLING, _given_by_call),
    (providers.AttributeGetter, _given_by_attribute),
    (providers.ProvidedInstance, lambda provider, known: given(provider.provides, known)),
    ((providers.Configuration, providers.DependenciesContainer), lambda provider, known: Given()),
    (providers.Object, lambda provider, known: Given(type(provider.provides), exact=True)),
    (providers.Delegate, lambda delegate, known: Given(type(delegate.provides), exact=True)),
    (providers.Dependency, _given_by_dependency),
    (providers.List, lambda provider, known: Given(list, exact=True)),
    (providers.Dict, lambda provider, known: Given(dict, exact=True)),
    (providers.Provider, lambda provider, known: Given()),
)


@functools.lru_cache(maxsize=256)
def _giver(kind: type) -> _Giver:
    return next(giver for kinds, giver in _GIVERS if issubclass(kind, kinds))


def _returned(function: Any) -> Any:
    """The return annotation."""
    function = _unwrapped(function)
    annotation = getattr(function, "__annotations__", {}).get("return", UNKNOWN)
    return _evaluated(annotation, _names_seen_by(function))


def _evaluated(annotation: Any, names: dict[str, Any]) -> Any:
    if not isinstance(annotation, str):
        return annotation
    for known in (names, vars(builtins)):  # far quicker, and most are plain names
        if annotation in known:
            return known[annotation]
    for also in (dict, names_for_checkers):  # the second reads the module's text
        if also is dict and annotation.isidentifier():
            continue
        try:
            return eval(annotation, names, also(names))  # noqa: S307  # the module's own, as `inspect` evaluates it
        except Exception:  # noqa: S112  # it names what is only there for type checkers
            continue
    return annotation


def _names_seen_by(call: Any) -> dict[str, Any]:
    call = _unwrapped(call)
    is_class = isinstance(call, type)
    function = _unwrapped(call.__init__) if is_class else call
    module = sys.modules.get(getattr(call, "__module__", None) or "")
    names: dict[str, Any] = getattr(function, "__globals__", None) or vars(module or builtins)
    return names


def _unwrapped(call: Any) -> Any:
    while isinstance(call, functools.partial):
        call = call.func
    return inspect.unwrap(call) if hasattr(call, "__wrapped__") else call


def _is_custom(call: Any) -> bool:
    return isinstance(call, type) and issubclass(call, _CUSTOM)


def _method_called(call: Any) -> Any:
    """The method that takes the arguments of a class, where that is plain to see: `inspect` takes twice the time."""
    if _is_custom(call):
        return call.init
    plain = type(call) is type and call.__new__ is _NEW and not hasattr(call, "__signature__")
    return call.__init__ if plain and inspect.isfunction(call.__init__) else None


def _may_be(cls: type, wanted: type, exact: bool) -> bool:
    if cls is wanted:
        return True
    try:
        if issubclass(cls, (wanted, *_TOWER.get(wanted, ()))) or (not exact and issubclass(wanted, cls)):
            return True
    except TypeError:  # a class that can't be asked, such as a TypedDict
        return True
    return any("__class__" in vars(base) for base in cls.__mro__[:-1])  # a mock or a proxy says itself what it is
