"""The base of all models of settings: frozen, read from every source, all faults at once, each value explained."""

from __future__ import annotations

import re
from collections.abc import Collection, Iterator, Mapping
from contextvars import ContextVar
from pathlib import PurePath
from typing import TYPE_CHECKING, Any, ClassVar, NamedTuple, Self

from pydantic import (
    ModelWrapValidatorHandler,
    PrivateAttr,
    SerializerFunctionWrapHandler,
    ValidationError,
    model_serializer,
    model_validator,
)
from pydantic.fields import FieldInfo
from pydantic_settings import BaseSettings, PydanticBaseSettingsSource, SettingsConfigDict

from p8fs_cluster.config import secrets
from p8fs_cluster.config.aliases import aliases_of
from p8fs_cluster.config.forms import Form, dropped, form_of
from p8fs_cluster.config.oddities import oddity
from p8fs_cluster.config.problems import configuration_error, no_such_name, problems_of, unknown_setting, variable_of
from p8fs_cluster.config.reading import CODE, Reading
from p8fs_cluster.config.sources.registered import APPLICATION
from p8fs_cluster.config.sources.source import Entry, unprefixed
from p8fs_cluster.exceptions import ConfigurationError, Problem

if TYPE_CHECKING:
    from p8fs_cluster.config.explanation import Explanation

__all__ = ["Settings"]

DEFAULT = "the default"


class _Filling(NamedTuple):
    """The reading that a model is being made of, and the entry that counts, of each of its fields."""

    reading: Reading
    winning: Mapping[str, Entry]


_in_use: ContextVar[_Filling] = ContextVar("p8fs_cluster_filling", default=_Filling(Reading(), {}))  # noqa: B039
"""The reading that a model is being made of: pydantic-settings gives its sources no arguments."""


