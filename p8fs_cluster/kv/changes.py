"""The checks and writes of one atomic call, gathered and measured before they are sent."""

from __future__ import annotations

from collections.abc import Collection

from p8fs_cluster.exceptions import KVError
from p8fs_cluster.kv.keys import Key, Space, new_version
from p8fs_cluster.providers.storage.kv import Limits, Put

__all__ = ["Changes", "require_call", "require_value"]


class Changes:
    """Checks, puts and deletes of one namespace; the last word on a key counts."""

    def __init__(self, space: Space) -> None:
        self._space = space
        self.checks: dict[bytes, int | None] = {}
        self.puts: dict[bytes, Put] = {}
        self.deletes: set[bytes] = set()
        self._given: dict[bytes, Key] = {}

    def physical(self, key: Key) -> bytes:
        """Return a key as the store has it."""
        return self._space.physical(key)

    def put(self, key: Key, value: bytes, ttl: int | None) -> int:
        """Note a value, and return its version."""
        physical = self._space.physical(key)
        put = self.puts[physical] = Put(physical, value, new_version(), ttl)
        self._given[physical] = key
        self.deletes.discard(physical)
        return put.version

    def delete(self, key: Key) -> None:
        """Note that a key is to go."""
        physical = self._space.physical(key)
        self.deletes.add(physical)
        self.puts.pop(physical, None)

    def versions(self) -> dict[Key, int]:
        """Return the versions of the puts, by their keys as they were given."""
        return {self._given[physical]: put.version for physical, put in self.puts.items()}

    def require_fit(self, limits: Limits) -> None:
        """Return if all of it fits into one call.

        :raises KVError: it does not.
        """
        values = [put.value for put in self.puts.values()]
        require_call([*self.checks, *self.deletes, *self.puts], values, limits)


def require_value(value: bytes, limits: Limits) -> None:
    """Return if a value is not too long.

    :raises KVError: it is.
    """
    if len(value) > limits.value_bytes:
        raise KVError(
            f"a value has at most {limits.value_bytes:,} bytes here (kv.limits.value_bytes), not {len(value):,}: "
            "keep it elsewhere, and its place here"
        )


def require_call(keys: Collection[bytes], values: Collection[bytes], limits: Limits) -> None:
    """Return if no value is too long, and all that one call sends is not too much to be atomic.

    :raises KVError: it is.
    """
    require_value(max(values, key=len, default=b""), limits)
    size = sum(map(len, keys)) + sum(map(len, values))
    if size > limits.call_bytes:
        raise KVError(
            f"one call has at most {limits.call_bytes:,} bytes of keys and values here (kv.limits.call_bytes), not "
            f"{size:,}, and is never split: write them in several calls"
        )
