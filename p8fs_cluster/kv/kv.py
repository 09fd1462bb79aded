"""The handle of the key-value store, for threads.

Made by `scripts/threads.py`: edit `kv.py`.
"""

from __future__ import annotations

import sys
import time
from collections.abc import Callable, Iterable, Iterator, Mapping
from itertools import repeat
from typing import TYPE_CHECKING, Any, Generic, Literal, ParamSpec, TypeVar, overload

from p8fs_cluster.di.teardown import Lasting
from p8fs_cluster.exceptions import KVConflict, KVError, StorageUnavailable
from p8fs_cluster.kv.cached import Cached, cached
from p8fs_cluster.kv.changes import Changes, require_call, require_value
from p8fs_cluster.kv.codecs import BYTES, JSON, Codec, codec_of
from p8fs_cluster.kv.direct import Reader, Writer, reader, writer
from p8fs_cluster.kv.keys import Key, Space, limit_of, microseconds, new_version, seconds, version_given
from p8fs_cluster.kv.ranges import delete_span, pages
from p8fs_cluster.kv.running import Runner
from p8fs_cluster.kv.scanning import BATCH, flattened
from p8fs_cluster.kv.sessions import Session
from p8fs_cluster.kv.transaction import Atomic, Transaction
from p8fs_cluster.kv.values import Counted, Entry
from p8fs_cluster.providers.storage.kv import Increment, Limits, Page, Put
from p8fs_cluster.providers.storage.kv_decisions import LARGEST
from p8fs_cluster.providers.storage.retries import pause

if TYPE_CHECKING:
    from p8fs_cluster.coordination.cluster import Cluster
    from p8fs_cluster.coordination.schedule import Schedule

__all__ = ["KV"]

T = TypeVar("T")
V = TypeVar("V")
M = TypeVar("M")
K = TypeVar("K", bound=Key)
P = ParamSpec("P")

_PAUSE = 0.01
"""Seconds to begin with between two runs of a transaction."""
_BREATH = 0.05
"""Seconds between two batches of a sweep, which belong to those who use the store."""


