"""Files for one environment beside a file for all: `settings.production.yaml`, `.env.production`."""

from __future__ import annotations

import dataclasses
import re
from collections.abc import Iterable
from pathlib import Path

from p8fs_cluster.config.sources.files import shown
from p8fs_cluster.config.sources.source import Entry, Source
from p8fs_cluster.exceptions import Problem

__all__ = ["DEVELOPMENT", "PRODUCTION", "environment_in", "layer_of", "layers_beside", "spelt", "strange_layer"]

PRODUCTION = ("production", "prod")
DEVELOPMENT = ("development", "dev")
"""The spellings of an environment, which all mean the same."""


def spelt(environment: str) -> str:
    """Return the one spelling of an environment.

    >>> spelt(" Prod"), spelt("staging")
    ('production', 'staging')
    """
    plain = environment.strip().lower()
    return next((names[0] for names in (PRODUCTION, DEVELOPMENT) if plain in names), plain)


def environment_in(sources: Iterable[Source]) -> str:
    """Return the environment that the sources name, the strongest first; an empty text when none does."""
    named = (source.entries["environment"].value for source in sources if "environment" in source.entries)
    return next((value for value in named if isinstance(value, str)), "")


def layer_of(path: Path, environment: str) -> Path | Problem | None:
    """Return the file beside `path` that only counts in an environment, None if there is none.

    Two files for two spellings of one environment are a fault.
    """
    known = spelt(environment)
    spellings = next((names for names in (PRODUCTION, DEVELOPMENT) if known in names), (known,))
    named = [name for name in spellings if re.fullmatch(r"[\w.-]{1,100}", name)]
    there = [layer for name in named if (layer := _layer(path, name)).is_file()]
    if len(there) > 1:
        return Problem("the settings files", None, f"{shown(there[0])} and {shown(there[1])} mean the same: keep one")
    return there[0] if there else None


def layers_beside(path: Path) -> list[Path]:
    """Return the files for any environment that are there."""
    pattern = _layer(path, "*").name
    return sorted(path.parent.glob(pattern)) if path.parent.is_dir() and path.name else []


def strange_layer(source: Source, environment: str) -> Source:
    """Return the source of a layer; that it names another environment than it is read for is a fault of it."""
    named: Entry | None = source.entries.get("environment")
    if named is None or spelt(str(named.value)) == spelt(environment):
        return source
    fault = f"can't be changed by a file that is read because it is {environment!r}"
    return dataclasses.replace(source, problems=(*source.problems, Problem("the environment", named.origin, fault)))


def _layer(path: Path, environment: str) -> Path:
    if path.name.startswith(".env") or path.suffix == ".env":
        return path.with_name(f"{path.name}.{environment}")
    return path.with_name(f"{path.stem}.{environment}{path.suffix}")
