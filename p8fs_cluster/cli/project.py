"""`p8fs-cluster init`: a small project that runs at once, written as a whole or not at all."""

from __future__ import annotations

import keyword
import re
import sys
from collections.abc import Iterator, Mapping
from importlib.resources import files
from importlib.resources.abc import Traversable
from pathlib import Path, PurePosixPath

__all__ = ["misnamed", "name_of", "project", "write"]

TEMPLATE = "template"
ENDING = ".in"
PACKAGE = "package"
"""The folder of the template that gets the package's name."""
LONGEST = 50
"""Characters of a name that leave room for the ends that names in Kubernetes get."""


def name_of(folder: Path) -> str:
    """Return the name of a package that a folder's name suggests; it may still be misnamed.

    >>> name_of(Path("somewhere/My-Notes"))
    'my_notes'
    """
    return re.sub(r"\W+", "_", folder.absolute().name.lower(), flags=re.ASCII).strip("_")


def misnamed(name: str) -> str | None:
    """Return why a package can't have this name, None if it can.

    >>> misnamed("My-Notes")
    "'My-Notes' is no name for a package: a-z, 0-9 and _, beginning with a letter, at most 50; such as my_notes"
    """
    if not re.fullmatch(r"[a-z]([a-z0-9_]*[a-z0-9])?", name) or len(name) > LONGEST:
        better = name_of(Path("/", name))[:LONGEST].strip("_")
        instead = f"; such as {better}" if better and better != name and misnamed(better) is None else ""
        return f"{name!r} is no name for a package: a-z, 0-9 and _, beginning with a letter, at most {LONGEST}{instead}"
    if keyword.iskeyword(name) or name in sys.stdlib_module_names or name in ("p8fs_cluster", "tests"):
        return f"{name!r} is taken: it is a word or a module of Python's, or of this command's"
    return None


def project(name: str) -> dict[PurePosixPath, str]:
    """Return the files of a project whose package has this name: text by place.

    >>> project("notes")[PurePosixPath("README.md")].splitlines()[0]
    '# notes'
    """
    words = {"name": name, "NAME": name.upper(), "dashed": name.replace("_", "-")}
    made = {}
    for place, text in _template(files(__package__) / TEMPLATE, PurePosixPath()):
        parts = (name if part == PACKAGE else part for part in place.parts)
        made[PurePosixPath(*parts)] = re.sub(r"@(\w+)@", lambda found: words[found[1]], text)
    return made


def write(folder: Path, texts: Mapping[PurePosixPath, str]) -> None:
    """Write files into a folder. What has been written is taken away again when one can't be.

    :raises FileExistsError: one is there already.
    :raises OSError: one can't be written.
    """
    made: list[Path] = []
    try:
        for place, text in texts.items():
            path = folder / place
            _make(path.parent, made)
            with path.open("x", encoding="utf-8", newline="\n") as file:
                made.append(path)
                file.write(text)
    except BaseException:
        for path in reversed(made):
            path.rmdir() if path.is_dir() else path.unlink()
        raise


def _template(folder: Traversable, place: PurePosixPath) -> Iterator[tuple[PurePosixPath, str]]:
    for entry in sorted(folder.iterdir(), key=lambda entry: entry.name):
        if entry.is_dir():
            yield from _template(entry, place / entry.name)
        elif entry.name.endswith(ENDING):
            yield place / entry.name.removesuffix(ENDING), entry.read_text("utf-8")


def _make(folder: Path, made: list[Path]) -> None:
    if not folder.is_dir():
        _make(folder.parent, made)
        folder.mkdir()
        made.append(folder)
