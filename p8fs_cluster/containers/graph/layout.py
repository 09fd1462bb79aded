"""The layout of a graph: boxes in columns, each to the left of the boxes that it needs. Pure arithmetic.

Ranks by longest path, orders by barycenters, heights by least squares; a line that passes a column has a place of its
own there, and those to one target share it, so that no line crosses a box.
"""

from __future__ import annotations

from collections import defaultdict
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass
from itertools import accumulate, pairwise
from typing import NamedTuple

from p8fs_cluster.containers.graph.model import cycles

__all__ = ["Layout", "Line", "Route", "Size", "laid_out"]

COLUMN_GAP = 64.0
ROW_GAP = 20.0
SWEEPS = 12

Point = tuple[float, float]


class Size(NamedTuple):
    """The room that a box takes."""

    width: float
    height: float


class Line(NamedTuple):
    """From one box to another, by their numbers; it leaves the first `port` below its upper edge.

    Lines of one `style` to one target run together.
    """

    source: int
    target: int
    port: float
    style: str = ""


class Route(NamedTuple):
    """The points that a line passes, up to its target, or to where it joins an earlier line to it."""

    points: tuple[Point, ...]
    joins: bool


@dataclass(frozen=True)
class Layout:
    """Corners of the boxes (upper left), widths, and what each line passes."""

    corners: tuple[Point, ...]
    widths: tuple[float, ...]
    routes: tuple[Route, ...]
    size: Size


class _Place(NamedTuple):
    """A box, or where lines of one style to one target pass a column, forwards or, in a cycle, backwards."""

    column: int
    number: int
    passing: str | None = None
    backwards: bool = False


def laid_out(sizes: Sequence[Size], lines: Sequence[Line]) -> Layout:
    """Return the layout of boxes and lines, the same for the same input.

    >>> laid_out([Size(80, 40), Size(80, 40)], [Line(0, 1, 30)]).corners
    ((0.0, 0.0), (144.0, 0.0))
    """
    columns = _columns(len(sizes), lines)
    chains = [_chain(line, columns) for line in lines]
    places = dict.fromkeys([_Place(column, number) for number, column in enumerate(columns)])
    places.update(dict.fromkeys(place for chain in chains for place in chain))
    ordered = _ordered(places, chains)
    heights = {place: 0.0 if place.passing is not None else sizes[place.number].height for place in places}
    middles = _middles(ordered, heights, chains)
    return _drawn(sizes, lines, chains, ordered, middles)


def _columns(count: int, lines: Iterable[Line]) -> list[int]:
    """The column of each box: as near to what it needs as it can be, lines that close a cycle left out."""
    needs: dict[int, list[int]] = {number: [] for number in range(count)}
    for line in lines:
        needs[line.source].append(line.target)
    backwards = {(cycle[-1], cycle[0]) for cycle in cycles(needs)}
    forwards = {
        number: [other for other in others if (number, other) not in backwards] for number, others in needs.items()
    }
    ranks = _ranks(forwards)
    return [max(ranks.values(), default=0) - ranks[number] for number in range(count)]


def _ranks(needs: Mapping[int, Sequence[int]]) -> dict[int, int]:
    """Return how many boxes there are on the longest way on from each."""
    needed_by: dict[int, list[int]] = {number: [] for number in needs}
    for number, others in needs.items():
        for other in others:
            needed_by[other].append(number)
    ranks, left = dict.fromkeys(needs, 0), {number: len(others) for number, others in needs.items()}
    ready = [number for number in needs if not left[number]]
    for number in ready:
        for other in needed_by[number]:
            ranks[other] = max(ranks[other], ranks[number] + 1)
            left[other] -= 1
            if not left[other]:
                ready.append(other)
    return ranks


def _chain(line: Line, columns: Sequence[int]) -> list[_Place]:
    """Return what a line passes, its two ends included."""
    first, last = columns[line.source], columns[line.target]
    passed = range(first + 1, last) if first < last else range(first, last - 1, -1)
    inner = [_Place(column, line.target, line.style, first >= last) for column in passed]
    return [_Place(first, line.source), *inner, _Place(last, line.target)]


def _ordered(places: Iterable[_Place], chains: Sequence[Sequence[_Place]]) -> list[list[_Place]]:
    """The places of each column from top to bottom, near what they are joined to in the columns beside."""
    columns: dict[int, list[_Place]] = defaultdict(list)
    for place in places:
        columns[place.column].append(place)
    ordered = [columns[number] for number in sorted(columns)]
    joined = _joined(chains)
    for sweep in range(SWEEPS):
        side = 1 if sweep % 2 == 0 else -1
        for column in ordered if side < 0 else reversed(ordered):
            _sort(column, ordered, joined, side)
    return ordered


