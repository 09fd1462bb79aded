"""The answers of commands: text, JSON, a file that only its owner reads, or a refusal."""

from __future__ import annotations

import errno
import json
import math
import os
import shutil
import sys
import tempfile
from pathlib import Path
from typing import TYPE_CHECKING, Annotated, Any, NoReturn

import typer

from p8fs_cluster.config import secrets
from p8fs_cluster.exceptions import ConfigurationError, Problem
from p8fs_cluster.logging.redaction import Redactor

if TYPE_CHECKING:
    from rich.table import Table

__all__ = [
    "Json",
    "fail",
    "interrupt",
    "on_a_line",
    "print_json",
    "print_table",
    "redacted",
    "refuse",
    "tell",
    "write_private",
]

Json = Annotated[bool, typer.Option("--json", help="Print JSON for machines.")]

_UNBOUNDED = 1_000_000
"""Columns that no table needs."""

redacted = Redactor(secrets.known)
"""Takes every secret that the settings hold out of a text."""


def print_json(value: Any) -> None:
    """Print a value as JSON, which has no word for NaN and infinity: those become text."""
    narrow = sys.stdout.encoding.lower() not in ("utf-8", "utf8")  # what it lacks JSON escapes in its own way
    typer.echo(json.dumps(_finite(value), indent=2, ensure_ascii=narrow))


def tell(message: object) -> None:
    """Print to the standard error, without any secret that the settings hold."""
    typer.echo(redacted(str(message)), err=True)


def refuse(reason: object, as_json: bool = False) -> NoReturn:
    """End with exit code 2: what was asked for is not possible."""
    _end(2, reason, as_json)


def fail(fault: object, as_json: bool = False) -> NoReturn:
    """End with exit code 1: the settings have a fault."""
    _end(1, fault, as_json)


def interrupt(told: object, as_json: bool = False) -> NoReturn:
    """End with exit code 130 after Ctrl-C."""
    _end(130, told, as_json)


def print_table(table: Table) -> None:
    """Print a table in which nothing is cut off: what is wider than the terminal, or than COLUMNS says, goes on below.

    Without a terminal and COLUMNS, each row is one line, however long, for `grep`.
    """
    from rich.console import Console

    for column in table.columns:
        column.overflow = "fold"
    Console(width=shutil.get_terminal_size(fallback=(_UNBOUNDED, 24)).columns).print(table)


def on_a_line(text: str) -> str:
    r"""Return text whose line ends, tabs and other control characters are escaped, for a cell or a line.

    >>> print(on_a_line("a\tb\n"))
    a\tb\n
    """
    return "".join(char if char.isprintable() else repr(char)[1:-1] for char in text)


def write_private(path: Path, text: str) -> None:
    """Write a file that only its owner can read. Whoever reads it sees the old text or the new one, nothing between.

    :raises OSError: it can't be written; what was there before still is.
    """
    path = Path(os.path.realpath(path))
    if path.exists() and not path.is_file():
        raise OSError(errno.EINVAL, "there is something that is no file")  # /dev/null is not to be replaced
    handle, temporary = tempfile.mkstemp(prefix=f".{path.name[:100]}.", dir=path.parent)  # mode 0600
    try:
        with os.fdopen(handle, "w", encoding="utf-8") as file:
            file.write(text)
            file.flush()
            os.fsync(file.fileno())
        Path(temporary).replace(path)
    except BaseException:
        Path(temporary).unlink()
        raise


def _end(code: int, fault: object, as_json: bool) -> NoReturn:
    tell(fault)
    if as_json:
        problems = fault.problems if isinstance(fault, ConfigurationError) else ()
        print_json({"fault": redacted(str(fault)), "problems": list(map(_told, problems))})
    raise typer.Exit(code)


def _told(problem: Problem) -> dict[str, str | None]:
    return {"variable": problem.variable, "source": problem.source, "fault": redacted(problem.expected)}


def _finite(value: Any) -> Any:
    if isinstance(value, dict):
        return {str(key): _finite(item) for key, item in value.items()}
    if isinstance(value, (list, tuple)):
        return [_finite(item) for item in value]
    return str(value) if isinstance(value, float) and not math.isfinite(value) else value
