"""Which parameters of a function are injected, found in its defaults and in its annotations."""

from __future__ import annotations

import functools
import inspect
import types
from collections.abc import Callable, Mapping
from typing import (
    TYPE_CHECKING,
    Annotated,
    Any,
    Final,
    ForwardRef,
    Literal,
    NamedTuple,
    Protocol,
    TypeGuard,
    TypeVar,
    Union,
    get_args,
    get_origin,
    overload,
)

from dependency_injector import containers, providers, wiring

from p8fs_cluster.config.section import Section
from p8fs_cluster.di.annotations import type_text
from p8fs_cluster.di.by_type import AllOf, ByType
from p8fs_cluster.di.ownership import described
from p8fs_cluster.exceptions import InjectionError

__all__ = [
    "Closing",
    "Injected",
    "Injection",
    "Joining",
    "Provide",
    "injections_of",
    "name_of",
    "parameters_of",
    "signature_of",
    "text_of",
]

T = TypeVar("T")
S = TypeVar("S", bound=Section)

MARKER: Final[Any] = wiring._Marker

INJECTED: Final = "__p8fs_injected__"
"""The attribute of what `@inject` returns."""

if TYPE_CHECKING:

    class _Provide(Protocol):
        """Typed as what is injected, so that a parameter of another type is an error."""

        @overload
        def __getitem__(self, marked: providers.Resource[T]) -> T: ...
        @overload
        def __getitem__(self, marked: providers.Provider[T]) -> T: ...
        @overload
        def __getitem__(self, marked: type[T]) -> T: ...
        @overload
        def __getitem__(self, marked: S) -> S: ...
        @overload
        def __getitem__(self, marked: str | tuple[str, Any]) -> Any: ...

    class _Closing(Protocol):
        def __getitem__(self, marked: T) -> T: ...

    Provide: _Provide
    Closing: _Closing
    Joining: _Closing
else:
    Provide = wiring.Provide
    """dependency-injector's own marker, so that its `wire()` understands it as well."""

    Closing = wiring.Closing
    """`Closing[Provide[Container.tx]]`: opened for the call, and closed after it with the call's own exception."""

    class Joining(wiring._Marker):
        """`Joining[Provide[Container.tx]]`: the one that a call around this one has opened, else as `Closing`."""


_BY_TYPE: Final = object()

Injected = Annotated[T, _BY_TYPE]
"""`notes: Injected[Notes]`: what the one provider gives, in the active container and its parts, whose type fits."""

Way = Literal["value", "provider", "closing", "joining"]


class Injection(NamedTuple):
    """One parameter that is injected."""

    name: str
    position: int
    """The position among the positional ones; -1 when it is keyword-only."""
    marker: Any
    """The markers that the caller may hand on instead of a value."""
    target: Any
    """The marker that says which provider."""
    way: Way


def injections_of(
    function: Callable[..., Any],
    signature: inspect.Signature,
    names: Mapping[str, Any],
    unread: list[str] | None = None,
) -> tuple[Injection, ...]:
    """Return what is injected into `function`. `names` are those that annotations may use besides its globals.

    `unread` takes the parameters whose annotations name what is not defined, a type for checkers alone most often.

    :raises InjectionError: a marker stands where nothing can be injected.
    :raises NameError: an annotation names what is not defined (yet).
    """
    found = []
    for position, parameter in enumerate(signature.parameters.values()):
        try:
            marker = _marked(parameter, function, names)
        except NameError:
            if _may_mark(parameter.annotation):
                raise
            marker = None
            if unread is not None:
                unread.append(parameter.name)
        if marker is not None:
            found.append(_injection(parameter, position, marker, function))
    return tuple(found)


def signature_of(function: Callable[..., Any]) -> inspect.Signature:
    """Return `inspect.signature(function)`, read off a plain function in a third of the time."""
    if not _is_plain(function):
        return inspect.signature(function)
    returned = function.__annotations__.get("return", inspect.Parameter.empty)
    parameters = list(parameters_of(function).values())
    return inspect.Signature(parameters, return_annotation=returned, __validate_parameters__=False)


def parameters_of(function: Callable[..., Any], *, bound: bool = False) -> dict[str, inspect.Parameter]:
    """Return those of `signature_of(function)`, `bound` to a first argument or not.

    :raises TypeError: it can't be called.
    :raises ValueError: it does not tell them.
    """
    if not _is_plain(function):
        found = dict(inspect.signature(function).parameters)
        first = next(iter(found.values()), None)
        if bound and first is not None and first.kind is not first.VAR_POSITIONAL:
            del found[first.name]
        return found
    code, annotations = function.__code__, function.__annotations__
    count, empty = code.co_argcount, inspect.Parameter.empty
    names = code.co_varnames[: count + code.co_kwonlyargcount]
    defaults = function.__defaults__ or ()
    given = {
        **dict(zip(names[count - len(defaults) : count], defaults, strict=True)),
        **(function.__kwdefaults__ or {}),
    }
    return {
        name: inspect.Parameter(
            name, _INJECTABLE[at >= count], default=given.get(name, empty), annotation=annotations.get(name, empty)
        )
        for at, name in enumerate(names)
        if at or not (bound and count)
    }


def _is_plain(function: Any) -> TypeGuard[types.FunctionType]:
    if type(function) is not types.FunctionType or vars(function):
        return False
    unusual = inspect.CO_VARARGS | inspect.CO_VARKEYWORDS
    return not (function.__code__.co_flags & unusual or function.__code__.co_posonlyargcount)


