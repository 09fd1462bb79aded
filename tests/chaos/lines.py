"""The file that a node writes of itself, line by line, by the machine's clock, and how it is read while it grows."""

from __future__ import annotations

import json
import os
import time
from pathlib import Path
from typing import Any

__all__ = ["Lines", "Tail", "now"]

_clock_gettime = time.clock_gettime  # a node's clocks are moved


def now() -> float:
    """Return the seconds since the machine's start, which are the same in every process."""
    return _clock_gettime(time.CLOCK_BOOTTIME)


class Lines:
    """A file that any thread adds to. Each line is written at once, so that no kill takes it back."""

    def __init__(self, path: Path) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)

    def add(self, told: dict[str, Any]) -> None:
        """Write one line."""
        os.write(self._descriptor, f"{json.dumps(told)}\n".encode())


class Tail:
    """A file that grows, read from where the last look ended."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def read(self) -> list[dict[str, Any]]:
        """Return the lines that have been added; one that a kill has cut off is none."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            file.seek(self._offset)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._offset += len(whole)
        return [json.loads(line) for line in whole.splitlines()]
