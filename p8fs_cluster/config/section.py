"""Settings that a module declares next to its own code; they are read, validated and reloaded with the core ones."""

from __future__ import annotations

import re
import sys
from collections.abc import Collection
from importlib.metadata import entry_points
from typing import Any, ClassVar

from pydantic import AliasPath
from pydantic.fields import FieldInfo

from p8fs_cluster.config.aliases import choices_of
from p8fs_cluster.config.engines import ENTRY_POINTS as ENGINES
from p8fs_cluster.config.model import Settings
from p8fs_cluster.config.problems import variable_of
from p8fs_cluster.config.reading import LOCATORS, Reading, read
from p8fs_cluster.config.secrets import without_passwords
from p8fs_cluster.config.sources.source import unprefixed
from p8fs_cluster.exceptions import ConfigurationError, Problem

__all__ = [
    "ENTRY_POINTS",
    "NAMES",
    "Section",
    "aliases",
    "declared",
    "load_installed",
    "names",
    "owner",
    "setting_of",
    "shown_on_config",
]

ENTRY_POINTS = "p8fs_cluster.sections"
"""The group of entry points with which a package tells of its sections, without being imported."""

_declared: dict[str, type[Section]] = {}
_failed: dict[str, Problem] = {}
_owners: dict[str, type[Settings]] = {}
_looked_in: list[str] = []


class Section(Settings):
    """A module's own settings: fields as in any pydantic model, read as `P8FS_` + prefix + name from the same sources.

    Declaring it is enough; the prefix may be empty. Lists are read from `a,b` and JSON, tables from `a=1,b=2` and JSON.
    A secret is a `SecretStr`; a plain text with a name like `password`, `token` or `api_key` is masked like one, unless
    it is marked `Annotated[str, NotSecret()]`. `Field(validation_alias="OPENAI_API_KEY")` is read under that name as
    well. With `on_config=True`, the fields are on `config` too, under their full names: `config.mail_server`.

    :raises ConfigurationError: at the declaration, when another section or the core has a setting of the same name.

    >>> class MailSettings(Section, prefix="mail_"):
    ...     server: str = "localhost"
    ...     senders: list[str] = []
    >>> MailSettings(senders="ann, ben").senders
    ['ann', 'ben']
    """

    def __init_subclass__(cls, *, prefix: str | None = None, on_config: bool | None = None, **kwargs: Any) -> None:
        super().__init_subclass__(**kwargs)
        for name in vars(cls).get("__annotations__", {}):
            if hasattr(Settings, name) and not name.startswith(("_", "model_")):
                raise ConfigurationError(f"{cls.__qualname__}.{name} is a method of every section; name it otherwise")

    @classmethod
    def __pydantic_init_subclass__(
        cls, *, prefix: str | None = None, on_config: bool | None = None, **kwargs: Any
    ) -> None:
        super().__pydantic_init_subclass__(**kwargs)
        prefix = cls.prefix if prefix is None else prefix
        if not re.fullmatch(r"(?:[a-z][a-z0-9_]*_)?", prefix):
            raise ConfigurationError(
                f"{cls.__qualname__} needs a prefix in lower case that ends in _, or none: "
                f'class {cls.__name__}(Section, prefix="auth_")'
            )
        cls.prefix = prefix
        cls._on_config = cls._on_config if on_config is None else on_config
        claim(cls)

    _on_config: ClassVar[bool] = False
    """True if the fields are attributes of `config` as well."""

    @classmethod
    def _known(cls) -> Collection[str]:
        return [cls.prefix + field for field in cls.model_fields]

    @classmethod
    def _read(cls) -> Reading:
        return read(NAMES)


