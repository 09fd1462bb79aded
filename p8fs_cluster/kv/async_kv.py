"""The handle of the key-value store, for asyncio.

`kv.py` is made of this file by `scripts/threads.py`.
"""

from __future__ import annotations

import asyncio  # sleeps
from collections.abc import Awaitable, Callable
from typing import TYPE_CHECKING, Any, ParamSpec, TypeVar

from p8fs_cluster.exceptions import KVConflict, KVError
from p8fs_cluster.kv.async_cached import AsyncCached, async_cached
from p8fs_cluster.kv.async_transaction import AsyncAtomic, AsyncTransaction
from p8fs_cluster.kv.async_writing import AsyncWriting
from p8fs_cluster.kv.changes import Changes
from p8fs_cluster.kv.codecs import JSON, codec_of
from p8fs_cluster.kv.keys import Key, Space, limit_of
from p8fs_cluster.kv.scanning import BATCH
from p8fs_cluster.kv.sessions import AsyncSession
from p8fs_cluster.providers.storage.retries import pause

if TYPE_CHECKING:
    from p8fs_cluster.coordination.async_cluster import AsyncCluster
    from p8fs_cluster.coordination.async_schedule import AsyncSchedule

__all__ = ["AsyncKV"]

T = TypeVar("T")
V = TypeVar("V")
M = TypeVar("M")
P = ParamSpec("P")

_PAUSE = 0.01
"""Seconds to begin with between two runs of a transaction."""
_BREATH = 0.05
"""Seconds between two batches of a sweep, which belong to those who use the store."""


class AsyncKV(AsyncWriting[V]):
    """Values under keys, in the store of the settings: keep it, share it, inject it.

    Keys are bytes, or text that stands for its UTF-8. Each value has a version, which no other value of its key ever
    has, not after a delete either. A value with a `ttl` is gone when the store's clock says so.

    >>> from p8fs_cluster import Container
    >>> from p8fs_cluster.testing import memory_storage
    >>> async def kept() -> bytes | None:
    ...     with Container().override_providers(storage=memory_storage()) as container:
    ...         codes = container.async_kv().namespace("codes")
    ...         await codes.put("4711", b"ada", ttl=60)
    ...         return await codes.take("4711")
    >>> asyncio.run(kept())
    b'ada'
    """

    @property
    def json(self) -> AsyncKV[Any]:
        """The same keys, whose values are what JSON has."""
        return AsyncKV(self._runner, self._space, JSON)

    def typed(self, model: type[M]) -> AsyncKV[M]:
        """Return the same keys, whose values are instances of a pydantic model or a dataclass, stored as JSON.

        :raises KVError: it is none.
        """
        return AsyncKV(self._runner, self._space, codec_of(model))

    def session(self) -> AsyncSession[V]:
        """Return an asynchronous context manager that gives these keys, an embedded store held for the block: `get` and
        `put` take less time then.

        Each call commits by itself, as always. A server is asked as outside of a session: nothing is borrowed.
        """
        return AsyncSession(self, self._runner.stores, self._reader, self._writer)

    def namespace(self, name: str) -> AsyncKV[V]:
        """Return the keys of a namespace, which are apart from those of every other one.

        :raises KVError: the name can't be used, or this is a namespace already.
        """
        if self._space.name:
            raise KVError(f"this is the namespace {self._space.name!r} already: ask container.kv() for another one")
        if name == "":
            raise KVError("a namespace has a name, as in kv.namespace('auth')")
        return AsyncKV(self._runner, Space(name), self._codec)

    async def sweep(self, limit: int = BATCH) -> int:
        """Delete so many expired values of all namespaces at most, and return how many there were.

        Nothing shows them in any case; this gives their room back.
        """
        most = limit_of(limit)
        swept, more = 0, True
        while more and not swept:
            swept, more = await self._runner.run(lambda store: store.sweep(most))
        self._runner.stores.tally.add("swept", swept)
        return swept

    def sweep_on_schedule(self, cluster: AsyncCluster, cron: str = "* * * * *") -> AsyncSchedule:
        """Sweep at the times of a cron expression, on one node at a time, until `stop()` or the end of the container.

        A run deletes batch by batch until nothing is left, with a pause in between; where nothing has expired it is
        one look at an index.

        :raises CoordinationError: the expression can't be used, or the store has no leases.
        """
        return cluster.schedule(f"p8fs-kv-sweep:{self._runner.stores.table}", cron, self._sweep_all)

    async def _sweep_all(self) -> None:
        while await self.sweep():
            await asyncio.sleep(_BREATH)

    def cached(
        self, ttl: float | None, *, key: Callable[..., Key] | None = None, name: str | None = None, claim: float = 30
    ) -> Callable[[Callable[P, Awaitable[V]]], AsyncCached[P, V]]:
        """Return a decorator: results of a function are kept for `ttl` seconds, by its `name` and its arguments.

        Of all who ask for one that is not there, in whatever process, one computes, and the others wait. If it has not
        stored a result after `claim` seconds, another one computes, and the first one's result is not kept. `key`: a
        function of the same arguments that returns a key in place of their digest. `forget(*args)` deletes a result.

        :raises KVError: a name or a time can't be used, or the function is of the other kind.
        """
        return async_cached(self._runner, self._space, self._codec, ttl=ttl, key=key, name=name, claim=claim)

    def atomic(self) -> AsyncAtomic[V]:
        """Return checks and writes to gather, which `commit()` does all or not at all."""
        return AsyncAtomic(self._runner, Changes(self._space), self._codec)

    def transaction(self) -> AsyncTransaction[V]:
        """Return an asynchronous context manager: its reads hold at the end of the block, when its writes are done.

        :raises KVConflict: at its end: somebody else wrote what was read; nothing was written.
        """
        return AsyncTransaction(self._runner, self._space, self._codec)

    async def run_in_transaction(self, work: Callable[[AsyncTransaction[V]], Awaitable[T]], *, retry: int = 20) -> T:
        """Return `await work(transaction)`, committed. A conflict with others runs it all again, up to `retry` times.

        :raises KVConflict: the last attempt was one, too.
        """
        if isinstance(retry, bool) or not isinstance(retry, int) or retry < 0:
            raise KVError(f"retry is a number of times, at least 0, not {retry!r}")
        attempt = 0
        while True:
            try:
                async with self.transaction() as transaction:
                    result = await work(transaction)
            except KVConflict:
                if attempt == retry:
                    raise
            else:
                return result
            await asyncio.sleep(pause(_PAUSE, attempt))
            attempt += 1