class KV(Lasting, Generic[V]):
    """Values under keys, in the store of the settings: keep it, share it, inject it.

    Keys are bytes, or text that stands for its UTF-8. Each value has a version, which no other value of its key ever
    has, not after a delete either. A value with a `ttl` is gone when the store's clock says so.

    >>> from p8fs_cluster import Container
    >>> from p8fs_cluster.testing import memory_storage
    >>> def kept() -> bytes | None:
    ...     with Container().override_providers(storage=memory_storage()) as container:
    ...         codes = container.kv().namespace("codes")
    ...         codes.put("4711", b"ada", ttl=60)
    ...         return codes.take("4711")
    >>> kept()
    b'ada'
    """

    def __init__(self, runner: Runner, space: Space, codec: Codec[V]) -> None:
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
    def json(self) -> KV[Any]:
        """The same keys, whose values are what JSON has."""
        return KV(self._runner, self._space, JSON)

    def typed(self, model: type[M]) -> KV[M]:
        """Return the same keys, whose values are instances of a pydantic model or a dataclass, stored as JSON.

        :raises KVError: it is none.
        """
        return KV(self._runner, self._space, codec_of(model))

    def session(self) -> Session[V]:
        """Return a context manager that gives these keys, an embedded store held for the block: `get` and
        `put` take less time then.

        Each call commits by itself, as always. A server is asked as outside of a session: nothing is borrowed.
        """
        return Session(self, self._runner.stores, self._reader, self._writer)

    def namespace(self, name: str) -> KV[V]:
        """Return the keys of a namespace, which are apart from those of every other one.

        :raises KVError: the name can't be used, or this is a namespace already.
        """
        if self._space.name:
            raise KVError(f"this is the namespace {self._space.name!r} already: ask container.kv() for another one")
        if name == "":
            raise KVError("a namespace has a name, as in kv.namespace('auth')")
        return KV(self._runner, Space(name), self._codec)

    def get(self, key: Key) -> V | None:
        """Return a value; None: it is not there, or has expired."""
        read = self._reader()
        if read is not None:
            try:
                return read(key)
            except StorageUnavailable:
                self._reader.forget()
        physical = self._space.physical(key)
        value = self._runner.run(lambda store: store.value(physical))
        return None if value is None else self._codec.decode(value)

    def entry(self, key: Key) -> Entry[V] | None:
        """Return a value with its version and the seconds that it has left."""
        found = self._found(key)
        if found is None:
            return None
        value, version, left = found
        return Entry(self._space.stripped(self._space.physical(key)), self._codec.decode(value), version, seconds(left))

    def exists(self, key: Key) -> bool:
        """Return whether a value is there."""
        return self.ttl(key) is not None

    def ttl(self, key: Key) -> float | None:
        """Return the seconds that a value has left, math.inf if it does not expire; None: it is not there."""
        found = self._found(key)
        return None if found is None else seconds(found[2])

    def get_many(self, keys: Iterable[K]) -> dict[K, V]:
        """Return those of the values that are there, as they were at one moment, by their keys as they are given."""
        physical = {key: self._space.physical(key) for key in _several(keys)}
        asked = sorted(set(physical.values()))
        if not asked:
            return {}
        require_call(asked, (), self.limits)
        found = self._runner.run(lambda store: store.entries(asked))
        return {key: self._codec.decode(found[itself][0]) for key, itself in physical.items() if itself in found}

    def put(self, key: Key, value: V, *, ttl: float | None = None) -> int:
        """Write a value, whatever was there, and return its version. `ttl`: seconds until it is gone; None: never.

        :raises KVError: key, value or ttl can't be used; nothing was sent.
        """
        write = self._writer()
        if write is not None:
            try:
                return write(key, value, ttl=ttl)
            except StorageUnavailable:
                self._writer.forget()
        put = self._put(key, value, ttl)
        self._runner.run(lambda store: store.put((put,)))
        return put.version

    def put_many(self, items: Mapping[K, V], *, ttl: float | None = None) -> dict[K, int]:
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
            self._runner.run(lambda store: store.put(puts))
        return dict(zip(given, versions, strict=True))

    def delete(self, key: Key) -> None:
        """Delete a value, if it is there."""
        self.delete_many((key,))

    def delete_many(self, keys: Iterable[Key]) -> None:
        """Delete those of the values that are there, all or none."""
        asked = {self._space.physical(key) for key in _several(keys)}
        if asked:
            require_call(asked, (), self.limits)
            self._runner.run(lambda store: store.delete(asked))

    def put_if_absent(self, key: Key, value: V, *, ttl: float | None = None) -> int | None:
        """Write a value if there is none, and return its version; None: there is one."""
        put = self._put(key, value, ttl)
        return put.version if self._runner.run(lambda store: store.put_if_absent(put)) else None

    def compare_and_set(self, key: Key, version: int, value: V, *, ttl: float | None = None) -> int | None:
        """Write a value in place of the one with this version, and return the new version; None: it is not there."""
        put, old = self._put(key, value, ttl), version_given(version)
        return put.version if self._runner.run(lambda store: store.compare_and_set(put, old)) else None

    def delete_if(self, key: Key, version: int) -> bool:
        """Delete the value with this version, and return whether it was there."""
        physical, old = self._space.physical(key), version_given(version)
        return self._runner.run(lambda store: store.delete_if(physical, old))

    def take(self, key: Key) -> V | None:
        """Delete a value and return it; of several who take it at once, one gets it. None: it is not there.

        :raises KVError: the value is none of `json` or `typed(Model)`; it stays.
        """
        physical = self._space.physical(key)
        if self._codec.is_total:
            value = self._runner.run(lambda store: store.take(physical))
            return None if value is None else self._codec.decode(value)
        while (entry := self.entry(key)) is not None:
            if self.delete_if(key, entry.version):
                return entry.value
        return None

    def expire(self, key: Key, ttl: float | None) -> int | None:
        """Let a value expire in so many seconds, None: never, and return its new version; None: it is not there."""
        physical, version, left = self._space.physical(key), new_version(), microseconds(ttl)
        return version if self._runner.run(lambda store: store.expire(physical, version, left)) else None

    def increment(self, key: Key, by: int = 1, *, ttl_on_create: float | None = None) -> Counted:
        """Add to the number that a value holds as decimal text, and return the sum, which has the new `version`.

        A value that is not there is made, with `ttl_on_create`; the end of one that is there stays.

        :raises KVError: the value is no number, or the sum has more than 64 bits; it stays as it is then.
        """
        if isinstance(by, bool) or not isinstance(by, int) or abs(by) > LARGEST:
            raise KVError("increment adds an int of at most 64 bits")
        increment = Increment(self._space.physical(key), by, new_version(), microseconds(ttl_on_create))
        total = self._runner.run(lambda store: store.increment(increment))
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
    ) -> Iterator[bytes]: ...
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
    ) -> Iterator[tuple[bytes, V]]: ...
    def scan(
        self,
        prefix: Key = b"",
        *,
        start: Key | None = None,
        stop: Key | None = None,
        limit: int | None = None,
        reverse: bool = False,
        keys_only: bool = False,
    ) -> Iterator[Any]:
        """Yield keys and values in the order of bytes, read page by page while others may write.

        `prefix`: what the keys begin with; `start`, `stop`: the first key, and the first that is left out; `limit`: so
        many at most; `keys_only`: the keys without values. To go on later, give `start=last + b"\\\\0"`, or in reverse
        `stop=last`. What is written meanwhile may show or not; what is there all the time shows once.

        :raises KVError: prefix, start, stop or limit can't be used.
        """
        most = sys.maxsize if limit is None else limit_of(limit)
        head = self._space.head
        page = Page(self._space.span(prefix, start, stop), most, reverse, keys_only, len(head))
        return flattened(self._decoded(pages(self._runner, page, head), keys_only))

    def count(self, prefix: Key = b"") -> int:
        """Count the keys with a prefix; it reads them all, so it takes as long as there are many."""
        span = self._space.span(prefix)
        return self._runner.run(lambda store: store.count(span))

    def clear(self) -> None:
        """Delete all keys of this namespace, as `delete_prefix` does."""
        delete_span(self._runner, self._space.span())

    def delete_prefix(self, prefix: Key) -> None:
        """Delete the keys with a prefix, in batches: it is not atomic, and what is written meanwhile may stay.

        :raises KVError: the prefix is empty; `clear` deletes all keys.
        """
        if not prefix:
            raise KVError("delete_prefix was given an empty prefix: use clear() to delete all keys of the namespace")
        delete_span(self._runner, self._space.span(prefix))

    def sweep(self, limit: int = BATCH) -> int:
        """Delete so many expired values of all namespaces at most, and return how many there were.

        Nothing shows them in any case; this gives their room back.
        """
        most = limit_of(limit)
        swept, more = 0, True
        while more and not swept:
            swept, more = self._runner.run(lambda store: store.sweep(most))
        self._runner.stores.tally.add("swept", swept)
        return swept

    def sweep_on_schedule(self, cluster: Cluster, cron: str = "* * * * *") -> Schedule:
        """Sweep at the times of a cron expression, on one node at a time, until `stop()` or the end of the container.

        A run deletes batch by batch until nothing is left, with a pause in between; where nothing has expired it is
        one look at an index.

        :raises CoordinationError: the expression can't be used, or the store has no leases.
        """
        return cluster.schedule(f"p8fs-kv-sweep:{self._runner.stores.table}", cron, self._sweep_all)

    def _sweep_all(self) -> None:
        while self.sweep():
            time.sleep(_BREATH)

    def stats(self) -> dict[str, Any]:
        """Return numbers of this process, of all namespaces: `provider`, `calls` to the store, `errors` of these,
        `conflicts` of atomic calls and transactions, and keys `swept` here.

        >>> from p8fs_cluster import Container
        >>> from p8fs_cluster.testing import memory_storage
        >>> with Container().override_providers(storage=memory_storage()) as container:
        ...     container.kv().stats()
        {'provider': 'memory', 'calls': 0, 'errors': 0, 'conflicts': 0, 'swept': 0}
        """
        return self._runner.stores.stats()

    def cached(
        self, ttl: float | None, *, key: Callable[..., Key] | None = None, name: str | None = None, claim: float = 30
    ) -> Callable[[Callable[P, V]], Cached[P, V]]:
        """Return a decorator: results of a function are kept for `ttl` seconds, by its `name` and its arguments.

        Of all who ask for one that is not there, in whatever process, one computes, and the others wait. If it has not
        stored a result after `claim` seconds, another one computes, and the first one's result is not kept. `key`: a
        function of the same arguments that returns a key in place of their digest. `forget(*args)` deletes a result.

        :raises KVError: a name or a time can't be used, or the function is of the other kind.
        """
        return cached(self._runner, self._space, self._codec, ttl=ttl, key=key, name=name, claim=claim)

    def atomic(self) -> Atomic[V]:
        """Return checks and writes to gather, which `commit()` does all or not at all."""
        return Atomic(self._runner, Changes(self._space), self._codec)

    def transaction(self) -> Transaction[V]:
        """Return a context manager: its reads hold at the end of the block, when its writes are done.

        :raises KVConflict: at its end: somebody else wrote what was read; nothing was written.
        """
        return Transaction(self._runner, self._space, self._codec)

    def run_in_transaction(self, work: Callable[[Transaction[V]], T], *, retry: int = 20) -> T:
        """Return `work(transaction)`, committed. A conflict with others runs it all again, up to `retry` times.

        :raises KVConflict: the last attempt was one, too.
        """
        for attempt in range(retry + 1):
            try:
                with self.transaction() as transaction:
                    result = work(transaction)
            except KVConflict:
                if attempt == retry:
                    raise
            else:
                return result
            time.sleep(pause(_PAUSE, attempt))
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

    def _found(self, key: Key) -> tuple[bytes, int, int | None] | None:
        physical = self._space.physical(key)
        return (self._runner.run(lambda store: store.entries((physical,)))).get(physical)

    def _decoded(self, pages: Iterator[list[Any]], keys_only: bool) -> Iterator[list[Any]]:
        plain, decode = keys_only or self._codec is BYTES, self._codec.decode
        for page in pages:
            yield page if plain else [(key, decode(value)) for key, value in page]


def _several(keys: Iterable[K]) -> list[K]:
    if isinstance(keys, str | bytes):
        raise KVError("several keys are a list of them, not one key")
    return list(keys)


def _mapping(items: Mapping[K, V]) -> Mapping[K, V]:
    if not isinstance(items, Mapping):
        raise KVError(f"put_many takes a dict of keys and values, not {type(items).__name__}")
    return items
