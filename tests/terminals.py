"""The command on a terminal of its own, as a person sees it."""

from __future__ import annotations

import contextlib
import fcntl
import os
import pty
import struct
import subprocess
import sys
import termios
import threading
from collections.abc import Iterator
from typing import Any

from tests.processes import PATIENCE, until, variables


class Terminal:
    """A process whose standard error, and standard output if it is not piped, are a terminal."""

    def __init__(self, process: subprocess.Popen[bytes], screen: int) -> None:
        self.process = process
        self._seen = b""
        self._screen = screen
        self._reader = threading.Thread(target=self._read, daemon=True)
        self._reader.start()

    @property
    def seen(self) -> str:
        """Everything that was written to the terminal so far."""
        return self._seen.decode(errors="replace")

    def until_seen(self, text: str) -> None:
        """Wait until the terminal has shown a text."""
        until(lambda: text in self.seen, f"{text!r} on the terminal")

    def type(self, text: str) -> None:
        """Type a text."""
        os.write(self._screen, text.encode())

    def wait(self) -> int:
        """Return the exit code when all is written."""
        code = self.process.wait(PATIENCE)
        self._reader.join(PATIENCE)
        return code

    def _read(self) -> None:
        with contextlib.suppress(OSError):  # Linux's way to say that nobody can write any more
            while data := os.read(self._screen, 65536):
                self._seen += data


@contextlib.contextmanager
def terminal(*arguments: str, columns: int = 80, stdout: int | None = None, **settings: Any) -> Iterator[Terminal]:
    """Run the command on a terminal that is so wide; `stdout` may be a pipe (`subprocess.PIPE`) instead."""
    screen, end = pty.openpty()
    fcntl.ioctl(end, termios.TIOCSWINSZ, struct.pack("HHHH", 24, columns, 0, 0))
    environment = {**os.environ, "TERM": "xterm", **variables(settings)}
    for name in ("COLUMNS", "LINES"):
        environment.pop(name, None)
    process = subprocess.Popen(
        [sys.executable, "-P", "-m", "p8fs_cluster", *arguments],
        stdin=end,
        stdout=end if stdout is None else stdout,
        stderr=end,
        env=environment,
        start_new_session=True,
    )
    os.close(end)
    try:
        yield Terminal(process, screen)
    finally:
        process.kill()
        process.communicate()
        os.close(screen)
