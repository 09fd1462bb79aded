"""Handlers that write lines: to stdout or stderr as it is when a record comes, and to a file. No secret is shown."""

from __future__ import annotations

import contextlib
import json
import logging
import os
import re
import sys
import threading
from typing import Any, Literal

from p8fs_cluster.logging.background import Background, writing
from p8fs_cluster.logging.fields import message_of
from p8fs_cluster.logging.files import LogFile
from p8fs_cluster.logging.redaction import Redactor

__all__ = ["ConsoleHandler", "FileHandler", "Stream", "prints"]

Stream = Literal["stdout", "stderr"]

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


class ConsoleHandler(_LineHandler):
    """Writes to what `sys.stdout`, or `sys.stderr`, is when a record is written, not to what it was at set-up.

    Where that logs what is written to it, as Celery's does in a worker, to what is beneath it.
    """

    _seen: tuple[Any, bool] = (None, False)

    def __init__(self, stream: Stream, redact: Redactor, background: Background | None) -> None:
        super().__init__(redact, background)
        self.where = stream
        self._writing = threading.local()

    def emit(self, record: logging.LogRecord) -> None:
        """Write a record, unless it is what the stream has made of the line that is being written here."""
        line = getattr(self._writing, "line", None)
        if line is None or message_of(record)[0].strip() != line.strip():
            super().emit(record)

    def coloured(self) -> bool:
        """Return whether the stream is a terminal that is to have colours: NO_COLOR is not set."""
        stream, coloured = self._seen
        if stream is not self._stream():
            stream = self._stream()
            coloured = not os.environ.get("NO_COLOR") and os.environ.get("TERM") != "dumb" and _is_terminal(stream)
            self._seen = stream, coloured
        return coloured

    def _stream(self) -> Any:
        stream = getattr(sys, self.where)
        return getattr(sys, f"__{self.where}__") if _logs(stream) else stream

    def _write(self, line: str) -> None:
        stream = self._stream()
        if stream is None:  # there is no console, as under pythonw
            return
        outer, self._writing.line = getattr(self._writing, "line", None), line
        try:
            try:
                stream.write(line)
            except UnicodeEncodeError:
                stream.write(_NOT_ASCII.sub(lambda found: json.dumps(found[0])[1:-1], line))  # JSON stays JSON so
            stream.flush()
        finally:
            self._writing.line = outer


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


def _logs(stream: Any) -> bool:
    """Return whether a stream makes records of what is written to it: Celery's, and what many programs write for it."""
    logger = getattr(stream, "logger", None)
    return isinstance(logger, (logging.Logger, logging.LoggerAdapter))


def prints(handler: logging.Handler) -> bool:
    """Return whether a handler of somebody else's writes to the console, itself or by a stream that logs."""
    stream = getattr(handler, "stream", None)
    if not isinstance(handler, logging.StreamHandler) or stream is None:
        return False
    consoles = (sys.stdout, sys.stderr, sys.__stdout__, sys.__stderr__)
    return _logs(stream) or any(stream == console for console in consoles)  # equal: Flask's is a proxy


def _is_terminal(stream: Any) -> bool:
    try:
        return bool(stream.isatty())
    except (AttributeError, ValueError):
        return False
