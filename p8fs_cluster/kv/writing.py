"""The handle of the key-value store: its writes, for threads.

Made by `scripts/threads.py`: edit `writing.py`.
"""

from __future__ import annotations

import operator
from collections.abc import Iterable, Mapping
from itertools import repeat
from typing import TypeVar

from p8fs_cluster.di.followed import UNKNOWN
from p8fs_cluster.exceptions import KVError, StorageError, StorageUnavailable
from p8fs_cluster.kv.changes import require_call, require_value
from p8fs_cluster.kv.codecs import Codec
from p8fs_cluster.kv.direct import Writer, writer
from p8fs_cluster.kv.keys import Key, Space, microseconds, new_version, version_given
from p8fs_cluster.kv.ranges import delete_span
from p8fs_cluster.kv.reading import Reading, several
from p8fs_cluster.kv.running import Runner
from p8fs_cluster.kv.values import Counted
from p8fs_cluster.providers.storage.kv import Increment, Put
from p8fs_cluster.providers.storage.kv_decisions import LARGEST

__all__ = ["Writing"]

V = TypeVar("V")
K = TypeVar("K", bound=Key)


class Writing(Reading[V]):
    """The writes, beside the reads."""

    def __init__(self, runner: Runner, space: Space, codec: Codec[V]) -> None:
        super().__init__(runner, space, codec)
        self._writer = runner.stores.followed(self._writer_in_force)

    def put(self, key: Key, value: V, *, ttl: float | None = None) -> int:
        """Write a value, whatever was there, and return its version. `ttl`: seconds until it is gone; None: never.

        :raises KVError: key, value or ttl can't be used; nothing was sent.
        """
        write = self._writer.known()
        if write is UNKNOWN:
            write = operator.call(self._writer)  # it may open the store
        if write is not None:
            try:
                return write(key, value, ttl=ttl)
            except StorageUnavailable:
                self._writer.forget()
            except StorageError:
                self._runner.stores.tally.add("errors")
                raise
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
        asked = {self._space.physical(key) for key in several(keys)}
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
