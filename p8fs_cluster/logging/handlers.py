"""Handlers that write lines: to stdout as it is when a record comes, and to a file. Neither shows a secret."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import sys
from typing import Any

from p8fs_cluster.logging.background import Background, writing
from p8fs_cluster.logging.files import LogFile
from p8fs_cluster.logging.redaction import Redactor

__all__ = ["FileHandler", "StdoutHandler"]

_NOT_ASCII = re.compile(r"[^\x00-\x7f]")


class _LineHandler(logging.Handler):
    """Formats a record where it comes from, so that context and arguments are those of that moment.

    It is written by the background, if there is one.
    """

    where: str

    def __init__(self, redact: Redactor, background: Background | None) -> None:
        super().__init__()
        self._redact = redact
        self._background = background
        self._told = False

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, or have it written."""
        try:
            line = self.format(record) + "\n"
        except Exception:
            self.handleError(record)
            return
        if self._background is None:
            self.write(line)
        else:
            self._background.put(self.write, line)

    def write(self, line: str) -> None:
        """Write a line now; a fault is told on stderr."""
        try:
            with writing:
                self._write(line)
            self._told = False
        except Exception:
            self.handleError(None)

    def handleError(self, record: logging.LogRecord | None) -> None:  # noqa: N802
        """Tell the fault on stderr, once until a record is written again; `logging` would print the arguments."""
        told, self._told = self._told, True
        if logging.raiseExceptions and sys.stderr and not told:
            exc = sys.exc_info()[1]
            with contextlib.suppress(Exception):
                fault = self._redact(f"{type(exc).__name__}: {exc}")
                sys.stderr.write(f"p8fs_cluster: logging to {self.where} fails: {fault}\n")

    def _write(self, line: str) -> None:
        raise NotImplementedError


class StdoutHandler(_LineHandler):
    """Writes to what `sys.stdout` is when a record is written, not to what it was at set-up."""

    where = "stdout"
    _seen: tuple[Any, bool] = (None, False)

    def coloured(self) -> bool:
        """Return whether stdout is a terminal that is to have colours: NO_COLOR is not set."""
        stream, coloured = self._seen
        if stream is not sys.stdout:
            stream = sys.stdout
            coloured = not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb" and _is_terminal(stream)
            self._seen = stream, coloured
        return coloured

    def _write(self, line: str) -> None:
        stream = sys.stdout
        try:
            stream.write(line)
        except UnicodeEncodeError:
            stream.write(_NOT_ASCII.sub(lambda found: json.dumps(found[0])[1:-1], line))  # JSON stays JSON so
        stream.flush()


class FileHandler(_LineHandler):
    """Writes to a `LogFile`."""

    def __init__(self, file: LogFile, redact: Redactor, background: Background | None) -> None:
        super().__init__(redact, background)
        self._file = file
        self.where = str(file.path)

    def close(self) -> None:
        """Close the file; a record that still comes opens it again."""
        with writing:
            self._file.close()
        super().close()

    def _write(self, line: str) -> None:
        self._file.append(line.encode("utf-8", "backslashreplace"))


def _is_terminal(stream: Any) -> bool:
    try:
        return bool(stream.isatty())
    except (AttributeError, ValueError):
        return False