def claim(cls: type[Settings]) -> None:
    """Take the names of a model's settings for it. A class that is defined anew takes the place of the former one.

    :raises ConfigurationError: somebody else has one of them, or a field can't be a setting.
    """
    identity = f"{cls.__module__}.{cls.__qualname__}"
    for field, described in cls.model_fields.items():
        name = cls.prefix + field
        owner = _owners.get(name)
        if name in LOCATORS or (owner and f"{owner.__module__}.{owner.__qualname__}" != identity):
            holder = f"{owner.__module__}.{owner.__qualname__}" if owner else "p8fs_cluster itself"
            raise ConfigurationError(f"{identity} and {holder} both claim {variable_of(name)}: rename one of them")
        if field != field.lower():
            raise ConfigurationError(f"{identity}.{field}: a setting is named in lower case")
        _require_names(described, f"{identity}.{field}")
        if getattr(cls, "_on_config", False) and hasattr(_core(), name):
            raise ConfigurationError(f"{identity}: config.{name} is something else; leave on_config=True out")
    for name in [name for name, owner in _owners.items() if f"{owner.__module__}.{owner.__qualname__}" == identity]:
        del _owners[name]
    _owners.update({cls.prefix + field: cls for field in cls.model_fields})
    if issubclass(cls, Section):
        _declared[identity] = cls


def _require_names(field: FieldInfo, where: str) -> None:
    """Refuse an alias that no source can have: a path into a value."""
    if any(isinstance(choice, AliasPath) for choice in choices_of(field)):
        raise ConfigurationError(f"{where}: an alias is the name of a variable, not a path")


def _core() -> type[Settings]:
    """Return the model of the core's settings, the first to claim its names."""
    return next(iter(_owners.values()))


def setting_of(name: str) -> str:
    """Return the setting that a name stands for: with or without prefix, or one of a section's aliases.

    >>> setting_of("P8FS_PG_HOST"), setting_of("pg_host")
    ('pg_host', 'pg_host')
    """
    plain = unprefixed(name) or name.lower()
    return plain if plain in _owners else aliases().get(name.lower(), plain)


def aliases() -> dict[str, str]:
    """Return the settings that have aliases, by these in lower case."""
    return {
        alias.lower(): cls.prefix + field
        for cls in _declared.values()
        for field, names in cls._aliases.items()
        for alias in names
    }


def shown_on_config(name: str) -> type[Section] | None:
    """Return the section whose setting of this name is an attribute of `config`."""
    owner = _owners.get(name)
    return owner if owner is not None and issubclass(owner, Section) and owner._on_config else None


def declared() -> tuple[type[Section], ...]:
    """Return the sections that this process has imported."""
    return tuple(_declared.values())


def names() -> Collection[str]:
    """Return the names of all settings there are: the core's, and those of the sections that were imported."""
    return _owners.keys()


def owner(name: str) -> type[Settings] | None:
    """Return the model that has a setting of this name."""
    return _owners.get(name)


class _Names:
    """Answers the sources' questions about names."""

    def is_setting(self, name: str) -> bool:
        return name in _owners

    def is_alias(self, name: str) -> bool:
        return name in aliases()


NAMES = _Names()


def load_installed() -> tuple[Problem, ...]:
    """Import the sections and engines that installed packages tell of, and return what went wrong with them."""
    global _looked_in  # noqa: PLW0603
    if _looked_in == sys.path:
        return tuple(_failed.values())
    _looked_in = list(sys.path)
    points = (*entry_points(group=ENTRY_POINTS), *entry_points(group=ENGINES))
    for gone in _failed.keys() - {point.value for point in points}:
        del _failed[gone]
    for point in points:
        if point.value in _failed:
            continue
        try:
            point.load()
        except (Exception, SystemExit) as exc:  # somebody else's module
            kind = "section" if point.group == ENTRY_POINTS else "engine"
            fault = f"can't be loaded: {type(exc).__name__}: {without_passwords(str(exc))}"
            _failed[point.value] = Problem(f"the {kind} {point.name}", f"the entry point {point.value}", fault)
    return tuple(_failed.values())
