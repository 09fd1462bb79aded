"""Keys as the store has them, and what is refused before anything is sent."""

from __future__ import annotations

import math
import random
from typing import Any

from p8fs_cluster.exceptions import KVError
from p8fs_cluster.forking import Stage, after_fork
from p8fs_cluster.providers.storage.keys import Span
from p8fs_cluster.providers.storage.kv import KEY_BYTES

__all__ = ["Key", "Space", "duration", "limit_of", "microseconds", "new_version", "seconds", "version_given"]

Key = str | bytes
"""A key: bytes, or text that stands for its UTF-8."""

_LONGEST = 100 * 366 * 86400
"""Seconds that a key lives at most, if it expires."""
_BITS = 63


class Space:
    """The keys of one namespace: its name, NUL, and the key. So their order is that of the keys.

    >>> Space("auth").physical("token")
    b'auth\\x00token'
    """

    def __init__(self, name: str = "") -> None:
        if not isinstance(name, str):
            raise KVError(f"a namespace is text, as in kv.namespace('auth'), not {type(name).__name__}")
        if "\0" in name:
            raise KVError("a namespace holds no NUL character: leave it out")
        self.name = name
        self.head = _utf8(name, "a namespace") + b"\0"
        self.room = KEY_BYTES + 1 - len(self.head)
        if self.room < 1:
            raise KVError(f"a namespace and a key have at most {KEY_BYTES:,} bytes together: choose a shorter name")

    def physical(self, key: Key) -> bytes:
        """Return the key as the store has it.

        :raises KVError: it is empty, too long, or neither bytes nor text.
        """
        stripped = key if type(key) is bytes else _bytes(key, "a key")
        if 0 < len(stripped) <= self.room:
            return self.head + stripped
        if not stripped:
            raise KVError("a key has at least one byte")
        return self._bounded(self.head + stripped)

    def stripped(self, physical: bytes) -> bytes:
        """Return the key as the handle has it."""
        return physical[len(self.head) :]

    def span(self, prefix: Key = b"", start: Key | None = None, stop: Key | None = None) -> Span:
        """Return the range of the keys with a prefix, of these those between two others.

        :raises KVError: one of them is too long, or neither bytes nor text.
        """
        first, last = (
            None if end is None else self._end(end, name) for end, name in ((start, "start"), (stop, "stop"))
        )
        return Span.of(self._end(prefix, "prefix"), first, last)

    def _end(self, end: Key, name: str) -> bytes:
        return self._bounded(self.head + _bytes(end, name), spare=1)  # `start=last + b"\0"` goes on after a key

    def _bounded(self, physical: bytes, spare: int = 0) -> bytes:
        length = len(physical) - 1
        if length > KEY_BYTES + spare:
            raise KVError(
                f"a namespace and a key have at most {KEY_BYTES:,} bytes together, not {length:,}: use a digest of it"
            )
        return physical


def _bytes(key: Any, what: str) -> bytes:
    if isinstance(key, str):
        return _utf8(key, what)
    if not isinstance(key, bytes):
        raise KVError(f"{what} is bytes or text, not {type(key).__name__}")
    return key


def _utf8(text: str, what: str) -> bytes:
    try:
        return text.encode()
    except UnicodeEncodeError:
        raise KVError(f"{what} must be UTF-8 text, without half of a surrogate pair") from None


def microseconds(ttl: Any) -> int | None:
    """Return the microseconds of a time to live; None: for ever.

    :raises KVError: it is no number of seconds, or not more than 0, or too many.

    >>> microseconds(1.5)
    1500000
    """
    return None if ttl is None else duration(ttl, "ttl", ", or None for ever")


def duration(seconds: Any, name: str, otherwise: str = "") -> int:
    """Return the microseconds of a number of seconds.

    :raises KVError: it is no number, or not more than 0, or too many.
    """
    if isinstance(seconds, bool) or not isinstance(seconds, int | float):
        raise KVError(f"{name} is a number of seconds{otherwise}, not {type(seconds).__name__}")
    if not 0 < seconds <= _LONGEST:
        raise KVError(f"{name} is more than 0 and at most {_LONGEST:,} seconds{otherwise}, not {seconds!r}")
    return max(round(seconds * 1_000_000), 1)


def seconds(left: int | None) -> float:
    """Return the seconds that are left of so many microseconds; None: endless."""
    return math.inf if left is None else left / 1_000_000


def new_version() -> int:
    """Return a version that no value of any key has had: 63 random bits, as no clock and no counter is trusted."""
    return _random.getrandbits(_BITS) or 1


_random = random.Random()  # noqa: S311  (seeded by the system, whatever a program does to `random` itself)
after_fork(Stage.LOCKS, _random.seed)


def version_given(version: Any) -> int:
    """Return a version that was given, if it can be one.

    :raises KVError: it is no version that a write or an entry has told.
    """
    if isinstance(version, bool) or not isinstance(version, int) or not 0 < version < 1 << _BITS:
        raise KVError("a version is an int that a write or kv.entry(key).version has told")
    return version


def limit_of(limit: Any, name: str = "limit") -> int:
    """Return a number of keys that was given.

    :raises KVError: it is no int of at least 1.
    """
    if isinstance(limit, bool) or not isinstance(limit, int) or limit < 1:
        raise KVError(f"{name} is a number of keys, at least 1, not {limit!r}")
    return limit
