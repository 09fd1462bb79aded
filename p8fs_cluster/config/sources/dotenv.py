"""`.env`: the file that P8FS_ENV_FILE names, else the nearest one up to the project's root."""

from __future__ import annotations

import dataclasses
import re
from io import StringIO
from pathlib import Path

from dotenv.parser import Binding, parse_stream

from p8fs_cluster.config.sources.environment import ORIGIN
from p8fs_cluster.config.sources.files import UnusableError, read_text, shown
from p8fs_cluster.config.sources.source import Entry, Source, entry_of, prefix, source_of, stamp_of, unprefixed
from p8fs_cluster.exceptions import Problem

__all__ = ["candidates", "nearest", "parse_dotenv", "read_dotenv"]

ROOT_MARKS = (".git", "pyproject.toml")
"""The files of a project's root folder."""


def candidates() -> list[Path]:
    """Return where a `.env` is looked for: here, and in the folders above up to the project's root, if there is one."""
    here = Path.cwd()
    looked = []
    for folder in (here, *here.parents):
        looked.append(folder / ".env")
        if any((folder / mark).exists() for mark in ROOT_MARKS):
            return looked
    return looked[:1]


def nearest() -> Path | None:
    """Return the nearest `.env`, whatever it is: a folder of that name is a fault that is told."""
    return next((path for path in candidates() if path.exists() or path.is_symlink()), None)


def read_dotenv(path: Path, variable: str | None = None) -> Source:
    """Return the settings in a file, which `variable` has named, or which was found.

    Nothing is interpolated: `${X}` stays as it stands, because a password may hold it. The last of several lines
    for one name counts, as in a shell.
    """
    stamp = stamp_of(path)
    try:
        text = read_text(path)
    except UnusableError as exc:
        if variable is None:
            return Source(problems=(Problem(f"the settings file {shown(path)}", None, str(exc)),))
        return Source(problems=(Problem(variable, ORIGIN, f"the settings file {path} {exc}"),))
    return dataclasses.replace(parse_dotenv(text, shown(path)), stamps={path: stamp})


def parse_dotenv(text: str, place: str) -> Source:
    """Return the settings in the text of a `.env`; `place` is how messages call it.

    >>> parse_dotenv("P8FS_PG_HOST=db # ours", ".env").entries
    {'pg_host': Entry(value='db', origin='.env, line 1')}
    """
    items: dict[str, Entry] = {}
    problems: list[Problem] = []
    for binding in parse_stream(StringIO(text)):
        name = unprefixed(binding.key or "")
        where = f"{place}, line {_line_of(binding)}"
        if _is_ours(binding) and (binding.error or (name and _is_broken(binding))):
            problems.append(_problem(binding, where))
        elif binding.key and binding.value is not None:
            items[binding.key] = entry_of(binding.value, where)  # the last line for a name counts
    return source_of(items.items(), problems)


def _is_ours(binding: Binding) -> bool:
    return prefix().lower() in binding.original.string.lower().replace("-", "_")


def _is_broken(binding: Binding) -> bool:
    """Return whether there is no value, or one that has swallowed another line, because its quote was never closed."""
    swallowed = rf"\n\s*(?:#\s*)?(?:export\s+)?{prefix()}\w+\s*="
    return binding.value is None or re.search(swallowed, binding.value, re.IGNORECASE) is not None


def _problem(binding: Binding, where: str) -> Problem:
    name = re.match(r"\s*(?:export\s+)?['\"]?(\w+)", binding.original.string)
    ours = name is not None and unprefixed(name[1])  # else it may be the rest of a broken value
    fault = "an unfinished quote or a stray character"
    if not binding.error:
        fault = "has no value: write NAME=value" if binding.value is None else "a quote that ends in another setting"
    elif "=" not in binding.original.string:
        fault = "has no =: write NAME=value"
    return Problem(name[1] if name and ours else "a line", where, fault)


def _line_of(binding: Binding) -> int:
    text = binding.original.string
    return binding.original.line + text[: len(text) - len(text.lstrip())].count("\n")
