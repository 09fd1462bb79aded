"""The events that a node notes of itself, by the machine's clock, in a file of its own."""

from __future__ import annotations

import dataclasses
import json
import os
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

__all__ = ["COUNTER", "SCHEDULER", "Event", "Log", "Tail", "Token", "now"]

SCHEDULER = "scheduler"
"""The name under which the nodes stand as leaders."""
COUNTER = "counter"
"""The name of the lock under which they change the counter."""

Token = tuple[int, int]

_clock_gettime = time.clock_gettime  # a node's clocks are moved


def now() -> float:
    """Return the seconds since the machine's start, which are the same in every process."""
    return _clock_gettime(time.CLOCK_BOOTTIME)


@dataclass(frozen=True)
class Event:
    """Something that a node has seen or done, at a moment between `before` and `at`."""

    node: str
    """The process: one that is started in another's place is another."""
    kind: str
    before: float
    at: float
    lease: str = ""
    token: Token | None = None
    """The term that it believed in; None at a tick: in none."""
    until: float | None = None
    """Its deadline, as far as it had one at that moment."""
    id: str = ""
    """Of a write, which the database has as well, if it came about."""
    told: str = ""


class Log:
    """A node's file. Each event is one line, written at once."""

    def __init__(self, path: Path, node: str) -> None:
        self._descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_APPEND)
        self._node = node

    def write(self, kind: str, before: float | None = None, **fields: Any) -> None:
        """Write an event that ends now."""
        at = now()
        event = Event(self._node, kind, at if before is None else before, at, **fields)
        told = {name: value for name, value in dataclasses.asdict(event).items() if value not in ("", None)}
        os.write(self._descriptor, f"{json.dumps(told)}\n".encode())

    def around(self, kind: str, action: Callable[[], Any], **fields: Any) -> None:
        """Do something, and write when it began and ended."""
        before = now()
        action()
        self.write(kind, before, **fields)


class Tail:
    """A file that grows, read from where the last look ended."""

    def __init__(self, path: Path) -> None:
        self._path = path
        self._offset = 0

    def read(self) -> list[Event]:
        """Return the events that have been added; a line that a kill has cut off is none."""
        if not self._path.exists():
            return []
        with self._path.open("rb") as file:
            file.seek(self._offset)
            text = file.read()
        whole = text[: text.rfind(b"\n") + 1]
        self._offset += len(whole)
        return [_event(json.loads(line)) for line in whole.splitlines()]


def _event(told: dict[str, Any]) -> Event:
    token = told.pop("token", None)
    return Event(token=None if token is None else (token[0], token[1]), **told)
