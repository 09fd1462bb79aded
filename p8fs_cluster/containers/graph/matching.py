"""Compare the type that a provider is declared to give with the one that is wanted."""

from __future__ import annotations

import types
from collections.abc import Iterable
from typing import Annotated, Any, ForwardRef, Protocol, TypeVar, Union, get_args, get_origin

from p8fs_cluster.di.annotations import UNKNOWN

__all__ = ["alternatives", "is_common", "is_known", "match"]

_NONE = type(None)
_COMMON = ("builtins", "collections.abc", "typing", "types")


def alternatives(annotation: Any) -> tuple[Any, ...]:
    """Return the members of a union, of anything else itself; without metadata.

    >>> alternatives(int | None)
    (<class 'int'>, <class 'NoneType'>)
    """
    if type(annotation) is type:
        return (annotation,)
    origin = get_origin(annotation)
    if origin is Annotated:
        return alternatives(get_args(annotation)[0])
    if origin in (Union, types.UnionType):
        return tuple(part for each in get_args(annotation) for part in alternatives(each))
    return (_NONE if annotation is None else annotation,)


def is_common(annotation: Any) -> bool:
    """Return whether too many things are of a type for it to choose one: a builtin, or an abstract collection.

    >>> is_common(str), is_common(list[int]), is_common(Exception | None)
    (True, True, True)
    """
    return any(
        isinstance(each, TypeVar) or getattr(get_origin(each) or each, "__module__", "") in _COMMON
        for each in alternatives(annotation)
        if each is not _NONE
    ) or set(alternatives(annotation)) == {_NONE}


def is_known(annotation: Any) -> bool:
    """Return whether an annotation says something: that it is there, can be read, and is no variable."""
    return not any(
        each in (UNKNOWN, Any, object) or isinstance(each, str | TypeVar) for each in alternatives(annotation)
    )


def match(declared: Any, wanted: Any) -> bool | None:
    """Return whether all that is declared as `declared` is of the type `wanted`; None when that can't be known.

    A class fits its bases, and a protocol all of whose members it has. The arguments of generic types must be the same.

    >>> from typing import Generic
    >>> T = TypeVar("T")
    >>> class Repository(Generic[T]): ...
    >>> class Notes(Repository[str]): ...
    >>> match(Notes, Repository[str]), match(Notes, Repository[int]), match(Repository, Repository[str])
    (True, False, None)
    """
    if type(declared) is type and type(wanted) is type:  # quick, and most are
        return wanted in declared.__mro__
    options = alternatives(wanted)
    verdicts = [
        _best(_match_one(each, option) for option in options)
        for each in alternatives(declared)
        if each is not _NONE or _NONE not in options
    ]
    return _worst(verdicts) if verdicts else False


def _best(verdicts: Iterable[bool | None]) -> bool | None:
    found = set(verdicts)
    return True if True in found else None if None in found else False


def _worst(verdicts: Iterable[bool | None]) -> bool | None:
    found = set(verdicts)
    return False if False in found else None if None in found else True


def _match_one(declared: Any, wanted: Any) -> bool | None:
    if declared is wanted or declared == wanted:
        return True
    cls, base = get_origin(declared) or declared, get_origin(wanted) or wanted
    if not isinstance(cls, type) or not isinstance(base, type) or not _is_a(cls, base):
        return False
    expected = get_args(wanted)
    if not expected:
        return True
    given = _arguments(declared, base)
    if given is None or len(given) != len(expected):
        return None
    return _worst(_same(mine, other) for mine, other in zip(given, expected, strict=True))


def _same(given: Any, expected: Any) -> bool | None:
    if expected is Any or given == expected:
        return True
    return None if given is Any or isinstance(given, str | ForwardRef | TypeVar) else False


def _is_a(cls: type, base: type) -> bool:
    if base in cls.__mro__:
        return True
    if not getattr(base, "_is_protocol", False):
        try:
            return issubclass(cls, base)
        except TypeError:  # a class that can't be asked
            return False
    members = _members(base)
    return bool(members) and all(_has(cls, name) for name in members)


def _has(cls: type, name: str) -> bool:
    return hasattr(cls, name) or any(name in vars(base).get("__annotations__", ()) for base in cls.__mro__)


def _members(protocol: Any) -> set[str]:
    """Return the names that a protocol asks for."""
    return {
        name
        for base in protocol.__mro__
        if vars(base).get("_is_protocol", False) and base is not Protocol
        for name in (*vars(base), *vars(base).get("__annotations__", ()))
        if name not in _OF_EVERY_PROTOCOL
    }


_T_co = TypeVar("_T_co", covariant=True)


class _Bare(Protocol[_T_co]):
    _: int


_OF_EVERY_PROTOCOL = {*vars(_Bare), "_is_runtime_protocol", "__non_callable_proto_members__", "__type_params__"}


def _arguments(annotation: Any, base: type) -> tuple[Any, ...] | None:
    """Return the arguments of the generic `base` in an annotation or what its class derives from; None if unknown."""
    cls, given = get_origin(annotation) or annotation, get_args(annotation)
    if cls is base:
        return given or None
    known = dict(zip(getattr(cls, "__parameters__", ()), given, strict=False))
    for each in vars(cls).get("__orig_bases__", cls.__bases__):
        origin = get_origin(each) or each
        if isinstance(origin, type) and base in origin.__mro__:
            parameters = getattr(each, "__parameters__", ()) if get_args(each) else ()
            written = each[tuple(known.get(name, name) for name in parameters)] if parameters else each
            return _arguments(written, base)
    return None
