"""Compare the effective values of two sets of settings, whatever their text looks like."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Any

from p8fs_cluster.cli.catalogue import Models, settings_of
from p8fs_cluster.cli.rendering import same
from p8fs_cluster.config.model import DEFAULT, Settings
from p8fs_cluster.config.problems import configuration_error, variable_of
from p8fs_cluster.config.reading import Reading
from p8fs_cluster.config.secrets import shown
from p8fs_cluster.config.sources.source import Source
from p8fs_cluster.exceptions import ConfigurationError, Problem

__all__ = ["Difference", "Side", "differences"]

NOWHERE = "nowhere"


@dataclass(frozen=True)
class Side:
    """A value, masked when it is secret, and where it comes from."""

    value: Any
    source: str


@dataclass(frozen=True)
class Difference:
    """A setting whose effective values differ. Two secrets that differ look the same.

    >>> print(Difference("pg_host", Side("a", "the default"), Side("b", ".env, line 1")))
    P8FS_PG_HOST
      - 'a' from the default
      + 'b' from .env, line 1
    """

    name: str
    a: Side
    b: Side

    def __str__(self) -> str:
        hidden = " (another one than above)" if self.a.value == self.b.value else ""
        a, b = (f"{side.value!r} from {side.source}" for side in (self.a, self.b))
        return f"{variable_of(self.name)}\n  - {a}\n  + {b}{hidden}"


def differences(a: Reading, b: Reading, models: Models) -> list[Difference]:
    """Return the settings whose effective values differ, defaults taken into account.

    A required setting that only one side has is filled in on the other for validation, and counts as a difference.

    :raises ConfigurationError: with every fault of both sides.

    >>> differences(Reading(), Reading(), models=())
    []
    """
    found: list[Difference] = []
    problems: list[Problem] = [*a.problems, *b.problems]
    for model in models:
        sides = []
        for one, other in ((a, b), (b, a)):
            try:
                sides.append(_values(model, one, other))
            except ConfigurationError as exc:
                problems += exc.problems
        if len(sides) == 2:
            found += _differing(model, *sides)
    if problems:
        raise configuration_error(problems)
    return found


Values = Mapping[str, tuple[Any, str]]


def _values(model: type[Settings], reading: Reading, other: Reading) -> Values:
    required = {setting.name for setting in settings_of((model,)) if setting.info.is_required()}
    lacking = required - reading.winning.keys()
    if lacking - other.winning.keys():
        return _as_found(model, reading)
    filled = Reading((*reading.sources, Source({name: other.winning[name] for name in lacking})))
    part = model.of(filled)
    found = {model.prefix + field: (getattr(part, field), part.origin(field)) for field in model.model_fields}
    return found | dict.fromkeys(lacking, (None, NOWHERE))


def _as_found(model: type[Settings], reading: Reading) -> Values:
    """Return what a side has that lacks what nobody gave, and so can't be validated."""
    found: dict[str, tuple[Any, str]] = {}
    for setting in settings_of((model,)):
        entry = reading.winning.get(setting.name)
        nothing = (None, NOWHERE) if setting.info.is_required() else (setting.default, DEFAULT)
        found[setting.name] = (entry.value, entry.origin) if entry else nothing
    return found


def _differing(model: type[Settings], a: Values, b: Values) -> Iterator[Difference]:
    for setting in settings_of((model,)):
        (here, from_here), (there, from_there) = a[setting.name], b[setting.name]
        absent = (from_here == NOWHERE) != (from_there == NOWHERE)
        if absent or not same(here, there):
            yield Difference(
                setting.name,
                Side(shown(here, setting.secret), from_here),
                Side(shown(there, setting.secret), from_there),
            )
