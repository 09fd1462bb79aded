"""Every setting there is, as its model declares it: the core's, and those of sections."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Literal, get_args, get_origin

from pydantic.fields import FieldInfo

from p8fs_cluster.config.engines import EngineName, known
from p8fs_cluster.config.model import Settings
from p8fs_cluster.config.problems import configuration_error, variable_of
from p8fs_cluster.config.section import declared, load_installed
from p8fs_cluster.config.settings import P8FSConfig

__all__ = ["Models", "Setting", "models", "settings_of"]

Models = tuple[type[Settings], ...]


@dataclass(frozen=True)
class Setting:
    """A field of a model, under the name that it has among all settings."""

    name: str
    info: FieldInfo
    secret: bool
    aliases: tuple[str, ...] = ()

    @property
    def variable(self) -> str:
        """The name of its environment variable."""
        return variable_of(self.name)

    @property
    def choices(self) -> tuple[Any, ...]:
        """The only values that it takes, if its type lists them."""
        if any(isinstance(mark, EngineName) for mark in self.info.metadata):
            return known()
        return get_args(self.info.annotation) if get_origin(self.info.annotation) is Literal else ()

    @property
    def default(self) -> Any:
        """Its default; None also where there is none, and where it is only known at run time."""
        return None if self.info.is_required() or self.info.default_factory else self.info.default


def models() -> Models:
    """Return the models of all settings: the core's, and the sections of all installed packages.

    :raises ConfigurationError: a section can't be loaded; what is generated without it would not be whole.

    >>> models()[0].__name__
    'P8FSConfig'
    """
    problems = load_installed()
    if problems:
        raise configuration_error(problems)
    return (P8FSConfig, *declared())


def settings_of(models: Models) -> Iterator[Setting]:
    """Yield each setting of the models.

    >>> next(settings_of((P8FSConfig,))).variable
    'P8FS_ENVIRONMENT'
    """
    for model in models:
        for field, info in model.model_fields.items():
            yield Setting(model.prefix + field, info, field in model.secret_names, model._aliases.get(field, ()))
