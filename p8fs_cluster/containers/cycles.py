"""The cycles of a directed graph."""

from __future__ import annotations

from collections.abc import Hashable, Iterator, Mapping, Sequence
from typing import TypeVar

__all__ = ["cycles"]

T = TypeVar("T", bound=Hashable)


def cycles(links: Mapping[T, Sequence[T]]) -> Iterator[tuple[T, ...]]:
    """Yield a cycle for each link that closes one, in a walk in the order of `links`; none when there is no cycle.

    Without the last link of each, from its last member to its first, the graph has no cycle.

    >>> list(cycles({"a": ["b"], "b": ["c", "b"], "c": ["a"]}))
    [('a', 'b', 'c'), ('b',)]
    """
    done: set[T] = set()
    for start in links:
        if start not in done:
            yield from _cycles_from(start, links, done)


def _cycles_from(start: T, links: Mapping[T, Sequence[T]], done: set[T]) -> Iterator[tuple[T, ...]]:
    path, waiting = {start: 0}, [iter(links[start])]  # no recursion: a container may be deeper than Python's stack
    while waiting:
        following = next(waiting[-1], None)
        if following is None:
            waiting.pop()
            done.add(path.popitem()[0])
        elif following in path:
            yield tuple(path)[path[following] :]
        elif following not in done:
            path[following] = len(path)
            waiting.append(iter(links[following]))
