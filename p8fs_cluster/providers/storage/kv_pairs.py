"""The key-value store in an embedded engine: records in order, and an index of their ends beside them."""

from __future__ import annotations

import itertools
import struct
from collections.abc import Collection, Iterator, Sequence
from typing import NamedTuple, NoReturn, TypeVar

from p8fs_cluster.exceptions import StorageError
from p8fs_cluster.providers.storage.keys import Span
from p8fs_cluster.providers.storage.kv import Mutation, Pairs, Plan, Put, Row
from p8fs_cluster.providers.storage.kv_decisions import Deciding

__all__ = ["FORMAT", "KeyPairs", "Record"]

T = TypeVar("T")

FORMAT = 1
"""The format of records that this release writes."""
_HEAD = struct.Struct(">BQQ")
_DATA, _ENDS = b"\x00", b"\x01"
_LONG = 8


class Record(NamedTuple):
    """A stored value: a byte for the format, eight for the version, eight for the end (0: none), then the value."""

    value: bytes
    version: int
    expires_at: int

    @classmethod
    def read(cls, stored: bytes) -> Record:
        """Return the record that was stored.

        :raises StorageError: it has a format that this release does not know.

        >>> Record.read(Record(b"value", 7, 0).stored())
        Record(value=b'value', version=7, expires_at=0)
        """
        version, expires_at = cls.head(stored)
        return cls(stored[_HEAD.size :], version, expires_at)

    @staticmethod
    def head(stored: bytes) -> tuple[int, int]:
        """Return version and end of the record that was stored.

        :raises StorageError: it has a format that this release does not know.
        """
        if len(stored) < _HEAD.size or stored[0] != FORMAT:
            told = f"of format {stored[0]}" if stored else "without a format"
            raise StorageError(f"the key-value store holds a record {told}: of a newer release, or damaged")
        _, version, expires_at = _HEAD.unpack_from(stored)
        return version, expires_at

    def stored(self) -> bytes:
        """Return the bytes to store."""
        return _HEAD.pack(FORMAT, self.version, self.expires_at) + self.value

    def is_live(self, now: int) -> bool:
        """Return whether it has not expired."""
        return not self.expires_at or self.expires_at > now


class KeyPairs(Deciding):
    """The operations on one engine's pairs, done at once: the plans that are returned hold their answers."""

    def __init__(self, pairs: Pairs) -> None:
        self._pairs = pairs

    def entries(self, keys: Sequence[bytes]) -> Plan[dict[bytes, tuple[bytes, int, int | None]]]:
        with self._pairs.lock:
            now = self._pairs.now()
            found = {}
            for key in keys:
                record = self._record(key)
                if record and record.is_live(now):
                    value, version, end = record
                    found[key] = value, version, end - now if end else None
        return answered(found)

    def put(self, puts: Sequence[Put]) -> Plan[None]:
        with self._pairs.lock:
            self._write(puts, (), self._pairs.now())
        return answered(None)

    def delete(self, keys: Collection[bytes]) -> Plan[None]:
        with self._pairs.lock:
            self._write((), keys, 0)
        return answered(None)

    def mutate(self, mutation: Mutation[T]) -> Plan[T]:
        with self._pairs.lock:
            now = self._pairs.now()
            records = {key: self._record(key) for key in mutation.keys}
            found = {
                key: Row(record.value, record.version, record.expires_at or None)
                for key, record in records.items()
                if record and record.is_live(now)
            }
            decision = mutation.decide(found)
            self._write(decision.puts, decision.deletes, now)
        return answered(decision.result)

    def page(self, span: Span, limit: int, reverse: bool, keys_only: bool) -> Plan[list[tuple[bytes, bytes]]]:
        found = itertools.islice(self._live(span, reverse), limit)
        return answered([(key, key if keys_only else record.value) for key, record in found])

    def count(self, span: Span) -> Plan[int]:
        return answered(sum(1 for _ in self._live(span)))

    def stem(self, span: Span, limit: int) -> Plan[bytes | None]:
        keys = [key[1:] for key, _ in itertools.islice(self._pairs.items(_data(span)), limit)]
        return answered(keys[-1] if keys else None)

    def delete_span(self, span: Span) -> Plan[None]:
        with self._pairs.lock:
            self._write((), [key[1:] for key, _ in self._pairs.items(_data(span))], 0)
        return answered(None)

    def sweep(self, limit: int) -> Plan[int]:
        with self._pairs.lock:
            due = Span(_ENDS, _ENDS + _long(self._pairs.now() + 1))
            ends = [end for end, _ in itertools.islice(self._pairs.items(due), limit)]
            self._write((), [end[1 + _LONG :] for end in ends], 0)
        return answered(len(ends))

    def _record(self, key: bytes) -> Record | None:
        stored = self._pairs.get(_DATA + key)
        return None if stored is None else Record.read(stored)

    def _live(self, span: Span, reverse: bool = False) -> Iterator[tuple[bytes, Record]]:
        now = self._pairs.now()
        for key, stored in self._pairs.items(_data(span), reverse):
            record = Record.read(stored)
            if not record.expires_at or record.expires_at > now:
                yield key[1:], record

    def _write(self, puts: Sequence[Put], deletes: Collection[bytes], now: int) -> None:
        changes: list[tuple[bytes, bytes | None]] = []
        for key in (*deletes, *(put.key for put in puts)):
            stored = self._pairs.get(_DATA + key)
            if stored is not None and (end := Record.head(stored)[1]):
                changes.append((_ENDS + _long(end) + key, None))
        changes += [(_DATA + key, None) for key in deletes]
        for put in puts:
            end = put.until or (now + put.ttl if put.ttl else 0)
            changes.append((_DATA + put.key, Record(put.value, put.version, end).stored()))
            if end:
                changes.append((_ENDS + _long(end) + put.key, b""))
        if changes:
            self._pairs.write(changes)


def answered(result: T) -> Plan[T]:
    """Plan nothing: the result is known."""
    return Plan(_no_steps, result=result)


def _no_steps() -> NoReturn:
    raise AssertionError("an embedded engine is asked no statements")


def _long(number: int) -> bytes:
    return number.to_bytes(_LONG, "big")


def _data(span: Span) -> Span:
    return Span(_DATA + span.start, _ENDS if span.stop is None else _DATA + span.stop)
