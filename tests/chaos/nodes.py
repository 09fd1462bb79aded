"""The processes on one server, each behind a network of its own, as the faults find them."""

from __future__ import annotations

import contextlib
import os
import random
import subprocess
import sys
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any, ClassVar

from tests.chaos.lines import Tail, now
from tests.chaos.network import Network, network
from tests.chaos.told import Fault
from tests.processes import PATIENCE, ROOT, variables
from tests.servers import Server

__all__ = ["Nodes", "Process"]


@dataclass
class Process:
    """A node, the network that it is behind, and what it tells."""

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


class Nodes:
    """Processes of one module on one server. What is left of them is gone at the end of `with nodes.open`."""

    module: ClassVar[str]
    """The module that a node runs, as `python -m MODULE FILE NAME KIND …`."""

    def __init__(self, server: Server, folder: Path, seed: int, unit: float) -> None:
        self.server = server
        self.random = random.Random(seed)
        self.unit = unit
        """Seconds that are long for a node, by which faults are measured."""
        self.nodes: list[Process] = []
        self.faults: list[Fault] = []
        self.tails: dict[str, Tail] = {}
        self.open = contextlib.ExitStack()
        self._folder = folder

    @property
    def settings(self) -> dict[str, Any]:
        """The settings of a node, but for where the server is."""
        raise NotImplementedError

    @property
    def arguments(self) -> Iterable[object]:
        """The arguments of a node after its kind."""
        raise NotImplementedError

    def add(self, kind: str) -> Process:
        """Start a node."""
        name = f"n{len(self.tails) + 1}"
        path = self._folder / name
        made, settings = self._behind_a_network()
        command = [sys.executable, "-m", self.module, str(path), name, kind, *map(str, self.arguments)]
        with path.with_suffix(".log").open("wb") as output:
            process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=output, stderr=output, cwd=ROOT,
                                       env={**os.environ, **variables({**self.settings, **settings})})  # fmt: skip
        self.open.callback(_gone, process)
        node = Process(name, kind, process, made, Tail(path))
        self.nodes.append(node)
        self.tails[name] = node.tail
        return node

    def _behind_a_network(self) -> tuple[Network, dict[str, Any]]:
        """Return a network that leads to the server, and the settings that lead to the network."""
        port = self.server.port_setting
        if port is None:
            return Network(), self.server.settings
        made = self.open.enter_context(network(self.server.settings[port]))
        return made, {**self.server.settings, port: made.port}

    def victim(self, kind: str = "") -> Process:
        """Return the node to suffer next."""
        return self.random.choice([node for node in self.nodes if node.kind.startswith(kind)])

    def until(self, condition: Callable[[], object], seconds: float) -> bool:
        """Wait for a condition, and return whether it came in time."""
        end = now() + seconds
        while not condition():
            if now() > end:
                return False
            time.sleep(0.02)
        return True

    def during(self, units: float) -> float:
        """Let some units of time pass, more or less, and return the moment."""
        time.sleep(self.unit * units * self.random.uniform(0.9, 1.1))
        return now()

    def told(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield what the nodes have told since the last time, each line after the name of its node."""
        for name, tail in self.tails.items():
            for line in tail.read():
                yield name, line

    def end(self) -> None:
        """End the nodes in order."""
        for node in self.nodes:
            node.end()


def _gone(process: subprocess.Popen[bytes]) -> None:
    if process.poll() is None:
        process.kill()
    process.wait()
    if process.stdin is not None:
        with contextlib.suppress(BrokenPipeError):
            process.stdin.close()
