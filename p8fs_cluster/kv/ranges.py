"""Ranges of keys, for threads: read and deleted page by page.

Made by `scripts/threads.py`: edit `ranges.py`.
"""

from __future__ import annotations

from collections.abc import Iterator

from p8fs_cluster.kv.running import Runner
from p8fs_cluster.kv.scanning import PAGE, after, is_empty
from p8fs_cluster.providers.storage.keys import Span

__all__ = ["delete_span", "pairs"]


def pairs(
    runner: Runner, span: Span, limit: int | None, reverse: bool, keys_only: bool
) -> Iterator[tuple[bytes, bytes]]:
    """Yield the pairs of a range in order; nothing is borrowed between two pages."""
    left = limit
    while not is_empty(span) and left != 0:
        size = PAGE if left is None else min(left, PAGE)
        pairs = page(runner, span, size, reverse, keys_only)
        for pair in pairs:
            yield pair
        if len(pairs) < size:
            return
        span = after(span, pairs[-1][0], reverse)
        left = None if left is None else left - size


def page(runner: Runner, span: Span, size: int, reverse: bool, keys_only: bool) -> list[tuple[bytes, bytes]]:
    """Return the first pairs of a range."""
    return runner.run(lambda store: store.page(span, size, reverse, keys_only))


def delete_span(runner: Runner, span: Span) -> None:
    """Delete a range from its beginning to its end, so that writers in it can't keep this going for ever."""
    while (last := delete_page(runner, span)) is not None:
        span = after(span, last, reverse=False)


def delete_page(runner: Runner, span: Span) -> bytes | None:
    """Delete the first keys of a range, and return the last one of them; None: there are none."""
    last = runner.run(lambda store: store.stem(span, PAGE))
    if last is not None:
        page = Span(span.start, last + b"\0")
        runner.run(lambda store: store.delete_span(page))
    return last
