"""What every source gives: the values it has, each with its origin in words, and what is wrong with it."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field
from typing import Any, NamedTuple

from p8fs_cluster.exceptions import Problem

__all__ = ["PREFIX", "Entry", "Source", "unprefixed"]

PREFIX = "P8FS_"


class Entry(NamedTuple):
    """A value as it was found, and where.

    >>> Entry("5432", "the environment").origin
    'the environment'
    """

    value: Any
    origin: str


@dataclass(frozen=True)
class Source:
    """What one source has: entries by setting, names without prefix in lower case; and its faults.

    `foreign` are names of ours that Kubernetes filled for a Service: they are no settings, whatever they are called.
    """

    entries: Mapping[str, Entry] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    foreign: Mapping[str, Entry] = field(default_factory=dict)


def unprefixed(name: str) -> str | None:
    """Return the setting that a variable names, None when it is not one of ours.

    >>> unprefixed("p8fs_PG_Host"), unprefixed("HOME")
    ('pg_host', None)
    """
    lower = name.lower()
    return lower[len(PREFIX) :] if lower.startswith(PREFIX.lower()) else None
