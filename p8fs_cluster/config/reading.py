"""All sources read once, strongest first: what wins, what loses, and what is wrong with any of them."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Callable, Collection, Iterable, Iterator, Mapping
from dataclasses import dataclass
from functools import cached_property
from pathlib import Path
from typing import Any

from p8fs_cluster.config.sources.document import read_document
from p8fs_cluster.config.sources.dotenv import candidates, nearest, read_dotenv
from p8fs_cluster.config.sources.environment import read_environment
from p8fs_cluster.config.sources.files import at_home
from p8fs_cluster.config.sources.layers import environment_in, layer_of, layers_beside, strange_layer
from p8fs_cluster.config.sources.mounted import read_mounted
from p8fs_cluster.config.sources.registered import application_defaults, registered
from p8fs_cluster.config.sources.source import PREFIX, Entry, Names, Source, prefix, stamp_of
from p8fs_cluster.exceptions import Problem

__all__ = ["CODE", "LOCATORS", "Reading", "read", "watched"]

CODE = "code"
LOCATORS = {
    "secrets_dir": "A folder with a file a setting, such as a mounted Secret",
    "config_dir": "A folder with a file a setting, such as a mounted ConfigMap",
    "config_file": "A TOML or YAML file of settings; NAME.production.yaml beside NAME.yaml is stronger in production",
    "env_file": "The `.env` file; without it, the nearest one up to the project's root, and with an empty name none",
}
"""The variables of the environment that say where other sources are, strongest source first."""
_FOLDERS = ("secrets_dir", "config_dir")


@dataclass(frozen=True)
class Reading:
    """The contents of all sources at one moment.

    >>> reading = Reading((Source({"pg_host": Entry("a", "x")}), Source({"pg_host": Entry("b", "y")})))
    >>> reading.winning["pg_host"], [entry.value for entry in reading.entries("pg_host")]
    (Entry(value='a', origin='x'), ['a', 'b'])
    """

    sources: tuple[Source, ...] = ()

    @cached_property
    def winning(self) -> Mapping[str, Entry]:
        """The entry that counts, of each name, aliases left out of account."""
        return {name: entry for source in reversed(self.sources) for name, entry in source.named().items()}

    @property
    def problems(self) -> tuple[Problem, ...]:
        """Return what is wrong with the sources themselves."""
        return tuple(problem for source in self.sources for problem in source.problems)

    @property
    def notes(self) -> tuple[Problem, ...]:
        """Return what is no fault of the sources, and may be meant otherwise."""
        return tuple(note for source in self.sources for note in source.notes)

    def entries(self, name: str, aliases: Iterable[str] = ()) -> tuple[Entry, ...]:
        """Return all that was found for a name, the strongest first; in one source, the name is before its aliases."""
        return tuple(self._entries(name, tuple(aliases)))

    def _entries(self, name: str, aliases: tuple[str, ...]) -> Iterator[Entry]:
        for source in self.sources:
            if entry := source.named().get(name):
                yield entry
            for alias in aliases:
                if found := source.others.get(alias.lower()):
                    yield Entry(found.value, f"{found.origin}, as {alias}")

    def foreign(self, name: str) -> tuple[Entry, ...]:
        """Return what looks like a value for a name, but is Kubernetes' word on a Service."""
        return tuple(source.foreign[name] for source in self.sources if name in source.foreign)

    def changed(self) -> list[Path]:
        """Return the files that are no longer what they were when they were read."""
        stamps = {path: stamp for source in self.sources for path, stamp in source.stamps.items()}
        return [path for path, stamp in stamps.items() if stamp_of(path) != stamp]

    def kept(self, aliases: Collection[str]) -> Reading:
        """Return this reading with nothing beside the settings but entries of these aliases."""
        kept = [{name: entry for name, entry in source.others.items() if name in aliases} for source in self.sources]
        both = zip(self.sources, kept, strict=True)
        return Reading(tuple(dataclasses.replace(source, others=others) for source, others in both))

    def under(self, values: Mapping[str, Any]) -> Reading:
        """Return this reading with values of code on top."""
        if not values:
            return self
        return Reading((Source({name: Entry(value, CODE) for name, value in values.items()}), *self.sources))


def read(names: Names) -> Reading:
    """Read every source there is. What can't be read is told in `problems`; nothing is raised."""
    environment = _told_of_the_standard_prefix(read_environment(), names)
    located = dict(_located(environment))
    sources = [environment, *(each.source() for each in registered())]
    sources += [read_mounted(located[name], _variable(name), names) for name in _FOLDERS if name in located]
    files: list[Source] = []
    if "config_file" in located:
        files += _layered(
            located["config_file"], sources, lambda path: read_document(path, _variable("config_file"), names)
        )
    dotenv = located.get("env_file") or (nearest() if "env_file" not in environment.entries else None)
    if dotenv is not None:
        named = _variable("env_file") if "env_file" in located else None
        files += _layered(dotenv, [*sources, *files], lambda path: read_dotenv(path, named))
    return Reading((*sources, *files, Source(application_defaults().copy())))


def watched() -> list[Path]:
    """Return the files and folders that a reading looks at, those that are not there included."""
    environment = read_environment()
    paths = [path for _, path in _located(environment)]
    if "env_file" not in environment.entries:
        paths += candidates()
    return [*paths, *(layer for path in paths for layer in layers_beside(path))]


def _told_of_the_standard_prefix(environment: Source, names: Names) -> Source:
    """Return the environment with a note on each setting that has the standard prefix while another one is in force."""
    if prefix() == PREFIX:
        return environment
    told = f"is not read, because the prefix is {prefix()}"
    notes = (
        Problem(name.upper(), entry.origin, told)
        for name, entry in environment.others.items()
        if name.startswith(PREFIX.lower()) and names.is_setting(name.removeprefix(PREFIX.lower()))
    )
    return dataclasses.replace(environment, notes=tuple(notes))


def _layered(path: Path, stronger: list[Source], read: Callable[[Path], Source]) -> list[Source]:
    """Return what a file holds, with the file beside it for the environment before it, if there is one."""
    base = read(path)
    environment = environment_in([*stronger, base, Source(application_defaults())])
    layer = layer_of(path, environment)
    if isinstance(layer, Problem):
        return [Source(problems=(layer,)), base]
    if layer is None:
        return [base]
    found = read(layer)
    return [strange_layer(found, environment), base]


def _variable(name: str) -> str:
    return prefix() + name.upper()


def _located(environment: Source) -> list[tuple[str, Path]]:
    named = ((name, environment.entries[name].value) for name in LOCATORS if name in environment.entries)
    return [(name, Path(os.path.abspath(at_home(value.strip())))) for name, value in named if value.strip()]  # noqa: PTH100
