"""All sources read once, strongest first: what wins, what loses, and what is wrong with any of them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from p8fs_cluster.config.sources.document import read_document
from p8fs_cluster.config.sources.dotenv import candidates, nearest, read_dotenv
from p8fs_cluster.config.sources.environment import read_environment
from p8fs_cluster.config.sources.mounted import read_mounted
from p8fs_cluster.config.sources.source import PREFIX, Entry, Source
from p8fs_cluster.exceptions import Problem

__all__ = ["CODE", "LOCATORS", "Reading", "read", "watched"]

CODE = "code"
LOCATORS = {
    "secrets_dir": "A folder with a file a setting, such as a mounted Secret",
    "config_dir": "A folder with a file a setting, such as a mounted ConfigMap",
    "config_file": "A TOML or YAML file of settings",
    "env_file": "The `.env` file; without it, the nearest one up to the project's root, and with an empty name none",
}
"""The variables of the environment that say where other sources are, strongest source first."""


@dataclass(frozen=True)
class Reading:
    """What the sources held at one moment.

    >>> reading = Reading((Source({"pg_host": Entry("a", "x")}), Source({"pg_host": Entry("b", "y")})))
    >>> reading.winning["pg_host"], [entry.value for entry in reading.entries("pg_host")]
    (Entry(value='a', origin='x'), ['a', 'b'])
    """

    sources: tuple[Source, ...] = ()

    @cached_property
    def winning(self) -> Mapping[str, Entry]:
        """The entry that counts, of each name."""
        return {name: entry for source in reversed(self.sources) for name, entry in source.entries.items()}

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Return what is wrong with the sources themselves."""
        return tuple(problem for source in self.sources for problem in source.problems)

    def entries(self, name: str) -> tuple[Entry, ...]:
        """Return all that was found for a name, the strongest first."""
        return tuple(source.entries[name] for source in self.sources if name in source.entries)

    def foreign(self, name: str) -> tuple[Entry, ...]:
        """Return what looks like a value for a name, but is Kubernetes' word on a Service."""
        return tuple(source.foreign[name] for source in self.sources if name in source.foreign)

    def found(self) -> Iterator[tuple[str, Entry]]:
        """Yield every name with its entry, of each source."""
        for source in self.sources:
            yield from source.entries.items()

    def under(self, values: Mapping[str, Any]) -> Reading:
        """Return this reading with values of code on top."""
        if not values:
            return self
        return Reading((Source({name: Entry(value, CODE) for name, value in values.items()}), *self.sources))


def read(is_setting: Callable[[str], bool]) -> Reading:
    """Read every source there is. What can't be read is told in `problems`; nothing is raised."""
    environment = read_environment()
    sources = [environment]
    for name, path in _located(environment):
        variable = PREFIX + name.upper()
        if name == "config_file":
            sources.append(read_document(path, variable, is_setting))
        elif name == "env_file":
            sources.append(read_dotenv(path, variable))
        else:
            sources.append(read_mounted(path, variable))
    found = nearest() if "env_file" not in environment.entries else None
    if found is not None:
        sources.append(read_dotenv(found))
    return Reading(tuple(sources))


def watched() -> list[Path]:
    """Return the files and folders that a reading looks at, those that are not there included."""
    environment = read_environment()
    paths = [path for _, path in _located(environment)]
    return paths if "env_file" in environment.entries else [*paths, *candidates()]


def _located(environment: Source) -> list[tuple[str, Path]]:
    named = ((name, environment.entries[name].value) for name in LOCATORS if name in environment.entries)
    return [(name, Path(os.path.abspath(value))) for name, value in named if value]  # noqa: PTH100
