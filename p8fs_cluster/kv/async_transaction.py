"""Several keys at once, for asyncio: all or nothing.

`transaction.py` is made of this file by `scripts/threads.py`.
"""

from __future__ import annotations

from types import TracebackType
from typing import Generic, Self, TypeVar

from p8fs_cluster.exceptions import KVConflict, KVError
from p8fs_cluster.kv.async_running import AsyncRunner
from p8fs_cluster.kv.changes import Changes
from p8fs_cluster.kv.codecs import Codec
from p8fs_cluster.kv.keys import Key, Space, microseconds, version_given

__all__ = ["AsyncAtomic", "AsyncTransaction"]

V = TypeVar("V")


async def async_committed(runner: AsyncRunner, changes: Changes) -> bool:
    """Check and write, and return whether the checks held.

    :raises KVError: it is too much for one call; nothing was sent.
    """
    changes.require_fit(runner.stores.limits())
    checks, puts, deletes = changes.checks, tuple(changes.puts.values()), changes.deletes
    if checks:
        committed = await runner.run(lambda store: store.atomic(checks, puts, deletes))
        runner.stores.tally.add("conflicts", not committed)
        return committed
    if puts and deletes:
        return await runner.run(lambda store: store.atomic({}, puts, deletes))
    if puts:
        await runner.run(lambda store: store.put(puts))
    elif deletes:
        await runner.run(lambda store: store.delete(deletes))
    return True


class AsyncAtomic(Generic[V]):
    """Checks and writes that are done all or not at all; the last word on a key counts."""

    def __init__(self, runner: AsyncRunner, changes: Changes, codec: Codec[V]) -> None:
        self._runner = runner
        self._changes = changes
        self._codec = codec
        self._done = False

    def check(self, key: Key, version: int | None) -> Self:
        """Require that a value has this version; None: that there is none."""
        physical = self._changes.physical(key)
        self._changes.checks[physical] = None if version is None else version_given(version)
        return self

    def put(self, key: Key, value: V, *, ttl: float | None = None) -> Self:
        """Write a value."""
        self._changes.put(key, self._codec.encode(value), microseconds(ttl))
        return self

    def delete(self, key: Key) -> Self:
        """Delete a value, if it is there."""
        self._changes.delete(key)
        return self

    async def commit(self) -> dict[Key, int] | None:
        """Do all of it and return the versions that were written; None: a check failed, and nothing was done.

        :raises KVError: it is too much for one call, or was committed before.
        """
        if self._done:
            raise KVError("this was committed already: begin anew with kv.atomic()")
        self._done = True
        return self._changes.versions() if await async_committed(self._runner, self._changes) else None


class AsyncTransaction(Generic[V]):
    """Reads that hold until the end of the block, and writes that are done there, all or none.

    A read shows what this transaction wrote. Reads are checked at the end: until then two of them may not fit together.
    """

    def __init__(self, runner: AsyncRunner, space: Space, codec: Codec[V]) -> None:
        self._runner = runner
        self._changes = Changes(space)
        self._codec = codec
        self._read: dict[bytes, bytes | None] = {}

    async def __aenter__(self) -> Self:
        return self

    async def __aexit__(
        self, exc_type: type[BaseException] | None, exc: BaseException | None, traceback: TracebackType | None
    ) -> None:
        if exc is None and not await async_committed(self._runner, self._changes):
            raise KVConflict(
                "somebody else wrote what this transaction had read: do it again, as kv.run_in_transaction does"
            )

    async def get(self, key: Key) -> V | None:
        """Return a value, as this transaction wrote it or first saw it; None: it is not there."""
        physical = self._changes.physical(key)
        if physical in self._changes.puts:
            return self._codec.decode(self._changes.puts[physical].value)
        if physical in self._changes.deletes:
            return None
        value = await self._seen(physical)
        return None if value is None else self._codec.decode(value)

    async def exists(self, key: Key) -> bool:
        """Return whether a value is there."""
        return await self.get(key) is not None

    def put(self, key: Key, value: V, *, ttl: float | None = None) -> int:
        """Write a value at the end of the block, and return the version that it has then."""
        return self._changes.put(key, self._codec.encode(value), microseconds(ttl))

    def delete(self, key: Key) -> None:
        """Delete a value at the end of the block."""
        self._changes.delete(key)

    async def _seen(self, physical: bytes) -> bytes | None:
        if physical not in self._read:
            found = (await self._runner.run(lambda store: store.entries((physical,)))).get(physical)
            self._read[physical] = found and found[0]
            self._changes.checks[physical] = found and found[1]
        return self._read[physical]
