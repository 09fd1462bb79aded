"""The checker of calls to the key-value store: what may never be in a history. Nothing here does I/O.

Every value is written by one call alone. So each key has had a row of lives, one a value: it was there at the moments
at which calls saw it, which lie somewhere between a call's beginning and its end.
"""

from __future__ import annotations

import bisect
import itertools
import math
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from functools import cached_property

from tests.chaos.kv import sums
from tests.chaos.kv.calls import DONE, FAILED, ODD, REFUSED, SOME, UNKNOWN, Call
from tests.chaos.told import Fault, Violation

__all__ = ["History", "violations"]

SLACK = 0.1
"""Seconds for which an expired value may be seen: the clocks of store and machine are read at different moments."""


@dataclass
class History:
    """All that happened."""

    calls: Sequence[Call]
    faults: Sequence[Fault] = ()
    patience: float = math.inf
    """Seconds within which some call has to be done after a fault."""


def violations(history: History) -> list[Violation]:
    """Return every rule that was broken; none: all held."""
    broken = [Violation("odd error", f"{call}") for call in history.calls if call.outcome == ODD]
    for key in _keys(history.calls).values():
        for rule in (writers, versions, successors, lives, absences, expiries):
            broken += rule(key)
    return [*broken, *sums.violations(history.calls), *stuck(history)]


@dataclass
class Key:
    """The calls that were about one key."""

    name: str
    done: list[Call] = field(default_factory=list)
    others: list[Call] = field(default_factory=list)
    """Those that were refused, that failed, or of which nobody knows."""

    @property
    def is_counted(self) -> bool:
        """Return whether others may have written a value that only they have been told."""
        return any(call.outcome == UNKNOWN and call.wrote.get(self.name) == SOME for call in self.others)

    @cached_property
    def extended(self) -> list[Call]:
        """The calls that may have given a value another version and another end."""
        return [call for call in (*self.done, *self.others) if call.verb == "expire" and call.outcome != FAILED]

    def is_being_extended(self, during: Call) -> bool:
        """Return whether another end was given to a value at the time of a call, which may have seen the old one."""
        return any(call.begun < during.ended and during.begun < call.ended for call in self.extended)

    def saw(self, call: Call) -> str | None:
        """Return the value that a call found; None: it found none, or did not look."""
        return call.saw.get(self.name) or call.required.get(self.name)

    def saw_none(self, call: Call) -> bool:
        """Return whether a call found no value."""
        looked = self.name in call.saw or self.name in call.required
        return looked and self.saw(call) is None

    def deletes(self, call: Call) -> bool:
        """Return whether a call leaves no value."""
        return self.name in call.wrote and call.wrote[self.name] is None


def _keys(calls: Sequence[Call]) -> dict[str, Key]:
    keys: dict[str, Key] = {}
    for call in calls:
        for name in {*call.saw, *call.required, *call.wrote, *call.ends}:
            key = keys.setdefault(name, Key(name))
            (key.done if call.outcome == DONE else key.others).append(call)
    return keys


def writers(key: Key) -> Iterator[Violation]:
    """Yield values that two calls have written, that were seen and nobody wrote, or that were seen too early."""
    wrote: dict[str, Call] = {}
    for call in (*key.done, *key.others):
        value = call.wrote.get(key.name)
        if value is None or value == SOME:
            continue
        if call.outcome == DONE and value in wrote:
            yield Violation("written twice", f"{key.name}: {value} by {wrote[value]} and {call}")
        wrote.setdefault(value, call)
    for call in key.done:
        value = key.saw(call)
        writer = wrote.get(value) if value is not None else None
        if value is not None and writer is None and not key.is_counted:
            yield Violation("seen and never written", f"{key.name}: {value} by {call}")
        elif writer is not None and writer.outcome not in (DONE, UNKNOWN):
            yield Violation("written by a call that failed", f"{key.name}: {value} by {writer}, seen by {call}")
        elif writer is not None and writer.begun > call.ended:
            yield Violation("seen before it was written", f"{key.name}: {value} of {writer} by {call}")


def versions(key: Key) -> Iterator[Violation]:
    """Yield versions that two values have had, and values that had two though nothing but a write gives a new one."""
    values: dict[int, str] = {}
    had: dict[str, int] = {}
    for call in key.done:
        version = call.versions.get(key.name)
        value = call.wrote.get(key.name) or key.saw(call)
        if version is None or value is None:
            continue
        if values.setdefault(version, value) != value:
            yield Violation("version used twice", f"{key.name}: {version} of {values[version]} and {value}, {call}")
        if had.setdefault(value, version) != version and not key.extended:
            yield Violation("two versions", f"{key.name}: {value} has {had[value]} and {version}, {call}")


def successors(key: Key) -> Iterator[Violation]:
    """Yield values in whose place two calls have written, or which two have taken."""
    replaced: dict[str, Call] = {}
    for call in key.done:
        value = key.saw(call)
        if value is not None and key.name in call.wrote:
            if value in replaced:
                yield Violation("two successors", f"{key.name}: of {value}: {replaced[value]} and {call}")
            replaced[value] = call


