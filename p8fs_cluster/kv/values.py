"""The results of the key-value store besides plain values."""

from __future__ import annotations

from dataclasses import dataclass, field
from typing import Generic, Self, TypeVar

__all__ = ["Counted", "Entry"]

V = TypeVar("V")


@dataclass(frozen=True)
class Entry(Generic[V]):
    """A value and what is known of it. Its repr has no value, which may be a secret."""

    key: bytes
    value: V = field(repr=False)
    version: int
    """Given to no other value of this key, ever."""
    ttl: float
    """Seconds that were left; math.inf: it does not expire."""


class Counted(int):
    """A number after `increment`, and the version of its value.

    >>> counted = Counted.of(3, 77)
    >>> counted + 1, counted.version
    (4, 77)
    """

    version: int

    @classmethod
    def of(cls, number: int, version: int) -> Self:
        """Return a number that has a version."""
        counted = cls(number)
        counted.version = version
        return counted
