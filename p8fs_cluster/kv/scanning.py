"""Pages of a scan: where the next one begins."""

from __future__ import annotations

from collections.abc import AsyncIterator, Iterable, Iterator
from dataclasses import replace
from itertools import chain
from typing import TypeVar

from p8fs_cluster.providers.storage.keys import Span

__all__ = ["BATCH", "PAGE", "after", "async_flattened", "flattened", "is_empty"]

T = TypeVar("T")

PAGE = 500
"""Keys that are read, or deleted, at once."""
BATCH = 1000
"""Expired keys that are deleted at once."""


def flattened(pages: Iterable[Iterable[T]]) -> Iterator[T]:
    """Return the parts of all pages."""
    return chain.from_iterable(pages)


async def async_flattened(pages: AsyncIterator[Iterable[T]]) -> AsyncIterator[T]:
    """Yield the parts of all pages."""
    async for page in pages:
        for part in page:
            yield part


def after(span: Span, last: bytes, reverse: bool) -> Span:
    """Return what is left of a range after a page that ended with a key.

    >>> after(Span(b"a", b"z"), b"k", reverse=True)
    Span(start=b'a', stop=b'k')
    """
    return replace(span, stop=last) if reverse else replace(span, start=last + b"\0")


def is_empty(span: Span) -> bool:
    """Return whether no key can be in a range."""
    return span.stop is not None and span.start >= span.stop
