"""The key-value store by the protocol of py-key-value-aio, for libraries that take one, as FastMCP does.

Nothing of that package is imported: its `AsyncKeyValue` is a `typing.Protocol`.
"""

from __future__ import annotations

import math
from collections.abc import Mapping, Sequence
from typing import Any, SupportsFloat

from p8fs_cluster.exceptions import KVError
from p8fs_cluster.kv.async_kv import AsyncKV

__all__ = ["PyKeyValue"]


class PyKeyValue:
    """An `AsyncKeyValue` whose collections are in one namespace: `PyKeyValue(container.async_kv().namespace("mcp"))`.

    A key there is the collection, NUL, and the key, so that no two collections can meet; `None` and "" are the default
    collection, whose name is empty. Values are JSON objects.

    :raises KVError: by any method, a collection, key, value or ttl can't be used; nothing was sent.
    """

    def __init__(self, kv: AsyncKV[bytes]) -> None:
        self._kv = kv
        self._json = kv.json

    async def get(self, key: str, *, collection: str | None = None) -> dict[str, Any] | None:
        """Return a value; None: it is not there."""
        return _object(await self._json.get(_key(collection, key)))

    async def ttl(self, key: str, *, collection: str | None = None) -> tuple[dict[str, Any] | None, float | None]:
        """Return a value and the seconds that it has left, None if it does not expire; twice None: it is not there."""
        entry = await self._json.entry(_key(collection, key))
        if entry is None:
            return None, None
        return _object(entry.value), None if entry.ttl == math.inf else entry.ttl

    async def put(
        self, key: str, value: Mapping[str, Any], *, collection: str | None = None, ttl: SupportsFloat | None = None
    ) -> None:
        """Write a value. `ttl`: seconds until it is gone; None: never."""
        await self.put_many((key,), (value,), collection=collection, ttl=ttl)

    async def delete(self, key: str, *, collection: str | None = None) -> bool:
        """Delete a value, and return whether it was there; of several who do it at once, one is told so."""
        return await self._kv.take(_key(collection, key)) is not None

    async def get_many(self, keys: Sequence[str], *, collection: str | None = None) -> list[dict[str, Any] | None]:
        """Return values in the order of their keys, as they were at one moment."""
        asked = [_key(collection, key) for key in keys]
        found = await self._json.get_many(asked)
        return [_object(found.get(key)) for key in asked]

    async def ttl_many(
        self, keys: Sequence[str], *, collection: str | None = None
    ) -> list[tuple[dict[str, Any] | None, float | None]]:
        """Return what `ttl` returns, one key after the other."""
        return [await self.ttl(key, collection=collection) for key in keys]

    async def put_many(
        self,
        keys: Sequence[str],
        values: Sequence[Mapping[str, Any]],
        *,
        collection: str | None = None,
        ttl: SupportsFloat | None = None,
    ) -> None:
        """Write values, all or none."""
        if len(keys) != len(values):
            raise KVError(f"put_many takes as many values as keys, not {len(values)} and {len(keys)}")
        if not all(isinstance(value, Mapping) for value in values):
            raise KVError("a value is a mapping, which is stored as a JSON object")
        items = {_key(collection, key): dict(value) for key, value in zip(keys, values, strict=True)}
        await self._json.put_many(items, ttl=_seconds(ttl))

    async def delete_many(self, keys: Sequence[str], *, collection: str | None = None) -> int:
        """Delete values, one after the other, and return how many were there."""
        return sum([await self.delete(key, collection=collection) for key in keys])


def _key(collection: str | None, key: str) -> str:
    if not isinstance(key, str) or not isinstance(collection, str | None):
        raise KVError(f"a key and a collection are text, not {type(key).__name__} and {type(collection).__name__}")
    if collection and "\0" in collection:
        raise KVError("a collection has no NUL in its name")
    return f"{collection or ''}\0{key}"


def _seconds(ttl: SupportsFloat | None) -> float | None:
    return float(ttl) if isinstance(ttl, SupportsFloat) and not isinstance(ttl, bool) else ttl


def _object(value: Any) -> dict[str, Any] | None:
    if value is not None and not isinstance(value, dict):
        raise KVError("the stored value is no JSON object: something else has written it")
    return value
