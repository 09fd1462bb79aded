"""Bugs that others have had, each as a change of our code: the checker has to find every one of them."""

from __future__ import annotations

import asyncio
import importlib
import itertools
import threading
import time
from collections.abc import Callable
from contextlib import nullcontext
from typing import Any, NamedTuple

from rocksdict import WriteOptions

from p8fs_cluster.exceptions import CommitUnknown, StorageError, StorageTimeout
from p8fs_cluster.kv import async_kv, changes, kv
from p8fs_cluster.kv.async_kv import AsyncKV
from p8fs_cluster.kv.async_running import AsyncRunner
from p8fs_cluster.kv.kv import KV
from p8fs_cluster.kv.running import Runner
from p8fs_cluster.providers.storage import kv_decisions, retries
from p8fs_cluster.providers.storage.kv_decisions import Deciding
from p8fs_cluster.providers.storage.kv_pairs import KeyPairs
from p8fs_cluster.providers.storage.kv_rows import KeyRows

__all__ = ["SEEDED", "Seed"]

Change = Callable[[Any, str, Any], None]
"""Sets an attribute of something: `setattr`, or that of pytest's monkeypatch, which takes it back."""

_BETWEEN = 0.0005
"""Seconds in which other threads act; an embedded store may else hold them off."""
SERVERS = ("postgresql", "mariadb", "tidb")
ALL = ("rocksdb", *SERVERS)
VERBS = ("put_if_absent", "compare_and_set", "delete_if", "take", "expire", "increment")


class Seed(NamedTuple):
    """A bug, the kinds of stores that can have it, and the faults that bring it out."""

    seed: Callable[[Change], None]
    kinds: tuple[str, ...] = ALL
    faults: tuple[str, ...] = ("kill",)


def ignores_the_version(change: Change) -> None:
    """Write where some value is there, whatever its version."""
    _decide_everywhere(change)
    change(kv_decisions, "_has", lambda found, key, version: (key in found) == (version is not None))


def locks_nothing(change: Change) -> None:
    """Read and then write, without holding others off in between."""
    _decide_everywhere(change)
    spelt = KeyRows.mutate

    def unlocked(rows: Any, mutation: Any) -> Any:
        plan = spelt(rows, mutation._replace(created=()))

        def steps() -> Any:
            inner, answer = plan.steps(), None
            try:
                while True:
                    sql, parameters = inner.send(answer)
                    answer = yield sql.replace(" FOR UPDATE", ""), parameters
            except StopIteration as done:
                return done.value

        return plan._replace(steps=steps)

    change(KeyRows, "mutate", unlocked)
    pairs = importlib.import_module("p8fs_cluster.providers.storage.rocksdb.pairs").RocksPairs
    change(pairs, "lock", property(lambda pairs: nullcontext(), lambda pairs, lock: None))
    write = KeyPairs._write

    def later(pairs: Any, *args: Any) -> None:
        time.sleep(_BETWEEN)
        write(pairs, *args)

    change(KeyPairs, "_write", later)


def takes_in_two_steps(change: Change) -> None:
    """Read a value, and then delete it."""

    def take(self: Any, key: Any) -> Any:
        value = self.get(key)
        time.sleep(_BETWEEN)
        self.delete(key)
        return value

    async def async_take(self: Any, key: Any) -> Any:
        value = await self.get(key)
        await self.delete(key)
        return value

    change(KV, "take", take)
    change(AsyncKV, "take", async_take)


def increments_in_two_steps(change: Change) -> None:
    """Read a number, and then write the sum."""

    def increment(self: Any, key: Any, by: int = 1) -> Any:
        total = int(self.get(key) or 0) + by
        time.sleep(_BETWEEN)
        return kv.Counted.of(total, self.put(key, b"%d" % total))

    async def async_increment(self: Any, key: Any, by: int = 1) -> Any:
        total = int(await self.get(key) or 0) + by
        return kv.Counted.of(total, await self.put(key, b"%d" % total))

    change(KV, "increment", increment)
    change(AsyncKV, "increment", async_increment)


