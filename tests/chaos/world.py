"""The server and the nodes that lead and lock on it, as the faults find them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from p8fs_cluster import Container, Storage
from p8fs_cluster.coordination.terms import Timing
from tests.chaos import tables
from tests.chaos.events import SCHEDULER, Event, event_of
from tests.chaos.history import History
from tests.chaos.lines import now
from tests.chaos.node import POOL
from tests.chaos.nodes import Nodes, Process
from tests.servers import Server

__all__ = ["KINDS", "World", "world"]

KINDS = ("threads", "asyncio", "asyncio")
"""The kinds of the nodes, one for each place; a killed node is followed by one of the same kind."""
SLACK = 1.0
"""Seconds that a busy machine may take beyond ttl and one poll until somebody leads."""


class World(Nodes):
    """Nodes on one server. `events` is what they have told, as of the last `listen`."""

    module = "tests.chaos.node"

    def __init__(self, server: Server, timing: Timing, folder: Path, seed: int, bug: str = "") -> None:
        super().__init__(server, folder, seed, timing.ttl)
        self.timing = timing
        self.bug = bug
        self.events: list[Event] = []
        self._believes: dict[str, bool] = {}

    @property
    def settings(self) -> dict[str, Any]:
        return {"cluster_create": True, "pool_max_size": POOL, "pool_timeout": 1, "log_level": "WARNING"}

    @property
    def arguments(self) -> Iterable[object]:
        return (self.timing.ttl, self.timing.deadline, self.timing.interval, *filter(None, [self.bug]))

    @property
    def patience(self) -> float:
        """Seconds within which somebody has to lead."""
        return self.timing.ttl + self.timing.interval + SLACK

    @property
    def storage(self) -> Storage:
        """A handle on the server itself, past all networks, for the time of one use."""
        return self.open.enter_context(Container(config=self.server.settings)).storage()

    def start(self) -> None:
        """Make the tables, start the nodes, and wait until one of them leads."""
        tables.create(self.storage)
        for kind in KINDS:
            self.add(kind)
        begun = now()
        self.until(lambda: self.led_since(begun), 30)

    def listen(self) -> None:
        """Read what the nodes have told."""
        for _, line in self.told():
            event = event_of(line)
            self.events.append(event)
            if event.kind == "tick" and event.lease == SCHEDULER:
                self._believes[event.node] = event.token is not None

    def leader(self) -> Process | None:
        """Return the node that has last told that it leads, if one does."""
        self.listen()
        return next((node for node in self.nodes if self._believes.get(node.name)), None)

    def victim(self, kind: str = "") -> Process:
        """Return the node to suffer next: the leader, three times of four, if it is of that kind."""
        leader = self.leader()
        if leader and leader.kind.startswith(kind) and self.random.random() < 0.75:
            return leader
        return super().victim(kind)

    def led_since(self, since: float) -> bool:
        """Return whether a node has told that it leads, at a look after that moment."""
        self.listen()
        recent = reversed(self.events[-2000:])
        return any(e.before >= since and e.kind == "tick" and e.token and e.lease == SCHEDULER for e in recent)

    def history(self) -> History:
        """End the nodes in order, and return all that happened."""
        self.end()
        self.listen()
        found = self.storage
        return History(self.events, self.faults, tables.writes(found), tables.increments(found), tables.value(found),
                       self.patience)  # fmt: skip


@contextlib.contextmanager
def world(server: Server, timing: Timing, folder: Path, seed: int, bug: str = "") -> Iterator[World]:
    """Give nodes that work on a server; what is left of them is gone at the block's end."""
    made = World(server, timing, folder, seed, bug)
    with made.open:
        made.start()
        yield made
