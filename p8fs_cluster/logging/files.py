"""A log file that any number of processes append to, each line whole; moved away or full, it is begun anew."""

from __future__ import annotations

import os
import stat
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

from p8fs_cluster.exceptions import ConfigurationError

try:
    import fcntl as _fcntl
except ImportError:  # Windows
    _fcntl = None  # type: ignore[assignment]

__all__ = ["LogFile"]

fcntl: Any = _fcntl


class LogFile:
    """Appends lines, each in one write. With `max_bytes`, the file becomes PATH.1 when a line would not fit, and so on.

    Only one process moves it: under a lock on PATH.lock, after a second look. `backups` moved ones are kept.

    :raises OSError: the file can't be opened.
    :raises ConfigurationError: it can't be rotated: this platform has no `flock`, or it is no regular file.

    >>> file = LogFile(Path("data.log"), max_bytes=10, backups=1)
    >>> file.append(b"first\\n")
    >>> file.append(b"second\\n")
    >>> file.close()
    >>> Path("data.log").read_text(), Path("data.log.1").read_text()
    ('second\\n', 'first\\n')
    """

    def __init__(self, path: Path, max_bytes: int = 0, backups: int = 1) -> None:
        self.path = path
        self._max_bytes = max_bytes
        self._backups = backups
        self._file: int | None = None
        self._opened()
        if max_bytes:
            self._require_rotation()

    def append(self, line: bytes) -> None:
        """Append a whole line, also when the file can't be moved.

        :raises OSError: it could not be written, or the file could not be moved before.
        """
        fault = self._make_room(len(line))
        file = self._opened()
        while line:
            line = line[os.write(file, line) :]
        if fault:
            raise fault

    def close(self) -> None:
        """Close the file; the next line opens it again."""
        file, self._file = self._file, None
        if file is not None:
            os.close(file)

    def _make_room(self, length: int) -> OSError | None:
        try:
            size = os.fstat(self._opened()).st_size
            if self._max_bytes and size and size + length > self._max_bytes:
                with self._alone():
                    if self._is_at_its_path():
                        self._move()
            if not self._is_at_its_path():
                self._reopen()
        except OSError as exc:
            return exc
        return None

    def _opened(self) -> int:
        if self._file is None:
            self._file = os.open(self.path, os.O_APPEND | os.O_CREAT | os.O_WRONLY | os.O_CLOEXEC, 0o666)
        return self._file

    def _is_at_its_path(self) -> bool:
        try:
            return os.path.samestat(os.fstat(self._opened()), self.path.stat())
        except FileNotFoundError:
            return False

    def _reopen(self) -> None:
        before, self._file = self._file, None
        try:
            self._opened()
        except OSError:
            self._file = before  # the directory is gone: the old file is better than none
            raise
        if before is not None:
            os.close(before)

    def _move(self) -> None:
        for number in range(self._backups - 1, 0, -1):
            if (older := self._numbered(number)).exists():
                older.replace(self._numbered(number + 1))
        self.path.replace(self._numbered(1))

    def _numbered(self, number: int) -> Path:
        return self.path.with_name(f"{self.path.name}.{number}")

    @contextmanager
    def _alone(self) -> Iterator[None]:
        lock = os.open(self.path.with_name(f"{self.path.name}.lock"), os.O_CREAT | os.O_RDWR | os.O_CLOEXEC, 0o666)
        try:
            fcntl.flock(lock, fcntl.LOCK_EX)
            yield
        finally:
            os.close(lock)

    def _require_rotation(self) -> None:
        try:
            if fcntl is None:
                raise ConfigurationError(f"the log file {self.path} can't be rotated: this platform has no flock")
            if not stat.S_ISREG(os.fstat(self._opened()).st_mode):
                raise ConfigurationError(f"the log file {self.path} can't be rotated: it is no regular file")
            with self._alone():
                pass
        except BaseException:
            self.close()
            raise
