"""Ranges of keys, for asyncio: read and deleted page by page.

`ranges.py` is made of this file by `scripts/threads.py`.
"""

from __future__ import annotations

from collections.abc import AsyncIterator

from p8fs_cluster.kv.async_running import AsyncRunner
from p8fs_cluster.kv.scanning import PAGE, after, is_empty
from p8fs_cluster.providers.storage.keys import Span

__all__ = ["async_delete_span", "async_pairs"]


async def async_pairs(
    runner: AsyncRunner, span: Span, limit: int | None, reverse: bool, keys_only: bool
) -> AsyncIterator[tuple[bytes, bytes]]:
    """Yield the pairs of a range in order; nothing is borrowed between two pages."""
    left = limit
    while not is_empty(span) and left != 0:
        size = PAGE if left is None else min(left, PAGE)
        pairs = await async_page(runner, span, size, reverse, keys_only)
        for pair in pairs:
            yield pair
        if len(pairs) < size:
            return
        span = after(span, pairs[-1][0], reverse)
        left = None if left is None else left - size


async def async_page(
    runner: AsyncRunner, span: Span, size: int, reverse: bool, keys_only: bool
) -> list[tuple[bytes, bytes]]:
    """Return the first pairs of a range."""
    return await runner.run(lambda store: store.page(span, size, reverse, keys_only))


async def async_delete_span(runner: AsyncRunner, span: Span) -> None:
    """Delete a range from its beginning to its end, so that writers in it can't keep this going for ever."""
    while (last := await async_delete_page(runner, span)) is not None:
        span = after(span, last, reverse=False)


async def async_delete_page(runner: AsyncRunner, span: Span) -> bytes | None:
    """Delete the first keys of a range, and return the last one of them; None: there are none."""
    last = await runner.run(lambda store: store.stem(span, PAGE))
    if last is not None:
        page = Span(span.start, last + b"\0")
        await runner.run(lambda store: store.delete_span(page))
    return last
