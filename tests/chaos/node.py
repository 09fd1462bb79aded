"""One node, as a process: stands for leader, locks, writes and tells of it, until its input ends.

python -m tests.chaos.node LOG NAME threads|asyncio TTL DEADLINE INTERVAL [BUG]

Its input has a fault in each line: `clock SECONDS`, `exhaust SECONDS`, `block SECONDS`.
"""

from __future__ import annotations

import contextlib
import random
import sys
import threading
import time
import uuid
from collections.abc import Callable
from pathlib import Path
from typing import Any

from p8fs_cluster import Container
from p8fs_cluster.exceptions import CoordinationError, LeaseLost
from tests.chaos import bugs
from tests.chaos.events import COUNTER, SCHEDULER, Log, Token
from tests.chaos.lines import now
from tests.chaos.tables import increment, stamp
from tests.conformance.awaited import Awaited, Handle, Loop

TICK = 0.01
"""Seconds between two looks at what is believed."""
POOL = 3
"""Connections of the application's pool, of which a fault may borrow all."""


class Node:
    """The work of one process, in threads; with asyncio each call waits for the event loop, which runs in another."""

    def __init__(self, log: Log, name: str, loop: Loop | None, timing: dict[str, float]) -> None:
        self._log = log
        self._name = name
        self._loop = loop
        self._container = Container()
        self._over = threading.Event()
        cluster: Any = self._container.cluster() if loop is None else self._container.async_cluster()
        call: Any = (lambda function, *args, **kwargs: function(*args, **kwargs)) if loop is None else loop.call
        told = {"on_lost": lambda why: log.write("lost", told=str(why)), "on_missed_beat": lambda: log.write("missed")}
        self._leader = call(cluster.leader, SCHEDULER, **timing, **told, on_elected=self._elected)
        self._lock = self._waited_lock = cluster.lock(COUNTER, **timing, **told)
        self._storage: Any = self._container.storage()
        if loop is not None:
            self._waited_lock = Awaited(loop, self._lock)
            self._storage = Handle(loop, self._container.async_storage(), None)

    def run(self) -> None:
        """Work until the input ends, then give everything up in order."""
        ticking = threading.Thread(target=self._tick, daemon=True)
        working = [
            threading.Thread(target=self._again, args=(work,), daemon=True) for work in (self._lead, self._count)
        ]
        for thread in (ticking, *working):
            thread.start()
        for line in sys.stdin:
            name, seconds = line.split()
            getattr(self, f"_{name}")(float(seconds))
        self._over.set()
        for thread in (ticking, *working):
            thread.join(20)
        for lease in (SCHEDULER, COUNTER):
            self._log.write("giving up", lease=lease)
        if self._loop is None:
            self._container.shutdown_resources()
        else:
            self._loop.call(self._container.aclose)

    def _again(self, work: Callable[[], None]) -> None:
        while not self._over.is_set():
            try:
                work()
            except Exception as exc:
                self._log.write("failed", told=f"{work.__name__}: {type(exc).__name__}: {exc}"[:300])
                self._over.wait(0.05)

    def _elected(self, token: Token) -> None:
        self._log.write("acquired", lease=SCHEDULER, token=token)

    def _tick(self) -> None:
        """Look at both leases; of not believing the first look is told."""
        believed = {SCHEDULER: True, COUNTER: True}
        while not self._over.wait(TICK):
            for lease, look in ((SCHEDULER, self._leads), (COUNTER, self._holds)):
                before = now()
                token, until = look()
                if token is not None or believed[lease]:
                    self._log.write("tick", before, lease=lease, token=token, until=until)
                believed[lease] = token is not None

    def _leads(self) -> tuple[Token | None, float | None]:
        return _belief(self._leader.is_leader, self._leader, lambda: self._leader._candidacy().holding)

    def _holds(self) -> tuple[Token | None, float | None]:
        return _belief(self._lock.held, self._lock, lambda: self._lock._holding)

    def _lead(self) -> None:
        """Write to the outside resource, with the fence, if this node leads."""
        if not self._leader.is_leader:
            self._over.wait(TICK)
            return
        try:
            fence = self._leader.fence
        except LeaseLost:
            return
        self._over.wait(random.uniform(0, 0.02))  # in which the term may end: the fence is for that
        ident = str(uuid.uuid4())
        try:
            accepted = stamp(self._storage, ident, self._name, fence)
        except Exception as exc:
            self._log.write("unsure", lease=SCHEDULER, id=ident, told=f"{type(exc).__name__}: {exc}"[:300])
            self._over.wait(0.05)
        else:
            self._log.write("accepted" if accepted else "refused", id=ident)

    def _count(self) -> None:
        """Take the lock, change the counter a few times, and give the lock up."""
        before = now()
        if not self._waited_lock.acquire(timeout=1.0):
            return
        with contextlib.suppress(LeaseLost):
            self._log.write("acquired", before, lease=COUNTER, token=self._waited_lock.token)
        try:
            for _ in range(random.randint(1, 4)):
                self._change()
                self._over.wait(random.uniform(0, 0.05))  # no transaction holds off the next holder
        finally:
            self._log.write("giving up", lease=COUNTER)
            with contextlib.suppress(LeaseLost, CoordinationError):
                self._waited_lock.release()
            self._log.write("gave up", lease=COUNTER)
        self._over.wait(random.uniform(0, 0.03))

    def _change(self) -> None:
        ident = str(uuid.uuid4())
        try:
            increment(self._storage, self._waited_lock, ident, self._name, lambda: time.sleep(random.uniform(0, 0.02)))
        except Exception as exc:
            self._log.write("not incremented", id=ident, told=f"{type(exc).__name__}: {exc}"[:300])
            raise
        self._log.write("incremented", id=ident)

    def _clock(self, seconds: float) -> None:
        """Move the wall clock, and the monotonic one if it is forwards, for whoever asks the module `time`."""
        self._log.around("clock moved", lambda: move_clocks(seconds), told=str(seconds))

    def _exhaust(self, seconds: float) -> None:
        """Borrow every connection of the application's pool, and keep them."""

        def keep() -> None:
            with contextlib.suppress(Exception), self._storage.connection(10):
                time.sleep(seconds)

        keepers = [threading.Thread(target=keep, daemon=True) for _ in range(POOL)]
        for keeper in keepers:
            keeper.start()
        before = now()
        for keeper in keepers:
            keeper.join()
        self._log.write("exhausted", before)

    def _block(self, seconds: float) -> None:
        """Block the event loop."""
        if self._loop is not None:
            loop = self._loop
            self._log.around("blocked", lambda: loop.call(time.sleep, seconds))


def _belief(held: bool, of: Any, holding: Callable[[], Any]) -> tuple[Token | None, float | None]:
    if not held:
        return None, None
    try:
        token = of.token
    except LeaseLost:
        return None, None
    return token, holding().term.until if holding().term else None


_time, _monotonic = time.time, time.monotonic


def move_clocks(seconds: float) -> None:
    """Move what `time.time` tells, and `time.monotonic` for good, if that is forwards."""
    ahead = max(seconds, time.monotonic() - _monotonic())
    time.time = lambda: _time() + seconds
    time.monotonic = lambda: _monotonic() + ahead


def main() -> None:
    log, name, kind, ttl, deadline, interval, *seeded = sys.argv[1:]
    for bug in seeded:
        bugs.SEEDED[bug](setattr)
    timing = {"ttl": float(ttl), "deadline": float(deadline), "interval": float(interval)}
    with contextlib.ExitStack() as stack:
        loop = stack.enter_context(Loop().running()) if kind == "asyncio" else None
        Node(Log(Path(log), name), name, loop, timing).run()


if __name__ == "__main__":
    main()
