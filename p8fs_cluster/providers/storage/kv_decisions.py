"""The conditional operations of the key-value store, decided once for every engine by the rows that it has locked."""

from __future__ import annotations

import re
from abc import ABC, abstractmethod
from collections.abc import Collection, Mapping, Sequence
from typing import TypeVar

from p8fs_cluster.providers.storage.kv import Decision, Found, Increment, Mutation, Plan, Put

__all__ = ["LARGEST", "Deciding", "number_of", "summed"]

T = TypeVar("T")

LARGEST = 2**63 - 1
_NUMBER = re.compile(rb"-?[0-9]{1,19}")


def number_of(value: bytes) -> int | None:
    """Return the number that a value holds as decimal text, of 64 bits; None: it holds none.

    >>> number_of(b"-12"), number_of(b" 12"), number_of(b"9223372036854775808")
    (-12, None, None)
    """
    number = int(value) if _NUMBER.fullmatch(value) else None
    return number if number is not None and -LARGEST - 1 <= number <= LARGEST else None


def summed(value: bytes, by: int) -> int | None:
    """Return the sum of a value's number and another; None: the value has none, or the sum more than 64 bits."""
    number = number_of(value)
    total = None if number is None else number + by
    return total if total is not None and -LARGEST - 1 <= total <= LARGEST else None


class Deciding(ABC):
    """Conditional operations over `mutate`, which locks rows, lets a function decide, and writes."""

    @abstractmethod
    def mutate(self, mutation: Mutation[T]) -> Plan[T]:
        """Plan to lock rows, decide, write, and return the decision's result."""

    def put_if_absent(self, put: Put) -> Plan[bool]:
        def decide(found: Found) -> Decision[bool]:
            return Decision(False) if put.key in found else Decision(True, (put,))

        return self.mutate(Mutation((put.key,), (put.key,), decide))

    def compare_and_set(self, put: Put, version: int) -> Plan[bool]:
        def decide(found: Found) -> Decision[bool]:
            return Decision(True, (put,)) if _has(found, put.key, version) else Decision(False)

        return self.mutate(Mutation((put.key,), (), decide))

    def delete_if(self, key: bytes, version: int) -> Plan[bool]:
        def decide(found: Found) -> Decision[bool]:
            return Decision(True, (), (key,)) if _has(found, key, version) else Decision(False)

        return self.mutate(Mutation((key,), (), decide))

    def take(self, key: bytes) -> Plan[bytes | None]:
        def decide(found: Found) -> Decision[bytes | None]:
            row = found.get(key)
            return Decision(row.value, (), (key,)) if row else Decision(None)

        return self.mutate(Mutation((key,), (), decide))

    def expire(self, key: bytes, version: int, ttl: int | None) -> Plan[bool]:
        def decide(found: Found) -> Decision[bool]:
            row = found.get(key)
            return Decision(True, (Put(key, row.value, version, ttl),)) if row else Decision(False)

        return self.mutate(Mutation((key,), (), decide))

    def increment(self, increment: Increment) -> Plan[int | None]:
        key, by, version, ttl = increment

        def decide(found: Found) -> Decision[int | None]:
            row = found.get(key)
            if row is None:
                return Decision(by, (Put(key, b"%d" % by, version, ttl),))
            total = summed(row.value, by)
            if total is None:
                return Decision(None)
            return Decision(total, (Put(key, b"%d" % total, version, until=row.expires_at),))

        return self.mutate(Mutation((key,), (key,), decide))

    def atomic(self, checks: Mapping[bytes, int | None], puts: Sequence[Put], deletes: Collection[bytes]) -> Plan[bool]:
        def decide(found: Found) -> Decision[bool]:
            fits = all(_has(found, key, version) for key, version in checks.items())
            return Decision(True, puts, deletes) if fits else Decision(False)

        absent = {key for key, version in checks.items() if version is None}
        keys = checks.keys() | {put.key for put in puts} | set(deletes)
        return self.mutate(Mutation(tuple(sorted(keys)), tuple(sorted(absent)), decide))


def _has(found: Found, key: bytes, version: int | None) -> bool:
    row = found.get(key)
    return (row.version if row else None) == version
