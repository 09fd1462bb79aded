"""The handle of the key-value store: its writes, for asyncio.

`writing.py` is made of this file by `scripts/threads.py`.
"""

from __future__ import annotations

import asyncio
import operator
from collections.abc import Iterable, Mapping
from itertools import repeat
from typing import TypeVar

from p8fs_cluster.di.followed import UNKNOWN
from p8fs_cluster.exceptions import KVError, StorageError, StorageUnavailable
from p8fs_cluster.kv.async_ranges import async_delete_span
from p8fs_cluster.kv.async_reading import AsyncReading, several
from p8fs_cluster.kv.async_running import AsyncRunner
from p8fs_cluster.kv.changes import require_call, require_value
from p8fs_cluster.kv.codecs import Codec
from p8fs_cluster.kv.direct import Writer, writer
from p8fs_cluster.kv.keys import Key, Space, microseconds, new_version, version_given
from p8fs_cluster.kv.values import Counted
from p8fs_cluster.providers.storage.kv import Increment, Put
from p8fs_cluster.providers.storage.kv_decisions import LARGEST

__all__ = ["AsyncWriting"]

V = TypeVar("V")
K = TypeVar("K", bound=Key)


class AsyncWriting(AsyncReading[V]):
    """The writes, beside the reads."""

    def __init__(self, runner: AsyncRunner, space: Space, codec: Codec[V]) -> None:
        super().__init__(runner, space, codec)
        self._writer = runner.stores.followed(self._writer_in_force)

    async def put(self, key: Key, value: V, *, ttl: float | None = None) -> int:
        """Write a value, whatever was there, and return its version. `ttl`: seconds until it is gone; None: never.

        :raises KVError: key, value or ttl can't be used; nothing was sent.
        """
        write = self._writer.known()
        if write is UNKNOWN:
            write = await asyncio.to_thread(operator.call, self._writer)  # it may open the store
        if write is not None:
            try:
                return await asyncio.to_thread(write, key, value, ttl=ttl)
            except StorageUnavailable:
                self._writer.forget()
            except StorageError:
                self._runner.stores.tally.add("errors")
                raise
        put = self._put(key, value, ttl)
        await self._runner.run(lambda store: store.put((put,)))
        return put.version

    async def put_many(self, items: Mapping[K, V], *, ttl: float | None = None) -> dict[K, int]:
        """Write values, all or none, and return their versions.

        :raises KVError: a key, a value or the ttl can't be used, or they are too many for one call; nothing was sent.
        """
        given, left = _mapping(items), microseconds(ttl)
        keys = list(map(self._space.physical, given))
        values = list(map(self._codec.encode, given.values()))
        if len(set(keys)) < len(keys):
            raise KVError("put_many was given the same key twice, as text and as bytes")
        require_call(keys, values, self.limits)
        versions = [new_version() for _ in keys]
        puts = list(map(Put._make, zip(keys, values, versions, repeat(left), repeat(None))))
        if puts:
            await self._runner.run(lambda store: store.put(puts))
        return dict(zip(given, versions, strict=True))

    async def delete(self, key: Key) -> None:
        """Delete a value, if it is there."""
        await self.delete_many((key,))

    async def delete_many(self, keys: Iterable[Key]) -> None:
        """Delete those of the values that are there, all or none."""
        asked = {self._space.physical(key) for key in several(keys)}
        if asked:
            require_call(asked, (), self.limits)
            await self._runner.run(lambda store: store.delete(asked))

    async def put_if_absent(self, key: Key, value: V, *, ttl: float | None = None) -> int | None:
        """Write a value if there is none, and return its version; None: there is one."""
        put = self._put(key, value, ttl)
        return put.version if await self._runner.run(lambda store: store.put_if_absent(put)) else None

    async def compare_and_set(self, key: Key, version: int, value: V, *, ttl: float | None = None) -> int | None:
        """Write a value in place of the one with this version, and return the new version; None: it is not there."""
        put, old = self._put(key, value, ttl), version_given(version)
        return put.version if await self._runner.run(lambda store: store.compare_and_set(put, old)) else None

    async def delete_if(self, key: Key, version: int) -> bool:
        """Delete the value with this version, and return whether it was there."""
        physical, old = self._space.physical(key), version_given(version)
        return await self._runner.run(lambda store: store.delete_if(physical, old))

    async def take(self, key: Key) -> V | None:
        """Delete a value and return it; of several who take it at once, one gets it. None: it is not there.

        :raises KVError: the value is none of `json` or `typed(Model)`; it stays.
        """
        physical = self._space.physical(key)
        if self._codec.is_total:
            value = await self._runner.run(lambda store: store.take(physical))
            return None if value is None else self._codec.decode(value)
        while (entry := await self.entry(key)) is not None:
            if await self.delete_if(key, entry.version):
                return entry.value
        return None

    async def expire(self, key: Key, ttl: float | None) -> int | None:
        """Let a value expire in so many seconds, None: never, and return its new version; None: it is not there."""
        physical, version, left = self._space.physical(key), new_version(), microseconds(ttl)
        return version if await self._runner.run(lambda store: store.expire(physical, version, left)) else None

    async def increment(self, key: Key, by: int = 1, *, ttl_on_create: float | None = None) -> Counted:
        """Add to the number that a value holds as decimal text, and return the sum, which has the new `version`.

        A value that is not there is made, with `ttl_on_create`; the end of one that is there stays.

        :raises KVError: the value is no number, or the sum has more than 64 bits; it stays as it is then.
        """
        if isinstance(by, bool) or not isinstance(by, int) or abs(by) > LARGEST:
            raise KVError("increment adds an int of at most 64 bits")
        increment = Increment(self._space.physical(key), by, new_version(), microseconds(ttl_on_create))
        total = await self._runner.run(lambda store: store.increment(increment))
        if total is None:
            raise KVError("increment: the value is no decimal number of 64 bits, or the sum would have more")
        return Counted.of(total, increment.version)

    async def clear(self) -> None:
        """Delete all keys of this namespace, as `delete_prefix` does."""
        await async_delete_span(self._runner, self._space.span())

    async def delete_prefix(self, prefix: Key) -> None:
        """Delete the keys with a prefix, in batches: it is not atomic, and what is written meanwhile may stay.

        :raises KVError: the prefix is empty; `clear` deletes all keys.
        """
        if not prefix:
            raise KVError("delete_prefix was given an empty prefix: use clear() to delete all keys of the namespace")
        await async_delete_span(self._runner, self._space.span(prefix))

    def _writer_in_force(self) -> Writer[V] | None:
        stores = self._runner.stores
        store = stores.at_hand()
        return None if store is None else writer(stores, store, self._space, self._codec)

    def _put(self, key: Key, value: V, ttl: float | None) -> Put:
        encoded = self._codec.encode(value)
        require_value(encoded, self.limits)
        return Put(self._space.physical(key), encoded, new_version(), microseconds(ttl))


def _mapping(items: Mapping[K, V]) -> Mapping[K, V]:
    if not isinstance(items, Mapping):
        raise KVError(f"put_many takes a dict of keys and values, not {type(items).__name__}")
    return items
