"""The events that a node notes of itself, by the machine's clock, in a file of its own."""

from __future__ import annotations

import dataclasses
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from tests.chaos.lines import Lines, now

__all__ = ["COUNTER", "SCHEDULER", "Event", "Log", "Token", "event_of"]

SCHEDULER = "scheduler"
"""The name under which the nodes stand as leaders."""
COUNTER = "counter"
"""The name of the lock under which they change the counter."""

Token = tuple[int, int]


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


class Log(Lines):
    """A node's file of events."""

    def __init__(self, path: Path, node: str) -> None:
        super().__init__(path)
        self._node = node

    def write(self, kind: str, before: float | None = None, **fields: Any) -> None:
        """Write an event that ends now."""
        at = now()
        event = Event(self._node, kind, at if before is None else before, at, **fields)
        self.add({name: value for name, value in dataclasses.asdict(event).items() if value not in ("", None)})

    def around(self, kind: str, action: Callable[[], Any], **fields: Any) -> None:
        """Do something, and write when it began and ended."""
        before = now()
        action()
        self.write(kind, before, **fields)


def event_of(told: dict[str, Any]) -> Event:
    """Return the event that a line tells of."""
    token = told.pop("token", None)
    return Event(token=None if token is None else (token[0], token[1]), **told)
