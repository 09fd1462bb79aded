"""What all models of settings share: frozen, read from every source, all faults at once, each value explained."""

from __future__ import annotations

import json
import re
from collections.abc import Collection, Iterator, Mapping, Sequence
from collections.abc import Set as AbstractSet
from contextvars import ContextVar
from pathlib import PurePath
from types import NoneType, UnionType
from typing import Annotated, Any, ClassVar, Literal, Self, Union, get_args, get_origin

from pydantic import BaseModel, ModelWrapValidatorHandler, PrivateAttr, ValidationError, model_validator
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from p8fs_cluster.config import secrets
from p8fs_cluster.config.explanation import Explanation, Loser
from p8fs_cluster.config.problems import configuration_error, problems_of, unknown_setting, variable_of
from p8fs_cluster.config.reading import CODE, Reading
from p8fs_cluster.config.sources.source import PREFIX
from p8fs_cluster.exceptions import ConfigurationError, Problem

__all__ = ["Settings"]

DEFAULT = "the default"

_in_use: ContextVar[Reading] = ContextVar("p8fs_cluster_reading", default=Reading())  # noqa: B039
"""The reading that a model is being made of: pydantic-settings gives its sources no arguments."""


class Settings(BaseSettings):
    """One frozen, validated snapshot of settings."""

    model_config = SettingsConfigDict(frozen=True, extra="forbid", case_sensitive=False, env_prefix=PREFIX)

    prefix: ClassVar[str] = ""
    secret_names: ClassVar[frozenset[str]] = frozenset()
    """The fields that hold secrets."""
    _many: ClassVar[Mapping[str, Many]] = {}

    _reading: Reading = PrivateAttr(default_factory=Reading)

    def __init__(self, **values: Any) -> None:
        """Take any setting in any form that can be read, as the environment gives it.

        :raises ConfigurationError: with every fault at once.
        """
        self._take(self._read(), values)

    def origin(self, name: str) -> str:
        """Return in words where the value of the field `name` comes from."""
        entry = self._reading.winning.get(self.prefix + name)
        return DEFAULT if entry is None else entry.origin

    def describe(self, *names: str) -> str:
        """Return variables and origins of fields for an error message."""
        return ", ".join(f"{variable_of(self.prefix + name)} (from {self.origin(name)})" for name in names)

    def explain(self, name: str) -> Explanation:
        """Return the value of a setting, where it comes from, and what lost against it with what; secrets masked.

        :raises ConfigurationError: there is no such setting.
        """
        field = name.lower().removeprefix(PREFIX.lower()).removeprefix(self.prefix)
        if field not in type(self).model_fields:
            raise configuration_error([_unknown(name, self._known())])
        return self._explained(field)

    def with_changes(self, changes: Mapping[str, Any]) -> Self:
        """Return a new snapshot with some settings changed, validated as a whole. No source is read again.

        :raises ConfigurationError: a name or a value can't be used.
        """
        changed = type(self).__new__(type(self))
        changed._take(self._reading, changes)
        return changed

    def model_copy(self, *, update: Mapping[str, Any] | None = None, deep: bool = False) -> Self:
        """Return a copy; unlike pydantic's own, changes are validated."""
        return self.with_changes(update) if update else super().model_copy(deep=deep)

    def secrets(self) -> tuple[str, ...]:
        """Return the values of all secrets that were set, for redaction. A public default is no secret."""
        values = (getattr(self, name) for name in sorted(self.secret_names & self.model_fields_set))
        return tuple(text for value in values for text in secrets.within(value))

    @classmethod
    def of(cls, reading: Reading) -> Self:
        """Return the snapshot of a reading.

        :raises ConfigurationError: with every fault at once, those of the sources not among them.
        """
        made = cls.__new__(cls)
        made._fill(reading)
        return made

    @classmethod
    def settings_customise_sources(
        cls,
        settings_cls: type[BaseSettings],
        init_settings: PydanticBaseSettingsSource,
        env_settings: PydanticBaseSettingsSource,
        dotenv_settings: PydanticBaseSettingsSource,
        file_secret_settings: PydanticBaseSettingsSource,
    ) -> tuple[PydanticBaseSettingsSource, ...]:
        return (_ReadingSource(settings_cls),)

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        for name, value in super().__repr_args__():
            if isinstance(value, PurePath) or type(value) in (tuple, set, frozenset):
                yield name, type(value)(secrets.shown(value))
            else:
                yield name, secrets.shown(value) if isinstance(value, (str, list, dict)) else value

    def __eq__(self, other: object) -> bool:
        return type(self) is type(other) and self.__dict__ == other.__dict__

    def __hash__(self) -> int:
        return hash((type(self), tuple(self.__dict__)))

    def __setattr__(self, name: str, value: Any) -> None:
        if not name.startswith("_"):
            raise AttributeError(f"settings are frozen: use container.config.override({{{name!r}: …}})")
        super().__setattr__(name, value)

    @classmethod
    def __pydantic_init_subclass__(cls, **kwargs: Any) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        fields = cls.model_fields.items()
        cls.secret_names = frozenset(name for name, field in fields if _holds_secret(field.annotation))
        cls._many = {name: many for name, field in fields if (many := _many_of(field.annotation))}

    @classmethod
    def _known(cls) -> Collection[str]:
        """Return the names of all settings that this model takes."""
        raise NotImplementedError

    @classmethod
    def _read(cls) -> Reading:
        raise NotImplementedError

    def _problems_in(self, reading: Reading) -> list[Problem]:
        """Fill this snapshot and return what is wrong."""
        try:
            self._fill(reading)
        except ConfigurationError as exc:
            return [*reading.problems, *exc.problems]
        return list(reading.problems)

    def _take(self, reading: Reading, values: Mapping[str, Any]) -> None:
        given = {self.prefix + str(name): value for name, value in values.items()}
        found = self._problems_in(reading.under(given))  # which declares the settings of an engine that is named
        problems = [*(_unknown(name, self._known()) for name in given if name not in self._known()), *found]
        if problems:
            raise configuration_error(problems)

    def _fill(self, reading: Reading) -> None:
        secrets.remember(self._texts(reading))
        token = _in_use.set(reading)
        try:
            BaseSettings.__init__(self)
        finally:
            _in_use.reset(token)

    @classmethod
    def _texts(cls, reading: Reading) -> Iterator[str]:
        for name in cls.secret_names:
            for entry in reading.entries(cls.prefix + name):
                yield from secrets.within(entry.value)

    def _explained(self, field: str) -> Explanation:
        name, described = self.prefix + field, type(self).model_fields[field]
        hidden = field in self.secret_names
        found = self._reading.entries(name)
        losers = [Loser(secrets.shown(entry.value, hidden), entry.origin) for entry in found[1:]]
        if found and not described.is_required():
            losers.append(Loser(secrets.shown(described.get_default(call_default_factory=True), hidden), DEFAULT))
        links = [Loser(secrets.shown(entry.value), entry.origin) for entry in self._reading.foreign(name)]
        value = secrets.shown(getattr(self, field), hidden)
        return Explanation(name, value, self.origin(field), tuple(losers), tuple(links), described.description or "")

    @model_validator(mode="wrap")
    @classmethod
    def _all_problems_at_once(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        reading = _in_use.get()
        try:
            snapshot = handler(data)
        except ValidationError as exc:
            values = data if isinstance(data, Mapping) else {}
            origins = {cls.prefix + name: CODE for name in values}
            origins |= {name: entry.origin for name, entry in reading.winning.items()}
            try:
                problems = problems_of(exc, cls.prefix, cls._known(), cls.secret_names, origins)
            except UnicodeError:  # pydantic can't tell of such texts
                problems = tuple(_not_utf8(reading))
        else:
            snapshot._reading = reading
            secrets.remember(snapshot.secrets())
            return snapshot
        raise configuration_error(problems)  # outside the handler: the ValidationError, which holds inputs, stays out


class _ReadingSource(PydanticBaseSettingsSource):
    """What pydantic-settings asks for values: the reading in use."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        raise NotImplementedError

    def __call__(self) -> dict[str, Any]:
        cls: Any = self.settings_cls
        winning = _in_use.get().winning
        found = {field: winning[cls.prefix + field] for field in cls.model_fields if cls.prefix + field in winning}
        return {field: _decoded(entry.value, cls._many.get(field)) for field, entry in found.items()}


Many = Literal["list", "table"]
_LISTS = (list, tuple, set, frozenset, Sequence, AbstractSet)


def _many_of(annotation: Any) -> Many | None:
    """Return whether text for a field is to be read as a list or as a table; None: it is taken as it is."""
    kind = get_origin(annotation) or annotation
    if kind in (Union, UnionType, Annotated):
        parts = get_args(annotation)[:1] if kind is Annotated else get_args(annotation)
        found = [_many_of(part) for part in parts if part is not NoneType]
        return found[0] if len(set(found)) == 1 else None
    if kind in _LISTS:
        return "list"
    is_table = kind in (dict, Mapping) or (isinstance(kind, type) and issubclass(kind, BaseModel))
    return "table" if is_table else None


def _decoded(value: Any, many: Many | None) -> Any:
    """Return what a text for several values holds, or the text itself if it can't be understood."""
    if many is None or not isinstance(value, str):
        return value
    text = value.strip()
    if text.startswith("[" if many == "list" else "{"):
        try:
            return json.loads(text)
        except (ValueError, RecursionError):
            return value
    parts = [part.strip() for part in text.split(",")] if text else []
    if many == "list":
        return parts
    pairs = [part.partition("=") for part in parts]
    return (
        {name.strip(): told.strip() for name, _, told in pairs}
        if all(name and sign for name, sign, _ in pairs)
        else value
    )


def _not_utf8(reading: Reading) -> Iterator[Problem]:
    for name, entry in reading.winning.items():
        if not str(entry.value).isascii() and re.search("[\ud800-\udfff]", str(entry.value)):
            yield Problem(variable_of(name), entry.origin, "must be UTF-8 text")


def _unknown(name: str, known: Collection[str]) -> Problem:
    return Problem(variable_of(name), CODE, unknown_setting(name, known))


def _holds_secret(annotation: Any) -> bool:
    if isinstance(annotation, type) and issubclass(annotation, BaseModel):
        return any(_holds_secret(field.annotation) for field in annotation.model_fields.values())
    kinds = (annotation, get_origin(annotation))
    return any(kind in secrets.KINDS for kind in kinds) or any(map(_holds_secret, get_args(annotation)))
