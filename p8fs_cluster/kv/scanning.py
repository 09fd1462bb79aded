"""Pages of a scan."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator, Sequence
from itertools import chain
from typing import TypeVar

__all__ = ["BATCH", "FIRST", "async_flattened", "flattened", "size_after"]

T = TypeVar("T")

FIRST = 100
"""Keys that the first page of a scan has."""
_PAGE = 5000
"""Keys that are read at once, at most."""
_BYTES = 2 << 20
"""Bytes that a later page has, about."""
BATCH = 1000
"""Keys that are deleted at once."""


def flattened(pages: Iterable[Iterable[T]]) -> Iterator[T]:
    """Return the parts of all pages."""
    return chain.from_iterable(pages)


async def async_flattened(pages: AsyncIterator[Iterable[T]]) -> AsyncIterator[T]:
    """Yield the parts of all pages."""
    async for page in pages:
        for part in page:
            yield part


def size_after(page: Sequence[bytes | tuple[bytes, bytes]]) -> int:
    """Return the number of keys for the page that follows, few where values are large.

    >>> size_after([(b"k", b"v" * 100_000)] * 100), size_after([b"key"] * 100)
    (20, 5000)
    """
    size = sum(len(part) if isinstance(part, bytes) else len(part[0]) + len(part[1]) for part in page)
    return max(min(_BYTES * len(page) // size, _PAGE), 1)
