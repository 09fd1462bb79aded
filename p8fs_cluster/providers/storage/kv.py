"""The key-value store beneath its handles: rows, plans, and what an engine gives for it. Nothing here does I/O.

Keys are physical ones: namespace, NUL, key. Times are microseconds of the store's clock.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Collection, Generator, Iterable, Mapping, Sequence
from dataclasses import dataclass
from typing import Any, Generic, NamedTuple, Protocol, TypeVar

from p8fs_cluster.exceptions import StorageError
from p8fs_cluster.providers.storage.keys import Span

__all__ = [
    "EMBEDDED_LIMITS",
    "KEY_BYTES",
    "Decision",
    "Found",
    "Increment",
    "Limits",
    "Mutation",
    "Page",
    "Pairs",
    "Plan",
    "Put",
    "Row",
    "Rows",
    "Statement",
    "Steps",
    "Stored",
    "Stretch",
    "Verbs",
]

T = TypeVar("T")

KEY_BYTES = 2048
"""Bytes of namespace and key together, on every engine alike."""
_MIB = 1 << 20


@dataclass(frozen=True)
class Limits:
    """The most bytes that the store takes: checked before anything is sent."""

    key_bytes: int
    """Of namespace and key together."""
    value_bytes: int
    call_bytes: int
    """Of all keys and values of one call, which is atomic."""


EMBEDDED_LIMITS = Limits(KEY_BYTES, 256 * _MIB, 256 * _MIB)


class Row(NamedTuple):
    """A value that has not expired."""

    value: bytes
    version: int
    expires_at: int | None


Found = Mapping[bytes, Row]
"""Key → its row, for those that are there."""


class Put(NamedTuple):
    """A value to write, with the version that the client made for it."""

    key: bytes
    value: bytes
    version: int
    ttl: int | None = None
    """Until its end, from the moment at which it is written."""
    until: int | None = None
    """Its end, in place of `ttl`, where it is kept."""


Stored = tuple[bytes, bytes, int, int | None]
"""Key, value, version, and time left (None: for ever) of a value that has not expired: no class, for there are many."""


class Stretch(NamedTuple):
    """The values of the beginning of a range, and the key that it goes on after; None: nothing is left."""

    values: list[Stored]
    last: bytes | None


class Decision(NamedTuple, Generic[T]):
    """The writes after a look at the locked rows, and the result."""

    result: T
    puts: Sequence[Put] = ()
    deletes: Collection[bytes] = ()


class Mutation(NamedTuple, Generic[T]):
    """Rows to lock and to decide about. A key of `created` is locked although it is not there."""

    keys: tuple[bytes, ...]
    created: tuple[bytes, ...]
    decide: Callable[[Found], Decision[T]]


class Increment(NamedTuple):
    """A number to add to the decimal text of a key; `ttl` counts where the key is not there."""

    key: bytes
    by: int
    version: int
    ttl: int | None


class Page(NamedTuple):
    """A part of a scan."""

    span: Span
    limit: int
    reverse: bool
    keys_only: bool
    skipped: int
    """Bytes at the beginning of the keys, which are left out of what is returned."""


Statement = tuple[str, Sequence[Any]]
Rows = list[tuple[Any, ...]]
Steps = Generator[Statement, Rows, T]
"""Yields statements, receives their rows, and returns the result."""


class Plan(NamedTuple, Generic[T]):
    """The steps of one operation: one statement, several in a transaction, or none, where it was done at once."""

    steps: Callable[[], Steps[T]]
    several: bool = False
    result: T | None = None
    """The result of what was done at once, as an embedded engine does."""


class Verbs(Protocol):
    """The operations of every engine. Expired rows are never returned, whether or not they were swept."""

    def entries(self, keys: Sequence[bytes]) -> Plan[dict[bytes, tuple[bytes, int, int | None]]]:
        """Plan to return value, version and time left (None: for ever) of those keys that are there."""

    def value(self, key: bytes) -> Plan[bytes | None]:
        """Plan to return a value."""

    def put(self, puts: Sequence[Put]) -> Plan[None]:
        """Plan to write them all."""

    def delete(self, keys: Collection[bytes]) -> Plan[None]:
        """Plan to delete them all."""

    def put_if_absent(self, put: Put) -> Plan[bool]:
        """Plan to write a value if its key is not there, and return whether it was written."""

    def compare_and_set(self, put: Put, version: int) -> Plan[bool]:
        """Plan to write a value if the one that is there has this version."""

    def delete_if(self, key: bytes, version: int) -> Plan[bool]:
        """Plan to delete a key if its value has this version."""

    def take(self, key: bytes) -> Plan[bytes | None]:
        """Plan to delete a key and return its value."""

    def expire(self, key: bytes, version: int, ttl: int | None) -> Plan[bool]:
        """Plan to give the value that is there another end, and this version."""

    def increment(self, increment: Increment) -> Plan[int | None]:
        """Plan to add to a number and return the sum; None: there is no number, or the sum has more than 64 bits."""

    def atomic(self, checks: Mapping[bytes, int | None], puts: Sequence[Put], deletes: Collection[bytes]) -> Plan[bool]:
        """Plan to write if each key has its version (None: is not there), and return whether that was so."""

    def page(self, page: Page) -> Plan[list[Any]]:
        """Plan to return the first pairs of a range, or their keys."""

    def stretch(self, span: Span, rows: int, size: int) -> Plan[Stretch]:
        """Plan to return the first values of a range: so many, and of so many bytes at most, or one that is larger."""

    def versions(self, span: Span, limit: int) -> Plan[list[tuple[bytes, int]]]:
        """Plan to return the first keys of a range with their versions, those that have expired with 0."""

    def count(self, span: Span) -> Plan[int]:
        """Plan to count the keys of a range."""

    def stem(self, span: Span, limit: int) -> Plan[bytes | None]:
        """Plan to return the last of the first keys of a range, expired ones included; None: there are none."""

    def delete_span(self, span: Span) -> Plan[None]:
        """Plan to delete a range, expired rows included."""

    def sweep(self, limit: int) -> Plan[tuple[int, bool]]:
        """Plan to look at so many rows that may have expired, and return how many had, and whether more are due."""


class Pairs(Protocol):
    """The pairs of an embedded engine: bytes to bytes in order, and the lock for reads that lead to writes."""

    lock: threading.RLock
    usable: bool
    """False if they are to be had anew: the engine was closed, or a write has failed."""
    get: Callable[[bytes], bytes | None]
    """Returns a value, or None; what it raises, `failed` makes a StorageError of."""

    @property
    def direct(self) -> bool:
        """Return whether they may be asked without a checkout of the engine."""

    def now(self) -> int:
        """Return the microseconds since 1970."""

    def put(self, key: bytes, value: bytes) -> None:
        """Write a value.

        :raises StorageError: it can't be written.
        """

    def write(self, puts: Iterable[tuple[bytes, bytes]], deletes: Iterable[bytes] = ()) -> None:
        """Write values and delete keys, as a whole.

        :raises StorageError: it can't be written.
        """

    def failed(self, exc: Exception) -> StorageError:
        """Return the error of ours for what the engine raised."""

    def first(self, span: Span, most: int | None, reverse: bool = False) -> list[tuple[bytes, bytes]]:
        """Return so many pairs of a range at most, in order, as they are at one moment.

        :raises StorageError: they can't be read.
        """
