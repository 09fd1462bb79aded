"""The rules about several values together: counts, amounts, pairs, codes. Nothing here does I/O."""

from __future__ import annotations

import math
from collections import Counter
from collections.abc import Iterator, Sequence

from tests.chaos.kv.calls import DONE, SOME, UNKNOWN, Call
from tests.chaos.kv.keys import ACCOUNTS, CODES, COUNTS, PAIRS, TOTAL, amount_of
from tests.chaos.told import Violation

__all__ = ["violations"]


def violations(calls: Sequence[Call]) -> Iterator[Violation]:
    """Yield every rule that was broken."""
    for key in COUNTS:
        yield from counts(key, calls)
    for key in CODES:
        yield from codes(key, calls)
    yield from amounts(calls)
    yield from pairs(calls)


def counts(key: str, calls: Sequence[Call]) -> Iterator[Violation]:
    """Yield sums that went back, and those that were skipped: each is an increment that nobody was told of.

    An increment of which nobody knows is done once or not at all. It was done before each sum that has it in it.
    """
    told = sorted((call for call in calls if call.outcome == DONE and _sum(key, call)), key=_ended)
    unknown = sorted(call.begun for call in calls if call.outcome == UNKNOWN and call.wrote.get(key) == SOME)
    yield from _backwards(key, told)
    for place, (number, deadline) in enumerate(_skipped(key, told)):
        if place >= len(unknown) or unknown[place] > deadline:
            yield Violation(
                "counted twice", f"{key}: {number} is nobody's, by the {place + 1}. unknown increment at most"
            )


def _skipped(key: str, told: list[Call]) -> list[tuple[int, float]]:
    """Return the sums that no increment was told of, and until when each was made, at the latest."""
    known = {_sum(key, call) for call in told if key in call.wrote}
    ends: dict[int, float] = {}
    for call in told:  # the earliest first
        ends.setdefault(_sum(key, call), call.ended)
    deadline, skipped = math.inf, []
    for number in range(max(ends, default=0), 0, -1):
        deadline = min(deadline, ends.get(number, deadline))
        if number not in known:
            skipped.append((number, deadline))
    return skipped[::-1]


def _sum(key: str, call: Call) -> int:
    """Return the sum that a call has seen, or made; 0: none."""
    return int(call.wrote.get(key) or call.saw.get(key) or 0)


def _backwards(key: str, told: list[Call]) -> Iterator[Violation]:
    """Yield each call that began after a greater sum was told."""
    greatest, place = 0, 0
    for call in sorted(told, key=_begun):
        while place < len(told) and told[place].ended < call.begun:
            greatest = max(greatest, _sum(key, told[place]))
            place += 1
        if _sum(key, call) < greatest:
            yield Violation("counted back", f"{key}: after {greatest} came {call}")


def codes(key: str, calls: Sequence[Call]) -> Iterator[Violation]:
    """Yield codes that are gone, and nobody has them; an unknown `take` has one at most."""
    given = {value for call in calls if call.outcome == DONE and (value := call.wrote.get(key))}
    unknown = sum(call.outcome == UNKNOWN and call.verb == "take" and key in call.wrote for call in calls)
    taken = Counter(v for c in calls if c.outcome == DONE and c.verb == "take" and (v := c.saw.get(key)))
    last = max((call for call in calls if call.outcome == DONE and key in call.saw), key=_begun, default=None)
    left = {last.saw[key]} if last else set()
    lost = given - taken.keys() - left
    if len(lost) > unknown:
        yield Violation(
            "code lost", f"{key}: {len(lost)} are gone, {unknown} unknown calls took them: {sorted(lost)[:5]}"
        )
    for value, times in taken.items():
        if times > 1:
            yield Violation("code taken twice", f"{key}: {value} by {times} callers")


def _begun(call: Call) -> float:
    return call.begun


def _ended(call: Call) -> float:
    return call.ended


def amounts(calls: Sequence[Call]) -> Iterator[Violation]:
    """Yield looks at all accounts in which their sum is another one."""
    for call in calls:
        if call.outcome == DONE and all(call.saw.get(key) for key in ACCOUNTS):
            total = sum(amount_of(call.saw[key] or "") for key in ACCOUNTS)
            if total != TOTAL:
                yield Violation("sum changed", f"{total}, not {TOTAL}: {call}")


def pairs(calls: Sequence[Call]) -> Iterator[Violation]:
    """Yield looks at two keys that are written together in which they are of different calls."""
    for call in calls:
        for one, other in PAIRS:
            if call.outcome == DONE and {one, other} <= call.saw.keys() and call.saw[one] != call.saw[other]:
                yield Violation("half of a call seen", f"{one} and {other}: {call}")
