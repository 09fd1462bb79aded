"""Check the arguments of a call as Python's own binding would, all faults at once."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from inspect import Parameter
from typing import Any, NamedTuple

__all__ = ["Binding", "bind", "did_you_mean"]

_POSITIONAL = (Parameter.POSITIONAL_ONLY, Parameter.POSITIONAL_OR_KEYWORD)
_NAMED = (Parameter.POSITIONAL_OR_KEYWORD, Parameter.KEYWORD_ONLY)


class Binding(NamedTuple):
    """Which parameter takes which argument, what no parameter takes, and which parameters are left without."""

    taken: list[tuple[Parameter, Any]]
    faults: list[tuple[str, str]]
    """The fault, and a hint."""
    missing: list[Parameter]


def bind(parameters: Mapping[str, Parameter], args: tuple[Any, ...], kwargs: Mapping[str, Any]) -> Binding:
    """Lay arguments on parameters.

    >>> from inspect import signature
    >>> def serve(host, port, *, debug=False): ...
    >>> bind(signature(serve).parameters, ("::1",), {"prot": 80}).faults
    [("there is no argument 'prot'", "did you mean 'port'?")]
    """
    by_position, by_name, rest = {}, {}, {}
    for name, parameter in parameters.items():
        kind = parameter.kind
        if kind in _POSITIONAL:
            by_position[name] = parameter
        if kind in _NAMED:
            by_name[name] = parameter
        rest[kind] = parameter
    binding = Binding(list(zip(by_position.values(), args, strict=False)), [], [])
    _bind_rest(binding, args[len(by_position) :], rest.get(Parameter.VAR_POSITIONAL), len(by_position))
    given = {parameter.name for parameter, _ in binding.taken}
    for name, value in kwargs.items():
        taker = by_name.get(name, rest.get(Parameter.VAR_KEYWORD))
        if name in given and name in by_name:
            binding.faults.append((f"argument {name!r} is given twice", "by position and by name"))
        elif taker is None:
            binding.faults.append((f"there is no argument {name!r}", did_you_mean(name, by_name)))
            given.update(_nearest(name, by_name))  # which is not missing as well, then
        else:
            binding.taken.append((taker, value))
            given.add(name if name in by_name else "")
    needed = by_position | by_name
    binding.missing.extend([p for name, p in needed.items() if name not in given and p.default is p.empty])
    return binding


def did_you_mean(name: str, known: Iterable[str], *, before: str = "", after: str = "") -> str:
    """Return a hint at the nearest name, "" when none is near; `before` and `after` are what has to be written with it.

    >>> did_you_mean("storge", ["storage", "log"])
    "did you mean 'storage'?"
    """
    return "".join(f"did you mean {before + near + after!r}?" for near in _nearest(name, known))


def _nearest(name: str, known: Iterable[str]) -> list[str]:
    return difflib.get_close_matches(name, list(known), n=1)


def _bind_rest(binding: Binding, args: tuple[Any, ...], parameter: Parameter | None, takes: int) -> None:
    if parameter is not None:
        binding.taken.extend((parameter, value) for value in args)
    elif args:
        binding.faults.append((f"it takes {takes} by position, and {takes + len(args)} are given", ""))
