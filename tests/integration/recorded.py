"""A container whose resource writes down in which process it is opened and closed."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

from dependency_injector import providers

from p8fs_cluster import Container, Provide, inject

EVENTS = Path("events")


def note(event: str) -> None:
    """Append a line, whole also when several processes write."""
    with EVENTS.open("ab", buffering=0) as events:
        events.write(f"{event} {os.getpid()}\n".encode())


def events(folder: Path) -> list[str]:
    """Return the lines, in the order of writing."""
    path = folder / EVENTS
    return path.read_text().splitlines() if path.exists() else []


def line() -> Iterator[str]:
    note("open")
    yield f"line of {os.getpid()}"
    note("close")


class Recorded(Container):
    line = providers.Resource(line)


@inject
def active_line(line: str = Provide[Recorded.line]) -> str:
    return line
