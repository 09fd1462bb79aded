"""Faults that pydantic found, told in the user's terms: the variable, its source, what was expected; never a secret."""

from __future__ import annotations

from collections.abc import Collection, Iterable, Mapping, Sequence
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from p8fs_cluster.config.reading import LOCATORS
from p8fs_cluster.config.secrets import shown, without_passwords
from p8fs_cluster.config.sources.source import prefix
from p8fs_cluster.exceptions import ConfigurationError, Problem

__all__ = ["configuration_error", "nearest", "no_such_name", "problems_of", "unknown_setting", "variable_of"]

_SHOWN = 60
"""Characters of a bad value that are shown."""

_LIST = "input should be a list: a,b or JSON"
_TABLE = "input should be a=1,b=2 or a JSON object"
_MANY = {
    **dict.fromkeys(("list_type", "set_type", "frozen_set_type", "tuple_type", "iterable_type"), _LIST),
    **dict.fromkeys(("dict_type", "model_type", "model_attributes_type"), _TABLE),
}


def configuration_error(problems: Iterable[Problem]) -> ConfigurationError:
    """Return all faults as one error.

    >>> print(configuration_error([Problem("P8FS_PG_PORT", "code", "must be a number")]))
    1 setting can't be used:
      P8FS_PG_PORT (from code): must be a number
    """
    found = tuple(dict.fromkeys(problems))
    count = "1 setting" if len(found) == 1 else f"{len(found)} settings"
    return ConfigurationError(f"{count} can't be used:", found)


def problems_of(
    exc: ValidationError, own: str, known: Collection[str], secret: frozenset[str], origins: Mapping[str, str]
) -> tuple[Problem, ...]:
    """Return the faults of `exc`, not to be raised inside its handler: it holds secrets.

    `secret` are fields; `own`, the prefix of a section, makes the name of a setting of a field's; `origins` go by
    such names.
    """
    return tuple(_problem(details, own, known, secret, origins) for details in exc.errors(include_url=False))


def variable_of(name: str) -> str:
    """Return the environment variable of a setting.

    >>> variable_of("pg_host")
    'P8FS_PG_HOST'
    """
    return prefix() + name.upper()


def nearest(name: str, known: Iterable[str]) -> str | None:
    """Return the name that is most like this one."""
    import difflib

    found = difflib.get_close_matches(name.lower(), list(known), n=1)
    return found[0] if found else None


def no_such_name(path: Sequence[str], known: Collection[str], *, hidden: bool = False) -> str:
    """Return why the last name of a path into a setting's value is refused; `hidden`, without what was given.

    >>> no_such_name(("limits", "dialy"), ["daily"])
    "at limits: there is no name 'dialy'; did you mean 'daily'?"
    """
    *above, last = path
    if hidden:
        return f"there is a name in it that is none of {', '.join(sorted(known))}"
    meant = nearest(last, known)
    told = "".join(f"at {part}: " for part in above) + f"there is no name {shown(last)!r}"
    return told + (f"; did you mean {meant!r}?" if meant else "")


def unknown_setting(name: str, known: Iterable[str]) -> str:
    """Return why `name` is refused, with the nearest setting that exists.

    >>> unknown_setting("pg_hots", ["pg_host", "pg_port"])
    'there is no such setting; did you mean P8FS_PG_HOST?'
    """
    if name in LOCATORS:
        return "says where settings are, and is only looked for in the environment"
    meant = nearest(name, [*known, *LOCATORS])
    return "there is no such setting" + (f"; did you mean {variable_of(meant)}?" if meant else "")


def _problem(
    details: ErrorDetails, own: str, known: Collection[str], secret: frozenset[str], origins: Mapping[str, str]
) -> Problem:
    field, *inner = map(str, details["loc"] or ("",))
    name = own + field
    variable = variable_of(name) if field else "the settings"
    if details["type"] == "extra_forbidden" and not inner:
        return Problem(variable, origins.get(name), unknown_setting(name, known))
    hidden = field in secret or not field
    where = "".join(f"at {part}: " for part in inner)
    return Problem(variable, origins.get(name), where + _expected(details, hidden) + _got(details, hidden))


def _expected(details: ErrorDetails, hidden: bool) -> str:
    context: Mapping[str, Any] = details.get("ctx", {})
    if details["type"] in _MANY:
        return _MANY[details["type"]]
    if "error" in context:
        message = str(context["error"])
        told = str(details["input"])
        return "is not valid" if hidden and told and told in message else without_passwords(message)
    message = details["msg"]
    return message[0].lower() + message[1:]


def _got(details: ErrorDetails, hidden: bool) -> str:
    if hidden or details["type"] == "missing":
        return ""
    value = details["input"]
    if value == "":
        return ", but it is empty"
    if not isinstance(value, (str, int, float, bool, type(None))):
        return f", got a {type(value).__name__}"
    if not isinstance(value, str):
        return f", got {value!r}"
    first, *others = value.strip().splitlines() or [""]  # what an unfinished quote has swallowed may hold secrets
    others = [line for line in others if line]
    text = repr(shown(first if others else value))
    return f", got {text[:_SHOWN] + '…' if others or len(text) > _SHOWN else text}"
