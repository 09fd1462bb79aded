"""The key-value store in an embedded engine: records in order, and beside them when to look for expired ones."""

from __future__ import annotations

import struct
from collections.abc import Collection, Sequence
from typing import Any, NamedTuple, NoReturn, TypeVar

from p8fs_cluster.exceptions import StorageError
from p8fs_cluster.providers.storage.keys import Span
from p8fs_cluster.providers.storage.kv import Mutation, Page, Pairs, Plan, Put, Row, Stored, Stretch
from p8fs_cluster.providers.storage.kv_decisions import Deciding

__all__ = ["DATA", "FORMAT", "LASTING", "SIZE", "KeyPairs", "Record", "lasting", "look_at"]

T = TypeVar("T")

FORMAT = 1
"""The format of records that this release writes."""
_HEAD = struct.Struct(">BQQ")
LASTING = bytes([FORMAT]) + bytes(8)
"""The beginning of a record that does not expire."""
SIZE, _unpacked = _HEAD.size, _HEAD.unpack_from
DATA, _DUE = b"\x00", b"\x01"
_LONG = 8
_SOME = 500
"""Records that are counted at once."""
_FEW = 100
"""Records that are read at once where they may be large."""
_STEPS = 4
"""A time to live is divided into 8 to 16 steps, at whose ends the sweeper looks."""


class Record(NamedTuple):
    """A stored value: a byte for the format, eight for the end (0: none), eight for the version, then the value."""

    value: bytes
    version: int
    expires_at: int

    @classmethod
    def read(cls, stored: bytes) -> Record:
        """Return the record that was stored.

        :raises StorageError: it has a format that this release does not know.

        >>> Record.read(lasting(7, b"value"))
        Record(value=b'value', version=7, expires_at=0)
        """
        version, expires_at = cls.head(stored)
        return cls(stored[SIZE:], version, expires_at)

    @staticmethod
    def head(stored: bytes) -> tuple[int, int]:
        """Return version and end of the record that was stored.

        :raises StorageError: it has a format that this release does not know.
        """
        known, expires_at, version = _unpacked(stored) if len(stored) >= SIZE else (0, 0, 0)
        if known != FORMAT:
            told = f"of format {stored[0]}" if stored else "without a format"
            raise StorageError(f"the key-value store holds a record {told}: of a newer release, or damaged")
        return version, expires_at

    def is_live(self, now: int) -> bool:
        """Return whether it has not expired."""
        return not self.expires_at or self.expires_at > now


