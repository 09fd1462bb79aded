"""The checker of histories: what may never be in one, by what the nodes have seen themselves. Nothing here does I/O."""

from __future__ import annotations

import bisect
import itertools
import math
from collections import defaultdict
from collections.abc import Iterable, Iterator, Sequence
from dataclasses import dataclass

from tests.chaos.events import SCHEDULER, Event, Token
from tests.chaos.told import Fault, Violation

__all__ = [
    "History",
    "Increment",
    "Write",
    "leaderless",
    "lost_updates",
    "shaken",
    "stale_writes",
    "tokens",
    "two_believers",
    "violations",
    "waits",
]


@dataclass(frozen=True)
class Write:
    """A write of a leader that the outside resource has accepted."""

    id: str
    node: str
    fence: int


@dataclass(frozen=True)
class Increment:
    """A change of the counter that was committed."""

    id: str
    node: str
    old: int
    new: int
    fence: int


@dataclass
class History:
    """All that happened."""

    events: Sequence[Event]
    faults: Sequence[Fault] = ()
    writes: Sequence[Write] = ()
    """In the order in which the resource has accepted them."""
    increments: Sequence[Increment] = ()
    value: int = 0
    """The counter's at the end, which began at 0."""
    patience: float = math.inf
    """Seconds within which somebody has to lead: ttl, one poll, and what a busy machine takes."""


def violations(history: History) -> list[Violation]:
    """Return every rule that was broken; none: all held."""
    return [
        *two_believers(history.events),
        *tokens(history.events),
        *stale_writes(history.events, history.writes),
        *lost_updates(history.events, history.increments, history.value),
        *leaderless(history.events, history.faults, history.patience),
        *shaken(history.events, history.faults),
    ]


@dataclass
class _Term:
    """The belief of a node in one token: surely from `first` to `last`, where these are in that order."""

    node: str
    token: Token
    first: float = math.inf
    """The end of the earliest tick: it believed by then."""
    last: float = -math.inf
    """The beginning of the latest tick, when it believed still; if it was killed, its deadline."""
    ticked: float = -math.inf
    """The beginning of the latest tick."""

    def add(self, tick: Event) -> None:
        self.first = min(self.first, tick.at)
        self.last = self.ticked = max(self.ticked, tick.before)

    def __str__(self) -> str:
        return f"{self.node} {self.token} from {self.first:.3f} to {self.last:.3f}"


def _terms(events: Iterable[Event]) -> dict[str, list[_Term]]:
    """Return the terms of each lease. A node that was killed as it believed, did so up to its deadline."""
    found: dict[tuple[str, str, Token], _Term] = {}
    latest: dict[tuple[str, str], Event] = {}
    gave_up: dict[tuple[str, str], float] = {}
    for event in events:
        if event.kind == "giving up":
            gave_up[event.node, event.lease] = event.at
        elif event.kind == "tick":
            latest[event.node, event.lease] = event
            if event.token is not None:
                key = (event.lease, event.node, event.token)
                found.setdefault(key, _Term(event.node, event.token)).add(event)
    for (node, lease), event in latest.items():
        if event.token is not None and event.until is not None:
            term = found[lease, node, event.token]
            if gave_up.get((node, lease), -math.inf) < term.first:
                term.last = max(term.last, event.until)
    terms: dict[str, list[_Term]] = defaultdict(list)
    for (lease, _, _), term in found.items():
        terms[lease].append(term)
    return terms


def two_believers(events: Iterable[Event]) -> Iterator[Violation]:
    """Yield each pair of terms of a lease of which one node ticked while the other believed."""
    for lease, terms in _terms(events).items():
        terms.sort(key=lambda term: min(term.first, term.last))
        open_terms: list[_Term] = []
        for term in terms:
            begin = min(term.first, term.last)
            open_terms = [other for other in open_terms if max(other.first, other.last) >= begin]
            for other in open_terms:
                overlap = min(term.last, other.last) - max(term.first, other.first)
                if term.first <= other.last and other.first <= term.last:
                    yield Violation("two believers", f"{lease}: for {max(overlap, 0):.3f} s: {other}; {term}")
            open_terms.append(term)