@dataclass
class _Life:
    """The time at which a value was surely there: from `first` to `last`, where these are in that order."""

    value: str
    first: float = math.inf
    """The end of the earliest call that tells of it."""
    last: float = -math.inf
    """The beginning of the latest one."""

    def add(self, call: Call) -> None:
        self.first, self.last = min(self.first, call.ended), max(self.last, call.begun)

    def __str__(self) -> str:
        return f"{self.value} from {self.first:.4f} to {self.last:.4f}"


def lives(key: Key) -> Iterator[Violation]:
    """Yield values that were there while another one was, or while none was."""
    found: dict[str, _Life] = {}
    for call in key.done:
        for value in {key.saw(call), call.wrote.get(key.name)} - {None, SOME}:
            assert value is not None
            found.setdefault(value, _Life(value)).add(call)
    sure = _Sure([life for life in found.values() if life.first < life.last])
    for one, other in sure.overlapping():
        yield Violation("two values at once", f"{key.name}: {one}; {other}")
    for life in found.values():
        if life.first >= life.last and (other := sure.around(life.last, life.first)):
            yield Violation("two values at once", f"{key.name}: {life} within {other}")
    for call in key.done:
        gone = key.saw_none(call) or key.deletes(call)
        if gone and (life := sure.around(call.begun, call.ended)) and not key.is_being_extended(call):
            yield Violation("there and not there", f"{key.name}: {life}; {call}")
    for call in () if key.extended else key.others:
        value = key.saw(call)
        if call.outcome == REFUSED and len(call.required) == 1 and value in found:
            life = found[value]
            if life.first < call.begun and call.ended < life.last:
                yield Violation("refused what was there", f"{key.name}: {life}; {call}")


class _Sure:
    """Lives that lasted for some time, to be looked up by time."""

    def __init__(self, found: list[_Life]) -> None:
        self._lives = sorted(found, key=lambda life: life.first)
        self._longest = list(itertools.accumulate(self._lives, lambda one, other: max(one, other, key=_last)))

    def overlapping(self) -> Iterator[tuple[_Life, _Life]]:
        """Yield each life that began while another one lasted."""
        for longest, following in zip(self._longest, self._lives[1:], strict=False):
            if following.first < longest.last:
                yield longest, following

    def around(self, begin: float, end: float) -> _Life | None:
        """Return a life that began before a time and lasted until after it, if there is one."""
        place = bisect.bisect_left(self._lives, begin, key=lambda life: life.first)
        longest = self._longest[place - 1] if place else None
        return longest if longest and end < longest.last else None


def _last(life: _Life) -> float:
    return life.last


def absences(key: Key) -> Iterator[Violation]:
    """Yield calls that found no value after one was there, although nobody may have deleted it meanwhile."""
    if any(key.name in call.ends for call in (*key.done, *key.others)):
        return
    present = _Latest([call for call in key.done if _leaves(key, call)], by=_ended, latest=_begun)
    deleting = [
        call for call in (*key.done, *key.others)
        if key.deletes(call) and (call.outcome == UNKNOWN or (call.outcome == DONE and not key.saw_none(call)))
    ]  # fmt: skip
    deleted = _Latest(deleting, by=_begun, latest=_ended)
    for call in key.done:
        if key.saw_none(call) and (before := present.before(call.begun)):
            deletion = deleted.before(call.ended)
            if deletion is None or deletion.ended <= before.begun:
                yield Violation("gone without a delete", f"{key.name}: there for {before}, not for {call}")


def _leaves(key: Key, call: Call) -> bool:
    """Return whether a value is there after a call."""
    return call.wrote.get(key.name) is not None or (key.saw(call) is not None and not key.deletes(call))


_Time = Callable[[Call], float]


def _begun(call: Call) -> float:
    return call.begun


def _ended(call: Call) -> float:
    return call.ended


class _Latest:
    """Calls by one time, of those before a moment the one whose other time is the latest."""

    def __init__(self, calls: list[Call], by: _Time, latest: _Time) -> None:
        calls = sorted(calls, key=by)
        self._times = [by(call) for call in calls]
        self._latest = list(itertools.accumulate(calls, lambda one, other: max(one, other, key=latest)))

    def before(self, moment: float) -> Call | None:
        place = bisect.bisect_left(self._times, moment)
        return self._latest[place - 1] if place else None


def expiries(key: Key) -> Iterator[Violation]:
    """Yield values that were seen after their time was over."""
    wrote = {value: call for call in key.done if (value := call.wrote.get(key.name)) and key.name in call.ends}
    for call in key.done:
        writer = wrote.get(key.saw(call) or "")
        if writer is None or call is writer or call.begun <= writer.ended + writer.ends[key.name] + SLACK:
            continue
        later = [
            end
            for end in key.extended
            if key.name in end.ends and end.ended >= writer.begun and end.begun <= call.ended
        ]
        if all(call.begun > end.ended + end.ends[key.name] + SLACK for end in later):
            yield Violation("seen after its end", f"{key.name}: {writer} by {call}")


def stuck(history: History) -> Iterator[Violation]:
    """Yield faults after which no call was done in time."""
    done = sorted((call.begun, call.ended) for call in history.calls if call.outcome == DONE)
    for fault in history.faults:
        place = bisect.bisect_left(done, (fault.healed,))
        ended = min((end for _, end in done[place : place + 1000]), default=math.inf)
        if ended > fault.healed + history.patience:
            yield Violation("nobody gets through", f"for {history.patience:.1f} s after {fault}")
