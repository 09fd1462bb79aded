"""Folders with a file a setting, as Kubernetes mounts ConfigMaps and Secrets, and Docker its secrets."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from p8fs_cluster.config.sources.environment import ORIGIN
from p8fs_cluster.config.sources.files import UnusableError, read_text, shown
from p8fs_cluster.config.sources.source import Entry, Source, unprefixed
from p8fs_cluster.exceptions import Problem

__all__ = ["read_mounted"]

_TRIES = 5


def read_mounted(folder: Path, variable: str) -> Source:
    """Return the settings in a folder that `variable` names: `P8FS_PG_PASSWORD` is a file with the password.

    Line ends at the end of a file are no part of the value. Files that don't begin with `P8FS_` are others'.
    Kubernetes swaps all files at once, by the link `..data`; they are read from one side of the swap.
    """
    for _ in range(_TRIES):
        side = os.path.realpath(folder / "..data")
        read = _read(folder, variable)
        if side == os.path.realpath(folder / "..data"):
            break
    return read


def _read(folder: Path, variable: str) -> Source:
    entries: dict[str, Entry] = {}
    problems: list[Problem] = []
    try:
        for file in _files(folder):
            name = unprefixed(file.name)
            try:
                if name and file.exists():  # a link that a swap left behind leads nowhere
                    entries[name] = Entry(read_text(file).rstrip("\r\n"), shown(file))
            except UnusableError as exc:
                problems.append(Problem(file.name.upper(), shown(file), f"the file {exc}"))
    except FileNotFoundError:
        problems.append(Problem(variable, ORIGIN, f"the folder {folder} does not exist"))
    except NotADirectoryError:
        problems.append(Problem(variable, ORIGIN, f"{folder} is not a folder"))
    except OSError as exc:
        problems.append(Problem(variable, ORIGIN, f"the folder {folder} can't be read: {exc.strerror}"))
    return Source(entries, tuple(problems))


def _files(folder: Path) -> Iterator[Path]:
    yield from sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
