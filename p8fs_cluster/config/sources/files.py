"""Files of settings: read as text, or refused with the reason."""

from __future__ import annotations

import os
import stat
from pathlib import Path

__all__ = ["LIMIT", "UnusableError", "at_home", "read_text", "shown"]

LIMIT = 1024 * 1024
"""Bytes. A larger file is taken for a mistake: a log, a dump, a disk image."""


class UnusableError(Exception):
    """A file can't be read; the reason goes into the `Problem` of its source."""


def read_text(path: Path) -> str:
    """Return what a file holds.

    :raises UnusableError: it is missing, unreadable, no file, too large, or not UTF-8.
    """
    try:
        status = path.stat()
        if not stat.S_ISREG(status.st_mode) and not stat.S_ISFIFO(status.st_mode):
            raise UnusableError("is not a file (a directory or a device)")
        if status.st_size > LIMIT:
            raise UnusableError(f"has {status.st_size:,} bytes, more than {LIMIT:,}: is it the right file?")
        data = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        raise UnusableError("does not exist") from None
    except ValueError:  # a NUL in the name
        raise UnusableError("is no possible name of a file") from None
    except OSError as exc:
        raise UnusableError(f"can't be read: {exc.strerror}") from None
    try:
        return data.decode("utf-8-sig")
    except UnicodeDecodeError as exc:
        line = data.count(b"\n", 0, exc.start) + 1
    raise UnusableError(f"is not UTF-8 text (line {line}): save it as UTF-8")


def at_home(text: str) -> str:
    """Return a path with `~` at its beginning replaced by the home directory, as a shell does, where there is one.

    >>> at_home("~/data") == str(Path.home() / "data"), at_home("data")
    (True, 'data')
    """
    return os.path.expanduser(text)  # noqa: PTH111 - Path.expanduser raises where there is no home


def shown(path: Path) -> str:
    """Return how messages call a file: by its absolute path, whatever the working directory of who reads them.

    >>> shown(Path(".env")) == str(Path.cwd() / ".env")
    True
    """
    return str(Path.cwd() / path)
