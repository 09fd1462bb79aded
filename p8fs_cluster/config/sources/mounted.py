"""Folders with a file a setting, as Kubernetes mounts ConfigMaps and Secrets, and Docker its secrets."""

from __future__ import annotations

import dataclasses
import os
from collections.abc import Iterator
from pathlib import Path

from p8fs_cluster.config.sources.environment import ORIGIN
from p8fs_cluster.config.sources.files import UnusableError, read_text, shown
from p8fs_cluster.config.sources.source import (
    Entry,
    Names,
    Source,
    Stamp,
    entry_of,
    prefix,
    source_of,
    stamp_of,
    unprefixed,
)
from p8fs_cluster.exceptions import Problem

__all__ = ["read_mounted"]

_TRIES = 5


def read_mounted(folder: Path, variable: str, names: Names) -> Source:
    """Return the settings in a folder that `variable` names: `P8FS_PG_PASSWORD` is a file with the password.

    `p8fs-pg-password` is another form of that name. Files that don't begin with the prefix are others'; a note tells of
    one that has the name of a setting without it.
    Kubernetes swaps all files at once, by the link `..data`; they are read from one side of the swap.
    """
    for _ in range(_TRIES):
        side = os.path.realpath(folder / "..data")
        read = _read(folder, variable, names)
        if side == os.path.realpath(folder / "..data"):
            break
    return read


def _read(folder: Path, variable: str, names: Names) -> Source:
    items: list[tuple[str, Entry]] = []
    problems: list[Problem] = []
    notes: list[Problem] = []
    stamps: dict[Path, Stamp] = {}
    try:
        for file in _files(folder):
            plain = file.name.lower().replace("-", "_")
            ours = unprefixed(file.name) or (plain if names.is_alias(plain) else None)
            stamps[file] = stamp_of(file)
            try:
                if file.is_file() if ours is None else file.exists():  # a link that a swap left behind leads nowhere
                    items.append((file.name, entry_of(read_text(file), shown(file))))
            except UnusableError as exc:
                if ours:
                    problems.append(Problem(file.name.upper(), shown(file), f"the file {exc}"))
            if ours is None and names.is_setting(plain):
                fault = f"has no prefix, so that it is not read: name it {prefix()}{plain.upper()}"
                notes.append(Problem("a file", shown(file), fault))
    except FileNotFoundError:
        problems.append(Problem(variable, ORIGIN, f"the folder {folder} does not exist"))
    except NotADirectoryError:
        problems.append(Problem(variable, ORIGIN, f"{folder} is not a folder"))
    except OSError as exc:
        problems.append(Problem(variable, ORIGIN, f"the folder {folder} can't be read: {exc.strerror}"))
    return dataclasses.replace(source_of(items, problems), stamps=stamps, notes=tuple(notes))


def _files(folder: Path) -> Iterator[Path]:
    yield from sorted(entry for entry in folder.iterdir() if not entry.name.startswith("."))
