"""An application's own defaults and sources."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from p8fs_cluster.config.problems import configuration_error, unknown_setting, variable_of
from p8fs_cluster.config.reading import Reading
from p8fs_cluster.config.settings import P8FSConfig, config
from p8fs_cluster.config.sources.registered import (
    APPLICATION,
    Registered,
    application_defaults,
    register,
    remove_source,
)
from p8fs_cluster.config.sources.source import Source, entry_of
from p8fs_cluster.exceptions import ConfigurationError, Problem

__all__ = ["add_source", "set_defaults"]


def set_defaults(**values: Any) -> None:
    """Give settings of the core an application's own defaults, below every source.

    Settings that were read already are read again. A second call adds to the first; it may repeat, not change it.

    :raises ConfigurationError: there is no such setting, it has another default already, or it can't have this one.

    >>> set_defaults(service_name="p8fs")
    """
    changes = {name: entry_of(value, APPLICATION) for name, value in values.items()}
    before = dict(application_defaults())
    for name, entry in changes.items():
        if before.get(name, entry) != entry:
            raise ConfigurationError(f"{variable_of(name)} has an application's default already, which is another one")
    known = P8FSConfig.model_fields
    unknown = [name for name in changes if name not in known]
    if unknown:
        raise configuration_error(
            Problem(variable_of(name), APPLICATION, unknown_setting(name, known)) for name in unknown
        )
    P8FSConfig.of(Reading((Source(changes),)))
    application_defaults().update(changes)
    try:
        _read_again()
    except BaseException:
        application_defaults().clear()
        application_defaults().update(before)
        raise


def add_source(name: str, read: Callable[[], Mapping[str, Any]], *, every: float = 60.0) -> None:
    """Add a source of settings, such as a secret manager, stronger than files and weaker than the environment.

    `read()` returns values by the names of settings (`pg_password`). It is asked when settings are read, and again for
    a reload once `every` seconds have passed; if it fails, that is a fault of the settings, and a reload keeps the last
    good ones. Settings that were read already are read again.

    :raises ConfigurationError: there is a source of this name, or the settings can't be used with it.

    >>> from p8fs_cluster.config import remove_source
    >>> add_source("vault", lambda: {"pg_password": "s3cret"})
    >>> print(P8FSConfig().explain("pg_password").source)
    vault
    >>> remove_source("vault")
    """
    register(Registered(name, read, every))
    try:
        _read_again()
    except BaseException:
        remove_source(name)
        raise


def _read_again() -> None:
    if config.store.loaded:
        config.store.reload()
