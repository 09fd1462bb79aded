"""Arguments that a declaration leaves out, filled by their types: `Singleton(Notes)` in place of `Singleton(Notes, …)`.

It is done for each container that is made, because a subclass may change what fits.
"""

from __future__ import annotations

import functools
import operator
import weakref
from collections.abc import Iterator
from inspect import Parameter
from typing import Annotated, Any, get_args, get_origin

from dependency_injector import providers

from p8fs_cluster.containers.graph.candidates import Candidates
from p8fs_cluster.containers.graph.inference import CALLING, Signature, signature_of
from p8fs_cluster.containers.graph.matching import alternatives, is_common, is_known
from p8fs_cluster.di.by_type import AllOf, Missing
from p8fs_cluster.di.markers import MARKER, name_of
from p8fs_cluster.di.overriding import Overridable

__all__ = ["fill", "filled"]

_POSITIONAL = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
_NAMED = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)

_looked_at: weakref.WeakKeyDictionary[Any, tuple[tuple[Any, ...], bool]] = weakref.WeakKeyDictionary()
"""The providers that a container's class had when it was looked at, and whether they leave out arguments."""


def fill(container: Any) -> None:
    """Give each provider of a container the arguments that it lacks, where one provider fits.

    Where none or several fit an argument that is needed, what is given instead raises when it is asked for: who calls
    the provider may still give the argument. The providers of a part are given what the part has, else what the
    container around it has.
    """
    if _leaves_out(container.declarative_parent):
        _fill(container, (), set())


def filled(container: Any) -> Any:
    """Return an instance of a container's class if its providers leave out arguments, else the container itself."""
    make_one = isinstance(container, type) and hasattr(container, "scope_order") and _leaves_out(container)
    return container() if make_one else container


def _leaves_out(cls: Any) -> bool:
    declared = tuple(cls.providers.values())
    known = _looked_at.get(cls)
    if known is None or known[0] != declared:
        found = any(isinstance(each, AllOf) or _lacking(each) for each in providers.traverse(*declared))
        known = _looked_at[cls] = (declared, found)
    return known[1]


def _fill(container: Any, around: tuple[Candidates, ...], done: set[Any]) -> None:
    searched = (Candidates(container), *around)
    named = set(container.providers.values())
    parts = [each for each in container.providers.values() if isinstance(each, providers.Container)]
    for name, provider in container.providers.items():
        if provider not in parts:
            for each in _made_of(provider, named, done):
                _fill_one(each, f"{container.parent_name}.{name}", searched)
    for part in parts:
        if part.container is not None:
            _fill(part.container, searched, done)


def _made_of(provider: Any, named: set[Any], done: set[Any]) -> Iterator[Any]:
    """Yield a provider and those without a name that it is made of, each once."""
    waiting = [provider]
    while waiting:
        each = waiting.pop()
        if each not in done:
            done.add(each)
            yield each
            overriding = each.overridden
            waiting.extend(inner for inner in each.related if inner not in named and inner not in overriding)


def _fill_one(provider: Any, path: str, searched: tuple[Candidates, ...]) -> None:
    if isinstance(provider, AllOf):
        found = searched[0].of(provider.wanted)._replace(many=True)
        provider.take([Missing(path, *found.fault)] if found.fault else [each.provider for each in found.fitting])
        return
    lacking = _lacking(provider)
    if not lacking:
        return
    signature = _signature(provider)
    arguments = {}
    for parameter in lacking:
        argument = f"{path}: argument {parameter.name!r} of {name_of(provider.provides)}"
        value = _value(signature.annotation(parameter), parameter, argument, provider, searched)
        if value is not None:
            arguments[parameter.name] = value
    provider.set_kwargs(**{**provider.kwargs, **arguments})
    provider.filled = frozenset(arguments) | getattr(provider, "filled", frozenset())
    provider.positional = tuple(each.name for each in signature.parameters.values() if each.kind in _POSITIONAL)


def _value(
    wanted: Any, parameter: Parameter, argument: str, provider: Any, searched: tuple[Candidates, ...]
) -> Any | None:
    """Return what gives an argument; None to leave it out."""
    needed = parameter.default is Parameter.empty
    if isinstance(wanted, str) and needed:
        return Missing(argument, f"its annotation {wanted!r} can't be read", _GIVE_IT)
    if isinstance(wanted, str):
        return None
    if needed:
        wanted = functools.reduce(operator.or_, (each for each in alternatives(wanted) if each is not _NONE))
    for candidates in searched:
        found = candidates.of(wanted, besides=provider)
        if found.fitting or found.doubtful:
            break
    if found.fault is not None:
        return Missing(argument, found.fault[0], _GIVE_IT, needed)
    return found.provider if found.fitting else None


_NEW: Any = object.__new__
_NONE = type(None)
_GIVE_IT = "give it in the declaration"


def _may_be_filled(wanted: Any, needed: bool) -> bool:
    if get_origin(wanted) is Annotated and any(isinstance(each, MARKER) for each in get_args(wanted)[1:]):
        return False  # @inject fills it
    return is_known(wanted) and not is_common(wanted) and (needed or _NONE in alternatives(wanted))


def _lacking(provider: Any) -> list[Parameter]:
    """Return the parameters that a declaration gives no argument for, and that may be filled."""
    if not isinstance(provider, Overridable) or not isinstance(provider, CALLING):
        return []
    given = {name for name, value in provider.kwargs.items() if not isinstance(value, Missing)}
    if _is_complete(provider.provides, len(provider.args) + len(given)):
        return []
    signature = _signature(provider)
    positional = [each.name for each in signature.parameters.values() if each.kind in _POSITIONAL]
    given.update(positional[: len(provider.args)])
    left_out = (each for each in signature.parameters.values() if each.kind in _NAMED and each.name not in given)
    return [each for each in left_out if _is_fillable(each, signature)]


def _is_fillable(parameter: Parameter, signature: Signature) -> bool:
    needed = parameter.default is Parameter.empty
    if not needed and parameter.default is not None:
        return False
    wanted = signature.annotation(parameter)
    return isinstance(wanted, str) or _may_be_filled(wanted, needed)


def _is_complete(call: Any, given: int) -> bool:
    """Return whether it is plain to see that a call takes no more arguments than are given."""
    if call is None or isinstance(call, providers.Provider):
        return True
    function: Any = getattr(call, "__init__", None) if type(call) is type and call.__new__ is _NEW else call
    code = getattr(function, "__code__", None)
    if code is None or hasattr(call, "__signature__") or hasattr(function, "__wrapped__"):
        return getattr(call, "__module__", "") == "builtins"
    taken: int = code.co_argcount + code.co_kwonlyargcount - (function is not call)
    return taken <= given


_NO_PARAMETERS = Signature({}, {})


def _signature(provider: Any) -> Signature:
    try:
        return _signature_kept(provider.provides)
    except TypeError:  # it can't be hashed
        return signature_of(provider) or _NO_PARAMETERS


@functools.lru_cache(maxsize=1024)
def _signature_kept(call: Any) -> Signature:
    return signature_of(providers.Callable(call)) or _NO_PARAMETERS