class KeyPairs(Deciding):
    """The operations on one engine's pairs, done at once: the plans that are returned hold their answers."""

    def __init__(self, pairs: Pairs) -> None:
        self.pairs = pairs

    def entries(self, keys: Sequence[bytes]) -> Plan[dict[bytes, tuple[bytes, int, int | None]]]:
        with self.pairs.lock:
            now = self.pairs.now()
            found = {}
            for key in keys:
                record = self._record(key)
                if record and record.is_live(now):
                    value, version, end = record
                    found[key] = value, version, end - now if end else None
        return answered(found)

    def put(self, puts: Sequence[Put]) -> Plan[None]:
        self._write(puts, ())
        return answered(None)

    def value(self, key: bytes) -> Plan[bytes | None]:
        record = self._record(key)
        return answered(record.value if record and record.is_live(self.pairs.now()) else None)

    def delete(self, keys: Collection[bytes]) -> Plan[None]:
        self._write((), keys)
        return answered(None)

    def mutate(self, mutation: Mutation[T]) -> Plan[T]:
        with self.pairs.lock:
            now = self.pairs.now()
            records = {key: self._record(key) for key in mutation.keys}
            found = {
                key: Row(record.value, record.version, record.expires_at or None)
                for key, record in records.items()
                if record and record.is_live(now)
            }
            decision = mutation.decide(found)
            self._write(decision.puts, decision.deletes)
        return answered(decision.result)

    def page(self, page: Page) -> Plan[list[Any]]:
        found, span, wanted = list[tuple[bytes, bytes]](), page.span, page.limit
        while wanted:
            some = self._first(span, wanted, page.reverse)
            found += self._live(some, page.skipped)
            if len(some) < wanted:
                break
            span, wanted = span.after(some[-1][0][len(DATA) :], page.reverse), page.limit - len(found)
        return answered([key for key, _ in found] if page.keys_only else found)

    def stretch(self, span: Span, rows: int, size: int) -> Plan[Stretch]:
        now, left, found, some = self.pairs.now(), size, list[Stored](), self._first(span, _FEW)
        while some:
            for stored_key, stored in some:
                version, end = Record.head(stored)
                if end and end <= now:
                    continue
                left -= len(stored_key) + len(stored)
                if found and (left < 0 or len(found) == rows):
                    return answered(Stretch(found, found[-1][0]))
                found.append((stored_key[len(DATA) :], stored[SIZE:], version, end - now if end else None))
            some = self._first(span.after(some[-1][0][len(DATA) :]), _FEW)
        return answered(Stretch(found, None))

    def versions(self, span: Span, limit: int) -> Plan[list[tuple[bytes, int]]]:
        now, found = self.pairs.now(), list[tuple[bytes, int]]()
        for key, stored in self._first(span, limit):
            version, end = Record.head(stored)
            found.append((key[len(DATA) :], 0 if end and end <= now else version))
        return answered(found)

    def count(self, span: Span) -> Plan[int]:
        count, some = 0, self._first(span, _SOME)
        while some:
            count += len(self._live(some, 0))
            some = self._first(span.after(some[-1][0][len(DATA) :]), _SOME)
        return answered(count)

    def stem(self, span: Span, limit: int) -> Plan[bytes | None]:
        some = self._first(span, limit)
        return answered(some[-1][0][len(DATA) :] if some else None)

    def delete_span(self, span: Span) -> Plan[None]:
        with self.pairs.lock:
            self._write((), [key[len(DATA) :] for key, _ in self._first(span, None)])
        return answered(None)

    def sweep(self, limit: int) -> Plan[tuple[int, bool]]:
        with self.pairs.lock:
            now = self.pairs.now()
            due = [key for key, _ in self.pairs.first(Span(_DUE, _DUE + _long(now + 1)), limit)]
            records = {key: self._record(key) for key in {entry[1 + _LONG :] for entry in due}}
            gone = [DATA + key for key, record in records.items() if record and not record.is_live(now)]
            if due:
                self.pairs.write((), (*due, *gone))
        return answered((len(gone), len(due) == limit))

    def _stored(self, key: bytes) -> bytes | None:
        try:
            return self.pairs.get(DATA + key)
        except Exception as exc:
            raise self.pairs.failed(exc) from exc

    def _record(self, key: bytes) -> Record | None:
        stored = self._stored(key)
        return None if stored is None else Record.read(stored)

    def _first(self, span: Span, most: int | None, reverse: bool = False) -> list[tuple[bytes, bytes]]:
        stop = _DUE if span.stop is None else DATA + span.stop
        return self.pairs.first(Span(DATA + span.start, stop), most, reverse)

    def _live(self, stored: list[tuple[bytes, bytes]], skipped: int) -> list[tuple[bytes, bytes]]:
        """Return keys and values of those that have not expired; of the keys `skipped` bytes are left out."""
        begin = len(DATA) + skipped
        found = [(key[begin:], value[SIZE:]) for key, value in stored if value.startswith(LASTING)]
        if len(found) == len(stored):
            return found
        now = self.pairs.now()
        records = [(key[begin:], Record.read(value)) for key, value in stored]
        return [(key, record.value) for key, record in records if record.is_live(now)]

    def _write(self, puts: Sequence[Put], deletes: Collection[bytes]) -> None:
        """Write records, and for those that expire when to look for them. What was noted for the records that were
        there stays until then: to look for it takes more time than the write."""
        now, pack, changes, due = self.pairs.now(), _HEAD.pack, [], []
        for key, value, version, ttl, until in puts:
            end = until or (now + ttl if ttl else 0)
            changes.append((DATA + key, pack(FORMAT, end, version) + value))
            if end:
                due.append((_DUE + _long(look_at(now, end)) + key, b""))
        if changes or deletes:
            self.pairs.write(changes + due, [DATA + key for key in deletes])


def lasting(version: int, value: bytes) -> bytes:
    """Return the bytes to store of a value that does not expire."""
    return LASTING + version.to_bytes(_LONG, "big") + value


def look_at(now: int, end: int) -> int:
    """Return when the sweeper is to look for a record: its end, or somewhat later, so that a key which is written
    again and again leaves a few notes and not one a write.

    >>> [look_at(0, end) for end in (1000, 1023, 1024)], look_at(0, 60_000_000) / 60_000_000
    ([1024, 1024, 1024], 1.0485...)
    """
    step = max(end - now, 1).bit_length() - _STEPS
    return end if step <= 0 else -(-end >> step) << step


def answered(result: T) -> Plan[T]:
    """Plan nothing: the result is known."""
    return Plan(_no_steps, result=result)


def _no_steps() -> NoReturn:
    raise AssertionError("an embedded engine is asked no statements")


def _long(number: int) -> bytes:
    return number.to_bytes(_LONG, "big")
