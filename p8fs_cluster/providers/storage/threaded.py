"""A key-value connection for asyncio, each of whose calls runs in a thread.

RocksDB's binding holds the interpreter's lock while it writes, so a thread keeps the event loop from waiting for the
disk only between calls: many small ones are better than a big one.
"""

from __future__ import annotations

import asyncio
from typing import Any

__all__ = ["Threaded"]


class Threaded:
    """Bytes to bytes, as the connection beneath has it.

    >>> asyncio.run(Threaded({b"key": b"value"}).get(b"key"))
    b'value'
    """

    __slots__ = ("connection",)

    def __init__(self, connection: Any) -> None:
        self.connection = connection

    async def get(self, key: bytes, default: bytes | None = None) -> bytes | None:
        """Return the value of a key, or `default`."""
        value: bytes | None = await asyncio.to_thread(self.connection.get, key, default)
        return value

    async def put(self, key: bytes, value: bytes) -> None:
        """Set the value of a key."""
        await asyncio.to_thread(self.connection.__setitem__, key, value)

    async def delete(self, key: bytes) -> None:
        """Take a key away, if it is there."""
        await asyncio.to_thread(self.connection.delete, key)

    async def items(self) -> list[tuple[bytes, bytes]]:
        """Return all keys and values, in the order of the keys."""
        return await asyncio.to_thread(lambda: list(self.connection.items()))