def tokens(events: Iterable[Event]) -> Iterator[Violation]:
    """Yield tokens that were granted twice, and those that are not greater than that of an earlier term."""
    events = list(events)
    granted: dict[tuple[str, Token], str] = {}
    for event in events:
        if event.kind == "acquired" and event.token is not None:
            if (event.lease, event.token) in granted:
                told = f"{event.lease}: {event.token} to {granted[event.lease, event.token]} and {event.node}"
                yield Violation("token granted twice", told)
            granted[event.lease, event.token] = event.node
    for lease, terms in _terms(events).items():
        yield from _shrinking(lease, terms)


def _shrinking(lease: str, terms: list[_Term]) -> Iterator[Violation]:
    """Compare each term with the greatest token of those in which a node has believed before its latest tick."""
    begun = sorted(terms, key=lambda term: term.first)
    greatest = list(itertools.accumulate(begun, _greater))
    for term in terms:
        before = bisect.bisect_left(begun, term.ticked, key=lambda other: other.first)
        if before and (other := greatest[before - 1]).token >= term.token and other is not term:
            yield Violation("token not greater", f"{lease}: after {other} came {term}")


def _greater(one: _Term, other: _Term) -> _Term:
    return other if other.token > one.token else one


def stale_writes(events: Iterable[Event], writes: Sequence[Write]) -> Iterator[Violation]:
    """Yield writes that were accepted after one of a later leader, or of two nodes by one token, or that are gone."""
    for one, other in itertools.pairwise(writes):
        if other.fence < one.fence:
            yield Violation("stale write accepted", f"{other} after {one}")
        elif other.fence == one.fence and other.node != one.node:
            yield Violation("two writers of one fence", f"{other} after {one}")
    kept = {write.id for write in writes}
    for event in events:
        if (event.kind == "accepted" and event.id not in kept) or (event.kind == "refused" and event.id in kept):
            yield Violation("write told wrongly", f"{event}")


def lost_updates(events: Iterable[Event], increments: Sequence[Increment], value: int) -> Iterator[Violation]:
    """Yield values that were read by two, or by none, commits that are gone, and holders in a wrong order."""
    readers: dict[int, Increment] = {}
    for increment in increments:
        if increment.old in readers:
            yield Violation("lost update", f"{increment} read what was changed: {readers[increment.old]}")
        readers[increment.old] = increment
    if value != len(increments):
        yield Violation("lost update", f"the counter is {value} after {len(increments)} increments")
    kept = {increment.id for increment in increments}
    for event in events:
        if event.kind == "incremented" and event.id not in kept:
            yield Violation("commit lost", f"{event}")
    ordered = sorted(increments, key=lambda increment: increment.new)
    for one, other in itertools.pairwise(ordered):
        if other.fence < one.fence:
            yield Violation("stale increment", f"{other} after {one}")


def leaderless(events: Iterable[Event], faults: Sequence[Fault], patience: float) -> Iterator[Violation]:
    """Yield faults after which nobody led in time."""
    for fault, seconds in zip(faults, waits(events, faults), strict=True):
        if seconds > patience:
            yield Violation("nobody leads", f"for {seconds:.2f} s, not {patience:.2f}, after {fault}")


def waits(events: Iterable[Event], faults: Iterable[Fault]) -> list[float]:
    """Return for each fault the seconds until somebody led, by a look that began after it.

    Of a node that suffers alone only looks after its healing count: it may go on for a while in its last term.
    """
    ticks = sorted((e.before, e.at, e.node) for e in events if e.kind == "tick" and e.lease == SCHEDULER and e.token)
    return [_wait(ticks, fault) for fault in faults]


def _wait(ticks: Sequence[tuple[float, float, str]], fault: Fault) -> float:
    for place in range(bisect.bisect_left(ticks, (fault.since,)), len(ticks)):
        before, at, node = ticks[place]
        if node != fault.node or before >= fault.healed or fault.harmless:
            return at - fault.since
    return math.inf


def shaken(events: Iterable[Event], faults: Iterable[Fault]) -> Iterator[Violation]:
    """Yield leaders that lost their term by what must not touch it."""
    ticks: dict[str, list[Event]] = defaultdict(list)
    for event in events:
        if event.kind == "tick" and event.lease == SCHEDULER:
            ticks[event.node].append(event)
    for fault in faults:
        if not fault.harmless:
            continue
        before = [tick for tick in ticks[fault.node] if tick.at <= fault.begun]
        token = before[-1].token if before else None
        during = [tick for tick in ticks[fault.node] if fault.begun < tick.at <= fault.healed]
        if token is not None and any(tick.token != token for tick in during):
            lost = next(tick for tick in during if tick.token != token)
            yield Violation("term lost without need", f"{lost} under {fault}")
