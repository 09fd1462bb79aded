"""Contenders measured in turn, round by round, so that what else the machine does falls on all of them."""

from __future__ import annotations

import gc
import statistics
from collections.abc import Callable, Mapping

Loop = Callable[[int], float]
"""Does its thing so many times and returns the seconds that took, as `timeit.Timer.timeit` does."""

Figures = dict[str, list[float]]
"""Seconds per use of each contender, one figure a round."""


def measure(contenders: Mapping[str, Loop], rounds: int, seconds: float) -> Figures:
    """Measure each once a round, for about `seconds`, without garbage collection, in an order that turns."""
    times = {name: _times(loop, seconds) for name, loop in contenders.items()}
    figures: Figures = {name: [] for name in contenders}
    names = list(contenders)
    for turn in range(rounds):
        gc.collect()
        first = turn % len(names)
        for name in names[first:] + names[:first]:
            figures[name].append(_quietly(contenders[name], times[name]) / times[name])
    return figures


def ratio(figures: Figures, one: str, other: str) -> float:
    """Return the median of the rounds' ratios."""
    return statistics.median(a / b for a, b in zip(figures[one], figures[other], strict=True))


def aim(what: str, figure: float, limit: float, unit: str = "") -> None:
    """Print whether what is aimed at was met."""
    print(f"{'met    ' if figure <= limit else 'not met'} {what}: {figure:.3g}{unit}, at most {limit:g}{unit}")


def _times(loop: Loop, seconds: float) -> int:
    _quietly(loop, 1)  # what the first one opens is not what is measured
    times = 1
    while (taken := _quietly(loop, times)) < seconds / 4:
        times *= 2
    return max(1, round(times * seconds / taken))


def _quietly(loop: Loop, times: int) -> float:
    gc.disable()
    try:
        return loop(times)
    finally:
        gc.enable()
