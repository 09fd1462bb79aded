"""One run on one store: calls under one fault after the other, and codes that all callers want at once."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from p8fs_cluster import Container
from tests.chaos.faults import FAULTS
from tests.chaos.kv.history import History
from tests.chaos.kv.keys import NAMESPACE
from tests.chaos.kv.taking import give, got, wrong
from tests.chaos.kv.world import PATIENCE, World
from tests.chaos.lines import now
from tests.chaos.told import Violation
from tests.servers import Server

__all__ = ["Run", "told", "told_of_codes"]

ALONE = ("kill", "stop")
"""The faults of a store that is in the process itself."""
SHOWN = 10
"""Violations that are told in full."""


@dataclass(frozen=True)
class Run:
    """The size of a run: each fault is done at least once, however short it is."""

    processes: int
    threads: int
    seconds: float
    faults: Sequence[str]
    seed: int
    bug: str = ""

    def history(self, server: Server, folder: Path) -> History:
        """Return the history of calls to a store, under one fault after the other, each as often as the others."""
        made = World(server, folder, self.seed, threads=self.threads, bug=self.bug)
        with made.open:
            made.start(self._processes(server))
            end = now() + self.seconds
            while not made.faults or now() < end:
                for name in made.random.sample(self.faults, len(self.faults)):
                    self._suffer(made, name)
            return made.history()

    def contest(self, server: Server, codes: int) -> list[list[int]]:
        """Let all callers want the same codes at once, and return those that each process got."""
        settings = {**server.settings, "kv_create": True}
        with Container(config=settings) as container:
            give(container.kv().namespace(NAMESPACE), codes)
        return got(settings, self._processes(server), self.threads, codes)

    def _processes(self, server: Server) -> int:
        return 1 if server.port_setting is None else self.processes

    def _suffer(self, made: World, name: str) -> None:
        """Do a fault, and wait until a call is done, but not for ever: the checker tells if none was."""
        if made.server.port_setting is None and name not in ALONE:
            return
        fault = FAULTS[name](made)
        made.faults.append(fault)
        made.until(lambda: made.done_since(fault.healed), PATIENCE)
        made.during(0.5)


def told(kind: str, history: History, broken: Sequence[Violation], shown: int = SHOWN) -> str:
    """Return what was done, and what came of it."""
    outcomes = Counter(call.outcome for call in history.calls)
    faults = Counter(fault.name for fault in history.faults)
    lines = [
        f"{kind}: {len(history.calls)} calls: " + ", ".join(f"{outcomes[name]} {name}" for name in sorted(outcomes)),
        f"  {len(history.faults)} faults: " + ", ".join(f"{times} {name}" for name, times in sorted(faults.items())),
        "  nothing broken" if not broken else f"  BROKEN: {dict(Counter(each.rule for each in broken))}",
        *(f"    {each.rule}: {each.told}" for each in broken[:shown]),
    ]
    return "\n".join(lines)


def told_of_codes(taken: list[list[int]], codes: int) -> str:
    """Return how many codes each process took, and which of them not exactly one caller got."""
    failed = wrong(taken, codes)
    shares = ", ".join(str(len(each)) for each in taken)
    judged = f"; WRONG: {'; '.join(failed[:SHOWN])}" if failed else ""
    return f"  of {codes} codes the processes took {shares}{judged}"