def repeats_what_is_unknown(change: Change) -> None:
    """Do it again when the connection was lost, as if nothing had been done."""
    judged = retries._pause_after

    def pause_after(exc: BaseException, retry_pause: Any) -> float | None:
        return 0.01 if isinstance(exc, CommitUnknown | StorageTimeout) else judged(exc, retry_pause)

    change(retries, "_pause_after", pause_after)


def denies_what_is_unknown(change: Change) -> None:
    """Say that nothing was done when the connection was lost."""
    for runner in (Runner, AsyncRunner):
        change(runner, "run", _denying(runner.run))


def _denying(run: Any) -> Any:
    def denied(self: Any, ask: Any) -> Any:
        try:
            return run(self, ask)
        except (CommitUnknown, StorageTimeout) as exc:
            raise StorageError("nothing was done") from exc

    async def async_denied(self: Any, ask: Any) -> Any:
        try:
            return await run(self, ask)
        except (CommitUnknown, StorageTimeout) as exc:
            raise StorageError("nothing was done") from exc

    return async_denied if asyncio.iscoroutinefunction(run) else denied


def uses_versions_again(change: Change) -> None:
    """Take versions of a few, in turn, in each process."""
    counter = itertools.cycle(range(1, 100))
    for module in (kv, async_kv, changes):
        change(module, "new_version", lambda: next(counter))


def writes_later(change: Change) -> None:
    """Tell that a value is written before it is."""

    def later(self: Any, key: Any, value: Any, *, ttl: Any = None) -> int:
        put = self._put(key, value, ttl)
        threading.Timer(_LATER, self._runner.run, [lambda store: store.put((put,))]).start()
        return int(put.version)

    async def async_later(self: Any, key: Any, value: Any, *, ttl: Any = None) -> int:
        put = self._put(key, value, ttl)

        async def written() -> None:
            await asyncio.sleep(_LATER)
            await self._runner.run(lambda store: store.put((put,)))

        task = asyncio.create_task(written())
        _tasks.add(task)
        task.add_done_callback(_tasks.discard)
        return int(put.version)

    change(KV, "put", later)
    change(AsyncKV, "put", async_later)


_LATER = 0.02
"""Seconds."""
_tasks: set[asyncio.Task[Any]] = set()


def keeps_no_log(change: Change) -> None:
    """Write to the memory of the process alone."""
    pairs = importlib.import_module("p8fs_cluster.providers.storage.rocksdb.pairs").RocksPairs
    made = pairs.__init__

    def unlogged(self: Any, *args: Any) -> None:
        made(self, *args)
        options = WriteOptions()
        options.disable_wal = True
        self._family.set_write_options(options)

    change(pairs, "__init__", unlogged)


def _decide_everywhere(change: Change) -> None:
    """Let PostgreSQL, too, look at rows and then decide, in place of statements that do both."""
    rows = importlib.import_module("p8fs_cluster.providers.storage.postgresql.kv").KV
    for verb in VERBS:
        change(rows, verb, getattr(Deciding, verb))


SEEDED = {
    "ignores_the_version": Seed(ignores_the_version),
    "locks_nothing": Seed(locks_nothing),
    "takes_in_two_steps": Seed(takes_in_two_steps),
    "increments_in_two_steps": Seed(increments_in_two_steps),
    "repeats_what_is_unknown": Seed(repeats_what_is_unknown, SERVERS, ("freeze", "cut", "crash")),
    "denies_what_is_unknown": Seed(denies_what_is_unknown, SERVERS, ("freeze", "cut", "crash")),
    "uses_versions_again": Seed(uses_versions_again),
    "writes_later": Seed(writes_later),
    "keeps_no_log": Seed(keeps_no_log, ("rocksdb",)),
}
"""Name → the bug."""