def name_of(function: Callable[..., Any]) -> str:
    """Return how messages call a function."""
    name = getattr(function, "__qualname__", type(function).__name__)
    return f"{function.__module__}.{name}"


def text_of(marker: Any) -> str:
    """Return a marker nearly as it is written."""
    provided = marker.provider
    if isinstance(marker, ByType):
        return f"{marker.name}[{type_text(provided)}]"
    shown = text_of(provided) if isinstance(provided, MARKER) else _path_of(provided) or _shown(provided)
    return f"{type(marker).__name__}[{shown}]"


def _shown(provided: Any) -> str:
    if isinstance(provided, AllOf):
        return f"all_of({type_text(provided.wanted)})"
    if isinstance(provided, providers.Self) and isinstance(declared := provided(), type):
        return declared.__name__
    return described(provided) if providers.is_provider(provided) else repr(provided)


def _path_of(provider: Any) -> str | None:
    """Return `Container.storage` for a provider that some container's class declares."""
    waiting: list[Any] = [containers.DeclarativeContainer]
    while waiting:
        declaring = waiting.pop()
        for name, declared in declaring.cls_providers.items():
            if declared is provider:
                return f"{declaring.__name__}.{name}"
        waiting.extend(declaring.__subclasses__())
    return None


_KEYWORD = inspect.Parameter.KEYWORD_ONLY
_INJECTABLE = (inspect.Parameter.POSITIONAL_OR_KEYWORD, _KEYWORD)


def _marked(parameter: inspect.Parameter, function: Callable[..., Any], names: Mapping[str, Any]) -> Any | None:
    default, annotation = parameter.default, parameter.annotation
    if isinstance(default, MARKER):
        return default
    marker = getattr(default, "dependency", None)  # FastAPI's Depends(Provide[...])
    if isinstance(marker, MARKER):
        return marker
    if isinstance(annotation, str):
        annotation = _evaluated(annotation, function, names)
    marker = _in_annotation(annotation, function, parameter)
    if isinstance(marker, ByType) and isinstance(marker.provider, ForwardRef):
        return ByType(_evaluated(marker.provider.__forward_arg__, function, names))
    return marker


def _in_annotation(annotation: Any, function: Callable[..., Any], parameter: inspect.Parameter) -> Any | None:
    """Return the marker of an `Annotated`, also of one that is optional.

    :raises InjectionError: it stands deeper, where nothing can be injected.
    """
    for metadata in getattr(annotation, "__metadata__", ()):  # of Annotated
        if metadata is _BY_TYPE:
            return ByType(annotation.__origin__)
        marker = getattr(metadata, "dependency", metadata)
        if isinstance(marker, MARKER):
            return marker
    is_union = get_origin(annotation) in (Union, types.UnionType)
    for inner in () if get_origin(annotation) is Literal else get_args(annotation):
        marker = None if inner is annotation else _in_annotation(inner, function, parameter)
        if marker is not None and not is_union:
            told = f"{name_of(function)}: parameter {parameter.name!r}: {text_of(marker)} stands within another type"
            around = "Injected" if isinstance(marker, ByType) else "Annotated"
            raise InjectionError(f"{told}: write {around}[...] around the whole of it")
        if marker is not None:
            return ByType(annotation) if isinstance(marker, ByType) else marker
    return None


def _evaluated(annotation: str, function: Callable[..., Any], names: Mapping[str, Any]) -> Any:
    """Return what an annotation says, by the names where the function was written; None if it says nothing to us.

    :raises NameError: it names what is not defined (yet).
    """
    written = inspect.unwrap(function)
    known = getattr(written, "__globals__", {})
    try:
        code = _compiled(annotation)
        try:
            return eval(code, known, names)  # noqa: S307
        except NameError:
            if not inspect.isfunction(written):
                raise
            return eval(code, known, inspect.getclosurevars(written).nonlocals)  # noqa: S307
    except NameError:
        raise
    except Exception:
        if _may_mark(annotation):
            raise
        return None


def _may_mark(annotation: str) -> bool:
    """Return whether an annotation that can't be read is likely to hold a marker."""
    return "Annotated" in annotation or "Injected" in annotation


@functools.lru_cache(1024)
def _compiled(annotation: str) -> types.CodeType:
    return compile(annotation, "<annotation>", "eval")


def _injection(parameter: inspect.Parameter, position: int, marker: Any, function: Callable[..., Any]) -> Injection:
    name = parameter.name
    if parameter.kind not in _INJECTABLE:
        raise InjectionError(f"{name_of(function)}: {name!r} is {parameter.kind.description} and can't be injected")
    position = -1 if parameter.kind is _KEYWORD else position
    way: Way = next((way for kind, way in _WAYS.items() if isinstance(marker, kind)), "value")
    if way in ("value", "provider"):
        return Injection(name, position, marker, marker, way)
    inner = marker.provider if isinstance(marker.provider, MARKER) else _PROVIDE[marker.provider]
    if not isinstance(inner, _PROVIDE):
        raise InjectionError(f"{name_of(function)}: parameter {name!r}: {text_of(marker)} takes a Provide[...]")
    return Injection(name, position, marker, inner, way)


_PROVIDE: Any = wiring.Provide
_WAYS: dict[Any, Way] = {_PROVIDE: "value", wiring.Provider: "provider", Closing: "closing", Joining: "joining"}
