"""The contents of a source: values, each with its origin in words, and faults."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple, Protocol

from p8fs_cluster.exceptions import ConfigurationError, Problem

__all__ = [
    "PREFIX",
    "Entry",
    "Names",
    "Source",
    "Stamp",
    "entry_of",
    "prefix",
    "set_prefix",
    "source_of",
    "stamp_of",
    "unprefixed",
]

PREFIX = "P8FS_"
"""The prefix of all variables, unless `P8FS_PREFIX` or `set_prefix` names another one."""

Stamp = tuple[int, int, int] | None
"""The marks that tell a file from a later state of the same path; None: there is no file."""

_own: str | None = None


class Names(Protocol):
    """The sources' questions about a name: is it a setting's, or an alias of a section's setting?"""

    def is_setting(self, name: str, /) -> bool: ...
    def is_alias(self, name: str, /) -> bool: ...


class Entry(NamedTuple):
    """A value as it was found, and where.

    >>> Entry("5432", "the environment").origin
    'the environment'
    """

    value: Any
    origin: str


@dataclass(frozen=True)
class Source:
    """The contents of one source: entries by setting, names without prefix in lower case; and its faults.

    `foreign` are names of ours that Kubernetes filled for a Service: they are no settings, whatever they are called.
    `others` are entries without our prefix, for settings that have an alias. `tables` hold what stands below a name;
    the parts are entries as well. `stamps` are those of the files that were read, from before they were. `notes` are
    what is no fault, and may be meant otherwise.
    """

    entries: Mapping[str, Entry] = field(default_factory=dict)
    problems: tuple[Problem, ...] = ()
    notes: tuple[Problem, ...] = ()
    foreign: Mapping[str, Entry] = field(default_factory=dict)
    others: Mapping[str, Entry] = field(default_factory=dict, repr=False)
    stamps: Mapping[Path, Stamp] = field(default_factory=dict, repr=False, compare=False)
    tables: Mapping[str, Entry] = field(default_factory=dict, repr=False, compare=False)

    def named(self) -> Mapping[str, Entry]:
        """Return the entries, and tables by their names: one of them may be the value of a section that comes late."""
        return {**self.tables, **self.entries} if self.tables else self.entries


def prefix() -> str:
    """Return the prefix of all variables.

    :raises ConfigurationError: `P8FS_PREFIX` can't be one.

    >>> prefix()
    'P8FS_'
    """
    return _own or _valid(os.environ.get("P8FS_PREFIX") or PREFIX)


def set_prefix(text: str) -> None:
    """Use another prefix than `P8FS_` in this process, such as `NOTES_`. Call it before the settings are read.

    The command line has the variable `P8FS_PREFIX` for it.

    :raises ConfigurationError: the text can't be a prefix.

    >>> set_prefix("P8FS_")
    """
    global _own  # noqa: PLW0603
    _own = _valid(text)


def unprefixed(name: str) -> str | None:
    """Return the setting that a variable or a mounted file names, None when it is not one of ours.

    >>> unprefixed("p8fs_PG_Host"), unprefixed("p8fs-pg-host"), unprefixed("HOME")
    ('pg_host', 'pg_host', None)
    """
    plain, ours = _plain(name), prefix().lower()
    return plain.removeprefix(ours) if plain.startswith(ours) else None


def entry_of(text: Any, origin: str) -> Entry:
    r"""Return an entry for a value; line ends at the end of a text are no part of the value, wherever it stands.

    >>> entry_of("secret\n", "the environment")
    Entry(value='secret', origin='the environment')
    """
    return Entry(text.rstrip("\r\n") if isinstance(text, str) else text, origin)


def source_of(items: Iterable[tuple[str, Entry]], problems: Iterable[Problem] = ()) -> Source:
    """Return the source of entries by their names as they were found.

    One setting under two names, with values that differ, is a fault: nobody can tell which is meant.

    >>> source_of([("P8FS_PG_HOST", Entry("db", "x")), ("HOME", Entry("/root", "x"))]).entries
    {'pg_host': Entry(value='db', origin='x')}
    """
    entries: dict[str, Entry] = {}
    others: dict[str, Entry] = {}
    names: dict[str, str] = {}
    faults, ours = list(problems), prefix().lower()
    for name, entry in items:
        plain = _plain(name)
        setting = plain.removeprefix(ours)
        if setting == plain or not setting:
            others[plain] = entry
            continue
        if setting in entries and entries[setting].value != entry.value:
            fault = f"is given twice with different values, as {names[setting]} and as {name}: remove one of them"
            faults.append(Problem((ours + setting).upper(), entry.origin, fault))
        entries[setting], names[setting] = entry, name
    return Source(entries, tuple(faults), others=others)


def stamp_of(path: Path) -> Stamp:
    """Return the stamp of a file as it is now."""
    try:
        status = path.stat()
    except OSError:
        return None
    return status.st_mtime_ns, status.st_size, status.st_ino


def _plain(name: str) -> str:
    return name.lower().replace("-", "_")


def _valid(text: str) -> str:
    if not re.fullmatch(r"[A-Za-z][A-Za-z0-9_]*_", text):
        raise ConfigurationError(f"{text!r} can't be the prefix of variables: write letters and digits that end in _")
    return text.upper()
