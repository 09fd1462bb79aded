"""The comparison of both sides of a copy: digests over all that is stored, and the keys that differ."""

from __future__ import annotations

import hashlib
import struct
import time
from dataclasses import dataclass, field

from p8fs_cluster.kv.copy_sides import Side
from p8fs_cluster.kv.copying import Told, merged, records
from p8fs_cluster.kv.keys import seconds
from p8fs_cluster.providers.storage.kv import Stored

__all__ = ["Comparison", "Digest", "compared"]

_HEAD = struct.Struct(">IQq?")
_NAMED = 10
"""Differing keys that are named."""
_LOOKED_AT = 1000
"""Differing keys that are looked at again; it is settled then that the copy differs."""
_STEP = 1000
_PATIENCE = 10.0
"""Seconds that a value may have left for its end to be waited for, before its key counts as one that differs."""


class Digest:
    """SHA-256 over keys, values, versions and whether these end, in order, and the number of keys.

    >>> digest = Digest()
    >>> digest.add((b"auth\\0token", b"value", 7, None))
    >>> digest.keys, str(digest)[:8]
    (1, '672c98ac')
    """

    def __init__(self) -> None:
        self.keys = 0
        self._hash = hashlib.sha256()

    def add(self, record: Stored) -> None:
        """Take the next value in."""
        key, value, version, end = record
        self.keys += 1
        self._hash.update(_HEAD.pack(len(key), len(value), version, end is not None))
        self._hash.update(key)
        self._hash.update(value)

    def __str__(self) -> str:
        return self._hash.hexdigest()


@dataclass
class Comparison:
    """Both sides, and what differs."""

    source: Digest = field(default_factory=Digest)
    target: Digest = field(default_factory=Digest)
    differing: int = 0
    first: list[bytes] = field(default_factory=list)
    """The first keys that differ."""

    @property
    def equal(self) -> bool:
        """True if nothing differs."""
        return not self.differing and str(self.source) == str(self.target)

    def add(self, ours: Stored | None, theirs: Stored | None) -> None:
        """Take what both sides have of a key into their digests."""
        if ours is not None:
            self.source.add(ours)
        if theirs is not None:
            self.target.add(theirs)

    def note(self, key: bytes) -> None:
        """Note a key that differs."""
        self.differing += 1
        if len(self.first) < _NAMED:
            self.first.append(key)


def compared(source: Side, target: Side, told: Told) -> Comparison:
    """Read both sides and compare them. A key that differs counts if it does so still when it is looked at again."""
    comparison = Comparison()
    for ours, theirs in merged(records(source), records(target)):
        if _equal(ours, theirs):
            comparison.add(ours, theirs)
        else:
            _judge(comparison, source, target, ours, theirs)
        if not comparison.source.keys % _STEP and ours is not None:
            told(_STEP)
    return comparison


def _judge(comparison: Comparison, source: Side, target: Side, ours: Stored | None, theirs: Stored | None) -> None:
    [key, *_] = (record[0] for record in (ours, theirs) if record is not None)
    if comparison.differing < _LOOKED_AT:
        ours, theirs = _settled(source, target, key)
    comparison.add(ours, theirs)
    if not _equal(ours, theirs):
        comparison.note(key)


def _equal(ours: Stored | None, theirs: Stored | None) -> bool:
    if ours is None or theirs is None:
        return ours is theirs
    return ours[:3] == theirs[:3] and (ours[3] is None) == (theirs[3] is None)


def _settled(source: Side, target: Side, key: bytes) -> tuple[Stored | None, Stored | None]:
    """Look at a key again on both sides, and once more if what is there ends so soon that it may be gone on one alone.

    The clocks of two stores never agree. A difference that is real is still there then, or is gone from both.
    """
    ours, theirs = _of(source, key), _of(target, key)
    lefts = [None if record[3] is None else seconds(record[3]) for record in (ours, theirs) if record is not None]
    ends = [left for left in lefts if left is not None and left <= _PATIENCE]
    if _equal(ours, theirs) or len(ends) < len(lefts):
        return ours, theirs
    time.sleep(max(ends, default=0) + 0.01)
    return _of(source, key), _of(target, key)


def _of(side: Side, key: bytes) -> Stored | None:
    entry = side.runner.run(lambda store: store.entries((key,))).get(key)
    return None if entry is None else (key, *entry)