def _sort(
    column: list[_Place], columns: Sequence[Sequence[_Place]], joined: Mapping[_Place, Sequence[_Place]], side: int
) -> None:
    beside = column[0].column + side
    if not 0 <= beside < len(columns):
        return
    rows = {place: row for row, place in enumerate(columns[beside])}
    own = {place: row * len(rows) / len(column) for row, place in enumerate(column)}
    column.sort(key=lambda place: _mean([rows[other] for other in joined[place] if other in rows], own[place]))


def _joined(chains: Iterable[Sequence[_Place]]) -> Mapping[_Place, list[_Place]]:
    joined: dict[_Place, list[_Place]] = defaultdict(list)
    for chain in chains:
        for one, other in pairwise(chain):
            joined[one].append(other)
            joined[other].append(one)
    return joined


def _middles(
    columns: Sequence[Sequence[_Place]], heights: Mapping[_Place, float], chains: Sequence[Sequence[_Place]]
) -> dict[_Place, float]:
    """Heights at which the places have their middles: in order, apart, and as near as can be to what they join."""
    joined, middles = _joined(chains), dict.fromkeys(heights, 0.0)
    for sweep in range(SWEEPS):
        for column in columns if sweep % 2 else reversed(columns):
            apart = [0.0, *((heights[a] + heights[b]) / 2 + ROW_GAP for a, b in pairwise(column))]
            wanted = [_mean([middles[other] for other in joined[place]], middles[place]) for place in column]
            middles.update(zip(column, _spread(wanted, apart), strict=True))
    top = min((middles[place] - heights[place] / 2 for place in middles), default=0.0)
    return {place: middle - top for place, middle in middles.items()}


def _spread(wanted: Sequence[float], apart: Sequence[float]) -> list[float]:
    """The places nearest to those wanted, in order, each at least `apart` from the one before (isotonic regression).

    >>> _spread([0, 0, 100], [0, 10, 10])
    [-5.0, 5.0, 100.0]
    """
    offsets = list(accumulate(apart))
    blocks: list[tuple[float, int]] = []
    for want, offset in zip(wanted, offsets, strict=True):
        total, count = float(want - offset), 1
        while blocks and blocks[-1][0] / blocks[-1][1] > total / count:
            before, members = blocks.pop()
            total, count = total + before, count + members
        blocks.append((total, count))
    bases = [total / count for total, count in blocks for _ in range(count)]
    return [base + offset for base, offset in zip(bases, offsets, strict=True)]


def _drawn(
    sizes: Sequence[Size],
    lines: Sequence[Line],
    chains: Sequence[Sequence[_Place]],
    columns: Sequence[Sequence[_Place]],
    middles: Mapping[_Place, float],
) -> Layout:
    widths = [max((sizes[p.number].width for p in column if p.passing is None), default=0.0) for column in columns]
    lefts = [left + COLUMN_GAP * number for number, left in enumerate(accumulate(widths, initial=0.0))]
    boxes = {place.number: place for column in columns for place in column if place.passing is None}
    corners = [
        (lefts[boxes[number].column], middles[boxes[number]] - size.height / 2) for number, size in enumerate(sizes)
    ]
    spans = [(left, left + width) for left, width in zip(lefts, widths, strict=False)]
    seen: set[_Place] = set()
    routes = []
    for line, chain in zip(lines, chains, strict=True):
        start = (spans[chain[0].column][1], corners[line.source][1] + line.port)
        joins = not seen.isdisjoint(chain)
        routes.append(Route((start, *_passed(chain[1:], spans, middles, seen)), joins))
    bottoms = [y + size.height for (_, y), size in zip(corners, sizes, strict=True)]
    bottom = max([*bottoms, *(y for route in routes for _, y in route.points)], default=0.0)
    box_widths = tuple(widths[boxes[number].column] for number in range(len(sizes)))
    return Layout(tuple(corners), box_widths, tuple(routes), Size(spans[-1][1] if spans else 0.0, bottom))


def _passed(
    places: Sequence[_Place], spans: Sequence[Point], middles: Mapping[_Place, float], seen: set[_Place]
) -> Iterator[Point]:
    """The points of a line after its first, up to its target, or to where an earlier line went on to it."""
    for place in places:
        left, right = spans[place.column]
        into, out = (right, left) if place.backwards else (left, right)
        yield into, middles[place]
        if place.passing is None or place in seen:
            return
        seen.add(place)
        yield out, middles[place]


def _mean(values: Sequence[float], default: float) -> float:
    return sum(values) / len(values) if values else default
