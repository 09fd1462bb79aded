"""The store and the processes that call it, as the faults find them."""

from __future__ import annotations

import contextlib
from collections.abc import Iterable, Iterator
from pathlib import Path
from typing import Any

from p8fs_cluster import Container
from tests.chaos.kv.calls import DONE, Calls, Journal
from tests.chaos.kv.history import History
from tests.chaos.kv.keys import ACCOUNTS, CLAIMS, CODES, COUNTS, FLEETING, LEASES, NAMESPACE, PAIRS, REGISTERS
from tests.chaos.lines import Tail, now
from tests.chaos.nodes import Nodes
from tests.servers import Server

__all__ = ["PATIENCE", "World"]

UNIT = 1.5
"""Seconds that a call may take; faults last a bit longer."""
PATIENCE = 30.0
"""Seconds within which some call has to be done after a fault, on a busy machine."""


class World(Nodes):
    """Processes that call one store, in so many threads each."""

    module = "tests.chaos.kv.worker"

    def __init__(self, server: Server, folder: Path, seed: int, *, threads: int, bug: str) -> None:
        super().__init__(server, folder, seed, UNIT)
        self.threads = threads
        self.bug = bug
        self.calls = Calls()
        self._own = Tail(folder / "own")
        self._journal = Journal(folder / "own")

    @property
    def settings(self) -> dict[str, Any]:
        return {"pool_max_size": self.threads, "pool_timeout": UNIT, "query_timeout": UNIT, "log_level": "ERROR",
                "kv_create": True}  # fmt: skip

    @property
    def arguments(self) -> Iterable[object]:
        return (self.threads, *filter(None, [self.bug]))

    def start(self, processes: int) -> None:
        """Write the first amounts, start the processes, some with each handle, and wait until a call is done."""
        with self._kv() as kv:
            kv.clear()
            amounts = {key: f"100 first.{key}" for key in ACCOUNTS}
            with self._journal.call("put_many", wrote=amounts) as came:
                came["versions"] = kv.put_many({key: value.encode() for key, value in amounts.items()})
        for number in range(processes):
            self.add("asyncio" if number % 2 else "threads")
        begun = now()
        self.until(lambda: self.done_since(begun), PATIENCE)

    def done_since(self, moment: float) -> bool:
        """Return whether a call that began after it is known to be done."""
        self.listen()
        return self.calls.latest >= moment

    def listen(self) -> None:
        """Read what the processes have told."""
        for name, line in self.told():
            self.calls.add(name, line)

    def history(self) -> History:
        """End the processes in order, look at every key, and return all that happened."""
        self.end()
        if self.server.is_ours:  # what was on its way is done then, or is not
            self.server.stop()
            self.server.start()
        self._look()
        self.listen()
        for line in self._own.read():
            self.calls.add("own", line)
        return History(self.calls.all(), self.faults, PATIENCE)

    def _look(self) -> None:
        """Note what is there in the end."""
        with self._kv() as kv:
            for keys in (ACCOUNTS, *PAIRS):
                with self._journal.call("get_many") as came:
                    found = kv.get_many(keys)
                    came["saw"] = {key: found[key].decode() if key in found else None for key in keys}
                assert came["outcome"] == DONE, came
            for key in (*COUNTS, *REGISTERS, *CLAIMS, *FLEETING, *LEASES, *CODES):
                with self._journal.call("entry") as came:
                    entry = kv.entry(key)
                    came["saw"] = {key: entry and entry.value.decode()}
                    came["versions"] = {key: entry.version} if entry else {}
                assert came["outcome"] == DONE, came

    @contextlib.contextmanager
    def _kv(self) -> Iterator[Any]:
        with Container(config={**self.server.settings, "kv_create": True}) as container:
            yield container.kv().namespace(NAMESPACE)
