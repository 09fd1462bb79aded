"""The two sides of `config diff`: files, manifests, mounted folders, and what this process would read."""

from __future__ import annotations

import re
import sys
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

from p8fs_cluster.cli.manifests import cluster_sources
from p8fs_cluster.config.reading import Reading, read
from p8fs_cluster.config.section import NAMES
from p8fs_cluster.config.sources.document import parse_document
from p8fs_cluster.config.sources.dotenv import parse_dotenv
from p8fs_cluster.config.sources.environment import read_environment
from p8fs_cluster.config.sources.files import LIMIT, UnusableError, read_text
from p8fs_cluster.config.sources.mounted import read_mounted
from p8fs_cluster.config.sources.source import prefix

__all__ = ["ENDINGS", "WORDS", "Operand", "operand"]

ENDINGS = (".env", ".toml", ".yaml", ".yml", ".json")
"""The endings of files that can be a side."""

STDIN = "the standard input"

_IN_MANIFEST = re.compile(r"""^[\s{-]*["']?apiVersion["']?\s*:""", re.MULTILINE)


@dataclass(frozen=True)
class Operand:
    """The settings that an argument stands for; `notes` are what was left out of account."""

    reading: Reading
    notes: tuple[str, ...] = ()


def operand(argument: str) -> Operand:
    """Return what an argument of `config diff` stands for. What is wrong with it may also be in the reading's problems.

    :raises UnusableError: it is no file that can be understood, and none of the words.

    >>> operand("defaults").reading.winning
    {}
    """
    try:
        return WORDS[argument]() if argument in WORDS else _of_path(Path(argument))
    except UnusableError as exc:
        fault = str(exc)
    except RecursionError:
        fault = "is nested too deeply"
    except OSError as exc:  # a folder above it is not ours
        fault = f"can't be read: {exc.strerror}"
    raise UnusableError(f"{STDIN if argument == '-' else argument} {fault}")


def _of_path(path: Path) -> Operand:
    if path.is_dir():
        return Operand(Reading((read_mounted(path, str(path), NAMES),)))
    ending = path.suffix.lower()
    is_dotenv = ending == ".env" or path.name.startswith(".env")
    if not is_dotenv and ending not in ENDINGS and path.exists():
        raise UnusableError("has to end in .env, .toml, .yaml or .json, or be a folder")
    text, place = read_text(path), str(path)
    if ending == ".toml":
        return Operand(Reading((parse_document(text, ending, place, NAMES.is_setting),)))
    return _of_dotenv(text, place) if is_dotenv else _of_yaml(text, place)


def _of_stdin() -> Operand:
    if sys.stdin.isatty():
        raise UnusableError("is a terminal: pipe a file into it")
    data = sys.stdin.buffer.read(LIMIT + 1)
    if len(data) > LIMIT:
        raise UnusableError(f"has more than {LIMIT:,} bytes")
    try:
        text = data.decode("utf-8-sig")
    except UnicodeDecodeError:
        raise UnusableError("is not UTF-8 text") from None
    in_dotenv = rf"^\s*(export\s+)?{prefix()}\w+\s*="
    is_dotenv = re.search(in_dotenv, text, re.MULTILINE | re.IGNORECASE) and not _IN_MANIFEST.search(text)
    return _of_dotenv(text, STDIN) if is_dotenv else _of_yaml(text, STDIN)


def _of_dotenv(text: str, place: str) -> Operand:
    return Operand(Reading((parse_dotenv(text, place),)))


def _of_yaml(text: str, place: str) -> Operand:
    if not _IN_MANIFEST.search(text):
        return Operand(Reading((parse_document(text, ".yaml", place, NAMES.is_setting),)))
    sources, notes = cluster_sources(text, place)
    return Operand(Reading(sources), notes)


WORDS: dict[str, Callable[[], Operand]] = {
    "env": lambda: Operand(Reading((read_environment(),))),
    "current": lambda: Operand(read(NAMES)),
    "defaults": lambda: Operand(Reading()),
    "-": _of_stdin,
}
"""The sides that are no file, and how each is read."""
