"""The handle of the key-value store, for asyncio.

`kv.py` is made of this file by `scripts/threads.py`.
"""

from __future__ import annotations

import asyncio  # sleeps
import sys
from collections.abc import AsyncIterator, Awaitable, Callable, Iterable, Mapping
from itertools import repeat
from typing import TYPE_CHECKING, Any, Generic, Literal, ParamSpec, TypeVar, overload

from p8fs_cluster.di.teardown import Lasting
from p8fs_cluster.exceptions import KVConflict, KVError, StorageUnavailable
from p8fs_cluster.kv.async_cached import AsyncCached, async_cached
from p8fs_cluster.kv.async_ranges import async_delete_span, async_pages
from p8fs_cluster.kv.async_running import AsyncRunner
from p8fs_cluster.kv.async_transaction import AsyncAtomic, AsyncTransaction
from p8fs_cluster.kv.changes import Changes, require_call, require_value
from p8fs_cluster.kv.codecs import BYTES, JSON, Codec, codec_of
from p8fs_cluster.kv.direct import Reader, Writer, reader, writer
from p8fs_cluster.kv.keys import Key, Space, limit_of, microseconds, new_version, seconds, version_given
from p8fs_cluster.kv.scanning import BATCH, async_flattened
from p8fs_cluster.kv.sessions import AsyncSession
from p8fs_cluster.kv.values import Counted, Entry
from p8fs_cluster.providers.storage.kv import Increment, Limits, Page, Put
from p8fs_cluster.providers.storage.kv_decisions import LARGEST
from p8fs_cluster.providers.storage.retries import pause

if TYPE_CHECKING:
    from p8fs_cluster.coordination.async_cluster import AsyncCluster
    from p8fs_cluster.coordination.async_schedule import AsyncSchedule

__all__ = ["AsyncKV"]

T = TypeVar("T")
V = TypeVar("V")
M = TypeVar("M")
K = TypeVar("K", bound=Key)
P = ParamSpec("P")

_PAUSE = 0.01
"""Seconds to begin with between two runs of a transaction."""
_BREATH = 0.05
"""Seconds between two batches of a sweep, which belong to those who use the store."""


class AsyncKV(Lasting, Generic[V]):
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

    def __init__(self, runner: AsyncRunner, space: Space, codec: Codec[V]) -> None:
        self._runner = runner
        self._space = space
        self._codec = codec
        self._reader = runner.stores.followed(self._reader_in_force)
        self._writer = runner.stores.followed(self._writer_in_force)

    @property
    def limits(self) -> Limits:
        """The most bytes that the store in force takes, of a key, a value and a call."""
        return self._runner.stores.limits()

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

    async def get(self, key: Key) -> V | None:
        """Return a value; None: it is not there, or has expired."""
        read = self._reader()
        if read is not None:
            try:
                return await asyncio.to_thread(read, key)
            except StorageUnavailable:
                self._reader.forget()
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
        physical = {key: self._space.physical(key) for key in _several(keys)}
        asked = sorted(set(physical.values()))
        if not asked:
            return {}
        require_call(asked, (), self.limits)
        found = await self._runner.run(lambda store: store.entries(asked))
        return {key: self._codec.decode(found[itself][0]) for key, itself in physical.items() if itself in found}

    async def put(self, key: Key, value: V, *, ttl: float | None = None) -> int:
        """Write a value, whatever was there, and return its version. `ttl`: seconds until it is gone; None: never.

        :raises KVError: key, value or ttl can't be used; nothing was sent.
        """
        write = self._writer()
        if write is not None:
            try:
                return await asyncio.to_thread(write, key, value, ttl=ttl)
            except StorageUnavailable:
                self._writer.forget()
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
        asked = {self._space.physical(key) for key in _several(keys)}
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
        for attempt in range(retry + 1):
            try:
                async with self.transaction() as transaction:
                    result = await work(transaction)
            except KVConflict:
                if attempt == retry:
                    raise
            else:
                return result
            await asyncio.sleep(pause(_PAUSE, attempt))
        raise KVError(f"retry is a number of times, at least 0, not {retry!r}")

    def _reader_in_force(self) -> Reader[V] | None:
        stores = self._runner.stores
        store = stores.at_hand()
        if store is None:
            return None
        read = reader(stores, store, self._space, self._codec)
        return read  # noqa: RET504  (mypy would infer another type)

    def _writer_in_force(self) -> Writer[V] | None:
        stores = self._runner.stores
        store = stores.at_hand()
        return None if store is None else writer(stores, store, self._space, self._codec)

    def _put(self, key: Key, value: V, ttl: float | None) -> Put:
        encoded = self._codec.encode(value)
        require_value(encoded, self.limits)
        return Put(self._space.physical(key), encoded, new_version(), microseconds(ttl))

    async def _found(self, key: Key) -> tuple[bytes, int, int | None] | None:
        physical = self._space.physical(key)
        return (await self._runner.run(lambda store: store.entries((physical,)))).get(physical)

    async def _decoded(self, pages: AsyncIterator[list[Any]], keys_only: bool) -> AsyncIterator[list[Any]]:
        plain, decode = keys_only or self._codec is BYTES, self._codec.decode
        async for page in pages:
            yield page if plain else [(key, decode(value)) for key, value in page]


def _several(keys: Iterable[K]) -> list[K]:
    if isinstance(keys, str | bytes):
        raise KVError("several keys are a list of them, not one key")
    return list(keys)


def _mapping(items: Mapping[K, V]) -> Mapping[K, V]:
    if not isinstance(items, Mapping):
        raise KVError(f"put_many takes a dict of keys and values, not {type(items).__name__}")
    return items
