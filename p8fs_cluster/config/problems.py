"""What pydantic found wrong, told in the user's terms: the variable, its source, what was expected; never a secret."""

from __future__ import annotations

import difflib
from collections.abc import Iterable, Mapping
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from p8fs_cluster.config.secrets import without_passwords
from p8fs_cluster.exceptions import ConfigurationError, Problem

__all__ = ["configuration_error", "unknown_setting"]

_SHOWN = 60
"""Characters of a bad value that are shown."""


def configuration_error(
    exc: ValidationError, prefix: str, names: Iterable[str], secret: frozenset[str], origins: Mapping[str, str]
) -> ConfigurationError:
    """Return all faults of `exc` as one error, not to be raised inside the handler of `exc`, which holds secrets."""
    known = tuple(names)
    problems = tuple(_problem(details, prefix, known, secret, origins) for details in exc.errors(include_url=False))
    count = "1 setting" if len(problems) == 1 else f"{len(problems)} settings"
    return ConfigurationError(f"{count} can't be used:", problems)


def unknown_setting(name: str, prefix: str, known: Iterable[str]) -> str:
    """Return why `name` is refused, with the nearest setting that exists.

    >>> unknown_setting("pg_hots", "P8FS_", ["pg_host", "pg_port"])
    'there is no such setting; did you mean P8FS_PG_HOST?'
    """
    nearest = difflib.get_close_matches(name.lower(), list(known), n=1)
    hint = f"; did you mean {prefix}{nearest[0].upper()}?" if nearest else ""
    return f"there is no such setting{hint}"


def _problem(
    details: ErrorDetails, prefix: str, known: tuple[str, ...], secret: frozenset[str], origins: Mapping[str, str]
) -> Problem:
    name = str(details["loc"][0]) if details["loc"] else ""
    variable = prefix + name.upper() if name else "the settings"
    if details["type"] == "extra_forbidden":
        return Problem(variable, origins.get(name), unknown_setting(name, prefix, known))
    return Problem(variable, origins.get(name), _expected(details) + _got(details, name in secret or not name))


def _expected(details: ErrorDetails) -> str:
    context: Mapping[str, Any] = details.get("ctx", {})
    if "error" in context:
        return str(context["error"])
    message = details["msg"]
    return message[0].lower() + message[1:]


def _got(details: ErrorDetails, hidden: bool) -> str:
    if hidden:
        return ""
    value = details["input"]
    if value == "":
        return ", but it is empty"
    if not isinstance(value, (str, int, float, bool, type(None))):
        return f", got a {type(value).__name__}"
    text = repr(without_passwords(value) if isinstance(value, str) else value)
    return f", got {text if len(text) <= _SHOWN else text[:_SHOWN] + '…'}"
