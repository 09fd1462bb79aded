"""Functions that build what providers give, written out for the graph as it is now.

A factory of a few parts is one function that calls their classes, with what singletons keep as constants. It holds
until the next change: an override, a reload, a close. What can't be written out is called as the provider that it is.
"""

from __future__ import annotations

import functools
import keyword
from collections.abc import Callable, Iterator, Mapping, Sequence
from types import CodeType
from typing import Any, Final

from dependency_injector import providers

from p8fs_cluster.di.entering import is_awaited, settled
from p8fs_cluster.di.layers import effective
from p8fs_cluster.di.overriding import Overridable
from p8fs_cluster.di.ownership import named
from p8fs_cluster.exceptions import InjectionError

__all__ = ["called_deep", "compiled", "compiled_all", "compiled_call", "constant", "is_written"]

_DEEPEST = 64
"""How many factories within each other one function writes out; deeper ones have functions of their own."""
_LONGEST = 200
"""How many calls one function writes out."""
_CALLING: Final = (providers.Factory, providers.Callable)


def compiled(provider: Any, otherwise: Callable[..., Any]) -> Callable[..., Any] | None:
    """Return a function that gives what a factory gives, None if it can't be written out.

    With arguments it calls `otherwise`.
    """
    if not _is_written_out(provider):
        return None
    program = _Program()
    value = program.value(provider)
    return program.function(_FUNCTION, value, otherwise=otherwise)


def called_deep(provider: Any) -> Any:
    """Call a factory where dependency-injector's way would take more than Python's stack.

    :raises InjectionError: something in it is asynchronous.
    """
    program = _Program(is_first=True)
    return program.function(_FUNCTION, program.value(provider), first=_first)()


def _first(provider: Any, value: Any) -> Any:
    if is_awaited(value):
        raise InjectionError(f"{named(provider)} is asynchronous, which a long chain of factories can't be made of")
    if provider.is_async_mode_undefined():
        provider.disable_async_mode()
    return value


def compiled_call(provider: Any) -> Callable[[], Any]:
    """Return a function that calls what a provider provides, with its arguments."""
    if not (provider.args or provider.kwargs):
        made: Callable[[], Any] = provider.provides
        return made
    program = _Program()
    return program.function(_CALL, program.call(provider))


def compiled_all(sources: Sequence[Any], *, is_settled: bool) -> Callable[[], Iterator[Any]] | None:
    """Return a function that returns an iterator over what providers give now, each `settled` if `is_settled`.

    Without that, None is returned if one can't be written out, as it may give a promise.
    """
    program = _Program()
    values = []
    for source in sources:
        is_plain = constant(source) is not None or _is_written_out(effective(source))
        if not (is_plain or is_settled):
            return None
        values.append(program.value(source) if is_plain else program.settled(source))
    return program.function(_CALL, f"iter(({''.join(f'{value}, ' for value in values)}))", settled=settled)


def constant(provider: Any, *, is_settled: bool = False) -> tuple[Any] | None:
    """Return, in a tuple, what a provider gives, as `settled` does if `is_settled`, if it is the same until a change.

    A promise is no constant.
    """
    owner = _owner(provider)
    if owner is not provider and not (isinstance(owner, Overridable) and owner.is_frozen):
        return None
    called = effective(owner)
    is_constant = called.is_constant if isinstance(called, Overridable) else type(called) is providers.Object
    if not is_constant or called.is_async_mode_enabled():
        return None
    value = settled(provider()) if is_settled else provider()
    return None if is_awaited(value) else (value,)


def _owner(provider: Any) -> Any:
    """Return the provider that something is an attribute of."""
    while isinstance(provider, (providers.AttributeGetter, providers.ProvidedInstance)):
        provider = provider.provides
    return provider


