"""Ranges of keys, for threads: read and deleted page by page.

Made by `scripts/threads.py`: edit `ranges.py`.
"""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

from p8fs_cluster.kv.running import Runner
from p8fs_cluster.kv.scanning import BATCH, FIRST, size_after
from p8fs_cluster.providers.storage.keys import Span
from p8fs_cluster.providers.storage.kv import Page

__all__ = ["delete_span", "pages"]


def pages(runner: Runner, scan: Page, head: bytes) -> Iterator[list[Any]]:
    """Yield the pairs of a range in order, or the keys, page by page; nothing is borrowed between two pages.

    `head`: the beginning of the keys, which is left out.
    """
    span, left, size = scan.span, scan.limit, FIRST
    while not span.is_empty and left > 0:
        page = scan._replace(span=span, limit=min(left, size))
        found = first(runner, page)
        yield found
        if len(found) < page.limit:
            return
        span = span.after(head + (found[-1] if scan.keys_only else found[-1][0]), scan.reverse)
        left, size = left - page.limit, size_after(found)


def first(runner: Runner, page: Page) -> list[Any]:
    """Return the first pairs of a range."""
    return runner.run(lambda store: store.page(page))


def delete_span(runner: Runner, span: Span) -> None:
    """Delete a range from its beginning to its end, so that writers in it can't keep this going for ever."""
    while (last := delete_page(runner, span)) is not None:
        span = span.after(last)


def delete_page(runner: Runner, span: Span) -> bytes | None:
    """Delete the first keys of a range, and return the last one of them; None: there are none."""
    last = runner.run(lambda store: store.stem(span, BATCH))
    if last is not None:
        page = Span(span.start, last + b"\0")
        runner.run(lambda store: store.delete_span(page))
    return last
