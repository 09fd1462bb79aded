"""Calls on an embedded store in few steps: it answers in less than a microsecond."""

from __future__ import annotations

from collections.abc import Callable
from typing import Protocol, TypeVar

from p8fs_cluster.exceptions import StorageUnavailable
from p8fs_cluster.kv.changes import require_value
from p8fs_cluster.kv.codecs import BYTES, Codec
from p8fs_cluster.kv.keys import Key, Space, microseconds, new_version
from p8fs_cluster.kv.stores import Stores
from p8fs_cluster.kv.tally import INSTRUMENTS
from p8fs_cluster.providers.storage.kv import Put
from p8fs_cluster.providers.storage.kv_pairs import DATA, LASTING, SIZE, KeyPairs, Record, lasting

__all__ = ["Reader", "Writer", "reader", "writer"]

V = TypeVar("V")
W_contra = TypeVar("W_contra", contravariant=True)

Reader = Callable[[Key], V | None]
_OFTEN = 0xFF
"""Among so many calls it is seen that somebody has imported OpenTelemetry."""


class Writer(Protocol[W_contra]):
    """A function that writes a value, and returns its version."""

    def __call__(self, key: Key, value: W_contra, *, ttl: float | None = None) -> int: ...


def reader(stores: Stores, store: KeyPairs, space: Space, codec: Codec[V]) -> Reader[V]:
    """Return a function that returns a value, or None.

    It raises StorageUnavailable where the store was closed, or a write to it failed: it is to be had anew then.
    """
    pairs, head, room = store.pairs, DATA + space.head, space.room
    count, plain, decode = stores.tally.call, codec is BYTES, codec.decode

    def read(key: Key) -> V | None:
        known = type(key) is bytes and 0 < len(key) <= room
        physical = head + key if known else DATA + space.physical(key)  # type: ignore[operator]
        if not count() & _OFTEN:
            INSTRUMENTS.measure(stores)
        try:
            stored = pairs.get(physical)
        except Exception as exc:
            raise pairs.failed(exc) from exc
        if not pairs.usable:
            raise StorageUnavailable("the store of this call was closed, or is opened anew")
        if stored is None:
            return None
        if stored.startswith(LASTING):
            return stored[SIZE:] if plain else decode(stored[SIZE:])  # type: ignore[return-value]
        record = Record.read(stored)
        return decode(record.value) if record.is_live(pairs.now()) else None

    return read


def writer(stores: Stores, store: KeyPairs, space: Space, codec: Codec[V]) -> Writer[V]:
    """Return a function that writes a value, and raises as a reader does."""
    pairs, limits = store.pairs, stores.limits()
    count, encode, most = stores.tally.call, codec.encode, limits.value_bytes

    def write(key: Key, value: V, *, ttl: float | None = None) -> int:
        encoded = encode(value)
        if len(encoded) > most:
            require_value(encoded, limits)
        physical, version, left = space.physical(key), new_version(), microseconds(ttl)
        if not count() & _OFTEN:
            INSTRUMENTS.measure(stores)
        if left is None:
            pairs.put(DATA + physical, lasting(version, encoded))
        else:
            store.put((Put(physical, encoded, version, left),))
        return version

    return write
