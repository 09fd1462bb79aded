"""The handle of the key-value store: its reads, for asyncio.

`reading.py` is made of this file by `scripts/threads.py`.
"""

from __future__ import annotations

import asyncio
import operator
import sys
from collections.abc import AsyncIterator, Iterable
from typing import Any, Generic, Literal, TypeVar, overload

from p8fs_cluster.di.followed import UNKNOWN
from p8fs_cluster.di.teardown import Lasting
from p8fs_cluster.exceptions import KVError, StorageError, StorageUnavailable
from p8fs_cluster.kv.async_ranges import async_pages
from p8fs_cluster.kv.async_running import AsyncRunner
from p8fs_cluster.kv.changes import require_call
from p8fs_cluster.kv.codecs import BYTES, Codec
from p8fs_cluster.kv.direct import Reader, reader
from p8fs_cluster.kv.keys import Key, Space, limit_of, seconds
from p8fs_cluster.kv.scanning import async_flattened
from p8fs_cluster.kv.values import Entry
from p8fs_cluster.providers.storage.kv import Limits, Page

__all__ = ["AsyncReading", "several"]

V = TypeVar("V")
K = TypeVar("K", bound=Key)


class AsyncReading(Lasting, Generic[V]):
    """The reads."""

    def __init__(self, runner: AsyncRunner, space: Space, codec: Codec[V]) -> None:
        self._runner = runner
        self._space = space
        self._codec = codec
        self._reader = runner.stores.followed(self._reader_in_force)

    @property
    def limits(self) -> Limits:
        """The most bytes that the store in force takes, of a key, a value and a call."""
        return self._runner.stores.limits()

    async def get(self, key: Key) -> V | None:
        """Return a value; None: it is not there, or has expired."""
        read = self._reader.known()
        if read is UNKNOWN:
            read = await asyncio.to_thread(operator.call, self._reader)  # it may open the store
        if read is not None:
            try:
                return await asyncio.to_thread(read, key)
            except StorageUnavailable:
                self._reader.forget()
            except StorageError:
                self._runner.stores.tally.add("errors")
                raise
        physical = self._space.physical(key)
        value = await self._runner.run(lambda store: store.value(physical))
        return None if value is None else self._codec.decode(value)

    async def entry(self, key: Key) -> Entry[V] | None:
        """Return a value with its version and the seconds that it has left."""
        found = await self._found(key)
        if found is None:
            return None
        value, version, left = found
        return Entry(self._space.stripped(self._space.physical(key)), self._codec.decode(value), version, seconds(left))

    async def exists(self, key: Key) -> bool:
        """Return whether a value is there."""
        return await self.ttl(key) is not None

    async def ttl(self, key: Key) -> float | None:
        """Return the seconds that a value has left, math.inf if it does not expire; None: it is not there."""
        found = await self._found(key)
        return None if found is None else seconds(found[2])

    async def get_many(self, keys: Iterable[K]) -> dict[K, V]:
        """Return those of the values that are there, as they were at one moment, by their keys as they are given."""
        physical = {key: self._space.physical(key) for key in several(keys)}
        asked = sorted(set(physical.values()))
        if not asked:
            return {}
        require_call(asked, (), self.limits)
        found = await self._runner.run(lambda store: store.entries(asked))
        return {key: self._codec.decode(found[itself][0]) for key, itself in physical.items() if itself in found}

    @overload
    def scan(
        self,
        prefix: Key = b"",
        *,
        start: Key | None = None,
        stop: Key | None = None,
        limit: int | None = None,
        reverse: bool = False,
        keys_only: Literal[True],
    ) -> AsyncIterator[bytes]: ...
    @overload
    def scan(
        self,
        prefix: Key = b"",
        *,
        start: Key | None = None,
        stop: Key | None = None,
        limit: int | None = None,
        reverse: bool = False,
        keys_only: Literal[False] = False,
    ) -> AsyncIterator[tuple[bytes, V]]: ...
    def scan(
        self,
        prefix: Key = b"",
        *,
        start: Key | None = None,
        stop: Key | None = None,
        limit: int | None = None,
        reverse: bool = False,
        keys_only: bool = False,
    ) -> AsyncIterator[Any]:
        """Yield keys and values in the order of bytes, read page by page while others may write.

        `prefix`: what the keys begin with; `start`, `stop`: the first key, and the first that is left out; `limit`: so
        many at most; `keys_only`: the keys without values. To go on later, give `start=last + b"\\\\0"`, or in reverse
        `stop=last`. What is written meanwhile may show or not; what is there all the time shows once.

        :raises KVError: prefix, start, stop or limit can't be used.
        """
        most = sys.maxsize if limit is None else limit_of(limit)
        head = self._space.head
        page = Page(self._space.span(prefix, start, stop), most, reverse, keys_only, len(head))
        return async_flattened(self._decoded(async_pages(self._runner, page, head), keys_only))

    async def count(self, prefix: Key = b"") -> int:
        """Count the keys with a prefix; it reads them all, so it takes as long as there are many."""
        span = self._space.span(prefix)
        return await self._runner.run(lambda store: store.count(span))

    def stats(self) -> dict[str, Any]:
        """Return numbers of this process, of all namespaces: `provider`, `calls` to the store, `errors` of these,
        `conflicts` of atomic calls and transactions, and keys `swept` here.

        >>> from p8fs_cluster import Container
        >>> from p8fs_cluster.testing import memory_storage
        >>> with Container().override_providers(storage=memory_storage()) as container:
        ...     container.async_kv().stats()
        {'provider': 'memory', 'calls': 0, 'errors': 0, 'conflicts': 0, 'swept': 0}
        """
        return self._runner.stores.stats()

    def _reader_in_force(self) -> Reader[V] | None:
        stores = self._runner.stores
        store = stores.at_hand()
        if store is None:
            return None
        read = reader(stores, store, self._space, self._codec)
        return read  # noqa: RET504  (mypy would infer another type)

    async def _found(self, key: Key) -> tuple[bytes, int, int | None] | None:
        physical = self._space.physical(key)
        return (await self._runner.run(lambda store: store.entries((physical,)))).get(physical)

    async def _decoded(self, pages: AsyncIterator[list[Any]], keys_only: bool) -> AsyncIterator[list[Any]]:
        plain, decode = keys_only or self._codec is BYTES, self._codec.decode
        async for page in pages:
            yield page if plain else [(key, decode(value)) for key, value in page]


def several(keys: Iterable[K]) -> list[K]:
    """Return keys that were given to one call.

    :raises KVError: they are one key.
    """
    if isinstance(keys, str | bytes):
        raise KVError("several keys are a list of them, not one key")
    return list(keys)