class Settings(BaseSettings):
    """One frozen, validated snapshot of settings."""

    model_config = SettingsConfigDict(
        frozen=True, extra="forbid", case_sensitive=False, validate_by_name=True, validate_by_alias=False
    )

    prefix: ClassVar[str] = ""
    secret_names: ClassVar[frozenset[str]] = frozenset()
    """The fields that hold secrets, by their type or by their name."""
    _aliases: ClassVar[Mapping[str, tuple[str, ...]]] = {}
    """The fields that may have another name as well in a source, such as `OPENAI_API_KEY`."""
    _masked: ClassVar[frozenset[str]] = frozenset()
    _forms: ClassVar[Mapping[str, Form]] = {}

    _reading: Reading = PrivateAttr(default_factory=Reading)
    _found: Mapping[str, Entry] = PrivateAttr(default_factory=dict)
    """The entry that counts, of each field that has one."""

    def __init__(self, **values: Any) -> None:
        """Take any setting in any form that can be read, as the environment gives it.

        :raises ConfigurationError: with every fault at once.
        """
        self._take(self._read(), values)

    def origin(self, name: str) -> str:
        """Return in words where the value of the field `name` comes from."""
        found = self._found.get(name)
        return DEFAULT if found is None else found.origin

    def describe(self, *names: str) -> str:
        """Return variables and origins of fields for an error message."""
        told = ", ".join(f"{variable_of(self.prefix + name)} (from {self.origin(name)})" for name in names)
        return told + self._outdated(names)

    def explain(self, name: str) -> Explanation:
        """Return the value of a setting, where it comes from, and what lost against it with what; secrets masked.

        :raises ConfigurationError: there is no such setting.
        """
        field = (unprefixed(name) or name.lower()).removeprefix(self.prefix)
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

    @model_serializer(mode="wrap", when_used="json")
    def _as_json(self, handler: SerializerFunctionWrapHandler) -> dict[str, Any]:
        """Mask what is no `SecretStr`, and a secret by its name; as Python objects, values are dumped as they are."""
        found: dict[str, Any] = handler(self)
        return {name: secrets.MASK if name in self._masked and value else value for name, value in found.items()}

    def __repr_args__(self) -> Iterator[tuple[str | None, Any]]:
        for name, value in super().__repr_args__():
            if name in self._masked:
                yield name, secrets.shown(value, secret=True)
            elif isinstance(value, PurePath) or type(value) in (tuple, set, frozenset):
                yield name, type(value)(secrets.shown(value))
            else:
                yield name, secrets.shown(value) if isinstance(value, (str, list, dict)) else value

    def __getstate__(self) -> dict[Any, Any]:
        """Leave the rest of the environment out of a pickle: it holds secrets of others."""
        state = super().__getstate__()
        private = {**(state["__pydantic_private__"] or {}), "_reading": self._reading.kept(self._alias_names())}
        return {**state, "__pydantic_private__": private}

    @classmethod
    def _alias_names(cls) -> Collection[str]:
        """Return the aliases, in lower case, that this model and its parts have."""
        return {alias.lower() for aliases in cls._aliases.values() for alias in aliases}

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
        cls._masked = frozenset(name for name, field in fields if secrets.is_named_secret(name, field))
        cls.secret_names = cls._masked | {name for name, field in fields if secrets.is_typed_secret(field.annotation)}
        cls._aliases = {name: aliases_of(field) for name, field in fields if field.validation_alias}
        cls._forms = {name: form_of(field) for name, field in fields}

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
        token = _in_use.set(_Filling(reading, self._winning(reading)))
        try:
            BaseSettings.__init__(self)
        finally:
            _in_use.reset(token)

    @classmethod
    def _texts(cls, reading: Reading) -> Iterator[str]:
        for name in cls.secret_names:
            for entry in cls._entries(reading, name):
                yield from secrets.within(entry.value)

    @classmethod
    def _entries(cls, reading: Reading, field: str) -> tuple[Entry, ...]:
        return reading.entries(cls.prefix + field, cls._aliases.get(field, ()))

    @classmethod
    def _winning(cls, reading: Reading) -> dict[str, Entry]:
        names = ((field, cls.prefix + field) for field in cls.model_fields)
        found = {field: reading.winning[name] for field, name in names if name in reading.winning}
        for field in cls._aliases:
            if entries := cls._entries(reading, field):
                found[field] = entries[0]
        return found

    def _outdated(self, names: Collection[str]) -> str:
        """Return what to add to a message that names settings of files that are others now."""
        changed = [str(path) for path in self._reading.changed()]
        origins = [self.origin(name) for name in names]
        files = [path for path in changed if any(origin.partition(", ")[0] == path for origin in origins)]
        return f"; {', '.join(files)} changed since the settings were read" if files else ""

    def _notes(self) -> Iterator[Problem]:
        """Yield what was taken as it is, and can hardly be meant."""
        for field, entry in self._found.items():
            value = getattr(self, field)
            text = next(secrets.within(value), "") if field in self.secret_names else value
            told = oddity(text) if isinstance(text, str) and entry.origin not in (CODE, APPLICATION) else None
            if told and self._forms[field].is_text:
                yield Problem(variable_of(self.prefix + field), entry.origin, f"{told}; the value is taken as it is")

    def _explained(self, field: str) -> Explanation:
        from p8fs_cluster.config.explanation import Explanation, Loser

        name, described = self.prefix + field, type(self).model_fields[field]
        hidden = field in self.secret_names
        found = self._entries(self._reading, field)
        losers = [Loser(secrets.shown(entry.value, hidden), entry.origin) for entry in found[1:]]
        if found and not described.is_required():
            losers.append(Loser(secrets.shown(described.get_default(call_default_factory=True), hidden), DEFAULT))
        links = [Loser(secrets.shown(entry.value), entry.origin) for entry in self._reading.foreign(name)]
        value = secrets.shown(getattr(self, field), hidden)
        return Explanation(name, value, self.origin(field), tuple(losers), tuple(links), described.description or "")

    @model_validator(mode="wrap")
    @classmethod
    def _all_problems_at_once(cls, data: Any, handler: ModelWrapValidatorHandler[Self]) -> Self:
        reading, winning = _in_use.get()
        try:
            snapshot = handler(data)
        except ValidationError as exc:
            values = data if isinstance(data, Mapping) else {}
            origins = {cls.prefix + name: CODE for name in values}
            origins |= {cls.prefix + field: entry.origin for field, entry in winning.items()}
            try:
                problems = problems_of(exc, cls.prefix, cls._known(), cls.secret_names, origins)
            except UnicodeError:  # pydantic can't tell of such texts
                problems = tuple(_not_utf8(cls.prefix, winning))
        else:
            snapshot._reading, snapshot._found = reading, winning
            secrets.remember(snapshot.secrets())
            problems = tuple(cls._not_taken(data, snapshot))
            if not problems:
                return snapshot
        raise configuration_error(problems)  # outside the handler: the ValidationError, which holds inputs, stays out

    @classmethod
    def _not_taken(cls, data: Any, snapshot: Self) -> Iterator[Problem]:
        for field, value in data.items() if isinstance(data, Mapping) else ():
            for path, names in dropped(value, getattr(snapshot, field, None)):
                yield Problem(
                    variable_of(cls.prefix + field),
                    snapshot.origin(field),
                    no_such_name(path, names, hidden=field in cls.secret_names),
                )


class _ReadingSource(PydanticBaseSettingsSource):
    """The one source of pydantic-settings: the reading in use."""

    def get_field_value(self, field: FieldInfo, field_name: str) -> tuple[Any, str, bool]:
        raise NotImplementedError

    def __call__(self) -> dict[str, Any]:
        cls: Any = self.settings_cls
        found = _in_use.get().winning.items()
        return {field: cls._forms[field].value_of(entry.value) for field, entry in found}


def _not_utf8(prefix: str, winning: Mapping[str, Entry]) -> Iterator[Problem]:
    for field, entry in winning.items():
        if not str(entry.value).isascii() and re.search("[\ud800-\udfff]", str(entry.value)):
            yield Problem(variable_of(prefix + field), entry.origin, "must be UTF-8 text")


def _unknown(name: str, known: Collection[str]) -> Problem:
    return Problem(variable_of(name), CODE, unknown_setting(name, known))
