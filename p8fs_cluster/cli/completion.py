"""Words that a shell's completion offers. Nothing here reads a setting, imports a module of the user's, or prints."""

from __future__ import annotations

import contextlib
import io
import itertools
import os
import re
from collections.abc import Iterator
from pathlib import Path

from p8fs_cluster.cli.diff_sources import ENDINGS, WORDS
from p8fs_cluster.config.problems import variable_of
from p8fs_cluster.config.section import load_installed, names
from p8fs_cluster.config.sources.source import prefix

__all__ = ["complete_container", "complete_setting", "complete_side", "is_asked", "silence"]

OURS = "p8fs_cluster:Container"

_SEARCHED = 200
"""Files of Python in which containers are looked for."""
_CONTAINER = re.compile(rb"^class (\w+)\([^)]*Container\b", re.MULTILINE)


def is_asked() -> bool:
    """Return whether a shell asks for completion, and not a person for anything."""
    return os.environ.get("_P8FS_CLUSTER_COMPLETE", "").startswith("complete_")


def silence() -> None:
    """Send the standard error of this process nowhere: it would appear amid what the user is typing."""
    os.dup2(os.open(os.devnull, os.O_WRONLY), 2)


def complete_setting(incomplete: str) -> list[str]:
    """Return settings that begin so, in the case that was begun with; with the prefix once that has been begun.

    >>> complete_setting("pg_po"), complete_setting("P8FS_PG_PO")
    (['pg_port'], ['P8FS_PG_PORT'])
    """
    with contextlib.redirect_stdout(io.StringIO()):  # what other people's sections print is no completion
        load_installed()
    written = incomplete.lower()
    ours = prefix().lower()
    is_prefixed = len(written) > 1 and (ours.startswith(written) or written.startswith(ours))
    known = [variable_of(name).lower() for name in names()] if is_prefixed else names()
    found = sorted(name for name in known if name.startswith(written))
    return [incomplete + _cased(name[len(incomplete) :], like=incomplete) for name in found]


def complete_side(incomplete: str) -> list[str]:
    """Return the words that `config diff` takes, and files; none where no word fits, for a shell knows files better.

    >>> complete_side("cur")
    ['current']
    """
    words = [word for word in WORDS if word.startswith(incomplete)]
    return words + [name for name in _files() if name.startswith(incomplete)] if words else []


def complete_container(incomplete: str) -> list[str]:
    """Return our container, and those that the text of modules in this folder declares; no module is imported.

    >>> complete_container("p8fs")
    ['p8fs_cluster:Container']
    """
    return [name for name in (OURS, *_declared_here()) if name.startswith(incomplete)]


def _cased(text: str, like: str) -> str:
    return text.upper() if like[-1:].isupper() or (like.isupper() and like) else text


def _files() -> list[str]:
    seen = (path for path in sorted(Path().iterdir()) if path.name.startswith(".env") or path.name[0] != ".")
    return [path.name for path in seen if path.is_dir() or path.name.endswith(ENDINGS) or path.name[0] == "."]


def _declared_here() -> Iterator[str]:
    here = Path()
    modules = (path for path in itertools.chain(here.glob("*.py"), here.glob("*/*.py")) if path.is_file())
    for path in itertools.islice(modules, _SEARCHED):
        parts = path.with_suffix("").parts
        if all(map(str.isidentifier, parts)):
            module = ".".join(parts).removesuffix(".__init__")
            yield from (f"{module}:{name.decode()}" for name in _CONTAINER.findall(path.read_bytes()))
