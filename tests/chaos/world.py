"""The server, the nodes and the networks between them, as the faults find them."""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO

from p8fs_cluster import Container, Storage
from p8fs_cluster.coordination.terms import Timing
from tests.chaos import tables
from tests.chaos.events import SCHEDULER, Event, Tail, now
from tests.chaos.history import Fault, History
from tests.chaos.network import Network, network
from tests.chaos.node import POOL
from tests.processes import PATIENCE, ROOT, variables
from tests.servers import Server

__all__ = ["KINDS", "Process", "World", "world"]

KINDS = ("threads", "asyncio", "asyncio")
"""The kinds of the nodes, one for each place; a killed node is followed by one of the same kind."""
SLACK = 1.0
"""Seconds that a busy machine may take beyond ttl and one poll until somebody leads."""


@dataclass
class Process:
    """A node, the network that it is behind, and what it has told so far."""

    name: str
    kind: str
    process: subprocess.Popen[bytes]
    network: Network
    tail: Tail

    def tell(self, line: str) -> None:
        """Tell the node of a fault that it is to do itself."""
        pipe = self._input()
        pipe.write(f"{line}\n".encode())
        pipe.flush()

    def end(self) -> None:
        """Let the node end in order, and wait for that."""
        self._input().close()
        self.process.wait(PATIENCE)

    def _input(self) -> IO[bytes]:
        assert self.process.stdin is not None
        return self.process.stdin


class World:
    """Nodes on one server. `events` is what they have told, as of the last `listen`."""

    def __init__(self, server: Server, timing: Timing, folder: Path, seed: int, bug: str = "") -> None:
        self.server = server
        self.timing = timing
        self.random = random.Random(seed)
        self.bug = bug
        self.nodes: list[Process] = []
        self.events: list[Event] = []
        self.faults: list[Fault] = []
        self._folder = folder
        self._tails: list[Tail] = []
        self._believes: dict[str, bool] = {}
        self._open = contextlib.ExitStack()

    @property
    def patience(self) -> float:
        """Seconds within which somebody has to lead."""
        return self.timing.ttl + self.timing.interval + SLACK

    @property
    def storage(self) -> Storage:
        """A handle on the server itself, past all networks, for the time of one use."""
        return self._open.enter_context(Container(config=self.server.settings)).storage()

    def start(self) -> None:
        """Make the tables, start the nodes, and wait until one of them leads."""
        tables.create(self.storage)
        for kind in KINDS:
            self.add(kind)
        begun = now()
        self.until(lambda: self.led_since(begun), 30)

    def add(self, kind: str) -> Process:
        """Start a node."""
        name = f"n{len(self._tails) + 1}"
        prefix = self.server.provider.replace("postgresql", "pg")
        made = self._open.enter_context(network(self.server.settings[f"{prefix}_port"]))
        settings = {**self.server.settings, f"{prefix}_port": made.port, "cluster_create": True,
                    "pool_max_size": POOL, "pool_timeout": 1, "log_level": "WARNING"}  # fmt: skip
        path = self._folder / name
        times = map(str, (self.timing.ttl, self.timing.deadline, self.timing.interval))
        command = [sys.executable, "-m", "tests.chaos.node", str(path), name, kind, *times, *filter(None, [self.bug])]
        with path.with_suffix(".log").open("wb") as output:
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=output, stderr=output, cwd=ROOT,
                                       env={**os.environ, **variables(settings)})  # fmt: skip
        self._open.callback(_gone, process)
        node = Process(name, kind, process, made, Tail(path))
        self.nodes.append(node)
        self._tails.append(node.tail)
        return node

    def listen(self) -> None:
        """Read what the nodes have told."""
        for tail in self._tails:
            for event in tail.read():
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
        suited = [node for node in self.nodes if node.kind.startswith(kind)]
        if leader in suited and self.random.random() < 0.75:
            return leader
        return self.random.choice(suited)

    def led_since(self, since: float) -> bool:
        """Return whether a node has told that it leads, at a look after that moment."""
        self.listen()
        recent = reversed(self.events[-2000:])
        return any(e.before >= since and e.kind == "tick" and e.token and e.lease == SCHEDULER for e in recent)

    def until(self, condition: Callable[[], object], seconds: float) -> bool:
        """Wait for a condition, and return whether it came in time."""
        end = now() + seconds
        while not condition():
            if now() > end:
                return False
            time.sleep(0.02)
        return True

    def during(self, ttls: float) -> float:
        """Let some ttls pass, more or less, and return the moment."""
        time.sleep(self.timing.ttl * ttls * self.random.uniform(0.9, 1.1))
        return now()

    def end(self) -> History:
        """End the nodes in order, and return all that happened."""
        for node in self.nodes:
            node.end()
        self.listen()
        found = self.storage
        return History(self.events, self.faults, tables.writes(found), tables.increments(found), tables.value(found),
                       self.patience)  # fmt: skip


@contextlib.contextmanager
def world(server: Server, timing: Timing, folder: Path, seed: int, bug: str = "") -> Iterator[World]:
    """Give nodes that work on a server; what is left of them is gone at the block's end."""
    made = World(server, timing, folder, seed, bug)
    with made._open:
        made.start()
        yield made


def _gone(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.kill()
    process.wait()
    if process.stdin is not None:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