class _Program:
    """The lines of a function, and the constants that they name by their number: equal graphs have equal lines."""

    def __init__(self, is_first: bool = False) -> None:
        self._is_first = is_first
        """True if what has not been called yet is written out as well, with a look at what it gives."""
        self._lines: list[str] = []
        self._constants: list[Any] = []

    def value(self, provider: Any, depth: int = 0) -> str:
        """Return the expression of what a provider gives, after the lines that it needs."""
        if (found := constant(provider)) is not None:
            return self._constant(found[0])
        called = effective(provider)
        if depth >= _DEEPEST or len(self._lines) >= _LONGEST or not self._is_written_out(called):
            return self._line(f"{self._constant(provider.value_here if _is_scoped(provider) else provider)}()")
        if isinstance(called, Overridable):
            called.is_read = True
        made = self.call(called, depth)
        return self._line(made if called.is_async_mode_disabled() else f"first({self._constant(called)}, {made})")

    def settled(self, provider: Any) -> str:
        """Return the expression of what a provider gives, brought by a promise that was kept or not."""
        if _is_scoped(provider):
            return self._line(f"{self._constant(provider.value_here)}({self._constant(_settled)})")
        return f"settled({self.value(provider)})"

    def call(self, provider: Any, depth: int = 0) -> str:
        """Return the expression of a call of what a provider provides, after the lines that its arguments need."""
        call = self._constant(provider.provides)
        args = [self._argument(value, depth) for value in provider.args]
        args += [f"{name}={self._argument(value, depth)}" for name, value in provider.kwargs.items()]
        return f"{call}({', '.join(args)})"

    def function(self, text: str, value: str, **names: Any) -> Callable[..., Any]:
        """Return the function that gives a value."""
        lines = "".join(f"    {line}\n" for line in self._lines)
        space = names | {f"k{number}": value for number, value in enumerate(self._constants)}
        exec(_code(text.format(lines=lines, value=value)), space)  # noqa: S102
        made: Callable[..., Any] = space["function"]
        return made

    def _is_written_out(self, called: Any) -> bool:
        return _is_written_out(called) or (self._is_first and called.is_async_mode_undefined() and _is_call(called))

    def _argument(self, value: Any, depth: int) -> str:
        if isinstance(value, providers.Provider) and not providers.is_delegated(value):
            return self.value(value, depth + 1)
        return self._constant(value)

    def _constant(self, value: Any) -> str:
        self._constants.append(value)
        return f"k{len(self._constants) - 1}"

    def _line(self, call: str) -> str:
        name = f"v{len(self._lines)}"
        self._lines.append(f"{name} = {call}")
        return name


_FUNCTION = """
def function(*args, **kwargs):
    if args or kwargs:
        return otherwise(*args, **kwargs)
{lines}    return {value}
"""
_CALL = """
def function():
{lines}    return {value}
"""


def _is_scoped(provider: Any) -> bool:
    return isinstance(provider, Overridable) and provider.scope is not None


def _settled(provider: Any) -> Any:
    return settled(Overridable.__call__(provider))


@functools.lru_cache(1024)
def _code(text: str) -> CodeType:
    return compile(text, "<compiled graph>", "exec")


def _is_written_out(provider: Any) -> bool:
    """Return whether a call of a provider can be written out.

    dependency-injector looks for promises among the arguments until a provider's first call has given something else.
    """
    return bool(provider.is_async_mode_disabled()) and _is_call(provider)


def _is_call(provider: Any) -> bool:
    """Return whether calling a provider does nothing but call what it provides, in a way that can be written."""
    if not _is_plain(type(provider)):
        return False
    return is_written(provider) and not (isinstance(provider, providers.Factory) and provider.attributes)


def is_written(provider: Any) -> bool:
    """Return whether a call of what a provider provides can be written, by its arguments."""
    return not providers.is_provider(provider.provides) and _are_written(provider.kwargs)


def _is_plain(kind: type) -> bool:
    """Return whether calling a provider of this kind does nothing but call what it provides."""
    return kind in _CALLING or bool(vars(kind).get("is_plain"))


def _are_written(names: Mapping[str, Any]) -> bool:
    return all(name.isidentifier() and not keyword.iskeyword(name) and "__" not in name for name in names)
